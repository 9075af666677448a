/* plan.c - choosing implementations for a device, and executing them. */
#include "plan.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "../../cl/shape.h"

void clattn_desc_init(clattn_desc *desc) {
  if (!desc) return;
  *desc = (clattn_desc){.struct_size = sizeof *desc,
                        .dtype = CLATTN_F32,
                        .scale = __builtin_nanf(""),
                        .temperature = 1.0f,
                        .window_left = -1,
                        .window_right = -1};
}

void clattn_args_init(clattn_args *args) {
  if (!args) return;
  *args = (clattn_args){.struct_size = sizeof *args, .q_start = CLATTN_AT_END};
}

/* ---- choosing ----------------------------------------------------------------- */

typedef struct text {
  char *at;
  size_t used, room;
} text;

__attribute__((format(printf, 2, 3))) static void append(text *t,
                                                         const char *format,
                                                         ...) {
  va_list list;
  va_start(list, format);
  const int n = vsnprintf(t->at + t->used, t->room - t->used, format, list);
  va_end(list);
  if (n > 0)
    t->used = t->used + (size_t)n < t->room ? t->used + (size_t)n : t->room - 1;
}

/* Whether the row can serve this descriptor on this device; compiles and checks
 * its kernels. The reason is in the thread's message. */
static clattn_status row_accepts(clt_device *device, const clattn_desc *desc,
                                 const clt_row *row) {
  /* Gradients have no blocked path: the fused one's memory is linear as well. */
  const clattn_path path =
      row->backward && desc->path == CLATTN_BLOCKED ? CLATTN_FUSED : desc->path;
  if (path != CLATTN_AUTO && path != row->path)
    return clt_fail(CLATTN_UNSUPPORTED, "not the path that was named");
  const char *refusal = row->refuses ? row->refuses(desc) : NULL;
  if (refusal) return clt_fail(CLATTN_UNSUPPORTED, "%s", refusal);
  if (row->for_gpu && device->backend == CLATTN_CPU)
    return clt_fail(CLATTN_UNSUPPORTED, "exists in OpenCL only");
  if (row->for_gpu && device->type != CLATTN_DEVICE_GPU &&
      !clt_tuned(device, CLT_TUNE_FAMILY))
    return clt_fail(CLATTN_UNSUPPORTED, "shaped for GPUs, slow on this device");
  if (!row->backward && (desc->outputs & CLATTN_OUT_WEIGHTS) &&
      row->path == CLATTN_FUSED)
    return clt_fail(CLATTN_UNSUPPORTED,
                    "attention weights are never formed by the fused path; "
                    "AUTO, BLOCKED and UNFUSED give them");
  for (int i = 0; i < row->n_kernels; i++) {
    size_t local_bytes, group_size;
    CLT_TRY(device->ops->prepare(device->impl, row->kernels[i]));
    CLT_TRY(device->ops->limits(device->impl, row->kernels[i], &local_bytes,
                                &group_size));
    if (group_size < row->min_group)
      return clt_fail(
          CLATTN_UNSUPPORTED,
          "%s needs groups of %zu work-items, the device allows %zu",
          clt_kernels[row->kernels[i]].entry, row->min_group, group_size);
  }
  if (row->local_floats) {
    clt_problem problem;
    CLT_TRY(clt_problem_from_desc(&problem, desc));
    problem.args.has_mask = 1; /* the larger case: calls may bring a mask */
    const size_t need =
        row->local_floats(device, &problem.args) * sizeof(float);
    size_t local_bytes, group_size;
    CLT_TRY(device->ops->limits(device->impl, row->kernels[0], &local_bytes,
                                &group_size));
    if (need > local_bytes)
      return clt_fail(CLATTN_UNSUPPORTED,
                      "needs %zu bytes of local memory for these head sizes, "
                      "the device has %zu",
                      need, local_bytes);
  }
  return clt_guard_row(device, row);
}

/* Rows in the order that they are tried on this device: as the table has them,
 * but where kernels for CPUs were found faster on a GPU, they come first among
 * the fused rows, and among the others. */
