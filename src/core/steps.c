/* steps.c - collects the steps of one call and submits them. */
#include <string.h>

#include "core.h"

enum { ARGS_ALIGN = 16, SCRATCH_ALIGN = 256, WAIT_ROOM = 16 };

static size_t round_up(size_t bytes, size_t to) {
  return (bytes + to - 1) / to * to;
}

void clt_work_init(clt_work *work, clt_device *device) {
  /* The rooms stay as they are: clearing them costs more than a small call. */
  work->device = device;
  work->steps = work->step_room;
  work->n_steps = 0;
  work->cap_steps = CLT_WORK_STEPS;
  work->args = work->args_room;
  work->args_used = 0;
  work->args_cap = CLT_WORK_ARGS;
  work->scratch_bytes = 0;
  work->status = CLATTN_OK;
}

void clt_work_free(clt_work *work) {
  if (work->steps != work->step_room) clt_free(work->steps);
  if (work->args != work->args_room) clt_free(work->args);
  work->steps = work->step_room;
  work->args = work->args_room;
  work->n_steps = work->args_used = 0;
}

size_t clt_work_scratch(clt_work *work, size_t bytes) {
  if (work->status != CLATTN_OK) return 0;
  size_t offset = work->scratch_bytes; /* aligned already */
  if (bytes > SIZE_MAX - SCRATCH_ALIGN - offset) {
    work->status =
        clt_fail(CLATTN_OUT_OF_MEMORY,
                 "scratch: %zu bytes on top of %zu are more than this machine "
                 "can address",
                 bytes, offset);
    return 0;
  }
  work->scratch_bytes = offset + round_up(bytes, SCRATCH_ALIGN);
  return offset;
}

/* Moves `used` bytes to a new block of `bytes`, freeing the old one unless it
 * is `room`. */
static void *move(void *old, const void *room, size_t used, size_t bytes) {
  void *block = clt_alloc(bytes);
  if (!block) return NULL;
  memcpy(block, old, used);
  if (old != room) clt_free(old);
  return block;
}

/* Room for one more step and args_bytes of arguments. */
static clattn_status grow(clt_work *work, size_t args_bytes) {
  if (work->n_steps == work->cap_steps) {
    size_t cap = 2 * work->cap_steps;
    clt_step *steps = move(work->steps, work->step_room,
                           work->n_steps * sizeof *steps, cap * sizeof *steps);
    if (!steps) return clt_fail(CLATTN_OUT_OF_MEMORY, "no memory: steps");
    work->steps = steps;
    work->cap_steps = cap;
  }
  if (args_bytes > work->args_cap - work->args_used) {
    size_t cap = 2 * work->args_cap + args_bytes;
    char *args = move(work->args, work->args_room, work->args_used, cap);
    if (!args) return clt_fail(CLATTN_OUT_OF_MEMORY, "no memory: arguments");
    work->args = args;
    work->args_cap = cap;
  }
  return CLATTN_OK;
}

clt_step *clt_work_add(clt_work *work, clt_kernel kernel, const void *args,
                       size_t gx, size_t gy, size_t gz, size_t local_bytes) {
  const clt_kernel_desc *desc = &clt_kernels[kernel];
  size_t args_bytes = round_up(desc->args_size, ARGS_ALIGN);
  if (work->status != CLATTN_OK) return NULL;
  work->status = grow(work, args_bytes);
  if (work->status != CLATTN_OK) return NULL;

  memcpy(work->args + work->args_used, args, desc->args_size);
  work->args_used += args_bytes;
  clt_step *step = &work->steps[work->n_steps++];
  memset(step, 0, sizeof *step);
  step->kernel = kernel;
  step->n_buffers = desc->n_buffers;
  step->groups[0] = gx;
  step->groups[1] = gy;
  step->groups[2] = gz;
  step->group_size[0] = step->group_size[1] = 1;
  step->local_bytes = local_bytes < 16 ? 16 : local_bytes;
  return step;
}

