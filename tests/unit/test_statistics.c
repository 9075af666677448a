/* Statistics of attention on every device and with the kernels for GPUs, against
 * the oracle; and those of the layer, and what they refuse. */
#define _POSIX_C_SOURCE 200809L
#include <math.h>

#include "../support/stats_case.h"
#include "errors.h"

#define COUNT(array) (int)(sizeof(array) / sizeof *(array))

static void run(const th_device *device, const stats_case *c, uint64_t seed) {
  stats_problem p;
  char message[512] = "", text[1024];
  stats_problem_init(&p, c, seed);
  const clattn_path path = seed % 2 ? CLATTN_UNFUSED : CLATTN_AUTO;
  if (stats_problem_run(&p, device, path, message, sizeof message) != TC_PASS) {
    attn_case_print(&p.c.attn, text, sizeof text);
    cr_expect(false, "%s (seed %llu) on %s%s: %s\n  top %d map %d/%d; %s",
              c->attn.name, (unsigned long long)seed, device->info.name,
              device->forced ? " (gpu)" : "", message, c->top, c->map_rows,
              c->map_keys, text);
  }
  stats_problem_free(&p);
}

static const stats_case table[] = {
    {{.name = "one", .d = 4, .sq = 1, .skv = 1},
     .top = 1,
     .map_rows = 64,
     .map_keys = 64},
    {{.name = "plain",
      .b = 2,
      .hq = 4,
      .hk = 2,
      .sq = 130,
      .skv = 200,
      .d = 20},
     .top = 8,
     .map_rows = 64,
     .map_keys = 64},
    {{.name = "causal",
      .hq = 2,
      .sq = 150,
      .skv = 150,
      .d = 16,
      .causal = true},
     .top = 32,
     .map_rows = 100,
     .map_keys = 100},
    {{.name = "blocks of many tiles",
      .hq = 2,
      .sq = 300,
      .skv = 280,
      .d = 8,
      .causal = true},
     .map_rows = 290,
     .map_keys = 130},
    {{.name = "parts of many tiles, how much each key receives",
      .sq = 2200,
      .skv = 70,
      .d = 4,
      .causal = true},
     .map_rows = 2200,
     .map_keys = 1},
    {{.name = "parts of many tiles, a short last block",
      .b = 2,
      .hq = 2,
      .hk = 1,
      .sq = 1400,
      .skv = 90,
      .d = 5,
      .windowed = true,
      .left = 1350,
      .right = 30,
      .lengths = LEN_I32},
     .top = 2,
     .no_keys = true,
     .map_rows = 1300,
     .map_keys = 37},
    {{.name = "small blocks", .hq = 2, .sq = 40, .skv = 50, .d = 8},
     .top = 3,
     .map_rows = 7,
     .map_keys = 3},
    {{.name = "the weights themselves",
      .b = 2,
      .sq = 9,
      .skv = 11,
      .d = 8,
      .causal = true},
     .map_rows = 1,
     .map_keys = 1},
    {{.name = "a map alone", .sq = 70, .skv = 70, .d = 8, .lengths = LEN_I32},
     .map_rows = 4096,
     .map_keys = 4096,
     .no_entropy = true,
     .no_distance = true},
    {{.name = "keys alone", .sq = 70, .skv = 70, .d = 8},
     .top = 5,
     .no_rows = true,
     .no_entropy = true,
     .no_distance = true},
    {{.name = "weights alone", .sq = 70, .skv = 70, .d = 8},
     .top = 5,
     .no_keys = true,
     .no_entropy = true},
    {{.name = "decode",
      .b = 2,
      .hq = 4,
      .hk = 2,
      .sq = 1,
      .skv = 500,
      .d = 64,
      .lengths = LEN_I64,
      .empty_batch = true},
     .top = 8,
     .map_rows = 64,
     .map_keys = 64},
    {{.name = "equal weights", .sq = 70, .skv = 90, .d = 8, .zero_scale = true},
     .top = 9},
    {{.name = "rising weights",
      .hq = 2,
      .sq = 90,
      .skv = 90,
      .d = 8,
      .slopes = true,
      .causal = true,
      .scale = 0.01},
     .top = 32,
     .map_rows = 64,
     .map_keys = 128},
    {{.name = "underflow",
      .sq = 30,
      .skv = 40,
      .d = 16,
      .size = 30,
      .scale = 3},
     .top = 12,
     .map_rows = 64,
     .map_keys = 64},
    {{.name = "every rule",
      .b = 2,
      .hq = 4,
      .hk = 2,
      .sq = 70,
      .skv = 140,
      .d = 24,
      .dtype = CLATTN_F16,
      .causal = true,
      .windowed = true,
      .left = 60,
      .right = -1,
      .mask = "b11k",
      .key_mask = "bk",
      .bias = "1hqk",
      .bias_inf = true,
      .slopes = true,
      .sinks = SINKS_SOME,
      .softcap = 5,
      .temperature = 0.8,
      .start = START_I64,
      .lengths = LEN_I32,
      .poison = POISON_HIDDEN,
      .dropout = 0.5},
     .top = 6,
     .map_rows = 50,
     .map_keys = 30},
};

