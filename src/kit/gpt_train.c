/* gpt_train.c - gradients, AdamW, and all the memory they take. */
#include <math.h>
#include <stdlib.h>

#include "gpt.h"

struct clattn_gpt_trainer {
  clattn_gpt *gpt;
  clattn_gpt_trainer_config config;
  gpt_pass *pass;
  gpt_grads grads;
  clattn_buffer *m, *v; /* as the parameters */
  clattn_buffer *norm;  /* [1] */
  bool empty;           /* no gradients since the last update */
  int64_t step;         /* updates done */
  int64_t calls;        /* of _gradients: dropout draws by it */
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

static clattn_status check_config(const clattn_gpt_trainer_config *config) {
  KIT_REQUIRE_STRUCT(config, clattn_gpt_trainer_config);
  const clattn_gpt_trainer_config *c = config;
  KIT_REQUIRE(c->micro >= 1, "config->micro: got %lld, want >= 1",
              (long long)c->micro);
  KIT_REQUIRE(c->beta1 >= 0 && c->beta1 < 1, "config->beta1: got %g, want 0..1",
              (double)c->beta1);
  KIT_REQUIRE(c->beta2 >= 0 && c->beta2 < 1, "config->beta2: got %g, want 0..1",
              (double)c->beta2);
  KIT_REQUIRE(isfinite(c->eps) && c->eps > 0, "config->eps: got %g, want > 0",
              (double)c->eps);
  KIT_REQUIRE(isfinite(c->weight_decay) && c->weight_decay >= 0,
              "config->weight_decay: got %g, want >= 0",
              (double)c->weight_decay);
  KIT_REQUIRE(isfinite(c->clip) && c->clip >= 0,
              "config->clip: got %g, want >= 0", (double)c->clip);
  return CLATTN_OK;
}

static clattn_status make(clattn_gpt_trainer *made, clattn_queue *queue) {
  clattn_gpt *gpt = made->gpt;
  const clattn_gpt_trainer_config *c = &made->config;
  const gpt_pass_config pass = {
      .batch = c->batch, .length = c->length, .backward = true, .look = -1};
  KIT_TRY(gpt_pass_create(gpt, &pass, &made->pass));
  KIT_TRY(gpt_buffer(gpt, queue, &made->grads.params));
  KIT_TRY(gpt_buffer(gpt, queue, &made->m));
  KIT_TRY(gpt_buffer(gpt, queue, &made->v));
  const size_t row = (size_t)gpt->config.embed_dim * sizeof(float);
  const size_t bytes = (size_t)(c->batch * c->length) * row;
  const struct {
    clattn_buffer **buffer;
    size_t bytes;
  } more[] = {{&made->grads.x, bytes},
              {&made->grads.branch, bytes},
              {&made->grads.wide, 4 * bytes},
              {&made->norm, sizeof(float)}};
  for (size_t i = 0; i < sizeof more / sizeof *more; i++)
    KIT_TRY(clattn_buffer_create(gpt->context, gpt->device, more[i].bytes,
                                 more[i].buffer));
  return CLATTN_OK;
}

clattn_status clattn_gpt_trainer_create(clattn_gpt *gpt, clattn_queue *queue,
                                        const clattn_gpt_trainer_config *config,
                                        clattn_gpt_trainer **trainer) {
  KIT_REQUIRE(trainer != NULL, "trainer: got NULL, want a place");
  *trainer = NULL;
  KIT_REQUIRE(gpt != NULL, "gpt: got NULL, want a model");
  KIT_REQUIRE(queue != NULL, "queue: got NULL, want a queue");
  KIT_TRY(check_config(config));
  clattn_gpt_trainer *made = calloc(1, sizeof *made);
  if (made == NULL) return KIT_OUT_OF_MEMORY("trainer");
  made->gpt = gpt;
  made->config = *config;
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
  gpt_pass_destroy(trainer->pass);
  clattn_buffer *const buffers[] = {
      trainer->grads.params, trainer->grads.x, trainer->grads.branch,
      trainer->grads.wide,   trainer->m,       trainer->v,
      trainer->norm};
  for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
    clattn_buffer_destroy(buffers[i]);
  free(trainer);
}

/* ---- a step -------------------------------------------------------------- */

/* Forward of the call that was begun, and its mean loss. */
static clattn_status forward(clattn_gpt_trainer *trainer, clattn_queue *queue,
                             float *loss) {
  gpt_pass *pass = trainer->pass;
  KIT_TRY(gpt_pass_layers(pass, queue, trainer->gpt->config.layers));
  KIT_TRY(gpt_pass_logits(pass, queue));
  KIT_TRY(gpt_pass_loss(pass, queue));
  KIT_TRY(clattn_buffer_read(queue, pass->mean, 0, loss, sizeof *loss));
  if (isfinite(*loss)) return CLATTN_OK;
  return gpt_not_finite(pass, queue, NULL, trainer->step + 1, "loss", *loss);
}

clattn_status clattn_gpt_trainer_gradients(
    clattn_gpt_trainer *trainer, clattn_queue *queue, const int32_t *inputs,
    const int32_t *targets, int64_t batch, int64_t length, float *loss) {
  KIT_REQUIRE(trainer != NULL, "trainer: got NULL, want a trainer");
  KIT_REQUIRE(targets != NULL, "targets: got NULL, want numbers");
  const clattn_gpt *gpt = trainer->gpt;
  gpt_pass *pass = trainer->pass;
  KIT_TRY(gpt_pass_begin(pass, queue, inputs, targets, batch, length));
  pass->dropout = gpt->config.dropout;
  pass->dropout_seed = trainer->config.dropout_seed;
  pass->dropout_offset =
      (uint64_t)trainer->calls * (uint64_t)gpt->config.layers;
  float mean;
  const clattn_status status = forward(trainer, queue, &mean);
  if (status != CLATTN_OK) {
    trainer->empty = true;
    return status;
  }
  if (trainer->empty) {
    const clattn_tensor all =
        clattn_view(trainer->grads.params, CLATTN_F32, 1, &gpt->elements);
    KIT_TRY(clattn_nn_fill(queue, &all, 0, NULL, 0, NULL));
    trainer->empty = false;
  }
  KIT_TRY(gpt_backward(pass, queue, 1 / (float)trainer->config.micro,
                       &trainer->grads));
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
  KIT_TRY(gpt_pass_begin(trainer->pass, queue, inputs, targets, batch, length));
  float mean;
  KIT_TRY(forward(trainer, queue, &mean));
  *loss = mean;
  return CLATTN_OK;
}

/* Elements first .. first + n - 1 of a buffer like the parameters'. */
static clattn_tensor range(clattn_buffer *buffer, int64_t first, int64_t n) {
  clattn_tensor view = clattn_view(buffer, CLATTN_F32, 1, &n);
  view.offset = first;
  return view;
}

static clattn_status adamw(const clattn_gpt_trainer *trainer,
                           clattn_queue *queue, int64_t first, int64_t n,
                           float weight_decay, float learning_rate) {
  const clattn_gpt_trainer_config *c = &trainer->config;
  clattn_nn_adamw_args args;
  clattn_nn_adamw_args_init(&args);
  args.param = range(trainer->gpt->values, first, n);
  args.grad = range(trainer->grads.params, first, n);
  args.m = range(trainer->m, first, n);
  args.v = range(trainer->v, first, n);
  if (c->clip > 0) {
    args.norm = range(trainer->norm, 0, 1);
    args.max_norm = c->clip;
  }
  args.lr = learning_rate;
  args.beta1 = c->beta1;
  args.beta2 = c->beta2;
  args.eps = c->eps;
  args.weight_decay = weight_decay;
  args.step = trainer->step + 1;
  return clattn_nn_adamw(queue, &args, NULL, 0, NULL);
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
  const clattn_gpt *gpt = trainer->gpt;
  const clattn_tensor all = range(trainer->grads.params, 0, gpt->elements);
  const clattn_tensor place = range(trainer->norm, 0, 1);
  float length;
  KIT_TRY(clattn_nn_norm(queue, &all, &place, NULL, 0, NULL));
  KIT_TRY(clattn_buffer_read(queue, trainer->norm, 0, &length, sizeof length));
  trainer->empty = true;
  if (!isfinite(length))
    return gpt_not_finite(trainer->pass, queue, &trainer->grads,
                          trainer->step + 1, "norm of the gradients", length);
  KIT_TRY(adamw(trainer, queue, 0, gpt->decayed, trainer->config.weight_decay,
                learning_rate));
  KIT_TRY(adamw(trainer, queue, gpt->decayed, gpt->elements - gpt->decayed, 0,
                learning_rate));
  trainer->step++;
  if (norm != NULL) *norm = length;
  return CLATTN_OK;
}

clattn_status clattn_gpt_trainer_gradient(const clattn_gpt_trainer *trainer,
                                          clattn_queue *queue, size_t i,
                                          float *values) {
  KIT_REQUIRE(trainer != NULL, "trainer: got NULL, want a trainer");
  const clattn_gpt *gpt = trainer->gpt;
  KIT_REQUIRE(i < gpt->n_tensors, "i: got %zu, want 0..%zu", i,
              gpt->n_tensors - 1);
  return clattn_buffer_read(
      queue, trainer->grads.params,
      (size_t)gpt->tensors[i].offset * sizeof *values, values,
      (size_t)gpt_elements(&gpt->tensors[i]) * sizeof *values);
}

int64_t clattn_gpt_trainer_step(const clattn_gpt_trainer *trainer) {
  return trainer == NULL ? 0 : trainer->step;
}

/* What a diverging run leaves must not replace what a good one did. */
static clattn_status check_parameters(const clattn_gpt_trainer *trainer,
                                      clattn_queue *queue) {
  const clattn_tensor all =
      range(trainer->gpt->values, 0, trainer->gpt->elements);
  const clattn_tensor place = range(trainer->norm, 0, 1);
  float length;
  KIT_TRY(clattn_nn_norm(queue, &all, &place, NULL, 0, NULL));
  KIT_TRY(clattn_buffer_read(queue, trainer->norm, 0, &length, sizeof length));
  if (isfinite(length)) return CLATTN_OK;
  return gpt_not_finite(trainer->pass, queue, &trainer->grads, trainer->step,
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
  const gpt_file_part parts[] = {{"", trainer->gpt->values, CLATTN_F32},
                                 {m_prefix, trainer->m, CLATTN_F32},
                                 {v_prefix, trainer->v, CLATTN_F32}};
  char step[24], calls[24];
  snprintf(step, sizeof step, "%lld", (long long)trainer->step);
  snprintf(calls, sizeof calls, "%lld", (long long)trainer->calls);
  clattn_kit_metadata *all = calloc(n_metadata + 2, sizeof *all);
  if (all == NULL) return KIT_OUT_OF_MEMORY("gpt");
  all[0] = (clattn_kit_metadata){"gpt.step", step};
  all[1] = (clattn_kit_metadata){"gpt.calls", calls};
  for (size_t i = 0; i < n_metadata; i++) all[2 + i] = metadata[i];
  const clattn_status status = gpt_file_write(
      trainer->gpt, queue, path, parts, 3, more, n_more, all, n_metadata + 2);
  free(all);
  return status;
}

clattn_status clattn_gpt_trainer_load(clattn_gpt_trainer *trainer,
                                      clattn_queue *queue,
                                      const clattn_kit_safetensors *file) {
  KIT_REQUIRE(trainer != NULL, "trainer: got NULL, want a trainer");
  KIT_REQUIRE(file != NULL, "file: got NULL, want an open file");
  int64_t step, calls;
  KIT_TRY(gpt_file_number(file, "gpt.step", 0, INT64_MAX / 2, &step));
  KIT_TRY(gpt_file_number(file, "gpt.calls", 0, INT64_MAX / 2, &calls));
  KIT_TRY(gpt_file_read(trainer->gpt, queue, file, m_prefix, trainer->m));
  KIT_TRY(gpt_file_read(trainer->gpt, queue, file, v_prefix, trainer->v));
  trainer->step = step;
  trainer->calls = calls;
  trainer->empty = true;
  return CLATTN_OK;
}
