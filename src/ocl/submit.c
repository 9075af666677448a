/* submit.c - runs a list of steps.
 *
 * All that can be refused is refused before anything is enqueued: limits are
 * checked and every step gets a cl_kernel of its own with its arguments set, so
 * that no other thread comes between. Steps are ordered by the queue, or on an
 * out-of-order queue by a chain of events. */
#include "ocl.h"

#include <string.h>

enum { FEW_STEPS = 16 }; /* more take an allocation */

/* ---- what each step needs ------------------------------------------------ */

static clattn_status check_step(ocl_device *device, const clt_step *step) {
  if (step->kernel == CLT_K_MATMUL_BLAS) return ocl_blas_check(device, step);
  const clattn_device_info *info = &device->info;
  const ocl_kernel *kernel = &device->kernels[step->kernel];
  const char *name = ocl_kernel_entry((int)step->kernel);
  const size_t local = (size_t)info->local_bytes;
  if (step->local_bytes > local ||
      kernel->local_static > local - step->local_bytes)
    return ocl_error(CLATTN_UNSUPPORTED,
                     "%s: needs %zu + %zu bytes of local memory, %s has %zu",
                     name, step->local_bytes, kernel->local_static, info->name,
                     local);
  const size_t x = step->group_size[0], y = step->group_size[1];
  if (x == 0 || y == 0 || x > kernel->group_max || y > kernel->group_max / x)
    return ocl_error(CLATTN_UNSUPPORTED,
                     "%s: a group has %zu x %zu work-items, %s allows 1..%zu",
                     name, x, y, info->name, kernel->group_max);
  return CLATTN_OK;
}

static cl_mem buffer_of(const clt_step *step, int i, cl_mem scratch) {
  if (i >= step->n_buffers) return NULL;
  return step->buffers[i].scratch ? scratch : step->buffers[i].mem;
}

static bool has_bias(const clt_step *step) {
  return step->n_buffers > 3 &&
         (step->buffers[3].mem || step->buffers[3].scratch);
}

/* A kernel with its arguments; NULL for a BLAS step without bias. */
static clattn_status make_kernel(ocl_device *device, const clt_step *step,
                                 cl_mem scratch, cl_kernel *out) {
  const bool blas = step->kernel == CLT_K_MATMUL_BLAS;
  const clt_kernel_desc *desc = &ocl_host->kernels[step->kernel];
  cl_int error;
  *out = NULL;
  if (blas && !has_bias(step)) return CLATTN_OK;
  const int id = blas ? OCL_K_BIAS_ROWS : (int)step->kernel;
  const char *entry = ocl_kernel_entry(id);
  cl_kernel kernel =
      OCL_NEW(error, clCreateKernel, ocl_program_of(device, id)->id, entry);
  if (error != CL_SUCCESS) return ocl_fail(error, "clCreateKernel");
  cl_uint at = 0;
  error = OCL(clSetKernelArg, kernel, at++, desc->args_size, step->args);
  for (int i = 0; i < desc->n_buffers && error == CL_SUCCESS; i++) {
    if (blas && i < 2) continue; /* bias_rows has C and bias only */
    const cl_mem mem = buffer_of(step, i, scratch);
    error = OCL(clSetKernelArg, kernel, at++, sizeof mem, &mem);
  }
  if (!blas && error == CL_SUCCESS)
    error = OCL(clSetKernelArg, kernel, at++, step->local_bytes, NULL);
  if (error != CL_SUCCESS) {
    clReleaseKernel(kernel);
    return ocl_error(error == CL_OUT_OF_HOST_MEMORY ? CLATTN_OUT_OF_MEMORY
                                                    : CLATTN_DEVICE_ERROR,
                     "%s (%d) from clSetKernelArg, parameter %u of %s",
                     ocl_error_name(error), error, (unsigned)at - 1, entry);
  }
  *out = kernel;
  return CLATTN_OK;
}

/* A reference to scratch of at least `bytes`, to be released after enqueuing:
 * the driver keeps it alive for the work. Only a queue that is ours and in
 * order can keep one for all its calls. */
static clattn_status take_scratch(ocl_queue *queue, size_t bytes, cl_mem *out) {
  void *made = NULL;
  const bool keep = queue->own && !queue->out_of_order;
  *out = NULL;
  if (!keep || queue->scratch_bytes < bytes) {
    clattn_status status = ocl_buffer_create(queue->device, bytes, &made);
    if (status != CLATTN_OK) return status;
    if (!keep) {
      *out = made;
      return CLATTN_OK;
    }
    if (queue->scratch) clReleaseMemObject(queue->scratch);
    queue->scratch = made;
    queue->scratch_bytes = bytes;
  }
  clRetainMemObject(queue->scratch);
  *out = queue->scratch;
  return CLATTN_OK;
}

/* ---- enqueuing ----------------------------------------------------------- */

typedef struct chain {
  ocl_queue *queue;
  const cl_event *wait; /* what the next command waits for */
  cl_uint n_wait;
  cl_event last;    /* the event of the last step, if it has one */
  bool enqueued;    /* the queue holds some of it */
  const char *call; /* that failed */
} chain;

/* The event of the step just enqueued becomes what the next one waits for. */
static void advance(chain *c, cl_event event) {
  if (c->last) clReleaseEvent(c->last);
  c->last = event;
  c->wait = c->queue->out_of_order && event ? &c->last : NULL;
  c->n_wait = c->wait ? 1 : 0;
  c->enqueued = true;
}

