/* mha.c - a multi-head attention layer with the memory its weights lie in. */
#include <stdlib.h>
#include <string.h>

#include "kit.h"

enum { Q, K, V, O, N_PROJECTIONS };

static const char letters[] = "qkv";

/* A parameter in host memory: [rows, cols], a bias [rows] with cols 0. */
typedef struct source {
  const unsigned char *data; /* any alignment; NULL: absent */
  clattn_dtype dtype;
  int64_t rows, cols;
} source;

struct clattn_kit_mha {
  clattn_mha_config config;
  clattn_mha_weights views;
  clattn_buffer *buffers[2 * N_PROJECTIONS]; /* weights, then biases */
  clattn_mha *layer;
};

static clattn_tensor *view_of(clattn_mha_weights *views, int i) {
  clattn_tensor *const places[] = {
      &views->q_weight, &views->k_weight, &views->v_weight, &views->o_weight,
      &views->q_bias,   &views->k_bias,   &views->v_bias,   &views->o_bias};
  return places[i];
}

/* ---- making -------------------------------------------------------------- */

static clattn_status upload(clattn_context *context, int device,
                            clattn_queue *queue, const source *from,
                            clattn_buffer **buffer, clattn_tensor *view) {
  if (from->data == NULL) return CLATTN_OK;
  const int rank = from->cols > 0 ? 2 : 1;
  const int64_t extent[2] = {from->rows, from->cols};
  const size_t bytes = (size_t)(from->rows * (rank == 2 ? from->cols : 1)) *
                       clattn_dtype_size(from->dtype);
  KIT_TRY(clattn_buffer_create(context, device, bytes, buffer));
  KIT_TRY(clattn_buffer_write(queue, *buffer, 0, from->data, bytes));
  *view = clattn_view(*buffer, from->dtype, rank, extent);
  return CLATTN_OK;
}

/* sources [weights and biases of q, k, v, o]. */
static clattn_status make(clattn_context *context, int device,
                          clattn_queue *queue, const clattn_mha_config *config,
                          const source *sources, clattn_kit_mha **mha) {
  clattn_kit_mha *made = calloc(1, sizeof *made);
  if (made == NULL) return KIT_OUT_OF_MEMORY("mha");
  made->config = *config;
  clattn_mha_weights_init(&made->views);
  clattn_status status = CLATTN_OK;
  for (int i = 0; i < 2 * N_PROJECTIONS && status == CLATTN_OK; i++)
    status = upload(context, device, queue, &sources[i], &made->buffers[i],
                    view_of(&made->views, i));
  if (status == CLATTN_OK)
    status =
        clattn_mha_create(context, device, config, &made->views, &made->layer);
  if (status != CLATTN_OK) {
    clattn_kit_mha_destroy(made);
    return status;
  }
  *mha = made;
  return CLATTN_OK;
}

void clattn_kit_mha_destroy(clattn_kit_mha *mha) {
  if (mha == NULL) return;
  clattn_mha_destroy(mha->layer);
  for (int i = 0; i < 2 * N_PROJECTIONS; i++)
    clattn_buffer_destroy(mha->buffers[i]);
  free(mha);
}

static clattn_status check_common(const clattn_context *context,
                                  const clattn_queue *queue,
                                  const clattn_mha_config *config) {
  KIT_REQUIRE(context != NULL, "context: got NULL, want a context");
  KIT_REQUIRE(queue != NULL, "queue: got NULL, want a queue");
  KIT_REQUIRE_STRUCT(config, clattn_mha_config);
  const int64_t sizes[] = {config->num_heads, config->num_kv_heads,
                           config->embed_dim, config->head_dim,
                           config->kdim,      config->vdim,
                           config->out_dim};
  static const char *const names[] = {"num_heads", "num_kv_heads", "embed_dim",
                                      "head_dim",  "kdim",         "vdim",
                                      "out_dim"};
  /* 2^31 a size keeps every product of two below 2^62. */
  for (int i = 0; i < 7; i++)
    KIT_REQUIRE(sizes[i] >= (i == 0) && sizes[i] <= INT32_MAX,
                "config->%s: got %lld, want %d..%d", names[i],
                (long long)sizes[i], i == 0, INT32_MAX);
  return CLATTN_OK;
}

