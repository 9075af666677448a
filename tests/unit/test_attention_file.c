/* Attention as a file: read back, it is what the model attended to. */
#define _POSIX_C_SOURCE 200809L /* mkdtemp */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <criterion/criterion.h>

#include "../support/harness.h"
#include "../support/tiny_model.h"
#include "clattn_attention.h"
#include "kit/attention/tokens.h"

/* ---- a model and its tokenizer --------------------------------------------- */

typedef struct setup {
  char folder[64], path[96];
  clattn_model *model;
  clattn_model_config config;
  clattn_tokenizer *tokenizer;
  clattn_queue *queue;
} setup;

static void make_folder(setup *s) {
  strcpy(s->folder, "/tmp/clattn-attention-XXXXXX");
  cr_assert(mkdtemp(s->folder));
  snprintf(s->path, sizeof s->path, "%s/out.safetensors", s->folder);
}

static void load(setup *s, const th_device *device) {
  s->queue = device->queue;
  TH_OK(clattn_model_load(device->context, device->index, s->queue, s->folder,
                          NULL, &s->model));
  s->config.struct_size = sizeof s->config;
  TH_OK(clattn_model_get_config(s->model, &s->config));
}

static const char words[] =
    "[PAD]\n[UNK]\n[CLS]\n[SEP]\nthe\ncat\nsat\n##s\n.\n";

static void make_bert(setup *s, const th_device *device) {
  make_folder(s);
  const tiny_model tiny = {9, 32, 2, 3, 12, 20, 1};
  tiny_bert(&tiny, s->folder);
  char path[96];
  snprintf(path, sizeof path, "%s/vocab.txt", s->folder);
  FILE *file = fopen(path, "w");
  cr_assert(file && fputs(words, file) >= 0 && fclose(file) == 0);
  TH_OK(clattn_tokenizer_load(s->folder, NULL, &s->tokenizer));
  load(s, device);
}

/* Characters of a text; as many positions. */
static void make_gpt(setup *s, const th_device *device, int64_t positions,
                     int64_t layers) {
  make_folder(s);
  const char *text = "abcdefgh";
  const tiny_model tiny = {8, positions, layers, 2, 8, 16, 2};
  tiny_gpt2(&tiny, s->folder);
  TH_OK(clattn_tokenizer_from_text(CLATTN_TOKENIZER_CHARS, text, strlen(text),
                                   &s->tokenizer));
  load(s, device);
}

static void clean(setup *s) {
  clattn_model_destroy(s->model);
  clattn_tokenizer_destroy(s->tokenizer);
  char command[96];
  snprintf(command, sizeof command, "rm -rf %s", s->folder);
  cr_expect_eq(system(command), 0);
}

static clattn_status write_it(setup *s, const char *text, const char *pair,
                              const clattn_attention_options *options) {
  return clattn_model_write_attention(
      s->model, s->queue, s->tokenizer, text, strlen(text), pair,
      pair ? strlen(pair) : 0, options, s->path);
}

static void expect_message(const char *part) {
  cr_expect(strstr(clattn_error_message(), part), "'%s' not in: %s", part,
            clattn_error_message());
}

/* ---- reading back ------------------------------------------------------------ */

static void expect_metadata(const clattn_kit_safetensors *file, const char *key,
                            const char *want) {
  const char *got = clattn_kit_safetensors_metadata(file, key);
  if (want == NULL) {
    cr_expect_null(got, "%s is there: %s", key, got);
    return;
  }
  cr_assert(got, "no %s", key);
  cr_expect_str_eq(got, want, "%s: %s, want %s", key, got, want);
}

/* A tensor of a layer as floats [extents...]; the caller frees it. */
static float *tensor_of(const clattn_kit_safetensors *file, const char *name,
                        int64_t layer, clattn_kit_dtype dtype, int rank,
                        const int64_t *extent) {
  char full[64];
  snprintf(full, sizeof full, "%s.%lld", name, (long long)layer);
  clattn_kit_tensor t;
  TH_OK(clattn_kit_safetensors_find(file, full, &t));
  cr_assert_eq(t.dtype, dtype, "%s", full);
  cr_assert_eq(t.rank, rank, "%s", full);
  for (int d = 0; d < rank; d++)
    cr_assert_eq(t.extent[d], extent[d], "%s: extent %d", full, d);
  float *values = malloc(t.size_bytes * 2);
  TH_OK(clattn_kit_tensor_to_f32(&t, values));
  return values;
}

