/* rotary.c - rotary position embedding, and strided copies: kernels of one step. */
#include <math.h>

#include "../../cl/shape.h"
#include "plan.h"

void clattn_rotary_args_init(clattn_rotary_args *args) {
  if (!args) return;
  *args =
      (clattn_rotary_args){.struct_size = sizeof *args, .position_start = -1};
}

static bool same_view(const clattn_tensor *a, const clattn_tensor *b) {
  if (a->buffer != b->buffer || a->dtype != b->dtype || a->offset != b->offset)
    return false;
  for (int i = 0; i < 4; i++)
    if (a->extent[i] != b->extent[i] || a->stride[i] != b->stride[i])
      return false;
  return true;
}

static clattn_status rotary_check(const clt_device *device,
                                  const clattn_rotary_args *a) {
  const clt_want x = {.name = "args->x",
                      .dtypes = CLT_FLOATS,
                      .extent = {CLT_ANY_EXTENT, CLT_ANY_EXTENT, CLT_ANY_EXTENT,
                                 CLT_ANY_EXTENT}};
  CLT_TRY(clt_tensor_check(device, &a->x, &x));
  const int64_t *e = a->x.extent;
  for (int i = 0; i < 4; i++)
    CLT_REQUIRE(e[i] < CLT_MAX_LENGTH,
                "args->x: extent[%d] is %lld, want < 2^30", i, (long long)e[i]);
  const clt_want out = {.name = "args->out",
                        .dtypes = CLT_FLOATS,
                        .extent = {e[0], e[1], e[2], e[3]},
                        .output = true};
  CLT_TRY(clt_tensor_check(device, &a->out, &out));
  const int64_t R = a->rotary_dim == 0 ? e[3] : a->rotary_dim;
  CLT_REQUIRE(R >= 2 && R % 2 == 0 && R <= e[3],
              "args->rotary_dim: got %lld, want an even number in 2..%lld",
              (long long)R, (long long)e[3]);
  const bool ids = a->position_ids.buffer != NULL;
  CLT_REQUIRE(a->position_start >= -1,
              "args->position_start: got %lld, want >= 0, or -1 for none",
              (long long)a->position_start);
  CLT_REQUIRE(!ids || a->position_start == -1,
              "args->position_start: got %lld with position_ids, want -1",
              (long long)a->position_start);
  const bool positions = ids || a->position_start >= 0;
  const clt_want table = {.name = "args->cos",
                          .dtypes = CLT_FLOATS,
                          .extent = {positions ? 1 : e[0], 1,
                                     positions ? CLT_ANY_EXTENT : e[2], R / 2},
                          .broadcast = {true, false, false, false}};
  CLT_TRY(clt_tensor_check(device, &a->cos, &table));
  clt_want sines = table;
  sines.name = "args->sin";
  sines.dtypes = 1u << a->cos.dtype;
  for (int i = 0; i < 4; i++) sines.extent[i] = a->cos.extent[i];
  CLT_TRY(clt_tensor_check(device, &a->sin, &sines));
  CLT_REQUIRE(a->cos.extent[2] < CLT_MAX_LENGTH,
              "args->cos: extent[2] is %lld, want < 2^30",
              (long long)a->cos.extent[2]);
  CLT_REQUIRE(
      a->position_start < 0 || (a->position_start < CLT_MAX_LENGTH &&
                                a->position_start + e[2] <= a->cos.extent[2]),
      "args->position_start: got %lld with %lld tokens, want them "
      "inside the %lld rows of cos",
      (long long)a->position_start, (long long)e[2],
      (long long)a->cos.extent[2]);
  const clt_want id = {.name = "args->position_ids",
                       .dtypes = CLT_INTS,
                       .extent = {1, 1, e[0], e[2]},
                       .broadcast = {false, false, true, false},
                       .optional = true};
  CLT_TRY(clt_tensor_check(device, &a->position_ids, &id));
  if (!same_view(&a->x, &a->out))
    CLT_TRY(clt_tensor_disjoint(&a->out, "args->out", &a->x, "args->x"));
  CLT_TRY(clt_tensor_disjoint(&a->out, "args->out", &a->cos, "args->cos"));
  CLT_TRY(clt_tensor_disjoint(&a->out, "args->out", &a->sin, "args->sin"));
  CLT_TRY(clt_tensor_disjoint(&a->out, "args->out", &a->position_ids,
                              "args->position_ids"));
  return CLATTN_OK;
}

