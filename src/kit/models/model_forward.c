/* model_forward.c - memory for activations, and the way through the layers. */
#include <stdlib.h>

#include "model.h"

/* ---- memory ----------------------------------------------------------------- */

/* Parts of model_pass.numbers. */
enum { IDS, POSITIONS, TYPES, LENGTHS, PICKED, NUMBERS };

static int64_t columns(const clattn_model *model, model_act act) {
  const clattn_model_config *c = &model->spec.config;
  return act == MODEL_WIDE || act == MODEL_GATED ? c->hidden_dim : c->embed_dim;
}

clattn_status model_pass_create(clattn_model *model, model_pass **pass) {
  *pass = calloc(1, sizeof **pass);
  if (*pass == NULL) return KIT_OUT_OF_MEMORY("model");
  (*pass)->model = model;
  return CLATTN_OK;
}

static void free_acts(model_pass *pass) {
  for (int act = 0; act < MODEL_ACTS; act++) {
    clattn_buffer_destroy(pass->acts[act]);
    pass->acts[act] = NULL;
  }
  clattn_buffer_destroy(pass->numbers);
  pass->numbers = NULL;
  pass->room = 0;
}

void model_pass_destroy(model_pass *pass) {
  if (pass == NULL) return;
  free_acts(pass);
  clattn_buffer_destroy(pass->logits);
  free(pass->host);
  free(pass);
}

static clattn_status make_acts(model_pass *pass, int64_t rows) {
  const clattn_model *model = pass->model;
  const bool llama = model->spec.config.kind == CLATTN_MODEL_LLAMA;
  for (model_act act = 0; act < MODEL_ACTS; act++)
    if (act != MODEL_GATED || llama)
      KIT_TRY(model_buffer(model, "input", rows, columns(model, act),
                           sizeof(float), &pass->acts[act]));
  return model_buffer(model, "input", rows, NUMBERS, sizeof(int32_t),
                      &pass->numbers);
}

clattn_status model_pass_reserve(model_pass *pass, int64_t rows) {
  const clattn_model *model = pass->model;
  if (pass->logits == NULL && model->spec.config.head)
    KIT_TRY(model_buffer(model, "logits", model_logits_rows(model),
                         model->spec.config.vocab_size, sizeof(float),
                         &pass->logits));
  if (rows <= pass->room) return CLATTN_OK;
  free_acts(pass);
  const clattn_status status = make_acts(pass, rows);
  if (status == CLATTN_OK)
    pass->room = rows;
  else
    free_acts(pass);
  return status;
}

clattn_status model_pass_reserve_host(model_pass *pass, int64_t rows,
                                      int64_t cols) {
  const int64_t count = rows * cols;
  if (count <= pass->host_count) return CLATTN_OK;
  float *host = malloc((size_t)count * sizeof *host);
  if (host == NULL) return KIT_OUT_OF_MEMORY("model");
  free(pass->host);
  pass->host = host;
  pass->host_count = count;
  return CLATTN_OK;
}

/* ---- a call -------------------------------------------------------------------- */

static clattn_status write_numbers(const model_pass *pass, clattn_queue *queue,
                                   int part, const int32_t *from, int64_t n) {
  if (from == NULL || n == 0) return CLATTN_OK;
  return clattn_buffer_write(queue, pass->numbers,
                             (size_t)(part * pass->room) * sizeof *from, from,
                             (size_t)n * sizeof *from);
}

static clattn_tensor numbers_view(const model_pass *pass, int part, int64_t n) {
  clattn_tensor view = clattn_view_bhsd(pass->numbers, CLATTN_I32, 1, 1, n, 1);
  view.offset = part * pass->room;
  return view;
}

clattn_status model_pass_begin(model_pass *pass, clattn_queue *queue,
                               const model_upload *upload) {
  const clattn_model_config *c = &pass->model->spec.config;
  const int64_t rows = upload->rows;
  pass->groups = upload->groups;
  pass->n_groups = upload->n_groups;
  pass->first = upload->first;
  pass->rows = rows;
  pass->caches = NULL;
  pass->weights = pass->queries = pass->keys = NULL;
  pass->stats = NULL;
  bool ragged = false;
  int64_t requests = 0;
  for (int64_t g = 0; g < pass->n_groups; g++) {
    ragged = ragged || pass->groups[g].ragged;
    requests += pass->groups[g].count;
  }
  KIT_TRY(model_pass_reserve(pass, rows));
  KIT_TRY(write_numbers(pass, queue, IDS, upload->ids, rows));
  if (c->kind != CLATTN_MODEL_LLAMA)
    KIT_TRY(write_numbers(pass, queue, POSITIONS, upload->positions, rows));
  if (c->types > 0)
    KIT_TRY(write_numbers(pass, queue, TYPES, upload->types, rows));
  if (!ragged) return CLATTN_OK;
  return write_numbers(pass, queue, LENGTHS, upload->lengths, requests);
}

