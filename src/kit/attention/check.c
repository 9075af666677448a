/* check.c - whether queries and keys give the recorded weights. */
#include <math.h>
#include <stdlib.h>

#include "weights.h"

/* A layer's multiply-adds: all rows of 512 tokens and 12 heads of 64 numbers, and
 * some tenths of a second. */
#define MOST_WORK 5e8

enum { LEAST_ROWS = 16 }; /* of a head */

/* Half the sum of the differences between a and b [m]: the share of a row's weight
 * that lies elsewhere. What is not finite is as far away as can be. */
static double row_difference(const float *a, const float *b, int64_t m) {
  double sum = 0;
  for (int64_t j = 0; j < m; j++) sum += fabs((double)a[j] - (double)b[j]);
  return isfinite(sum) ? sum / 2 : (double)INFINITY;
}

/* rows [2, keys] are to be filled. */
static clattn_status check_rows(const attention_weights *recorded,
                                const attention_weights *computed,
                                const attention_sample *sample, float *rows,
                                double *most) {
  const int64_t m = recorded->part->keys.n;
  for (int64_t i = 0; i < sample->count; i++) {
    const int64_t row = attention_sample_row(sample, i);
    KIT_TRY(attention_weights_row(recorded, row, rows));
    KIT_TRY(attention_weights_row(computed, row, rows + m));
    *most = fmax(*most, row_difference(rows, rows + m, m));
  }
  return CLATTN_OK;
}

static clattn_status check_head(const clattn_attention *attention,
                                const clattn_attention_part *p, int64_t layer,
                                int64_t head, float *rows, double *most) {
  const attention_sample sample =
      attention_sample_rows(p, true, MOST_WORK, p->heads, LEAST_ROWS);
  attention_weights recorded, computed = {0};
  clattn_status status =
      attention_weights_open(attention, p, layer, head, false, &recorded);
  if (status == CLATTN_OK)
    status = attention_weights_open(attention, p, layer, head, true, &computed);
  if (status == CLATTN_OK)
    status = check_rows(&recorded, &computed, &sample, rows, most);
  attention_weights_close(&recorded);
  attention_weights_close(&computed);
  return status;
}

static clattn_status check_layer(const clattn_attention *attention,
                                 const clattn_attention_part *p, int64_t layer,
                                 double *most) {
  float *rows = calloc((size_t)p->keys.n, 2 * sizeof *rows);
  if (rows == NULL) return KIT_OUT_OF_MEMORY("attention weights");
  clattn_status status = CLATTN_OK;
  for (int64_t head = 0; head < p->heads && status == CLATTN_OK; head++)
    status = check_head(attention, p, layer, head, rows, most);
  free(rows);
  return status;
}

clattn_status clattn_attention_check(const clattn_attention *attention,
                                     size_t part, int64_t layer,
                                     float *difference) {
  const clattn_attention_part *p = NULL;
  KIT_REQUIRE(difference != NULL,
              "difference: got NULL, want a place for the number");
  KIT_TRY(attention_find(attention, part, layer, &p));
  _Atomic float *known = &attention->parts[part].differences[layer];
  float found = atomic_load(known);
  if (isnan(found)) {
    double most = 0;
    if (attention_has(p, CLATTN_ATTENTION_WEIGHTS) &&
        attention_has(p, CLATTN_ATTENTION_QUERY))
      KIT_TRY(check_layer(attention, p, layer, &most));
    found = (float)most;
    atomic_store(known, found);
  }
  *difference = found;
  return CLATTN_OK;
}
