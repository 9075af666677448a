/* Tokens of texts: the four kinds, specials, pairs, places, and back. */
#define _POSIX_C_SOURCE 200809L /* mkdtemp */
#include <time.h>

#include "clattn_text.h"
#include "text_files.h"

/* ---- byte-level BPE beside the definition -------------------------------- */

/* Merges by the definition: of all neighbours the first in the list, from the
 * left, until none is left. parts [n] of bytes in text. */
static size_t merge_slowly(const char *text, size_t n, size_t *ends) {
  for (size_t i = 0; i < n; i++) ends[i] = i + 1;
  for (;;) {
    int best = N_SMALL;
    size_t where = 0;
    for (size_t i = 0; i + 1 < n; i++) {
      const size_t begin = i ? ends[i - 1] : 0;
      const size_t a = ends[i] - begin, b = ends[i + 1] - ends[i];
      for (int m = 0; m < best; m++)
        if (strlen(small_merges[m][0]) == a &&
            strlen(small_merges[m][1]) == b &&
            memcmp(text + begin, small_merges[m][0], a) == 0 &&
            memcmp(text + ends[i], small_merges[m][1], b) == 0)
          best = m, where = i;
    }
    if (best == N_SMALL) return n;
    memmove(ends + where, ends + where + 1, (n - where - 1) * sizeof *ends);
    n--;
  }
}

static void expect_merged(const clattn_tokenizer *t, const char *text,
                          size_t n) {
  size_t *ends = calloc(n + 1, sizeof *ends);
  const clattn_encode_options raw = with(false, true, CLATTN_INVALID_BYTES);
  clattn_encoding got;
  TH_OK(clattn_tokenizer_encode(t, text, n, &raw, &got));
  const size_t parts = merge_slowly(text, n, ends);
  cr_assert_eq((size_t)got.n, parts, "%zu bytes: %lld tokens, want %zu", n,
               (long long)got.n, parts);
  for (size_t i = 0; i < parts; i++) {
    const size_t begin = i ? ends[i - 1] : 0;
    cr_assert_eq((size_t)got.begins[i], begin);
    cr_assert_eq((size_t)got.ends[i], ends[i]);
    size_t size;
    const char *token = clattn_tokenizer_token(t, got.ids[i], &size);
    cr_assert(size == ends[i] - begin &&
              memcmp(token, text + begin, size) == 0);
  }
  clattn_encoding_free(&got);
  free(ends);
}

Test(text, bpe_merges_by_rank) {
  clattn_tokenizer *t = small_bpe(ONE_PIECE, "", "");
  th_rng rng = {1};
  char text[800];
  for (int i = 0; i < 600; i++) { /* short pieces, and long ones by a heap */
    const size_t n = (size_t)th_below(&rng, i % 20 == 0 ? 800 : 120);
    const char *letters = i % 3 == 0 ? "ab" : i % 3 == 1 ? "the xr" : "abthel";
    const int kinds = (int)strlen(letters);
    for (size_t j = 0; j < n; j++) text[j] = letters[th_below(&rng, kinds)];
    expect_merged(t, text, n);
  }
  clattn_tokenizer_destroy(t);
}

Test(text, bpe_of_a_long_piece_is_not_quadratic) {
  clattn_tokenizer *t = small_bpe(ONE_PIECE, "", "");
  const size_t n = 1 << 18;
  char *text = malloc(n);
  memset(text, 'a', n);
  clattn_encoding got;
  TH_OK(clattn_tokenizer_encode(t, text, n, NULL, &got));
  cr_expect_eq(got.n, (int64_t)(n / 4)); /* aaaa */
  clattn_encoding_free(&got);
  free(text);
  clattn_tokenizer_destroy(t);
}

