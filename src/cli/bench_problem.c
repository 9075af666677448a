/* bench_problem.c - memory and numbers of one shape. */
#define _POSIX_C_SOURCE 200809L
#include "bench.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool bench_refuse(char *why, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(why, BENCH_WHY_CHARS, format, arguments);
  va_end(arguments);
  why[strcspn(why, "\n")] = '\0';
  cli_clean(why);
  return false;
}

/* ---- memory -------------------------------------------------------------- */

/* Bytes that can be used without others losing theirs. */
static double available(void) {
  double kib = 0;
  FILE *stream = fopen("/proc/meminfo", "r");
  char line[128];
  while (stream != NULL && fgets(line, sizeof line, stream) != NULL)
    if (sscanf(line, "MemAvailable: %lf kB", &kib) == 1) break;
  if (stream != NULL) fclose(stream);
  if (kib > 0) return 1024 * kib;
  const long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
  return pages > 0 && size > 0 ? (double)pages * (double)size : 1e18;
}

bool bench_fits(double bytes, const char *what, char *why) {
  const double most = available();
  if (bytes <= most) return true;
  return bench_refuse(why, "out of memory: %s takes %.1f GiB, %.1f are left",
                      what, bytes / (1 << 30), most / (1 << 30));
}

void *bench_alloc(double bytes, const char *what, char *why) {
  enum { ALIGN = 128 };
  if (!bench_fits(bytes, what, why)) return NULL;
  const size_t size = ((size_t)bytes / ALIGN + 1) * ALIGN;
  void *memory = aligned_alloc(ALIGN, size);
  if (memory == NULL)
    bench_refuse(why, "out of memory: %s takes %.1f GiB", what,
                 bytes / (1 << 30));
  return memory;
}

/* ---- numbers ------------------------------------------------------------- */

/* Uniform in +-sqrt(3), so of variance 1, as a normalised layer gives them.
 * (Knuth's MMIX generator: cheap, and good enough in its upper bits.) */
static void fill(float *x, size_t n, uint64_t seed) {
  const float step = 1.7320508f / 8388608.0f;
  for (size_t i = 0; i < n; i++) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    x[i] = (float)((int64_t)(seed >> 40) - 8388608) * step;
  }
}

/* n numbers of the shape's type; NULL with why. */
static void *numbers(clattn_dtype dtype, size_t n, uint64_t seed,
                     const char *what, char *why) {
  enum { PIECE = 4096 };
  const size_t size = clattn_dtype_size(dtype);
  char *data = bench_alloc((double)n * (double)size, what, why);
  float piece[PIECE];
  for (size_t i = 0; data != NULL && i < n; i += PIECE) {
    const size_t count = n - i < PIECE ? n - i : PIECE;
    fill(piece, count, seed + i);
    if (dtype == CLATTN_F32)
      memcpy(data + i * size, piece, count * size);
    else
      clattn_convert(CLATTN_F32, piece, dtype, data + i * size, count);
  }
  return data;
}

bool bench_problem_make(const bench_target *target, bench_problem *problem,
                        char *why) {
  const bench_shape *s = problem->shape;
  const size_t q_rows = (size_t)(s->batch * s->q_heads * s->q_len);
  const size_t k_rows = (size_t)(s->batch * s->kv_heads * s->kv_len);
  /* Beside these numbers a device on the host holds its own. */
  double bytes = bench_shape_bytes(s) * (target->on_host ? 2 : 1);
  if (problem->weights && target->on_host)
    bytes += (double)q_rows * (double)s->kv_len * sizeof(float);
  /* d_out, the gradients, and what forward has of its own. */
  if (problem->backward) bytes *= 3;
  if (!bench_fits(bytes, "the problem", why)) return false;
  problem->q = numbers(s->dtype, q_rows * (size_t)s->qk_dim, 1, "q", why);
  if (problem->q == NULL) return false;
  problem->k = numbers(s->dtype, k_rows * (size_t)s->qk_dim, 2, "k", why);
  if (problem->k == NULL) return false;
  problem->v = numbers(s->dtype, k_rows * (size_t)s->v_dim, 3, "v", why);
  if (problem->v == NULL || !problem->backward) return problem->v != NULL;
  problem->d_out =
      numbers(s->dtype, q_rows * (size_t)s->v_dim, 4, "d_out", why);
  return problem->d_out != NULL;
}

void bench_problem_free(bench_problem *problem) {
  free(problem->q);
  free(problem->k);
  free(problem->v);
  free(problem->d_out);
  problem->q = problem->k = problem->v = problem->d_out = NULL;
}
