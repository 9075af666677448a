/* Bad arguments of the operations around attention and of the layer: each gets
 * its status and a message that names it, and changes nothing. */
#define _POSIX_C_SOURCE 200809L
#include <math.h>

#include "errors.h"

/* ---- rotary, copy, linear ------------------------------------------------ */

static bool rotary_fault(int n, fault *f, clattn_rotary_args *a) {
  BAD("struct_size", a->struct_size = 0)
  BAD("x", a->x.buffer = NULL)
  BAD("out", a->out.buffer = NULL)
  BAD("cos", a->cos.buffer = NULL)
  BAD("sin", a->sin.buffer = NULL)
  BAD("x", a->x.dtype = CLATTN_I32)
  BAD("out", a->out.dtype = CLATTN_BOOL)
  BAD("cos", a->cos.dtype = CLATTN_I64)
  BAD("sin", a->sin.extent[3]++)
  BAD("cos", a->cos.extent[3]--)
  BAD("out", a->out.extent[2]--)
  BAD("out", a->out.extent[3]--)
  BAD("out", a->out.stride[2] = 0)
  BAD("out", a->out.offset++, a->out.buffer = a->x.buffer)
  BAD("x", a->x.stride[1] = -8)
  BAD("x", a->x.offset = 1 << 20)
  BAD("rotary_dim", a->rotary_dim = 3)
  BAD("rotary_dim", a->rotary_dim = 10)
  BAD("rotary_dim", a->rotary_dim = -2)
  BAD("position_start", a->position_start = -2)
  BAD("position_start", a->position_start = 6) /* 6 + 5 tokens of 8 rows */
  BAD("position_start", a->position_start = INT64_MAX)
  BAD("position_ids", a->position_ids = a->x)
  BAD("cos", a->cos.buffer = elsewhere)
  return false;
}

Test(errors, rotary) {
  const th_devices *devices = th_open(false);
  clattn_context *other = another_context();
  TH_OK(clattn_buffer_create(other, 0, 4096, &elsewhere));
  clattn_rotary_args_init(NULL);
  for (int d = 0; d < devices->count; d++) {
    const th_device *device = &devices->device[d];
    th_pool pool = {0};
    th_rng rng = {1};
    char message[256];
    fault f;
    th_tensor x = th_make(&pool, CLATTN_F32, TH_EXTENT(2, 3, 5, 8), TH_BHSD,
                          th_values(&pool, &rng, CLATTN_F32, 240, 1));
    th_tensor c = th_make(&pool, CLATTN_F32, TH_EXTENT(1, 1, 8, 4), TH_BHSD,
                          th_values(&pool, &rng, CLATTN_F32, 32, 1));
    th_tensor s = th_make(&pool, CLATTN_F32, TH_EXTENT(1, 1, 8, 4), TH_BHSD,
                          th_values(&pool, &rng, CLATTN_F32, 32, 1));
    th_tensor out =
        th_make(&pool, CLATTN_F32, TH_EXTENT(2, 3, 5, 8), TH_BHSD, NULL);
    th_bind(device, &x), th_bind(device, &c), th_bind(device, &s);
    th_bind(device, &out);
    clattn_rotary_args good, args;
    clattn_rotary_args_init(&good);
    good.x = x.view, good.cos = c.view, good.sin = s.view, good.out = out.view;
    good.position_start = 1;
    for (int n = 0;; n++) {
      args = good;
      if (!rotary_fault(n, &f, &args)) break;
      expect(clattn_rotary(device->queue, &args, NULL, 0, NULL), &f, "rotary");
    }
    FAILS(INVALID_ARGUMENT, "queue", clattn_rotary(NULL, &good, NULL, 0, NULL));
    FAILS(INVALID_ARGUMENT, "args",
          clattn_rotary(device->queue, NULL, NULL, 0, NULL));
    FAILS(INVALID_ARGUMENT, "wait",
          clattn_rotary(device->queue, &good, NULL, 2, NULL));
    cr_expect(th_fetch(device, &out, NULL, "out", message, sizeof message) &&
                  th_fetch(device, &x, NULL, "x", message, sizeof message),
              "%s", message);
    TH_OK(clattn_rotary(device->queue, &good, NULL, 0, NULL));
    th_unbind(&x), th_unbind(&c), th_unbind(&s), th_unbind(&out);
    th_pool_free(&pool);
  }
  clattn_buffer_destroy(elsewhere);
  clattn_context_destroy(other);
  th_shut();
}

