/* rng.c - MT19937 and the distributions PyTorch draws from it on the CPU.
 * (Matsumoto and Nishimura 1998, "Mersenne Twister".) */
#include <math.h>
#include <string.h>

#include "kit.h"

#define N 624
#define M 397
#define GROUP 16 /* normal numbers are made 16 at a time */

void clattn_kit_rng_init(clattn_kit_rng *rng, uint32_t seed) {
  if (rng == NULL) return;
  rng->state[0] = seed;
  for (uint32_t i = 1; i < N; i++)
    rng->state[i] =
        1812433253u * (rng->state[i - 1] ^ (rng->state[i - 1] >> 30)) + i;
  rng->next = N;
}

static void twist(uint32_t *state) {
  for (int i = 0; i < N; i++) {
    const uint32_t y =
        (state[i] & 0x80000000u) | (state[(i + 1) % N] & 0x7fffffffu);
    state[i] = state[(i + M) % N] ^ (y >> 1) ^ (y & 1 ? 0x9908b0dfu : 0);
  }
}

uint32_t clattn_kit_rng_u32(clattn_kit_rng *rng) {
  if (rng == NULL) return 0;
  if (rng->next < 0 || rng->next >= N) {
    twist(rng->state);
    rng->next = 0;
  }
  uint32_t y = rng->state[rng->next++];
  y ^= y >> 11;
  y ^= (y << 7) & 0x9d2c5680u;
  y ^= (y << 15) & 0xefc60000u;
  return y ^ (y >> 18);
}

float clattn_kit_rng_uniform(clattn_kit_rng *rng) {
  return (float)(clattn_kit_rng_u32(rng) & 0xffffffu) * 0x1p-24f;
}

static void fill_uniform(clattn_kit_rng *rng, float bound, size_t n,
                         float *values) {
  for (size_t i = 0; i < n; i++)
    values[i] = clattn_kit_rng_uniform(rng) * (bound - -bound) + -bound;
}

void clattn_kit_rng_linear(clattn_kit_rng *rng, int64_t out, int64_t in,
                           float *weight, float *bias) {
  if (rng == NULL || out < 1 || in < 1 || weight == NULL) return;
  const float bound = (float)(1 / sqrt((double)in));
  fill_uniform(rng, bound, (size_t)out * (size_t)in, weight);
  if (bias != NULL) fill_uniform(rng, bound, (size_t)out, bias);
}

/* 16 uniform numbers, in place, to 16 normal ones. */
static void box_muller(float *values) {
  for (int i = 0; i < GROUP / 2; i++) {
    const float radius = sqrtf(-2 * logf(1 - values[i])); /* log's is (0,1] */
    const float angle = 6.283185307179586f * values[i + GROUP / 2];
    values[i] = radius * cosf(angle);
    values[i + GROUP / 2] = radius * sinf(angle);
  }
}

void clattn_kit_rng_normal(clattn_kit_rng *rng, size_t n, float *values) {
  if (rng == NULL || values == NULL || n == 0) return;
  if (n < GROUP) {
    float group[GROUP];
    for (int i = 0; i < GROUP; i++) group[i] = clattn_kit_rng_uniform(rng);
    box_muller(group);
    memcpy(values, group, n * sizeof *values);
    return;
  }
  for (size_t i = 0; i < n; i++) values[i] = clattn_kit_rng_uniform(rng);
  size_t i = 0;
  for (; i + GROUP <= n; i += GROUP) box_muller(values + i);
  if (i == n) return;
  /* PyTorch draws the last 16 anew when 16 does not divide n. */
  values += n - GROUP;
  for (int j = 0; j < GROUP; j++) values[j] = clattn_kit_rng_uniform(rng);
  box_muller(values);
}
