/* mha.c - the multi-head attention layer: three projections, attention over
 * strided views of them, one projection back. One forward is one submission. */
#include <inttypes.h>
#include <string.h>

#include "mha.h"

void clattn_mha_config_init(clattn_mha_config *config) {
  if (!config) return;
  *config = (clattn_mha_config){.struct_size = sizeof *config};
  clattn_desc_init(&config->attention);
  config->attention.mask_polarity = CLATTN_TRUE_HIDES;
}

void clattn_mha_weights_init(clattn_mha_weights *weights) {
  if (!weights) return;
  *weights = (clattn_mha_weights){.struct_size = sizeof *weights};
}

void clattn_mha_args_init(clattn_mha_args *args) {
  if (!args) return;
  *args =
      (clattn_mha_args){.struct_size = sizeof *args, .q_start = CLATTN_AT_END};
}

/* ---- creation ------------------------------------------------------------------- */

/* Checks the sizes and fills in every default. */
static clattn_status resolve_config(const clattn_mha_config *given,
                                    clattn_mha_config *c) {
  *c = *given;
  const int64_t max = 1 << 24;
  const struct {
    const char *name;
    int64_t *value;
    int64_t fallback; /* of 0; 0: there is none */
  } sizes[] = {{"embed_dim", &c->embed_dim, 0},
               {"num_heads", &c->num_heads, 0},
               {"kdim", &c->kdim, c->embed_dim},
               {"vdim", &c->vdim, c->embed_dim},
               {"out_dim", &c->out_dim, c->embed_dim},
               {"num_kv_heads", &c->num_kv_heads, c->num_heads}};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    if (*sizes[i].value == 0) *sizes[i].value = sizes[i].fallback;
    CLT_REQUIRE(*sizes[i].value >= 1 && *sizes[i].value <= max,
                "config->%s: got %" PRId64 ", want 1..2^24", sizes[i].name,
                *sizes[i].value);
  }
  CLT_REQUIRE(c->num_heads % c->num_kv_heads == 0,
              "config->num_kv_heads: got %" PRId64
              ", want a divisor of "
              "num_heads (%" PRId64 ")",
              c->num_kv_heads, c->num_heads);
  CLT_REQUIRE(!(c->attention.outputs & CLATTN_OUT_LSE),
              "config->attention.outputs: got CLATTN_OUT_LSE, which the layer "
              "does not give (clattn_execute does)");
  CLT_REQUIRE(!c->attention.backward || c->backward,
              "config->attention.backward: got true, want false: gradients of "
              "the layer are asked for by config->backward");
  if (c->head_dim == 0) {
    CLT_REQUIRE(c->embed_dim % c->num_heads == 0,
                "config->embed_dim: got %" PRId64
                ", want a multiple of "
                "num_heads (%" PRId64 ") when head_dim is 0",
                c->embed_dim, c->num_heads);
    c->head_dim = c->embed_dim / c->num_heads;
  }
  CLT_REQUIRE(c->head_dim >= 1 && c->head_dim <= max &&
                  c->num_heads * c->head_dim < CLT_MAX_LENGTH,
              "config->head_dim: got %" PRId64
              ", want 1..2^24 and less than "
              "2^30 / num_heads",
              c->head_dim);
  c->attention.q_heads = c->num_heads;
  c->attention.kv_heads = c->num_kv_heads;
  c->attention.qk_dim = c->attention.v_dim = c->head_dim;
  c->attention.backward = c->backward;
  if (c->backward || c->statistics) c->attention.outputs |= CLATTN_OUT_LSE;
  return CLATTN_OK;
}

