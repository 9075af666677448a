/* sinusoidal.c - the table of sinusoidal positions, on the host. */
#include <math.h>

#include "nn.h"

/* A position is exact as a double. */
#define MAX_POSITION ((int64_t)1 << 53)

clattn_status clattn_nn_sinusoidal(int64_t first, int64_t n, int64_t D,
                                   float *table) {
  int64_t count, bytes;
  CLT_REQUIRE(first >= 0, "first: got %lld, want >= 0", (long long)first);
  CLT_REQUIRE(n >= 1, "n: got %lld, want >= 1", (long long)n);
  CLT_REQUIRE(first <= MAX_POSITION - n,
              "first, n: positions %lld and %lld more, want all < 2^53",
              (long long)first, (long long)n);
  CLT_REQUIRE(D >= 1, "D: got %lld, want >= 1", (long long)D);
  CLT_REQUIRE(clt_mul(n, D, &count) && clt_mul(count, sizeof(float), &bytes),
              "n * D: %lld * %lld overflows", (long long)n, (long long)D);
  CLT_REQUIRE(table != NULL, "table: got NULL, want memory for n * D floats");
  for (int64_t d = 0; d < D; d++) {
    const double slowness = pow(1e4, (double)(d - d % 2) / (double)D);
    for (int64_t i = 0; i < n; i++) {
      const double angle = (double)(first + i) / slowness;
      table[i * D + d] = (float)(d % 2 ? cos(angle) : sin(angle));
    }
  }
  return CLATTN_OK;
}
