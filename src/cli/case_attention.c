/* case_attention.c - the op Attention: ONNX's operator and this library's own
 * cases, as one call of clattn_execute; and the op AttentionGrad, with
 * clattn_backward behind it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "case.h"

static const char *const attributes[] = {"is_causal",
                                         "scale",
                                         "softcap",
                                         "q_num_heads",
                                         "kv_num_heads",
                                         "q_start",
                                         "window_left",
                                         "window_right",
                                         "qk_matmul_output_mode",
                                         "softmax_precision",
                                         NULL};
static const char *const inputs[] = {"Q",
                                     "K",
                                     "V",
                                     "attn_mask",
                                     "past_key",
                                     "past_value",
                                     "nonpad_kv_seqlen",
                                     "kv_lengths",
                                     "alibi_slopes",
                                     "sinks",
                                     NULL};
static const char *const outputs[] = {
    "Y", "lse", "weights", "present_key", "present_value", "qk_matmul_output",
    NULL};

/* Of AttentionGrad. */
static const char *const grad_attributes[] = {
    "is_causal",   "scale",        "softcap", "q_num_heads", "kv_num_heads",
    "window_left", "window_right", "q_start", NULL};
static const char *const grad_inputs[] = {
    "Q",     "K",  "V", "attn_mask", "kv_lengths", "alibi_slopes",
    "sinks", "dY", NULL};
static const char *const grad_outputs[] = {"Y", "lse", "dQ", "dK", "dV", NULL};

/* B batch; Hq, Hk heads; Sq query rows; S new keys; P past keys; T = P + S;
 * D and Dv head sizes. */
typedef struct problem {
  cli_case *c;
  int64_t B, Hq, Hk, Sq, S, P, T, D, Dv;
  bool merged; /* inputs are (B,S,H*D) rather than (B,H,S,D) */
  clattn_desc desc;
  clattn_args args;
  clattn_grads grads;
} problem;

/* ---- shapes -------------------------------------------------------------- */

/* Rows, heads and head size of Q, K or V. */
static bool split_shape(problem *p, const clattn_kit_tensor *tensor,
                        int64_t heads, int64_t *h, int64_t *s, int64_t *d) {
  const int64_t *e = tensor->extent;
  if (!p->merged) {
    *h = e[1];
    *s = e[2];
    *d = e[3];
  } else {
    if (heads < 1 || e[2] % heads != 0)
      return case_fail(p->c,
                       "input %s: %lld columns do not split into %lld "
                       "heads",
                       tensor->name + 3, (long long)e[2], (long long)heads);
    *h = heads;
    *s = e[1];
    *d = e[2] / heads;
  }
  if (e[0] != p->B || clattn_kit_tensor_elements(tensor) == 0)
    return case_fail(p->c, "input %s: empty, or of another batch size than Q",
                     tensor->name + 3);
  return true;
}

/* A dense buffer as [B,h,s,d], in the file's order of axes. */
static clattn_tensor view_heads(const problem *p, clattn_buffer *buffer,
                                clattn_dtype dtype, int64_t h, int64_t s,
                                int64_t d) {
  return p->merged ? clattn_view_bshd(buffer, dtype, p->B, h, s, d)
                   : clattn_view_bhsd(buffer, dtype, p->B, h, s, d);
}

/* Uploads Q, K or V and sees it as [B,h,s,d]. */
static bool upload_heads(problem *p, const clattn_kit_tensor *tensor, int64_t h,
                         int64_t s, int64_t d, clattn_tensor *view) {
  if (!case_upload(p->c, tensor, view)) return false;
  *view = view_heads(p, view->buffer, view->dtype, h, s, d);
  return true;
}

static bool load_qkv(problem *p) {
  cli_case *c = p->c;
  clattn_kit_tensor q, k, v;
  int64_t q_heads, kv_heads, v_heads, v_rows, k_dim;
  if (!case_required(c, "Q", &q) || !case_required(c, "K", &k) ||
      !case_required(c, "V", &v) ||
      !case_integer(c, "q_num_heads", 0, &q_heads) ||
      !case_integer(c, "kv_num_heads", 0, &kv_heads))
    return false;
  if ((q.rank != 3 && q.rank != 4) || k.rank != q.rank || v.rank != q.rank)
    return case_fail(c, "Q, K, V: got ranks %d, %d, %d, want all 3 or all 4",
                     q.rank, k.rank, v.rank);
  if (k.dtype != q.dtype || v.dtype != q.dtype)
    return case_skip(c, "K or V has another type than Q");
  p->merged = q.rank == 3;
  p->B = q.extent[0];
  if (!split_shape(p, &q, q_heads, &p->Hq, &p->Sq, &p->D) ||
      !split_shape(p, &k, kv_heads, &p->Hk, &p->S, &k_dim) ||
      !split_shape(p, &v, kv_heads, &v_heads, &v_rows, &p->Dv))
    return false;
  if (k_dim != p->D || v_heads != p->Hk || v_rows != p->S)
    return case_fail(c, "K and V: their shapes do not fit Q and each other");
  p->T = p->S;
  return upload_heads(p, &q, p->Hq, p->Sq, p->D, &p->args.q) &&
         upload_heads(p, &k, p->Hk, p->S, p->D, &p->args.k) &&
         upload_heads(p, &v, p->Hk, p->S, p->Dv, &p->args.v);
}

