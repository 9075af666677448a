/* split.c - a text into pieces, by one regular expression after the other: what
 * one step leaves whole the next may split. */
#include "tokenizer.h"
#include "utf8.h"

#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

/* ---- patterns ------------------------------------------------------------ */

/* What a class means to those who wrote the vocabularies (Unicode's White_Space
 * and word characters, UTS 18) where PCRE2 has something else: its \s takes
 * U+180E too, its \w leaves marks out. */
static const char white[] =
    "\\x{09}-\\x{0d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}"
    "\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}";
static const char word[] =
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{24b6}-\\x{24e9}"
    "\\x{1f130}-\\x{1f149}\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}";

/* The class that a backslash and this letter stand for; NULL: PCRE2's own. */
static const char *class_of(char letter) {
  return letter == 's' || letter == 'S'   ? white
         : letter == 'w' || letter == 'W' ? word
                                          : NULL;
}

/* The pattern as PCRE2 is to read it; NULL: no memory. */
static char *translate(const char *pattern) {
  /* Each two bytes become at most a class and five more. */
  char *made = malloc(strlen(pattern) * (sizeof word + 8) + 1), *to = made;
  if (made == NULL) return NULL;
  bool inside = false; /* a class in brackets */
  for (const char *at = pattern; *at != '\0'; at++) {
    const char *class = *at == '\\' ? class_of(at[1]) : NULL;
    const bool negated = class != NULL && at[1] <= 'Z';
    if (class != NULL && !(inside && negated)) {
      to += sprintf(to, inside ? "%s" : negated ? "[^%s]" : "[%s]", class);
      at++;
    } else if (*at == '\\' && at[1] != '\0') {
      *to++ = *at++;
      *to++ = *at;
    } else {
      if (*at == '[' && !inside) {
        inside = true;
        /* A bracket that comes first is one of the class. */
        *to++ = *at;
        if (at[1] == '^') *to++ = *++at;
        if (at[1] == ']') *to++ = *++at;
        continue;
      }
      if (*at == ']') inside = false;
      *to++ = *at;
    }
  }
  *to = '\0';
  return made;
}

static clattn_status compile(const char *what, split_step *step) {
  char *pattern = translate(step->pattern);
  if (pattern == NULL) return KIT_OUT_OF_MEMORY("pattern");
  int error;
  size_t where;
  step->code = pcre2_compile(
      (PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
      PCRE2_UTF | PCRE2_UCP | PCRE2_DOLLAR_ENDONLY | PCRE2_NEVER_BACKSLASH_C,
      &error, &where, NULL);
  free(pattern);
  if (step->code == NULL) {
    PCRE2_UCHAR text[256];
    pcre2_get_error_message(error, text, sizeof text);
    return clattn_set_error(error == PCRE2_ERROR_HEAP_FAILED
                                ? CLATTN_OUT_OF_MEMORY
                                : CLATTN_INVALID_ARGUMENT,
                            "%s: '%.200s' is no regular expression: %s", what,
                            step->pattern, (const char *)text);
  }
  /* Only speed: may fail, where there is no compiler for the machine. */
  step->jit = pcre2_jit_compile(
                  step->code, PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD) == 0;
  return CLATTN_OK;
}

clattn_status split_add(clattn_tokenizer *t, const char *what,
                        const char *pattern, split_keep keep,
                        bool prefix_space) {
  split_step *steps =
      realloc(t->steps, (size_t)(t->n_steps + 1) * sizeof *steps);
  if (steps == NULL) return KIT_OUT_OF_MEMORY("pattern");
  t->steps = steps;
  split_step *step = &steps[t->n_steps++];
  *step = (split_step){.keep = keep, .prefix_space = prefix_space};
  if (pattern == NULL) return CLATTN_OK;
  step->pattern = malloc(strlen(pattern) + 1);
  if (step->pattern == NULL) return KIT_OUT_OF_MEMORY("pattern");
  memcpy(step->pattern, pattern, strlen(pattern) + 1);
  return compile(what, step);
}

void split_free(split_step *steps, int n) {
  for (int i = 0; i < n; i++) {
    free(steps[i].pattern);
    pcre2_code_free(steps[i].code);
  }
  free(steps);
}

bool split_streams(const clattn_tokenizer *t) {
  for (int i = 0; i < t->n_steps; i++) {
    uint32_t behind = 0;
    if (t->steps[i].prefix_space) return false;
    if (t->steps[i].code == NULL) continue;
    pcre2_pattern_info(t->steps[i].code, PCRE2_INFO_MAXLOOKBEHIND, &behind);
    /* The start of the text is looked at, but not counted, by ^. */
    for (const char *at = t->steps[i].pattern; *at != '\0'; at++)
      if (*at == '^' && (at == t->steps[i].pattern || at[-1] != '['))
        behind = 1;
    if (behind > 0) return false;
  }
  return true;
}

bool split_is_word(int32_t point) {
  if (point < 0) return false;
  switch (utf8proc_category(point)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:
      return point == 0x200c || point == 0x200d;
  }
}

/* ---- splitting ----------------------------------------------------------- */

static clattn_status match_failed(const split_step *step, int code) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(code, text, sizeof text);
  return clattn_set_error(code == PCRE2_ERROR_NOMEMORY
                              ? CLATTN_OUT_OF_MEMORY
                              : CLATTN_INVALID_ARGUMENT,
                          "text: the pattern '%.200s' fails on it: %s",
                          step->pattern, (const char *)text);
}

