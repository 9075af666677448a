/* model_run.c - a batch of requests through the model, and what is wanted of it
 * back to the caller. */
#include <string.h>

#include "model.h"

void clattn_model_output_init(clattn_model_output *output) {
  if (output == NULL) return;
  *output = (clattn_model_output){.struct_size = sizeof *output,
                                  .pooling = CLATTN_POOL_MEAN,
                                  .normalize = true,
                                  .top = 8,
                                  .map_block = 64};
}

/* ---- checks ------------------------------------------------------------------- */

static clattn_status check_output(const clattn_model *model,
                                  const clattn_model_output *out) {
  const clattn_model_config *c = &model->spec.config;
  const uint32_t watches = CLATTN_WATCH_HIDDEN | CLATTN_WATCH_ATTENTION |
                           CLATTN_WATCH_STATISTICS | CLATTN_WATCH_TOP |
                           CLATTN_WATCH_MAP | CLATTN_WATCH_QUERY_KEY;
  KIT_REQUIRE((out->watch & ~watches) == 0,
              "output->watch: got 0x%x, want CLATTN_WATCH_* alone",
              (unsigned)out->watch);
  KIT_REQUIRE(out->watch == 0 || out->on_layer != NULL,
              "output->on_layer: got NULL, want who watches");
  KIT_REQUIRE(out->top >= 1 && out->top <= 32,
              "output->top: got %lld, want 1..32", (long long)out->top);
  KIT_REQUIRE(out->map_block >= 1 && out->map_block < (int64_t)1 << 30,
              "output->map_block: got %lld, want 1..2^30 - 1",
              (long long)out->map_block);
  KIT_REQUIRE(
      out->pooling == CLATTN_POOL_MEAN || out->pooling == CLATTN_POOL_FIRST ||
          out->pooling == CLATTN_POOL_LAST,
      "output->pooling: got %d, want a CLATTN_POOL_*", (int)out->pooling);
  if ((out->logits != NULL || out->all_logits != NULL) && !c->head)
    return clattn_set_error(CLATTN_UNSUPPORTED,
                            "output->%s: a %s has none here, it gives hidden "
                            "states",
                            out->logits != NULL ? "logits" : "all_logits",
                            c->name);
  if (out->pooled != NULL && !c->pooler)
    return clattn_set_error(CLATTN_UNSUPPORTED,
                            "output->pooled: this %s has no pooler", c->name);
  return CLATTN_OK;
}

/* ---- a chunk ------------------------------------------------------------------- */

typedef struct run {
  model_pass *pass;
  clattn_queue *queue;
  const model_batch *batch;
  const clattn_model_output *output;
} run;

static clattn_status run_layers(const run *r) {
  if (r->output->watch != 0)
    return model_watch_layers(r->pass, r->queue, r->batch, r->output);
  const int64_t layers = r->pass->model->spec.config.layers;
  KIT_TRY(model_embed(r->pass, r->queue));
  for (int64_t l = 0; l < layers; l++)
    KIT_TRY(model_layer_forward(r->pass, r->queue, l));
  return CLATTN_OK;
}

/* Last hidden states, and what is made of all of them. */
static clattn_status give_rows(const run *r, const model_chunk *chunk) {
  const clattn_model_output *out = r->output;
  const clattn_model_config *c = &r->pass->model->spec.config;
  model_act hidden;
  if (!out->hidden && !out->embedding && !out->all_logits) return CLATTN_OK;
  KIT_TRY(model_last_norm(r->pass, r->queue, &hidden));
  float *host = r->pass->host;
  if (out->hidden != NULL || out->embedding != NULL)
    KIT_TRY(model_act_read(r->pass, r->queue, hidden, 0, chunk->rows, host));
  if (out->hidden != NULL)
    model_batch_scatter(r->batch, chunk, 0, chunk->rows, c->embed_dim, host,
                        out->hidden);
  if (out->embedding != NULL)
    model_pool(r->batch, chunk, c->embed_dim, host, out->pooling,
               out->normalize, out->embedding);
  const int64_t step = model_logits_rows(r->pass->model);
  for (int64_t i = 0; out->all_logits != NULL && i < chunk->rows; i += step) {
    const int64_t n = chunk->rows - i < step ? chunk->rows - i : step;
    KIT_TRY(model_logits(r->pass, r->queue, hidden, i, n, host));
    model_batch_scatter(r->batch, chunk, i, n, c->vocab_size, host,
                        out->all_logits);
  }
  return CLATTN_OK;
}

