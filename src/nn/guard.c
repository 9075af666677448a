/* guard.c - the first-use checks of these kernels: small problems whose sizes
 * fill no vector, group or part. */
#include <string.h>

#include "nn.h"

enum {
  ROWS = 75, /* of two batches each: more than one part */
  DIM = 37,
  IDS_AT = 60000,  /* integers in 0..6, some -100 */
  PLUS_AT = 61000, /* numbers > 0 */
  PLUS = 600,
  IDS = 7
};

static void inputs(float *in) {
  for (int i = 0; i < 2 * ROWS; i++) {
    const int32_t id = i % 11 == 5 ? CLT_NN_IGNORE : i * i % IDS;
    memcpy(&in[IDS_AT + i], &id, sizeof id);
  }
  for (int i = 0; i < PLUS; i++)
    if (in[PLUS_AT + i] < 0) in[PLUS_AT + i] = -in[PLUS_AT + i];
}

static clattn_tensor view(clattn_buffer *buffer, int64_t at, int64_t b,
                          int64_t m, int64_t d) {
  clattn_tensor t = clattn_view_bhsd(buffer, CLATTN_F32, b, 1, m, d);
  t.offset = at;
  return t;
}

static clattn_tensor ids_of(clattn_buffer *in, int64_t b, int64_t m) {
  clattn_tensor t = view(in, IDS_AT, b, m, 1);
  t.dtype = CLATTN_I32;
  return t;
}

/* Every operation, addition with what repeats. */
static void map_steps(clt_work *work, bool tile, clattn_buffer *in,
                      clattn_buffer *out) {
  const clattn_tensor a = view(in, 1, 2, 7, DIM), b = view(in, 999, 2, 7, DIM);
  const clattn_tensor c = view(in, 3000, 2, 7, DIM);
  const clattn_tensor row = view(in, 2000, 1, 1, DIM);
  for (int op = CLT_NN_FILL; op <= CLT_NN_SWIGLU_BACK; op++) {
    const clattn_tensor to = view(out, 520 * op, 2, 7, DIM);
    const clt_nn_map_call call = {.op = op,
                                  .value = 0.75f,
                                  .a = op == CLT_NN_FILL ? NULL : &a,
                                  .b = op == CLT_NN_ADD  ? &row
                                       : op > CLT_NN_ADD ? &b
                                                         : NULL,
                                  .c = op == CLT_NN_SWIGLU_BACK ? &c : NULL,
                                  .out = &to};
    clt_nn_map_add(work, tile, &call);
  }
}

static void adamw_steps(clt_work *work, bool tile, clattn_buffer *in,
                        clattn_buffer *out) {
  clattn_nn_adamw_args args;
  clattn_nn_adamw_args_init(&args);
  args.param = view(out, 0, 1, 9, DIM); /* zeros at first */
  args.grad = view(in, 0, 1, 9, DIM);
  args.m = view(out, 1000, 1, 9, DIM);
  args.v = view(out, 2000, 1, 9, DIM);
  args.norm = view(in, PLUS_AT, 1, 1, 1);
  args.max_norm = 0.1f;
  args.lr = 0.1f;
  for (args.step = 1; args.step <= 2; args.step++)
    clt_nn_adamw_add(work, tile, &args);
}

static void layer_norm_steps(clt_work *work, bool tile, clattn_buffer *in,
                             clattn_buffer *out, bool backward) {
  clattn_nn_layer_norm_args args;
  clattn_nn_layer_norm_args_init(&args);
  args.x = view(in, 0, 2, 9, DIM);
  args.weight = view(in, 3000, 1, 1, DIM);
  args.bias = view(in, 4000, 1, 1, DIM);
  args.out = view(out, 0, 2, 9, DIM);
  args.mean = view(backward ? in : out, 1000, 2, 9, 1);
  args.rstd = view(backward ? in : out, 1100, 2, 9, 1);
  const clattn_tensor d_out = view(in, 5000, 2, 9, DIM), none = {0};
  const clt_nn_layer_norm_call call = {.args = &args,
                                       .d_out = &d_out,
                                       .d_x = &args.out,
                                       .d_weight = &none,
                                       .d_bias = &none};
  if (backward)
    clt_nn_layer_norm_back_add(work, tile, &call);
  else
    clt_nn_layer_norm_add(work, tile, &call);
}

static void rms_norm_steps(clt_work *work, bool tile, clattn_buffer *in,
                           clattn_buffer *out, bool backward) {
  clattn_nn_rms_norm_args args;
  clattn_nn_rms_norm_args_init(&args);
  args.x = view(in, 0, 2, 9, DIM);
  args.weight = view(in, 3000, 1, 1, DIM);
  args.out = view(out, 0, 2, 9, DIM);
  args.rms = view(backward ? in : out, 1000, 2, 9, 1);
  const clattn_tensor d_out = view(in, 5000, 2, 9, DIM), none = {0};
  const clt_nn_rms_norm_call call = {
      .args = &args, .d_out = &d_out, .d_x = &args.out, .d_weight = &none};
  if (backward)
    clt_nn_rms_norm_back_add(work, tile, &call);
  else
    clt_nn_rms_norm_add(work, tile, &call);
}

static void cross_entropy_steps(clt_work *work, bool tile, clattn_buffer *in,
                                clattn_buffer *out, bool backward) {
  clattn_nn_cross_entropy_args args;
  clattn_nn_cross_entropy_args_init(&args);
  args.logits = view(in, 0, 2, 20, DIM);
  args.targets = ids_of(in, 2, 20);
  args.losses = view(out, 0, 2, 20, 1);
  args.lse = view(backward ? in : out, 100, 2, 20, 1);
  if (backward) args.mean = view(in, PLUS_AT, 1, 1, 2);
  const clattn_tensor d_logits = view(out, 200, 2, 20, DIM);
  const clt_nn_cross_entropy_call call = {&args, &d_logits, 0.01f};
  if (backward)
    clt_nn_cross_entropy_back_add(work, tile, &call);
  else
    clt_nn_cross_entropy_add(work, tile, &call);
}