/* The next match in text [bytes] from `at` on: 1, with its place; 0: none; -1:
 * the text ends within what may be one that begins at *begin; less: failed. */
static int next_match(const encoder *e, const split_step *step,
                      const char *text, size_t bytes, size_t at, bool open,
                      size_t *begin, size_t *end) {
  const uint32_t options = PCRE2_NO_UTF_CHECK | (open ? PCRE2_PARTIAL_HARD : 0);
  int found = PCRE2_ERROR_JIT_BADOPTION;
  if (step->jit) /* it takes no PCRE2_NO_UTF_CHECK: it never checks */
    found = pcre2_jit_match(step->code, (PCRE2_SPTR)text, bytes, at,
                            options & PCRE2_PARTIAL_HARD, e->match, NULL);
  if (found == PCRE2_ERROR_JIT_BADOPTION || found == PCRE2_ERROR_JIT_STACKLIMIT)
    found = pcre2_match(step->code, (PCRE2_SPTR)text, bytes, at,
                        options | PCRE2_NO_JIT, e->match, NULL);
  if (found == PCRE2_ERROR_NOMATCH) return 0;
  if (found < 0 && found != PCRE2_ERROR_PARTIAL) return found - 1;
  const size_t *range = pcre2_get_ovector_pointer(e->match);
  *begin = range[0];
  *end = range[1];
  return found == PCRE2_ERROR_PARTIAL ? -1 : 1;
}

/* The next step on a copy that begins with a space. */
static clattn_status split_spaced(encoder *e, int step, const text_view *view,
                                  size_t begin, size_t end, bool open,
                                  size_t *done) {
  const size_t bytes = end - begin;
  char *copy = malloc(bytes + 1);
  if (copy == NULL) return KIT_OUT_OF_MEMORY("text");
  copy[0] = ' ';
  memcpy(copy + 1, view->text + begin, bytes);
  const text_view spaced = {copy, bytes + 1, view->base + (int64_t)begin - 1,
                            view_place(view, begin), false};
  size_t within = 0;
  const clattn_status status =
      split_text(e, step, &spaced, 0, bytes + 1, open, &within);
  *done = begin + (within > 0 ? within - 1 : 0);
  free(copy);
  return status;
}

/* Step `step` without its space. */
static clattn_status split_matches(encoder *e, int step, const text_view *view,
                                   size_t begin, size_t end, bool open,
                                   size_t *done);

clattn_status split_text(encoder *e, int step, const text_view *view,
                         size_t begin, size_t end, bool open, size_t *done) {
  *done = begin;
  if (begin == end) return CLATTN_OK;
  const clattn_tokenizer *t = e->tokenizer;
  if (step == t->n_steps) {
    if (open) return CLATTN_OK; /* may go on */
    *done = end;
    return encoder_piece(e, view, begin, end);
  }
  const bool spaced = begin == 0 && (view->base < view->first || view->goes_on);
  if (t->steps[step].prefix_space && view->text[begin] != ' ' && !spaced)
    return split_spaced(e, step, view, begin, end, open, done);
  return split_matches(e, step, view, begin, end, open, done);
}

static clattn_status split_matches(encoder *e, int step, const text_view *view,
                                   size_t begin, size_t end, bool open,
                                   size_t *done) {
  const split_step *by = &e->tokenizer->steps[step];
  if (by->code == NULL)
    return split_text(e, step + 1, view, begin, end, open, done);
  /* A step sees its own part alone. */
  const char *text = view->text + begin;
  const size_t bytes = end - begin;
  size_t at = 0, between = 0, found, found_end, ignored;
  for (;;) {
    int matched = at >= bytes ? 0
                              : next_match(e, by, text, bytes, at, open, &found,
                                           &found_end);
    if (matched < -1) return match_failed(by, matched + 1);
    if (matched == 1 && found == found_end) { /* nothing: one character on */
      size_t one = 1;
      if (found < bytes) kit_utf8_next(text + found, &one);
      at = found + one;
      continue;
    }
    const size_t rest = matched == 0 ? bytes : found;
    const bool last = matched != 1;
    if (by->keep == SPLIT_MATCHES)
      *done = begin + rest;
    else
      KIT_TRY(split_text(e, step + 1, view, begin + between, begin + rest,
                         last && open, done));
    if (last) return CLATTN_OK;
    if (by->keep != SPLIT_REMOVED)
      KIT_TRY(split_text(e, step + 1, view, begin + found, begin + found_end,
                         false, &ignored));
    at = between = found_end;
    *done = begin + found_end;
  }
}
