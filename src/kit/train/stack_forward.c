/* stack_forward.c - memory for activations, and the way from tokens to the loss.
 *
 * One kit_pass serves training, evaluation and decoding: what differs is whether
 * each layer's activations are kept (backward needs them), whether there is a KV
 * cache, and how many rows of logits are wanted. */
#include <stdlib.h>

#include "stack.h"

/* ---- activations --------------------------------------------------------- */

/* Columns in units of 1, E or V; whether each layer has its own; whether only a
 * stack with a memory, or with a head, has it. */
static const struct {
  const char *name;
  int64_t ones, embeds;
  bool vocab, of_layer, memory, head;
} acts[STACK_ACTS] = {
    [ACT_X] = {"input", .embeds = 1, .of_layer = true},
    [ACT_LN1] = {"ln_1", .embeds = 1, .of_layer = true},
    [ACT_LN1_MEAN] = {"ln_1.mean", .ones = 1, .of_layer = true},
    [ACT_LN1_RSTD] = {"ln_1.rstd", .ones = 1, .of_layer = true},
    [ACT_MID] = {"attn", .embeds = 1, .of_layer = true},
    [ACT_LNX] = {"ln_x", .embeds = 1, .of_layer = true, .memory = true},
    [ACT_LNX_MEAN] = {"ln_x.mean", .ones = 1, .of_layer = true, .memory = true},
    [ACT_LNX_RSTD] = {"ln_x.rstd", .ones = 1, .of_layer = true, .memory = true},
    [ACT_MIX] = {"cross", .embeds = 1, .of_layer = true, .memory = true},
    [ACT_LN2] = {"ln_2", .embeds = 1, .of_layer = true},
    [ACT_LN2_MEAN] = {"ln_2.mean", .ones = 1, .of_layer = true},
    [ACT_LN2_RSTD] = {"ln_2.rstd", .ones = 1, .of_layer = true},
    [ACT_FC] = {"mlp.c_fc", .embeds = 4, .of_layer = true},
    [ACT_GELU] = {"mlp.gelu", .embeds = 4, .of_layer = true},
    [ACT_BRANCH] = {"branch", .embeds = 1},
    [ACT_LNF] = {"ln_f", .embeds = 1},
    [ACT_LNF_MEAN] = {"ln_f.mean", .ones = 1},
    [ACT_LNF_RSTD] = {"ln_f.rstd", .ones = 1},
    [ACT_LOGITS] = {"logits", .vocab = true, .head = true},
    [ACT_LOSSES] = {"losses", .ones = 1, .head = true},
    [ACT_LSE] = {"lse", .ones = 1, .head = true},
};

const char *kit_act_name(stack_act act) { return acts[act].name; }

bool kit_act_of_layer(stack_act act) { return acts[act].of_layer; }

int64_t kit_act_columns(const kit_stack *stack, stack_act act) {
  return acts[act].ones + acts[act].embeds * stack->embed_dim +
         (acts[act].vocab ? stack->vocab : 0);
}

static bool is_absent(const kit_stack *stack, stack_act act) {
  return (acts[act].memory && !stack->memory) ||
         (acts[act].head && !stack->head);
}

/* From the last norm on only the last row may be wanted. */
static bool is_last_row(const kit_pass *pass, stack_act act) {
  return pass->config.last_row && act >= ACT_LNF;
}

/* Elements from one layer's part to the next: 0 where they share it. */
static int64_t layer_stride(const kit_pass *pass, stack_act act) {
  if (!pass->config.backward || !acts[act].of_layer) return 0;
  return pass->config.batch * pass->config.length *
         kit_act_columns(pass->stack, act);
}

clattn_tensor kit_act_view(const kit_pass *pass, stack_act act, int64_t layer) {
  clattn_tensor view = clattn_view_bhsd(pass->acts[act], CLATTN_F32, pass->b, 1,
                                        is_last_row(pass, act) ? 1 : pass->t,
                                        kit_act_columns(pass->stack, act));
  view.offset = layer * layer_stride(pass, act);
  return view;
}

