/* params_file.c - a model's tensors and config in a safetensors file. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "params.h"

#define BAD(...) clattn_set_error(CLATTN_IO_ERROR, __VA_ARGS__)

enum { NAME_CHARS = KIT_PARAM_CHARS + 16 }; /* a prefix before it */

/* ---- config as metadata -------------------------------------------------- */

void kit_settings_write(const kit_setting *settings, size_t n,
                        char (*texts)[KIT_NUMBER_CHARS],
                        clattn_kit_metadata *entries) {
  for (size_t i = 0; i < n; i++) {
    const kit_setting *s = &settings[i];
    if (s->number != NULL)
      snprintf(texts[i], sizeof texts[i], "%lld", (long long)*s->number);
    else
      snprintf(texts[i], sizeof texts[i], "%.9g", (double)*s->fraction);
    entries[i] = (clattn_kit_metadata){s->key, texts[i]};
  }
}

clattn_status kit_file_number(const clattn_kit_safetensors *file,
                              const char *key, int64_t min, int64_t max,
                              int64_t *number) {
  const char *text = clattn_kit_safetensors_metadata(file, key);
  if (text == NULL)
    return BAD("file: its metadata has no %s, as a model of this kind has",
               key);
  char *end;
  errno = 0;
  const long long value = strtoll(text, &end, 10);
  if (errno != 0 || end == text || *end != '\0' || value < min || value > max)
    return BAD("file: metadata %s: got '%.40s', want a number %lld..%lld", key,
               text, (long long)min, (long long)max);
  *number = value;
  return CLATTN_OK;
}

static clattn_status file_fraction(const clattn_kit_safetensors *file,
                                   const char *key, float *fraction) {
  const char *text = clattn_kit_safetensors_metadata(file, key);
  char *end = NULL;
  *fraction = text == NULL ? 0 : strtof(text, &end);
  if (text != NULL && (end == text || *end != '\0'))
    return BAD("file: metadata %s: got '%.40s', want a number", key, text);
  return CLATTN_OK;
}

clattn_status kit_settings_read(const clattn_kit_safetensors *file,
                                const kit_setting *settings, size_t n) {
  for (size_t i = 0; i < n; i++) {
    const kit_setting *s = &settings[i];
    KIT_TRY(s->number != NULL
                ? kit_file_number(file, s->key, s->min, s->max, s->number)
                : file_fraction(file, s->key, s->fraction));
  }
  return CLATTN_OK;
}

/* ---- writing ------------------------------------------------------------- */

clattn_status kit_check_file_dtype(clattn_dtype dtype) {
  KIT_REQUIRE(
      dtype == CLATTN_F32 || dtype == CLATTN_F16 || dtype == CLATTN_BF16,
      "dtype: got %s, want f32, f16 or bf16", clattn_dtype_name(dtype));
  return CLATTN_OK;
}

/* A part's tensors; bytes [elements of the buffer, of that type]. */
static void describe_part(const kit_params *params, const kit_params_part *part,
                          const unsigned char *bytes, char (*names)[NAME_CHARS],
                          clattn_kit_tensor *tensors) {
  const size_t size = clattn_dtype_size(part->dtype);
  for (size_t i = 0; i < params->count; i++) {
    const kit_param *p = &params->list[i];
    snprintf(names[i], sizeof names[i], "%s%s", part->prefix, p->name);
    tensors[i] = (clattn_kit_tensor){
        .name = names[i],
        .dtype = clattn_kit_dtype_of(part->dtype),
        .rank = p->rank,
        .extent = {p->extent[0], p->rank == 2 ? p->extent[1] : 0},
        .data = bytes + (size_t)p->offset * size,
        .size_bytes = (size_t)kit_param_elements(p) * size};
  }
}

/* A part's bytes in host memory, converted, to be freed by the caller. */
static clattn_status fetch_part(const kit_params *params, clattn_queue *queue,
                                const kit_params_part *part, void **bytes) {
  const size_t n = (size_t)params->elements;
  float *values = malloc(n * sizeof *values);
  if (values == NULL) return KIT_OUT_OF_MEMORY("parameters");
  *bytes = values;
  KIT_TRY(
      clattn_buffer_read(queue, part->buffer, 0, values, n * sizeof *values));
  if (part->dtype == CLATTN_F32) return CLATTN_OK;
  void *narrow = malloc(n * clattn_dtype_size(part->dtype));
  if (narrow == NULL) return KIT_OUT_OF_MEMORY("parameters");
  *bytes = narrow;
  const clattn_status status =
      clattn_convert(CLATTN_F32, values, part->dtype, narrow, n);
  free(values);
  return status;
}

