/* weights.c - the tensors of a checkpoint, whatever files they lie in. */
#define _POSIX_C_SOURCE 200809L
#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "gguf.h"
#include "map.h"
#include "quantised.h"

struct clattn_weights {
  clattn_kit_safetensors **files; /* [n_files] the file, or its shards */
  size_t n_files;
  kit_gguf *gguf;                       /* NULL: safetensors */
  clattn_weights_tensor *tensors;       /* [count] */
  const clattn_weights_tensor **sorted; /* [count] by name */
  size_t count;
};

/* ---- opening ------------------------------------------------------------- */

static int by_name(const void *a, const void *b) {
  return strcmp((*(const clattn_weights_tensor *const *)a)->name,
                (*(const clattn_weights_tensor *const *)b)->name);
}

/* For lookups, from here on. */
static clattn_status sort_names(clattn_weights *weights) {
  if (weights->sorted != NULL) return CLATTN_OK;
  weights->sorted = calloc(weights->count + 1, sizeof *weights->sorted);
  if (weights->sorted == NULL) return KIT_OUT_OF_MEMORY("weights");
  for (size_t i = 0; i < weights->count; i++)
    weights->sorted[i] = &weights->tensors[i];
  qsort(weights->sorted, weights->count, sizeof *weights->sorted, by_name);
  return CLATTN_OK;
}

static clattn_weights_tensor view_of(const clattn_kit_tensor *tensor) {
  clattn_weights_tensor view = {.name = tensor->name,
                                .type = tensor->dtype_name,
                                .rank = tensor->rank,
                                .data = tensor->data,
                                .size_bytes = tensor->size_bytes};
  memcpy(view.extent, tensor->extent, sizeof view.extent);
  return view;
}

/* Opens one more file of tensors. */
static clattn_status add_file(clattn_weights *weights, const char *path) {
  clattn_kit_safetensors **more =
      realloc(weights->files, (weights->n_files + 1) * sizeof *weights->files);
  if (more == NULL) return KIT_OUT_OF_MEMORY("weights");
  weights->files = more;
  KIT_TRY(clattn_kit_safetensors_open(path, &more[weights->n_files]));
  weights->n_files++;
  return CLATTN_OK;
}

static clattn_status open_safetensors(clattn_weights *weights,
                                      const char *path) {
  KIT_TRY(add_file(weights, path));
  const clattn_kit_safetensors *file = weights->files[0];
  weights->count = clattn_kit_safetensors_count(file);
  weights->tensors = calloc(weights->count + 1, sizeof *weights->tensors);
  if (weights->tensors == NULL) return KIT_OUT_OF_MEMORY("weights");
  for (size_t i = 0; i < weights->count; i++) {
    clattn_kit_tensor tensor;
    KIT_TRY(clattn_kit_safetensors_at(file, i, &tensor));
    weights->tensors[i] = view_of(&tensor);
  }
  return CLATTN_OK;
}

/* A shard lies beside its index: what leads elsewhere is refused. */
static bool plain_name(const char *name) {
  return *name != '\0' && strchr(name, '/') == NULL && strcmp(name, ".") != 0 &&
         strcmp(name, "..") != 0;
}

/* The shards that the map names, each once: keys of an object. */
static clattn_status name_shards(json_t *map, json_t *shards) {
  const char *name;
  json_t *shard;
  json_object_foreach(map, name, shard) {
    const char *file = json_string_value(shard);
    if (file == NULL)
      return KIT_BAD("weight_map '%.200s' is not a string", name);
    if (!plain_name(file))
      return KIT_BAD(
          "weight_map '%.200s': shard '%.200s', want a file beside the index",
          name, file);
    if (json_object_set_new(shards, file, json_true()) != 0)
      return KIT_OUT_OF_MEMORY("weights");
  }
  return CLATTN_OK;
}

/* The tensors of a shard that the map has there; others are left alone. */
static clattn_status read_shard(clattn_weights *weights, const char *path,
                                const json_t *map, const char *shard) {
  KIT_TRY(add_file(weights, path));
  const clattn_kit_safetensors *file = weights->files[weights->n_files - 1];
  for (size_t i = 0; i < clattn_kit_safetensors_count(file); i++) {
    clattn_kit_tensor tensor;
    KIT_TRY(clattn_kit_safetensors_at(file, i, &tensor));
    const char *place = json_string_value(json_object_get(map, tensor.name));
    if (place != NULL && strcmp(place, shard) == 0)
      weights->tensors[weights->count++] = view_of(&tensor);
  }
  return CLATTN_OK;
}

