/* problem.h - one validated description of an attention problem.
 *
 * clt_problem_init turns descriptor and arguments into the struct that every
 * kernel reads, with every default resolved. All paths and backends work from
 * this value and nothing else, so no feature is written twice. */
#ifndef CLT_PROBLEM_H
#define CLT_PROBLEM_H

#include "../../cl/args.h"
#include "../core/core.h"

/* Order of the buffers of every attention kernel (cl/attn_params.h). */
enum {
  CLT_BUF_Q,
  CLT_BUF_K,
  CLT_BUF_V,
  CLT_BUF_OUT,
  CLT_BUF_LSE,
  CLT_BUF_WEIGHTS,
  CLT_BUF_MASK,
  CLT_BUF_KEY_MASK,
  CLT_BUF_BIAS,
  CLT_BUF_LENGTHS,
  CLT_BUF_STARTS,
  CLT_BUF_SLOPES,
  CLT_BUF_SINKS,
  CLT_BUF_PART,
  CLT_BUF_COUNT
};

/* A gradient: where it lies. */
typedef struct clt_grad {
  clt_view view;
  clt_ref ref;
  clt_i32 dtype; /* 0: absent */
  clt_i32 add;   /* it is added to */
} clt_grad;

typedef struct clt_problem {
  clt_attn_args args;
  clt_ref buffers[CLT_BUF_COUNT]; /* PART is left to the row */
  /* Backward only: d_out is read, the others are written where there are. */
  clt_grad d_out, d_q, d_k, d_v, d_bias, d_sinks;
} clt_problem;

/* Every field of a descriptor, without a device. */
clattn_status clt_desc_check(const clattn_desc *desc);

/* The part of the arguments that needs no tensors: heads, sizes, numbers. */
clattn_status clt_problem_from_desc(clt_problem *problem,
                                    const clattn_desc *desc);
/* Checks the arguments against a checked descriptor and fills the problem. */
clattn_status clt_problem_init(clt_problem *problem, const clattn_desc *desc,
                               const clt_device *device,
                               const clattn_args *args);

/* The same for backward; args->weights is ignored. */
clattn_status clt_problem_init_backward(clt_problem *problem,
                                        const clattn_desc *desc,
                                        const clt_device *device,
                                        const clattn_args *args,
                                        const clattn_grads *grads);

/* The arguments that say which weights drop (dropout.c). */
void clt_dropout_init(clt_attn_args *args, float dropout, uint64_t seed,
                      uint64_t offset);

/* The same for what needs scores and the saved lse alone: args->v, out, weights
 * and dropout are ignored, args->lse is an input. */
clattn_status clt_problem_init_scores(clt_problem *problem,
                                      const clattn_desc *desc,
                                      const clt_device *device,
                                      const clattn_args *args);

/* A 4-d view with broadcast dimensions as stride 0. */
clt_view clt_view_of(const clattn_tensor *t);
/* Rows and columns exchanged. */
static inline clt_view clt_turned(clt_view view) {
  const clt_i64 row = view.s[2];
  view.s[2] = view.s[3];
  view.s[3] = row;
  return view;
}

#define CLT_MAX_LENGTH ((int64_t)1 << 30) /* exclusive bound of lengths */
#define CLT_MAX_START ((int64_t)1 << 30)

#endif /* CLT_PROBLEM_H */
