/* clattn.h - multi-head attention on OpenCL devices and on the CPU.
 *
 * For each batch b and query head h, with g = h / (q_heads / kv_heads):
 *
 *     S      = softcap(scale * Q[b,h] K[b,g]^T) + bias      softcap(x) = c tanh(x/c)
 *     P      = softmax(S / temperature) over the keys a row sees
 *     O[b,h] = P V[b,g]
 *     lse    = log(sum(exp(S / temperature)))  over the keys a row sees
 *     bias   = additive mask - slope[h] * |p - j|           (each one optional)
 *
 * Row i stands at position p = q_start[b] + i and sees key j if and only if
 *
 *     j < kv_length[b]            keys that exist
 *     j <= p                      when causal
 *     p - window_left <= j <= p + window_right   where a window is set
 *     mask[b,h,i,j] and key_mask[b,j]            where given (see polarity)
 *     additive mask > -inf                       where given
 *
 * A row that sees no key has O = 0, P = 0 and lse = -inf, never NaN. What a row
 * does not see never enters its arithmetic: NaN or Inf there cannot reach it.
 * A sink is one more logit in a row's maximum and sum that adds no value; it is
 * taken as it is, not divided by the temperature.
 *
 * Limits of fp32: probabilities below 2^-64 of a row's largest term are 0;
 * scores, biases and lse saturate at +-FLT_MAX ln 2 (2.36e38) times the
 * temperature; scores or sums of V beyond float give Inf or NaN.
 *
 * (Vaswani et al. 2017, "Attention Is All You Need", eq. 1, and its common
 * extensions: GQA, ALiBi, sliding windows, logit soft-capping, sinks.)
 *
 * Conventions
 *   Shapes    logical order is always [batch, head, row, dim]; strides say how
 *             memory lies, so BHSD, BSHD and packed QKV need no copy.
 *   Units     extents, strides and offsets count elements; *_bytes bytes.
 *   Results   out-parameters come last. On failure a handle out-parameter is
 *             set to NULL and everything else keeps its value. A rejected call
 *             enqueues nothing; after DEVICE_ERROR outputs are unspecified.
 *   Lifetime  X_create / X_destroy pair; X_destroy(NULL) does nothing. A child
 *             keeps its parent alive: destroy handles in any order.
 *   Threads   context, plan, buffer, event: any thread, any time. queue,
 *             kv_cache, mha: one thread at a time. There is no global state.
 *   Output    the library never prints, exits or aborts.
 *
 * Simple use:   clattn_context_create, clattn_attention_f32.
 * General use:  context, queue, buffers, plan, execute. See examples/.
 *
 * This header needs no OpenCL. To bring your own OpenCL context, queue, memory
 * and events include clattn_cl.h as well. */
#ifndef CLATTN_H
#define CLATTN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32) && defined(CLATTN_SHARED)
#  ifdef CLATTN_BUILDING
#    define CLATTN_API __declspec(dllexport)
#  else
#    define CLATTN_API __declspec(dllimport)
#  endif
#elif defined(__GNUC__)
#  define CLATTN_API __attribute__((visibility("default")))
#else
#  define CLATTN_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define CLATTN_VERSION_MAJOR 0
#define CLATTN_VERSION_MINOR 1
#define CLATTN_VERSION_PATCH 0

/* "MAJOR.MINOR.PATCH" of the library that is linked. Static text. */
CLATTN_API const char *clattn_version(void);

/* ---- Status --------------------------------------------------------------
 * One table feeds the enum and clattn_status_name(). */
#define CLATTN_STATUS_MAP(X)                                                   \
  X(OK, 0)                                                                     \
  X(INVALID_ARGUMENT, 1) /* the message names the argument, got and wanted  */ \
  X(UNSUPPORTED, 2)      /* valid, but nothing here serves it; message why  */ \
  X(OUT_OF_MEMORY, 3)    /* host or device                                  */ \
  X(NO_DEVICE, 4)        /* no device fits what was asked for               */ \
  X(IO_ERROR, 5)         /* a file could not be read, written or understood */ \
  X(BUILD_FAILED, 6)     /* a kernel did not compile; log in the message    */ \
  X(DEVICE_ERROR, 7)     /* the driver failed; its error name in the message */

typedef enum clattn_status {
#define CLATTN_X(name, value) CLATTN_##name = value,
  CLATTN_STATUS_MAP(CLATTN_X)
#undef CLATTN_X
} clattn_status;

/* The enumerator's name without prefix, "UNKNOWN" for other values. */
CLATTN_API const char *clattn_status_name(clattn_status status);

/* The calling thread's last failure, "" if none: to be asked when a call has
 * failed, for one that succeeds may leave what it tried in vain. Valid until this
 * thread's next call. Works even when no context could be created. */
CLATTN_API const char *clattn_error_message(void);

/* Sets the calling thread's message (printf format) and returns status: for
 * libraries built on this one, so that their users ask in one place. */
CLATTN_API clattn_status clattn_set_error(clattn_status status,
                                          const char *format, ...)
#ifdef __GNUC__
    __attribute__((format(printf, 2, 3)))
#endif
    ;

/* ---- Context: devices and compiled kernels -------------------------------- */
typedef enum clattn_dtype {
  CLATTN_F32 = 1, /* IEEE binary32                                          */
  CLATTN_F16 = 2, /* IEEE binary16, on every device                         */
  CLATTN_I32 = 3,
  CLATTN_BF16 = 4, /* upper half of binary32, on every device                */
  CLATTN_BOOL = 5, /* one byte; 0 is false, anything else true               */
  CLATTN_I64 = 6
} clattn_dtype;

