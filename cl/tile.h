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
 * tile_dots and tile_weigh are whole products and have barriers: all work-items
 * must come to them. The other pieces have none. */
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

/* Rows of numbers in global memory: element x of row r is at + r * row + x * col. */
typedef struct tile_rows {
  GLOBAL const float *base;
  clt_i64 at, row, col;
  int dtype;
} tile_rows;

/* Rows from i on of head h and batch b, columns from x on. (A struct is not
 * returned: Oclgrind cannot run what clang makes of it.) */
INLINE void tile_rows_of(tile_rows *t, GLOBAL const float *base,
                         const clt_view *view, int b, int h, int i, int x,
                         int dtype) {
  t->base = base;
  t->at = view->offset + b * view->s[0] + h * view->s[1] + i * view->s[2] +
          x * view->s[3];
  t->row = view->s[2], t->col = view->s[3];
  t->dtype = dtype;
}

INLINE void tile_clear(float c[TILE_R][TILE_R]) {
  UNROLL
  for (int i = 0; i < TILE_R; i++) {
    UNROLL
    for (int j = 0; j < TILE_R; j++) c[i][j] = 0.0f;
  }
}

/* To and from local memory, transposed as an operand lies: [TILE_N][ld]. A
 * work-item meets its own numbers alone. */
INLINE void tile_put(LOCAL float *to, int ld, float c[TILE_R][TILE_R]) {
  UNROLL
  for (int i = 0; i < TILE_R; i++) {
    UNROLL
    for (int j = 0; j < TILE_R; j++)
      to[(ITEM_X + TILE_X * j) * ld + TILE_R * ITEM_Y + i] = c[i][j];
  }
}
INLINE void tile_get(float c[TILE_R][TILE_R], LOCAL const float *from, int ld) {
  UNROLL
  for (int i = 0; i < TILE_R; i++) {
    UNROLL
    for (int j = 0; j < TILE_R; j++)
      c[i][j] = from[(ITEM_X + TILE_X * j) * ld + TILE_R * ITEM_Y + i];
  }
}

/* c += scale times the products of `rows` rows of a and `cols` rows of b, both
 * of `depth` elements, staged TILE_K deep. The first barrier comes before
 * anything is staged. */
INLINE void tile_dots(float c[TILE_R][TILE_R], LOCAL float *stage,
                      const tile_rows *a, int rows, float a_scale,
                      const tile_rows *b, int cols, float b_scale, int depth) {
  const int ld = TILE_LD(HEIGHT), ldn = TILE_N + TILE_PAD;
  LOCAL float *bt = stage + TILE_K * ld; /* [TILE_K][ldn] */
  for (int d = 0; d < depth; d += TILE_K) {
    SYNC;
    tile_load(stage, ld, a->base, a->at + d * a->col, a->row, a->col,
              TILE_R * HEIGHT, rows, TILE_K, depth - d, a->dtype, a_scale);
    tile_load(bt, ldn, b->base, b->at + d * b->col, b->row, b->col, TILE_N,
              cols, TILE_K, depth - d, b->dtype, b_scale);
    SYNC;
    tile_multiply(c, stage + TILE_R * ITEM_Y, ld, bt + ITEM_X, ldn,
                  MIN_OF(TILE_K, depth - d), 0);
  }
}

/* c[i][j] += sum_t p[t][i] b[t][j], t < n: rows of b, weighted, and of their
 * columns the first `cols`, FUSED_TILE_KEYS rows staged at a time. p [n][ld] from
 * row 0; the first barrier makes what was written to it visible. *bad, in local
 * memory, is set once NaN or Inf were met; guard: from then on terms with p = 0
 * are left out, as rows may be hidden. */
INLINE void tile_weigh(float c[TILE_R][TILE_R], LOCAL const float *p, int ld,
                       LOCAL float *stage, volatile LOCAL int *bad,
                       const tile_rows *b, int n, int cols, int guard) {
  const int ldn = TILE_N + TILE_PAD;
  for (int t = 0; t < n; t += FUSED_TILE_KEYS) {
    const int m = MIN_OF(FUSED_TILE_KEYS, n - t);
    LOCAL const float *w = p + t * ld + TILE_R * ITEM_Y;
    SYNC;
    if (tile_load(stage, ldn, b->base, b->at + t * b->row, b->col, b->row,
                  TILE_N, cols, m, m, b->dtype, 1.0f))
      atomic_or(bad, 1);
    SYNC;
    if (*bad && guard)
      tile_multiply(c, w, ld, stage + ITEM_X, ldn, m, 1);
    else
      tile_multiply(c, w, ld, stage + ITEM_X, ldn, m, 0);
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

/* s = the finished scores of queries i0 .. i0 + rows - 1, which stand at p0 and on,
 * and keys j0 .. j0 + keys - 1; -inf past the last key. ps: room for them,
 * [TILE_N][TILE_LD]. Has barriers. */
INLINE void tile_scores(float s[TILE_R][TILE_R], const clt_attn_args *A,
                        LOCAL float *stage, LOCAL float *ps,
                        const tile_rows *queries, const tile_rows *ks,
                        GLOBAL const clt_u8 *mask,
                        GLOBAL const clt_u8 *key_mask, GLOBAL const float *bias,
                        float slope, int masked, int whole, int kv_length,
                        int b, int h, int i0, int rows, int p0, int j0,
                        int keys) {
  const int ld = TILE_LD(HEIGHT), tx = ITEM_X, row0 = TILE_R * ITEM_Y;
  tile_clear(s);
  tile_dots(s, stage, queries, rows, A->scale2, ks, keys, 1.0f, A->qk_dim);

  /* The rules are long: one copy of them, through local memory. */
  if (masked || !whole || A->softcap2 > 0.0f || A->has_slopes) {
    tile_put(ps, ld, s);
    for (int e = 0; e < TILE_R * TILE_R; e++) {
      const int t = tx + TILE_X * (e / TILE_R), r = row0 + e % TILE_R;
      const int i = MIN_OF(r, rows - 1); /* rows past the end: the last */
      if (t < keys)
        ps[t * ld + r] =
            tile_score(A, ps[t * ld + r], masked, whole, mask, key_mask, bias,
                       slope, kv_length, b, h, i0 + i, p0 + i, j0 + t);
    }
    tile_get(s, ps, ld);
  }
  if (keys < TILE_N) {
    UNROLL
    for (int i = 0; i < TILE_R; i++) {
      UNROLL
      for (int j = 0; j < TILE_R; j++)
        s[i][j] = tx + TILE_X * j < keys ? s[i][j] : MINUS_INF;
    }
  }
}

#endif /* CLT_TILE_H */
