/* attn_split.h - fused attention for few queries against many keys, for CPU-type
 * devices: lanes are head dimensions, keys are split over groups.
 *
 * Contract (attn_split)
 *   group   split gx of the keys; gy = (key head, chunk of SPLIT_ROWS rows);
 *           gz = batch. The rows of a key head are its group * Sq pairs
 *           (query head, query row): all share one pass over K and V.
 *   memory  CLT_SPLIT_LOCAL floats of local memory
 *   writes  n_splits > 1: part[b][h][i][split][Dv + 2] = O, maximum, sum
 *           n_splits = 1: out and lse
 * Contract (attn_merge)
 *   group   one row: gx = query row, gy = query head, gz = batch
 *   writes  out and lse from the parts, combined as
 *             m = max m_s, O = sum_s 2^(m_s - m) O_s / sum_s 2^(m_s - m) sum_s
 *           (flash decoding, Dao et al. 2023). The sink joins here. */
#ifndef CLT_ATTN_SPLIT_H
#define CLT_ATTN_SPLIT_H
#include "dot.h"
#include "score.h"
#include "shape.h"

#define SPLIT_ROWS SPLIT_ROWS_OF(BM)

/* Stores a row: O scaled and converted, and its log-sum-exp. */
COLD void split_store(const clt_attn_args *A, GLOBAL float *out,
                      GLOBAL float *lse, LOCAL const float *o, int b, int h,
                      int i, float m, float sum) {
  const clt_i64 at =
      A->out.offset + b * A->out.s[0] + h * A->out.s[1] + i * A->out.s[2];
  const float scale = row_inverse(sum);
  for (int x = 0; x < A->v_dim; x += LANES)
    store_n(out, at + x * A->out.s[3], A->out.s[3], MIN_OF(LANES, A->v_dim - x),
            A->dtype, VLOAD(o + x) * scale);
  if (A->has_lse)
    lse[A->lse.offset + b * A->lse.s[0] + h * A->lse.s[1] + i * A->lse.s[2]] =
        row_lse(m, sum);
}

/* Values are read in the order in which they lie: a few keys at a time, each key's
 * columns together, for as many vectors as registers hold accumulators (16 with
 * vectors of 16, else 8). */
#define PV_KEYS 4
#define PV_AHEAD 32

/* o[r][x..] += sum_t p[r][t] v[t][x..] for V vectors of columns. A macro, because
 * PoCL keeps accumulators in registers only if their number is written into the
 * loops. dtype is a literal, too. */
#define SPLIT_PV_TILE(NAME, ROWS, V)                                           \
  INLINE void NAME(const int dtype, LOCAL float *o, int ldo,                   \
                   LOCAL const float *p, GLOBAL const float *v, clt_i64 at,    \
                   clt_i64 row_stride, int keys) {                             \
    vf c[ROWS][V];                                                             \
    UNROLL                                                                     \
    for (int r = 0; r < ROWS; r++) {                                           \
      UNROLL                                                                   \
      for (int x = 0; x < V; x++) c[r][x] = VLOAD(o + r * ldo + x * LANES);    \
    }                                                                          \
    NOUNROLL                                                                   \
    for (int t = 0; t < keys; t++) {                                           \
      vf w[ROWS];                                                              \
      UNROLL                                                                   \
      for (int r = 0; r < ROWS; r++) w[r] = VSPLAT(p[r * SPLIT_KEYS + t]);     \
      UNROLL                                                                   \
      for (int x = 0; x < V; x++) {                                            \
        vf y = load_v(v, at + t * row_stride + x * LANES, dtype);              \
        UNROLL                                                                 \
        for (int r = 0; r < ROWS; r++) c[r][x] = VFMA(w[r], y, c[r][x]);       \
      }                                                                        \
    }                                                                          \
    UNROLL                                                                     \
    for (int r = 0; r < ROWS; r++) {                                           \
      UNROLL                                                                   \
      for (int x = 0; x < V; x++) VSTORE(c[r][x], o + r * ldo + x * LANES);    \
    }                                                                          \
  }
SPLIT_PV_TILE(split_pv_1_8, 1, 8)
SPLIT_PV_TILE(split_pv_1_4, 1, 4)
SPLIT_PV_TILE(split_pv_1_1, 1, 1)
#if LANES >= 16
SPLIT_PV_TILE(split_pv_2_8, 2, 8)
#endif
SPLIT_PV_TILE(split_pv_2_4, 2, 4)
SPLIT_PV_TILE(split_pv_2_1, 2, 1)

