/* seq2seq.c - an encoder-decoder: which parameters it has, making it. */
#include "seq2seq.h"

#include <math.h>
#include <stdlib.h>

enum { WTE, FIRST_OF_ENCODER }; /* numbers of tensors */

void clattn_seq2seq_config_init(clattn_seq2seq_config *config) {
  if (config == NULL) return;
  *config = (clattn_seq2seq_config){.struct_size = sizeof *config,
                                    .max_source = 64,
                                    .max_target = 64,
                                    .layers = 2,
                                    .heads = 4,
                                    .embed_dim = 64,
                                    .pad = 0,
                                    .begin = 1,
                                    .end = 2};
}

static clattn_status check_marks(const clattn_seq2seq_config *c) {
  const struct {
    const char *name;
    int32_t id;
  } marks[] = {{"pad", c->pad}, {"begin", c->begin}, {"end", c->end}};
  for (int i = 0; i < 3; i++) {
    KIT_REQUIRE(marks[i].id >= 0 && marks[i].id < c->vocab_size,
                "config->%s: got %ld, want 0..%lld", marks[i].name,
                (long)marks[i].id, (long long)c->vocab_size - 1);
    for (int j = 0; j < i; j++)
      KIT_REQUIRE(marks[i].id != marks[j].id,
                  "config->%s: got %ld, which is %s; want another",
                  marks[i].name, (long)marks[i].id, marks[j].name);
  }
  return CLATTN_OK;
}

clattn_status seq2seq_check_config(const clattn_seq2seq_config *config) {
  KIT_REQUIRE_STRUCT(config, clattn_seq2seq_config);
  const struct {
    const char *name;
    int64_t value, min, max;
  } sizes[] = {{"vocab_size", config->vocab_size, 4, 1 << 24},
               {"max_source", config->max_source, 1, 1 << 14},
               {"max_target", config->max_target, 1, 1 << 14},
               {"layers", config->layers, 1, 1 << 12},
               {"heads", config->heads, 1, 1 << 16},
               {"embed_dim", config->embed_dim, 1, 1 << 18}};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
    KIT_REQUIRE(
        sizes[i].value >= sizes[i].min && sizes[i].value <= sizes[i].max,
        "config->%s: got %lld, want %lld..%lld", sizes[i].name,
        (long long)sizes[i].value, (long long)sizes[i].min,
        (long long)sizes[i].max);
  KIT_REQUIRE(config->embed_dim % config->heads == 0,
              "config->heads: got %lld, want a divisor of %lld",
              (long long)config->heads, (long long)config->embed_dim);
  KIT_REQUIRE(config->dropout >= 0 && config->dropout < 1,
              "config->dropout: got %g, want 0 <= dropout < 1",
              (double)config->dropout);
  return check_marks(config);
}

/* ---- making -------------------------------------------------------------- */

/* The constant table [rows, E], by 1/sqrt(E). */
static clattn_status make_positions(clattn_seq2seq *made, clattn_queue *queue,
                                    int64_t rows) {
  const kit_params *params = &made->params;
  const int64_t E = made->config.embed_dim;
  const size_t n = (size_t)(rows * E);
  float *table = malloc(n * sizeof *table);
  if (table == NULL) return KIT_OUT_OF_MEMORY("positions");
  clattn_status status = clattn_nn_sinusoidal(0, rows, E, table);
  const float scale = 1 / sqrtf((float)E);
  for (size_t i = 0; status == CLATTN_OK && i < n; i++) table[i] *= scale;
  if (status == CLATTN_OK)
    status = clattn_buffer_create(params->context, params->device,
                                  n * sizeof *table, &made->positions);
  if (status == CLATTN_OK)
    status = clattn_buffer_write(queue, made->positions, 0, table,
                                 n * sizeof *table);
  free(table);
  return status;
}

