/* rows_backward.c - the implementations of the gradients of attention, as
 * sequences of steps (cl/attn_backward.h). */
#include "../../cl/shape.h"
#include "rows_backward.h"

/* ---- what all of them share ------------------------------------------------------- */

size_t clt_backward_rows_of(const clt_attn_args *a) {
  return (size_t)a->batch * (size_t)a->q_heads * (size_t)a->q_len;
}

clt_i64 clt_backward_floats(clt_work *work, size_t n) {
  return (clt_i64)(clt_work_scratch(work, n * sizeof(float)) / sizeof(float));
}

float clt_backward_scale(const clt_attn_args *a) {
  return (float)((double)a->scale2 * 0.69314718055994530942);
}

clt_problem clt_backward_delta(const clt_problem *problem) {
  clt_problem p = *problem;
  p.args.weights = problem->d_out.view;
  p.buffers[CLT_BUF_WEIGHTS] = problem->d_out.ref;
  return p;
}

clt_problem clt_backward_parameter(const clt_problem *problem,
                                   const clt_grad *grad) {
  clt_problem p = *problem;
  p.args.out = problem->d_out.view;
  p.buffers[CLT_BUF_OUT] = problem->d_out.ref;
  p.args.weights = grad->view;
  p.args.weights_dtype = grad->dtype;
  p.args.grad_add = grad->add;
  p.buffers[CLT_BUF_WEIGHTS] = grad->ref;
  return p;
}

/* to = scale times the sum of `parts` arrays [batch, heads, rows, ld]. */
static void add_sum(clt_work *work, clt_kernel kernel, const clt_grad *to,
                    clt_i64 from, int batch, int heads, int rows, int dim,
                    int ld, int parts, float scale) {
  if (!to->dtype) return;
  const bool tile = kernel == CLT_K_SUM_PARTS_TILE;
  const clt_sum_parts_args args = {.to = to->view,
                                   .from = from,
                                   .step = (clt_i64)batch * heads * rows * ld,
                                   .batch = batch,
                                   .heads = heads,
                                   .rows = rows,
                                   .dim = dim,
                                   .ld = ld,
                                   .parts = parts,
                                   .to_dtype = to->dtype,
                                   .add = to->add,
                                   .scale = scale};
  clt_step *step = clt_work_add(
      work, kernel, &args,
      clt_ceil_div((size_t)rows, tile ? ROWS_TILE_HEIGHT : COPY_ROWS),
      (size_t)heads, (size_t)batch, 16);
  if (!step) return;
  step->buffers[0] = clt_ref_scratch();
  step->buffers[1] = to->ref;
  if (tile) {
    step->group_size[0] = TILE_X;
    step->group_size[1] = ROWS_TILE_HEIGHT;
  }
}

void clt_backward_sums(const clt_problem *p, clt_work *work, clt_kernel kernel,
                       int qk_ld, int v_ld) {
  const clt_attn_args *a = &p->args;
  const float scale = clt_backward_scale(a);
  add_sum(work, kernel, &p->d_q, a->d_q, a->batch, a->q_heads, a->q_len,
          a->qk_dim, a->qk_dim, a->n_splits, scale);
  add_sum(work, kernel, &p->d_k, a->d_k, a->batch, a->kv_heads, a->kv_len,
          a->qk_dim, qk_ld, 1, scale);
  add_sum(work, kernel, &p->d_v, a->d_v, a->batch, a->kv_heads, a->kv_len,
          a->v_dim, v_ld, 1, 1.0f);
}

/* ---- lanes are queries ------------------------------------------------------------------ */

static void add_delta(const clt_problem *problem, clt_work *work) {
  const clt_problem p = clt_backward_delta(problem);
  const size_t bm = (size_t)work->device->ops->block_rows(work->device->impl,
                                                          CLT_K_ATTN_DELTA);
  clt_fill_buffers(
      clt_work_add(work, CLT_K_ATTN_DELTA, &p.args,
                   clt_ceil_div((size_t)p.args.q_len, bm),
                   (size_t)p.args.q_heads, (size_t)p.args.batch, 16),
      &p);
}

