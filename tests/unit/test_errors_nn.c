/* What the layers around attention and the optimizer refuse: each bad argument by
 * its name, with nothing written. */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "clattn_nn.h"
#include "errors.h"

#define COUNT(array) (int)(sizeof(array) / sizeof *(array))

/* Every tensor that a call may take, good ones. */
typedef struct nn_args {
  clattn_tensor x, out, g, d_x, d_x2, row, d_row, d_row2, ids, table, number;
  clattn_nn_layer_norm_args norm;
  clattn_nn_rms_norm_args rms;
  clattn_nn_cross_entropy_args entropy;
  clattn_nn_adamw_args adamw;
  clattn_nn_gelu_kind kind;
  uint32_t accumulate;
  float scale;
} nn_args;

static bool norm_fault(int n, fault *f, nn_args *a) {
  BAD("args->struct_size", a->norm.struct_size = 0)
  BAD("args->x", a->norm.x.buffer = NULL)
  BAD("args->x", a->norm.x.dtype = CLATTN_F16)
  BAD("args->x", a->norm.x.extent[1] = 2)
  BAD("args->x: stride[3]", a->norm.x.stride[3] = 2)
  BAD("args->weight", a->norm.weight.extent[3]--)
  BAD("args->bias", a->norm.bias.buffer = elsewhere)
  BAD("args->out", a->norm.out.extent[2]--)
  BAD("args->out", a->norm.out.buffer = NULL)
  BAD("args->out", a->norm.out = a->norm.x)
  BAD("args->mean", a->norm.mean.extent[3] = 2)
  BAD("args->rstd", a->norm.rstd = a->norm.mean)
  BAD("args->eps", a->norm.eps = 0)
  BAD("args->eps", a->norm.eps = NAN)
  return false;
}
static bool norm_back_fault(int n, fault *f, nn_args *a) {
  BAD("args->x", a->norm.x.buffer = NULL)
  BAD("args->mean", a->norm.mean.buffer = NULL)
  BAD("args->rstd", a->norm.rstd.buffer = NULL)
  BAD("d_out", a->g.extent[0] = 1)
  BAD("d_out", a->g.buffer = NULL)
  BAD("d_x", a->d_x.extent[3]++)
  BAD("d_x", a->d_x = a->g)
  BAD("d_weight", a->d_row.extent[2] = 2)
  BAD("d_bias", a->d_row2 = a->d_row)
  BAD("accumulate", a->accumulate = 4)
  return false;
}
static bool rms_fault(int n, fault *f, nn_args *a) {
  BAD("args->struct_size", a->rms.struct_size--)
  BAD("args->x", a->rms.x.dtype = CLATTN_F16)
  BAD("args->x: stride[3]", a->rms.x.stride[3] = 2)
  BAD("args->weight", a->rms.weight.extent[3]--)
  BAD("args->weight", a->rms.weight.buffer = elsewhere)
  BAD("args->out", a->rms.out.buffer = NULL)
  BAD("args->out", a->rms.out = a->rms.x)
  BAD("args->rms", a->rms.rms.extent[3] = 2)
  BAD("args->eps", a->rms.eps = -1)
  BAD("args->eps", a->rms.eps = INFINITY)
  return false;
}
static bool rms_back_fault(int n, fault *f, nn_args *a) {
  BAD("args->x", a->rms.x.buffer = NULL)
  BAD("args->rms", a->rms.rms.buffer = NULL)
  BAD("d_out", a->g.extent[2]--)
  BAD("d_x", a->d_x = a->g)
  BAD("d_weight", a->d_row.extent[3]++)
  BAD("accumulate", a->accumulate = 4)
  return false;
}
static bool swiglu_fault(int n, fault *f, nn_args *a) {
  BAD("gate", a->x.dtype = CLATTN_I32)
  BAD("up", a->g.extent[2]--)
  BAD("out", a->out = a->g)
  BAD("out", a->out.buffer = NULL)
  return false;
}
static bool swiglu_back_fault(int n, fault *f, nn_args *a) {
  BAD("gate", a->x.buffer = NULL)
  BAD("up", a->out.extent[3]--)
  BAD("d_out", a->g.buffer = elsewhere)
  BAD("d_gate", a->d_x = a->g)
  BAD("d_up", a->d_x2 = a->d_x)
  BAD("d_up", a->d_x2.stride[2] = 0)
  return false;
}
static bool tanh_fault(int n, fault *f, nn_args *a) {
  BAD("x", a->x.extent[1] = 2)
  BAD("out", a->out.extent[0] = 1)
  BAD("out", a->out = a->x, a->out.offset++)
  return false;
}
static bool tanh_back_fault(int n, fault *f, nn_args *a) {
  BAD("out", a->out.buffer = NULL)
  BAD("d_out", a->g.extent[2]--)
  BAD("d_x", a->d_x = a->out)
  return false;
}
static bool gelu_fault(int n, fault *f, nn_args *a) {
  BAD("kind", a->kind = (clattn_nn_gelu_kind)2)
  BAD("x", a->x.dtype = CLATTN_BF16)
  BAD("out", a->out.extent[2]--)
  BAD("out", a->out = a->x, a->out.offset++)
  return false;
}
static bool gelu_back_fault(int n, fault *f, nn_args *a) {
  BAD("kind", a->kind = (clattn_nn_gelu_kind)-1)
  BAD("d_out", a->g.extent[2]--)
  BAD("d_x", a->d_x = a->x)
  BAD("d_x", a->d_x.stride[2] = 0)
  return false;
}
static bool add_fault(int n, fault *f, nn_args *a) {
  BAD("a:", a->x.offset = -1)
  BAD("b:", a->row.extent[3]--)
  BAD("b:", a->row.extent[2] = 2)
  BAD("out", a->out = a->row)
  BAD("out", a->out.buffer = elsewhere)
  return false;
}
static bool add_back_fault(int n, fault *f, nn_args *a) {
  BAD("d_out", a->g.buffer = NULL)
  BAD("d_b", a->d_row.extent[2] = 2)
  BAD("d_b", a->d_row.buffer = a->g.buffer, a->d_row.offset = a->g.offset)
  BAD("accumulate", a->accumulate = 8)
  return false;
}
static bool embedding_fault(int n, fault *f, nn_args *a) {
  BAD("table", a->table.extent[0] = 2)
  BAD("table", a->table.stride[3] = 2)
  BAD("table", a->table.dtype = CLATTN_I32)
  BAD("ids", a->ids.dtype = CLATTN_F32)
  BAD("ids", a->ids.extent[3] = 2)
  BAD("out", a->out.extent[3]--)
  BAD("out", a->out.offset = a->table.offset)
  return false;
}
static bool embedding_back_fault(int n, fault *f, nn_args *a) {
  BAD("ids", a->ids.dtype = CLATTN_BOOL)
  BAD("d_out", a->g.extent[2]--)
  BAD("d_table", a->table.extent[3]--)
  BAD("d_table", a->table.stride[2] = 0)
  return false;
}
static bool entropy_fault(int n, fault *f, nn_args *a) {
  BAD("args->struct_size", a->entropy.struct_size++)
  BAD("args->logits", a->entropy.logits.buffer = NULL)
  BAD("args->targets", a->entropy.targets.dtype = CLATTN_F32)
  BAD("args->targets", a->entropy.targets.extent[2]--)
  BAD("args->losses", a->entropy.losses.buffer = NULL)
  BAD("args->losses", a->entropy.losses = a->entropy.lse)
  BAD("args->lse", a->entropy.lse.extent[0]++)
  BAD("args->mean", a->entropy.mean.extent[3] = 1)
  return false;
}
static bool entropy_back_fault(int n, fault *f, nn_args *a) {
  BAD("args->mean", a->entropy.mean.buffer = NULL)
  BAD("args->lse", a->entropy.lse.buffer = NULL)
  BAD("scale", a->scale = INFINITY)
  BAD("d_logits", a->d_x.extent[3]--)
  BAD("d_logits", a->d_x = a->entropy.logits, a->d_x.offset++)
  return false;
}
static bool optimizer_fault(int n, fault *f, nn_args *a) {
  BAD("args->struct_size", a->adamw.struct_size = 1)
  BAD("args->param", a->adamw.param.buffer = NULL)
  BAD("args->grad", a->adamw.grad.extent[2]--)
  BAD("args->m", a->adamw.m = a->adamw.param)
  BAD("args->v", a->adamw.v = a->adamw.m)
  BAD("args->norm", a->adamw.norm.extent[3] = 2)
  BAD("args->max_norm", a->adamw.max_norm = 0)
  BAD("args->max_norm", a->adamw.max_norm = NAN)
  BAD("args->lr", a->adamw.lr = -1)
  BAD("args->lr", a->adamw.lr = INFINITY)
  BAD("args->beta1", a->adamw.beta1 = 1)
  BAD("args->beta2", a->adamw.beta2 = -0.5f)
  BAD("args->eps", a->adamw.eps = 0)
  BAD("args->weight_decay", a->adamw.weight_decay = NAN)
  BAD("args->step", a->adamw.step = 0)
  return false;
}

