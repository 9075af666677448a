/* memory.c - the fused path at 65,536 keys: what the process holds afterwards,
 * counted in bytes by the allocator, is what it holds after 1,024. Native CPU:
 * OpenCL drivers allocate for themselves. */
#include <malloc.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "clattn.h"

enum { DIM = 16, SHORT = 1024, LONG = 65536, SKIPPED = 77 };

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
  OK(clattn_plan_create(context, 0, &desc, &plan));
  extra(context, plan, SHORT); /* threads are started */
  const size_t few = extra(context, plan, SHORT);
  const size_t many = extra(context, plan, LONG);
  printf("besides inputs and outputs: %zu bytes at %d tokens, %zu at %d\n", few,
         SHORT, many, LONG);
  clattn_plan_destroy(plan);
  clattn_context_destroy(context);
  if (few == 0 || many > few + 4096) {
    fprintf(stderr, "want the same at any length, and not 0\n");
    return 1;
  }
  return 0;
}
