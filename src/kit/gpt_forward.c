/* gpt_forward.c - memory for activations, and the way from tokens to the loss.
 *
 * One gpt_pass serves training, evaluation and decoding: what differs is whether
 * each layer's activations are kept (backward needs them), whether there is a KV
 * cache, and how many rows of logits are wanted. */
#include <stdlib.h>

#include "gpt.h"

/* ---- activations --------------------------------------------------------- */

/* Columns in units of 1, E or V; whether each layer has its own. */
static const struct {
  const char *name;
  int64_t ones, embeds;
  bool vocab, of_layer;
} acts[GPT_ACTS] = {
    [GPT_X] = {"input", 0, 1, false, true},
    [GPT_LN1] = {"ln_1", 0, 1, false, true},
    [GPT_LN1_MEAN] = {"ln_1.mean", 1, 0, false, true},
    [GPT_LN1_RSTD] = {"ln_1.rstd", 1, 0, false, true},
    [GPT_MID] = {"attn", 0, 1, false, true},
    [GPT_LN2] = {"ln_2", 0, 1, false, true},
    [GPT_LN2_MEAN] = {"ln_2.mean", 1, 0, false, true},
    [GPT_LN2_RSTD] = {"ln_2.rstd", 1, 0, false, true},
    [GPT_FC] = {"mlp.c_fc", 0, 4, false, true},
    [GPT_GELU] = {"mlp.gelu", 0, 4, false, true},
    [GPT_BRANCH] = {"branch", 0, 1, false, false},
    [GPT_LNF] = {"ln_f", 0, 1, false, false},
    [GPT_LNF_MEAN] = {"ln_f.mean", 1, 0, false, false},
    [GPT_LNF_RSTD] = {"ln_f.rstd", 1, 0, false, false},
    [GPT_LOGITS] = {"logits", 0, 0, true, false},
    [GPT_LOSSES] = {"losses", 1, 0, false, false},
    [GPT_LSE] = {"lse", 1, 0, false, false},
};

const char *gpt_act_name(gpt_act act) { return acts[act].name; }

bool gpt_act_of_layer(gpt_act act) { return acts[act].of_layer; }

int64_t gpt_act_columns(const clattn_gpt *gpt, gpt_act act) {
  return acts[act].ones + acts[act].embeds * gpt->config.embed_dim +
         (acts[act].vocab ? gpt->config.vocab_size : 0);
}

/* From the logits on only the last row may be wanted. */
static bool is_last_row(const gpt_pass *pass, gpt_act act) {
  return pass->config.last_row && act >= GPT_LNF;
}

/* Elements from one layer's part to the next: 0 where they share it. */
static int64_t layer_stride(const gpt_pass *pass, gpt_act act) {
  if (!pass->config.backward || !acts[act].of_layer) return 0;
  return pass->config.batch * pass->config.length *
         gpt_act_columns(pass->gpt, act);
}

clattn_tensor gpt_act_view(const gpt_pass *pass, gpt_act act, int64_t layer) {
  clattn_tensor view = clattn_view_bhsd(pass->acts[act], CLATTN_F32, pass->b, 1,
                                        is_last_row(pass, act) ? 1 : pass->t,
                                        gpt_act_columns(pass->gpt, act));
  view.offset = layer * layer_stride(pass, act);
  return view;
}

static clattn_status make_acts(gpt_pass *pass) {
  const gpt_pass_config *c = &pass->config;
  const clattn_gpt *gpt = pass->gpt;
  for (int act = 0; act < GPT_ACTS; act++) {
    const int64_t copies =
        layer_stride(pass, act) != 0 ? gpt->config.layers + (act == GPT_X) : 1;
    const int64_t rows = c->batch * (is_last_row(pass, act) ? 1 : c->length);
    int64_t bytes;
    KIT_REQUIRE(
        !__builtin_mul_overflow(rows * gpt_act_columns(gpt, act),
                                copies * (int64_t)sizeof(float), &bytes),
        "batch: got %lld windows of %lld tokens, whose activations overflow "
        "the size of memory",
        (long long)c->batch, (long long)c->length);
    KIT_TRY(clattn_buffer_create(gpt->context, gpt->device, (size_t)bytes,
                                 &pass->acts[act]));
  }
  const size_t ids = (size_t)(c->batch * c->length) * sizeof(int32_t);
  KIT_TRY(clattn_buffer_create(gpt->context, gpt->device, ids, &pass->ids));
  KIT_TRY(clattn_buffer_create(gpt->context, gpt->device, ids, &pass->targets));
  return clattn_buffer_create(gpt->context, gpt->device, 2 * sizeof(float),
                              &pass->mean);
}

