/* train_report.c - how training goes: a line that is rewritten on a terminal,
 * lines otherwise, and a table in a file. */
#define _POSIX_C_SOURCE 200809L
#include "train.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char header[] = "step,loss,validation_loss,lr,tokens_per_second\n";

/* ---- the log ------------------------------------------------------------- */

/* Bytes of a log up to the last row of a step that is done; 0: not such a log. */
static size_t kept_bytes(const char *text, size_t size_bytes, int64_t step) {
  const size_t first = sizeof header - 1;
  if (size_bytes < first || memcmp(text, header, first) != 0) return 0;
  size_t kept = first;
  for (;;) {
    const char *end = memchr(text + kept, '\n', size_bytes - kept);
    if (end == NULL || strtoll(text + kept, NULL, 10) > step) return kept;
    kept = (size_t)(end - text) + 1;
  }
}

static bool log_failed(const train_report *report) {
  cli_error("%s: %s", report->log_path, strerror(errno));
  return false;
}

static bool open_log(train_report *report, const train_options *options,
                     int64_t step) {
  report->log_path = options->log;
  if (options->log == NULL) return true;
  char *text = NULL;
  size_t size_bytes = 0;
  if (options->resume && access(options->log, F_OK) == 0) {
    text = cli_read_file(options->log, &size_bytes);
    if (text == NULL) return false;
  }
  const size_t kept = text == NULL ? 0 : kept_bytes(text, size_bytes, step);
  if (text != NULL && kept == 0 && size_bytes > 0) {
    cli_error("%s: not a log of `clattn train`", options->log);
    free(text);
    return false;
  }
  /* Rows that stay are never written again: the run may be killed at any moment. */
  report->log = fopen(options->log, kept > 0 ? "r+b" : "wb");
  const bool done =
      report->log != NULL &&
      (kept > 0 ? ftruncate(fileno(report->log), (off_t)kept) == 0 &&
                      fseek(report->log, 0, SEEK_END) == 0
                : fputs(header, report->log) >= 0 && fflush(report->log) == 0);
  free(text);
  return done || log_failed(report);
}

static bool log_step(train_report *report, int64_t step, double loss,
                     double validation, double lr, double seconds) {
  if (report->log == NULL) return true;
  char measured[32] = "";
  if (!isnan(validation))
    snprintf(measured, sizeof measured, "%.9g", validation);
  return (fprintf(report->log, "%lld,%.9g,%s,%.9g,%.0f\n", (long long)step,
                  loss, measured, lr, (double)report->tokens / seconds) >= 0 &&
          fflush(report->log) == 0) ||
         log_failed(report);
}

/* ---- lines --------------------------------------------------------------- */

bool train_report_begin(train_report *report, const train_options *options,
                        int64_t step, int64_t steps, int64_t tokens) {
  const double now = cli_seconds();
  *report = (train_report){.terminal = isatty(STDERR_FILENO) == 1,
                           .step = step,
                           .steps = steps,
                           .tokens = tokens,
                           .start = now,
                           .last = now,
                           .first = step,
                           .last_step = step,
                           .validation = NAN};
  return open_log(report, options, step);
}

static void put_line(const train_report *report, FILE *stream, double now) {
  const int64_t steps = report->step - report->last_step;
  const double seconds = now - report->last;
  char left[32];
  cli_duration((now - report->start + report->paused) /
                   (double)(report->step - report->first) *
                   (double)(report->steps - report->step),
               left, sizeof left);
  fprintf(stream, "step %lld/%lld, loss %.4f", (long long)report->step,
          (long long)report->steps, report->loss_sum / (double)steps);
  if (!isnan(report->validation))
    fprintf(stream, ", validation %.4f", report->validation);
  fprintf(stream, ", %.0f tokens/s",
          (double)(steps * report->tokens) / (seconds > 0 ? seconds : 1));
  if (report->step < report->steps) fprintf(stream, ", %s left", left);
}

bool train_report_step(train_report *report, int64_t step, double loss,
                       double validation, double lr, double seconds) {
  const double now = cli_seconds();
  const bool line = !isnan(validation) || step == report->steps;
  report->step = step;
  report->loss_sum += loss;
  if (!isnan(validation)) report->validation = validation;
  if (line) {
    train_report_clear(report);
    put_line(report, stdout, now);
    putchar('\n');
    fflush(stdout);
    report->last = now;
    report->last_step = step;
    report->loss_sum = 0;
  } else if (report->terminal && now - report->shown > 0.2) {
    fputs("\r\x1b[K", stderr);
    put_line(report, stderr, now);
    fflush(stderr);
    report->shown = now;
    report->visible = true;
  }
  return log_step(report, step, loss, validation, lr, seconds);
}

void train_report_pause(train_report *report, double seconds) {
  report->last += seconds;
  report->start += seconds;
  report->paused += seconds;
}

void train_report_clear(train_report *report) {
  if (!report->visible) return;
  fputs("\r\x1b[K", stderr);
  fflush(stderr);
  report->visible = false;
}

bool train_report_end(train_report *report) {
  train_report_clear(report);
  if (report->log == NULL) return true;
  FILE *log = report->log;
  report->log = NULL;
  return fclose(log) == 0 || log_failed(report);
}
