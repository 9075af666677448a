/* nn.h - what the kernels of nn.cl share: units of work, rows, columns, ids.
 *
 * A body is NN_UNIT(name) { ... }: unit u of the work that A describes, with the
 * buffers that A->view describes in buf. It is called once for each u, in any
 * order; what two units write never overlaps, and nothing is added up across
 * units but by a later kernel in a fixed order, so that results have the same
 * bits however the units are spread. Rows are dense and F32. */
#ifndef CLT_NN_H
#define CLT_NN_H
#include "args.h"
#include "shape.h"
#include "vec.h"

#define NN_UNIT(name)                                                          \
  INLINE void nn_##name##_unit(const clt_nn_args *A, GLOBAL float *const *buf, \
                               clt_i64 u)

#ifdef __OPENCL_C_VERSION__
#  define NN_NAN as_float(0x7fc00000)
#else
#  define NN_NAN NAN
#endif
#define NN_LOG2E 1.44269504088896341f
/* Vectors added up before their sum joins the total: long sums stay exact. */
#define NN_BLOCK (64 * LANES)

/* Where row r is: its batch, head and row. */
INLINE void nn_place(const clt_nn_args *A, clt_i64 r, clt_i64 *place) {
  place[0] = place[1] = 0;
  place[2] = r;
  if (A->extent[0] * A->extent[1] == 1) return;
  const clt_i64 outer = r / A->extent[2];
  place[2] = r - outer * A->extent[2];
  place[0] = outer / A->extent[1];
  place[1] = outer - place[0] * A->extent[1];
}
/* The first element of that row. */
INLINE clt_i64 nn_at(const clt_nn_args *A, int i, const clt_i64 *place) {
  return A->view[i].offset + place[0] * A->view[i].s[0] +
         place[1] * A->view[i].s[1] + place[2] * A->view[i].s[2];
}
INLINE int nn_has(const clt_nn_args *A, int i) { return A->has >> i & 1; }

/* The rows first..end-1 and columns from, from + step, ... < to of unit u. */
typedef struct nn_span {
  clt_i64 first, end, from, to, step;
} nn_span;
INLINE void nn_span_of(const clt_nn_args *A, clt_i64 u, nn_span *s) {
  const clt_i64 down = A->across == 1 ? u : u / A->across;
  const clt_i64 column = u - down * A->across;
  s->first = down * A->row_chunk;
  s->end = MIN_OF(s->first + A->row_chunk, A->rows);
  s->from = A->chunk ? column * A->chunk : column;
  s->to = A->chunk ? MIN_OF(s->from + A->chunk, A->dim) : A->dim;
  s->step = A->chunk ? LANES : A->across;
}

/* LANES numbers, or the n < LANES that are left of a row; others are 0. */
INLINE vf nn_load(GLOBAL const float *base, clt_i64 at, clt_i64 left) {
  return left >= LANES ? VLOAD(base + at)
                       : load_n(base, at, 1, (int)left, CLT_F32);
}
INLINE void nn_store(GLOBAL float *base, clt_i64 at, clt_i64 left, vf v) {
  if (left >= LANES)
    VSTORE(v, base + at);
  else
    store_n(base, at, 1, (int)left, CLT_F32, v);
}
/* The same with what is there added. */
INLINE void nn_put(GLOBAL float *base, clt_i64 at, clt_i64 left, vf v,
                   int accumulate) {
  nn_store(base, at, left, accumulate ? nn_load(base, at, left) + v : v);
}
/* Lanes past the end of a row become x. */
INLINE vf nn_keep(vf v, clt_i64 left, float x) {
  return left >= LANES ? v
                       : VSELECT(V_IOTA < VSPLAT_I((int)left), v, VSPLAT(x));
}

/* Id of row `place` of buffer i; what lies outside low..n_ids becomes one of
 * the two ends. */
INLINE int nn_id(const clt_nn_args *A, int i, GLOBAL float *const *buf,
                 const clt_i64 *place, int low) {
  return load_int((GLOBAL const int *)buf[i], nn_at(A, i, place), A->id_dtype,
                  low, A->n_ids);
}

#endif /* CLT_NN_H */
