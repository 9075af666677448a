/* attn_stats_rows.h - what statistics share on CPU-type devices and on GPUs: where
 * rows and parts of the map lie, and what is written there. */
#ifndef CLT_ATTN_STATS_ROWS_H
#define CLT_ATTN_STATS_ROWS_H
#include "score.h"

/* Where lists end that are not full: above what is hidden, below every weight. */
#define STATS_EMPTY (-0.5f)
#define STATS_HIDDEN (-1.0f)
/* exp2_v gives 0 from here down; a product with it stays finite. */
#define STATS_LEAST (-126.0f)

/* Where the row of the map begins that part `part` of block I is. */
INLINE clt_i64 stats_map_at(const clt_stats_args *S, int part, int I, int h,
                            int b) {
  const clt_view *v = &S->attn.weights;
  return v->offset + part * S->map_step + b * v->s[0] + h * v->s[1] +
         I * v->s[2];
}

/* The row, from `first` on in steps of `step`: 0. Tiles are added to it. */
INLINE void stats_clear_map(const clt_stats_args *S, GLOBAL float *row,
                            int first, int step) {
  const int blocks = (S->attn.kv_len + S->map_keys - 1) / S->map_keys;
  for (int J = first; J < blocks; J += step)
    row[J * S->attn.weights.s[3]] = 0.0f;
}

INLINE clt_i64 stats_row_at(const clt_view *v, int i, int h, int b) {
  return v->offset + b * v->s[0] + h * v->s[1] + i * v->s[2];
}

/* Weight and key as they are given: of an empty place, 0 and -1. */
INLINE void stats_store_top(const clt_stats_args *S, GLOBAL float *top_weights,
                            GLOBAL int *top_keys, int c, int i, int h, int b,
                            float w, int key, float lse2) {
  const int full = w >= 0.0f;
  if (S->has & CLT_STATS_TOP_WEIGHTS)
    top_weights[stats_row_at(&S->top_weights, i, h, b) +
                c * S->top_weights.s[3]] = lse2 != lse2 ? lse2
                                           : full       ? w
                                                        : 0.0f;
  if (S->has & CLT_STATS_TOP_KEYS)
    top_keys[stats_row_at(&S->top_keys, i, h, b) + c * S->top_keys.s[3]] =
        full ? key : -1;
}

#endif /* CLT_ATTN_STATS_ROWS_H */
