/* program.c - one program a .cl file and device, built at first use; what is
 * known of its kernels; the verdicts of the first-use guard. */
#include "ocl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The head of a build log says what is wrong; the rest only costs room. */
enum { LOG_BYTES = 2048, OPTIONS_BYTES = 1024 };

const char *ocl_kernel_file(int kernel) {
  return kernel == OCL_K_BIAS_ROWS ? "bias_rows"
                                   : ocl_host->kernels[kernel].file;
}

const char *ocl_kernel_entry(int kernel) {
  return kernel == OCL_K_BIAS_ROWS ? "bias_rows"
                                   : ocl_host->kernels[kernel].entry;
}

ocl_program *ocl_program_of(ocl_device *device, int kernel) {
  int first = 0;
  while (strcmp(ocl_kernel_file(first), ocl_kernel_file(kernel)) != 0) first++;
  return &device->programs[first];
}

void ocl_programs_init(ocl_device *device) {
  for (int i = 0; i < OCL_KERNEL_COUNT; i++)
    pthread_mutex_init(&device->programs[i].lock, NULL);
}

void ocl_programs_close(ocl_device *device) {
  for (int i = 0; i < OCL_KERNEL_COUNT; i++) {
    ocl_program *program = &device->programs[i];
    if (program->id && program->unsaved)
      ocl_cache_save(device, program, ocl_kernel_file(i));
    if (program->id) clReleaseProgram(program->id);
    ocl_free(program->failure);
    pthread_mutex_destroy(&program->lock);
  }
}

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* ---- building ------------------------------------------------------------ */

/* Never fast-math: masks, NaN and the kernels' exp depend on IEEE arithmetic.
 * $CLATTN_CL_OPTIONS is appended, to try a driver's own options. */
static clattn_status build_options(const ocl_device *device, const char *file,
                                   char options[OPTIONS_BYTES]) {
  const char *extra = getenv("CLATTN_CL_OPTIONS");
  const bool matmul = strcmp(file, ocl_kernel_file(CLT_K_MATMUL)) == 0;
  const int n =
      snprintf(options, OPTIONS_BYTES, "-cl-std=CL1.2 -D LANES=%d -D BM=%d%s%s",
               device->lanes, matmul ? device->matmul_rows : device->block_rows,
               extra ? " " : "", extra ? extra : "");
  if (n >= OPTIONS_BYTES)
    return ocl_error(CLATTN_INVALID_ARGUMENT,
                     "CLATTN_CL_OPTIONS: got %zu characters, want at most 900",
                     strlen(extra));
  return CLATTN_OK;
}

/* Sets the message of a failed clBuildProgram and keeps it if the source is to
 * blame, as it then fails every time. */
static clattn_status build_failed(ocl_device *device, ocl_program *program,
                                  cl_program id, const char *file,
                                  cl_int error) {
  if (error == CL_OUT_OF_HOST_MEMORY) return ocl_fail(error, "clBuildProgram");
  size_t bytes = 0;
  char *log = NULL;
  clGetProgramBuildInfo(id, device->id, CL_PROGRAM_BUILD_LOG, 0, NULL, &bytes);
  if (bytes > 0) log = ocl_host->alloc(bytes + 1);
  if (log && clGetProgramBuildInfo(id, device->id, CL_PROGRAM_BUILD_LOG, bytes,
                                   log, NULL) != CL_SUCCESS)
    log[0] = '\0';
  const size_t length = log ? strlen(log) : 0;
  char cut[64] = "";
  if (length > LOG_BYTES) {
    log[LOG_BYTES] = '\0';
    snprintf(cut, sizeof cut, "\n... and %zu bytes more", length - LOG_BYTES);
  }
  char text[LOG_BYTES + 512];
  snprintf(text, sizeof text,
           "%s.cl does not build for %s: %s (%d) from clBuildProgram\n%s%s",
           file, device->info.name, ocl_error_name(error), error,
           length > 0 ? log : "(the driver left no log)", cut);
  ocl_free(log);
  if (error == CL_BUILD_PROGRAM_FAILURE) {
    program->failure = ocl_host->alloc(strlen(text) + 1);
    if (program->failure) memcpy(program->failure, text, strlen(text) + 1);
  }
  return ocl_error(CLATTN_BUILD_FAILED, "%s", text);
}

/* Makes program->id from the disk or the source. */
static clattn_status build(ocl_device *device, ocl_program *program,
                           const char *file) {
  const double start = seconds();
  char options[OPTIONS_BYTES];
  cl_context context;
  char *source = NULL;
  size_t length = 0;
  cl_int error;
  clattn_status status = build_options(device, file, options);
  if (status == CLATTN_OK) status = ocl_context(device, &context);
  if (status == CLATTN_OK)
    status = ocl_source(device->state, file, &source, &length);
  if (status != CLATTN_OK) return status;
  ocl_cache_key(device, program, source, length, options);
  if (ocl_cache_load(device, program, file, context, options)) {
    ocl_log(device->state, "opencl: loaded %s.cl for %s from cache in %.0f ms",
            file, device->info.name, (seconds() - start) * 1e3);
    ocl_free(source);
    return CLATTN_OK;
  }
  const char *text = source;
  cl_program id =
      OCL_NEW(error, clCreateProgramWithSource, context, 1, &text, &length);
  ocl_free(source);
  if (error != CL_SUCCESS) return ocl_fail(error, "clCreateProgramWithSource");
  error = OCL(clBuildProgram, id, 1, &device->id, options, NULL, NULL);
  if (error != CL_SUCCESS) {
    status = build_failed(device, program, id, file, error);
    clReleaseProgram(id);
    return status;
  }
  program->id = id;
  ocl_log(device->state, "opencl: built %s.cl for %s in %.1f s", file,
          device->info.name, seconds() - start);
  /* PoCL compiles for the work-group at the first launch, and gives out the
   * binary of the first time it is asked ever after: it is asked once that
   * launch was made (see ocl_verdict_set and ocl_programs_close). */
  program->unsaved = device->pocl && !device->driver_caches;
  if (!device->pocl) ocl_cache_save(device, program, file);
  return CLATTN_OK;
}

