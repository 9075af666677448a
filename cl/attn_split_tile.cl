/* attn_split_tile.cl - fused attention for few queries against many keys, for
 * GPUs: keys are split over groups.
 *
 * Contract (attn_split_tile)
 *   group   TILE_X x height work-items, height 16, 8 or 4: split and slice of V
 *           from gx = split * ceil(Dv / SPLIT_TILE_DV) + slice; gy = (key head,
 *           chunk of SPLIT_TILE_ROWS rows); gz = batch. Rows as in attn_split.h: the
 *           group * Sq pairs (query head, query row) of a key head.
 *   memory  CLT_SPLIT_TILE_LOCAL(height, D) floats of local memory
 *   writes  n_splits > 1: part[b][h][i][split][Dv + 2] = O, maximum, sum
 *           n_splits = 1: out and lse
 * Contract (attn_merge_tile)
 *   group   MERGE_TILE_ITEMS work-items in x, one row: gx = query row,
 *           gy = query head, gz = batch
 *   writes  out and lse from the parts, as attn_merge does
 *
 *   Scores: K is read once, straight from global memory. The 16 work-items of a
 *   line share a key, each has every 16th of its dims, 4 keys and all rows;
 *   what they find is added up through local memory, two rows at a time.
 *
 *      K [4 * height keys][D]              V [4 * height keys][Dv]
 *      |0 1 2 .. 15|0 1 2 .. 15|           |0 1 2 ..           63|0 1 ..
 *      |0 1 2 .. 15|0 1 2 .. 15|           |64 ..             127|64 ..
 *
 *   Values: lines of 64 work-items take every (height / 4)th key; a work-item
 *   has every 64th column, 4 of them, and all rows, and keeps its O in
 *   registers until the split is done.
 *
 *   Softmax: work-item n has entries n and n + items of s [keys][SPLIT_TILE_ROWS],
 *   so always of row n % SPLIT_TILE_ROWS, whose maximum and sum it keeps. */
#undef LANES
#define LANES 1
#include "attn_params.h"
#include "tile.h"

/* sums[r][n] = sum over this work-item's dims of q[r] * key y + n * height, for
 * ROWS rows. */
INLINE void split_tile_dots(const int ROWS, float sums[SPLIT_TILE_ROWS][TILE_R],
                            LOCAL const float *qs, int D, GLOBAL const float *k,
                            clt_i64 at, clt_i64 row_stride, clt_i64 col_stride,
                            int keys, int dtype) {
  UNROLL
  for (int r = 0; r < ROWS; r++) {
    UNROLL
    for (int n = 0; n < TILE_R; n++) sums[r][n] = 0.0f;
  }
  for (int x = ITEM_X; x < D; x += TILE_X) {
    float y[TILE_R];
    UNROLL
    for (int n = 0; n < TILE_R; n++) { /* past the end: the last key */
      const int t = MIN_OF(ITEM_Y + n * HEIGHT, keys - 1);
      y[n] = load_s(k, at + t * row_stride + x * col_stride, dtype);
    }
    UNROLL
    for (int r = 0; r < ROWS; r++) {
      const float w = qs[r * D + x];
      UNROLL
      for (int n = 0; n < TILE_R; n++) sums[r][n] = VFMA(w, y[n], sums[r][n]);
    }
  }
}

/* o[r][c] = o[r][c] * alpha[r] + sum_t p[t][r] v[t][c] over this work-item's
 * keys and columns, for ROWS rows. guard: terms with p = 0 are left out, for a
 * hidden value may be NaN. */
INLINE void split_tile_values(const int ROWS, float o[SPLIT_TILE_ROWS][TILE_R],
                              LOCAL const float *alpha, LOCAL const float *p,
                              GLOBAL const float *v, clt_i64 at,
                              clt_i64 row_stride, clt_i64 col_stride, int keys,
                              int cols, int dtype, int guard) {
  UNROLL
  for (int c = 0; c < TILE_R; c++) {
    const int x = ITEM % TILE_N + c * TILE_N;
    if (x < cols) {
      UNROLL
      for (int r = 0; r < ROWS; r++) o[r][c] *= alpha[r];
      for (int t = ITEM / TILE_N; t < keys; t += ITEMS / TILE_N) {
        const float y = load_s(v, at + t * row_stride + x * col_stride, dtype);
        UNROLL
        for (int r = 0; r < ROWS; r++) {
          const float w = p[t * SPLIT_TILE_ROWS + r];
          o[r][c] = guard && w == 0.0f ? o[r][c] : VFMA(w, y, o[r][c]);
        }
      }
    }
  }
}

