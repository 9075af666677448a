/* The layers around attention and the optimizer, on every device and with the
 * kernels for GPUs, against plain loops in double. */
#define _POSIX_C_SOURCE 200809L
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../support/oracle_nn.h"
#include "clattn_nn.h"
#include "harness.h"

#define COUNT(array) (int)(sizeof(array) / sizeof *(array))

typedef struct shape {
  int b, m, d;
  th_layout layout;
} shape;
static const shape shapes[] = {{1, 1, 1, TH_BHSD},   {1, 3, 17, TH_BHSD},
                               {2, 3, 17, TH_GAPS},  {1, 17, 3, TH_GAPS},
                               {2, 1, 130, TH_BHSD}, {1, 2, 130, TH_GAPS},
                               {2, 75, 3, TH_GAPS},  {1, 130, 1, TH_GAPS}};

static th_tensor make(th_pool *pool, th_rng *rng, int b, int m, int d,
                      th_layout layout, double size) {
  return th_make(pool, CLATTN_F32, TH_EXTENT(b, 1, m, d), layout,
                 th_values(pool, rng, CLATTN_F32, (int64_t)b * m * d, size));
}
static double *doubles(th_pool *pool, int64_t n) {
  return th_alloc(pool, (size_t)n * sizeof(double));
}

/* Fetches t, compares, and sees that nothing beside it has changed. length: of
 * the sums in it. */
static void expect_near(const th_device *device, th_pool *pool,
                        const th_tensor *t, const double *want, int64_t length,
                        double k, const char *what) {
  char message[256];
  double *got = doubles(pool, t->n);
  cr_expect(th_fetch(device, t, got, what, message, sizeof message) &&
                th_near(t->n, got, want, CLATTN_F32, length, k, what, message,
                        sizeof message),
            "on %s%s: %s", device->info.name, device->forced ? " (gpu)" : "",
            message);
}
/* The same with a tolerance of its own for each element. */
static void expect_within(const th_device *device, th_pool *pool,
                          const th_tensor *t, const double *want,
                          const double *tol, const char *what) {
  char message[256];
  double *got = doubles(pool, t->n);
  cr_expect(
      th_fetch(device, t, got, what, message, sizeof message) &&
          th_close(t->n, got, want, tol, false, what, message, sizeof message),
      "on %s%s: %s", device->info.name, device->forced ? " (gpu)" : "",
      message);
}
static void expect_same(const th_device *device, const th_tensor *t,
                        const char *what) {
  char message[256] = "";
  cr_expect(th_fetch(device, t, NULL, what, message, sizeof message), "%s",
            message);
}

/* ---- layer norm ------------------------------------------------------------ */

typedef struct norm_user {
  int64_t M, D;
  const double *x, *weight, *bias, *d_out;
  double *out, *mean, *rstd;
} norm_user;

static double norm_loss(const void *user) {
  const norm_user *u = user;
  double sum = 0;
  onn_layer_norm(u->M, u->D, u->x, u->weight, u->bias, 1e-5, u->out, u->mean,
                 u->rstd);
  for (int64_t i = 0; i < u->M * u->D; i++) sum += u->out[i] * u->d_out[i];
  return sum;
}

static void run_layer_norm(const th_device *device, const shape *s, int form) {
  th_pool pool = {0};
  th_rng rng = {5};
  const int64_t M = (int64_t)s->b * s->m, D = s->d;
  const bool affine = form != 1;
  th_tensor x = make(&pool, &rng, s->b, s->m, s->d, s->layout, 2);
  th_tensor w = make(&pool, &rng, 1, 1, s->d, TH_BHSD, 1);
  th_tensor bias = make(&pool, &rng, 1, 1, s->d, TH_BHSD, 1);
  th_tensor out = th_make(&pool, CLATTN_F32, x.view.extent, TH_GAPS, NULL);
  const int64_t *rows = TH_EXTENT(s->b, 1, s->m, 1);
  th_tensor mean = th_make(&pool, CLATTN_F32, rows, s->layout, NULL);
  th_tensor rstd = th_make(&pool, CLATTN_F32, rows, TH_GAPS, NULL);
  th_tensor d_out = make(&pool, &rng, s->b, s->m, s->d, TH_GAPS, 1);
  /* What gradients are added to. */
  th_tensor d_x = make(&pool, &rng, s->b, s->m, s->d, TH_GAPS, 1);
  th_tensor d_w = make(&pool, &rng, 1, 1, s->d, TH_GAPS, 1);
  th_tensor d_b = make(&pool, &rng, 1, 1, s->d, TH_GAPS, 1);
  th_tensor *const all[] = {&x,    &w,     &bias, &out, &mean,
                            &rstd, &d_out, &d_x,  &d_w, &d_b};
  for (int i = 0; i < COUNT(all); i++) th_bind(device, all[i]);

  norm_user u = {M,
                 D,
                 x.v,
                 affine ? w.v : NULL,
                 affine ? bias.v : NULL,
                 d_out.v,
                 doubles(&pool, M * D),
                 doubles(&pool, M),
                 doubles(&pool, M)};
  norm_loss(&u);
  clattn_nn_layer_norm_args args;
  clattn_nn_layer_norm_args_init(&args);
  args.x = x.view, args.out = out.view;
  if (affine) args.weight = w.view, args.bias = bias.view;
  args.mean = mean.view, args.rstd = rstd.view;
  TH_OK(clattn_nn_layer_norm(device->queue, &args, NULL, 0, NULL));
  expect_near(device, &pool, &out, u.out, D, 8, "layer norm");
  expect_near(device, &pool, &mean, u.mean, D, 8, "mean");
  expect_near(device, &pool, &rstd, u.rstd, D, 8, "rstd");

  const uint32_t add = form == 2   ? CLATTN_ADD_TO_INPUTS
                       : form == 3 ? CLATTN_ADD_TO_WEIGHTS
                                   : 0;
  double *want_x = doubles(&pool, M * D), *want_w = doubles(&pool, D);
  double *want_b = doubles(&pool, D);
  onn_gradient(norm_loss, &u, M * D, x.v, want_x);
  if (affine) {
    onn_gradient(norm_loss, &u, D, w.v, want_w);
    onn_gradient(norm_loss, &u, D, bias.v, want_b);
  }
  for (int64_t i = 0; i < M * D; i++) want_x[i] += add & 1 ? d_x.v[i] : 0;
  for (int64_t i = 0; i < D; i++) want_w[i] += add & 2 ? d_w.v[i] : 0;
  for (int64_t i = 0; i < D; i++) want_b[i] += add & 2 ? d_b.v[i] : 0;
  TH_OK(clattn_nn_layer_norm_backward(
      device->queue, &args, &d_out.view, &d_x.view, affine ? &d_w.view : NULL,
      affine ? &d_b.view : NULL, add, NULL, 0, NULL));
  /* A row of one has no gradient: rstd of about 300 times what is left. */
  expect_near(device, &pool, &d_x, want_x, D, D == 1 ? 1e3 : 64, "d_x");
  if (affine) {
    expect_near(device, &pool, &d_w, want_w, M, 64, "d_weight");
    expect_near(device, &pool, &d_b, want_b, M, 16, "d_bias");
  } else {
    expect_same(device, &d_w, "d_weight");
  }
  for (int i = 0; i < COUNT(all); i++) th_unbind(all[i]);
  th_pool_free(&pool);
}

