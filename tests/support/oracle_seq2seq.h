/* oracle_seq2seq.h - the encoder-decoder in double precision, one pair at a time
 * and without padding, as plain loops from the formulas of clattn_seq2seq.h. */
#ifndef ORACLE_SEQ2SEQ_H
#define ORACLE_SEQ2SEQ_H

#include <stddef.h>
#include <stdint.h>

typedef struct os2s_tensor {
  const char *name;
  double *values;
} os2s_tensor;

typedef struct os2s_model {
  int64_t V, E, H, L;
  int32_t begin, end;
  size_t count;
  os2s_tensor *tensors; /* [count], found by name */
} os2s_model;

/* log_probs [T+1,V]: of what follows begin and the first 0..T tokens of a target.
 * look >= 0: weights [H,T+1,S] of that decoder layer's cross-attention. */
void os2s_log_probs(const os2s_model *model, const int32_t *source, int64_t S,
                    const int32_t *target, int64_t T, double *log_probs,
                    int64_t look, double *weights);

/* The sum of the losses of a target's tokens and its end. */
double os2s_loss(const os2s_model *model, const int32_t *source, int64_t S,
                 const int32_t *target, int64_t T);

#endif /* ORACLE_SEQ2SEQ_H */
