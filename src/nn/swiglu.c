/* swiglu.c - SwiGLU and its gradients. */
#include "nn.h"

clattn_status clattn_nn_swiglu(clattn_queue *queue, const clattn_tensor *gate,
                               const clattn_tensor *up,
                               const clattn_tensor *out,
                               clattn_event *const *wait, size_t n_wait,
                               clattn_event **event) {
  if (event) *event = NULL;
  CLT_TRY(clt_check_enqueue(queue, wait, n_wait));
  CLT_REQUIRE_TENSOR(gate);
  CLT_REQUIRE_TENSOR(up);
  CLT_REQUIRE_TENSOR(out);
  const clt_nn_arg args[] = {CLT_NN_INPUT(gate, CLT_NN_ANY),
                             CLT_NN_INPUT(up, CLT_NN_LIKE(gate)),
                             CLT_NN_OUTPUT(out, CLT_NN_LIKE(gate), 1)};
  CLT_TRY(clt_nn_check(queue->device, args, 3, true));
  const clt_nn_map_call call = {
      .op = CLT_NN_SWIGLU, .a = gate, .b = up, .out = out};
  return clt_nn_map_run(queue, &call, wait, n_wait, event);
}

typedef struct back_call {
  const clattn_tensor *gate, *up, *d_out, *d_gate, *d_up;
} back_call;

/* d_up is SwiGLU itself with d_out in place of up. */
static void back_add(clt_work *work, bool tile, const void *call) {
  const back_call *c = call;
  const clt_nn_map_call up = {
      .op = CLT_NN_SWIGLU, .a = c->gate, .b = c->d_out, .out = c->d_up};
  const clt_nn_map_call gate = {.op = CLT_NN_SWIGLU_BACK,
                                .a = c->gate,
                                .b = c->up,
                                .c = c->d_out,
                                .out = c->d_gate};
  if (c->d_up->buffer) clt_nn_map_add(work, tile, &up);
  if (c->d_gate->buffer) clt_nn_map_add(work, tile, &gate);
}

clattn_status clattn_nn_swiglu_backward(
    clattn_queue *queue, const clattn_tensor *gate, const clattn_tensor *up,
    const clattn_tensor *d_out, const clattn_tensor *d_gate,
    const clattn_tensor *d_up, clattn_event *const *wait, size_t n_wait,
    clattn_event **event) {
  static const clt_kernel kernels[] = {CLT_K_NN_MAP};
  static const clattn_tensor none;
  if (event) *event = NULL;
  CLT_TRY(clt_check_enqueue(queue, wait, n_wait));
  CLT_REQUIRE_TENSOR(gate);
  CLT_REQUIRE_TENSOR(up);
  CLT_REQUIRE_TENSOR(d_out);
  if (!d_gate) d_gate = &none;
  if (!d_up) d_up = &none;
  clt_nn_arg args[] = {CLT_NN_INPUT(gate, CLT_NN_ANY),
                       CLT_NN_INPUT(up, CLT_NN_LIKE(gate)),
                       CLT_NN_INPUT(d_out, CLT_NN_LIKE(gate)),
                       CLT_NN_OUTPUT(d_gate, CLT_NN_LIKE(gate), 0),
                       CLT_NN_OUTPUT(d_up, CLT_NN_LIKE(gate), 0)};
  args[3].want.optional = args[4].want.optional = true;
  CLT_TRY(clt_nn_check(queue->device, args, 5, true));
  const back_call call = {gate, up, d_out, d_gate, d_up};
  return clt_nn_run(queue, kernels, 1, back_add, &call, wait, n_wait, event);
}
