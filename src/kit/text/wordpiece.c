/* wordpiece.c - BERT's normaliser and splitter, and WordPiece on what is left
 * (Devlin et al. 2019): the longest token that a word begins with, then the
 * longest that goes on with it, until its end; else the word is unknown. */
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "tokenizer.h"
#include "utf8.h"

/* A character after normalisation, and the bytes of the text it comes from. */
typedef struct letter {
  int32_t point;
  uint8_t combining; /* its canonical combining class */
  int64_t begin, end;
} letter;

typedef struct word_run {
  encoder *e;
  letter *letters; /* [n] of a text without white space */
  size_t n, room;
  char *bytes; /* [bytes_room] of a word, behind room for the prefix */
  size_t *at;  /* [letters + 1] where each letter of it begins */
  size_t bytes_room, at_room;
} word_run;

/* ---- characters ---------------------------------------------------------- */

static bool is_control(int32_t c) {
  switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CO:
      return true;
    default:
      return false;
  }
}

static bool is_punctuation(int32_t c) {
  if (c < 0x80)
    return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) ||
           (c >= 91 && c <= 96) || (c >= 123 && c <= 126);
  switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO:
      return true;
    default:
      return false;
  }
}

/* BERT's blocks of ideographs, which stand as words. */
static bool is_ideograph(int32_t c) {
  static const int32_t blocks[][2] = {{0x4e00, 0x9fff},   {0x3400, 0x4dbf},
                                      {0x20000, 0x2a6df}, {0x2a700, 0x2b73f},
                                      {0x2b740, 0x2b81f}, {0x2b920, 0x2ceaf},
                                      {0xf900, 0xfaff},   {0x2f800, 0x2fa1f}};
  if (c < 0x3400) return false;
  for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
    if (c >= blocks[i][0] && c <= blocks[i][1]) return true;
  return false;
}

/* ---- words to tokens ----------------------------------------------------- */

static clattn_status more_bytes(word_run *run, size_t letters, size_t bytes) {
  if (letters + 1 > run->at_room) {
    size_t *at = realloc(run->at, 2 * (letters + 1) * sizeof *at);
    if (at == NULL) return KIT_OUT_OF_MEMORY("text");
    run->at = at;
    run->at_room = 2 * (letters + 1);
  }
  if (bytes > run->bytes_room) {
    char *larger = realloc(run->bytes, 2 * bytes);
    if (larger == NULL) return KIT_OUT_OF_MEMORY("text");
    run->bytes = larger;
    run->bytes_room = 2 * bytes;
  }
  return CLATTN_OK;
}

/* The longest token that begins at letter `from` of n; its last letter + 1 in
 * *to. -1: none. The prefix goes over bytes that are done with. */
static int32_t longest_token(const clattn_tokenizer *t, const word_run *run,
                             size_t from, size_t n, size_t *to) {
  const wordpiece_model *model = &t->wordpiece;
  char *begin = run->bytes + run->at[from];
  size_t more = 0;
  if (from > 0) {
    more = model->prefix_bytes;
    begin -= more;
    memcpy(begin, model->prefix, more);
  }
  /* A letter is a byte at least: ends that are too far are not looked at. */
  *to = n - from > model->longest ? from + model->longest : n;
  for (; *to > from; --*to) {
    const size_t bytes = run->at[*to] - run->at[from] + more;
    if (bytes > model->longest) continue;
    const int32_t id = token_index_find(&t->index, &t->map, begin, bytes);
    if (id >= 0) return id;
  }
  return -1;
}

/* letters [n], n >= 1: one word. */
static clattn_status encode_word(word_run *run, const letter *letters,
                                 size_t n) {
  const clattn_tokenizer *t = run->e->tokenizer;
  token_list *out = &run->e->out;
  const int64_t first = out->n;
  size_t from = 0;
  if ((int64_t)n <= t->wordpiece.max_chars) {
    const size_t before = t->wordpiece.prefix_bytes;
    KIT_TRY(more_bytes(run, n, before + 4 * n));
    size_t at = before;
    for (size_t i = 0; i < n; i++) {
      run->at[i] = at;
      at += kit_utf8_put(letters[i].point, run->bytes + at);
    }
    run->at[n] = at;
    while (from < n) {
      size_t to;
      const int32_t id = longest_token(t, run, from, n, &to);
      if (id < 0) break;
      KIT_TRY(token_put(out, id, letters[from].begin, letters[to - 1].end));
      from = to;
    }
  }
  if (from == n) return CLATTN_OK;
  out->n = first;
  return token_put(out, t->unknown, letters[0].begin, letters[n - 1].end);
}

/* ---- text to words ------------------------------------------------------- */

static clattn_status put_letter(word_run *run, letter next) {
  if (run->n == run->room) {
    const size_t room = run->room ? 2 * run->room : 256;
    letter *letters = realloc(run->letters, room * sizeof *letters);
    if (letters == NULL) return KIT_OUT_OF_MEMORY("text");
    run->letters = letters;
    run->room = room;
  }
  run->letters[run->n++] = next;
  return CLATTN_OK;
}

