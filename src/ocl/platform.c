/* platform.c - platforms, devices and their contexts. */
#include "ocl.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* cl_ext.h's CL_PLATFORM_NOT_FOUND_KHR: the loader found no driver. */
#define NO_PLATFORM (-1001)

void ocl_log(const ocl_state *state, const char *format, ...) {
  if (!state->settings->log) return;
  char line[1024];
  va_list list;
  va_start(list, format);
  vsnprintf(line, sizeof line, format, list);
  va_end(list);
  state->settings->log(state->settings->log_user, line);
}

/* ---- what a device is ---------------------------------------------------- */

/* Both do nothing after an error. */
static void get(cl_device_id id, cl_device_info what, size_t bytes, void *value,
                cl_int *error) {
  if (*error == CL_SUCCESS)
    *error = OCL(clGetDeviceInfo, id, what, bytes, value, NULL);
}

/* Drivers refuse a buffer that is too short, so texts are cut here. */
static void cut(char out[128], const char *text) {
  const size_t n = strnlen(text, 127);
  memcpy(out, text, n);
  out[n] = '\0';
}

static void get_text(cl_device_id id, cl_device_info what, char out[128],
                     cl_int *error) {
  char text[1024] = "";
  get(id, what, sizeof text, text, error);
  cut(out, text);
}

static bool has_extension(cl_device_id id, const char *name, cl_int *error) {
  size_t bytes = 0;
  if (*error == CL_SUCCESS)
    *error = OCL(clGetDeviceInfo, id, CL_DEVICE_EXTENSIONS, 0, NULL, &bytes);
  if (*error != CL_SUCCESS) return false;
  char *text = ocl_host->alloc(bytes + 1);
  if (!text) {
    *error = CL_OUT_OF_HOST_MEMORY;
    return false;
  }
  get(id, CL_DEVICE_EXTENSIONS, bytes, text, error);
  const bool found = *error == CL_SUCCESS && strstr(text, name);
  ocl_free(text);
  return found;
}

/* Fills in everything but state, context and locks. *why_not is set if the
 * device works but cannot serve. */
static cl_int describe(ocl_device *device, const char **why_not) {
  const cl_device_id id = device->id;
  clattn_device_info *info = &device->info;
  cl_int error = CL_SUCCESS;
  cl_bool available = CL_FALSE, compiler = CL_FALSE;
  cl_device_type type = 0;
  cl_ulong memory = 0, max_alloc = 0, local = 0;
  cl_uint units = 0, width = 0;
  size_t group = 0;
  cl_command_queue_properties queues = 0;

  info->struct_size = sizeof *info;
  info->backend = CLATTN_OPENCL;
  get_text(id, CL_DEVICE_NAME, info->name, &error);
  get_text(id, CL_DEVICE_VENDOR, info->vendor, &error);
  get_text(id, CL_DRIVER_VERSION, info->driver, &error);
  get_text(id, CL_DEVICE_VERSION, info->version, &error);
  get(id, CL_DEVICE_PLATFORM, sizeof device->platform, &device->platform,
      &error);
  get(id, CL_DEVICE_AVAILABLE, sizeof available, &available, &error);
  get(id, CL_DEVICE_COMPILER_AVAILABLE, sizeof compiler, &compiler, &error);
  get(id, CL_DEVICE_TYPE, sizeof type, &type, &error);
  get(id, CL_DEVICE_GLOBAL_MEM_SIZE, sizeof memory, &memory, &error);
  get(id, CL_DEVICE_MAX_MEM_ALLOC_SIZE, sizeof max_alloc, &max_alloc, &error);
  get(id, CL_DEVICE_LOCAL_MEM_SIZE, sizeof local, &local, &error);
  get(id, CL_DEVICE_MAX_COMPUTE_UNITS, sizeof units, &units, &error);
  get(id, CL_DEVICE_NATIVE_VECTOR_WIDTH_FLOAT, sizeof width, &width, &error);
  get(id, CL_DEVICE_MAX_WORK_GROUP_SIZE, sizeof group, &group, &error);
  get(id, CL_DEVICE_QUEUE_PROPERTIES, sizeof queues, &queues, &error);
  info->fp16 = has_extension(id, "cl_khr_fp16", &error);
  char platform[1024] = "";
  if (error == CL_SUCCESS)
    error = OCL(clGetPlatformInfo, device->platform, CL_PLATFORM_NAME,
                sizeof platform, platform, NULL);
  if (error != CL_SUCCESS) return error;
  cut(info->platform, platform);

  info->type = type & CL_DEVICE_TYPE_CPU   ? CLATTN_DEVICE_CPU
               : type & CL_DEVICE_TYPE_GPU ? CLATTN_DEVICE_GPU
                                           : CLATTN_DEVICE_OTHER;
  info->memory_bytes = memory;
  info->max_alloc_bytes = max_alloc;
  info->local_bytes = local;
  info->compute_units = units;
  info->max_work_group = group > UINT32_MAX ? UINT32_MAX : (uint32_t)group;
  info->vector_width = width;
  info->out_of_order = queues & CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE;

  device->pocl = strstr(info->version, "PoCL") || strstr(info->version, "pocl");
  /* PoCL gives out a binary only after compiling each kernel once more, for any
   * size of work-group: seconds, to save the 30 ms a program by which our file
   * is faster than PoCL's own cache (measured with 3.1). So that one does it,
   * unless it was switched off. */
  const char *own = getenv("POCL_KERNEL_CACHE");
  device->driver_caches = device->pocl && !(own && strcmp(own, "0") == 0);

  int major = 0, minor = 0; /* "OpenCL 1.2 ..." */
  if (sscanf(info->version, "OpenCL %d.%d", &major, &minor) != 2 ||
      major * 10 + minor < 12)
    *why_not = "is older than OpenCL 1.2";
  else if (!available)
    *why_not = "is not available (CL_DEVICE_AVAILABLE)";
  else if (!compiler)
    *why_not = "has no compiler (CL_DEVICE_COMPILER_AVAILABLE)";
  return CL_SUCCESS;
}

