/* Train an encoder-decoder to write words backwards, here and now, and look at
 * what each letter it writes attends to in the word: the last one first, and so on.
 *
 * Letters are tokens 3..28; 0, 1 and 2 are pad, begin and end. */
#include <stdio.h>

#include "check.h"
#include "clattn_nn.h"
#include "clattn_seq2seq.h"

enum {
  LETTERS = 26,
  FIRST = 3,
  LENGTH = 6,
  HEADS = 2,
  BATCH = 32,
  STEPS = 600
};

static int random_below(unsigned *state, int n) {
  *state = *state * 1664525u + 1013904223u;
  return (int)(*state >> 16) % n;
}

/* A random word, and the same backwards. */
static void draw(unsigned *state, int32_t word[LENGTH],
                 int32_t backwards[LENGTH]) {
  for (int i = 0; i < LENGTH; i++)
    word[i] = backwards[LENGTH - 1 - i] = FIRST + random_below(state, LETTERS);
}

int main(void) {
  clattn_context *context;
  clattn_queue *queue;
  CHECK(clattn_context_create(NULL, &context));
  CHECK(clattn_queue_create(context, CLATTN_DEFAULT_DEVICE, &queue));

  clattn_seq2seq_config config;
  clattn_seq2seq_config_init(&config);
  config.vocab_size = FIRST + LETTERS;
  config.max_source = LENGTH, config.max_target = LENGTH + 1;
  config.layers = 1, config.heads = HEADS, config.embed_dim = 32;
  clattn_seq2seq *model;
  CHECK(clattn_seq2seq_create(context, CLATTN_DEFAULT_DEVICE, queue, &config, 1,
                              &model));
  clattn_seq2seq_trainer_config training;
  clattn_seq2seq_trainer_config_init(&training);
  training.batch = BATCH;
  clattn_seq2seq_trainer *trainer;
  CHECK(clattn_seq2seq_trainer_create(model, queue, &training, &trainer));

  printf("%lld parameters\n", (long long)clattn_seq2seq_parameters(model));
  unsigned state = 1;
  for (int step = 0; step < STEPS; step++) {
    int32_t words[BATCH][LENGTH], backwards[BATCH][LENGTH];
    float loss;
    for (int b = 0; b < BATCH; b++) draw(&state, words[b], backwards[b]);
    CHECK(clattn_seq2seq_trainer_step(
        trainer, queue, words[0], LENGTH, backwards[0], LENGTH, BATCH,
        clattn_nn_cosine_lr(step, 20, STEPS, 5e-3f, 1e-4f), &loss));
    if (step % 100 == 0 || step == STEPS - 1)
      printf("step %3d: loss %.3f\n", step + 1, (double)loss);
  }

  /* A word it has hardly seen: there are 26^6 of them. */
  const char *text = "memory";
  int32_t word[LENGTH], target[LENGTH + 1];
  for (int i = 0; i < LENGTH; i++) word[i] = FIRST + text[i] - 'a';
  CHECK(clattn_seq2seq_translate(model, queue, word, LENGTH, 1, NULL, target,
                                 NULL));
  char letters[2][LENGTH][2]; /* of the word, of what was written */
  const char *columns[LENGTH], *rows[LENGTH];
  int length = 0, right = 0;
  for (; length < LENGTH && target[length] != config.end; length++) {
    snprintf(letters[1][length], 2, "%c", 'a' + target[length] - FIRST);
    rows[length] = letters[1][length];
    right += target[length] == word[LENGTH - 1 - length];
  }
  for (int i = 0; i < LENGTH; i++) {
    snprintf(letters[0][i], 2, "%c", text[i]);
    columns[i] = letters[0][i];
  }

  /* What each letter looked at: weights [heads, length, LENGTH], their mean. */
  float weights[HEADS * LENGTH * LENGTH], mean[LENGTH * LENGTH];
  const int cells = length * LENGTH;
  CHECK(clattn_seq2seq_attention(model, queue, word, LENGTH, target, length, 0,
                                 weights));
  for (int i = 0; i < cells; i++)
    mean[i] = (weights[i] + weights[cells + i]) / HEADS;
  printf("%s backwards:\n\n", text);
  CHECK(clattn_kit_heatmap(NULL, mean, length, LENGTH, LENGTH, rows, columns,
                           stdout));

  clattn_seq2seq_trainer_destroy(trainer);
  clattn_seq2seq_destroy(model);
  clattn_queue_destroy(queue);
  clattn_context_destroy(context);
  return right == LENGTH ? 0 : 1;
}
