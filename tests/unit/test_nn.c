/* Addition, embedding, positions, and that all of the layers around attention give
 * the same bits whatever the number of threads. */
#define _POSIX_C_SOURCE 200809L
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "clattn_nn.h"
#include "nn.h"

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

/* ---- positions -------------------------------------------------------------- */

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
