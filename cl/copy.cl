/* copy.cl - see copy.h. */
#include "attn_params.h"
#include "copy.h"

__kernel ONE_ITEM void copy_rows(clt_copy_args args, __global const float *src,
                                 __global float *dst,
                                 __local float *local_memory) {
  copy_rows_group(&args, src, dst, GX, GY, GZ);
}

__kernel ONE_ITEM void set_i32(clt_set_args args, __global int *dst,
                               __local float *local_memory) {
  set_i32_group(&args, dst);
}
