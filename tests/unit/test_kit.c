/* The kit: files that lie about themselves, windows, pictures. */
#define _POSIX_C_SOURCE 200809L /* mkdtemp, open_memstream */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "../support/harness.h"
#include "clattn_kit.h"

/* ---- safetensors --------------------------------------------------------- */

/* A file in memory: length, header, n bytes of data. */
static size_t make_file(uint8_t *bytes, const char *header, size_t n) {
  uint64_t length = strlen(header);
  memcpy(bytes, &length, 8);
  memcpy(bytes + 8, header, length);
  for (size_t i = 0; i < n; i++) bytes[8 + length + i] = (uint8_t)i;
  return 8 + length + n;
}

static clattn_status parse(const uint8_t *bytes, size_t n) {
  /* A block of its own, so that a sanitizer sees a read past its end. */
  uint8_t *copy = malloc(n ? n : 1);
  memcpy(copy, bytes, n);
  clattn_kit_safetensors *file = (clattn_kit_safetensors *)copy;
  clattn_status status = clattn_kit_safetensors_parse(copy, n, &file);
  if (status != CLATTN_OK) {
    cr_expect_null(file);
    cr_expect_gt(strlen(clattn_error_message()), 0);
  } else {
    for (size_t i = 0; i < clattn_kit_safetensors_count(file); i++) {
      clattn_kit_tensor t;
      TH_OK(clattn_kit_safetensors_at(file, i, &t));
    }
    clattn_kit_safetensors_destroy(file);
  }
  free(copy);
  return status;
}

#define F32(name, shape, offsets)                                              \
  "\"" name "\":{\"dtype\":\"F32\",\"shape\":" shape                           \
  ",\"data_offsets\":" offsets "}"

Test(kit, safetensors_that_are_wrong) {
  static const struct {
    const char *header;
    size_t data;
  } wrong[] = {
      {"", 0},
      {"{", 0},
      {"[]", 0},
      {"null", 0},
      {"{}", 4}, /* bytes that belong to nobody */
      {"{\"a\":1}", 0},
      {"{\"a\":{}}", 0},
      {"{" F32("a", "[1]", "[0,4]") "} x", 4},
      {"{" F32("a", "[1]", "[0,4]") "," F32("a", "[1]", "[4,8]") "}", 8},
      {"{" F32("a", "[1]", "[0,4]") "," F32("b", "[1]", "[0,4]") "}", 4},
      {"{" F32("a", "[2]", "[0,8]") "," F32("b", "[2]", "[4,12]") "}", 12},
      {"{" F32("a", "[1]", "[0,4]") "," F32("b", "[1]", "[8,12]") "}", 12},
      {"{" F32("a", "[1]", "[0,8]") "}", 8},
      {"{" F32("a", "[2]", "[0,4]") "}", 4},
      {"{" F32("a", "[1]", "[4,0]") "}", 4},
      {"{" F32("a", "[1]", "[0,4]") "}", 3},
      {"{" F32("a", "[1]", "[0,400]") "}", 4},
      {"{" F32("a", "[1]", "[-4,0]") "}", 4},
      {"{" F32("a", "[1]", "[0]") "}", 4},
      {"{" F32("a", "[1]", "[0,4,4]") "}", 4},
      {"{" F32("a", "[1]", "\"0,4\"") "}", 4},
      {"{" F32("a", "[1.0]", "[0,4]") "}", 4},
      {"{" F32("a", "[-1]", "[0,4]") "}", 4},
      {"{" F32("a", "[\"1\"]", "[0,4]") "}", 4},
      {"{" F32("a", "1", "[0,4]") "}", 4},
      {"{" F32("a", "[4294967296,4294967296,4]", "[0,0]") "}", 0},
      {"{" F32("a", "[9223372036854775807,2]", "[0,8]") "}", 8},
      {"{" F32("a", "[18446744073709551617]", "[0,4]") "}", 4},
      {"{" F32("a", "[1]", "[0,1e400]") "}", 4},
      {"{\"a\":{\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,4]}}", 4},
      {"{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4},
      {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4},
      {"{\"__metadata__\":{\"a\":1}}", 0},
      {"{\"__metadata__\":[]}", 0},
      {"{\"\xff\":{}}", 0},
  };
  uint8_t bytes[4096];
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    size_t n = make_file(bytes, wrong[i].header, wrong[i].data);
    cr_expect_eq(parse(bytes, n), CLATTN_IO_ERROR, "accepted: %s",
                 wrong[i].header);
  }
  /* lengths that lie */
  for (size_t n = 0; n < 8; n++)
    cr_expect_eq(parse((const uint8_t *)"\0\0\0\0\0\0\0", n), CLATTN_IO_ERROR);
  static const uint64_t lengths[] = {
      3, 1000, UINT64_MAX, UINT64_MAX - 7, (uint64_t)1 << 63, 100000001};
  for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
    make_file(bytes, "{}", 0);
    memcpy(bytes, &lengths[i], 8);
    cr_expect_eq(parse(bytes, 10), CLATTN_IO_ERROR);
  }
  /* deep nesting must not cost the stack */
  size_t deep = 1 << 20;
  uint8_t *nested = malloc(8 + deep);
  uint64_t length = deep;
  memcpy(nested, &length, 8);
  memset(nested + 8, '[', deep);
  cr_expect_eq(parse(nested, 8 + deep), CLATTN_IO_ERROR);
  for (size_t i = 0; i < deep; i++) nested[8 + i] = (uint8_t) "{\"a\":"[i % 5];
  cr_expect_eq(parse(nested, 8 + deep), CLATTN_IO_ERROR);
  free(nested);
}

