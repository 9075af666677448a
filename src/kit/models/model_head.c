/* model_head.c - behind the last layer: the norm, logits, BERT's pooler. */
#include <math.h>

#include "model.h"

clattn_status model_last_norm(model_pass *pass, clattn_queue *queue,
                              model_act *hidden) {
  const bool bert = pass->model->spec.config.kind == CLATTN_MODEL_BERT;
  *hidden = bert ? MODEL_X : MODEL_NORM;
  if (bert) return CLATTN_OK;
  return model_norm(pass, queue, MODEL_LAST_NORM, 0, MODEL_X, MODEL_NORM,
                    pass->rows);
}

int64_t model_logits_rows(const clattn_model *model) {
  const int64_t most = (int64_t)1 << 23; /* 32 MiB */
  const int64_t rows = most / model->spec.config.vocab_size;
  return rows < 1 ? 1 : rows;
}

clattn_status model_logits(model_pass *pass, clattn_queue *queue,
                           model_act hidden, int64_t first, int64_t n,
                           float *logits) {
  const int64_t V = pass->model->spec.config.vocab_size;
  const model_param *head = model_part(pass->model, MODEL_HEAD, 0);
  const clattn_tensor x = model_act_view(pass, hidden, first, n);
  const clattn_tensor out =
      clattn_view_bhsd(pass->logits, CLATTN_F32, 1, 1, n, V);
  KIT_TRY(clattn_linear(queue, &x, &head->weight,
                        head->bias.buffer != NULL ? &head->bias : NULL, &out,
                        NULL, 0, NULL));
  return clattn_buffer_read(queue, pass->logits, 0, logits,
                            (size_t)(n * V) * sizeof *logits);
}

clattn_status model_logits_of(model_pass *pass, clattn_queue *queue,
                              const int32_t *picked, int64_t n, float *logits) {
  KIT_TRY(model_pick(pass, queue, picked, n, MODEL_BRANCH));
  KIT_TRY(
      model_norm(pass, queue, MODEL_LAST_NORM, 0, MODEL_BRANCH, MODEL_NORM, n));
  return model_logits(pass, queue, MODEL_NORM, 0, n, logits);
}

clattn_status model_pooler(model_pass *pass, clattn_queue *queue,
                           const int32_t *picked, int64_t n, float *pooled) {
  const int64_t E = pass->model->spec.config.embed_dim;
  const model_param *pooler = model_part(pass->model, MODEL_POOLER, 0);
  KIT_TRY(model_pick(pass, queue, picked, n, MODEL_BRANCH));
  const clattn_tensor x = model_act_view(pass, MODEL_BRANCH, 0, n);
  const clattn_tensor out = model_act_view(pass, MODEL_NORM, 0, n);
  KIT_TRY(clattn_linear(queue, &x, &pooler->weight, &pooler->bias, &out, NULL,
                        0, NULL));
  KIT_TRY(model_act_read(pass, queue, MODEL_NORM, 0, n, pooled));
  for (int64_t i = 0; i < n * E; i++) pooled[i] = tanhf(pooled[i]);
  return CLATTN_OK;
}
