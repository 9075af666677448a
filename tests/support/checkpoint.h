/* checkpoint.h - small random models: as files that the world writes, and as
 * arrays for the oracle. */
#ifndef CHECKPOINT_H
#define CHECKPOINT_H

#include "clattn_kit.h"
#include "harness.h"
#include "oracle_model.h"

typedef struct checkpoint_tensor {
  char name[96];
  int rows, cols; /* as in the file; cols 0: a vector */
  float *values;
} checkpoint_tensor;

enum { CHECKPOINT_TENSORS = 96 };

typedef struct checkpoint {
  th_pool pool;
  ora_model model;
  char folder[40];   /* with config.json and model.safetensors, or model.gguf */
  char config[1024]; /* the text of config.json */
  checkpoint_tensor tensor[CHECKPOINT_TENSORS];
  int count;
} checkpoint;

typedef struct checkpoint_kind {
  const char *name;
  ora_family family;
  const char *prefix; /* of the names */
  bool once;          /* BERT: gamma and beta, as in old files */
  bool untied;        /* a head of its own */
  bool biased;        /* LLAMA: biases everywhere */
  bool gguf;          /* LLAMA: rows of queries and keys in pairs */
  int window;         /* LLAMA: as Mistral has it; 0: none */
  double factor;      /* LLAMA: positions are divided by it; 0: none */
  int padding;        /* BERT: as RoBERTa, the place of the padding; 0: none */
} checkpoint_kind;

/* Draws the model and writes it into a folder of its own. */
void checkpoint_make(checkpoint *c, const checkpoint_kind *kind, uint64_t seed);
/* Writes the files anew, after a change of tensors or config. */
void checkpoint_write(const checkpoint *c);
checkpoint_tensor *checkpoint_find(checkpoint *c, const char *name);
/* The oracle's matrices as the device has them, of that type. */
void checkpoint_round(checkpoint *c, clattn_dtype dtype);
/* Removes the files. */
void checkpoint_free(checkpoint *c);

#endif /* CHECKPOINT_H */
