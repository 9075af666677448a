/* Weights of checkpoints: files that lie about themselves, shards, blocks. */
#define _POSIX_C_SOURCE 200809L /* mkdtemp */
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "../support/gguf_bytes.h"
#include "../support/harness.h"
#include "clattn_model.h"

/* ---- a folder of files ----------------------------------------------------- */

typedef struct folder {
  char path[64];
} folder;

static folder make_folder(void) {
  folder made = {"/tmp/clattn-weights-XXXXXX"};
  cr_assert(mkdtemp(made.path));
  return made;
}

static void remove_folder(const folder *folder) {
  char command[96];
  snprintf(command, sizeof command, "rm -rf %s", folder->path);
  cr_expect_eq(system(command), 0);
}

static const char *in(const folder *folder, const char *name) {
  static char path[4][192];
  static int next;
  char *made = path[next++ % 4];
  snprintf(made, sizeof path[0], "%s/%s", folder->path, name);
  return made;
}

static void write_bytes(const char *path, const void *bytes, size_t n) {
  FILE *file = fopen(path, "wb");
  cr_assert(file);
  cr_assert_eq(fwrite(bytes, 1, n, file), n);
  cr_assert_eq(fclose(file), 0);
}

static clattn_status try_open(const char *path) {
  clattn_weights *weights = (clattn_weights *)&path;
  const clattn_status status = clattn_weights_open(path, &weights);
  if (status != CLATTN_OK) {
    cr_expect_null(weights);
    cr_expect_gt(strlen(clattn_error_message()), 0);
    return status;
  }
  /* What it lets through, it can hand out. */
  for (size_t i = 0; i < clattn_weights_count(weights); i++) {
    clattn_weights_tensor tensor, again;
    TH_OK(clattn_weights_at(weights, i, &tensor));
    TH_OK(clattn_weights_find(weights, tensor.name, &again));
    int64_t n = 1;
    for (int d = 0; d < tensor.rank; d++) n *= tensor.extent[d];
    float *values =
        tensor.size_bytes == 0 ? NULL : malloc((size_t)n * sizeof *values);
    if (values != NULL) clattn_weights_read(&tensor, CLATTN_F32, values);
    free(values);
  }
  for (size_t i = 0; i < 4; i++) {
    size_t n;
    double number;
    clattn_weights_list_text(weights, "words", i, &n);
    clattn_weights_list_number(weights, "numbers", i, &number);
  }
  clattn_weights_destroy(weights);
  return CLATTN_OK;
}

/* Opens the folder's file with these bytes. */
static clattn_status try_bytes(const folder *folder, const void *bytes,
                               size_t n) {
  const char *path = in(folder, "file.gguf");
  write_bytes(path, bytes, n);
  return try_open(path);
}

static void expect_message(const char *part) {
  cr_expect(strstr(clattn_error_message(), part), "'%s' not in: %s", part,
            clattn_error_message());
}

/* ---- GGUF ------------------------------------------------------------------- */

