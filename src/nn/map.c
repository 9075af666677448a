/* map.c - element by element: fill, GELU, tanh, addition, SwiGLU. */
#include "nn.h"

void clt_nn_map_add(clt_work *work, bool tile, const void *call) {
  const clt_nn_map_call *c = call;
  clt_nn_step step = {.args = {.op = c->op, .value = c->value}};
  clt_nn_bind(&step, 0, c->a);
  clt_nn_bind(&step, 1, c->b);
  clt_nn_bind(&step, 2, c->out);
  clt_nn_bind(&step, 3, c->c);
  clt_nn_elements(&step, tile, c->out->extent);
  clt_nn_add_step(work, tile, CLT_K_NN_MAP, &step);
}

clattn_status clt_nn_map_run(clattn_queue *queue, const clt_nn_map_call *call,
                             clattn_event *const *wait, size_t n_wait,
                             clattn_event **event) {
  static const clt_kernel kernels[] = {CLT_K_NN_MAP};
  return clt_nn_run(queue, kernels, 1, clt_nn_map_add, call, wait, n_wait,
                    event);
}
