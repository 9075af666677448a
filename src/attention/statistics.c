/* statistics.c - what the weights of attention say, from the saved log-sum-exp
 * (cl/attn_stats.h). */
#include <string.h>

#include "../../cl/shape.h"
#include "plan.h"

/* What every OpenCL device takes is 1024 bytes of arguments; 16 are pointers. */
_Static_assert(sizeof(clt_stats_args) + 16 * sizeof(void *) <= 1024,
               "kernel arguments");

/* MAX_PARTS: groups that share a block of the map, each with a part in scratch.
 * More of them keep more of a device busy, but then scratch grows with the tiles of
 * rows times the blocks of keys, which is as the matrix of weights grows. Of
 * the shape alone, not of threads: they decide about the order of sums. */
enum { MAX_TOP = 32, DEFAULT_BLOCK = 64, MAX_PARTS = 16 };

void clattn_stats_init(clattn_stats *stats) {
  if (!stats) return;
  *stats = (clattn_stats){.struct_size = sizeof *stats,
                          .map_rows = DEFAULT_BLOCK,
                          .map_keys = DEFAULT_BLOCK};
}

/* ---- checks ---------------------------------------------------------------- */

static int64_t blocks_of(int64_t n, int64_t block) {
  return n / block + (n % block != 0);
}

static clattn_status check_outputs(const clt_device *device,
                                   const clattn_stats *s,
                                   const clt_attn_args *a) {
  const clattn_tensor *top =
      s->top_weights.buffer ? &s->top_weights : &s->top_keys;
  if (top->buffer)
    CLT_REQUIRE(top->extent[3] >= 1 && top->extent[3] <= MAX_TOP,
                "stats->%s: extent[3] is %lld, want 1..%d",
                top == &s->top_keys ? "top_keys" : "top_weights",
                (long long)top->extent[3], MAX_TOP);
  if (s->map.buffer) {
    CLT_REQUIRE(s->map_rows >= 1 && s->map_rows < CLT_MAX_LENGTH,
                "stats->map_rows: got %lld, want 1..2^30-1",
                (long long)s->map_rows);
    CLT_REQUIRE(s->map_keys >= 1 && s->map_keys < CLT_MAX_LENGTH,
                "stats->map_keys: got %lld, want 1..2^30-1",
                (long long)s->map_keys);
  }
  const int64_t B = a->batch, H = a->q_heads, Sq = a->q_len;
  const struct {
    const char *name;
    const clattn_tensor *t;
    clattn_dtype dtype;
    int64_t rows, columns;
  } all[] = {
      {"stats->entropy", &s->entropy, CLATTN_F32, Sq, 1},
      {"stats->distance", &s->distance, CLATTN_F32, Sq, 1},
      {"stats->top_weights", &s->top_weights, CLATTN_F32, Sq, top->extent[3]},
      {"stats->top_keys", &s->top_keys, CLATTN_I32, Sq, top->extent[3]},
      {"stats->map", &s->map, CLATTN_F32,
       s->map.buffer ? blocks_of(Sq, s->map_rows) : 1,
       s->map.buffer ? blocks_of(a->kv_len, s->map_keys) : 1}};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
    const clt_want want = {.name = all[i].name,
                           .dtypes = 1u << all[i].dtype,
                           .extent = {B, H, all[i].rows, all[i].columns},
                           .optional = true,
                           .output = true};
    CLT_TRY(clt_tensor_check(device, all[i].t, &want));
  }
  return CLATTN_OK;
}

/* What is written meets nothing that is read, nor what else is written. */
static clattn_status check_overlap(const clattn_stats *s,
                                   const clattn_args *a) {
  const struct {
    const char *name;
    const clattn_tensor *t;
  } out[] = {{"stats->entropy", &s->entropy},
             {"stats->distance", &s->distance},
             {"stats->top_weights", &s->top_weights},
             {"stats->top_keys", &s->top_keys},
             {"stats->map", &s->map}},
    in[] = {{"args->q", &a->q},
            {"args->k", &a->k},
            {"args->lse", &a->lse},
            {"args->mask", &a->mask},
            {"args->key_mask", &a->key_mask},
            {"args->bias", &a->bias},
            {"args->kv_lengths", &a->kv_lengths},
            {"args->q_starts", &a->q_starts},
            {"args->alibi_slopes", &a->alibi_slopes}};
  const size_t n_out = sizeof out / sizeof *out, n_in = sizeof in / sizeof *in;
  for (size_t o = 0; o < n_out; o++) {
    for (size_t i = 0; i < n_in; i++)
      CLT_TRY(clt_tensor_disjoint(out[o].t, out[o].name, in[i].t, in[i].name));
    for (size_t i = o + 1; i < n_out; i++)
      CLT_TRY(
          clt_tensor_disjoint(out[o].t, out[o].name, out[i].t, out[i].name));
  }
  return CLATTN_OK;
}

