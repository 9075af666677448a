/* attn_blocked.cl - see attn_blocked.h. */
#include "attn_params.h"
#include "attn_blocked.h"

__kernel ONE_ITEM void attn_blocked(ATTN_PARAMS) {
  attn_blocked_group(&args, q, k, v, out, lse, weights, mask, key_mask, bias,
                     lengths, starts, slopes, sinks, local_memory, GX, GY, GZ);
}