static size_t backward_floats(const clt_device *device, const clt_attn_args *a,
                              bool more) {
  return CLT_BACKWARD_LOCAL(
      device->ops->block_rows(device->impl, CLT_K_ATTN_BACKWARD), a->qk_dim,
      a->v_dim, a->has_mask || a->has_key_mask || a->bias_dtype != 0,
      a->softcap2 > 0, more);
}

static void add_bias(const clt_problem *problem, clt_work *work) {
  const clt_problem p = clt_backward_parameter(problem, &problem->d_bias);
  const clt_attn_args *a = &p.args;
  const clt_view *to = &a->weights;
  const clt_device *device = work->device;
  const size_t bm =
      (size_t)device->ops->block_rows(device->impl, CLT_K_ATTN_BACKWARD_BIAS);
  const size_t blocks = clt_ceil_div((size_t)a->q_len, bm);
  const size_t key_blocks = clt_ceil_div((size_t)a->kv_len, bm);
  const size_t bytes = backward_floats(device, a, true) * sizeof(float);
  size_t local_bytes, group_size;
  if (work->status == CLATTN_OK)
    work->status = device->ops->limits(device->impl, CLT_K_ATTN_BACKWARD_BIAS,
                                       &local_bytes, &group_size);
  if (work->status == CLATTN_OK && bytes > local_bytes)
    work->status = clt_fail(CLATTN_UNSUPPORTED,
                            "grads->d_bias: needs %zu bytes of local memory "
                            "for these head sizes, the device has %zu",
                            bytes, local_bytes);
  clt_fill_buffers(clt_work_add(work, CLT_K_ATTN_BACKWARD_BIAS, a,
                                (to->s[2] == 0 ? 1 : blocks) *
                                    (to->s[3] == 0 ? 1 : key_blocks),
                                to->s[1] == 0 ? 1 : (size_t)a->q_heads,
                                to->s[0] == 0 ? 1 : (size_t)a->batch, bytes),
                   &p);
}

static void add_parameters(const clt_problem *problem, clt_work *work) {
  if (problem->d_bias.dtype) add_bias(problem, work);
  if (problem->d_sinks.dtype) {
    const clt_problem p = clt_backward_parameter(problem, &problem->d_sinks);
    clt_fill_buffers(clt_work_add(work, CLT_K_ATTN_BACKWARD_SINKS, &p.args,
                                  (size_t)p.args.q_heads, 1, 1, 16),
                     &p);
  }
}

/* ---- fused ------------------------------------------------------------------------------ */

/* Groups over batches, key heads and chunks of keys. How many chunks hangs on the
 * shape alone: it decides in which order dQ is summed. */
static void choose_splits(clt_attn_args *a) {
  const size_t groups = (size_t)a->batch * (size_t)a->kv_heads, aim = 32;
  const size_t most = clt_ceil_div((size_t)a->kv_len, BACKWARD_KEYS);
  size_t splits = clt_ceil_div(aim, groups);
  if (splits > most) splits = most;
  const size_t length =
      CLT_PAD(clt_ceil_div((size_t)a->kv_len, splits), (size_t)BM);
  a->split_len = (clt_i32)length;
  a->n_splits = (clt_i32)clt_ceil_div((size_t)a->kv_len, length);
}

static size_t fused_local(const clt_device *device, const clt_attn_args *a) {
  return backward_floats(device, a, true);
}

