/* shim_gpt.c - a GPT of clattn_gpt.h in training, behind plain C calls for
 * bench/rivals.py. The conventions are those of shim.c. */
#include <stdlib.h>

#include "clattn_gpt.h"
#include "shim.h"

typedef struct shim_gpt {
  shim *s;
  clattn_gpt *gpt;
  clattn_gpt_trainer *trainer;
  int64_t batch, length;
} shim_gpt;

CLATTN_API int shim_gpt_new(shim *s, int64_t vocab, int64_t context,
                            int64_t layers, int64_t heads, int64_t embed,
                            int64_t batch, shim_gpt **made);
CLATTN_API int64_t shim_gpt_tensors(const shim_gpt *g);
/* Tensor i: its name, NULL past the last; values [elements]. */
CLATTN_API const char *shim_gpt_name(const shim_gpt *g, int64_t i);
CLATTN_API int shim_gpt_write(shim_gpt *g, int64_t i, const float *values);
/* One update from inputs and targets [batch, context]. */
CLATTN_API int shim_gpt_step(shim_gpt *g, const int32_t *inputs,
                             const int32_t *targets, float learning_rate,
                             float *loss, float *norm);
CLATTN_API void shim_gpt_free(shim_gpt *g);

int shim_gpt_new(shim *s, int64_t vocab, int64_t context, int64_t layers,
                 int64_t heads, int64_t embed, int64_t batch, shim_gpt **made) {
  shim_gpt *g = *made = calloc(1, sizeof *g);
  if (!g) return clattn_set_error(CLATTN_OUT_OF_MEMORY, "shim_gpt_new");
  g->s = s;
  g->batch = batch;
  g->length = context;
  clattn_gpt_config config;
  clattn_gpt_config_init(&config);
  config.vocab_size = vocab;
  config.context = context;
  config.layers = layers;
  config.heads = heads;
  config.embed_dim = embed;
  clattn_gpt_trainer_config training;
  clattn_gpt_trainer_config_init(&training);
  training.batch = batch;
  clattn_status status =
      clattn_gpt_create(s->context, s->device, s->queue, &config, 1, &g->gpt);
  if (!status)
    status =
        clattn_gpt_trainer_create(g->gpt, s->queue, &training, &g->trainer);
  if (status) {
    shim_gpt_free(g);
    *made = NULL;
  }
  return (int)status;
}

int64_t shim_gpt_tensors(const shim_gpt *g) {
  return (int64_t)clattn_gpt_tensor_count(g->gpt);
}

const char *shim_gpt_name(const shim_gpt *g, int64_t i) {
  clattn_gpt_tensor tensor;
  return clattn_gpt_tensor_at(g->gpt, (size_t)i, &tensor) ? NULL : tensor.name;
}

int shim_gpt_write(shim_gpt *g, int64_t i, const float *values) {
  return (int)clattn_gpt_tensor_write(g->gpt, g->s->queue, (size_t)i, values);
}

int shim_gpt_step(shim_gpt *g, const int32_t *inputs, const int32_t *targets,
                  float learning_rate, float *loss, float *norm) {
  clattn_status status = clattn_gpt_trainer_gradients(
      g->trainer, g->s->queue, inputs, targets, g->batch, g->length, loss);
  if (!status)
    status =
        clattn_gpt_trainer_update(g->trainer, g->s->queue, learning_rate, norm);
  if (!status) status = clattn_queue_finish(g->s->queue);
  return (int)status;
}

void shim_gpt_free(shim_gpt *g) {
  if (!g) return;
  clattn_gpt_trainer_destroy(g->trainer);
  clattn_gpt_destroy(g->gpt);
  free(g);
}
