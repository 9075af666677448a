/* bench_oracle.c - sampled rows of attention in double precision, from the
 * formula alone:
 *
 *   s_j = q . k_j / sqrt(D)     p = softmax(s) over the keys seen     o = p V
 *
 * It shares no code with what it checks, the decoding of two-byte numbers
 * included. Beside each number stands how far a correct fp32 computation may be
 * off, with e = 2^-23, A_j = sum_d |q_d k_jd| / sqrt(D) and n keys seen:
 *
 *   E_j  <= 2 e (sqrt(D) + 8) A_j
 *   p_j  <= p_j (exp(E_j + sum_k p_k E_k) - 1) + 2^-63
 *   o    <= sum_j |v_j| error(p_j) + 2 e (sqrt(n) + 8) sum_j p_j |v_j|
 *
 * (a dot product of length n errs by about e sqrt(n) of its absolute sum; the
 * constants cover exp and rescaling; probabilities below 2^-64 may be 0), plus
 * the rounding of the type that the result is stored in. */
#include "bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct bench_oracle {
  const bench_problem *problem;
  int n;                  /* rows sampled */
  size_t row[BENCH_ROWS]; /* (b * q_heads + h) * q_len + i */
  double *out, *out_tol;  /* [n, v_dim] */
  double *p, *p_tol;      /* [n, kv_len]; NULL unless weights are wanted */
};

/* ---- numbers ------------------------------------------------------------- */

/* sign, exponent of `bits` with `bias`, fraction of `fraction_bits`. */
static double decode(unsigned x, int bits, int fraction_bits) {
  const int bias = (1 << (bits - 1)) - 1, top = (1 << bits) - 1;
  const unsigned fraction = x & ((1u << fraction_bits) - 1);
  const int exponent = (int)(x >> fraction_bits) & top;
  const double sign = x >> (bits + fraction_bits) ? -1 : 1;
  if (exponent == top) return fraction ? NAN : sign * INFINITY;
  const unsigned one = exponent ? 1u << fraction_bits : 0;
  return sign * ldexp((double)(one | fraction),
                      (exponent ? exponent : 1) - bias - fraction_bits);
}

double bench_number(clattn_dtype dtype, const void *data, size_t i) {
  if (dtype == CLATTN_F32) return ((const float *)data)[i];
  const unsigned x = ((const uint16_t *)data)[i];
  return dtype == CLATTN_F16 ? decode(x, 5, 10) : decode(x, 8, 7);
}

/* Half a unit in the last place. */
double bench_rounding(clattn_dtype dtype, double x) {
  switch (dtype) {
    case CLATTN_F16:
      return fmax(ldexp(fabs(x), -11), ldexp(1, -25));
    case CLATTN_BF16:
      return ldexp(fabs(x), -8);
    default:
      return ldexp(fabs(x), -24);
  }
}

/* ---- one row ------------------------------------------------------------- */

/* q [D], k [seen, D], v [seen, Dv] start at these elements; p and p_tol [seen]
 * receive probabilities and their errors, o and o_tol [Dv] the row. */
static void attend(const bench_problem *problem, size_t q, size_t k, size_t v,
                   int64_t seen, double *p, double *p_tol, double *o,
                   double *o_tol) {
  const bench_shape *s = problem->shape;
  const size_t D = (size_t)s->qk_dim, Dv = (size_t)s->v_dim;
  const double e = ldexp(1, -23), scale = 1 / sqrt((double)D);
  double top = -INFINITY, sum = 0, mean_error = 0;
  for (size_t j = 0; j < (size_t)seen; j++) {
    double dot = 0, size = 0;
    for (size_t d = 0; d < D; d++) {
      const double term = bench_number(s->dtype, problem->q, q + d) *
                          bench_number(s->dtype, problem->k, k + j * D + d);
      dot += term;
      size += fabs(term);
    }
    p[j] = dot * scale;
    p_tol[j] = 2 * e * (sqrt((double)D) + 8) * size * scale;
    top = fmax(top, p[j]);
  }
  for (size_t j = 0; j < (size_t)seen; j++) sum += p[j] = exp(p[j] - top);
  for (size_t j = 0; j < (size_t)seen; j++) {
    p[j] /= sum;
    mean_error += p[j] * p_tol[j];
  }
  for (size_t d = 0; d < Dv; d++) o[d] = o_tol[d] = 0;
  for (size_t j = 0; j < (size_t)seen; j++) {
    p_tol[j] = p[j] * expm1(p_tol[j] + mean_error) + ldexp(1, -63);
    const double sums = 2 * e * (sqrt((double)seen) + 8) * p[j];
    for (size_t d = 0; d < Dv; d++) {
      const double x = bench_number(s->dtype, problem->v, v + j * Dv + d);
      o[d] += p[j] * x;
      o_tol[d] += fabs(x) * (p_tol[j] + sums);
    }
  }
  for (size_t d = 0; d < Dv; d++) o_tol[d] += bench_rounding(s->dtype, o[d]);
  for (size_t j = 0; j < (size_t)seen; j++)
    p_tol[j] += 2 * e * p[j] + bench_rounding(CLATTN_F32, p[j]);
}

