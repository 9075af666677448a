/* gpt_tokens.c - characters or words as a GPT's tokens, kept with its weights. */
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "gpt.h"

static const char tensor_name[] = "tokens.text", key[] = "tokens";
static const char *const kind_names[] = {"chars", "words"};
enum { N_KINDS = 2, CHAR_BYTES = 5, CODE_POINTS = 0x110000 };

struct clattn_gpt_tokens {
  clattn_gpt_token_kind kind;
  int32_t size;
  char (*chars)[CHAR_BYTES]; /* CHARS: [size], each terminated */
  int32_t *number;           /* CHARS: [CODE_POINTS], -1: not there */
  clattn_kit_vocab *vocab;   /* WORDS */
  char *text;                /* what a file keeps */
  size_t size_bytes;
};

/* ---- characters ---------------------------------------------------------- */

/* The character at `at`, and its bytes. */
static clattn_status next_char(const char *text, size_t size_bytes, size_t at,
                               int32_t *point, size_t *bytes) {
  const utf8proc_ssize_t got = utf8proc_iterate(
      (const utf8proc_uint8_t *)text + at,
      (utf8proc_ssize_t)(size_bytes - at > 4 ? 4 : size_bytes - at), point);
  KIT_REQUIRE(got > 0, "text: not UTF-8 at byte %zu", at);
  *bytes = (size_t)got;
  return CLATTN_OK;
}

/* Numbers the characters of a text in the order of their code points. */
static clattn_status number_chars(clattn_gpt_tokens *tokens, const char *text,
                                  size_t size_bytes) {
  tokens->number = malloc(CODE_POINTS * sizeof *tokens->number);
  if (tokens->number == NULL) return KIT_OUT_OF_MEMORY("tokens");
  for (int32_t i = 0; i < CODE_POINTS; i++) tokens->number[i] = -1;
  for (size_t at = 0, bytes = 0; at < size_bytes; at += bytes) {
    int32_t point;
    KIT_TRY(next_char(text, size_bytes, at, &point, &bytes));
    tokens->number[point] = 0;
  }
  for (int32_t i = 0; i < CODE_POINTS; i++)
    if (tokens->number[i] == 0) tokens->number[i] = tokens->size++;
  tokens->chars = calloc((size_t)tokens->size, sizeof *tokens->chars);
  tokens->text = malloc((size_t)tokens->size * CHAR_BYTES);
  if (tokens->chars == NULL || tokens->text == NULL)
    return KIT_OUT_OF_MEMORY("tokens");
  for (int32_t i = 0; i < CODE_POINTS; i++) {
    if (tokens->number[i] < 0) continue;
    char *to = tokens->chars[tokens->number[i]];
    const size_t n = (size_t)utf8proc_encode_char(i, (utf8proc_uint8_t *)to);
    memcpy(tokens->text + tokens->size_bytes, to, n);
    tokens->size_bytes += n;
  }
  return CLATTN_OK;
}

static clattn_status encode_chars(const clattn_gpt_tokens *tokens,
                                  const char *text, size_t size_bytes,
                                  int32_t *ids, int64_t *n) {
  *n = 0;
  for (size_t at = 0, bytes = 0; at < size_bytes; at += bytes) {
    int32_t point;
    KIT_TRY(next_char(text, size_bytes, at, &point, &bytes));
    KIT_REQUIRE(tokens->number[point] >= 0,
                "text: the character '%.*s' (U+%04X) at byte %zu is not in "
                "the vocabulary",
                (int)bytes, text + at, (unsigned)point, at);
    ids[(*n)++] = tokens->number[point];
  }
  return CLATTN_OK;
}

/* ---- words --------------------------------------------------------------- */