static clattn_status check_weights(const clt_device *device,
                                   const clattn_mha_config *c,
                                   const clattn_mha_weights *w) {
  const int64_t nq = c->num_heads * c->head_dim;
  const int64_t nk = c->num_kv_heads * c->head_dim;
  const struct {
    const char *name;
    const clattn_tensor *t;
    int64_t rows, cols;
    bool optional;
  } all[] = {{"weights->q_weight", &w->q_weight, nq, c->embed_dim, false},
             {"weights->k_weight", &w->k_weight, nk, c->kdim, false},
             {"weights->v_weight", &w->v_weight, nk, c->vdim, false},
             {"weights->o_weight", &w->o_weight, c->out_dim, nq, false},
             {"weights->q_bias", &w->q_bias, 1, nq, true},
             {"weights->k_bias", &w->k_bias, 1, nk, true},
             {"weights->v_bias", &w->v_bias, 1, nk, true},
             {"weights->o_bias", &w->o_bias, 1, c->out_dim, true}};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
    const clt_want want = {.name = all[i].name,
                           .dtypes = CLT_FLOATS,
                           .extent = {1, 1, all[i].rows, all[i].cols},
                           .optional = all[i].optional};
    CLT_TRY(clt_tensor_check(device, all[i].t, &want));
  }
  return CLATTN_OK;
}

/* The layer's weights and tables are borrowed views, but their buffers are kept
 * alive. */
static void for_each_weight(clattn_mha *mha,
                            void (*call)(clattn_buffer *buffer)) {
  clattn_mha_weights *w = &mha->weights;
  clattn_tensor *const all[] = {&w->q_weight,
                                &w->k_weight,
                                &w->v_weight,
                                &w->o_weight,
                                &w->q_bias,
                                &w->k_bias,
                                &w->v_bias,
                                &w->o_bias,
                                &mha->config.rotary_cos,
                                &mha->config.rotary_sin};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++)
    if (all[i]->buffer) call(all[i]->buffer);
}

clattn_status clattn_mha_create(clattn_context *context, int device,
                                const clattn_mha_config *config,
                                const clattn_mha_weights *weights,
                                clattn_mha **out) {
  CLT_REQUIRE(out, "mha: got NULL, want a place for the result");
  *out = NULL;
  CLT_REQUIRE(context, "context: got NULL, want a context");
  CLT_REQUIRE_STRUCT(config, clattn_mha_config);
  CLT_REQUIRE_STRUCT(weights, clattn_mha_weights);
  clt_device *found = NULL;
  clattn_mha_config resolved;
  CLT_TRY(clt_device_get(context, device, &found));
  CLT_TRY(resolve_config(config, &resolved));
  CLT_TRY(clt_desc_check(&resolved.attention));
  CLT_TRY(check_weights(found, &resolved, weights));
  CLT_TRY(clt_mha_check_rotary(found, &resolved));
  clattn_plan *plan = NULL;
  CLT_TRY(
      clattn_plan_create(context, found->index, &resolved.attention, &plan));
  clattn_mha *mha = clt_alloc(sizeof *mha);
  if (!mha) {
    clattn_plan_destroy(plan);
    return clt_fail(CLATTN_OUT_OF_MEMORY, "mha: out of host memory");
  }
  clt_context_retain(context);
  mha->device = found;
  mha->config = resolved;
  mha->weights = *weights;
  mha->plan = plan;
  for_each_weight(mha, clt_buffer_retain);
  *out = mha;
  return CLATTN_OK;
}

void clattn_mha_destroy(clattn_mha *mha) {
  if (!mha) return;
  for_each_weight(mha, clattn_buffer_destroy);
  clattn_plan_destroy(mha->plan);
  clattn_buffer_destroy(mha->workspace);
  clattn_buffer_destroy(mha->grads);
  clattn_event_destroy(mha->last);
  clt_context_release(mha->device->context);
  clt_free(mha);
}

/* ---- forward ------------------------------------------------------------------------ */

