/* bench_team.c - a job is opened under the lock, its indices are taken from an
 * atomic counter. The caller works too, closes the job when the indices have run
 * out, and waits only for threads that have joined it. Idle threads watch for
 * the next job for some microseconds before they sleep, so that a rival's call
 * does not pay for waking them. */
#define _POSIX_C_SOURCE 200809L
#include "bench_team.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

enum { SPINS = 2000 };

typedef struct member {
  bench_team *team;
  pthread_t thread;
  int index; /* 1.. ; 0 is the caller */
} member;

struct bench_team {
  int threads, started; /* started: members that run */
  member *members;      /* [threads - 1] */
  pthread_mutex_t lock;
  pthread_cond_t wake, done;
  bool stop, open;
  atomic_uint epoch; /* number of the job; changed under lock */
  atomic_int busy;   /* members in the job; changed under lock */
  void (*task)(void *user, size_t i, int thread);
  void *user;
  size_t n;
  atomic_size_t next;
};

static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#endif
}

static void work(bench_team *team, int index) {
  for (size_t i; (i = atomic_fetch_add(&team->next, 1)) < team->n;)
    team->task(team->user, i, index);
}

static void *member_main(void *argument) {
  member *self = argument;
  bench_team *team = self->team;
  for (unsigned seen = 0;;) {
    for (int i = 0; i < SPINS && atomic_load(&team->epoch) == seen; i++)
      relax();
    pthread_mutex_lock(&team->lock);
    while (atomic_load(&team->epoch) == seen)
      pthread_cond_wait(&team->wake, &team->lock);
    seen = atomic_load(&team->epoch);
    const bool stop = team->stop, joins = team->open;
    if (joins) atomic_fetch_add(&team->busy, 1);
    pthread_mutex_unlock(&team->lock);
    if (stop) return NULL;
    if (!joins) continue;
    work(team, self->index);
    pthread_mutex_lock(&team->lock);
    if (atomic_fetch_sub(&team->busy, 1) == 1) pthread_cond_signal(&team->done);
    pthread_mutex_unlock(&team->lock);
  }
}

bench_team *bench_team_create(int threads) {
  bench_team *team = calloc(1, sizeof *team);
  if (team == NULL) return NULL;
  team->threads = threads < 1 ? 1 : threads;
  pthread_mutex_init(&team->lock, NULL);
  pthread_cond_init(&team->wake, NULL);
  pthread_cond_init(&team->done, NULL);
  team->members = calloc((size_t)team->threads, sizeof *team->members);
  for (int i = 0; team->members != NULL && i < team->threads - 1; i++) {
    member *m = &team->members[i];
    m->team = team;
    m->index = i + 1;
    if (pthread_create(&m->thread, NULL, member_main, m) != 0) break;
    team->started++;
  }
  if (team->members != NULL && team->started == team->threads - 1) return team;
  bench_team_destroy(team);
  return NULL;
}

/* Under lock. */
static void announce(bench_team *team) {
  atomic_fetch_add(&team->epoch, 1);
  pthread_cond_broadcast(&team->wake);
}

void bench_team_destroy(bench_team *team) {
  if (team == NULL) return;
  pthread_mutex_lock(&team->lock);
  team->stop = true;
  announce(team);
  pthread_mutex_unlock(&team->lock);
  for (int i = 0; i < team->started; i++)
    pthread_join(team->members[i].thread, NULL);
  pthread_cond_destroy(&team->done);
  pthread_cond_destroy(&team->wake);
  pthread_mutex_destroy(&team->lock);
  free(team->members);
  free(team);
}

int bench_team_threads(const bench_team *team) { return team->threads; }

void bench_team_run(bench_team *team, size_t n,
                    void (*task)(void *user, size_t i, int thread),
                    void *user) {
  if (n <= 1 || team->threads == 1) {
    for (size_t i = 0; i < n; i++) task(user, i, 0);
    return;
  }
  pthread_mutex_lock(&team->lock);
  team->task = task;
  team->user = user;
  team->n = n;
  atomic_store(&team->next, 0);
  team->open = true;
  announce(team);
  pthread_mutex_unlock(&team->lock);
  work(team, 0);
  pthread_mutex_lock(&team->lock);
  team->open = false;
  pthread_mutex_unlock(&team->lock);
  for (int i = 0; i < SPINS && atomic_load(&team->busy) > 0; i++) relax();
  pthread_mutex_lock(&team->lock);
  while (atomic_load(&team->busy) > 0)
    pthread_cond_wait(&team->done, &team->lock);
  pthread_mutex_unlock(&team->lock);
}
