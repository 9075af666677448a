/* tanh.c - tanh and its gradient. */
#include "nn.h"

clattn_status clattn_nn_tanh(clattn_queue *queue, const clattn_tensor *x,
                             const clattn_tensor *out,
                             clattn_event *const *wait, size_t n_wait,
                             clattn_event **event) {
  if (event) *event = NULL;
  CLT_TRY(clt_check_enqueue(queue, wait, n_wait));
  CLT_REQUIRE_TENSOR(x);
  CLT_REQUIRE_TENSOR(out);
  const clt_nn_arg args[] = {CLT_NN_INPUT(x, CLT_NN_ANY),
                             CLT_NN_OUTPUT(out, CLT_NN_LIKE(x), 1)};
  CLT_TRY(clt_nn_check(queue->device, args, 2, true));
  const clt_nn_map_call call = {.op = CLT_NN_TANH, .a = x, .out = out};
  return clt_nn_map_run(queue, &call, wait, n_wait, event);
}

clattn_status clattn_nn_tanh_backward(clattn_queue *queue,
                                      const clattn_tensor *out,
                                      const clattn_tensor *d_out,
                                      const clattn_tensor *d_x,
                                      clattn_event *const *wait, size_t n_wait,
                                      clattn_event **event) {
  if (event) *event = NULL;
  CLT_TRY(clt_check_enqueue(queue, wait, n_wait));
  CLT_REQUIRE_TENSOR(out);
  CLT_REQUIRE_TENSOR(d_out);
  CLT_REQUIRE_TENSOR(d_x);
  const clt_nn_arg args[] = {CLT_NN_INPUT(out, CLT_NN_ANY),
                             CLT_NN_INPUT(d_out, CLT_NN_LIKE(out)),
                             CLT_NN_OUTPUT(d_x, CLT_NN_LIKE(out), 2)};
  CLT_TRY(clt_nn_check(queue->device, args, 3, true));
  const clt_nn_map_call call = {
      .op = CLT_NN_TANH_BACK, .a = out, .b = d_out, .out = d_x};
  return clt_nn_map_run(queue, &call, wait, n_wait, event);
}
