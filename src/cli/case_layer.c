/* case_layer.c - the op MultiHeadAttention: PyTorch's layer, batch first; and
 * MultiHeadAttentionGrad, the same with the layer's gradients. */
#include <string.h>

#include "case.h"

static const char *const attributes[] = {"num_heads", "average_weights",
                                         "self_attention", NULL};
static const char *const inputs[] = {"query",
                                     "key",
                                     "value",
                                     "attn_mask",
                                     "q_proj_weight",
                                     "k_proj_weight",
                                     "v_proj_weight",
                                     "out_proj_weight",
                                     "q_proj_bias",
                                     "k_proj_bias",
                                     "v_proj_bias",
                                     "out_proj_bias",
                                     "key_padding_mask",
                                     NULL};
static const char *const outputs[] = {"output", "weights", NULL};
/* Of MultiHeadAttentionGrad. */
static const char *const grad_inputs[] = {"query",
                                          "key",
                                          "value",
                                          "attn_mask",
                                          "q_proj_weight",
                                          "k_proj_weight",
                                          "v_proj_weight",
                                          "out_proj_weight",
                                          "q_proj_bias",
                                          "k_proj_bias",
                                          "v_proj_bias",
                                          "out_proj_bias",
                                          "key_padding_mask",
                                          "d_output",
                                          NULL};
static const char *const grad_outputs[] = {"output",
                                           "weights",
                                           "d_query",
                                           "d_key",
                                           "d_value",
                                           "d_q_proj_weight",
                                           "d_k_proj_weight",
                                           "d_v_proj_weight",
                                           "d_out_proj_weight",
                                           "d_q_proj_bias",
                                           "d_k_proj_bias",
                                           "d_v_proj_bias",
                                           "d_out_proj_bias",
                                           NULL};

/* B batch, L query rows, S keys. */
typedef struct layer {
  cli_case *c;
  int64_t B, L, S;
  clattn_mha_config config;
  clattn_mha_args args;
  clattn_mha_grads grads;
} layer;

static bool load_inputs(layer *y) {
  cli_case *c = y->c;
  clattn_kit_tensor query, key, value;
  if (!case_required(c, "query", &query) || !case_required(c, "key", &key) ||
      !case_required(c, "value", &value))
    return false;
  if (query.rank != 3 || key.rank != 3 || value.rank != 3)
    return case_fail(c, "query, key, value: want rank 3");
  y->B = query.extent[0];
  y->L = query.extent[1];
  y->S = key.extent[1];
  return case_upload_as(c, &query, y->B, 1, y->L, query.extent[2],
                        &y->args.query) &&
         case_upload_as(c, &key, y->B, 1, y->S, key.extent[2], &y->args.key) &&
         case_upload_as(c, &value, y->B, 1, y->S, value.extent[2],
                        &y->args.value);
}

/* attn_mask (L,S) or (B*H,L,S), true or -inf hides; key_padding_mask (B,S). */
static bool load_masks(layer *y) {
  cli_case *c = y->c;
  clattn_kit_tensor mask, padding;
  if (!case_input(c, "attn_mask", &mask) ||
      !case_input(c, "key_padding_mask", &padding))
    return false;
  if (mask.name != NULL) {
    clattn_tensor *view =
        mask.dtype == CLATTN_KIT_BOOL ? &y->args.attn_mask : &y->args.bias;
    const bool each = mask.rank == 3;
    if (!case_upload_as(c, &mask, each ? y->B : 1,
                        each ? y->config.num_heads : 1, y->L, y->S, view))
      return false;
  }
  if (padding.name == NULL) return true;
  if (padding.dtype != CLATTN_KIT_BOOL)
    return case_skip(c, "key_padding_mask: type %s is not served",
                     clattn_kit_dtype_name(padding.dtype));
  return case_upload_as(c, &padding, y->B, 1, 1, y->S,
                        &y->args.key_padding_mask);
}

static bool load_config(layer *y) {
  cli_case *c = y->c;
  int64_t average;
  if (!case_integer(c, "num_heads", 0, &y->config.num_heads) ||
      !case_integer(c, "average_weights", 1, &average))
    return false;
  if (y->config.num_heads < 1)
    return case_fail(c, "num_heads: want a number >= 1");
  clattn_desc *attention = &y->config.attention;
  attention->dtype = y->args.query.dtype;
  attention->average_weights = average != 0;
  attention->path = c->target->path;
  if (c->weights && case_wants(c, "weights"))
    attention->outputs |= CLATTN_OUT_WEIGHTS;
  return true;
}

