/* Texts that come in parts: the tokens of the whole, whatever the parts. */
#define _POSIX_C_SOURCE 200809L /* mkdtemp */
#include "clattn_text.h"
#include "text_files.h"

typedef struct ids {
  int32_t *id;
  int64_t n, room, calls;
  clattn_status answer;
  const char *message; /* that comes with it; NULL: none */
} ids;

static clattn_status gather(void *user, const int32_t *id, int64_t n) {
  ids *to = user;
  cr_assert_geq(n, 1);
  if (to->n + n > to->room) {
    to->room = 2 * (to->n + n);
    to->id = realloc(to->id, (size_t)to->room * sizeof *to->id);
    cr_assert(to->id);
  }
  memcpy(to->id + to->n, id, (size_t)n * sizeof *id);
  to->n += n;
  to->calls++;
  if (to->message != NULL) clattn_set_error(to->answer, "%s", to->message);
  return to->answer;
}

/* Pushes text in parts of 0..most bytes. */
static clattn_status stream(const clattn_tokenizer *t, const char *text,
                            size_t n, const clattn_encode_options *options,
                            th_rng *rng, int most, ids *to) {
  clattn_token_stream *s = NULL;
  TH_OK(clattn_token_stream_create(t, options, gather, to, &s));
  clattn_status status = CLATTN_OK;
  for (size_t at = 0; at < n && status == CLATTN_OK;) {
    size_t part = (size_t)th_below(rng, most + 1);
    if (part > n - at) part = n - at;
    /* A block of its own, so that a sanitizer sees a read past its end. */
    char *copy = malloc(part + 1);
    memcpy(copy, text + at, part);
    status = clattn_token_stream_push(s, copy, part);
    free(copy);
    at += part;
  }
  if (status == CLATTN_OK) status = clattn_token_stream_finish(s);
  clattn_token_stream_destroy(s);
  return status;
}

static void expect_same(const clattn_tokenizer *t, const char *text, size_t n,
                        const clattn_encode_options *options, th_rng *rng) {
  clattn_encoding whole;
  TH_OK(clattn_tokenizer_encode(t, text, n, options, &whole));
  ids got = {0};
  static const int most[] = {1, 2, 7, 300, 5000};
  TH_OK(stream(t, text, n, options, rng, most[th_below(rng, 5)], &got));
  cr_assert(got.n == whole.n &&
                (got.n == 0 || memcmp(got.id, whole.ids,
                                      (size_t)got.n * sizeof *got.id) == 0),
            "%lld tokens in parts, %lld of the whole", (long long)got.n,
            (long long)whole.n);
  free(got.id);
  clattn_encoding_free(&whole);
}

static const char *const bits[] = {
    "the",      " the",  "'ll",  "'",      " ",      "  ",     "\n",
    "\t",       "a",     "aaaa", "\u00e9", "\u0301", "\u4e16", "\U0001f600",
    "\u3000",   "12",    "!",    "<s>",    "<s",     "<",      "<l>",
    "[MASK]",   "[MA",   "--",   "-",      "hello",  "\u00a0", "x",
    "\xc2\x85", "unaff", "ab",   "<r>"};
enum { N_BITS = sizeof bits / sizeof *bits };

static size_t random_text(th_rng *rng, char *text, size_t room, bool broken) {
  size_t n = 0;
  const int pieces = th_below(rng, th_chance(rng, 10) ? 900 : 60);
  for (int i = 0; i < pieces && n + 16 < room; i++) {
    const char *bit = bits[th_below(rng, N_BITS)];
    memcpy(text + n, bit, strlen(bit));
    n += strlen(bit);
  }
  for (int i = th_below(rng, 8); broken && n > 0 && i > 0; i--)
    text[th_below(rng, (int)n)] = (char)th_next(rng);
  return n;
}

#define ADDED                                                                  \
  "\"added_tokens\": [{\"id\": 300, \"content\": \"<l>\", \"lstrip\": true}, " \
  "{\"id\": 301, \"content\": \"<r>\", \"rstrip\": true}, {\"id\": 302, "      \
  "\"content\": \"<s>\", \"special\": true}],"

static void random_texts(clattn_tokenizer *t, uint64_t seed, int rounds) {
  th_rng rng = {seed};
  char text[8192];
  for (int i = 0; i < rounds; i++) {
    const clattn_invalid invalid = (clattn_invalid)th_below(&rng, 3);
    const clattn_encode_options o = with(th_chance(&rng, 50), true, invalid);
    const size_t n =
        random_text(&rng, text, sizeof text, invalid != CLATTN_INVALID_ERROR);
    expect_same(t, text, n, &o, &rng);
  }
  clattn_tokenizer_destroy(t);
}

