/* gguf.c - reads GGUF files, version 2 and 3.
 *
 *   "GGUF"  u32 version  u64 tensors  u64 entries of metadata
 *   entries of metadata: key, u32 type, value
 *   tensors: name, u32 rank, u64 extents (innermost first), u32 type, u64 offset
 *   padding to the alignment, then the tensors' bytes
 *
 * A text is u64 length and bytes; numbers are little-endian and at any alignment.
 * A file is input from anywhere, so nothing in it is believed: every count is
 * held against the bytes that are left before memory is taken for it. */
#include "gguf.h"

#include <stdlib.h>
#include <string.h>

#include "map.h"
#include "quantised.h"

#define DEFAULT_ALIGNMENT 32u
#define MAX_ALIGNMENT (1u << 20)
#define MAX_NAME_BYTES 65535u /* of keys and tensors */
#define MAX_NESTING 4         /* lists of lists */
/* The fewest bytes that an entry and a tensor take in a file. */
#define MIN_ENTRY_BYTES 13u
#define MIN_TENSOR_BYTES 24u

/* X(name, number, bytes of a value; 0: its bytes say) */
#define VALUE_MAP(X)                                                           \
  X(U8, 0, 1)                                                                  \
  X(I8, 1, 1)                                                                  \
  X(U16, 2, 2)                                                                 \
  X(I16, 3, 2)                                                                 \
  X(U32, 4, 4)                                                                 \
  X(I32, 5, 4)                                                                 \
  X(F32, 6, 4)                                                                 \
  X(BOOL, 7, 1)                                                                \
  X(TEXT, 8, 0)                                                                \
  X(LIST, 9, 0)                                                                \
  X(U64, 10, 8)                                                                \
  X(I64, 11, 8)                                                                \
  X(F64, 12, 8)

enum {
#define X(name, number, size) VALUE_##name = number,
  VALUE_MAP(X)
#undef X
      VALUE_TYPES
};

static const size_t value_bytes[VALUE_TYPES] = {
#define X(name, number, size) [number] = size,
    VALUE_MAP(X)
#undef X
};

typedef struct gguf_entry {
  char *key;
  uint32_t type;
  const unsigned char *at; /* a number's bytes, or a list's first item   */
  char *text;              /* terminated; NULL: no text                  */
  /* of a list */
  uint32_t item_type;
  size_t items;
  const unsigned char **texts; /* [items] each at its length; of texts alone */
} gguf_entry;

struct kit_gguf {
  void *map;
  size_t map_bytes;
  gguf_entry *entries; /* [n_entries], sorted by key once all are read */
  size_t n_entries;
  clattn_weights_tensor *tensors; /* [n_tensors] */
  size_t n_tensors;
};

/* ---- reading ------------------------------------------------------------- */

typedef struct gguf_reader {
  const unsigned char *at, *end;
} gguf_reader;

static size_t left(const gguf_reader *reader) {
  return (size_t)(reader->end - reader->at);
}

static bool take(gguf_reader *reader, size_t n, const unsigned char **bytes) {
  if (left(reader) < n) return false;
  *bytes = reader->at;
  reader->at += n;
  return true;
}

static uint64_t little_endian(const unsigned char *bytes, size_t n) {
  uint64_t value = 0;
  for (size_t i = 0; i < n; i++) value |= (uint64_t)bytes[i] << (8 * i);
  return value;
}

static bool read_u32(gguf_reader *reader, uint32_t *value) {
  const unsigned char *bytes;
  if (!take(reader, 4, &bytes)) return false;
  *value = (uint32_t)little_endian(bytes, 4);
  return true;
}

static bool read_u64(gguf_reader *reader, uint64_t *value) {
  const unsigned char *bytes;
  if (!take(reader, 8, &bytes)) return false;
  *value = little_endian(bytes, 8);
  return true;
}

static bool read_text(gguf_reader *reader, const unsigned char **bytes,
                      size_t *n) {
  uint64_t length;
  if (!read_u64(reader, &length) || length > left(reader)) return false;
  *n = (size_t)length;
  return take(reader, *n, bytes);
}

static char *terminated(const unsigned char *bytes, size_t n) {
  char *text = malloc(n + 1);
  if (text == NULL) return NULL;
  memcpy(text, bytes, n);
  text[n] = '\0';
  return text;
}