static clattn_status make_acts(kit_pass *pass) {
  const kit_pass_config *c = &pass->config;
  const kit_stack *stack = pass->stack;
  clattn_context *context = stack->params->context;
  const int device = stack->params->device;
  for (int act = 0; act < STACK_ACTS; act++) {
    if (is_absent(stack, act)) continue;
    const int64_t copies =
        layer_stride(pass, act) != 0 ? stack->layers + (act == ACT_X) : 1;
    const int64_t rows = c->batch * (is_last_row(pass, act) ? 1 : c->length);
    int64_t bytes;
    KIT_REQUIRE(
        !__builtin_mul_overflow(rows * kit_act_columns(stack, act),
                                copies * (int64_t)sizeof(float), &bytes),
        "batch: got %lld sequences of %lld tokens, whose activations overflow "
        "the size of memory",
        (long long)c->batch, (long long)c->length);
    KIT_TRY(
        clattn_buffer_create(context, device, (size_t)bytes, &pass->acts[act]));
  }
  const size_t ids = (size_t)(c->batch * c->length) * sizeof(int32_t);
  KIT_TRY(clattn_buffer_create(context, device, ids, &pass->ids));
  KIT_TRY(clattn_buffer_create(context, device, ids, &pass->targets));
  return clattn_buffer_create(context, device, 2 * sizeof(float), &pass->mean);
}

/* Whether that attention of a layer gives its weights. */
static bool tells_weights(const kit_pass *pass, int64_t layer, int attention) {
  const kit_pass_config *c = &pass->config;
  return c->tell_weights ||
         (layer == c->look &&
          attention == (pass->stack->memory ? KIT_CROSS : KIT_SELF));
}

static clattn_status make_attention(const kit_pass *pass, int64_t layer,
                                    int which, clattn_mha **mha) {
  const kit_stack *stack = pass->stack;
  const kit_params *params = stack->params;
  const bool cross = which == STACK_CROSS_W;
  clattn_mha_config config;
  clattn_mha_config_init(&config);
  config.embed_dim = stack->embed_dim;
  config.num_heads = stack->heads;
  config.attention.causal = stack->causal && !cross;
  config.backward = pass->config.backward;
  if (tells_weights(pass, layer, cross ? KIT_CROSS : KIT_SELF))
    config.attention.outputs = CLATTN_OUT_WEIGHTS;
  config.statistics = pass->config.tell_statistics;
  clattn_mha_weights weights;
  clattn_mha_weights_init(&weights);
  kit_stack_attention(stack, params->values, layer, which, &weights);
  return clattn_mha_create(params->context, params->device, &config, &weights,
                           mha);
}

static clattn_status make_layers(kit_pass *pass) {
  const kit_stack *stack = pass->stack;
  const size_t n = (size_t)stack->layers;
  pass->attn = calloc(n, sizeof(clattn_mha *));
  pass->cross = calloc(n, sizeof(clattn_mha *));
  if (pass->attn == NULL || pass->cross == NULL)
    return KIT_OUT_OF_MEMORY("layers");
  for (int64_t l = 0; l < stack->layers; l++) {
    KIT_TRY(make_attention(pass, l, STACK_ATTN_W, &pass->attn[l]));
    if (stack->memory)
      KIT_TRY(make_attention(pass, l, STACK_CROSS_W, &pass->cross[l]));
  }
  return CLATTN_OK;
}

clattn_status kit_pass_create(const kit_stack *stack,
                              const kit_pass_config *config, kit_pass **pass) {
  KIT_REQUIRE(config->batch >= 1 && config->batch <= INT32_MAX,
              "batch: got %lld, want 1..%d", (long long)config->batch,
              INT32_MAX);
  KIT_REQUIRE(config->length >= 1 &&
                  (config->one_position || config->length <= stack->rows),
              "length: got %lld, want 1..%lld, the context",
              (long long)config->length, (long long)stack->rows);
  kit_pass *made = calloc(1, sizeof *made);
  if (made == NULL) return KIT_OUT_OF_MEMORY("activations");
  made->stack = stack;
  made->config = *config;
  clattn_status status = make_acts(made);
  if (status == CLATTN_OK) status = make_layers(made);
  if (status != CLATTN_OK) {
    kit_pass_destroy(made);
    return status;
  }
  *pass = made;
  return CLATTN_OK;
}

static void destroy_layers(clattn_mha **layers, int64_t n) {
  for (int64_t l = 0; layers != NULL && l < n; l++)
    clattn_mha_destroy(layers[l]);
  free(layers);
}

