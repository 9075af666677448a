/* args.h - what a kernel is told: one plain struct by value, the same bytes for
 * the C compiler and the OpenCL compiler. 64-bit members come first so that no
 * compiler inserts padding; all offsets and strides count elements.
 * The largest struct stays well under the 1024 bytes of kernel arguments that
 * every OpenCL 1.2 device accepts. */
#ifndef CLT_ARGS_H
#define CLT_ARGS_H

#ifdef __OPENCL_C_VERSION__
typedef long clt_i64;
typedef int clt_i32;
typedef float clt_f32;
#else
#  include <stdint.h>
typedef int64_t clt_i64;
typedef int32_t clt_i32;
typedef float clt_f32;
#endif

/* Element types as kernels see them; equal to clattn_dtype. */
#define CLT_F32 1
#define CLT_F16 2
#define CLT_I32 3
#define CLT_BF16 4
#define CLT_BOOL 5
#define CLT_I64 6

/* q_start that stands for kv_length - q_len. */
#define CLT_AT_END (-2147483647 - 1)
/* Window bound that stands for "unlimited". */
#define CLT_UNLIMITED 2147483647

/* A 4-d view: element (a,b,c,d) is at offset + a*s[0] + b*s[1] + c*s[2] + d*s[3].
 * Broadcast extents have stride 0. */
typedef struct clt_view {
  clt_i64 offset;
  clt_i64 s[4];
} clt_view;

typedef struct clt_view1 {
  clt_i64 offset;
  clt_i64 s;
} clt_view1;

/* One attention problem, for every attention kernel. Scores are kept in units
 * of log 2: s2 = score * log2(e) / temperature, so that P = exp2(s2 - max). */
typedef struct clt_attn_args {
  clt_view q, k, v,
      out;          /* [B,Hq,Sq,D] [B,Hk,Skv,D] [B,Hk,Skv,Dv] [B,Hq,Sq,Dv] */
  clt_view lse;     /* [B,Hq,Sq,1] F32                                    */
  clt_view weights; /* [B,Hq,Sq,Skv], or [B,1,Sq,Skv] averaged            */
  clt_view mask, key_mask,
      bias;                  /* broadcast to [B,Hq,Sq,Skv]                   */
  clt_view1 lengths, starts; /* [B]                                          */
  clt_view1 slopes, sinks;   /* [Hq]                                         */
  clt_i64 part;    /* element offset of this kernel's fp32 scratch       */
  clt_i64 average; /* same, of the averaged weights [Sq,Skv]             */
  /* Backward, same: rows' sums of dO O [B,Hq,Sq]; dQ [n_splits,B,Hq,Sq,D]; dK,
   * dV [B,Hk,Skv,D or Dv padded to MAX_LANES]; unfused: dS like part. For GPUs
   * n_splits is 1, nothing is padded, and -1 stands for what is not wanted.  */
  clt_i64 delta, d_q, d_k, d_v, d_s;
  clt_i32 batch, q_heads, kv_heads,
      group; /* group = q_heads / kv_heads         */
  clt_i32 q_len, kv_len, qk_dim, v_dim;
  clt_i32 dtype; /* of q, k, v, out                                    */
  clt_i32 bias_dtype, weights_dtype, lengths_dtype,
      starts_dtype; /* 0: absent   */
  clt_i32 has_mask, has_key_mask, has_slopes, has_sinks, has_lse;
  clt_i32 true_hides; /* mask polarity                                      */
  clt_i32 causal;
  clt_i32 left, right; /* window, or CLT_UNLIMITED                           */
  clt_i32 q_start;     /* or CLT_AT_END; starts wins                         */
  clt_i32 average_weights, weights_stage;
  clt_i32 n_splits, split_len;     /* split-KV: keys of split s are           */
                                   /* s*split_len .. (s+1)*split_len          */
  clt_i32 batch_first, head_first; /* unfused: the chunk [batch_count,        */
  clt_i32 batch_count, head_count; /* head_count, Sq, Skv] that part holds    */
  clt_f32 scale;    /* natural units, as the user gave it                 */
  clt_f32 scale2;   /* what Q is multiplied with: scale * unit            */
  clt_f32 softcap2; /* softcap * unit; 0: none                            */
  clt_f32 unit;     /* log2(e) / temperature                              */
  clt_f32 softcap2_inverse; /* 1 / softcap2, finite                       */
  clt_f32 drop_scale;       /* 1 / (1 - dropout)                          */
  clt_i32 drop_below;  /* unsigned: weights with fewer bits drop; 0: none */
  clt_i32 drop_key[2]; /* of seed and offset                              */
  clt_i32 grad_dtype;  /* of dO                                           */
  clt_i32 grad_add;    /* gradients of bias and sinks are added to        */
  clt_i32 grad_of;     /* attn_backward_tile: what groups own, CLT_GRAD_*     */
  clt_i32 reserved;
} clt_attn_args;

#define CLT_GRAD_Q 0
#define CLT_GRAD_KV 1
#define CLT_GRAD_BIAS 2

/* What is told of the weights (attn_stats.h). Of attn: q, k, lse and the rules; v
 * is the view of the entropy, out of the distance, weights of the map. Queries are
 * worked off in tiles that stay within a block of the map. A group takes every
 * map_parts-th tile of a block and sums them up to a part of the map of its own;
 * parts lie map_step apart. */
typedef struct clt_stats_args {
  clt_attn_args attn;
  clt_view top_weights, top_keys; /* [B,Hq,Sq,top]                            */
  clt_i64 map_step;
  clt_i32 groups, map_parts;  /* in all; of one block                         */
  clt_i32 map_rows, map_keys; /* of a block; without a map Sq and Skv         */
  clt_i32 top, has;           /* largest weights a row, 0: none; CLT_STATS_*  */
} clt_stats_args;