/* ---- from a file --------------------------------------------------------- */

/* The first of two names behind the prefix that the file has; false: none. */
static bool find_name(const clattn_kit_safetensors *file, const char *prefix,
                      const char *first, const char *second, char *name,
                      size_t room) {
  snprintf(name, room, "%s%s", prefix, first);
  if (clattn_kit_safetensors_has(file, name)) return true;
  snprintf(name, room, "%s%s", prefix, second);
  return clattn_kit_safetensors_has(file, name);
}

/* A parameter of that rank, or an absent one where neither name is there. */
static clattn_status find_source(const clattn_kit_safetensors *file,
                                 const char *prefix, const char *first,
                                 const char *second, int rank, source *found) {
  char name[512];
  *found = (source){0};
  if (!find_name(file, prefix, first, second, name, sizeof name))
    return CLATTN_OK;
  clattn_kit_tensor tensor;
  KIT_TRY(clattn_kit_safetensors_find(file, name, &tensor));
  char shape[KIT_SHAPE_CHARS];
  KIT_REQUIRE(tensor.rank == rank && clattn_kit_tensor_elements(&tensor) > 0 &&
                  tensor.extent[0] <= INT32_MAX &&
                  (rank == 1 || tensor.extent[1] <= INT32_MAX),
              "file: tensor '%.200s': got shape %s, want rank %d", name,
              kit_shape_text(&tensor, shape), rank);
  const clattn_dtype dtype = clattn_kit_dtype_on_device(tensor.dtype);
  if (dtype != CLATTN_F32 && dtype != CLATTN_F16 && dtype != CLATTN_BF16)
    return clattn_set_error(CLATTN_UNSUPPORTED,
                            "file: tensor '%.200s': got %s, want F32, F16 or "
                            "BF16",
                            name, tensor.dtype_name);
  *found = (source){tensor.data, dtype, tensor.extent[0],
                    rank == 2 ? tensor.extent[1] : 0};
  return CLATTN_OK;
}

/* Rows first .. first + rows - 1 of a packed parameter. */
static source cut(const source *packed, int64_t first, int64_t rows) {
  source part = *packed;
  if (part.data == NULL) return part;
  const int64_t row_elements = part.cols > 0 ? part.cols : 1;
  part.data += (size_t)(first * row_elements) * clattn_dtype_size(part.dtype);
  part.rows = rows;
  return part;
}

/* in_proj_weight or in_proj_bias: H heads of q, Hk of k, Hk of v. */
static clattn_status unpack(const source *packed, int64_t heads,
                            int64_t kv_heads, const char *name,
                            source *sources) {
  const int64_t all = heads + 2 * kv_heads;
  KIT_REQUIRE(packed->rows % all == 0,
              "file: tensor '%s': got %lld rows, want a multiple of %lld heads",
              name, (long long)packed->rows, (long long)all);
  const int64_t head_dim = packed->rows / all;
  sources[Q] = cut(packed, 0, heads * head_dim);
  sources[K] = cut(packed, heads * head_dim, kv_heads * head_dim);
  sources[V] = cut(packed, (heads + kv_heads) * head_dim, kv_heads * head_dim);
  return CLATTN_OK;
}

