/* gguf_bytes.h - builds GGUF files in memory, for tests: good ones, and bad ones
 * by changing their bytes afterwards. Aborts where memory or room is lacking. */
#ifndef GGUF_BYTES_H
#define GGUF_BYTES_H

#include <stddef.h>
#include <stdint.h>

/* Types of metadata, as files number them. */
enum {
  GB_U8,
  GB_I8,
  GB_U16,
  GB_I16,
  GB_U32,
  GB_I32,
  GB_F32,
  GB_BOOL,
  GB_TEXT,
  GB_LIST,
  GB_U64,
  GB_I64,
  GB_F64
};

typedef struct gb_file {
  uint8_t *bytes;
  size_t n, room;
  uint8_t *data; /* of the tensors, appended by gb_finish */
  size_t n_data, data_room;
  uint32_t alignment; /* 32 unless the metadata says another */
} gb_file;

void gb_begin(gb_file *file, uint32_t version);
void gb_free(gb_file *file);

/* The parts of which the rest is made. */
void gb_number(gb_file *file, uint64_t value, size_t bytes);
void gb_text(gb_file *file, const char *text);

/* Metadata, before any tensor; each counts itself in the file's head. */
void gb_add_text(gb_file *file, const char *key, const char *text);
/* bits of a number of that type. */
void gb_add_number(gb_file *file, const char *key, uint32_t type,
                   uint64_t bits);
void gb_add_f32(gb_file *file, const char *key, float value);
void gb_add_texts(gb_file *file, const char *key, const char *const *texts,
                  size_t n);
void gb_add_numbers(gb_file *file, const char *key, uint32_t type,
                    const void *values, size_t value_bytes, size_t n);
/* extent is row-major, as everywhere else; n bytes of data. */
void gb_add_tensor(gb_file *file, const char *name, uint32_t type, int rank,
                   const int64_t *extent, const void *data, size_t n);
/* Appends the data. */
void gb_finish(gb_file *file);

#endif