clattn_status clt_mha_check_inputs(const clattn_mha *mha,
                                   const clattn_mha_args *args,
                                   clt_mha_inputs *in) {
  const clattn_mha_config *c = &mha->config;
  CLT_REQUIRE_STRUCT(args, clattn_mha_args);
  in->query = args->query;
  in->key = args->key.buffer ? args->key : args->query;
  in->value = args->value.buffer ? args->value : in->key;
  const clt_want query = {
      .name = "args->query",
      .dtypes = CLT_FLOATS,
      .extent = {CLT_ANY_EXTENT, 1, CLT_ANY_EXTENT, c->embed_dim}};
  CLT_TRY(clt_tensor_check(mha->device, &in->query, &query));
  in->B = in->query.extent[0];
  in->L = in->query.extent[2];
  const clt_want key = {
      .name = args->key.buffer ? "args->key" : "args->key (the query)",
      .dtypes = CLT_FLOATS,
      .extent = {in->B, 1, CLT_ANY_EXTENT, c->kdim}};
  CLT_TRY(clt_tensor_check(mha->device, &in->key, &key));
  in->S = in->key.extent[2];
  const clt_want value = {
      .name = args->value.buffer ? "args->value" : "args->value (the key)",
      .dtypes = CLT_FLOATS,
      .extent = {in->B, 1, in->S, c->vdim}};
  CLT_TRY(clt_tensor_check(mha->device, &in->value, &value));
  const clt_want output = {.name = "args->output",
                           .dtypes = CLT_FLOATS,
                           .extent = {in->B, 1, in->L, c->out_dim},
                           .output = true};
  CLT_TRY(clt_tensor_check(mha->device, &args->output, &output));
  CLT_REQUIRE(in->B < CLT_MAX_LENGTH && in->L < CLT_MAX_LENGTH &&
                  in->S < CLT_MAX_LENGTH,
              "args->query: its extents and the key's must be < 2^30");
  return CLATTN_OK;
}

/* What is to be told of the projections. */
static clattn_status check_projected(const clattn_mha *mha,
                                     const clattn_mha_args *args,
                                     const clt_mha_inputs *in) {
  const clattn_mha_config *c = &mha->config;
  const clt_want query = {.name = "args->projected_query",
                          .dtypes = CLT_FLOATS,
                          .extent = {in->B, c->num_heads, in->L, c->head_dim},
                          .output = true,
                          .optional = true};
  CLT_TRY(clt_tensor_check(mha->device, &args->projected_query, &query));
  const clt_want key = {.name = "args->projected_key",
                        .dtypes = CLT_FLOATS,
                        .extent = {in->B, c->num_kv_heads, in->S, c->head_dim},
                        .output = true,
                        .optional = true};
  CLT_TRY(clt_tensor_check(mha->device, &args->projected_key, &key));
  if (!args->projected_query.buffer && !args->projected_key.buffer)
    return CLATTN_OK;
  return clt_guard_kernel(mha->device, CLT_K_COPY);
}

/* The outputs' memory meets nothing that the layer reads, nor each other. */
static clattn_status check_overlap(const clattn_mha *mha,
                                   const clattn_mha_args *args,
                                   const clt_mha_inputs *in) {
  const clattn_mha_weights *w = &mha->weights;
  clattn_tensor k = {0}, v = {0}, lengths = {0};
  if (args->cache)
    clt_kv_cache_views(args->cache, args->cache->lengths, &k, &v, &lengths);
  k.extent[2] = v.extent[2] = args->cache ? args->cache->config.capacity : 0;
  const struct {
    const clattn_tensor *t;
    const char *name;
  } outputs[] = {{&args->output, "args->output"},
                 {&args->weights, "args->weights"},
                 {&args->projected_query, "args->projected_query"},
                 {&args->projected_key, "args->projected_key"}},
    read[] = {{&in->query, "args->query"},
              {&in->key, "args->key"},
              {&in->value, "args->value"},
              {&args->attn_mask, "args->attn_mask"},
              {&args->key_padding_mask, "args->key_padding_mask"},
              {&args->bias, "args->bias"},
              {&args->kv_lengths, "args->kv_lengths"},
              {&args->q_starts, "args->q_starts"},
              {&args->alibi_slopes, "args->alibi_slopes"},
              {&args->sinks, "args->sinks"},
              {&args->q_positions, "args->q_positions"},
              {&args->k_positions, "args->k_positions"},
              {&k, "args->cache's keys"},
              {&v, "args->cache's values"},
              {&lengths, "args->cache's lengths"},
              {&w->q_weight, "the layer's q_weight"},
              {&w->k_weight, "the layer's k_weight"},
              {&w->v_weight, "the layer's v_weight"},
              {&w->o_weight, "the layer's o_weight"},
              {&w->q_bias, "the layer's q_bias"},
              {&w->k_bias, "the layer's k_bias"},
              {&w->v_bias, "the layer's v_bias"},
              {&w->o_bias, "the layer's o_bias"},
              {&mha->config.rotary_cos, "the layer's rotary_cos"},
              {&mha->config.rotary_sin, "the layer's rotary_sin"}};
  for (size_t o = 0; o < sizeof outputs / sizeof *outputs; o++) {
    for (size_t i = 0; i < sizeof read / sizeof *read; i++)
      CLT_TRY(clt_tensor_disjoint(outputs[o].t, outputs[o].name, read[i].t,
                                  read[i].name));
    for (size_t i = 0; i < o; i++)
      CLT_TRY(clt_tensor_disjoint(outputs[i].t, outputs[i].name, outputs[o].t,
                                  outputs[o].name));
  }
  return CLATTN_OK;
}

