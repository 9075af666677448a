/* core.h - the library's handles from the inside: failure, contexts, devices,
 * buffers, queues, events, and the checks that every public function shares. */
#ifndef CLT_CORE_H
#define CLT_CORE_H

#include <stdatomic.h>
#include <stdio.h>

#include "../backend.h"
#include "clattn.h"

/* ---- failure (status.c) --------------------------------------------------- */

/* Sets the calling thread's message and returns status. */
clattn_status clt_fail(clattn_status status, const char *format, ...)
#ifdef __GNUC__
    __attribute__((format(printf, 2, 3)))
#endif
    ;

/* The one check macro: leaves the function with INVALID_ARGUMENT. */
#define CLT_REQUIRE(condition, ...)                                            \
  do {                                                                         \
    if (!(condition)) return clt_fail(CLATTN_INVALID_ARGUMENT, __VA_ARGS__);   \
  } while (0)

/* Leaves the function with the status of a failed call. */
#define CLT_TRY(call)                                                          \
  do {                                                                         \
    clattn_status clt_status_ = (call);                                        \
    if (clt_status_ != CLATTN_OK) return clt_status_;                          \
  } while (0)

/* A config struct from the caller: right size for this version. */
#define CLT_REQUIRE_STRUCT(pointer, type)                                      \
  do {                                                                         \
    CLT_REQUIRE((pointer) != NULL, #pointer ": got NULL, want a " #type);      \
    CLT_REQUIRE((pointer)->struct_size == sizeof(type),                        \
                #pointer "->struct_size: got %zu, want %zu (call " #type       \
                         "_init first)",                                       \
                (pointer)->struct_size, sizeof(type));                         \
  } while (0)

/* ---- memory (memory.c) ------------------------------------------------------ */

/* Zeroed memory or NULL; every allocation of the library comes through here. */
void *clt_alloc(size_t bytes);
void clt_free(void *memory);
char *clt_strdup(const char *text);

/* Fault injection for the tests: the n-th (from 0) allocation or driver call
 * from now on fails, once; n < 0 switches it off. Returns how many were asked
 * since the last call. Process-wide, for single-threaded tests. */
int64_t clt_fault_after(int64_t n);
/* Counts a fallible call; false: it shall fail. */
bool clt_fault_allow(const char *call);

/* ---- handles (context.c, queue.c, buffer.c, event.c) -------------------------- */

typedef struct clt_device {
  clattn_context *context;
  const clt_backend_ops *ops;
  void *impl; /* the backend's device */
  int index;
  clattn_backend backend;
  clattn_device_type type;
  clt_tuning tuning;
  const char *record; /* what became of the stored record, static text */
} clt_device;

typedef struct clt_plan_cache clt_plan_cache; /* attention/oneshot.c */
void clt_plan_cache_destroy(clt_plan_cache *cache);

struct clattn_context {
  atomic_int refs;
  clt_settings settings;
  clattn_dense dense;
  bool force_gpu_kernels;
  struct {
    const clt_backend_ops *ops;
    void *state;
  } backends[2];
  int n_backends;
  void *module;    /* dlopen handle of the OpenCL module, or NULL */
  char *no_opencl; /* why no OpenCL device is here; NULL if there is one */
  clt_device *devices;
  int n_devices;
  /* Plans kept by clattn_attention_f32; freed by clt_plan_cache_destroy. They
   * hold no reference to the context. */
  _Atomic(clt_plan_cache *) oneshot;
};

struct clattn_buffer {
  atomic_int refs;
  clt_device *device; /* device->context is held */
  void *mem;
  size_t bytes;
  /* What a wrapped buffer was made from: host memory on the CPU, a native
   * handle elsewhere; NULL: its memory is its own. Only ever compared. */
  const void *native;
};

struct clattn_queue {
  clt_device *device; /* device->context is held */
  void *impl;
};

struct clattn_event {
  atomic_int refs;
  clt_device *device; /* device->context is held */
  void *impl;
};

/* The services that backends get from this library (module.c). */
extern const clt_host clt_host_services;
/* The OpenCL backend, found and loaded; else NULL with the reason in n bytes.
 * *handle receives the module's handle. */
const clt_backend_ops *clt_module_load(void **handle, char *reason, size_t n);

void clt_context_retain(clattn_context *context);
void clt_context_release(clattn_context *context);
void clt_buffer_retain(clattn_buffer *buffer);
void clt_event_retain(clattn_event *event);
void clt_log(clattn_context *context, const char *format, ...)
#ifdef __GNUC__
    __attribute__((format(printf, 2, 3)))
#endif
    ;

/* Resolves an index (CLATTN_DEFAULT_DEVICE included) or fails naming it. */
clattn_status clt_device_get(const clattn_context *context, int index,
                             clt_device **device);

/* Buffer whose handle is owned by the library (caches, layers). */
clattn_status clt_buffer_new(clt_device *device, size_t bytes,
                             clattn_buffer **buffer);

/* ---- tuning (tuning.c) -------------------------------------------------------- */

enum { CLT_IDENTITY_BYTES = 1024, CLT_PATH_BYTES = 4096 };

static inline int clt_tuned(const clt_device *device, clt_tune_id id) {
  return device->tuning.of[id].value;
}
/* Defaults, then the caller's choices: what is there without a record. */
void clt_tuning_base(const clt_device *device, clt_tuning *tuning);
/* Fills in device->tuning, by the record as well, and tells the backend. */
void clt_tuning_open(clt_device *device);
/* Sets a choice; false: the device has no such option. */
bool clt_tuning_set(clt_tuning *tuning, clt_tune_id id, int value,
                    clt_origin origin);
/* The name of the value in use; where it comes from. Static text. */
const char *clt_tuning_name(const clt_tuning *tuning, clt_tune_id id);
const char *clt_tuning_why(const clt_device *device, clt_tune_id id);
/* What makes a device the same device in another context, as lines of text. */
void clt_device_identity(const clt_device *device,
                         char text[CLT_IDENTITY_BYTES]);
/* Where the device's record lies. UNSUPPORTED: the cache is off. */
clattn_status clt_tuning_path(const clt_device *device,
                              char path[CLT_PATH_BYTES]);
/* Writes the choices that were measured. */
clattn_status clt_tuning_save(const clt_device *device,
                              const clt_tuning *tuning);

/* ---- files (file.c) ------------------------------------------------------------ */

/* Written beside its place and renamed: readers see a whole file or none, and
 * of several writers the last one wins. Makes directories (0700). errno. */
bool clt_file_replace(const char *path, const void *data, size_t bytes);

/* ---- views (tensor.c) ------------------------------------------------------------ */

/* What a tensor argument must be. */
typedef struct clt_want {
  const char *name;  /* as the message names it, "args->mask"               */
  unsigned dtypes;   /* bit set: 1u << CLATTN_F32 | ...                     */
  int64_t extent[4]; /* exact; CLT_ANY_EXTENT: any >= 1                     */
  bool broadcast[4]; /* the extent may also be 1                            */
  bool optional;     /* buffer NULL is fine                                 */
  bool output;       /* strides must not make elements share memory         */
} clt_want;
#define CLT_ANY_EXTENT INT64_MIN
#define CLT_FLOATS (1u << CLATTN_F32 | 1u << CLATTN_F16 | 1u << CLATTN_BF16)
#define CLT_INTS (1u << CLATTN_I32 | 1u << CLATTN_I64)

/* Buffer on `device`, type, extents, strides >= 0, every element inside the
 * buffer without overflow. */
clattn_status clt_tensor_check(const clt_device *device, const clattn_tensor *t,
                               const clt_want *want);
/* Fails if out's memory, first to last element, meets in's. Absent: OK. */
clattn_status clt_tensor_disjoint(const clattn_tensor *out,
                                  const char *out_name, const clattn_tensor *in,
                                  const char *in_name);
/* Only bits of CLATTN_ADD_TO_*, else names the argument `accumulate`. */
clattn_status clt_accumulate_check(uint32_t accumulate);
/* A gradient, where it is given: what it belongs to is given too, and has its
 * extents. Of any float type. */
clattn_status clt_grad_check(const clt_device *device,
                             const clattn_tensor *grad, const char *name,
                             const clattn_tensor *of, const char *of_name);
/* a * b in *product, false on overflow; both >= 0. */
bool clt_mul(int64_t a, int64_t b, int64_t *product);

/* ---- one submission (steps.c) -------------------------------------------------------
 * A growing list of steps with copies of their arguments and one scratch
 * buffer that is laid out while the list grows. */
enum { CLT_WORK_STEPS = 4, CLT_WORK_ARGS = 2048 };

typedef struct clt_work {
  clt_device *device;
  clt_step *steps;
  size_t n_steps, cap_steps;
  char *args; /* arena, in the order of the steps; they point into it only
               * from clt_work_submit on, because it moves as it grows */
  size_t args_used, args_cap;
  size_t scratch_bytes;
  clattn_status status; /* the first failure; later calls do nothing */
  /* Room for the common small work, so that a call allocates nothing. The
   * pointers above may point in here: a clt_work is never copied. */
  clt_step step_room[CLT_WORK_STEPS];
  _Alignas(16) char args_room[CLT_WORK_ARGS];
} clt_work;

void clt_work_init(clt_work *work, clt_device *device);
void clt_work_free(clt_work *work);
/* Reserves bytes of scratch, aligned to 256; returns the byte offset. */
size_t clt_work_scratch(clt_work *work, size_t bytes);
/* Adds a step; args of the kernel's struct are copied. Returns the step, whose
 * buffers the caller fills in before the next call, or NULL after a failure.
 * Default group size 1,1. */
clt_step *clt_work_add(clt_work *work, clt_kernel kernel, const void *args,
                       size_t gx, size_t gy, size_t gz, size_t local_bytes);
static inline clt_ref clt_ref_of(const clattn_tensor *t) {
  clt_ref ref = {t->buffer ? t->buffer->mem : NULL, false};
  return ref;
}
static inline clt_ref clt_ref_scratch(void) {
  clt_ref ref = {NULL, true};
  return ref;
}
/* Submits; events of other backends are waited for on the host first. scratch
 * NULL or large enough. Converts the event. Does not free the work. */
clattn_status clt_work_submit(clt_work *work, clattn_queue *queue,
                              clattn_buffer *scratch, clattn_event *const *wait,
                              size_t n_wait, clattn_event **event);
/* Checks the shared arguments queue, wait, n_wait. */
clattn_status clt_check_enqueue(const clattn_queue *queue,
                                clattn_event *const *wait, size_t n_wait);

#endif /* CLT_CORE_H */
