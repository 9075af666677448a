/* A pre-trained model reads a sentence; its heads tell where they look.
 *
 *   watch_model [MODEL [TEXT]]
 *
 * MODEL is whatever clattn_model_load takes: a folder with config.json, weights and
 * tokenizer, a .gguf file, or as here a file of `clattn train`. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "clattn_model.h"

/* Called layer after layer: the most decided head of each, by its mean entropy. */
static clattn_status look(void *user, const clattn_model_layer *layer) {
  (void)user;
  const int64_t rows = layer->length; /* entropy [1, heads, rows] */
  int64_t best = 0;
  double lowest = INFINITY, distance = 0;
  for (int64_t h = 0; h < layer->heads; h++) {
    double entropy = 0, far = 0;
    for (int64_t i = 0; i < rows; i++) {
      entropy += layer->entropy[h * rows + i] / (double)rows;
      far += layer->distance[h * rows + i] / (double)rows;
    }
    if (entropy < lowest) best = h, lowest = entropy, distance = far;
  }
  printf("layer %lld: head %lld, entropy %.2f nats, %.1f tokens away\n",
         (long long)layer->layer, (long long)best, lowest, distance);
  return CLATTN_OK;
}

int main(int argc, char **argv) {
  const char *path = argc > 1 ? argv[1] : "data/northanger.safetensors";
  const char *text = argc > 2 ? argv[2] : "Catherine was delighted";
  clattn_context *context;
  clattn_queue *queue;
  clattn_tokenizer *tokenizer;
  clattn_model *model;
  CHECK(clattn_context_create(NULL, &context));
  CHECK(clattn_queue_create(context, CLATTN_DEFAULT_DEVICE, &queue));
  CHECK(clattn_tokenizer_load(path, NULL, &tokenizer));
  CHECK(clattn_model_load(context, CLATTN_DEFAULT_DEVICE, queue, path, NULL,
                          &model));
  CHECK(clattn_model_check_tokenizer(model, tokenizer));

  clattn_encoding tokens;
  CHECK(clattn_tokenizer_encode(tokenizer, text, strlen(text), NULL, &tokens));
  clattn_model_config config = {.struct_size = sizeof config};
  CHECK(clattn_model_get_config(model, &config));
  printf("%s: %lld layers of %lld heads; %lld tokens\n", config.name,
         (long long)config.layers, (long long)config.heads,
         (long long)tokens.n);

  clattn_model_input input;
  clattn_model_input_init(&input);
  input.length = tokens.n;
  input.ids = tokens.ids;
  clattn_model_output output;
  clattn_model_output_init(&output);
  output.watch = CLATTN_WATCH_STATISTICS;
  output.on_layer = look;
  float *logits = malloc((size_t)config.vocab_size * sizeof *logits);
  if (config.head) output.logits = logits; /* [1, vocab_size] */
  CHECK(clattn_model_run(model, queue, &input, &output));

  if (config.head) {
    int32_t next = 0;
    for (int32_t id = 1; id < config.vocab_size; id++)
      if (logits[id] > logits[next]) next = id;
    printf("next might be '%s'\n",
           clattn_tokenizer_token(tokenizer, next, NULL));
  }
  free(logits);
  clattn_encoding_free(&tokens);
  clattn_model_destroy(model);
  clattn_tokenizer_destroy(tokenizer);
  clattn_queue_destroy(queue);
  clattn_context_destroy(context);
  return 0;
}
