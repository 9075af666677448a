/* ocl.h - the OpenCL backend from the inside.
 *
 * The backend is a shared object of its own that the core loads at run time, so
 * that programs without OpenCL start without it. It needs no symbol of the
 * core: what it wants from there comes through clt_host.
 *
 *   module.c      the table of functions, the entry
 *   platform.c    platforms, devices, contexts
 *   error.c       names of driver errors
 *   source.c      kernel text: embedded or overridden, includes resolved
 *   program.c     building, kernels, verdicts
 *   disk_cache.c  compiled programs between runs
 *   memory.c      buffers
 *   queue.c       queues, copies, events
 *   submit.c      running steps
 *   blas.c        dense products by CLBlast
 *   sha256.c      the hash of the disk cache
 *
 * Backend handles: state is ocl_state, device ocl_device, queue ocl_queue; mem
 * and event are the plain cl_mem and cl_event. */
#ifndef CLT_OCL_H
#define CLT_OCL_H

#define _POSIX_C_SOURCE 200809L /* which is why this header comes first */
#ifndef CL_TARGET_OPENCL_VERSION
#  define CL_TARGET_OPENCL_VERSION 120
#endif
#ifdef __APPLE__
#  include <OpenCL/opencl.h>
#else
#  include <CL/cl.h>
#endif

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend.h"

/* ---- host services (module.c) -------------------------------------------- */

/* Set by the module's entry; the same for every state of a process. */
extern const clt_host *ocl_host;
#define ocl_error(...) (ocl_host->fail(__VA_ARGS__))
void *ocl_alloc(size_t bytes); /* zeroed; NULL: the message is set */
void ocl_free(void *memory);

/* ---- driver calls and their errors (error.c) --------------------------------
 * Every driver call that may fail goes through one of these two, so that tests
 * can make it fail. Calls that undo things (release, finish in a cleanup) do
 * not, as nothing could be done about their failure. */
