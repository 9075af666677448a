/* Rotary, copy, linear, KV cache and the layer, against the oracle. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "../support/attn_case.h"

#define COUNT(array) (int)(sizeof(array) / sizeof *(array))

static const clattn_dtype floats[3] = {CLATTN_F32, CLATTN_F16, CLATTN_BF16};

/* Fetches out and compares; the tolerance gains the rounding of its type. */
static void expect(const th_device *device, th_pool *pool, const th_tensor *out,
                   const double *want, const double *tol, const char *what) {
  char message[256];
  double *got = th_alloc(pool, (size_t)out->n * sizeof *got);
  double *all = th_alloc(pool, (size_t)out->n * sizeof *all);
  for (int64_t i = 0; i < out->n; i++)
    all[i] = tol[i] + ora_rounding(th_type(out->view.dtype), want[i]);
  cr_expect(th_fetch(device, out, got, what, message, sizeof message) &&
                th_close(out->n, got, want, all, false, what, message,
                         sizeof message),
            "%s on %s: %s", what, device->info.name, message);
}

/* ---- rotary -------------------------------------------------------------- */

typedef enum { BY_TOKEN, BY_IDS, BY_IDS_SHARED, BY_START } rotary_rows;

typedef struct rotary_case {
  int b, h, s, d, r; /* r 0: d */
  rotary_rows rows;
  bool interleaved, in_place, one_table;
  clattn_dtype dtype, table;
  th_layout layout;
  bool inverse;
} rotary_case;

static const rotary_case rotary_table[] = {
    {1, 1, 1, 2, 0, BY_TOKEN, false, false, false, CLATTN_F32, CLATTN_F32, 0,
     false},
    {2, 3, 5, 8, 0, BY_TOKEN, false, false, false, CLATTN_F32, CLATTN_F32, 0,
     false},
    {2, 3, 5, 8, 0, BY_TOKEN, true, false, true, CLATTN_F32, CLATTN_F16,
     TH_BSHD, false},
    {2, 3, 5, 7, 4, BY_IDS, false, false, false, CLATTN_F32, CLATTN_F32,
     TH_GAPS, false},
    {2, 3, 5, 7, 4, BY_IDS, true, true, false, CLATTN_F16, CLATTN_F32, TH_DIM2,
     false},
    {2, 3, 5, 70, 66, BY_IDS_SHARED, false, false, false, CLATTN_BF16,
     CLATTN_BF16, TH_TRANSPOSED, false},
    {2, 2, 9, 64, 0, BY_START, false, true, false, CLATTN_F32, CLATTN_F32, 0,
     false},
    {2, 2, 9, 64, 32, BY_START, true, false, false, CLATTN_F16, CLATTN_F16,
     TH_BSHD, false},
    {2, 2, 9, 78, 74, BY_START, false, true, false, CLATTN_F32, CLATTN_F32,
     TH_BSHD, true},
    {2, 2, 9, 34, 0, BY_START, false, false, false, CLATTN_BF16, CLATTN_F16, 0,
     false},
    {2, 2, 9, 12, 10, BY_IDS, true, true, false, CLATTN_F32, CLATTN_F32, 0,
     true},
};

