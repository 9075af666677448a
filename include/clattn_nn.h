/* clattn_nn.h - what a transformer needs around attention, forward and backward.
 *
 *   layer and RMS norm, GELU, SwiGLU, tanh, addition,
 *   embedding, cross-entropy                       layers
 *   norm, AdamW, fill                                      the optimizer
 *   learning rate                                          its schedule
 *
 * Linear layers and attention itself, with their gradients, are in clattn.h.
 *
 * Part of libclattn: the same devices, queues and buffers, the same rules. A
 * call checks its arguments, enqueues and returns; shapes are [batch, head, row,
 * dim] like everywhere, with head 1. Everything here is F32 and dense rows
 * (stride[3] == 1); other strides are free. Names, conventions and defaults are
 * those of torch.nn and torch.nn.functional, formulas stand at each function.
 *
 * Gradients are named d_x: the derivative of one scalar, the loss, by each
 * element of x. Each is optional (an absent tensor is not computed), and either
 * replaces what its tensor held or is added to it (accumulate: CLATTN_ADD_TO_*).
 *
 * Results have the same bits at every run on a device, whatever the number of
 * threads: sums are taken in a fixed order.
 *
 * An output's memory must not overlap an input's unless the function says that
 * both may be the very same view. */
#ifndef CLATTN_NN_H
#define CLATTN_NN_H

#include "clattn.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Layer normalisation ------------------------------------------------------
 * (Ba et al. 2016.) For each row of D numbers:
 *     out = (x - mean) * rstd * weight + bias
 *     mean = sum(x) / D,  rstd = 1 / sqrt(sum((x - mean)^2) / D + eps) */
typedef struct clattn_nn_layer_norm_args {
  size_t struct_size; /* set by clattn_nn_layer_norm_args_init             */
  clattn_tensor x;    /* [B,1,M,D]                                         */
  clattn_tensor weight, bias; /* optional [1,1,1,D]                         */
  clattn_tensor out; /* [B,1,M,D]; forward only                           */
  clattn_tensor mean, rstd; /* [B,1,M,1]: forward writes them if they are
                        * there, backward reads them                        */
  float eps; /* finite, > 0; default 1e-5; forward only           */
} clattn_nn_layer_norm_args;

CLATTN_API void clattn_nn_layer_norm_args_init(clattn_nn_layer_norm_args *args);
CLATTN_API clattn_status clattn_nn_layer_norm(
    clattn_queue *queue, const clattn_nn_layer_norm_args *args,
    clattn_event *const *wait, size_t n_wait, clattn_event **event);
/* d_out [B,1,M,D]; d_x like x, d_weight and d_bias like weight. accumulate:
 * CLATTN_ADD_TO_INPUTS for d_x, CLATTN_ADD_TO_WEIGHTS for the other two. */
CLATTN_API clattn_status clattn_nn_layer_norm_backward(
    clattn_queue *queue, const clattn_nn_layer_norm_args *args,
    const clattn_tensor *d_out, const clattn_tensor *d_x,
    const clattn_tensor *d_weight, const clattn_tensor *d_bias,
    uint32_t accumulate, clattn_event *const *wait, size_t n_wait,
    clattn_event **event);

/* ---- RMS normalisation -----------------------------------------------------------
 * (Zhang & Sennrich 2019.) As layer norm, without mean and bias:
 *     out = x * rms * weight,  rms = 1 / sqrt(sum(x^2) / D + eps) */
typedef struct clattn_nn_rms_norm_args {
  size_t struct_size;   /* set by clattn_nn_rms_norm_args_init               */
  clattn_tensor x;      /* [B,1,M,D]                                         */
  clattn_tensor weight; /* optional [1,1,1,D]                              */
  clattn_tensor out;    /* [B,1,M,D]; forward only                         */
  clattn_tensor rms;    /* [B,1,M,1]: forward writes it if it is there,
                         * backward reads it                               */
  float eps; /* finite, > 0; default 1e-6; forward only                    */
} clattn_nn_rms_norm_args;

