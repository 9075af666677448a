/* tokenizer_text.c - characters and words: the vocabulary of a text, and how a
 * file of tensors keeps it. */
#include <stdlib.h>
#include <string.h>

#include "tokenizer_file.h"
#include "utf8.h"
#include "wellformed.h"

static const char tensor_name[] = "tokens.text", key[] = "tokens";
/* The first two are clattn_tokenizer_kind's. */
enum { CHARS, WORDS, JSON, N_KINDS };
static const char *const kind_names[] = {"chars", "words", "tokenizer.json"};
static const char end_of_text[] = "<|endoftext|>", unknown[] = "<|unk|>";

/* Words: ([,.:;?_!"()']|--|\s), without the white space. */
static const char word_space[] = "\\s", word_marks[] = "[,.:;?_!\"()']|--";

/* ---- the kinds of pieces there are --------------------------------------- */

typedef struct collection {
  token_map map;
  token_index index;
} collection;

static clattn_status collect(void *user, const char *piece, size_t bytes) {
  collection *to = user;
  if (token_index_find(&to->index, &to->map, piece, bytes) >= 0)
    return CLATTN_OK;
  if (to->map.size == TOKEN_LIMIT - 2)
    return clattn_set_error(CLATTN_UNSUPPORTED,
                            "text: has more than %ld different tokens",
                            (long)TOKEN_LIMIT - 2);
  const int32_t id = to->map.size;
  int32_t there;
  KIT_TRY(token_map_add(&to->map, id, piece, bytes));
  return token_index_add(&to->index, &to->map, id, &there);
}