void clt_rotary_add(clt_work *work, const clattn_rotary_args *args) {
  const int64_t *e = args->x.extent;
  const clt_rotary_args a = {
      .x = clt_view_of(&args->x),
      .out = clt_view_of(&args->out),
      .cos = clt_view_of(&args->cos),
      .sin = clt_view_of(&args->sin),
      .ids = clt_view_of(&args->position_ids),
      .batch = (clt_i32)e[0],
      .heads = (clt_i32)e[1],
      .rows = (clt_i32)e[2],
      .dim = (clt_i32)e[3],
      .rotary_dim = (clt_i32)(args->rotary_dim == 0 ? e[3] : args->rotary_dim),
      .n_rows = (clt_i32)args->cos.extent[2],
      .x_dtype = (clt_i32)args->x.dtype,
      .out_dtype = (clt_i32)args->out.dtype,
      .table_dtype = (clt_i32)args->cos.dtype,
      .ids_dtype =
          args->position_ids.buffer ? (clt_i32)args->position_ids.dtype : 0,
      .position_start = (clt_i32)args->position_start,
      .interleaved = args->interleaved,
      .inverse = args->inverse};
  clt_step *step = clt_work_add(work, CLT_K_ROTARY, &a, (size_t)a.rows, 1,
                                (size_t)a.batch, 16);
  if (!step) return;
  step->n_buffers = 5;
  step->buffers[0] = clt_ref_of(&args->x);
  step->buffers[1] = clt_ref_of(&args->out);
  step->buffers[2] = clt_ref_of(&args->cos);
  step->buffers[3] = clt_ref_of(&args->sin);
  step->buffers[4] = clt_ref_of(&args->position_ids);
}

clattn_status clattn_rotary(clattn_queue *queue, const clattn_rotary_args *args,
                            clattn_event *const *wait, size_t n_wait,
                            clattn_event **event) {
  if (event) *event = NULL;
  CLT_TRY(clt_check_enqueue(queue, wait, n_wait));
  CLT_REQUIRE_STRUCT(args, clattn_rotary_args);
  CLT_TRY(rotary_check(queue->device, args));
  CLT_TRY(clt_guard_kernel(queue->device, CLT_K_ROTARY));
  clt_work work;
  clt_work_init(&work, queue->device);
  clt_rotary_add(&work, args);
  const clattn_status status =
      work.status != CLATTN_OK
          ? work.status
          : clt_work_submit(&work, queue, NULL, wait, n_wait, event);
  clt_work_free(&work);
  return status;
}

clattn_status clattn_rotary_table(int64_t n, int64_t rotary_dim, double base,
                                  float *cos_table, float *sin_table) {
  CLT_REQUIRE(n >= 1 && n < CLT_MAX_LENGTH, "n: got %lld, want 1..2^30-1",
              (long long)n);
  CLT_REQUIRE(
      rotary_dim >= 2 && rotary_dim % 2 == 0 && rotary_dim < CLT_MAX_LENGTH,
      "rotary_dim: got %lld, want an even number >= 2", (long long)rotary_dim);
  CLT_REQUIRE(isfinite(base) && base > 0, "base: got %g, want finite and > 0",
              base);
  CLT_REQUIRE(cos_table, "cos_table: got NULL, want n * rotary_dim/2 floats");
  CLT_REQUIRE(sin_table, "sin_table: got NULL, want n * rotary_dim/2 floats");
  const int64_t half_dim = rotary_dim / 2;
  for (int64_t k = 0; k < half_dim; k++) {
    const double frequency = pow(base, -2.0 * (double)k / (double)rotary_dim);
    for (int64_t i = 0; i < n; i++) {
      cos_table[i * half_dim + k] = (float)cos((double)i * frequency);
      sin_table[i * half_dim + k] = (float)sin((double)i * frequency);
    }
  }
  return CLATTN_OK;
}

/* ---- copy ------------------------------------------------------------------------ */

void clt_copy_add(clt_work *work, const clattn_tensor *src,
                  const clattn_tensor *dst) {
  const clt_copy_args a = {.src = clt_view_of(src),
                           .dst = clt_view_of(dst),
                           .batch = (clt_i32)src->extent[0],
                           .heads = (clt_i32)src->extent[1],
                           .rows = (clt_i32)src->extent[2],
                           .dim = (clt_i32)src->extent[3],
                           .src_dtype = (clt_i32)src->dtype,
                           .dst_dtype = (clt_i32)dst->dtype};
  clt_step *step = clt_work_add(work, CLT_K_COPY, &a,
                                clt_ceil_div((size_t)a.rows, COPY_ROWS),
                                (size_t)a.heads, (size_t)a.batch, 16);
  if (!step) return;
  step->n_buffers = 2;
  step->buffers[0] = clt_ref_of(src);
  step->buffers[1] = clt_ref_of(dst);
}

