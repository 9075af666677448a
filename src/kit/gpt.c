/* gpt.c - a GPT's parameters: which there are, where they lie, how they begin. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "gpt.h"

enum { LINE = 16 }; /* tensors begin at multiples: 64 bytes */

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

/* ---- layout -------------------------------------------------------------- */

size_t gpt_layer_tensor(int64_t layer, int which) {
  return GPT_FIRST_LAYER + (size_t)layer * GPT_LAYER_TENSORS + (size_t)which;
}

size_t gpt_last_norm(const clattn_gpt *gpt) {
  return gpt_layer_tensor(gpt->config.layers, 0);
}

int64_t gpt_elements(const gpt_tensor *tensor) {
  return tensor->extent[0] * (tensor->rank == 2 ? tensor->extent[1] : 1);
}

static void name_tensor(gpt_tensor *tensor, const char *name, int64_t rows,
                        int64_t cols) {
  snprintf(tensor->name, sizeof tensor->name, "%s", name);
  tensor->rank = cols > 0 ? 2 : 1;
  tensor->extent[0] = rows;
  tensor->extent[1] = cols;
}

static void name_layer(const clattn_gpt *gpt, int64_t layer) {
  const int64_t E = gpt->config.embed_dim;
  const struct {
    const char *name;
    int64_t rows, cols; /* cols 0: a vector */
  } parts[GPT_LAYER_TENSORS] = {
      [GPT_LN1_W] = {"ln_1.weight", E, 0},
      [GPT_LN1_B] = {"ln_1.bias", E, 0},
      [GPT_ATTN_W] = {"attn.c_attn.weight", 3 * E, E},
      [GPT_ATTN_B] = {"attn.c_attn.bias", 3 * E, 0},
      [GPT_PROJ_W] = {"attn.c_proj.weight", E, E},
      [GPT_PROJ_B] = {"attn.c_proj.bias", E, 0},
      [GPT_LN2_W] = {"ln_2.weight", E, 0},
      [GPT_LN2_B] = {"ln_2.bias", E, 0},
      [GPT_FC_W] = {"mlp.c_fc.weight", 4 * E, E},
      [GPT_FC_B] = {"mlp.c_fc.bias", 4 * E, 0},
      [GPT_OUT_W] = {"mlp.c_proj.weight", E, 4 * E},
      [GPT_OUT_B] = {"mlp.c_proj.bias", E, 0},
  };
  for (int i = 0; i < GPT_LAYER_TENSORS; i++) {
    char name[GPT_NAME_CHARS];
    snprintf(name, sizeof name, "h.%d.%s", (int)layer, parts[i].name);
    name_tensor(&gpt->tensors[gpt_layer_tensor(layer, i)], name, parts[i].rows,
                parts[i].cols);
  }
}

/* Names, shapes and offsets; those that decay come first in memory. */
static clattn_status lay_out(clattn_gpt *gpt) {
  const clattn_gpt_config *c = &gpt->config;
  name_tensor(&gpt->tensors[GPT_WTE], "wte.weight", c->vocab_size,
              c->embed_dim);
  name_tensor(&gpt->tensors[GPT_WPE], "wpe.weight", c->context, c->embed_dim);
  for (int64_t l = 0; l < c->layers; l++) name_layer(gpt, l);
  const size_t last = gpt_last_norm(gpt);
  name_tensor(&gpt->tensors[last], "ln_f.weight", c->embed_dim, 0);
  name_tensor(&gpt->tensors[last + 1], "ln_f.bias", c->embed_dim, 0);
  for (int rank = 2; rank >= 1; rank--) {
    for (size_t i = 0; i < gpt->n_tensors; i++) {
      gpt_tensor *tensor = &gpt->tensors[i];
      if (tensor->rank != rank) continue;
      const int64_t n = gpt_elements(tensor);
      tensor->offset = gpt->elements;
      gpt->parameters += n;
      gpt->elements += (n + LINE - 1) / LINE * LINE;
      KIT_REQUIRE(gpt->elements < INT64_MAX / 64,
                  "config: its parameters overflow the size of memory");
    }
    if (rank == 2) gpt->decayed = gpt->elements;
  }
  return CLATTN_OK;
}

clattn_tensor gpt_view(const clattn_gpt *gpt, clattn_buffer *buffer, size_t i) {
  const gpt_tensor *tensor = &gpt->tensors[i];
  clattn_tensor view =
      clattn_view(buffer, CLATTN_F32, tensor->rank, tensor->extent);
  view.offset = tensor->offset;
  return view;
}

/* Part i of three equal ones, along dimension dim. */
static clattn_tensor third(clattn_tensor view, int dim, int i) {
  view.extent[dim] /= 3;
  view.offset += i * view.extent[dim] * view.stride[dim];
  return view;
}

void gpt_attention_views(const clattn_gpt *gpt, clattn_buffer *buffer,
                         int64_t layer, clattn_mha_weights *weights) {
  const clattn_tensor w =
      gpt_view(gpt, buffer, gpt_layer_tensor(layer, GPT_ATTN_W));
  const clattn_tensor b =
      gpt_view(gpt, buffer, gpt_layer_tensor(layer, GPT_ATTN_B));
  clattn_tensor *const w_parts[] = {&weights->q_weight, &weights->k_weight,
                                    &weights->v_weight};
  clattn_tensor *const b_parts[] = {&weights->q_bias, &weights->k_bias,
                                    &weights->v_bias};
  for (int i = 0; i < 3; i++) {
    *w_parts[i] = third(w, 2, i);
    *b_parts[i] = third(b, 3, i);
  }
  weights->o_weight =
      gpt_view(gpt, buffer, gpt_layer_tensor(layer, GPT_PROJ_W));
  weights->o_bias = gpt_view(gpt, buffer, gpt_layer_tensor(layer, GPT_PROJ_B));
}

