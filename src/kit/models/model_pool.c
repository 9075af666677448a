/* model_pool.c - a sentence's embedding: one row of its hidden states. */
#include <math.h>

#include "model.h"

/* One request: rows [n, E] to to [E]. Sums are taken in double. */
static void pool(const float *rows, int64_t n, int64_t E,
                 clattn_model_pooling pooling, float *to) {
  const int64_t first = pooling == CLATTN_POOL_LAST ? n - 1 : 0;
  const int64_t end = pooling == CLATTN_POOL_FIRST ? 1 : n;
  for (int64_t e = 0; e < E; e++) {
    double sum = 0;
    for (int64_t i = first; i < end; i++) sum += (double)rows[i * E + e];
    to[e] = (float)(sum / (double)(end - first));
  }
}

static void scale_to_one(int64_t E, float *x) {
  double sum = 0;
  for (int64_t e = 0; e < E; e++) sum += (double)x[e] * (double)x[e];
  const double length = fmax(sqrt(sum), 1e-12); /* 0 stays 0 */
  for (int64_t e = 0; e < E; e++) x[e] = (float)((double)x[e] / length);
}

void model_pool(const model_batch *batch, const model_chunk *chunk, int64_t E,
                const float *rows, clattn_model_pooling pooling, bool normalize,
                float *embedding) {
  for (int64_t i = 0; i < chunk->count; i++) {
    const int64_t b = batch->order[chunk->first + i];
    pool(rows + batch->places[b] * E, batch->lengths[b], E, pooling,
         embedding + b * E);
    if (normalize) scale_to_one(E, embedding + b * E);
  }
}
