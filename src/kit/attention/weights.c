/* weights.c - rows of attention: as recorded, or of queries and keys. */
#include "weights.h"

#include <math.h>
#include <stdlib.h>

/* ---- of queries and keys ----------------------------------------------------------- */

enum { LANES = 8 }; /* keys whose products are summed side by side */

static int64_t groups_of(int64_t keys) { return (keys - 1) / LANES + 1; }

/* All keys of the head, in double: key [groups, dim, LANES], 0 beyond the last. */
static clattn_status take_keys(attention_weights *w,
                               const clattn_kit_tensor *key, int64_t head) {
  const int64_t dim = w->part->head_dim, m = w->part->keys.n;
  const size_t d = (size_t)dim;
  size_t elements;
  if (!__builtin_mul_overflow(d, (size_t)groups_of(m) * LANES, &elements) &&
      elements <= PTRDIFF_MAX / sizeof(double))
    w->key = calloc(elements, sizeof *w->key);
  w->scores = calloc((size_t)groups_of(m) * LANES, sizeof *w->scores);
  w->queries = calloc(d, sizeof *w->queries);
  w->numbers = calloc(d, sizeof *w->numbers);
  if (!w->key || !w->scores || !w->queries || !w->numbers)
    return KIT_OUT_OF_MEMORY("attention weights");
  const int64_t first = head / (w->part->heads / w->part->kv_heads) * m;
  for (int64_t j = 0; j < m; j++) {
    double *to = w->key + j / LANES * dim * LANES + j % LANES;
    KIT_TRY(attention_rows(key, first + j, 1, w->numbers));
    for (int64_t c = 0; c < dim; c++) to[c * LANES] = (double)w->numbers[c];
  }
  return CLATTN_OK;
}

/* scores [LANES] = query . key, of one group [dim, LANES]. */
static void multiply(const double *query, const double *key, int64_t dim,
                     double *scores) {
  double sums[LANES] = {0}; /* of fixed length: they stay in registers */
  for (int64_t c = 0; c < dim; c++)
    for (int l = 0; l < LANES; l++) sums[l] += query[c] * key[c * LANES + l];
  for (int l = 0; l < LANES; l++) scores[l] = sums[l];
}

/* weights [keys] = softmax(scale * query . key) over [first, end), else 0. */
static void softmax_row(const attention_weights *w, int64_t first, int64_t end,
                        float *weights) {
  const int64_t dim = w->part->head_dim, m = w->part->keys.n;
  double *s = w->scores;
  for (int64_t g = first / LANES; g * LANES < end; g++)
    multiply(w->queries, w->key + g * dim * LANES, dim, s + g * LANES);
  double largest = -INFINITY, sum = 0;
  for (int64_t j = first; j < end; j++) {
    s[j] *= w->part->scale;
    if (s[j] > largest) largest = s[j];
  }
  for (int64_t j = first; j < end; j++) sum += s[j] = exp(s[j] - largest);
  for (int64_t j = 0; j < first; j++) weights[j] = 0;
  for (int64_t j = first; j < end; j++) weights[j] = (float)(s[j] / sum);
  for (int64_t j = end; j < m; j++) weights[j] = 0;
}

/* ---- a head ------------------------------------------------------------------------- */

static clattn_status open_computed(const clattn_attention *attention,
                                   int64_t layer, int64_t head,
                                   attention_weights *w) {
  clattn_kit_tensor key;
  KIT_TRY(attention_find_tensor(attention, w->part, layer,
                                CLATTN_ATTENTION_QUERY, &w->rows));
  KIT_TRY(attention_find_tensor(attention, w->part, layer, CLATTN_ATTENTION_KEY,
                                &key));
  return take_keys(w, &key, head);
}

