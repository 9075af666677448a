/* oracle.c - see oracle.h. */
#include "oracle.h"

#include <math.h>
#include <stdlib.h>

#define EPS 0x1p-23
#define FLUSH 0x1p-63 /* an exp this far under its row's may be 0 */

const ora_type ora_f32 = {24, -149, 0x1.fffffep127};
const ora_type ora_f16 = {11, -24, 65504};
const ora_type ora_bf16 = {8, -133, 0x1.fep127};

/* The distance between neighbours of type at x. */
static double step_at(const ora_type *type, double x) {
  int e = 0;
  frexp(x, &e); /* |x| in [2^(e-1), 2^e) */
  return ldexp(
      1, e - type->bits > type->min_step ? e - type->bits : type->min_step);
}

double ora_round(const ora_type *type, double x) {
  if (!isfinite(x) || x == 0) return x;
  double step = step_at(type, x), y = nearbyint(x / step) * step;
  return fabs(y) > type->max ? copysign(INFINITY, x) : y;
}

double ora_rounding(const ora_type *type, double x) {
  return isfinite(x) ? 0.501 * step_at(type, x) : 0;
}

double ora_at(const ora_array *a, int64_t i, int64_t j, int64_t k, int64_t l) {
  int64_t at = a->n[0] == 1 ? 0 : i;
  at = at * a->n[1] + (a->n[1] == 1 ? 0 : j);
  at = at * a->n[2] + (a->n[2] == 1 ? 0 : k);
  at = at * a->n[3] + (a->n[3] == 1 ? 0 : l);
  return a->v[at];
}

static int64_t length_of(const ora_attention *a, int64_t b) {
  if (!a->lengths) return a->kv_len;
  if (a->lengths[b] < 0) return 0;
  return a->lengths[b] > a->kv_len ? a->kv_len : a->lengths[b];
}

static int64_t position_of(const ora_attention *a, int64_t b, int64_t i) {
  if (a->starts) return a->starts[b] + i;
  if (a->q_start != ORA_AT_END) return a->q_start + i;
  return length_of(a, b) - a->q_len + i;
}

bool ora_sees(const ora_attention *a, int64_t b, int64_t h, int64_t i,
              int64_t j) {
  int64_t p = position_of(a, b, i);
  if (j >= length_of(a, b)) return false;
  if (a->causal && j > p) return false;
  if (a->left >= 0 && j < p - a->left) return false;
  if (a->right >= 0 && j > p + a->right) return false;
  if (a->mask.v && (ora_at(&a->mask, b, h, i, j) != 0) == a->true_hides)
    return false;
  if (a->key_mask.v && (ora_at(&a->key_mask, b, 0, 0, j) != 0) == a->true_hides)
    return false;
  return !a->bias.v || ora_at(&a->bias, b, h, i, j) != -INFINITY;
}

static uint32_t mix(uint32_t x) { /* lowbias32 */
  x = (x ^ x >> 16) * 0x7feb352du;
  x = (x ^ x >> 15) * 0x846ca68bu;
  return x ^ x >> 16;
}

bool ora_keeps(const ora_attention *a, int64_t b, int64_t h, int64_t i,
               int64_t j) {
  const uint32_t word[6] = {
      (uint32_t)a->dropout_seed,
      (uint32_t)(a->dropout_seed >> 32),
      (uint32_t)a->dropout_offset,
      (uint32_t)(a->dropout_offset >> 32),
      (uint32_t)b,
      (uint32_t)h,
  };
  uint32_t key0 = 0, key1 = 0x85ebca6bu;
  for (int w = 0; w < 6; w++) {
    key0 = mix(key0 + word[w] + 0x9e3779b9u);
    key1 = mix(key1 + word[w] + 0x9e3779b9u);
  }
  uint32_t x = (uint32_t)j + mix((uint32_t)i + key0);
  x = (x ^ x >> 16) * 0x7feb352du;
  x ^= x >> 15;
  x = (x ^ mix((uint32_t)i ^ key1)) * 0x846ca68bu;
  x ^= x >> 16;
  return (double)x >= floor(a->dropout * 0x1p32);
}

