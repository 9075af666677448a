/* Rotary in the layer with a cache: what is decoded equals the whole, and where
 * positions come from. Values and gradients against the oracle are in
 * test_layer_gradients.c. */
#define _POSIX_C_SOURCE 200809L
#include <math.h>

#include "errors.h"

enum {
  B = 2,
  L = 9,
  E = 24,
  HEADS = 4,
  KV_HEADS = 2,
  HEAD = 8,
  HALF = 3, /* of what is turned */
  ROWS = 20
};

typedef struct layer_data {
  th_pool pool;
  th_tensor x, w[4], cos, sin, whole, out, positions;
  clattn_mha *mha;
  clattn_kv_cache *cache;
} layer_data;

static th_tensor *const *tensors(layer_data *t, int *n) {
  static th_tensor *all[10];
  th_tensor *const these[] = {&t->x,    &t->w[0],     &t->w[1], &t->w[2],
                              &t->w[3], &t->cos,      &t->sin,  &t->whole,
                              &t->out,  &t->positions};
  *n = (int)(sizeof these / sizeof *these);
  memcpy(all, these, sizeof these);
  return all;
}

static th_tensor numbers(layer_data *t, th_rng *rng, int64_t b, int64_t m,
                         int64_t d) {
  return th_make(&t->pool, CLATTN_F32, TH_EXTENT(b, 1, m, d), TH_BHSD,
                 th_values(&t->pool, rng, CLATTN_F32, b * m * d, 1));
}

/* A causal layer, a cache for it, and the whole text's output. */
static void open_layer(layer_data *t, const th_device *device) {
  *t = (layer_data){.mha = NULL};
  th_rng rng = {15};
  float cosines[ROWS * HALF], sines[ROWS * HALF];
  double table[2][ROWS * HALF], rows[B * 3];
  TH_OK(clattn_rotary_table(ROWS, 2 * HALF, 100, cosines, sines));
  for (int i = 0; i < ROWS * HALF; i++)
    table[0][i] = cosines[i], table[1][i] = sines[i];
  const int64_t *extent = TH_EXTENT(1, 1, ROWS, HALF);
  t->cos = th_make(&t->pool, CLATTN_F32, extent, TH_BHSD, table[0]);
  t->sin = th_make(&t->pool, CLATTN_F32, extent, TH_BHSD, table[1]);
  t->x = numbers(t, &rng, B, L, E);
  const int out[4] = {HEADS * HEAD, KV_HEADS * HEAD, KV_HEADS * HEAD, E};
  for (int i = 0; i < 4; i++)
    t->w[i] = numbers(t, &rng, 1, out[i], i < 3 ? E : HEADS * HEAD);
  for (int i = 0; i < B * 3; i++) rows[i] = i < 3 ? 5 + i : 2 + i;
  t->positions = th_make(&t->pool, CLATTN_I32, TH_EXTENT(1, 1, B, 3), TH_BHSD,
                         rows); /* 5 6 7, 5 6 7 */
  t->whole = th_make(&t->pool, CLATTN_F32, t->x.view.extent, TH_BHSD, NULL);
  t->out = th_make(&t->pool, CLATTN_F32, t->x.view.extent, TH_BHSD, NULL);
  int n;
  th_tensor *const *all = tensors(t, &n);
  for (int i = 0; i < n; i++) th_bind(device, all[i]);

  clattn_mha_config config;
  clattn_mha_weights weights;
  clattn_mha_config_init(&config);
  config.embed_dim = E, config.num_heads = HEADS;
  config.num_kv_heads = KV_HEADS, config.head_dim = HEAD;
  config.attention.causal = true;
  config.rotary_cos = t->cos.view, config.rotary_sin = t->sin.view;
  clattn_mha_weights_init(&weights);
  weights.q_weight = t->w[0].view, weights.k_weight = t->w[1].view;
  weights.v_weight = t->w[2].view, weights.o_weight = t->w[3].view;
  TH_OK(clattn_mha_create(device->context, device->index, &config, &weights,
                          &t->mha));
  clattn_kv_cache_config cache;
  clattn_kv_cache_config_init(&cache);
  cache.batch = B, cache.kv_heads = KV_HEADS, cache.capacity = L + 4;
  cache.qk_dim = cache.v_dim = HEAD;
  TH_OK(clattn_kv_cache_create(device->context, device->index, &cache,
                               &t->cache));
  clattn_mha_args args;
  clattn_mha_args_init(&args);
  args.query = t->x.view, args.output = t->whole.view;
  TH_OK(clattn_mha_forward(t->mha, device->queue, &args, NULL, 0, NULL));
}