/* Whatever the bytes: they come back, and places follow each other. */
Test(text, bpe_gives_every_byte_back) {
  clattn_tokenizer *t = small_bpe(BYTE_LEVEL, "", "");
  const clattn_encode_options raw = with(true, true, CLATTN_INVALID_BYTES);
  th_rng rng = {2};
  char text[256];
  for (int i = 0; i < 2000; i++) {
    const size_t n = (size_t)th_below(&rng, sizeof text);
    for (size_t j = 0; j < n; j++)
      text[j] = th_chance(&rng, 50)
                    ? (char)th_next(&rng)
                    : " the'll\xc3\xa9\n\t1"[th_below(&rng, 13)];
    clattn_encoding got;
    TH_OK(clattn_tokenizer_encode(t, text, n, &raw, &got));
    int64_t at = 0;
    for (int64_t j = 0; j < got.n; j++) {
      cr_assert_eq(got.begins[j], at);
      at = got.ends[j];
      cr_assert(got.segments[j] == 0 && got.added[j] == 0);
    }
    cr_assert_eq(at, (int64_t)n);
    char *back;
    size_t bytes;
    TH_OK(clattn_tokenizer_decode(t, got.ids, got.n, false, &back, &bytes));
    cr_assert(bytes == n && memcmp(back, text, n) == 0);
    free(back);
    clattn_encoding_free(&got);
  }
  clattn_tokenizer_destroy(t);
}

/* A model of words, all of them unknown, shows the pieces. */
Test(text, gpt2_pattern_splits) {
  folder f = folder_make();
  folder_write(&f, "tokenizer.json",
               "{\"model\": {\"type\": \"WordLevel\", \"vocab\": {\"?\": 0}, "
               "\"unk_token\": \"?\"}, \"pre_tokenizer\": {\"type\": "
               "\"Split\", \"behavior\": \"Isolated\", \"pattern\": "
               "{\"Regex\": \"'s|'t|'re|'ve|'m|'ll|'d| ?\\\\p{L}+| "
               "?\\\\p{N}+| ?[^\\\\s\\\\p{L}\\\\p{N}]+|\\\\s+(?!\\\\S)|"
               "\\\\s+\"}}}");
  clattn_tokenizer *t = load(f.path);
  folder_remove(&f);
  static const struct {
    const char *text, *pieces; /* x: the first byte of one */
  } cases[] = {
      {"the the", "x..x..."},
      {" the  the", "x...xx..."},
      {"don't we'll", "x..x.x..x.."},
      {"DON'T", "x..xx"},
      {"a1 2!", "xxx.x"},
      {"  \n a", "x..x."},
      {"a \n", "xx."},
      {"\u00a0a", "x.x"},
      {"\u3000\u3000a", "x..x..x"},
      {"\u180e\u180e", "x....."}, /* no white space since Unicode 6.3 */
      {"a\u180e", "xx.."},
      {"a\xc2\x85"
       "b",
       "xx.x"},
      {"a\u200b b", "xx..x."},
      {"\u00e9\u0301", "x.x."},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    const char *text = cases[i].text;
    clattn_encoding got;
    char pieces[64];
    TH_OK(clattn_tokenizer_encode(t, text, strlen(text), NULL, &got));
    memset(pieces, '.', sizeof pieces);
    pieces[strlen(text)] = 0;
    for (int64_t j = 0; j < got.n; j++) pieces[got.begins[j]] = 'x';
    cr_expect_str_eq(pieces, cases[i].pieces, "'%s': %s, want %s", text, pieces,
                     cases[i].pieces);
    clattn_encoding_free(&got);
  }
  clattn_tokenizer_destroy(t);
}

/* ---- special and added tokens -------------------------------------------- */

