/* matmul.h - dense product for CPU-type devices: lanes are columns of C.
 *
 *     C[b,h,m,n] = alpha * sum_k A[b,h,m,k] B[b,h/b_group,n,k] + bias[n]
 *                  (+ C[b,h,m,n] if A->add)
 *
 * Contract
 *   group   MM_M rows x A->panels panels of MM_N columns of C: gx = panels, gy =
 *           rows, gz = batch * heads + head
 *   memory  CLT_MATMUL_LOCAL(BM, panels) floats of local memory
 *   layout  any strides and float types; operands are copied, converted and
 *           transposed into local memory MM_K at a time, C collects there too
 *
 *                   B panel [MM_K][64]       A register tile is ROW_STEP rows x
 *                  +-------------------+     MR vectors: each step of k loads MR
 *   A [192][MM_K]  |                   |     vectors of the panel and broadcasts
 *   +-----------+  +-------------------+     ROW_STEP numbers of A. Copying A
 *   |           |  |   C  [192][64]    |     pays for several panels, copying a
 *   +-----------+  +-------------------+     panel for all 192 rows. */
#ifndef CLT_MATMUL_H
#define CLT_MATMUL_H
#include "dot.h"
#include "shape.h"

#define MM_M MM_M_OF(BM)
#define MM_K MM_K_OF(BM)
#define MM_SKINNY_K MM_SKINNY_K_OF(BM)
#define ROW_STEP 6 /* divides MM_M */
#if LANES >= 16
#  define MM_R 4
#else
#  define MM_R 2
#endif

/* c[i][n] += sum_k a[i][k] p[k][n] for ROW_STEP rows and MM_R vectors. */
INLINE void matmul_tile(LOCAL const float *a, LOCAL const float *p, int depth,
                        LOCAL float *c) {
  vf acc[ROW_STEP][MM_R];
  UNROLL
  for (int i = 0; i < ROW_STEP; i++) {
    UNROLL
    for (int j = 0; j < MM_R; j++) acc[i][j] = VLOAD(c + i * MM_N + j * LANES);
  }
  NOUNROLL
  for (int x = 0; x < depth; x++) {
    vf b[MM_R];
    UNROLL
    for (int j = 0; j < MM_R; j++) b[j] = VLOAD(p + x * MM_N + j * LANES);
    UNROLL
    for (int i = 0; i < ROW_STEP; i++) {
      vf y = VSPLAT(a[i * MM_K + x]);
      UNROLL
      for (int j = 0; j < MM_R; j++) acc[i][j] = VFMA(y, b[j], acc[i][j]);
    }
  }
  UNROLL
  for (int i = 0; i < ROW_STEP; i++) {
    UNROLL
    for (int j = 0; j < MM_R; j++) VSTORE(acc[i][j], c + i * MM_N + j * LANES);
  }
}

/* The same where 0 * NaN must count as nothing. */
COLD void matmul_guarded(LOCAL const float *a, LOCAL const float *p, int depth,
                         LOCAL float *c) {
  for (int x = 0; x < depth; x++)
    if (a[x] != 0.0f)
      for (int n = 0; n < MM_N; n += LANES)
        VSTORE(VFMA(VSPLAT(a[x]), VLOAD(p + x * MM_N + n), VLOAD(c + n)),
               c + n);
}

/* p[k][n] = B[n0 + n][k0 + k]; missing columns are 0. Returns whether any is
 * NaN or Inf. */
