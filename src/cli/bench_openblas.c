/* bench_openblas.c - attention as one writes it on OpenBLAS: for each head a
 * product, a softmax over the whole matrix of scores, a product; and what this
 * shares with the tiled form of bench_openblas_flash.c.
 *
 * OpenBLAS runs with one thread, and heads (or pieces of their rows) are spread
 * over threads here. The other way, products on OpenBLAS's threads one after
 * another, was slower wherever it was tried (2 cores, GPT-2's prefill: 2.8
 * against 1.6 times the library's time, the tiled form 4.2 against 1.6): the
 * softmax between the products has one thread then, and small products wake
 * the others for little. */
#define _POSIX_C_SOURCE 200809L
#include "bench_openblas.h"

#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- the library --------------------------------------------------------- */

enum { ROW_MAJOR = 101, NO_TRANS = 111, TRANS = 112 };

/* ISO C has no cast from data to code. */
static bool find(void *library, const char *name, void *function) {
  void *symbol = dlsym(library, name);
  if (symbol != NULL) memcpy(function, &symbol, sizeof symbol);
  return symbol != NULL;
}

static bool load(openblas_library *library, char *why) {
  static const char *const names[] = {"libopenblas.so.0", "libopenblas.so"};
  char *(*config)(void);
  void (*set_threads)(int);
  for (int i = 0; library->handle == NULL && i < 2; i++)
    library->handle = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
  if (library->handle == NULL)
    return bench_refuse(why, "OpenBLAS is not installed: neither %s nor %s",
                        names[0], names[1]);
  if (!find(library->handle, "cblas_sgemm", &library->sgemm) ||
      !find(library->handle, "cblas_sgemv", &library->sgemv) ||
      !find(library->handle, "openblas_set_num_threads", &set_threads))
    return bench_refuse(why, "the OpenBLAS found has no cblas_sgemm");
  if (find(library->handle, "openblas_get_config", &config) &&
      strstr(config(), "USE64BITINT") != NULL)
    return bench_refuse(why, "the OpenBLAS found takes 64-bit integers");
  set_threads(1);
  return true;
}

bool openblas_open(const bench_target *target, void **state, char *why) {
  *state = NULL;
  if (!target->on_host)
    return bench_refuse(why, "runs on the host's cores, the device does not");
  openblas_library *library = calloc(1, sizeof *library);
  if (library == NULL) return bench_refuse(why, "no memory");
  library->target = target;
  if (load(library, why)) {
    *state = library;
    return true;
  }
  openblas_close(library);
  return false;
}

void openblas_close(void *state) {
  openblas_library *library = state;
  if (library == NULL) return;
  if (library->handle != NULL) dlclose(library->handle);
  free(library);
}

/* A single row is a matrix-vector product, which sgemm does not notice. Where c
 * is not to be read, sgemv of some versions does, and keeps a NaN. */
void openblas_product(const openblas_library *library, bool transposed,
                      int64_t m, int64_t n, int64_t k, float alpha,
                      const float *a, int64_t lda, const float *b, int64_t ldb,
                      float beta, float *c, int64_t ldc) {
  if (m == 1) {
    if (beta == 0) memset(c, 0, (size_t)n * sizeof *c);
    library->sgemv(ROW_MAJOR, transposed ? NO_TRANS : TRANS,
                   (int)(transposed ? n : k), (int)(transposed ? k : n), alpha,
                   b, (int)ldb, a, 1, beta, c, 1);
  } else {
    library->sgemm(ROW_MAJOR, NO_TRANS, transposed ? TRANS : NO_TRANS, (int)m,
                   (int)n, (int)k, alpha, a, (int)lda, b, (int)ldb, beta, c,
                   (int)ldc);
  }
}

/* ---- the work of a line -------------------------------------------------- */

void openblas_destroy(void *work) {
  openblas_work *w = work;
  if (w == NULL) return;
  free(w->out);
  free(w->weights);
  free(w->scores);
  free(w);
}

static bool allocate(openblas_work *w, int64_t columns, char *why) {
  const bench_shape *s = w->problem->shape;
  const double rows = (double)(s->batch * s->q_heads * s->q_len);
  const double out = rows * (double)s->v_dim * sizeof(float);
  w->out = bench_alloc(out, "the output", why);
  if (w->out == NULL) return false;
  memset(w->out, 0xff, (size_t)out); /* NaN: not a result */
  if (w->problem->weights) {         /* the scores are made where they stay */
    w->weights = bench_alloc(rows * (double)s->kv_len * sizeof(float),
                             "the weights", why);
    return w->weights != NULL;
  }
  w->score_floats = (size_t)(w->piece * columns + 15) / 16 * 16;
  w->scores = bench_alloc((double)w->score_floats * w->threads * sizeof(float),
                          "the matrix of scores", why);
  return w->scores != NULL;
}