#define OCL(function, ...)                                                     \
  (ocl_host->allow(#function) ? function(__VA_ARGS__) : CL_OUT_OF_HOST_MEMORY)
/* The same for functions that return an object and take &error last. */
#define OCL_NEW(error, function, ...)                                          \
  (ocl_host->allow(#function) ? function(__VA_ARGS__, &(error))                \
                              : ((error) = CL_OUT_OF_HOST_MEMORY, NULL))

const char *ocl_error_name(cl_int error);
/* Sets "CL_X (-n) from call"; OUT_OF_MEMORY or DEVICE_ERROR. */
clattn_status ocl_fail(cl_int error, const char *call);

/* ---- CLBlast (blas.c) ---------------------------------------------------- */

typedef struct ocl_blas {
  pthread_mutex_t lock;
  void *library;
  atomic_bool used; /* it holds programs of our contexts */
  /* Types of clblast_c.h with its enums as int. Pointers not NULL: loaded. */
  int (*gemm)(int layout, int a_transpose, int b_transpose, size_t m, size_t n,
              size_t k, float alpha, cl_mem a, size_t a_offset, size_t a_ld,
              cl_mem b, size_t b_offset, size_t b_ld, float beta, cl_mem c,
              size_t c_offset, size_t c_ld, cl_command_queue *queue,
              cl_event *event);
  int (*gemm_strided)(int layout, int a_transpose, int b_transpose, size_t m,
                      size_t n, size_t k, float alpha, cl_mem a,
                      size_t a_offset, size_t a_ld, size_t a_stride, cl_mem b,
                      size_t b_offset, size_t b_ld, size_t b_stride, float beta,
                      cl_mem c, size_t c_offset, size_t c_ld, size_t c_stride,
                      size_t batch_count, cl_command_queue *queue,
                      cl_event *event);
  int (*clear_cache)(void);
} ocl_blas;

/* ---- states, devices, programs ------------------------------------------- */

typedef struct ocl_state ocl_state;
typedef struct ocl_device ocl_device;

/* The library's kernels, then the backend's own. */
enum { OCL_K_BIAS_ROWS = CLT_KERNEL_COUNT, OCL_KERNEL_COUNT };
#define OCL_REASON_BYTES 216

typedef struct ocl_kernel {
  bool ready;          /* created once; what follows is known                 */
  size_t local_static; /* bytes of local memory besides the argument          */
  size_t group_max;    /* work-items                                          */
  clt_verdict verdict;
  char reason[OCL_REASON_BYTES];
} ocl_kernel;

/* One .cl file for one device. */
typedef struct ocl_program {
  pthread_mutex_t lock; /* guards everything here and its kernels' records    */
  cl_program id;        /* NULL: not built yet                                */
  char *failure;        /* the message of a build that failed; not repeated   */
  unsigned char key[32];
  bool unsaved; /* its binary is to be saved when there is occasion   */
} ocl_program;

struct ocl_device {
  ocl_state *state;
  cl_platform_id platform;
  cl_device_id id;
  clattn_device_info info;
  bool pocl;
  bool
      driver_caches; /* the driver keeps compiled programs better than we can */
  int lanes;         /* build option LANES                             */
  int block_rows;    /* BM of all kernels but                          */
  int matmul_rows;   /* that of matmul.cl, which needs more memory     */
  pthread_mutex_t lock; /* guards context                                 */
  cl_context context;   /* NULL: not needed yet                           */
  ocl_program programs[OCL_KERNEL_COUNT]; /* at its file's first kernel       */
  ocl_kernel kernels[OCL_KERNEL_COUNT];
};

struct ocl_state {
  const clt_settings *settings;
  ocl_device *devices;
  int n_devices;
  ocl_blas blas;
};

typedef struct ocl_queue {
  ocl_device *device;
  cl_command_queue id;
  bool out_of_order;
  bool own;       /* ours, so that only we enqueue to it                */
  cl_mem scratch; /* of an own in-order queue: kept for the next call   */
  size_t scratch_bytes;
} ocl_queue;

/* ---- platform.c ---- */
clattn_status ocl_open(const clt_settings *settings, void **state,
                       int *n_devices);
clattn_status ocl_open_native(const clt_settings *settings, void *context,
                              void *device, void **state);
void ocl_close(void *state);
void *ocl_device_at(void *state, int i);
void ocl_device_info(void *device, clattn_device_info *info);
void ocl_tuning(void *device, clt_tuning *tuning);
void ocl_tune(void *device, const clt_tuning *tuning);
/* The device's context, made at the first call. Thread-safe. */
clattn_status ocl_context(ocl_device *device, cl_context *context);
void ocl_log(const ocl_state *state, const char *format, ...)
#ifdef __GNUC__
    __attribute__((format(printf, 2, 3)))
#endif
    ;

/* ---- memory.c ---- */
clattn_status ocl_buffer_create(void *device, size_t bytes, void **mem);
clattn_status ocl_buffer_wrap(void *device, void *native, size_t *bytes,
                              void **mem);
void ocl_buffer_destroy(void *mem);

/* ---- queue.c ---- */
clattn_status ocl_queue_create(void *device, void **queue);
clattn_status ocl_queue_wrap(void *device, void *native, void **queue);
clattn_status ocl_queue_finish(void *queue);
void ocl_queue_destroy(void *queue);
clattn_status ocl_buffer_write(void *queue, void *mem, size_t offset,
                               const void *src, size_t bytes);
clattn_status ocl_buffer_read(void *queue, void *mem, size_t offset, void *dst,
                              size_t bytes);
clattn_status ocl_event_wait(void *event);
void ocl_event_destroy(void *event);
clattn_status ocl_event_wrap(void *device, void *native, void **event);
clattn_status ocl_event_native(void *event, void **native);

/* ---- source.c ---- */
/* The text of <file>.cl with its includes in place; ocl_free it. UNSUPPORTED if
 * there is no such file. */
clattn_status ocl_source(const ocl_state *state, const char *file, char **text,
                         size_t *length);

/* ---- program.c ---- */
/* File and entry of a kernel id, own ones included. */
const char *ocl_kernel_file(int kernel);
const char *ocl_kernel_entry(int kernel);
ocl_program *ocl_program_of(ocl_device *device, int kernel);
void ocl_programs_init(ocl_device *device);
/* Saves what the disk does not have yet and frees the rest. */
void ocl_programs_close(ocl_device *device);
/* Any kernel but MATMUL_BLAS. */
clattn_status ocl_kernel_prepare(ocl_device *device, int kernel);
clattn_status ocl_prepare(void *device, clt_kernel kernel);
clattn_status ocl_limits(void *device, clt_kernel kernel, size_t *local_bytes,
                         size_t *group_size);
int ocl_block_rows(void *device, clt_kernel kernel);
clt_verdict ocl_verdict_get(void *device, clt_kernel kernel, char *reason,
                            size_t n);
void ocl_verdict_set(void *device, clt_kernel kernel, clt_verdict verdict,
                     const char *reason);

/* ---- disk_cache.c ---- (program's lock held) */
/* Sets program->key. */
void ocl_cache_key(const ocl_device *device, ocl_program *program,
                   const char *source, size_t length, const char *options);
/* Sets the verdicts of the file's kernels, as far as known, and program->id;
 * false: build it. */
bool ocl_cache_load(ocl_device *device, ocl_program *program, const char *file,
                    cl_context context, const char *options);
void ocl_cache_save(ocl_device *device, ocl_program *program, const char *file);

/* ---- submit.c ---- */
clattn_status ocl_submit(void *queue, const clt_step *steps, size_t n_steps,
                         void *scratch, size_t scratch_bytes, void *const *wait,
                         size_t n_wait, void **event);

/* ---- blas.c ---- */
void ocl_blas_init(ocl_blas *blas);
void ocl_blas_close(ocl_blas *blas);
clattn_status ocl_blas_prepare(ocl_device *device);
/* Says whether the step can run at all. */
clattn_status ocl_blas_check(ocl_device *device, const clt_step *step);
/* Enqueues the product; buffers are a, b, c, bias. bias_kernel: an instance of
 * bias_rows when the step has a bias. On an out-of-order queue the caller puts
 * barriers around it. *enqueued is set once the queue holds anything. On
 * failure *call names the failing call. */
cl_int ocl_blas_enqueue(ocl_queue *queue, const clt_step *step,
                        const cl_mem buffers[4], cl_kernel bias_kernel,
                        bool *enqueued, const char **call);

/* ---- sha256.c ---- */
typedef struct ocl_sha256 {
  uint32_t h[8];
  uint64_t bytes;
  unsigned char block[64];
} ocl_sha256;
void ocl_sha256_start(ocl_sha256 *s);
void ocl_sha256_add(ocl_sha256 *s, const void *data, size_t bytes);
void ocl_sha256_end(ocl_sha256 *s, unsigned char digest[32]);

#endif /* CLT_OCL_H */
