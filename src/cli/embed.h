/* embed.h - the parts of clattn embed: how a model wants its sentences, and
 * embeddings of many of them. */
#ifndef CLATTN_SRC_CLI_EMBED_H
#define CLATTN_SRC_CLI_EMBED_H

#include "pretrained.h"

/* ---- settings (embed_settings.c) ------------------------------------------- */

typedef struct embed_settings {
  clattn_model_pooling pooling;
  bool normalize;
  int64_t max_tokens; /* of a sentence, those added included */
} embed_settings;

/* What the files of Sentence Transformers in a model's folder say: modules.json,
 * the pooling module's config.json, sentence_bert_config.json. Without them the
 * mean, normalised, of as many tokens as the model has positions. False, with a
 * message, if they want what nothing here computes. */
bool embed_settings_read(const char *folder, const clattn_model_config *config,
                         embed_settings *settings);

/* ---- sentences (embed_lines.c) ----------------------------------------------- */

/* A line that is not blank, without its end. */
typedef struct embed_line {
  const char *text;
  size_t bytes;
  int64_t number; /* in the file, from 1 */
} embed_line;

typedef struct embed_lines {
  char *text;
  embed_line *lines; /* [n] */
  int64_t n;
} embed_lines;

/* From a file ("-": standard input); false with a message. _free is due either
 * way. */
bool embed_lines_read(const char *path, embed_lines *lines);
void embed_lines_free(embed_lines *lines);

/* ---- embeddings (embed_batch.c) ------------------------------------------------ */

typedef struct embed_run {
  pretrained *model;
  embed_settings settings;
  const char *file; /* for messages, and what says settings.max_tokens */
  const char *limit;
  bool strict;            /* a sentence that is too long is an error */
  int64_t batch_tokens;   /* of a batch, about so many */
  int64_t cut;            /* sentences that were */
  cli_progress *progress; /* may be NULL; told of sentences: */
  int64_t done, total;
} embed_run;

/* vectors [n, embed_dim] of n sentences. Those of like length are computed
 * together. Prints what failed. */
bool embed_sentences(embed_run *run, const embed_line *lines, int64_t n,
                     float *vectors);

#endif
