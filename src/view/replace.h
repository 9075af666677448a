/* replace.h - a file that is written beside its path, and takes its place when it
 * is whole: a reader sees the old file or the new one. */
#ifndef CLATTN_SRC_VIEW_REPLACE_H
#define CLATTN_SRC_VIEW_REPLACE_H

#include "shared/replace.h"
#include "view.h"

typedef struct view_replacement {
  const char *path; /* borrowed */
  clt_replacement file;
  FILE *stream; /* to write to */
  int why;      /* errno of a write that failed, if the writer noted it */
} view_replacement;

/* IO_ERROR: the folder is not there, say. */
clattn_status view_replace_begin(const char *path, view_replacement *file);
/* Closes and renames what was written, if status is OK, and removes it otherwise
 * or if that fails. Returns status, or IO_ERROR. */
clattn_status view_replace_end(view_replacement *file, clattn_status status);

#endif
