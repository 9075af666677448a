/* every_row.c - every kernel of every device at least once, on shapes that are
 * small enough for slow checkers such as Oclgrind. Making a plan runs the
 * first-use check of its kernels, which uses every feature; one small execution
 * follows for each path and for few and many queries. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clattn.h"

enum { HEADS = 2, KEYS = 19, DIM = 5 };

static void require(clattn_status status, const char *call) {
  if (status == CLATTN_OK) return;
  fprintf(stderr, "%s: %s: %s\n", call, clattn_status_name(status),
          clattn_error_message());
  exit(1);
}
#define OK(call) require((call), #call)

static void execute(clattn_context *context, int device,
                    const clattn_plan *plan, int rows) {
  const size_t q_size = (size_t)(HEADS * rows * DIM), kv_size = KEYS * DIM;
  const size_t floats = 2 * q_size + 2 * kv_size;
  float *data = malloc(floats * sizeof *data);
  if (!data) exit(1);
  for (size_t i = 0; i < floats; i++) data[i] = sinf((float)i);

  clattn_queue *queue;
  clattn_buffer *in, *out;
  OK(clattn_queue_create(context, device, &queue));
  OK(clattn_buffer_create(context, device, floats * sizeof *data, &in));
  OK(clattn_buffer_create(context, device, q_size * sizeof *data, &out));
  OK(clattn_buffer_write(queue, in, 0, data, floats * sizeof *data));
  clattn_args args;
  clattn_args_init(&args);
  args.q = clattn_view_bhsd(in, CLATTN_F32, 1, HEADS, rows, DIM);
  args.k = clattn_view_bhsd(in, CLATTN_F32, 1, 1, KEYS, DIM);
  args.k.offset = (int64_t)q_size;
  args.v = args.k;
  args.v.offset = (int64_t)(q_size + kv_size);
  args.out = clattn_view_bhsd(out, CLATTN_F32, 1, HEADS, rows, DIM);
  OK(clattn_execute(plan, queue, &args, NULL, NULL, 0, NULL));
  OK(clattn_buffer_read(queue, out, 0, data, q_size * sizeof *data));
  for (size_t i = 0; i < q_size; i++)
    if (!(fabsf(data[i]) <= 1)) { /* a mean of sines */
      fprintf(stderr, "element %zu is %g\n", i, (double)data[i]);
      exit(1);
    }
  clattn_buffer_destroy(in);
  clattn_buffer_destroy(out);
  clattn_queue_destroy(queue);
  free(data);
}

/* Every path of a device. */
static void visit(clattn_context *context, int device) {
  for (int path = CLATTN_FUSED; path <= CLATTN_BLOCKED; path++) {
    clattn_desc desc;
    clattn_desc_init(&desc);
    desc.q_heads = HEADS;
    desc.kv_heads = 1;
    desc.qk_dim = desc.v_dim = DIM;
    desc.causal = true;
    desc.path = (clattn_path)path;
    clattn_plan *plan;
    OK(clattn_plan_create(context, device, &desc, &plan));
    /* A kernel that gives wrong numbers is refused, and another one serves:
     * good for users, but here it must show. */
    if (strstr(clattn_plan_info(plan), "wrong numbers")) {
      fprintf(stderr, "%s", clattn_plan_info(plan));
      exit(1);
    }
    execute(context, device, plan, 1);
    execute(context, device, plan, 17);
    clattn_plan_destroy(plan);
  }
}

int main(int argc, char **argv) {
  /* As users see devices, then with GPU-shaped kernels on CPUs as well, unless
   * "listed" asks for the first alone: simulated, the second takes long. */
  const bool listed = argc > 1 && strcmp(argv[1], "listed") == 0;
  for (int forced = 0; forced < (listed ? 1 : 2); forced++) {
    clattn_context_config config;
    clattn_context_config_init(&config);
    config.force_gpu_kernels = forced;
    clattn_context *context;
    OK(clattn_context_create(&config, &context));
    for (int d = 0; d < clattn_device_count(context); d++) {
      clattn_device_info info;
      info.struct_size = sizeof info;
      OK(clattn_device_get_info(context, d, &info));
      if (forced && info.backend == CLATTN_CPU) continue;
      visit(context, d);
      printf("ok: %s%s\n", info.name, forced ? ", GPU-shaped kernels" : "");
      fflush(stdout);
    }
    clattn_context_destroy(context);
  }
  return 0;
}
