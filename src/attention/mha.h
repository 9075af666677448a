/* mha.h - the layer from the inside: what forward and backward share. */
#ifndef CLT_MHA_H
#define CLT_MHA_H

#include "kv_cache.h"

/* Sizes of the last forward; B 0: there is none. T: the keys that attention ran
 * over; cache: where they lie, NULL: in the workspace. */
typedef struct clt_mha_saved {
  int64_t B, L, S, T;
  const clattn_kv_cache *cache;
} clt_mha_saved;

struct clattn_mha {
  clt_device *device;       /* device->context is held */
  clattn_mha_config config; /* defaults resolved */
  clattn_mha_weights weights;
  clattn_plan *plan;
  /* Projected q, k, v, the joined heads and the lse of the last forward, and in
   * fp32 their gradients; both grow. Work in flight may still use them, so every
   * call waits for the one before. */
  clattn_buffer *workspace, *grads;
  clt_mha_saved saved;
  clattn_event *last;
};

/* The arguments with defaults resolved. */
typedef struct clt_mha_inputs {
  clattn_tensor query, key, value;
  int64_t B, L, S;
} clt_mha_inputs;

/* The intermediate arrays inside a workspace, heads side by side in a row: [B,
 * rows, heads, head_dim] in memory; lse [B,heads,L,1]. */
typedef struct clt_mha_middle {
  clattn_tensor q, k, v, joined, lse;
} clt_mha_middle;

clattn_status clt_mha_check_call(const clattn_mha *mha,
                                 const clattn_queue *queue,
                                 clattn_event *const *wait, size_t n_wait);
clattn_status clt_mha_check_inputs(const clattn_mha *mha,
                                   const clattn_mha_args *args,
                                   clt_mha_inputs *in);
/* Lays them out in a buffer, which grows if need be. */
clattn_status clt_mha_lay_out(clattn_mha *mha, const clt_mha_inputs *in,
                              clattn_dtype type, clattn_buffer **buffer,
                              clt_mha_middle *m);
/* The same memory with heads joined: [B, 1, rows, heads*head_dim]. */
clattn_tensor clt_mha_joined(const clattn_tensor *heads);
/* Turns queries and keys in place by the layer's tables, or back: adds nothing if
 * there are none. */
clattn_status clt_mha_add_rotary(const clattn_mha *mha, clt_work *work,
                                 const clattn_mha_args *args,
                                 const clattn_tensor *q, const clattn_tensor *k,
                                 bool inverse);
/* Of a config with defaults resolved; checks the kernel, too. */
clattn_status clt_mha_check_rotary(clt_device *device,
                                   const clattn_mha_config *config);
/* What the layer passes on to attention, without a cache. */
void clt_mha_attention_args(const clattn_mha *mha, const clattn_mha_args *args,
                            const clt_mha_middle *m, clattn_args *a);
/* The sizes are those of the last forward. */
clattn_status clt_mha_check_saved(const clattn_mha *mha,
                                  const clt_mha_inputs *in);
clattn_status clt_mha_check_masks(const clattn_mha *mha,
                                  const clattn_mha_args *args, int64_t B,
                                  int64_t L, int64_t T);
/* Submits after the layer's last call, and remembers this one. */
clattn_status clt_mha_submit(clattn_mha *mha, clattn_queue *queue,
                             clt_work *work, clattn_event *const *wait,
                             size_t n_wait, clattn_event **event);

#endif /* CLT_MHA_H */
