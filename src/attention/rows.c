/* rows.c - the implementations of attention, as sequences of steps. */
#include <string.h>

#include "../../cl/shape.h"
#include "plan.h"

static int block_rows(const clt_device *device) {
  return device->ops->block_rows(device->impl, CLT_K_ATTN_FUSED);
}

static bool masked(const clt_attn_args *a) {
  return a->has_mask || a->has_key_mask || a->bias_dtype != 0;
}

void clt_fill_buffers(clt_step *step, const clt_problem *problem) {
  if (!step) return;
  step->n_buffers = CLT_BUF_COUNT;
  memcpy(step->buffers, problem->buffers, sizeof problem->buffers);
}

void clt_add_tiles(clt_work *work, const clt_problem *problem,
                   clt_kernel kernel, size_t gx, size_t gy, size_t gz,
                   size_t width, size_t height, size_t local_floats) {
  clt_step *step = clt_work_add(work, kernel, &problem->args, gx, gy, gz,
                                local_floats * sizeof(float));
  clt_fill_buffers(step, problem);
  if (step) {
    step->group_size[0] = width;
    step->group_size[1] = height;
  }
}

/* ---- fused: lanes are queries ------------------------------------------------- */

static size_t fused_local(const clt_device *device, const clt_attn_args *a) {
  return CLT_FUSED_LOCAL(block_rows(device), a->qk_dim, a->v_dim, masked(a));
}

static void fused_build(const clt_problem *problem, clt_work *work) {
  const clt_attn_args *a = &problem->args;
  clt_step *step = clt_work_add(
      work, CLT_K_ATTN_FUSED, a,
      clt_ceil_div((size_t)a->q_len, (size_t)block_rows(work->device)),
      (size_t)a->q_heads, (size_t)a->batch,
      fused_local(work->device, a) * sizeof(float));
  clt_fill_buffers(step, problem);
}

/* ---- blocked: the same with all scores of a block, and so the weights -------------- */

/* More would leave the caches of the core. */
#define BLOCKED_BYTES ((size_t)4 << 20)

/* With room for a mask whether there is one or not, so that the choice of the
 * row, and with it the scratch that is asked for, hangs on lengths alone. */
static size_t blocked_floats(const clt_device *device, const clt_attn_args *a,
                             int keys) {
  return CLT_BLOCKED_LOCAL(block_rows(device), a->qk_dim, a->v_dim, true, keys);
}

/* The least that any length needs. */
static size_t blocked_local(const clt_device *device, const clt_attn_args *a) {
  return blocked_floats(device, a, 1);
}

static size_t blocked_limit(const clt_device *device) {
  size_t local_bytes, group_size;
  if (device->ops->limits(device->impl, CLT_K_ATTN_BLOCKED, &local_bytes,
                          &group_size) != CLATTN_OK)
    return 0;
  return local_bytes < BLOCKED_BYTES ? local_bytes : BLOCKED_BYTES;
}

static bool blocked_wants(const clt_device *device, const clt_attn_args *a) {
  return blocked_floats(device, a, a->kv_len) * sizeof(float) <=
         blocked_limit(device);
}

static const char *blocked_refuses(const clattn_desc *desc) {
  if (CLT_BLOCKED_LOCAL(BM, desc->qk_dim, desc->v_dim, true, 1) >
      BLOCKED_BYTES / sizeof(float))
    return "qk_dim and v_dim are too large: not even one key would fit";
  if (!(desc->outputs & CLATTN_OUT_WEIGHTS)) return NULL;
  if (desc->average_weights && desc->dtype != CLATTN_F32)
    return "averages weights in F32 only";
  if (desc->weights_stage != CLATTN_WEIGHTS_PROBABILITIES)
    return "forms probabilities, not the scores before them";
  return NULL;
}

