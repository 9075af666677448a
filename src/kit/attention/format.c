/* format.c - attention files: names, shapes, and what fits together. */
#include "format.h"

#include <math.h>
#include <string.h>

const char *clattn_attention_kind_name(clattn_attention_kind kind) {
  switch (kind) {
    case CLATTN_ATTENTION_ENCODER:
      return "encoder";
    case CLATTN_ATTENTION_DECODER:
      return "decoder";
    case CLATTN_ATTENTION_CROSS:
      return "cross";
  }
  return "?";
}

void clattn_attention_part_init(clattn_attention_part *part) {
  if (part == NULL) return;
  *part = (clattn_attention_part){.struct_size = sizeof *part,
                                  .name = "",
                                  .kind = CLATTN_ATTENTION_ENCODER,
                                  .has = 1u << CLATTN_ATTENTION_WEIGHTS,
                                  .dtype = CLATTN_F32};
}

const char *attention_tensor_name(clattn_attention_tensor tensor) {
  static const char *const names[CLATTN_ATTENTION_TENSORS] = {
      [CLATTN_ATTENTION_WEIGHTS] = "attention",
      [CLATTN_ATTENTION_QUERY] = "query",
      [CLATTN_ATTENTION_KEY] = "key",
      [CLATTN_ATTENTION_ENTROPY] = "entropy",
      [CLATTN_ATTENTION_DISTANCE] = "distance",
      [CLATTN_ATTENTION_TOP_KEYS] = "top_keys",
      [CLATTN_ATTENTION_TOP_WEIGHTS] = "top_weights",
      [CLATTN_ATTENTION_MAP] = "map"};
  return names[tensor];
}

const char *attention_key(const clattn_attention_part *part, int side,
                          const char *name, char key[ATTENTION_KEY_CHARS]) {
  snprintf(key, ATTENTION_KEY_CHARS, "%s%s%s%s", part->name,
           part->name[0] ? "." : "", side == ATTENTION_KEYS ? "key_" : "",
           name);
  return key;
}

const char *attention_tensor_key(const clattn_attention_part *part,
                                 int64_t layer, clattn_attention_tensor tensor,
                                 char name[ATTENTION_KEY_CHARS]) {
  snprintf(name, ATTENTION_KEY_CHARS, "%s%s%s.%lld", part->name,
           part->name[0] ? "." : "", attention_tensor_name(tensor),
           (long long)layer);
  return name;
}

clattn_kit_tensor attention_tensor(const clattn_attention_part *part,
                                   int64_t layer,
                                   clattn_attention_tensor tensor,
                                   char name[ATTENTION_KEY_CHARS]) {
  const int64_t n = part->rows.n, m = part->keys.n, block = part->map_block;
  clattn_kit_tensor t = {
      .name = attention_tensor_key(part, layer, tensor, name),
      .dtype = CLATTN_KIT_F32,
      .rank = 3,
      .extent = {part->heads, n, m}};
  switch (tensor) {
    case CLATTN_ATTENTION_WEIGHTS:
      t.dtype = clattn_kit_dtype_of(part->dtype);
      break;
    case CLATTN_ATTENTION_QUERY:
      t.extent[2] = part->head_dim;
      break;
    case CLATTN_ATTENTION_KEY:
      t.extent[0] = part->kv_heads;
      t.extent[1] = m;
      t.extent[2] = part->head_dim;
      break;
    case CLATTN_ATTENTION_ENTROPY:
    case CLATTN_ATTENTION_DISTANCE:
      t.rank = 2;
      t.extent[2] = 0;
      break;
    case CLATTN_ATTENTION_TOP_KEYS:
      t.dtype = CLATTN_KIT_I32;
      t.extent[2] = part->top;
      break;
    case CLATTN_ATTENTION_TOP_WEIGHTS:
      t.extent[2] = part->top;
      break;
    default: /* the map: blocks of rows and of keys */
      t.extent[1] = (n - 1) / block + 1;
      t.extent[2] = (m - 1) / block + 1;
  }
  return t;
}

void attention_part_complete(clattn_attention_part *part) {
  if (part->kv_heads == 0) part->kv_heads = part->heads;
  if (part->scale == 0 && part->head_dim > 0)
    part->scale = 1 / sqrt((double)part->head_dim);
  if (part->keys.n == 0) part->keys = part->rows;
}