Test(text_stream, any_parts_give_the_tokens_of_the_whole) {
  random_texts(small_bpe(BYTE_LEVEL, ADDED, ""), 1, 400);
  random_texts(
      small_bpe("{\"type\": \"Sequence\", \"pretokenizers\": "
                "[{\"type\": \"Digits\", \"individual_digits\": "
                "true}, {\"type\": \"Split\", \"pattern\": "
                "{\"String\": \"e\"}, \"behavior\": \"Removed\"}, " BYTE_LEVEL
                "]}",
                ADDED, ""),
      2, 300);
  /* What puts a space in, or looks behind, is held until the end. */
  random_texts(small_bpe("{\"type\": \"ByteLevel\", \"add_prefix_space\": "
                         "true}",
                         ADDED, ""),
               3, 100);
  random_texts(small_bpe("{\"type\": \"Sequence\", \"pretokenizers\": "
                         "[{\"type\": \"Split\", \"pattern\": {\"Regex\": "
                         "\"(?<=a)b|^the|\\\\bab\"}, \"behavior\": "
                         "\"Isolated\"}, " BYTE_LEVEL "]}",
                         ADDED, ""),
               4, 100);
  random_texts(small_wordpiece(-1), 5, 300);
  clattn_tokenizer *t = NULL;
  char all[1024] = "";
  for (int i = 0; i < N_BITS; i++) strcat(all, bits[i]);
  strcat(all, "\ufffd");
  TH_OK(
      clattn_tokenizer_from_text(CLATTN_TOKENIZER_WORDS, all, strlen(all), &t));
  random_texts(t, 6, 200);
}

Test(text_stream, characters) {
  clattn_tokenizer *t = NULL;
  char all[1024] = "";
  for (int i = 0; i < N_BITS; i++) strcat(all, bits[i]);
  TH_OK(
      clattn_tokenizer_from_text(CLATTN_TOKENIZER_CHARS, all, strlen(all), &t));
  th_rng rng = {7};
  const clattn_encode_options o = with(false, true, CLATTN_INVALID_ERROR);
  for (int i = 0; i < 50; i++) expect_same(t, all, strlen(all), &o, &rng);
  clattn_tokenizer_destroy(t);
}

Test(text_stream, tokens_come_before_the_end) {
  clattn_tokenizer *t = small_bpe(BYTE_LEVEL, "", "");
  clattn_token_stream *s = NULL;
  ids got = {0};
  TH_OK(clattn_token_stream_create(t, NULL, gather, &got, &s));
  char part[1000];
  for (size_t i = 0; i < sizeof part; i++) part[i] = "the ab "[i % 7];
  for (int i = 0; i < 1000; i++)
    TH_OK(clattn_token_stream_push(s, part, sizeof part));
  cr_expect_gt(got.n, 400000);
  TH_OK(clattn_token_stream_finish(s));
  cr_expect_eq(clattn_token_stream_push(s, "a", 1), CLATTN_INVALID_ARGUMENT);
  cr_expect_eq(clattn_token_stream_finish(s), CLATTN_INVALID_ARGUMENT);
  clattn_token_stream_destroy(s);
  free(got.id);
  clattn_tokenizer_destroy(t);
}