static void order_rows(const clt_device *device, const clt_row *rows,
                       int n_rows, const clt_row *order[CLT_MAX_ROWS]) {
  const bool swap =
      device->type == CLATTN_DEVICE_GPU && !clt_tuned(device, CLT_TUNE_FAMILY);
  int n = 0;
  for (int part = 0; part < 4; part++) /* fused or not, for GPUs or not */
    for (int i = 0; i < n_rows; i++) {
      const bool fused = rows[i].path == CLATTN_FUSED;
      if (fused == (part < 2) && rows[i].for_gpu == ((part % 2 == 0) != swap))
        order[n++] = &rows[i];
    }
}

/* The tile of the first row that is not for few queries only. */
static void append_tile(text *info, const clattn_plan *plan) {
  const clt_device *device = plan->device;
  int i = 0;
  while (i + 1 < plan->n_rows && clt_row_for_few_queries(plan->rows[i])) i++;
  const clt_row *row = plan->rows[i];
  const int bm = clt_tuned(device, CLT_TUNE_BLOCK);
  const char *family = clt_tuning_why(device, CLT_TUNE_FAMILY);
  const char *block = clt_tuning_why(device, CLT_TUNE_BLOCK);
  const char *lanes = clt_tuning_why(device, CLT_TUNE_LANES);
  if (row->for_gpu) {
    append(info, "tile: up to %d queries x %d keys, work-groups (%s)\n",
           TILE_R * TILE_MAX_HEIGHT, TILE_N, family);
    return;
  }
  if (row->path == CLATTN_UNFUSED)
    append(info, "tile: %d rows x %d columns",
           MM_M_OF(device->ops->block_rows(device->impl, CLT_K_MATMUL)), MM_N);
  else
    append(info, "tile: %d queries x %d keys", bm, BN);
  if (device->tuning.of[CLT_TUNE_BLOCK].n_options > 1 && block != lanes)
    append(info, " (%s)", block);
  append(info, ", %s (%s)\n", clt_tuning_name(&device->tuning, CLT_TUNE_LANES),
         lanes);
}

/* What a search through rows found, and for an error message why not more. */
typedef struct search {
  const clt_row *rows[CLT_MAX_ROWS];
  int n;
  bool complete; /* a row that serves every length is among them */
  /* Of the rows that were asked for, each reason once in a row. */
  char why[1024], last[256];
} search;

/* Adds the row's refusal (the thread's message) to what an error will say. */
static void add_reason(search *s, const clattn_desc *desc, const clt_row *row) {
  if (desc->path != CLATTN_AUTO && desc->path != row->path) return;
  const char *message = clattn_error_message();
  if (strncmp(s->last, message, sizeof s->last - 1) == 0) return;
  snprintf(s->last, sizeof s->last, "%s", message);
  const size_t used = strlen(s->why);
  snprintf(s->why + used, sizeof s->why - used, "%s%s: %s", used ? "; " : ": ",
           row->name, message);
}

/* Tries the rows of a table in order. Fails only where the device or the host
 * failed, so that no other row would help. */
static clattn_status find_rows(clt_device *device, const clattn_desc *desc,
                               const clt_row *rows, int n_rows, text *info,
                               search *s) {
  const clt_row *order[CLT_MAX_ROWS];
  *s = (search){.n = 0};
  order_rows(device, rows, n_rows, order);
  for (int i = 0; i < n_rows; i++) {
    const clt_row *row = order[i];
    if (s->complete) {
      append(info, "not needed: %s: a row before it serves every length\n",
             row->name);
      continue;
    }
    const clattn_status status = row_accepts(device, desc, row);
    if (status == CLATTN_OK) {
      s->rows[s->n++] = row;
      s->complete = row->any_length;
      append(info, "used: %s\n", row->name);
    } else if (status == CLATTN_UNSUPPORTED || status == CLATTN_BUILD_FAILED) {
      append(info, "refused: %s: %s\n", row->name, clattn_error_message());
      add_reason(s, desc, row);
      clt_log(device->context, "plan: refused %s: %s", row->name,
              clattn_error_message());
    } else {
      return status;
    }
  }
  return CLATTN_OK;
}

