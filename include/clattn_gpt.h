/* clattn_gpt.h - a GPT on this library: made, trained, stored, asked for text.
 *
 * The architecture is GPT-2's (Radford et al. 2019). Of tokens t[0..T-1], with E
 * columns, L layers and H heads:
 *
 *     x = wte[t] + wpe[0..T-1]
 *     L times:  x = x + attn(ln_1(x))      causal attention of H heads of E/H
 *               x = x + mlp(ln_2(x))       E -> 4E, GELU (tanh), 4E -> E
 *     logits = ln_f(x) wte^T               the head is tied to the embedding
 *
 * Every linear layer has a bias, layer norms have weight, bias and eps 1e-5.
 * Everything is F32 on the device.
 *
 *   clattn_gpt            the parameters                from a seed or a file
 *   clattn_gpt_trainer    gradients, AdamW, activations
 *   clattn_gpt_decoder    logits token by token, with a KV cache or without
 *
 * Text becomes tokens, and tokens text, by a clattn_tokenizer (clattn_text.h).
 *
 * Part of libclattn_kit; the conventions of clattn.h and clattn_kit.h hold. Calls
 * block until their results are there. Queues are in order and of the model's
 * device.
 *
 *   Threads   a model with its trainer and decoders: one thread at a time.
 *   Bits      the same bits at every run on a device. */
#ifndef CLATTN_GPT_H
#define CLATTN_GPT_H

#include "clattn_kit.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- The model ---------------------------------------------------------------- */
typedef struct clattn_gpt_config {
  size_t struct_size; /* set by clattn_gpt_config_init                        */
  int64_t vocab_size; /* V, to be set, 1..2^24                                */
  int64_t context;    /* positions, the most tokens seen at once; default 128 */
  int64_t layers;     /* L; default 4                                         */
  int64_t heads;      /* H, a divisor of E; default 4                         */
  int64_t embed_dim;  /* E; default 128                                       */
  float dropout;      /* of attention weights in training, [0,1); default 0   */
} clattn_gpt_config;

CLATTN_API void clattn_gpt_config_init(clattn_gpt_config *config);

typedef struct clattn_gpt clattn_gpt;

/* Weights as GPT-2 has them at the start: normal with deviation 0.02, that of
 * both projections onto x divided by sqrt(2 L); biases 0, norms 1. Drawn by
 * clattn_kit_rng_normal from `seed`, tensor by tensor in clattn_gpt_tensor_at's
 * order. */
CLATTN_API clattn_status clattn_gpt_create(clattn_context *context, int device,
                                           clattn_queue *queue,
                                           const clattn_gpt_config *config,
                                           uint32_t seed, clattn_gpt **gpt);
/* From a file that clattn_gpt_save wrote: its metadata has the config, and its
 * tensors (F32, F16 or BF16) must have the shapes that follow from it. IO_ERROR
 * otherwise; the message names the tensor. The file may go afterwards. */
CLATTN_API clattn_status clattn_gpt_load(clattn_context *context, int device,
                                         clattn_queue *queue,
                                         const clattn_kit_safetensors *file,
                                         clattn_gpt **gpt);
CLATTN_API void clattn_gpt_destroy(clattn_gpt *gpt);

CLATTN_API clattn_status clattn_gpt_get_config(const clattn_gpt *gpt,
                                               clattn_gpt_config *config);
/* Number of parameters; 0 for NULL. */
CLATTN_API int64_t clattn_gpt_parameters(const clattn_gpt *gpt);

/* A parameter. Names and shapes are nanoGPT's, linear weights [out, in]:
 * wte.weight [V,E], wpe.weight [context,E], h.0.ln_1.weight [E], h.0.ln_1.bias,
 * h.0.attn.c_attn.weight [3E,E] (rows of q, k, v), h.0.attn.c_proj.weight [E,E],
 * h.0.ln_2, h.0.mlp.c_fc.weight [4E,E], h.0.mlp.c_proj.weight [E,4E], each with
 * its bias, h.1 ..., ln_f.weight, ln_f.bias. */
