/* attn_stats.h - what the weights of each row say: entropy, distance, the largest
 * ones, sums over blocks. For CPU-type devices: lanes are queries.
 *
 * Contract
 *   group   some tiles of up to BM queries of one (head, batch), one after the
 *           other, one work-item; grid x = groups, y = q_heads, z = batch. The
 *           tiles lie within one block of rows of the map, map_parts apart; of
 *           its last block a group may have none
 *   memory  CLT_STATS_LOCAL floats of local memory; nothing quadratic
 *   reads   the saved lse; keys that some row of the tile may see, no others
 *   writes  entropy, distance and largest weights of its rows; its part of one
 *           row of the map: zeros, then tile by tile what each adds
 *
 *              64 queries        P^T = exp2(S^T - lse), S^T as attn_fused.h has
 *            +------------+      it, 64 keys at a time. What is summed over keys
 *   keys     |  S^T, P^T  |      stays in vectors of queries: sum P log P, sum P
 *  64 at     +-----+------+      |p - j|, and for the map sum P, which is added
 *  a time    |  J  | J+1  |      up across lanes where a block of keys ends.
 *            +-----+------+
 *
 * The largest weights are kept as sorted lists, one a lane: a key is looked at
 * only if it is larger than the last of some lane's list, and then sinks to its
 * place in all lanes at once. */
#ifndef CLT_ATTN_STATS_H
#define CLT_ATTN_STATS_H
#include "attn_fused.h"
#include "attn_stats_rows.h"

/* Adds keys first .. last - 1 of the block of scores s, whose first key is j0.
 * keep: s becomes P, and STATS_HIDDEN what is hidden. */
INLINE void stats_add(const fused_block *f, LOCAL float *s, int first, int last,
                      int j0, int keep, const vf *lse2, vf *entropy,
                      vf *distance, vf *mass) {
  for (int v = 0; v < f->nv; v++) {
    const vi p = VSPLAT_I(f->p0 + v * LANES) + V_IOTA;
    const vf top = lse2[v];
    vf e = VSPLAT(0.0f), d = VSPLAT(0.0f), sum = VSPLAT(0.0f);
    for (int t = first; t < last; t++) {
      LOCAL float *at = s + t * BM + v * LANES;
      const vf score = VLOAD(at);
      const vf x = VMAX(VSPLAT(STATS_LEAST), score - top), w = exp2_v(x);
      vf far = TO_VF(p - VSPLAT_I(j0 + t));
      far = AS_VF(AS_VI(far) & 0x7fffffff);
      e = VFMA(w, x, e);
      d = VFMA(w, far, d);
      sum += w;
      if (keep)
        VSTORE(VSELECT(score == MINUS_INF, VSPLAT(STATS_HIDDEN), w), at);
    }
    entropy[v] += e;
    distance[v] += d;
    mass[v] += sum;
  }
}

/* Puts weights w of key j into the lists from `weights` and `keys` on, where they
 * belong there: behind those of their size. */
COLD void stats_insert(LOCAL float *weights, LOCAL float *keys, int top, vf w,
                       int j) {
  vf key = AS_VF(VSPLAT_I(j));
  vi moves = VSPLAT_I(0);
  for (int c = 0; c < top; c++) {
    const vf there = VLOAD(weights + c * BM), its = VLOAD(keys + c * BM);
    moves |= w > there; /* from here on everything moves up by one */
    VSTORE(VSELECT(moves, w, there), weights + c * BM);
    VSTORE(VSELECT(moves, key, its), keys + c * BM);
    w = VSELECT(moves, there, w);
    key = VSELECT(moves, its, key);
  }
}

