/* gpt_decode.c - one token after the other, with a window that slides. */
#include <stdlib.h>
#include <string.h>

#include "gpt.h"

struct clattn_gpt_decoder {
  clattn_gpt *gpt;
  kit_pass *pass;
  clattn_kv_cache **caches; /* [layers], or NULL: no cache */
  int32_t *ids;             /* [context]: the tokens it sees */
  int64_t count;            /* of them */
  int64_t cached;           /* of them in the cache */
};

static clattn_status make(clattn_gpt_decoder *made, bool cache) {
  const clattn_gpt *gpt = made->gpt;
  const clattn_gpt_config *c = &gpt->config;
  made->ids = calloc((size_t)c->context, sizeof *made->ids);
  if (made->ids == NULL) return KIT_OUT_OF_MEMORY("decoder");
  const kit_pass_config pass = {
      .batch = 1, .length = c->context, .last_row = true, .look = -1};
  KIT_TRY(kit_pass_create(&gpt->stack, &pass, &made->pass));
  if (!cache) return CLATTN_OK;
  made->caches = calloc((size_t)c->layers, sizeof(clattn_kv_cache *));
  if (made->caches == NULL) return KIT_OUT_OF_MEMORY("decoder");
  clattn_kv_cache_config config;
  clattn_kv_cache_config_init(&config);
  config.batch = 1;
  config.kv_heads = c->heads;
  config.capacity = c->context;
  config.qk_dim = config.v_dim = c->embed_dim / c->heads;
  for (int64_t l = 0; l < c->layers; l++)
    KIT_TRY(clattn_kv_cache_create(gpt->params.context, gpt->params.device,
                                   &config, &made->caches[l]));
  return CLATTN_OK;
}

clattn_status clattn_gpt_decoder_create(clattn_gpt *gpt, clattn_queue *queue,
                                        bool cache,
                                        clattn_gpt_decoder **decoder) {
  KIT_REQUIRE(decoder != NULL, "decoder: got NULL, want a place");
  *decoder = NULL;
  KIT_REQUIRE(gpt != NULL, "gpt: got NULL, want a model");
  KIT_REQUIRE(queue != NULL, "queue: got NULL, want a queue");
  clattn_gpt_decoder *made = calloc(1, sizeof *made);
  if (made == NULL) return KIT_OUT_OF_MEMORY("decoder");
  made->gpt = gpt;
  gpt->users++;
  const clattn_status status = make(made, cache);
  if (status != CLATTN_OK) {
    clattn_gpt_decoder_destroy(made);
    return status;
  }
  *decoder = made;
  return CLATTN_OK;
}

void clattn_gpt_decoder_destroy(clattn_gpt_decoder *decoder) {
  if (decoder == NULL) return;
  kit_pass_destroy(decoder->pass);
  for (int64_t l = 0;
       decoder->caches != NULL && l < decoder->gpt->config.layers; l++)
    clattn_kv_cache_destroy(decoder->caches[l]);
  free(decoder->caches);
  free(decoder->ids);
  clattn_gpt_destroy(decoder->gpt);
  free(decoder);
}

/* Empties the cache; the tokens stay. */
static clattn_status empty_cache(clattn_gpt_decoder *decoder,
                                 clattn_queue *queue) {
  const int64_t none = 0;
  for (int64_t l = 0;
       decoder->caches != NULL && l < decoder->gpt->config.layers; l++)
    KIT_TRY(clattn_kv_cache_truncate(decoder->caches[l], queue, &none));
  decoder->cached = 0;
  return CLATTN_OK;
}

clattn_status clattn_gpt_decoder_reset(clattn_gpt_decoder *decoder,
                                       clattn_queue *queue) {
  KIT_REQUIRE(decoder != NULL, "decoder: got NULL, want a decoder");
  KIT_REQUIRE(queue != NULL, "queue: got NULL, want a queue");
  decoder->count = 0;
  return empty_cache(decoder, queue);
}

/* One more token; true if the window slid for it. */
static bool push(clattn_gpt_decoder *decoder, int32_t id) {
  const int64_t context = decoder->gpt->config.context;
  const bool slides = decoder->count == context;
  if (slides) {
    const int64_t keep = context / 2;
    memmove(decoder->ids, decoder->ids + context - keep,
            (size_t)keep * sizeof *decoder->ids);
    decoder->count = keep;
  }
  decoder->ids[decoder->count++] = id;
  return slides;
}

clattn_status clattn_gpt_decoder_read(clattn_gpt_decoder *decoder,
                                      clattn_queue *queue, const int32_t *ids,
                                      int64_t n, float *logits) {
  KIT_REQUIRE(decoder != NULL, "decoder: got NULL, want a decoder");
  KIT_REQUIRE(queue != NULL, "queue: got NULL, want a queue");
  KIT_REQUIRE(n >= 1, "n: got %lld, want >= 1", (long long)n);
  KIT_REQUIRE(logits != NULL, "logits: got NULL, want room");
  const clattn_gpt_config *c = &decoder->gpt->config;
  kit_pass *pass = decoder->pass;
  KIT_TRY(kit_check_ids("ids", ids, n, c->vocab_size, false));
  bool anew = false;
  for (int64_t i = 0; i < n; i++) anew = push(decoder, ids[i]) || anew;
  if (anew) KIT_TRY(empty_cache(decoder, queue));
  const int64_t first = decoder->cached; /* 0 without a cache */
  KIT_TRY(kit_pass_begin(pass, queue, decoder->ids + first, NULL, 1,
                         decoder->count - first));
  pass->caches = decoder->caches;
  pass->position = first;
  KIT_TRY(kit_pass_layers(pass, queue, c->layers));
  KIT_TRY(kit_pass_last(pass, queue));
  if (decoder->caches != NULL) decoder->cached = decoder->count;
  return clattn_buffer_read(queue, pass->acts[ACT_LOGITS], 0, logits,
                            (size_t)c->vocab_size * sizeof *logits);
}

int64_t clattn_gpt_decoder_window(const clattn_gpt_decoder *decoder,
                                  const int32_t **ids) {
  if (ids != NULL) *ids = decoder == NULL ? NULL : decoder->ids;
  return decoder == NULL ? 0 : decoder->count;
}
