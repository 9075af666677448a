/* bench_vector.h - what clattn bench has in vector code of its own: the probes'
 * inner loops, and softmax for rivals that multiply by a BLAS library.
 *
 * bench_vector.c is compiled once for each instruction set, bench_probe.c
 * chooses what the machine runs. */
#ifndef CLATTN_SRC_CLI_BENCH_VECTOR_H
#define CLATTN_SRC_CLI_BENCH_VECTOR_H

#include <stddef.h>

typedef struct bench_vector {
  const char *isa;
  /* Multiply-adds in independent chains; returns a number that depends on all.
   * fma_flop operations for each of n turns. */
  float (*fma)(long n);
  long fma_flop;
  /* Reads x [n], n a multiple of 1024, and returns the sum. */
  float (*read)(const float *x, size_t n);
  /* The largest of x [n] and `low`. */
  float (*max)(const float *x, size_t n, float low);
  /* x[i] = exp(x[i] - shift) for x[i] <= shift; returns their sum. */
  float (*exp_sum)(float *x, size_t n, float shift);
  /* x[i] *= factor */
  void (*scale)(float *x, size_t n, float factor);
} bench_vector;

extern const bench_vector bench_vector_base;
#ifdef __x86_64__
extern const bench_vector bench_vector_avx2, bench_vector_avx512;
#endif

#endif
