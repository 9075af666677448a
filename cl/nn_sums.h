/* nn_sums.h - sums over rows, in the order of the rows. `across` units side by
 * side take NN_COLUMNS columns each, or one where a work-item is a unit.
 *
 * Contract (column_sums)
 *   0 x, 1 y, and 2 f, 3 mean, 4 rstd, together optional, mean by itself as well
 *     y[g,p,:] (+)= sum_i x[g,i,:] * (f[i,:] - mean[i]) rstd[i],  without f: x
 *   i: row_chunk rows from p * row_chunk. extent: groups g = [0] x [1] at s[0],
 *   s[1] of x and y; [2] the inner extent of rows i, which lie at s[2] (outer),
 *   s[3] (inner) of x, f, mean and rstd. rows: of a group; part p at s[2] of y;
 *   n_ids: how many parts
 * Contract (scatter)
 *   0 ids, 1 d_out, 2 d_table   d_table[id] += d_out, token by token
 * Contract (loss_parts)
 *   0 losses, 1 targets, 2 scratch   part u = the sum of row_chunk losses, and of
 *                                    how many
 * Contract (fold)
 *   0 scratch, 1 out   `rows` parts from `part`; a unit adds row_chunk of them up.
 *                      op: out is part u of view 1, the norm, or the mean */
#ifndef CLT_NN_SUMS_H
#define CLT_NN_SUMS_H
#include "nn_elements.h"

#if LANES == 1
#  define NN_WIDE 1
#else
#  define NN_WIDE (NN_COLUMNS / LANES)
#endif

NN_UNIT(column_sums) {
  const clt_i64 column = u % A->across, rest = u / A->across;
  const clt_i64 p = rest % A->n_ids, g = rest / A->n_ids;
  const clt_i64 g0 = g / A->extent[1], g1 = g % A->extent[1];
  const clt_i64 c = column * NN_WIDE * LANES, left = A->dim - c;
  const clt_i64 base =
      A->view[0].offset + g0 * A->view[0].s[0] + g1 * A->view[0].s[1] + c;
  vf sum[NN_WIDE];
  UNROLL
  for (int k = 0; k < NN_WIDE; k++) sum[k] = VSPLAT(0.0f);
  const clt_i64 first = p * A->row_chunk;
  for (clt_i64 i = first; i < MIN_OF(first + A->row_chunk, A->rows); i++) {
    const clt_i64 i0 = i / A->extent[2], i1 = i - i0 * A->extent[2];
    const clt_i64 at = base + i0 * A->view[0].s[2] + i1 * A->view[0].s[3];
    if (!nn_has(A, 2)) {
      UNROLL
      for (int k = 0; k < NN_WIDE; k++)
        sum[k] += nn_load(buf[0], at + k * LANES, left - k * LANES);
      continue;
    }
    const clt_i64 f =
        A->view[2].offset + c + i0 * A->view[2].s[2] + i1 * A->view[2].s[3];
    const float mean = nn_has(A, 3)
                           ? buf[3][A->view[3].offset + i0 * A->view[3].s[2] +
                                    i1 * A->view[3].s[3]]
                           : 0.0f;
    const float rstd =
        buf[4][A->view[4].offset + i0 * A->view[4].s[2] + i1 * A->view[4].s[3]];
    UNROLL
    for (int k = 0; k < NN_WIDE; k++) {
      const vf n =
          (nn_load(buf[2], f + k * LANES, left - k * LANES) - mean) * rstd;
      sum[k] += n * nn_load(buf[0], at + k * LANES, left - k * LANES);
    }
  }
  GLOBAL float *y = buf[1] + A->view[1].offset + g0 * A->view[1].s[0] +
                    g1 * A->view[1].s[1] + p * A->view[1].s[2] + c;
  UNROLL
  for (int k = 0; k < NN_WIDE; k++)
    nn_put(y, k * LANES, left - k * LANES, sum[k], A->accumulate);
}

NN_UNIT(scatter) {
  const clt_i64 c = u * NN_WIDE * LANES, left = A->dim - c;
  for (clt_i64 r = 0; r < A->rows; r++) {
    clt_i64 place[3];
    nn_place(A, r, place);
    const int id = nn_id(A, 0, buf, place, -1);
    if (id < 0 || id >= A->n_ids) continue;
    GLOBAL const float *from = buf[1] + nn_at(A, 1, place) + c;
    GLOBAL float *to = buf[2] + A->view[2].offset + id * A->view[2].s[2] + c;
    UNROLL
    for (int k = 0; k < NN_WIDE; k++)
      nn_put(to, k * LANES, left - k * LANES,
             nn_load(from, k * LANES, left - k * LANES), 1);
  }
}

NN_UNIT(loss_parts) {
  float sum = 0.0f, count = 0.0f;
  const clt_i64 first = u * A->row_chunk;
  for (clt_i64 r = first; r < MIN_OF(first + A->row_chunk, A->rows); r++) {
    clt_i64 place[3];
    nn_place(A, r, place);
    if (nn_id(A, 1, buf, place, CLT_NN_IGNORE - 1) == CLT_NN_IGNORE) continue;
    sum += buf[0][nn_at(A, 0, place)];
    count += 1.0f;
  }
  GLOBAL float *part = buf[2] + A->part + u * CLT_NN_PART;
  part[0] = sum;
  part[1] = count;
  part[2] = 0.0f;
}

#define NN_TINY_DOWN 8.077935669463160887e-28f /* 2^-90, 1 / NN_UP */
#define NN_LARGE_UP 1.180591620717411303e21f   /* 2^70, 1 / NN_DOWN */

NN_UNIT(fold) {
  float s0 = 0.0f, s1 = 0.0f, s2 = 0.0f;
  const clt_i64 first = u * A->row_chunk;
  for (clt_i64 i = first; i < MIN_OF(first + A->row_chunk, A->rows); i++) {
    GLOBAL const float *part = buf[0] + A->part + i * CLT_NN_PART;
    s0 += part[0];
    s1 += part[1];
    s2 += part[2];
  }
  GLOBAL float *out = buf[1] + A->view[1].offset;
  if (A->op == CLT_NN_PARTS) {
    out += u * CLT_NN_PART;
    out[0] = s0;
    out[1] = s1;
    out[2] = s2;
  } else if (A->op == CLT_NN_MEAN) { /* the sum of losses, their number */
    out[0] = s0 / s1;
    out[A->view[1].s[3]] = s1;
  } else if (s1 > 0.0f) { /* what is smaller by 2^80 and more vanishes */
    out[0] = SQRT(s1 + s0 * NN_DOWN * NN_DOWN) * NN_LARGE_UP;
  } else if (s0 != 0.0f) {
    out[0] = SQRT(s0 + s2 * NN_TINY_DOWN * NN_TINY_DOWN);
  } else {
    out[0] = SQRT(s2) * NN_TINY_DOWN;
  }
}

#endif /* CLT_NN_SUMS_H */