static ora_key score(const ora_attention *a, int64_t b, int64_t h, int64_t i,
                     int64_t j) {
  ora_key s = {.seen = ora_sees(a, b, h, i, j), .factor = 1};
  if (a->dropout > 0)
    s.factor = ora_keeps(a, b, h, i, j) ? 1 / (1 - a->dropout) : 0;
  int64_t g = h / (a->q_heads / a->kv_heads);
  double dot = 0, size = 0;
  for (int64_t d = 0; d < a->qk_dim; d++) {
    double term = ora_at(&a->q, b, h, i, d) * ora_at(&a->k, b, g, j, d);
    dot += term;
    size += fabs(term);
  }
  s.raw = a->scale * dot;
  s.raw_tol = 2 * EPS * (sqrt((double)a->qk_dim) + 8) * fabs(a->scale) * size;
  s.capped = a->softcap > 0 ? a->softcap * tanh(s.raw / a->softcap) : s.raw;
  s.biased = s.capped;
  s.biased_tol = s.raw_tol + 2 * EPS * a->softcap;
  if (a->bias.v) {
    double bias = ora_at(&a->bias, b, h, i, j);
    s.biased += bias;
    s.biased_tol += 8 * EPS * (isfinite(bias) ? fabs(bias) : 0);
  }
  if (a->slopes.v) {
    double far = fabs((double)(position_of(a, b, i) - j));
    double alibi = ora_at(&a->slopes, 0, h, 0, 0) * far;
    s.biased -= alibi;
    s.biased_tol += 8 * EPS * fabs(alibi);
  }
  s.x = s.biased / a->temperature;
  s.e = s.biased_tol / a->temperature;
  if (!s.seen) s.biased = -INFINITY;
  return s;
}

ora_row ora_scores(const ora_attention *a, int64_t b, int64_t h, int64_t i,
                   ora_key *keys) {
  int64_t n = a->kv_len;
  double sink = a->sinks.v ? ora_at(&a->sinks, 0, h, 0, 0) : -INFINITY;
  double max = sink, sum; /* temperature leaves the sink alone */
  bool broken = false;
  ora_row row = {0};
  for (int64_t j = 0; j < n; j++) {
    keys[j] = score(a, b, h, i, j);
    if (!keys[j].seen) continue;
    row.alive = true;
    if (isnan(keys[j].x)) broken = true;
    if (keys[j].x > max) max = keys[j].x;
  }
  sum = sink > -INFINITY ? exp(sink - max) : 0;
  if (broken) max = NAN;
  for (int64_t j = 0; j < n; j++)
    if (keys[j].seen) sum += keys[j].p = exp(keys[j].x - max);
  for (int64_t j = 0; j < n; j++) {
    if (!keys[j].seen) continue;
    keys[j].p /= sum;
    row.e_mean += keys[j].p * keys[j].e;
  }
  if (sink > -INFINITY) {
    row.sink = exp(sink - max) / sum;
    row.e_mean += 8 * EPS * fabs(sink) * row.sink;
  }
  for (int64_t j = 0; j < n; j++)
    if (keys[j].seen)
      keys[j].p_tol =
          keys[j].p * expm1(fmin(keys[j].e + row.e_mean, 40)) + FLUSH;
  row.lse = broken ? NAN : sum > 0 ? max + log(sum) : -INFINITY;
  return row;
}

