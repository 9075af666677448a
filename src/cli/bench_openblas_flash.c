/* bench_openblas_flash.c - the tiled form on OpenBLAS: 128 queries by 512 keys,
 * softmax as the keys come (Dao 2022, "FlashAttention"), so that the scores
 * stay in the caches; tiles that no query sees are skipped. */
#include "bench_openblas.h"

#include <math.h>
#include <string.h>

enum { QUERIES = 128, KEYS = 512 };

/* The rows of a piece so far. */
typedef struct running {
  float top[QUERIES], sum[QUERIES]; /* maximum; sum of exponentials below it */
} running;

/* One row of a tile: exponentials below the new maximum, and the row of o so
 * far multiplied by what the maximum has moved. */
static void softmax_row(const openblas_work *w, running *run, int64_t r,
                        float *x, int64_t n, int64_t seen, float *o) {
  const bench_vector *vector = w->library->target->vector;
  if (seen > 0) {
    const float top = vector->max(x, (size_t)seen, run->top[r]);
    if (top > run->top[r]) {
      const float moved = expf(run->top[r] - top); /* 0 the first time */
      run->sum[r] *= moved;
      if (moved > 0) vector->scale(o, (size_t)w->problem->shape->v_dim, moved);
      run->top[r] = top;
    }
    run->sum[r] += vector->exp_sum(x, (size_t)seen, top);
  }
  memset(x + seen, 0, (size_t)(n - seen) * sizeof *x);
}

static void flash_task(void *user, size_t i, int thread) {
  /* q [rows,D]  k [kv,D]  v [kv,Dv]  scores [QUERIES,KEYS]  o [rows,Dv] */
  const openblas_work *w = user;
  const bench_problem *p = w->problem;
  const int64_t D = p->shape->qk_dim, Dv = p->shape->v_dim;
  const int64_t kv = p->shape->kv_len;
  const openblas_piece piece = openblas_piece_at(w, i);
  const float *q = (const float *)p->q + piece.first * D;
  const float *k = (const float *)p->k + piece.head * kv * D;
  const float *v = (const float *)p->v + piece.head * kv * Dv;
  float *o = w->out + piece.first * Dv;
  float *scores = w->scores + (size_t)thread * w->score_floats;
  running run;
  int64_t most = 0; /* keys that any row of the piece sees */
  for (int64_t r = 0; r < piece.n; r++) {
    const int64_t seen = openblas_seen(w, piece.row + r);
    if (seen > most) most = seen;
    run.top[r] = -INFINITY;
    run.sum[r] = 0;
  }
  if (most == 0) memset(o, 0, (size_t)(piece.n * Dv) * sizeof *o);
  for (int64_t j = 0; j < most; j += KEYS) {
    const int64_t n = most - j < KEYS ? most - j : KEYS;
    openblas_product(w->library, true, piece.n, n, D, w->scale, q, D, k + j * D,
                     D, 0, scores, n);
    for (int64_t r = 0; r < piece.n; r++) {
      int64_t seen = openblas_seen(w, piece.row + r) - j;
      seen = seen < 0 ? 0 : seen > n ? n : seen;
      softmax_row(w, &run, r, scores + r * n, n, seen, o + r * Dv);
    }
    openblas_product(w->library, false, piece.n, Dv, n, 1, scores, n,
                     v + j * Dv, Dv, j == 0 ? 0.0f : 1.0f, o, Dv);
  }
  for (int64_t r = 0; r < piece.n; r++)
    w->library->target->vector->scale(o + r * Dv, (size_t)Dv,
                                      run.sum[r] > 0 ? 1 / run.sum[r] : 0);
}

static bool flash_prepare(void *state, const bench_problem *problem,
                          void **work, char *why) {
  *work = NULL;
  if (problem->weights) return bench_refuse(why, "never has all the weights");
  return openblas_prepare(state, problem, QUERIES, false, KEYS, work, why);
}

static bool flash_run(void *work, char *why) {
  (void)why;
  return openblas_run(work, flash_task);
}

const bench_rival bench_openblas_flash = {
    "openblas-flash", openblas_open,    flash_prepare, flash_run,
    openblas_read,    openblas_destroy, openblas_close};
