/* bench_gradients.c - sampled rows of the gradients in double precision, from
 * the formulas of clattn.h:
 *
 *   p_ij = exp(q_i . k_j / sqrt(D) - lse_i)    ds_ij = p_ij (do_i . v_j - D_i)
 *   dq_i = sum_j ds_ij k_j / sqrt(D)           D_i = do_i . o_i
 *   dk_j = sum_i ds_ij q_i / sqrt(D)           dv_j = sum_i p_ij do_i
 *
 * o and lse are inputs of backward: what forward left is used, and checked here
 * on the rows whose dq is. Beside each number stands how far a correct fp32
 * computation may be off, with the constants of bench_oracle.c:
 *
 *   p_ij  <= p_ij (exp(E_ij + 4 e |lse_i|) - 1) + 2^-63
 *   ds_ij <= error(p_ij) |dp - D| + p_ij F_ij,  F_ij that of dp - D, as a sum
 *
 * and for the sums that of their terms, and of adding as many. */
#include "bench.h"

#include <math.h>
#include <stdlib.h>

/* One pair of a query and a key. */
typedef struct pair {
  double p, p_tol, ds, ds_tol; /* ds with the factor 1 / sqrt(D) */
} pair;

/* Element numbers at which the rows of a pair start, and what forward left. */
typedef struct place {
  size_t q, k, v, d_out;
  double lse;
  const void *out; /* [Dv], the row alone */
} place;

static const double e = 0x1p-23;

/* Dot product of n numbers; *tol receives its error. */
static double dot(clattn_dtype t, const void *a, size_t i, const void *b,
                  size_t j, size_t n, double *tol) {
  double sum = 0, size = 0;
  for (size_t d = 0; d < n; d++) {
    const double term = bench_number(t, a, i + d) * bench_number(t, b, j + d);
    sum += term;
    size += fabs(term);
  }
  *tol = 2 * e * (sqrt((double)n) + 8) * size;
  return sum;
}

static pair pair_at(const bench_problem *problem, const place *at) {
  const bench_shape *s = problem->shape;
  const size_t D = (size_t)s->qk_dim, Dv = (size_t)s->v_dim;
  const double scale = 1 / sqrt((double)D);
  double s_tol, dp_tol, d_tol;
  const double score =
      dot(s->dtype, problem->q, at->q, problem->k, at->k, D, &s_tol) * scale;
  const double dp =
      dot(s->dtype, problem->d_out, at->d_out, problem->v, at->v, Dv, &dp_tol);
  const double own =
      dot(s->dtype, problem->d_out, at->d_out, at->out, 0, Dv, &d_tol);
  pair x = {.p = exp(score - at->lse)};
  x.p_tol = x.p * expm1(s_tol * scale + 4 * e * fabs(at->lse)) + 0x1p-63;
  x.ds = x.p * (dp - own) * scale;
  x.ds_tol = (x.p_tol * (fabs(dp - own) + dp_tol + d_tol) +
              x.p * (dp_tol + d_tol + 2 * e * (fabs(dp) + fabs(own)))) *
             scale;
  return x;
}

/* ---- sums ---------------------------------------------------------------- */

/* A row of a gradient: want and tol [n], and the sums of absolute terms. */
typedef struct sum {
  double *want, *tol, *size;
  size_t n;
} sum;

static bool sum_new(size_t n, sum *s) {
  s->n = n;
  s->want = calloc(3 * n, sizeof *s->want);
  s->tol = s->want + n;
  s->size = s->tol + n;
  return s->want != NULL;
}

/* Adds weight times the row at x. */
static void sum_add(sum *s, double weight, double weight_tol, clattn_dtype t,
                    const void *x, size_t at) {
  for (size_t d = 0; d < s->n; d++) {
    const double y = bench_number(t, x, at + d);
    s->want[d] += weight * y;
    s->tol[d] += weight_tol * fabs(y);
    s->size[d] += fabs(weight * y);
  }
}

/* Whether a row that was read is the sum of `terms`; clears it for the next. */
static bool sum_is(sum *s, const char *what, clattn_dtype t, size_t terms,
                   const void *got, size_t row, double *max_error, char *why) {
  const double adding = 2 * e * (sqrt((double)terms) + 8);
  for (size_t d = 0; d < s->n; d++)
    s->tol[d] += adding * s->size[d] + bench_rounding(t, s->want[d]) + 0x1p-126;
  const bench_comparison c = {what, t, s->want, s->tol, s->n};
  const bool ok = bench_compare(&c, got, row, max_error, why);
  for (size_t d = 0; d < 3 * s->n; d++) s->want[d] = 0;
  return ok;
}

/* ---- rows ---------------------------------------------------------------- */

typedef struct checker {
  const bench_problem *problem;
  void *work;
  char *out;  /* [q_len, Dv], and */
  float *lse; /* [q_len]: of the query head at hand */
  void *got;  /* a row */
  sum q, k, v;
  bool *wrong;
  double *max_error;
  char *why;
} checker;

static bool read_head(checker *c, size_t head) {
  const size_t n = (size_t)c->problem->shape->q_len;
  return bench_own_read(c->work, BENCH_OUT, head * n, n, c->out, c->why) &&
         bench_own_read(c->work, BENCH_LSE, head * n, n, c->lse, c->why);
}

