/* safetensors_write.c - writes named tensors, whole or in parts.
 *
 * A file is written beside its place and renamed. Where each tensor begins is
 * settled when the writer is made, so that parts go straight to their place. Only
 * a tensor that grows has no end yet: it comes last, and the header leaves room
 * for any length. */
#define _POSIX_C_SOURCE 200809L
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "shared/replace.h"
#include "safetensors.h"

typedef struct written_tensor {
  size_t offset, size_bytes; /* from the first tensor's byte */
  size_t done;               /* bytes put so far */
  bool grows;
} written_tensor;

struct clattn_kit_safetensors_writer {
  clt_replacement file;
  json_t *header;
  size_t header_bytes;     /* room for its text, a multiple of 8 */
  written_tensor *tensors; /* [count] in the caller's order */
  char **names;            /* [count] */
  size_t count;
};

/* ---- the header ------------------------------------------------------------ */

/* How many bytes its shape takes; one that grows: of an element. */
static clattn_status bytes_of(const clattn_kit_tensor *tensor, size_t i,
                              size_t *size_bytes, bool *grows) {
  KIT_REQUIRE(tensor->name != NULL, "tensors[%zu].name: got NULL", i);
  KIT_REQUIRE(tensor->rank >= 0 && tensor->rank <= CLATTN_KIT_MAX_RANK,
              "tensors[%zu].rank: got %d, want 0..%d", i, tensor->rank,
              CLATTN_KIT_MAX_RANK);
  const size_t size = clattn_kit_dtype_size(tensor->dtype);
  KIT_REQUIRE(size != 0, "tensors[%zu].dtype: got %d, want a known type", i,
              (int)tensor->dtype);
  *grows = tensor->rank == 1 && tensor->extent[0] == CLATTN_KIT_GROWS;
  int64_t bytes = (int64_t)size;
  for (int d = 0; d < tensor->rank && !*grows; d++) {
    KIT_REQUIRE(tensor->extent[d] >= 0 &&
                    !__builtin_mul_overflow(bytes, tensor->extent[d], &bytes),
                "tensors[%zu] '%.200s': its shape is negative or overflows", i,
                tensor->name);
  }
  *size_bytes = (size_t)bytes;
  return CLATTN_OK;
}