clattn_tensor model_act_view(const model_pass *pass, model_act act,
                             int64_t first, int64_t n) {
  const int64_t cols = columns(pass->model, act);
  clattn_tensor view =
      clattn_view_bhsd(pass->acts[act], CLATTN_F32, 1, 1, n, cols);
  view.offset = first * cols;
  return view;
}

clattn_status model_act_read(const model_pass *pass, clattn_queue *queue,
                             model_act act, int64_t first, int64_t n,
                             float *values) {
  const size_t cols = (size_t)columns(pass->model, act);
  return clattn_buffer_read(queue, pass->acts[act],
                            (size_t)first * cols * sizeof *values, values,
                            (size_t)n * cols * sizeof *values);
}

/* ---- embeddings ------------------------------------------------------------------ */

/* Rows of a module's table, by the numbers of that part. */
static clattn_status look_up(const model_pass *pass, clattn_queue *queue,
                             model_module module, int part, model_act to) {
  const clattn_tensor table = model_part(pass->model, module, 0)->weight;
  const clattn_tensor ids = numbers_view(pass, part, pass->rows);
  const clattn_tensor out = model_act_view(pass, to, 0, pass->rows);
  return clattn_nn_embedding(queue, &table, &ids, &out, NULL, 0, NULL);
}

/* to += from */
static clattn_status add(const model_pass *pass, clattn_queue *queue,
                         model_act to, model_act from) {
  const clattn_tensor a = model_act_view(pass, to, 0, pass->rows);
  const clattn_tensor b = model_act_view(pass, from, 0, pass->rows);
  return clattn_nn_add(queue, &a, &b, &a, NULL, 0, NULL);
}

clattn_status model_norm(const model_pass *pass, clattn_queue *queue,
                         model_module module, int64_t layer, model_act from,
                         model_act to, int64_t rows) {
  const clattn_model_config *c = &pass->model->spec.config;
  const model_param *part = model_part(pass->model, module, layer);
  const clattn_tensor x = model_act_view(pass, from, 0, rows);
  const clattn_tensor out = model_act_view(pass, to, 0, rows);
  if (c->kind == CLATTN_MODEL_LLAMA) {
    clattn_nn_rms_norm_args args;
    clattn_nn_rms_norm_args_init(&args);
    args.x = x;
    args.out = out;
    args.weight = part->weight;
    args.eps = c->norm_eps;
    return clattn_nn_rms_norm(queue, &args, NULL, 0, NULL);
  }
  clattn_nn_layer_norm_args args;
  clattn_nn_layer_norm_args_init(&args);
  args.x = x;
  args.out = out;
  args.weight = part->weight;
  args.bias = part->bias;
  args.eps = c->norm_eps;
  return clattn_nn_layer_norm(queue, &args, NULL, 0, NULL);
}

clattn_status model_embed(model_pass *pass, clattn_queue *queue) {
  const clattn_model_config *c = &pass->model->spec.config;
  const bool bert = c->kind == CLATTN_MODEL_BERT;
  /* BERT's norm reads what it does not write. */
  const model_act x = bert ? MODEL_NORM : MODEL_X;
  KIT_TRY(look_up(pass, queue, MODEL_TOKENS, IDS, x));
  if (c->kind == CLATTN_MODEL_LLAMA) return CLATTN_OK;
  KIT_TRY(look_up(pass, queue, MODEL_POSITIONS, POSITIONS, MODEL_BRANCH));
  KIT_TRY(add(pass, queue, x, MODEL_BRANCH));
  if (!bert) return CLATTN_OK;
  KIT_TRY(look_up(pass, queue, MODEL_TYPES, TYPES, MODEL_BRANCH));
  KIT_TRY(add(pass, queue, x, MODEL_BRANCH));
  return model_norm(pass, queue, MODEL_EMBED_NORM, 0, x, MODEL_X, pass->rows);
}

/* ---- layers ------------------------------------------------------------------------ */

static model_act attention_input(const model_pass *pass) {
  const bool bert = pass->model->spec.config.kind == CLATTN_MODEL_BERT;
  return bert ? MODEL_X : MODEL_NORM;
}

/* A group's rows of an activation, [count,1,length,E]. */
static clattn_tensor group_view(const model_pass *pass,
                                const model_group *group, model_act act) {
  clattn_tensor view =
      clattn_view_bhsd(pass->acts[act], CLATTN_F32, group->count, 1,
                       group->length, columns(pass->model, act));
  view.offset = group->row * columns(pass->model, act);
  return view;
}

void model_attention_args(const model_pass *pass, int64_t layer, int64_t group,
                          clattn_mha_args *args) {
  const model_group *g = &pass->groups[group];
  clattn_mha_args_init(args);
  args->query = group_view(pass, g, attention_input(pass));
  args->output = group_view(pass, g, MODEL_BRANCH);
  if (pass->weights != NULL) args->weights = pass->weights[group];
  if (pass->queries != NULL) args->projected_query = pass->queries[group];
  if (pass->keys != NULL) args->projected_key = pass->keys[group];
  if (pass->caches != NULL) {
    args->cache = pass->caches[layer];
    return;
  }
  args->q_start = 0; /* where keys are hidden, the end is not the rows' */
  if (!g->ragged) return;
  args->kv_lengths =
      clattn_view_bhsd(pass->numbers, CLATTN_I32, g->count, 1, 1, 1);
  args->kv_lengths.offset = LENGTHS * pass->room + g->first - pass->first;
}

