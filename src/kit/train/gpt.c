/* gpt.c - a GPT: which parameters it has, making it, asking it. */
#include <stdlib.h>

#include "gpt.h"

enum { WTE, WPE, FIRST_OF_STACK }; /* numbers of tensors */

void clattn_gpt_config_init(clattn_gpt_config *config) {
  if (config == NULL) return;
  *config = (clattn_gpt_config){.struct_size = sizeof *config,
                                .context = 128,
                                .layers = 4,
                                .heads = 4,
                                .embed_dim = 128};
}

clattn_status gpt_check_config(const clattn_gpt_config *config) {
  KIT_REQUIRE_STRUCT(config, clattn_gpt_config);
  const int64_t wide = 1 << 24, deep = 1 << 12;
  const struct {
    const char *name;
    int64_t value, max;
  } sizes[] = {{"vocab_size", config->vocab_size, wide},
               {"context", config->context, wide},
               {"layers", config->layers, deep},
               {"heads", config->heads, 1 << 16},
               {"embed_dim", config->embed_dim, 1 << 18}};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
    KIT_REQUIRE(sizes[i].value >= 1 && sizes[i].value <= sizes[i].max,
                "config->%s: got %lld, want 1..%lld", sizes[i].name,
                (long long)sizes[i].value, (long long)sizes[i].max);
  KIT_REQUIRE(config->embed_dim % config->heads == 0,
              "config->heads: got %lld, want a divisor of %lld",
              (long long)config->heads, (long long)config->embed_dim);
  KIT_REQUIRE(config->dropout >= 0 && config->dropout < 1,
              "config->dropout: got %g, want 0 <= dropout < 1",
              (double)config->dropout);
  return CLATTN_OK;
}

/* ---- making -------------------------------------------------------------- */

static clattn_status make(clattn_gpt *made, clattn_context *context,
                          int device) {
  const clattn_gpt_config *c = &made->config;
  const float deviation = 0.02f;
  kit_stack *stack = &made->stack;
  *stack = (kit_stack){.params = &made->params,
                       .prefix = "",
                       .layers = c->layers,
                       .heads = c->heads,
                       .embed_dim = c->embed_dim,
                       .rows = c->context,
                       .causal = true,
                       .head = true,
                       .first = FIRST_OF_STACK,
                       .wte = WTE,
                       .vocab = c->vocab_size,
                       .wpe = WPE};
  KIT_TRY(kit_params_begin(&made->params, context, device,
                           FIRST_OF_STACK + kit_stack_tensors(stack)));
  kit_param_set(&made->params.list[WTE], "wte.weight", c->vocab_size,
                c->embed_dim, deviation);
  kit_param_set(&made->params.list[WPE], "wpe.weight", c->context, c->embed_dim,
                deviation);
  kit_stack_name(stack, &made->params, deviation);
  return kit_params_place(&made->params);
}

clattn_status gpt_new(clattn_context *context, int device,
                      const clattn_gpt_config *config, clattn_gpt **gpt) {
  KIT_REQUIRE(context != NULL, "context: got NULL, want a context");
  KIT_TRY(gpt_check_config(config));
  clattn_gpt *made = calloc(1, sizeof *made);
  if (made == NULL) return KIT_OUT_OF_MEMORY("gpt");
  made->users = 1;
  made->config = *config;
  const clattn_status status = make(made, context, device);
  if (status != CLATTN_OK) {
    clattn_gpt_destroy(made);
    return status;
  }
  *gpt = made;
  return CLATTN_OK;
}

void clattn_gpt_destroy(clattn_gpt *gpt) {
  if (gpt == NULL || --gpt->users > 0) return;
  kit_pass_destroy(gpt->forward);
  kit_params_free(&gpt->params);
  free(gpt);
}

clattn_status clattn_gpt_create(clattn_context *context, int device,
                                clattn_queue *queue,
                                const clattn_gpt_config *config, uint32_t seed,
                                clattn_gpt **gpt) {
  KIT_REQUIRE(gpt != NULL, "gpt: got NULL, want a place for the handle");
  *gpt = NULL;
  KIT_REQUIRE(queue != NULL, "queue: got NULL, want a queue");
  clattn_gpt *made = NULL;
  KIT_TRY(gpt_new(context, device, config, &made));
  const clattn_status status = kit_params_draw(&made->params, queue, seed);
  if (status != CLATTN_OK) {
    clattn_gpt_destroy(made);
    return status;
  }
  *gpt = made;
  return CLATTN_OK;
}

