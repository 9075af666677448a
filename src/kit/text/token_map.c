/* token_map.c - tokens by number and by their bytes. */
#include "token_map.h"

#include <stdlib.h>
#include <string.h>

/* ---- by id --------------------------------------------------------------- */

static clattn_status make_room(token_map *map, int32_t id, size_t bytes) {
  if (id >= map->capacity) {
    int32_t capacity = map->capacity > 0 ? map->capacity : 1024;
    while (capacity <= id) capacity *= 2;
    struct token_place *places =
        realloc(map->places, (size_t)capacity * sizeof *places);
    if (places == NULL) return KIT_OUT_OF_MEMORY("vocabulary");
    memset(places + map->capacity, 0,
           (size_t)(capacity - map->capacity) * sizeof *places);
    map->places = places;
    map->capacity = capacity;
  }
  if (map->room - map->used <= bytes) {
    size_t room = map->room > 0 ? map->room : 1 << 14;
    while (room - map->used <= bytes) {
      if (room > SIZE_MAX / 2) return KIT_OUT_OF_MEMORY("vocabulary");
      room *= 2;
    }
    char *text = realloc(map->text, room);
    if (text == NULL) return KIT_OUT_OF_MEMORY("vocabulary");
    map->text = text;
    map->room = room;
  }
  return CLATTN_OK;
}

clattn_status token_map_add(token_map *map, int32_t id, const char *text,
                            size_t bytes) {
  KIT_REQUIRE(id >= 0 && id < TOKEN_LIMIT,
              "token '%.*s': got the id %ld, want 0..%ld", kit_shown(bytes),
              text, (long)id, (long)TOKEN_LIMIT - 1);
  KIT_REQUIRE(bytes < UINT32_MAX, "token %ld: %zu bytes are too many", (long)id,
              bytes);
  KIT_TRY(make_room(map, id, bytes));
  struct token_place *place = &map->places[id];
  KIT_REQUIRE(!place->there, "the id %ld is both '%.80s' and '%.*s'", (long)id,
              map->text + place->at, kit_shown(bytes), text);
  *place = (struct token_place){map->used, (uint32_t)bytes, true, false};
  memcpy(map->text + map->used, text, bytes);
  map->text[map->used + bytes] = '\0';
  map->used += bytes + 1;
  if (id >= map->size) map->size = id + 1;
  return CLATTN_OK;
}

kit_bytes token_map_at(const token_map *map, int32_t id) {
  if (id < 0 || id >= map->size || !map->places[id].there)
    return (kit_bytes){NULL, 0};
  return (kit_bytes){map->text + map->places[id].at, map->places[id].bytes};
}

void token_map_free(token_map *map) {
  free(map->text);
  free(map->places);
  *map = (token_map){0};
}

/* ---- by bytes ------------------------------------------------------------ */

/* Eight bytes at a time, mixed by multiplication. */
static uint32_t hash_bytes(const char *text, size_t bytes) {
  uint64_t h = bytes * 0x9e3779b97f4a7c15u, block;
  while (bytes >= sizeof block) {
    memcpy(&block, text, sizeof block);
    h = (h ^ block) * 0xff51afd7ed558ccdu;
    h ^= h >> 32;
    text += sizeof block;
    bytes -= sizeof block;
  }
  block = 0;
  for (size_t i = 0; i < bytes; i++)
    block = block << 8 | (unsigned char)text[i];
  h = (h ^ block) * 0xff51afd7ed558ccdu;
  h ^= h >> 29;
  h *= 0xc4ceb9fe1a85ec53u;
  return (uint32_t)(h >> 32);
}

/* The slot that has such bytes, or the empty one where they belong. */
static struct token_slot *slot_of(const token_index *index,
                                  const token_map *map, const char *text,
                                  size_t bytes, uint32_t hash) {
  for (size_t at = hash & index->mask;; at = (at + 1) & index->mask) {
    struct token_slot *slot = &index->slots[at];
    if (slot->id < 0) return slot;
    if (slot->hash != hash) continue;
    const struct token_place *place = &map->places[slot->id];
    if (place->bytes == bytes &&
        memcmp(map->text + place->at, text, bytes) == 0)
      return slot;
  }
}

static clattn_status grow(token_index *index) {
  const size_t n = index->slots ? 2 * (index->mask + 1) : 1024;
  struct token_slot *slots = malloc(n * sizeof *slots);
  if (slots == NULL) return KIT_OUT_OF_MEMORY("vocabulary");
  memset(slots, 0xff, n * sizeof *slots); /* every id -1 */
  for (size_t i = 0; index->slots != NULL && i <= index->mask; i++) {
    if (index->slots[i].id < 0) continue;
    size_t at = index->slots[i].hash & (n - 1);
    while (slots[at].id >= 0) at = (at + 1) & (n - 1);
    slots[at] = index->slots[i];
  }
  free(index->slots);
  index->slots = slots;
  index->mask = n - 1;
  return CLATTN_OK;
}

clattn_status token_index_add(token_index *index, const token_map *map,
                              int32_t id, int32_t *id_there) {
  if (index->slots == NULL || (size_t)index->count * 2 > index->mask)
    KIT_TRY(grow(index));
  const kit_bytes token = token_map_at(map, id);
  const uint32_t hash = hash_bytes(token.text, token.bytes);
  struct token_slot *slot = slot_of(index, map, token.text, token.bytes, hash);
  if (slot->id < 0) {
    *slot = (struct token_slot){hash, id};
    index->count++;
  }
  *id_there = slot->id;
  return CLATTN_OK;
}

int32_t token_index_find(const token_index *index, const token_map *map,
                         const char *text, size_t bytes) {
  if (index->slots == NULL) return -1;
  return slot_of(index, map, text, bytes, hash_bytes(text, bytes))->id;
}

void token_index_free(token_index *index) {
  free(index->slots);
  *index = (token_index){0};
}
