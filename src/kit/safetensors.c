/* safetensors.c - reads and writes named tensors.
 *
 * A file is input from anywhere, so nothing in it is believed: every number of
 * the header is checked before it indexes memory. */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kit.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#  error "safetensors files are little-endian and so must the machine be"
#endif

#define LENGTH_BYTES 8u
#define MAX_HEADER_BYTES 100000000u /* as the format's own reader has it */
#define METADATA "__metadata__"

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

#define BAD(...) clattn_set_error(CLATTN_IO_ERROR, __VA_ARGS__)

/* ---- reading ------------------------------------------------------------- */

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
    return BAD("tensor '%.200s': its entry is not an object", name);
  const json_t *dtype = json_object_get(entry, "dtype");
  const json_t *shape = json_object_get(entry, "shape");
  const json_t *offsets = json_object_get(entry, "data_offsets");
  if (!json_is_string(dtype))
    return BAD("tensor '%.200s': dtype is not a string", name);
  if (!json_is_array(shape))
    return BAD("tensor '%.200s': shape is not an array", name);
  if (json_array_size(shape) > CLATTN_KIT_MAX_RANK)
    return BAD("tensor '%.200s': rank %zu, at most %d is read", name,
               json_array_size(shape), CLATTN_KIT_MAX_RANK);

  tensor->name = name;
  tensor->dtype_name = json_string_value(dtype);
  tensor->dtype = dtype_by_name(tensor->dtype_name);
  tensor->rank = (int)json_array_size(shape);
  int64_t elements = 1;
  for (int i = 0; i < tensor->rank; i++) {
    const json_t *extent = json_array_get(shape, (size_t)i);
    if (!whole_number(extent, &tensor->extent[i]))
      return BAD("tensor '%.200s': shape[%d] is not a whole number >= 0", name,
                 i);
    if (__builtin_mul_overflow(elements, tensor->extent[i], &elements))
      return BAD("tensor '%.200s': the product of its shape overflows", name);
  }

  int64_t begin, end;
  if (!json_is_array(offsets) || json_array_size(offsets) != 2 ||
      !whole_number(json_array_get(offsets, 0), &begin) ||
      !whole_number(json_array_get(offsets, 1), &end))
    return BAD("tensor '%.200s': data_offsets is not two whole numbers >= 0",
               name);
  if (begin > end || (uint64_t)end > data_bytes)
    return BAD(
        "tensor '%.200s': data_offsets [%lld,%lld] outside the %zu bytes "
        "of data",
        name, (long long)begin, (long long)end, data_bytes);

  /* How many bytes an unknown type takes is unknown too. */
  const size_t size = clattn_kit_dtype_size(tensor->dtype);
  int64_t bytes;
  if (size != 0 && (__builtin_mul_overflow(elements, (int64_t)size, &bytes) ||
                    bytes != end - begin))
    return BAD(
        "tensor '%.200s': %lld bytes of data, but its shape takes %lld "
        "elements of %zu",
        name, (long long)(end - begin), (long long)elements, size);
  tensor->data = data + begin;
  tensor->size_bytes = (size_t)(end - begin);
  return CLATTN_OK;
}

static clattn_status read_metadata(clattn_kit_safetensors *file,
                                   json_t *metadata) {
  if (!json_is_object(metadata)) return BAD(METADATA " is not an object");
  file->metadata =
      calloc(json_object_size(metadata) + 1, sizeof *file->metadata);
  if (file->metadata == NULL) return KIT_OUT_OF_MEMORY("safetensors");
  const char *key;
  json_t *text;
  json_object_foreach(metadata, key, text) {
    if (!json_is_string(text))
      return BAD(METADATA " '%.200s' is not a string", key);
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
      return BAD("tensor '%.200s' overlaps '%.200s'", tensor->name,
                 file->tensors[i - 1].name);
    if (begin > at)
      return BAD("%zu bytes of data before tensor '%.200s' belong to none",
                 begin - at, tensor->name);
    at = begin + tensor->size_bytes;
  }
  if (at != data_bytes)
    return BAD("%zu bytes of data at the end belong to no tensor",
               data_bytes - at);
  return CLATTN_OK;
}