typedef struct clattn_gpt_tensor {
  const char *name;   /* owned by the model                                   */
  int rank;           /* 1 or 2; those of 2 decay                             */
  int64_t extent[2];  /* row-major                                            */
  clattn_tensor view; /* borrowed: in the model's memory on the device        */
} clattn_gpt_tensor;

/* Number of tensors (0 for NULL), and tensor i in the order above. */
CLATTN_API size_t clattn_gpt_tensor_count(const clattn_gpt *gpt);
CLATTN_API clattn_status clattn_gpt_tensor_at(const clattn_gpt *gpt, size_t i,
                                              clattn_gpt_tensor *tensor);
/* Copies tensor i to, or from, values [elements]. Trainers and decoders use what
 * was written from their next call on (a decoder's cache is of the old one:
 * reset it). */
CLATTN_API clattn_status clattn_gpt_tensor_read(const clattn_gpt *gpt,
                                                clattn_queue *queue, size_t i,
                                                float *values);
CLATTN_API clattn_status clattn_gpt_tensor_write(clattn_gpt *gpt,
                                                 clattn_queue *queue, size_t i,
                                                 const float *values);

/* Writes the parameters as dtype (F32, F16, BF16) with the config as metadata
 * (gpt.vocab_size, gpt.context, ...), and the caller's tensors and metadata
 * besides. A reader sees the old file or the new one, never half of it. */
CLATTN_API clattn_status clattn_gpt_save(
    const clattn_gpt *gpt, clattn_queue *queue, const char *path,
    clattn_dtype dtype, const clattn_kit_tensor *more, size_t n_more,
    const clattn_kit_metadata *metadata, size_t n_metadata);

/* logits [batch, length, V] of ids [batch, length], without dropout. length is
 * at most the context. INVALID_ARGUMENT names an id that is not 0..V-1.
 * Its memory is kept for the next call of that size or less. */
CLATTN_API clattn_status clattn_gpt_forward(clattn_gpt *gpt,
                                            clattn_queue *queue,
                                            const int32_t *ids, int64_t batch,
                                            int64_t length, float *logits);
/* weights [heads, length, length]: what each head of layer `layer` (0..L-1)
 * attends to, rows to columns; 0 above the diagonal. */
CLATTN_API clattn_status clattn_gpt_attention(clattn_gpt *gpt,
                                              clattn_queue *queue,
                                              const int32_t *ids,
                                              int64_t length, int64_t layer,
                                              float *weights);

/* ---- Training ------------------------------------------------------------------
 * An update is one clattn_gpt_trainer_update after `micro` calls of
 * clattn_gpt_trainer_gradients, whose gradients are averaged. */
typedef struct clattn_gpt_trainer_config {
  size_t struct_size; /* set by clattn_gpt_trainer_config_init              */
  int64_t batch;      /* most windows of a call; default 8                  */
  int64_t length;     /* most tokens of a window; 0 (default): the context  */
  int64_t micro;      /* calls of _gradients an update averages; default 1  */
  float beta1, beta2; /* of AdamW, in [0,1); default 0.9, 0.99              */
  float eps;          /* > 0; default 1e-8                                  */
  float weight_decay; /* of tensors of rank 2; default 0.1                  */
  float clip;         /* gradients are scaled down to this norm; 0: as they
                         * are; default 1                                     */
  uint64_t dropout_seed; /* default 0 */
} clattn_gpt_trainer_config;

CLATTN_API void clattn_gpt_trainer_config_init(
    clattn_gpt_trainer_config *config);

typedef struct clattn_gpt_trainer clattn_gpt_trainer;

/* Allocates gradients, both moments (0) and activations, once. */
CLATTN_API clattn_status clattn_gpt_trainer_create(
    clattn_gpt *gpt, clattn_queue *queue,
    const clattn_gpt_trainer_config *config, clattn_gpt_trainer **trainer);
CLATTN_API void clattn_gpt_trainer_destroy(clattn_gpt_trainer *trainer);

