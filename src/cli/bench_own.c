/* bench_own.c - the library, as its users call it: device buffers, a plan,
 * execute, finish. Three of them: forward, forward with lse, the gradients. */
#include "bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct own_work {
  const bench_target *target;
  clattn_plan *plan;
  clattn_args args;
  clattn_grads grads;
  size_t row_bytes[BENCH_OUTPUTS]; /* of an output row */
} own_work;

static bool failed(char *why) {
  return bench_refuse(why, "%s", clattn_error_message());
}

static bool own_open(const bench_target *target, void **state, char *why) {
  (void)why;
  *state = (void *)(uintptr_t)target; /* read only, whatever its type says */
  return true;
}

static void own_close(void *state) { (void)state; }

static void own_destroy(void *work) {
  own_work *w = work;
  if (w == NULL) return;
  clattn_plan_destroy(w->plan);
  clattn_buffer_destroy(w->args.q.buffer);
  clattn_buffer_destroy(w->args.k.buffer);
  clattn_buffer_destroy(w->args.v.buffer);
  clattn_buffer_destroy(w->args.out.buffer);
  clattn_buffer_destroy(w->args.weights.buffer);
  clattn_buffer_destroy(w->args.lse.buffer);
  clattn_buffer_destroy(w->grads.d_out.buffer);
  clattn_buffer_destroy(w->grads.d_q.buffer);
  clattn_buffer_destroy(w->grads.d_k.buffer);
  clattn_buffer_destroy(w->grads.d_v.buffer);
  free(w);
}

/* A tensor [b,h,s,d] on the device, of the data or of NaN: whatever is not
 * written must not look like a result. */
static bool tensor(const bench_target *target, const void *data,
                   clattn_dtype dtype, int64_t b, int64_t h, int64_t s,
                   int64_t d, clattn_tensor *out, char *why) {
  const size_t bytes = (size_t)(b * h * s * d) * clattn_dtype_size(dtype);
  clattn_buffer *buffer;
  if (clattn_buffer_create(target->context, target->device, bytes, &buffer) !=
      CLATTN_OK)
    return failed(why);
  *out = clattn_view_bhsd(buffer, dtype, b, h, s, d);
  unsigned char nan[1 << 16];
  memset(nan, 0xff, sizeof nan);
  for (size_t at = 0, n; at < bytes; at += n) {
    n = data != NULL || bytes - at < sizeof nan ? bytes - at : sizeof nan;
    if (clattn_buffer_write(target->queue, buffer, at, data ? data : nan, n) !=
        CLATTN_OK)
      return failed(why);
  }
  return true;
}

/* What backward reads and writes besides. */
static bool gradients(own_work *w, const bench_problem *p, char *why) {
  const bench_shape *s = p->shape;
  const clattn_dtype t = s->dtype;
  clattn_grads *g = &w->grads;
  return tensor(w->target, p->d_out, t, s->batch, s->q_heads, s->q_len,
                s->v_dim, &g->d_out, why) &&
         tensor(w->target, NULL, t, s->batch, s->q_heads, s->q_len, s->qk_dim,
                &g->d_q, why) &&
         tensor(w->target, NULL, t, s->batch, s->kv_heads, s->kv_len, s->qk_dim,
                &g->d_k, why) &&
         tensor(w->target, NULL, t, s->batch, s->kv_heads, s->kv_len, s->v_dim,
                &g->d_v, why);
}

static bool scratch_fits(const own_work *w, const bench_problem *p,
                         bool backward, char *why) {
  const bench_shape *s = p->shape;
  size_t bytes;
  const clattn_status status =
      backward ? clattn_plan_backward_scratch_bytes(w->plan, s->batch, s->q_len,
                                                    s->kv_len, &bytes)
               : clattn_plan_scratch_bytes(w->plan, s->batch, s->q_len,
                                           s->kv_len, &bytes);
  if (status != CLATTN_OK) return failed(why);
  return !w->target->on_host ||
         bench_fits((double)bytes, "scratch memory", why);
}

