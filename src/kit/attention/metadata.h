/* metadata.h - what an attention file says beside its numbers, as text. */
#ifndef CLATTN_SRC_KIT_ATTENTION_METADATA_H
#define CLATTN_SRC_KIT_ATTENTION_METADATA_H

#include "write.h"

typedef struct attention_metadata {
  clattn_kit_metadata *entries; /* [n] keys and texts to free() */
  size_t n, room;
} attention_metadata;

/* Of a file that is written. attention_metadata_free is due even on failure. */
clattn_status attention_metadata_make(const attention_head *head,
                                      attention_metadata *metadata);
void attention_metadata_free(attention_metadata *metadata);

#endif