Test(text, special_tokens_are_text_unless_allowed) {
  folder f = folder_make();
  put_small_bpe(&f);
  clattn_tokenizer *t = load(f.path);
  folder_remove(&f);
  const clattn_encode_options allow = with(true, true, CLATTN_INVALID_ERROR);
  cr_expect_eq(clattn_tokenizer_size(t), 272);
  cr_expect(clattn_tokenizer_is_special(t, 271));
  cr_expect_not(clattn_tokenizer_is_special(t, 'a'));
  cr_expect_not(clattn_tokenizer_is_special(t, -1));
  cr_expect_not(clattn_tokenizer_is_special(t, 1000));
  EXPECT(t, "the<|endoftext|>aa", &allow, 257, 271, 258);
  EXPECT(t, "<|endoftext|>", NULL, '<', '|', 'e', 'n', 'd', 'o', 'f', 't', 'e',
         'x', 't', '|', '>');
  EXPECT(t, "<|endoftext|", &allow, '<', '|', 'e', 'n', 'd', 'o', 'f', 't', 'e',
         'x', 't', '|');
  const int32_t ids[] = {257, 271, 258};
  char *text;
  size_t bytes;
  TH_OK(clattn_tokenizer_decode(t, ids, 3, true, &text, &bytes));
  cr_expect_str_eq(text, "theaa");
  free(text);
  TH_OK(clattn_tokenizer_decode(t, ids, 3, false, &text, &bytes));
  cr_expect_str_eq(text, "the<|endoftext|>aa");
  free(text);
  clattn_tokenizer_destroy(t);
}

#define ADDED(id, content, flags)                                              \
  "{\"id\": " #id ", \"content\": \"" content "\"" flags "}"

Test(text, added_tokens_take_the_space_they_are_told_to) {
  clattn_tokenizer *t = small_bpe(
      BYTE_LEVEL,
      "\"added_tokens\": [" ADDED(300, "<l>", ", \"lstrip\": true") "," ADDED(
          301, "<r>", ", \"rstrip\": true") "," ADDED(302, "the",
                                                     ", \"single_word\": "
                                                     "true") "," ADDED(303,
                                                                       "<r>>",
                                                                       "")
          "," ADDED(304, "<s>", ", \"special\": true") "],",
      "");
  const clattn_encode_options allow = with(true, true, CLATTN_INVALID_ERROR);
  EXPECT(t, "a \n<l> b", NULL, 'a', 300, ' ', 'b');
  EXPECT(t, "a <r> \n b", NULL, 'a', ' ', 301, 'b');
  EXPECT(t, "a<r>>b", NULL, 'a', 303, 'b'); /* the longest */
  EXPECT(t, "the other the", NULL, 302, ' ', 'o', 264, ' ', 302);
  EXPECT(t, "<s>", NULL, '<', 's', '>');
  EXPECT(t, "<s>", &allow, 304);
  EXPECT(t, "\xc3\xa9the", NULL, 267, 257); /* in a word */
  cr_expect_eq(clattn_tokenizer_size(t), 305);
  cr_expect_null(clattn_tokenizer_token(t, 290, NULL), "a hole");
  clattn_encoding got;
  TH_OK(clattn_tokenizer_encode(t, "a <l>", 5, NULL, &got));
  cr_expect(got.n == 2 && got.begins[1] == 1 && got.ends[1] == 5);
  clattn_encoding_free(&got);
  clattn_tokenizer_destroy(t);
}

/* ---- WordPiece ----------------------------------------------------------- */

