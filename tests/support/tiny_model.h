/* tiny_model.h - small checkpoints of random numbers, under Hugging Face's names:
 * a folder with config.json and model.safetensors. Aborts where that fails. */
#ifndef TINY_MODEL_H
#define TINY_MODEL_H

#include <stdint.h>

typedef struct tiny_model {
  int64_t vocab, positions, layers, heads, embed, hidden;
  uint64_t seed;
} tiny_model;

/* Into a folder that is there. */
void tiny_gpt2(const tiny_model *model, const char *folder);
/* With a pooler and two segments. */
void tiny_bert(const tiny_model *model, const char *folder);

#endif
