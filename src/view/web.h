/* web.h - the parts of the page, embedded when the library is built. */
#ifndef CLATTN_SRC_VIEW_WEB_H
#define CLATTN_SRC_VIEW_WEB_H

#include <stddef.h>

typedef struct view_web_file {
  const char *name; /* as in src/view/web/ */
  const unsigned char *bytes;
  size_t n;
} view_web_file;

/* The end is an entry without a name. */
extern const view_web_file view_web_files[];

#endif
