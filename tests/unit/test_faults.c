/* Every allocation and every driver call fails once, one after the other: each
 * time the flow must end with a clean status, or with the right result. */
#define _POSIX_C_SOURCE 200809L /* mkdtemp */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "../support/harness.h"
#include "core/core.h"

#if defined(__SANITIZE_ADDRESS__)
#  define HAVE_LSAN 1
#elif defined(__has_feature)
#  if __has_feature(address_sanitizer)
#    define HAVE_LSAN 1
#  endif
#endif
#ifdef HAVE_LSAN
#  include <sanitizer/lsan_interface.h>
#endif

/* Leaves the flow with the status of a failed call. */
#define STEP(call)                                                             \
  do {                                                                         \
    where = #call;                                                             \
    status = (call);                                                           \
    if (status != CLATTN_OK) goto done;                                        \
  } while (0)

static const char *where; /* the call that failed */

/* Everything a program does, from context to result, with d = 2 everywhere so
 * that the right answers are plain. info receives the plan's. */
static clattn_status flow(clattn_backend backend, const char *cache_dir,
                          bool *right, char *info, size_t room) {
  enum { B = 1, H = 2, S = 3, D = 2, E = 4 };
  clattn_status status;
  clattn_context *context = NULL;
  clattn_queue *queue = NULL;
  clattn_buffer *x = NULL, *y = NULL;
  clattn_plan *plan[2] = {NULL, NULL};
  clattn_event *event = NULL;
  clattn_kv_cache *cache = NULL;
  clattn_mha *mha = NULL;
  clattn_context_config config;
  clattn_desc desc;
  clattn_args args;
  float ones[64], out[64] = {0};
  size_t scratch;
  *right = true;
  for (int i = 0; i < 64; i++) ones[i] = 1;

  clattn_context_config_init(&config);
  config.backend = backend;
  config.cache_dir = cache_dir;
  config.cpu_threads = 2;
  STEP(clattn_context_create(&config, &context));
  STEP(clattn_queue_create(context, 0, &queue));
  STEP(clattn_buffer_create(context, 0, sizeof ones, &x));
  STEP(clattn_buffer_create(context, 0, sizeof ones, &y));
  STEP(clattn_buffer_write(queue, x, 0, ones, sizeof ones));
  clattn_desc_init(&desc);
  desc.q_heads = H, desc.kv_heads = 1, desc.qk_dim = desc.v_dim = D;
  for (int i = 0; i < 2; i++) {
    desc.path = i ? CLATTN_UNFUSED : CLATTN_AUTO;
    STEP(clattn_plan_create(context, 0, &desc, &plan[i]));
    STEP(clattn_plan_scratch_bytes(plan[i], B, S, S, &scratch));
    clattn_args_init(&args);
    args.q = clattn_view_bhsd(x, CLATTN_F32, B, H, S, D);
    args.k = args.v = clattn_view_bhsd(x, CLATTN_F32, B, 1, S, D);
    args.out = clattn_view_bhsd(y, CLATTN_F32, B, H, S, D);
    STEP(clattn_execute(plan[i], queue, &args, NULL, NULL, 0, &event));
    STEP(clattn_event_wait(event));
    STEP(clattn_buffer_read(queue, y, 0, out, B * H * S * D * sizeof(float)));
    for (int j = 0; j < B * H * S * D; j++)
      *right = *right && fabsf(out[j] - 1) < 1e-6f;
    clattn_event_destroy(event);
    event = NULL;
  }
  snprintf(info, room, "%s%s", clattn_plan_info(plan[0]),
           clattn_plan_info(plan[1]));

  clattn_kv_cache_config kv;
  clattn_kv_cache_config_init(&kv);
  kv.batch = B, kv.kv_heads = H, kv.capacity = 2 * S;
  kv.qk_dim = kv.v_dim = D;
  STEP(clattn_kv_cache_create(context, 0, &kv, &cache));
  clattn_tensor rows = clattn_view_bhsd(x, CLATTN_F32, B, H, S, D);
  STEP(clattn_kv_cache_append(cache, queue, &rows, &rows, NULL, NULL, 0, NULL));
  STEP(clattn_kv_cache_truncate(cache, queue, (int64_t[]){1}));
  *right = *right && clattn_kv_cache_length(cache, 0) == 1;

  clattn_mha_config layer;
  clattn_mha_weights weights;
  clattn_mha_args in;
  clattn_mha_config_init(&layer);
  layer.embed_dim = E, layer.num_heads = H;
  clattn_mha_weights_init(&weights);
  weights.q_weight = clattn_view_bhsd(x, CLATTN_F32, 1, 1, E, E);
  weights.k_weight = weights.v_weight = weights.o_weight = weights.q_weight;
  STEP(clattn_mha_create(context, 0, &layer, &weights, &mha));
  clattn_mha_args_init(&in);
  in.query = clattn_view_bhsd(x, CLATTN_F32, B, 1, S, E);
  in.output = clattn_view_bhsd(y, CLATTN_F32, B, 1, S, E);
  in.cache = cache;
  STEP(clattn_mha_forward(mha, queue, &in, NULL, 0, NULL));
  STEP(clattn_queue_finish(queue));
  STEP(clattn_buffer_read(queue, y, 0, out, B * S * E * sizeof(float)));
  *right = *right && clattn_kv_cache_length(cache, 0) == 1 + S;
  desc.kv_heads = H, desc.path = CLATTN_AUTO;
  STEP(clattn_attention_f32(context, &desc, B, S, S, ones, ones, ones, out));
  for (int j = 0; j < B * H * S * D; j++)
    *right = *right && fabsf(out[j] - 1) < 1e-6f;

done:
  clattn_context_destroy(context);
  clattn_mha_destroy(mha);
  clattn_kv_cache_destroy(cache);
  clattn_event_destroy(event);
  clattn_plan_destroy(plan[0]);
  clattn_plan_destroy(plan[1]);
  clattn_buffer_destroy(x);
  clattn_buffer_destroy(y);
  clattn_queue_destroy(queue);
  return status;
}

