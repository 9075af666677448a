/* stats_case.c - see stats_case.h. */
#include "stats_case.h"

#include <stdio.h>
#include <string.h>

const char *const stats_name[STATS_OUTPUTS] = {
    "entropy", "distance", "top_weights", "top_keys", "map"};

void stats_problem_init(stats_problem *p, const stats_case *given,
                        uint64_t seed) {
  *p = (stats_problem){.c = *given};
  p->c.attn.lse = true;
  p->c.attn.weights = p->c.attn.average = false;
  p->c.attn.stage = CLATTN_WEIGHTS_PROBABILITIES;
  attn_problem_init(&p->attn, &p->c.attn, seed);
  const attn_case *a = &p->attn.c;
  const stats_case *c = &p->c;
  const int64_t mr = c->map_rows ? c->map_rows : 1;
  const int64_t mk = c->map_keys ? c->map_keys : 1;
  p->want = ora_statistics(&p->attn.oracle, mr, mk);
  const int64_t rows = a->sq, down = (a->sq + mr - 1) / mr;
  const struct {
    bool there;
    clattn_dtype dtype;
    int64_t rows, columns;
  } all[STATS_OUTPUTS] = {
      {!c->no_entropy, CLATTN_F32, rows, 1},
      {!c->no_distance, CLATTN_F32, rows, 1},
      {c->top && !c->no_rows, CLATTN_F32, rows, c->top},
      {c->top && !c->no_keys, CLATTN_I32, rows, c->top},
      {c->map_rows, CLATTN_F32, down, (a->skv + mk - 1) / mk}};
  for (int i = 0; i < STATS_OUTPUTS; i++)
    if (all[i].there)
      p->out[i] = th_make(&p->attn.pool, all[i].dtype,
                          TH_EXTENT(a->b, a->hq, all[i].rows, all[i].columns),
                          (th_layout)((c->layout + i) % TH_LAYOUTS), NULL);
}

void stats_problem_free(stats_problem *p) {
  stats_problem_unbind(p);
  ora_stats_free(&p->want);
  attn_problem_free(&p->attn);
}

void stats_problem_bind(stats_problem *p, const th_device *device,
                        clattn_args *args, clattn_stats *stats) {
  attn_problem_bind(&p->attn, device, args);
  for (int i = 0; i < STATS_OUTPUTS; i++) th_bind(device, &p->out[i]);
  clattn_stats_init(stats);
  stats->entropy = p->out[STATS_ENTROPY].view;
  stats->distance = p->out[STATS_DISTANCE].view;
  stats->top_weights = p->out[STATS_TOP_WEIGHTS].view;
  stats->top_keys = p->out[STATS_TOP_KEYS].view;
  stats->map = p->out[STATS_MAP].view;
  if (p->c.map_rows) stats->map_rows = p->c.map_rows;
  if (p->c.map_keys) stats->map_keys = p->c.map_keys;
}

void stats_problem_unbind(stats_problem *p) {
  attn_problem_unbind(&p->attn);
  for (int i = 0; i < STATS_OUTPUTS; i++) th_unbind(&p->out[i]);
}

/* Lists against the oracle; what is not given, from what is. */
static bool check_top(const stats_problem *p, const double *weights,
                      const double *keys, char *message, size_t room) {
  const attn_case *a = &p->attn.c;
  const int64_t K = p->c.top;
  for (int64_t row = 0; row < (int64_t)a->b * a->hq * a->sq; row++) {
    const int64_t i = row % a->sq, h = row / a->sq % a->hq;
    const int64_t b = row / a->sq / a->hq;
    if (ora_top_right(&p->attn.oracle, &p->want, b, h, i, K, weights + row * K,
                      keys + row * K))
      continue;
    int n =
        snprintf(message, room,
                 "largest of row %lld, head %lld, batch %lld:", (long long)i,
                 (long long)h, (long long)b);
    for (int64_t c = 0; c < K && n > 0 && (size_t)n < room; c++)
      n += snprintf(message + n, room - (size_t)n, " %g:%g", keys[row * K + c],
                    weights[row * K + c]);
    return false;
  }
  return true;
}

