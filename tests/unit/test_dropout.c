/* Dropout: which weights stay, everywhere the same. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "../support/attn_case.h"

#define COUNT(array) (int)(sizeof(array) / sizeof *(array))

/* ---- the hash ------------------------------------------------------------ */

/* Known answers, so that a later version drops the same weights. */
Test(dropout, hash_is_the_documented_one) {
  th_rng rng = {8};
  for (int n = 0; n < 20000; n++) {
    ora_attention a = {
        .dropout = (float)(n % 7 == 0 ? 0 : th_uniform(&rng, 0, 1)),
        .dropout_seed = n % 5 ? th_next(&rng) : (uint64_t)n,
        .dropout_offset = n % 3 ? th_next(&rng) : (uint64_t)n};
    if (a.dropout >= 1) continue;
    int64_t b = th_below(&rng, 9), h = th_below(&rng, 99);
    int64_t i = th_below(&rng, 1 << 20), j = th_below(&rng, 1 << 20);
    cr_expect_eq(clattn_dropout_keeps((float)a.dropout, a.dropout_seed,
                                      a.dropout_offset, b, h, i, j),
                 ora_keeps(&a, b, h, i, j), "b %d h %d i %d j %d", (int)b,
                 (int)h, (int)i, (int)j);
  }
  cr_expect(clattn_dropout_keeps(0, 1, 2, 3, 4, 5, 6));
}

static double z_of(int64_t hits, int64_t n, double p) {
  return ((double)hits - (double)n * p) / sqrt((double)n * p * (1 - p));
}

Test(dropout, frequency) {
  static const float drops[3] = {0.1f, 0.5f, 0.9f};
  enum { SEEDS = 60, N = 40 };
  for (int p = 0; p < 3; p++) {
    int64_t all = 0, n = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
      int64_t kept = 0;
      for (int h = 0; h < 3; h++)
        for (int i = 0; i < N; i++)
          for (int j = 0; j < N; j++)
            kept +=
                clattn_dropout_keeps(drops[p], seed, seed * 977, 0, h, i, j);
      double z = z_of(kept, 3 * N * N, 1 - (double)drops[p]);
      cr_expect_lt(fabs(z), 4, "dropout %g, seed %d: %g sigma",
                   (double)drops[p], (int)seed, z);
      all += kept, n += 3 * N * N;
    }
    double z = z_of(all, n, 1 - (double)drops[p]);
    cr_expect_lt(fabs(z), 4, "dropout %g: %g sigma", (double)drops[p], z);
  }
}

/* Two masks that differ in one coordinate agree as often as chance has it. */
Test(dropout, masks_are_not_correlated) {
  enum { N = 64 };
  static const struct {
    const char *what;
    uint64_t seed, offset;
    int b, h, i, j;
  } by[] = {
      {"seed", 1, 0, 0, 0, 0, 0},
      {"upper seed", 1ull << 32, 0, 0, 0, 0, 0},
      {"offset", 0, 1, 0, 0, 0, 0},
      {"upper offset", 0, 1ull << 32, 0, 0, 0, 0},
      {"batch", 0, 0, 1, 0, 0, 0},
      {"head", 0, 0, 0, 1, 0, 0},
      {"row", 0, 0, 0, 0, 1, 0},
      {"key", 0, 0, 0, 0, 0, 1},
      {"row and key", 0, 0, 0, 0, 1, 1},
      {"row, key back", 0, 0, 0, 0, 1, -1},
      {"64 rows", 0, 0, 0, 0, 64, 0},
      {"64 keys", 0, 0, 0, 0, 0, 64},
      {"seed and offset", 1, -1ull, 0, 0, 0, 0},
      {"batch and head", 0, 0, 1, -1, 0, 0},
  };
  for (int c = 0; c < COUNT(by); c++) {
    int64_t same = 0;
    for (int i = 0; i < N; i++)
      for (int j = 1; j <= N; j++)
        same += clattn_dropout_keeps(0.5f, 12345, 678, 1, 2, i, j) ==
                clattn_dropout_keeps(0.5f, 12345 + by[c].seed,
                                     678 + by[c].offset, 1 + by[c].b,
                                     2 + by[c].h, i + by[c].i, j + by[c].j);
    double z = z_of(same, N * N, 0.5);
    cr_expect_lt(fabs(z), 4, "masks by %s agree: %g sigma", by[c].what, z);
  }
  /* nor is a row any other one, shifted */
  int worst = 0;
  for (int other = 1; other < 16; other++)
    for (int shift = -N / 2; shift <= N / 2; shift++) {
      int same = 0;
      for (int j = 0; j < 2 * N; j++)
        same += clattn_dropout_keeps(0.5f, 5, 6, 0, 0, 0, N + j) ==
                clattn_dropout_keeps(0.5f, 5, 6, 0, 0, other, N + j + shift);
      if (abs(same - N) > worst) worst = abs(same - N);
    }
  cr_expect_lt(worst, 30, "rows agree in %d of 128 more than by chance", worst);
}

