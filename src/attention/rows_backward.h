/* rows_backward.h - what the rows of backward for CPU-type devices and for GPUs
 * share: rows_backward.c, rows_backward_tile.c. */
#ifndef CLT_ROWS_BACKWARD_H
#define CLT_ROWS_BACKWARD_H

#include "plan.h"

/* The steps of the unfused path that differ. */
typedef struct clt_backward_steps {
  clt_kernel matmul;
  /* delta = sum of dO O over each row */
  void (*delta)(const clt_problem *problem, clt_work *work);
  /* P and dS from S and dP of the chunk */
  void (*scores)(const clt_problem *problem, clt_work *work);
  /* d_bias and d_sinks, from delta and, for the bias, the scores anew */
  void (*parameters)(const clt_problem *problem, clt_work *work);
} clt_backward_steps;

void clt_backward_unfused(const clt_problem *problem, clt_work *work,
                          const clt_backward_steps *steps);

/* A number a query row. */
size_t clt_backward_rows_of(const clt_attn_args *args);
/* n floats of scratch; returns their element offset. */
clt_i64 clt_backward_floats(clt_work *work, size_t n);
/* The factor of dQ and dK: by scores in natural units before the scale. */
float clt_backward_scale(const clt_attn_args *args);
/* The problem of attn_delta*: weights is dO. */
clt_problem clt_backward_delta(const clt_problem *problem);
/* Those of *_bias and *_sinks: out is dO, weights the gradient. */
clt_problem clt_backward_parameter(const clt_problem *problem,
                                   const clt_grad *grad);
/* d_q, d_k and d_v, where they are wanted, from scratch: SUM_PARTS or
 * SUM_PARTS_TILE. qk_ld, v_ld: between rows of dK and dV. */
void clt_backward_sums(const clt_problem *problem, clt_work *work,
                       clt_kernel kernel, int qk_ld, int v_ld);

/* rows_backward_tile.c */
size_t clt_backward_tile_local(const clt_device *device,
                               const clt_attn_args *args);
void clt_backward_tile_fused(const clt_problem *problem, clt_work *work);
void clt_backward_tile_unfused(const clt_problem *problem, clt_work *work);

#endif /* CLT_ROWS_BACKWARD_H */
