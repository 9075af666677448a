/* dot.h - a few resident rows against streamed rows: what decoding and skinny
 * products spend their time on. A streamed row is read from memory once,
 * whatever the number of resident rows, and converted on the way. */
#ifndef CLT_DOT_H
#define CLT_DOT_H
#include "args.h"
#include "vec.h"

#define DOT_AHEAD 32 /* rows */

/* c[r * W + t] = the products of resident row r and streamed row t, W = LANES /
 * ROWS, summed over x but not yet across lanes. Rows t >= n repeat the last.
 * dtype is a literal, so that the inner loop is free of branches; ROWS is one by
 * a macro, because PoCL unrolls only what is written into the loops.
 * dtype -1: any type and column stride.
 *
 * One streamed row after the other, each as a whole: memory is asked for in the
 * order in which it lies. (Four at a time need fewer instructions and run at
 * half the speed.) */
#define DOT_PRODUCTS(NAME, ROWS)                                               \
  INLINE void NAME(const int dtype, LOCAL const float *a, int lda,             \
                   GLOBAL const float *w, clt_i64 at, clt_i64 row_stride,      \
                   clt_i64 col_stride, int n, int dim, int any_dtype, vf *c) { \
    for (int t = 0; t < LANES / ROWS; t++) {                                   \
      const clt_i64 from = at + MIN_OF(t, n - 1) * row_stride;                 \
      vf sum[4];                                                               \
      UNROLL                                                                   \
      for (int r = 0; r < ROWS; r++) sum[r] = VSPLAT(0.0f);                    \
      int x = 0;                                                               \
      if (dtype >= 0)                                                          \
        for (; x + LANES <= dim; x += LANES) {                                 \
          vf z = load_v(w, from + x, dtype);                                   \
          UNROLL                                                               \
          for (int r = 0; r < ROWS; r++)                                       \
            sum[r] = VFMA(VLOAD(a + r * lda + x), z, sum[r]);                  \
        }                                                                      \
      for (; x < dim; x += LANES) {                                            \
        vf z = load_n(w, from + x * col_stride, col_stride,                    \
                      MIN_OF(LANES, dim - x), any_dtype);                      \
        UNROLL                                                                 \
        for (int r = 0; r < ROWS; r++)                                         \
          sum[r] = VFMA(VLOAD(a + r * lda + x), z, sum[r]);                    \
      }                                                                        \
      UNROLL                                                                   \
      for (int r = 0; r < ROWS; r++) c[r * (LANES / ROWS) + t] = sum[r];       \
    }                                                                          \
  }
DOT_PRODUCTS(dot_products_1, 1)
DOT_PRODUCTS(dot_products_2, 2)
DOT_PRODUCTS(dot_products_4, 4)

/* to[r][t] = sum_x a[r][x] w[t][x] for ROWS resident and n <= LANES / ROWS
 * streamed rows. LANES sums are added across lanes together (sum_lanes), in a
 * third of the instructions that one by one would take. With several rows to
 * work on, memory would be idle if it were not asked ahead. */
#define DOT_LANES(NAME, PRODUCTS, ROWS)                                        \
  INLINE void NAME(LOCAL const float *a, int lda, GLOBAL const float *w,       \
                   clt_i64 at, clt_i64 row_stride, clt_i64 col_stride, int n,  \
                   int dim, int dtype, LOCAL float *to, int ldt) {             \
    const int W = LANES / ROWS;                                                \
    vf c[LANES];                                                               \
    if (ROWS > 1 && col_stride == 1)                                           \
      for (int t = 0; t < W; t++)                                              \
        prefetch_row(w, at + (t + DOT_AHEAD) * row_stride, dim, dtype);        \
    if (col_stride != 1)                                                       \
      PRODUCTS(-1, a, lda, w, at, row_stride, col_stride, n, dim, dtype, c);   \
    else if (dtype == CLT_F32)                                                 \
      PRODUCTS(CLT_F32, a, lda, w, at, row_stride, 1, n, dim, dtype, c);       \
    else if (dtype == CLT_F16)                                                 \
      PRODUCTS(CLT_F16, a, lda, w, at, row_stride, 1, n, dim, dtype, c);       \
    else                                                                       \
      PRODUCTS(CLT_BF16, a, lda, w, at, row_stride, 1, n, dim, dtype, c);      \
    float sums[LANES];                                                         \
    VSTORE(sum_lanes(c), sums);                                                \
    UNROLL                                                                     \
    for (int i = 0; i < LANES; i++) to[i / W * ldt + i % W] = sums[i];         \
  }
DOT_LANES(dot_lanes_1, dot_products_1, 1)
DOT_LANES(dot_lanes_2, dot_products_2, 2)
DOT_LANES(dot_lanes_4, dot_products_4, 4)

/* The same for 1..8 resident rows and any number of streamed ones; ldt is n or
 * more, rounded up to a multiple of LANES. Resident rows up to the next power
 * of two are read, and their sums written. */
INLINE void dot_rows(int rows, LOCAL const float *a, int lda,
                     GLOBAL const float *w, clt_i64 at, clt_i64 row_stride,
                     clt_i64 col_stride, int n, int dim, int dtype,
                     LOCAL float *to, int ldt) {
  if (rows == 1)
    for (int t = 0; t < n; t += LANES)
      dot_lanes_1(a, lda, w, at + t * row_stride, row_stride, col_stride,
                  MIN_OF(n - t, LANES), dim, dtype, to + t, ldt);
  else if (rows == 2)
    for (int t = 0; t < n; t += LANES / 2)
      dot_lanes_2(a, lda, w, at + t * row_stride, row_stride, col_stride,
                  MIN_OF(n - t, LANES / 2), dim, dtype, to + t, ldt);
  else
    for (int t = 0; t < n; t += LANES / 4)
      for (int r = 0; r < rows; r += 4)
        dot_lanes_4(a + r * lda, lda, w, at + t * row_stride, row_stride,
                    col_stride, MIN_OF(n - t, LANES / 4), dim, dtype,
                    to + r * ldt + t, ldt);
}

#endif /* CLT_DOT_H */
