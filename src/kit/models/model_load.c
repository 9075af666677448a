/* model_load.c - a checkpoint's tensors onto a device. */
#include <stdlib.h>
#include <string.h>

#include "model.h"
#include "model_config.h"

/* ---- reading ---------------------------------------------------------------- */

typedef struct loader {
  clattn_model *model;
  clattn_queue *queue;
  const clattn_weights *weights;
  const char *path;   /* for messages */
  const char *prefix; /* that names have in this file */
} loader;

enum { FULL_NAME_CHARS = MODEL_NAME_CHARS + 16 };

/* Old checkpoints of BERT call weight and bias of a norm gamma and beta. */
static void name_as_once(char name[FULL_NAME_CHARS], bool bias) {
  char *end = strstr(name, "LayerNorm.");
  if (end != NULL) strcpy(end + strlen("LayerNorm."), bias ? "beta" : "gamma");
}

/* The name that the file has, or if there is none that it should have; false if
 * there is none. */
static bool find_name(const loader *l, model_module module, int64_t layer,
                      bool bias, char name[FULL_NAME_CHARS]) {
  char own[MODEL_NAME_CHARS];
  name[0] = '\0';
  if (!model_tensor_name(l->model->spec.names, module, layer, bias, own))
    return false;
  const char *prefix = module == MODEL_HEAD ? "" : l->prefix;
  snprintf(name, FULL_NAME_CHARS, "%s%s", prefix, own);
  if (clattn_weights_has(l->weights, name)) return true;
  name_as_once(name, bias);
  if (clattn_weights_has(l->weights, name)) return true;
  snprintf(name, FULL_NAME_CHARS, "%s%s", prefix, own);
  return false;
}

static bool has(const loader *l, model_module module, int64_t layer,
                bool bias) {
  char name[FULL_NAME_CHARS];
  return find_name(l, module, layer, bias, name);
}

/* to [cols, rows] = from [rows, cols], elements of so many bytes. In blocks,
 * whose lines stay in the cache. */
static void turn(const unsigned char *from, int64_t rows, int64_t cols,
                 size_t size, unsigned char *to) {
  enum { BLOCK = 32 };
  for (int64_t r0 = 0; r0 < rows; r0 += BLOCK)
    for (int64_t c0 = 0; c0 < cols; c0 += BLOCK)
      for (int64_t r = r0; r < rows && r < r0 + BLOCK; r++)
        for (int64_t c = c0; c < cols && c < c0 + BLOCK; c++)
          memcpy(to + (size_t)(c * rows + r) * size,
                 from + (size_t)(r * cols + c) * size, size);
}

static bool is_turned(const loader *l, model_module module) {
  return l->model->spec.turned && module >= MODEL_FIRST_OF_LAYER &&
         model_module_shape(&l->model->spec, module).cols > 0;
}

/* Looks a tensor up and checks its shape. */
static clattn_status find_tensor(const loader *l, model_module module,
                                 int64_t layer, bool bias,
                                 clattn_weights_tensor *tensor) {
  char name[FULL_NAME_CHARS], got[KIT_SHAPE_CHARS], want[KIT_SHAPE_CHARS];
  if (!find_name(l, module, layer, bias, name))
    return MODEL_BAD("%s: no tensor '%s', which a %s wants", l->path, name,
                     l->model->spec.config.name);
  KIT_TRY(clattn_weights_find(l->weights, name, tensor));
  const model_shape shape = model_module_shape(&l->model->spec, module);
  const bool turned = is_turned(l, module);
  clattn_kit_tensor is = {.rank = tensor->rank},
                    wanted = {
                        .rank = bias || shape.cols == 0 ? 1 : 2,
                        .extent = {turned && !bias ? shape.cols : shape.rows,
                                   turned ? shape.rows : shape.cols}};
  memcpy(is.extent, tensor->extent, sizeof is.extent);
  if (is.rank != wanted.rank || is.extent[0] != wanted.extent[0] ||
      (is.rank == 2 && is.extent[1] != wanted.extent[1]))
    return MODEL_BAD("%s: tensor '%s': got shape %s, want %s", l->path, name,
                     kit_shape_text(&is, got), kit_shape_text(&wanted, want));
  return CLATTN_OK;
}

static clattn_status read_tensor(const loader *l, model_module module,
                                 const clattn_weights_tensor *tensor,
                                 clattn_dtype dtype, void *to) {
  const size_t size = clattn_dtype_size(dtype);
  if (tensor->rank == 1 || !is_turned(l, module))
    return clattn_weights_read(tensor, dtype, to);
  const int64_t rows = tensor->extent[0], cols = tensor->extent[1];
  void *values = malloc((size_t)(rows * cols) * size);
  if (values == NULL) return KIT_OUT_OF_MEMORY("model");
  const clattn_status status = clattn_weights_read(tensor, dtype, values);
  if (status == CLATTN_OK) turn(values, rows, cols, size, to);
  free(values);
  return status;
}

/* values [rows, cols], cols 0: a vector; in a buffer of its own, which the view
 * owns. */
