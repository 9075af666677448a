/* nn_elements.h - element by element.
 *
 * Contract (map)
 *   0 a, 1 b, 2 out, 3 c   out = op(a, b, c); which are read depends on op. An
 *                     element is read before it is written: out may be a, b or c
 * Contract (adamw)
 *   0 param, 1 grad, 2 m, 3 v, 4 norm (optional)
 * Contract (norm_parts)
 *   0 x, 1 scratch    part u = the sums of squares of unit u: of large elements
 *                     times 2^-140, of small ones times 2^180, of the others */
#ifndef CLT_NN_ELEMENTS_H
#define CLT_NN_ELEMENTS_H
#include "nn.h"

/* Phi(x) = erfc(-x / sqrt 2) / 2, relative error below 5e-6, also where it is
 * tiny; 0 from about -9.3 down. erfc z = t exp(-z^2 + P(t)), t = 1 / (1 + z/2),
 * by the Chebyshev fit of Press et al., Numerical Recipes. */
INLINE vf nn_normal_cdf(vf x) {
  const vf z = VMAX(x, -x) * 0.707106781186547524f;
  const vf t = 1.0f / VFMA(VSPLAT(0.5f), z, VSPLAT(1.0f));
  vf p = VFMA(VSPLAT(0.17087277f), t, VSPLAT(-0.82215223f));
  p = VFMA(p, t, VSPLAT(1.48851587f));
  p = VFMA(p, t, VSPLAT(-1.13520398f));
  p = VFMA(p, t, VSPLAT(0.27886807f));
  p = VFMA(p, t, VSPLAT(-0.18628806f));
  p = VFMA(p, t, VSPLAT(0.09678418f));
  p = VFMA(p, t, VSPLAT(0.37409196f));
  p = VFMA(p, t, VSPLAT(1.00002368f));
  p = VFMA(p, t, VSPLAT(-1.26551223f));
  const vf tail = 0.5f * t * exp2_v(VFMA(-z, z, p) * NN_LOG2E);
  return VSELECT(x > 0.0f, 1.0f - tail, tail);
}

/* Nothing changes outside -16..16, except that 0 * Inf would come up. */
INLINE vf nn_clamp(vf x) {
  return VMIN(VSPLAT(16.0f), VMAX(VSPLAT(-16.0f), x));
}

INLINE vf nn_gelu(vf x) { return VMAX(VSPLAT(-16.0f), x) * nn_normal_cdf(x); }

INLINE vf nn_gelu_slope(vf x) {
  const vf c = nn_clamp(x);
  const vf density = 0.398942280401432678f * exp2_v(c * c * (-0.5f * NN_LOG2E));
  return VFMA(c, density, nn_normal_cdf(x));
}

#define NN_ROOT_2_PI 0.797884560802865356f /* sqrt(2 / pi) */
#define NN_CUBIC 0.044715f

/* (1 + tanh w) / 2 = 1 / (1 + exp(-2 w)), which keeps its relative accuracy
 * where it is tiny; *e = exp(-2 |w|). */
INLINE vf nn_half_tanh(vf x, vf *e) {
  const vf w = NN_ROOT_2_PI * x * VFMA(NN_CUBIC * x, x, VSPLAT(1.0f));
  *e = exp2_v(VMAX(w, -w) * (-2.0f * NN_LOG2E));
  return VSELECT(w > 0.0f, VSPLAT(1.0f), *e) / (1.0f + *e);
}

INLINE vf nn_gelu_tanh(vf x) {
  vf e;
  return VMAX(VSPLAT(-16.0f), x) * nn_half_tanh(nn_clamp(x), &e);
}

INLINE vf nn_gelu_tanh_slope(vf x) {
  vf e;
  const vf c = nn_clamp(x), s = nn_half_tanh(c, &e), f = 1.0f + e;
  const vf w = NN_ROOT_2_PI * VFMA(3.0f * NN_CUBIC * c, c, VSPLAT(1.0f));
  return VFMA(2.0f * c * w, e / (f * f), s);
}

/* 1 / (1 + exp(-x)), which keeps its relative accuracy where it is tiny, down to
 * about 1e-19; *rest = 1 minus that, likewise. */
INLINE vf nn_sigmoid(vf x, vf *rest) {
  const vf e = exp2_v(VMAX(x, -x) * -NN_LOG2E), more = 1.0f / (1.0f + e);
  const vf less = e * more;
  *rest = VSELECT(x > 0.0f, less, more);
  return VSELECT(x > 0.0f, more, less);
}

/* x sigmoid(x). Where sigmoid is 0, x is bounded: 0 * Inf would come up. */
INLINE vf nn_silu(vf x) {
  vf rest;
  return VMAX(VSPLAT(-64.0f), x) * nn_sigmoid(x, &rest);
}

INLINE vf nn_silu_slope(vf x) {
  vf rest;
  const vf s = nn_sigmoid(x, &rest);
  const vf c = VMIN(VSPLAT(64.0f), VMAX(VSPLAT(-64.0f), x));
  return s * VFMA(c, rest, VSPLAT(1.0f));
}

