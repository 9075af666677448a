/* attn_fused.h - fused attention for CPU-type devices: lanes are queries.
 *
 * Contract
 *   group   one block of BM queries of one (head, batch), one work-item;
 *           grid x = ceil(Sq / BM), y = q_heads, z = batch
 *   memory  CLT_FUSED_LOCAL floats of local memory; nothing quadratic
 *   reads   keys in [lo, hi) that some row of the block may see, no others
 *   writes  out and lse of its own rows, every element once
 *
 *              64 queries                 Everything is kept transposed, so
 *            +------------+               that a vector holds LANES queries and
 *        d   |    Q^T     |               nothing is ever reduced across lanes:
 *            +------------+                 S^T[j][q] = sum_d K[j][d] Q^T[d][q]
 *   keys     +------------+                 P^T      = exp2(S^T - m[q])
 *  64 at     |  S^T, P^T  |                 O^T[d][q] = O^T[d][q] * alpha[q]
 *  a time    +------------+                           + sum_j V[j][d] P^T[j][q]
 *            +------------+               K and V are broadcast element by
 *       dv   |    O^T     |               element from a block of 64 rows that
 *            +------------+               is copied (and converted) once.
 *
 * Online softmax: Milakov & Gimelshein 2018; blocks as in FlashAttention (Dao et
 * al. 2022). A block is hidden (never visited), whole (no rule evaluated) or at
 * a boundary (rules element by element). */
#ifndef CLT_ATTN_FUSED_H
#define CLT_ATTN_FUSED_H
#include "score.h"
#include "shape.h"

/* A register tile is KEY_STEP x MR vectors of accumulators: 4 x 4 fits in the 32
 * registers of 16-lane machines and of AArch64, 4 x 2 in the 16 of the others. */
#define KEY_STEP 4
#if defined(__aarch64__)
#  define MANY_REGISTERS 1
#else
#  define MANY_REGISTERS (LANES >= 16)
#endif
#if BM % (4 * LANES) == 0 && MANY_REGISTERS
#  define MR 4
#elif BM % (2 * LANES) == 0
#  define MR 2
#else
#  define MR 1
#endif
#define NV (BM / LANES) /* vectors of a row of BM queries */

/* s[i][q] = sum_x k[i][x] qt[x][q] for KEY_STEP keys and MR vectors of queries;
 * mx is raised to the largest. */
INLINE void fused_qk_tile(LOCAL const float *k, int ld, LOCAL const float *qt,
                          int dim, LOCAL float *s, vf *mx) {
  vf c[KEY_STEP][MR];
  UNROLL
  for (int i = 0; i < KEY_STEP; i++) {
    UNROLL
    for (int j = 0; j < MR; j++) c[i][j] = VSPLAT(0.0f);
  }
  NOUNROLL
  for (int x = 0; x < dim; x++) {
    vf q[MR];
    UNROLL
    for (int j = 0; j < MR; j++) q[j] = VLOAD(qt + x * BM + j * LANES);
    UNROLL
    for (int i = 0; i < KEY_STEP; i++) {
      vf b = VSPLAT(k[i * ld + x]);
      UNROLL
      for (int j = 0; j < MR; j++) c[i][j] = VFMA(b, q[j], c[i][j]);
    }
  }
  UNROLL
  for (int j = 0; j < MR; j++) {
    UNROLL
    for (int i = 0; i < KEY_STEP; i++) {
      VSTORE(c[i][j], s + i * BM + j * LANES);
      mx[j] = VMAX(mx[j], c[i][j]);
    }
  }
}

/* ot[i][q] = ot[i][q] * alpha[q] + sum_t v[t][i] p[t][q] for D_STEP rows of O^T
 * and MR vectors of queries. */
