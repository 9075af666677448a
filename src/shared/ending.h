/* ending.h - what the ending of a file's name says, whatever its case. */
#ifndef CLATTN_SRC_SHARED_ENDING_H
#define CLATTN_SRC_SHARED_ENDING_H

#include <stdbool.h>
#include <string.h>

/* ending: in small letters of ASCII, ".svg". Of a locale nothing depends. */
static inline bool clt_ends_in(const char *path, const char *ending) {
  const size_t n = strlen(path), end = strlen(ending);
  if (n < end) return false;
  for (size_t i = 0; i < end; i++) {
    const char c = path[n - end + i];
    if ((c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c) != ending[i]) return false;
  }
  return true;
}

#endif
