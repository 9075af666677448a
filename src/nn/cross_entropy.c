/* cross_entropy.c - cross-entropy of rows, its mean and its gradient. */
#include <math.h>

#include "nn.h"

_Static_assert(CLT_NN_IGNORE == CLATTN_NN_IGNORE, "kernels know it, too");

void clattn_nn_cross_entropy_args_init(clattn_nn_cross_entropy_args *args) {
  if (!args) return;
  *args = (clattn_nn_cross_entropy_args){.struct_size = sizeof *args};
}

static clt_nn_step target_step(const clattn_nn_cross_entropy_args *args) {
  return (clt_nn_step){.args = {.id_dtype = (clt_i32)args->targets.dtype,
                                .n_ids = (clt_i32)args->logits.extent[3]}};
}

/* Losses of a part; decides how the mean is rounded, as shapes alone may. */
static int64_t part_of(int64_t rows) {
  int64_t part = 64;
  while (part * part < rows) part *= 2;
  return part;
}

void clt_nn_cross_entropy_add(clt_work *work, bool tile, const void *call) {
  const clattn_nn_cross_entropy_args *args =
      ((const clt_nn_cross_entropy_call *)call)->args;
  clt_nn_step step = target_step(args);
  clt_nn_bind(&step, 0, &args->logits);
  clt_nn_bind(&step, 1, &args->targets);
  clt_nn_bind(&step, 2, &args->losses);
  clt_nn_bind(&step, 3, &args->lse);
  clt_nn_rows(&step, tile, &args->logits);
  clt_nn_add_step(work, tile, CLT_K_NN_CROSS_ENTROPY, &step);
  if (!args->mean.buffer) return;

  clt_nn_step sums = target_step(args);
  clt_nn_bind(&sums, 0, &args->losses);
  clt_nn_bind(&sums, 1, &args->targets);
  clt_nn_bind_scratch(&sums, 2);
  clt_nn_rows(&sums, tile, &args->losses);
  sums.args.row_chunk = part_of(sums.args.rows);
  sums.args.units = (clt_i64)clt_ceil_div((size_t)sums.args.rows,
                                          (size_t)sums.args.row_chunk);
  const size_t parts = (size_t)sums.args.units, at = clt_nn_parts(work, parts);
  sums.args.part = (clt_i64)at;
  clt_nn_add_step(work, tile, CLT_K_NN_LOSS_PARTS, &sums);
  clt_nn_fold(work, tile, at, parts, CLT_NN_MEAN, &args->mean);
}

void clt_nn_cross_entropy_back_add(clt_work *work, bool tile,
                                   const void *call) {
  const clt_nn_cross_entropy_call *c = call;
  clt_nn_step step = target_step(c->args);
  step.args.value = c->scale;
  clt_nn_bind(&step, 0, &c->args->logits);
  clt_nn_bind(&step, 1, &c->args->targets);
  clt_nn_bind(&step, 2, &c->args->lse);
  clt_nn_bind(&step, 3, &c->args->mean);
  clt_nn_bind(&step, 4, c->d_logits);
  clt_nn_rows(&step, tile, &c->args->logits);
  clt_nn_add_step(work, tile, CLT_K_NN_CROSS_ENTROPY_BACK, &step);
}

/* logits, targets, lse, mean: the arguments of both directions. */
enum { SHARED = 4 };
static void shared_args(const clattn_nn_cross_entropy_args *a, bool backward,
                        clt_nn_arg args[SHARED]) {
  args[0] = (clt_nn_arg){
      &a->logits,
      {.name = "args->logits", .dtypes = CLT_NN_F32, .extent = CLT_NN_ANY},
      0};
  args[1] = (clt_nn_arg){&a->targets,
                         {.name = "args->targets",
                          .dtypes = CLT_INTS,
                          .extent = CLT_NN_ROWS(&a->logits)},
                         0};
  args[2] = (clt_nn_arg){&a->lse,
                         {.name = "args->lse",
                          .dtypes = CLT_NN_F32,
                          .extent = CLT_NN_ROWS(&a->logits),
                          .output = !backward},
                         0};
  args[3] = (clt_nn_arg){&a->mean,
                         {.name = "args->mean",
                          .dtypes = CLT_NN_F32,
                          .extent = {1, 1, 1, 2},
                          .optional = !backward,
                          .output = !backward},
                         0};
}

clattn_status clattn_nn_cross_entropy(clattn_queue *queue,
                                      const clattn_nn_cross_entropy_args *args,
                                      clattn_event *const *wait, size_t n_wait,
                                      clattn_event **event) {
  static const clt_kernel kernels[] = {CLT_K_NN_CROSS_ENTROPY,
                                       CLT_K_NN_LOSS_PARTS, CLT_K_NN_FOLD};
  if (event) *event = NULL;
  CLT_TRY(clt_check_enqueue(queue, wait, n_wait));
  CLT_REQUIRE_STRUCT(args, clattn_nn_cross_entropy_args);
  clt_nn_arg all[SHARED + 1];
  shared_args(args, false, all);
  all[SHARED] = (clt_nn_arg){&args->losses,
                             {.name = "args->losses",
                              .dtypes = CLT_NN_F32,
                              .extent = CLT_NN_ROWS(&args->logits),
                              .output = true},
                             0};
  CLT_TRY(clt_nn_check(queue->device, all, SHARED + 1, false));
  const clt_nn_cross_entropy_call call = {.args = args};
  return clt_nn_run(queue, kernels, args->mean.buffer ? 3 : 1,
                    clt_nn_cross_entropy_add, &call, wait, n_wait, event);
}

clattn_status clattn_nn_cross_entropy_backward(
    clattn_queue *queue, const clattn_nn_cross_entropy_args *args, float scale,
    const clattn_tensor *d_logits, clattn_event *const *wait, size_t n_wait,
    clattn_event **event) {
  static const clt_kernel kernels[] = {CLT_K_NN_CROSS_ENTROPY_BACK};
  if (event) *event = NULL;
  CLT_TRY(clt_check_enqueue(queue, wait, n_wait));
  CLT_REQUIRE_STRUCT(args, clattn_nn_cross_entropy_args);
  CLT_REQUIRE_TENSOR(d_logits);
  CLT_REQUIRE(isfinite(scale), "scale: got %g, want finite", (double)scale);
  clt_nn_arg all[SHARED + 1];
  shared_args(args, true, all);
  all[SHARED] = (clt_nn_arg){d_logits,
                             {.name = "d_logits",
                              .dtypes = CLT_NN_F32,
                              .extent = CLT_NN_LIKE(&args->logits),
                              .output = true},
                             1};
  CLT_TRY(clt_nn_check(queue->device, all, SHARED + 1, false));
  const clt_nn_cross_entropy_call call = {args, d_logits, scale};
  return clt_nn_run(queue, kernels, 1, clt_nn_cross_entropy_back_add, &call,
                    wait, n_wait, event);
}