static clattn_status choose_rows(clattn_plan *plan, text *info) {
  const clattn_desc *desc = &plan->desc;
  search s;
  CLT_TRY(find_rows(plan->device, desc, clt_rows, clt_row_count, info, &s));
  /* Whoever names the blocked path gets it, for the lengths that fit. */
  if (!s.complete && !(desc->path == CLATTN_BLOCKED && s.n > 0))
    return clt_fail(CLATTN_UNSUPPORTED,
                    "plan: no implementation serves this problem on this "
                    "device%s",
                    s.why);
  memcpy(plan->rows, s.rows, sizeof s.rows);
  plan->n_rows = s.n;
  if (desc->backward) {
    CLT_TRY(find_rows(plan->device, desc, clt_backward_rows,
                      clt_backward_row_count, info, &s));
    if (s.n == 0)
      return clt_fail(CLATTN_UNSUPPORTED,
                      "plan: no implementation gives gradients of this problem "
                      "on this device%s",
                      s.why);
    plan->backward = s.rows[0];
  }
  append_tile(info, plan);
  return CLATTN_OK;
}

clattn_status clt_plan_new(clt_device *device, const clattn_desc *desc,
                           clattn_plan **out) {
  *out = NULL;
  CLT_TRY(clt_desc_check(desc));
  clt_problem problem;
  CLT_TRY(clt_problem_from_desc(&problem, desc));

  enum { ROOM = 8192 };
  clattn_plan *plan = clt_alloc(sizeof *plan);
  text info = {clt_alloc(ROOM), 0, ROOM};
  clattn_status status = CLATTN_OUT_OF_MEMORY;
  if (plan && info.at) {
    plan->device = device;
    plan->desc = *desc;
    plan->info = info.at;
    status = choose_rows(plan, &info);
  } else {
    clt_fail(status, "plan: out of host memory");
  }
  if (status == CLATTN_OK) {
    *out = plan;
    return CLATTN_OK;
  }
  clt_free(info.at);
  clt_free(plan);
  return status;
}

clattn_status clattn_plan_create(clattn_context *context, int device,
                                 const clattn_desc *desc, clattn_plan **plan) {
  CLT_REQUIRE(plan, "plan: got NULL, want a place for the result");
  *plan = NULL;
  CLT_REQUIRE(context, "context: got NULL, want a context");
  clt_device *found = NULL;
  CLT_TRY(clt_device_get(context, device, &found));
  CLT_TRY(clt_plan_new(found, desc, plan));
  clt_context_retain(context);
  return CLATTN_OK;
}

void clattn_plan_destroy(clattn_plan *plan) {
  if (!plan) return;
  clattn_context *context = plan->borrowed ? NULL : plan->device->context;
  clt_free(plan->info);
  clt_free(plan);
  if (context) clt_context_release(context);
}

const char *clattn_plan_info(const clattn_plan *plan) {
  return plan ? plan->info : "";
}

const clt_row *clt_plan_row(const clattn_plan *plan,
                            const clt_attn_args *args) {
  int i = 0;
  while (i + 1 < plan->n_rows && plan->rows[i]->wants &&
         !plan->rows[i]->wants(plan->device, args))
    i++;
  return plan->rows[i];
}

/* ---- executing ------------------------------------------------------------------ */

