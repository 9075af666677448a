/* kv_cache.h - the cache from the inside, for the layer. */
#ifndef CLT_KV_CACHE_H
#define CLT_KV_CACHE_H

#include "plan.h"

struct clattn_kv_cache {
  clt_device *device; /* device->context is held */
  clattn_kv_cache_config config;
  clattn_buffer *k, *v;          /* [batch, kv_heads, capacity, dim], dense */
  clattn_buffer *device_lengths; /* I32 [batch] */
  int64_t *lengths;              /* [batch] rows held */
  int64_t *next; /* [batch] what they become when the pending change is in */
};

/* Adds a copy of src to dst, extents equal and checked (rotary.c). */
void clt_copy_add(clt_work *work, const clattn_tensor *src,
                  const clattn_tensor *dst);

/* Adds a rotary embedding, checked; its kernel is guarded (rotary.c). */
void clt_rotary_add(clt_work *work, const clattn_rotary_args *args);

/* Checks k and v (as clattn_kv_cache_append) under the given names, sets next,
 * and adds the steps. Nothing changes for the caller before the commit. */
clattn_status clt_kv_cache_add_append(clattn_kv_cache *cache, clt_work *work,
                                      const clattn_tensor *k,
                                      const clattn_tensor *v,
                                      const int64_t *rows);
/* lengths = next. */
void clt_kv_cache_commit(clattn_kv_cache *cache);
/* Views as clattn_kv_cache_view, of lengths or next. */
void clt_kv_cache_views(const clattn_kv_cache *cache, const int64_t *lengths,
                        clattn_tensor *k, clattn_tensor *v,
                        clattn_tensor *device_lengths);

#endif /* CLT_KV_CACHE_H */