/* ---- past and present ---------------------------------------------------- */

/* Rows first .. first + n - 1 of a [b,h,s,d] view. */
static clattn_tensor rows_of(clattn_tensor view, int64_t first, int64_t n) {
  view.offset += first * view.stride[2];
  view.extent[2] = n;
  return view;
}

/* Makes present = past, then new, and puts it in the place of `fresh`. */
static bool append(problem *p, const char *name, const clattn_kit_tensor *past,
                   int64_t d, clattn_tensor *fresh) {
  const int64_t shape[] = {p->B, p->Hk, p->T, d};
  cli_case *c = p->c;
  clattn_buffer *buffer;
  int64_t offset;
  if (!case_expect(c, name, fresh->dtype, 4, shape, &buffer, &offset))
    return false;
  clattn_tensor present =
      clattn_view_bhsd(buffer, fresh->dtype, p->B, p->Hk, p->T, d);
  present.offset = offset;
  const clattn_tensor head = rows_of(present, 0, p->P);
  const clattn_tensor tail = rows_of(present, p->P, p->S);
  clattn_queue *queue = c->target->queue;
  if (p->P > 0) {
    clattn_tensor old;
    if (!case_upload_as(c, past, p->B, p->Hk, p->P, d, &old) ||
        !case_ok(c, clattn_copy(queue, &old, &head, NULL, 0, NULL)))
      return false;
  }
  if (!case_ok(c, clattn_copy(queue, fresh, &tail, NULL, 0, NULL)) ||
      !case_ok(c, clattn_queue_finish(queue)))
    return false;
  *fresh = present;
  return true;
}

static bool load_past(problem *p) {
  cli_case *c = p->c;
  clattn_kit_tensor key, value;
  if (!case_input(c, "past_key", &key) || !case_input(c, "past_value", &value))
    return false;
  if ((key.name == NULL) != (value.name == NULL))
    return case_fail(c, "past_key and past_value come together or not at all");
  if (key.name != NULL) {
    if (key.rank != 4 || value.rank != 4 || key.extent[2] != value.extent[2])
      return case_fail(c, "past_key, past_value: want (B,Hk,P,D), (B,Hk,P,Dv)");
    p->P = key.extent[2];
    p->T = p->P + p->S;
  } else if (!case_wants(c, "present_key") && !case_wants(c, "present_value")) {
    return true;
  }
  return append(p, "present_key", &key, p->D, &p->args.k) &&
         append(p, "present_value", &value, p->Dv, &p->args.v);
}

/* ---- what hides keys ----------------------------------------------------- */

/* One element that hides: false, or minus infinity. */
static bool hiding_element(clattn_kit_dtype dtype, unsigned char *bytes) {
  static const uint32_t f32 = 0xff800000u;
  static const uint16_t f16 = 0xfc00u, bf16 = 0xff80u;
  switch (dtype) {
    case CLATTN_KIT_BOOL:
      *bytes = 0;
      return true;
    case CLATTN_KIT_F32:
      memcpy(bytes, &f32, 4);
      return true;
    case CLATTN_KIT_F16:
      memcpy(bytes, &f16, 2);
      return true;
    case CLATTN_KIT_BF16:
      memcpy(bytes, &bf16, 2);
      return true;
    default:
      return false;
  }
}

/* A copy of a mask whose last axis is extended to T by what hides (opset 24).
 * NULL: no memory. */
static unsigned char *pad_mask(const clattn_kit_tensor *mask, int64_t T,
                               const unsigned char *hidden) {
  const size_t size = clattn_kit_dtype_size(mask->dtype);
  const size_t columns = (size_t)mask->extent[mask->rank - 1];
  const size_t rows = columns ? mask->size_bytes / size / columns : 0;
  unsigned char *padded = malloc(rows * (size_t)T * size + 1);
  if (padded == NULL) return NULL;
  const unsigned char *from = mask->data;
  for (size_t i = 0; i < rows; i++) {
    unsigned char *row = padded + i * (size_t)T * size;
    memcpy(row, from + i * columns * size, columns * size);
    for (size_t j = columns; j < (size_t)T; j++)
      memcpy(row + j * size, hidden, size);
  }
  return padded;
}

