/* tokens.c - tokens as texts, and whether they are what they should be. */
#include "tokens.h"

#include <stdlib.h>
#include <string.h>

#include "kit/text/utf8.h"

static clattn_status check_texts(const clattn_attention_tokens *t,
                                 const char *where) {
  KIT_REQUIRE(t->texts != NULL, "%s.texts: got NULL, want %lld texts", where,
              (long long)t->n);
  for (int64_t i = 0; i < t->n; i++) {
    const char *text = t->texts[i];
    KIT_REQUIRE(text != NULL, "%s.texts[%lld]: got NULL, want a text", where,
                (long long)i);
    const size_t n = strlen(text), good = kit_utf8_valid(text, n);
    KIT_REQUIRE(good == n, "%s.texts[%lld]: not UTF-8 at byte %zu", where,
                (long long)i, good);
  }
  return CLATTN_OK;
}

static clattn_status check_flags(const uint8_t *flags, int64_t n,
                                 const char *where, const char *name) {
  for (int64_t i = 0; flags != NULL && i < n; i++)
    KIT_REQUIRE(flags[i] <= 1, "%s.%s[%lld]: got %d, want 0 or 1", where, name,
                (long long)i, flags[i]);
  return CLATTN_OK;
}

clattn_status attention_tokens_check(const clattn_attention_tokens *t,
                                     const char *where,
                                     const int64_t bytes[2]) {
  KIT_TRY(check_texts(t, where));
  KIT_TRY(check_flags(t->segments, t->n, where, KEY_SEGMENTS));
  KIT_TRY(check_flags(t->added, t->n, where, KEY_ADDED));
  KIT_REQUIRE((t->begins == NULL) == (t->ends == NULL),
              "%s: got begins or ends alone, want both or none", where);
  for (int64_t i = 0; t->begins != NULL && i < t->n; i++) {
    const int64_t begin = t->begins[i], end = t->ends[i];
    const int64_t n = bytes[t->segments != NULL && t->segments[i]];
    KIT_REQUIRE(0 <= begin && begin <= end && (n < 0 || end <= n),
                "%s.begins[%lld]: got bytes %lld to %lld, want them within its "
                "text's %lld",
                where, (long long)i, (long long)begin, (long long)end,
                (long long)n);
  }
  return CLATTN_OK;
}

/* How many bytes there are before the next that are UTF-8. */
static size_t bad_bytes(const char *bytes, size_t n) {
  size_t at = 0;
  bool cut;
  while (at < n && kit_utf8_valid(bytes + at, n - at) == 0)
    at += kit_utf8_bad(bytes + at, n - at, &cut);
  return at;
}

/* "<E6 9D>"; returns its length. */
static size_t put_bytes(const char *bytes, size_t n, char *text) {
  static const char digits[] = "0123456789ABCDEF";
  size_t used = 0;
  for (size_t i = 0; i < n; i++) {
    const unsigned byte = (unsigned char)bytes[i];
    text[used++] = i == 0 ? '<' : ' ';
    text[used++] = digits[byte >> 4];
    text[used++] = digits[byte & 15];
  }
  text[used++] = '>';
  return used;
}

char *attention_text(const char *bytes, size_t n) {
  /* A byte becomes four at most: "<E6>". */
  char *text = n > (SIZE_MAX - 1) / 4 ? NULL : malloc(4 * n + 1);
  if (text == NULL) return NULL;
  size_t used = 0;
  for (size_t at = 0; at < n;) {
    const size_t good = kit_utf8_valid(bytes + at, n - at);
    for (size_t end = at + good; at < end; at++) {
      if (bytes[at] != '\0') {
        text[used++] = bytes[at];
        continue;
      }
      memcpy(text + used, ATTENTION_NUL, 3);
      used += 3;
    }
    if (at == n) break;
    const size_t bad = bad_bytes(bytes + at, n - at);
    used += put_bytes(bytes + at, bad, text + used);
    at += bad;
  }
  text[used] = '\0';
  return text;
}

clattn_status attention_texts_make(const clattn_tokenizer *tokenizer,
                                   const int32_t *ids, int64_t n,
                                   char ***texts) {
  *texts = NULL;
  char **made = calloc((size_t)n, sizeof *made);
  if (made == NULL) return KIT_OUT_OF_MEMORY("attention file");
  for (int64_t i = 0; i < n; i++) {
    size_t size;
    const char *bytes = clattn_tokenizer_token(tokenizer, ids[i], &size);
    made[i] = attention_text(bytes ? bytes : "", size);
    if (made[i] != NULL) continue;
    attention_texts_free(made, n);
    return KIT_OUT_OF_MEMORY("attention file");
  }
  *texts = made;
  return CLATTN_OK;
}

void attention_texts_free(char **texts, int64_t n) {
  for (int64_t i = 0; texts != NULL && i < n; i++) free(texts[i]);
  free(texts);
}