/* One row of a unit; op is a literal wherever this is called. */
INLINE void nn_map_row(const clt_nn_args *A, GLOBAL float *const *buf,
                       const nn_span *s, const clt_i64 *place, const int op) {
  const clt_i64 a_at = nn_at(A, 0, place), b_at = nn_at(A, 1, place);
  const clt_i64 out_at = nn_at(A, 2, place), c_at = nn_at(A, 3, place);
  for (clt_i64 x = s->from; x < s->to; x += s->step) {
    const clt_i64 left = s->to - x;
    vf a = VSPLAT(A->value), b = a;
    if (op != CLT_NN_FILL) a = nn_load(buf[0], a_at + x, left);
    if (op >= CLT_NN_ADD) b = nn_load(buf[1], b_at + x, left);
    if (op == CLT_NN_GELU) a = nn_gelu(a);
    if (op == CLT_NN_GELU_TANH) a = nn_gelu_tanh(a);
    if (op == CLT_NN_TANH) a = tanh_v(a);
    if (op == CLT_NN_ADD) a += b;
    if (op == CLT_NN_SWIGLU) a = nn_silu(a) * b;
    if (op == CLT_NN_GELU_BACK) a = b * nn_gelu_slope(a);
    if (op == CLT_NN_GELU_TANH_BACK) a = b * nn_gelu_tanh_slope(a);
    if (op == CLT_NN_TANH_BACK) a = b * (1.0f - a * a);
    if (op == CLT_NN_SWIGLU_BACK)
      a = nn_silu_slope(a) * b * nn_load(buf[3], c_at + x, left);
    nn_store(buf[2], out_at + x, left, a);
  }
}

#define NN_MAP_ROW(op)                                                         \
  case op:                                                                     \
    nn_map_row(A, buf, &s, place, op);                                         \
    break;

NN_UNIT(map) {
  nn_span s;
  nn_span_of(A, u, &s);
  for (clt_i64 r = s.first; r < s.end; r++) {
    clt_i64 place[3];
    nn_place(A, r, place);
    switch (A->op) {
      NN_MAP_ROW(CLT_NN_FILL)
      NN_MAP_ROW(CLT_NN_GELU)
      NN_MAP_ROW(CLT_NN_GELU_TANH)
      NN_MAP_ROW(CLT_NN_TANH)
      NN_MAP_ROW(CLT_NN_ADD)
      NN_MAP_ROW(CLT_NN_SWIGLU)
      NN_MAP_ROW(CLT_NN_GELU_BACK)
      NN_MAP_ROW(CLT_NN_GELU_TANH_BACK)
      NN_MAP_ROW(CLT_NN_TANH_BACK)
      NN_MAP_ROW(CLT_NN_SWIGLU_BACK)
    }
  }
}

NN_UNIT(adamw) {
  nn_span s;
  nn_span_of(A, u, &s);
  float clip = 1.0f;
  if (nn_has(A, 4)) {
    clip = A->max_norm / (buf[4][A->view[4].offset] + 1e-6f);
    if (clip > 1.0f) clip = 1.0f; /* NaN stays */
  }
  for (clt_i64 r = s.first; r < s.end; r++) {
    clt_i64 place[3];
    nn_place(A, r, place);
    GLOBAL float *param = buf[0] + nn_at(A, 0, place);
    GLOBAL const float *grad = buf[1] + nn_at(A, 1, place);
    GLOBAL float *first = buf[2] + nn_at(A, 2, place);
    GLOBAL float *second = buf[3] + nn_at(A, 3, place);
    for (clt_i64 x = s.from; x < s.to; x += s.step) {
      const clt_i64 left = s.to - x;
      const vf g = clip * nn_load(grad, x, left);
      const vf m = A->beta1 * nn_load(first, x, left) + A->rest1 * g;
      const vf v = A->beta2 * nn_load(second, x, left) + A->rest2 * g * g;
      const vf p = A->decay * nn_load(param, x, left);
      nn_store(first, x, left, m);
      nn_store(second, x, left, v);
      nn_store(param, x, left, p - A->rate * m / (VSQRT(v * A->root) + A->eps));
    }
  }
}

/* Squares of these neither overflow nor vanish; nor, scaled, do the others'. */
#define NN_LARGE 1.099511627776e12f        /* 2^40 */
#define NN_SMALL 9.094947017729282379e-13f /* 2^-40 */
#define NN_DOWN 8.470329472543003391e-22f  /* 2^-70 */
#define NN_UP 1.237940039285380275e27f     /* 2^90 */

NN_UNIT(norm_parts) {
  nn_span s;
  nn_span_of(A, u, &s);
  const vf zero = VSPLAT(0.0f);
  vf total = zero, total_large = zero, total_small = zero;
  for (clt_i64 r = s.first; r < s.end; r++) {
    clt_i64 place[3];
    nn_place(A, r, place);
    GLOBAL const float *row = buf[0] + nn_at(A, 0, place);
    for (clt_i64 x = s.from; x < s.to;) {
      vf sum = zero, large = zero, small = zero;
      for (int i = 0; i < 64 && x < s.to; i++, x += s.step) {
        const vf v = nn_load(row, x, s.to - x), size = VMAX(v, -v);
        const vf l = VSELECT(size > NN_LARGE, v * NN_DOWN, zero);
        const vf t = VSELECT(size < NN_SMALL, v * NN_UP, zero);
        const vf rest =
            VSELECT(size > NN_LARGE, zero, VSELECT(size < NN_SMALL, zero, v));
        large = VFMA(l, l, large);
        small = VFMA(t, t, small);
        sum = VFMA(rest, rest, sum);
      }
      total += sum;
      total_large += large;
      total_small += small;
    }
  }
  GLOBAL float *part = buf[1] + A->part + u * CLT_NN_PART;
  part[0] = vsum(total);
  part[1] = vsum(total_large);
  part[2] = vsum(total_small);
}

#endif /* CLT_NN_ELEMENTS_H */