static void near(double got, double want, double tolerance, const char *what,
                 int64_t at) {
  cr_assert(fabs(got - want) <= tolerance, "%s %lld: %.9g, want %.9g", what,
            (long long)at, got, want);
}

/* What the statistics say, from the weights [heads, n, n] in double. */
static void expect_statistics(const clattn_kit_safetensors *file,
                              const float *weights, int64_t layer,
                              int64_t heads, int64_t n, int64_t top,
                              int64_t block) {
  const int64_t m = (n + block - 1) / block;
  const int64_t rows[] = {heads, n}, best[] = {heads, n, top};
  const int64_t cells[] = {heads, m, m};
  const double tolerance = 1e-5 * (double)n;
  float *entropy = tensor_of(file, "entropy", layer, CLATTN_KIT_F32, 2, rows);
  float *distance = tensor_of(file, "distance", layer, CLATTN_KIT_F32, 2, rows);
  float *keys = tensor_of(file, "top_keys", layer, CLATTN_KIT_I32, 3, best);
  float *most = tensor_of(file, "top_weights", layer, CLATTN_KIT_F32, 3, best);
  float *map = tensor_of(file, "map", layer, CLATTN_KIT_F32, 3, cells);
  double *sums = calloc((size_t)(heads * m * m), sizeof *sums);
  for (int64_t row = 0; row < heads * n; row++) {
    const int64_t i = row % n, head = row / n;
    const float *p = weights + row * n;
    double sum = 0, nats = 0, way = 0;
    for (int64_t j = 0; j < n; j++) {
      sum += (double)p[j];
      if (p[j] > 0) nats -= (double)p[j] * log((double)p[j]);
      way += (double)p[j] * fabs((double)(i - j));
      sums[(head * m + i / block) * m + j / block] += (double)p[j];
    }
    near(sum, 1, 1e-5, "sum of row", row);
    near(entropy[row], nats, tolerance, "entropy of row", row);
    near(distance[row], way, tolerance, "distance of row", row);
    for (int64_t k = 0; k < top; k++) {
      const float *key = keys + row * top + k, *weight = most + row * top + k;
      if (*key < 0) {
        cr_assert_eq(*weight, 0);
        continue;
      }
      near(*weight, p[(int64_t)*key], 1e-5, "top weight of row", row);
      if (k > 0) cr_assert_leq(*weight, weight[-1]);
    }
    double largest = 0;
    for (int64_t j = 0; j < n; j++) largest = fmax(largest, (double)p[j]);
    near(most[row * top], largest, 1e-5, "largest weight of row", row);
  }
  for (int64_t cell = 0; cell < heads * m * m; cell++) {
    const int64_t first = cell / m % m * block;
    const int64_t count = n - first < block ? n - first : block;
    near(map[cell], sums[cell] / (double)count, 1e-5, "cell of map", cell);
  }
  free(entropy);
  free(distance);
  free(keys);
  free(most);
  free(map);
  free(sums);
}

/* Queries and keys of the file give its weights. */
static void expect_products(const setup *s, float tolerance) {
  clattn_attention *attention;
  TH_OK(clattn_attention_open(s->path, &attention));
  for (int64_t layer = 0; layer < s->config.layers; layer++) {
    float difference = NAN;
    TH_OK(clattn_attention_check(attention, 0, layer, &difference));
    cr_expect(difference > 0 && difference < tolerance, "differ by %g",
              (double)difference);
  }
  clattn_attention_destroy(attention);
}

/* ---- tests -------------------------------------------------------------------- */

enum {
  EVERYTHING = CLATTN_WATCH_ATTENTION | CLATTN_WATCH_STATISTICS |
               CLATTN_WATCH_TOP | CLATTN_WATCH_MAP | CLATTN_WATCH_QUERY_KEY
};

/* Keeps the weights of every layer. */
typedef struct kept {
  float *weights[4]; /* [heads, n, n] of each layer */
  int64_t n;
} kept;

