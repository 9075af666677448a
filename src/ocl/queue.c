/* queue.c - queues, blocking copies, events: plain cl_event objects. */
#include "ocl.h"

clattn_status ocl_queue_create(void *handle, void **out) {
  ocl_device *device = handle;
  cl_context context;
  cl_int error;
  *out = NULL;
  clattn_status status = ocl_context(device, &context);
  if (status != CLATTN_OK) return status;
  ocl_queue *queue = ocl_alloc(sizeof *queue);
  if (!queue) return CLATTN_OUT_OF_MEMORY;
  queue->device = device;
  queue->own = true;
  queue->id = OCL_NEW(error, clCreateCommandQueue, context, device->id, 0);
  if (error != CL_SUCCESS) {
    ocl_free(queue);
    return ocl_fail(error, "clCreateCommandQueue");
  }
  *out = queue;
  return CLATTN_OK;
}

clattn_status ocl_queue_wrap(void *handle, void *native, void **out) {
  ocl_device *device = handle;
  const cl_command_queue id = native;
  cl_context context, its_context = NULL;
  cl_device_id its_device = NULL;
  cl_command_queue_properties properties = 0;
  *out = NULL;
  if (!id)
    return ocl_error(CLATTN_INVALID_ARGUMENT,
                     "native: got NULL, want a cl_command_queue");
  clattn_status status = ocl_context(device, &context);
  if (status != CLATTN_OK) return status;
  cl_int error = OCL(clGetCommandQueueInfo, id, CL_QUEUE_CONTEXT,
                     sizeof its_context, &its_context, NULL);
  if (error == CL_SUCCESS)
    error = OCL(clGetCommandQueueInfo, id, CL_QUEUE_DEVICE, sizeof its_device,
                &its_device, NULL);
  if (error == CL_SUCCESS)
    error = OCL(clGetCommandQueueInfo, id, CL_QUEUE_PROPERTIES,
                sizeof properties, &properties, NULL);
  if (error == CL_INVALID_COMMAND_QUEUE)
    return ocl_error(CLATTN_INVALID_ARGUMENT,
                     "native: the driver does not know this cl_command_queue");
  if (error != CL_SUCCESS) return ocl_fail(error, "clGetCommandQueueInfo");
  if (its_context != context || its_device != device->id)
    return ocl_error(CLATTN_INVALID_ARGUMENT,
                     "native: got a cl_command_queue of another %s, want one "
                     "of the device's",
                     its_context != context ? "cl_context" : "cl_device_id");
  ocl_queue *queue = ocl_alloc(sizeof *queue);
  if (!queue) return CLATTN_OUT_OF_MEMORY;
  error = OCL(clRetainCommandQueue, id);
  if (error != CL_SUCCESS) {
    ocl_free(queue);
    return ocl_fail(error, "clRetainCommandQueue");
  }
  queue->device = device;
  queue->id = id;
  queue->out_of_order = properties & CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE;
  *out = queue;
  return CLATTN_OK;
}

clattn_status ocl_queue_finish(void *handle) {
  ocl_queue *queue = handle;
  const cl_int error = OCL(clFinish, queue->id);
  return error == CL_SUCCESS ? CLATTN_OK : ocl_fail(error, "clFinish");
}

void ocl_queue_destroy(void *handle) {
  ocl_queue *queue = handle;
  if (!queue) return;
  clFinish(queue->id);
  if (queue->scratch) clReleaseMemObject(queue->scratch);
  clReleaseCommandQueue(queue->id);
  ocl_free(queue);
}

/* ---- copies -------------------------------------------------------------- */

/* Orders what follows after all work enqueued so far. */
static clattn_status order(ocl_queue *queue) {
  if (!queue->out_of_order) return CLATTN_OK;
  const cl_int error =
      OCL(clEnqueueBarrierWithWaitList, queue->id, 0, NULL, NULL);
  return error == CL_SUCCESS ? CLATTN_OK
                             : ocl_fail(error, "clEnqueueBarrierWithWaitList");
}

