/* Gradients of the linear layer and of the multi-head attention layer, against
 * the oracle. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "../support/harness.h"
#include "../support/oracle_grad.h"
#include "../support/oracle_nn.h"
#include "errors.h"

#define COUNT(array) (int)(sizeof(array) / sizeof *(array))

/* A tensor's values now, of the pool. */
static double *fetch(const th_device *device, th_pool *pool, const th_tensor *t,
                     const char *what) {
  char message[256];
  double *got = th_alloc(pool, (size_t)t->n * sizeof *got);
  cr_expect(th_fetch(device, t, got, what, message, sizeof message), "%s on %s",
            message, device->info.name);
  return got;
}

static th_tensor random_tensor(th_pool *pool, th_rng *rng, clattn_dtype dtype,
                               const int64_t extent[4], th_layout layout) {
  return th_make(pool, dtype, extent, layout,
                 th_values(pool, rng, dtype, th_count(extent), 1));
}

/* ---- linear -------------------------------------------------------------- */

typedef struct linear_case {
  int b, m, n, k;
  clattn_dtype x, w, d_out, d_x, d_w, d_bias; /* gradients: 0: absent */
  th_layout layout;
  uint32_t accumulate;
} linear_case;

enum { ALL = CLATTN_ADD_TO_INPUTS | CLATTN_ADD_TO_WEIGHTS };
#define THREE(t) CLATTN_##t, CLATTN_##t, CLATTN_##t

static const linear_case linear_table[] = {
    {1, 1, 1, 1, THREE(F32), THREE(F32), 0, 0},
    {1, 5, 7, 3, THREE(F32), THREE(F32), 0, ALL},
    {2, 33, 65, 17, THREE(F32), THREE(F32), TH_GAPS, 0},
    {3, 9, 20, 31, THREE(F32), THREE(F32), TH_DIM2, CLATTN_ADD_TO_INPUTS},
    {2, 9, 20, 31, THREE(F32), THREE(F32), TH_TRANSPOSED,
     CLATTN_ADD_TO_WEIGHTS},
    {2, 100, 70, 300, THREE(F32), THREE(F32), TH_BSHD, 0},
    {1, 64, 128, 96, THREE(F32), THREE(F32), 0, ALL},
    {1, 1, 200, 129, THREE(F32), THREE(F32), 0, 0},
    {4, 700, 3, 5, THREE(F32), THREE(F32), 0, 0},
    {2, 19, 40, 33, THREE(F16), THREE(F16), TH_BSHD, 0},
    {2, 19, 40, 33, THREE(BF16), THREE(F32), TH_GAPS, ALL},
    {2, 19, 40, 33, CLATTN_F32, CLATTN_F16, CLATTN_F32, THREE(F32), 0, ALL},
    {2, 19, 40, 33, CLATTN_F16, CLATTN_F32, CLATTN_BF16, CLATTN_BF16,
     CLATTN_F32, CLATTN_F16, TH_DIM2, 0},
    {2, 19, 40, 33, THREE(F32), CLATTN_F32, 0, 0, 0, 0},
    {2, 19, 40, 33, THREE(F32), 0, CLATTN_F32, 0, 0, ALL},
    {2, 19, 40, 33, THREE(F32), 0, 0, CLATTN_F32, 0, 0},
};

static void run_linear(const th_device *device, const linear_case *c) {
  if (th_small() && c->b * c->m * c->n * c->k > 50000) return;
  th_pool pool = {0};
  th_rng rng = {9};
  char message[256], what[80];
  const int64_t *ex = TH_EXTENT(c->b, 1, c->m, c->k);
  const int64_t *ew = TH_EXTENT(1, 1, c->n, c->k);
  th_tensor x = random_tensor(&pool, &rng, c->x, ex, c->layout);
  th_tensor w = random_tensor(&pool, &rng, c->w, ew, c->layout);
  th_tensor dy = random_tensor(&pool, &rng, c->d_out,
                               TH_EXTENT(c->b, 1, c->m, c->n), c->layout);
  ora_linear_grads want =
      ora_linear_backward(c->b * c->m, c->n, c->k, x.v, w.v, dy.v);
  static const char *const names[3] = {"d_x", "d_w", "d_bias"};
  const ora_grad *wants[3] = {&want.x, &want.w, &want.bias};
  const clattn_dtype types[3] = {c->d_x, c->d_w, c->d_bias};
  const int64_t extents[3][4] = {
      {c->b, 1, c->m, c->k}, {1, 1, c->n, c->k}, {1, 1, 1, c->n}};
  const clattn_tensor *views[3] = {NULL};
  th_tensor d[3];
  memset(d, 0, sizeof d);
  bool adds[3];
  for (int i = 0; i < 3; i++) {
    adds[i] =
        c->accumulate & (i == 0 ? CLATTN_ADD_TO_INPUTS : CLATTN_ADD_TO_WEIGHTS);
    if (!types[i]) continue;
    d[i] = adds[i] ? random_tensor(&pool, &rng, types[i], extents[i], c->layout)
                   : th_make(&pool, types[i], extents[i], c->layout, NULL);
    th_bind(device, &d[i]);
    views[i] = &d[i].view;
  }
  th_bind(device, &x), th_bind(device, &w), th_bind(device, &dy);
  /* what no asked gradient needs may be absent */
  TH_OK(clattn_linear_backward(
      device->queue, types[1] ? &x.view : NULL, types[0] ? &w.view : NULL,
      &dy.view, views[0], views[1], views[2], c->accumulate, NULL, 0, NULL));
  for (int i = 0; i < 3; i++) {
    if (!types[i]) continue;
    snprintf(what, sizeof what, "%s (case %d)", names[i],
             (int)(c - linear_table));
    double *got = fetch(device, &pool, &d[i], what);
    for (int64_t j = 0; j < d[i].n; j++) {
      double before = adds[i] ? d[i].v[j] : 0;
      wants[i]->v[j] += before;
      wants[i]->tol[j] += 0x1p-23 * fabs(before) +
                          ora_rounding(th_type(types[i]), wants[i]->v[j]);
    }
    cr_expect(th_close(d[i].n, got, wants[i]->v, wants[i]->tol, false, what,
                       message, sizeof message),
              "%s on %s", message, device->info.name);
    th_unbind(&d[i]);
  }
  th_unbind(&x), th_unbind(&w), th_unbind(&dy);
  ora_linear_grads_free(&want);
  th_pool_free(&pool);
}