void kit_pass_destroy(kit_pass *pass) {
  if (pass == NULL) return;
  destroy_layers(pass->attn, pass->stack->layers);
  destroy_layers(pass->cross, pass->stack->layers);
  for (int act = 0; act < STACK_ACTS; act++)
    clattn_buffer_destroy(pass->acts[act]);
  clattn_buffer_destroy(pass->ids);
  clattn_buffer_destroy(pass->targets);
  clattn_buffer_destroy(pass->mean);
  free(pass);
}

/* ---- a call -------------------------------------------------------------- */

clattn_status kit_check_ids(const char *name, const int32_t *ids, int64_t n,
                            int64_t vocab, bool may_ignore) {
  KIT_REQUIRE(ids != NULL, "%s: got NULL, want %lld numbers", name,
              (long long)n);
  for (int64_t i = 0; i < n; i++)
    KIT_REQUIRE((ids[i] >= 0 && ids[i] < vocab) ||
                    (may_ignore && ids[i] == CLATTN_NN_IGNORE),
                "%s[%lld]: got %ld, want 0..%lld", name, (long long)i,
                (long)ids[i], (long long)vocab - 1);
  return CLATTN_OK;
}

clattn_status kit_pass_begin(kit_pass *pass, clattn_queue *queue,
                             const int32_t *ids, const int32_t *targets,
                             int64_t b, int64_t t) {
  const int64_t vocab = pass->stack->vocab;
  KIT_REQUIRE(queue != NULL, "queue: got NULL, want a queue");
  KIT_REQUIRE(b >= 1 && b <= pass->config.batch,
              "batch: got %lld, want 1..%lld", (long long)b,
              (long long)pass->config.batch);
  KIT_REQUIRE(t >= 1 && t <= pass->config.length,
              "length: got %lld, want 1..%lld", (long long)t,
              (long long)pass->config.length);
  KIT_TRY(kit_check_ids("ids", ids, b * t, vocab, false));
  if (targets != NULL) {
    KIT_TRY(kit_check_ids("targets", targets, b * t, vocab, true));
    int64_t ignored = 0; /* from the first on */
    while (ignored < b * t && targets[ignored] == CLATTN_NN_IGNORE) ignored++;
    KIT_REQUIRE(ignored < b * t, "targets: all are %d, want one to be asked",
                CLATTN_NN_IGNORE);
  }
  const clattn_tensor absent = {0};
  pass->b = b;
  pass->t = t;
  pass->dropout = 0;
  pass->caches = NULL;
  pass->position = 0;
  pass->memory = pass->lengths = pass->hidden = absent;
  const size_t bytes = (size_t)(b * t) * sizeof *ids;
  KIT_TRY(clattn_buffer_write(queue, pass->ids, 0, ids, bytes));
  if (targets == NULL) return CLATTN_OK;
  return clattn_buffer_write(queue, pass->targets, 0, targets, bytes);
}

int64_t kit_pass_draws(const kit_stack *stack) {
  return stack->layers * (stack->memory ? 2 : 1);
}

/* Asks an attention of a layer for what it is to tell. */
static void ask(const kit_pass *pass, int64_t layer, int attention,
                clattn_mha_args *args) {
  const kit_told *told = &pass->told[attention];
  if (tells_weights(pass, layer, attention)) args->weights = told->weights;
  args->projected_query = told->query;
  args->projected_key = told->key;
}

void kit_attention_args(const kit_pass *pass, int64_t layer,
                        clattn_mha_args *args) {
  clattn_mha_args_init(args);
  args->query = kit_act_view(pass, ACT_LN1, layer);
  args->output = kit_act_view(pass, ACT_BRANCH, layer);
  args->cache = pass->caches == NULL ? NULL : pass->caches[layer];
  args->attn_mask = pass->hidden;
  if (!pass->stack->memory) args->kv_lengths = pass->lengths;
  ask(pass, layer, KIT_SELF, args);
  args->dropout = pass->dropout;
  args->dropout_seed = pass->dropout_seed;
  args->dropout_offset = pass->dropout_offset + (uint64_t)layer;
}