/* ---- steps ----------------------------------------------------------------- */

/* Buffers of the kernels, in their order (STATS_PARAMS). */
enum { ENTROPY = 9, DISTANCE, TOP_WEIGHTS, TOP_KEYS, MAP, BUFFERS };

/* A problem made ready for either family of kernels. */
typedef struct stats_call {
  clt_stats_args args;
  clt_ref buffers[BUFFERS];
} stats_call;

static void init_call(stats_call *c, const clt_problem *problem,
                      const clattn_stats *s) {
  const clattn_tensor *top =
      s->top_weights.buffer ? &s->top_weights : &s->top_keys;
  memset(c, 0, sizeof *c);
  c->args.attn = problem->args;
  clt_attn_args *a = &c->args.attn;
  a->has_sinks = 0; /* the lse has them */
  a->v = clt_view_of(&s->entropy);
  a->out = clt_view_of(&s->distance);
  a->weights = clt_view_of(&s->map);
  c->args.top_weights = clt_view_of(&s->top_weights);
  c->args.top_keys = clt_view_of(&s->top_keys);
  c->args.top = top->buffer ? (clt_i32)top->extent[3] : 0;
  c->args.map_rows = s->map.buffer ? (clt_i32)s->map_rows : a->q_len;
  c->args.map_keys = s->map.buffer ? (clt_i32)s->map_keys : a->kv_len;
  c->args.has = (s->entropy.buffer ? CLT_STATS_ENTROPY : 0) |
                (s->distance.buffer ? CLT_STATS_DISTANCE : 0) |
                (s->map.buffer ? CLT_STATS_MAP : 0) |
                (s->top_weights.buffer ? CLT_STATS_TOP_WEIGHTS : 0) |
                (s->top_keys.buffer ? CLT_STATS_TOP_KEYS : 0);
  static const int inputs[ENTROPY] = {
      CLT_BUF_Q,       CLT_BUF_K,        CLT_BUF_LSE,
      CLT_BUF_MASK,    CLT_BUF_KEY_MASK, CLT_BUF_BIAS,
      CLT_BUF_LENGTHS, CLT_BUF_STARTS,   CLT_BUF_SLOPES};
  for (int i = 0; i < ENTROPY; i++) c->buffers[i] = problem->buffers[inputs[i]];
  c->buffers[ENTROPY] = clt_ref_of(&s->entropy);
  c->buffers[DISTANCE] = clt_ref_of(&s->distance);
  c->buffers[TOP_WEIGHTS] = clt_ref_of(&s->top_weights);
  c->buffers[TOP_KEYS] = clt_ref_of(&s->top_keys);
  c->buffers[MAP] = clt_ref_of(&s->map);
}

/* n numbers of 4 bytes a row in scratch, [B,Hq,rows,n]. */
static clt_view scratch_view(clt_work *work, const clt_attn_args *a,
                             int64_t parts, int64_t rows, int64_t n) {
  int64_t count;
  clt_view view = {0, {a->q_heads * rows * n, rows * n, n, 1}};
  if (!clt_mul((int64_t)a->batch * a->q_heads, rows, &count) ||
      !clt_mul(count, n, &count) || !clt_mul(count, parts, &count) ||
      count > INT64_MAX / 4)
    work->status = clt_fail(CLATTN_OUT_OF_MEMORY,
                            "stats: scratch overflows the size of memory");
  else
    view.offset = (clt_i64)(clt_work_scratch(work, (size_t)count * 4) / 4);
  return view;
}

/* Cuts the queries into tiles of `block` rows, and the map into parts, up to
 * max_parts a block. Without a map each tile is a group's. */
