/* Layer norm and RMS norm, on every device and with the kernels for GPUs,
 * against plain loops in double. */
#define _POSIX_C_SOURCE 200809L
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../support/oracle_nn.h"
#include "clattn_nn.h"
#include "nn.h"

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
