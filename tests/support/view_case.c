/* view_case.c - attention whose every weight is known.
 *
 * The score of a key is the product of a query and a key that a rule gives, so
 * that the same weights can be in the file as they are, as query and key, as the
 * largest of each row, or as means over blocks. */
#define _POSIX_C_SOURCE 200809L
#include "clattn_attention.h"
#include "view_case.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness.h"

enum { DIM = 2 };

static double number(int64_t a, int64_t b, int64_t c, int64_t d) {
  th_rng rng = {.state = (uint64_t)(a * 7919 + b * 104729 + c * 31 + d + 1)};
  th_next(&rng);
  return th_uniform(&rng, -2, 2);
}

static float query_at(int64_t layer, int64_t head, int64_t row, int d) {
  return (float)number(layer, head, row, d);
}

static float key_at(int64_t layer, int64_t head, int64_t key, int d) {
  return (float)number(layer + 50, head, key, d);
}

static int64_t keys_of(const view_case *c) { return c->m > 0 ? c->m : c->n; }

bool view_case_sees(const view_case *c, int64_t row, int64_t key) {
  const int64_t own = row + keys_of(c) - c->n;
  if (c->kind == CLATTN_ATTENTION_DECODER && key > own) return false;
  return c->window == 0 || key > own - c->window;
}

static double score(int64_t layer, int64_t head, int64_t row, int64_t key) {
  double sum = 0;
  for (int d = 0; d < DIM; d++)
    sum += (double)query_at(layer, head, row, d) *
           (double)key_at(layer, head, key, d);
  return sum;
}

double view_case_weight(const view_case *c, int64_t layer, int64_t head,
                        int64_t row, int64_t key) {
  if (!view_case_sees(c, row, key)) return 0;
  double sum = 0;
  for (int64_t j = 0; j < keys_of(c); j++)
    if (view_case_sees(c, row, j))
      sum += exp(score(layer, head, row, j) - score(layer, head, row, key));
  return 1 / sum;
}

/* ---- tensors of a layer ------------------------------------------------------- */

typedef struct source {
  const view_case *c;
  double *weights; /* [heads, n, m] of `layer` */
  int64_t layer;   /* -1: none yet */
} source;

static void fill_weights(source *s, int64_t layer) {
  const view_case *c = s->c;
  const int64_t n = c->n, m = keys_of(c);
  if (s->layer == layer) return;
  s->layer = layer;
  for (int64_t h = 0; h < c->heads; h++)
    for (int64_t i = 0; i < n; i++) {
      double *row = s->weights + (h * n + i) * m, sum = 0;
      for (int64_t j = 0; j < m; j++)
        sum += row[j] =
            view_case_sees(c, i, j) ? exp(score(layer, h, i, j)) : 0;
      for (int64_t j = 0; j < m; j++) row[j] /= sum;
    }
  if (layer == 0 && c->bad != 0) s->weights[0] = (double)c->bad;
}

/* The t-th largest key of each row. */
static void fill_top(const source *s, bool keys, void *values) {
  const view_case *c = s->c;
  const int64_t m = keys_of(c);
  bool *taken = calloc((size_t)m, sizeof *taken);
  for (int64_t row = 0; row < c->heads * c->n; row++) {
    const double *weights = s->weights + row * m;
    memset(taken, 0, (size_t)m * sizeof *taken);
    for (int64_t t = 0; t < c->top; t++) {
      int64_t best = -1;
      for (int64_t j = 0; j < m; j++)
        if (!taken[j] && weights[j] > (best < 0 ? 0 : weights[best])) best = j;
      if (best >= 0) taken[best] = true;
      if (keys)
        ((int32_t *)values)[row * c->top + t] = (int32_t)best;
      else
        ((float *)values)[row * c->top + t] =
            best < 0 ? 0 : (float)weights[best];
    }
  }
  free(taken);
}

