/* Every public function, every argument: what is wrong gets its status and a
 * message that names the argument, and changes nothing. The operations around
 * attention and the layer are in test_errors_ops.c. */
#define _POSIX_C_SOURCE 200809L /* setenv */
#include <math.h>

#include "errors.h"

/* ---- context and device -------------------------------------------------- */

static void count_log(void *user, const char *text) {
  (void)text;
  ++*(int *)user;
}

Test(errors, context) {
  clattn_context_config config;
  clattn_context *const none = NULL, *context = (clattn_context *)&config;
  FAILS(INVALID_ARGUMENT, "context", clattn_context_create(NULL, NULL));
  clattn_context_config_init(&config);
  config.struct_size--;
  FAILS(INVALID_ARGUMENT, "struct_size",
        clattn_context_create(&config, &context));
  cr_expect_null(context, "a failure leaves the handle NULL");
  clattn_context_config_init(&config);
  config.backend = (clattn_backend)3;
  FAILS(INVALID_ARGUMENT, "backend", clattn_context_create(&config, &context));
  clattn_context_config_init(&config);
  config.dense = (clattn_dense)-1;
  FAILS(INVALID_ARGUMENT, "dense", clattn_context_create(&config, &context));
  clattn_context_config_init(&config);
  config.cpu_threads = -1;
  FAILS(INVALID_ARGUMENT, "cpu_threads",
        clattn_context_create(&config, &context));
  clattn_context_destroy(NULL);
  clattn_context_config_init(NULL);
  cr_expect_eq(clattn_device_count(NULL), 0);
  cr_expect_eq(none, NULL);
  FAILS(INVALID_ARGUMENT, "context",
        clattn_context_from_native(NULL, &config, &config, NULL));
  context = (clattn_context *)&config;
  FAILS(INVALID_ARGUMENT, "native_context",
        clattn_context_from_native(NULL, NULL, &config, &context));
  cr_expect_null(context);
  FAILS(INVALID_ARGUMENT, "native_device",
        clattn_context_from_native(NULL, &config, NULL, &context));
}

Test(errors, device) {
  const th_devices *devices = th_open(false);
  clattn_context *context = devices->context;
  int index = 77, n = clattn_device_count(context);
  clattn_device_info info = {.struct_size = sizeof info};
  FAILS(INVALID_ARGUMENT, "context", clattn_device_get_info(NULL, 0, &info));
  FAILS(INVALID_ARGUMENT, "device", clattn_device_get_info(context, n, &info));
  FAILS(INVALID_ARGUMENT, "device", clattn_device_get_info(context, -2, &info));
  FAILS(INVALID_ARGUMENT, "info", clattn_device_get_info(context, 0, NULL));
  info.struct_size = 1;
  FAILS(INVALID_ARGUMENT, "struct_size",
        clattn_device_get_info(context, 0, &info));
  cr_expect_eq(info.struct_size, 1);
  FAILS(INVALID_ARGUMENT, "context", clattn_device_find(NULL, "cpu", &index));
  FAILS(INVALID_ARGUMENT, "device", clattn_device_find(context, "cpu", NULL));
  FAILS(NO_DEVICE, "no such thing",
        clattn_device_find(context, "no such thing", &index));
  FAILS(NO_DEVICE, "99", clattn_device_find(context, "99", &index));
  FAILS(NO_DEVICE, "99999999999999999999",
        clattn_device_find(context, "99999999999999999999", &index));
  setenv("CLATTN_DEVICE", "nowhere", 1);
  FAILS(NO_DEVICE, "nowhere", clattn_device_find(context, NULL, &index));
  cr_expect_eq(index, 77, "a failure keeps the index");
  setenv("CLATTN_DEVICE", "0", 1);
  TH_OK(clattn_device_find(context, NULL, &index));
  cr_expect_eq(index, 0);
  unsetenv("CLATTN_DEVICE");
  th_shut();
}

/* ---- queues, buffers, events --------------------------------------------- */

