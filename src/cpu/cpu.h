/* cpu.h - the pieces of the native backend. */
#ifndef CLT_CPU_H
#define CLT_CPU_H

#include "../backend.h"

/* One group of a kernel: args is the kernel's struct, buffers its pointers,
 * local at least local_bytes of 64-byte-aligned memory of this thread. */
typedef void (*clt_cpu_kernel)(const void *args, void *const *buffers,
                               float *local, size_t gx, size_t gy, size_t gz);

/* The kernels compiled for one instruction set (kernels.c, once per set).
 * NULL: not in this set (GPU-shaped, or BLAS). */
typedef struct clt_cpu_kernels {
  const char *isa;  /* "avx512", "avx2", "base" */
  const char *name; /* "vectors of 16 (avx512)" */
  int lanes;        /* floats of a vector, no two sets the same */
  clt_cpu_kernel run[CLT_KERNEL_COUNT];
} clt_cpu_kernels;

#if defined(__x86_64__)
extern const clt_cpu_kernels clt_cpu_kernels_avx512;
extern const clt_cpu_kernels clt_cpu_kernels_avx2;
#endif
extern const clt_cpu_kernels clt_cpu_kernels_base;

/* The sets that this machine runs, widest first; how many. *named: what
 * $CLATTN_CPU_ISA has, NULL for nothing. (select.c) */
enum { CLT_CPU_SETS = 3 };
int clt_cpu_sets(const clt_cpu_kernels *sets[CLT_CPU_SETS], const char **named);

/* ---- threads (pool.c) ---- */
typedef struct clt_pool clt_pool;
/* threads >= 1 counts the caller. Threads start at the first parallel run. */
clt_pool *clt_pool_create(int threads, const clt_host *host);
void clt_pool_destroy(clt_pool *pool);
int clt_pool_threads(const clt_pool *pool);
/* Calls task(user, i, worker) for all i < n, worker < threads; returns when all
 * are done. Callers from several threads take turns. */
void clt_pool_run(clt_pool *pool, size_t n,
                  void (*task)(void *user, size_t i, int worker), void *user);

/* ---- OpenBLAS, loaded at run time (blas.c) ---- */
/* NULL if it is there, else the reason. Thread-safe. */
const char *clt_cpu_blas_missing(void);
/* The MATMUL_BLAS step. args, buffers as for MATMUL. */
clattn_status clt_cpu_blas_matmul(const clt_host *host, const void *args,
                                  void *const *buffers);

#endif /* CLT_CPU_H */