static void cut(stats_call *c, clt_work *work, int64_t block,
                int64_t max_parts) {
  clt_stats_args *s = &c->args;
  const clt_attn_args *a = &s->attn;
  const int64_t blocks = blocks_of(a->q_len, s->map_rows);
  const int64_t rows = s->map_rows < a->q_len ? s->map_rows : a->q_len;
  int64_t parts = blocks_of(rows, block);
  if ((s->has & CLT_STATS_MAP) && parts > max_parts) parts = max_parts;
  s->map_parts = (clt_i32)parts;
  s->groups = (clt_i32)(blocks * parts);
  if (!(s->has & CLT_STATS_MAP) || parts == 1) return;
  const int64_t columns = blocks_of(a->kv_len, s->map_keys);
  s->attn.weights = scratch_view(work, a, parts, blocks, columns);
  s->map_step = a->batch * s->attn.weights.s[0];
  c->buffers[MAP] = clt_ref_scratch();
}

/* The map from its parts. */
static void add_map(const stats_call *c, clt_work *work, bool tile,
                    const clt_view *map, clt_ref ref) {
  const clt_stats_args *s = &c->args;
  const clt_attn_args *a = &s->attn;
  if (!c->buffers[MAP].scratch) return;
  const clt_sum_parts_args args = {
      .to = *map,
      .from = a->weights.offset,
      .step = s->map_step,
      .batch = a->batch,
      .heads = a->q_heads,
      .rows = (clt_i32)blocks_of(a->q_len, s->map_rows),
      .dim = (clt_i32)a->weights.s[2],
      .ld = (clt_i32)a->weights.s[2],
      .parts = s->map_parts,
      .to_dtype = CLT_F32,
      .scale = 1.0f};
  clt_step *step = clt_work_add(
      work, tile ? CLT_K_ATTN_STATS_SUM_TILE : CLT_K_ATTN_STATS_SUM, &args,
      clt_ceil_div((size_t)args.rows, tile ? ROWS_TILE_HEIGHT : COPY_ROWS),
      (size_t)a->q_heads, (size_t)a->batch, 16);
  if (!step) return;
  step->buffers[0] = clt_ref_scratch();
  step->buffers[1] = ref;
  if (tile) {
    step->group_size[0] = TILE_X;
    step->group_size[1] = ROWS_TILE_HEIGHT;
  }
}

static size_t tile_floats(size_t height, const void *args) {
  (void)args;
  return CLT_STATS_TILE_LOCAL(height);
}

static void add_steps(stats_call *c, clt_work *work, bool tile,
                      int64_t max_parts) {
  clt_stats_args *s = &c->args;
  const clt_attn_args *a = &s->attn;
  const clt_device *device = work->device;
  const clt_view map = a->weights;
  const clt_ref map_ref = c->buffers[MAP];
  const clt_kernel kernel = tile ? CLT_K_ATTN_STATS_TILE : CLT_K_ATTN_STATS;
  size_t height = 1, floats;
  if (tile) {
    height =
        clt_tile_height(device, kernel, (size_t)a->q_len, tile_floats, NULL);
    floats = tile_floats(height, NULL);
    cut(c, work, (int64_t)(TILE_R * height), max_parts);
    /* The lists are worked on where they lie. */
    if (s->top && !(s->has & CLT_STATS_TOP_WEIGHTS)) {
      s->top_weights = scratch_view(work, a, 1, a->q_len, s->top);
      c->buffers[TOP_WEIGHTS] = clt_ref_scratch();
    }
    if (s->top && !(s->has & CLT_STATS_TOP_KEYS)) {
      s->top_keys = scratch_view(work, a, 1, a->q_len, s->top);
      c->buffers[TOP_KEYS] = clt_ref_scratch();
    }
  } else {
    const int bm = device->ops->block_rows(device->impl, kernel);
    floats = CLT_STATS_LOCAL(
        bm, a->qk_dim, a->has_mask || a->has_key_mask || a->bias_dtype != 0,
        s->top);
    cut(c, work, bm, max_parts);
  }
  clt_step *step =
      clt_work_add(work, kernel, s, (size_t)s->groups, (size_t)a->q_heads,
                   (size_t)a->batch, floats * sizeof(float));
  if (!step) return;
  memcpy(step->buffers, c->buffers, sizeof c->buffers);
  if (tile) {
    step->group_size[0] = TILE_X;
    step->group_size[1] = height;
  }
  add_map(c, work, tile, &map, map_ref);
}

