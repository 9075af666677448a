/* blas.c - dense products by CLBlast, which is loaded when first asked for.
 *
 * CLBlast is built against the same OpenCL loader, takes our handles as they
 * are and compiles its kernels at the first call of each routine (seconds). It
 * keeps them, and with them our contexts, until told to drop them. */
#include "ocl.h"

#include <dlfcn.h>
#include <string.h>

#include "../../cl/args.h"

/* Enumerators of clblast_c.h. */
enum { ROW_MAJOR = 101, COL_MAJOR = 102, PLAIN = 111, TRANSPOSED = 112 };

void ocl_blas_init(ocl_blas *blas) { pthread_mutex_init(&blas->lock, NULL); }

/* The library stays loaded: its own statics are destroyed at exit. Its cache of
 * programs must not outlive the contexts it holds; other users of CLBlast in
 * the process lose time by this, not results. */
void ocl_blas_close(ocl_blas *blas) {
  if (atomic_load(&blas->used) && blas->clear_cache) blas->clear_cache();
  pthread_mutex_destroy(&blas->lock);
}

/* ---- loading ------------------------------------------------------------- */

/* ISO C has no cast from data to code. */
static bool find(void *library, const char *name, void *function) {
  void *symbol = dlsym(library, name);
  if (symbol) memcpy(function, &symbol, sizeof symbol);
  return symbol != NULL;
}

static clattn_status load(ocl_blas *blas) {
  static const char *const names[] = {"libclblast.so.1", "libclblast.so"};
  void *library = NULL;
  if (blas->library) return CLATTN_OK;
  for (size_t i = 0; !library && i < sizeof names / sizeof *names; i++)
    if (ocl_host->allow("dlopen"))
      library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
  if (!library)
    return ocl_error(CLATTN_UNSUPPORTED,
                     "CLBlast is not installed: neither "
                     "%s nor %s could be loaded",
                     names[0], names[1]);
  if (!find(library, "CLBlastSgemm", &blas->gemm) ||
      !find(library, "CLBlastSgemmStridedBatched", &blas->gemm_strided) ||
      !find(library, "CLBlastClearCache", &blas->clear_cache)) {
    dlclose(library);
    return ocl_error(CLATTN_UNSUPPORTED,
                     "CLBlast is too old: want 1.4 or later, with "
                     "CLBlastSgemmStridedBatched");
  }
  blas->library = library;
  return CLATTN_OK;
}

clattn_status ocl_blas_prepare(ocl_device *device) {
  ocl_blas *blas = &device->state->blas;
  pthread_mutex_lock(&blas->lock);
  clattn_status status = load(blas);
  pthread_mutex_unlock(&blas->lock);
  /* Whether there will be a bias is not known yet. */
  if (status == CLATTN_OK) status = ocl_kernel_prepare(device, OCL_K_BIAS_ROWS);
  return status;
}

/* ---- layout -------------------------------------------------------------- */

/* How a matrix of rows x columns lies: by rows, or by columns. */
typedef struct layout {
  bool by_columns;
  size_t ld; /* elements from one row (column) to the next */
} layout;

/* False if neither its rows nor its columns are dense. */
static bool find_layout(const clt_view *view, clt_i32 rows, clt_i32 columns,
                        layout *out) {
  const clt_i64 r = view->s[2], c = view->s[3];
  if ((c == 1 || columns == 1) && (r >= columns || rows == 1)) {
    *out = (layout){false, (size_t)(rows == 1 ? columns : r)};
    return true;
  }
  if ((r == 1 || rows == 1) && (c >= rows || columns == 1)) {
    *out = (layout){true, (size_t)(columns == 1 ? rows : c)};
    return true;
  }
  return false;
}

typedef struct product {
  const clt_matmul_args *args;
  layout a, b, c;
} product;

static clattn_status describe(const clt_step *step, product *p) {
  const clt_matmul_args *g = step->args;
  p->args = g;
  if (g->a_dtype != CLT_F32 || g->b_dtype != CLT_F32 || g->c_dtype != CLT_F32 ||
      (g->bias_dtype != 0 && g->bias_dtype != CLT_F32))
    return ocl_error(CLATTN_UNSUPPORTED,
                     "CLBlast product: want F32 throughout");
  if (g->skip_zero)
    return ocl_error(CLATTN_UNSUPPORTED,
                     "CLBlast product: 0 * NaN cannot be left out");
  if (g->add && g->bias_dtype != 0)
    return ocl_error(CLATTN_UNSUPPORTED,
                     "CLBlast product: cannot add to C and have a bias");
  if (g->m < 1 || g->n < 1 || g->k < 1 || g->batch < 1 || g->heads < 1 ||
      g->b_group < 1)
    return ocl_error(CLATTN_UNSUPPORTED, "CLBlast product: an extent is 0");
  const char *which = !find_layout(&g->a, g->m, g->k, &p->a)   ? "A"
                      : !find_layout(&g->b, g->n, g->k, &p->b) ? "B"
                      : !find_layout(&g->c, g->m, g->n, &p->c) ? "C"
                                                               : NULL;
  if (which)
    return ocl_error(CLATTN_UNSUPPORTED,
                     "CLBlast product: neither rows nor columns of %s are "
                     "dense",
                     which);
  return CLATTN_OK;
}

