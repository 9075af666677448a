/* grad_case.c - see grad_case.h. */
#include "grad_case.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const grad_name[GRADS] = {"d_q", "d_k", "d_v", "d_bias", "d_sinks"};

/* What gradient i belongs to. */
static const th_tensor *owner(const grad_problem *p, int i) {
  const th_tensor *t[GRADS] = {&p->attn.q, &p->attn.k, &p->attn.v,
                               &p->attn.bias, &p->attn.sinks};
  return t[i];
}

static void make_d_out(grad_problem *p, th_rng *rng) {
  const attn_case *c = &p->attn.c;
  const int64_t *extent = p->attn.out.view.extent;
  clattn_dtype type = p->c.d_out ? p->c.d_out : c->dtype;
  double *v = th_values(&p->attn.pool, rng, type, th_count(extent),
                        p->c.size > 0 ? p->c.size : 1);
  const double bad[3] = {NAN, INFINITY, -INFINITY};
  int n = 0;
  for (int b = 0; p->c.poison_out && b < c->b; b++)
    for (int h = 0; h < c->hq; h++)
      for (int i = 0; i < c->sq; i++) {
        if (attn_row_alive(&p->attn, b, h, i)) continue;
        double *row = v + (((int64_t)b * c->hq + h) * c->sq + i) * c->dv;
        for (int d = 0; d < c->dv; d++) row[d] = bad[n++ % 3];
      }
  p->d_out = th_make(&p->attn.pool, type, extent, p->c.d_out_layout, v);
}

void grad_problem_init(grad_problem *p, const grad_case *given, uint64_t seed) {
  th_rng rng = {seed ^ 0x6772616400000000u};
  *p = (grad_problem){.c = *given};
  p->c.attn.backward = true;
  attn_problem_init(&p->attn, &p->c.attn, seed);
  make_d_out(p, &rng);
  ora_grads g = ora_backward(&p->attn.oracle, p->d_out.v);
  const ora_grad *all[GRADS] = {&g.q, &g.k, &g.v, &g.bias, &g.sinks};
  for (int i = 0; i < GRADS; i++) {
    const th_tensor *of = owner(p, i);
    if (!of->image || p->c.absent[i]) continue;
    const ora_grad *want = all[i];
    clattn_dtype type = p->c.type[i] ? p->c.type[i] : of->view.dtype;
    const bool adds = p->c.accumulate & (i < GRAD_BIAS ? CLATTN_ADD_TO_INPUTS
                                                       : CLATTN_ADD_TO_WEIGHTS);
    for (int64_t j = 0; j < want->n; j++) /* no sums over the type's limit */
      if (fabs(want->v[j]) + want->tol[j] + 2 > 0.99 * th_type(type)->max)
        type = CLATTN_F32;
    double *held =
        adds ? th_values(&p->attn.pool, &rng, type, want->n, 1) : NULL;
    p->d[i] = th_make(&p->attn.pool, type, of->view.extent, p->c.layout, held);
    p->want[i] = th_alloc(&p->attn.pool, (size_t)want->n * sizeof(double));
    p->tol[i] = th_alloc(&p->attn.pool, (size_t)want->n * sizeof(double));
    for (int64_t j = 0; j < want->n; j++) {
      double before = adds ? p->d[i].v[j] : 0, sum = before + want->v[j];
      p->want[i][j] = sum;
      p->tol[i][j] = want->tol[j] + 0x1p-23 * fabs(before) + 1e-37 +
                     ora_rounding(th_type(type), sum);
    }
  }
  ora_grads_free(&g);
}

void grad_problem_unbind(grad_problem *p) {
  th_unbind(&p->d_out);
  for (int i = 0; i < GRADS; i++) th_unbind(&p->d[i]);
}

void grad_problem_free(grad_problem *p) {
  grad_problem_unbind(p);
  attn_problem_free(&p->attn);
}

void grad_problem_bind(grad_problem *p, const th_device *device,
                       clattn_grads *grads) {
  th_bind(device, &p->d_out);
  for (int i = 0; i < GRADS; i++) th_bind(device, &p->d[i]);
  clattn_grads_init(grads);
  grads->d_out = p->d_out.view;
  grads->d_q = p->d[GRAD_Q].view;
  grads->d_k = p->d[GRAD_K].view;
  grads->d_v = p->d[GRAD_V].view;
  grads->d_bias = p->d[GRAD_BIAS].view;
  grads->d_sinks = p->d[GRAD_SINKS].view;
  grads->accumulate = p->c.accumulate;
}

/* ---- running ------------------------------------------------------------- */

static bool failed(const char *what, clattn_status status, char *message,
                   size_t room) {
  if (status != CLATTN_OK)
    snprintf(message, room, "%s: %s: %s", what, clattn_status_name(status),
             clattn_error_message());
  return status != CLATTN_OK;
}

