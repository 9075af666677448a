/* added.c - tokens that are cut out of a text before it is split. */
#include <stdlib.h>
#include <string.h>

#include "tokenizer.h"
#include "utf8.h"

/* ---- neighbours ---------------------------------------------------------- */

/* Texts may be no UTF-8 here: then a byte is a character of no kind. */
static int32_t char_at(const char *text, size_t bytes, size_t *n) {
  const size_t most = bytes < 4 ? bytes : 4;
  for (size_t i = 1; i <= most; i++)
    if (kit_utf8_valid(text, i) == i) return kit_utf8_next(text, n);
  *n = 1;
  return -1;
}

static int32_t char_before(const char *text, size_t at, size_t *n) {
  for (*n = 1; *n <= 4 && *n <= at; ++*n)
    if (kit_utf8_valid(text + at - *n, *n) == *n) {
      size_t bytes;
      const int32_t point = kit_utf8_next(text + at - *n, &bytes);
      if (bytes == *n) return point;
      break;
    }
  *n = 1;
  return -1;
}

static size_t white_before(const char *text, size_t from, size_t at) {
  size_t n;
  const size_t end = at;
  while (at > from && kit_is_white(char_before(text + from, at - from, &n)))
    at -= n;
  return end - at;
}

static size_t white_behind(const char *text, size_t bytes, size_t at) {
  size_t n;
  const size_t begin = at;
  while (at < bytes && kit_is_white(char_at(text + at, bytes - at, &n)))
    at += n;
  return at - begin;
}

/* ---- finding ------------------------------------------------------------- */

/* What stands at `at`. UNDECIDED: that depends on what follows. */
typedef enum verdict { NOTHING, FOUND, UNDECIDED } verdict;

static verdict token_at(const encoder *e, const char *text, size_t bytes,
                        size_t from, size_t at, bool open, added_match *found) {
  const clattn_tokenizer *t = e->tokenizer;
  for (size_t i = 0; i < t->n_added; i++) {
    const added_token *token = &t->added[i];
    if (token->special && !e->allow_special) continue;
    const kit_bytes want = token_map_at(&t->map, token->id);
    const size_t there = bytes - at < want.bytes ? bytes - at : want.bytes;
    if (memcmp(text + at, want.text, there) != 0) continue;
    if (there < want.bytes) {
      if (open) return UNDECIDED;
      continue;
    }
    size_t begin = at, end = at + want.bytes, n;
    if (token->single_word) {
      if (open && end == bytes) return UNDECIDED;
      if ((begin > 0 && split_is_word(char_before(text, begin, &n))) ||
          (end < bytes &&
           split_is_word(char_at(text + end, bytes - end, &n)))) {
        /* What is within it is not looked at again. */
        *found = (added_match){.id = -1, .begin = begin, .end = end};
        return FOUND;
      }
    }
    if (token->lstrip) begin -= white_before(text, from, begin);
    if (token->rstrip) {
      end += white_behind(text, bytes, end);
      if (open && end == bytes) return UNDECIDED;
    }
    *found = (added_match){.id = token->id, .begin = begin, .end = end};
    return FOUND;
  }
  return NOTHING;
}

bool added_find(const encoder *e, const char *text, size_t bytes, size_t at,
                bool open, added_match *found) {
  const clattn_tokenizer *t = e->tokenizer;
  bool any = false, lstrip = false;
  for (size_t i = 0; i < t->n_added; i++) {
    if (t->added[i].special && !e->allow_special) continue;
    any = true;
    lstrip = lstrip || t->added[i].lstrip;
  }
  size_t known = bytes;
  const size_t from = at;
  while (any && at < bytes) {
    if (!t->added_first[(unsigned char)text[at]]) {
      at++;
      continue;
    }
    const verdict what = token_at(e, text, bytes, from, at, open, found);
    if (what == FOUND && found->id >= 0) return true;
    if (what == UNDECIDED) {
      known = at;
      break;
    }
    at = what == FOUND ? found->end : at + 1;
  }
  if (open && lstrip) known -= white_before(text, from, known);
  found->known = known;
  return false;
}
