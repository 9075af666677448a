/* nn.h - what the tests of the layers around attention share: shapes, tensors,
 * comparisons. */
#ifndef CLATTN_TESTS_NN_H
#define CLATTN_TESTS_NN_H

#include <criterion/criterion.h>

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

static inline th_tensor make(th_pool *pool, th_rng *rng, int b, int m, int d,
                             th_layout layout, double size) {
  return th_make(pool, CLATTN_F32, TH_EXTENT(b, 1, m, d), layout,
                 th_values(pool, rng, CLATTN_F32, (int64_t)b * m * d, size));
}
static inline double *doubles(th_pool *pool, int64_t n) {
  return th_alloc(pool, (size_t)n * sizeof(double));
}

/* Fetches t, compares, and sees that nothing beside it has changed. length: of
 * the sums in it. */
static inline void expect_near(const th_device *device, th_pool *pool,
                               const th_tensor *t, const double *want,
                               int64_t length, double k, const char *what) {
  char message[256];
  double *got = doubles(pool, t->n);
  cr_expect(th_fetch(device, t, got, what, message, sizeof message) &&
                th_near(t->n, got, want, CLATTN_F32, length, k, what, message,
                        sizeof message),
            "on %s%s: %s", device->info.name, device->forced ? " (gpu)" : "",
            message);
}
/* The same with a tolerance of its own for each element. */
static inline void expect_within(const th_device *device, th_pool *pool,
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
static inline void expect_same(const th_device *device, const th_tensor *t,
                               const char *what) {
  char message[256] = "";
  cr_expect(th_fetch(device, t, NULL, what, message, sizeof message), "%s",
            message);
}

#endif
