/* seq2seq.h - what the sources of the encoder-decoder share. */
#ifndef CLATTN_SRC_SEQ2SEQ_H
#define CLATTN_SRC_SEQ2SEQ_H

#include "clattn_seq2seq.h"
#include "stack.h"

typedef struct seq2seq_room seq2seq_room; /* seq2seq_search.c */

struct clattn_seq2seq {
  int users; /* the handle and trainers: the last one frees it */
  clattn_seq2seq_config config;
  kit_params params;
  clattn_buffer *positions; /* [rows, E], constant */
  kit_stack encoder, decoder;
  seq2seq_room *room; /* of clattn_seq2seq_translate; NULL before the first */
};

/* ---- the model (seq2seq.c) ----------------------------------------------- */

clattn_status seq2seq_check_config(const clattn_seq2seq_config *config);
/* A model whose parameters are not set yet. */
clattn_status seq2seq_new(clattn_context *context, int device,
                          clattn_queue *queue,
                          const clattn_seq2seq_config *config,
                          clattn_seq2seq **model);

/* ---- both stacks (seq2seq_forward.c) ------------------------------------- */

/* Checks texts [batch, n], each padded at the right and of at least `least`
 * tokens: lengths [batch], and the longest of them. */
clattn_status seq2seq_check_texts(const clattn_seq2seq *model, const char *name,
                                  const int32_t *texts, int64_t n,
                                  int64_t batch, int64_t least,
                                  int32_t *lengths, int64_t *longest);

/* A pass of the encoder, and one of the decoder over the same batch. */
typedef struct seq2seq_passes {
  kit_pass *encoder, *decoder;
  clattn_buffer *lengths; /* I32 [batch]: of the sources */
  int32_t *ids;           /* [batch, most tokens]: what is written to a pass */
  int32_t *counts;        /* [batch] */
} seq2seq_passes;

clattn_status seq2seq_passes_make(const clattn_seq2seq *model,
                                  const kit_pass_config *encoder,
                                  const kit_pass_config *decoder,
                                  seq2seq_passes *passes);
void seq2seq_passes_free(seq2seq_passes *passes);
/* Starts a call of the encoder: checks the sources and leaves out columns that
 * are padding in all of them. */
clattn_status seq2seq_begin(const clattn_seq2seq *model, seq2seq_passes *passes,
                            clattn_queue *queue, const int32_t *sources,
                            int64_t S, int64_t batch);
/* Enqueues the encoder. */
clattn_status seq2seq_encode(seq2seq_passes *passes, clattn_queue *queue);
/* Gives the memory to the decoder's call, which has begun. */
void seq2seq_remember(seq2seq_passes *passes);

/* ---- translating (seq2seq_search.c) -------------------------------------- */

void seq2seq_room_destroy(seq2seq_room *room);

#endif