/* ---- finding devices ----------------------------------------------------- */

static ocl_state *state_new(const clt_settings *settings, cl_uint room) {
  ocl_state *state = ocl_alloc(sizeof *state);
  if (!state) return NULL;
  state->settings = settings;
  state->devices = ocl_alloc(room * sizeof *state->devices);
  if (!state->devices) {
    ocl_free(state);
    return NULL;
  }
  ocl_blas_init(&state->blas);
  struct stat entry;
  if (settings->kernel_dir[0] != '\0' &&
      (stat(settings->kernel_dir, &entry) != 0 || !S_ISDIR(entry.st_mode)))
    ocl_log(state, "opencl: %s is no directory: embedded kernels are used",
            settings->kernel_dir);
  return state;
}

/* The device at state->devices[n_devices] is in order: it counts. */
static void accept_device(ocl_state *state, cl_context context) {
  ocl_device *device = &state->devices[state->n_devices++];
  device->state = state;
  device->context = context;
  pthread_mutex_init(&device->lock, NULL);
  ocl_programs_init(device);
}

/* All ids of all platforms, *n of them; ocl_free it. A platform that fails is
 * left out, so that one broken driver does not hide the others. */
static clattn_status list_ids(const clt_settings *settings, cl_device_id **ids,
                              cl_uint *n) {
  cl_uint n_platforms = 0;
  *ids = NULL;
  *n = 0;
  cl_int error = OCL(clGetPlatformIDs, 0, NULL, &n_platforms);
  if (error == NO_PLATFORM || (error == CL_SUCCESS && n_platforms == 0))
    return CLATTN_OK;
  if (error != CL_SUCCESS) return ocl_fail(error, "clGetPlatformIDs");

  clattn_status status = CLATTN_OUT_OF_MEMORY;
  cl_platform_id *platforms = ocl_alloc(n_platforms * sizeof *platforms);
  cl_uint *counts = ocl_alloc(n_platforms * sizeof *counts);
  if (!platforms || !counts) goto end;
  error = OCL(clGetPlatformIDs, n_platforms, platforms, NULL);
  if (error != CL_SUCCESS) {
    status = ocl_fail(error, "clGetPlatformIDs");
    goto end;
  }
  cl_uint room = 0;
  for (cl_uint i = 0; i < n_platforms; i++) {
    error = OCL(clGetDeviceIDs, platforms[i], CL_DEVICE_TYPE_ALL, 0, NULL,
                &counts[i]);
    if (error != CL_SUCCESS) {
      counts[i] = 0;
      if (error != CL_DEVICE_NOT_FOUND && settings->log) {
        ocl_state log_only = {.settings = settings};
        ocl_log(&log_only, "opencl: platform %u left out: %s (%d)", (unsigned)i,
                ocl_error_name(error), error);
      }
    }
    room += counts[i];
  }
  *ids = ocl_alloc((room ? room : 1) * sizeof **ids);
  if (!*ids) goto end;
  for (cl_uint i = 0; i < n_platforms; i++)
    if (counts[i] > 0 && OCL(clGetDeviceIDs, platforms[i], CL_DEVICE_TYPE_ALL,
                             counts[i], *ids + *n, NULL) == CL_SUCCESS)
      *n += counts[i];
  status = CLATTN_OK;
end:
  ocl_free(counts);
  ocl_free(platforms);
  return status;
}

