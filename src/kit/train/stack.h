/* stack.h - a stack of transformer layers, norms first, with what feeds it and
 * what reads it: the whole of a GPT, or the encoder or the decoder of a
 * clattn_seq2seq.
 *
 *     x = wte[ids] + positions
 *     layers times:  x = x + attn(ln_1(x))           causal or not
 *                    x = x + cross(ln_x(x), memory)  where there is a memory
 *                    x = x + mlp(ln_2(x))            E -> 4E, GELU (tanh), E
 *     ln_f(x), and logits = ln_f(x) wte^T where there is a head */
#ifndef CLATTN_SRC_STACK_H
#define CLATTN_SRC_STACK_H

#include "params.h"

/* ---- parameters (stack.c) ------------------------------------------------ */

/* Tensors of a layer, in order; those from STACK_LNX_W on with a memory only. */
enum {
  STACK_LN1_W,
  STACK_LN1_B,
  STACK_ATTN_W,
  STACK_ATTN_B,
  STACK_PROJ_W,
  STACK_PROJ_B,
  STACK_LN2_W,
  STACK_LN2_B,
  STACK_FC_W,
  STACK_FC_B,
  STACK_OUT_W,
  STACK_OUT_B,
  STACK_LNX_W,
  STACK_LNX_B,
  STACK_CROSS_W,
  STACK_CROSS_B,
  STACK_CROSS_PROJ_W,
  STACK_CROSS_PROJ_B,
  STACK_LAYER_TENSORS
};

enum { STACK_CONSTANT = -1 };

typedef struct kit_stack {
  const kit_params *params;
  const char *prefix; /* of its tensors' names */
  int64_t layers, heads, embed_dim;
  int64_t rows; /* the most tokens: rows of positions */
  bool causal, memory, head;
  size_t first;             /* number of its first tensor */
  size_t wte;               /* of the table, [vocab, E] */
  int64_t vocab;            /* its rows */
  int64_t wpe;              /* of positions, or STACK_CONSTANT: */
  clattn_buffer *positions; /* [rows, E], the model's */
} kit_stack;

/* How many tensors it has. */
size_t kit_stack_tensors(const kit_stack *stack);
/* Names them, from `first` on; deviation of what is drawn for matrices, which is
 * divided by the root of the number of branches for those that end one. */
void kit_stack_name(const kit_stack *stack, kit_params *params,
                    float deviation);
/* Tensor `which` of a layer; the weight of the last norm, before its bias. */
size_t kit_stack_tensor(const kit_stack *stack, int64_t layer, int which);
size_t kit_stack_last_norm(const kit_stack *stack);
/* Weights and biases of a layer's attention in a buffer like the parameters';
 * which: STACK_ATTN_W or STACK_CROSS_W. */
void kit_stack_attention(const kit_stack *stack, clattn_buffer *buffer,
                         int64_t layer, int which, clattn_mha_weights *weights);

/* ---- forward (stack_forward.c) ------------------------------------------- */

/* Activations, F32 [layers or one, B, T, columns], in the order in which they
 * are computed. */
typedef enum stack_act {
  ACT_X, /* what flows through: the input of each layer and the last output */
  ACT_LN1,
  ACT_LN1_MEAN,
  ACT_LN1_RSTD,
  ACT_MID, /* after attention */
  ACT_LNX,
  ACT_LNX_MEAN,
  ACT_LNX_RSTD,
  ACT_MIX, /* after attention to the memory */
  ACT_LN2,
  ACT_LN2_MEAN,
  ACT_LN2_RSTD,
  ACT_FC,
  ACT_GELU,
  ACT_BRANCH, /* what is added to x; one for all layers */
  ACT_LNF,
  ACT_LNF_MEAN,
  ACT_LNF_RSTD,
  ACT_LOGITS,
  ACT_LOSSES,
  ACT_LSE,
  STACK_ACTS
} stack_act;

typedef struct kit_pass_config {
  int64_t batch, length; /* room for so many */
  bool backward;         /* keep each layer's activations */
  bool last_row;         /* logits of the last row only */
  bool one_position;     /* of all rows of a call: they are alternatives */
  int64_t look; /* this layer's attention, that to the memory if there is one,
                 * gives its weights; -1: none's */
  bool tell_weights, tell_statistics; /* those of all attention of all layers */
} kit_pass_config;

/* Attention of a layer: to its own rows, and to the memory. */
enum { KIT_SELF, KIT_CROSS, KIT_ATTENTIONS };

/* Where attention tells what it does beside its output, each layer in its turn.
 * weights as the config has it; query and key absent: not wanted. */
typedef struct kit_told {
  clattn_tensor weights, query, key;
  clattn_stats stats;
} kit_told;

