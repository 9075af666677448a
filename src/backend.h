/* backend.h - the seam between what is computed and how.
 *
 * Code above (src/core, src/attention) describes work as a list of steps: a
 * kernel, its argument struct, its buffers and the grid of groups to run. A
 * backend is one table of functions that owns devices, memory, queues and
 * events, and runs steps. The two backends never include each other.
 *
 * Every slot is mandatory unless marked "may be NULL". Objects are opaque
 * pointers made by the backend; slots get only valid ones. A slot that fails
 * calls host->fail and returns its status. */
#ifndef CLT_BACKEND_H
#define CLT_BACKEND_H

#include "clattn.h"

#define CLT_BACKEND_ABI 5
#define CLT_MAX_BUFFERS 14

/* X(id, file, entry, argument struct, number of pointer parameters)
 * A kernel is the function `entry` of cl/<file>.cl: its first parameter is the
 * argument struct by value, then that many __global pointers (NULL where a
 * tensor is absent), last a __local float* of clt_step.local_bytes. The native
 * backend compiles the same body. Kernels named *_tile are shaped for GPUs and
 * exist in OpenCL only. */
#define CLT_KERNEL_MAP(X)                                                      \
  X(ATTN_FUSED, "attn_fused", "attn_fused", clt_attn_args, 14)                 \
  X(ATTN_BLOCKED, "attn_blocked", "attn_blocked", clt_attn_args, 14)           \
  X(ATTN_SPLIT, "attn_fused", "attn_split", clt_attn_args, 14)                 \
  X(ATTN_MERGE, "attn_fused", "attn_merge", clt_attn_args, 14)                 \
  X(ATTN_SOFTMAX, "attn_softmax", "attn_softmax", clt_attn_args, 14)           \
  X(ATTN_AVERAGE, "attn_softmax", "attn_average", clt_attn_args, 14)           \
  X(ATTN_BACKWARD, "attn_backward", "attn_backward", clt_attn_args, 14)        \
  X(ATTN_DELTA, "attn_backward", "attn_delta", clt_attn_args, 14)              \
  X(ATTN_BACKWARD_BIAS, "attn_backward", "attn_backward_bias", clt_attn_args,  \
    14)                                                                        \
  X(ATTN_BACKWARD_SINKS, "attn_backward", "attn_backward_sinks",               \
    clt_attn_args, 14)                                                         \
  X(ATTN_SCORES_BACKWARD, "attn_backward", "attn_scores_backward",             \
    clt_attn_args, 14)                                                         \
  X(ATTN_STATS, "attn_stats", "attn_stats", clt_stats_args, 14)                \
  X(ATTN_STATS_SUM, "attn_stats", "attn_stats_sum", clt_sum_parts_args, 2)     \
  X(SUM_PARTS, "attn_backward", "sum_parts", clt_sum_parts_args, 2)            \
  X(MATMUL, "matmul", "matmul", clt_matmul_args, 4)                            \
  X(COLUMN_SUMS, "matmul", "column_sums", clt_column_sums_args, 2)             \
  X(ROTARY, "rotary", "rotary", clt_rotary_args, 5)                            \
  X(COPY, "copy", "copy_rows", clt_copy_args, 2)                               \
  X(SET_I32, "copy", "set_i32", clt_set_args, 1)                               \
  /* The order of cl/nn_kernels.h, here and for GPUs. */                       \
  X(NN_MAP, "nn", "nn_map", clt_nn_args, 6)                                    \
  X(NN_ADAMW, "nn", "nn_adamw", clt_nn_args, 6)                                \
  X(NN_LAYER_NORM, "nn", "nn_layer_norm", clt_nn_args, 6)                      \
  X(NN_LAYER_NORM_BACK, "nn", "nn_layer_norm_back", clt_nn_args, 6)            \
  X(NN_RMS_NORM, "nn", "nn_rms_norm", clt_nn_args, 6)                          \
  X(NN_RMS_NORM_BACK, "nn", "nn_rms_norm_back", clt_nn_args, 6)                \
  X(NN_CROSS_ENTROPY, "nn", "nn_cross_entropy", clt_nn_args, 6)                \
  X(NN_CROSS_ENTROPY_BACK, "nn", "nn_cross_entropy_back", clt_nn_args, 6)      \
  X(NN_GATHER, "nn", "nn_gather", clt_nn_args, 6)                              \
  X(NN_SCATTER, "nn", "nn_scatter", clt_nn_args, 6)                            \
  X(NN_COLUMN_SUMS, "nn", "nn_column_sums", clt_nn_args, 6)                    \
  X(NN_NORM_PARTS, "nn", "nn_norm_parts", clt_nn_args, 6)                      \
  X(NN_LOSS_PARTS, "nn", "nn_loss_parts", clt_nn_args, 6)                      \
  X(NN_FOLD, "nn", "nn_fold", clt_nn_args, 6)                                  \
  X(ATTN_FUSED_TILE, "attn_fused_tile", "attn_fused_tile", clt_attn_args, 14)  \
  X(ATTN_SPLIT_TILE, "attn_split_tile", "attn_split_tile", clt_attn_args, 14)  \
  X(ATTN_MERGE_TILE, "attn_split_tile", "attn_merge_tile", clt_attn_args, 14)  \
  X(ATTN_SOFTMAX_TILE, "attn_softmax_tile", "attn_softmax_tile",               \
    clt_attn_args, 14)                                                         \
  X(ATTN_AVERAGE_TILE, "attn_softmax_tile", "attn_average_tile",               \
    clt_attn_args, 14)                                                         \
  X(ATTN_BACKWARD_TILE, "attn_backward_tile", "attn_backward_tile",            \
    clt_attn_args, 14)                                                         \
  X(ATTN_DELTA_TILE, "attn_backward_tile", "attn_delta_tile", clt_attn_args,   \
    14)                                                                        \
  X(ATTN_BACKWARD_SINKS_TILE, "attn_backward_tile",                            \
    "attn_backward_sinks_tile", clt_attn_args, 14)                             \
  X(ATTN_SCORES_BACKWARD_TILE, "attn_backward_tile",                           \
    "attn_scores_backward_tile", clt_attn_args, 14)                            \
  X(ATTN_STATS_TILE, "attn_stats_tile", "attn_stats_tile", clt_stats_args, 14) \
  X(ATTN_STATS_SUM_TILE, "attn_stats_tile", "attn_stats_sum_tile",             \
    clt_sum_parts_args, 2)                                                     \
  X(SUM_PARTS_TILE, "attn_backward_tile", "sum_parts_tile",                    \
    clt_sum_parts_args, 2)                                                     \
  X(MATMUL_TILE, "matmul_tile", "matmul_tile", clt_matmul_args, 4)             \
  X(COLUMN_SUMS_TILE, "matmul_tile", "column_sums_tile", clt_column_sums_args, \
    2)                                                                         \
  X(NN_MAP_TILE, "nn_tile", "nn_map_tile", clt_nn_args, 6)                     \
  X(NN_ADAMW_TILE, "nn_tile", "nn_adamw_tile", clt_nn_args, 6)                 \
  X(NN_LAYER_NORM_TILE, "nn_tile", "nn_layer_norm_tile", clt_nn_args, 6)       \
  X(NN_LAYER_NORM_BACK_TILE, "nn_tile", "nn_layer_norm_back_tile",             \
    clt_nn_args, 6)                                                            \
  X(NN_RMS_NORM_TILE, "nn_tile", "nn_rms_norm_tile", clt_nn_args, 6)           \
  X(NN_RMS_NORM_BACK_TILE, "nn_tile", "nn_rms_norm_back_tile", clt_nn_args, 6) \
  X(NN_CROSS_ENTROPY_TILE, "nn_tile", "nn_cross_entropy_tile", clt_nn_args, 6) \
  X(NN_CROSS_ENTROPY_BACK_TILE, "nn_tile", "nn_cross_entropy_back_tile",       \
    clt_nn_args, 6)                                                            \
  X(NN_GATHER_TILE, "nn_tile", "nn_gather_tile", clt_nn_args, 6)               \
  X(NN_SCATTER_TILE, "nn_tile", "nn_scatter_tile", clt_nn_args, 6)             \
  X(NN_COLUMN_SUMS_TILE, "nn_tile", "nn_column_sums_tile", clt_nn_args, 6)     \
  X(NN_NORM_PARTS_TILE, "nn_tile", "nn_norm_parts_tile", clt_nn_args, 6)       \
  X(NN_LOSS_PARTS_TILE, "nn_tile", "nn_loss_parts_tile", clt_nn_args, 6)       \
  X(NN_FOLD_TILE, "nn_tile", "nn_fold_tile", clt_nn_args, 6)                   \
  /* Not a .cl kernel: the dense product by the backend's BLAS library.     */ \
  X(MATMUL_BLAS, "", "blas", clt_matmul_args, 4)