/* ---- which kernels --------------------------------------------------------- */

static const clt_guard_problem guard_stats;

static clattn_status ready(clt_device *device, bool tile, const void *call) {
  const clt_stats_args *s = &((const stats_call *)call)->args;
  const clt_kernel kernel = tile ? CLT_K_ATTN_STATS_TILE : CLT_K_ATTN_STATS;
  size_t local_bytes, group_size;
  CLT_TRY(device->ops->prepare(
      device->impl, tile ? CLT_K_ATTN_STATS_SUM_TILE : CLT_K_ATTN_STATS_SUM));
  CLT_TRY(clt_guard_with(device, kernel, &guard_stats));
  CLT_TRY(device->ops->limits(device->impl, kernel, &local_bytes, &group_size));
  if (tile && group_size < TILE_MIN_GROUP)
    return clt_fail(CLATTN_UNSUPPORTED,
                    "%s needs groups of %d work-items, the device allows %zu",
                    clt_kernels[kernel].entry, TILE_MIN_GROUP, group_size);
  const size_t need =
      sizeof(float) *
      (tile ? tile_floats(TILE_MIN_HEIGHT, NULL)
            : CLT_STATS_LOCAL(device->ops->block_rows(device->impl, kernel),
                              s->attn.qk_dim, true, s->top));
  if (need > local_bytes)
    return clt_fail(CLATTN_UNSUPPORTED,
                    "stats: %s needs %zu bytes of local memory for this head "
                    "size, the device has %zu",
                    clt_kernels[kernel].entry, need, local_bytes);
  return CLATTN_OK;
}

clattn_status clt_statistics_add(const clattn_plan *plan, clt_work *work,
                                 const clattn_args *args,
                                 const clattn_stats *stats) {
  CLT_REQUIRE_STRUCT(stats, clattn_stats);
  CLT_REQUIRE(plan->desc.outputs & CLATTN_OUT_LSE,
              "plan: its descriptor's outputs have no CLATTN_OUT_LSE, which "
              "statistics are computed from");
  clt_problem problem;
  CLT_TRY(clt_problem_init_scores(&problem, &plan->desc, plan->device, args));
  CLT_TRY(check_outputs(plan->device, stats, &problem.args));
  CLT_TRY(check_overlap(stats, args));
  stats_call call;
  init_call(&call, &problem, stats);
  if (call.args.has == 0) return CLATTN_OK;
  bool tile;
  CLT_TRY(clt_choose_family(plan->device, "attn_stats", ready, &call, &tile));
  add_steps(&call, work, tile, MAX_PARTS);
  return work->status;
}

clattn_status clattn_statistics(const clattn_plan *plan, clattn_queue *queue,
                                const clattn_args *args,
                                const clattn_stats *stats,
                                clattn_event *const *wait, size_t n_wait,
                                clattn_event **event) {
  if (event) *event = NULL;
  CLT_TRY(clt_plan_check_call(plan, queue, wait, n_wait));
  clt_work work;
  clt_work_init(&work, plan->device);
  clattn_status status = clt_statistics_add(plan, &work, args, stats);
  if (status == CLATTN_OK)
    status = clt_work_submit(&work, queue, NULL, wait, n_wait, event);
  clt_work_free(&work);
  return status;
}

/* ---- first-use check: more than one tile a block, more than one block ------- */

enum {
  B = 2,
  HQ = 2,
  HK = 1,
  SQ = 131,
  KEYS = 141,
  D = 20,
  TOP = 3,
  ROWS = B * HQ * SQ,
  K_AT = ROWS * D,
  LSE_AT = K_AT + B * HK * KEYS * D,
  BIAS_AT = LSE_AT + ROWS,
  SLOPES_AT = BIAS_AT + SQ * KEYS,
  LENGTHS_AT = SLOPES_AT + HQ,
  MASK_AT = LENGTHS_AT + B,
  MAP_ROWS = 100,
  MAP_KEYS = 60,
  MAP_SIZE = B * HQ * 2 * 3,
  OUT_FLOATS = 2 * ROWS + MAP_SIZE + TOP * ROWS
};
_Static_assert(MASK_AT + KEYS <= CLT_GUARD_IN, "inputs of the check");
_Static_assert(OUT_FLOATS + TOP * ROWS <= CLT_GUARD_OUT,
               "outputs of the check");

