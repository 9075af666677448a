/* bench.c - clattn bench: how fast, beside others and beside the machine. */
#include "bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "Usage: clattn bench [OPTION]...\n"
    "Time attention on shapes of real models, beside rivals that run in turn "
    "with\n"
    "it, and beside what the machine gives at that moment.\n"
    "\n"
    "  -s, --shapes=FILE      models (default), scaling, training or smoke, or "
    "a\n"
    "                         file with a shape a line: name batch q_heads "
    "kv_heads\n"
    "                         q_len kv_len qk_dim v_dim f32|f16|bf16 "
    "causal|full\n"
    "  -d, --device=NAME      cpu, gpu, opencl, a number or part of a name; "
    "may be\n"
    "                         given more than once\n"
    "  -p, --path=PATH        auto (default), fused, unfused or blocked\n"
    "  -w, --weights          return the attention weights as well\n"
    "  -b, --backward         time the gradients as well, beside forward\n"
    "  -r, --rivals=LIST      all (default), none, or of openblas,\n"
    "                         openblas-flash, clblast, with commas\n"
    "  -t, --time=SECONDS     of timing a shape (2)\n"
    "      --rival-time=SECONDS  of one rival in it (5); one whose first call\n"
    "                         takes longer is called once\n"
    "      --threads=N        of the CPU device (all cores)\n"
    "  -j, --json=FILE        write the results, rivals' as well, as JSON\n"
    "  -h, --help             show this\n"
    "\n"
    "Every result is checked on sampled rows in double precision before it is\n"
    "timed. A row has the library's medians: time; GFLOP/s, where a causal\n"
    "mask's hidden pairs do not count; the same by CPU time (a core), which\n"
    "neighbours do not disturb; GB/s of Q, K, V and O; the fraction of a "
    "probe\n"
    "on as many threads (multiply-adds, or reading memory for up to 8 "
    "queries);\n"
    "the largest error. Then each rival's time divided by the library's: above "
    "1\n"
    "the library is faster. With --backward the rows have forward's and\n"
    "backward's time and their ratio; the figures after it are backward's. "
    "Exit\n"
    "status 1 if a result is wrong or the library could not run a shape.\n";

static int bench(int argc, char **argv);

const cli_command cli_bench = {"bench", "time attention beside rivals", help,
                               bench};

static const bench_rival *const rivals[] = {
    &bench_openblas, &bench_openblas_flash, &bench_clblast};
enum { N_RIVALS = sizeof rivals / sizeof *rivals, MOST_DEVICES = 16 };

typedef struct bench_options {
  const char *shapes, *json;
  const char *devices[MOST_DEVICES];
  int n_devices;
  clattn_path path;
  bool weights, backward;
  bool chosen[N_RIVALS], rivals; /* rivals: were chosen */
  bench_limits limits;
  int64_t threads; /* 0: the library's default */
} bench_options;

/* ---- options ------------------------------------------------------------- */

static bool parse_seconds(const char *option, const char *text,
                          double *seconds) {
  char *end;
  const double value = strtod(text, &end);
  if (end != text && *end == '\0' && value >= 0 && value <= 86400) {
    *seconds = value;
    return true;
  }
  cli_usage(&cli_bench, "%s: got '%s', want seconds 0..86400", option, text);
  return false;
}

static int find_rival(const char *name, size_t length) {
  for (int i = 0; i < N_RIVALS; i++)
    if (strlen(rivals[i]->name) == length &&
        strncmp(rivals[i]->name, name, length) == 0)
      return i;
  return -1;
}

static bool parse_rivals(const char *list, bool chosen[N_RIVALS]) {
  const bool all = strcmp(list, "all") == 0, none = strcmp(list, "none") == 0;
  for (int i = 0; i < N_RIVALS; i++) chosen[i] = all;
  for (const char *word = list; !all && !none;) {
    const size_t length = strcspn(word, ",");
    const int i = find_rival(word, length);
    if (i < 0) {
      cli_usage(&cli_bench,
                "--rivals: got '%.*s', want all, none, or of openblas, "
                "openblas-flash, clblast",
                (int)length, word);
      return false;
    }
    chosen[i] = true;
    if (word[length] == '\0') break;
    word += length + 1;
  }
  return true;
}

