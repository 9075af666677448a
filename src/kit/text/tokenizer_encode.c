/* tokenizer_encode.c - a text, or a pair of them, as the model wants it. */
#include <stdlib.h>
#include <string.h>

#include "tokenizer.h"
#include "wellformed.h"

void clattn_encode_options_init(clattn_encode_options *options) {
  if (options == NULL) return;
  *options = (clattn_encode_options){.struct_size = sizeof *options,
                                     .add_special = true};
}

void clattn_encoding_free(clattn_encoding *encoding) {
  if (encoding == NULL) return;
  free(encoding->ids);
  free(encoding->begins);
  free(encoding->ends);
  free(encoding->segments);
  free(encoding->added);
  *encoding = (clattn_encoding){0};
}

/* ---- one text ------------------------------------------------------------ */

/* name is the argument's, for messages. */
static clattn_status encode_text(const clattn_tokenizer *t, const char *name,
                                 const char *text, size_t bytes,
                                 const clattn_encode_options *options,
                                 token_list *out) {
  encoder e;
  wellformed whole = {0};
  size_t done;
  clattn_status status = encoder_init(&e, t, options, true);
  if (status == CLATTN_OK)
    status = wellformed_make(&whole, name, text, bytes, options->invalid,
                             e.raw_bytes);
  /* About what a token takes: larger texts grow from there. */
  if (status == CLATTN_OK)
    status = token_list_room(&e.out, (int64_t)(bytes / 4) + 8);
  if (status == CLATTN_OK)
    status = encoder_text(&e, whole.text, whole.bytes, 0, false, &done);
  if (status == CLATTN_OK) {
    for (int64_t i = 0; i < e.out.n; i++)
      wellformed_place(&whole, &e.out.begins[i], &e.out.ends[i]);
    *out = e.out;
    e.out = (token_list){0};
  }
  wellformed_free(&whole);
  encoder_free(&e);
  return status;
}

/* ---- what stands around -------------------------------------------------- */

static int64_t count_added(const token_template *around) {
  int64_t n = 0;
  for (int i = 0; around != NULL && i < around->n; i++)
    n += around->items[i].what == TEMPLATE_TOKEN;
  return n;
}

/* Cuts two texts to `room` tokens: the longer one first, then both in turn. */
static void cut_longest(token_list *a, token_list *b, int64_t room) {
  token_list *less = a->n <= b->n ? a : b, *more = less == a ? b : a;
  if (less->n > room / 2) less->n = room / 2;
  if (more->n > room - less->n) more->n = room - less->n;
}

static void put(clattn_encoding *to, const token_list *from, uint8_t segment) {
  if (from->n > 0) {
    memcpy(to->ids + to->n, from->ids, (size_t)from->n * sizeof *to->ids);
    memcpy(to->begins + to->n, from->begins,
           (size_t)from->n * sizeof *to->begins);
    memcpy(to->ends + to->n, from->ends, (size_t)from->n * sizeof *to->ends);
    memset(to->segments + to->n, segment, (size_t)from->n);
  }
  to->n += from->n;
}

static clattn_status assemble(const token_template *around,
                              const token_list *text, const token_list *pair,
                              clattn_encoding *to) {
  static const template_item text_alone = {TEMPLATE_TEXT, -1, 0};
  const template_item *items = around ? around->items : &text_alone;
  const int n_items = around ? around->n : 1;
  const size_t n = (size_t)(text->n + pair->n + count_added(around));
  to->ids = malloc((n + 1) * sizeof *to->ids);
  to->begins = calloc(n + 1, sizeof *to->begins);
  to->ends = calloc(n + 1, sizeof *to->ends);
  to->segments = calloc(n + 1, sizeof *to->segments);
  to->added = calloc(n + 1, sizeof *to->added);
  if (!to->ids || !to->begins || !to->ends || !to->segments || !to->added)
    return KIT_OUT_OF_MEMORY("tokens");
  for (int i = 0; i < n_items; i++) {
    if (items[i].what == TEMPLATE_TEXT) {
      put(to, text, 0);
    } else if (items[i].what == TEMPLATE_PAIR) {
      put(to, pair, 1);
    } else {
      to->ids[to->n] = items[i].id;
      to->segments[to->n] = items[i].segment;
      to->added[to->n++] = 1;
    }
  }
  return CLATTN_OK;
}