CLATTN_API void clattn_nn_rms_norm_args_init(clattn_nn_rms_norm_args *args);
CLATTN_API clattn_status clattn_nn_rms_norm(clattn_queue *queue,
                                            const clattn_nn_rms_norm_args *args,
                                            clattn_event *const *wait,
                                            size_t n_wait,
                                            clattn_event **event);
CLATTN_API clattn_status clattn_nn_rms_norm_backward(
    clattn_queue *queue, const clattn_nn_rms_norm_args *args,
    const clattn_tensor *d_out, const clattn_tensor *d_x,
    const clattn_tensor *d_weight, uint32_t accumulate,
    clattn_event *const *wait, size_t n_wait, clattn_event **event);

/* ---- GELU -----------------------------------------------------------------------
 * (Hendrycks & Gimpel 2016.) NONE: x Phi(x) = x/2 (1 + erf(x / sqrt 2));
 * TANH: x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), as GPT-2 has it.
 * Relative accuracy is 5e-6 or better, also in the tail, down to about 1e-19. At
 * +-Inf these are the limits: GELU Inf and -0 (torch gives NaN for -Inf), its
 * derivative 1 and 0. */
typedef enum clattn_nn_gelu_kind {
  CLATTN_NN_GELU_NONE = 0, /* exact                                          */
  CLATTN_NN_GELU_TANH = 1
} clattn_nn_gelu_kind;

/* x, out [B,1,M,D]; out may be the very same view as x. */
CLATTN_API clattn_status clattn_nn_gelu(clattn_queue *queue,
                                        clattn_nn_gelu_kind kind,
                                        const clattn_tensor *x,
                                        const clattn_tensor *out,
                                        clattn_event *const *wait,
                                        size_t n_wait, clattn_event **event);
/* d_x = d_out * gelu'(x); d_x may be the very same view as d_out. */
CLATTN_API clattn_status clattn_nn_gelu_backward(
    clattn_queue *queue, clattn_nn_gelu_kind kind, const clattn_tensor *x,
    const clattn_tensor *d_out, const clattn_tensor *d_x,
    clattn_event *const *wait, size_t n_wait, clattn_event **event);

/* ---- SwiGLU and tanh ----------------------------------------------------------------
 * (Shazeer 2020.) out = gate / (1 + exp(-gate)) * up, all [B,1,M,D]; out may be
 * the very same view as gate. Accuracy, and the limits at +-Inf, as of GELU. */
CLATTN_API clattn_status clattn_nn_swiglu(clattn_queue *queue,
                                          const clattn_tensor *gate,
                                          const clattn_tensor *up,
                                          const clattn_tensor *out,
                                          clattn_event *const *wait,
                                          size_t n_wait, clattn_event **event);
/* d_gate = d_out * up * silu'(gate), d_up = d_out * silu(gate), silu(x) = x / (1 +
 * exp(-x)); each NULL or absent if not wanted. */
CLATTN_API clattn_status clattn_nn_swiglu_backward(
    clattn_queue *queue, const clattn_tensor *gate, const clattn_tensor *up,
    const clattn_tensor *d_out, const clattn_tensor *d_gate,
    const clattn_tensor *d_up, clattn_event *const *wait, size_t n_wait,
    clattn_event **event);
/* out = tanh(x); out may be the very same view as x. */
CLATTN_API clattn_status clattn_nn_tanh(clattn_queue *queue,
                                        const clattn_tensor *x,
                                        const clattn_tensor *out,
                                        clattn_event *const *wait,
                                        size_t n_wait, clattn_event **event);
/* d_x = d_out * (1 - out^2), of tanh's output; d_x may be the very same view as
 * d_out. */
