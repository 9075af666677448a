/* devices.c - clattn devices: what is there, and what plans would use. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

static const char help[] =
    "Usage: clattn devices [OPTION]...\n"
    "List the devices, what was detected of each, and for typical problems "
    "the\n"
    "implementations that a plan would use, and why not the others.\n"
    "\n"
    "  -d, --device=NAME  only that one: cpu, gpu, opencl, a number or part "
    "of\n"
    "                     a name\n"
    "  -b, --brief        without the problems, which takes no compiling\n"
    "  -h, --help         show this\n";

static int devices(int argc, char **argv);

const cli_command cli_devices = {"devices", "list the devices", help, devices};

/* ---- properties ---------------------------------------------------------- */

static void print_bytes(const char *label, uint64_t bytes) {
  static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
  double value = (double)bytes;
  int unit = 0;
  for (; value >= 1024 && unit < 4; unit++) value /= 1024;
  if (bytes == 0)
    printf("  %-14s unknown\n", label);
  else
    printf("  %-14s %.4g %s\n", label, value, units[unit]);
}

static void print_text(const char *label, char *text) {
  cli_clean(text);
  if (*text != '\0') printf("  %-14s %s\n", label, text);
}

static void print_info(int device, int is_default, clattn_device_info *info) {
  static const char *const types[] = {"?", "CPU", "GPU", "other"};
  const unsigned type = (unsigned)info->type;
  cli_clean(info->name);
  printf("%d: %s%s\n", device, info->name, is_default ? " (default)" : "");
  printf("  %-14s %s, %s\n", "kind", types[type < 4 ? type : 0],
         info->backend == CLATTN_CPU ? "native" : "OpenCL");
  print_text("vendor", info->vendor);
  print_text("platform", info->platform);
  print_text("driver", info->driver);
  print_text("version", info->version);
  print_bytes("memory", info->memory_bytes);
  print_bytes("largest buffer", info->max_alloc_bytes);
  print_bytes("local memory", info->local_bytes);
  printf("  %-14s %u\n", "compute units", info->compute_units);
  printf("  %-14s %u\n", "work-group", info->max_work_group);
  printf("  %-14s %u floats\n", "vector", info->vector_width);
  printf("  %-14s %s\n", "half math", info->fp16 ? "yes" : "no (storage only)");
  printf("  %-14s %s\n", "queues",
         info->out_of_order ? "in or out of order" : "in order");
}

/* ---- typical problems ---------------------------------------------------- */

typedef struct typical {
  const char *what;
  clattn_dtype dtype;
  int64_t q_heads, kv_heads, dim;
  uint32_t outputs;
} typical;

static const typical problems[] = {
    {"prefill, 12 heads of 64, F32, causal", CLATTN_F32, 12, 12, 64, 0},
    {"prefill, 12 heads of 64, F16, causal", CLATTN_F16, 12, 12, 64, 0},
    {"grouped queries, 32 heads on 8 of 128, BF16, causal", CLATTN_BF16, 32, 8,
     128, 0},
    {"an odd head size, 4 heads of 80, F32, causal", CLATTN_F32, 4, 4, 80, 0},
    {"attention weights asked for, 12 heads of 64, F32, causal", CLATTN_F32, 12,
     12, 64, CLATTN_OUT_WEIGHTS},
};

enum { N_PROBLEMS = sizeof problems / sizeof *problems };

/* Each line of the plan's text, indented. */
static void print_lines(const char *text) {
  while (*text != '\0') {
    const size_t bytes = strcspn(text, "\n");
    printf("      %.*s\n", (int)bytes, text);
    text += bytes + (text[bytes] != '\0');
  }
}

/* What a plan says of itself, or why there is none; NULL: no memory. */
static char *describe_plan(clattn_context *context, int device,
                           const typical *problem) {
  clattn_desc desc;
  clattn_desc_init(&desc);
  desc.dtype = problem->dtype;
  desc.q_heads = problem->q_heads;
  desc.kv_heads = problem->kv_heads;
  desc.qk_dim = desc.v_dim = problem->dim;
  desc.causal = true;
  desc.outputs = problem->outputs;
  clattn_plan *plan;
  if (clattn_plan_create(context, device, &desc, &plan) != CLATTN_OK)
    return strdup(clattn_error_message());
  char *text = strdup(clattn_plan_info(plan));
  clattn_plan_destroy(plan);
  return text;
}

static bool same(const char *a, const char *b) {
  return a != NULL && b != NULL && strcmp(a, b) == 0;
}

/* Every outcome once, below the problems that have it. */
static void print_outcomes(char *const *outcomes) {
  for (int i = 0; i < N_PROBLEMS; i++) {
    bool printed = false;
    for (int j = 0; j < i; j++) printed |= same(outcomes[i], outcomes[j]);
    if (printed) continue;
    printf("    %s", problems[i].what);
    for (int j = i + 1; j < N_PROBLEMS; j++)
      if (same(outcomes[i], outcomes[j])) printf(";\n    %s", problems[j].what);
    printf(":\n");
    print_lines(outcomes[i] ? outcomes[i] : "no memory");
  }
}

static void print_plans(clattn_context *context, int device) {
  char *outcomes[N_PROBLEMS];
  cli_progress progress;
  cli_progress_begin(&progress, "compiling kernels, problem");
  for (int i = 0; i < N_PROBLEMS; i++) {
    cli_progress_step(&progress, i, N_PROBLEMS);
    outcomes[i] = describe_plan(context, device, &problems[i]);
  }
  cli_progress_clear(&progress);
  printf("  plans\n");
  print_outcomes(outcomes);
  for (int i = 0; i < N_PROBLEMS; i++) free(outcomes[i]);
}

/* ---- the command --------------------------------------------------------- */

static int list(clattn_context *context, int first, int n, int chosen,
                bool brief) {
  for (int i = first; i < first + n; i++) {
    clattn_device_info info = {.struct_size = sizeof info};
    if (clattn_device_get_info(context, i, &info) != CLATTN_OK) {
      cli_error("%s", clattn_error_message());
      return CLI_FAILED;
    }
    if (i > first) printf("\n");
    print_info(i, i == chosen, &info);
    if (!brief) print_plans(context, i);
  }
  return CLI_OK;
}

static int devices(int argc, char **argv) {
  static const struct option options[] = {CLI_OPTION_HELP,
                                          CLI_OPTION_DEVICE,
                                          {"brief", no_argument, NULL, 'b'},
                                          {NULL, 0, NULL, 0}};
  const char *selector = NULL;
  bool brief = false;
  int status = CLI_OK;
  for (int option; (option = cli_option(&cli_devices, argc, argv, options,
                                        &status)) != -1;) {
    if (option == '?') return status;
    if (option == 'd') selector = optarg;
    if (option == 'b') brief = true;
  }
  if (optind != argc)
    return cli_usage(&cli_devices, "devices: no argument is wanted");
  clattn_context *context;
  int device, chosen;
  if (clattn_context_create(NULL, &context) != CLATTN_OK) {
    cli_error("%s", clattn_error_message());
    return CLI_FAILED;
  }
  /* A $CLATTN_DEVICE that fits nothing is a reason to look at the list. */
  if (clattn_device_find(context, NULL, &chosen) != CLATTN_OK) chosen = -1;
  if (selector == NULL) {
    status = list(context, 0, clattn_device_count(context), chosen, brief);
  } else if (!cli_find_device(context, selector, &device)) {
    status = CLI_FAILED;
  } else {
    status = list(context, device, 1, chosen, brief);
  }
  clattn_context_destroy(context);
  return status;
}
