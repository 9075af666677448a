/* optimizer.c - gradients, moments and AdamW over a model's one buffer. */
#include <math.h>

#include "params.h"

clattn_status kit_optimizer_check(const kit_optimizer *optimizer) {
  const kit_optimizer *o = optimizer;
  KIT_REQUIRE(o->beta1 >= 0 && o->beta1 < 1, "config->beta1: got %g, want 0..1",
              (double)o->beta1);
  KIT_REQUIRE(o->beta2 >= 0 && o->beta2 < 1, "config->beta2: got %g, want 0..1",
              (double)o->beta2);
  KIT_REQUIRE(isfinite(o->eps) && o->eps > 0, "config->eps: got %g, want > 0",
              (double)o->eps);
  KIT_REQUIRE(isfinite(o->weight_decay) && o->weight_decay >= 0,
              "config->weight_decay: got %g, want >= 0",
              (double)o->weight_decay);
  KIT_REQUIRE(isfinite(o->clip) && o->clip >= 0,
              "config->clip: got %g, want >= 0", (double)o->clip);
  return CLATTN_OK;
}

clattn_status kit_optimizer_make(kit_optimizer *optimizer,
                                 clattn_queue *queue) {
  const kit_params *params = optimizer->params;
  clattn_buffer **const buffers[] = {&optimizer->grads, &optimizer->m,
                                     &optimizer->v};
  for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
    KIT_TRY(kit_params_buffer(params, queue, buffers[i]));
  return clattn_buffer_create(params->context, params->device, sizeof(float),
                              &optimizer->norm);
}

void kit_optimizer_free(kit_optimizer *optimizer) {
  clattn_buffer_destroy(optimizer->grads);
  clattn_buffer_destroy(optimizer->m);
  clattn_buffer_destroy(optimizer->v);
  clattn_buffer_destroy(optimizer->norm);
}

clattn_status kit_optimizer_clear(const kit_optimizer *optimizer,
                                  clattn_queue *queue) {
  const clattn_tensor all = kit_params_all(optimizer->params, optimizer->grads);
  return clattn_nn_fill(queue, &all, 0, NULL, 0, NULL);
}

/* Elements first .. first + n - 1 of a buffer. */
static clattn_tensor range(clattn_buffer *buffer, int64_t first, int64_t n) {
  clattn_tensor view = clattn_view(buffer, CLATTN_F32, 1, &n);
  view.offset = first;
  return view;
}

clattn_status kit_optimizer_norm(const kit_optimizer *optimizer,
                                 clattn_queue *queue, clattn_buffer *buffer,
                                 float *norm) {
  const clattn_tensor all = kit_params_all(optimizer->params, buffer);
  const clattn_tensor place = range(optimizer->norm, 0, 1);
  KIT_TRY(clattn_nn_norm(queue, &all, &place, NULL, 0, NULL));
  return clattn_buffer_read(queue, optimizer->norm, 0, norm, sizeof *norm);
}

static clattn_status adamw(const kit_optimizer *o, clattn_queue *queue,
                           int64_t first, int64_t n, float weight_decay,
                           float learning_rate) {
  if (n == 0) return CLATTN_OK;
  clattn_nn_adamw_args args;
  clattn_nn_adamw_args_init(&args);
  args.param = range(o->params->values, first, n);
  args.grad = range(o->grads, first, n);
  args.m = range(o->m, first, n);
  args.v = range(o->v, first, n);
  if (o->clip > 0) {
    args.norm = range(o->norm, 0, 1);
    args.max_norm = o->clip;
  }
  args.lr = learning_rate;
  args.beta1 = o->beta1;
  args.beta2 = o->beta2;
  args.eps = o->eps;
  args.weight_decay = weight_decay;
  args.step = o->step + 1;
  return clattn_nn_adamw(queue, &args, NULL, 0, NULL);
}

clattn_status kit_optimizer_update(kit_optimizer *optimizer,
                                   clattn_queue *queue, float learning_rate) {
  const kit_params *params = optimizer->params;
  KIT_TRY(adamw(optimizer, queue, 0, params->decayed, optimizer->weight_decay,
                learning_rate));
  KIT_TRY(adamw(optimizer, queue, params->decayed,
                params->elements - params->decayed, 0, learning_rate));
  optimizer->step++;
  return CLATTN_OK;
}
