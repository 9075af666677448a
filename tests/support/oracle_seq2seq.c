/* oracle_seq2seq.c - see oracle_seq2seq.h. */
#include "oracle_seq2seq.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "oracle_nn.h"

static double *room(int64_t n) {
  double *values = calloc((size_t)n, sizeof *values);
  if (values == NULL) abort();
  return values;
}

/* "encoder.", 2, "ln_1.weight": encoder.h.2.ln_1.weight; layer < 0: no "h.2." */
static const double *find(const os2s_model *m, const char *stack, int64_t layer,
                          const char *part) {
  char name[96];
  if (layer < 0)
    snprintf(name, sizeof name, "%s%s", stack, part);
  else
    snprintf(name, sizeof name, "%sh.%d.%s", stack, (int)layer, part);
  for (size_t i = 0; i < m->count; i++)
    if (strcmp(m->tensors[i].name, name) == 0) return m->tensors[i].values;
  fprintf(stderr, "the model has no tensor %s\n", name);
  abort();
}

static const double *find2(const os2s_model *m, const char *stack,
                           int64_t layer, const char *part, const char *end) {
  char name[64];
  snprintf(name, sizeof name, "%s%s", part, end);
  return find(m, stack, layer, name);
}

/* out [n,rows] = x [n,cols] W^T + b */
static void linear(int64_t n, int64_t rows, int64_t cols, const double *x,
                   const double *w, const double *b, double *out) {
  for (int64_t i = 0; i < n; i++)
    for (int64_t r = 0; r < rows; r++) {
      double sum = b == NULL ? 0 : b[r];
      for (int64_t c = 0; c < cols; c++)
        sum += x[i * cols + c] * w[r * cols + c];
      out[i * rows + r] = sum;
    }
}

static void norm(const os2s_model *m, const char *stack, int64_t layer,
                 const char *part, int64_t n, const double *x, double *out) {
  double *mean = room(n), *rstd = room(n);
  onn_layer_norm(n, m->E, x, find2(m, stack, layer, part, ".weight"),
                 find2(m, stack, layer, part, ".bias"), 1e-5, out, mean, rstd);
  free(mean);
  free(rstd);
}

/* out [n,E] of queries from x [n,E] and keys from y [k,E]; weights [H,n,k] or
 * NULL. */