enum { RIVAL_TIME = 256, THREADS };

static bool set_option(bench_options *o, int option, const char *value) {
  switch (option) {
    case 's':
      o->shapes = value;
      return true;
    case 'j':
      o->json = value;
      return true;
    case 'w':
      return o->weights = true;
    case 'b':
      return o->backward = true;
    case 'p':
      return cli_path(&cli_bench, value, &o->path);
    case 'r':
      o->rivals = true;
      return parse_rivals(value, o->chosen);
    case 't':
      return parse_seconds("--time", value, &o->limits.seconds);
    case RIVAL_TIME:
      return parse_seconds("--rival-time", value, &o->limits.rival_seconds);
    case THREADS:
      return cli_number(&cli_bench, "--threads", value, 1, 1024, &o->threads);
    default: /* 'd' */
      if (o->n_devices == MOST_DEVICES) {
        cli_usage(&cli_bench, "--device: at most %d", (int)MOST_DEVICES);
        return false;
      }
      o->devices[o->n_devices++] = value;
      return true;
  }
}

/* ---- a device ------------------------------------------------------------ */

static void target_close(bench_target *target) {
  bench_team_destroy(target->team);
  clattn_queue_destroy(target->queue);
  clattn_context_destroy(target->context);
}

/* Prints what failed; _close is due either way. */
static bool target_open(const char *selector, int threads,
                        bench_target *target) {
  *target = (bench_target){.info = {.struct_size = sizeof target->info}};
  clattn_context_config config;
  clattn_context_config_init(&config);
  config.cpu_threads = threads;
  if (selector != NULL && strcmp(selector, "cpu") == 0)
    config.backend = CLATTN_CPU;
  if (clattn_context_create(&config, &target->context) != CLATTN_OK) {
    cli_error("%s", clattn_error_message());
    return false;
  }
  if (!cli_find_device(target->context, selector, &target->device))
    return false;
  if (clattn_device_get_info(target->context, target->device, &target->info) !=
          CLATTN_OK ||
      clattn_queue_create(target->context, target->device, &target->queue) !=
          CLATTN_OK) {
    cli_error("%s", clattn_error_message());
    return false;
  }
  cli_device_label(target->context, target->device, target->label,
                   sizeof target->label);
  cli_clean(target->info.name);
  cli_clean(target->info.platform);
  target->on_host = target->info.type == CLATTN_DEVICE_CPU;
  target->threads = target->on_host ? (int)target->info.compute_units : 1;
  target->vector = bench_vector_choose();
  target->team = bench_team_create(target->threads);
  if (target->team == NULL) cli_error("no memory or no threads");
  return target->team != NULL;
}

static void field_open(const bench_target *target, const bench_options *o,
                       bench_field *field) {
  *field = (bench_field){.n = 1, .entry[0].rival = &bench_own};
  if (o->backward) {
    field->entry[0].rival = &bench_own_backward;
    field->entry[field->n++].rival = &bench_own_forward;
  }
  for (int i = 0; i < N_RIVALS && !o->backward; i++)
    if (o->chosen[i]) field->entry[field->n++].rival = rivals[i];
  for (int i = 0; i < field->n; i++) {
    bench_entry *entry = &field->entry[i];
    entry->rival->open(target, &entry->state, entry->closed);
  }
}

static void field_close(bench_field *field) {
  for (int i = 0; i < field->n; i++)
    if (field->entry[i].state != NULL)
      field->entry[i].rival->close(field->entry[i].state);
}

/* ---- the run ------------------------------------------------------------- */

