/* wordpiece_file.c - BERT's vocab.txt. */
#include <stdlib.h>
#include <string.h>

#include "kit/files/file.h"
#include "tokenizer_file.h"
#include "utf8.h"

enum { MAX_WORD = 100 };

clattn_status wordpiece_setup(clattn_tokenizer *t, const char *prefix,
                              const char *unknown) {
  wordpiece_model *model = &t->wordpiece;
  model->prefix_bytes = strlen(prefix);
  model->prefix = malloc(model->prefix_bytes + 1);
  if (model->prefix == NULL) return KIT_OUT_OF_MEMORY("tokenizer");
  memcpy(model->prefix, prefix, model->prefix_bytes + 1);
  if (model->max_chars == 0) model->max_chars = MAX_WORD;
  t->unknown = token_index_find(&t->index, &t->map, unknown, strlen(unknown));
  KIT_REQUIRE(t->unknown >= 0, "has no token '%.80s'", unknown);
  return CLATTN_OK;
}

clattn_status wordpiece_add_specials(clattn_tokenizer *t) {
  static const char *const names[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]",
                                      "[MASK]"};
  KIT_TRY(tokenizer_add_specials(t, names, sizeof names / sizeof *names));
  const int32_t cls = clattn_tokenizer_id(t, "[CLS]", 5);
  const int32_t sep = clattn_tokenizer_id(t, "[SEP]", 5);
  return cls >= 0 && sep >= 0 ? tokenizer_bert_template(t, cls, sep)
                              : CLATTN_OK;
}

static clattn_status read_lines(clattn_tokenizer *t, const char *path,
                                const char *text, size_t bytes) {
  int32_t id = 0;
  for (size_t at = 0; at < bytes; id++) {
    const char *token = text + at;
    const char *end = memchr(token, '\n', bytes - at);
    size_t n = end ? (size_t)(end - token) : bytes - at;
    at += n + 1;
    if (n > 0 && token[n - 1] == '\r') n--;
    if (n == 0) continue; /* an id that no token has */
    if (kit_utf8_valid(token, n) != n)
      return FILE_BAD(path, "line %ld: not UTF-8", (long)id + 1);
    if (tokenizer_add(t, id, token, n) != CLATTN_OK)
      return FILE_BAD(path, "line %ld: %s", (long)id + 1,
                      clattn_error_message());
  }
  return CLATTN_OK;
}

/* What tokenizer_config.json beside the vocabulary says, if it is there. */
static clattn_status read_settings(clattn_tokenizer *t, const char *path) {
  wordpiece_model *model = &t->wordpiece;
  char *beside;
  KIT_TRY(kit_path_beside(path, "tokenizer_config.json", &beside));
  json_t *json = NULL;
  const clattn_status status =
      kit_path_is_file(beside) ? kit_json_load(beside, &json) : CLATTN_OK;
  free(beside);
  if (status != CLATTN_OK) return status;
  const json_t *lower = json_object_get(json, "do_lower_case");
  const json_t *accents = json_object_get(json, "strip_accents");
  const json_t *chinese = json_object_get(json, "tokenize_chinese_chars");
  if (json_is_boolean(lower)) model->lowercase = json_is_true(lower);
  model->strip_accents =
      json_is_boolean(accents) ? json_is_true(accents) : model->lowercase;
  if (json_is_boolean(chinese)) model->chinese = json_is_true(chinese);
  json_decref(json);
  return CLATTN_OK;
}

static clattn_status build(clattn_tokenizer *t, const char *path,
                           const clattn_tokenizer_config *config) {
  void *text;
  size_t bytes;
  t->wordpiece =
      (wordpiece_model){.clean_text = true, .chinese = true, .lowercase = true};
  KIT_TRY(read_settings(t, path));
  if (config->lowercase >= 0)
    t->wordpiece.lowercase = t->wordpiece.strip_accents = config->lowercase;
  KIT_TRY(kit_map_file(path, &text, &bytes));
  clattn_status status = read_lines(t, path, text, bytes);
  kit_unmap_file(text, bytes);
  if (status != CLATTN_OK) return status;
  status = wordpiece_setup(t, "##", "[UNK]");
  if (status == CLATTN_OK) status = wordpiece_add_specials(t);
  if (status == CLATTN_OK) status = tokenizer_finish(t);
  return status == CLATTN_OK ? status : tokenizer_file_failed(status, path);
}

clattn_status tokenizer_load_wordpiece(const char *path,
                                       const clattn_tokenizer_config *config,
                                       clattn_tokenizer **tokenizer) {
  clattn_tokenizer *made = NULL;
  KIT_TRY(tokenizer_new(CLATTN_TOKENIZER_WORDPIECE, MODEL_WORDPIECE, &made));
  const clattn_status status = build(made, path, config);
  return tokenizer_hand_over(status, made, tokenizer);
}
