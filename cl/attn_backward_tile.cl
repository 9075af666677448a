/* attn_backward_tile.cl - gradients of attention for GPUs.
 *
 * Contract (attn_backward_tile)
 *   group   TILE_X x height work-items, height 16, 8 or 4; grad_of says what
 *           they own:
 *           CLT_GRAD_KV    4 * height keys of key head gy and batch gz: against
 *                          the queries of all heads that share them
 *           CLT_GRAD_Q     4 * height queries of head gy and batch gz: against
 *                          all keys
 *           CLT_GRAD_BIAS  4 * height queries and TILE_N keys, gx = query block
 *                          * key blocks + key block, of head gy and batch gz; of
 *                          an axis along which the gradient's view, which is
 *                          where weights are, has stride 0: all of it, summed
 *   memory  CLT_BACKWARD_TILE_LOCAL(height) floats of local memory, whatever the
 *           head sizes are; dQ, dK, dV in scratch: nothing quadratic
 *   reads   delta (attn_delta_tile) and the saved lse; out is dO
 *   writes  its rows of dQ, or of dK and dV, every element; or of d_bias
 *
 *                64 columns          Own rows against 64 of the others: S and dP
 *             +-------------+        are tile_dots, then each work-item turns its
 *       4h    |  S     P    |        16 of them into P = exp2(S - lse) and
 *      rows   |  dP    dS   |        dS = P (dP - delta), in local memory, which
 *             +-------------+        tile_weigh sums the others' rows with:
 *             +-------------+          own keys:     dV += P^T dO, dK += dS^T Q
 *       4h    | 64 columns  |          own queries:  dQ += dS K
 *      rows   | of dQ, dK.. |        64 columns of the head at a time, so that the
 *             +-------------+        head size does not limit the tile.
 *
 * Barriers stand in loops alone, never behind a condition: PoCL doubles what comes
 * after one that does. The sums are kept in scratch in between, each element by one work-item, and so
 * neither barriers nor atomics are needed: they are in the caches. Every sum is
 * taken in one order that hangs on the shape and the device alone.
 *
 * Contract (attn_delta_tile)            a line of TILE_X work-items a row: gx =
 *                                       block of ROWS_TILE_HEIGHT rows, gy head,
 *                                       gz batch; CLT_ROWS_TILE_LOCAL floats
 * Contract (attn_backward_sinks_tile)   the same group, gx = head
 * Contract (attn_scores_backward_tile)  any height; row gx, head gy and batch gz
 *                                       of the chunk
 * Contract (sum_parts_tile)             a line of TILE_X work-items a row */
#undef LANES
#define LANES 1
#include "attn_params.h"
#include "attn_backward_rows.h"
#include "sums.h"
#include "tile.h"

/* Of dQ, dK or dV [rows][dim]: work-item (x, y) has elements (4y + i, x + 16j) of
 * every 64 columns. */
INLINE void backward_clear(GLOBAL float *sum, int rows, int dim) {
  for (int i = TILE_R * ITEM_Y; i < MIN_OF(TILE_R * (ITEM_Y + 1), rows); i++)
    for (int x = ITEM_X; x < dim; x += TILE_X) sum[(clt_i64)i * dim + x] = 0.0f;
}

/* sum[i][x] += sum_t w[t][i] b[t][x], t < n. */
INLINE void backward_add(GLOBAL float *sum, int rows, int dim,
                         LOCAL const float *w, int ld, LOCAL float *stage,
                         volatile LOCAL int *bad, const tile_rows *b, int n,
                         int guard) {
  const int row0 = TILE_R * ITEM_Y;
  for (int x0 = 0; x0 < dim; x0 += TILE_N) {
    float c[TILE_R][TILE_R];
    tile_rows part = *b;
    part.at += x0 * b->col;
    UNROLL
    for (int i = 0; i < TILE_R; i++) {
      UNROLL
      for (int j = 0; j < TILE_R; j++) {
        const int x = x0 + ITEM_X + TILE_X * j;
        c[i][j] = row0 + i < rows && x < dim
                      ? sum[(clt_i64)(row0 + i) * dim + x]
                      : 0.0f;
      }
    }
    tile_weigh(c, w, ld, stage, bad, &part, n, dim - x0, guard);
    UNROLL
    for (int i = 0; i < TILE_R; i++) {
      UNROLL
      for (int j = 0; j < TILE_R; j++) {
        const int x = x0 + ITEM_X + TILE_X * j;
        if (row0 + i < rows && x < dim)
          sum[(clt_i64)(row0 + i) * dim + x] = c[i][j];
      }
    }
  }
}

