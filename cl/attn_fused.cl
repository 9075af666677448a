/* attn_fused.cl - what plans of the fused path use on CPU-type devices: see
 * attn_fused.h and attn_split.h. One program, because loading one costs PoCL 20
 * ms even from its cache. */
#include "attn_params.h"
#include "attn_fused.h"
#include "attn_split.h"

__kernel ONE_ITEM void attn_fused(ATTN_PARAMS) {
  attn_fused_group(&args, q, k, v, out, lse, mask, key_mask, bias, lengths,
                   starts, slopes, sinks, local_memory, GX, GY, GZ);
}

__kernel ONE_ITEM void attn_split(ATTN_PARAMS) {
  attn_split_group(&args, q, k, v, out, lse, mask, key_mask, bias, lengths,
                   starts, slopes, sinks, part, local_memory, GX, GY, GZ);
}

__kernel ONE_ITEM void attn_merge(ATTN_PARAMS) {
  attn_merge_group(&args, out, lse, sinks, part, local_memory, GX, GY, GZ);
}