static clattn_status read_header(clattn_kit_safetensors *file,
                                 const unsigned char *bytes, size_t n) {
  if (n < LENGTH_BYTES)
    return BAD("%zu bytes are too few for a safetensors file", n);
  uint64_t length = 0;
  for (unsigned i = 0; i < LENGTH_BYTES; i++)
    length |= (uint64_t)bytes[i] << (8 * i);
  if (length > n - LENGTH_BYTES)
    return BAD("the header's length %llu is beyond the file's %zu bytes",
               (unsigned long long)length, n);
  if (length > MAX_HEADER_BYTES)
    return BAD("the header's length %llu is over the limit of %u bytes",
               (unsigned long long)length, MAX_HEADER_BYTES);
  const unsigned char *data = bytes + LENGTH_BYTES + length;
  const size_t data_bytes = n - LENGTH_BYTES - (size_t)length;

  json_error_t error;
  file->header = json_loadb((const char *)bytes + LENGTH_BYTES, (size_t)length,
                            JSON_REJECT_DUPLICATES, &error);
  if (file->header == NULL)
    return BAD("the header is not JSON: %s at byte %d", error.text,
               error.position);
  if (!json_is_object(file->header))
    return BAD("the header is not a JSON object");

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

/* Maps a regular, non-empty file for reading. To open a pipe would block. */
static clattn_status map_file(const char *path, void **map, size_t *bytes) {
  const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return BAD("%s: %s", path, strerror(errno));
  clattn_status status = CLATTN_OK;
  struct stat info;
  if (fstat(fd, &info) != 0)
    status = BAD("%s: %s", path, strerror(errno));
  else if (!S_ISREG(info.st_mode))
    status = BAD("%s: not a regular file", path);
  else if (info.st_size == 0)
    status = BAD("%s: empty", path);
  else if ((uint64_t)info.st_size > SIZE_MAX)
    status = BAD("%s: too large to map", path);
  if (status == CLATTN_OK) {
    *bytes = (size_t)info.st_size;
    *map = mmap(NULL, *bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    if (*map == MAP_FAILED) status = BAD("%s: %s", path, strerror(errno));
  }
  close(fd);
  return status;
}

clattn_status clattn_kit_safetensors_open(const char *path,
                                          clattn_kit_safetensors **file) {
  KIT_REQUIRE(file != NULL, "file: got NULL, want a place for the handle");
  *file = NULL;
  KIT_REQUIRE(path != NULL, "path: got NULL, want a file's path");
  void *map = NULL;
  size_t bytes = 0;
  KIT_TRY(map_file(path, &map, &bytes));
  clattn_kit_safetensors *made;
  const clattn_status status = clattn_kit_safetensors_parse(map, bytes, &made);
  if (status != CLATTN_OK) {
    munmap(map, bytes);
    char why[512]; /* the message is about to be replaced by itself */
    snprintf(why, sizeof why, "%s", clattn_error_message());
    return clattn_set_error(status, "%s: %s", path, why);
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
  if (file->map != NULL) munmap(file->map, file->map_bytes);
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

/* ---- writing ------------------------------------------------------------- */

/* Adds one tensor to the header; *offset is where its bytes begin, and end. */
static clattn_status describe(json_t *header, const clattn_kit_tensor *tensor,
                              size_t i, size_t *offset) {
  KIT_REQUIRE(tensor->name != NULL, "tensors[%zu].name: got NULL", i);
  KIT_REQUIRE(strcmp(tensor->name, METADATA) != 0 &&
                  json_object_get(header, tensor->name) == NULL,
              "tensors[%zu].name: '%.200s' is taken", i, tensor->name);
  KIT_REQUIRE(tensor->rank >= 0 && tensor->rank <= CLATTN_KIT_MAX_RANK,
              "tensors[%zu].rank: got %d, want 0..%d", i, tensor->rank,
              CLATTN_KIT_MAX_RANK);
  const size_t size = clattn_kit_dtype_size(tensor->dtype);
  KIT_REQUIRE(size != 0, "tensors[%zu].dtype: got %d, want a known type", i,
              (int)tensor->dtype);
  json_t *shape = json_array();
  bool fits = shape != NULL;
  int64_t bytes = (int64_t)size;
  for (int d = 0; d < tensor->rank; d++) {
    fits = fits && tensor->extent[d] >= 0 &&
           !__builtin_mul_overflow(bytes, tensor->extent[d], &bytes);
    json_array_append_new(shape, json_integer(tensor->extent[d]));
  }
  if (!fits || (uint64_t)bytes != tensor->size_bytes ||
      (bytes != 0 && tensor->data == NULL)) {
    json_decref(shape);
    return clattn_set_error(
        CLATTN_INVALID_ARGUMENT,
        "tensors[%zu] '%.200s': got %zu bytes, want what its shape takes", i,
        tensor->name, tensor->size_bytes);
  }
  json_t *entry = json_pack("{s:s, s:o, s:[I,I]}", "dtype",
                            clattn_kit_dtype_name(tensor->dtype), "shape",
                            shape, "data_offsets", (json_int_t)*offset,
                            (json_int_t)(*offset + tensor->size_bytes));
  KIT_REQUIRE(json_object_set_new(header, tensor->name, entry) == 0,
              "tensors[%zu].name: not UTF-8", i);
  *offset += tensor->size_bytes;
  return CLATTN_OK;
}

static clattn_status describe_metadata(json_t *header,
                                       const clattn_kit_metadata *metadata,
                                       size_t n) {
  if (n == 0) return CLATTN_OK;
  json_t *object = json_object();
  if (json_object_set_new(header, METADATA, object) != 0)
    return KIT_OUT_OF_MEMORY("safetensors");
  for (size_t i = 0; i < n; i++) {
    KIT_REQUIRE(metadata[i].key != NULL && metadata[i].text != NULL,
                "metadata[%zu]: got NULL, want a key and a text", i);
    KIT_REQUIRE(json_object_get(object, metadata[i].key) == NULL,
                "metadata[%zu].key: '%.200s' is taken", i, metadata[i].key);
    KIT_REQUIRE(json_object_set_new(object, metadata[i].key,
                                    json_string(metadata[i].text)) == 0,
                "metadata[%zu]: not UTF-8", i);
  }
  return CLATTN_OK;
}

static int by_width(const void *a, const void *b) {
  const clattn_kit_tensor *x = *(const clattn_kit_tensor *const *)a;
  const clattn_kit_tensor *y = *(const clattn_kit_tensor *const *)b;
  const size_t p = clattn_kit_dtype_size(x->dtype);
  const size_t q = clattn_kit_dtype_size(y->dtype);
  if (p != q) return p > q ? -1 : 1;
  return x < y ? -1 : x > y; /* else the caller's order */
}

static bool put(FILE *stream, const clattn_kit_tensor *const *order, size_t n,
                const char *header) {
  const size_t length = strlen(header), padded = (length + 7) / 8 * 8;
  unsigned char prefix[LENGTH_BYTES];
  for (unsigned i = 0; i < LENGTH_BYTES; i++)
    prefix[i] = (unsigned char)((uint64_t)padded >> (8 * i));
  bool ok = fwrite(prefix, 1, LENGTH_BYTES, stream) == LENGTH_BYTES &&
            fwrite(header, 1, length, stream) == length &&
            fprintf(stream, "%*s", (int)(padded - length), "") >= 0;
  for (size_t i = 0; ok && i < n; i++)
    ok = order[i]->size_bytes == 0 ||
         fwrite(order[i]->data, order[i]->size_bytes, 1, stream) == 1;
  return ok;
}

/* A temporary file in the same directory, on disk before it gets the name. */
static clattn_status put_file(const char *path,
                              const clattn_kit_tensor *const *order, size_t n,
                              const char *header) {
  struct stat old;
  const bool exists = lstat(path, &old) == 0;
  /* A rename would replace a device, a pipe or a link by a file of its name. */
  if (exists && !S_ISREG(old.st_mode))
    return BAD("%s: not a regular file", path);
  const size_t room = strlen(path) + 32;
  char *temporary = malloc(room);
  if (temporary == NULL) return KIT_OUT_OF_MEMORY("safetensors");
  clattn_status status = CLATTN_OK;
  const mode_t mode = exists ? old.st_mode & 0777 : 0666; /* less the umask */
  int fd = -1;
  for (unsigned i = 0; fd < 0 && i < 100; i++) {
    snprintf(temporary, room, "%s.%ld.%u", path, (long)getpid(), i);
    fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0 && errno != EEXIST) break;
  }
  FILE *stream = fd < 0 ? NULL : fdopen(fd, "wb");
  if (stream == NULL) {
    status = BAD("%s: %s", path, strerror(errno));
    if (fd >= 0) close(fd);
  } else {
    const bool ok = put(stream, order, n, header) && fflush(stream) == 0 &&
                    (!exists || fchmod(fd, mode) == 0) && fsync(fd) == 0;
    const int why = errno;
    const bool closed = fclose(stream) == 0;
    if (!ok || !closed || rename(temporary, path) != 0)
      status = BAD("%s: %s", path, strerror(ok ? errno : why));
  }
  if (status != CLATTN_OK && fd >= 0) unlink(temporary);
  free(temporary);
  return status;
}

clattn_status clattn_kit_safetensors_write(const char *path,
                                           const clattn_kit_tensor *tensors,
                                           size_t n,
                                           const clattn_kit_metadata *metadata,
                                           size_t n_metadata) {
  KIT_REQUIRE(path != NULL, "path: got NULL, want a file's path");
  KIT_REQUIRE(tensors != NULL || n == 0, "tensors: got NULL, want %zu", n);
  KIT_REQUIRE(metadata != NULL || n_metadata == 0,
              "metadata: got NULL, want %zu", n_metadata);
  json_t *header = json_object();
  const clattn_kit_tensor **order = calloc(n + 1, sizeof *order);
  char *text = NULL;
  clattn_status status = CLATTN_OK;
  if (header == NULL || order == NULL) {
    status = KIT_OUT_OF_MEMORY("safetensors");
    goto done;
  }
  status = describe_metadata(header, metadata, n_metadata);
  if (status != CLATTN_OK) goto done;
  for (size_t i = 0; i < n; i++) order[i] = &tensors[i];
  qsort(order, n, sizeof *order, by_width);
  size_t offset = 0;
  for (size_t i = 0; i < n; i++) {
    status = describe(header, order[i], (size_t)(order[i] - tensors), &offset);
    if (status != CLATTN_OK) goto done;
  }
  text = json_dumps(header, JSON_COMPACT);
  status = text == NULL ? KIT_OUT_OF_MEMORY("safetensors")
                        : put_file(path, order, n, text);
done:
  free(text);
  free(order);
  json_decref(header);
  return status;
}