enum { CANARIES = 256 };

/* The gradients once, with scratch of exactly the size the plan asks for where
 * the case has its own. */
static bool backward(grad_problem *p, const th_device *device,
                     const clattn_plan *plan, const clattn_args *args,
                     const clattn_grads *grads, char *message, size_t room) {
  const attn_case *c = &p->attn.c;
  uint8_t canary[CANARIES];
  size_t bytes = 0;
  clattn_buffer *scratch = NULL;
  if (c->own_scratch) {
    TH_OK(
        clattn_plan_backward_scratch_bytes(plan, c->b, c->sq, c->skv, &bytes));
    TH_OK(clattn_buffer_create(device->context, device->index, bytes + CANARIES,
                               &scratch));
    memset(canary, 0xA5, CANARIES);
    TH_OK(clattn_buffer_write(device->queue, scratch, bytes, canary, CANARIES));
  }
  bool good = !failed("backward",
                      clattn_backward(plan, device->queue, args, grads, scratch,
                                      NULL, 0, NULL),
                      message, room) &&
              !failed("backward, finish", clattn_queue_finish(device->queue),
                      message, room);
  if (good && scratch) {
    TH_OK(clattn_buffer_read(device->queue, scratch, bytes, canary, CANARIES));
    for (int i = 0; good && i < CANARIES; i++)
      if (canary[i] != 0xA5) {
        snprintf(message, room, "byte %d behind %zu of scratch was overwritten",
                 i, bytes);
        good = false;
      }
  }
  clattn_buffer_destroy(scratch);
  return good;
}

/* Reads tensors of numbers into memory of the pool. */
static double *fetch(grad_problem *p, const th_device *device,
                     const th_tensor *t, const char *name, char *message,
                     size_t room) {
  double *got = th_alloc(&p->attn.pool, (size_t)t->n * sizeof *got);
  return th_fetch(device, t, got, name, message, room) ? got : NULL;
}

/* The same numbers, NaN and the sign of 0 included. */
static bool same_bits(const double *a, const double *b, int64_t n,
                      const char *name, const char *what, char *message,
                      size_t room) {
  for (int64_t i = 0; i < n; i++)
    if (memcmp(&a[i], &b[i], sizeof *a) != 0) {
      snprintf(message, room, "%s[%lld] %s: %.9g, then %.9g", name,
               (long long)i, what, a[i], b[i]);
      return false;
    }
  return true;
}

/* What forward wrote, and what nobody may write. */
static bool inputs_hold(grad_problem *p, const th_device *device,
                        const double *out, const double *lse, char *message,
                        size_t room) {
  attn_problem *a = &p->attn;
  const th_tensor *inputs[] = {&a->q,        &a->k,     &a->v,       &a->mask,
                               &a->key_mask, &a->bias,  &a->lengths, &a->starts,
                               &a->slopes,   &a->sinks, &p->d_out};
  for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++)
    if (!th_fetch(device, inputs[i], NULL, "an input of backward", message,
                  room))
      return false;
  const double *out2 = fetch(p, device, &a->out, "out", message, room);
  const double *lse2 = fetch(p, device, &a->lse, "lse", message, room);
  return out2 && lse2 &&
         same_bits(out, out2, a->out.n, "out", "changed in backward", message,
                   room) &&
         same_bits(lse, lse2, a->lse.n, "lse", "changed in backward", message,
                   room);
}

static bool run_plan(grad_problem *p, const th_device *device,
                     const clattn_plan *plan, double *got[GRADS], char *message,
                     size_t room) {
  attn_problem *a = &p->attn;
  clattn_args args;
  clattn_grads grads;
  double *first[GRADS] = {0};
  attn_problem_bind(a, device, &args);
  if (failed("execute",
             clattn_execute(plan, device->queue, &args, NULL, NULL, 0, NULL),
             message, room) ||
      failed("finish", clattn_queue_finish(device->queue), message, room) ||
      !attn_problem_check(a, device, message, room))
    return false;
  const double *out = fetch(p, device, &a->out, "out", message, room);
  const double *lse = fetch(p, device, &a->lse, "lse", message, room);
  for (int turn = 0; turn < 2; turn++) {
    grad_problem_unbind(p); /* what they held before is back */
    grad_problem_bind(p, device, &grads);
    if (!backward(p, device, plan, &args, &grads, message, room)) return false;
    for (int i = 0; i < GRADS; i++) {
      if (!p->d[i].image) continue;
      double *x = fetch(p, device, &p->d[i], grad_name[i], message, room);
      if (!x) return false;
      if (turn == 0 && !th_close(p->d[i].n, x, p->want[i], p->tol[i], false,
                                 grad_name[i], message, room))
        return false;
      if (turn == 1 && !same_bits(first[i], x, p->d[i].n, grad_name[i],
                                  "differs between runs", message, room))
        return false;
      first[i] = x;
    }
  }
  for (int i = 0; got && i < GRADS; i++) got[i] = first[i];
  return inputs_hold(p, device, out, lse, message, room);
}

