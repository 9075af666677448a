/* plan.h - the ordered list of implementations ("rows") and how a plan uses it.
 *
 * A row serves a problem with a sequence of steps. Plans try rows in order; each
 * refusal keeps its reason. To add a variant: write its kernel, add it to
 * CLT_KERNEL_MAP, and add a row to the table in rows.c. */
#ifndef CLT_PLAN_H
#define CLT_PLAN_H

#include "problem.h"

static inline size_t clt_ceil_div(size_t a, size_t b) {
  return (a + b - 1) / b;
}

typedef struct clt_row {
  const char *name;
  clattn_path path;      /* not AUTO */
  clt_kernel kernels[3]; /* the first carries the guard's verdict */
  int n_kernels;
  bool for_gpu;     /* shaped for GPUs, else for CPU-type devices */
  bool any_length;  /* serves every q_len */
  size_t min_group; /* work-items that every kernel needs; 0: one */
  /* Local memory a group needs, in floats; 0: none to speak of. */
  size_t (*local_floats)(const clt_device *device, const clt_attn_args *args);
  /* Why the row cannot serve a descriptor; NULL: it can. May be NULL. */
  const char *(*refuses)(const clattn_desc *desc);
  /* Lengths that this row is for; NULL: all. */
  bool (*wants)(const clt_device *device, const clt_attn_args *args);
  /* Adds the steps. Failures are left in work->status. */
  void (*build)(const clt_problem *problem, clt_work *work);
} clt_row;

static inline bool clt_row_for_few_queries(const clt_row *row) {
  return row->path == CLATTN_FUSED && !row->any_length;
}

#define CLT_MAX_ROWS 8
extern const clt_row clt_rows[];
extern const int clt_row_count;

struct clattn_plan {
  clt_device *device; /* device->context is held unless `borrowed` */
  clattn_desc desc;
  const clt_row *rows[CLT_MAX_ROWS];
  int n_rows;
  char *info;
  bool borrowed;
};

/* Plan that holds no reference to its context (for the context's own cache). */
clattn_status clt_plan_new(clt_device *device, const clattn_desc *desc,
                           clattn_plan **plan);
/* The row that serves these lengths. */
const clt_row *clt_plan_row(const clattn_plan *plan, const clt_attn_args *args);

/* ---- dense products (matmul.c) ------------------------------------------------- */

/* The library's own matmul kernel for this device. */
clt_kernel clt_matmul_own(const clt_device *device);
/* The height of the groups of a *_tile kernel that works on `rows` rows: the
 * largest that the device allows, no larger than the rows can use. floats: the
 * local memory of a group of that height; args are passed on. */
size_t clt_tile_height(const clt_device *device, clt_kernel kernel, size_t rows,
                       size_t (*floats)(size_t height, const void *args),
                       const void *args);
/* The kernel for dense products by the context's choice and what the device
 * can do; prepared and checked. */
clattn_status clt_matmul_choose(clt_device *device, const clt_matmul_args *args,
                                clt_kernel *kernel);
/* Adds C = alpha A B^T + bias. */
void clt_matmul_add(clt_work *work, clt_kernel kernel,
                    const clt_matmul_args *args, clt_ref a, clt_ref b,
                    clt_ref c, clt_ref bias);

/* Adds out = x w^T + bias; bias->buffer may be NULL. Tensors are checked. */
clattn_status clt_linear_add(clt_work *work, const clattn_tensor *x,
                             const clattn_tensor *w, const clattn_tensor *bias,
                             const clattn_tensor *out);

/* ---- first-use guard (guard.c) -------------------------------------------------- */

/* Runs the row on a small built-in problem against the CPU path, once a device
 * and program; later calls give the stored verdict. UNSUPPORTED with the reason
 * when it is refused. Kernels must be prepared. */
clattn_status clt_guard_row(clt_device *device, const clt_row *row);
/* The same for the kernels outside attention: MATMUL*, ROTARY, COPY, SET_I32.
 * Prepares the kernel as well. */
clattn_status clt_guard_kernel(clt_device *device, clt_kernel kernel);

#endif /* CLT_PLAN_H */