/* A name of an entry or a tensor; *name is the caller's to free. Control
 * characters would reach terminals through messages. */
static clattn_status read_name(gguf_reader *reader, const char *of, size_t i,
                               char **name) {
  const unsigned char *bytes;
  size_t n;
  if (!read_text(reader, &bytes, &n))
    return KIT_BAD("%s %zu: its name is beyond the end", of, i);
  if (n == 0 || n > MAX_NAME_BYTES)
    return KIT_BAD("%s %zu: a name of %zu bytes, want 1..%u", of, i, n,
                   MAX_NAME_BYTES);
  for (size_t c = 0; c < n; c++)
    if (bytes[c] < 0x20 || bytes[c] == 0x7f)
      return KIT_BAD("%s %zu: byte 0x%02x in its name", of, i, bytes[c]);
  *name = terminated(bytes, n);
  return *name == NULL ? KIT_OUT_OF_MEMORY("gguf") : CLATTN_OK;
}

static clattn_status read_list(gguf_reader *reader, gguf_entry *entry,
                               int nesting);

/* Passes over a value and notes where it is. */
static clattn_status read_value(gguf_reader *reader, uint32_t type,
                                gguf_entry *entry, int nesting) {
  if (type >= VALUE_TYPES)
    return KIT_BAD("metadata '%.200s': unknown type %u", entry->key, type);
  if (type == VALUE_LIST) return read_list(reader, entry, nesting);
  size_t n = value_bytes[type];
  const bool there = type == VALUE_TEXT ? read_text(reader, &entry->at, &n)
                                        : take(reader, n, &entry->at);
  if (!there)
    return KIT_BAD("metadata '%.200s': its value is beyond the end",
                   entry->key);
  /* With a NUL inside, the text would seem to end there. */
  if (type == VALUE_TEXT && nesting == 0 && memchr(entry->at, 0, n) == NULL) {
    entry->text = terminated(entry->at, n);
    if (entry->text == NULL) return KIT_OUT_OF_MEMORY("gguf");
  }
  return CLATTN_OK;
}

static clattn_status read_list(gguf_reader *reader, gguf_entry *entry,
                               int nesting) {
  uint32_t type;
  uint64_t items;
  if (!read_u32(reader, &type) || !read_u64(reader, &items))
    return KIT_BAD("metadata '%.200s': its list is beyond the end", entry->key);
  if (type >= VALUE_TYPES)
    return KIT_BAD("metadata '%.200s': unknown type %u of items", entry->key,
                   type);
  if (nesting == MAX_NESTING)
    return KIT_BAD("metadata '%.200s': lists nested more than %d deep",
                   entry->key, MAX_NESTING);
  /* The fewest bytes of an item: a text has its length, a list its head. */
  const size_t size = value_bytes[type] != 0 ? value_bytes[type]
                      : type == VALUE_TEXT   ? 8
                                             : 12;
  if (items > left(reader) / size)
    return KIT_BAD("metadata '%.200s': %llu items are beyond the end",
                   entry->key, (unsigned long long)items);
  const unsigned char *begin = reader->at;
  if (value_bytes[type] != 0) {
    reader->at += (size_t)items * size;
  } else {
    /* Items of items are passed over; only those of the outermost are noted. */
    const bool noted = nesting == 0 && type == VALUE_TEXT;
    if (noted) {
      entry->texts = calloc((size_t)items + 1, sizeof *entry->texts);
      if (entry->texts == NULL) return KIT_OUT_OF_MEMORY("gguf");
    }
    for (uint64_t i = 0; i < items; i++) {
      if (noted) entry->texts[i] = reader->at;
      KIT_TRY(read_value(reader, type, entry, nesting + 1));
    }
  }
  if (nesting == 0) {
    entry->at = begin;
    entry->item_type = type;
    entry->items = (size_t)items;
  }
  return CLATTN_OK;
}

static int by_key(const void *a, const void *b) {
  return strcmp(((const gguf_entry *)a)->key, ((const gguf_entry *)b)->key);
}

