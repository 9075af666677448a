/* tokenizer_save.c - a tokenizer as Hugging Face's tokenizers have it, and as
 * GPT-2's files do. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "bytelevel.h"
#include "kit/files/file.h"
#include "tokenizer_file.h"
#include "utf8.h"

/* ---- tokens -------------------------------------------------------------- */

static bool is_added(const clattn_tokenizer *t, int32_t id) {
  const kit_bytes token = token_map_at(&t->map, id);
  return token_index_find(&t->added_index, &t->map, token.text, token.bytes) ==
         id;
}

/* A token as files spell it, to free(); NULL: no memory. Added tokens are text
 * in every model. */
static char *spell(const clattn_tokenizer *t, int32_t id) {
  const kit_bytes token = token_map_at(&t->map, id);
  char *text = malloc(2 * token.bytes + 1);
  if (text == NULL) return NULL;
  if (t->model == MODEL_BPE && !is_added(t, id))
    bytelevel_encode(token.text, token.bytes, text);
  else
    memcpy(text, token.text, token.bytes + 1);
  return text;
}

static clattn_status vocab_of(const clattn_tokenizer *t, json_t **vocab) {
  *vocab = json_object();
  for (int32_t id = 0; id < t->map.size; id++) {
    const kit_bytes token = token_map_at(&t->map, id);
    if (token.text == NULL) continue;
    char *text = spell(t, id);
    if (text == NULL) return KIT_OUT_OF_MEMORY("vocabulary");
    const size_t n = strlen(text);
    const bool fits = n >= token.bytes && kit_utf8_valid(text, n) == n &&
                      json_object_get(*vocab, text) == NULL;
    const bool kept =
        fits && json_object_set_new(*vocab, text, json_integer(id)) == 0;
    free(text);
    if (!fits)
      return clattn_set_error(CLATTN_UNSUPPORTED,
                              "tokenizer: the token %ld is no text that JSON "
                              "can hold, or there twice",
                              (long)id);
    if (!kept) return KIT_OUT_OF_MEMORY("vocabulary");
  }
  return CLATTN_OK;
}

static int by_rank(const void *a, const void *b) {
  const bpe_pair *x = a, *y = b;
  if (x->rank != y->rank) return x->rank < y->rank ? -1 : 1;
  return x->key < y->key ? -1 : x->key > y->key;
}

/* The merges in their order, to free(). */
static bpe_pair *sorted_pairs(const bpe_model *bpe) {
  bpe_pair *pairs = malloc(((size_t)bpe->n_pairs + 1) * sizeof *pairs);
  size_t n = 0;
  for (size_t i = 0; pairs && bpe->slots != NULL && i <= bpe->mask; i++)
    if (bpe->slots[i].key != BPE_NO_PAIR) pairs[n++] = bpe->slots[i];
  if (pairs != NULL) qsort(pairs, n, sizeof *pairs, by_rank);
  return pairs;
}

/* "a b" for every merge, as a list of JSON. */
static clattn_status merges_of(const clattn_tokenizer *t, json_t **merges) {
  *merges = json_array();
  bpe_pair *pairs = sorted_pairs(&t->bpe);
  clattn_status status =
      pairs != NULL ? CLATTN_OK : KIT_OUT_OF_MEMORY("merges");
  for (int32_t i = 0; i < t->bpe.n_pairs && status == CLATTN_OK; i++) {
    char *left = spell(t, (int32_t)(pairs[i].key >> 32));
    char *right = spell(t, (int32_t)(pairs[i].key & UINT32_MAX));
    const bool ok =
        left && right &&
        json_array_append_new(*merges, json_sprintf("%s %s", left, right)) == 0;
    free(left);
    free(right);
    if (!ok) status = KIT_OUT_OF_MEMORY("merges");
  }
  free(pairs);
  return status;
}

/* Lists of which an entry had no memory are NULL, and so is what they go into. */
static void break_list(json_t **list) {
  json_decref(*list);
  *list = NULL;
}

/* Takes the value over. */
static void push(json_t **list, json_t *value) {
  if (json_array_append_new(*list, value) != 0) break_list(list);
}

/* ---- the parts of tokenizer.json ----------------------------------------- */

static json_t *added_of(const clattn_tokenizer *t) {
  json_t *list = json_array();
  for (int32_t id = 0; id < t->map.size; id++)
    for (size_t i = 0; i < t->n_added; i++) {
      const added_token *token = &t->added[i];
      if (token->id != id) continue;
      push(&list, json_pack("{s:i, s:s, s:b, s:b, s:b, s:b, s:b}", "id",
                            (int)id, "content", token_map_at(&t->map, id).text,
                            "single_word", token->single_word, "lstrip",
                            token->lstrip, "rstrip", token->rstrip,
                            "normalized", 0, "special", token->special));
    }
  return list;
}