static void layer_norm(const th_device *device) {
  for (int i = 0; i < COUNT(shapes); i++)
    for (int form = 0; form < 4; form++)
      run_layer_norm(device, &shapes[i], form);
}
Test(nn, layer_norm) { th_each_device(layer_norm); }

/* A mean far from 0, which a sum of squares would not survive. */
static void far_mean(const th_device *device) {
  enum { D = 100 };
  th_pool pool = {0};
  double v[D], out[D], mean, rstd;
  for (int i = 0; i < D; i++) v[i] = 16384 + (double)(i % 7) / 8;
  th_tensor x = th_make(&pool, CLATTN_F32, TH_EXTENT(1, 1, 1, D), TH_BHSD, v);
  th_tensor y = th_make(&pool, CLATTN_F32, x.view.extent, TH_BHSD, NULL);
  th_bind(device, &x), th_bind(device, &y);
  clattn_nn_layer_norm_args args;
  clattn_nn_layer_norm_args_init(&args);
  args.x = x.view, args.out = y.view;
  TH_OK(clattn_nn_layer_norm(device->queue, &args, NULL, 0, NULL));
  onn_layer_norm(1, D, v, NULL, NULL, 1e-5, out, &mean, &rstd);
  expect_near(device, &pool, &y, out, D, 8, "far mean");
  th_unbind(&x), th_unbind(&y);
  th_pool_free(&pool);
}
Test(nn, layer_norm_far_mean) { th_each_device(far_mean); }

/* ---- RMS norm ----------------------------------------------------------------- */

typedef struct rms_user {
  int64_t M, D;
  const double *x, *weight, *d_out;
  double *out, *rms;
} rms_user;

static double rms_loss(const void *user) {
  const rms_user *u = user;
  double sum = 0;
  onn_rms_norm(u->M, u->D, u->x, u->weight, 1e-6, u->out, u->rms);
  for (int64_t i = 0; i < u->M * u->D; i++) sum += u->out[i] * u->d_out[i];
  return sum;
}

/* form: 1 without weight and rms, 2 and 3 as CLATTN_ADD_TO_* */
static void run_rms_norm(const th_device *device, const shape *s, int form) {
  th_pool pool = {0};
  th_rng rng = {7};
  const int64_t M = (int64_t)s->b * s->m, D = s->d;
  const int64_t *rows = TH_EXTENT(s->b, 1, s->m, 1);
  th_tensor x = make(&pool, &rng, s->b, s->m, s->d, s->layout, 2);
  th_tensor w = make(&pool, &rng, 1, 1, s->d, TH_BHSD, 1);
  th_tensor out = th_make(&pool, CLATTN_F32, x.view.extent, TH_GAPS, NULL);
  th_tensor rms = th_make(&pool, CLATTN_F32, rows, s->layout, NULL);
  th_tensor d_out = make(&pool, &rng, s->b, s->m, s->d, TH_GAPS, 1);
  /* What gradients are added to. */
  th_tensor d_x = make(&pool, &rng, s->b, s->m, s->d, TH_GAPS, 1);
  th_tensor d_w = make(&pool, &rng, 1, 1, s->d, TH_GAPS, 1);
  th_tensor *const all[] = {&x, &w, &out, &rms, &d_out, &d_x, &d_w};
  for (int i = 0; i < COUNT(all); i++) th_bind(device, all[i]);
  rms_user u = {M,
                D,
                x.v,
                form == 1 ? NULL : w.v,
                d_out.v,
                doubles(&pool, M * D),
                doubles(&pool, M)};
  rms_loss(&u);
  clattn_nn_rms_norm_args args;
  clattn_nn_rms_norm_args_init(&args);
  args.x = x.view, args.out = out.view, args.rms = rms.view;
  if (form != 1) args.weight = w.view;
  TH_OK(clattn_nn_rms_norm(device->queue, &args, NULL, 0, NULL));
  expect_near(device, &pool, &out, u.out, D, 8, "rms norm");
  expect_near(device, &pool, &rms, u.rms, D, 8, "rms");
  if (form == 1) { /* and without rms */
    args.rms.buffer = NULL;
    TH_OK(clattn_nn_rms_norm(device->queue, &args, NULL, 0, NULL));
    expect_near(device, &pool, &out, u.out, D, 8, "rms norm");
    args.rms = rms.view;
  }

  const uint32_t add = form > 1 ? (uint32_t)form - 1 : 0;
  double *want_x = doubles(&pool, M * D), *want_w = doubles(&pool, D);
  onn_gradient(rms_loss, &u, M * D, x.v, want_x);
  if (form != 1) onn_gradient(rms_loss, &u, D, w.v, want_w);
  for (int64_t i = 0; i < M * D; i++) want_x[i] += add & 1 ? d_x.v[i] : 0;
  for (int64_t i = 0; i < D; i++) want_w[i] += add & 2 ? d_w.v[i] : 0;
  TH_OK(clattn_nn_rms_norm_backward(device->queue, &args, &d_out.view,
                                    &d_x.view, form == 1 ? NULL : &d_w.view,
                                    add, NULL, 0, NULL));
  if (D > 1) {
    expect_near(device, &pool, &d_x, want_x, D, 64, "d_x");
  } else { /* nearly nothing is left of what is rounded */
    double *tol = doubles(&pool, M);
    for (int64_t i = 0; i < M; i++)
      tol[i] = 1e-6 * u.rms[i] * fabs(d_out.v[i] * w.v[0]) + 1e-6;
    expect_within(device, &pool, &d_x, want_x, tol, "d_x");
  }
  if (form == 1)
    expect_same(device, &d_w, "d_weight");
  else
    expect_near(device, &pool, &d_w, want_w, M, 64, "d_weight");
  for (int i = 0; i < COUNT(all); i++) th_unbind(all[i]);
  th_pool_free(&pool);
}

static void rms_norm(const th_device *device) {
  for (int i = 0; i < COUNT(shapes); i++)
    for (int form = 0; form < 4; form++) run_rms_norm(device, &shapes[i], form);
}
Test(nn, rms_norm) { th_each_device(rms_norm); }

/* ---- GELU ------------------------------------------------------------------- */

typedef struct gelu_user {
  bool by_tanh;
  double x;
} gelu_user;
static double gelu_of(const void *user) {
  const gelu_user *u = user;
  return onn_gelu(u->by_tanh, u->x);
}