static bool expect_outputs(layer *y, int64_t out_dim) {
  cli_case *c = y->c;
  const clattn_dtype dtype = y->args.query.dtype;
  const int64_t shape[] = {y->B, y->L, out_dim};
  clattn_buffer *buffer;
  int64_t offset;
  if (!case_expect(c, "output", dtype, 3, shape, &buffer, &offset))
    return false;
  y->args.output = clattn_view_bhsd(buffer, dtype, y->B, 1, y->L, out_dim);
  y->args.output.offset = offset;
  if (!(y->config.attention.outputs & CLATTN_OUT_WEIGHTS)) return true;

  const bool average = y->config.attention.average_weights;
  const int64_t heads = average ? 1 : y->config.num_heads;
  const int64_t apart[] = {y->B, heads, y->L, y->S};
  const int64_t mean[] = {y->B, y->L, y->S};
  const clattn_dtype weights = case_want_dtype(c, "weights", CLATTN_F32);
  if (!case_expect(c, "weights", weights, average ? 3 : 4,
                   average ? mean : apart, &buffer, &offset))
    return false;
  y->args.weights = clattn_view(buffer, weights, 4, apart);
  y->args.weights.offset = offset;
  return true;
}

/* ---- gradients ----------------------------------------------------------- */

/* Memory for the gradient of a tensor, [..,rows,cols] in rank axes. */
static bool expect_grad(layer *y, const char *name, const clattn_tensor *of,
                        int rank, clattn_tensor *view) {
  cli_case *c = y->c;
  if (of->buffer == NULL || !case_gives(c, name)) return true;
  const int64_t *e = of->extent;
  const int64_t shape[] = {e[0], e[2], e[3]};
  const clattn_dtype dtype = case_want_dtype(c, name, of->dtype);
  clattn_buffer *buffer;
  int64_t offset;
  if (!case_expect(c, name, dtype, rank, shape + 3 - rank, &buffer, &offset))
    return false;
  *view = clattn_view_bhsd(buffer, dtype, e[0], e[1], e[2], e[3]);
  view->offset = offset;
  return true;
}

static bool load_grads(layer *y, const clattn_mha_weights *w, int64_t out_dim) {
  cli_case *c = y->c;
  clattn_kit_tensor d_output;
  clattn_mha_grads *g = &y->grads;
  clattn_mha_weights *d = &g->d_weights;
  return case_required(c, "d_output", &d_output) &&
         case_upload_as(c, &d_output, y->B, 1, y->L, out_dim, &g->d_output) &&
         expect_grad(y, "d_query", &y->args.query, 3, &g->d_query) &&
         expect_grad(y, "d_key", &y->args.key, 3, &g->d_key) &&
         expect_grad(y, "d_value", &y->args.value, 3, &g->d_value) &&
         expect_grad(y, "d_q_proj_weight", &w->q_weight, 2, &d->q_weight) &&
         expect_grad(y, "d_k_proj_weight", &w->k_weight, 2, &d->k_weight) &&
         expect_grad(y, "d_v_proj_weight", &w->v_weight, 2, &d->v_weight) &&
         expect_grad(y, "d_out_proj_weight", &w->o_weight, 2, &d->o_weight) &&
         expect_grad(y, "d_q_proj_bias", &w->q_bias, 1, &d->q_bias) &&
         expect_grad(y, "d_k_proj_bias", &w->k_bias, 1, &d->k_bias) &&
         expect_grad(y, "d_v_proj_bias", &w->v_bias, 1, &d->v_bias) &&
         expect_grad(y, "d_out_proj_bias", &w->o_bias, 1, &d->o_bias);
}

/* ---- running ------------------------------------------------------------- */

static bool run_layer(layer *y, clattn_kit_mha *mha) {
  cli_case *c = y->c;
  clattn_queue *queue = c->target->queue;
  clattn_mha *core = clattn_kit_mha_layer(mha);
  clattn_mha_config resolved;
  clattn_mha_weights weights;
  const bool grad = y->config.backward;
  return case_ok(c, clattn_kit_mha_parts(mha, &resolved, &weights)) &&
         expect_outputs(y, resolved.out_dim) &&
         (!grad || load_grads(y, &weights, resolved.out_dim)) &&
         case_ok(c, clattn_mha_forward(core, queue, &y->args, NULL, 0, NULL)) &&
         (!grad || case_ok(c, clattn_mha_backward(core, queue, &y->args,
                                                  &y->grads, NULL, 0, NULL))) &&
         case_ok(c, clattn_queue_finish(queue)); /* the weights go next */
}

bool case_layer(cli_case *c) {
  layer y = {.c = c};
  int64_t self;
  clattn_mha_config_init(&y.config);
  clattn_mha_args_init(&y.args);
  clattn_mha_grads_init(&y.grads);
  const bool grad = strcmp(c->op, "MultiHeadAttentionGrad") == 0;
  y.config.backward = grad;
  if (!case_knows(c, attributes, grad ? grad_inputs : inputs,
                  grad ? grad_outputs : outputs) ||
      !load_inputs(&y) || !load_config(&y) || !load_masks(&y) ||
      !case_integer(c, "self_attention", 0, &self))
    return false;
  if (grad && self != 0) /* one tensor, whose whole gradient is d_query */
    y.args.key = y.args.value = (clattn_tensor){0};
  const case_target *t = c->target;
  clattn_kit_mha *mha;
  if (!case_ok(c, clattn_kit_mha_load(t->context, t->device, t->queue, c->file,
                                      "in.", &y.config, &mha)))
    return false;
  const bool ok = run_layer(&y, mha);
  clattn_kit_mha_destroy(mha);
  return ok;
}
