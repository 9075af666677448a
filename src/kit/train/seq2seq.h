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

/* ---- one pair, watched (seq2seq_attention.c) ----------------------------- */

enum {
  SEQ2SEQ_ENCODER, /* rows and keys: the source */
  SEQ2SEQ_DECODER, /* begin, and the target without its last token; causal */
  SEQ2SEQ_CROSS,   /* rows those of the decoder, keys the source */
  SEQ2SEQ_PARTS
};

/* What a layer's attention did: valid during the call. NULL: not asked for. */
typedef struct seq2seq_told {
  int part;
  int64_t layer, rows, keys;
  const float *weights;            /* [heads, rows, keys] */
  const float *query, *key;        /* [heads, rows | keys, E / heads] */
  const float *entropy, *distance; /* [heads, rows] */
} seq2seq_told;

typedef clattn_status (*seq2seq_watcher)(void *user, const seq2seq_told *told);

/* Runs the model over a pair, as clattn_seq2seq_attention has it, and tells of
 * every layer what is wanted: CLATTN_WATCH_ATTENTION, STATISTICS, QUERY_KEY. The
 * encoder's layers come first; of each of the decoder's its own rows come before
 * the memory. */
clattn_status seq2seq_watch(clattn_seq2seq *model, clattn_queue *queue,
                            const int32_t *source, int64_t S,
                            const int32_t *target, int64_t T, uint32_t watch,
                            seq2seq_watcher watcher, void *user);

/* ---- translating (seq2seq_search.c) -------------------------------------- */

void seq2seq_room_destroy(seq2seq_room *room);

#endif