/* Every prefix and every single changed byte of a good file: an answer, never
 * a crash. */
Test(kit, safetensors_fuzzed) {
  const char *header = "{\"__metadata__\":{\"k\":\"v\"}," F32(
      "a", "[2,1]", "[0,8]") "," F32("b", "[]", "[8,12]") "}";
  uint8_t bytes[512], changed[512];
  size_t n = make_file(bytes, header, 12);
  cr_assert_eq(parse(bytes, n), CLATTN_OK, "%s", clattn_error_message());
  for (size_t i = 0; i < n; i++)
    cr_expect_eq(parse(bytes, i), CLATTN_IO_ERROR, "a prefix of %zu", i);
  for (size_t i = 0; i < n - 12; i++)
    for (int c = 0; c < 256; c += 1 + (int)(i % 3)) {
      memcpy(changed, bytes, n);
      changed[i] = (uint8_t)c;
      clattn_status status = parse(changed, n);
      cr_assert(status == CLATTN_OK || status == CLATTN_IO_ERROR);
    }
}

Test(kit, safetensors_round_trip) {
  const float x[6] = {1, 2, 3, 4, 5, 6};
  const uint8_t flags[3] = {1, 0, 1};
  const int64_t ids[2] = {-5, INT64_MAX};
  const clattn_kit_tensor tensors[3] = {
      {.name = "flags \"\\\n\xc3\xa9",
       .dtype = CLATTN_KIT_BOOL,
       .rank = 1,
       .extent = {3},
       .data = flags,
       .size_bytes = 3},
      {.name = "x",
       .dtype = CLATTN_KIT_F32,
       .rank = 2,
       .extent = {2, 3},
       .data = x,
       .size_bytes = sizeof x},
      {.name = "ids",
       .dtype = CLATTN_KIT_I64,
       .rank = 1,
       .extent = {2},
       .data = ids,
       .size_bytes = sizeof ids},
  };
  const clattn_kit_metadata entry = {"key", "text"};
  char dir[] = "/tmp/clattn-kit-XXXXXX", path[64], command[64];
  cr_assert(mkdtemp(dir));
  snprintf(path, sizeof path, "%s/file.safetensors", dir);
  TH_OK(clattn_kit_safetensors_write(path, tensors, 3, &entry, 1));
  clattn_kit_safetensors *file = NULL;
  TH_OK(clattn_kit_safetensors_open(path, &file));
  cr_expect_eq(clattn_kit_safetensors_count(file), 3);
  cr_expect_str_eq(clattn_kit_safetensors_metadata(file, "key"), "text");
  cr_expect_null(clattn_kit_safetensors_metadata(file, "other"));
  for (int i = 0; i < 3; i++) {
    clattn_kit_tensor t;
    TH_OK(clattn_kit_safetensors_find(file, tensors[i].name, &t));
    cr_expect_eq(t.dtype, tensors[i].dtype);
    cr_expect_eq(t.rank, tensors[i].rank);
    cr_expect_eq(t.size_bytes, tensors[i].size_bytes);
    cr_expect_eq(memcmp(t.data, tensors[i].data, t.size_bytes), 0);
    cr_expect_eq((uintptr_t)t.data % clattn_kit_dtype_size(t.dtype), 0);
  }
  clattn_kit_tensor t;
  cr_expect_eq(clattn_kit_safetensors_find(file, "y", &t),
               CLATTN_INVALID_ARGUMENT);
  cr_expect(strstr(clattn_error_message(), "y"));
  cr_expect_neq(clattn_kit_safetensors_at(file, 3, &t), CLATTN_OK);
  clattn_kit_safetensors_destroy(file);
  cr_expect_eq(clattn_kit_safetensors_write("/nonexistent/dir/file", tensors, 3,
                                            NULL, 0),
               CLATTN_IO_ERROR);
  cr_expect_eq(clattn_kit_safetensors_open("/nonexistent", &file),
               CLATTN_IO_ERROR);
  cr_expect_eq(clattn_kit_safetensors_open(dir, &file), CLATTN_IO_ERROR);
  cr_expect_eq(clattn_kit_safetensors_open(NULL, &file),
               CLATTN_INVALID_ARGUMENT);
  cr_expect_eq(clattn_kit_safetensors_open(path, NULL),
               CLATTN_INVALID_ARGUMENT);
  clattn_kit_safetensors_destroy(NULL);
  cr_expect_eq(clattn_kit_safetensors_count(NULL), 0);
  snprintf(command, sizeof command, "rm -rf %s", dir);
  cr_expect_eq(system(command), 0);
}

