/* matmul.c - dense products: which kernel, its grid, and the linear layer. */
#include <string.h>

#include "../../cl/shape.h"
#include "plan.h"

clt_kernel clt_matmul_own(const clt_device *device) {
  return clt_tuned(device, CLT_TUNE_FAMILY) ? CLT_K_MATMUL_TILE : CLT_K_MATMUL;
}

size_t clt_tile_height(const clt_device *device, clt_kernel kernel, size_t rows,
                       size_t (*floats)(size_t height, const void *args),
                       const void *args) {
  size_t local_bytes, group_size, height = TILE_MAX_HEIGHT;
  if (device->ops->limits(device->impl, kernel, &local_bytes, &group_size) !=
      CLATTN_OK)
    return TILE_MIN_HEIGHT; /* the submission will say why */
  while (height > TILE_MIN_HEIGHT &&
         (TILE_X * height > group_size || TILE_R * height / 2 >= rows ||
          floats(height, args) * sizeof(float) > local_bytes))
    height /= 2;
  return height;
}

/* A matrix as BLAS knows it: one unit stride, the other no shorter than a line
 * of it and within an int. */
static bool blas_matrix(const clt_view *view, int64_t rows, int64_t cols) {
  const bool plain = view->s[3] == 1;
  if (!plain && view->s[2] != 1) return false;
  const int64_t line = plain ? view->s[2] : view->s[3];
  const int64_t lines = plain ? rows : cols, length = plain ? cols : rows;
  return line <= INT32_MAX && (lines == 1 || line >= length);
}

/* The dense-product libraries take fp32. */
static bool blas_takes(const clt_matmul_args *m) {
  return m->a_dtype == CLT_F32 && m->b_dtype == CLT_F32 &&
         m->c_dtype == CLT_F32 &&
         (m->bias_dtype == 0 || m->bias_dtype == CLT_F32) &&
         blas_matrix(&m->a, m->m, m->k) && blas_matrix(&m->b, m->n, m->k) &&
         m->c.s[3] == 1 && blas_matrix(&m->c, m->m, m->n) && !m->skip_zero &&
         !(m->add && m->bias_dtype != 0);
}

clattn_status clt_matmul_choose(clt_device *device, const clt_matmul_args *args,
                                clt_kernel *kernel) {
  if (clt_tuned(device, CLT_TUNE_DENSE) && blas_takes(args)) {
    clattn_status status = clt_guard_kernel(device, CLT_K_MATMUL_BLAS);
    if (status == CLATTN_OK) {
      *kernel = CLT_K_MATMUL_BLAS;
      return CLATTN_OK;
    }
    if (status != CLATTN_UNSUPPORTED && status != CLATTN_BUILD_FAILED)
      return status;
    clt_log(device->context, "matmul: the library's own kernel serves: %s",
            clattn_error_message());
  }
  *kernel = clt_matmul_own(device);
  clattn_status status = clt_guard_kernel(device, *kernel);
  if (*kernel == CLT_K_MATMUL ||
      (status != CLATTN_UNSUPPORTED && status != CLATTN_BUILD_FAILED))
    return status;
  clt_log(device->context, "matmul: the kernel for CPUs serves: %s",
          clattn_error_message());
  *kernel = CLT_K_MATMUL;
  return clt_guard_kernel(device, *kernel);
}

static size_t tile_floats(size_t height, const void *args) {
  (void)args;
  return CLT_MATMUL_TILE_LOCAL(height);
}

static clt_step *add_tile(clt_work *work, const clt_matmul_args *args) {
  const size_t batch = (size_t)args->batch * (size_t)args->heads;
  const size_t m = (size_t)args->m, n = (size_t)args->n;
  const bool dots = CLT_MATMUL_TILE_DOTS(args);
  const size_t height = clt_tile_height(work->device, CLT_K_MATMUL_TILE,
                                        dots ? TILE_N : m, tile_floats, NULL);
  clt_step *step = clt_work_add(
      work, CLT_K_MATMUL_TILE, args, clt_ceil_div(n, dots ? height : TILE_N),
      dots ? 1 : clt_ceil_div(m, TILE_R * height), batch,
      tile_floats(height, NULL) * sizeof(float));
  if (step) {
    step->group_size[0] = TILE_X;
    step->group_size[1] = height;
  }
  return step;
}

