/* Translating: greedy and by beam, against searches written here, over the log
 * probabilities that the model in double precision gives. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "../support/seq2seq_case.h"
#include "clattn_seq2seq.h"

/* Three tokens besides the marks, and targets of at most four: 121 of them. */
enum { V = 6, T = 4, S = 5, TOKENS = 3, ALL = 121, BATCH = 5 };

static const int32_t sources[BATCH][S] = {{3, 4, 5, 5, 3},
                                          {5, 0, 0, 0, 0},
                                          {4, 4, 3, 0, 0},
                                          {3, 5, 0, 0, 0},
                                          {5, 4, 3, 4, 0}};

enum { MODELS = 2, TARGETS = 4, STEPS = 40 };

/* A model that was taught several targets for each source, long ones and short
 * ones, and so has many to choose from. */
static s2s_case make(const th_device *device, int model) {
  clattn_seq2seq_config config = s2s_tiny();
  config.vocab_size = V;
  config.max_source = S;
  config.max_target = T;
  s2s_case c = s2s_fresh(device, &config);
  int32_t pairs[BATCH * TARGETS][S], targets[BATCH * TARGETS][T] = {{0}};
  th_rng rng = {(uint64_t)model + 1};
  for (int i = 0; i < BATCH * TARGETS; i++) {
    const int n = th_below(&rng, T + 1);
    memcpy(pairs[i], sources[i % BATCH], sizeof pairs[i]);
    for (int j = 0; j < n; j++) targets[i][j] = 3 + th_below(&rng, TOKENS);
  }
  clattn_seq2seq_trainer *trainer = s2s_trainer(&c, BATCH * TARGETS);
  for (int i = 0; i < STEPS; i++)
    TH_OK(clattn_seq2seq_trainer_step(trainer, device->queue, pairs[0], S,
                                      targets[0], T, BATCH * TARGETS, 0.03f,
                                      NULL));
  clattn_seq2seq_trainer_destroy(trainer);
  s2s_read_oracle(&c);
  return c;
}

static int64_t length_of(const int32_t *source) {
  int64_t n = 0;
  while (n < S && source[n] != 0) n++;
  return n;
}

/* ---- searches of the test's own ------------------------------------------ */

typedef struct found {
  int32_t tokens[T]; /* 0 behind its end */
  int n;             /* the end included */
  double log_prob, score;
} found;

static bool has_ended(const found *f) {
  return f->n > 0 && f->tokens[f->n - 1] == 2;
}

/* Every way to go on with a sequence, behind the others in list. */
static int extensions(const os2s_model *model, const int32_t *source,
                      double alpha, const found *from, found *list) {
  double log_probs[(T + 1) * V];
  os2s_log_probs(model, source, length_of(source), from->tokens, from->n,
                 log_probs, -1, NULL);
  int n = 0;
  for (int v = 2; v < V; v++) { /* 0 and 1 are pad and begin */
    found next = *from;
    next.tokens[next.n++] = v;
    next.log_prob += log_probs[from->n * V + v];
    next.score = next.log_prob / pow((5 + (double)next.n) / 6, alpha);
    list[n++] = next;
  }
  return n;
}

/* All sequences there are: n of them; finds the best. */
static int enumerate(const os2s_model *model, const int32_t *source,
                     double alpha, const found *from, found *best) {
  found list[V];
  if (has_ended(from) || from->n == T) {
    if (from->score > best->score) *best = *from;
    return 1;
  }
  const int n = extensions(model, source, alpha, from, list);
  int count = 0;
  for (int i = 0; i < n; i++)
    count += enumerate(model, source, alpha, &list[i], best);
  return count;
}

static int by_score(const void *a, const void *b) {
  const double x = ((const found *)a)->score, y = ((const found *)b)->score;
  return (x < y) - (x > y);
}

/* Keeps all candidates of a step in one list, and sorts it. */
static found beam_search(const os2s_model *model, const int32_t *source,
                         int beam, double alpha) {
  enum { MOST = 8 };
  found kept[MOST] = {{.n = 0}}, list[MOST * V];
  cr_assert(beam <= MOST);
  int n_kept = 1;
  for (int step = 0; step < T; step++) {
    int n = 0;
    for (int i = 0; i < n_kept; i++)
      if (has_ended(&kept[i]))
        list[n++] = kept[i];
      else
        n += extensions(model, source, alpha, &kept[i], list + n);
    qsort(list, (size_t)n, sizeof *list, by_score);
    n_kept = n < beam ? n : beam;
    memcpy(kept, list, (size_t)n_kept * sizeof *kept);
  }
  return kept[0];
}

/* ---- comparison ---------------------------------------------------------- */

static void expect_same(const th_device *device, const char *what, int b,
                        const found *want, const int32_t *tokens, float score) {
  cr_expect(memcmp(tokens, want->tokens, sizeof want->tokens) == 0,
            "%s: %s: source %d: got %d %d %d %d, want %d %d %d %d",
            device->info.name, what, b, tokens[0], tokens[1], tokens[2],
            tokens[3], want->tokens[0], want->tokens[1], want->tokens[2],
            want->tokens[3]);
  cr_expect(fabs((double)score - want->score) < 1e-5 * fabs(want->score),
            "%s: %s: source %d: score: got %.9g, want %.9g", device->info.name,
            what, b, (double)score, want->score);
}

