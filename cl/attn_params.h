/* attn_params.h - the parameter list that every attention kernel shares, so that
 * the host sets arguments in one way; a kernel uses what it needs. */
#ifndef CLT_ATTN_PARAMS_H
#define CLT_ATTN_PARAMS_H
#include "args.h"

#define ATTN_PARAMS                                                            \
  clt_attn_args args, __global const float *q, __global const float *k,        \
      __global const float *v, __global float *out, __global float *lse,       \
      __global float *weights, __global const uchar *mask,                     \
      __global const uchar *key_mask, __global const float *bias,              \
      __global const int *lengths, __global const int *starts,                 \
      __global const float *slopes, __global const float *sinks,               \
      __global float *part, __local float *local_memory

/* The same for what is told of the weights. */
#define STATS_PARAMS                                                           \
  clt_stats_args args, __global const float *q, __global const float *k,       \
      __global const float *lse, __global const uchar *mask,                   \
      __global const uchar *key_mask, __global const float *bias,              \
      __global const int *lengths, __global const int *starts,                 \
      __global const float *slopes, __global float *entropy,                   \
      __global float *distance, __global float *top_weights,                   \
      __global int *top_keys, __global float *map, __local float *local_memory

/* CPU-type kernels: one work-item is one group. */
#define ONE_ITEM __attribute__((reqd_work_group_size(1, 1, 1)))
#define GX ((int)get_group_id(0))
#define GY ((int)get_group_id(1))
#define GZ ((int)get_group_id(2))

#endif /* CLT_ATTN_PARAMS_H */
