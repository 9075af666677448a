/* Attention files of arrays: what is written is what is read, weights come from
 * queries and keys, and summaries from what there is. */
#define _POSIX_C_SOURCE 200809L /* mkdtemp */
#include "../support/attention_case.h"
#include "clattn_attention.h"

/* ---- everything back --------------------------------------------------------------- */

static void expect_tokens(const clattn_attention_tokens *got,
                          const clattn_attention_tokens *want) {
  const size_t n = (size_t)want->n;
  cr_assert_eq(got->n, want->n);
  for (size_t i = 0; i < n; i++)
    cr_expect_str_eq(got->texts[i], want->texts[i]);
#define SAME(list)                                                             \
  cr_assert_eq(got->list == NULL, want->list == NULL, #list);                  \
  cr_expect(want->list == NULL ||                                              \
                memcmp(got->list, want->list, n * sizeof *want->list) == 0,    \
            #list)
  SAME(ids);
  SAME(begins);
  SAME(ends);
  SAME(segments);
  SAME(added);
#undef SAME
}

static void expect_part(const clattn_attention_part *got,
                        const clattn_attention_part *want) {
  cr_expect_eq(got->struct_size, sizeof *got);
  cr_expect_str_eq(got->name, want->name);
  cr_expect_eq(got->kind, want->kind);
  cr_expect_eq(got->causal, want->causal);
  cr_expect_eq(got->window, want->window);
  cr_expect_eq(got->layers, want->layers);
  cr_expect_eq(got->heads, want->heads);
  cr_expect_eq(got->kv_heads, ac_kv_heads(want));
  cr_expect_eq(got->head_dim, want->head_dim);
  cr_expect_eq(got->scale, ac_scale(want));
  cr_expect_eq(got->has, want->has);
  cr_expect_eq(got->dtype, want->dtype);
  cr_expect_eq(got->top, want->top);
  cr_expect_eq(got->map_block, want->map_block);
  expect_tokens(&got->rows, &want->rows);
  expect_tokens(&got->keys, want->keys.n ? &want->keys : &want->rows);
}

static void expect_tensor(const clattn_attention *file,
                          clattn_attention_part *parts, size_t part,
                          int64_t layer, clattn_attention_tensor tensor) {
  static float got[AC_MOST], want[AC_MOST];
  const clattn_attention_part *p = &parts[part];
  if ((p->has >> tensor & 1) == 0) {
    cr_expect_eq(clattn_attention_read(file, part, layer, tensor, got),
                 CLATTN_INVALID_ARGUMENT);
    return;
  }
  const int64_t n = ac_count(p, tensor);
  cr_assert(n <= AC_MOST);
  TH_OK(clattn_attention_read(file, part, layer, tensor, got));
  TH_OK(ac_source(parts, part, layer, tensor, want));
  if (tensor == CLATTN_ATTENTION_WEIGHTS && p->dtype == CLATTN_F16)
    for (int64_t i = 0; i < n; i++)
      want[i] = (float)ora_round(&ora_f16, (double)want[i]);
  cr_expect_eq(memcmp(got, want, (size_t)n * sizeof *got), 0,
               "part %zu, layer %lld, tensor %d", part, (long long)layer,
               (int)tensor);
}

Test(attention_arrays, round_trip) {
  char path[64];
  ac_path(path);
  clattn_attention_part parts[AC_PARTS], got;
  ac_parts(parts);
  TH_OK(ac_write(path, parts, AC_PARTS));
  clattn_attention *file;
  TH_OK(clattn_attention_open(path, &file));
  cr_expect_str_eq(clattn_attention_model(file), "a model");
  cr_expect_str_eq(clattn_attention_text(file), AC_TEXT);
  cr_expect_str_eq(clattn_attention_pair(file), AC_PAIR);
  cr_assert_eq(clattn_attention_parts(file), AC_PARTS);
  for (size_t p = 0; p < AC_PARTS; p++) {
    TH_OK(clattn_attention_get_part(file, p, &got));
    expect_part(&got, &parts[p]);
    for (int64_t layer = 0; layer < parts[p].layers; layer++)
      for (int t = 0; t < CLATTN_ATTENTION_TENSORS; t++)
        expect_tensor(file, parts, p, layer, (clattn_attention_tensor)t);
  }
  clattn_attention_destroy(file);
  ac_clean(path);
}

/* One part, without a name and with no text. */
Test(attention_arrays, one_part) {
  char path[64];
  ac_path(path);
  clattn_attention_part parts[AC_PARTS], got;
  ac_parts(parts);
  parts[1].name = "";
  parts[1].head_dim = 0;
  parts[1].has = 1;
  TH_OK(clattn_attention_write(path, "", NULL, NULL, &parts[1], 1, ac_source,
                               &parts[1]));
  clattn_kit_safetensors *raw;
  TH_OK(clattn_kit_safetensors_open(path, &raw));
  cr_expect(clattn_kit_safetensors_has(raw, "attention.0"));
  cr_expect_null(clattn_kit_safetensors_metadata(raw, "parts"));
  cr_expect_null(clattn_kit_safetensors_metadata(raw, "scale"));
  cr_expect_str_eq(clattn_kit_safetensors_metadata(raw, "causal"), "false");
  clattn_kit_safetensors_destroy(raw);
  clattn_attention *file;
  TH_OK(clattn_attention_open(path, &file));
  cr_expect_str_eq(clattn_attention_model(file), "");
  cr_expect_null(clattn_attention_text(file));
  cr_expect_null(clattn_attention_pair(file));
  TH_OK(clattn_attention_get_part(file, 0, &got));
  cr_expect_str_eq(got.name, "");
  cr_expect_eq(got.scale, 0);
  cr_expect_eq(clattn_attention_get_part(file, 1, &got),
               CLATTN_INVALID_ARGUMENT);
  clattn_attention_destroy(file);
  ac_clean(path);
}

/* ---- weights ------------------------------------------------------------------------ */

/* Of every row of every head, alone and together, beside the test's own. */
static void expect_weights(const clattn_attention *file,
                           const clattn_attention_part *p, size_t part,
                           double tolerance) {
  static float together[AC_MOST];
  float alone[16];
  double want[16];
  const int64_t n = p->rows.n, m = ac_m(p);
  for (int64_t layer = 0; layer < p->layers; layer++)
    for (int64_t head = 0; head < p->heads; head++) {
      TH_OK(clattn_attention_read_weights(file, part, layer, head, 0, n,
                                          together));
      for (int64_t i = 0; i < n; i++) {
        TH_OK(clattn_attention_read_weights(file, part, layer, head, i, 1,
                                            alone));
        ac_row(p, part, layer, head, i, want);
        for (int64_t j = 0; j < m; j++) {
          cr_expect_eq(alone[j], together[i * m + j]);
          cr_expect(fabs((double)alone[j] - want[j]) <= tolerance,
                    "part %zu, layer %lld, head %lld, weight %lld,%lld: %.9g, "
                    "want %.9g",
                    part, (long long)layer, (long long)head, (long long)i,
                    (long long)j, (double)alone[j], want[j]);
        }
      }
    }
}

Test(attention_arrays, weights) {
  char path[64];
  ac_path(path);
  clattn_attention_part parts[AC_PARTS];
  ac_parts(parts);
  const double tolerance[2][AC_PARTS] = {{1e-7, 0x1p-11, 1e-7},
                                         {1e-7, 1e-7, 1e-7}};
  for (int computed = 0; computed < 2; computed++) {
    for (int p = 0; computed && p < AC_PARTS; p++) parts[p].has &= ~1u;
    TH_OK(ac_write(path, parts, AC_PARTS));
    clattn_attention *file;
    TH_OK(clattn_attention_open(path, &file));
    for (size_t p = 0; p < AC_PARTS; p++) {
      expect_weights(file, &parts[p], p, tolerance[computed][p]);
      float difference = NAN;
      TH_OK(clattn_attention_check(file, p, 0, &difference));
      cr_expect(difference >= 0 && (double)difference <= 0x1p-12 + 1e-7);
      cr_expect_eq(difference > 0x1p-20f, !computed && p == 1, "part %zu: %g",
                   p, (double)difference);
    }
    clattn_attention_destroy(file);
  }
  ac_clean(path);
}

/* A source whose weights are not those of its queries and keys: by one number. */
typedef struct wrong {
  clattn_attention_part *parts;
  int64_t at;
  float value;
} wrong;

static clattn_status wrong_source(void *user, size_t part, int64_t layer,
                                  clattn_attention_tensor tensor,
                                  void *values) {
  const wrong *w = user;
  const clattn_status status = ac_source(w->parts, part, layer, tensor, values);
  if (tensor == CLATTN_ATTENTION_WEIGHTS && layer == 1)
    ((float *)values)[w->at] = w->value;
  return status;
}

Test(attention_arrays, check_finds_what_differs) {
  char path[64];
  ac_path(path);
  clattn_attention_part parts[AC_PARTS];
  ac_parts(parts);
  const int64_t count = ac_count(&parts[0], CLATTN_ATTENTION_WEIGHTS);
  const struct {
    int64_t at;
    float value, low, high;
  } cases[] = {{0, 0.5f, 0.249999f, 0.250001f}, /* row 0 sees key 0 alone */
               {count - 1, 5, 2, 2.5f},
               {7, NAN, INFINITY, INFINITY}};
  for (int i = 0; i < 3; i++) {
    wrong w = {parts, cases[i].at, cases[i].value};
    TH_OK(clattn_attention_write(path, "m", NULL, NULL, parts, 1, wrong_source,
                                 &w));
    clattn_attention *file;
    TH_OK(clattn_attention_open(path, &file));
    for (int64_t layer = 0; layer < 3; layer++) {
      float got = NAN;
      TH_OK(clattn_attention_check(file, 0, layer, &got));
      if (layer != 1)
        cr_expect(got < 1e-6f);
      else
        cr_expect(got >= cases[i].low && got <= cases[i].high, "case %d: %g", i,
                  (double)got);
    }
    clattn_attention_destroy(file);
  }
  ac_clean(path);
}

/* Every second key has all the weight, where queries and keys give each the same:
 * each difference is small, and half of the weight is elsewhere. Or rows alone are
 * wrong: every second, and one. */
enum { SPREAD = 1500, ONE_WRONG = 701 };

static clattn_status spread_source(void *user, size_t part, int64_t layer,
                                   clattn_attention_tensor tensor,
                                   void *values) {
  const int kind = *(const int *)user;
  float *v = values;
  (void)part, (void)layer;
  if (tensor != CLATTN_ATTENTION_WEIGHTS) {
    memset(values, 0, SPREAD * sizeof *v);
    return CLATTN_OK;
  }
  for (int64_t i = 0; i < SPREAD; i++) {
    const bool wrong = kind == 0 || (kind == 1 && i % 2) || i == ONE_WRONG;
    for (int64_t j = 0; j < SPREAD; j++)
      v[i * SPREAD + j] = !wrong ? 1.0F / SPREAD : j % 2 ? 0 : 2.0F / SPREAD;
  }
  return CLATTN_OK;
}

Test(attention_arrays, check_sees_small_differences_in_any_row) {
  char path[64];
  ac_path(path);
  static const char *texts[SPREAD];
  for (int i = 0; i < SPREAD; i++) texts[i] = "a";
  clattn_attention_part part;
  clattn_attention_part_init(&part);
  part.layers = part.heads = part.head_dim = 1;
  part.rows = (clattn_attention_tokens){.n = SPREAD, .texts = texts};
  part.has = 1 << CLATTN_ATTENTION_WEIGHTS | 1 << CLATTN_ATTENTION_QUERY |
             1 << CLATTN_ATTENTION_KEY;
  for (int kind = 0; kind < 3; kind++) {
    TH_OK(clattn_attention_write(path, "m", NULL, NULL, &part, 1, spread_source,
                                 &kind));
    clattn_attention *file;
    TH_OK(clattn_attention_open(path, &file));
    for (int again = 0; again < 2; again++) {
      float got = NAN;
      TH_OK(clattn_attention_check(file, 0, 0, &got));
      cr_expect_float_eq((double)got, 0.5, 1e-5, "kind %d: %g", kind,
                         (double)got);
    }
    clattn_attention_destroy(file);
  }
  ac_clean(path);
}

/* ---- summaries ----------------------------------------------------------------------- */

static void near(float got, double want, double tolerance, const char *what) {
  cr_expect(fabs((double)got - want) <= tolerance, "%s: %g, want %g", what,
            (double)got, want);
}

static void expect_summary(const clattn_attention_part *p, size_t part,
                           int64_t layer, int64_t head,
                           const clattn_attention_summary *got,
                           double tolerance) {
  const int64_t n = p->rows.n;
  double row[16], entropy = 0, distance = 0, previous = 0, first = 0;
  for (int64_t i = 0; i < n; i++) {
    ac_row(p, part, layer, head, i, row);
    for (int64_t j = 0; j < ac_m(p); j++) {
      if (row[j] > 0) entropy -= row[j] * log(row[j]) / (double)n;
      distance += row[j] * fabs((double)(i - j)) / (double)n;
      if (j == i - 1) previous += row[j] / (double)(n - 1);
    }
    first += row[0] / (double)n;
  }
  if (p->kind == CLATTN_ATTENTION_CROSS) previous = 0;
  near(got->entropy, entropy, tolerance * 10, "entropy");
  near(got->distance, distance, tolerance * 10, "distance");
  near(got->previous, previous, tolerance, "previous");
  near(got->first, first, tolerance, "first");
}

Test(attention_arrays, summaries_of_weights) {
  char path[64];
  ac_path(path);
  clattn_attention_part parts[AC_PARTS];
  ac_parts(parts);
  TH_OK(ac_write(path, parts, AC_PARTS));
  clattn_attention *file;
  TH_OK(clattn_attention_open(path, &file));
  for (size_t p = 0; p < AC_PARTS; p++)
    for (int64_t layer = 0; layer < parts[p].layers; layer++) {
      clattn_attention_summary got[6];
      TH_OK(clattn_attention_summarize(file, p, layer, got));
      for (int64_t head = 0; head < parts[p].heads; head++)
        expect_summary(&parts[p], p, layer, head, &got[head],
                       parts[p].dtype == CLATTN_F16 ? 0x1p-11 : 1e-6);
    }
  clattn_attention_destroy(file);
  ac_clean(path);
}

/* Three rows: entropies 1, 2, 6; keys 0 and 1 among the top of some. */
static clattn_status recorded_source(void *user, size_t part, int64_t layer,
                                     clattn_attention_tensor tensor,
                                     void *values) {
  static const float entropy[] = {1, 2, 6}, distance[] = {0, 3, 0};
  static const int32_t keys[] = {0, -1, 1, 0, 1, 2};
  static const float weights[] = {1, 0, 0.75f, 0.25f, 0.5f, 0.375f};
  (void)user, (void)part, (void)layer;
  if (tensor == CLATTN_ATTENTION_ENTROPY)
    memcpy(values, entropy, sizeof entropy);
  if (tensor == CLATTN_ATTENTION_DISTANCE)
    memcpy(values, distance, sizeof distance);
  if (tensor == CLATTN_ATTENTION_TOP_KEYS) memcpy(values, keys, sizeof keys);
  if (tensor == CLATTN_ATTENTION_TOP_WEIGHTS)
    memcpy(values, weights, sizeof weights);
  return CLATTN_OK;
}

Test(attention_arrays, summaries_of_what_was_recorded) {
  char path[64];
  ac_path(path);
  clattn_attention_part part;
  clattn_attention_part_init(&part);
  part.layers = part.heads = 1;
  part.rows = (clattn_attention_tokens){.n = 3, .texts = ac_keys};
  part.top = 2;
  const uint32_t statistics =
      1 << CLATTN_ATTENTION_ENTROPY | 1 << CLATTN_ATTENTION_DISTANCE;
  const uint32_t top =
      1 << CLATTN_ATTENTION_TOP_KEYS | 1 << CLATTN_ATTENTION_TOP_WEIGHTS;
  const uint32_t has[] = {statistics | top, statistics, top};
  for (int i = 0; i < 3; i++) {
    part.has = has[i];
    TH_OK(clattn_attention_write(path, "m", NULL, NULL, &part, 1,
                                 recorded_source, NULL));
    clattn_attention *file;
    clattn_attention_summary got;
    float rows[9];
    TH_OK(clattn_attention_open(path, &file));
    TH_OK(clattn_attention_summarize(file, 0, 0, &got));
    if (has[i] & statistics) {
      near(got.entropy, 3, 1e-6, "entropy");
      near(got.distance, 1, 1e-6, "distance");
    } else {
      cr_expect(isnan(got.entropy) && isnan(got.distance));
    }
    if (has[i] & top) {
      near(got.first, (1 + 0.25) / 3, 1e-6, "first");
      near(got.previous, (0.25 + 0.5) / 2, 1e-6, "previous");
    } else {
      cr_expect(isnan(got.first) && isnan(got.previous));
    }
    cr_expect_eq(clattn_attention_read_weights(file, 0, 0, 0, 0, 3, rows),
                 CLATTN_INVALID_ARGUMENT);
    cr_expect(strstr(clattn_error_message(), "neither"));
    clattn_attention_destroy(file);
  }
  ac_clean(path);
}
