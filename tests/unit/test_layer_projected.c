/* What the layer tells of its projections: queries and keys as they are
 * multiplied, against the oracle. */
#include <math.h>

#include "errors.h"

typedef struct projected_case {
  int b, l, s, heads, kv_heads, dim, embed, half; /* half 0: not rotary */
  bool bias, interleaved;
  clattn_dtype attention, told; /* types of attention, and of what is told */
  th_layout layout;
  int cached; /* > 0: that many rows go to a cache before */
  bool query, key;
} projected_case;

static const projected_case cases[] = {
    {1, 1, 1, 1, 1, 4, 4, 0, false, false, CLATTN_F32, CLATTN_F32, TH_BHSD, 0,
     true, true},
    {2, 5, 9, 6, 2, 8, 20, 0, true, false, CLATTN_F32, CLATTN_F32, TH_GAPS, 0,
     true, true},
    {2, 7, 7, 4, 2, 10, 24, 3, true, false, CLATTN_F32, CLATTN_F32, TH_BHSD, 0,
     true, true},
    {2, 7, 7, 4, 1, 8, 24, 4, false, true, CLATTN_F32, CLATTN_F16, TH_DIM2, 0,
     true, true},
    {2, 6, 6, 4, 4, 8, 16, 4, true, false, CLATTN_F16, CLATTN_F32,
     TH_TRANSPOSED, 0, true, true},
    {1, 6, 6, 4, 4, 8, 16, 0, true, false, CLATTN_BF16, CLATTN_F16, TH_BSHD, 0,
     true, true},
    {2, 3, 3, 4, 2, 8, 24, 3, true, false, CLATTN_F32, CLATTN_F32, TH_BSHD, 4,
     true, true},
    {1, 1, 1, 4, 2, 8, 24, 4, false, false, CLATTN_F16, CLATTN_BF16, TH_BHSD, 6,
     true, true},
    {2, 5, 9, 6, 2, 8, 20, 0, true, false, CLATTN_F32, CLATTN_F32, TH_BHSD, 0,
     true, false},
    {2, 5, 9, 6, 2, 8, 20, 0, true, false, CLATTN_F32, CLATTN_F32, TH_BHSD, 0,
     false, true},
};

enum { TABLE_ROWS = 16, TENSORS = 13 };

typedef struct setup {
  const projected_case *c;
  const th_device *device;
  th_pool pool;
  th_tensor x, y, w[4], bias[2], cos, sin, out, query, key;
  clattn_mha *mha;
  clattn_kv_cache *cache;
} setup;

static void all_tensors(setup *t, th_tensor *all[TENSORS]) {
  th_tensor *const these[TENSORS] = {
      &t->x,    &t->y,       &t->w[0],    &t->w[1], &t->w[2],
      &t->w[3], &t->bias[0], &t->bias[1], &t->cos,  &t->sin,
      &t->out,  &t->query,   &t->key};
  memcpy(all, these, sizeof these);
}

static th_tensor numbers(setup *t, th_rng *rng, int64_t b, int64_t m,
                         int64_t d) {
  return th_make(&t->pool, CLATTN_F32, TH_EXTENT(b, 1, m, d), TH_BHSD,
                 th_values(&t->pool, rng, CLATTN_F32, b * m * d, 1));
}

static void make_tensors(setup *t) {
  const projected_case *c = t->c;
  th_rng rng = {41};
  const int64_t nq = c->heads * c->dim, nk = c->kv_heads * c->dim;
  t->x = numbers(t, &rng, c->b, c->l, c->embed);
  t->y = numbers(t, &rng, c->b, c->s, c->embed);
  t->w[0] = numbers(t, &rng, 1, nq, c->embed);
  t->w[1] = numbers(t, &rng, 1, nk, c->embed);
  t->w[2] = numbers(t, &rng, 1, nk, c->embed);
  t->w[3] = numbers(t, &rng, 1, c->embed, nq);
  if (c->bias) t->bias[0] = numbers(t, &rng, 1, 1, nq);
  if (c->bias) t->bias[1] = numbers(t, &rng, 1, 1, nk);
  if (c->half > 0) {
    t->cos = numbers(t, &rng, 1, TABLE_ROWS, c->half);
    t->sin = numbers(t, &rng, 1, TABLE_ROWS, c->half);
  }
  t->out = th_make(&t->pool, CLATTN_F32, t->x.view.extent, TH_BHSD, NULL);
  t->query = th_make(&t->pool, c->told, TH_EXTENT(c->b, c->heads, c->l, c->dim),
                     c->layout, NULL);
  t->key = th_make(&t->pool, c->told,
                   TH_EXTENT(c->b, c->kv_heads, c->s, c->dim), c->layout, NULL);
  th_tensor *all[TENSORS];
  all_tensors(t, all);
  for (int i = 0; i < TENSORS; i++) th_bind(t->device, all[i]);
}

