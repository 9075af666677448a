/* select.h - what is looked at: options checked against the data. */
#ifndef CLATTN_SRC_VIEW_SELECT_H
#define CLATTN_SRC_VIEW_SELECT_H

#include "view.h"

/* Options with everything decided. */
typedef struct view_selection {
  const clattn_attention *attention;
  clattn_attention_part part;
  size_t index; /* of the part */
  clattn_view_kind kind;
  int64_t layer, head; /* head -1: the mean of all */
  int64_t row;
  int64_t first, tokens; /* tokens 0: as many as fit */
  bool by_row;
  bool root;         /* colours by the square root of weights */
  const char *title; /* NULL: says what is shown */
} view_selection;

/* options NULL: all defaults. */
clattn_status view_select(const clattn_attention *attention,
                          const clattn_view_options *options,
                          view_selection *selection);

#endif
