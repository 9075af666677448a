/* tokenizer_json.c - the tokenizer.json of Hugging Face's tokenizers, as far as
 * models of byte-level BPE, WordPiece and whole words go. Truncation and
 * padding that such a file asks for are the caller's to choose: they are not
 * read. */
#include <stdlib.h>
#include <string.h>

#include "tokenizer_file.h"

/* ---- looking things up --------------------------------------------------- */

/* The "type" of a part; "" if there is none. */
static const char *type_of(const json_t *part) {
  const char *type = json_string_value(json_object_get(part, "type"));
  return type ? type : "";
}

static bool is_type(const json_t *part, const char *type) {
  return strcmp(type_of(part), type) == 0;
}

static bool flag_of(const json_t *part, const char *key, bool otherwise) {
  const json_t *flag = json_object_get(part, key);
  return json_is_boolean(flag) ? json_is_true(flag) : otherwise;
}

static clattn_status unsupported(const char *what, const json_t *part) {
  return clattn_set_error(CLATTN_UNSUPPORTED,
                          "%s of type '%.60s' is not known here", what,
                          type_of(part));
}

static clattn_status id_of(const json_t *number, const char *what,
                           int32_t *id) {
  const json_int_t value = json_integer_value(number);
  KIT_REQUIRE(json_is_integer(number) && value >= 0 && value < TOKEN_LIMIT,
              "%s: want an id, a whole number 0..%ld", what,
              (long)TOKEN_LIMIT - 1);
  *id = (int32_t)value;
  return CLATTN_OK;
}

/* ---- the model ----------------------------------------------------------- */

/* Settings that change what a model does and that nothing here computes. */
static clattn_status refuse_settings(const json_t *model) {
  static const char *const flags[] = {"byte_fallback"};
  static const char *const texts[] = {"continuing_subword_prefix",
                                      "end_of_word_suffix"};
  for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
    if (flag_of(model, flags[i], false))
      return clattn_set_error(CLATTN_UNSUPPORTED, "model: %s is not known here",
                              flags[i]);
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    const char *text = json_string_value(json_object_get(model, texts[i]));
    if (text != NULL && text[0] != '\0')
      return clattn_set_error(CLATTN_UNSUPPORTED,
                              "model: %s '%.20s' is not known here", texts[i],
                              text);
  }
  const json_t *dropout = json_object_get(model, "dropout");
  if (json_is_number(dropout) && json_number_value(dropout) != 0)
    return clattn_set_error(CLATTN_UNSUPPORTED,
                            "model: dropout of merges is not known here");
  return CLATTN_OK;
}

static clattn_status read_merge(clattn_tokenizer *t, int32_t rank,
                                const json_t *merge) {
  if (json_is_string(merge))
    return bpe_read_merge_text(t, rank, json_string_value(merge),
                               json_string_length(merge));
  const json_t *left = json_array_get(merge, 0);
  const json_t *right = json_array_get(merge, 1);
  KIT_REQUIRE(json_array_size(merge) == 2 && json_is_string(left) &&
                  json_is_string(right),
              "merge %ld: want two tokens", (long)rank + 1);
  return bpe_read_merge(t, rank, json_string_value(left),
                        json_string_length(left), json_string_value(right),
                        json_string_length(right));
}

static clattn_status read_bpe(clattn_tokenizer *t, const json_t *model) {
  const json_t *merges = json_object_get(model, "merges");
  const char *unknown = json_string_value(json_object_get(model, "unk_token"));
  KIT_TRY(refuse_settings(model));
  KIT_TRY(bpe_read_vocab(t, json_object_get(model, "vocab")));
  KIT_REQUIRE(
      json_is_array(merges) && json_array_size(merges) < (size_t)TOKEN_LIMIT,
      "model: merges is no list, or too long");
  for (size_t i = 0; i < json_array_size(merges); i++)
    KIT_TRY(read_merge(t, (int32_t)i, json_array_get(merges, i)));
  t->bpe.whole_first = flag_of(model, "ignore_merges", false);
  t->bpe.fuse_unknown = flag_of(model, "fuse_unk", false);
  if (unknown != NULL) t->unknown = bpe_find(t, unknown, strlen(unknown));
  return CLATTN_OK;
}

