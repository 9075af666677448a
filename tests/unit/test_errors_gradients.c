/* Bad arguments of gradients and dropout: each gets its status and a message
 * that names it, and changes nothing. */
#include <math.h>

#include "../support/grad_case.h"
#include "errors.h"

static const grad_case full = {.attn = {"errors", .b = 2, .hq = 4, .hk = 2,
                                        .sq = 3, .skv = 5, .d = 8,
                                        .bias = "bhqk", .lengths = LEN_I32,
                                        .sinks = SINKS_SOME, .dropout = 0.25}};

/* ---- clattn_backward ----------------------------------------------------- */

#define GRADIENT_FAULTS(t)                                                     \
  BAD("grads->" #t, g->t.dtype = CLATTN_I32)                                   \
  BAD("grads->" #t, g->t.dtype = CLATTN_BOOL)                                  \
  BAD("grads->" #t, g->t.dtype = (clattn_dtype)99)                             \
  BAD("grads->" #t, g->t.offset = -1)                                          \
  BAD("grads->" #t, g->t.offset += 100000)                                     \
  BAD("grads->" #t, g->t.extent[0]++)                                          \
  BAD("grads->" #t, g->t.extent[1]--)                                          \
  BAD("grads->" #t, g->t.extent[2] += 7)                                       \
  BAD("grads->" #t, g->t.extent[3] = 0)                                        \
  BAD("grads->" #t, g->t.extent[3] = HUGE_LENGTH)                              \
  BAD("grads->" #t, g->t.stride[1] = -1)                                       \
  BAD("grads->" #t, g->t.stride[0] = HUGE_LENGTH)                              \
  BAD("grads->" #t, g->t.buffer = elsewhere)

static bool grads_fault(int n, fault *f, clattn_args *a, clattn_grads *g) {
  BAD("struct_size", a->struct_size = 1)
  BAD("struct_size", g->struct_size = 1)
  BAD("args->q", a->q.buffer = NULL)
  BAD("args->k", a->k.buffer = NULL)
  BAD("args->v", a->v.buffer = NULL)
  BAD("args->out", a->out.buffer = NULL)
  BAD("args->lse", a->lse.buffer = NULL)
  BAD("args->k", a->k.extent[1]++)
  BAD("args->out", a->out.dtype = CLATTN_F16)
  BAD("args->lse", a->lse.dtype = CLATTN_BF16)
  BAD("args->lse", a->lse.extent[2]++)
  BAD("dropout", a->dropout = -0.25f)
  BAD("dropout", a->dropout = 1)
  BAD("dropout", a->dropout = 3e9f)
  BAD("dropout", a->dropout = NAN)
  BAD("dropout", a->dropout = INFINITY)
  BAD("grads->d_out", g->d_out.buffer = NULL)
  GRADIENT_FAULTS(d_out)
  GRADIENT_FAULTS(d_q)
  GRADIENT_FAULTS(d_k)
  GRADIENT_FAULTS(d_v)
  GRADIENT_FAULTS(d_bias)
  BAD("grads->d_out", g->d_out.dtype = CLATTN_F16) /* neither F32 nor desc's */
  BAD("grads->d_sinks", g->d_sinks.dtype = CLATTN_I64)
  BAD("grads->d_sinks", g->d_sinks.extent[1] = 2)
  BAD("grads->d_sinks", g->d_sinks.buffer = elsewhere)
  BAD("grads->d_bias", a->bias.buffer = NULL)
  BAD("grads->d_sinks", a->sinks.buffer = NULL)
  BAD("grads->d_bias", a->bias.extent[0] = 1) /* not of the bias' shape */
  BAD("grads->d_q", g->d_q.stride[0] = 0)     /* elements share memory */
  BAD("grads->d_k", g->d_k.stride[1] = 0)
  BAD("grads->d_v", g->d_v.stride[2] = 0)
  BAD("grads->d_bias", g->d_bias.stride[3] = 0)
  BAD("grads->d_q", g->d_q = a->q) /* outputs over inputs and outputs */
  BAD("grads->d_k", g->d_k = a->k)
  BAD("grads->d_v", g->d_v = a->v)
  BAD("grads->d_q", g->d_q.buffer = a->out.buffer)
  BAD("grads->d_q", g->d_q = g->d_out)
  BAD("grads->d_bias", g->d_bias = a->bias)
  BAD("grads->d_sinks", g->d_sinks = a->sinks)
  BAD("grads->", g->d_k = g->d_v)
  BAD("grads->", g->d_sinks.buffer = g->d_bias.buffer)
  BAD("accumulate", g->accumulate = 4)
  BAD("accumulate", g->accumulate = 0x80000001u)
  return false;
}

static bool unchanged(const th_device *device, const grad_problem *p,
                      char *message, size_t room) {
  for (int i = 0; i < GRADS; i++)
    if (!th_fetch(device, &p->d[i], NULL, grad_name[i], message, room))
      return false;
  return true;
}

static void backward_faults(const th_device *device, clattn_context *other) {
  grad_problem p;
  clattn_args good, args;
  clattn_grads good_grads, grads;
  clattn_plan *plan = NULL;
  clattn_event *event = NULL;
  clattn_queue *queue = device->queue, *other_queue = NULL;
  clattn_buffer *small = NULL;
  clattn_event *const nothing[1] = {NULL};
  char message[256];
  fault f;
  grad_problem_init(&p, &full, 1);
  attn_problem_bind(&p.attn, device, &good);
  grad_problem_bind(&p, device, &good_grads);
  TH_OK(
      clattn_plan_create(device->context, device->index, &p.attn.desc, &plan));
  TH_OK(clattn_buffer_create(other, 0, 4096, &elsewhere));
  TH_OK(clattn_queue_create(other, 0, &other_queue));
  TH_OK(clattn_buffer_create(device->context, device->index, 1, &small));
  TH_OK(clattn_execute(plan, queue, &good, NULL, NULL, 0, NULL));
  for (int n = 0;; n++) {
    args = good, grads = good_grads;
    event = (clattn_event *)&p;
    if (!grads_fault(n, &f, &args, &grads)) break;
    expect(clattn_backward(plan, queue, &args, &grads, NULL, NULL, 0, &event),
           &f, device->info.name);
    cr_expect_null(event, "with %s", f.what);
    TH_OK(clattn_queue_finish(queue));
    cr_expect(unchanged(device, &p, message, sizeof message), "with %s: %s",
              f.what, message);
  }
  args = good, grads = good_grads;
#define BACKWARD(plan, queue, args, grads, scratch, wait, n)                   \
  clattn_backward(plan, queue, args, grads, scratch, wait, n, NULL)
  FAILS(INVALID_ARGUMENT, "plan",
        BACKWARD(NULL, queue, &args, &grads, NULL, NULL, 0));
  FAILS(INVALID_ARGUMENT, "queue",
        BACKWARD(plan, NULL, &args, &grads, NULL, NULL, 0));
  FAILS(INVALID_ARGUMENT, "queue",
        BACKWARD(plan, other_queue, &args, &grads, NULL, NULL, 0));
  FAILS(INVALID_ARGUMENT, "args",
        BACKWARD(plan, queue, NULL, &grads, NULL, NULL, 0));
  FAILS(INVALID_ARGUMENT, "grads",
        BACKWARD(plan, queue, &args, NULL, NULL, NULL, 0));
  FAILS(INVALID_ARGUMENT, "wait",
        BACKWARD(plan, queue, &args, &grads, NULL, NULL, 1));
  FAILS(INVALID_ARGUMENT, "wait",
        BACKWARD(plan, queue, &args, &grads, NULL, nothing, 1));
  FAILS(INVALID_ARGUMENT, "scratch",
        BACKWARD(plan, queue, &args, &grads, elsewhere, NULL, 0));
  size_t bytes = 77;
  FAILS(INVALID_ARGUMENT, "plan",
        clattn_plan_backward_scratch_bytes(NULL, 1, 1, 1, &bytes));
  FAILS(INVALID_ARGUMENT, "bytes",
        clattn_plan_backward_scratch_bytes(plan, 1, 1, 1, NULL));
  FAILS(INVALID_ARGUMENT, "batch",
        clattn_plan_backward_scratch_bytes(plan, 0, 1, 1, &bytes));
  FAILS(INVALID_ARGUMENT, "q_len",
        clattn_plan_backward_scratch_bytes(plan, 1, -1, 1, &bytes));
  FAILS(INVALID_ARGUMENT, "kv_len",
        clattn_plan_backward_scratch_bytes(plan, 1, 1, INT64_MAX, &bytes));
  cr_expect_eq(bytes, 77);
  TH_OK(clattn_plan_backward_scratch_bytes(plan, 2, 3, 5, &bytes));
  if (bytes > 1)
    FAILS(INVALID_ARGUMENT, "scratch",
          BACKWARD(plan, queue, &args, &grads, small, NULL, 0));
  cr_expect(unchanged(device, &p, message, sizeof message), "%s", message);
  clattn_plan_destroy(plan);

  /* a plan of one direction */
  p.attn.desc.backward = false;
  TH_OK(
      clattn_plan_create(device->context, device->index, &p.attn.desc, &plan));
  FAILS(INVALID_ARGUMENT, "backward",
        BACKWARD(plan, queue, &args, &grads, NULL, NULL, 0));
  FAILS(INVALID_ARGUMENT, "backward",
        clattn_plan_backward_scratch_bytes(plan, 1, 1, 1, &bytes));
  cr_expect(unchanged(device, &p, message, sizeof message), "%s", message);
  clattn_plan_destroy(plan);
  p.attn.desc.backward = true;

  plan = (clattn_plan *)&p;
  p.attn.desc.outputs = 0; /* no lse to make the weights from */
  FAILS(
      INVALID_ARGUMENT, "backward",
      clattn_plan_create(device->context, device->index, &p.attn.desc, &plan));
  cr_expect_null(plan);

  /* nothing above has done harm */
  p.attn.desc.outputs = CLATTN_OUT_LSE;
  attn_problem_unbind(&p.attn), grad_problem_unbind(&p);
  cr_expect_eq(
      grad_problem_run(&p, device, CLATTN_AUTO, NULL, message, sizeof message),
      TC_PASS, "%s", message);
  clattn_buffer_destroy(small);
  clattn_buffer_destroy(elsewhere);
  clattn_queue_destroy(other_queue);
  grad_problem_free(&p);
}

Test(errors, backward) {
  const th_devices *devices = th_open(false);
  clattn_context *other = another_context();
  clattn_grads_init(NULL);
  for (int d = 0; d < devices->count; d++)
    backward_faults(&devices->device[d], other);
  clattn_context_destroy(other);
  th_shut();
}

/* ---- dropout ------------------------------------------------------------- */

Test(errors, dropout) {
  static const float bad[] = {-1e-30f, -1, 1, 1.5f, NAN, INFINITY, -INFINITY};
  const th_devices *devices = th_open(false);
  char message[256];
  for (int d = 0; d < devices->count; d++) {
    const th_device *device = &devices->device[d];
    attn_problem p;
    clattn_args args;
    clattn_plan *plan = NULL;
    attn_problem_init(&p, &(attn_case){.name = "dropout", .sq = 3, .d = 4}, 1);
    attn_problem_bind(&p, device, &args);
    TH_OK(clattn_plan_create(device->context, device->index, &p.desc, &plan));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
      args.dropout = bad[i];
      FAILS(INVALID_ARGUMENT, "dropout",
            clattn_execute(plan, device->queue, &args, NULL, NULL, 0, NULL));
    }
    TH_OK(clattn_queue_finish(device->queue));
    cr_expect(th_fetch(device, &p.out, NULL, "out", message, sizeof message),
              "%s", message);
    clattn_plan_destroy(plan);
    attn_problem_free(&p);
  }
  th_shut();
}

/* ---- clattn_linear_backward ---------------------------------------------- */

typedef struct linear_grads {
  clattn_tensor x, w, d_out, d_x, d_w, d_bias;
  uint32_t accumulate;
} linear_grads;

static bool linear_fault(int n, fault *f, linear_grads *g) {
  BAD("d_out", g->d_out.buffer = NULL)
  BAD("d_out", g->d_out.dtype = CLATTN_I32)
  BAD("extent", g->d_out.extent[2]++)
  BAD("extent", g->d_out.extent[3]--)
  BAD("d_out", g->d_out.extent[1] = 2)
  BAD("d_out", g->d_out.buffer = elsewhere)
  BAD("x", g->x.buffer = NULL)
  BAD("x", g->x.dtype = CLATTN_BOOL)
  BAD("w", g->w.buffer = NULL)
  BAD("w", g->w.dtype = CLATTN_I64)
  BAD("", g->w.extent[3]++)
  BAD("d_x", g->d_x.dtype = CLATTN_I32)
  BAD("d_x", g->d_x.extent[3]++)
  BAD("d_x", g->d_x.stride[2] = 0)
  BAD("d_x", g->d_x = g->d_out, g->d_x.extent[3] = 7)
  BAD("d_x", g->d_x = g->x)
  BAD("d_w", g->d_w.extent[2]--)
  BAD("d_w", g->d_w = g->w)
  BAD("d_w", g->d_w.stride[3] = 0)
  BAD("d_w", g->d_w.buffer = elsewhere)
  BAD("d_bias", g->d_bias.extent[3]--)
  BAD("d_bias", g->d_bias.dtype = (clattn_dtype)0)
  BAD("d_", g->d_bias.buffer = g->d_w.buffer)
  BAD("accumulate", g->accumulate = 4)
  return false;
}

Test(errors, linear_backward) {
  enum { B = 2, M = 5, N = 6, K = 7 };
  const th_devices *devices = th_open(false);
  clattn_context *other = another_context();
  TH_OK(clattn_buffer_create(other, 0, 4096, &elsewhere));
  for (int d = 0; d < devices->count; d++) {
    const th_device *device = &devices->device[d];
    th_pool pool = {0};
    th_rng rng = {1};
    char message[256];
    fault f;
    const int64_t extent[6][4] = {{B, 1, M, K}, {1, 1, N, K}, {B, 1, M, N},
                                  {B, 1, M, K}, {1, 1, N, K}, {1, 1, 1, N}};
    th_tensor t[6];
    for (int i = 0; i < 6; i++) {
      double *v =
          i < 3 ? th_values(&pool, &rng, CLATTN_F32, th_count(extent[i]), 1)
                : NULL;
      t[i] = th_make(&pool, CLATTN_F32, extent[i], TH_BHSD, v);
      th_bind(device, &t[i]);
    }
    const linear_grads good = {t[0].view, t[1].view, t[2].view, t[3].view,
                               t[4].view, t[5].view, 0};
    for (int n = 0;; n++) {
      linear_grads g = good;
      if (!linear_fault(n, &f, &g)) break;
      expect(clattn_linear_backward(device->queue, &g.x, &g.w, &g.d_out, &g.d_x,
                                    &g.d_w, &g.d_bias, g.accumulate, NULL, 0,
                                    NULL),
             &f, device->info.name);
      TH_OK(clattn_queue_finish(device->queue));
      for (int i = 3; i < 6; i++)
        cr_expect(th_fetch(device, &t[i], NULL, "d", message, sizeof message),
                  "with %s: %s", f.what, message);
    }
    FAILS(INVALID_ARGUMENT, "queue",
          clattn_linear_backward(NULL, &good.x, &good.w, &good.d_out, &good.d_x,
                                 NULL, NULL, 0, NULL, 0, NULL));
    FAILS(INVALID_ARGUMENT, "d_out",
          clattn_linear_backward(device->queue, &good.x, &good.w, NULL,
                                 &good.d_x, NULL, NULL, 0, NULL, 0, NULL));
    FAILS(INVALID_ARGUMENT, "w",
          clattn_linear_backward(device->queue, &good.x, NULL, &good.d_out,
                                 &good.d_x, NULL, NULL, 0, NULL, 0, NULL));
    FAILS(INVALID_ARGUMENT, "x",
          clattn_linear_backward(device->queue, NULL, &good.w, &good.d_out,
                                 NULL, &good.d_w, NULL, 0, NULL, 0, NULL));
    for (int i = 0; i < 6; i++) th_unbind(&t[i]);
    th_pool_free(&pool);
  }
  clattn_buffer_destroy(elsewhere);
  clattn_context_destroy(other);
  th_shut();
}
