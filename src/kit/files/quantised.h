/* quantised.h - element types of checkpoints, those of GGUF's blocks included. */
#ifndef CLATTN_SRC_KIT_QUANTISED_H
#define CLATTN_SRC_KIT_QUANTISED_H

#include "kit/kit.h"

/* A type is made of blocks, which are decoded as a whole. */
typedef struct kit_block {
  const char *name;
  int elements; /* of a block; 1 for plain types                           */
  size_t bytes; /* of a block; 0: known by name alone                      */
  /* values [elements] of the block at any alignment. NULL: plain F32,
   * F16, BF16, or not read. */
  void (*decode)(const unsigned char *block, float *values);
} kit_block;

/* By the number that GGUF files use. Never NULL: bytes is 0 for unknown ones. */
const kit_block *kit_block_of_ggml(uint32_t type);
/* By name; NULL: not known. */
const kit_block *kit_block_named(const char *name);

bool kit_block_is_read(const kit_block *block);
/* Of a type that is read: elements numbers, a whole number of blocks, as dtype F32, F16 or BF16. */
clattn_status kit_decode(const kit_block *block, const void *data,
                         int64_t elements, clattn_dtype dtype, void *values);

#endif
