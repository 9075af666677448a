/* rms_norm.c - RMS normalisation and its gradients. */
#include <math.h>

#include "nn.h"

void clattn_nn_rms_norm_args_init(clattn_nn_rms_norm_args *args) {
  if (!args) return;
  *args = (clattn_nn_rms_norm_args){.struct_size = sizeof *args, .eps = 1e-6f};
}

void clt_nn_rms_norm_add(clt_work *work, bool tile, const void *call) {
  const clattn_nn_rms_norm_args *args =
      ((const clt_nn_rms_norm_call *)call)->args;
  clt_nn_step step = {.args = {.eps = args->eps}};
  clt_nn_bind(&step, 0, &args->x);
  clt_nn_bind(&step, 1, &args->weight);
  clt_nn_bind(&step, 2, &args->out);
  clt_nn_bind(&step, 3, &args->rms);
  clt_nn_rows(&step, tile, &args->x);
  clt_nn_add_step(work, tile, CLT_K_NN_RMS_NORM, &step);
}

void clt_nn_rms_norm_back_add(clt_work *work, bool tile, const void *call) {
  const clt_nn_rms_norm_call *c = call;
  const clattn_nn_rms_norm_args *args = c->args;
  if (c->d_x->buffer) {
    clt_nn_step step = {
        .args = {.accumulate = (c->accumulate & CLATTN_ADD_TO_INPUTS) != 0}};
    clt_nn_bind(&step, 0, &args->x);
    clt_nn_bind(&step, 1, &args->weight);
    clt_nn_bind(&step, 2, &args->rms);
    clt_nn_bind(&step, 3, c->d_out);
    clt_nn_bind(&step, 4, c->d_x);
    clt_nn_rows(&step, tile, &args->x);
    clt_nn_add_step(work, tile, CLT_K_NN_RMS_NORM_BACK, &step);
  }
  const clt_nn_normed norm = {&args->x, NULL, &args->rms};
  if (c->d_weight->buffer)
    clt_nn_column_sums(work, tile, c->d_out, c->d_weight, &norm,
                       (c->accumulate & CLATTN_ADD_TO_WEIGHTS) != 0);
}

/* x, weight, rms: the arguments of both directions. backward: rms is an input,
 * and needed. */
enum { SHARED = 3 };
static void shared_args(const clattn_nn_rms_norm_args *a, bool backward,
                        clt_nn_arg args[SHARED]) {
  args[0] = (clt_nn_arg){
      &a->x,
      {.name = "args->x", .dtypes = CLT_NN_F32, .extent = CLT_NN_ANY},
      0};
  args[1] = (clt_nn_arg){&a->weight,
                         {.name = "args->weight",
                          .dtypes = CLT_NN_F32,
                          .extent = {1, 1, 1, a->x.extent[3]},
                          .optional = true},
                         0};
  args[2] = (clt_nn_arg){&a->rms,
                         {.name = "args->rms",
                          .dtypes = CLT_NN_F32,
                          .extent = CLT_NN_ROWS(&a->x),
                          .optional = !backward,
                          .output = !backward},
                         0};
}

clattn_status clattn_nn_rms_norm(clattn_queue *queue,
                                 const clattn_nn_rms_norm_args *args,
                                 clattn_event *const *wait, size_t n_wait,
                                 clattn_event **event) {
  static const clt_kernel kernels[] = {CLT_K_NN_RMS_NORM};
  if (event) *event = NULL;
  CLT_TRY(clt_check_enqueue(queue, wait, n_wait));
  CLT_REQUIRE_STRUCT(args, clattn_nn_rms_norm_args);
  clt_nn_arg all[SHARED + 1];
  shared_args(args, false, all);
  all[SHARED] = (clt_nn_arg){&args->out,
                             {.name = "args->out",
                              .dtypes = CLT_NN_F32,
                              .extent = CLT_NN_LIKE(&args->x),
                              .output = true},
                             0};
  CLT_TRY(clt_nn_check(queue->device, all, SHARED + 1, false));
  CLT_REQUIRE(isfinite(args->eps) && args->eps > 0,
              "args->eps: got %g, want finite and > 0", (double)args->eps);
  const clt_nn_rms_norm_call call = {.args = args};
  return clt_nn_run(queue, kernels, 1, clt_nn_rms_norm_add, &call, wait, n_wait,
                    event);
}

clattn_status clattn_nn_rms_norm_backward(
    clattn_queue *queue, const clattn_nn_rms_norm_args *args,
    const clattn_tensor *d_out, const clattn_tensor *d_x,
    const clattn_tensor *d_weight, uint32_t accumulate,
    clattn_event *const *wait, size_t n_wait, clattn_event **event) {
  static const clt_kernel kernels[] = {CLT_K_NN_RMS_NORM_BACK,
                                       CLT_K_NN_COLUMN_SUMS};
  static const clattn_tensor none;
  if (event) *event = NULL;
  CLT_TRY(clt_check_enqueue(queue, wait, n_wait));
  CLT_REQUIRE_STRUCT(args, clattn_nn_rms_norm_args);
  CLT_REQUIRE_TENSOR(d_out);
  CLT_TRY(clt_accumulate_check(accumulate));
  const clt_nn_rms_norm_call call = {.args = args,
                                     .d_out = d_out,
                                     .d_x = d_x ? d_x : &none,
                                     .d_weight = d_weight ? d_weight : &none,
                                     .accumulate = accumulate};
  clt_nn_arg all[SHARED + 3];
  shared_args(args, true, all);
  all[SHARED] = (clt_nn_arg){
      d_out,
      {.name = "d_out", .dtypes = CLT_NN_F32, .extent = CLT_NN_LIKE(&args->x)},
      0};
  all[SHARED + 1] = (clt_nn_arg){call.d_x,
                                 {.name = "d_x",
                                  .dtypes = CLT_NN_F32,
                                  .extent = CLT_NN_LIKE(&args->x),
                                  .optional = true,
                                  .output = true},
                                 0};
  all[SHARED + 2] = (clt_nn_arg){call.d_weight,
                                 {.name = "d_weight",
                                  .dtypes = CLT_NN_F32,
                                  .extent = {1, 1, 1, args->x.extent[3]},
                                  .optional = true,
                                  .output = true},
                                 0};
  CLT_TRY(clt_nn_check(queue->device, all, SHARED + 3, false));
  return clt_nn_run(queue, kernels, 2, clt_nn_rms_norm_back_add, &call, wait,
                    n_wait, event);
}
