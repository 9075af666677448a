/* attn_softmax.cl - see attn_softmax.h. */
#include "attn_params.h"
#include "attn_softmax.h"

__kernel ONE_ITEM void attn_softmax(ATTN_PARAMS) {
  attn_softmax_group(&args, lse, weights, mask, key_mask, bias, lengths, starts,
                     slopes, sinks, part, GX, GY, GZ);
}

__kernel ONE_ITEM void attn_average(ATTN_PARAMS) {
  attn_average_group(&args, weights, part, GX, GZ);
}
