/* Pre-trained models: everything they give beside the oracle, batches beside
 * single requests, decoding beside whole texts, files of other names. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "../support/checkpoint.h"
#include "../support/harness.h"
#include "clattn_gpt.h"
#include "clattn_model.h"

enum {
  REQUESTS = 5,
  MOST = 12,
  EMBED = 24,
  VOCAB = 37,
  LAYERS = 2,
  HEADS = 4,
  TOP = 3,
  BLOCK = 5
};

static const checkpoint_kind bert = {.name = "BERT", .family = ORA_BERT},
                             gpt2 = {.name = "GPT-2", .family = ORA_GPT2},
                             llama = {.name = "Llama",
                                      .family = ORA_LLAMA,
                                      .untied = true},
                             bert_once = {.name = "BERT, old names",
                                          .family = ORA_BERT,
                                          .prefix = "bert.",
                                          .once = true},
                             gpt2_head = {.name = "GPT-2 with a head",
                                          .family = ORA_GPT2,
                                          .prefix = "transformer.",
                                          .untied = true},
                             llama_bias = {.name = "Llama with biases",
                                           .family = ORA_LLAMA,
                                           .prefix = "model.",
                                           .biased = true},
                             roberta = {.name = "RoBERTa",
                                        .family = ORA_BERT,
                                        .prefix = "roberta.",
                                        .padding = 1},
                             mistral = {.name = "Mistral",
                                        .family = ORA_LLAMA,
                                        .untied = true,
                                        .window = 4},
                             stretched = {.name = "Llama, stretched",
                                          .family = ORA_LLAMA,
                                          .factor = 2.5},
                             llama_gguf = {.name = "Llama in GGUF",
                                           .family = ORA_LLAMA,
                                           .gguf = true};

static void make(checkpoint *c, const checkpoint_kind *kind) {
  checkpoint_kind with_prefix = *kind;
  if (kind->prefix == NULL) with_prefix.prefix = "";
  checkpoint_make(c, &with_prefix, 11);
}

static clattn_model *load(const th_device *device, const checkpoint *c,
                          clattn_dtype dtype) {
  clattn_model_options options;
  clattn_model_options_init(&options);
  options.dtype = dtype;
  clattn_model *model = NULL;
  TH_OK(clattn_model_load(device->context, device->index, device->queue,
                          c->folder, &options, &model));
  return model;
}

/* ---- a batch in a layout ------------------------------------------------------- */

typedef struct request_batch {
  clattn_model_input input;
  int64_t lengths[REQUESTS], starts[REQUESTS], rows, width;
  int32_t ids[REQUESTS * MOST], types[REQUESTS * MOST];
  int n;
} request_batch;

/* Requests of mixed lengths; what is not theirs are ids that no model has. */
static void lay_out(request_batch *b, clattn_model_layout layout, int types) {
  static const int64_t lengths[REQUESTS] = {5, 1, 12, 11, 5};
  th_rng rng = {21};
  *b = (request_batch){.n = REQUESTS};
  clattn_model_input_init(&b->input);
  memcpy(b->lengths, lengths, sizeof lengths);
  for (int i = 0; i < REQUESTS * MOST; i++) b->ids[i] = b->types[i] = -77777;
  b->width = layout == CLATTN_MODEL_PACKED ? 34 : MOST;
  b->rows = layout == CLATTN_MODEL_PACKED ? 34 : REQUESTS * MOST;
  int64_t at = 0;
  for (int r = 0; r < REQUESTS; r++) {
    b->starts[r] = layout == CLATTN_MODEL_PACKED ? at : r * MOST;
    if (layout == CLATTN_MODEL_PAD_LEFT) b->starts[r] += MOST - lengths[r];
    at += lengths[r];
    for (int64_t i = 0; i < lengths[r]; i++) {
      b->ids[b->starts[r] + i] = th_below(&rng, VOCAB);
      b->types[b->starts[r] + i] = types > 0 ? th_below(&rng, types) : 0;
    }
  }
  b->input.layout = layout;
  b->input.batch = REQUESTS;
  b->input.length = layout == CLATTN_MODEL_PACKED ? 0 : MOST;
  b->input.lengths = b->lengths;
  b->input.ids = b->ids;
  b->input.types = types > 0 ? b->types : NULL;
}