/* Query head and query row of row r of key head g. */
INLINE int split_tile_head(const clt_attn_args *A, int g, int r) {
  return g * A->group + r / A->q_len;
}

/* The loops above for 1, 4 or SPLIT_TILE_ROWS rows; barriers stand outside. */
INLINE void split_tile_all_dots(int rows, float sums[SPLIT_TILE_ROWS][TILE_R],
                                LOCAL const float *qs, int D,
                                GLOBAL const float *k, clt_i64 at,
                                clt_i64 row_stride, clt_i64 col_stride,
                                int keys, int dtype) {
  if (rows == 1)
    split_tile_dots(1, sums, qs, D, k, at, row_stride, col_stride, keys, dtype);
  else if (rows <= 4)
    split_tile_dots(4, sums, qs, D, k, at, row_stride, col_stride, keys, dtype);
  else
    split_tile_dots(SPLIT_TILE_ROWS, sums, qs, D, k, at, row_stride, col_stride,
                    keys, dtype);
}
INLINE void split_tile_all_values(int rows, float o[SPLIT_TILE_ROWS][TILE_R],
                                  LOCAL const float *alpha,
                                  LOCAL const float *p, GLOBAL const float *v,
                                  clt_i64 at, clt_i64 row_stride,
                                  clt_i64 col_stride, int keys, int cols,
                                  int dtype, int guard) {
  if (rows == 1)
    split_tile_values(1, o, alpha, p, v, at, row_stride, col_stride, keys, cols,
                      dtype, guard);
  else if (rows <= 4)
    split_tile_values(4, o, alpha, p, v, at, row_stride, col_stride, keys, cols,
                      dtype, guard);
  else
    split_tile_values(SPLIT_TILE_ROWS, o, alpha, p, v, at, row_stride,
                      col_stride, keys, cols, dtype, guard);
}

