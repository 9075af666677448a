/* tokenizer_gguf.c - the tokenizer of a GGUF file. */
#include <stdlib.h>
#include <string.h>

#include "clattn_model.h"
#include "tokenizer_file.h"

#define KEY(name) "tokenizer.ggml." name

enum { TYPE_NORMAL = 1, TYPE_CONTROL = 3, TYPE_USER_DEFINED = 4 };

/* How a text is split before merging, by the name that files have for it. */
static const struct {
  const char *name, *first, *pattern;
  bool whole_first, begins; /* begins: <s> stands before a text by default */
} splits[] = {
    {"gpt-2", NULL, PATTERN_GPT2, false, false},
    {"gpt2", NULL, PATTERN_GPT2, false, false},
    {"mpt", NULL, PATTERN_GPT2, false, false},
    {"olmo", NULL, PATTERN_GPT2, false, false},
    {"phi-2", NULL, PATTERN_GPT2, false, false},
    {"smollm", "\\p{N}", PATTERN_GPT2, false, false},
    {"starcoder", "\\p{N}", PATTERN_GPT2, false, false},
    {"refact", "\\p{N}", PATTERN_GPT2, false, false},
    {"codeshell", "\\p{N}", PATTERN_GPT2, false, false},
    {"llama-bpe", NULL, PATTERN_LLAMA3, true, true},
    {"llama3", NULL, PATTERN_LLAMA3, true, true},
    {"llama-v3", NULL, PATTERN_LLAMA3, true, true},
    {"qwen2", NULL, PATTERN_QWEN2, false, false},
    {"gpt-4o", NULL, PATTERN_O200K, false, false},
};

/* ---- shared -------------------------------------------------------------- */

/* A token's kind: normal where the file says nothing, or another than those
 * that matter here; a file may give any double. */
static int type_of(const clattn_weights *file, size_t i) {
  double type;
  if (!clattn_weights_list_number(file, KEY("token_type"), i, &type))
    return TYPE_NORMAL;
  return type == TYPE_CONTROL        ? TYPE_CONTROL
         : type == TYPE_USER_DEFINED ? TYPE_USER_DEFINED
                                     : TYPE_NORMAL;
}

/* An id of the file; -1: none. */
static int32_t id_of(const clattn_weights *file, const char *key) {
  double number;
  if (!clattn_weights_number(file, key, &number) ||
      !(number >= 0 && number < TOKEN_LIMIT))
    return -1;
  return (int32_t)number;
}

static bool flag_of(const clattn_weights *file, const char *key,
                    bool otherwise) {
  double number;
  return clattn_weights_number(file, key, &number) ? number != 0 : otherwise;
}

static clattn_status check_size(const clattn_weights *file, size_t *n) {
  *n = clattn_weights_list(file, KEY("tokens"));
  KIT_REQUIRE(*n > 0 && *n < (size_t)TOKEN_LIMIT,
              "%s: got %zu tokens, want 1..%ld", KEY("tokens"), *n,
              (long)TOKEN_LIMIT - 1);
  return CLATTN_OK;
}

static clattn_status token_of(const clattn_weights *file, size_t i,
                              const char **text, size_t *bytes) {
  *text = clattn_weights_list_text(file, KEY("tokens"), i, bytes);
  KIT_REQUIRE(*text != NULL, "%s[%zu]: is no text", KEY("tokens"), i);
  return CLATTN_OK;
}

/* ---- byte-level BPE ------------------------------------------------------ */

static clattn_status add_splits(clattn_tokenizer *t, const clattn_weights *file,
                                bool *begins) {
  const char *name = clattn_weights_text(file, KEY("pre"));
  for (size_t i = 0; name && i < sizeof splits / sizeof *splits; i++) {
    if (strcmp(splits[i].name, name) != 0) continue;
    if (splits[i].first != NULL)
      KIT_TRY(split_add(t, "pre", splits[i].first, SPLIT_ISOLATED, false));
    t->bpe.whole_first = splits[i].whole_first;
    *begins = splits[i].begins;
    return split_add(t, "pre", splits[i].pattern, SPLIT_ISOLATED, false);
  }
  return clattn_set_error(CLATTN_UNSUPPORTED,
                          "%s: '%.40s' is no way to split a text that is known "
                          "here",
                          KEY("pre"), name ? name : "(absent)");
}

static clattn_status read_bpe_tokens(clattn_tokenizer *t,
                                     const clattn_weights *file) {
  size_t n, bytes;
  const char *text;
  KIT_TRY(check_size(file, &n));
  for (size_t i = 0; i < n; i++) {
    const int type = type_of(file, i);
    KIT_TRY(token_of(file, i, &text, &bytes));
    if (type == TYPE_CONTROL || type == TYPE_USER_DEFINED) {
      const added_token token = {.id = (int32_t)i,
                                 .special = type == TYPE_CONTROL};
      KIT_TRY(tokenizer_add_added(t, text, bytes, &token));
    } else {
      KIT_TRY(bpe_read_token(t, (int32_t)i, text, bytes));
    }
  }
  return CLATTN_OK;
}

