/* Gradients of attention: the oracle against differences of its own forward,
 * then the library against the oracle on every device and path. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "../support/grad_case.h"

#define COUNT(array) (int)(sizeof(array) / sizeof *(array))

/* ---- the oracle itself --------------------------------------------------- */

static double loss(const ora_attention *a, const double *d_out) {
  ora_result r = ora_attend(a);
  double sum = 0;
  int64_t n = a->batch * a->q_heads * a->q_len * a->v_dim;
  for (int64_t i = 0; i < n; i++) sum += d_out[i] * r.out[i];
  ora_result_free(&r);
  return sum;
}

/* The loss with x moved by h along u. */
static double moved(const ora_attention *a, const double *d_out, double *x,
                    const double *u, int64_t n, double h) {
  double *keep = malloc((size_t)n * sizeof *keep);
  if (!keep) abort();
  memcpy(keep, x, (size_t)n * sizeof *keep);
  for (int64_t i = 0; i < n; i++)
    if (u[i] != 0) x[i] += h * u[i];
  double value = loss(a, d_out);
  memcpy(x, keep, (size_t)n * sizeof *keep);
  free(keep);
  return value;
}

/* Differences of order four along u against the gradient. */
static void expect_slope(const ora_attention *a, const double *d_out, double *x,
                         const double *u, const ora_grad *g, const char *name,
                         const attn_case *c) {
  const double h = 1e-4;
  double near =
      moved(a, d_out, x, u, g->n, h) - moved(a, d_out, x, u, g->n, -h);
  double far =
      moved(a, d_out, x, u, g->n, 2 * h) - moved(a, d_out, x, u, g->n, -2 * h);
  double slope = (8 * near - far) / (12 * h), want = 0, size = 0;
  for (int64_t i = 0; i < g->n; i++) {
    want += g->v[i] * u[i];
    size += fabs(g->v[i]);
  }
  double tol = 1e-6 * (fabs(want) + size / (double)g->n) + 1e-9;
  if (fabs(slope - want) <= tol) return;
  char text[1024];
  attn_case_print(c, text, sizeof text);
  cr_expect(false, "%s: differences give %.12g, the oracle %.12g\n  %s", name,
            slope, want, text);
}

static void expect_slopes(attn_problem *p, const double *d_out,
                          const th_tensor *t, const ora_grad *g,
                          const char *name, th_rng *rng) {
  if (!t->image) return;
  double *u = malloc((size_t)g->n * sizeof *u);
  if (!u) abort();
  for (int turn = 0; turn < 4; turn++) { /* one along all, three along one */
    int one = th_below(rng, (int)g->n);
    for (int64_t i = 0; i < g->n; i++)
      u[i] = !isfinite(t->v[i]) ? 0
             : turn == 0        ? th_uniform(rng, -1, 1)
                                : i == one;
    expect_slope(&p->oracle, d_out, t->v, u, g, name, &p->c);
  }
  free(u);
}

Test(gradients, oracle_against_differences) {
  th_rng rng = {271828};
  for (int i = 0; i < (th_small() ? 60 : 300); i++) {
    attn_case c = attn_case_random(&rng);
    attn_problem p;
    c.b = 1 + i % 2, c.hk = 1 + c.hk % 2, c.hq = c.hk * (1 + i % 3 % 2);
    c.sq = 1 + c.sq % 5, c.skv = c.pack == PACK_QKV ? c.sq : 1 + c.skv % 9;
    c.d = 1 + c.d % 5, c.dv = 1 + c.dv % 5;
    c.size = 1, c.poison = POISON_NONE, c.weights = false;
    attn_problem_init(&p, &c, th_next(&rng));
    double *d_out = th_values(&p.pool, &rng, CLATTN_F32, p.out.n, 1);
    ora_grads g = ora_backward(&p.oracle, d_out);
    expect_slopes(&p, d_out, &p.q, &g.q, "d_q", &rng);
    expect_slopes(&p, d_out, &p.k, &g.k, "d_k", &rng);
    expect_slopes(&p, d_out, &p.v, &g.v, "d_v", &rng);
    expect_slopes(&p, d_out, &p.bias, &g.bias, "d_bias", &rng);
    expect_slopes(&p, d_out, &p.sinks, &g.sinks, "d_sinks", &rng);
    ora_grads_free(&g);
    attn_problem_free(&p);
  }
}