/* Calls run for each device, with dense products as said; forced: with kernels
 * for GPUs, of which nothing is compiled or checked yet. */
static void on_devices(clattn_dense dense, bool forced,
                       void (*run)(const th_device *)) {
  clattn_context_config config;
  clattn_context_config_init(&config);
  config.dense = dense;
  config.force_gpu_kernels = forced;
  if (forced) config.cache_dir = "";
  const th_devices *devices = th_open(forced);
  for (int d = 0; d < devices->count; d++) {
    th_device device = devices->device[d];
    config.backend = device.info.backend;
    TH_OK(clattn_context_create(&config, &device.context));
    device.index = 0;
    TH_OK(clattn_queue_create(device.context, 0, &device.queue));
    run(&device);
    clattn_queue_destroy(device.queue);
    clattn_context_destroy(device.context);
  }
  th_shut();
}

static void run_linears(const th_device *device) {
  for (int i = 0; i < COUNT(linear_table); i++)
    run_linear(device, &linear_table[i]);
}

Test(layer_gradients, linear_auto) {
  on_devices(CLATTN_DENSE_AUTO, false, run_linears);
}
Test(layer_gradients, linear_own) {
  on_devices(CLATTN_DENSE_OWN, false, run_linears);
}
Test(layer_gradients, linear_blas) {
  on_devices(CLATTN_DENSE_BLAS, false, run_linears);
}

static void run_sum_first(const th_device *device) {
  run_linear(device, &linear_table[COUNT(linear_table) - 1]); /* d_bias alone */
  run_linears(device);
}

Test(layer_gradients, linear_gpu_kernels) {
  on_devices(CLATTN_DENSE_AUTO, true, run_sum_first);
}

/* ---- the layer ----------------------------------------------------------- */

typedef struct layer_case {
  const char *name;
  int b, l, s, e, kdim, vdim, out, hq, hk, head; /* 0: as the API */
  bool self, key_is_value, no_bias, causal, padding, attn_mask, window;
  const char *bias; /* four letters of "bhqk", '1' broadcasts */
  bool sinks;
  double dropout;
  uint32_t accumulate;
  bool few; /* only d_query and d_weights.v_weight */
  clattn_dtype dtype;
  clattn_dtype d_weights; /* 0: dtype */
  clattn_path path;
  int rotary;              /* R; 0: none */
  bool interleaved, start; /* start: q_start 2, else at the end */
  const char *positions;   /* "b" or "1" batches of queries', of keys' */
} layer_case;