clattn_status clattn_copy(clattn_queue *queue, const clattn_tensor *src,
                          const clattn_tensor *dst, clattn_event *const *wait,
                          size_t n_wait, clattn_event **event) {
  if (event) *event = NULL;
  CLT_TRY(clt_check_enqueue(queue, wait, n_wait));
  CLT_REQUIRE(src, "src: got NULL, want a tensor");
  CLT_REQUIRE(dst, "dst: got NULL, want a tensor");
  const clt_want any = {.name = "src",
                        .dtypes = CLT_FLOATS,
                        .extent = {CLT_ANY_EXTENT, CLT_ANY_EXTENT,
                                   CLT_ANY_EXTENT, CLT_ANY_EXTENT}};
  CLT_TRY(clt_tensor_check(queue->device, src, &any));
  clt_want same = {.name = "dst", .dtypes = CLT_FLOATS, .output = true};
  for (int i = 0; i < 4; i++) {
    CLT_REQUIRE(src->extent[i] < CLT_MAX_LENGTH,
                "src: extent[%d] is %lld, want < 2^30", i,
                (long long)src->extent[i]);
    same.extent[i] = src->extent[i];
  }
  CLT_TRY(clt_tensor_check(queue->device, dst, &same));
  CLT_TRY(clt_tensor_disjoint(dst, "dst", src, "src"));
  CLT_TRY(clt_guard_kernel(queue->device, CLT_K_COPY));
  clt_work work;
  clt_work_init(&work, queue->device);
  clt_copy_add(&work, src, dst);
  const clattn_status status =
      work.status != CLATTN_OK
          ? work.status
          : clt_work_submit(&work, queue, NULL, wait, n_wait, event);
  clt_work_free(&work);
  return status;
}

/* ---- first-use checks ------------------------------------------------------------ */

/* Forward, and behind it the inverse, of pairs that fill no vector. */
static void rotary_steps(clt_work *work, const clt_guard_site *site) {
  enum { DIM = 52, ROWS = 5, HEADS = 3, ALL = 2 * HEADS * ROWS * DIM };
  const clt_i32 type = site->half ? CLT_F16 : CLT_F32;
  for (int inverse = 0; inverse < 2; inverse++) {
    const clt_rotary_args a = {
        .x = {0, {HEADS * ROWS * DIM, ROWS * DIM, DIM, 1}},
        .out = {inverse * ALL, {HEADS * ROWS * DIM, ROWS * DIM, DIM, 1}},
        .cos = {2048, {0, 0, 25, 1}},
        .sin = {2560, {0, 0, 25, 1}},
        .batch = 2,
        .heads = HEADS,
        .rows = ROWS,
        .dim = DIM,
        .rotary_dim = 50,
        .n_rows = 20,
        .x_dtype = type,
        .out_dtype = CLT_F32,
        .table_dtype = type,
        .position_start = 3,
        .interleaved = site->half && inverse,
        .inverse = inverse};
    clt_step *step = clt_work_add(work, site->kernel, &a, ROWS, 1, 2, 16);
    if (!step) return;
    step->n_buffers = 5;
    step->buffers[0].mem = step->buffers[2].mem = step->buffers[3].mem =
        site->in->mem;
    step->buffers[1].mem = site->out->mem;
  }
}

static void copy_steps(clt_work *work, const clt_guard_site *site) {
  const clt_copy_args a = {.src = {5, {700, 350, 17, 1}},
                           .dst = {1, {2, 800, 40, 2}},
                           .batch = 1,
                           .heads = 2,
                           .rows = 19,
                           .dim = 17,
                           .src_dtype = site->half ? CLT_F16 : CLT_F32,
                           .dst_dtype = CLT_F32};
  clt_step *step = clt_work_add(work, site->kernel, &a, 2, 2, 1, 16);
  if (!step) return;
  step->n_buffers = 2;
  step->buffers[0].mem = site->in->mem;
  step->buffers[1].mem = site->out->mem;
}

static void set_steps(clt_work *work, const clt_guard_site *site) {
  clt_set_args a = {.offset = 3, .count = CLT_SET_MAX};
  for (int i = 0; i < CLT_SET_MAX; i++) a.values[i] = 1000 * i - 7;
  clt_step *step = clt_work_add(work, site->kernel, &a, 1, 1, 1, 16);
  if (!step) return;
  step->n_buffers = 1;
  step->buffers[0].mem = site->out->mem;
}

const clt_guard_problem clt_guard_rotary = {rotary_steps, NULL, 2,
                                            CLT_GUARD_OUT};
const clt_guard_problem clt_guard_copy = {copy_steps, NULL, 2, CLT_GUARD_OUT};
const clt_guard_problem clt_guard_set = {set_steps, NULL, 1, 0};
