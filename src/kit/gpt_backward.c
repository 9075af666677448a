/* gpt_backward.c - from the loss back to every parameter.
 *
 * grads->x holds the gradient of what flows through, [B,T,E], on its way from
 * the last layer to the embedding; each branch adds its part to it. */
#include "gpt.h"

typedef struct back {
  gpt_pass *pass;
  clattn_queue *queue;
  const gpt_grads *grads;
  clattn_tensor x, branch, wide; /* views of this call */
} back;

static clattn_tensor grad_view(const back *b, size_t tensor) {
  return gpt_view(b->pass->gpt, b->grads->params, tensor);
}

/* d_x is replaced, or added to; gradients of parameters are added. */
static clattn_status norm_backward(const back *b, gpt_act x, int64_t layer,
                                   size_t weight, const clattn_tensor *d_out,
                                   bool add) {
  clattn_nn_layer_norm_args args;
  gpt_norm_args(b->pass, x, layer, &args);
  const clattn_tensor d_weight = grad_view(b, weight);
  const clattn_tensor d_bias = grad_view(b, weight + 1);
  return clattn_nn_layer_norm_backward(
      b->queue, &args, d_out, &b->x, &d_weight, &d_bias,
      CLATTN_ADD_TO_WEIGHTS | (add ? CLATTN_ADD_TO_INPUTS : 0), NULL, 0, NULL);
}

static clattn_status linear_backward(const back *b, gpt_act from, int64_t layer,
                                     int which, const clattn_tensor *d_out,
                                     const clattn_tensor *d_x) {
  const clattn_gpt *gpt = b->pass->gpt;
  const size_t i = gpt_layer_tensor(layer, which);
  const clattn_tensor x = gpt_act_view(b->pass, from, layer);
  const clattn_tensor w = gpt_view(gpt, gpt->values, i);
  const clattn_tensor d_w = grad_view(b, i), d_b = grad_view(b, i + 1);
  return clattn_linear_backward(b->queue, &x, &w, d_out, d_x, &d_w, &d_b,
                                CLATTN_ADD_TO_WEIGHTS, NULL, 0, NULL);
}

/* The tied head: its weight is the embedding's table. */
static clattn_status head_backward(const back *b, float scale) {
  const clattn_gpt *gpt = b->pass->gpt;
  clattn_nn_cross_entropy_args args;
  gpt_loss_args(b->pass, &args);
  KIT_TRY(clattn_nn_cross_entropy_backward(b->queue, &args, scale, &args.logits,
                                           NULL, 0, NULL));
  const clattn_tensor x = gpt_act_view(b->pass, GPT_LNF, 0);
  const clattn_tensor w = gpt_view(gpt, gpt->values, GPT_WTE);
  const clattn_tensor d_w = grad_view(b, GPT_WTE);
  KIT_TRY(clattn_linear_backward(b->queue, &x, &w, &args.logits, &b->branch,
                                 &d_w, NULL, CLATTN_ADD_TO_WEIGHTS, NULL, 0,
                                 NULL));
  return norm_backward(b, GPT_X, gpt->config.layers, gpt_last_norm(gpt),
                       &b->branch, false);
}

static clattn_status mlp_backward(const back *b, int64_t l) {
  KIT_TRY(linear_backward(b, GPT_GELU, l, GPT_OUT_W, &b->x, &b->wide));
  const clattn_tensor fc = gpt_act_view(b->pass, GPT_FC, l);
  KIT_TRY(clattn_nn_gelu_backward(b->queue, CLATTN_NN_GELU_TANH, &fc, &b->wide,
                                  &b->wide, NULL, 0, NULL));
  KIT_TRY(linear_backward(b, GPT_LN2, l, GPT_FC_W, &b->wide, &b->branch));
  return norm_backward(b, GPT_MID, l, gpt_layer_tensor(l, GPT_LN2_W),
                       &b->branch, true);
}

static clattn_status attention_backward(const back *b, int64_t l) {
  clattn_mha_args args;
  gpt_attention_args(b->pass, l, &args);
  clattn_mha_grads grads;
  clattn_mha_grads_init(&grads);
  grads.d_output = b->x;
  grads.d_query = b->branch;
  gpt_attention_views(b->pass->gpt, b->grads->params, l, &grads.d_weights);
  grads.accumulate = CLATTN_ADD_TO_WEIGHTS;
  KIT_TRY(clattn_mha_backward(b->pass->mha[l], b->queue, &args, &grads, NULL, 0,
                              NULL));
  return norm_backward(b, GPT_X, l, gpt_layer_tensor(l, GPT_LN1_W), &b->branch,
                       true);
}

static clattn_status embed_backward(const back *b) {
  const gpt_pass *pass = b->pass;
  const clattn_tensor ids =
      clattn_view_bhsd(pass->ids, CLATTN_I32, pass->b, 1, pass->t, 1);
  const clattn_tensor d_table = grad_view(b, GPT_WTE);
  clattn_tensor d_positions = grad_view(b, GPT_WPE);
  d_positions.extent[2] = pass->t;
  KIT_TRY(clattn_nn_add_backward(b->queue, &b->x, &d_positions,
                                 CLATTN_ADD_TO_WEIGHTS, NULL, 0, NULL));
  return clattn_nn_embedding_backward(b->queue, &ids, &b->x, &d_table, NULL, 0,
                                      NULL);
}

clattn_status gpt_backward(gpt_pass *pass, clattn_queue *queue, float scale,
                           const gpt_grads *grads) {
  const int64_t E = pass->gpt->config.embed_dim;
  const back b = {
      pass,
      queue,
      grads,
      clattn_view_bhsd(grads->x, CLATTN_F32, pass->b, 1, pass->t, E),
      clattn_view_bhsd(grads->branch, CLATTN_F32, pass->b, 1, pass->t, E),
      clattn_view_bhsd(grads->wide, CLATTN_F32, pass->b, 1, pass->t, 4 * E),
  };
  KIT_TRY(head_backward(&b, scale));
  for (int64_t l = pass->gpt->config.layers - 1; l >= 0; l--) {
    KIT_TRY(mlp_backward(&b, l));
    KIT_TRY(attention_backward(&b, l));
  }
  return embed_backward(&b);
}