static clattn_status read_index(clattn_weights *weights, const char *path,
                                const json_t *index, json_t *shards) {
  json_t *map = json_object_get(index, "weight_map");
  if (!json_is_object(map))
    return KIT_BAD("%s: weight_map is not an object", path);
  const clattn_status status = name_shards(map, shards);
  if (status != CLATTN_OK) return kit_error_in(path, status);
  weights->tensors =
      calloc(json_object_size(map) + 1, sizeof *weights->tensors);
  if (weights->tensors == NULL) return KIT_OUT_OF_MEMORY("weights");
  const char *shard, *name;
  json_t *value;
  json_object_foreach(shards, shard, value) {
    char *shard_path;
    KIT_TRY(kit_path_beside(path, shard, &shard_path));
    const clattn_status read = read_shard(weights, shard_path, map, shard);
    free(shard_path);
    KIT_TRY(read);
  }
  KIT_TRY(sort_names(weights));
  json_object_foreach(map, name, value) {
    if (!clattn_weights_has(weights, name))
      return KIT_BAD("%s: tensor '%.200s' is not in its shard '%.200s'", path,
                     name, json_string_value(value));
  }
  return CLATTN_OK;
}

static clattn_status open_index(clattn_weights *weights, const char *path) {
  json_t *index;
  KIT_TRY(kit_json_load(path, &index));
  json_t *shards = json_object();
  const clattn_status status = shards == NULL
                                   ? KIT_OUT_OF_MEMORY("weights")
                                   : read_index(weights, path, index, shards);
  json_decref(shards);
  json_decref(index);
  return status;
}

static clattn_status open_gguf(clattn_weights *weights, const char *path) {
  KIT_TRY(kit_gguf_open(path, &weights->gguf));
  const clattn_weights_tensor *tensors =
      kit_gguf_tensors(weights->gguf, &weights->count);
  weights->tensors = calloc(weights->count + 1, sizeof *weights->tensors);
  if (weights->tensors == NULL) return KIT_OUT_OF_MEMORY("weights");
  memcpy(weights->tensors, tensors, weights->count * sizeof *tensors);
  return CLATTN_OK;
}

/* The one .gguf file of a folder. */
static clattn_status find_gguf(const char *folder, char **path) {
  DIR *dir = opendir(folder);
  if (dir == NULL) return KIT_BAD("%s: %s", folder, strerror(errno));
  clattn_status status = CLATTN_OK;
  *path = NULL;
  for (const struct dirent *file; status == CLATTN_OK && (file = readdir(dir));)
    if (kit_ends_with(file->d_name, ".gguf"))
      status = *path == NULL
                   ? kit_path_join(folder, file->d_name, path)
                   : KIT_BAD("%s: more than one .gguf file; name one", folder);
  closedir(dir);
  if (status == CLATTN_OK && *path == NULL)
    status = KIT_BAD(
        "%s: none of model.safetensors, model.safetensors.index.json and "
        "*.gguf is there",
        folder);
  if (status != CLATTN_OK) free(*path);
  return status;
}

/* The file of a folder that holds the tensors; *path is the caller's to free. */
static clattn_status find_in_folder(const char *folder, char **path) {
  static const char *const names[] = {"model.safetensors",
                                      "model.safetensors.index.json"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    struct stat info;
    KIT_TRY(kit_path_join(folder, names[i], path));
    if (stat(*path, &info) == 0) return CLATTN_OK;
    free(*path);
  }
  return find_gguf(folder, path);
}

static clattn_status open_file(clattn_weights *weights, const char *path) {
  if (kit_ends_with(path, ".json")) return open_index(weights, path);
  if (kit_is_gguf(path)) return open_gguf(weights, path);
  return open_safetensors(weights, path);
}

static clattn_status open_any(clattn_weights *weights, const char *path) {
  struct stat info;
  if (stat(path, &info) != 0) return KIT_BAD("%s: %s", path, strerror(errno));
  if (!S_ISDIR(info.st_mode)) return open_file(weights, path);
  char *inside;
  KIT_TRY(find_in_folder(path, &inside));
  const clattn_status status = open_file(weights, inside);
  free(inside);
  return status;
}

clattn_status clattn_weights_open(const char *path, clattn_weights **weights) {
  KIT_REQUIRE(weights != NULL,
              "weights: got NULL, want a place for the handle");
  *weights = NULL;
  KIT_REQUIRE(path != NULL, "path: got NULL, want a file's or folder's path");
  clattn_weights *made = calloc(1, sizeof *made);
  if (made == NULL) return KIT_OUT_OF_MEMORY("weights");
  clattn_status status = open_any(made, path);
  if (status == CLATTN_OK) status = sort_names(made);
  if (status != CLATTN_OK) {
    clattn_weights_destroy(made);
    return status;
  }
  *weights = made;
  return CLATTN_OK;
}

void clattn_weights_destroy(clattn_weights *weights) {
  if (weights == NULL) return;
  for (size_t i = 0; i < weights->n_files; i++)
    clattn_kit_safetensors_destroy(weights->files[i]);
  free(weights->files);
  kit_gguf_destroy(weights->gguf);
  free(weights->tensors);
  free(weights->sorted);
  free(weights);
}

/* ---- tensors --------------------------------------------------------------- */

size_t clattn_weights_count(const clattn_weights *weights) {
  return weights == NULL ? 0 : weights->count;
}

clattn_status clattn_weights_at(const clattn_weights *weights, size_t i,
                                clattn_weights_tensor *tensor) {
  KIT_REQUIRE(weights != NULL, "weights: got NULL, want open weights");
  KIT_REQUIRE(tensor != NULL, "tensor: got NULL, want a place for the view");
  KIT_REQUIRE(i < weights->count, "i: got %zu, want less than %zu", i,
              weights->count);
  *tensor = weights->tensors[i];
  return CLATTN_OK;
}

