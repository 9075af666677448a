/* summary.c - what the heads of a layer look at, in four numbers each. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "weights.h"

/* Multiply-adds of all layers: all rows of 512 tokens, 12 layers and 12 heads of 64
 * numbers, and some seconds. */
#define MOST_WORK 1e10

enum { LEAST_ROWS = 16 }; /* of a head */

/* Sums over a head's rows. */
typedef struct sums {
  double entropy, distance, previous, first;
  int64_t rows, later; /* and those that have a row before them */
} sums;

static clattn_attention_summary means(const clattn_attention_part *part,
                                      const sums *s) {
  const double n = (double)s->rows;
  const bool cross = part->kind == CLATTN_ATTENTION_CROSS;
  return (clattn_attention_summary){
      .entropy = (float)(s->entropy / n),
      .distance = (float)(s->distance / n),
      .previous =
          cross || s->later < 1 ? 0 : (float)(s->previous / (double)s->later),
      .first = (float)(s->first / n),
      .rows = s->rows};
}

/* ---- of weights ---------------------------------------------------------------------- */

/* weights [m] of row i. */
static void add_row(sums *s, const float *weights, int64_t i, int64_t m) {
  for (int64_t j = 0; j < m; j++) {
    const double w = (double)weights[j];
    if (w == 0) continue; /* whose share of every sum is 0 */
    s->entropy -= w * log(w);
    s->distance += w * fabs((double)(i - j));
  }
  /* Row 0 has no key before its own. */
  if (i > 0 && i - 1 < m) s->previous += (double)weights[i - 1];
  s->first += (double)weights[0];
  s->rows++;
  s->later += i > 0;
}

/* row [keys] is to be filled. */
static clattn_status add_rows(const attention_weights *weights,
                              const attention_sample *sample, float *row,
                              sums *s) {
  for (int64_t i = 0; i < sample->count; i++) {
    const int64_t at = attention_sample_row(sample, i);
    KIT_TRY(attention_weights_row(weights, at, row));
    add_row(s, row, at, weights->part->keys.n);
  }
  return CLATTN_OK;
}

static clattn_status of_weights(const clattn_attention *attention,
                                const clattn_attention_part *p, int64_t layer,
                                double work,
                                clattn_attention_summary *summaries) {
  const bool computed = !attention_has(p, CLATTN_ATTENTION_WEIGHTS);
  const attention_sample sample = attention_sample_rows(
      p, computed, work / (double)p->layers, p->heads, LEAST_ROWS);
  float *row = calloc((size_t)p->keys.n, sizeof *row);
  if (row == NULL) return KIT_OUT_OF_MEMORY("attention weights");
  clattn_status status = CLATTN_OK;
  for (int64_t head = 0; head < p->heads && status == CLATTN_OK; head++) {
    sums s = {0};
    attention_weights weights;
    status =
        attention_weights_open(attention, p, layer, head, computed, &weights);
    if (status == CLATTN_OK) status = add_rows(&weights, &sample, row, &s);
    attention_weights_close(&weights);
    summaries[head] = means(p, &s);
  }
  free(row);
  return status;
}

/* ---- of what else was recorded --------------------------------------------------------- */

/* Sums of a tensor's numbers: totals [heads], NaN where it is not there. row [n] is
 * to be filled. */
static clattn_status add_up(const clattn_attention *attention,
                            const clattn_attention_part *p, int64_t layer,
                            clattn_attention_tensor which, double *totals,
                            float *row) {
  clattn_kit_tensor tensor;
  const bool there = attention_has(p, which);
  if (there)
    KIT_TRY(attention_find_tensor(attention, p, layer, which, &tensor));
  for (int64_t head = 0; head < p->heads; head++) {
    totals[head] = there ? 0 : (double)NAN;
    if (!there) continue;
    KIT_TRY(attention_rows(&tensor, head, 1, row)); /* [heads, n] */
    for (int64_t i = 0; i < p->rows.n; i++) totals[head] += (double)row[i];
  }
  return CLATTN_OK;
}

/* Sums of entropy and distance over the rows: *totals [2, heads], to free() even on
 * failure. */
static clattn_status read_totals(const clattn_attention *attention,
                                 const clattn_attention_part *p, int64_t layer,
                                 double **totals) {
  const size_t heads = (size_t)p->heads;
  *totals = calloc(heads, 2 * sizeof **totals);
  float *row = calloc((size_t)p->rows.n, sizeof *row);
  clattn_status status = *totals != NULL && row != NULL
                             ? CLATTN_OK
                             : KIT_OUT_OF_MEMORY("attention summary");
  if (status == CLATTN_OK)
    status =
        add_up(attention, p, layer, CLATTN_ATTENTION_ENTROPY, *totals, row);
  if (status == CLATTN_OK)
    status = add_up(attention, p, layer, CLATTN_ATTENTION_DISTANCE,
                    *totals + heads, row);
  free(row);
  return status;
}