static void attention(const os2s_model *m, const char *stack, int64_t layer,
                      const char *part, int64_t n, const double *x, int64_t k,
                      const double *y, bool causal, double *out,
                      double *weights) {
  const int64_t E = m->E, d = E / m->H;
  const double *w = find2(m, stack, layer, part, ".c_attn.weight");
  const double *b = find2(m, stack, layer, part, ".c_attn.bias");
  double *q = room(n * E), *keys = room(k * E), *values = room(k * E);
  double *joined = room(n * E), *p = room(k);
  linear(n, E, E, x, w, b, q);
  linear(k, E, E, y, w + E * E, b + E, keys);
  linear(k, E, E, y, w + 2 * E * E, b + 2 * E, values);
  for (int64_t h = 0; h < m->H; h++)
    for (int64_t i = 0; i < n; i++) {
      const int64_t seen = causal ? i + 1 : k;
      double sum = 0;
      for (int64_t j = 0; j < seen; j++) {
        double score = 0;
        for (int64_t c = h * d; c < (h + 1) * d; c++)
          score += q[i * E + c] * keys[j * E + c];
        p[j] = exp(score / sqrt((double)d));
        sum += p[j];
      }
      for (int64_t j = 0; j < seen; j++) {
        if (weights != NULL) weights[(h * n + i) * k + j] = p[j] / sum;
        for (int64_t c = h * d; c < (h + 1) * d; c++)
          joined[i * E + c] += p[j] / sum * values[j * E + c];
      }
    }
  linear(n, E, E, joined, find2(m, stack, layer, part, ".c_proj.weight"),
         find2(m, stack, layer, part, ".c_proj.bias"), out);
  double *const all[] = {q, keys, values, joined, p};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

static void embed(const os2s_model *m, const int32_t *ids, int64_t n,
                  double *x) {
  const double *wte = find(m, "", -1, "wte.weight");
  for (int64_t i = 0; i < n; i++)
    for (int64_t c = 0; c < m->E; c++) {
      const double at =
          (double)i / pow(10000, (double)(c / 2 * 2) / (double)m->E);
      x[i * m->E + c] = wte[ids[i] * m->E + c] +
                        (c % 2 ? cos(at) : sin(at)) / sqrt((double)m->E);
    }
}

/* x [n,E] through a stack; memory [S,E], or NULL for the encoder. */
static void layers(const os2s_model *m, const char *stack, int64_t n, double *x,
                   int64_t S, const double *memory, int64_t look,
                   double *weights) {
  const int64_t E = m->E;
  double *a = room(n * E), *out = room(n * E), *wide = room(n * 4 * E);
  for (int64_t l = 0; l < m->L; l++) {
    norm(m, stack, l, "ln_1", n, x, a);
    attention(m, stack, l, "attn", n, a, n, a, memory != NULL, out, NULL);
    for (int64_t i = 0; i < n * E; i++) x[i] += out[i];
    if (memory != NULL) {
      norm(m, stack, l, "ln_x", n, x, a);
      attention(m, stack, l, "cross", n, a, S, memory, false, out,
                l == look ? weights : NULL);
      for (int64_t i = 0; i < n * E; i++) x[i] += out[i];
    }
    norm(m, stack, l, "ln_2", n, x, a);
    linear(n, 4 * E, E, a, find(m, stack, l, "mlp.c_fc.weight"),
           find(m, stack, l, "mlp.c_fc.bias"), wide);
    for (int64_t i = 0; i < n * 4 * E; i++) wide[i] = onn_gelu(true, wide[i]);
    linear(n, E, 4 * E, wide, find(m, stack, l, "mlp.c_proj.weight"),
           find(m, stack, l, "mlp.c_proj.bias"), out);
    for (int64_t i = 0; i < n * E; i++) x[i] += out[i];
  }
  norm(m, stack, -1, "ln_f", n, x, out);
  memcpy(x, out, (size_t)(n * E) * sizeof *x);
  free(a);
  free(out);
  free(wide);
}

void os2s_log_probs(const os2s_model *m, const int32_t *source, int64_t S,
                    const int32_t *target, int64_t T, double *log_probs,
                    int64_t look, double *weights) {
  const int64_t n = T + 1;
  int32_t *ids = calloc((size_t)n, sizeof *ids);
  if (ids == NULL) abort();
  ids[0] = m->begin;
  for (int64_t i = 0; i < T; i++) ids[i + 1] = target[i];
  double *memory = room(S * m->E), *y = room(n * m->E);
  embed(m, source, S, memory);
  layers(m, "encoder.", S, memory, 0, NULL, -1, NULL);
  embed(m, ids, n, y);
  layers(m, "decoder.", n, y, S, memory, look, weights);
  linear(n, m->V, m->E, y, find(m, "", -1, "wte.weight"), NULL, log_probs);
  for (int64_t i = 0; i < n; i++) {
    double sum = 0;
    for (int64_t v = 0; v < m->V; v++) sum += exp(log_probs[i * m->V + v]);
    for (int64_t v = 0; v < m->V; v++) log_probs[i * m->V + v] -= log(sum);
  }
  free(ids);
  free(memory);
  free(y);
}

double os2s_loss(const os2s_model *m, const int32_t *source, int64_t S,
                 const int32_t *target, int64_t T) {
  double *log_probs = room((T + 1) * m->V), loss = 0;
  os2s_log_probs(m, source, S, target, T, log_probs, -1, NULL);
  for (int64_t i = 0; i <= T; i++)
    loss -= log_probs[i * m->V + (i < T ? target[i] : m->end)];
  free(log_probs);
  return loss;
}
