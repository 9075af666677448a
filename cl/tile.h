/* tile.h - what the kernels for GPUs share: how a work-group of TILE_X x height
 * work-items stages operands in local memory and multiplies them.
 *
 * Work-item (x, y) holds rows TILE_R * y + i and columns x + TILE_X * j of a
 * tile of TILE_R * height rows and TILE_N columns: neighbours in x read
 * neighbouring columns and the same rows.
 *
 *                   b [depth][TILE_N]        An operand lies transposed: all
 *                  +-----------------+       rows of one step of the depth
 *   a [depth]      |  x, x+16, ..    |       side by side.
 *     [rows]       +-----------------+
 *   +--------+     +-----------------+       c[i][j] += a[k][4y + i]
 *   |  4y+i  |     |    c[i][j]      |                * b[k][x + 16j]
 *   +--------+     +-----------------+
 *
 * Barriers stand in the kernels, not here. */
#ifndef CLT_TILE_H
#define CLT_TILE_H
#include "score.h"
#include "shape.h"

#define ITEM_X ((int)get_local_id(0))
#define ITEM_Y ((int)get_local_id(1))
#define HEIGHT ((int)get_local_size(1))
#define ITEMS (TILE_X * HEIGHT)
#define ITEM (ITEM_Y * TILE_X + ITEM_X)
#define SYNC barrier(CLK_LOCAL_MEM_FENCE)

/* to[k][r] = scale * src[r][k] for r < width and k < depth, zeros past `rows`
 * and `cols`. Neighbouring work-items read neighbouring elements, whichever way
 * they lie. Returns whether this work-item met NaN or Inf. */
INLINE int tile_load(LOCAL float *to, int ld, GLOBAL const float *src,
                     clt_i64 at, clt_i64 row_stride, clt_i64 col_stride,
                     int width, int rows, int depth, int cols, int dtype,
                     float scale) {
  const int by_row = row_stride == 1;
  const int r0 = by_row ? ITEM % width : ITEM_Y;
  const int r_step = by_row ? width : HEIGHT;
  const int k0 = by_row ? ITEM / width : ITEM_X;
  const int k_step = by_row ? ITEMS / width : TILE_X;
  int bad = 0;
  for (int k = k0; k < depth; k += k_step)
    for (int r = r0; r < width; r += r_step) {
      float x = 0.0f;
      if (r < rows && k < cols)
        x = load_s(src, at + r * row_stride + k * col_stride, dtype) * scale;
      bad |= x - x != 0.0f; /* NaN and Inf: x - x is NaN */
      to[k * ld + r] = x;
    }
  return bad;
}

/* c[i][j] += sum_k a[k][i] b[k][TILE_X * j], a and b from this work-item's
 * first row and column. guard: terms with a = 0 are left out, b may be NaN. */
INLINE void tile_multiply(float c[TILE_R][TILE_R], LOCAL const float *a,
                          int lda, LOCAL const float *b, int ldb, int depth,
                          const int guard) {
  for (int k = 0; k < depth; k++) {
    float x[TILE_R], y[TILE_R];
    UNROLL
    for (int i = 0; i < TILE_R; i++) x[i] = a[k * lda + i];
    UNROLL
    for (int j = 0; j < TILE_R; j++) y[j] = b[k * ldb + TILE_X * j];
    UNROLL
    for (int i = 0; i < TILE_R; i++) {
      UNROLL
      for (int j = 0; j < TILE_R; j++)
        c[i][j] = guard && x[i] == 0.0f ? c[i][j] : VFMA(x[i], y[j], c[i][j]);
    }
  }
}

/* One score by the rules of score.h: row i of head h at position p, key j. */
INLINE float tile_score(const clt_attn_args *A, float s, int masked, int whole,
                        GLOBAL const clt_u8 *mask,
                        GLOBAL const clt_u8 *key_mask, GLOBAL const float *bias,
                        float slope, int kv_length, int b, int h, int i, int p,
                        int j) {
  if (A->softcap2 > 0.0f) s = score_softcap(A, s);
  if (A->has_slopes) s = score_alibi(s, slope, p, j);
  if (masked)
    s = score_add(s, mask_bias(A, mask, key_mask, bias, b, h, i, j, 1));
  if (!whole) s = score_hide(s, score_sees(A, kv_length, p, j));
  return s;
}

#endif /* CLT_TILE_H */