static clattn_status make_layers(gpt_pass *pass) {
  const clattn_gpt *gpt = pass->gpt;
  pass->mha = calloc((size_t)gpt->config.layers, sizeof *pass->mha);
  if (pass->mha == NULL) return KIT_OUT_OF_MEMORY("gpt");
  for (int64_t l = 0; l < gpt->config.layers; l++) {
    clattn_mha_config config;
    clattn_mha_config_init(&config);
    config.embed_dim = gpt->config.embed_dim;
    config.num_heads = gpt->config.heads;
    config.attention.causal = true;
    config.backward = pass->config.backward;
    if (l == pass->config.look) config.attention.outputs = CLATTN_OUT_WEIGHTS;
    clattn_mha_weights weights;
    clattn_mha_weights_init(&weights);
    gpt_attention_views(gpt, gpt->values, l, &weights);
    KIT_TRY(clattn_mha_create(gpt->context, gpt->device, &config, &weights,
                              &pass->mha[l]));
  }
  return CLATTN_OK;
}

clattn_status gpt_pass_create(const clattn_gpt *gpt,
                              const gpt_pass_config *config, gpt_pass **pass) {
  KIT_REQUIRE(config->batch >= 1 && config->batch <= INT32_MAX,
              "batch: got %lld, want 1..%d", (long long)config->batch,
              INT32_MAX);
  KIT_REQUIRE(config->length >= 1 && config->length <= gpt->config.context,
              "length: got %lld, want 1..%lld, the context",
              (long long)config->length, (long long)gpt->config.context);
  gpt_pass *made = calloc(1, sizeof *made);
  if (made == NULL) return KIT_OUT_OF_MEMORY("gpt");
  made->gpt = gpt;
  made->config = *config;
  clattn_status status = make_acts(made);
  if (status == CLATTN_OK) status = make_layers(made);
  if (status != CLATTN_OK) {
    gpt_pass_destroy(made);
    return status;
  }
  *pass = made;
  return CLATTN_OK;
}

void gpt_pass_destroy(gpt_pass *pass) {
  if (pass == NULL) return;
  for (int64_t l = 0; pass->mha != NULL && l < pass->gpt->config.layers; l++)
    clattn_mha_destroy(pass->mha[l]);
  free(pass->mha);
  for (int act = 0; act < GPT_ACTS; act++)
    clattn_buffer_destroy(pass->acts[act]);
  clattn_buffer_destroy(pass->ids);
  clattn_buffer_destroy(pass->targets);
  clattn_buffer_destroy(pass->mean);
  free(pass);
}

/* ---- a call -------------------------------------------------------------- */

clattn_status gpt_pass_begin(gpt_pass *pass, clattn_queue *queue,
                             const int32_t *ids, const int32_t *targets,
                             int64_t b, int64_t t) {
  const int64_t vocab = pass->gpt->config.vocab_size;
  KIT_REQUIRE(queue != NULL, "queue: got NULL, want a queue");
  KIT_REQUIRE(b >= 1 && b <= pass->config.batch,
              "batch: got %lld, want 1..%lld", (long long)b,
              (long long)pass->config.batch);
  KIT_REQUIRE(t >= 1 && t <= pass->config.length,
              "length: got %lld, want 1..%lld", (long long)t,
              (long long)pass->config.length);
  KIT_TRY(gpt_check_ids("ids", ids, b * t, vocab, false));
  if (targets != NULL) {
    KIT_TRY(gpt_check_ids("targets", targets, b * t, vocab, true));
    int64_t ignored = 0; /* from the first on */
    while (ignored < b * t && targets[ignored] == CLATTN_NN_IGNORE) ignored++;
    KIT_REQUIRE(ignored < b * t, "targets: all are %d, want one to be asked",
                CLATTN_NN_IGNORE);
  }
  pass->b = b;
  pass->t = t;
  pass->dropout = 0;
  pass->caches = NULL;
  pass->position = 0;
  const size_t bytes = (size_t)(b * t) * sizeof *ids;
  KIT_TRY(clattn_buffer_write(queue, pass->ids, 0, ids, bytes));
  if (targets == NULL) return CLATTN_OK;
  return clattn_buffer_write(queue, pass->targets, 0, targets, bytes);
}

void gpt_attention_args(const gpt_pass *pass, int64_t layer,
                        clattn_mha_args *args) {
  clattn_mha_args_init(args);
  args->query = gpt_act_view(pass, GPT_LN1, layer);
  args->output = gpt_act_view(pass, GPT_BRANCH, layer);
  args->cache = pass->caches == NULL ? NULL : pass->caches[layer];
  if (layer == pass->config.look) args->weights = pass->weights;
  args->dropout = pass->dropout;
  args->dropout_seed = pass->dropout_seed;
  args->dropout_offset = pass->dropout_offset + (uint64_t)layer;
}