static clattn_status check_cache(const clattn_mha *mha,
                                 const clattn_mha_args *args, int64_t batch) {
  const clattn_kv_cache *cache = args->cache;
  if (!cache) return CLATTN_OK;
  const clattn_desc *a = &mha->config.attention;
  CLT_REQUIRE(cache->device == mha->device,
              "args->cache: is on device %d, want the layer's device %d of the "
              "same context",
              cache->device->index, mha->device->index);
  CLT_REQUIRE(!args->kv_lengths.buffer,
              "args->kv_lengths: given with a cache, which has its own");
  const struct {
    const char *name;
    int64_t got, want;
  } same[] = {{"batch", cache->config.batch, batch},
              {"kv_heads", cache->config.kv_heads, a->kv_heads},
              {"qk_dim", cache->config.qk_dim, a->qk_dim},
              {"v_dim", cache->config.v_dim, a->v_dim},
              {"dtype", cache->config.dtype, a->dtype}};
  for (size_t i = 0; i < sizeof same / sizeof *same; i++)
    CLT_REQUIRE(same[i].got == same[i].want,
                "args->cache: its %s is %" PRId64 ", want %" PRId64,
                same[i].name, same[i].got, same[i].want);
  return CLATTN_OK;
}

/* Masks under the layer's names; everything else goes by clattn_args' names,
 * which are the same. */
clattn_status clt_mha_check_masks(const clattn_mha *mha,
                                  const clattn_mha_args *args, int64_t B,
                                  int64_t L, int64_t T) {
  const clt_want mask = {.name = "args->attn_mask",
                         .dtypes = 1u << CLATTN_BOOL,
                         .extent = {B, mha->config.num_heads, L, T},
                         .broadcast = {true, true, true, true},
                         .optional = true};
  CLT_TRY(clt_tensor_check(mha->device, &args->attn_mask, &mask));
  const clt_want padding = {.name = "args->key_padding_mask",
                            .dtypes = 1u << CLATTN_BOOL,
                            .extent = {B, 1, 1, T},
                            .broadcast = {true, false, false, true},
                            .optional = true};
  return clt_tensor_check(mha->device, &args->key_padding_mask, &padding);
}