Test(text, wordpiece_as_bert_has_it) {
  clattn_tokenizer *t = small_wordpiece(-1), *cased = small_wordpiece(0);
  const clattn_encode_options bare = with(false, false, CLATTN_INVALID_ERROR);
  const clattn_encode_options allow = with(true, false, CLATTN_INVALID_ERROR);
  cr_expect_eq(clattn_tokenizer_get_kind(t), CLATTN_TOKENIZER_WORDPIECE);
  EXPECT(t, "Hello, world!", NULL, 2, 8, 9, 10, 11, 3);
  EXPECT(t, "UNaffable", &bare, 5, 6, 7);
  EXPECT(t, "Caf\u00e9s Cafe\u0301s", &bare, 12, 14, 12, 14);
  EXPECT(t, "hello\u4e16world", &bare, 8, 13, 10); /* ideographs stand alone */
  EXPECT(t, "hel\u200blo", &bare, 8);
  EXPECT(t, "wor\x01ld\u00a0hello\u3000un", &bare, 10, 8, 5);
  EXPECT(t, "unheard", &bare, 1);
  EXPECT(t, "[MASK]", &bare, 17, 19, 18);
  EXPECT(t, "un[MASK]", &allow, 5, 4);
  EXPECT(t, "", NULL, 2, 3);
  expect_tokens(t, "", &bare, NULL, 0);
  EXPECT(cased, "Caf\u00e9 caf\u00e9", &bare, 15, 16, 1);
  /* A word is unknown where it is longer than 100 characters. */
  char word[512] = "un";
  while (strlen(word) < 101) strcat(word, "s");
  EXPECT(t, word, &bare, 1);
  word[100] = 0;
  clattn_encoding got;
  TH_OK(clattn_tokenizer_encode(t, word, 100, &bare, &got));
  cr_expect_eq(got.n, 99);
  clattn_encoding_free(&got);
  /* Places are those of the text that was handed in. */
  const char *text =
      "\x01"
      "Caf\u00e9s, \u0130!";
  TH_OK(clattn_tokenizer_encode(t, text, strlen(text), NULL, &got));
  const int64_t begins[] = {0, 1, 6, 7, 9, 11, 0},
                ends[] = {0, 6, 7, 8, 11, 12, 0};
  cr_assert_eq(got.n, 7);
  for (int i = 0; i < 7; i++) {
    cr_expect(got.begins[i] == begins[i] && got.ends[i] == ends[i],
              "token %d is at %lld-%lld", i, (long long)got.begins[i],
              (long long)got.ends[i]);
    cr_expect_eq(got.added[i], i == 0 || i == 6);
  }
  clattn_encoding_free(&got);
  clattn_tokenizer_destroy(t);
  clattn_tokenizer_destroy(cased);
}

static void expect_text(const clattn_tokenizer *t, const char *want, int64_t n,
                        const int32_t *ids) {
  char *text;
  size_t bytes;
  TH_OK(clattn_tokenizer_decode(t, ids, n, true, &text, &bytes));
  cr_expect_str_eq(text, want);
  cr_expect_eq(bytes, strlen(want));
  free(text);
}

Test(text, wordpiece_of_a_long_word_is_not_quadratic) {
  folder f = folder_make();
  folder_write(&f, "tokenizer.json",
               "{\"normalizer\": {\"type\": \"BertNormalizer\"}, "
               "\"pre_tokenizer\": {\"type\": \"BertPreTokenizer\"}, "
               "\"model\": {\"type\": \"WordPiece\", \"unk_token\": \"[UNK]\", "
               "\"max_input_chars_per_word\": 1048576, \"vocab\": {\"[UNK]\": "
               "0, \"a\": 1, \"##aa\": 2, \"##\u00e9a\": 3}}}");
  clattn_tokenizer *t = load(f.path);
  folder_remove(&f);
  const size_t n = ((size_t)1 << 19) + 1;
  char *text = malloc(n);
  memset(text, 'a', n);
  clattn_encoding got;
  const clock_t before = clock();
  TH_OK(clattn_tokenizer_encode(t, text, n, NULL, &got));
  const double seconds = (double)(clock() - before) / CLOCKS_PER_SEC;
  cr_expect_lt(seconds, 5, "%.1f s", seconds); /* quadratic: minutes */
  cr_expect_eq(got.n, (int64_t)(1 + (n - 1) / 2));
  cr_expect(got.ids[0] == 1 && got.ids[got.n - 1] == 2);
  clattn_encoding_free(&got);
  free(text);
  clattn_tokenizer_destroy(t);
}

Test(text, wordpiece_back_to_text) {
  clattn_tokenizer *t = small_wordpiece(-1);
  const int32_t ids[] = {2, 8, 9, 10, 14, 11, 3, 14, 12};
  expect_text(t, "hello, worlds!s cafe", 9, ids);
  expect_text(t, "##s cafe", 2, ids + 7);
  expect_text(t, "", 0, NULL);
  cr_expect(clattn_tokenizer_space(t, 8, 10));
  cr_expect_not(clattn_tokenizer_space(t, 8, 9));
  cr_expect_not(clattn_tokenizer_space(t, 8, 14));
  cr_expect_not(clattn_tokenizer_space(t, -1, 10));
  clattn_tokenizer_destroy(t);
}

