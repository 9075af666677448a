/* gpt_file.c - a GPT's tensors and config in a safetensors file. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gpt.h"

#define BAD(...) clattn_set_error(CLATTN_IO_ERROR, __VA_ARGS__)

/* ---- config as metadata -------------------------------------------------- */

enum { CONFIG_ENTRIES = 6, NUMBER_CHARS = 32 };

static const char *const keys[CONFIG_ENTRIES] = {
    "gpt.vocab_size", "gpt.context",   "gpt.layers",
    "gpt.heads",      "gpt.embed_dim", "gpt.dropout"};

/* texts [CONFIG_ENTRIES] are what the entries point to. */
static void describe_config(const clattn_gpt_config *c,
                            char texts[][NUMBER_CHARS],
                            clattn_kit_metadata *entries) {
  const int64_t numbers[] = {c->vocab_size, c->context, c->layers, c->heads,
                             c->embed_dim};
  for (int i = 0; i < CONFIG_ENTRIES; i++) {
    if (i < CONFIG_ENTRIES - 1)
      snprintf(texts[i], NUMBER_CHARS, "%lld", (long long)numbers[i]);
    else
      snprintf(texts[i], NUMBER_CHARS, "%.9g", (double)c->dropout);
    entries[i] = (clattn_kit_metadata){keys[i], texts[i]};
  }
}

clattn_status gpt_file_number(const clattn_kit_safetensors *file,
                              const char *key, int64_t min, int64_t max,
                              int64_t *number) {
  const char *text = clattn_kit_safetensors_metadata(file, key);
  if (text == NULL)
    return BAD("file: its metadata has no %s, as a GPT of clattn has", key);
  char *end;
  errno = 0;
  const long long value = strtoll(text, &end, 10);
  if (errno != 0 || end == text || *end != '\0' || value < min || value > max)
    return BAD("file: metadata %s: got '%.40s', want a number %lld..%lld", key,
               text, (long long)min, (long long)max);
  *number = value;
  return CLATTN_OK;
}

static clattn_status read_config(const clattn_kit_safetensors *file,
                                 clattn_gpt_config *config) {
  clattn_gpt_config_init(config);
  int64_t *const numbers[] = {&config->vocab_size, &config->context,
                              &config->layers, &config->heads,
                              &config->embed_dim};
  for (int i = 0; i < CONFIG_ENTRIES - 1; i++)
    KIT_TRY(gpt_file_number(file, keys[i], 1, INT32_MAX, numbers[i]));
  const char *text =
      clattn_kit_safetensors_metadata(file, keys[CONFIG_ENTRIES - 1]);
  char *end = NULL;
  config->dropout = text == NULL ? 0 : strtof(text, &end);
  if (text != NULL && (end == text || *end != '\0'))
    return BAD("file: metadata gpt.dropout: got '%.40s', want a number", text);
  if (gpt_check_config(config) != CLATTN_OK)
    return BAD("file: its metadata: %s", clattn_error_message());
  return CLATTN_OK;
}

/* ---- writing ------------------------------------------------------------- */

/* A part's tensors; bytes [elements of the model, of that type]. */
static void describe_part(const clattn_gpt *gpt, const gpt_file_part *part,
                          const unsigned char *bytes, char (*names)[64],
                          clattn_kit_tensor *tensors) {
  const size_t size = clattn_dtype_size(part->dtype);
  for (size_t i = 0; i < gpt->n_tensors; i++) {
    const gpt_tensor *t = &gpt->tensors[i];
    snprintf(names[i], sizeof names[i], "%s%s", part->prefix, t->name);
    tensors[i] = (clattn_kit_tensor){
        .name = names[i],
        .dtype = clattn_kit_dtype_of(part->dtype),
        .rank = t->rank,
        .extent = {t->extent[0], t->rank == 2 ? t->extent[1] : 0},
        .data = bytes + (size_t)t->offset * size,
        .size_bytes = (size_t)gpt_elements(t) * size};
  }
}

