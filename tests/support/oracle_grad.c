/* oracle_grad.c - see oracle_grad.h. */
#include "oracle_grad.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define EPS 0x1p-23
#define FLUSH 0x1p-63

static double *zeros(int64_t n) {
  double *x = calloc((size_t)n, sizeof *x);
  if (!x) abort();
  return x;
}

static ora_grad like(const ora_array *a) {
  if (!a->v) return (ora_grad){0};
  int64_t n = a->n[0] * a->n[1] * a->n[2] * a->n[3];
  return (ora_grad){zeros(n), zeros(n), n};
}

static void release(ora_grad *g) {
  free(g->v), free(g->tol);
  *g = (ora_grad){0};
}

void ora_grads_free(ora_grads *g) {
  release(&g->q), release(&g->k), release(&g->v);
  release(&g->bias), release(&g->sinks);
}

/* Where element [i,j,k,l] of what a broadcasts to comes from. */
static int64_t source(const ora_array *a, int64_t i, int64_t j, int64_t k,
                      int64_t l) {
  const int64_t at[4] = {i, j, k, l};
  int64_t index = 0;
  for (int d = 0; d < 4; d++)
    index = index * a->n[d] + (a->n[d] == 1 ? 0 : at[d]);
  return index;
}

/* One more of n terms of a sum: x, off by tol. */
static void add(ora_grad *g, int64_t at, double x, double tol, double n) {
  g->v[at] += x;
  g->tol[at] += tol + 2 * EPS * (sqrt(n) + 8) * fabs(x);
}

/* One row's sums over d: D, with its error. */
typedef struct row_sum {
  double v, tol;
} row_sum;

static row_sum row_dot(const ora_attention *a, const ora_result *r,
                       const double *d_out, int64_t row) {
  row_sum s = {0};
  for (int64_t d = 0; d < a->v_dim; d++) {
    double dy = d_out[row * a->v_dim + d],
           term = dy * r->out[row * a->v_dim + d];
    s.v += term;
    s.tol += fabs(dy) * r->out_tol[row * a->v_dim + d] +
             2 * EPS * (sqrt((double)a->v_dim) + 8) * fabs(term);
  }
  return s;
}

/* The derivative of capped by raw, and its error. */
static row_sum cap_slope(const ora_attention *a, const ora_key *key) {
  if (a->softcap <= 0) return (row_sum){1, 0};
  double t = key->capped / a->softcap, y = key->raw_tol / a->softcap;
  double slope = 1 - t * t;
  return (row_sum){slope, 2 * fabs(t) * slope * y + y * y + 8 * EPS};
}

static void backward_key(const ora_attention *a, int64_t b, int64_t h,
                         int64_t i, int64_t j, const ora_key *key,
                         const ora_row *row, row_sum D, const double *dy,
                         ora_grads *g) {
  int64_t group = a->q_heads / a->kv_heads, kh = h / group;
  double rows = (double)(group * a->q_len), n = (double)a->kv_len;
  double off =
      key->e + row->e_mean + 8 * EPS * (1 + fabs(row->lse) + fabs(key->x));
  double p = key->p, p_tol = p * expm1(fmin(off, 40)) + FLUSH;

  double G = 0, G_size = 0; /* gradient of P */
  for (int64_t d = 0; d < a->v_dim && key->factor > 0; d++) {
    double term = key->factor * dy[d] * ora_at(&a->v, b, kh, j, d);
    G += term;
    G_size += fabs(term);
    add(&g->v, source(&a->v, b, kh, j, d), key->factor * p * dy[d],
        key->factor * p_tol * fabs(dy[d]), rows);
  }
  double G_tol = 2 * EPS * (sqrt((double)a->v_dim) + 8) * G_size;

  double dS = p * (G - D.v) / a->temperature;
  double dS_tol = (p_tol * fabs(G - D.v) + (p + p_tol) * (G_tol + D.tol) +
                   4 * EPS * p * (fabs(G) + fabs(D.v))) /
                  a->temperature;
  if (g->bias.v) {
    double repeats = 1;
    const int64_t full[4] = {a->batch, a->q_heads, a->q_len, a->kv_len};
    for (int d = 0; d < 4; d++)
      if (a->bias.n[d] == 1) repeats *= (double)full[d];
    add(&g->bias, source(&a->bias, b, h, i, j), dS, dS_tol, repeats);
  }

  row_sum cap = cap_slope(a, key);
  double dX = dS * cap.v * a->scale;
  double dX_tol =
      fabs(a->scale) * ((fabs(dS) + dS_tol) * cap.tol + dS_tol * cap.v +
                        4 * EPS * fabs(dS) * cap.v);
  for (int64_t d = 0; d < a->qk_dim; d++) {
    double q = ora_at(&a->q, b, h, i, d), k = ora_at(&a->k, b, kh, j, d);
    add(&g->q, source(&a->q, b, h, i, d), dX * k, dX_tol * fabs(k), n);
    add(&g->k, source(&a->k, b, kh, j, d), dX * q, dX_tol * fabs(q), rows);
  }
}

