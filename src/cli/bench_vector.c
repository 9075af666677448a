/* bench_vector.c - see bench_vector.h. Compiled once for each instruction set
 * with BENCH_ISA (its name) and LANES (floats of a vector). */
#include "bench_vector.h"

#include <stdint.h>
#include <string.h>

typedef float vf __attribute__((vector_size(4 * LANES)));
typedef int32_t vi __attribute__((vector_size(4 * LANES)));

#define INLINE static inline __attribute__((always_inline))

INLINE vf load(const float *p) { /* at any alignment */
  vf v;
  memcpy(&v, p, sizeof v);
  return v;
}

INLINE void store(float *p, vf v) { memcpy(p, &v, sizeof v); }

INLINE vf splat(float x) { return x - (vf){0}; }

INLINE vf select(vi mask, vf a, vf b) {
  return (vf)((mask & (vi)a) | (~mask & (vi)b));
}

INLINE float sum_of(vf v) {
  float sum = 0;
  for (int i = 0; i < LANES; i++) sum += v[i];
  return sum;
}

/* ---- probes -------------------------------------------------------------- */

/* Enough chains for two units of a latency of 4 or 5; the barriers keep the
 * compiler from computing the chains by other means. */
#if defined(__x86_64__)
#  define KEEP(v) __asm__ volatile("" : "+v"(v))
#elif defined(__aarch64__)
#  define KEEP(v) __asm__ volatile("" : "+w"(v))
#else
#  define KEEP(v) ((void)0)
#endif
#define CHAINS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
enum { N_CHAINS = 12 };

static float fma_loop(long n) {
  const vf x = splat(1.0000001f), y = splat(1e-9f);
  vf sum = splat(0);
#define DECLARE(i) vf c##i = splat((float)i);
#define STEP(i)                                                                \
  c##i = c##i * x + y;                                                         \
  KEEP(c##i);
#define ADD(i) sum += c##i;
  CHAINS(DECLARE)
  for (long turn = 0; turn < n; turn++) {
    CHAINS(STEP)
  }
  CHAINS(ADD)
  return sum_of(sum);
}

static float read_loop(const float *x, size_t n) {
  enum { SUMS = 8 };
  vf sums[SUMS];
  for (int i = 0; i < SUMS; i++) sums[i] = splat(0);
  for (size_t at = 0; at < n; at += SUMS * LANES)
    for (int i = 0; i < SUMS; i++) sums[i] += load(x + at + i * LANES);
  for (int i = 1; i < SUMS; i++) sums[0] += sums[i];
  return sum_of(sums[0]);
}

/* ---- softmax ------------------------------------------------------------- */

static float max_loop(const float *x, size_t n, float low) {
  float top = low;
  size_t i = 0;
  if (n >= 2 * LANES) {
    vf a = load(x), b = load(x + LANES);
    for (i = 2 * LANES; i + 2 * LANES <= n; i += 2 * LANES) {
      const vf c = load(x + i), d = load(x + i + LANES);
      a = select(c > a, c, a);
      b = select(d > b, d, b);
    }
    a = select(b > a, b, a);
    for (int j = 0; j < LANES; j++) top = a[j] > top ? a[j] : top;
  }
  for (; i < n; i++) top = x[i] > top ? x[i] : top;
  return top;
}

/* exp(x) for x <= 0 as 2^t: t = n + r with |r| <= 1/2 (adding and taking away
 * 1.5 * 2^23 rounds), a polynomial of r, and n added to the exponent. Below
 * 2^-126 it gives 0. Error 1e-7. */
INLINE vf exp_of(vf x) {
  const vf round = splat(12582912.0f);
  vf t = x * splat(1.44269504f);
  const vi in = t > splat(-126.0f);
  const vf z = t + round, r = t - (z - round);
  vf p = splat(1.32647272e-3f);
  p = p * r + splat(9.67151269e-3f);
  p = p * r + splat(5.55073374e-2f);
  p = p * r + splat(2.40222421e-1f);
  p = p * r + splat(6.93146978e-1f);
  p = p * r + splat(1.0f);
  return (vf)(((vi)p + ((vi)z << 23)) & in);
}

static float exp_sum_loop(float *x, size_t n, float shift) {
  const vf s = splat(shift);
  vf sum = splat(0), more = splat(0);
  size_t i = 0;
  for (; i + 2 * LANES <= n; i += 2 * LANES) {
    const vf a = exp_of(load(x + i) - s), b = exp_of(load(x + i + LANES) - s);
    store(x + i, a);
    store(x + i + LANES, b);
    sum += a;
    more += b;
  }
  float total = sum_of(sum + more);
  for (; i < n; i += LANES) { /* the rest, on a vector of its own */
    const size_t left = n - i < LANES ? n - i : LANES;
    float part[LANES];
    for (size_t j = 0; j < LANES; j++) part[j] = j < left ? x[i + j] : shift;
    store(part, exp_of(load(part) - s));
    for (size_t j = 0; j < left; j++) total += x[i + j] = part[j];
  }
  return total;
}

static void scale_loop(float *x, size_t n, float factor) {
  for (size_t i = 0; i < n; i++) x[i] *= factor;
}

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
#define CAT_(a, b) a##b
#define CAT(a, b) CAT_(a, b)
const bench_vector CAT(bench_vector_, BENCH_ISA) = {
    TEXT(BENCH_ISA), fma_loop,  2L * N_CHAINS *LANES, read_loop, max_loop,
    exp_sum_loop,    scale_loop};
