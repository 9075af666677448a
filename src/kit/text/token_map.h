/* token_map.h - tokens by number and by their bytes. */
#ifndef CLATTN_SRC_KIT_TOKEN_MAP_H
#define CLATTN_SRC_KIT_TOKEN_MAP_H

#include "kit/kit.h"

/* Ids are less than this: a file cannot make memory of one number. */
#define TOKEN_LIMIT ((int32_t)1 << 24)

/* How much of a text a message shows: the precision of %.*s. */
static inline int kit_shown(size_t bytes) {
  return bytes > 80 ? 80 : (int)bytes;
}

typedef struct kit_bytes {
  const char *text; /* terminated; NULL: no such token */
  size_t bytes;
} kit_bytes;

/* Every token's bytes, by its id. Ids may have holes. */
typedef struct token_map {
  char *text; /* each token, terminated */
  size_t used, room;
  struct token_place {
    size_t at;
    uint32_t bytes;
    bool there, special;
  } * places; /* [size] */
  int32_t size, capacity;
} token_map;

/* Ids by bytes, of some or all tokens of a map. */
typedef struct token_index {
  struct token_slot {
    uint32_t hash;
    int32_t id; /* -1: empty */
  } * slots;    /* [mask + 1] */
  size_t mask;
  int32_t count;
} token_index;

/* INVALID_ARGUMENT: the id is out of range or taken. */
clattn_status token_map_add(token_map *map, int32_t id, const char *text,
                            size_t bytes);
kit_bytes token_map_at(const token_map *map, int32_t id);
void token_map_free(token_map *map);

/* Adds a token of the map unless its bytes are there already; *id_there is the
 * id that they have then. */
clattn_status token_index_add(token_index *index, const token_map *map,
                              int32_t id, int32_t *id_there);
/* -1: not there. */
int32_t token_index_find(const token_index *index, const token_map *map,
                         const char *text, size_t bytes);
void token_index_free(token_index *index);

#endif