static void run_table(const th_device *device) {
  for (int i = 0; i < COUNT(table); i++) {
    if (th_small() && table[i].attn.sq * table[i].attn.skv > 3000) continue;
    run(device, &table[i], (uint64_t)i);
  }
}
Test(statistics, table) { th_each_device(run_table); }

static void run_random(const th_device *device) {
  th_rng rng = {20261121};
  for (int n = th_small() ? 20 : device->forced ? 60 : 100; n > 0; n--) {
    stats_case c = {.attn = attn_case_random(&rng)};
    if (th_chance(&rng, 10)) c.attn.sq += 90;
    c.top = th_chance(&rng, 60) ? 1 + th_below(&rng, 12) : 0;
    c.map_rows = th_chance(&rng, 60) ? 1 + th_below(&rng, 120) : 0;
    c.map_keys = 1 + th_below(&rng, 90);
    c.no_entropy = th_chance(&rng, 10), c.no_distance = th_chance(&rng, 10);
    c.layout = (th_layout)th_below(&rng, TH_LAYOUTS);
    run(device, &c, th_next(&rng));
  }
}
Test(statistics, random) { th_each_device(run_random); }

/* A row of NaN, beside one of numbers. */
static void nan_row(const th_device *device) {
  enum { SQ = 2, T = 3, D = 4 };
  float data[96];
  clattn_buffer *at;
  for (int i = 0; i < 96; i++) data[i] = i < D ? NAN : 0.5f;
  TH_OK(clattn_buffer_create(device->context, device->index, sizeof data, &at));
  TH_OK(clattn_buffer_write(device->queue, at, 0, data, sizeof data));
  clattn_desc desc;
  clattn_plan *plan;
  clattn_desc_init(&desc);
  desc.q_heads = desc.kv_heads = 1, desc.qk_dim = desc.v_dim = D;
  desc.outputs = CLATTN_OUT_LSE;
  TH_OK(clattn_plan_create(device->context, device->index, &desc, &plan));
  clattn_args args;
  clattn_stats stats;
  clattn_args_init(&args);
  clattn_stats_init(&stats);
  args.q = clattn_view_bhsd(at, CLATTN_F32, 1, 1, SQ, D);
  args.k = args.v = clattn_view_bhsd(at, CLATTN_F32, 1, 1, T, D);
  args.k.offset = args.v.offset = 8;
  args.out = args.q, args.out.offset = 24;
  args.lse = clattn_view_bhsd(at, CLATTN_F32, 1, 1, SQ, 1);
  stats.entropy = stats.distance = stats.map = args.lse;
  stats.top_weights = stats.top_keys = args.lse;
  args.lse.offset = 40, stats.entropy.offset = 50, stats.distance.offset = 60;
  stats.top_weights.offset = 70, stats.top_keys.offset = 80;
  stats.top_keys.dtype = CLATTN_I32;
  stats.map.offset = 90, stats.map_rows = 1;
  TH_OK(clattn_execute(plan, device->queue, &args, NULL, NULL, 0, NULL));
  TH_OK(clattn_statistics(plan, device->queue, &args, &stats, NULL, 0, NULL));
  TH_OK(clattn_buffer_read(device->queue, at, 0, data, sizeof data));
  int32_t keys[SQ];
  memcpy(keys, &data[80], sizeof keys);
  cr_expect(isnan(data[50]) && isnan(data[60]) && isnan(data[70]) &&
                isnan(data[90]) && keys[0] == -1,
            "%g %g %g %g %d", (double)data[50], (double)data[60],
            (double)data[70], (double)data[90], keys[0]);
  cr_expect(fabsf(data[51] - logf(T)) < 1e-5f && fabsf(data[91] - 1) < 1e-5f &&
                fabsf(data[71] - 1.0f / T) < 1e-5f && keys[1] == 0,
            "%g %g %g %d", (double)data[51], (double)data[91], (double)data[71],
            keys[1]);
  clattn_plan_destroy(plan);
  clattn_buffer_destroy(at);
}
Test(statistics, nan_row) { th_each_device(nan_row); }

