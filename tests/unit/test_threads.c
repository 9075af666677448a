/* Threads that share a context and its plans, each with its own queue. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "../support/attn_case.h"

enum { THREADS = 4, ROUNDS = 6 };

typedef struct job {
  const th_device *device;
  clattn_plan *shared;
  int number;
  atomic_int *failures;
} job;

static void report(job *j, const char *message) {
  if (atomic_fetch_add(j->failures, 1) < 5)
    fprintf(stderr, "thread %d on %s: %s\n", j->number, j->device->info.name,
            message);
}

static void *run(void *user) {
  job *j = user;
  th_device mine = *j->device;
  char message[256];
  TH_OK(clattn_queue_create(mine.context, mine.index, &mine.queue));
  for (int r = 0; r < ROUNDS; r++) {
    attn_case c = {"threads",
                   .b = 1,
                   .hq = 4,
                   .hk = 2,
                   .sq = 1 + (j->number * 7 + r * 11) % 40,
                   .skv = 1 + (j->number * 31 + r * 17) % 200,
                   .d = 16,
                   .causal = true,
                   .lse = true};
    attn_problem p;
    attn_problem_init(&p, &c, (uint64_t)(j->number * 100 + r));
    clattn_args args;
    attn_problem_bind(&p, &mine, &args);
    TH_OK(clattn_execute(j->shared, mine.queue, &args, NULL, NULL, 0, NULL));
    if (!attn_problem_check(&p, &mine, message, sizeof message))
      report(j, message);
    attn_problem_unbind(&p);
    /* its own plans as well: the program cache is shared */
    if (attn_problem_run(&p, &mine, (clattn_path)(r % 3), message,
                         sizeof message) != TC_PASS)
      report(j, message);
    attn_problem_free(&p);
  }
  if (clattn_queue_finish(NULL) != CLATTN_INVALID_ARGUMENT ||
      !strstr(clattn_error_message(), "queue"))
    report(j, "the message is not this thread's");
  clattn_queue_destroy(mine.queue);
  return NULL;
}

static void *run_one_call(void *user) {
  job *j = user;
  clattn_desc desc;
  clattn_desc_init(&desc);
  desc.q_heads = desc.kv_heads = 1;
  desc.qk_dim = desc.v_dim = 1 + j->number % 2;
  for (int r = 0; r < ROUNDS; r++) {
    float x[16], out[16] = {0};
    for (int i = 0; i < 16; i++) x[i] = (float)(j->number + 1);
    TH_OK(
        clattn_attention_f32(j->device->context, &desc, 1, 4, 8, x, x, x, out));
    for (int i = 0; i < 4 * desc.v_dim; i++)
      if (out[i] < (float)(j->number + 1) - 1e-5f ||
          out[i] > (float)(j->number + 1) + 1e-5f)
        report(j, "clattn_attention_f32 gave something else");
  }
  return NULL;
}

static int spawn(const th_device *device, clattn_plan *plan,
                 void *(*work)(void *)) {
  pthread_t thread[THREADS];
  job jobs[THREADS];
  atomic_int failures = 0;
  for (int i = 0; i < THREADS; i++) {
    jobs[i] = (job){device, plan, i, &failures};
    cr_assert_eq(pthread_create(&thread[i], NULL, work, &jobs[i]), 0);
  }
  for (int i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);
  return failures;
}

Test(threads, share_context_and_plan) {
  const th_devices *devices = th_open(false);
  for (int d = 0; d < devices->count; d++)
    for (int path = 0; path < TC_PATHS; path++) {
      const th_device *device = &devices->device[d];
      clattn_desc desc;
      clattn_plan *plan = NULL;
      clattn_desc_init(&desc);
      desc.q_heads = 4, desc.kv_heads = 2, desc.qk_dim = desc.v_dim = 16;
      desc.causal = true, desc.outputs = CLATTN_OUT_LSE;
      desc.path = (clattn_path)path;
      TH_OK(clattn_plan_create(device->context, device->index, &desc, &plan));
      cr_expect_eq(spawn(device, plan, run), 0);
      clattn_plan_destroy(plan);
    }
  th_shut();
}

/* A context that has compiled nothing yet: all threads want the same kernels
 * at once. */
Test(threads, first_use_at_once) {
  const th_devices *devices = th_open(false);
  for (int d = 0; d < devices->count; d++) {
    clattn_context_config config;
    th_device device = devices->device[d];
    clattn_context_config_init(&config);
    config.backend = device.info.backend;
    TH_OK(clattn_context_create(&config, &device.context));
    device.index = 0;
    cr_expect_eq(spawn(&device, NULL, run_one_call), 0);
    clattn_context_destroy(device.context);
  }
  th_shut();
}