static const layer_case layers[] = {
    {.name = "self", .b = 2, .l = 7, .e = 24, .hq = 3, .self = true},
    {.name = "self, causal, accumulate",
     .b = 2,
     .l = 7,
     .e = 24,
     .hq = 3,
     .self = true,
     .causal = true,
     .accumulate = ALL},
    {.name = "cross", .b = 2, .l = 5, .s = 9, .e = 16, .hq = 2},
    {.name = "cross, value is key",
     .b = 2,
     .l = 5,
     .s = 9,
     .e = 16,
     .hq = 2,
     .key_is_value = true,
     .accumulate = CLATTN_ADD_TO_INPUTS},
    {.name = "kdim, vdim, out_dim",
     .b = 2,
     .l = 5,
     .s = 9,
     .e = 16,
     .kdim = 10,
     .vdim = 7,
     .out = 12,
     .hq = 2,
     .accumulate = CLATTN_ADD_TO_WEIGHTS},
    {.name = "gqa, head_dim",
     .b = 2,
     .l = 6,
     .e = 10,
     .hq = 4,
     .hk = 2,
     .head = 5,
     .self = true,
     .causal = true},
    {.name = "no bias, window",
     .b = 1,
     .l = 6,
     .e = 16,
     .hq = 4,
     .self = true,
     .no_bias = true,
     .window = true,
     .causal = true},
    {.name = "padding and mask",
     .b = 3,
     .l = 6,
     .s = 8,
     .e = 16,
     .hq = 4,
     .padding = true,
     .attn_mask = true},
    {.name = "bias and sinks",
     .b = 2,
     .l = 6,
     .s = 8,
     .e = 16,
     .hq = 4,
     .bias = "1hqk",
     .sinks = true,
     .accumulate = CLATTN_ADD_TO_WEIGHTS},
    {.name = "shared bias",
     .b = 2,
     .l = 6,
     .e = 16,
     .hq = 4,
     .bias = "11qk",
     .self = true},
    {.name = "dropout",
     .b = 2,
     .l = 9,
     .e = 16,
     .hq = 4,
     .self = true,
     .causal = true,
     .dropout = 0.3},
    {.name = "few gradients",
     .b = 2,
     .l = 9,
     .e = 16,
     .hq = 4,
     .self = true,
     .few = true},
    {.name = "few gradients, cross",
     .b = 2,
     .l = 9,
     .s = 4,
     .e = 16,
     .hq = 4,
     .few = true},
    {.name = "fused",
     .b = 2,
     .l = 20,
     .s = 70,
     .e = 24,
     .hq = 3,
     .path = CLATTN_FUSED},
    {.name = "unfused",
     .b = 2,
     .l = 20,
     .s = 70,
     .e = 24,
     .hq = 3,
     .path = CLATTN_UNFUSED},
    {.name = "wide",
     .b = 1,
     .l = 70,
     .e = 96,
     .hq = 6,
     .self = true,
     .causal = true},
    {.name = "f16",
     .b = 2,
     .l = 7,
     .e = 32,
     .hq = 4,
     .self = true,
     .causal = true,
     .dtype = CLATTN_F16},
    {.name = "f16, weights in f32",
     .b = 2,
     .l = 7,
     .e = 32,
     .hq = 4,
     .self = true,
     .causal = true,
     .dtype = CLATTN_F16,
     .d_weights = CLATTN_F32,
     .accumulate = CLATTN_ADD_TO_WEIGHTS},
    {.name = "rotary",
     .b = 2,
     .l = 7,
     .e = 24,
     .hq = 3,
     .self = true,
     .causal = true,
     .rotary = 8},
    {.name = "rotary, interleaved, partial, gqa, cross",
     .b = 2,
     .l = 5,
     .s = 9,
     .e = 24,
     .hq = 4,
     .hk = 2,
     .head = 10,
     .rotary = 6,
     .interleaved = true,
     .start = true},
    {.name = "rotary, longer queries than keys, wide heads",
     .b = 1,
     .l = 9,
     .s = 5,
     .e = 16,
     .hq = 2,
     .head = 68,
     .rotary = 68,
     .start = true,
     .accumulate = ALL},
    {.name = "rotary, positions",
     .b = 2,
     .l = 5,
     .s = 9,
     .e = 24,
     .hq = 3,
     .padding = true,
     .rotary = 8,
     .positions = "b1"},
    {.name = "rotary, positions of keys",
     .b = 2,
     .l = 9,
     .e = 24,
     .hq = 3,
     .self = true,
     .rotary = 4,
     .positions = " b"},
    {.name = "rotary, f16",
     .b = 2,
     .l = 7,
     .e = 32,
     .hq = 4,
     .self = true,
     .causal = true,
     .rotary = 8,
     .dtype = CLATTN_F16},
    {.name = "bf16",
     .b = 2,
     .l = 7,
     .s = 9,
     .e = 32,
     .hq = 4,
     .dtype = CLATTN_BF16},
};

enum { TABLE_ROWS = 12 };

enum {
  D_QUERY,
  D_KEY,
  D_VALUE,
  D_W,
  D_B = D_W + 4,
  D_BIAS = D_B + 4,
  D_SINKS,
  N_GRADS
};
static const char *const grad_names[N_GRADS] = {
    "d_query", "d_key", "d_value", "d_wq", "d_wk",   "d_wv",   "d_wo",
    "d_bq",    "d_bk",  "d_bv",    "d_bo", "d_bias", "d_sinks"};

typedef struct layer_data {
  layer_case c;
  th_pool pool;
  th_tensor x[3], w[4], b[4], padding, mask, bias, sinks, out, dy;
  th_tensor d[N_GRADS];
  th_tensor cos, sin, positions[2]; /* of queries, of keys */
  ora_turns turns;
  double *want_out, *want[N_GRADS];
  double size[N_GRADS]; /* of the terms, where they nearly cancel */
  clattn_mha_args args;
  clattn_mha_grads grads;
} layer_data;

static th_tensor random_mask(layer_data *t, th_rng *rng,
                             const int64_t extent[4]) {
  double *v = th_alloc(&t->pool, (size_t)th_count(extent) * sizeof *v);
  for (int64_t i = 0; i < th_count(extent); i++) v[i] = th_chance(rng, 30);
  return th_make(&t->pool, CLATTN_BOOL, extent, TH_BHSD, v);
}