/* Weights p[t][q] of keys j0 .. j0 + n - 1 into the lists. */
COLD void stats_top(const fused_block *f, LOCAL const float *p, int n, int j0,
                    int top, LOCAL float *weights, LOCAL float *keys) {
  for (int v = 0; v < f->nv; v++) {
    LOCAL float *list = weights + v * LANES;
    vf least = VLOAD(list + (top - 1) * BM);
    for (int t0 = 0; t0 < n; t0 += 8) {
      const int end = MIN_OF(t0 + 8, n);
      vf largest = VLOAD(p + t0 * BM + v * LANES);
      for (int t = t0 + 1; t < end; t++)
        largest = VMAX(largest, VLOAD(p + t * BM + v * LANES));
      if (!VANY(largest > least)) continue;
      for (int t = t0; t < end; t++) {
        const vf w = VLOAD(p + t * BM + v * LANES);
        if (!VANY(w > least)) continue;
        stats_insert(list, keys + v * LANES, top, w, j0 + t);
        least = VLOAD(list + (top - 1) * BM);
      }
    }
  }
}

/* The sum over the tile's rows. */
INLINE float stats_mass(const fused_block *f, vf *mass) {
  vf sum = VSPLAT(0.0f);
  for (int v = 0; v < f->nv; v++) {
    const vi row = VSPLAT_I(v * LANES) + V_IOTA;
    sum += VSELECT(row < VSPLAT_I(f->rows), mass[v], VSPLAT(0.0f));
    mass[v] = VSPLAT(0.0f);
  }
  return vsum(sum);
}

/* A number a row. */
INLINE void stats_store(const fused_block *f, GLOBAL float *to,
                        const clt_view *view, const vf *x) {
  for (int v = 0; v < f->nv; v++) {
    float of[LANES];
    VSTORE(x[v], of);
    for (int r = 0; r < LANES && v * LANES + r < f->rows; r++)
      to[stats_row_at(view, f->i0 + v * LANES + r, f->h, f->b)] = of[r];
  }
}

/* The tile of rows i0 .. of the block of the map that ends at end_row; share: of one
 * row in the block's mean. */