static clattn_status keep(void *user, const clattn_model_layer *layer) {
  kept *k = user;
  const size_t bytes = (size_t)(layer->heads * k->n * k->n) * sizeof(float);
  k->weights[layer->layer] = malloc(bytes);
  memcpy(k->weights[layer->layer], layer->attention[0], bytes);
  return CLATTN_OK;
}

static void count_layers(void *user, int64_t done, int64_t total) {
  cr_expect_eq(done, ++*(int64_t *)user);
  cr_expect_eq(total, 2);
}

static void pair_on(const th_device *device) {
  setup s = {0};
  make_bert(&s, device);
  clattn_attention_options options;
  clattn_attention_options_init(&options);
  int64_t layers = 0;
  options.watch = EVERYTHING;
  options.dtype = CLATTN_F32;
  options.top = 3;
  options.map_block = 4;
  options.model_name = "tiny";
  options.progress = count_layers;
  options.progress_user = &layers;
  TH_OK(write_it(&s, "The cats sat.", "A dog", &options));
  cr_expect_eq(layers, 2);
  clattn_kit_safetensors *file;
  TH_OK(clattn_kit_safetensors_open(s.path, &file));
  cr_expect_eq(clattn_kit_safetensors_count(file), 2 * 8);
  expect_metadata(file, "format", "clattn.attention 1");
  expect_metadata(file, "kind", "encoder");
  expect_metadata(file, "causal", "false");
  expect_metadata(file, "model", "tiny");
  expect_metadata(file, "layers", "2");
  expect_metadata(file, "heads", "3");
  expect_metadata(file, "kv_heads", "3");
  expect_metadata(file, "head_dim", "4");
  expect_metadata(file, "scale", "0.5");
  expect_metadata(file, "window", NULL);
  expect_metadata(file, "length", "10");
  expect_metadata(file, "tokens",
                  "[\"[CLS]\",\"the\",\"cat\",\"##s\",\"sat\",\".\",\"[SEP]\","
                  "\"[UNK]\",\"[UNK]\",\"[SEP]\"]");
  expect_metadata(file, "ids", "[2,4,5,7,6,8,3,1,1,3]");
  expect_metadata(file, "begins", "[0,0,4,7,9,12,0,0,2,0]");
  expect_metadata(file, "ends", "[0,3,7,8,12,13,0,1,5,0]");
  expect_metadata(file, "segments", "[0,0,0,0,0,0,0,1,1,1]");
  expect_metadata(file, "added", "[1,0,0,0,0,0,1,0,0,1]");
  expect_metadata(file, "text", "The cats sat.");
  expect_metadata(file, "pair", "A dog");
  expect_metadata(file, "top", "3");
  expect_metadata(file, "map_block", "4");

  /* The same tokens, watched by hand. */
  const int32_t ids[] = {2, 4, 5, 7, 6, 8, 3, 1, 1, 3};
  const int32_t types[] = {0, 0, 0, 0, 0, 0, 0, 1, 1, 1};
  kept k = {.n = 10};
  clattn_model_input input;
  clattn_model_input_init(&input);
  input.length = k.n;
  input.ids = ids;
  input.types = types;
  clattn_model_output output;
  clattn_model_output_init(&output);
  output.watch = CLATTN_WATCH_ATTENTION;
  output.on_layer = keep;
  output.user = &k;
  TH_OK(clattn_model_run(s.model, s.queue, &input, &output));
  for (int64_t layer = 0; layer < 2; layer++) {
    float *weights = tensor_of(file, "attention", layer, CLATTN_KIT_F32, 3,
                               (const int64_t[]){3, 10, 10});
    cr_expect_eq(memcmp(weights, k.weights[layer], 3 * 10 * 10 * 4), 0);
    expect_statistics(file, weights, layer, 3, 10, 3, 4);
    free(weights);
    free(k.weights[layer]);
  }
  clattn_kit_safetensors_destroy(file);
  expect_products(&s, 1e-5f);
  clean(&s);
}

Test(attention_file, pair) { th_each_device(pair_on); }

