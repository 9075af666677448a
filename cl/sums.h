/* sums.h - sums in a fixed order: of partial results, of a matrix's columns.
 *
 * Contract (sum_parts_row)        row r of head h, batch b, from column `first`
 *                                 in steps of `step`
 * Contract (column_sums_columns)  columns x .. x + LANES - 1, all rows */
#ifndef CLT_SUMS_H
#define CLT_SUMS_H
#include "args.h"
#include "shape.h"
#include "vec.h"

INLINE void sum_parts_row(const clt_sum_parts_args *A, GLOBAL const float *from,
                          GLOBAL float *to, int r, int h, int b, int first,
                          int step) {
  const clt_i64 at =
      A->from + (((clt_i64)b * A->heads + h) * A->rows + r) * A->ld;
  const clt_i64 to_at =
      A->to.offset + b * A->to.s[0] + h * A->to.s[1] + r * A->to.s[2];
  for (int x = first; x < A->dim; x += step) {
    const int n = MIN_OF(LANES, A->dim - x);
    vf sum = load_n(from, at + x, 1, n, CLT_F32);
    for (int s = 1; s < A->parts; s++)
      sum += load_n(from, at + s * A->step + x, 1, n, CLT_F32);
    sum = sum * A->scale;
    const clt_i64 here = to_at + x * A->to.s[3];
    if (A->add) sum += load_n(to, here, A->to.s[3], n, A->to_dtype);
    store_n(to, here, A->to.s[3], n, A->to_dtype, sum);
  }
}

INLINE void column_sums_columns(const clt_column_sums_args *A,
                                GLOBAL const float *from, GLOBAL float *to,
                                int x) {
  if (x >= A->columns) return;
  const int n = MIN_OF(LANES, A->columns - x);
  vf sum = VSPLAT(0.0f);
  for (int b = 0; b < A->batch; b++)
    for (int r = 0; r < A->rows; r++)
      sum += load_n(from,
                    A->from.offset + b * A->from.s[0] + r * A->from.s[2] +
                        x * A->from.s[3],
                    A->from.s[3], n, A->from_dtype);
  const clt_i64 at = A->to.offset + x * A->to.s;
  if (A->add) sum += load_n(to, at, A->to.s, n, A->to_dtype);
  store_n(to, at, A->to.s, n, A->to_dtype, sum);
}

#endif /* CLT_SUMS_H */