static bool make(own_work *w, const bench_problem *p, char *why) {
  const bench_shape *s = p->shape;
  const clattn_dtype t = s->dtype;
  clattn_desc desc;
  clattn_desc_init(&desc);
  desc.dtype = t;
  desc.q_heads = s->q_heads;
  desc.kv_heads = s->kv_heads;
  desc.qk_dim = s->qk_dim;
  desc.v_dim = s->v_dim;
  desc.causal = s->causal;
  desc.path = p->path;
  if (p->weights) desc.outputs |= CLATTN_OUT_WEIGHTS;
  if (p->backward) desc.outputs |= CLATTN_OUT_LSE;
  desc.backward = p->backward;
  clattn_args *a = &w->args;
  clattn_args_init(a);
  clattn_grads_init(&w->grads);
  const size_t size = clattn_dtype_size(t);
  w->row_bytes[BENCH_OUT] = w->row_bytes[BENCH_D_V] = (size_t)s->v_dim * size;
  w->row_bytes[BENCH_D_Q] = w->row_bytes[BENCH_D_K] = (size_t)s->qk_dim * size;
  w->row_bytes[BENCH_LSE] = sizeof(float);
  w->row_bytes[BENCH_WEIGHTS] = (size_t)s->kv_len * sizeof(float);
  if (clattn_plan_create(w->target->context, w->target->device, &desc,
                         &w->plan) != CLATTN_OK)
    return failed(why);
  if (!scratch_fits(w, p, false, why) ||
      (p->backward && !scratch_fits(w, p, true, why)))
    return false;
  return tensor(w->target, p->q, t, s->batch, s->q_heads, s->q_len, s->qk_dim,
                &a->q, why) &&
         tensor(w->target, p->k, t, s->batch, s->kv_heads, s->kv_len, s->qk_dim,
                &a->k, why) &&
         tensor(w->target, p->v, t, s->batch, s->kv_heads, s->kv_len, s->v_dim,
                &a->v, why) &&
         tensor(w->target, NULL, t, s->batch, s->q_heads, s->q_len, s->v_dim,
                &a->out, why) &&
         (!p->weights ||
          tensor(w->target, NULL, CLATTN_F32, s->batch, s->q_heads, s->q_len,
                 s->kv_len, &a->weights, why)) &&
         (!p->backward || tensor(w->target, NULL, CLATTN_F32, s->batch,
                                 s->q_heads, s->q_len, 1, &a->lse, why));
}

static bool own_prepare(void *state, const bench_problem *problem, void **work,
                        char *why) {
  *work = NULL;
  own_work *w = calloc(1, sizeof *w);
  if (w == NULL) return bench_refuse(why, "no memory");
  w->target = state;
  if (make(w, problem, why)) {
    *work = w;
    return true;
  }
  own_destroy(w);
  return false;
}

static bool own_run(void *work, char *why) {
  const own_work *w = work;
  if (clattn_execute(w->plan, w->target->queue, &w->args, NULL, NULL, 0,
                     NULL) == CLATTN_OK &&
      clattn_queue_finish(w->target->queue) == CLATTN_OK)
    return true;
  return failed(why);
}

/* The gradients are those of a forward pass that is done. */
static bool backward_prepare(void *state, const bench_problem *problem,
                             void **work, char *why) {
  if (!own_prepare(state, problem, work, why)) return false;
  if (gradients(*work, problem, why) && own_run(*work, why)) return true;
  own_destroy(*work);
  *work = NULL;
  return false;
}

static bool backward_run(void *work, char *why) {
  const own_work *w = work;
  if (clattn_backward(w->plan, w->target->queue, &w->args, &w->grads, NULL,
                      NULL, 0, NULL) == CLATTN_OK &&
      clattn_queue_finish(w->target->queue) == CLATTN_OK)
    return true;
  return failed(why);
}

bool bench_own_read(void *work, bench_output which, size_t row, size_t n,
                    void *data, char *why) {
  const own_work *w = work;
  const clattn_tensor *const tensors[BENCH_OUTPUTS] = {
      &w->args.out,  &w->args.weights, &w->args.lse,
      &w->grads.d_q, &w->grads.d_k,    &w->grads.d_v};
  const size_t bytes = w->row_bytes[which];
  if (clattn_buffer_read(w->target->queue, tensors[which]->buffer, row * bytes,
                         data, n * bytes) == CLATTN_OK)
    return true;
  return failed(why);
}

static bool own_read(void *work, bench_output which, size_t row, void *data,
                     char *why) {
  return bench_own_read(work, which, row, 1, data, why);
}

const bench_rival bench_own = {"clattn", own_open,    own_prepare, own_run,
                               own_read, own_destroy, own_close};
const bench_rival bench_own_forward = {"forward", own_open, own_prepare,
                                       own_run,   own_read, own_destroy,
                                       own_close};
const bench_rival bench_own_backward = {
    "backward", own_open,    backward_prepare, backward_run,
    own_read,   own_destroy, own_close};
