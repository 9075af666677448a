/* attn_softmax_tile.cl - the middle of the unfused path, for GPUs: scores
 * become probabilities by the rules of score.h; the mean over heads. What part
 * holds and what the stages are: attn_softmax.h.
 *
 * Contract (attn_softmax_tile)
 *   group   a line of work-items in x, any power of two of them: row gx, head
 *           gy of the chunk, batch gz of it
 *   memory  one float a work-item of local memory
 *   writes  part, lse, and weights at the stage asked for (unless averaged)
 * Contract (attn_average_tile)
 *   group   a line of work-items in x, any number: row gx, batch gz of the
 *           chunk
 *   writes  average[batch][Sq][Skv] (+)= sum over the chunk's heads of P; with
 *           the last head, weights = average / q_heads
 *
 *   row gx of part   |0 1 2 .. 63|0 1 2 .. 63|0 1 2 ..
 *
 * Work-items stride through the row three times: rules and maximum, exp and
 * sum, division. Each meets only what it wrote itself, so that nothing but the
 * maximum and the sum is exchanged. */
#undef LANES
#define LANES 1
#include "attn_params.h"
#include "attn_softmax.h"

#define ITEM ((int)get_local_id(0))
#define ITEMS ((int)get_local_size(0))
#define SYNC barrier(CLK_LOCAL_MEM_FENCE)

/* The sum, or the maximum, of x over the group's work-items. */
INLINE float softmax_reduce(LOCAL float *red, float x, const int maximum) {
  SYNC;
  red[ITEM] = x;
  for (int n = ITEMS / 2; n > 0; n /= 2) {
    SYNC;
    if (ITEM < n)
      red[ITEM] =
          maximum ? VMAX(red[ITEM], red[ITEM + n]) : red[ITEM] + red[ITEM + n];
  }
  SYNC;
  return red[0];
}

__kernel void attn_softmax_tile(ATTN_PARAMS) {
  const clt_attn_args *A = &args;
  const int i = GX, b = A->batch_first + GZ, h = A->head_first + GY;
  const int kv_length = score_kv_length(A, lengths, b);
  const int p = score_q_start(A, starts, b, kv_length) + i;
  const int masked = has_mask_bias(A), T = A->kv_len;
  const float slope = score_slope(A, slopes, h), natural = 1.0f / A->unit;
  const float sink = score_sink(A, sinks, h);
  const int stage =
      A->weights_dtype && !A->average_weights ? A->weights_stage : -1;
  const clt_i64 w_at = A->weights.offset + b * A->weights.s[0] +
                       h * A->weights.s[1] + i * A->weights.s[2];
  GLOBAL float *s =
      part + A->part + (((clt_i64)GZ * A->head_count + GY) * A->q_len + i) * T;

  float mx = sink;
  for (int t = ITEM; t < T; t += ITEMS) {
    const clt_i64 w = w_at + t * A->weights.s[3];
    float x = s[t];
    if (stage == STAGE_SCORES) store_s(weights, w, A->weights_dtype, x);
    x *= A->unit;
    if (A->softcap2 > 0.0f) x = score_softcap(A, x);
    if (stage == STAGE_CAPPED)
      store_s(weights, w, A->weights_dtype, x * natural);
    if (A->has_slopes) x = score_alibi(x, slope, p, t);
    if (masked)
      x = score_add(x, mask_bias(A, mask, key_mask, bias, b, h, i, t, 1));
    x = score_hide(x, score_sees(A, kv_length, p, t));
    if (stage == STAGE_BIASED)
      store_s(weights, w, A->weights_dtype, x * natural);
    mx = VMAX(mx, x);
    s[t] = x;
  }
  const float m = softmax_reduce(local_memory, mx, 1), top = finite_max(m);

  float add = ITEM == 0 ? exp2_v(sink - top) : 0.0f;
  for (int t = ITEM; t < T; t += ITEMS) {
    const float e = exp2_v(s[t] - top);
    s[t] = e;
    add += e;
  }
  const float sum = softmax_reduce(local_memory, add, 0);
  const float scale = row_inverse(sum);
  vu row[2];
  drop_rows(A, b, h, i, row);
  for (int t = ITEM; t < T; t += ITEMS) {
    const float drop = drops(A) ? drop_factor(A, row, t) : 1.0f;
    const float e = s[t] * scale * drop;
    s[t] = e;
    if (stage == STAGE_PROBABILITIES)
      store_s(weights, w_at + t * A->weights.s[3], A->weights_dtype, e);
  }
  if (A->has_lse && ITEM == 0)
    lse[A->lse.offset + b * A->lse.s[0] + h * A->lse.s[1] + i * A->lse.s[2]] =
        row_lse(m, sum);
}

__kernel void attn_average_tile(ATTN_PARAMS) {
  const clt_attn_args *A = &args;
  const int i = GX, b = A->batch_first + GZ, T = A->kv_len;
  const int begins = A->head_first == 0;
  const int ends = A->head_first + A->head_count == A->q_heads;
  const float scale = 1.0f / (float)A->q_heads;
  GLOBAL float *mean = part + A->average + ((clt_i64)GZ * A->q_len + i) * T;
  const clt_i64 w_at =
      A->weights.offset + b * A->weights.s[0] + i * A->weights.s[2];
  for (int t = ITEM; t < T; t += ITEMS) {
    float x = begins ? 0.0f : mean[t];
    for (int head = 0; head < A->head_count; head++)
      x += part[A->part +
                (((clt_i64)GZ * A->head_count + head) * A->q_len + i) * T + t];
    if (ends)
      store_s(weights, w_at + t * A->weights.s[3], A->weights_dtype, x * scale);
    else
      mean[t] = x;
  }
}
