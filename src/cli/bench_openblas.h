/* bench_openblas.h - what the two rivals on OpenBLAS share: the library, and the
 * memory of a line. */
#ifndef CLATTN_SRC_CLI_BENCH_OPENBLAS_H
#define CLATTN_SRC_CLI_BENCH_OPENBLAS_H

#include "bench.h"

typedef struct openblas_library {
  void *handle;
  const bench_target *target;
  /* cblas.h, as far as it is needed. */
  void (*sgemm)(int order, int trans_a, int trans_b, int m, int n, int k,
                float alpha, const float *a, int lda, const float *b, int ldb,
                float beta, float *c, int ldc);
  void (*sgemv)(int order, int trans, int m, int n, float alpha, const float *a,
                int lda, const float *x, int incx, float beta, float *y,
                int incy);
} openblas_library;

bool openblas_open(const bench_target *target, void **state, char *why);
void openblas_close(void *state);

/* c [m,n] = alpha a [m,k] b^T + beta c, b [n,k] (transposed) or [k,n]. */
void openblas_product(const openblas_library *library, bool transposed,
                      int64_t m, int64_t n, int64_t k, float alpha,
                      const float *a, int64_t lda, const float *b, int64_t ldb,
                      float beta, float *c, int64_t ldc);

/* The query heads of a group read the same keys, and their rows lie one after
 * another: as one matrix of `rows` they are one product. It is cut into `cuts`
 * pieces of at most `piece` rows, a task each. */
typedef struct openblas_work {
  const openblas_library *library;
  const bench_problem *problem;
  float scale;
  int64_t rows, piece, cuts; /* of a key head */
  int threads;
  float *out;     /* [B,Hq,Sq,Dv] */
  float *weights; /* [B,Hq,Sq,Skv]; NULL unless wanted */
  float *scores;  /* [threads, score_floats] */
  size_t score_floats;
} openblas_work;

/* `piece` rows a task; fewer where there are not enough for all threads and
 * `divide` allows it. scores of `columns` columns. */
bool openblas_prepare(void *state, const bench_problem *problem, int64_t piece,
                      bool divide, int64_t columns, void **work, char *why);
bool openblas_read(void *work, bench_output which, size_t row, void *data,
                   char *why);
void openblas_destroy(void *work);
/* Calls task for each piece of each key head, on the team. */
bool openblas_run(openblas_work *work,
                  void (*task)(void *work, size_t i, int thread));

/* Piece i: its first row (of all rows of all heads), how many, which key head,
 * and which row of the group is its first. */
typedef struct openblas_piece {
  int64_t first, n, head, row;
} openblas_piece;
openblas_piece openblas_piece_at(const openblas_work *work, size_t i);
/* Keys that a row of a group sees. */
int64_t openblas_seen(const openblas_work *work, int64_t row);

#endif
