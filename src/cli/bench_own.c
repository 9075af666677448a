/* bench_own.c - the library, as its users call it: device buffers, a plan,
 * execute, finish. */
#include "bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct own_work {
  const bench_target *target;
  clattn_plan *plan;
  clattn_args args;
  size_t row_bytes[2]; /* of an output row, by bench_output */
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
  clattn_args *a = &w->args;
  clattn_args_init(a);
  w->row_bytes[BENCH_OUT] = (size_t)s->v_dim * clattn_dtype_size(t);
  w->row_bytes[BENCH_WEIGHTS] = (size_t)s->kv_len * sizeof(float);
  if (clattn_plan_create(w->target->context, w->target->device, &desc,
                         &w->plan) != CLATTN_OK)
    return failed(why);
  size_t scratch;
  if (clattn_plan_scratch_bytes(w->plan, s->batch, s->q_len, s->kv_len,
                                &scratch) != CLATTN_OK)
    return failed(why);
  if (w->target->on_host && !bench_fits((double)scratch, "scratch memory", why))
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
                 s->kv_len, &a->weights, why));
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

static bool own_read(void *work, bench_output which, size_t row, void *data,
                     char *why) {
  const own_work *w = work;
  const clattn_tensor *from =
      which == BENCH_OUT ? &w->args.out : &w->args.weights;
  const size_t bytes = w->row_bytes[which];
  if (clattn_buffer_read(w->target->queue, from->buffer, row * bytes, data,
                         bytes) == CLATTN_OK)
    return true;
  return failed(why);
}

const bench_rival bench_own = {"clattn", own_open,    own_prepare, own_run,
                               own_read, own_destroy, own_close};