bool attention_name_valid(const char *name) {
  const size_t n = strnlen(name, ATTENTION_NAME_CHARS + 1);
  return n >= 1 && n <= ATTENTION_NAME_CHARS &&
         name[strspn(name,
                     "abcdefghijklmnopqrstuvwxyz"
                     "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")] == '\0';
}

/* Tensors that have a meaning together alone. */
static clattn_status check_couple(const clattn_attention_part *part,
                                  const char *where, clattn_attention_tensor a,
                                  clattn_attention_tensor b) {
  KIT_REQUIRE(attention_has(part, a) == attention_has(part, b),
              "%shas: got %s without %s, want both or none", where,
              attention_tensor_name(attention_has(part, a) ? a : b),
              attention_tensor_name(attention_has(part, a) ? b : a));
  return CLATTN_OK;
}

clattn_status attention_part_check(const clattn_attention_part *part,
                                   const char *where) {
  KIT_REQUIRE(part->kind >= CLATTN_ATTENTION_ENCODER &&
                  part->kind <= CLATTN_ATTENTION_CROSS,
              "%skind: got %d, want encoder, decoder or cross", where,
              (int)part->kind);
  const struct {
    const char *name;
    int64_t got, least;
  } counts[] = {
      {KEY_WINDOW, part->window, 0},     {KEY_LAYERS, part->layers, 1},
      {KEY_HEADS, part->heads, 1},       {KEY_KV_HEADS, part->kv_heads, 1},
      {KEY_HEAD_DIM, part->head_dim, 0}, {"rows.n", part->rows.n, 1},
      {"keys.n", part->keys.n, 1}};
  for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
    KIT_REQUIRE(counts[i].got >= counts[i].least,
                "%s%s: got %lld, want at least %lld", where, counts[i].name,
                (long long)counts[i].got, (long long)counts[i].least);
  KIT_REQUIRE(part->heads % part->kv_heads == 0,
              "%skv_heads: got %lld, want a divisor of heads (%lld)", where,
              (long long)part->kv_heads, (long long)part->heads);
  KIT_REQUIRE(
      part->kind == CLATTN_ATTENTION_CROSS || part->keys.n == part->rows.n,
      "%skeys.n: got %lld, want the rows' %lld but in cross", where,
      (long long)part->keys.n, (long long)part->rows.n);
  KIT_REQUIRE(part->has != 0 && part->has >> CLATTN_ATTENTION_TENSORS == 0,
              "%shas: got 0x%x, want bits of 0x%x, one at least", where,
              part->has, (1u << CLATTN_ATTENTION_TENSORS) - 1);
  KIT_REQUIRE(part->dtype == CLATTN_F16 || part->dtype == CLATTN_F32,
              "%sdtype: got %s (%d), want f16 or f32", where,
              clattn_dtype_name(part->dtype), (int)part->dtype);
  KIT_TRY(
      check_couple(part, where, CLATTN_ATTENTION_QUERY, CLATTN_ATTENTION_KEY));
  KIT_TRY(check_couple(part, where, CLATTN_ATTENTION_TOP_KEYS,
                       CLATTN_ATTENTION_TOP_WEIGHTS));
  KIT_REQUIRE(isfinite(part->scale), "%sscale: got %g, want a finite number",
              where, part->scale);
  KIT_REQUIRE(
      !attention_has(part, CLATTN_ATTENTION_QUERY) || part->head_dim >= 1,
      "%shead_dim: got 0, want at least 1 with query and key", where);
  KIT_REQUIRE(!attention_has(part, CLATTN_ATTENTION_TOP_KEYS) || part->top >= 1,
              "%stop: got %lld, want at least 1", where, (long long)part->top);
  KIT_REQUIRE(
      !attention_has(part, CLATTN_ATTENTION_MAP) || part->map_block >= 1,
      "%smap_block: got %lld, want at least 1", where,
      (long long)part->map_block);
  return CLATTN_OK;
}

void attention_visible(const clattn_attention_part *part, int64_t row,
                       int64_t *first, int64_t *end) {
  const int64_t m = part->keys.n;
  const int64_t own = row + (m - part->rows.n);
  *first = 0;
  *end = m;
  if (part->window > 0 && own - part->window >= 0)
    *first = own - part->window + 1;
  if (part->causal) *end = own < m ? own + 1 : m;
  if (*end < *first) *end = *first;
}
