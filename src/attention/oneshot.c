/* oneshot.c - attention on host memory in one blocking call.
 *
 * The context keeps what the next call can use again: plans, and idle queues
 * of the default device. Neither holds a reference to the context. */
#include <pthread.h>
#include <string.h>

#include "plan.h"

typedef struct entry {
  struct entry *next;
  clt_attn_args key; /* the resolved descriptor, lengths 0 */
  clattn_path path;
  clattn_plan *plan;
} entry;

typedef struct idle_queue {
  struct idle_queue *next;
  clattn_queue queue;
} idle_queue;

struct clt_plan_cache {
  pthread_mutex_t lock;
  entry *entries;
  idle_queue *queues;
};

void clt_plan_cache_destroy(clt_plan_cache *cache) {
  if (!cache) return;
  while (cache->entries) {
    entry *e = cache->entries;
    cache->entries = e->next;
    clattn_plan_destroy(e->plan);
    clt_free(e);
  }
  while (cache->queues) {
    idle_queue *q = cache->queues;
    cache->queues = q->next;
    q->queue.device->ops->queue_destroy(q->queue.impl);
    clt_free(q);
  }
  pthread_mutex_destroy(&cache->lock);
  clt_free(cache);
}

static clattn_status get_cache(clattn_context *context, clt_plan_cache **out) {
  clt_plan_cache *cache = atomic_load(&context->oneshot);
  if (!cache) {
    clt_plan_cache *mine = clt_alloc(sizeof *mine);
    if (!mine)
      return clt_fail(CLATTN_OUT_OF_MEMORY, "attention: out of host memory");
    pthread_mutex_init(&mine->lock, NULL);
    if (atomic_compare_exchange_strong(&context->oneshot, &cache, mine))
      cache = mine;
    else
      clt_plan_cache_destroy(mine); /* another thread was first */
  }
  *out = cache;
  return CLATTN_OK;
}

static clattn_status get_plan(clt_plan_cache *cache, clt_device *device,
                              const clattn_desc *desc, clattn_plan **plan) {
  clt_problem problem;
  CLT_TRY(clt_problem_from_desc(&problem, desc));
  pthread_mutex_lock(&cache->lock);
  clattn_status status = CLATTN_OK;
  entry *e = cache->entries;
  while (e && (e->path != desc->path || e->plan->device != device ||
               memcmp(&e->key, &problem.args, sizeof e->key) != 0))
    e = e->next;
  if (!e) {
    e = clt_alloc(sizeof *e);
    status =
        e ? clt_plan_new(device, desc, &e->plan)
          : clt_fail(CLATTN_OUT_OF_MEMORY, "attention: out of host memory");
    if (status == CLATTN_OK) {
      e->plan->borrowed = true;
      e->key = problem.args;
      e->path = desc->path;
      e->next = cache->entries;
      cache->entries = e;
    } else {
      clt_free(e);
    }
  }
  if (status == CLATTN_OK) *plan = e->plan;
  pthread_mutex_unlock(&cache->lock);
  return status;
}

static clattn_status take_queue(clt_plan_cache *cache, clt_device *device,
                                idle_queue **out) {
  pthread_mutex_lock(&cache->lock);
  idle_queue **at = &cache->queues;
  while (*at && (*at)->queue.device != device) at = &(*at)->next;
  idle_queue *q = *at;
  if (q) *at = q->next;
  pthread_mutex_unlock(&cache->lock);
  if (!q) {
    q = clt_alloc(sizeof *q);
    if (!q)
      return clt_fail(CLATTN_OUT_OF_MEMORY, "attention: out of host memory");
    q->queue.device = device;
    clattn_status status =
        device->ops->queue_create(device->impl, &q->queue.impl);
    if (status != CLATTN_OK) {
      clt_free(q);
      return status;
    }
  }
  *out = q;
  return CLATTN_OK;
}

static void give_queue(clt_plan_cache *cache, idle_queue *q) {
  pthread_mutex_lock(&cache->lock);
  q->next = cache->queues;
  cache->queues = q;
  pthread_mutex_unlock(&cache->lock);
}

/* The four host arrays as buffers: borrowed on the CPU, copied elsewhere. */
typedef struct host_array {
  const char *name;
  const void *data;
  int64_t extent[4];
  size_t bytes;
  clattn_buffer buffer;
} host_array;

static clattn_status array_bytes(host_array *a) {
  int64_t n = sizeof(float);
  for (int i = 0; i < 4; i++)
    CLT_REQUIRE(clt_mul(n, a->extent[i], &n),
                "%s: its extents overflow the size of memory", a->name);
  CLT_REQUIRE(a->data, "%s: got NULL, want %lld bytes", a->name, (long long)n);
  a->bytes = (size_t)n;
  return CLATTN_OK;
}

