/* gpt.h - what the sources of the GPT share. */
#ifndef CLATTN_SRC_GPT_H
#define CLATTN_SRC_GPT_H

#include "clattn_gpt.h"
#include "clattn_nn.h"
#include "kit.h"

/* ---- parameters (gpt.c) -------------------------------------------------- */

/* Numbers of tensors: the embeddings, GPT_LAYER_TENSORS a layer, the last norm. */
enum { GPT_WTE, GPT_WPE, GPT_FIRST_LAYER };
enum {
  GPT_LN1_W,
  GPT_LN1_B,
  GPT_ATTN_W,
  GPT_ATTN_B,
  GPT_PROJ_W,
  GPT_PROJ_B,
  GPT_LN2_W,
  GPT_LN2_B,
  GPT_FC_W,
  GPT_FC_B,
  GPT_OUT_W,
  GPT_OUT_B,
  GPT_LAYER_TENSORS
};

enum { GPT_NAME_CHARS = 48 };

typedef struct gpt_tensor {
  char name[GPT_NAME_CHARS];
  int rank;
  int64_t extent[2];
  int64_t offset; /* elements into the buffer of parameters, gradients, ... */
} gpt_tensor;

typedef struct gpt_pass gpt_pass;

struct clattn_gpt {
  clattn_context *context; /* the caller's; buffers keep it alive */
  int device;
  clattn_gpt_config config;
  size_t n_tensors;
  gpt_tensor *tensors; /* [n_tensors] */
  int64_t elements; /* of the buffer: tensors begin on cache lines, and what is
                        * between them is 0 everywhere */
  int64_t decayed;  /* the first of them belong to tensors of rank 2 */
  int64_t parameters;
  clattn_buffer *values; /* [elements] F32 */
  gpt_pass *forward;     /* of clattn_gpt_forward; NULL before the first */
};

size_t gpt_layer_tensor(int64_t layer, int which);
size_t gpt_last_norm(const clattn_gpt *gpt); /* its weight; then its bias */
/* Tensor i in a buffer that is laid out as the parameters. */
clattn_tensor gpt_view(const clattn_gpt *gpt, clattn_buffer *buffer, size_t i);
int64_t gpt_elements(const gpt_tensor *tensor);
clattn_status gpt_check_config(const clattn_gpt_config *config);
/* A model whose parameters are not set yet. */
clattn_status gpt_new(clattn_context *context, int device,
                      const clattn_gpt_config *config, clattn_gpt **gpt);
/* A buffer like the parameters', all 0. */
clattn_status gpt_buffer(const clattn_gpt *gpt, clattn_queue *queue,
                         clattn_buffer **buffer);
/* Weights and biases of a layer's attention in such a buffer. */
void gpt_attention_views(const clattn_gpt *gpt, clattn_buffer *buffer,
                         int64_t layer, clattn_mha_weights *weights);
clattn_status gpt_check_ids(const char *name, const int32_t *ids, int64_t n,
                            int64_t vocab, bool may_ignore);

/* ---- forward (gpt_forward.c) --------------------------------------------- */

/* Activations, F32 [layers or one, B, T, columns]. */
typedef enum gpt_act {
  GPT_X, /* what flows through: the input of each layer and the last output */
  GPT_LN1,
  GPT_LN1_MEAN,
  GPT_LN1_RSTD,
  GPT_MID, /* after attention */
  GPT_LN2,
  GPT_LN2_MEAN,
  GPT_LN2_RSTD,
  GPT_FC,
  GPT_GELU,
  GPT_BRANCH, /* what is added to x; one for all layers */
  GPT_LNF,
  GPT_LNF_MEAN,
  GPT_LNF_RSTD,
  GPT_LOGITS,
  GPT_LOSSES,
  GPT_LSE,
  GPT_ACTS
} gpt_act;

typedef struct gpt_pass_config {
  int64_t batch, length; /* room for so many */
  bool backward;         /* keep each layer's activations */
  bool last_row;         /* logits of the last row only */
  int64_t look; /* this layer's attention gives its weights; -1: none's */
} gpt_pass_config;