static void blocked_build(const clt_problem *problem, clt_work *work) {
  const clt_attn_args *a = &problem->args;
  const size_t bytes =
      blocked_floats(work->device, a, a->kv_len) * sizeof(float);
  if (bytes > blocked_limit(work->device)) {
    work->status = clt_fail(
        CLATTN_UNSUPPORTED,
        "kv_len: got %d, which needs %zu bytes of local memory on the blocked "
        "path, want at most %zu; other paths have no such limit",
        (int)a->kv_len, bytes, blocked_limit(work->device));
    return;
  }
  const bool each_head = !(a->average_weights && a->weights_dtype);
  clt_fill_buffers(
      clt_work_add(
          work, CLT_K_ATTN_BLOCKED, a,
          clt_ceil_div((size_t)a->q_len, (size_t)block_rows(work->device)),
          each_head ? (size_t)a->q_heads : 1, (size_t)a->batch, bytes),
      problem);
}

/* ---- fused, for GPUs ------------------------------------------------------------ */

static size_t fused_tile_floats(size_t height, const void *args) {
  (void)args;
  return CLT_FUSED_TILE_LOCAL(height);
}

/* The local memory functions of rows give what the smallest group needs. */
static size_t fused_tile_local(const clt_device *device,
                               const clt_attn_args *a) {
  (void)device;
  return fused_tile_floats(TILE_MIN_HEIGHT, a);
}

static void fused_tile_build(const clt_problem *problem, clt_work *work) {
  const clt_attn_args *a = &problem->args;
  const size_t height = clt_tile_height(work->device, CLT_K_ATTN_FUSED_TILE,
                                        (size_t)a->q_len, fused_tile_floats, a);
  clt_add_tiles(work, problem, CLT_K_ATTN_FUSED_TILE,
                clt_ceil_div((size_t)a->q_len, TILE_R * height) *
                    clt_ceil_div((size_t)a->v_dim, FUSED_TILE_DV),
                (size_t)a->q_heads, (size_t)a->batch, TILE_X, height,
                fused_tile_floats(height, a));
}

/* ---- split-KV: few queries against many keys ---------------------------------- */

static size_t split_local(const clt_device *device, const clt_attn_args *a) {
  return CLT_SPLIT_LOCAL(block_rows(device), a->qk_dim, a->v_dim);
}

/* A fused block works on whole vectors of queries, and for each query head on its
 * own; with few keys its plainer loops win sooner (bench/LOG.md). */
static bool split_wants(const clt_device *device, const clt_attn_args *a) {
  (void)device;
  return a->q_len <= (a->kv_len >= 256 ? 12 : 8);
}

/* Enough groups to fill the device, each with at least 256 keys. */
static void choose_splits(clt_attn_args *a, size_t groups, size_t units) {
  const size_t longest = clt_ceil_div((size_t)a->kv_len, 256);
  size_t splits = groups >= 4 * units ? 1 : clt_ceil_div(4 * units, groups);
  if (splits > longest) splits = longest;
  if (splits < 1) splits = 1;
  const size_t length =
      clt_ceil_div(clt_ceil_div((size_t)a->kv_len, splits), SPLIT_KEYS) *
      SPLIT_KEYS;
  a->split_len = (clt_i32)length;
  a->n_splits = (clt_i32)clt_ceil_div((size_t)a->kv_len, length);
}

/* Groups over key heads and chunks of their rows. */
static size_t split_chunks(const clt_attn_args *a, size_t rows) {
  return (size_t)a->kv_heads *
         clt_ceil_div((size_t)a->group * (size_t)a->q_len, rows);
}

/* Chooses the splits and lays out their partial results. */
static void split_parts(clt_problem *p, clt_work *work, size_t chunks) {
  clt_attn_args *a = &p->args;
  clattn_device_info info;
  work->device->ops->device_info(work->device->impl, &info);
  choose_splits(a, chunks * (size_t)a->batch, info.compute_units);
  if (a->n_splits > 1) {
    const size_t rows = (size_t)a->batch * (size_t)a->q_heads *
                        (size_t)a->q_len * (size_t)a->n_splits;
    a->part = (clt_i64)(clt_work_scratch(work, rows * CLT_SPLIT_PART(a->v_dim) *
                                                   sizeof(float)) /
                        sizeof(float));
    p->buffers[CLT_BUF_PART] = clt_ref_scratch();
  }
}