static clattn_status read_metadata(kit_gguf *gguf, gguf_reader *reader,
                                   uint64_t n) {
  if (n > left(reader) / MIN_ENTRY_BYTES)
    return KIT_BAD("%llu entries of metadata are beyond the end",
                   (unsigned long long)n);
  gguf->entries = calloc((size_t)n + 1, sizeof *gguf->entries);
  if (gguf->entries == NULL) return KIT_OUT_OF_MEMORY("gguf");
  for (size_t i = 0; i < n; i++) {
    gguf_entry *entry = &gguf->entries[i];
    KIT_TRY(read_name(reader, "metadata", i, &entry->key));
    gguf->n_entries++;
    if (!read_u32(reader, &entry->type))
      return KIT_BAD("metadata '%.200s': its type is beyond the end",
                     entry->key);
    KIT_TRY(read_value(reader, entry->type, entry, 0));
  }
  qsort(gguf->entries, gguf->n_entries, sizeof *gguf->entries, by_key);
  for (size_t i = 1; i < gguf->n_entries; i++)
    if (by_key(&gguf->entries[i - 1], &gguf->entries[i]) == 0)
      return KIT_BAD("metadata '%.200s' is there twice", gguf->entries[i].key);
  return CLATTN_OK;
}

/* ---- tensors ------------------------------------------------------------- */

/* All of one tensor but where its bytes are: *offset, from the first one's. */
static clattn_status read_tensor(gguf_reader *reader, size_t i,
                                 clattn_weights_tensor *tensor,
                                 uint64_t *offset) {
  char *name;
  KIT_TRY(read_name(reader, "tensor", i, &name));
  tensor->name = name;
  uint32_t rank, type;
  if (!read_u32(reader, &rank))
    return KIT_BAD("tensor '%.200s': its rank is beyond the end", name);
  if (rank > CLATTN_KIT_MAX_RANK)
    return KIT_BAD("tensor '%.200s': rank %u, at most %d is read", name, rank,
                   CLATTN_KIT_MAX_RANK);
  tensor->rank = (int)rank;
  int64_t elements = 1;
  for (uint32_t d = 0; d < rank; d++) {
    uint64_t extent;
    if (!read_u64(reader, &extent))
      return KIT_BAD("tensor '%.200s': its shape is beyond the end", name);
    if (extent > INT64_MAX ||
        __builtin_mul_overflow(elements, (int64_t)extent, &elements))
      return KIT_BAD("tensor '%.200s': the product of its shape overflows",
                     name);
    tensor->extent[rank - 1 - d] = (int64_t)extent; /* a row's comes last */
  }
  if (!read_u32(reader, &type) || !read_u64(reader, offset))
    return KIT_BAD("tensor '%.200s': its place is beyond the end", name);
  const kit_block *block = kit_block_of_ggml(type);
  tensor->type = block->name;
  if (block->bytes == 0) return CLATTN_OK; /* how many it takes is unknown */
  const int64_t row = rank == 0 ? 1 : tensor->extent[rank - 1];
  if (row % block->elements != 0)
    return KIT_BAD("tensor '%.200s': rows of %lld, want a multiple of %d (%s)",
                   name, (long long)row, block->elements, block->name);
  int64_t bytes;
  if (__builtin_mul_overflow(elements / block->elements, (int64_t)block->bytes,
                             &bytes))
    return KIT_BAD("tensor '%.200s': the bytes of its shape overflow", name);
  tensor->size_bytes = (size_t)bytes;
  return CLATTN_OK;
}

/* alignment: of the place of every tensor. */
static clattn_status read_alignment(const kit_gguf *gguf, uint64_t *alignment) {
  double number = DEFAULT_ALIGNMENT;
  kit_gguf_number(gguf, "general.alignment", &number);
  if (!(number >= 1 && number <= MAX_ALIGNMENT) ||
      ((uint32_t)number & ((uint32_t)number - 1)) != 0 ||
      number != (uint32_t)number)
    return KIT_BAD("general.alignment: got %g, want a power of two up to %u",
                   number, MAX_ALIGNMENT);
  *alignment = (uint64_t)number;
  return CLATTN_OK;
}

static int by_name(const void *a, const void *b) {
  return strcmp((*(const clattn_weights_tensor *const *)a)->name,
                (*(const clattn_weights_tensor *const *)b)->name);
}

static int by_place(const void *a, const void *b) {
  const clattn_weights_tensor *x = *(const clattn_weights_tensor *const *)a;
  const clattn_weights_tensor *y = *(const clattn_weights_tensor *const *)b;
  const unsigned char *p = x->data, *q = y->data;
  if (p != q) return p < q ? -1 : 1;
  return x->size_bytes < y->size_bytes ? -1 : x->size_bytes > y->size_bytes;
}

