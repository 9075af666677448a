/* shim.c - clattn behind plain C calls, so that bench/rivals.py can measure it
 * beside other libraries without mirroring a struct; and what the machine gives
 * at this moment, to measure against. Built as $(BUILD)/bench/libclattn_bench.so.
 *
 * int results are 0, or else clattn_error_message() says why. Handles are freed
 * by their _free; the order does not matter. One thread at a time. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "shim.h"

CLATTN_API int shim_open(const char *device, shim **opened);
CLATTN_API void shim_free(shim *s);
CLATTN_API const char *shim_device_name(const shim *s);

/* One problem: an attention (q, k, v, out; lse, d_out, d_q, d_k, d_v) or a layer
 * (input, four weights, four biases, output, weights), as an array of tensors that
 * Python numbers. */
enum { SLOTS = 11 };
enum { Q, K, V, OUT, LSE, D_OUT, D_Q, D_K, D_V };
enum { INPUT, WQ, WK, WV, WO, BQ, BK, BV, BO, OUTPUT, WEIGHTS };

typedef struct shim_problem {
  shim *s;
  clattn_tensor slot[SLOTS];
  clattn_plan *plan;
  clattn_args args;
  clattn_grads grads;
  clattn_mha *mha;
  clattn_mha_args mha_args;
} shim_problem;

/* q [B,Hq,Sq,D], k [B,Hk,Skv,D], v [B,Hk,Skv,Dv], out [B,Hq,Sq,Dv], all dense;
 * dtype and path are clattn_dtype and clattn_path. backward: shim_run computes
 * the gradients of what shim_forward, called once the slots are written, left. */
CLATTN_API int shim_attention(shim *s, int64_t batch, int64_t q_heads,
                              int64_t kv_heads, int64_t q_len, int64_t kv_len,
                              int64_t qk_dim, int64_t v_dim, int dtype,
                              int causal, int path, int backward,
                              shim_problem **made);
CLATTN_API int shim_forward(shim_problem *p);
/* Self attention, F32: input and output [B,1,T,E], weights [E,E] as
 * torch.nn.Linear has them, biases [E]; with_weights also returns the mean over
 * the heads [B,1,T,T]. Call shim_layer_ready once the slots are written. */
CLATTN_API int shim_layer(shim *s, int64_t batch, int64_t tokens,
                          int64_t embed_dim, int64_t heads, int with_weights,
                          shim_problem **made);
CLATTN_API int shim_write(shim_problem *p, int slot, const void *data,
                          size_t bytes);
CLATTN_API int shim_read(shim_problem *p, int slot, void *data, size_t bytes);
CLATTN_API int shim_run(shim_problem *p); /* enqueue and finish */
CLATTN_API const char *shim_plan_info(const shim_problem *p);
CLATTN_API void shim_problem_free(shim_problem *p);

/* What `threads` threads reach together in `seconds`: multiply-adds in
 * registers, in FLOP/s, and reads of memory too large for any cache, in bytes
 * a second. 0 where threads or memory could not be had. */
CLATTN_API double shim_probe_fma(int threads, double seconds);
CLATTN_API double shim_probe_read(int threads, double seconds);

/* ---- clattn ---------------------------------------------------------------- */
int shim_open(const char *device, shim **opened) {
  *opened = NULL;
  shim *s = calloc(1, sizeof *s);
  if (!s) return clattn_set_error(CLATTN_OUT_OF_MEMORY, "shim_open");
  s->info.struct_size = sizeof s->info;
  clattn_status status = clattn_context_create(NULL, &s->context);
  if (!status) status = clattn_device_find(s->context, device, &s->device);
  if (!status) status = clattn_device_get_info(s->context, s->device, &s->info);
  if (!status) status = clattn_queue_create(s->context, s->device, &s->queue);
  if (status) {
    shim_free(s);
    return (int)status;
  }
  *opened = s;
  return 0;
}

void shim_free(shim *s) {
  if (!s) return;
  clattn_queue_destroy(s->queue);
  clattn_context_destroy(s->context);
  free(s);
}

