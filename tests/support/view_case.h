/* view_case.h - attention whose every weight is known, as an open file. */
#ifndef TESTS_VIEW_CASE_H
#define TESTS_VIEW_CASE_H

#include "clattn_attention.h"

typedef struct view_case {
  clattn_attention_kind kind;
  int64_t layers, heads;
  int64_t n, m; /* rows, keys; m 0: as many */
  uint32_t has; /* bits 1 << CLATTN_ATTENTION_* of the file */
  int64_t top, map_block;
  int64_t window;
  const char *const *texts; /* [n or m, the larger]; NULL: "t0", "t1", ... */
  float bad; /* the weight of key 0 in row 0 of head 0.0, if not 0 */
} view_case;

/* The weight of a key in a row: softmax of a rule, over the keys that are seen. */
double view_case_weight(const view_case *c, int64_t layer, int64_t head,
                        int64_t row, int64_t key);
/* Whether a row sees a key. */
bool view_case_sees(const view_case *c, int64_t row, int64_t key);
/* clattn_attention_destroy is the caller's. */
clattn_attention *view_case_open(const view_case *c);

#endif
