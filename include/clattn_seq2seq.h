/* clattn_seq2seq.h - encoder and decoder with cross-attention, trained here.
 *
 * The transformer of Vaswani et al. 2017 with its norms first. Of source tokens
 * s[0..S-1], and of begin and the target tokens t[0..T-1], with E columns and
 * sinusoidal positions p:
 *
 *     m = wte[s] + p / sqrt(E)        y = wte[begin t] + p / sqrt(E)
 *     L times:                        L times:
 *       m = m + attn(ln_1(m))           y = y + attn(ln_1(y))     causal
 *       m = m + mlp(ln_2(m))            y = y + cross(ln_x(y), memory)
 *     memory = ln_f(m)                  y = y + mlp(ln_2(y))
 *                                     logits = ln_f(y) wte^T
 *
 * (Vaswani et al. multiply wte by sqrt(E) instead; the ratio is the same.) Row i
 * of the logits is about t[i], the last one about the end. One table wte serves
 * both languages and the head. Padding is seen by nobody.
 *
 * Part of libclattn_kit; the conventions of clattn_gpt.h hold: F32, calls block,
 * the same bits at every run on a device. */
#ifndef CLATTN_SEQ2SEQ_H
#define CLATTN_SEQ2SEQ_H

#include "clattn_gpt.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct clattn_seq2seq_config {
  size_t struct_size;             /* set by clattn_seq2seq_config_init */
  int64_t vocab_size;             /* V of both languages, to be set, 4..2^24 */
  int64_t max_source, max_target; /* the most tokens, 1..2^14; default 64 */
  int64_t layers;                 /* L of encoder and of decoder; default 2 */
  int64_t heads;                  /* a divisor of E; default 4 */
  int64_t embed_dim;              /* E; default 64 */
  int32_t pad, begin,
      end;       /* ids that no token of a text has; default 0, 1, 2 */
  float dropout; /* of attention weights in training, [0,1); default 0 */
} clattn_seq2seq_config;

CLATTN_API void clattn_seq2seq_config_init(clattn_seq2seq_config *config);

typedef struct clattn_seq2seq clattn_seq2seq;

/* Weights are drawn tensor by tensor as clattn_gpt_create draws them, but with
 * deviation 1/(2 sqrt(E)), which at GPT-2's width of 768 is its 0.02; those that
 * end a branch divided by the root of the number of branches, 2 L in the encoder
 * and 3 L in the decoder. */
CLATTN_API clattn_status clattn_seq2seq_create(
    clattn_context *context, int device, clattn_queue *queue,
    const clattn_seq2seq_config *config, uint32_t seed, clattn_seq2seq **model);
/* From a file that clattn_seq2seq_save wrote, as clattn_gpt_load. */
CLATTN_API clattn_status clattn_seq2seq_load(clattn_context *context,
                                             int device, clattn_queue *queue,
                                             const clattn_kit_safetensors *file,
                                             clattn_seq2seq **model);
/* As clattn_gpt_save, with the config as seq2seq.vocab_size and so on. */
CLATTN_API clattn_status clattn_seq2seq_save(
    const clattn_seq2seq *model, clattn_queue *queue, const char *path,
    clattn_dtype dtype, const clattn_kit_tensor *more, size_t n_more,
    const clattn_kit_metadata *metadata, size_t n_metadata);
CLATTN_API void clattn_seq2seq_destroy(clattn_seq2seq *model);
CLATTN_API clattn_status clattn_seq2seq_get_config(
    const clattn_seq2seq *model, clattn_seq2seq_config *config);
/* Number of parameters; 0 for NULL. */
CLATTN_API int64_t clattn_seq2seq_parameters(const clattn_seq2seq *model);

/* Its tensors, as those of a clattn_gpt: wte.weight [V,E]; of the encoder
 * encoder.h.0.ln_1.weight, then the names a GPT's layers have, to
 * encoder.ln_f.bias; of the decoder the same, where each layer also has ln_x,
 * cross.c_attn [3E,E] (rows of q, k, v) and cross.c_proj [E,E] at its end. */
CLATTN_API size_t clattn_seq2seq_tensor_count(const clattn_seq2seq *model);
CLATTN_API clattn_status clattn_seq2seq_tensor_at(const clattn_seq2seq *model,
                                                  size_t i,
                                                  clattn_gpt_tensor *tensor);
CLATTN_API clattn_status clattn_seq2seq_tensor_read(const clattn_seq2seq *model,
                                                    clattn_queue *queue,
                                                    size_t i, float *values);
