/* dropout.c - which attention weights drop, on the host: the formula of clattn.h.
 * The kernels have it in cl/score.h. */
#include "problem.h"

static uint32_t mix(uint32_t x) {
  x ^= x >> 16;
  x *= 0x7feb352du;
  x ^= x >> 15;
  x *= 0x846ca68bu;
  return x ^ (x >> 16);
}

static uint32_t add_word(uint32_t a, uint32_t word) {
  return mix(a + word + 0x9e3779b9u);
}

/* The part of a key that seed and offset make. */
static uint32_t key_of(uint32_t a, uint64_t seed, uint64_t offset) {
  a = add_word(a, (uint32_t)seed);
  a = add_word(a, (uint32_t)(seed >> 32));
  a = add_word(a, (uint32_t)offset);
  return add_word(a, (uint32_t)(offset >> 32));
}

static const uint32_t first_of[2] = {0, 0x85ebca6bu};

static uint32_t threshold(float dropout) {
  return (uint32_t)((double)dropout * 4294967296.0);
}

void clt_dropout_init(clt_attn_args *args, float dropout, uint64_t seed,
                      uint64_t offset) {
  args->drop_below = (clt_i32)threshold(dropout);
  args->drop_scale = (float)(1.0 / (1.0 - (double)dropout));
  for (int n = 0; n < 2; n++)
    args->drop_key[n] = (clt_i32)key_of(first_of[n], seed, offset);
}

bool clattn_dropout_keeps(float dropout, uint64_t seed, uint64_t offset,
                          int64_t b, int64_t h, int64_t i, int64_t j) {
  uint32_t key[2];
  for (int n = 0; n < 2; n++)
    key[n] = add_word(add_word(key_of(first_of[n], seed, offset), (uint32_t)b),
                      (uint32_t)h);
  uint32_t x = (uint32_t)j + mix((uint32_t)i + key[0]);
  x ^= x >> 16;
  x *= 0x7feb352du;
  x ^= x >> 15;
  x ^= mix((uint32_t)i ^ key[1]);
  x *= 0x846ca68bu;
  x ^= x >> 16;
  return x >= threshold(dropout);
}