typedef struct kit_pass {
  const kit_stack *stack;
  kit_pass_config config;
  clattn_mha **attn, **cross; /* [layers]; cross with a memory only */
  clattn_buffer *acts[STACK_ACTS];
  clattn_buffer *ids, *targets; /* I32 [batch, length] */
  clattn_buffer *mean;          /* of cross-entropy: [2] */
  /* The call in progress. */
  int64_t b, t;
  float dropout;
  uint64_t dropout_seed, dropout_offset; /* of layer 0; kit_pass_draws each */
  clattn_kv_cache *const *caches;        /* [layers] or NULL */
  int64_t position;                      /* of the first row */
  clattn_tensor memory;                  /* [B,1,S,E] */
  clattn_tensor lengths; /* I32 [B,1,1,1]: of the memory, else of the keys */
  clattn_tensor hidden;  /* BOOL [B,1,T,keys]: true hides a key of `attn` */
  kit_told told[KIT_ATTENTIONS];
} kit_pass;

clattn_status kit_pass_create(const kit_stack *stack,
                              const kit_pass_config *config, kit_pass **pass);
void kit_pass_destroy(kit_pass *pass);
/* Columns of an activation, and the view of layer's part in this call. */
int64_t kit_act_columns(const kit_stack *stack, stack_act act);
clattn_tensor kit_act_view(const kit_pass *pass, stack_act act, int64_t layer);
/* How a message names it. */
const char *kit_act_name(stack_act act);
bool kit_act_of_layer(stack_act act);
/* Attention layers that draw dropout of their own: offsets of one call. */
int64_t kit_pass_draws(const kit_stack *stack);
/* Starts a call: b sequences of t tokens. targets may be NULL. */
clattn_status kit_pass_begin(kit_pass *pass, clattn_queue *queue,
                             const int32_t *ids, const int32_t *targets,
                             int64_t b, int64_t t);
/* Enqueues the embedding, and one layer. */
clattn_status kit_pass_embed(kit_pass *pass, clattn_queue *queue);
clattn_status kit_pass_layer(kit_pass *pass, clattn_queue *queue,
                             int64_t layer);
/* Enqueues embedding and layers; the last norm, and logits where there is a head;
 * the loss. */
clattn_status kit_pass_layers(kit_pass *pass, clattn_queue *queue,
                              int64_t layers);
clattn_status kit_pass_last(kit_pass *pass, clattn_queue *queue);
clattn_status kit_pass_loss(kit_pass *pass, clattn_queue *queue);
/* Arguments of a layer's attention, the same forward and backward. */
void kit_attention_args(const kit_pass *pass, int64_t layer,
                        clattn_mha_args *args);
void kit_cross_args(const kit_pass *pass, int64_t layer, clattn_mha_args *args);
/* Of the norm that reads x: ACT_X, ACT_MID, ACT_MIX, or ACT_X behind the last
 * layer. weight: the number of its tensor. */
size_t kit_norm_args(const kit_pass *pass, stack_act x, int64_t layer,
                     clattn_nn_layer_norm_args *args);
void kit_loss_args(const kit_pass *pass, clattn_nn_cross_entropy_args *args);
/* What the mlp reads, and its norm: ACT_MIX with a memory. */
stack_act kit_mlp_input(const kit_stack *stack);
clattn_status kit_check_ids(const char *name, const int32_t *ids, int64_t n,
                            int64_t vocab, bool may_ignore);

/* ---- backward (stack_backward.c) ----------------------------------------- */

typedef struct kit_grads {
  clattn_buffer *params; /* as the parameters; gradients are added */
  /* Of activations, [B,T,E], [B,T,E] and [B,T,4E]. */
  clattn_buffer *x, *branch, *wide;
} kit_grads;

/* Memory for the three, of passes with room for so many rows. */
clattn_status kit_grads_make(kit_grads *grads, const kit_params *params,
                             int64_t rows, int64_t embed_dim);
void kit_grads_free(kit_grads *grads);

/* Enqueues the gradients of scale times the mean loss of the last call; the
 * logits are overwritten by their gradient. d_memory [B,1,S,E], of a stack that
 * has a memory, is replaced. */
clattn_status kit_pass_backward(kit_pass *pass, clattn_queue *queue,
                                float scale, const kit_grads *grads,
                                const clattn_tensor *d_memory);
/* The same of a stack without a head, from the gradient of its last norm. */
clattn_status kit_pass_backward_from(kit_pass *pass, clattn_queue *queue,
                                     const clattn_tensor *d_last,
                                     const kit_grads *grads);

/* ---- what is not finite (stack_check.c) ---------------------------------- */

/* Sets the message: `what` is not finite at that step, and where NaN or infinity
 * stands first: a parameter, an activation of the passes in their order, or with
 * grads a gradient. Returns INVALID_ARGUMENT, or what reading failed with. */
clattn_status kit_not_finite(const kit_pass *const *passes, size_t n_passes,
                             clattn_queue *queue, const clattn_buffer *grads,
                             int64_t step, const char *what, float value);

#endif
