/* Bring your own OpenCL: the program's context, queue, memory and events. */
#ifndef CL_TARGET_OPENCL_VERSION
#  define CL_TARGET_OPENCL_VERSION 120
#endif
#include "check.h"
#include "clattn_cl.h"

enum { H = 4, S = 64, D = 32, BYTES = H * S * D * (int)sizeof(float) };

#define CHECK_CL(call)                                                         \
  do {                                                                         \
    cl_int error_ = (call);                                                    \
    if (error_ != CL_SUCCESS) {                                                \
      fprintf(stderr, "%s:%d: OpenCL error %d\n", __FILE__, __LINE__, error_); \
      exit(1);                                                                 \
    }                                                                          \
  } while (0)

int main(void) {
  static float x[H][S][D], out[H][S][D];
  fill(&x[0][0][0], sizeof x / sizeof(float), 1);

  /* What the program has anyway. */
  cl_platform_id platform;
  cl_device_id device;
  cl_uint found = 0;
  cl_int error;
  if (clGetPlatformIDs(1, &platform, &found) != CL_SUCCESS || found == 0 ||
      clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, 1, &device, NULL)) {
    printf("no OpenCL device here: nothing to show\n");
    return 0;
  }
  cl_context cl = clCreateContext(NULL, 1, &device, NULL, NULL, &error);
  CHECK_CL(error);
  cl_command_queue q = clCreateCommandQueue(
      cl, device, CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE, &error);
  if (error != CL_SUCCESS) q = clCreateCommandQueue(cl, device, 0, &error);
  CHECK_CL(error);
  cl_mem in = clCreateBuffer(cl, CL_MEM_READ_ONLY, BYTES, NULL, &error);
  CHECK_CL(error);
  cl_mem result = clCreateBuffer(cl, CL_MEM_READ_WRITE, BYTES, NULL, &error);
  CHECK_CL(error);
  cl_event written;
  CHECK_CL(
      clEnqueueWriteBuffer(q, in, CL_FALSE, 0, BYTES, x, 0, NULL, &written));

  /* clattn on top of it; every handle is retained, none is taken over. */
  clattn_context *context;
  clattn_queue *queue;
  clattn_buffer *bin, *bout;
  clattn_event *ready, *done;
  CHECK(clattn_context_from_cl(NULL, cl, device, &context));
  CHECK(clattn_queue_from_cl(context, 0, q, &queue));
  CHECK(clattn_buffer_from_cl(context, 0, in, &bin));
  CHECK(clattn_buffer_from_cl(context, 0, result, &bout));
  CHECK(clattn_event_from_cl(context, 0, written, &ready));

  clattn_desc desc;
  clattn_plan *plan;
  clattn_args args;
  clattn_desc_init(&desc);
  desc.q_heads = desc.kv_heads = H;
  desc.qk_dim = desc.v_dim = D;
  CHECK(clattn_plan_create(context, 0, &desc, &plan));
  clattn_args_init(&args);
  args.q = clattn_view_bhsd(bin, CLATTN_F32, 1, H, S, D);
  args.k = args.v = args.q;
  args.out = clattn_view_bhsd(bout, CLATTN_F32, 1, H, S, D);
  CHECK(clattn_execute(plan, queue, &args, NULL, &ready, 1, &done));

  /* The end of it as an event of OpenCL, for the program's own commands. */
  cl_event finished;
  CHECK(clattn_event_get_cl(done, &finished));
  CHECK_CL(clEnqueueReadBuffer(q, result, CL_TRUE, 0, BYTES, out, 1, &finished,
                               NULL));
  double sum = 0;
  for (int i = 0; i < H * S * D; i++) sum += (&out[0][0][0])[i];
  printf("attention in the program's own queue: mean %.6f\n",
         sum / (H * S * D));

  clReleaseEvent(finished);
  clReleaseEvent(written);
  clattn_event_destroy(done);
  clattn_event_destroy(ready);
  clattn_plan_destroy(plan);
  clattn_buffer_destroy(bin);
  clattn_buffer_destroy(bout);
  clattn_queue_destroy(queue);
  clattn_context_destroy(context);
  clReleaseMemObject(in);
  clReleaseMemObject(result);
  clReleaseCommandQueue(q);
  clReleaseContext(cl);
  return 0;
}
