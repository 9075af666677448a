/* attend_model.c - embeddings on the host and an attention layer on a device.
 *
 * Names in a weights file: tok_emb.weight [>= vocabulary, dim], pos_emb.weight
 * [>= length, dim], and behind a prefix those of nn.MultiheadAttention. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "attend.h"

static const char token_name[] = "tok_emb.weight";
static const char position_name[] = "pos_emb.weight";

static bool ok(clattn_status status) {
  if (status != CLATTN_OK) cli_error("%s", clattn_error_message());
  return status == CLATTN_OK;
}

/* Room for n * dim floats; NULL with a message. */
static float *make_table(const char *what, int64_t n, int64_t dim) {
  int64_t elements;
  float *table = NULL;
  if (!__builtin_mul_overflow(n, dim, &elements) &&
      (uint64_t)elements <= SIZE_MAX / sizeof *table)
    table = malloc((size_t)elements * sizeof *table);
  if (table == NULL)
    cli_error("no memory for %s: %lld rows of %lld numbers", what, (long long)n,
              (long long)dim);
  return table;
}

/* ---- weights ------------------------------------------------------------- */

/* The first `rows` rows of an embedding, if the file has it; else as drawn. */
static clattn_status load_table(const clattn_kit_safetensors *file,
                                const char *name, int64_t rows, int64_t dim,
                                float *table) {
  clattn_kit_tensor tensor;
  if (!clattn_kit_safetensors_has(file, name)) return CLATTN_OK;
  const clattn_status status = clattn_kit_safetensors_find(file, name, &tensor);
  if (status != CLATTN_OK) return status;
  char shape[CLI_SHAPE_CHARS];
  if (tensor.rank != 2 || tensor.extent[0] < rows || tensor.extent[1] != dim)
    return clattn_set_error(CLATTN_IO_ERROR,
                            "tensor '%s': got shape %s, want rank 2 with at "
                            "least %lld rows of %lld",
                            name, cli_shape(&tensor, shape), (long long)rows,
                            (long long)dim);
  tensor.size_bytes =
      tensor.size_bytes / (size_t)tensor.extent[0] * (size_t)rows;
  tensor.extent[0] = rows;
  return clattn_kit_tensor_to_f32(&tensor, table);
}

static bool load(attend_model *model, const attend_options *options,
                 const clattn_mha_config *config) {
  clattn_kit_safetensors *file;
  if (!ok(clattn_kit_safetensors_open(options->weights, &file))) return false;
  clattn_status status = load_table(file, token_name, model->vocab, model->dim,
                                    model->token_table);
  if (status == CLATTN_OK)
    status = load_table(file, position_name, model->length, model->dim,
                        model->position_table);
  if (status == CLATTN_OK)
    status = clattn_kit_mha_load(model->context, model->device, model->queue,
                                 file, options->prefix, config, &model->mha);
  if (status != CLATTN_OK)
    cli_error("%s: %s", options->weights, clattn_error_message());
  clattn_kit_safetensors_destroy(file);
  return status == CLATTN_OK;
}

static bool save(const attend_model *model, const attend_options *options) {
  const clattn_kit_tensor tables[] = {
      {.name = token_name,
       .dtype = CLATTN_KIT_F32,
       .rank = 2,
       .extent = {model->vocab, model->dim},
       .data = model->token_table,
       .size_bytes = (size_t)(model->vocab * model->dim) * sizeof(float)},
      {.name = position_name,
       .dtype = CLATTN_KIT_F32,
       .rank = 2,
       .extent = {model->length, model->dim},
       .data = model->position_table,
       .size_bytes = (size_t)(model->length * model->dim) * sizeof(float)}};
  return ok(clattn_kit_mha_save(model->mha, model->queue, options->save,
                                options->prefix, tables, 2));
}

static bool make_weights(attend_model *model, const attend_options *options) {
  clattn_mha_config config;
  clattn_mha_config_init(&config);
  config.embed_dim = model->dim;
  config.num_heads = model->heads;
  config.attention.causal = true;
  config.attention.path = options->path;
  model->token_table = make_table("token embeddings", model->vocab, model->dim);
  model->position_table =
      make_table("position embeddings", model->length, model->dim);
  if (model->token_table == NULL || model->position_table == NULL) return false;

  /* A file's embeddings replace these: one order of drawing whatever it has. */
  clattn_kit_rng rng;
  clattn_kit_rng_init(&rng, (uint32_t)options->seed);
  clattn_kit_rng_normal(&rng, (size_t)(model->vocab * model->dim),
                        model->token_table);
  clattn_kit_rng_normal(&rng, (size_t)(model->length * model->dim),
                        model->position_table);
  const bool done = options->weights != NULL
                        ? load(model, options, &config)
                        : ok(clattn_kit_mha_random(
                              model->context, model->device, model->queue,
                              &config, false, &rng, &model->mha));
  return done && (options->save == NULL || save(model, options));
}

/* ---- making -------------------------------------------------------------- */