static void run_gelu(const th_device *device, const shape *s, int kind,
                     bool in_place) {
  th_pool pool = {0};
  th_rng rng = {8};
  th_tensor x = make(&pool, &rng, s->b, s->m, s->d, s->layout, 6);
  th_tensor out = th_make(&pool, CLATTN_F32, x.view.extent, TH_GAPS, NULL);
  th_tensor g = make(&pool, &rng, s->b, s->m, s->d, s->layout, 1);
  th_tensor d_x = th_make(&pool, CLATTN_F32, x.view.extent, TH_BHSD, NULL);
  th_tensor *const all[] = {&x, &out, &g, &d_x};
  for (int i = 0; i < 4; i++) th_bind(device, all[i]);
  double *want = doubles(&pool, x.n), *want_x = doubles(&pool, x.n);
  for (int64_t i = 0; i < x.n; i++) {
    gelu_user u = {kind == CLATTN_NN_GELU_TANH, x.v[i]};
    want[i] = gelu_of(&u);
    onn_gradient(gelu_of, &u, 1, &u.x, &want_x[i]);
    want_x[i] *= g.v[i];
  }
  TH_OK(clattn_nn_gelu_backward(device->queue, (clattn_nn_gelu_kind)kind,
                                &x.view, &g.view,
                                in_place ? &g.view : &d_x.view, NULL, 0, NULL));
  expect_near(device, &pool, in_place ? &g : &d_x, want_x, 1, 32, "gelu'");
  TH_OK(clattn_nn_gelu(device->queue, (clattn_nn_gelu_kind)kind, &x.view,
                       in_place ? &x.view : &out.view, NULL, 0, NULL));
  expect_near(device, &pool, in_place ? &x : &out, want, 1, 16, "gelu");
  for (int i = 0; i < 4; i++) th_unbind(all[i]);
  th_pool_free(&pool);
}

/* Relative accuracy also in the tail; the ends of the line; NaN for NaN alone. */
static void gelu_ends(const th_device *device, int kind) {
  static const double v[] = {
      0,    -0.0, 1e-30, -1e-30, 1e-3, 5,        20,        -4, -5.5, 1e10,
      3e38, -20,  -1000, -3e38,  NAN,  INFINITY, -INFINITY, -7, 0.5};
  enum { N = COUNT(v) };
  th_pool pool = {0};
  char message[256] = "";
  th_tensor x = th_make(&pool, CLATTN_F32, TH_EXTENT(1, 1, 1, N), TH_BHSD, v);
  th_tensor g = th_make(&pool, CLATTN_F32, x.view.extent, TH_BHSD, NULL);
  th_tensor y = th_make(&pool, CLATTN_F32, x.view.extent, TH_BHSD, NULL);
  double want[N], slope[N], tol[N], got[N];
  for (int i = 0; i < N; i++) {
    gelu_user u = {kind == CLATTN_NN_GELU_TANH, x.v[i]};
    want[i] = v[i] == -INFINITY ? 0 : gelu_of(&u);
    if (fabs(v[i]) < 100)
      onn_gradient(gelu_of, &u, 1, &u.x, &slope[i]);
    else
      slope[i] = isnan(v[i]) ? NAN : v[i] > 0;
    tol[i] = 6e-6 * fabs(want[i]) + 1e-18;
  }
  th_bind(device, &x), th_bind(device, &g), th_bind(device, &y);
  TH_OK(clattn_nn_fill(device->queue, &g.view, 1, NULL, 0, NULL));
  TH_OK(clattn_nn_gelu(device->queue, (clattn_nn_gelu_kind)kind, &x.view,
                       &y.view, NULL, 0, NULL));
  cr_expect(
      th_fetch(device, &y, got, "gelu", message, sizeof message) &&
          th_close(N, got, want, tol, true, "gelu", message, sizeof message),
      "kind %d on %s: %s", kind, device->info.name, message);
  for (int i = 0; i < N; i++) tol[i] = 2e-6 * fabs(slope[i]) + 1e-10;
  TH_OK(clattn_nn_gelu_backward(device->queue, (clattn_nn_gelu_kind)kind,
                                &x.view, &g.view, &y.view, NULL, 0, NULL));
  cr_expect(
      th_fetch(device, &y, got, "gelu'", message, sizeof message) &&
          th_close(N, got, slope, tol, true, "gelu'", message, sizeof message),
      "kind %d on %s: %s", kind, device->info.name, message);
  th_unbind(&x), th_unbind(&g), th_unbind(&y);
  th_pool_free(&pool);
}

static void gelu(const th_device *device) {
  for (int i = 0; i < 2 * COUNT(shapes); i++)
    run_gelu(device, &shapes[i / 2], i % 2, i % 3 == 0);
  gelu_ends(device, CLATTN_NN_GELU_NONE);
  gelu_ends(device, CLATTN_NN_GELU_TANH);
}
Test(nn, gelu) { th_each_device(gelu); }

/* ---- SwiGLU and tanh ---------------------------------------------------------- */

typedef struct swiglu_user {
  double gate, up;
} swiglu_user;
static double swiglu_of(const void *user) {
  const swiglu_user *u = user;
  return onn_swiglu(u->gate, u->up);
}

/* form: 1 in place, 2 d_gate alone, 3 d_up alone */
static void run_swiglu(const th_device *device, const shape *s, int form) {
  th_pool pool = {0};
  th_rng rng = {9};
  th_tensor gate = make(&pool, &rng, s->b, s->m, s->d, s->layout, 12);
  th_tensor up = make(&pool, &rng, s->b, s->m, s->d, TH_GAPS, 2);
  th_tensor g = make(&pool, &rng, s->b, s->m, s->d, s->layout, 1);
  th_tensor out = th_make(&pool, CLATTN_F32, gate.view.extent, TH_GAPS, NULL);
  th_tensor d_gate =
      th_make(&pool, CLATTN_F32, gate.view.extent, TH_BHSD, NULL);
  th_tensor d_up = th_make(&pool, CLATTN_F32, gate.view.extent, TH_GAPS, NULL);
  th_tensor *const all[] = {&gate, &up, &g, &out, &d_gate, &d_up};
  for (int i = 0; i < COUNT(all); i++) th_bind(device, all[i]);
  double *want = doubles(&pool, gate.n), *want_gate = doubles(&pool, gate.n);
  double *want_up = doubles(&pool, gate.n);
  for (int64_t i = 0; i < gate.n; i++) {
    swiglu_user u = {gate.v[i], up.v[i]};
    want[i] = swiglu_of(&u);
    onn_gradient(swiglu_of, &u, 1, &u.gate, &want_gate[i]);
    want_gate[i] *= g.v[i];
    want_up[i] = onn_swiglu(gate.v[i], g.v[i]);
  }
  const clattn_tensor none = {0};
  TH_OK(clattn_nn_swiglu_backward(device->queue, &gate.view, &up.view, &g.view,
                                  form == 3 ? &none : &d_gate.view,
                                  form == 2 ? NULL : &d_up.view, NULL, 0,
                                  NULL));
  if (form == 3)
    expect_same(device, &d_gate, "d_gate");
  else
    expect_near(device, &pool, &d_gate, want_gate, 1, 32, "d_gate");
  if (form == 2)
    expect_same(device, &d_up, "d_up");
  else
    expect_near(device, &pool, &d_up, want_up, 1, 16, "d_up");
  TH_OK(clattn_nn_swiglu(device->queue, &gate.view, &up.view,
                         form == 1 ? &gate.view : &out.view, NULL, 0, NULL));
  expect_near(device, &pool, form == 1 ? &gate : &out, want, 1, 16, "swiglu");
  for (int i = 0; i < COUNT(all); i++) th_unbind(all[i]);
  th_pool_free(&pool);
}