static void close_layer(layer_data *t) {
  clattn_mha_destroy(t->mha);
  clattn_kv_cache_destroy(t->cache);
  int n;
  th_tensor *const *all = tensors(t, &n);
  for (int i = 0; i < n; i++) th_unbind(all[i]);
  th_pool_free(&t->pool);
}

/* Tokens from..to-1 of each batch through the cache. */
static clattn_mha_args part(const layer_data *t, int64_t from, int64_t to) {
  clattn_mha_args args;
  clattn_mha_args_init(&args);
  args.cache = t->cache;
  args.query = t->x.view, args.output = t->out.view;
  args.query.extent[2] = args.output.extent[2] = to - from;
  args.query.offset += from * E;
  args.output.offset += from * E;
  return args;
}

/* The rows from..to-1 of out are those of the whole. */
static void expect_rows(layer_data *t, const th_device *device, int64_t from,
                        int64_t to, const char *what) {
  char message[256];
  double *want = th_alloc(&t->pool, (size_t)t->out.n * sizeof *want);
  double *got = th_alloc(&t->pool, (size_t)t->out.n * sizeof *got);
  cr_assert(th_fetch(device, &t->whole, want, "whole", message, 256) &&
                th_fetch(device, &t->out, got, "out", message, 256),
            "%s", message);
  for (int64_t i = 0; i < t->out.n; i++)
    if (i / E % L >= from && i / E % L < to)
      cr_expect(fabs(got[i] - want[i]) <= 1e-4 * (1 + fabs(want[i])),
                "%s on %s: element %lld is %g, want %g", what,
                device->info.name, (long long)i, got[i], want[i]);
}

static void decode(const th_device *device) {
  layer_data t;
  open_layer(&t, device);
  for (int64_t s = 0, n; s < L; s += n) {
    n = s == 0 ? 4 : 1; /* a prompt of four, then token by token */
    clattn_mha_args args = part(&t, s, s + n);
    TH_OK(clattn_mha_forward(t.mha, device->queue, &args, NULL, 0, NULL));
  }
  expect_rows(&t, device, 0, L, "decode");

  /* Entries of different length: positions are needed. Entry 0 goes on at 5;
   * entry 1, which holds more, only makes them differ. */
  TH_OK(clattn_kv_cache_truncate(t.cache, device->queue,
                                 (const int64_t[B]){5, 8}));
  clattn_mha_args args = part(&t, 5, 8), bad = args;
  FAILS(INVALID_ARGUMENT, "q_positions",
        clattn_mha_forward(t.mha, device->queue, &bad, NULL, 0, NULL));
  bad.q_positions = t.positions.view;
  FAILS(INVALID_ARGUMENT, "k_positions",
        clattn_mha_forward(t.mha, device->queue, &bad, NULL, 0, NULL));
  cr_expect_eq(clattn_kv_cache_length(t.cache, 1), 8);
  args.q_positions = args.k_positions = t.positions.view;
  TH_OK(clattn_mha_forward(t.mha, device->queue, &args, NULL, 0, NULL));
  double *before = th_alloc(&t.pool, (size_t)t.out.n * sizeof *before);
  char message[256];
  th_fetch(device, &t.whole, before, "whole", message, sizeof message);
  double *got = th_alloc(&t.pool, (size_t)t.out.n * sizeof *got);
  th_fetch(device, &t.out, got, "out", message, sizeof message);
  for (int64_t i = 5 * E; i < 8 * E; i++) /* of entry 0 */
    cr_expect(fabs(got[i] - before[i]) <= 1e-4 * (1 + fabs(before[i])),
              "%lld: %g, want %g", (long long)i, got[i], before[i]);
  close_layer(&t);
}

Test(layer_rotary, decode_equals_whole) { th_each_device(decode); }

