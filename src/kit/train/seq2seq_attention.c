/* seq2seq_attention.c - what the tokens of a pair attend to. */
#include <stdlib.h>
#include <string.h>

#include "clattn_model.h"
#include "seq2seq.h"

/* ---- a pair ---------------------------------------------------------------- */

/* begin, and the target without its last token: what the decoder reads. */
static clattn_status begin_target(const clattn_seq2seq *model,
                                  kit_pass *decoder, clattn_queue *queue,
                                  const int32_t *target, int64_t T) {
  const clattn_seq2seq_config *c = &model->config;
  int32_t *ids = malloc((size_t)T * sizeof *ids);
  if (ids == NULL) return KIT_OUT_OF_MEMORY("target");
  ids[0] = c->begin;
  memcpy(ids + 1, target, (size_t)(T - 1) * sizeof *ids);
  const clattn_status status = kit_pass_begin(decoder, queue, ids, NULL, 1, T);
  free(ids);
  return status;
}

static clattn_status check_target(const clattn_seq2seq *model,
                                  const int32_t *target, int64_t T) {
  const clattn_seq2seq_config *c = &model->config;
  KIT_REQUIRE(target != NULL, "target: got NULL, want tokens");
  KIT_REQUIRE(T >= 1 && T <= c->max_target + 1, "T: got %lld, want 1..%lld",
              (long long)T, (long long)c->max_target + 1);
  const int64_t tokens = T - (target[T - 1] == c->end);
  int32_t length;
  int64_t longest;
  if (tokens > 0)
    KIT_TRY(seq2seq_check_texts(model, "target", target, tokens, 1, tokens,
                                &length, &longest));
  return CLATTN_OK;
}

/* Checks a pair, and starts the encoder's call. */
static clattn_status begin_pair(const clattn_seq2seq *model,
                                clattn_queue *queue, const int32_t *source,
                                int64_t S, const int32_t *target, int64_t T,
                                const kit_pass_config *config,
                                seq2seq_passes *passes) {
  const clattn_seq2seq_config *c = &model->config;
  KIT_REQUIRE(S >= 1 && S <= c->max_source, "S: got %lld, want 1..%lld",
              (long long)S, (long long)c->max_source);
  KIT_TRY(check_target(model, target, T));
  kit_pass_config encoder = *config, decoder = *config;
  encoder.batch = decoder.batch = 1;
  encoder.length = S;
  encoder.look = -1;
  decoder.length = T;
  KIT_TRY(seq2seq_passes_make(model, &encoder, &decoder, passes));
  KIT_TRY(seq2seq_begin(model, passes, queue, source, S, 1));
  KIT_REQUIRE(passes->encoder->t == S, "source: token %lld is pad, want none",
              (long long)passes->encoder->t);
  return CLATTN_OK;
}

/* ---- a layer's cross-attention ---------------------------------------------- */

static clattn_status look(clattn_seq2seq *model, clattn_queue *queue,
                          seq2seq_passes *passes, const int32_t *target,
                          int64_t T, int64_t layer, clattn_buffer *weights) {
  kit_pass *decoder = passes->decoder;
  KIT_TRY(seq2seq_encode(passes, queue));
  KIT_TRY(begin_target(model, decoder, queue, target, T));
  seq2seq_remember(passes);
  decoder->told[KIT_CROSS].weights = clattn_view_bhsd(
      weights, CLATTN_F32, 1, model->config.heads, T, passes->encoder->t);
  return kit_pass_layers(decoder, queue, layer + 1);
}