static clattn_status number_words(clattn_gpt_tokens *tokens, const char *text,
                                  size_t size_bytes) {
  clattn_kit_words *words = NULL;
  KIT_TRY(clattn_kit_words_create(text, size_bytes, &words));
  const size_t count = clattn_kit_words_count(words);
  clattn_status status =
      count > 0 ? clattn_kit_vocab_create(words, &tokens->vocab)
                : clattn_set_error(CLATTN_INVALID_ARGUMENT,
                                   "text: has no words, want at least one");
  clattn_kit_words_destroy(words);
  if (status != CLATTN_OK) return status;
  tokens->size = clattn_kit_vocab_size(tokens->vocab);
  /* The last two, <|endoftext|> and <|unk|>, are there in any case. */
  for (int32_t i = 0; i < tokens->size - 2; i++) {
    size_t bytes;
    clattn_kit_vocab_token(tokens->vocab, i, &bytes);
    tokens->size_bytes += bytes + 1;
  }
  char *to = tokens->text = malloc(tokens->size_bytes + 1);
  if (to == NULL) return KIT_OUT_OF_MEMORY("tokens");
  for (int32_t i = 0; i < tokens->size - 2; i++) {
    size_t bytes;
    const char *word = clattn_kit_vocab_token(tokens->vocab, i, &bytes);
    memcpy(to, word, bytes);
    to[bytes] = '\n';
    to += bytes + 1;
  }
  return CLATTN_OK;
}

static bool is_token(const clattn_gpt_tokens *tokens, int32_t id,
                     const char *word, size_t bytes) {
  size_t size;
  const char *text = clattn_kit_vocab_token(tokens->vocab, id, &size);
  return size == bytes && memcmp(text, word, bytes) == 0;
}

static clattn_status encode_words(const clattn_gpt_tokens *tokens,
                                  const clattn_kit_words *words, int32_t *ids,
                                  int64_t *n) {
  const int32_t unknown = tokens->size - 1;
  *n = (int64_t)clattn_kit_words_count(words);
  for (int64_t i = 0; i < *n; i++) {
    size_t bytes;
    const char *word = clattn_kit_words_at(words, (size_t)i, &bytes);
    ids[i] = clattn_kit_vocab_id(tokens->vocab, word, bytes);
    /* A text may have the word <|unk|> itself. */
    KIT_REQUIRE(ids[i] != unknown || is_token(tokens, unknown, word, bytes),
                "text: the word '%.*s' is not in the vocabulary",
                (int)(bytes > 80 ? 80 : bytes), word);
  }
  return CLATTN_OK;
}

/* ---- making -------------------------------------------------------------- */

clattn_status clattn_gpt_tokens_create(clattn_gpt_token_kind kind,
                                       const char *text, size_t size_bytes,
                                       clattn_gpt_tokens **tokens) {
  KIT_REQUIRE(tokens != NULL, "tokens: got NULL, want a place");
  *tokens = NULL;
  KIT_REQUIRE(kind == CLATTN_GPT_CHARS || kind == CLATTN_GPT_WORDS,
              "kind: got %d, want 0 (chars) or 1 (words)", (int)kind);
  KIT_REQUIRE(text != NULL && size_bytes > 0, "text: is empty");
  clattn_gpt_tokens *made = calloc(1, sizeof *made);
  if (made == NULL) return KIT_OUT_OF_MEMORY("tokens");
  made->kind = kind;
  const clattn_status status = kind == CLATTN_GPT_CHARS
                                   ? number_chars(made, text, size_bytes)
                                   : number_words(made, text, size_bytes);
  if (status != CLATTN_OK) {
    clattn_gpt_tokens_destroy(made);
    return status;
  }
  *tokens = made;
  return CLATTN_OK;
}

clattn_status clattn_gpt_tokens_load(const clattn_kit_safetensors *file,
                                     clattn_gpt_tokens **tokens) {
  KIT_REQUIRE(tokens != NULL, "tokens: got NULL, want a place");
  *tokens = NULL;
  KIT_REQUIRE(file != NULL, "file: got NULL, want an open file");
  const char *kind = clattn_kit_safetensors_metadata(file, key);
  clattn_kit_tensor tensor;
  if (kind == NULL ||
      clattn_kit_safetensors_find(file, tensor_name, &tensor) != CLATTN_OK)
    return clattn_set_error(CLATTN_IO_ERROR,
                            "file: has no vocabulary (tensor '%s' and "
                            "metadata '%s')",
                            tensor_name, key);
  for (int i = 0; i < N_KINDS; i++)
    if (strcmp(kind, kind_names[i]) == 0 && tensor.dtype == CLATTN_KIT_U8) {
      if (clattn_gpt_tokens_create((clattn_gpt_token_kind)i, tensor.data,
                                   tensor.size_bytes, tokens) == CLATTN_OK)
        return CLATTN_OK;
      return clattn_set_error(CLATTN_IO_ERROR, "file: tensor '%s': %s",
                              tensor_name, clattn_error_message());
    }
  return clattn_set_error(CLATTN_IO_ERROR,
                          "file: vocabulary of '%.40s' in %s, want chars or "
                          "words in U8",
                          kind, tensor.dtype_name);
}

