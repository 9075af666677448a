/* gguf_bytes.c - builds GGUF files in memory, for tests. */
#include "gguf_bytes.h"

#include <stdlib.h>
#include <string.h>

enum { TENSORS_AT = 8, ENTRIES_AT = 16 }; /* the counts in the file's head */

static void append(uint8_t **bytes, size_t *n, size_t *room, const void *more,
                   size_t count) {
  while (*n + count > *room) {
    *room = *room ? 2 * *room : 256;
    *bytes = realloc(*bytes, *room);
    if (*bytes == NULL) abort();
  }
  if (count != 0) memcpy(*bytes + *n, more, count);
  *n += count;
}

static void put(gb_file *file, const void *more, size_t count) {
  append(&file->bytes, &file->n, &file->room, more, count);
}

void gb_number(gb_file *file, uint64_t value, size_t bytes) {
  put(file, &value, bytes); /* little-endian, as the machine */
}

void gb_text(gb_file *file, const char *text) {
  gb_number(file, strlen(text), 8);
  put(file, text, strlen(text));
}

void gb_begin(gb_file *file, uint32_t version) {
  *file = (gb_file){.alignment = 32};
  put(file, "GGUF", 4);
  gb_number(file, version, 4);
  gb_number(file, 0, 8);
  gb_number(file, 0, 8);
}

void gb_free(gb_file *file) {
  free(file->bytes);
  free(file->data);
  *file = (gb_file){0};
}

static void count(gb_file *file, size_t at) {
  uint64_t n;
  memcpy(&n, file->bytes + at, 8);
  n++;
  memcpy(file->bytes + at, &n, 8);
}

static void begin_entry(gb_file *file, const char *key, uint32_t type) {
  count(file, ENTRIES_AT);
  gb_text(file, key);
  gb_number(file, type, 4);
}

void gb_add_text(gb_file *file, const char *key, const char *text) {
  begin_entry(file, key, GB_TEXT);
  gb_text(file, text);
}

void gb_add_number(gb_file *file, const char *key, uint32_t type,
                   uint64_t bits) {
  static const uint8_t bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  begin_entry(file, key, type);
  gb_number(file, bits, bytes[type]);
}

void gb_add_f32(gb_file *file, const char *key, float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  gb_add_number(file, key, GB_F32, bits);
}

void gb_add_texts(gb_file *file, const char *key, const char *const *texts,
                  size_t n) {
  begin_entry(file, key, GB_LIST);
  gb_number(file, GB_TEXT, 4);
  gb_number(file, n, 8);
  for (size_t i = 0; i < n; i++) gb_text(file, texts[i]);
}

void gb_add_numbers(gb_file *file, const char *key, uint32_t type,
                    const void *values, size_t value_bytes, size_t n) {
  begin_entry(file, key, GB_LIST);
  gb_number(file, type, 4);
  gb_number(file, n, 8);
  put(file, values, n * value_bytes);
}

static void pad_data(gb_file *file) {
  while (file->n_data % file->alignment != 0)
    append(&file->data, &file->n_data, &file->data_room, "\0", 1);
}

void gb_add_tensor(gb_file *file, const char *name, uint32_t type, int rank,
                   const int64_t *extent, const void *data, size_t n) {
  pad_data(file);
  count(file, TENSORS_AT);
  gb_text(file, name);
  gb_number(file, (uint64_t)rank, 4);
  for (int d = rank - 1; d >= 0; d--) gb_number(file, (uint64_t)extent[d], 8);
  gb_number(file, type, 4);
  gb_number(file, file->n_data, 8);
  append(&file->data, &file->n_data, &file->data_room, data, n);
}

void gb_finish(gb_file *file) {
  while (file->n % file->alignment != 0) put(file, "\0", 1);
  put(file, file->data, file->n_data);
}