clattn_status ocl_open(const clt_settings *settings, void **out,
                       int *n_devices) {
  cl_device_id *ids = NULL;
  cl_uint n = 0;
  *out = NULL;
  *n_devices = 0;
  clattn_status status = list_ids(settings, &ids, &n);
  if (status != CLATTN_OK) return status;
  ocl_state *state = state_new(settings, n > 0 ? n : 1);
  if (!state) {
    ocl_free(ids);
    return CLATTN_OUT_OF_MEMORY;
  }
  for (cl_uint i = 0; i < n; i++) {
    ocl_device *device = &state->devices[state->n_devices];
    const char *why_not = NULL;
    memset(device, 0, sizeof *device);
    device->id = ids[i];
    const cl_int error = describe(device, &why_not);
    if (error != CL_SUCCESS)
      ocl_log(state, "opencl: device left out: %s (%d) from clGetDeviceInfo",
              ocl_error_name(error), error);
    else if (why_not)
      ocl_log(state, "opencl: %s left out: it %s", device->info.name, why_not);
    else
      accept_device(state, NULL);
  }
  ocl_free(ids);
  *out = state;
  *n_devices = state->n_devices;
  return CLATTN_OK;
}

/* Fails unless id is one of the context's devices. */
static clattn_status check_member(cl_context context, cl_device_id id) {
  size_t bytes = 0;
  cl_int error =
      OCL(clGetContextInfo, context, CL_CONTEXT_DEVICES, 0, NULL, &bytes);
  if (error == CL_INVALID_CONTEXT)
    return ocl_error(CLATTN_INVALID_ARGUMENT,
                     "context: the driver does not know this cl_context");
  if (error != CL_SUCCESS) return ocl_fail(error, "clGetContextInfo");
  cl_device_id *members = ocl_alloc(bytes);
  if (!members) return CLATTN_OUT_OF_MEMORY;
  error =
      OCL(clGetContextInfo, context, CL_CONTEXT_DEVICES, bytes, members, NULL);
  bool member = false;
  for (size_t i = 0; error == CL_SUCCESS && i < bytes / sizeof *members; i++)
    member = member || members[i] == id;
  ocl_free(members);
  if (error != CL_SUCCESS) return ocl_fail(error, "clGetContextInfo");
  if (!member)
    return ocl_error(CLATTN_INVALID_ARGUMENT,
                     "device: got one that is not in the cl_context");
  return CLATTN_OK;
}

clattn_status ocl_open_native(const clt_settings *settings, void *native,
                              void *native_device, void **out) {
  const cl_context context = native;
  const char *why_not = NULL;
  *out = NULL;
  if (!context || !native_device)
    return ocl_error(CLATTN_INVALID_ARGUMENT,
                     "%s: got NULL, want an OpenCL handle",
                     context ? "device" : "context");
  clattn_status status = check_member(context, native_device);
  if (status != CLATTN_OK) return status;
  ocl_state *state = state_new(settings, 1);
  if (!state) return CLATTN_OUT_OF_MEMORY;
  ocl_device *device = &state->devices[0];
  device->id = native_device;
  cl_int error = describe(device, &why_not);
  if (error == CL_SUCCESS && why_not) {
    status = ocl_error(CLATTN_UNSUPPORTED, "device: %s %s", device->info.name,
                       why_not);
    goto fail;
  }
  if (error == CL_SUCCESS) {
    error = OCL(clRetainContext, context);
    if (error != CL_SUCCESS) {
      status = ocl_fail(error, "clRetainContext");
      goto fail;
    }
    /* Sub-devices are counted, others ignore it. */
    clRetainDevice(device->id);
    accept_device(state, context);
    *out = state;
    return CLATTN_OK;
  }
  status = ocl_fail(error, "clGetDeviceInfo");
fail:
  ocl_close(state);
  return status;
}

