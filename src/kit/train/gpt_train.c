/* gpt_train.c - gradients, AdamW, and all the memory they take. */
#include <math.h>
#include <stdlib.h>

#include "gpt.h"

struct clattn_gpt_trainer {
  clattn_gpt *gpt;
  clattn_gpt_trainer_config config;
  kit_pass *pass;
  kit_grads grads; /* into the optimizer's */
  kit_optimizer optimizer;
  bool empty;    /* no gradients since the last update */
  int64_t calls; /* of _gradients: dropout draws by it */
};

void clattn_gpt_trainer_config_init(clattn_gpt_trainer_config *config) {
  if (config == NULL) return;
  *config = (clattn_gpt_trainer_config){.struct_size = sizeof *config,
                                        .batch = 8,
                                        .micro = 1,
                                        .beta1 = 0.9f,
                                        .beta2 = 0.99f,
                                        .eps = 1e-8f,
                                        .weight_decay = 0.1f,
                                        .clip = 1};
}

static clattn_status make(clattn_gpt_trainer *made, clattn_queue *queue) {
  const kit_stack *stack = &made->gpt->stack;
  const clattn_gpt_trainer_config *c = &made->config;
  const kit_pass_config pass = {
      .batch = c->batch, .length = c->length, .backward = true, .look = -1};
  KIT_TRY(kit_pass_create(stack, &pass, &made->pass));
  KIT_TRY(kit_optimizer_make(&made->optimizer, queue));
  made->grads.params = made->optimizer.grads;
  return kit_grads_make(&made->grads, stack->params, c->batch * c->length,
                        stack->embed_dim);
}

clattn_status clattn_gpt_trainer_create(clattn_gpt *gpt, clattn_queue *queue,
                                        const clattn_gpt_trainer_config *config,
                                        clattn_gpt_trainer **trainer) {
  KIT_REQUIRE(trainer != NULL, "trainer: got NULL, want a place");
  *trainer = NULL;
  KIT_REQUIRE(gpt != NULL, "gpt: got NULL, want a model");
  KIT_REQUIRE(queue != NULL, "queue: got NULL, want a queue");
  KIT_REQUIRE_STRUCT(config, clattn_gpt_trainer_config);
  KIT_REQUIRE(config->micro >= 1, "config->micro: got %lld, want >= 1",
              (long long)config->micro);
  const kit_optimizer optimizer = {.params = &gpt->params,
                                   .beta1 = config->beta1,
                                   .beta2 = config->beta2,
                                   .eps = config->eps,
                                   .weight_decay = config->weight_decay,
                                   .clip = config->clip};
  KIT_TRY(kit_optimizer_check(&optimizer));
  clattn_gpt_trainer *made = calloc(1, sizeof *made);
  if (made == NULL) return KIT_OUT_OF_MEMORY("trainer");
  made->gpt = gpt;
  gpt->users++;
  made->config = *config;
  made->optimizer = optimizer;
  made->empty = true;
  if (made->config.length == 0) made->config.length = gpt->config.context;
  const clattn_status status = make(made, queue);
  if (status != CLATTN_OK) {
    clattn_gpt_trainer_destroy(made);
    return status;
  }
  *trainer = made;
  return CLATTN_OK;
}

void clattn_gpt_trainer_destroy(clattn_gpt_trainer *trainer) {
  if (trainer == NULL) return;
  kit_pass_destroy(trainer->pass);
  kit_grads_free(&trainer->grads);
  kit_optimizer_free(&trainer->optimizer);
  clattn_gpt_destroy(trainer->gpt);
  free(trainer);
}

/* ---- a step -------------------------------------------------------------- */

static clattn_status not_finite(const clattn_gpt_trainer *trainer,
                                clattn_queue *queue, const clattn_buffer *grads,
                                int64_t step, const char *what, float value) {
  const kit_pass *const pass = trainer->pass;
  return kit_not_finite(&pass, 1, queue, grads, step, what, value);
}