static void split_build(const clt_problem *problem, clt_work *work) {
  clt_problem p = *problem;
  const clt_attn_args *a = &p.args;
  const size_t gy =
      split_chunks(a, (size_t)SPLIT_ROWS_OF(block_rows(work->device)));
  const size_t gz = (size_t)a->batch;
  split_parts(&p, work, gy);
  const size_t local = split_local(work->device, a) * sizeof(float);
  clt_fill_buffers(clt_work_add(work, CLT_K_ATTN_SPLIT, a, (size_t)a->n_splits,
                                gy, gz, local),
                   &p);
  if (a->n_splits > 1)
    clt_fill_buffers(
        clt_work_add(work, CLT_K_ATTN_MERGE, a, (size_t)a->q_len,
                     (size_t)a->q_heads, gz,
                     CLT_PAD((size_t)a->v_dim, MAX_LANES) * sizeof(float)),
        &p);
}

/* ---- split-KV, for GPUs --------------------------------------------------------- */

static size_t split_tile_floats(size_t height, const void *args) {
  return CLT_SPLIT_TILE_LOCAL(height, ((const clt_attn_args *)args)->qk_dim);
}

static size_t split_tile_local(const clt_device *device,
                               const clt_attn_args *a) {
  (void)device;
  return split_tile_floats(TILE_MIN_HEIGHT, a);
}

static void split_tile_build(const clt_problem *problem, clt_work *work) {
  clt_problem p = *problem;
  const clt_attn_args *a = &p.args;
  const size_t chunks = split_chunks(a, SPLIT_TILE_ROWS);
  split_parts(&p, work, chunks);
  const size_t height =
      clt_tile_height(work->device, CLT_K_ATTN_SPLIT_TILE, (size_t)a->kv_len,
                      split_tile_floats, a);
  clt_add_tiles(
      work, &p, CLT_K_ATTN_SPLIT_TILE,
      (size_t)a->n_splits * clt_ceil_div((size_t)a->v_dim, SPLIT_TILE_DV),
      chunks, (size_t)a->batch, TILE_X, height, split_tile_floats(height, a));
  if (a->n_splits > 1)
    clt_add_tiles(work, &p, CLT_K_ATTN_MERGE_TILE, (size_t)a->q_len,
                  (size_t)a->q_heads, (size_t)a->batch, MERGE_TILE_ITEMS, 1, 0);
}

/* ---- unfused: matmul, softmax, matmul ------------------------------------------- */

/* Scores in scratch at a time: small enough to stay near the caches. */
#define UNFUSED_BYTES ((size_t)32 << 20)

void clt_choose_chunk(const clt_attn_args *a, size_t bytes, size_t limit,
                      bool whole_groups, int *batches, int *heads) {
  size_t fit = (limit < UNFUSED_BYTES ? limit : UNFUSED_BYTES) / bytes;
  if (fit >= (size_t)a->q_heads) {
    fit /= (size_t)a->q_heads;
    *heads = a->q_heads;
    *batches = fit < (size_t)a->batch ? (int)fit : a->batch;
  } else {
    *batches = 1;
    *heads = fit >= (size_t)a->group
                 ? (int)(fit / (size_t)a->group * (size_t)a->group)
                 : 1;
    if (whole_groups && *heads < a->group) *heads = a->group;
  }
}

/* Scores = scale Q K^T of the chunk, into scratch. */
static void add_scores(const clt_problem *problem, clt_work *work,
                       clt_kernel matmul, const clt_attn_args *a,
                       const clt_view *scores) {
  const clt_i64 g = a->head_first / a->group;
  clt_matmul_args m = {.a = a->q,
                       .b = a->k,
                       .c = *scores,
                       .batch = a->batch_count,
                       .heads = a->head_count,
                       .b_group = a->head_count == 1 ? 1 : a->group,
                       .m = a->q_len,
                       .n = a->kv_len,
                       .k = a->qk_dim,
                       .a_dtype = a->dtype,
                       .b_dtype = a->dtype,
                       .c_dtype = CLT_F32,
                       .alpha = a->scale};
  m.a.offset += a->batch_first * a->q.s[0] + a->head_first * a->q.s[1];
  m.b.offset += a->batch_first * a->k.s[0] + g * a->k.s[1];
  clt_matmul_add(work, matmul, &m, problem->buffers[CLT_BUF_Q],
                 problem->buffers[CLT_BUF_K], clt_ref_scratch(), (clt_ref){0});
}