const char *shim_device_name(const shim *s) { return s->info.name; }

static int problem_new(shim *s, shim_problem **made) {
  *made = calloc(1, sizeof **made);
  if (!*made) return clattn_set_error(CLATTN_OUT_OF_MEMORY, "shim problem");
  (*made)->s = s;
  return 0;
}

/* Keeps what was made only if it was made entirely. */
static int finished(int status, shim_problem **made) {
  if (status) {
    shim_problem_free(*made);
    *made = NULL;
  }
  return status;
}

/* A dense tensor with memory of its own. */
static int slot_new(shim_problem *p, int slot, clattn_dtype dtype, int64_t b,
                    int64_t h, int64_t s, int64_t d) {
  clattn_buffer *buffer;
  const size_t bytes = (size_t)(b * h * s * d) * clattn_dtype_size(dtype);
  const clattn_status status =
      clattn_buffer_create(p->s->context, p->s->device, bytes, &buffer);
  if (!status) p->slot[slot] = clattn_view_bhsd(buffer, dtype, b, h, s, d);
  return (int)status;
}

int shim_attention(shim *s, int64_t batch, int64_t q_heads, int64_t kv_heads,
                   int64_t q_len, int64_t kv_len, int64_t qk_dim, int64_t v_dim,
                   int dtype, int causal, int path, int backward,
                   shim_problem **made) {
  const clattn_dtype type = (clattn_dtype)dtype;
  clattn_desc desc;
  clattn_desc_init(&desc);
  desc.dtype = type;
  desc.q_heads = q_heads;
  desc.kv_heads = kv_heads;
  desc.qk_dim = qk_dim;
  desc.v_dim = v_dim;
  desc.causal = causal != 0;
  desc.path = (clattn_path)path;
  desc.backward = backward != 0;
  if (backward) desc.outputs |= CLATTN_OUT_LSE;
  int status = problem_new(s, made);
  if (status) return status;
  shim_problem *p = *made;
  status = (int)clattn_plan_create(s->context, s->device, &desc, &p->plan);
  if (!status) status = slot_new(p, Q, type, batch, q_heads, q_len, qk_dim);
  if (!status) status = slot_new(p, K, type, batch, kv_heads, kv_len, qk_dim);
  if (!status) status = slot_new(p, V, type, batch, kv_heads, kv_len, v_dim);
  if (!status) status = slot_new(p, OUT, type, batch, q_heads, q_len, v_dim);
  for (int i = LSE; i <= D_V && backward && !status; i++) {
    const bool keys = i == D_K || i == D_V;
    status = slot_new(p, i, i == LSE ? CLATTN_F32 : type, batch,
                      keys ? kv_heads : q_heads, keys ? kv_len : q_len,
                      i == LSE               ? 1
                      : i == D_Q || i == D_K ? qk_dim
                                             : v_dim);
  }
  clattn_args_init(&p->args);
  p->args.q = p->slot[Q];
  p->args.k = p->slot[K];
  p->args.v = p->slot[V];
  p->args.out = p->slot[OUT];
  p->args.lse = p->slot[LSE];
  clattn_grads_init(&p->grads);
  p->grads.d_out = p->slot[D_OUT];
  p->grads.d_q = p->slot[D_Q];
  p->grads.d_k = p->slot[D_K];
  p->grads.d_v = p->slot[D_V];
  return finished(status, made);
}

