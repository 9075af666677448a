/* guard.c - the first-use guard: nothing that a driver compiled is trusted
 * before it has given the right numbers on this device.
 *
 * A small problem that uses every feature runs on the device and, by the same
 * steps, on the native CPU path; outputs must agree. The verdict is kept with
 * the compiled program, so that a program is checked once, not once a run. */
#include <math.h>
#include <string.h>

#include "plan.h"

/* Two places that run the same steps: the device in question and the native
 * path. They are opened for the check and hold one input and one output. */
typedef struct site {
  clt_device device;
  void *state; /* of the backend, when the guard opened it */
  void *queue;
  clattn_buffer in, out;
} site;

static clattn_status site_open(site *s, clt_device *device, size_t in_bytes,
                               size_t out_bytes) {
  memset(s, 0, sizeof *s);
  if (device) {
    s->device = *device;
  } else {
    static const clt_settings settings = {
        .kernel_dir = "", .cache_dir = "", .cpu_threads = 1};
    int n;
    s->device.ops = clt_cpu_backend(&clt_host_services);
    CLT_TRY(s->device.ops->open(&settings, &s->state, &n));
    s->device.impl = s->device.ops->device(s->state, 0);
    s->device.ops->tuning(s->device.impl, &s->device.tuning);
  }
  const clt_backend_ops *ops = s->device.ops;
  s->in.device = s->out.device = &s->device;
  s->in.bytes = in_bytes;
  s->out.bytes = out_bytes;
  CLT_TRY(ops->queue_create(s->device.impl, &s->queue));
  CLT_TRY(ops->buffer_create(s->device.impl, in_bytes, &s->in.mem));
  return ops->buffer_create(s->device.impl, out_bytes, &s->out.mem);
}

static void site_close(site *s) {
  const clt_backend_ops *ops = s->device.ops;
  if (!ops) return;
  if (s->queue) ops->queue_destroy(s->queue);
  if (s->in.mem) ops->buffer_destroy(s->in.mem);
  if (s->out.mem) ops->buffer_destroy(s->out.mem);
  if (s->state) ops->close(s->state);
}

/* A check: its inputs as bytes, its output as floats, and how steps are made
 * when the two lie in given buffers. */
typedef struct check {
  const clt_row *row;               /* attention, or */
  const clt_guard_problem *problem; /* a single kernel's */
  clt_kernel kernel;
  bool half; /* store f16 */
  float *input;
  size_t in_floats, out_floats;
} check;

/* ---- attention ------------------------------------------------------------------------ */

enum { B = 2, HQ = 4, HK = 2, D = 20, DV = 12 };

static clattn_tensor floats(clattn_buffer *buffer, size_t at, int64_t b,
                            int64_t h, int64_t s, int64_t d, bool half) {
  clattn_tensor t =
      clattn_view_bhsd(buffer, half ? CLATTN_F16 : CLATTN_F32, b, h, s, d);
  t.offset = (int64_t)(half ? 2 * at : at);
  return t;
}

/* Few queries for rows that are made for them, else more than one block. */
static int64_t rows_of(const clt_row *row) {
  return clt_row_for_few_queries(row) ? 3 : 67;
}

/* Enough keys that rows for few queries split them. */
static int64_t keys_of(const clt_row *row) {
  return clt_row_for_few_queries(row) ? 400 : 141;
}

/* The native row that serves what `row` serves. */
static const clt_row *reference_row(const clt_row *row) {
  for (int i = 0; row->backward && i < clt_backward_row_count; i++)
    if (!clt_backward_rows[i].for_gpu && clt_backward_rows[i].path == row->path)
      return &clt_backward_rows[i];
  for (int i = 0; i < clt_row_count; i++)
    if (!clt_rows[i].for_gpu && clt_rows[i].path == row->path &&
        clt_rows[i].any_length == row->any_length)
      return &clt_rows[i];
  return row;
}

