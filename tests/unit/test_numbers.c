/* Numbers printed in textbooks and tutorials. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "../support/harness.h"
#include "clattn_text.h"

#define CLOSE(n, got, want, tol)                                               \
  for (int i_ = 0; i_ < (n); i_++)                                             \
  cr_expect(fabs((got)[i_] - (want)[i_]) <= (tol),                             \
            #got "[%d] is %.6f, want %.6f", i_, (double)(got)[i_],             \
            (double)(want)[i_])

/* "Your journey starts with one step", three numbers a word. */
static const float words[6 * 3] = {.43f, .15f, .89f, .55f, .87f, .66f,
                                   .57f, .85f, .64f, .22f, .58f, .33f,
                                   .77f, .25f, .10f, .05f, .80f, .55f};

/* One head of float attention over host arrays; any output may be NULL. */
typedef struct numbers {
  int64_t q_len, kv_len, d, dv;
  const float *q, *k, *v;
  clattn_desc desc; /* sizes and outputs are filled in */
  float *out, *weights;
} numbers;

static clattn_tensor upload(const th_device *device, int64_t rows, int64_t cols,
                            const float *values) {
  clattn_buffer *buffer = NULL;
  size_t bytes = (size_t)(rows * cols) * sizeof(float);
  TH_OK(clattn_buffer_create(device->context, device->index, bytes, &buffer));
  if (values)
    TH_OK(clattn_buffer_write(device->queue, buffer, 0, values, bytes));
  return clattn_view(buffer, CLATTN_F32, 2, (int64_t[]){rows, cols});
}

static void attend(const th_device *device, numbers *n) {
  clattn_args args;
  clattn_plan *plan = NULL;
  n->desc.q_heads = n->desc.kv_heads = 1;
  n->desc.qk_dim = n->d, n->desc.v_dim = n->dv;
  n->desc.outputs = n->weights ? CLATTN_OUT_WEIGHTS : 0;
  TH_OK(clattn_plan_create(device->context, device->index, &n->desc, &plan));
  clattn_args_init(&args);
  args.q = upload(device, n->q_len, n->d, n->q);
  args.k = upload(device, n->kv_len, n->d, n->k);
  args.v = upload(device, n->kv_len, n->dv, n->v);
  args.out = upload(device, n->q_len, n->dv, NULL);
  if (n->weights) args.weights = upload(device, n->q_len, n->kv_len, NULL);
  TH_OK(clattn_execute(plan, device->queue, &args, NULL, NULL, 0, NULL));
  if (n->out)
    TH_OK(clattn_buffer_read(device->queue, args.out.buffer, 0, n->out,
                             (size_t)(n->q_len * n->dv) * sizeof(float)));
  if (n->weights)
    TH_OK(clattn_buffer_read(device->queue, args.weights.buffer, 0, n->weights,
                             (size_t)(n->q_len * n->kv_len) * sizeof(float)));
  clattn_buffer_destroy(args.q.buffer), clattn_buffer_destroy(args.k.buffer);
  clattn_buffer_destroy(args.v.buffer), clattn_buffer_destroy(args.out.buffer);
  clattn_buffer_destroy(args.weights.buffer);
  clattn_plan_destroy(plan);
}

/* y[m,n] = x[m,k] w[k,n] */
static void times(int m, int n, int k, const float *x, const float *w,
                  float *y) {
  for (int i = 0; i < m; i++)
    for (int j = 0; j < n; j++) {
      double sum = 0;
      for (int l = 0; l < k; l++) sum += (double)x[i * k + l] * w[l * n + j];
      y[i * n + j] = (float)sum;
    }
}