Test(errors, queue_buffer_event) {
  const th_devices *devices = th_open(false);
  clattn_context *context = devices->context;
  for (int d = 0; d < devices->count; d++) {
    const th_device *device = &devices->device[d];
    int i = device->index;
    char bytes[64] = {0};
    clattn_queue *queue = (clattn_queue *)bytes;
    clattn_buffer *buffer = (clattn_buffer *)bytes, *real = NULL;
    clattn_event *event = (clattn_event *)bytes;
    FAILS(INVALID_ARGUMENT, "context", clattn_queue_create(NULL, i, &queue));
    cr_expect_null(queue);
    FAILS(INVALID_ARGUMENT, "device", clattn_queue_create(context, 99, &queue));
    FAILS(INVALID_ARGUMENT, "queue", clattn_queue_create(context, i, NULL));
    FAILS(INVALID_ARGUMENT, "queue", clattn_queue_finish(NULL));
    clattn_queue_destroy(NULL);
    FAILS(INVALID_ARGUMENT, "event", clattn_event_wait(NULL));
    clattn_event_destroy(NULL);
    clattn_buffer_destroy(NULL);
    cr_expect_eq(clattn_buffer_size(NULL), 0);

    FAILS(INVALID_ARGUMENT, "context",
          clattn_buffer_create(NULL, i, 4, &buffer));
    cr_expect_null(buffer);
    FAILS(INVALID_ARGUMENT, "device",
          clattn_buffer_create(context, -7, 4, &buffer));
    FAILS(INVALID_ARGUMENT, "size_bytes",
          clattn_buffer_create(context, i, 0, &buffer));
    FAILS(INVALID_ARGUMENT, "buffer",
          clattn_buffer_create(context, i, 4, NULL));
    FAILS(OUT_OF_MEMORY, "",
          clattn_buffer_create(context, i, SIZE_MAX / 2, &buffer));
    FAILS(OUT_OF_MEMORY, "",
          clattn_buffer_create(context, i, SIZE_MAX, &buffer));
    cr_expect_null(buffer);
    FAILS(INVALID_ARGUMENT, "context",
          clattn_buffer_wrap(NULL, i, bytes, 64, &buffer));
    FAILS(INVALID_ARGUMENT, "memory",
          clattn_buffer_wrap(context, i, NULL, 64, &buffer));
    FAILS(INVALID_ARGUMENT, "size_bytes",
          clattn_buffer_wrap(context, i, bytes, 0, &buffer));
    FAILS(INVALID_ARGUMENT, "buffer",
          clattn_buffer_wrap(context, i, bytes, 64, NULL));
    if (device->opencl)
      FAILS(UNSUPPORTED, "CPU",
            clattn_buffer_wrap(context, i, bytes, 64, &buffer));

    TH_OK(clattn_buffer_create(context, i, 16, &real));
    cr_expect_eq(clattn_buffer_size(real), 16);
    TH_OK(clattn_buffer_write(device->queue, real, 0, "0123456789abcdef", 16));
    FAILS(INVALID_ARGUMENT, "queue",
          clattn_buffer_write(NULL, real, 0, "x", 1));
    FAILS(INVALID_ARGUMENT, "dst",
          clattn_buffer_write(device->queue, NULL, 0, "x", 1));
    FAILS(INVALID_ARGUMENT, "src",
          clattn_buffer_write(device->queue, real, 0, NULL, 1));
    FAILS(INVALID_ARGUMENT, "bytes",
          clattn_buffer_write(device->queue, real, 10, bytes, 7));
    FAILS(INVALID_ARGUMENT, "bytes",
          clattn_buffer_write(device->queue, real, SIZE_MAX, bytes, 2));
    FAILS(INVALID_ARGUMENT, "bytes",
          clattn_buffer_write(device->queue, real, 2, bytes, SIZE_MAX));
    FAILS(INVALID_ARGUMENT, "queue",
          clattn_buffer_read(NULL, real, 0, bytes, 1));
    FAILS(INVALID_ARGUMENT, "src",
          clattn_buffer_read(device->queue, NULL, 0, bytes, 1));
    FAILS(INVALID_ARGUMENT, "dst",
          clattn_buffer_read(device->queue, real, 0, NULL, 1));
    FAILS(INVALID_ARGUMENT, "bytes",
          clattn_buffer_read(device->queue, real, 17, bytes, 1));
    cr_expect_eq(bytes[0], 0);
    TH_OK(clattn_buffer_read(device->queue, real, 0, bytes, 16));
    cr_expect_eq(memcmp(bytes, "0123456789abcdef", 16), 0);

    FAILS(INVALID_ARGUMENT, "native",
          clattn_queue_from_native(context, i, NULL, &queue));
    FAILS(INVALID_ARGUMENT, "native",
          clattn_buffer_from_native(context, i, NULL, &buffer));
    FAILS(INVALID_ARGUMENT, "native",
          clattn_event_from_native(context, i, NULL, &event));
    cr_expect_null(event);
    void *native = NULL;
    FAILS(INVALID_ARGUMENT, "event", clattn_event_get_native(NULL, &native));
    if (!device->opencl) {
      FAILS(UNSUPPORTED, "CPU",
            clattn_queue_from_native(context, i, bytes, &queue));
      FAILS(UNSUPPORTED, "CPU",
            clattn_buffer_from_native(context, i, bytes, &buffer));
      FAILS(UNSUPPORTED, "CPU",
            clattn_event_from_native(context, i, bytes, &event));
    }
    clattn_buffer_destroy(real);
  }
  th_shut();
}