__kernel void attn_split_tile(ATTN_PARAMS) {
  const clt_attn_args *A = &args;
  const int all_rows = A->group * A->q_len;
  const int chunks = (all_rows + SPLIT_TILE_ROWS - 1) / SPLIT_TILE_ROWS;
  const int g = GY / chunks, r0 = GY % chunks * SPLIT_TILE_ROWS;
  const int rows = MIN_OF(SPLIT_TILE_ROWS, all_rows - r0);
  const int b = GZ, D = A->qk_dim, block = TILE_R * HEIGHT, items = ITEMS;
  const int item = ITEM, my_row = item % SPLIT_TILE_ROWS;
  const int at = r0 + MIN_OF(my_row, rows - 1); /* unused rows: the last */
  const int h = split_tile_head(A, g, at), i = at % A->q_len;
  const int slices = (A->v_dim + SPLIT_TILE_DV - 1) / SPLIT_TILE_DV;
  const int split = GX / slices, x0 = GX % slices * SPLIT_TILE_DV;
  const int Dv = MIN_OF(A->v_dim - x0, SPLIT_TILE_DV);
  const int kv_length = score_kv_length(A, lengths, b);
  const int q_start = score_q_start(A, starts, b, kv_length);
  const int masked = has_mask_bias(A);
  const float slope = score_slope(A, slopes, h);

  LOCAL float *qs = local_memory; /* [SPLIT_TILE_ROWS][D]            */
  LOCAL float *red = qs + SPLIT_TILE_ROWS * D; /* [2][block][TILE_X + 1]     */
  LOCAL float *s =
      red + 2 * block * (TILE_X + 1); /* [block][SPLIT_TILE_ROWS]   */
  LOCAL float *tops =
      s + block * SPLIT_TILE_ROWS;   /* [items]                    */
  LOCAL float *alpha = tops + items; /* [SPLIT_TILE_ROWS]               */
  LOCAL float *shift =
      alpha + SPLIT_TILE_ROWS; /* [SPLIT_TILE_ROWS]               */

  int first = A->q_len - 1, last = 0;
  for (int r = 0; r < SPLIT_TILE_ROWS; r++) { /* unused rows: the last */
    const int one = r0 + MIN_OF(r, rows - 1), query = one % A->q_len;
    const clt_i64 from = A->q.offset + b * A->q.s[0] +
                         split_tile_head(A, g, one) * A->q.s[1] +
                         query * A->q.s[2];
    first = MIN_OF(first, query);
    last = MAX_OF(last, query);
    for (int x = item; x < D; x += items)
      qs[r * D + x] = load_s(q, from + x * A->q.s[3], A->dtype) * A->scale2;
  }
  for (int e = item; e < block * SPLIT_TILE_ROWS; e += items) s[e] = MINUS_INF;
  SYNC;

  float o[SPLIT_TILE_ROWS][TILE_R], m = MINUS_INF, sum = 0.0f;
  UNROLL
  for (int r = 0; r < SPLIT_TILE_ROWS; r++) {
    UNROLL
    for (int c = 0; c < TILE_R; c++) o[r][c] = 0.0f;
  }

  int lo, hi;
  score_range(A, kv_length, q_start + first, q_start + last, &lo, &hi);
  lo = MAX_OF(lo, split * A->split_len);
  hi = (int)MIN_OF((clt_i64)hi, ((clt_i64)split + 1) * A->split_len);
  for (int j0 = lo; j0 < hi; j0 += block) {
    const int keys = MIN_OF(block, hi - j0);
    const int whole = score_whole(A, kv_length, q_start + first, q_start + last,
                                  j0, j0 + keys - 1);
    float sums[SPLIT_TILE_ROWS][TILE_R];
    split_tile_all_dots(
        rows, sums, qs, D, k,
        A->k.offset + b * A->k.s[0] + g * A->k.s[1] + j0 * A->k.s[2], A->k.s[2],
        A->k.s[3], keys, A->dtype);
    for (int r2 = 0; r2 < rows; r2 += 2) {
      UNROLL
      for (int r = 0; r < SPLIT_TILE_ROWS; r++) /* r must be a constant */
        if (r >= r2 && r < MIN_OF(r2 + 2, rows)) UNROLL
      for (int n = 0; n < TILE_R; n++)
        red[((r - r2) * block + ITEM_Y + n * HEIGHT) * (TILE_X + 1) + ITEM_X] =
            sums[r][n];
      SYNC;
      const int r = r2 + item / block, t = item % block;
      if (item < 2 * block && r < rows) {
        float x = 0.0f;
        for (int n = 0; n < TILE_X; n++) x += red[item * (TILE_X + 1) + n];
        s[t * SPLIT_TILE_ROWS + r] = x;
      }
      SYNC;
    }

    float mx = MINUS_INF;
    for (int e = item; e < 2 * items; e += items) {
      const int t = e / SPLIT_TILE_ROWS;
      const float x =
          t < keys && my_row < rows
              ? tile_score(A, s[e], masked, whole, mask, key_mask, bias, slope,
                           kv_length, b, h, i, q_start + i, j0 + t)
              : MINUS_INF;
      s[e] = x;
      mx = VMAX(mx, x);
    }
    tops[item] = mx;
    SYNC;
    mx = m;
    for (int n = my_row; n < items; n += SPLIT_TILE_ROWS)
      mx = VMAX(mx, tops[n]);
    const float top = finite_max(mx), scale = exp2_v(m - top);
    const float e0 = exp2_v(s[item] - top), e1 = exp2_v(s[item + items] - top);
    s[item] = e0;
    s[item + items] = e1;
    if (drops(A)) {
      vu drop[2];
      drop_rows(A, b, h, i, drop);
      s[item] *= drop_factor(A, drop, j0 + item / SPLIT_TILE_ROWS);
      s[item + items] *=
          drop_factor(A, drop, j0 + (item + items) / SPLIT_TILE_ROWS);
    }
    m = mx;
    sum = VFMA(sum, scale, e0 + e1);
    if (item < SPLIT_TILE_ROWS) alpha[item] = scale;
    SYNC;

    split_tile_all_values(rows, o, alpha, s, v,
                          A->v.offset + b * A->v.s[0] + g * A->v.s[1] +
                              j0 * A->v.s[2] + x0 * A->v.s[3],
                          A->v.s[2], A->v.s[3], keys, Dv, A->dtype,
                          masked || !whole);
  }

  /* Sums of the rows; what O is multiplied with, which joins the sink when no
   * merge follows. */
  SYNC;
  tops[item] = sum;
  SYNC;
  if (item < rows) {
    float total = 0.0f;
    for (int n = item; n < items; n += SPLIT_TILE_ROWS) total += tops[n];
    if (A->n_splits == 1) {
      const float sink = score_sink(A, sinks, h);
      const float top = MAX_OF(m, sink), base = finite_max(top);
      const float scale = exp2_v(m - base);
      total = total * scale + exp2_v(sink - base);
      shift[item] = scale * row_inverse(total);
      if (A->has_lse && x0 == 0)
        lse[A->lse.offset + b * A->lse.s[0] + h * A->lse.s[1] +
            i * A->lse.s[2]] = row_lse(top, total);
    } else {
      shift[item] = 1.0f;
      if (x0 == 0) {
        GLOBAL float *to =
            part + A->part +
            ((((clt_i64)b * A->q_heads + h) * A->q_len + i) * A->n_splits +
             split) *
                (A->v_dim + 2) +
            A->v_dim;
        to[0] = m;
        to[1] = total;
      }
    }
  }

  /* The lines' shares of O are added up, two rows at a time. */
  for (int r2 = 0; r2 < rows; r2 += 2) {
    UNROLL
    for (int r = 0; r < SPLIT_TILE_ROWS; r++)
      if (r >= r2 && r < MIN_OF(r2 + 2, rows)) UNROLL
    for (int c = 0; c < TILE_R; c++)
      red[((r - r2) * TILE_R + c) * items + item] = o[r][c];
    SYNC;
    for (int e = item; e < 2 * SPLIT_TILE_DV; e += items) {
      const int r = r2 + e / SPLIT_TILE_DV, x = e % SPLIT_TILE_DV;
      if (r < rows && x < Dv) {
        LOCAL const float *from =
            red + ((r - r2) * TILE_R + x / TILE_N) * items + x % TILE_N;
        const int head = split_tile_head(A, g, r0 + r);
        const int query = (r0 + r) % A->q_len;
        float y = 0.0f;
        for (int n = 0; n < items; n += TILE_N) y += from[n];
        y *= shift[r];
        if (A->n_splits == 1)
          store_s(out,
                  A->out.offset + b * A->out.s[0] + head * A->out.s[1] +
                      query * A->out.s[2] + (x0 + x) * A->out.s[3],
                  A->dtype, y);
        else
          part[A->part +
               ((((clt_i64)b * A->q_heads + head) * A->q_len + query) *
                    A->n_splits +
                split) *
                   (A->v_dim + 2) +
               x0 + x] = y;
      }
    }
    SYNC;
  }
}

