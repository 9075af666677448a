/* stack_backward.c - from the loss back to every parameter.
 *
 * grads->x holds the gradient of what flows through, [B,T,E], on its way from
 * the last layer to the embedding; each branch adds its part to it. */
#include "stack.h"

clattn_status kit_grads_make(kit_grads *grads, const kit_params *params,
                             int64_t rows, int64_t embed_dim) {
  const size_t bytes = (size_t)rows * (size_t)embed_dim * sizeof(float);
  const struct {
    clattn_buffer **buffer;
    size_t bytes;
  } parts[] = {
      {&grads->x, bytes}, {&grads->branch, bytes}, {&grads->wide, 4 * bytes}};
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
    KIT_TRY(clattn_buffer_create(params->context, params->device,
                                 parts[i].bytes, parts[i].buffer));
  return CLATTN_OK;
}

void kit_grads_free(kit_grads *grads) {
  clattn_buffer_destroy(grads->x);
  clattn_buffer_destroy(grads->branch);
  clattn_buffer_destroy(grads->wide);
}

typedef struct back {
  kit_pass *pass;
  clattn_queue *queue;
  const kit_grads *grads;
  clattn_tensor x, branch, wide; /* views of this call */
  const clattn_tensor *d_memory; /* NULL without a memory */
} back;

static back begin(kit_pass *pass, clattn_queue *queue, const kit_grads *grads,
                  const clattn_tensor *d_memory) {
  const int64_t E = pass->stack->embed_dim;
  return (back){
      pass,
      queue,
      grads,
      clattn_view_bhsd(grads->x, CLATTN_F32, pass->b, 1, pass->t, E),
      clattn_view_bhsd(grads->branch, CLATTN_F32, pass->b, 1, pass->t, E),
      clattn_view_bhsd(grads->wide, CLATTN_F32, pass->b, 1, pass->t, 4 * E),
      d_memory};
}

static clattn_tensor grad_view(const back *b, size_t tensor) {
  return kit_params_view(b->pass->stack->params, b->grads->params, tensor);
}

/* d_x is replaced, or added to; gradients of parameters are added. */
static clattn_status norm_backward(const back *b, stack_act x, int64_t layer,
                                   const clattn_tensor *d_out, bool add) {
  clattn_nn_layer_norm_args args;
  const size_t weight = kit_norm_args(b->pass, x, layer, &args);
  const clattn_tensor d_weight = grad_view(b, weight);
  const clattn_tensor d_bias = grad_view(b, weight + 1);
  return clattn_nn_layer_norm_backward(
      b->queue, &args, d_out, &b->x, &d_weight, &d_bias,
      CLATTN_ADD_TO_WEIGHTS | (add ? CLATTN_ADD_TO_INPUTS : 0), NULL, 0, NULL);
}

static clattn_status linear_backward(const back *b, stack_act from,
                                     int64_t layer, int which,
                                     const clattn_tensor *d_out,
                                     const clattn_tensor *d_x) {
  const kit_stack *stack = b->pass->stack;
  const size_t i = kit_stack_tensor(stack, layer, which);
  const clattn_tensor x = kit_act_view(b->pass, from, layer);
  const clattn_tensor w =
      kit_params_view(stack->params, stack->params->values, i);
  const clattn_tensor d_w = grad_view(b, i), d_b = grad_view(b, i + 1);
  return clattn_linear_backward(b->queue, &x, &w, d_out, d_x, &d_w, &d_b,
                                CLATTN_ADD_TO_WEIGHTS, NULL, 0, NULL);
}

/* The tied head: its weight is the embedding's table. */
static clattn_status head_backward(const back *b, float scale) {
  const kit_stack *stack = b->pass->stack;
  clattn_nn_cross_entropy_args args;
  kit_loss_args(b->pass, &args);
  KIT_TRY(clattn_nn_cross_entropy_backward(b->queue, &args, scale, &args.logits,
                                           NULL, 0, NULL));
  const clattn_tensor x = kit_act_view(b->pass, ACT_LNF, 0);
  const clattn_tensor w =
      kit_params_view(stack->params, stack->params->values, stack->wte);
  const clattn_tensor d_w = grad_view(b, stack->wte);
  return clattn_linear_backward(b->queue, &x, &w, &args.logits, &b->branch,
                                &d_w, NULL, CLATTN_ADD_TO_WEIGHTS, NULL, 0,
                                NULL);
}

