/* oracle_stats.c - see oracle_stats.h. */
#include "oracle_stats.h"

#include <math.h>
#include <stdlib.h>

#define EPS 0x1p-23
#define FLUSH 0x1p-63

static double *zeros(int64_t n) {
  double *x = calloc((size_t)n + 1, sizeof *x);
  if (!x) abort();
  return x;
}

static int64_t position_of(const ora_attention *a, int64_t b, int64_t i) {
  if (a->starts) return a->starts[b] + i;
  if (a->q_start != ORA_AT_END) return a->q_start + i;
  int64_t length = a->kv_len;
  if (a->lengths && a->lengths[b] < length)
    length = a->lengths[b] < 0 ? 0 : a->lengths[b];
  return length - a->q_len + i;
}

static void add_row(const ora_attention *a, int64_t b, int64_t h, int64_t i,
                    int64_t map_rows, int64_t map_keys, ora_key *keys,
                    ora_stats *s) {
  const int64_t n = a->kv_len, row = (b * a->q_heads + h) * a->q_len + i;
  const int64_t down = (a->q_len + map_rows - 1) / map_rows;
  const int64_t across = (n + map_keys - 1) / map_keys;
  const int64_t block = i / map_rows;
  const int64_t left = a->q_len - block * map_rows;
  const double share = 1.0 / (double)(left < map_rows ? left : map_rows);
  double *map = s->map + ((b * a->q_heads + h) * down + block) * across;
  double *map_tol = s->map_tol + (map - s->map);
  const ora_row all = ora_scores(a, b, h, i, keys);
  const double long_sum = 2 * EPS * (sqrt((double)n) + 8);
  double entropy = 0, distance = 0, entropy_tol = 0, distance_tol = 0;
  for (int64_t j = 0; j < n; j++) {
    if (!keys[j].seen) continue;
    const double p = keys[j].p, far = fabs((double)(position_of(a, b, i) - j));
    const double off = keys[j].e + all.e_mean + 8 * EPS * (1 + fabs(all.lse));
    const double tol = p * expm1(fmin(off, 40)) + FLUSH;
    const double log_p = p > 0 ? fmax(log(p), -90) : -90;
    entropy -= p > 0 ? p * log(p) : 0;
    distance += p * far;
    entropy_tol += tol * (1 + fabs(log_p)) + p * EPS * 4 * fabs(log_p);
    distance_tol += tol * far;
    s->p[row * n + j] = p;
    s->p_tol[row * n + j] = tol + 4 * EPS * p;
    map[j / map_keys] += share * p;
    map_tol[j / map_keys] += share * (tol + (long_sum + 4 * EPS) * p);
  }
  s->entropy[row] = entropy;
  s->entropy_tol[row] = entropy_tol + long_sum * entropy + 4 * EPS * entropy;
  s->distance[row] = distance;
  s->distance_tol[row] = distance_tol + (long_sum + 4 * EPS) * distance;
}

ora_stats ora_statistics(const ora_attention *a, int64_t map_rows,
                         int64_t map_keys) {
  const int64_t rows = a->batch * a->q_heads * a->q_len;
  const int64_t blocks = a->batch * a->q_heads *
                         ((a->q_len + map_rows - 1) / map_rows) *
                         ((a->kv_len + map_keys - 1) / map_keys);
  ora_stats s = {.entropy = zeros(rows),
                 .entropy_tol = zeros(rows),
                 .distance = zeros(rows),
                 .distance_tol = zeros(rows),
                 .map = zeros(blocks),
                 .map_tol = zeros(blocks),
                 .p = zeros(rows * a->kv_len),
                 .p_tol = zeros(rows * a->kv_len)};
  ora_key *keys = calloc((size_t)a->kv_len, sizeof *keys);
  if (!keys) abort();
  for (int64_t b = 0; b < a->batch; b++)
    for (int64_t h = 0; h < a->q_heads; h++)
      for (int64_t i = 0; i < a->q_len; i++)
        add_row(a, b, h, i, map_rows, map_keys, keys, &s);
  free(keys);
  return s;
}

void ora_stats_free(ora_stats *s) {
  free(s->entropy), free(s->entropy_tol);
  free(s->distance), free(s->distance_tol);
  free(s->map), free(s->map_tol);
  free(s->p), free(s->p_tol);
  *s = (ora_stats){0};
}

bool ora_top_right(const ora_attention *a, const ora_stats *s, int64_t b,
                   int64_t h, int64_t i, int64_t top, const double *weights,
                   const double *keys) {
  const int64_t n = a->kv_len;
  const int64_t at = ((b * a->q_heads + h) * a->q_len + i) * n;
  const double *p = s->p + at, *tol = s->p_tol + at;
  int64_t seen = 0, given = 0;
  for (int64_t j = 0; j < n; j++) seen += ora_sees(a, b, h, i, j);
  for (int64_t c = 0; c < top; c++) {
    const double key = keys[c];
    if (c >= seen) {
      if (key != -1 || weights[c] != 0) return false;
      continue;
    }
    if (!(key >= 0 && key < (double)n) || key != floor(key)) return false;
    const int64_t j = (int64_t)key;
    if (!ora_sees(a, b, h, i, j)) return false;
    if (!(fabs(weights[c] - p[j]) <= tol[j])) return false;
    if (c > 0 && !(weights[c] < weights[c - 1] ||
                   (weights[c] == weights[c - 1] && key > keys[c - 1])))
      return false;
    given++;
  }
  /* What is not listed is no larger than the last that is. */
  for (int64_t j = 0; j < n && given == top; j++) {
    bool listed = !ora_sees(a, b, h, i, j);
    for (int64_t c = 0; c < top; c++) listed |= keys[c] == (double)j;
    if (!listed && p[j] - tol[j] > weights[top - 1]) return false;
  }
  return true;
}
