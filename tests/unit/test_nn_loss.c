/* Cross-entropy, on every device and with the kernels for GPUs,
 * against plain loops in double. */
#define _POSIX_C_SOURCE 200809L
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../support/oracle_nn.h"
#include "clattn_nn.h"
#include "nn.h"

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