/* What is written unless something else is asked for. */
Test(attention_file, defaults) {
  setup s = {0};
  make_gpt(&s, &th_open(false)->device[0], 1100, 2);
  TH_OK(write_it(&s, "abcabcabhh", NULL, NULL));
  clattn_kit_safetensors *file;
  TH_OK(clattn_kit_safetensors_open(s.path, &file));
  cr_expect_eq(clattn_kit_safetensors_count(file), 2 * 5);
  expect_metadata(file, "kind", "decoder");
  expect_metadata(file, "causal", "true");
  expect_metadata(file, "model", "gpt2");
  expect_metadata(file, "pair", NULL);
  expect_metadata(file, "top", NULL);
  expect_metadata(file, "map_block", NULL);
  for (int64_t layer = 0; layer < 2; layer++) {
    float *weights = tensor_of(file, "attention", layer, CLATTN_KIT_F16, 3,
                               (const int64_t[]){2, 10, 10});
    for (int64_t row = 0; row < 2 * 10; row++) {
      double sum = 0;
      for (int64_t j = 0; j < 10; j++) {
        sum += (double)weights[row * 10 + j];
        if (j > row % 10) cr_assert_eq(weights[row * 10 + j], 0);
      }
      near(sum, 1, 0x1p-11, "sum of row", row);
    }
    free(weights);
  }
  clattn_kit_safetensors_destroy(file);
  expect_products(&s, 0x1p-11f); /* of F16 */
  /* One token more than whole matrices are written for. */
  char text[1026];
  for (int i = 0; i < 1025; i++) text[i] = (char)('a' + i * i % 8);
  for (int n = 1024; n <= 1025; n++) {
    text[n] = '\0';
    TH_OK(write_it(&s, text, NULL, NULL));
    TH_OK(clattn_kit_safetensors_open(s.path, &file));
    cr_expect_eq(clattn_kit_safetensors_has(file, "attention.1"), n == 1024);
    cr_expect_eq(clattn_kit_safetensors_has(file, "map.1"), n != 1024);
    cr_expect_eq(clattn_kit_safetensors_has(file, "top_keys.1"), n != 1024);
    cr_expect(clattn_kit_safetensors_has(file, "entropy.1"));
    cr_expect(clattn_kit_safetensors_has(file, "query.1"));
    cr_expect(clattn_kit_safetensors_has(file, "key.1"));
    clattn_kit_safetensors_destroy(file);
    text[n] = 'a';
  }
  clean(&s);
}

/* Puts a setting at the start of config.json. */
static void configure(const setup *s, const char *setting) {
  char path[96], old[4096];
  snprintf(path, sizeof path, "%s/config.json", s->folder);
  FILE *file = fopen(path, "r");
  cr_assert(file);
  const size_t n = fread(old, 1, sizeof old - 1, file);
  fclose(file);
  old[n] = '\0';
  cr_assert_eq(old[0], '{');
  file = fopen(path, "w");
  cr_assert(file && fprintf(file, "{%s, %s", setting, old + 1) > 0 &&
            fclose(file) == 0);
}

/* Layers that scale in ways of their own: the file has one scale for all. */
Test(attention_file, scale_of_each_layer) {
  setup s = {0};
  make_folder(&s);
  const tiny_model tiny = {8, 16, 3, 2, 8, 16, 2};
  tiny_gpt2(&tiny, s.folder);
  configure(&s, "\"scale_attn_by_inverse_layer_idx\": true");
  TH_OK(clattn_tokenizer_from_text(CLATTN_TOKENIZER_CHARS, "abcdefgh", 8,
                                   &s.tokenizer));
  load(&s, &th_open(false)->device[0]);
  clattn_attention_options options;
  clattn_attention_options_init(&options);
  options.dtype = CLATTN_F32;
  TH_OK(write_it(&s, "abcabcabhh", NULL, &options));
  clattn_kit_safetensors *file;
  TH_OK(clattn_kit_safetensors_open(s.path, &file));
  expect_metadata(file, "scale", "0.5");
  clattn_kit_safetensors_destroy(file);
  expect_products(&s, 1e-5f);
  clean(&s);
}