/* One more gradient: like a tensor, wanted as said. */
static void want_grad(layer_data *t, th_rng *rng, int i, const th_tensor *like,
                      const double *want) {
  const layer_case *c = &t->c;
  if (!like->image || (c->few && i != D_QUERY && i != D_W + 2)) return;
  bool input = i < D_W;
  bool adds =
      c->accumulate & (input ? CLATTN_ADD_TO_INPUTS : CLATTN_ADD_TO_WEIGHTS);
  clattn_dtype dtype = input || !c->d_weights ? like->view.dtype : c->d_weights;
  const int64_t *extent = like->view.extent;
  th_layout layout = i % 2 ? TH_GAPS : TH_BHSD;
  t->d[i] = adds ? random_tensor(&t->pool, rng, dtype, extent, layout)
                 : th_make(&t->pool, dtype, extent, layout, NULL);
  t->want[i] = th_alloc(&t->pool, (size_t)like->n * sizeof(double));
  for (int64_t j = 0; j < like->n; j++)
    t->want[i][j] = want[j] + (adds ? t->d[i].v[j] : 0);
}

static ora_mha oracle_of(layer_data *t) {
  const layer_case *c = &t->c;
  return (ora_mha){.embed = c->e,
                   .kdim = c->kdim,
                   .vdim = c->vdim,
                   .out_dim = c->out,
                   .head_dim = c->head,
                   .query = t->x[0].v,
                   .key = t->x[1].v,
                   .value = t->x[2].v,
                   .wq = t->w[0].v,
                   .wk = t->w[1].v,
                   .wv = t->w[2].v,
                   .wo = t->w[3].v,
                   .bq = t->b[0].v,
                   .bk = t->b[1].v,
                   .bv = t->b[2].v,
                   .bo = t->b[3].v,
                   .turns = c->rotary ? &t->turns : NULL,
                   .core = {.batch = c->b,
                            .q_heads = c->hq,
                            .kv_heads = c->hk,
                            .q_len = c->l,
                            .kv_len = c->s,
                            .scale = 1 / sqrt(c->head),
                            .temperature = 1,
                            .causal = c->causal,
                            .true_hides = true,
                            .left = c->window ? 2 : -1,
                            .right = -1,
                            .q_start = c->start ? 2 : ORA_AT_END,
                            .dropout = (float)c->dropout,
                            .dropout_seed = 11,
                            .dropout_offset = 1ull << 35,
                            .key_mask = th_array(&t->padding),
                            .mask = th_array(&t->mask),
                            .bias = th_array(&t->bias),
                            .sinks = th_array(&t->sinks),
                            .out_type = &ora_f32,
                            .weights_type = &ora_f32}};
}

/* What stood for another input adds its gradient to that one's. */
static void fold(double *to, const double *from, int64_t n) {
  for (int64_t i = 0; i < n; i++) to[i] += from[i];
}

/* Rows of the tables for n queries (which 0) or keys of each batch, from `first`
 * on unless positions are given. */
static const int64_t *table_rows(layer_data *t, th_rng *rng, int which,
                                 int64_t n, int64_t first) {
  const layer_case *c = &t->c;
  int64_t *rows = th_alloc(&t->pool, (size_t)(c->b * n) * sizeof *rows);
  const char given = c->positions ? c->positions[which] : ' ';
  const int64_t batches = given == 'b' ? c->b : 1;
  double *v = th_alloc(&t->pool, (size_t)(c->b * n) * sizeof *v);
  for (int64_t i = 0; i < batches * n; i++) v[i] = th_below(rng, TABLE_ROWS);
  for (int64_t i = 0; i < c->b * n; i++)
    rows[i] = given == ' ' ? first + i % n : (int64_t)v[i % (batches * n)];
  if (given != ' ')
    t->positions[which] = th_make(&t->pool, which ? CLATTN_I64 : CLATTN_I32,
                                  TH_EXTENT(1, 1, batches, n), TH_GAPS, v);
  return rows;
}

static void make_rotary(layer_data *t, th_rng *rng) {
  const layer_case *c = &t->c;
  const int half = c->rotary / 2;
  const int64_t *extent = TH_EXTENT(1, 1, TABLE_ROWS, half);
  double *cosines = th_alloc(&t->pool, sizeof(double) * TABLE_ROWS * half);
  double *sines = th_alloc(&t->pool, sizeof(double) * TABLE_ROWS * half);
  for (int i = 0; i < TABLE_ROWS * half; i++) {
    const double angle = i / half * pow(50, -(double)(i % half) / half);
    cosines[i] = cos(angle), sines[i] = sin(angle);
  }
  t->cos = th_make(&t->pool, CLATTN_F32, extent, TH_GAPS, cosines);
  t->sin = th_make(&t->pool, CLATTN_F32, extent, TH_BHSD, sines);
  t->turns =
      (ora_turns){c->rotary,
                  c->interleaved,
                  t->cos.v,
                  t->sin.v,
                  table_rows(t, rng, 0, c->l, c->start ? 2 : c->s - c->l),
                  table_rows(t, rng, 1, c->s, 0)};
}