clattn_status clt_mha_lay_out(clattn_mha *mha, const clt_mha_inputs *in,
                              clattn_dtype type, clattn_buffer **buffer,
                              clt_mha_middle *m) {
  const clattn_mha_config *c = &mha->config;
  const struct {
    clattn_tensor *t;
    int64_t rows, heads;
  } parts[] = {{&m->q, in->L, c->num_heads},
               {&m->k, in->S, c->num_kv_heads},
               {&m->v, in->S, c->num_kv_heads},
               {&m->joined, in->L, c->num_heads}};
  int64_t offsets[4], used = 0;
  for (int i = 0; i < 4; i++) {
    int64_t n;
    CLT_REQUIRE(clt_mul(in->B, parts[i].rows, &n) &&
                    clt_mul(n, parts[i].heads * c->head_dim, &n) &&
                    n < INT64_MAX / 8 - used,
                "args->query: its projections overflow the size of memory");
    offsets[i] = used;
    used += (n + 63) / 64 * 64; /* each part starts on a cache line */
  }
  /* No larger than q, whose size was found to fit. */
  const int64_t rows = in->B * c->num_heads * in->L, lse_at = used;
  const size_t size = clattn_dtype_size(type);
  const size_t bytes = (size_t)used * size + (size_t)rows * sizeof(float);
  if (!*buffer || (*buffer)->bytes < bytes) {
    clattn_buffer *larger = NULL;
    CLT_TRY(clt_buffer_new(mha->device, bytes, &larger));
    clattn_buffer_destroy(*buffer); /* work in flight retains it */
    *buffer = larger;
  }
  for (int i = 0; i < 4; i++) {
    *parts[i].t = clattn_view_bshd(*buffer, type, in->B, parts[i].heads,
                                   parts[i].rows, c->head_dim);
    parts[i].t->offset = offsets[i];
  }
  m->lse = clattn_view_bhsd(*buffer, CLATTN_F32, in->B, c->num_heads, in->L, 1);
  m->lse.offset = lse_at * (int64_t)size / (int64_t)sizeof(float);
  return CLATTN_OK;
}

clattn_tensor clt_mha_joined(const clattn_tensor *heads) {
  clattn_tensor t = *heads;
  t.extent[1] = 1;
  t.extent[3] = heads->extent[1] * heads->extent[3];
  t.stride[1] = t.extent[3];
  return t;
}

static clattn_status add_linear(clt_work *work, const clattn_tensor *x,
                                const clattn_tensor *weight,
                                const clattn_tensor *bias,
                                const clattn_tensor *heads) {
  const clattn_tensor out = clt_mha_joined(heads);
  return clt_linear_add(work, x, weight, bias, &out);
}

void clt_mha_attention_args(const clattn_mha *mha, const clattn_mha_args *args,
                            const clt_mha_middle *m, clattn_args *a) {
  clattn_args_init(a);
  a->q = m->q;
  a->k = m->k;
  a->v = m->v;
  a->out = m->joined;
  if (mha->config.attention.outputs & CLATTN_OUT_LSE) a->lse = m->lse;
  a->kv_lengths = args->kv_lengths;
  a->weights = args->weights;
  a->mask = args->attn_mask;
  a->key_mask = args->key_padding_mask;
  a->bias = args->bias;
  a->q_starts = args->q_starts;
  a->q_start = args->q_start;
  a->alibi_slopes = args->alibi_slopes;
  a->sinks = args->sinks;
  a->dropout = args->dropout;
  a->dropout_seed = args->dropout_seed;
  a->dropout_offset = args->dropout_offset;
}

static clattn_status add_attention(clattn_mha *mha, clt_work *work,
                                   const clattn_mha_args *args,
                                   const clt_mha_middle *m,
                                   const clt_mha_inputs *in, int64_t *T) {
  clattn_args a;
  clt_mha_attention_args(mha, args, m, &a);
  if (args->cache) {
    CLT_TRY(clt_kv_cache_add_append(args->cache, work, &m->k, &m->v, NULL));
    clt_kv_cache_views(args->cache, args->cache->next, &a.k, &a.v,
                       &a.kv_lengths);
  }
  *T = a.k.extent[2];
  CLT_TRY(clt_mha_check_masks(mha, args, in->B, in->L, *T));
  clt_problem problem;
  CLT_TRY(clt_problem_init(&problem, &mha->plan->desc, mha->device, &a));
  clt_plan_row(mha->plan, &problem.args)->build(&problem, work);
  return work->status;
}

