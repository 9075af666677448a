/* Devices, types and what is there without OpenCL. */
#define _POSIX_C_SOURCE 200809L /* setenv */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "../support/attn_case.h"

Test(context, devices) {
  const th_devices *devices = th_open(false);
  clattn_context *context = devices->context;
  int n = clattn_device_count(context), index;
  bool native = false;
  cr_assert_gt(n, 0);
  for (int i = 0; i < n; i++) {
    clattn_device_info info = {.struct_size = sizeof info};
    TH_OK(clattn_device_get_info(context, i, &info));
    cr_expect_gt(strlen(info.name), 0);
    cr_expect_gt(info.max_alloc_bytes, 0);
    cr_expect_gt(info.compute_units, 0);
    cr_expect_not(native, "the native device is the last");
    native = info.backend == CLATTN_CPU;
    char part[130], number[16];
    snprintf(number, sizeof number, "%d", i);
    TH_OK(clattn_device_find(context, number, &index));
    cr_expect_eq(index, i);
    snprintf(part, sizeof part, "%s", info.name);
    TH_OK(clattn_device_find(context, part, &index));
    cr_expect_leq(index, i);
  }
  clattn_device_info info = {.struct_size = sizeof info};
  TH_OK(clattn_device_get_info(context, CLATTN_DEFAULT_DEVICE, &info));
  if (native) {
    TH_OK(clattn_device_find(context, "CPU", &index));
    cr_expect_eq(index, n - 1);
  }
  th_shut();
}

/* Children keep their parents: handles go in the order that is worst. */
Test(context, destroy_in_any_order) {
  const th_devices *devices = th_open(false);
  for (int d = 0; d < devices->count; d++) {
    clattn_context_config config;
    clattn_context *context = NULL;
    clattn_context_config_init(&config);
    config.backend = devices->device[d].info.backend;
    TH_OK(clattn_context_create(&config, &context));
    th_device device = {.context = context};
    TH_OK(clattn_queue_create(context, 0, &device.queue));
    attn_case c = {"order", .hq = 2, .sq = 3, .skv = 9, .d = 8};
    attn_problem p;
    clattn_args args;
    clattn_plan *plan = NULL;
    clattn_event *event = NULL;
    attn_problem_init(&p, &c, 3);
    attn_problem_bind(&p, &device, &args);
    TH_OK(clattn_plan_create(context, 0, &p.desc, &plan));
    clattn_context_destroy(context);
    TH_OK(clattn_execute(plan, device.queue, &args, NULL, NULL, 0, &event));
    clattn_plan_destroy(plan);
    char message[256];
    cr_expect(attn_problem_check(&p, &device, message, sizeof message), "%s",
              message);
    clattn_queue_destroy(device.queue);
    attn_problem_free(&p);
    TH_OK(clattn_event_wait(event));
    clattn_event_destroy(event);
  }
  th_shut();
}

/* Work still in flight when its buffers, plan and queue are destroyed. */
Test(context, destroy_before_the_work_is_done) {
  const th_devices *devices = th_open(false);
  for (int d = 0; d < devices->count; d++) {
    const th_device *device = &devices->device[d];
    attn_case c = {"in flight", .hq = 4, .sq = 100, .skv = 300, .d = 32};
    attn_problem p;
    clattn_args args;
    clattn_plan *plan = NULL;
    clattn_queue *queue = NULL;
    clattn_event *event = NULL;
    attn_problem_init(&p, &c, 4);
    attn_problem_bind(&p, device, &args);
    TH_OK(clattn_queue_create(device->context, device->index, &queue));
    TH_OK(clattn_plan_create(device->context, device->index, &p.desc, &plan));
    for (int i = 0; i < 3; i++) {
      clattn_event_destroy(event);
      TH_OK(clattn_execute(plan, queue, &args, NULL, NULL, 0, &event));
    }
    clattn_plan_destroy(plan);
    attn_problem_free(&p);
    TH_OK(clattn_event_wait(event));
    clattn_event_destroy(event);
    clattn_queue_destroy(queue);
  }
  th_shut();
}

