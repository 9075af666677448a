/* add.c - addition of what may repeat, and its gradient. */
#include "nn.h"

clattn_status clattn_nn_add(clattn_queue *queue, const clattn_tensor *a,
                            const clattn_tensor *b, const clattn_tensor *out,
                            clattn_event *const *wait, size_t n_wait,
                            clattn_event **event) {
  if (event) *event = NULL;
  CLT_TRY(clt_check_enqueue(queue, wait, n_wait));
  CLT_REQUIRE_TENSOR(a);
  CLT_REQUIRE_TENSOR(b);
  CLT_REQUIRE_TENSOR(out);
  const clt_nn_arg args[] = {
      {a, {.name = "a", .dtypes = CLT_NN_F32, .extent = CLT_NN_ANY}, 0},
      {b,
       {.name = "b",
        .dtypes = CLT_NN_F32,
        .extent = CLT_NN_LIKE(a),
        .broadcast = {true, false, true, false}},
       0},
      {out,
       {.name = "out",
        .dtypes = CLT_NN_F32,
        .extent = CLT_NN_LIKE(a),
        .output = true},
       1}};
  CLT_TRY(clt_nn_check(queue->device, args, 3, true));
  const clt_nn_map_call call = {.op = CLT_NN_ADD, .a = a, .b = b, .out = out};
  return clt_nn_map_run(queue, &call, wait, n_wait, event);
}

typedef struct back_call {
  const clattn_tensor *d_out, *d_b;
  bool accumulate;
} back_call;

static void back_add(clt_work *work, bool tile, const void *call) {
  const back_call *c = call;
  clt_nn_column_sums(work, tile, c->d_out, c->d_b, NULL, c->accumulate);
}

clattn_status clattn_nn_add_backward(clattn_queue *queue,
                                     const clattn_tensor *d_out,
                                     const clattn_tensor *d_b,
                                     uint32_t accumulate,
                                     clattn_event *const *wait, size_t n_wait,
                                     clattn_event **event) {
  static const clt_kernel kernels[] = {CLT_K_NN_COLUMN_SUMS};
  if (event) *event = NULL;
  CLT_TRY(clt_check_enqueue(queue, wait, n_wait));
  CLT_REQUIRE_TENSOR(d_out);
  CLT_REQUIRE_TENSOR(d_b);
  CLT_TRY(clt_accumulate_check(accumulate));
  const clt_nn_arg args[] = {
      {d_out, {.name = "d_out", .dtypes = CLT_NN_F32, .extent = CLT_NN_ANY}, 0},
      {d_b,
       {.name = "d_b",
        .dtypes = CLT_NN_F32,
        .extent = CLT_NN_LIKE(d_out),
        .broadcast = {true, false, true, false},
        .output = true},
       0}};
  CLT_TRY(clt_nn_check(queue->device, args, 2, false));
  const back_call call = {d_out, d_b,
                          (accumulate & CLATTN_ADD_TO_WEIGHTS) != 0};
  return clt_nn_run(queue, kernels, 1, back_add, &call, wait, n_wait, event);
}
