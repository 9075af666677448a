/* words.c - text to word tokens by a regular expression, and a vocabulary. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "kit.h"

static const char delimiters[] = "([,.:;?_!\"()']|--|\\s)";
static const char end_of_text[] = "<|endoftext|>";
static const char unknown[] = "<|unk|>";

typedef struct slice {
  const char *text;
  size_t bytes;
} slice;

struct clattn_kit_words {
  slice *tokens; /* [count] */
  size_t count, room;
};

/* ---- splitting ----------------------------------------------------------- */

static clattn_status append(clattn_kit_words *words, const char *text,
                            size_t bytes) {
  if (bytes == 0) return CLATTN_OK;
  if (words->count == words->room) {
    const size_t room = words->room ? 2 * words->room : 1024;
    slice *tokens = realloc(words->tokens, room * sizeof *tokens);
    if (tokens == NULL) return KIT_OUT_OF_MEMORY("words");
    words->tokens = tokens;
    words->room = room;
  }
  words->tokens[words->count++] = (slice){text, bytes};
  return CLATTN_OK;
}

/* A delimiter is one of the ASCII marks, "--" or one white-space character:
 * only the marks are visible ASCII. */
static bool is_white(const char *text) {
  return (unsigned char)*text <= ' ' || (unsigned char)*text >= 0x80;
}

static clattn_status match_failed(int code, const pcre2_match_data *match) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(code, text, sizeof text);
  if (code <= PCRE2_ERROR_UTF8_ERR1 && code >= PCRE2_ERROR_UTF8_ERR21)
    return clattn_set_error(
        CLATTN_INVALID_ARGUMENT, "text: not UTF-8 at byte %zu: %s",
        (size_t)pcre2_get_startchar((pcre2_match_data *)match),
        (const char *)text);
  return clattn_set_error(code == PCRE2_ERROR_NOMEMORY
                              ? CLATTN_OUT_OF_MEMORY
                              : CLATTN_INVALID_ARGUMENT,
                          "text: %s", (const char *)text);
}

static clattn_status split(const pcre2_code *code, pcre2_match_data *match,
                           const char *text, size_t bytes,
                           clattn_kit_words *words) {
  size_t at = 0;
  uint32_t options = 0; /* the first call checks the whole text to be UTF-8 */
  for (;;) {
    const int found =
        pcre2_match(code, (PCRE2_SPTR)text, bytes, at, options, match, NULL);
    if (found == PCRE2_ERROR_NOMATCH)
      return append(words, text + at, bytes - at);
    if (found < 0) return match_failed(found, match);
    const size_t *range = pcre2_get_ovector_pointer(match);
    KIT_TRY(append(words, text + at, range[0] - at));
    if (!is_white(text + range[0]))
      KIT_TRY(append(words, text + range[0], range[1] - range[0]));
    at = range[1];
    options = PCRE2_NO_UTF_CHECK;
  }
}

clattn_status clattn_kit_words_create(const char *text, size_t size_bytes,
                                      clattn_kit_words **words) {
  KIT_REQUIRE(words != NULL, "words: got NULL, want a place for the handle");
  *words = NULL;
  KIT_REQUIRE(text != NULL || size_bytes == 0, "text: got NULL, want %zu bytes",
              size_bytes);
  int error;
  size_t where;
  pcre2_code *code =
      pcre2_compile((PCRE2_SPTR)delimiters, PCRE2_ZERO_TERMINATED,
                    PCRE2_UTF | PCRE2_UCP, &error, &where, NULL);
  pcre2_match_data *match =
      code ? pcre2_match_data_create_from_pattern(code, NULL) : NULL;
  clattn_kit_words *made = calloc(1, sizeof *made);
  clattn_status status;
  if (match == NULL || made == NULL) {
    status = KIT_OUT_OF_MEMORY("words");
  } else {
    pcre2_jit_compile(code, PCRE2_JIT_COMPLETE); /* only speed: may fail */
    status = split(code, match, text ? text : "", size_bytes, made);
  }
  pcre2_match_data_free(match);
  pcre2_code_free(code);
  if (status != CLATTN_OK) {
    clattn_kit_words_destroy(made);
    return status;
  }
  *words = made;
  return CLATTN_OK;
}

void clattn_kit_words_destroy(clattn_kit_words *words) {
  if (words == NULL) return;
  free(words->tokens);
  free(words);
}

size_t clattn_kit_words_count(const clattn_kit_words *words) {
  return words == NULL ? 0 : words->count;
}

const char *clattn_kit_words_at(const clattn_kit_words *words, size_t i,
                                size_t *size_bytes) {
  const bool there = words != NULL && i < words->count;
  if (size_bytes != NULL) *size_bytes = there ? words->tokens[i].bytes : 0;
  return there ? words->tokens[i].text : NULL;
}

/* ---- vocabulary ---------------------------------------------------------- */

