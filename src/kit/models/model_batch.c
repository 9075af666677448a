/* model_batch.c - requests of different lengths as rectangles on the device.
 *
 * Whatever the caller's layout is, requests are sorted by length, and those of
 * like lengths become a group: a rectangle [count, length] that attention works
 * on at once, with what is missing in the shorter ones hidden. At most an eighth
 * of a group is such filling. Rows of all groups lie one behind the other, so
 * that norms and linear layers work on all of them at once. */
#include <stdlib.h>
#include <string.h>

#include "model.h"

/* Rows of a chunk. So many fill any device; the rest goes through in another
 * chunk, and memory does not grow with the number of requests: a layer keeps
 * queries, keys, values and what attention makes of them, 256 MiB in all. */
static int64_t most_rows(const clattn_model *model) {
  const clattn_model_config *c = &model->spec.config;
  const int64_t row = c->layers * 2 * (c->heads + c->kv_heads) * c->head_dim;
  const int64_t rows = ((int64_t)1 << 26) / row;
  return rows < 512 ? 512 : rows > 8192 ? 8192 : rows;
}

void clattn_model_input_init(clattn_model_input *input) {
  if (input == NULL) return;
  *input = (clattn_model_input){.struct_size = sizeof *input, .batch = 1};
}

/* ---- checks ----------------------------------------------------------------- */

/* Lengths, and where the caller has each request. */
static clattn_status place_requests(const clattn_model *model,
                                    model_batch *batch) {
  const clattn_model_input *in = batch->input;
  const int64_t positions = model->spec.config.positions;
  const bool packed = in->layout == CLATTN_MODEL_PACKED;
  int64_t sum = 0;
  for (int64_t b = 0; b < batch->batch; b++) {
    const int64_t n = in->lengths == NULL ? in->length : in->lengths[b];
    KIT_REQUIRE(n >= 1 && (packed || n <= in->length),
                "input->lengths[%lld]: got %lld, want 1..%lld", (long long)b,
                (long long)n,
                packed ? (long long)positions : (long long)in->length);
    KIT_REQUIRE(n <= positions,
                "input: request %lld has %lld tokens, want at most %lld, the "
                "model's positions",
                (long long)b, (long long)n, (long long)positions);
    batch->lengths[b] = n;
    batch->starts[b] = packed ? sum : b * in->length;
    if (in->layout == CLATTN_MODEL_PAD_LEFT) batch->starts[b] += in->length - n;
    sum += n;
  }
  batch->width = packed ? sum : in->length;
  batch->rows = packed ? sum : batch->batch * in->length;
  return CLATTN_OK;
}

static clattn_status check_ids(const char *name, const int32_t *ids,
                               const model_batch *batch, int64_t count) {
  for (int64_t b = 0; ids != NULL && b < batch->batch; b++)
    for (int64_t i = 0; i < batch->lengths[b]; i++) {
      const int64_t at = batch->starts[b] + i;
      KIT_REQUIRE(ids[at] >= 0 && ids[at] < count,
                  "input->%s[%lld]: got %ld (token %lld of request %lld), want "
                  "0..%lld",
                  name, (long long)at, (long)ids[at], (long long)i,
                  (long long)b, (long long)count - 1);
    }
  return CLATTN_OK;
}

static clattn_status check_input(const clattn_model_input *in) {
  KIT_REQUIRE(in->layout == CLATTN_MODEL_PAD_RIGHT ||
                  in->layout == CLATTN_MODEL_PAD_LEFT ||
                  in->layout == CLATTN_MODEL_PACKED,
              "input->layout: got %d, want a CLATTN_MODEL_PAD_* or _PACKED",
              (int)in->layout);
  const int64_t most = (int64_t)1 << 30;
  KIT_REQUIRE(in->batch >= 1 && in->batch < most,
              "input->batch: got %lld, want 1..2^30 - 1", (long long)in->batch);
  KIT_REQUIRE(in->ids != NULL, "input->ids: got NULL, want tokens");
  if (in->layout == CLATTN_MODEL_PACKED)
    KIT_REQUIRE(in->lengths != NULL,
                "input->lengths: got NULL, want those of packed requests");
  else
    KIT_REQUIRE(in->length >= 1 && in->length < most,
                "input->length: got %lld, want 1..2^30 - 1",
                (long long)in->length);
  return CLATTN_OK;
}