void kit_cross_args(const kit_pass *pass, int64_t layer,
                    clattn_mha_args *args) {
  clattn_mha_args_init(args);
  args->query = kit_act_view(pass, ACT_LNX, layer);
  args->key = pass->memory;
  args->output = kit_act_view(pass, ACT_BRANCH, layer);
  args->kv_lengths = pass->lengths;
  args->q_start = 0; /* statistics count rows as they count keys */
  ask(pass, layer, KIT_CROSS, args);
  args->dropout = pass->dropout;
  args->dropout_seed = pass->dropout_seed;
  args->dropout_offset =
      pass->dropout_offset + (uint64_t)(pass->stack->layers + layer);
}

stack_act kit_mlp_input(const kit_stack *stack) {
  return stack->memory ? ACT_MIX : ACT_MID;
}

size_t kit_norm_args(const kit_pass *pass, stack_act x, int64_t layer,
                     clattn_nn_layer_norm_args *args) {
  const kit_stack *stack = pass->stack;
  clattn_buffer *values = stack->params->values;
  const bool last = layer == stack->layers;
  stack_act out = ACT_LNX;
  int which = STACK_LNX_W;
  if (x == ACT_X) {
    out = last ? ACT_LNF : ACT_LN1;
    which = STACK_LN1_W;
  } else if (x == kit_mlp_input(stack)) {
    out = ACT_LN2;
    which = STACK_LN2_W;
  }
  const size_t weight =
      last ? kit_stack_last_norm(stack) : kit_stack_tensor(stack, layer, which);
  clattn_nn_layer_norm_args_init(args);
  args->x = kit_act_view(pass, x, layer);
  if (is_last_row(pass, out)) {
    args->x.offset += (pass->t - 1) * args->x.stride[2];
    args->x.extent[2] = 1;
  }
  args->weight = kit_params_view(stack->params, values, weight);
  args->bias = kit_params_view(stack->params, values, weight + 1);
  args->out = kit_act_view(pass, out, last ? 0 : layer);
  args->mean = kit_act_view(pass, out + 1, last ? 0 : layer);
  args->rstd = kit_act_view(pass, out + 2, last ? 0 : layer);
  return weight;
}

clattn_status kit_pass_embed(kit_pass *pass, clattn_queue *queue) {
  const kit_stack *stack = pass->stack;
  const kit_params *params = stack->params;
  const clattn_tensor table =
      kit_params_view(params, params->values, stack->wte);
  const clattn_tensor ids =
      clattn_view_bhsd(pass->ids, CLATTN_I32, pass->b, 1, pass->t, 1);
  const clattn_tensor x = kit_act_view(pass, ACT_X, 0);
  clattn_tensor positions =
      stack->wpe == STACK_CONSTANT
          ? clattn_view_bhsd(stack->positions, CLATTN_F32, 1, 1, stack->rows,
                             stack->embed_dim)
          : kit_params_view(params, params->values, (size_t)stack->wpe);
  positions.offset += pass->position * positions.stride[2];
  positions.extent[2] = pass->config.one_position ? 1 : pass->t;
  KIT_TRY(clattn_nn_embedding(queue, &table, &ids, &x, NULL, 0, NULL));
  return clattn_nn_add(queue, &x, &positions, &x, NULL, 0, NULL);
}

static clattn_status norm(kit_pass *pass, clattn_queue *queue, stack_act x,
                          int64_t layer) {
  clattn_nn_layer_norm_args args;
  kit_norm_args(pass, x, layer, &args);
  return clattn_nn_layer_norm(queue, &args, NULL, 0, NULL);
}

static clattn_status linear(kit_pass *pass, clattn_queue *queue, stack_act from,
                            int64_t layer, int weight, stack_act to) {
  const kit_stack *stack = pass->stack;
  clattn_buffer *values = stack->params->values;
  const clattn_tensor x = kit_act_view(pass, from, layer);
  const clattn_tensor out = kit_act_view(pass, to, layer);
  const size_t i = kit_stack_tensor(stack, layer, weight);
  const clattn_tensor w = kit_params_view(stack->params, values, i);
  const clattn_tensor b = kit_params_view(stack->params, values, i + 1);
  return clattn_linear(queue, &x, &w, &b, &out, NULL, 0, NULL);
}