/* x is GPT_X, GPT_MID, or GPT_X of the layer after the last. */
void gpt_norm_args(const gpt_pass *pass, gpt_act x, int64_t layer,
                   clattn_nn_layer_norm_args *args) {
  const clattn_gpt *gpt = pass->gpt;
  const bool last = layer == gpt->config.layers;
  const gpt_act out = last ? GPT_LNF : x == GPT_X ? GPT_LN1 : GPT_LN2;
  const size_t weight =
      last ? gpt_last_norm(gpt)
           : gpt_layer_tensor(layer, x == GPT_X ? GPT_LN1_W : GPT_LN2_W);
  clattn_nn_layer_norm_args_init(args);
  args->x = gpt_act_view(pass, x, layer);
  if (is_last_row(pass, out)) {
    args->x.offset += (pass->t - 1) * args->x.stride[2];
    args->x.extent[2] = 1;
  }
  args->weight = gpt_view(gpt, gpt->values, weight);
  args->bias = gpt_view(gpt, gpt->values, weight + 1);
  args->out = gpt_act_view(pass, out, last ? 0 : layer);
  args->mean = gpt_act_view(pass, out + 1, last ? 0 : layer);
  args->rstd = gpt_act_view(pass, out + 2, last ? 0 : layer);
}

static clattn_status embed(gpt_pass *pass, clattn_queue *queue) {
  const clattn_gpt *gpt = pass->gpt;
  const clattn_tensor table = gpt_view(gpt, gpt->values, GPT_WTE);
  const clattn_tensor ids =
      clattn_view_bhsd(pass->ids, CLATTN_I32, pass->b, 1, pass->t, 1);
  const clattn_tensor x = gpt_act_view(pass, GPT_X, 0);
  clattn_tensor positions = gpt_view(gpt, gpt->values, GPT_WPE);
  positions.offset += pass->position * positions.stride[2];
  positions.extent[2] = pass->t;
  KIT_TRY(clattn_nn_embedding(queue, &table, &ids, &x, NULL, 0, NULL));
  return clattn_nn_add(queue, &x, &positions, &x, NULL, 0, NULL);
}

static clattn_status norm(gpt_pass *pass, clattn_queue *queue, gpt_act x,
                          int64_t layer) {
  clattn_nn_layer_norm_args args;
  gpt_norm_args(pass, x, layer, &args);
  return clattn_nn_layer_norm(queue, &args, NULL, 0, NULL);
}

static clattn_status linear(gpt_pass *pass, clattn_queue *queue, gpt_act from,
                            int64_t layer, int weight, gpt_act to) {
  const clattn_gpt *gpt = pass->gpt;
  const clattn_tensor x = gpt_act_view(pass, from, layer);
  const clattn_tensor out = gpt_act_view(pass, to, layer);
  const size_t i = gpt_layer_tensor(layer, weight);
  const clattn_tensor w = gpt_view(gpt, gpt->values, i);
  const clattn_tensor b = gpt_view(gpt, gpt->values, i + 1);
  return clattn_linear(queue, &x, &w, &b, &out, NULL, 0, NULL);
}

static clattn_status add(gpt_pass *pass, clattn_queue *queue, gpt_act a,
                         int64_t a_layer, gpt_act out, int64_t out_layer) {
  const clattn_tensor x = gpt_act_view(pass, a, a_layer);
  const clattn_tensor branch = gpt_act_view(pass, GPT_BRANCH, 0);
  const clattn_tensor sum = gpt_act_view(pass, out, out_layer);
  return clattn_nn_add(queue, &x, &branch, &sum, NULL, 0, NULL);
}

static clattn_status layer_forward(gpt_pass *pass, clattn_queue *queue,
                                   int64_t l) {
  clattn_mha_args args;
  gpt_attention_args(pass, l, &args);
  KIT_TRY(norm(pass, queue, GPT_X, l));
  KIT_TRY(clattn_mha_forward(pass->mha[l], queue, &args, NULL, 0, NULL));
  KIT_TRY(add(pass, queue, GPT_X, l, GPT_MID, l));
  KIT_TRY(norm(pass, queue, GPT_MID, l));
  KIT_TRY(linear(pass, queue, GPT_LN2, l, GPT_FC_W, GPT_FC));
  const clattn_tensor fc = gpt_act_view(pass, GPT_FC, l);
  const clattn_tensor gelu = gpt_act_view(pass, GPT_GELU, l);
  KIT_TRY(
      clattn_nn_gelu(queue, CLATTN_NN_GELU_TANH, &fc, &gelu, NULL, 0, NULL));
  KIT_TRY(linear(pass, queue, GPT_GELU, l, GPT_OUT_W, GPT_BRANCH));
  return add(pass, queue, GPT_MID, l, GPT_X, l + 1);
}