static void translate(const s2s_case *c, int64_t beam, float alpha,
                      int32_t targets[BATCH][T], float scores[BATCH]) {
  clattn_seq2seq_search search;
  clattn_seq2seq_search_init(&search);
  search.beam = beam;
  search.alpha = alpha;
  TH_OK(clattn_seq2seq_translate(c->model, c->device->queue, sources[0], S,
                                 BATCH, &search, targets[0], scores));
}

/* ---- tests --------------------------------------------------------------- */

/* A beam with room for every sequence finds the best there is. */
static int check_all(const th_device *device, int model) {
  s2s_case c = make(device, model);
  const float alphas[] = {0, 0.6f, 1.5f};
  int lengths = 0;
  for (int a = 0; a < 3; a++) {
    int32_t targets[BATCH][T];
    float scores[BATCH];
    translate(&c, ALL, alphas[a], targets, scores);
    for (int b = 0; b < BATCH; b++) {
      const found nothing = {.n = 0};
      found best = {.score = -INFINITY};
      cr_expect_eq(
          enumerate(&c.oracle, sources[b], (double)alphas[a], &nothing, &best),
          ALL);
      expect_same(device, "all", b, &best, targets[b], scores[b]);
      lengths |= 1 << best.n;
    }
  }
  s2s_free(&c);
  return lengths;
}

Test(seq2seq_search, wide_beam_is_exhaustive) {
  S2S_FOR_DEVICES(device) {
    int lengths = 0;
    for (int model = 0; model < MODELS; model++)
      lengths |= check_all(device, model);
    /* Those that fill their room, and those that end before. */
    cr_expect(lengths > 1 << T, "targets of these lengths alone: %x", lengths);
  }
}

/* How many targets differ from the greedy ones, and have three tokens or more. */
static int check_beams(const th_device *device, int model) {
  s2s_case c = make(device, model);
  int differ = 0;
  int32_t greedy[BATCH][T];
  float scores[BATCH];
  translate(&c, 1, 0, greedy, scores);
  for (int beam = 1; beam <= 7; beam++) {
    const float alpha = (float)(beam % 3);
    int32_t targets[BATCH][T];
    char what[32];
    snprintf(what, sizeof what, "model %d, beam %d", model, beam);
    translate(&c, beam, alpha, targets, scores);
    for (int b = 0; b < BATCH; b++) {
      const found want =
          beam_search(&c.oracle, sources[b], beam, (double)alpha);
      expect_same(device, what, b, &want, targets[b], scores[b]);
      differ +=
          want.n > 2 && memcmp(targets[b], greedy[b], sizeof greedy[b]) != 0;
    }
  }
  s2s_free(&c);
  return differ;
}

Test(seq2seq_search, beams_of_every_width) {
  S2S_FOR_DEVICES(device) {
    int differ = 0;
    for (int model = 0; model < MODELS; model++)
      differ += check_beams(device, model);
    cr_expect(differ > 10, "only %d targets are no greedy ones", differ);
  }
}

/* The most probable token at each step, by a loop of its own. */
static void check_greedy(const th_device *device, int model) {
  s2s_case c = make(device, model);
  int32_t targets[BATCH][T];
  float scores[BATCH];
  TH_OK(clattn_seq2seq_translate(c.model, device->queue, sources[0], S, BATCH,
                                 NULL, targets[0], scores));
  for (int b = 0; b < BATCH; b++) {
    found want = {.n = 0};
    while (want.n < T && !has_ended(&want)) {
      found list[V];
      const int n = extensions(&c.oracle, sources[b], 0, &want, list);
      want = list[0];
      for (int i = 1; i < n; i++)
        if (list[i].log_prob > want.log_prob) want = list[i];
    }
    expect_same(device, "greedy", b, &want, targets[b], scores[b]);
  }
  s2s_free(&c);
}

Test(seq2seq_search, greedy) {
  S2S_FOR_DEVICES(device) {
    for (int model = 0; model < MODELS; model++) check_greedy(device, model);
  }
}

/* More sources than one call of the decoder takes, alone and together. */
Test(seq2seq_search, many_sources) {
  enum { MANY = 300 };
  S2S_FOR_DEVICES(device) {
    s2s_case c = make(device, 1);
    int32_t(*many)[S] = calloc(MANY, sizeof *many);
    int32_t(*targets)[T] = calloc(MANY, sizeof *targets);
    float *scores = calloc(MANY, sizeof *scores);
    for (int i = 0; i < MANY; i++)
      memcpy(many[i], sources[i % BATCH], sizeof many[i]);
    for (int64_t beam = 1; beam <= 3; beam += 2) {
      int32_t few[BATCH][T];
      float want[BATCH];
      translate(&c, beam, 0, few, want);
      clattn_seq2seq_search search;
      clattn_seq2seq_search_init(&search);
      search.beam = beam;
      TH_OK(clattn_seq2seq_translate(c.model, device->queue, many[0], S, MANY,
                                     &search, targets[0], scores));
      for (int i = 0; i < MANY; i++) {
        cr_expect(memcmp(targets[i], few[i % BATCH], sizeof *targets) == 0,
                  "source %d", i);
        cr_expect_float_eq(scores[i], want[i % BATCH], 1e-5f);
      }
    }
    free(many);
    free(targets);
    free(scores);
    s2s_free(&c);
  }
}