/* A part's bytes in host memory, converted, to be freed by the caller. */
static clattn_status fetch_part(const clattn_gpt *gpt, clattn_queue *queue,
                                const gpt_file_part *part, void **bytes) {
  const size_t n = (size_t)gpt->elements;
  float *values = malloc(n * sizeof *values);
  if (values == NULL) return KIT_OUT_OF_MEMORY("gpt");
  *bytes = values;
  KIT_TRY(
      clattn_buffer_read(queue, part->buffer, 0, values, n * sizeof *values));
  if (part->dtype == CLATTN_F32) return CLATTN_OK;
  void *narrow = malloc(n * clattn_dtype_size(part->dtype));
  if (narrow == NULL) return KIT_OUT_OF_MEMORY("gpt");
  *bytes = narrow;
  const clattn_status status =
      clattn_convert(CLATTN_F32, values, part->dtype, narrow, n);
  free(values);
  return status;
}

clattn_status gpt_file_write(const clattn_gpt *gpt, clattn_queue *queue,
                             const char *path, const gpt_file_part *parts,
                             size_t n_parts, const clattn_kit_tensor *more,
                             size_t n_more, const clattn_kit_metadata *metadata,
                             size_t n_metadata) {
  KIT_REQUIRE(queue != NULL, "queue: got NULL, want a queue");
  KIT_REQUIRE(more != NULL || n_more == 0, "more: got NULL, want %zu", n_more);
  KIT_REQUIRE(metadata != NULL || n_metadata == 0,
              "metadata: got NULL, want %zu", n_metadata);
  const size_t n_own = n_parts * gpt->n_tensors;
  char texts[CONFIG_ENTRIES][NUMBER_CHARS];
  char(*names)[64] = calloc(n_own, sizeof *names);
  clattn_kit_tensor *tensors = calloc(n_own + n_more, sizeof *tensors);
  clattn_kit_metadata *entries =
      calloc(CONFIG_ENTRIES + n_metadata, sizeof *entries);
  void *bytes[3] = {NULL};
  clattn_status status = CLATTN_OK;
  if (names == NULL || tensors == NULL || entries == NULL)
    status = KIT_OUT_OF_MEMORY("gpt");
  for (size_t p = 0; status == CLATTN_OK && p < n_parts; p++) {
    status = fetch_part(gpt, queue, &parts[p], &bytes[p]);
    if (status == CLATTN_OK)
      describe_part(gpt, &parts[p], bytes[p], names + p * gpt->n_tensors,
                    tensors + p * gpt->n_tensors);
  }
  if (status == CLATTN_OK) {
    if (n_more > 0) memcpy(tensors + n_own, more, n_more * sizeof *more);
    describe_config(&gpt->config, texts, entries);
    if (n_metadata > 0)
      memcpy(entries + CONFIG_ENTRIES, metadata, n_metadata * sizeof *metadata);
    status = clattn_kit_safetensors_write(path, tensors, n_own + n_more,
                                          entries, CONFIG_ENTRIES + n_metadata);
  }
  for (size_t p = 0; p < n_parts; p++) free(bytes[p]);
  free(entries);
  free(tensors);
  free(names);
  return status;
}

clattn_status clattn_gpt_save(const clattn_gpt *gpt, clattn_queue *queue,
                              const char *path, clattn_dtype dtype,
                              const clattn_kit_tensor *more, size_t n_more,
                              const clattn_kit_metadata *metadata,
                              size_t n_metadata) {
  KIT_REQUIRE(gpt != NULL, "gpt: got NULL, want a model");
  KIT_REQUIRE(
      dtype == CLATTN_F32 || dtype == CLATTN_F16 || dtype == CLATTN_BF16,
      "dtype: got %s, want f32, f16 or bf16", clattn_dtype_name(dtype));
  const gpt_file_part part = {"", gpt->values, dtype};
  return gpt_file_write(gpt, queue, path, &part, 1, more, n_more, metadata,
                        n_metadata);
}

/* ---- reading ------------------------------------------------------------- */