static void six_words(const th_device *device) {
  static const float scores[6] = {.9544f, 1.4950f, 1.4754f,
                                  .8434f, .7070f,  1.0865f};
  static const float row[6] = {.1385f, .2379f, .2333f, .1240f, .1082f, .1581f};
  static const float contexts[18] = {
      .4421f, .5931f, .5790f, .4419f, .6515f, .5683f, .4431f, .6496f, .5671f,
      .4304f, .6298f, .5510f, .4671f, .5910f, .5266f, .4177f, .6503f, .5645f};
  float out[18], weights[36];
  numbers n = {6, 6, 3, 3, words, words, words, .out = out, .weights = weights};
  clattn_desc_init(&n.desc);
  n.desc.scale = 1;
  attend(device, &n);
  CLOSE(6, weights + 6, row, 6e-5);
  CLOSE(18, out, contexts, 6e-5);
  n.desc.weights_stage = CLATTN_WEIGHTS_SCORES;
  attend(device, &n);
  CLOSE(6, weights + 6, scores, 6e-5);
}

static void six_words_with_weights(const th_device *device) {
  static const float wq[6] = {.296111941f, .516562283f, .251670718f,
                              .68855679f,  .073972464f, .866521955f};
  static const float wk[6] = {.136579871f, .102479041f, .184056461f,
                              .726446748f, .315253913f, .687106669f};
  static const float wv[6] = {.075635314f, .196638167f, .316411972f,
                              .401740134f, .118568301f, .82739538f};
  static const float row[6] = {.1500f, .2264f, .2199f, .1311f, .0906f, .1820f};
  static const float scores[6] = {1.2705f, 1.8524f, 1.8111f,
                                  1.0795f, .5577f,  1.5440f};
  static const float contexts[12] = {.2996f, .8053f, .3061f, .8210f,
                                     .3058f, .8203f, .2948f, .7939f,
                                     .2927f, .7891f, .2990f, .8040f};
  float q[12], k[12], v[12], out[12], weights[36];
  times(6, 2, 3, words, wq, q);
  times(6, 2, 3, words, wk, k);
  times(6, 2, 3, words, wv, v);
  numbers n = {6, 6, 2, 2, q, k, v, .out = out, .weights = weights};
  clattn_desc_init(&n.desc);
  attend(device, &n);
  CLOSE(6, weights + 6, row, 6e-5);
  CLOSE(12, out, contexts, 6e-5);
  n.desc.scale = 1;
  n.desc.weights_stage = CLATTN_WEIGHTS_SCORES;
  attend(device, &n);
  CLOSE(6, weights + 6, scores, 6e-5);
}

static void softmax(const th_device *device) {
  static const float x[5] = {.1f, -.2f, .3f, -.2f, .5f}, one = 1;
  static const float plain[5] = {.1925f, .1426f, .2351f, .1426f, .2872f};
  static const float sharp[5] = {.0326f, .0030f, .1615f, .0030f, .8000f};
  float weights[5];
  numbers n = {1, 5, 1, 1, &one, x, x, .weights = weights};
  clattn_desc_init(&n.desc);
  attend(device, &n);
  CLOSE(5, weights, plain, 6e-5);
  n.desc.temperature = 1 / 8.f;
  attend(device, &n);
  CLOSE(5, weights, sharp, 6e-5);
}

static void dictionary(const th_device *device) {
  static const float k[12] = {10, 0, 0, 0, 10, 0, 0, 0, 10, 0, 0, 10};
  static const float v[8] = {1, 0, 10, 0, 100, 5, 1000, 6};
  static const float q[9] = {0, 0, 10, 0, 10, 0, 10, 10, 0};
  static const float want[6] = {550, 5.5f, 10, 0, 5.5f, 0};
  float out[6];
  numbers n = {3, 4, 3, 2, q, k, v, .out = out};
  clattn_desc_init(&n.desc);
  attend(device, &n);
  CLOSE(6, out, want, 1e-3);
}

