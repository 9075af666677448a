/* attn_softmax.h - the middle of the unfused path, for CPU-type devices: scores
 * become probabilities by the rules of score.h; the mean over heads.
 *
 * part holds scale * Q K^T as [batch_count][head_count][Sq][Skv] fp32, from
 * matmul, for batches batch_first.. and heads head_first.. ; it is replaced by P.
 *
 * Contract (attn_softmax)
 *   group   SOFTMAX_ROWS rows from gx, head gy of the chunk, batch gz of it
 *   writes  part, lse, and weights at the stage asked for (unless averaged)
 * Contract (attn_average)
 *   group   SOFTMAX_ROWS rows from gx, batch gz of the chunk
 *   writes  average[batch][Sq][Skv] (+)= sum over the chunk's heads of P; with
 *           the last head, weights = average / q_heads */
#ifndef CLT_ATTN_SOFTMAX_H
#define CLT_ATTN_SOFTMAX_H
#include "score.h"
#include "shape.h"

/* clattn_weights_stage */
#define STAGE_PROBABILITIES 0
#define STAGE_SCORES 1
#define STAGE_CAPPED 2
#define STAGE_BIASED 3

INLINE void attn_softmax_group(
    const clt_attn_args *A, GLOBAL float *lse, GLOBAL float *weights,
    GLOBAL const clt_u8 *mask, GLOBAL const clt_u8 *key_mask,
    GLOBAL const float *bias, GLOBAL const int *lengths,
    GLOBAL const int *starts, GLOBAL const float *slopes,
    GLOBAL const float *sinks, GLOBAL float *part, int gx, int gy, int gz) {
  const int b = A->batch_first + gz, h = A->head_first + gy;
  const int kv_length = score_kv_length(A, lengths, b);
  const int q_start = score_q_start(A, starts, b, kv_length);
  const int masked = has_mask_bias(A), T = A->kv_len;
  const float slope = score_slope(A, slopes, h), natural = 1.0f / A->unit;
  const float sink = score_sink(A, sinks, h);
  const int stage =
      A->weights_dtype && !A->average_weights ? A->weights_stage : -1;
  for (int i = gx * SOFTMAX_ROWS; i < MIN_OF((gx + 1) * SOFTMAX_ROWS, A->q_len);
       i++) {
    GLOBAL float *s = part + A->part +
                      (((clt_i64)gz * A->head_count + gy) * A->q_len + i) * T;
    const clt_i64 w_at = A->weights.offset + b * A->weights.s[0] +
                         h * A->weights.s[1] + i * A->weights.s[2];
    const clt_i64 w_s = A->weights.s[3];
    const vi p = VSPLAT_I(q_start + i);

    vf mx = VSPLAT(sink);
    for (int t = 0; t < T; t += LANES) {
      const int n = MIN_OF(LANES, T - t);
      const vi j = VSPLAT_I(t) + V_IOTA;
      vf x = load_n(s, t, 1, n, CLT_F32);
      if (stage == STAGE_SCORES)
        store_n(weights, w_at + t * w_s, w_s, n, A->weights_dtype, x);
      x = x * A->unit;
      if (A->softcap2 > 0.0f) x = score_softcap(A, x);
      if (stage == STAGE_CAPPED)
        store_n(weights, w_at + t * w_s, w_s, n, A->weights_dtype, x * natural);
      if (A->has_slopes) x = score_alibi(x, slope, p, j);
      if (masked)
        x = score_add(x, mask_bias(A, mask, key_mask, bias, b, h, i, t, n));
      x = score_hide(x, score_sees(A, kv_length, p, j));
      if (stage == STAGE_BIASED)
        store_n(weights, w_at + t * w_s, w_s, n, A->weights_dtype, x * natural);
      mx = VMAX(mx, x); /* keys past the end are hidden: j >= kv_length */
      store_n(s, t, 1, n, CLT_F32, x);
    }

    const float m = vmax_of(mx), top = finite_max(m);
    vf add = VSPLAT(0.0f);
    for (int t = 0; t < T; t += LANES) {
      const int n = MIN_OF(LANES, T - t);
      vf x = load_n(s, t, 1, n, CLT_F32);
      vf e = exp2_v(x - top);
      if (n < LANES) e = VSELECT(V_IOTA < VSPLAT_I(n), e, VSPLAT(0.0f));
      store_n(s, t, 1, n, CLT_F32, e);
      add += e;
    }
    const float sum = vsum(add) + exp2_s(sink - top);
    const float scale = row_inverse(sum);
    vu row[2];
    drop_rows(A, b, h, VSPLAT_I(i), row);
    for (int t = 0; t < T; t += LANES) {
      const int n = MIN_OF(LANES, T - t);
      vf e = load_n(s, t, 1, n, CLT_F32) * scale;
      if (drops(A)) e = e * drop_factor(A, row, VSPLAT_I(t) + V_IOTA);
      store_n(s, t, 1, n, CLT_F32, e);
      if (stage == STAGE_PROBABILITIES)
        store_n(weights, w_at + t * w_s, w_s, n, A->weights_dtype, e);
    }
    if (A->has_lse)
      lse[A->lse.offset + b * A->lse.s[0] + h * A->lse.s[1] + i * A->lse.s[2]] =
          row_lse(m, sum);
  }
}

INLINE void attn_average_group(const clt_attn_args *A, GLOBAL float *weights,
                               GLOBAL float *part, int gx, int gz) {
  const int b = A->batch_first + gz, T = A->kv_len;
  const int begins = A->head_first == 0;
  const int ends = A->head_first + A->head_count == A->q_heads;
  const float scale = 1.0f / (float)A->q_heads;
  for (int i = gx * SOFTMAX_ROWS; i < MIN_OF((gx + 1) * SOFTMAX_ROWS, A->q_len);
       i++) {
    GLOBAL float *mean = part + A->average + ((clt_i64)gz * A->q_len + i) * T;
    const clt_i64 w_at =
        A->weights.offset + b * A->weights.s[0] + i * A->weights.s[2];
    for (int t = 0; t < T; t += LANES) {
      const int n = MIN_OF(LANES, T - t);
      vf x = begins ? VSPLAT(0.0f) : load_n(mean, t, 1, n, CLT_F32);
      for (int h = 0; h < A->head_count; h++)
        x += load_n(part + A->part +
                        (((clt_i64)gz * A->head_count + h) * A->q_len + i) * T,
                    t, 1, n, CLT_F32);
      if (ends)
        store_n(weights, w_at + t * A->weights.s[3], A->weights.s[3], n,
                A->weights_dtype, x * scale);
      else
        store_n(mean, t, 1, n, CLT_F32, x);
    }
  }
}

#endif /* CLT_ATTN_SOFTMAX_H */