/* Host memory of the caller as buffers of the native device. */
Test(context, wrapped_memory) {
  const th_devices *devices = th_open(false);
  for (int d = 0; d < devices->count; d++) {
    const th_device *device = &devices->device[d];
    if (device->opencl) continue;
    static const float want = 2.5f;
    float memory[8] = {1, 1, 1, 1, 2, 3, 0, 0};
    clattn_desc desc;
    clattn_plan *plan = NULL;
    clattn_args args;
    clattn_buffer *buffer = NULL;
    clattn_desc_init(&desc);
    desc.q_heads = desc.kv_heads = desc.qk_dim = desc.v_dim = 1;
    TH_OK(clattn_plan_create(device->context, device->index, &desc, &plan));
    TH_OK(clattn_buffer_wrap(device->context, device->index, memory,
                             sizeof memory, &buffer));
    cr_expect_eq(clattn_buffer_size(buffer), sizeof memory);
    clattn_args_init(&args);
    args.q = clattn_view_bhsd(buffer, CLATTN_F32, 1, 1, 1, 1);
    args.k = args.v = clattn_view_bhsd(buffer, CLATTN_F32, 1, 1, 2, 1);
    args.out = args.q;
    args.k.offset = 2, args.v.offset = 4, args.out.offset = 6;
    TH_OK(clattn_execute(plan, device->queue, &args, NULL, NULL, 0, NULL));
    cr_expect_float_eq(memory[6], want, 1e-6);
    cr_expect_eq(memory[7], 0);
    clattn_buffer_destroy(buffer);
    clattn_plan_destroy(plan);
  }
  th_shut();
}

/* Events order work across queues and, through the host, across devices. */
Test(context, events_across_queues) {
  enum { N = 4096 };
  const th_devices *devices = th_open(false);
  const th_device *a = &devices->device[0];
  for (int d = 0; d < devices->count; d++) {
    const th_device *b = &devices->device[d];
    clattn_queue *queue = NULL;
    clattn_buffer *x = NULL, *y[2] = {NULL, NULL};
    clattn_event *event[2] = {NULL, NULL};
    static float in[N], out[N];
    for (int i = 0; i < N; i++) in[i] = (float)i;
    TH_OK(clattn_queue_create(b->context, b->index, &queue));
    TH_OK(clattn_buffer_create(a->context, a->index, sizeof in, &x));
    for (int i = 0; i < 2; i++)
      TH_OK(clattn_buffer_create(b->context, b->index, sizeof in, &y[i]));
    TH_OK(clattn_buffer_write(a->queue, x, 0, in, sizeof in));
    TH_OK(clattn_buffer_write(b->queue, y[0], 0, in, sizeof in));
    clattn_tensor tx = clattn_view(x, CLATTN_F32, 1, (int64_t[]){N / 2});
    clattn_tensor tx2 = tx;
    tx2.offset = N / 2;
    TH_OK(clattn_copy(a->queue, &tx, &tx2, NULL, 0, &event[0]));
    clattn_tensor t0 = clattn_view(y[0], CLATTN_F32, 1, (int64_t[]){N});
    clattn_tensor t1 = clattn_view(y[1], CLATTN_F32, 1, (int64_t[]){N});
    TH_OK(clattn_copy(b->queue, &t0, &t1, event, 1, &event[1]));
    clattn_tensor half = t1;
    half.extent[3] = N / 2, half.offset = N / 2;
    clattn_tensor first = t1;
    first.extent[3] = N / 2;
    TH_OK(clattn_copy(queue, &first, &half, event, 2, NULL));
    TH_OK(clattn_buffer_read(queue, y[1], 0, out, sizeof out));
    for (int i = 0; i < N; i++)
      cr_assert_eq(out[i], (float)(i % (N / 2)), "at %d: %g", i,
                   (double)out[i]);
    for (int i = 0; i < 2; i++) {
      clattn_event_destroy(event[i]);
      clattn_buffer_destroy(y[i]);
    }
    clattn_buffer_destroy(x);
    clattn_queue_destroy(queue);
  }
  th_shut();
}

/* ---- types --------------------------------------------------------------- */

static uint32_t bits_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  return bits;
}

Test(context, convert_every_narrow_number) {
  static const clattn_dtype narrow[2] = {CLATTN_F16, CLATTN_BF16};
  for (int t = 0; t < 2; t++)
    for (uint32_t i = 0; i < 65536; i++) {
      uint16_t x = (uint16_t)i, back = 0;
      float wide;
      TH_OK(clattn_convert(narrow[t], &x, CLATTN_F32, &wide, 1));
      TH_OK(clattn_convert(CLATTN_F32, &wide, narrow[t], &back, 1));
      double want = th_get(narrow[t], &x);
      if (isnan(want)) {
        cr_assert(isnan(wide) && isnan(th_get(narrow[t], &back)));
        continue;
      }
      cr_assert_eq(bits_of(wide), bits_of((float)want), "%s %04x",
                   t ? "bf16" : "f16", i);
      cr_assert_eq(back, x, "%s %04x came back as %04x", t ? "bf16" : "f16", i,
                   back);
    }
}

