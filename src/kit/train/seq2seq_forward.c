/* seq2seq_forward.c - rows of tokens to the encoder, its memory to the decoder. */
#include <stdlib.h>
#include <string.h>

#include "seq2seq.h"

/* ---- rows of tokens ------------------------------------------------------ */

clattn_status seq2seq_check_texts(const clattn_seq2seq *model, const char *name,
                                  const int32_t *texts, int64_t n,
                                  int64_t batch, int64_t least,
                                  int32_t *lengths, int64_t *longest) {
  const clattn_seq2seq_config *c = &model->config;
  *longest = 0;
  for (int64_t b = 0; b < batch; b++) {
    const int32_t *text = texts + b * n;
    int64_t length = 0;
    while (length < n && text[length] != c->pad) length++;
    KIT_REQUIRE(length >= least,
                "%s: text %lld has %lld tokens before pad, want at least %lld",
                name, (long long)b, (long long)length, (long long)least);
    for (int64_t i = 0; i < length; i++)
      KIT_REQUIRE(text[i] >= 0 && text[i] < c->vocab_size &&
                      text[i] != c->begin && text[i] != c->end,
                  "%s: token %lld of text %lld: got %ld, want 0..%lld, and "
                  "neither begin nor end",
                  name, (long long)i, (long long)b, (long)text[i],
                  (long long)c->vocab_size - 1);
    for (int64_t i = length; i < n; i++)
      KIT_REQUIRE(text[i] == c->pad,
                  "%s: token %lld of text %lld: got %ld behind padding, want "
                  "pad (%ld)",
                  name, (long long)i, (long long)b, (long)text[i],
                  (long)c->pad);
    lengths[b] = (int32_t)length;
    if (length > *longest) *longest = length;
  }
  return CLATTN_OK;
}

/* ---- both stacks --------------------------------------------------------- */

clattn_status seq2seq_passes_make(const clattn_seq2seq *model,
                                  const kit_pass_config *encoder,
                                  const kit_pass_config *decoder,
                                  seq2seq_passes *passes) {
  KIT_TRY(kit_pass_create(&model->encoder, encoder, &passes->encoder));
  KIT_TRY(kit_pass_create(&model->decoder, decoder, &passes->decoder));
  const size_t batch = (size_t)encoder->batch;
  KIT_TRY(clattn_buffer_create(model->params.context, model->params.device,
                               batch * sizeof(int32_t), &passes->lengths));
  passes->ids = calloc(batch * (size_t)encoder->length, sizeof *passes->ids);
  passes->counts = calloc(batch, sizeof *passes->counts);
  return passes->ids == NULL || passes->counts == NULL
             ? KIT_OUT_OF_MEMORY("sources")
             : CLATTN_OK;
}

void seq2seq_passes_free(seq2seq_passes *passes) {
  kit_pass_destroy(passes->encoder);
  kit_pass_destroy(passes->decoder);
  clattn_buffer_destroy(passes->lengths);
  free(passes->ids);
  free(passes->counts);
}

clattn_status seq2seq_begin(const clattn_seq2seq *model, seq2seq_passes *passes,
                            clattn_queue *queue, const int32_t *sources,
                            int64_t S, int64_t batch) {
  kit_pass *encoder = passes->encoder;
  KIT_REQUIRE(queue != NULL, "queue: got NULL, want a queue");
  KIT_REQUIRE(sources != NULL, "sources: got NULL, want tokens");
  KIT_REQUIRE(batch >= 1 && batch <= encoder->config.batch,
              "batch: got %lld, want 1..%lld", (long long)batch,
              (long long)encoder->config.batch);
  KIT_REQUIRE(S >= 1 && S <= encoder->config.length,
              "S: got %lld, want 1..%lld", (long long)S,
              (long long)encoder->config.length);
  int64_t longest;
  KIT_TRY(seq2seq_check_texts(model, "sources", sources, S, batch, 1,
                              passes->counts, &longest));
  for (int64_t b = 0; b < batch; b++)
    memcpy(passes->ids + b * longest, sources + b * S,
           (size_t)longest * sizeof *sources);
  KIT_TRY(kit_pass_begin(encoder, queue, passes->ids, NULL, batch, longest));
  KIT_TRY(clattn_buffer_write(queue, passes->lengths, 0, passes->counts,
                              (size_t)batch * sizeof *passes->counts));
  encoder->lengths =
      clattn_view_bhsd(passes->lengths, CLATTN_I32, batch, 1, 1, 1);
  return CLATTN_OK;
}

clattn_status seq2seq_encode(seq2seq_passes *passes, clattn_queue *queue) {
  KIT_TRY(
      kit_pass_layers(passes->encoder, queue, passes->encoder->stack->layers));
  return kit_pass_last(passes->encoder, queue);
}

void seq2seq_remember(seq2seq_passes *passes) {
  passes->decoder->memory = kit_act_view(passes->encoder, ACT_LNF, 0);
  passes->decoder->lengths = passes->encoder->lengths;
}