static void run_rotary(const th_device *device, const rotary_case *c) {
  enum { N = 40, START = 11 };
  th_pool pool = {0};
  th_rng rng = {77};
  int r = c->r ? c->r : c->d, half = r / 2;
  bool by_row = c->rows != BY_TOKEN;
  const int64_t *extent = TH_EXTENT(c->b, c->h, c->s, c->d);
  const int64_t *table =
      by_row ? TH_EXTENT(1, 1, N, half)
             : TH_EXTENT(c->one_table ? 1 : c->b, 1, c->s, half);
  int64_t n = th_count(extent), n_table = th_count(table);
  th_tensor x = th_make(&pool, c->dtype, extent, c->layout,
                        th_values(&pool, &rng, c->dtype, n, 2));
  th_tensor cos = th_make(&pool, c->table, table, TH_GAPS,
                          th_values(&pool, &rng, c->table, n_table, 1));
  th_tensor sin = th_make(&pool, c->table, table, TH_BHSD,
                          th_values(&pool, &rng, c->table, n_table, 1));
  th_tensor out = th_make(&pool, c->dtype, extent, TH_BSHD, NULL);
  th_tensor ids = {0};
  if (c->rows == BY_IDS || c->rows == BY_IDS_SHARED) {
    int b = c->rows == BY_IDS ? c->b : 1;
    double *v = th_alloc(&pool, (size_t)(b * c->s) * sizeof *v);
    for (int i = 0; i < b * c->s; i++) v[i] = th_below(&rng, N + 4) - 2;
    ids = th_make(&pool, c->interleaved ? CLATTN_I64 : CLATTN_I32,
                  TH_EXTENT(1, 1, b, c->s), TH_GAPS, v);
  }

  double *want = th_alloc(&pool, (size_t)n * sizeof *want);
  double *tol = th_alloc(&pool, (size_t)n * sizeof *tol);
  for (int64_t i = 0; i < n / c->d; i++) { /* i = (b, h, s) */
    int64_t s = i % c->s, b = i / c->s / c->h, row = s;
    if (c->rows == BY_START) row = START + s;
    if (ids.image) row = (int64_t)ids.v[c->rows == BY_IDS ? b * c->s + s : s];
    if (by_row) row = row < 0 ? 0 : row > N - 1 ? N - 1 : row;
    if (!by_row && !c->one_table) row += b * c->s;
    double *sines = th_alloc(&pool, (size_t)half * sizeof *sines);
    for (int k = 0; k < half; k++)
      sines[k] = sin.v[row * half + k] * (c->inverse ? -1 : 1);
    ora_rotary(c->d, r, c->interleaved, x.v + i * c->d, cos.v + row * half,
               sines, want + i * c->d, tol + i * c->d);
  }

  clattn_rotary_args args;
  clattn_rotary_args_init(&args);
  th_tensor *const bound[5] = {&x, &cos, &sin, &ids, &out};
  for (int i = 0; i < 5; i++) th_bind(device, bound[i]);
  args.x = x.view, args.cos = cos.view, args.sin = sin.view;
  args.out = c->in_place ? x.view : out.view;
  args.position_ids = ids.view;
  if (c->rows == BY_START) args.position_start = START;
  args.rotary_dim = c->r;
  args.interleaved = c->interleaved;
  args.inverse = c->inverse;
  TH_OK(clattn_rotary(device->queue, &args, NULL, 0, NULL));
  expect(device, &pool, c->in_place ? &x : &out, want, tol, "rotary");
  for (int i = 0; i < 5; i++) th_unbind(bound[i]);
  th_pool_free(&pool);
}

Test(layer, rotary) {
  const th_devices *devices = th_open(false);
  for (int d = 0; d < devices->count; d++)
    for (int i = 0; i < COUNT(rotary_table); i++)
      run_rotary(&devices->device[d], &rotary_table[i]);
  th_shut();
}

Test(layer, rotary_table) {
  enum { N = 7, R = 6 };
  float c[N * R / 2], s[N * R / 2];
  TH_OK(clattn_rotary_table(N, R, 1e4, c, s));
  for (int i = 0; i < N; i++)
    for (int k = 0; k < R / 2; k++) {
      double angle = i * pow(1e4, -2.0 * k / R);
      cr_expect_float_eq(c[i * R / 2 + k], cos(angle), 1e-7);
      cr_expect_float_eq(s[i * R / 2 + k], sin(angle), 1e-7);
    }
}

/* ---- copy ---------------------------------------------------------------- */

Test(layer, copy) {
  const th_devices *devices = th_open(false);
  for (int d = 0; d < devices->count; d++)
    for (int i = 0; i < 9 * TH_LAYOUTS; i++) {
      const th_device *device = &devices->device[d];
      clattn_dtype from = floats[i % 3], to = floats[i / 3 % 3];
      th_pool pool = {0};
      th_rng rng = {(uint64_t)i};
      const int64_t *extent = TH_EXTENT(2, 3, 4, 1 + 7 * (i % 4));
      int64_t n = th_count(extent);
      double *v = th_values(&pool, &rng, from, n, 3);
      v[0] = INFINITY, v[n - 1] = -0.0;
      if (n > 30) v[1] = 0x1p-20, v[2] = 70000, v[3] = 1 + 0x1p-9;
      th_tensor x = th_make(&pool, from, extent, (th_layout)(i / 9), v);
      th_tensor y =
          th_make(&pool, to, extent, (th_layout)(i % TH_LAYOUTS), NULL);
      double *want = th_alloc(&pool, (size_t)n * sizeof *want);
      double *tol = th_alloc(&pool, (size_t)n * sizeof *tol);
      double *got = th_alloc(&pool, (size_t)n * sizeof *got);
      for (int64_t j = 0; j < n; j++) want[j] = ora_round(th_type(to), x.v[j]);
      th_bind(device, &x), th_bind(device, &y);
      TH_OK(clattn_copy(device->queue, &x.view, &y.view, NULL, 0, NULL));
      char message[256];
      cr_expect(th_fetch(device, &y, got, "copy", message, sizeof message) &&
                    th_close(n, got, want, tol, false, "copy", message,
                             sizeof message),
                "copy %s to %s: %s", clattn_dtype_name(from),
                clattn_dtype_name(to), message);
      th_unbind(&x), th_unbind(&y);
      th_pool_free(&pool);
    }
  th_shut();
}

