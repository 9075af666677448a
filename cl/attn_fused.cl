/* attn_fused.cl - see attn_fused.h. */
#include "attn_params.h"
#include "attn_fused.h"

__kernel ONE_ITEM void attn_fused(ATTN_PARAMS) {
  attn_fused_group(&args, q, k, v, out, lse, mask, key_mask, bias, lengths,
                   starts, slopes, sinks, local_memory, GX, GY, GZ);
}
