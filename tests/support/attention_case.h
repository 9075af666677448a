/* attention_case.h - a file of attention with three parts, and every number of it
 * computed from its place. For tests that are built with the kit, so all of it is
 * here. */
#ifndef ATTENTION_CASE_H
#define ATTENTION_CASE_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "clattn_attention.h"
#include "harness.h"

enum {
  AC_PARTS = 3,
  AC_MAX_LAYERS = 3,
  AC_MOST = 8 * 16 * 16, /* numbers of a tensor */
  AC_EVERYTHING = (1 << CLATTN_ATTENTION_TENSORS) - 1
};

#define AC_TEXT "The quick brown fox"
#define AC_PAIR "</script> \xe2\x82\xac"

static const char *const ac_rows[] = {"[CLS]", "The", " quick", "</script>",
                                      "\xe2\x82\xac\n"};
static const char *const ac_keys[] = {"a", "", "\"\\", " ", "##d", "e", "f"};
static const int32_t ac_ids[] = {7, -1, INT32_MAX, 0, 3};
static const int64_t ac_begins[] = {0, 0, 3, 0, 9},
                     ac_ends[] = {0, 3, 9, 9, 13};
static const uint8_t ac_segments[] = {0, 0, 0, 1, 1},
                     ac_added[] = {1, 0, 0, 0, 0};

/* The path of a new file's place, in a folder that goes with ac_clean. */
static inline void ac_path(char path[64]) {
  strcpy(path, "/tmp/clattn-arrays-XXXXXX");
  cr_assert(mkdtemp(path));
  strcat(path, "/file");
}

static inline void ac_clean(char path[64]) {
  unlink(path);
  *strrchr(path, '/') = '\0';
  cr_expect_eq(rmdir(path), 0, "%s is not empty", path);
}

/* A causal part with a window and grouped queries, one that is not causal and says
 * little of its tokens, and one of other keys, fewer than rows for which the rule
 * leaves the first rows without any. */
static inline void ac_parts(clattn_attention_part parts[AC_PARTS]) {
  for (int i = 0; i < AC_PARTS; i++) clattn_attention_part_init(&parts[i]);
  parts[0].name = "decoder-1";
  parts[0].kind = CLATTN_ATTENTION_DECODER;
  parts[0].causal = true;
  parts[0].window = 3;
  parts[0].layers = 3;
  parts[0].heads = 6;
  parts[0].kv_heads = 2;
  parts[0].head_dim = 4;
  parts[0].scale = 0.75;
  parts[0].rows = (clattn_attention_tokens){
      5, ac_rows, ac_ids, ac_begins, ac_ends, ac_segments, ac_added};
  parts[0].has = AC_EVERYTHING;
  parts[0].top = 2;
  parts[0].map_block = 2;
  parts[1].name = "b_2";
  parts[1].layers = 1;
  parts[1].heads = 2;
  parts[1].head_dim = 3;
  parts[1].rows = (clattn_attention_tokens){.n = 7, .texts = ac_keys};
  parts[1].has = 1 << CLATTN_ATTENTION_QUERY | 1 << CLATTN_ATTENTION_KEY | 1;
  parts[1].dtype = CLATTN_F16;
  parts[2].name = "cross";
  parts[2].kind = CLATTN_ATTENTION_CROSS;
  parts[2].causal = true;
  parts[2].layers = 2;
  parts[2].heads = 3;
  parts[2].head_dim = 2;
  parts[2].rows = parts[1].rows;
  parts[2].keys = parts[0].rows;
  parts[2].has = 1 << CLATTN_ATTENTION_QUERY | 1 << CLATTN_ATTENTION_KEY;
}

static inline int64_t ac_kv_heads(const clattn_attention_part *p) {
  return p->kv_heads ? p->kv_heads : p->heads;
}

static inline int64_t ac_m(const clattn_attention_part *p) {
  return p->keys.n ? p->keys.n : p->rows.n;
}

static inline double ac_scale(const clattn_attention_part *p) {
  return p->scale != 0 ? p->scale : 1 / sqrt((double)p->head_dim);
}

static inline int64_t ac_count(const clattn_attention_part *p,
                               clattn_attention_tensor tensor) {
  const int64_t n = p->rows.n, m = ac_m(p), block = p->map_block;
  switch (tensor) {
    case CLATTN_ATTENTION_WEIGHTS:
      return p->heads * n * m;
    case CLATTN_ATTENTION_QUERY:
      return p->heads * n * p->head_dim;
    case CLATTN_ATTENTION_KEY:
      return ac_kv_heads(p) * m * p->head_dim;
    case CLATTN_ATTENTION_TOP_KEYS:
    case CLATTN_ATTENTION_TOP_WEIGHTS:
      return p->heads * n * p->top;
    case CLATTN_ATTENTION_MAP:
      return p->heads * ((n + block - 1) / block) * ((m + block - 1) / block);
    default:
      return p->heads * n;
  }
}

/* Number i of queries or keys, in [-1, 1]. */
static inline double ac_number(size_t part, int64_t layer, int which,
                               int64_t i) {
  th_rng rng = {((uint64_t)part * 16 + (uint64_t)layer) * 16 + (uint64_t)which +
                (uint64_t)i * 977};
  return (double)(float)th_uniform(&rng, -1, 1);
}

/* Weights of a row [m] from the same numbers, in double: the softmax over the keys
 * that the file's rules let it see. */
static inline void ac_row(const clattn_attention_part *p, size_t part,
                          int64_t layer, int64_t head, int64_t i, double *row) {
  const int64_t D = p->head_dim, m = ac_m(p), own = i + m - p->rows.n;
  const int64_t g = head / (p->heads / ac_kv_heads(p));
  double sum = 0;
  for (int64_t j = 0; j < m; j++) {
    double score = 0;
    for (int64_t d = 0; d < D; d++)
      score +=
          ac_number(part, layer, CLATTN_ATTENTION_QUERY,
                    (head * p->rows.n + i) * D + d) *
          ac_number(part, layer, CLATTN_ATTENTION_KEY, (g * m + j) * D + d);
    const bool seen =
        (!p->causal || j <= own) && (p->window == 0 || j > own - p->window);
    sum += row[j] = seen ? exp(score * ac_scale(p)) : 0;
  }
  for (int64_t j = 0; j < m && sum > 0; j++) row[j] /= sum;
}

/* The source: weights that queries and keys give; of the rest its place. */
static inline clattn_status ac_source(void *user, size_t part, int64_t layer,
                                      clattn_attention_tensor tensor,
                                      void *values) {
  const clattn_attention_part *p = (clattn_attention_part *)user + part;
  const int64_t n = ac_count(p, tensor), m = ac_m(p);
  double row[16];
  for (int64_t i = 0; i < n; i++) {
    if (tensor == CLATTN_ATTENTION_WEIGHTS) {
      if (i % m == 0)
        ac_row(p, part, layer, i / m / p->rows.n, i / m % p->rows.n, row);
      ((float *)values)[i] = (float)row[i % m];
    } else if (tensor == CLATTN_ATTENTION_TOP_KEYS) {
      ((int32_t *)values)[i] = (int32_t)(i % (m + 1)) - 1;
    } else {
      ((float *)values)[i] = (float)ac_number(part, layer, tensor, i);
    }
  }
  return CLATTN_OK;
}

static inline clattn_status ac_write(const char *path,
                                     clattn_attention_part *parts,
                                     size_t n_parts) {
  return clattn_attention_write(path, "a model", AC_TEXT, AC_PAIR, parts,
                                n_parts, ac_source, parts);
}

#endif /* ATTENTION_CASE_H */
