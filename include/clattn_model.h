/* clattn_model.h - pre-trained transformers, and what they attend to.
 *
 *   BERT    embeddings of tokens, positions and types, layer norm; then L times
 *           x = LN(x + attn(x)),  x = LN(x + mlp(x)), GELU; pooler
 *           tanh(W x[0] + b)                             (Devlin et al. 2019)
 *   GPT-2   embeddings of tokens and positions; then L times
 *           x = x + attn(LN(x)),  x = x + mlp(LN(x)), causal, GELU (tanh); LN;
 *           the head is the token embedding             (Radford et al. 2019)
 *   LLAMA   token embedding; then L times
 *           x = x + attn(RMS(x)),  x = x + W2 (silu(W1 RMS(x)) * W3 RMS(x)),
 *           causal, rotary, grouped queries; RMS; head  (Touvron et al. 2023)
 *
 *   clattn_weights       tensors of a checkpoint: safetensors, sharded, GGUF
 *   clattn_model         configuration and parameters, on a device
 *   clattn_model_run     a batch of requests: hidden states, attention, logits
 *   clattn_model_decoder token after token with a KV cache
 *
 * What every head attended to, as a file: clattn_attention.h.
 *
 * Names of tensors are those of Hugging Face's checkpoints, as they are.
 *
 * Part of libclattn_kit; the conventions of clattn.h and clattn_kit.h hold. Calls
 * block until their results are there. Queues are in order and of the model's
 * device.
 *
 *   Threads   weights do not change once open: any thread, any time. A model
 *             with its decoders: one thread at a time. */
#ifndef CLATTN_MODEL_H
#define CLATTN_MODEL_H

#include "clattn_kit.h"
#include "clattn_text.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Weights of a checkpoint ----------------------------------------------- */

typedef struct clattn_weights clattn_weights;

/* path: a .safetensors file; a .safetensors.index.json with its shards beside
 * it (the tensors of its weight_map); a .gguf file (version 2 or 3); or a folder
 * with the first of model.safetensors, model.safetensors.index.json and one
 * .gguf. Files are mapped and checked as clattn_kit_safetensors_open does, and
 * must not be truncated while they are open. IO_ERROR says what is wrong. A
 * shard's name may not lead out of the folder. */
CLATTN_API clattn_status clattn_weights_open(const char *path,
                                             clattn_weights **weights);
CLATTN_API void clattn_weights_destroy(clattn_weights *weights);

typedef struct clattn_weights_tensor {
  const char *name; /* owned by the weights, as everything here */
  const char *type; /* "F32", "BF16", "Q4_1", ... */
  int rank;
  int64_t extent[CLATTN_KIT_MAX_RANK]; /* row-major, the last one is a row */
  const void *data;                    /* at ANY alignment */
  size_t size_bytes;
} clattn_weights_tensor;

/* Number of tensors (0 for NULL), tensor i, and one by name (INVALID_ARGUMENT if
 * it is not there). */
CLATTN_API size_t clattn_weights_count(const clattn_weights *weights);
CLATTN_API clattn_status clattn_weights_at(const clattn_weights *weights,
                                           size_t i,
                                           clattn_weights_tensor *tensor);
CLATTN_API bool clattn_weights_has(const clattn_weights *weights,
                                   const char *name);
CLATTN_API clattn_status clattn_weights_find(const clattn_weights *weights,
                                             const char *name,
                                             clattn_weights_tensor *tensor);
/* All elements as dtype (F32, F16, BF16), rounded to nearest even: of F64, F32,
 * F16, BF16, and of GGUF's blocks Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K and
 * Q6_K, whose numbers are made in F32. UNSUPPORTED names any other type. */
CLATTN_API clattn_status clattn_weights_read(
    const clattn_weights_tensor *tensor, clattn_dtype dtype, void *values);

/* Metadata of a GGUF file; text: also of a single safetensors file. Text: NULL if
 * it is absent or no text. Number: false if it is absent or no number (true and
 * false count as 1 and 0). List: number of entries, 0 if it is absent; list_text:
 * a text of it, not terminated, or NULL; list_number: a number of it. */
CLATTN_API const char *clattn_weights_text(const clattn_weights *weights,
                                           const char *key);
CLATTN_API bool clattn_weights_number(const clattn_weights *weights,
                                      const char *key, double *number);
CLATTN_API size_t clattn_weights_list(const clattn_weights *weights,
                                      const char *key);
CLATTN_API const char *clattn_weights_list_text(const clattn_weights *weights,
                                                const char *key, size_t i,
                                                size_t *size_bytes);
CLATTN_API bool clattn_weights_list_number(const clattn_weights *weights,
                                           const char *key, size_t i,
                                           double *number);