void clattn_gpt_tokens_destroy(clattn_gpt_tokens *tokens) {
  if (tokens == NULL) return;
  clattn_kit_vocab_destroy(tokens->vocab);
  free(tokens->chars);
  free(tokens->number);
  free(tokens->text);
  free(tokens);
}

clattn_status clattn_gpt_tokens_describe(const clattn_gpt_tokens *tokens,
                                         clattn_kit_tensor *tensor,
                                         clattn_kit_metadata *metadata) {
  KIT_REQUIRE(tokens != NULL, "tokens: got NULL, want tokens");
  KIT_REQUIRE(tensor != NULL && metadata != NULL,
              "tensor: got NULL, want places for both");
  *tensor = (clattn_kit_tensor){.name = tensor_name,
                                .dtype = CLATTN_KIT_U8,
                                .rank = 1,
                                .extent = {(int64_t)tokens->size_bytes},
                                .data = tokens->text,
                                .size_bytes = tokens->size_bytes};
  *metadata = (clattn_kit_metadata){key, kind_names[tokens->kind]};
  return CLATTN_OK;
}

/* ---- using it ------------------------------------------------------------ */

int32_t clattn_gpt_tokens_size(const clattn_gpt_tokens *tokens) {
  return tokens == NULL ? 0 : tokens->size;
}

clattn_gpt_token_kind clattn_gpt_tokens_kind(const clattn_gpt_tokens *tokens) {
  return tokens == NULL ? CLATTN_GPT_CHARS : tokens->kind;
}

clattn_status clattn_gpt_tokens_encode(const clattn_gpt_tokens *tokens,
                                       const char *text, size_t size_bytes,
                                       int32_t **ids, int64_t *n) {
  KIT_REQUIRE(ids != NULL && n != NULL, "ids: got NULL, want places");
  *ids = NULL;
  KIT_REQUIRE(tokens != NULL, "tokens: got NULL, want tokens");
  KIT_REQUIRE(text != NULL || size_bytes == 0, "text: got NULL, want %zu bytes",
              size_bytes);
  clattn_kit_words *words = NULL;
  if (tokens->kind == CLATTN_GPT_WORDS)
    KIT_TRY(clattn_kit_words_create(text, size_bytes, &words));
  int32_t *made = calloc(size_bytes + 1, sizeof *made); /* at most one a byte */
  int64_t count = 0;
  clattn_status status =
      made == NULL    ? KIT_OUT_OF_MEMORY("tokens")
      : words != NULL ? encode_words(tokens, words, made, &count)
                      : encode_chars(tokens, text, size_bytes, made, &count);
  clattn_kit_words_destroy(words);
  if (status != CLATTN_OK) {
    free(made);
    return status;
  }
  *ids = made;
  *n = count;
  return CLATTN_OK;
}

const char *clattn_gpt_tokens_text(const clattn_gpt_tokens *tokens, int32_t id,
                                   size_t *size_bytes) {
  if (size_bytes != NULL) *size_bytes = 0;
  if (tokens == NULL || id < 0 || id >= tokens->size) return NULL;
  if (tokens->kind == CLATTN_GPT_WORDS)
    return clattn_kit_vocab_token(tokens->vocab, id, size_bytes);
  const char *text = tokens->chars[id];
  /* The character NUL is one byte. */
  if (size_bytes != NULL) *size_bytes = text[0] == '\0' ? 1 : strlen(text);
  return text;
}

bool clattn_gpt_tokens_space(const clattn_gpt_tokens *tokens, int32_t before,
                             int32_t id) {
  if (tokens == NULL || tokens->kind != CLATTN_GPT_WORDS || before < 0)
    return false;
  size_t bytes;
  const char *text = clattn_kit_vocab_token(tokens->vocab, id, &bytes);
  return text != NULL && !kit_closes(text, bytes);
}