Test(weights, gguf_metadata) {
  const folder folder = make_folder();
  gb_file file;
  gb_begin(&file, 3);
  gb_add_text(&file, "general.architecture", "llama");
  gb_add_text(&file, "empty", "");
  gb_add_number(&file, "u8", GB_U8, 255);
  gb_add_number(&file, "i8", GB_I8, (uint8_t)-3);
  gb_add_number(&file, "u16", GB_U16, 65535);
  gb_add_number(&file, "i16", GB_I16, (uint16_t)-300);
  gb_add_number(&file, "u32", GB_U32, 4000000000u);
  gb_add_number(&file, "i32", GB_I32, (uint32_t)-70000);
  gb_add_number(&file, "u64", GB_U64, (uint64_t)1 << 40);
  gb_add_number(&file, "i64", GB_I64, (uint64_t)-5);
  gb_add_number(&file, "yes", GB_BOOL, 1);
  gb_add_number(&file, "no", GB_BOOL, 0);
  gb_add_f32(&file, "f32", 1e-5f);
  double tenth = 0.1;
  uint64_t bits;
  memcpy(&bits, &tenth, 8);
  gb_add_number(&file, "f64", GB_F64, bits);
  const char *const words[] = {"a", "", "\xc4\xa0the"};
  gb_add_texts(&file, "words", words, 3);
  const float numbers[] = {1.5f, -2};
  gb_add_numbers(&file, "numbers", GB_F32, numbers, 4, 2);
  const int32_t whole[] = {7, -8, 9};
  gb_add_numbers(&file, "whole", GB_I32, whole, 4, 3);
  gb_add_numbers(&file, "none", GB_I32, whole, 4, 0);
  gb_finish(&file);
  const char *path = in(&folder, "file.gguf");
  write_bytes(path, file.bytes, file.n);
  gb_free(&file);

  clattn_weights *weights;
  TH_OK(clattn_weights_open(path, &weights));
  cr_expect_eq(clattn_weights_count(weights), 0);
  cr_expect_str_eq(clattn_weights_text(weights, "general.architecture"),
                   "llama");
  cr_expect_str_eq(clattn_weights_text(weights, "empty"), "");
  cr_expect_null(clattn_weights_text(weights, "u8"));
  cr_expect_null(clattn_weights_text(weights, "words"));
  cr_expect_null(clattn_weights_text(weights, "absent"));
  static const struct {
    const char *key;
    double value;
  } expected[] = {{"u8", 255},     {"i8", -3},   {"u16", 65535},
                  {"i16", -300},   {"u32", 4e9}, {"i32", -70000},
                  {"u64", 0x1p40}, {"i64", -5},  {"yes", 1},
                  {"no", 0},       {"f64", 0.1}, {"f32", 1e-5f}};
  for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
    double number = NAN;
    cr_expect(clattn_weights_number(weights, expected[i].key, &number));
    cr_expect_eq(number, expected[i].value, "%s", expected[i].key);
  }
  double number = 42;
  cr_expect_not(clattn_weights_number(weights, "absent", &number));
  cr_expect_not(clattn_weights_number(weights, "empty", &number));
  cr_expect_not(clattn_weights_number(weights, "words", &number));
  cr_expect_eq(number, 42);
  cr_expect_eq(clattn_weights_list(weights, "words"), 3);
  cr_expect_eq(clattn_weights_list(weights, "none"), 0);
  cr_expect_eq(clattn_weights_list(weights, "u8"), 0);
  for (size_t i = 0; i < 3; i++) {
    size_t n = 99;
    const char *text = clattn_weights_list_text(weights, "words", i, &n);
    cr_assert(text);
    cr_expect_eq(n, strlen(words[i]));
    cr_expect_eq(memcmp(text, words[i], n), 0);
    cr_expect(clattn_weights_list_number(weights, "whole", i, &number));
    cr_expect_eq(number, whole[i]);
  }
  size_t n = 99;
  cr_expect_null(clattn_weights_list_text(weights, "words", 3, &n));
  cr_expect_eq(n, 0);
  cr_expect_null(clattn_weights_list_text(weights, "whole", 0, &n));
  cr_expect_not(clattn_weights_list_number(weights, "words", 0, &number));
  cr_expect_not(clattn_weights_list_number(weights, "numbers", 2, &number));
  cr_expect(clattn_weights_list_number(weights, "numbers", 1, &number));
  cr_expect_eq(number, -2);
  clattn_weights_destroy(weights);
  remove_folder(&folder);
}

/* Blocks of random bytes beside the definition of each type, in double. */

static double half(const uint8_t *at) { return th_get(CLATTN_F16, at); }

static double nibble(const uint8_t *qs, int i) {
  return i < 16 ? qs[i] & 15 : qs[i - 16] >> 4;
}

static double fifth(const uint8_t *bits, int i) {
  return bits[i / 8] >> (i % 8) & 1 ? 16 : 0;
}

static double want_q4_0(const uint8_t *b, int i) {
  return half(b) * (nibble(b + 2, i) - 8);
}
static double want_q4_1(const uint8_t *b, int i) {
  return half(b) * nibble(b + 4, i) + half(b + 2);
}
static double want_q5_0(const uint8_t *b, int i) {
  return half(b) * (nibble(b + 6, i) + fifth(b + 2, i) - 16);
}
static double want_q5_1(const uint8_t *b, int i) {
  return half(b) * (nibble(b + 8, i) + fifth(b + 4, i)) + half(b + 2);
}
static double want_q8_0(const uint8_t *b, int i) {
  return half(b) * (b[2 + i] < 128 ? b[2 + i] : b[2 + i] - 256.0);
}

/* The 6 bits of a scale (which 0) or minimum (which 1) of part p, as a number
 * read from the 96 bits one by one. */