/* Query row i of q_head (of all batches) and key row j of kv_head. */
static place place_of(const checker *c, size_t q_head, size_t i, size_t kv_head,
                      size_t j) {
  const bench_shape *s = c->problem->shape;
  const size_t D = (size_t)s->qk_dim, Dv = (size_t)s->v_dim;
  const size_t row = q_head * (size_t)s->q_len + i;
  const size_t key = kv_head * (size_t)s->kv_len + j;
  return (place){.q = row * D,
                 .k = key * D,
                 .v = key * Dv,
                 .d_out = row * Dv,
                 .lse = (double)c->lse[i],
                 .out = c->out + i * Dv * clattn_dtype_size(s->dtype)};
}

static bool check_row(checker *c, bench_output which, const char *what,
                      sum *want, size_t terms, size_t row) {
  const clattn_dtype t = c->problem->shape->dtype;
  if (!bench_own_read(c->work, which, row, 1, c->got, c->why)) return false;
  *c->wrong = !sum_is(want, what, t, terms, c->got, row, c->max_error, c->why);
  return !*c->wrong;
}

/* The lse of a row is that of its scores. */
static bool check_lse(checker *c, size_t row, double sum, double tol,
                      double lse, size_t seen) {
  /* Both sides divided by exp(lse): the probabilities add up to 1. */
  const double off = fabs(sum - 1);
  tol += 2 * e * (sqrt((double)seen) + 8);
  *c->wrong = seen > 0 && !(off <= tol);
  return !*c->wrong ||
         bench_refuse(c->why,
                      "wrong: lse row %zu: %.9g, by which probabilities add up "
                      "to 1 %+.1e",
                      row, lse, sum - 1);
}

static bool check_query(checker *c, size_t row) {
  const bench_shape *s = c->problem->shape;
  const size_t head = row / (size_t)s->q_len, i = row % (size_t)s->q_len;
  const size_t kv = head / (size_t)(s->q_heads / s->kv_heads);
  const size_t seen = (size_t)bench_shape_seen(s, (int64_t)i);
  double total = 0, tol = 0;
  if (!read_head(c, head)) return false;
  for (size_t j = 0; j < seen; j++) {
    const place at = place_of(c, head, i, kv, j);
    const pair x = pair_at(c->problem, &at);
    sum_add(&c->q, x.ds, x.ds_tol, s->dtype, c->problem->k, at.k);
    total += x.p;
    tol += x.p_tol;
  }
  return check_lse(c, row, total, tol, (double)c->lse[i], seen) &&
         check_row(c, BENCH_D_Q, "d_q", &c->q, seen, row);
}

static bool check_key(checker *c, size_t row) {
  const bench_shape *s = c->problem->shape;
  const size_t kv = row / (size_t)s->kv_len, j = row % (size_t)s->kv_len;
  const size_t group = (size_t)(s->q_heads / s->kv_heads);
  for (size_t head = kv * group; head < (kv + 1) * group; head++) {
    if (!read_head(c, head)) return false;
    for (size_t i = 0; i < (size_t)s->q_len; i++) {
      if ((size_t)bench_shape_seen(s, (int64_t)i) <= j) continue;
      const place at = place_of(c, head, i, kv, j);
      const pair x = pair_at(c->problem, &at);
      sum_add(&c->k, x.ds, x.ds_tol, s->dtype, c->problem->q, at.q);
      sum_add(&c->v, x.p, x.p_tol, s->dtype, c->problem->d_out, at.d_out);
    }
  }
  const size_t terms = group * (size_t)s->q_len;
  return check_row(c, BENCH_D_K, "d_k", &c->k, terms, row) &&
         check_row(c, BENCH_D_V, "d_v", &c->v, terms, row);
}

bool bench_gradients_check(const bench_problem *problem, void *work,
                           bool *wrong, double *max_error, char *why) {
  const bench_shape *s = problem->shape;
  const size_t D = (size_t)s->qk_dim, Dv = (size_t)s->v_dim;
  const size_t n = (size_t)s->q_len;
  checker c = {.problem = problem,
               .work = work,
               .out = calloc(n, Dv * clattn_dtype_size(s->dtype)),
               .lse = calloc(n, sizeof(float)),
               .got = calloc(D > Dv ? D : Dv, sizeof(float)),
               .wrong = wrong,
               .max_error = max_error,
               .why = why};
  bool ok = sum_new(D, &c.q) && sum_new(D, &c.k) && sum_new(Dv, &c.v) &&
            c.out != NULL && c.lse != NULL && c.got != NULL;
  if (!ok) bench_refuse(why, "no memory: the oracle");
  size_t row[BENCH_ROWS];
  const int q = bench_choose_rows((size_t)(s->batch * s->q_heads) * n, row);
  *wrong = false;
  *max_error = 0;
  for (int i = 0; ok && i < q; i++) ok = check_query(&c, row[i]);
  const int k =
      bench_choose_rows((size_t)(s->batch * s->kv_heads * s->kv_len), row);
  for (int i = 0; ok && i < k; i++) ok = check_key(&c, row[i]);
  free(c.out);
  free(c.lse);
  free(c.got);
  free(c.q.want);
  free(c.k.want);
  free(c.v.want);
  return ok;
}
