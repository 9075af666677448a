/* optimizer.c - fill, norm, AdamW and its learning rate: whole tensors. */
#include <math.h>

#include "nn.h"

#define ANY_SHAPE                                                              \
  { CLT_ANY_EXTENT, CLT_ANY_EXTENT, CLT_ANY_EXTENT, CLT_ANY_EXTENT }

clattn_status clattn_nn_fill(clattn_queue *queue, const clattn_tensor *x,
                             float value, clattn_event *const *wait,
                             size_t n_wait, clattn_event **event) {
  if (event) *event = NULL;
  CLT_TRY(clt_check_enqueue(queue, wait, n_wait));
  CLT_REQUIRE_TENSOR(x);
  const clt_nn_arg arg = {
      x,
      {.name = "x", .dtypes = CLT_NN_F32, .extent = ANY_SHAPE, .output = true},
      0};
  CLT_TRY(clt_nn_check(queue->device, &arg, 1, true));
  const clt_nn_map_call call = {.op = CLT_NN_FILL, .value = value, .out = x};
  return clt_nn_map_run(queue, &call, wait, n_wait, event);
}

/* ---- norm -------------------------------------------------------------------- */

/* Parts of a norm: their number decides how it is rounded, so it depends on the
 * shape and the family of kernels alone. */
enum { CPU_PARTS = 1024, CPU_PART = 4096, TILE_PARTS = 16384, TILE_PART = 64 };

static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

static void cut_norm(clt_nn_args *a, bool tile) {
  const int64_t all = a->rows * a->dim;
  if (tile) { /* work-items side by side take turns: every across-th column */
    a->chunk = 0;
    a->across = ceil_div(a->dim, TILE_PART);
    if (a->across > TILE_PARTS) a->across = TILE_PARTS;
    const int64_t down = TILE_PARTS / a->across;
    const int64_t few = a->dim < TILE_PART ? TILE_PART / a->dim : 1;
    a->row_chunk = ceil_div(a->rows, down);
    if (a->row_chunk < few) a->row_chunk = few;
  } else {
    const int64_t part = all > (int64_t)CPU_PARTS * CPU_PART
                             ? ceil_div(all, CPU_PARTS)
                             : CPU_PART;
    a->chunk = a->dim < part ? a->dim : (part + 15) / 16 * 16;
    a->across = ceil_div(a->dim, a->chunk);
    a->row_chunk = a->dim < part ? part / a->dim : 1;
  }
  a->units = a->across * ceil_div(a->rows, a->row_chunk);
}

void clt_nn_norm_add(clt_work *work, bool tile, const void *call) {
  const clt_nn_norm_call *c = call;
  clt_nn_step step = {.args = {.op = 0}};
  clt_nn_bind(&step, 0, c->x);
  clt_nn_elements(&step, tile, c->x->extent);
  cut_norm(&step.args, tile);
  const size_t parts = (size_t)step.args.units, at = clt_nn_parts(work, parts);
  step.args.part = (clt_i64)at;
  clt_nn_bind_scratch(&step, 1);
  clt_nn_add_step(work, tile, CLT_K_NN_NORM_PARTS, &step);
  clt_nn_fold(work, tile, at, parts, CLT_NN_NORM, c->norm);
}

clattn_status clattn_nn_norm(clattn_queue *queue, const clattn_tensor *x,
                             const clattn_tensor *norm,
                             clattn_event *const *wait, size_t n_wait,
                             clattn_event **event) {
  static const clt_kernel kernels[] = {CLT_K_NN_NORM_PARTS, CLT_K_NN_FOLD};
  if (event) *event = NULL;
  CLT_TRY(clt_check_enqueue(queue, wait, n_wait));
  CLT_REQUIRE_TENSOR(x);
  CLT_REQUIRE_TENSOR(norm);
  const clt_nn_arg args[] = {
      {x, {.name = "x", .dtypes = CLT_NN_F32, .extent = ANY_SHAPE}, 0},
      {norm,
       {.name = "norm",
        .dtypes = CLT_NN_F32,
        .extent = {1, 1, 1, 1},
        .output = true},
       0}};
  CLT_TRY(clt_nn_check(queue->device, args, 2, true));
  const clt_nn_norm_call call = {x, norm};
  return clt_nn_run(queue, kernels, 2, clt_nn_norm_add, &call, wait, n_wait,
                    event);
}

/* ---- AdamW --------------------------------------------------------------------- */

void clattn_nn_adamw_args_init(clattn_nn_adamw_args *args) {
  if (!args) return;
  *args = (clattn_nn_adamw_args){.struct_size = sizeof *args,
                                 .max_norm = 1.0f,
                                 .lr = 1e-3f,
                                 .beta1 = 0.9f,
                                 .beta2 = 0.999f,
                                 .eps = 1e-8f,
                                 .weight_decay = 1e-2f};
}

