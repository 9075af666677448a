/* Files of tokenizers: what they must have, what is refused and how, what comes
 * back after saving. */
#define _POSIX_C_SOURCE 200809L /* mkdtemp */
#include <math.h>

#include "../support/gguf_bytes.h"
#include "clattn_text.h"
#include "text_files.h"

/* ---- files that are wrong ------------------------------------------------ */

/* Loading the folder fails so, and the message has the word. */
static void expect_refused(folder *f, clattn_status status, const char *word) {
  clattn_tokenizer *t = (clattn_tokenizer *)f;
  const clattn_status got = clattn_tokenizer_load(f->path, NULL, &t);
  cr_expect_eq(got, status, "got %s, want %s, for %s", clattn_status_name(got),
               clattn_status_name(status), word);
  cr_expect_null(t);
  cr_expect(strstr(clattn_error_message(), word), "no '%s' in: %s", word,
            clattn_error_message());
  clattn_tokenizer_destroy(t == (clattn_tokenizer *)f ? NULL : t);
}

Test(text_files, bpe_files_that_are_wrong) {
  static const struct {
    const char *vocab, *merges, *word;
  } cases[] = {
      {"", "", "empty"},
      {"[]", "a b", "no JSON object"},
      {"{\"a\":", "a b", "not JSON"},
      {"{\"a\": 0, \"a\": 1}", "a b", "duplicate"},
      {"{\"a\": 0, \"b\": 0}", "a b", "id 0 is both"},
      {"{\"a\": -1}", "a b", "-1"},
      {"{\"a\": 16777216}", "a b", "16777216"},
      {"{\"a\": 1e3}", "a b", "no whole number"},
      {"{\"a\": \"1\"}", "a b", "no whole number"},
      {"{\"a\": 99999999999999999999}", "a b", "vocab.json"},
      {"{}", "a b", "merge 1"},
      {"{\"a\": 0, \"b\": 1}", "a b", "become"},
      {"{\"a\": 0, \"ab\": 1}", "a b", "'b' is not in the vocabulary"},
      {"{\"a\": 0, \"b\": 1, \"ab\": 2}", "a b\nab", "line 2"},
      {"{\"a\": 0, \"b\": 1, \"ab\": 2}", "a  b", "want two tokens"},
      {"{\"a\": 0, \"b\": 1, \"ab\": 2}", "a b ", "want two tokens"},
      {"{\"a\": 0, \"b\": 1, \"ab\": 2}", "a b\na b\n", "there twice"},
      {"{\"a\": 0, \"b\": 1, \"ab\": 2}", "\xff b\n", "merge 1"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    folder f = folder_make();
    folder_write(&f, "vocab.json", cases[i].vocab);
    folder_write(&f, "merges.txt", cases[i].merges);
    expect_refused(&f, CLATTN_IO_ERROR, cases[i].word);
    folder_remove(&f);
  }
  folder f = folder_make();
  folder_write(&f, "vocab.json", "{\"a\": 0}");
  expect_refused(&f, CLATTN_IO_ERROR, "merges.txt");
  folder_remove(&f);
}

Test(text_files, wordpiece_files_that_are_wrong) {
  static const struct {
    const char *vocab, *config, *word;
  } cases[] = {
      {"a\nb\n", NULL, "[UNK]"},
      {"[UNK]\na\na\n", NULL, "line 3"},
      {"[UNK]\n\xff\n", NULL, "line 2: not UTF-8"},
      {"[UNK]\n", "{", "tokenizer_config.json"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    folder f = folder_make();
    folder_write(&f, "vocab.txt", cases[i].vocab);
    if (cases[i].config)
      folder_write(&f, "tokenizer_config.json", cases[i].config);
    expect_refused(&f, CLATTN_IO_ERROR, cases[i].word);
    folder_remove(&f);
  }
}

Test(text_files, tiktoken_files_that_are_wrong) {
  static const struct {
    const char *text, *word;
  } cases[] = {
      {"YQ== 0\nYg== 0\n", "line 2"},  {"YQ== 0\nYQ== 1\n", "line 2"},
      {"YQ=  0\n", "line 1"},          {"YQ==\n", "line 1"},
      {"YQ== -1\n", "line 1"},         {"YQ== 99999999\n", "line 1"},
      {"YQ== 1x\n", "line 1"},         {"Y=== 0\n", "line 1"},
      {"YR== 0\n", "line 1"},          {"Y!== 0\n", "line 1"},
      {"==== 0\n", "line 1"},          {" 0\n", "line 1"},
      {"\n\n", "vocabulary is empty"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    folder f = folder_make();
    folder_write(&f, "a.tiktoken", cases[i].text);
    if (i + 1 == sizeof cases / sizeof *cases)
      folder_write(&f, "a.tiktoken", "\n"); /* <|endoftext|> alone */
    clattn_tokenizer *t = NULL;
    const clattn_status status = clattn_tokenizer_load(f.path, NULL, &t);
    if (i + 1 < sizeof cases / sizeof *cases) {
      cr_expect_eq(status, CLATTN_IO_ERROR);
      cr_expect(strstr(clattn_error_message(), cases[i].word), "%s",
                clattn_error_message());
    }
    clattn_tokenizer_destroy(t);
    folder_remove(&f);
  }
  /* A token of a megabyte would take a day to cut in two in every way. */
  folder f = folder_make();
  char *text = calloc(1, 8192);
  memset(text, 'A', 4096);
  strcat(text, " 0\n");
  folder_write(&f, "a.tiktoken", text);
  expect_refused(&f, CLATTN_IO_ERROR, "3072 bytes");
  free(text);
  folder_remove(&f);
}

#define MODEL                                                                  \
  "\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1, "            \
  "\"ab\": 2}, \"merges\": [\"a b\"]}"
#define WORDPIECE                                                              \
  "\"model\": {\"type\": \"WordPiece\", \"vocab\": {\"[UNK]\": "               \
  "0, \"a\": 1}}"
#define BERT                                                                   \
  "\"normalizer\": {\"type\": \"BertNormalizer\"}, "                           \
  "\"pre_tokenizer\": {\"type\": \"BertPreTokenizer\"}"

Test(text_files, json_files_that_are_wrong) {
  static const struct {
    const char *text;
    clattn_status status;
    const char *word;
  } cases[] = {
      {"[]", CLATTN_IO_ERROR, "no model"},
      {"{}", CLATTN_IO_ERROR, "no model"},
      {"{\"model\": {\"type\": \"Unigram\"}}", CLATTN_UNSUPPORTED, "Unigram"},
      {"{\"model\": {\"type\": 7}}", CLATTN_UNSUPPORTED, "model"},
      {"{" MODEL "}", CLATTN_UNSUPPORTED, "ByteLevel"},
      {"{" MODEL
       ", \"normalizer\": {\"type\": \"NFC\"}, \"pre_tokenizer\": " BYTE_LEVEL
       "}",
       CLATTN_UNSUPPORTED, "NFC"},
      {"{" MODEL ", \"pre_tokenizer\": {\"type\": \"Metaspace\"}}",
       CLATTN_UNSUPPORTED, "Metaspace"},
      {"{" MODEL ", \"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": "
       "{\"Regex\": \"(\"}, \"behavior\": \"Isolated\"}}",
       CLATTN_IO_ERROR, "regular expression"},
      {"{" MODEL ", \"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": "
       "{\"Regex\": \"a\"}, \"behavior\": \"MergedWithNext\"}}",
       CLATTN_UNSUPPORTED, "MergedWithNext"},
      {"{" MODEL ", \"pre_tokenizer\": {\"type\": \"Split\"}}", CLATTN_IO_ERROR,
       "pattern"},
      {"{\"model\": {\"type\": \"BPE\", \"byte_fallback\": true}}",
       CLATTN_UNSUPPORTED, "byte_fallback"},
      {"{\"model\": {\"type\": \"BPE\", \"end_of_word_suffix\": \"</w>\"}}",
       CLATTN_UNSUPPORTED, "</w>"},
      {"{\"model\": {\"type\": \"BPE\", \"dropout\": 0.1}}", CLATTN_UNSUPPORTED,
       "dropout"},
      {"{\"model\": {\"type\": \"BPE\", \"vocab\": []}}", CLATTN_IO_ERROR,
       "vocabulary"},
      {"{\"model\": {\"type\": \"BPE\", \"vocab\": {}}}", CLATTN_IO_ERROR,
       "merges"},
      {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": "
       "[7]}}",
       CLATTN_IO_ERROR, "merge 1"},
      {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": "
       "[[\"a\"]]}}",
       CLATTN_IO_ERROR, "merge 1"},
      {"{" WORDPIECE "}", CLATTN_UNSUPPORTED, "BertNormalizer"},
      {"{\"model\": {\"type\": \"WordPiece\", \"vocab\": {\"a\": 1}}, " BERT
       "}",
       CLATTN_IO_ERROR, "[UNK]"},
      {"{\"model\": {\"type\": \"WordPiece\", \"vocab\": {\"[UNK]\": 1}, "
       "\"max_input_chars_per_word\": 0}, " BERT "}",
       CLATTN_IO_ERROR, "max_input_chars_per_word"},
      {"{" WORDPIECE ", " BERT ", \"added_tokens\": [{\"id\": 1, \"content\": "
       "\"b\"}]}",
       CLATTN_IO_ERROR, "the id 1"},
      {"{" WORDPIECE ", " BERT ", \"added_tokens\": [{\"id\": 9, \"content\": "
       "\"b\", \"normalized\": true}]}",
       CLATTN_UNSUPPORTED, "'b'"},
      {"{" WORDPIECE ", " BERT ", \"added_tokens\": [{\"id\": 9}]}",
       CLATTN_IO_ERROR, "added_tokens[0]"},
      {"{" WORDPIECE ", " BERT ", \"added_tokens\": [{\"id\": 9, \"content\": "
       "\"\"}]}",
       CLATTN_IO_ERROR, "empty"},
      {"{" WORDPIECE ", " BERT ", \"post_processor\": {\"type\": "
       "\"BertProcessing\", \"cls\": [\"a\", 77], \"sep\": [\"a\", 1]}}",
       CLATTN_IO_ERROR, "77"},
      {"{" WORDPIECE ", " BERT ", \"post_processor\": {\"type\": "
       "\"BertProcessing\", \"sep\": [\"a\", 1]}}",
       CLATTN_IO_ERROR, "cls"},
      {"{" WORDPIECE ", " BERT ", \"post_processor\": {\"type\": "
       "\"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": "
       "\"x\"}}]}}",
       CLATTN_IO_ERROR, "'x'"},
      {"{" WORDPIECE ", " BERT ", \"post_processor\": {\"type\": "
       "\"TemplateProcessing\", \"single\": [{\"Sequence\": {\"id\": \"A\"}}, "
       "{\"Sequence\": {\"id\": \"A\"}}]}}",
       CLATTN_IO_ERROR, "once"},
      {"{" WORDPIECE ", " BERT ", \"post_processor\": {\"type\": \"Magic\"}}",
       CLATTN_UNSUPPORTED, "Magic"},
      {"{\"model\": {\"type\": \"WordLevel\", \"vocab\": {\"a\": -3}}}",
       CLATTN_IO_ERROR, "a: want an id"},
      {"{\"model\": {\"type\": \"WordLevel\", \"vocab\": {}}}", CLATTN_IO_ERROR,
       "empty"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    folder f = folder_make();
    folder_write(&f, "tokenizer.json", cases[i].text);
    expect_refused(&f, cases[i].status, cases[i].word);
    expect_refused(&f, cases[i].status, "tokenizer.json");
    folder_remove(&f);
  }
}

Test(text_files, folders_and_paths) {
  folder f = folder_make();
  expect_refused(&f, CLATTN_IO_ERROR, "none of tokenizer.json, ");
  expect_refused(&f, CLATTN_IO_ERROR, "is there");
  /* A model's weights, in one file or two, are no tokenizer. */
  const uint8_t weight = 1;
  const clattn_kit_tensor tensor = {.name = "weight",
                                    .dtype = CLATTN_KIT_U8,
                                    .rank = 1,
                                    .extent = {1},
                                    .data = &weight,
                                    .size_bytes = 1};
  static const char *const shards[] = {"model.safetensors", "b.safetensors"};
  for (int i = 0; i < 2; i++) {
    TH_OK(clattn_kit_safetensors_write(folder_file(&f, shards[i]), &tensor, 1,
                                       NULL, 0));
    expect_refused(&f, CLATTN_IO_ERROR, "none of tokenizer.json, ");
  }
  folder_write(&f, "b.safetensors", "short");
  expect_refused(&f, CLATTN_IO_ERROR, "b.safetensors");
  folder_write(&f, "a.tiktoken", "YQ== 0\n");
  folder_write(&f, "b.tiktoken", "YQ== 0\n");
  expect_refused(&f, CLATTN_IO_ERROR, "several files *.tiktoken");
  folder_write(&f, "model.safetensors", "short");
  folder_write(&f, "other", "x");
  clattn_tokenizer *t = NULL;
  cr_expect_eq(clattn_tokenizer_load(f.file, NULL, &t), CLATTN_IO_ERROR);
  cr_expect(strstr(clattn_error_message(), "want tokenizer.json"));
  cr_expect_eq(clattn_tokenizer_load("/nonexistent/vocab.txt", NULL, &t),
               CLATTN_IO_ERROR);
  cr_expect(strstr(clattn_error_message(), "/nonexistent/vocab.txt"));
  /* One of them by its own name is fine. */
  t = load(folder_file(&f, "b.tiktoken"));
  cr_expect_eq(clattn_tokenizer_size(t), 2);
  cr_expect_str_eq(clattn_tokenizer_token(t, 1, NULL), "<|endoftext|>");
  clattn_tokenizer_destroy(t);
  folder_remove(&f);
}

/* ---- the right ones ------------------------------------------------------ */

Test(text_files, tiktoken_merges_by_the_rank_of_the_result) {
  folder f = folder_make();
  /* a b c ab bc abc, and xyz, which no merge leads to */
  folder_write(&f, "a.tiktoken",
               "YQ== 0\nYg== 1\nYw== 2\nYWI= 4\nYmM= 3\nYWJj 5\neHl6 6\n"
               "eA== 7\neQ== 8\neg== 9\n");
  clattn_tokenizer_config config;
  clattn_tokenizer_config_init(&config);
  const char *specials[] = {"<a>"};
  const int32_t ids[] = {20};
  config.specials = specials, config.special_ids = ids, config.n_specials = 1;
  config.pattern = "x+y+z+|[a-z]";
  clattn_tokenizer *t = NULL;
  TH_OK(clattn_tokenizer_load(folder_file(&f, "a.tiktoken"), &config, &t));
  const clattn_encode_options allow = with(true, true, CLATTN_INVALID_ERROR);
  EXPECT(t, "xyz<a>a", &allow, 6, 20, 0);
  EXPECT(t, "xxyz", &allow, 7, 7, 8, 9);
  clattn_tokenizer_destroy(t);
  config.pattern = NULL;
  TH_OK(clattn_tokenizer_load(f.file, &config, &t));
  EXPECT(t, "abc", NULL, 5);     /* as a whole */
  EXPECT(t, "aabc", NULL, 0, 5); /* bc is before ab, then a bc */
  EXPECT(t, "bcab", NULL, 3, 4);
  clattn_encoding got;
  cr_expect_eq(clattn_tokenizer_encode(t, "aq", 2, NULL, &got),
               CLATTN_INVALID_ARGUMENT);
  cr_expect(strstr(clattn_error_message(), "byte 0x71 at byte 1"), "%s",
            clattn_error_message());
  TH_OK(clattn_tokenizer_save(t, f.path));
  clattn_tokenizer *again = load(f.path);
  EXPECT(again, "aabc", NULL, 0, 5);
  EXPECT(again, "xyz", NULL, 6);
  EXPECT(again, "xyzx", NULL, 7, 8, 9, 7);
  clattn_tokenizer_destroy(again);
  clattn_tokenizer_destroy(t);
  folder_remove(&f);
}

Test(text_files, saved_and_loaded_again) {
  folder f = folder_make();
  put_small_bpe(&f);
  clattn_tokenizer *made[] = {
      load(f.path), small_wordpiece(1), small_wordpiece(0),
      small_bpe("{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": "
                "\"Digits\", \"individual_digits\": true}, {\"type\": "
                "\"ByteLevel\", \"add_prefix_space\": true}]}",
                "\"added_tokens\": [{\"id\": 300, \"content\": \"\u00e9 e\", "
                "\"lstrip\": true}, {\"id\": 301, \"content\": \"<s>\", "
                "\"special\": true}], \"post_processor\": {\"type\": "
                "\"RobertaProcessing\", \"cls\": [\"<s>\", 301], \"sep\": "
                "[\"\u00e9 e\", 300]},",
                "\"ignore_merges\": true,")};
  const char *text =
      "the 12 Caf\u00e9s, hello <s> \u00e9 e\n\n[MASK]<|endoftext|>";
  for (int i = 0; i < 4; i++) {
    clattn_tokenizer *t = made[i];
    TH_OK(clattn_tokenizer_save(t, folder_file(&f, "saved")));
    clattn_tokenizer *again = load(f.file);
    cr_expect_eq(clattn_tokenizer_size(again), clattn_tokenizer_size(t));
    cr_expect_eq(clattn_tokenizer_get_kind(again),
                 clattn_tokenizer_get_kind(t));
    for (int32_t id = 0; id < clattn_tokenizer_size(t); id++) {
      size_t a, b;
      const char *x = clattn_tokenizer_token(t, id, &a);
      const char *y = clattn_tokenizer_token(again, id, &b);
      cr_assert(a == b && !x == !y && (!x || memcmp(x, y, a) == 0));
      cr_assert_eq(clattn_tokenizer_is_special(t, id),
                   clattn_tokenizer_is_special(again, id));
    }
    for (int special = 0; special < 2; special++) {
      clattn_encode_options o = with(special, true, CLATTN_INVALID_ERROR);
      clattn_encoding want;
      if (i > 0) o.pair = "hello the", o.pair_bytes = 9;
      TH_OK(clattn_tokenizer_encode(t, text, strlen(text), &o, &want));
      expect_tokens(again, text, &o, want.ids, want.n);
      clattn_encoding_free(&want);
    }
    clattn_tokenizer_destroy(again);
    clattn_tokenizer_destroy(t);
  }
  cr_expect_eq(clattn_tokenizer_save(NULL, f.path), CLATTN_INVALID_ARGUMENT);
  folder_remove(&f);
}

/* ---- hostile bytes ------------------------------------------------------- */

/* A changed file loads or is refused; what loads encodes. How many loaded. */
static int fuzz(folder *f, const char *name, uint64_t seed, int rounds) {
  size_t n;
  char *good = folder_read(f, name, &n);
  char *bad = malloc(n + 1);
  th_rng rng = {seed};
  int loaded = 0;
  for (int i = 0; i < rounds; i++) {
    memcpy(bad, good, n);
    size_t bytes = n;
    if (th_chance(&rng, 20)) bytes = (size_t)th_below(&rng, (int)n);
    for (int j = 1 + th_below(&rng, 3); j > 0 && bytes > 0; j--) {
      const size_t at = (size_t)th_below(&rng, (int)bytes);
      if (th_chance(&rng, 50))
        bad[at] = "0123456789\",:{}[] \n-\\a"[th_below(&rng, 21)];
      else
        bad[at] ^= (char)(1 << th_below(&rng, 8));
    }
    folder_put(f, name, bad, bytes);
    clattn_tokenizer *t = NULL;
    const clattn_status status = clattn_tokenizer_load(f->path, NULL, &t);
    if (status == CLATTN_OK) {
      clattn_encoding got;
      const clattn_encode_options o = with(true, true, CLATTN_INVALID_REPLACE);
      const char *text =
          "Hello, the aaaab!<s> caf\u00e9 [MASK] <|endoftext|>12";
      if (clattn_tokenizer_encode(t, text, strlen(text), &o, &got) ==
          CLATTN_OK) {
        char *back;
        size_t size;
        TH_OK(clattn_tokenizer_decode(t, got.ids, got.n, false, &back, &size));
        free(back);
        clattn_encoding_free(&got);
      }
      clattn_tokenizer_destroy(t);
      loaded++;
    } else {
      cr_assert(status == CLATTN_IO_ERROR || status == CLATTN_UNSUPPORTED, "%s",
                clattn_status_name(status));
      cr_assert_null(t);
      cr_assert_gt(strlen(clattn_error_message()), 0);
    }
  }
  cr_expect_lt(loaded, rounds);
  folder_put(f, name, good, n);
  free(good);
  free(bad);
  return loaded;
}

/* ---- GGUF ---------------------------------------------------------------- */

static void put_gguf(folder *f, const gb_file *file) {
  folder_put(f, "model.gguf", (const char *)file->bytes, file->n);
}

/* The small BPE model, with what else a file says. */
static gb_file bpe_gguf(const char *pre, bool begins) {
  static char names[N_SMALL + 256 + 2][32];
  static char merges[N_SMALL][32];
  const char *texts[N_SMALL + 256 + 2], *merge_texts[N_SMALL];
  int32_t types[N_SMALL + 256 + 2];
  enum { N = N_SMALL + 256 + 2 };
  for (int i = 0; i < N; i++) {
    texts[i] = names[i];
    types[i] = 1;
    if (i < 256) strcpy(names[i], byte_char(i, (char[3]){0}));
  }
  for (int i = 0; i < N_SMALL; i++) {
    small_merge(i, merges[i]);
    merge_texts[i] = merges[i];
    const char *space = strchr(merges[i], ' ');
    snprintf(names[256 + i], 32, "%.*s%s", (int)(space - merges[i]), merges[i],
             space + 1);
  }
  strcpy(names[N - 2], "<s>"), types[N - 2] = 3;
  strcpy(names[N - 1], "  "), types[N - 1] = 4;
  gb_file file;
  gb_begin(&file, 3);
  gb_add_text(&file, "tokenizer.ggml.model", "gpt2");
  if (pre) gb_add_text(&file, "tokenizer.ggml.pre", pre);
  gb_add_texts(&file, "tokenizer.ggml.tokens", texts, N);
  gb_add_texts(&file, "tokenizer.ggml.merges", merge_texts, N_SMALL);
  gb_add_numbers(&file, "tokenizer.ggml.token_type", GB_I32, types, 4, N);
  gb_add_number(&file, "tokenizer.ggml.bos_token_id", GB_U32, N - 2);
  gb_add_number(&file, "tokenizer.ggml.eos_token_id", GB_U32, N - 2);
  if (begins) gb_add_number(&file, "tokenizer.ggml.add_bos_token", GB_BOOL, 1);
  gb_finish(&file);
  return file;
}

Test(text_files, gguf) {
  folder f = folder_make();
  gb_file file = bpe_gguf("smollm", false);
  put_gguf(&f, &file);
  gb_free(&file);
  clattn_tokenizer *t = load(f.path);
  const clattn_encode_options allow = with(true, true, CLATTN_INVALID_ERROR);
  EXPECT(t, "the 12<s>  aa", NULL, 257, ' ', '1', '2', '<', 's', '>', 272, 258);
  EXPECT(t, "the<s>", &allow, 257, 271);
  cr_expect(clattn_tokenizer_is_special(t, 271));
  cr_expect_not(clattn_tokenizer_is_special(t, 272));
  clattn_tokenizer_destroy(t);
  file = bpe_gguf("gpt-2", true);
  put_gguf(&f, &file);
  gb_free(&file);
  t = load(f.path);
  EXPECT(t, "the", NULL, 271, 257);
  clattn_tokenizer_destroy(t);
  file = bpe_gguf("made-up", false);
  put_gguf(&f, &file);
  gb_free(&file);
  expect_refused(&f, CLATTN_UNSUPPORTED, "made-up");
  file = bpe_gguf(NULL, false);
  put_gguf(&f, &file);
  gb_free(&file);
  expect_refused(&f, CLATTN_UNSUPPORTED, "absent");
  gb_begin(&file, 3);
  gb_add_text(&file, "tokenizer.ggml.model", "llama");
  gb_finish(&file);
  put_gguf(&f, &file);
  gb_free(&file);
  expect_refused(&f, CLATTN_UNSUPPORTED, "llama");
  /* BERT's words are marked where they begin. */
  static const char *const words[] = {"[PAD]", "[UNK]",      "[CLS]",
                                      "[SEP]", "\u2581un",   "aff",
                                      "able",  "\u2581hello"};
  gb_begin(&file, 3);
  gb_add_text(&file, "tokenizer.ggml.model", "bert");
  gb_add_texts(&file, "tokenizer.ggml.tokens", words, 8);
  gb_finish(&file);
  put_gguf(&f, &file);
  t = load(f.path);
  EXPECT(t, "Unaffable hello aff", NULL, 2, 4, 5, 6, 7, 1, 3);
  cr_expect_str_eq(clattn_tokenizer_token(t, 5, NULL), "##aff");
  clattn_tokenizer_destroy(t);
  fuzz(&f, "model.gguf", 7, 80);
  gb_free(&file);
  folder_remove(&f);
}

Test(text_files, gguf_with_any_number_as_a_tokens_type) {
  static const char *const texts[] = {"a", "b", "c", "d", "e"};
  const double types[] = {3.7, 1e300, NAN, 3, -INFINITY};
  folder f = folder_make();
  gb_file file;
  gb_begin(&file, 3);
  gb_add_text(&file, "tokenizer.ggml.model", "gpt2");
  gb_add_text(&file, "tokenizer.ggml.pre", "gpt-2");
  gb_add_texts(&file, "tokenizer.ggml.tokens", texts, 5);
  gb_add_numbers(&file, "tokenizer.ggml.token_type", GB_F64, types, 8, 5);
  gb_finish(&file);
  put_gguf(&f, &file);
  gb_free(&file);
  clattn_tokenizer *t = load(f.path);
  for (int i = 0; i < 5; i++)
    cr_expect_eq(clattn_tokenizer_is_special(t, i), i == 3, "token %d", i);
  clattn_tokenizer_destroy(t);
  folder_remove(&f);
}

/* A file of tensors says of its tokenizer.json what tokenizer.json itself does. */
Test(text_files, what_a_file_of_tensors_holds_may_be_unsupported) {
  static char text[] = "{\"model\": {\"type\": \"Unigram\", \"vocab\": []}}";
  const clattn_kit_tensor tensor = {.name = "tokens.text",
                                    .dtype = CLATTN_KIT_U8,
                                    .rank = 1,
                                    .extent = {sizeof text - 1},
                                    .data = text,
                                    .size_bytes = sizeof text - 1};
  const clattn_kit_metadata metadata = {"tokens", "tokenizer.json"};
  folder f = folder_make();
  TH_OK(clattn_kit_safetensors_write(folder_file(&f, "model.safetensors"),
                                     &tensor, 1, &metadata, 1));
  expect_refused(&f, CLATTN_UNSUPPORTED, "Unigram");
  text[0] = '[';
  TH_OK(clattn_kit_safetensors_write(f.file, &tensor, 1, &metadata, 1));
  expect_refused(&f, CLATTN_IO_ERROR, "not JSON");
  folder_remove(&f);
}

Test(text_files, fuzzed) {
  folder f = folder_make();
  int loaded = 0;
  put_small_bpe(&f);
  loaded += fuzz(&f, "vocab.json", 1, 60);
  loaded += fuzz(&f, "merges.txt", 2, 60);
  clattn_tokenizer *t = load(f.path);
  TH_OK(clattn_tokenizer_save(t, f.path));
  clattn_tokenizer_destroy(t);
  loaded += fuzz(&f, "tokenizer.json", 3, 100);
  t = small_wordpiece(1);
  TH_OK(clattn_tokenizer_save(t, f.path));
  clattn_tokenizer_destroy(t);
  loaded += fuzz(&f, "tokenizer.json", 4, 150);
  folder_remove(&f);
  f = folder_make();
  folder_write(&f, "vocab.txt", small_words);
  loaded += fuzz(&f, "vocab.txt", 5, 80);
  folder_remove(&f);
  f = folder_make();
  folder_write(&f, "a.tiktoken", "YQ== 0\nYg== 1\nYw== 2\nYWI= 4\nYmM= 3\n");
  loaded += fuzz(&f, "a.tiktoken", 6, 80);
  folder_remove(&f);
  cr_expect_gt(loaded, 20, "only %d loaded", loaded);
}
