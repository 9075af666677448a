#include "kv_cache.h"

#include <inttypes.h>
#include <string.h>

void clattn_kv_cache_config_init(clattn_kv_cache_config *config) {
  if (!config) return;
  *config = (clattn_kv_cache_config){.struct_size = sizeof *config,
                                     .dtype = CLATTN_F32};
}

static clattn_status check_config(const clattn_kv_cache_config *c,
                                  size_t *k_bytes, size_t *v_bytes) {
  CLT_REQUIRE_STRUCT(c, clattn_kv_cache_config);
  CLT_REQUIRE(c->dtype == CLATTN_F32 || c->dtype == CLATTN_F16 ||
                  c->dtype == CLATTN_BF16,
              "config->dtype: got %s, want f32, f16 or bf16",
              clattn_dtype_name(c->dtype));
  const struct {
    const char *name;
    int64_t value;
  } sizes[] = {{"batch", c->batch},
               {"kv_heads", c->kv_heads},
               {"capacity", c->capacity},
               {"qk_dim", c->qk_dim},
               {"v_dim", c->v_dim}};
  int64_t rows = (int64_t)clattn_dtype_size(c->dtype), k, v;
  for (int i = 0; i < 5; i++) {
    CLT_REQUIRE(sizes[i].value >= 1 && sizes[i].value < CLT_MAX_LENGTH,
                "config->%s: got %" PRId64 ", want 1..2^30-1", sizes[i].name,
                sizes[i].value);
    CLT_REQUIRE(i >= 3 || clt_mul(rows, sizes[i].value, &rows),
                "config->%s: the cache overflows the size of memory",
                sizes[i].name);
  }
  CLT_REQUIRE(clt_mul(rows, c->qk_dim, &k) && clt_mul(rows, c->v_dim, &v),
              "config->qk_dim: the cache overflows the size of memory");
  *k_bytes = (size_t)k;
  *v_bytes = (size_t)v;
  return CLATTN_OK;
}

/* Adds the steps that set the device's lengths to cache->next. */
static void add_lengths(clattn_kv_cache *cache, clt_work *work) {
  for (int64_t b = 0; b < cache->config.batch; b += CLT_SET_MAX) {
    const int64_t left = cache->config.batch - b;
    clt_set_args a = {
        .offset = b,
        .count = (clt_i32)(left < CLT_SET_MAX ? left : CLT_SET_MAX)};
    for (int i = 0; i < a.count; i++) a.values[i] = (clt_i32)cache->next[b + i];
    clt_step *step = clt_work_add(work, CLT_K_SET_I32, &a, 1, 1, 1, 16);
    if (!step) return;
    step->n_buffers = 1;
    step->buffers[0] = (clt_ref){cache->device_lengths->mem, false};
  }
}

static clattn_status submit_lengths(clattn_kv_cache *cache,
                                    clattn_queue *queue) {
  clt_work work;
  clt_work_init(&work, cache->device);
  add_lengths(cache, &work);
  clattn_status status = work.status;
  if (status == CLATTN_OK)
    status = clt_work_submit(&work, queue, NULL, NULL, 0, NULL);
  clt_work_free(&work);
  if (status == CLATTN_OK) clt_kv_cache_commit(cache);
  return status;
}

