/* run.c - clattn run: one case file on one device. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "case.h"

static const char help[] =
    "Usage: clattn run [OPTION]... CASE.safetensors\n"
    "Run one case, print its outputs' ranges, and check those that it states.\n"
    "\n"
    "  -d, --device=NAME  cpu, gpu, opencl, a number or part of a name\n"
    "  -p, --path=PATH    auto (default), fused, unfused or blocked\n"
    "  -o, --out=FILE     write the outputs as safetensors, under their names\n"
    "  -h, --help         show this\n"
    "\n"
    "Exit status 1 if it cannot run or an output is wrong.\n";

static int run(int argc, char **argv);

const cli_command cli_run = {"run", "run one case file", help, run};

static bool print_output(const case_output *out) {
  const int64_t n = clattn_kit_tensor_elements(&out->got);
  float *values = calloc((size_t)n, sizeof *values);
  if (values == NULL ||
      clattn_kit_tensor_to_f32(&out->got, values) != CLATTN_OK) {
    cli_error("%s", values ? clattn_error_message() : "no memory");
    free(values);
    return false;
  }
  float low = INFINITY, high = -INFINITY;
  int64_t odd = 0;
  for (int64_t i = 0; i < n; i++) {
    if (!isfinite(values[i])) {
      odd++;
      continue;
    }
    low = fminf(low, values[i]);
    high = fmaxf(high, values[i]);
  }
  free(values);
  char shape[CLI_SHAPE_CHARS];
  printf("%s %s %s: %lld values", out->got.name,
         clattn_kit_dtype_name(out->got.dtype), cli_shape(&out->got, shape),
         (long long)n);
  if (odd < n) printf(", %g to %g", (double)low, (double)high);
  if (odd > 0) printf(", %lld not finite", (long long)odd);
  if (out->want.name != NULL) printf(", max err %.1e", out->max_error);
  printf("\n");
  return true;
}

static bool write_outputs(const cli_case *c, const char *path) {
  clattn_kit_tensor tensors[CASE_MAX_OUTPUTS];
  for (int i = 0; i < c->n_outputs; i++) tensors[i] = c->outputs[i].got;
  const clattn_kit_metadata metadata[] = {{"op", c->op}, {"case", c->name}};
  if (clattn_kit_safetensors_write(path, tensors, (size_t)c->n_outputs,
                                   metadata, 2) == CLATTN_OK)
    return true;
  cli_error("%s", clattn_error_message());
  return false;
}

static bool run_case(cli_case *c, const case_target *target, const char *path,
                     const char *out) {
  if (!case_open(path, c) || case_run(c, target, true) != CASE_PASS) {
    cli_error("%s: %s", path, c->why);
    return false;
  }
  case_check(c);
  for (int i = 0; i < c->n_outputs; i++)
    if (!print_output(&c->outputs[i])) return false;
  if (c->compared == 0)
    printf("no expected outputs in the file: nothing was compared\n");
  if (out != NULL && !write_outputs(c, out)) return false;
  if (c->verdict == CASE_PASS) return true;
  cli_error("%s: %s", path, c->why);
  return false;
}

static int run(int argc, char **argv) {
  static const struct option options[] = {CLI_OPTION_HELP,
                                          CLI_OPTION_DEVICE,
                                          CLI_OPTION_PATH,
                                          {"out", required_argument, NULL, 'o'},
                                          {NULL, 0, NULL, 0}};
  const char *selector = NULL, *out = NULL;
  case_target target = {.path = CLATTN_AUTO};
  int status = CLI_OK;
  for (int option;
       (option = cli_option(&cli_run, argc, argv, options, &status)) != -1;) {
    if (option == '?') return status;
    if (option == 'd') selector = optarg;
    if (option == 'o') out = optarg;
    if (option == 'p' && !cli_path(&cli_run, optarg, &target.path))
      return CLI_USAGE;
  }
  if (optind != argc - 1)
    return cli_usage(&cli_run, "run: got %d files, want one", argc - optind);
  if (!cli_output_file("--out", out, (const char *[]){argv[optind], NULL}))
    return CLI_FAILED;
  if (!cli_context(selector, &target.context, &target.device))
    return CLI_FAILED;
  status = CLI_FAILED;
  if (clattn_queue_create(target.context, target.device, &target.queue) !=
      CLATTN_OK) {
    cli_error("%s", clattn_error_message());
  } else {
    cli_case c;
    if (run_case(&c, &target, argv[optind], out)) status = CLI_OK;
    case_close(&c);
  }
  clattn_queue_destroy(target.queue);
  clattn_context_destroy(target.context);
  return status;
}