INLINE void fused_pv_tile(LOCAL const float *v, int ld, LOCAL const float *p,
                          int keys, LOCAL float *ot, const vf *alpha) {
  vf c[D_STEP][MR];
  UNROLL
  for (int i = 0; i < D_STEP; i++) {
    UNROLL
    for (int j = 0; j < MR; j++)
      c[i][j] = VLOAD(ot + i * BM + j * LANES) * alpha[j];
  }
  NOUNROLL
  for (int t = 0; t < keys; t++) {
    vf w[MR];
    UNROLL
    for (int j = 0; j < MR; j++) w[j] = VLOAD(p + t * BM + j * LANES);
    UNROLL
    for (int i = 0; i < D_STEP; i++) {
      vf b = VSPLAT(v[t * ld + i]);
      UNROLL
      for (int j = 0; j < MR; j++) c[i][j] = VFMA(b, w[j], c[i][j]);
    }
  }
  UNROLL
  for (int i = 0; i < D_STEP; i++) {
    UNROLL
    for (int j = 0; j < MR; j++) VSTORE(c[i][j], ot + i * BM + j * LANES);
  }
}

/* Both for one vector of queries: a last block with few of them. */
INLINE void fused_qk_narrow(LOCAL const float *k, int ld, LOCAL const float *qt,
                            int dim, LOCAL float *s, vf *mx) {
  vf c[KEY_STEP];
  UNROLL
  for (int i = 0; i < KEY_STEP; i++) c[i] = VSPLAT(0.0f);
  NOUNROLL
  for (int x = 0; x < dim; x++) {
    vf q = VLOAD(qt + x * BM);
    UNROLL
    for (int i = 0; i < KEY_STEP; i++)
      c[i] = VFMA(VSPLAT(k[i * ld + x]), q, c[i]);
  }
  UNROLL
  for (int i = 0; i < KEY_STEP; i++) {
    VSTORE(c[i], s + i * BM);
    *mx = VMAX(*mx, c[i]);
  }
}
INLINE void fused_pv_narrow(LOCAL const float *v, int ld, LOCAL const float *p,
                            int keys, LOCAL float *ot, vf alpha) {
  vf c[D_STEP];
  UNROLL
  for (int i = 0; i < D_STEP; i++) c[i] = VLOAD(ot + i * BM) * alpha;
  NOUNROLL
  for (int t = 0; t < keys; t++) {
    vf w = VLOAD(p + t * BM);
    UNROLL
    for (int i = 0; i < D_STEP; i++)
      c[i] = VFMA(VSPLAT(v[t * ld + i]), w, c[i]);
  }
  UNROLL
  for (int i = 0; i < D_STEP; i++) VSTORE(c[i], ot + i * BM);
}

/* The same for values that hold NaN or Inf and are hidden from some rows: terms
 * with p = 0 are left out, for 0 * NaN must not reach them. */
COLD void fused_pv_guarded(LOCAL const float *v, int ld, LOCAL const float *p,
                           int keys, LOCAL float *ot, vf alpha) {
  for (int i = 0; i < D_STEP; i++) {
    vf c = VLOAD(ot + i * BM) * alpha;
    for (int t = 0; t < keys; t++) {
      vf w = VLOAD(p + t * BM);
      c = VSELECT(w == 0.0f, c, VFMA(VSPLAT(v[t * ld + i]), w, c));
    }
    VSTORE(c, ot + i * BM);
  }
}

/* to[x][r] = scale * rows r < rows of a [rows, cols] array; other rows are 0. */
COLD void fused_load_transposed(LOCAL float *to, GLOBAL const float *src,
                                clt_i64 offset, clt_i64 row_stride,
                                clt_i64 col_stride, int rows, int cols,
                                int dtype, float scale) {
  for (int r0 = 0; r0 < BM; r0 += LANES)
    for (int x0 = 0; x0 < cols; x0 += LANES) {
      int n = MIN_OF(LANES, cols - x0);
      vf a[LANES];
      for (int r = 0; r < LANES; r++)
        a[r] =
            r0 + r < rows
                ? load_n(src, offset + (r0 + r) * row_stride + x0 * col_stride,
                         col_stride, n, dtype) *
                      scale
                : VSPLAT(0.0f);
      transpose(a);
      for (int x = 0; x < n; x++) VSTORE(a[x], to + (x0 + x) * BM + r0);
    }
}