static bool forward_fault(int n, fault *f, layer_data *t, clattn_mha_args *a) {
  BAD("rows of config->rotary_cos", a->q_start = ROWS - L + 1)
  BAD("positions -1..7", a->q_start = -1)
  BAD("q_start", a->q_start = INT64_MAX)
  BAD("q_start", a->q_start = (int64_t)1 << 30)
  BAD("q_positions", a->q_starts = t->positions.view, a->q_starts.extent[2] = 1,
      a->q_starts.extent[3] = 1, a->q_starts.extent[0] = B)
  BAD("q_positions", a->kv_lengths = t->positions.view,
      a->kv_lengths.extent[2] = 1, a->kv_lengths.extent[3] = 1,
      a->kv_lengths.extent[0] = B)
  BAD("args->q_positions", a->q_positions = t->positions.view)
  BAD("args->k_positions", a->k_positions = t->x.view)
  BAD("args->q_positions", a->q_positions = t->positions.view,
      a->q_positions.extent[3] = L, a->q_positions.stride[3] = 0,
      a->q_positions.dtype = CLATTN_F32)
  BAD("args->q_positions", a->q_positions = t->positions.view,
      a->q_positions.extent[3] = L, a->q_positions.stride[3] = 0,
      a->q_positions.buffer = t->out.view.buffer)
  BAD("rotary_cos", a->output.buffer = t->cos.view.buffer,
      a->output.stride[2] = 0, a->output.stride[0] = 0,
      a->query.extent[0] = a->output.extent[0] = 1,
      a->query.extent[2] = a->output.extent[2] = 1)
  BAD("args->key", a->key = t->x.view, a->key.stride[2] = 0,
      a->key.extent[2] = ROWS + 1, a->q_start = 0)
  return false;
}

static bool config_fault(int n, fault *f, clattn_mha_config *c) {
  BAD("rotary_cos", c->rotary_cos.buffer = NULL)
  BAD("rotary_sin", c->rotary_sin.buffer = NULL)
  BAD("rotary_cos", c->rotary_cos.dtype = CLATTN_F16)
  BAD("rotary_sin", c->rotary_sin.extent[2]--)
  BAD("rotary_sin", c->rotary_sin.extent[3]--)
  BAD("rotary_cos", c->rotary_cos.extent[1] = 2)
  BAD("rotary_cos", c->rotary_cos.extent[2] = 1, c->rotary_cos.extent[3] = 5)
  BAD("rotary_sin", c->rotary_sin.buffer = elsewhere)
  return false;
}

static void errors(const th_device *device) {
  layer_data t;
  fault f;
  open_layer(&t, device);
  clattn_mha_args good, args;
  clattn_mha_args_init(&good);
  good.query = t.x.view, good.output = t.out.view;
  for (int n = 0;; n++) {
    args = good;
    if (!forward_fault(n, &f, &t, &args)) break;
    expect(clattn_mha_forward(t.mha, device->queue, &args, NULL, 0, NULL), &f,
           "mha_forward");
  }
  clattn_mha_config config, bad;
  clattn_mha_weights weights;
  clattn_mha_config_init(&config);
  config.embed_dim = E, config.num_heads = HEADS;
  config.num_kv_heads = KV_HEADS, config.head_dim = HEAD;
  config.rotary_cos = t.cos.view, config.rotary_sin = t.sin.view;
  clattn_mha_weights_init(&weights);
  weights.q_weight = t.w[0].view, weights.k_weight = t.w[1].view;
  weights.v_weight = t.w[2].view, weights.o_weight = t.w[3].view;
  clattn_mha *mha = NULL;
  for (int n = 0;; n++) {
    bad = config;
    if (!config_fault(n, &f, &bad)) break;
    expect(
        clattn_mha_create(device->context, device->index, &bad, &weights, &mha),
        &f, "mha_create");
    cr_expect_null(mha);
  }
  bad = config; /* no tables: no positions */
  bad.rotary_cos.buffer = bad.rotary_sin.buffer = NULL;
  TH_OK(
      clattn_mha_create(device->context, device->index, &bad, &weights, &mha));
  args = good;
  args.k_positions = t.positions.view;
  FAILS(INVALID_ARGUMENT, "k_positions",
        clattn_mha_forward(mha, device->queue, &args, NULL, 0, NULL));
  clattn_mha_destroy(mha);
  char message[256];
  cr_expect(th_fetch(device, &t.out, NULL, "out", message, sizeof message),
            "%s", message);
  TH_OK(clattn_mha_forward(t.mha, device->queue, &good, NULL, 0, NULL));
  expect_rows(&t, device, 0, L, "after errors");
  close_layer(&t);
}

Test(layer_rotary, errors) {
  clattn_context *other = another_context();
  TH_OK(clattn_buffer_create(other, 0, 4096, &elsewhere));
  th_each_device(errors);
  clattn_buffer_destroy(elsewhere);
  clattn_context_destroy(other);
}
