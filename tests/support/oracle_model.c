/* oracle_model.c - see oracle_model.h. */
#include "oracle_model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static double *zeros(size_t n) { return calloc(n, sizeof(double)); }

/* y[n,out] = x[n,in] W^T + b */
static double *linear(const double *x, int n, int in, int out,
                      const ora_module *m) {
  double *y = zeros((size_t)n * (size_t)out);
  for (int i = 0; i < n; i++)
    for (int o = 0; o < out; o++) {
      double sum = m->b == NULL ? 0 : m->b[o];
      for (int e = 0; e < in; e++) sum += x[i * in + e] * m->w[o * in + e];
      y[i * out + o] = sum;
    }
  return y;
}

/* With a bias the mean is taken away; Llama's norm has neither. */
static double *norm(const ora_model *m, const double *x, int n,
                    const ora_module *p) {
  const int E = m->embed;
  double *y = zeros((size_t)n * (size_t)E);
  for (int i = 0; i < n; i++) {
    double mean = 0, square = 0;
    for (int e = 0; e < E && m->family != ORA_LLAMA; e++)
      mean += x[i * E + e] / E;
    for (int e = 0; e < E; e++) square += pow(x[i * E + e] - mean, 2) / E;
    for (int e = 0; e < E; e++)
      y[i * E + e] = (x[i * E + e] - mean) / sqrt(square + m->eps) * p->w[e] +
                     (p->b == NULL ? 0 : p->b[e]);
  }
  return y;
}

/* Columns k and k + D/2 of each head turn by p base^(-2k/D). */
static void rotate(const ora_model *m, double *x, int n, int heads) {
  const int D = m->head_dim;
  if (m->rotary_base == 0) return;
  for (int p = 0; p < n; p++)
    for (int h = 0; h < heads; h++)
      for (int k = 0; k < D / 2; k++) {
        const double slow = m->rotary_factor > 0 ? m->rotary_factor : 1;
        const double angle = p / slow * pow(m->rotary_base, -2.0 * k / D);
        double *a = x + (p * heads + h) * D + k, *b = a + D / 2;
        const double x1 = *a, x2 = *b;
        *a = cos(angle) * x1 - sin(angle) * x2;
        *b = sin(angle) * x1 + cos(angle) * x2;
      }
}

/* weights [heads,n,n] are an output as well. */
static double *attend(const ora_model *m, const ora_block *block,
                      const double *x, int n, double *weights) {
  const int E = m->embed, D = m->head_dim, H = m->heads, G = m->kv_heads;
  double *q = linear(x, n, E, H * D, &block->q);
  double *k = linear(x, n, E, G * D, &block->k);
  double *v = linear(x, n, E, G * D, &block->v);
  double *joined = zeros((size_t)n * (size_t)(H * D));
  rotate(m, q, n, H);
  rotate(m, k, n, G);
  for (int h = 0; h < H; h++)
    for (int i = 0; i < n; i++) {
      const int g = h / (H / G), keys = m->family == ORA_BERT ? n : i + 1;
      const int first = m->window > 0 && i >= m->window ? i + 1 - m->window : 0;
      double *p = weights + (h * n + i) * n, sum = 0, top = -INFINITY;
      for (int j = first; j < keys; j++) {
        p[j] = 0;
        for (int d = 0; d < D; d++)
          p[j] += q[(i * H + h) * D + d] * k[(j * G + g) * D + d] / sqrt(D);
        top = fmax(top, p[j]);
      }
      for (int j = first; j < keys; j++) sum += p[j] = exp(p[j] - top);
      for (int j = first; j < keys; j++) {
        p[j] /= sum;
        for (int d = 0; d < D; d++)
          joined[(i * H + h) * D + d] += p[j] * v[(j * G + g) * D + d];
      }
    }
  double *y = linear(joined, n, H * D, E, &block->o);
  free(q);
  free(k);
  free(v);
  free(joined);
  return y;
}

static double gelu(const ora_model *m, double x) {
  if (!m->tanh_gelu) return x / 2 * (1 + erf(x / sqrt(2)));
  return x / 2 * (1 + tanh(sqrt(2 / acos(-1)) * (x + 0.044715 * x * x * x)));
}

static double *mlp(const ora_model *m, const ora_block *block, const double *x,
                   int n) {
  const int E = m->embed, F = m->hidden;
  double *up = linear(x, n, E, F, &block->up);
  if (m->family == ORA_LLAMA) {
    double *gate = linear(x, n, E, F, &block->gate);
    for (int i = 0; i < n * F; i++) up[i] *= gate[i] / (1 + exp(-gate[i]));
    free(gate);
  } else {
    for (int i = 0; i < n * F; i++) up[i] = gelu(m, up[i]);
  }
  double *y = linear(up, n, F, E, &block->down);
  free(up);
  return y;
}

/* x += y, which is freed. */
static void add(double *x, double *y, int count) {
  for (int i = 0; i < count; i++) x[i] += y[i];
  free(y);
}

static void replace(double *x, double *y, int count) {
  memcpy(x, y, (size_t)count * sizeof *x);
  free(y);
}

static void layer(const ora_model *m, const ora_block *block, double *x, int n,
                  double *weights) {
  const int count = n * m->embed;
  if (m->family == ORA_BERT) {
    add(x, attend(m, block, x, n, weights), count);
    replace(x, norm(m, x, n, &block->norm1), count);
    add(x, mlp(m, block, x, n), count);
    replace(x, norm(m, x, n, &block->norm2), count);
    return;
  }
  double *before = norm(m, x, n, &block->norm1);
  add(x, attend(m, block, before, n, weights), count);
  free(before);
  before = norm(m, x, n, &block->norm2);
  add(x, mlp(m, block, before, n), count);
  free(before);
}

ora_model_run ora_model_forward(const ora_model *m, const int32_t *ids,
                                const int32_t *types, int n) {
  const int E = m->embed, count = n * E, square = m->heads * n * n;
  ora_model_run run = {.hidden = zeros((size_t)(m->layers + 1) * (size_t)count),
                       .attention = zeros((size_t)m->layers * (size_t)square)};
  double *x = zeros((size_t)count);
  for (int i = 0; i < count; i++) {
    const int t = i / E, e = i % E;
    x[i] = m->tokens[ids[t] * E + e];
    if (m->place != NULL) x[i] += m->place[t * E + e];
    if (m->type != NULL)
      x[i] += m->type[(types == NULL ? 0 : types[t]) * E + e];
  }
  if (m->family == ORA_BERT) replace(x, norm(m, x, n, &m->embed_norm), count);
  memcpy(run.hidden, x, (size_t)count * sizeof *x);
  for (int l = 0; l < m->layers; l++) {
    layer(m, &m->block[l], x, n, run.attention + l * square);
    memcpy(run.hidden + (l + 1) * count, x, (size_t)count * sizeof *x);
  }
  if (m->family == ORA_BERT) {
    run.last = x;
  } else {
    run.last = norm(m, x, n, &m->last_norm);
    free(x);
    run.logits = linear(run.last, n, E, m->vocab, &(ora_module){m->head, NULL});
  }
  if (m->pooler.w != NULL) {
    run.pooled = linear(run.last, 1, E, E, &m->pooler);
    for (int e = 0; e < E; e++) run.pooled[e] = tanh(run.pooled[e]);
  }
  return run;
}

void ora_model_run_free(ora_model_run *run) {
  free(run->hidden);
  free(run->last);
  free(run->attention);
  free(run->logits);
  free(run->pooled);
  *run = (ora_model_run){0};
}