/* ---- the library against the oracle -------------------------------------- */

#define ATTN(...) .attn = {__VA_ARGS__}

static const grad_case table[] = {
    {ATTN("one of everything", .sq = 1, .d = 1)},
    {ATTN("mha", .b = 2, .hq = 3, .sq = 7, .d = 16)},
    {ATTN("gqa", .b = 2, .hq = 6, .hk = 2, .sq = 5, .skv = 11, .d = 8)},
    {ATTN("mqa, value dim", .hq = 4, .hk = 1, .sq = 6, .d = 8, .dv = 3)},
    {ATTN("value dim larger", .b = 2, .hq = 2, .sq = 6, .d = 5, .dv = 40)},
    {ATTN("causal", .b = 2, .hq = 2, .sq = 12, .d = 16, .causal = true)},
    {ATTN("f16", .hq = 4, .hk = 2, .sq = 17, .skv = 33, .d = 64,
          .dtype = CLATTN_F16)},
    {ATTN("f16, d_out f32", .hq = 4, .hk = 2, .sq = 17, .skv = 33, .d = 64,
          .dtype = CLATTN_F16),
     .d_out = CLATTN_F32, .type = {CLATTN_F32, CLATTN_F32, CLATTN_F32}},
    {ATTN("bf16", .hq = 4, .hk = 2, .sq = 17, .skv = 33, .d = 64,
          .dtype = CLATTN_BF16)},
    {ATTN("packed, bshd", .b = 2, .hq = 4, .hk = 2, .sq = 9, .d = 16,
          .pack = PACK_QKV, .out_layout = TH_BSHD, .causal = true),
     .layout = TH_BSHD, .d_out_layout = TH_BSHD},
    {ATTN("accumulate all", .b = 2, .hq = 4, .hk = 2, .sq = 9, .d = 12,
          .bias = "1hqk", .sinks = SINKS_SOME),
     .accumulate = CLATTN_ADD_TO_INPUTS | CLATTN_ADD_TO_WEIGHTS},
    {ATTN("accumulate in f16", .hq = 4, .hk = 2, .sq = 9, .d = 12,
          .bias = "11qk", .dtype = CLATTN_F16, .bias_dtype = CLATTN_BF16),
     .accumulate = CLATTN_ADD_TO_INPUTS | CLATTN_ADD_TO_WEIGHTS,
     .layout = TH_GAPS},
    {ATTN("only d_q", .hq = 2, .sq = 9, .d = 12),
     .absent = {false, true, true, true, true}},
    {ATTN("only d_v", .hq = 2, .sq = 9, .d = 12),
     .absent = {true, true, false, true, true}},
    {ATTN("only d_bias", .hq = 2, .sq = 9, .d = 12, .bias = "1hqk"),
     .absent = {true, true, true, false, true}},
    {ATTN("only d_sinks", .hq = 2, .sq = 9, .d = 12, .sinks = SINKS_SOME),
     .absent = {true, true, true, true, false}},
    {ATTN("softcap", .hq = 2, .sq = 9, .d = 16, .softcap = 2, .size = 4)},
    {ATTN("saturated softcap", .hq = 2, .sq = 9, .d = 16, .softcap = 0.5,
          .scale = 1, .size = 6)},
    {ATTN("temperature and scale", .hq = 2, .sq = 9, .d = 16,
          .temperature = 0.4, .scale = -0.7)},
    {ATTN("alibi, window", .b = 2, .hq = 4, .sq = 20, .skv = 30, .d = 8,
          .causal = true, .slopes = true, .windowed = true, .left = 7,
          .right = -1)},
    {ATTN("empty batch", .b = 3, .hq = 2, .sq = 5, .skv = 17, .d = 8,
          .lengths = LEN_I32, .empty_batch = true, .causal = true,
          .poison = POISON_HIDDEN, .poison_rows = true),
     .poison_out = true},
    {ATTN("empty batch, sinks", .b = 3, .hq = 2, .sq = 5, .skv = 17, .d = 8,
          .lengths = LEN_I64, .empty_batch = true, .sinks = SINKS_INF,
          .poison = POISON_HIDDEN, .poison_rows = true),
     .poison_out = true},
    {ATTN("dead rows by mask", .b = 2, .hq = 2, .sq = 9, .skv = 5, .d = 8,
          .mask = "bhqk", .hide_percent = 80, .poison = POISON_HIDDEN,
          .poison_rows = true),
     .poison_out = true},
    {ATTN("dead rows by bias", .b = 2, .hq = 2, .sq = 9, .skv = 2, .d = 8,
          .bias = "bhqk", .bias_inf = true, .poison = POISON_HIDDEN,
          .poison_rows = true),
     .poison_out = true},
    {ATTN("before the first key", .hq = 2, .sq = 12, .skv = 5, .d = 8,
          .causal = true, .poison_rows = true),
     .poison_out = true},
    {ATTN("dropout", .b = 2, .hq = 4, .hk = 2, .sq = 9, .skv = 33, .d = 16,
          .dropout = 0.5)},
    {ATTN("dropout 0.1, causal, f16", .b = 2, .hq = 4, .sq = 33, .d = 16,
          .dtype = CLATTN_F16, .dropout = 0.1, .causal = true)},
    {ATTN("weights beside", .b = 2, .hq = 2, .sq = 9, .skv = 33, .d = 16,
          .weights = true, .dropout = 0.3)},
    {ATTN("all rules", .b = 3, .hq = 4, .hk = 2, .sq = 13, .skv = 40, .d = 16,
          .dv = 24, .lengths = LEN_I64, .sinks = SINKS_SOME, .slopes = true,
          .softcap = 3, .mask = "b11k", .key_mask = "bk", .bias = "1hqk",
          .bias_inf = true, .temperature = 0.7, .causal = true,
          .own_scratch = true, .poison = POISON_HIDDEN, .poison_rows = true,
          .dropout = 0.2),
     .poison_out = true, .accumulate = CLATTN_ADD_TO_WEIGHTS},
};