ora_grads ora_backward(const ora_attention *a, const double *d_out) {
  ora_result r = ora_attend(a);
  ora_grads g = {like(&a->q), like(&a->k), like(&a->v), like(&a->bias),
                 like(&a->sinks)};
  ora_key *keys = calloc((size_t)a->kv_len, sizeof *keys);
  if (!keys) abort();
  for (int64_t b = 0; b < a->batch; b++)
    for (int64_t h = 0; h < a->q_heads; h++)
      for (int64_t i = 0; i < a->q_len; i++) {
        int64_t at = (b * a->q_heads + h) * a->q_len + i;
        ora_row row = ora_scores(a, b, h, i, keys);
        if (!row.alive) continue; /* nothing depends on anything */
        row_sum D = row_dot(a, &r, d_out, at);
        for (int64_t j = 0; j < a->kv_len; j++)
          if (keys[j].seen)
            backward_key(a, b, h, i, j, &keys[j], &row, D,
                         d_out + at * a->v_dim, &g);
        if (!g.sinks.v || row.sink == 0) continue;
        double sink = ora_at(&a->sinks, 0, h, 0, 0);
        double off = row.e_mean + 8 * EPS * (1 + fabs(row.lse) + fabs(sink));
        double p_tol = row.sink * expm1(fmin(off, 40)) + FLUSH;
        add(&g.sinks, h, -row.sink * D.v,
            p_tol * fabs(D.v) + (row.sink + p_tol) * D.tol,
            (double)(a->batch * a->q_len));
      }
  free(keys);
  ora_result_free(&r);
  return g;
}

/* ---- dense product ------------------------------------------------------- */

static ora_grad empty_grad(int64_t n) {
  return (ora_grad){zeros(n), zeros(n), n};
}

ora_linear_grads ora_linear_backward(int64_t m, int64_t n, int64_t k,
                                     const double *x, const double *w,
                                     const double *dy) {
  ora_linear_grads g = {empty_grad(m * k), empty_grad(n * k), empty_grad(n)};
  for (int64_t i = 0; i < m; i++)
    for (int64_t j = 0; j < n; j++) {
      double d = dy[i * n + j];
      add(&g.bias, j, d, 0, (double)m);
      for (int64_t l = 0; l < k; l++) {
        add(&g.x, i * k + l, d * w[j * k + l], 0, (double)n);
        add(&g.w, j * k + l, d * x[i * k + l], 0, (double)m);
      }
    }
  return g;
}

void ora_linear_grads_free(ora_linear_grads *g) {
  release(&g->x), release(&g->w), release(&g->bias);
}

/* ---- the layer ----------------------------------------------------------- */

/* [batch,rows,heads*dim] as [batch,heads,rows,dim], and back with rows and
 * heads exchanged. */