static void want_all(layer_data *t, th_rng *rng) {
  ora_mha m = oracle_of(t);
  ora_layer_grads g = ora_layer_backward(&m, t->dy.v);
  t->want_out = ora_layer(&m, NULL);
  if (t->c.self) {
    fold(g.query, g.key, t->x[0].n);
    fold(g.query, g.value, t->x[0].n);
  } else {
    if (t->c.key_is_value) fold(g.key, g.value, t->x[1].n);
    want_grad(t, rng, D_KEY, &t->x[1], g.key);
    if (!t->c.key_is_value) want_grad(t, rng, D_VALUE, &t->x[2], g.value);
  }
  want_grad(t, rng, D_QUERY, &t->x[0], g.query);
  const double *const w[4] = {g.wq, g.wk, g.wv, g.wo};
  const double *const b[4] = {g.bq, g.bk, g.bv, g.bo};
  for (int i = 0; i < 4; i++) {
    want_grad(t, rng, D_W + i, &t->w[i], w[i]);
    want_grad(t, rng, D_B + i, &t->b[i], b[i]);
  }
  /* Softmax does not see what all keys gain: without sink and softcap the key
   * bias has gradient 0, a sum of terms that are not. */
  double sum = 0;
  for (int64_t i = 0; i < g.core.k.n; i++) sum += g.core.k.v[i] * g.core.k.v[i];
  t->size[D_B + 1] = sqrt(sum / (double)(t->c.hk * t->c.head));
  want_grad(t, rng, D_BIAS, &t->bias, g.core.bias.v);
  want_grad(t, rng, D_SINKS, &t->sinks, g.core.sinks.v);
  ora_layer_grads_free(&g);
}

static void layer_data_init(layer_data *t, const layer_case *given) {
  th_rng rng = {5};
  *t = (layer_data){.c = *given};
  layer_case *c = &t->c;
  if (!c->s) c->s = c->l;
  if (!c->kdim) c->kdim = c->e;
  if (!c->vdim) c->vdim = c->e;
  if (!c->out) c->out = c->e;
  if (!c->hk) c->hk = c->hq;
  if (!c->head) c->head = c->e / c->hq;
  if (!c->dtype) c->dtype = CLATTN_F32;
  th_pool *pool = &t->pool;
  t->x[0] = random_tensor(pool, &rng, c->dtype, TH_EXTENT(c->b, 1, c->l, c->e),
                          TH_BHSD);
  t->x[1] = t->x[2] = t->x[0];
  if (!c->self) {
    t->x[1] = t->x[2] = random_tensor(
        pool, &rng, c->dtype, TH_EXTENT(c->b, 1, c->s, c->kdim), TH_GAPS);
    if (!c->key_is_value)
      t->x[2] = random_tensor(pool, &rng, c->dtype,
                              TH_EXTENT(c->b, 1, c->s, c->vdim), TH_BHSD);
  }
  const int q_dim = c->hq * c->head, kv_dim = c->hk * c->head;
  const int out[4] = {q_dim, kv_dim, kv_dim, c->out};
  const int in[4] = {c->e, c->kdim, c->vdim, q_dim};
  for (int i = 0; i < 4; i++) {
    t->w[i] = random_tensor(pool, &rng, c->dtype,
                            TH_EXTENT(1, 1, out[i], in[i]), TH_BHSD);
    if (!c->no_bias)
      t->b[i] = random_tensor(pool, &rng, c->dtype, TH_EXTENT(1, 1, 1, out[i]),
                              TH_BHSD);
  }
  if (c->padding)
    t->padding = random_mask(t, &rng, TH_EXTENT(c->b, 1, 1, c->s));
  if (c->attn_mask) t->mask = random_mask(t, &rng, TH_EXTENT(1, 1, c->l, c->s));
  if (c->bias) {
    int64_t extent[4] = {c->b, c->hq, c->l, c->s};
    for (int i = 0; i < 4; i++)
      if (c->bias[i] == '1') extent[i] = 1;
    t->bias = random_tensor(pool, &rng, CLATTN_F32, extent, TH_BHSD);
  }
  if (c->sinks)
    t->sinks = random_tensor(pool, &rng, CLATTN_F32, TH_EXTENT(1, c->hq, 1, 1),
                             TH_BHSD);
  const int64_t *extent = TH_EXTENT(c->b, 1, c->l, c->out);
  t->out = th_make(pool, c->dtype, extent, TH_GAPS, NULL);
  t->dy = random_tensor(pool, &rng, c->dtype, extent, TH_GAPS);
  if (c->rotary) make_rotary(t, &rng);
  want_all(t, &rng);
}

static void layer_unbind(layer_data *t) {
  for (int i = 0; i < 3; i++) th_unbind(&t->x[i]);
  for (int i = 0; i < 4; i++) th_unbind(&t->w[i]), th_unbind(&t->b[i]);
  for (int i = 0; i < N_GRADS; i++) th_unbind(&t->d[i]);
  th_tensor *const rest[] = {
      &t->padding, &t->mask, &t->bias, &t->sinks,        &t->out,
      &t->dy,      &t->cos,  &t->sin,  &t->positions[0], &t->positions[1]};
  for (int i = 0; i < COUNT(rest); i++) th_unbind(rest[i]);
}

static void layer_data_free(layer_data *t) {
  layer_unbind(t);
  free(t->want_out);
  th_pool_free(&t->pool);
}