/* ---- beside the oracle ---------------------------------------------------------- */

typedef struct watched {
  const char *what; /* for messages */
  const checkpoint *c;
  const request_batch *batch;
  const ora_model_run *want; /* [REQUESTS] */
  int layers_told;
} watched;

/* A value went through so many layers, each a few sums of up to F numbers and an
 * exponential: their roundings add up. */
static void expect_near(const watched *w, int64_t n, const float *got,
                        const double *want, const char *name) {
  double wide[REQUESTS * MOST * VOCAB];
  char message[256] = "";
  for (int64_t i = 0; i < n; i++) wide[i] = (double)got[i];
  cr_expect(
      th_near(n, wide, want, CLATTN_F32, w->c->model.hidden,
              8 * (1 + w->c->model.layers), name, message, sizeof message),
      "%s: %s", w->what, message);
}

/* Rows of the rest are 0. */
static void expect_zero_rest(const watched *w, const float *rows, int64_t cols,
                             const char *name) {
  for (int64_t r = 0; r < w->batch->rows; r++) {
    bool used = false;
    for (int b = 0; b < REQUESTS; b++)
      used = used || (r >= w->batch->starts[b] &&
                      r < w->batch->starts[b] + w->batch->lengths[b]);
    for (int64_t i = 0; !used && i < cols; i++)
      cr_expect_eq(rows[r * cols + i], 0, "%s: %s of row %lld", w->what, name,
                   (long long)r);
  }
}

/* Of a request's attention, [heads, n, n] in double. */
static double entropy_of(const double *row, int64_t n) {
  double sum = 0;
  for (int64_t j = 0; j < n; j++)
    if (row[j] > 0) sum -= row[j] * log(row[j]);
  return sum;
}

static double distance_of(const double *row, int64_t n, int64_t i) {
  double sum = 0;
  for (int64_t j = 0; j < n; j++) sum += row[j] * fabs((double)(i - j));
  return sum;
}

/* The keys told are as heavy as the k heaviest, in that order. */
static void expect_top(const watched *w, const double *row, int64_t n,
                       const int32_t *keys, const float *weights) {
  double left[MOST];
  memcpy(left, row, (size_t)n * sizeof *left);
  for (int k = 0; k < TOP; k++) {
    int64_t best = -1;
    for (int64_t j = 0; j < n; j++)
      if (left[j] > 0 && (best < 0 || left[j] > left[best])) best = j;
    if (best < 0) {
      cr_expect(keys[k] == -1 && weights[k] == 0, "%s: key %d of the top",
                w->what, (int)keys[k]);
      continue;
    }
    cr_expect(keys[k] >= 0 && keys[k] < n && left[keys[k]] >= 0, "%s: key %d",
              w->what, (int)keys[k]);
    cr_expect_float_eq((double)weights[k], left[best], 2e-5, "%s", w->what);
    cr_expect_float_eq(row[keys[k]], left[best], 2e-5, "%s", w->what);
    left[keys[k]] = -1;
  }
}

static void expect_map(const watched *w, const double *p, int64_t n,
                       const float *map) {
  const int64_t m = (n + BLOCK - 1) / BLOCK;
  for (int64_t I = 0; I < m; I++)
    for (int64_t J = 0; J < m; J++) {
      const int64_t end = (I + 1) * BLOCK < n ? (I + 1) * BLOCK : n;
      double sum = 0;
      for (int64_t i = I * BLOCK; i < end; i++)
        for (int64_t j = J * BLOCK; j < n && j < (J + 1) * BLOCK; j++)
          sum += p[i * n + j];
      cr_expect_float_eq(
          (double)map[I * m + J], sum / (double)(end - I * BLOCK), 2e-5,
          "%s: map %lld,%lld", w->what, (long long)I, (long long)J);
    }
}