static clattn_status upload(const loader *l, const void *values,
                            clattn_dtype dtype, model_shape shape,
                            clattn_tensor *view) {
  const int rank = shape.cols > 0 ? 2 : 1;
  const int64_t extent[2] = {shape.rows, shape.cols};
  const int64_t cols = rank == 2 ? shape.cols : 1;
  const size_t size = clattn_dtype_size(dtype);
  clattn_buffer *buffer = NULL;
  KIT_TRY(model_buffer(l->model, "model", shape.rows, cols, size, &buffer));
  const clattn_status status = clattn_buffer_write(
      l->queue, buffer, 0, values, (size_t)(shape.rows * cols) * size);
  if (status != CLATTN_OK) {
    clattn_buffer_destroy(buffer);
    return status;
  }
  *view = clattn_view(buffer, dtype, rank, extent);
  l->model->parameters += shape.rows * cols;
  return CLATTN_OK;
}

/* Modules 0..n-1 one below the other, as one; their biases too if any has one,
 * with 0 for those that have none. */
static clattn_status load_stack(const loader *l, const model_module *modules,
                                int n, int64_t layer, bool bias,
                                bool bias_required, clattn_dtype dtype,
                                clattn_tensor *view) {
  const model_spec *spec = &l->model->spec;
  model_shape shape = {0, 0};
  clattn_weights_tensor tensors[3];
  bool any = !bias || bias_required, there[3];
  for (int i = 0; i < n; i++) {
    const model_shape part = model_module_shape(spec, modules[i]);
    shape.rows += part.rows;
    shape.cols = bias ? 0 : part.cols;
    there[i] = !bias || bias_required || has(l, modules[i], layer, true);
    any = any || there[i];
    if (there[i]) KIT_TRY(find_tensor(l, modules[i], layer, bias, &tensors[i]));
  }
  if (!any) return CLATTN_OK;
  const int64_t cols = shape.cols > 0 ? shape.cols : 1;
  const size_t size = clattn_dtype_size(dtype);
  unsigned char *values = calloc((size_t)(shape.rows * cols), size);
  if (values == NULL) return KIT_OUT_OF_MEMORY("model");
  clattn_status status = CLATTN_OK;
  int64_t row = 0;
  for (int i = 0; status == CLATTN_OK && i < n; i++) {
    if (there[i])
      status = read_tensor(l, modules[i], &tensors[i], dtype,
                           values + (size_t)(row * cols) * size);
    row += model_module_shape(spec, modules[i]).rows;
  }
  if (status == CLATTN_OK) status = upload(l, values, dtype, shape, view);
  free(values);
  return status;
}

/* Vectors are F32 in any case. */
static clattn_status load_module(const loader *l, model_module module,
                                 int64_t layer, bool bias_required) {
  const bool matrix = model_module_shape(&l->model->spec, module).cols > 0;
  model_param *part = model_part(l->model, module, layer);
  KIT_TRY(load_stack(l, &module, 1, layer, false, true,
                     matrix ? l->model->options.dtype : CLATTN_F32,
                     &part->weight));
  return load_stack(l, &module, 1, layer, true, bias_required, CLATTN_F32,
                    &part->bias);
}

/* ---- layers ------------------------------------------------------------------ */

/* Rows first..first+rows-1 of a matrix, or elements of a vector. */
static clattn_tensor rows_of(const clattn_tensor *all, int dim, int64_t first,
                             int64_t rows) {
  clattn_tensor part = *all;
  if (all->buffer == NULL) return part;
  part.extent[dim] = rows;
  part.offset += first * all->stride[dim];
  return part;
}

/* Queries, keys and values in one matrix, and views of its parts. */
static clattn_status load_inputs(const loader *l, int64_t layer,
                                 bool bias_required) {
  static const model_module parts[] = {MODEL_Q, MODEL_K, MODEL_V},
                            packed[] = {MODEL_QKV};
  const clattn_model *model = l->model;
  const bool is_packed =
      !has(l, MODEL_Q, layer, false) && has(l, MODEL_QKV, layer, false);
  char name[MODEL_NAME_CHARS];
  const bool never_split =
      !model_tensor_name(model->spec.names, MODEL_Q, layer, false, name);
  const bool one = is_packed || never_split;
  model_param *all = model_part(model, MODEL_QKV, layer);
  KIT_TRY(load_stack(l, one ? packed : parts, one ? 1 : 3, layer, false, true,
                     model->options.dtype, &all->weight));
  KIT_TRY(load_stack(l, one ? packed : parts, one ? 1 : 3, layer, true,
                     bias_required, CLATTN_F32, &all->bias));
  int64_t row = 0;
  for (int i = 0; i < 3; i++) {
    model_param *part = model_part(model, parts[i], layer);
    const int64_t rows = model_module_shape(&model->spec, parts[i]).rows;
    part->weight = rows_of(&all->weight, 2, row, rows);
    part->bias = rows_of(&all->bias, 3, row, rows);
    row += rows;
  }
  return CLATTN_OK;
}

