/* tune.c - clattn tune: measures what a device may choose and keeps the best. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

static const char help[] =
    "Usage: clattn tune [OPTION]...\n"
    "Measure what a device can choose between (kernels, vectors, blocks, "
    "dense\n"
    "products) and keep the fastest, in the directory of compiled kernels, "
    "for\n"
    "every program that uses this library. Never needed: results are right\n"
    "whatever is chosen. Seconds natively; up to a minute on OpenCL devices.\n"
    "\n"
    "  -d, --device=NAME  cpu, gpu, opencl, a number, part of a name, or all\n"
    "  -s, --show         only show what is used and why\n"
    "  -r, --reset        forget what was tuned\n"
    "  -h, --help         show this\n"
    "\n"
    "What CLATTN_CPU_ISA names is not tuned.\n";

static int tune(int argc, char **argv);

const cli_command cli_tune = {"tune", "measure a device, keep what is fastest",
                              help, tune};

typedef enum action { TUNE, SHOW, RESET } action;

/* ---- reports ------------------------------------------------------------- */

typedef struct screen {
  bool terminal, busy; /* busy: a line says what is being prepared */
} screen;

static void clear(screen *s) {
  if (s->busy) fputs("\r\x1b[K", stderr);
  s->busy = false;
}

static void on_report(void *user, const clattn_tune_report *report) {
  screen *s = user;
  char reason[2048];
  snprintf(reason, sizeof reason, "%s", report->reason);
  cli_clean(reason);
  clear(s);
  switch (report->state) {
    case CLATTN_TUNE_PREPARING:
      if (!s->terminal) break;
      fflush(stdout); /* the line belongs below what was printed before */
      fprintf(stderr, "  %s: compiling and checking", report->candidate);
      fflush(stderr);
      s->busy = true;
      break;
    case CLATTN_TUNE_MEASURED:
      printf("  %-26s attention %9.3f ms  product %9.3f ms%s%s\n",
             report->candidate, 1e3 * report->attention_seconds,
             1e3 * report->product_seconds, *reason ? "  " : "", reason);
      break;
    case CLATTN_TUNE_REFUSED:
      printf("  %-26s refused: %s\n", report->candidate, reason);
      break;
    case CLATTN_TUNE_CHOSEN:
      printf("  -> %s: %s\n", report->candidate, reason);
      break;
    case CLATTN_TUNE_SKIPPED:
      printf("  %s: not tuned: %s\n", report->candidate, reason);
      break;
  }
  fflush(stdout); /* as it comes, into pipes and files as well */
}

/* ---- devices ------------------------------------------------------------- */

static bool show(clattn_context *context, int device) {
  char text[8192];
  if (clattn_device_get_tuning(context, device, text, sizeof text) !=
      CLATTN_OK) {
    cli_error("%s", clattn_error_message());
    return false;
  }
  for (char *line = text; *line != '\0';) {
    const size_t bytes = strcspn(line, "\n");
    printf("  %.*s\n", (int)bytes, line);
    line += bytes + (line[bytes] != '\0');
  }
  return true;
}

static bool act(clattn_context *context, int device, action what) {
  char label[160];
  cli_device_label(context, device, label, sizeof label);
  printf("%s\n", label);
  if (what == SHOW) return show(context, device);
  screen s = {.terminal = isatty(STDERR_FILENO) == 1};
  const clattn_status status =
      what == RESET ? clattn_device_reset_tuning(context, device)
                    : clattn_device_tune(context, device, on_report, &s);
  clear(&s);
  if (status != CLATTN_OK) {
    cli_error("%s", clattn_error_message());
    return false;
  }
  printf(what == RESET ? "  forgotten\n" : "  kept for contexts from now on\n");
  return true;
}

/* ---- the command --------------------------------------------------------- */

static int tune(int argc, char **argv) {
  static const struct option options[] = {CLI_OPTION_HELP,
                                          CLI_OPTION_DEVICE,
                                          {"show", no_argument, NULL, 's'},
                                          {"reset", no_argument, NULL, 'r'},
                                          {NULL, 0, NULL, 0}};
  const char *selector = NULL;
  action what = TUNE;
  int status = CLI_OK;
  for (int option;
       (option = cli_option(&cli_tune, argc, argv, options, &status)) != -1;) {
    if (option == '?') return status;
    if (option == 'd') {
      selector = optarg;
      continue;
    }
    if (what != TUNE)
      return cli_usage(&cli_tune, "tune: want one of --show and --reset");
    what = option == 's' ? SHOW : RESET;
  }
  if (optind != argc)
    return cli_usage(&cli_tune, "tune: no argument is wanted");
  const bool all = selector != NULL && strcmp(selector, "all") == 0;
  clattn_context *context;
  int device = 0;
  if (!all) {
    if (!cli_context(selector, &context, &device)) return CLI_FAILED;
    if (!act(context, device, what)) status = CLI_FAILED;
  } else if (clattn_context_create(NULL, &context) != CLATTN_OK) {
    cli_error("%s", clattn_error_message());
    return CLI_FAILED;
  } else {
    for (; device < clattn_device_count(context); device++)
      if (!act(context, device, what)) status = CLI_FAILED;
  }
  clattn_context_destroy(context);
  return status;
}
