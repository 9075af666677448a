/* wellformed.h - a text made UTF-8, and where its bytes were before. */
#ifndef CLATTN_SRC_KIT_WELLFORMED_H
#define CLATTN_SRC_KIT_WELLFORMED_H

#include "clattn_text.h"

/* A place where U+FFFD stands for what was there. */
typedef struct replacement {
  size_t at;        /* byte of the new text          */
  int64_t from, to; /* bytes of the old one          */
} replacement;

typedef struct wellformed {
  const char *text; /* the caller's, or `made` */
  size_t bytes;
  char *made;
  replacement *places; /* [n] */
  size_t n, room;
} wellformed;

/* Borrows text where it is UTF-8 or raw is set. The message names `name`. */
clattn_status wellformed_make(wellformed *to, const char *name,
                              const char *text, size_t bytes,
                              clattn_invalid invalid, bool raw);
/* From bytes of the new text to those of the old. */
void wellformed_place(const wellformed *from, int64_t *begin, int64_t *end);
void wellformed_free(wellformed *of);

#endif
