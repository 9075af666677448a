/* clattn_cl.h - bring your own OpenCL: context, queue, memory and events.
 *
 * Every cl_* handle given is retained, never taken over: release yours whenever
 * you like. Errors and threads are as in clattn.h. The functions are inline and
 * only give types to the *_native functions of clattn.h; your program links
 * OpenCL itself as it already does. Define CL_TARGET_OPENCL_VERSION (120 or more)
 * before including this, as the OpenCL headers ask. */
#ifndef CLATTN_CL_H
#define CLATTN_CL_H

#include "clattn.h"

#ifdef __APPLE__
#  include <OpenCL/opencl.h>
#else
#  include <CL/cl.h>
#endif

/* A context whose only device, index 0, is `device` of `context`. config may be
 * NULL; its backend field is ignored. */
static inline clattn_status clattn_context_from_cl(
    const clattn_context_config *config, cl_context context,
    cl_device_id device, clattn_context **out) {
  return clattn_context_from_native(config, (void *)context, (void *)device,
                                    out);
}

/* In-order or out-of-order. On an out-of-order queue order your calls by wait
 * lists and events; the steps inside one call are ordered by the library. */
static inline clattn_status clattn_queue_from_cl(clattn_context *context,
                                                 int device,
                                                 cl_command_queue queue,
                                                 clattn_queue **out) {
  return clattn_queue_from_native(context, device, (void *)queue, out);
}

/* A buffer of the same cl_context; sub-buffers are welcome. */
static inline clattn_status clattn_buffer_from_cl(clattn_context *context,
                                                  int device, cl_mem memory,
                                                  clattn_buffer **out) {
  return clattn_buffer_from_native(context, device, (void *)memory, out);
}

/* For the wait lists of clattn calls. */
static inline clattn_status clattn_event_from_cl(clattn_context *context,
                                                 int device, cl_event event,
                                                 clattn_event **out) {
  return clattn_event_from_native(context, device, (void *)event, out);
}

/* A retained cl_event, to be released by you. UNSUPPORTED for events of the
 * native CPU device. */
static inline clattn_status clattn_event_get_cl(clattn_event *event,
                                                cl_event *out) {
  void *native = NULL;
  clattn_status status = clattn_event_get_native(event, &native);
  if (status == CLATTN_OK) *out = (cl_event)native;
  return status;
}

#endif /* CLATTN_CL_H */