/* ---- the same bits whatever the number of threads -------------------------- */

enum { N = 200, BITS = 4 * N + N / 40 * 4 };

static void bits_of(int threads, uint32_t bits[BITS]) {
  clattn_context_config config;
  clattn_context *context;
  clattn_queue *queue;
  clattn_buffer *in, *out;
  clattn_context_config_init(&config);
  config.backend = CLATTN_CPU;
  config.cpu_threads = threads;
  TH_OK(clattn_context_create(&config, &context));
  TH_OK(clattn_queue_create(context, 0, &queue));
  float data[N * 12];
  th_rng rng = {4};
  for (int i = 0; i < N * 12; i++) data[i] = (float)th_uniform(&rng, -2, 2);
  TH_OK(clattn_buffer_create(context, 0, sizeof data, &in));
  TH_OK(clattn_buffer_create(context, 0, BITS * 4 + N * 20, &out));
  TH_OK(clattn_buffer_write(queue, in, 0, data, sizeof data));
  clattn_desc desc;
  clattn_plan *plan;
  clattn_desc_init(&desc);
  desc.q_heads = desc.kv_heads = 1, desc.qk_dim = desc.v_dim = 4;
  desc.causal = true, desc.outputs = CLATTN_OUT_LSE;
  TH_OK(clattn_plan_create(context, 0, &desc, &plan));
  clattn_args args;
  clattn_args_init(&args);
  args.q = clattn_view_bhsd(in, CLATTN_F32, 1, 1, N, 4);
  args.k = args.v = args.q;
  args.k.offset = 4 * N, args.v.offset = 8 * N;
  args.out = clattn_view_bhsd(out, CLATTN_F32, 1, 1, N, 4);
  args.out.offset = BITS;
  args.lse = clattn_view_bhsd(out, CLATTN_F32, 1, 1, N, 1);
  args.lse.offset = BITS + 4 * N;
  TH_OK(clattn_execute(plan, queue, &args, NULL, NULL, 0, NULL));
  clattn_stats stats;
  clattn_stats_init(&stats);
  stats.entropy = stats.distance =
      clattn_view_bhsd(out, CLATTN_F32, 1, 1, N, 1);
  stats.distance.offset = N;
  stats.top_weights = clattn_view_bhsd(out, CLATTN_F32, 1, 1, N, 1);
  stats.top_weights.offset = 2 * N;
  stats.top_keys = clattn_view_bhsd(out, CLATTN_I32, 1, 1, N, 1);
  stats.top_keys.offset = 3 * N;
  stats.map_rows = 150, stats.map_keys = 20;
  stats.map = clattn_view_bhsd(out, CLATTN_F32, 1, 1, 2, N / 20);
  stats.map.offset = 4 * N;
  TH_OK(clattn_statistics(plan, queue, &args, &stats, NULL, 0, NULL));
  TH_OK(clattn_buffer_read(queue, out, 0, bits, BITS * 4));
  clattn_plan_destroy(plan);
  clattn_buffer_destroy(in);
  clattn_buffer_destroy(out);
  clattn_queue_destroy(queue);
  clattn_context_destroy(context);
}

Test(statistics, same_bits) {
  uint32_t one[BITS], more[BITS];
  bits_of(1, one);
  for (int threads = 2; threads <= 5; threads++) {
    bits_of(threads, more);
    cr_expect(memcmp(one, more, sizeof one) == 0, "%d threads", threads);
  }
}

/* ---- bad arguments ----------------------------------------------------------- */