/* Bytes of one element; 0 for an unknown type. */
CLATTN_API size_t clattn_dtype_size(clattn_dtype dtype);
/* "f32", "f16", ...; "unknown" for other values. */
CLATTN_API const char *clattn_dtype_name(clattn_dtype dtype);
/* Host-side conversion of n numbers, round to nearest even, subnormals, Inf and
 * NaN kept. from and to are F32, F16 or BF16. src and dst must not overlap. */
CLATTN_API clattn_status clattn_convert(clattn_dtype from, const void *src,
                                        clattn_dtype to, void *dst, size_t n);

typedef enum clattn_backend {
  CLATTN_ANY = 0,    /* OpenCL devices if there are any, then the CPU        */
  CLATTN_OPENCL = 1, /* OpenCL devices only                                  */
  CLATTN_CPU = 2     /* the native CPU path only                             */
} clattn_backend;

typedef enum clattn_device_type {
  CLATTN_DEVICE_CPU = 1, /* native, or an OpenCL device on the host's cores  */
  CLATTN_DEVICE_GPU = 2,
  CLATTN_DEVICE_OTHER = 3
} clattn_device_type;

typedef struct clattn_context clattn_context;
typedef struct clattn_queue clattn_queue;   /* a lane of work on one device  */
typedef struct clattn_event clattn_event;   /* the end of one piece of work  */
typedef struct clattn_buffer clattn_buffer; /* bytes on one device           */
typedef struct clattn_plan clattn_plan;     /* a problem made ready to run   */
typedef struct clattn_kv_cache clattn_kv_cache;
typedef struct clattn_mha clattn_mha;

/* Which implementation of dense products the layer uses. */
typedef enum clattn_dense {
  CLATTN_DENSE_AUTO = 0, /* what was measured faster on this device, or else
                          * on this type of device                          */
  CLATTN_DENSE_OWN = 1,  /* the library's own matmul kernel                 */
  CLATTN_DENSE_BLAS = 2  /* CLBlast on OpenCL, OpenBLAS on the CPU          */
} clattn_dense;

typedef struct clattn_context_config {
  size_t struct_size;     /* set by clattn_context_config_init               */
  clattn_backend backend; /* default CLATTN_ANY                              */
  /* Directory whose .cl and .h files replace the embedded ones of the same
   * name; NULL: $CLATTN_KERNEL_DIR if set, else none. IO_ERROR unless it is a
   * directory. */
  const char *kernel_dir;
  /* Where compiled kernels, and what clattn_device_tune found, are kept between
   * runs. NULL: $CLATTN_CACHE_DIR,
   * else $XDG_CACHE_HOME/clattn, else $HOME/.cache/clattn. "": no disk cache. */
  const char *cache_dir;
  int cpu_threads;    /* of the native CPU device; 0: one a usable core
                           * (or $CLATTN_THREADS)                            */
  clattn_dense dense; /* default AUTO                                    */
  /* Also list GPU-shaped kernels first on CPU-type OpenCL devices: they are
   * slow there, this is how they are tested without a GPU. Default false. */
  bool force_gpu_kernels;
  /* Receives one line a notable event (program built, variant refused). May
   * be called from any thread that calls the library. NULL: silent. */
  void (*log)(void *user, const char *text);
  void *log_user;
} clattn_context_config;

CLATTN_API void clattn_context_config_init(clattn_context_config *config);

/* Finds the devices. config NULL: all defaults; its strings are copied.
 * Devices are numbered from 0: OpenCL GPUs, other OpenCL devices, and the
 * native CPU device last. Nothing is compiled yet.
 * NO_DEVICE: backend is CLATTN_OPENCL and no OpenCL device (or no ICD loader)
 * is there; the message says which. */
CLATTN_API clattn_status clattn_context_create(
    const clattn_context_config *config, clattn_context **context);
CLATTN_API void clattn_context_destroy(clattn_context *context);

/* Wherever a function takes a device index, CLATTN_DEFAULT_DEVICE means the
 * device that clattn_device_find(context, NULL) gives. */
#define CLATTN_DEFAULT_DEVICE (-1)

typedef struct clattn_device_info {
  size_t struct_size;     /* set by the caller: sizeof(...)            */
  clattn_backend backend; /* CLATTN_OPENCL or CLATTN_CPU               */
  clattn_device_type type;
  char name[128], vendor[128], platform[128], driver[128], version[128];
  uint64_t memory_bytes;    /* global memory; 0 unknown                  */
  uint64_t max_alloc_bytes; /* largest single buffer                     */
  uint64_t local_bytes;     /* local memory of one work-group            */
  uint32_t compute_units, max_work_group, vector_width;
  bool fp16;         /* half arithmetic (storage needs it nowhere) */
  bool out_of_order; /* queues may be out of order                */
} clattn_device_info;

/* 0 for NULL. */
CLATTN_API int clattn_device_count(const clattn_context *context);
CLATTN_API clattn_status clattn_device_get_info(const clattn_context *context,
                                                int device,
                                                clattn_device_info *info);
/* A device by selector: "cpu" (the native one), "gpu", "opencl" (the first
 * OpenCL device), an index in decimal, or part of a name, case ignored.
 * NULL: $CLATTN_DEVICE if set, else the first GPU, else the native CPU, else
 * device 0. NO_DEVICE if nothing fits. */
CLATTN_API clattn_status clattn_device_find(const clattn_context *context,
                                            const char *selector, int *device);

/* ---- Tuning: which of several right ways a device takes ---------------------
 * The widest vectors, the largest blocks, our own dense products: good defaults
 * by type of device, not the best ones everywhere. Tuning measures instead, and
 * keeps the outcome for every later context on that device. It is never needed,
 * and results are right whatever is chosen: every kernel is checked before it
 * serves. What a caller says (clattn_context_config, environment) always wins. */

