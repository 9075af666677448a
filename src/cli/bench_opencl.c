/* bench_opencl.c - the functions of bench_opencl.h, and the OpenCL context and
 * device of a target, found through an event of its queue. */
#define _POSIX_C_SOURCE 200809L
#include "bench_opencl.h"

#include <dlfcn.h>
#include <string.h>

/* Enumerators of cl.h. */
enum {
  QUEUE_DEVICE = 0x1091,
  EVENT_QUEUE = 0x11D0,
  EVENT_CONTEXT = 0x11D4,
  READ_WRITE = 1
};

static bool load(bench_cl *cl, char *why) {
  static const char *const names[] = {"libOpenCL.so.1", "libOpenCL.so"};
  for (int i = 0; cl->library == NULL && i < 2; i++)
    cl->library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
  if (cl->library == NULL)
    return bench_refuse(why, "no OpenCL loader: neither %s nor %s", names[0],
                        names[1]);
  void *symbol;
#define BENCH_X(name, result, parameters)                                      \
  if ((symbol = dlsym(cl->library, #name)) == NULL)                            \
    return bench_refuse(why, "the OpenCL loader has no " #name);               \
  memcpy(&cl->name, &symbol, sizeof symbol);
  BENCH_CL_MAP(BENCH_X)
#undef BENCH_X
  return true;
}

/* An event of the target's queue: of copying one number. */
static bool native_event(const bench_target *target, void **event, char *why) {
  clattn_buffer *buffer = NULL;
  clattn_event *copied = NULL;
  bool ok = clattn_buffer_create(target->context, target->device,
                                 2 * sizeof(float), &buffer) == CLATTN_OK;
  if (ok) {
    clattn_tensor from = clattn_view_bhsd(buffer, CLATTN_F32, 1, 1, 1, 1);
    clattn_tensor to = from;
    to.offset = 1;
    ok =
        clattn_copy(target->queue, &from, &to, NULL, 0, &copied) == CLATTN_OK &&
        clattn_event_wait(copied) == CLATTN_OK &&
        clattn_event_get_native(copied, event) == CLATTN_OK;
  }
  if (!ok) bench_refuse(why, "%s", clattn_error_message());
  clattn_event_destroy(copied);
  clattn_buffer_destroy(buffer);
  return ok;
}

static bool find_device(bench_cl *cl, void *event, char *why) {
  void *queue;
  const size_t size = sizeof queue;
  int32_t error = cl->clGetEventInfo(event, EVENT_QUEUE, size, &queue, NULL);
  if (error == 0)
    error =
        cl->clGetCommandQueueInfo(queue, QUEUE_DEVICE, size, &cl->device, NULL);
  if (error == 0)
    error = cl->clGetEventInfo(event, EVENT_CONTEXT, size, &cl->context, NULL);
  if (error == 0) error = cl->clRetainContext(cl->context);
  if (error != 0) {
    cl->context = NULL;
    return bench_refuse(why, "the device of an event: OpenCL error %d", error);
  }
  cl->queue = cl->clCreateCommandQueue(cl->context, cl->device, 0, &error);
  return error == 0 ||
         bench_refuse(why, "clCreateCommandQueue: error %d", error);
}

bool bench_cl_open(const bench_target *target, bench_cl *cl, char *why) {
  void *event;
  *cl = (bench_cl){.library = NULL};
  if (target->info.backend != CLATTN_OPENCL)
    return bench_refuse(why, "needs an OpenCL device");
  if (!load(cl, why) || !native_event(target, &event, why)) return false;
  const bool ok = find_device(cl, event, why);
  cl->clReleaseEvent(event);
  return ok;
}

void bench_cl_close(bench_cl *cl) {
  if (cl->queue != NULL) cl->clReleaseCommandQueue(cl->queue);
  if (cl->context != NULL) cl->clReleaseContext(cl->context);
  if (cl->library != NULL) dlclose(cl->library);
  *cl = (bench_cl){.library = NULL};
}

void *bench_cl_buffer(const bench_cl *cl, double bytes, const void *data,
                      const char *what, char *why) {
  int32_t error;
  const size_t size = (size_t)bytes;
  void *buffer =
      cl->clCreateBuffer(cl->context, READ_WRITE, size, NULL, &error);
  if (error == 0 && data != NULL) {
    error = cl->clEnqueueWriteBuffer(cl->queue, buffer, 1, 0, size, data, 0,
                                     NULL, NULL);
    if (error != 0) cl->clReleaseMemObject(buffer);
  }
  if (error == 0) return buffer;
  bench_refuse(why, "%s of %.1f MiB: OpenCL error %d", what, bytes / (1 << 20),
               error);
  return NULL;
}
