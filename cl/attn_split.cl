/* attn_split.cl - see attn_split.h. */
#include "attn_params.h"
#include "attn_split.h"

__kernel ONE_ITEM void attn_split(ATTN_PARAMS) {
  attn_split_group(&args, q, k, v, out, lse, mask, key_mask, bias, lengths,
                   starts, slopes, sinks, part, local_memory, GX, GY, GZ);
}

__kernel ONE_ITEM void attn_merge(ATTN_PARAMS) {
  attn_merge_group(&args, out, lse, sinks, part, local_memory, GX, GY, GZ);
}