static double six_bits(const uint8_t *b, int p, int which) {
  if (p < 4) return b[p + 4 * which] % 64;
  const int low = which ? b[p + 4] / 16 : b[p + 4] % 16;
  return low + 16 * (b[p - 4 + 4 * which] / 64);
}
static double want_k(const uint8_t *b, const uint8_t *qs, const uint8_t *high,
                     int i) {
  const int part = i / 32, byte = part / 2 * 32 + i % 32;
  double q = part % 2 ? qs[byte] / 16 : qs[byte] % 16;
  if (high && (high[i % 32] & 1 << part)) q += 16;
  return half(b) * six_bits(b + 4, part, 0) * q -
         half(b + 2) * six_bits(b + 4, part, 1);
}
static double want_q4_k(const uint8_t *b, int i) {
  return want_k(b, b + 16, NULL, i);
}
static double want_q5_k(const uint8_t *b, int i) {
  return want_k(b, b + 48, b + 16, i);
}
static double want_q6_k(const uint8_t *b, int i) {
  const int n = i % 128, group = n / 32, column = n % 32;
  const uint8_t *low = b + i / 128 * 64, *high = b + 128 + i / 128 * 32;
  const uint8_t byte = low[column + (group & 1) * 32];
  const int q = (group >= 2 ? byte / 16 : byte % 16) +
                16 * (high[column] >> 2 * group & 3) - 32;
  return half(b + 208) * (double)(int8_t)b[192 + i / 16] * q;
}

Test(weights, gguf_blocks) {
  static const struct {
    const char *name;
    uint32_t number;
    int elements;
    size_t bytes;
    double (*want)(const uint8_t *block, int i);
    int scales[2]; /* where F16 numbers are; -1: none */
  } types[] = {{"Q4_0", 2, 32, 18, want_q4_0, {0, -1}},
               {"Q4_1", 3, 32, 20, want_q4_1, {0, 2}},
               {"Q5_0", 6, 32, 22, want_q5_0, {0, -1}},
               {"Q5_1", 7, 32, 24, want_q5_1, {0, 2}},
               {"Q8_0", 8, 32, 34, want_q8_0, {0, -1}},
               {"Q4_K", 12, 256, 144, want_q4_k, {0, 2}},
               {"Q5_K", 13, 256, 176, want_q5_k, {0, 2}},
               {"Q6_K", 14, 256, 210, want_q6_k, {208, -1}}};
  enum { ROWS = 3, TYPES = sizeof types / sizeof *types };
  const folder folder = make_folder();
  const char *path = in(&folder, "file"); /* found by what it holds */
  th_rng rng = {1};
  uint8_t blocks[TYPES][ROWS * 2 * 210];
  gb_file file;
  gb_begin(&file, 2);
  file.alignment = 64;
  gb_add_number(&file, "general.alignment", GB_U32, 64);
  for (int t = 0; t < TYPES; t++) {
    const size_t n = types[t].bytes * ROWS * 2;
    for (size_t i = 0; i < n; i++) blocks[t][i] = (uint8_t)th_next(&rng);
    for (int i = 0; i < ROWS * 2; i++) /* finite, of all signs and sizes */
      for (int s = 0; s < 2 && types[t].scales[s] >= 0; s++)
        th_put(CLATTN_F16,
               blocks[t] + (size_t)i * types[t].bytes + types[t].scales[s],
               th_uniform(&rng, -2, 2));
    gb_add_tensor(&file, types[t].name, types[t].number, 2,
                  (const int64_t[]){ROWS, 2 * types[t].elements}, blocks[t], n);
  }
  gb_finish(&file);
  write_bytes(path, file.bytes, file.n);
  gb_free(&file);

  clattn_weights *weights;
  TH_OK(clattn_weights_open(path, &weights));
  cr_assert_eq(clattn_weights_count(weights), TYPES);
  for (int t = 0; t < TYPES; t++) {
    clattn_weights_tensor tensor;
    TH_OK(clattn_weights_find(weights, types[t].name, &tensor));
    cr_expect_str_eq(tensor.type, types[t].name);
    cr_assert_eq(tensor.rank, 2);
    cr_expect_eq(tensor.extent[0], ROWS);
    cr_expect_eq(tensor.extent[1], 2 * types[t].elements);
    float wide[ROWS * 512];
    uint16_t narrow[ROWS * 512];
    TH_OK(clattn_weights_read(&tensor, CLATTN_F32, wide));
    TH_OK(clattn_weights_read(&tensor, CLATTN_BF16, narrow));
    for (int i = 0; i < ROWS * 2 * types[t].elements; i++) {
      const int b = i / types[t].elements;
      const double want = types[t].want(blocks[t] + (size_t)b * types[t].bytes,
                                        i % types[t].elements);
      cr_assert_eq(wide[i], (float)want, "%s[%d]: %.9g, want %.9g",
                   types[t].name, i, (double)wide[i], want);
      uint16_t rounded;
      th_put(CLATTN_BF16, &rounded, wide[i]);
      cr_assert_eq(narrow[i], rounded);
    }
  }
  clattn_weights_destroy(weights);
  remove_folder(&folder);
}