static clattn_status mlp_backward(const back *b, int64_t l) {
  KIT_TRY(linear_backward(b, ACT_GELU, l, STACK_OUT_W, &b->x, &b->wide));
  const clattn_tensor fc = kit_act_view(b->pass, ACT_FC, l);
  KIT_TRY(clattn_nn_gelu_backward(b->queue, CLATTN_NN_GELU_TANH, &fc, &b->wide,
                                  &b->wide, NULL, 0, NULL));
  KIT_TRY(linear_backward(b, ACT_LN2, l, STACK_FC_W, &b->wide, &b->branch));
  return norm_backward(b, kit_mlp_input(b->pass->stack), l, &b->branch, true);
}

static clattn_status attention_backward(const back *b, int64_t l) {
  clattn_mha_args args;
  kit_attention_args(b->pass, l, &args);
  clattn_mha_grads grads;
  clattn_mha_grads_init(&grads);
  grads.d_output = b->x;
  grads.d_query = b->branch;
  kit_stack_attention(b->pass->stack, b->grads->params, l, STACK_ATTN_W,
                      &grads.d_weights);
  grads.accumulate = CLATTN_ADD_TO_WEIGHTS;
  KIT_TRY(clattn_mha_backward(b->pass->attn[l], b->queue, &args, &grads, NULL,
                              0, NULL));
  return norm_backward(b, ACT_X, l, &b->branch, true);
}

/* Each layer adds to the memory's gradient; the query's is to be replaced, but
 * the layer knows one way for both. */
static clattn_status cross_backward(const back *b, int64_t l) {
  clattn_mha_args args;
  kit_cross_args(b->pass, l, &args);
  KIT_TRY(clattn_nn_fill(b->queue, &b->branch, 0, NULL, 0, NULL));
  clattn_mha_grads grads;
  clattn_mha_grads_init(&grads);
  grads.d_output = b->x;
  grads.d_query = b->branch;
  grads.d_key = *b->d_memory;
  kit_stack_attention(b->pass->stack, b->grads->params, l, STACK_CROSS_W,
                      &grads.d_weights);
  grads.accumulate = CLATTN_ADD_TO_WEIGHTS | CLATTN_ADD_TO_INPUTS;
  KIT_TRY(clattn_mha_backward(b->pass->cross[l], b->queue, &args, &grads, NULL,
                              0, NULL));
  return norm_backward(b, ACT_MID, l, &b->branch, true);
}

static clattn_status embed_backward(const back *b) {
  const kit_pass *pass = b->pass;
  const kit_stack *stack = pass->stack;
  const clattn_tensor ids =
      clattn_view_bhsd(pass->ids, CLATTN_I32, pass->b, 1, pass->t, 1);
  const clattn_tensor d_table = grad_view(b, stack->wte);
  if (stack->wpe != STACK_CONSTANT) {
    clattn_tensor d_positions = grad_view(b, (size_t)stack->wpe);
    d_positions.extent[2] = pass->t;
    KIT_TRY(clattn_nn_add_backward(b->queue, &b->x, &d_positions,
                                   CLATTN_ADD_TO_WEIGHTS, NULL, 0, NULL));
  }
  return clattn_nn_embedding_backward(b->queue, &ids, &b->x, &d_table, NULL, 0,
                                      NULL);
}

/* From the gradient of the last norm. */
static clattn_status layers_backward(const back *b,
                                     const clattn_tensor *d_last) {
  const kit_stack *stack = b->pass->stack;
  KIT_TRY(norm_backward(b, ACT_X, stack->layers, d_last, false));
  if (stack->memory)
    KIT_TRY(clattn_nn_fill(b->queue, b->d_memory, 0, NULL, 0, NULL));
  for (int64_t l = stack->layers - 1; l >= 0; l--) {
    KIT_TRY(mlp_backward(b, l));
    if (stack->memory) KIT_TRY(cross_backward(b, l));
    KIT_TRY(attention_backward(b, l));
  }
  return embed_backward(b);
}

clattn_status kit_pass_backward(kit_pass *pass, clattn_queue *queue,
                                float scale, const kit_grads *grads,
                                const clattn_tensor *d_memory) {
  const back b = begin(pass, queue, grads, d_memory);
  KIT_TRY(head_backward(&b, scale));
  return layers_backward(&b, &b.branch);
}

clattn_status kit_pass_backward_from(kit_pass *pass, clattn_queue *queue,
                                     const clattn_tensor *d_last,
                                     const kit_grads *grads) {
  const back b = begin(pass, queue, grads, NULL);
  return layers_backward(&b, d_last);
}
