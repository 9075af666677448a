/* attn_stats_tile.cl - what the weights of each row say, for GPUs.
 *
 * Contract (attn_stats_tile)
 *   group   TILE_X x height work-items, height 16, 8 or 4: some tiles of up to
 *           4 * height queries of one (head, batch) within one block of rows of
 *           the map, map_parts apart, one after the other; grid x = groups,
 *           y = q_heads, z = batch
 *   memory  CLT_STATS_TILE_LOCAL(height) floats of local memory, whatever the
 *           head size is. The largest weights are kept where they are given to
 *           the caller: top_weights and top_keys must both be there, or neither
 *   reads   the saved lse; keys that some row of the tile may see, no others
 *   writes  as attn_stats.h
 *
 *             64 keys, or to the end     Scores are in registers, 4 x 4 a
 *             of a block of the map      work-item (tile.h), and with them its
 *            +-----------------------+   share of what is summed over keys. P
 *      4h    |   S  ->  P            |   goes through local memory for the lists
 *   queries  |                       |   of the largest: one work-item a row reads
 *            +-----------------------+   them in the order of the keys.
 *
 * Contract (attn_stats_sum_tile)   a line of TILE_X work-items a row */
#undef LANES
#define LANES 1
#include "attn_params.h"
#include "attn_stats_rows.h"
#include "sums.h"
#include "tile.h"

/* Weight w of key j into a row's list in the caller's memory, as attn_stats.h has
 * it; *least: the last of the list. */
INLINE void stats_insert_row(const clt_stats_args *S, GLOBAL float *weights,
                             GLOBAL int *keys, float w, int j, float *least) {
  const clt_i64 ws = S->top_weights.s[3], ks = S->top_keys.s[3];
  int c = S->top - 1;
  for (; c > 0 && weights[(c - 1) * ws] < w; c--) {
    weights[c * ws] = weights[(c - 1) * ws];
    keys[c * ks] = keys[(c - 1) * ks];
  }
  weights[c * ws] = w;
  keys[c * ks] = j;
  *least = weights[(S->top - 1) * ws];
}

