/* weights.h - rows of a head's attention, and which of many to look at. */
#ifndef CLATTN_SRC_KIT_ATTENTION_WEIGHTS_H
#define CLATTN_SRC_KIT_ATTENTION_WEIGHTS_H

#include "read.h"

/* One head: its rows as recorded or, computed, its queries and, made ready once
 * for any number of rows, all its keys. */
typedef struct attention_weights {
  const clattn_attention_part *part;
  bool computed;
  clattn_kit_tensor rows; /* weights, or queries */
  int64_t first;          /* the head's first row of them */
  double *key;            /* [keys / 8, head_dim, 8] */
  double *scores;         /* [keys] */
  double *queries;        /* [head_dim] */
  float *numbers;         /* [head_dim] as the file has them */
} attention_weights;

/* _close is due either way. */
clattn_status attention_weights_open(const clattn_attention *attention,
                                     const clattn_attention_part *part,
                                     int64_t layer, int64_t head, bool computed,
                                     attention_weights *weights);
/* values [keys]; not two threads at once. */
clattn_status attention_weights_row(const attention_weights *weights,
                                    int64_t row, float *values);
void attention_weights_close(attention_weights *weights);

/* Rows of a head that are looked at: all, or one at a pseudo-random place in each
 * of as many shares. */
typedef struct attention_sample {
  int64_t rows, count;
} attention_sample;

/* As many rows as `work` allows, in multiply-adds of so many heads together; but
 * `least` of them, if there are so many. */
attention_sample attention_sample_rows(const clattn_attention_part *part,
                                       bool computed, double work,
                                       int64_t heads, int64_t least);
/* The i-th of them, rising. */
int64_t attention_sample_row(const attention_sample *sample, int64_t i);

/* clattn_attention_summarize with as many rows as `work`, in multiply-adds of all
 * layers, allows. */
clattn_status attention_summarize(const clattn_attention *attention,
                                  size_t part, int64_t layer, double work,
                                  clattn_attention_summary *summaries);

#endif