static clattn_status read_words(clattn_tokenizer *t, const json_t *model) {
  const json_t *vocab = json_object_get(model, "vocab");
  const char *token, *unknown;
  json_t *number;
  KIT_REQUIRE(json_is_object(vocab), "model: vocab is no object");
  json_object_foreach((json_t *)vocab, token, number) {
    int32_t id = -1;
    KIT_TRY(id_of(number, token, &id));
    KIT_TRY(tokenizer_add(t, id, token, strlen(token)));
  }
  unknown = json_string_value(json_object_get(model, "unk_token"));
  if (unknown != NULL)
    t->unknown = token_index_find(&t->index, &t->map, unknown, strlen(unknown));
  return CLATTN_OK;
}

static clattn_status read_wordpiece(clattn_tokenizer *t, const json_t *model) {
  const json_t *prefix = json_object_get(model, "continuing_subword_prefix");
  const json_t *unknown = json_object_get(model, "unk_token");
  const json_t *longest = json_object_get(model, "max_input_chars_per_word");
  KIT_TRY(read_words(t, model));
  if (json_is_integer(longest)) {
    const json_int_t chars = json_integer_value(longest);
    KIT_REQUIRE(chars >= 1 && chars <= 1 << 20,
                "model: max_input_chars_per_word: got %lld, want 1..%d",
                (long long)chars, 1 << 20);
    t->wordpiece.max_chars = chars;
  }
  const char *text = json_string_value(prefix);
  const char *unknown_text = json_string_value(unknown);
  return wordpiece_setup(t, text ? text : "##",
                         unknown_text ? unknown_text : "[UNK]");
}

/* ---- before the model ---------------------------------------------------- */

static clattn_status read_normalizer(clattn_tokenizer *t,
                                     const json_t *normalizer) {
  if (normalizer == NULL || json_is_null(normalizer)) {
    if (t->model == MODEL_WORDPIECE)
      return clattn_set_error(CLATTN_UNSUPPORTED,
                              "WordPiece without a BertNormalizer is not known "
                              "here");
    return CLATTN_OK;
  }
  if (t->model != MODEL_WORDPIECE || !is_type(normalizer, "BertNormalizer"))
    return unsupported("a normalizer", normalizer);
  wordpiece_model *model = &t->wordpiece;
  model->clean_text = flag_of(normalizer, "clean_text", true);
  model->chinese = flag_of(normalizer, "handle_chinese_chars", true);
  model->lowercase = flag_of(normalizer, "lowercase", true);
  model->strip_accents = flag_of(normalizer, "strip_accents", model->lowercase);
  return CLATTN_OK;
}

/* A text as a regular expression. */
static char *quoted(const char *text) {
  char *made = malloc(2 * strlen(text) + 1), *to = made;
  if (made == NULL) return NULL;
  for (; *text != '\0'; text++) {
    if (strchr("\\^$.[]|()?*+{}-# ", *text) != NULL) *to++ = '\\';
    *to++ = *text;
  }
  *to = '\0';
  return made;
}

static clattn_status read_split(clattn_tokenizer *t, const json_t *part) {
  const json_t *pattern = json_object_get(part, "pattern");
  const char *regex = json_string_value(json_object_get(pattern, "Regex"));
  const char *text = json_string_value(json_object_get(pattern, "String"));
  const char *behavior = json_string_value(json_object_get(part, "behavior"));
  const bool invert = flag_of(part, "invert", false);
  KIT_REQUIRE(regex != NULL || text != NULL,
              "pre_tokenizer: Split: want a pattern");
  split_keep keep = SPLIT_ISOLATED; /* of which invert changes nothing */
  if (behavior != NULL && strcmp(behavior, "Removed") == 0)
    keep = invert ? SPLIT_MATCHES : SPLIT_REMOVED;
  else if (behavior == NULL || strcmp(behavior, "Isolated") != 0)
    return clattn_set_error(CLATTN_UNSUPPORTED,
                            "pre_tokenizer: Split with the behavior '%.40s' is "
                            "not known here",
                            behavior ? behavior : "");
  if (regex != NULL)
    return split_add(t, "pre_tokenizer: Split", regex, keep, false);
  char *made = quoted(text);
  if (made == NULL) return KIT_OUT_OF_MEMORY("pattern");
  const clattn_status status =
      split_add(t, "pre_tokenizer: Split", made, keep, false);
  free(made);
  return status;
}

