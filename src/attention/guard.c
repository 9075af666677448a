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
  const clt_row *row; /* attention, or */
  clt_kernel kernel;  /* a single kernel */
  bool half;          /* store f16 */
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
  for (int i = 0; i < clt_row_count; i++)
    if (!clt_rows[i].for_gpu && clt_rows[i].path == row->path &&
        clt_rows[i].any_length == row->any_length)
      return &clt_rows[i];
  return row;
}

static void attention_steps(const check *c, site *s, clt_work *work) {
  const int64_t sq = rows_of(c->row), keys = keys_of(c->row);
  const bool weights = c->row->path != CLATTN_FUSED;
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
  work->status = clt_problem_init(&problem, &desc, &s->device, &args);
  if (work->status == CLATTN_OK)
    (s->state ? reference_row(c->row) : c->row)->build(&problem, work);
}

/* ---- single kernels ------------------------------------------------------------------------ */

enum { MM_ROWS = 37, MM_COLS = 70, MM_DEPTH = 75 };

static void kernel_steps(const check *c, site *s, clt_work *work) {
  const clt_ref in = {s->in.mem, false}, out = {s->out.mem, false};
  const clt_i32 type = c->half ? CLT_F16 : CLT_F32;
  clt_step *step = NULL;
  if (c->kernel == CLT_K_ROTARY) {
    const clt_rotary_args a = {.x = {0, {480, 160, 16, 1}},
                               .out = {0, {480, 160, 16, 1}},
                               .cos = {2048, {0, 0, 6, 1}},
                               .sin = {2560, {0, 0, 6, 1}},
                               .batch = 2,
                               .heads = 3,
                               .rows = 10,
                               .dim = 16,
                               .rotary_dim = 12,
                               .n_rows = 20,
                               .x_dtype = type,
                               .out_dtype = CLT_F32,
                               .table_dtype = type,
                               .position_start = 3,
                               .interleaved = c->half};
    step = clt_work_add(work, c->kernel, &a, 10, 1, 2, 16);
    if (step) {
      step->n_buffers = 5;
      step->buffers[0] = step->buffers[2] = step->buffers[3] = in;
      step->buffers[1] = out;
    }
  } else if (c->kernel == CLT_K_COPY) {
    const clt_copy_args a = {.src = {5, {700, 350, 17, 1}},
                             .dst = {1, {2, 800, 40, 2}},
                             .batch = 1,
                             .heads = 2,
                             .rows = 19,
                             .dim = 17,
                             .src_dtype = type,
                             .dst_dtype = CLT_F32};
    step = clt_work_add(work, c->kernel, &a, 2, 2, 1, 16);
    if (step) {
      step->n_buffers = 2;
      step->buffers[0] = in;
      step->buffers[1] = out;
    }
  } else if (c->kernel == CLT_K_SET_I32) {
    clt_set_args a = {.offset = 3, .count = CLT_SET_MAX};
    for (int i = 0; i < CLT_SET_MAX; i++) a.values[i] = 1000 * i - 7;
    step = clt_work_add(work, c->kernel, &a, 1, 1, 1, 16);
    if (step) {
      step->n_buffers = 1;
      step->buffers[0] = out;
    }
  } else { /* a matmul: both ways B may lie, with bias; few rows */
    for (int i = 0; i < 3; i++) {
      const bool turned = i == 1;
      const clt_i64 at = 3000;
      const clt_matmul_args a = {
          .a = {1, {0, 0, MM_DEPTH, 1}},
          .b = {at, {0, 0, turned ? 1 : MM_DEPTH, turned ? MM_COLS : 1}},
          .c = {i * 2600, {0, 0, MM_COLS, 1}},
          .bias = {17, 1},
          .batch = 1,
          .heads = 1,
          .b_group = 1,
          .m = i < 2 ? MM_ROWS : 1,
          .n = MM_COLS,
          .k = MM_DEPTH,
          .a_dtype = type,
          .b_dtype = type,
          .c_dtype = CLT_F32,
          .bias_dtype = type,
          .alpha = 0.5f};
      clt_matmul_add(work,
                     s->state ? CLT_K_MATMUL : c->kernel, /* the reference */
                     &a, in, in, out, in);
    }
  }
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
  if (c->row)
    attention_steps(c, s, &work);
  else
    kernel_steps(c, s, &work);
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
  const size_t halves =
      c->row && c->half ? (size_t)(B * HQ * rows_of(c->row) * DV) : 0;
  for (size_t i = 0; i < c->out_floats; i++) {
    *where = i;
    if (c->kernel == CLT_K_SET_I32 && !c->row) {
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
    if (c->half) {
      size_t at = halves + sq * keys + HQ + HQ;
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
}

/* OK: agrees. UNSUPPORTED: wrong, with the place. Else: could not be run. */
static clattn_status run_check(clt_device *device, check *c) {
  c->in_floats = 65536;
  c->out_floats = 5300;
  if (c->row) {
    const size_t sq = (size_t)rows_of(c->row);
    c->out_floats = B * HQ * sq * (DV + 1);
    if (c->row->path != CLATTN_FUSED)
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
  const int checks = kernel == CLT_K_MATMUL_BLAS ? 1 : 2; /* fp32 only */
  for (int half = 0; half < checks && status == CLATTN_OK; half++) {
    check c = {.row = row, .kernel = kernel, .half = half != 0};
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
  /* The product has a program of its own: its verdict is kept with that, not
   * with the row's, which knows nothing of its source. */
  for (int i = 1; i < row->n_kernels; i++)
    if (row->kernels[i] == CLT_K_MATMUL || row->kernels[i] == CLT_K_MATMUL_TILE)
      CLT_TRY(clt_guard_kernel(device, row->kernels[i]));
  return guard(device, row, row->kernels[0]);
}

clattn_status clt_guard_kernel(clt_device *device, clt_kernel kernel) {
  CLT_TRY(device->ops->prepare(device->impl, kernel));
  return guard(device, NULL, kernel);
}