struct clattn_kit_vocab {
  char *text;     /* every token, each terminated */
  slice *entries; /* [size]: sorted tokens, then the special ones */
  int32_t size;
  int32_t *table; /* [slots] hash table of numbers; -1 is empty */
  size_t slots;   /* a power of two, at least twice size */
};

/* FNV-1a. */
static size_t hash(slice key) {
  uint64_t h = 0xcbf29ce484222325u;
  for (size_t i = 0; i < key.bytes; i++)
    h = (h ^ (unsigned char)key.text[i]) * 0x100000001b3u;
  return (size_t)(h ^ (h >> 32));
}

static bool same(slice a, slice b) {
  return a.bytes == b.bytes && memcmp(a.text, b.text, a.bytes) == 0;
}

static int by_text(const void *a, const void *b) {
  const slice *x = a, *y = b;
  const size_t n = x->bytes < y->bytes ? x->bytes : y->bytes;
  const int order = memcmp(x->text, y->text, n);
  if (order != 0) return order;
  return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

/* The slot that holds key, or the empty one where it belongs. */
static size_t slot_of(const int32_t *table, size_t slots, const slice *entries,
                      slice key) {
  size_t slot = hash(key) & (slots - 1);
  while (table[slot] >= 0 && !same(entries[table[slot]], key))
    slot = (slot + 1) & (slots - 1);
  return slot;
}

/* A table of `slots` with the first n entries in it; NULL: no memory. */
static int32_t *make_table(size_t slots, const slice *entries, int32_t n) {
  int32_t *table = malloc(slots * sizeof *table);
  if (table == NULL) return NULL;
  memset(table, 0xff, slots * sizeof *table); /* all -1 */
  for (int32_t i = 0; i < n; i++)
    table[slot_of(table, slots, entries, entries[i])] = i;
  return table;
}

/* Adds key to the entries if it is new. */
static clattn_status add(clattn_kit_vocab *vocab, slice key) {
  size_t slot = slot_of(vocab->table, vocab->slots, vocab->entries, key);
  if (vocab->table[slot] >= 0) return CLATTN_OK;
  if (vocab->size == INT32_MAX / 2)
    return clattn_set_error(CLATTN_UNSUPPORTED, "words: more than %d kinds",
                            INT32_MAX / 2);
  if ((size_t)vocab->size * 2 >= vocab->slots) {
    const size_t slots = 2 * vocab->slots;
    slice *entries = realloc(vocab->entries, slots * sizeof *entries);
    if (entries == NULL) return KIT_OUT_OF_MEMORY("vocabulary");
    vocab->entries = entries;
    int32_t *table = make_table(slots, entries, vocab->size);
    if (table == NULL) return KIT_OUT_OF_MEMORY("vocabulary");
    free(vocab->table);
    vocab->table = table;
    vocab->slots = slots;
    slot = slot_of(table, slots, entries, key);
  }
  vocab->table[slot] = vocab->size;
  vocab->entries[vocab->size++] = key;
  return CLATTN_OK;
}

/* Moves the entries' text into memory of the vocabulary's own. */
static clattn_status own_text(clattn_kit_vocab *vocab) {
  size_t bytes = 0;
  for (int32_t i = 0; i < vocab->size; i++)
    bytes += vocab->entries[i].bytes + 1;
  char *at = vocab->text = malloc(bytes);
  if (at == NULL) return KIT_OUT_OF_MEMORY("vocabulary");
  for (int32_t i = 0; i < vocab->size; i++) {
    slice *entry = &vocab->entries[i];
    memcpy(at, entry->text, entry->bytes);
    at[entry->bytes] = '\0';
    entry->text = at;
    at += entry->bytes + 1;
  }
  return CLATTN_OK;
}

static clattn_status fill(clattn_kit_vocab *vocab,
                          const clattn_kit_words *words) {
  const slice special[] = {{end_of_text, sizeof end_of_text - 1},
                           {unknown, sizeof unknown - 1}};
  vocab->slots = 1024;
  vocab->entries = malloc(vocab->slots * sizeof *vocab->entries);
  vocab->table = make_table(vocab->slots, NULL, 0);
  if (vocab->entries == NULL || vocab->table == NULL)
    return KIT_OUT_OF_MEMORY("vocabulary");
  for (size_t i = 0; i < words->count; i++)
    if (!same(words->tokens[i], special[0]) &&
        !same(words->tokens[i], special[1]))
      KIT_TRY(add(vocab, words->tokens[i]));
  const int32_t plain = vocab->size;
  KIT_TRY(add(vocab, special[0]));
  KIT_TRY(add(vocab, special[1]));
  qsort(vocab->entries, (size_t)plain, sizeof *vocab->entries, by_text);
  free(vocab->table); /* its numbers are from before sorting */
  vocab->table = make_table(vocab->slots, vocab->entries, vocab->size);
  if (vocab->table == NULL) return KIT_OUT_OF_MEMORY("vocabulary");
  return own_text(vocab);
}

clattn_status clattn_kit_vocab_create(const clattn_kit_words *words,
                                      clattn_kit_vocab **vocab) {
  KIT_REQUIRE(vocab != NULL, "vocab: got NULL, want a place for the handle");
  *vocab = NULL;
  KIT_REQUIRE(words != NULL, "words: got NULL, want tokens");
  clattn_kit_vocab *made = calloc(1, sizeof *made);
  if (made == NULL) return KIT_OUT_OF_MEMORY("vocabulary");
  const clattn_status status = fill(made, words);
  if (status != CLATTN_OK) {
    clattn_kit_vocab_destroy(made);
    return status;
  }
  *vocab = made;
  return CLATTN_OK;
}

void clattn_kit_vocab_destroy(clattn_kit_vocab *vocab) {
  if (vocab == NULL) return;
  free(vocab->text);
  free(vocab->entries);
  free(vocab->table);
  free(vocab);
}

int32_t clattn_kit_vocab_size(const clattn_kit_vocab *vocab) {
  return vocab == NULL ? 0 : vocab->size;
}

const char *clattn_kit_vocab_token(const clattn_kit_vocab *vocab, int32_t id,
                                   size_t *size_bytes) {
  const bool there = vocab != NULL && id >= 0 && id < vocab->size;
  if (size_bytes != NULL) *size_bytes = there ? vocab->entries[id].bytes : 0;
  return there ? vocab->entries[id].text : NULL;
}

int32_t clattn_kit_vocab_id(const clattn_kit_vocab *vocab, const char *token,
                            size_t size_bytes) {
  if (vocab == NULL) return -1;
  if (token != NULL) {
    const size_t slot = slot_of(vocab->table, vocab->slots, vocab->entries,
                                (slice){token, size_bytes});
    if (vocab->table[slot] >= 0) return vocab->table[slot];
  }
  return vocab->size - 1; /* <|unk|> */
}

clattn_status clattn_kit_vocab_encode(const clattn_kit_vocab *vocab,
                                      const clattn_kit_words *words,
                                      int32_t *ids) {
  KIT_REQUIRE(vocab != NULL, "vocab: got NULL, want a vocabulary");
  KIT_REQUIRE(words != NULL, "words: got NULL, want tokens");
  KIT_REQUIRE(ids != NULL || words->count == 0,
              "ids: got NULL, want room for %zu numbers", words->count);
  for (size_t i = 0; i < words->count; i++)
    ids[i] = clattn_kit_vocab_id(vocab, words->tokens[i].text,
                                 words->tokens[i].bytes);
  return CLATTN_OK;
}

/* Where decoding writes: what does not fit is only counted. */
typedef struct sink {
  char *text;
  size_t capacity, bytes;
} sink;

static void put(sink *out, const char *text, size_t bytes) {
  if (out->bytes < out->capacity) {
    const size_t room = out->capacity - out->bytes;
    memcpy(out->text + out->bytes, text, bytes < room ? bytes : room);
  }
  out->bytes += bytes;
}

bool kit_closes(const char *token, size_t size_bytes) {
  /* memchr, not strchr: a NUL is a character like others. */
  static const char closing[] = {',', '.', ':', ';', '?',
                                 '!', '"', '(', ')', '\''};
  return size_bytes == 1 && memchr(closing, token[0], sizeof closing) != NULL;
}

clattn_status clattn_kit_vocab_decode(const clattn_kit_vocab *vocab,
                                      const int32_t *ids, size_t n, char *text,
                                      size_t capacity, size_t *size_bytes) {
  KIT_REQUIRE(vocab != NULL, "vocab: got NULL, want a vocabulary");
  KIT_REQUIRE(ids != NULL || n == 0, "ids: got NULL, want %zu numbers", n);
  KIT_REQUIRE(text != NULL || capacity == 0, "text: got NULL, want %zu bytes",
              capacity);
  KIT_REQUIRE(size_bytes != NULL, "size_bytes: got NULL, want a place");
  for (size_t i = 0; i < n; i++)
    KIT_REQUIRE(ids[i] >= 0 && ids[i] < vocab->size,
                "ids[%zu]: got %ld, want 0..%ld", i, (long)ids[i],
                (long)vocab->size - 1);
  sink out = {text, capacity ? capacity - 1 : 0, 0};
  for (size_t i = 0; i < n; i++) {
    const slice token = vocab->entries[ids[i]];
    const bool closes = kit_closes(token.text, token.bytes);
    if (i > 0 && !closes) put(&out, " ", 1);
    put(&out, token.text, token.bytes);
  }
  if (capacity > 0)
    text[out.bytes < capacity ? out.bytes : capacity - 1] = '\0';
  *size_bytes = out.bytes;
  return CLATTN_OK;
}