static bool gives_weights(const clt_row *row) {
  return row->path != CLATTN_FUSED && !row->backward;
}

/* Gradients in fp32, one behind the other. */
static size_t grad_floats(const clt_row *row) {
  const size_t sq = (size_t)rows_of(row), keys = (size_t)keys_of(row);
  return B * HQ * sq * D + B * HK * keys * (D + DV) + sq * keys + HQ;
}

/* Where the saved lse lies among the inputs. */
enum { LSE_AT = 60000 };

static void backward_problem(const check *c, site *s, const clattn_desc *desc,
                             clattn_args *args, size_t out_at,
                             clt_problem *problem, clt_work *work) {
  const int64_t sq = rows_of(c->row), keys = keys_of(c->row);
  clattn_grads grads;
  clattn_grads_init(&grads);
  const size_t n = (size_t)(B * HQ * sq * DV);
  args->out = floats(&s->in, out_at, B, HQ, sq, DV, c->half);
  grads.d_out = floats(&s->in, out_at + n, B, HQ, sq, DV, c->half);
  args->lse = floats(&s->in, LSE_AT, B, HQ, sq, 1, false);
  size_t at = 0;
  grads.d_q = floats(&s->out, at, B, HQ, sq, D, false);
  at += (size_t)(B * HQ * sq * D);
  grads.d_k = floats(&s->out, at, B, HK, keys, D, false);
  at += (size_t)(B * HK * keys * D);
  grads.d_v = floats(&s->out, at, B, HK, keys, DV, false);
  at += (size_t)(B * HK * keys * DV);
  if (c->half) {
    args->dropout = 0.25f;
    args->dropout_seed = 42;
    grads.accumulate = CLATTN_ADD_TO_INPUTS;
    grads.d_bias = floats(&s->out, at, 1, 1, sq, keys, false);
    grads.d_sinks =
        floats(&s->out, at + (size_t)(sq * keys), 1, HQ, 1, 1, false);
  }
  work->status =
      clt_problem_init_backward(problem, desc, &s->device, args, &grads);
}

static void attention_steps(const check *c, site *s, clt_work *work) {
  const int64_t sq = rows_of(c->row), keys = keys_of(c->row);
  const bool backward = c->row->backward;
  const bool weights = gives_weights(c->row);
  clattn_desc desc;
  clattn_desc_init(&desc);
  desc.dtype = c->half ? CLATTN_F16 : CLATTN_F32;
  desc.q_heads = HQ;
  desc.kv_heads = HK;
  desc.qk_dim = D;
  desc.v_dim = DV;
  desc.outputs = CLATTN_OUT_LSE | (weights ? CLATTN_OUT_WEIGHTS : 0);
  /* Averages in one of the two problems; the blocked path has them in F32. */
  desc.average_weights = weights && c->half == (c->row->path == CLATTN_UNFUSED);
  if (c->half) { /* the plain problem in F32, every feature in F16 */
    desc.causal = true;
    desc.softcap = 3.0f;
    desc.window_left = 90;
    desc.window_right = 20;
    desc.temperature = 1.25f;
  }
  clattn_args args;
  clattn_args_init(&args);
  size_t at = 0;
  args.q = floats(&s->in, at, B, HQ, sq, D, c->half);
  at += (size_t)(B * HQ * sq * D);
  args.k = floats(&s->in, at, B, HK, keys, D, c->half);
  at += (size_t)(B * HK * keys * D);
  args.v = floats(&s->in, at, B, HK, keys, DV, c->half);
  at += (size_t)(B * HK * keys * DV);
  const size_t out_at = at; /* of backward: O and dO, of the same type */
  if (backward) at += 2 * (size_t)(B * HQ * sq * DV);
  if (c->half) {
    args.bias = floats(&s->in, at, 1, 1, sq, keys, false);
    at += (size_t)(sq * keys);
    args.alibi_slopes = floats(&s->in, at, 1, HQ, 1, 1, false);
    at += HQ;
    args.sinks = floats(&s->in, at, 1, HQ, 1, 1, false);
    at += HQ;
    args.kv_lengths = floats(&s->in, at, B, 1, 1, 1, false);
    args.kv_lengths.dtype = CLATTN_I32;
    at += B;
    args.mask = floats(&s->in, at, 1, 1, 1, keys, false);
    args.mask.dtype = CLATTN_BOOL;
    args.mask.offset *= 4;
  }
  args.out = floats(&s->out, 0, B, HQ, sq, DV, false);
  args.out.dtype = desc.dtype;
  at = (size_t)(B * HQ * sq * DV);
  args.lse = floats(&s->out, at, B, HQ, sq, 1, false);
  at += (size_t)(B * HQ * sq);
  if (weights)
    args.weights =
        floats(&s->out, at, B, desc.average_weights ? 1 : HQ, sq, keys, false);
  clt_problem problem;
  if (backward)
    backward_problem(c, s, &desc, &args, out_at, &problem, work);
  else
    work->status = clt_problem_init(&problem, &desc, &s->device, &args);
  if (work->status == CLATTN_OK)
    (s->state ? reference_row(c->row) : c->row)->build(&problem, work);
}