bool stats_problem_check(stats_problem *p, const th_device *device,
                         char *message, size_t room) {
  const ora_stats *w = &p->want;
  const struct {
    int i;
    const double *want, *tol;
  } sums[] = {{STATS_ENTROPY, w->entropy, w->entropy_tol},
              {STATS_DISTANCE, w->distance, w->distance_tol},
              {STATS_MAP, w->map, w->map_tol}};
  double *got[STATS_OUTPUTS];
  for (int i = 0; i < STATS_OUTPUTS; i++) {
    if (!p->out[i].image) continue;
    got[i] = th_alloc(&p->attn.pool, (size_t)p->out[i].n * sizeof(double));
    if (!th_fetch(device, &p->out[i], got[i], stats_name[i], message, room))
      return false;
  }
  for (int k = 0; k < (int)(sizeof sums / sizeof *sums); k++)
    if (p->out[sums[k].i].image &&
        !th_close(p->out[sums[k].i].n, got[sums[k].i], sums[k].want,
                  sums[k].tol, false, stats_name[sums[k].i], message, room))
      return false;
  return !p->out[STATS_TOP_WEIGHTS].image || !p->out[STATS_TOP_KEYS].image ||
         check_top(p, got[STATS_TOP_WEIGHTS], got[STATS_TOP_KEYS], message,
                   room);
}

/* All outputs, of the pool; false and a message if something else changed. */
static bool fetch_all(stats_problem *p, const th_device *device,
                      double *got[STATS_OUTPUTS], char *message, size_t room) {
  for (int i = 0; i < STATS_OUTPUTS; i++) {
    got[i] =
        th_alloc(&p->attn.pool, (size_t)(p->out[i].n + 1) * sizeof(double));
    if (p->out[i].image &&
        !th_fetch(device, &p->out[i], got[i], stats_name[i], message, room))
      return false;
  }
  return true;
}

static bool run_twice(stats_problem *p, const th_device *device,
                      const clattn_plan *plan, const clattn_args *args,
                      const clattn_stats *stats, char *message, size_t room) {
  double *got[2][STATS_OUTPUTS];
  for (int turn = 0; turn < 2; turn++) {
    const clattn_status status =
        clattn_statistics(plan, device->queue, args, stats, NULL, 0, NULL);
    if (status != CLATTN_OK) {
      snprintf(message, room, "statistics: %s: %s", clattn_status_name(status),
               clattn_error_message());
      return false;
    }
    if (!fetch_all(p, device, got[turn], message, room)) return false;
  }
  for (int i = 0; i < STATS_OUTPUTS; i++)
    if (memcmp(got[0][i], got[1][i], (size_t)p->out[i].n * sizeof(double)) !=
        0) {
      snprintf(message, room, "%s differs from run to run", stats_name[i]);
      return false;
    }
  return stats_problem_check(p, device, message, room);
}

tc_result stats_problem_run(stats_problem *p, const th_device *device,
                            clattn_path path, char *message, size_t room) {
  clattn_args args;
  clattn_stats stats;
  clattn_plan *plan = NULL;
  const tc_result planned =
      attn_problem_plan(&p->attn, device, path, &plan, message, room);
  if (planned != TC_PASS) return planned;
  stats_problem_bind(p, device, &args, &stats);
  const clattn_status status =
      clattn_execute(plan, device->queue, &args, NULL, NULL, 0, NULL);
  if (status != CLATTN_OK)
    snprintf(message, room, "execute: %s: %s", clattn_status_name(status),
             clattn_error_message());
  args.v = args.out = (clattn_tensor){0}; /* not looked at */
  const bool good = status == CLATTN_OK &&
                    run_twice(p, device, plan, &args, &stats, message, room);
  stats_problem_unbind(p);
  clattn_plan_destroy(plan);
  return good ? TC_PASS : TC_FAIL;
}