#define SKIP_IF_NONE(devices)                                                  \
  if ((devices)->count == 0)                                                   \
    cr_skip_test(                                                              \
        "no device of this kind under "                                        \
        "test");

static void finish(const char *what, const tc_tally *t) {
  cr_log_info("%s: %d passed, %d failed, %d skipped", what, t->passed,
              t->failed, t->skipped);
  th_shut();
  cr_assert_eq(t->failed, 0, "%s: %d failed", what, t->failed);
}

static void run_table(bool forced) {
  const th_devices *devices = th_open(forced);
  SKIP_IF_NONE(devices)
  tc_tally tally = {0};
  grad_run_all(devices, table, COUNT(table), 3000, &tally);
  finish("table of gradients", &tally);
}

/* A bias broadcast in each of the 16 ways, of each type. */
static void run_biases(bool forced) {
  const th_devices *devices = th_open(forced);
  SKIP_IF_NONE(devices)
  tc_tally tally = {0};
  for (int i = 0; i < 16; i++) {
    char name[5] = {0};
    for (int d = 0; d < 4; d++) name[d] = i >> d & 1 ? '1' : "bhqk"[d];
    grad_case c = {ATTN("bias broadcast", .b = 2, .hq = 4, .hk = 2, .sq = 7,
                        .skv = 70, .d = 8, .bias = name, .bias_inf = i % 2 == 0,
                        .causal = i % 3 == 0),
                   .layout = (th_layout)(i % TH_LAYOUTS),
                   .accumulate = i % 4 == 3 ? CLATTN_ADD_TO_WEIGHTS : 0};
    c.attn.bias_dtype =
        (clattn_dtype[]){CLATTN_F32, CLATTN_F16, CLATTN_BF16}[i % 3];
    grad_run_all(devices, &c, 1, 4000 + (uint64_t)i, &tally);
  }
  finish("biases", &tally);
}

