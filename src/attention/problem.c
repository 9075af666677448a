#include "problem.h"

#include <float.h>
#include <math.h>
#include <string.h>

#define LOG2E 1.44269504088896340736

/* X(field, name) for each tensor argument, in the order of CLT_BUF_*. */
#define TENSORS(X)                                                             \
  X(q, CLT_BUF_Q)                                                              \
  X(k, CLT_BUF_K)                                                              \
  X(v, CLT_BUF_V)                                                              \
  X(out, CLT_BUF_OUT)                                                          \
  X(lse, CLT_BUF_LSE)                                                          \
  X(weights, CLT_BUF_WEIGHTS)                                                  \
  X(mask, CLT_BUF_MASK)                                                        \
  X(key_mask, CLT_BUF_KEY_MASK)                                                \
  X(bias, CLT_BUF_BIAS)                                                        \
  X(kv_lengths, CLT_BUF_LENGTHS)                                               \
  X(q_starts, CLT_BUF_STARTS)                                                  \
  X(alibi_slopes, CLT_BUF_SLOPES)                                              \
  X(sinks, CLT_BUF_SINKS)

static clattn_status check_count(const char *name, int64_t got, int64_t max) {
  CLT_REQUIRE(got >= 1 && got <= max, "desc->%s: got %lld, want 1..%lld", name,
              (long long)got, (long long)max);
  return CLATTN_OK;
}

clattn_status clt_desc_check(const clattn_desc *desc) {
  CLT_REQUIRE_STRUCT(desc, clattn_desc);
  CLT_REQUIRE(desc->dtype == CLATTN_F32 || desc->dtype == CLATTN_F16 ||
                  desc->dtype == CLATTN_BF16,
              "desc->dtype: got %s (%d), want f32, f16 or bf16",
              clattn_dtype_name(desc->dtype), (int)desc->dtype);
  const int64_t max_heads = 1 << 20, max_dim = 1 << 20;
  CLT_TRY(check_count("q_heads", desc->q_heads, max_heads));
  CLT_TRY(check_count("kv_heads", desc->kv_heads, max_heads));
  CLT_REQUIRE(desc->q_heads % desc->kv_heads == 0,
              "desc->q_heads: got %lld, want a multiple of kv_heads (%lld)",
              (long long)desc->q_heads, (long long)desc->kv_heads);
  CLT_TRY(check_count("qk_dim", desc->qk_dim, max_dim));
  CLT_TRY(check_count("v_dim", desc->v_dim, max_dim));
  CLT_REQUIRE(!isinf(desc->scale),
              "desc->scale: got %g, want a finite number, or NaN for "
              "1/sqrt(qk_dim)",
              (double)desc->scale);
  CLT_REQUIRE(isfinite(desc->temperature) && desc->temperature > 0,
              "desc->temperature: got %g, want a finite number > 0",
              (double)desc->temperature);
  CLT_REQUIRE(isfinite(desc->softcap) && desc->softcap >= 0,
              "desc->softcap: got %g, want a finite number >= 0",
              (double)desc->softcap);
  CLT_REQUIRE(desc->window_left >= -1,
              "desc->window_left: got %lld, want >= 0, or -1 for unlimited",
              (long long)desc->window_left);
  CLT_REQUIRE(desc->window_right >= -1,
              "desc->window_right: got %lld, want >= 0, or -1 for unlimited",
              (long long)desc->window_right);
  CLT_REQUIRE(desc->mask_polarity == CLATTN_TRUE_ATTENDS ||
                  desc->mask_polarity == CLATTN_TRUE_HIDES,
              "desc->mask_polarity: got %d, want CLATTN_TRUE_ATTENDS or "
              "CLATTN_TRUE_HIDES",
              (int)desc->mask_polarity);
  CLT_REQUIRE(
      (desc->outputs & ~(uint32_t)(CLATTN_OUT_LSE | CLATTN_OUT_WEIGHTS)) == 0,
      "desc->outputs: got 0x%x, want bits of CLATTN_OUT_LSE | "
      "CLATTN_OUT_WEIGHTS",
      (unsigned)desc->outputs);
  CLT_REQUIRE((int)desc->weights_stage >= CLATTN_WEIGHTS_PROBABILITIES &&
                  (int)desc->weights_stage <= CLATTN_WEIGHTS_BIASED,
              "desc->weights_stage: got %d, want a CLATTN_WEIGHTS_* value",
              (int)desc->weights_stage);
  CLT_REQUIRE(!desc->average_weights ||
                  desc->weights_stage == CLATTN_WEIGHTS_PROBABILITIES,
              "desc->average_weights: got true with weights_stage %d, want "
              "CLATTN_WEIGHTS_PROBABILITIES",
              (int)desc->weights_stage);
  CLT_REQUIRE(
      (int)desc->path >= CLATTN_AUTO && (int)desc->path <= CLATTN_BLOCKED,
      "desc->path: got %d, want CLATTN_AUTO, CLATTN_FUSED, CLATTN_UNFUSED or "
      "CLATTN_BLOCKED",
      (int)desc->path);
  CLT_REQUIRE(!desc->backward || (desc->outputs & CLATTN_OUT_LSE),
              "desc->backward: got true with outputs 0x%x, want CLATTN_OUT_LSE "
              "among them: gradients are computed from the saved lse",
              (unsigned)desc->outputs);
  return CLATTN_OK;
}

