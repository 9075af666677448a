/* linear_backward.c - the gradients of the linear layer: two products and a sum. */
#include "../../cl/shape.h"
#include "plan.h"

/* Adds a product by the kernel that is best for it. */
static clattn_status add_product(clt_work *work, const clt_matmul_args *args,
                                 const clattn_tensor *a, const clattn_tensor *b,
                                 const clattn_tensor *c) {
  clt_kernel kernel;
  CLT_TRY(clt_matmul_choose(work->device, args, &kernel));
  clt_matmul_add(work, kernel, args, clt_ref_of(a), clt_ref_of(b),
                 clt_ref_of(c), (clt_ref){0});
  return work->status;
}

/* d_x [B,M,K] = d_out [B,M,N] w [N,K]: a linear layer by w^T. */
static clattn_status add_d_x(clt_work *work, const clattn_tensor *w,
                             const clattn_tensor *d_out,
                             const clattn_tensor *d_x, bool add) {
  const clattn_tensor no_bias = {0};
  clattn_tensor turned = *w;
  turned.extent[2] = w->extent[3], turned.extent[3] = w->extent[2];
  turned.stride[2] = w->stride[3], turned.stride[3] = w->stride[2];
  clt_matmul_args args;
  clt_linear_args(d_out, &turned, &no_bias, d_x, &args);
  args.add = add;
  return add_product(work, &args, d_out, w, d_x);
}

/* d_w [N,K] = d_out^T x, summed over batches: in one product where their rows lie
 * in line, else one after the other. */
static clattn_status add_d_w(clt_work *work, const clattn_tensor *x,
                             const clattn_tensor *d_out,
                             const clattn_tensor *d_w, bool add) {
  clt_matmul_args args = {.a = clt_turned(clt_matrix_view(d_out)),
                          .b = clt_turned(clt_matrix_view(x)),
                          .c = clt_matrix_view(d_w),
                          .batch = 1,
                          .heads = 1,
                          .b_group = 1,
                          .m = (clt_i32)d_w->extent[2],
                          .n = (clt_i32)d_w->extent[3],
                          .k = (clt_i32)x->extent[2],
                          .a_dtype = (clt_i32)d_out->dtype,
                          .b_dtype = (clt_i32)x->dtype,
                          .c_dtype = (clt_i32)d_w->dtype,
                          .alpha = 1.0f,
                          .add = add};
  clt_i64 d_row, x_row;
  int64_t products = x->extent[0];
  if (products * x->extent[2] < CLT_MAX_LENGTH &&
      clt_rows_in_line(d_out, &d_row) && clt_rows_in_line(x, &x_row)) {
    args.a.s[3] = d_row;
    args.b.s[3] = x_row;
    args.k = (clt_i32)(products * x->extent[2]);
    products = 1;
  }
  for (int64_t b = 0; b < products; b++) {
    clt_matmul_args one = args;
    one.a.offset += b * args.a.s[0];
    one.b.offset += b * args.b.s[0];
    one.add = add || b > 0;
    CLT_TRY(add_product(work, &one, d_out, x, d_w));
  }
  return CLATTN_OK;
}

static void add_sums(clt_work *work, clt_kernel kernel,
                     const clt_column_sums_args *args, clt_ref from,
                     clt_ref to) {
  const bool tiles = kernel == CLT_K_COLUMN_SUMS_TILE;
  const size_t width =
      tiles ? TILE_MIN_GROUP : (size_t)clt_tuned(work->device, CLT_TUNE_LANES);
  clt_step *step = clt_work_add(
      work, kernel, args, clt_ceil_div((size_t)args->columns, width), 1, 1, 16);
  if (!step) return;
  if (tiles) step->group_size[0] = TILE_MIN_GROUP;
  step->buffers[0] = from;
  step->buffers[1] = to;
}

static clattn_status add_d_bias(clt_work *work, const clattn_tensor *d_out,
                                const clattn_tensor *d_bias, bool add) {
  const clt_kernel kernel = clt_tuned(work->device, CLT_TUNE_FAMILY)
                                ? CLT_K_COLUMN_SUMS_TILE
                                : CLT_K_COLUMN_SUMS;
  const clt_column_sums_args args = {
      .from = clt_matrix_view(d_out),
      .to = {d_bias->offset, d_bias->extent[3] > 1 ? d_bias->stride[3] : 0},
      .batch = (clt_i32)d_out->extent[0],
      .rows = (clt_i32)d_out->extent[2],
      .columns = (clt_i32)d_out->extent[3],
      .from_dtype = (clt_i32)d_out->dtype,
      .to_dtype = (clt_i32)d_bias->dtype,
      .add = add};
  CLT_TRY(clt_guard_kernel(work->device, kernel));
  add_sums(work, kernel, &args, clt_ref_of(d_out), clt_ref_of(d_bias));
  return work->status;
}

/* Over rows and turned, and added to what is there. */
static void check_sums(clt_work *work, const clt_guard_site *site) {
  enum { ROWS = 37, COLS = 141 };
  const clt_ref in = {site->in->mem, false}, out = {site->out->mem, false};
  const clt_kernel kernel = site->reference ? CLT_K_COLUMN_SUMS : site->kernel;
  for (int i = 0; i < 3; i++) {
    const bool turned = i == 1;
    const clt_column_sums_args a = {
        .from = {1 + i, {ROWS * COLS, 0, turned ? 1 : COLS, turned ? ROWS : 1}},
        .to = {i < 2 ? i * 2 * COLS : 0, 1 + (turned ? 1 : 0)},
        .batch = 2,
        .rows = ROWS,
        .columns = COLS,
        .from_dtype = site->half ? CLT_F16 : CLT_F32,
        .to_dtype = CLT_F32,
        .add = i == 2};
    add_sums(work, kernel, &a, in, out);
  }
}