clattn_status ocl_blas_check(ocl_device *device, const clt_step *step) {
  product p;
  if (!device->state->blas.library)
    return ocl_error(CLATTN_UNSUPPORTED, "CLBlast is not loaded");
  return describe(step, &p);
}

/* Elements from one product to the next when batch and heads are counted as
 * one; `group` neighbouring heads share a matrix. False if that varies. */
static bool flat_stride(const clt_view *view, const clt_matmul_args *g,
                        clt_i32 group, size_t *stride) {
  clt_i64 head = view->s[1];
  if (group > 1) {
    if (g->heads > group) return false;
    head = 0;
  }
  if (g->heads > 1 && g->batch > 1 && view->s[0] != g->heads * head)
    return false;
  *stride = (size_t)(g->heads > 1 ? head : view->s[0]);
  return true;
}

static size_t offset_of(const clt_view *view, clt_i64 b, clt_i64 h) {
  return (size_t)(view->offset + b * view->s[0] + h * view->s[1]);
}

/* ---- running ------------------------------------------------------------- */

static cl_int enqueue_bias(ocl_queue *queue, const clt_matmul_args *g,
                           cl_kernel kernel, bool *enqueued) {
  const size_t most = queue->device->kernels[OCL_K_BIAS_ROWS].group_max;
  size_t items = queue->device->info.type == CLATTN_DEVICE_CPU ? 1 : 64;
  if (items > most) items = most;
  const size_t local[2] = {items, 1};
  const size_t global[2] = {(size_t)g->m * items,
                            (size_t)g->batch * (size_t)g->heads};
  cl_int error = OCL(clEnqueueNDRangeKernel, queue->id, kernel, 2, NULL, global,
                     local, 0, NULL, NULL);
  if (error != CL_SUCCESS) return error;
  *enqueued = true;
  return queue->out_of_order
             ? OCL(clEnqueueBarrierWithWaitList, queue->id, 0, NULL, NULL)
             : CL_SUCCESS;
}

cl_int ocl_blas_enqueue(ocl_queue *queue, const clt_step *step,
                        const cl_mem buffers[4], cl_kernel bias_kernel,
                        bool *enqueued, const char **call) {
  ocl_blas *blas = &queue->device->state->blas;
  cl_command_queue id = queue->id;
  product p;
  cl_int error = CL_SUCCESS;
  *call = "CLBlastSgemm";
  if (describe(step, &p) != CLATTN_OK) return CL_INVALID_VALUE; /* checked */
  const clt_matmul_args *g = p.args;
  if (bias_kernel) {
    *call = "clEnqueueNDRangeKernel";
    error = enqueue_bias(queue, g, bias_kernel, enqueued);
    if (error != CL_SUCCESS) return error;
    *call = "CLBlastSgemm";
  }
  atomic_store(&blas->used, true);

  /* C = A B^T in C's own layout; our B has a row for each column of C. */
  const int major = p.c.by_columns ? COL_MAJOR : ROW_MAJOR;
  const int a_way = p.a.by_columns == p.c.by_columns ? PLAIN : TRANSPOSED;
  const int b_way = p.b.by_columns == p.c.by_columns ? TRANSPOSED : PLAIN;
  const size_t m = (size_t)g->m, n = (size_t)g->n, k = (size_t)g->k;
  const float beta = bias_kernel || g->add ? 1.0f : 0.0f;
  const size_t count = (size_t)g->batch * (size_t)g->heads;
  size_t a_step, b_step, c_step;
  if (count > 1 && flat_stride(&g->a, g, 1, &a_step) &&
      flat_stride(&g->b, g, g->b_group, &b_step) &&
      flat_stride(&g->c, g, 1, &c_step)) {
    *call = "CLBlastSgemmStridedBatched";
    if (!ocl_host->allow(*call)) return CL_OUT_OF_HOST_MEMORY;
    *enqueued = true; /* it may have got part of the way when it fails */
    return blas->gemm_strided(
        major, a_way, b_way, m, n, k, g->alpha, buffers[0],
        offset_of(&g->a, 0, 0), p.a.ld, a_step, buffers[1],
        offset_of(&g->b, 0, 0), p.b.ld, b_step, beta, buffers[2],
        offset_of(&g->c, 0, 0), p.c.ld, c_step, count, &id, NULL);
  }
  for (clt_i32 b = 0; b < g->batch; b++)
    for (clt_i32 h = 0; h < g->heads && error == CL_SUCCESS; h++) {
      if (!ocl_host->allow(*call)) return CL_OUT_OF_HOST_MEMORY;
      *enqueued = true;
      error = blas->gemm(major, a_way, b_way, m, n, k, g->alpha, buffers[0],
                         offset_of(&g->a, b, h), p.a.ld, buffers[1],
                         offset_of(&g->b, b, h / g->b_group), p.b.ld, beta,
                         buffers[2], offset_of(&g->c, b, h), p.c.ld, &id, NULL);
    }
  return error;
}
