/* attn_backward.h - gradients of attention for CPU-type devices: lanes are queries
 * for S, dP and dQ, columns of the head for dK and dV.
 *
 * Contract (attn_backward)
 *   group   all queries of all heads that share key head y of batch z, against
 *           the split_len keys of split x: nobody else adds to their dK and dV
 *   memory  CLT_BACKWARD_LOCAL floats of local memory; in scratch dK, dV and the
 *           split's part of dQ (clt_attn_args): nothing quadratic
 *   reads   delta (attn_delta) and the saved lse; keys that some row of a block
 *           may see, no others
 *   writes  its rows of dK and dV, its part of dQ, every element
 *
 *               64 queries           For a block of queries and one of keys,
 *             +------------+         S^T as attn_fused.h has it, then
 *        keys |  S^T  P^T  |           P^T  = exp2(S^T - lse)
 *             +------------+           dP^T = V dO^T
 *             +------------+           dS^T = P^T (dP^T - delta)
 *             | dP^T  dS^T |           dQ^T += K^T dS^T    lanes are queries
 *             +------------+           dV += P^T dO        lanes are columns,
 *                                      dK += dS^T Q        P^T, dS^T broadcast
 *
 * Five products for the forward pass's two; every sum is taken in one order that
 * hangs on the shape alone, so results have the same bits at every run. */
#ifndef CLT_ATTN_BACKWARD_H
#define CLT_ATTN_BACKWARD_H
#include "attn_backward_rows.h"
#include "attn_fused.h"

/* ---- dK and dV: c[t][x] += sum_i a[t][i] b[i][x], lanes are x ------------------- */

#if MANY_REGISTERS
#  define COLUMN_R 4
#else
#  define COLUMN_R 2
#endif

/* ROWS rows of c, V vectors of columns; both literal (PoCL unrolls no others). */
#define COLUMN_TILE(name, ROWS, V)                                             \
  INLINE void name(LOCAL const float *a, LOCAL const float *b, int ldb,        \
                   int depth, GLOBAL float *c, int ldc) {                      \
    vf acc[ROWS][V];                                                           \
    UNROLL                                                                     \
    for (int r = 0; r < ROWS; r++) {                                           \
      UNROLL                                                                   \
      for (int x = 0; x < V; x++) acc[r][x] = VLOAD(c + r * ldc + x * LANES);  \
    }                                                                          \
    NOUNROLL                                                                   \
    for (int i = 0; i < depth; i++) {                                          \
      vf y[V];                                                                 \
      UNROLL                                                                   \
      for (int x = 0; x < V; x++) y[x] = VLOAD(b + i * ldb + x * LANES);       \
      UNROLL                                                                   \
      for (int r = 0; r < ROWS; r++) {                                         \
        vf w = VSPLAT(a[r * BM + i]);                                          \
        UNROLL                                                                 \
        for (int x = 0; x < V; x++) acc[r][x] = VFMA(w, y[x], acc[r][x]);      \
      }                                                                        \
    }                                                                          \
    UNROLL                                                                     \
    for (int r = 0; r < ROWS; r++) {                                           \
      UNROLL                                                                   \
      for (int x = 0; x < V; x++) VSTORE(acc[r][x], c + r * ldc + x * LANES);  \
    }                                                                          \
  }
COLUMN_TILE(column_tile, 4, COLUMN_R)
COLUMN_TILE(column_tile_narrow, 4, 1)
COLUMN_TILE(column_tile_row, 1, 1)

/* The same where terms with a = 0 are left out: b may hold NaN or Inf in rows
 * that do not see the key. */
COLD void column_guarded(LOCAL const float *a, LOCAL const float *b, int ldb,
                         int depth, GLOBAL float *c) {
  vf acc = VLOAD(c);
  for (int i = 0; i < depth; i++)
    if (a[i] != 0.0f) acc = VFMA(VSPLAT(a[i]), VLOAD(b + i * ldb), acc);
  VSTORE(acc, c);
}

