/* rotary.h - rotary position embedding (Su et al. 2021).
 *
 * Contract
 *   group   token gx of batch gz, all heads
 *   writes  every element of out's row once; out may be x itself: both elements
 *           of a pair are read before either is written */
#ifndef CLT_ROTARY_H
#define CLT_ROTARY_H
#include "args.h"
#include "vec.h"

/* LANES pairs (x1, x2) from i1 and i2 on. */
INLINE void rotary_lanes(const clt_rotary_args *A, GLOBAL const float *x,
                         GLOBAL float *out, clt_i64 from, clt_i64 to,
                         clt_i64 pairs, vf c, vf s) {
  const vf x1 = load_v(x, from, A->x_dtype);
  const vf x2 = load_v(x, from + pairs, A->x_dtype);
  store_n(out, to, 1, LANES, A->out_dtype, c * x1 - s * x2);
  store_n(out, to + pairs, 1, LANES, A->out_dtype, s * x1 + c * x2);
}

INLINE void rotary_group(const clt_rotary_args *A, GLOBAL const float *x,
                         GLOBAL float *out, GLOBAL const float *cosines,
                         GLOBAL const float *sines, GLOBAL const int *ids,
                         int token, int b) {
  const int half_dim = A->rotary_dim / 2;
  clt_i64 row = token;
  if (A->ids_dtype)
    row = load_int(ids, A->ids.offset + b * A->ids.s[2] + token * A->ids.s[3],
                   A->ids_dtype, 0, A->n_rows - 1);
  else if (A->position_start >= 0)
    row = (clt_i64)A->position_start + token;
  const clt_i64 c_at = A->cos.offset + b * A->cos.s[0] + row * A->cos.s[2];
  const clt_i64 s_at = A->sin.offset + b * A->sin.s[0] + row * A->sin.s[2];
  const float turn = A->inverse ? -1.0f : 1.0f;
  /* Pairs lie side by side with others: whole vectors of them. */
  const int wide = !A->interleaved && A->x.s[3] == 1 && A->out.s[3] == 1 &&
                           A->cos.s[3] == 1 && A->sin.s[3] == 1
                       ? half_dim / LANES * LANES
                       : 0;

  for (int h = 0; h < A->heads; h++) {
    const clt_i64 from =
        A->x.offset + b * A->x.s[0] + h * A->x.s[1] + token * A->x.s[2];
    const clt_i64 to =
        A->out.offset + b * A->out.s[0] + h * A->out.s[1] + token * A->out.s[2];
    for (int k = 0; k < wide; k += LANES)
      rotary_lanes(A, x, out, from + k, to + k, half_dim,
                   load_v(cosines, c_at + k, A->table_dtype),
                   turn * load_v(sines, s_at + k, A->table_dtype));
    for (int k = wide; k < half_dim; k++) {
      const int i1 = A->interleaved ? 2 * k : k;
      const int i2 = A->interleaved ? 2 * k + 1 : k + half_dim;
      const float c = load_s(cosines, c_at + k * A->cos.s[3], A->table_dtype);
      const float s =
          turn * load_s(sines, s_at + k * A->sin.s[3], A->table_dtype);
      const float x1 = load_s(x, from + i1 * A->x.s[3], A->x_dtype);
      const float x2 = load_s(x, from + i2 * A->x.s[3], A->x_dtype);
      store_s(out, to + i1 * A->out.s[3], A->out_dtype, c * x1 - s * x2);
      store_s(out, to + i2 * A->out.s[3], A->out_dtype, s * x1 + c * x2);
    }
    for (int i = A->rotary_dim; i < A->dim; i++)
      store_s(out, to + i * A->out.s[3], A->out_dtype,
              load_s(x, from + i * A->x.s[3], A->x_dtype));
  }
}

#endif /* CLT_ROTARY_H */