static void expect_statistics(const watched *w, const clattn_model_layer *layer,
                              int b, const double *attention) {
  const int64_t n = w->batch->lengths[b], length = layer->length;
  const int64_t row = layer->batch == 1 ? 0 : b;
  const int64_t first = w->batch->starts[b] - row * length;
  const int64_t m = (n + BLOCK - 1) / BLOCK;
  for (int64_t h = 0; h < HEADS; h++) {
    expect_map(w, attention + h * n * n, n, layer->map[b] + h * m * m);
    for (int64_t i = 0; i < n; i++) {
      const double *p = attention + (h * n + i) * n;
      const int64_t at = (row * HEADS + h) * length + first + i;
      cr_expect_float_eq((double)layer->entropy[at], entropy_of(p, n), 5e-5,
                         "%s: entropy", w->what);
      cr_expect_float_eq((double)layer->distance[at], distance_of(p, n, i),
                         2e-4, "%s: distance", w->what);
      expect_top(w, p, n, layer->top_keys + at * TOP,
                 layer->top_weights + at * TOP);
    }
  }
}

/* Row i of a head from queries and keys: softmax(scale q k) over the keys that
 * it sees. */
static void row_of_products(const clattn_model_layer *layer, int b, int64_t h,
                            int64_t i, int64_t n, bool causal, double *row) {
  const int64_t D = layer->head_dim;
  const int64_t g = h / (layer->heads / layer->kv_heads);
  double sum = 0;
  for (int64_t j = 0; j < n; j++) {
    double score = 0;
    for (int64_t d = 0; d < D; d++)
      score += (double)layer->query[b][(h * n + i) * D + d] *
               (double)layer->key[b][(g * n + j) * D + d];
    const bool seen =
        !(causal && j > i) && !(layer->window > 0 && j <= i - layer->window);
    sum += row[j] = seen ? exp(score * layer->scale) : 0;
  }
  for (int64_t j = 0; j < n; j++) row[j] /= sum;
}

static void expect_products(const watched *w, const clattn_model_layer *layer,
                            int b, const double *attention) {
  const int64_t n = w->batch->lengths[b];
  const bool causal = w->c->model.family != ORA_BERT;
  double row[MOST];
  cr_expect_eq(layer->kv_heads, w->c->model.kv_heads);
  for (int64_t h = 0; h < HEADS; h++)
    for (int64_t i = 0; i < n; i++) {
      row_of_products(layer, b, h, i, n, causal, row);
      for (int64_t j = 0; j < n; j++)
        cr_expect_float_eq(row[j], attention[(h * n + i) * n + j], 2e-5,
                           "%s: product %lld,%lld,%lld", w->what, (long long)h,
                           (long long)i, (long long)j);
    }
}

static clattn_status on_layer(void *user, const clattn_model_layer *layer) {
  watched *w = user;
  const request_batch *batch = w->batch;
  cr_expect_eq(layer->layer, w->layers_told - 1);
  cr_expect_eq(layer->length, batch->width);
  cr_expect_eq(layer->heads, HEADS);
  w->layers_told++;
  for (int b = 0; b < REQUESTS; b++) {
    const int64_t n = batch->lengths[b], l = layer->layer;
    expect_near(w, n * EMBED, layer->hidden + batch->starts[b] * EMBED,
                w->want[b].hidden + (l + 1) * n * EMBED, "hidden states");
    if (l < 0) {
      cr_expect(layer->attention == NULL && layer->entropy == NULL);
      cr_expect(layer->query == NULL && layer->key == NULL);
      continue;
    }
    const double *attention = w->want[b].attention + l * HEADS * n * n;
    expect_near(w, HEADS * n * n, layer->attention[b], attention, "attention");
    expect_statistics(w, layer, b, attention);
    expect_products(w, layer, b, attention);
  }
  expect_zero_rest(w, layer->hidden, EMBED, "hidden states");
  return CLATTN_OK;
}