/* All rows; ldb = ldc = columns, a whole number of vectors. Row r of a is 0 before
 * first + r: what a causal mask hides from the queries in front of the key. */
COLD void column_product(LOCAL const float *a, LOCAL const float *b,
                         int columns, int rows, int depth, int first,
                         GLOBAL float *c, int guard) {
  int r = 0;
  for (; !guard && r + 4 <= rows; r += 4) {
    const int i = MAX_OF(0, MIN_OF(first + r, depth));
    LOCAL const float *ar = a + r * BM + i, *br = b + i * columns;
    GLOBAL float *to = c + r * columns;
    int x = 0;
    for (; x + COLUMN_R * LANES <= columns; x += COLUMN_R * LANES)
      column_tile(ar, br + x, columns, depth - i, to + x, columns);
    for (; x < columns; x += LANES)
      column_tile_narrow(ar, br + x, columns, depth - i, to + x, columns);
  }
  for (; r < rows; r++)
    for (int x = 0; x < columns; x += LANES) {
      if (guard)
        column_guarded(a + r * BM, b + x, columns, depth, c + r * columns + x);
      else
        column_tile_row(a + r * BM, b + x, columns, depth, c + r * columns + x,
                        columns);
    }
}

/* ---- a block of queries ------------------------------------------------------------ */

typedef struct backward_block {
  fused_block f;          /* f.kv: the keys [BM][D] */
  int Dp, Ep;             /* qk_dim and v_dim in whole vectors of MAX_LANES */
  int bad_q, bad_do;      /* hold NaN or Inf */
  LOCAL float *dot, *dqt; /* dO^T [Dv][BM], dQ^T [D][BM] */
  LOCAL float *qs, *dos;  /* Q [BM][Dp], dO [BM][Ep] */
  LOCAL float *vs;        /* values [BM][Dv] */
  LOCAL float *p, *ds;    /* P^T, dropped; dP^T, then dS^T: [BM][BM] */
  LOCAL float *lse2, *delta; /* [BM] */
  LOCAL float *end;
} backward_block;

COLD void backward_layout(backward_block *g, const clt_attn_args *A,
                          LOCAL float *local_memory) {
  const int D = A->qk_dim, Dv = A->v_dim;
  g->Dp = CLT_PAD(D, MAX_LANES), g->Ep = CLT_PAD(Dv, MAX_LANES);
  g->f.qt = local_memory;
  g->dot = g->f.qt + D * BM;
  g->dqt = g->dot + Dv * BM;
  g->qs = g->dqt + CLT_PAD(D, D_STEP) * BM;
  g->dos = g->qs + g->Dp * BM;
  g->f.kv = g->dos + g->Ep * BM;
  g->vs = g->f.kv + CLT_PAD(D, D_STEP) * BM;
  g->p = g->vs + Dv * BM;
  g->ds = g->p + BM * BM;
  g->lse2 = g->ds + BM * BM;
  g->delta = g->lse2 + BM;
  g->end = g->delta + BM;
}

