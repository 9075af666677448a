/* attention.c - the forward pass on a device: GFLOP/s and GB/s.
 *
 *   build/bench/attention [cpu|INDEX]
 *
 * Each shape is validated on sampled rows in double precision, then run for a
 * second. "a core" divides by the CPU time that the process took rather than by
 * the clock: what a device on the host's cores gives when nothing disturbs it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "clattn.h"

#define CHECK(call)                                                            \
  do {                                                                         \
    if ((call) != CLATTN_OK) {                                                 \
      fprintf(stderr, "%s: %s\n", #call, clattn_error_message());              \
      exit(1);                                                                 \
    }                                                                          \
  } while (0)

typedef struct shape {
  const char *name;
  int64_t q_heads, kv_heads, q_len, kv_len, dim;
  bool causal;
  clattn_path path;
} shape;

static const shape shapes[] = {
    {"GPT-2 prefill, full", 12, 12, 1024, 1024, 64, false, CLATTN_AUTO},
    {"GPT-2 prefill, causal", 12, 12, 1024, 1024, 64, true, CLATTN_AUTO},
    {"GPT-2 prefill, unfused", 12, 12, 1024, 1024, 64, true, CLATTN_UNFUSED},
    {"long, causal", 12, 12, 4096, 4096, 64, true, CLATTN_AUTO},
    {"head size 128, causal", 12, 12, 1024, 1024, 128, true, CLATTN_AUTO},
    {"decode, MHA", 32, 32, 1, 4096, 128, true, CLATTN_AUTO},
    {"decode, GQA", 32, 8, 1, 16384, 128, true, CLATTN_AUTO}};

static double seconds(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static float *numbers(size_t n) {
  float *x = malloc(n * sizeof *x);
  if (!x) exit(1);
  for (size_t i = 0; i < n; i++) x[i] = (float)(rand() % 2001 - 1000) / 999;
  return x;
}

/* Row i of head h in double precision against what came back. */
static void validate_row(const shape *s, const float *q, const float *k,
                         const float *v, const float *out, int64_t h,
                         int64_t i) {
  const int64_t D = s->dim, T = s->kv_len, g = h / (s->q_heads / s->kv_heads);
  const int64_t seen = s->causal ? T - s->q_len + i + 1 : T;
  double *p = malloc((size_t)T * sizeof *p), top = -INFINITY, sum = 0;
  if (!p) exit(1);
  for (int64_t j = 0; j < seen; j++) {
    p[j] = 0;
    for (int64_t d = 0; d < D; d++)
      p[j] += (double)q[(h * s->q_len + i) * D + d] * k[(g * T + j) * D + d];
    p[j] /= sqrt((double)D);
    top = fmax(top, p[j]);
  }
  for (int64_t j = 0; j < seen; j++) sum += p[j] = exp(p[j] - top);
  for (int64_t d = 0; d < D; d++) {
    double want = 0;
    for (int64_t j = 0; j < seen; j++) want += p[j] * v[(g * T + j) * D + d];
    const double got = out[(h * s->q_len + i) * D + d];
    if (!(fabs(got - want / sum) <= 1e-5)) {
      fprintf(stderr, "%s: wrong at [%lld,%lld,%lld]: got %g, want %g\n",
              s->name, (long long)h, (long long)i, (long long)d, got,
              want / sum);
      exit(1);
    }
  }
  free(p);
}

static clattn_tensor upload(clattn_queue *queue, clattn_context *context,
                            int device, const float *x, int64_t heads,
                            int64_t rows, int64_t dim) {
  clattn_buffer *buffer;
  const size_t bytes = (size_t)(heads * rows * dim) * sizeof *x;
  CHECK(clattn_buffer_create(context, device, bytes, &buffer));
  if (x) CHECK(clattn_buffer_write(queue, buffer, 0, x, bytes));
  return clattn_view_bhsd(buffer, CLATTN_F32, 1, heads, rows, dim);
}

static void measure(clattn_context *context, int device, const shape *s) {
  enum { MOST = 4096 };
  static double times[MOST];
  const size_t nq = (size_t)(s->q_heads * s->q_len * s->dim);
  const size_t nk = (size_t)(s->kv_heads * s->kv_len * s->dim);
  float *q = numbers(nq), *k = numbers(nk), *v = numbers(nk);
  float *out = numbers(nq);
  clattn_queue *queue;
  clattn_plan *plan;
  clattn_desc desc;
  clattn_args args;
  CHECK(clattn_queue_create(context, device, &queue));
  clattn_desc_init(&desc);
  desc.q_heads = s->q_heads;
  desc.kv_heads = s->kv_heads;
  desc.qk_dim = desc.v_dim = s->dim;
  desc.causal = s->causal;
  desc.path = s->path;
  CHECK(clattn_plan_create(context, device, &desc, &plan));
  clattn_args_init(&args);
  args.q = upload(queue, context, device, q, s->q_heads, s->q_len, s->dim);
  args.k = upload(queue, context, device, k, s->kv_heads, s->kv_len, s->dim);
  args.v = upload(queue, context, device, v, s->kv_heads, s->kv_len, s->dim);
  args.out = upload(queue, context, device, NULL, s->q_heads, s->q_len, s->dim);

  CHECK(clattn_execute(plan, queue, &args, NULL, NULL, 0, NULL));
  CHECK(clattn_buffer_read(queue, args.out.buffer, 0, out, nq * sizeof *out));
  for (int i = 0; i < 12; i++)
    validate_row(s, q, k, v, out, rand() % s->q_heads, rand() % s->q_len);

  int n = 0;
  const double start = seconds(CLOCK_MONOTONIC);
  const double cpu_start = seconds(CLOCK_PROCESS_CPUTIME_ID);
  while (n < 5 || (n < MOST && seconds(CLOCK_MONOTONIC) - start < 1)) {
    const double began = seconds(CLOCK_MONOTONIC);
    CHECK(clattn_execute(plan, queue, &args, NULL, NULL, 0, NULL));
    CHECK(clattn_queue_finish(queue));
    times[n++] = seconds(CLOCK_MONOTONIC) - began;
  }
  const double cpu = (seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu_start) / n;
  qsort(times, (size_t)n, sizeof *times, by_value);
  const double t = times[n / 2];
  const bool half = s->causal && s->q_len == s->kv_len;
  const double flops = (half ? 2.0 : 4.0) * (double)s->q_heads *
                       (double)s->q_len * (double)s->kv_len * (double)s->dim;
  printf("%-24s %9.3f ms %7.1f GFLOP/s %6.1f a core %6.1f GB/s of K and V\n",
         s->name, t * 1e3, flops / t * 1e-9, flops / cpu * 1e-9,
         (double)nk * 8 / t * 1e-9);
  fflush(stdout);

  clattn_tensor *const all[] = {&args.q, &args.k, &args.v, &args.out};
  for (int i = 0; i < 4; i++) clattn_buffer_destroy(all[i]->buffer);
  clattn_plan_destroy(plan);
  clattn_queue_destroy(queue);
  free(q), free(k), free(v), free(out);
}

int main(int argc, char **argv) {
  clattn_context *context;
  int device;
  CHECK(clattn_context_create(NULL, &context));
  CHECK(clattn_device_find(context, argc > 1 ? argv[1] : NULL, &device));
  clattn_device_info info = {.struct_size = sizeof info};
  CHECK(clattn_device_get_info(context, device, &info));
  printf("%s (%s), F32, medians\n", info.name, info.platform);
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
    measure(context, device, &shapes[i]);
  clattn_context_destroy(context);
  return 0;
}