clattn_status clattn_kv_cache_create(clattn_context *context, int device,
                                     const clattn_kv_cache_config *config,
                                     clattn_kv_cache **out) {
  CLT_REQUIRE(out, "cache: got NULL, want a place for the result");
  *out = NULL;
  CLT_REQUIRE(context, "context: got NULL, want a context");
  size_t k_bytes = 0, v_bytes = 0;
  CLT_TRY(check_config(config, &k_bytes, &v_bytes));
  clt_device *found = NULL;
  CLT_TRY(clt_device_get(context, device, &found));
  CLT_TRY(clt_guard_kernel(found, CLT_K_COPY));
  CLT_TRY(clt_guard_kernel(found, CLT_K_SET_I32));

  clattn_kv_cache *cache = clt_alloc(sizeof *cache);
  if (!cache)
    return clt_fail(CLATTN_OUT_OF_MEMORY, "cache: out of host memory");
  cache->device = found;
  cache->config = *config;
  clt_context_retain(context);
  clattn_queue *queue = NULL;
  const size_t n = (size_t)config->batch * sizeof(int64_t);
  cache->lengths = clt_alloc(n);
  cache->next = clt_alloc(n);
  clattn_status status =
      cache->lengths && cache->next
          ? CLATTN_OK
          : clt_fail(CLATTN_OUT_OF_MEMORY, "cache: out of host memory");
  if (status == CLATTN_OK) status = clt_buffer_new(found, k_bytes, &cache->k);
  if (status == CLATTN_OK) status = clt_buffer_new(found, v_bytes, &cache->v);
  if (status == CLATTN_OK)
    status = clt_buffer_new(found, (size_t)config->batch * sizeof(int32_t),
                            &cache->device_lengths);
  if (status == CLATTN_OK)
    status = clattn_queue_create(context, found->index, &queue);
  if (status == CLATTN_OK) status = submit_lengths(cache, queue);
  if (status == CLATTN_OK) status = clattn_queue_finish(queue);
  clattn_queue_destroy(queue);
  if (status != CLATTN_OK) {
    clattn_kv_cache_destroy(cache);
    return status;
  }
  *out = cache;
  return CLATTN_OK;
}

void clattn_kv_cache_destroy(clattn_kv_cache *cache) {
  if (!cache) return;
  clattn_buffer_destroy(cache->k);
  clattn_buffer_destroy(cache->v);
  clattn_buffer_destroy(cache->device_lengths);
  clt_free(cache->lengths);
  clt_free(cache->next);
  clt_context_release(cache->device->context);
  clt_free(cache);
}

/* Adds copies of src's first rows of each entry behind that entry's rows. */
static void add_rows(const clattn_kv_cache *cache, clt_work *work,
                     const clattn_tensor *src, clattn_buffer *buffer,
                     int64_t dim) {
  const clattn_kv_cache_config *c = &cache->config;
  bool alike = true;
  for (int64_t b = 1; b < c->batch; b++)
    alike = alike && cache->lengths[b] == cache->lengths[0] &&
            cache->next[b] == cache->next[0];
  const int64_t copies = alike ? 1 : c->batch, each = c->batch / copies;
  for (int64_t b = 0; b < copies; b++) {
    const int64_t n = cache->next[b] - cache->lengths[b];
    if (n == 0) continue;
    clattn_tensor from = *src;
    from.offset += b * src->stride[0];
    from.extent[0] = each;
    from.extent[2] = n;
    clattn_tensor to = clattn_view_bhsd(buffer, c->dtype, c->batch, c->kv_heads,
                                        c->capacity, dim);
    to.offset = b * to.stride[0] + cache->lengths[b] * to.stride[2];
    to.extent[0] = each;
    to.extent[2] = n;
    clt_copy_add(work, &from, &to);
  }
}

clattn_status clt_kv_cache_add_append(clattn_kv_cache *cache, clt_work *work,
                                      const clattn_tensor *k,
                                      const clattn_tensor *v,
                                      const int64_t *rows) {
  const clattn_kv_cache_config *c = &cache->config;
  const clt_want want_k = {
      .name = "k",
      .dtypes = CLT_FLOATS,
      .extent = {c->batch, c->kv_heads, CLT_ANY_EXTENT, c->qk_dim}};
  CLT_TRY(clt_tensor_check(cache->device, k, &want_k));
  const int64_t n = k->extent[2];
  const clt_want want_v = {.name = "v",
                           .dtypes = CLT_FLOATS,
                           .extent = {c->batch, c->kv_heads, n, c->v_dim}};
  CLT_TRY(clt_tensor_check(cache->device, v, &want_v));
  for (int64_t b = 0; b < c->batch; b++) {
    const int64_t add = rows ? rows[b] : n;
    CLT_REQUIRE(add >= 0 && add <= n,
                "rows[%" PRId64 "]: got %" PRId64 ", want 0..%" PRId64, b, add,
                n);
    CLT_REQUIRE(add <= c->capacity - cache->lengths[b],
                "k: %" PRId64 " rows for entry %" PRId64
                ", which holds %" PRId64 " of %" PRId64 ": the cache is full",
                add, b, cache->lengths[b], c->capacity);
    cache->next[b] = cache->lengths[b] + add;
  }
  add_rows(cache, work, k, cache->k, c->qk_dim);
  add_rows(cache, work, v, cache->v, c->v_dim);
  add_lengths(cache, work);
  return work->status;
}

