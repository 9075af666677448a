/* text.h - what the views of a terminal share. */
#ifndef CLATTN_SRC_VIEW_TEXT_H
#define CLATTN_SRC_VIEW_TEXT_H

#include "matrix.h"

typedef struct view_terminal {
  bool colors; /* 24-bit; else no escapes */
  clattn_kit_heatmap_style style;
  int columns;
  FILE *stream;
} view_terminal;

/* The caption and an empty line, cut to the width. matrix may be NULL. */
clattn_status view_text_caption(const view_selection *selection,
                                const view_matrix *matrix,
                                const view_terminal *terminal);
/* Blanks. */
void view_text_blanks(const view_terminal *terminal, int64_t n);
/* Sets the colour of a place from 0 to 1 as the text's (38) or the ground's (48);
 * nothing without colours. */
void view_text_color(const view_terminal *terminal, int layer, double place);
void view_text_plain(const view_terminal *terminal);

clattn_status view_text_head(const view_selection *selection,
                             const view_terminal *terminal);
clattn_status view_text_grid(const view_selection *selection,
                             const view_terminal *terminal);
clattn_status view_text_token(const view_selection *selection,
                              const view_terminal *terminal);
clattn_status view_text_table(const view_selection *selection,
                              const view_terminal *terminal);

#endif