/* Words, with what joins their letters, and other runs without white space. */
#define JOINERS "\\x{200c}\\x{200d}"
#define WHITESPACE "[\\w" JOINERS "]+|[^\\w\\s" JOINERS "]+"

/* *bytes: a ByteLevel has been there. */
static clattn_status read_splits(clattn_tokenizer *t, const json_t *part,
                                 int depth, bool *bytes) {
  static const char what[] = "a pre_tokenizer";
  if (is_type(part, "Sequence") && depth < 8) {
    const json_t *list = json_object_get(part, "pretokenizers");
    for (size_t i = 0; i < json_array_size(list); i++)
      KIT_TRY(read_splits(t, json_array_get(list, i), depth + 1, bytes));
    return CLATTN_OK;
  }
  if (*bytes) /* the next would see other characters */
    return clattn_set_error(CLATTN_UNSUPPORTED,
                            "a pre_tokenizer behind ByteLevel is not known "
                            "here");
  if (is_type(part, "ByteLevel")) {
    if (t->model != MODEL_BPE) return unsupported(what, part);
    *bytes = true;
    const bool space = flag_of(part, "add_prefix_space", true);
    const bool regex = flag_of(part, "use_regex", true);
    return split_add(t, what, regex ? PATTERN_GPT2 : NULL, SPLIT_ISOLATED,
                     space);
  }
  if (is_type(part, "Split")) return read_split(t, part);
  if (is_type(part, "Digits"))
    return split_add(
        t, what,
        flag_of(part, "individual_digits", false) ? "\\p{N}" : "\\p{N}+",
        SPLIT_ISOLATED, false);
  if (is_type(part, "Whitespace"))
    return split_add(t, what, WHITESPACE, SPLIT_MATCHES, false);
  if (is_type(part, "WhitespaceSplit"))
    return split_add(t, what, "\\s", SPLIT_REMOVED, false);
  if (is_type(part, "Punctuation")) {
    const char *behavior = json_string_value(json_object_get(part, "behavior"));
    if (behavior == NULL || strcmp(behavior, "Isolated") == 0)
      return split_add(t, what, "[\\p{P}$+<=>^`|~]", SPLIT_ISOLATED, false);
  }
  return unsupported(what, part);
}

static clattn_status read_pre_tokenizer(clattn_tokenizer *t,
                                        const json_t *part) {
  const bool absent = part == NULL || json_is_null(part);
  if (t->model == MODEL_WORDPIECE)
    return is_type(part, "BertPreTokenizer")
               ? CLATTN_OK
               : unsupported("a pre_tokenizer", part);
  if (t->model == MODEL_WHOLE && is_type(part, "BertPreTokenizer")) {
    KIT_TRY(split_add(t, "pre_tokenizer", "\\s", SPLIT_REMOVED, false));
    return split_add(t, "pre_tokenizer", "[\\p{P}$+<=>^`|~]", SPLIT_ISOLATED,
                     false);
  }
  bool bytes = false;
  if (!absent) KIT_TRY(read_splits(t, part, 0, &bytes));
  if (t->model == MODEL_BPE && !bytes)
    return clattn_set_error(CLATTN_UNSUPPORTED,
                            "BPE without a ByteLevel pre_tokenizer is not "
                            "known here");
  return CLATTN_OK;
}

/* ---- added tokens and what stands around --------------------------------- */