bool openblas_prepare(void *state, const bench_problem *problem, int64_t piece,
                      bool divide, int64_t columns, void **work, char *why) {
  const bench_shape *s = problem->shape;
  const openblas_library *library = state;
  *work = NULL;
  if (s->dtype != CLATTN_F32) return bench_refuse(why, "f32 only");
  openblas_work *w = calloc(1, sizeof *w);
  if (w == NULL) return bench_refuse(why, "no memory");
  const int64_t heads = s->batch * s->kv_heads;
  w->library = library;
  w->problem = problem;
  w->scale = 1.0f / sqrtf((float)s->qk_dim);
  w->threads = library->target->threads;
  /* What is this small is done before another thread has woken. */
  if (bench_shape_flop(s) < 1e6) w->threads = 1;
  w->rows = s->q_len * (s->q_heads / s->kv_heads);
  w->piece = piece < w->rows ? piece : w->rows;
  if (divide && heads < w->threads) {
    const int64_t pieces = (w->threads + heads - 1) / heads;
    const int64_t share = (w->rows + pieces - 1) / pieces;
    if (share < w->piece) w->piece = share;
  }
  w->cuts = (w->rows + w->piece - 1) / w->piece;
  if (allocate(w, columns, why)) {
    *work = w;
    return true;
  }
  openblas_destroy(w);
  return false;
}

bool openblas_run(openblas_work *w,
                  void (*task)(void *work, size_t i, int thread)) {
  const bench_shape *s = w->problem->shape;
  const size_t n = (size_t)(s->batch * s->kv_heads * w->cuts);
  if (w->threads > 1)
    bench_team_run(w->library->target->team, n, task, w);
  else
    for (size_t i = 0; i < n; i++) task(w, i, 0);
  return true;
}

/* The last pieces first: where the mask is causal they have the most keys. */
openblas_piece openblas_piece_at(const openblas_work *w, size_t i) {
  const bench_shape *s = w->problem->shape;
  const int64_t heads = s->batch * s->kv_heads;
  openblas_piece p;
  p.head = (int64_t)i % heads;
  p.row = (w->cuts - 1 - (int64_t)i / heads) * w->piece;
  p.n = w->rows - p.row < w->piece ? w->rows - p.row : w->piece;
  p.first = p.head * w->rows + p.row;
  return p;
}

int64_t openblas_seen(const openblas_work *w, int64_t row) {
  return bench_shape_seen(w->problem->shape, row % w->problem->shape->q_len);
}

bool openblas_read(void *work, bench_output which, size_t row, void *data,
                   char *why) {
  const openblas_work *w = work;
  const float *from = which == BENCH_OUT ? w->out : w->weights;
  const bench_shape *s = w->problem->shape;
  const size_t n = (size_t)(which == BENCH_OUT ? s->v_dim : s->kv_len);
  (void)why;
  memcpy(data, from + row * n, n * sizeof *from);
  return true;
}

/* ---- the whole matrix of scores ------------------------------------------ */

/* Turns a row of scores into exponentials; returns 1 / their sum. */
static float softmax(const openblas_work *w, float *x, int64_t seen) {
  const bench_vector *vector = w->library->target->vector;
  const int64_t n = w->problem->shape->kv_len;
  float sum = 0;
  if (seen > 0)
    sum = vector->exp_sum(x, (size_t)seen,
                          vector->max(x, (size_t)seen, -INFINITY));
  memset(x + seen, 0, (size_t)(n - seen) * sizeof *x);
  return sum > 0 ? 1 / sum : 0;
}

static void whole_task(void *user, size_t i, int thread) {
  /* q [rows,D]  k [kv,D]  v [kv,Dv]  scores [n,kv]  factors [n]  o [rows,Dv] */
  const openblas_work *w = user;
  const bench_problem *p = w->problem;
  const bench_vector *vector = w->library->target->vector;
  const int64_t D = p->shape->qk_dim, Dv = p->shape->v_dim;
  const int64_t kv = p->shape->kv_len;
  const openblas_piece piece = openblas_piece_at(w, i);
  const float *q = (const float *)p->q + piece.first * D;
  const float *k = (const float *)p->k + piece.head * kv * D;
  const float *v = (const float *)p->v + piece.head * kv * Dv;
  float *o = w->out + piece.first * Dv;
  float *scores = w->weights ? w->weights + piece.first * kv
                             : w->scores + (size_t)thread * w->score_floats;
  float *factors = w->weights ? NULL : scores + w->piece * kv;
  openblas_product(w->library, true, piece.n, kv, D, w->scale, q, D, k, D, 0,
                   scores, kv);
  for (int64_t r = 0; r < piece.n; r++) {
    float *row = scores + r * kv;
    const float factor = softmax(w, row, openblas_seen(w, piece.row + r));
    if (factors != NULL)
      factors[r] = factor;
    else
      vector->scale(row, (size_t)kv, factor);
  }
  openblas_product(w->library, false, piece.n, Dv, kv, 1, scores, kv, v, Dv, 0,
                   o, Dv);
  for (int64_t r = 0; factors != NULL && r < piece.n; r++)
    vector->scale(o + r * Dv, (size_t)Dv, factors[r]);
}

/* A head's scores at a time, or a group's where they are few rows. */
static bool whole_prepare(void *state, const bench_problem *problem,
                          void **work, char *why) {
  const bench_shape *s = problem->shape;
  return openblas_prepare(state, problem, s->q_len < 128 ? INT64_MAX : s->q_len,
                          true, s->kv_len + 1, work, why);
}

static bool whole_run(void *work, char *why) {
  (void)why;
  return openblas_run(work, whole_task);
}

const bench_rival bench_openblas = {
    "openblas",    openblas_open,    whole_prepare, whole_run,
    openblas_read, openblas_destroy, openblas_close};