/* Columns [*c0, *c1) of the block of rows from r0 on to go through, those of
 * whole tiles that some row may see or be seen by. */
INLINE void backward_range(const clt_attn_args *A, int by_key, int kv_length,
                           int q_start, int r0, int rows, int *c0, int *c1) {
  int lo, hi;
  if (by_key) {
    clt_i64 first, end;
    score_positions(A, kv_length, r0, r0 + rows - 1, &first, &end);
    lo = (int)MIN_OF(MAX_OF(first - q_start, 0), (clt_i64)A->q_len);
    hi = (int)MIN_OF(MAX_OF(end - q_start, 0), (clt_i64)A->q_len);
  } else {
    score_range(A, kv_length, q_start + r0, q_start + r0 + rows - 1, &lo, &hi);
  }
  *c0 = MAX_OF(*c0, lo / TILE_N * TILE_N);
  *c1 = MIN_OF(*c1, hi);
}

/* out is dO, weights the gradient of the bias. */
__kernel void attn_backward_tile(ATTN_PARAMS) {
  const clt_attn_args *A = &args;
  const int by_key = A->grad_of == CLT_GRAD_KV;
  const int of_bias = A->grad_of == CLT_GRAD_BIAS;
  const int block = TILE_R * HEIGHT, ld = TILE_LD(HEIGHT);
  const int tx = ITEM_X, row0 = TILE_R * ITEM_Y; /* this work-item's rows */
  const int D = A->qk_dim, Dv = A->v_dim;
  const int all_rows = by_key ? A->kv_len : A->q_len;
  const int all_cols = by_key ? A->q_len : A->kv_len;
  const int masked = has_mask_bias(A);

  LOCAL float *stage = local_memory;
  LOCAL float *ps = stage + FUSED_TILE_STAGE; /* [TILE_N][ld]: S, P         */
  LOCAL float *ds = ps + TILE_N * ld;         /* [TILE_N][ld]: dP, dS       */
  LOCAL float *lse2 = ds + TILE_N * ld;       /* of the queries             */
  LOCAL float *delta = lse2 + TILE_N;
  volatile LOCAL int *bad = (volatile LOCAL int *)(delta + TILE_N);
  if (ITEM == 0) *bad = 0; /* barriers follow before it is used */

  /* Batches, heads, rows and columns to go through: first and end. */
  const clt_view *to = &A->weights;
  const int sum_b = of_bias && to->s[0] == 0, sum_h = of_bias && to->s[1] == 0;
  const int sum_i = of_bias && to->s[2] == 0, sum_j = of_bias && to->s[3] == 0;
  const int one_tile = of_bias && !sum_j; /* of columns */
  const int tiles = one_tile ? (all_cols + TILE_N - 1) / TILE_N : 1;
  const int blocks = sum_i ? 1 : (all_rows + block - 1) / block;
  const int heads = by_key ? A->group : 1;
  const int b0 = sum_b ? 0 : GZ, b1 = sum_b ? A->batch : GZ + 1;
  const int h0 = sum_h ? 0 : GY * heads, h1 = sum_h ? A->q_heads : h0 + heads;
  /* Early keys and late queries are long when causal: they go first. */
  const int first_row = (by_key ? GX : blocks - 1 - GX / tiles) * block;
  const int end_row = sum_i ? all_rows : first_row + 1;
  const int first_col = one_tile ? GX % tiles * TILE_N : 0;
  const int end_col =
      one_tile ? MIN_OF(first_col + TILE_N, all_cols) : all_cols;
  const int own_rows = MIN_OF(block, all_rows - first_row);

  /* What is summed, where it is wanted: dK or dQ, and dV. */
  const clt_i64 own =
      ((clt_i64)GZ * (by_key ? A->kv_heads : A->q_heads) + GY) * all_rows +
      first_row;
  const clt_i64 d_at = of_bias ? -1 : by_key ? A->d_k : A->d_q;
  const clt_i64 v_at = by_key ? A->d_v : -1;
  GLOBAL float *d_sum = d_at < 0 ? 0 : part + d_at + own * D;
  GLOBAL float *v_sum = v_at < 0 ? 0 : part + v_at + own * Dv;
  const int first_sum = d_sum ? 0 : 1, end_sum = v_sum ? 2 : 1;
  float bias_sum[TILE_R][TILE_R];
  tile_clear(bias_sum);
  if (d_sum) backward_clear(d_sum, own_rows, D);
  if (v_sum) backward_clear(v_sum, own_rows, Dv);

  for (int b = b0; b < b1; b++) {
    const int kv_length = score_kv_length(A, lengths, b);
    const int q_start = score_q_start(A, starts, b, kv_length);
    for (int h = h0; h < h1; h++)
      for (int r0 = first_row; r0 < end_row; r0 += block) {
        const int rows = MIN_OF(block, all_rows - r0);
        int c_begin = first_col, c_end = end_col;
        backward_range(A, by_key, kv_length, q_start, r0, rows, &c_begin,
                       &c_end);
        for (int c0 = c_begin; c0 < c_end; c0 += TILE_N) {
          const int cols = MIN_OF(TILE_N, c_end - c0);
          const int i0 = by_key ? c0 : r0, j0 = by_key ? r0 : c0;
          const int queries = by_key ? cols : rows;
          const int keys = by_key ? rows : cols;
          const int p0 = q_start + i0, p1 = p0 + queries - 1;
          const int whole =
              score_whole(A, kv_length, p0, p1, j0, j0 + keys - 1);
          const int ruled =
              masked || !whole || A->softcap2 > 0.0f || A->has_slopes;
          const float slope = score_slope(A, slopes, h);
          const int g = h / A->group;
          tile_rows qs, ks, vs, dos;
          tile_rows_of(&qs, q, &A->q, b, h, i0, 0, A->dtype);
          tile_rows_of(&ks, k, &A->k, b, g, j0, 0, A->dtype);
          tile_rows_of(&vs, v, &A->v, b, g, j0, 0, A->dtype);
          tile_rows_of(&dos, out, &A->out, b, h, i0, 0, A->grad_dtype);

          /* S, then dP */
          for (int n = 0; n < 2; n++) {
            const tile_rows x = n == 0 ? qs : dos, y = n == 0 ? ks : vs;
            const tile_rows mine = by_key ? y : x, other = by_key ? x : y;
            const float scale = n == 0 ? A->scale2 : 1.0f;
            float s[TILE_R][TILE_R];
            tile_clear(s);
            tile_dots(s, stage, &mine, rows, by_key ? 1.0f : scale, &other,
                      cols, by_key ? scale : 1.0f, n == 0 ? D : Dv);
            tile_put(n == 0 ? ps : ds, ld, s);
            /* Nobody reads the last ones any more. */
            if (n == 0)
              for (int r = ITEM; r < queries; r += ITEMS) {
                lse2[r] =
                    score_lse2(lse[A->lse.offset + b * A->lse.s[0] +
                                   h * A->lse.s[1] + (i0 + r) * A->lse.s[2]]);
                delta[r] = part[attn_delta_at(A, i0 + r, h, b)];
              }
          }

          /* P, dropped, and dS; what lies past the end: as the last one. */
          for (int e = 0; e < TILE_R * TILE_R; e++) {
            const int c = tx + TILE_X * (e / TILE_R), r = row0 + e % TILE_R;
            const int i = MIN_OF(by_key ? c : r, queries - 1);
            const int j = MIN_OF(by_key ? r : c, keys - 1);
            const int at = c * ld + r;
            const float s = ps[at];
            const float x = ruled ? tile_score(A, s, masked, whole, mask,
                                               key_mask, bias, slope, kv_length,
                                               b, h, i0 + i, p0 + i, j0 + j)
                                  : s;
            const float p = exp2_v(x - lse2[i]);
            float factor = 1.0f;
            if (drops(A)) {
              vu row[2];
              drop_rows(A, b, h, i0 + i, row);
              factor = drop_factor(A, row, j0 + j);
            }
            float d = p * (ds[at] * factor - delta[i]);
            /* By the score before softcap; a bias comes after it. */
            if (A->softcap2 > 0.0f && !of_bias)
              d *= score_softcap_slope(A, score_softcap(A, s));
            ps[at] = p * factor;
            ds[at] = p == 0.0f ? 0.0f : d; /* hidden: whatever dP holds */
          }

          /* Rows that hold NaN or Inf may be hidden. */
          for (int n = first_sum; n < end_sum; n++) {
            const tile_rows other = n == 1 ? dos : by_key ? qs : ks;
            backward_add(n == 1 ? v_sum : d_sum, rows, n == 1 ? Dv : D,
                         n == 1 ? ps : ds, ld, stage, bad, &other, cols,
                         masked || !whole);
          }
          UNROLL
          for (int i = 0; i < TILE_R; i++) {
            UNROLL
            for (int j = 0; j < TILE_R; j++) {
              const int r = row0 + i, c = tx + TILE_X * j;
              if (of_bias && r < rows && c < cols)
                bias_sum[i][j] += ds[c * ld + r];
            }
          }
        }
      }
  }

  /* The tile of d_bias, in ps; of an axis that is summed, the sum at its first
   * element. */
  if (of_bias) tile_put(ps, ld, bias_sum);
  SYNC;
  if (sum_j)
    for (int r = ITEM; r < block; r += ITEMS)
      for (int t = 1; t < TILE_N; t++) ps[r] += ps[t * ld + r];
  SYNC;
  const int bias_rows = !of_bias ? 0 : sum_i ? 1 : own_rows;
  const int bias_cols = sum_j ? 1 : end_col - first_col;
  for (int e = ITEM; e < TILE_N * bias_rows; e += ITEMS) {
    const int r = e / TILE_N, t = e % TILE_N;
    if (t < bias_cols) {
      const clt_i64 at = to->offset + (sum_b ? 0 : GZ * to->s[0]) +
                         (sum_h ? 0 : GY * to->s[1]) +
                         (first_row + r) * to->s[2] +
                         (first_col + t) * to->s[3];
      float x = ps[t * ld + r];
      for (int i = 1; sum_i && i < block; i++) x += ps[t * ld + i];
      x *= A->unit * LN2; /* by natural scores, not in units of log 2 */
      if (A->grad_add) x += load_s(weights, at, A->weights_dtype);
      store_s(weights, at, A->weights_dtype, x);
    }
  }
}