/* Row i of head h of batch b: keys [kv_len] is working memory. */
static void attend_row(const ora_attention *a, int64_t b, int64_t h, int64_t i,
                       ora_key *keys, ora_result *r) {
  int64_t row = (b * a->q_heads + h) * a->q_len + i, n = a->kv_len;
  int64_t g = h / (a->q_heads / a->kv_heads);
  const ora_row all = ora_scores(a, b, h, i, keys);
  const double lse = all.lse;
  r->lse[row] = lse;
  r->lse_tol[row] = isfinite(lse) ? all.e_mean + 8 * EPS * (1 + fabs(lse)) : 0;

  for (int64_t d = 0; d < a->v_dim; d++) {
    double out = 0, size = 0, tol = 0;
    for (int64_t j = 0; j < n; j++) {
      if (!keys[j].seen || keys[j].factor == 0) continue;
      double v = ora_at(&a->v, b, g, j, d) * keys[j].factor;
      out += keys[j].p * v;
      size += keys[j].p * fabs(v);
      tol += keys[j].p_tol * fabs(v);
    }
    r->out[row * a->v_dim + d] = out;
    r->out_tol[row * a->v_dim + d] = tol +
                                     2 * EPS * (sqrt((double)n) + 8) * size +
                                     ora_rounding(a->out_type, out);
  }

  int64_t heads = a->average ? 1 : a->q_heads;
  double share = a->average ? 1.0 / (double)a->q_heads : 1;
  int64_t w = ((b * heads + (a->average ? 0 : h)) * a->q_len + i) * n;
  for (int64_t j = 0; j < n; j++, w++) {
    const ora_key *s = &keys[j];
    double x = s->seen ? s->p * s->factor : 0;
    double tol = s->seen ? s->p_tol * s->factor : 0;
    if (a->stage == ORA_SCORES) x = s->raw, tol = s->raw_tol;
    if (a->stage == ORA_CAPPED)
      x = s->capped, tol = s->raw_tol + 2 * EPS * a->softcap;
    if (a->stage == ORA_BIASED)
      x = s->biased, tol = s->seen ? s->biased_tol : 0;
    r->weights[w] += share * x;
    r->weights_tol[w] += share * (tol + 4 * EPS * (isfinite(x) ? fabs(x) : 0));
  }
}

ora_result ora_attend(const ora_attention *a) {
  size_t rows = (size_t)(a->batch * a->q_heads * a->q_len);
  size_t n_out = rows * (size_t)a->v_dim, n_w = rows * (size_t)a->kv_len;
  ora_result r = {
      .out = calloc(n_out, sizeof(double)),
      .out_tol = calloc(n_out, sizeof(double)),
      .lse = calloc(rows, sizeof(double)),
      .lse_tol = calloc(rows, sizeof(double)),
      .weights = calloc(n_w, sizeof(double)),
      .weights_tol = calloc(n_w, sizeof(double)),
  };
  ora_key *keys = calloc((size_t)a->kv_len, sizeof *keys);
  if (!keys || !r.out || !r.out_tol || !r.lse || !r.lse_tol || !r.weights ||
      !r.weights_tol)
    abort();
  for (int64_t b = 0; b < a->batch; b++)
    for (int64_t h = 0; h < a->q_heads; h++)
      for (int64_t i = 0; i < a->q_len; i++) attend_row(a, b, h, i, keys, &r);
  for (size_t i = 0; i < n_w; i++)
    r.weights_tol[i] += ora_rounding(a->weights_type, r.weights[i]);
  free(keys);
  return r;
}

void ora_result_free(ora_result *r) {
  free(r->out), free(r->out_tol);
  free(r->lse), free(r->lse_tol);
  free(r->weights), free(r->weights_tol);
  *r = (ora_result){0};
}

void ora_linear(int64_t m, int64_t n, int64_t k, const double *x,
                const double *w, const double *bias, double *y, double *tol) {
  for (int64_t i = 0; i < m; i++)
    for (int64_t j = 0; j < n; j++) {
      double sum = bias ? bias[j] : 0, size = fabs(sum);
      for (int64_t l = 0; l < k; l++) {
        double term = x[i * k + l] * w[j * k + l];
        sum += term;
        size += fabs(term);
      }
      y[i * n + j] = sum;
      if (tol) tol[i * n + j] = 2 * EPS * (sqrt((double)k) + 4) * size;
    }
}

void ora_rotary(int64_t d, int64_t r, bool interleaved, const double *x,
                const double *cos, const double *sin, double *y, double *tol) {
  for (int64_t i = 0; i < d; i++) y[i] = x[i], tol[i] = 0;
  for (int64_t k = 0; k < r / 2; k++) {
    int64_t i1 = interleaved ? 2 * k : k;
    int64_t i2 = interleaved ? 2 * k + 1 : k + r / 2;
    y[i1] = cos[k] * x[i1] - sin[k] * x[i2];
    y[i2] = sin[k] * x[i1] + cos[k] * x[i2];
    tol[i1] = 2 * EPS * (fabs(cos[k] * x[i1]) + fabs(sin[k] * x[i2]));
    tol[i2] = 2 * EPS * (fabs(sin[k] * x[i1]) + fabs(cos[k] * x[i2]));
  }
}

