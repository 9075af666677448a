/* model_watch.c - layer by layer: hidden states, attention and its statistics,
 * with memory for one layer at a time.
 *
 * Requests of a group are of one length here, so that what the device writes for
 * a group, [count, heads, length, ...], is dense for each request. */
#include <stdlib.h>
#include <string.h>

#include "model.h"

/* What is told of each row of each head: `top` or one number. */
enum { ENTROPY, DISTANCE, TOP_KEYS, TOP_WEIGHTS, ROW_KINDS };

typedef struct row_kind {
  int64_t numbers;       /* a row; 0: not wanted */
  clattn_buffer *buffer; /* [heads, rows, numbers] group by group */
  void *raw, *laid_out;  /* as read back, and as the caller has it */
} row_kind;

/* What each request has matrices of, one a head: [n, n], [m, m], and twice
 * [n, head_dim]. */
enum { ATTENTION, MAP, QUERY, KEY, MATRIX_KINDS };

typedef struct matrix_shape {
  int64_t heads, rows, cols;
} matrix_shape;

typedef struct matrix_kind {
  bool wanted;
  int64_t elements;
  clattn_buffer *buffer; /* [elements] request by request, in order */
  float *host;
  const float **of_request; /* [batch] into host */
} matrix_kind;

typedef struct watcher {
  model_pass *pass;
  clattn_queue *queue;
  const model_batch *batch;
  const clattn_model_output *output;
  int64_t heads, kv_heads, head_dim, embed_dim;
  float *hidden; /* [batch, length, E] */
  row_kind rows[ROW_KINDS];
  matrix_kind matrices[MATRIX_KINDS];
  clattn_tensor *weights, *queries, *keys; /* [groups] */
  clattn_stats *stats;                     /* [groups] */
} watcher;

static bool wants(const watcher *w, uint32_t watch) {
  return (w->output->watch & watch) != 0;
}

/* Of a request of n tokens. */
static matrix_shape shape_of(const watcher *w, int kind, int64_t n) {
  const int64_t block = w->output->map_block, m = (n + block - 1) / block;
  switch (kind) {
    case ATTENTION:
      return (matrix_shape){w->heads, n, n};
    case MAP:
      return (matrix_shape){w->heads, m, m};
    case QUERY:
      return (matrix_shape){w->heads, n, w->head_dim};
    default:
      return (matrix_shape){w->kv_heads, n, w->head_dim};
  }
}

/* ---- memory -------------------------------------------------------------------- */

static clattn_status make_rows(watcher *w, row_kind *kind, int64_t numbers) {
  const model_batch *batch = w->batch;
  const clattn_model *model = w->pass->model;
  const size_t heads = (size_t)w->heads, each = (size_t)numbers;
  kind->numbers = numbers;
  KIT_TRY(model_buffer(model, "output->watch", batch->most_rows,
                       w->heads * numbers, sizeof(float), &kind->buffer));
  kind->raw = malloc(clattn_buffer_size(kind->buffer));
  kind->laid_out = calloc((size_t)batch->rows * heads, each * sizeof(float));
  return kind->raw && kind->laid_out ? CLATTN_OK : KIT_OUT_OF_MEMORY("model");
}

static clattn_status make_matrices(watcher *w, int which) {
  const model_batch *batch = w->batch;
  matrix_kind *kind = &w->matrices[which];
  kind->wanted = true;
  for (int64_t b = 0; b < batch->batch; b++) {
    const matrix_shape s = shape_of(w, which, batch->lengths[b]);
    int64_t elements;
    KIT_REQUIRE(
        !__builtin_mul_overflow(s.rows * s.cols, s.heads, &elements) &&
            !__builtin_add_overflow(elements, kind->elements, &kind->elements),
        "output->watch: matrices of %lld tokens overflow the size of "
        "memory",
        (long long)batch->lengths[b]);
  }
  KIT_TRY(model_buffer(w->pass->model, "output->watch", 1, kind->elements,
                       sizeof(float), &kind->buffer));
  kind->host = malloc((size_t)kind->elements * sizeof *kind->host);
  kind->of_request = calloc((size_t)batch->batch, sizeof(const float *));
  if (kind->host == NULL || kind->of_request == NULL)
    return KIT_OUT_OF_MEMORY("model");
  int64_t at = 0;
  for (int64_t i = 0; i < batch->batch; i++) {
    const int64_t b = batch->order[i];
    const matrix_shape s = shape_of(w, which, batch->lengths[b]);
    kind->of_request[b] = kind->host + at;
    at += s.heads * s.rows * s.cols;
  }
  return CLATTN_OK;
}

