/* bench_clblast.c - attention as one writes it on OpenCL today: batched products
 * by CLBlast, and a softmax kernel between them, on the device being measured.
 *
 * Query heads of a group are rows of one product. The scores of as many heads as
 * fit into a quarter of the device's memory, and at most 1 GiB, are computed at a
 * time. CLBlast compiles its kernels at the first call: that is done in prepare,
 * on one head. */
#define _POSIX_C_SOURCE 200809L
#include "bench_opencl.h"

#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Enumerators of clblast_c.h. */
enum { ROW_MAJOR = 101, PLAIN = 111, TRANSPOSED = 112 };

/* A work-group a row; ITEMS is 1 on CPUs, where that is fastest. */
static const char softmax_source[] =
    "__kernel __attribute__((reqd_work_group_size(ITEMS, 1, 1)))\n"
    "void softmax(__global float *scores, int kv_len, int q_len, int causal) "
    "{\n"
    "  __local float part[ITEMS];\n"
    "  const int row = get_group_id(0), item = get_local_id(0);\n"
    "  const int i = row % q_len;\n"
    "  const int seen = causal ? max(kv_len - q_len + i + 1, 0) : kv_len;\n"
    "  __global float *x = scores + (size_t)row * kv_len;\n"
    "  float top = -INFINITY, sum = 0;\n"
    "  for (int j = item; j < seen; j += ITEMS) top = fmax(top, x[j]);\n"
    "  part[item] = top;\n"
    "  for (int n = ITEMS / 2; n > 0; n /= 2) {\n"
    "    barrier(CLK_LOCAL_MEM_FENCE);\n"
    "    if (item < n) part[item] = fmax(part[item], part[item + n]);\n"
    "  }\n"
    "  barrier(CLK_LOCAL_MEM_FENCE);\n"
    "  top = part[0];\n"
    "  barrier(CLK_LOCAL_MEM_FENCE);\n"
    "  for (int j = item; j < seen; j += ITEMS) {\n"
    "    const float p = exp(x[j] - top);\n"
    "    x[j] = p;\n"
    "    sum += p;\n"
    "  }\n"
    "  part[item] = sum;\n"
    "  for (int n = ITEMS / 2; n > 0; n /= 2) {\n"
    "    barrier(CLK_LOCAL_MEM_FENCE);\n"
    "    if (item < n) part[item] += part[item + n];\n"
    "  }\n"
    "  barrier(CLK_LOCAL_MEM_FENCE);\n"
    "  const float factor = part[0] > 0 ? 1 / part[0] : 0;\n"
    "  for (int j = item; j < kv_len; j += ITEMS)\n"
    "    x[j] = j < seen ? x[j] * factor : 0;\n"
    "}\n";

/* ---- the library --------------------------------------------------------- */

typedef struct clblast_state {
  bench_cl cl;
  const bench_target *target;
  void *library, *program, *kernel;
  size_t items; /* of a work-group of the softmax */
  int (*gemm)(int layout, int a_transpose, int b_transpose, size_t m, size_t n,
              size_t k, float alpha, void *a, size_t a_offset, size_t a_ld,
              size_t a_stride, void *b, size_t b_offset, size_t b_ld,
              size_t b_stride, float beta, void *c, size_t c_offset,
              size_t c_ld, size_t c_stride, size_t batch, void **queue,
              void **event);
  int (*clear_cache)(void);
} clblast_state;

static bool load(clblast_state *s, char *why) {
  static const char *const names[] = {"libclblast.so.1", "libclblast.so"};
  for (int i = 0; s->library == NULL && i < 2; i++)
    s->library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
  if (s->library == NULL)
    return bench_refuse(why, "CLBlast is not installed: neither %s nor %s",
                        names[0], names[1]);
  void *gemm = dlsym(s->library, "CLBlastSgemmStridedBatched");
  void *clear = dlsym(s->library, "CLBlastClearCache");
  if (gemm == NULL || clear == NULL)
    return bench_refuse(why, "the CLBlast found is too old: want 1.4 or later");
  memcpy(&s->gemm, &gemm, sizeof gemm);
  memcpy(&s->clear_cache, &clear, sizeof clear);
  return true;
}