clattn_status attention_weights_open(const clattn_attention *attention,
                                     const clattn_attention_part *part,
                                     int64_t layer, int64_t head, bool computed,
                                     attention_weights *weights) {
  *weights = (attention_weights){
      .part = part, .computed = computed, .first = head * part->rows.n};
  if (computed) return open_computed(attention, layer, head, weights);
  return attention_find_tensor(attention, part, layer, CLATTN_ATTENTION_WEIGHTS,
                               &weights->rows);
}

clattn_status attention_weights_row(const attention_weights *w, int64_t row,
                                    float *values) {
  if (!w->computed) return attention_rows(&w->rows, w->first + row, 1, values);
  int64_t first, end;
  KIT_TRY(attention_rows(&w->rows, w->first + row, 1, w->numbers));
  for (int64_t c = 0; c < w->part->head_dim; c++)
    w->queries[c] = (double)w->numbers[c];
  attention_visible(w->part, row, &first, &end);
  softmax_row(w, first, end, values);
  return CLATTN_OK;
}

void attention_weights_close(attention_weights *w) {
  free(w->key);
  free(w->scores);
  free(w->queries);
  free(w->numbers);
  *w = (attention_weights){0};
}

/* ---- rows to look at ---------------------------------------------------------------- */

/* What exp and log of a weight take, in multiply-adds. */
enum { FUNCTIONS = 64 };

attention_sample attention_sample_rows(const clattn_attention_part *part,
                                       bool computed, double work,
                                       int64_t heads, int64_t least) {
  const double row = (double)heads * (double)part->keys.n *
                     (FUNCTIONS + (computed ? (double)part->head_dim : 0));
  const int64_t n = part->rows.n;
  const double fit = work / row;
  int64_t count = fit >= (double)n ? n : (int64_t)fit;
  if (count < least) count = least < n ? least : n;
  return (attention_sample){.rows = n, .count = count};
}

/* A number that looks random, of x (SplitMix64). */
static uint64_t scramble(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
  x = (x ^ x >> 27) * 0x94d049bb133111eb;
  return x ^ x >> 31;
}

int64_t attention_sample_row(const attention_sample *sample, int64_t i) {
  const int64_t n = sample->rows, count = sample->count;
  if (count == n) return i;
  /* Shares of equal size, and the first `more` of one more. */
  const int64_t size = n / count, more = n % count;
  const int64_t begin = i * size + (i < more ? i : more);
  const uint64_t share = (uint64_t)(size + (i < more));
  return begin + (int64_t)(scramble((uint64_t)i) % share);
}

/* ---- reading ------------------------------------------------------------------------ */

clattn_status clattn_attention_read_weights(const clattn_attention *attention,
                                            size_t part, int64_t layer,
                                            int64_t head, int64_t row,
                                            int64_t n, float *weights) {
  const clattn_attention_part *p = NULL;
  KIT_TRY(attention_find(attention, part, layer, &p));
  KIT_REQUIRE(head >= 0 && head < p->heads, "head: got %lld, want 0..%lld",
              (long long)head, (long long)p->heads - 1);
  KIT_REQUIRE(row >= 0 && n >= 0 && row <= p->rows.n && n <= p->rows.n - row,
              "row: got %lld and n %lld, want rows within the %lld",
              (long long)row, (long long)n, (long long)p->rows.n);
  KIT_REQUIRE(weights != NULL || n == 0,
              "weights: got NULL, want room for %lld rows", (long long)n);
  const bool recorded = attention_has(p, CLATTN_ATTENTION_WEIGHTS);
  KIT_REQUIRE(recorded || attention_has(p, CLATTN_ATTENTION_QUERY),
              "part: '%s' has neither weights nor query and key", p->name);
  attention_weights w;
  clattn_status status =
      attention_weights_open(attention, p, layer, head, !recorded, &w);
  for (int64_t i = 0; i < n && status == CLATTN_OK; i++)
    status = attention_weights_row(&w, row + i, weights + i * p->keys.n);
  attention_weights_close(&w);
  return status;
}