static clattn_status make_memory(watcher *w) {
  const model_batch *batch = w->batch;
  const size_t groups = (size_t)batch->n_groups;
  if (wants(w, CLATTN_WATCH_HIDDEN)) {
    w->hidden =
        calloc((size_t)batch->rows, (size_t)w->embed_dim * sizeof *w->hidden);
    if (w->hidden == NULL) return KIT_OUT_OF_MEMORY("model");
  }
  if (wants(w, CLATTN_WATCH_STATISTICS)) {
    KIT_TRY(make_rows(w, &w->rows[ENTROPY], 1));
    KIT_TRY(make_rows(w, &w->rows[DISTANCE], 1));
  }
  if (wants(w, CLATTN_WATCH_TOP)) {
    KIT_TRY(make_rows(w, &w->rows[TOP_KEYS], w->output->top));
    KIT_TRY(make_rows(w, &w->rows[TOP_WEIGHTS], w->output->top));
  }
  if (wants(w, CLATTN_WATCH_ATTENTION)) KIT_TRY(make_matrices(w, ATTENTION));
  if (wants(w, CLATTN_WATCH_MAP)) KIT_TRY(make_matrices(w, MAP));
  if (wants(w, CLATTN_WATCH_QUERY_KEY)) {
    KIT_TRY(make_matrices(w, QUERY));
    KIT_TRY(make_matrices(w, KEY));
  }
  w->weights = calloc(groups, sizeof *w->weights);
  w->queries = calloc(groups, sizeof *w->queries);
  w->keys = calloc(groups, sizeof *w->keys);
  w->stats = calloc(groups, sizeof *w->stats);
  return w->weights && w->queries && w->keys && w->stats
             ? CLATTN_OK
             : KIT_OUT_OF_MEMORY("model");
}

static void free_memory(watcher *w) {
  for (int i = 0; i < ROW_KINDS; i++) {
    clattn_buffer_destroy(w->rows[i].buffer);
    free(w->rows[i].raw);
    free(w->rows[i].laid_out);
  }
  for (int i = 0; i < MATRIX_KINDS; i++) {
    clattn_buffer_destroy(w->matrices[i].buffer);
    free(w->matrices[i].host);
    free(w->matrices[i].of_request);
  }
  free(w->hidden);
  free(w->weights);
  free(w->queries);
  free(w->keys);
  free(w->stats);
}

/* ---- views ----------------------------------------------------------------------- */

/* Of a group's part of what the device writes: absent where it is not wanted. */
static clattn_tensor rows_view(const watcher *w, const model_group *group,
                               int which) {
  const row_kind *kind = &w->rows[which];
  clattn_tensor view = {0};
  if (kind->numbers == 0) return view;
  view = clattn_view_bhsd(kind->buffer,
                          which == TOP_KEYS ? CLATTN_I32 : CLATTN_F32,
                          group->count, w->heads, group->length, kind->numbers);
  view.offset = group->row * w->heads * kind->numbers;
  return view;
}

static clattn_tensor matrix_view(const watcher *w, const model_group *group,
                                 int which) {
  const matrix_kind *kind = &w->matrices[which];
  clattn_tensor view = {0};
  if (!kind->wanted) return view;
  const matrix_shape s = shape_of(w, which, group->length);
  const int64_t first = w->batch->order[group->first];
  view = clattn_view_bhsd(kind->buffer, CLATTN_F32, group->count, s.heads,
                          s.rows, s.cols);
  view.offset = kind->of_request[first] - kind->host;
  return view;
}

static void make_views(watcher *w) {
  for (int64_t g = 0; g < w->batch->n_groups; g++) {
    const model_group *group = &w->batch->groups[g];
    clattn_stats *stats = &w->stats[g];
    w->weights[g] = matrix_view(w, group, ATTENTION);
    w->queries[g] = matrix_view(w, group, QUERY);
    w->keys[g] = matrix_view(w, group, KEY);
    clattn_stats_init(stats);
    stats->entropy = rows_view(w, group, ENTROPY);
    stats->distance = rows_view(w, group, DISTANCE);
    stats->top_keys = rows_view(w, group, TOP_KEYS);
    stats->top_weights = rows_view(w, group, TOP_WEIGHTS);
    stats->map = matrix_view(w, group, MAP);
    stats->map_rows = stats->map_keys = w->output->map_block;
  }
  if (wants(w, CLATTN_WATCH_ATTENTION)) w->pass->weights = w->weights;
  if (wants(w, CLATTN_WATCH_QUERY_KEY)) {
    w->pass->queries = w->queries;
    w->pass->keys = w->keys;
  }
  if (wants(w, CLATTN_WATCH_STATISTICS | CLATTN_WATCH_TOP | CLATTN_WATCH_MAP))
    w->pass->stats = w->stats;
}

/* ---- telling ---------------------------------------------------------------------- */

/* From [count, heads, n, numbers] of each group to the caller's layout,
 * [batch, heads, length, numbers]. */