static clattn_status call(clattn_queue *q, int which, const nn_args *a) {
  switch (which) {
    case 0:
      return clattn_nn_layer_norm(q, &a->norm, NULL, 0, NULL);
    case 1:
      return clattn_nn_layer_norm_backward(q, &a->norm, &a->g, &a->d_x,
                                           &a->d_row, &a->d_row2, a->accumulate,
                                           NULL, 0, NULL);
    case 2:
      return clattn_nn_gelu(q, a->kind, &a->x, &a->out, NULL, 0, NULL);
    case 3:
      return clattn_nn_gelu_backward(q, a->kind, &a->x, &a->g, &a->d_x, NULL, 0,
                                     NULL);
    case 4:
      return clattn_nn_add(q, &a->x, &a->row, &a->out, NULL, 0, NULL);
    case 5:
      return clattn_nn_add_backward(q, &a->g, &a->d_row, a->accumulate, NULL, 0,
                                    NULL);
    case 6:
      return clattn_nn_embedding(q, &a->table, &a->ids, &a->out, NULL, 0, NULL);
    case 7:
      return clattn_nn_embedding_backward(q, &a->ids, &a->g, &a->table, NULL, 0,
                                          NULL);
    case 8:
      return clattn_nn_cross_entropy(q, &a->entropy, NULL, 0, NULL);
    case 9:
      return clattn_nn_cross_entropy_backward(q, &a->entropy, a->scale, &a->d_x,
                                              NULL, 0, NULL);
    case 10:
      return clattn_nn_adamw(q, &a->adamw, NULL, 0, NULL);
    case 11:
      return clattn_nn_rms_norm(q, &a->rms, NULL, 0, NULL);
    case 12:
      return clattn_nn_rms_norm_backward(q, &a->rms, &a->g, &a->d_x, &a->d_row,
                                         a->accumulate, NULL, 0, NULL);
    case 13:
      return clattn_nn_swiglu(q, &a->x, &a->g, &a->out, NULL, 0, NULL);
    case 14:
      return clattn_nn_swiglu_backward(q, &a->x, &a->out, &a->g, &a->d_x,
                                       &a->d_x2, NULL, 0, NULL);
    case 15:
      return clattn_nn_tanh(q, &a->x, &a->out, NULL, 0, NULL);
    default:
      return clattn_nn_tanh_backward(q, &a->out, &a->g, &a->d_x, NULL, 0, NULL);
  }
}