/* ---- groups and chunks -------------------------------------------------------- */

typedef struct sized {
  int64_t length, request;
} sized;

/* The longest first; equal ones as they came. */
static int compare(const void *a, const void *b) {
  const sized *x = a, *y = b;
  if (x->length != y->length) return x->length < y->length ? 1 : -1;
  return (x->request > y->request) - (x->request < y->request);
}

static clattn_status sort_requests(model_batch *batch) {
  sized *all = calloc((size_t)batch->batch, sizeof *all);
  if (all == NULL) return KIT_OUT_OF_MEMORY("model");
  for (int64_t b = 0; b < batch->batch; b++)
    all[b] = (sized){batch->lengths[b], b};
  qsort(all, (size_t)batch->batch, sizeof *all, compare);
  for (int64_t b = 0; b < batch->batch; b++) batch->order[b] = all[b].request;
  free(all);
  return CLATTN_OK;
}

static void end_chunk(model_batch *batch, const model_chunk *chunk) {
  batch->chunks[batch->n_chunks++] = *chunk;
  if (chunk->rows > batch->most_rows) batch->most_rows = chunk->rows;
  if (chunk->count > batch->most_count) batch->most_count = chunk->count;
}

static void group_requests(model_batch *batch, bool together, int64_t most) {
  model_chunk chunk = {0};
  for (int64_t i = 0; i < batch->batch; i++) {
    const int64_t b = batch->order[i], n = batch->lengths[b];
    model_group *last =
        chunk.groups > 0 ? &batch->groups[batch->n_groups - 1] : NULL;
    bool joins = last != NULL &&
                 (together ? n == last->length : 8 * n >= 7 * last->length);
    const int64_t rows = joins ? last->length : n;
    if (!together && chunk.count > 0 && chunk.rows + rows > most) {
      end_chunk(batch, &chunk);
      chunk = (model_chunk){.first_group = batch->n_groups, .first = i};
      joins = false;
    }
    if (!joins) {
      last = &batch->groups[batch->n_groups++];
      *last = (model_group){.first = i, .length = n, .row = chunk.rows};
      chunk.groups++;
    }
    batch->places[b] = chunk.rows;
    last->ragged = last->ragged || n < last->length;
    last->count++;
    chunk.count++;
    chunk.rows += last->length;
  }
  end_chunk(batch, &chunk);
}

static clattn_status make(const clattn_model *model, bool together,
                          model_batch *batch) {
  const clattn_model_config *c = &model->spec.config;
  const size_t n = (size_t)batch->batch;
  batch->lengths = calloc(n, sizeof *batch->lengths);
  batch->starts = calloc(n, sizeof *batch->starts);
  batch->order = calloc(n, sizeof *batch->order);
  batch->places = calloc(n, sizeof *batch->places);
  batch->groups = calloc(n, sizeof *batch->groups);
  batch->chunks = calloc(n, sizeof *batch->chunks);
  if (!batch->lengths || !batch->starts || !batch->order || !batch->places ||
      !batch->groups || !batch->chunks)
    return KIT_OUT_OF_MEMORY("model");
  KIT_TRY(place_requests(model, batch));
  KIT_TRY(check_ids("ids", batch->input->ids, batch, c->vocab_size));
  if (c->types > 0)
    KIT_TRY(check_ids("types", batch->input->types, batch, c->types));
  KIT_TRY(sort_requests(batch));
  group_requests(batch, together, most_rows(model));
  KIT_REQUIRE(batch->most_rows < (int64_t)1 << 30,
              "input: got %lld tokens, want fewer than 2^30 to watch",
              (long long)batch->most_rows);
  batch->staged = calloc((size_t)batch->most_rows, 4 * sizeof *batch->staged);
  return batch->staged == NULL ? KIT_OUT_OF_MEMORY("model") : CLATTN_OK;
}