typedef enum clt_kernel {
#define CLT_X(id, file, entry, args, n) CLT_K_##id,
  CLT_KERNEL_MAP(CLT_X)
#undef CLT_X
      CLT_KERNEL_COUNT
} clt_kernel;

typedef struct clt_kernel_desc {
  const char *id, *file, *entry;
  size_t args_size;
  int n_buffers;
} clt_kernel_desc;
extern const clt_kernel_desc clt_kernels[CLT_KERNEL_COUNT]; /* core/kernels.c */

/* ---- tuning: choices on which speed depends and nothing else ---------------
 * X(id, its name in the stored record, how a caller fixes it)
 * They are measured in this order, each with those before it chosen. */
#define CLT_TUNING_MAP(X)                                                      \
  /* 1: kernels shaped for GPUs serve first; 0: those for CPUs              */ \
  X(FAMILY, "gpu_kernels", "config->force_gpu_kernels")                        \
  /* Floats of a vector of the kernels for CPUs, LANES of cl/vec.h          */ \
  X(LANES, "lanes", "CLATTN_CPU_ISA")                                          \
  /* Query rows of a block, BM of cl/shape.h                                */ \
  X(BLOCK, "block_rows", "")                                                   \
  /* 1: dense products by the backend's BLAS library; 0: by our kernel      */ \
  X(DENSE, "blas", "config->dense")

