/* What an encoder-decoder attended to, as a file: three parts, beside the oracle
 * and beside each other. */
#define _POSIX_C_SOURCE 200809L /* mkdtemp */
#include <math.h>

#include "../support/attention_case.h"
#include "clattn_attention.h"
#include "../support/seq2seq_case.h"
#include "errors.h"

enum { HEADS = 2, LAYERS = 2, DIM = 4, SOURCE = 5, ROWS = 4 };

/* The model's tokens 3..8; 0, 1 and 2 are pad, begin and end. */
static const char text[] =
    "ec\xc3\xa9"
    "ab"; /* 7 5 8 3 4 */
static const int32_t source[SOURCE] = {7, 5, 8, 3, 4};
static const int32_t target[ROWS] = {6, 8, 5, 2}; /* d, e with accent, c, end */

typedef struct setup {
  s2s_case c;
  clattn_tokenizer *tokenizer;
  char path[64];
} setup;

static void make(setup *s, const th_device *device) {
  s->c = s2s_make(device, NULL);
  const char *characters = "abcde\xc3\xa9";
  TH_OK(clattn_tokenizer_from_text(CLATTN_TOKENIZER_CHARS, characters,
                                   strlen(characters), &s->tokenizer));
  ac_path(s->path);
}

static void clean(setup *s) {
  clattn_tokenizer_destroy(s->tokenizer);
  s2s_free(&s->c);
  ac_clean(s->path);
}

static clattn_status write_it(const setup *s, int64_t n_target,
                              const clattn_attention_options *options) {
  return clattn_seq2seq_write_attention(s->c.model, s->c.device->queue,
                                        s->tokenizer, text, strlen(text),
                                        target, n_target, options, s->path);
}

/* ---- what it says --------------------------------------------------------------- */

static void expect_numbers(const int64_t *got, int64_t n, const int64_t *want,
                           const char *what) {
  for (int64_t i = 0; i < n; i++)
    cr_expect_eq(got[i], want[i], "%s[%lld]: %lld, want %lld", what,
                 (long long)i, (long long)got[i], (long long)want[i]);
}

static void expect_source(const clattn_attention_tokens *t) {
  static const char *const texts[] = {"e", "c", "\xc3\xa9", "a", "b"};
  cr_assert_eq(t->n, SOURCE);
  for (int i = 0; i < SOURCE; i++) {
    cr_expect_str_eq(t->texts[i], texts[i]);
    cr_expect_eq(t->ids[i], source[i]);
    cr_expect_eq(t->segments[i], 0);
    cr_expect_eq(t->added[i], 0);
  }
  expect_numbers(t->begins, SOURCE, (const int64_t[]){0, 1, 2, 4, 5}, "begins");
  expect_numbers(t->ends, SOURCE, (const int64_t[]){1, 2, 4, 5, 6}, "ends");
}

static void expect_target(const clattn_attention_tokens *t) {
  static const char *const texts[] = {"<begin>", "d", "\xc3\xa9", "c"};
  static const int32_t ids[] = {1, 6, 8, 5};
  cr_assert_eq(t->n, ROWS);
  for (int i = 0; i < ROWS; i++) {
    cr_expect_str_eq(t->texts[i], texts[i]);
    cr_expect_eq(t->ids[i], ids[i]);
    cr_expect_eq(t->segments[i], 1);
    cr_expect_eq(t->added[i], i == 0);
  }
  expect_numbers(t->begins, ROWS, (const int64_t[]){0, 0, 1, 3}, "begins");
  expect_numbers(t->ends, ROWS, (const int64_t[]){0, 1, 3, 4}, "ends");
}