/* ---- linear -------------------------------------------------------------- */

typedef struct linear_case {
  int b, m, n, k;
  bool bias;
  clattn_dtype x, w, out;
  th_layout layout;
} linear_case;

static const linear_case linear_table[] = {
    {1, 1, 1, 1, false, CLATTN_F32, CLATTN_F32, CLATTN_F32, 0},
    {1, 5, 7, 3, true, CLATTN_F32, CLATTN_F32, CLATTN_F32, 0},
    {2, 33, 65, 17, true, CLATTN_F32, CLATTN_F32, CLATTN_F32, TH_GAPS},
    {3, 9, 20, 31, false, CLATTN_F32, CLATTN_F32, CLATTN_F32, TH_DIM2},
    {2, 9, 20, 31, true, CLATTN_F32, CLATTN_F32, CLATTN_F32, TH_TRANSPOSED},
    {1, 64, 128, 96, true, CLATTN_F32, CLATTN_F32, CLATTN_F32, 0},
    {2, 100, 70, 300, true, CLATTN_F32, CLATTN_F32, CLATTN_F32, TH_BSHD},
    {1, 1, 200, 129, true, CLATTN_F32, CLATTN_F32, CLATTN_F32, 0},
    {2, 19, 40, 33, true, CLATTN_F16, CLATTN_F16, CLATTN_F16, TH_BSHD},
    {2, 19, 40, 33, true, CLATTN_BF16, CLATTN_BF16, CLATTN_BF16, TH_GAPS},
    {2, 19, 40, 33, true, CLATTN_F32, CLATTN_F16, CLATTN_F32, 0},
    {2, 19, 40, 33, false, CLATTN_F16, CLATTN_F32, CLATTN_BF16, TH_DIM2},
    {1, 64, 64, 64, false, CLATTN_F16, CLATTN_F16, CLATTN_F16, 0},
};

static void run_linear(const th_device *device, const linear_case *c) {
  if (th_small() && c->b * c->m * c->n * c->k > 50000) return;
  th_pool pool = {0};
  th_rng rng = {9};
  const int64_t *ex = TH_EXTENT(c->b, 1, c->m, c->k);
  const int64_t *ew = TH_EXTENT(1, 1, c->n, c->k);
  const int64_t *eo = TH_EXTENT(c->b, 1, c->m, c->n);
  th_tensor x = th_make(&pool, c->x, ex, c->layout,
                        th_values(&pool, &rng, c->x, th_count(ex), 1));
  th_tensor w = th_make(&pool, c->w, ew, c->layout,
                        th_values(&pool, &rng, c->w, th_count(ew), 1));
  th_tensor bias = {0};
  if (c->bias)
    bias = th_make(&pool, c->w, TH_EXTENT(1, 1, 1, c->n), c->layout,
                   th_values(&pool, &rng, c->w, c->n, 1));
  th_tensor out = th_make(&pool, c->out, eo, c->layout, NULL);
  double *want = th_alloc(&pool, (size_t)out.n * sizeof *want);
  double *tol = th_alloc(&pool, (size_t)out.n * sizeof *tol);
  ora_linear(c->b * c->m, c->n, c->k, x.v, w.v, c->bias ? bias.v : NULL, want,
             tol);
  th_tensor *const bound[4] = {&x, &w, &bias, &out};
  for (int i = 0; i < 4; i++) th_bind(device, bound[i]);
  TH_OK(clattn_linear(device->queue, &x.view, &w.view,
                      c->bias ? &bias.view : NULL, &out.view, NULL, 0, NULL));
  char what[64];
  snprintf(what, sizeof what, "linear %dx%dx%d (case %d)", c->m, c->n, c->k,
           (int)(c - linear_table));
  expect(device, &pool, &out, want, tol, what);
  for (int i = 0; i < 4; i++) th_unbind(bound[i]);
  th_pool_free(&pool);
}

static void run_linears(clattn_dense dense) {
  clattn_context_config config;
  clattn_context_config_init(&config);
  config.dense = dense;
  const th_devices *devices = th_open(false);
  for (int d = 0; d < devices->count; d++) {
    th_device device = devices->device[d];
    config.backend = device.info.backend;
    TH_OK(clattn_context_create(&config, &device.context));
    device.index = 0;
    TH_OK(clattn_queue_create(device.context, 0, &device.queue));
    for (int i = 0; i < COUNT(linear_table); i++)
      run_linear(&device, &linear_table[i]);
    clattn_queue_destroy(device.queue);
    clattn_context_destroy(device.context);
  }
  th_shut();
}

Test(layer, linear_auto) { run_linears(CLATTN_DENSE_AUTO); }
Test(layer, linear_own) { run_linears(CLATTN_DENSE_OWN); }
Test(layer, linear_blas) { run_linears(CLATTN_DENSE_BLAS); }

