/* axis.h - one side of a matrix: tokens or blocks of tokens, with labels. */
#ifndef CLATTN_SRC_VIEW_AXIS_H
#define CLATTN_SRC_VIEW_AXIS_H

#include "view.h"

/* One side of a matrix: cells of `block` tokens each. The last may have fewer. */
typedef struct view_axis {
  int64_t first, tokens, block;
  int64_t n;           /* cells: ceil(tokens / block) */
  const char **labels; /* [n]; a block: its first and its last token */
  char *bytes;         /* of the labels */
} view_axis;

/* The tokens of cell `cell`. */
int64_t view_axis_begin(const view_axis *axis, int64_t cell);
int64_t view_axis_end(const view_axis *axis, int64_t cell);
/* count, block >= 1. */
clattn_status view_axis_create(const clattn_attention_tokens *tokens,
                               int64_t first, int64_t count, int64_t block,
                               view_axis *axis);
void view_axis_destroy(view_axis *axis);

#endif