/* A small good file; where things are in it. */
static void small_gguf(gb_file *file) {
  gb_begin(file, 3);
  gb_add_text(file, "key", "text"); /* 24: length, "key", type */
  const char *const words[] = {"one", "two"};
  gb_add_texts(file, "words", words, 2);
  const int16_t numbers[] = {1, -1};
  gb_add_numbers(file, "numbers", GB_I16, numbers, 2, 2);
  const float x[6] = {1, 2, 3, 4, 5, 6};
  gb_add_tensor(file, "x", 0, 2, (const int64_t[]){3, 2}, x, sizeof x);
  uint8_t block[18] = {0, 0x3c};
  gb_add_tensor(file, "q", 2, 1, (const int64_t[]){32}, block, sizeof block);
  gb_finish(file);
}

Test(weights, gguf_that_are_wrong) {
  const folder folder = make_folder();
  gb_file file;
  const float x[64] = {0};
  const int64_t eight[] = {8};

#define WRONG(part, ...)                                                       \
  do {                                                                         \
    gb_begin(&file, 3);                                                        \
    __VA_ARGS__;                                                               \
    gb_finish(&file);                                                          \
    cr_expect_eq(try_bytes(&folder, file.bytes, file.n), CLATTN_IO_ERROR,      \
                 "accepted: %s", #__VA_ARGS__);                                \
    expect_message(part);                                                      \
    gb_free(&file);                                                            \
  } while (0)
#define TENSOR(name, type, rank, extent, n)                                    \
  gb_add_tensor(&file, name, type, rank, extent, x, n)

  WRONG("does not begin", memcpy(file.bytes, "GGML", 4));
  WRONG("entries", memset(file.bytes + 16, 255, 8));
  WRONG("entries", file.bytes[16] = 1);
  WRONG("tensors", memset(file.bytes + 8, 255, 8));
  WRONG("tensors", file.bytes[8] = 1);
  WRONG("twice", gb_add_text(&file, "a", "1"), gb_add_text(&file, "a", "2"));
  WRONG("0 bytes", gb_add_text(&file, "", "1"));
  WRONG("byte 0x1b", gb_add_text(&file, "a\x1b", "1"));
  WRONG("unknown type 13", gb_add_number(&file, "a", 0, 0),
        file.bytes[24 + 9] = 13);
  WRONG("beyond", gb_add_text(&file, "a", "1"),
        memset(file.bytes + 24 + 9 + 4, 255, 8));
  WRONG("items are beyond", gb_add_numbers(&file, "a", GB_I16, x, 2, 1),
        memset(file.bytes + 24 + 9 + 8, 255, 8));
  WRONG("unknown type 99", gb_add_numbers(&file, "a", 99, x, 2, 1));
  WRONG("alignment", gb_add_number(&file, "general.alignment", GB_U32, 24));
  WRONG("alignment", gb_add_number(&file, "general.alignment", GB_U32, 0));
  WRONG("alignment", gb_add_number(&file, "general.alignment", GB_I32, ~0u));
  WRONG("alignment", gb_add_f32(&file, "general.alignment", NAN));
  WRONG("alignment", gb_add_f32(&file, "general.alignment", 1e30f));
  WRONG("twice", TENSOR("a", 0, 1, eight, 32), TENSOR("a", 0, 1, eight, 32));
  WRONG("outside", TENSOR("a", 0, 1, eight, 31));
  WRONG("rank 9", TENSOR("a", 0, 9, (const int64_t[9]){0}, 0));
  WRONG("overflows", TENSOR("a", 0, 1, (const int64_t[]){-1}, 32));
  WRONG("overflow",
        TENSOR("a", 0, 2, ((const int64_t[]){INT64_MAX / 2, 2}), 32));
  WRONG("overflows",
        TENSOR("a", 0, 2,
               ((const int64_t[]){(int64_t)1 << 32, (int64_t)1 << 32}), 32));
  WRONG("multiple of 32 (Q4_0)", TENSOR("a", 2, 1, (const int64_t[]){33}, 36));
  WRONG("overlaps", TENSOR("a", 0, 1, eight, 0), TENSOR("b", 0, 1, eight, 32));
  WRONG("offset 8", TENSOR("a", 0, 1, eight, 32),
        file.bytes[24 + 9 + 4 + 8 + 4] = 8);
  /* Lists in lists cost no stack. */
  gb_begin(&file, 3);
  gb_add_numbers(&file, "a", GB_LIST, x, 0, 1);
  for (int i = 0; i < 1000; i++) {
    gb_number(&file, GB_LIST, 4);
    gb_number(&file, 1, 8);
  }
  cr_expect_eq(try_bytes(&folder, file.bytes, file.n), CLATTN_IO_ERROR);
  expect_message("nested");
  gb_free(&file);
  /* A file of another byte order, and of the first version. */
  for (uint32_t version = 1; version < 6; version += 3) {
    gb_begin(&file, version);
    cr_expect_eq(try_bytes(&folder, file.bytes, file.n), CLATTN_UNSUPPORTED);
    expect_message("version");
    gb_free(&file);
  }
  /* A type that is known by name alone does not close the file. */
  gb_begin(&file, 3);
  TENSOR("q2", 10, 1, (const int64_t[]){256}, 84);
  TENSOR("new", 1000, 1, eight, 32);
  TENSOR("x", 0, 1, eight, 32);
  gb_finish(&file);
  write_bytes(in(&folder, "file.gguf"), file.bytes, file.n);
  gb_free(&file);
  clattn_weights *weights;
  TH_OK(clattn_weights_open(in(&folder, "file.gguf"), &weights));
  clattn_weights_tensor tensor;
  float values[256];
  TH_OK(clattn_weights_find(weights, "q2", &tensor));
  cr_expect_eq(clattn_weights_read(&tensor, CLATTN_F32, values),
               CLATTN_UNSUPPORTED);
  expect_message("'q2': type Q2_K");
  TH_OK(clattn_weights_find(weights, "new", &tensor));
  cr_expect_eq(clattn_weights_read(&tensor, CLATTN_F32, values),
               CLATTN_UNSUPPORTED);
  TH_OK(clattn_weights_find(weights, "x", &tensor));
  TH_OK(clattn_weights_read(&tensor, CLATTN_F32, values));
  clattn_weights_destroy(weights);
  remove_folder(&folder);
}

/* Every prefix and single changed bytes of a good file, and hostile numbers at
 * every place: an answer, never a crash. */
Test(weights, gguf_fuzzed) {
  const folder folder = make_folder();
  gb_file file;
  small_gguf(&file);
  cr_assert_eq(try_bytes(&folder, file.bytes, file.n), CLATTN_OK, "%s",
               clattn_error_message());
  const size_t n = file.n;
  uint8_t *changed = malloc(n);
  for (size_t i = 0; i < n; i++)
    cr_expect_neq(try_bytes(&folder, file.bytes, i), CLATTN_OK,
                  "a prefix of %zu", i);
  static const uint64_t hostile[] = {0,
                                     1,
                                     12,
                                     UINT32_MAX,
                                     (uint64_t)1 << 31,
                                     INT64_MAX,
                                     UINT64_MAX,
                                     UINT64_MAX - 7,
                                     (uint64_t)1 << 61};
  for (size_t i = 4; i + 8 <= n; i++)
    for (size_t h = 0; h < sizeof hostile / sizeof *hostile; h++) {
      memcpy(changed, file.bytes, n);
      memcpy(changed + i, &hostile[h], 4 + 4 * (h % 2));
      try_bytes(&folder, changed, n);
    }
  th_rng rng = {5};
  for (int i = 0; i < 2000; i++) {
    memcpy(changed, file.bytes, n);
    for (int k = th_below(&rng, 3); k >= 0; k--)
      changed[th_below(&rng, (int)n)] ^= (uint8_t)(1u << th_below(&rng, 8));
    try_bytes(&folder, changed, n);
  }
  free(changed);
  gb_free(&file);
  remove_folder(&folder);
}

/* ---- safetensors -------------------------------------------------------------- */

static clattn_kit_tensor floats(const char *name, int64_t n,
                                const float *values) {
  return (clattn_kit_tensor){.name = name,
                             .dtype = CLATTN_KIT_F32,
                             .rank = 1,
                             .extent = {n},
                             .data = values,
                             .size_bytes = (size_t)n * sizeof *values};
}

static void write_text(const char *path, const char *text) {
  write_bytes(path, text, strlen(text));
}

Test(weights, shards) {
  const folder folder = make_folder();
  const float a[] = {1, 2, 3}, b[] = {4}, c[] = {5, 6};
  const clattn_kit_tensor first[] = {floats("a", 3, a), floats("left", 1, b)};
  const clattn_kit_tensor second[] = {floats("b", 1, b), floats("c", 2, c)};
  TH_OK(clattn_kit_safetensors_write(in(&folder, "one.safetensors"), first, 2,
                                     NULL, 0));
  TH_OK(clattn_kit_safetensors_write(in(&folder, "two.safetensors"), second, 2,
                                     NULL, 0));
  const char *index = in(&folder, "model.safetensors.index.json");
#define MAP(entries) "{\"metadata\":{},\"weight_map\":{" entries "}}"
#define GOOD                                                                   \
  "\"a\":\"one.safetensors\",\"c\":\"two.safetensors\","                       \
  "\"b\":\"two.safetensors\""
  write_text(index, MAP(GOOD));
  for (int i = 0; i < 2; i++) { /* by the index, by the folder */
    clattn_weights *weights;
    TH_OK(clattn_weights_open(i == 0 ? index : folder.path, &weights));
    cr_expect_eq(clattn_weights_count(weights),
                 3); /* "left" is not in the map */
    cr_expect_not(clattn_weights_has(weights, "left"));
    clattn_weights_tensor tensor;
    TH_OK(clattn_weights_find(weights, "c", &tensor));
    float values[2];
    TH_OK(clattn_weights_read(&tensor, CLATTN_F32, values));
    cr_expect_eq(values[1], 6);
    cr_expect_str_eq(tensor.type, "F32");
    cr_expect_eq(clattn_weights_find(weights, "d", &tensor),
                 CLATTN_INVALID_ARGUMENT);
    expect_message("'d'");
    double number;
    cr_expect_null(clattn_weights_text(weights, "format"));
    cr_expect_not(clattn_weights_number(weights, "format", &number));
    cr_expect_eq(clattn_weights_list(weights, "format"), 0);
    clattn_weights_destroy(weights);
  }
  static const struct {
    const char *json, *message;
  } wrong[] = {
      {"", "empty"},
      {"{", "not JSON"},
      {"[]", "weight_map"},
      {"{\"weight_map\":[]}", "weight_map"},
      {MAP("\"a\":1"), "'a' is not a string"},
      {MAP("\"a\":\"../one.safetensors\""), "beside the index"},
      {MAP("\"a\":\"/etc/hostname\""), "beside the index"},
      {MAP("\"a\":\"..\""), "beside the index"},
      {MAP("\"a\":\"\""), "beside the index"},
      {MAP("\"a\":\"three.safetensors\""), "three.safetensors"},
      {MAP("\"a\":\"model.safetensors.index.json\""), "header"},
      {MAP("\"a\":\"two.safetensors\""), "'a' is not in its shard"},
      {MAP(GOOD ",\"d\":\"one.safetensors\""), "'d' is not in its shard"},
      {MAP(GOOD ",\"a\":\"two.safetensors\""), "not JSON"},
  };
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    write_text(index, wrong[i].json);
    cr_expect_eq(try_open(index), CLATTN_IO_ERROR, "accepted: %s",
                 wrong[i].json);
    expect_message(wrong[i].message);
  }
  remove_folder(&folder);
}

