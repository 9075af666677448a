/* model_decoder.c - token after token, with a cache of keys and values a layer. */
#include <stdlib.h>

#include "model.h"

struct clattn_model_decoder {
  clattn_model *model;
  model_pass *pass;
  clattn_kv_cache **caches; /* [layers] */
  int64_t capacity, length;
};

static clattn_status make(clattn_model_decoder *made) {
  clattn_model *model = made->model;
  const clattn_model_config *c = &model->spec.config;
  KIT_TRY(model_pass_create(model, &made->pass));
  made->caches = calloc((size_t)c->layers, sizeof(clattn_kv_cache *));
  if (made->caches == NULL) return KIT_OUT_OF_MEMORY("decoder");
  clattn_kv_cache_config config;
  clattn_kv_cache_config_init(&config);
  config.batch = 1;
  config.kv_heads = c->kv_heads;
  config.capacity = made->capacity;
  config.qk_dim = config.v_dim = c->head_dim;
  for (int64_t l = 0; l < c->layers; l++)
    KIT_TRY(clattn_kv_cache_create(model->context, model->device, &config,
                                   &made->caches[l]));
  return model_attention(model, 0, &made->pass->mha);
}

clattn_status clattn_model_decoder_create(clattn_model *model,
                                          clattn_queue *queue, int64_t capacity,
                                          clattn_model_decoder **decoder) {
  KIT_REQUIRE(decoder != NULL, "decoder: got NULL, want a place");
  *decoder = NULL;
  KIT_REQUIRE(model != NULL, "model: got NULL, want a model");
  KIT_REQUIRE(queue != NULL, "queue: got NULL, want a queue");
  const clattn_model_config *c = &model->spec.config;
  if (!c->causal)
    return clattn_set_error(CLATTN_UNSUPPORTED,
                            "model: a %s is not causal, it does not decode",
                            c->name);
  KIT_REQUIRE(capacity >= 0 && capacity <= c->positions,
              "capacity: got %lld, want 0..%lld, the model's positions",
              (long long)capacity, (long long)c->positions);
  clattn_model_decoder *made = calloc(1, sizeof *made);
  if (made == NULL) return KIT_OUT_OF_MEMORY("decoder");
  made->model = model;
  model->users++;
  made->capacity = capacity == 0 ? c->positions : capacity;
  const clattn_status status = make(made);
  if (status != CLATTN_OK) {
    clattn_model_decoder_destroy(made);
    return status;
  }
  *decoder = made;
  return CLATTN_OK;
}

void clattn_model_decoder_destroy(clattn_model_decoder *decoder) {
  if (decoder == NULL) return;
  const int64_t layers = decoder->model->spec.config.layers;
  for (int64_t l = 0; decoder->caches != NULL && l < layers; l++)
    clattn_kv_cache_destroy(decoder->caches[l]);
  free(decoder->caches);
  model_pass_destroy(decoder->pass);
  clattn_model_destroy(decoder->model);
  free(decoder);
}

static clattn_status truncate(clattn_model_decoder *decoder,
                              clattn_queue *queue, int64_t n) {
  for (int64_t l = 0; l < decoder->model->spec.config.layers; l++)
    if (clattn_kv_cache_length(decoder->caches[l], 0) > n)
      KIT_TRY(clattn_kv_cache_truncate(decoder->caches[l], queue, &n));
  decoder->length = n;
  return CLATTN_OK;
}

/* positions [n] */
static clattn_status read_tokens(clattn_model_decoder *decoder,
                                 clattn_queue *queue, const int32_t *ids,
                                 const int32_t *positions, int64_t n,
                                 float *logits) {
  model_pass *pass = decoder->pass;
  const model_group group = {.count = 1, .length = n};
  const model_upload upload = {.ids = ids,
                               .positions = positions,
                               .rows = n,
                               .groups = &group,
                               .n_groups = 1};
  const int32_t last = (int32_t)(n - 1);
  KIT_TRY(model_pass_begin(pass, queue, &upload));
  pass->caches = (clattn_kv_cache *const *)decoder->caches;
  KIT_TRY(model_embed(pass, queue));
  for (int64_t l = 0; l < decoder->model->spec.config.layers; l++)
    KIT_TRY(model_layer_forward(pass, queue, l));
  return model_logits_of(pass, queue, &last, 1, logits);
}

clattn_status clattn_model_decoder_read(clattn_model_decoder *decoder,
                                        clattn_queue *queue, const int32_t *ids,
                                        int64_t n, float *logits) {
  KIT_REQUIRE(decoder != NULL, "decoder: got NULL, want a decoder");
  KIT_REQUIRE(queue != NULL, "queue: got NULL, want a queue");
  KIT_REQUIRE(ids != NULL, "ids: got NULL, want tokens");
  KIT_REQUIRE(logits != NULL, "logits: got NULL, want room");
  KIT_REQUIRE(n >= 1, "n: got %lld, want >= 1", (long long)n);
  KIT_REQUIRE(n <= decoder->capacity - decoder->length,
              "n: got %lld tokens behind %lld, want at most %lld in all",
              (long long)n, (long long)decoder->length,
              (long long)decoder->capacity);
  const int64_t V = decoder->model->spec.config.vocab_size;
  for (int64_t i = 0; i < n; i++)
    KIT_REQUIRE(ids[i] >= 0 && ids[i] < V, "ids[%lld]: got %ld, want 0..%lld",
                (long long)i, (long)ids[i], (long long)V - 1);
  int32_t *positions = calloc((size_t)n, sizeof *positions);
  if (positions == NULL) return KIT_OUT_OF_MEMORY("decoder");
  for (int64_t i = 0; i < n; i++) positions[i] = (int32_t)(decoder->length + i);
  const clattn_status status =
      read_tokens(decoder, queue, ids, positions, n, logits);
  free(positions);
  if (status == CLATTN_OK) {
    decoder->length += n;
    return CLATTN_OK;
  }
  /* Some layers may have what others have not; the first message counts. */
  char message[512];
  snprintf(message, sizeof message, "%s", clattn_error_message());
  truncate(decoder, queue, decoder->length);
  return clattn_set_error(status, "%s", message);
}

int64_t clattn_model_decoder_length(const clattn_model_decoder *decoder) {
  return decoder == NULL ? 0 : decoder->length;
}

clattn_status clattn_model_decoder_truncate(clattn_model_decoder *decoder,
                                            clattn_queue *queue, int64_t n) {
  KIT_REQUIRE(decoder != NULL, "decoder: got NULL, want a decoder");
  KIT_REQUIRE(queue != NULL, "queue: got NULL, want a queue");
  KIT_REQUIRE(n >= 0 && n <= decoder->length, "n: got %lld, want 0..%lld",
              (long long)n, (long long)decoder->length);
  return truncate(decoder, queue, n);
}