static void check_embedding(const watched *w, const float *embedding,
                            clattn_model_pooling pooling, bool normalize) {
  for (int b = 0; b < REQUESTS; b++) {
    const int n = (int)w->batch->lengths[b];
    double want[EMBED] = {0}, square = 0;
    for (int i = 0; i < n; i++)
      for (int e = 0; e < EMBED; e++)
        if (pooling == CLATTN_POOL_MEAN ||
            i == (pooling == CLATTN_POOL_FIRST ? 0 : n - 1))
          want[e] += w->want[b].last[i * EMBED + e] /
                     (pooling == CLATTN_POOL_MEAN ? n : 1);
    for (int e = 0; e < EMBED; e++) square += want[e] * want[e];
    for (int e = 0; e < EMBED && normalize; e++) want[e] /= sqrt(square);
    expect_near(w, EMBED, embedding + b * EMBED, want, "embedding");
  }
}

/* Everything a model gives, watched and not. */
static void check_outputs(const th_device *device, clattn_model *model,
                          watched *w, bool watch) {
  static float hidden[REQUESTS * MOST * EMBED], pooled[REQUESTS * EMBED],
      logits[REQUESTS * VOCAB], all[REQUESTS * MOST * VOCAB],
      embedding[REQUESTS * EMBED];
  const bool encoder = w->c->model.family == ORA_BERT;
  const request_batch *batch = w->batch;
  clattn_model_output output;
  clattn_model_output_init(&output);
  memset(hidden, 0xff, sizeof hidden);
  memset(all, 0xff, sizeof all);
  output.hidden = hidden;
  output.embedding = embedding;
  output.pooling = (clattn_model_pooling)(batch->input.layout);
  output.normalize = batch->input.layout != CLATTN_MODEL_PAD_LEFT;
  if (encoder) output.pooled = pooled;
  if (!encoder) output.logits = logits;
  if (!encoder) output.all_logits = all;
  if (watch) {
    output.watch = CLATTN_WATCH_HIDDEN | CLATTN_WATCH_ATTENTION |
                   CLATTN_WATCH_STATISTICS | CLATTN_WATCH_TOP |
                   CLATTN_WATCH_MAP | CLATTN_WATCH_QUERY_KEY;
    output.top = TOP;
    output.map_block = BLOCK;
    output.on_layer = on_layer;
    output.user = w;
  }
  w->layers_told = 0;
  TH_OK(clattn_model_run(model, device->queue, &batch->input, &output));
  cr_expect_eq(w->layers_told, watch ? LAYERS + 1 : 0);
  for (int b = 0; b < REQUESTS; b++) {
    const ora_model_run *want = &w->want[b];
    const int64_t n = batch->lengths[b], first = batch->starts[b];
    expect_near(w, n * EMBED, hidden + first * EMBED, want->last, "last");
    if (encoder) {
      expect_near(w, EMBED, pooled + b * EMBED, want->pooled, "pooled");
      continue;
    }
    expect_near(w, n * VOCAB, all + first * VOCAB, want->logits, "all logits");
    expect_near(w, VOCAB, logits + b * VOCAB, want->logits + (n - 1) * VOCAB,
                "logits");
  }
  check_embedding(w, embedding, output.pooling, output.normalize);
  expect_zero_rest(w, hidden, EMBED, "last");
  if (!encoder) expect_zero_rest(w, all, VOCAB, "all logits");
}

