/* attn_fused_tile.cl - fused attention for GPUs.
 *
 * Contract
 *   group   TILE_X x height work-items, height 16, 8 or 4: one block of
 *           4 * height queries of one (head, batch), FUSED_TILE_DV columns of
 *           V; grid x = blocks * ceil(Dv / FUSED_TILE_DV), y = q_heads,
 *           z = batch
 *   memory  CLT_FUSED_TILE_LOCAL(height) floats of local memory, at most
 *           29 KiB, whatever the head sizes are
 *   reads   keys in [lo, hi) that some row of the block may see, no others
 *   writes  out and lse of its own rows, every element once
 *
 *            16 dims      64 keys at a time        Scores, O, maxima and sums
 *                       +------------------+       are in registers, 4 x 4 and
 *                K^T    |    staged        |       4 x 8 a work-item (tile.h).
 *                       +------------------+       P goes through local memory,
 *    4h     +---+       +------------------+       as all 64 keys of a row are
 *  queries  | Q |       |  S  ->  P        |       summed over by each column
 *           +---+       +------------------+       of O.
 *                                         64 columns
 *                       +------------------+----------+
 *              32 keys  |                  V staged   |
 *                       +-----------------------------+
 *
 * Q is staged again for every block of keys (it stays in the cache), so that
 * the head size does not limit the tile. Values past the first FUSED_TILE_DV
 * columns are other groups' work, which form the scores anew. */
#undef LANES
#define LANES 1
#include "attn_params.h"
#include "tile.h"

#define SLICES 2 /* of TILE_N columns in FUSED_TILE_DV */