struct gpt_pass {
  const clattn_gpt *gpt;
  gpt_pass_config config;
  clattn_mha **mha; /* [layers] */
  clattn_buffer *acts[GPT_ACTS];
  clattn_buffer *ids, *targets; /* I32 [batch, length] */
  clattn_buffer *mean;          /* of cross-entropy: [2] */
  /* The call in progress. */
  int64_t b, t;
  float dropout;
  uint64_t dropout_seed, dropout_offset; /* of layer 0; one more a layer */
  clattn_kv_cache *const *caches;        /* [layers] or NULL */
  int64_t position;                      /* of the first row */
  clattn_tensor weights;                 /* of the layer looked at */
};

clattn_status gpt_pass_create(const clattn_gpt *gpt,
                              const gpt_pass_config *config, gpt_pass **pass);
void gpt_pass_destroy(gpt_pass *pass);
/* Columns of an activation, and the view of layer's part in this call. */
int64_t gpt_act_columns(const clattn_gpt *gpt, gpt_act act);
clattn_tensor gpt_act_view(const gpt_pass *pass, gpt_act act, int64_t layer);
/* How a message names it. */
const char *gpt_act_name(gpt_act act);
bool gpt_act_of_layer(gpt_act act);
/* Starts a call: b windows of t tokens. targets may be NULL. */
clattn_status gpt_pass_begin(gpt_pass *pass, clattn_queue *queue,
                             const int32_t *ids, const int32_t *targets,
                             int64_t b, int64_t t);
/* Enqueues embedding, layers and logits, and the loss. */
clattn_status gpt_pass_layers(gpt_pass *pass, clattn_queue *queue,
                              int64_t layers);
clattn_status gpt_pass_logits(gpt_pass *pass, clattn_queue *queue);
clattn_status gpt_pass_loss(gpt_pass *pass, clattn_queue *queue);
/* Arguments of a layer's attention, the same forward and backward. */
void gpt_attention_args(const gpt_pass *pass, int64_t layer,
                        clattn_mha_args *args);
void gpt_norm_args(const gpt_pass *pass, gpt_act x, int64_t layer,
                   clattn_nn_layer_norm_args *args);
void gpt_loss_args(const gpt_pass *pass, clattn_nn_cross_entropy_args *args);

/* ---- backward (gpt_backward.c) ------------------------------------------- */

typedef struct gpt_grads {
  clattn_buffer *params; /* as the parameters; gradients are added */
  /* Of activations, [B,T,E], [B,T,E] and [B,T,4E]. */
  clattn_buffer *x, *branch, *wide;
} gpt_grads;

/* Enqueues the gradients of scale times the mean loss of the last call. The
 * logits are overwritten by their gradient. */
clattn_status gpt_backward(gpt_pass *pass, clattn_queue *queue, float scale,
                           const gpt_grads *grads);

/* ---- what is not finite (gpt_check.c) ------------------------------------ */

/* Sets the message: `what` is not finite at that step, and where NaN or infinity
 * stands first: a parameter, an activation, or with grads a gradient. Returns
 * INVALID_ARGUMENT, or what reading failed with. */
clattn_status gpt_not_finite(const gpt_pass *pass, clattn_queue *queue,
                             const gpt_grads *grads, int64_t step,
                             const char *what, float value);

/* ---- files (gpt_file.c) -------------------------------------------------- */

/* One more set of tensors of the model's shapes, under prefix + name. */
typedef struct gpt_file_part {
  const char *prefix;
  clattn_buffer *buffer;
  clattn_dtype dtype;
} gpt_file_part;

clattn_status gpt_file_write(const clattn_gpt *gpt, clattn_queue *queue,
                             const char *path, const gpt_file_part *parts,
                             size_t n_parts, const clattn_kit_tensor *more,
                             size_t n_more, const clattn_kit_metadata *metadata,
                             size_t n_metadata);
clattn_status gpt_file_read(const clattn_gpt *gpt, clattn_queue *queue,
                            const clattn_kit_safetensors *file,
                            const char *prefix, clattn_buffer *buffer);
/* A whole number of the metadata, within min..max. */
clattn_status gpt_file_number(const clattn_kit_safetensors *file,
                              const char *key, int64_t min, int64_t max,
                              int64_t *number);

#endif