static void layer_bind(layer_data *t, const th_device *device) {
  const layer_case *c = &t->c;
  for (int i = 0; i < 3; i++) th_bind(device, &t->x[i]);
  for (int i = 0; i < 4; i++)
    th_bind(device, &t->w[i]), th_bind(device, &t->b[i]);
  for (int i = 0; i < N_GRADS; i++) th_bind(device, &t->d[i]);
  th_tensor *const rest[] = {
      &t->padding, &t->mask, &t->bias, &t->sinks,        &t->out,
      &t->dy,      &t->cos,  &t->sin,  &t->positions[0], &t->positions[1]};
  for (int i = 0; i < COUNT(rest); i++) th_bind(device, rest[i]);
  clattn_mha_args_init(&t->args);
  t->args.query = t->x[0].view, t->args.output = t->out.view;
  if (!c->self) t->args.key = t->x[1].view;
  if (!c->self && !c->key_is_value) t->args.value = t->x[2].view;
  t->args.key_padding_mask = t->padding.view, t->args.attn_mask = t->mask.view;
  t->args.bias = t->bias.view, t->args.sinks = t->sinks.view;
  t->args.dropout = (float)c->dropout;
  t->args.dropout_seed = 11, t->args.dropout_offset = 1ull << 35;
  t->args.q_positions = t->positions[0].view;
  t->args.k_positions = t->positions[1].view;
  if (c->start) t->args.q_start = 2;
  clattn_mha_grads *g = &t->grads;
  clattn_mha_grads_init(g);
  g->d_output = t->dy.view;
  g->d_query = t->d[D_QUERY].view;
  g->d_key = t->d[D_KEY].view;
  g->d_value = t->d[D_VALUE].view;
  g->d_weights.q_weight = t->d[D_W].view, g->d_weights.q_bias = t->d[D_B].view;
  g->d_weights.k_weight = t->d[D_W + 1].view;
  g->d_weights.k_bias = t->d[D_B + 1].view;
  g->d_weights.v_weight = t->d[D_W + 2].view;
  g->d_weights.v_bias = t->d[D_B + 2].view;
  g->d_weights.o_weight = t->d[D_W + 3].view;
  g->d_weights.o_bias = t->d[D_B + 3].view;
  g->d_bias = t->d[D_BIAS].view, g->d_sinks = t->d[D_SINKS].view;
  g->accumulate = c->accumulate;
}

static clattn_mha *layer_create(const layer_data *t, const th_device *device,
                                bool backward) {
  const layer_case *c = &t->c;
  clattn_mha_config config;
  clattn_mha_weights weights;
  clattn_mha *mha = NULL;
  clattn_mha_config_init(&config);
  config.embed_dim = c->e, config.num_heads = c->hq;
  config.kdim = c->kdim, config.vdim = c->vdim;
  config.out_dim = c->out, config.num_kv_heads = c->hk;
  config.head_dim = c->head;
  config.attention.dtype = c->dtype;
  config.attention.causal = c->causal;
  config.attention.path = c->path;
  if (c->window) config.attention.window_left = 2;
  config.backward = backward;
  config.rotary_cos = t->cos.view, config.rotary_sin = t->sin.view;
  config.rotary_interleaved = c->interleaved;
  clattn_mha_weights_init(&weights);
  weights.q_weight = t->w[0].view, weights.k_weight = t->w[1].view;
  weights.v_weight = t->w[2].view, weights.o_weight = t->w[3].view;
  weights.q_bias = t->b[0].view, weights.k_bias = t->b[1].view;
  weights.v_bias = t->b[2].view, weights.o_bias = t->b[3].view;
  TH_OK(clattn_mha_create(device->context, device->index, &config, &weights,
                          &mha));
  return mha;
}

/* Within so many roundings of a sum as long as the longest chain of products,
 * relative to each element and to their root mean square, or to the size of what
 * nearly cancels in it. */
static void expect_grads(layer_data *t, const th_device *device,
                         const char *when) {
  const layer_case *c = &t->c;
  char message[256];
  double length = c->e + c->s + c->b * c->l + c->hq * c->head;
  double unit =
      ldexp(c->dtype == CLATTN_F32 ? 32 : 6, -th_type(c->dtype)->bits) *
      sqrt(length);
  for (int i = 0; i < N_GRADS; i++) {
    int64_t n = t->d[i].n;
    if (!t->d[i].image) continue;
    double *got = fetch(device, &t->pool, &t->d[i], grad_names[i]);
    double *tol = th_alloc(&t->pool, (size_t)n * sizeof *tol);
    double rms = 0;
    for (int64_t j = 0; j < n; j++)
      rms += t->want[i][j] * t->want[i][j] / (double)n;
    double size = fmax(sqrt(rms), t->size[i]);
    for (int64_t j = 0; j < n; j++)
      tol[j] = unit * (fabs(t->want[i][j]) + size);
    cr_expect(th_close(n, got, t->want[i], tol, false, grad_names[i], message,
                       sizeof message),
              "layer %s on %s, %s: %s", c->name, device->info.name, when,
              message);
  }
}

