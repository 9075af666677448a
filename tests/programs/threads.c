/* threads.c - many threads share a context, a plan and its inputs, each with a
 * queue of its own; results must be those of one thread, bit by bit. A program
 * and not a Criterion test, so that it also runs under ThreadSanitizer.
 * The device is $CLATTN_DEVICE or the library's default. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clattn.h"

enum { THREADS = 6, ROUNDS = 8, HEADS = 4, KV_HEADS = 2, ROWS = 65, DIM = 16 };
enum { Q_SIZE = HEADS * ROWS * DIM, KV_SIZE = KV_HEADS * ROWS * DIM };

static clattn_context *context;
static clattn_plan *plan;
static clattn_desc desc;
static float q[Q_SIZE], k[KV_SIZE], v[KV_SIZE]; /* [heads, ROWS, DIM] */
static float want[Q_SIZE];                      /* of the plan, one thread */

static void require(clattn_status status, const char *call) {
  if (status == CLATTN_OK) return;
  fprintf(stderr, "%s: %s: %s\n", call, clattn_status_name(status),
          clattn_error_message());
  exit(1);
}
#define OK(call) require((call), #call)

static void fail(const char *what) {
  fprintf(stderr, "threads: %s\n", what);
  exit(1);
}

static clattn_buffer *upload(clattn_queue *queue, const float *data,
                             size_t count) {
  clattn_buffer *buffer;
  OK(clattn_buffer_create(context, CLATTN_DEFAULT_DEVICE, count * sizeof *data,
                          &buffer));
  OK(clattn_buffer_write(queue, buffer, 0, data, count * sizeof *data));
  return buffer;
}

/* q, k, v through `p` on a queue of its own. */
static void attend(const clattn_plan *p, float out[Q_SIZE]) {
  clattn_queue *queue;
  OK(clattn_queue_create(context, CLATTN_DEFAULT_DEVICE, &queue));
  clattn_buffer *bq = upload(queue, q, Q_SIZE), *bk = upload(queue, k, KV_SIZE);
  clattn_buffer *bv = upload(queue, v, KV_SIZE), *bo = upload(queue, q, Q_SIZE);
  clattn_args args;
  clattn_args_init(&args);
  args.q = clattn_view_bhsd(bq, CLATTN_F32, 1, HEADS, ROWS, DIM);
  args.k = clattn_view_bhsd(bk, CLATTN_F32, 1, KV_HEADS, ROWS, DIM);
  args.v = clattn_view_bhsd(bv, CLATTN_F32, 1, KV_HEADS, ROWS, DIM);
  args.out = clattn_view_bhsd(bo, CLATTN_F32, 1, HEADS, ROWS, DIM);
  clattn_event *event;
  OK(clattn_execute(p, queue, &args, NULL, NULL, 0, &event));
  OK(clattn_event_wait(event));
  OK(clattn_buffer_read(queue, bo, 0, out, Q_SIZE * sizeof *out));
  clattn_event_destroy(event);
  clattn_buffer_destroy(bq);
  clattn_buffer_destroy(bk);
  clattn_buffer_destroy(bv);
  clattn_buffer_destroy(bo);
  clattn_queue_destroy(queue);
}

static void check(const float out[Q_SIZE], const char *what) {
  if (memcmp(out, want, sizeof want) != 0) fail(what);
}

static void *work(void *user) {
  const int me = *(const int *)user;
  for (int round = 0; round < ROUNDS; round++) {
    float out[Q_SIZE];
    attend(plan, out);
    check(out, "the shared plan gave other numbers");

    OK(clattn_attention_f32(context, &desc, 1, ROWS, ROWS, q, k, v, out));
    check(out, "the one-shot call gave other numbers");

    if (round % 4 == me % 4) { /* plans are made and unmade meanwhile */
      clattn_plan *own;
      OK(clattn_plan_create(context, CLATTN_DEFAULT_DEVICE, &desc, &own));
      attend(own, out);
      check(out, "a plan of the thread's own gave other numbers");
      clattn_plan_destroy(own);
    }

    /* Failures are the thread's own: this one names its number. */
    clattn_desc bad = desc;
    bad.q_heads = 100 + me;
    bad.kv_heads = 99;
    clattn_plan *none;
    if (clattn_plan_create(context, CLATTN_DEFAULT_DEVICE, &bad, &none) !=
        CLATTN_INVALID_ARGUMENT)
      fail("heads that do not divide were accepted");
    char number[16];
    snprintf(number, sizeof number, "%d", 100 + me);
    if (!strstr(clattn_error_message(), number))
      fail("the message of another thread");
  }
  return NULL;
}

static void fill(float *x, size_t n, uint32_t seed) {
  for (size_t i = 0; i < n; i++) {
    seed = seed * 1664525u + 1013904223u;
    x[i] = (float)(seed >> 8) / (1 << 23) - 1.0f;
  }
}

int main(void) {
  fill(q, Q_SIZE, 1);
  fill(k, KV_SIZE, 2);
  fill(v, KV_SIZE, 3);
  clattn_desc_init(&desc);
  desc.q_heads = HEADS;
  desc.kv_heads = KV_HEADS;
  desc.qk_dim = desc.v_dim = DIM;
  desc.causal = true;

  OK(clattn_context_create(NULL, &context));
  OK(clattn_plan_create(context, CLATTN_DEFAULT_DEVICE, &desc, &plan));
  attend(plan, want);

  pthread_t thread[THREADS];
  int number[THREADS];
  for (int i = 0; i < THREADS; i++) {
    number[i] = i;
    if (pthread_create(&thread[i], NULL, work, &number[i]) != 0)
      fail("pthread_create failed");
  }
  for (int i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);

  clattn_plan_destroy(plan);
  clattn_context_destroy(context);
  printf("%d threads, %d rounds: ok\n", THREADS, ROUNDS);
  return 0;
}