static double tanh_of(const void *user) { return tanh(*(const double *)user); }

static void run_tanh(const th_device *device, const shape *s, bool in_place) {
  th_pool pool = {0};
  th_rng rng = {10};
  th_tensor x = make(&pool, &rng, s->b, s->m, s->d, s->layout, 4);
  th_tensor g = make(&pool, &rng, s->b, s->m, s->d, s->layout, 1);
  th_tensor out = th_make(&pool, CLATTN_F32, x.view.extent, TH_GAPS, NULL);
  th_tensor d_x = th_make(&pool, CLATTN_F32, x.view.extent, TH_BHSD, NULL);
  th_tensor *const all[] = {&x, &g, &out, &d_x};
  for (int i = 0; i < COUNT(all); i++) th_bind(device, all[i]);
  double *want = doubles(&pool, x.n), *want_x = doubles(&pool, x.n);
  double *tol = doubles(&pool, x.n);
  for (int64_t i = 0; i < x.n; i++) {
    double v = x.v[i];
    tol[i] = 1e-6 * fabs(g.v[i]); /* 1 - out^2 of an out that is rounded */
    want[i] = tanh(v);
    onn_gradient(tanh_of, &v, 1, &v, &want_x[i]);
    want_x[i] *= g.v[i];
  }
  const th_tensor *y = in_place ? &x : &out;
  TH_OK(clattn_nn_tanh(device->queue, &x.view, &y->view, NULL, 0, NULL));
  expect_near(device, &pool, y, want, 1, 16, "tanh");
  const th_tensor *d = in_place ? &g : &d_x;
  TH_OK(clattn_nn_tanh_backward(device->queue, &y->view, &g.view, &d->view,
                                NULL, 0, NULL));
  expect_within(device, &pool, d, want_x, tol, "tanh'");
  for (int i = 0; i < COUNT(all); i++) th_unbind(all[i]);
  th_pool_free(&pool);
}

/* The ends of the line: limits, relative accuracy in the tail, NaN for NaN. */
static void swiglu_ends(const th_device *device) {
  static const double v[] = {0,   -0.0, 1e-30, -40, -1000,    3e38,     -3e38,
                             -90, 90,   40,    NAN, INFINITY, -INFINITY};
  enum { N = COUNT(v) };
  th_pool pool = {0};
  char text[256] = "";
  th_tensor x = th_make(&pool, CLATTN_F32, TH_EXTENT(1, 1, 1, N), TH_BHSD, v);
  th_tensor one = th_make(&pool, CLATTN_F32, x.view.extent, TH_BHSD, NULL);
  th_tensor y = th_make(&pool, CLATTN_F32, x.view.extent, TH_BHSD, NULL);
  th_tensor slope = th_make(&pool, CLATTN_F32, x.view.extent, TH_BHSD, NULL);
  th_tensor t = th_make(&pool, CLATTN_F32, x.view.extent, TH_BHSD, NULL);
  th_tensor *const all[] = {&x, &one, &y, &slope, &t};
  for (int i = 0; i < COUNT(all); i++) th_bind(device, all[i]);
  TH_OK(clattn_nn_fill(device->queue, &one.view, 1, NULL, 0, NULL));
  TH_OK(clattn_nn_swiglu(device->queue, &x.view, &one.view, &y.view, NULL, 0,
                         NULL));
  TH_OK(clattn_nn_swiglu_backward(device->queue, &x.view, &one.view, &one.view,
                                  &slope.view, NULL, NULL, 0, NULL));
  TH_OK(clattn_nn_tanh(device->queue, &x.view, &t.view, NULL, 0, NULL));
  double want[3][N], tol[3][N], got[N];
  const char *const names[3] = {"swiglu", "swiglu'", "tanh"};
  for (int i = 0; i < N; i++) {
    const double a = x.v[i], s = 1 / (1 + exp(-a));
    want[0][i] = a == -INFINITY ? 0 : onn_swiglu(a, 1);
    want[1][i] = fabs(a) > 1e3 ? a > 0 : s + a * s / (1 + exp(a));
    want[2][i] = tanh(a);
    for (int k = 0; k < 3; k++)
      tol[k][i] = 1e-6 * fabs(want[k][i]) + (k < 2 ? 1e-17 : 0);
  }
  th_tensor *const results[3] = {&y, &slope, &t};
  for (int k = 0; k < 3; k++)
    cr_expect(th_fetch(device, results[k], got, names[k], text, sizeof text) &&
                  th_close(N, got, want[k], tol[k], true, names[k], text,
                           sizeof text),
              "on %s: %s", device->info.name, text);
  for (int i = 0; i < COUNT(all); i++) th_unbind(all[i]);
  th_pool_free(&pool);
}

static void swiglu(const th_device *device) {
  for (int i = 0; i < 4 * COUNT(shapes); i++)
    run_swiglu(device, &shapes[i / 4], i % 4);
  for (int i = 0; i < 2 * COUNT(shapes); i++)
    run_tanh(device, &shapes[i / 2], i % 2);
  swiglu_ends(device);
}
Test(nn, swiglu_and_tanh) { th_each_device(swiglu); }

/* ---- addition ---------------------------------------------------------------- */