static clattn_status read_added(clattn_tokenizer *t, const json_t *list) {
  for (size_t i = 0; i < json_array_size(list); i++) {
    const json_t *part = json_array_get(list, i);
    const json_t *content = json_object_get(part, "content");
    added_token token = {.special = flag_of(part, "special", false),
                         .lstrip = flag_of(part, "lstrip", false),
                         .rstrip = flag_of(part, "rstrip", false),
                         .single_word = flag_of(part, "single_word", false)};
    KIT_REQUIRE(json_is_string(content), "added_tokens[%zu]: has no content",
                i);
    KIT_TRY(id_of(json_object_get(part, "id"), "added_tokens", &token.id));
    if (t->model == MODEL_WORDPIECE && flag_of(part, "normalized", false))
      return clattn_set_error(CLATTN_UNSUPPORTED,
                              "added_tokens[%zu]: '%.40s' is looked for in the "
                              "normalised text, which is not known here",
                              i, json_string_value(content));
    KIT_TRY(tokenizer_add_added(t, json_string_value(content),
                                json_string_length(content), &token));
  }
  return CLATTN_OK;
}

/* The ids that a template means by a special token's name. */
static clattn_status read_template_token(token_template *to,
                                         const json_t *known, const char *name,
                                         uint8_t segment) {
  const json_t *ids =
      json_object_get(json_object_get(known, name ? name : ""), "ids");
  KIT_REQUIRE(json_array_size(ids) > 0,
              "post_processor: the special token '%.40s' has no ids",
              name ? name : "");
  for (size_t i = 0; i < json_array_size(ids); i++) {
    template_item item = {TEMPLATE_TOKEN, -1, segment};
    KIT_TRY(id_of(json_array_get(ids, i), "post_processor", &item.id));
    KIT_TRY(template_add(to, item));
  }
  return CLATTN_OK;
}

static clattn_status read_template(token_template *to, const json_t *list,
                                   const json_t *known, bool paired) {
  int texts = 0, pairs = 0;
  for (size_t i = 0; i < json_array_size(list); i++) {
    const json_t *item = json_array_get(list, i);
    const json_t *token = json_object_get(item, "SpecialToken");
    const json_t *text = json_object_get(item, "Sequence");
    const json_t *part = token ? token : text;
    const char *name = json_string_value(json_object_get(part, "id"));
    const uint8_t segment =
        json_integer_value(json_object_get(part, "type_id")) > 0;
    if (token != NULL) {
      KIT_TRY(read_template_token(to, known, name, segment));
      continue;
    }
    const bool second = name != NULL && strcmp(name, "B") == 0;
    KIT_REQUIRE(second || (name != NULL && strcmp(name, "A") == 0),
                "post_processor: item %zu is neither A, B nor a special token",
                i);
    texts += !second;
    pairs += second;
    KIT_TRY(template_add(
        to,
        (template_item){second ? TEMPLATE_PAIR : TEMPLATE_TEXT, -1, segment}));
  }
  KIT_REQUIRE(to->n == 0 || (texts == 1 && pairs == (paired ? 1 : 0)),
              "post_processor: a template %s",
              paired ? "of a pair wants A and B, each once" : "wants A, once");
  return CLATTN_OK;
}

/* ["[SEP]", 102] */
static clattn_status read_named(const json_t *part, const char *key,
                                int32_t *id) {
  return id_of(json_array_get(json_object_get(part, key), 1), key, id);
}

