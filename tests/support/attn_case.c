/* attn_case.c - see attn_case.h. */
#include "attn_case.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const tc_path_name[TC_PATHS] = {"auto", "fused", "unfused",
                                            "blocked"};

static void resolve(attn_case *c) {
  if (!c->b) c->b = 1;
  if (!c->hq) c->hq = 1;
  if (!c->hk) c->hk = c->hq;
  if (!c->skv) c->skv = c->sq;
  if (!c->dv) c->dv = c->d;
  if (!c->dtype) c->dtype = CLATTN_F32;
  if (!c->bias_dtype) c->bias_dtype = CLATTN_F32;
  if (!c->hide_percent) c->hide_percent = 30;
  if (!c->windowed) c->left = c->right = -1;
  if (c->temperature == 0) c->temperature = 1;
  if (c->size == 0) c->size = 1;
  if (c->backward) c->lse = true;
}

/* [B,Hq,Sq,Skv] with 1 where the pattern has '1'. */
static void masked_extent(const attn_case *c, const char *pattern,
                          int64_t extent[4]) {
  const int64_t full[4] = {c->b, c->hq, c->sq, c->skv};
  for (int i = 0; i < 4; i++) extent[i] = pattern[i] == '1' ? 1 : full[i];
}

static th_tensor bool_tensor(attn_problem *p, th_rng *rng,
                             const int64_t extent[4], th_layout layout) {
  const attn_case *c = &p->c;
  int64_t n = th_count(extent);
  double *v = th_alloc(&p->pool, (size_t)n * sizeof *v);
  for (int64_t i = 0; i < n; i++)
    v[i] =
        th_chance(rng, c->hide_percent) == (c->polarity == CLATTN_TRUE_HIDES);
  return th_make(&p->pool, CLATTN_BOOL, extent, layout, v);
}

static void make_masks(attn_problem *p, th_rng *rng) {
  const attn_case *c = &p->c;
  int64_t extent[4];
  if (c->mask) {
    masked_extent(c, c->mask, extent);
    p->mask = bool_tensor(p, rng, extent, c->kv_layout);
  }
  if (c->key_mask) {
    p->key_mask = bool_tensor(p, rng,
                              TH_EXTENT(c->key_mask[0] == '1' ? 1 : c->b, 1, 1,
                                        c->key_mask[1] == '1' ? 1 : c->skv),
                              TH_BHSD);
  }
  if (c->bias) {
    masked_extent(c, c->bias, extent);
    int64_t n = th_count(extent);
    double *v = th_values(&p->pool, rng, c->bias_dtype, n, 2);
    for (int64_t i = 0; c->bias_inf && i < n; i++)
      if (th_chance(rng, 33)) v[i] = -INFINITY;
    p->bias = th_make(&p->pool, c->bias_dtype, extent, c->q_layout, v);
  }
}

/* Per batch integers: lengths may leave 0..Skv, which the device clamps. */
static void make_ints(attn_problem *p, th_rng *rng) {
  const attn_case *c = &p->c;
  double *v = th_alloc(&p->pool, (size_t)c->b * sizeof *v);
  int64_t *n = th_alloc(&p->pool, (size_t)c->b * sizeof *n);
  if (c->lengths) {
    for (int i = 0; i < c->b; i++)
      v[i] =
          (double)(n[i] = c->empty_batch && i == 0 ? 0
                                                   : th_below(rng, c->skv + 3));
    p->lengths =
        th_make(&p->pool, c->lengths == LEN_I32 ? CLATTN_I32 : CLATTN_I64,
                TH_EXTENT(c->b, 1, 1, 1), TH_GAPS, v);
    p->oracle.lengths = n;
  }
  if (c->start >= START_I32) {
    n = th_alloc(&p->pool, (size_t)c->b * sizeof *n);
    for (int i = 0; i < c->b; i++)
      v[i] =
          (double)(n[i] = c->q_start + th_below(rng, c->skv + 1) - c->sq / 2);
    p->starts =
        th_make(&p->pool, c->start == START_I32 ? CLATTN_I32 : CLATTN_I64,
                TH_EXTENT(c->b, 1, 1, 1), TH_BHSD, v);
    p->oracle.starts = n;
  }
}

/* Whether any row that uses key head g of batch b sees key j. */
static bool key_seen(const attn_problem *p, int b, int g, int j) {
  const attn_case *c = &p->c;
  int group = c->hq / c->hk;
  for (int h = g * group; h < (g + 1) * group; h++)
    for (int i = 0; i < c->sq; i++)
      if (ora_sees(&p->oracle, b, h, i, j)) return true;
  return false;
}

