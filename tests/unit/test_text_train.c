/* Learning byte-level BPE, beside the definition done slowly. */
#define _POSIX_C_SOURCE 200809L /* mkdtemp */
#include "clattn_text.h"
#include "text_files.h"

enum { MOST_SYMBOLS = 4096, MOST_MERGES = 400 };

/* A text as pieces of symbols; each symbol has its bytes. */
typedef struct slow {
  int symbol[MOST_SYMBOLS]; /* -1 ends a piece */
  int n;
  char bytes[256 + MOST_MERGES][64];
  size_t size[256 + MOST_MERGES];
  int n_symbols;
} slow;

/* The first 256 ids, in the order of GPT-2's characters. */
static void first_symbols(slow *s) {
  int id = 0;
  for (int pass = 0; pass < 2; pass++)
    for (int b = 0; b < 256; b++) {
      const bool printable =
          (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
      if (printable != (pass == 0)) continue;
      s->bytes[id][0] = (char)b;
      s->size[id++] = 1;
    }
  s->n_symbols = 256;
}

/* Pieces end before a space: such texts GPT-2's pattern splits so. */
static void read_text(slow *s, const char *text) {
  for (const char *c = text; *c; c++) {
    if (c > text && *c == ' ') s->symbol[s->n++] = -1;
    int id = 0;
    while (s->bytes[id][0] != *c) id++;
    s->symbol[s->n++] = id;
  }
}

/* The most frequent pair, of equals the smaller ids; its count. */
static int best_pair(const slow *s, int *left, int *right) {
  int best = 0;
  for (int i = 0; i + 1 < s->n; i++) {
    const int a = s->symbol[i], b = s->symbol[i + 1];
    if (a < 0 || b < 0) continue;
    int count = 0;
    for (int j = 0; j + 1 < s->n; j++)
      count += s->symbol[j] == a && s->symbol[j + 1] == b;
    if (count > best ||
        (count == best && (a < *left || (a == *left && b < *right))))
      best = count, *left = a, *right = b;
  }
  return best;
}

static void join(slow *s, int left, int right) {
  const size_t a = s->size[left], b = s->size[right];
  int id = s->n_symbols++;
  memcpy(s->bytes[id], s->bytes[left], a);
  memcpy(s->bytes[id] + a, s->bytes[right], b);
  s->size[id] = a + b;
  for (int i = 0; i < id; i++) /* made before, of other halves */
    if (s->size[i] == a + b && memcmp(s->bytes[i], s->bytes[id], a + b) == 0) {
      s->n_symbols--;
      id = i;
      break;
    }
  int n = 0;
  for (int i = 0; i < s->n; i++) {
    if (i + 1 < s->n && s->symbol[i] == left && s->symbol[i + 1] == right) {
      s->symbol[n++] = id;
      i++;
    } else {
      s->symbol[n++] = s->symbol[i];
    }
  }
  s->n = n;
}

static void expect_learnt(folder *f, const char *text, int32_t vocab_size,
                          int min_frequency) {
  slow *s = calloc(1, sizeof *s);
  first_symbols(s);
  read_text(s, text);
  int left = 0, right = 0;
  while (s->n_symbols < vocab_size - 1 &&
         best_pair(s, &left, &right) >= min_frequency)
    join(s, left, right);
  folder_write(f, "text", text);
  clattn_bpe_config config;
  clattn_bpe_config_init(&config);
  config.vocab_size = vocab_size;
  config.min_frequency = min_frequency;
  clattn_tokenizer *t = NULL;
  TH_OK(clattn_tokenizer_train_bpe(&config, f->file, &t));
  cr_assert_eq(clattn_tokenizer_size(t), s->n_symbols + 1,
               "%d tokens, want %d: %s", clattn_tokenizer_size(t),
               s->n_symbols + 1, text);
  for (int32_t i = 0; i < s->n_symbols; i++) {
    size_t size;
    const char *token = clattn_tokenizer_token(t, i, &size);
    cr_assert(size == s->size[i] && memcmp(token, s->bytes[i], size) == 0,
              "token %d is '%s', want '%s': %s", i, token, s->bytes[i], text);
  }
  cr_expect(clattn_tokenizer_is_special(t, s->n_symbols));
  clattn_encoding got;
  TH_OK(clattn_tokenizer_encode(t, text, strlen(text), NULL, &got));
  char *back;
  size_t bytes;
  TH_OK(clattn_tokenizer_decode(t, got.ids, got.n, false, &back, &bytes));
  cr_expect_str_eq(back, text);
  free(back);
  clattn_encoding_free(&got);
  clattn_tokenizer_destroy(t);
  free(s);
}

Test(text_train, merges_of_the_most_frequent_pairs) {
  folder f = folder_make();
  th_rng rng = {1};
  char text[600];
  for (int i = 0; i < 60; i++) {
    const size_t n = 1 + (size_t)th_below(&rng, sizeof text - 1);
    const char *letters = i % 3 == 0 ? "ab" : i % 3 == 1 ? "ab cd" : "the er";
    for (size_t j = 0; j < n; j++)
      text[j] = letters[th_below(&rng, (int)strlen(letters))];
    text[n] = 0;
    /* Two spaces are a piece of another kind. */
    for (char *c; (c = strstr(text, "  ")) != NULL;) c[0] = 'a';
    if (text[n - 1] == ' ') text[n - 1] = 'b';
    expect_learnt(&f, text, 258 + th_below(&rng, 80), 1 + th_below(&rng, 4));
  }
  folder_remove(&f);
}

static void count_calls(void *user, int64_t done, int64_t total) {
  cr_assert(done >= 0 && done <= total);
  ++*(int *)user;
}

Test(text_train, settings_and_failures) {
  folder f = folder_make();
  folder_write(&f, "text", "the the the aaaa aaaa aaaa bb");
  clattn_bpe_config config;
  clattn_bpe_config_init(&config);
  clattn_tokenizer *t = NULL;
  int calls = 0;
  const char *specials[] = {"<a>", "<b>"};
  config.vocab_size = 300;
  config.specials = specials, config.n_specials = 2;
  config.progress = count_calls, config.progress_user = &calls;
  TH_OK(clattn_tokenizer_train_bpe(&config, f.file, &t));
  cr_expect_gt(calls, 0);
  const int32_t n = clattn_tokenizer_size(t);
  cr_expect_lt(n, 300, "it ends when no pair is frequent enough");
  cr_expect_eq(clattn_tokenizer_id(t, "<a>", 3), n - 2);
  cr_expect_eq(clattn_tokenizer_id(t, "<b>", 3), n - 1);
  cr_expect_geq(clattn_tokenizer_id(t, " aaaa", 5), 256);
  cr_expect_eq(clattn_tokenizer_id(t, "bb", 2), -1);
  clattn_tokenizer_destroy(t);
  config.pattern = "a|[^a]+"; /* no merge may cross its pieces */
  TH_OK(clattn_tokenizer_train_bpe(&config, f.file, &t));
  cr_expect_eq(clattn_tokenizer_id(t, "aa", 2), -1);
  clattn_tokenizer_destroy(t);
  config.n_specials = 0, config.pattern = NULL;
  TH_OK(clattn_tokenizer_train_bpe(&config, f.file, &t));
  cr_expect_not(clattn_tokenizer_is_special(t, clattn_tokenizer_size(t) - 1));
  clattn_tokenizer_destroy(t);

  struct {
    int32_t vocab_size;
    int64_t min_frequency;
    const char *pattern, *text, *word;
    clattn_status status;
  } cases[] = {
      {255, 2, NULL, "ab", "vocab_size", CLATTN_INVALID_ARGUMENT},
      {1 << 30, 2, NULL, "ab", "vocab_size", CLATTN_INVALID_ARGUMENT},
      {300, 0, NULL, "ab", "min_frequency", CLATTN_INVALID_ARGUMENT},
      {300, 2, "(", "ab", "pattern", CLATTN_INVALID_ARGUMENT},
      {300, 2, NULL, "ab\xff", "byte 2", CLATTN_INVALID_ARGUMENT},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    clattn_bpe_config_init(&config);
    config.vocab_size = cases[i].vocab_size;
    config.min_frequency = cases[i].min_frequency;
    config.pattern = cases[i].pattern;
    folder_write(&f, "text", cases[i].text);
    cr_expect_eq(clattn_tokenizer_train_bpe(&config, f.file, &t),
                 cases[i].status);
    cr_expect_null(t);
    cr_expect(strstr(clattn_error_message(), cases[i].word), "%s",
              clattn_error_message());
  }
  clattn_bpe_config_init(&config);
  config.vocab_size = 300;
  folder_write(&f, "text", "ab\xff");
  cr_expect_eq(clattn_tokenizer_train_bpe(&config, f.file, &t),
               CLATTN_INVALID_ARGUMENT);
  char want[160];
  snprintf(want, sizeof want, "%s: not UTF-8 at byte 2", f.file);
  cr_expect_str_eq(clattn_error_message(), want);
  cr_expect_eq(clattn_tokenizer_train_bpe(&config, "/nonexistent", &t),
               CLATTN_IO_ERROR);
  cr_expect(strstr(clattn_error_message(), "/nonexistent"));
  folder_write(&f, "text", "");
  TH_OK(clattn_tokenizer_train_bpe(&config, f.file, &t));
  cr_expect_eq(clattn_tokenizer_size(t), 257);
  clattn_tokenizer_destroy(t);
  folder_remove(&f);
}