/* Bytes that are no characters, quotes, and NUL, which is shown. */
Test(attention_file, tokens_as_text) {
  setup s = {0};
  make_folder(&s);
  const tiny_model tiny = {257, 16, 1, 1, 4, 4, 3};
  tiny_gpt2(&tiny, s.folder);
  char path[96];
  snprintf(path, sizeof path, "%s/text", s.folder);
  FILE *text = fopen(path, "w");
  cr_assert(text && fputs("abc", text) >= 0 && fclose(text) == 0);
  clattn_bpe_config config;
  clattn_bpe_config_init(&config);
  config.vocab_size = 257; /* the bytes, and <|endoftext|> */
  TH_OK(clattn_tokenizer_train_bpe(&config, path, &s.tokenizer));
  load(&s, &th_open(false)->device[0]);
  TH_OK(clattn_model_write_attention(s.model, s.queue, s.tokenizer,
                                     "\"\xc3\xa9\0 x", 6, NULL, 0, NULL,
                                     s.path));
  clattn_kit_safetensors *file;
  TH_OK(clattn_kit_safetensors_open(s.path, &file));
  expect_metadata(file, "tokens",
                  "[\"\\\"\",\"<C3>\",\"<A9>\",\"\xe2\x90\x80\","
                  "\" \",\"x\"]");
  expect_metadata(file, "text", "\"\xc3\xa9  x");
  expect_metadata(file, "begins", "[0,1,2,3,4,5]");
  clattn_kit_safetensors_destroy(file);
  clean(&s);
}

/* What a token of bytes is written as, and that no byte is lost. */
Test(attention_file, bytes_as_text) {
  const struct {
    const char *bytes;
    size_t n;
    const char *want;
  } cases[] = {{"", 0, ""},
               {"a\xe6\x9d", 3, "a<E6 9D>"},
               {"\x80\xe6\x9d\xff", 4, "<80 E6 9D FF>"},
               {"\xff\xff"
                "b\xc3\xa9\xc3",
                6, "<FF FF>b\xc3\xa9<C3>"},
               {"\0\x80", 2, "\xe2\x90\x80<80>"},
               {"\xed\xa0\x80", 3, "<ED A0 80>"}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char *got = attention_text(cases[i].bytes, cases[i].n);
    cr_assert(got != NULL);
    cr_expect_str_eq(got, cases[i].want, "%zu: got %s", i, got);
    free(got);
  }
}

/* The weights of one layer would take half a gigabyte. */
Test(attention_file, long_text) {
  enum { N = 8192 };
  setup s = {0};
  make_gpt(&s, &th_open(false)->device[0], 32768, 1);
  char *text = malloc(N + 1);
  for (int i = 0; i < N; i++) text[i] = (char)('a' + i * 31 / 7 % 8);
  text[N] = '\0';
  TH_OK(write_it(&s, "abc", NULL, NULL)); /* what a first run takes */
  struct rusage before, after;
  getrusage(RUSAGE_SELF, &before);
  TH_OK(write_it(&s, text, NULL, NULL));
  getrusage(RUSAGE_SELF, &after);
#ifndef __SANITIZE_ADDRESS__ /* which keeps what is freed */
  const long grown = after.ru_maxrss - before.ru_maxrss; /* KiB */
  cr_expect_lt(grown, 64 * 1024, "grew by %ld KiB", grown);
#endif
  clattn_kit_safetensors *file;
  TH_OK(clattn_kit_safetensors_open(s.path, &file));
  cr_expect_not(clattn_kit_safetensors_has(file, "attention.0"));
  float *map = tensor_of(file, "map", 0, CLATTN_KIT_F32, 3,
                         (const int64_t[]){2, N / 64, N / 64});
  for (int64_t row = 0; row < 2 * N / 64; row++) {
    double sum = 0;
    for (int64_t j = 0; j < N / 64; j++) sum += (double)map[row * N / 64 + j];
    near(sum, 1, 1e-4, "sum of the map's row", row);
  }
  free(map);
  clattn_kit_safetensors_destroy(file);
  free(text);
  clean(&s);
}