static void fused_build(const clt_problem *problem, clt_work *work) {
  clt_problem p = *problem;
  clt_attn_args *a = &p.args;
  const int D = a->qk_dim, Dv = a->v_dim;
  const int Dp = CLT_PAD(D, MAX_LANES), Ep = CLT_PAD(Dv, MAX_LANES);
  const size_t keys =
      (size_t)a->batch * (size_t)a->kv_heads * (size_t)a->kv_len;
  choose_splits(a);
  p.buffers[CLT_BUF_PART] = clt_ref_scratch();
  a->delta = clt_backward_floats(work, clt_backward_rows_of(a));
  a->d_q = clt_backward_floats(
      work, (size_t)a->n_splits * clt_backward_rows_of(a) * (size_t)D);
  a->d_k = clt_backward_floats(work, keys * (size_t)Dp);
  a->d_v = clt_backward_floats(work, keys * (size_t)Ep);
  add_delta(&p, work);

  clt_problem main = p;
  main.args.out = p.d_out.view;
  main.buffers[CLT_BUF_OUT] = p.d_out.ref;
  clt_fill_buffers(
      clt_work_add(work, CLT_K_ATTN_BACKWARD, &main.args, (size_t)a->n_splits,
                   (size_t)a->kv_heads, (size_t)a->batch,
                   backward_floats(work->device, a, false) * sizeof(float)),
      &main);
  clt_backward_sums(&p, work, CLT_K_SUM_PARTS, Dp, Ep);
  add_parameters(&p, work);
}

/* ---- unfused: whole matrices of P and dS, and five products -------------------------------- */

/* A dense fp32 copy [B, heads, rows, dim] in scratch: heads that share a key head
 * can then be summed over as if they were further rows. */
static clt_view add_copy(clt_work *work, const clt_view *from, clt_ref ref,
                         int dtype, const clt_attn_args *a, int dim) {
  const clt_i64 size = (clt_i64)a->q_len * dim;
  const clt_view to = {
      clt_backward_floats(work, clt_backward_rows_of(a) * (size_t)dim),
      {size * a->q_heads, size, dim, 1}};
  const clt_copy_args args = {.src = *from,
                              .dst = to,
                              .batch = a->batch,
                              .heads = a->q_heads,
                              .rows = a->q_len,
                              .dim = dim,
                              .src_dtype = dtype,
                              .dst_dtype = CLT_F32};
  clt_step *step = clt_work_add(work, CLT_K_COPY, &args,
                                clt_ceil_div((size_t)a->q_len, COPY_ROWS),
                                (size_t)a->q_heads, (size_t)a->batch, 16);
  if (step) {
    step->buffers[0] = ref;
    step->buffers[1] = clt_ref_scratch();
  }
  return to;
}

/* A matrix operand: a view and where it lies. */
typedef struct operand {
  clt_view view;
  clt_ref ref;
  clt_i32 dtype;
} operand;

/* From the chunk's first batch, and head if heads are those of the view. */
static clt_view from_chunk(clt_view view, const clt_attn_args *a,
                           clt_i64 head) {
  view.offset += a->batch_first * view.s[0] + head * view.s[1];
  return view;
}

/* to[m,n] = alpha sum_k a[m,k] b[n,k] for `heads` heads of the chunk's batches;
 * terms with a = 0, which are hidden, do not count. */
static void add_product(clt_work *work, clt_kernel kernel,
                        const clt_attn_args *args, int heads, int b_group,
                        int m, int n, int k, const operand *a, const operand *b,
                        const operand *to, float alpha, bool skip_zero,
                        int add) {
  const clt_matmul_args product = {.a = a->view,
                                   .b = b->view,
                                   .c = to->view,
                                   .batch = args->batch_count,
                                   .heads = heads,
                                   .b_group = b_group,
                                   .m = m,
                                   .n = n,
                                   .k = k,
                                   .a_dtype = a->dtype,
                                   .b_dtype = b->dtype,
                                   .c_dtype = to->dtype,
                                   .skip_zero = skip_zero,
                                   .alpha = alpha,
                                   .add = add};
  clt_matmul_add(work, kernel, &product, a->ref, b->ref, to->ref, (clt_ref){0});
}