/* Rules of a boundary block, on S^T [keys][BM]. Positions p0.., keys j0..; mx is
 * raised to the largest. Backward asks for the derivative of softcap in cap. */
COLD void fused_rules(const clt_attn_args *A, LOCAL float *s,
                      LOCAL const float *tile, LOCAL float *cap, int masked,
                      int whole, int kv_length, int keys, int p0, int j0,
                      float slope, int nv, vf *mx) {
  for (int v = 0; v < nv; v++) {
    const vi p = VSPLAT_I(p0 + v * LANES) + V_IOTA;
    vf m = mx[v];
    for (int t = 0; t < keys; t++) {
      const vi j = VSPLAT_I(j0 + t);
      LOCAL float *at = s + t * BM + v * LANES;
      vf x = VLOAD(at);
      if (A->softcap2 > 0.0f) {
        x = score_softcap(A, x);
        if (cap) VSTORE(score_softcap_slope(A, x), cap + t * BM + v * LANES);
      }
      if (A->has_slopes) x = score_alibi(x, slope, p, j);
      if (masked) x = score_add(x, VLOAD(tile + t * BM + v * LANES));
      if (!whole) x = score_hide(x, score_sees(A, kv_length, p, j));
      VSTORE(x, at);
      m = VMAX(m, x);
    }
    mx[v] = m;
  }
}

/* tile[t][q] = mask_bias of queries i0.. and keys j0.., transposed. */
COLD void fused_mask_tile(const clt_attn_args *A, GLOBAL const clt_u8 *mask,
                          GLOBAL const clt_u8 *key_mask,
                          GLOBAL const float *bias, LOCAL float *tile, int b,
                          int h, int i0, int rows, int j0, int keys) {
  if ((!A->has_mask || A->mask.s[2] == 0) &&
      (A->bias_dtype == 0 || A->bias.s[2] == 0)) { /* the same for all rows */
    for (int t0 = 0; t0 < keys; t0 += LANES) {
      const int n = MIN_OF(LANES, keys - t0);
      float of[LANES];
      VSTORE(mask_bias(A, mask, key_mask, bias, b, h, i0, j0 + t0, n), of);
      for (int t = 0; t < n; t++)
        for (int r = 0; r < BM; r += LANES)
          VSTORE(VSPLAT(of[t]), tile + (t0 + t) * BM + r);
    }
    return;
  }
  for (int r0 = 0; r0 < BM; r0 += LANES)
    for (int t0 = 0; t0 < keys; t0 += LANES) {
      vf a[LANES];
      for (int r = 0; r < LANES; r++) /* rows past the end repeat the last */
        a[r] = mask_bias(A, mask, key_mask, bias, b, h,
                         i0 + MIN_OF(r0 + r, rows - 1), j0 + t0,
                         MIN_OF(LANES, keys - t0));
      transpose(a);
      for (int t = 0; t < LANES; t++) VSTORE(a[t], tile + (t0 + t) * BM + r0);
    }
}

/* ---- what one group works on; attn_blocked.h does the same ---------------------- */

typedef struct fused_block {
  int h, g, b;                   /* query head, key head, batch            */
  int i0, rows, p0;              /* first query, queries, first position   */
  int nv, narrow;                /* vectors of queries; in narrow strips   */
  int kv_length, masked, padded; /* padded: v_dim, in whole D_STEPs      */
  float slope, sink;
  LOCAL float *qt, *ot, *kv, *tile;
  LOCAL float *cap; /* NULL but in backward, with softcap                */
} fused_block;

/* Fills in *f but for its local memory: up to BM queries from i0 on, before end.
 * (Structs are not returned: of that, some compilers make what Oclgrind cannot
 * execute.) */