static bool fault_of(int n, fault *f, clattn_args *a, clattn_stats *s) {
  BAD("stats->struct_size", s->struct_size = 8)
  BAD("args->struct_size", a->struct_size = 8)
  BAD("args->q", a->q.extent[3]--)
  BAD("args->k", a->k.buffer = NULL)
  BAD("args->lse", a->lse.buffer = NULL)
  BAD("args->lse", a->lse.extent[2]--)
  BAD("args->q_start", a->q_start = (int64_t)1 << 40)
  BAD("stats->entropy", s->entropy.dtype = CLATTN_F16)
  BAD("stats->entropy", s->entropy.extent[3] = 2)
  BAD("stats->entropy", s->entropy = a->lse)
  BAD("stats->distance", s->distance = s->entropy)
  BAD("stats->distance", s->distance.stride[1] = 0)
  BAD("stats->top_weights", s->top_weights.extent[3] = 33)
  BAD("stats->top_weights", s->top_weights.extent[3] = 0)
  BAD("stats->top_weights", s->top_weights.buffer = elsewhere)
  BAD("stats->top_keys", s->top_keys.extent[3]--)
  BAD("stats->top_keys", s->top_keys.dtype = CLATTN_I64)
  BAD("stats->top_keys", s->top_weights.buffer = NULL,
      s->top_keys.extent[3] = 40)
  BAD("stats->map", s->map.extent[2]++)
  BAD("stats->map", s->map_keys = 7)
  BAD("stats->map_rows", s->map_rows = 0)
  BAD("stats->map_keys", s->map_keys = -64)
  BAD("stats->map_keys", s->map_keys = (int64_t)1 << 30)
  BAD("stats->map", s->map = a->q)
  return false;
}

static void errors(const th_device *device) {
  stats_problem p;
  clattn_args good, args;
  clattn_stats right, stats;
  clattn_plan *plan = NULL;
  char message[256];
  fault f;
  stats_problem_init(
      &p,
      &(stats_case){{.b = 2, .hq = 4, .hk = 2, .sq = 20, .skv = 30, .d = 8},
                    .top = 4,
                    .map_rows = 16,
                    .map_keys = 16},
      1);
  TH_OK(
      clattn_plan_create(device->context, device->index, &p.attn.desc, &plan));
  stats_problem_bind(&p, device, &good, &right);
  TH_OK(clattn_execute(plan, device->queue, &good, NULL, NULL, 0, NULL));
  clattn_stats_init(NULL);
  for (int n = 0;; n++) {
    args = good, stats = right;
    if (!fault_of(n, &f, &args, &stats)) break;
    expect(clattn_statistics(plan, device->queue, &args, &stats, NULL, 0, NULL),
           &f, "statistics");
  }
  FAILS(INVALID_ARGUMENT, "plan",
        clattn_statistics(NULL, device->queue, &good, &right, NULL, 0, NULL));
  FAILS(INVALID_ARGUMENT, "queue",
        clattn_statistics(plan, NULL, &good, &right, NULL, 0, NULL));
  FAILS(INVALID_ARGUMENT, "args",
        clattn_statistics(plan, device->queue, NULL, &right, NULL, 0, NULL));
  FAILS(INVALID_ARGUMENT, "stats",
        clattn_statistics(plan, device->queue, &good, NULL, NULL, 0, NULL));
  FAILS(INVALID_ARGUMENT, "wait",
        clattn_statistics(plan, device->queue, &good, &right, NULL, 1, NULL));
  clattn_plan *without = NULL;
  clattn_desc desc = p.attn.desc;
  desc.outputs = 0;
  TH_OK(clattn_plan_create(device->context, device->index, &desc, &without));
  FAILS(
      INVALID_ARGUMENT, "CLATTN_OUT_LSE",
      clattn_statistics(without, device->queue, &good, &right, NULL, 0, NULL));
  clattn_plan_destroy(without);
  clattn_stats_init(&stats); /* nothing is asked for */
  clattn_event *event = NULL;
  TH_OK(clattn_statistics(plan, device->queue, &good, &stats, NULL, 0, &event));
  TH_OK(clattn_event_wait(event));
  clattn_event_destroy(event);
  for (int i = 0; i < STATS_OUTPUTS; i++)
    cr_expect(th_fetch(device, &p.out[i], NULL, stats_name[i], message,
                       sizeof message),
              "%s", message);
  TH_OK(clattn_statistics(plan, device->queue, &good, &right, NULL, 0, NULL));
  cr_expect(stats_problem_check(&p, device, message, sizeof message), "%s",
            message);
  clattn_plan_destroy(plan);
  stats_problem_free(&p);
}