Test(weights, folders) {
  const folder folder = make_folder();
  cr_expect_eq(try_open(in(&folder, "nothing")), CLATTN_IO_ERROR);
  cr_expect_eq(try_open(folder.path), CLATTN_IO_ERROR);
  expect_message("model.safetensors");
  gb_file file;
  small_gguf(&file);
  write_bytes(in(&folder, "a.gguf"), file.bytes, file.n);
  cr_expect_eq(try_open(folder.path), CLATTN_OK);
  write_bytes(in(&folder, "b.gguf"), file.bytes, file.n);
  cr_expect_eq(try_open(folder.path), CLATTN_IO_ERROR);
  expect_message("more than one");
  gb_free(&file);
  const clattn_kit_metadata entry = {"key", "text"};
  TH_OK(clattn_kit_safetensors_write(in(&folder, "model.safetensors"), NULL, 0,
                                     &entry, 1));
  clattn_weights *weights;
  TH_OK(clattn_weights_open(folder.path, &weights));
  cr_expect_str_eq(clattn_weights_text(weights, "key"), "text");
  clattn_weights_tensor tensor;
  cr_expect_eq(clattn_weights_at(weights, 0, &tensor), CLATTN_INVALID_ARGUMENT);
  clattn_weights_destroy(weights);
  cr_expect_eq(clattn_weights_open(NULL, &weights), CLATTN_INVALID_ARGUMENT);
  cr_expect_eq(clattn_weights_open(folder.path, NULL), CLATTN_INVALID_ARGUMENT);
  clattn_weights_destroy(NULL);
  cr_expect_eq(clattn_weights_count(NULL), 0);
  cr_expect_null(clattn_weights_text(NULL, "key"));
  remove_folder(&folder);
}