static clt_i32 window(int64_t bound) {
  return bound < 0 || bound > CLT_MAX_LENGTH ? CLT_UNLIMITED : (clt_i32)bound;
}

clattn_status clt_problem_from_desc(clt_problem *problem,
                                    const clattn_desc *desc) {
  memset(problem, 0, sizeof *problem);
  clt_attn_args *a = &problem->args;
  a->q_heads = (clt_i32)desc->q_heads;
  a->kv_heads = (clt_i32)desc->kv_heads;
  a->group = a->q_heads / a->kv_heads;
  a->qk_dim = (clt_i32)desc->qk_dim;
  a->v_dim = (clt_i32)desc->v_dim;
  a->dtype = (clt_i32)desc->dtype;
  a->true_hides = desc->mask_polarity == CLATTN_TRUE_HIDES;
  a->causal = desc->causal;
  a->left = window(desc->window_left);
  a->right = window(desc->window_right);
  a->average_weights = desc->average_weights;
  a->weights_stage = (clt_i32)desc->weights_stage;
  a->has_lse = (desc->outputs & CLATTN_OUT_LSE) != 0;
  const double unit = LOG2E / desc->temperature;
  const double scale =
      isnan(desc->scale) ? 1.0 / sqrt((double)desc->qk_dim) : desc->scale;
  a->scale = (float)scale;
  a->unit = (float)unit;
  a->scale2 = (float)(scale * unit);
  a->softcap2 = (float)(desc->softcap * unit);
  /* Of a subnormal one the inverse overflows, and 0 * inf must not arise. */
  a->softcap2_inverse = a->softcap2 > 0 ? fminf(1 / a->softcap2, FLT_MAX) : 0;
  CLT_REQUIRE(isfinite(a->unit) && isfinite(a->scale2) &&
                  isfinite(a->softcap2) && a->unit > 0 &&
                  (a->softcap2 > 0) == (desc->softcap > 0),
              "desc->temperature: got %g, which takes scale %g or softcap %g "
              "out of the range of float",
              (double)desc->temperature, scale, (double)desc->softcap);
  return CLATTN_OK;
}

clt_view clt_view_of(const clattn_tensor *t) {
  clt_view view = {0, {0}};
  if (!t->buffer) return view;
  view.offset = t->offset;
  for (int i = 0; i < 4; i++) view.s[i] = t->extent[i] == 1 ? 0 : t->stride[i];
  return view;
}

static clt_view1 view1_of(const clattn_tensor *t, int axis) {
  clt_view1 view = {0, 0};
  if (!t->buffer) return view;
  view.offset = t->offset;
  view.s = t->extent[axis] == 1 ? 0 : t->stride[axis];
  return view;
}

/* A dense direction of extent 1 has no meaningful stride; kernels take the fast
 * way for stride 1. */
static clt_view dense_last(clt_view view, int64_t extent) {
  if (extent == 1) view.s[3] = 1;
  return view;
}