void ora_turn_heads(const ora_turns *t, const int64_t *table_rows,
                    int64_t batch, int64_t heads, int64_t rows, int64_t d,
                    double *x, bool back) {
  const int64_t n = t->r / 2;
  double *sines = malloc((size_t)n * sizeof(double));
  double *y = malloc((size_t)d * sizeof(double));
  double *tol = malloc((size_t)d * sizeof(double));
  if (!sines || !y || !tol) abort();
  for (int64_t i = 0; i < batch * heads * rows; i++) {
    const int64_t row = table_rows[i / rows / heads * rows + i % rows];
    for (int64_t k = 0; k < n; k++)
      sines[k] = back ? -t->sin[row * n + k] : t->sin[row * n + k];
    ora_rotary(d, t->r, t->interleaved, x + i * d, t->cos + row * n, sines, y,
               tol);
    for (int64_t k = 0; k < d; k++) x[i * d + k] = y[k];
  }
  free(sines), free(y), free(tol);
}

/* x [B,rows,heads*dim] as [B,heads,rows,dim]. */
static double *split_heads(const double *x, int64_t batch, int64_t rows,
                           int64_t heads, int64_t dim) {
  double *y = malloc((size_t)(batch * rows * heads * dim) * sizeof(double));
  if (!y) abort();
  for (int64_t b = 0; b < batch; b++)
    for (int64_t s = 0; s < rows; s++)
      for (int64_t h = 0; h < heads; h++)
        for (int64_t d = 0; d < dim; d++)
          y[((b * heads + h) * rows + s) * dim + d] =
              x[((b * rows + s) * heads + h) * dim + d];
  return y;
}

/* split_heads(x W^T + bias): x [B,rows,in], w [heads*dim,in]. */
static double *project(const double *x, const double *w, const double *bias,
                       int64_t batch, int64_t rows, int64_t in, int64_t heads,
                       int64_t dim) {
  double *y = malloc((size_t)(batch * rows * heads * dim) * sizeof(double));
  if (!y) abort();
  ora_linear(batch * rows, heads * dim, in, x, w, bias, y, NULL);
  double *split = split_heads(y, batch, rows, heads, dim);
  free(y);
  return split;
}

double *ora_layer(const ora_mha *m, double **weights) {
  ora_attention a = m->core;
  a.qk_dim = a.v_dim = m->head_dim;
  double *q = project(m->query, m->wq, m->bq, a.batch, a.q_len, m->embed,
                      a.q_heads, a.qk_dim);
  double *k = project(m->key, m->wk, m->bk, a.batch, a.kv_len, m->kdim,
                      a.kv_heads, a.qk_dim);
  double *v = project(m->value, m->wv, m->bv, a.batch, a.kv_len, m->vdim,
                      a.kv_heads, a.v_dim);
  if (m->turns) {
    ora_turn_heads(m->turns, m->turns->q_rows, a.batch, a.q_heads, a.q_len,
                   a.qk_dim, q, false);
    ora_turn_heads(m->turns, m->turns->k_rows, a.batch, a.kv_heads, a.kv_len,
                   a.qk_dim, k, false);
  }
  a.q = (ora_array){q, {a.batch, a.q_heads, a.q_len, a.qk_dim}};
  a.k = (ora_array){k, {a.batch, a.kv_heads, a.kv_len, a.qk_dim}};
  a.v = (ora_array){v, {a.batch, a.kv_heads, a.kv_len, a.v_dim}};
  ora_result r = ora_attend(&a);
  /* joining heads is splitting with rows and heads exchanged */
  double *joined = split_heads(r.out, a.batch, a.q_heads, a.q_len, a.v_dim);
  double *y = malloc((size_t)(a.batch * a.q_len * m->out_dim) * sizeof(double));
  if (!y) abort();
  ora_linear(a.batch * a.q_len, m->out_dim, a.q_heads * a.v_dim, joined, m->wo,
             m->bo, y, NULL);
  if (weights) *weights = r.weights, r.weights = NULL;
  ora_result_free(&r);
  free(joined), free(q), free(k), free(v);
  return y;
}