Test(text_stream, failures) {
  clattn_tokenizer *t = small_bpe(BYTE_LEVEL, "", "");
  clattn_token_stream *s = NULL;
  th_rng rng = {8};
  ids got = {0};
  /* The byte is counted from the start of all parts. */
  const char *bad = "the the the the\xff the";
  cr_expect_eq(stream(t, bad, strlen(bad), NULL, &rng, 3, &got),
               CLATTN_INVALID_ARGUMENT);
  cr_expect(strstr(clattn_error_message(), "at byte 15"), "%s",
            clattn_error_message());
  cr_expect_eq(stream(t, "the \xe2\x82", 6, NULL, &rng, 2, &got),
               CLATTN_INVALID_ARGUMENT);
  cr_expect(strstr(clattn_error_message(), "at byte 4"), "%s",
            clattn_error_message());
  /* The sink's answer ends it. */
  got.answer = CLATTN_IO_ERROR;
  clattn_set_error(CLATTN_OK, "of another call");
  cr_expect_eq(stream(t, "the the", 7, NULL, &rng, 9, &got), CLATTN_IO_ERROR);
  cr_expect_str_eq(clattn_error_message(), "sink: ended the stream");
  got.message = "the disk is full";
  cr_expect_eq(stream(t, "the the", 7, NULL, &rng, 9, &got), CLATTN_IO_ERROR);
  cr_expect_str_eq(clattn_error_message(), "the disk is full");
  got.message = NULL;
  /* A piece longer than 16 MiB. */
  const size_t n = (size_t)1 << 20;
  char *text = malloc(n);
  memset(text, 'a', n);
  got.answer = CLATTN_OK;
  TH_OK(clattn_token_stream_create(t, NULL, gather, &got, &s));
  clattn_status status = CLATTN_OK;
  int parts = 0;
  while (status == CLATTN_OK && parts < 40) {
    status = clattn_token_stream_push(s, text, n);
    parts++;
  }
  cr_expect_eq(status, CLATTN_INVALID_ARGUMENT);
  cr_expect(parts > 16 && parts < 30, "%d MiB", parts);
  clattn_token_stream_destroy(s);
  clattn_token_stream_destroy(NULL);
  free(text);
  free(got.id);
  clattn_tokenizer_destroy(t);
}

/* Windows over the ids of a mapped file: the text and they are nowhere else. */
static void expect_windows(const int32_t *ids, const clattn_encoding *whole) {
  enum { LENGTH = 256, STRIDE = 128 };
  int32_t input[LENGTH], target[LENGTH];
  clattn_kit_loader *loader = NULL;
  clattn_kit_loader_config config;
  clattn_kit_loader_config_init(&config);
  config.length = LENGTH;
  config.stride = STRIDE;
  config.batch = 1;
  config.shuffle = false;
  TH_OK(clattn_kit_loader_create(&config, ids, whole->n, &loader));
  int64_t windows = 0, got;
  for (;; windows++) {
    TH_OK(clattn_kit_loader_next(loader, input, target, &got));
    if (got == 0) break;
    const int32_t *want = whole->ids + windows * STRIDE;
    cr_expect_eq(memcmp(input, want, sizeof input), 0);
    cr_expect_eq(memcmp(target, want + 1, sizeof target), 0);
  }
  cr_expect_eq(windows, (whole->n - LENGTH - 1) / STRIDE + 1);
  clattn_kit_loader_destroy(loader);
}

Test(text_stream, a_file_to_a_file) {
  folder f = folder_make();
  put_small_bpe(&f);
  clattn_tokenizer *t = load(f.path);
  char *text = malloc(1000001);
  for (int i = 0; i < 1000000; i++) text[i] = "the aab\n"[i % 8];
  folder_put(&f, "text", text, 1000000);
  char path[128], ids_path[128];
  strcpy(path, f.file);
  strcpy(ids_path, folder_file(&f, "ids.safetensors"));
  int64_t n;
  TH_OK(clattn_tokenizer_encode_file(t, path, NULL, ids_path, &n));
  clattn_encoding whole;
  TH_OK(clattn_tokenizer_encode(t, text, 1000000, NULL, &whole));
  clattn_kit_safetensors *file = NULL;
  clattn_kit_tensor tensor;
  TH_OK(clattn_kit_safetensors_open(ids_path, &file));
  TH_OK(clattn_kit_safetensors_find(file, "ids", &tensor));
  cr_expect_eq(tensor.dtype, CLATTN_KIT_I32);
  cr_assert(n == whole.n && tensor.rank == 1 && tensor.extent[0] == n);
  cr_expect_eq(memcmp(tensor.data, whole.ids, tensor.size_bytes), 0);
  expect_windows(tensor.data, &whole);
  clattn_kit_safetensors_destroy(file);
  clattn_encoding_free(&whole);
  /* What fails leaves nothing. */
  text[500000] = '\xff';
  folder_put(&f, "text", text, 1000000);
  cr_expect_eq(remove(ids_path), 0);
  cr_expect_eq(clattn_tokenizer_encode_file(t, path, NULL, ids_path, NULL),
               CLATTN_INVALID_ARGUMENT);
  cr_expect(strstr(clattn_error_message(), "byte 500000"));
  cr_expect_null(fopen(ids_path, "rb"));
  cr_expect_eq(
      clattn_tokenizer_encode_file(t, "/nonexistent/text", NULL, ids_path, &n),
      CLATTN_IO_ERROR);
  cr_expect(strstr(clattn_error_message(), "/nonexistent/text"));
  free(text);
  clattn_tokenizer_destroy(t);
  folder_remove(&f);
}
