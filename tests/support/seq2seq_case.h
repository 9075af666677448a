/* seq2seq_case.h - a small encoder-decoder, and the same in double precision. For
 * tests that are built with the kit, so all of it is here. */
#ifndef SEQ2SEQ_CASE_H
#define SEQ2SEQ_CASE_H

#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "clattn_seq2seq.h"
#include "harness.h"
#include "oracle_seq2seq.h"

enum { S2S_VOCAB = 9 };

typedef struct s2s_case {
  const th_device *device;
  clattn_seq2seq *model;
  os2s_model oracle; /* with the model's tensors, as they were when made */
} s2s_case;

#define S2S_FOR_DEVICES(device)                                                \
  for (const th_device *device = th_open(false)->device,                       \
                       *end_ = device + th_open(false)->count;                 \
       device < end_; device++)

static inline clattn_seq2seq_config s2s_tiny(void) {
  clattn_seq2seq_config config;
  clattn_seq2seq_config_init(&config);
  config.vocab_size = S2S_VOCAB;
  config.max_source = 9;
  config.max_target = 7;
  config.layers = 2;
  config.heads = 2;
  config.embed_dim = 8;
  return config;
}

static inline int64_t s2s_elements(const clattn_seq2seq *model, size_t i) {
  clattn_gpt_tensor t;
  TH_OK(clattn_seq2seq_tensor_at(model, i, &t));
  return t.extent[0] * (t.rank == 2 ? t.extent[1] : 1);
}

static inline size_t s2s_find(const s2s_case *c, const char *name) {
  for (size_t i = 0; i < clattn_seq2seq_tensor_count(c->model); i++) {
    clattn_gpt_tensor t;
    TH_OK(clattn_seq2seq_tensor_at(c->model, i, &t));
    if (strcmp(t.name, name) == 0) return i;
  }
  cr_assert(false, "the model has no tensor %s", name);
  return 0;
}

/* As training begins; without an oracle. */
static inline s2s_case s2s_fresh(const th_device *device,
                                 const clattn_seq2seq_config *config) {
  s2s_case c = {.device = device};
  TH_OK(clattn_seq2seq_create(device->context, device->index, device->queue,
                              config, 7, &c.model));
  return c;
}

/* Reads the model's tensors into the oracle. */
static inline void s2s_read_oracle(s2s_case *c) {
  clattn_seq2seq_config config;
  TH_OK(clattn_seq2seq_get_config(c->model, &config));
  os2s_model *o = &c->oracle;
  *o = (os2s_model){.V = config.vocab_size,
                    .E = config.embed_dim,
                    .H = config.heads,
                    .L = config.layers,
                    .begin = config.begin,
                    .end = config.end,
                    .count = clattn_seq2seq_tensor_count(c->model)};
  o->tensors = calloc(o->count, sizeof *o->tensors);
  for (size_t i = 0; i < o->count; i++) {
    clattn_gpt_tensor t;
    TH_OK(clattn_seq2seq_tensor_at(c->model, i, &t));
    const size_t n = (size_t)s2s_elements(c->model, i);
    float *values = malloc(n * sizeof *values);
    o->tensors[i] = (os2s_tensor){t.name, malloc(n * sizeof(double))};
    TH_OK(clattn_seq2seq_tensor_read(c->model, c->device->queue, i, values));
    for (size_t j = 0; j < n; j++) o->tensors[i].values[j] = (double)values[j];
    free(values);
  }
}

/* Larger weights than at the start, and biases that are not 0: else most gradients
 * would be too small to tell. config NULL: s2s_tiny. */
static inline s2s_case s2s_make(const th_device *device,
                                const clattn_seq2seq_config *config) {
  const clattn_seq2seq_config tiny = s2s_tiny();
  s2s_case c = s2s_fresh(device, config == NULL ? &tiny : config);
  th_rng rng = {5};
  for (size_t i = 0; i < clattn_seq2seq_tensor_count(c.model); i++) {
    const size_t n = (size_t)s2s_elements(c.model, i);
    float *values = malloc(n * sizeof *values);
    TH_OK(clattn_seq2seq_tensor_read(c.model, device->queue, i, values));
    for (size_t j = 0; j < n; j++)
      values[j] += (float)th_uniform(&rng, -0.5, 0.5);
    TH_OK(clattn_seq2seq_tensor_write(c.model, device->queue, i, values));
    free(values);
  }
  s2s_read_oracle(&c);
  return c;
}

static inline void s2s_free(s2s_case *c) {
  for (size_t i = 0; i < c->oracle.count; i++)
    free(c->oracle.tensors[i].values);
  free(c->oracle.tensors);
  clattn_seq2seq_destroy(c->model);
}

static inline clattn_seq2seq_trainer *s2s_trainer(const s2s_case *c,
                                                  int64_t batch) {
  clattn_seq2seq_trainer_config config;
  clattn_seq2seq_trainer_config_init(&config);
  config.batch = batch;
  clattn_seq2seq_trainer *trainer = NULL;
  TH_OK(clattn_seq2seq_trainer_create(c->model, c->device->queue, &config,
                                      &trainer));
  return trainer;
}

static inline bool s2s_same_values(const s2s_case *a, const s2s_case *b) {
  bool same = true;
  for (size_t i = 0; i < clattn_seq2seq_tensor_count(a->model); i++) {
    const size_t n = (size_t)s2s_elements(a->model, i);
    float *x = malloc(n * sizeof *x), *y = malloc(n * sizeof *y);
    TH_OK(clattn_seq2seq_tensor_read(a->model, a->device->queue, i, x));
    TH_OK(clattn_seq2seq_tensor_read(b->model, b->device->queue, i, y));
    same = same && memcmp(x, y, n * sizeof *x) == 0;
    free(x);
    free(y);
  }
  return same;
}

#endif /* SEQ2SEQ_CASE_H */