/* A character's canonical decomposition. */
static clattn_status put_decomposed(word_run *run, letter next) {
  if (next.point < 0xc0) return put_letter(run, next);
  utf8proc_int32_t parts[32];
  int last = 0;
  const utf8proc_ssize_t n =
      utf8proc_decompose_char(next.point, parts, sizeof parts / sizeof *parts,
                              UTF8PROC_DECOMPOSE, &last);
  if (n <= 0 || n > (utf8proc_ssize_t)(sizeof parts / sizeof *parts))
    return put_letter(run, next);
  for (utf8proc_ssize_t i = 0; i < n; i++) {
    next.point = parts[i];
    next.combining = (uint8_t)utf8proc_get_property(parts[i])->combining_class;
    KIT_TRY(put_letter(run, next));
  }
  return CLATTN_OK;
}

/* Canonical order: marks behind a letter by their class, those of one class as
 * they come. Counting keeps that order, and time linear in hostile texts. */
static clattn_status order_marks(letter *letters, size_t n) {
  size_t places[257] = {0};
  for (size_t i = 0; i < n; i++) places[letters[i].combining + 1]++;
  for (int c = 0; c < 256; c++) places[c + 1] += places[c];
  letter *ordered = malloc(n * sizeof *ordered);
  if (ordered == NULL) return KIT_OUT_OF_MEMORY("text");
  for (size_t i = 0; i < n; i++)
    ordered[places[letters[i].combining]++] = letters[i];
  memcpy(letters, ordered, n * sizeof *letters);
  free(ordered);
  return CLATTN_OK;
}

static clattn_status order_all_marks(letter *letters, size_t n) {
  for (size_t i = 0, end; i < n; i = end + 1) {
    for (end = i; end < n && letters[end].combining > 0;) end++;
    if (end - i > 1) KIT_TRY(order_marks(letters + i, end - i));
  }
  return CLATTN_OK;
}

static int32_t lower(int32_t c) {
  if (c < 0x80) return c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c;
  return utf8proc_tolower(c);
}

/* What the normaliser still does to the letters of a run; some go. */
static clattn_status normalise(word_run *run) {
  const wordpiece_model *model = &run->e->tokenizer->wordpiece;
  if (model->strip_accents) {
    KIT_TRY(order_all_marks(run->letters, run->n));
    size_t n = 0;
    for (size_t i = 0; i < run->n; i++)
      if (run->letters[i].point < 0x300 ||
          utf8proc_category(run->letters[i].point) != UTF8PROC_CATEGORY_MN)
        run->letters[n++] = run->letters[i];
    run->n = n;
  }
  if (model->lowercase)
    for (size_t i = 0; i < run->n; i++)
      run->letters[i].point = lower(run->letters[i].point);
  return CLATTN_OK;
}

/* The words of a run: punctuation stands alone. */
static clattn_status encode_run(word_run *run) {
  if (run->n == 0) return CLATTN_OK;
  KIT_TRY(normalise(run));
  size_t from = 0;
  for (size_t i = 0; i <= run->n; i++) {
    const bool end = i == run->n;
    const bool white = !end && kit_is_white(run->letters[i].point);
    const bool mark = !end && !white && is_punctuation(run->letters[i].point);
    if (!end && !white && !mark) continue;
    if (i > from) KIT_TRY(encode_word(run, run->letters + from, i - from));
    if (mark) KIT_TRY(encode_word(run, run->letters + i, 1));
    from = i + 1;
  }
  run->n = 0;
  return CLATTN_OK;
}

static clattn_status encode_words(word_run *run, const char *text, size_t bytes,
                                  int64_t base) {
  const wordpiece_model *model = &run->e->tokenizer->wordpiece;
  for (size_t at = 0, n; at < bytes; at += n) {
    const int32_t c = kit_utf8_next(text + at, &n);
    const bool blank = c == ' ' || c == '\t' || c == '\n' || c == '\r';
    if (model->clean_text && !blank &&
        (c == 0 || c == 0xfffd ||
         (c < 0x80 ? c < ' ' || c == 0x7f : is_control(c))))
      continue;
    if (blank || kit_is_white(c)) {
      KIT_TRY(encode_run(run));
      continue;
    }
    letter next = {c, 0, base + (int64_t)at, base + (int64_t)(at + n)};
    /* The one character whose lower case is two, when its dot stays. */
    const bool dotted = c == 0x130 && model->lowercase && !model->strip_accents;
    if (dotted) {
      next.point = 'i';
      KIT_TRY(put_letter(run, next));
      next.point = 0x307;
    }
    const bool alone = model->chinese && is_ideograph(c);
    if (alone) KIT_TRY(encode_run(run));
    KIT_TRY(model->strip_accents ? put_decomposed(run, next)
                                 : put_letter(run, next));
    if (alone) KIT_TRY(encode_run(run));
  }
  return encode_run(run);
}

clattn_status wordpiece_encode(encoder *e, const char *text, size_t bytes,
                               int64_t base) {
  word_run run = {.e = e};
  const clattn_status status = encode_words(&run, text, bytes, base);
  free(run.letters);
  free(run.bytes);
  free(run.at);
  return status;
}

size_t wordpiece_cut(const clattn_tokenizer *t, const char *text,
                     size_t bytes) {
  for (size_t at = bytes; at > 0;) {
    size_t begin = at - 1, n;
    while (((unsigned char)text[begin] & 0xc0) == 0x80) begin--;
    const int32_t c = kit_utf8_next(text + begin, &n);
    if (c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == 0x3000 ||
        (t->wordpiece.chinese && is_ideograph(c)))
      return at;
    at = begin;
  }
  return 0;
}