static clattn_status array_open(host_array *a, clt_device *device,
                                clattn_queue *queue, bool input) {
  a->buffer.device = device;
  a->buffer.bytes = a->bytes;
  if (device->backend == CLATTN_CPU) {
    a->buffer.native = a->data;
    return device->ops->buffer_wrap(device->impl, (void *)a->data, &a->bytes,
                                    &a->buffer.mem);
  }
  CLT_TRY(device->ops->buffer_create(device->impl, a->bytes, &a->buffer.mem));
  return input ? device->ops->buffer_write(queue->impl, a->buffer.mem, 0,
                                           a->data, a->bytes)
               : CLATTN_OK;
}

static clattn_tensor array_view(host_array *a) {
  return clattn_view_bhsd(&a->buffer, CLATTN_F32, a->extent[0], a->extent[1],
                          a->extent[2], a->extent[3]);
}

clattn_status clattn_attention_f32(clattn_context *context,
                                   const clattn_desc *desc, int64_t batch,
                                   int64_t q_len, int64_t kv_len,
                                   const float *q, const float *k,
                                   const float *v, float *out) {
  CLT_REQUIRE(context, "context: got NULL, want a context");
  CLT_TRY(clt_desc_check(desc));
  CLT_REQUIRE(desc->dtype == CLATTN_F32, "desc->dtype: got %s, want f32",
              clattn_dtype_name(desc->dtype));
  CLT_REQUIRE(desc->outputs == 0,
              "desc->outputs: got 0x%x, want 0 (use clattn_execute)",
              (unsigned)desc->outputs);
  const struct {
    const char *name;
    int64_t value;
  } lengths[] = {{"batch", batch}, {"q_len", q_len}, {"kv_len", kv_len}};
  for (int i = 0; i < 3; i++)
    CLT_REQUIRE(lengths[i].value >= 1 && lengths[i].value < CLT_MAX_LENGTH,
                "%s: got %lld, want 1..2^30-1", lengths[i].name,
                (long long)lengths[i].value);
  host_array arrays[] = {
      {.name = "q",
       .data = q,
       .extent = {batch, desc->q_heads, q_len, desc->qk_dim}},
      {.name = "k",
       .data = k,
       .extent = {batch, desc->kv_heads, kv_len, desc->qk_dim}},
      {.name = "v",
       .data = v,
       .extent = {batch, desc->kv_heads, kv_len, desc->v_dim}},
      {.name = "out",
       .data = out,
       .extent = {batch, desc->q_heads, q_len, desc->v_dim}}};
  for (int i = 0; i < 4; i++) CLT_TRY(array_bytes(&arrays[i]));
  const char *o = (const char *)out;
  for (int i = 0; i < 3; i++) {
    const char *in = arrays[i].data;
    CLT_REQUIRE(o + arrays[3].bytes <= in || in + arrays[i].bytes <= o,
                "out: overlaps %s in memory", arrays[i].name);
  }

  clt_device *device = NULL;
  clt_plan_cache *cache = NULL;
  clattn_plan *plan = NULL;
  idle_queue *q_idle = NULL;
  CLT_TRY(clt_device_get(context, CLATTN_DEFAULT_DEVICE, &device));
  CLT_TRY(get_cache(context, &cache));
  CLT_TRY(get_plan(cache, device, desc, &plan));
  CLT_TRY(take_queue(cache, device, &q_idle));
  clattn_queue *queue = &q_idle->queue;

  clattn_status status = CLATTN_OK;
  for (int i = 0; i < 4 && status == CLATTN_OK; i++)
    status = array_open(&arrays[i], device, queue, i < 3);
  if (status == CLATTN_OK) {
    clattn_args args;
    clattn_args_init(&args);
    args.q = array_view(&arrays[0]);
    args.k = array_view(&arrays[1]);
    args.v = array_view(&arrays[2]);
    args.out = array_view(&arrays[3]);
    status = clattn_execute(plan, queue, &args, NULL, NULL, 0, NULL);
  }
  if (status == CLATTN_OK)
    status = device->backend == CLATTN_CPU
                 ? CLATTN_OK
                 : device->ops->buffer_read(queue->impl, arrays[3].buffer.mem,
                                            0, out, arrays[3].bytes);
  for (int i = 0; i < 4; i++)
    if (arrays[i].buffer.mem) device->ops->buffer_destroy(arrays[i].buffer.mem);
  give_queue(cache, q_idle);
  return status;
}
