/* queue.c - the life of a queue. */
#include "core.h"

/* A queue handle on a device, its backend object still missing. */
static clattn_status queue_new(clattn_context *context, int device,
                               clattn_queue **out) {
  clt_device *on = NULL;
  CLT_TRY(clt_device_get(context, device, &on));
  clattn_queue *queue = clt_alloc(sizeof *queue);
  if (!queue) return clt_fail(CLATTN_OUT_OF_MEMORY, "no memory: queue");
  queue->device = on;
  *out = queue;
  return CLATTN_OK;
}

/* Ends a creation: hands the queue out, or frees it. */
static clattn_status queue_made(clattn_status status, clattn_queue *queue,
                                clattn_queue **out) {
  if (status != CLATTN_OK) {
    clt_free(queue);
    return status;
  }
  clt_context_retain(queue->device->context);
  *out = queue;
  return CLATTN_OK;
}

clattn_status clattn_queue_create(clattn_context *context, int device,
                                  clattn_queue **queue) {
  CLT_REQUIRE(queue != NULL, "queue: got NULL, want room for a handle");
  *queue = NULL;
  clattn_queue *made = NULL;
  CLT_TRY(queue_new(context, device, &made));
  clt_device *on = made->device;
  return queue_made(on->ops->queue_create(on->impl, &made->impl), made, queue);
}

clattn_status clattn_queue_from_native(clattn_context *context, int device,
                                       void *native, clattn_queue **queue) {
  CLT_REQUIRE(queue != NULL, "queue: got NULL, want room for a handle");
  *queue = NULL;
  CLT_REQUIRE(native != NULL, "native: got NULL, want a cl_command_queue");
  clattn_queue *made = NULL;
  CLT_TRY(queue_new(context, device, &made));
  clt_device *on = made->device;
  return queue_made(on->ops->queue_wrap(on->impl, native, &made->impl), made,
                    queue);
}

clattn_status clattn_queue_finish(clattn_queue *queue) {
  CLT_REQUIRE(queue != NULL, "queue: got NULL, want a queue");
  return queue->device->ops->queue_finish(queue->impl);
}

void clattn_queue_destroy(clattn_queue *queue) {
  if (!queue) return;
  clattn_context *context = queue->device->context;
  queue->device->ops->queue_destroy(queue->impl);
  clt_free(queue);
  clt_context_release(context);
}