typedef enum clt_tune_id {
#define CLT_X(id, key, fixed_by) CLT_TUNE_##id,
  CLT_TUNING_MAP(CLT_X)
#undef CLT_X
      CLT_TUNE_COUNT
} clt_tune_id;

/* Where a value comes from; a later one wins over an earlier one. */
typedef enum clt_origin {
  CLT_BY_DEFAULT = 0, /* of the type of device */
  CLT_BY_RECORD,      /* measured by clattn_device_tune */
  CLT_BY_CALLER       /* by config or environment */
} clt_origin;

typedef struct clt_choice {
  int value; /* one of the options */
  clt_origin origin;
  int n_options; /* values that the device takes; 1: nothing to choose */
  struct {
    int value;
    const char *name; /* "vectors of 16"; static text */
  } option[3];
} clt_choice;

typedef struct clt_tuning {
  clt_choice of[CLT_TUNE_COUNT];
} clt_tuning;

/* Where a step takes a buffer from. */
typedef struct clt_ref {
  void *mem;    /* backend memory object; NULL and !scratch: absent        */
  bool scratch; /* the submission's scratch buffer                         */
} clt_ref;

typedef struct clt_step {
  clt_kernel kernel;
  int n_buffers;
  clt_ref buffers[CLT_MAX_BUFFERS];
  size_t groups[3];     /* work-groups in x, y, z; each >= 1                */
  size_t group_size[2]; /* work-items of a group in x, y; 1,1 for lanes     */
  size_t local_bytes;   /* of the kernel's local memory argument; >= 16     */
  const void *args;     /* the kernel's struct, alive during submit         */
} clt_step;

/* Services that the core gives a backend (a backend module must not need
 * symbols of the core, so that it can be loaded by a static program). */
typedef struct clt_host {
  uint32_t abi;
  /* Sets the calling thread's message and returns status. printf format. */
  clattn_status (*fail)(clattn_status status, const char *format, ...)
#ifdef __GNUC__
      __attribute__((format(printf, 2, 3)))
#endif
      ;
  void *(*alloc)(size_t bytes); /* zeroed; NULL when out of memory            */
  void (*free)(void *memory);
  /* Makes or replaces a file as a whole, its directories if need be; false
   * with errno. */
  bool (*replace_file)(const char *path, const void *data, size_t bytes);
  /* Test hook: false makes the call in hand fail as the driver would. Asked
   * before each driver call that may fail. */
  bool (*allow)(const char *call);
  const clt_kernel_desc *kernels;
} clt_host;

/* What a context is opened with; strings resolved from config and environment,
 * never NULL; cache_dir or kernel_dir "" is off. Alive until close. */