static void make_layer(setup *t) {
  const projected_case *c = t->c;
  clattn_mha_config config;
  clattn_mha_weights weights;
  clattn_mha_config_init(&config);
  config.embed_dim = c->embed, config.num_heads = c->heads;
  config.num_kv_heads = c->kv_heads, config.head_dim = c->dim;
  config.attention.dtype = c->attention;
  config.rotary_cos = t->cos.view, config.rotary_sin = t->sin.view;
  config.rotary_interleaved = c->interleaved;
  clattn_mha_weights_init(&weights);
  weights.q_weight = t->w[0].view, weights.k_weight = t->w[1].view;
  weights.v_weight = t->w[2].view, weights.o_weight = t->w[3].view;
  weights.q_bias = t->bias[0].view, weights.k_bias = t->bias[1].view;
  TH_OK(clattn_mha_create(t->device->context, t->device->index, &config,
                          &weights, &t->mha));
  if (c->cached == 0) return;
  clattn_kv_cache_config cache;
  clattn_kv_cache_config_init(&cache);
  cache.batch = c->b, cache.kv_heads = c->kv_heads;
  cache.capacity = c->cached + c->s;
  cache.qk_dim = cache.v_dim = c->dim;
  cache.dtype = c->attention;
  TH_OK(clattn_kv_cache_create(t->device->context, t->device->index, &cache,
                               &t->cache));
  /* The same inputs, cut or repeated, fill it: what they are does not matter. */
  for (int left = c->cached; left > 0;) {
    const int n = left < c->s ? left : c->s;
    clattn_mha_args args;
    clattn_mha_args_init(&args);
    args.query = t->y.view, args.output = t->out.view;
    args.query.extent[2] = args.output.extent[2] = n;
    args.cache = t->cache;
    TH_OK(clattn_mha_forward(t->mha, t->device->queue, &args, NULL, 0, NULL));
    left -= n;
  }
}

static void destroy(setup *t) {
  clattn_mha_destroy(t->mha);
  clattn_kv_cache_destroy(t->cache);
  th_tensor *all[TENSORS];
  all_tensors(t, all);
  for (int i = 0; i < TENSORS; i++) th_unbind(all[i]);
  th_pool_free(&t->pool);
}

static clattn_mha_args forward_args(const setup *t) {
  clattn_mha_args args;
  clattn_mha_args_init(&args);
  args.query = t->x.view, args.output = t->out.view;
  if (t->cache == NULL) args.key = t->y.view;
  args.cache = t->cache;
  if (t->c->query) args.projected_query = t->query.view;
  if (t->c->key) args.projected_key = t->key.view;
  return args;
}

/* What was told of x [B,n,E] through weights and bias, head by head; row i is
 * turned by row first + i of the tables. */
static void expect_told(setup *t, const th_tensor *told, const th_tensor *x,
                        int which, int heads, int n, int64_t first,
                        const char *name) {
  const projected_case *c = t->c;
  const int64_t d = c->dim, rows = c->b * n, count = rows * heads * d;
  const size_t bytes = (size_t)count * sizeof(double);
  double *y = th_alloc(&t->pool, bytes), *tol = th_alloc(&t->pool, bytes);
  double *want = th_alloc(&t->pool, bytes), *all = th_alloc(&t->pool, bytes);
  double *got = th_alloc(&t->pool, bytes);
  ora_linear(rows, heads * d, c->embed, x->v, t->w[which].v,
             c->bias ? t->bias[which].v : NULL, y, tol);
  const ora_type *kept = th_type(c->attention), *out = th_type(c->told);
  for (int64_t b = 0; b < c->b; b++)
    for (int64_t h = 0; h < heads; h++)
      for (int64_t i = 0; i < n; i++) {
        const int64_t from = ((b * n + i) * heads + h) * d;
        const int64_t to = ((b * heads + h) * n + i) * d;
        const int64_t row = (first + i) * c->half;
        double turned[64], more[64];
        memcpy(turned, y + from, (size_t)d * sizeof *turned);
        memset(more, 0, sizeof more);
        if (c->half > 0)
          ora_rotary(d, 2 * c->half, c->interleaved, y + from, t->cos.v + row,
                     t->sin.v + row, turned, more);
        double worst = 0; /* a turned number has its error from two */
        for (int64_t k = 0; k < d; k++)
          worst = fmax(worst, tol[from + k] + ora_rounding(kept, y[from + k]));
        for (int64_t k = 0; k < d; k++) {
          want[to + k] = turned[k];
          all[to + k] = 2 * worst + more[k] + ora_rounding(kept, turned[k]) +
                        ora_rounding(out, turned[k]);
        }
      }
  char message[256];
  cr_expect(
      th_fetch(t->device, told, got, name, message, sizeof message) &&
          th_close(count, got, want, all, false, name, message, sizeof message),
      "case %d, %s on %s: %s", (int)(c - cases), name, t->device->info.name,
      message);
}

