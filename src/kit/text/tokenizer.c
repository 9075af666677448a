/* tokenizer.c - the handle: how it is put together, and its vocabulary. */
#include "tokenizer.h"

#include <stdlib.h>
#include <string.h>

/* ---- making -------------------------------------------------------------- */

clattn_status tokenizer_new(clattn_tokenizer_kind kind, token_model model,
                            clattn_tokenizer **tokenizer) {
  clattn_tokenizer *made = calloc(1, sizeof *made);
  if (made == NULL) return KIT_OUT_OF_MEMORY("tokenizer");
  made->kind = kind;
  made->model = model;
  made->unknown = -1;
  *tokenizer = made;
  return CLATTN_OK;
}

void clattn_tokenizer_destroy(clattn_tokenizer *t) {
  if (t == NULL) return;
  token_map_free(&t->map);
  token_index_free(&t->index);
  token_index_free(&t->added_index);
  free(t->added);
  split_free(t->steps, t->n_steps);
  bpe_free(&t->bpe);
  free(t->wordpiece.prefix);
  free(t->single.items);
  free(t->pair.items);
  free(t);
}

clattn_status tokenizer_hand_over(clattn_status status, clattn_tokenizer *made,
                                  clattn_tokenizer **tokenizer) {
  if (status == CLATTN_OK)
    *tokenizer = made;
  else
    clattn_tokenizer_destroy(made);
  return status;
}

static bool is_same(kit_bytes token, const char *text, size_t bytes) {
  return token.bytes == bytes && memcmp(token.text, text, bytes) == 0;
}

clattn_status tokenizer_add(clattn_tokenizer *t, int32_t id, const char *text,
                            size_t bytes) {
  /* An added token may be one of the model's too. */
  const kit_bytes old = token_map_at(&t->map, id);
  if (old.text == NULL || !is_same(old, text, bytes))
    KIT_TRY(token_map_add(&t->map, id, text, bytes));
  int32_t there;
  KIT_TRY(token_index_add(&t->index, &t->map, id, &there));
  KIT_REQUIRE(there == id, "the token '%.*s' has two ids, %ld and %ld",
              kit_shown(bytes), text, (long)there, (long)id);
  return CLATTN_OK;
}

clattn_status tokenizer_add_added(clattn_tokenizer *t, const char *text,
                                  size_t bytes, const added_token *token) {
  KIT_REQUIRE(bytes > 0, "the added token %ld is empty", (long)token->id);
  const kit_bytes old = token_map_at(&t->map, token->id);
  if (old.text == NULL)
    KIT_TRY(token_map_add(&t->map, token->id, text, bytes));
  else
    KIT_REQUIRE(is_same(old, text, bytes),
                "the id %ld is both '%.80s' and the added token '%.*s'",
                (long)token->id, old.text, kit_shown(bytes), text);
  int32_t there;
  KIT_TRY(token_index_add(&t->added_index, &t->map, token->id, &there));
  KIT_REQUIRE(there == token->id,
              "the added token '%.*s' has two ids, %ld and %ld",
              kit_shown(bytes), text, (long)there, (long)token->id);
  added_token *added = realloc(t->added, (t->n_added + 1) * sizeof *added);
  if (added == NULL) return KIT_OUT_OF_MEMORY("tokenizer");
  t->added = added;
  /* Longest first, so that the first that is found is the one. */
  size_t at = t->n_added++;
  for (; at > 0 && token_map_at(&t->map, added[at - 1].id).bytes < bytes; at--)
    added[at] = added[at - 1];
  added[at] = *token;
  t->map.places[token->id].special = token->special;
  t->added_first[(unsigned char)text[0]] = true;
  return CLATTN_OK;
}

