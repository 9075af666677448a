/* attn_stats.cl - see attn_stats.h; attn_stats_sum adds the parts of the map up. */
#include "attn_params.h"
#include "attn_stats.h"
#include "sums.h"

__kernel ONE_ITEM void attn_stats(STATS_PARAMS) {
  attn_stats_group(&args, q, k, lse, mask, key_mask, bias, lengths, starts,
                   slopes, entropy, distance, top_weights, top_keys, map,
                   local_memory, GX, GY, GZ);
}

__kernel ONE_ITEM void attn_stats_sum(clt_sum_parts_args args,
                                      __global const float *from,
                                      __global float *to,
                                      __local float *local_memory) {
  const int first = GX * COPY_ROWS;
  for (int r = first; r < MIN_OF(first + COPY_ROWS, args.rows); r++)
    sum_parts_row(&args, from, to, r, GY, GZ, 0, LANES);
}