Test(errors, convert_and_names) {
  float x[2] = {1, 2}, y[2] = {7, 7};
  FAILS(INVALID_ARGUMENT, "from",
        clattn_convert(CLATTN_I32, x, CLATTN_F32, y, 2));
  FAILS(INVALID_ARGUMENT, "to",
        clattn_convert(CLATTN_F32, x, CLATTN_BOOL, y, 2));
  FAILS(INVALID_ARGUMENT, "src",
        clattn_convert(CLATTN_F32, NULL, CLATTN_F16, y, 2));
  FAILS(INVALID_ARGUMENT, "dst",
        clattn_convert(CLATTN_F32, x, CLATTN_F16, NULL, 2));
  cr_expect_eq(y[0], 7);
  cr_expect_eq(clattn_dtype_size((clattn_dtype)0), 0);
  cr_expect_str_eq(clattn_dtype_name((clattn_dtype)99), "unknown");
  cr_expect_str_eq(clattn_status_name((clattn_status)99), "UNKNOWN");
  clattn_tensor t = clattn_view(NULL, CLATTN_F32, 5, (int64_t[5]){1, 1, 1, 1});
  cr_expect_null(t.buffer);
  float table[4] = {7, 7, 7, 7};
  FAILS(INVALID_ARGUMENT, "rotary_dim",
        clattn_rotary_table(2, 3, 1e4, table, table));
  FAILS(INVALID_ARGUMENT, "n", clattn_rotary_table(-1, 2, 1e4, table, table));
  FAILS(INVALID_ARGUMENT, "base", clattn_rotary_table(1, 2, NAN, table, table));
  FAILS(INVALID_ARGUMENT, "cos_table",
        clattn_rotary_table(1, 2, 1e4, NULL, table));
  FAILS(INVALID_ARGUMENT, "sin_table",
        clattn_rotary_table(1, 2, 1e4, table, NULL));
  cr_expect_eq(table[0], 7);
}

/* ---- descriptor ---------------------------------------------------------- */

static bool desc_fault(int n, fault *f, clattn_desc *d) {
  BAD("struct_size", d->struct_size = 0)
  BAD("struct_size", d->struct_size += 8)
  BAD("dtype", d->dtype = CLATTN_I32)
  BAD("dtype", d->dtype = (clattn_dtype)0)
  BAD("dtype", d->dtype = (clattn_dtype)77)
  BAD("q_heads", d->q_heads = 0)
  BAD("q_heads", d->q_heads = -4)
  BAD("q_heads", d->q_heads = HUGE_LENGTH)
  BAD("q_heads", d->q_heads = 5) /* not a multiple of 2 */
  BAD("kv_heads", d->kv_heads = 0)
  BAD("kv_heads", d->kv_heads = 8)
  BAD("kv_heads", d->kv_heads = INT64_MIN)
  BAD("qk_dim", d->qk_dim = 0)
  BAD("qk_dim", d->qk_dim = INT64_MAX)
  BAD("v_dim", d->v_dim = -1)
  BAD("v_dim", d->v_dim = INT64_MAX)
  BAD("scale", d->scale = INFINITY)
  BAD("scale", d->scale = -INFINITY)
  BAD("temperature", d->temperature = 0)
  BAD("temperature", d->temperature = -1)
  BAD("temperature", d->temperature = NAN)
  BAD("temperature", d->temperature = INFINITY)
  BAD("softcap", d->softcap = -1)
  BAD("softcap", d->softcap = NAN)
  BAD("softcap", d->softcap = INFINITY)
  BAD("window_left", d->window_left = -2)
  BAD("window_right", d->window_right = INT64_MIN)
  BAD("mask_polarity", d->mask_polarity = (clattn_mask_polarity)2)
  BAD("outputs", d->outputs = 4)
  BAD("weights_stage", d->weights_stage = (clattn_weights_stage)4)
  BAD("average_weights", d->outputs = CLATTN_OUT_WEIGHTS,
      d->average_weights = true, d->weights_stage = CLATTN_WEIGHTS_BIASED)
  BAD("path", d->path = (clattn_path)4)
  BAD("path", d->path = (clattn_path)-1)
  FAULT(UNSUPPORTED, "weights", d->outputs = CLATTN_OUT_WEIGHTS,
        d->path = CLATTN_FUSED)
  FAULT(UNSUPPORTED, "too large", d->outputs = CLATTN_OUT_WEIGHTS,
        d->qk_dim = 1 << 20, d->path = CLATTN_BLOCKED)
  FAULT(UNSUPPORTED, "averages", d->outputs = CLATTN_OUT_WEIGHTS,
        d->average_weights = true, d->dtype = CLATTN_F16,
        d->path = CLATTN_BLOCKED)
  FAULT(UNSUPPORTED, "probabilities", d->outputs = CLATTN_OUT_WEIGHTS,
        d->weights_stage = CLATTN_WEIGHTS_SCORES, d->path = CLATTN_BLOCKED)
  return false;
}

