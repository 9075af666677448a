/* sums.c - sums of fixed order: over parts of the rows, then over the parts. How
 * many parts there are decides how sums are rounded, so that it depends on
 * shapes and the family of kernels alone. */
#include "nn.h"

enum { FEW = 64, PART = 32, FOLD = 128 };

/* Rows of a part: all of few rows; else about as many as there are parts. */
static int64_t part_rows(int64_t rows) {
  if (rows <= FEW) return rows;
  int64_t part = PART;
  while (part * part < rows) part *= 2;
  return part;
}

static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

void clt_nn_column_sums(clt_work *work, bool tile, const clattn_tensor *x,
                        const clattn_tensor *y, const clt_nn_normed *norm,
                        bool accumulate) {
  const int64_t D = x->extent[3], groups = y->extent[0] * y->extent[2];
  const int64_t outer = x->extent[0] / y->extent[0];
  const int64_t inner = x->extent[2] / y->extent[2], rows = outer * inner;
  const int64_t part = part_rows(rows), parts = ceil_div(rows, part);
  clt_nn_step step = {.args = {.dim = D,
                               .rows = rows,
                               .extent = {y->extent[0], y->extent[2], inner},
                               .row_chunk = part,
                               .across = ceil_div(D, tile ? 1 : NN_COLUMNS),
                               .n_ids = (clt_i32)parts,
                               .accumulate = accumulate && parts == 1}};
  clt_nn_args *a = &step.args;
  clt_nn_bind(&step, 0, x);
  clt_nn_bind(&step, 1, y);
  if (norm) {
    clt_nn_bind(&step, 2, norm->x);
    clt_nn_bind(&step, 3, norm->mean);
    clt_nn_bind(&step, 4, norm->rstd);
  }
  /* Strides of batch and row: of groups where y has them, else of rows. */
  for (int i = 0; i < 5; i++) {
    clt_i64 *s = a->view[i].s;
    const clt_i64 batch = s[0], row = s[2];
    s[0] = y->extent[0] > 1 ? batch : 0;
    s[1] = y->extent[2] > 1 ? row : 0;
    s[2] = outer > 1 ? batch : 0;
    s[3] = inner > 1 ? row : 0;
  }
  a->units = a->across * parts * groups;
  if (parts == 1) {
    clt_nn_add_step(work, tile, CLT_K_NN_COLUMN_SUMS, &step);
    return;
  }
  const clt_view out = a->view[1];
  const size_t at =
      clt_work_scratch(work, (size_t)(groups * parts * D) * sizeof(float)) /
      sizeof(float);
  a->view[1] =
      (clt_view){(clt_i64)at, {y->extent[2] * parts * D, parts * D, D, 0}};
  clt_nn_bind_scratch(&step, 1);
  clt_nn_add_step(work, tile, CLT_K_NN_COLUMN_SUMS, &step);

  a->view[0] = a->view[1];
  a->view[0].s[2] = 0;
  a->view[0].s[3] = D;
  a->view[1] = out;
  step.buffers[0] = clt_ref_scratch();
  step.buffers[1] = clt_ref_of(y);
  for (int i = 2; i < 5; i++) step.buffers[i] = (clt_ref){NULL, false};
  a->has = 3;
  a->rows = a->row_chunk = a->extent[2] = parts;
  a->n_ids = 1;
  a->accumulate = accumulate;
  a->units = a->across * groups;
  clt_nn_add_step(work, tile, CLT_K_NN_COLUMN_SUMS, &step);
}

size_t clt_nn_parts(clt_work *work, size_t parts) {
  return clt_work_scratch(work, parts * CLT_NN_PART * sizeof(float)) /
         sizeof(float);
}

void clt_nn_fold(clt_work *work, bool tile, size_t at, size_t parts, clt_i32 op,
                 const clattn_tensor *out) {
  while (parts > 2 * FOLD) {
    const size_t fewer = clt_ceil_div(parts, FOLD);
    const size_t to = clt_nn_parts(work, fewer);
    clt_nn_step step = {.args = {.part = (clt_i64)at,
                                 .rows = (clt_i64)parts,
                                 .row_chunk = FOLD,
                                 .units = (clt_i64)fewer,
                                 .op = CLT_NN_PARTS}};
    step.args.view[1].offset = (clt_i64)to;
    clt_nn_bind_scratch(&step, 0);
    clt_nn_bind_scratch(&step, 1);
    clt_nn_add_step(work, tile, CLT_K_NN_FOLD, &step);
    at = to;
    parts = fewer;
  }
  clt_nn_step step = {.args = {.part = (clt_i64)at,
                               .rows = (clt_i64)parts,
                               .row_chunk = (clt_i64)parts,
                               .units = 1,
                               .op = op}};
  clt_nn_bind_scratch(&step, 0);
  clt_nn_bind(&step, 1, out);
  clt_nn_add_step(work, tile, CLT_K_NN_FOLD, &step);
}