static void run_layer(const th_device *device, const layer_case *c) {
  if (th_small() && c->e > 32) return;
  layer_data t;
  char message[256];
  layer_data_init(&t, c);
  layer_bind(&t, device);
  clattn_mha *mha = layer_create(&t, device, true);
  TH_OK(clattn_mha_forward(mha, device->queue, &t.args, NULL, 0, NULL));
  double *got = fetch(device, &t.pool, &t.out, "output");
  cr_expect(th_near(t.out.n, got, t.want_out, t.c.dtype,
                    t.c.e + t.c.s + t.c.hq * t.c.head,
                    t.c.dtype == CLATTN_F32 ? 16 : 3, "output", message,
                    sizeof message),
            "layer %s on %s: %s", c->name, device->info.name, message);
  TH_OK(clattn_mha_backward(mha, device->queue, &t.args, &t.grads, NULL, 0,
                            NULL));
  expect_grads(&t, device, "first");

  /* forward twice, then backward: of the last one; then once more */
  for (int turn = 0; turn < 2; turn++) {
    layer_unbind(&t);
    clattn_mha_destroy(mha);
    layer_bind(&t, device);
    mha = layer_create(&t, device, true);
    for (int i = 0; i < 2 - turn; i++)
      TH_OK(clattn_mha_forward(mha, device->queue, &t.args, NULL, 0, NULL));
    TH_OK(clattn_mha_backward(mha, device->queue, &t.args, &t.grads, NULL, 0,
                              NULL));
    expect_grads(&t, device, turn ? "again" : "after two forwards");
  }
  clattn_mha_destroy(mha);
  layer_data_free(&t);
}

static void run_layers(const th_device *device) {
  for (int i = 0; i < COUNT(layers); i++) run_layer(device, &layers[i]);
}

Test(layer_gradients, mha) { on_devices(CLATTN_DENSE_AUTO, false, run_layers); }
Test(layer_gradients, mha_own) {
  on_devices(CLATTN_DENSE_OWN, false, run_layers);
}

/* The oracle's own gradients through rotary, beside central differences. */
typedef struct oracle_loss {
  ora_mha mha;
  const layer_data *t;
} oracle_loss;
static double loss_of(const void *user) {
  const oracle_loss *u = user;
  double *y = ora_layer(&u->mha, NULL), sum = 0;
  for (int64_t i = 0; i < u->t->dy.n; i++) sum += y[i] * u->t->dy.v[i];
  free(y);
  return sum;
}

Test(layer_gradients, oracle_rotary) {
  layer_data t;
  layer_data_init(&t, &(layer_case){.b = 2,
                                    .l = 3,
                                    .s = 4,
                                    .e = 8,
                                    .hq = 2,
                                    .hk = 1,
                                    .head = 6,
                                    .rotary = 4,
                                    .interleaved = true,
                                    .positions = "1b"});
  oracle_loss u = {oracle_of(&t), &t};
  ora_layer_grads g = ora_layer_backward(&u.mha, t.dy.v);
  const double *const got[5] = {g.query, g.key, g.wq, g.wk, g.bk};
  th_tensor *const of[5] = {&t.x[0], &t.x[1], &t.w[0], &t.w[1], &t.b[1]};
  for (int k = 0; k < 5; k++) {
    double *want = th_alloc(&t.pool, (size_t)of[k]->n * sizeof *want);
    onn_gradient(loss_of, &u, of[k]->n, of[k]->v, want);
    for (int64_t i = 0; i < of[k]->n; i++)
      cr_expect(fabs(got[k][i] - want[i]) <= 1e-6 * (1 + fabs(want[i])),
                "gradient %d[%lld]: %g, differences give %g", k, (long long)i,
                got[k][i], want[i]);
  }
  ora_layer_grads_free(&g);
  layer_data_free(&t);
}

/* One layer, lengths that change: what is kept belongs to the last forward. */
Test(layer_gradients, lengths_change) {
  const th_devices *devices = th_open(false);
  char message[256];
  for (int d = 0; d < devices->count; d++) {
    const th_device *device = &devices->device[d];
    layer_data t;
    layer_data_init(&t, &(layer_case){.name = "lengths",
                                      .b = 2,
                                      .l = 9,
                                      .e = 16,
                                      .hq = 2,
                                      .self = true,
                                      .causal = true});
    layer_bind(&t, device);
    clattn_mha *mha = layer_create(&t, device, true);
    clattn_mha_args part = t.args;
    part.query.extent[2] = part.output.extent[2] = 4;
    clattn_mha_grads part_grads = t.grads;
    part_grads.d_output.extent[2] = part_grads.d_query.extent[2] = 4;
    TH_OK(clattn_mha_forward(mha, device->queue, &t.args, NULL, 0, NULL));
    FAILS(INVALID_ARGUMENT, "",
          clattn_mha_backward(mha, device->queue, &part, &part_grads, NULL, 0,
                              NULL));
    TH_OK(clattn_mha_forward(mha, device->queue, &part, NULL, 0, NULL));
    FAILS(INVALID_ARGUMENT, "",
          clattn_mha_backward(mha, device->queue, &t.args, &t.grads, NULL, 0,
                              NULL));
    for (int i = 0; i < N_GRADS; i++)
      cr_expect(th_fetch(device, &t.d[i], NULL, grad_names[i], message,
                         sizeof message),
                "%s", message);
    TH_OK(clattn_mha_forward(mha, device->queue, &t.args, NULL, 0, NULL));
    TH_OK(clattn_mha_backward(mha, device->queue, &t.args, &t.grads, NULL, 0,
                              NULL));
    expect_grads(&t, device, "after others");
    clattn_mha_destroy(mha);
    layer_data_free(&t);
  }
  th_shut();
}