static void expect_parts(const clattn_attention *file) {
  static const char *const names[] = {"encoder", "decoder", "cross"};
  cr_assert_eq(clattn_attention_parts(file), 3);
  cr_expect_str_eq(clattn_attention_text(file), text);
  cr_expect_str_eq(clattn_attention_pair(file),
                   "d\xc3\xa9"
                   "c");
  for (int i = 0; i < 3; i++) {
    clattn_attention_part part;
    TH_OK(clattn_attention_get_part(file, (size_t)i, &part));
    cr_expect_str_eq(part.name, names[i]);
    cr_expect_eq((int)part.kind, i + 1);
    cr_expect_eq(part.causal, i == 1);
    cr_expect_eq(part.layers, LAYERS);
    cr_expect_eq(part.heads, HEADS);
    cr_expect_eq(part.kv_heads, HEADS);
    cr_expect_eq(part.head_dim, DIM);
    cr_expect_eq(part.scale, 0.5);
    (i == 0 ? expect_source : expect_target)(&part.rows);
    (i == 1 ? expect_target : expect_source)(&part.keys);
  }
}

/* ---- its numbers -------------------------------------------------------------------- */

/* Weights of the cross-attention are the oracle's; those of all parts come from
 * their queries and keys, and are what the statistics are of. */
static void expect_values(const setup *s, const clattn_attention *file) {
  for (int64_t layer = 0; layer < LAYERS; layer++) {
    float got[HEADS * ROWS * SOURCE], difference;
    double want[HEADS * ROWS * SOURCE], log_probs[ROWS * S2S_VOCAB];
    os2s_log_probs(&s->c.oracle, source, SOURCE, target, ROWS - 1, log_probs,
                   layer, want);
    TH_OK(clattn_attention_read(file, 2, layer, CLATTN_ATTENTION_WEIGHTS, got));
    for (int i = 0; i < HEADS * ROWS * SOURCE; i++)
      cr_expect(fabs((double)got[i] - want[i]) < 1e-6, "%d: %g, want %g", i,
                (double)got[i], want[i]);
    for (size_t part = 0; part < 3; part++) {
      const int64_t rows = part == 0 ? SOURCE : ROWS;
      clattn_attention_summary summary[HEADS];
      float entropy[HEADS * SOURCE], distance[HEADS * SOURCE];
      TH_OK(clattn_attention_check(file, part, layer, &difference));
      cr_expect(difference < 1e-6f, "part %zu: %g", part, (double)difference);
      TH_OK(clattn_attention_summarize(file, part, layer, summary));
      TH_OK(clattn_attention_read(file, part, layer, CLATTN_ATTENTION_ENTROPY,
                                  entropy));
      TH_OK(clattn_attention_read(file, part, layer, CLATTN_ATTENTION_DISTANCE,
                                  distance));
      for (int64_t h = 0; h < HEADS; h++) {
        double nats = 0, far = 0;
        for (int64_t i = 0; i < rows; i++) {
          nats += (double)entropy[h * rows + i] / (double)rows;
          far += (double)distance[h * rows + i] / (double)rows;
        }
        cr_expect_float_eq((double)summary[h].entropy, nats, 1e-5);
        cr_expect_float_eq((double)summary[h].distance, far, 1e-5,
                           "part %zu: %g, want %g", part,
                           (double)summary[h].distance, far);
      }
    }
  }
}

static void count_steps(void *user, int64_t done, int64_t total) {
  cr_expect_eq(done, ++*(int64_t *)user);
  cr_expect_eq(total, 2 * LAYERS);
}

static void record_on(const th_device *device) {
  setup s;
  make(&s, device);
  clattn_attention_options options;
  clattn_attention_options_init(&options);
  int64_t steps = 0;
  options.dtype = CLATTN_F32;
  options.progress = count_steps;
  options.progress_user = &steps;
  TH_OK(write_it(&s, ROWS, &options));
  cr_expect_eq(steps, 2 * LAYERS);
  clattn_attention *file;
  TH_OK(clattn_attention_open(s.path, &file));
  cr_expect_str_eq(clattn_attention_model(file), "seq2seq");
  expect_parts(file);
  expect_values(&s, file);
  clattn_attention_destroy(file);
  clean(&s);
}
Test(attention_seq2seq, record) { th_each_device(record_on); }