COLD int matmul_panel(const clt_matmul_args *A, GLOBAL const float *b,
                      clt_i64 at, int cols, int depth, LOCAL float *p) {
  if (A->b.s[2] == 1) /* columns lie side by side: rows of the panel */
    return copy_block(p, MM_N, b, at, A->b.s[3], 1, depth, cols, depth, MM_N,
                      A->b_dtype);
  vi bad = VSPLAT_I(0);
  for (int n0 = 0; n0 < MM_N; n0 += LANES)
    for (int x0 = 0; x0 < depth; x0 += LANES) {
      const int n = MIN_OF(LANES, depth - x0);
      vf a[LANES];
      for (int r = 0; r < LANES; r++) {
        const clt_i64 from = at + (n0 + r) * A->b.s[2] + x0 * A->b.s[3];
        if (n0 + r >= cols)
          a[r] = VSPLAT(0.0f);
        else if (n == LANES && A->b.s[3] == 1)
          a[r] = load_v(b, from, A->b_dtype);
        else
          a[r] = load_n(b, from, A->b.s[3], n, A->b_dtype);
        bad |= (a[r] - a[r]) != 0.0f;
      }
      transpose(a);
      for (int x = 0; x < n; x++) VSTORE(a[x], p + (x0 + x) * MM_N + n0);
    }
  return VANY(bad);
}

/* a[r][x] = rows x depth numbers of A whose columns lie side by side, as those
 * of a transposed matrix do; other rows up to `padded` are 0. */
COLD void matmul_turned(const clt_matmul_args *A, GLOBAL const float *a,
                        clt_i64 at, int rows, int padded, int depth,
                        LOCAL float *as) {
  for (int r0 = 0; r0 < padded; r0 += LANES)
    for (int x0 = 0; x0 < depth; x0 += LANES) {
      const int n = MAX_OF(0, MIN_OF(LANES, rows - r0));
      vf t[LANES];
      for (int x = 0; x < LANES; x++) {
        const clt_i64 from = at + r0 + (x0 + x) * A->a.s[3];
        if (x0 + x >= depth || n == 0)
          t[x] = VSPLAT(0.0f);
        else if (n == LANES)
          t[x] = load_v(a, from, A->a_dtype);
        else
          t[x] = load_n(a, from, 1, n, A->a_dtype);
      }
      transpose(t);
      for (int r = 0; r < MIN_OF(LANES, padded - r0); r++)
        VSTORE(t[r], as + (r0 + r) * MM_K + x0);
    }
}

/* Few rows: each row of B is streamed once and dotted with all of them. */
COLD void matmul_skinny(const clt_matmul_args *A, GLOBAL const float *a,
                        clt_i64 a_at, GLOBAL const float *b, clt_i64 b_at,
                        int rows, int cols, LOCAL float *xs, LOCAL float *sums,
                        LOCAL float *c) {
  for (int x0 = 0; x0 < A->k; x0 += MM_SKINNY_K) {
    const int depth = MIN_OF(MM_SKINNY_K, A->k - x0);
    copy_block(xs, MM_SKINNY_K, a, a_at + x0 * A->a.s[3], A->a.s[2], A->a.s[3],
               rows, depth, MM_SKINNY, CLT_PAD(depth, LANES), A->a_dtype);
    for (int n = 0; n < cols; n += MM_N) {
      LOCAL float *to = c + n * MM_M;
      for (int i = 0; i < MM_SKINNY * MM_N; i += LANES)
        VSTORE(VSPLAT(0.0f), sums + i);
      dot_rows(rows, xs, MM_SKINNY_K, b, b_at + n * A->b.s[2] + x0 * A->b.s[3],
               A->b.s[2], A->b.s[3], MIN_OF(MM_N, cols - n), depth, A->b_dtype,
               sums, MM_N);
      for (int i = 0; i < rows * MM_N; i += LANES)
        VSTORE(VLOAD(to + i) + VLOAD(sums + i), to + i);
    }
  }
}