/* Lines on which something was wrong, or the library did not run. */
static bool line_failed(const bench_line *line) {
  bool failed = isnan(line->result[0].seconds) ||
                (line->backward && isnan(line->result[1].seconds));
  for (int i = 0; i < line->n; i++) failed |= line->result[i].wrong;
  return failed;
}

static bool run_shapes(const bench_target *target, bench_field *field,
                       const bench_options *o, const bench_shapes *shapes,
                       bench_json *json) {
  bench_probe probe;
  cli_progress progress;
  const int width = bench_name_width(shapes);
  size_t failed = 0;
  bool written = true;
  const bench_line like = {
      .path = o->path, .weights = o->weights, .backward = o->backward};
  bench_print_head(target, field, shapes, &like);
  bench_probe_create(target, &probe);
  cli_progress_begin(&progress, "shape");
  for (size_t i = 0; i < shapes->n && written; i++) {
    bench_line line = like;
    line.shape = &shapes->list[i];
    cli_progress_step(&progress, (int64_t)i, (int64_t)shapes->n);
    bench_line_run(target, field, &probe, &o->limits, &line);
    cli_progress_clear(&progress);
    bench_print_line(field, &line, width);
    failed += line_failed(&line);
    if (json != NULL) written = bench_json_add(json, target, &line);
  }
  bench_probe_destroy(&probe);
  if (failed > 0)
    cli_error("%s: %zu of %zu shapes failed", target->label, failed, shapes->n);
  return written && failed == 0;
}

static bool run_device(const char *selector, const bench_options *o,
                       const bench_shapes *shapes, bench_json *json) {
  bench_target target;
  bench_field field;
  bool ok = target_open(selector, (int)o->threads, &target);
  if (ok) {
    field_open(&target, o, &field);
    ok = run_shapes(&target, &field, o, shapes, json);
    field_close(&field);
  }
  target_close(&target);
  return ok;
}

static int run(const bench_options *o) {
  bench_shapes shapes;
  bench_json *json = NULL;
  bool ok = bench_shapes_read(o->shapes, &shapes);
  if (ok && o->json != NULL) {
    json = bench_json_create(o->json);
    if (json == NULL) cli_error("no memory");
    ok = json != NULL && bench_json_writable(json);
  }
  if (ok) {
    const int n = o->n_devices > 0 ? o->n_devices : 1;
    for (int i = 0; i < n; i++) {
      if (i > 0) printf("\n");
      ok &= run_device(o->devices[i], o, &shapes, json);
    }
  }
  bench_json_destroy(json);
  bench_shapes_free(&shapes);
  return ok ? CLI_OK : CLI_FAILED;
}

static int bench(int argc, char **argv) {
  static const struct option options[] = {
      CLI_OPTION_HELP,
      CLI_OPTION_DEVICE,
      CLI_OPTION_PATH,
      {"shapes", required_argument, NULL, 's'},
      {"weights", no_argument, NULL, 'w'},
      {"backward", no_argument, NULL, 'b'},
      {"rivals", required_argument, NULL, 'r'},
      {"time", required_argument, NULL, 't'},
      {"json", required_argument, NULL, 'j'},
      {"rival-time", required_argument, NULL, RIVAL_TIME},
      {"threads", required_argument, NULL, THREADS},
      {NULL, 0, NULL, 0}};
  bench_options o = {.shapes = "models",
                     .limits = {.seconds = 2, .rival_seconds = 5}};
  parse_rivals("all", o.chosen);
  int status = CLI_OK;
  for (int option;
       (option = cli_option(&cli_bench, argc, argv, options, &status)) != -1;) {
    if (option == '?') return status;
    if (!set_option(&o, option, optarg)) return CLI_USAGE;
  }
  if (optind != argc)
    return cli_usage(&cli_bench, "bench: got '%s', want options only",
                     argv[optind]);
  if (o.backward && (o.weights || o.rivals))
    return cli_usage(&cli_bench,
                     "--backward: goes without --weights and --rivals");
  return run(&o);
}