/* ---- rows of a problem --------------------------------------------------- */

int bench_choose_rows(size_t rows, size_t row[BENCH_ROWS]) {
  if (rows <= BENCH_ROWS) {
    for (size_t i = 0; i < rows; i++) row[i] = i;
    return (int)rows;
  }
  uint64_t seed = 1;
  for (int i = 0; i < BENCH_ROWS; i++) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    row[i] = i == 0 ? 0 : i == 1 ? rows - 1 : (size_t)(seed >> 16) % rows;
  }
  return BENCH_ROWS;
}

static void compute(bench_oracle *o, double *p, double *p_tol, int i) {
  const bench_shape *s = o->problem->shape;
  const size_t row = o->row[i], q_len = (size_t)s->q_len;
  const size_t head = row / q_len % (size_t)s->q_heads;
  const size_t b = row / q_len / (size_t)s->q_heads;
  const size_t g = head / (size_t)(s->q_heads / s->kv_heads);
  const size_t kv = (b * (size_t)s->kv_heads + g) * (size_t)s->kv_len;
  attend(o->problem, row * (size_t)s->qk_dim, kv * (size_t)s->qk_dim,
         kv * (size_t)s->v_dim, bench_shape_seen(s, (int64_t)(row % q_len)), p,
         p_tol, o->out + (size_t)i * (size_t)s->v_dim,
         o->out_tol + (size_t)i * (size_t)s->v_dim);
}

bench_oracle *bench_oracle_create(const bench_problem *problem) {
  const bench_shape *s = problem->shape;
  bench_oracle *o = calloc(1, sizeof *o);
  if (o == NULL) return NULL;
  o->problem = problem;
  o->n = bench_choose_rows((size_t)(s->batch * s->q_heads * s->q_len), o->row);
  const size_t out = (size_t)o->n * (size_t)s->v_dim;
  /* Without weights all rows share the space of one. */
  const size_t kv = (size_t)s->kv_len;
  const size_t p = problem->weights ? (size_t)o->n * kv : kv;
  o->out = calloc(out, sizeof *o->out);
  o->out_tol = calloc(out, sizeof *o->out_tol);
  o->p = calloc(p, sizeof *o->p);
  o->p_tol = calloc(p, sizeof *o->p_tol);
  if (!o->out || !o->out_tol || !o->p || !o->p_tol) {
    bench_oracle_destroy(o);
    return NULL;
  }
  for (int i = 0; i < o->n; i++) {
    const size_t at = problem->weights ? (size_t)i * kv : 0;
    compute(o, o->p + at, o->p_tol + at, i);
  }
  return o;
}

void bench_oracle_destroy(bench_oracle *o) {
  if (o == NULL) return;
  free(o->out);
  free(o->out_tol);
  free(o->p);
  free(o->p_tol);
  free(o);
}

/* ---- the check ----------------------------------------------------------- */

bool bench_compare(const bench_comparison *c, const void *got, size_t row,
                   double *max_error, char *why) {
  for (size_t i = 0; i < c->n; i++) {
    const double x = bench_number(c->dtype, got, i),
                 error = fabs(x - c->want[i]);
    if (!(error <= *max_error)) *max_error = error;
    if (!(error <= c->tol[i]))
      return bench_refuse(why,
                          "wrong: %s row %zu, element %zu: got %.9g, want %.9g "
                          "within %.1e",
                          c->what, row, i, x, c->want[i], c->tol[i]);
  }
  return true;
}

bool bench_oracle_check(const bench_oracle *o, const bench_rival *rival,
                        void *work, bool *wrong, double *max_error, char *why) {
  const bench_shape *s = o->problem->shape;
  const size_t Dv = (size_t)s->v_dim, kv = (size_t)s->kv_len;
  float *got = malloc((Dv > kv ? Dv : kv) * sizeof *got);
  double ignored = 0; /* the error reported is that of the output */
  bool ok = got != NULL || bench_refuse(why, "no memory");
  *wrong = false;
  *max_error = 0;
  for (int i = 0; ok && i < o->n; i++) {
    const size_t row = o->row[i], at = (size_t)i;
    const bench_comparison out = {"output", s->dtype, o->out + at * Dv,
                                  o->out_tol + at * Dv, Dv};
    ok = rival->read(work, BENCH_OUT, row, got, why);
    if (ok) *wrong = !(ok = bench_compare(&out, got, row, max_error, why));
    if (!ok || !o->problem->weights) continue;
    const bench_comparison weights = {"weights", CLATTN_F32, o->p + at * kv,
                                      o->p_tol + at * kv, kv};
    ok = rival->read(work, BENCH_WEIGHTS, row, got, why);
    if (ok) *wrong = !(ok = bench_compare(&weights, got, row, &ignored, why));
  }
  free(got);
  return ok;
}