/* Loads block qb of head h. */
INLINE void backward_begin(backward_block *g, const clt_attn_args *A,
                           GLOBAL const float *q, GLOBAL const float *d_out,
                           GLOBAL const float *lse, GLOBAL const int *lengths,
                           GLOBAL const int *starts, GLOBAL const float *slopes,
                           GLOBAL const float *sinks, GLOBAL const float *part,
                           LOCAL float *local_memory, int qb, int h, int b) {
  const int D = A->qk_dim, Dv = A->v_dim;
  fused_place(&g->f, A, lengths, starts, slopes, sinks, qb * BM, A->q_len, h,
              b);
  backward_layout(g, A, local_memory);
  const int i0 = g->f.i0, rows = g->f.rows;
  g->f.tile = g->end;
  if (g->f.masked) g->end += BM * BM;
  if (A->softcap2 > 0.0f) {
    g->f.cap = g->end;
    g->end += BM * BM;
  }
  const clt_i64 q_at =
      A->q.offset + b * A->q.s[0] + h * A->q.s[1] + i0 * A->q.s[2];
  const clt_i64 do_at =
      A->out.offset + b * A->out.s[0] + h * A->out.s[1] + i0 * A->out.s[2];
  fused_load_transposed(g->f.qt, q, q_at, A->q.s[2], A->q.s[3], rows, D,
                        A->dtype, A->scale2);
  fused_load_transposed(g->dot, d_out, do_at, A->out.s[2], A->out.s[3], rows,
                        Dv, A->grad_dtype, 1.0f);
  g->bad_q = copy_block(g->qs, g->Dp, q, q_at, A->q.s[2], A->q.s[3], rows, D,
                        rows, g->Dp, A->dtype);
  g->bad_do = copy_block(g->dos, g->Ep, d_out, do_at, A->out.s[2], A->out.s[3],
                         rows, Dv, rows, g->Ep, A->grad_dtype);
  for (int r = 0; r < BM; r++) {
    const int i = i0 + MIN_OF(r, rows - 1);
    g->lse2[r] = score_lse2(lse[A->lse.offset + b * A->lse.s[0] +
                                h * A->lse.s[1] + i * A->lse.s[2]]);
    g->delta[r] = part[attn_delta_at(A, i, h, b)];
  }
}

/* ds[t][q] = sum_x v[t][x] dot[x][q]; v has rows of its own up to a whole
 * KEY_STEP. */
INLINE void backward_dp(const clt_attn_args *A, const backward_block *g,
                        GLOBAL const float *v, int j0, int keys) {
  const fused_block *f = &g->f;
  const int Dv = A->v_dim;
  vf unused[NV];
  for (int i = 0; i < NV; i++) unused[i] = VSPLAT(0.0f);
  copy_block(g->vs, Dv, v,
             A->v.offset + f->b * A->v.s[0] + f->g * A->v.s[1] + j0 * A->v.s[2],
             A->v.s[2], A->v.s[3], keys, Dv, CLT_PAD(keys, KEY_STEP), Dv,
             A->dtype);
  for (int t = 0; t < keys; t += KEY_STEP) {
    if (f->narrow)
      for (int i = 0; i < f->nv; i++)
        fused_qk_narrow(g->vs + t * Dv, Dv, g->dot + i * LANES, Dv,
                        g->ds + t * BM + i * LANES, unused + i);
    else
      for (int i = 0; i < f->nv; i += MR)
        fused_qk_tile(g->vs + t * Dv, Dv, g->dot + i * LANES, Dv,
                      g->ds + t * BM + i * LANES, unused + i);
  }
}

/* P and dS from S (in p) and dP (in ds). A hidden key has P = 0, and then dS is 0
 * whatever dP holds. */
INLINE void backward_plain(const backward_block *g, int keys) {
  for (int i = 0; i < g->f.nv; i++) {
    const vf top = VLOAD(g->lse2 + i * LANES);
    const vf delta = VLOAD(g->delta + i * LANES);
    for (int t = 0; t < keys; t++) {
      const int at = t * BM + i * LANES;
      const vf p = exp2_v(VLOAD(g->p + at) - top);
      const vf ds = p * (VLOAD(g->ds + at) - delta);
      VSTORE(p, g->p + at);
      VSTORE(VSELECT(p == 0.0f, p, ds), g->ds + at);
    }
  }
}
/* The same with dropout. */
COLD void backward_dropped(const clt_attn_args *A, const backward_block *g,
                           int j0, int keys) {
  for (int i = 0; i < g->f.nv; i++) {
    const vf top = VLOAD(g->lse2 + i * LANES);
    const vf delta = VLOAD(g->delta + i * LANES);
    vu row[2];
    drop_rows(A, g->f.b, g->f.h, VSPLAT_I(g->f.i0 + i * LANES) + V_IOTA, row);
    for (int t = 0; t < keys; t++) {
      const int at = t * BM + i * LANES;
      const vf p = exp2_v(VLOAD(g->p + at) - top);
      const vf factor = drop_factor(A, row, VSPLAT_I(j0 + t));
      vf ds = p * (VLOAD(g->ds + at) * factor - delta);
      VSTORE(p * factor, g->p + at);
      VSTORE(VSELECT(p == 0.0f, p, ds), g->ds + at);
    }
  }
}