/* ---- pairs and cutting --------------------------------------------------- */

Test(text, pairs_stand_in_their_template) {
  clattn_tokenizer *t = small_wordpiece(-1);
  clattn_encode_options o;
  clattn_encode_options_init(&o);
  o.pair = "world!", o.pair_bytes = 6;
  clattn_encoding got;
  TH_OK(clattn_tokenizer_encode(t, "hello,", 6, &o, &got));
  const int32_t ids[] = {2, 8, 9, 3, 10, 11, 3};
  const uint8_t segments[] = {0, 0, 0, 0, 1, 1, 1};
  cr_assert_eq(got.n, 7);
  cr_expect_eq(memcmp(got.ids, ids, sizeof ids), 0);
  cr_expect_eq(memcmp(got.segments, segments, sizeof segments), 0);
  cr_expect(got.begins[5] == 5 && got.ends[5] == 6 && !got.truncated);
  clattn_encoding_free(&got);
  o.add_special = false;
  EXPECT(t, "hello,", &o, 8, 9, 10, 11);
  o.add_special = true;
  o.max_length = 6; /* 3 for texts: 1 and 2 of them */
  EXPECT(t, "hello,", &o, 2, 8, 3, 10, 11, 3);
  o.max_length = 5;
  EXPECT(t, "hello,", &o, 2, 8, 3, 10, 3);
  EXPECT(t, "", &o, 2, 3, 10, 11, 3);
  o.max_length = 3;
  EXPECT(t, "hello,", &o, 2, 3, 3);
  o.pair = NULL, o.pair_bytes = 0;
  TH_OK(clattn_tokenizer_encode(t, "hello, world", 12, &o, &got));
  cr_expect(got.truncated && got.n == 3 && got.ids[1] == 8);
  clattn_encoding_free(&got);
  o.max_length = 1;
  cr_expect_eq(clattn_tokenizer_encode(t, "a", 1, &o, &got),
               CLATTN_INVALID_ARGUMENT);
  cr_expect(strstr(clattn_error_message(), "max_length"));
  clattn_tokenizer_destroy(t);
}

/* ---- what is not UTF-8 --------------------------------------------------- */

Test(text, invalid_bytes_are_treated_as_told) {
  clattn_tokenizer *bpe = small_bpe(BYTE_LEVEL, "", "");
  static const struct {
    const char *text;
    int parts; /* U+FFFD by the rule of Unicode 3.9, table 3-8 */
    int at;
  } cases[] = {
      {"a\xff", 1, 1},
      {"\xc0\x80", 2, 0},
      {"\xe0\x80\x80", 3, 0},
      {"\xed\xa0\x80", 3, 0},
      {"\xf0\x80\x80\x80", 4, 0},
      {"\xf4\x90\x80\x80", 4, 0},
      {"\xe2\x82", 1, 0},
      {"\xf0\x9f\x98", 1, 0},
      {"\xf0\x9f\x98x", 1, 0},
      {"ab\x80\xbf", 2, 2},
      {"\xf1\x80\xe1\x80\xc2 ", 3, 0},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    const char *text = cases[i].text;
    const size_t n = strlen(text);
    clattn_encode_options o = with(false, true, CLATTN_INVALID_ERROR);
    clattn_encoding got;
    memset(&got, 0xff, sizeof got);
    cr_expect_eq(clattn_tokenizer_encode(bpe, text, n, &o, &got),
                 CLATTN_INVALID_ARGUMENT);
    char want[32];
    snprintf(want, sizeof want, "at byte %d", cases[i].at);
    cr_expect(strstr(clattn_error_message(), want), "%s",
              clattn_error_message());
    cr_expect(got.ids == NULL && got.n == 0);
    o.invalid = CLATTN_INVALID_REPLACE;
    TH_OK(clattn_tokenizer_encode(bpe, text, n, &o, &got));
    int replaced = 0;
    for (int64_t j = 0; j < got.n; j++) {
      replaced += got.ids[j] == 0xef; /* the first byte of U+FFFD */
      cr_expect(got.begins[j] >= 0 && got.ends[j] <= (int64_t)n &&
                got.begins[j] < got.ends[j]);
    }
    cr_expect_eq(replaced, cases[i].parts, "case %zu has %d", i, replaced);
    cr_expect_eq(got.begins[0], 0);
    cr_expect_eq(got.ends[got.n - 1], (int64_t)n);
    clattn_encoding_free(&got);
  }
  clattn_tokenizer_destroy(bpe);
}