/* The same for all whole vectors of columns. */
INLINE void split_pv_1(const int dtype, LOCAL float *o, int ldo,
                       LOCAL const float *p, GLOBAL const float *v, clt_i64 at,
                       clt_i64 row_stride, int cols, int keys) {
  int x = 0;
  for (; x + 8 * LANES <= cols; x += 8 * LANES)
    split_pv_1_8(dtype, o + x, ldo, p, v, at + x, row_stride, keys);
  for (; x + 4 * LANES <= cols; x += 4 * LANES)
    split_pv_1_4(dtype, o + x, ldo, p, v, at + x, row_stride, keys);
  for (; x + LANES <= cols; x += LANES)
    split_pv_1_1(dtype, o + x, ldo, p, v, at + x, row_stride, keys);
}
INLINE void split_pv_2(const int dtype, LOCAL float *o, int ldo,
                       LOCAL const float *p, GLOBAL const float *v, clt_i64 at,
                       clt_i64 row_stride, int cols, int keys) {
  int x = 0;
#if LANES >= 16
  for (; x + 8 * LANES <= cols; x += 8 * LANES)
    split_pv_2_8(dtype, o + x, ldo, p, v, at + x, row_stride, keys);
#endif
  for (; x + 4 * LANES <= cols; x += 4 * LANES)
    split_pv_2_4(dtype, o + x, ldo, p, v, at + x, row_stride, keys);
  for (; x + LANES <= cols; x += LANES)
    split_pv_2_1(dtype, o + x, ldo, p, v, at + x, row_stride, keys);
}

/* The same for all rows of the group. */
INLINE void split_pv(const int dtype, int rows, LOCAL float *o, int ldo,
                     LOCAL const float *p, GLOBAL const float *v, clt_i64 at,
                     clt_i64 row_stride, int cols, int keys) {
  if (rows == 1) {
    split_pv_1(dtype, o, ldo, p, v, at, row_stride, cols, keys);
    return;
  }
  for (int t = 0; t < keys; t += PV_KEYS) {
    const int n = MIN_OF(PV_KEYS, keys - t);
    for (int i = 0; i < n; i++)
      prefetch_row(v, at + (t + i + PV_AHEAD) * row_stride, cols, dtype);
    for (int r = 0; r < rows; r += 2)
      split_pv_2(dtype, o + r * ldo, ldo, p + r * SPLIT_KEYS + t, v,
                 at + t * row_stride, row_stride, cols, n);
  }
}

/* The same for whatever is not a whole vector of columns that lie side by side,
 * and for hidden keys: terms with p = 0 are left out (their value may be NaN). */
COLD void split_pv_guarded(int rows, LOCAL float *o, int ldo,
                           LOCAL const float *p, GLOBAL const float *v,
                           clt_i64 at, clt_i64 row_stride, clt_i64 col_stride,
                           int cols, int keys, int dtype) {
  for (int t = 0; t < keys; t++)
    for (int x = 0; x < cols; x += LANES) {
      const clt_i64 from = at + t * row_stride + x * col_stride;
      vf y = col_stride == 1 && x + LANES <= cols
                 ? load_v(v, from, dtype)
                 : load_n(v, from, col_stride, MIN_OF(LANES, cols - x), dtype);
      for (int r = 0; r < rows; r++) {
        float w = p[r * SPLIT_KEYS + t];
        if (w != 0.0f)
          VSTORE(VFMA(VSPLAT(w), y, VLOAD(o + r * ldo + x)), o + r * ldo + x);
      }
    }
}

/* Dropout on the weights p of keys j0 .. j0 + width - 1 of row i. */
COLD void split_drop(const clt_attn_args *A, int b, int h, int i, int j0,
                     int width, LOCAL float *p) {
  vu row[2];
  drop_rows(A, b, h, VSPLAT_I(i), row);
  for (int t = 0; t < width; t += LANES)
    VSTORE(VLOAD(p + t) * drop_factor(A, row, VSPLAT_I(j0 + t) + V_IOTA),
           p + t);
}