int shim_layer(shim *s, int64_t batch, int64_t tokens, int64_t embed_dim,
               int64_t heads, int with_weights, shim_problem **made) {
  const int64_t e = embed_dim;
  int status = problem_new(s, made);
  if (status) return status;
  shim_problem *p = *made;
  status = slot_new(p, INPUT, CLATTN_F32, batch, 1, tokens, e);
  if (!status) status = slot_new(p, OUTPUT, CLATTN_F32, batch, 1, tokens, e);
  for (int i = WQ; i <= WO && !status; i++)
    status = slot_new(p, i, CLATTN_F32, 1, 1, e, e);
  for (int i = BQ; i <= BO && !status; i++)
    status = slot_new(p, i, CLATTN_F32, 1, 1, 1, e);
  if (!status && with_weights)
    status = slot_new(p, WEIGHTS, CLATTN_F32, batch, 1, tokens, tokens);
  clattn_mha_config config;
  clattn_mha_config_init(&config);
  config.embed_dim = e;
  config.num_heads = heads;
  config.attention.outputs = with_weights ? CLATTN_OUT_WEIGHTS : 0;
  config.attention.average_weights = with_weights != 0;
  clattn_mha_weights parameters;
  clattn_mha_weights_init(&parameters);
  parameters.q_weight = p->slot[WQ], parameters.q_bias = p->slot[BQ];
  parameters.k_weight = p->slot[WK], parameters.k_bias = p->slot[BK];
  parameters.v_weight = p->slot[WV], parameters.v_bias = p->slot[BV];
  parameters.o_weight = p->slot[WO], parameters.o_bias = p->slot[BO];
  if (!status)
    status = (int)clattn_mha_create(s->context, s->device, &config, &parameters,
                                    &p->mha);
  clattn_mha_args_init(&p->mha_args);
  p->mha_args.query = p->slot[INPUT];
  p->mha_args.output = p->slot[OUTPUT];
  p->mha_args.weights = p->slot[WEIGHTS];
  return finished(status, made);
}

int shim_write(shim_problem *p, int slot, const void *data, size_t bytes) {
  return (int)clattn_buffer_write(p->s->queue, p->slot[slot].buffer, 0, data,
                                  bytes);
}

int shim_read(shim_problem *p, int slot, void *data, size_t bytes) {
  return (int)clattn_buffer_read(p->s->queue, p->slot[slot].buffer, 0, data,
                                 bytes);
}

int shim_run(shim_problem *p) {
  clattn_queue *queue = p->s->queue;
  clattn_status status;
  if (p->slot[D_OUT].buffer)
    status = clattn_backward(p->plan, queue, &p->args, &p->grads, NULL, NULL, 0,
                             NULL);
  else if (p->plan)
    status = clattn_execute(p->plan, queue, &p->args, NULL, NULL, 0, NULL);
  else
    status = clattn_mha_forward(p->mha, queue, &p->mha_args, NULL, 0, NULL);
  return (int)(status ? status : clattn_queue_finish(queue));
}

int shim_forward(shim_problem *p) {
  const clattn_status status =
      clattn_execute(p->plan, p->s->queue, &p->args, NULL, NULL, 0, NULL);
  return (int)(status ? status : clattn_queue_finish(p->s->queue));
}

const char *shim_plan_info(const shim_problem *p) {
  return clattn_plan_info(p->plan);
}

void shim_problem_free(shim_problem *p) {
  if (!p) return;
  clattn_mha_destroy(p->mha);
  clattn_plan_destroy(p->plan);
  for (int i = 0; i < SLOTS; i++) clattn_buffer_destroy(p->slot[i].buffer);
  free(p);
}

/* ---- probes ------------------------------------------------------------------ */
typedef float lanes4 __attribute__((vector_size(16)));
typedef float lanes8 __attribute__((vector_size(32)));
typedef float lanes16 __attribute__((vector_size(64)));

/* More chains than latency times ports of any core; few enough for registers. */
enum { CHAINS = 12, STEPS = 2000 };

/* STEPS rounds of CHAINS independent multiply-adds; the FLOPs done. The number
 * that comes out keeps the compiler from leaving any away. */