__kernel void attn_merge_tile(ATTN_PARAMS) {
  const clt_attn_args *A = &args;
  const int i = GX, h = GY, b = GZ, Dv = A->v_dim;
  GLOBAL const float *from =
      part + A->part +
      (((clt_i64)b * A->q_heads + h) * A->q_len + i) * A->n_splits * (Dv + 2);
  const float sink = score_sink(A, sinks, h);
  float top = sink;
  for (int s = 0; s < A->n_splits; s++) {
    const float m = from[(clt_i64)s * (Dv + 2) + Dv];
    top = MAX_OF(top, m); /* a NaN maximum stays or goes; its sum is NaN too */
  }
  const float base = finite_max(top);
  float sum = exp2_v(sink - base);
  for (int s = 0; s < A->n_splits; s++) {
    GLOBAL const float *one = from + (clt_i64)s * (Dv + 2) + Dv;
    if (one[0] != MINUS_INF) sum += exp2_v(one[0] - base) * one[1];
  }
  const float scale = row_inverse(sum);
  for (int x = ITEM_X; x < Dv; x += MERGE_TILE_ITEMS) {
    float o = 0.0f;
    for (int s = 0; s < A->n_splits; s++) {
      GLOBAL const float *one = from + (clt_i64)s * (Dv + 2);
      if (one[Dv] != MINUS_INF) /* else it saw nothing */
        o = VFMA(exp2_v(one[Dv] - base), one[x], o);
    }
    store_s(out,
            A->out.offset + b * A->out.s[0] + h * A->out.s[1] +
                i * A->out.s[2] + x * A->out.s[3],
            A->dtype, o * scale);
  }
  if (A->has_lse && ITEM_X == 0)
    lse[A->lse.offset + b * A->lse.s[0] + h * A->lse.s[1] + i * A->lse.s[2]] =
        row_lse(top, sum);
}
