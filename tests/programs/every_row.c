/* every_row.c - every kernel of every device at least once, on shapes that are
 * small enough for slow checkers such as Oclgrind. Making a plan runs the
 * first-use check of its kernels, which uses every feature; one small execution
 * follows for each path and for few and many queries. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../support/attn_case.h"
#include "clattn_nn.h"
#include "../support/grad_case.h"
#include "../support/stats_case.h"
#include "core/core.h"

enum { HEADS = 2, KEYS = 19, DIM = 5 };

static void require(clattn_status status, const char *call) {
  if (status == CLATTN_OK) return;
  fprintf(stderr, "%s: %s: %s\n", call, clattn_status_name(status),
          clattn_error_message());
  exit(1);
}
#define OK(call) require((call), #call)

/* Forward, and backward where the plan has it: d_out is out. */
static void execute(clattn_context *context, int device,
                    const clattn_plan *plan, int rows, bool backward) {
  const size_t q_size = (size_t)(HEADS * rows * DIM), kv_size = KEYS * DIM;
  const size_t floats = 2 * q_size + 2 * kv_size;
  float *data = malloc(floats * sizeof *data);
  if (!data) exit(1);
  for (size_t i = 0; i < floats; i++) data[i] = sinf((float)i);

  clattn_queue *queue;
  clattn_buffer *in, *out, *gradients;
  const size_t lse_size = (size_t)(HEADS * rows);
  OK(clattn_queue_create(context, device, &queue));
  OK(clattn_buffer_create(context, device, floats * sizeof *data, &in));
  OK(clattn_buffer_create(context, device, (q_size + lse_size) * sizeof *data,
                          &out));
  OK(clattn_buffer_create(context, device, floats * sizeof *data, &gradients));
  OK(clattn_buffer_write(queue, in, 0, data, floats * sizeof *data));
  clattn_args args;
  clattn_args_init(&args);
  args.q = clattn_view_bhsd(in, CLATTN_F32, 1, HEADS, rows, DIM);
  args.k = clattn_view_bhsd(in, CLATTN_F32, 1, 1, KEYS, DIM);
  args.k.offset = (int64_t)q_size;
  args.v = args.k;
  args.v.offset = (int64_t)(q_size + kv_size);
  args.out = clattn_view_bhsd(out, CLATTN_F32, 1, HEADS, rows, DIM);
  if (backward) {
    args.lse = clattn_view_bhsd(out, CLATTN_F32, 1, HEADS, rows, 1);
    args.lse.offset = (int64_t)q_size;
  }
  OK(clattn_execute(plan, queue, &args, NULL, NULL, 0, NULL));
  OK(clattn_buffer_read(queue, out, 0, data, q_size * sizeof *data));
  for (size_t i = 0; i < q_size; i++)
    if (!(fabsf(data[i]) <= 1)) { /* a mean of sines */
      fprintf(stderr, "element %zu is %g\n", i, (double)data[i]);
      exit(1);
    }
  if (backward) {
    clattn_grads grads;
    clattn_grads_init(&grads);
    grads.d_out = args.out;
    grads.d_q = args.q, grads.d_k = args.k, grads.d_v = args.v;
    grads.d_q.buffer = grads.d_k.buffer = grads.d_v.buffer = gradients;
    OK(clattn_backward(plan, queue, &args, &grads, NULL, NULL, 0, NULL));
    OK(clattn_buffer_read(queue, gradients, 0, data,
                          (q_size + 2 * kv_size) * sizeof *data));
    for (size_t i = 0; i < q_size + 2 * kv_size; i++)
      if (!isfinite(data[i])) {
        fprintf(stderr, "gradient %zu is %g\n", i, (double)data[i]);
        exit(1);
      }
  }
  clattn_buffer_destroy(in);
  clattn_buffer_destroy(out);
  clattn_buffer_destroy(gradients);
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
    desc.backward = path != CLATTN_BLOCKED; /* which has none of its own */
    if (desc.backward) desc.outputs |= CLATTN_OUT_LSE;
    clattn_plan *plan;
    OK(clattn_plan_create(context, device, &desc, &plan));
    /* A kernel that gives wrong numbers is refused, and another one serves:
     * good for users, but here it must show. */
    if (strstr(clattn_plan_info(plan), "wrong numbers")) {
      fprintf(stderr, "%s", clattn_plan_info(plan));
      exit(1);
    }
    execute(context, device, plan, 1, desc.backward);
    execute(context, device, plan, 17, desc.backward);
    clattn_plan_destroy(plan);
  }
}