/* ---- windows ------------------------------------------------------------- */

Test(kit, loader) {
  int32_t ids[23], in[3 * 4], target[3 * 4];
  int seen[23] = {0};
  clattn_kit_loader_config config;
  clattn_kit_loader *loader = NULL;
  for (int i = 0; i < 23; i++) ids[i] = 100 + i;
  clattn_kit_loader_config_init(&config);
  config.length = 4, config.stride = 2, config.batch = 3;
  config.drop_last = false;
  TH_OK(clattn_kit_loader_create(&config, ids, 23, &loader));
  cr_expect_eq(clattn_kit_loader_windows(loader), 10); /* 0, 2, .. 18 */
  cr_expect_eq(clattn_kit_loader_batches(loader), 4);
  for (int epoch = 0; epoch < 2; epoch++) {
    int64_t total = 0, n = 0;
    memset(seen, 0, sizeof seen);
    do {
      TH_OK(clattn_kit_loader_next(loader, in, target, &n));
      for (int64_t w = 0; w < n; w++) {
        seen[in[w * 4] - 100]++;
        for (int i = 0; i < 4; i++) {
          cr_expect_eq(in[w * 4 + i], in[w * 4] + i);
          cr_expect_eq(target[w * 4 + i], in[w * 4 + i] + 1);
        }
      }
      total += n;
    } while (n > 0);
    cr_expect_eq(total, 10);
    for (int i = 0; i < 20; i += 2) cr_expect_eq(seen[i], 1);
    TH_OK(clattn_kit_loader_rewind(loader));
  }
  clattn_kit_loader_destroy(loader);
  cr_expect_eq(clattn_kit_loader_create(&config, ids, 4, &loader),
               CLATTN_INVALID_ARGUMENT);
  cr_expect_null(loader);
  config.stride = 0;
  cr_expect_eq(clattn_kit_loader_create(&config, ids, 23, &loader),
               CLATTN_INVALID_ARGUMENT);
  cr_expect(strstr(clattn_error_message(), "stride"));
  config.stride = INT64_MAX;
  TH_OK(clattn_kit_loader_create(&config, ids, 23, &loader));
  cr_expect_eq(clattn_kit_loader_windows(loader), 1);
  clattn_kit_loader_destroy(loader);
  config.struct_size = 0;
  cr_expect_eq(clattn_kit_loader_create(&config, ids, 23, &loader),
               CLATTN_INVALID_ARGUMENT);
}

/* ---- random numbers ------------------------------------------------------ */

/* MT19937's first and 10000th output for its customary seed. */
Test(kit, rng) {
  clattn_kit_rng rng;
  uint32_t x = 0;
  clattn_kit_rng_init(&rng, 5489);
  cr_expect_eq(clattn_kit_rng_u32(&rng), 3499211612u);
  for (int i = 1; i < 10000; i++) x = clattn_kit_rng_u32(&rng);
  cr_expect_eq(x, 4123659995u);
  float normal[10000];
  double sum = 0, square = 0;
  clattn_kit_rng_normal(&rng, 10000, normal);
  for (int i = 0; i < 10000; i++) {
    sum += normal[i];
    square += (double)normal[i] * normal[i];
  }
  cr_expect_lt(fabs(sum / 10000), 0.05);
  cr_expect_lt(fabs(square / 10000 - 1), 0.1);
}