__kernel void attn_fused_tile(ATTN_PARAMS) {
  const clt_attn_args *A = &args;
  const int h = GY, b = GZ, g = h / A->group;
  const int block = TILE_R * HEIGHT, ld = TILE_LD(HEIGHT);
  const int tx = ITEM_X, row0 = TILE_R * ITEM_Y; /* this work-item's rows */

  const int slices = (A->v_dim + FUSED_TILE_DV - 1) / FUSED_TILE_DV;
  const int x0 = GX % slices * FUSED_TILE_DV, Dv = A->v_dim - x0;
  /* Late causal blocks are long: they go first. */
  const int qb = (A->q_len + block - 1) / block - 1 - GX / slices;
  const int i0 = qb * block, rows = MIN_OF(block, A->q_len - i0);
  const int kv_length = score_kv_length(A, lengths, b);
  const int p0 = score_q_start(A, starts, b, kv_length) + i0;
  const float slope = score_slope(A, slopes, h);
  const int masked = has_mask_bias(A);
  tile_rows queries;
  tile_rows_of(&queries, q, &A->q, b, h, i0, 0, A->dtype);

  LOCAL float *stage = local_memory;          /* Q and K, or V             */
  LOCAL float *ps = stage + FUSED_TILE_STAGE; /* [TILE_N][ld]              */
  LOCAL float *red = ps + TILE_N * ld;        /* [TILE_X][ld]              */
  volatile LOCAL int *bad = (volatile LOCAL int *)(red + TILE_X * ld);
  if (ITEM == 0) *bad = 0; /* barriers follow before it is used */

  float o[SLICES][TILE_R][TILE_R], m[TILE_R], sum[TILE_R];
  const float sink = score_sink(A, sinks, h);
  UNROLL
  for (int i = 0; i < TILE_R; i++) {
    m[i] = sink;
    sum[i] = tx == 0 && sink != MINUS_INF ? 1.0f : 0.0f; /* of its own keys */
    UNROLL
    for (int l = 0; l < SLICES; l++) {
      UNROLL
      for (int j = 0; j < TILE_R; j++) o[l][i][j] = 0.0f;
    }
  }

  int lo, hi;
  score_range(A, kv_length, p0, p0 + rows - 1, &lo, &hi);
  for (int j0 = lo; j0 < hi; j0 += TILE_N) {
    const int keys = MIN_OF(TILE_N, hi - j0);
    const int whole =
        score_whole(A, kv_length, p0, p0 + rows - 1, j0, j0 + keys - 1);
    tile_rows ks;
    tile_rows_of(&ks, k, &A->k, b, g, j0, 0, A->dtype);
    float s[TILE_R][TILE_R];
    tile_scores(s, A, stage, ps, &queries, &ks, mask, key_mask, bias, slope,
                masked, whole, kv_length, b, h, i0, rows, p0, j0, keys);

    /* Maxima over the row, then P and the sums of this work-item's keys. */
    UNROLL
    for (int i = 0; i < TILE_R; i++) {
      float mx = s[i][0];
      UNROLL
      for (int j = 1; j < TILE_R; j++) mx = VMAX(mx, s[i][j]);
      red[tx * ld + row0 + i] = mx;
    }
    SYNC;
    float alpha[TILE_R];
    UNROLL
    for (int i = 0; i < TILE_R; i++) {
      vu row[2];
      drop_rows(A, b, h, i0 + row0 + i, row);
      float mx = m[i];
      for (int x = 0; x < TILE_X; x++) mx = VMAX(mx, red[x * ld + row0 + i]);
      const float top = finite_max(mx);
      alpha[i] = exp2_v(m[i] - top);
      m[i] = mx;
      float add = 0.0f;
      UNROLL
      for (int j = 0; j < TILE_R; j++) {
        const float p = exp2_v(s[i][j] - top);
        ps[(tx + TILE_X * j) * ld + row0 + i] =
            drops(A) ? p * drop_factor(A, row, j0 + tx + TILE_X * j) : p;
        add += p;
      }
      sum[i] = VFMA(sum[i], alpha[i], add);
    }

    for (int c0 = 0; c0 < MIN_OF(Dv, FUSED_TILE_DV); c0 += TILE_N) {
      float c[TILE_R][TILE_R];
      UNROLL
      for (int i = 0; i < TILE_R; i++) {
        UNROLL
        for (int j = 0; j < TILE_R; j++)
          c[i][j] = alpha[i] * (c0 == 0 ? o[0][i][j] : o[1][i][j]);
      }
      /* Values that hold NaN or Inf may be hidden from some rows. */
      tile_rows vs;
      tile_rows_of(&vs, v, &A->v, b, g, j0, x0 + c0, A->dtype);
      tile_weigh(c, ps, ld, stage, bad, &vs, keys, Dv - c0, masked || !whole);
      UNROLL
      for (int i = 0; i < TILE_R; i++) UNROLL
      for (int j = 0; j < TILE_R; j++) {
        o[0][i][j] = c0 == 0 ? c[i][j] : o[0][i][j];
        o[1][i][j] = c0 == 0 ? o[1][i][j] : c[i][j];
      }
    }
  }

  SYNC;
  UNROLL
  for (int i = 0; i < TILE_R; i++) red[tx * ld + row0 + i] = sum[i];
  SYNC;
  UNROLL
  for (int i = 0; i < TILE_R; i++) {
    const int r = row0 + i;
    float total = 0.0f;
    for (int x = 0; x < TILE_X; x++) total += red[x * ld + r];
    const float scale = row_inverse(total);
    const clt_i64 at = A->out.offset + b * A->out.s[0] + h * A->out.s[1] +
                       (i0 + r) * A->out.s[2];
    if (r < rows) {
      UNROLL
      for (int l = 0; l < SLICES; l++) UNROLL
      for (int j = 0; j < TILE_R; j++) {
        const int x = l * TILE_N + tx + TILE_X * j;
        if (x < Dv)
          store_s(out, at + (x0 + x) * A->out.s[3], A->dtype,
                  o[l][i][j] * scale);
      }
      if (A->has_lse && tx == 0 && x0 == 0)
        lse[A->lse.offset + b * A->lse.s[0] + h * A->lse.s[1] +
            (i0 + r) * A->lse.s[2]] = row_lse(m[i], total);
    }
  }
}
