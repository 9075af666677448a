/* read.c - opens an attention file, and reads what it has of a layer. */
#include "read.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "kit/files/map.h"

/* ---- opening ---------------------------------------------------------------------- */

/* Makes the parts that the file names: of "parts", or one without a name. */
static clattn_status name_parts(clattn_attention *attention) {
  const char *text =
      clattn_kit_safetensors_metadata(attention->file, KEY_PARTS);
  json_t *names = NULL;
  if (text != NULL) {
    names = json_loads(text, 0, NULL);
    const size_t n = json_array_size(names); /* 0 of what is no array */
    if (n < 1 || n > ATTENTION_MAX_PARTS) {
      json_decref(names);
      return KIT_BAD("metadata '" KEY_PARTS
                     "': want a JSON array of 1..%d names",
                     ATTENTION_MAX_PARTS);
    }
  }
  const size_t n = names == NULL ? 1 : json_array_size(names);
  attention->parts = calloc(n, sizeof *attention->parts);
  clattn_status status =
      attention->parts ? CLATTN_OK : KIT_OUT_OF_MEMORY("attention file");
  for (size_t i = 0; names != NULL && i < n && status == CLATTN_OK; i++) {
    const char *name = json_string_value(json_array_get(names, i));
    if (name == NULL || !attention_name_valid(name))
      status = KIT_BAD("metadata '" KEY_PARTS
                       "', entry %zu: want a string of 1..%d letters, digits, "
                       "'_' and '-'",
                       i, ATTENTION_NAME_CHARS);
    for (size_t j = 0; j < i && status == CLATTN_OK; j++)
      if (strcmp(name, attention->parts[j].name) == 0)
        status = KIT_BAD("metadata '" KEY_PARTS "': '%s' is there twice", name);
    if (status == CLATTN_OK) strcpy(attention->parts[i].name, name);
  }
  json_decref(names);
  if (status == CLATTN_OK) attention->n_parts = n;
  return status;
}

static clattn_status read_file(clattn_attention *attention, const char *path) {
  KIT_TRY(clattn_kit_safetensors_open(path, &attention->file));
  const char *format =
      clattn_kit_safetensors_metadata(attention->file, KEY_FORMAT);
  clattn_status status = CLATTN_OK;
  if (format == NULL || strcmp(format, ATTENTION_FORMAT) != 0)
    status =
        format == NULL
            ? KIT_BAD("no attention file: metadata '" KEY_FORMAT "' is absent")
            : KIT_BAD("metadata '" KEY_FORMAT
                      "': got '%.40s', want '" ATTENTION_FORMAT "'",
                      format);
  if (status == CLATTN_OK) status = name_parts(attention);
  for (size_t i = 0; i < attention->n_parts && status == CLATTN_OK; i++)
    status = attention_part_read(attention->file, &attention->parts[i]);
  return status == CLATTN_OK ? status : kit_error_in(path, status);
}

clattn_status clattn_attention_open(const char *path,
                                    clattn_attention **attention) {
  KIT_REQUIRE(attention != NULL,
              "attention: got NULL, want a place for the handle");
  *attention = NULL;
  KIT_REQUIRE(path != NULL, "path: got NULL, want a file's path");
  clattn_attention *made = calloc(1, sizeof *made);
  if (made == NULL) return KIT_OUT_OF_MEMORY("attention file");
  const clattn_status status = read_file(made, path);
  if (status != CLATTN_OK) {
    clattn_attention_destroy(made);
    return status;
  }
  *attention = made;
  return CLATTN_OK;
}

void clattn_attention_destroy(clattn_attention *attention) {
  if (attention == NULL) return;
  /* Of one that is not open, parts may be there that are not counted: only their
   * names were set. */
  for (size_t i = 0; i < attention->n_parts; i++)
    attention_part_free(&attention->parts[i]);
  free(attention->parts);
  clattn_kit_safetensors_destroy(attention->file);
  free(attention);
}

/* ---- what it says ------------------------------------------------------------------- */

static const char *metadata(const clattn_attention *attention,
                            const char *key) {
  return attention == NULL
             ? NULL
             : clattn_kit_safetensors_metadata(attention->file, key);
}

const char *clattn_attention_model(const clattn_attention *attention) {
  const char *model = metadata(attention, KEY_MODEL);
  return model == NULL ? "" : model;
}