CLATTN_API clattn_status clattn_nn_tanh_backward(
    clattn_queue *queue, const clattn_tensor *out, const clattn_tensor *d_out,
    const clattn_tensor *d_x, clattn_event *const *wait, size_t n_wait,
    clattn_event **event);

/* ---- Addition: residual connections ------------------------------------------------
 * out = a + b. a, out [B,1,M,D]; b [B|1,1,M|1,D], repeated where its extent is
 * 1. out may be the very same view as a. The gradient of both is d_out, summed
 * over what b repeats: clattn_nn_add_backward gives the latter. */
CLATTN_API clattn_status clattn_nn_add(clattn_queue *queue,
                                       const clattn_tensor *a,
                                       const clattn_tensor *b,
                                       const clattn_tensor *out,
                                       clattn_event *const *wait, size_t n_wait,
                                       clattn_event **event);
/* d_b [B|1,1,M|1,D] (+)= the sum of d_out [B,1,M,D] over batches and rows that
 * share an element. accumulate: CLATTN_ADD_TO_WEIGHTS. */
CLATTN_API clattn_status clattn_nn_add_backward(
    clattn_queue *queue, const clattn_tensor *d_out, const clattn_tensor *d_b,
    uint32_t accumulate, clattn_event *const *wait, size_t n_wait,
    clattn_event **event);

/* ---- Embedding ------------------------------------------------------------------------
 * out[b,m,:] = table[ids[b,m],:]. ids I32 or I64 [B,1,M,1], table [1,1,V,D] (F32, and
 * for forward alone F16 or BF16), out [B,1,M,D]. Ids are read on the device: one outside 0..V-1 gives a row of NaN,
 * and no gradient. */
CLATTN_API clattn_status clattn_nn_embedding(
    clattn_queue *queue, const clattn_tensor *table, const clattn_tensor *ids,
    const clattn_tensor *out, clattn_event *const *wait, size_t n_wait,
    clattn_event **event);
/* d_table[ids[b,m],:] += d_out[b,m,:]: always added; fill it first. */
CLATTN_API clattn_status clattn_nn_embedding_backward(
    clattn_queue *queue, const clattn_tensor *ids, const clattn_tensor *d_out,
    const clattn_tensor *d_table, clattn_event *const *wait, size_t n_wait,
    clattn_event **event);

/* Sinusoidal positions (Vaswani et al. 2017, 3.5): table [n, D] on the host, for
 * positions first .. first+n-1, any of them >= 0, computed in double:
 *     table[p][2k] = sin(p / 10000^(2k/D)),  table[p][2k+1] = cos(the same) */
CLATTN_API clattn_status clattn_nn_sinusoidal(int64_t first, int64_t n,
                                              int64_t D, float *table);

/* ---- Cross-entropy ------------------------------------------------------------------------
 * Of each row, loss = log(sum_v exp(logits_v)) - logits_target; a row whose
 * target is CLATTN_NN_IGNORE has loss 0 and gradient 0. The mean over the others
 * is torch.nn.functional.cross_entropy's; it is Inf where the sum of the losses is
 * beyond float. A target that is neither gives NaN. */
#define CLATTN_NN_IGNORE (-100)

typedef struct clattn_nn_cross_entropy_args {
  size_t struct_size;    /* set by clattn_nn_cross_entropy_args_init         */
  clattn_tensor logits;  /* [B,1,M,V]                                        */
  clattn_tensor targets; /* I32 or I64 [B,1,M,1]                             */
  clattn_tensor losses;  /* [B,1,M,1]: of each row; forward only             */
  clattn_tensor lse;     /* [B,1,M,1]: log of the sum; forward writes it,
                          * backward reads it                                */
  clattn_tensor mean;    /* optional [1,1,1,2]: the mean loss (NaN if all rows
                          * are ignored) and the number of rows it is over;
                          * forward writes it, backward reads its number     */
} clattn_nn_cross_entropy_args;

