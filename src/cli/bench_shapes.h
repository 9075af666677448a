/* bench_shapes.h - the problems that clattn bench times, read from text files.
 *
 * One a line, `#` begins a comment:
 *
 *   name batch q_heads kv_heads q_len kv_len qk_dim v_dim f32|f16|bf16
 *   causal|full */
#ifndef CLATTN_SRC_CLI_BENCH_SHAPES_H
#define CLATTN_SRC_CLI_BENCH_SHAPES_H

#include "cli.h"

enum { BENCH_NAME_CHARS = 64 };

typedef struct bench_shape {
  char name[BENCH_NAME_CHARS];
  int64_t batch, q_heads, kv_heads, q_len, kv_len, qk_dim, v_dim;
  clattn_dtype dtype; /* of q, k, v and out */
  bool causal;        /* the last query stands at the last key */
} bench_shape;

typedef struct bench_shapes {
  bench_shape *list; /* [n] */
  size_t n;
} bench_shapes;

/* A file, or one that is built in: models, scaling, smoke. Prints what is wrong
 * with which line; _free is due either way. */
bool bench_shapes_read(const char *name, bench_shapes *shapes);
void bench_shapes_free(bench_shapes *shapes);

/* Keys that row i sees: they are the first ones. */
int64_t bench_shape_seen(const bench_shape *shape, int64_t i);
/* Floating-point operations: 2 (qk_dim + v_dim) for each pair of a query and a
 * key that it sees. */
double bench_shape_flop(const bench_shape *shape);
/* Of backward: two products more with the keys and queries, one with the values. */
double bench_shape_backward_flop(const bench_shape *shape);
/* Bytes of Q, K, V and O, each once. */
double bench_shape_bytes(const bench_shape *shape);
/* Whether reading the keys and values, not computing, is what takes time: a
 * few queries use each of them only a few times. */
bool bench_shape_reads(const bench_shape *shape);

/* The files of bench/shapes, made by scripts/embed.c; the last has no name. */
typedef struct bench_file {
  const char *name; /* "models.txt" */
  const unsigned char *bytes;
  size_t length;
} bench_file;

extern const bench_file bench_files[];

#endif