bool attn_row_alive(const attn_problem *p, int b, int h, int i) {
  for (int j = 0; j < p->c.skv; j++)
    if (ora_sees(&p->oracle, b, h, i, j)) return true;
  return false;
}

/* A NaN with every payload bit set, also as float: what GPUs and memset make. */
static double full_nan(void) {
  const uint64_t bits = UINT64_C(0x7fffffffffffffff);
  double x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

/* Spoils keys [.., d] and values [.., dv] as the case says. */
static void poison(attn_problem *p, double *k, double *v) {
  const attn_case *c = &p->c;
  const double bad[3] = {NAN, INFINITY, -INFINITY};
  int n = 0;
  for (int b = 0; b < c->b; b++)
    for (int g = 0; g < c->hk; g++)
      for (int j = 0; j < c->skv; j++) {
        int64_t row = ((int64_t)b * c->hk + g) * c->skv + j;
        bool one = j == c->skv / 2;
        if (c->poison == POISON_HIDDEN && !key_seen(p, b, g, j))
          for (int d = 0; d < c->d || d < c->dv; d++) {
            if (d < c->d) k[row * c->d + d] = bad[n++ % 3];
            if (d < c->dv) v[row * c->dv + d] = bad[n++ % 3];
          }
        if (c->poison == POISON_KEY && one) k[row * c->d] = full_nan();
        if (c->poison == POISON_VALUE && one) v[row * c->dv] = full_nan();
      }
}

/* Spoils queries of rows that see nothing. */
static void poison_rows(attn_problem *p, double *q) {
  const attn_case *c = &p->c;
  const double bad[3] = {NAN, INFINITY, -INFINITY};
  int n = 0;
  for (int b = 0; b < c->b; b++)
    for (int h = 0; h < c->hq; h++)
      for (int i = 0; i < c->sq; i++) {
        if (attn_row_alive(p, b, h, i)) continue;
        double *row = q + (((int64_t)b * c->hq + h) * c->sq + i) * c->d;
        for (int d = 0; d < c->d; d++) row[d] = bad[n++ % 3];
      }
}

static void make_qkv(attn_problem *p, th_rng *rng) {
  const attn_case *c = &p->c;
  const int64_t extent[3][4] = {{c->b, c->hq, c->sq, c->d},
                                {c->b, c->hk, c->skv, c->d},
                                {c->b, c->hk, c->skv, c->dv}};
  double *v[3];
  for (int i = 0; i < 3; i++)
    v[i] = th_values(&p->pool, rng, c->dtype, th_count(extent[i]),
                     i == 2 ? 1 : c->size);
  if (c->poison) poison(p, v[1], v[2]);
  if (c->poison_rows) poison_rows(p, v[0]);
  th_tensor t[3];
  int first = c->pack == PACK_QKV ? 0 : 1;
  if (c->pack)
    th_make_packed(&p->pool, c->dtype, 3 - first, extent + first, v + first,
                   t + first);
  if (c->pack != PACK_QKV)
    t[0] = th_make(&p->pool, c->dtype, extent[0], c->q_layout, v[0]);
  for (int i = 1; !c->pack && i < 3; i++)
    t[i] = th_make(&p->pool, c->dtype, extent[i], c->kv_layout, v[i]);
  p->q = t[0], p->k = t[1], p->v = t[2];
}

static void make_heads(attn_problem *p, th_rng *rng) {
  const attn_case *c = &p->c;
  const int64_t *extent = TH_EXTENT(1, c->hq, 1, 1);
  double *v = th_alloc(&p->pool, (size_t)c->hq * sizeof *v);
  if (c->slopes) {
    for (int h = 0; h < c->hq; h++) v[h] = ldexp(1, -1 - h % 8);
    p->slopes = th_make(&p->pool, CLATTN_F32, extent, TH_DIM2, v);
  }
  if (c->sinks) {
    for (int h = 0; h < c->hq; h++)
      v[h] = c->sinks == SINKS_INF && h % 2 == 0
                 ? -INFINITY
                 : ora_round(&ora_f32, th_uniform(rng, -1, 3));
    p->sinks = th_make(&p->pool, CLATTN_F32, extent, TH_BHSD, v);
  }
}

static void make_desc(attn_problem *p) {
  const attn_case *c = &p->c;
  clattn_desc *d = &p->desc;
  clattn_desc_init(d);
  d->dtype = c->dtype;
  d->q_heads = c->hq, d->kv_heads = c->hk;
  d->qk_dim = c->d, d->v_dim = c->dv;
  if (c->scale != 0) d->scale = (float)c->scale;
  if (c->zero_scale) d->scale = 0;
  d->temperature = (float)c->temperature;
  d->softcap = (float)c->softcap;
  d->causal = c->causal;
  d->window_left = c->left, d->window_right = c->right;
  d->mask_polarity = c->polarity;
  d->outputs =
      (c->lse ? CLATTN_OUT_LSE : 0u) | (c->weights ? CLATTN_OUT_WEIGHTS : 0u);
  d->weights_stage = c->stage;
  d->average_weights = c->average;
  d->backward = c->backward;
}

void attn_problem_init(attn_problem *p, const attn_case *given, uint64_t seed) {
  static const int stage[4] = {
      [CLATTN_WEIGHTS_PROBABILITIES] = ORA_PROBABILITIES,
      [CLATTN_WEIGHTS_SCORES] = ORA_SCORES,
      [CLATTN_WEIGHTS_CAPPED] = ORA_CAPPED,
      [CLATTN_WEIGHTS_BIASED] = ORA_BIASED,
  };
  th_rng rng = {seed};
  *p = (attn_problem){.c = *given};
  attn_case *c = &p->c;
  resolve(c);
  make_desc(p);
  clattn_dtype narrow = c->weights_narrow ? c->dtype : CLATTN_F32;
  p->oracle = (ora_attention){
      .batch = c->b,
      .q_heads = c->hq,
      .kv_heads = c->hk,
      .q_len = c->sq,
      .kv_len = c->skv,
      .qk_dim = c->d,
      .v_dim = c->dv,
      .scale = c->zero_scale   ? 0
               : c->scale != 0 ? (float)c->scale
                               : 1 / sqrt(c->d),
      .temperature = (float)c->temperature,
      .softcap = (float)c->softcap,
      .causal = c->causal,
      .left = c->left,
      .right = c->right,
      .true_hides = c->polarity == CLATTN_TRUE_HIDES,
      .q_start = c->start == START_AT ? c->q_start : ORA_AT_END,
      .stage = stage[c->stage],
      .average = c->average,
      .dropout = (float)c->dropout,
      .dropout_seed = c->dropout > 0 ? th_next(&rng) : 0,
      .dropout_offset = c->dropout > 0 ? th_next(&rng) : 0,
      .out_type = th_type(c->dtype),
      .weights_type = th_type(narrow),
  };
  make_masks(p, &rng);
  make_ints(p, &rng);
  make_heads(p, &rng);
  p->oracle.mask = th_array(&p->mask);
  p->oracle.key_mask = th_array(&p->key_mask);
  p->oracle.bias = th_array(&p->bias);
  p->oracle.slopes = th_array(&p->slopes);
  p->oracle.sinks = th_array(&p->sinks);
  make_qkv(p, &rng);
  p->oracle.q = th_array(&p->q);
  p->oracle.k = th_array(&p->k);
  p->oracle.v = th_array(&p->v);
  p->want = ora_attend(&p->oracle);

  p->out = th_make(&p->pool, c->dtype, TH_EXTENT(c->b, c->hq, c->sq, c->dv),
                   c->out_layout, NULL);
  if (c->lse)
    p->lse = th_make(&p->pool, CLATTN_F32, TH_EXTENT(c->b, c->hq, c->sq, 1),
                     c->out_layout, NULL);
  if (c->weights)
    p->weights = th_make(&p->pool, narrow,
                         TH_EXTENT(c->b, c->average ? 1 : c->hq, c->sq, c->skv),
                         c->out_layout, NULL);
}

#define FOR_TENSORS(X)                                                         \
  X(q)                                                                         \
  X(k)                                                                         \
  X(v)                                                                         \
  X(mask)                                                                      \
  X(key_mask)                                                                  \
  X(bias)                                                                      \
  X(lengths)                                                                   \
  X(starts)                                                                    \
  X(slopes)                                                                    \
  X(sinks)                                                                     \
  X(out)                                                                       \
  X(lse)                                                                       \
  X(weights)

void attn_problem_unbind(attn_problem *p) {
#define X(t) th_unbind(&p->t);
  FOR_TENSORS(X)
#undef X
}

void attn_problem_free(attn_problem *p) {
  attn_problem_unbind(p);
  ora_result_free(&p->want);
  th_pool_free(&p->pool);
}

void attn_problem_bind(attn_problem *p, const th_device *device,
                       clattn_args *args) {
#define X(t) th_bind(device, &p->t);
  FOR_TENSORS(X)
#undef X
  clattn_args_init(args);
  args->q = p->q.view, args->k = p->k.view, args->v = p->v.view;
  args->mask = p->mask.view, args->key_mask = p->key_mask.view;
  args->bias = p->bias.view;
  args->kv_lengths = p->lengths.view, args->q_starts = p->starts.view;
  args->alibi_slopes = p->slopes.view, args->sinks = p->sinks.view;
  args->out = p->out.view, args->lse = p->lse.view;
  args->weights = p->weights.view;
  args->dropout = (float)p->oracle.dropout;
  args->dropout_seed = p->oracle.dropout_seed;
  args->dropout_offset = p->oracle.dropout_offset;
  if (p->c.start == START_AT) args->q_start = p->c.q_start;
}

static bool check_output(attn_problem *p, const th_device *device,
                         const th_tensor *t, const double *want,
                         const double *tol, const char *name, char *message,
                         size_t room) {
  if (!t->image) return true;
  double *got = malloc((size_t)t->n * sizeof *got);
  if (!got) abort();
  bool nan = p->c.poison == POISON_KEY || p->c.poison == POISON_VALUE;
  bool same = th_fetch(device, t, got, name, message, room) &&
              th_close(t->n, got, want, tol, nan, name, message, room);
  free(got);
  return same;
}

bool attn_problem_check(attn_problem *p, const th_device *device, char *message,
                        size_t room) {
  const ora_result *w = &p->want;
  return check_output(p, device, &p->out, w->out, w->out_tol, "out", message,
                      room) &&
         check_output(p, device, &p->lse, w->lse, w->lse_tol, "lse", message,
                      room) &&
         check_output(p, device, &p->weights, w->weights, w->weights_tol,
                      "weights", message, room) &&
#define X(t)                                                                   \
  (&p->t == &p->out || &p->t == &p->lse || &p->t == &p->weights ||             \
   th_fetch(device, &p->t, NULL, #t, message, room)) &&
         FOR_TENSORS(X) true;
#undef X
}

/* Scratch of exactly the size the plan asks for, with canaries behind it. */
static bool run_with_scratch(const attn_problem *p, const th_device *device,
                             const clattn_plan *plan, const clattn_args *args,
                             char *message, size_t room) {
  enum { CANARIES = 256 };
  uint8_t canary[CANARIES];
  size_t bytes = 0;
  clattn_buffer *scratch = NULL;
  clattn_event *event = NULL;
  TH_OK(clattn_plan_scratch_bytes(plan, p->c.b, p->c.sq, p->c.skv, &bytes));
  TH_OK(clattn_buffer_create(device->context, device->index, bytes + CANARIES,
                             &scratch));
  memset(canary, 0xA5, CANARIES);
  TH_OK(clattn_buffer_write(device->queue, scratch, bytes, canary, CANARIES));
  TH_OK(clattn_execute(plan, device->queue, args, scratch, NULL, 0, &event));
  TH_OK(clattn_event_wait(event));
  clattn_event_destroy(event);
  TH_OK(clattn_buffer_read(device->queue, scratch, bytes, canary, CANARIES));
  clattn_buffer_destroy(scratch);
  for (int i = 0; i < CANARIES; i++)
    if (canary[i] != 0xA5) {
      snprintf(message, room, "byte %d behind %zu of scratch was overwritten",
               i, bytes);
      return false;
    }
  return true;
}

tc_result attn_problem_plan(attn_problem *p, const th_device *device,
                            clattn_path path, clattn_plan **plan, char *message,
                            size_t room) {
  p->desc.path = path;
  bool impossible =
      p->c.weights &&
      (path == CLATTN_FUSED ||
       (path == CLATTN_BLOCKED &&
        ((p->c.average && p->c.dtype != CLATTN_F32) || p->c.stage)));
  bool optional = p->c.backward && path == CLATTN_BLOCKED;
  clattn_status status =
      clattn_plan_create(device->context, device->index, &p->desc, plan);
  if ((impossible || optional) && status == CLATTN_UNSUPPORTED && !*plan)
    return TC_SKIP;
  if (status != CLATTN_OK || impossible) {
    snprintf(message, room, "plan: %s: %s", clattn_status_name(status),
             clattn_error_message());
    clattn_plan_destroy(*plan);
    return TC_FAIL;
  }
  size_t bytes;
  if (path == CLATTN_BLOCKED && p->c.skv > 3000 &&
      clattn_plan_scratch_bytes(*plan, p->c.b, p->c.sq, p->c.skv, &bytes) ==
          CLATTN_UNSUPPORTED) { /* more keys than local memory holds */
    clattn_plan_destroy(*plan);
    return TC_SKIP;
  }
  return TC_PASS;
}

tc_result attn_problem_run(attn_problem *p, const th_device *device,
                           clattn_path path, char *message, size_t room) {
  clattn_plan *plan = NULL;
  clattn_args args;
  clattn_status status;
  tc_result planned = attn_problem_plan(p, device, path, &plan, message, room);
  if (planned != TC_PASS) return planned;
  attn_problem_bind(p, device, &args);
  bool good = true;
  if (p->c.own_scratch) {
    good = run_with_scratch(p, device, plan, &args, message, room);
  } else {
    status = clattn_execute(plan, device->queue, &args, NULL, NULL, 0, NULL);
    if (status == CLATTN_OK) status = clattn_queue_finish(device->queue);
    if (status != CLATTN_OK)
      snprintf(message, room, "execute: %s: %s", clattn_status_name(status),
               clattn_error_message());
    good = status == CLATTN_OK;
  }
  good = good && attn_problem_check(p, device, message, room);
  attn_problem_unbind(p);
  clattn_plan_destroy(plan);
  return good ? TC_PASS : TC_FAIL;
}

/* ---- printing, drawing, running ------------------------------------------ */

void attn_case_print(const attn_case *given, char *text, size_t room) {
  attn_case copy = *given, *c = &copy;
  resolve(c);
  snprintf(text, room,
           "b %d heads %d/%d len %d/%d dim %d/%d %s layout %d/%d/%d pack %d "
           "causal %d window %d/%d start %d:%d lengths %d empty %d mask %s "
           "key_mask %s bias %s %s inf %d hide %d polarity %d slopes %d "
           "sinks %d scale %g zero %d softcap %g temperature %g size %g lse %d "
           "weights %d stage %d average %d narrow %d poison %d/%d scratch %d "
           "dropout %g backward %d",
           c->b, c->hq, c->hk, c->sq, c->skv, c->d, c->dv,
           clattn_dtype_name(c->dtype), c->q_layout, c->kv_layout,
           c->out_layout, c->pack, c->causal, c->left, c->right, c->start,
           c->q_start, c->lengths, c->empty_batch, c->mask ? c->mask : "-",
           c->key_mask ? c->key_mask : "-", c->bias ? c->bias : "-",
           clattn_dtype_name(c->bias_dtype), c->bias_inf, c->hide_percent,
           c->polarity, c->slopes, c->sinks, c->scale, c->zero_scale,
           c->softcap, c->temperature, c->size, c->lse, c->weights, c->stage,
           c->average, c->weights_narrow, c->poison, c->poison_rows,
           c->own_scratch, c->dropout, c->backward);
}

static const char *const patterns[16] = {
    "bhqk", "1hqk", "b1qk", "bh1k", "bhq1", "11qk", "1h1k", "1hq1",
    "b11k", "b1q1", "bh11", "111k", "11q1", "1h11", "b111", "1111",
};
static const char *const key_patterns[4] = {"bk", "1k", "b1", "11"};

attn_case attn_case_random(th_rng *r) {
  static const clattn_dtype dtypes[4] = {CLATTN_F32, CLATTN_F32, CLATTN_F16,
                                         CLATTN_BF16};
  static const int dims[8] = {1, 3, 5, 8, 16, 17, 24, 40};
  static const int groups[4] = {1, 1, 2, 3};
  static const double scales[6] = {0, 0, 0, 1, -0.7, 3};
  attn_case c = {.name = "random"};
  c.b = 1 + th_below(r, 3);
  c.hk = 1 + th_below(r, 3);
  c.hq = c.hk * groups[th_below(r, 4)];
  c.sq = 1 + th_below(r, th_chance(r, 25) ? 40 : 7);
  c.skv = 1 + th_below(r, th_chance(r, 35) ? 150 : 20);
  c.d = dims[th_below(r, 8)];
  c.dv = th_chance(r, 70) ? c.d : dims[th_below(r, 8)];
  c.dtype = dtypes[th_below(r, 4)];
  c.q_layout = (th_layout)th_below(r, TH_LAYOUTS);
  c.kv_layout = (th_layout)th_below(r, TH_LAYOUTS);
  c.out_layout = (th_layout)th_below(r, TH_LAYOUTS);
  if (th_chance(r, 20)) c.pack = PACK_KV;
  if (th_chance(r, 10)) c.pack = PACK_QKV, c.skv = c.sq;
  c.causal = th_chance(r, 50);
  c.windowed = th_chance(r, 30);
  c.left = th_below(r, 12) - 1;
  c.right = th_below(r, 12) - 1;
  c.start = (tc_start)th_below(r, 4);
  c.q_start = th_below(r, 9) - 3;
  c.lengths = (tc_lengths)th_below(r, 3);
  c.empty_batch = th_chance(r, 15);
  if (th_chance(r, 35)) c.mask = patterns[th_below(r, 16)];
  if (th_chance(r, 25)) c.key_mask = key_patterns[th_below(r, 4)];
  if (th_chance(r, 35)) c.bias = patterns[th_below(r, 16)];
  c.bias_dtype = dtypes[1 + th_below(r, 3)];
  c.bias_inf = th_chance(r, 50);
  c.hide_percent = th_chance(r, 20) ? 80 : 30;
  c.polarity = (clattn_mask_polarity)th_below(r, 2);
  c.slopes = th_chance(r, 25);
  c.sinks = th_chance(r, 25) ? (tc_sinks)(1 + th_below(r, 2)) : SINKS_NONE;
  c.scale = scales[th_below(r, 6)];
  c.zero_scale = th_chance(r, 5);
  if (th_chance(r, 25)) c.softcap = th_uniform(r, 0.5, 30);
  if (th_chance(r, 25)) c.temperature = th_uniform(r, 0.2, 3);
  c.size = th_chance(r, 15) ? 30 : 2;
  c.lse = th_chance(r, 50);
  c.weights = th_chance(r, 25);
  c.stage = (clattn_weights_stage)th_below(r, 4);
  c.average = c.stage == CLATTN_WEIGHTS_PROBABILITIES && th_chance(r, 50);
  c.weights_narrow = th_chance(r, 30);
  bool may_poison = !c.weights || c.stage == CLATTN_WEIGHTS_PROBABILITIES ||
                    c.stage == CLATTN_WEIGHTS_BIASED;
  if (may_poison && th_chance(r, 40)) c.poison = POISON_HIDDEN;
  c.own_scratch = th_chance(r, 30);
  if (th_chance(r, 25))
    c.dropout = (const double[]){0.1, 0.5, 0.9, 0.999}[th_below(r, 4)];
  return c;
}

/* Multiplications of a case; what a reduced table leaves out is too slow for a
 * simulated device. */
static bool too_large(const attn_case *given) {
  attn_case c = *given;
  resolve(&c);
  return th_small() &&
         (int64_t)c.b * c.hq * c.sq * c.skv * (c.d + c.dv) > 40000;
}

void attn_run_all(const th_devices *devices, const attn_case *cases, int n,
                  uint64_t seed, tc_tally *tally) {
  char message[512], text[1024];
  for (int i = 0; i < n; i++) {
    attn_problem p;
    attn_problem_init(&p, &cases[i], seed + (uint64_t)i);
    for (int d = 0; d < devices->count; d++)
      for (int path = 0; path < TC_PATHS; path++) {
        const th_device *device = &devices->device[d];
        tc_result result = attn_problem_run(&p, device, (clattn_path)path,
                                            message, sizeof message);
        tally->passed += result == TC_PASS;
        tally->skipped += result == TC_SKIP;
        tally->failed += result == TC_FAIL;
        if (result != TC_FAIL || tally->failed > 40) continue;
        attn_case_print(&cases[i], text, sizeof text);
        fprintf(stderr, "%s (seed %llu) on %s%s, %s: %s\n  %s\n", cases[i].name,
                (unsigned long long)(seed + (uint64_t)i),
                device->opencl ? "opencl" : "cpu",
                device->forced ? " with GPU kernels" : "", tc_path_name[path],
                message, text);
      }
    attn_problem_free(&p);
  }
}

void attn_run_table(const th_devices *devices, const attn_case *cases, int n,
                    uint64_t seed, tc_tally *tally) {
  for (int i = 0; i < n; i++)
    if (!too_large(&cases[i]))
      attn_run_all(devices, &cases[i], 1, seed + (uint64_t)i, tally);
}
