/* attn_blocked.h - attention with its weights, for CPU-type devices: the scores of
 * a block of queries against all keys stay in local memory.
 *
 * Contract
 *   group   one block of BM queries of one (head, batch), one work-item, as
 *           attn_fused.h; grid x = ceil(Sq / BM), y = q_heads, z = batch;
 *           y = 1 for weights averaged over heads: a group does all heads
 *   memory  CLT_BLOCKED_LOCAL floats of local memory: BM x Skv scores
 *   reads   keys in [lo, hi) that some row of the block may see, no others
 *   writes  out, lse and weights (probabilities; averages in F32) of its rows
 *
 *              64 queries          The tiles are those of attn_fused.h. As all
 *            +------------+        scores of a row are there, softmax needs one
 *  keys      |            |        maximum and no rescaling, and P is written
 *  lo..hi    |  S^T, P^T  |        once, finished. The three kernels of the
 *            |            |        unfused path move S through memory four
 *            +------------+        times. */
#ifndef CLT_ATTN_BLOCKED_H
#define CLT_ATTN_BLOCKED_H
#include "attn_fused.h"

/* Weights of keys [from, to) = 0. */
COLD void blocked_zero(const clt_attn_args *A, GLOBAL float *weights,
                       clt_i64 at, int rows, int from, int to) {
  for (int r = 0; r < rows; r++)
    for (int t = from; t < to; t += LANES)
      store_n(weights, at + r * A->weights.s[2] + t * A->weights.s[3],
              A->weights.s[3], MIN_OF(LANES, to - t), A->weights_dtype,
              VSPLAT(0.0f));
}

INLINE void blocked_head(const clt_attn_args *A, GLOBAL const float *q,
                         GLOBAL const float *k, GLOBAL const float *v,
                         GLOBAL float *out, GLOBAL float *lse,
                         GLOBAL float *weights, GLOBAL const clt_u8 *mask,
                         GLOBAL const clt_u8 *key_mask,
                         GLOBAL const float *bias, GLOBAL const int *lengths,
                         GLOBAL const int *starts, GLOBAL const float *slopes,
                         GLOBAL const float *sinks, LOCAL float *local_memory,
                         int gx, int h, int b) {
  fused_block f;
  fused_begin(&f, A, q, lengths, starts, slopes, sinks, local_memory, gx, h, b);
  LOCAL float *s = fused_end_of(&f); /* [hi - lo][BM] */
  vf m[NV], one[NV];
  for (int i = 0; i < NV; i++) {
    m[i] = VSPLAT(f.sink);
    one[i] = VSPLAT(1.0f);
  }

  int lo, hi;
  score_range(A, f.kv_length, f.p0, f.p0 + f.rows - 1, &lo, &hi);
  for (int j0 = lo; j0 < hi; j0 += BN) {
    const int keys = MIN_OF(BN, hi - j0);
    const int whole =
        score_whole(A, f.kv_length, f.p0, f.p0 + f.rows - 1, j0, j0 + keys - 1);
    vf mx[NV];
    fused_scores(A, &f, k, mask, key_mask, bias, j0, keys, whole,
                 s + (j0 - lo) * BM, m, mx);
    for (int i = 0; i < f.nv; i++) m[i] = mx[i];
  }

  vf sum[NV], inverse[NV];
  for (int i = 0; i < f.nv; i++) {
    const vf top = finite_max_v(m[i]);
    vf add = exp2_v(VSPLAT(f.sink) - top); /* 0 without a sink */
    for (int t = 0; t < hi - lo; t++) {
      LOCAL float *at = s + t * BM + i * LANES;
      vf p = exp2_v(VLOAD(at) - top);
      VSTORE(p, at);
      add += p;
    }
    sum[i] = add;
  }
  fused_sums(A, &f, lse, m, sum, inverse);
  if (drops(A)) fused_drop(A, b, h, f.i0, f.nv, lo, hi - lo, s);

  if (A->weights_dtype != 0) {
    const int average = A->average_weights;
    const clt_i64 at = A->weights.offset + b * A->weights.s[0] +
                       (average ? 0 : h * A->weights.s[1]) +
                       f.i0 * A->weights.s[2];
    const clt_i64 first = at + lo * A->weights.s[3];
    vf scale[NV];
    for (int i = 0; i < f.nv; i++)
      scale[i] = average ? inverse[i] * (1.0f / (float)A->q_heads) : inverse[i];
    if (average && h > 0) {
      fused_store_transposed(1, &f, weights, first, A->weights.s[2],
                             A->weights.s[3], hi - lo, A->weights_dtype, s,
                             scale);
    } else { /* all heads see the same range of keys */
      blocked_zero(A, weights, at, f.rows, 0, lo);
      fused_store_transposed(0, &f, weights, first, A->weights.s[2],
                             A->weights.s[3], hi - lo, A->weights_dtype, s,
                             scale);
      blocked_zero(A, weights, at, f.rows, hi, A->kv_len);
    }
  }

  for (int j0 = lo; j0 < hi; j0 += BN) {
    const int keys = MIN_OF(BN, hi - j0);
    const int whole =
        score_whole(A, f.kv_length, f.p0, f.p0 + f.rows - 1, j0, j0 + keys - 1);
    fused_values(A, &f, v, j0, keys, whole, s + (j0 - lo) * BM, one);
  }
  fused_store_transposed(0, &f, out, fused_out_at(A, &f), A->out.s[2],
                         A->out.s[3], A->v_dim, A->dtype, f.ot, inverse);
}

INLINE void attn_blocked_group(
    const clt_attn_args *A, GLOBAL const float *q, GLOBAL const float *k,
    GLOBAL const float *v, GLOBAL float *out, GLOBAL float *lse,
    GLOBAL float *weights, GLOBAL const clt_u8 *mask,
    GLOBAL const clt_u8 *key_mask, GLOBAL const float *bias,
    GLOBAL const int *lengths, GLOBAL const int *starts,
    GLOBAL const float *slopes, GLOBAL const float *sinks,
    LOCAL float *local_memory, int gx, int gy, int b) {
  const int average = A->average_weights && A->weights_dtype != 0;
  for (int h = gy; h < (average ? A->q_heads : gy + 1); h++)
    blocked_head(A, q, k, v, out, lse, weights, mask, key_mask, bias, lengths,
                 starts, slopes, sinks, local_memory, gx, h, b);
}

#endif /* CLT_ATTN_BLOCKED_H */
