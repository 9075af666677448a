/* translate.h - what the sources of `clattn translate` share. */
#ifndef CLATTN_SRC_CLI_TRANSLATE_H
#define CLATTN_SRC_CLI_TRANSLATE_H

#include "clattn_gpt.h"
#include "clattn_seq2seq.h"
#include "clattn_text.h"
#include "cli.h"
#include "dates.h"

typedef struct translate_options {
  const char *device, *model; /* model: to read; NULL with --train */
  char **texts;
  int n_texts;
  clattn_seq2seq_search search;
  int64_t evaluate, pairs; /* how many; 0: none */
  bool attention;
  int64_t layer, head; /* -1: the last, the mean of all */
  int color;
  const char *training; /* an option of training that was given, or NULL */
  bool train;
  const char *out;
  clattn_dtype dtype;
  int64_t layers, heads, embed, batch, steps, eval_every, seed;
  double lr, dropout;
} translate_options;

/* ---- the model with its language (translate_model.c) --------------------- */

typedef struct translator {
  clattn_context *context;
  int device;
  clattn_queue *queue;
  clattn_seq2seq *model;
  clattn_seq2seq_config config;
  clattn_tokenizer
      *tokenizer; /* characters, numbered from TRANSLATE_MARKS on */
} translator;

enum { TRANSLATE_MARKS = 3 }; /* pad, begin and end */

bool translator_load(const translate_options *o, translator *t);
/* Untrained, for dates. */
bool translator_create(const translate_options *o, translator *t);
bool translator_save(const translate_options *o, const translator *t);
void translator_free(translator *t);
/* The tokens of a text [width], padded; false after a message that begins with
 * `name`. */
bool translator_encode(const translator *t, const char *name, const char *text,
                       int64_t width, int32_t *ids);
/* The text of a target [max_target], to free(); NULL after a message. */
char *translator_decode(const translator *t, const int32_t *target);
/* Tokens of a target, without its end. */
int64_t translator_length(const translator *t, const int32_t *target);

/* How many of n held-out dates become the right ones; of the first `shown` others
 * prints what became of them. */
bool translator_evaluate(translator *t, const clattn_seq2seq_search *search,
                         uint32_t seed, int64_t n, int64_t shown,
                         int64_t *right);

/* ---- the picture (translate_picture.c) ----------------------------------- */

bool translate_show(const translate_options *o, translator *t,
                    const int32_t *source, const int32_t *target);

/* ---- training (translate_train.c) ---------------------------------------- */

int translate_train(const translate_options *o);

#endif
