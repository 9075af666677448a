/* nn.h - what the layers around attention share: checks, kernels, steps.
 *
 * A call is a struct with its tensors, checked, and a function that adds its
 * steps; the first-use check adds the same steps to a small problem. */
#ifndef CLT_NN_HOST_H
#define CLT_NN_HOST_H

#include "../../cl/shape.h"
#include "../attention/plan.h"
#include "clattn_nn.h"

/* ---- arguments (check.c) ---------------------------------------------------- */

typedef struct clt_nn_arg {
  const clattn_tensor *tensor;
  clt_want want;
  int same; /* i + 1: may be the very same view as argument i */
} clt_nn_arg;

/* Checks each, and that outputs meet nothing else. long_ok: extents may be 2^30
 * and more. */
clattn_status clt_nn_check(const clt_device *device, const clt_nn_arg *args,
                           int n, bool long_ok);

#define CLT_NN_F32 (1u << CLATTN_F32)
#define CLT_NN_ANY                                                             \
  { CLT_ANY_EXTENT, 1, CLT_ANY_EXTENT, CLT_ANY_EXTENT }
#define CLT_NN_LIKE(t)                                                         \
  { (t)->extent[0], (t)->extent[1], (t)->extent[2], (t)->extent[3] }
#define CLT_NN_ROWS(t)                                                         \
  { (t)->extent[0], 1, (t)->extent[2], 1 }
/* Arguments by their own name; `same` of an output as above. */
#define CLT_NN_INPUT(t, shape)                                                 \
  { t, {.name = #t, .dtypes = CLT_NN_F32, .extent = shape}, 0 }
#define CLT_NN_OUTPUT(t, shape, may_be)                                        \
  {                                                                            \
    t, {.name = #t, .dtypes = CLT_NN_F32, .extent = shape, .output = true},    \
        may_be                                                                 \
  }
#define CLT_REQUIRE_TENSOR(t)                                                  \
  CLT_REQUIRE((t) != NULL, #t ": got NULL, want a tensor")

/* ---- kernels (run.c) ---------------------------------------------------------- */

/* Adds the steps of a call; tile: by the kernels for GPUs. */
typedef void (*clt_nn_add)(clt_work *work, bool tile, const void *call);

/* Readies `n` kernels (those for CPUs name both), adds the steps, submits. */
clattn_status clt_nn_run(clattn_queue *queue, const clt_kernel *kernels, int n,
                         clt_nn_add add, const void *call,
                         clattn_event *const *wait, size_t n_wait,
                         clattn_event **event);
extern const clt_guard_problem clt_nn_guard; /* guard.c */

/* ---- steps (steps.c) ------------------------------------------------------------ */

typedef struct clt_nn_step {
  clt_nn_args args;
  clt_ref buffers[CLT_NN_BUFFERS];
} clt_nn_step;

/* Buffer i of the kernel; an absent tensor (or NULL) is none. */
void clt_nn_bind(clt_nn_step *step, int i, const clattn_tensor *t);
void clt_nn_bind_scratch(clt_nn_step *step, int i);
/* Units of elements of tensors of one shape: the bound ones of extents e. */
void clt_nn_elements(clt_nn_step *step, bool tile, const int64_t e[4]);
/* Units of whole rows of t. */
void clt_nn_rows(clt_nn_step *step, bool tile, const clattn_tensor *t);
void clt_nn_add_step(clt_work *work, bool tile, clt_kernel kernel,
                     const clt_nn_step *step);

/* ---- sums (sums.c) ------------------------------------------------------------- */

/* y [B|1,1,M|1,D] (+)= the sum of x [B,1,M,D] over what y repeats. norm, of
 * layer norm's x, mean and rstd (of RMS norm: NULL and rms): x times the
 * normalised rows. */
typedef struct clt_nn_normed {
  const clattn_tensor *x, *mean, *rstd;
} clt_nn_normed;
void clt_nn_column_sums(clt_work *work, bool tile, const clattn_tensor *x,
                        const clattn_tensor *y, const clt_nn_normed *norm,
                        bool accumulate);
/* Room for parts; the element of scratch where they begin. */
size_t clt_nn_parts(clt_work *work, size_t parts);
/* out = what op makes of the parts. */
void clt_nn_fold(clt_work *work, bool tile, size_t at, size_t parts, clt_i32 op,
                 const clattn_tensor *out);

/* ---- the steps of each call, for the first-use check ---------------------------- */

typedef struct clt_nn_map_call {
  clt_i32 op;
  float value;
  const clattn_tensor *a, *b, *c, *out; /* a, b and c may be NULL */
} clt_nn_map_call;
void clt_nn_map_add(clt_work *work, bool tile, const void *call);
clattn_status clt_nn_map_run(clattn_queue *queue, const clt_nn_map_call *call,
                             clattn_event *const *wait, size_t n_wait,
                             clattn_event **event);

typedef struct clt_nn_layer_norm_call {
  const clattn_nn_layer_norm_args *args;
  const clattn_tensor *d_out, *d_x, *d_weight, *d_bias; /* backward */
  uint32_t accumulate;
} clt_nn_layer_norm_call;
void clt_nn_layer_norm_add(clt_work *work, bool tile, const void *call);
void clt_nn_layer_norm_back_add(clt_work *work, bool tile, const void *call);

typedef struct clt_nn_rms_norm_call {
  const clattn_nn_rms_norm_args *args;
  const clattn_tensor *d_out, *d_x, *d_weight; /* backward */
  uint32_t accumulate;
} clt_nn_rms_norm_call;
void clt_nn_rms_norm_add(clt_work *work, bool tile, const void *call);
void clt_nn_rms_norm_back_add(clt_work *work, bool tile, const void *call);

typedef struct clt_nn_embedding_call {
  const clattn_tensor *table, *ids, *rows; /* forward: rows = table[ids] */
} clt_nn_embedding_call;
void clt_nn_gather_add(clt_work *work, bool tile, const void *call);
void clt_nn_scatter_add(clt_work *work, bool tile, const void *call);

typedef struct clt_nn_cross_entropy_call {
  const clattn_nn_cross_entropy_args *args;
  const clattn_tensor *d_logits; /* backward */
  float scale;
} clt_nn_cross_entropy_call;
void clt_nn_cross_entropy_add(clt_work *work, bool tile, const void *call);
void clt_nn_cross_entropy_back_add(clt_work *work, bool tile, const void *call);

typedef struct clt_nn_norm_call {
  const clattn_tensor *x, *norm;
} clt_nn_norm_call;
void clt_nn_norm_add(clt_work *work, bool tile, const void *call);
void clt_nn_adamw_add(clt_work *work, bool tile, const void *args);

#endif /* CLT_NN_HOST_H */