/* ---- every device and path ----------------------------------------------- */

/* Whether the mask is clattn_dropout_keeps', seen through V: values that are 1 at
 * one key make out the weight of that key. v_dim keys at a time. */
static void expect_mask(const th_device *device, clattn_path path,
                        const attn_case *given) {
  attn_problem p;
  clattn_args args;
  clattn_plan *plan = NULL;
  char message[256];
  attn_problem_init(&p, given, 99);
  const attn_case *c = &p.c;
  tc_result planned =
      attn_problem_plan(&p, device, path, &plan, message, sizeof message);
  cr_assert_eq(planned, TC_PASS, "%s", message);
  double *got = th_alloc(&p.pool, (size_t)p.out.n * sizeof *got);
  double *v = th_alloc(&p.pool, (size_t)p.v.n * sizeof *v);
  int wrong = 0, kept = 0;
  for (int first = 0; first < c->skv; first += c->dv) {
    for (int64_t n = 0; n < p.v.n; n++)
      v[n] = n / c->dv % c->skv == first + n % c->dv;
    p.v = th_make(&p.pool, c->dtype, p.v.view.extent, TH_BHSD, v);
    attn_problem_bind(&p, device, &args);
    TH_OK(clattn_execute(plan, device->queue, &args, NULL, NULL, 0, NULL));
    cr_assert(th_fetch(device, &p.out, got, "out", message, sizeof message),
              "%s", message);
    for (int64_t n = 0; n < p.out.n; n++) {
      int64_t i = n / c->dv % c->sq, h = n / c->dv / c->sq % c->hq;
      int64_t b = n / c->dv / c->sq / c->hq, j = first + n % c->dv;
      if (j >= c->skv) continue;
      bool keeps = clattn_dropout_keeps(args.dropout, args.dropout_seed,
                                        args.dropout_offset, b, h, i, j);
      wrong += (got[n] > 0) != keeps;
      kept += keeps;
    }
    attn_problem_unbind(&p);
  }
  cr_expect(wrong == 0 && kept > 0, "%s on %s%s, %d x %d: %d weights wrong",
            tc_path_name[path], device->info.name,
            device->forced ? " with GPU kernels" : "", c->sq, c->skv, wrong);
  clattn_plan_destroy(plan);
  attn_problem_free(&p);
}

static void expect_masks(bool forced) {
  static const int lengths[][2] = {{9, 33}, {70, 130}, {1, 700}, {3, 500}};
  const th_devices *devices = th_open(forced);
  if (devices->count == 0) cr_skip_test("no device of this kind under test");
  for (int d = 0; d < devices->count; d++)
    for (int path = 0; path < TC_PATHS; path++)
      for (int i = 0; i < COUNT(lengths); i++) {
        if (th_small() && lengths[i][0] * lengths[i][1] > 1000) continue;
        expect_mask(&devices->device[d], (clattn_path)path,
                    &(attn_case){.name = "mask",
                                 .b = 2,
                                 .hq = 4,
                                 .hk = i % 2 ? 4 : 2,
                                 .sq = lengths[i][0],
                                 .skv = lengths[i][1],
                                 .d = 8,
                                 .dv = 64,
                                 .dtype = i % 2 ? CLATTN_F16 : CLATTN_F32,
                                 .dropout = i % 3 ? 0.5 : 0.2});
      }
  th_shut();
}

