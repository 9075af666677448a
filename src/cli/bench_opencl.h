/* bench_opencl.h - the few functions of OpenCL 1.2 that a rival on the device
 * needs, found at run time: the program starts, and is built, where there is no
 * OpenCL. Handles are untyped, as in the *_native functions of clattn.h. */
#ifndef CLATTN_SRC_CLI_BENCH_OPENCL_H
#define CLATTN_SRC_CLI_BENCH_OPENCL_H

#include "bench.h"

/* name, result, parameters: cl_int is int32_t, cl_uint uint32_t, flags and
 * properties are uint64_t. */
#define BENCH_CL_MAP(X)                                                        \
  X(clGetEventInfo, int32_t,                                                   \
    (void *event, uint32_t what, size_t room, void *value, size_t *size))      \
  X(clGetCommandQueueInfo, int32_t,                                            \
    (void *queue, uint32_t what, size_t room, void *value, size_t *size))      \
  X(clReleaseEvent, int32_t, (void *event))                                    \
  X(clRetainContext, int32_t, (void *context))                                 \
  X(clReleaseContext, int32_t, (void *context))                                \
  X(clCreateCommandQueue, void *,                                              \
    (void *context, void *device, uint64_t properties, int32_t *error))        \
  X(clReleaseCommandQueue, int32_t, (void *queue))                             \
  X(clFinish, int32_t, (void *queue))                                          \
  X(clCreateBuffer, void *,                                                    \
    (void *context, uint64_t flags, size_t size, void *host, int32_t *error))  \
  X(clReleaseMemObject, int32_t, (void *buffer))                               \
  X(clEnqueueWriteBuffer, int32_t,                                             \
    (void *queue, void *buffer, uint32_t blocking, size_t offset, size_t size, \
     const void *data, uint32_t n_wait, void *const *wait, void **event))      \
  X(clEnqueueReadBuffer, int32_t,                                              \
    (void *queue, void *buffer, uint32_t blocking, size_t offset, size_t size, \
     void *data, uint32_t n_wait, void *const *wait, void **event))            \
  X(clCreateProgramWithSource, void *,                                         \
    (void *context, uint32_t n, const char **texts, const size_t *lengths,     \
     int32_t *error))                                                          \
  X(clBuildProgram, int32_t,                                                   \
    (void *program, uint32_t n, void *const *devices, const char *options,     \
     void (*done)(void *, void *), void *user))                                \
  X(clReleaseProgram, int32_t, (void *program))                                \
  X(clCreateKernel, void *, (void *program, const char *name, int32_t *error)) \
  X(clReleaseKernel, int32_t, (void *kernel))                                  \
  X(clSetKernelArg, int32_t,                                                   \
    (void *kernel, uint32_t index, size_t size, const void *value))            \
  X(clEnqueueNDRangeKernel, int32_t,                                           \
    (void *queue, void *kernel, uint32_t dimensions, const size_t *offset,     \
     const size_t *global, const size_t *local, uint32_t n_wait,               \
     void *const *wait, void **event))

typedef struct bench_cl {
  void *library;
#define BENCH_X(name, result, parameters) result(*name) parameters;
  BENCH_CL_MAP(BENCH_X)
#undef BENCH_X
  void *context, *device; /* those that the target's library uses */
  void *queue;            /* an in-order one of our own */
} bench_cl;

/* False with why; _close is due either way. */
bool bench_cl_open(const bench_target *target, bench_cl *cl, char *why);
void bench_cl_close(bench_cl *cl);
/* A buffer of bytes, filled with data unless that is NULL; NULL with why. */
void *bench_cl_buffer(const bench_cl *cl, double bytes, const void *data,
                      const char *what, char *why);

#endif
