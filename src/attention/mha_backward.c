/* mha_backward.c - the gradients of the layer: those of the output projection, of
 * attention, and of three projections. One backward is one submission. */
#include <inttypes.h>

#include "mha.h"

void clattn_mha_grads_init(clattn_mha_grads *grads) {
  if (!grads) return;
  *grads = (clattn_mha_grads){.struct_size = sizeof *grads};
  clattn_mha_weights_init(&grads->d_weights);
}

/* ---- checks ------------------------------------------------------------------------ */

/* A gradient and what it has the extents of. */
typedef struct pair {
  const clattn_tensor *grad, *of;
  const char *name, *of_name;
} pair;

enum { PAIRS = 13 };

static void list_pairs(const clattn_mha *mha, const clattn_mha_args *args,
                       const clattn_mha_grads *g, pair pairs[PAIRS]) {
  const clattn_mha_weights *w = &mha->weights, *d = &g->d_weights;
  const pair all[PAIRS] = {
      {&g->d_query, &args->query, "grads->d_query", "args->query"},
      {&g->d_key, &args->key, "grads->d_key", "args->key"},
      {&g->d_value, &args->value, "grads->d_value", "args->value"},
      {&g->d_bias, &args->bias, "grads->d_bias", "args->bias"},
      {&g->d_sinks, &args->sinks, "grads->d_sinks", "args->sinks"},
#define PAIR(field)                                                            \
  {&d->field, &w->field, "grads->d_weights." #field, "the layer's " #field}
      PAIR(q_weight),
      PAIR(k_weight),
      PAIR(v_weight),
      PAIR(o_weight),
      PAIR(q_bias),
      PAIR(k_bias),
      PAIR(v_bias),
      PAIR(o_bias)
#undef PAIR
  };
  for (int i = 0; i < PAIRS; i++) pairs[i] = all[i];
}

static clattn_status check_grads(const clattn_mha *mha,
                                 const clattn_mha_args *args,
                                 const clt_mha_inputs *in,
                                 const clattn_mha_grads *g) {
  const clt_want d_output = {.name = "grads->d_output",
                             .dtypes = CLT_FLOATS,
                             .extent = {in->B, 1, in->L, mha->config.out_dim}};
  CLT_TRY(clt_tensor_check(mha->device, &g->d_output, &d_output));
  pair pairs[PAIRS];
  list_pairs(mha, args, g, pairs);
  for (int i = 0; i < PAIRS; i++)
    CLT_TRY(clt_grad_check(mha->device, pairs[i].grad, pairs[i].name,
                           pairs[i].of, pairs[i].of_name));
  /* What is written meets nothing that is read, nor what else is written. */
  const pair others[] = {
      {&g->d_output, NULL, "grads->d_output", NULL},
      {&args->attn_mask, NULL, "args->attn_mask", NULL},
      {&args->key_padding_mask, NULL, "args->key_padding_mask", NULL},
      {&args->kv_lengths, NULL, "args->kv_lengths", NULL},
      {&args->q_starts, NULL, "args->q_starts", NULL},
      {&args->alibi_slopes, NULL, "args->alibi_slopes", NULL},
      {&args->q_positions, NULL, "args->q_positions", NULL},
      {&args->k_positions, NULL, "args->k_positions", NULL},
      {&mha->config.rotary_cos, NULL, "the layer's rotary_cos", NULL},
      {&mha->config.rotary_sin, NULL, "the layer's rotary_sin", NULL}};
  for (int i = 0; i < PAIRS; i++) {
    const pair *p = &pairs[i];
    for (int j = 0; j < PAIRS; j++) {
      CLT_TRY(
          clt_tensor_disjoint(p->grad, p->name, pairs[j].of, pairs[j].of_name));
      if (j > i)
        CLT_TRY(clt_tensor_disjoint(p->grad, p->name, pairs[j].grad,
                                    pairs[j].name));
    }
    for (size_t j = 0; j < sizeof others / sizeof *others; j++)
      CLT_TRY(clt_tensor_disjoint(p->grad, p->name, others[j].grad,
                                  others[j].name));
  }
  return CLATTN_OK;
}

/* ---- steps ---------------------------------------------------------------------------- */

/* Gradients of one projection to heads. */
static clattn_status add_projection(clt_work *work, const clattn_tensor *x,
                                    const clattn_tensor *w,
                                    const clattn_tensor *d_heads,
                                    const clattn_tensor *d_x,
                                    const clattn_tensor *d_w,
                                    const clattn_tensor *d_bias,
                                    uint32_t accumulate) {
  const clattn_tensor d_out = clt_mha_joined(d_heads);
  return clt_linear_backward_add(work, x, w, &d_out, d_x, d_w, d_bias,
                                 accumulate);
}

static clattn_status add_backward(clattn_mha *mha, clt_work *work,
                                  const clattn_mha_args *args,
                                  const clattn_mha_grads *g,
                                  const clt_mha_inputs *in) {
  const clattn_mha_weights *w = &mha->weights, *d = &g->d_weights;
  clt_mha_middle m, dm;
  CLT_TRY(clt_mha_lay_out(mha, in, mha->config.attention.dtype, &mha->workspace,
                          &m));
  CLT_TRY(clt_mha_lay_out(mha, in, CLATTN_F32, &mha->grads, &dm));

  const clattn_tensor rows = clt_mha_joined(&m.joined);
  const clattn_tensor d_rows = clt_mha_joined(&dm.joined);
  CLT_TRY(clt_linear_backward_add(work, &rows, &w->o_weight, &g->d_output,
                                  &d_rows, &d->o_weight, &d->o_bias,
                                  g->accumulate & CLATTN_ADD_TO_WEIGHTS));

  clattn_args a;
  clt_mha_attention_args(mha, args, &m, &a);
  clattn_grads grads;
  clattn_grads_init(&grads);
  grads.d_out = dm.joined;
  grads.d_q = dm.q;
  grads.d_k = dm.k;
  grads.d_v = dm.v;
  grads.d_bias = g->d_bias;
  grads.d_sinks = g->d_sinks;
  grads.accumulate = g->accumulate & CLATTN_ADD_TO_WEIGHTS;
  CLT_TRY(clt_backward_add(mha->plan, work, &a, &grads));
  CLT_TRY(clt_mha_add_rotary(mha, work, args, &dm.q, &dm.k, true));

  /* Where key or value stood for another input, their gradients join its. */
  const bool own_key = args->key.buffer, own_value = args->value.buffer;
  const clattn_tensor *d_key = own_key ? &g->d_key : &g->d_query;
  const clattn_tensor *d_value = own_value ? &g->d_value : d_key;
  const uint32_t join = g->accumulate | CLATTN_ADD_TO_INPUTS;
  CLT_TRY(add_projection(work, &in->query, &w->q_weight, &dm.q, &g->d_query,
                         &d->q_weight, &d->q_bias, g->accumulate));
  CLT_TRY(add_projection(work, &in->key, &w->k_weight, &dm.k, d_key,
                         &d->k_weight, &d->k_bias,
                         own_key ? g->accumulate : join));
  return add_projection(work, &in->value, &w->v_weight, &dm.v, d_value,
                        &d->v_weight, &d->v_bias,
                        own_value ? g->accumulate : join);
}

clattn_status clattn_mha_backward(clattn_mha *mha, clattn_queue *queue,
                                  const clattn_mha_args *args,
                                  const clattn_mha_grads *grads,
                                  clattn_event *const *wait, size_t n_wait,
                                  clattn_event **event) {
  if (event) *event = NULL;
  CLT_TRY(clt_mha_check_call(mha, queue, wait, n_wait));
  CLT_REQUIRE(mha->config.backward,
              "mha: its config has backward false, want true");
  CLT_REQUIRE_STRUCT(grads, clattn_mha_grads);
  CLT_REQUIRE(grads->d_weights.struct_size == sizeof grads->d_weights,
              "grads->d_weights.struct_size: got %zu, want %zu (call "
              "clattn_mha_grads_init first)",
              grads->d_weights.struct_size, sizeof grads->d_weights);
  CLT_TRY(clt_accumulate_check(grads->accumulate));
  clt_mha_inputs in;
  CLT_TRY(clt_mha_check_inputs(mha, args, &in));
  CLT_REQUIRE(!args->cache,
              "args->cache: given, want none: backward cannot "
              "follow a forward with a cache");
  CLT_REQUIRE(mha->saved.B != 0 && !mha->saved.cache,
              "mha: backward follows a forward without cache, there was none");
  CLT_TRY(clt_mha_check_saved(mha, &in));
  CLT_TRY(check_grads(mha, args, &in, grads));
  clt_work work;
  clt_work_init(&work, mha->device);
  clattn_status status = add_backward(mha, &work, args, grads, &in);
  if (status == CLATTN_OK)
    status = clt_mha_submit(mha, queue, &work, wait, n_wait, event);
  clt_work_free(&work);
  return status;
}