static clattn_status make(clattn_seq2seq *made, clattn_context *context,
                          int device, clattn_queue *queue) {
  const clattn_seq2seq_config *c = &made->config;
  const float deviation = 0.5f / sqrtf((float)c->embed_dim);
  kit_params *params = &made->params;
  made->encoder = (kit_stack){.params = params,
                              .prefix = "encoder.",
                              .layers = c->layers,
                              .heads = c->heads,
                              .embed_dim = c->embed_dim,
                              .rows = c->max_source,
                              .first = FIRST_OF_ENCODER,
                              .wte = WTE,
                              .vocab = c->vocab_size,
                              .wpe = STACK_CONSTANT};
  made->decoder = made->encoder;
  made->decoder.prefix = "decoder.";
  made->decoder.rows = c->max_target + 1; /* begin */
  made->decoder.causal = made->decoder.memory = made->decoder.head = true;
  made->decoder.first += kit_stack_tensors(&made->encoder);
  KIT_TRY(kit_params_begin(
      params, context, device,
      made->decoder.first + kit_stack_tensors(&made->decoder)));
  kit_param_set(&params->list[WTE], "wte.weight", c->vocab_size, c->embed_dim,
                deviation);
  kit_stack_name(&made->encoder, params, deviation);
  kit_stack_name(&made->decoder, params, deviation);
  KIT_TRY(kit_params_place(params));
  KIT_TRY(make_positions(made, queue,
                         made->encoder.rows > made->decoder.rows
                             ? made->encoder.rows
                             : made->decoder.rows));
  made->encoder.positions = made->decoder.positions = made->positions;
  return CLATTN_OK;
}

clattn_status seq2seq_new(clattn_context *context, int device,
                          clattn_queue *queue,
                          const clattn_seq2seq_config *config,
                          clattn_seq2seq **model) {
  KIT_REQUIRE(context != NULL, "context: got NULL, want a context");
  KIT_TRY(seq2seq_check_config(config));
  clattn_seq2seq *made = calloc(1, sizeof *made);
  if (made == NULL) return KIT_OUT_OF_MEMORY("model");
  made->users = 1;
  made->config = *config;
  const clattn_status status = make(made, context, device, queue);
  if (status != CLATTN_OK) {
    clattn_seq2seq_destroy(made);
    return status;
  }
  *model = made;
  return CLATTN_OK;
}

clattn_status clattn_seq2seq_create(clattn_context *context, int device,
                                    clattn_queue *queue,
                                    const clattn_seq2seq_config *config,
                                    uint32_t seed, clattn_seq2seq **model) {
  KIT_REQUIRE(model != NULL, "model: got NULL, want a place for the handle");
  *model = NULL;
  KIT_REQUIRE(queue != NULL, "queue: got NULL, want a queue");
  clattn_seq2seq *made = NULL;
  KIT_TRY(seq2seq_new(context, device, queue, config, &made));
  const clattn_status status = kit_params_draw(&made->params, queue, seed);
  if (status != CLATTN_OK) {
    clattn_seq2seq_destroy(made);
    return status;
  }
  *model = made;
  return CLATTN_OK;
}

void clattn_seq2seq_destroy(clattn_seq2seq *model) {
  if (model == NULL || --model->users > 0) return;
  seq2seq_room_destroy(model->room);
  clattn_buffer_destroy(model->positions);
  kit_params_free(&model->params);
  free(model);
}

/* ---- looking at it ------------------------------------------------------- */

clattn_status clattn_seq2seq_get_config(const clattn_seq2seq *model,
                                        clattn_seq2seq_config *config) {
  KIT_REQUIRE(model != NULL, "model: got NULL, want a model");
  KIT_REQUIRE(config != NULL, "config: got NULL, want a place");
  *config = model->config;
  return CLATTN_OK;
}

int64_t clattn_seq2seq_parameters(const clattn_seq2seq *model) {
  return model == NULL ? 0 : model->params.total;
}

size_t clattn_seq2seq_tensor_count(const clattn_seq2seq *model) {
  return model == NULL ? 0 : model->params.count;
}

clattn_status clattn_seq2seq_tensor_at(const clattn_seq2seq *model, size_t i,
                                       clattn_gpt_tensor *tensor) {
  KIT_REQUIRE(model != NULL, "model: got NULL, want a model");
  return kit_params_at(&model->params, i, tensor);
}

clattn_status clattn_seq2seq_tensor_read(const clattn_seq2seq *model,
                                         clattn_queue *queue, size_t i,
                                         float *values) {
  KIT_REQUIRE(model != NULL, "model: got NULL, want a model");
  return kit_params_read(&model->params, queue, model->params.values, i,
                         values);
}

clattn_status clattn_seq2seq_tensor_write(clattn_seq2seq *model,
                                          clattn_queue *queue, size_t i,
                                          const float *values) {
  KIT_REQUIRE(model != NULL, "model: got NULL, want a model");
  return kit_params_write(&model->params, queue, model->params.values, i,
                          values);
}