/* repeat: bit 0 over batches, bit 1 over rows. */
static void run_add(const th_device *device, const shape *s, int repeat,
                    bool in_place, bool accumulate) {
  th_pool pool = {0};
  th_rng rng = {4};
  const int bb = repeat & 1 ? 1 : s->b, bm = repeat & 2 ? 1 : s->m;
  th_tensor a = make(&pool, &rng, s->b, s->m, s->d, s->layout, 2);
  th_tensor b = make(&pool, &rng, bb, bm, s->d, s->layout, 2);
  th_tensor out = th_make(&pool, CLATTN_F32, a.view.extent, TH_BHSD, NULL);
  th_tensor d_b = make(&pool, &rng, bb, bm, s->d, TH_GAPS, 2);
  th_tensor *const all[] = {&a, &b, &out, &d_b};
  for (int i = 0; i < 4; i++) th_bind(device, all[i]);
  double *want = doubles(&pool, a.n), *sums = doubles(&pool, b.n);
  for (int64_t i = 0; accumulate && i < b.n; i++) sums[i] = d_b.v[i];
  for (int64_t i = 0; i < a.n; i++) {
    const int64_t d = i % s->d, m = i / s->d % s->m, n = i / s->d / s->m;
    const int64_t j = ((bb > 1 ? n : 0) * bm + (bm > 1 ? m : 0)) * s->d + d;
    want[i] = a.v[i] + b.v[j];
    sums[j] += a.v[i];
  }
  TH_OK(clattn_nn_add_backward(device->queue, &a.view, &d_b.view,
                               accumulate ? CLATTN_ADD_TO_WEIGHTS : 0, NULL, 0,
                               NULL));
  expect_near(device, &pool, &d_b, sums, (int64_t)s->b * s->m, 4, "d_b");
  TH_OK(clattn_nn_add(device->queue, &a.view, &b.view,
                      in_place ? &a.view : &out.view, NULL, 0, NULL));
  expect_near(device, &pool, in_place ? &a : &out, want, 1, 1, "add");
  for (int i = 0; i < 4; i++) th_unbind(all[i]);
  th_pool_free(&pool);
}

static void add(const th_device *device) {
  static const shape more[] = {{3, 130, 40, TH_GAPS}, {1, 4097, 3, TH_BHSD}};
  for (int i = 0; i < 4 * COUNT(shapes); i++)
    run_add(device, &shapes[i / 4], i % 4, i % 3 == 0, i % 2 == 0);
  for (int i = 0; i < 4 * COUNT(more); i++)
    run_add(device, &more[i / 4], i % 4, false, i % 2 == 1);
}
Test(nn, add) { th_each_device(add); }

/* ---- embedding ---------------------------------------------------------------- */

static void run_embedding(const th_device *device, const shape *s,
                          clattn_dtype type, bool outside) {
  enum { V = 6 };
  th_pool pool = {0};
  th_rng rng = {3};
  const int64_t M = (int64_t)s->b * s->m, D = s->d;
  double *id = doubles(&pool, M);
  for (int64_t i = 0; i < M; i++) id[i] = th_below(&rng, V);
  if (outside) id[0] = -1, id[M - 1] = V;
  if (outside && M > 4) id[2] = type == CLATTN_I64 ? 4294967297.0 : 2147483647;
  th_tensor ids =
      th_make(&pool, type, TH_EXTENT(s->b, 1, s->m, 1), TH_GAPS, id);
  th_tensor table = make(&pool, &rng, 1, V, s->d, TH_GAPS, 1);
  th_tensor out = th_make(&pool, CLATTN_F32, TH_EXTENT(s->b, 1, s->m, s->d),
                          s->layout, NULL);
  th_tensor d_out = make(&pool, &rng, s->b, s->m, s->d, s->layout, 1);
  th_tensor d_table = make(&pool, &rng, 1, V, s->d, TH_GAPS, 1);
  th_tensor *const all[] = {&ids, &table, &out, &d_out, &d_table};
  for (int i = 0; i < 5; i++) th_bind(device, all[i]);
  double *want = doubles(&pool, M * D), *sums = doubles(&pool, V * D);
  double *tol = doubles(&pool, M * D), *got = doubles(&pool, M * D);
  memcpy(sums, d_table.v, V * (size_t)D * sizeof *sums);
  for (int64_t i = 0; i < M * D; i++) {
    const double row = id[i / D];
    const bool inside = row >= 0 && row < V;
    want[i] = inside ? table.v[(int64_t)row * D + i % D] : NAN;
    if (inside) sums[(int64_t)row * D + i % D] += d_out.v[i];
  }
  char message[256] = "";
  TH_OK(clattn_nn_embedding(device->queue, &table.view, &ids.view, &out.view,
                            NULL, 0, NULL));
  cr_expect(th_fetch(device, &out, got, "rows", message, sizeof message) &&
                th_close(M * D, got, want, tol, true, "rows", message,
                         sizeof message),
            "embedding on %s: %s", device->info.name, message);
  TH_OK(clattn_nn_embedding_backward(device->queue, &ids.view, &d_out.view,
                                     &d_table.view, NULL, 0, NULL));
  expect_near(device, &pool, &d_table, sums, M, 4, "d_table");
  for (int i = 0; i < 5; i++) th_unbind(all[i]);
  th_pool_free(&pool);
}

/* Rows of a table of two bytes a number, and between them others'. */
static void narrow_table(const th_device *device, clattn_dtype type, int dim) {
  enum { V = 5, M = 4 };
  th_pool pool = {0};
  th_rng rng = {4};
  const double id[M] = {4, 0, 2, 2};
  th_tensor ids =
      th_make(&pool, CLATTN_I32, TH_EXTENT(1, 1, M, 1), TH_BHSD, id);
  th_tensor table = th_make(&pool, type, TH_EXTENT(1, 1, V, dim), TH_GAPS,
                            th_values(&pool, &rng, type, V * dim, 2));
  th_tensor out =
      th_make(&pool, CLATTN_F32, TH_EXTENT(1, 1, M, dim), TH_GAPS, NULL);
  th_tensor *const all[] = {&ids, &table, &out};
  for (int i = 0; i < 3; i++) th_bind(device, all[i]);
  double *want = doubles(&pool, M * dim), *got = doubles(&pool, M * dim);
  double *tol = doubles(&pool, M * dim);
  for (int i = 0; i < M * dim; i++)
    want[i] = table.v[(int)id[i / dim] * dim + i % dim];
  char message[256] = "";
  TH_OK(clattn_nn_embedding(device->queue, &table.view, &ids.view, &out.view,
                            NULL, 0, NULL));
  cr_expect(th_fetch(device, &out, got, "rows", message, sizeof message) &&
                th_close(M * dim, got, want, tol, false, "rows", message,
                         sizeof message),
            "embedding of %s on %s: %s", clattn_dtype_name(type),
            device->info.name, message);
  for (int i = 0; i < 3; i++) th_unbind(all[i]);
  th_pool_free(&pool);
}

static void embedding(const th_device *device) {
  for (int dim = 1; dim < 40; dim += 12) {
    narrow_table(device, CLATTN_F16, dim);
    narrow_table(device, CLATTN_BF16, dim);
  }
  for (int i = 0; i < 4 * COUNT(shapes); i++)
    run_embedding(device, &shapes[i / 4], i % 2 ? CLATTN_I32 : CLATTN_I64,
                  i % 4 / 2);
}
Test(nn, embedding) { th_each_device(embedding); }

/* ---- cross-entropy ------------------------------------------------------------- */

typedef struct entropy_user {
  int64_t M, V;
  const double *logits, *targets;
  double *losses, *lse, scale;
} entropy_user;
static double entropy_of(const void *user) {
  const entropy_user *u = user;
  double mean[2];
  onn_cross_entropy(u->M, u->V, u->logits, u->targets, u->losses, u->lse, mean);
  return u->scale * mean[0];
}