INLINE void fused_place(fused_block *f, const clt_attn_args *A,
                        GLOBAL const int *lengths, GLOBAL const int *starts,
                        GLOBAL const float *slopes, GLOBAL const float *sinks,
                        int i0, int end, int h, int b) {
  f->h = h, f->b = b, f->g = h / A->group;
  f->i0 = i0;
  f->rows = MIN_OF(BM, end - i0);
  const int vectors = (f->rows + LANES - 1) / LANES;
  f->narrow = 2 * vectors <= MR;
  f->nv = f->narrow ? vectors : CLT_PAD(vectors, MR);
  f->kv_length = score_kv_length(A, lengths, b);
  f->p0 = score_q_start(A, starts, b, f->kv_length) + f->i0;
  f->slope = score_slope(A, slopes, h);
  f->sink = score_sink(A, sinks, h);
  f->masked = has_mask_bias(A);
  f->padded = CLT_PAD(A->v_dim, D_STEP);
  f->cap = 0;
}

/* The block that is gx-th to be worked off. Late causal blocks are long:
 * alternating from both ends keeps neighbours in the launch order about equally
 * heavy in sum. */
INLINE int fused_turn(int gx, int blocks) {
  return gx & 1 ? blocks - 1 - (gx >> 1) : gx >> 1;
}

/* The same for group gx, and starts on its local memory. */
INLINE void fused_begin(fused_block *f, const clt_attn_args *A,
                        GLOBAL const float *q, GLOBAL const int *lengths,
                        GLOBAL const int *starts, GLOBAL const float *slopes,
                        GLOBAL const float *sinks, LOCAL float *local_memory,
                        int gx, int h, int b) {
  const int D = A->qk_dim, blocks = (A->q_len + BM - 1) / BM;
  const int qb = fused_turn(gx, blocks);
  fused_place(f, A, lengths, starts, slopes, sinks, qb * BM, A->q_len, h, b);
  f->qt = local_memory;                        /* [D][BM]             */
  f->ot = f->qt + D * BM;                      /* [padded][BM]        */
  f->kv = f->ot + f->padded * BM;              /* [BN][D or padded]   */
  f->tile = f->kv + BN * MAX_OF(D, f->padded); /* [BN][BM] if masked  */
  fused_load_transposed(
      f->qt, q, A->q.offset + b * A->q.s[0] + h * A->q.s[1] + f->i0 * A->q.s[2],
      A->q.s[2], A->q.s[3], f->rows, D, A->dtype, A->scale2);
  for (int x = 0; x < f->padded * BM; x += LANES)
    VSTORE(VSPLAT(0.0f), f->ot + x);
}

/* Behind fused_block's own local memory. */
INLINE LOCAL float *fused_end_of(const fused_block *f) {
  return f->tile + (f->masked ? BN * BM : 0);
}

/* s[t][q] = the finished scores of keys j0 .. j0 + keys - 1; mx = the larger of m
 * and the largest of them. Returns whether any of the keys holds NaN or Inf. */
INLINE int fused_scores(const clt_attn_args *A, const fused_block *f,
                        GLOBAL const float *k, GLOBAL const clt_u8 *mask,
                        GLOBAL const clt_u8 *key_mask, GLOBAL const float *bias,
                        int j0, int keys, int whole, LOCAL float *s,
                        const vf *m, vf *mx) {
  const int D = A->qk_dim;
  const int bad = copy_block(
      f->kv, D, k,
      A->k.offset + f->b * A->k.s[0] + f->g * A->k.s[1] + j0 * A->k.s[2],
      A->k.s[2], A->k.s[3], keys, D, CLT_PAD(keys, KEY_STEP), D, A->dtype);
  for (int i = 0; i < f->nv; i++) mx[i] = m[i];
  for (int t = 0; t < keys; t += KEY_STEP) {
    if (f->narrow)
      for (int i = 0; i < f->nv; i++)
        fused_qk_narrow(f->kv + t * D, D, f->qt + i * LANES, D,
                        s + t * BM + i * LANES, mx + i);
    else
      for (int i = 0; i < f->nv; i += MR)
        fused_qk_tile(f->kv + t * D, D, f->qt + i * LANES, D,
                      s + t * BM + i * LANES, mx + i);
  }

  /* The maximum above is wrong where a rule changes scores, and where the
   * padding rows of the last tile (score 0) took part. */
  if (f->masked || !whole || A->softcap2 > 0.0f || A->has_slopes ||
      keys % KEY_STEP != 0) {
    for (int i = 0; i < f->nv; i++) mx[i] = m[i];
    if (f->masked)
      fused_mask_tile(A, mask, key_mask, bias, f->tile, f->b, f->h, f->i0,
                      f->rows, j0, keys);
    fused_rules(A, s, f->tile, f->cap, f->masked, whole, f->kv_length, keys,
                f->p0, j0, f->slope, f->nv, mx);
  }
  return bad;
}

