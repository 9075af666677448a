/* read_part.c - what an attention file says of a part. Nothing is believed: all
 * of it must be there, of the right type, and fit the rest. */
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "read.h"
#include "tokens.h"

/* ---- single values -------------------------------------------------------------- */

/* The text of a key; NULL if it is absent. */
static const char *look_up(const clattn_kit_safetensors *file,
                           const clattn_attention_part *part, int side,
                           const char *name, char key[ATTENTION_KEY_CHARS]) {
  return clattn_kit_safetensors_metadata(file,
                                         attention_key(part, side, name, key));
}

/* A whole number >= 0 in decimal. Absent: what *number is, but INT64_MIN there
 * means that it must be there. */
static clattn_status read_count(const clattn_kit_safetensors *file,
                                const clattn_attention_part *part, int side,
                                const char *name, int64_t *number) {
  char key[ATTENTION_KEY_CHARS];
  const char *text = look_up(file, part, side, name, key);
  if (text == NULL)
    return *number != INT64_MIN ? CLATTN_OK
                                : KIT_BAD("metadata '%s' is absent", key);
  const size_t digits = strspn(text, "0123456789");
  if (digits == 0 || digits > 18 || text[digits] != '\0')
    return KIT_BAD("metadata '%s': got '%.40s', want a whole number", key,
                   text);
  *number = strtoll(text, NULL, 10);
  return CLATTN_OK;
}

static clattn_status read_kind(const clattn_kit_safetensors *file,
                               clattn_attention_part *part) {
  char key[ATTENTION_KEY_CHARS];
  const char *text = look_up(file, part, ATTENTION_ROWS, KEY_KIND, key);
  if (text == NULL) return KIT_BAD("metadata '%s' is absent", key);
  for (int kind = CLATTN_ATTENTION_ENCODER; kind <= CLATTN_ATTENTION_CROSS;
       kind++)
    if (strcmp(text, clattn_attention_kind_name((clattn_attention_kind)kind)) ==
        0) {
      part->kind = (clattn_attention_kind)kind;
      return CLATTN_OK;
    }
  return KIT_BAD("metadata '%s': got '%.40s', want encoder, decoder or cross",
                 key, text);
}

static clattn_status read_causal(const clattn_kit_safetensors *file,
                                 clattn_attention_part *part) {
  char key[ATTENTION_KEY_CHARS];
  const char *text = look_up(file, part, ATTENTION_ROWS, KEY_CAUSAL, key);
  part->causal = text == NULL ? part->kind == CLATTN_ATTENTION_DECODER
                              : strcmp(text, ATTENTION_TRUE) == 0;
  if (text != NULL && !part->causal && strcmp(text, ATTENTION_FALSE) != 0)
    return KIT_BAD("metadata '%s': got '%.40s', want true or false", key, text);
  return CLATTN_OK;
}

static clattn_status read_scale(const clattn_kit_safetensors *file,
                                clattn_attention_part *part) {
  char key[ATTENTION_KEY_CHARS];
  const char *text = look_up(file, part, ATTENTION_ROWS, KEY_SCALE, key);
  if (text == NULL) return CLATTN_OK;
  /* jansson reads a decimal point whatever the locale. */
  json_t *json = json_loads(text, JSON_DECODE_ANY, NULL);
  const bool ok = json_is_number(json) && json_number_value(json) != 0;
  if (ok) part->scale = json_number_value(json);
  json_decref(json);
  return ok ? CLATTN_OK
            : KIT_BAD("metadata '%s': got '%.40s', want a number but 0", key,
                      text);
}

/* ---- lists of tokens ------------------------------------------------------------ */

/* The array [n] of a key; NULL in *list if it is absent. */
static clattn_status read_list(const clattn_kit_safetensors *file,
                               const clattn_attention_part *part, int side,
                               const char *name, int64_t n, json_t **list) {
  char key[ATTENTION_KEY_CHARS];
  *list = NULL;
  const char *text = look_up(file, part, side, name, key);
  if (text == NULL) return CLATTN_OK;
  json_error_t error;
  json_t *json = json_loads(text, JSON_ALLOW_NUL, &error);
  if (json == NULL)
    return KIT_BAD("metadata '%s' is not JSON: %s at byte %d", key, error.text,
                   error.position);
  if (!json_is_array(json) || (int64_t)json_array_size(json) != n) {
    const bool array = json_is_array(json);
    const size_t got = json_array_size(json);
    json_decref(json);
    return array ? KIT_BAD("metadata '%s': got %zu entries, want %lld", key,
                           got, (long long)n)
                 : KIT_BAD("metadata '%s' is not a JSON array", key);
  }
  *list = json;
  return CLATTN_OK;
}