clattn_status tokenizer_add_specials(clattn_tokenizer *t,
                                     const char *const *texts, size_t n) {
  for (size_t i = 0; i < n; i++) {
    const size_t bytes = strlen(texts[i]);
    const added_token token = {
        .id = token_index_find(&t->index, &t->map, texts[i], bytes),
        .special = true};
    if (token.id >= 0) KIT_TRY(tokenizer_add_added(t, texts[i], bytes, &token));
  }
  return CLATTN_OK;
}

clattn_status template_add(token_template *to, template_item item) {
  template_item *items =
      realloc(to->items, (size_t)(to->n + 1) * sizeof *items);
  if (items == NULL) return KIT_OUT_OF_MEMORY("tokenizer");
  to->items = items;
  items[to->n++] = item;
  return CLATTN_OK;
}

clattn_status tokenizer_bert_template(clattn_tokenizer *t, int32_t cls,
                                      int32_t sep) {
  const template_item items[] = {{TEMPLATE_TOKEN, cls, 0},
                                 {TEMPLATE_TEXT, -1, 0},
                                 {TEMPLATE_TOKEN, sep, 0},
                                 {TEMPLATE_PAIR, -1, 1},
                                 {TEMPLATE_TOKEN, sep, 1}};
  for (int i = 0; i < 5; i++) {
    if (i < 3) KIT_TRY(template_add(&t->single, items[i]));
    KIT_TRY(template_add(&t->pair, items[i]));
  }
  return CLATTN_OK;
}

/* The ids that a template puts in must be of the vocabulary. */
static clattn_status check_template(const clattn_tokenizer *t,
                                    const token_template *wanted) {
  for (int i = 0; i < wanted->n; i++)
    if (wanted->items[i].what == TEMPLATE_TOKEN)
      KIT_REQUIRE(token_map_at(&t->map, wanted->items[i].id).text != NULL,
                  "what stands around a text has the id %ld, which no token "
                  "has",
                  (long)wanted->items[i].id);
  return CLATTN_OK;
}

clattn_status tokenizer_finish(clattn_tokenizer *t) {
  KIT_REQUIRE(t->map.size > 0, "the vocabulary is empty");
  KIT_TRY(check_template(t, &t->single));
  KIT_TRY(check_template(t, &t->pair));
  t->streams = split_streams(t);
  for (size_t i = 0; i < t->n_added; i++)
    if (t->added[i].single_word) t->streams = false; /* looks behind */
  if (t->model == MODEL_BPE) KIT_TRY(bpe_finish(t));
  for (int32_t i = 0; i < t->map.size; i++) {
    const size_t bytes = token_map_at(&t->map, i).bytes;
    if (bytes > t->wordpiece.longest) t->wordpiece.longest = bytes;
  }
  return CLATTN_OK;
}

/* ---- the vocabulary ------------------------------------------------------ */

clattn_tokenizer_kind clattn_tokenizer_get_kind(const clattn_tokenizer *t) {
  return t == NULL ? CLATTN_TOKENIZER_CHARS : t->kind;
}

int32_t clattn_tokenizer_size(const clattn_tokenizer *t) {
  return t == NULL ? 0 : t->map.size;
}

const char *clattn_tokenizer_token(const clattn_tokenizer *t, int32_t id,
                                   size_t *size_bytes) {
  const kit_bytes token =
      t == NULL ? (kit_bytes){NULL, 0} : token_map_at(&t->map, id);
  if (size_bytes != NULL) *size_bytes = token.bytes;
  return token.text;
}

int32_t clattn_tokenizer_id(const clattn_tokenizer *t, const char *token,
                            size_t size_bytes) {
  if (t == NULL || token == NULL) return -1;
  const int32_t added =
      token_index_find(&t->added_index, &t->map, token, size_bytes);
  return added >= 0 ? added
                    : token_index_find(&t->index, &t->map, token, size_bytes);
}

bool clattn_tokenizer_is_special(const clattn_tokenizer *t, int32_t id) {
  return t != NULL && id >= 0 && id < t->map.size && t->map.places[id].special;
}
