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
 * Few streamed rows at a time, T, each as a whole: memory is asked for in the order
 * in which it lies. (Four at a time need fewer instructions and run at half the
 * speed.) */
#define DOT_PRODUCTS(NAME, ROWS, T)                                            \
  INLINE void NAME(const int dtype, LOCAL const float *a, int lda,             \
                   GLOBAL const float *w, clt_i64 at, clt_i64 row_stride,      \
                   clt_i64 col_stride, int n, int dim, int any_dtype, vf *c) { \
    for (int t = 0; t < LANES / ROWS; t += T) {                                \
      clt_i64 from[T];                                                         \
      vf sum[ROWS][T];                                                         \
      UNROLL                                                                   \
      for (int i = 0; i < T; i++) {                                            \
        from[i] = at + MIN_OF(t + i, n - 1) * row_stride;                      \
        UNROLL                                                                 \
        for (int r = 0; r < ROWS; r++) sum[r][i] = VSPLAT(0.0f);               \
      }                                                                        \
      int x = 0;                                                               \
      if (dtype >= 0) {                                                        \
        NOUNROLL                                                               \
        for (; x + LANES <= dim; x += LANES) {                                 \
          vf z[T];                                                             \
          UNROLL                                                               \
          for (int i = 0; i < T; i++) z[i] = load_v(w, from[i] + x, dtype);    \
          UNROLL                                                               \
          for (int r = 0; r < ROWS; r++) {                                     \
            vf y = VLOAD(a + r * lda + x);                                     \
            UNROLL                                                             \
            for (int i = 0; i < T; i++) sum[r][i] = VFMA(y, z[i], sum[r][i]);  \
          }                                                                    \
        }                                                                      \
      }                                                                        \
      for (; x < dim; x += LANES) {                                            \
        UNROLL                                                                 \
        for (int i = 0; i < T; i++) {                                          \
          vf z = load_n(w, from[i] + x * col_stride, col_stride,               \
                        MIN_OF(LANES, dim - x), any_dtype);                    \
          UNROLL                                                               \
          for (int r = 0; r < ROWS; r++)                                       \
            sum[r][i] = VFMA(VLOAD(a + r * lda + x), z, sum[r][i]);            \
        }                                                                      \
      }                                                                        \
      UNROLL                                                                   \
      for (int r = 0; r < ROWS; r++) {                                         \
        UNROLL                                                                 \
        for (int i = 0; i < T; i++) c[r * (LANES / ROWS) + t + i] = sum[r][i]; \
      }                                                                        \
    }                                                                          \
  }
DOT_PRODUCTS(dot_products_2, 2, 1)
DOT_PRODUCTS(dot_products_4, 4, MIN_OF(2, LANES / 4))

/* For one resident row, where memory is all that counts: four lines of it without
 * a branch. */
INLINE void dot_products_1(const int dtype, LOCAL const float *a, int lda,
                           GLOBAL const float *w, clt_i64 at,
                           clt_i64 row_stride, clt_i64 col_stride, int n,
                           int dim, int any_dtype, vf *c) {
  (void)lda;
  for (int t = 0; t < LANES; t++) {
    const clt_i64 from = at + MIN_OF(t, n - 1) * row_stride;
    vf sum[4];
    UNROLL
    for (int i = 0; i < 4; i++) sum[i] = VSPLAT(0.0f);
    int x = 0;
    if (dtype >= 0) {
      NOUNROLL
      for (; x + 4 * LANES <= dim; x += 4 * LANES) {
        UNROLL
        for (int i = 0; i < 4; i++)
          sum[i] = VFMA(VLOAD(a + x + i * LANES),
                        load_v(w, from + x + i * LANES, dtype), sum[i]);
      }
      NOUNROLL
      for (; x + LANES <= dim; x += LANES)
        sum[0] = VFMA(VLOAD(a + x), load_v(w, from + x, dtype), sum[0]);
    }
    NOUNROLL
    for (; x < dim; x += LANES)
      sum[1] = VFMA(VLOAD(a + x),
                    load_n(w, from + x * col_stride, col_stride,
                           MIN_OF(LANES, dim - x), any_dtype),
                    sum[1]);
    c[t] = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  }
}

/* to[r][t] = sum_x a[r][x] w[t][x] for ROWS resident and n <= LANES / ROWS
 * streamed rows. LANES sums are added across lanes together (sum_lanes), in a
 * third of the instructions that one by one would take. */
#define DOT_LANES(NAME, PRODUCTS, ROWS)                                        \
  INLINE void NAME(LOCAL const float *a, int lda, GLOBAL const float *w,       \
                   clt_i64 at, clt_i64 row_stride, clt_i64 col_stride, int n,  \
                   int dim, int dtype, LOCAL float *to, int ldt) {             \
    const int W = LANES / ROWS;                                                \
    vf c[LANES];                                                               \
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

/* The same for any number of resident and of streamed rows; ldt is n or more,
 * rounded up to a multiple of LANES. Three resident rows and more are read, and
 * their sums written, by four. With several rows to work on, memory would be idle
 * if it were not asked ahead. */
INLINE void dot_rows(int rows, LOCAL const float *a, int lda,
                     GLOBAL const float *w, clt_i64 at, clt_i64 row_stride,
                     clt_i64 col_stride, int n, int dim, int dtype,
                     LOCAL float *to, int ldt) {
  if (rows == 1) {
    for (int t = 0; t < n; t += LANES)
      dot_lanes_1(a, lda, w, at + t * row_stride, row_stride, col_stride,
                  MIN_OF(n - t, LANES), dim, dtype, to + t, ldt);
    return;
  }
  const int width = LANES / (rows == 2 ? 2 : 4);
  for (int t = 0; t < n; t += width) {
    const int left = MIN_OF(n - t, width);
    const clt_i64 from = at + t * row_stride;
    if (col_stride == 1)
      for (int i = 0; i < width; i++)
        prefetch_row(w, from + (i + DOT_AHEAD) * row_stride, dim, dtype);
    if (rows == 2)
      dot_lanes_2(a, lda, w, from, row_stride, col_stride, left, dim, dtype,
                  to + t, ldt);
    else
      for (int r = 0; r < rows; r += 4)
        dot_lanes_4(a + r * lda, lda, w, from, row_stride, col_stride, left,
                    dim, dtype, to + r * ldt + t, ldt);
  }
}

#endif /* CLT_DOT_H */