typedef enum clattn_tune_state {
  CLATTN_TUNE_PREPARING = 1, /* a candidate is compiled and checked           */
  CLATTN_TUNE_REFUSED = 2,   /* ... and cannot be taken: see reason           */
  CLATTN_TUNE_MEASURED = 3,  /* ... and was timed                             */
  CLATTN_TUNE_CHOSEN = 4,    /* of the candidates before: see reason          */
  CLATTN_TUNE_SKIPPED = 5    /* was not for tuning: see reason                */
} clattn_tune_state;

typedef struct clattn_tune_report {
  clattn_tune_state state;
  const char *candidate; /* "vectors of 16"                                 */
  const char *reason;    /* "" where there is nothing to say                */
  /* MEASURED: medians, of causal attention of 8 heads of 64 over 512 tokens
   * and of a dense product 256x768x768, in F32. Else 0. */
  double attention_seconds, product_seconds;
} clattn_tune_report;

/* Receives each step in turn, in the thread that tunes; texts are valid during
 * the call. */
typedef void (*clattn_tune_callback)(void *user,
                                     const clattn_tune_report *report);

/* Measures, one after the other, what the device has of: kernels shaped for
 * CPUs or for GPUs; width of vectors (natively: the instruction set); queries of
 * a block; dense products by our own kernel or by CLBlast (OpenBLAS). Each
 * candidate runs in a context of its own, is checked against double precision,
 * and is timed in turns with the others. One that takes 5% less time than the
 * default, for attention and product together, by medians and by best times,
 * replaces it. Then the outcome is kept: a small file in the directory of compiled
 * kernels (clattn_context_config.cache_dir), for this device, driver and version
 * of the library. Contexts that are created after this use it. What the caller of
 * this context fixes is neither measured nor kept, and what could not be told,
 * because others used the machine, is not kept.
 *   callback  told of every step; may be NULL. user is passed on.
 * It takes a few seconds natively; on OpenCL devices up to a minute at the
 * first time, nearly all of it compiling.
 * Any thread, any time; two that tune at once disturb each other's times.
 * UNSUPPORTED: the cache is off, or no candidate runs. IO_ERROR: the outcome
 * could not be written; the message names the file. */
CLATTN_API clattn_status clattn_device_tune(clattn_context *context, int device,
                                            clattn_tune_callback callback,
                                            void *user);
/* What this context's device uses and why ("default for CPU devices", "tuned",
 * "CLATTN_CPU_ISA", ...), a line each, then the file that keeps what was tuned.
 * Cut to room bytes; 4096 are enough but for the longest paths. */
CLATTN_API clattn_status clattn_device_get_tuning(const clattn_context *context,
                                                  int device, char *text,
                                                  size_t room);
/* Forgets what was tuned: contexts that are created after this have defaults.
 * UNSUPPORTED: the cache is off. */
CLATTN_API clattn_status clattn_device_reset_tuning(clattn_context *context,
                                                    int device);

/* ---- Queues, events, buffers ----------------------------------------------
 * On the native CPU device work is done by the time the enqueuing call returns,
 * and its event is complete; everywhere else calls return at once. */
CLATTN_API clattn_status clattn_queue_create(clattn_context *context,
                                             int device, clattn_queue **queue);
CLATTN_API clattn_status clattn_queue_finish(clattn_queue *queue);
CLATTN_API void clattn_queue_destroy(clattn_queue *queue); /* finishes first */

/* Blocks until the work is done. DEVICE_ERROR if it failed. */
CLATTN_API clattn_status clattn_event_wait(clattn_event *event);
CLATTN_API void clattn_event_destroy(clattn_event *event); /* does not wait  */

/* size_bytes >= 1. Contents are undefined. OUT_OF_MEMORY names the device's
 * limit when the size is over it. */
CLATTN_API clattn_status clattn_buffer_create(clattn_context *context,
                                              int device, size_t size_bytes,
                                              clattn_buffer **buffer);
/* Borrows size_bytes of host memory as a buffer of the native CPU device, no
 * copy. The memory must be aligned for its element type and outlive the buffer.
 * UNSUPPORTED on other devices. */
CLATTN_API clattn_status clattn_buffer_wrap(clattn_context *context, int device,
                                            void *memory, size_t size_bytes,
                                            clattn_buffer **buffer);
CLATTN_API void clattn_buffer_destroy(clattn_buffer *buffer);
CLATTN_API size_t clattn_buffer_size(const clattn_buffer *buffer);
/* Blocking copies. On an in-order queue they come after its earlier work; on
 * an out-of-order queue after all work enqueued so far. */
CLATTN_API clattn_status clattn_buffer_write(clattn_queue *queue,
                                             clattn_buffer *dst,
                                             size_t offset_bytes,
                                             const void *src,
                                             size_t size_bytes);
CLATTN_API clattn_status clattn_buffer_read(clattn_queue *queue,
                                            const clattn_buffer *src,
                                            size_t offset_bytes, void *dst,
                                            size_t size_bytes);

/* ---- Tensor views -----------------------------------------------------------
 * A plain value that owns nothing. buffer NULL: an optional tensor is absent.
 * Strides are >= 0. An input may repeat elements (stride 0 broadcasts); an
 * output must not. */
typedef struct clattn_tensor {
  clattn_buffer *buffer;
  clattn_dtype dtype;
  int64_t offset, extent[4], stride[4];
} clattn_tensor;

/* Dense view whose memory order is b, h, s, d. */
CLATTN_API clattn_tensor clattn_view_bhsd(clattn_buffer *buffer,
                                          clattn_dtype dtype, int64_t b,
                                          int64_t h, int64_t s, int64_t d);
/* Dense view whose memory order is b, s, h, d, as projections leave heads;
 * the extent is [b, h, s, d] all the same. */