/* The products of one chunk. q and d_out: as they are, or dense copies. */
static void add_chunk(const clt_problem *p, clt_work *work,
                      const clt_backward_steps *steps, const operand *q,
                      const operand *d_out) {
  const clt_kernel matmul = steps->matmul;
  const clt_attn_args *a = &p->args;
  const int Sq = a->q_len, T = a->kv_len, D = a->qk_dim, Dv = a->v_dim;
  const int heads = a->head_count, group = a->group, first = a->head_first;
  const int keys = heads / group, first_key = first / group; /* key heads */
  const clt_i64 one = (clt_i64)Sq * T;
  const clt_view s_view = {a->part, {one * heads, one, T, 1}};
  clt_view ds_view = s_view;
  ds_view.offset = a->d_s;
  const operand s = {s_view, clt_ref_scratch(), CLT_F32};
  const operand ds = {ds_view, clt_ref_scratch(), CLT_F32};
  const operand k = {from_chunk(a->k, a, first_key), p->buffers[CLT_BUF_K],
                     a->dtype};
  const operand v = {from_chunk(a->v, a, first_key), p->buffers[CLT_BUF_V],
                     a->dtype};
  operand q_here = *q, do_here = *d_out;
  q_here.view = from_chunk(q->view, a, first);
  do_here.view = from_chunk(d_out->view, a, first);

  add_product(work, matmul, a, heads, group, Sq, T, D, &q_here, &k, &s,
              a->scale, false, 0);
  add_product(work, matmul, a, heads, group, Sq, T, Dv, &do_here, &v, &ds, 1,
              false, 0);
  steps->scores(p, work);

  const float scale = clt_backward_scale(a);
  if (p->d_q.dtype) {
    const operand kt = {clt_turned(k.view), k.ref, k.dtype};
    const operand to = {from_chunk(p->d_q.view, a, first), p->d_q.ref,
                        p->d_q.dtype};
    add_product(work, matmul, a, heads, group, Sq, D, T, &ds, &kt, &to, scale,
                true, p->d_q.add);
  }
  /* Sums over the rows of all heads that share a key head. */
  const struct {
    const clt_grad *grad;
    const operand *weights, *rows;
    int dim;
    float scale;
  } both[] = {{&p->d_k, &ds, &q_here, D, scale},
              {&p->d_v, &s, &do_here, Dv, 1}};
  for (int i = 0; i < 2; i++) {
    if (!both[i].grad->dtype) continue;
    operand weights = *both[i].weights, rows = *both[i].rows;
    weights.view = clt_turned(weights.view);
    weights.view.s[1] *= group;
    rows.view = clt_turned(rows.view);
    rows.view.s[1] *= group;
    const operand to = {from_chunk(both[i].grad->view, a, first_key),
                        both[i].grad->ref, both[i].grad->dtype};
    add_product(work, matmul, a, keys, 1, T, both[i].dim, group * Sq, &weights,
                &rows, &to, both[i].scale, true, both[i].grad->add);
  }
}

void clt_backward_unfused(const clt_problem *problem, clt_work *work,
                          const clt_backward_steps *steps) {
  clt_problem p = *problem;
  clt_attn_args *a = &p.args;
  clattn_device_info info;
  work->device->ops->device_info(work->device->impl, &info);
  const size_t one = 2 * (size_t)a->q_len * (size_t)a->kv_len * sizeof(float);
  if (one > info.max_alloc_bytes / (size_t)a->group) {
    work->status = clt_fail(
        CLATTN_UNSUPPORTED,
        "unfused: scores and their gradients take %zu bytes for each of the %d "
        "heads that share a key head, the largest buffer of this device is "
        "%llu; the fused path needs none of it",
        one, (int)a->group, (unsigned long long)info.max_alloc_bytes);
    return;
  }
  int batches, heads;
  clt_choose_chunk(a, one, info.max_alloc_bytes, true, &batches, &heads);
  p.buffers[CLT_BUF_PART] = clt_ref_scratch();
  a->delta = clt_backward_floats(work, clt_backward_rows_of(a));
  const size_t chunk = one / 2 * (size_t)batches * (size_t)heads;
  a->part = clt_backward_floats(work, chunk / sizeof(float));
  a->d_s = clt_backward_floats(work, chunk / sizeof(float));
  steps->delta(&p, work);

  operand q = {a->q, p.buffers[CLT_BUF_Q], a->dtype};
  operand d_out = {p.d_out.view, p.d_out.ref, p.d_out.dtype};
  if (a->group > 1) {
    q.view = add_copy(work, &a->q, q.ref, q.dtype, a, a->qk_dim);
    d_out.view =
        add_copy(work, &p.d_out.view, d_out.ref, d_out.dtype, a, a->v_dim);
    q.ref = d_out.ref = clt_ref_scratch();
    q.dtype = d_out.dtype = CLT_F32;
  }
  for (a->batch_first = 0; a->batch_first < a->batch;
       a->batch_first += batches) {
    a->batch_count = a->batch - a->batch_first < batches
                         ? a->batch - a->batch_first
                         : batches;
    for (a->head_first = 0; a->head_first < a->q_heads;
         a->head_first += heads) {
      a->head_count = a->q_heads - a->head_first < heads
                          ? a->q_heads - a->head_first
                          : heads;
      add_chunk(&p, work, steps, &q, &d_out);
    }
  }
  steps->parameters(&p, work);
}