clattn_status model_batch_make(const clattn_model *model,
                               const clattn_model_input *input, bool together,
                               model_batch *batch) {
  *batch = (model_batch){.input = input};
  KIT_TRY(check_input(input));
  batch->batch = input->batch;
  const clattn_status status = make(model, together, batch);
  if (status != CLATTN_OK) model_batch_free(batch);
  return status;
}

void model_batch_free(model_batch *batch) {
  free(batch->lengths);
  free(batch->starts);
  free(batch->order);
  free(batch->places);
  free(batch->staged);
  free(batch->groups);
  free(batch->chunks);
  *batch = (model_batch){0};
}

/* ---- to the device and back ---------------------------------------------------- */

/* Filling has token 0 at the position it stands at: no row sees it. */
clattn_status model_batch_upload(const model_batch *batch,
                                 const model_chunk *chunk, model_pass *pass,
                                 clattn_queue *queue) {
  const clattn_model_input *in = batch->input;
  int32_t *ids = batch->staged, *positions = ids + chunk->rows,
          *types = positions + chunk->rows, *lengths = types + chunk->rows;
  for (int64_t g = 0; g < chunk->groups; g++) {
    const model_group *group = &batch->groups[chunk->first_group + g];
    for (int64_t i = 0; i < group->count; i++) {
      const int64_t b = batch->order[group->first + i];
      const int64_t from = batch->starts[b], to = batch->places[b];
      lengths[group->first - chunk->first + i] = (int32_t)batch->lengths[b];
      for (int64_t t = 0; t < group->length; t++) {
        const bool there = t < batch->lengths[b];
        ids[to + t] = there ? in->ids[from + t] : 0;
        types[to + t] = there && in->types != NULL ? in->types[from + t] : 0;
        positions[to + t] = (int32_t)(t + pass->model->spec.first_position);
      }
    }
  }
  const model_upload upload = {.ids = ids,
                               .positions = positions,
                               .types = types,
                               .lengths = lengths,
                               .rows = chunk->rows,
                               .groups = batch->groups + chunk->first_group,
                               .n_groups = chunk->groups,
                               .first = chunk->first};
  return model_pass_begin(pass, queue, &upload);
}

void model_batch_scatter(const model_batch *batch, const model_chunk *chunk,
                         int64_t first, int64_t n, int64_t cols,
                         const float *from, float *to) {
  for (int64_t i = 0; i < chunk->count; i++) {
    const int64_t b = batch->order[chunk->first + i];
    const int64_t begin = batch->places[b], end = begin + batch->lengths[b];
    const int64_t low = begin > first ? begin : first;
    const int64_t high = end < first + n ? end : first + n;
    if (low >= high) continue;
    memcpy(to + (batch->starts[b] + low - begin) * cols,
           from + (low - first) * cols,
           (size_t)((high - low) * cols) * sizeof *to);
  }
}

void model_batch_clear_rest(const model_batch *batch, int64_t cols, float *to) {
  if (batch->input->layout == CLATTN_MODEL_PACKED) return;
  for (int64_t b = 0; b < batch->batch; b++) {
    const int64_t begin = b * batch->width, end = begin + batch->width;
    const int64_t start = batch->starts[b], stop = start + batch->lengths[b];
    memset(to + begin * cols, 0, (size_t)((start - begin) * cols) * sizeof *to);
    memset(to + stop * cols, 0, (size_t)((end - stop) * cols) * sizeof *to);
  }
}
