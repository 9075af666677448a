/* generate.h - what the files of clattn generate share: models that continue a
 * text, of `clattn train` or pre-trained, behind one face. */
#ifndef CLATTN_SRC_CLI_GENERATE_H
#define CLATTN_SRC_CLI_GENERATE_H

#include "cli.h"

typedef struct generate_options {
  const char *file, *prompt, *device;             /* prompt NULL: none */
  int64_t tokens, seed, top_k, layer, head, rows; /* layer, head -1: default */
  double temperature, top_p;
  bool no_cache, attention, greedy, chat;
  const char *chance; /* the last option about chance that was given */
  int color;
  clattn_dtype dtype; /* of a pre-trained model's weights; 0: not said */
} generate_options;

/* The device, and what a model's functions need of it. */
typedef struct generate_place {
  clattn_context *context;
  int device;
  clattn_queue *queue;
} generate_place;

typedef struct writer writer;

/* What a kind of model does. Functions that return bool print what failed. */
typedef struct writer_kind {
  bool (*load)(const generate_options *o, writer *w);
  /* The prompt's tokens, to free(); at least one, what the text begins behind if
   * the prompt is empty. */
  bool (*encode)(const generate_options *o, writer *w, int32_t **ids,
                 int64_t *n);
  /* A token's bytes; NULL: it is not to be seen. *space: one comes before it.
   * before < 0: at the start. */
  const char *(*text)(const writer *w, int32_t before, int32_t id,
                      size_t *bytes, bool *space);
  bool (*is_end)(const writer *w, int32_t id); /* the text ends with it */
  clattn_status (*read)(writer *w, const int32_t *ids, int64_t n,
                        float *logits);
  /* The tokens in sight, and what a layer's heads attend to among them, [heads,
   * n, n]. */
  int64_t (*window)(const writer *w, const int32_t **ids);
  clattn_status (*attention)(writer *w, int64_t layer, float *all);
  void (*destroy)(writer *w);
} writer_kind;

/* X(whose): writer_X, of generate_X.c */
extern const writer_kind writer_gpt, writer_model;

struct writer {
  const writer_kind *kind;
  generate_place place;
  void *model;                           /* of the kind */
  int64_t vocab, layers, heads, context; /* set by load */
  int64_t total;                         /* tokens read so far */
  bool terminal;
  char held[4]; /* the first bytes of a character whose others are to come */
  size_t n_held;
};

/* Prints the library's message unless status is OK. */
bool generate_ok(clattn_status status);
/* Writes a token to the standard output (generate_text.c). */
void generate_put(writer *w, int32_t before, int32_t id);
/* What is held back, as U+FFFD: no more comes. */
void generate_put_rest(writer *w);
/* The rows and columns of the last tokens (generate_picture.c). */
bool generate_show(const generate_options *o, writer *w);

#endif