Test(weights, read) {
  /* Rounding to F32 first would give 1: half way, and then to even. */
  const double fine[2] = {1 + 0x1p-11 + 0x1p-40, -1 - 0x1p-11 + 0x1p-40};
  clattn_weights_tensor tensor = {.name = "t",
                                  .type = "F64",
                                  .rank = 1,
                                  .extent = {2},
                                  .data = fine,
                                  .size_bytes = sizeof fine};
  uint16_t narrow[2];
  float wide[2];
  TH_OK(clattn_weights_read(&tensor, CLATTN_F16, narrow));
  cr_expect_eq(th_get(CLATTN_F16, &narrow[0]), 1 + 0x1p-10);
  cr_expect_eq(th_get(CLATTN_F16, &narrow[1]), -1);
  TH_OK(clattn_weights_read(&tensor, CLATTN_F32, wide));
  cr_expect_eq(wide[0], (float)fine[0]);
  const double limits[2] = {1e300, -0.0};
  tensor.data = limits;
  TH_OK(clattn_weights_read(&tensor, CLATTN_BF16, narrow));
  cr_expect_eq(th_get(CLATTN_BF16, &narrow[0]), INFINITY);
  cr_expect_eq(narrow[1], 0x8000);

  cr_expect_eq(clattn_weights_read(&tensor, CLATTN_I32, wide),
               CLATTN_INVALID_ARGUMENT);
  expect_message("dtype");
  cr_expect_eq(clattn_weights_read(NULL, CLATTN_F32, wide),
               CLATTN_INVALID_ARGUMENT);
  cr_expect_eq(clattn_weights_read(&tensor, CLATTN_F32, NULL),
               CLATTN_INVALID_ARGUMENT);
  tensor.extent[0] = 3;
  cr_expect_eq(clattn_weights_read(&tensor, CLATTN_F32, wide),
               CLATTN_INVALID_ARGUMENT);
  expect_message("'t': got 16 bytes");
  tensor.extent[0] = INT64_MAX;
  cr_expect_eq(clattn_weights_read(&tensor, CLATTN_F32, wide),
               CLATTN_INVALID_ARGUMENT);
  tensor.rank = 9;
  cr_expect_eq(clattn_weights_read(&tensor, CLATTN_F32, wide),
               CLATTN_INVALID_ARGUMENT);
  tensor.type = "I64";
  cr_expect_eq(clattn_weights_read(&tensor, CLATTN_F32, wide),
               CLATTN_UNSUPPORTED);
  expect_message("type I64");
}

