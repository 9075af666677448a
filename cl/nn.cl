/* nn.cl - layers and optimizer: nn_elements.h, nn_rows.h, nn_sums.h.
 *
 * Contract
 *   group   one work-item, unit gx of the work */
#include "attn_params.h"
#include "nn_kernels.h"

#define X(name)                                                                \
  __kernel ONE_ITEM void nn_##name(NN_PARAMS) {                                \
    NN_BUFFERS;                                                                \
    nn_##name##_unit(&args, buf, (clt_i64)get_group_id(0));                    \
  }
NN_KERNELS(X)