static bool build(clblast_state *s, char *why) {
  const char *text = softmax_source;
  char options[32];
  int32_t error;
  s->items = s->target->info.type == CLATTN_DEVICE_CPU ? 1 : 128;
  if (s->items > s->target->info.max_work_group) s->items = 1;
  snprintf(options, sizeof options, "-DITEMS=%zu", s->items);
  s->program =
      s->cl.clCreateProgramWithSource(s->cl.context, 1, &text, NULL, &error);
  if (error == 0)
    error =
        s->cl.clBuildProgram(s->program, 1, &s->cl.device, options, NULL, NULL);
  if (error == 0)
    s->kernel = s->cl.clCreateKernel(s->program, "softmax", &error);
  return error == 0 ||
         bench_refuse(why, "the softmax kernel: OpenCL error %d", error);
}

/* The library stays loaded: its own statics are destroyed at exit. Its cache
 * of programs must not outlive the context. */
static void clblast_close(void *state) {
  clblast_state *s = state;
  if (s == NULL) return;
  if (s->clear_cache != NULL) s->clear_cache();
  if (s->kernel != NULL) s->cl.clReleaseKernel(s->kernel);
  if (s->program != NULL) s->cl.clReleaseProgram(s->program);
  bench_cl_close(&s->cl);
  free(s);
}

static bool clblast_open(const bench_target *target, void **state, char *why) {
  *state = NULL;
  clblast_state *s = calloc(1, sizeof *s);
  if (s == NULL) return bench_refuse(why, "no memory");
  s->target = target;
  if (bench_cl_open(target, &s->cl, why) && load(s, why) && build(s, why)) {
    *state = s;
    return true;
  }
  clblast_close(s);
  return false;
}

/* ---- the work of a line -------------------------------------------------- */

typedef struct clblast_work {
  const clblast_state *s;
  const bench_shape *shape;
  size_t rows;  /* of a key head: q_len of each query head of its group */
  size_t heads; /* batch * kv_heads, */
  size_t step;  /* and how many of them at a time */
  void *q;      /* [heads,rows,D]   */
  void *k;      /* [heads,kv,D]     */
  void *v;      /* [heads,kv,Dv]    */
  void *scores; /* [step,rows,kv]   */
  void *out;    /* [heads,rows,Dv]  */
} clblast_work;

static void clblast_destroy(void *work) {
  clblast_work *w = work;
  if (w == NULL) return;
  void *const buffers[] = {w->q, w->k, w->v, w->scores, w->out};
  for (int i = 0; i < 5; i++)
    if (buffers[i] != NULL) w->s->cl.clReleaseMemObject(buffers[i]);
  free(w);
}

/* Heads from `first`; why names the call that failed. */
static bool attend(const clblast_work *w, size_t first, size_t n, char *why) {
  const clblast_state *s = w->s;
  const size_t D = (size_t)w->shape->qk_dim, Dv = (size_t)w->shape->v_dim;
  const size_t kv = (size_t)w->shape->kv_len, rows = w->rows;
  void *queue = s->cl.queue;
  int error =
      s->gemm(ROW_MAJOR, PLAIN, TRANSPOSED, rows, kv, D, 1 / sqrtf((float)D),
              w->q, first * rows * D, D, rows * D, w->k, first * kv * D, D,
              kv * D, 0, w->scores, 0, kv, rows * kv, n, &queue, NULL);
  if (error != 0) return bench_refuse(why, "CLBlast: Q K^T: error %d", error);
  const int lengths[3] = {(int)kv, (int)w->shape->q_len, w->shape->causal};
  const size_t global = n * rows * s->items;
  error = s->cl.clSetKernelArg(s->kernel, 0, sizeof w->scores, &w->scores);
  for (uint32_t i = 0; error == 0 && i < 3; i++)
    error = s->cl.clSetKernelArg(s->kernel, i + 1, sizeof(int), &lengths[i]);
  if (error == 0)
    error = s->cl.clEnqueueNDRangeKernel(queue, s->kernel, 1, NULL, &global,
                                         &s->items, 0, NULL, NULL);
  if (error != 0) return bench_refuse(why, "softmax: OpenCL error %d", error);
  error = s->gemm(ROW_MAJOR, PLAIN, PLAIN, rows, Dv, kv, 1, w->scores, 0, kv,
                  rows * kv, w->v, first * kv * Dv, Dv, kv * Dv, 0, w->out,
                  first * rows * Dv, Dv, rows * Dv, n, &queue, NULL);
  return error == 0 || bench_refuse(why, "CLBlast: P V: error %d", error);
}

