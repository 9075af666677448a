/* nn_tile.cl - nn.cl for GPUs: the same bodies, a work-item a unit.
 *
 * Contract
 *   group   a line of work-items in x, any number; they share nothing
 *
 *   elements and columns are dealt out one by one, so that neighbours read
 *   neighbours:   |0 1 2 .. 63|0 1 2 .. 63|0 1 2 .. */
#undef LANES
#define LANES 1
#include "nn_kernels.h"

#define X(name)                                                                \
  __kernel void nn_##name##_tile(NN_PARAMS) {                                  \
    NN_BUFFERS;                                                                \
    const clt_i64 u = (clt_i64)get_global_id(0);                               \
    if (u < args.units) nn_##name##_unit(&args, buf, u);                       \
  }
NN_KERNELS(X)
