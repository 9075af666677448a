/* every_row.c - every kernel of every device at least once, on shapes that are
 * small enough for slow checkers such as Oclgrind. Making a plan runs the
 * first-use check of its kernels, which uses every feature; one small execution
 * follows for each path and for few and many queries. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../support/attn_case.h"
#include "core/core.h"

enum { HEADS = 2, KEYS = 19, DIM = 5 };

static void require(clattn_status status, const char *call) {
  if (status == CLATTN_OK) return;
  fprintf(stderr, "%s: %s: %s\n", call, clattn_status_name(status),
          clattn_error_message());
  exit(1);
}
#define OK(call) require((call), #call)

static void execute(clattn_context *context, int device,
                    const clattn_plan *plan, int rows) {
  const size_t q_size = (size_t)(HEADS * rows * DIM), kv_size = KEYS * DIM;
  const size_t floats = 2 * q_size + 2 * kv_size;
  float *data = malloc(floats * sizeof *data);
  if (!data) exit(1);
  for (size_t i = 0; i < floats; i++) data[i] = sinf((float)i);

  clattn_queue *queue;
  clattn_buffer *in, *out;
  OK(clattn_queue_create(context, device, &queue));
  OK(clattn_buffer_create(context, device, floats * sizeof *data, &in));
  OK(clattn_buffer_create(context, device, q_size * sizeof *data, &out));
  OK(clattn_buffer_write(queue, in, 0, data, floats * sizeof *data));
  clattn_args args;
  clattn_args_init(&args);
  args.q = clattn_view_bhsd(in, CLATTN_F32, 1, HEADS, rows, DIM);
  args.k = clattn_view_bhsd(in, CLATTN_F32, 1, 1, KEYS, DIM);
  args.k.offset = (int64_t)q_size;
  args.v = args.k;
  args.v.offset = (int64_t)(q_size + kv_size);
  args.out = clattn_view_bhsd(out, CLATTN_F32, 1, HEADS, rows, DIM);
  OK(clattn_execute(plan, queue, &args, NULL, NULL, 0, NULL));
  OK(clattn_buffer_read(queue, out, 0, data, q_size * sizeof *data));
  for (size_t i = 0; i < q_size; i++)
    if (!(fabsf(data[i]) <= 1)) { /* a mean of sines */
      fprintf(stderr, "element %zu is %g\n", i, (double)data[i]);
      exit(1);
    }
  clattn_buffer_destroy(in);
  clattn_buffer_destroy(out);
  clattn_queue_destroy(queue);
  free(data);
}

/* Every path of a device. */
static void visit(clattn_context *context, int device) {
  for (int path = CLATTN_FUSED; path <= CLATTN_BLOCKED; path++) {
    clattn_desc desc;
    clattn_desc_init(&desc);
    desc.q_heads = HEADS;
    desc.kv_heads = 1;
    desc.qk_dim = desc.v_dim = DIM;
    desc.causal = true;
    desc.path = (clattn_path)path;
    clattn_plan *plan;
    OK(clattn_plan_create(context, device, &desc, &plan));
    /* A kernel that gives wrong numbers is refused, and another one serves:
     * good for users, but here it must show. */
    if (strstr(clattn_plan_info(plan), "wrong numbers")) {
      fprintf(stderr, "%s", clattn_plan_info(plan));
      exit(1);
    }
    execute(context, device, plan, 1);
    execute(context, device, plan, 17);
    clattn_plan_destroy(plan);
  }
}

/* ---- GPU-shaped kernels, for simulators ------------------------------------ */

/* As small as lets each kernel take every branch of its own: two blocks of keys
 * and two depths of a product; keys that are split, and merged. Up to 8 queries
 * are served by split-KV, two rows at a time, and by dot products. */
static const attn_case small[] = {
    {"fused", .hq = 2, .hk = 1, .sq = 9, .skv = 67, .d = 17, .dv = 3,
     .lse = true},
    {"fused, every feature",
     .b = 1,
     .hq = 2,
     .hk = 1,
     .sq = 9,
     .skv = 67,
     .d = 3,
     .dtype = CLATTN_F16,
     .causal = true,
     .windowed = true,
     .left = 66,
     .right = 1,
     .start = START_I32,
     .q_start = 60,
     .lengths = LEN_I64,
     .mask = "bhqk",
     .key_mask = "bk",
     .bias = "1hqk",
     .bias_inf = true,
     .slopes = true,
     .sinks = SINKS_SOME,
     .softcap = 4,
     .temperature = 0.8,
     .poison = POISON_HIDDEN,
     .lse = true,
     .own_scratch = true},
    {"split", .hq = 2, .hk = 1, .sq = 3, .skv = 300, .d = 3, .lse = true,
     .causal = true, .sinks = SINKS_SOME, .mask = "b11k",
     .poison = POISON_HIDDEN},
    {"weights", .hq = 2, .hk = 1, .sq = 9, .skv = 67, .d = 17, .dv = 3,
     .mask = "11qk", .causal = true, .weights = true, .average = true,
     .poison = POISON_HIDDEN, .lse = true},
    {"weights f16", .hq = 2, .sq = 5, .skv = 18, .d = 3, .dtype = CLATTN_F16,
     .weights = true, .weights_narrow = true, .softcap = 3, .slopes = true,
     .stage = CLATTN_WEIGHTS_BIASED, .key_mask = "bk"},
};

