/* progress.c - one line on the terminal for what takes long. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"

double cli_seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void cli_duration(double seconds, char *text, size_t room) {
  if (seconds < 100)
    snprintf(text, room, "%.0f s", seconds);
  else if (seconds < 6000)
    snprintf(text, room, "%.0f min", seconds / 60);
  else
    snprintf(text, room, "%.1f h", seconds / 3600);
}

void cli_progress_begin(cli_progress *progress, const char *what) {
  *progress = (cli_progress){.what = what,
                             .start = cli_seconds(),
                             .enabled = isatty(STDERR_FILENO) == 1};
}

void cli_progress_step(cli_progress *progress, int64_t done, int64_t total) {
  if (!progress->enabled) return;
  const double now = cli_seconds();
  if (now - progress->start < 1 || now - progress->shown < 0.1) return;
  fflush(stdout); /* the line belongs below what was printed before */
  fprintf(stderr, "\r\x1b[K%s %lld/%lld", progress->what, (long long)done,
          (long long)total);
  if (done > 0)
    fprintf(stderr, ", %.0f s left",
            (now - progress->start) / (double)done * (double)(total - done));
  fflush(stderr);
  progress->shown = now;
  progress->visible = true;
}

void cli_progress_clear(cli_progress *progress) {
  if (!progress->visible) return;
  fputs("\r\x1b[K", stderr);
  fflush(stderr);
  progress->visible = false;
  progress->shown = 0;
}