static double *swapped(const double *x, int64_t batch, int64_t rows,
                       int64_t heads, int64_t dim) {
  double *y = zeros(batch * rows * heads * dim);
  for (int64_t b = 0; b < batch; b++)
    for (int64_t s = 0; s < rows; s++)
      for (int64_t h = 0; h < heads; h++)
        memcpy(y + ((b * heads + h) * rows + s) * dim,
               x + ((b * rows + s) * heads + h) * dim, (size_t)dim * sizeof *y);
  return y;
}

static double *projected(const double *x, const double *w, const double *bias,
                         int64_t batch, int64_t rows, int64_t in, int64_t heads,
                         int64_t dim) {
  double *y = zeros(batch * rows * heads * dim);
  ora_linear(batch * rows, heads * dim, in, x, w, bias, y, NULL);
  double *split = swapped(y, batch, rows, heads, dim);
  free(y);
  return split;
}

/* From the gradient of the heads to those of what they are projected from. */
static void unproject(const double *d_heads, const double *x, const double *w,
                      int64_t batch, int64_t rows, int64_t in, int64_t heads,
                      int64_t dim, double **dx, double **dw, double **db) {
  double *dy = swapped(d_heads, batch, heads, rows, dim);
  ora_linear_grads g =
      ora_linear_backward(batch * rows, heads * dim, in, x, w, dy);
  *dx = g.x.v, *dw = g.w.v, *db = g.bias.v;
  free(g.x.tol), free(g.w.tol), free(g.bias.tol);
  free(dy);
}

ora_layer_grads ora_layer_backward(const ora_mha *m, const double *d_output) {
  ora_layer_grads g = {0};
  ora_attention a = m->core;
  a.qk_dim = a.v_dim = m->head_dim;
  double *q = projected(m->query, m->wq, m->bq, a.batch, a.q_len, m->embed,
                        a.q_heads, a.qk_dim);
  double *k = projected(m->key, m->wk, m->bk, a.batch, a.kv_len, m->kdim,
                        a.kv_heads, a.qk_dim);
  double *v = projected(m->value, m->wv, m->bv, a.batch, a.kv_len, m->vdim,
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
  double *joined = swapped(r.out, a.batch, a.q_heads, a.q_len, a.v_dim);
  double *d_joined;
  ora_linear_grads o =
      ora_linear_backward(a.batch * a.q_len, m->out_dim, a.q_heads * a.v_dim,
                          joined, m->wo, d_output);
  d_joined = o.x.v, g.wo = o.w.v, g.bo = o.bias.v;
  free(o.x.tol), free(o.w.tol), free(o.bias.tol);
  double *d_heads = swapped(d_joined, a.batch, a.q_len, a.q_heads, a.v_dim);
  g.core = ora_backward(&a, d_heads);
  if (m->turns) {
    ora_turn_heads(m->turns, m->turns->q_rows, a.batch, a.q_heads, a.q_len,
                   a.qk_dim, g.core.q.v, true);
    ora_turn_heads(m->turns, m->turns->k_rows, a.batch, a.kv_heads, a.kv_len,
                   a.qk_dim, g.core.k.v, true);
  }
  unproject(g.core.q.v, m->query, m->wq, a.batch, a.q_len, m->embed, a.q_heads,
            a.qk_dim, &g.query, &g.wq, &g.bq);
  unproject(g.core.k.v, m->key, m->wk, a.batch, a.kv_len, m->kdim, a.kv_heads,
            a.qk_dim, &g.key, &g.wk, &g.bk);
  unproject(g.core.v.v, m->value, m->wv, a.batch, a.kv_len, m->vdim, a.kv_heads,
            a.v_dim, &g.value, &g.wv, &g.bv);
  ora_result_free(&r);
  free(joined), free(d_joined), free(d_heads), free(q), free(k), free(v);
  return g;
}

void ora_layer_grads_free(ora_layer_grads *g) {
  free(g->query), free(g->key), free(g->value);
  free(g->wq), free(g->wk), free(g->wv), free(g->wo);
  free(g->bq), free(g->bk), free(g->bv), free(g->bo);
  ora_grads_free(&g->core);
  *g = (ora_layer_grads){0};
}