/* The rows under test must be those that serve. */
static void require_rows(clattn_context *context, int device,
                         clattn_path path) {
  clattn_desc desc;
  clattn_desc_init(&desc);
  desc.q_heads = desc.kv_heads = 1;
  desc.qk_dim = desc.v_dim = 2;
  desc.path = path;
  clattn_plan *plan;
  OK(clattn_plan_create(context, device, &desc, &plan));
  /* "used: ROW" for each; "refused: ROW: reason" else */
  const char *info = clattn_plan_info(plan);
  const bool fused = path == CLATTN_FUSED;
  if (!strstr(info, fused ? "used: fused, work-groups"
                          : "used: unfused, work-groups") ||
      strstr(info, fused ? "refused: fused split-KV, work-groups"
                         : "refused: unfused, work-groups") ||
      (fused && strstr(info, "refused: fused, work-groups"))) {
    fprintf(stderr, "a GPU-shaped row does not serve:\n%s", info);
    exit(1);
  }
  clattn_plan_destroy(plan);
}

/* The small cases against the oracle, part `part` of `parts`. The first-use
 * check, many times as large, is taken as passed. */
static void visit_small(clattn_context *context, int device, int part,
                        int parts) {
  th_device d = {.context = context, .index = device, .forced = true};
  d.info.struct_size = sizeof d.info;
  OK(clattn_device_get_info(context, device, &d.info));
  d.opencl = d.info.backend == CLATTN_OPENCL;
  if (!d.opencl) return;
  const clt_device *own = &context->devices[device];
  for (int k = 0; k < CLT_KERNEL_COUNT; k++)
    own->ops->verdict_set(own->impl, (clt_kernel)k, CLT_TRUSTED, "");
  require_rows(context, device, CLATTN_FUSED);
  require_rows(context, device, CLATTN_UNFUSED);
  OK(clattn_queue_create(context, device, &d.queue));
  for (int i = 0; i < (int)(sizeof small / sizeof *small); i++) {
    if (i % parts != part) continue;
    char message[512];
    attn_problem p;
    attn_problem_init(&p, &small[i], 1);
    if (attn_problem_run(&p, &d, CLATTN_AUTO, message, sizeof message) !=
        TC_PASS) {
      fprintf(stderr, "%s: %s\n", small[i].name, message);
      exit(1);
    }
    attn_problem_free(&p);
    printf("ok: %s, GPU-shaped kernels: %s\n", d.info.name, small[i].name);
    fflush(stdout);
  }
  clattn_queue_destroy(d.queue);
}

static int gpu_shaped(int part, int parts) {
  clattn_context_config config;
  clattn_context_config_init(&config);
  config.force_gpu_kernels = true;
  clattn_context *context;
  OK(clattn_context_create(&config, &context));
  for (int d = 0; d < clattn_device_count(context); d++)
    visit_small(context, d, part, parts);
  clattn_context_destroy(context);
  return 0;
}

/* every_row              as users see devices, then GPU-shaped kernels on CPUs
 * every_row listed       the first alone: simulated, the second takes long
 * every_row gpu [I N]    GPU-shaped kernels on small cases, each I-th of N */
int main(int argc, char **argv) {
  const bool listed = argc > 1 && strcmp(argv[1], "listed") == 0;
  if (argc > 1 && strcmp(argv[1], "gpu") == 0)
    return argc > 3 ? gpu_shaped(atoi(argv[2]), atoi(argv[3]))
                    : gpu_shaped(0, 1);
  for (int forced = 0; forced < (listed ? 1 : 2); forced++) {
    clattn_context_config config;
    clattn_context_config_init(&config);
    config.force_gpu_kernels = forced;
    clattn_context *context;
    OK(clattn_context_create(&config, &context));
    for (int d = 0; d < clattn_device_count(context); d++) {
      clattn_device_info info;
      info.struct_size = sizeof info;
      OK(clattn_device_get_info(context, d, &info));
      if (forced && info.backend == CLATTN_CPU) continue;
      visit(context, d);
      printf("ok: %s%s\n", info.name, forced ? ", GPU-shaped kernels" : "");
      fflush(stdout);
    }
    clattn_context_destroy(context);
  }
  return 0;
}