clattn_status gpt_pass_layers(gpt_pass *pass, clattn_queue *queue,
                              int64_t layers) {
  KIT_TRY(embed(pass, queue));
  for (int64_t l = 0; l < layers; l++) KIT_TRY(layer_forward(pass, queue, l));
  return CLATTN_OK;
}

clattn_status gpt_pass_logits(gpt_pass *pass, clattn_queue *queue) {
  const clattn_gpt *gpt = pass->gpt;
  KIT_TRY(norm(pass, queue, GPT_X, gpt->config.layers));
  const clattn_tensor x = gpt_act_view(pass, GPT_LNF, 0);
  const clattn_tensor head = gpt_view(gpt, gpt->values, GPT_WTE);
  const clattn_tensor logits = gpt_act_view(pass, GPT_LOGITS, 0);
  return clattn_linear(queue, &x, &head, NULL, &logits, NULL, 0, NULL);
}

void gpt_loss_args(const gpt_pass *pass, clattn_nn_cross_entropy_args *args) {
  clattn_nn_cross_entropy_args_init(args);
  args->logits = gpt_act_view(pass, GPT_LOGITS, 0);
  args->targets =
      clattn_view_bhsd(pass->targets, CLATTN_I32, pass->b, 1, pass->t, 1);
  args->losses = gpt_act_view(pass, GPT_LOSSES, 0);
  args->lse = gpt_act_view(pass, GPT_LSE, 0);
  args->mean = clattn_view_bhsd(pass->mean, CLATTN_F32, 1, 1, 1, 2);
}

clattn_status gpt_pass_loss(gpt_pass *pass, clattn_queue *queue) {
  clattn_nn_cross_entropy_args args;
  gpt_loss_args(pass, &args);
  return clattn_nn_cross_entropy(queue, &args, NULL, 0, NULL);
}

/* ---- logits and attention for a caller ----------------------------------- */

/* The model's own pass, made anew where it is too small. */
static clattn_status forward_pass(clattn_gpt *gpt, int64_t batch,
                                  int64_t length) {
  gpt_pass *pass = gpt->forward;
  if (pass != NULL && pass->config.batch >= batch &&
      pass->config.length >= length)
    return CLATTN_OK;
  gpt_pass_destroy(pass);
  gpt->forward = NULL;
  const gpt_pass_config config = {.batch = batch, .length = length, .look = -1};
  return gpt_pass_create(gpt, &config, &gpt->forward);
}

clattn_status clattn_gpt_forward(clattn_gpt *gpt, clattn_queue *queue,
                                 const int32_t *ids, int64_t batch,
                                 int64_t length, float *logits) {
  KIT_REQUIRE(gpt != NULL, "gpt: got NULL, want a model");
  KIT_REQUIRE(logits != NULL, "logits: got NULL, want room");
  KIT_TRY(forward_pass(gpt, batch, length));
  gpt_pass *pass = gpt->forward;
  KIT_TRY(gpt_pass_begin(pass, queue, ids, NULL, batch, length));
  KIT_TRY(gpt_pass_layers(pass, queue, gpt->config.layers));
  KIT_TRY(gpt_pass_logits(pass, queue));
  return clattn_buffer_read(
      queue, pass->acts[GPT_LOGITS], 0, logits,
      (size_t)(batch * length * gpt->config.vocab_size) * sizeof *logits);
}

clattn_status clattn_gpt_attention(clattn_gpt *gpt, clattn_queue *queue,
                                   const int32_t *ids, int64_t length,
                                   int64_t layer, float *weights) {
  KIT_REQUIRE(gpt != NULL, "gpt: got NULL, want a model");
  KIT_REQUIRE(weights != NULL, "weights: got NULL, want room");
  KIT_REQUIRE(layer >= 0 && layer < gpt->config.layers,
              "layer: got %lld, want 0..%lld", (long long)layer,
              (long long)gpt->config.layers - 1);
  const gpt_pass_config config = {.batch = 1, .length = length, .look = layer};
  gpt_pass *pass = NULL;
  clattn_buffer *buffer = NULL;
  KIT_TRY(gpt_pass_create(gpt, &config, &pass));
  const int64_t heads = gpt->config.heads;
  const size_t bytes = (size_t)(heads * length * length) * sizeof *weights;
  clattn_status status =
      clattn_buffer_create(gpt->context, gpt->device, bytes, &buffer);
  if (status == CLATTN_OK)
    status = gpt_pass_begin(pass, queue, ids, NULL, 1, length);
  pass->weights =
      clattn_view_bhsd(buffer, CLATTN_F32, 1, heads, length, length);
  if (status == CLATTN_OK) status = gpt_pass_layers(pass, queue, layer + 1);
  if (status == CLATTN_OK)
    status = clattn_buffer_read(queue, buffer, 0, weights, bytes);
  clattn_buffer_destroy(buffer);
  gpt_pass_destroy(pass);
  return status;
}