Test(statistics, errors) {
  clattn_context *other = another_context();
  TH_OK(clattn_buffer_create(other, 0, 65536, &elsewhere));
  th_each_device(errors);
  clattn_buffer_destroy(elsewhere);
  clattn_context_destroy(other);
}

/* ---- the layer ----------------------------------------------------------------- */

enum { LB = 2, LL = 6, LE = 16, LH = 4, LHK = 2, LHD = 4, LTOP = 3, LMAX = 9 };

typedef struct layer_data {
  th_pool pool;
  th_tensor x, w[4], cos, sin, out, weights, entropy, distance, top_weights,
      top_keys, map;
  clattn_mha *mha;
} layer_data;

static th_tensor *layer_tensor(layer_data *t, int i) {
  th_tensor *const all[] = {
      &t->x,        &t->w[0],        &t->w[1],     &t->w[2],    &t->w[3],
      &t->cos,      &t->sin,         &t->out,      &t->weights, &t->entropy,
      &t->distance, &t->top_weights, &t->top_keys, &t->map};
  return i < COUNT(all) ? all[i] : NULL;
}

static th_tensor numbers(layer_data *t, th_rng *rng, int64_t b, int64_t m,
                         int64_t d) {
  return th_make(&t->pool, CLATTN_F32, TH_EXTENT(b, 1, m, d), TH_BHSD,
                 th_values(&t->pool, rng, CLATTN_F32, b * m * d, 1));
}

/* A causal layer with rotary that gives weights, too; keys: those of a call. */
static void layer_open(layer_data *t, const th_device *device, int rows,
                       int keys) {
  *t = (layer_data){.mha = NULL};
  th_rng rng = {9};
  const int64_t *number = TH_EXTENT(LB, LH, rows, 1);
  const int64_t *list = TH_EXTENT(LB, LH, rows, LTOP);
  t->x = numbers(t, &rng, LB, LL, LE);
  for (int i = 0; i < 4; i++)
    t->w[i] = numbers(t, &rng, 1, i == 1 || i == 2 ? LHK * LHD : LE, LE);
  t->cos = numbers(t, &rng, 1, LMAX, LHD / 2);
  t->sin = numbers(t, &rng, 1, LMAX, LHD / 2);
  t->out = th_make(&t->pool, CLATTN_F32, TH_EXTENT(LB, 1, rows, LE), 0, NULL);
  t->weights =
      th_make(&t->pool, CLATTN_F32, TH_EXTENT(LB, LH, rows, keys), 0, NULL);
  t->entropy = th_make(&t->pool, CLATTN_F32, number, TH_GAPS, NULL);
  t->distance = th_make(&t->pool, CLATTN_F32, number, TH_BSHD, NULL);
  t->top_weights = th_make(&t->pool, CLATTN_F32, list, TH_GAPS, NULL);
  t->top_keys = th_make(&t->pool, CLATTN_I32, list, TH_BSHD, NULL);
  t->map = th_make(&t->pool, CLATTN_F32,
                   TH_EXTENT(LB, LH, (rows + 1) / 2, (keys + 3) / 4), 0, NULL);
  for (int i = 0; layer_tensor(t, i); i++) th_bind(device, layer_tensor(t, i));
  clattn_mha_config config;
  clattn_mha_weights weights;
  clattn_mha_config_init(&config);
  config.embed_dim = LE, config.num_heads = LH, config.num_kv_heads = LHK;
  config.attention.causal = true;
  config.attention.outputs = CLATTN_OUT_WEIGHTS;
  config.statistics = true;
  config.rotary_cos = t->cos.view, config.rotary_sin = t->sin.view;
  clattn_mha_weights_init(&weights);
  weights.q_weight = t->w[0].view, weights.k_weight = t->w[1].view;
  weights.v_weight = t->w[2].view, weights.o_weight = t->w[3].view;
  TH_OK(clattn_mha_create(device->context, device->index, &config, &weights,
                          &t->mha));
}

static void layer_close(layer_data *t) {
  clattn_mha_destroy(t->mha);
  for (int i = 0; layer_tensor(t, i); i++) th_unbind(layer_tensor(t, i));
  th_pool_free(&t->pool);
}