/* The same of gradients: all inputs 1, so that those of q and k are 0, that of v
 * is the number of heads, and that of the layer's query is 0 but for what comes
 * through v. */
static clattn_status backward_flow(clattn_backend backend,
                                   const char *cache_dir, bool *right,
                                   char *info, size_t room) {
  enum { B = 1, H = 2, S = 3, D = 2, E = 4, N = H * S * D };
  enum { X, OUT, LSE, DQ, DK, DV, DB, BUFFERS };
  clattn_status status;
  clattn_context *context = NULL;
  clattn_queue *queue = NULL;
  clattn_buffer *at[BUFFERS] = {NULL};
  clattn_plan *plan[2] = {NULL, NULL};
  clattn_event *event = NULL;
  clattn_mha *mha = NULL;
  clattn_context_config config;
  clattn_desc desc;
  clattn_args args;
  clattn_grads grads;
  float ones[64], got[64] = {0};
  size_t scratch;
  *right = true;
  for (int i = 0; i < 64; i++) ones[i] = 1;

  clattn_context_config_init(&config);
  config.backend = backend;
  config.cache_dir = cache_dir;
  config.cpu_threads = 2;
  STEP(clattn_context_create(&config, &context));
  STEP(clattn_queue_create(context, 0, &queue));
  for (int i = 0; i < BUFFERS; i++) {
    STEP(clattn_buffer_create(context, 0, sizeof ones, &at[i]));
    STEP(clattn_buffer_write(queue, at[i], 0, ones, sizeof ones));
  }
  clattn_desc_init(&desc);
  desc.q_heads = H, desc.kv_heads = 1, desc.qk_dim = desc.v_dim = D;
  desc.outputs = CLATTN_OUT_LSE;
  desc.backward = true;
  for (int i = 0; i < 2; i++) {
    desc.path = i ? CLATTN_UNFUSED : CLATTN_AUTO;
    STEP(clattn_plan_create(context, 0, &desc, &plan[i]));
    STEP(clattn_plan_backward_scratch_bytes(plan[i], B, S, S, &scratch));
    clattn_args_init(&args);
    args.q = clattn_view_bhsd(at[X], CLATTN_F32, B, H, S, D);
    args.k = args.v = clattn_view_bhsd(at[X], CLATTN_F32, B, 1, S, D);
    args.out = clattn_view_bhsd(at[OUT], CLATTN_F32, B, H, S, D);
    args.lse = clattn_view_bhsd(at[LSE], CLATTN_F32, B, H, S, 1);
    args.bias = clattn_view_bhsd(at[X], CLATTN_F32, 1, 1, S, S);
    STEP(clattn_execute(plan[i], queue, &args, NULL, NULL, 0, NULL));
    clattn_grads_init(&grads);
    grads.d_out = args.q;
    grads.d_q = clattn_view_bhsd(at[DQ], CLATTN_F32, B, H, S, D);
    grads.d_k = clattn_view_bhsd(at[DK], CLATTN_F32, B, 1, S, D);
    grads.d_v = clattn_view_bhsd(at[DV], CLATTN_F32, B, 1, S, D);
    grads.d_bias = clattn_view_bhsd(at[DB], CLATTN_F32, 1, 1, S, S);
    STEP(clattn_backward(plan[i], queue, &args, &grads, NULL, NULL, 0, &event));
    STEP(clattn_event_wait(event));
    clattn_event_destroy(event);
    event = NULL;
    STEP(clattn_buffer_read(queue, at[DQ], 0, got, N * sizeof(float)));
    for (int j = 0; j < N; j++) *right = *right && fabsf(got[j]) < 1e-5f;
    STEP(clattn_buffer_read(queue, at[DV], 0, got, S * D * sizeof(float)));
    for (int j = 0; j < S * D; j++)
      *right = *right && fabsf(got[j] - H) < 1e-5f;
    STEP(clattn_buffer_read(queue, at[DB], 0, got, S * S * sizeof(float)));
    for (int j = 0; j < S * S; j++) *right = *right && fabsf(got[j]) < 1e-5f;
  }
  snprintf(info, room, "%s%s", clattn_plan_info(plan[0]),
           clattn_plan_info(plan[1]));
  clattn_stats stats;
  clattn_stats_init(&stats);
  stats.entropy = clattn_view_bhsd(at[DK], CLATTN_F32, B, H, S, 1);
  stats.map = clattn_view_bhsd(at[DV], CLATTN_F32, B, H, 1, S);
  stats.map_keys = 1;
  STEP(clattn_statistics(plan[1], queue, &args, &stats, NULL, 0, NULL));
  STEP(clattn_buffer_read(queue, at[DK], 0, got, H * S * sizeof(float)));
  for (int j = 0; j < H * S; j++)
    *right = *right && fabsf(got[j] - logf(S)) < 1e-5f;
  STEP(clattn_buffer_read(queue, at[DV], 0, got, H * S * sizeof(float)));
  for (int j = 0; j < H * S; j++)
    *right = *right && fabsf(got[j] - 1.0f / S) < 1e-5f;

  clattn_mha_config layer;
  clattn_mha_weights weights;
  clattn_mha_args in;
  clattn_mha_grads d;
  clattn_mha_config_init(&layer);
  layer.embed_dim = E, layer.num_heads = H;
  layer.backward = layer.statistics = true;
  layer.rotary_cos = layer.rotary_sin =
      clattn_view_bhsd(at[X], CLATTN_F32, 1, 1, S, E / H / 2);
  clattn_mha_weights_init(&weights);
  weights.q_weight = clattn_view_bhsd(at[X], CLATTN_F32, 1, 1, E, E);
  weights.k_weight = weights.v_weight = weights.o_weight = weights.q_weight;
  STEP(clattn_mha_create(context, 0, &layer, &weights, &mha));
  clattn_mha_args_init(&in);
  in.query = clattn_view_bhsd(at[X], CLATTN_F32, B, 1, S, E);
  in.output = clattn_view_bhsd(at[OUT], CLATTN_F32, B, 1, S, E);
  STEP(clattn_mha_forward(mha, queue, &in, NULL, 0, NULL));
  STEP(clattn_mha_statistics(mha, queue, &in, &stats, NULL, 0, NULL));
  STEP(clattn_buffer_read(queue, at[DK], 0, got, H * S * sizeof(float)));
  for (int j = 0; j < H * S; j++)
    *right = *right && fabsf(got[j] - logf(S)) < 1e-5f;
  clattn_mha_grads_init(&d);
  d.d_output = in.query;
  d.d_query = clattn_view_bhsd(at[DQ], CLATTN_F32, B, 1, S, E);
  d.d_weights.o_weight = clattn_view_bhsd(at[DB], CLATTN_F32, 1, 1, E, E);
  STEP(clattn_mha_backward(mha, queue, &in, &d, NULL, 0, NULL));
  STEP(clattn_queue_finish(queue));
  STEP(clattn_buffer_read(queue, at[DQ], 0, got, S * E * sizeof(float)));
  for (int j = 0; j < S * E; j++) /* E ways through v and o, each E wide */
    *right = *right && fabsf(got[j] - E * E) < 1e-3f;
  STEP(clattn_buffer_read(queue, at[DB], 0, got, E * E * sizeof(float)));
  for (int j = 0; j < E * E; j++) /* S rows whose values are E */
    *right = *right && fabsf(got[j] - S * E) < 1e-3f;

done:
  clattn_context_destroy(context);
  clattn_mha_destroy(mha);
  clattn_event_destroy(event);
  clattn_plan_destroy(plan[0]);
  clattn_plan_destroy(plan[1]);
  for (int i = 0; i < BUFFERS; i++) clattn_buffer_destroy(at[i]);
  clattn_queue_destroy(queue);
  return status;
}