bool attend_model_make(const attend_options *options, int32_t vocab,
                       attend_model *model) {
  *model = (attend_model){.vocab = vocab,
                          .length = options->length,
                          .dim = options->dim,
                          .heads = options->heads};
  if (!cli_context(options->device, &model->context, &model->device) ||
      !ok(clattn_queue_create(model->context, model->device, &model->queue)) ||
      !make_weights(model, options))
    return false;
  model->host =
      make_table("a batch", options->batch * options->length, options->dim);
  if (model->host == NULL) return false;
  const size_t bytes =
      (size_t)(options->batch * options->length * options->dim) * sizeof(float);
  return ok(clattn_buffer_create(model->context, model->device, bytes,
                                 &model->input)) &&
         ok(clattn_buffer_create(model->context, model->device, bytes,
                                 &model->output));
}

void attend_model_free(attend_model *model) {
  clattn_buffer_destroy(model->input);
  clattn_buffer_destroy(model->output);
  clattn_kit_mha_destroy(model->mha);
  clattn_queue_destroy(model->queue);
  clattn_context_destroy(model->context);
  free(model->token_table);
  free(model->position_table);
  free(model->host);
  *model = (attend_model){0};
}

/* ---- running ------------------------------------------------------------- */

bool attend_model_embed(attend_model *model, const int32_t *ids,
                        int64_t windows) {
  const int64_t rows = windows * model->length, dim = model->dim;
  for (int64_t i = 0; i < rows; i++) {
    const float *token = model->token_table + ids[i] * dim;
    const float *position = model->position_table + i % model->length * dim;
    float *x = model->host + i * dim;
    for (int64_t d = 0; d < dim; d++) x[d] = token[d] + position[d];
  }
  return ok(clattn_buffer_write(model->queue, model->input, 0, model->host,
                                (size_t)(rows * dim) * sizeof(float)));
}

static clattn_tensor rows_view(const attend_model *model, clattn_buffer *buffer,
                               int64_t windows, int64_t rows) {
  return clattn_view_bhsd(buffer, CLATTN_F32, windows, 1, rows, model->dim);
}

bool attend_model_forward(attend_model *model, int64_t windows) {
  clattn_mha_args args;
  clattn_mha_args_init(&args);
  args.query = rows_view(model, model->input, windows, model->length);
  args.output = rows_view(model, model->output, windows, model->length);
  return ok(clattn_mha_forward(clattn_kit_mha_layer(model->mha), model->queue,
                               &args, NULL, 0, NULL)) &&
         ok(clattn_queue_finish(model->queue));
}

bool attend_model_finite(attend_model *model, int64_t windows) {
  const int64_t n = windows * model->length * model->dim;
  if (!ok(clattn_buffer_read(model->queue, model->output, 0, model->host,
                             (size_t)n * sizeof(float))))
    return false;
  for (int64_t i = 0; i < n; i++)
    if (!isfinite(model->host[i])) {
      cli_error("the layer's output is not finite: look at its weights");
      return false;
    }
  return true;
}

/* A second layer on the same weights, which returns its attention. */
static clattn_mha *make_looking(const attend_model *model) {
  clattn_mha_config config;
  clattn_mha_weights weights;
  clattn_mha *layer = NULL;
  if (!ok(clattn_kit_mha_parts(model->mha, &config, &weights))) return NULL;
  config.attention.outputs = CLATTN_OUT_WEIGHTS;
  config.attention.path = CLATTN_AUTO; /* the fused path has no weights */
  ok(clattn_mha_create(model->context, model->device, &config, &weights,
                       &layer));
  return layer;
}

bool attend_model_weights(attend_model *model, int64_t head, int64_t n,
                          float *weights) {
  const int64_t heads = model->heads;
  const size_t plane = (size_t)(n * n) * sizeof(float);
  clattn_mha *layer = make_looking(model);
  clattn_buffer *buffer = NULL;
  clattn_mha_args args;
  clattn_mha_args_init(&args);
  /* Causal: the first n rows see only the first n. */
  args.query = rows_view(model, model->input, 1, n);
  args.output = rows_view(model, model->output, 1, n);
  bool done =
      layer != NULL && ok(clattn_buffer_create(model->context, model->device,
                                               plane * (size_t)heads, &buffer));
  if (done) {
    args.weights = clattn_view_bhsd(buffer, CLATTN_F32, 1, heads, n, n);
    done = ok(clattn_mha_forward(layer, model->queue, &args, NULL, 0, NULL)) &&
           ok(clattn_buffer_read(model->queue, buffer, (size_t)head * plane,
                                 weights, plane));
  }
  clattn_buffer_destroy(buffer);
  clattn_mha_destroy(layer);
  return done;
}

double attend_model_flop(const attend_model *model, int64_t windows) {
  const double rows = (double)model->length, dim = (double)model->dim;
  const double projections = 4 * 2 * rows * dim * dim;
  const double products = 2 * 2 * dim * rows * (rows + 1) / 2;
  return (double)windows * (projections + products);
}