static void check_model(const th_device *device, const checkpoint_kind *kind,
                        clattn_dtype dtype, clattn_model_layout first,
                        clattn_model_layout last) {
  checkpoint c;
  make(&c, kind);
  clattn_model *model = load(device, &c, dtype);
  checkpoint_round(&c, dtype);
  for (clattn_model_layout layout = first; layout <= last; layout++) {
    request_batch batch;
    ora_model_run want[REQUESTS];
    char what[160];
    lay_out(&batch, layout, c.model.types);
    for (int b = 0; b < REQUESTS; b++)
      want[b] = ora_model_forward(
          &c.model, batch.ids + batch.starts[b],
          c.model.types > 0 ? batch.types + batch.starts[b] : NULL,
          (int)batch.lengths[b]);
    snprintf(what, sizeof what, "%s, %s, layout %d, on %s", kind->name,
             clattn_dtype_name(dtype), (int)layout, device->info.name);
    watched w = {what, &c, &batch, want, 0};
    check_outputs(device, model, &w, false);
    check_outputs(device, model, &w, true);
    for (int b = 0; b < REQUESTS; b++) ora_model_run_free(&want[b]);
  }
  clattn_model_destroy(model);
  checkpoint_free(&c);
}

static void families(const th_device *device) {
  const checkpoint_kind *const all[] = {&bert, &gpt2, &llama};
  for (int i = 0; i < 3; i++)
    check_model(device, all[i], CLATTN_F32, CLATTN_MODEL_PAD_RIGHT,
                th_small() ? CLATTN_MODEL_PAD_RIGHT : CLATTN_MODEL_PACKED);
}
Test(model, families_beside_the_oracle) { th_each_device(families); }

static void other_files(const th_device *device) {
  check_model(device, &bert_once, CLATTN_F32, CLATTN_MODEL_PAD_LEFT,
              CLATTN_MODEL_PAD_LEFT);
  check_model(device, &gpt2_head, CLATTN_F32, CLATTN_MODEL_PACKED,
              CLATTN_MODEL_PACKED);
  check_model(device, &llama_bias, CLATTN_F32, CLATTN_MODEL_PAD_RIGHT,
              CLATTN_MODEL_PAD_RIGHT);
  check_model(device, &llama_gguf, CLATTN_F32, CLATTN_MODEL_PAD_LEFT,
              CLATTN_MODEL_PAD_LEFT);
}
Test(model, other_names_and_files) { th_each_device(other_files); }

static void narrow_weights(const th_device *device) {
  const checkpoint_kind *const all[] = {&bert, &gpt2, &llama};
  for (int i = 0; i < 6; i++)
    check_model(device, all[i / 2], i % 2 ? CLATTN_F16 : CLATTN_BF16,
                CLATTN_MODEL_PACKED, CLATTN_MODEL_PACKED);
}
Test(model, weights_of_two_bytes) { th_each_device(narrow_weights); }

static void relatives(const th_device *device) {
  const checkpoint_kind *const all[] = {&roberta, &mistral, &stretched};
  for (int i = 0; i < 3; i++)
    check_model(device, all[i], CLATTN_F32, CLATTN_MODEL_PAD_LEFT,
                CLATTN_MODEL_PAD_LEFT);
}
Test(model, relatives_of_the_families) { th_each_device(relatives); }

/* ---- each request as alone ---------------------------------------------------------- */

static void run_hidden(const th_device *device, clattn_model *model,
                       const clattn_model_input *input, float *hidden) {
  clattn_model_output output;
  clattn_model_output_init(&output);
  output.hidden = hidden;
  TH_OK(clattn_model_run(model, device->queue, input, &output));
}

/* Rows in another company may be summed in another order: 8 u sqrt(128), u being
 * 2^-24, for sums of up to 128 numbers of size 1. */
#define OTHER_ORDER 5e-6