/* Lengths on both sides of the edges of blocks, and over several. */
static void run_lengths(bool forced) {
  static const int queries[4] = {1, 64, 65, 200}, keys[4] = {65, 130, 300, 700};
  const th_devices *devices = th_open(forced);
  SKIP_IF_NONE(devices)
  tc_tally tally = {0};
  for (int i = 0; i < 16; i++) {
    int sq = queries[i % 4], skv = keys[i / 4];
    if (th_small() && sq * skv > 10000) continue;
    if (forced && sq * skv > 70000) continue;
    grad_case c = {ATTN("lengths", .hq = 2, .hk = 1 + i % 2, .sq = sq,
                        .skv = skv, .d = 16, .causal = (i + i / 4) % 2 == 0)};
    if (i % 5 == 1) c.attn.dtype = CLATTN_F16;
    if (i % 3 == 2) c.attn.dropout = 0.3;
    if (i % 5 == 2) c.attn.windowed = true, c.attn.left = 70, c.attn.right = 9;
    if (i % 7 == 3) c.attn.bias = "11qk";
    if (i % 7 == 4) c.attn.sinks = SINKS_SOME, c.attn.own_scratch = true;
    grad_run_all(devices, &c, 1, 5000 + (uint64_t)i, &tally);
  }
  finish("lengths", &tally);
}

static void run_random(bool forced, int n) {
  const th_devices *devices = th_open(forced);
  SKIP_IF_NONE(devices)
  tc_tally tally = {0};
  th_rng rng = {forced ? 31415926u : 27182818u};
  for (int i = 0; i < n; i++) {
    grad_case c = grad_case_random(&rng);
    uint64_t seed = th_next(&rng);
    int64_t size = (int64_t)c.attn.b * c.attn.hq * c.attn.sq * c.attn.skv;
    if (th_small() && size > 2000) continue;
    grad_run_all(devices, &c, 1, seed, &tally);
  }
  finish("random gradients", &tally);
}

Test(gradients, table) { run_table(false); }
Test(gradients, bias_broadcast) { run_biases(false); }
Test(gradients, lengths) { run_lengths(false); }
Test(gradients, random) { run_random(false, th_small() ? 40 : 300); }
Test(gradients_gpu, table) { run_table(true); }
Test(gradients_gpu, bias_broadcast) { run_biases(true); }
Test(gradients_gpu, lengths) { run_lengths(true); }
Test(gradients_gpu, random) { run_random(true, th_small() ? 20 : 100); }

/* ---- determinism, memory ------------------------------------------------- */

/* The same bits whatever the number of threads. */
Test(gradients, threads_change_nothing) {
  enum { THREADS = 3, CASES = 40 };
  th_device device[THREADS] = {0};
  char message[512];
  for (int t = 0; t < THREADS; t++) {
    clattn_context_config config;
    clattn_context_config_init(&config);
    config.backend = CLATTN_CPU;
    config.cpu_threads = t + 1;
    TH_OK(clattn_context_create(&config, &device[t].context));
    TH_OK(clattn_queue_create(device[t].context, 0, &device[t].queue));
  }
  th_rng rng = {161803};
  for (int i = 0; i < (th_small() ? 8 : CASES); i++) {
    grad_case c = grad_case_random(&rng);
    c.attn.weights = false;
    if (i % 4 == 0) c.attn.sq = 70, c.attn.skv = 150, c.attn.pack = PACK_NONE;
    grad_problem p;
    grad_problem_init(&p, &c, (uint64_t)i);
    for (int path = 0; path < TC_PATHS; path++) {
      double *got[THREADS][GRADS] = {0};
      for (int t = 0; t < THREADS; t++) {
        tc_result result = grad_problem_run(&p, &device[t], (clattn_path)path,
                                            got[t], message, sizeof message);
        cr_expect_neq(result, TC_FAIL, "case %d, %s, %d threads: %s", i,
                      tc_path_name[path], t + 1, message);
        for (int g = 0; t > 0 && g < GRADS; g++)
          if (got[0][g] && got[t][g])
            cr_expect_eq(
                memcmp(got[0][g], got[t][g], (size_t)p.d[g].n * sizeof(double)),
                0, "case %d, %s: %s with %d threads and with 1", i,
                tc_path_name[path], grad_name[g], t + 1);
      }
    }
    grad_problem_free(&p);
  }
  for (int t = 0; t < THREADS; t++) {
    clattn_queue_destroy(device[t].queue);
    clattn_context_destroy(device[t].context);
  }
}