static clattn_status add_forward(clattn_mha *mha, clt_work *work,
                                 const clattn_mha_args *args,
                                 const clt_mha_inputs *in, int64_t *T) {
  const clattn_mha_weights *w = &mha->weights;
  clt_mha_middle m;
  CLT_TRY(clt_mha_lay_out(mha, in, mha->config.attention.dtype, &mha->workspace,
                          &m));
  CLT_TRY(add_linear(work, &in->query, &w->q_weight, &w->q_bias, &m.q));
  CLT_TRY(add_linear(work, &in->key, &w->k_weight, &w->k_bias, &m.k));
  CLT_TRY(add_linear(work, &in->value, &w->v_weight, &w->v_bias, &m.v));
  CLT_TRY(clt_mha_add_rotary(mha, work, args, &m.q, &m.k, false));
  if (args->projected_query.buffer)
    clt_copy_add(work, &m.q, &args->projected_query);
  if (args->projected_key.buffer)
    clt_copy_add(work, &m.k, &args->projected_key);
  CLT_TRY(add_attention(mha, work, args, &m, in, T));
  const clattn_tensor rows = clt_mha_joined(&m.joined);
  return clt_linear_add(work, &rows, &w->o_weight, &w->o_bias, &args->output);
}

clattn_status clt_mha_submit(clattn_mha *mha, clattn_queue *queue,
                             clt_work *work, clattn_event *const *wait,
                             size_t n_wait, clattn_event **event) {
  clattn_event *first_waits[8] = {NULL}, **waits = first_waits, *done = NULL;
  if (n_wait + 1 > sizeof first_waits / sizeof *first_waits) {
    waits = clt_alloc((n_wait + 1) * sizeof *waits);
    if (!waits)
      return clt_fail(CLATTN_OUT_OF_MEMORY, "mha: out of host memory");
  }
  size_t n = 0;
  for (; n < n_wait; n++) waits[n] = wait[n];
  if (mha->last) waits[n++] = mha->last;
  const clattn_status status =
      clt_work_submit(work, queue, NULL, waits, n, &done);
  if (waits != first_waits) clt_free(waits);
  if (status != CLATTN_OK) return status;
  clattn_event_destroy(mha->last);
  mha->last = done;
  if (event) {
    clt_event_retain(done);
    *event = done;
  }
  return CLATTN_OK;
}

clattn_status clt_mha_check_call(const clattn_mha *mha,
                                 const clattn_queue *queue,
                                 clattn_event *const *wait, size_t n_wait) {
  CLT_REQUIRE(mha, "mha: got NULL, want a layer");
  CLT_TRY(clt_check_enqueue(queue, wait, n_wait));
  CLT_REQUIRE(queue->device == mha->device,
              "queue: is on device %d, want the layer's device %d of the same "
              "context",
              queue->device->index, mha->device->index);
  return CLATTN_OK;
}

clattn_status clattn_mha_forward(clattn_mha *mha, clattn_queue *queue,
                                 const clattn_mha_args *args,
                                 clattn_event *const *wait, size_t n_wait,
                                 clattn_event **event) {
  if (event) *event = NULL;
  CLT_TRY(clt_mha_check_call(mha, queue, wait, n_wait));
  clt_mha_inputs in;
  CLT_TRY(clt_mha_check_inputs(mha, args, &in));
  CLT_TRY(check_projected(mha, args, &in));
  CLT_TRY(check_cache(mha, args, in.B));
  CLT_TRY(check_overlap(mha, args, &in));

  clt_work work;
  clt_work_init(&work, mha->device);
  int64_t T = 0;
  clattn_status status = add_forward(mha, &work, args, &in, &T);
  if (status == CLATTN_OK)
    status = clt_mha_submit(mha, queue, &work, wait, n_wait, event);
  clt_work_free(&work);
  if (status != CLATTN_OK) return status;
  mha->saved = (clt_mha_saved){in.B, in.L, in.S, T, args->cache};
  if (args->cache) clt_kv_cache_commit(args->cache);
  return CLATTN_OK;
}