/* ---- KV cache ------------------------------------------------------------ */

enum { CB = 3, CHK = 2, CHQ = 4, CCAP = 12, CD = 8, CDV = 6, CROWS = 4 };

/* What the cache should hold. */
typedef struct cache_model {
  int64_t length[CB];
  double k[CB][CHK][CCAP][CD], v[CB][CHK][CCAP][CDV];
} cache_model;

/* Appends CROWS random rows to both; rows as for the library. */
static clattn_status append(const th_device *device, clattn_kv_cache *cache,
                            cache_model *model, th_rng *rng, clattn_dtype dtype,
                            clattn_dtype stored, th_layout layout,
                            const int64_t *rows) {
  th_pool pool = {0};
  const int64_t *ek = TH_EXTENT(CB, CHK, CROWS, CD);
  const int64_t *ev = TH_EXTENT(CB, CHK, CROWS, CDV);
  th_tensor k = th_make(&pool, dtype, ek, layout,
                        th_values(&pool, rng, dtype, th_count(ek), 1));
  th_tensor v = th_make(&pool, dtype, ev, layout,
                        th_values(&pool, rng, dtype, th_count(ev), 1));
  th_bind(device, &k), th_bind(device, &v);
  clattn_status status = clattn_kv_cache_append(cache, device->queue, &k.view,
                                                &v.view, rows, NULL, 0, NULL);
  TH_OK(clattn_queue_finish(device->queue));
  for (int b = 0; status == CLATTN_OK && b < CB; b++) {
    int64_t n = rows ? rows[b] : CROWS;
    for (int64_t i = 0; i < n; i++)
      for (int h = 0; h < CHK; h++) {
        for (int d = 0; d < CD; d++)
          model->k[b][h][model->length[b] + i][d] = ora_round(
              th_type(stored),
              ora_at(&(ora_array){k.v, {CB, CHK, CROWS, CD}}, b, h, i, d));
        for (int d = 0; d < CDV; d++)
          model->v[b][h][model->length[b] + i][d] = ora_round(
              th_type(stored),
              ora_at(&(ora_array){v.v, {CB, CHK, CROWS, CDV}}, b, h, i, d));
      }
    model->length[b] += n;
  }
  th_unbind(&k), th_unbind(&v);
  th_pool_free(&pool);
  return status;
}

static void expect_lengths(const clattn_kv_cache *cache,
                           const cache_model *model) {
  for (int b = 0; b < CB; b++)
    cr_expect_eq(clattn_kv_cache_length(cache, b), model->length[b],
                 "entry %d holds %lld rows, want %lld", b,
                 (long long)clattn_kv_cache_length(cache, b),
                 (long long)model->length[b]);
}

/* Causal attention of two query rows over the cache, against the oracle's over
 * the model. */
static void expect_attention(const th_device *device,
                             const clattn_kv_cache *cache, cache_model *model,
                             th_rng *rng, clattn_dtype dtype) {
  enum { SQ = 2 };
  th_pool pool = {0};
  const int64_t *eq = TH_EXTENT(CB, CHQ, SQ, CD);
  th_tensor q = th_make(&pool, dtype, eq, TH_BSHD,
                        th_values(&pool, rng, dtype, th_count(eq), 1));
  th_tensor out =
      th_make(&pool, dtype, TH_EXTENT(CB, CHQ, SQ, CDV), TH_BSHD, NULL);
  ora_attention a = {.batch = CB,
                     .q_heads = CHQ,
                     .kv_heads = CHK,
                     .q_len = SQ,
                     .kv_len = CCAP,
                     .qk_dim = CD,
                     .v_dim = CDV,
                     .scale = 1 / sqrt(CD),
                     .temperature = 1,
                     .causal = true,
                     .left = -1,
                     .right = -1,
                     .q = th_array(&q),
                     .k = {&model->k[0][0][0][0], {CB, CHK, CCAP, CD}},
                     .v = {&model->v[0][0][0][0], {CB, CHK, CCAP, CDV}},
                     .lengths = model->length,
                     .q_start = ORA_AT_END,
                     .out_type = th_type(dtype),
                     .weights_type = &ora_f32};
  ora_result want = ora_attend(&a);
  clattn_desc desc;
  clattn_desc_init(&desc);
  desc.dtype = dtype;
  desc.q_heads = CHQ, desc.kv_heads = CHK, desc.qk_dim = CD, desc.v_dim = CDV;
  desc.causal = true;
  clattn_plan *plan = NULL;
  TH_OK(clattn_plan_create(device->context, device->index, &desc, &plan));
  th_bind(device, &q), th_bind(device, &out);
  clattn_args args;
  clattn_args_init(&args);
  args.q = q.view, args.out = out.view;
  TH_OK(clattn_kv_cache_view(cache, &args.k, &args.v, &args.kv_lengths));
  TH_OK(clattn_execute(plan, device->queue, &args, NULL, NULL, 0, NULL));
  expect(device, &pool, &out, want.out, want.out_tol, "attention over cache");
  clattn_plan_destroy(plan);
  th_unbind(&q), th_unbind(&out);
  ora_result_free(&want);
  th_pool_free(&pool);
}