/* The sum over `items` numbers in local memory, in their order. */
INLINE float rows_tile_sum(LOCAL const float *red, int items) {
  float sum = red[0];
  for (int n = 1; n < items; n++) sum += red[n];
  return sum;
}

/* weights is dO. */
__kernel void attn_delta_tile(ATTN_PARAMS) {
  const int i = GX * ROWS_TILE_HEIGHT + ITEM_Y;
  LOCAL float *red = local_memory + ITEM_Y * (TILE_X + 1);
  red[ITEM_X] = attn_delta_sum(&args, out, weights, MIN_OF(i, args.q_len - 1),
                               GY, GZ, ITEM_X, TILE_X);
  SYNC;
  if (ITEM_X == 0 && i < args.q_len)
    part[attn_delta_at(&args, i, GY, GZ)] = rows_tile_sum(red, TILE_X);
}

/* weights is the gradient of the sinks. */
__kernel void attn_backward_sinks_tile(ATTN_PARAMS) {
  local_memory[ITEM] = attn_sinks_sum(&args, lse, sinks, part, GX, ITEM, ITEMS);
  SYNC;
  if (ITEM == 0)
    attn_sinks_store(&args, weights, GX, rows_tile_sum(local_memory, ITEMS));
}

__kernel void attn_scores_backward_tile(ATTN_PARAMS) {
  attn_scores_backward_row(&args, lse, mask, key_mask, bias, lengths, starts,
                           slopes, part, GX, GY, GZ, ITEM, ITEMS);
}

__kernel void sum_parts_tile(clt_sum_parts_args args,
                             __global const float *from, __global float *to,
                             __local float *local_memory) {
  const int r = GX * ROWS_TILE_HEIGHT + ITEM_Y;
  if (r < args.rows) sum_parts_row(&args, from, to, r, GY, GZ, ITEM_X, TILE_X);
}