/* dS by the score before softcap. */
COLD void backward_cap(const backward_block *g, int keys) {
  for (int i = 0; i < g->f.nv; i++)
    for (int t = 0; t < keys; t++) {
      const int at = t * BM + i * LANES;
      const vf ds = VLOAD(g->ds + at);
      VSTORE(VSELECT(ds == 0.0f, ds, ds * VLOAD(g->f.cap + at)), g->ds + at);
    }
}

/* P^T and dS^T (by the score after softcap) of keys j0 .. j0 + keys - 1. Returns
 * whether any key holds NaN or Inf. */
INLINE int backward_weights(const clt_attn_args *A, const backward_block *g,
                            GLOBAL const float *k, GLOBAL const float *v,
                            GLOBAL const clt_u8 *mask,
                            GLOBAL const clt_u8 *key_mask,
                            GLOBAL const float *bias, int j0, int keys,
                            int whole) {
  vf m[NV], mx[NV];
  for (int i = 0; i < NV; i++) m[i] = VSPLAT(0.0f);
  const int bad = fused_scores(A, &g->f, k, mask, key_mask, bias, j0, keys,
                               whole, g->p, m, mx);
  backward_dp(A, g, v, j0, keys);
  if (drops(A))
    backward_dropped(A, g, j0, keys);
  else
    backward_plain(g, keys);
  return bad;
}

/* dQ^T += K^T dS^T */
INLINE void backward_dq(const clt_attn_args *A, const backward_block *g,
                        int keys, int guard) {
  const fused_block *f = &g->f;
  vf one[NV];
  for (int i = 0; i < NV; i++) one[i] = VSPLAT(1.0f);
  for (int x = 0; x < A->qk_dim; x += D_STEP) {
    LOCAL const float *k = f->kv + x;
    LOCAL float *to = g->dqt + x * BM;
    if (guard || f->narrow)
      for (int i = 0; i < f->nv; i++) {
        if (guard)
          fused_pv_guarded(k, A->qk_dim, g->ds + i * LANES, keys,
                           to + i * LANES, one[i]);
        else
          fused_pv_narrow(k, A->qk_dim, g->ds + i * LANES, keys, to + i * LANES,
                          one[i]);
      }
    else
      for (int i = 0; i < f->nv; i += MR)
        fused_pv_tile(k, A->qk_dim, g->ds + i * LANES, keys, to + i * LANES,
                      one + i);
  }
}