/* A view from element *at of a buffer on; *at moves on. */
enum { PAGE = 256 };
static clattn_tensor page(clattn_buffer *buffer, clattn_dtype type, int64_t *at,
                          int64_t b, int64_t m, int64_t d) {
  clattn_tensor t = clattn_view_bhsd(buffer, type, b, 1, m, d);
  t.offset = *at;
  *at += PAGE;
  return t;
}

static void errors(const th_device *device) {
  static bool (*const faults[])(int, fault *, nn_args *) = {
      norm_fault,        norm_back_fault,
      gelu_fault,        gelu_back_fault,
      add_fault,         add_back_fault,
      embedding_fault,   embedding_back_fault,
      entropy_fault,     entropy_back_fault,
      optimizer_fault,   rms_fault,
      rms_back_fault,    swiglu_fault,
      swiglu_back_fault, tanh_fault,
      tanh_back_fault};
  enum { B = 2, M = 5, D = 8, FLOATS = 40 * PAGE };
  clattn_queue *q = device->queue;
  clattn_buffer *buffer;
  float *before = calloc(FLOATS, 4), *after = calloc(FLOATS, 4);
  if (!before || !after) abort();
  for (int i = 0; i < FLOATS; i++) before[i] = 0.5f;
  TH_OK(clattn_buffer_create(device->context, device->index, FLOATS * 4,
                             &buffer));
  TH_OK(clattn_buffer_write(q, buffer, 0, before, FLOATS * 4));
  nn_args good = {.scale = 1};
  int64_t at = 0;
  clattn_tensor *const wide[] = {&good.x, &good.out, &good.g, &good.d_x,
                                 &good.d_x2};
  for (int i = 0; i < COUNT(wide); i++)
    *wide[i] = page(buffer, CLATTN_F32, &at, B, M, D);
  clattn_tensor *const rows[] = {&good.row, &good.d_row, &good.d_row2};
  for (int i = 0; i < 3; i++) *rows[i] = page(buffer, CLATTN_F32, &at, 1, 1, D);
  good.ids = page(buffer, CLATTN_I32, &at, B, M, 1);
  good.table = page(buffer, CLATTN_F32, &at, 1, 6, D);
  good.number = page(buffer, CLATTN_F32, &at, 1, 1, 1);
  clattn_nn_layer_norm_args_init(NULL);
  clattn_nn_cross_entropy_args_init(NULL);
  clattn_nn_adamw_args_init(NULL);
  clattn_nn_layer_norm_args_init(&good.norm);
  good.norm.x = good.x, good.norm.out = good.out;
  good.norm.weight = good.norm.bias = good.row;
  good.norm.mean = page(buffer, CLATTN_F32, &at, B, M, 1);
  good.norm.rstd = page(buffer, CLATTN_F32, &at, B, M, 1);
  clattn_nn_rms_norm_args_init(NULL);
  clattn_nn_rms_norm_args_init(&good.rms);
  good.rms.x = good.x, good.rms.out = good.out, good.rms.weight = good.row;
  good.rms.rms = page(buffer, CLATTN_F32, &at, B, M, 1);
  clattn_nn_cross_entropy_args_init(&good.entropy);
  good.entropy.logits = good.x, good.entropy.targets = good.ids;
  good.entropy.losses = page(buffer, CLATTN_F32, &at, B, M, 1);
  good.entropy.lse = page(buffer, CLATTN_F32, &at, B, M, 1);
  good.entropy.mean = page(buffer, CLATTN_F32, &at, 1, 1, 2);
  clattn_nn_adamw_args_init(&good.adamw);
  good.adamw.step = 1, good.adamw.norm = good.number;
  good.adamw.param = page(buffer, CLATTN_F32, &at, B, M, D);
  good.adamw.grad = page(buffer, CLATTN_F32, &at, B, M, D);
  good.adamw.m = page(buffer, CLATTN_F32, &at, B, M, D);
  good.adamw.v = page(buffer, CLATTN_F32, &at, B, M, D);

  fault f;
  for (int which = 0; which < COUNT(faults); which++)
    for (int n = 0;; n++) {
      nn_args a = good;
      if (!faults[which](n, &f, &a)) break;
      char where[32];
      snprintf(where, sizeof where, "call %d", which);
      expect(call(q, which, &a), &f, where);
      FAILS(INVALID_ARGUMENT, "queue", call(NULL, which, &good));
    }
  const clattn_tensor *x = &good.x, *one = &good.number;
  clattn_tensor bad = good.x;
  bad.stride[2] = 0;
  FAILS(INVALID_ARGUMENT, "x:", clattn_nn_fill(q, NULL, 1, NULL, 0, NULL));
  FAILS(INVALID_ARGUMENT, "x:", clattn_nn_fill(q, &bad, 1, NULL, 0, NULL));
  FAILS(INVALID_ARGUMENT, "wait", clattn_nn_fill(q, x, 1, NULL, 1, NULL));
  FAILS(INVALID_ARGUMENT, "x:", clattn_nn_norm(q, NULL, one, NULL, 0, NULL));
  FAILS(INVALID_ARGUMENT, "norm:", clattn_nn_norm(q, x, NULL, NULL, 0, NULL));
  FAILS(INVALID_ARGUMENT, "norm:", clattn_nn_norm(q, x, x, NULL, 0, NULL));
  FAILS(INVALID_ARGUMENT,
        "out:", clattn_nn_gelu(q, good.kind, x, NULL, NULL, 0, NULL));
  FAILS(INVALID_ARGUMENT,
        "b:", clattn_nn_add(q, x, NULL, &good.out, NULL, 0, NULL));
  TH_OK(clattn_buffer_read(q, buffer, 0, after, FLOATS * 4));
  cr_expect(memcmp(before, after, FLOATS * 4) == 0, "a failed call wrote");
  for (int which = 0; which < COUNT(faults); which++)
    TH_OK(call(q, which, &good));
  TH_OK(clattn_queue_finish(q));
  clattn_buffer_destroy(buffer);
  free(before);
  free(after);
}

Test(errors_nn, sinusoidal) {
  float table[8] = {0};
  FAILS(INVALID_ARGUMENT, "first", clattn_nn_sinusoidal(-1, 2, 4, table));
  FAILS(INVALID_ARGUMENT, "first",
        clattn_nn_sinusoidal(INT64_MAX, 2, 4, table));
  FAILS(INVALID_ARGUMENT, "n:", clattn_nn_sinusoidal(0, 0, 4, table));
  FAILS(INVALID_ARGUMENT, "D:", clattn_nn_sinusoidal(0, 2, 0, table));
  FAILS(INVALID_ARGUMENT, "n * D",
        clattn_nn_sinusoidal(0, 1LL << 40, 1LL << 30, table));
  FAILS(INVALID_ARGUMENT, "table", clattn_nn_sinusoidal(0, 2, 4, NULL));
  for (int i = 0; i < 8; i++) cr_expect(table[i] == 0);
}

Test(errors_nn, bad_arguments) {
  clattn_context *other = another_context();
  TH_OK(clattn_buffer_create(other, 0, 65536, &elsewhere));
  th_each_device(errors);
  clattn_buffer_destroy(elsewhere);
  clattn_context_destroy(other);
}