static void valid_lengths(const th_device *device) {
  static const float want[8] = {2, 3, 4, 5, 10, 11, 12, 13};
  const int32_t valid[2] = {2, 6};
  float q[4] = {1, -2, 3, 1}, k[40], v[80], out[8];
  for (int i = 0; i < 40; i++) k[i] = 1;
  for (int i = 0; i < 80; i++) v[i] = (float)(i % 40);
  clattn_desc desc;
  clattn_plan *plan = NULL;
  clattn_args args;
  clattn_buffer *lengths = NULL;
  clattn_desc_init(&desc);
  desc.q_heads = desc.kv_heads = 1, desc.qk_dim = 2, desc.v_dim = 4;
  TH_OK(clattn_plan_create(device->context, device->index, &desc, &plan));
  clattn_args_init(&args);
  args.q = upload(device, 2, 2, q);
  args.k = upload(device, 20, 2, k);
  args.v = upload(device, 20, 4, v);
  args.out = upload(device, 2, 4, NULL);
  args.q = clattn_view_bhsd(args.q.buffer, CLATTN_F32, 2, 1, 1, 2);
  args.k = clattn_view_bhsd(args.k.buffer, CLATTN_F32, 2, 1, 10, 2);
  args.v = clattn_view_bhsd(args.v.buffer, CLATTN_F32, 2, 1, 10, 4);
  args.out = clattn_view_bhsd(args.out.buffer, CLATTN_F32, 2, 1, 1, 4);
  TH_OK(clattn_buffer_create(device->context, device->index, 8, &lengths));
  TH_OK(clattn_buffer_write(device->queue, lengths, 0, valid, 8));
  args.kv_lengths = clattn_view_bhsd(lengths, CLATTN_I32, 2, 1, 1, 1);
  TH_OK(clattn_execute(plan, device->queue, &args, NULL, NULL, 0, NULL));
  TH_OK(clattn_buffer_read(device->queue, args.out.buffer, 0, out, 32));
  CLOSE(8, out, want, 1e-4);
  clattn_buffer_destroy(args.q.buffer), clattn_buffer_destroy(args.k.buffer);
  clattn_buffer_destroy(args.v.buffer), clattn_buffer_destroy(args.out.buffer);
  clattn_buffer_destroy(lengths);
  clattn_plan_destroy(plan);
}

/* x [6,3] through nn.Linear(3, 2) without bias. */
static void draw_map(clattn_kit_rng *rng, float y[12]) {
  float w[6], wt[6];
  clattn_kit_rng_linear(rng, 2, 3, w, NULL);
  for (int i = 0; i < 6; i++) wt[i] = w[i % 2 * 3 + i / 2];
  times(6, 2, 3, words, wt, y);
}

/* Query, key and value maps drawn one after another, as PyTorch makes them. */
static void seeds(const th_device *device) {
  static const float causal[36] = {
      1,      0,      0,      0,      0,      0, /**/
      .5517f, .4483f, 0,      0,      0,      0, /**/
      .3800f, .3097f, .3103f, 0,      0,      0, /**/
      .2758f, .2460f, .2462f, .2319f, 0,      0, /**/
      .2175f, .1983f, .1984f, .1888f, .1971f, 0, /**/
      .1935f, .1663f, .1666f, .1542f, .1666f, .1529f};
  static const float naive[24] = {
      -.4519f, .2216f,  .4772f, .1063f, -.5874f, .0058f,  .5891f, .3257f,
      -.6300f, -.0632f, .6202f, .3860f, -.5675f, -.0843f, .5478f, .3589f,
      -.5526f, -.0981f, .5321f, .3428f, -.5299f, -.1081f, .5077f, .3493f};
  float q[12], k[12], v[12], out[12], weights[36], both[24];
  clattn_kit_rng rng;
  numbers n = {6, 6, 2, 2, q, k, v, .out = out, .weights = weights};
  clattn_desc_init(&n.desc);
  n.desc.causal = true;
  clattn_kit_rng_init(&rng, 789);
  draw_map(&rng, q), draw_map(&rng, k), draw_map(&rng, v);
  attend(device, &n);
  CLOSE(36, weights, causal, 6e-5);

  clattn_kit_rng_init(&rng, 123);
  for (int h = 0; h < 2; h++) {
    draw_map(&rng, q), draw_map(&rng, k), draw_map(&rng, v);
    attend(device, &n);
    for (int i = 0; i < 12; i++) both[i / 2 * 4 + 2 * h + i % 2] = out[i];
  }
  CLOSE(24, both, naive, 6e-5);
}

