/* copy.h - strided copies with conversion, and small integers set by the host.
 *
 * Contract (copy_rows)
 *   group   COPY_ROWS rows from gx, head gy, batch gz
 * Contract (set_i32)
 *   group   one; writes count <= CLT_SET_MAX integers */
#ifndef CLT_COPY_H
#define CLT_COPY_H
#include "args.h"
#include "shape.h"
#include "vec.h"

INLINE void copy_rows_group(const clt_copy_args *A, GLOBAL const float *src,
                            GLOBAL float *dst, int gx, int h, int b) {
  for (int i = gx * COPY_ROWS; i < MIN_OF((gx + 1) * COPY_ROWS, A->rows); i++) {
    const clt_i64 from =
        A->src.offset + b * A->src.s[0] + h * A->src.s[1] + i * A->src.s[2];
    const clt_i64 to =
        A->dst.offset + b * A->dst.s[0] + h * A->dst.s[1] + i * A->dst.s[2];
    if (A->src_dtype == A->dst_dtype && A->src_dtype != CLT_F32) {
      /* The same 16 bits, whatever they mean: NaN payloads survive. */
      for (int x = 0; x < A->dim; x++)
        ((GLOBAL clt_u16 *)dst)[to + x * A->dst.s[3]] =
            ((GLOBAL const clt_u16 *)src)[from + x * A->src.s[3]];
      continue;
    }
    for (int x = 0; x < A->dim; x += LANES) {
      const int n = MIN_OF(LANES, A->dim - x);
      store_n(
          dst, to + x * A->dst.s[3], A->dst.s[3], n, A->dst_dtype,
          load_n(src, from + x * A->src.s[3], A->src.s[3], n, A->src_dtype));
    }
  }
}

INLINE void set_i32_group(const clt_set_args *A, GLOBAL int *dst) {
  for (int i = 0; i < A->count; i++) dst[A->offset + i] = A->values[i];
}

#endif /* CLT_COPY_H */