typedef clattn_status (*any_flow)(clattn_backend backend, const char *cache_dir,
                                  bool *right, char *info, size_t room);

static bool clean(clattn_status status) {
  return status == CLATTN_OUT_OF_MEMORY || status == CLATTN_DEVICE_ERROR ||
         status == CLATTN_NO_DEVICE || status == CLATTN_BUILD_FAILED ||
         status == CLATTN_IO_ERROR;
}

/* step: how many faults to go on by; 1: all of them. */
static void inject(any_flow run, clattn_backend backend, const char *cache_dir,
                   int step) {
  char info[4096], faulty[4096];
  bool right = false;
  cr_assert_eq(run(backend, cache_dir, &right, info, sizeof info), CLATTN_OK,
               "without faults: %s: %s", where, clattn_error_message());
  cr_assert(right, "without faults the result is wrong");
  int failed = 0, survived = 0, n = 0;
  for (;; n += step) {
    clt_fault_after(-1);
    clt_fault_after(n);
    clattn_status status =
        run(backend, cache_dir, &right, faulty, sizeof faulty);
    int64_t asked = clt_fault_after(-1);
    if (asked <= n) break;
    failed += status != CLATTN_OK;
    survived += status == CLATTN_OK;
    if (status == CLATTN_OK) {
      cr_expect(right, "fault %d: OK, but the result is wrong", n);
    } else {
      cr_expect(clean(status), "fault %d in %s: %s: %s", n, where,
                clattn_status_name(status), clattn_error_message());
      cr_expect_gt(strlen(clattn_error_message()), 0, "fault %d in %s", n,
                   where);
    }
#ifdef HAVE_LSAN
    if (backend == CLATTN_CPU)
      cr_assert_eq(__lsan_do_recoverable_leak_check(), 0, "fault %d in %s", n,
                   where);
#endif
  }
  cr_log_info("%d injected failures: %d gave a status, %d were survived",
              failed + survived, failed, survived);
  cr_expect_gt(n, 10);
  /* A fault of the moment must not be remembered as a verdict. */
  cr_assert_eq(run(backend, cache_dir, &right, faulty, sizeof faulty),
               CLATTN_OK);
  cr_expect_str_eq(faulty, info);
}

static void inject_opencl(any_flow run, int step) {
  if (!th_opencl()) cr_skip_test("no OpenCL device under test");
  th_shut();
  char dir[] = "/tmp/clattn-faults-XXXXXX", command[64];
  cr_assert(mkdtemp(dir));
  inject(run, CLATTN_OPENCL, dir, step);
  snprintf(command, sizeof command, "rm -rf %s", dir);
  cr_expect_eq(system(command), 0);
}

Test(faults, cpu) { inject(flow, CLATTN_CPU, "", 1); }
Test(faults, cpu_backward) { inject(backward_flow, CLATTN_CPU, "", 1); }
Test(faults, opencl) { inject_opencl(flow, 1); }
/* There are 660, most of them in what flow() has as well; 29 takes a sample. */
Test(faults, opencl_backward) { inject_opencl(backward_flow, 29); }
