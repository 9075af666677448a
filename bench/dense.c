/* dense.c - the library's own matmul against the device's BLAS (OpenBLAS on the
 * CPU, CLBlast on OpenCL), through clattn_linear: which should the layer use?
 *
 *   build/bench/dense [cpu|INDEX]
 *
 * Each shape is validated on sampled rows in double precision, then both sides
 * are timed in turn, A B A B, in one run; the medians' ratio is the result. */
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

enum { REPEATS = 31, SAMPLES = 5 };

typedef struct side {
  clattn_context *context;
  clattn_queue *queue;
  clattn_buffer *x, *w, *y;
} side;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static void side_open(side *s, clattn_dense dense, const char *device,
                      int *index) {
  clattn_context_config config;
  clattn_context_config_init(&config);
  config.dense = dense;
  CHECK(clattn_context_create(&config, &s->context));
  CHECK(clattn_device_find(s->context, device, index));
  CHECK(clattn_queue_create(s->context, *index, &s->queue));
}

static void upload(side *s, int device, const float *data, size_t n,
                   clattn_buffer **buffer) {
  CHECK(clattn_buffer_create(s->context, device, n * sizeof *data, buffer));
  if (data) CHECK(clattn_buffer_write(s->queue, *buffer, 0, data, n * 4));
}

/* y [m,n] = x [m,k] w [n,k]^T, once; seconds. */
static double run(side *s, int64_t m, int64_t n, int64_t k) {
  const clattn_tensor x = clattn_view_bhsd(s->x, CLATTN_F32, 1, 1, m, k);
  const clattn_tensor w = clattn_view_bhsd(s->w, CLATTN_F32, 1, 1, n, k);
  const clattn_tensor y = clattn_view_bhsd(s->y, CLATTN_F32, 1, 1, m, n);
  const double start = now();
  CHECK(clattn_linear(s->queue, &x, &w, NULL, &y, NULL, 0, NULL));
  CHECK(clattn_queue_finish(s->queue));
  return now() - start;
}

static void validate(side *s, const float *x, const float *w, float *y,
                     int64_t m, int64_t n, int64_t k) {
  CHECK(clattn_buffer_read(s->queue, s->y, 0, y, (size_t)(m * n) * sizeof *y));
  for (int i = 0; i < SAMPLES; i++) {
    const int64_t row = m * i / SAMPLES;
    for (int64_t c = 0; c < n; c++) {
      double want = 0, size = 0;
      for (int64_t d = 0; d < k; d++) {
        const double term = (double)x[row * k + d] * w[c * k + d];
        want += term;
        size += fabs(term);
      }
      if (!(fabs(y[row * n + c] - want) <= 1e-5 * size)) {
        fprintf(stderr, "wrong at [%lld,%lld]: got %g, want %g\n",
                (long long)row, (long long)c, (double)y[row * n + c], want);
        exit(1);
      }
    }
  }
}

static void compare(side *own, side *blas, int device, int64_t m, int64_t n,
                    int64_t k) {
  float *x = malloc((size_t)(m * k) * sizeof *x);
  float *w = malloc((size_t)(n * k) * sizeof *w);
  float *y = malloc((size_t)(m * n) * sizeof *y);
  if (!x || !w || !y) exit(1);
  for (int64_t i = 0; i < m * k; i++)
    x[i] = (float)(rand() % 2001 - 1000) / 999;
  for (int64_t i = 0; i < n * k; i++)
    w[i] = (float)(rand() % 2001 - 1000) / 999;
  side *const sides[2] = {own, blas};
  double t[2][REPEATS];
  for (int s = 0; s < 2; s++) {
    upload(sides[s], device, x, (size_t)(m * k), &sides[s]->x);
    upload(sides[s], device, w, (size_t)(n * k), &sides[s]->w);
    upload(sides[s], device, NULL, (size_t)(m * n), &sides[s]->y);
    run(sides[s], m, n, k);
    validate(sides[s], x, w, y, m, n, k);
  }
  for (int r = 0; r < REPEATS; r++)
    for (int s = 0; s < 2; s++) t[s][r] = run(sides[s], m, n, k);
  for (int s = 0; s < 2; s++) {
    qsort(t[s], REPEATS, sizeof(double), by_value);
    clattn_buffer_destroy(sides[s]->x);
    clattn_buffer_destroy(sides[s]->w);
    clattn_buffer_destroy(sides[s]->y);
  }
  const double flops = 2.0 * (double)m * (double)n * (double)k;
  const double a = t[0][REPEATS / 2], b = t[1][REPEATS / 2];
  printf(
      "%5lld x %5lld x %5lld   own %8.3f ms %6.1f GFLOP/s   blas %8.3f ms "
      "%6.1f GFLOP/s   blas/own %.2f\n",
      (long long)m, (long long)n, (long long)k, a * 1e3, flops / a * 1e-9,
      b * 1e3, flops / b * 1e-9, b / a);
  fflush(stdout);
  free(x);
  free(w);
  free(y);
}

int main(int argc, char **argv) {
  static const int64_t shapes[][3] = {
      {1, 768, 768},   {8, 768, 768},      {128, 768, 768},
      {512, 768, 768}, {2048, 768, 768},   {2048, 3072, 768},
      {512, 512, 512}, {1024, 1024, 1024}, {1, 4096, 4096}};
  const char *device = argc > 1 ? argv[1] : "cpu";
  side own = {0}, blas = {0};
  int index = 0;
  side_open(&own, CLATTN_DENSE_OWN, device, &index);
  side_open(&blas, CLATTN_DENSE_BLAS, device, &index);
  clattn_device_info info = {.struct_size = sizeof info};
  CHECK(clattn_device_get_info(own.context, index, &info));
  printf("%s (%s): rows x columns x depth, medians of %d\n", info.name,
         info.platform, REPEATS);
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
    compare(&own, &blas, index, shapes[i][0], shapes[i][1], shapes[i][2]);
  clattn_queue_destroy(own.queue);
  clattn_queue_destroy(blas.queue);
  clattn_context_destroy(own.context);
  clattn_context_destroy(blas.context);
  return 0;
}