/* A model without weights finds all tokens equal: the smallest that is neither pad
 * nor begin comes first, and of equal sequences the earlier. */
Test(seq2seq_search, ties) {
  S2S_FOR_DEVICES(device) {
    clattn_seq2seq_config config = s2s_tiny();
    config.vocab_size = V;
    config.max_target = T;
    config.begin = 5;
    config.end = 3;
    s2s_case c = s2s_fresh(device, &config);
    for (size_t i = 0; i < clattn_seq2seq_tensor_count(c.model); i++) {
      float *zeros = calloc((size_t)s2s_elements(c.model, i), sizeof *zeros);
      TH_OK(clattn_seq2seq_tensor_write(c.model, device->queue, i, zeros));
      free(zeros);
    }
    const int32_t source[2] = {1, 2};
    const struct {
      int64_t beam;
      float alpha;
      int32_t target[T];
      double score;
    } cases[] = {
        {1, 0, {1, 1, 1, 1}, 4},    /* nothing else is kept */
        {2, 0, {1, 1, 1, 1}, 4},    /* 1 and 2: no room for the end */
        {3, 0, {3, 0, 0, 0}, 1},    /* the end, which loses nothing more */
        {4, 0, {3, 0, 0, 0}, 1},    /* 4 comes last */
        {4, 9, {1, 1, 1, 1}, 0.10}, /* where length is made up for */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
      clattn_seq2seq_search search;
      clattn_seq2seq_search_init(&search);
      search.beam = cases[i].beam;
      search.alpha = cases[i].alpha;
      int32_t target[T];
      float score;
      TH_OK(clattn_seq2seq_translate(c.model, device->queue, source, 2, 1,
                                     &search, target, &score));
      cr_expect(memcmp(target, cases[i].target, sizeof target) == 0,
                "%s: case %zu: got %d %d %d %d", device->info.name, i,
                target[0], target[1], target[2], target[3]);
      const double want = cases[i].alpha > 0
                              ? -4 * log(V) / pow(1.5, (double)search.alpha)
                              : -cases[i].score * log(V);
      cr_expect(fabs((double)score - want) < 1e-5 * fabs(want),
                "case %zu: got %g, want %g", i, (double)score, want);
    }
    s2s_free(&c);
  }
}

Test(seq2seq_search, arguments_that_are_wrong) {
  const th_device *device = &th_open(false)->device[0];
  s2s_case c = make(device, 1);
  clattn_seq2seq_search search;
  int32_t target[T] = {42};
#define WRONG(text, model, source, S, batch, target)                           \
  do {                                                                         \
    cr_expect_eq(clattn_seq2seq_translate(model, device->queue, source, S,     \
                                          batch, &search, target, NULL),       \
                 CLATTN_INVALID_ARGUMENT);                                     \
    cr_expect(strstr(clattn_error_message(), text) != NULL,                    \
              "want '%s' in: %s", text, clattn_error_message());               \
  } while (0)
#define WRONG_SEARCH(text, field, value)                                       \
  do {                                                                         \
    clattn_seq2seq_search_init(&search);                                       \
    search.field = value;                                                      \
    WRONG(text, c.model, sources[0], S, 1, target);                            \
  } while (0)
  WRONG_SEARCH("search->beam: got 0, want 1..1024", beam, 0);
  WRONG_SEARCH("search->beam: got 1025", beam, 1025);
  WRONG_SEARCH("search->alpha: got -1", alpha, -1);
  WRONG_SEARCH("search->alpha: got nan", alpha, NAN);
  WRONG_SEARCH("search->struct_size: got 3", struct_size, 3);
  clattn_seq2seq_search_init(&search);
  WRONG("model: got NULL", NULL, sources[0], S, 1, target);
  WRONG("sources: got NULL", c.model, NULL, S, 1, target);
  WRONG("targets: got NULL", c.model, sources[0], S, 1, NULL);
  WRONG("S: got 6, want 1..5", c.model, sources[0], 6, 1, target);
  WRONG("S: got 0", c.model, sources[0], 0, 1, target);
  WRONG("batch: got 0", c.model, sources[0], S, 0, target);
  WRONG("batch: got 9223372036854775807", c.model, sources[0], S, INT64_MAX,
        target);
  const int32_t marked[S] = {3, 2};
  WRONG("sources: token 1 of text 0: got 2", c.model, marked, S, 1, target);
  cr_expect_eq(target[0], 42);
  s2s_free(&c);
}