void ocl_close(void *handle) {
  ocl_state *state = handle;
  if (!state) return;
  for (int i = 0; i < state->n_devices; i++)
    ocl_programs_close(&state->devices[i]);
  ocl_blas_close(&state->blas);
  for (int i = 0; i < state->n_devices; i++) {
    ocl_device *device = &state->devices[i];
    if (device->context) clReleaseContext(device->context);
    clReleaseDevice(device->id);
    pthread_mutex_destroy(&device->lock);
  }
  ocl_free(state->devices);
  ocl_free(state);
}

void *ocl_device_at(void *state, int i) {
  return &((ocl_state *)state)->devices[i];
}

void ocl_device_info(void *device, clattn_device_info *info) {
  *info = ((ocl_device *)device)->info;
}

/* Defaults by what was measured (bench/RESULTS.md): on CPU-type devices CLBlast
 * is an order of magnitude behind the library's own kernel. */
void ocl_tuning(void *handle, clt_tuning *tuning) {
  const clattn_device_info *info = &((const ocl_device *)handle)->info;
  const bool gpu = info->type == CLATTN_DEVICE_GPU;
  const bool roomy = info->local_bytes >= 128 * 1024; /* see cl/shape.h */
  *tuning = (clt_tuning){{
      [CLT_TUNE_FAMILY] = {.value = gpu,
                           .n_options = 2,
                           .option = {{0, "kernels for CPUs"},
                                      {1, "kernels for GPUs"}}},
      [CLT_TUNE_LANES] = {.value = info->type != CLATTN_DEVICE_CPU ? 4
                                   : info->vector_width >= 16      ? 16
                                   : info->vector_width >= 8       ? 8
                                                                   : 4,
                          .n_options = 3,
                          .option = {{16, "vectors of 16"},
                                     {8, "vectors of 8"},
                                     {4, "vectors of 4"}}},
      /* Where blocks of 64 do not fit, they are no option: a plan must not fail
       * for what was tuned. */
      [CLT_TUNE_BLOCK] = {.value = roomy ? 64 : 16,
                          .n_options = roomy ? 2 : 1,
                          .option = {{16, "blocks of 16 queries"},
                                     {64, "blocks of 64 queries"}}},
      [CLT_TUNE_DENSE] = {.value = gpu,
                          .n_options = 2,
                          .option = {{0, "own dense products"},
                                     {1, "dense products by CLBlast"}}},
  }};
}

void ocl_tune(void *handle, const clt_tuning *tuning) {
  ocl_device *device = handle;
  device->lanes = tuning->of[CLT_TUNE_LANES].value;
  device->block_rows = tuning->of[CLT_TUNE_BLOCK].value;
  /* CLT_MATMUL_LOCAL of 64 is 448 KiB; Intel's driver for CPUs offers 256, and
   * PoCL what a core's cache holds. */
  device->matmul_rows =
      device->info.local_bytes < 448 * 1024 ? 16 : device->block_rows;
}

clattn_status ocl_context(ocl_device *device, cl_context *context) {
  cl_int error = CL_SUCCESS;
  pthread_mutex_lock(&device->lock);
  if (!device->context) {
    const cl_context_properties properties[] = {
        CL_CONTEXT_PLATFORM, (cl_context_properties)device->platform, 0};
    device->context =
        OCL_NEW(error, clCreateContext, properties, 1, &device->id, NULL, NULL);
    if (error != CL_SUCCESS) device->context = NULL;
  }
  *context = device->context;
  pthread_mutex_unlock(&device->lock);
  return error == CL_SUCCESS ? CLATTN_OK : ocl_fail(error, "clCreateContext");
}