static void run_cache(const th_device *device, clattn_dtype stored,
                      clattn_dtype given) {
  static cache_model model;
  th_rng rng = {31};
  clattn_kv_cache_config config;
  clattn_kv_cache *cache = NULL;
  memset(&model, 0, sizeof model);
  clattn_kv_cache_config_init(&config);
  config.dtype = stored;
  config.batch = CB, config.kv_heads = CHK, config.capacity = CCAP;
  config.qk_dim = CD, config.v_dim = CDV;
  TH_OK(
      clattn_kv_cache_create(device->context, device->index, &config, &cache));
  expect_lengths(cache, &model);
  expect_attention(device, cache, &model, &rng, stored); /* empty: all 0 */
  TH_OK(append(device, cache, &model, &rng, given, stored, TH_BSHD, NULL));
  expect_lengths(cache, &model);
  expect_attention(device, cache, &model, &rng, stored);
  TH_OK(append(device, cache, &model, &rng, given, stored, TH_GAPS,
               (const int64_t[]){0, 1, 4}));
  expect_lengths(cache, &model);
  expect_attention(device, cache, &model, &rng, stored);

  /* 4, 5, 8 rows of 12 are held: 4 more fit, then no more of the last. */
  TH_OK(append(device, cache, &model, &rng, given, stored, TH_BHSD, NULL));
  clattn_status status = append(device, cache, &model, &rng, given, stored,
                                TH_BHSD, (const int64_t[]){1, 1, 1});
  cr_expect_neq(status, CLATTN_OK, "an overflowing append was accepted");
  expect_lengths(cache, &model); /* all or none */
  expect_attention(device, cache, &model, &rng, stored);
  TH_OK(append(device, cache, &model, &rng, given, stored, TH_BHSD,
               (const int64_t[]){4, 1, 0}));

  /* Rewinding, and growing again over what was there. */
  status = clattn_kv_cache_truncate(cache, device->queue,
                                    (const int64_t[]){1, 11, 1});
  cr_expect_eq(status, CLATTN_INVALID_ARGUMENT, "truncate made it longer");
  status = clattn_kv_cache_truncate(cache, device->queue,
                                    (const int64_t[]){1, -1, 1});
  cr_expect_eq(status, CLATTN_INVALID_ARGUMENT, "truncate to -1");
  expect_lengths(cache, &model);
  const int64_t kept[CB] = {3, 0, 7};
  TH_OK(clattn_kv_cache_truncate(cache, device->queue, kept));
  memcpy(model.length, kept, sizeof kept);
  expect_lengths(cache, &model);
  expect_attention(device, cache, &model, &rng, stored);
  TH_OK(append(device, cache, &model, &rng, given, stored, TH_TRANSPOSED,
               (const int64_t[]){2, 4, 3}));
  expect_lengths(cache, &model);
  expect_attention(device, cache, &model, &rng, stored);
  cr_expect_eq(clattn_kv_cache_length(cache, -1), -1);
  cr_expect_eq(clattn_kv_cache_length(cache, CB), -1);
  cr_expect_eq(clattn_kv_cache_length(NULL, 0), -1);
  clattn_kv_cache_destroy(cache);
}

Test(layer, kv_cache) {
  const th_devices *devices = th_open(false);
  for (int d = 0; d < devices->count; d++) {
    run_cache(&devices->device[d], CLATTN_F32, CLATTN_F32);
    run_cache(&devices->device[d], CLATTN_F16, CLATTN_F32);
    run_cache(&devices->device[d], CLATTN_BF16, CLATTN_F16);
  }
  th_shut();
}

/* ---- the layer ----------------------------------------------------------- */

typedef struct layer_case {
  const char *name;
  int b, l, s, e, kdim, vdim, out, hq, hk, head; /* 0: as the API */
  bool self, no_bias, causal, weights, average, padding, attn_mask, window;
  clattn_dtype dtype;
  clattn_dense dense;
} layer_case;