/* Dropout on the weights p[t][q] of keys j0 .. j0 + keys - 1. */
COLD void fused_drop(const clt_attn_args *A, int b, int h, int i0, int nv,
                     int j0, int keys, LOCAL float *p) {
  for (int i = 0; i < nv; i++) {
    vu row[2];
    drop_rows(A, b, h, VSPLAT_I(i0 + i * LANES) + V_IOTA, row);
    for (int t = 0; t < keys; t++) {
      LOCAL float *at = p + t * BM + i * LANES;
      VSTORE(VLOAD(at) * drop_factor(A, row, VSPLAT_I(j0 + t)), at);
    }
  }
}

/* O^T = O^T * alpha + V^T P^T of keys j0 .. j0 + keys - 1. */
INLINE void fused_values(const clt_attn_args *A, const fused_block *f,
                         GLOBAL const float *v, int j0, int keys, int whole,
                         LOCAL const float *p, const vf *alpha) {
  const int Dp = f->padded;
  const int bad = copy_block(
      f->kv, Dp, v,
      A->v.offset + f->b * A->v.s[0] + f->g * A->v.s[1] + j0 * A->v.s[2],
      A->v.s[2], A->v.s[3], keys, A->v_dim, keys, Dp, A->dtype);
  if (bad && (f->masked || !whole)) {
    for (int x = 0; x < Dp; x += D_STEP)
      for (int i = 0; i < f->nv; i++)
        fused_pv_guarded(f->kv + x, Dp, p + i * LANES, keys,
                         f->ot + x * BM + i * LANES, alpha[i]);
    return;
  }
  for (int x = 0; x < Dp; x += D_STEP) {
    if (f->narrow)
      for (int i = 0; i < f->nv; i++)
        fused_pv_narrow(f->kv + x, Dp, p + i * LANES, keys,
                        f->ot + x * BM + i * LANES, alpha[i]);
    else
      for (int i = 0; i < f->nv; i += MR)
        fused_pv_tile(f->kv + x, Dp, p + i * LANES, keys,
                      f->ot + x * BM + i * LANES, alpha + i);
  }
}

/* inverse = 1 / sum, and the log-sum-exp. */
INLINE void fused_sums(const clt_attn_args *A, const fused_block *f,
                       GLOBAL float *lse, const vf *m, const vf *sum,
                       vf *inverse) {
  for (int i = 0; i < f->nv; i++) {
    float m_of[LANES], sum_of[LANES], inverse_of[LANES];
    VSTORE(m[i], m_of);
    VSTORE(sum[i], sum_of);
    for (int r = 0; r < LANES; r++) {
      inverse_of[r] = row_inverse(sum_of[r]);
      if (A->has_lse && i * LANES + r < f->rows)
        lse[A->lse.offset + f->b * A->lse.s[0] + f->h * A->lse.s[1] +
            (f->i0 + i * LANES + r) * A->lse.s[2]] =
            row_lse(m_of[r], sum_of[r]);
    }
    inverse[i] = VLOAD(inverse_of);
  }
}

/* to[r][x] = scale * from[x][r] for r < f->rows and x < cols: back in the caller's
 * order; added to what is there if `add`, a literal. `at` is the place of the
 * block's first row. */