static void alone(const th_device *device, const checkpoint_kind *kind) {
  checkpoint c;
  make(&c, kind);
  clattn_model *model = load(device, &c, CLATTN_F32);
  for (clattn_model_layout layout = CLATTN_MODEL_PAD_RIGHT;
       layout <= CLATTN_MODEL_PACKED; layout++) {
    static float together[REQUESTS * MOST * EMBED], single[MOST * EMBED];
    request_batch batch;
    lay_out(&batch, layout, c.model.types);
    run_hidden(device, model, &batch.input, together);
    for (int b = 0; b < REQUESTS; b++) {
      clattn_model_input input;
      clattn_model_input_init(&input);
      input.length = batch.lengths[b];
      input.ids = batch.ids + batch.starts[b];
      if (c.model.types > 0) input.types = batch.types + batch.starts[b];
      run_hidden(device, model, &input, single);
      for (int64_t i = 0; i < input.length * EMBED; i++)
        cr_expect_float_eq(
            together[batch.starts[b] * EMBED + i], single[i], OTHER_ORDER,
            "%s: request %d, element %lld: %g, alone %g", kind->name, b,
            (long long)i, (double)together[batch.starts[b] * EMBED + i],
            (double)single[i]);
    }
  }
  clattn_model_destroy(model);
  checkpoint_free(&c);
}

static void batches(const th_device *device) {
  alone(device, &bert);
  alone(device, &llama);
}
Test(model, requests_of_a_batch_are_as_alone) { th_each_device(batches); }

/* More rows than a chunk has, and every length: the chunks' seams. */
Test(model, many_requests_in_chunks) {
  enum { MANY = 1200, LENGTH = 13 };
  const th_device *device = &th_open(false)->device[th_open(false)->count - 1];
  checkpoint c;
  make(&c, &gpt2);
  clattn_model *model = load(device, &c, CLATTN_F32);
  int32_t *ids = calloc(MANY * LENGTH, sizeof *ids);
  int64_t *lengths = calloc(MANY, sizeof *lengths);
  float *embedding = calloc(MANY * EMBED, sizeof *embedding);
  float *logits = calloc(MANY * VOCAB, sizeof *logits);
  for (int r = 0; r < MANY; r++) {
    lengths[r] = 1 + r % LENGTH;
    for (int i = 0; i < LENGTH; i++)
      ids[r * LENGTH + i] = (r % LENGTH * 7 + i * 5) % VOCAB;
  }
  clattn_model_input input;
  clattn_model_input_init(&input);
  input.batch = MANY;
  input.length = LENGTH;
  input.lengths = lengths;
  input.ids = ids;
  clattn_model_output output;
  clattn_model_output_init(&output);
  output.embedding = embedding;
  output.logits = logits;
  TH_OK(clattn_model_run(model, device->queue, &input, &output));
  for (int r = LENGTH; r < MANY; r++) { /* the same text comes again */
    for (int e = 0; e < EMBED; e++)
      cr_assert_float_eq(embedding[r * EMBED + e],
                         embedding[r % LENGTH * EMBED + e], 2e-6f);
    for (int v = 0; v < VOCAB; v++)
      cr_assert_float_eq(logits[r * VOCAB + v], logits[r % LENGTH * VOCAB + v],
                         1e-5f);
  }
  free(ids);
  free(lengths);
  free(embedding);
  free(logits);
  clattn_model_destroy(model);
  checkpoint_free(&c);
}

/* ---- decoding ------------------------------------------------------------------------- */

static void expect_logits(const float *got, const double *want, int at,
                          const char *name) {
  for (int v = 0; v < VOCAB; v++)
    cr_expect_float_eq((double)got[v], want[at * VOCAB + v], 2e-5,
                       "%s, token %d: got %g, want %g", name, at,
                       (double)got[v], want[at * VOCAB + v]);
}