/* ---- heatmap ------------------------------------------------------------- */

/* What a matrix is drawn as; free() is the caller's. */
static char *draw_heatmap(const clattn_kit_heatmap_config *config,
                          const float *matrix, int64_t rows, int64_t cols) {
  char *text = NULL;
  size_t n = 0;
  FILE *stream = open_memstream(&text, &n);
  TH_OK(
      clattn_kit_heatmap(config, matrix, rows, cols, cols, NULL, NULL, stream));
  fclose(stream);
  return text;
}

static void expect_heatmap(const clattn_kit_heatmap_config *config,
                           const float *matrix, int64_t rows, int64_t cols,
                           const char *want) {
  char *text = draw_heatmap(config, matrix, rows, cols);
  cr_expect_str_eq(text, want, "want\n%s\ngot\n%s", want, text);
  free(text);
}

Test(kit, heatmap_root) {
  const float matrix[4] = {0.0625f, 0.25f, 0.01f, 1};
  clattn_kit_heatmap_config config;
  clattn_kit_heatmap_config_init(&config);
  expect_heatmap(&config, matrix, 1, 4, "  ░░  ██\n0   ░░▒▒▓▓██ 1\n");
  config.root = true;
  expect_heatmap(&config, matrix, 1, 4,
                 "░░▒▒  ██\n0   ░░▒▒▓▓██ 1, by the square root\n");
}

/* Hidden cells have no colour, whatever is beside them. */
Test(kit, heatmap_hidden) {
#define HIGH "253;231;37m"
#define LOW "68;1;84m"
  const float matrix[6] = {1, 1, 0, 1, 0, 1};
  const uint8_t hidden[6] = {0, 1, 1, 0, 1, 0};
  clattn_kit_heatmap_config config;
  clattn_kit_heatmap_config_init(&config);
  config.legend = false;
  config.hidden = hidden;
  expect_heatmap(&config, matrix, 2, 3, "██\n██  ██\n");
  config.style = CLATTN_KIT_COLORS;
  expect_heatmap(&config, matrix, 2, 3,
                 "\x1b[48;2;" HIGH
                 "  \x1b[0m\n"
                 "\x1b[48;2;" HIGH "  \x1b[0m  \x1b[48;2;" HIGH "  \x1b[0m\n");
  config.style = CLATTN_KIT_HALVES;
  const float halves[4] = {1, 1, 0, 1};
  const uint8_t corner[4] = {0, 1, 0, 0};
  config.hidden = corner;
  expect_heatmap(&config, halves, 2, 2,
                 "\x1b[38;2;" HIGH "\x1b[48;2;" LOW
                 "▀\x1b[0m"
                 "\x1b[38;2;" HIGH "▄\x1b[0m\n");
}

Test(kit, heatmap) {
  const float matrix[6] = {0, 1, NAN, 0.5f, INFINITY, 0.25f};
  const char *const rows[2] = {"one", "two\x1b[31m"};
  for (int style = 0; style < 3; style++)
    for (int by_row = 0; by_row < 2; by_row++) {
      char *text = NULL;
      size_t n = 0;
      FILE *stream = open_memstream(&text, &n);
      clattn_kit_heatmap_config config;
      clattn_kit_heatmap_config_init(&config);
      config.style = (clattn_kit_heatmap_style)style;
      config.by_row = by_row;
      TH_OK(clattn_kit_heatmap(&config, matrix, 2, 3, 3, rows, NULL, stream));
      fclose(stream);
      cr_expect_gt(n, 10);
      cr_expect_not_null(strstr(text, "one"));
      cr_expect_null(strstr(text, "\x1b[31m"), "a label moved the cursor");
      free(text);
    }
  cr_expect_eq(clattn_kit_heatmap(NULL, NULL, 2, 3, 3, NULL, NULL, stdout),
               CLATTN_INVALID_ARGUMENT);
  cr_expect_eq(clattn_kit_heatmap(NULL, matrix, -1, 3, 3, NULL, NULL, stdout),
               CLATTN_INVALID_ARGUMENT);
  cr_expect_eq(clattn_kit_heatmap(NULL, matrix, 2, 3, 3, NULL, NULL, NULL),
               CLATTN_INVALID_ARGUMENT);
}