clattn_status clt_check_enqueue(const clattn_queue *queue,
                                clattn_event *const *wait, size_t n_wait) {
  CLT_REQUIRE(queue != NULL, "queue: got NULL, want a queue");
  CLT_REQUIRE(wait != NULL || n_wait == 0, "wait: got NULL, want %zu events",
              n_wait);
  for (size_t i = 0; i < n_wait; i++)
    CLT_REQUIRE(wait[i] != NULL, "wait[%zu]: got NULL, want an event", i);
  return CLATTN_OK;
}

/* Events that the queue's backend can order after by itself: those of its own
 * device. Native contexts, one a device, do not know each other's events. */
static bool is_native(const clattn_queue *queue, const clattn_event *event) {
  return event->device == queue->device;
}

/* Waits for the foreign events and puts the native ones into native. */
static clattn_status sort_events(const clattn_queue *queue,
                                 clattn_event *const *wait, size_t n_wait,
                                 void **native, size_t *n_native) {
  *n_native = 0;
  for (size_t i = 0; i < n_wait; i++) {
    if (is_native(queue, wait[i]))
      native[(*n_native)++] = wait[i]->impl;
    else
      CLT_TRY(clattn_event_wait(wait[i]));
  }
  return CLATTN_OK;
}

static clattn_status check_scratch(const clt_work *work,
                                   const clattn_buffer *scratch) {
  if (!scratch) return CLATTN_OK;
  CLT_REQUIRE(scratch->device->context == work->device->context,
              "scratch: belongs to another context than the queue");
  CLT_REQUIRE(scratch->device == work->device,
              "scratch: is on device %d, want %d, the queue's",
              scratch->device->index, work->device->index);
  CLT_REQUIRE(scratch->bytes >= work->scratch_bytes,
              "scratch: has %zu bytes, want at least %zu", scratch->bytes,
              work->scratch_bytes);
  return CLATTN_OK;
}

clattn_status clt_work_submit(clt_work *work, clattn_queue *queue,
                              clattn_buffer *scratch, clattn_event *const *wait,
                              size_t n_wait, clattn_event **event) {
  if (event) *event = NULL;
  if (work->status != CLATTN_OK) return work->status;
  CLT_TRY(clt_check_enqueue(queue, wait, n_wait));
  CLT_REQUIRE(queue->device->context == work->device->context,
              "queue: belongs to another context");
  CLT_REQUIRE(queue->device == work->device, "queue: is on device %d, want %d",
              queue->device->index, work->device->index);
  CLT_TRY(check_scratch(work, scratch));

  /* Made first, so that nothing can fail once the work is enqueued. */
  clattn_status status = CLATTN_OUT_OF_MEMORY;
  void *room[WAIT_ROOM];
  void **native = room;
  clattn_event *made = NULL;
  size_t n_native;
  if (event && !(made = clt_alloc(sizeof *made))) {
    clt_fail(status, "no memory: event");
    goto done;
  }
  if (n_wait > WAIT_ROOM && (n_wait > SIZE_MAX / sizeof *native ||
                             !(native = clt_alloc(n_wait * sizeof *native)))) {
    clt_fail(status, "no memory: wait list of %zu events", n_wait);
    goto done;
  }
  status = sort_events(queue, wait, n_wait, native, &n_native);
  if (status != CLATTN_OK) goto done;

  const char *args = work->args;
  for (size_t i = 0; i < work->n_steps; i++) {
    work->steps[i].args = args;
    args += round_up(clt_kernels[work->steps[i].kernel].args_size, ARGS_ALIGN);
  }
  status = queue->device->ops->submit(
      queue->impl, work->steps, work->n_steps, scratch ? scratch->mem : NULL,
      work->scratch_bytes, native, n_native, made ? &made->impl : NULL);
  if (status != CLATTN_OK || !made) goto done;
  atomic_init(&made->refs, 1);
  made->device = queue->device;
  clt_context_retain(queue->device->context);
  *event = made;
  made = NULL;

done:
  if (native != room) clt_free(native);
  clt_free(made);
  return status;
}
