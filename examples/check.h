/* check.h - what the examples do about errors. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>

#include "clattn.h"

/* Ends the program with the library's message unless the call succeeds. */
#define CHECK(call)                                                            \
  do {                                                                         \
    clattn_status status_ = (call);                                            \
    if (status_ != CLATTN_OK) {                                                \
      fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__,                   \
              clattn_status_name(status_), clattn_error_message());            \
      exit(1);                                                                 \
    }                                                                          \
  } while (0)

/* Numbers in [-1, 1), the same in every run. */
static inline void fill(float *x, size_t n, unsigned seed) {
  for (size_t i = 0; i < n; i++) {
    seed = seed * 1664525u + 1013904223u;
    x[i] = (float)(seed >> 8) / (float)(1 << 23) - 1;
  }
}

#endif /* CHECK_H */
