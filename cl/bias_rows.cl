/* bias_rows.cl - C[b,h,m,:] = bias, which a BLAS product then adds to.
 *
 * Contract
 *   group   one row of C: x = row m, y = batch * heads + head; any size in x,
 *           whose work-items share the columns
 *   types   F32 only */
#include "args.h"

__kernel void bias_rows(clt_matmul_args args, __global float *c,
                        __global const float *bias) {
  const long m = get_group_id(0), b = get_group_id(1) / args.heads,
             h = get_group_id(1) % args.heads;
  const long row =
      args.c.offset + b * args.c.s[0] + h * args.c.s[1] + m * args.c.s[2];
  for (long n = get_local_id(0); n < args.n; n += get_local_size(0))
    c[row + n * args.c.s[3]] = bias[args.bias.offset + n * args.bias.s];
}