CLATTN_API clattn_tensor clattn_view_bshd(clattn_buffer *buffer,
                                          clattn_dtype dtype, int64_t b,
                                          int64_t h, int64_t s, int64_t d);
/* Dense row-major view of rank 1 to 4, right-aligned: a rank-2 tensor (m,n) is
 * [1,1,m,n], as numpy broadcasts. A rank outside 1..4 gives an absent tensor. */
CLATTN_API clattn_tensor clattn_view(clattn_buffer *buffer, clattn_dtype dtype,
                                     int rank, const int64_t *extent);

/* ---- The problem ------------------------------------------------------------ */
typedef enum clattn_path {
  CLATTN_AUTO = 0,    /* the first of the plan's rows that accepts            */
  CLATTN_FUSED = 1,   /* online softmax, memory linear in length; no weights  */
  CLATTN_UNFUSED = 2, /* matmul, softmax, matmul; quadratic memory; weights  */
  CLATTN_BLOCKED = 3  /* fused, but all scores of 64 queries are held at a
                       * time: weights (probabilities; averages in F32). For
                       * CPUs, and for as many keys as fit: natively 16,000,
                       * 3,000 in 1 MiB of local memory; else UNSUPPORTED     */
} clattn_path;

/* Outputs besides O. */
enum {
  CLATTN_OUT_LSE = 1,
  CLATTN_OUT_WEIGHTS = 2 /* UNSUPPORTED by FUSED; AUTO takes another path */
};

/* What clattn_args.weights receives (ONNX Attention's qk_matmul_output). */
typedef enum clattn_weights_stage {
  CLATTN_WEIGHTS_PROBABILITIES = 0, /* P; 0 where hidden          (ONNX 3)   */
  CLATTN_WEIGHTS_SCORES = 1,        /* scale * Q K^T              (ONNX 0)   */
  CLATTN_WEIGHTS_CAPPED = 2,        /* after softcap              (ONNX 1)   */
  CLATTN_WEIGHTS_BIASED = 3         /* S; -inf where hidden       (ONNX 2)   */
} clattn_weights_stage;

/* What true means in a boolean mask. */
typedef enum clattn_mask_polarity {
  CLATTN_TRUE_ATTENDS = 0, /* scaled_dot_product_attention, ONNX, numpy      */
  CLATTN_TRUE_HIDES = 1    /* nn.MultiheadAttention: true = ignore           */
} clattn_mask_polarity;

/* What stays the same from call to call. Lengths are not here: one plan serves
 * every batch size, query length and key length, so decoding never rebuilds. */
typedef struct clattn_desc {
  size_t struct_size;        /* set by clattn_desc_init                      */
  clattn_dtype dtype;        /* of q, k, v, out; sums are fp32. Default F32  */
  int64_t q_heads, kv_heads; /* >= 1, to be set; q_heads % kv_heads == 0     */
  int64_t qk_dim, v_dim;     /* >= 1, to be set; may differ                  */
  float scale;       /* any finite value; NaN (default): 1/sqrt(qk_dim) */
  float temperature; /* finite, > 0; default 1                       */
  float softcap;     /* finite, >= 0; 0 (default): none              */
  bool causal;       /* default false                                */
  int64_t window_left, window_right;  /* >= 0; -1 (default): unlimited        */
  clattn_mask_polarity mask_polarity; /* of mask and key_mask                */
  uint32_t outputs; /* CLATTN_OUT_* that calls will ask for         */
  clattn_weights_stage weights_stage; /* default PROBABILITIES               */
  bool average_weights; /* mean over query heads: weights [B,1,Sq,Skv];
                              * of PROBABILITIES only                        */
  clattn_path path;     /* default AUTO; a named path never changes     */
  bool backward;        /* the plan serves clattn_backward as well; needs
                              * CLATTN_OUT_LSE. Default false                */
} clattn_desc;

CLATTN_API void clattn_desc_init(clattn_desc *desc);

/* Validates, chooses implementations for the device, compiles and checks them
 * (each kernel is tried once on a small problem against the CPU path before it
 * is trusted; one that fails is refused and the next row serves).
 * UNSUPPORTED: no row accepts; the message gives every row's reason. */
CLATTN_API clattn_status clattn_plan_create(clattn_context *context, int device,
                                            const clattn_desc *desc,
                                            clattn_plan **plan);
CLATTN_API void clattn_plan_destroy(clattn_plan *plan);
/* The rows tried, in order, one a line: which are used and when, which were
 * refused and why. Then the tile that longer queries are worked off by, and why
 * that one: "tile: 64 queries x 64 keys, vectors of 16 (tuned)". Owned by the
 * plan; "" for NULL. */
CLATTN_API const char *clattn_plan_info(const clattn_plan *plan);
/* Temporary device memory that one execution of these lengths takes. */
CLATTN_API clattn_status clattn_plan_scratch_bytes(const clattn_plan *plan,
                                                   int64_t batch, int64_t q_len,
                                                   int64_t kv_len,
                                                   size_t *bytes);

#define CLATTN_AT_END INT64_MIN /* q_start[b] = kv_length[b] - q_len         */

/* Extents: B batch, Hq/Hk query/key heads, Sq query rows, Skv keys, D and Dv
 * head sizes. "|1" means the extent may be 1 and is then broadcast. */
