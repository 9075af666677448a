/* seq2seq_train.c - a step on pairs: forward and backward through both stacks. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "seq2seq.h"

struct clattn_seq2seq_trainer {
  clattn_seq2seq *model;
  clattn_seq2seq_trainer_config config;
  seq2seq_passes passes;
  kit_grads grads;         /* into the optimizer's; of either stack in turn */
  clattn_buffer *d_memory; /* [batch, max_source, E] */
  kit_optimizer optimizer;
  int32_t *inputs, *asked; /* [batch, max_target + 1]: of the decoder */
  int32_t *lengths;        /* [batch]: of the targets */
};

void clattn_seq2seq_trainer_config_init(clattn_seq2seq_trainer_config *config) {
  if (config == NULL) return;
  *config = (clattn_seq2seq_trainer_config){.struct_size = sizeof *config,
                                            .batch = 64,
                                            .beta1 = 0.9f,
                                            .beta2 = 0.99f,
                                            .eps = 1e-8f,
                                            .weight_decay = 0.1f,
                                            .clip = 1};
}

static clattn_status make(clattn_seq2seq_trainer *made, clattn_queue *queue) {
  const clattn_seq2seq *model = made->model;
  const clattn_seq2seq_config *c = &model->config;
  const int64_t batch = made->config.batch, rows = model->decoder.rows;
  const kit_pass_config encoder = {
      .batch = batch, .length = c->max_source, .backward = true, .look = -1};
  kit_pass_config decoder = encoder;
  decoder.length = rows;
  KIT_TRY(seq2seq_passes_make(model, &encoder, &decoder, &made->passes));
  KIT_TRY(kit_optimizer_make(&made->optimizer, queue));
  made->grads.params = made->optimizer.grads;
  const int64_t most = rows > c->max_source ? rows : c->max_source;
  KIT_TRY(
      kit_grads_make(&made->grads, &model->params, batch * most, c->embed_dim));
  KIT_TRY(clattn_buffer_create(
      model->params.context, model->params.device,
      (size_t)(batch * c->max_source * c->embed_dim) * sizeof(float),
      &made->d_memory));
  const size_t n = (size_t)(batch * rows);
  made->inputs = calloc(n, sizeof *made->inputs);
  made->asked = calloc(n, sizeof *made->asked);
  made->lengths = calloc((size_t)batch, sizeof *made->lengths);
  return made->inputs && made->asked && made->lengths
             ? CLATTN_OK
             : KIT_OUT_OF_MEMORY("targets");
}

clattn_status clattn_seq2seq_trainer_create(
    clattn_seq2seq *model, clattn_queue *queue,
    const clattn_seq2seq_trainer_config *config,
    clattn_seq2seq_trainer **trainer) {
  KIT_REQUIRE(trainer != NULL, "trainer: got NULL, want a place");
  *trainer = NULL;
  KIT_REQUIRE(model != NULL, "model: got NULL, want a model");
  KIT_REQUIRE(queue != NULL, "queue: got NULL, want a queue");
  KIT_REQUIRE_STRUCT(config, clattn_seq2seq_trainer_config);
  const kit_optimizer optimizer = {.params = &model->params,
                                   .beta1 = config->beta1,
                                   .beta2 = config->beta2,
                                   .eps = config->eps,
                                   .weight_decay = config->weight_decay,
                                   .clip = config->clip};
  KIT_TRY(kit_optimizer_check(&optimizer));
  clattn_seq2seq_trainer *made = calloc(1, sizeof *made);
  if (made == NULL) return KIT_OUT_OF_MEMORY("trainer");
  made->model = model;
  model->users++;
  made->config = *config;
  made->optimizer = optimizer;
  const clattn_status status = make(made, queue);
  if (status != CLATTN_OK) {
    clattn_seq2seq_trainer_destroy(made);
    return status;
  }
  *trainer = made;
  return CLATTN_OK;
}

void clattn_seq2seq_trainer_destroy(clattn_seq2seq_trainer *trainer) {
  if (trainer == NULL) return;
  seq2seq_passes_free(&trainer->passes);
  kit_grads_free(&trainer->grads);
  clattn_buffer_destroy(trainer->d_memory);
  kit_optimizer_free(&trainer->optimizer);
  free(trainer->inputs);
  free(trainer->asked);
  free(trainer->lengths);
  clattn_seq2seq_destroy(trainer->model);
  free(trainer);
}

/* ---- forward ------------------------------------------------------------- */

/* What the decoder reads, begin and the tokens, and what it is asked for, the
 * tokens and the end: targets [batch, T] to both [batch, longest + 1]. */
static clattn_status begin_targets(clattn_seq2seq_trainer *trainer,
                                   clattn_queue *queue, const int32_t *targets,
                                   int64_t T, int64_t batch) {
  const clattn_seq2seq_config *c = &trainer->model->config;
  KIT_REQUIRE(targets != NULL, "targets: got NULL, want tokens");
  KIT_REQUIRE(T >= 1 && T <= c->max_target, "T: got %lld, want 1..%lld",
              (long long)T, (long long)c->max_target);
  int64_t longest;
  KIT_TRY(seq2seq_check_texts(trainer->model, "targets", targets, T, batch, 0,
                              trainer->lengths, &longest));
  const int64_t rows = longest + 1;
  for (int64_t b = 0; b < batch; b++) {
    const int64_t n = trainer->lengths[b];
    int32_t *inputs = trainer->inputs + b * rows;
    int32_t *asked = trainer->asked + b * rows;
    memcpy(inputs + 1, targets + b * T, (size_t)n * sizeof *targets);
    memcpy(asked, targets + b * T, (size_t)n * sizeof *targets);
    inputs[0] = c->begin;
    asked[n] = c->end;
    for (int64_t i = n + 1; i < rows; i++) {
      inputs[i] = c->pad;
      asked[i] = CLATTN_NN_IGNORE;
    }
  }
  return kit_pass_begin(trainer->passes.decoder, queue, trainer->inputs,
                        trainer->asked, batch, rows);
}