static const layer_case layers[] = {
    {.name = "self", .b = 2, .l = 7, .e = 24, .hq = 3, .self = true},
    {.name = "self, causal, weights",
     .b = 2,
     .l = 7,
     .e = 24,
     .hq = 3,
     .self = true,
     .causal = true,
     .weights = true},
    {.name = "cross",
     .b = 2,
     .l = 5,
     .s = 9,
     .e = 16,
     .hq = 2,
     .weights = true,
     .average = true},
    {.name = "kdim, vdim, out_dim",
     .b = 2,
     .l = 5,
     .s = 9,
     .e = 16,
     .kdim = 10,
     .vdim = 7,
     .out = 12,
     .hq = 2},
    {.name = "gqa, head_dim",
     .b = 2,
     .l = 6,
     .e = 10,
     .hq = 4,
     .hk = 2,
     .head = 5,
     .self = true,
     .causal = true},
    {.name = "no bias",
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
     .attn_mask = true,
     .weights = true},
    {.name = "wide",
     .b = 1,
     .l = 70,
     .e = 96,
     .hq = 6,
     .self = true,
     .causal = true,
     .dense = CLATTN_DENSE_BLAS},
    {.name = "wide, own",
     .b = 1,
     .l = 70,
     .e = 96,
     .hq = 6,
     .self = true,
     .causal = true,
     .dense = CLATTN_DENSE_OWN},
    {.name = "f16",
     .b = 2,
     .l = 7,
     .e = 32,
     .hq = 4,
     .self = true,
     .causal = true,
     .dtype = CLATTN_F16},
    {.name = "bf16",
     .b = 2,
     .l = 7,
     .e = 32,
     .hq = 4,
     .self = true,
     .weights = true,
     .dtype = CLATTN_BF16},
};

/* A layer's parameters and inputs on the host. */
typedef struct layer_data {
  layer_case c;
  int heads_dim, kv_dim;
  th_pool pool;
  th_tensor x[3], w[4], b[4], padding, mask, out, weights;
  double *want, *want_weights;
} layer_data;

static th_tensor random_tensor(layer_data *t, th_rng *rng, int64_t a, int64_t b,
                               int64_t c, int64_t d, th_layout layout) {
  const int64_t *extent = TH_EXTENT(a, b, c, d);
  return th_make(&t->pool, t->c.dtype, extent, layout,
                 th_values(&t->pool, rng, t->c.dtype, th_count(extent), 1));
}

static th_tensor random_mask(layer_data *t, th_rng *rng, int64_t a, int64_t b,
                             int64_t c, int64_t d) {
  const int64_t *extent = TH_EXTENT(a, b, c, d);
  double *v = th_alloc(&t->pool, (size_t)th_count(extent) * sizeof *v);
  for (int64_t i = 0; i < th_count(extent); i++) v[i] = th_chance(rng, 30);
  return th_make(&t->pool, CLATTN_BOOL, extent, TH_BHSD, v);
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
  t->heads_dim = c->hq * c->head, t->kv_dim = c->hk * c->head;
  t->x[0] = random_tensor(t, &rng, c->b, 1, c->l, c->e, TH_BHSD);
  t->x[1] = t->x[2] = t->x[0];
  if (!c->self) {
    t->x[1] = random_tensor(t, &rng, c->b, 1, c->s, c->kdim, TH_GAPS);
    t->x[2] = random_tensor(t, &rng, c->b, 1, c->s, c->vdim, TH_BHSD);
  }
  const int out[4] = {t->heads_dim, t->kv_dim, t->kv_dim, c->out};
  const int in[4] = {c->e, c->kdim, c->vdim, t->heads_dim};
  for (int i = 0; i < 4; i++) {
    t->w[i] = random_tensor(t, &rng, 1, 1, out[i], in[i], TH_BHSD);
    if (!c->no_bias) t->b[i] = random_tensor(t, &rng, 1, 1, 1, out[i], TH_BHSD);
  }
  if (c->padding) t->padding = random_mask(t, &rng, c->b, 1, 1, c->s);
  if (c->attn_mask) t->mask = random_mask(t, &rng, 1, 1, c->l, c->s);
  t->out = th_make(&t->pool, c->dtype, TH_EXTENT(c->b, 1, c->l, c->out),
                   TH_GAPS, NULL);
  int64_t heads = c->average ? 1 : c->hq;
  if (c->weights)
    t->weights = th_make(&t->pool, CLATTN_F32,
                         TH_EXTENT(c->b, heads, c->l, c->s), TH_BHSD, NULL);
  ora_mha m = {.embed = c->e,
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
                        .q_start = ORA_AT_END,
                        .average = c->average,
                        .key_mask = th_array(&t->padding),
                        .mask = th_array(&t->mask),
                        .out_type = &ora_f32,
                        .weights_type = &ora_f32}};
  t->want = ora_layer(&m, &t->want_weights);
}

static void layer_data_free(layer_data *t) {
  free(t->want), free(t->want_weights);
  th_pool_free(&t->pool);
}

