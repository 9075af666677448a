/* The vocabularies of GPT-2 and BERT, beside tokens printed elsewhere. */
#define _POSIX_C_SOURCE 200809L /* mkdtemp */
#include <jansson.h>

#include "clattn_text.h"
#include "text_files.h"

/* A file or folder below CLATTN_DATA/data; skips the test without it. */
static const char *shared(const char *name) {
  static char path[1024];
  const char *data = getenv("CLATTN_DATA");
  if (!data) cr_skip_test("CLATTN_DATA is not set: no vocabularies");
  snprintf(path, sizeof path, "%s/data/%s", data, name);
  return path;
}

static const struct {
  const char *text;
  bool special;
  int32_t ids[24], n;
} gpt2_cases[] = {
    {"Hello, do you like tea? <|endoftext|> In the sunlit terracesof "
     "someunknownPlace.",
     true,
     {15496, 11,   466,   345,  588,  8887, 30,  220,   50256, 554,
      262,   4252, 18250, 8812, 2114, 1659, 617, 34680, 27271, 13},
     20},
    {"Akwirw ier", false, {33901, 86, 343, 86, 220, 959}, 6},
    {"The artist painted the portrait of a woman with a brush",
     false,
     {464, 6802, 13055, 262, 18560, 286, 257, 2415, 351, 257, 14093},
     11},
    {"Your journey starts with one step",
     false,
     {7120, 7002, 4940, 351, 530, 2239},
     6},
    {"don't we'll I'VE", false, {9099, 470, 356, 1183, 314, 6, 6089}, 7},
    {"na\u00efve caf\u00e9 \u65e5\u672c\u8a9e \U0001f600",
     false,
     {2616, 38776, 40304, 10545, 245, 98, 17312, 105, 45739, 252, 30325, 222},
     12},
    {"  a   b\n\n\tc", false, {220, 257, 220, 220, 275, 628, 197, 66}, 8},
    {"<|endoftext|>", false, {27, 91, 437, 1659, 5239, 91, 29}, 7},
};

Test(text_numbers, gpt2) {
  clattn_tokenizer *t = load(shared("vocab/gpt2"));
  cr_expect_eq(clattn_tokenizer_size(t), 50257);
  cr_expect(clattn_tokenizer_is_special(t, 50256));
  for (size_t i = 0; i < sizeof gpt2_cases / sizeof *gpt2_cases; i++) {
    const clattn_encode_options o =
        with(gpt2_cases[i].special, true, CLATTN_INVALID_ERROR);
    expect_tokens(t, gpt2_cases[i].text, &o, gpt2_cases[i].ids,
                  gpt2_cases[i].n);
  }
  char *text = calloc(1, 1 << 16);
  FILE *file = fopen(shared("the-verdict.txt"), "rb");
  cr_assert(text && file);
  const size_t bytes = fread(text, 1, 1 << 16, file);
  fclose(file);
  clattn_encoding got;
  TH_OK(clattn_tokenizer_encode(t, text, bytes, NULL, &got));
  cr_assert_eq(got.n, 5145);
  static const int32_t first[] = {40,   367, 2885, 1464,  1807,
                                  3619, 402, 271,  10899, 2138};
  static const int32_t middle[] = {290, 4920, 2241, 287, 257};
  static const int32_t last[] = {674, 1611, 286, 1242, 526};
  cr_expect_eq(memcmp(got.ids, first, sizeof first), 0);
  cr_expect_eq(memcmp(got.ids + 50, middle, sizeof middle), 0);
  cr_expect_eq(memcmp(got.ids + got.n - 5, last, sizeof last), 0);
  uint8_t *seen = calloc(50257, 1);
  int distinct = 0;
  for (int64_t i = 0; i < got.n; i++) distinct += !seen[got.ids[i]]++;
  cr_expect_gt(distinct, 0);
  distinct = 0;
  for (int i = 0; i < 50257; i++) distinct += seen[i] != 0;
  cr_expect_eq(distinct, 1416);
  static const int64_t windows[][3] = {
      {4, 1, 5141}, {4, 4, 1286}, {256, 128, 39}, {256, 256, 20}};
  for (int i = 0; i < 4; i++) {
    clattn_kit_loader_config config;
    clattn_kit_loader *loader = NULL;
    clattn_kit_loader_config_init(&config);
    config.length = windows[i][0], config.stride = windows[i][1];
    TH_OK(clattn_kit_loader_create(&config, got.ids, got.n, &loader));
    cr_expect_eq(clattn_kit_loader_windows(loader), windows[i][2]);
    clattn_kit_loader_destroy(loader);
  }
  char *back;
  size_t size;
  TH_OK(clattn_tokenizer_decode(t, got.ids, got.n, false, &back, &size));
  cr_expect(size == bytes && memcmp(back, text, bytes) == 0);
  free(back);
  free(seen);
  free(text);
  clattn_encoding_free(&got);
  clattn_tokenizer_destroy(t);
}

Test(text_numbers, prompts_of_a_real_models_attention) {
  clattn_tokenizer *t = load(shared("vocab/gpt2"));
  for (int e = 0; e < 5; e++) {
    char name[64];
    snprintf(name, sizeof name, "gpt2-attention/ex%d.json", e);
    json_t *json = json_load_file(shared(name), 0, NULL);
    cr_assert(json, "%s", name);
    const json_t *tokens = json_object_get(json, "tokens");
    const json_t *ids = json_object_get(json, "token_ids");
    const int64_t n = (int64_t)json_array_size(ids);
    cr_assert(n > 0 && json_array_size(tokens) == (size_t)n);
    char text[512] = "";
    int32_t want[64];
    for (int64_t i = 0; i < n; i++) {
      strcat(text, json_string_value(json_array_get(tokens, (size_t)i)));
      want[i] = (int32_t)json_integer_value(json_array_get(ids, (size_t)i));
      cr_expect_str_eq(clattn_tokenizer_token(t, want[i], NULL),
                       json_string_value(json_array_get(tokens, (size_t)i)));
    }
    expect_tokens(t, text, NULL, want, n);
    json_decref(json);
  }
  clattn_tokenizer_destroy(t);
}

Test(text_numbers, bert) {
  clattn_tokenizer *t = load(shared("vocab/bert-base-uncased"));
  const clattn_encode_options bare = with(false, false, CLATTN_INVALID_ERROR);
  cr_expect_eq(clattn_tokenizer_size(t), 30522);
  EXPECT(t, "The artist painted the portrait of a woman with a brush", NULL,
         101, 1996, 3063, 4993, 1996, 6533, 1997, 1037, 2450, 2007, 1037, 8248,
         102);
  EXPECT(t, "unaffable", &bare, 14477, 20961, 3468);
  EXPECT(t, "Caf\u00e9 na\u00efve embeddings!", &bare, 7668, 15743, 7861, 8270,
         4667, 2015, 999);
  clattn_tokenizer_destroy(t);
}