static clattn_status not_finite(const clattn_seq2seq_trainer *trainer,
                                clattn_queue *queue, const clattn_buffer *grads,
                                const char *what, float value) {
  const kit_pass *const passes[] = {trainer->passes.encoder,
                                    trainer->passes.decoder};
  return kit_not_finite(passes, 2, queue, grads, trainer->optimizer.step + 1,
                        what, value);
}

/* The mean loss of pairs; with dropout where it is for training. */
static clattn_status forward(clattn_seq2seq_trainer *trainer,
                             clattn_queue *queue, const int32_t *sources,
                             int64_t S, const int32_t *targets, int64_t T,
                             int64_t batch, bool training, float *loss) {
  const clattn_seq2seq *model = trainer->model;
  kit_pass *encoder = trainer->passes.encoder;
  kit_pass *decoder = trainer->passes.decoder;
  KIT_TRY(seq2seq_begin(model, &trainer->passes, queue, sources, S, batch));
  KIT_TRY(begin_targets(trainer, queue, targets, T, batch));
  if (training) {
    const int64_t draws = kit_pass_draws(encoder->stack);
    const int64_t all = draws + kit_pass_draws(decoder->stack);
    encoder->dropout = decoder->dropout = model->config.dropout;
    encoder->dropout_seed = decoder->dropout_seed =
        trainer->config.dropout_seed;
    encoder->dropout_offset = (uint64_t)trainer->optimizer.step * (uint64_t)all;
    decoder->dropout_offset = encoder->dropout_offset + (uint64_t)draws;
  }
  KIT_TRY(seq2seq_encode(&trainer->passes, queue));
  seq2seq_remember(&trainer->passes);
  KIT_TRY(kit_pass_layers(decoder, queue, model->config.layers));
  KIT_TRY(kit_pass_last(decoder, queue));
  KIT_TRY(kit_pass_loss(decoder, queue));
  KIT_TRY(clattn_buffer_read(queue, decoder->mean, 0, loss, sizeof *loss));
  if (isfinite(*loss)) return CLATTN_OK;
  return not_finite(trainer, queue, NULL, "loss", *loss);
}

/* ---- a step -------------------------------------------------------------- */

static clattn_status backward(clattn_seq2seq_trainer *trainer,
                              clattn_queue *queue) {
  clattn_tensor d_memory = trainer->passes.decoder->memory;
  d_memory.buffer = trainer->d_memory;
  KIT_TRY(kit_optimizer_clear(&trainer->optimizer, queue));
  KIT_TRY(kit_pass_backward(trainer->passes.decoder, queue, 1, &trainer->grads,
                            &d_memory));
  return kit_pass_backward_from(trainer->passes.encoder, queue, &d_memory,
                                &trainer->grads);
}

clattn_status clattn_seq2seq_trainer_step(clattn_seq2seq_trainer *trainer,
                                          clattn_queue *queue,
                                          const int32_t *sources, int64_t S,
                                          const int32_t *targets, int64_t T,
                                          int64_t batch, float learning_rate,
                                          float *loss) {
  KIT_REQUIRE(trainer != NULL, "trainer: got NULL, want a trainer");
  KIT_REQUIRE(isfinite(learning_rate) && learning_rate >= 0,
              "learning_rate: got %g, want >= 0", (double)learning_rate);
  kit_optimizer *optimizer = &trainer->optimizer;
  float mean, norm;
  KIT_TRY(forward(trainer, queue, sources, S, targets, T, batch, true, &mean));
  KIT_TRY(backward(trainer, queue));
  KIT_TRY(kit_optimizer_norm(optimizer, queue, optimizer->grads, &norm));
  if (!isfinite(norm))
    return not_finite(trainer, queue, optimizer->grads, "norm of the gradients",
                      norm);
  KIT_TRY(kit_optimizer_update(optimizer, queue, learning_rate));
  if (loss != NULL) *loss = mean;
  return CLATTN_OK;
}

clattn_status clattn_seq2seq_trainer_loss(clattn_seq2seq_trainer *trainer,
                                          clattn_queue *queue,
                                          const int32_t *sources, int64_t S,
                                          const int32_t *targets, int64_t T,
                                          int64_t batch, float *loss) {
  KIT_REQUIRE(trainer != NULL, "trainer: got NULL, want a trainer");
  KIT_REQUIRE(loss != NULL, "loss: got NULL, want a place");
  float mean;
  KIT_TRY(forward(trainer, queue, sources, S, targets, T, batch, false, &mean));
  *loss = mean;
  return CLATTN_OK;
}

clattn_status clattn_seq2seq_trainer_gradient(
    const clattn_seq2seq_trainer *trainer, clattn_queue *queue, size_t i,
    float *values) {
  KIT_REQUIRE(trainer != NULL, "trainer: got NULL, want a trainer");
  return kit_params_read(&trainer->model->params, queue,
                         trainer->optimizer.grads, i, values);
}