clattn_status clattn_seq2seq_attention(clattn_seq2seq *model,
                                       clattn_queue *queue,
                                       const int32_t *source, int64_t S,
                                       const int32_t *target, int64_t T,
                                       int64_t layer, float *weights) {
  KIT_REQUIRE(model != NULL, "model: got NULL, want a model");
  KIT_REQUIRE(weights != NULL, "weights: got NULL, want room");
  const clattn_seq2seq_config *c = &model->config;
  KIT_REQUIRE(layer >= 0 && layer < c->layers, "layer: got %lld, want 0..%lld",
              (long long)layer, (long long)c->layers - 1);
  const kit_pass_config config = {.look = layer};
  seq2seq_passes passes = {0};
  clattn_buffer *buffer = NULL;
  clattn_status status =
      begin_pair(model, queue, source, S, target, T, &config, &passes);
  /* S and T are known to be small only now. */
  const size_t bytes =
      status == CLATTN_OK ? (size_t)(c->heads * T * S) * sizeof *weights : 0;
  if (status == CLATTN_OK)
    status = clattn_buffer_create(model->params.context, model->params.device,
                                  bytes, &buffer);
  if (status == CLATTN_OK)
    status = look(model, queue, &passes, target, T, layer, buffer);
  if (status == CLATTN_OK)
    status = clattn_buffer_read(queue, buffer, 0, weights, bytes);
  clattn_buffer_destroy(buffer);
  seq2seq_passes_free(&passes);
  return status;
}

/* ---- everything ------------------------------------------------------------------ */

enum { WEIGHTS, QUERY, KEY, ENTROPY, DISTANCE, TOLD_KINDS };

/* What is told of a part, of one layer at a time. */
typedef struct told_memory {
  int64_t rows, keys;
  clattn_tensor views[TOLD_KINDS]; /* on the device; absent: not wanted */
  float *host[TOLD_KINDS];
} told_memory;

typedef struct watching {
  clattn_seq2seq *model;
  clattn_queue *queue;
  seq2seq_passes passes;
  told_memory parts[SEQ2SEQ_PARTS];
  seq2seq_watcher watcher;
  void *user;
} watching;

static clattn_status make_memory(const clattn_seq2seq *model, uint32_t watch,
                                 int64_t rows, int64_t keys,
                                 told_memory *memory) {
  const kit_params *params = &model->params;
  const int64_t H = model->config.heads, D = model->config.embed_dim / H;
  const struct {
    uint32_t watch;
    int64_t rows, cols;
  } kinds[TOLD_KINDS] = {[WEIGHTS] = {CLATTN_WATCH_ATTENTION, rows, keys},
                         [QUERY] = {CLATTN_WATCH_QUERY_KEY, rows, D},
                         [KEY] = {CLATTN_WATCH_QUERY_KEY, keys, D},
                         [ENTROPY] = {CLATTN_WATCH_STATISTICS, rows, 1},
                         [DISTANCE] = {CLATTN_WATCH_STATISTICS, rows, 1}};
  memory->rows = rows;
  memory->keys = keys;
  for (int i = 0; i < TOLD_KINDS; i++) {
    if ((watch & kinds[i].watch) == 0) continue;
    /* 2^16 heads, 2^14 tokens and 2^18 columns at most: this fits. */
    const size_t bytes =
        (size_t)(H * kinds[i].rows * kinds[i].cols) * sizeof(float);
    clattn_buffer *buffer = NULL;
    KIT_TRY(
        clattn_buffer_create(params->context, params->device, bytes, &buffer));
    memory->views[i] = clattn_view_bhsd(buffer, CLATTN_F32, 1, H, kinds[i].rows,
                                        kinds[i].cols);
    memory->host[i] = malloc(bytes);
    if (memory->host[i] == NULL) return KIT_OUT_OF_MEMORY("attention file");
  }
  return CLATTN_OK;
}

static void free_memory(told_memory *memory) {
  for (int i = 0; i < TOLD_KINDS; i++) {
    clattn_buffer_destroy(memory->views[i].buffer);
    free(memory->host[i]);
  }
}

static kit_told told_of(const told_memory *memory) {
  kit_told told = {.weights = memory->views[WEIGHTS],
                   .query = memory->views[QUERY],
                   .key = memory->views[KEY]};
  clattn_stats_init(&told.stats);
  told.stats.entropy = memory->views[ENTROPY];
  told.stats.distance = memory->views[DISTANCE];
  return told;
}