/* keys and weights [heads, n, top]. */
static void add_top(const clattn_attention_part *p, int64_t head,
                    const int32_t *keys, const float *weights, sums *s) {
  for (int64_t i = 0; i < p->rows.n; i++)
    for (int64_t k = 0; k < p->top; k++) {
      const int64_t at = (head * p->rows.n + i) * p->top + k;
      if (keys[at] == 0) s->first += (double)weights[at];
      if (i > 0 && keys[at] == i - 1) s->previous += (double)weights[at];
    }
}

/* What the summaries are made from: totals [2, heads], keys and weights
 * [heads, n, top]. */
typedef struct recorded {
  double *totals;
  float *weights;
  int32_t *keys;
} recorded;

static clattn_status read_recorded(const clattn_attention *attention,
                                   size_t part, const clattn_attention_part *p,
                                   int64_t layer, recorded *r) {
  const size_t heads = (size_t)p->heads, n = (size_t)p->rows.n;
  KIT_TRY(read_totals(attention, p, layer, &r->totals));
  if (!attention_has(p, CLATTN_ATTENTION_TOP_KEYS)) return CLATTN_OK;
  /* The file has as many: their product does not overflow. */
  const size_t numbers = heads * n * (size_t)p->top;
  r->keys = calloc(numbers, sizeof *r->keys);
  r->weights = calloc(numbers, sizeof *r->weights);
  if (r->keys == NULL || r->weights == NULL)
    return KIT_OUT_OF_MEMORY("attention summary");
  KIT_TRY(clattn_attention_read(attention, part, layer,
                                CLATTN_ATTENTION_TOP_KEYS, r->keys));
  return clattn_attention_read(attention, part, layer,
                               CLATTN_ATTENTION_TOP_WEIGHTS, r->weights);
}

static clattn_status of_recorded(const clattn_attention *attention, size_t part,
                                 const clattn_attention_part *p, int64_t layer,
                                 clattn_attention_summary *summaries) {
  recorded r = {0};
  const clattn_status status = read_recorded(attention, part, p, layer, &r);
  for (int64_t head = 0; head < p->heads && status == CLATTN_OK; head++) {
    sums s = {.entropy = r.totals[head],
              .distance = r.totals[p->heads + head],
              .previous = r.keys ? 0 : (double)NAN,
              .first = r.keys ? 0 : (double)NAN,
              .rows = p->rows.n,
              .later = p->rows.n - 1};
    if (r.keys != NULL) add_top(p, head, r.keys, r.weights, &s);
    summaries[head] = means(p, &s);
  }
  free(r.totals);
  free(r.keys);
  free(r.weights);
  return status;
}

/* Means of all rows that were recorded, in place of those of a sample. */
static clattn_status take_recorded(const clattn_attention *attention,
                                   const clattn_attention_part *p,
                                   int64_t layer,
                                   clattn_attention_summary *summaries) {
  const size_t heads = (size_t)p->heads;
  const double n = (double)p->rows.n;
  double *totals = NULL;
  const clattn_status status = read_totals(attention, p, layer, &totals);
  for (size_t h = 0; h < heads && status == CLATTN_OK; h++) {
    if (attention_has(p, CLATTN_ATTENTION_ENTROPY))
      summaries[h].entropy = (float)(totals[h] / n);
    if (attention_has(p, CLATTN_ATTENTION_DISTANCE))
      summaries[h].distance = (float)(totals[heads + h] / n);
  }
  free(totals);
  return status;
}

clattn_status attention_summarize(const clattn_attention *attention,
                                  size_t part, int64_t layer, double work,
                                  clattn_attention_summary *summaries) {
  const clattn_attention_part *p = NULL;
  KIT_TRY(attention_find(attention, part, layer, &p));
  KIT_REQUIRE(summaries != NULL,
              "summaries: got NULL, want room for %lld heads",
              (long long)p->heads);
  const size_t heads = (size_t)p->heads;
  clattn_attention_summary *made = calloc(heads, sizeof *made);
  if (made == NULL) return KIT_OUT_OF_MEMORY("attention summary");
  const bool weights = attention_has(p, CLATTN_ATTENTION_WEIGHTS) ||
                       attention_has(p, CLATTN_ATTENTION_QUERY);
  clattn_status status = weights ? of_weights(attention, p, layer, work, made)
                                 : of_recorded(attention, part, p, layer, made);
  if (status == CLATTN_OK && made[0].rows < p->rows.n)
    status = take_recorded(attention, p, layer, made);
  if (status == CLATTN_OK) memcpy(summaries, made, heads * sizeof *made);
  free(made);
  return status;
}

clattn_status clattn_attention_summarize(const clattn_attention *attention,
                                         size_t part, int64_t layer,
                                         clattn_attention_summary *summaries) {
  return attention_summarize(attention, part, layer, MOST_WORK, summaries);
}