/* No name twice, no byte of two tensors. */
static clattn_status check_apart(const kit_gguf *gguf) {
  const size_t n = gguf->n_tensors;
  const clattn_weights_tensor **order = calloc(n + 1, sizeof *order);
  if (order == NULL) return KIT_OUT_OF_MEMORY("gguf");
  clattn_status status = CLATTN_OK;
  for (size_t i = 0; i < n; i++) order[i] = &gguf->tensors[i];
  qsort(order, n, sizeof *order, by_name);
  for (size_t i = 1; i < n && status == CLATTN_OK; i++)
    if (by_name(&order[i - 1], &order[i]) == 0)
      status = KIT_BAD("tensor '%.200s' is there twice", order[i]->name);
  qsort(order, n, sizeof *order, by_place);
  for (size_t i = 1; i < n && status == CLATTN_OK; i++) {
    const unsigned char *end =
        (const unsigned char *)order[i - 1]->data + order[i - 1]->size_bytes;
    if ((const unsigned char *)order[i]->data < end)
      status = KIT_BAD("tensor '%.200s' overlaps '%.200s'", order[i]->name,
                       order[i - 1]->name);
  }
  free(order);
  return status;
}

static clattn_status read_tensors(kit_gguf *gguf, gguf_reader *reader,
                                  uint64_t n) {
  if (n > left(reader) / MIN_TENSOR_BYTES)
    return KIT_BAD("%llu tensors are beyond the end", (unsigned long long)n);
  uint64_t alignment = DEFAULT_ALIGNMENT;
  KIT_TRY(read_alignment(gguf, &alignment));
  gguf->tensors = calloc((size_t)n + 1, sizeof *gguf->tensors);
  uint64_t *offsets = calloc((size_t)n + 1, sizeof *offsets);
  clattn_status status = CLATTN_OK;
  if (gguf->tensors == NULL || offsets == NULL)
    status = KIT_OUT_OF_MEMORY("gguf");
  for (size_t i = 0; i < n && status == CLATTN_OK; i++) {
    gguf->n_tensors++; /* its name is freed, whatever comes */
    status = read_tensor(reader, i, &gguf->tensors[i], &offsets[i]);
  }
  /* The first tensor begins at the alignment, counted from the file's start. */
  const unsigned char *start = gguf->map;
  const uint64_t head = (uint64_t)(reader->at - start);
  const uint64_t data = (head + alignment - 1) / alignment * alignment;
  const uint64_t data_bytes =
      data < gguf->map_bytes ? gguf->map_bytes - data : 0;
  for (size_t i = 0; i < n && status == CLATTN_OK; i++) {
    clattn_weights_tensor *tensor = &gguf->tensors[i];
    if (offsets[i] % alignment != 0)
      status = KIT_BAD("tensor '%.200s': offset %llu, want a multiple of %llu",
                       tensor->name, (unsigned long long)offsets[i],
                       (unsigned long long)alignment);
    else if (offsets[i] > data_bytes ||
             tensor->size_bytes > data_bytes - offsets[i])
      status = KIT_BAD(
          "tensor '%.200s': %zu bytes at offset %llu are outside the %llu "
          "bytes of data",
          tensor->name, tensor->size_bytes, (unsigned long long)offsets[i],
          (unsigned long long)data_bytes);
    else /* without data, no tensor has bytes */
      tensor->data = data_bytes == 0 ? start : start + data + offsets[i];
  }
  free(offsets);
  return status == CLATTN_OK ? check_apart(gguf) : status;
}

/* ---- the file ------------------------------------------------------------ */

static clattn_status read_all(kit_gguf *gguf) {
  gguf_reader reader = {gguf->map,
                        (const unsigned char *)gguf->map + gguf->map_bytes};
  const unsigned char *magic;
  uint32_t version;
  uint64_t tensors, entries;
  if (!take(&reader, 4, &magic) || memcmp(magic, "GGUF", 4) != 0)
    return KIT_BAD("does not begin with GGUF");
  if (!read_u32(&reader, &version) || !read_u64(&reader, &tensors) ||
      !read_u64(&reader, &entries))
    return KIT_BAD("%zu bytes are too few for a GGUF file", gguf->map_bytes);
  if (version != 2 && version != 3)
    return clattn_set_error(
        CLATTN_UNSUPPORTED,
        "GGUF version: got %u, want 2 or 3 in little-endian order", version);
  KIT_TRY(read_metadata(gguf, &reader, entries));
  return read_tensors(gguf, &reader, tensors);
}