/* ---- layers around attention ------------------------------------------------ */

/* Every call of clattn_nn.h on a few numbers: 2 batches of ROWS rows; enough of
 * them that sums have parts. Results are finite, and no kernel was refused. */
static void visit_nn(clattn_context *context, int device) {
  enum { ROWS = 40, WIDE = 19, ALL = 2 * ROWS * WIDE, AREAS = 14 };
  float *data = malloc(AREAS * ALL * sizeof *data);
  if (!data) exit(1);
  for (int i = 0; i < AREAS * ALL; i++)
    data[i] = i < 2 * ALL ? sinf((float)i) : 0;
  const int32_t ids[4] = {3, CLATTN_NN_IGNORE, 18, 3};
  for (int i = 0; i < 2 * ROWS; i++) memcpy(&data[2 * ALL + i], &ids[i % 4], 4);
  clattn_queue *q;
  clattn_buffer *buffer;
  OK(clattn_queue_create(context, device, &q));
  OK(clattn_buffer_create(context, device, AREAS * ALL * sizeof *data,
                          &buffer));
  OK(clattn_buffer_write(q, buffer, 0, data, AREAS * ALL * sizeof *data));
  clattn_tensor area[AREAS];
  for (int i = 0; i < AREAS; i++) {
    area[i] = clattn_view_bhsd(buffer, CLATTN_F32, 2, 1, ROWS, WIDE);
    area[i].offset = i * ALL;
  }
  clattn_tensor x = area[0], g = area[1], y = area[3], d_x = area[4];
  clattn_tensor id = clattn_view_bhsd(buffer, CLATTN_I32, 2, 1, ROWS, 1);
  clattn_tensor column[4],
      row = clattn_view_bhsd(buffer, CLATTN_F32, 1, 1, 1, WIDE);
  id.offset = 2 * ALL;
  for (int i = 0; i < 4; i++) {
    column[i] = clattn_view_bhsd(buffer, CLATTN_F32, 2, 1, ROWS, 1);
    column[i].offset = 5 * ALL + i * 2 * ROWS;
  }
  row.offset = 6 * ALL;
  clattn_tensor d_row = row,
                table = clattn_view_bhsd(buffer, CLATTN_F32, 1, 1, WIDE, WIDE);
  d_row.offset += WIDE;
  table.offset = 7 * ALL;
  clattn_tensor mean = clattn_view_bhsd(buffer, CLATTN_F32, 1, 1, 1, 2);
  clattn_tensor norm = clattn_view_bhsd(buffer, CLATTN_F32, 1, 1, 1, 1);
  mean.offset = 8 * ALL;
  norm.offset = 8 * ALL + 2;

  OK(clattn_nn_fill(q, &row, 0.5f, NULL, 0, NULL));
  clattn_nn_layer_norm_args n;
  clattn_nn_layer_norm_args_init(&n);
  n.x = x, n.weight = n.bias = row, n.out = y;
  n.mean = column[0], n.rstd = column[1];
  OK(clattn_nn_layer_norm(q, &n, NULL, 0, NULL));
  OK(clattn_nn_layer_norm_backward(q, &n, &g, &d_x, &d_row, NULL,
                                   CLATTN_ADD_TO_WEIGHTS, NULL, 0, NULL));
  clattn_nn_rms_norm_args r;
  clattn_nn_rms_norm_args_init(&r);
  r.x = x, r.weight = row, r.out = area[12], r.rms = column[2];
  OK(clattn_nn_rms_norm(q, &r, NULL, 0, NULL));
  OK(clattn_nn_rms_norm_backward(q, &r, &g, &d_x, &d_row, CLATTN_ADD_TO_INPUTS,
                                 NULL, 0, NULL));
  OK(clattn_nn_swiglu_backward(q, &x, &y, &g, &area[12], &area[13], NULL, 0,
                               NULL));
  OK(clattn_nn_swiglu(q, &area[12], &x, &area[12], NULL, 0, NULL));
  OK(clattn_nn_tanh(q, &area[12], &area[13], NULL, 0, NULL));
  OK(clattn_nn_tanh_backward(q, &area[13], &g, &area[12], NULL, 0, NULL));
  for (int kind = 0; kind < 2; kind++) {
    OK(clattn_nn_gelu(q, (clattn_nn_gelu_kind)kind, &y, &y, NULL, 0, NULL));
    OK(clattn_nn_gelu_backward(q, (clattn_nn_gelu_kind)kind, &x, &d_x, &d_x,
                               NULL, 0, NULL));
  }
  OK(clattn_nn_add(q, &y, &row, &y, NULL, 0, NULL));
  OK(clattn_nn_add_backward(q, &g, &d_row, 0, NULL, 0, NULL));
  OK(clattn_nn_embedding_backward(q, &id, &g, &table, NULL, 0, NULL));
  clattn_nn_cross_entropy_args c;
  clattn_nn_cross_entropy_args_init(&c);
  c.logits = x, c.targets = id, c.losses = column[2], c.lse = column[3];
  c.mean = mean;
  OK(clattn_nn_cross_entropy(q, &c, NULL, 0, NULL));
  OK(clattn_nn_cross_entropy_backward(q, &c, 1, &area[9], NULL, 0, NULL));
  clattn_tensor few = id,
                rows = clattn_view_bhsd(buffer, CLATTN_F32, 1, 1, 1, WIDE);
  few.extent[0] = few.extent[2] = 1; /* the others are of no row */
  rows.offset = 8 * ALL + 100;
  OK(clattn_nn_embedding(q, &table, &few, &rows, NULL, 0, NULL));
  OK(clattn_nn_norm(q, &g, &norm, NULL, 0, NULL));
  clattn_nn_adamw_args a;
  clattn_nn_adamw_args_init(&a);
  a.param = y, a.grad = g, a.m = area[10], a.v = area[11], a.norm = norm;
  a.step = 1;
  OK(clattn_nn_adamw(q, &a, NULL, 0, NULL));
  OK(clattn_buffer_read(q, buffer, 0, data, AREAS * ALL * sizeof *data));
  for (int i = 3 * ALL; i < AREAS * ALL; i++)
    if (!isfinite(data[i])) {
      fprintf(stderr, "layers: element %d is %g\n", i, (double)data[i]);
      exit(1);
    }
  const clt_device *own = &context->devices[device];
  char reason[512] = "";
  for (int k = 0; k < CLT_KERNEL_COUNT; k++)
    if (strncmp(clt_kernels[k].id, "NN_", 3) == 0 &&
        own->ops->verdict_get(own->impl, (clt_kernel)k, reason,
                              sizeof reason) == CLT_REFUSED) {
      fprintf(stderr, "%s: %s\n", clt_kernels[k].entry, reason);
      exit(1);
    }
  clattn_buffer_destroy(buffer);
  clattn_queue_destroy(q);
  free(data);
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

/* Gradients: two blocks of keys; two slices of a depth and of columns; heads that
 * share a key head, which come one after the other; a bias that is summed over
 * along each axis. (Scratch of their own: Oclgrind takes what kernels write to it
 * for uninitialised once a part of it was written by the host.) */
static const struct {
  clattn_path path;
  grad_case c;
} small_grads[] = {
    {CLATTN_FUSED,
     {.attn = {"fused backward", .hq = 2, .hk = 1, .sq = 9, .skv = 67, .d = 17,
               .dv = 66}}},
    {CLATTN_FUSED,
     {.attn = {"fused backward, every feature",
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
               .dropout = 0.2,
               .poison = POISON_HIDDEN,
               .poison_rows = true},
      .accumulate = CLATTN_ADD_TO_INPUTS | CLATTN_ADD_TO_WEIGHTS,
      .d_out = CLATTN_F32,
      .poison_out = true}},
    {CLATTN_FUSED,
     {.attn = {"bias by row", .hq = 2, .sq = 5, .skv = 67, .d = 3,
               .bias = "1hq1"},
      .absent = {false, true}}},
    {CLATTN_UNFUSED,
     {.attn = {"unfused backward", .b = 2, .hq = 2, .hk = 1, .sq = 9, .skv = 18,
               .d = 3, .causal = true, .bias = "b11k", .sinks = SINKS_SOME,
               .dropout = 0.2, .poison = POISON_HIDDEN}}},
};

/* Statistics: two blocks of keys and two depths; a map of several parts, whose
 * blocks of keys end inside a tile; lists that are full. */
static const stats_case small_stats[] = {
    {.attn = {"statistics", .hq = 2, .hk = 1, .sq = 70, .skv = 67, .d = 17},
     .top = 3,
     .map_rows = 68,
     .map_keys = 40},
    {.attn = {"statistics, every feature",
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
              .poison = POISON_HIDDEN},
     .top = 2,
     .no_keys = true,
     .map_rows = 4,
     .map_keys = 9},
};

static void visit_stats(const th_device *d, int part, int parts) {
  const int n = (int)(sizeof small_stats / sizeof *small_stats);
  for (int i = 0; i < n; i++) {
    char message[512];
    stats_problem p;
    if (i % parts != part) continue;
    stats_problem_init(&p, &small_stats[i], 1);
    if (stats_problem_run(&p, d, CLATTN_FUSED, message, sizeof message) !=
        TC_PASS) {
      fprintf(stderr, "%s: %s\n", small_stats[i].attn.name, message);
      exit(1);
    }
    stats_problem_free(&p);
    printf("ok: %s%s: %s\n", d->info.name,
           d->forced ? ", GPU-shaped kernels" : "", small_stats[i].attn.name);
    fflush(stdout);
  }
}

/* The same on a device as users see it, first-use check included. */
static void visit_listed_stats(clattn_context *context, int device,
                               bool forced) {
  th_device d = {.context = context, .index = device, .forced = forced};
  d.info.struct_size = sizeof d.info;
  OK(clattn_device_get_info(context, device, &d.info));
  OK(clattn_queue_create(context, device, &d.queue));
  visit_stats(&d, 0, 1);
  clattn_queue_destroy(d.queue);
  const clt_device *own = &context->devices[device];
  char reason[512] = "";
  if (own->ops->verdict_get(own->impl,
                            forced ? CLT_K_ATTN_STATS_TILE : CLT_K_ATTN_STATS,
                            reason, sizeof reason) == CLT_REFUSED) {
    fprintf(stderr, "attn_stats: %s\n", reason);
    exit(1);
  }
}

/* The rows under test must be those that serve. */
static void require_rows(clattn_context *context, int device,
                         clattn_path path) {
  clattn_desc desc;
  clattn_desc_init(&desc);
  desc.q_heads = desc.kv_heads = 1;
  desc.qk_dim = desc.v_dim = 2;
  desc.path = path;
  desc.backward = true;
  desc.outputs = CLATTN_OUT_LSE;
  clattn_plan *plan;
  OK(clattn_plan_create(context, device, &desc, &plan));
  /* "used: ROW" for each; "refused: ROW: reason" else */
  const char *info = clattn_plan_info(plan);
  const bool fused = path == CLATTN_FUSED;
  if (!strstr(info, fused ? "used: fused, work-groups"
                          : "used: unfused, work-groups") ||
      strstr(info, fused ? "refused: fused split-KV, work-groups"
                         : "refused: unfused, work-groups") ||
      (fused && strstr(info, "refused: fused, work-groups")) ||
      !strstr(info, fused ? "used: fused backward, work-groups"
                          : "used: unfused backward, work-groups")) {
    fprintf(stderr, "a GPU-shaped row does not serve:\n%s", info);
    exit(1);
  }
  clattn_plan_destroy(plan);
}

static void require_pass(tc_result result, const th_device *d, const char *name,
                         const char *message) {
  if (result != TC_PASS) {
    fprintf(stderr, "%s: %s\n", name, message);
    exit(1);
  }
  printf("ok: %s, GPU-shaped kernels: %s\n", d->info.name, name);
  fflush(stdout);
}

static void run_small(const th_device *d, const attn_case *c) {
  char message[512];
  attn_problem p;
  attn_problem_init(&p, c, 1);
  require_pass(attn_problem_run(&p, d, CLATTN_AUTO, message, sizeof message), d,
               c->name, message);
  attn_problem_free(&p);
}

static void run_small_grads(const th_device *d, clattn_path path,
                            const grad_case *c) {
  char message[512];
  grad_problem p;
  grad_problem_init(&p, c, 1);
  require_pass(grad_problem_run(&p, d, path, NULL, message, sizeof message), d,
               c->attn.name, message);
  grad_problem_free(&p);
}

/* The small cases against the oracle, part `part` of `parts`. The first-use
 * check, many times as large, is taken as passed. */
static void visit_small(clattn_context *context, int device, int part,
                        int parts) {
  const int n = (int)(sizeof small / sizeof *small);
  const int n_grads = (int)(sizeof small_grads / sizeof *small_grads);
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
  if (part == 0) visit_nn(context, device);
  OK(clattn_queue_create(context, device, &d.queue));
  for (int i = 0; i < n + n_grads; i++) {
    if (i % parts != part) continue;
    if (i < n)
      run_small(&d, &small[i]);
    else
      run_small_grads(&d, small_grads[i - n].path, &small_grads[i - n].c);
  }
  visit_stats(&d, part, parts);
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
      visit_nn(context, d);
      visit_listed_stats(context, d, forced);
      printf("ok: %s%s\n", info.name, forced ? ", GPU-shaped kernels" : "");
      fflush(stdout);
    }
    clattn_context_destroy(context);
  }
  return 0;
}
