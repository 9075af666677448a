/* Samples of rows: which, and what summaries and pictures make of them. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

#include "clattn_attention.h"
#include "clattn_view.h"
#include "harness.h"
#include "kit/attention/weights.h"
#include "view/matrix.h"
#include "view_case.h"

#define HAS(name) (1u << CLATTN_ATTENTION_##name)

/* One row in each share of equal size, but not at equal steps. */
Test(attention_sample, rows) {
  for (int64_t rows = 1; rows < 200; rows += 7)
    for (int64_t count = 1; count <= rows; count++) {
      const attention_sample sample = {.rows = rows, .count = count};
      int64_t steps[2] = {rows, 0}; /* least, most */
      int64_t last = -1;
      for (int64_t i = 0; i < count; i++) {
        const int64_t row = attention_sample_row(&sample, i);
        cr_assert(row > last && row < rows, "%lld of %lld: row %lld after %lld",
                  (long long)i, (long long)count, (long long)row,
                  (long long)last);
        cr_assert(llabs(row - i * rows / count) <= rows / count + i);
        if (i > 0 && row - last < steps[0]) steps[0] = row - last;
        if (i > 0 && row - last > steps[1]) steps[1] = row - last;
        last = row;
      }
      if (count > 8 && rows > 4 * count) cr_expect_lt(steps[0], steps[1]);
    }
}

static const view_case long_text = {
    .kind = CLATTN_ATTENTION_ENCODER,
    .layers = 2,
    .heads = 3,
    .n = 640,
    .has = HAS(QUERY) | HAS(KEY) | HAS(ENTROPY)};

Test(attention_sample, summary) {
  const view_case *c = &long_text;
  clattn_attention *a = view_case_open(c);
  clattn_attention_summary all[3], some[3];
  TH_OK(clattn_attention_summarize(a, 0, 1, all));
  /* A layer's half of what 40 rows of 3 heads take, with head_dim. */
  clattn_attention_part part;
  clattn_attention_part_init(&part);
  TH_OK(clattn_attention_get_part(a, 0, &part));
  const double work = 40.5 * 2 * 3 * 640 * (64 + (double)part.head_dim);
  TH_OK(attention_summarize(a, 0, 1, work, some));
  const attention_sample sample = {.rows = 640, .count = 40};
  for (int h = 0; h < 3; h++) {
    cr_expect_eq(all[h].rows, 640);
    cr_expect_eq(some[h].rows, 40);
    cr_expect_float_eq((double)some[h].entropy, 1.5, 1e-6, "as recorded");
    cr_expect_float_eq((double)some[h].distance, (double)all[h].distance, 30);
    double first = 0, previous = 0;
    int later = 0;
    for (int64_t i = 0; i < sample.count; i++) {
      const int64_t row = attention_sample_row(&sample, i);
      first += view_case_weight(c, 1, h, row, 0) / 40;
      if (row == 0) continue;
      previous += view_case_weight(c, 1, h, row, row - 1);
      later++;
    }
    cr_expect_float_eq((double)some[h].first, first, 1e-6);
    cr_expect_float_eq((double)some[h].previous, previous / later, 1e-6);
    cr_expect_neq(some[h].first, all[h].first, "the sample is all rows");
  }
  TH_OK(attention_summarize(a, 0, 1, 1, some));
  cr_expect_eq(some[0].rows, 16);
  clattn_attention_destroy(a);
}

/* Blocks of 64 rows, 20 of each looked at: two runs in the middle of each half. */
Test(attention_sample, blocks) {
  const view_case *c = &long_text;
  clattn_attention *a = view_case_open(c);
  view_selection s;
  clattn_view_options options;
  clattn_view_options_init(&options);
  options.kind = CLATTN_VIEW_GRID;
  TH_OK(view_select(a, &options, &s));
  view_matrix matrix;
  TH_OK(view_matrix_plan(&s, 10, 10, true, &matrix));
  cr_assert_eq(matrix.rows.block, 64);
  cr_expect_eq(matrix.sample, 0);
  float all[100], some[100];
  TH_OK(view_matrix_read(&s, &matrix, 1, 2, all));
  matrix.sample = 20;
  TH_OK(view_matrix_read(&s, &matrix, 1, 2, some));
  for (int64_t b = 0; b < 10; b++) {
    double sum = 0, want = 0;
    for (int k = 0; k < 10; k++) sum += (double)some[b * 10 + k];
    cr_expect_float_eq(sum, 1, 1e-5, "a row of cells is %g", sum);
    for (int64_t run = 0; run < 2; run++)
      for (int64_t i = 0; i < 10; i++)
        for (int64_t j = 0; j < 64; j++)
          want += view_case_weight(c, 1, 2, b * 64 + run * 32 + 11 + i, j) / 20;
    cr_expect_float_eq((double)some[b * 10], want, 1e-6);
    cr_expect_float_eq((double)all[b * 10], want, 0.1);
  }
  view_matrix_destroy(&matrix);
  clattn_attention_destroy(a);
}