static clattn_status read_merges(clattn_tokenizer *t,
                                 const clattn_weights *file) {
  const size_t n = clattn_weights_list(file, KEY("merges"));
  KIT_REQUIRE(n < (size_t)TOKEN_LIMIT, "%s: got %zu, want less than %ld",
              KEY("merges"), n, (long)TOKEN_LIMIT);
  for (size_t i = 0; i < n; i++) {
    size_t bytes;
    const char *text = clattn_weights_list_text(file, KEY("merges"), i, &bytes);
    KIT_REQUIRE(text != NULL, "%s[%zu]: is no text", KEY("merges"), i);
    KIT_TRY(bpe_read_merge_text(t, (int32_t)i, text, bytes));
  }
  return CLATTN_OK;
}

/* What the file puts before and behind a text. */
static clattn_status add_template(clattn_tokenizer *t,
                                  const clattn_weights *file, bool begins) {
  const int32_t first = id_of(file, KEY("bos_token_id"));
  const int32_t last = id_of(file, KEY("eos_token_id"));
  const bool before = flag_of(file, KEY("add_bos_token"), begins) && first >= 0;
  const bool behind = flag_of(file, KEY("add_eos_token"), false) && last >= 0;
  if (!before && !behind) return CLATTN_OK;
  if (before)
    KIT_TRY(
        template_add(&t->single, (template_item){TEMPLATE_TOKEN, first, 0}));
  KIT_TRY(template_add(&t->single, (template_item){TEMPLATE_TEXT, -1, 0}));
  if (behind)
    KIT_TRY(template_add(&t->single, (template_item){TEMPLATE_TOKEN, last, 0}));
  return CLATTN_OK;
}

static clattn_status build_bpe(clattn_tokenizer *t,
                               const clattn_weights *file) {
  bool begins = false;
  KIT_TRY(add_splits(t, file, &begins));
  KIT_TRY(read_bpe_tokens(t, file));
  KIT_TRY(read_merges(t, file));
  /* For bytes that the vocabulary does not have. */
  t->unknown = id_of(file, KEY("unknown_token_id"));
  if (token_map_at(&t->map, t->unknown).text == NULL) t->unknown = -1;
  KIT_TRY(add_template(t, file, begins));
  return tokenizer_finish(t);
}

/* ---- WordPiece ----------------------------------------------------------- */

/* These files mark what begins a word (U+2581), not what continues one. */
static clattn_status add_word_token(clattn_tokenizer *t, int32_t id,
                                    const char *text, size_t bytes) {
  static const char mark[] = "\xe2\x96\x81";
  const size_t n = sizeof mark - 1;
  if (bytes >= n && memcmp(text, mark, n) == 0)
    return tokenizer_add(t, id, text + n, bytes - n);
  if (bytes > 0 && text[0] == '[' && text[bytes - 1] == ']')
    return tokenizer_add(t, id, text, bytes);
  char *token = malloc(bytes + 2);
  if (token == NULL) return KIT_OUT_OF_MEMORY("vocabulary");
  memcpy(token, "##", 2);
  memcpy(token + 2, text, bytes);
  const clattn_status status = tokenizer_add(t, id, token, bytes + 2);
  free(token);
  return status;
}

static clattn_status build_wordpiece(clattn_tokenizer *t,
                                     const clattn_weights *file,
                                     const clattn_tokenizer_config *config) {
  size_t n, bytes;
  const char *text;
  const bool lower = config->lowercase != 0;
  t->wordpiece = (wordpiece_model){.clean_text = true,
                                   .chinese = true,
                                   .lowercase = lower,
                                   .strip_accents = lower};
  KIT_TRY(check_size(file, &n));
  for (size_t i = 0; i < n; i++) {
    KIT_TRY(token_of(file, i, &text, &bytes));
    KIT_TRY(add_word_token(t, (int32_t)i, text, bytes));
  }
  KIT_TRY(wordpiece_setup(t, "##", "[UNK]"));
  KIT_TRY(wordpiece_add_specials(t));
  return tokenizer_finish(t);
}

/* ---- the file ------------------------------------------------------------ */

static clattn_status build(const clattn_weights *file,
                           const clattn_tokenizer_config *config,
                           clattn_tokenizer **made) {
  const char *model = clattn_weights_text(file, KEY("model"));
  if (model != NULL && strcmp(model, "gpt2") == 0) {
    KIT_TRY(tokenizer_new(CLATTN_TOKENIZER_BPE, MODEL_BPE, made));
    return build_bpe(*made, file);
  }
  if (model != NULL && strcmp(model, "bert") == 0) {
    KIT_TRY(tokenizer_new(CLATTN_TOKENIZER_WORDPIECE, MODEL_WORDPIECE, made));
    return build_wordpiece(*made, file, config);
  }
  return clattn_set_error(CLATTN_UNSUPPORTED,
                          "%s: got '%.40s', want gpt2 or bert", KEY("model"),
                          model ? model : "(absent)");
}

clattn_status tokenizer_load_gguf(const char *path,
                                  const clattn_tokenizer_config *config,
                                  clattn_tokenizer **tokenizer) {
  clattn_weights *file;
  KIT_TRY(clattn_weights_open(path, &file));
  clattn_tokenizer *made = NULL;
  const clattn_status status = build(file, config, &made);
  clattn_weights_destroy(file);
  if (status != CLATTN_OK) {
    clattn_tokenizer_destroy(made);
    return tokenizer_file_failed(status, path);
  }
  *tokenizer = made;
  return CLATTN_OK;
}