/* ---- looking at it ------------------------------------------------------- */

clattn_status clattn_gpt_get_config(const clattn_gpt *gpt,
                                    clattn_gpt_config *config) {
  KIT_REQUIRE(gpt != NULL, "gpt: got NULL, want a model");
  KIT_REQUIRE(config != NULL, "config: got NULL, want a place");
  *config = gpt->config;
  return CLATTN_OK;
}

int64_t clattn_gpt_parameters(const clattn_gpt *gpt) {
  return gpt == NULL ? 0 : gpt->params.total;
}

size_t clattn_gpt_tensor_count(const clattn_gpt *gpt) {
  return gpt == NULL ? 0 : gpt->params.count;
}

clattn_status clattn_gpt_tensor_at(const clattn_gpt *gpt, size_t i,
                                   clattn_gpt_tensor *tensor) {
  KIT_REQUIRE(gpt != NULL, "gpt: got NULL, want a model");
  return kit_params_at(&gpt->params, i, tensor);
}

clattn_status clattn_gpt_tensor_read(const clattn_gpt *gpt, clattn_queue *queue,
                                     size_t i, float *values) {
  KIT_REQUIRE(gpt != NULL, "gpt: got NULL, want a model");
  return kit_params_read(&gpt->params, queue, gpt->params.values, i, values);
}

clattn_status clattn_gpt_tensor_write(clattn_gpt *gpt, clattn_queue *queue,
                                      size_t i, const float *values) {
  KIT_REQUIRE(gpt != NULL, "gpt: got NULL, want a model");
  return kit_params_write(&gpt->params, queue, gpt->params.values, i, values);
}

/* ---- logits and attention for a caller ----------------------------------- */

/* The model's own pass, made anew where it is too small. */
static clattn_status forward_pass(clattn_gpt *gpt, int64_t batch,
                                  int64_t length) {
  kit_pass *pass = gpt->forward;
  if (pass != NULL && pass->config.batch >= batch &&
      pass->config.length >= length)
    return CLATTN_OK;
  kit_pass_destroy(pass);
  gpt->forward = NULL;
  const kit_pass_config config = {.batch = batch, .length = length, .look = -1};
  return kit_pass_create(&gpt->stack, &config, &gpt->forward);
}

clattn_status clattn_gpt_forward(clattn_gpt *gpt, clattn_queue *queue,
                                 const int32_t *ids, int64_t batch,
                                 int64_t length, float *logits) {
  KIT_REQUIRE(gpt != NULL, "gpt: got NULL, want a model");
  KIT_REQUIRE(logits != NULL, "logits: got NULL, want room");
  KIT_TRY(forward_pass(gpt, batch, length));
  kit_pass *pass = gpt->forward;
  KIT_TRY(kit_pass_begin(pass, queue, ids, NULL, batch, length));
  KIT_TRY(kit_pass_layers(pass, queue, gpt->config.layers));
  KIT_TRY(kit_pass_last(pass, queue));
  return clattn_buffer_read(
      queue, pass->acts[ACT_LOGITS], 0, logits,
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
  const kit_pass_config config = {.batch = 1, .length = length, .look = layer};
  kit_pass *pass = NULL;
  clattn_buffer *buffer = NULL;
  KIT_TRY(kit_pass_create(&gpt->stack, &config, &pass));
  const int64_t heads = gpt->config.heads;
  const size_t bytes = (size_t)(heads * length * length) * sizeof *weights;
  clattn_status status = clattn_buffer_create(
      gpt->params.context, gpt->params.device, bytes, &buffer);
  if (status == CLATTN_OK)
    status = kit_pass_begin(pass, queue, ids, NULL, 1, length);
  pass->told[KIT_SELF].weights =
      clattn_view_bhsd(buffer, CLATTN_F32, 1, heads, length, length);
  if (status == CLATTN_OK) status = kit_pass_layers(pass, queue, layer + 1);
  if (status == CLATTN_OK)
    status = clattn_buffer_read(queue, buffer, 0, weights, bytes);
  clattn_buffer_destroy(buffer);
  kit_pass_destroy(pass);
  return status;
}