static clattn_status tell(watching *w, int part, int64_t layer) {
  const told_memory *memory = &w->parts[part];
  for (int i = 0; i < TOLD_KINDS; i++)
    if (memory->host[i] != NULL)
      KIT_TRY(clattn_buffer_read(w->queue, memory->views[i].buffer, 0,
                                 memory->host[i],
                                 clattn_buffer_size(memory->views[i].buffer)));
  const seq2seq_told told = {.part = part,
                             .layer = layer,
                             .rows = memory->rows,
                             .keys = memory->keys,
                             .weights = memory->host[WEIGHTS],
                             .query = memory->host[QUERY],
                             .key = memory->host[KEY],
                             .entropy = memory->host[ENTROPY],
                             .distance = memory->host[DISTANCE]};
  return w->watcher(w->user, &told);
}

static clattn_status watch_encoder(watching *w) {
  kit_pass *encoder = w->passes.encoder;
  encoder->told[KIT_SELF] = told_of(&w->parts[SEQ2SEQ_ENCODER]);
  KIT_TRY(kit_pass_embed(encoder, w->queue));
  for (int64_t l = 0; l < encoder->stack->layers; l++) {
    KIT_TRY(kit_pass_layer(encoder, w->queue, l));
    KIT_TRY(tell(w, SEQ2SEQ_ENCODER, l));
  }
  return kit_pass_last(encoder, w->queue);
}

static clattn_status watch_decoder(watching *w, const int32_t *target,
                                   int64_t T) {
  kit_pass *decoder = w->passes.decoder;
  KIT_TRY(begin_target(w->model, decoder, w->queue, target, T));
  seq2seq_remember(&w->passes);
  decoder->told[KIT_SELF] = told_of(&w->parts[SEQ2SEQ_DECODER]);
  decoder->told[KIT_CROSS] = told_of(&w->parts[SEQ2SEQ_CROSS]);
  KIT_TRY(kit_pass_embed(decoder, w->queue));
  for (int64_t l = 0; l < decoder->stack->layers; l++) {
    KIT_TRY(kit_pass_layer(decoder, w->queue, l));
    KIT_TRY(tell(w, SEQ2SEQ_DECODER, l));
    KIT_TRY(tell(w, SEQ2SEQ_CROSS, l));
  }
  return CLATTN_OK;
}

clattn_status seq2seq_watch(clattn_seq2seq *model, clattn_queue *queue,
                            const int32_t *source, int64_t S,
                            const int32_t *target, int64_t T, uint32_t watch,
                            seq2seq_watcher watcher, void *user) {
  watching w = {
      .model = model, .queue = queue, .watcher = watcher, .user = user};
  const kit_pass_config config = {
      .look = -1,
      .tell_weights = (watch & CLATTN_WATCH_ATTENTION) != 0,
      .tell_statistics = (watch & CLATTN_WATCH_STATISTICS) != 0};
  const int64_t sizes[SEQ2SEQ_PARTS][2] = {[SEQ2SEQ_ENCODER] = {S, S},
                                           [SEQ2SEQ_DECODER] = {T, T},
                                           [SEQ2SEQ_CROSS] = {T, S}};
  clattn_status status =
      begin_pair(model, queue, source, S, target, T, &config, &w.passes);
  for (int p = 0; p < SEQ2SEQ_PARTS && status == CLATTN_OK; p++)
    status = make_memory(model, watch, sizes[p][0], sizes[p][1], &w.parts[p]);
  if (status == CLATTN_OK) status = watch_encoder(&w);
  if (status == CLATTN_OK) status = watch_decoder(&w, target, T);
  for (int p = 0; p < SEQ2SEQ_PARTS; p++) free_memory(&w.parts[p]);
  seq2seq_passes_free(&w.passes);
  return status;
}