typedef struct linear_args {
  clattn_tensor x, w, bias, out;
} linear_args;

static bool linear_fault(int n, fault *f, linear_args *a) {
  BAD("x", a->x.buffer = NULL)
  BAD("w", a->w.buffer = NULL)
  BAD("out", a->out.buffer = NULL)
  BAD("x", a->x.dtype = CLATTN_BOOL)
  BAD("w", a->w.dtype = CLATTN_I64)
  BAD("bias", a->bias.dtype = CLATTN_I32)
  BAD("out", a->out.dtype = CLATTN_I32)
  BAD("x", a->x.extent[1] = 2)
  BAD("w", a->w.extent[3]--)
  BAD("w", a->w.extent[0] = 2)
  BAD("bias", a->bias.extent[3]--)
  BAD("out", a->out.extent[3]--)
  BAD("out", a->out.extent[0]--)
  BAD("x", a->x.stride[2] = -1)
  BAD("w", a->w.stride[2] = HUGE_LENGTH)
  BAD("bias", a->bias.offset = 1000)
  BAD("out", a->out.stride[2] = 1)
  BAD("out", a->out.buffer = a->x.buffer)
  BAD("bias", a->bias.buffer = elsewhere)
  return false;
}

Test(errors, linear_and_copy) {
  const th_devices *devices = th_open(false);
  clattn_context *other = another_context();
  TH_OK(clattn_buffer_create(other, 0, 4096, &elsewhere));
  for (int d = 0; d < devices->count; d++) {
    const th_device *device = &devices->device[d];
    th_pool pool = {0};
    th_rng rng = {1};
    char message[256];
    fault f;
    th_tensor x = th_make(&pool, CLATTN_F32, TH_EXTENT(2, 1, 5, 8), TH_BHSD,
                          th_values(&pool, &rng, CLATTN_F32, 80, 1));
    th_tensor w = th_make(&pool, CLATTN_F32, TH_EXTENT(1, 1, 6, 8), TH_BHSD,
                          th_values(&pool, &rng, CLATTN_F32, 48, 1));
    th_tensor b = th_make(&pool, CLATTN_F32, TH_EXTENT(1, 1, 1, 6), TH_BHSD,
                          th_values(&pool, &rng, CLATTN_F32, 6, 1));
    th_tensor out =
        th_make(&pool, CLATTN_F32, TH_EXTENT(2, 1, 5, 6), TH_BHSD, NULL);
    th_bind(device, &x), th_bind(device, &w), th_bind(device, &b);
    th_bind(device, &out);
    linear_args good = {x.view, w.view, b.view, out.view}, a;
    for (int n = 0;; n++) {
      a = good;
      if (!linear_fault(n, &f, &a)) break;
      expect(clattn_linear(device->queue, &a.x, &a.w, &a.bias, &a.out, NULL, 0,
                           NULL),
             &f, "linear");
    }
    a = good;
    FAILS(INVALID_ARGUMENT, "queue",
          clattn_linear(NULL, &a.x, &a.w, &a.bias, &a.out, NULL, 0, NULL));
    FAILS(
        INVALID_ARGUMENT, "x",
        clattn_linear(device->queue, NULL, &a.w, NULL, &a.out, NULL, 0, NULL));
    FAILS(
        INVALID_ARGUMENT, "w",
        clattn_linear(device->queue, &a.x, NULL, NULL, &a.out, NULL, 0, NULL));
    FAILS(INVALID_ARGUMENT, "out",
          clattn_linear(device->queue, &a.x, &a.w, NULL, NULL, NULL, 0, NULL));
    FAILS(
        INVALID_ARGUMENT, "wait",
        clattn_linear(device->queue, &a.x, &a.w, NULL, &a.out, NULL, 1, NULL));

    clattn_tensor dst = out.view, src = x.view;
    dst.extent[3] = 6, src.extent[3] = 6;
    FAILS(INVALID_ARGUMENT, "queue",
          clattn_copy(NULL, &src, &dst, NULL, 0, NULL));
    FAILS(INVALID_ARGUMENT, "src",
          clattn_copy(device->queue, NULL, &dst, NULL, 0, NULL));
    FAILS(INVALID_ARGUMENT, "dst",
          clattn_copy(device->queue, &src, NULL, NULL, 0, NULL));
    FAILS(INVALID_ARGUMENT, "wait",
          clattn_copy(device->queue, &src, &dst, NULL, 3, NULL));
    src.extent[2] = 4;
    FAILS(INVALID_ARGUMENT, "extent",
          clattn_copy(device->queue, &src, &dst, NULL, 0, NULL));
    src.extent[2] = 5, src.dtype = CLATTN_I32;
    FAILS(INVALID_ARGUMENT, "src",
          clattn_copy(device->queue, &src, &dst, NULL, 0, NULL));
    src = x.view, src.extent[3] = 6, dst.stride[2] = 0;
    FAILS(INVALID_ARGUMENT, "dst",
          clattn_copy(device->queue, &src, &dst, NULL, 0, NULL));
    dst = src, dst.offset++;
    FAILS(INVALID_ARGUMENT, "dst",
          clattn_copy(device->queue, &src, &dst, NULL, 0, NULL));
    dst = out.view, src.buffer = elsewhere;
    FAILS(INVALID_ARGUMENT, "src",
          clattn_copy(device->queue, &src, &dst, NULL, 0, NULL));
    cr_expect(th_fetch(device, &out, NULL, "out", message, sizeof message) &&
                  th_fetch(device, &x, NULL, "x", message, sizeof message),
              "%s", message);
    th_unbind(&x), th_unbind(&w), th_unbind(&b), th_unbind(&out);
    th_pool_free(&pool);
  }
  clattn_buffer_destroy(elsewhere);
  clattn_context_destroy(other);
  th_shut();
}