/* A text and a target that were cut off; queries and keys alone. */
Test(attention_seq2seq, without_an_end) {
  setup s;
  make(&s, &th_open(false)->device[0]);
  clattn_attention_options options;
  clattn_attention_options_init(&options);
  options.watch = CLATTN_WATCH_QUERY_KEY;
  options.model_name = "cut";
  options.max_tokens = 3;
  TH_OK(write_it(&s, 2, &options));
  clattn_attention *file;
  clattn_attention_part part;
  TH_OK(clattn_attention_open(s.path, &file));
  cr_expect_str_eq(clattn_attention_model(file), "cut");
  cr_expect_str_eq(clattn_attention_pair(file), "d\xc3\xa9");
  TH_OK(clattn_attention_get_part(file, 0, &part));
  cr_expect_eq(part.rows.n, 3);
  cr_expect_str_eq(part.rows.texts[2], "\xc3\xa9");
  TH_OK(clattn_attention_get_part(file, 1, &part));
  cr_expect_eq(part.rows.n, 2);
  TH_OK(clattn_attention_get_part(file, 2, &part));
  cr_expect_eq(part.keys.n, 3);
  cr_expect_str_eq(part.rows.texts[1], "d");
  cr_expect_eq(part.has,
               (1u << CLATTN_ATTENTION_QUERY | 1u << CLATTN_ATTENTION_KEY));
  clattn_attention_destroy(file);
  clean(&s);
}

static size_t length_of(const char *of) { return of ? strlen(of) : 0; }

Test(attention_seq2seq, errors) {
  setup s;
  make(&s, &th_open(false)->device[0]);
  clattn_attention_options options;
  clattn_attention_options_init(&options);
  clattn_queue *queue = s.c.device->queue;
#define WRITE(model, queue, tokenizer, text, target, n, options, path)         \
  clattn_seq2seq_write_attention(model, queue, tokenizer, text,                \
                                 length_of(text), target, n, options, path)
#define FAIL(word, ...) FAILS(INVALID_ARGUMENT, word, WRITE(__VA_ARGS__))
  clattn_seq2seq *m = s.c.model;
  clattn_tokenizer *t = s.tokenizer, *large;
  FAIL("model", NULL, queue, t, text, target, ROWS, NULL, s.path);
  FAIL("queue", m, NULL, t, text, target, ROWS, NULL, s.path);
  FAIL("tokenizer", m, queue, NULL, text, target, ROWS, NULL, s.path);
  FAIL("text: got NULL", m, queue, t, NULL, target, ROWS, NULL, s.path);
  FAIL("target", m, queue, t, text, NULL, ROWS, NULL, s.path);
  FAIL("path", m, queue, t, text, target, ROWS, NULL, NULL);
  FAIL("n_target: got 0", m, queue, t, text, target, 0, NULL, s.path);
  FAIL("n_target: got 9", m, queue, t, text, target, 9, NULL, s.path);
  FAIL("text: got 0 tokens", m, queue, t, "", target, ROWS, NULL, s.path);
  FAIL("text: got 10 tokens", m, queue, t, "abcdeabcde", target, ROWS, NULL,
       s.path);
  static const int32_t early_end[] = {6, 2, 5}, padded[] = {6, 0},
                       beyond[] = {9}, begins[] = {1, 3};
  FAIL("target[1]: got 2", m, queue, t, text, early_end, 3, NULL, s.path);
  FAIL("target[1]: got 0", m, queue, t, text, padded, 2, NULL, s.path);
  FAIL("target[0]: got 9", m, queue, t, text, beyond, 1, NULL, s.path);
  FAIL("target[0]: got 1", m, queue, t, text, begins, 2, NULL, s.path);
  options.watch = CLATTN_WATCH_TOP;
  FAIL("options->watch", m, queue, t, text, target, ROWS, &options, s.path);
  TH_OK(clattn_tokenizer_from_text(CLATTN_TOKENIZER_CHARS, "abcdefghij", 10,
                                   &large));
  FAIL("tokenizer: got 10 tokens", m, queue, large, text, target, ROWS, NULL,
       s.path);
  clattn_tokenizer_destroy(large);
  FAILS(IO_ERROR, "/nowhere/x",
        WRITE(m, queue, t, text, target, ROWS, NULL, "/nowhere/x"));
#undef FAIL
#undef WRITE
  cr_expect_neq(access(s.path, F_OK), 0, "a file is there");
  TH_OK(write_it(&s, ROWS, NULL));
  clean(&s);
}