clattn_status kit_params_save(const kit_params *params, clattn_queue *queue,
                              const char *path, const kit_params_part *parts,
                              size_t n_parts, const clattn_kit_metadata *config,
                              size_t n_config, const kit_file_more *more) {
  KIT_REQUIRE(queue != NULL, "queue: got NULL, want a queue");
  KIT_REQUIRE(more->tensors != NULL || more->n_tensors == 0,
              "more: got NULL, want %zu", more->n_tensors);
  KIT_REQUIRE(more->metadata != NULL || more->n_metadata == 0,
              "metadata: got NULL, want %zu", more->n_metadata);
  const size_t n_own = n_parts * params->count;
  const size_t n_tensors = n_own + more->n_tensors;
  const size_t n_entries = n_config + more->n_metadata;
  char(*names)[NAME_CHARS] = calloc(n_own, sizeof *names);
  clattn_kit_tensor *tensors = calloc(n_tensors, sizeof *tensors);
  clattn_kit_metadata *entries = calloc(n_entries, sizeof *entries);
  void **bytes = calloc(n_parts, sizeof *bytes);
  clattn_status status = CLATTN_OK;
  if (names == NULL || tensors == NULL || entries == NULL || bytes == NULL)
    status = KIT_OUT_OF_MEMORY("parameters");
  for (size_t p = 0; status == CLATTN_OK && p < n_parts; p++) {
    status = fetch_part(params, queue, &parts[p], &bytes[p]);
    if (status == CLATTN_OK)
      describe_part(params, &parts[p], bytes[p], names + p * params->count,
                    tensors + p * params->count);
  }
  if (status == CLATTN_OK) {
    if (more->n_tensors > 0)
      memcpy(tensors + n_own, more->tensors, more->n_tensors * sizeof *tensors);
    memcpy(entries, config, n_config * sizeof *entries);
    if (more->n_metadata > 0)
      memcpy(entries + n_config, more->metadata,
             more->n_metadata * sizeof *entries);
    status = clattn_kit_safetensors_write(path, tensors, n_tensors, entries,
                                          n_entries);
  }
  for (size_t p = 0; bytes != NULL && p < n_parts; p++) free(bytes[p]);
  free(bytes);
  free(entries);
  free(tensors);
  free(names);
  return status;
}

/* ---- reading ------------------------------------------------------------- */

static clattn_status read_tensor(const clattn_kit_safetensors *file,
                                 const char *prefix, const kit_param *want,
                                 float *values) {
  char name[NAME_CHARS], shape[KIT_SHAPE_CHARS];
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

clattn_status kit_params_load(const kit_params *params, clattn_queue *queue,
                              const clattn_kit_safetensors *file,
                              const char *prefix, clattn_buffer *buffer) {
  float *values = calloc((size_t)params->elements, sizeof *values);
  if (values == NULL) return KIT_OUT_OF_MEMORY("parameters");
  clattn_status status = CLATTN_OK;
  for (size_t i = 0; status == CLATTN_OK && i < params->count; i++)
    status = read_tensor(file, prefix, &params->list[i], values);
  if (status == CLATTN_OK)
    status = clattn_buffer_write(queue, buffer, 0, values,
                                 (size_t)params->elements * sizeof *values);
  free(values);
  return status;
}

clattn_status kit_file_matrix(const clattn_kit_safetensors *file,
                              const char *name, int64_t rows, int64_t columns) {
  clattn_kit_tensor tensor;
  if (clattn_kit_safetensors_find(file, name, &tensor) != CLATTN_OK ||
      tensor.rank != 2 || tensor.extent[0] != rows ||
      tensor.extent[1] != columns)
    return BAD("file: no tensor '%s' of shape [%lld,%lld]", name,
               (long long)rows, (long long)columns);
  return CLATTN_OK;
}