Test(dropout, the_same_mask_everywhere) { expect_masks(false); }
Test(dropout_gpu, the_same_mask_everywhere) { expect_masks(true); }

/* Where a path gives weights, they are 0 where dropped and 1/(1-p) times what
 * they were elsewhere: the oracle's tolerance sees to that. Here: exactly 0. */
Test(dropout, dropped_weights_are_zero) {
  const th_devices *devices = th_open(false);
  char message[256];
  for (int d = 0; d < devices->count; d++)
    for (int path = 0; path < TC_PATHS; path++) {
      if (path == CLATTN_FUSED) continue;
      const th_device *device = &devices->device[d];
      attn_problem p;
      clattn_args args;
      clattn_plan *plan = NULL;
      attn_problem_init(&p,
                        &(attn_case){.name = "weights",
                                     .b = 2,
                                     .hq = 2,
                                     .sq = 20,
                                     .skv = 90,
                                     .d = 8,
                                     .weights = true,
                                     .dropout = 0.4},
                        5);
      cr_assert_eq(attn_problem_plan(&p, device, (clattn_path)path, &plan,
                                     message, sizeof message),
                   TC_PASS, "%s", message);
      attn_problem_bind(&p, device, &args);
      TH_OK(clattn_execute(plan, device->queue, &args, NULL, NULL, 0, NULL));
      cr_expect(attn_problem_check(&p, device, message, sizeof message), "%s",
                message);
      double *w = th_alloc(&p.pool, (size_t)p.weights.n * sizeof *w);
      cr_expect(
          th_fetch(device, &p.weights, w, "weights", message, sizeof message),
          "%s", message);
      int wrong = 0;
      for (int64_t n = 0; n < p.weights.n; n++)
        wrong += (w[n] != 0) != ora_keeps(&p.oracle, n / 90 / 20 / 2,
                                          n / 90 / 20 % 2, n / 90 % 20, n % 90);
      cr_expect_eq(wrong, 0, "%s on %s: %d weights", tc_path_name[path],
                   device->info.name, wrong);
      clattn_plan_destroy(plan);
      attn_problem_free(&p);
    }
  th_shut();
}

/* No dropout is no dropout, whatever the seed. */
Test(dropout, zero_changes_no_bit) {
  const th_devices *devices = th_open(false);
  char message[256];
  for (int d = 0; d < devices->count; d++)
    for (int path = 0; path < TC_PATHS; path++) {
      const th_device *device = &devices->device[d];
      attn_problem p;
      clattn_args args;
      clattn_plan *plan = NULL;
      attn_problem_init(&p,
                        &(attn_case){.name = "zero",
                                     .b = 2,
                                     .hq = 4,
                                     .hk = 2,
                                     .sq = 20,
                                     .skv = 90,
                                     .d = 16,
                                     .causal = true,
                                     .lse = true},
                        6);
      cr_assert_eq(attn_problem_plan(&p, device, (clattn_path)path, &plan,
                                     message, sizeof message),
                   TC_PASS, "%s", message);
      double *got[2];
      for (int turn = 0; turn < 2; turn++) {
        attn_problem_bind(&p, device, &args);
        if (turn) args.dropout_seed = 77, args.dropout_offset = 1ull << 40;
        TH_OK(clattn_execute(plan, device->queue, &args, NULL, NULL, 0, NULL));
        got[turn] = th_alloc(&p.pool, (size_t)p.out.n * sizeof(double));
        cr_expect(
            th_fetch(device, &p.out, got[turn], "out", message, sizeof message),
            "%s", message);
        attn_problem_unbind(&p);
      }
      cr_expect_eq(memcmp(got[0], got[1], (size_t)p.out.n * sizeof(double)), 0,
                   "%s on %s", tc_path_name[path], device->info.name);
      clattn_plan_destroy(plan);
      attn_problem_free(&p);
    }
  th_shut();
}