/* O = P V of the chunk. V's rows are summed over, so its view is transposed;
 * hidden keys have P = 0 and must not count, whatever V holds there. */
static void add_output(const clt_problem *problem, clt_work *work,
                       clt_kernel matmul, const clt_attn_args *a,
                       const clt_view *scores) {
  const clt_i64 g = a->head_first / a->group;
  clt_matmul_args m = {.a = *scores,
                       .b = a->v,
                       .c = a->out,
                       .batch = a->batch_count,
                       .heads = a->head_count,
                       .b_group = a->head_count == 1 ? 1 : a->group,
                       .m = a->q_len,
                       .n = a->v_dim,
                       .k = a->kv_len,
                       .a_dtype = CLT_F32,
                       .b_dtype = a->dtype,
                       .c_dtype = a->dtype,
                       .skip_zero = 1,
                       .alpha = 1.0f};
  m.b.s[2] = a->v.s[3];
  m.b.s[3] = a->v.s[2];
  m.b.offset += a->batch_first * a->v.s[0] + g * a->v.s[1];
  m.c.offset += a->batch_first * a->out.s[0] + a->head_first * a->out.s[1];
  clt_matmul_add(work, matmul, &m, clt_ref_scratch(),
                 problem->buffers[CLT_BUF_V], problem->buffers[CLT_BUF_OUT],
                 (clt_ref){0});
}

/* The mean over heads as well, where it is wanted. */
static void add_softmax(const clt_problem *problem, clt_work *work,
                        bool average) {
  const clt_attn_args *a = &problem->args;
  const size_t rows = clt_ceil_div((size_t)a->q_len, SOFTMAX_ROWS);
  clt_fill_buffers(
      clt_work_add(work, CLT_K_ATTN_SOFTMAX, a, rows, (size_t)a->head_count,
                   (size_t)a->batch_count, 16),
      problem);
  if (average)
    clt_fill_buffers(clt_work_add(work, CLT_K_ATTN_AVERAGE, a, rows, 1,
                                  (size_t)a->batch_count, 16),
                     problem);
}

static size_t softmax_tile_floats(size_t height, const void *args) {
  (void)args;
  return CLT_SOFTMAX_TILE_LOCAL(height);
}

static size_t softmax_tile_local(const clt_device *device,
                                 const clt_attn_args *a) {
  (void)device;
  return softmax_tile_floats(TILE_MIN_HEIGHT, a);
}

static void add_softmax_tile(const clt_problem *problem, clt_work *work,
                             bool average) {
  const clt_attn_args *a = &problem->args;
  const size_t height =
      clt_tile_height(work->device, CLT_K_ATTN_SOFTMAX_TILE,
                      (size_t)a->kv_len / TILE_R, softmax_tile_floats, a);
  clt_add_tiles(work, problem, CLT_K_ATTN_SOFTMAX_TILE, (size_t)a->q_len,
                (size_t)a->head_count, (size_t)a->batch_count, TILE_X * height,
                1, softmax_tile_floats(height, a));
  if (average)
    clt_add_tiles(work, problem, CLT_K_ATTN_AVERAGE_TILE, (size_t)a->q_len, 1,
                  (size_t)a->batch_count, TILE_MIN_GROUP, 1, 0);
}