/* Sets the header's entry of a tensor. */
static clattn_status describe(json_t *header, const clattn_kit_tensor *tensor,
                              size_t i, size_t begin, size_t end) {
  json_t *shape = json_array();
  for (int d = 0; d < tensor->rank; d++)
    json_array_append_new(shape, json_integer(tensor->extent[d]));
  json_t *entry = json_pack(
      "{s:s, s:o, s:[I,I]}", "dtype", clattn_kit_dtype_name(tensor->dtype),
      "shape", shape, "data_offsets", (json_int_t)begin, (json_int_t)end);
  KIT_REQUIRE(json_object_set_new(header, tensor->name, entry) == 0,
              "tensors[%zu].name: not UTF-8", i);
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

/* The order of the bytes: wide types first, so that all are aligned. */
typedef struct placed {
  const clattn_kit_tensor *tensor;
  bool grows;
} placed;

static int by_place(const void *a, const void *b) {
  const placed *x = a, *y = b;
  if (x->grows != y->grows) return x->grows ? 1 : -1;
  const size_t p = clattn_kit_dtype_size(x->tensor->dtype);
  const size_t q = clattn_kit_dtype_size(y->tensor->dtype);
  if (p != q) return p > q ? -1 : 1;
  /* else the caller's order */
  return x->tensor < y->tensor ? -1 : x->tensor > y->tensor;
}

/* Gives every tensor its place and its entry. */
static clattn_status lay_out(clattn_kit_safetensors_writer *writer,
                             const clattn_kit_tensor *tensors, placed *order) {
  const size_t n = writer->count;
  size_t growing = 0;
  for (size_t i = 0; i < n; i++) {
    written_tensor *tensor = &writer->tensors[i];
    KIT_TRY(bytes_of(&tensors[i], i, &tensor->size_bytes, &tensor->grows));
    growing += tensor->grows;
    KIT_REQUIRE(growing <= 1, "tensors[%zu] '%.200s': only one may grow", i,
                tensors[i].name);
    writer->names[i] = strdup(tensors[i].name);
    if (writer->names[i] == NULL) return KIT_OUT_OF_MEMORY("safetensors");
    order[i] = (placed){&tensors[i], tensor->grows};
  }
  qsort(order, n, sizeof *order, by_place);
  int64_t offset = 0;
  for (size_t at = 0; at < n; at++) {
    const size_t i = (size_t)(order[at].tensor - tensors);
    written_tensor *tensor = &writer->tensors[i];
    clattn_kit_tensor entry = tensors[i];
    KIT_REQUIRE(strcmp(entry.name, METADATA) != 0 &&
                    json_object_get(writer->header, entry.name) == NULL,
                "tensors[%zu].name: '%.200s' is taken", i, entry.name);
    tensor->offset = (size_t)offset;
    KIT_REQUIRE(
        !__builtin_add_overflow(offset, (int64_t)tensor->size_bytes, &offset),
        "tensors[%zu] '%.200s': too many bytes", i, entry.name);
    /* No number is longer than this one. */
    if (tensor->grows) entry.extent[0] = offset = INT64_MAX;
    KIT_TRY(
        describe(writer->header, &entry, i, tensor->offset, (size_t)offset));
  }
  return CLATTN_OK;
}

/* The length a tensor has grown to, in its entry. */
static void settle(json_t *header, const char *name,
                   const written_tensor *tensor) {
  json_t *entry = json_object_get(header, name);
  json_array_set_new(
      json_object_get(entry, "shape"), 0,
      json_integer((json_int_t)(tensor->done / tensor->size_bytes)));
  json_array_set_new(json_object_get(entry, "data_offsets"), 1,
                     json_integer((json_int_t)(tensor->offset + tensor->done)));
}

/* ---- the file -------------------------------------------------------------- */

static clattn_status make(clattn_kit_safetensors_writer *writer,
                          const char *path, const clattn_kit_tensor *tensors,
                          size_t n, const clattn_kit_metadata *metadata,
                          size_t n_metadata) {
  writer->header = json_object();
  writer->tensors = calloc(n + 1, sizeof *writer->tensors);
  writer->names = calloc(n + 1, sizeof *writer->names);
  placed *order = calloc(n + 1, sizeof *order);
  writer->count = n;
  clattn_status status;
  if (!writer->header || !writer->tensors || !writer->names || !order)
    status = KIT_OUT_OF_MEMORY("safetensors");
  else
    status = describe_metadata(writer->header, metadata, n_metadata);
  if (status == CLATTN_OK) status = lay_out(writer, tensors, order);
  free(order);
  KIT_TRY(status);
  writer->header_bytes = json_dumpb(writer->header, NULL, 0, JSON_COMPACT);
  if (writer->header_bytes == 0) return KIT_OUT_OF_MEMORY("safetensors");
  writer->header_bytes = (writer->header_bytes + 7) / 8 * 8;
  KIT_REQUIRE(writer->header_bytes <= MAX_HEADER_BYTES,
              "metadata: got a header of %zu bytes, want at most %u",
              writer->header_bytes, MAX_HEADER_BYTES);
  return clt_replace_begin(path, &writer->file);
}

clattn_status clattn_kit_safetensors_writer_create(
    const char *path, const clattn_kit_tensor *tensors, size_t n,
    const clattn_kit_metadata *metadata, size_t n_metadata,
    clattn_kit_safetensors_writer **writer) {
  KIT_REQUIRE(writer != NULL, "writer: got NULL, want a place for the handle");
  *writer = NULL;
  KIT_REQUIRE(path != NULL, "path: got NULL, want a file's path");
  KIT_REQUIRE(tensors != NULL || n == 0, "tensors: got NULL, want %zu", n);
  KIT_REQUIRE(metadata != NULL || n_metadata == 0,
              "metadata: got NULL, want %zu", n_metadata);
  clattn_kit_safetensors_writer *made = calloc(1, sizeof *made);
  if (made == NULL) return KIT_OUT_OF_MEMORY("safetensors");
  made->file.fd = -1;
  const clattn_status status =
      make(made, path, tensors, n, metadata, n_metadata);
  if (status != CLATTN_OK) {
    clattn_kit_safetensors_writer_destroy(made);
    return status;
  }
  *writer = made;
  return CLATTN_OK;
}

clattn_status clattn_kit_safetensors_writer_put(
    clattn_kit_safetensors_writer *writer, size_t i, const void *data,
    size_t size_bytes) {
  KIT_REQUIRE(writer != NULL, "writer: got NULL, want a writer");
  KIT_REQUIRE(writer->file.fd >= 0, "writer: its file is finished or broken");
  KIT_REQUIRE(i < writer->count, "i: got %zu, want less than %zu", i,
              writer->count);
  if (size_bytes == 0) return CLATTN_OK;
  KIT_REQUIRE(data != NULL, "data: got NULL, want %zu bytes", size_bytes);
  written_tensor *tensor = &writer->tensors[i];
  const size_t room =
      tensor->grows ? (size_t)INT64_MAX / 2 - tensor->offset - tensor->done
                    : tensor->size_bytes - tensor->done;
  KIT_REQUIRE(size_bytes <= room,
              "size_bytes: got %zu, but tensor '%.200s' takes %zu more",
              size_bytes, writer->names[i], room);
  const size_t place =
      LENGTH_BYTES + writer->header_bytes + tensor->offset + tensor->done;
  KIT_TRY(clt_replace_put(&writer->file, data, size_bytes, (int64_t)place));
  tensor->done += size_bytes;
  return CLATTN_OK;
}

/* The header before the tensors' bytes, in the room that was left for it. */
static clattn_status put_header(clattn_kit_safetensors_writer *writer) {
  const size_t room = LENGTH_BYTES + writer->header_bytes;
  char *bytes = malloc(room);
  if (bytes == NULL) return KIT_OUT_OF_MEMORY("safetensors");
  memset(bytes, ' ', room);
  for (unsigned i = 0; i < LENGTH_BYTES; i++)
    bytes[i] = (char)((uint64_t)writer->header_bytes >> (8 * i));
  json_dumpb(writer->header, bytes + LENGTH_BYTES, writer->header_bytes,
             JSON_COMPACT);
  const clattn_status status = clt_replace_put(&writer->file, bytes, room, 0);
  free(bytes);
  return status;
}

clattn_status clattn_kit_safetensors_writer_finish(
    clattn_kit_safetensors_writer *writer) {
  KIT_REQUIRE(writer != NULL, "writer: got NULL, want a writer");
  KIT_REQUIRE(writer->file.fd >= 0, "writer: its file is finished or broken");
  for (size_t i = 0; i < writer->count; i++) {
    const written_tensor *tensor = &writer->tensors[i];
    if (tensor->grows) {
      KIT_REQUIRE(tensor->done % tensor->size_bytes == 0,
                  "tensor '%.200s': got %zu bytes, want a multiple of %zu",
                  writer->names[i], tensor->done, tensor->size_bytes);
      settle(writer->header, writer->names[i], tensor);
    } else {
      KIT_REQUIRE(tensor->done == tensor->size_bytes,
                  "tensor '%.200s': got %zu bytes, want %zu", writer->names[i],
                  tensor->done, tensor->size_bytes);
    }
  }
  KIT_TRY(put_header(writer));
  return clt_replace_commit(&writer->file);
}

void clattn_kit_safetensors_writer_destroy(
    clattn_kit_safetensors_writer *writer) {
  if (writer == NULL) return;
  for (size_t i = 0; writer->names != NULL && i < writer->count; i++)
    free(writer->names[i]);
  free(writer->names);
  free(writer->tensors);
  json_decref(writer->header);
  clt_replace_free(&writer->file);
  free(writer);
}

/* ---- all at once ------------------------------------------------------------ */

clattn_status clattn_kit_safetensors_write(const char *path,
                                           const clattn_kit_tensor *tensors,
                                           size_t n,
                                           const clattn_kit_metadata *metadata,
                                           size_t n_metadata) {
  KIT_REQUIRE(tensors != NULL || n == 0, "tensors: got NULL, want %zu", n);
  for (size_t i = 0; i < n; i++) {
    size_t bytes;
    bool grows;
    KIT_TRY(bytes_of(&tensors[i], i, &bytes, &grows));
    KIT_REQUIRE(!grows && bytes == tensors[i].size_bytes &&
                    (bytes == 0 || tensors[i].data != NULL),
                "tensors[%zu] '%.200s': got %zu bytes, want what its shape "
                "takes",
                i, tensors[i].name, tensors[i].size_bytes);
  }
  clattn_kit_safetensors_writer *writer;
  KIT_TRY(clattn_kit_safetensors_writer_create(path, tensors, n, metadata,
                                               n_metadata, &writer));
  clattn_status status = CLATTN_OK;
  for (size_t i = 0; i < n && status == CLATTN_OK; i++)
    status = clattn_kit_safetensors_writer_put(writer, i, tensors[i].data,
                                               tensors[i].size_bytes);
  if (status == CLATTN_OK)
    status = clattn_kit_safetensors_writer_finish(writer);
  clattn_kit_safetensors_writer_destroy(writer);
  return status;
}
