/* rows_backward_tile.c - the gradients of attention on GPUs, as sequences of steps
 * (cl/attn_backward_tile.cl). */
#include "../../cl/shape.h"
#include "rows_backward.h"

static size_t tile_floats(size_t height, const void *args) {
  (void)args;
  return CLT_BACKWARD_TILE_LOCAL(height);
}

size_t clt_backward_tile_local(const clt_device *device,
                               const clt_attn_args *a) {
  (void)device;
  return tile_floats(TILE_MIN_HEIGHT, a);
}

static void add_delta(const clt_problem *problem, clt_work *work) {
  const clt_problem p = clt_backward_delta(problem);
  clt_add_tiles(work, &p, CLT_K_ATTN_DELTA_TILE,
                clt_ceil_div((size_t)p.args.q_len, ROWS_TILE_HEIGHT),
                (size_t)p.args.q_heads, (size_t)p.args.batch, TILE_X,
                ROWS_TILE_HEIGHT, CLT_ROWS_TILE_LOCAL);
}

/* A step of attn_backward_tile, whose groups own `rows` rows `across` times. */
static void add_backward(const clt_problem *p, clt_work *work, size_t rows,
                         bool all_rows, size_t across, size_t heads,
                         size_t batch) {
  const size_t height = clt_tile_height(work->device, CLT_K_ATTN_BACKWARD_TILE,
                                        rows, tile_floats, NULL);
  const size_t blocks = all_rows ? 1 : clt_ceil_div(rows, TILE_R * height);
  clt_add_tiles(work, p, CLT_K_ATTN_BACKWARD_TILE, blocks * across, heads,
                batch, TILE_X, height, tile_floats(height, NULL));
}

static void add_bias(const clt_problem *problem, clt_work *work) {
  clt_problem p = clt_backward_parameter(problem, &problem->d_bias);
  clt_attn_args *a = &p.args;
  const clt_view *to = &a->weights;
  a->grad_of = CLT_GRAD_BIAS;
  add_backward(&p, work, (size_t)a->q_len, to->s[2] == 0,
               to->s[3] == 0 ? 1 : clt_ceil_div((size_t)a->kv_len, TILE_N),
               to->s[1] == 0 ? 1 : (size_t)a->q_heads,
               to->s[0] == 0 ? 1 : (size_t)a->batch);
}

static void add_parameters(const clt_problem *problem, clt_work *work) {
  if (problem->d_bias.dtype) add_bias(problem, work);
  if (problem->d_sinks.dtype) {
    const clt_problem p = clt_backward_parameter(problem, &problem->d_sinks);
    clt_add_tiles(work, &p, CLT_K_ATTN_BACKWARD_SINKS_TILE,
                  (size_t)p.args.q_heads, 1, 1, TILE_X, ROWS_TILE_HEIGHT,
                  CLT_ROWS_TILE_LOCAL);
  }
}

/* ---- fused ------------------------------------------------------------------ */

static void add_main(const clt_problem *problem, clt_work *work) {
  clt_problem p = *problem;
  clt_attn_args *a = &p.args;
  a->out = p.d_out.view;
  p.buffers[CLT_BUF_OUT] = p.d_out.ref;
  if (!p.d_k.dtype) a->d_k = -1;
  if (!p.d_v.dtype) a->d_v = -1;
  a->grad_of = CLT_GRAD_KV;
  if (p.d_k.dtype || p.d_v.dtype)
    add_backward(&p, work, (size_t)a->kv_len, false, 1, (size_t)a->kv_heads,
                 (size_t)a->batch);
  a->grad_of = CLT_GRAD_Q;
  if (p.d_q.dtype)
    add_backward(&p, work, (size_t)a->q_len, false, 1, (size_t)a->q_heads,
                 (size_t)a->batch);
}

/* Scratch is the same whichever gradients are wanted. */
void clt_backward_tile_fused(const clt_problem *problem, clt_work *work) {
  clt_problem p = *problem;
  clt_attn_args *a = &p.args;
  const size_t keys =
      (size_t)a->batch * (size_t)a->kv_heads * (size_t)a->kv_len;
  p.buffers[CLT_BUF_PART] = clt_ref_scratch();
  a->n_splits = 1;
  a->delta = clt_backward_floats(work, clt_backward_rows_of(a));
  a->d_q =
      clt_backward_floats(work, clt_backward_rows_of(a) * (size_t)a->qk_dim);
  a->d_k = clt_backward_floats(work, keys * (size_t)a->qk_dim);
  a->d_v = clt_backward_floats(work, keys * (size_t)a->v_dim);
  add_delta(&p, work);
  add_main(&p, work);
  clt_backward_sums(&p, work, CLT_K_SUM_PARTS_TILE, a->qk_dim, a->v_dim);
  add_parameters(&p, work);
}

/* ---- unfused ---------------------------------------------------------------- */

static size_t no_floats(size_t height, const void *args) {
  (void)height, (void)args;
  return 0;
}

static void add_scores(const clt_problem *p, clt_work *work) {
  const clt_attn_args *a = &p->args;
  const size_t height =
      clt_tile_height(work->device, CLT_K_ATTN_SCORES_BACKWARD_TILE,
                      (size_t)a->kv_len / TILE_R, no_floats, NULL);
  clt_add_tiles(work, p, CLT_K_ATTN_SCORES_BACKWARD_TILE, (size_t)a->q_len,
                (size_t)a->head_count, (size_t)a->batch_count, TILE_X, height,
                0);
}

void clt_backward_tile_unfused(const clt_problem *problem, clt_work *work) {
  static const clt_backward_steps steps = {CLT_K_MATMUL_TILE, add_delta,
                                           add_scores, add_parameters};
  clt_backward_unfused(problem, work, &steps);
}