void clt_kv_cache_commit(clattn_kv_cache *cache) {
  memcpy(cache->lengths, cache->next,
         (size_t)cache->config.batch * sizeof *cache->lengths);
}

static clattn_status check_queue(const clattn_kv_cache *cache,
                                 const clattn_queue *queue) {
  CLT_REQUIRE(cache, "cache: got NULL, want a cache");
  CLT_REQUIRE(queue->device == cache->device,
              "queue: is on device %d, want the cache's device %d of the same "
              "context",
              queue->device->index, cache->device->index);
  return CLATTN_OK;
}

clattn_status clattn_kv_cache_append(
    clattn_kv_cache *cache, clattn_queue *queue, const clattn_tensor *k,
    const clattn_tensor *v, const int64_t *rows, clattn_event *const *wait,
    size_t n_wait, clattn_event **event) {
  if (event) *event = NULL;
  CLT_TRY(clt_check_enqueue(queue, wait, n_wait));
  CLT_TRY(check_queue(cache, queue));
  CLT_REQUIRE(k, "k: got NULL, want a tensor");
  CLT_REQUIRE(v, "v: got NULL, want a tensor");
  clt_work work;
  clt_work_init(&work, cache->device);
  clattn_status status = clt_kv_cache_add_append(cache, &work, k, v, rows);
  if (status == CLATTN_OK)
    status = clt_work_submit(&work, queue, NULL, wait, n_wait, event);
  if (status == CLATTN_OK) clt_kv_cache_commit(cache);
  clt_work_free(&work);
  return status;
}

clattn_status clattn_kv_cache_truncate(clattn_kv_cache *cache,
                                       clattn_queue *queue,
                                       const int64_t *lengths) {
  CLT_TRY(clt_check_enqueue(queue, NULL, 0));
  CLT_TRY(check_queue(cache, queue));
  CLT_REQUIRE(lengths, "lengths: got NULL, want one number a batch entry");
  for (int64_t b = 0; b < cache->config.batch; b++)
    CLT_REQUIRE(lengths[b] >= 0 && lengths[b] <= cache->lengths[b],
                "lengths[%" PRId64 "]: got %" PRId64 ", want 0..%" PRId64, b,
                lengths[b], cache->lengths[b]);
  memcpy(cache->next, lengths,
         (size_t)cache->config.batch * sizeof *cache->next);
  return submit_lengths(cache, queue);
}

int64_t clattn_kv_cache_length(const clattn_kv_cache *cache, int64_t b) {
  return cache && b >= 0 && b < cache->config.batch ? cache->lengths[b] : -1;
}

void clt_kv_cache_views(const clattn_kv_cache *cache, const int64_t *lengths,
                        clattn_tensor *k, clattn_tensor *v,
                        clattn_tensor *device_lengths) {
  const clattn_kv_cache_config *c = &cache->config;
  int64_t n = 1;
  for (int64_t b = 0; b < c->batch; b++) n = lengths[b] > n ? lengths[b] : n;
  if (k) {
    *k = clattn_view_bhsd(cache->k, c->dtype, c->batch, c->kv_heads,
                          c->capacity, c->qk_dim);
    k->extent[2] = n;
  }
  if (v) {
    *v = clattn_view_bhsd(cache->v, c->dtype, c->batch, c->kv_heads,
                          c->capacity, c->v_dim);
    v->extent[2] = n;
  }
  if (device_lengths)
    *device_lengths =
        clattn_view_bhsd(cache->device_lengths, CLATTN_I32, c->batch, 1, 1, 1);
}

clattn_status clattn_kv_cache_view(const clattn_kv_cache *cache,
                                   clattn_tensor *k, clattn_tensor *v,
                                   clattn_tensor *lengths) {
  CLT_REQUIRE(cache, "cache: got NULL, want a cache");
  clt_kv_cache_views(cache, cache->lengths, k, v, lengths);
  return CLATTN_OK;
}
