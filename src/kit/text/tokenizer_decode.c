/* tokenizer_decode.c - tokens to text. */
#include <stdlib.h>
#include <string.h>

#include "tokenizer.h"

/* Whether no space stands before this token when words are joined. */
static bool closes(kit_bytes token) {
  /* memchr, not strchr: a NUL is a character like others. */
  static const char closing[] = {',', '.', ':', ';', '?',
                                 '!', '"', '(', ')', '\''};
  return token.bytes == 1 &&
         memchr(closing, token.text[0], sizeof closing) != NULL;
}

/* What a word of WordPiece begins with when no space stands before it: BERT's
 * decoder takes these spaces out. */
static bool joins(const clattn_tokenizer *t, kit_bytes token) {
  static const char *const ends[] = {".",  "?",  "!",   ",",  "n't",
                                     "'m", "'s", "'ve", "'re"};
  for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
    if (strncmp(token.text, ends[i], strlen(ends[i])) == 0) return true;
  return token.bytes >= t->wordpiece.prefix_bytes &&
         memcmp(token.text, t->wordpiece.prefix, t->wordpiece.prefix_bytes) ==
             0;
}

bool clattn_tokenizer_space(const clattn_tokenizer *t, int32_t before,
                            int32_t id) {
  if (t == NULL || before < 0) return false;
  const kit_bytes token = token_map_at(&t->map, id);
  if (token.text == NULL) return false;
  switch (t->kind) {
    case CLATTN_TOKENIZER_WORDS:
      return !closes(token);
    case CLATTN_TOKENIZER_WORDPIECE:
      return !joins(t, token);
    default:
      return false;
  }
}

/* The text of ids, or with `to` NULL the bytes it takes. */
static size_t write_text(const clattn_tokenizer *t, const int32_t *ids,
                         int64_t n, bool skip_special, char *to) {
  size_t bytes = 0;
  int32_t before = -1;
  for (int64_t i = 0; i < n; i++) {
    if (skip_special && clattn_tokenizer_is_special(t, ids[i])) continue;
    kit_bytes token = token_map_at(&t->map, ids[i]);
    if (clattn_tokenizer_space(t, before, ids[i])) {
      if (to != NULL) to[bytes] = ' ';
      bytes++;
    }
    const size_t prefix = t->wordpiece.prefix_bytes;
    if (t->model == MODEL_WORDPIECE && before >= 0 && token.bytes >= prefix &&
        memcmp(token.text, t->wordpiece.prefix, prefix) == 0) {
      token.text += prefix;
      token.bytes -= prefix;
    }
    if (to != NULL) memcpy(to + bytes, token.text, token.bytes);
    bytes += token.bytes;
    before = ids[i];
  }
  return bytes;
}

clattn_status clattn_tokenizer_decode(const clattn_tokenizer *t,
                                      const int32_t *ids, int64_t n,
                                      bool skip_special, char **text,
                                      size_t *size_bytes) {
  KIT_REQUIRE(text != NULL && size_bytes != NULL,
              "text: got NULL, want places for text and size_bytes");
  *text = NULL;
  *size_bytes = 0;
  KIT_REQUIRE(t != NULL, "tokenizer: got NULL, want a tokenizer");
  KIT_REQUIRE(n >= 0, "n: got %lld, want >= 0", (long long)n);
  KIT_REQUIRE(ids != NULL || n == 0, "ids: got NULL, want %lld numbers",
              (long long)n);
  for (int64_t i = 0; i < n; i++)
    KIT_REQUIRE(token_map_at(&t->map, ids[i]).text != NULL,
                "ids[%lld]: got %ld, which no token has (they are 0..%ld)",
                (long long)i, (long)ids[i], (long)t->map.size - 1);
  const size_t bytes = write_text(t, ids, n, skip_special, NULL);
  char *made = malloc(bytes + 1);
  if (made == NULL) return KIT_OUT_OF_MEMORY("text");
  write_text(t, ids, n, skip_special, made);
  made[bytes] = '\0';
  *text = made;
  *size_bytes = bytes;
  return CLATTN_OK;
}
