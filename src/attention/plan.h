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
  clt_kernel kernels[8]; /* the first carries the guard's verdict */
  int n_kernels;
  bool for_gpu;     /* shaped for GPUs, else for CPU-type devices */
  bool any_length;  /* serves every q_len */
  bool backward;    /* gives gradients: a row of clt_backward_rows */
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
extern const clt_row clt_rows[], clt_backward_rows[];
extern const int clt_row_count, clt_backward_row_count;

/* Gives a step the problem's buffers, in the order of attention kernels. */
void clt_fill_buffers(clt_step *step, const clt_problem *problem);
/* Adds a step of a *_tile kernel with groups of width x height work-items. */
void clt_add_tiles(clt_work *work, const clt_problem *problem,
                   clt_kernel kernel, size_t gx, size_t gy, size_t gz,
                   size_t width, size_t height, size_t local_floats);
/* How many batches and query heads of matrices [Sq, Skv] to hold at once, each of
 * `bytes`, in `limit` bytes: whole batches, or heads of one batch, which are whole
 * groups of heads or, unless whole groups are needed, a single head. */
void clt_choose_chunk(const clt_attn_args *args, size_t bytes, size_t limit,
                      bool whole_groups, int *batches, int *heads);

struct clattn_plan {
  clt_device *device; /* device->context is held unless `borrowed` */
  clattn_desc desc;
  const clt_row *rows[CLT_MAX_ROWS];
  int n_rows;
  const clt_row *backward; /* NULL unless desc.backward */
  char *info;
  bool borrowed;
};

/* Plan that holds no reference to its context (for the context's own cache). */
clattn_status clt_plan_new(clt_device *device, const clattn_desc *desc,
                           clattn_plan **plan);
/* The row that serves these lengths. */
const clt_row *clt_plan_row(const clattn_plan *plan, const clt_attn_args *args);

/* Adds the steps of clattn_backward; args are checked. */
clattn_status clt_backward_add(const clattn_plan *plan, clt_work *work,
                               const clattn_args *args,
                               const clattn_grads *grads);

/* Whether kernels for GPUs serve a call on this device, where both families have
 * what it needs: `ready` prepares and checks those of one. */
clattn_status clt_choose_family(clt_device *device, const char *what,
                                clattn_status (*ready)(clt_device *device,
                                                       bool tile,
                                                       const void *call),
                                const void *call, bool *tile);

/* ---- statistics (statistics.c) --------------------------------------------------- */

/* Adds the steps of clattn_statistics; args and stats are checked. */
clattn_status clt_statistics_add(const clattn_plan *plan, clt_work *work,
                                 const clattn_args *args,
                                 const clattn_stats *stats);
/* Checks the shared arguments of calls with a plan. */
clattn_status clt_plan_check_call(const clattn_plan *plan,
                                  const clattn_queue *queue,
                                  clattn_event *const *wait, size_t n_wait);

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

/* A matrix view for products, where a direction of extent 1 may claim the unit
 * stride. */
clt_view clt_matrix_view(const clattn_tensor *t);
/* Whether a batch of rows lies row behind row, and their distance. */
bool clt_rows_in_line(const clattn_tensor *t, clt_i64 *stride);

/* The product of out = x w^T + bias; bias->buffer may be NULL. */
void clt_linear_args(const clattn_tensor *x, const clattn_tensor *w,
                     const clattn_tensor *bias, const clattn_tensor *out,
                     clt_matmul_args *args);
/* Adds out = x w^T + bias; bias->buffer may be NULL. Tensors are checked. */
clattn_status clt_linear_add(clt_work *work, const clattn_tensor *x,
                             const clattn_tensor *w, const clattn_tensor *bias,
                             const clattn_tensor *out);

/* Adds the gradients of out = x w^T + bias; absent ones have buffer NULL. Tensors
 * are checked. */
clattn_status clt_linear_backward_add(
    clt_work *work, const clattn_tensor *x, const clattn_tensor *w,
    const clattn_tensor *d_out, const clattn_tensor *d_x,
    const clattn_tensor *d_w, const clattn_tensor *d_bias, uint32_t accumulate);

/* ---- first-use guard (guard.c) -------------------------------------------------- */

/* Runs the row on a small built-in problem against the CPU path, once a device
 * and program; later calls give the stored verdict. UNSUPPORTED with the reason
 * when it is refused. Kernels must be prepared. */
clattn_status clt_guard_row(clt_device *device, const clt_row *row);
/* How a kernel outside attention is checked: the steps of a small problem, and
 * what it needs of its inputs. Owners of kernels hand these over. */
enum { CLT_GUARD_IN = 65536, CLT_GUARD_OUT = 5300 }; /* floats */
typedef struct clt_guard_site {
  clattn_buffer *in;  /* CLT_GUARD_IN numbers in -1..1; of F16: twice as many */
  clattn_buffer *out; /* CLT_GUARD_OUT floats, 0; all of it is compared */
  clt_kernel kernel;  /* the one in question */
  bool half;          /* the second of two checks: F16 where it is taken */
  bool reference;     /* on the CPU path, in place of a kernel for GPUs */
} clt_guard_site;
typedef struct clt_guard_problem {
  void (*steps)(clt_work *work, const clt_guard_site *site);
  void (*inputs)(float *in); /* puts other numbers in; may be NULL */
  int checks;                /* 1: F32 alone; 2: F16, too */
  int floats; /* so many of out are floats, the others are integers */
} clt_guard_problem;
/* clt_guard_row's for such a kernel. Prepares it as well. */
clattn_status clt_guard_with(clt_device *device, clt_kernel kernel,
                             const clt_guard_problem *problem);
/* The same for MATMUL*, COLUMN_SUMS*, ROTARY, COPY and SET_I32. */
clattn_status clt_guard_kernel(clt_device *device, clt_kernel kernel);
extern const clt_guard_problem clt_guard_matmul; /* matmul.c */
extern const clt_guard_problem clt_guard_sums;   /* linear_backward.c */
extern const clt_guard_problem clt_guard_rotary; /* rotary.c */
extern const clt_guard_problem clt_guard_copy;   /* rotary.c */
extern const clt_guard_problem clt_guard_set;    /* rotary.c */

#endif /* CLT_PLAN_H */
