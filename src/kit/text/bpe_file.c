/* bpe_file.c - byte-level BPE vocabularies: vocab.json with merges.txt. */
#include <stdlib.h>
#include <string.h>

#include "bytelevel.h"
#include "kit/files/file.h"
#include "tokenizer_file.h"

/* ---- tokens as files spell them ------------------------------------------ */

enum { SHORT_TOKEN = 256 };

/* Bytes of a token, in `room` or in memory to free(). */
static clattn_status spell(const char *token, size_t bytes,
                           char room[SHORT_TOKEN], char **to, size_t *n,
                           bool *spelt) {
  *to = room;
  if (bytes > SHORT_TOKEN && (*to = malloc(bytes)) == NULL)
    return KIT_OUT_OF_MEMORY("vocabulary");
  *spelt = bytelevel_decode(token, bytes, *to, n);
  return CLATTN_OK;
}

int32_t bpe_find(const clattn_tokenizer *t, const char *token, size_t bytes) {
  char room[SHORT_TOKEN], *to;
  size_t n;
  bool spelt = false;
  if (spell(token, bytes, room, &to, &n, &spelt) != CLATTN_OK) return -1;
  const int32_t id = spelt ? token_index_find(&t->index, &t->map, to, n) : -1;
  if (to != room) free(to);
  return id;
}

clattn_status bpe_read_token(clattn_tokenizer *t, int32_t id, const char *token,
                             size_t bytes) {
  char room[SHORT_TOKEN], *to;
  size_t n;
  bool spelt = false;
  KIT_TRY(spell(token, bytes, room, &to, &n, &spelt));
  /* An added token is there already, by its text. */
  const kit_bytes old = token_map_at(&t->map, id);
  const bool there = old.bytes == bytes && old.text != NULL &&
                     memcmp(old.text, token, bytes) == 0;
  /* What stands for no bytes is a special token: merges never lead to it. */
  const bool other = !spelt || n != bytes || memcmp(to, token, bytes) != 0;
  const clattn_status status = there && other ? CLATTN_OK
                               : spelt
                                   ? tokenizer_add(t, id, to, n)
                                   : token_map_add(&t->map, id, token, bytes);
  if (to != room) free(to);
  return status;
}

clattn_status bpe_read_vocab(clattn_tokenizer *t, const json_t *vocab) {
  KIT_REQUIRE(json_is_object(vocab), "the vocabulary is no JSON object");
  const char *token;
  json_t *id;
  json_object_foreach((json_t *)vocab, token, id) {
    KIT_REQUIRE(json_is_integer(id), "the id of '%.80s' is no whole number",
                token);
    const json_int_t value = json_integer_value(id);
    KIT_REQUIRE(value >= 0 && value < TOKEN_LIMIT,
                "the id of '%.80s': got %lld, want 0..%ld", token,
                (long long)value, (long)TOKEN_LIMIT - 1);
    KIT_TRY(bpe_read_token(t, (int32_t)value, token, strlen(token)));
  }
  return CLATTN_OK;
}

/* ---- merges -------------------------------------------------------------- */

clattn_status bpe_read_merge(clattn_tokenizer *t, int32_t rank,
                             const char *left, size_t left_bytes,
                             const char *right, size_t right_bytes) {
  const int32_t a = bpe_find(t, left, left_bytes);
  const int32_t b = bpe_find(t, right, right_bytes);
  KIT_REQUIRE(a >= 0 && b >= 0, "merge %ld: '%.*s' is not in the vocabulary",
              (long)rank + 1, kit_shown(a < 0 ? left_bytes : right_bytes),
              a < 0 ? left : right);
  const kit_bytes x = token_map_at(&t->map, a), y = token_map_at(&t->map, b);
  char room[SHORT_TOKEN], *both = room;
  const size_t bytes = x.bytes + y.bytes;
  if (bytes > SHORT_TOKEN && (both = malloc(bytes)) == NULL)
    return KIT_OUT_OF_MEMORY("merges");
  memcpy(both, x.text, x.bytes);
  memcpy(both + x.bytes, y.text, y.bytes);
  const int32_t id = token_index_find(&t->index, &t->map, both, bytes);
  if (both != room) free(both);
  KIT_REQUIRE(id >= 0,
              "merge %ld: what '%.*s' and '%.*s' become is not in the "
              "vocabulary",
              (long)rank + 1, kit_shown(left_bytes), left,
              kit_shown(right_bytes), right);
  bool added;
  KIT_TRY(bpe_add_pair(&t->bpe, a, b, rank, id, &added));
  KIT_REQUIRE(added, "merge %ld: '%.*s %.*s' is there twice", (long)rank + 1,
              kit_shown(left_bytes), left, kit_shown(right_bytes), right);
  return CLATTN_OK;
}

