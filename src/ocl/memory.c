/* memory.c - buffers: plain cl_mem objects. */
#include "ocl.h"

clattn_status ocl_buffer_create(void *handle, size_t bytes, void **mem) {
  ocl_device *device = handle;
  cl_context context;
  cl_int error;
  *mem = NULL;
  /* Drivers answer this with CL_INVALID_BUFFER_SIZE, or not at all. */
  if (bytes > device->info.max_alloc_bytes)
    return ocl_error(CLATTN_OUT_OF_MEMORY,
                     "buffer of %zu bytes: %s allows at most %llu "
                     "(CL_DEVICE_MAX_MEM_ALLOC_SIZE)",
                     bytes, device->info.name,
                     (unsigned long long)device->info.max_alloc_bytes);
  clattn_status status = ocl_context(device, &context);
  if (status != CLATTN_OK) return status;
  cl_mem made =
      OCL_NEW(error, clCreateBuffer, context, CL_MEM_READ_WRITE, bytes, NULL);
  if (error == CL_SUCCESS) {
    *mem = made;
    return CLATTN_OK;
  }
  return ocl_error(error == CL_OUT_OF_RESOURCES ||
                           error == CL_INVALID_BUFFER_SIZE ||
                           error == CL_OUT_OF_HOST_MEMORY ||
                           error == CL_MEM_OBJECT_ALLOCATION_FAILURE
                       ? CLATTN_OUT_OF_MEMORY
                       : CLATTN_DEVICE_ERROR,
                   "buffer of %zu bytes on %s: %s (%d) from clCreateBuffer",
                   bytes, device->info.name, ocl_error_name(error), error);
}

clattn_status ocl_buffer_wrap(void *handle, void *native, size_t *bytes,
                              void **out) {
  ocl_device *device = handle;
  const cl_mem mem = native;
  cl_context context, theirs = NULL;
  cl_mem_object_type type = 0;
  size_t size = 0;
  *out = NULL;
  if (!mem)
    return ocl_error(CLATTN_INVALID_ARGUMENT,
                     "native: got NULL, want a cl_mem");
  clattn_status status = ocl_context(device, &context);
  if (status != CLATTN_OK) return status;
  cl_int error =
      OCL(clGetMemObjectInfo, mem, CL_MEM_TYPE, sizeof type, &type, NULL);
  if (error == CL_SUCCESS)
    error = OCL(clGetMemObjectInfo, mem, CL_MEM_CONTEXT, sizeof theirs, &theirs,
                NULL);
  if (error == CL_SUCCESS)
    error = OCL(clGetMemObjectInfo, mem, CL_MEM_SIZE, sizeof size, &size, NULL);
  if (error == CL_INVALID_MEM_OBJECT)
    return ocl_error(CLATTN_INVALID_ARGUMENT,
                     "native: the driver does not know this cl_mem");
  if (error != CL_SUCCESS) return ocl_fail(error, "clGetMemObjectInfo");
  if (type != CL_MEM_OBJECT_BUFFER)
    return ocl_error(CLATTN_INVALID_ARGUMENT,
                     "native: got a cl_mem of type 0x%x, want a buffer (0x%x)",
                     (unsigned)type, CL_MEM_OBJECT_BUFFER);
  if (theirs != context)
    return ocl_error(CLATTN_INVALID_ARGUMENT,
                     "native: got a cl_mem of another cl_context, want one of "
                     "the device's");
  error = OCL(clRetainMemObject, mem);
  if (error != CL_SUCCESS) return ocl_fail(error, "clRetainMemObject");
  *bytes = size;
  *out = mem;
  return CLATTN_OK;
}

void ocl_buffer_destroy(void *mem) {
  if (mem) clReleaseMemObject(mem);
}