static cl_int enqueue_kernel(chain *c, const clt_step *step, cl_kernel kernel,
                             bool want_event) {
  const size_t local[3] = {step->group_size[0], step->group_size[1], 1};
  const size_t global[3] = {step->groups[0] * local[0],
                            step->groups[1] * local[1], step->groups[2]};
  cl_event event = NULL;
  c->call = "clEnqueueNDRangeKernel";
  const cl_int error =
      OCL(clEnqueueNDRangeKernel, c->queue->id, kernel, 3, NULL, global, local,
          c->n_wait, c->wait, want_event ? &event : NULL);
  if (error == CL_SUCCESS) advance(c, event);
  return error;
}

/* CLBlast takes no wait list and tells of its last kernel only: barriers before
 * and after say the same. */
static cl_int enqueue_blas(chain *c, const clt_step *step, cl_mem scratch,
                           cl_kernel bias_kernel, bool want_event) {
  cl_mem buffers[4];
  cl_event event = NULL;
  cl_int error;
  for (int i = 0; i < 4; i++) buffers[i] = buffer_of(step, i, scratch);
  if (c->n_wait > 0) {
    c->call = "clEnqueueBarrierWithWaitList";
    error = OCL(clEnqueueBarrierWithWaitList, c->queue->id, c->n_wait, c->wait,
                NULL);
    if (error != CL_SUCCESS) return error;
    c->enqueued = true;
  }
  error = ocl_blas_enqueue(c->queue, step, buffers, bias_kernel, &c->enqueued,
                           &c->call);
  if (error != CL_SUCCESS) return error;
  if (want_event) {
    c->call = "clEnqueueBarrierWithWaitList";
    error = OCL(clEnqueueBarrierWithWaitList, c->queue->id, 0, NULL, &event);
  }
  if (error == CL_SUCCESS) advance(c, event);
  return error;
}

/* Only a part is in the queue: waits for it, so that buffers are free when the
 * failure is reported - unless it may wait for something that this very thread
 * is to do, as completing a user event. */
static void drain(chain *c, const cl_event *wait, cl_uint n_wait) {
  bool blocked = false;
  for (cl_uint i = 0; i < n_wait; i++) {
    cl_int state = CL_QUEUED;
    clGetEventInfo(wait[i], CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof state,
                   &state, NULL);
    blocked = blocked || state > CL_COMPLETE;
  }
  if (blocked)
    clFlush(c->queue->id);
  else
    clFinish(c->queue->id);
}

static clattn_status enqueue(ocl_queue *queue, const clt_step *steps,
                             size_t n_steps, const cl_kernel *kernels,
                             cl_mem scratch, const cl_event *wait,
                             cl_uint n_wait, void **event) {
  chain c = {
      .queue = queue, .wait = n_wait > 0 ? wait : NULL, .n_wait = n_wait};
  cl_int error = CL_SUCCESS;
  if (n_steps == 0) {
    cl_event marker = NULL;
    c.call = "clEnqueueMarkerWithWaitList";
    error =
        OCL(clEnqueueMarkerWithWaitList, queue->id, c.n_wait, c.wait, &marker);
    if (error == CL_SUCCESS) advance(&c, marker);
  }
  for (size_t i = 0; i < n_steps && error == CL_SUCCESS; i++) {
    const bool want_event =
        i + 1 < n_steps ? queue->out_of_order : event != NULL;
    error = steps[i].kernel == CLT_K_MATMUL_BLAS
                ? enqueue_blas(&c, &steps[i], scratch, kernels[i], want_event)
                : enqueue_kernel(&c, &steps[i], kernels[i], want_event);
  }
  if (error == CL_SUCCESS) {
    c.call = "clFlush";
    error = OCL(clFlush, queue->id);
  }
  if (error == CL_SUCCESS) {
    if (event)
      *event = c.last;
    else if (c.last)
      clReleaseEvent(c.last);
    return CLATTN_OK;
  }
  if (c.enqueued) drain(&c, wait, n_wait);
  if (c.last) clReleaseEvent(c.last);
  if (!c.enqueued) return ocl_fail(error, c.call);
  return ocl_error(CLATTN_DEVICE_ERROR, "%s (%d) from %s",
                   ocl_error_name(error), error, c.call);
}

clattn_status ocl_submit(void *handle, const clt_step *steps, size_t n_steps,
                         void *scratch, size_t scratch_bytes, void *const *wait,
                         size_t n_wait, void **event) {
  ocl_queue *queue = handle;
  cl_kernel few[FEW_STEPS] = {NULL}, *kernels = few;
  cl_mem memory = scratch;
  clattn_status status = CLATTN_OK;
  if (event) *event = NULL;
  for (size_t i = 0; i < n_steps; i++) {
    status = check_step(queue->device, &steps[i]);
    if (status != CLATTN_OK) return status;
  }
  if (n_steps > FEW_STEPS) {
    kernels = ocl_alloc(n_steps * sizeof(cl_kernel));
    if (!kernels) return CLATTN_OUT_OF_MEMORY;
  }
  if (!scratch && scratch_bytes > 0)
    status = take_scratch(queue, scratch_bytes, &memory);
  for (size_t i = 0; i < n_steps && status == CLATTN_OK; i++)
    status = make_kernel(queue->device, &steps[i], memory, &kernels[i]);
  if (status == CLATTN_OK) /* a cl_event is what our events are */
    status =
        enqueue(queue, steps, n_steps, kernels, memory,
                (const cl_event *)(const void *)wait, (cl_uint)n_wait, event);
  for (size_t i = 0; i < n_steps; i++)
    if (kernels[i]) clReleaseKernel(kernels[i]);
  if (memory && !scratch) clReleaseMemObject(memory);
  if (kernels != few) ocl_free(kernels);
  return status;
}