static bool load_mask(problem *p) {
  cli_case *c = p->c;
  clattn_kit_tensor mask;
  if (!case_input(c, "attn_mask", &mask)) return false;
  if (mask.name == NULL) return true;
  unsigned char hidden[8];
  if (!hiding_element(mask.dtype, hidden))
    return case_fail(c, "attn_mask: got type %s, want BOOL or a float",
                     clattn_kit_dtype_name(mask.dtype));
  if (mask.rank < 1 || mask.rank > 4 || mask.size_bytes == 0)
    return case_fail(c, "attn_mask: want rank 1..4 and no extent 0");
  unsigned char *padded = NULL;
  int64_t *last = &mask.extent[mask.rank - 1];
  if (c->opset >= 24 && *last < p->T) {
    padded = pad_mask(&mask, p->T, hidden);
    if (padded == NULL) return case_fail(c, "no memory");
    mask.size_bytes = mask.size_bytes / (size_t)*last * (size_t)p->T;
    mask.data = padded;
    *last = p->T;
  }
  const bool boolean = mask.dtype == CLATTN_KIT_BOOL;
  const bool ok =
      case_upload(c, &mask, boolean ? &p->args.mask : &p->args.bias);
  free(padded);
  return ok;
}

/* kv_lengths (B), slopes (Hq), sinks (Hq): each along one axis of four. */
static bool load_vectors(problem *p) {
  cli_case *c = p->c;
  clattn_kit_tensor lengths, slopes, sinks, other;
  const char *const names[] = {"kv_lengths", "nonpad_kv_seqlen"};
  const bool onnx = c->opset != 0;
  if (!case_input(c, names[onnx], &lengths) ||
      !case_input(c, names[!onnx], &other) ||
      !case_input(c, "alibi_slopes", &slopes) ||
      !case_input(c, "sinks", &sinks))
    return false;
  if (other.name != NULL)
    return case_skip(c, "tensor '%s' is not known in this opset", other.name);
  return (lengths.name == NULL ||
          case_upload_as(c, &lengths, p->B, 1, 1, 1, &p->args.kv_lengths)) &&
         (slopes.name == NULL ||
          case_upload_as(c, &slopes, 1, p->Hq, 1, 1, &p->args.alibi_slopes)) &&
         (sinks.name == NULL ||
          case_upload_as(c, &sinks, 1, p->Hq, 1, 1, &p->args.sinks));
}

/* Where row 0 stands. ONNX: behind the past; at the end of what is there when
 * lengths are given; else at key 0. */
static bool load_position(problem *p) {
  int64_t absent = CLATTN_AT_END;
  if (p->c->opset != 0 && p->args.kv_lengths.buffer == NULL) absent = p->P;
  return case_integer(p->c, "q_start", absent, &p->args.q_start);
}

/* ---- the call ------------------------------------------------------------ */

static bool load_desc(problem *p) {
  cli_case *c = p->c;
  clattn_desc *desc = &p->desc;
  int64_t causal, mode;
  if (!case_integer(c, "is_causal", 0, &causal) ||
      !case_integer(c, "window_left", -1, &desc->window_left) ||
      !case_integer(c, "window_right", -1, &desc->window_right) ||
      !case_integer(c, "qk_matmul_output_mode", 0, &mode) ||
      !case_real(c, "scale", NAN, &desc->scale) ||
      !case_real(c, "softcap", 0, &desc->softcap))
    return false;
  static const clattn_weights_stage stages[] = {
      CLATTN_WEIGHTS_SCORES, CLATTN_WEIGHTS_CAPPED, CLATTN_WEIGHTS_BIASED,
      CLATTN_WEIGHTS_PROBABILITIES};
  if (mode < 0 || mode > 3)
    return case_fail(c, "qk_matmul_output_mode: got %lld, want 0..3",
                     (long long)mode);
  /* softmax_precision: the library's softmax is F32, at least as wide as any
   * type that a case may ask for within its tolerance. */
  desc->weights_stage =
      c->opset != 0 ? stages[mode] : CLATTN_WEIGHTS_PROBABILITIES;
  desc->causal = causal != 0;
  desc->dtype = p->args.q.dtype;
  desc->q_heads = p->Hq;
  desc->kv_heads = p->Hk;
  desc->qk_dim = p->D;
  desc->v_dim = p->Dv;
  desc->path = c->target->path;
  return true;
}