/* ---- the writer ------------------------------------------------------------------ */

/* Files in the folder. */
static int files_in(const folder *folder) {
  char command[128];
  snprintf(command, sizeof command, "exit $(ls %s | wc -l)", folder->path);
  const int status = system(command);
  return status >> 8;
}

Test(weights, writer_takes_parts) {
  const folder folder = make_folder();
  const char *path = in(&folder, "file.safetensors");
  enum { LONG = 10000 };
  int32_t ids[LONG];
  for (int i = 0; i < LONG; i++) ids[i] = i * i;
  const float x[6] = {1, 2, 3, 4, 5, 6};
  const double y[2] = {7, 8};
  const clattn_kit_tensor tensors[] = {
      {.name = "ids",
       .dtype = CLATTN_KIT_I32,
       .rank = 1,
       .extent = {CLATTN_KIT_GROWS}},
      {.name = "x", .dtype = CLATTN_KIT_F32, .rank = 2, .extent = {2, 3}},
      {.name = "none", .dtype = CLATTN_KIT_F32, .rank = 1, .extent = {0}},
      {.name = "y", .dtype = CLATTN_KIT_F64, .rank = 1, .extent = {2}},
  };
  const clattn_kit_metadata entry = {"key", "text"};
  const int lengths[] = {0, 1, LONG};
  for (int l = 0; l < 3; l++) {
    clattn_kit_safetensors_writer *writer;
    TH_OK(clattn_kit_safetensors_writer_create(path, tensors, 4, &entry, 1,
                                               &writer));
    const char *bytes = (const char *)ids;
    const size_t n = (size_t)lengths[l] * 4;
    for (size_t i = 0; i < n; i += 7) /* parts that end within an element */
      TH_OK(clattn_kit_safetensors_writer_put(writer, 0, bytes + i,
                                              n - i < 7 ? n - i : 7));
    TH_OK(clattn_kit_safetensors_writer_put(writer, 1, x, 4));
    TH_OK(clattn_kit_safetensors_writer_put(writer, 3, y, sizeof y));
    TH_OK(clattn_kit_safetensors_writer_put(writer, 1, x + 1, 20));
    TH_OK(clattn_kit_safetensors_writer_put(writer, 1, NULL, 0));
    TH_OK(clattn_kit_safetensors_writer_finish(writer));
    cr_expect_neq(clattn_kit_safetensors_writer_finish(writer), CLATTN_OK);
    cr_expect_neq(clattn_kit_safetensors_writer_put(writer, 0, x, 4),
                  CLATTN_OK);
    clattn_kit_safetensors_writer_destroy(writer);
    clattn_kit_safetensors *file;
    TH_OK(clattn_kit_safetensors_open(path, &file));
    cr_expect_eq(clattn_kit_safetensors_count(file), 4);
    cr_expect_str_eq(clattn_kit_safetensors_metadata(file, "key"), "text");
    clattn_kit_tensor t;
    TH_OK(clattn_kit_safetensors_find(file, "ids", &t));
    cr_expect_eq(t.rank, 1);
    cr_expect_eq(t.extent[0], lengths[l]);
    cr_assert_eq(t.size_bytes, n);
    cr_expect_eq(memcmp(t.data, ids, n), 0);
    cr_expect_eq((uintptr_t)t.data % 4, 0);
    TH_OK(clattn_kit_safetensors_find(file, "x", &t));
    cr_expect_eq(memcmp(t.data, x, sizeof x), 0);
    TH_OK(clattn_kit_safetensors_find(file, "y", &t));
    cr_expect_eq(memcmp(t.data, y, sizeof y), 0);
    cr_expect_eq((uintptr_t)t.data % 8, 0);
    clattn_kit_safetensors_destroy(file);
    cr_expect_eq(files_in(&folder), 1);
  }
  remove_folder(&folder);
}