/* form: 1 some rows ignored, 2 all, 3 in place, 4 large logits */
static void run_cross_entropy(const th_device *device, const shape *s,
                              int form) {
  th_pool pool = {0};
  th_rng rng = {6};
  char message[256] = "";
  const int64_t M = (int64_t)s->b * s->m, V = s->d;
  double *target = doubles(&pool, M);
  for (int64_t i = 0; i < M; i++)
    target[i] = form == 2 || (form == 1 && i % 3 == 1) ? CLATTN_NN_IGNORE
                                                       : th_below(&rng, s->d);
  const int64_t *rows = TH_EXTENT(s->b, 1, s->m, 1);
  th_tensor x =
      make(&pool, &rng, s->b, s->m, s->d, s->layout, form == 4 ? 300 : 3);
  th_tensor t =
      th_make(&pool, form % 2 ? CLATTN_I64 : CLATTN_I32, rows, TH_GAPS, target);
  th_tensor losses = th_make(&pool, CLATTN_F32, rows, TH_GAPS, NULL);
  th_tensor lse = th_make(&pool, CLATTN_F32, rows, s->layout, NULL);
  th_tensor mean =
      th_make(&pool, CLATTN_F32, TH_EXTENT(1, 1, 1, 2), TH_BHSD, NULL);
  th_tensor d_x = th_make(&pool, CLATTN_F32, x.view.extent, TH_GAPS, NULL);
  th_tensor *const all[] = {&x, &t, &losses, &lse, &mean, &d_x};
  for (int i = 0; i < 6; i++) th_bind(device, all[i]);
  entropy_user u = {M,  V, x.v, target, doubles(&pool, M), doubles(&pool, M),
                    1.5};
  double *gradient = doubles(&pool, M * V), want_mean[2], got[2];
  onn_gradient(entropy_of, &u, M * V, x.v, gradient);
  onn_cross_entropy(M, V, x.v, target, u.losses, u.lse, want_mean);
  clattn_nn_cross_entropy_args args;
  clattn_nn_cross_entropy_args_init(&args);
  args.logits = x.view, args.targets = t.view, args.losses = losses.view;
  args.lse = lse.view, args.mean = mean.view;
  TH_OK(clattn_nn_cross_entropy(device->queue, &args, NULL, 0, NULL));
  expect_near(device, &pool, &losses, u.losses, V, 8, "losses");
  expect_near(device, &pool, &lse, u.lse, V, 8, "lse");
  const double tol[2] = {1e-6 * (1 + fabs(want_mean[0])), 0};
  cr_expect(th_fetch(device, &mean, got, "mean", message, sizeof message) &&
                th_close(2, got, want_mean, tol, form == 2, "mean", message,
                         sizeof message),
            "on %s: %s", device->info.name, message);
  if (form == 2)
    for (int64_t i = 0; i < M * V; i++) gradient[i] = 0;
  TH_OK(clattn_nn_cross_entropy_backward(device->queue, &args, 1.5f,
                                         form == 3 ? &x.view : &d_x.view, NULL,
                                         0, NULL));
  /* (p - 1) / n of p to within u |lse|; differences leave 1e-9. */
  double *tols = doubles(&pool, M * V), *got_x = doubles(&pool, M * V);
  for (int64_t i = 0; i < M * V; i++)
    tols[i] = 2e-8 + 1.5 / fmax(1, want_mean[1]) * 0x1p-23 *
                         (2 + fabs(u.lse[i / V]) + sqrt((double)V));
  cr_expect(th_fetch(device, form == 3 ? &x : &d_x, got_x, "d_logits", message,
                     sizeof message) &&
                th_close(M * V, got_x, gradient, tols, false, "d_logits",
                         message, sizeof message),
            "on %s: %s", device->info.name, message);
  for (int i = 0; i < 6; i++) th_unbind(all[i]);
  th_pool_free(&pool);
}

static void cross_entropy(const th_device *device) {
  for (int i = 0; i < 5 * COUNT(shapes); i++)
    run_cross_entropy(device, &shapes[i / 5], i % 5);
}
Test(nn, cross_entropy) { th_each_device(cross_entropy); }

/* Targets out of range, logits that are no numbers, a class that is ruled out. */
static void odd_rows(const th_device *device) {
  enum { M = 7, V = 5 };
  th_pool pool = {0};
  double v[M * V], target[M] = {5, -1, -100, 2, 1, 0, 3};
  for (int i = 0; i < M * V; i++) v[i] = i % 4;
  v[2 * V] = NAN;           /* ignored */
  v[3 * V + 1] = -INFINITY; /* not the target */
  v[4 * V + 1] = -INFINITY; /* the target */
  v[5 * V + 3] = NAN;
  v[6 * V + 4] = INFINITY;
  const int64_t *rows = TH_EXTENT(1, 1, M, 1);
  th_tensor x = th_make(&pool, CLATTN_F32, TH_EXTENT(1, 1, M, V), TH_GAPS, v);
  th_tensor t = th_make(&pool, CLATTN_I64, rows, TH_BHSD, target);
  th_tensor losses = th_make(&pool, CLATTN_F32, rows, TH_BHSD, NULL);
  th_tensor lse = th_make(&pool, CLATTN_F32, rows, TH_BHSD, NULL);
  th_tensor mean =
      th_make(&pool, CLATTN_F32, TH_EXTENT(1, 1, 1, 2), TH_BHSD, NULL);
  th_tensor d_x = th_make(&pool, CLATTN_F32, x.view.extent, TH_BHSD, NULL);
  th_tensor *const all[] = {&x, &t, &losses, &lse, &mean, &d_x};
  for (int i = 0; i < 6; i++) th_bind(device, all[i]);
  clattn_nn_cross_entropy_args args;
  clattn_nn_cross_entropy_args_init(&args);
  args.logits = x.view, args.targets = t.view, args.losses = losses.view;
  args.lse = lse.view, args.mean = mean.view;
  TH_OK(clattn_nn_cross_entropy(device->queue, &args, NULL, 0, NULL));
  TH_OK(clattn_nn_cross_entropy_backward(device->queue, &args, 1, &d_x.view,
                                         NULL, 0, NULL));
  double l[M], m[2], d[M * V];
  char text[256];
  cr_expect(th_fetch(device, &losses, l, "losses", text, sizeof text));
  cr_expect(th_fetch(device, &mean, m, "mean", text, sizeof text));
  cr_expect(th_fetch(device, &d_x, d, "d_x", text, sizeof text));
  cr_expect(isnan(l[0]) && isnan(l[1]) && isnan(l[5]) && isnan(l[6]));
  cr_expect(l[2] == 0 && isfinite(l[3]) && l[4] == INFINITY, "%g %g %g", l[2],
            l[3], l[4]);
  cr_expect(isnan(m[0]) && m[1] == 6, "%g", m[1]);
  for (int i = 0; i < V; i++)
    cr_expect(isnan(d[i]) && isnan(d[V + i]) && d[2 * V + i] == 0);
  cr_expect(d[3 * V + 1] == 0 && fabs(d[4 * V + 1] + 1.0 / 6) < 1e-7);
  for (int i = 0; i < 6; i++) th_unbind(all[i]);
  th_pool_free(&pool);
}
Test(nn, cross_entropy_odd_rows) { th_each_device(odd_rows); }

