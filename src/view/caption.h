/* caption.h - what is shown, in words. */
#ifndef CLATTN_SRC_VIEW_CAPTION_H
#define CLATTN_SRC_VIEW_CAPTION_H

#include "matrix.h"

/* The title and, beneath, a line for what it would say if the caller had not given
 * one, one for the model and which tokens, and one for each reason why cells are
 * not single weights or colours not linear. */
enum { VIEW_CAPTION_LINES = 6 };

typedef struct view_caption {
  char *title, *detail;
  const char *lines[VIEW_CAPTION_LINES]; /* of detail */
  int n_lines;
} view_caption;

/* matrix may be NULL: there is none. */
clattn_status view_caption_create(const view_selection *selection,
                                  const view_matrix *matrix,
                                  view_caption *caption);
void view_caption_destroy(view_caption *caption);

#endif