typedef struct clt_settings {
  const char *kernel_dir, *cache_dir;
  int cpu_threads;
  void (*log)(void *user, const char *text); /* may be NULL */
  void *log_user;
} clt_settings;

/* A verdict of the first-use guard. */
typedef enum clt_verdict {
  CLT_UNKNOWN = 0,
  CLT_TRUSTED = 1,
  CLT_REFUSED = 2
} clt_verdict;

typedef struct clt_backend_ops {
  uint32_t abi;
  const char *name; /* "opencl", "cpu" */

  /* Finds devices; *n_devices may be 0, which is no failure. */
  clattn_status (*open)(const clt_settings *settings, void **state,
                        int *n_devices);
  /* The one device of the caller's own context. May be NULL (no interop). */
  clattn_status (*open_native)(const clt_settings *settings, void *context,
                               void *device, void **state);
  /* All other objects are gone by then. */
  void (*close)(void *state);

  /* Device i of the state; owned by it. Cheap: nothing is compiled and no
   * driver context is made before the first buffer, queue or prepare. */
  void *(*device)(void *state, int i);
  void (*device_info)(void *device, clattn_device_info *info);

  clattn_status (*buffer_create)(void *device, size_t bytes, void **mem);
  /* Retains a native handle and reports its size; host memory on the CPU
   * backend, where *bytes is given. */
  clattn_status (*buffer_wrap)(void *device, void *native, size_t *bytes,
                               void **mem);
  void (*buffer_destroy)(void *mem);

  clattn_status (*queue_create)(void *device, void **queue);
  clattn_status (*queue_wrap)(void *device, void *native, void **queue);
  clattn_status (*queue_finish)(void *queue);
  void (*queue_destroy)(void *queue); /* finishes first */
  clattn_status (*buffer_write)(void *queue, void *mem, size_t offset,
                                const void *src, size_t bytes);
  clattn_status (*buffer_read)(void *queue, void *mem, size_t offset, void *dst,
                               size_t bytes);

  clattn_status (*event_wait)(void *event);
  void (*event_destroy)(void *event);
  clattn_status (*event_wrap)(void *device, void *native, void **event);
  clattn_status (*event_native)(void *event, void **native);

  /* Makes a kernel ready (compiles or loads it). UNSUPPORTED: this device
   * cannot run it, say why; BUILD_FAILED with the log. Repeats are cheap.
   * Thread-safe. */
  clattn_status (*prepare)(void *device, clt_kernel kernel);
  /* Largest local_bytes and group size of a prepared kernel. */
  clattn_status (*limits)(void *device, clt_kernel kernel, size_t *local_bytes,
                          size_t *group_size);
  /* The options of this device and which are its defaults, or what the
   * environment says instead. The same at every call. */
  void (*tuning)(void *device, clt_tuning *tuning);
  /* Sets them, each to one of its options, before a kernel is prepared. */
  void (*tune)(void *device, const clt_tuning *tuning);
  /* Rows of a block, BM, that a kernel is compiled with for this device: those
   * of the tuning, as far as its memory allows. */
  int (*block_rows)(void *device, clt_kernel kernel);
  /* The guard's verdict as kept with the compiled program (memory and disk).
   * reason has room for n bytes. Thread-safe. */
  clt_verdict (*verdict_get)(void *device, clt_kernel kernel, char *reason,
                             size_t n);
  void (*verdict_set)(void *device, clt_kernel kernel, clt_verdict verdict,
                      const char *reason);

  /* Runs the steps one after the other, each seeing the results of those
   * before it, after the n_wait events (all of this backend). All or nothing
   * is enqueued as far as the driver allows. Kernels are prepared. A scratch
   * of scratch_bytes is lent (0: none is needed) unless scratch is given.
   * event may be NULL; else it receives one that completes with the last step.
   * n_steps 0 is legal: the event completes after the waits. */
  clattn_status (*submit)(void *queue, const clt_step *steps, size_t n_steps,
                          void *scratch, size_t scratch_bytes,
                          void *const *wait, size_t n_wait, void **event);
} clt_backend_ops;

/* The native backend, always linked. */
const clt_backend_ops *clt_cpu_backend(const clt_host *host);

/* The entry that a backend module exports. NULL if the ABI differs. */
#define CLT_MODULE_ENTRY "clattn_backend_module"
typedef const clt_backend_ops *(*clt_module_entry)(const clt_host *host);

#endif /* CLT_BACKEND_H */