/* ---- fill, norm, AdamW ----------------------------------------------------------- */

static double norm_of(const th_device *device, th_tensor *x) {
  th_pool pool = {0};
  char text[256];
  double got = -1;
  th_tensor norm =
      th_make(&pool, CLATTN_F32, TH_EXTENT(1, 1, 1, 1), TH_BHSD, NULL);
  th_bind(device, x), th_bind(device, &norm);
  TH_OK(clattn_nn_norm(device->queue, &x->view, &norm.view, NULL, 0, NULL));
  cr_expect(th_fetch(device, &norm, &got, "norm", text, sizeof text) &&
                th_fetch(device, x, NULL, "x", text, sizeof text),
            "%s", text);
  th_unbind(x), th_unbind(&norm);
  th_pool_free(&pool);
  return got;
}

static void norm(const th_device *device) {
  static const int64_t extents[][4] = {{1, 1, 1, 1},
                                       {2, 3, 5, 7},
                                       {1, 1, 17, 130},
                                       {1, 1, 1, 200003},
                                       {1, 1, 4097, 3}};
  static const double sizes[] = {1, 1e-25, 1e25, 3e37, 1e-41};
  for (int i = 0; i < COUNT(extents) * COUNT(sizes); i++) {
    th_pool pool = {0};
    th_rng rng = {2};
    const int64_t *e = extents[i % COUNT(extents)], n = th_count(e);
    const double size = sizes[i / COUNT(extents)];
    double *v = th_values(&pool, &rng, CLATTN_F32, n, size);
    if (i % 2) v[n / 2] = size * 1e-13, v[0] = size * 1e-6;
    th_tensor x = th_make(&pool, CLATTN_F32, e, i % 3 ? TH_GAPS : TH_BHSD, v);
    double want = onn_norm(n, x.v), got = norm_of(device, &x);
    if (want > 3.4028235e38)
      cr_expect(got == INFINITY, "%g", got);
    else
      cr_expect(fabs(got - want) <= 2e-6 * want + 1e-44,
                "norm of %lld numbers of %g on %s%s: %.9g, want %.9g",
                (long long)n, size, device->info.name,
                device->forced ? " (gpu)" : "", got, want);
    th_pool_free(&pool);
  }
  const double odd[3] = {NAN, INFINITY, 0};
  for (int i = 0; i < 3; i++) {
    th_pool pool = {0};
    double v[40] = {0};
    v[33] = odd[i];
    v[3] = i < 2 ? 1e30 : 0;
    th_tensor x =
        th_make(&pool, CLATTN_F32, TH_EXTENT(1, 1, 2, 20), TH_GAPS, v);
    const double got = norm_of(device, &x);
    cr_expect(i == 0 ? isnan(got) : got == odd[i], "%g gives %g", odd[i], got);
    th_pool_free(&pool);
  }
}
Test(nn, norm) { th_each_device(norm); }

static void run_adamw(const th_device *device, const int64_t e[4], bool clip,
                      th_layout layout) {
  th_pool pool = {0};
  th_rng rng = {11};
  const int64_t n = th_count(e);
  double *zero = doubles(&pool, n);
  const th_layout other = layout == TH_GAPS ? TH_BHSD : TH_GAPS;
  th_tensor p = th_make(&pool, CLATTN_F32, e, layout,
                        th_values(&pool, &rng, CLATTN_F32, n, 1));
  th_tensor g = th_make(&pool, CLATTN_F32, e, other,
                        th_values(&pool, &rng, CLATTN_F32, n, 1));
  th_tensor m = th_make(&pool, CLATTN_F32, e, layout, zero);
  th_tensor v = th_make(&pool, CLATTN_F32, e, TH_BHSD, zero);
  th_tensor norm =
      th_make(&pool, CLATTN_F32, TH_EXTENT(1, 1, 1, 1), TH_BHSD, NULL);
  th_tensor *const all[] = {&p, &g, &m, &v, &norm};
  for (int i = 0; i < 5; i++) th_bind(device, all[i]);
  clattn_nn_adamw_args args;
  clattn_nn_adamw_args_init(&args);
  args.param = p.view, args.grad = g.view, args.m = m.view, args.v = v.view;
  if (clip) args.norm = norm.view;
  args.max_norm = 0.75f;
  args.lr = 0.03f;
  onn_adamw_numbers o = {args.lr,           args.beta1,    args.beta2, args.eps,
                         args.weight_decay, args.max_norm, -1,         0};
  TH_OK(clattn_nn_norm(device->queue, &g.view, &norm.view, NULL, 0, NULL));
  if (clip) o.norm = onn_norm(n, g.v);
  double *want_m = doubles(&pool, n), *want_v = doubles(&pool, n);
  for (int step = 1; step <= 3; step++) {
    args.step = o.step = step;
    TH_OK(clattn_nn_adamw(device->queue, &args, NULL, 0, NULL));
    onn_adamw(n, &o, g.v, p.v, want_m, want_v);
  }
  expect_near(device, &pool, &p, p.v, 1, 32, "param");
  expect_near(device, &pool, &m, want_m, 1, 32, "m");
  expect_near(device, &pool, &v, want_v, 1, 32, "v");
  for (int i = 0; i < 5; i++) th_unbind(all[i]);
  th_pool_free(&pool);
}

static void adamw(const th_device *device) {
  static const int64_t extents[][4] = {
      {1, 1, 1, 1}, {2, 3, 5, 7}, {1, 1, 17, 130}, {1, 1, 1, 9001}};
  for (int i = 0; i < 2 * COUNT(extents); i++)
    run_adamw(device, extents[i / 2], i % 2, i / 2 % 2 ? TH_GAPS : TH_BHSD);
}
Test(nn, adamw) { th_each_device(adamw); }