static clattn_status check_tensors(const clattn_desc *desc,
                                   const clt_device *device,
                                   const clattn_args *args, bool scores) {
  const unsigned type = 1u << desc->dtype;
  const int64_t B = args->q.extent[0], Hq = desc->q_heads, Hk = desc->kv_heads;
  const int64_t Sq = args->q.extent[2], T = args->k.extent[2];
  const bool weights = (desc->outputs & CLATTN_OUT_WEIGHTS) != 0;
  const bool lse = (desc->outputs & CLATTN_OUT_LSE) != 0;
  const clt_want q = {
      .name = "args->q",
      .dtypes = type,
      .extent = {CLT_ANY_EXTENT, Hq, CLT_ANY_EXTENT, desc->qk_dim}};
  CLT_TRY(clt_tensor_check(device, &args->q, &q));
  const clt_want k = {.name = "args->k",
                      .dtypes = type,
                      .extent = {B, Hk, CLT_ANY_EXTENT, desc->qk_dim}};
  CLT_TRY(clt_tensor_check(device, &args->k, &k));
  CLT_REQUIRE(B < CLT_MAX_LENGTH && B * Hq < INT32_MAX,
              "args->q: extent[0] is %lld, want less than 2^31 / q_heads",
              (long long)B);
  CLT_REQUIRE(Sq < CLT_MAX_LENGTH, "args->q: extent[2] is %lld, want < 2^30",
              (long long)Sq);
  CLT_REQUIRE(T < CLT_MAX_LENGTH, "args->k: extent[2] is %lld, want < 2^30",
              (long long)T);
  const clt_want others[] = {
      {.name = "args->v",
       .dtypes = type,
       .extent = {B, Hk, T, desc->v_dim},
       .optional = scores},
      {.name = "args->out",
       .dtypes = type,
       .extent = {B, Hq, Sq, desc->v_dim},
       .optional = scores,
       .output = true},
      {.name = "args->lse",
       .dtypes = 1u << CLATTN_F32,
       .extent = {B, Hq, Sq, 1},
       .output = true,
       .optional = !lse},
      {.name = "args->weights",
       .dtypes = type | 1u << CLATTN_F32,
       .extent = {B, desc->average_weights ? 1 : Hq, Sq, T},
       .output = true,
       .optional = !weights},
      {.name = "args->mask",
       .dtypes = 1u << CLATTN_BOOL,
       .extent = {B, Hq, Sq, T},
       .broadcast = {true, true, true, true},
       .optional = true},
      {.name = "args->key_mask",
       .dtypes = 1u << CLATTN_BOOL,
       .extent = {B, 1, 1, T},
       .broadcast = {true, true, true, true},
       .optional = true},
      {.name = "args->bias",
       .dtypes = CLT_FLOATS,
       .extent = {B, Hq, Sq, T},
       .broadcast = {true, true, true, true},
       .optional = true},
      {.name = "args->kv_lengths",
       .dtypes = CLT_INTS,
       .extent = {B, 1, 1, 1},
       .optional = true},
      {.name = "args->q_starts",
       .dtypes = CLT_INTS,
       .extent = {B, 1, 1, 1},
       .optional = true},
      {.name = "args->alibi_slopes",
       .dtypes = 1u << CLATTN_F32,
       .extent = {1, Hq, 1, 1},
       .optional = true},
      {.name = "args->sinks",
       .dtypes = 1u << CLATTN_F32,
       .extent = {1, Hq, 1, 1},
       .optional = true},
  };
  const clattn_tensor *const tensors[] = {
      &args->v,        &args->out,          &args->lse,  &args->weights,
      &args->mask,     &args->key_mask,     &args->bias, &args->kv_lengths,
      &args->q_starts, &args->alibi_slopes, &args->sinks};
  for (size_t i = 0; i < sizeof others / sizeof *others; i++)
    CLT_TRY(clt_tensor_check(device, tensors[i], &others[i]));
  CLT_REQUIRE(lse || !args->lse.buffer,
              "args->lse: given, but desc->outputs has no CLATTN_OUT_LSE");
  CLT_REQUIRE(weights || !args->weights.buffer,
              "args->weights: given, but desc->outputs has no "
              "CLATTN_OUT_WEIGHTS");
  return CLATTN_OK;
}