typedef struct clattn_args {
  size_t struct_size;       /* set by clattn_args_init                        */
  clattn_tensor q;          /* [B,Hq,Sq,D]                                    */
  clattn_tensor k;          /* [B,Hk,Skv,D]                                   */
  clattn_tensor v;          /* [B,Hk,Skv,Dv]                                  */
  clattn_tensor out;        /* [B,Hq,Sq,Dv]                                   */
  clattn_tensor lse;        /* F32 [B,Hq,Sq,1], with CLATTN_OUT_LSE           */
  clattn_tensor weights;    /* F32 or the desc's dtype; [B,Hq,Sq,Skv], or
                            * [B,1,Sq,Skv] averaged; CLATTN_OUT_WEIGHTS      */
  clattn_tensor mask;       /* optional BOOL [B|1,Hq|1,Sq|1,Skv|1]            */
  clattn_tensor key_mask;   /* optional BOOL [B|1,1,1,Skv|1]                  */
  clattn_tensor bias;       /* optional F32/F16/BF16 [B|1,Hq|1,Sq|1,Skv|1]    */
  clattn_tensor kv_lengths; /* optional I32/I64 [B,1,1,1]; default Skv. Read on
                            * the device, clamped to 0..Skv                  */
  clattn_tensor q_starts;   /* optional I32/I64 [B,1,1,1]; else q_start. Read
                            * on the device, clamped to +-2^30               */
  int64_t q_start;          /* within +-2^30; default CLATTN_AT_END           */
  clattn_tensor alibi_slopes; /* optional F32 [1,Hq,1,1]                     */
  clattn_tensor sinks; /* optional F32 [1,Hq,1,1]; -inf: no sink         */
  float dropout; /* probability of dropping a weight, in [0,1); default 0   */
  uint64_t dropout_seed, dropout_offset; /* see clattn_dropout_keeps        */
} clattn_args;

CLATTN_API void clattn_args_init(clattn_args *args);

/* Enqueues one attention and returns. Inputs must stay unchanged and outputs
 * unread until the event is complete. An output's memory, from its first to its
 * last element, must not overlap an input's or another output's.
 *   scratch  NULL: lent by the queue. Else at least clattn_plan_scratch_bytes,
 *            on the queue's device, not shared with work in flight.
 *   wait     n_wait events (of any device) that come first; NULL if none.
 *   event    NULL, or receives an event that is yours to destroy. */
CLATTN_API clattn_status clattn_execute(const clattn_plan *plan,
                                        clattn_queue *queue,
                                        const clattn_args *args,
                                        clattn_buffer *scratch,
                                        clattn_event *const *wait,
                                        size_t n_wait, clattn_event **event);

/* Dropout, as in PyTorch: after softmax a weight P is replaced by 0 or by
 * P / (1 - dropout), without renormalising; lse is that of all keys, and weights
 * (PROBABILITIES) are given as they were used. Which weights stay is a function
 * of the coordinates alone, the same on every device and path and in backward:
 *
 *     bits >= floor(dropout * 2^32), with arithmetic modulo 2^32 and
 *     mix(x):   x ^= x >> 16;  x *= 0x7feb352d;  x ^= x >> 15;
 *               x *= 0x846ca68b;  x ^= x >> 16
 *     key(a):   for each w of seed's lower and upper half, offset's lower and
 *               upper half, b, h in turn:  a = mix(a + w + 0x9e3779b9)
 *     bits:     x = j + mix(i + key(0));
 *               x ^= x >> 16;  x *= 0x7feb352d;  x ^= x >> 15;
 *               x ^= mix(i ^ key(0x85ebca6b));  x *= 0x846ca68b;  x ^= x >> 16
 *
 * (mix is lowbias32 of C. Wellons' "Prospecting for Hash Functions", 2018.) Take
 * a new offset at every step, and another one for every layer. */

/* Whether the weight of query row i and key j in batch b, query head h stays.
 * Plain arithmetic on the host, for references and tests. */
CLATTN_API bool clattn_dropout_keeps(float dropout, uint64_t seed,
                                     uint64_t offset, int64_t b, int64_t h,
                                     int64_t i, int64_t j);

/* ---- Backward -----------------------------------------------------------------
 * With L the loss, D[i] = sum_d dO[i,d] O[i,d] and P recomputed from the lse that
 * forward saved (dropout: M is 0 or 1/(1-p), else 1):
 *
 *     dV[j]   = sum_i M P[i,j] dO[i]                 summed over the query heads
 *     dP[i,j] = M dO[i] . V[j]                       that share a key head, as dK
 *     dS[i,j] = P (dP[i,j] - D[i]) / temperature     = gradient of bias
 *     dX[i,j] = dS * (1 - (softcapped / c)^2) * scale
 *     dQ[i]   = sum_j dX[i,j] K[j]     dK[j] = sum_i dX[i,j] Q[i]
 *     dsink   = - sum_i exp(sink - lse[i]) D[i]
 *
 * (Dao et al. 2022, "FlashAttention", appendix B.) What a row does not see gets
 * and gives nothing, whatever it holds. Memory is linear in length on the fused
 * path. The same bits at every run on a device, whatever the thread count. */

/* Gradients are added to what their tensors hold instead of replacing it. */
enum {
  CLATTN_ADD_TO_INPUTS = 1, /* of what flows through: d_q, d_k, d_v, d_x, ... */
  CLATTN_ADD_TO_WEIGHTS = 2 /* of parameters: d_bias, d_sinks, d_weight, ...  */
};

typedef struct clattn_grads {
  size_t struct_size;  /* set by clattn_grads_init                            */
  clattn_tensor d_out; /* input: like args->out, the desc's dtype or F32      */
  /* Outputs, each optional: like q, k, v, bias and sinks, of any float type. A
   * bias that repeats has the sum. */
  clattn_tensor d_q, d_k, d_v, d_bias, d_sinks;
  uint32_t accumulate; /* CLATTN_ADD_TO_*; default 0                          */
} clattn_grads;

CLATTN_API void clattn_grads_init(clattn_grads *grads);
/* Enqueues the gradients of the attention that was executed with the same plan
 * and args; args->out and args->lse are inputs now, args->weights is ignored.
 * desc.backward must be set. Everything else as in clattn_execute. */