/* Forward of the call that was begun, and its mean loss. */
static clattn_status forward(clattn_gpt_trainer *trainer, clattn_queue *queue,
                             float *loss) {
  kit_pass *pass = trainer->pass;
  KIT_TRY(kit_pass_layers(pass, queue, trainer->gpt->config.layers));
  KIT_TRY(kit_pass_last(pass, queue));
  KIT_TRY(kit_pass_loss(pass, queue));
  KIT_TRY(clattn_buffer_read(queue, pass->mean, 0, loss, sizeof *loss));
  if (isfinite(*loss)) return CLATTN_OK;
  return not_finite(trainer, queue, NULL, trainer->optimizer.step + 1, "loss",
                    *loss);
}

clattn_status clattn_gpt_trainer_gradients(
    clattn_gpt_trainer *trainer, clattn_queue *queue, const int32_t *inputs,
    const int32_t *targets, int64_t batch, int64_t length, float *loss) {
  KIT_REQUIRE(trainer != NULL, "trainer: got NULL, want a trainer");
  KIT_REQUIRE(targets != NULL, "targets: got NULL, want numbers");
  const clattn_gpt *gpt = trainer->gpt;
  kit_pass *pass = trainer->pass;
  KIT_TRY(kit_pass_begin(pass, queue, inputs, targets, batch, length));
  pass->dropout = gpt->config.dropout;
  pass->dropout_seed = trainer->config.dropout_seed;
  pass->dropout_offset =
      (uint64_t)trainer->calls * (uint64_t)kit_pass_draws(&gpt->stack);
  float mean;
  const clattn_status status = forward(trainer, queue, &mean);
  if (status != CLATTN_OK) {
    trainer->empty = true;
    return status;
  }
  if (trainer->empty) {
    KIT_TRY(kit_optimizer_clear(&trainer->optimizer, queue));
    trainer->empty = false;
  }
  KIT_TRY(kit_pass_backward(pass, queue, 1 / (float)trainer->config.micro,
                            &trainer->grads, NULL));
  trainer->calls++;
  if (loss != NULL) *loss = mean;
  return CLATTN_OK;
}

clattn_status clattn_gpt_trainer_loss(clattn_gpt_trainer *trainer,
                                      clattn_queue *queue,
                                      const int32_t *inputs,
                                      const int32_t *targets, int64_t batch,
                                      int64_t length, float *loss) {
  KIT_REQUIRE(trainer != NULL, "trainer: got NULL, want a trainer");
  KIT_REQUIRE(targets != NULL && loss != NULL,
              "targets: got NULL, want numbers, and a place for the loss");
  KIT_TRY(kit_pass_begin(trainer->pass, queue, inputs, targets, batch, length));
  float mean;
  KIT_TRY(forward(trainer, queue, &mean));
  *loss = mean;
  return CLATTN_OK;
}

clattn_status clattn_gpt_trainer_update(clattn_gpt_trainer *trainer,
                                        clattn_queue *queue,
                                        float learning_rate, float *norm) {
  KIT_REQUIRE(trainer != NULL, "trainer: got NULL, want a trainer");
  KIT_REQUIRE(!trainer->empty,
              "trainer: has no gradients, want clattn_gpt_trainer_gradients "
              "before");
  KIT_REQUIRE(isfinite(learning_rate) && learning_rate >= 0,
              "learning_rate: got %g, want >= 0", (double)learning_rate);
  kit_optimizer *optimizer = &trainer->optimizer;
  float length;
  KIT_TRY(kit_optimizer_norm(optimizer, queue, optimizer->grads, &length));
  trainer->empty = true;
  if (!isfinite(length))
    return not_finite(trainer, queue, optimizer->grads, optimizer->step + 1,
                      "norm of the gradients", length);
  KIT_TRY(kit_optimizer_update(optimizer, queue, learning_rate));
  if (norm != NULL) *norm = length;
  return CLATTN_OK;
}