static void fill_map(const source *s, float *values) {
  const view_case *c = s->c;
  const int64_t n = c->n, m = keys_of(c), b = c->map_block;
  const int64_t rows = (n + b - 1) / b, keys = (m + b - 1) / b;
  for (int64_t h = 0; h < c->heads; h++)
    for (int64_t r = 0; r < rows; r++)
      for (int64_t k = 0; k < keys; k++) {
        double sum = 0;
        int64_t count = 0;
        for (int64_t i = r * b; i < n && i < (r + 1) * b; i++, count++)
          for (int64_t j = k * b; j < m && j < (k + 1) * b; j++)
            sum += s->weights[(h * n + i) * m + j];
        values[(h * rows + r) * keys + k] = (float)(sum / (double)count);
      }
}

static clattn_status fill(void *user, size_t part, int64_t layer,
                          clattn_attention_tensor tensor, void *values) {
  source *s = user;
  const view_case *c = s->c;
  const int64_t n = c->n, m = keys_of(c);
  float *out = values;
  (void)part;
  fill_weights(s, layer);
  switch (tensor) {
    case CLATTN_ATTENTION_WEIGHTS:
      for (int64_t i = 0; i < c->heads * n * m; i++)
        out[i] = (float)s->weights[i];
      break;
    case CLATTN_ATTENTION_QUERY:
      for (int64_t i = 0; i < c->heads * n * DIM; i++)
        out[i] = query_at(layer, i / DIM / n, i / DIM % n, (int)(i % DIM));
      break;
    case CLATTN_ATTENTION_KEY:
      for (int64_t i = 0; i < c->heads * m * DIM; i++)
        out[i] = key_at(layer, i / DIM / m, i / DIM % m, (int)(i % DIM));
      break;
    case CLATTN_ATTENTION_TOP_KEYS:
    case CLATTN_ATTENTION_TOP_WEIGHTS:
      fill_top(s, tensor == CLATTN_ATTENTION_TOP_KEYS, values);
      break;
    case CLATTN_ATTENTION_MAP:
      fill_map(s, values);
      break;
    default: /* statistics: any numbers */
      for (int64_t i = 0; i < c->heads * n; i++) out[i] = 1.5f;
  }
  return CLATTN_OK;
}

/* ---- the file ------------------------------------------------------------------- */

clattn_attention *view_case_open(const view_case *c) {
  const int64_t m = keys_of(c), most = c->n > m ? c->n : m;
  char(*names)[24] = calloc((size_t)most, sizeof *names);
  const char **texts = calloc((size_t)most, sizeof *texts);
  for (int64_t i = 0; i < most; i++) {
    snprintf(names[i], sizeof names[i], "t%lld", (long long)i);
    texts[i] = c->texts != NULL ? c->texts[i] : names[i];
  }
  clattn_attention_part part;
  clattn_attention_part_init(&part);
  part.kind = c->kind;
  part.causal = c->kind == CLATTN_ATTENTION_DECODER;
  part.window = c->window;
  part.layers = c->layers;
  part.heads = c->heads;
  const uint32_t products =
      1u << CLATTN_ATTENTION_QUERY | 1u << CLATTN_ATTENTION_KEY;
  part.head_dim = (c->has & products) != 0 ? DIM : 0;
  part.scale = 1;
  part.rows = (clattn_attention_tokens){.n = c->n, .texts = texts};
  if (c->kind == CLATTN_ATTENTION_CROSS)
    part.keys = (clattn_attention_tokens){.n = m, .texts = texts};
  part.has = c->has;
  part.dtype = CLATTN_F32;
  part.top = c->top;
  part.map_block = c->map_block;

  char path[] = "/tmp/clattn-view-XXXXXX";
  const int fd = mkstemp(path);
  TH_OK(fd >= 0 && close(fd) == 0
            ? CLATTN_OK
            : clattn_set_error(CLATTN_IO_ERROR, "%s: no file", path));
  source s = {.c = c,
              .weights = calloc((size_t)(c->heads * c->n * m), sizeof(double)),
              .layer = -1};
  TH_OK(clattn_attention_write(path, "a model", "text", NULL, &part, 1, fill,
                               &s));
  clattn_attention *attention;
  TH_OK(clattn_attention_open(path, &attention));
  unlink(path);
  free(s.weights);
  free(texts);
  free(names);
  return attention;
}