static json_t *byte_level(bool prefix_space, bool regex) {
  return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel",
                   "add_prefix_space", prefix_space, "trim_offsets", 0,
                   "use_regex", regex);
}

static json_t *split_of(const split_step *step) {
  return json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split", "pattern",
                   "Regex", step->pattern, "behavior",
                   step->keep == SPLIT_ISOLATED ? "Isolated" : "Removed",
                   "invert", step->keep == SPLIT_MATCHES);
}

static json_t *pre_tokenizer_of(const clattn_tokenizer *t) {
  if (t->model == MODEL_WORDPIECE)
    return json_pack("{s:s}", "type", "BertPreTokenizer");
  json_t *list = json_array();
  if (t->model == MODEL_CHARS)
    push(&list, json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split",
                          "pattern", "Regex", CHARS_PATTERN, "behavior",
                          "Isolated", "invert", 0));
  bool bytes = false;
  for (int i = 0; i < t->n_steps; i++) {
    const split_step *step = &t->steps[i];
    const bool own =
        step->pattern == NULL || strcmp(step->pattern, PATTERN_GPT2) == 0;
    bytes = t->model == MODEL_BPE && i == t->n_steps - 1 && own;
    push(&list, bytes ? byte_level(step->prefix_space, step->pattern != NULL)
                      : split_of(step));
  }
  if (t->model == MODEL_BPE && !bytes) push(&list, byte_level(false, false));
  if (json_array_size(list) != 1)
    return json_pack("{s:s, s:o}", "type", "Sequence", "pretokenizers", list);
  json_t *only = json_incref(json_array_get(list, 0));
  json_decref(list);
  return only;
}

static json_t *normalizer_of(const clattn_tokenizer *t) {
  const wordpiece_model *model = &t->wordpiece;
  if (t->model != MODEL_WORDPIECE) return json_null();
  return json_pack("{s:s, s:b, s:b, s:b, s:b}", "type", "BertNormalizer",
                   "clean_text", model->clean_text, "handle_chinese_chars",
                   model->chinese, "strip_accents", model->strip_accents,
                   "lowercase", model->lowercase);
}

/* Adds to `known` the special tokens that it names. */
static json_t *template_of(const clattn_tokenizer *t, const token_template *of,
                           json_t *known) {
  json_t *list = json_array();
  for (int i = 0; i < of->n; i++) {
    const template_item *item = &of->items[i];
    const char *name = item->what == TEMPLATE_TEXT ? "A"
                       : item->what == TEMPLATE_PAIR
                           ? "B"
                           : token_map_at(&t->map, item->id).text;
    const bool token = item->what == TEMPLATE_TOKEN;
    push(&list, json_pack("{s:{s:s, s:i}}", token ? "SpecialToken" : "Sequence",
                          "id", name, "type_id", (int)item->segment));
    if (token &&
        json_object_set_new(known, name,
                            json_pack("{s:s, s:[i], s:[s]}", "id", name, "ids",
                                      (int)item->id, "tokens", name)) != 0)
      break_list(&list);
  }
  return list;
}

static json_t *post_processor_of(const clattn_tokenizer *t) {
  if (t->single.n == 0 && t->pair.n == 0)
    return t->model == MODEL_BPE ? byte_level(false, true) : json_null();
  json_t *known = json_object();
  json_t *single = template_of(t, &t->single, known);
  json_t *pair = template_of(t, &t->pair, known);
  return json_pack("{s:s, s:o, s:o, s:o}", "type", "TemplateProcessing",
                   "single", single, "pair", pair, "special_tokens", known);
}

static json_t *decoder_of(const clattn_tokenizer *t) {
  if (t->model == MODEL_BPE) return byte_level(false, true);
  if (t->model == MODEL_WORDPIECE)
    return json_pack("{s:s, s:s, s:b}", "type", "WordPiece", "prefix",
                     t->wordpiece.prefix, "cleanup", 1);
  return t->kind == CLATTN_TOKENIZER_CHARS ? json_pack("{s:s}", "type", "Fuse")
                                           : json_null();
}

static clattn_status model_of(const clattn_tokenizer *t, json_t **model) {
  json_t *vocab = NULL, *merges = NULL;
  const char *unknown = token_map_at(&t->map, t->unknown).text;
  clattn_status status = vocab_of(t, &vocab);
  if (status == CLATTN_OK && t->model == MODEL_BPE)
    status = merges_of(t, &merges);
  if (status != CLATTN_OK) {
    json_decref(vocab);
    json_decref(merges);
    return status;
  }
  if (t->model == MODEL_BPE) {
    char *text = unknown ? spell(t, t->unknown) : NULL;
    *model =
        json_pack("{s:s, s:n, s:s?, s:n, s:n, s:b, s:b, s:b, s:o, s:o}", "type",
                  "BPE", "dropout", "unk_token", text,
                  "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk",
                  t->bpe.fuse_unknown, "byte_fallback", 0, "ignore_merges",
                  t->bpe.whole_first, "vocab", vocab, "merges", merges);
    free(text);
  } else if (t->model == MODEL_WORDPIECE) {
    *model = json_pack("{s:s, s:s, s:s, s:I, s:o}", "type", "WordPiece",
                       "unk_token", unknown, "continuing_subword_prefix",
                       t->wordpiece.prefix, "max_input_chars_per_word",
                       (json_int_t)t->wordpiece.max_chars, "vocab", vocab);
  } else {
    *model = json_pack("{s:s, s:o, s:s}", "type", "WordLevel", "vocab", vocab,
                       "unk_token", unknown ? unknown : "<|unk|>");
  }
  return *model != NULL ? CLATTN_OK : KIT_OUT_OF_MEMORY("tokenizer");
}

