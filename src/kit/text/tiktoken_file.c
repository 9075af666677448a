/* tiktoken_file.c - lines of base64 and rank; encodings known by name. */
#include <stdlib.h>
#include <string.h>

#include "kit/files/file.h"
#include "tokenizer_file.h"

/* ---- known encodings ----------------------------------------------------- */

typedef struct special {
  const char *text;
  int32_t id;
} special;

typedef struct encoding {
  const char *name, *pattern;
  special specials[16];
} encoding;

static const encoding encodings[] = {
    {"gpt2", PATTERN_GPT2, {{"<|endoftext|>", 50256}}},
    {"r50k_base", PATTERN_GPT2, {{"<|endoftext|>", 50256}}},
    {"p50k_base", PATTERN_GPT2, {{"<|endoftext|>", 50256}}},
    {"p50k_edit",
     PATTERN_GPT2,
     {{"<|endoftext|>", 50256},
      {"<|fim_prefix|>", 50281},
      {"<|fim_middle|>", 50282},
      {"<|fim_suffix|>", 50283}}},
    {"cl100k_base",
     PATTERN_CL100K,
     {{"<|endoftext|>", 100257},
      {"<|fim_prefix|>", 100258},
      {"<|fim_middle|>", 100259},
      {"<|fim_suffix|>", 100260},
      {"<|endofprompt|>", 100276}}},
    {"o200k_base",
     PATTERN_O200K,
     {{"<|endoftext|>", 199999}, {"<|endofprompt|>", 200018}}},
    {"o200k_harmony",
     PATTERN_O200K,
     {{"<|startoftext|>", 199998},
      {"<|endoftext|>", 199999},
      {"<|return|>", 200002},
      {"<|constrain|>", 200003},
      {"<|channel|>", 200005},
      {"<|start|>", 200006},
      {"<|end|>", 200007},
      {"<|message|>", 200008},
      {"<|call|>", 200012},
      {"<|endofprompt|>", 200018}}},
};

/* The encoding that the file's name is; NULL: none. */
static const encoding *encoding_of(const char *path) {
  static const char ending[] = ".tiktoken";
  const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
  const size_t n = strlen(name) - (sizeof ending - 1);
  if (!kit_ends_with(name, ending)) return NULL;
  for (size_t i = 0; i < sizeof encodings / sizeof *encodings; i++)
    if (strlen(encodings[i].name) == n &&
        memcmp(encodings[i].name, name, n) == 0)
      return &encodings[i];
  return NULL;
}

/* ---- lines --------------------------------------------------------------- */

static int digit_of(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* The bytes of base64 [n], into `to`; false: it is none. */
static bool decode_base64(const char *text, size_t n, char *to, size_t *bytes) {
  size_t used = 0, end = n;
  if (n == 0 || n % 4 != 0) return false;
  while (end > n - 2 && text[end - 1] == '=') end--;
  uint32_t bits = 0;
  int held = 0;
  for (size_t i = 0; i < end; i++) {
    const int digit = digit_of(text[i]);
    if (digit < 0) return false;
    bits = bits << 6 | (uint32_t)digit;
    held += 6;
    if (held < 8) continue;
    held -= 8;
    to[used++] = (char)(bits >> held & 0xff);
  }
  *bytes = used;
  return (bits & ((1u << held) - 1)) == 0;
}

/* A whole number of digits alone; -1: none, or beyond what an id may be. */
static int32_t read_rank(const char *text, size_t n) {
  int32_t rank = 0;
  if (n == 0 || n > 8) return -1;
  for (size_t i = 0; i < n; i++) {
    if (text[i] < '0' || text[i] > '9') return -1;
    rank = 10 * rank + (text[i] - '0');
  }
  return rank < TOKEN_LIMIT ? rank : -1;
}

static clattn_status read_lines(clattn_tokenizer *t, const char *path,
                                const char *text, size_t bytes, char *decoded) {
  long line = 0;
  for (size_t at = 0; at < bytes;) {
    const char *token = text + at;
    const char *end = memchr(token, '\n', bytes - at);
    size_t n = end ? (size_t)(end - token) : bytes - at;
    at += n + 1;
    line++;
    if (n > 0 && token[n - 1] == '\r') n--;
    if (n == 0) continue;
    const char *space = memchr(token, ' ', n);
    const size_t coded = space ? (size_t)(space - token) : n;
    const int32_t rank = space ? read_rank(space + 1, n - coded - 1) : -1;
    size_t size;
    if (rank < 0 || !decode_base64(token, coded, decoded, &size))
      return FILE_BAD(path,
                      "line %ld: got '%.*s', want base64, a space and "
                      "a rank below %ld",
                      line, kit_shown(n), token, (long)TOKEN_LIMIT);
    if (size == 0) return FILE_BAD(path, "line %ld: an empty token", line);
    if (tokenizer_add(t, rank, decoded, size) != CLATTN_OK)
      return FILE_BAD(path, "line %ld: %s", line, clattn_error_message());
  }
  return CLATTN_OK;
}

/* ---- the whole ----------------------------------------------------------- */

static clattn_status add_special(clattn_tokenizer *t, const char *text,
                                 int32_t id) {
  const added_token token = {.id = id, .special = true};
  return tokenizer_add_added(t, text, strlen(text), &token);
}

static clattn_status add_all_specials(clattn_tokenizer *t,
                                      const encoding *known,
                                      const clattn_tokenizer_config *config) {
  for (size_t i = 0; i < config->n_specials; i++)
    KIT_TRY(add_special(t, config->specials[i], config->special_ids[i]));
  if (config->n_specials > 0) return CLATTN_OK;
  if (known == NULL) return add_special(t, "<|endoftext|>", t->map.size);
  const special *of = known->specials;
  for (int i = 0; i < 16 && of[i].text != NULL; i++)
    KIT_TRY(add_special(t, of[i].text, of[i].id));
  return CLATTN_OK;
}

static clattn_status build(clattn_tokenizer *t, const char *path,
                           const clattn_tokenizer_config *config) {
  const encoding *known = encoding_of(path);
  void *text;
  size_t bytes;
  KIT_TRY(split_add(t, "config->pattern",
                    config->pattern ? config->pattern
                    : known         ? known->pattern
                                    : PATTERN_GPT2,
                    SPLIT_ISOLATED, false));
  KIT_TRY(kit_map_file(path, &text, &bytes));
  char *decoded = malloc(bytes); /* a line is shorter */
  clattn_status status = decoded == NULL
                             ? KIT_OUT_OF_MEMORY("vocabulary")
                             : read_lines(t, path, text, bytes, decoded);
  free(decoded);
  kit_unmap_file(text, bytes);
  if (status != CLATTN_OK) return status;
  t->bpe.whole_first = true;
  status = bpe_merges_of_ranks(t);
  if (status == CLATTN_OK) status = add_all_specials(t, known, config);
  if (status == CLATTN_OK) status = tokenizer_finish(t);
  return status == CLATTN_OK ? status : tokenizer_file_failed(status, path);
}

clattn_status tokenizer_load_tiktoken(const char *path,
                                      const clattn_tokenizer_config *config,
                                      clattn_tokenizer **tokenizer) {
  clattn_tokenizer *made = NULL;
  KIT_TRY(tokenizer_new(CLATTN_TOKENIZER_BPE, MODEL_BPE, &made));
  const clattn_status status = build(made, path, config);
  return tokenizer_hand_over(status, made, tokenizer);
}
