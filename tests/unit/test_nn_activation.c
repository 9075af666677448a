/* GELU, SwiGLU and tanh, on every device and with the kernels for GPUs,
 * against plain loops in double. */
#define _POSIX_C_SOURCE 200809L
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../support/oracle_nn.h"
#include "clattn_nn.h"
#include "nn.h"

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
