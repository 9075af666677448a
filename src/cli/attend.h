/* attend.h - the parts of clattn attend: a text as tokens, and a layer with its
 * embeddings on a device. */
#ifndef CLATTN_SRC_CLI_ATTEND_H
#define CLATTN_SRC_CLI_ATTEND_H

#include "clattn_text.h"
#include "cli.h"

typedef struct attend_options {
  const char *file, *device, *weights, *prefix, *save;
  int64_t length, stride, batch; /* of the loader; stride 0: length */
  int64_t dim, heads, seed;
  int64_t head, words; /* of the heatmap; words 0: none, < 0: the default */
  clattn_path path;
  int color; /* 0 auto, 1 always, 2 never */
  bool by_row;
} attend_options;

/* ---- the text (attend_text.c) -------------------------------------------- */

typedef struct attend_text {
  char *bytes;
  size_t size_bytes;
  clattn_tokenizer *tokenizer; /* of its words */
  clattn_encoding tokens;
} attend_text;

/* Reads a file ("-": standard input) and makes tokens of it. Prints what
 * failed; _free is due either way. */
bool attend_text_read(const char *path, attend_text *text);
void attend_text_free(attend_text *text);

/* ---- the model (attend_model.c) ------------------------------------------ */

typedef struct attend_model {
  clattn_context *context;
  int device;
  clattn_queue *queue;
  int64_t vocab, length, dim, heads;
  float *token_table;    /* [vocab, dim]   */
  float *position_table; /* [length, dim]  */
  clattn_kit_mha *mha;
  clattn_buffer *input, *output; /* [batch, length, dim] F32 */
  float *host;                   /* the same, on this side */
} attend_model;

/* Weights from a file or a seed; memory for batches. Prints what failed; _free
 * is due either way. */
bool attend_model_make(const attend_options *options, int32_t vocab,
                       attend_model *model);
void attend_model_free(attend_model *model);
/* Embeds ids [windows, length] and copies them to the device. */
bool attend_model_embed(attend_model *model, const int32_t *ids,
                        int64_t windows);
/* Runs the layer on what was embedded, and waits for it. */
bool attend_model_forward(attend_model *model, int64_t windows);
/* False, with a message, if the output of a run has a NaN or infinity. */
bool attend_model_finite(attend_model *model, int64_t windows);
/* weights [n, n] of one head over the first n tokens of what was embedded. */
bool attend_model_weights(attend_model *model, int64_t head, int64_t n,
                          float *weights);
/* Floating-point operations of a forward: four projections, and for each head
 * the products with keys and values that the causal rule leaves. */
double attend_model_flop(const attend_model *model, int64_t windows);

#endif