static void expect_raw(const clattn_tokenizer *t, const char *text,
                       const char *want) {
  const clattn_encode_options raw = with(false, true, CLATTN_INVALID_BYTES);
  clattn_encoding got;
  TH_OK(clattn_tokenizer_encode(t, text, strlen(text), &raw, &got));
  char *back;
  size_t n;
  TH_OK(clattn_tokenizer_decode(t, got.ids, got.n, false, &back, &n));
  cr_expect_str_eq(back, want);
  for (int64_t i = 0, end = 0; i < got.n; end = got.ends[i++])
    cr_expect(got.begins[i] == end && got.ends[i] >= end);
  free(back);
  clattn_encoding_free(&got);
}

Test(text, a_space_goes_before_a_text_and_not_behind_invalid_bytes) {
  clattn_tokenizer *t =
      small_bpe("{\"type\": \"ByteLevel\", \"add_prefix_space\": true}",
                "\"added_tokens\": [{\"id\": 300, \"content\": \"<l>\"}],", "");
  expect_raw(t,
             "a\xff"
             "b",
             " a\xff"
             "b");
  expect_raw(t,
             "\xff"
             "b",
             "\xff"
             "b");
  expect_raw(t,
             "\xff b\xc3\xff\xff"
             "the",
             "\xff b\xc3\xff\xff"
             "the");
  expect_raw(t,
             "a\xff<l>b\xff"
             "c",
             " a\xff<l> b\xff"
             "c");
  expect_raw(t,
             "a\xff<l>\xff"
             "c",
             " a\xff<l>\xff"
             "c");
  static const char *const bits[] = {"the",  " ",        "a",        "\u00e9",
                                     "\xc3", "\xff\xfe", "\xe2\x82", "12"};
  th_rng rng = {11};
  for (int i = 0; i < 300; i++) {
    char text[256] = " ", *const begin = text + 1;
    int first = 0;
    for (int j = 0, n = th_below(&rng, 20); j < n; j++) {
      const int bit = th_below(&rng, 8);
      if (j == 0) first = bit;
      strcat(begin, bits[bit]);
    }
    /* Two halves may have become one character: where a text begins. */
    const bool spaced = *begin != 0 && first != 1 && (first < 4 || first == 7);
    expect_raw(t, begin, spaced ? text : begin);
  }
  clattn_tokenizer_destroy(t);
}

/* ---- characters and words ------------------------------------------------ */