/* Of one row a request: the first, to the pooler, or the last, to the head. */
static clattn_status give_picked(const run *r, const model_chunk *chunk) {
  const model_batch *batch = r->batch;
  const clattn_model_config *c = &r->pass->model->spec.config;
  const bool pooled = r->output->pooled != NULL;
  float *to = pooled ? r->output->pooled : r->output->logits;
  const int64_t cols = pooled ? c->embed_dim : c->vocab_size;
  const int64_t step =
      pooled ? chunk->count : model_logits_rows(r->pass->model);
  if (to == NULL) return CLATTN_OK;
  for (int64_t i = 0; i < chunk->count; i += step) {
    const int64_t n = chunk->count - i < step ? chunk->count - i : step;
    const int64_t *requests = batch->order + chunk->first + i;
    for (int64_t j = 0; j < n; j++) {
      const int64_t b = requests[j];
      batch->staged[j] =
          (int32_t)(batch->places[b] + (pooled ? 0 : batch->lengths[b] - 1));
    }
    KIT_TRY(pooled ? model_pooler(r->pass, r->queue, batch->staged, n,
                                  r->pass->host)
                   : model_logits_of(r->pass, r->queue, batch->staged, n,
                                     r->pass->host));
    for (int64_t j = 0; j < n; j++)
      memcpy(to + requests[j] * cols, r->pass->host + j * cols,
             (size_t)cols * sizeof *to);
  }
  return CLATTN_OK;
}

/* All memory that the chunks take, before the first. */
static clattn_status reserve(const run *r) {
  const clattn_model *model = r->pass->model;
  const clattn_model_config *c = &model->spec.config;
  KIT_TRY(model_pass_reserve(r->pass, r->batch->most_rows));
  if (c->head && (r->output->logits || r->output->all_logits))
    KIT_TRY(model_pass_reserve_host(r->pass, model_logits_rows(model),
                                    c->vocab_size));
  return model_pass_reserve_host(r->pass, r->batch->most_rows, c->embed_dim);
}

static clattn_status run_batch(const run *r) {
  const model_batch *batch = r->batch;
  const clattn_model_config *c = &r->pass->model->spec.config;
  KIT_TRY(reserve(r));
  for (int64_t i = 0; i < batch->n_chunks; i++) {
    const model_chunk *chunk = &batch->chunks[i];
    KIT_TRY(model_batch_upload(batch, chunk, r->pass, r->queue));
    KIT_TRY(run_layers(r));
    KIT_TRY(give_rows(r, chunk));
    KIT_TRY(give_picked(r, chunk));
  }
  if (r->output->hidden != NULL)
    model_batch_clear_rest(batch, c->embed_dim, r->output->hidden);
  if (r->output->all_logits != NULL)
    model_batch_clear_rest(batch, c->vocab_size, r->output->all_logits);
  return CLATTN_OK;
}

clattn_status clattn_model_run(clattn_model *model, clattn_queue *queue,
                               const clattn_model_input *input,
                               const clattn_model_output *output) {
  KIT_REQUIRE(model != NULL, "model: got NULL, want a model");
  KIT_REQUIRE(queue != NULL, "queue: got NULL, want a queue");
  KIT_REQUIRE_STRUCT(input, clattn_model_input);
  KIT_REQUIRE_STRUCT(output, clattn_model_output);
  KIT_REQUIRE(!model->running, "model: is running: a watch may not run it");
  KIT_TRY(check_output(model, output));
  model_batch batch;
  KIT_TRY(model_batch_make(model, input, output->watch != 0, &batch));
  clattn_status status = CLATTN_OK;
  if (model->pass == NULL) status = model_pass_create(model, &model->pass);
  if (status == CLATTN_OK)
    status = model_attention(model, 0, &model->pass->mha);
  const run r = {model->pass, queue, &batch, output};
  model->running = true;
  if (status == CLATTN_OK) status = run_batch(&r);
  model->running = false;
  model_batch_free(&batch);
  return status;
}