static void good_desc(clattn_desc *d) {
  clattn_desc_init(d);
  d->q_heads = 4, d->kv_heads = 2, d->qk_dim = d->v_dim = 8;
}

Test(errors, plan) {
  const th_devices *devices = th_open(false);
  clattn_desc_init(NULL);
  clattn_args_init(NULL);
  for (int i = 0; i < devices->count; i++) {
    clattn_context *context = devices->context;
    int d = devices->device[i].index;
    clattn_desc desc;
    fault f;
    for (int n = 0;; n++) {
      clattn_plan *plan = (clattn_plan *)&desc;
      good_desc(&desc);
      if (!desc_fault(n, &f, &desc)) break;
      expect(clattn_plan_create(context, d, &desc, &plan), &f, "plan_create");
      cr_expect_null(plan, "plan_create, with %s", f.what);
      if (plan && plan != (clattn_plan *)&desc) clattn_plan_destroy(plan);
    }
    clattn_plan *plan = NULL;
    good_desc(&desc);
    FAILS(INVALID_ARGUMENT, "context",
          clattn_plan_create(NULL, d, &desc, &plan));
    FAILS(INVALID_ARGUMENT, "device",
          clattn_plan_create(context, 1000, &desc, &plan));
    FAILS(INVALID_ARGUMENT, "desc",
          clattn_plan_create(context, d, NULL, &plan));
    FAILS(INVALID_ARGUMENT, "plan",
          clattn_plan_create(context, d, &desc, NULL));
    clattn_plan_destroy(NULL);
    cr_expect_str_eq(clattn_plan_info(NULL), "");

    size_t bytes = 77;
    TH_OK(clattn_plan_create(context, d, &desc, &plan));
    FAILS(INVALID_ARGUMENT, "plan",
          clattn_plan_scratch_bytes(NULL, 1, 1, 1, &bytes));
    FAILS(INVALID_ARGUMENT, "bytes",
          clattn_plan_scratch_bytes(plan, 1, 1, 1, NULL));
    FAILS(INVALID_ARGUMENT, "batch",
          clattn_plan_scratch_bytes(plan, 0, 1, 1, &bytes));
    FAILS(INVALID_ARGUMENT, "q_len",
          clattn_plan_scratch_bytes(plan, 1, -1, 1, &bytes));
    FAILS(INVALID_ARGUMENT, "kv_len",
          clattn_plan_scratch_bytes(plan, 1, 1, INT64_MAX, &bytes));
    cr_expect_eq(bytes, 77);
    clattn_plan_destroy(plan);
  }
  th_shut();
}

/* ---- execute ------------------------------------------------------------- */