static void layer_bind(layer_data *t, const th_device *device, bool bind) {
  th_tensor *all[] = {&t->x[0], &t->x[1],    &t->x[2], &t->w[0], &t->w[1],
                      &t->w[2], &t->w[3],    &t->b[0], &t->b[1], &t->b[2],
                      &t->b[3], &t->padding, &t->mask, &t->out,  &t->weights};
  for (int i = 0; i < COUNT(all); i++) {
    if (bind)
      th_bind(device, all[i]);
    else
      th_unbind(all[i]);
  }
}

static clattn_mha *layer_create(const layer_data *t, const th_device *device) {
  const layer_case *c = &t->c;
  clattn_mha_config config;
  clattn_mha_weights weights;
  clattn_mha *mha = NULL;
  clattn_mha_config_init(&config);
  config.embed_dim = c->e, config.num_heads = c->hq;
  config.kdim = c->kdim == c->e ? 0 : c->kdim;
  config.vdim = c->vdim == c->e ? 0 : c->vdim;
  config.out_dim = c->out == c->e ? 0 : c->out;
  config.num_kv_heads = c->hk == c->hq ? 0 : c->hk;
  config.head_dim = c->head * c->hq == c->e ? 0 : c->head;
  config.attention.dtype = c->dtype;
  config.attention.causal = c->causal;
  config.attention.average_weights = c->average;
  if (c->window) config.attention.window_left = 2;
  if (c->weights) config.attention.outputs = CLATTN_OUT_WEIGHTS;
  clattn_mha_weights_init(&weights);
  weights.q_weight = t->w[0].view, weights.k_weight = t->w[1].view;
  weights.v_weight = t->w[2].view, weights.o_weight = t->w[3].view;
  weights.q_bias = t->b[0].view, weights.k_bias = t->b[1].view;
  weights.v_bias = t->b[2].view, weights.o_bias = t->b[3].view;
  TH_OK(clattn_mha_create(device->context, device->index, &config, &weights,
                          &mha));
  return mha;
}

/* The factor over u sqrt(length): what narrow types round in between. */
static double layer_factor(clattn_dtype dtype) {
  return dtype == CLATTN_F32 ? 16 : 3;
}

static void run_layer(const th_device *device, const layer_case *c) {
  if (th_small() && c->e > 32) return;
  layer_data t;
  char message[256];
  layer_data_init(&t, c);
  layer_bind(&t, device, true);
  clattn_mha *mha = layer_create(&t, device);
  clattn_mha_args args;
  clattn_mha_args_init(&args);
  args.query = t.x[0].view;
  if (!t.c.self) args.key = t.x[1].view, args.value = t.x[2].view;
  args.output = t.out.view, args.weights = t.weights.view;
  args.key_padding_mask = t.padding.view, args.attn_mask = t.mask.view;
  double *got = th_alloc(&t.pool, (size_t)t.out.n * sizeof *got);
  for (int repeat = 0; repeat < 2; repeat++) {
    TH_OK(clattn_mha_forward(mha, device->queue, &args, NULL, 0, NULL));
    cr_expect(
        th_fetch(device, &t.out, got, "output", message, sizeof message) &&
            th_near(t.out.n, got, t.want, t.c.dtype,
                    t.c.e + t.c.s + t.heads_dim, layer_factor(t.c.dtype),
                    "output", message, sizeof message),
        "layer %s on %s: %s", c->name, device->info.name, message);
  }
  if (t.c.weights) {
    double *w = th_alloc(&t.pool, (size_t)t.weights.n * sizeof *w);
    cr_expect(
        th_fetch(device, &t.weights, w, "weights", message, sizeof message) &&
            th_near(t.weights.n, w, t.want_weights, t.c.dtype, t.c.e + t.c.s,
                    2 * layer_factor(t.c.dtype), "weights", message,
                    sizeof message),
        "layer %s on %s: %s", c->name, device->info.name, message);
  }
  clattn_mha_destroy(mha);
  layer_bind(&t, device, false);
  layer_data_free(&t);
}

Test(layer, mha) {
  const th_devices *devices = th_open(false);
  for (int dense = 0; dense < 3; dense++) {
    clattn_context_config config;
    clattn_context_config_init(&config);
    config.dense = (clattn_dense)dense;
    for (int d = 0; d < devices->count; d++) {
      th_device device = devices->device[d];
      config.backend = device.info.backend;
      TH_OK(clattn_context_create(&config, &device.context));
      device.index = 0;
      TH_OK(clattn_queue_create(device.context, 0, &device.queue));
      for (int i = 0; i < COUNT(layers); i++)
        if ((int)layers[i].dense == dense) run_layer(&device, &layers[i]);
      clattn_queue_destroy(device.queue);
      clattn_context_destroy(device.context);
    }
  }
  th_shut();
}