clattn_status bpe_read_merge_text(clattn_tokenizer *t, int32_t rank,
                                  const char *text, size_t bytes) {
  const char *space = memchr(text, ' ', bytes);
  const char *end = text + bytes;
  KIT_REQUIRE(space != NULL && space > text && space + 1 < end &&
                  memchr(space + 1, ' ', (size_t)(end - space - 1)) == NULL,
              "merge %ld: got '%.*s', want two tokens", (long)rank + 1,
              kit_shown(bytes), text);
  return bpe_read_merge(t, rank, text, (size_t)(space - text), space + 1,
                        (size_t)(end - space - 1));
}

static clattn_status read_merges(clattn_tokenizer *t, const char *path,
                                 const char *text, size_t bytes) {
  static const char version[] = "#version";
  int32_t rank = 0;
  long line = 0;
  for (size_t at = 0; at < bytes;) {
    const char *end = memchr(text + at, '\n', bytes - at);
    size_t n = end ? (size_t)(end - text) - at : bytes - at;
    const char *merge = text + at;
    at += n + 1;
    line++;
    if (n > 0 && merge[n - 1] == '\r') n--;
    if (n == 0 || strncmp(merge, version, sizeof version - 1) == 0) continue;
    if (rank >= TOKEN_LIMIT) return FILE_BAD(path, "too many merges");
    const clattn_status status = bpe_read_merge_text(t, rank++, merge, n);
    if (status != CLATTN_OK) {
      char why[512];
      snprintf(why, sizeof why, "line %ld: %s", line, clattn_error_message());
      clattn_set_error(status, "%s", why);
      return tokenizer_file_failed(status, path);
    }
  }
  return CLATTN_OK;
}

/* Every way to cut a token in two, where both halves are tokens: what merges by
 * the rank of the result does, as tiktoken. Time is quadratic in a token. */
enum { LONGEST_RANKED = 1024 };

clattn_status bpe_merges_of_ranks(clattn_tokenizer *t) {
  for (int32_t id = 0; id < t->map.size; id++) {
    const kit_bytes token = token_map_at(&t->map, id);
    if (token.bytes < 2 ||
        token_index_find(&t->index, &t->map, token.text, token.bytes) != id)
      continue;
    KIT_REQUIRE(token.bytes <= LONGEST_RANKED,
                "the token %ld: got %zu bytes, want at most %d", (long)id,
                token.bytes, LONGEST_RANKED);
    for (size_t cut = 1; cut < token.bytes; cut++) {
      const int32_t left =
          token_index_find(&t->index, &t->map, token.text, cut);
      if (left < 0) continue;
      const int32_t right = token_index_find(
          &t->index, &t->map, token.text + cut, token.bytes - cut);
      bool added;
      if (right >= 0)
        KIT_TRY(bpe_add_pair(&t->bpe, left, right, id, id, &added));
    }
  }
  return CLATTN_OK;
}

/* ---- files --------------------------------------------------------------- */

clattn_status bpe_add_specials(clattn_tokenizer *t) {
  static const char *const names[] = {"<|endoftext|>", "<s>",       "</s>",
                                      "<unk>",         "<pad>",     "<mask>",
                                      "<|im_start|>",  "<|im_end|>"};
  return tokenizer_add_specials(t, names, sizeof names / sizeof *names);
}

static clattn_status build(clattn_tokenizer *t, const char *vocab_path,
                           const json_t *vocab, const char *merges_path,
                           const clattn_tokenizer_config *config) {
  clattn_status status = bpe_read_vocab(t, vocab);
  if (status == CLATTN_OK) status = bpe_add_specials(t);
  if (status != CLATTN_OK) return tokenizer_file_failed(status, vocab_path);
  KIT_TRY(split_add(t, "config->pattern",
                    config->pattern ? config->pattern : PATTERN_GPT2,
                    SPLIT_ISOLATED, false));
  void *text;
  size_t bytes;
  KIT_TRY(kit_map_file(merges_path, &text, &bytes));
  status = read_merges(t, merges_path, text, bytes);
  kit_unmap_file(text, bytes);
  if (status != CLATTN_OK) return status;
  status = tokenizer_finish(t);
  return status == CLATTN_OK ? status
                             : tokenizer_file_failed(status, vocab_path);
}

clattn_status tokenizer_load_bpe(const char *vocab_path,
                                 const char *merges_path,
                                 const clattn_tokenizer_config *config,
                                 clattn_tokenizer **tokenizer) {
  json_t *vocab;
  KIT_TRY(kit_json_load(vocab_path, &vocab));
  clattn_tokenizer *made = NULL;
  clattn_status status = tokenizer_new(CLATTN_TOKENIZER_BPE, MODEL_BPE, &made);
  if (status == CLATTN_OK)
    status = build(made, vocab_path, vocab, merges_path, config);
  json_decref(vocab);
  return tokenizer_hand_over(status, made, tokenizer);
}