/* ---- The model -------------------------------------------------------------- */

typedef enum clattn_model_kind {
  CLATTN_MODEL_BERT = 1,
  CLATTN_MODEL_GPT2 = 2,
  CLATTN_MODEL_LLAMA = 3
} clattn_model_kind;

/* Of a model: from config.json or GGUF. */
typedef struct clattn_model_config {
  size_t struct_size; /* set by the caller: sizeof(...) */
  clattn_model_kind kind;
  char name[64]; /* "bert", "gpt2", "llama": model_type */
  int64_t vocab_size;
  int64_t positions; /* the most tokens of a request */
  int64_t types;     /* segments that BERT tells apart; else 0 */
  int64_t layers, heads, kv_heads, head_dim;
  int64_t embed_dim;  /* E */
  int64_t hidden_dim; /* columns in the middle of the mlp */
  float norm_eps;
  double rotary_base; /* 0: not rotary */
  bool causal;
  bool pooler; /* BERT: pooler.* is there */
  bool head;   /* there are logits */
} clattn_model_config;

typedef struct clattn_model_options {
  size_t struct_size; /* set by clattn_model_options_init */
  clattn_dtype dtype; /* of matrices on the device: F32 (default), F16, BF16;
                       * what is computed with them stays F32 */
  clattn_path path;   /* of attention; default AUTO */
  int64_t positions;  /* no request has more tokens than these: rotary models
                       * keep tables of so many rows, which take memory; 0
                       * (default), or more than it has: those of the model */
} clattn_model_options;

CLATTN_API void clattn_model_options_init(clattn_model_options *options);

typedef struct clattn_model clattn_model;

/* A folder with config.json (model_type bert, roberta, gpt2, llama, mistral or
 * qwen2) and weights, a .gguf file (general.architecture bert, gpt2, llama or
 * qwen2), or a file of `clattn train`. options NULL: all defaults.
 * IO_ERROR names what is missing, has another shape than the configuration
 * wants, or cannot be read; UNSUPPORTED the architecture or the setting that
 * nothing here computes. Tensors that the model does not need are left alone. */
CLATTN_API clattn_status clattn_model_load(clattn_context *context, int device,
                                           clattn_queue *queue,
                                           const char *path,
                                           const clattn_model_options *options,
                                           clattn_model **model);
CLATTN_API void clattn_model_destroy(clattn_model *model);
CLATTN_API clattn_status clattn_model_get_config(const clattn_model *model,
                                                 clattn_model_config *config);
/* Number of parameters that the model uses; 0 for NULL. */
CLATTN_API int64_t clattn_model_parameters(const clattn_model *model);
/* INVALID_ARGUMENT unless every id of the tokenizer is one of the model. */
CLATTN_API clattn_status clattn_model_check_tokenizer(
    const clattn_model *model, const clattn_tokenizer *tokenizer);

/* ---- A batch of requests ------------------------------------------------------ */

typedef enum clattn_model_layout {
  CLATTN_MODEL_PAD_RIGHT = 0, /* [batch, length]: lengths[b] tokens, rest */
  CLATTN_MODEL_PAD_LEFT = 1,  /* [batch, length]: rest, lengths[b] tokens */
  CLATTN_MODEL_PACKED = 2     /* [sum of lengths]: one after the other */
} clattn_model_layout;

/* What is in the rest is never read: each request gives what it gives alone.
 * Positions of a request count from 0 at its own first token. */
typedef struct clattn_model_input {
  size_t struct_size;         /* set by clattn_model_input_init */
  clattn_model_layout layout; /* default PAD_RIGHT */
  int64_t batch;              /* requests; default 1 */
  int64_t length;             /* tokens of a row of ids; PACKED: not used */
  const int64_t *lengths;     /* [batch] each >= 1; NULL: all length */
  const int32_t *ids;         /* as the layout says */
  const int32_t *types;       /* BERT's segments, like ids; NULL: all 0 */
} clattn_model_input;

CLATTN_API void clattn_model_input_init(clattn_model_input *input);

/* Of which rows of the last hidden states an embedding is made: what a model was
 * trained for, which files of Sentence Transformers tell (1_Pooling/config.json)
 * and clattn_model_load does not read. */
typedef enum clattn_model_pooling {
  CLATTN_POOL_MEAN = 0,  /* the mean of a request's */
  CLATTN_POOL_FIRST = 1, /* its first token's */
  CLATTN_POOL_LAST = 2   /* its last token's */
} clattn_model_pooling;

/* What a layer did: valid during the call. Row r of hidden and of statistics is
 * token r of the input's layout; rows of the rest are 0. */