static void seeded_layer(const th_device *device) {
  static const float want[12] = {.3190f, .4858f, .2943f, .3897f,
                                 .2856f, .3593f, .2693f, .3873f,
                                 .2639f, .3928f, .2575f, .4028f};
  float got[12];
  clattn_kit_rng rng;
  clattn_kit_mha *layer = NULL;
  clattn_mha_config config;
  clattn_mha_args args;
  clattn_kit_rng_init(&rng, 123);
  clattn_mha_config_init(&config);
  config.embed_dim = 3, config.out_dim = 2;
  config.num_heads = 2, config.head_dim = 1;
  config.attention.causal = true;
  TH_OK(clattn_kit_mha_random(device->context, device->index, device->queue,
                              &config, false, &rng, &layer));
  clattn_mha_args_init(&args);
  args.query = upload(device, 6, 3, words);
  args.output = upload(device, 6, 2, NULL);
  TH_OK(clattn_mha_forward(clattn_kit_mha_layer(layer), device->queue, &args,
                           NULL, 0, NULL));
  TH_OK(clattn_buffer_read(device->queue, args.output.buffer, 0, got, 48));
  CLOSE(12, got, want, 6e-5);
  clattn_buffer_destroy(args.query.buffer);
  clattn_buffer_destroy(args.output.buffer);
  clattn_kit_mha_destroy(layer);

  clattn_mha_config_init(&config);
  config.embed_dim = 768, config.num_heads = 12;
  TH_OK(clattn_kit_mha_random(device->context, device->index, device->queue,
                              &config, false, &rng, &layer));
  cr_expect_eq(clattn_kit_mha_parameters(layer), 2360064);
  clattn_kit_mha_destroy(layer);
}

Test(numbers, attention) {
  const th_devices *devices = th_open(false);
  for (int d = 0; d < devices->count; d++) {
    const th_device *device = &devices->device[d];
    six_words(device);
    six_words_with_weights(device);
    softmax(device);
    dictionary(device);
    valid_lengths(device);
    seeds(device);
    seeded_layer(device);
  }
  th_shut();
}

/* ---- words --------------------------------------------------------------- */

static char *read_text(const char *path, size_t *bytes) {
  FILE *file = fopen(path, "rb");
  cr_assert(file, "cannot open %s", path);
  char *text = calloc(1, 1 << 20);
  cr_assert(text);
  *bytes = fread(text, 1, (1 << 20) - 1, file);
  fclose(file);
  return text;
}

static void expect_ids(const clattn_tokenizer *tokenizer, const char *text,
                       const int32_t *want, int64_t n) {
  clattn_encoding got;
  TH_OK(clattn_tokenizer_encode(tokenizer, text, strlen(text), NULL, &got));
  cr_assert_eq(got.n, n);
  for (int64_t i = 0; i < n; i++)
    cr_expect_eq(got.ids[i], want[i], "token %lld is %d, want %d", (long long)i,
                 got.ids[i], want[i]);
  clattn_encoding_free(&got);
}