#define TENSOR_FAULTS(t, word)                                                 \
  BAD(word, a->t.dtype = (clattn_dtype)0)                                      \
  BAD(word, a->t.dtype = (clattn_dtype)99)                                     \
  BAD(word, a->t.offset = -1)                                                  \
  BAD(word, a->t.offset = INT64_MAX)                                           \
  BAD(word, a->t.offset += 100000)                                             \
  BAD(word, a->t.extent[0] = 0)                                                \
  BAD(word, a->t.extent[3] = -1)                                               \
  BAD(word, a->t.extent[1]++)                                                  \
  BAD(word, a->t.extent[2] += 7)                                               \
  BAD(word, a->t.extent[3] = HUGE_LENGTH)                                      \
  BAD(word, a->t.stride[0] = -1)                                               \
  BAD(word, a->t.stride[3] = -2)                                               \
  BAD(word, a->t.stride[0] = HUGE_LENGTH)                                      \
  BAD(word, a->t.buffer = elsewhere)

static bool args_fault(int n, fault *f, clattn_args *a) {
  BAD("struct_size", a->struct_size = 1)
  BAD("args->q", a->q.buffer = NULL)
  BAD("args->k", a->k.buffer = NULL)
  BAD("args->v", a->v.buffer = NULL)
  BAD("args->out", a->out.buffer = NULL)
  BAD("args->lse", a->lse.buffer = NULL)
  BAD("args->weights", a->weights.buffer = NULL)
  TENSOR_FAULTS(q, "args->")
  TENSOR_FAULTS(k, "args->")
  TENSOR_FAULTS(v, "args->v")
  TENSOR_FAULTS(out, "args->out")
  TENSOR_FAULTS(lse, "args->lse")
  TENSOR_FAULTS(weights, "args->weights")
  TENSOR_FAULTS(mask, "args->mask")
  TENSOR_FAULTS(key_mask, "args->key_mask")
  TENSOR_FAULTS(bias, "args->bias")
  TENSOR_FAULTS(kv_lengths, "args->kv_lengths")
  TENSOR_FAULTS(q_starts, "args->q_starts")
  BAD("args->alibi_slopes", a->alibi_slopes.dtype = CLATTN_F16)
  BAD("args->alibi_slopes", a->alibi_slopes.extent[1] = 1)
  BAD("args->alibi_slopes", a->alibi_slopes.stride[1] = -1)
  BAD("args->sinks", a->sinks.dtype = CLATTN_I32)
  BAD("args->sinks", a->sinks.extent[1] = 3)
  BAD("args->sinks", a->sinks.buffer = elsewhere)
  BAD("args->q", a->q.dtype = CLATTN_F16) /* not the plan's */
  BAD("args->k", a->k.dtype = CLATTN_BF16)
  BAD("args->v", a->v.dtype = CLATTN_I32)
  BAD("args->out", a->out.dtype = CLATTN_F16)
  BAD("args->lse", a->lse.dtype = CLATTN_F16)
  BAD("args->mask", a->mask.dtype = CLATTN_F32)
  BAD("args->bias", a->bias.dtype = CLATTN_BOOL)
  BAD("args->kv_lengths", a->kv_lengths.dtype = CLATTN_F32)
  BAD("args->q_starts", a->q_starts.dtype = CLATTN_BOOL)
  BAD("args->out", a->out.stride[0] = 0) /* elements share memory */
  BAD("args->out", a->out.stride[1] = 0)
  BAD("args->out", a->out.stride[2] = 0)
  BAD("args->out", a->out.stride[3] = 0)
  BAD("args->out", a->out.stride[2] = 1)
  BAD("args->out", a->out.stride[1] = a->out.stride[2])
  BAD("args->lse", a->lse.stride[2] = 0)
  BAD("args->weights", a->weights.stride[3] = 0)
  BAD("args->out", a->q = a->out) /* outputs over inputs and outputs */
  BAD("args->out", a->k.buffer = a->out.buffer)
  BAD("args->lse", a->lse.buffer = a->q.buffer)
  BAD("args->weights", a->weights.buffer = a->bias.buffer)
  BAD("args->", a->lse.buffer = a->weights.buffer)
  BAD("q_start", a->q_starts.buffer = NULL, a->q_start = ((int64_t)1 << 30) + 1)
  BAD("q_start", a->q_starts.buffer = NULL, a->q_start = INT64_MIN + 1)
  return false;
}

/* Two contexts, so that `elsewhere` is of another; wide buffers, so that wrong
 * extents are found by what they are and not by running out of memory. */
