/* bench_probe.c - what the machine gives at this moment, to as many threads as
 * are measured: multiply-adds, or bytes read from memory. Neighbours on a shared
 * machine slow both a sample and the probes around it; their ratio stays.
 *
 * The work is cut into small tasks that whoever is free takes, as the library
 * does: a core that is half taken away costs the probe half a core. */
#define _POSIX_C_SOURCE 200809L
#include "bench.h"

#include <stdlib.h>
#include <string.h>

enum {
  READ_FLOATS = 1 << 26, /* 256 MiB: larger than caches are */
  TASK_FLOATS = 1 << 17, /* 512 KiB */
  READ_TASKS = 64,       /* 32 MiB a probe */
  FMA_TASKS = 16         /* a thread */
};

const bench_vector *bench_vector_choose(void) {
#ifdef __x86_64__
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    if (__builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq"))
      return &bench_vector_avx512;
    return &bench_vector_avx2;
  }
#endif
  return &bench_vector_base;
}

/* Turns that take 1/16 of 1.5 ms, by the fastest of some tries. */
static long calibrate(const bench_vector *vector) {
  const long turns = 10000;
  volatile float sink;
  double best = 1;
  for (int i = 0; i < 10; i++) {
    const double began = cli_seconds();
    sink = vector->fma(turns);
    (void)sink;
    const double took = cli_seconds() - began;
    if (took > 0 && took < best) best = took;
  }
  return (long)(1.5e-3 / FMA_TASKS / best * (double)turns) + 1;
}

void bench_probe_create(const bench_target *target, bench_probe *probe) {
  *probe = (bench_probe){.team = target->team, .vector = target->vector};
  if (!target->on_host) return;
  probe->turns = calibrate(target->vector);
  probe->tasks = (size_t)FMA_TASKS * (size_t)bench_team_threads(target->team);
}

void bench_probe_destroy(bench_probe *probe) {
  free(probe->memory);
  *probe = (bench_probe){.memory = NULL};
}

static void fma_task(void *user, size_t i, int thread) {
  const bench_probe *probe = user;
  volatile float sink = probe->vector->fma(probe->turns);
  (void)sink, (void)i, (void)thread;
}

static void read_task(void *user, size_t i, int thread) {
  const bench_probe *probe = user;
  const size_t at = (probe->at + i * TASK_FLOATS) % READ_FLOATS;
  volatile float sink = probe->vector->read(probe->memory + at, TASK_FLOATS);
  (void)sink, (void)thread;
}

static double fma_rate(bench_probe *probe, size_t tasks) {
  const double began = cli_seconds();
  bench_team_run(probe->team, tasks, fma_task, probe);
  return (double)tasks * (double)probe->turns *
         (double)probe->vector->fma_flop / (cli_seconds() - began);
}

static double read_rate(bench_probe *probe, size_t tasks) {
  if (probe->memory == NULL) {
    char why[BENCH_WHY_CHARS];
    const double bytes = sizeof(float) * (double)READ_FLOATS;
    probe->memory = bench_alloc(bytes, "the probe", why);
    if (probe->memory == NULL) return 0;
    memset(probe->memory, 0, (size_t)bytes);
  }
  const double began = cli_seconds();
  bench_team_run(probe->team, tasks, read_task, probe);
  const double took = cli_seconds() - began;
  probe->at = (probe->at + tasks * TASK_FLOATS) % READ_FLOATS;
  return sizeof(float) * (double)tasks * TASK_FLOATS / took;
}

double bench_probe_run(bench_probe *probe, bench_probe_kind kind,
                       size_t length) {
  switch (kind) {
    case BENCH_PROBE_FMA:
      return fma_rate(probe, length * probe->tasks);
    case BENCH_PROBE_READ:
      return read_rate(probe, length * READ_TASKS);
    default:
      return 0;
  }
}