/* The lists of whole numbers: what lies in them, and how many bytes each takes. */
typedef struct list_kind {
  const char *name;
  int64_t low, high;
  size_t size;
} list_kind;

static const list_kind list_kinds[] = {
    {KEY_IDS, INT32_MIN, INT32_MAX, sizeof(int32_t)},
    {KEY_BEGINS, 0, INT64_MAX, sizeof(int64_t)},
    {KEY_ENDS, 0, INT64_MAX, sizeof(int64_t)},
    {KEY_SEGMENTS, 0, 1, sizeof(uint8_t)},
    {KEY_ADDED, 0, 1, sizeof(uint8_t)}};
enum { LIST_KINDS = sizeof list_kinds / sizeof *list_kinds };

/* Such a list [n], allocated; *numbers stays as it is if it is absent. */
static clattn_status read_numbers(const clattn_kit_safetensors *file,
                                  const clattn_attention_part *part, int side,
                                  const list_kind *kind, int64_t n,
                                  void **numbers) {
  char key[ATTENTION_KEY_CHARS];
  json_t *list;
  KIT_TRY(read_list(file, part, side, kind->name, n, &list));
  if (list == NULL) return CLATTN_OK;
  *numbers = calloc((size_t)n, kind->size);
  clattn_status status =
      *numbers ? CLATTN_OK : KIT_OUT_OF_MEMORY("attention file");
  for (int64_t i = 0; i < n && status == CLATTN_OK; i++) {
    const json_t *value = json_array_get(list, (size_t)i);
    const int64_t number = json_integer_value(value);
    if (!json_is_integer(value) || number < kind->low || number > kind->high)
      status = KIT_BAD(
          "metadata '%s', entry %lld: want a whole number of "
          "%lld..%lld",
          attention_key(part, side, kind->name, key), (long long)i,
          (long long)kind->low, (long long)kind->high);
    else if (kind->size == sizeof(uint8_t))
      ((uint8_t *)*numbers)[i] = (uint8_t)number;
    else if (kind->size == sizeof(int32_t))
      ((int32_t *)*numbers)[i] = (int32_t)number;
    else
      ((int64_t *)*numbers)[i] = number;
  }
  json_decref(list);
  return status;
}

/* Texts end at a NUL: one in a token is shown. */
static clattn_status show_nul(json_t *list, size_t i) {
  const json_t *string = json_array_get(list, i);
  const char *text = json_string_value(string);
  const size_t n = json_string_length(string);
  if (strlen(text) == n) return CLATTN_OK;
  char *shown = attention_text(text, n);
  const int failed =
      shown == NULL || json_array_set_new(list, i, json_string(shown)) != 0;
  free(shown);
  return failed ? KIT_OUT_OF_MEMORY("attention file") : CLATTN_OK;
}

static clattn_status read_texts(const clattn_kit_safetensors *file,
                                const clattn_attention_part *part, int side,
                                int64_t n, attention_lists *lists) {
  char key[ATTENTION_KEY_CHARS];
  KIT_TRY(read_list(file, part, side, KEY_TOKENS, n, &lists->strings));
  attention_key(part, side, KEY_TOKENS, key);
  if (lists->strings == NULL) return KIT_BAD("metadata '%s' is absent", key);
  lists->texts = calloc((size_t)n, sizeof *lists->texts);
  if (lists->texts == NULL) return KIT_OUT_OF_MEMORY("attention file");
  for (size_t i = 0; i < (size_t)n; i++) {
    if (!json_is_string(json_array_get(lists->strings, i)))
      return KIT_BAD("metadata '%s', entry %zu: want a string", key, i);
    KIT_TRY(show_nul(lists->strings, i));
    lists->texts[i] = json_string_value(json_array_get(lists->strings, i));
  }
  return CLATTN_OK;
}

