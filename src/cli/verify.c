/* verify.c - clattn verify: runs case files and checks what comes out. */
#define _POSIX_C_SOURCE 200809L
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "case.h"

static const char help[] =
    "Usage: clattn verify [OPTION]... DIR|FILE...\n"
    "Run every case (*.safetensors) and compare the outputs with the file's.\n"
    "\n"
    "  -d, --device=NAME  cpu, gpu, opencl, a number, part of a name, or all\n"
    "  -p, --path=PATH    auto (default), fused, unfused or blocked; a case\n"
    "                     that the path cannot serve is skipped\n"
    "  -q, --quiet        print only failures and the last line\n"
    "  -h, --help         show this\n"
    "\n"
    "One line a case: PASS, FAIL or SKIP, its name and why. The last line is\n"
    "`N passed, N failed, N skipped`. Exit status 1 if any failed.\n"
    "A case without expected outputs is skipped, and so is a file of a folder\n"
    "that is no case (neither op nor opset in its metadata).\n"
    "A case with attention weights is run with them and, where the path is\n"
    "auto, once more without, so that the fused path is checked as well.\n";

static int verify(int argc, char **argv);

const cli_command cli_verify = {"verify", "run case files and check them", help,
                                verify};

typedef struct verify_file {
  char *path;
  bool found; /* in a folder, not named itself */
} verify_file;

typedef struct verification {
  verify_file *files;
  size_t n_files, room;
  case_target *targets;
  int n_targets;
  bool quiet;
  int64_t count[3]; /* by case_verdict */
} verification;

/* ---- which files --------------------------------------------------------- */

/* folder "": it was named itself. */
static bool add_file(verification *v, const char *folder, const char *name) {
  if (v->n_files == v->room) {
    const size_t room = v->room ? 2 * v->room : 64;
    verify_file *files = realloc(v->files, room * sizeof *files);
    if (files == NULL) return false;
    v->files = files;
    v->room = room;
  }
  const size_t bytes = strlen(folder) + strlen(name) + 2;
  char *path = malloc(bytes);
  if (path == NULL) return false;
  snprintf(path, bytes, "%s%s%s", folder, *folder ? "/" : "", name);
  v->files[v->n_files++] = (verify_file){path, *folder != '\0'};
  return true;
}

static int is_case(const struct dirent *entry) {
  static const char ending[] = ".safetensors";
  const size_t bytes = strlen(entry->d_name);
  return bytes >= sizeof ending &&
         strcmp(entry->d_name + bytes - (sizeof ending - 1), ending) == 0;
}

/* A file, or a folder's case files in order. */
static bool add_argument(verification *v, const char *argument) {
  struct stat info;
  if (stat(argument, &info) != 0) {
    cli_error("%s: %s", argument, strerror(errno));
    return false;
  }
  if (!S_ISDIR(info.st_mode)) {
    if (add_file(v, "", argument)) return true;
    cli_error("no memory");
    return false;
  }
  struct dirent **entries;
  const int n = scandir(argument, &entries, is_case, alphasort);
  if (n < 0) {
    cli_error("%s: %s", argument, strerror(errno));
    return false;
  }
  bool ok = true;
  for (int i = 0; i < n; i++) {
    ok = ok && add_file(v, argument, entries[i]->d_name);
    free(entries[i]);
  }
  free(entries);
  if (!ok) cli_error("no memory");
  if (ok && n == 0) cli_error("%s: no case files", argument);
  return ok && n > 0;
}

/* ---- which devices ------------------------------------------------------- */

static bool add_targets(verification *v, clattn_context *context, int first,
                        int n, clattn_path path) {
  v->targets = calloc((size_t)n, sizeof *v->targets);
  if (v->targets == NULL) {
    cli_error("no memory");
    return false;
  }
  for (int i = 0; i < n; i++) {
    case_target *target = &v->targets[v->n_targets];
    *target = (case_target){context, first + i, NULL, path};
    if (clattn_queue_create(context, first + i, &target->queue) != CLATTN_OK) {
      cli_error("%s", clattn_error_message());
      return false;
    }
    v->n_targets++;
  }
  return true;
}

/* ---- the run ------------------------------------------------------------- */

static void report(verification *v, const cli_case *c,
                   const case_target *target) {
  v->count[c->verdict]++;
  if (c->verdict == CASE_FAIL || !v->quiet) {
    char device[160];
    cli_device_label(target->context, target->device, device, sizeof device);
    if (c->verdict == CASE_PASS)
      printf("PASS %s [%s, %s, max err %.1e]\n", c->name, device,
             cli_path_name(target->path), case_max_error(c));
    else
      printf("%s %s: %s [%s, %s]\n", c->verdict == CASE_FAIL ? "FAIL" : "SKIP",
             c->name, c->why, device, cli_path_name(target->path));
  }
}

static void run_all(verification *v) {
  cli_progress progress;
  cli_progress_begin(&progress, "case");
  const int64_t total = (int64_t)v->n_files * v->n_targets;
  for (int64_t i = 0; i < total; i++) {
    cli_progress_step(&progress, i, total);
    const case_target *target = &v->targets[(size_t)i / v->n_files];
    const verify_file *file = &v->files[(size_t)i % v->n_files];
    cli_case c;
    if (case_open(file->path, &c))
      case_verify(&c, target);
    else if (c.foreign && file->found)
      case_skip(&c, "%s", c.why);
    cli_progress_clear(&progress);
    report(v, &c, target);
    case_close(&c);
  }
}

static int run(verification *v, char **arguments, int n, const char *selector,
               clattn_path path) {
  for (int i = 0; i < n; i++)
    if (!add_argument(v, arguments[i])) return CLI_FAILED;
  const bool all = selector != NULL && strcmp(selector, "all") == 0;
  clattn_context *context;
  int device, status = CLI_FAILED;
  if (!cli_context(all ? NULL : selector, &context, &device)) return status;
  if (add_targets(v, context, all ? 0 : device,
                  all ? clattn_device_count(context) : 1, path)) {
    run_all(v);
    printf("%lld passed, %lld failed, %lld skipped\n",
           (long long)v->count[CASE_PASS], (long long)v->count[CASE_FAIL],
           (long long)v->count[CASE_SKIP]);
    status = v->count[CASE_FAIL] ? CLI_FAILED : CLI_OK;
  }
  for (int i = 0; i < v->n_targets; i++)
    clattn_queue_destroy(v->targets[i].queue);
  clattn_context_destroy(context);
  return status;
}

static int verify(int argc, char **argv) {
  static const struct option options[] = {CLI_OPTION_HELP,
                                          CLI_OPTION_DEVICE,
                                          CLI_OPTION_PATH,
                                          {"quiet", no_argument, NULL, 'q'},
                                          {NULL, 0, NULL, 0}};
  verification v = {0};
  const char *selector = NULL;
  clattn_path path = CLATTN_AUTO;
  int status = CLI_OK;
  for (int option; (option = cli_option(&cli_verify, argc, argv, options,
                                        &status)) != -1;) {
    if (option == '?') return status;
    if (option == 'd') selector = optarg;
    if (option == 'q') v.quiet = true;
    if (option == 'p' && !cli_path(&cli_verify, optarg, &path))
      return CLI_USAGE;
  }
  if (optind == argc)
    return cli_usage(&cli_verify, "verify: which folder or file?");
  status = run(&v, argv + optind, argc - optind, selector, path);
  for (size_t i = 0; i < v.n_files; i++) free(v.files[i].path);
  free(v.files);
  free(v.targets);
  return status;
}