static const attn_case full = {"errors",
                               .b = 2,
                               .hq = 4,
                               .hk = 2,
                               .sq = 3,
                               .skv = 5,
                               .d = 8,
                               .mask = "bhqk",
                               .key_mask = "bk",
                               .bias = "bhqk",
                               .lengths = LEN_I32,
                               .start = START_I64,
                               .slopes = true,
                               .sinks = SINKS_SOME,
                               .lse = true,
                               .weights = true};

static bool unchanged(const th_device *device, const attn_problem *p,
                      char *message, size_t room) {
  return th_fetch(device, &p->out, NULL, "out", message, room) &&
         th_fetch(device, &p->lse, NULL, "lse", message, room) &&
         th_fetch(device, &p->weights, NULL, "weights", message, room);
}

static void execute_faults(const th_device *device, clattn_context *other) {
  attn_problem p;
  clattn_args good, args;
  clattn_plan *plan = NULL;
  clattn_event *event = NULL;
  char message[256];
  fault f;
  attn_problem_init(&p, &full, 1);
  attn_problem_bind(&p, device, &good);
  TH_OK(clattn_plan_create(device->context, device->index, &p.desc, &plan));
  TH_OK(clattn_buffer_create(other, 0, 4096, &elsewhere));
  for (int n = 0;; n++) {
    args = good;
    event = (clattn_event *)&p;
    if (!args_fault(n, &f, &args)) break;
    expect(clattn_execute(plan, device->queue, &args, NULL, NULL, 0, &event),
           &f, device->info.name);
    cr_expect_null(event, "with %s", f.what);
    TH_OK(clattn_queue_finish(device->queue));
    cr_expect(unchanged(device, &p, message, sizeof message), "with %s: %s",
              f.what, message);
  }
  args = good;
  clattn_queue *other_queue = NULL;
  clattn_buffer *small = NULL;
  clattn_event *const nothing[1] = {NULL};
  TH_OK(clattn_queue_create(other, 0, &other_queue));
  TH_OK(clattn_buffer_create(device->context, device->index, 1, &small));
  FAILS(INVALID_ARGUMENT, "plan",
        clattn_execute(NULL, device->queue, &args, NULL, NULL, 0, NULL));
  FAILS(INVALID_ARGUMENT, "queue",
        clattn_execute(plan, NULL, &args, NULL, NULL, 0, NULL));
  FAILS(INVALID_ARGUMENT, "args",
        clattn_execute(plan, device->queue, NULL, NULL, NULL, 0, NULL));
  FAILS(INVALID_ARGUMENT, "queue",
        clattn_execute(plan, other_queue, &args, NULL, NULL, 0, NULL));
  FAILS(INVALID_ARGUMENT, "wait",
        clattn_execute(plan, device->queue, &args, NULL, NULL, 1, NULL));
  FAILS(INVALID_ARGUMENT, "wait",
        clattn_execute(plan, device->queue, &args, NULL, nothing, 1, NULL));
  size_t bytes = 0;
  TH_OK(clattn_plan_scratch_bytes(plan, 2, 3, 5, &bytes));
  if (bytes > 1)
    FAILS(INVALID_ARGUMENT, "scratch",
          clattn_execute(plan, device->queue, &args, small, NULL, 0, NULL));
  FAILS(INVALID_ARGUMENT, "scratch",
        clattn_execute(plan, device->queue, &args, elsewhere, NULL, 0, NULL));
  TH_OK(clattn_queue_finish(device->queue));
  cr_expect(unchanged(device, &p, message, sizeof message), "%s", message);
  TH_OK(clattn_execute(plan, device->queue, &args, NULL, NULL, 0, NULL));
  cr_expect(attn_problem_check(&p, device, message, sizeof message), "%s",
            message);
  clattn_plan_destroy(plan);

  /* outputs that the plan was not made for */
  p.desc.outputs = CLATTN_OUT_LSE;
  TH_OK(clattn_plan_create(device->context, device->index, &p.desc, &plan));
  FAILS(INVALID_ARGUMENT, "weights",
        clattn_execute(plan, device->queue, &args, NULL, NULL, 0, NULL));
  clattn_plan_destroy(plan);
  clattn_buffer_destroy(small);
  clattn_buffer_destroy(elsewhere);
  clattn_queue_destroy(other_queue);
  attn_problem_free(&p);
}

