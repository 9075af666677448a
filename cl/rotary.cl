/* rotary.cl - see rotary.h. */
#include "attn_params.h"
#include "rotary.h"

__kernel ONE_ITEM void rotary(clt_rotary_args args, __global const float *x,
                              __global float *out,
                              __global const float *cosines,
                              __global const float *sines,
                              __global const int *ids,
                              __local float *local_memory) {
  rotary_group(&args, x, out, cosines, sines, ids, GX, GZ);
}