static void unfused_with(const clt_problem *problem, clt_work *work,
                         clt_kernel matmul,
                         void (*softmax)(const clt_problem *problem,
                                         clt_work *work, bool average)) {
  clt_problem p = *problem;
  clt_attn_args *a = &p.args;
  clattn_device_info info;
  work->device->ops->device_info(work->device->impl, &info);
  const size_t one = (size_t)a->q_len * (size_t)a->kv_len * sizeof(float);
  /* The mean over heads is held beside the scores of one chunk. */
  const bool average = a->average_weights && a->weights_dtype;
  const size_t limit = (size_t)(info.max_alloc_bytes / (average ? 2 : 1));
  if (one > limit) {
    work->status = clt_fail(
        CLATTN_UNSUPPORTED,
        "unfused: the scores of one head take %zu bytes%s, the largest buffer "
        "of this device is %llu; the fused path needs none of it",
        one, average ? ", twice for the mean" : "",
        (unsigned long long)info.max_alloc_bytes);
    return;
  }
  int batches, heads;
  clt_choose_chunk(a, one, limit, false, &batches, &heads);

  const size_t chunk = one * (size_t)batches * (size_t)heads;
  a->part = (clt_i64)(clt_work_scratch(work, chunk) / sizeof(float));
  if (average)
    a->average = (clt_i64)(clt_work_scratch(work, one * (size_t)batches) /
                           sizeof(float));
  p.buffers[CLT_BUF_PART] = clt_ref_scratch();

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
      const clt_i64 per_head = (clt_i64)a->q_len * a->kv_len;
      const clt_view scores = {
          a->part, {per_head * a->head_count, per_head, a->kv_len, 1}};
      add_scores(&p, work, matmul, a, &scores);
      softmax(&p, work, average);
      add_output(&p, work, matmul, a, &scores);
    }
  }
}

static void unfused_build(const clt_problem *problem, clt_work *work) {
  unfused_with(problem, work, CLT_K_MATMUL, add_softmax);
}

static void unfused_tile_build(const clt_problem *problem, clt_work *work) {
  unfused_with(problem, work, CLT_K_MATMUL_TILE, add_softmax_tile);
}

/* ---- the table, in the order plans try it ------------------------------------------ */

const clt_row clt_rows[] = {
    {.name = "fused split-KV, work-groups (GPU; few queries)",
     .path = CLATTN_FUSED,
     .kernels = {CLT_K_ATTN_SPLIT_TILE, CLT_K_ATTN_MERGE_TILE},
     .n_kernels = 2,
     .for_gpu = true,
     .min_group = TILE_MIN_GROUP,
     .local_floats = split_tile_local,
     .wants = split_wants,
     .build = split_tile_build},
    {.name = "fused, work-groups (GPU)",
     .path = CLATTN_FUSED,
     .kernels = {CLT_K_ATTN_FUSED_TILE},
     .n_kernels = 1,
     .for_gpu = true,
     .any_length = true,
     .min_group = TILE_MIN_GROUP,
     .local_floats = fused_tile_local,
     .build = fused_tile_build},
    {.name = "fused split-KV (lanes are head dimensions; few queries)",
     .path = CLATTN_FUSED,
     .kernels = {CLT_K_ATTN_SPLIT, CLT_K_ATTN_MERGE},
     .n_kernels = 2,
     .local_floats = split_local,
     .wants = split_wants,
     .build = split_build},
    {.name = "fused (lanes are queries)",
     .path = CLATTN_FUSED,
     .kernels = {CLT_K_ATTN_FUSED},
     .n_kernels = 1,
     .any_length = true,
     .local_floats = fused_local,
     .build = fused_build},
    {.name = "unfused, work-groups (GPU)",
     .path = CLATTN_UNFUSED,
     .kernels = {CLT_K_ATTN_SOFTMAX_TILE, CLT_K_MATMUL_TILE,
                 CLT_K_ATTN_AVERAGE_TILE},
     .n_kernels = 3,
     .for_gpu = true,
     .any_length = true,
     .min_group = TILE_MIN_GROUP,
     .local_floats = softmax_tile_local,
     .build = unfused_tile_build},
    {.name = "blocked (lanes are queries; weights, while scores fit)",
     .path = CLATTN_BLOCKED,
     .kernels = {CLT_K_ATTN_BLOCKED},
     .n_kernels = 1,
     .local_floats = blocked_local,
     .refuses = blocked_refuses,
     .wants = blocked_wants,
     .build = blocked_build},
    {.name = "unfused (matmul, softmax, matmul)",
     .path = CLATTN_UNFUSED,
     .kernels = {CLT_K_ATTN_SOFTMAX, CLT_K_MATMUL, CLT_K_ATTN_AVERAGE},
     .n_kernels = 3,
     .any_length = true,
     .build = unfused_build},
};
const int clt_row_count = (int)(sizeof clt_rows / sizeof *clt_rows);