/* The tile of rows i0 .. i0 + rows - 1, of a block of the map of block_rows. */
INLINE void stats_tile(const clt_stats_args *S, GLOBAL const float *q,
                       GLOBAL const float *k, GLOBAL const float *lse,
                       GLOBAL const clt_u8 *mask, GLOBAL const clt_u8 *key_mask,
                       GLOBAL const float *bias, GLOBAL const int *lengths,
                       GLOBAL const int *starts, GLOBAL const float *slopes,
                       GLOBAL float *entropy, GLOBAL float *distance,
                       GLOBAL float *top_weights, GLOBAL int *top_keys,
                       GLOBAL float *map_row, LOCAL float *local_memory, int i0,
                       int rows, int block_rows, int h, int b) {
  const clt_attn_args *A = &S->attn;
  const int g = h / A->group, ld = TILE_LD(HEIGHT);
  const int tx = ITEM_X, row0 = TILE_R * ITEM_Y; /* this work-item's rows */
  const int has_map = S->has & CLT_STATS_MAP;
  const int kv_length = score_kv_length(A, lengths, b);
  const int p0 = score_q_start(A, starts, b, kv_length) + i0;
  const float slope = score_slope(A, slopes, h);
  const int masked = has_mask_bias(A);
  tile_rows queries;
  tile_rows_of(&queries, q, &A->q, b, h, i0, 0, A->dtype);

  LOCAL float *stage = local_memory;            /* Q and K              */
  LOCAL float *ps = stage + TILE_STAGE(HEIGHT); /* [TILE_N][ld]         */
  LOCAL float *red = ps + TILE_N * ld;          /* [TILE_X][ld], [ITEMS] */
  LOCAL float *columns = red + TILE_X * ld;     /* [TILE_X]             */

  float lse2[TILE_R], e[TILE_R], d[TILE_R], mass = 0.0f;
  UNROLL
  for (int i = 0; i < TILE_R; i++) {
    const int r = MIN_OF(row0 + i, rows - 1);
    lse2[i] = score_lse2(lse[stats_row_at(&A->lse, i0 + r, h, b)]);
    e[i] = d[i] = 0.0f;
  }
  /* The list of row ITEM. */
  const int lists = S->top > 0 && ITEM < rows;
  GLOBAL float *list =
      lists ? top_weights + stats_row_at(&S->top_weights, i0 + ITEM, h, b) : 0;
  GLOBAL int *list_keys =
      lists ? top_keys + stats_row_at(&S->top_keys, i0 + ITEM, h, b) : 0;
  float least = STATS_EMPTY;
  for (int c = 0; lists && c < S->top; c++) {
    list[c * S->top_weights.s[3]] = STATS_EMPTY;
    list_keys[c * S->top_keys.s[3]] = -1;
  }

  int lo, hi;
  const int p1 = p0 + rows - 1;
  score_range(A, kv_length, p0, p1, &lo, &hi);
  int keys;
  for (int j0 = lo; j0 < hi; j0 += keys) {
    const int J = j0 / S->map_keys, edge = (J + 1) * S->map_keys;
    keys = MIN_OF(MIN_OF(TILE_N, hi - j0), edge - j0);
    const int whole = score_whole(A, kv_length, p0, p1, j0, j0 + keys - 1);
    tile_rows ks;
    tile_rows_of(&ks, k, &A->k, b, g, j0, 0, A->dtype);
    float s[TILE_R][TILE_R];
    tile_scores(s, A, stage, ps, &queries, &ks, mask, key_mask, bias, slope,
                masked, whole, kv_length, b, h, i0, rows, p0, j0, keys);
    UNROLL
    for (int i = 0; i < TILE_R; i++) {
      UNROLL
      for (int j = 0; j < TILE_R; j++) {
        const int t = tx + TILE_X * j;
        const float x = VMAX(STATS_LEAST, s[i][j] - lse2[i]), w = exp2_v(x);
        const float far = TO_VF(p0 + row0 + i - (j0 + t));
        e[i] = VFMA(w, x, e[i]);
        d[i] = VFMA(w, far < 0.0f ? -far : far, d[i]);
        mass += row0 + i < rows ? w : 0.0f;
        ps[t * ld + row0 + i] = s[i][j] == MINUS_INF ? STATS_HIDDEN : w;
      }
    }
    red[ITEM] = mass;
    SYNC;
    for (int t = 0; lists && t < keys; t++) {
      const float w = ps[t * ld + ITEM];
      if (w > least) stats_insert_row(S, list, list_keys, w, j0 + t, &least);
    }
    /* Where a block of keys ends. No barrier stands behind this condition: PoCL
     * would have every work-item add to the map. */
    const int ends = has_map && (j0 + keys == edge || j0 + keys == hi);
    if (ends) mass = 0.0f;
    if (ends && ITEM < TILE_X) {
      float sum = 0.0f;
      for (int y = 0; y < HEIGHT; y++) sum += red[y * TILE_X + ITEM];
      columns[ITEM] = sum;
    }
    SYNC;
    if (ends && ITEM == 0) {
      float sum = 0.0f;
      for (int x = 0; x < TILE_X; x++) sum += columns[x];
      map_row[J * A->weights.s[3]] += sum / (float)block_rows;
    }
  }

  /* Sums over the rows, the entropy's and then the distance's. */
  for (int n = 0; n < 2; n++) {
    SYNC;
    UNROLL
    for (int i = 0; i < TILE_R; i++)
      red[tx * ld + row0 + i] = n == 0 ? e[i] : d[i];
    SYNC;
    if (ITEM < rows) {
      float total = 0.0f;
      for (int x = 0; x < TILE_X; x++) total += red[x * ld + ITEM];
      if (n == 0 && (S->has & CLT_STATS_ENTROPY))
        entropy[stats_row_at(&A->v, i0 + ITEM, h, b)] =
            VMAX(0.0f, total * -LN2);
      if (n == 1 && (S->has & CLT_STATS_DISTANCE))
        distance[stats_row_at(&A->out, i0 + ITEM, h, b)] = total;
    }
  }
  for (int c = 0; lists && c < S->top; c++)
    stats_store_top(S, top_weights, top_keys, c, i0 + ITEM, h, b,
                    list[c * S->top_weights.s[3]],
                    list_keys[c * S->top_keys.s[3]],
                    score_lse2(lse[stats_row_at(&A->lse, i0 + ITEM, h, b)]));
}

__kernel void attn_stats_tile(STATS_PARAMS) {
  const clt_stats_args *S = &args;
  const int h = GY, b = GZ, height = TILE_R * HEIGHT;
  /* Late causal blocks are long: they go first. */
  const int turn = S->groups - 1 - GX;
  const int I = turn / S->map_parts, part = turn % S->map_parts;
  const int first_row = I * S->map_rows;
  const int end_row = MIN_OF(S->attn.q_len, first_row + S->map_rows);
  GLOBAL float *map_row = map + stats_map_at(S, part, I, h, b);
  if (S->has & CLT_STATS_MAP) stats_clear_map(S, map_row, ITEM, ITEMS);
  /* What all work-items have cleared, one adds to. */
  barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE);
  for (int i0 = first_row + part * height; i0 < end_row;
       i0 += S->map_parts * height) {
    stats_tile(S, q, k, lse, mask, key_mask, bias, lengths, starts, slopes,
               entropy, distance, top_weights, top_keys, map_row, local_memory,
               i0, MIN_OF(height, end_row - i0), end_row - first_row, h, b);
    SYNC; /* the next tile takes the same local memory */
  }
}

__kernel void attn_stats_sum_tile(clt_sum_parts_args args,
                                  __global const float *from,
                                  __global float *to,
                                  __local float *local_memory) {
  const int r = GX * ROWS_TILE_HEIGHT + ITEM_Y;
  if (r < args.rows) sum_parts_row(&args, from, to, r, GY, GZ, ITEM_X, TILE_X);
}
