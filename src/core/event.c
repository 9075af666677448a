/* event.c - the life of an event. */
#include "core.h"

clattn_status clattn_event_wait(clattn_event *event) {
  CLT_REQUIRE(event != NULL, "event: got NULL, want an event");
  return event->device->ops->event_wait(event->impl);
}

void clt_event_retain(clattn_event *event) {
  atomic_fetch_add_explicit(&event->refs, 1, memory_order_relaxed);
}

void clattn_event_destroy(clattn_event *event) {
  if (!event) return;
  if (atomic_fetch_sub_explicit(&event->refs, 1, memory_order_acq_rel) != 1)
    return;
  clattn_context *context = event->device->context;
  event->device->ops->event_destroy(event->impl);
  clt_free(event);
  clt_context_release(context);
}

clattn_status clattn_event_from_native(clattn_context *context, int device,
                                       void *native, clattn_event **event) {
  CLT_REQUIRE(event != NULL, "event: got NULL, want room for a handle");
  *event = NULL;
  CLT_REQUIRE(native != NULL, "native: got NULL, want a cl_event");
  clt_device *on = NULL;
  CLT_TRY(clt_device_get(context, device, &on));
  clattn_event *made = clt_alloc(sizeof *made);
  if (!made) return clt_fail(CLATTN_OUT_OF_MEMORY, "no memory: event");
  atomic_init(&made->refs, 1);
  made->device = on;
  clattn_status status = on->ops->event_wrap(on->impl, native, &made->impl);
  if (status != CLATTN_OK) {
    clt_free(made);
    return status;
  }
  clt_context_retain(context);
  *event = made;
  return CLATTN_OK;
}

clattn_status clattn_event_get_native(clattn_event *event, void **native) {
  CLT_REQUIRE(native != NULL, "native: got NULL, want room for a handle");
  *native = NULL;
  CLT_REQUIRE(event != NULL, "event: got NULL, want an event");
  return event->device->ops->event_native(event->impl, native);
}
