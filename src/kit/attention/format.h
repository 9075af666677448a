/* format.h - attention files: what writer and reader share, each thing once.
 *
 * The format is described in clattn_attention.h. */
#ifndef CLATTN_SRC_KIT_ATTENTION_FORMAT_H
#define CLATTN_SRC_KIT_ATTENTION_FORMAT_H

#include "clattn_attention.h"
#include "kit/kit.h"

#define ATTENTION_FORMAT "clattn.attention 1"
#define ATTENTION_MAX_PARTS 64
#define ATTENTION_NAME_CHARS 64 /* of a part's name, at most */

/* Metadata of a file. */
#define KEY_FORMAT "format"
#define KEY_MODEL "model"
#define KEY_TEXT "text"
#define KEY_PAIR "pair"
#define KEY_PARTS "parts"
/* Of a part. */
#define KEY_KIND "kind"
#define KEY_CAUSAL "causal"
#define KEY_WINDOW "window"
#define KEY_LAYERS "layers"
#define KEY_HEADS "heads"
#define KEY_KV_HEADS "kv_heads"
#define KEY_HEAD_DIM "head_dim"
#define KEY_SCALE "scale"
#define KEY_TOP "top"
#define KEY_MAP_BLOCK "map_block"
/* Of the tokens of a part's rows; of its keys behind "key_". */
#define KEY_LENGTH "length"
#define KEY_TOKENS "tokens"
#define KEY_IDS "ids"
#define KEY_BEGINS "begins"
#define KEY_ENDS "ends"
#define KEY_SEGMENTS "segments"
#define KEY_ADDED "added"

#define ATTENTION_TRUE "true"
#define ATTENTION_FALSE "false"

/* What stands for a NUL in a token: U+2400, the picture of one. */
#define ATTENTION_NUL "\xe2\x90\x80"

/* Room for a part's name, "key_" and one of the names above; or for a part's
 * name, a tensor's and the number of a layer. */
#define ATTENTION_KEY_CHARS (ATTENTION_NAME_CHARS + 48)

enum { ATTENTION_ROWS = 0, ATTENTION_KEYS = 1 }; /* the sides of a part */

/* "P.key_ids" of a part P, the side KEYS and "ids". */
const char *attention_key(const clattn_attention_part *part, int side,
                          const char *name, char key[ATTENTION_KEY_CHARS]);
/* The tensor of a layer as the file has it: name (in `name`), type and shape,
 * without data. The part is complete: kv_heads and keys.n are what they stand
 * for. */
clattn_kit_tensor attention_tensor(const clattn_attention_part *part,
                                   int64_t layer,
                                   clattn_attention_tensor tensor,
                                   char name[ATTENTION_KEY_CHARS]);
/* Its name alone. */
const char *attention_tensor_key(const clattn_attention_part *part,
                                 int64_t layer, clattn_attention_tensor tensor,
                                 char name[ATTENTION_KEY_CHARS]);
/* "attention", "query", ... */
const char *attention_tensor_name(clattn_attention_tensor tensor);

/* Whether a part has it. */
static inline bool attention_has(const clattn_attention_part *part,
                                 clattn_attention_tensor tensor) {
  return (part->has >> tensor & 1u) != 0;
}

/* Replaces what 0 stands for: kv_heads, scale, keys.n. */
void attention_part_complete(clattn_attention_part *part);
/* INVALID_ARGUMENT unless a complete part's numbers, name and `has` fit each
 * other; the message names them behind `where`, as "parts[0].". Tokens are not
 * looked at but for their number. */
clattn_status attention_part_check(const clattn_attention_part *part,
                                   const char *where);
/* A name of a part: 1..ATTENTION_NAME_CHARS letters, digits, '_' and '-'. */
bool attention_name_valid(const char *name);

/* The keys that a row sees: [*first, *end), empty if it sees none. */
void attention_visible(const clattn_attention_part *part, int64_t row,
                       int64_t *first, int64_t *end);

#endif
