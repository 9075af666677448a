/* memory.c - the fused path at 65,536 keys, and statistics of attention at 32,768:
 * what the process holds afterwards, counted in bytes by the allocator, is what it
 * holds after 1,024. And how much attention each key receives, whose map is as long
 * as the text. Native CPU: OpenCL drivers allocate for themselves. */
#include <malloc.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "clattn.h"

enum {
  DIM = 16,
  SHORT = 1024,
  LONG = 65536,
  STATS_LONG = 32768,
  KEYS_LONG = 8192,
  TOP = 8,
  SKIPPED = 77
};

static void require(clattn_status status, const char *call) {
  if (status == CLATTN_OK) return;
  fprintf(stderr, "%s: %s: %s\n", call, clattn_status_name(status),
          clattn_error_message());
  exit(1);
}
#define OK(call) require((call), #call)

/* In the heap and mapped; 0 where the C library does not count. */
static size_t held(void) {
#if defined(__GLIBC__) &&                                                      \
    (__GLIBC__ > 2 || (__GLIBC__ == 2 && __GLIBC_MINOR__ >= 33))
  const struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
#else
  return 0;
#endif
}

/* Bytes that one causal execution over `length` tokens adds to what is held; its
 * inputs and outputs are there before. */
static size_t extra(clattn_context *context, const clattn_plan *plan,
                    int64_t length) {
  const size_t n = (size_t)length * DIM;
  float *data = malloc(n * sizeof *data);
  clattn_buffer *buffer[4];
  clattn_queue *queue;
  if (!data) exit(SKIPPED);
  OK(clattn_queue_create(context, 0, &queue));
  for (int b = 0; b < 4; b++) {
    for (size_t i = 0; i < n; i++)
      data[i] = b == 2 ? 1.0f : sinf((float)i); /* values of 1: so are means */
    OK(clattn_buffer_create(context, 0, n * sizeof *data, &buffer[b]));
    OK(clattn_buffer_write(queue, buffer[b], 0, data, n * sizeof *data));
  }
  clattn_args args;
  clattn_args_init(&args);
  args.q = clattn_view_bhsd(buffer[0], CLATTN_F32, 1, 1, length, DIM);
  args.k = clattn_view_bhsd(buffer[1], CLATTN_F32, 1, 1, length, DIM);
  args.v = clattn_view_bhsd(buffer[2], CLATTN_F32, 1, 1, length, DIM);
  args.out = clattn_view_bhsd(buffer[3], CLATTN_F32, 1, 1, length, DIM);
  const size_t before = held();
  OK(clattn_execute(plan, queue, &args, NULL, NULL, 0, NULL));
  const size_t after = held();
  OK(clattn_buffer_read(queue, buffer[3], 0, data, n * sizeof *data));
  for (size_t i = 0; i < n; i++)
    if (!(fabsf(data[i] - 1) < 1e-4f)) {
      fprintf(stderr, "element %zu is %g, want 1\n", i, (double)data[i]);
      exit(1);
    }
  for (int b = 0; b < 4; b++) clattn_buffer_destroy(buffer[b]);
  clattn_queue_destroy(queue);
  free(data);
  return after > before ? after - before : 0;
}

static void expect(float got, double want, const char *what, int64_t at) {
  if (fabs(got - want) < 1e-4 * (1e-3 + want)) return;
  fprintf(stderr, "%s %lld is %g, want %g\n", what, (long long)at, (double)got,
          want);
  exit(1);
}

/* Of keys that are all alike: rows weigh 1 / (i + 1). */
static void expect_map(const float *map, int64_t length, int64_t map_rows,
                       int64_t map_keys) {
  const int64_t columns = length / map_keys;
  double *sum = malloc((size_t)columns * sizeof *sum);
  if (!sum) exit(SKIPPED);
  for (int64_t I = 0; I < length / map_rows; I++) {
    for (int64_t J = 0; J < columns; J++) sum[J] = 0;
    for (int64_t i = I * map_rows; i < (I + 1) * map_rows; i++)
      for (int64_t J = 0; J * map_keys <= i; J++) {
        const int64_t seen = i + 1 - J * map_keys;
        sum[J] += (double)(seen < map_keys ? seen : map_keys) / (double)(i + 1);
      }
    for (int64_t J = 0; J < columns; J++)
      expect(map[I * columns + J], sum[J] / (double)map_rows, "map",
             I * columns + J);
  }
  free(sum);
}

/* The same of the statistics of one causal head, with a map of several tiles a
 * block. Every key is alike: entropy is ln (i + 1). */