/* A text without anything around it: its tokens are handed over. */
static clattn_status hand_over(token_list *text, clattn_encoding *to) {
  const size_t n = (size_t)text->n + 1;
  to->segments = calloc(n, sizeof *to->segments);
  to->added = calloc(n, sizeof *to->added);
  if (to->segments == NULL || to->added == NULL)
    return KIT_OUT_OF_MEMORY("tokens");
  to->n = text->n;
  to->ids = text->ids;
  to->begins = text->begins;
  to->ends = text->ends;
  *text = (token_list){0};
  return CLATTN_OK;
}

clattn_status encode_options_check(const clattn_encode_options *options) {
  KIT_REQUIRE_STRUCT(options, clattn_encode_options);
  KIT_REQUIRE(options->invalid >= CLATTN_INVALID_ERROR &&
                  options->invalid <= CLATTN_INVALID_BYTES,
              "options->invalid: got %d, want 0..2", (int)options->invalid);
  KIT_REQUIRE(options->max_length >= 0,
              "options->max_length: got %lld, want >= 0",
              (long long)options->max_length);
  KIT_REQUIRE(options->pair != NULL || options->pair_bytes == 0,
              "options->pair: got NULL, want %zu bytes", options->pair_bytes);
  return CLATTN_OK;
}

static clattn_status check(const clattn_tokenizer *t, const char *text,
                           size_t bytes, const clattn_encode_options *options) {
  KIT_REQUIRE(t != NULL, "tokenizer: got NULL, want a tokenizer");
  KIT_REQUIRE(text != NULL || bytes == 0, "text: got NULL, want %zu bytes",
              bytes);
  KIT_TRY(encode_options_check(options));
  if (options->pair != NULL && t->pair.n == 0)
    return clattn_set_error(CLATTN_UNSUPPORTED,
                            "options->pair: this tokenizer has no template "
                            "for a pair of texts");
  return CLATTN_OK;
}

clattn_status clattn_tokenizer_encode(const clattn_tokenizer *t,
                                      const char *text, size_t size_bytes,
                                      const clattn_encode_options *options,
                                      clattn_encoding *encoding) {
  KIT_REQUIRE(encoding != NULL, "encoding: got NULL, want a place");
  *encoding = (clattn_encoding){0};
  clattn_encode_options defaults;
  clattn_encode_options_init(&defaults);
  if (options == NULL) options = &defaults;
  KIT_TRY(check(t, text, size_bytes, options));
  const bool paired = options->pair != NULL;
  const token_template *around = paired ? &t->pair : &t->single;
  /* Without what is added a pair is one text, then the other. */
  static const template_item bare_items[] = {{TEMPLATE_TEXT, -1, 0},
                                             {TEMPLATE_PAIR, -1, 1}};
  const token_template bare = {(template_item *)bare_items, 2};
  if (!options->add_special) around = paired ? &bare : NULL;
  if (around != NULL && around->n == 0) around = NULL;
  const int64_t room = options->max_length - count_added(around);
  KIT_REQUIRE(options->max_length == 0 || room >= 0,
              "options->max_length: got %lld, want at least the %lld tokens "
              "that are added",
              (long long)options->max_length, (long long)count_added(around));

  token_list first = {0}, second = {0};
  clattn_encoding made = {0};
  clattn_status status =
      encode_text(t, "text", text ? text : "", size_bytes, options, &first);
  if (status == CLATTN_OK && paired)
    status = encode_text(t, "options->pair", options->pair, options->pair_bytes,
                         options, &second);
  if (status == CLATTN_OK) {
    if (options->max_length > 0 && first.n + second.n > room) {
      if (paired)
        cut_longest(&first, &second, room);
      else
        first.n = room;
      made.truncated = true;
    }
    status = around == NULL ? hand_over(&first, &made)
                            : assemble(around, &first, &second, &made);
  }
  token_list_free(&first);
  token_list_free(&second);
  if (status != CLATTN_OK) {
    clattn_encoding_free(&made);
    return status;
  }
  *encoding = made;
  return CLATTN_OK;
}