Test(weights, writer_refuses) {
  const folder folder = make_folder();
  const char *path = in(&folder, "file.safetensors");
  const float x[2] = {1, 2};
  clattn_kit_tensor tensors[2] = {floats("x", 2, NULL), floats("y", 1, NULL)};
  clattn_kit_safetensors_writer *writer;
  write_text(path, "old");
  TH_OK(
      clattn_kit_safetensors_writer_create(path, tensors, 2, NULL, 0, &writer));
  cr_expect_eq(files_in(&folder), 2);
  cr_expect_eq(clattn_kit_safetensors_writer_put(writer, 2, x, 4),
               CLATTN_INVALID_ARGUMENT);
  expect_message("i: got 2");
  cr_expect_eq(clattn_kit_safetensors_writer_put(writer, 1, x, 8),
               CLATTN_INVALID_ARGUMENT);
  expect_message("'y' takes 4 more");
  cr_expect_eq(clattn_kit_safetensors_writer_put(writer, 1, NULL, 4),
               CLATTN_INVALID_ARGUMENT);
  TH_OK(clattn_kit_safetensors_writer_put(writer, 0, x, 8));
  cr_expect_eq(clattn_kit_safetensors_writer_finish(writer),
               CLATTN_INVALID_ARGUMENT);
  expect_message("'y': got 0 bytes, want 4");
  clattn_kit_safetensors_writer_destroy(writer); /* the old file stays */
  cr_expect_eq(files_in(&folder), 1);
  char old[8] = "";
  FILE *file = fopen(path, "rb");
  cr_expect_eq(fread(old, 1, sizeof old, file), 3);
  fclose(file);
  cr_expect_str_eq(old, "old");

  tensors[0].extent[0] = tensors[1].extent[0] = CLATTN_KIT_GROWS;
  cr_expect_eq(
      clattn_kit_safetensors_writer_create(path, tensors, 2, NULL, 0, &writer),
      CLATTN_INVALID_ARGUMENT);
  expect_message("only one may grow");
  cr_expect_null(writer);
  cr_expect_eq(clattn_kit_safetensors_write(path, tensors, 1, NULL, 0),
               CLATTN_INVALID_ARGUMENT);
  tensors[0].extent[0] = -2;
  cr_expect_eq(
      clattn_kit_safetensors_writer_create(path, tensors, 1, NULL, 0, &writer),
      CLATTN_INVALID_ARGUMENT);
  tensors[0].extent[0] = INT64_MAX / 4;
  tensors[1].extent[0] = INT64_MAX / 4;
  cr_expect_eq(
      clattn_kit_safetensors_writer_create(path, tensors, 2, NULL, 0, &writer),
      CLATTN_INVALID_ARGUMENT);
  expect_message("too many bytes");
  TH_OK(clattn_kit_safetensors_writer_create(path, tensors + 1, 1, NULL, 0,
                                             &writer));
  clattn_kit_safetensors_writer_destroy(writer);
  tensors[0] = floats("half", CLATTN_KIT_GROWS, NULL);
  TH_OK(
      clattn_kit_safetensors_writer_create(path, tensors, 1, NULL, 0, &writer));
  TH_OK(clattn_kit_safetensors_writer_put(writer, 0, x, 6));
  cr_expect_eq(clattn_kit_safetensors_writer_finish(writer),
               CLATTN_INVALID_ARGUMENT);
  expect_message("multiple of 4");
  TH_OK(clattn_kit_safetensors_writer_put(writer, 0, x, 2));
  TH_OK(clattn_kit_safetensors_writer_finish(writer));
  clattn_kit_safetensors_writer_destroy(writer);
  clattn_kit_safetensors_writer_destroy(NULL);
  cr_expect_eq(clattn_kit_safetensors_writer_finish(NULL),
               CLATTN_INVALID_ARGUMENT);
  remove_folder(&folder);
}
