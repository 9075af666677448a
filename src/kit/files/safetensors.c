/* safetensors.c - reads named tensors; safetensors_write.c writes them.
 *
 * A file is input from anywhere, so nothing in it is believed: every number of
 * the header is checked before it indexes memory. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "map.h"
#include "safetensors.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#  error "safetensors files are little-endian and so must the machine be"
#endif

struct clattn_kit_safetensors {
  void *map; /* NULL: the bytes are the caller's */
  size_t map_bytes;
  json_t *header;             /* owns every name and text */
  clattn_kit_tensor *tensors; /* [count] in the order of their bytes */
  size_t count;
  const clattn_kit_tensor **by_name; /* [count] sorted */
  clattn_kit_metadata *metadata;     /* [metadata_count] */
  size_t metadata_count;
};

static clattn_kit_dtype dtype_by_name(const char *name) {
#define CLATTN_X(dtype, value, size)                                           \
  if (strcmp(name, #dtype) == 0) return CLATTN_KIT_##dtype;
  CLATTN_KIT_DTYPE_MAP(CLATTN_X)
#undef CLATTN_X
  return CLATTN_KIT_UNKNOWN;
}

/* An integer >= 0; anything else, reals and -0.5 alike, is refused. */
static bool whole_number(const json_t *value, int64_t *number) {
  if (!json_is_integer(value) || json_integer_value(value) < 0) return false;
  *number = (int64_t)json_integer_value(value);
  return true;
}

/* The header's entry of one tensor; data has data_bytes. */
static clattn_status read_entry(const char *name, const json_t *entry,
                                const unsigned char *data, size_t data_bytes,
                                clattn_kit_tensor *tensor) {
  if (!json_is_object(entry))
    return KIT_BAD("tensor '%.200s': its entry is not an object", name);
  const json_t *dtype = json_object_get(entry, "dtype");
  const json_t *shape = json_object_get(entry, "shape");
  const json_t *offsets = json_object_get(entry, "data_offsets");
  if (!json_is_string(dtype))
    return KIT_BAD("tensor '%.200s': dtype is not a string", name);
  if (!json_is_array(shape))
    return KIT_BAD("tensor '%.200s': shape is not an array", name);
  if (json_array_size(shape) > CLATTN_KIT_MAX_RANK)
    return KIT_BAD("tensor '%.200s': rank %zu, at most %d is read", name,
                   json_array_size(shape), CLATTN_KIT_MAX_RANK);

  tensor->name = name;
  tensor->dtype_name = json_string_value(dtype);
  tensor->dtype = dtype_by_name(tensor->dtype_name);
  tensor->rank = (int)json_array_size(shape);
  int64_t elements = 1;
  for (int i = 0; i < tensor->rank; i++) {
    const json_t *extent = json_array_get(shape, (size_t)i);
    if (!whole_number(extent, &tensor->extent[i]))
      return KIT_BAD("tensor '%.200s': shape[%d] is not a whole number >= 0",
                     name, i);
    if (__builtin_mul_overflow(elements, tensor->extent[i], &elements))
      return KIT_BAD("tensor '%.200s': the product of its shape overflows",
                     name);
  }

  int64_t begin, end;
  if (!json_is_array(offsets) || json_array_size(offsets) != 2 ||
      !whole_number(json_array_get(offsets, 0), &begin) ||
      !whole_number(json_array_get(offsets, 1), &end))
    return KIT_BAD(
        "tensor '%.200s': data_offsets is not two whole numbers >= 0", name);
  if (begin > end || (uint64_t)end > data_bytes)
    return KIT_BAD(
        "tensor '%.200s': data_offsets [%lld,%lld] outside the %zu bytes "
        "of data",
        name, (long long)begin, (long long)end, data_bytes);

  /* How many bytes an unknown type takes is unknown too. */
  const size_t size = clattn_kit_dtype_size(tensor->dtype);
  int64_t bytes;
  if (size != 0 && (__builtin_mul_overflow(elements, (int64_t)size, &bytes) ||
                    bytes != end - begin))
    return KIT_BAD(
        "tensor '%.200s': %lld bytes of data, but its shape takes %lld "
        "elements of %zu",
        name, (long long)(end - begin), (long long)elements, size);
  tensor->data = data + begin;
  tensor->size_bytes = (size_t)(end - begin);
  return CLATTN_OK;
}

static clattn_status read_metadata(clattn_kit_safetensors *file,
                                   json_t *metadata) {
  if (!json_is_object(metadata)) return KIT_BAD(METADATA " is not an object");
  file->metadata =
      calloc(json_object_size(metadata) + 1, sizeof *file->metadata);
  if (file->metadata == NULL) return KIT_OUT_OF_MEMORY("safetensors");
  const char *key;
  json_t *text;
  json_object_foreach(metadata, key, text) {
    if (!json_is_string(text))
      return KIT_BAD(METADATA " '%.200s' is not a string", key);
    file->metadata[file->metadata_count++] =
        (clattn_kit_metadata){key, json_string_value(text)};
  }
  return CLATTN_OK;
}

static int by_bytes(const void *a, const void *b) {
  const clattn_kit_tensor *x = a, *y = b;
  const unsigned char *p = x->data, *q = y->data;
  if (p != q) return p < q ? -1 : 1;
  if (x->size_bytes != y->size_bytes)
    return x->size_bytes < y->size_bytes ? -1 : 1;
  return strcmp(x->name, y->name);
}

static int by_name(const void *a, const void *b) {
  return strcmp((*(const clattn_kit_tensor *const *)a)->name,
                (*(const clattn_kit_tensor *const *)b)->name);
}

/* The format has no gaps and no overlaps: hidden bytes and shared ones both
 * mean a broken or a crafted file. */
static clattn_status check_cover(const clattn_kit_safetensors *file,
                                 const unsigned char *data, size_t data_bytes) {
  size_t at = 0;
  for (size_t i = 0; i < file->count; i++) {
    const clattn_kit_tensor *tensor = &file->tensors[i];
    const size_t begin = (size_t)((const unsigned char *)tensor->data - data);
    if (begin < at)
      return KIT_BAD("tensor '%.200s' overlaps '%.200s'", tensor->name,
                     file->tensors[i - 1].name);
    if (begin > at)
      return KIT_BAD("%zu bytes of data before tensor '%.200s' belong to none",
                     begin - at, tensor->name);
    at = begin + tensor->size_bytes;
  }
  if (at != data_bytes)
    return KIT_BAD("%zu bytes of data at the end belong to no tensor",
                   data_bytes - at);
  return CLATTN_OK;
}

static clattn_status read_header(clattn_kit_safetensors *file,
                                 const unsigned char *bytes, size_t n) {
  if (n < LENGTH_BYTES)
    return KIT_BAD("%zu bytes are too few for a safetensors file", n);
  uint64_t length = 0;
  for (unsigned i = 0; i < LENGTH_BYTES; i++)
    length |= (uint64_t)bytes[i] << (8 * i);
  if (length > n - LENGTH_BYTES)
    return KIT_BAD("the header's length %llu is beyond the file's %zu bytes",
                   (unsigned long long)length, n);
  if (length > MAX_HEADER_BYTES)
    return KIT_BAD("the header's length %llu is over the limit of %u bytes",
                   (unsigned long long)length, MAX_HEADER_BYTES);
  const unsigned char *data = bytes + LENGTH_BYTES + length;
  const size_t data_bytes = n - LENGTH_BYTES - (size_t)length;

  json_error_t error;
  file->header = json_loadb((const char *)bytes + LENGTH_BYTES, (size_t)length,
                            JSON_REJECT_DUPLICATES, &error);
  if (file->header == NULL)
    return KIT_BAD("the header is not JSON: %s at byte %d", error.text,
                   error.position);
  if (!json_is_object(file->header))
    return KIT_BAD("the header is not a JSON object");

  const size_t entries = json_object_size(file->header);
  file->tensors = calloc(entries + 1, sizeof *file->tensors);
  file->by_name = calloc(entries + 1, sizeof *file->by_name);
  if (file->tensors == NULL || file->by_name == NULL)
    return KIT_OUT_OF_MEMORY("safetensors");
  const char *name;
  json_t *entry;
  json_object_foreach(file->header, name, entry) {
    if (strcmp(name, METADATA) == 0)
      KIT_TRY(read_metadata(file, entry));
    else
      KIT_TRY(read_entry(name, entry, data, data_bytes,
                         &file->tensors[file->count++]));
  }
  qsort(file->tensors, file->count, sizeof *file->tensors, by_bytes);
  for (size_t i = 0; i < file->count; i++) file->by_name[i] = &file->tensors[i];
  qsort(file->by_name, file->count, sizeof *file->by_name, by_name);
  return check_cover(file, data, data_bytes);
}

clattn_status clattn_kit_safetensors_parse(const void *bytes, size_t size_bytes,
                                           clattn_kit_safetensors **file) {
  KIT_REQUIRE(file != NULL, "file: got NULL, want a place for the handle");
  *file = NULL;
  KIT_REQUIRE(bytes != NULL, "bytes: got NULL, want a file's bytes");
  clattn_kit_safetensors *made = calloc(1, sizeof *made);
  if (made == NULL) return KIT_OUT_OF_MEMORY("safetensors");
  const clattn_status status = read_header(made, bytes, size_bytes);
  if (status != CLATTN_OK) {
    clattn_kit_safetensors_destroy(made);
    return status;
  }
  *file = made;
  return CLATTN_OK;
}

clattn_status clattn_kit_safetensors_open(const char *path,
                                          clattn_kit_safetensors **file) {
  KIT_REQUIRE(file != NULL, "file: got NULL, want a place for the handle");
  *file = NULL;
  KIT_REQUIRE(path != NULL, "path: got NULL, want a file's path");
  void *map = NULL;
  size_t bytes = 0;
  KIT_TRY(kit_map_file(path, &map, &bytes));
  clattn_kit_safetensors *made;
  const clattn_status status = clattn_kit_safetensors_parse(map, bytes, &made);
  if (status != CLATTN_OK) {
    kit_unmap_file(map, bytes);
    return kit_error_in(path, status);
  }
  made->map = map;
  made->map_bytes = bytes;
  *file = made;
  return CLATTN_OK;
}

void clattn_kit_safetensors_destroy(clattn_kit_safetensors *file) {
  if (file == NULL) return;
  json_decref(file->header);
  free(file->tensors);
  free(file->by_name);
  free(file->metadata);
  kit_unmap_file(file->map, file->map_bytes);
  free(file);
}

size_t clattn_kit_safetensors_count(const clattn_kit_safetensors *file) {
  return file == NULL ? 0 : file->count;
}

clattn_status clattn_kit_safetensors_at(const clattn_kit_safetensors *file,
                                        size_t i, clattn_kit_tensor *tensor) {
  KIT_REQUIRE(file != NULL, "file: got NULL, want an open file");
  KIT_REQUIRE(tensor != NULL, "tensor: got NULL, want a place for the view");
  KIT_REQUIRE(i < file->count, "i: got %zu, want less than %zu", i,
              file->count);
  *tensor = file->tensors[i];
  return CLATTN_OK;
}

static const clattn_kit_tensor *lookup(const clattn_kit_safetensors *file,
                                       const char *name) {
  if (file == NULL || name == NULL || file->count == 0) return NULL;
  const clattn_kit_tensor wanted = {.name = name}, *key = &wanted;
  const clattn_kit_tensor **found =
      bsearch(&key, file->by_name, file->count, sizeof *file->by_name, by_name);
  return found == NULL ? NULL : *found;
}

bool clattn_kit_safetensors_has(const clattn_kit_safetensors *file,
                                const char *name) {
  return lookup(file, name) != NULL;
}

clattn_status clattn_kit_safetensors_find(const clattn_kit_safetensors *file,
                                          const char *name,
                                          clattn_kit_tensor *tensor) {
  KIT_REQUIRE(file != NULL, "file: got NULL, want an open file");
  KIT_REQUIRE(name != NULL, "name: got NULL, want a tensor's name");
  KIT_REQUIRE(tensor != NULL, "tensor: got NULL, want a place for the view");
  const clattn_kit_tensor *found = lookup(file, name);
  KIT_REQUIRE(found != NULL, "name: no tensor '%.200s' in the file", name);
  if (found->dtype == CLATTN_KIT_UNKNOWN)
    return clattn_set_error(
        CLATTN_UNSUPPORTED,
        "tensor '%.200s': type '%.40s' is not readable here", name,
        found->dtype_name);
  *tensor = *found;
  return CLATTN_OK;
}

const char *clattn_kit_safetensors_metadata(const clattn_kit_safetensors *file,
                                            const char *key) {
  if (file == NULL || key == NULL) return NULL;
  const json_t *metadata = json_object_get(file->header, METADATA);
  return json_string_value(json_object_get(metadata, key));
}

size_t clattn_kit_safetensors_metadata_count(
    const clattn_kit_safetensors *file) {
  return file == NULL ? 0 : file->metadata_count;
}

clattn_status clattn_kit_safetensors_metadata_at(
    const clattn_kit_safetensors *file, size_t i, clattn_kit_metadata *entry) {
  KIT_REQUIRE(file != NULL, "file: got NULL, want an open file");
  KIT_REQUIRE(entry != NULL, "entry: got NULL, want a place for the entry");
  KIT_REQUIRE(i < file->metadata_count, "i: got %zu, want less than %zu", i,
              file->metadata_count);
  *entry = file->metadata[i];
  return CLATTN_OK;
}
