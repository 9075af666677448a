/* bench_team.h - threads of the benchmark's own, for the probes and for rivals
 * that leave it to their users to divide the work. */
#ifndef CLATTN_SRC_CLI_BENCH_TEAM_H
#define CLATTN_SRC_CLI_BENCH_TEAM_H

#include <stddef.h>

typedef struct bench_team bench_team;

/* `threads` with the caller's; NULL if they cannot be had. */
bench_team *bench_team_create(int threads);
void bench_team_destroy(bench_team *team);
int bench_team_threads(const bench_team *team);
/* Calls task(user, i, thread) for each i < n, whoever is free takes the next;
 * thread is 0.. of bench_team_threads. Returns when all are done. */
void bench_team_run(bench_team *team, size_t n,
                    void (*task)(void *user, size_t i, int thread), void *user);

#endif
