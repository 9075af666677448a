/* matmul_tile.cl - dense product for GPUs.
 *
 *     C[b,h,m,n] = alpha * sum_k A[b,h,m,k] B[b,h/b_group,n,k] + bias[n]
 *
 * Contract
 *   group   TILE_X x height work-items, height 16, 8 or 4; gz = batch * heads +
 *           head. CLT_MATMUL_TILE_DOTS(args): all rows x height columns of C,
 *           gx = column block; else 4 * height rows x TILE_N columns,
 *           gx = column block, gy = row block
 *   memory  CLT_MATMUL_TILE_LOCAL(height) floats of local memory
 *   layout  any strides and float types; reads are contiguous where rows or
 *           columns of an operand are
 *
 *                  B^T [16][64]         Tiles: operands are staged TILE_K deep,
 *                 +-------------+       a work-item has 4 x 4 results (tile.h).
 *   A^T [16][4h]  |             |
 *   +-----------+ +-------------+       Few rows: the TILE_X work-items of a
 *   |           | |  C [4h][64] |       line share a row of B, which is read
 *   +-----------+ +-------------+       once and dotted with all rows of A. */
#undef LANES
#define LANES 1
#include "attn_params.h"
#include "sums.h"
#include "tile.h"

INLINE void matmul_tile_dots(const clt_matmul_args *A, GLOBAL const float *a,
                             clt_i64 a_at, GLOBAL const float *b, clt_i64 b_at,
                             GLOBAL float *c, clt_i64 c_at,
                             GLOBAL const float *bias, LOCAL float *red) {
  const int height = HEIGHT, n = GX * height + ITEM_Y, m = A->m;
  b_at += MIN_OF(n, A->n - 1) * A->b.s[2];
  float sums[MM_SKINNY];
  UNROLL
  for (int r = 0; r < MM_SKINNY; r++) sums[r] = 0.0f;
  for (int x = ITEM_X; x < A->k; x += TILE_X) {
    const float y = load_s(b, b_at + x, A->b_dtype);
    UNROLL
    for (int r = 0; r < MM_SKINNY; r++)
      if (r < m)
        sums[r] =
            VFMA(load_s(a, a_at + r * A->a.s[2] + x * A->a.s[3], A->a_dtype), y,
                 sums[r]);
  }
  UNROLL
  for (int r = 0; r < MM_SKINNY; r++)
    red[(r * height + ITEM_Y) * (TILE_X + 1) + ITEM_X] = sums[r];
  SYNC;
  for (int e = ITEM; e < m * height; e += ITEMS) {
    const int r = e / height, col = GX * height + e % height;
    float x = 0.0f;
    for (int i = 0; i < TILE_X; i++) x += red[e * (TILE_X + 1) + i];
    if (col < A->n) {
      const float add =
          A->bias_dtype
              ? load_s(bias, A->bias.offset + col * A->bias.s, A->bias_dtype)
              : 0.0f;
      const clt_i64 at = c_at + r * A->c.s[2] + col * A->c.s[3];
      x = VFMA(x, A->alpha, add);
      if (A->add) x += load_s(c, at, A->c_dtype);
      store_s(c, at, A->c_dtype, x);
    }
  }
}

INLINE void matmul_tile_block(const clt_matmul_args *A, GLOBAL const float *a,
                              clt_i64 a_at, GLOBAL const float *b, clt_i64 b_at,
                              GLOBAL float *c, clt_i64 c_at,
                              GLOBAL const float *bias, LOCAL float *at) {
  const int block = TILE_R * HEIGHT, ld = TILE_LD(HEIGHT);
  const int ldn = TILE_N + TILE_PAD;
  const int m0 = GY * block, rows = MIN_OF(block, A->m - m0);
  const int n0 = GX * TILE_N, cols = MIN_OF(TILE_N, A->n - n0);
  LOCAL float *bt = at + TILE_K * ld; /* at [TILE_K][ld], bt [TILE_K][ldn] */
  volatile LOCAL int *bad = (volatile LOCAL int *)(bt + TILE_K * ldn);
  a_at += m0 * A->a.s[2];
  b_at += n0 * A->b.s[2];
  if (ITEM == 0) *bad = 0;

  float acc[TILE_R][TILE_R];
  UNROLL
  for (int i = 0; i < TILE_R; i++) {
    UNROLL
    for (int j = 0; j < TILE_R; j++) acc[i][j] = 0.0f;
  }
  for (int k = 0; k < A->k; k += TILE_K) {
    SYNC;
    tile_load(at, ld, a, a_at + k * A->a.s[3], A->a.s[2], A->a.s[3], block,
              rows, TILE_K, A->k - k, A->a_dtype, 1.0f);
    if (tile_load(bt, ldn, b, b_at + k * A->b.s[3], A->b.s[2], A->b.s[3],
                  TILE_N, cols, TILE_K, A->k - k, A->b_dtype, 1.0f))
      atomic_or(bad, 1);
    SYNC;
    if (A->skip_zero && *bad)
      tile_multiply(acc, at + TILE_R * ITEM_Y, ld, bt + ITEM_X, ldn, TILE_K, 1);
    else
      tile_multiply(acc, at + TILE_R * ITEM_Y, ld, bt + ITEM_X, ldn, TILE_K, 0);
  }

  UNROLL
  for (int j = 0; j < TILE_R; j++) {
    const int n = n0 + ITEM_X + TILE_X * j;
    if (n < A->n) {
      const float add =
          A->bias_dtype
              ? load_s(bias, A->bias.offset + n * A->bias.s, A->bias_dtype)
              : 0.0f;
      UNROLL
      for (int i = 0; i < TILE_R; i++) {
        const int m = m0 + TILE_R * ITEM_Y + i;
        if (m < A->m) {
          const clt_i64 at = c_at + m * A->c.s[2] + n * A->c.s[3];
          float x = VFMA(acc[i][j], A->alpha, add);
          if (A->add) x += load_s(c, at, A->c_dtype);
          store_s(c, at, A->c_dtype, x);
        }
      }
    }
  }
}

__kernel void matmul_tile(clt_matmul_args args, __global const float *a,
                          __global const float *b, __global float *c,
                          __global const float *bias,
                          __local float *local_memory) {
  const clt_matmul_args *A = &args;
  const int batch = GZ / A->heads, head = GZ % A->heads;
  const clt_i64 a_at = A->a.offset + batch * A->a.s[0] + head * A->a.s[1];
  const clt_i64 b_at =
      A->b.offset + batch * A->b.s[0] + head / A->b_group * A->b.s[1];
  const clt_i64 c_at = A->c.offset + batch * A->c.s[0] + head * A->c.s[1];
  if (CLT_MATMUL_TILE_DOTS(A))
    matmul_tile_dots(A, a, a_at, b, b_at, c, c_at, bias, local_memory);
  else
    matmul_tile_block(A, a, a_at, b, b_at, c, c_at, bias, local_memory);
}

/* Columns side by side: a work-item each. */
__kernel void column_sums_tile(clt_column_sums_args args,
                               __global const float *from, __global float *to,
                               __local float *local_memory) {
  column_sums_columns(&args, from, to, (int)get_global_id(0));
}