/* Forward and backward: the mean cross-entropy (natural logarithm) of targets
 * [batch, length] after inputs [batch, length], and its gradients divided by
 * micro, added to those since the last update. A target may be -100: not asked.
 * INVALID_ARGUMENT when the loss is not finite: the message says in which
 * parameter or activation NaN or infinity stands first. Then the model is as it
 * was, and the gradients since the last update are forgotten. */
CLATTN_API clattn_status clattn_gpt_trainer_gradients(
    clattn_gpt_trainer *trainer, clattn_queue *queue, const int32_t *inputs,
    const int32_t *targets, int64_t batch, int64_t length, float *loss);
/* Clips, and takes a step of AdamW. norm (may be NULL) is that of all gradients
 * together, before. INVALID_ARGUMENT when it is not finite: the message names
 * the tensor whose gradient was the first that was not; the model is as it was,
 * and the gradients are forgotten. */
CLATTN_API clattn_status clattn_gpt_trainer_update(clattn_gpt_trainer *trainer,
                                                   clattn_queue *queue,
                                                   float learning_rate,
                                                   float *norm);
/* The loss alone, without dropout; gradients stay as they are. */
CLATTN_API clattn_status clattn_gpt_trainer_loss(
    clattn_gpt_trainer *trainer, clattn_queue *queue, const int32_t *inputs,
    const int32_t *targets, int64_t batch, int64_t length, float *loss);
/* Copies the gradient of tensor i, as it has been added up, to values. */
CLATTN_API clattn_status
clattn_gpt_trainer_gradient(const clattn_gpt_trainer *trainer,
                            clattn_queue *queue, size_t i, float *values);
/* Updates done, those before a _load included; 0 for NULL. */
CLATTN_API int64_t clattn_gpt_trainer_step(const clattn_gpt_trainer *trainer);

/* Writes parameters and config as clattn_gpt_save, both moments of each tensor
 * (adam.m.NAME, adam.v.NAME) and the counters (gpt.step, gpt.calls). To be
 * called between updates. */
CLATTN_API clattn_status clattn_gpt_trainer_save(
    const clattn_gpt_trainer *trainer, clattn_queue *queue, const char *path,
    const clattn_kit_tensor *more, size_t n_more,
    const clattn_kit_metadata *metadata, size_t n_metadata);
/* Continues from such a file (whose parameters clattn_gpt_load has read) to the
 * bits of a run that was never stopped. IO_ERROR: no state, or not of this
 * model. */
CLATTN_API clattn_status
clattn_gpt_trainer_load(clattn_gpt_trainer *trainer, clattn_queue *queue,
                        const clattn_kit_safetensors *file);

/* ---- Decoding --------------------------------------------------------------------
 * Reads token after token and tells what the next one might be. It sees at most
 * `context` tokens: when one more comes, the last context/2 stay,
 * at positions from 0 again, and the ones before are forgotten. With a cache of
 * keys and values a token costs one row of the model, without all rows there
 * are; the logits are the same but for rounding. */
typedef struct clattn_gpt_decoder clattn_gpt_decoder;

CLATTN_API clattn_status
clattn_gpt_decoder_create(clattn_gpt *gpt, clattn_queue *queue, bool cache,
                          clattn_gpt_decoder **decoder);
CLATTN_API void clattn_gpt_decoder_destroy(clattn_gpt_decoder *decoder);
/* Reads n >= 1 tokens; logits [V] are those of the token after the last. */
CLATTN_API clattn_status clattn_gpt_decoder_read(clattn_gpt_decoder *decoder,
                                                 clattn_queue *queue,
                                                 const int32_t *ids, int64_t n,
                                                 float *logits);
/* Number of tokens it sees, and those: at most `context`, valid until the next
 * read. ids may be NULL; 0 for NULL. */
CLATTN_API int64_t clattn_gpt_decoder_window(const clattn_gpt_decoder *decoder,
                                             const int32_t **ids);
/* Forgets everything. */
CLATTN_API clattn_status clattn_gpt_decoder_reset(clattn_gpt_decoder *decoder,
                                                  clattn_queue *queue);

#ifdef __cplusplus
}
#endif
#endif /* CLATTN_GPT_H */