static void lay_out(const watcher *w, const row_kind *kind) {
  const model_batch *batch = w->batch;
  const bool packed = batch->input->layout == CLATTN_MODEL_PACKED;
  const size_t each = (size_t)kind->numbers * sizeof(float);
  const int64_t H = w->heads, length = batch->width;
  for (int64_t b = 0; b < batch->batch; b++) {
    const int64_t n = batch->lengths[b];
    const int64_t row = packed ? 0 : b;
    const int64_t first = batch->starts[b] - row * length;
    for (int64_t h = 0; h < H; h++) {
      const int64_t from = batch->places[b] * H + h * n;
      const int64_t to = (row * H + h) * length + first;
      memcpy((char *)kind->laid_out + (size_t)to * each,
             (const char *)kind->raw + (size_t)from * each, (size_t)n * each);
    }
  }
}

static clattn_status read_hidden(const watcher *w) {
  const model_chunk *chunk = &w->batch->chunks[0];
  model_pass *pass = w->pass;
  KIT_TRY(model_act_read(pass, w->queue, MODEL_X, 0, chunk->rows, pass->host));
  model_batch_scatter(w->batch, chunk, 0, chunk->rows, w->embed_dim, pass->host,
                      w->hidden);
  return CLATTN_OK;
}

static clattn_status read_attention(const watcher *w) {
  for (int i = 0; i < ROW_KINDS; i++) {
    const row_kind *kind = &w->rows[i];
    if (kind->numbers == 0) continue;
    KIT_TRY(clattn_buffer_read(w->queue, kind->buffer, 0, kind->raw,
                               clattn_buffer_size(kind->buffer)));
    lay_out(w, kind);
  }
  for (int i = 0; i < MATRIX_KINDS; i++) {
    const matrix_kind *kind = &w->matrices[i];
    if (!kind->wanted) continue;
    KIT_TRY(clattn_buffer_read(w->queue, kind->buffer, 0, kind->host,
                               (size_t)kind->elements * sizeof *kind->host));
  }
  return CLATTN_OK;
}

/* layer -1: the embeddings. */
static clattn_status tell(const watcher *w, int64_t layer) {
  const clattn_model_config *c = &w->pass->model->spec.config;
  const bool packed = w->batch->input->layout == CLATTN_MODEL_PACKED;
  clattn_model_layer told = {.layer = layer,
                             .batch = packed ? 1 : w->batch->batch,
                             .length = w->batch->width,
                             .heads = c->heads,
                             .kv_heads = c->kv_heads,
                             .head_dim = c->head_dim,
                             .embed_dim = c->embed_dim,
                             .window = w->pass->model->spec.window};
  if (w->hidden != NULL) {
    KIT_TRY(read_hidden(w));
    told.hidden = w->hidden;
  }
  if (layer >= 0) {
    KIT_TRY(read_attention(w));
    told.scale = model_scale(&w->pass->model->spec, layer);
    told.attention = w->matrices[ATTENTION].of_request;
    told.map = w->matrices[MAP].of_request;
    told.query = w->matrices[QUERY].of_request;
    told.key = w->matrices[KEY].of_request;
    told.entropy = w->rows[ENTROPY].laid_out;
    told.distance = w->rows[DISTANCE].laid_out;
    told.top_keys = w->rows[TOP_KEYS].laid_out;
    told.top_weights = w->rows[TOP_WEIGHTS].laid_out;
  }
  /* What it says if it fails without a word of its own. */
  clattn_set_error(CLATTN_OK, "output->on_layer: ended the run");
  return w->output->on_layer(w->output->user, &told);
}

static clattn_status watch(watcher *w) {
  model_pass *pass = w->pass;
  const uint32_t tells =
      (wants(w, CLATTN_WATCH_ATTENTION) ? MODEL_TELL_WEIGHTS : 0u) |
      (wants(w, CLATTN_WATCH_STATISTICS | CLATTN_WATCH_TOP | CLATTN_WATCH_MAP)
           ? MODEL_TELL_STATISTICS
           : 0u);
  KIT_TRY(make_memory(w));
  KIT_TRY(model_attention(pass->model, tells, &pass->mha));
  make_views(w);
  KIT_TRY(model_embed(pass, w->queue));
  if (w->hidden != NULL) KIT_TRY(tell(w, -1));
  for (int64_t l = 0; l < pass->model->spec.config.layers; l++) {
    KIT_TRY(model_layer_forward(pass, w->queue, l));
    KIT_TRY(tell(w, l));
  }
  return CLATTN_OK;
}

clattn_status model_watch_layers(model_pass *pass, clattn_queue *queue,
                                 const model_batch *batch,
                                 const clattn_model_output *output) {
  const clattn_model_config *c = &pass->model->spec.config;
  watcher w = {.pass = pass,
               .queue = queue,
               .batch = batch,
               .output = output,
               .heads = c->heads,
               .kv_heads = c->kv_heads,
               .head_dim = c->head_dim,
               .embed_dim = c->embed_dim};
  const clattn_status status = watch(&w);
  pass->weights = pass->queries = pass->keys = NULL;
  pass->stats = NULL;
  free_memory(&w);
  return status;
}