INLINE void fused_store_transposed(const int add, const fused_block *f,
                                   GLOBAL float *to, clt_i64 at,
                                   clt_i64 row_stride, clt_i64 col_stride,
                                   int cols, int dtype, LOCAL const float *from,
                                   const vf *scale) {
  for (int i = 0; i < f->nv; i++)
    for (int x0 = 0; x0 < cols; x0 += LANES) {
      const int n = MIN_OF(LANES, cols - x0);
      vf a[LANES];
      for (int x = 0; x < LANES; x++)
        a[x] = x < n ? VLOAD(from + (x0 + x) * BM + i * LANES) * scale[i]
                     : VSPLAT(0.0f);
      transpose(a);
      for (int r = 0; r < LANES && i * LANES + r < f->rows; r++) {
        const clt_i64 here =
            at + (i * LANES + r) * row_stride + x0 * col_stride;
        if (add) a[r] += load_n(to, here, col_stride, n, dtype);
        store_n(to, here, col_stride, n, dtype, a[r]);
      }
    }
}

INLINE clt_i64 fused_out_at(const clt_attn_args *A, const fused_block *f) {
  return A->out.offset + f->b * A->out.s[0] + f->h * A->out.s[1] +
         f->i0 * A->out.s[2];
}

/* ---- the kernel ------------------------------------------------------------------ */

INLINE void attn_fused_group(
    const clt_attn_args *A, GLOBAL const float *q, GLOBAL const float *k,
    GLOBAL const float *v, GLOBAL float *out, GLOBAL float *lse,
    GLOBAL const clt_u8 *mask, GLOBAL const clt_u8 *key_mask,
    GLOBAL const float *bias, GLOBAL const int *lengths,
    GLOBAL const int *starts, GLOBAL const float *slopes,
    GLOBAL const float *sinks, LOCAL float *local_memory, int gx, int h,
    int b) {
  fused_block f;
  fused_begin(&f, A, q, lengths, starts, slopes, sinks, local_memory, gx, h, b);
  LOCAL float *s = fused_end_of(&f); /* [BN][BM] */
  vf m[NV], sum[NV];
  for (int i = 0; i < NV; i++) {
    m[i] = VSPLAT(f.sink);
    sum[i] = VSPLAT(f.sink == MINUS_INF ? 0.0f : 1.0f);
  }

  int lo, hi;
  score_range(A, f.kv_length, f.p0, f.p0 + f.rows - 1, &lo, &hi);
  for (int j0 = lo; j0 < hi; j0 += BN) {
    const int keys = MIN_OF(BN, hi - j0);
    const int whole =
        score_whole(A, f.kv_length, f.p0, f.p0 + f.rows - 1, j0, j0 + keys - 1);
    vf mx[NV], alpha[NV];
    fused_scores(A, &f, k, mask, key_mask, bias, j0, keys, whole, s, m, mx);
    for (int i = 0; i < f.nv; i++) {
      vf top = finite_max_v(mx[i]);
      alpha[i] = exp2_v(m[i] - top);
      m[i] = mx[i];
      vf add = VSPLAT(0.0f);
      for (int t = 0; t < keys; t++) {
        LOCAL float *at = s + t * BM + i * LANES;
        vf p = exp2_v(VLOAD(at) - top);
        VSTORE(p, at);
        add += p;
      }
      sum[i] = VFMA(sum[i], alpha[i], add);
    }
    if (drops(A)) fused_drop(A, b, h, f.i0, f.nv, j0, keys, s);
    fused_values(A, &f, v, j0, keys, whole, s, alpha);
  }

  vf inverse[NV];
  fused_sums(A, &f, lse, m, sum, inverse);
  fused_store_transposed(0, &f, out, fused_out_at(A, &f), A->out.s[2],
                         A->out.s[3], A->v_dim, A->dtype, f.ot, inverse);
}

#endif /* CLT_ATTN_FUSED_H */
