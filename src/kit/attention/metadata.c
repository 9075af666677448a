/* metadata.c - the metadata of an attention file that is written. */
#define _POSIX_C_SOURCE 200809L
#include "metadata.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* Takes the text over; NULL: there was no memory for it. */
static clattn_status note(attention_metadata *m, const char *key, char *text) {
  if (m->n == m->room) {
    const size_t room = m->room == 0 ? 32 : 2 * m->room;
    clattn_kit_metadata *larger = realloc(m->entries, room * sizeof *larger);
    if (larger == NULL) {
      free(text);
      return KIT_OUT_OF_MEMORY("attention file");
    }
    m->entries = larger;
    m->room = room;
  }
  char *name = strdup(key);
  if (name == NULL || text == NULL) {
    free(name);
    free(text);
    return KIT_OUT_OF_MEMORY("attention file");
  }
  m->entries[m->n++] = (clattn_kit_metadata){name, text};
  return CLATTN_OK;
}

static clattn_status note_copy(attention_metadata *m, const char *key,
                               const char *text) {
  return note(m, key, strdup(text));
}

/* A text with its NULs as spaces: metadata ends at a NUL, and every other byte
 * must stay where begins and ends say. */
static clattn_status note_text(attention_metadata *m, const char *key,
                               const char *text, size_t n) {
  char *copy = malloc(n + 1);
  if (copy != NULL) {
    for (size_t i = 0; i < n; i++) copy[i] = text[i] == '\0' ? ' ' : text[i];
    copy[n] = '\0';
  }
  return note(m, key, copy);
}

/* Takes the JSON over. */
static clattn_status note_json(attention_metadata *m, const char *key,
                               json_t *json) {
  const size_t flags = JSON_COMPACT | JSON_ENCODE_ANY;
  char *text = json == NULL ? NULL : json_dumps(json, flags);
  json_decref(json);
  return note(m, key, text);
}

/* ---- of a part --------------------------------------------------------------- */

static clattn_status note_count(attention_metadata *m,
                                const clattn_attention_part *part,
                                const char *name, int64_t number) {
  char key[ATTENTION_KEY_CHARS];
  return note_json(m, attention_key(part, ATTENTION_ROWS, name, key),
                   json_integer(number));
}

static clattn_status note_word(attention_metadata *m,
                               const clattn_attention_part *part,
                               const char *name, const char *word) {
  char key[ATTENTION_KEY_CHARS];
  return note_copy(m, attention_key(part, ATTENTION_ROWS, name, key), word);
}

/* A list of tokens [n]: item i of it, whatever it is. */
typedef json_t *(*item)(const clattn_attention_tokens *tokens, int64_t i);

static json_t *text_of(const clattn_attention_tokens *tokens, int64_t i) {
  return json_string(tokens->texts[i]);
}
static json_t *id_of(const clattn_attention_tokens *tokens, int64_t i) {
  return json_integer(tokens->ids[i]);
}
static json_t *begin_of(const clattn_attention_tokens *tokens, int64_t i) {
  return json_integer(tokens->begins[i]);
}
static json_t *end_of(const clattn_attention_tokens *tokens, int64_t i) {
  return json_integer(tokens->ends[i]);
}
static json_t *segment_of(const clattn_attention_tokens *tokens, int64_t i) {
  return json_integer(tokens->segments[i]);
}
static json_t *added_of(const clattn_attention_tokens *tokens, int64_t i) {
  return json_integer(tokens->added[i]);
}

static clattn_status note_list(attention_metadata *m, const char *key,
                               const clattn_attention_tokens *tokens,
                               item item) {
  json_t *list = json_array();
  for (int64_t i = 0; list != NULL && i < tokens->n; i++) {
    if (json_array_append_new(list, item(tokens, i)) == 0) continue;
    json_decref(list);
    list = NULL;
  }
  return note_json(m, key, list);
}