void clt_nn_adamw_add(clt_work *work, bool tile, const void *call) {
  const clattn_nn_adamw_args *args = call;
  const double lr = args->lr, beta1 = args->beta1, beta2 = args->beta2;
  const double step_number = (double)args->step;
  clt_nn_step step = {
      .args = {.eps = args->eps,
               .max_norm = args->max_norm,
               .decay = (float)(1 - lr * args->weight_decay),
               .rate = (float)(lr / (1 - pow(beta1, step_number))),
               .root = (float)(1 / (1 - pow(beta2, step_number))),
               .beta1 = args->beta1,
               .rest1 = (float)(1 - beta1),
               .beta2 = args->beta2,
               .rest2 = (float)(1 - beta2)}};
  clt_nn_bind(&step, 0, &args->param);
  clt_nn_bind(&step, 1, &args->grad);
  clt_nn_bind(&step, 2, &args->m);
  clt_nn_bind(&step, 3, &args->v);
  clt_nn_elements(&step, tile, args->param.extent);
  clt_nn_bind(&step, 4, &args->norm);
  clt_nn_add_step(work, tile, CLT_K_NN_ADAMW, &step);
}

static clattn_status check_numbers(const clattn_nn_adamw_args *args) {
  CLT_REQUIRE(!args->norm.buffer || args->max_norm > 0,
              "args->max_norm: got %g, want > 0", (double)args->max_norm);
  CLT_REQUIRE(isfinite(args->lr) && args->lr >= 0,
              "args->lr: got %g, want finite and >= 0", (double)args->lr);
  CLT_REQUIRE(args->beta1 >= 0 && args->beta1 < 1,
              "args->beta1: got %g, want >= 0 and < 1", (double)args->beta1);
  CLT_REQUIRE(args->beta2 >= 0 && args->beta2 < 1,
              "args->beta2: got %g, want >= 0 and < 1", (double)args->beta2);
  CLT_REQUIRE(isfinite(args->eps) && args->eps > 0,
              "args->eps: got %g, want finite and > 0", (double)args->eps);
  CLT_REQUIRE(isfinite(args->weight_decay) && args->weight_decay >= 0,
              "args->weight_decay: got %g, want finite and >= 0",
              (double)args->weight_decay);
  CLT_REQUIRE(args->step >= 1, "args->step: got %lld, want >= 1",
              (long long)args->step);
  return CLATTN_OK;
}

clattn_status clattn_nn_adamw(clattn_queue *queue,
                              const clattn_nn_adamw_args *args,
                              clattn_event *const *wait, size_t n_wait,
                              clattn_event **event) {
  static const clt_kernel kernels[] = {CLT_K_NN_ADAMW};
  if (event) *event = NULL;
  CLT_TRY(clt_check_enqueue(queue, wait, n_wait));
  CLT_REQUIRE_STRUCT(args, clattn_nn_adamw_args);
  const clt_want changes = {.dtypes = CLT_NN_F32,
                            .extent = CLT_NN_LIKE(&args->param),
                            .output = true};
  clt_nn_arg all[] = {{&args->param,
                       {.name = "args->param",
                        .dtypes = CLT_NN_F32,
                        .extent = ANY_SHAPE,
                        .output = true},
                       0},
                      {&args->grad,
                       {.name = "args->grad",
                        .dtypes = CLT_NN_F32,
                        .extent = CLT_NN_LIKE(&args->param)},
                       0},
                      {&args->m, changes, 0},
                      {&args->v, changes, 0},
                      {&args->norm,
                       {.name = "args->norm",
                        .dtypes = CLT_NN_F32,
                        .extent = {1, 1, 1, 1},
                        .optional = true},
                       0}};
  all[2].want.name = "args->m";
  all[3].want.name = "args->v";
  CLT_TRY(clt_nn_check(queue->device, all, 5, true));
  CLT_TRY(check_numbers(args));
  return clt_nn_run(queue, kernels, 1, clt_nn_adamw_add, args, wait, n_wait,
                    event);
}

float clattn_nn_cosine_lr(int64_t step, int64_t warmup, int64_t total,
                          float max_lr, float min_lr) {
  if (step < 0 || warmup < 0 || total < warmup) return NAN;
  if (step < warmup)
    return (float)((double)max_lr * ((double)step + 1) / (double)warmup);
  if (step >= total) return min_lr;
  const double pi = 3.14159265358979323846;
  const double done = (double)(step - warmup) / (double)(total - warmup);
  return (float)(min_lr +
                 0.5 * (1 + cos(pi * done)) * ((double)max_lr - min_lr));
}