/* Reads what the driver says of a kernel, and that it is the expected one. */
static clattn_status examine(ocl_device *device, ocl_program *program,
                             int kernel) {
  const char *file = ocl_kernel_file(kernel), *entry = ocl_kernel_entry(kernel);
  ocl_kernel *record = &device->kernels[kernel];
  cl_int error;
  cl_uint n_args = 0;
  cl_ulong local = 0;
  size_t group = 0;
  cl_kernel id = OCL_NEW(error, clCreateKernel, program->id, entry);
  if (error == CL_INVALID_KERNEL_NAME)
    return ocl_error(CLATTN_BUILD_FAILED, "%s.cl: has no kernel %s", file,
                     entry);
  if (error != CL_SUCCESS) return ocl_fail(error, "clCreateKernel");
  error = OCL(clGetKernelInfo, id, CL_KERNEL_NUM_ARGS, sizeof n_args, &n_args,
              NULL);
  if (error == CL_SUCCESS)
    error = OCL(clGetKernelWorkGroupInfo, id, device->id,
                CL_KERNEL_LOCAL_MEM_SIZE, sizeof local, &local, NULL);
  if (error == CL_SUCCESS)
    error = OCL(clGetKernelWorkGroupInfo, id, device->id,
                CL_KERNEL_WORK_GROUP_SIZE, sizeof group, &group, NULL);
  clReleaseKernel(id);
  if (error != CL_SUCCESS) return ocl_fail(error, "clGetKernelWorkGroupInfo");
  /* The struct, the buffers, the local memory. */
  const int want =
      kernel == OCL_K_BIAS_ROWS ? 3 : ocl_host->kernels[kernel].n_buffers + 2;
  if ((int)n_args != want)
    return ocl_error(CLATTN_BUILD_FAILED,
                     "%s.cl: kernel %s has %u parameters, want %d", file, entry,
                     (unsigned)n_args, want);
  record->local_static = (size_t)local;
  record->group_max = group;
  record->ready = true;
  return CLATTN_OK;
}

clattn_status ocl_kernel_prepare(ocl_device *device, int kernel) {
  ocl_program *program = ocl_program_of(device, kernel);
  clattn_status status = CLATTN_OK;
  pthread_mutex_lock(&program->lock);
  if (program->failure)
    status = ocl_error(CLATTN_BUILD_FAILED, "%s", program->failure);
  else if (!program->id)
    status = build(device, program, ocl_kernel_file(kernel));
  if (status == CLATTN_OK && !device->kernels[kernel].ready)
    status = examine(device, program, kernel);
  pthread_mutex_unlock(&program->lock);
  return status;
}

clattn_status ocl_prepare(void *device, clt_kernel kernel) {
  return kernel == CLT_K_MATMUL_BLAS ? ocl_blas_prepare(device)
                                     : ocl_kernel_prepare(device, (int)kernel);
}

clattn_status ocl_limits(void *handle, clt_kernel kernel, size_t *local_bytes,
                         size_t *group_size) {
  ocl_device *device = handle;
  const size_t local = (size_t)device->info.local_bytes;
  if (kernel == CLT_K_MATMUL_BLAS) { /* runs no kernel of ours with limits */
    *local_bytes = local;
    *group_size = device->info.max_work_group;
    return CLATTN_OK;
  }
  clattn_status status = ocl_kernel_prepare(device, (int)kernel);
  if (status != CLATTN_OK) return status;
  const ocl_kernel *record = &device->kernels[kernel];
  *local_bytes =
      local > record->local_static ? local - record->local_static : 0;
  *group_size = record->group_max;
  return CLATTN_OK;
}

int ocl_block_rows(void *device, clt_kernel kernel) {
  const ocl_device *self = device;
  return kernel == CLT_K_MATMUL ? self->matmul_rows : self->block_rows;
}

/* ---- verdicts ------------------------------------------------------------ */

clt_verdict ocl_verdict_get(void *handle, clt_kernel kernel, char *reason,
                            size_t n) {
  ocl_device *device = handle;
  ocl_program *program = ocl_program_of(device, (int)kernel);
  pthread_mutex_lock(&program->lock);
  const clt_verdict verdict = device->kernels[kernel].verdict;
  if (reason && n > 0)
    snprintf(reason, n, "%s", device->kernels[kernel].reason);
  pthread_mutex_unlock(&program->lock);
  return verdict;
}

void ocl_verdict_set(void *handle, clt_kernel kernel, clt_verdict verdict,
                     const char *reason) {
  ocl_device *device = handle;
  ocl_program *program = ocl_program_of(device, (int)kernel);
  ocl_kernel *record = &device->kernels[kernel];
  if (!reason) reason = "";
  pthread_mutex_lock(&program->lock);
  const bool news =
      record->verdict != verdict ||
      strncmp(record->reason, reason, sizeof record->reason - 1) != 0;
  record->verdict = verdict;
  snprintf(record->reason, sizeof record->reason, "%s", reason);
  if (program->id && (news || program->unsaved))
    ocl_cache_save(device, program, ocl_kernel_file((int)kernel));
  pthread_mutex_unlock(&program->lock);
}