/* Memory for an output that is split into heads like Q, K and V. */
static bool expect_heads(problem *p, const char *name, clattn_dtype dtype,
                         int64_t h, int64_t s, int64_t d, clattn_tensor *view) {
  const int64_t merged[] = {p->B, s, h * d}, apart[] = {p->B, h, s, d};
  clattn_buffer *buffer;
  int64_t offset;
  if (!case_expect(p->c, name, dtype, p->merged ? 3 : 4,
                   p->merged ? merged : apart, &buffer, &offset))
    return false;
  *view = view_heads(p, buffer, dtype, h, s, d);
  view->offset = offset;
  return true;
}

static bool expect_out(problem *p) {
  return expect_heads(p, "Y", p->args.q.dtype, p->Hq, p->Sq, p->Dv,
                      &p->args.out);
}

static bool expect_lse(problem *p) {
  cli_case *c = p->c;
  if (!p->desc.backward &&
      (c->says_outputs ? !case_wants(c, "lse") : c->opset != 0))
    return true;
  const int64_t shape[] = {p->B, p->Hq, p->Sq, 1};
  clattn_buffer *buffer;
  int64_t offset;
  if (!case_expect(c, "lse", CLATTN_F32, 3, shape, &buffer, &offset))
    return false;
  p->args.lse = clattn_view(buffer, CLATTN_F32, 4, shape);
  p->args.lse.offset = offset;
  p->desc.outputs |= CLATTN_OUT_LSE;
  return true;
}

static bool expect_weights(problem *p) {
  cli_case *c = p->c;
  const char *name = c->opset != 0 ? "qk_matmul_output" : "weights";
  if (!c->weights || !case_wants(c, name)) return true;
  const clattn_dtype dtype = case_want_dtype(c, name, CLATTN_F32);
  const int64_t shape[] = {p->B, p->Hq, p->Sq, p->T};
  clattn_buffer *buffer;
  int64_t offset;
  if (!case_expect(c, name, dtype, 4, shape, &buffer, &offset)) return false;
  p->args.weights = clattn_view(buffer, dtype, 4, shape);
  p->args.weights.offset = offset;
  p->desc.outputs |= CLATTN_OUT_WEIGHTS;
  return true;
}

/* ---- gradients ----------------------------------------------------------- */

static bool expect_grad(problem *p, const char *name, const clattn_tensor *of,
                        clattn_tensor *view) {
  if (!case_gives(p->c, name)) return true;
  return expect_heads(p, name, case_want_dtype(p->c, name, of->dtype),
                      of->extent[1], of->extent[2], of->extent[3], view);
}

static bool load_grads(problem *p) {
  cli_case *c = p->c;
  clattn_kit_tensor d_out;
  int64_t h, s, d;
  if (!case_required(c, "dY", &d_out)) return false;
  if (d_out.rank != (p->merged ? 3 : 4))
    return case_fail(c, "dY: got rank %d, want Q's", d_out.rank);
  if (!split_shape(p, &d_out, p->Hq, &h, &s, &d)) return false;
  if (h != p->Hq || s != p->Sq || d != p->Dv)
    return case_fail(c, "dY: its shape is not that of Y");
  return upload_heads(p, &d_out, h, s, d, &p->grads.d_out) &&
         expect_grad(p, "dQ", &p->args.q, &p->grads.d_q) &&
         expect_grad(p, "dK", &p->args.k, &p->grads.d_k) &&
         expect_grad(p, "dV", &p->args.v, &p->grads.d_v);
}

/* ---- running ------------------------------------------------------------- */

bool case_attention(cli_case *c) {
  problem p = {.c = c};
  clattn_desc_init(&p.desc);
  clattn_args_init(&p.args);
  clattn_grads_init(&p.grads);
  const bool grad = strcmp(c->op, "AttentionGrad") == 0;
  p.desc.backward = grad;
  if (!(grad ? case_knows(c, grad_attributes, grad_inputs, grad_outputs)
             : case_knows(c, attributes, inputs, outputs)) ||
      !load_qkv(&p) || !load_past(&p) || !load_mask(&p) || !load_vectors(&p) ||
      !load_position(&p) || !load_desc(&p) || !expect_out(&p) ||
      !expect_lse(&p) || !expect_weights(&p) || (grad && !load_grads(&p)))
    return false;
  const case_target *t = c->target;
  clattn_plan *plan;
  if (!case_ok(c, clattn_plan_create(t->context, t->device, &p.desc, &plan)))
    return false;
  bool ok =
      case_ok(c, clattn_execute(plan, t->queue, &p.args, NULL, NULL, 0, NULL));
  if (ok && grad)
    ok = case_ok(c, clattn_backward(plan, t->queue, &p.args, &p.grads, NULL,
                                    NULL, 0, NULL));
  clattn_plan_destroy(plan);
  return ok;
}