/* ---- KV cache ------------------------------------------------------------ */

static bool cache_fault(int n, fault *f, clattn_kv_cache_config *c) {
  BAD("struct_size", c->struct_size = 3)
  BAD("dtype", c->dtype = CLATTN_I32)
  BAD("dtype", c->dtype = (clattn_dtype)0)
  BAD("batch", c->batch = 0)
  BAD("kv_heads", c->kv_heads = -1)
  BAD("capacity", c->capacity = 0)
  BAD("capacity", c->capacity = INT64_MAX)
  BAD("qk_dim", c->qk_dim = 0)
  BAD("v_dim", c->v_dim = INT64_MIN)
  return false;
}

static void good_cache(clattn_kv_cache_config *c) {
  clattn_kv_cache_config_init(c);
  c->batch = 2, c->kv_heads = 2, c->capacity = 6, c->qk_dim = 4, c->v_dim = 3;
}

static bool append_fault(int n, fault *f, clattn_tensor *k, clattn_tensor *v) {
  BAD("k", k->buffer = NULL)
  BAD("v", v->buffer = NULL)
  BAD("k", k->dtype = CLATTN_I32)
  BAD("v", v->dtype = CLATTN_BOOL)
  BAD("k", k->extent[0] = 1)
  BAD("k", k->extent[1]++)
  BAD("k", k->extent[3]++)
  BAD("v", v->extent[2]--)
  BAD("v", v->extent[3]--)
  BAD("k", k->stride[1] = -1)
  BAD("v", v->offset = 100000)
  BAD("k", k->buffer = elsewhere)
  return false;
}