/* To free(); NULL: no memory. Not json_dumps: jansson 2.14 goes on where its
 * buffer cannot grow for a key, and leaves the key out. */
static char *dump(const json_t *json, size_t flags) {
  const size_t n = json_dumpb(json, NULL, 0, flags);
  char *text = n > 0 ? malloc(n + 1) : NULL;
  if (text == NULL) return NULL;
  if (json_dumpb(json, text, n, flags) != n) {
    free(text);
    return NULL;
  }
  text[n] = '\0';
  return text;
}

clattn_status tokenizer_to_json(const clattn_tokenizer *t, char **text) {
  json_t *model = NULL;
  KIT_TRY(model_of(t, &model));
  json_t *json = json_pack(
      "{s:s, s:n, s:n, s:o, s:o, s:o, s:o, s:o, s:o}", "version", "1.0",
      "truncation", "padding", "added_tokens", added_of(t), "normalizer",
      normalizer_of(t), "pre_tokenizer", pre_tokenizer_of(t), "post_processor",
      post_processor_of(t), "decoder", decoder_of(t), "model", model);
  *text = json ? dump(json, JSON_INDENT(1)) : NULL;
  json_decref(json);
  return *text != NULL ? CLATTN_OK : KIT_OUT_OF_MEMORY("tokenizer");
}

/* ---- files --------------------------------------------------------------- */

static clattn_status save_text(const char *folder, const char *name,
                               const char *text, size_t bytes) {
  char *path;
  KIT_TRY(kit_path_join(folder, name, &path));
  const clattn_status status = kit_file_write(path, text, bytes);
  free(path);
  return status;
}

static clattn_status save_json(const clattn_tokenizer *t, const char *folder) {
  char *text = NULL;
  KIT_TRY(tokenizer_to_json(t, &text));
  const clattn_status status =
      save_text(folder, "tokenizer.json", text, strlen(text));
  free(text);
  return status;
}

static clattn_status save_vocab(const clattn_tokenizer *t, const char *folder) {
  json_t *vocab = NULL;
  clattn_status status = vocab_of(t, &vocab);
  char *text = status == CLATTN_OK ? dump(vocab, JSON_COMPACT) : NULL;
  json_decref(vocab);
  if (status != CLATTN_OK) return status;
  if (text == NULL) return KIT_OUT_OF_MEMORY("vocabulary");
  status = save_text(folder, "vocab.json", text, strlen(text));
  free(text);
  return status;
}

static clattn_status save_merges(const clattn_tokenizer *t,
                                 const char *folder) {
  json_t *merges = NULL;
  clattn_status status = merges_of(t, &merges);
  char *text = NULL;
  size_t bytes = 0;
  FILE *stream = status == CLATTN_OK ? open_memstream(&text, &bytes) : NULL;
  bool ok = stream != NULL && fputs("#version: 0.2\n", stream) >= 0;
  for (size_t i = 0; ok && i < json_array_size(merges); i++)
    ok = fprintf(stream, "%s\n", json_string_value(json_array_get(merges, i))) >
         0;
  if (stream != NULL) ok = fclose(stream) == 0 && ok;
  json_decref(merges);
  if (status == CLATTN_OK)
    status = ok ? save_text(folder, "merges.txt", text, bytes)
                : KIT_OUT_OF_MEMORY("merges");
  free(text);
  return status;
}

clattn_status clattn_tokenizer_save(const clattn_tokenizer *tokenizer,
                                    const char *folder) {
  KIT_REQUIRE(tokenizer != NULL, "tokenizer: got NULL, want a tokenizer");
  KIT_REQUIRE(folder != NULL && folder[0] != '\0',
              "folder: got none, want a folder's path");
  if (mkdir(folder, 0777) != 0 && errno != EEXIST)
    return KIT_BAD("%s: %s", folder, strerror(errno));
  if (!kit_path_is_folder(folder)) return KIT_BAD("%s: is no folder", folder);
  KIT_TRY(save_json(tokenizer, folder));
  if (tokenizer->model != MODEL_BPE) return CLATTN_OK;
  KIT_TRY(save_vocab(tokenizer, folder));
  return save_merges(tokenizer, folder);
}