CLATTN_API clattn_status clattn_backward(
    const clattn_plan *plan, clattn_queue *queue, const clattn_args *args,
    const clattn_grads *grads, clattn_buffer *scratch,
    clattn_event *const *wait, size_t n_wait, clattn_event **event);
/* As clattn_plan_scratch_bytes, for clattn_backward. */
CLATTN_API clattn_status clattn_plan_backward_scratch_bytes(
    const clattn_plan *plan, int64_t batch, int64_t q_len, int64_t kv_len,
    size_t *bytes);

/* ---- Statistics of attention ----------------------------------------------------
 * What the weights of each row say, without the matrix of weights: P is computed
 * anew from the saved lse, block by block: memory grows with the length and with
 * the map, never with the product of the lengths.
 *
 *     entropy[i]  = - sum_j P[i,j] ln P[i,j]     in nats, 0 ln 0 = 0
 *     distance[i] = sum_j P[i,j] |p - j|         in tokens
 *     top[i]      = the K largest weights of the row, falling, and their keys;
 *                   of equal weights the smaller key first; key -1 and weight 0
 *                   where the row sees fewer
 *     map[I,J]    = mean over the rows i of block I of the sum over the keys j of
 *                   block J of P[i,j]
 *
 * P is that before dropout, of all keys that a row sees and, where there is one, a
 * sink. A row that sees no key has 0 in all of them; one whose lse is NaN has NaN,
 * and keys -1. The same bits at every run on a device, whatever the thread count. */
typedef struct clattn_stats {
  size_t struct_size; /* set by clattn_stats_init */
  /* Outputs, each optional. */
  clattn_tensor entropy, distance; /* F32 [B,Hq,Sq,1] */
  clattn_tensor top_weights;       /* F32 [B,Hq,Sq,K], K 1..32 */
  clattn_tensor top_keys;          /* I32 [B,Hq,Sq,K] */
  clattn_tensor map; /* F32 [B,Hq,ceil(Sq/map_rows),ceil(Skv/map_keys)] */
  int64_t map_rows, map_keys; /* rows and keys of a block; default 64 */
} clattn_stats;

CLATTN_API void clattn_stats_init(clattn_stats *stats);
/* Enqueues the statistics of the attention that was executed with the same plan
 * and args; args->lse is an input now; v, out, weights and dropout are ignored.
 * The desc must have CLATTN_OUT_LSE. The queue lends scratch for a map whose blocks
 * have many rows (natively more than 64): at most 16 times the map's size. On GPUs
 * also for the one of top_weights and top_keys that is not given. Everything else
 * as in clattn_execute. UNSUPPORTED: qk_dim takes more local memory than the
 * device has. */
CLATTN_API clattn_status clattn_statistics(const clattn_plan *plan,
                                           clattn_queue *queue,
                                           const clattn_args *args,
                                           const clattn_stats *stats,
                                           clattn_event *const *wait,
                                           size_t n_wait, clattn_event **event);

/* The whole in one blocking call, on the default device, dense host memory:
 * q [batch,q_heads,q_len,qk_dim], k and v [batch,kv_heads,kv_len,...], out
 * [batch,q_heads,q_len,v_dim]. desc.dtype must be F32 and outputs 0.
 * The compiled plan is kept in the context for the next call. */
CLATTN_API clattn_status clattn_attention_f32(clattn_context *context,
                                              const clattn_desc *desc,
                                              int64_t batch, int64_t q_len,
                                              int64_t kv_len, const float *q,
                                              const float *k, const float *v,
                                              float *out);

/* ---- Rotary position embedding -----------------------------------------------
 * (Su et al. 2021, "RoFormer".) For each pair k < R/2 with the table row's
 * c = cos[k], s = sin[k]:
 *     (x1, x2)   = interleaved ? (x[2k], x[2k+1]) : (x[k], x[k + R/2])
 *     (x1', x2') = (c x1 - s x2, s x1 + c x2)
 * Elements R..D-1 are copied. */
typedef struct clattn_rotary_args {
  size_t struct_size;         /* set by clattn_rotary_args_init              */
  clattn_tensor x;            /* [B,H,S,D] F32/F16/BF16                      */
  clattn_tensor out;          /* like x; may be the very same view           */
  clattn_tensor cos, sin;     /* F32/F16/BF16: [1,1,N,R/2] with positions or
                               * position_start; [B|1,1,S,R/2] otherwise     */
  clattn_tensor position_ids; /* optional I32/I64 [1,1,B|1,S]; row of the
                               * table, clamped to 0..N-1 on the device      */
  int64_t position_start;     /* >= 0: token s uses row position_start + s,
                               * which must be < N; -1 (default): not used   */
  int64_t rotary_dim;         /* R, even, <= D; 0 (default): D               */
  bool interleaved;           /* default false                               */
  bool inverse;               /* turn the other way, s := -s: the gradient of
                               * x from that of out; default false           */
} clattn_rotary_args;

CLATTN_API void clattn_rotary_args_init(clattn_rotary_args *args);
CLATTN_API clattn_status clattn_rotary(clattn_queue *queue,
                                       const clattn_rotary_args *args,
                                       clattn_event *const *wait, size_t n_wait,
                                       clattn_event **event);
/* Host tables [n, rotary_dim/2] of cos and sin of
 * position * base^(-2k/rotary_dim), computed in double. base is usually 1e4. */
CLATTN_API clattn_status clattn_rotary_table(int64_t n, int64_t rotary_dim,
                                             double base, float *cos_table,
                                             float *sin_table);

/* dst = src, converting between F32, F16 and BF16; extents equal, any strides,
 * same device. */