INLINE void stats_tile(const clt_stats_args *S, GLOBAL const float *q,
                       GLOBAL const float *k, GLOBAL const float *lse,
                       GLOBAL const clt_u8 *mask, GLOBAL const clt_u8 *key_mask,
                       GLOBAL const float *bias, GLOBAL const int *lengths,
                       GLOBAL const int *starts, GLOBAL const float *slopes,
                       GLOBAL float *entropy, GLOBAL float *distance,
                       GLOBAL float *top_weights, GLOBAL int *top_keys,
                       GLOBAL float *map_row, LOCAL float *local_memory, int i0,
                       int end_row, float share, int h, int b) {
  const clt_attn_args *A = &S->attn;
  const int D = A->qk_dim, has_map = S->has & CLT_STATS_MAP;
  fused_block f;
  fused_place(&f, A, lengths, starts, slopes, 0, i0, end_row, h, b);
  f.qt = local_memory;                                       /* [D][BM]       */
  f.kv = f.qt + D * BM;                                      /* [BN][D]       */
  f.tile = f.kv + BN * D;                                    /* [BN][BM]      */
  LOCAL float *s = f.tile + (f.masked ? BN * BM : 0);        /* [BN][BM]      */
  LOCAL float *list = s + BN * BM, *of = list + S->top * BM; /* [top][BM]     */
  fused_load_transposed(
      f.qt, q, A->q.offset + b * A->q.s[0] + h * A->q.s[1] + i0 * A->q.s[2],
      A->q.s[2], A->q.s[3], f.rows, D, A->dtype, A->scale2);
  for (int c = 0; c < S->top * BM; c += LANES) {
    VSTORE(VSPLAT(STATS_EMPTY), list + c);
    VSTORE(VSPLAT(0.0f), of + c);
  }

  vf lse2[NV], none[NV], e[NV], d[NV], mass[NV], block_e[NV], block_d[NV];
  for (int v = 0; v < NV; v++) {
    float row[LANES];
    for (int r = 0; r < LANES; r++) /* rows past the end repeat the last */
      row[r] = lse[stats_row_at(&A->lse, i0 + MIN_OF(v * LANES + r, f.rows - 1),
                                h, b)];
    lse2[v] = score_lse2_v(VLOAD(row));
    none[v] = e[v] = d[v] = mass[v] = VSPLAT(0.0f);
    block_e[v] = block_d[v] = VSPLAT(0.0f);
  }

  int lo, hi;
  const int p1 = f.p0 + f.rows - 1;
  score_range(A, f.kv_length, f.p0, p1, &lo, &hi);
  for (int j0 = lo; j0 < hi; j0 += BN) {
    const int keys = MIN_OF(BN, hi - j0);
    const int whole = score_whole(A, f.kv_length, f.p0, p1, j0, j0 + keys - 1);
    vf unused[NV];
    fused_scores(A, &f, k, mask, key_mask, bias, j0, keys, whole, s, none,
                 unused);
    /* Piece by piece, as the blocks of keys of the map cut them. Pieces of few
     * keys are added up first, to lose no more than whole blocks do. */
    for (int t = 0, end; t < keys; t = end) {
      const int J = (j0 + t) / S->map_keys;
      end = MIN_OF(keys, (J + 1) * S->map_keys - j0);
      stats_add(&f, s, t, end, j0, S->top, lse2, block_e, block_d, mass);
      const int complete = j0 + end == hi || j0 + end == (J + 1) * S->map_keys;
      if (has_map && complete)
        map_row[J * A->weights.s[3]] += stats_mass(&f, mass) * share;
    }
    for (int v = 0; v < f.nv; v++) {
      e[v] += block_e[v];
      d[v] += block_d[v];
      block_e[v] = block_d[v] = VSPLAT(0.0f);
    }
    if (S->top) stats_top(&f, s, keys, j0, S->top, list, of);
  }

  for (int v = 0; v < f.nv; v++) /* rounding may leave less than nothing */
    e[v] = VMAX(VSPLAT(0.0f), e[v] * -LN2);
  if (S->has & CLT_STATS_ENTROPY) stats_store(&f, entropy, &A->v, e);
  if (S->has & CLT_STATS_DISTANCE) stats_store(&f, distance, &A->out, d);
  for (int v = 0; v < f.nv && S->top; v++) {
    float lse_of[LANES];
    VSTORE(lse2[v], lse_of);
    for (int r = 0; r < LANES && v * LANES + r < f.rows; r++)
      for (int c = 0; c < S->top; c++) {
        const int at = c * BM + v * LANES + r;
        stats_store_top(S, top_weights, top_keys, c, i0 + v * LANES + r, h, b,
                        list[at], (int)AS_UINT(of[at]), lse_of[r]);
      }
  }
}

INLINE void attn_stats_group(
    const clt_stats_args *S, GLOBAL const float *q, GLOBAL const float *k,
    GLOBAL const float *lse, GLOBAL const clt_u8 *mask,
    GLOBAL const clt_u8 *key_mask, GLOBAL const float *bias,
    GLOBAL const int *lengths, GLOBAL const int *starts,
    GLOBAL const float *slopes, GLOBAL float *entropy, GLOBAL float *distance,
    GLOBAL float *top_weights, GLOBAL int *top_keys, GLOBAL float *map,
    LOCAL float *local_memory, int gx, int h, int b) {
  const int turn = fused_turn(gx, S->groups);
  const int I = turn / S->map_parts, part = turn % S->map_parts;
  const int first_row = I * S->map_rows;
  const int end_row = MIN_OF(S->attn.q_len, first_row + S->map_rows);
  const float share = 1.0f / (float)(end_row - first_row);
  GLOBAL float *map_row = map + stats_map_at(S, part, I, h, b);
  if (S->has & CLT_STATS_MAP) stats_clear_map(S, map_row, 0, 1);
  for (int i0 = first_row + part * BM; i0 < end_row; i0 += S->map_parts * BM)
    stats_tile(S, q, k, lse, mask, key_mask, bias, lengths, starts, slopes,
               entropy, distance, top_weights, top_keys, map_row, local_memory,
               i0, end_row, share, h, b);
}

#endif /* CLT_ATTN_STATS_H */