INLINE void attn_split_group(
    const clt_attn_args *A, GLOBAL const float *q, GLOBAL const float *k,
    GLOBAL const float *v, GLOBAL float *out, GLOBAL float *lse,
    GLOBAL const clt_u8 *mask, GLOBAL const clt_u8 *key_mask,
    GLOBAL const float *bias, GLOBAL const int *lengths,
    GLOBAL const int *starts, GLOBAL const float *slopes,
    GLOBAL const float *sinks, GLOBAL float *part, LOCAL float *local_memory,
    int split, int gy, int b) {
  const int D = A->qk_dim, Dv = A->v_dim;
  const int Dp = CLT_PAD(D, LANES), Op = CLT_PAD(Dv, LANES);
  const int all_rows = A->group * A->q_len;
  const int chunks = (all_rows + SPLIT_ROWS - 1) / SPLIT_ROWS;
  const int g = gy / chunks, r0 = (gy % chunks) * SPLIT_ROWS;
  const int rows = MIN_OF(SPLIT_ROWS, all_rows - r0);
  const int read = rows <= 2 ? rows : CLT_PAD(rows, 4); /* as dot_rows does */
  const int kv_length = score_kv_length(A, lengths, b);
  const int q_start = score_q_start(A, starts, b, kv_length);
  const int masked = has_mask_bias(A);

  LOCAL float *qs = local_memory;        /* [SPLIT_ROWS][Dp] */
  LOCAL float *o = qs + SPLIT_ROWS * Dp; /* [SPLIT_ROWS][Op] */
  LOCAL float *s = o + SPLIT_ROWS * Op;  /* [SPLIT_ROWS][SPLIT_KEYS] */

  /* Rows r0.. : head g*group + r / Sq, query r % Sq. Unused rows are 0. */
  int head[SPLIT_ROWS], row[SPLIT_ROWS];
  float m[SPLIT_ROWS], sum[SPLIT_ROWS], slope[SPLIT_ROWS];
  int first = A->q_len - 1, last = 0;
  for (int r = 0; r < read; r++) {
    const int at = MIN_OF(r0 + r, all_rows - 1);
    head[r] = g * A->group + at / A->q_len;
    row[r] = at % A->q_len;
    first = MIN_OF(first, row[r]);
    last = MAX_OF(last, row[r]);
    m[r] = MINUS_INF;
    sum[r] = 0.0f;
    slope[r] = score_slope(A, slopes, head[r]);
    const clt_i64 from =
        A->q.offset + b * A->q.s[0] + head[r] * A->q.s[1] + row[r] * A->q.s[2];
    for (int x = 0; x < Dp; x += LANES)
      VSTORE(r < rows ? load_n(q, from + x * A->q.s[3], A->q.s[3],
                               MIN_OF(LANES, D - x), A->dtype) *
                            A->scale2
                      : VSPLAT(0.0f),
             qs + r * Dp + x);
    for (int x = 0; x < Op; x += LANES) VSTORE(VSPLAT(0.0f), o + r * Op + x);
  }

  int lo, hi;
  score_range(A, kv_length, q_start + first, q_start + last, &lo, &hi);
  lo = MAX_OF(lo, split * A->split_len);
  hi = (int)MIN_OF((clt_i64)hi, ((clt_i64)split + 1) * A->split_len);
  const int most = MIN_OF(SPLIT_KEYS, CLT_PAD(hi - lo, LANES));
  for (int r = 0; r < read; r++)
    for (int t = 0; t < most; t += LANES)
      VSTORE(VSPLAT(0.0f), s + r * SPLIT_KEYS + t);
  for (int j0 = lo; j0 < hi; j0 += SPLIT_KEYS) {
    const int keys = MIN_OF(SPLIT_KEYS, hi - j0);
    const int width = CLT_PAD(keys, LANES);
    const int whole = score_whole(A, kv_length, q_start + first, q_start + last,
                                  j0, j0 + keys - 1);
    const clt_i64 k_at =
        A->k.offset + b * A->k.s[0] + g * A->k.s[1] + j0 * A->k.s[2];
    dot_rows(rows, qs, Dp, k, k_at, A->k.s[2], A->k.s[3], keys, D, A->dtype, s,
             SPLIT_KEYS);

    vi zero = VSPLAT_I(0);
    for (int r = 0; r < rows; r++) {
      const vi p = VSPLAT_I(q_start + row[r]);
      vf mx = VSPLAT(m[r]);
      for (int t = 0; t < width; t += LANES) {
        const int n = MAX_OF(0, MIN_OF(LANES, keys - t));
        const vi j = VSPLAT_I(j0 + t) + V_IOTA;
        vf x = VLOAD(s + r * SPLIT_KEYS + t);
        if (A->softcap2 > 0.0f) x = score_softcap(A, x);
        if (A->has_slopes) x = score_alibi(x, slope[r], p, j);
        if (masked && n > 0)
          x = score_add(x, mask_bias(A, mask, key_mask, bias, b, head[r],
                                     row[r], j0 + t, n));
        if (!whole) x = score_hide(x, score_sees(A, kv_length, p, j));
        x = score_hide(x, j < VSPLAT_I(j0 + keys));
        VSTORE(x, s + r * SPLIT_KEYS + t);
        mx = VMAX(mx, x);
      }
      const float new_m = vmax_of(mx), top = finite_max(new_m);
      const float alpha = exp2_s(m[r] - top);
      vf add = VSPLAT(0.0f);
      for (int t = 0; t < width; t += LANES) {
        vf e = exp2_v(VLOAD(s + r * SPLIT_KEYS + t) - top);
        VSTORE(e, s + r * SPLIT_KEYS + t);
        add += e;
        zero |= e == 0.0f;
      }
      if (drops(A))
        split_drop(A, b, head[r], row[r], j0, width, s + r * SPLIT_KEYS);
      m[r] = new_m;
      sum[r] = sum[r] * alpha + vsum(add);
      if (alpha != 1.0f)
        for (int x = 0; x < Op; x += LANES)
          VSTORE(VLOAD(o + r * Op + x) * alpha, o + r * Op + x);
    }

    const int hidden = VANY(zero);
    const clt_i64 v_at =
        A->v.offset + b * A->v.s[0] + g * A->v.s[1] + j0 * A->v.s[2];
    int x = 0;
    if (A->v.s[3] == 1 && !(hidden && (masked || !whole))) {
      x = Dv / LANES * LANES;
      if (A->dtype == CLT_F32)
        split_pv(CLT_F32, rows, o, Op, s, v, v_at, A->v.s[2], x, keys);
      else if (A->dtype == CLT_F16)
        split_pv(CLT_F16, rows, o, Op, s, v, v_at, A->v.s[2], x, keys);
      else
        split_pv(CLT_BF16, rows, o, Op, s, v, v_at, A->v.s[2], x, keys);
    }
    if (x < Dv)
      split_pv_guarded(rows, o + x, Op, s, v, v_at + x * A->v.s[3], A->v.s[2],
                       A->v.s[3], Dv - x, keys, A->dtype);
  }

  for (int r = 0; r < rows; r++) {
    if (A->n_splits == 1) {
      const float sink = score_sink(A, sinks, head[r]);
      const float top = MAX_OF(m[r], sink), base = finite_max(top);
      const float alpha = exp2_s(m[r] - base);
      for (int x = 0; x < Op; x += LANES)
        VSTORE(VLOAD(o + r * Op + x) * alpha, o + r * Op + x);
      split_store(A, out, lse, o + r * Op, b, head[r], row[r], top,
                  sum[r] * alpha + exp2_s(sink - base));
    } else {
      GLOBAL float *to =
          part + A->part +
          ((((clt_i64)b * A->q_heads + head[r]) * A->q_len + row[r]) *
               A->n_splits +
           split) *
              (Dv + 2);
      for (int x = 0; x < Dv; x++) to[x] = o[r * Op + x];
      to[Dv] = m[r];
      to[Dv + 1] = sum[r];
    }
  }
}