static clattn_status check_overlap(const clattn_args *args) {
  const struct {
    const clattn_tensor *t;
    const char *name;
    bool output;
  } all[] = {
#define X(field, index)                                                        \
  {&args->field, "args->" #field,                                              \
   index == CLT_BUF_OUT || index == CLT_BUF_LSE || index == CLT_BUF_WEIGHTS},
      TENSORS(X)
#undef X
  };
  const size_t n = sizeof all / sizeof *all;
  for (size_t i = 0; i < n; i++)
    for (size_t j = 0; all[i].output && j < n; j++)
      if (i != j && !(all[j].output && j < i))
        CLT_TRY(
            clt_tensor_disjoint(all[i].t, all[i].name, all[j].t, all[j].name));
  return CLATTN_OK;
}

/* scores: without v and out. */
static clattn_status init(clt_problem *problem, const clattn_desc *desc,
                          const clt_device *device, const clattn_args *args,
                          bool scores) {
  CLT_TRY(check_tensors(desc, device, args, scores));
  CLT_TRY(check_overlap(args));
  CLT_REQUIRE(
      args->q_start == CLATTN_AT_END ||
          (args->q_start >= -CLT_MAX_START && args->q_start <= CLT_MAX_START),
      "args->q_start: got %lld, want -2^30..2^30 or CLATTN_AT_END",
      (long long)args->q_start);

  CLT_REQUIRE(args->dropout >= 0 && args->dropout < 1,
              "args->dropout: got %g, want at least 0 and less than 1",
              (double)args->dropout);

  CLT_TRY(clt_problem_from_desc(problem, desc));
  clt_attn_args *a = &problem->args;
  clt_dropout_init(a, args->dropout, args->dropout_seed, args->dropout_offset);
  a->batch = (clt_i32)args->q.extent[0];
  a->q_len = (clt_i32)args->q.extent[2];
  a->kv_len = (clt_i32)args->k.extent[2];
  a->q = dense_last(clt_view_of(&args->q), a->qk_dim);
  a->k = dense_last(clt_view_of(&args->k), a->qk_dim);
  a->v = dense_last(clt_view_of(&args->v), a->v_dim);
  a->out = dense_last(clt_view_of(&args->out), a->v_dim);
  a->lse = clt_view_of(&args->lse);
  a->weights = dense_last(clt_view_of(&args->weights), a->kv_len);
  a->mask = clt_view_of(&args->mask);
  a->key_mask = clt_view_of(&args->key_mask);
  a->bias = clt_view_of(&args->bias);
  a->lengths = view1_of(&args->kv_lengths, 0);
  a->starts = view1_of(&args->q_starts, 0);
  a->slopes = view1_of(&args->alibi_slopes, 1);
  a->sinks = view1_of(&args->sinks, 1);
  a->has_mask = args->mask.buffer != NULL;
  a->has_key_mask = args->key_mask.buffer != NULL;
  a->has_slopes = args->alibi_slopes.buffer != NULL;
  a->has_sinks = args->sinks.buffer != NULL;
  a->bias_dtype = args->bias.buffer ? (clt_i32)args->bias.dtype : 0;
  a->weights_dtype = args->weights.buffer ? (clt_i32)args->weights.dtype : 0;
  a->lengths_dtype =
      args->kv_lengths.buffer ? (clt_i32)args->kv_lengths.dtype : 0;
  a->starts_dtype = args->q_starts.buffer ? (clt_i32)args->q_starts.dtype : 0;
  a->q_start =
      args->q_start == CLATTN_AT_END ? CLT_AT_END : (clt_i32)args->q_start;
#define X(field, index) problem->buffers[index] = clt_ref_of(&args->field);
  TENSORS(X)
#undef X
  return CLATTN_OK;
}

clattn_status clt_problem_init(clt_problem *problem, const clattn_desc *desc,
                               const clt_device *device,
                               const clattn_args *args) {
  CLT_REQUIRE_STRUCT(args, clattn_args);
  return init(problem, desc, device, args, false);
}

clattn_status clt_problem_init_scores(clt_problem *problem,
                                      const clattn_desc *desc,
                                      const clt_device *device,
                                      const clattn_args *args) {
  CLT_REQUIRE_STRUCT(args, clattn_args);
  clattn_desc d = *desc;
  d.outputs = CLATTN_OUT_LSE;
  clattn_args a = *args;
  a.v = a.out = a.weights = (clattn_tensor){0};
  a.dropout = 0;
  return init(problem, &d, device, &a, true);
}