static size_t stats_extra(clattn_context *context, const clattn_plan *plan,
                          int64_t length, int64_t map_rows, int64_t map_keys) {
  const int64_t map_size = length / map_rows * (length / map_keys);
  const size_t n = (size_t)length * DIM,
               numbers = (size_t)length * (2 * TOP + 3);
  float *data = calloc(n + numbers + (size_t)map_size, sizeof *data);
  clattn_buffer *in, *out;
  clattn_queue *queue;
  if (!data) exit(SKIPPED);
  const size_t floats = n + numbers + (size_t)map_size;
  OK(clattn_queue_create(context, 0, &queue));
  OK(clattn_buffer_create(context, 0, n * sizeof *data, &in));
  OK(clattn_buffer_create(context, 0, floats * sizeof *data, &out));
  OK(clattn_buffer_write(queue, in, 0, data, n * sizeof *data));
  clattn_args args;
  clattn_args_init(&args);
  args.q = args.k = args.v =
      clattn_view_bhsd(in, CLATTN_F32, 1, 1, length, DIM);
  args.out = clattn_view_bhsd(out, CLATTN_F32, 1, 1, length, DIM);
  int64_t at = (int64_t)n;
  clattn_stats stats;
  clattn_stats_init(&stats);
  const clattn_tensor number =
      clattn_view_bhsd(out, CLATTN_F32, 1, 1, length, 1);
  args.lse = stats.entropy = stats.distance = number;
  args.lse.offset = at, at += length;
  stats.entropy.offset = at, at += length;
  stats.distance.offset = at, at += length;
  stats.top_weights = clattn_view_bhsd(out, CLATTN_F32, 1, 1, length, TOP);
  stats.top_weights.offset = at, at += TOP * length;
  stats.top_keys = clattn_view_bhsd(out, CLATTN_I32, 1, 1, length, TOP);
  stats.top_keys.offset = at, at += TOP * length;
  stats.map = clattn_view_bhsd(out, CLATTN_F32, 1, 1, length / map_rows,
                               length / map_keys);
  stats.map.offset = at;
  stats.map_rows = map_rows, stats.map_keys = map_keys;
  OK(clattn_execute(plan, queue, &args, NULL, NULL, 0, NULL));
  const size_t before = held();
  OK(clattn_statistics(plan, queue, &args, &stats, NULL, 0, NULL));
  const size_t after = held();
  OK(clattn_buffer_read(queue, out, (size_t)stats.entropy.offset * sizeof *data,
                        data, (size_t)length * sizeof *data));
  for (int64_t i = 0; i < length; i++)
    expect(data[i], log((double)(i + 1)), "entropy", i);
  OK(clattn_buffer_read(queue, out, (size_t)stats.map.offset * sizeof *data,
                        data, (size_t)map_size * sizeof *data));
  expect_map(data, length, map_rows, map_keys);
  clattn_buffer_destroy(in);
  clattn_buffer_destroy(out);
  clattn_queue_destroy(queue);
  free(data);
  return after > before ? after - before : 0;
}

int main(void) {
  clattn_context_config config;
  clattn_context *context;
  clattn_desc desc;
  clattn_plan *plan;
  clattn_context_config_init(&config);
  config.backend = CLATTN_CPU;
  OK(clattn_context_create(&config, &context));
  if (held() == 0) {
    puts("skipped: this C library does not count what it allocates");
    return SKIPPED;
  }
  clattn_desc_init(&desc);
  desc.q_heads = desc.kv_heads = 1;
  desc.qk_dim = desc.v_dim = DIM;
  desc.causal = true;
  desc.path = CLATTN_FUSED;
  clattn_desc with_lse = desc;
  OK(clattn_plan_create(context, 0, &desc, &plan));
  extra(context, plan, SHORT); /* threads are started */
  const size_t few = extra(context, plan, SHORT);
  const size_t many = extra(context, plan, LONG);
  printf("besides inputs and outputs: %zu bytes at %d tokens, %zu at %d\n", few,
         SHORT, many, LONG);
  clattn_plan_destroy(plan);
  with_lse.outputs = CLATTN_OUT_LSE;
  OK(clattn_plan_create(context, 0, &with_lse, &plan));
  stats_extra(context, plan, SHORT, SHORT / 64, SHORT / 64);
  const size_t stats_few =
      stats_extra(context, plan, SHORT, SHORT / 64, SHORT / 64);
  const size_t stats_many =
      stats_extra(context, plan, STATS_LONG, STATS_LONG / 64, STATS_LONG / 64);
  const size_t stats_keys = stats_extra(context, plan, KEYS_LONG, KEYS_LONG, 1);
  printf(
      "statistics: %zu bytes at %d tokens, %zu at %d; of each key, %zu at "
      "%d\n",
      stats_few, SHORT, stats_many, STATS_LONG, stats_keys, KEYS_LONG);
  clattn_plan_destroy(plan);
  clattn_context_destroy(context);
  /* The parts of the map: a number a block of keys for each tile of 64 rows. */
  if (stats_many > stats_few + STATS_LONG / 64 * 64 * sizeof(float) + 65536) {
    fprintf(stderr, "want no more than grows with the length\n");
    return 1;
  }
  if (stats_keys > stats_few + 16 * KEYS_LONG * sizeof(float) + 65536) {
    fprintf(stderr, "want no more than 16 times the map\n");
    return 1;
  }
  if (few == 0 || many > few + 4096) {
    fprintf(stderr, "want the same at any length, and not 0\n");
    return 1;
  }
  return 0;
}
