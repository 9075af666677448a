/* matmul.cl - see matmul.h and sums.h. */
#include "attn_params.h"
#include "matmul.h"
#include "sums.h"

__kernel ONE_ITEM void matmul(clt_matmul_args args, __global const float *a,
                              __global const float *b, __global float *c,
                              __global const float *bias,
                              __local float *local_memory) {
  matmul_group(&args, a, b, c, bias, local_memory, GX, GY, GZ);
}

__kernel ONE_ITEM void column_sums(clt_column_sums_args args,
                                   __global const float *from,
                                   __global float *to,
                                   __local float *local_memory) {
  column_sums_columns(&args, from, to, GX * LANES);
}