/* Rows from..to-1 of the text. */
static clattn_mha_args layer_args(const layer_data *t, int from, int to) {
  clattn_mha_args args;
  clattn_mha_args_init(&args);
  args.query = t->x.view, args.output = t->out.view;
  args.query.extent[2] = to - from;
  args.query.offset += from * LE;
  args.weights = t->weights.view;
  return args;
}

static clattn_stats layer_stats(const layer_data *t) {
  clattn_stats stats;
  clattn_stats_init(&stats);
  stats.entropy = t->entropy.view, stats.distance = t->distance.view;
  stats.top_weights = t->top_weights.view, stats.top_keys = t->top_keys.view;
  stats.map = t->map.view, stats.map_rows = 2, stats.map_keys = 4;
  return stats;
}

static double *fetched(layer_data *t, const th_device *device,
                       const th_tensor *from, const char *what) {
  char message[256];
  double *got = th_alloc(&t->pool, (size_t)from->n * sizeof *got);
  cr_assert(th_fetch(device, from, got, what, message, sizeof message), "%s",
            message);
  return got;
}

#define NEAR(got, want)                                                        \
  cr_expect(fabs((got) - (want)) <= 1e-5 * (1 + fabs(want)),                   \
            "%s is %g, want %g, on %s", #got, got, want, device->info.name)

/* What is told, from the weights that the layer gave: row i is at first + i. */
static void expect_layer(layer_data *t, const th_device *device, int rows,
                         int keys, int first) {
  double *w = fetched(t, device, &t->weights, "weights");
  double *e = fetched(t, device, &t->entropy, "entropy");
  double *d = fetched(t, device, &t->distance, "distance");
  double *top = fetched(t, device, &t->top_weights, "top_weights");
  double *of = fetched(t, device, &t->top_keys, "top_keys");
  double *map = fetched(t, device, &t->map, "map");
  const int down = (rows + 1) / 2, across = (keys + 3) / 4;
  double *want = th_alloc(&t->pool, (size_t)t->map.n * sizeof *want);
  for (int64_t row = 0; row < LB * LH * rows; row++) {
    const int i = (int)(row % rows);
    const double *p = w + row * keys;
    double entropy = 0, distance = 0, last = 2;
    for (int j = 0; j < keys; j++) {
      if (p[j] > 0) entropy -= p[j] * log(p[j]);
      distance += p[j] * abs(first + i - j);
      want[(row / rows * down + i / 2) * across + j / 4] +=
          p[j] / (rows - i / 2 * 2 < 2 ? 1 : 2);
    }
    NEAR(e[row], entropy);
    NEAR(d[row], distance);
    for (int c = 0; c < LTOP; c++) {
      const int key = (int)of[row * LTOP + c];
      cr_expect_eq(key<0, c> first + i);
      if (key < 0) continue;
      NEAR(top[row * LTOP + c], p[key]);
      cr_expect(top[row * LTOP + c] <= last);
      last = top[row * LTOP + c];
      int larger = 0;
      for (int j = 0; j < keys; j++) larger += p[j] > p[key] + 1e-5;
      cr_expect(larger <= c, "%d are larger than number %d", larger, c);
    }
  }
  for (int64_t k = 0; k < t->map.n; k++) NEAR(map[k], want[k]);
}

static void layer(const th_device *device) {
  layer_data t;
  layer_open(&t, device, LL, LL);
  clattn_mha_args args = layer_args(&t, 0, LL);
  clattn_stats stats = layer_stats(&t);
  FAILS(INVALID_ARGUMENT, "forward",
        clattn_mha_statistics(t.mha, device->queue, &args, &stats, NULL, 0,
                              NULL));
  TH_OK(clattn_mha_forward(t.mha, device->queue, &args, NULL, 0, NULL));
  TH_OK(clattn_mha_statistics(t.mha, device->queue, &args, &stats, NULL, 0,
                              NULL));
  expect_layer(&t, device, LL, LL, 0);
  clattn_mha_args other = args;
  other.query.extent[2] = other.output.extent[2] = 2;
  FAILS(INVALID_ARGUMENT, "query",
        clattn_mha_statistics(t.mha, device->queue, &other, &stats, NULL, 0,
                              NULL));
  FAILS(
      INVALID_ARGUMENT, "stats",
      clattn_mha_statistics(t.mha, device->queue, &args, NULL, NULL, 0, NULL));
  FAILS(
      INVALID_ARGUMENT, "mha",
      clattn_mha_statistics(NULL, device->queue, &args, &stats, NULL, 0, NULL));
  layer_close(&t);
}

/* Two more rows behind four that the cache holds. */
static void layer_cache(const th_device *device) {
  layer_data t;
  layer_open(&t, device, 2, LL);
  clattn_kv_cache_config config;
  clattn_kv_cache *cache = NULL;
  clattn_kv_cache_config_init(&config);
  config.batch = LB, config.kv_heads = LHK, config.capacity = LMAX;
  config.qk_dim = config.v_dim = LHD;
  TH_OK(
      clattn_kv_cache_create(device->context, device->index, &config, &cache));
  clattn_mha_args args;
  for (int from = 0; from < LL; from += 2) {
    args = layer_args(&t, from, from + 2);
    args.cache = cache;
    args.weights.extent[3] = from + 2;
    TH_OK(clattn_mha_forward(t.mha, device->queue, &args, NULL, 0, NULL));
  }
  clattn_stats stats = layer_stats(&t);
  clattn_mha_args other = args;
  other.cache = NULL;
  FAILS(INVALID_ARGUMENT, "cache",
        clattn_mha_statistics(t.mha, device->queue, &other, &stats, NULL, 0,
                              NULL));
  TH_OK(clattn_mha_statistics(t.mha, device->queue, &args, &stats, NULL, 0,
                              NULL));
  expect_layer(&t, device, 2, LL, LL - 2);
  TH_OK(clattn_kv_cache_truncate(cache, device->queue,
                                 (const int64_t[LB]){3, 5}));
  FAILS(INVALID_ARGUMENT, "cache",
        clattn_mha_statistics(t.mha, device->queue, &args, &stats, NULL, 0,
                              NULL));
  clattn_kv_cache_destroy(cache);
  layer_close(&t);
}

static void layers(const th_device *device) {
  layer(device);
  layer_cache(device);
}
Test(statistics, layer) { th_each_device(layers); }

/* A layer that keeps nothing for it. */
Test(statistics, layer_without) {
  const th_devices *devices = th_open(false);
  const th_device *device = &devices->device[0];
  layer_data t;
  layer_open(&t, device, LL, LL);
  clattn_mha_config config;
  clattn_mha_weights weights;
  clattn_mha *mha;
  clattn_mha_config_init(&config);
  config.embed_dim = LE, config.num_heads = LH, config.num_kv_heads = LHK;
  clattn_mha_weights_init(&weights);
  weights.q_weight = t.w[0].view, weights.k_weight = t.w[1].view;
  weights.v_weight = t.w[2].view, weights.o_weight = t.w[3].view;
  TH_OK(clattn_mha_create(device->context, device->index, &config, &weights,
                          &mha));
  clattn_mha_args args = layer_args(&t, 0, LL);
  args.weights.buffer = NULL;
  clattn_stats stats = layer_stats(&t);
  TH_OK(clattn_mha_forward(mha, device->queue, &args, NULL, 0, NULL));
  FAILS(
      INVALID_ARGUMENT, "statistics",
      clattn_mha_statistics(mha, device->queue, &args, &stats, NULL, 0, NULL));
  clattn_mha_destroy(mha);
  layer_close(&t);
  th_shut();
}

/* ---- every kernel serves -------------------------------------------------------- */

static void complain(void *user, const char *text) {
  if (strstr(text, "attn_stats: ")) snprintf(user, 512, "%s", text);
}

/* What the guard refuses would leave its work to the kernels for CPUs, and every
 * case above would still pass. */
static void trusted(const th_device *device) {
  char text[512] = "";
  clattn_context_config config;
  clattn_context_config_init(&config);
  config.backend = device->info.backend;
  config.force_gpu_kernels = device->forced;
  config.log = complain, config.log_user = text;
  th_device own = *device;
  TH_OK(clattn_context_create(&config, &own.context));
  own.index = 0;
  TH_OK(clattn_queue_create(own.context, 0, &own.queue));
  run(&own, &table[1], 1);
  cr_expect_str_eq(text, "");
  clattn_queue_destroy(own.queue);
  clattn_context_destroy(own.context);
}
Test(statistics, kernels_are_trusted) { th_each_device(trusted); }
