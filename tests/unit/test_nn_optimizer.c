/* Gradient norm, AdamW and the learning rate, on every device and with the kernels for GPUs,
 * against plain loops in double. */
#define _POSIX_C_SOURCE 200809L
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../support/oracle_nn.h"
#include "clattn_nn.h"
#include "nn.h"

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
