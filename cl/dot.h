/* dot.h - a few rows against one streamed row: what decoding and skinny products
 * spend their time on. The streamed row is read once, whatever the number of
 * resident rows, and converted on the way. */
#ifndef CLT_DOT_H
#define CLT_DOT_H
#include "args.h"
#include "vec.h"

/* sums[r] = sum_x a[r][x] w[x] for r < ROWS (a literal constant). a is padded
 * with zeros to whole vectors; w is at `at` in a global array. */
INLINE void dot_rows(const int ROWS, LOCAL const float *a, int ld,
                     GLOBAL const float *w, clt_i64 at, clt_i64 stride, int n,
                     int dtype, float *sums) {
  vf c[8];
  UNROLL
  for (int r = 0; r < ROWS; r++) c[r] = VSPLAT(0.0f);
  int x = 0;
  if (stride == 1)
    for (; x + LANES <= n; x += LANES) {
      vf y = load_v(w, at + x, dtype);
      UNROLL
      for (int r = 0; r < ROWS; r++)
        c[r] = VFMA(VLOAD(a + r * ld + x), y, c[r]);
    }
  for (; x < n; x += LANES) {
    vf y = load_n(w, at + x * stride, stride, MIN_OF(LANES, n - x), dtype);
    UNROLL
    for (int r = 0; r < ROWS; r++) c[r] = VFMA(VLOAD(a + r * ld + x), y, c[r]);
  }
  UNROLL
  for (int r = 0; r < ROWS; r++) sums[r] = vsum(c[r]);
}

/* dot_rows for 1..8 rows; rows up to the next power of two are read. */
INLINE void dot_up_to_8(int rows, LOCAL const float *a, int ld,
                        GLOBAL const float *w, clt_i64 at, clt_i64 stride,
                        int n, int dtype, float *sums) {
  if (rows == 1)
    dot_rows(1, a, ld, w, at, stride, n, dtype, sums);
  else if (rows == 2)
    dot_rows(2, a, ld, w, at, stride, n, dtype, sums);
  else if (rows <= 4)
    dot_rows(4, a, ld, w, at, stride, n, dtype, sums);
  else
    dot_rows(8, a, ld, w, at, stride, n, dtype, sums);
}

#endif /* CLT_DOT_H */