static clattn_status find_inputs(const clattn_kit_safetensors *file,
                                 const char *prefix, int64_t heads,
                                 int64_t kv_heads, source *sources) {
  source packed;
  KIT_TRY(find_source(file, prefix, "in_proj_weight", "in_proj.weight", 2,
                      &packed));
  if (packed.data != NULL)
    KIT_TRY(unpack(&packed, heads, kv_heads, "in_proj_weight", sources));
  for (int i = Q; i <= V && packed.data == NULL; i++) {
    char first[24], second[24];
    snprintf(first, sizeof first, "%c_proj_weight", letters[i]);
    snprintf(second, sizeof second, "%c_proj.weight", letters[i]);
    KIT_TRY(find_source(file, prefix, first, second, 2, &sources[i]));
    KIT_REQUIRE(sources[i].data != NULL,
                "file: no tensor '%.200sin_proj_weight' nor '%.200s%s'", prefix,
                prefix, first);
  }
  KIT_TRY(
      find_source(file, prefix, "in_proj_bias", "in_proj.bias", 1, &packed));
  if (packed.data != NULL)
    return unpack(&packed, heads, kv_heads, "in_proj_bias",
                  sources + N_PROJECTIONS);
  for (int i = Q; i <= V; i++) {
    char first[24], second[24];
    snprintf(first, sizeof first, "%c_proj_bias", letters[i]);
    snprintf(second, sizeof second, "%c_proj.bias", letters[i]);
    KIT_TRY(find_source(file, prefix, first, second, 1,
                        &sources[N_PROJECTIONS + i]));
  }
  return CLATTN_OK;
}

static clattn_status find_all(const clattn_kit_safetensors *file,
                              const char *prefix, int64_t heads,
                              int64_t kv_heads, source *sources) {
  KIT_TRY(find_inputs(file, prefix, heads, kv_heads, sources));
  KIT_TRY(find_source(file, prefix, "out_proj.weight", "out_proj_weight", 2,
                      &sources[O]));
  KIT_REQUIRE(sources[O].data != NULL,
              "file: no tensor '%.200sout_proj.weight'", prefix);
  KIT_TRY(find_source(file, prefix, "out_proj.bias", "out_proj_bias", 1,
                      &sources[N_PROJECTIONS + O]));
  /* add_bias_kv: a key and a value of the layer's own, which to ignore would
   * be to compute something else. */
  char name[512];
  if (find_name(file, prefix, "bias_k", "bias_v", name, sizeof name))
    return clattn_set_error(CLATTN_UNSUPPORTED,
                            "file: tensor '%.200s' (add_bias_kv) is not served",
                            name);
  return CLATTN_OK;
}

/* What the config leaves open comes from the shapes; the rest must agree. */
static clattn_status resolve(clattn_mha_config *config, const source *sources) {
  const int64_t heads = config->num_heads;
  if (config->num_kv_heads == 0) config->num_kv_heads = heads;
  if (config->embed_dim == 0) config->embed_dim = sources[Q].cols;
  if (config->kdim == 0) config->kdim = sources[K].cols;
  if (config->vdim == 0) config->vdim = sources[V].cols;
  if (config->out_dim == 0) config->out_dim = sources[O].rows;
  if (config->head_dim == 0) config->head_dim = sources[Q].rows / heads;
  const int64_t q_rows = heads * config->head_dim;
  const int64_t kv_rows = config->num_kv_heads * config->head_dim;
  const int64_t want[N_PROJECTIONS][2] = {{q_rows, config->embed_dim},
                                          {kv_rows, config->kdim},
                                          {kv_rows, config->vdim},
                                          {config->out_dim, q_rows}};
  for (int i = 0; i < N_PROJECTIONS; i++) {
    const char *which = i == O ? "out" : (const char[2]){letters[i], '\0'};
    const source *weight = &sources[i], *bias = &sources[N_PROJECTIONS + i];
    KIT_REQUIRE(weight->rows == want[i][0] && weight->cols == want[i][1],
                "file: %s projection's weight: got [%lld,%lld], want "
                "[%lld,%lld]",
                which, (long long)weight->rows, (long long)weight->cols,
                (long long)want[i][0], (long long)want[i][1]);
    KIT_REQUIRE(bias->data == NULL || bias->rows == want[i][0],
                "file: %s projection's bias: got [%lld], want [%lld]", which,
                (long long)bias->rows, (long long)want[i][0]);
  }
  return CLATTN_OK;
}