/* Ids of -100 would give rows of NaN: the first five have none. */
static void embedding_steps(clt_work *work, bool tile, clattn_buffer *in,
                            clattn_buffer *out, bool backward) {
  const clattn_tensor table = view(backward ? out : in, 300, 1, IDS, DIM);
  const clattn_tensor rows =
      view(backward ? in : out, 1000, 1, backward ? ROWS : 5, DIM);
  const clattn_tensor ids = ids_of(in, 1, backward ? ROWS : 5);
  const clt_nn_embedding_call call = {&table, &ids, &rows};
  if (backward)
    clt_nn_scatter_add(work, tile, &call);
  else
    clt_nn_gather_add(work, tile, &call);
}

static void column_steps(clt_work *work, bool tile, clattn_buffer *in,
                         clattn_buffer *out) {
  const clattn_tensor x = view(in, 0, 2, ROWS, DIM),
                      f = view(in, 9000, 2, ROWS, DIM);
  const clattn_tensor mean = view(in, 20000, 2, ROWS, 1);
  const clattn_tensor rstd = view(in, 21000, 2, ROWS, 1);
  const clattn_tensor all = view(out, 0, 1, 1, DIM);
  const clattn_tensor each = view(out, 100, 1, ROWS, DIM);
  const clt_nn_normed norm = {&f, &mean, &rstd}, rms = {&f, NULL, &rstd};
  clt_nn_column_sums(work, tile, &x, &all, &norm, false);
  clt_nn_column_sums(work, tile, &x, &all, &rms, true);
  clt_nn_column_sums(work, tile, &x, &all, NULL, true);
  clt_nn_column_sums(work, tile, &x, &each, NULL, false);
}

static void loss_steps(clt_work *work, bool tile, clattn_buffer *in,
                       clattn_buffer *out) {
  const clattn_tensor losses = view(in, 0, 2, ROWS, 1),
                      ids = ids_of(in, 2, ROWS);
  clt_nn_step step = {.args = {.id_dtype = CLT_I32, .n_ids = IDS}};
  clt_nn_bind(&step, 0, &losses);
  clt_nn_bind(&step, 1, &ids);
  step.buffers[2].mem = out->mem;
  clt_nn_rows(&step, tile, &losses);
  step.args.row_chunk = 64;
  step.args.units = (2 * ROWS + 63) / 64;
  clt_nn_add_step(work, tile, CLT_K_NN_LOSS_PARTS, &step);
}

static void fold_steps(clt_work *work, bool tile, clattn_buffer *in,
                       clattn_buffer *out) {
  for (int op = CLT_NN_PARTS; op <= CLT_NN_MEAN; op++) {
    const clattn_tensor to = view(out, 100 * op, 1, 1, 2);
    clt_nn_step step = {.args = {.part = PLUS_AT,
                                 .rows = 25,
                                 .row_chunk = op == CLT_NN_PARTS ? 10 : 25,
                                 .units = op == CLT_NN_PARTS ? 3 : 1,
                                 .op = op}};
    step.buffers[0].mem = in->mem;
    clt_nn_bind(&step, 1, &to);
    clt_nn_add_step(work, tile, CLT_K_NN_FOLD, &step);
  }
}

static void steps(clt_work *work, const clt_guard_site *site) {
  const bool given_tile = site->kernel >= CLT_K_NN_MAP_TILE;
  const bool tile = given_tile && !site->reference;
  clattn_buffer *in = site->in, *out = site->out;
  const clattn_tensor x = view(in, 0, 3, ROWS, DIM),
                      norm = view(out, 0, 1, 1, 1);
  const clt_nn_norm_call call = {&x, &norm};
  switch (given_tile ? site->kernel - CLT_K_NN_MAP_TILE + CLT_K_NN_MAP
                     : site->kernel) {
    case CLT_K_NN_MAP:
      map_steps(work, tile, in, out);
      break;
    case CLT_K_NN_ADAMW:
      adamw_steps(work, tile, in, out);
      break;
    case CLT_K_NN_LAYER_NORM:
      layer_norm_steps(work, tile, in, out, false);
      break;
    case CLT_K_NN_LAYER_NORM_BACK:
      layer_norm_steps(work, tile, in, out, true);
      break;
    case CLT_K_NN_RMS_NORM:
      rms_norm_steps(work, tile, in, out, false);
      break;
    case CLT_K_NN_RMS_NORM_BACK:
      rms_norm_steps(work, tile, in, out, true);
      break;
    case CLT_K_NN_CROSS_ENTROPY:
      cross_entropy_steps(work, tile, in, out, false);
      break;
    case CLT_K_NN_CROSS_ENTROPY_BACK:
      cross_entropy_steps(work, tile, in, out, true);
      break;
    case CLT_K_NN_GATHER:
      embedding_steps(work, tile, in, out, false);
      break;
    case CLT_K_NN_SCATTER:
      embedding_steps(work, tile, in, out, true);
      break;
    case CLT_K_NN_COLUMN_SUMS:
      column_steps(work, tile, in, out);
      break;
    case CLT_K_NN_NORM_PARTS:
      clt_nn_norm_add(work, tile, &call);
      break;
    case CLT_K_NN_LOSS_PARTS:
      loss_steps(work, tile, in, out);
      break;
    default:
      fold_steps(work, tile, in, out);
  }
}

const clt_guard_problem clt_nn_guard = {steps, inputs, 1, CLT_GUARD_OUT};