/* A step of the kernel whose lanes are columns. */
static clt_step *add_lanes(clt_work *work, const clt_matmul_args *args) {
  const clt_device *device = work->device;
  const int bm = device->ops->block_rows(device->impl, CLT_K_MATMUL);
  const size_t gy = clt_ceil_div((size_t)args->m, (size_t)MM_M_OF(bm));
  const size_t gz = (size_t)args->batch * (size_t)args->heads;
  const size_t panels = clt_ceil_div((size_t)args->n, MM_N);
  clattn_device_info info;
  device->ops->device_info(device->impl, &info);
  /* Several panels a group as long as that leaves groups for every core. */
  clt_matmul_args a = *args;
  a.panels = MM_PANELS_OF(bm);
  while (a.panels > 1 && clt_ceil_div(panels, (size_t)a.panels) * gy * gz <
                             4 * (size_t)info.compute_units)
    a.panels /= 2;
  return clt_work_add(work, CLT_K_MATMUL, &a,
                      clt_ceil_div(panels, (size_t)a.panels), gy, gz,
                      CLT_MATMUL_LOCAL(bm, a.panels) * sizeof(float));
}

void clt_matmul_add(clt_work *work, clt_kernel kernel,
                    const clt_matmul_args *args, clt_ref a, clt_ref b,
                    clt_ref c, clt_ref bias) {
  clt_step *step;
  if (kernel == CLT_K_MATMUL_BLAS)
    step = clt_work_add(work, kernel, args, 1, 1, 1, 16);
  else if (kernel == CLT_K_MATMUL_TILE)
    step = add_tile(work, args);
  else
    step = add_lanes(work, args);
  if (!step) return;
  step->n_buffers = 4;
  step->buffers[0] = a;
  step->buffers[1] = b;
  step->buffers[2] = c;
  step->buffers[3] = bias;
}

clt_view clt_matrix_view(const clattn_tensor *t) {
  clt_view view = clt_view_of(t);
  if (t->extent[3] == 1) view.s[3] = 1;
  return view;
}

bool clt_rows_in_line(const clattn_tensor *t, clt_i64 *stride) {
  *stride = t->extent[2] == 1 ? t->stride[0] : t->stride[2];
  return t->extent[2] == 1 || t->extent[0] == 1 ||
         t->stride[0] == t->extent[2] * t->stride[2];
}

void clt_linear_args(const clattn_tensor *x, const clattn_tensor *w,
                     const clattn_tensor *bias, const clattn_tensor *out,
                     clt_matmul_args *args) {
  const clt_view1 bias_view = {
      bias->buffer ? bias->offset : 0,
      bias->buffer && bias->extent[3] > 1 ? bias->stride[3] : 0};
  *args =
      (clt_matmul_args){.a = clt_matrix_view(x),
                        .b = clt_matrix_view(w),
                        .c = clt_matrix_view(out),
                        .bias = bias_view,
                        .batch = (clt_i32)x->extent[0],
                        .heads = 1,
                        .b_group = 1,
                        .m = (clt_i32)x->extent[2],
                        .n = (clt_i32)w->extent[2],
                        .k = (clt_i32)w->extent[3],
                        .a_dtype = (clt_i32)x->dtype,
                        .b_dtype = (clt_i32)w->dtype,
                        .c_dtype = (clt_i32)out->dtype,
                        .bias_dtype = bias->buffer ? (clt_i32)bias->dtype : 0,
                        .alpha = 1.0f};
  args->b.s[0] = args->b.s[1] = 0; /* one matrix for the whole batch */
  /* A batch that lies row behind row is one tall matrix: fewer, fuller tiles. */
  const int64_t rows = x->extent[0] * x->extent[2];
  clt_i64 x_stride, out_stride;
  if (args->batch > 1 && rows < CLT_MAX_LENGTH &&
      clt_rows_in_line(x, &x_stride) && clt_rows_in_line(out, &out_stride)) {
    args->a.s[2] = x_stride;
    args->c.s[2] = out_stride;
    args->m = (clt_i32)rows;
    args->batch = 1;
  }
}