Test(errors, kv_cache) {
  const th_devices *devices = th_open(false);
  clattn_context *other = another_context();
  TH_OK(clattn_buffer_create(other, 0, 4096, &elsewhere));
  clattn_kv_cache_config_init(NULL);
  for (int d = 0; d < devices->count; d++) {
    const th_device *device = &devices->device[d];
    clattn_queue *queue = device->queue;
    int index = device->index;
    clattn_kv_cache_config config;
    clattn_kv_cache *cache = NULL;
    fault f;
    for (int n = 0;; n++) {
      good_cache(&config);
      if (!cache_fault(n, &f, &config)) break;
      cache = (clattn_kv_cache *)&config;
      expect(clattn_kv_cache_create(device->context, index, &config, &cache),
             &f, "kv_cache_create");
      cr_expect_null(cache);
    }
    good_cache(&config);
    FAILS(INVALID_ARGUMENT, "context",
          clattn_kv_cache_create(NULL, index, &config, &cache));
    FAILS(INVALID_ARGUMENT, "device",
          clattn_kv_cache_create(device->context, 55, &config, &cache));
    FAILS(INVALID_ARGUMENT, "config",
          clattn_kv_cache_create(device->context, index, NULL, &cache));
    FAILS(INVALID_ARGUMENT, "cache",
          clattn_kv_cache_create(device->context, index, &config, NULL));
    clattn_kv_cache_destroy(NULL);

    TH_OK(clattn_kv_cache_create(device->context, index, &config, &cache));
    th_pool pool = {0};
    th_rng rng = {1};
    th_tensor k = th_make(&pool, CLATTN_F32, TH_EXTENT(2, 2, 3, 4), TH_BHSD,
                          th_values(&pool, &rng, CLATTN_F32, 48, 1));
    th_tensor v = th_make(&pool, CLATTN_F32, TH_EXTENT(2, 2, 3, 3), TH_BHSD,
                          th_values(&pool, &rng, CLATTN_F32, 36, 1));
    th_bind(device, &k), th_bind(device, &v);
    for (int n = 0;; n++) {
      clattn_tensor kt = k.view, vt = v.view;
      if (!append_fault(n, &f, &kt, &vt)) break;
      expect(
          clattn_kv_cache_append(cache, queue, &kt, &vt, NULL, NULL, 0, NULL),
          &f, "kv_cache_append");
      cr_expect_eq(clattn_kv_cache_length(cache, 0), 0);
    }
    const clattn_tensor *kt = &k.view, *vt = &v.view;
    FAILS(INVALID_ARGUMENT, "cache",
          clattn_kv_cache_append(NULL, queue, kt, vt, NULL, NULL, 0, NULL));
    FAILS(INVALID_ARGUMENT, "queue",
          clattn_kv_cache_append(cache, NULL, kt, vt, NULL, NULL, 0, NULL));
    FAILS(INVALID_ARGUMENT, "k",
          clattn_kv_cache_append(cache, queue, NULL, vt, NULL, NULL, 0, NULL));
    FAILS(INVALID_ARGUMENT, "v",
          clattn_kv_cache_append(cache, queue, kt, NULL, NULL, NULL, 0, NULL));
    FAILS(INVALID_ARGUMENT, "wait",
          clattn_kv_cache_append(cache, queue, kt, vt, NULL, NULL, 1, NULL));
    FAILS(INVALID_ARGUMENT, "rows",
          clattn_kv_cache_append(cache, queue, kt, vt, (int64_t[]){1, 4}, NULL,
                                 0, NULL));
    FAILS(INVALID_ARGUMENT, "rows",
          clattn_kv_cache_append(cache, queue, kt, vt, (int64_t[]){-1, 1}, NULL,
                                 0, NULL));
    TH_OK(clattn_kv_cache_append(cache, queue, kt, vt, NULL, NULL, 0, NULL));
    TH_OK(clattn_kv_cache_append(cache, queue, kt, vt, (int64_t[]){3, 1}, NULL,
                                 0, NULL));
    FAILS(INVALID_ARGUMENT, "full",
          clattn_kv_cache_append(cache, queue, kt, vt, (int64_t[]){1, 1}, NULL,
                                 0, NULL));
    cr_expect_eq(clattn_kv_cache_length(cache, 0), 6);
    cr_expect_eq(clattn_kv_cache_length(cache, 1), 4);
    FAILS(INVALID_ARGUMENT, "cache",
          clattn_kv_cache_truncate(NULL, queue, (int64_t[]){0, 0}));
    FAILS(INVALID_ARGUMENT, "queue",
          clattn_kv_cache_truncate(cache, NULL, (int64_t[]){0, 0}));
    FAILS(INVALID_ARGUMENT, "lengths",
          clattn_kv_cache_truncate(cache, queue, NULL));
    FAILS(INVALID_ARGUMENT, "lengths",
          clattn_kv_cache_truncate(cache, queue, (int64_t[]){6, 5}));
    cr_expect_eq(clattn_kv_cache_length(cache, 1), 4);
    FAILS(INVALID_ARGUMENT, "cache",
          clattn_kv_cache_view(NULL, NULL, NULL, NULL));
    TH_OK(clattn_kv_cache_view(cache, NULL, NULL, NULL));
    th_unbind(&k), th_unbind(&v);
    th_pool_free(&pool);
    clattn_kv_cache_destroy(cache);
  }
  clattn_buffer_destroy(elsewhere);
  clattn_context_destroy(other);
  th_shut();
}