clattn_status clattn_kit_mha_load(clattn_context *context, int device,
                                  clattn_queue *queue,
                                  const clattn_kit_safetensors *file,
                                  const char *prefix,
                                  const clattn_mha_config *config,
                                  clattn_kit_mha **mha) {
  KIT_REQUIRE(mha != NULL, "mha: got NULL, want a place for the handle");
  *mha = NULL;
  KIT_REQUIRE(file != NULL, "file: got NULL, want an open file");
  KIT_TRY(check_common(context, queue, config));
  if (prefix == NULL) prefix = "";
  KIT_REQUIRE(strlen(prefix) < 256, "prefix: got %zu bytes, want at most 255",
              strlen(prefix));
  clattn_mha_config resolved = *config;
  source sources[2 * N_PROJECTIONS] = {{0}};
  const int64_t kv_heads =
      config->num_kv_heads ? config->num_kv_heads : config->num_heads;
  KIT_TRY(find_all(file, prefix, config->num_heads, kv_heads, sources));
  KIT_TRY(resolve(&resolved, sources));
  return make(context, device, queue, &resolved, sources, mha);
}

/* ---- from a seed --------------------------------------------------------- */

clattn_status clattn_kit_mha_random(clattn_context *context, int device,
                                    clattn_queue *queue,
                                    const clattn_mha_config *config,
                                    bool qkv_bias, clattn_kit_rng *rng,
                                    clattn_kit_mha **mha) {
  KIT_REQUIRE(mha != NULL, "mha: got NULL, want a place for the handle");
  *mha = NULL;
  KIT_REQUIRE(rng != NULL, "rng: got NULL, want a generator");
  KIT_TRY(check_common(context, queue, config));
  clattn_mha_config c = *config;
  KIT_REQUIRE(c.embed_dim >= 1, "config->embed_dim: got 0, want >= 1");
  KIT_REQUIRE(c.head_dim != 0 || c.embed_dim % c.num_heads == 0,
              "config->num_heads: got %lld, want a divisor of %lld",
              (long long)c.num_heads, (long long)c.embed_dim);
  if (c.num_kv_heads == 0) c.num_kv_heads = c.num_heads;
  if (c.head_dim == 0) c.head_dim = c.embed_dim / c.num_heads;
  if (c.kdim == 0) c.kdim = c.embed_dim;
  if (c.vdim == 0) c.vdim = c.embed_dim;
  if (c.out_dim == 0) c.out_dim = c.embed_dim;
  int64_t q_rows, kv_rows;
  KIT_REQUIRE(
      !__builtin_mul_overflow(c.num_heads, c.head_dim, &q_rows) &&
          !__builtin_mul_overflow(c.num_kv_heads, c.head_dim, &kv_rows) &&
          q_rows <= INT32_MAX && kv_rows <= INT32_MAX,
      "config->head_dim: got %lld, want a product with the heads that "
      "fits",
      (long long)c.head_dim);
  const int64_t rows[] = {q_rows, kv_rows, kv_rows, c.out_dim};
  const int64_t cols[] = {c.embed_dim, c.kdim, c.vdim, q_rows};

  source sources[2 * N_PROJECTIONS] = {{0}};
  float *values[N_PROJECTIONS] = {NULL};
  clattn_status status = CLATTN_OK;
  for (int i = 0; i < N_PROJECTIONS && status == CLATTN_OK; i++) {
    const size_t weights = (size_t)rows[i] * (size_t)cols[i];
    const bool bias = qkv_bias || i == O;
    values[i] = calloc(weights + (size_t)rows[i], sizeof *values[i]);
    if (values[i] == NULL) {
      status = KIT_OUT_OF_MEMORY("mha");
      break;
    }
    clattn_kit_rng_linear(rng, rows[i], cols[i], values[i],
                          bias ? values[i] + weights : NULL);
    sources[i] = (source){(const unsigned char *)values[i], CLATTN_F32, rows[i],
                          cols[i]};
    if (bias)
      sources[N_PROJECTIONS + i] = (source){
          (const unsigned char *)(values[i] + weights), CLATTN_F32, rows[i], 0};
  }
  if (status == CLATTN_OK)
    status = make(context, device, queue, &c, sources, mha);
  for (int i = 0; i < N_PROJECTIONS; i++) free(values[i]);
  return status;
}