Test(numbers, words) {
  static const int32_t known[] = {1,   56, 2,    850,  988, 602, 533,
                                  746, 5,  1126, 596,  5,   1,   67,
                                  7,   38, 851,  1108, 754, 793, 7};
  static const int32_t unknown[] = {1131, 5,   355, 1126, 628, 975, 10,   1130,
                                    55,   988, 956, 984,  722, 988, 1131, 7};
  static const int64_t windows[][3] = {
      {4, 1, 4686}, {256, 128, 35}, {256, 256, 18}};
  const char *data = getenv("CLATTN_DATA");
  char path[1024];
  if (!data) cr_skip_test("CLATTN_DATA is not set: no text");
  snprintf(path, sizeof path, "%s/data/the-verdict.txt", data);
  size_t bytes;
  char *text = read_text(path, &bytes);
  clattn_tokenizer *vocab = NULL;
  clattn_encoding all;
  TH_OK(
      clattn_tokenizer_from_text(CLATTN_TOKENIZER_WORDS, text, bytes, &vocab));
  TH_OK(clattn_tokenizer_encode(vocab, text, bytes, NULL, &all));
  cr_expect_eq(all.n, 4690);
  cr_expect_eq(clattn_tokenizer_size(vocab), 1132);
  expect_ids(vocab,
             "\"It's the last he painted, you know,\" Mrs. Gisburn said with "
             "pardonable pride.",
             known, sizeof known / sizeof *known);
  expect_ids(vocab,
             "Hello, do you like tea? <|endoftext|> In the sunlit terraces of "
             "the palace.",
             unknown, sizeof unknown / sizeof *unknown);
  for (int i = 0; i < 3; i++) {
    clattn_kit_loader_config config;
    clattn_kit_loader *loader = NULL;
    clattn_kit_loader_config_init(&config);
    config.length = windows[i][0], config.stride = windows[i][1];
    TH_OK(clattn_kit_loader_create(&config, all.ids, all.n, &loader));
    cr_expect_eq(clattn_kit_loader_windows(loader), windows[i][2]);
    clattn_kit_loader_destroy(loader);
  }
  free(text);
  clattn_encoding_free(&all);
  clattn_tokenizer_destroy(vocab);
}

/* ---- the oracle itself --------------------------------------------------- */

static double *to_doubles(const clattn_kit_safetensors *file, const char *name,
                          ora_array *out, th_pool *pool) {
  clattn_kit_tensor t;
  *out = (ora_array){0};
  if (!clattn_kit_safetensors_has(file, name)) return NULL;
  TH_OK(clattn_kit_safetensors_find(file, name, &t));
  int64_t n = clattn_kit_tensor_elements(&t);
  float *f = th_alloc(pool, (size_t)n * sizeof *f);
  double *v = th_alloc(pool, (size_t)n * sizeof *v);
  TH_OK(clattn_kit_tensor_to_f32(&t, f));
  for (int64_t i = 0; i < n; i++) v[i] = f[i];
  out->v = v;
  for (int i = 0; i < 4; i++) out->n[i] = 1;
  for (int i = 0; i < t.rank; i++) out->n[4 - t.rank + i] = t.extent[i];
  return v;
}

static double number(const clattn_kit_safetensors *file, const char *key,
                     double otherwise) {
  const char *text = clattn_kit_safetensors_metadata(file, key);
  return text ? strtod(text, NULL) : otherwise;
}

/* A reference that is wrong is worse than none: it must give the values that
 * were computed elsewhere, far within the library's tolerance. */