clattn_status clattn_gpt_trainer_gradient(const clattn_gpt_trainer *trainer,
                                          clattn_queue *queue, size_t i,
                                          float *values) {
  KIT_REQUIRE(trainer != NULL, "trainer: got NULL, want a trainer");
  return kit_params_read(&trainer->gpt->params, queue, trainer->optimizer.grads,
                         i, values);
}

int64_t clattn_gpt_trainer_step(const clattn_gpt_trainer *trainer) {
  return trainer == NULL ? 0 : trainer->optimizer.step;
}

/* What a diverging run leaves must not replace what a good one did. */
static clattn_status check_parameters(const clattn_gpt_trainer *trainer,
                                      clattn_queue *queue) {
  const kit_optimizer *optimizer = &trainer->optimizer;
  float length;
  KIT_TRY(kit_optimizer_norm(optimizer, queue, trainer->gpt->params.values,
                             &length));
  if (isfinite(length)) return CLATTN_OK;
  return not_finite(trainer, queue, optimizer->grads, optimizer->step,
                    "norm of the parameters", length);
}

/* ---- state --------------------------------------------------------------- */

static const char m_prefix[] = "adam.m.", v_prefix[] = "adam.v.";

clattn_status clattn_gpt_trainer_save(const clattn_gpt_trainer *trainer,
                                      clattn_queue *queue, const char *path,
                                      const clattn_kit_tensor *more,
                                      size_t n_more,
                                      const clattn_kit_metadata *metadata,
                                      size_t n_metadata) {
  KIT_REQUIRE(trainer != NULL, "trainer: got NULL, want a trainer");
  KIT_REQUIRE(trainer->empty,
              "trainer: holds gradients, want clattn_gpt_trainer_update first");
  KIT_REQUIRE(metadata != NULL || n_metadata == 0,
              "metadata: got NULL, want %zu", n_metadata);
  KIT_TRY(check_parameters(trainer, queue));
  const kit_optimizer *optimizer = &trainer->optimizer;
  const kit_params_part parts[] = {
      {"", trainer->gpt->params.values, CLATTN_F32},
      {m_prefix, optimizer->m, CLATTN_F32},
      {v_prefix, optimizer->v, CLATTN_F32}};
  char step[24], calls[24];
  snprintf(step, sizeof step, "%lld", (long long)optimizer->step);
  snprintf(calls, sizeof calls, "%lld", (long long)trainer->calls);
  clattn_kit_metadata *all = calloc(n_metadata + 2, sizeof *all);
  if (all == NULL) return KIT_OUT_OF_MEMORY("gpt");
  all[0] = (clattn_kit_metadata){"gpt.step", step};
  all[1] = (clattn_kit_metadata){"gpt.calls", calls};
  for (size_t i = 0; i < n_metadata; i++) all[2 + i] = metadata[i];
  const kit_file_more besides = {more, n_more, all, n_metadata + 2};
  const clattn_status status =
      gpt_file_write(trainer->gpt, queue, path, parts, 3, &besides);
  free(all);
  return status;
}

clattn_status clattn_gpt_trainer_load(clattn_gpt_trainer *trainer,
                                      clattn_queue *queue,
                                      const clattn_kit_safetensors *file) {
  KIT_REQUIRE(trainer != NULL, "trainer: got NULL, want a trainer");
  KIT_REQUIRE(file != NULL, "file: got NULL, want an open file");
  const kit_params *params = &trainer->gpt->params;
  kit_optimizer *optimizer = &trainer->optimizer;
  int64_t step, calls;
  KIT_TRY(kit_file_number(file, "gpt.step", 0, INT64_MAX / 2, &step));
  KIT_TRY(kit_file_number(file, "gpt.calls", 0, INT64_MAX / 2, &calls));
  KIT_TRY(kit_params_load(params, queue, file, m_prefix, optimizer->m));
  KIT_TRY(kit_params_load(params, queue, file, v_prefix, optimizer->v));
  optimizer->step = step;
  trainer->calls = calls;
  trainer->empty = true;
  return CLATTN_OK;
}