/* Of a text that the model has no positions for, the first tokens. */
Test(attention_file, cut_text) {
  setup s = {0};
  make_bert(&s, &th_open(false)->device[0]);
  char text[400] = "";
  for (int i = 0; i < 40; i++) strcat(text, "cat sat ");
  clattn_attention_options options;
  clattn_attention_options_init(&options);
  cr_expect_eq(write_it(&s, text, NULL, &options), CLATTN_INVALID_ARGUMENT);
  options.max_tokens = 5;
  TH_OK(write_it(&s, text, NULL, &options));
  clattn_kit_safetensors *file;
  TH_OK(clattn_kit_safetensors_open(s.path, &file));
  expect_metadata(file, "length", "5");
  expect_metadata(file, "text", text);
  expect_metadata(file, "tokens",
                  "[\"[CLS]\",\"cat\",\"sat\",\"cat\",\"[SEP]\"]");
  expect_metadata(file, "ends", "[0,3,7,11,0]");
  clattn_kit_safetensors_destroy(file);
  options.max_tokens = 1000; /* more than there are: as if not given */
  TH_OK(write_it(&s, "cat", NULL, &options));
  clean(&s);
}

Test(attention_file, errors) {
  setup s = {0};
  make_gpt(&s, &th_open(false)->device[0], 16, 1);
  clattn_attention_options options;
  clattn_attention_options_init(&options);
  const clattn_status bad = CLATTN_INVALID_ARGUMENT;
  const char *text = "abc";
#define CALL(model, queue, tokenizer, text, options, path)                     \
  clattn_model_write_attention(model, queue, tokenizer, text, 3, NULL, 0,      \
                               options, path)
  cr_expect_eq(CALL(NULL, s.queue, s.tokenizer, text, NULL, s.path), bad);
  expect_message("model");
  cr_expect_eq(CALL(s.model, NULL, s.tokenizer, text, NULL, s.path), bad);
  expect_message("queue");
  cr_expect_eq(CALL(s.model, s.queue, NULL, text, NULL, s.path), bad);
  expect_message("tokenizer");
  cr_expect_eq(CALL(s.model, s.queue, s.tokenizer, NULL, NULL, s.path), bad);
  expect_message("text");
  cr_expect_eq(CALL(s.model, s.queue, s.tokenizer, text, NULL, NULL), bad);
  expect_message("path");
#define WRONG(member, value)                                                   \
  do {                                                                         \
    clattn_attention_options_init(&options);                                   \
    options.member = value;                                                    \
    cr_expect_eq(write_it(&s, text, NULL, &options), bad);                     \
    expect_message(#member);                                                   \
  } while (0)
  WRONG(struct_size, 1);
  WRONG(watch, CLATTN_WATCH_HIDDEN);
  WRONG(watch, 1u << 20);
  WRONG(dtype, CLATTN_BF16);
  WRONG(top, 0);
  WRONG(top, 33);
  WRONG(map_block, 0);
  WRONG(max_tokens, -1);
  cr_expect_eq(write_it(&s, "", NULL, NULL), bad);
  expect_message("text");
  cr_expect_eq(write_it(&s, "abcdefghabcdefgha", NULL, NULL), bad);
  expect_message("17 tokens, the model has positions for 16");
  cr_expect_eq(write_it(&s, "ab\xff", NULL, NULL), bad);
  cr_expect_eq(write_it(&s, "a", "b", NULL), CLATTN_UNSUPPORTED);
  /* Nothing was left, and what is there stays. */
  char command[128];
  snprintf(command, sizeof command, "test $(ls %s | wc -l) = 2", s.folder);
  cr_expect_eq(system(command), 0);
  TH_OK(write_it(&s, "ab", NULL, NULL));
  cr_expect_neq(write_it(&s, "abcdefghabcdefgha", NULL, NULL), CLATTN_OK);
  clattn_kit_safetensors *file;
  TH_OK(clattn_kit_safetensors_open(s.path, &file));
  expect_metadata(file, "text", "ab");
  clattn_kit_safetensors_destroy(file);
  /* A vocabulary larger than the model's. */
  clattn_tokenizer *other;
  TH_OK(clattn_tokenizer_from_text(CLATTN_TOKENIZER_CHARS, "abcdefghi", 9,
                                   &other));
  cr_expect_eq(CALL(s.model, s.queue, other, text, NULL, s.path), bad);
  clattn_tokenizer_destroy(other);
  cr_expect_eq(CALL(s.model, s.queue, s.tokenizer, text, NULL, "/nowhere/x"),
               CLATTN_IO_ERROR);
  clean(&s);
}
