/* attn_backward.cl - gradients on CPU-type devices: see attn_backward.h and
 * sums.h. One program, because loading one costs PoCL 20 ms. */
#include "attn_params.h"
#include "attn_backward.h"
#include "sums.h"

__kernel ONE_ITEM void attn_delta(ATTN_PARAMS) {
  attn_delta_group(&args, out, weights, part, GX, GY, GZ);
}

/* out is the gradient of the output. */
__kernel ONE_ITEM void attn_backward(ATTN_PARAMS) {
  attn_backward_group(&args, q, k, v, out, lse, mask, key_mask, bias, lengths,
                      starts, slopes, sinks, part, local_memory, GX, GY, GZ);
}

/* out is the gradient of the output, weights that of the bias. */
__kernel ONE_ITEM void attn_backward_bias(ATTN_PARAMS) {
  attn_backward_bias_group(&args, q, k, v, out, lse, weights, mask, key_mask,
                           bias, lengths, starts, slopes, sinks, part,
                           local_memory, GX, GY, GZ);
}

/* weights is the gradient of the sinks. */
__kernel ONE_ITEM void attn_backward_sinks(ATTN_PARAMS) {
  attn_backward_sinks_group(&args, lse, weights, sinks, part, GX);
}

__kernel ONE_ITEM void attn_scores_backward(ATTN_PARAMS) {
  for (int i = GX * SOFTMAX_ROWS;
       i < MIN_OF((GX + 1) * SOFTMAX_ROWS, args.q_len); i++)
    attn_scores_backward_row(&args, lse, mask, key_mask, bias, lengths, starts,
                             slopes, part, i, GY, GZ, 0, LANES);
}

__kernel ONE_ITEM void sum_parts(clt_sum_parts_args args,
                                 __global const float *from, __global float *to,
                                 __local float *local_memory) {
  for (int r = GX * COPY_ROWS; r < MIN_OF((GX + 1) * COPY_ROWS, args.rows); r++)
    sum_parts_row(&args, from, to, r, GY, GZ, 0, LANES);
}