/* One token after the other through a cache gives the full causal output. */
static void run_decode(const th_device *device, clattn_dtype stored) {
  layer_data t;
  char message[256];
  layer_data_init(&t, &(layer_case){.name = "decode",
                                    .b = 2,
                                    .l = 9,
                                    .e = 24,
                                    .hq = 4,
                                    .hk = 2,
                                    .head = 6,
                                    .self = true,
                                    .causal = true});
  layer_bind(&t, device, true);
  clattn_mha *mha = layer_create(&t, device);
  clattn_kv_cache_config config;
  clattn_kv_cache *cache = NULL;
  clattn_kv_cache_config_init(&config);
  config.dtype = stored;
  config.batch = 2, config.kv_heads = 2, config.capacity = 9;
  config.qk_dim = config.v_dim = 6;
  TH_OK(
      clattn_kv_cache_create(device->context, device->index, &config, &cache));
  clattn_mha_args args;
  clattn_mha_args_init(&args);
  args.cache = cache;
  for (int64_t s = 0, n; s < 9; s += n) {
    n = s == 0 ? 4 : 1; /* a prompt of four, then token by token */
    args.query = t.x[0].view, args.output = t.out.view;
    args.query.extent[2] = args.output.extent[2] = n;
    args.query.offset += s * args.query.stride[2];
    args.output.offset += s * args.output.stride[2];
    TH_OK(clattn_mha_forward(mha, device->queue, &args, NULL, 0, NULL));
    cr_expect_eq(clattn_kv_cache_length(cache, 1), s + n);
  }
  double *got = th_alloc(&t.pool, (size_t)t.out.n * sizeof *got);
  cr_expect(th_fetch(device, &t.out, got, "output", message, sizeof message) &&
                th_near(t.out.n, got, t.want, stored, 57, layer_factor(stored),
                        "output", message, sizeof message),
            "decode on %s: %s", device->info.name, message);
  args.query = t.x[0].view, args.output = t.out.view; /* full: no more fit */
  clattn_status status =
      clattn_mha_forward(mha, device->queue, &args, NULL, 0, NULL);
  cr_expect_eq(status, CLATTN_INVALID_ARGUMENT);
  cr_expect_eq(clattn_kv_cache_length(cache, 0), 9);
  clattn_mha_destroy(mha);
  clattn_kv_cache_destroy(cache);
  layer_bind(&t, device, false);
  layer_data_free(&t);
}

Test(layer, decode_equals_full) {
  const th_devices *devices = th_open(false);
  for (int d = 0; d < devices->count; d++)
    run_decode(&devices->device[d], CLATTN_F32);
  th_shut();
}

/* The naive form, one layer a head with its slice of the weights, its outputs
 * added (which is what concatenating before the output projection amounts to),
 * equals the layer whose heads are strides. */
Test(layer, naive_equals_split) {
  enum { B = 2, L = 6, E = 12, H = 3, HD = 4 };
  const th_devices *devices = th_open(false);
  for (int d = 0; d < devices->count; d++) {
    const th_device *device = &devices->device[d];
    layer_data t;
    char message[256];
    layer_data_init(&t, &(layer_case){.name = "naive",
                                      .b = B,
                                      .l = L,
                                      .e = E,
                                      .hq = H,
                                      .self = true,
                                      .causal = true,
                                      .no_bias = true});
    layer_bind(&t, device, true);
    double *sum = th_alloc(&t.pool, (size_t)t.out.n * sizeof *sum);
    double *got = th_alloc(&t.pool, (size_t)t.out.n * sizeof *got);
    for (int h = 0; h < H; h++) {
      layer_data one = t; /* borrows everything */
      one.c.hq = one.c.hk = 1, one.c.head = HD;
      for (int i = 0; i < 3; i++) {
        one.w[i].view.extent[2] = HD;
        one.w[i].view.offset += h * HD * one.w[i].view.stride[2];
      }
      one.w[3].view.extent[3] = HD;
      one.w[3].view.offset += h * HD * one.w[3].view.stride[3];
      clattn_mha *mha = layer_create(&one, device);
      clattn_mha_args args;
      clattn_mha_args_init(&args);
      args.query = t.x[0].view, args.output = t.out.view;
      TH_OK(clattn_mha_forward(mha, device->queue, &args, NULL, 0, NULL));
      cr_assert(
          th_fetch(device, &t.out, got, "output", message, sizeof message),
          "%s", message);
      for (int64_t i = 0; i < t.out.n; i++) sum[i] += got[i];
      clattn_mha_destroy(mha);
    }
    cr_expect(th_near(t.out.n, sum, t.want, CLATTN_F32, E + L + E, 16, "naive",
                      message, sizeof message),
              "%s", message);
    layer_bind(&t, device, false);
    layer_data_free(&t);
  }
  th_shut();
}
