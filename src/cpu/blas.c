/* blas.c - the dense product by OpenBLAS, which is loaded only when asked for.
 *
 * The library found belongs to the whole process, so its number of threads is
 * left as the process has set it. */
#ifndef _POSIX_C_SOURCE
#  define _POSIX_C_SOURCE 200809L
#endif
#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "../../cl/args.h"
#include "cpu.h"

/* cblas.h, as far as it is needed. */
enum { ROW_MAJOR = 101, NO_TRANS = 111, TRANS = 112 };
typedef void (*sgemm_fn)(int order, int trans_a, int trans_b, int m, int n,
                         int k, float alpha, const float *a, int lda,
                         const float *b, int ldb, float beta, float *c,
                         int ldc);

static pthread_once_t once = PTHREAD_ONCE_INIT;
static sgemm_fn sgemm; /* written once, read after */
static char missing[256];

/* A build with 64-bit integers under the common name has another ABI. */
static bool has_int_abi(void *library) {
  void *symbol = dlsym(library, "openblas_get_config");
  if (!symbol) return true;
  char *(*get_config)(void);
  memcpy(&get_config, &symbol, sizeof get_config);
  const char *config = get_config();
  return !config || !strstr(config, "USE64BITINT");
}

static void load(void) {
  static const char *const names[] = {"libopenblas.so.0", "libopenblas.so",
                                      "libcblas.so.3"};
  snprintf(missing, sizeof missing,
           "no BLAS library is installed (libopenblas.so.0)");
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    void *library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (!library) continue;
    void *symbol = dlsym(library, "cblas_sgemm");
    if (symbol && has_int_abi(library)) {
      memcpy(&sgemm, &symbol, sizeof sgemm);
      return;
    }
    snprintf(missing, sizeof missing, "%s has no cblas_sgemm with 32-bit sizes",
             names[i]);
    dlclose(library);
  }
}

const char *clt_cpu_blas_missing(void) {
  pthread_once(&once, load);
  return sgemm ? NULL : missing;
}

/* How BLAS addresses a matrix of rows x columns: rows follow one another at a
 * distance of ld, or, transposed, columns do. */
typedef struct layout {
  bool transposed;
  int ld;
} layout;

static bool find_layout(int64_t rows, int64_t columns, int64_t row_stride,
                        int64_t column_stride, layout *out) {
  int64_t ld = rows == 1 ? columns : row_stride;
  bool transposed = false;
  if ((columns > 1 && column_stride != 1) || ld < columns) {
    ld = columns == 1 ? rows : column_stride;
    transposed = true;
    if ((rows > 1 && row_stride != 1) || ld < rows) return false;
  }
  if (ld > INT_MAX) return false;
  out->transposed = transposed;
  out->ld = (int)ld;
  return true;
}

static int64_t element(const clt_view *view, int64_t b, int64_t h) {
  return view->offset + b * view->s[0] + h * view->s[1];
}

static clattn_status find_layouts(const clt_host *host,
                                  const clt_matmul_args *p, layout *a,
                                  layout *b, layout *c) {
  struct {
    const char *name;
    const clt_view *view;
    int rows, columns;
    layout *out;
  } operands[] = {{"a", &p->a, p->m, p->k, a},
                  {"b", &p->b, p->n, p->k, b},
                  {"c", &p->c, p->m, p->n, c}};
  for (size_t i = 0; i < sizeof operands / sizeof *operands; i++) {
    const int64_t *s = operands[i].view->s;
    if (!find_layout(operands[i].rows, operands[i].columns, s[2], s[3],
                     operands[i].out))
      return host->fail(CLATTN_UNSUPPORTED,
                        "BLAS: %s has row stride %lld and column stride %lld, "
                        "want one of them 1 and the other to step over it",
                        operands[i].name, (long long)s[2], (long long)s[3]);
  }
  return CLATTN_OK;
}

/* c[m][n] = bias[n] */
static void fill_bias(const clt_matmul_args *p, const float *bias, float *c) {
  for (int64_t m = 0; m < p->m; m++)
    for (int64_t n = 0; n < p->n; n++)
      c[m * p->c.s[2] + n * p->c.s[3]] = bias[n * p->bias.s];
}

clattn_status clt_cpu_blas_matmul(const clt_host *host, const void *args,
                                  void *const *buffers) {
  /* a [batch,heads,m,k]  b [batch,heads/b_group,n,k]  c [batch,heads,m,n] */
  const clt_matmul_args *p = args;
  const float *a = buffers[0], *b = buffers[1], *bias = buffers[3];
  float *c = buffers[2];
  layout la, lb, lc;

  const char *reason = clt_cpu_blas_missing();
  if (reason) return host->fail(CLATTN_UNSUPPORTED, "BLAS: %s", reason);
  if (p->a_dtype != CLT_F32 || p->b_dtype != CLT_F32 || p->c_dtype != CLT_F32 ||
      (p->bias_dtype != 0 && p->bias_dtype != CLT_F32))
    return host->fail(CLATTN_UNSUPPORTED, "BLAS: takes f32 tensors only");
  if (p->skip_zero)
    return host->fail(CLATTN_UNSUPPORTED,
                      "BLAS: multiplies hidden terms, 0 * NaN included");
  if (p->add && p->bias_dtype != 0)
    return host->fail(CLATTN_UNSUPPORTED,
                      "BLAS: cannot add to C and have a bias");
  clattn_status status = find_layouts(host, p, &la, &lb, &lc);
  if (status != CLATTN_OK) return status;

  for (int64_t i = 0; i < p->batch; i++)
    for (int64_t h = 0; h < p->heads; h++) {
      const float *ai = a + element(&p->a, i, h);
      const float *bi = b + element(&p->b, i, h / p->b_group);
      float *ci = c + element(&p->c, i, h);
      float beta = p->add ? 1.0f : 0.0f;
      if (p->bias_dtype != 0) {
        fill_bias(p, bias + p->bias.offset, ci);
        beta = 1.0f;
      }
      if (!lc.transposed) /* C = A B^T */
        sgemm(ROW_MAJOR, la.transposed ? TRANS : NO_TRANS,
              lb.transposed ? NO_TRANS : TRANS, p->m, p->n, p->k, p->alpha, ai,
              la.ld, bi, lb.ld, beta, ci, lc.ld);
      else /* C^T = B A^T */
        sgemm(ROW_MAJOR, lb.transposed ? TRANS : NO_TRANS,
              la.transposed ? NO_TRANS : TRANS, p->n, p->m, p->k, p->alpha, bi,
              lb.ld, ai, la.ld, beta, ci, lc.ld);
    }
  return CLATTN_OK;
}