const clt_guard_problem clt_guard_sums = {check_sums, NULL, 2, CLT_GUARD_OUT};

clattn_status clt_linear_backward_add(clt_work *work, const clattn_tensor *x,
                                      const clattn_tensor *w,
                                      const clattn_tensor *d_out,
                                      const clattn_tensor *d_x,
                                      const clattn_tensor *d_w,
                                      const clattn_tensor *d_bias,
                                      uint32_t accumulate) {
  const bool add_x = accumulate & CLATTN_ADD_TO_INPUTS;
  const bool add_w = accumulate & CLATTN_ADD_TO_WEIGHTS;
  if (d_x->buffer) CLT_TRY(add_d_x(work, w, d_out, d_x, add_x));
  if (d_w->buffer) CLT_TRY(add_d_w(work, x, d_out, d_w, add_w));
  if (d_bias->buffer) CLT_TRY(add_d_bias(work, d_out, d_bias, add_w));
  return CLATTN_OK;
}

/* ---- the public function ---------------------------------------------------------- */

enum { X, W, D_OUT, D_X, D_W, D_BIAS, TENSORS };

static clattn_status check(const clt_device *device,
                           const clattn_tensor *const t[TENSORS]) {
  static const char *const names[TENSORS] = {"x",   "w",   "d_out",
                                             "d_x", "d_w", "d_bias"};
  const bool has_x = t[X]->buffer, has_w = t[W]->buffer;
  CLT_REQUIRE(has_x || !t[D_W]->buffer,
              "x: is absent, want a tensor: d_w needs it");
  CLT_REQUIRE(has_w || !t[D_X]->buffer,
              "w: is absent, want a tensor: d_x needs it");
  const clt_want d_out = {
      .name = "d_out",
      .dtypes = CLT_FLOATS,
      .extent = {CLT_ANY_EXTENT, 1, CLT_ANY_EXTENT, CLT_ANY_EXTENT}};
  CLT_TRY(clt_tensor_check(device, t[D_OUT], &d_out));
  const int64_t B = t[D_OUT]->extent[0], M = t[D_OUT]->extent[2];
  const int64_t N = t[D_OUT]->extent[3];
  const int64_t K = has_x   ? t[X]->extent[3]
                    : has_w ? t[W]->extent[3]
                            : CLT_ANY_EXTENT;
  const clt_want wants[TENSORS] = {
      [X] = {.extent = {B, 1, M, K}},
      [W] = {.extent = {1, 1, N, K}},
      [D_OUT] = {.extent = {B, 1, M, N}},
      [D_X] = {.extent = {B, 1, M, K}, .output = true},
      [D_W] = {.extent = {1, 1, N, K}, .output = true},
      [D_BIAS] = {.extent = {1, 1, 1, N}, .output = true}};
  for (int i = 0; i < TENSORS; i++) {
    clt_want want = wants[i];
    want.name = names[i];
    want.dtypes = CLT_FLOATS;
    want.optional = i != D_OUT;
    CLT_TRY(clt_tensor_check(device, t[i], &want));
    for (int d = 0; t[i]->buffer && d < 4; d++)
      CLT_REQUIRE(t[i]->extent[d] < CLT_MAX_LENGTH,
                  "%s: extent[%d] is %lld, want < 2^30", names[i], d,
                  (long long)t[i]->extent[d]);
  }
  for (int o = D_X; o < TENSORS; o++)
    for (int i = 0; i < TENSORS; i++)
      if (i < D_X || i > o)
        CLT_TRY(clt_tensor_disjoint(t[o], names[o], t[i], names[i]));
  return CLATTN_OK;
}

clattn_status clattn_linear_backward(
    clattn_queue *queue, const clattn_tensor *x, const clattn_tensor *w,
    const clattn_tensor *d_out, const clattn_tensor *d_x,
    const clattn_tensor *d_w, const clattn_tensor *d_bias, uint32_t accumulate,
    clattn_event *const *wait, size_t n_wait, clattn_event **event) {
  if (event) *event = NULL;
  CLT_TRY(clt_check_enqueue(queue, wait, n_wait));
  CLT_REQUIRE(d_out, "d_out: got NULL, want a tensor");
  CLT_TRY(clt_accumulate_check(accumulate));
  static const clattn_tensor none = {0};
  const clattn_tensor *const t[TENSORS] = {
      x ? x : &none,     w ? w : &none,     d_out,
      d_x ? d_x : &none, d_w ? d_w : &none, d_bias ? d_bias : &none};
  CLT_TRY(check(queue->device, t));
  clt_work work;
  clt_work_init(&work, queue->device);
  clattn_status status = clt_linear_backward_add(
      &work, t[X], t[W], d_out, t[D_X], t[D_W], t[D_BIAS], accumulate);
  if (status == CLATTN_OK)
    status = clt_work_submit(&work, queue, NULL, wait, n_wait, event);
  clt_work_free(&work);
  return status;
}
