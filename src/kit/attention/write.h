/* write.h - writes an attention file tensor after tensor, whoever computes them. */
#ifndef CLATTN_SRC_KIT_ATTENTION_WRITE_H
#define CLATTN_SRC_KIT_ATTENTION_WRITE_H

#include "format.h"

/* What an attention file begins with. */
typedef struct attention_head {
  const char *model;
  const char *text, *pair; /* NULL: none */
  size_t text_bytes, pair_bytes;
  const clattn_attention_part *parts; /* [n_parts] complete and checked */
  size_t n_parts;
} attention_head;

typedef struct attention_writer attention_writer;

/* parts and what they point to are borrowed until _destroy. */
clattn_status attention_writer_create(const char *path,
                                      const attention_head *head,
                                      attention_writer **writer);
/* Writes a tensor of a layer: float, TOP_KEYS int32_t. */
clattn_status attention_writer_put(attention_writer *writer, size_t part,
                                   int64_t layer,
                                   clattn_attention_tensor tensor,
                                   const void *values);
clattn_status attention_writer_finish(attention_writer *writer);
/* Without _finish before, nothing is left of the file. */
void attention_writer_destroy(attention_writer *writer);

#endif