const char *clattn_attention_text(const clattn_attention *attention) {
  return metadata(attention, KEY_TEXT);
}

const char *clattn_attention_pair(const clattn_attention *attention) {
  return metadata(attention, KEY_PAIR);
}

size_t clattn_attention_parts(const clattn_attention *attention) {
  return attention == NULL ? 0 : attention->n_parts;
}

clattn_status clattn_attention_get_part(const clattn_attention *attention,
                                        size_t part,
                                        clattn_attention_part *info) {
  const clattn_attention_part *found = NULL;
  KIT_REQUIRE(info != NULL, "info: got NULL, want a place for the part");
  KIT_TRY(attention_find(attention, part, 0, &found));
  *info = *found;
  return CLATTN_OK;
}

/* ---- tensors ------------------------------------------------------------------------- */

clattn_status attention_find(const clattn_attention *attention, size_t part,
                             int64_t layer,
                             const clattn_attention_part **info) {
  KIT_REQUIRE(attention != NULL, "attention: got NULL, want an open file");
  KIT_REQUIRE(part < attention->n_parts, "part: got %zu, want less than %zu",
              part, attention->n_parts);
  const clattn_attention_part *found = &attention->parts[part].info;
  KIT_REQUIRE(layer >= 0 && layer < found->layers,
              "layer: got %lld, want 0..%lld", (long long)layer,
              (long long)found->layers - 1);
  *info = found;
  return CLATTN_OK;
}

clattn_status attention_find_tensor(const clattn_attention *attention,
                                    const clattn_attention_part *part,
                                    int64_t layer,
                                    clattn_attention_tensor which,
                                    clattn_kit_tensor *tensor) {
  char name[ATTENTION_KEY_CHARS];
  return clattn_kit_safetensors_find(
      attention->file, attention_tensor_key(part, layer, which, name), tensor);
}

clattn_status attention_rows(const clattn_kit_tensor *tensor, int64_t first,
                             int64_t n, float *values) {
  const int64_t columns = tensor->extent[tensor->rank - 1];
  const size_t row_bytes =
      (size_t)columns * clattn_kit_dtype_size(tensor->dtype);
  const clattn_kit_tensor rows = {
      .dtype = tensor->dtype,
      .rank = 2,
      .extent = {n, columns},
      .data = (const char *)tensor->data + (size_t)first * row_bytes,
      .size_bytes = (size_t)n * row_bytes};
  return clattn_kit_tensor_to_f32(&rows, values);
}

/* Keys of the file, each one of the part's m or -1. */
static clattn_status read_top_keys(const clattn_attention_part *part,
                                   const clattn_kit_tensor *tensor,
                                   int32_t *keys) {
  const int64_t count = clattn_kit_tensor_elements(tensor);
  for (int64_t i = 0; i < count; i++) {
    int32_t key; /* the file has it at any alignment */
    memcpy(&key, (const char *)tensor->data + (size_t)i * sizeof key,
           sizeof key);
    if (key < -1 || key >= part->keys.n)
      return KIT_BAD("tensor '%s': got key %d, want -1..%lld", tensor->name,
                     key, (long long)part->keys.n - 1);
  }
  memcpy(keys, tensor->data, tensor->size_bytes);
  return CLATTN_OK;
}

clattn_status clattn_attention_read(const clattn_attention *attention,
                                    size_t part, int64_t layer,
                                    clattn_attention_tensor tensor,
                                    void *values) {
  const clattn_attention_part *info = NULL;
  KIT_TRY(attention_find(attention, part, layer, &info));
  KIT_REQUIRE((int)tensor >= 0 && tensor < CLATTN_ATTENTION_TENSORS,
              "tensor: got %d, want 0..%d", (int)tensor,
              CLATTN_ATTENTION_TENSORS - 1);
  KIT_REQUIRE(values != NULL, "values: got NULL, want room for the tensor");
  KIT_REQUIRE(attention_has(info, tensor), "tensor: part '%s' has no %s",
              info->name, attention_tensor_name(tensor));
  clattn_kit_tensor found;
  KIT_TRY(attention_find_tensor(attention, info, layer, tensor, &found));
  if (tensor == CLATTN_ATTENTION_TOP_KEYS)
    return read_top_keys(info, &found, values);
  return clattn_kit_tensor_to_f32(&found, values);
}