Test(numbers, oracle_on_conformance_cases) {
  static const char *const cases[] = {"plain_odd",
                                      "bool_mask_rank4",
                                      "add_mask_heads",
                                      "alibi",
                                      "causal_bottom_right",
                                      "causal_top_left",
                                      "causal_more_queries_than_keys",
                                      "decode_lengths",
                                      "gqa_causal_lengths",
                                      "head_dim_5",
                                      "huge_logits",
                                      "mqa_value_dim",
                                      "one_key",
                                      "poison",
                                      "sinks",
                                      "softcap_gqa",
                                      "window_both",
                                      "window_left",
                                      "f16",
                                      "bf16"};
  const char *data = getenv("CLATTN_DATA");
  if (!data) cr_skip_test("CLATTN_DATA is not set: no conformance cases");
  for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
    char path[1024], message[256];
    th_pool pool = {0};
    clattn_kit_safetensors *file = NULL;
    snprintf(path, sizeof path,
             "%s/conformance/clattn/attention_%s.safetensors", data, cases[c]);
    TH_OK(clattn_kit_safetensors_open(path, &file));
    ora_attention a = {.temperature = 1};
    ora_array want, lse, lengths, mask, heads;
    to_doubles(file, "in.Q", &a.q, &pool);
    to_doubles(file, "in.K", &a.k, &pool);
    to_doubles(file, "in.V", &a.v, &pool);
    to_doubles(file, "out.Y", &want, &pool);
    to_doubles(file, "out.lse", &lse, &pool);
    if (to_doubles(file, "in.alibi_slopes", &heads, &pool))
      a.slopes = (ora_array){heads.v, {1, heads.n[3], 1, 1}};
    if (to_doubles(file, "in.sinks", &heads, &pool))
      a.sinks = (ora_array){heads.v, {1, heads.n[3], 1, 1}};
    if (to_doubles(file, "in.attn_mask", &mask, &pool)) {
      clattn_kit_tensor t;
      TH_OK(clattn_kit_safetensors_find(file, "in.attn_mask", &t));
      *(t.dtype == CLATTN_KIT_BOOL ? &a.mask : &a.bias) = mask;
    }
    a.batch = a.q.n[0], a.q_heads = a.q.n[1], a.kv_heads = a.k.n[1];
    a.q_len = a.q.n[2], a.kv_len = a.k.n[2];
    a.qk_dim = a.q.n[3], a.v_dim = a.v.n[3];
    int64_t *valid = th_alloc(&pool, (size_t)a.batch * sizeof *valid);
    if (to_doubles(file, "in.kv_lengths", &lengths, &pool)) {
      for (int b = 0; b < a.batch; b++) valid[b] = (int64_t)lengths.v[b];
      a.lengths = valid;
    }
    a.scale = (float)number(file, "scale", 1 / sqrt((double)a.qk_dim));
    if (!clattn_kit_safetensors_metadata(file, "scale"))
      a.scale = 1 / sqrt((double)a.qk_dim);
    a.softcap = (float)number(file, "softcap", 0);
    a.causal = number(file, "is_causal", 0) != 0;
    a.left = (int64_t)number(file, "window_left", -1);
    a.right = (int64_t)number(file, "window_right", -1);
    a.q_start = ORA_AT_END;
    if (clattn_kit_safetensors_metadata(file, "q_start"))
      a.q_start = (int64_t)number(file, "q_start", 0);
    bool f16 = strcmp(cases[c], "f16") == 0;
    bool bf16 = strcmp(cases[c], "bf16") == 0;
    a.out_type = f16 ? &ora_f16 : bf16 ? &ora_bf16 : &ora_f32;
    a.weights_type = &ora_f32;
    ora_result got = ora_attend(&a);
    int64_t n = a.batch * a.q_heads * a.q_len;
    double *tol = th_alloc(&pool, (size_t)(n * a.v_dim) * sizeof *tol);
    for (int64_t i = 0; i < n * a.v_dim; i++)
      tol[i] = 1e-9 + 2 * ora_rounding(a.out_type, want.v[i]);
    cr_expect(th_close(n * a.v_dim, got.out, want.v, tol, false, "out", message,
                       sizeof message),
              "%s: %s", cases[c], message);
    for (int64_t i = 0; i < n; i++)
      tol[i] = 1e-9 + 2 * ora_rounding(&ora_f32, lse.v[i]);
    cr_expect(
        th_close(n, got.lse, lse.v, tol, false, "lse", message, sizeof message),
        "%s: %s", cases[c], message);
    ora_result_free(&got);
    clattn_kit_safetensors_destroy(file);
    th_pool_free(&pool);
  }
}
