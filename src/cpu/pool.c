/* pool.c - a few threads that share the groups of one step at a time.
 *
 * A run opens a job under the lock; threads join it while it has open places,
 * take indices from one atomic counter, and leave. The caller works too, closes
 * the job when the indices have run out, and waits only for threads that have
 * joined: one that wakes late finds the job closed and costs nothing. Idle
 * threads watch for a job for some microseconds before they sleep, because
 * steps come in bursts and waking a thread takes longer than many steps do. */
#ifndef _POSIX_C_SOURCE
#  define _POSIX_C_SOURCE 200809L
#endif
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "cpu.h"

enum { SPINS = 1000, CHUNKS = 64 };

typedef struct worker {
  clt_pool *pool;
  pthread_t thread;
  int index; /* 1.. ; 0 is the caller */
} worker;

struct clt_pool {
  const clt_host *host;
  int threads;
  pthread_mutex_t turn; /* held by the caller whose run it is */
  worker *workers;      /* threads - 1 of them, under turn */
  int n_workers;        /* how many could be started */
  bool started;

  pthread_mutex_t lock; /* the rest, but for the atomics */
  pthread_cond_t wake, done;
  int sleeping;      /* threads that wait for wake */
  int open;          /* places left in the job */
  atomic_int active; /* threads in the job; changed under lock */
  atomic_uint epoch; /* number of the job; changed under lock */
  bool stop;
  void (*task)(void *user, size_t i, int worker);
  void *user;
  size_t n, chunk;
  atomic_size_t next; /* first index that nobody has taken */
};

static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

/* Works until the indices have run out. The job's fields stand still while
 * anybody is in it. */
static void work(clt_pool *pool, int index) {
  for (;;) {
    size_t i = atomic_fetch_add_explicit(&pool->next, pool->chunk,
                                         memory_order_relaxed);
    if (i >= pool->n) return;
    size_t end = pool->n - i < pool->chunk ? pool->n : i + pool->chunk;
    for (; i < end; i++) pool->task(pool->user, i, index);
  }
}

static void *worker_main(void *argument) {
  worker *self = argument;
  clt_pool *pool = self->pool;
  unsigned seen = 0;
  for (;;) {
    for (int i = 0; i < SPINS; i++) {
      if (atomic_load_explicit(&pool->epoch, memory_order_relaxed) != seen)
        break;
      relax();
    }
    pthread_mutex_lock(&pool->lock);
    while (!pool->stop && atomic_load(&pool->epoch) == seen) {
      pool->sleeping++;
      pthread_cond_wait(&pool->wake, &pool->lock);
      pool->sleeping--;
    }
    seen = atomic_load(&pool->epoch);
    bool stop = pool->stop, joins = !stop && pool->open > 0;
    if (joins) {
      pool->open--;
      atomic_fetch_add(&pool->active, 1);
    }
    pthread_mutex_unlock(&pool->lock);
    if (stop) return NULL;
    if (!joins) continue;
    work(pool, self->index);
    pthread_mutex_lock(&pool->lock);
    if (atomic_fetch_sub(&pool->active, 1) == 1)
      pthread_cond_signal(&pool->done);
    pthread_mutex_unlock(&pool->lock);
  }
}

/* Under turn. The program's signals are for its own threads. */
static void start(clt_pool *pool) {
  sigset_t all, before;
  pool->started = true;
  sigfillset(&all);
  bool masked = pthread_sigmask(SIG_SETMASK, &all, &before) == 0;
  while (pool->n_workers < pool->threads - 1) {
    worker *next = &pool->workers[pool->n_workers];
    next->pool = pool;
    next->index = pool->n_workers + 1;
    /* With fewer threads the work is the same, only slower. */
    if (pthread_create(&next->thread, NULL, worker_main, next) != 0) break;
    pool->n_workers++;
  }
  if (masked) pthread_sigmask(SIG_SETMASK, &before, NULL);
}

clt_pool *clt_pool_create(int threads, const clt_host *host) {
  clt_pool *pool = host->alloc(sizeof *pool);
  if (!pool) return NULL;
  pool->host = host;
  pool->threads = threads < 1 ? 1 : threads;
  pool->workers = host->alloc((size_t)pool->threads * sizeof *pool->workers);
  if (!pool->workers) goto no_workers;
  if (pthread_mutex_init(&pool->turn, NULL) != 0) goto no_turn;
  if (pthread_mutex_init(&pool->lock, NULL) != 0) goto no_lock;
  if (pthread_cond_init(&pool->wake, NULL) != 0) goto no_wake;
  if (pthread_cond_init(&pool->done, NULL) != 0) goto no_done;
  atomic_init(&pool->active, 0);
  atomic_init(&pool->epoch, 0);
  atomic_init(&pool->next, 0);
  return pool;

no_done:
  pthread_cond_destroy(&pool->wake);
no_wake:
  pthread_mutex_destroy(&pool->lock);
no_lock:
  pthread_mutex_destroy(&pool->turn);
no_turn:
  host->free(pool->workers);
no_workers:
  host->free(pool);
  return NULL;
}

void clt_pool_destroy(clt_pool *pool) {
  if (!pool) return;
  pthread_mutex_lock(&pool->lock);
  pool->stop = true;
  atomic_fetch_add(&pool->epoch, 1); /* ends the watching */
  pthread_cond_broadcast(&pool->wake);
  pthread_mutex_unlock(&pool->lock);
  for (int i = 0; i < pool->n_workers; i++)
    pthread_join(pool->workers[i].thread, NULL);
  pthread_cond_destroy(&pool->done);
  pthread_cond_destroy(&pool->wake);
  pthread_mutex_destroy(&pool->lock);
  pthread_mutex_destroy(&pool->turn);
  const clt_host *host = pool->host;
  host->free(pool->workers);
  host->free(pool);
}

int clt_pool_threads(const clt_pool *pool) { return pool->threads; }

void clt_pool_run(clt_pool *pool, size_t n,
                  void (*task)(void *user, size_t i, int worker), void *user) {
  if (n <= 1 || pool->threads == 1) {
    for (size_t i = 0; i < n; i++) task(user, i, 0);
    return;
  }
  pthread_mutex_lock(&pool->turn);
  if (!pool->started) start(pool);

  pthread_mutex_lock(&pool->lock);
  size_t others = (size_t)pool->n_workers;
  pool->task = task;
  pool->user = user;
  pool->n = n;
  /* One by one, so that uneven groups balance, unless there are very many. */
  pool->chunk = 1 + n / (CHUNKS * (size_t)pool->threads);
  atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
  pool->open = (int)(others < n - 1 ? others : n - 1);
  atomic_fetch_add(&pool->epoch, 1);
  int wake = pool->sleeping < pool->open ? pool->sleeping : pool->open;
  for (int i = 0; i < wake; i++) pthread_cond_signal(&pool->wake);
  pthread_mutex_unlock(&pool->lock);

  work(pool, 0);

  pthread_mutex_lock(&pool->lock);
  pool->open = 0;
  if (atomic_load(&pool->active) > 0) {
    pthread_mutex_unlock(&pool->lock);
    for (int i = 0; i < SPINS && atomic_load(&pool->active) > 0; i++) relax();
    pthread_mutex_lock(&pool->lock);
    while (atomic_load(&pool->active) > 0)
      pthread_cond_wait(&pool->done, &pool->lock);
  }
  pthread_mutex_unlock(&pool->lock);
  pthread_mutex_unlock(&pool->turn);
}