CLATTN_API void clattn_nn_cross_entropy_args_init(
    clattn_nn_cross_entropy_args *args);
CLATTN_API clattn_status clattn_nn_cross_entropy(
    clattn_queue *queue, const clattn_nn_cross_entropy_args *args,
    clattn_event *const *wait, size_t n_wait, clattn_event **event);
/* d_logits = scale * (softmax(logits) - [v == target]) / number, the gradient of
 * scale times the mean (args->mean is needed). d_logits [B,1,M,V] may be the
 * very same view as logits. */
CLATTN_API clattn_status clattn_nn_cross_entropy_backward(
    clattn_queue *queue, const clattn_nn_cross_entropy_args *args, float scale,
    const clattn_tensor *d_logits, clattn_event *const *wait, size_t n_wait,
    clattn_event **event);

/* ---- Optimizer ------------------------------------------------------------------------------
 * Works on whole tensors of any shape; for a model whose parameters lie in one
 * buffer, as one of clattn_gpt.h, on all of them at once. */

/* Every element of x = value. */
CLATTN_API clattn_status clattn_nn_fill(clattn_queue *queue,
                                        const clattn_tensor *x, float value,
                                        clattn_event *const *wait,
                                        size_t n_wait, clattn_event **event);
/* norm [1,1,1,1] = sqrt(sum(x^2)), summed in a fixed order without overflow
 * (a sum beyond float gives Inf, NaN in x gives NaN). */
CLATTN_API clattn_status clattn_nn_norm(clattn_queue *queue,
                                        const clattn_tensor *x,
                                        const clattn_tensor *norm,
                                        clattn_event *const *wait,
                                        size_t n_wait, clattn_event **event);

/* AdamW (Loshchilov & Hutter 2019), as torch.optim.AdamW:
 *     g     = gradient * min(1, max_norm / (norm + 1e-6))     where norm is given
 *     param = param - lr * weight_decay * param
 *     m     = beta1 m + (1 - beta1) g
 *     v     = beta2 v + (1 - beta2) g^2
 *     param = param - lr * (m / (1 - beta1^step))
 *                        / (sqrt(v / (1 - beta2^step)) + eps)
 * The factor of g is torch.nn.utils.clip_grad_norm_'s. */
typedef struct clattn_nn_adamw_args {
  size_t struct_size; /* set by clattn_nn_adamw_args_init                */
  clattn_tensor param, grad, m, v; /* of equal extents; param, m and v change */
  clattn_tensor norm; /* optional [1,1,1,1] of clattn_nn_norm            */
  float max_norm;     /* > 0; used with norm; default 1                  */
  float lr;           /* finite, >= 0; default 1e-3                      */
  float beta1, beta2; /* in [0, 1); default 0.9, 0.999                   */
  float eps;          /* finite, > 0; default 1e-8                       */
  float weight_decay; /* finite, >= 0; default 1e-2                      */
  int64_t step;       /* >= 1: the first step is 1                       */
} clattn_nn_adamw_args;

CLATTN_API void clattn_nn_adamw_args_init(clattn_nn_adamw_args *args);
CLATTN_API clattn_status clattn_nn_adamw(clattn_queue *queue,
                                         const clattn_nn_adamw_args *args,
                                         clattn_event *const *wait,
                                         size_t n_wait, clattn_event **event);

/* Learning rate of a step >= 0: linear warm-up, (step + 1) / warmup of max_lr,
 * over the first `warmup` steps, then half a cosine from max_lr down to min_lr
 * at step `total`, and min_lr from there (Loshchilov & Hutter 2017). Plain
 * arithmetic on the host; NaN for a negative step or warmup or total < warmup. */
CLATTN_API float clattn_nn_cosine_lr(int64_t step, int64_t warmup,
                                     int64_t total, float max_lr, float min_lr);

#ifdef __cplusplus
}
#endif
#endif /* CLATTN_NN_H */