/* ---- running and comparing --------------------------------------------------------------------- */

static clattn_status run_on(site *s, const check *c, float *result) {
  const clt_backend_ops *ops = s->device.ops;
  const size_t bytes = c->out_floats * sizeof(float);
  CLT_TRY(ops->buffer_write(s->queue, s->in.mem, 0, c->input,
                            c->in_floats * sizeof(float)));
  for (size_t i = 0; i < c->out_floats; i++) result[i] = 0.0f;
  CLT_TRY(ops->buffer_write(s->queue, s->out.mem, 0, result, bytes));
  clt_work work;
  clt_work_init(&work, &s->device);
  const clt_guard_site site = {.in = &s->in,
                               .out = &s->out,
                               .kernel = c->kernel,
                               .half = c->half,
                               .reference = s->state != NULL};
  if (c->row)
    attention_steps(c, s, &work);
  else
    c->problem->steps(&work, &site);
  clattn_queue queue = {&s->device, s->queue};
  clattn_status status = work.status;
  if (status == CLATTN_OK)
    status = clt_work_submit(&work, &queue, NULL, NULL, 0, NULL);
  clt_work_free(&work);
  CLT_TRY(status);
  return ops->buffer_read(s->queue, s->out.mem, 0, result, bytes);
}

/* Words that are floats agree within the tolerance; f16 pairs and integers are
 * compared as what they are. */
static bool agree(const check *c, const float *got, const float *want,
                  size_t *where, double *g, double *w) {
  const size_t halves = c->row && c->half && !c->row->backward
                            ? (size_t)(B * HQ * rows_of(c->row) * DV)
                            : 0;
  for (size_t i = 0; i < c->out_floats; i++) {
    *where = i;
    if (!c->row && i >= (size_t)c->problem->floats) {
      int32_t a, b;
      memcpy(&a, &got[i], 4);
      memcpy(&b, &want[i], 4);
      *g = a;
      *w = b;
      if (a != b) return false;
      continue;
    }
    float a[2] = {got[i], 0}, b[2] = {want[i], 0};
    int n = 1;
    double tolerance = 1e-4;
    if (2 * i < halves) {
      n = 2;
      tolerance = 4e-3; /* one ulp of f16 on either side, and then some */
      (void)clattn_convert(CLATTN_F16, &got[i], CLATTN_F32, a, 2);
      (void)clattn_convert(CLATTN_F16, &want[i], CLATTN_F32, b, 2);
    }
    for (int k = 0; k < n; k++) {
      *g = a[k];
      *w = b[k];
      if (*g == *w) continue; /* infinities, too */
      if (!(fabs(*g - *w) <= tolerance * (1.0 + fabs(*w)))) return false;
    }
  }
  return true;
}