CLATTN_API clattn_status clattn_copy(clattn_queue *queue,
                                     const clattn_tensor *src,
                                     const clattn_tensor *dst,
                                     clattn_event *const *wait, size_t n_wait,
                                     clattn_event **event);

/* ---- Dense product --------------------------------------------------------------
 * out = x W^T + b, the linear layer. x [B,1,M,K], w [1,1,N,K] as PyTorch
 * stores weights (out,in), bias optional [1,1,1,N], out [B,1,M,N]. Each F32,
 * F16 or BF16, any strides. Follows clattn_context_config.dense. */
CLATTN_API clattn_status clattn_linear(
    clattn_queue *queue, const clattn_tensor *x, const clattn_tensor *w,
    const clattn_tensor *bias, const clattn_tensor *out,
    clattn_event *const *wait, size_t n_wait, clattn_event **event);

/* d_x = d_out w [B,1,M,K], d_w = d_out^T x [1,1,N,K], d_bias = sum of d_out over
 * its rows [1,1,1,N]; each may be NULL or absent. x is needed for d_w only, w for
 * d_x only. accumulate: CLATTN_ADD_TO_INPUTS for d_x, _WEIGHTS for the others. */
CLATTN_API clattn_status clattn_linear_backward(
    clattn_queue *queue, const clattn_tensor *x, const clattn_tensor *w,
    const clattn_tensor *d_out, const clattn_tensor *d_x,
    const clattn_tensor *d_w, const clattn_tensor *d_bias, uint32_t accumulate,
    clattn_event *const *wait, size_t n_wait, clattn_event **event);

/* ---- KV cache ----------------------------------------------------------------
 * Keys and values of up to `capacity` rows a batch entry, on the device; the
 * lengths are kept on the host and, for kernels, on the device. */
typedef struct clattn_kv_cache_config {
  size_t struct_size; /* set by clattn_kv_cache_config_init       */
  clattn_dtype dtype; /* of storage: F32 (default), F16, BF16     */
  int64_t batch, kv_heads, capacity, qk_dim, v_dim; /* each >= 1             */
} clattn_kv_cache_config;

CLATTN_API void clattn_kv_cache_config_init(clattn_kv_cache_config *config);
CLATTN_API clattn_status clattn_kv_cache_create(
    clattn_context *context, int device, const clattn_kv_cache_config *config,
    clattn_kv_cache **cache);
CLATTN_API void clattn_kv_cache_destroy(clattn_kv_cache *cache);
/* Enqueues copies of k [B,Hk,n,D] and v [B,Hk,n,Dv] (any float type) behind
 * each batch entry's rows. rows NULL: all n of every entry; else the first
 * rows[b] (0..n) of entry b. All fit or none is appended. */
CLATTN_API clattn_status clattn_kv_cache_append(
    clattn_kv_cache *cache, clattn_queue *queue, const clattn_tensor *k,
    const clattn_tensor *v, const int64_t *rows, clattn_event *const *wait,
    size_t n_wait, clattn_event **event);
/* Rewinds: entry b keeps its first lengths[b] rows, 0..its length. On an
 * out-of-order queue finish the work that uses the cache first. */
CLATTN_API clattn_status clattn_kv_cache_truncate(clattn_kv_cache *cache,
                                                  clattn_queue *queue,
                                                  const int64_t *lengths);
/* Rows held by entry b; -1 for a NULL cache or a b out of range. */
CLATTN_API int64_t clattn_kv_cache_length(const clattn_kv_cache *cache,
                                          int64_t b);
/* Borrowed views for clattn_args: k [B,Hk,n,D], v [B,Hk,n,Dv], n the longest
 * entry (>= 1; lengths hides what is absent), and lengths I32 [B,1,1,1]. Valid
 * until the next append or truncate. Any of the three may be NULL. */
CLATTN_API clattn_status clattn_kv_cache_view(const clattn_kv_cache *cache,
                                              clattn_tensor *k,
                                              clattn_tensor *v,
                                              clattn_tensor *lengths);

/* ---- The multi-head attention layer -------------------------------------------
 *     output = concat_h Attention(query Wq^T + bq, key Wk^T + bk,
 *                                 value Wv^T + bv)[h] Wo^T + bo
 * as torch.nn.MultiheadAttention (batch first). Head h owns columns
 * h*head_dim .. (h+1)*head_dim: split and join are strides, never copies. */
typedef struct clattn_mha_config {
  size_t struct_size;    /* set by clattn_mha_config_init                     */
  int64_t embed_dim;     /* E: columns of query                               */
  int64_t kdim, vdim;    /* columns of key and value; 0 (default): E          */
  int64_t out_dim;       /* columns of output; 0 (default): E                 */
  int64_t num_heads;     /* query heads                                       */
  int64_t num_kv_heads;  /* 0 (default): num_heads                            */
  int64_t head_dim;      /* 0 (default): E / num_heads, which must be exact   */
  clattn_desc attention; /* dtype, scale, softcap, causal, window, polarity,
                          * outputs, averaging, path; its heads and sizes are
                          * ignored and filled in from above, its backward
                          * from below                                       */
  bool backward;   /* keep what clattn_mha_backward needs; default false  */
  bool statistics; /* keep what clattn_mha_statistics needs; default false */
  /* Rotary embedding of projected queries and keys, as clattn_rotary has it, if
   * the tables are there: F32 [1,1,N,R/2], alive while the layer is. A cache
   * holds turned keys. */
  clattn_tensor rotary_cos, rotary_sin;
  bool rotary_interleaved; /* default false                                  */
} clattn_mha_config;

/* Defaults as PyTorch has them: not causal, mask polarity CLATTN_TRUE_HIDES. */
CLATTN_API void clattn_mha_config_init(clattn_mha_config *config);