/* out = a + branch. */
static clattn_status add(kit_pass *pass, clattn_queue *queue, stack_act a,
                         int64_t a_layer, stack_act out, int64_t out_layer) {
  const clattn_tensor x = kit_act_view(pass, a, a_layer);
  const clattn_tensor branch = kit_act_view(pass, ACT_BRANCH, 0);
  const clattn_tensor sum = kit_act_view(pass, out, out_layer);
  return clattn_nn_add(queue, &x, &branch, &sum, NULL, 0, NULL);
}

static clattn_status attend(kit_pass *pass, clattn_queue *queue,
                            clattn_mha *mha, const clattn_mha_args *args,
                            int attention) {
  KIT_TRY(clattn_mha_forward(mha, queue, args, NULL, 0, NULL));
  if (!pass->config.tell_statistics) return CLATTN_OK;
  return clattn_mha_statistics(mha, queue, args, &pass->told[attention].stats,
                               NULL, 0, NULL);
}

clattn_status kit_pass_layer(kit_pass *pass, clattn_queue *queue, int64_t l) {
  clattn_mha_args args;
  kit_attention_args(pass, l, &args);
  KIT_TRY(norm(pass, queue, ACT_X, l));
  KIT_TRY(attend(pass, queue, pass->attn[l], &args, KIT_SELF));
  KIT_TRY(add(pass, queue, ACT_X, l, ACT_MID, l));
  if (pass->stack->memory) {
    kit_cross_args(pass, l, &args);
    KIT_TRY(norm(pass, queue, ACT_MID, l));
    KIT_TRY(attend(pass, queue, pass->cross[l], &args, KIT_CROSS));
    KIT_TRY(add(pass, queue, ACT_MID, l, ACT_MIX, l));
  }
  const stack_act middle = kit_mlp_input(pass->stack);
  KIT_TRY(norm(pass, queue, middle, l));
  KIT_TRY(linear(pass, queue, ACT_LN2, l, STACK_FC_W, ACT_FC));
  const clattn_tensor fc = kit_act_view(pass, ACT_FC, l);
  const clattn_tensor gelu = kit_act_view(pass, ACT_GELU, l);
  KIT_TRY(
      clattn_nn_gelu(queue, CLATTN_NN_GELU_TANH, &fc, &gelu, NULL, 0, NULL));
  KIT_TRY(linear(pass, queue, ACT_GELU, l, STACK_OUT_W, ACT_BRANCH));
  return add(pass, queue, middle, l, ACT_X, l + 1);
}

clattn_status kit_pass_layers(kit_pass *pass, clattn_queue *queue,
                              int64_t layers) {
  KIT_TRY(kit_pass_embed(pass, queue));
  for (int64_t l = 0; l < layers; l++) KIT_TRY(kit_pass_layer(pass, queue, l));
  return CLATTN_OK;
}

clattn_status kit_pass_last(kit_pass *pass, clattn_queue *queue) {
  const kit_stack *stack = pass->stack;
  KIT_TRY(norm(pass, queue, ACT_X, stack->layers));
  if (!stack->head) return CLATTN_OK;
  const clattn_tensor x = kit_act_view(pass, ACT_LNF, 0);
  const clattn_tensor head =
      kit_params_view(stack->params, stack->params->values, stack->wte);
  const clattn_tensor logits = kit_act_view(pass, ACT_LOGITS, 0);
  return clattn_linear(queue, &x, &head, NULL, &logits, NULL, 0, NULL);
}

void kit_loss_args(const kit_pass *pass, clattn_nn_cross_entropy_args *args) {
  clattn_nn_cross_entropy_args_init(args);
  args->logits = kit_act_view(pass, ACT_LOGITS, 0);
  args->targets =
      clattn_view_bhsd(pass->targets, CLATTN_I32, pass->b, 1, pass->t, 1);
  args->losses = kit_act_view(pass, ACT_LOSSES, 0);
  args->lse = kit_act_view(pass, ACT_LSE, 0);
  args->mean = clattn_view_bhsd(pass->mean, CLATTN_F32, 1, 1, 1, 2);
}

clattn_status kit_pass_loss(kit_pass *pass, clattn_queue *queue) {
  clattn_nn_cross_entropy_args args;
  kit_loss_args(pass, &args);
  return clattn_nn_cross_entropy(queue, &args, NULL, 0, NULL);
}