typedef struct clattn_model_layer {
  int64_t layer;         /* 0..layers-1; -1: the embeddings, hidden alone */
  int64_t batch, length; /* PACKED: 1 and the sum */
  int64_t heads, kv_heads, head_dim, embed_dim;
  const float *hidden; /* [batch, length, E] after the layer, before the last
                        * norm; NULL where not asked for, as is layer -1 */
  /* Attention of request b alone, n = its length: [heads, n, n] at
   * attention[b]. */
  const float *const *attention;
  /* Statistics of clattn_stats; NULL where not asked for. */
  const float *entropy, *distance; /* [batch, heads, length] */
  const int32_t *top_keys;         /* [batch, heads, length, top]: the key's
                                    * place in its request */
  const float *top_weights;        /* [batch, heads, length, top] */
  /* [heads, m, m] at map[b], m = ceil(n / map_block). */
  const float *const *map;
  /* Of request b alone: queries [heads, n, head_dim] at query[b] and keys
   * [kv_heads, n, head_dim] at key[b] as they are multiplied: projected, and
   * turned where the model is rotary. scale: what the model multiplies the
   * products with; window: the last keys that a row sees, itself included, 0:
   * all. */
  const float *const *query, *const *key;
  double scale;
  int64_t window;
} clattn_model_layer;

/* What is not CLATTN_OK ends the run with that status. It may not run the same
 * model. */
typedef clattn_status (*clattn_model_watch)(void *user,
                                            const clattn_model_layer *layer);

/* What a watch wants to see. */
enum {
  CLATTN_WATCH_HIDDEN = 1,
  CLATTN_WATCH_ATTENTION = 2,  /* quadratic memory, of one layer at a time */
  CLATTN_WATCH_STATISTICS = 4, /* entropy and distance */
  CLATTN_WATCH_TOP = 8,
  CLATTN_WATCH_MAP = 16,
  CLATTN_WATCH_QUERY_KEY = 32 /* query and key: linear memory */
};

/* Host memory of the caller's; NULL: not wanted. */
typedef struct clattn_model_output {
  size_t struct_size; /* set by clattn_model_output_init */
  float *hidden;      /* [batch, length, E] last hidden states (GPT-2, LLAMA:
                       * after the last norm); PACKED: [sum, E]. Rest: 0 */
  float *logits;      /* [batch, V] of each request's last token, V of the
                      * config: vocab_size */
  float *all_logits;  /* [batch, length, V], or [sum, V] */
  float *pooled;      /* [batch, E] BERT's pooler; UNSUPPORTED without one */
  float *embedding;   /* [batch, E] sentence embeddings */
  clattn_model_pooling pooling; /* of embedding; default MEAN */
  bool normalize;               /* embeddings to length 1; default true */
  uint32_t watch;               /* CLATTN_WATCH_* */
  clattn_model_watch on_layer;  /* called layer by layer, in order */
  void *user;
  int64_t top;       /* keys of WATCH_TOP, 1..32; default 8 */
  int64_t map_block; /* tokens of a cell of WATCH_MAP; default 64 */
} clattn_model_output;

CLATTN_API void clattn_model_output_init(clattn_model_output *output);

/* INVALID_ARGUMENT names an id or type that the model does not have, or a request
 * longer than the model's positions; nothing is computed then. Its memory is kept
 * for the next call. */
CLATTN_API clattn_status clattn_model_run(clattn_model *model,
                                          clattn_queue *queue,
                                          const clattn_model_input *input,
                                          const clattn_model_output *output);

/* ---- Decoding ------------------------------------------------------------------
 * As clattn_gpt_decoder, for causal models: reads tokens and tells what might
 * come next. Keys and values of up to `capacity` tokens (0: the model's
 * positions) are kept. */
typedef struct clattn_model_decoder clattn_model_decoder;

CLATTN_API clattn_status
clattn_model_decoder_create(clattn_model *model, clattn_queue *queue,
                            int64_t capacity, clattn_model_decoder **decoder);
CLATTN_API void clattn_model_decoder_destroy(clattn_model_decoder *decoder);
/* Reads n >= 1 tokens; logits [V] are those of the token after the last.
 * INVALID_ARGUMENT when they do not fit any more. */
CLATTN_API clattn_status
clattn_model_decoder_read(clattn_model_decoder *decoder, clattn_queue *queue,
                          const int32_t *ids, int64_t n, float *logits);
/* Tokens it has read; 0 for NULL. */
CLATTN_API int64_t
clattn_model_decoder_length(const clattn_model_decoder *decoder);
/* Keeps the first n tokens only. */
CLATTN_API clattn_status clattn_model_decoder_truncate(
    clattn_model_decoder *decoder, clattn_queue *queue, int64_t n);

#ifdef __cplusplus
}
#endif
#endif /* CLATTN_MODEL_H */