INLINE void attn_backward_group(
    const clt_attn_args *A, GLOBAL const float *q, GLOBAL const float *k,
    GLOBAL const float *v, GLOBAL const float *d_out, GLOBAL const float *lse,
    GLOBAL const clt_u8 *mask, GLOBAL const clt_u8 *key_mask,
    GLOBAL const float *bias, GLOBAL const int *lengths,
    GLOBAL const int *starts, GLOBAL const float *slopes,
    GLOBAL const float *sinks, GLOBAL float *part, LOCAL float *local_memory,
    int split, int key_head, int b) {
  const int D = A->qk_dim, T = A->kv_len;
  const int first = split * A->split_len;
  const int last = (int)MIN_OF((clt_i64)first + A->split_len, (clt_i64)T);
  backward_block g;
  backward_layout(&g, A, local_memory);
  const clt_i64 key_row = ((clt_i64)b * A->kv_heads + key_head) * T;
  GLOBAL float *dk = part + A->d_k + key_row * g.Dp;
  GLOBAL float *dv = part + A->d_v + key_row * g.Ep;
  for (clt_i64 x = (clt_i64)first * g.Dp; x < (clt_i64)last * g.Dp; x += LANES)
    VSTORE(VSPLAT(0.0f), dk + x);
  for (clt_i64 x = (clt_i64)first * g.Ep; x < (clt_i64)last * g.Ep; x += LANES)
    VSTORE(VSPLAT(0.0f), dv + x);

  vf one[NV];
  for (int i = 0; i < NV; i++) one[i] = VSPLAT(1.0f);
  for (int h = key_head * A->group; h < (key_head + 1) * A->group; h++)
    for (int qb = 0; qb * BM < A->q_len; qb++) {
      backward_begin(&g, A, q, d_out, lse, lengths, starts, slopes, sinks, part,
                     local_memory, qb, h, b);
      const fused_block *f = &g.f;
      for (int x = 0; x < CLT_PAD(D, D_STEP) * BM; x += LANES)
        VSTORE(VSPLAT(0.0f), g.dqt + x);
      const int p1 = f->p0 + f->rows - 1;
      int lo, hi;
      score_range(A, f->kv_length, f->p0, p1, &lo, &hi);
      lo = MAX_OF(lo, first), hi = MIN_OF(hi, last);
      for (int j0 = lo; j0 < hi; j0 += BM) {
        const int keys = MIN_OF(BM, hi - j0);
        const int whole =
            score_whole(A, f->kv_length, f->p0, p1, j0, j0 + keys - 1);
        const int hides = f->masked || !whole;
        const int bad_k = backward_weights(A, &g, k, v, mask, key_mask, bias,
                                           j0, keys, whole);
        const int seen_from = A->causal ? j0 - f->p0 : -BM;
        column_product(g.p, g.dos, g.Ep, keys, f->rows, seen_from,
                       dv + (clt_i64)j0 * g.Ep, g.bad_do && hides);
        if (f->cap) backward_cap(&g, keys);
        backward_dq(A, &g, keys, bad_k && hides);
        column_product(g.ds, g.qs, g.Dp, keys, f->rows, seen_from,
                       dk + (clt_i64)j0 * g.Dp, g.bad_q && hides);
      }
      const clt_i64 row =
          (((clt_i64)split * A->batch + b) * A->q_heads + h) * A->q_len + f->i0;
      fused_store_transposed(0, f, part, A->d_q + row * D, D, 1, D, CLT_F32,
                             g.dqt, one);
    }
}

/* ---- delta -----------------------------------------------------------------------------
 * Contract: BM rows gx of head h and batch b. */

INLINE void attn_delta_group(const clt_attn_args *A, GLOBAL const float *out,
                             GLOBAL const float *d_out, GLOBAL float *part,
                             int gx, int h, int b) {
  for (int i = gx * BM; i < MIN_OF((gx + 1) * BM, A->q_len); i++)
    part[attn_delta_at(A, i, h, b)] =
        vsum(attn_delta_sum(A, out, d_out, i, h, b, 0, LANES));
}

/* ---- the gradient of an additive mask ---------------------------------------------------
 * Contract: weights is the gradient's view; a stride of 0 is an axis that repeats
 * and is summed over. Group (x, y, z): a block of keys of a block of queries, of
 * head y and batch z; of an axis that repeats, all of it. */