/* Scratch of the fused path grows with the length at most linearly. */
Test(gradients, fused_memory_is_linear) {
  for (int forced = 0; forced < 2; forced++) {
    const th_devices *devices = th_open(forced);
    for (int d = 0; d < devices->count; d++) {
      clattn_plan *plan = NULL;
      clattn_desc desc;
      size_t small = 0, large = 0;
      clattn_desc_init(&desc);
      desc.q_heads = 4, desc.kv_heads = 2;
      desc.qk_dim = desc.v_dim = 64;
      desc.outputs = CLATTN_OUT_LSE;
      desc.backward = true;
      desc.path = CLATTN_FUSED;
      TH_OK(clattn_plan_create(devices->device[d].context,
                               devices->device[d].index, &desc, &plan));
      TH_OK(clattn_plan_backward_scratch_bytes(plan, 1, 4096, 4096, &small));
      TH_OK(clattn_plan_backward_scratch_bytes(plan, 1, 8192, 8192, &large));
      cr_expect_leq(large, 2 * small + (1 << 16), "%zu then %zu", small, large);
      clattn_plan_destroy(plan);
    }
  }
  th_shut();
}

/* One plan serves every length, forward and backward in turns. */
Test(gradients, one_plan_many_lengths) {
  static const int lengths[][3] = {{1, 1, 1},  {2, 7, 7},    {1, 1, 300},
                                   {3, 2, 65}, {1, 130, 70}, {1, 1, 1}};
  const th_devices *devices = th_open(false);
  char message[256];
  for (int d = 0; d < devices->count; d++)
    for (int path = 0; path < TC_PATHS; path++) {
      const th_device *device = &devices->device[d];
      clattn_plan *plan = NULL;
      for (int i = 0; i < COUNT(lengths); i++) {
        grad_case c = {ATTN("lengths", .b = lengths[i][0], .hq = 4, .hk = 2,
                            .sq = lengths[i][1], .skv = lengths[i][2], .d = 20,
                            .causal = true)};
        grad_problem p;
        clattn_args args;
        clattn_grads grads;
        if (th_small() && c.attn.sq * c.attn.skv > 300) continue;
        grad_problem_init(&p, &c, (uint64_t)i);
        if (!plan &&
            attn_problem_plan(&p.attn, device, (clattn_path)path, &plan,
                              message, sizeof message) == TC_SKIP) {
          grad_problem_free(&p);
          break;
        }
        cr_assert(plan, "%s", message);
        attn_problem_bind(&p.attn, device, &args);
        grad_problem_bind(&p, device, &grads);
        TH_OK(clattn_execute(plan, device->queue, &args, NULL, NULL, 0, NULL));
        clattn_event *event = NULL;
        TH_OK(clattn_backward(plan, device->queue, &args, &grads, NULL, NULL, 0,
                              &event));
        TH_OK(clattn_event_wait(event));
        clattn_event_destroy(event);
        for (int g = 0; g < GRAD_BIAS; g++) {
          double *got = th_alloc(&p.attn.pool, (size_t)p.d[g].n * sizeof *got);
          cr_assert(th_fetch(device, &p.d[g], got, grad_name[g], message,
                             sizeof message) &&
                        th_close(p.d[g].n, got, p.want[g], p.tol[g], false,
                                 grad_name[g], message, sizeof message),
                    "%s, lengths %d: %s", tc_path_name[path], i, message);
        }
        grad_problem_free(&p);
      }
      clattn_plan_destroy(plan);
    }
  th_shut();
}
