/* write.c - one writer for whoever has attention: models and arrays. */
#include "write.h"

#include <math.h>
#include <stdlib.h>

#include "metadata.h"

#define MOST_NARROW 65504.0f /* the largest number of F16 */

struct attention_writer {
  const clattn_attention_part *parts; /* [n_parts] borrowed */
  size_t n_parts;
  size_t *first;    /* [n_parts] index of a part's first tensor */
  uint16_t *narrow; /* a row of weights in F16, of the widest part */
  clattn_kit_safetensors_writer *file;
};

/* Tensors of a layer. */
static size_t tensors_of(const clattn_attention_part *part) {
  size_t n = 0;
  for (int t = 0; t < CLATTN_ATTENTION_TENSORS; t++)
    n += attention_has(part, (clattn_attention_tensor)t);
  return n;
}

/* Where in the file's list a tensor of a layer stands. */
static size_t place_of(const attention_writer *writer, size_t part,
                       int64_t layer, clattn_attention_tensor tensor) {
  const clattn_attention_part *p = &writer->parts[part];
  size_t at = writer->first[part] + (size_t)layer * tensors_of(p);
  for (int t = 0; t < (int)tensor; t++)
    at += attention_has(p, (clattn_attention_tensor)t);
  return at;
}

/* Every tensor of every part and layer, [count] with names [count]. */
static void list_tensors(const attention_writer *writer,
                         clattn_kit_tensor *tensors,
                         char (*names)[ATTENTION_KEY_CHARS]) {
  size_t i = 0;
  for (size_t p = 0; p < writer->n_parts; p++) {
    const clattn_attention_part *part = &writer->parts[p];
    for (int64_t layer = 0; layer < part->layers; layer++)
      for (int t = 0; t < CLATTN_ATTENTION_TENSORS; t++)
        if (attention_has(part, (clattn_attention_tensor)t)) {
          tensors[i] = attention_tensor(part, layer, (clattn_attention_tensor)t,
                                        names[i]);
          i++;
        }
  }
}

static clattn_status open_file(attention_writer *writer, const char *path,
                               const attention_head *head, size_t count) {
  clattn_kit_tensor *tensors = calloc(count, sizeof *tensors);
  char(*names)[ATTENTION_KEY_CHARS] = calloc(count, sizeof *names);
  attention_metadata metadata = {0};
  clattn_status status = tensors && names
                             ? attention_metadata_make(head, &metadata)
                             : KIT_OUT_OF_MEMORY("attention file");
  if (status == CLATTN_OK) {
    list_tensors(writer, tensors, names);
    status = clattn_kit_safetensors_writer_create(
        path, tensors, count, metadata.entries, metadata.n, &writer->file);
  }
  attention_metadata_free(&metadata);
  free(names);
  free(tensors);
  return status;
}

static clattn_status make(attention_writer *writer, const char *path,
                          const attention_head *head) {
  writer->parts = head->parts;
  writer->n_parts = head->n_parts;
  writer->first = calloc(head->n_parts, sizeof *writer->first);
  if (writer->first == NULL) return KIT_OUT_OF_MEMORY("attention file");
  size_t count = 0;
  int64_t widest = 0;
  for (size_t i = 0; i < head->n_parts; i++) {
    const clattn_attention_part *part = &head->parts[i];
    size_t n;
    writer->first[i] = count;
    KIT_REQUIRE(
        !__builtin_mul_overflow((size_t)part->layers, tensors_of(part), &n) &&
            !__builtin_add_overflow(count, n, &count) &&
            count <= SIZE_MAX / 4096,
        "parts[%zu].layers: got %lld, more than a file can name", i,
        (long long)part->layers);
    if (part->keys.n > widest) widest = part->keys.n;
  }
  writer->narrow = calloc((size_t)widest, sizeof *writer->narrow);
  if (writer->narrow == NULL) return KIT_OUT_OF_MEMORY("attention file");
  return open_file(writer, path, head, count);
}

clattn_status attention_writer_create(const char *path,
                                      const attention_head *head,
                                      attention_writer **writer) {
  *writer = NULL;
  attention_writer *made = calloc(1, sizeof *made);
  if (made == NULL) return KIT_OUT_OF_MEMORY("attention file");
  const clattn_status status = make(made, path, head);
  if (status != CLATTN_OK) {
    attention_writer_destroy(made);
    return status;
  }
  *writer = made;
  return CLATTN_OK;
}

/* Numbers that F16 would make infinite; those that are, stay. */
static clattn_status check_narrow(const char *name, const float *weights,
                                  size_t m) {
  for (size_t key = 0; key < m; key++)
    KIT_REQUIRE(fabsf(weights[key]) <= MOST_NARROW || !isfinite(weights[key]),
                "%s: got %.9g, want numbers up to %g in F16, or F32", name,
                (double)weights[key], (double)MOST_NARROW);
  return CLATTN_OK;
}

/* weights [rows, m] into tensor i of that name, in F16. */
static clattn_status put_narrow(attention_writer *writer, size_t i,
                                const char *name, const float *weights,
                                size_t rows, size_t m) {
  for (size_t row = 0; row < rows; row++) {
    KIT_TRY(check_narrow(name, weights + row * m, m));
    KIT_TRY(clattn_convert(CLATTN_F32, weights + row * m, CLATTN_F16,
                           writer->narrow, m));
    KIT_TRY(clattn_kit_safetensors_writer_put(writer->file, i, writer->narrow,
                                              m * sizeof *writer->narrow));
  }
  return CLATTN_OK;
}

clattn_status attention_writer_put(attention_writer *writer, size_t part,
                                   int64_t layer,
                                   clattn_attention_tensor tensor,
                                   const void *values) {
  char name[ATTENTION_KEY_CHARS];
  const clattn_kit_tensor t =
      attention_tensor(&writer->parts[part], layer, tensor, name);
  const size_t i = place_of(writer, part, layer, tensor);
  if (t.dtype == CLATTN_KIT_F16)
    return put_narrow(writer, i, name, values,
                      (size_t)(t.extent[0] * t.extent[1]), (size_t)t.extent[2]);
  return clattn_kit_safetensors_writer_put(
      writer->file, i, values,
      (size_t)clattn_kit_tensor_elements(&t) * sizeof(float));
}

clattn_status attention_writer_finish(attention_writer *writer) {
  return clattn_kit_safetensors_writer_finish(writer->file);
}

void attention_writer_destroy(attention_writer *writer) {
  if (writer == NULL) return;
  clattn_kit_safetensors_writer_destroy(writer->file);
  free(writer->first);
  free(writer->narrow);
  free(writer);
}