Test(errors, execute) {
  const th_devices *devices = th_open(false);
  clattn_context *other = another_context();
  for (int d = 0; d < devices->count; d++)
    execute_faults(&devices->device[d], other);
  clattn_context_destroy(other);
  /* a buffer of the same context's other device */
  if (devices->count > 1) {
    attn_problem p;
    clattn_args args;
    clattn_plan *plan = NULL;
    const th_device *device = &devices->device[0];
    attn_problem_init(&p, &full, 1);
    attn_problem_bind(&p, device, &args);
    TH_OK(clattn_plan_create(device->context, device->index, &p.desc, &plan));
    clattn_buffer *far = NULL;
    TH_OK(clattn_buffer_create(device->context, devices->device[1].index, 65536,
                               &far));
    args.bias.buffer = far;
    FAILS(INVALID_ARGUMENT, "args->bias",
          clattn_execute(plan, device->queue, &args, NULL, NULL, 0, NULL));
    args.bias = p.bias.view;
    FAILS(INVALID_ARGUMENT, "queue",
          clattn_execute(plan, devices->device[1].queue, &args, NULL, NULL, 0,
                         NULL));
    clattn_buffer_destroy(far);
    clattn_plan_destroy(plan);
    attn_problem_free(&p);
  }
  th_shut();
}

Test(errors, one_call) {
  const th_devices *devices = th_open(false);
  clattn_context *c = devices->context;
  float x[64] = {0}, out[64];
  clattn_desc desc;
  for (int i = 0; i < 64; i++) out[i] = 7;
  good_desc(&desc);
#define CALL(b, m, n, q, k, v, o)                                              \
  clattn_attention_f32(c, &desc, b, m, n, q, k, v, o)
  FAILS(INVALID_ARGUMENT, "context",
        clattn_attention_f32(NULL, &desc, 1, 1, 1, x, x, x, out));
  FAILS(INVALID_ARGUMENT, "desc",
        clattn_attention_f32(c, NULL, 1, 1, 1, x, x, x, out));
  FAILS(INVALID_ARGUMENT, "batch", CALL(0, 1, 1, x, x, x, out));
  FAILS(INVALID_ARGUMENT, "q_len", CALL(1, -1, 1, x, x, x, out));
  FAILS(INVALID_ARGUMENT, "kv_len", CALL(1, 1, 0, x, x, x, out));
  FAILS(INVALID_ARGUMENT, "", CALL(INT64_MAX, 1, 1, x, x, x, out));
  FAILS(INVALID_ARGUMENT, "", CALL(1 << 28, 1 << 28, 1 << 28, x, x, x, out));
  FAILS(INVALID_ARGUMENT, "q", CALL(1, 1, 1, NULL, x, x, out));
  FAILS(INVALID_ARGUMENT, "k", CALL(1, 1, 1, x, NULL, x, out));
  FAILS(INVALID_ARGUMENT, "v", CALL(1, 1, 1, x, x, NULL, out));
  FAILS(INVALID_ARGUMENT, "out", CALL(1, 1, 1, x, x, x, NULL));
  desc.dtype = CLATTN_F16;
  FAILS(INVALID_ARGUMENT, "dtype", CALL(1, 1, 1, x, x, x, out));
  good_desc(&desc);
  desc.outputs = CLATTN_OUT_LSE;
  FAILS(INVALID_ARGUMENT, "outputs", CALL(1, 1, 1, x, x, x, out));
  good_desc(&desc);
  desc.kv_heads = 3;
  FAILS(INVALID_ARGUMENT, "heads", CALL(1, 1, 1, x, x, x, out));
  for (int i = 0; i < 64; i++) cr_expect_eq(out[i], 7);
  th_shut();
}

/* ---- messages ------------------------------------------------------------ */

Test(errors, message_stays_until_the_next_failure) {
  int lines = 0;
  clattn_context_config config;
  clattn_context *context = NULL;
  cr_expect_str_eq(clattn_error_message(), "");
  cr_expect_neq(clattn_queue_finish(NULL), CLATTN_OK);
  char first[256];
  snprintf(first, sizeof first, "%s", clattn_error_message());
  clattn_context_config_init(&config);
  config.backend = CLATTN_CPU;
  config.log = count_log, config.log_user = &lines;
  TH_OK(clattn_context_create(&config, &context));
  cr_expect_str_eq(clattn_error_message(), first);
  clattn_context_destroy(context);
  cr_expect_str_eq(clattn_version(), "0.1.0");
}