/* Borrowed views, alive while the layer is. */
typedef struct clattn_mha_weights {
  size_t struct_size; /* set by clattn_mha_weights_init                    */
  clattn_tensor q_weight; /* [1,1,num_heads*head_dim, E]                     */
  clattn_tensor k_weight; /* [1,1,num_kv_heads*head_dim, kdim]               */
  clattn_tensor v_weight; /* [1,1,num_kv_heads*head_dim, vdim]               */
  clattn_tensor o_weight; /* [1,1,out_dim, num_heads*head_dim]               */
  clattn_tensor q_bias, k_bias, v_bias, o_bias; /* optional [1,1,1,n]        */
} clattn_mha_weights;

CLATTN_API void clattn_mha_weights_init(clattn_mha_weights *weights);
CLATTN_API clattn_status clattn_mha_create(clattn_context *context, int device,
                                           const clattn_mha_config *config,
                                           const clattn_mha_weights *weights,
                                           clattn_mha **mha);
CLATTN_API void clattn_mha_destroy(clattn_mha *mha);

typedef struct clattn_mha_args {
  size_t struct_size;    /* set by clattn_mha_args_init                     */
  clattn_tensor query;   /* [B,1,L,E]                                       */
  clattn_tensor key;     /* [B,1,S,kdim]; absent: the query                 */
  clattn_tensor value;   /* [B,1,S,vdim]; absent: the key                   */
  clattn_tensor output;  /* [B,1,L,out_dim]                                 */
  clattn_tensor weights; /* as in clattn_args                               */
  /* Optional outputs: queries [B,num_heads,L,head_dim] and the keys of this call
   * [B,num_kv_heads,S,head_dim] as they are multiplied, projected and turned;
   * any float type and strides. */
  clattn_tensor projected_query, projected_key;
  clattn_tensor attn_mask;        /* optional BOOL, as clattn_args.mask      */
  clattn_tensor key_padding_mask; /* optional BOOL [B|1,1,1,T]               */
  clattn_tensor bias, kv_lengths, q_starts, alibi_slopes, sinks;
  int64_t q_start; /* default CLATTN_AT_END                           */
  /* The projected keys and values are appended to it and attention runs over
   * all it holds, T keys (else T = S); not with kv_lengths. May be NULL. */
  clattn_kv_cache *cache;
  /* Rotary: rows of the tables for queries and for the keys projected in this
   * call, I32/I64 [1,1,B|1,L] and [1,1,B|1,S]. Absent: query i is at q_start + i
   * (at the end of the keys by default), key j at j, behind what a cache holds;
   * all must be rows of the tables. q_positions are needed with q_starts, and
   * without q_start with kv_lengths; both with a cache whose entries differ in
   * length. On the device positions are clamped to the tables. */
  clattn_tensor q_positions, k_positions;
  float dropout; /* of the attention weights, as in clattn_args              */
  uint64_t dropout_seed, dropout_offset;
} clattn_mha_args;

CLATTN_API void clattn_mha_args_init(clattn_mha_args *args);
CLATTN_API clattn_status clattn_mha_forward(
    clattn_mha *mha, clattn_queue *queue, const clattn_mha_args *args,
    clattn_event *const *wait, size_t n_wait, clattn_event **event);

typedef struct clattn_mha_grads {
  size_t struct_size;     /* set by clattn_mha_grads_init                    */
  clattn_tensor d_output; /* input: [B,1,L,out_dim]                          */
  /* Outputs, each optional. Where key or value was absent from the forward
   * pass, its gradient is part of what it stood for: d_query, d_key. */
  clattn_tensor d_query, d_key, d_value;
  clattn_mha_weights d_weights; /* struct_size set by the init as well       */
  clattn_tensor d_bias, d_sinks;
  uint32_t accumulate; /* CLATTN_ADD_TO_INPUTS: d_query, d_key, d_value;
                        * CLATTN_ADD_TO_WEIGHTS: the others. Default 0       */
} clattn_mha_grads;

CLATTN_API void clattn_mha_grads_init(clattn_mha_grads *grads);
/* Gradients of the layer's last forward, which must have had the same args and
 * no cache; config.backward must be set. INVALID_ARGUMENT if the shapes are not
 * those of the last forward. */
CLATTN_API clattn_status clattn_mha_backward(
    clattn_mha *mha, clattn_queue *queue, const clattn_mha_args *args,
    const clattn_mha_grads *grads, clattn_event *const *wait, size_t n_wait,
    clattn_event **event);

/* Statistics of the layer's last forward, which must have had the same args;
 * with a cache, of all keys it holds. config.statistics must be set. */
CLATTN_API clattn_status clattn_mha_statistics(
    clattn_mha *mha, clattn_queue *queue, const clattn_mha_args *args,
    const clattn_stats *stats, clattn_event *const *wait, size_t n_wait,
    clattn_event **event);

/* ---- Native handles -------------------------------------------------------------
 * The untyped ground of clattn_cl.h; use that header instead. Handles are
 * retained, never taken over. */
CLATTN_API clattn_status clattn_context_from_native(
    const clattn_context_config *config, void *native_context,
    void *native_device, clattn_context **context);
CLATTN_API clattn_status clattn_queue_from_native(clattn_context *context,
                                                  int device, void *native,
                                                  clattn_queue **queue);
CLATTN_API clattn_status clattn_buffer_from_native(clattn_context *context,
                                                   int device, void *native,
                                                   clattn_buffer **buffer);
CLATTN_API clattn_status clattn_event_from_native(clattn_context *context,
                                                  int device, void *native,
                                                  clattn_event **event);
/* A retained native event that the caller releases. */
CLATTN_API clattn_status clattn_event_get_native(clattn_event *event,
                                                 void **native);

#ifdef __cplusplus
}
#endif
#endif /* CLATTN_H */