/* ---- layer --------------------------------------------------------------- */

typedef struct layer_args {
  clattn_mha_config config;
  clattn_mha_weights weights;
} layer_args;

static bool layer_fault(int n, fault *f, layer_args *a) {
  clattn_mha_config *c = &a->config;
  clattn_mha_weights *w = &a->weights;
  BAD("struct_size", c->struct_size = 0)
  BAD("struct_size", w->struct_size = 0)
  BAD("struct_size", c->attention.struct_size = 0)
  BAD("embed_dim", c->embed_dim = 0)
  BAD("num_heads", c->num_heads = 0)
  BAD("num_heads", c->num_heads = 3) /* 8 / 3 is not exact */
  BAD("num_kv_heads", c->num_kv_heads = 3)
  BAD("head_dim", c->head_dim = -4)
  BAD("kdim", c->kdim = -1)
  BAD("vdim", c->vdim = -1)
  BAD("out_dim", c->out_dim = -1)
  BAD("dtype", c->attention.dtype = CLATTN_I32)
  BAD("temperature", c->attention.temperature = 0)
  BAD("softcap", c->attention.softcap = NAN)
  BAD("window_left", c->attention.window_left = -5)
  BAD("q_weight", w->q_weight.buffer = NULL)
  BAD("k_weight", w->k_weight.buffer = NULL)
  BAD("v_weight", w->v_weight.buffer = NULL)
  BAD("o_weight", w->o_weight.buffer = NULL)
  BAD("q_weight", w->q_weight.extent[3]++)
  BAD("k_weight", w->k_weight.extent[2]--)
  BAD("v_weight", w->v_weight.dtype = CLATTN_I32)
  BAD("o_weight", w->o_weight.stride[2] = -1)
  BAD("q_bias", w->q_bias = w->q_weight)
  BAD("o_bias", w->o_bias = w->o_weight, w->o_bias.extent[2] = 1,
      w->o_bias.extent[3] = 7)
  BAD("k_weight", w->k_weight.buffer = elsewhere)
  return false;
}

static bool forward_fault(int n, fault *f, clattn_mha_args *a) {
  BAD("struct_size", a->struct_size = 0)
  BAD("query", a->query.buffer = NULL)
  BAD("output", a->output.buffer = NULL)
  BAD("query", a->query.extent[3]--)
  BAD("query", a->query.dtype = CLATTN_BOOL)
  BAD("query", a->query.offset = 1 << 20)
  BAD("query", a->query.extent[1] = 2)
  BAD("key", a->key = a->query, a->key.extent[3]--)
  BAD("value", a->value = a->query, a->value.extent[2]--)
  BAD("output", a->output.extent[2]--)
  BAD("output", a->output.extent[3]--)
  BAD("output", a->output.stride[2] = 0)
  BAD("output", a->output = a->query)
  BAD("weights", a->weights = a->query)
  BAD("mask", a->attn_mask = a->query)
  BAD("key_padding_mask", a->key_padding_mask = a->query)
  BAD("bias", a->bias = a->query)
  BAD("kv_lengths", a->kv_lengths = a->query)
  BAD("q_start", a->q_start = (int64_t)1 << 40)
  BAD("query", a->query.buffer = elsewhere)
  return false;
}