static void run_case(const th_device *device, const projected_case *c) {
  setup t = {.c = c, .device = device};
  make_tensors(&t);
  make_layer(&t);
  const clattn_mha_args args = forward_args(&t);
  TH_OK(clattn_mha_forward(t.mha, device->queue, &args, NULL, 0, NULL));
  /* With a cache, queries and keys are behind what it held; else queries are at
   * the end of the keys. */
  const th_tensor *keys = t.cache ? &t.x : &t.y;
  const int64_t first = t.cache ? c->cached : c->s - c->l;
  char message[256];
  if (c->query)
    expect_told(&t, &t.query, &t.x, 0, c->heads, c->l, first, "query");
  else
    cr_expect(th_fetch(device, &t.query, NULL, "query", message, 256), "%s",
              message);
  if (c->key)
    expect_told(&t, &t.key, keys, 1, c->kv_heads, c->s, c->cached, "key");
  else
    cr_expect(th_fetch(device, &t.key, NULL, "key", message, 256), "%s",
              message);
  destroy(&t);
}

Test(layer_projected, values) {
  const th_devices *devices = th_open(false);
  for (int d = 0; d < devices->count; d++)
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
      run_case(&devices->device[d], &cases[i]);
  th_shut();
}

/* ---- faults ---------------------------------------------------------------------- */

static bool damage(int n, clattn_mha_args *a, const setup *t, fault *f) {
  clattn_tensor *q = &a->projected_query, *k = &a->projected_key;
  BAD("args->projected_query", q->extent[0]++)
  BAD("args->projected_query", q->extent[1]--)
  BAD("args->projected_query", q->extent[2]++)
  BAD("args->projected_query", q->extent[3]--)
  BAD("args->projected_query", q->dtype = CLATTN_I32)
  BAD("args->projected_query", q->stride[2] = 0)
  BAD("args->projected_query", q->offset = HUGE_LENGTH)
  BAD("args->projected_query", q->buffer = elsewhere)
  BAD("args->projected_key", k->extent[0]++)
  BAD("args->projected_key", k->extent[1] = t->c->heads)
  BAD("args->projected_key", k->extent[2]--)
  BAD("args->projected_key", k->extent[3]--)
  BAD("args->projected_key", k->dtype = CLATTN_BOOL)
  BAD("args->projected_key", k->buffer = elsewhere)
  BAD("args->projected_query", q->buffer = t->x.view.buffer)
  BAD("args->projected_key", k->buffer = t->w[0].view.buffer)
  BAD("args->projected_key", k->buffer = q->buffer)
  BAD("args->projected_query", q->buffer = a->output.buffer)
  return false;
}

static void faults_on(const th_device *device) {
  const projected_case c = {2,       5, 5,    6,    2,          8,
                            24,      0, true, true, CLATTN_F32, CLATTN_F32,
                            TH_BHSD, 0, true, true};
  setup t = {.c = &c, .device = device};
  make_tensors(&t);
  make_layer(&t);
  clattn_context *other = another_context();
  TH_OK(clattn_buffer_create(other, 0, 1 << 16, &elsewhere));
  for (int n = 0;; n++) {
    clattn_mha_args args = forward_args(&t);
    fault f;
    if (!damage(n, &args, &t, &f)) break;
    expect(clattn_mha_forward(t.mha, device->queue, &args, NULL, 0, NULL), &f,
           "forward");
  }
  char message[256];
  cr_expect(th_fetch(device, &t.out, NULL, "out", message, 256) &&
                th_fetch(device, &t.query, NULL, "query", message, 256) &&
                th_fetch(device, &t.key, NULL, "key", message, 256),
            "%s", message);
  clattn_buffer_destroy(elsewhere);
  clattn_context_destroy(other);
  destroy(&t);
}

Test(layer_projected, faults) { th_each_device(faults_on); }