/* ---- looking at it ------------------------------------------------------- */

clattn_mha *clattn_kit_mha_layer(const clattn_kit_mha *mha) {
  return mha == NULL ? NULL : mha->layer;
}

clattn_status clattn_kit_mha_parts(const clattn_kit_mha *mha,
                                   clattn_mha_config *config,
                                   clattn_mha_weights *weights) {
  KIT_REQUIRE(mha != NULL, "mha: got NULL, want a layer");
  if (config != NULL) *config = mha->config;
  if (weights != NULL) *weights = mha->views;
  return CLATTN_OK;
}

static int64_t elements(const clattn_tensor *view) {
  return view->buffer == NULL ? 0 : view->extent[2] * view->extent[3];
}

int64_t clattn_kit_mha_parameters(const clattn_kit_mha *mha) {
  int64_t n = 0;
  if (mha == NULL) return n;
  clattn_mha_weights views = mha->views;
  for (int i = 0; i < 2 * N_PROJECTIONS; i++) n += elements(view_of(&views, i));
  return n;
}

/* Reads parameter i back: tensor->data is to be freed. */
static clattn_status download(const clattn_kit_mha *mha, clattn_queue *queue,
                              int i, const char *name,
                              clattn_kit_tensor *tensor) {
  clattn_mha_weights views = mha->views;
  const clattn_tensor *view = view_of(&views, i);
  const bool weight = i < N_PROJECTIONS;
  *tensor =
      (clattn_kit_tensor){.name = name,
                          .dtype = clattn_kit_dtype_of(view->dtype),
                          .rank = weight ? 2 : 1,
                          .size_bytes = clattn_buffer_size(mha->buffers[i])};
  tensor->extent[0] = view->extent[weight ? 2 : 3];
  tensor->extent[1] = weight ? view->extent[3] : 0;
  void *data = malloc(tensor->size_bytes);
  if (data == NULL) return KIT_OUT_OF_MEMORY("mha");
  tensor->data = data;
  return clattn_buffer_read(queue, mha->buffers[i], 0, data,
                            tensor->size_bytes);
}

clattn_status clattn_kit_mha_save(const clattn_kit_mha *mha,
                                  clattn_queue *queue, const char *path,
                                  const char *prefix,
                                  const clattn_kit_tensor *more,
                                  size_t n_more) {
  static const char *const names[2 * N_PROJECTIONS] = {
      "q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight",
      "q_proj_bias",   "k_proj_bias",   "v_proj_bias",   "out_proj.bias"};
  KIT_REQUIRE(mha != NULL, "mha: got NULL, want a layer");
  KIT_REQUIRE(queue != NULL, "queue: got NULL, want a queue");
  KIT_REQUIRE(path != NULL, "path: got NULL, want a file's path");
  KIT_REQUIRE(more != NULL || n_more == 0, "more: got NULL, want %zu", n_more);
  if (prefix == NULL) prefix = "";
  KIT_REQUIRE(strlen(prefix) < 256, "prefix: got %zu bytes, want at most 255",
              strlen(prefix));
  clattn_kit_tensor *all = calloc(2 * N_PROJECTIONS + n_more, sizeof *all);
  if (all == NULL) return KIT_OUT_OF_MEMORY("mha");
  char full[2 * N_PROJECTIONS][288];
  size_t n = 0;
  clattn_status status = CLATTN_OK;
  for (int i = 0; i < 2 * N_PROJECTIONS && status == CLATTN_OK; i++) {
    if (mha->buffers[i] == NULL) continue;
    snprintf(full[n], sizeof full[n], "%s%s", prefix, names[i]);
    status = download(mha, queue, i, full[n], &all[n]);
    n++;
  }
  const size_t own = n;
  if (n_more > 0) memcpy(all + n, more, n_more * sizeof *all);
  if (status == CLATTN_OK)
    status = clattn_kit_safetensors_write(path, all, n + n_more, NULL, 0);
  for (size_t i = 0; i < own; i++) free((void *)all[i].data);
  free(all);
  return status;
}
