/* module.c - the table of functions and the entry that the core asks for. */
#include "ocl.h"

/* The one global of the backend, as slots such as event_wait see no state. A
 * process has one core, so every write is of the same value. */
const clt_host *ocl_host;

void *ocl_alloc(size_t bytes) {
  void *memory = ocl_host->alloc(bytes);
  if (!memory)
    ocl_error(CLATTN_OUT_OF_MEMORY, "opencl: no host memory for %zu bytes",
              bytes);
  return memory;
}

void ocl_free(void *memory) { ocl_host->free(memory); }

static const clt_backend_ops ops = {
    .abi = CLT_BACKEND_ABI,
    .name = "opencl",
    .open = ocl_open,
    .open_native = ocl_open_native,
    .close = ocl_close,
    .device = ocl_device_at,
    .device_info = ocl_device_info,
    .buffer_create = ocl_buffer_create,
    .buffer_wrap = ocl_buffer_wrap,
    .buffer_destroy = ocl_buffer_destroy,
    .queue_create = ocl_queue_create,
    .queue_wrap = ocl_queue_wrap,
    .queue_finish = ocl_queue_finish,
    .queue_destroy = ocl_queue_destroy,
    .buffer_write = ocl_buffer_write,
    .buffer_read = ocl_buffer_read,
    .event_wait = ocl_event_wait,
    .event_destroy = ocl_event_destroy,
    .event_wrap = ocl_event_wrap,
    .event_native = ocl_event_native,
    .prepare = ocl_prepare,
    .limits = ocl_limits,
    .tuning = ocl_tuning,
    .tune = ocl_tune,
    .block_rows = ocl_block_rows,
    .verdict_get = ocl_verdict_get,
    .verdict_set = ocl_verdict_set,
    .submit = ocl_submit,
};

#ifdef __GNUC__
__attribute__((visibility("default")))
#endif
const clt_backend_ops *
clattn_backend_module(const clt_host *host);

const clt_backend_ops *clattn_backend_module(const clt_host *host) {
  static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  if (!host || host->abi != CLT_BACKEND_ABI) return NULL;
  pthread_mutex_lock(&lock);
  if (ocl_host != host) ocl_host = host;
  pthread_mutex_unlock(&lock);
  return &ops;
}