INLINE void attn_merge_group(const clt_attn_args *A, GLOBAL float *out,
                             GLOBAL float *lse, GLOBAL const float *sinks,
                             GLOBAL const float *part, LOCAL float *o, int i,
                             int h, int b) {
  const int Dv = A->v_dim;
  GLOBAL const float *from =
      part + A->part +
      (((clt_i64)b * A->q_heads + h) * A->q_len + i) * A->n_splits * (Dv + 2);
  const float sink = score_sink(A, sinks, h);
  float top = sink;
  for (int s = 0; s < A->n_splits; s++) {
    const float m = from[(clt_i64)s * (Dv + 2) + Dv];
    top = top > m ? top : m; /* a NaN maximum is replaced; its sum is NaN too */
  }
  const float base = finite_max(top);
  float sum = exp2_s(sink - base);
  for (int x = 0; x < Dv; x += LANES) VSTORE(VSPLAT(0.0f), o + x);
  for (int s = 0; s < A->n_splits; s++) {
    GLOBAL const float *one = from + (clt_i64)s * (Dv + 2);
    if (one[Dv] == MINUS_INF) continue; /* saw nothing */
    const float weight = exp2_s(one[Dv] - base);
    sum += weight * one[Dv + 1];
    for (int x = 0; x < Dv; x += LANES)
      VSTORE(
          VFMA(VSPLAT(weight),
               load_n(one, x, 1, MIN_OF(LANES, Dv - x), CLT_F32), VLOAD(o + x)),
          o + x);
  }
  split_store(A, out, lse, o, b, h, i, top, sum);
}

#endif /* CLT_ATTN_SPLIT_H */
