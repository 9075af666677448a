/* bench_line.c - one shape: everybody computes it once and is checked, then all
 * are timed in turn, with a probe between any two samples. */
#define _POSIX_C_SOURCE 200809L
#include "bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
  MOST_SAMPLES = 200,
  LEAST_SAMPLES = 3,
  MOST_REPEATS = 10000,
  MOST_PROBE = 20 /* of bench_probe_run's length */
};

/* A sample shorter than this is made of several calls. */
static const double sample_seconds = 2e-3;
/* Samples whose probes before and after differ by more are dropped. */
static const double most_drift = 0.15;

typedef struct sample {
  double seconds, cpu;  /* of a call */
  double before, after; /* probes */
} sample;

typedef struct runner {
  const bench_rival *rival;
  void *work; /* NULL: does not run */
  bench_result *result;
  int repeats;     /* calls of a sample */
  double expected; /* seconds of one */
  sample samples[MOST_SAMPLES];
  int n;
  double spent;
  bool finished;
} runner;

typedef struct race {
  bench_probe *probe;
  bench_probe_kind kind;
  size_t probe_length;
  double last_probe;
  runner runners[BENCH_MOST_RIVALS];
  int n;
} race;

static double cpu_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- samples ------------------------------------------------------------- */

static double run_probe(race *race) {
  return bench_probe_run(race->probe, race->kind, race->probe_length);
}

/* One sample between two probes; the second is the next sample's first. */
static bool take(race *race, runner *r, int repeats, sample *out) {
  out->before = race->last_probe;
  const double cpu = cpu_seconds(), began = cli_seconds();
  for (int i = 0; i < repeats; i++)
    if (!r->rival->run(r->work, r->result->reason)) return false;
  const double took = cli_seconds() - began;
  out->seconds = took / repeats;
  out->cpu = (cpu_seconds() - cpu) / repeats;
  out->after = race->last_probe = run_probe(race);
  r->spent += took;
  return true;
}

static bool steady(const sample *s) {
  const double high = fmax(s->before, s->after);
  return fabs(s->before - s->after) <= most_drift * high;
}

static int count_steady(const runner *r) {
  int n = 0;
  for (int i = 0; i < r->n; i++) n += steady(&r->samples[i]);
  return n;
}

