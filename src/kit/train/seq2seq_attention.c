/* seq2seq_attention.c - what a target's tokens attend to in the source. */
#include <stdlib.h>
#include <string.h>

#include "seq2seq.h"

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
  KIT_REQUIRE(S >= 1 && S <= c->max_source, "S: got %lld, want 1..%lld",
              (long long)S, (long long)c->max_source);
  KIT_TRY(check_target(model, target, T));
  const kit_pass_config encoder = {.batch = 1, .length = S, .look = -1};
  const kit_pass_config decoder = {.batch = 1, .length = T, .look = layer};
  const size_t bytes = (size_t)(c->heads * T * S) * sizeof *weights;
  seq2seq_passes passes = {0};
  clattn_buffer *buffer = NULL;
  clattn_status status =
      seq2seq_passes_make(model, &encoder, &decoder, &passes);
  if (status == CLATTN_OK)
    status = clattn_buffer_create(model->params.context, model->params.device,
                                  bytes, &buffer);
  if (status == CLATTN_OK)
    status = seq2seq_begin(model, &passes, queue, source, S, 1);
  if (status == CLATTN_OK && passes.encoder->t != S)
    status = clattn_set_error(CLATTN_INVALID_ARGUMENT,
                              "source: token %lld is pad, want none",
                              (long long)passes.encoder->t);
  if (status == CLATTN_OK) status = seq2seq_encode(&passes, queue);
  if (status == CLATTN_OK)
    status = begin_target(model, passes.decoder, queue, target, T);
  if (status == CLATTN_OK) {
    seq2seq_remember(&passes);
    passes.decoder->weights =
        clattn_view_bhsd(buffer, CLATTN_F32, 1, c->heads, T, S);
    status = kit_pass_layers(passes.decoder, queue, layer + 1);
  }
  if (status == CLATTN_OK)
    status = clattn_buffer_read(queue, buffer, 0, weights, bytes);
  clattn_buffer_destroy(buffer);
  seq2seq_passes_free(&passes);
  return status;
}