/* c += A rows [rows, k] x the columns of one panel after the other. */
INLINE void matmul_tiles(const clt_matmul_args *A, GLOBAL const float *a,
                         clt_i64 a_at, GLOBAL const float *b, clt_i64 b_at,
                         int rows, int cols, LOCAL float *as,
                         LOCAL float *panel, LOCAL float *cs) {
  const int padded = CLT_PAD(rows, ROW_STEP);
  for (int x0 = 0; x0 < A->k; x0 += MM_K) {
    const int depth = MIN_OF(MM_K, A->k - x0);
    if (A->a.s[2] == 1 && A->a.s[3] != 1)
      matmul_turned(A, a, a_at + x0 * A->a.s[3], rows, padded, depth, as);
    else
      copy_block(as, MM_K, a, a_at + x0 * A->a.s[3], A->a.s[2], A->a.s[3], rows,
                 depth, padded, depth, A->a_dtype);
    for (int n0 = 0; n0 < cols; n0 += MM_N) {
      const int width = MIN_OF(MM_N, cols - n0);
      LOCAL float *c = cs + n0 * MM_M;
      const int bad = matmul_panel(A, b, b_at + n0 * A->b.s[2] + x0 * A->b.s[3],
                                   width, depth, panel);
      if (bad && A->skip_zero)
        for (int r = 0; r < rows; r++)
          matmul_guarded(as + r * MM_K, panel, depth, c + r * MM_N);
      else
        for (int n = 0; n < width; n += MM_R * LANES)
          for (int r = 0; r < rows; r += ROW_STEP)
            matmul_tile(as + r * MM_K, panel + n, depth, c + r * MM_N + n);
    }
  }
}

INLINE void matmul_group(const clt_matmul_args *A, GLOBAL const float *a,
                         GLOBAL const float *b, GLOBAL float *c,
                         GLOBAL const float *bias, LOCAL float *local_memory,
                         int gx, int gy, int gz) {
  const int batch = gz / A->heads, head = gz % A->heads;
  const int first = gx * A->panels * MM_N;
  const int cols = MIN_OF(A->panels * MM_N, A->n - first);
  const int m0 = gy * MM_M, rows = MIN_OF(MM_M, A->m - m0);
  const clt_i64 a_at =
      A->a.offset + batch * A->a.s[0] + head * A->a.s[1] + m0 * A->a.s[2];
  const clt_i64 b_at = A->b.offset + batch * A->b.s[0] +
                       (head / A->b_group) * A->b.s[1] + first * A->b.s[2];
  const clt_i64 c_at = A->c.offset + batch * A->c.s[0] + head * A->c.s[1] +
                       m0 * A->c.s[2] + first * A->c.s[3];
  LOCAL float *panel = local_memory;     /* [MM_K][MM_N]         */
  LOCAL float *as = panel + MM_K * MM_N; /* [MM_M][MM_K]         */
  LOCAL float *cs = as + MM_M * MM_K;    /* [panels][MM_M][MM_N] */

  for (int n0 = 0; n0 < cols; n0 += MM_N)
    for (int x = 0; x < CLT_PAD(rows, ROW_STEP) * MM_N; x += LANES)
      VSTORE(VSPLAT(0.0f), cs + n0 * MM_M + x);
  if (A->m <= MM_SKINNY && A->b.s[3] == 1 && !A->skip_zero)
    matmul_skinny(A, a, a_at, b, b_at, rows, cols, as, panel, cs);
  else
    matmul_tiles(A, a, a_at, b, b_at, rows, cols, as, panel, cs);

  for (int n = 0; n < cols; n += LANES) {
    LOCAL const float *from = cs + n / MM_N * (MM_M * MM_N) + n % MM_N;
    const int w = MIN_OF(LANES, cols - n);
    vf add = A->bias_dtype
                 ? load_n(bias, A->bias.offset + (first + n) * A->bias.s,
                          A->bias.s, w, A->bias_dtype)
                 : VSPLAT(0.0f);
    for (int r = 0; r < rows; r++) {
      const clt_i64 at = c_at + r * A->c.s[2] + n * A->c.s[3];
      vf x = VFMA(VLOAD(from + r * MM_N), VSPLAT(A->alpha), add);
      if (A->add) x += load_n(c, at, A->c.s[3], w, A->c_dtype);
      store_n(c, at, A->c.s[3], w, A->c_dtype, x);
    }
  }
}

#endif /* CLT_MATMUL_H */
