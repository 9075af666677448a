/* stats_case.h - one test of attention's statistics as a value, and how to run it
 * anywhere. Zero is the default of every field, as in attn_case.h. */
#ifndef STATS_CASE_H
#define STATS_CASE_H

#include "attn_case.h"
#include "oracle_stats.h"

typedef struct stats_case {
  attn_case attn;              /* lse is on, weights are off */
  int top, map_rows, map_keys; /* 0: none; map_rows 0: no map                */
  bool no_rows, no_keys;       /* top: without weights, without keys         */
  bool no_entropy, no_distance;
  th_layout layout;
} stats_case;

enum {
  STATS_ENTROPY,
  STATS_DISTANCE,
  STATS_TOP_WEIGHTS,
  STATS_TOP_KEYS,
  STATS_MAP,
  STATS_OUTPUTS
};
extern const char *const stats_name[STATS_OUTPUTS];

typedef struct stats_problem {
  stats_case c;
  attn_problem attn;
  ora_stats want;
  th_tensor out[STATS_OUTPUTS];
} stats_problem;

void stats_problem_init(stats_problem *p, const stats_case *c, uint64_t seed);
void stats_problem_free(stats_problem *p);
/* Binds every tensor and fills both; unbind after use. */
void stats_problem_bind(stats_problem *p, const th_device *device,
                        clattn_args *args, clattn_stats *stats);
void stats_problem_unbind(stats_problem *p);
/* Fetches the outputs and compares, checks canaries. */
bool stats_problem_check(stats_problem *p, const th_device *device,
                         char *message, size_t room);
/* Forward, then statistics twice, which must give the same bits. */
tc_result stats_problem_run(stats_problem *p, const th_device *device,
                            clattn_path path, char *message, size_t room);

#endif /* STATS_CASE_H */