/* Numbers in -1..1, the same on every machine. */
static float noise(uint32_t *state) {
  *state = *state * 1664525u + 1013904223u;
  return (float)(*state >> 8) * (2.0f / 16777216.0f) - 1.0f;
}

static void fill_inputs(const check *c) {
  uint32_t state = 12345;
  for (size_t i = 0; i < c->in_floats; i++) c->input[i] = noise(&state);
  /* f16 problems read the same memory as pairs of halves, except for the fp32
   * and integer inputs that attention_steps places behind q, k and v. */
  size_t halves = c->in_floats;
  if (c->row) {
    const size_t sq = (size_t)rows_of(c->row), keys = (size_t)keys_of(c->row);
    halves = B * HQ * sq * D + B * HK * keys * (D + DV);
    if (c->row->backward) {
      halves += 2 * B * HQ * sq * DV;
      for (size_t i = 0; i < B * HQ * sq; i++) c->input[LSE_AT + i] += 3.0f;
    }
    if (c->half) {
      size_t at = halves + sq * keys;
      /* ALiBi's slopes weigh down: the lse that backward is given is no sum over
       * these scores, and must not lie far below them. */
      for (size_t h = 0; h < HQ; h++)
        c->input[at + h] = fabsf(c->input[at + h]);
      at += HQ + HQ;
      const int32_t lengths[B] = {(int32_t)keys, (int32_t)keys - 64};
      memcpy(c->input + at, lengths, sizeof lengths);
      unsigned char *mask = (unsigned char *)(c->input + at + B);
      for (size_t j = 0; j < keys; j++) mask[j] = j % 7 != 3;
    }
  }
  if (c->half)
    for (size_t i = 0; i < halves; i++) {
      float pair[2] = {c->input[i], 0.5f * c->input[i] - 0.25f};
      (void)clattn_convert(CLATTN_F32, pair, CLATTN_F16, &c->input[i], 2);
    }
  if (!c->row && c->problem->inputs) c->problem->inputs(c->input);
}

/* OK: agrees. UNSUPPORTED: wrong, with the place. Else: could not be run. */
static clattn_status run_check(clt_device *device, check *c) {
  c->in_floats = CLT_GUARD_IN;
  c->out_floats = CLT_GUARD_OUT;
  if (c->row) {
    const size_t sq = (size_t)rows_of(c->row);
    c->out_floats = B * HQ * sq * (DV + 1);
    if (c->row->backward) c->out_floats = grad_floats(c->row);
    if (gives_weights(c->row))
      c->out_floats += B * HQ * sq * (size_t)keys_of(c->row);
  }
  site ours = {0}, theirs = {0};
  c->input = clt_alloc(c->in_floats * sizeof(float));
  float *got = clt_alloc(c->out_floats * sizeof(float));
  float *want = clt_alloc(c->out_floats * sizeof(float));
  clattn_status status =
      c->input && got && want
          ? CLATTN_OK
          : clt_fail(CLATTN_OUT_OF_MEMORY, "guard: out of host memory");
  const size_t in = c->in_floats * sizeof(float);
  const size_t out = c->out_floats * sizeof(float);
  if (status == CLATTN_OK) status = site_open(&ours, device, in, out);
  if (status == CLATTN_OK) status = site_open(&theirs, NULL, in, out);
  if (status == CLATTN_OK) {
    fill_inputs(c);
    status = run_on(&theirs, c, want);
  }
  if (status == CLATTN_OK) status = run_on(&ours, c, got);
  size_t where = 0;
  double g = 0, w = 0;
  if (status == CLATTN_OK && !agree(c, got, want, &where, &g, &w))
    status = clt_fail(CLATTN_UNSUPPORTED,
                      "wrong numbers on this device: element %zu of the "
                      "built-in %s check is %g, the CPU path gives %g",
                      where, c->half ? "f16" : "f32", g, w);
  site_close(&ours);
  site_close(&theirs);
  clt_free(c->input);
  clt_free(got);
  clt_free(want);
  return status;
}