/* Kernels for GPUs were asked for; a row that is refused is easily missed. */
static bool served_by_groups(const clattn_plan *plan, char *message,
                             size_t room) {
  const char *info = clattn_plan_info(plan);
  bool good = strstr(info, "used: fused backward, work-groups (GPU)") ||
              strstr(info, "used: unfused backward, work-groups (GPU)");
  if (!good) snprintf(message, room, "another row serves: %s", info);
  return good;
}

tc_result grad_problem_run(grad_problem *p, const th_device *device,
                           clattn_path path, double *got[GRADS], char *message,
                           size_t room) {
  clattn_plan *plan = NULL;
  tc_result planned =
      attn_problem_plan(&p->attn, device, path, &plan, message, room);
  if (planned != TC_PASS) return planned;
  bool good = !device->forced || served_by_groups(plan, message, room);
  good = good && run_plan(p, device, plan, got, message, room);
  attn_problem_unbind(&p->attn);
  grad_problem_unbind(p);
  clattn_plan_destroy(plan);
  return good ? TC_PASS : TC_FAIL;
}

/* ---- printing, drawing, running ------------------------------------------ */

void grad_case_print(const grad_case *c, char *text, size_t room) {
  attn_case_print(&c->attn, text, room);
  size_t used = strlen(text);
  snprintf(text + used, room - used,
           " d_out %d layout %d, gradients layout %d types %d%d%d%d%d absent "
           "%d%d%d%d%d accumulate %u poison_out %d",
           c->d_out, c->d_out_layout, c->layout, c->type[0], c->type[1],
           c->type[2], c->type[3], c->type[4], c->absent[0], c->absent[1],
           c->absent[2], c->absent[3], c->absent[4], c->accumulate,
           c->poison_out);
}

grad_case grad_case_random(th_rng *r) {
  static const clattn_dtype types[6] = {0,          0,          0,
                                        CLATTN_F32, CLATTN_F16, CLATTN_BF16};
  grad_case c = {.attn = attn_case_random(r)};
  c.attn.name = "random gradients";
  c.attn.backward = true;
  c.attn.weights = c.attn.weights && th_chance(r, 30);
  if (c.attn.size > 10) c.attn.size = 6;
  if (th_chance(r, 15)) c.attn.bias = NULL;
  c.attn.poison_rows = c.attn.poison && th_chance(r, 50);
  c.poison_out = c.attn.poison && th_chance(r, 50);
  if (c.attn.dtype != CLATTN_F32 && th_chance(r, 40)) c.d_out = CLATTN_F32;
  for (int i = 0; i < GRADS; i++) {
    c.type[i] = types[th_below(r, 6)];
    c.absent[i] = th_chance(r, 12);
  }
  if (c.absent[0] && c.absent[1]) c.absent[2] = false;
  c.d_out_layout = (th_layout)th_below(r, TH_LAYOUTS);
  c.layout = (th_layout)th_below(r, TH_LAYOUTS);
  if (th_chance(r, 40)) c.accumulate = (uint32_t)th_below(r, 4);
  if (th_chance(r, 20)) c.size = 8;
  return c;
}

void grad_run_all(const th_devices *devices, const grad_case *cases, int n,
                  uint64_t seed, tc_tally *tally) {
  char message[512], text[1500];
  for (int i = 0; i < n; i++) {
    grad_problem p;
    grad_problem_init(&p, &cases[i], seed + (uint64_t)i);
    for (int d = 0; d < devices->count; d++)
      for (int path = 0; path < TC_PATHS; path++) {
        const th_device *device = &devices->device[d];
        tc_result result = grad_problem_run(&p, device, (clattn_path)path, NULL,
                                            message, sizeof message);
        tally->passed += result == TC_PASS;
        tally->skipped += result == TC_SKIP;
        tally->failed += result == TC_FAIL;
        if (result != TC_FAIL || tally->failed > 40) continue;
        grad_case_print(&cases[i], text, sizeof text);
        fprintf(stderr, "%s (seed %llu) on %s%s, %s: %s\n  %s\n",
                cases[i].attn.name, (unsigned long long)(seed + (uint64_t)i),
                device->opencl ? "opencl" : "cpu",
                device->forced ? " with GPU kernels" : "", tc_path_name[path],
                message, text);
      }
    grad_problem_free(&p);
  }
}