static bool finish(const clblast_work *w, char *why) {
  const int32_t error = w->s->cl.clFinish(w->s->cl.queue);
  return error == 0 || bench_refuse(why, "clFinish: OpenCL error %d", error);
}

static bool allocate(clblast_work *w, const bench_problem *p, char *why) {
  const bench_shape *s = p->shape;
  const bench_cl *cl = &w->s->cl;
  const clattn_device_info *info = &w->s->target->info;
  const double heads = (double)w->heads, rows = (double)w->rows;
  const double kv = (double)s->kv_len, size = sizeof(float);
  const double D = (double)s->qk_dim, Dv = (double)s->v_dim;
  const double head = rows * kv * size;
  double most = fmin((double)info->memory_bytes / 4, 1 << 30);
  most = fmin(most, (double)info->max_alloc_bytes);
  if (p->weights) most = (double)info->max_alloc_bytes;
  w->step = head * heads <= most ? w->heads : (size_t)(most / head);
  if (w->step == 0 || (p->weights && w->step < w->heads))
    return bench_refuse(why, "the scores of %s take %.1f GiB, at most %.1f fit",
                        p->weights ? "all heads" : "a head",
                        (p->weights ? heads : 1) * head / (1 << 30),
                        most / (1 << 30));
  if (w->s->target->on_host &&
      !bench_fits((double)w->step * head, "the matrix of scores", why))
    return false;
  /* NaN in the output: whatever is not written is no result. */
  void *nan = bench_alloc(heads * rows * Dv * size, "the output", why);
  if (nan == NULL) return false;
  memset(nan, 0xff, (size_t)(heads * rows * Dv * size));
  w->out = bench_cl_buffer(cl, heads * rows * Dv * size, nan, "output", why);
  free(nan);
  return w->out != NULL &&
         (w->q = bench_cl_buffer(cl, heads * rows * D * size, p->q, "q",
                                 why)) != NULL &&
         (w->k = bench_cl_buffer(cl, heads * kv * D * size, p->k, "k", why)) !=
             NULL &&
         (w->v = bench_cl_buffer(cl, heads * kv * Dv * size, p->v, "v", why)) !=
             NULL &&
         (w->scores = bench_cl_buffer(cl, (double)w->step * head, NULL,
                                      "scores", why)) != NULL;
}

static bool clblast_prepare(void *state, const bench_problem *problem,
                            void **work, char *why) {
  const bench_shape *shape = problem->shape;
  *work = NULL;
  if (shape->dtype != CLATTN_F32) return bench_refuse(why, "f32 only");
  clblast_work *w = calloc(1, sizeof *w);
  if (w == NULL) return bench_refuse(why, "no memory");
  w->s = state;
  w->shape = shape;
  w->rows = (size_t)(shape->q_len * (shape->q_heads / shape->kv_heads));
  w->heads = (size_t)(shape->batch * shape->kv_heads);
  if (allocate(w, problem, why) && attend(w, 0, 1, why) && finish(w, why)) {
    *work = w;
    return true;
  }
  clblast_destroy(w);
  return false;
}

static bool clblast_run(void *work, char *why) {
  const clblast_work *w = work;
  for (size_t first = 0; first < w->heads; first += w->step) {
    const size_t left = w->heads - first;
    if (!attend(w, first, left < w->step ? left : w->step, why)) return false;
  }
  return finish(w, why);
}

static bool clblast_read(void *work, bench_output which, size_t row, void *data,
                         char *why) {
  const clblast_work *w = work;
  void *from = which == BENCH_OUT ? w->out : w->scores;
  const int64_t n = which == BENCH_OUT ? w->shape->v_dim : w->shape->kv_len;
  const size_t bytes = (size_t)n * sizeof(float);
  const int32_t error = w->s->cl.clEnqueueReadBuffer(
      w->s->cl.queue, from, 1, row * bytes, bytes, data, 0, NULL, NULL);
  return error == 0 ||
         bench_refuse(why, "reading a result: OpenCL error %d", error);
}

const bench_rival bench_clblast = {"clblast",    clblast_open, clblast_prepare,
                                   clblast_run,  clblast_read, clblast_destroy,
                                   clblast_close};
