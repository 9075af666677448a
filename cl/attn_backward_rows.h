/* attn_backward_rows.h - what backward does row by row, for CPU-type devices and
 * GPUs alike: from entry `first` of a row in steps of `step`, which is 0 and LANES,
 * or a work-item of a group and their number.
 *
 * Contract (attn_delta_sum)            a share of delta[i] = sum_x dO[i][x] O[i][x];
 *                                      dO is where weights are
 * Contract (attn_sinks_sum)            a share of the gradient of head h's sink
 * Contract (attn_scores_backward_row)  row i of head gy and batch gz of the chunk:
 *                                      S in part becomes P (dropped), dP in d_s
 *                                      becomes dS */
#ifndef CLT_ATTN_BACKWARD_ROWS_H
#define CLT_ATTN_BACKWARD_ROWS_H
#include "score.h"

/* A row that sees nothing has O = 0, and its dO is not looked at. */
INLINE vf attn_delta_sum(const clt_attn_args *A, GLOBAL const float *out,
                         GLOBAL const float *d_out, int i, int h, int b,
                         int first, int step) {
  const clt_i64 o_at =
      A->out.offset + b * A->out.s[0] + h * A->out.s[1] + i * A->out.s[2];
  const clt_i64 d_at = A->weights.offset + b * A->weights.s[0] +
                       h * A->weights.s[1] + i * A->weights.s[2];
  vf sum = VSPLAT(0.0f);
  for (int x = first; x < A->v_dim; x += step) {
    const int n = MIN_OF(LANES, A->v_dim - x);
    const vf o = load_n(out, o_at + x * A->out.s[3], A->out.s[3], n, A->dtype);
    const vf d = load_n(d_out, d_at + x * A->weights.s[3], A->weights.s[3], n,
                        A->grad_dtype);
    sum = VSELECT(o == 0.0f, sum, VFMA(o, d, sum));
  }
  return sum;
}

INLINE clt_i64 attn_delta_at(const clt_attn_args *A, int i, int h, int b) {
  return A->delta + ((clt_i64)b * A->q_heads + h) * A->q_len + i;
}

INLINE vf attn_sinks_sum(const clt_attn_args *A, GLOBAL const float *lse,
                         GLOBAL const float *sinks, GLOBAL const float *part,
                         int h, int first, int step) {
  const float sink = score_sink(A, sinks, h);
  vf sum = VSPLAT(0.0f);
  for (int b = 0; b < A->batch; b++)
    for (int i = first; i < A->q_len; i += step) {
      const int n = MIN_OF(LANES, A->q_len - i);
      const vf delta = load_n(part, attn_delta_at(A, i, h, b), 1, n, CLT_F32);
      const vf l = score_lse2_v(load_n(
          lse,
          A->lse.offset + b * A->lse.s[0] + h * A->lse.s[1] + i * A->lse.s[2],
          A->lse.s[2], n, CLT_F32));
      const vf p = exp2_v(sink - l);
      const vi counts = (p != 0.0f) & (V_IOTA < VSPLAT_I(n));
      sum = VSELECT(counts, sum - p * delta, sum);
    }
  return sum;
}

/* weights: the gradient's view, [Hq] in s[1]. */
INLINE void attn_sinks_store(const clt_attn_args *A, GLOBAL float *d_sinks,
                             int h, float x) {
  const clt_i64 at = A->weights.offset + h * A->weights.s[1];
  if (A->grad_add) x += load_s(d_sinks, at, A->weights_dtype);
  store_s(d_sinks, at, A->weights_dtype, x);
}

INLINE void attn_scores_backward_row(
    const clt_attn_args *A, GLOBAL const float *lse, GLOBAL const clt_u8 *mask,
    GLOBAL const clt_u8 *key_mask, GLOBAL const float *bias,
    GLOBAL const int *lengths, GLOBAL const int *starts,
    GLOBAL const float *slopes, GLOBAL float *part, int i, int gy, int gz,
    int first, int step) {
  const int b = A->batch_first + gz, h = A->head_first + gy, T = A->kv_len;
  const int kv_length = score_kv_length(A, lengths, b);
  const vi p = VSPLAT_I(score_q_start(A, starts, b, kv_length) + i);
  const int masked = has_mask_bias(A);
  const float slope = score_slope(A, slopes, h);
  const clt_i64 at = (((clt_i64)gz * A->head_count + gy) * A->q_len + i) * T;
  const float top = score_lse2(
      lse[A->lse.offset + b * A->lse.s[0] + h * A->lse.s[1] + i * A->lse.s[2]]);
  const float delta = part[attn_delta_at(A, i, h, b)];
  vu row[2];
  drop_rows(A, b, h, VSPLAT_I(i), row);
  for (int t = first; t < T; t += step) {
    const int n = MIN_OF(LANES, T - t);
    const vi j = VSPLAT_I(t) + V_IOTA;
    vf cap = VSPLAT(1.0f), factor = VSPLAT(1.0f);
    vf x = load_n(part, A->part + at + t, 1, n, CLT_F32) * A->unit;
    if (A->softcap2 > 0.0f) {
      x = score_softcap(A, x);
      cap = score_softcap_slope(A, x);
    }
    if (A->has_slopes) x = score_alibi(x, slope, p, j);
    if (masked)
      x = score_add(x, mask_bias(A, mask, key_mask, bias, b, h, i, t, n));
    x = score_hide(x, score_sees(A, kv_length, p, j));
    if (drops(A)) factor = drop_factor(A, row, j);
    const vf w = exp2_v(x - top);
    const vf dp = load_n(part, A->d_s + at + t, 1, n, CLT_F32);
    const vf ds = w * (dp * factor - delta) * cap;
    store_n(part, A->part + at + t, 1, n, CLT_F32, w * factor);
    store_n(part, A->d_s + at + t, 1, n, CLT_F32, VSELECT(w == 0.0f, w, ds));
  }
}

#endif /* CLT_ATTN_BACKWARD_ROWS_H */