#define FMA_PROBE(name, lanes, type)                                           \
  static double name(float *out) {                                             \
    type x = {0}, y = {0}, a[CHAINS];                                          \
    x += 0.999999f, y += 1e-9f;                                                \
    for (int i = 0; i < CHAINS; i++) a[i] = y * (float)i;                      \
    for (int n = 0; n < STEPS; n++) {                                          \
      a[0] = a[0] * x + y, a[1] = a[1] * x + y, a[2] = a[2] * x + y;           \
      a[3] = a[3] * x + y, a[4] = a[4] * x + y, a[5] = a[5] * x + y;           \
      a[6] = a[6] * x + y, a[7] = a[7] * x + y, a[8] = a[8] * x + y;           \
      a[9] = a[9] * x + y, a[10] = a[10] * x + y, a[11] = a[11] * x + y;       \
    }                                                                          \
    for (int i = 1; i < CHAINS; i++) a[0] += a[i];                             \
    *out = a[0][0];                                                            \
    return 2.0 * lanes * CHAINS * STEPS;                                       \
  }

FMA_PROBE(fma_base, 4, lanes4)
#ifdef __x86_64__
__attribute__((target("avx2,fma"))) FMA_PROBE(fma_avx2, 8, lanes8)
    __attribute__((target("avx512f,fma"))) FMA_PROBE(fma_avx512, 16, lanes16)
#endif

        static double fma_best(float *out) {
#ifdef __x86_64__
  if (__builtin_cpu_supports("avx512f")) return fma_avx512(out);
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    return fma_avx2(out);
#endif
  return fma_base(out);
}

/* Memory that no cache holds; the place where reading goes on is kept from
 * probe to probe, so that nothing is read twice soon. */
enum { CHUNK = 1 << 20 };
static const size_t pool_bytes = (size_t)256 << 20;
static char *pool;

/* Sums of 64 bytes at a time, eight chains, over one chunk. */
static double read_chunk(const char *from, float *out) {
  const lanes4 *p = (const void *)from;
  lanes4 s[8] = {{0}};
  for (size_t i = 0; i < CHUNK / sizeof *p; i += 8) {
    s[0] += p[i], s[1] += p[i + 1], s[2] += p[i + 2], s[3] += p[i + 3];
    s[4] += p[i + 4], s[5] += p[i + 5], s[6] += p[i + 6], s[7] += p[i + 7];
  }
  for (int i = 1; i < 8; i++) s[0] += s[i];
  *out = s[0][0];
  return CHUNK;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef struct worker {
  pthread_t thread;
  bool reads;
  double until, done; /* done: FLOPs or bytes */
  size_t at, first, last;
  float sink;
} worker;

static void *work(void *arg) {
  worker *w = arg;
  while (now() < w->until) {
    if (w->reads) {
      w->done += read_chunk(pool + w->at, &w->sink);
      w->at += CHUNK;
      if (w->at >= w->last) w->at = w->first;
    } else {
      w->done += fma_best(&w->sink);
    }
  }
  return NULL;
}

static double probe(int threads, double seconds, bool reads) {
  enum { MOST = 256 };
  static size_t at[MOST]; /* where each thread goes on, within its share */
  static worker workers[MOST];
  if (threads < 1 || threads > MOST) return 0;
  const size_t chunks = pool_bytes / CHUNK / (size_t)threads;
  const double start = now();
  double done = 0;
  int started = 0;
  for (; started < threads; started++) {
    worker *w = &workers[started];
    const size_t first = (size_t)started * chunks * CHUNK;
    *w = (worker){.reads = reads,
                  .until = start + seconds,
                  .at = first + at[started] % (chunks * CHUNK),
                  .first = first,
                  .last = first + chunks * CHUNK};
    if (pthread_create(&w->thread, NULL, work, w)) break;
  }
  for (int i = 0; i < started; i++) {
    pthread_join(workers[i].thread, NULL);
    done += workers[i].done;
    at[i] = workers[i].at - workers[i].first;
  }
  return started == threads ? done / (now() - start) : 0;
}

double shim_probe_fma(int threads, double seconds) {
  return probe(threads, seconds, false);
}

double shim_probe_read(int threads, double seconds) {
  if (!pool) {
    pool = aligned_alloc(4096, pool_bytes);
    if (!pool) return 0;
    memset(pool, 1, pool_bytes); /* pages that were never written are one */
  }
  return probe(threads, seconds, true);
}