Test(nn, cosine_lr) {
  cr_expect_float_eq(clattn_nn_cosine_lr(0, 4, 10, 1, 0.1f), 0.25, 1e-7);
  cr_expect_float_eq(clattn_nn_cosine_lr(3, 4, 10, 1, 0.1f), 1, 1e-7);
  cr_expect_float_eq(clattn_nn_cosine_lr(4, 4, 10, 1, 0.1f), 1, 1e-7);
  cr_expect_float_eq(clattn_nn_cosine_lr(7, 4, 10, 1, 0.1f), 0.55, 1e-6);
  cr_expect_float_eq(clattn_nn_cosine_lr(10, 4, 10, 1, 0.1f), 0.1, 1e-7);
  cr_expect_float_eq(clattn_nn_cosine_lr(INT64_MAX, 4, 10, 1, 0.1f), 0.1, 1e-7);
  cr_expect_float_eq(clattn_nn_cosine_lr(0, 0, 0, 1, 0.5f), 0.5, 1e-7);
  cr_expect(isnan(clattn_nn_cosine_lr(-1, 4, 10, 1, 0)));
  cr_expect(isnan(clattn_nn_cosine_lr(0, -1, 10, 1, 0)));
  cr_expect(isnan(clattn_nn_cosine_lr(0, 11, 10, 1, 0)));
}

Test(nn, sinusoidal) {
  enum { N = 7, D = 9 };
  float table[N * D];
  const int64_t firsts[] = {0, 3, 1000000};
  for (int k = 0; k < COUNT(firsts); k++) {
    TH_OK(clattn_nn_sinusoidal(firsts[k], N, D, table));
    for (int64_t p = 0; p < N; p++)
      for (int d = 0; d < D; d++) {
        const double angle =
            (double)(firsts[k] + p) / exp((d & ~1) * log(10000) / D);
        cr_expect_float_eq(table[p * D + d], d & 1 ? cos(angle) : sin(angle),
                           1e-7, "position %lld, column %d",
                           (long long)(firsts[k] + p), d);
      }
  }
}

/* ---- the same bits whatever the number of threads --------------------------------- */

enum { BITS_M = 300, BITS_D = 70 };

/* Everything that is summed, of one context; the results in out. */
static void bits_of(int threads, float *out, size_t floats) {
  enum { N = BITS_M * BITS_D };
  clattn_context_config config;
  clattn_context *context;
  clattn_queue *queue;
  clattn_buffer *in, *to;
  clattn_context_config_init(&config);
  config.backend = CLATTN_CPU;
  config.cpu_threads = threads;
  TH_OK(clattn_context_create(&config, &context));
  TH_OK(clattn_queue_create(context, 0, &queue));
  float *data = calloc(3 * N, sizeof *data);
  if (!data) abort();
  th_rng rng = {21};
  for (int i = 0; i < 2 * N; i++) data[i] = (float)th_uniform(&rng, -2, 2);
  for (int i = 0; i < BITS_M; i++) {
    const int32_t id = i * i % BITS_D;
    memcpy(&data[2 * N + i], &id, 4);
  }
  TH_OK(clattn_buffer_create(context, 0, 3 * N * 4, &in));
  TH_OK(clattn_buffer_create(context, 0, floats * 4, &to));
  TH_OK(clattn_buffer_write(queue, in, 0, data, 3 * N * 4));
  memset(out, 0, floats * 4);
  TH_OK(clattn_buffer_write(queue, to, 0, out, floats * 4));
  clattn_tensor x = clattn_view_bhsd(in, CLATTN_F32, 1, 1, BITS_M, BITS_D);
  clattn_tensor g = x, ids = clattn_view_bhsd(in, CLATTN_I32, 1, 1, BITS_M, 1);
  g.offset = N, ids.offset = 2 * N;
  clattn_tensor d_x = clattn_view_bhsd(to, CLATTN_F32, 1, 1, BITS_M, BITS_D);
  clattn_tensor row = clattn_view_bhsd(to, CLATTN_F32, 1, 1, 1, BITS_D);
  clattn_tensor column = clattn_view_bhsd(to, CLATTN_F32, 1, 1, BITS_M, 1);
  clattn_tensor table = clattn_view_bhsd(to, CLATTN_F32, 1, 1, BITS_D, BITS_D);
  clattn_nn_layer_norm_args n;
  clattn_nn_layer_norm_args_init(&n);
  n.x = x, n.out = d_x;
  int64_t at = N;
  column.offset = at, n.mean = column, at += BITS_M;
  column.offset = at, n.rstd = column, at += BITS_M;
  TH_OK(clattn_nn_layer_norm(queue, &n, NULL, 0, NULL));
  clattn_tensor d_w = row, d_b = row;
  d_w.offset = at, at += BITS_D;
  d_b.offset = at, at += BITS_D;
  clattn_tensor d_x2 = d_x;
  d_x2.offset = at, at += N;
  TH_OK(clattn_nn_layer_norm_backward(queue, &n, &g, &d_x2, &d_w, &d_b, 0, NULL,
                                      0, NULL));
  clattn_nn_rms_norm_args rms;
  clattn_nn_rms_norm_args_init(&rms);
  rms.x = x;
  clattn_tensor d_x3 = d_x, d_w2 = row;
  d_x3.offset = at, rms.out = d_x3, at += N;
  column.offset = at, rms.rms = column, at += BITS_M;
  d_w2.offset = at, at += BITS_D;
  TH_OK(clattn_nn_rms_norm(queue, &rms, NULL, 0, NULL));
  TH_OK(clattn_nn_rms_norm_backward(queue, &rms, &g, NULL, &d_w2, 0, NULL, 0,
                                    NULL));
  table.offset = at, at += BITS_D * BITS_D;
  TH_OK(clattn_nn_embedding_backward(queue, &ids, &g, &table, NULL, 0, NULL));
  clattn_nn_cross_entropy_args c;
  clattn_nn_cross_entropy_args_init(&c);
  c.logits = x, c.targets = ids;
  column.offset = at, c.losses = column, at += BITS_M;
  column.offset = at, c.lse = column, at += BITS_M;
  c.mean = clattn_view_bhsd(to, CLATTN_F32, 1, 1, 1, 2);
  c.mean.offset = at, at += 2;
  TH_OK(clattn_nn_cross_entropy(queue, &c, NULL, 0, NULL));
  clattn_tensor norm = clattn_view_bhsd(to, CLATTN_F32, 1, 1, 1, 1);
  norm.offset = at, at++;
  TH_OK(clattn_nn_norm(queue, &x, &norm, NULL, 0, NULL));
  cr_assert((size_t)at <= floats);
  TH_OK(clattn_buffer_read(queue, to, 0, out, floats * 4));
  free(data);
  clattn_buffer_destroy(in);
  clattn_buffer_destroy(to);
  clattn_queue_destroy(queue);
  clattn_context_destroy(context);
}

Test(nn, same_bits) {
  enum { FLOATS = 4 * BITS_M * BITS_D };
  float *one = calloc(FLOATS, sizeof *one), *more = calloc(FLOATS, sizeof *one);
  if (!one || !more) abort();
  bits_of(1, one, FLOATS);
  for (int threads = 2; threads <= 3; threads++) {
    bits_of(threads, more, FLOATS);
    cr_expect(memcmp(one, more, FLOATS * sizeof *one) == 0, "%d threads",
              threads);
  }
  free(one);
  free(more);
}