clattn_status kit_gguf_open(const char *path, kit_gguf **gguf) {
  kit_gguf *made = calloc(1, sizeof *made);
  if (made == NULL) return KIT_OUT_OF_MEMORY("gguf");
  clattn_status status = kit_map_file(path, &made->map, &made->map_bytes);
  if (status != CLATTN_OK) {
    free(made);
    return status;
  }
  status = read_all(made);
  if (status != CLATTN_OK) {
    kit_gguf_destroy(made);
    return kit_error_in(path, status);
  }
  *gguf = made;
  return CLATTN_OK;
}

void kit_gguf_destroy(kit_gguf *gguf) {
  if (gguf == NULL) return;
  for (size_t i = 0; i < gguf->n_entries; i++) {
    free(gguf->entries[i].key);
    free(gguf->entries[i].text);
    free(gguf->entries[i].texts);
  }
  for (size_t i = 0; i < gguf->n_tensors; i++)
    free((char *)gguf->tensors[i].name);
  free(gguf->entries);
  free(gguf->tensors);
  kit_unmap_file(gguf->map, gguf->map_bytes);
  free(gguf);
}

const clattn_weights_tensor *kit_gguf_tensors(const kit_gguf *gguf,
                                              size_t *count) {
  *count = gguf->n_tensors;
  return gguf->tensors;
}

/* ---- metadata ------------------------------------------------------------ */

static const gguf_entry *lookup(const kit_gguf *gguf, const char *key) {
  const gguf_entry wanted = {.key = (char *)key};
  return bsearch(&wanted, gguf->entries, gguf->n_entries, sizeof wanted,
                 by_key);
}

/* false: not a number. */
static bool number_at(uint32_t type, const unsigned char *at, double *number) {
  const uint64_t bits = little_endian(at, value_bytes[type]);
  const uint32_t low = (uint32_t)bits;
  float real;
  switch (type) {
    case VALUE_I8:
      *number = (int8_t)bits;
      return true;
    case VALUE_I16:
      *number = (int16_t)bits;
      return true;
    case VALUE_I32:
      *number = (int32_t)bits;
      return true;
    case VALUE_I64:
      *number = (double)(int64_t)bits;
      return true;
    case VALUE_F32:
      memcpy(&real, &low, sizeof real);
      *number = real;
      return true;
    case VALUE_F64:
      memcpy(number, &bits, sizeof *number);
      return true;
    case VALUE_BOOL:
      *number = bits != 0;
      return true;
    case VALUE_TEXT:
    case VALUE_LIST:
      return false;
    default: /* unsigned */
      *number = (double)bits;
      return true;
  }
}

const char *kit_gguf_text(const kit_gguf *gguf, const char *key) {
  const gguf_entry *entry = lookup(gguf, key);
  return entry == NULL ? NULL : entry->text;
}

bool kit_gguf_number(const kit_gguf *gguf, const char *key, double *number) {
  const gguf_entry *entry = lookup(gguf, key);
  return entry != NULL && number_at(entry->type, entry->at, number);
}

/* The list of that name; NULL if there is no item i. */
static const gguf_entry *lookup_item(const kit_gguf *gguf, const char *key,
                                     size_t i) {
  const gguf_entry *entry = lookup(gguf, key);
  return entry != NULL && i < entry->items ? entry : NULL;
}

size_t kit_gguf_list(const kit_gguf *gguf, const char *key) {
  const gguf_entry *entry = lookup(gguf, key);
  return entry == NULL ? 0 : entry->items;
}

const char *kit_gguf_list_text(const kit_gguf *gguf, const char *key, size_t i,
                               size_t *size_bytes) {
  const gguf_entry *entry = lookup_item(gguf, key, i);
  if (entry == NULL || entry->texts == NULL) return NULL;
  *size_bytes = (size_t)little_endian(entry->texts[i], 8);
  return (const char *)entry->texts[i] + 8;
}

bool kit_gguf_list_number(const kit_gguf *gguf, const char *key, size_t i,
                          double *number) {
  const gguf_entry *entry = lookup_item(gguf, key, i);
  return entry != NULL &&
         number_at(entry->item_type,
                   entry->at + i * value_bytes[entry->item_type], number);
}