static int by_value(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double median(double *x, int n) {
  if (n == 0) return NAN;
  qsort(x, (size_t)n, sizeof *x, by_value);
  return n % 2 ? x[n / 2] : (x[n / 2 - 1] + x[n / 2]) / 2;
}

/* Medians of the steady samples, or of all if none is. */
static void evaluate(const race *race, const runner *r, double amount) {
  double seconds[MOST_SAMPLES], cpu[MOST_SAMPLES], fraction[MOST_SAMPLES];
  const int kept = count_steady(r);
  int n = 0;
  for (int i = 0; i < r->n; i++) {
    const sample *s = &r->samples[i];
    if (kept > 0 && !steady(s)) continue;
    seconds[n] = s->seconds;
    cpu[n] = s->cpu;
    fraction[n++] = amount / s->seconds / ((s->before + s->after) / 2);
  }
  r->result->samples = n;
  r->result->dropped = r->n - n;
  r->result->seconds = median(seconds, n);
  r->result->seconds_cpu = median(cpu, n);
  const bool probed = race->kind != BENCH_PROBE_NONE && race->last_probe > 0;
  r->result->fraction = probed ? median(fraction, n) : NAN;
}

static double probe_median(const race *race) {
  double x[BENCH_MOST_RIVALS * MOST_SAMPLES];
  int n = 0;
  for (int i = 0; i < race->n; i++)
    for (int j = 0; j < race->runners[i].n; j++)
      x[n++] = race->runners[i].samples[j].after;
  return median(x, n);
}

/* The first's time by the second's, round by round. */
static double paired_ratio(const runner *a, const runner *b) {
  double ratio[MOST_SAMPLES];
  const int rounds = a->n < b->n ? a->n : b->n;
  int n = 0;
  for (int i = 0; i < rounds; i++)
    if (steady(&a->samples[i]) && steady(&b->samples[i]))
      ratio[n++] = a->samples[i].seconds / b->samples[i].seconds;
  return n >= LEAST_SAMPLES ? median(ratio, n)
                            : a->result->seconds / b->result->seconds;
}

/* ---- one after another: first calls -------------------------------------- */

static void drop(runner *r) {
  r->rival->destroy(r->work);
  r->work = NULL;
}

/* Prepares, runs once, checks. The first call is kept as the only sample of a
 * rival that is too slow for more. */
static void enter(race *race, runner *r, bench_entry *entry,
                  const bench_problem *problem, const bench_oracle *oracle,
                  const bench_limits *limits) {
  bench_result *result = r->result;
  const double flop = bench_shape_flop(problem->shape);
  const bool backward = entry->rival == &bench_own_backward;
  if (entry->state == NULL) {
    strcpy(result->reason, entry->closed);
    return;
  }
  const bool own = result->rival == NULL;
  const double estimate = entry->rate > 0 ? flop / entry->rate : 0;
  if (!own && estimate > 4 * limits->rival_seconds) {
    bench_refuse(result->reason,
                 "would take %.0f s a call or more, by its best rate so far "
                 "(--rival-time is %g)",
                 estimate, limits->rival_seconds);
    return;
  }
  if (!r->rival->prepare(entry->state, problem, &r->work, result->reason))
    return;
  sample first;
  race->last_probe = run_probe(race);
  if (!take(race, r, 1, &first) ||
      !bench_oracle_check(oracle, r->rival, r->work, &result->wrong,
                          &result->max_error, result->reason) ||
      (backward &&
       !bench_gradients_check(problem, r->work, &result->wrong,
                              &result->max_error, result->reason))) {
    drop(r);
    return;
  }
  if (!own && first.seconds > limits->rival_seconds) {
    r->samples[r->n++] = first;
    r->finished = true;
    return;
  }
  /* The first call had pages to touch and threads to start. */
  sample second = first;
  if (first.seconds < 1 && !take(race, r, 1, &second)) {
    drop(r);
    return;
  }
  const double fastest = fmin(first.seconds, second.seconds);
  r->repeats = fastest * MOST_REPEATS < sample_seconds
                   ? MOST_REPEATS
                   : (int)(sample_seconds / fastest) + 1;
  r->expected = fastest * r->repeats;
  r->spent = 0;
}

/* ---- in turn ------------------------------------------------------------- */

static bool running(const runner *r) { return r->work != NULL && !r->finished; }

/* The time is up, and the samples are enough: undisturbed ones if the machine
 * gives them within three times as long. */
static bool enough(const race *race, double elapsed, double seconds) {
  if (elapsed < seconds) return false;
  const bool patient = elapsed < 3 * seconds;
  for (int i = 0; i < race->n; i++) {
    const runner *r = &race->runners[i];
    if (running(r) &&
        (r->n < LEAST_SAMPLES || (patient && count_steady(r) < LEAST_SAMPLES)))
      return false;
  }
  return true;
}

static bool anybody(const race *race) {
  for (int i = 0; i < race->n; i++)
    if (running(&race->runners[i])) return true;
  return false;
}

/* A moment says little about a long sample: its probes take a tenth of it, up to
 * some 30 ms. */
static size_t probe_length(const race *race) {
  double longest = 0;
  for (int i = 0; i < race->n; i++)
    if (running(&race->runners[i]))
      longest = fmax(longest, race->runners[i].expected);
  const double length = 0.1 * longest / 1.5e-3;
  return length < 1 ? 1 : length < MOST_PROBE ? (size_t)length : MOST_PROBE;
}

static void run_race(race *race, const bench_limits *limits) {
  race->probe_length = probe_length(race);
  race->last_probe = run_probe(race);
  const double began = cli_seconds();
  while (anybody(race) &&
         !enough(race, cli_seconds() - began, limits->seconds)) {
    for (int i = 0; i < race->n; i++) {
      runner *r = &race->runners[i];
      if (!running(r)) continue;
      if (!take(race, r, r->repeats, &r->samples[r->n])) {
        drop(r);
        continue;
      }
      r->n++;
      r->finished = r->n == MOST_SAMPLES || (i > 0 && r->n >= LEAST_SAMPLES &&
                                             r->spent >= limits->rival_seconds);
    }
  }
}

/* ---- a line -------------------------------------------------------------- */

static bench_probe_kind probe_kind(const bench_target *target,
                                   const bench_line *line) {
  if (!target->on_host) return BENCH_PROBE_NONE;
  return bench_shape_reads(line->shape) && !line->backward ? BENCH_PROBE_READ
                                                           : BENCH_PROBE_FMA;
}

/* What the probe's rate is to be compared with. */
static double amount(const race *race, const runner *r,
                     const bench_shape *shape) {
  if (race->kind == BENCH_PROBE_READ) return bench_shape_bytes(shape);
  return r->rival == &bench_own_backward ? bench_shape_backward_flop(shape)
                                         : bench_shape_flop(shape);
}

static void run_problem(race *race, bench_field *field,
                        const bench_problem *problem,
                        const bench_limits *limits, bench_line *line) {
  bench_oracle *oracle = bench_oracle_create(problem);
  for (int i = 0; i < field->n && oracle != NULL; i++)
    enter(race, &race->runners[i], &field->entry[i], problem, oracle, limits);
  if (oracle == NULL)
    bench_refuse(line->result[0].reason, "no memory: the oracle");
  bench_oracle_destroy(oracle);
  run_race(race, limits);
  const double flop = bench_shape_flop(problem->shape);
  line->probe_rate = probe_median(race);
  for (int i = 0; i < race->n; i++) {
    runner *r = &race->runners[i];
    if (r->work == NULL) continue;
    evaluate(race, r, amount(race, r, problem->shape));
    /* The rate of short calls says nothing of long ones. */
    if (r->result->seconds > 0.05)
      field->entry[i].rate =
          fmax(field->entry[i].rate, flop / r->result->seconds);
    drop(r);
  }
  for (int i = 0; i < race->n; i++)
    line->result[i].ratio = line->result[i].seconds / line->result[0].seconds;
  if (line->backward)
    line->result[0].ratio = paired_ratio(&race->runners[0], &race->runners[1]);
}

void bench_line_run(const bench_target *target, bench_field *field,
                    bench_probe *probe, const bench_limits *limits,
                    bench_line *line) {
  bench_problem problem = {.shape = line->shape,
                           .path = line->path,
                           .weights = line->weights,
                           .backward = line->backward};
  race *race = calloc(1, sizeof *race);
  line->n = field->n;
  line->probe = probe_kind(target, line);
  line->probe_rate = NAN;
  for (int i = 0; i < field->n; i++) {
    bench_result *result = &line->result[i];
    *result = (bench_result){.seconds = NAN,
                             .seconds_cpu = NAN,
                             .fraction = NAN,
                             .ratio = NAN,
                             .max_error = NAN};
    if (i > 0 && !line->backward) result->rival = field->entry[i].rival->name;
    if (race != NULL)
      race->runners[i] =
          (runner){.rival = field->entry[i].rival, .result = result};
  }
  char *why = line->result[0].reason;
  if (race == NULL) {
    bench_refuse(why, "no memory");
  } else if (bench_problem_make(target, &problem, why)) {
    race->probe = probe;
    race->kind = line->probe;
    race->n = field->n;
    race->probe_length = 1;
    run_problem(race, field, &problem, limits, line);
  }
  /* What kept the library from running kept the others as well. */
  for (int i = 1; i < line->n; i++)
    if (isnan(line->result[i].seconds) && line->result[i].reason[0] == '\0')
      strcpy(line->result[i].reason, why);
  bench_problem_free(&problem);
  free(race);
}
