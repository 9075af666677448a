/* sample.c - temperature, top-k and top-p.
 *
 * Probabilities are softmax(logits / temperature). Of them the k largest are
 * kept, and of those the fewest whose sum reaches p of the kept ones'; equal ones
 * go by their number. One uniform number picks among what is left, so that equal
 * logits and seeds give equal tokens. */
#include "sample.h"

#include <math.h>
#include <stdlib.h>

typedef struct sampler_entry {
  double weight;
  int32_t id;
} entry;

bool sampler_make(sampler *s, int32_t size) {
  s->entries = calloc((size_t)size, sizeof *s->entries);
  s->size = size;
  if (s->entries == NULL) cli_error("no memory for %ld tokens", (long)size);
  return s->entries != NULL;
}

void sampler_free(sampler *s) {
  free(s->entries);
  s->entries = NULL;
}

static int larger_first(const void *a, const void *b) {
  const entry *x = a, *y = b;
  if (x->weight != y->weight) return x->weight > y->weight ? -1 : 1;
  return (x->id > y->id) - (x->id < y->id);
}

int32_t sampler_draw(sampler *s, const float *logits) {
  int32_t best = 0;
  for (int32_t i = 0; i < s->size; i++) {
    if (isnan(logits[i])) return -1;
    if (logits[i] > logits[best]) best = i;
  }
  if (!isfinite(logits[best])) return -1;
  if (s->temperature == 0) return best;

  for (int32_t i = 0; i < s->size; i++)
    s->entries[i] = (entry){
        exp(((double)logits[i] - (double)logits[best]) / s->temperature), i};
  int32_t n = s->size;
  if (s->top_k > 0 || s->top_p < 1)
    qsort(s->entries, (size_t)n, sizeof *s->entries, larger_first);
  if (s->top_k > 0 && s->top_k < n) n = (int32_t)s->top_k;
  double sum = 0;
  for (int32_t i = 0; i < n; i++) sum += s->entries[i].weight;
  if (s->top_p < 1) {
    const double enough = s->top_p * sum;
    sum = 0;
    int32_t kept = 0;
    while (kept < n && (kept == 0 || sum < enough))
      sum += s->entries[kept++].weight;
    n = kept;
  }
  double left = (double)clattn_kit_rng_uniform(&s->rng) * sum;
  for (int32_t i = 0; i < n; i++) {
    left -= s->entries[i].weight;
    if (left < 0) return s->entries[i].id;
  }
  return s->entries[n - 1].id; /* rounding */
}