static clattn_status note_tokens(attention_metadata *m,
                                 const clattn_attention_part *part, int side) {
  const clattn_attention_tokens *t =
      side == ATTENTION_KEYS ? &part->keys : &part->rows;
  const struct {
    const char *name;
    const void *there; /* NULL: not known */
    item item;
  } lists[] = {
      {KEY_TOKENS, t->texts, text_of},         {KEY_IDS, t->ids, id_of},
      {KEY_BEGINS, t->begins, begin_of},       {KEY_ENDS, t->ends, end_of},
      {KEY_SEGMENTS, t->segments, segment_of}, {KEY_ADDED, t->added, added_of}};
  char key[ATTENTION_KEY_CHARS];
  KIT_TRY(note_json(m, attention_key(part, side, KEY_LENGTH, key),
                    json_integer(t->n)));
  for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
    if (lists[i].there != NULL)
      KIT_TRY(note_list(m, attention_key(part, side, lists[i].name, key), t,
                        lists[i].item));
  return CLATTN_OK;
}

static clattn_status note_part(attention_metadata *m,
                               const clattn_attention_part *part) {
  char key[ATTENTION_KEY_CHARS];
  KIT_TRY(note_word(m, part, KEY_KIND, clattn_attention_kind_name(part->kind)));
  KIT_TRY(note_word(m, part, KEY_CAUSAL,
                    part->causal ? ATTENTION_TRUE : ATTENTION_FALSE));
  if (part->window > 0) KIT_TRY(note_count(m, part, KEY_WINDOW, part->window));
  KIT_TRY(note_count(m, part, KEY_LAYERS, part->layers));
  KIT_TRY(note_count(m, part, KEY_HEADS, part->heads));
  KIT_TRY(note_count(m, part, KEY_KV_HEADS, part->kv_heads));
  KIT_TRY(note_count(m, part, KEY_HEAD_DIM, part->head_dim));
  if (part->scale != 0)
    KIT_TRY(note_json(m, attention_key(part, ATTENTION_ROWS, KEY_SCALE, key),
                      json_real(part->scale)));
  KIT_TRY(note_tokens(m, part, ATTENTION_ROWS));
  if (part->kind == CLATTN_ATTENTION_CROSS)
    KIT_TRY(note_tokens(m, part, ATTENTION_KEYS));
  if (attention_has(part, CLATTN_ATTENTION_TOP_KEYS))
    KIT_TRY(note_count(m, part, KEY_TOP, part->top));
  if (attention_has(part, CLATTN_ATTENTION_MAP))
    KIT_TRY(note_count(m, part, KEY_MAP_BLOCK, part->map_block));
  return CLATTN_OK;
}

/* ---- of the file ---------------------------------------------------------------- */

static clattn_status note_names(attention_metadata *m,
                                const attention_head *head) {
  json_t *names = json_array();
  for (size_t i = 0; names != NULL && i < head->n_parts; i++) {
    if (json_array_append_new(names, json_string(head->parts[i].name)) == 0)
      continue;
    json_decref(names);
    names = NULL;
  }
  return note_json(m, KEY_PARTS, names);
}

clattn_status attention_metadata_make(const attention_head *head,
                                      attention_metadata *m) {
  *m = (attention_metadata){0};
  KIT_TRY(note_copy(m, KEY_FORMAT, ATTENTION_FORMAT));
  KIT_TRY(note_copy(m, KEY_MODEL, head->model));
  if (head->text != NULL)
    KIT_TRY(note_text(m, KEY_TEXT, head->text, head->text_bytes));
  if (head->pair != NULL)
    KIT_TRY(note_text(m, KEY_PAIR, head->pair, head->pair_bytes));
  if (head->parts[0].name[0] != '\0') KIT_TRY(note_names(m, head));
  for (size_t i = 0; i < head->n_parts; i++)
    KIT_TRY(note_part(m, &head->parts[i]));
  return CLATTN_OK;
}

void attention_metadata_free(attention_metadata *m) {
  for (size_t i = 0; i < m->n; i++) {
    free((char *)m->entries[i].key);
    free((char *)m->entries[i].text);
  }
  free(m->entries);
  *m = (attention_metadata){0};
}