/* The stored verdict of a kernel, or a new one from both checks. */
static clattn_status guard(clt_device *device, const clt_row *row,
                           const clt_guard_problem *problem,
                           clt_kernel kernel) {
  const clt_backend_ops *ops = device->ops;
  char reason[512] = "";
  switch (ops->verdict_get(device->impl, kernel, reason, sizeof reason)) {
    case CLT_TRUSTED:
      return CLATTN_OK;
    case CLT_REFUSED:
      return clt_fail(CLATTN_UNSUPPORTED, "%s", reason);
    default:
      break;
  }
  clattn_status status = CLATTN_OK;
  const int checks = row ? 2 : problem->checks;
  for (int half = 0; half < checks && status == CLATTN_OK; half++) {
    check c = {
        .row = row, .problem = problem, .kernel = kernel, .half = half != 0};
    status = run_check(device, &c);
  }
  /* A driver that fails on the small problem is refused for good; running out
   * of memory says nothing about the kernel. */
  if (status != CLATTN_OK && status != CLATTN_OUT_OF_MEMORY) {
    snprintf(reason, sizeof reason, "%s", clattn_error_message());
    ops->verdict_set(device->impl, kernel, CLT_REFUSED, reason);
    return clt_fail(CLATTN_UNSUPPORTED, "%s", reason);
  }
  if (status == CLATTN_OK)
    ops->verdict_set(device->impl, kernel, CLT_TRUSTED, "");
  return status;
}

clattn_status clt_guard_row(clt_device *device, const clt_row *row) {
  /* A kernel with a program of its own: its verdict is kept with that, not with
   * the row's, which knows nothing of its source. */
  for (int i = 1; i < row->n_kernels; i++)
    if (strcmp(clt_kernels[row->kernels[i]].file,
               clt_kernels[row->kernels[0]].file) != 0)
      CLT_TRY(clt_guard_kernel(device, row->kernels[i]));
  return guard(device, row, NULL, row->kernels[0]);
}

clattn_status clt_guard_with(clt_device *device, clt_kernel kernel,
                             const clt_guard_problem *problem) {
  CLT_TRY(device->ops->prepare(device->impl, kernel));
  return guard(device, NULL, problem, kernel);
}

clattn_status clt_guard_kernel(clt_device *device, clt_kernel kernel) {
  clt_guard_problem blas = clt_guard_matmul;
  blas.checks = 1; /* fp32 only */
  return clt_guard_with(device, kernel,
                        kernel == CLT_K_ROTARY             ? &clt_guard_rotary
                        : kernel == CLT_K_COPY             ? &clt_guard_copy
                        : kernel == CLT_K_SET_I32          ? &clt_guard_set
                        : kernel == CLT_K_MATMUL_BLAS      ? &blas
                        : kernel == CLT_K_COLUMN_SUMS      ? &clt_guard_sums
                        : kernel == CLT_K_COLUMN_SUMS_TILE ? &clt_guard_sums
                                                           : &clt_guard_matmul);
}

clattn_status clt_choose_family(clt_device *device, const char *what,
                                clattn_status (*ready)(clt_device *device,
                                                       bool tile,
                                                       const void *call),
                                const void *call, bool *tile) {
  *tile = clt_tuned(device, CLT_TUNE_FAMILY) != 0;
  const clattn_status status = ready(device, *tile, call);
  if (!*tile || (status != CLATTN_UNSUPPORTED && status != CLATTN_BUILD_FAILED))
    return status;
  clt_log(device->context, "%s: the kernels for CPUs serve: %s", what,
          clattn_error_message());
  *tile = false;
  return ready(device, false, call);
}