/* The tokens of a side. */
static clattn_status read_tokens(const clattn_kit_safetensors *file,
                                 const clattn_attention_part *part, int side,
                                 attention_lists *lists,
                                 clattn_attention_tokens *tokens) {
  int64_t n = INT64_MIN;
  char key[ATTENTION_KEY_CHARS];
  KIT_TRY(read_count(file, part, side, KEY_LENGTH, &n));
  if (n == 0)
    return KIT_BAD("metadata '%s': got 0, want at least 1",
                   attention_key(part, side, KEY_LENGTH, key));
  KIT_TRY(read_texts(file, part, side, n, lists));
  for (int i = 0; i < LIST_KINDS; i++)
    KIT_TRY(
        read_numbers(file, part, side, &list_kinds[i], n, &lists->numbers[i]));
  *tokens = (clattn_attention_tokens){.n = n,
                                      .texts = lists->texts,
                                      .ids = lists->numbers[0],
                                      .begins = lists->numbers[1],
                                      .ends = lists->numbers[2],
                                      .segments = lists->numbers[3],
                                      .added = lists->numbers[4]};
  const char *texts[2] = {clattn_kit_safetensors_metadata(file, KEY_TEXT),
                          clattn_kit_safetensors_metadata(file, KEY_PAIR)};
  const int64_t bytes[2] = {texts[0] ? (int64_t)strlen(texts[0]) : -1,
                            texts[1] ? (int64_t)strlen(texts[1]) : -1};
  return attention_tokens_check(
      tokens, attention_key(part, side, KEY_TOKENS, key), bytes);
}

/* ---- tensors -------------------------------------------------------------------- */

static bool same_shape(const clattn_kit_tensor *a, const clattn_kit_tensor *b) {
  return a->rank == b->rank &&
         memcmp(a->extent, b->extent, (size_t)a->rank * sizeof *a->extent) == 0;
}

/* Which tensors layer 0 has, and the type of its weights. */
static clattn_status read_has(const clattn_kit_safetensors *file,
                              clattn_attention_part *part) {
  char name[ATTENTION_KEY_CHARS];
  clattn_kit_tensor found;
  part->has = 0;
  for (int t = 0; t < CLATTN_ATTENTION_TENSORS; t++) {
    const clattn_attention_tensor which = (clattn_attention_tensor)t;
    attention_tensor_key(part, 0, which, name);
    if (!clattn_kit_safetensors_has(file, name)) continue;
    part->has |= 1u << t;
    if (which == CLATTN_ATTENTION_WEIGHTS &&
        clattn_kit_safetensors_find(file, name, &found) == CLATTN_OK &&
        found.dtype == CLATTN_KIT_F16)
      part->dtype = CLATTN_F16;
  }
  if (!attention_has(part, CLATTN_ATTENTION_TOP_KEYS)) part->top = 0;
  if (!attention_has(part, CLATTN_ATTENTION_MAP)) part->map_block = 0;
  attention_tensor_key(part, 0, CLATTN_ATTENTION_WEIGHTS, name);
  return part->has != 0
             ? CLATTN_OK
             : KIT_BAD("no tensor '%s', nor another one of layer 0", name);
}

/* A tensor that must be there. */
static clattn_status check_tensor(const clattn_kit_safetensors *file,
                                  const clattn_attention_part *part,
                                  int64_t layer,
                                  clattn_attention_tensor which) {
  char name[ATTENTION_KEY_CHARS];
  char got_shape[KIT_SHAPE_CHARS], want_shape[KIT_SHAPE_CHARS];
  const clattn_kit_tensor want = attention_tensor(part, layer, which, name);
  clattn_kit_tensor got;
  if (!clattn_kit_safetensors_has(file, name))
    return KIT_BAD("no tensor '%s', though the layers are %lld", name,
                   (long long)part->layers);
  if (clattn_kit_safetensors_find(file, name, &got) != CLATTN_OK)
    return KIT_BAD("tensor '%s': its type is unknown, want %s", name,
                   clattn_kit_dtype_name(want.dtype));
  if (got.dtype != want.dtype || !same_shape(&got, &want))
    return KIT_BAD(
        "tensor '%s': got %s %s, want %s %s", name,
        clattn_kit_dtype_name(got.dtype), kit_shape_text(&got, got_shape),
        clattn_kit_dtype_name(want.dtype), kit_shape_text(&want, want_shape));
  return CLATTN_OK;
}