Test(context, convert_rounds_to_even) {
  th_rng rng = {8};
  for (int i = 0; i < 400000; i++) {
    uint32_t bits = (uint32_t)th_next(&rng);
    if (i % 3 == 0) bits &= 0xFFFFF000; /* many exact ties */
    if (i % 4 == 0) bits = (bits & 0x80FFFFFF) | (100u + bits % 44) << 23;
    float x;
    memcpy(&x, &bits, 4);
    if (isnan(x)) continue;
    uint16_t half, brain;
    TH_OK(clattn_convert(CLATTN_F32, &x, CLATTN_F16, &half, 1));
    TH_OK(clattn_convert(CLATTN_F32, &x, CLATTN_BF16, &brain, 1));
    cr_assert_eq(th_get(CLATTN_F16, &half), ora_round(&ora_f16, x), "%a", x);
    cr_assert_eq(th_get(CLATTN_BF16, &brain), ora_round(&ora_bf16, x), "%a", x);
  }
}

/* ---- without OpenCL ------------------------------------------------------ */

Test(context, without_opencl) {
  clattn_context_config config;
  clattn_context *context = (clattn_context *)&config;
  setenv("CLATTN_OPENCL_MODULE", "", 1);
  clattn_context_config_init(&config);
  config.backend = CLATTN_OPENCL;
  cr_expect_eq(clattn_context_create(&config, &context), CLATTN_NO_DEVICE);
  cr_expect_null(context);
  cr_expect_gt(strlen(clattn_error_message()), 0);

  TH_OK(clattn_context_create(NULL, &context));
  cr_expect_eq(clattn_device_count(context), 1);
  clattn_device_info info = {.struct_size = sizeof info};
  TH_OK(clattn_device_get_info(context, 0, &info));
  cr_expect_eq(info.backend, CLATTN_CPU);
  int index = 7;
  cr_expect_eq(clattn_device_find(context, "opencl", &index), CLATTN_NO_DEVICE);
  cr_expect_eq(clattn_device_find(context, "gpu", &index), CLATTN_NO_DEVICE);
  cr_expect_eq(index, 7);
  th_devices devices = {.context = context, .count = 1};
  devices.device[0] = (th_device){.context = context, .info = info};
  TH_OK(clattn_queue_create(context, 0, &devices.device[0].queue));
  tc_tally tally = {0};
  attn_case c = {"without OpenCL", .hq = 2, .sq = 9, .d = 8, .causal = true};
  attn_run_all(&devices, &c, 1, 1, &tally);
  cr_expect_eq(tally.passed, TC_PATHS);
  clattn_queue_destroy(devices.device[0].queue);
  clattn_context_destroy(context);

  /* A module that is not there is no reason to fail either. */
  setenv("CLATTN_OPENCL_MODULE", "/nonexistent/module.so", 1);
  TH_OK(clattn_context_create(NULL, &context));
  cr_expect_eq(clattn_device_count(context), 1);
  clattn_context_destroy(context);
}

Test(context, threads_do_not_change_results) {
  attn_case c = {"threads",  .b = 2,  .hq = 4,        .sq = 70,
                 .skv = 130, .d = 24, .causal = true, .lse = true};
  for (int threads = 1; threads <= 5; threads++) {
    clattn_context_config config;
    th_devices devices = {.count = 1};
    clattn_context_config_init(&config);
    config.backend = CLATTN_CPU;
    config.cpu_threads = threads;
    TH_OK(clattn_context_create(&config, &devices.context));
    devices.device[0] = (th_device){.context = devices.context};
    TH_OK(clattn_queue_create(devices.context, 0, &devices.device[0].queue));
    tc_tally tally = {0};
    attn_run_all(&devices, &c, 1, 1, &tally);
    cr_expect_eq(tally.passed, TC_PATHS, "with %d threads", threads);
    clattn_queue_destroy(devices.device[0].queue);
    clattn_context_destroy(devices.context);
  }
}
