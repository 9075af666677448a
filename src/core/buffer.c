/* buffer.c - the life of a buffer, and copies between it and the host. */
#include "core.h"

void clt_buffer_retain(clattn_buffer *buffer) {
  atomic_fetch_add_explicit(&buffer->refs, 1, memory_order_relaxed);
}

void clattn_buffer_destroy(clattn_buffer *buffer) {
  if (!buffer) return;
  if (atomic_fetch_sub_explicit(&buffer->refs, 1, memory_order_acq_rel) != 1)
    return;
  clattn_context *context = buffer->device->context;
  buffer->device->ops->buffer_destroy(buffer->mem);
  clt_free(buffer);
  clt_context_release(context);
}

clattn_status clt_buffer_new(clt_device *device, size_t bytes,
                             clattn_buffer **out) {
  *out = NULL;
  clattn_buffer *buffer = clt_alloc(sizeof *buffer);
  if (!buffer) return clt_fail(CLATTN_OUT_OF_MEMORY, "no memory: buffer");
  atomic_init(&buffer->refs, 1);
  buffer->device = device;
  buffer->bytes = bytes;
  clattn_status status =
      device->ops->buffer_create(device->impl, bytes, &buffer->mem);
  if (status != CLATTN_OK) {
    clt_free(buffer);
    return status;
  }
  clt_context_retain(device->context);
  *out = buffer;
  return CLATTN_OK;
}

/* A buffer made of host memory of `bytes`, or of a native handle that tells its
 * own size. */
static clattn_status buffer_wrap(clt_device *device, void *native, size_t bytes,
                                 clattn_buffer **out) {
  clattn_buffer *buffer = clt_alloc(sizeof *buffer);
  if (!buffer) return clt_fail(CLATTN_OUT_OF_MEMORY, "no memory: buffer");
  atomic_init(&buffer->refs, 1);
  buffer->device = device;
  buffer->native = native;
  clattn_status status =
      device->ops->buffer_wrap(device->impl, native, &bytes, &buffer->mem);
  if (status != CLATTN_OK) {
    clt_free(buffer);
    return status;
  }
  buffer->bytes = bytes;
  clt_context_retain(device->context);
  *out = buffer;
  return CLATTN_OK;
}

clattn_status clattn_buffer_create(clattn_context *context, int device,
                                   size_t size_bytes, clattn_buffer **buffer) {
  CLT_REQUIRE(buffer != NULL, "buffer: got NULL, want room for a handle");
  *buffer = NULL;
  clt_device *on = NULL;
  CLT_TRY(clt_device_get(context, device, &on));
  CLT_REQUIRE(size_bytes >= 1, "size_bytes: got 0, want at least 1");
  return clt_buffer_new(on, size_bytes, buffer);
}

clattn_status clattn_buffer_wrap(clattn_context *context, int device,
                                 void *memory, size_t size_bytes,
                                 clattn_buffer **buffer) {
  CLT_REQUIRE(buffer != NULL, "buffer: got NULL, want room for a handle");
  *buffer = NULL;
  clt_device *on = NULL;
  CLT_TRY(clt_device_get(context, device, &on));
  CLT_REQUIRE(memory != NULL, "memory: got NULL, want %zu bytes", size_bytes);
  CLT_REQUIRE(size_bytes >= 1, "size_bytes: got 0, want at least 1");
  if (on->backend != CLATTN_CPU)
    return clt_fail(CLATTN_UNSUPPORTED,
                    "device: got %d, an OpenCL device; only the native CPU "
                    "device computes in host memory",
                    on->index);
  return buffer_wrap(on, memory, size_bytes, buffer);
}

clattn_status clattn_buffer_from_native(clattn_context *context, int device,
                                        void *native, clattn_buffer **buffer) {
  CLT_REQUIRE(buffer != NULL, "buffer: got NULL, want room for a handle");
  *buffer = NULL;
  clt_device *on = NULL;
  CLT_TRY(clt_device_get(context, device, &on));
  CLT_REQUIRE(native != NULL, "native: got NULL, want a cl_mem");
  if (on->backend == CLATTN_CPU)
    return clt_fail(CLATTN_UNSUPPORTED,
                    "device: got %d, the native CPU device, which has no "
                    "native handles (clattn_buffer_wrap takes host memory)",
                    on->index);
  return buffer_wrap(on, native, 0, buffer);
}

size_t clattn_buffer_size(const clattn_buffer *buffer) {
  return buffer ? buffer->bytes : 0;
}

/* The shared arguments of a copy between `buffer` and host memory. */
static clattn_status check_copy(const clattn_queue *queue,
                                const clattn_buffer *buffer, const char *name,
                                size_t offset, const void *host,
                                const char *host_name, size_t bytes) {
  CLT_REQUIRE(queue != NULL, "queue: got NULL, want a queue");
  CLT_REQUIRE(buffer != NULL, "%s: got NULL, want a buffer", name);
  CLT_REQUIRE(buffer->device->context == queue->device->context,
              "%s: belongs to another context than the queue", name);
  CLT_REQUIRE(buffer->device == queue->device,
              "%s: is on device %d, want %d, the queue's", name,
              buffer->device->index, queue->device->index);
  CLT_REQUIRE(host != NULL || bytes == 0, "%s: got NULL, want %zu bytes",
              host_name, bytes);
  CLT_REQUIRE(offset <= buffer->bytes && bytes <= buffer->bytes - offset,
              "%s: got %zu bytes at offset_bytes %zu, want them inside its %zu",
              name, bytes, offset, buffer->bytes);
  return CLATTN_OK;
}

clattn_status clattn_buffer_write(clattn_queue *queue, clattn_buffer *dst,
                                  size_t offset_bytes, const void *src,
                                  size_t size_bytes) {
  CLT_TRY(check_copy(queue, dst, "dst", offset_bytes, src, "src", size_bytes));
  if (size_bytes == 0) return CLATTN_OK;
  return queue->device->ops->buffer_write(queue->impl, dst->mem, offset_bytes,
                                          src, size_bytes);
}

clattn_status clattn_buffer_read(clattn_queue *queue, const clattn_buffer *src,
                                 size_t offset_bytes, void *dst,
                                 size_t size_bytes) {
  CLT_TRY(check_copy(queue, src, "src", offset_bytes, dst, "dst", size_bytes));
  if (size_bytes == 0) return CLATTN_OK;
  return queue->device->ops->buffer_read(queue->impl, src->mem, offset_bytes,
                                         dst, size_bytes);
}
