/* replace.h - a file that is written beside its path, and takes its place when it
 * is whole: a reader sees the old file or the new one, never half of it. Beside
 * PATH it is PATH.PROCESS.N, with PATH's last name cut where that would be too long:
 * what a program that is interrupted leaves can be found by that.
 *
 * Compiled into each library that writes files: what one hides, another cannot
 * reach. */
#ifndef CLATTN_SRC_SHARED_REPLACE_H
#define CLATTN_SRC_SHARED_REPLACE_H

#include "clattn.h"

typedef struct clt_replacement {
  char *path, *temporary; /* temporary NULL: none is there any more */
  int fd;                 /* to write to; -1: closed */
  bool keeps_mode;        /* path is a file already, and its mode stays */
  unsigned mode;
} clt_replacement;

/* IO_ERROR: the folder is not there, say, or path is no regular file: a device, a
 * pipe or a link is not replaced. clt_replace_free is due either way. */
clattn_status clt_replace_begin(const char *path, clt_replacement *file);
/* Writes at a place, whatever the system takes at a time. */
clattn_status clt_replace_put(clt_replacement *file, const void *data,
                              size_t size_bytes, int64_t place);
/* Brings what was written to disk and gives it its name. */
clattn_status clt_replace_commit(clt_replacement *file);
/* Removes what was not committed. All zeros are fine. */
void clt_replace_free(clt_replacement *file);

#endif