static clattn_status read_tensor(const clattn_kit_safetensors *file,
                                 const char *prefix, const gpt_tensor *want,
                                 float *values) {
  char name[64], shape[KIT_SHAPE_CHARS];
  snprintf(name, sizeof name, "%s%s", prefix, want->name);
  clattn_kit_tensor got;
  if (clattn_kit_safetensors_find(file, name, &got) != CLATTN_OK)
    return BAD("file: no readable tensor '%s'", name);
  bool same = got.rank == want->rank;
  for (int i = 0; same && i < want->rank; i++)
    same = got.extent[i] == want->extent[i];
  if (!same && want->rank == 2)
    return BAD("file: tensor '%s': got shape %s, want [%lld,%lld]", name,
               kit_shape_text(&got, shape), (long long)want->extent[0],
               (long long)want->extent[1]);
  if (!same)
    return BAD("file: tensor '%s': got shape %s, want [%lld]", name,
               kit_shape_text(&got, shape), (long long)want->extent[0]);
  if (got.dtype != CLATTN_KIT_F32 && got.dtype != CLATTN_KIT_F16 &&
      got.dtype != CLATTN_KIT_BF16)
    return BAD("file: tensor '%s': got %s, want F32, F16 or BF16", name,
               got.dtype_name);
  return clattn_kit_tensor_to_f32(&got, values + want->offset);
}

clattn_status gpt_file_read(const clattn_gpt *gpt, clattn_queue *queue,
                            const clattn_kit_safetensors *file,
                            const char *prefix, clattn_buffer *buffer) {
  float *values = calloc((size_t)gpt->elements, sizeof *values);
  if (values == NULL) return KIT_OUT_OF_MEMORY("gpt");
  clattn_status status = CLATTN_OK;
  for (size_t i = 0; status == CLATTN_OK && i < gpt->n_tensors; i++)
    status = read_tensor(file, prefix, &gpt->tensors[i], values);
  if (status == CLATTN_OK)
    status = clattn_buffer_write(queue, buffer, 0, values,
                                 (size_t)gpt->elements * sizeof *values);
  free(values);
  return status;
}

/* Before memory is taken for what the metadata says: is it there at all? */
static clattn_status check_size(const clattn_kit_safetensors *file,
                                const clattn_gpt_config *config) {
  clattn_kit_tensor tensor;
  const struct {
    const char *name;
    int64_t rows;
  } tables[] = {{"wte.weight", config->vocab_size},
                {"wpe.weight", config->context}};
  for (int i = 0; i < 2; i++)
    if (clattn_kit_safetensors_find(file, tables[i].name, &tensor) !=
            CLATTN_OK ||
        tensor.rank != 2 || tensor.extent[0] != tables[i].rows ||
        tensor.extent[1] != config->embed_dim)
      return BAD("file: no tensor '%s' of shape [%lld,%lld]", tables[i].name,
                 (long long)tables[i].rows, (long long)config->embed_dim);
  char name[GPT_NAME_CHARS];
  snprintf(name, sizeof name, "h.%lld.ln_1.weight",
           (long long)config->layers - 1);
  if (!clattn_kit_safetensors_has(file, name))
    return BAD("file: no tensor '%s'", name);
  return CLATTN_OK;
}

clattn_status clattn_gpt_load(clattn_context *context, int device,
                              clattn_queue *queue,
                              const clattn_kit_safetensors *file,
                              clattn_gpt **gpt) {
  KIT_REQUIRE(gpt != NULL, "gpt: got NULL, want a place for the handle");
  *gpt = NULL;
  KIT_REQUIRE(queue != NULL, "queue: got NULL, want a queue");
  KIT_REQUIRE(file != NULL, "file: got NULL, want an open file");
  clattn_gpt_config config;
  KIT_TRY(read_config(file, &config));
  KIT_TRY(check_size(file, &config));
  clattn_gpt *made = NULL;
  KIT_TRY(gpt_new(context, device, &config, &made));
  const clattn_status status =
      gpt_file_read(made, queue, file, "", made->values);
  if (status != CLATTN_OK) {
    clattn_gpt_destroy(made);
    return status;
  }
  *gpt = made;
  return CLATTN_OK;
}