static clattn_status read_post_processor(clattn_tokenizer *t,
                                         const json_t *part, int depth) {
  if (part == NULL || json_is_null(part) || is_type(part, "ByteLevel"))
    return CLATTN_OK; /* ByteLevel: of offsets, that here are never trimmed */
  if (is_type(part, "Sequence") && depth < 8) {
    const json_t *list = json_object_get(part, "processors");
    for (size_t i = 0; i < json_array_size(list); i++)
      KIT_TRY(read_post_processor(t, json_array_get(list, i), depth + 1));
    return CLATTN_OK;
  }
  KIT_REQUIRE(t->single.n == 0, "post_processor: more than one template");
  if (is_type(part, "TemplateProcessing")) {
    const json_t *known = json_object_get(part, "special_tokens");
    KIT_TRY(read_template(&t->single, json_object_get(part, "single"), known,
                          false));
    return read_template(&t->pair, json_object_get(part, "pair"), known, true);
  }
  int32_t cls, sep;
  if (is_type(part, "BertProcessing")) {
    KIT_TRY(read_named(part, "cls", &cls));
    KIT_TRY(read_named(part, "sep", &sep));
    return tokenizer_bert_template(t, cls, sep);
  }
  if (is_type(part, "RobertaProcessing")) { /* <s> a </s></s> b </s> */
    KIT_TRY(read_named(part, "cls", &cls));
    KIT_TRY(read_named(part, "sep", &sep));
    const template_item items[] = {
        {TEMPLATE_TOKEN, cls, 0}, {TEMPLATE_TEXT, -1, 0},
        {TEMPLATE_TOKEN, sep, 0}, {TEMPLATE_TOKEN, sep, 0},
        {TEMPLATE_PAIR, -1, 0},   {TEMPLATE_TOKEN, sep, 0}};
    for (int i = 0; i < 6; i++) {
      if (i < 3) KIT_TRY(template_add(&t->single, items[i]));
      KIT_TRY(template_add(&t->pair, items[i]));
    }
    return CLATTN_OK;
  }
  return unsupported("a post_processor", part);
}

/* ---- the file ------------------------------------------------------------ */

static const struct {
  const char *type;
  clattn_tokenizer_kind kind;
  token_model model;
  clattn_status (*read)(clattn_tokenizer *t, const json_t *model);
} models[] = {
    {"BPE", CLATTN_TOKENIZER_BPE, MODEL_BPE, read_bpe},
    {"WordPiece", CLATTN_TOKENIZER_WORDPIECE, MODEL_WORDPIECE, read_wordpiece},
    {"WordLevel", CLATTN_TOKENIZER_WORDS, MODEL_WHOLE, read_words},
};
enum { N_MODELS = sizeof models / sizeof *models };

/* Files before 2020 have no type of the model. */
static int model_of(const json_t *model) {
  if (json_object_get(model, "type") == NULL &&
      json_is_array(json_object_get(model, "merges")))
    return 0;
  for (int i = 0; i < N_MODELS; i++)
    if (is_type(model, models[i].type)) return i;
  return -1;
}

static clattn_status build(const json_t *json, clattn_tokenizer **made) {
  const json_t *model = json_object_get(json, "model");
  KIT_REQUIRE(json_is_object(model), "has no model");
  const int which = model_of(model);
  if (which < 0) return unsupported("a model", model);
  KIT_TRY(tokenizer_new(models[which].kind, models[which].model, made));
  clattn_tokenizer *t = *made;
  KIT_TRY(read_added(t, json_object_get(json, "added_tokens")));
  KIT_TRY(models[which].read(t, model));
  KIT_TRY(read_normalizer(t, json_object_get(json, "normalizer")));
  KIT_TRY(read_pre_tokenizer(t, json_object_get(json, "pre_tokenizer")));
  KIT_TRY(read_post_processor(t, json_object_get(json, "post_processor"), 0));
  /* Words that are joined without spaces are characters. */
  if (t->kind == CLATTN_TOKENIZER_WORDS &&
      is_type(json_object_get(json, "decoder"), "Fuse"))
    t->kind = CLATTN_TOKENIZER_CHARS;
  return tokenizer_finish(t);
}

clattn_status tokenizer_load_json(const char *path, const json_t *json,
                                  clattn_tokenizer **tokenizer) {
  clattn_tokenizer *made = NULL;
  const clattn_status status = build(json, &made);
  if (status != CLATTN_OK) {
    clattn_tokenizer_destroy(made);
    return tokenizer_file_failed(status, path);
  }
  *tokenizer = made;
  return CLATTN_OK;
}
