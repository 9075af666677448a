/* Train a very small GPT on a sentence, here and now, and let it go on from two
 * words: the whole way from text to text through the API.
 *
 * The training text holds the sentence 40 times; a window is 32 characters of it,
 * and the targets are the same characters, one further. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clattn_gpt.h"
#include "clattn_nn.h"
#include "clattn_text.h"

#define CHECK(call)                                                            \
  do {                                                                         \
    if ((call) != CLATTN_OK) {                                                 \
      fprintf(stderr, "%s: %s\n", #call, clattn_error_message());              \
      exit(1);                                                                 \
    }                                                                          \
  } while (0)

enum { LENGTH = 32, BATCH = 4, STEPS = 200 };

int main(void) {
  const char *sentence = "the query asks, the key answers, the value is told. ";
  char text[4096] = "";
  for (int i = 0; i < 40; i++) strcat(text, sentence);

  clattn_context *context;
  clattn_queue *queue;
  CHECK(clattn_context_create(NULL, &context));
  CHECK(clattn_queue_create(context, CLATTN_DEFAULT_DEVICE, &queue));

  /* Text to tokens. */
  clattn_tokenizer *tokenizer;
  clattn_encoding tokens;
  CHECK(clattn_tokenizer_from_text(CLATTN_TOKENIZER_CHARS, text, strlen(text),
                                   &tokenizer));
  CHECK(clattn_tokenizer_encode(tokenizer, text, strlen(text), NULL, &tokens));

  /* A model and what trains it. */
  clattn_gpt_config config;
  clattn_gpt_config_init(&config);
  config.vocab_size = clattn_tokenizer_size(tokenizer);
  config.context = LENGTH;
  config.layers = 1, config.heads = 2, config.embed_dim = 32;
  clattn_gpt *gpt;
  CHECK(clattn_gpt_create(context, CLATTN_DEFAULT_DEVICE, queue, &config, 1,
                          &gpt));
  clattn_gpt_trainer_config training;
  clattn_gpt_trainer_config_init(&training);
  training.batch = BATCH;
  clattn_gpt_trainer *trainer;
  CHECK(clattn_gpt_trainer_create(gpt, queue, &training, &trainer));

  printf("%lld parameters\n", (long long)clattn_gpt_parameters(gpt));
  for (int step = 0; step < STEPS; step++) {
    int32_t inputs[BATCH][LENGTH], targets[BATCH][LENGTH];
    for (int b = 0; b < BATCH; b++) {
      const int64_t at = (step * 37 + b * 911) % (tokens.n - LENGTH - 1);
      memcpy(inputs[b], tokens.ids + at, sizeof inputs[b]);
      memcpy(targets[b], tokens.ids + at + 1, sizeof targets[b]);
    }
    float loss;
    CHECK(clattn_gpt_trainer_gradients(trainer, queue, inputs[0], targets[0],
                                       BATCH, LENGTH, &loss));
    CHECK(clattn_gpt_trainer_update(
        trainer, queue, clattn_nn_cosine_lr(step, 10, STEPS, 1e-2f, 1e-3f),
        NULL));
    if (step % 50 == 0 || step == STEPS - 1)
      printf("step %3d: loss %.3f\n", step + 1, (double)loss);
  }

  /* Ask it, always taking the likeliest character. */
  clattn_gpt_decoder *decoder;
  CHECK(clattn_gpt_decoder_create(gpt, queue, true, &decoder));
  const char *prompt = "the key";
  float *logits = malloc((size_t)config.vocab_size * sizeof *logits);
  clattn_encoding read;
  if (!logits) return 1;
  CHECK(
      clattn_tokenizer_encode(tokenizer, prompt, strlen(prompt), NULL, &read));
  printf("%s", prompt);
  for (int i = 0; i < 60; i++) {
    CHECK(clattn_gpt_decoder_read(decoder, queue, read.ids, read.n, logits));
    int32_t best = 0;
    for (int32_t v = 1; v < config.vocab_size; v++)
      if (logits[v] > logits[best]) best = v;
    printf("%s", clattn_tokenizer_token(tokenizer, best, NULL));
    read.ids[0] = best, read.n = 1;
  }
  printf("\n");

  free(logits);
  clattn_encoding_free(&read);
  clattn_encoding_free(&tokens);
  clattn_gpt_decoder_destroy(decoder);
  clattn_gpt_trainer_destroy(trainer);
  clattn_gpt_destroy(gpt);
  clattn_tokenizer_destroy(tokenizer);
  clattn_queue_destroy(queue);
  clattn_context_destroy(context);
  return 0;
}