/* Every layer has what layer 0 has, and there is none behind the last. */
static clattn_status check_tensors(const clattn_kit_safetensors *file,
                                   const clattn_attention_part *part) {
  char name[ATTENTION_KEY_CHARS];
  for (int64_t layer = 0; layer <= part->layers; layer++)
    for (int t = 0; t < CLATTN_ATTENTION_TENSORS; t++) {
      const clattn_attention_tensor which = (clattn_attention_tensor)t;
      if (attention_has(part, which) && layer < part->layers)
        KIT_TRY(check_tensor(file, part, layer, which));
      else if (clattn_kit_safetensors_has(
                   file, attention_tensor_key(part, layer, which, name)))
        return layer < part->layers
                   ? KIT_BAD("tensor '%s' is there, but none of layer 0", name)
                   : KIT_BAD("tensor '%s' is there, but the layers are %lld",
                             name, (long long)part->layers);
    }
  return CLATTN_OK;
}

/* ---- the part ------------------------------------------------------------------- */

static clattn_status read_part(const clattn_kit_safetensors *file,
                               attention_read_part *part) {
  clattn_attention_part *p = &part->info;
  clattn_attention_part_init(p);
  p->name = part->name;
  KIT_TRY(read_kind(file, p));
  KIT_TRY(read_causal(file, p));
  p->layers = p->heads = INT64_MIN;
  p->kv_heads = -1; /* absent */
  const struct {
    const char *name;
    int64_t *number;
  } counts[] = {{KEY_LAYERS, &p->layers},      {KEY_HEADS, &p->heads},
                {KEY_KV_HEADS, &p->kv_heads},  {KEY_HEAD_DIM, &p->head_dim},
                {KEY_WINDOW, &p->window},      {KEY_TOP, &p->top},
                {KEY_MAP_BLOCK, &p->map_block}};
  for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
    KIT_TRY(
        read_count(file, p, ATTENTION_ROWS, counts[i].name, counts[i].number));
  char key[ATTENTION_KEY_CHARS];
  if (p->kv_heads == 0)
    return KIT_BAD("metadata '%s': got 0, want at least 1",
                   attention_key(p, ATTENTION_ROWS, KEY_KV_HEADS, key));
  if (p->kv_heads < 0) p->kv_heads = p->heads;
  KIT_TRY(read_scale(file, p));
  KIT_TRY(read_tokens(file, p, ATTENTION_ROWS, &part->sides[ATTENTION_ROWS],
                      &p->rows));
  if (p->kind == CLATTN_ATTENTION_CROSS)
    KIT_TRY(read_tokens(file, p, ATTENTION_KEYS, &part->sides[ATTENTION_KEYS],
                        &p->keys));
  attention_part_complete(p);
  KIT_TRY(read_has(file, p));
  char where[ATTENTION_KEY_CHARS];
  snprintf(where, sizeof where, "%s%s", p->name, p->name[0] ? "." : "");
  KIT_TRY(attention_part_check(p, where));
  KIT_TRY(check_tensors(file, p)); /* the file has so many layers */
  part->differences = malloc((size_t)p->layers * sizeof *part->differences);
  if (part->differences == NULL) return KIT_OUT_OF_MEMORY("attention file");
  for (int64_t layer = 0; layer < p->layers; layer++)
    atomic_init(&part->differences[layer], NAN);
  return CLATTN_OK;
}

clattn_status attention_part_read(const clattn_kit_safetensors *file,
                                  attention_read_part *part) {
  const clattn_status status = read_part(file, part);
  if (status != CLATTN_INVALID_ARGUMENT) return status;
  char why[256]; /* what is wrong is the file, not an argument */
  snprintf(why, sizeof why, "%s", clattn_error_message());
  return KIT_BAD("%s", why);
}

void attention_part_free(attention_read_part *part) {
  for (int side = 0; side < 2; side++) {
    attention_lists *lists = &part->sides[side];
    json_decref(lists->strings);
    free(lists->texts);
    for (int i = 0; i < LIST_KINDS; i++) free(lists->numbers[i]);
  }
  free(part->differences);
}
