/* embedding.c - rows of a table by their numbers, and the gradient of the table. */
#include "nn.h"

void clt_nn_gather_add(clt_work *work, bool tile, const void *call) {
  const clt_nn_embedding_call *c = call;
  clt_nn_step step = {.args = {.id_dtype = (clt_i32)c->ids->dtype,
                               .n_ids = (clt_i32)c->table->extent[2],
                               .table_dtype = (clt_i32)c->table->dtype}};
  clt_nn_bind(&step, 0, c->table);
  clt_nn_bind(&step, 1, c->ids);
  clt_nn_bind(&step, 2, c->rows);
  clt_nn_rows(&step, tile, c->rows);
  clt_nn_add_step(work, tile, CLT_K_NN_GATHER, &step);
}

void clt_nn_scatter_add(clt_work *work, bool tile, const void *call) {
  const clt_nn_embedding_call *c = call;
  clt_nn_step step = {.args = {.id_dtype = (clt_i32)c->ids->dtype,
                               .n_ids = (clt_i32)c->table->extent[2]}};
  clt_nn_bind(&step, 0, c->ids);
  clt_nn_bind(&step, 1, c->rows);
  clt_nn_bind(&step, 2, c->table);
  clt_nn_rows(&step, tile, c->rows);
  /* Columns are units: of each, tokens are added in their order. */
  step.args.units =
      (clt_i64)clt_ceil_div((size_t)step.args.dim, tile ? 1 : NN_COLUMNS);
  clt_nn_add_step(work, tile, CLT_K_NN_SCATTER, &step);
}

clattn_status clattn_nn_embedding(clattn_queue *queue,
                                  const clattn_tensor *table,
                                  const clattn_tensor *ids,
                                  const clattn_tensor *out,
                                  clattn_event *const *wait, size_t n_wait,
                                  clattn_event **event) {
  static const clt_kernel kernels[] = {CLT_K_NN_GATHER};
  if (event) *event = NULL;
  CLT_TRY(clt_check_enqueue(queue, wait, n_wait));
  CLT_REQUIRE_TENSOR(table);
  CLT_REQUIRE_TENSOR(ids);
  CLT_REQUIRE_TENSOR(out);
  const clt_nn_arg args[] = {
      {table,
       {.name = "table",
        .dtypes = CLT_FLOATS,
        .extent = {1, 1, CLT_ANY_EXTENT, CLT_ANY_EXTENT}},
       0},
      {ids,
       {.name = "ids",
        .dtypes = CLT_INTS,
        .extent = {CLT_ANY_EXTENT, 1, CLT_ANY_EXTENT, 1}},
       0},
      {out,
       {.name = "out",
        .dtypes = CLT_NN_F32,
        .extent = {ids->extent[0], 1, ids->extent[2], table->extent[3]},
        .output = true},
       0}};
  CLT_TRY(clt_nn_check(queue->device, args, 3, false));
  const clt_nn_embedding_call call = {table, ids, out};
  return clt_nn_run(queue, kernels, 1, clt_nn_gather_add, &call, wait, n_wait,
                    event);
}

clattn_status clattn_nn_embedding_backward(
    clattn_queue *queue, const clattn_tensor *ids, const clattn_tensor *d_out,
    const clattn_tensor *d_table, clattn_event *const *wait, size_t n_wait,
    clattn_event **event) {
  static const clt_kernel kernels[] = {CLT_K_NN_SCATTER};
  if (event) *event = NULL;
  CLT_TRY(clt_check_enqueue(queue, wait, n_wait));
  CLT_REQUIRE_TENSOR(ids);
  CLT_REQUIRE_TENSOR(d_out);
  CLT_REQUIRE_TENSOR(d_table);
  const clt_nn_arg args[] = {
      {ids,
       {.name = "ids",
        .dtypes = CLT_INTS,
        .extent = {CLT_ANY_EXTENT, 1, CLT_ANY_EXTENT, 1}},
       0},
      {d_out,
       {.name = "d_out",
        .dtypes = CLT_NN_F32,
        .extent = {ids->extent[0], 1, ids->extent[2], CLT_ANY_EXTENT}},
       0},
      {d_table,
       {.name = "d_table",
        .dtypes = CLT_NN_F32,
        .extent = {1, 1, CLT_ANY_EXTENT, d_out->extent[3]},
        .output = true},
       0}};
  CLT_TRY(clt_nn_check(queue->device, args, 3, false));
  const clt_nn_embedding_call call = {d_table, ids, d_out};
  return clt_nn_run(queue, kernels, 1, clt_nn_scatter_add, &call, wait, n_wait,
                    event);
}