/* Scratch of forward, or of backward. */
static clattn_status scratch_bytes(const clattn_plan *plan, bool backward,
                                   int64_t batch, int64_t q_len, int64_t kv_len,
                                   size_t *bytes) {
  CLT_REQUIRE(plan, "plan: got NULL, want a plan");
  CLT_REQUIRE(!backward || plan->backward,
              "plan: its descriptor has backward false, want true");
  CLT_REQUIRE(bytes, "bytes: got NULL, want a place for the result");
  const struct {
    const char *name;
    int64_t value;
  } lengths[] = {{"batch", batch}, {"q_len", q_len}, {"kv_len", kv_len}};
  for (int i = 0; i < 3; i++)
    CLT_REQUIRE(lengths[i].value >= 1 && lengths[i].value < CLT_MAX_LENGTH,
                "%s: got %" PRId64 ", want 1..2^30-1", lengths[i].name,
                lengths[i].value);
  CLT_REQUIRE(batch * plan->desc.q_heads < INT32_MAX,
              "batch: got %" PRId64 ", want less than 2^31 / q_heads", batch);
  clt_problem problem;
  CLT_TRY(clt_problem_from_desc(&problem, &plan->desc));
  problem.args.batch = (clt_i32)batch;
  problem.args.q_len = (clt_i32)q_len;
  problem.args.kv_len = (clt_i32)kv_len;
  problem.args.weights_dtype =
      plan->desc.outputs & CLATTN_OUT_WEIGHTS ? CLT_F32 : 0;
  clt_work work;
  clt_work_init(&work, plan->device);
  (backward ? plan->backward : clt_plan_row(plan, &problem.args))
      ->build(&problem, &work);
  const clattn_status status = work.status;
  if (status == CLATTN_OK) *bytes = work.scratch_bytes;
  clt_work_free(&work);
  return status;
}

clattn_status clattn_plan_scratch_bytes(const clattn_plan *plan, int64_t batch,
                                        int64_t q_len, int64_t kv_len,
                                        size_t *bytes) {
  return scratch_bytes(plan, false, batch, q_len, kv_len, bytes);
}

clattn_status clattn_plan_backward_scratch_bytes(const clattn_plan *plan,
                                                 int64_t batch, int64_t q_len,
                                                 int64_t kv_len,
                                                 size_t *bytes) {
  return scratch_bytes(plan, true, batch, q_len, kv_len, bytes);
}

clattn_status clt_plan_check_call(const clattn_plan *plan,
                                  const clattn_queue *queue,
                                  clattn_event *const *wait, size_t n_wait) {
  CLT_REQUIRE(plan, "plan: got NULL, want a plan");
  CLT_TRY(clt_check_enqueue(queue, wait, n_wait));
  CLT_REQUIRE(queue->device == plan->device,
              "queue: is on device %d, want the plan's device %d of the same "
              "context",
              queue->device->index, plan->device->index);
  return CLATTN_OK;
}

clattn_status clattn_execute(const clattn_plan *plan, clattn_queue *queue,
                             const clattn_args *args, clattn_buffer *scratch,
                             clattn_event *const *wait, size_t n_wait,
                             clattn_event **event) {
  if (event) *event = NULL;
  CLT_TRY(clt_plan_check_call(plan, queue, wait, n_wait));
  clt_problem problem;
  CLT_TRY(clt_problem_init(&problem, &plan->desc, plan->device, args));
  clt_work work;
  clt_work_init(&work, plan->device);
  clt_plan_row(plan, &problem.args)->build(&problem, &work);
  clattn_status status = work.status;
  if (status == CLATTN_OK)
    status = clt_work_submit(&work, queue, scratch, wait, n_wait, event);
  clt_work_free(&work);
  return status;
}

clattn_status clt_backward_add(const clattn_plan *plan, clt_work *work,
                               const clattn_args *args,
                               const clattn_grads *grads) {
  clt_problem problem;
  CLT_TRY(clt_problem_init_backward(&problem, &plan->desc, plan->device, args,
                                    grads));
  plan->backward->build(&problem, work);
  return work->status;
}

clattn_status clattn_backward(const clattn_plan *plan, clattn_queue *queue,
                              const clattn_args *args,
                              const clattn_grads *grads, clattn_buffer *scratch,
                              clattn_event *const *wait, size_t n_wait,
                              clattn_event **event) {
  if (event) *event = NULL;
  CLT_TRY(clt_plan_check_call(plan, queue, wait, n_wait));
  CLT_REQUIRE(plan->backward,
              "plan: its descriptor has backward false, want true");
  clt_work work;
  clt_work_init(&work, plan->device);
  clattn_status status = clt_backward_add(plan, &work, args, grads);
  if (status == CLATTN_OK)
    status = clt_work_submit(&work, queue, scratch, wait, n_wait, event);
  clt_work_free(&work);
  return status;
}