CLATTN_API clattn_status clattn_seq2seq_tensor_write(clattn_seq2seq *model,
                                                     clattn_queue *queue,
                                                     size_t i,
                                                     const float *values);

/* ---- Training --------------------------------------------------------------- */

typedef struct clattn_seq2seq_trainer_config {
  size_t struct_size; /* set by clattn_seq2seq_trainer_config_init */
  int64_t batch;      /* most pairs of a step; default 64 */
  float beta1, beta2, eps, weight_decay,
      clip; /* as clattn_gpt_trainer_config */
  uint64_t dropout_seed;
} clattn_seq2seq_trainer_config;

CLATTN_API void clattn_seq2seq_trainer_config_init(
    clattn_seq2seq_trainer_config *config);

typedef struct clattn_seq2seq_trainer clattn_seq2seq_trainer;

CLATTN_API clattn_status
clattn_seq2seq_trainer_create(clattn_seq2seq *model, clattn_queue *queue,
                              const clattn_seq2seq_trainer_config *config,
                              clattn_seq2seq_trainer **trainer);
CLATTN_API void clattn_seq2seq_trainer_destroy(clattn_seq2seq_trainer *trainer);
/* One step on batch pairs: sources [batch, S], padded with pad at the right, each
 * of at least one token, and targets [batch, T] without begin and end, padded
 * alike; one without tokens is ended at once. loss (may be NULL): the mean
 * cross-entropy of a target token, its end included, before the step. A loss or
 * a gradient that is not finite is INVALID_ARGUMENT, and the message names the
 * first tensor with such a number; then the model is as it was. How wide the
 * padding is makes no difference to the bits. */
CLATTN_API clattn_status clattn_seq2seq_trainer_step(
    clattn_seq2seq_trainer *trainer, clattn_queue *queue,
    const int32_t *sources, int64_t S, const int32_t *targets, int64_t T,
    int64_t batch, float learning_rate, float *loss);
/* The loss alone, without dropout. */
CLATTN_API clattn_status clattn_seq2seq_trainer_loss(
    clattn_seq2seq_trainer *trainer, clattn_queue *queue,
    const int32_t *sources, int64_t S, const int32_t *targets, int64_t T,
    int64_t batch, float *loss);
/* Copies the last step's gradient of tensor i, before clipping, to values. */
CLATTN_API clattn_status
clattn_seq2seq_trainer_gradient(const clattn_seq2seq_trainer *trainer,
                                clattn_queue *queue, size_t i, float *values);

/* ---- Translating --------------------------------------------------------------- */

/* How targets are searched. Each step extends every sequence of the beam that has
 * not ended by every token but pad and begin, and keeps the `beam` best of all
 * these and of those that have ended, by
 *
 *     score = log probability / ((5 + length) / 6)^alpha     (Wu et al. 2016)
 *
 * where length counts the end. Equal scores: the one whose beginning was better
 * stays before, then the one with the smaller token. It is over when all have
 * ended or have max_target tokens; the first is the result. beam 1 takes the most
 * probable token at each step (greedy). */
typedef struct clattn_seq2seq_search {
  size_t struct_size; /* set by clattn_seq2seq_search_init */
  int64_t beam;       /* 1..1024; default 1 */
  float alpha;        /* >= 0; default 0: log probability itself */
} clattn_seq2seq_search;

CLATTN_API void clattn_seq2seq_search_init(clattn_seq2seq_search *search);
/* For each of batch sources [batch, S], padded as in training, the target:
 * targets [batch, max_target], without begin, followed by end where there is room
 * for it, then pad. search NULL: the defaults. scores [batch] (may be NULL): that
 * of the target. Its memory is kept for the next call of the same beam. */
CLATTN_API clattn_status clattn_seq2seq_translate(
    clattn_seq2seq *model, clattn_queue *queue, const int32_t *sources,
    int64_t S, int64_t batch, const clattn_seq2seq_search *search,
    int32_t *targets, float *scores);
/* weights [heads, T, S] of a decoder layer's cross-attention, for one pair:
 * row i is the step that wrote targets[i]. The last token may be the end; T is at
 * most max_target + 1. The source has no padding here. */
CLATTN_API clattn_status clattn_seq2seq_attention(
    clattn_seq2seq *model, clattn_queue *queue, const int32_t *source,
    int64_t S, const int32_t *target, int64_t T, int64_t layer, float *weights);

#ifdef __cplusplus
}
#endif
#endif /* CLATTN_SEQ2SEQ_H */
