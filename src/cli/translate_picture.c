/* translate_picture.c - cross-attention: the translation's characters by those of
 * the text. */
#include "translate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LABEL_BYTES = 8 };

static void put_label(const translator *t, int32_t id, char text[LABEL_BYTES]) {
  const char *token = "end";
  if (id >= TRANSLATE_MARKS)
    token = clattn_tokenizer_token(t->tokenizer, id - TRANSLATE_MARKS, NULL);
  if (token == NULL) token = "\ufffd"; /* a number that no token has */
  if (strcmp(token, " ") == 0) token = "\u2423";
  snprintf(text, LABEL_BYTES, "%s", token);
}

/* One head [T, S], or the mean of all, of weights [heads, T, S]. */
static void choose_head(const translate_options *o, const translator *t,
                        int64_t cells, const float *weights, float *matrix) {
  const int64_t first = o->head < 0 ? 0 : o->head;
  const int64_t heads = o->head < 0 ? t->config.heads : 1;
  for (int64_t i = 0; i < cells; i++) {
    double sum = 0;
    for (int64_t h = first; h < first + heads; h++)
      sum += (double)weights[h * cells + i];
    matrix[i] = (float)(sum / (double)heads);
  }
}

static bool draw(const translate_options *o, const translator *t,
                 const float *matrix, const int32_t *source, int64_t S,
                 const int32_t *target, int64_t T) {
  char(*texts)[LABEL_BYTES] = calloc((size_t)(S + T), sizeof *texts);
  const char **labels = calloc((size_t)(S + T), sizeof *labels);
  bool done = texts != NULL && labels != NULL;
  if (!done) cli_error("no memory for the picture");
  for (int64_t i = 0; done && i < S + T; i++) {
    put_label(t, i < S ? source[i] : target[i - S], texts[i]);
    labels[i] = texts[i];
  }
  if (done) {
    clattn_kit_heatmap_config config;
    clattn_kit_heatmap_config_init(&config);
    config.by_row = true;
    config.style = cli_colors(o->color) ? CLATTN_KIT_COLORS : CLATTN_KIT_SHADES;
    done = clattn_kit_heatmap(&config, matrix, T, S, S, labels + S, labels,
                              stdout) == CLATTN_OK;
    if (!done) cli_error("%s", clattn_error_message());
  }
  free(texts);
  free(labels);
  return done;
}

bool translate_show(const translate_options *o, translator *t,
                    const int32_t *source, const int32_t *target) {
  int64_t S = 0;
  while (S < t->config.max_source && source[S] != t->config.pad) S++;
  int64_t T = translator_length(t, target);
  if (T < t->config.max_target) T++; /* the end */
  const int64_t layer = o->layer < 0 ? t->config.layers - 1 : o->layer;
  float *weights = calloc((size_t)(t->config.heads * T * S), sizeof *weights);
  float *matrix = calloc((size_t)(T * S), sizeof *matrix);
  bool done = weights != NULL && matrix != NULL;
  if (!done) cli_error("no memory for the picture");
  if (done && clattn_seq2seq_attention(t->model, t->queue, source, S, target, T,
                                       layer, weights) != CLATTN_OK) {
    cli_error("%s", clattn_error_message());
    done = false;
  }
  if (done) {
    cli_put_head(layer, t->config.layers, o->head, t->config.heads);
    printf(" (the translation's rows attend to the text's columns)\n\n");
    choose_head(o, t, T * S, weights, matrix);
    done = draw(o, t, matrix, source, S, target, T);
  }
  free(weights);
  free(matrix);
  return done;
}