clattn_status ocl_buffer_write(void *handle, void *mem, size_t offset,
                               const void *src, size_t bytes) {
  ocl_queue *queue = handle;
  if (bytes == 0) return CLATTN_OK;
  clattn_status status = order(queue);
  if (status != CLATTN_OK) return status;
  const cl_int error = OCL(clEnqueueWriteBuffer, queue->id, mem, CL_TRUE,
                           offset, bytes, src, 0, NULL, NULL);
  return error == CL_SUCCESS ? CLATTN_OK
                             : ocl_fail(error, "clEnqueueWriteBuffer");
}

clattn_status ocl_buffer_read(void *handle, void *mem, size_t offset, void *dst,
                              size_t bytes) {
  ocl_queue *queue = handle;
  if (bytes == 0) return CLATTN_OK;
  clattn_status status = order(queue);
  if (status != CLATTN_OK) return status;
  const cl_int error = OCL(clEnqueueReadBuffer, queue->id, mem, CL_TRUE, offset,
                           bytes, dst, 0, NULL, NULL);
  return error == CL_SUCCESS ? CLATTN_OK
                             : ocl_fail(error, "clEnqueueReadBuffer");
}

/* ---- events -------------------------------------------------------------- */

clattn_status ocl_event_wait(void *handle) {
  const cl_event event = handle;
  cl_int result = CL_COMPLETE;
  cl_int error = OCL(clWaitForEvents, 1, &event);
  if (error != CL_SUCCESS &&
      error != CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST)
    return ocl_fail(error, "clWaitForEvents");
  /* The command's own failure says more than that it failed, and some drivers
   * report a failed command as a successful wait. */
  cl_int asked = OCL(clGetEventInfo, event, CL_EVENT_COMMAND_EXECUTION_STATUS,
                     sizeof result, &result, NULL);
  if (asked != CL_SUCCESS)
    return ocl_fail(error != CL_SUCCESS ? error : asked,
                    error != CL_SUCCESS ? "clWaitForEvents" : "clGetEventInfo");
  if (result < 0)
    return ocl_error(CLATTN_DEVICE_ERROR, "%s (%d): the work failed",
                     ocl_error_name(result), result);
  return error == CL_SUCCESS ? CLATTN_OK : ocl_fail(error, "clWaitForEvents");
}

void ocl_event_destroy(void *event) {
  if (event) clReleaseEvent(event);
}

clattn_status ocl_event_wrap(void *handle, void *native, void **out) {
  ocl_device *device = handle;
  const cl_event event = native;
  cl_context context, theirs = NULL;
  cl_command_queue queue = NULL;
  *out = NULL;
  if (!event)
    return ocl_error(CLATTN_INVALID_ARGUMENT,
                     "native: got NULL, want a cl_event");
  clattn_status status = ocl_context(device, &context);
  if (status != CLATTN_OK) return status;
  cl_int error = OCL(clGetEventInfo, event, CL_EVENT_CONTEXT, sizeof theirs,
                     &theirs, NULL);
  if (error == CL_INVALID_EVENT)
    return ocl_error(CLATTN_INVALID_ARGUMENT,
                     "native: the driver does not know this cl_event");
  if (error == CL_SUCCESS)
    error = OCL(clGetEventInfo, event, CL_EVENT_COMMAND_QUEUE, sizeof queue,
                &queue, NULL);
  if (error != CL_SUCCESS) return ocl_fail(error, "clGetEventInfo");
  if (theirs != context)
    return ocl_error(CLATTN_INVALID_ARGUMENT,
                     "native: got a cl_event of another cl_context, want one "
                     "of the device's");
  error = OCL(clRetainEvent, event);
  if (error != CL_SUCCESS) return ocl_fail(error, "clRetainEvent");
  /* Another queue may wait for it only once its own queue is flushed; user
   * events have none. */
  if (queue) clFlush(queue);
  *out = event;
  return CLATTN_OK;
}

clattn_status ocl_event_native(void *event, void **native) {
  const cl_int error = OCL(clRetainEvent, event);
  if (error != CL_SUCCESS) return ocl_fail(error, "clRetainEvent");
  *native = event;
  return CLATTN_OK;
}