static void round_trip(clattn_tokenizer_kind kind, const char *text,
                       const char *want) {
  clattn_tokenizer *tokens = NULL, *again = NULL, *saved;
  TH_OK(clattn_tokenizer_from_text(kind, text, strlen(text), &tokens));
  clattn_kit_tensor tensor;
  clattn_kit_metadata metadata;
  char *kept;
  TH_OK(clattn_tokenizer_describe(tokens, &tensor, &metadata, &kept));
  folder f = folder_make();
  TH_OK(clattn_kit_safetensors_write(folder_file(&f, "model.safetensors"),
                                     &tensor, 1, &metadata, 1));
  free(kept);
  again = load(f.path);
  TH_OK(clattn_tokenizer_save(tokens, f.path));
  saved = load(f.path); /* tokenizer.json comes first */
  folder_remove(&f);
  clattn_encoding got;
  TH_OK(clattn_tokenizer_encode(tokens, text, strlen(text), NULL, &got));
  clattn_tokenizer *const all[] = {tokens, again, saved};
  const int32_t size = clattn_tokenizer_size(tokens);
  for (int i = 0; i < 3; i++) {
    cr_expect_eq(clattn_tokenizer_size(all[i]), size);
    cr_expect_eq(clattn_tokenizer_get_kind(all[i]), kind);
    char *back;
    size_t bytes;
    TH_OK(
        clattn_tokenizer_decode(all[i], got.ids, got.n, false, &back, &bytes));
    cr_expect_str_eq(back, want);
    free(back);
    expect_tokens(all[i], text, NULL, got.ids, got.n);
    clattn_tokenizer_destroy(all[i]);
  }
  clattn_encoding_free(&got);
}

Test(text, characters_and_words) {
  round_trip(CLATTN_TOKENIZER_CHARS, "na\u00efve \u4e16\U0001f600!\n\u180e",
             "na\u00efve \u4e16\U0001f600!\n\u180e");
  round_trip(CLATTN_TOKENIZER_WORDS, "Well,  it is -- well.",
             "Well, it is -- well.");
  round_trip(CLATTN_TOKENIZER_WORDS, "an <|unk|> here <|endoftext|>",
             "an <|unk|> here <|endoftext|>");
  clattn_tokenizer *t = NULL;
  const char *text = "It's 1908--wow!";
  TH_OK(clattn_tokenizer_from_text(CLATTN_TOKENIZER_WORDS, text, strlen(text),
                                   &t));
  cr_expect_eq(clattn_tokenizer_size(t), 9);
  cr_expect_str_eq(clattn_tokenizer_token(t, 8, NULL), "<|unk|>");
  size_t n = 5;
  cr_expect_null(clattn_tokenizer_token(t, 9, &n));
  cr_expect_eq(n, 0);
  cr_expect_null(clattn_tokenizer_token(t, -1, NULL));
  cr_expect_eq(clattn_tokenizer_id(t, "1908", 4), 3);
  cr_expect_eq(clattn_tokenizer_id(t, "1907", 4), -1);
  /* ! ' -- 1908 It s wow */
  EXPECT(t, text, NULL, 4, 1, 5, 3, 2, 6, 0);
  EXPECT(t, "It never  s", NULL, 4, 8, 5);
  clattn_tokenizer_destroy(t);
  TH_OK(clattn_tokenizer_from_text(CLATTN_TOKENIZER_CHARS, "ba", 2, &t));
  clattn_encoding got;
  cr_expect_eq(clattn_tokenizer_encode(t, "ab\u00e9", 4, NULL, &got),
               CLATTN_INVALID_ARGUMENT);
  cr_expect(strstr(clattn_error_message(), "\u00e9"));
  cr_expect(strstr(clattn_error_message(), "U+00E9"));
  cr_expect(strstr(clattn_error_message(), "byte 2"));
  clattn_tokenizer_destroy(t);
  /* NUL is a character, and a word, like others. */
  TH_OK(clattn_tokenizer_from_text(CLATTN_TOKENIZER_WORDS, "a \0", 3, &t));
  TH_OK(clattn_tokenizer_encode(t, "a \0", 3, NULL, &got));
  cr_expect_eq(got.n, 2);
  char *back;
  TH_OK(clattn_tokenizer_decode(t, got.ids, got.n, false, &back, &n));
  cr_expect_eq(n, 3);
  free(back);
  clattn_encoding_free(&got);
  clattn_tokenizer_destroy(t);
  const char long_word[] = "<|unk|>\0z";
  TH_OK(clattn_tokenizer_from_text(CLATTN_TOKENIZER_WORDS, long_word, 9, &t));
  cr_expect_eq(clattn_tokenizer_id(t, long_word, 9), 0);
  cr_expect_eq(clattn_tokenizer_size(t), 3);
  clattn_tokenizer_destroy(t);
}