static clattn_status load_layer(const loader *l, int64_t layer) {
  const model_spec *spec = &l->model->spec;
  const bool llama = spec->config.kind == CLATTN_MODEL_LLAMA;
  const bool attention = !llama || spec->attention_bias;
  const bool mlp = !llama || spec->mlp_bias;
  KIT_TRY(load_module(l, MODEL_NORM1, layer, !llama));
  KIT_TRY(load_inputs(l, layer, attention));
  KIT_TRY(load_module(l, MODEL_O, layer, attention));
  KIT_TRY(load_module(l, MODEL_NORM2, layer, !llama));
  KIT_TRY(load_module(l, MODEL_UP, layer, mlp));
  if (llama) KIT_TRY(load_module(l, MODEL_GATE, layer, mlp));
  return load_module(l, MODEL_DOWN, layer, mlp);
}

/* Part by part: a model of a million positions has tables of half a gigabyte. */
static clattn_status write_rotary(const loader *l, clattn_buffer *cos_table,
                                  clattn_buffer *sin_table) {
  enum { PART = 4096 }; /* rows */
  const model_spec *spec = &l->model->spec;
  const int64_t rows = spec->config.positions, half = spec->rotary_dim / 2;
  float *part = malloc(2 * PART * (size_t)half * sizeof *part);
  if (part == NULL) return KIT_OUT_OF_MEMORY("model");
  clattn_status status = CLATTN_OK;
  for (int64_t first = 0; first < rows && status == CLATTN_OK; first += PART) {
    const int64_t n = rows - first < PART ? rows - first : PART;
    const size_t row = (size_t)half * sizeof *part;
    model_rotary_rows(spec, first, n, part, part + n * half);
    status = clattn_buffer_write(l->queue, cos_table, (size_t)first * row, part,
                                 (size_t)n * row);
    if (status == CLATTN_OK)
      status = clattn_buffer_write(l->queue, sin_table, (size_t)first * row,
                                   part + n * half, (size_t)n * row);
  }
  free(part);
  return status;
}

static clattn_status load_rotary(const loader *l) {
  clattn_model *model = l->model;
  const int64_t half = model->spec.rotary_dim / 2;
  const int64_t extent[2] = {model->spec.config.positions, half};
  clattn_tensor *const tables[] = {&model->rotary_cos, &model->rotary_sin};
  if (model->spec.config.rotary_base == 0) return CLATTN_OK;
  for (int i = 0; i < 2; i++) {
    clattn_buffer *buffer = NULL;
    KIT_TRY(
        model_buffer(model, "model", extent[0], half, sizeof(float), &buffer));
    *tables[i] = clattn_view(buffer, CLATTN_F32, 2, extent);
  }
  return write_rotary(l, model->rotary_cos.buffer, model->rotary_sin.buffer);
}

static clattn_status load_head(const loader *l) {
  const clattn_model *model = l->model;
  const bool tied = model->spec.tied < 0 ? !has(l, MODEL_HEAD, 0, false)
                                         : model->spec.tied == 1;
  if (!tied && l->model->spec.headless && !has(l, MODEL_HEAD, 0, false)) {
    l->model->spec.config.head = false;
    return CLATTN_OK;
  }
  if (!tied) return load_module(l, MODEL_HEAD, 0, false);
  model_part(model, MODEL_HEAD, 0)->weight =
      model_part(model, MODEL_TOKENS, 0)->weight;
  return CLATTN_OK;
}

static clattn_status load_all(const loader *l) {
  clattn_model_config *c = &l->model->spec.config;
  const bool bert = c->kind == CLATTN_MODEL_BERT;
  const bool llama = c->kind == CLATTN_MODEL_LLAMA;
  KIT_TRY(load_module(l, MODEL_TOKENS, 0, false));
  if (!llama) KIT_TRY(load_module(l, MODEL_POSITIONS, 0, false));
  if (bert) KIT_TRY(load_module(l, MODEL_TYPES, 0, false));
  if (bert) KIT_TRY(load_module(l, MODEL_EMBED_NORM, 0, true));
  for (int64_t layer = 0; layer < c->layers; layer++)
    KIT_TRY(load_layer(l, layer));
  if (!bert) KIT_TRY(load_module(l, MODEL_LAST_NORM, 0, !llama));
  if (c->head) KIT_TRY(load_head(l));
  c->pooler = bert && has(l, MODEL_POOLER, 0, false);
  if (c->pooler) KIT_TRY(load_module(l, MODEL_POOLER, 0, true));
  const int64_t most = l->model->options.positions;
  if (most > 0 && most < c->positions) c->positions = most;
  return load_rotary(l);
}

clattn_status model_load_params(clattn_model *model, clattn_queue *queue,
                                const clattn_weights *weights,
                                const char *path) {
  loader l = {model, queue, weights, path, ""};
  if (!has(&l, MODEL_TOKENS, 0, false)) l.prefix = model->spec.prefix;
  return load_all(&l);
}