static const clattn_weights_tensor *lookup(const clattn_weights *weights,
                                           const char *name) {
  if (weights == NULL || name == NULL) return NULL;
  const clattn_weights_tensor wanted = {.name = name}, *key = &wanted;
  const clattn_weights_tensor **found = bsearch(
      &key, weights->sorted, weights->count, sizeof *weights->sorted, by_name);
  return found == NULL ? NULL : *found;
}

bool clattn_weights_has(const clattn_weights *weights, const char *name) {
  return lookup(weights, name) != NULL;
}

clattn_status clattn_weights_find(const clattn_weights *weights,
                                  const char *name,
                                  clattn_weights_tensor *tensor) {
  KIT_REQUIRE(weights != NULL, "weights: got NULL, want open weights");
  KIT_REQUIRE(name != NULL, "name: got NULL, want a tensor's name");
  KIT_REQUIRE(tensor != NULL, "tensor: got NULL, want a place for the view");
  const clattn_weights_tensor *found = lookup(weights, name);
  KIT_REQUIRE(found != NULL, "name: no tensor '%.200s' in the weights", name);
  *tensor = *found;
  return CLATTN_OK;
}

clattn_status clattn_weights_read(const clattn_weights_tensor *tensor,
                                  clattn_dtype dtype, void *values) {
  KIT_REQUIRE(tensor != NULL, "tensor: got NULL, want a tensor");
  KIT_REQUIRE(tensor->type != NULL, "tensor->type: got NULL, want a type");
  const char *name = tensor->name == NULL ? "" : tensor->name;
  KIT_REQUIRE(
      dtype == CLATTN_F32 || dtype == CLATTN_F16 || dtype == CLATTN_BF16,
      "dtype: got %s (%d), want f32, f16 or bf16", clattn_dtype_name(dtype),
      (int)dtype);
  const kit_block *block = kit_block_named(tensor->type);
  if (block == NULL || !kit_block_is_read(block))
    return clattn_set_error(
        CLATTN_UNSUPPORTED,
        "tensor '%.200s': type %.40s is not read; want F64, F32, F16, BF16, "
        "Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K or Q6_K",
        name, tensor->type);
  /* A view made by hand may say anything. */
  KIT_REQUIRE(tensor->rank >= 0 && tensor->rank <= CLATTN_KIT_MAX_RANK,
              "tensor->rank: got %d, want 0..%d", tensor->rank,
              CLATTN_KIT_MAX_RANK);
  int64_t elements = 1, bytes = 0;
  bool fits = true;
  for (int d = 0; d < tensor->rank; d++)
    fits = fits && tensor->extent[d] >= 0 &&
           !__builtin_mul_overflow(elements, tensor->extent[d], &elements);
  KIT_REQUIRE(fits && elements % block->elements == 0 &&
                  !__builtin_mul_overflow(elements / block->elements,
                                          (int64_t)block->bytes, &bytes) &&
                  (uint64_t)bytes == tensor->size_bytes,
              "tensor '%.200s': got %zu bytes, want what its shape takes", name,
              tensor->size_bytes);
  if (elements == 0) return CLATTN_OK;
  KIT_REQUIRE(tensor->data != NULL && values != NULL,
              "tensor '%.200s': data or values is NULL", name);
  return kit_decode(block, tensor->data, elements, dtype, values);
}

/* ---- metadata --------------------------------------------------------------- */

const char *clattn_weights_text(const clattn_weights *weights,
                                const char *key) {
  if (weights == NULL || key == NULL) return NULL;
  if (weights->gguf != NULL) return kit_gguf_text(weights->gguf, key);
  return weights->n_files == 1
             ? clattn_kit_safetensors_metadata(weights->files[0], key)
             : NULL;
}

/* A GGUF file that can be asked. */
static bool askable(const clattn_weights *weights, const char *key) {
  return weights != NULL && weights->gguf != NULL && key != NULL;
}

bool clattn_weights_number(const clattn_weights *weights, const char *key,
                           double *number) {
  return askable(weights, key) && number != NULL &&
         kit_gguf_number(weights->gguf, key, number);
}

size_t clattn_weights_list(const clattn_weights *weights, const char *key) {
  return askable(weights, key) ? kit_gguf_list(weights->gguf, key) : 0;
}

const char *clattn_weights_list_text(const clattn_weights *weights,
                                     const char *key, size_t i,
                                     size_t *size_bytes) {
  size_t n = 0;
  const char *text = askable(weights, key)
                         ? kit_gguf_list_text(weights->gguf, key, i, &n)
                         : NULL;
  if (size_bytes != NULL) *size_bytes = n;
  return text;
}

bool clattn_weights_list_number(const clattn_weights *weights, const char *key,
                                size_t i, double *number) {
  return askable(weights, key) && number != NULL &&
         kit_gguf_list_number(weights->gguf, key, i, number);
}