/* ---- making -------------------------------------------------------------- */

clattn_status gpt_new(clattn_context *context, int device,
                      const clattn_gpt_config *config, clattn_gpt **gpt) {
  KIT_REQUIRE(context != NULL, "context: got NULL, want a context");
  KIT_TRY(gpt_check_config(config));
  clattn_gpt *made = calloc(1, sizeof *made);
  if (made == NULL) return KIT_OUT_OF_MEMORY("gpt");
  made->context = context;
  made->device = device;
  made->config = *config;
  made->n_tensors = gpt_last_norm(made) + 2;
  made->tensors = calloc(made->n_tensors, sizeof *made->tensors);
  clattn_status status =
      made->tensors == NULL ? KIT_OUT_OF_MEMORY("gpt") : lay_out(made);
  if (status == CLATTN_OK)
    status = clattn_buffer_create(
        context, device, (size_t)made->elements * sizeof(float), &made->values);
  if (status != CLATTN_OK) {
    clattn_gpt_destroy(made);
    return status;
  }
  *gpt = made;
  return CLATTN_OK;
}

clattn_status gpt_buffer(const clattn_gpt *gpt, clattn_queue *queue,
                         clattn_buffer **buffer) {
  KIT_TRY(clattn_buffer_create(gpt->context, gpt->device,
                               (size_t)gpt->elements * sizeof(float), buffer));
  const clattn_tensor all = clattn_view(*buffer, CLATTN_F32, 1, &gpt->elements);
  return clattn_nn_fill(queue, &all, 0, NULL, 0, NULL);
}

void clattn_gpt_destroy(clattn_gpt *gpt) {
  if (gpt == NULL) return;
  gpt_pass_destroy(gpt->forward);
  clattn_buffer_destroy(gpt->values);
  free(gpt->tensors);
  free(gpt);
}

/* Which residual projection it is: both end in c_proj.weight. */
static bool is_projection(const gpt_tensor *tensor) {
  return strstr(tensor->name, ".c_proj.weight") != NULL;
}

static clattn_status draw(const clattn_gpt *gpt, clattn_queue *queue,
                          uint32_t seed) {
  float *values = calloc((size_t)gpt->elements, sizeof *values);
  if (values == NULL) return KIT_OUT_OF_MEMORY("gpt");
  clattn_kit_rng rng;
  clattn_kit_rng_init(&rng, seed);
  const float shrink = 1 / sqrtf(2 * (float)gpt->config.layers);
  for (size_t i = 0; i < gpt->n_tensors; i++) {
    const gpt_tensor *tensor = &gpt->tensors[i];
    float *at = values + tensor->offset;
    const int64_t n = gpt_elements(tensor);
    if (tensor->rank == 2) {
      clattn_kit_rng_normal(&rng, (size_t)n, at);
      const float size = 0.02f * (is_projection(tensor) ? shrink : 1);
      for (int64_t j = 0; j < n; j++) at[j] *= size;
    } else if (strstr(tensor->name, ".weight") != NULL) {
      for (int64_t j = 0; j < n; j++) at[j] = 1; /* a norm's */
    }
  }
  const clattn_status status = clattn_buffer_write(
      queue, gpt->values, 0, values, (size_t)gpt->elements * sizeof *values);
  free(values);
  return status;
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
  const clattn_status status = draw(made, queue, seed);
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
  return gpt == NULL ? 0 : gpt->parameters;
}

size_t clattn_gpt_tensor_count(const clattn_gpt *gpt) {
  return gpt == NULL ? 0 : gpt->n_tensors;
}

static clattn_status check_tensor(const clattn_gpt *gpt, size_t i) {
  KIT_REQUIRE(gpt != NULL, "gpt: got NULL, want a model");
  KIT_REQUIRE(i < gpt->n_tensors, "i: got %zu, want 0..%zu", i,
              gpt->n_tensors - 1);
  return CLATTN_OK;
}

clattn_status clattn_gpt_tensor_at(const clattn_gpt *gpt, size_t i,
                                   clattn_gpt_tensor *tensor) {
  KIT_TRY(check_tensor(gpt, i));
  KIT_REQUIRE(tensor != NULL, "tensor: got NULL, want a place");
  const gpt_tensor *t = &gpt->tensors[i];
  *tensor = (clattn_gpt_tensor){.name = t->name,
                                .rank = t->rank,
                                .extent = {t->extent[0], t->extent[1]},
                                .view = gpt_view(gpt, gpt->values, i)};
  return CLATTN_OK;
}

clattn_status clattn_gpt_tensor_read(const clattn_gpt *gpt, clattn_queue *queue,
                                     size_t i, float *values) {
  KIT_TRY(check_tensor(gpt, i));
  const gpt_tensor *t = &gpt->tensors[i];
  return clattn_buffer_read(queue, gpt->values,
                            (size_t)t->offset * sizeof *values, values,
                            (size_t)gpt_elements(t) * sizeof *values);
}

clattn_status clattn_gpt_tensor_write(clattn_gpt *gpt, clattn_queue *queue,
                                      size_t i, const float *values) {
  KIT_TRY(check_tensor(gpt, i));
  const gpt_tensor *t = &gpt->tensors[i];
  return clattn_buffer_write(queue, gpt->values,
                             (size_t)t->offset * sizeof *values, values,
                             (size_t)gpt_elements(t) * sizeof *values);
}

clattn_status gpt_check_ids(const char *name, const int32_t *ids, int64_t n,
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