#define CLT_STATS_ENTROPY 1
#define CLT_STATS_DISTANCE 2
#define CLT_STATS_MAP 4
#define CLT_STATS_TOP_WEIGHTS 8
#define CLT_STATS_TOP_KEYS 16

/* C[b,h,m,n] = alpha * sum_k A[b,h,m,k] B[b,h/b_group,n,k] + bias[n]
 * Views are [batch, head, row, column] with row = m (A, C) or n (B). */
typedef struct clt_matmul_args {
  clt_view a, b, c;
  clt_view1 bias;
  clt_i32 batch, heads, b_group;
  clt_i32 m, n, k;
  clt_i32 a_dtype, b_dtype, c_dtype,
      bias_dtype; /* bias_dtype 0: none          */
  clt_i32
      skip_zero; /* terms with A = 0 contribute nothing, even 0 * NaN       */
  clt_f32 alpha;
  clt_i32 panels; /* of MM_N columns a group works off (matmul.h)            */
  clt_i32 add;    /* C is added to                                           */
} clt_matmul_args;

/* to[n] = sum_bm from[b,m,n], or to[n] += that if `add`. */
typedef struct clt_column_sums_args {
  clt_view from;
  clt_view1 to;
  clt_i32 batch, rows, columns;
  clt_i32 from_dtype, to_dtype, add;
} clt_column_sums_args;

/* to[b,h,r,x] = scale * sum_s from[s * step + ((b * heads + h) * rows + r) * ld
 * + x], s < parts; to += that if `add`. */
typedef struct clt_sum_parts_args {
  clt_view to;
  clt_i64 from, step;
  clt_i32 batch, heads, rows, dim;
  clt_i32 ld, parts, to_dtype, add;
  clt_f32 scale;
  clt_i32 reserved;
} clt_sum_parts_args;

/* out[b,h,s,:] = rotary(x[b,h,s,:]), or its inverse. cos, sin: s[0] batch, s[2] row, s[3] pair.
 * Row: ids[b,s] clamped to 0..n_rows-1, else position_start + s, else s. */
typedef struct clt_rotary_args {
  clt_view x, out, cos, sin;
  clt_view ids; /* s[2] batch, s[3] token                            */
  clt_i32 batch, heads, rows, dim, rotary_dim, n_rows;
  clt_i32 x_dtype, out_dtype, table_dtype,
      ids_dtype; /* ids_dtype 0: none      */
  clt_i32 position_start, interleaved, inverse, reserved;
} clt_rotary_args;

/* dst[b,h,s + row,:] = src[b,h,s,:] for s < rows. */
typedef struct clt_copy_args {
  clt_view src, dst;
  clt_i32 batch, heads, rows, dim;
  clt_i32 src_dtype, dst_dtype;
} clt_copy_args;

/* dst[offset + i] = values[i], i < count. */
#define CLT_SET_MAX 64
typedef struct clt_set_args {
  clt_i64 offset;
  clt_i32 count, reserved;
  clt_i32 values[CLT_SET_MAX];
} clt_set_args;

/* For every kernel of nn.cl. Work is cut into units, one a group (CPUs) or a
 * work-item (GPUs). Elements lie in rows of `dim`, row r at [batch, head, row] of
 * extent; a unit takes `chunk` columns of `row_chunk` rows, `across` units side
 * by side. chunk 0: every across-th column instead. */
#define CLT_NN_BUFFERS 6
typedef struct clt_nn_args {
  clt_view
      view[CLT_NN_BUFFERS]; /* of buffer i; which that is: at the kernel  */
  clt_i64 units;
  clt_i64 dim, rows, extent[3]; /* rows: the product of extent               */
  clt_i64 chunk, row_chunk, across;
  clt_i64 part;            /* element of scratch where partial sums begin    */
  clt_i32 op;              /* CLT_NN_*                                       */
  clt_i32 has;             /* bit i: buffer i is there                       */
  clt_i32 id_dtype, n_ids; /* of ids and targets: 0 .. n_ids - 1             */
  clt_i32 accumulate, table_dtype; /* of an embedding */
  clt_f32 value, eps, max_norm; /* fill and scale; where named so in the API */
  clt_f32 decay, rate, root;    /* AdamW: 1 - lr weight_decay; lr / (1 -     */
  clt_f32 beta1, rest1;         /* beta1^step); 1 / (1 - beta2^step);        */
  clt_f32 beta2, rest2;         /* rest = 1 - beta                           */
} clt_nn_args;

/* Elementwise. */
#define CLT_NN_FILL 0
#define CLT_NN_GELU 1
#define CLT_NN_GELU_TANH 2
#define CLT_NN_TANH 3
#define CLT_NN_ADD 4 /* from here on of two tensors */
#define CLT_NN_SWIGLU 5
#define CLT_NN_GELU_BACK 6
#define CLT_NN_GELU_TANH_BACK 7
#define CLT_NN_TANH_BACK 8
#define CLT_NN_SWIGLU_BACK 9 /* of three */
/* What is folded: into fewer parts, a norm, a mean. */
#define CLT_NN_PARTS 0
#define CLT_NN_NORM 1
#define CLT_NN_MEAN 2
#define CLT_NN_PART 3 /* floats of a part */
/* A target that is left out; equal to CLATTN_NN_IGNORE. */
#define CLT_NN_IGNORE (-100)

#endif /* CLT_ARGS_H */