static void decode_kind(const th_device *device, const checkpoint_kind *kind) {
  enum { N = 12 };
  checkpoint c;
  make(&c, kind);
  clattn_model *model = load(device, &c, CLATTN_F32);
  clattn_model_decoder *decoder = NULL;
  int32_t ids[N + 1];
  float logits[VOCAB];
  th_rng rng = {31};
  for (int i = 0; i < N; i++) ids[i] = th_below(&rng, VOCAB);
  ora_model_run want = ora_model_forward(&c.model, ids, NULL, N);
  TH_OK(clattn_model_decoder_create(model, device->queue, N, &decoder));
  cr_expect_eq(clattn_model_decoder_length(decoder), 0);
  TH_OK(clattn_model_decoder_read(decoder, device->queue, ids, 5, logits));
  expect_logits(logits, want.logits, 4, kind->name);
  for (int i = 5; i < N; i++) {
    TH_OK(
        clattn_model_decoder_read(decoder, device->queue, ids + i, 1, logits));
    expect_logits(logits, want.logits, i, kind->name);
  }
  cr_expect_eq(clattn_model_decoder_length(decoder), N);
  cr_expect_eq(
      clattn_model_decoder_read(decoder, device->queue, ids, 1, logits),
      CLATTN_INVALID_ARGUMENT);
  cr_expect(strstr(clattn_error_message(), "12") != NULL);
  /* Back to the seventh token, and several at once behind it. */
  TH_OK(clattn_model_decoder_truncate(decoder, device->queue, 7));
  cr_expect_eq(clattn_model_decoder_length(decoder), 7);
  TH_OK(clattn_model_decoder_read(decoder, device->queue, ids + 7, 4, logits));
  expect_logits(logits, want.logits, 10, kind->name);
  TH_OK(clattn_model_decoder_truncate(decoder, device->queue, 0));
  TH_OK(clattn_model_decoder_read(decoder, device->queue, ids, N, logits));
  expect_logits(logits, want.logits, N - 1, kind->name);
  ora_model_run_free(&want);
  clattn_model_destroy(model); /* in any order */
  clattn_model_decoder_destroy(decoder);
  checkpoint_free(&c);
}

static void decode(const th_device *device) {
  decode_kind(device, &gpt2);
  decode_kind(device, &llama);
  decode_kind(device, &mistral);
}
Test(model, decoder_beside_the_oracle) { th_each_device(decode); }

/* ---- models of clattn train ------------------------------------------------------------- */

Test(model, a_gpt_of_clattn_train) {
  enum { N = 7, V = 11 };
  const th_device *device = &th_open(false)->device[0];
  char path[] = "/tmp/clattn-model-gpt.safetensors";
  clattn_gpt_config config;
  clattn_gpt_config_init(&config);
  config.vocab_size = V;
  config.context = 8;
  config.layers = 2;
  config.heads = 2;
  config.embed_dim = 8;
  clattn_gpt *gpt = NULL;
  TH_OK(clattn_gpt_create(device->context, device->index, device->queue,
                          &config, 3, &gpt));
  TH_OK(
      clattn_gpt_save(gpt, device->queue, path, CLATTN_F32, NULL, 0, NULL, 0));
  clattn_model *model = NULL;
  TH_OK(clattn_model_load(device->context, device->index, device->queue, path,
                          NULL, &model));
  const int32_t ids[N] = {1, 10, 3, 3, 0, 7, 2};
  float want[N * V], got[N * V];
  TH_OK(clattn_gpt_forward(gpt, device->queue, ids, 1, N, want));
  clattn_model_input input;
  clattn_model_input_init(&input);
  input.length = N;
  input.ids = ids;
  clattn_model_output output;
  clattn_model_output_init(&output);
  output.all_logits = got;
  TH_OK(clattn_model_run(model, device->queue, &input, &output));
  for (int i = 0; i < N * V; i++)
    cr_expect_float_eq(got[i], want[i], 1e-6f, "%d: %g, %g", i, (double)got[i],
                       (double)want[i]);
  cr_expect_eq(clattn_model_parameters(model), clattn_gpt_parameters(gpt));
  remove(path);
  clattn_model_destroy(model);
  clattn_gpt_destroy(gpt);
}