INLINE void attn_backward_bias_group(
    const clt_attn_args *A, GLOBAL const float *q, GLOBAL const float *k,
    GLOBAL const float *v, GLOBAL const float *d_out, GLOBAL const float *lse,
    GLOBAL float *d_bias, GLOBAL const clt_u8 *mask,
    GLOBAL const clt_u8 *key_mask, GLOBAL const float *bias,
    GLOBAL const int *lengths, GLOBAL const int *starts,
    GLOBAL const float *slopes, GLOBAL const float *sinks, GLOBAL float *part,
    LOCAL float *local_memory, int gx, int gy, int gz) {
  const clt_view *to = &A->weights;
  const int T = A->kv_len;
  const int all_b = to->s[0] == 0, all_h = to->s[1] == 0;
  const int all_i = to->s[2] == 0, all_j = to->s[3] == 0;
  const int key_blocks = all_j ? 1 : (T + BM - 1) / BM;
  const int my_i = gx / key_blocks, my_j = gx % key_blocks * BM;
  const int j_end = all_j ? T : MIN_OF(my_j + BM, T);
  backward_block g;
  LOCAL float *sum = 0; /* [BM][BM]: of keys my_j.. and lanes of queries */
  for (int b = all_b ? 0 : gz; b < (all_b ? A->batch : gz + 1); b++)
    for (int h = all_h ? 0 : gy; h < (all_h ? A->q_heads : gy + 1); h++)
      for (int qb = all_i ? 0 : my_i;
           qb * BM < (all_i ? A->q_len : my_i * BM + 1); qb++) {
        backward_begin(&g, A, q, d_out, lse, lengths, starts, slopes, sinks,
                       part, local_memory, qb, h, b);
        if (!sum) {
          sum = g.end;
          for (int x = 0; x < BM * BM; x += LANES)
            VSTORE(VSPLAT(0.0f), sum + x);
        }
        const fused_block *f = &g.f;
        const int p1 = f->p0 + f->rows - 1;
        int lo, hi;
        score_range(A, f->kv_length, f->p0, p1, &lo, &hi);
        lo = MAX_OF(lo, my_j), hi = MIN_OF(hi, j_end);
        for (int j0 = lo; j0 < hi; j0 += BM) {
          const int keys = MIN_OF(BM, hi - j0);
          const int whole =
              score_whole(A, f->kv_length, f->p0, p1, j0, j0 + keys - 1);
          backward_weights(A, &g, k, v, mask, key_mask, bias, j0, keys, whole);
          for (int t = 0; t < keys; t++)
            for (int i = 0; i < f->nv; i++) {
              LOCAL float *at =
                  sum + (all_j ? 0 : j0 + t - my_j) * BM + i * LANES;
              const vf ds = VLOAD(g.ds + t * BM + i * LANES);
              const vi there = VSPLAT_I(i * LANES) + V_IOTA < VSPLAT_I(f->rows);
              VSTORE(VLOAD(at) + VSELECT(there, ds, VSPLAT(0.0f)), at);
            }
        }
      }

  /* In units of log 2 no longer: the gradient by natural scores. */
  const float natural = A->unit * LN2;
  const int rows = all_i ? 1 : MIN_OF(BM, A->q_len - my_i * BM);
  for (int t = 0; t < (all_j ? 1 : j_end - my_j); t++)
    for (int r = 0; r < rows; r++) {
      float x = sum[t * BM + r];
      for (int i = 1; all_i && i < BM; i++) x += sum[t * BM + i];
      const clt_i64 at = to->offset + (all_b ? 0 : gz * to->s[0]) +
                         (all_h ? 0 : gy * to->s[1]) +
                         (all_i ? 0 : (my_i * BM + r) * to->s[2]) +
                         (my_j + t) * to->s[3];
      x *= natural;
      if (A->grad_add) x += load_s(d_bias, at, A->weights_dtype);
      store_s(d_bias, at, A->weights_dtype, x);
    }
}

/* ---- the gradient of the sinks -----------------------------------------------------------
 * Contract: group x is a head. */

INLINE void attn_backward_sinks_group(const clt_attn_args *A,
                                      GLOBAL const float *lse,
                                      GLOBAL float *d_sinks,
                                      GLOBAL const float *sinks,
                                      GLOBAL const float *part, int h) {
  attn_sinks_store(A, d_sinks, h,
                   vsum(attn_sinks_sum(A, lse, sinks, part, h, 0, LANES)));
}

#endif /* CLT_ATTN_BACKWARD_H */
