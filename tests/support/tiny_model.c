/* tiny_model.c - small checkpoints of random numbers. */
#include "tiny_model.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clattn_kit.h"
#include "harness.h"

enum { MOST_TENSORS = 256, NAME_BYTES = 96 };

typedef struct checkpoint {
  clattn_kit_tensor tensors[MOST_TENSORS]; /* [n] */
  char names[MOST_TENSORS][NAME_BYTES];
  size_t n;
  th_rng rng;
  th_pool pool;
} checkpoint;

/* A matrix [rows, cols], or a vector where cols is 0; round `middle`, and of a
 * size that keeps sums over rows or columns of order 1. */
static void add(checkpoint *c, int64_t rows, int64_t cols, double middle,
                const char *format, ...) {
  if (c->n == MOST_TENSORS) abort();
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(c->names[c->n], NAME_BYTES, format, arguments);
  va_end(arguments);
  const int64_t count = cols == 0 ? rows : rows * cols;
  const double size = cols == 0 ? 0.2 : 3 / sqrt((double)cols);
  float *values = th_alloc(&c->pool, (size_t)count * sizeof *values);
  for (int64_t i = 0; i < count; i++)
    values[i] = (float)(middle + th_uniform(&c->rng, -size, size));
  c->tensors[c->n] = (clattn_kit_tensor){.name = c->names[c->n],
                                         .dtype = CLATTN_KIT_F32,
                                         .rank = cols == 0 ? 1 : 2,
                                         .extent = {rows, cols},
                                         .data = values,
                                         .size_bytes = (size_t)count * 4};
  c->n++;
}

/* weight [rows, cols] and bias [outputs] of a linear layer. */
static void add_linear(checkpoint *c, int64_t rows, int64_t cols,
                       int64_t outputs, const char *prefix, const char *name) {
  add(c, rows, cols, 0, "%s%s.weight", prefix, name);
  add(c, outputs, 0, 0, "%s%s.bias", prefix, name);
}

static void add_norm(checkpoint *c, int64_t dim, const char *prefix,
                     const char *name) {
  add(c, dim, 0, 1, "%s%s.weight", prefix, name);
  add(c, dim, 0, 0, "%s%s.bias", prefix, name);
}

static void finish(checkpoint *c, const char *folder, const char *config) {
  char path[256];
  snprintf(path, sizeof path, "%s/model.safetensors", folder);
  TH_OK(clattn_kit_safetensors_write(path, c->tensors, c->n, NULL, 0));
  snprintf(path, sizeof path, "%s/config.json", folder);
  FILE *file = fopen(path, "w");
  if (file == NULL || fputs(config, file) < 0 || fclose(file) != 0) abort();
  th_pool_free(&c->pool);
  free(c);
}

static checkpoint *begin(const tiny_model *model) {
  checkpoint *c = calloc(1, sizeof *c);
  if (c == NULL) abort();
  c->rng.state = model->seed;
  return c;
}

void tiny_gpt2(const tiny_model *m, const char *folder) {
  checkpoint *c = begin(m);
  const int64_t e = m->embed, f = m->hidden;
  add(c, m->vocab, e, 0, "wte.weight");
  add(c, m->positions, e, 0, "wpe.weight");
  for (int64_t i = 0; i < m->layers; i++) { /* matrices are [in, out] */
    char prefix[32];
    snprintf(prefix, sizeof prefix, "h.%lld.", (long long)i);
    add_norm(c, e, prefix, "ln_1");
    add_linear(c, e, 3 * e, 3 * e, prefix, "attn.c_attn");
    add_linear(c, e, e, e, prefix, "attn.c_proj");
    add_norm(c, e, prefix, "ln_2");
    add_linear(c, e, f, f, prefix, "mlp.c_fc");
    add_linear(c, f, e, e, prefix, "mlp.c_proj");
  }
  add_norm(c, e, "", "ln_f");
  char config[512];
  snprintf(config, sizeof config,
           "{\"model_type\":\"gpt2\",\"vocab_size\":%lld,\"n_positions\":%lld,"
           "\"n_layer\":%lld,\"n_head\":%lld,\"n_embd\":%lld,\"n_inner\":%lld}",
           (long long)m->vocab, (long long)m->positions, (long long)m->layers,
           (long long)m->heads, (long long)e, (long long)f);
  finish(c, folder, config);
}

void tiny_bert(const tiny_model *m, const char *folder) {
  static const char *const parts[] = {"query", "key", "value"};
  checkpoint *c = begin(m);
  const int64_t e = m->embed, f = m->hidden;
  add(c, m->vocab, e, 0, "embeddings.word_embeddings.weight");
  add(c, m->positions, e, 0, "embeddings.position_embeddings.weight");
  add(c, 2, e, 0, "embeddings.token_type_embeddings.weight");
  add_norm(c, e, "embeddings.", "LayerNorm");
  for (int64_t i = 0; i < m->layers; i++) {
    char prefix[48], name[48];
    snprintf(prefix, sizeof prefix, "encoder.layer.%lld.", (long long)i);
    for (int p = 0; p < 3; p++) {
      snprintf(name, sizeof name, "attention.self.%s", parts[p]);
      add_linear(c, e, e, e, prefix, name);
    }
    add_linear(c, e, e, e, prefix, "attention.output.dense");
    add_norm(c, e, prefix, "attention.output.LayerNorm");
    add_linear(c, f, e, f, prefix, "intermediate.dense");
    add_linear(c, e, f, e, prefix, "output.dense");
    add_norm(c, e, prefix, "output.LayerNorm");
  }
  add_linear(c, e, e, e, "pooler.", "dense");
  char config[512];
  snprintf(config, sizeof config,
           "{\"model_type\":\"bert\",\"vocab_size\":%lld,"
           "\"max_position_embeddings\":%lld,\"num_hidden_layers\":%lld,"
           "\"num_attention_heads\":%lld,\"hidden_size\":%lld,"
           "\"intermediate_size\":%lld,\"type_vocab_size\":2,"
           "\"hidden_act\":\"gelu\"}",
           (long long)m->vocab, (long long)m->positions, (long long)m->layers,
           (long long)m->heads, (long long)e, (long long)f);
  finish(c, folder, config);
}