static clattn_status check_linear(const clt_device *device,
                                  const clattn_tensor *x,
                                  const clattn_tensor *w,
                                  const clattn_tensor *bias,
                                  const clattn_tensor *out) {
  const clt_want wants[] = {
      {.name = "x",
       .dtypes = CLT_FLOATS,
       .extent = {CLT_ANY_EXTENT, 1, CLT_ANY_EXTENT, CLT_ANY_EXTENT}},
      {.name = "w",
       .dtypes = CLT_FLOATS,
       .extent = {1, 1, CLT_ANY_EXTENT, x->extent[3]}},
      {.name = "bias",
       .dtypes = CLT_FLOATS,
       .extent = {1, 1, 1, w->extent[2]},
       .optional = true},
      {.name = "out",
       .dtypes = CLT_FLOATS,
       .extent = {x->extent[0], 1, x->extent[2], w->extent[2]},
       .output = true}};
  const clattn_tensor *const tensors[] = {x, w, bias, out};
  for (int i = 0; i < 4; i++) {
    CLT_TRY(clt_tensor_check(device, tensors[i], &wants[i]));
    for (int d = 0; tensors[i]->buffer && d < 4; d++)
      CLT_REQUIRE(tensors[i]->extent[d] < CLT_MAX_LENGTH,
                  "%s: extent[%d] is %lld, want < 2^30", wants[i].name, d,
                  (long long)tensors[i]->extent[d]);
  }
  for (int i = 0; i < 3; i++)
    CLT_TRY(clt_tensor_disjoint(out, "out", tensors[i], wants[i].name));
  return CLATTN_OK;
}

clattn_status clt_linear_add(clt_work *work, const clattn_tensor *x,
                             const clattn_tensor *w, const clattn_tensor *bias,
                             const clattn_tensor *out) {
  clt_matmul_args args;
  clt_kernel kernel;
  clt_linear_args(x, w, bias, out, &args);
  CLT_TRY(clt_matmul_choose(work->device, &args, &kernel));
  clt_matmul_add(work, kernel, &args, clt_ref_of(x), clt_ref_of(w),
                 clt_ref_of(out), clt_ref_of(bias));
  return work->status;
}

clattn_status clattn_linear(clattn_queue *queue, const clattn_tensor *x,
                            const clattn_tensor *w, const clattn_tensor *bias,
                            const clattn_tensor *out, clattn_event *const *wait,
                            size_t n_wait, clattn_event **event) {
  if (event) *event = NULL;
  CLT_TRY(clt_check_enqueue(queue, wait, n_wait));
  CLT_REQUIRE(x, "x: got NULL, want a tensor");
  CLT_REQUIRE(w, "w: got NULL, want a tensor");
  CLT_REQUIRE(out, "out: got NULL, want a tensor");
  const clattn_tensor none = {0};
  if (!bias) bias = &none;
  CLT_TRY(check_linear(queue->device, x, w, bias, out));
  clt_work work;
  clt_work_init(&work, queue->device);
  clattn_status status = clt_linear_add(&work, x, w, bias, out);
  if (status == CLATTN_OK)
    status = clt_work_submit(&work, queue, NULL, wait, n_wait, event);
  clt_work_free(&work);
  return status;
}

/* ---- first-use check -------------------------------------------------------- */

/* Both ways A and B may lie, with bias; few rows, added to the row before. */
static void check_steps(clt_work *work, const clt_guard_site *site) {
  enum { ROWS = 37, COLS = 70, DEPTH = 75 };
  const clt_ref in = {site->in->mem, false}, out = {site->out->mem, false};
  const clt_i32 type = site->half ? CLT_F16 : CLT_F32;
  const clt_kernel kernel = site->reference ? CLT_K_MATMUL : site->kernel;
  for (int i = 0; i < 3; i++) {
    const bool turned = i == 1;
    const clt_i64 at = 3000;
    const clt_matmul_args a = {
        .a = {1, {0, 0, turned ? 1 : DEPTH, turned ? ROWS : 1}},
        .b = {at, {0, 0, turned ? 1 : DEPTH, turned ? COLS : 1}},
        .c = {i > 0 ? 2600 : 0, {0, 0, COLS, 1}},
        .bias = {17, 1},
        .batch = 1,
        .heads = 1,
        .b_group = 1,
        .m = i < 2 ? ROWS : 1,
        .n = COLS,
        .k = DEPTH,
        .a_dtype = type,
        .b_dtype = type,
        .c_dtype = CLT_F32,
        .bias_dtype = i < 2 ? type : 0,
        .alpha = 0.5f,
        .add = i == 2};
    clt_matmul_add(work, kernel, &a, in, in, out, in);
  }
}

const clt_guard_problem clt_guard_matmul = {check_steps, NULL, 2,
                                            CLT_GUARD_OUT};
