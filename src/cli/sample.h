/* sample.h - a token drawn from logits. */
#ifndef CLATTN_SRC_CLI_SAMPLE_H
#define CLATTN_SRC_CLI_SAMPLE_H

#include "cli.h"

typedef struct sampler {
  double temperature; /* 0: the largest */
  int64_t top_k;      /* of the k largest alone; 0: of all */
  double top_p;       /* of the fewest whose sum reaches p; 1: of all */
  clattn_kit_rng rng;
  struct sampler_entry *entries; /* [size] */
  int32_t size;
} sampler;

/* Room for that many tokens; false after a message. */
bool sampler_make(sampler *s, int32_t size);
void sampler_free(sampler *s);
/* A token's number; -1 where a logit is NaN or all are infinite. */
int32_t sampler_draw(sampler *s, const float *logits);

#endif