static int by_text(const void *a, const void *b) {
  const kit_bytes *x = a, *y = b;
  const size_t n = x->bytes < y->bytes ? x->bytes : y->bytes;
  const int order = memcmp(x->text, y->text, n);
  if (order != 0) return order;
  return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

static bool is_text(kit_bytes word, const char *text) {
  return word.bytes == strlen(text) && memcmp(word.text, text, word.bytes) == 0;
}

/* These have the last ids, also where the text has them. */
static bool is_special(kit_bytes word) {
  return is_text(word, end_of_text) || is_text(word, unknown);
}

/* Gives them ids in the order of their bytes, which is that of code points. */
static clattn_status number(clattn_tokenizer *t, const collection *from) {
  int32_t id = 0;
  kit_bytes *sorted = malloc(((size_t)from->map.size + 1) * sizeof *sorted);
  if (sorted == NULL) return KIT_OUT_OF_MEMORY("vocabulary");
  for (int32_t i = 0; i < from->map.size; i++)
    sorted[i] = token_map_at(&from->map, i);
  qsort(sorted, (size_t)from->map.size, sizeof *sorted, by_text);
  clattn_status status = CLATTN_OK;
  for (int32_t i = 0; i < from->map.size && status == CLATTN_OK; i++)
    if (t->kind == CLATTN_TOKENIZER_CHARS || !is_special(sorted[i]))
      status = tokenizer_add(t, id++, sorted[i].text, sorted[i].bytes);
  free(sorted);
  return status;
}

static clattn_status collect_all(const clattn_tokenizer *t, const char *text,
                                 size_t bytes, collection *to) {
  clattn_encode_options options;
  clattn_encode_options_init(&options);
  wellformed whole;
  encoder e;
  size_t done;
  KIT_TRY(wellformed_make(&whole, "text", text, bytes, CLATTN_INVALID_ERROR,
                          false));
  clattn_status status = encoder_init(&e, t, &options, false);
  e.on_piece = collect;
  e.user = to;
  if (status == CLATTN_OK)
    status = encoder_text(&e, text, bytes, 0, false, &done);
  encoder_free(&e);
  return status;
}

static clattn_status add_special(clattn_tokenizer *t, const char *text) {
  const size_t bytes = strlen(text);
  const int32_t there = token_index_find(&t->index, &t->map, text, bytes);
  const added_token token = {.id = there >= 0 ? there : t->map.size,
                             .special = true};
  if (there < 0) KIT_TRY(tokenizer_add(t, token.id, text, bytes));
  return tokenizer_add_added(t, text, bytes, &token);
}

static clattn_status build(clattn_tokenizer *t, const char *text,
                           size_t bytes) {
  const bool words = t->kind == CLATTN_TOKENIZER_WORDS;
  if (words) {
    KIT_TRY(split_add(t, "words", word_space, SPLIT_REMOVED, false));
    KIT_TRY(split_add(t, "words", word_marks, SPLIT_ISOLATED, false));
  }
  collection found = {0};
  clattn_status status = collect_all(t, text, bytes, &found);
  if (status == CLATTN_OK) status = number(t, &found);
  const int32_t distinct = found.map.size;
  token_map_free(&found.map);
  token_index_free(&found.index);
  if (status != CLATTN_OK) return status;
  /* A text of special words alone has words, and they are added below. */
  KIT_REQUIRE(distinct > 0, "text: has no words, want at least one");
  if (words) {
    KIT_TRY(add_special(t, end_of_text));
    KIT_TRY(add_special(t, unknown));
    t->unknown = t->map.size - 1;
  }
  return tokenizer_finish(t);
}

clattn_status clattn_tokenizer_from_text(clattn_tokenizer_kind kind,
                                         const char *text, size_t size_bytes,
                                         clattn_tokenizer **tokenizer) {
  KIT_REQUIRE(tokenizer != NULL, "tokenizer: got NULL, want a place");
  *tokenizer = NULL;
  KIT_REQUIRE(kind == CLATTN_TOKENIZER_CHARS || kind == CLATTN_TOKENIZER_WORDS,
              "kind: got %d, want 0 (chars) or 1 (words)", (int)kind);
  KIT_REQUIRE(text != NULL && size_bytes > 0, "text: is empty");
  clattn_tokenizer *made = NULL;
  KIT_TRY(tokenizer_new(
      kind, kind == CLATTN_TOKENIZER_CHARS ? MODEL_CHARS : MODEL_WHOLE, &made));
  const clattn_status status = build(made, text, size_bytes);
  made->from_text = true;
  return tokenizer_hand_over(status, made, tokenizer);
}

/* ---- what a file keeps --------------------------------------------------- */

/* Words are kept without the special ones at the end: they come anyway. */
static clattn_status list_tokens(const clattn_tokenizer *t, bool words,
                                 char **text, size_t *bytes) {
  char *to = *text = malloc(t->map.used + 1);
  if (to == NULL) return KIT_OUT_OF_MEMORY("vocabulary");
  for (int32_t i = 0; i < t->map.size - (words ? 2 : 0); i++) {
    const kit_bytes token = token_map_at(&t->map, i);
    memcpy(to, token.text, token.bytes);
    to += token.bytes;
    if (words) *to++ = '\n';
  }
  *bytes = (size_t)(to - *text);
  return CLATTN_OK;
}

clattn_status clattn_tokenizer_describe(const clattn_tokenizer *t,
                                        clattn_kit_tensor *tensor,
                                        clattn_kit_metadata *metadata,
                                        char **text) {
  KIT_REQUIRE(text != NULL, "text: got NULL, want a place");
  *text = NULL;
  KIT_REQUIRE(t != NULL, "tokenizer: got NULL, want a tokenizer");
  KIT_REQUIRE(tensor != NULL && metadata != NULL,
              "tensor: got NULL, want places for both");
  size_t bytes = 0;
  const int kind = t->from_text ? (int)t->kind : JSON;
  if (kind == JSON) {
    KIT_TRY(tokenizer_to_json(t, text));
    bytes = strlen(*text);
  } else {
    KIT_TRY(list_tokens(t, kind == WORDS, text, &bytes));
  }
  *tensor = (clattn_kit_tensor){.name = tensor_name,
                                .dtype = CLATTN_KIT_U8,
                                .rank = 1,
                                .extent = {(int64_t)bytes},
                                .data = *text,
                                .size_bytes = bytes};
  *metadata = (clattn_kit_metadata){key, kind_names[kind]};
  return CLATTN_OK;
}

static clattn_status load_json(const clattn_kit_tensor *tensor,
                               clattn_tokenizer **tokenizer) {
  json_error_t error;
  json_t *json = json_loadb(tensor->data, tensor->size_bytes,
                            JSON_REJECT_DUPLICATES, &error);
  if (json == NULL)
    return json_error_code(&error) == json_error_out_of_memory
               ? KIT_OUT_OF_MEMORY("vocabulary")
               : KIT_BAD("line %d: not JSON: %s", error.line, error.text);
  const clattn_status status =
      tokenizer_load_json("tokenizer.json", json, tokenizer);
  json_decref(json);
  return status;
}

bool tokenizer_in_safetensors(const clattn_kit_safetensors *file) {
  return clattn_kit_safetensors_metadata(file, key) != NULL;
}

clattn_status clattn_tokenizer_from_safetensors(
    const clattn_kit_safetensors *file, clattn_tokenizer **tokenizer) {
  KIT_REQUIRE(tokenizer != NULL, "tokenizer: got NULL, want a place");
  *tokenizer = NULL;
  KIT_REQUIRE(file != NULL, "file: got NULL, want an open file");
  const char *kind = clattn_kit_safetensors_metadata(file, key);
  clattn_kit_tensor tensor;
  if (kind == NULL ||
      clattn_kit_safetensors_find(file, tensor_name, &tensor) != CLATTN_OK)
    return KIT_BAD("file: has no vocabulary (tensor '%s' and metadata '%s')",
                   tensor_name, key);
  for (int i = 0; i < N_KINDS; i++) {
    if (strcmp(kind, kind_names[i]) != 0 || tensor.dtype != CLATTN_KIT_U8)
      continue;
    const clattn_status status =
        i == JSON
            ? load_json(&tensor, tokenizer)
            : clattn_tokenizer_from_text((clattn_tokenizer_kind)i, tensor.data,
                                         tensor.size_bytes, tokenizer);
    if (status == CLATTN_OK) return status;
    return clattn_set_error(
        status == CLATTN_INVALID_ARGUMENT ? CLATTN_IO_ERROR : status,
        "file: tensor '%s': %s", tensor_name, clattn_error_message());
  }
  return KIT_BAD(
      "file: vocabulary of '%.40s' in %s, want chars, words or tokenizer.json "
      "in U8",
      kind, tensor.dtype_name);
}
