/* nn_kernels.h - the kernels of nn.cl, their parameters and what they are told.
 * X(name): nn_NAME for CPUs, nn_NAME_tile for GPUs; the order of
 * CLT_KERNEL_MAP (src/backend.h). */
#ifndef CLT_NN_KERNELS_H
#define CLT_NN_KERNELS_H
#include "nn_elements.h"
#include "nn_rows.h"
#include "nn_sums.h"

#define NN_KERNELS(X)                                                          \
  X(map)                                                                       \
  X(adamw)                                                                     \
  X(layer_norm)                                                                \
  X(layer_norm_back)                                                           \
  X(rms_norm)                                                                  \
  X(rms_norm_back)                                                             \
  X(cross_entropy)                                                             \
  X(cross_entropy_back)                                                        \
  X(gather)                                                                    \
  X(scatter)                                                                   \
  X(column_sums)                                                               \
  X(norm_parts)                                                                \
  X(loss_parts)                                                                \
  X(fold)

#ifdef __OPENCL_C_VERSION__
#  define NN_PARAMS                                                            \
    clt_nn_args args, __global float *b0, __global float *b1,                  \
        __global float *b2, __global float *b3, __global float *b4,            \
        __global float *b5, __local float *local_memory
#  define NN_BUFFERS                                                           \
    __global float *const buf[CLT_NN_BUFFERS] = {b0, b1, b2, b3, b4, b5}
#endif

#endif /* CLT_NN_KERNELS_H */