static void add_scores(const clt_problem *p, clt_work *work) {
  const clt_attn_args *a = &p->args;
  clt_fill_buffers(
      clt_work_add(work, CLT_K_ATTN_SCORES_BACKWARD, a,
                   clt_ceil_div((size_t)a->q_len, SOFTMAX_ROWS),
                   (size_t)a->head_count, (size_t)a->batch_count, 16),
      p);
}

static void unfused_build(const clt_problem *problem, clt_work *work) {
  static const clt_backward_steps steps = {CLT_K_MATMUL, add_delta, add_scores,
                                           add_parameters};
  clt_backward_unfused(problem, work, &steps);
}

/* ---- the table, in the order plans try it ------------------------------------------------ */

const clt_row clt_backward_rows[] = {
    {.name = "fused backward, work-groups (GPU)",
     .path = CLATTN_FUSED,
     .kernels = {CLT_K_ATTN_BACKWARD_TILE, CLT_K_ATTN_DELTA_TILE,
                 CLT_K_ATTN_BACKWARD_SINKS_TILE, CLT_K_SUM_PARTS_TILE},
     .n_kernels = 4,
     .for_gpu = true,
     .any_length = true,
     .backward = true,
     .min_group = TILE_MIN_GROUP,
     .local_floats = clt_backward_tile_local,
     .build = clt_backward_tile_fused},
    {.name = "fused backward (lanes are queries)",
     .path = CLATTN_FUSED,
     .kernels = {CLT_K_ATTN_BACKWARD, CLT_K_ATTN_DELTA,
                 CLT_K_ATTN_BACKWARD_BIAS, CLT_K_ATTN_BACKWARD_SINKS,
                 CLT_K_SUM_PARTS},
     .n_kernels = 5,
     .any_length = true,
     .backward = true,
     .local_floats = fused_local,
     .build = fused_build},
    {.name = "unfused backward, work-groups (GPU)",
     .path = CLATTN_UNFUSED,
     .kernels = {CLT_K_ATTN_SCORES_BACKWARD_TILE, CLT_K_ATTN_BACKWARD_TILE,
                 CLT_K_ATTN_DELTA_TILE, CLT_K_ATTN_BACKWARD_SINKS_TILE,
                 CLT_K_MATMUL_TILE, CLT_K_COPY},
     .n_kernels = 6,
     .for_gpu = true,
     .any_length = true,
     .backward = true,
     .min_group = TILE_MIN_GROUP,
     .local_floats = clt_backward_tile_local,
     .build = clt_backward_tile_unfused},
    {.name = "unfused backward (five products)",
     .path = CLATTN_UNFUSED,
     .kernels = {CLT_K_ATTN_SCORES_BACKWARD, CLT_K_ATTN_DELTA,
                 CLT_K_ATTN_BACKWARD_BIAS, CLT_K_ATTN_BACKWARD_SINKS,
                 CLT_K_MATMUL, CLT_K_COPY},
     .n_kernels = 6,
     .any_length = true,
     .backward = true,
     .build = unfused_build},
};
const int clt_backward_row_count =
    (int)(sizeof clt_backward_rows / sizeof *clt_backward_rows);
