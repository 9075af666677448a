/* encoder.c - a text, or as much as is there of it, to tokens. */
#include "tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "utf8.h"

/* ---- tokens found -------------------------------------------------------- */

clattn_status token_list_room(token_list *list, int64_t more) {
  if (list->room - list->n >= more) return CLATTN_OK;
  int64_t room = list->room + list->room / 2 + 256;
  if (room - list->n < more) room = list->n + more;
  if ((uint64_t)room > SIZE_MAX / sizeof *list->begins)
    return KIT_OUT_OF_MEMORY("tokens");
  int32_t *ids = realloc(list->ids, (size_t)room * sizeof *ids);
  if (ids == NULL) return KIT_OUT_OF_MEMORY("tokens");
  list->ids = ids;
  if (list->places) {
    int64_t *begins = realloc(list->begins, (size_t)room * sizeof *begins);
    if (begins == NULL) return KIT_OUT_OF_MEMORY("tokens");
    list->begins = begins;
    int64_t *ends = realloc(list->ends, (size_t)room * sizeof *ends);
    if (ends == NULL) return KIT_OUT_OF_MEMORY("tokens");
    list->ends = ends;
  }
  list->room = room;
  return CLATTN_OK;
}

void token_list_free(token_list *list) {
  free(list->ids);
  free(list->begins);
  free(list->ends);
  *list = (token_list){0};
}

/* ---- working memory ------------------------------------------------------ */

clattn_status encoder_init(encoder *e, const clattn_tokenizer *t,
                           const clattn_encode_options *options, bool places) {
  *e = (encoder){.tokenizer = t,
                 .allow_special = options->allow_special,
                 .raw_bytes = options->invalid == CLATTN_INVALID_BYTES &&
                              t->model == MODEL_BPE,
                 .out = {.places = places}};
  e->match = pcre2_match_data_create(1, NULL);
  return e->match != NULL ? CLATTN_OK : KIT_OUT_OF_MEMORY("tokens");
}

void encoder_free(encoder *e) {
  token_list_free(&e->out);
  pcre2_match_data_free(e->match);
  free(e->work);
}

clattn_status encoder_work(encoder *e, size_t bytes) {
  if (bytes <= e->work_bytes) return CLATTN_OK;
  void *work = malloc(bytes);
  if (work == NULL) return KIT_OUT_OF_MEMORY("tokens");
  free(e->work);
  e->work = work;
  e->work_bytes = bytes;
  return CLATTN_OK;
}

/* ---- pieces -------------------------------------------------------------- */

clattn_status encoder_piece(encoder *e, const text_view *view, size_t begin,
                            size_t end) {
  const clattn_tokenizer *t = e->tokenizer;
  if (e->on_piece != NULL)
    return e->on_piece(e->user, view->text + begin, end - begin);
  if (t->model == MODEL_BPE) return bpe_encode(e, view, begin, end);
  const char *piece = view->text + begin;
  int32_t id = token_index_find(&t->index, &t->map, piece, end - begin);
  if (id < 0) id = t->unknown;
  KIT_REQUIRE(
      id >= 0, "text: the word '%.*s' at byte %lld is not in the vocabulary",
      kit_shown(end - begin), piece, (long long)view_place(view, begin));
  return token_put(&e->out, id, view_place(view, begin), view_place(view, end));
}

static clattn_status encode_chars(encoder *e, const char *text, size_t bytes,
                                  int64_t base) {
  const clattn_tokenizer *t = e->tokenizer;
  for (size_t at = 0, n; at < bytes; at += n) {
    const int32_t point = kit_utf8_next(text + at, &n);
    if (e->on_piece != NULL) {
      KIT_TRY(e->on_piece(e->user, text + at, n));
      continue;
    }
    int32_t id = token_index_find(&t->index, &t->map, text + at, n);
    if (id < 0) id = t->unknown;
    KIT_REQUIRE(id >= 0,
                "text: the character '%.*s' (U+%04lX) at byte %lld is not in "
                "the vocabulary",
                (int)n, text + at, (unsigned long)point,
                (long long)(base + (int64_t)at));
    KIT_TRY(
        token_put(&e->out, id, base + (int64_t)at, base + (int64_t)(at + n)));
  }
  return CLATTN_OK;
}

/* ---- between added tokens ------------------------------------------------ */

/* goes_on: bytes that are no UTF-8 stand before the text. */
static clattn_status encode_valid(encoder *e, const char *text, size_t bytes,
                                  int64_t base, bool goes_on, bool open,
                                  size_t *done) {
  const clattn_tokenizer *t = e->tokenizer;
  *done = bytes;
  switch (t->model) {
    case MODEL_CHARS:
      return encode_chars(e, text, bytes, base);
    case MODEL_WORDPIECE:
      if (open) *done = wordpiece_cut(t, text, bytes);
      return wordpiece_encode(e, text, *done, base);
    default: {
      const text_view view = {text, bytes, base, base, goes_on};
      return split_text(e, 0, &view, 0, bytes, open, done);
    }
  }
}

/* Bytes that are no UTF-8 are pieces of their own: runs of them. */
static clattn_status encode_raw(encoder *e, const char *text, size_t bytes,
                                int64_t base, bool open, size_t *done) {
  size_t at = 0;
  for (;;) {
    const size_t valid = kit_utf8_valid(text + at, bytes - at);
    const bool last = at + valid == bytes;
    size_t within;
    KIT_TRY(encode_valid(e, text + at, valid, base + (int64_t)at, at > 0,
                         last && open, &within));
    *done = at + within;
    if (last) return CLATTN_OK;
    size_t end = at += valid;
    while (end < bytes && kit_utf8_valid(text + end, bytes - end) == 0) {
      bool cut;
      const size_t bad = kit_utf8_bad(text + end, bytes - end, &cut);
      if (open && cut) {
        *done = at; /* may yet be a character */
        return CLATTN_OK;
      }
      end += bad;
    }
    if (open && end == bytes) {
      *done = at; /* may go on */
      return CLATTN_OK;
    }
    const text_view view = {text, bytes, base, base, false};
    KIT_TRY(encoder_piece(e, &view, at, end));
    *done = at = end;
    if (at == bytes) return CLATTN_OK;
  }
}

static clattn_status encode_between(encoder *e, const char *text, size_t bytes,
                                    int64_t base, bool open, size_t *done) {
  *done = bytes;
  if (bytes == 0) return CLATTN_OK;
  return e->raw_bytes ? encode_raw(e, text, bytes, base, open, done)
                      : encode_valid(e, text, bytes, base, false, open, done);
}

clattn_status encoder_text(encoder *e, const char *text, size_t bytes,
                           int64_t base, bool open, size_t *done) {
  size_t at = 0;
  *done = 0;
  if (open && !e->tokenizer->streams) return CLATTN_OK;
  for (;;) {
    added_match found;
    const bool there = added_find(e, text, bytes, at, open, &found);
    const size_t end = there ? found.begin : found.known;
    size_t within;
    KIT_TRY(encode_between(e, text + at, end - at, base + (int64_t)at,
                           !there && open, &within));
    *done = at + within;
    if (!there) return CLATTN_OK;
    KIT_TRY(token_put(&e->out, found.id, base + (int64_t)found.begin,
                      base + (int64_t)found.end));
    *done = at = found.end;
  }
}