Test(errors, mha) {
  const th_devices *devices = th_open(false);
  clattn_context *other = another_context();
  TH_OK(clattn_buffer_create(other, 0, 4096, &elsewhere));
  clattn_mha_config_init(NULL);
  clattn_mha_weights_init(NULL);
  clattn_mha_args_init(NULL);
  for (int d = 0; d < devices->count; d++) {
    const th_device *device = &devices->device[d];
    int index = device->index;
    th_pool pool = {0};
    th_rng rng = {1};
    char message[256];
    fault f;
    th_tensor w = th_make(&pool, CLATTN_F32, TH_EXTENT(1, 1, 8, 8), TH_BHSD,
                          th_values(&pool, &rng, CLATTN_F32, 64, 1));
    th_tensor x = th_make(&pool, CLATTN_F32, TH_EXTENT(2, 1, 3, 8), TH_BHSD,
                          th_values(&pool, &rng, CLATTN_F32, 48, 1));
    th_tensor y =
        th_make(&pool, CLATTN_F32, TH_EXTENT(2, 1, 3, 8), TH_BHSD, NULL);
    th_bind(device, &w), th_bind(device, &x), th_bind(device, &y);
    layer_args good, a;
    clattn_mha_config_init(&good.config);
    clattn_mha_weights_init(&good.weights);
    good.config.embed_dim = 8, good.config.num_heads = 2;
    good.weights.q_weight = good.weights.k_weight = w.view;
    good.weights.v_weight = good.weights.o_weight = w.view;
    clattn_mha *mha = NULL;
    for (int n = 0;; n++) {
      a = good;
      if (!layer_fault(n, &f, &a)) break;
      mha = (clattn_mha *)&a;
      expect(clattn_mha_create(device->context, index, &a.config, &a.weights,
                               &mha),
             &f, "mha_create");
      cr_expect_null(mha, "with %s", f.what);
    }
    FAILS(INVALID_ARGUMENT, "context",
          clattn_mha_create(NULL, index, &good.config, &good.weights, &mha));
    FAILS(INVALID_ARGUMENT, "device",
          clattn_mha_create(device->context, 44, &good.config, &good.weights,
                            &mha));
    FAILS(INVALID_ARGUMENT, "config",
          clattn_mha_create(device->context, index, NULL, &good.weights, &mha));
    FAILS(INVALID_ARGUMENT, "weights",
          clattn_mha_create(device->context, index, &good.config, NULL, &mha));
    FAILS(INVALID_ARGUMENT, "mha",
          clattn_mha_create(device->context, index, &good.config, &good.weights,
                            NULL));
    clattn_mha_destroy(NULL);

    TH_OK(clattn_mha_create(device->context, index, &good.config, &good.weights,
                            &mha));
    clattn_mha_args args, right;
    clattn_mha_args_init(&right);
    right.query = x.view, right.output = y.view;
    for (int n = 0;; n++) {
      args = right;
      if (!forward_fault(n, &f, &args)) break;
      expect(clattn_mha_forward(mha, device->queue, &args, NULL, 0, NULL), &f,
             "mha_forward");
    }
    FAILS(INVALID_ARGUMENT, "mha",
          clattn_mha_forward(NULL, device->queue, &right, NULL, 0, NULL));
    FAILS(INVALID_ARGUMENT, "queue",
          clattn_mha_forward(mha, NULL, &right, NULL, 0, NULL));
    FAILS(INVALID_ARGUMENT, "args",
          clattn_mha_forward(mha, device->queue, NULL, NULL, 0, NULL));
    FAILS(INVALID_ARGUMENT, "wait",
          clattn_mha_forward(mha, device->queue, &right, NULL, 1, NULL));

    clattn_kv_cache_config config; /* of other heads and sizes */
    clattn_kv_cache *cache = NULL;
    good_cache(&config);
    TH_OK(clattn_kv_cache_create(device->context, index, &config, &cache));
    args = right, args.cache = cache;
    FAILS(INVALID_ARGUMENT, "cache",
          clattn_mha_forward(mha, device->queue, &args, NULL, 0, NULL));
    cr_expect_eq(clattn_kv_cache_length(cache, 0), 0);
    clattn_kv_cache_destroy(cache);
    cr_expect(th_fetch(device, &y, NULL, "output", message, sizeof message),
              "%s", message);
    TH_OK(clattn_mha_forward(mha, device->queue, &right, NULL, 0, NULL));
    TH_OK(clattn_queue_finish(device->queue));
    clattn_mha_destroy(mha);
    th_unbind(&w), th_unbind(&x), th_unbind(&y);
    th_pool_free(&pool);
  }
  clattn_buffer_destroy(elsewhere);
  clattn_context_destroy(other);
  th_shut();
}