/* ---- bad arguments ------------------------------------------------------- */

static bool layer_fault(int n, fault *f, clattn_mha_args *a,
                        clattn_mha_grads *g) {
  BAD("d_output", g->d_output.buffer = NULL)
  BAD("d_output", g->d_output.dtype = CLATTN_I32)
  BAD("d_output", g->d_output.extent[2]++)
  BAD("d_output", g->d_output.extent[3]--)
  BAD("d_query", g->d_query.extent[3]++)
  BAD("d_query", g->d_query.dtype = CLATTN_BOOL)
  BAD("d_query", g->d_query.stride[2] = 0)
  BAD("d_key", g->d_key.extent[2]--)
  BAD("d_value", g->d_value.extent[0] = 1)
  BAD("q_weight", g->d_weights.q_weight.extent[2]--)
  BAD("k_weight", g->d_weights.k_weight.dtype = CLATTN_I64)
  BAD("v_bias", g->d_weights.v_bias.extent[3]++)
  BAD("o_weight", g->d_weights.o_weight.extent[0] = 2)
  BAD("d_bias", g->d_bias = g->d_key)   /* the layer had none */
  BAD("d_sinks", g->d_sinks = g->d_key) /* nor sinks */
  BAD("d_query", g->d_query = a->query) /* over inputs and outputs */
  BAD("", g->d_key = g->d_value)
  BAD("", g->d_weights.q_weight = g->d_weights.k_weight)
  BAD("struct_size", g->struct_size = 3)
  BAD("struct_size", g->d_weights.struct_size = 3)
  BAD("struct_size", a->struct_size = 3)
  BAD("accumulate", g->accumulate = 8)
  BAD("dropout", a->dropout = 1)
  BAD("", a->query.extent[0] = 1)
  return false;
}

Test(layer_gradients, errors) {
  const th_devices *devices = th_open(false);
  clattn_mha_grads_init(NULL);
  char message[256];
  for (int d = 0; d < devices->count; d++) {
    const th_device *device = &devices->device[d];
    layer_data t;
    fault f;
    layer_data_init(
        &t, &(layer_case){
                .name = "errors", .b = 2, .l = 5, .s = 9, .e = 16, .hq = 2});
    layer_bind(&t, device);
    clattn_mha *mha = layer_create(&t, device, true);
    FAILS(INVALID_ARGUMENT, "forward", /* before any */
          clattn_mha_backward(mha, device->queue, &t.args, &t.grads, NULL, 0,
                              NULL));
    TH_OK(clattn_mha_forward(mha, device->queue, &t.args, NULL, 0, NULL));
    for (int n = 0;; n++) {
      clattn_mha_args args = t.args;
      clattn_mha_grads grads = t.grads;
      if (!layer_fault(n, &f, &args, &grads)) break;
      expect(
          clattn_mha_backward(mha, device->queue, &args, &grads, NULL, 0, NULL),
          &f, device->info.name);
      TH_OK(clattn_queue_finish(device->queue));
      for (int i = 0; i < N_GRADS; i++)
        cr_expect(th_fetch(device, &t.d[i], NULL, grad_names[i], message,
                           sizeof message),
                  "with %s: %s", f.what, message);
    }
    FAILS(INVALID_ARGUMENT, "mha",
          clattn_mha_backward(NULL, device->queue, &t.args, &t.grads, NULL, 0,
                              NULL));
    FAILS(INVALID_ARGUMENT, "queue",
          clattn_mha_backward(mha, NULL, &t.args, &t.grads, NULL, 0, NULL));
    FAILS(
        INVALID_ARGUMENT, "args",
        clattn_mha_backward(mha, device->queue, NULL, &t.grads, NULL, 0, NULL));
    FAILS(
        INVALID_ARGUMENT, "grads",
        clattn_mha_backward(mha, device->queue, &t.args, NULL, NULL, 0, NULL));
    FAILS(INVALID_ARGUMENT, "wait",
          clattn_mha_backward(mha, device->queue, &t.args, &t.grads, NULL, 1,
                              NULL));
    TH_OK(clattn_mha_backward(mha, device->queue, &t.args, &t.grads, NULL, 0,
                              NULL));
    expect_grads(&t, device, "after errors");
    clattn_mha_destroy(mha);

    mha = layer_create(&t, device, false);
    TH_OK(clattn_mha_forward(mha, device->queue, &t.args, NULL, 0, NULL));
    FAILS(INVALID_ARGUMENT, "backward",
          clattn_mha_backward(mha, device->queue, &t.args, &t.grads, NULL, 0,
                              NULL));
    clattn_mha_destroy(mha);
    layer_data_free(&t);
  }
  th_shut();
}
