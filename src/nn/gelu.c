/* gelu.c - GELU and its gradient. */
#include "nn.h"

static clattn_status check_kind(clattn_nn_gelu_kind kind) {
  CLT_REQUIRE(kind == CLATTN_NN_GELU_NONE || kind == CLATTN_NN_GELU_TANH,
              "kind: got %d, want CLATTN_NN_GELU_NONE (0) or "
              "CLATTN_NN_GELU_TANH (1)",
              (int)kind);
  return CLATTN_OK;
}

clattn_status clattn_nn_gelu(clattn_queue *queue, clattn_nn_gelu_kind kind,
                             const clattn_tensor *x, const clattn_tensor *out,
                             clattn_event *const *wait, size_t n_wait,
                             clattn_event **event) {
  if (event) *event = NULL;
  CLT_TRY(clt_check_enqueue(queue, wait, n_wait));
  CLT_TRY(check_kind(kind));
  CLT_REQUIRE_TENSOR(x);
  CLT_REQUIRE_TENSOR(out);
  const clt_nn_arg args[] = {
      {x, {.name = "x", .dtypes = CLT_NN_F32, .extent = CLT_NN_ANY}, 0},
      {out,
       {.name = "out",
        .dtypes = CLT_NN_F32,
        .extent = CLT_NN_LIKE(x),
        .output = true},
       1}};
  CLT_TRY(clt_nn_check(queue->device, args, 2, true));
  const clt_nn_map_call call = {
      .op = kind == CLATTN_NN_GELU_TANH ? CLT_NN_GELU_TANH : CLT_NN_GELU,
      .a = x,
      .out = out};
  return clt_nn_map_run(queue, &call, wait, n_wait, event);
}

clattn_status clattn_nn_gelu_backward(
    clattn_queue *queue, clattn_nn_gelu_kind kind, const clattn_tensor *x,
    const clattn_tensor *d_out, const clattn_tensor *d_x,
    clattn_event *const *wait, size_t n_wait, clattn_event **event) {
  if (event) *event = NULL;
  CLT_TRY(clt_check_enqueue(queue, wait, n_wait));
  CLT_TRY(check_kind(kind));
  CLT_REQUIRE_TENSOR(x);
  CLT_REQUIRE_TENSOR(d_out);
  CLT_REQUIRE_TENSOR(d_x);
  const clt_nn_arg args[] = {
      {x, {.name = "x", .dtypes = CLT_NN_F32, .extent = CLT_NN_ANY}, 0},
      {d_out,
       {.name = "d_out", .dtypes = CLT_NN_F32, .extent = CLT_NN_LIKE(x)},
       0},
      {d_x,
       {.name = "d_x",
        .dtypes = CLT_NN_F32,
        .extent = CLT_NN_LIKE(x),
        .output = true},
       2}};
  CLT_TRY(clt_nn_check(queue->device, args, 3, true));
  const clt_nn_map_call call = {.op = kind == CLATTN_NN_GELU_TANH
                                          ? CLT_NN_GELU_TANH_BACK
                                          : CLT_NN_GELU_BACK,
                                .a = x,
                                .b = d_out,
                                .out = d_x};
  return clt_nn_map_run(queue, &call, wait, n_wait, event);
}