/* What is no half in the second check. */
static void guard_inputs(float *in) {
  for (int i = LSE_AT; i < SLOPES_AT; i++) /* of the lse larger: no sums */
    in[i] = (float)(i * 37 % 101) * 0.01f + (i < BIAS_AT ? 4.0f : 0.0f);
  for (int h = 0; h < HQ; h++) in[SLOPES_AT + h] = 0.01f * (float)(h + 1);
  const int32_t lengths[B] = {KEYS, KEYS - 64};
  memcpy(in + LENGTHS_AT, lengths, sizeof lengths);
  unsigned char *mask = (unsigned char *)(in + MASK_AT);
  for (int j = 0; j < KEYS; j++) mask[j] = j % 7 != 3;
}

static clattn_tensor guard_view(clattn_buffer *buffer, int64_t at,
                                clattn_dtype dtype, int64_t b, int64_t h,
                                int64_t s, int64_t d) {
  clattn_tensor t = clattn_view_bhsd(buffer, dtype, b, h, s, d);
  t.offset = at * 4 / (int64_t)clattn_dtype_size(dtype);
  return t;
}

static void guard_steps(clt_work *work, const clt_guard_site *site) {
  const bool half = site->half;
  const clattn_dtype type = half ? CLATTN_F16 : CLATTN_F32;
  clattn_desc desc;
  clattn_desc_init(&desc);
  desc.dtype = type;
  desc.q_heads = HQ;
  desc.kv_heads = HK;
  desc.qk_dim = desc.v_dim = D;
  if (half) { /* the plain problem in F32, every feature in F16 */
    desc.causal = true;
    desc.softcap = 3.0f;
    desc.window_left = 90;
    desc.window_right = 20;
    desc.temperature = 1.25f;
  }
  clattn_args args;
  clattn_args_init(&args);
  args.q = guard_view(site->in, 0, type, B, HQ, SQ, D);
  args.k = guard_view(site->in, K_AT, type, B, HK, KEYS, D);
  args.lse = guard_view(site->in, LSE_AT, CLATTN_F32, B, HQ, SQ, 1);
  if (half) {
    args.bias = guard_view(site->in, BIAS_AT, CLATTN_F32, 1, 1, SQ, KEYS);
    args.alibi_slopes =
        guard_view(site->in, SLOPES_AT, CLATTN_F32, 1, HQ, 1, 1);
    args.kv_lengths = guard_view(site->in, LENGTHS_AT, CLATTN_I32, B, 1, 1, 1);
    args.mask = guard_view(site->in, MASK_AT, CLATTN_BOOL, 1, 1, 1, KEYS);
  }
  clattn_stats stats;
  clattn_stats_init(&stats);
  stats.entropy = guard_view(site->out, 0, CLATTN_F32, B, HQ, SQ, 1);
  stats.distance = guard_view(site->out, ROWS, CLATTN_F32, B, HQ, SQ, 1);
  stats.map = guard_view(site->out, 2 * ROWS, CLATTN_F32, B, HQ, 2, 3);
  stats.map_rows = MAP_ROWS;
  stats.map_keys = MAP_KEYS;
  stats.top_weights =
      guard_view(site->out, 2 * ROWS + MAP_SIZE, CLATTN_F32, B, HQ, SQ, TOP);
  stats.top_keys =
      guard_view(site->out, OUT_FLOATS, CLATTN_I32, B, HQ, SQ, TOP);
  clt_problem problem;
  work->status = clt_problem_init_scores(&problem, &desc, work->device, &args);
  if (work->status != CLATTN_OK) return;
  stats_call call;
  init_call(&call, &problem, &stats);
  /* Tiles that make parts of the map, and tiles that are added up to one. */
  add_steps(&call, work,
            site->kernel == CLT_K_ATTN_STATS_TILE && !site->reference,
            half ? 1 : MAX_PARTS);
}

static const clt_guard_problem guard_stats = {guard_steps, guard_inputs, 2,
                                              OUT_FLOATS};