static clattn_status attend(const model_pass *pass, clattn_queue *queue,
                            int64_t layer) {
  for (int64_t g = 0; g < pass->n_groups; g++) {
    clattn_mha_args args;
    model_attention_args(pass, layer, g, &args);
    KIT_TRY(clattn_mha_forward(pass->mha[layer], queue, &args, NULL, 0, NULL));
    if (pass->stats !=
        NULL) /* before the next group takes the layer's memory */
      KIT_TRY(clattn_mha_statistics(pass->mha[layer], queue, &args,
                                    &pass->stats[g], NULL, 0, NULL));
  }
  return CLATTN_OK;
}

static clattn_status linear(const model_pass *pass, clattn_queue *queue,
                            model_module module, int64_t layer, model_act from,
                            model_act to) {
  const model_param *part = model_part(pass->model, module, layer);
  const clattn_tensor x = model_act_view(pass, from, 0, pass->rows);
  const clattn_tensor out = model_act_view(pass, to, 0, pass->rows);
  return clattn_linear(queue, &x, &part->weight,
                       part->bias.buffer != NULL ? &part->bias : NULL, &out,
                       NULL, 0, NULL);
}

/* `from`, which BRANCH is the result of. */
static clattn_status mlp(const model_pass *pass, clattn_queue *queue,
                         int64_t layer, model_act from) {
  KIT_TRY(linear(pass, queue, MODEL_UP, layer, from, MODEL_WIDE));
  const clattn_tensor wide = model_act_view(pass, MODEL_WIDE, 0, pass->rows);
  if (pass->model->spec.config.kind != CLATTN_MODEL_LLAMA) {
    KIT_TRY(clattn_nn_gelu(queue, pass->model->spec.gelu, &wide, &wide, NULL, 0,
                           NULL));
    return linear(pass, queue, MODEL_DOWN, layer, MODEL_WIDE, MODEL_BRANCH);
  }
  KIT_TRY(linear(pass, queue, MODEL_GATE, layer, from, MODEL_GATED));
  const clattn_tensor gate = model_act_view(pass, MODEL_GATED, 0, pass->rows);
  KIT_TRY(clattn_nn_swiglu(queue, &gate, &wide, &gate, NULL, 0, NULL));
  return linear(pass, queue, MODEL_DOWN, layer, MODEL_GATED, MODEL_BRANCH);
}

/* x = LN(x + attn(x)),  x = LN(x + mlp(x)) */
static clattn_status norms_behind(const model_pass *pass, clattn_queue *queue,
                                  int64_t layer) {
  const int64_t n = pass->rows;
  KIT_TRY(attend(pass, queue, layer));
  KIT_TRY(add(pass, queue, MODEL_X, MODEL_BRANCH));
  KIT_TRY(model_norm(pass, queue, MODEL_NORM1, layer, MODEL_X, MODEL_NORM, n));
  KIT_TRY(mlp(pass, queue, layer, MODEL_NORM));
  KIT_TRY(add(pass, queue, MODEL_NORM, MODEL_BRANCH));
  return model_norm(pass, queue, MODEL_NORM2, layer, MODEL_NORM, MODEL_X, n);
}

/* x = x + attn(norm(x)),  x = x + mlp(norm(x)) */
static clattn_status norms_before(const model_pass *pass, clattn_queue *queue,
                                  int64_t layer) {
  const int64_t n = pass->rows;
  KIT_TRY(model_norm(pass, queue, MODEL_NORM1, layer, MODEL_X, MODEL_NORM, n));
  KIT_TRY(attend(pass, queue, layer));
  KIT_TRY(add(pass, queue, MODEL_X, MODEL_BRANCH));
  KIT_TRY(model_norm(pass, queue, MODEL_NORM2, layer, MODEL_X, MODEL_NORM, n));
  KIT_TRY(mlp(pass, queue, layer, MODEL_NORM));
  return add(pass, queue, MODEL_X, MODEL_BRANCH);
}

clattn_status model_layer_forward(model_pass *pass, clattn_queue *queue,
                                  int64_t layer) {
  if (pass->model->spec.config.kind == CLATTN_MODEL_BERT)
    return norms_behind(pass, queue, layer);
  return norms_before(pass, queue, layer);
}

/* ---- some rows only ------------------------------------------------------------------ */

clattn_status model_pick(const model_pass *pass, clattn_queue *queue,
                         const int32_t *picked, int64_t n, model_act to) {
  const clattn_tensor table = model_act_view(pass, MODEL_X, 0, pass->rows);
  const clattn_tensor ids = numbers_view(pass, PICKED, n);
  const clattn_tensor out = model_act_view(pass, to, 0, n);
  KIT_TRY(write_numbers(pass, queue, PICKED, picked, n));
  return clattn_nn_embedding(queue, &table, &ids, &out, NULL, 0, NULL);
}
