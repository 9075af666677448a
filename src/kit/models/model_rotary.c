/* model_rotary.c - by which angles positions turn queries and keys. */
#include <math.h>

#include "model.h"

/* Radians a position adds to pair k. Llama 3.1's rule: waves that a text of
 * old_positions held less than low_frequency times are stretched by the factor,
 * those it held more than high_frequency times stay, between them it blends. */
static double frequency(const model_spec *spec, int64_t k) {
  const double pi = 3.14159265358979323846;
  const double exponent = -2.0 * (double)k / (double)spec->rotary_dim;
  const double plain = pow(spec->config.rotary_base, exponent);
  const double slow = plain / spec->rotary_factor;
  if (!spec->rotary_llama3) return slow;
  const double waves = spec->old_positions * plain / (2 * pi);
  const double part = (waves - spec->low_frequency) /
                      (spec->high_frequency - spec->low_frequency);
  if (part <= 0) return slow;
  if (part >= 1) return plain;
  return (1 - part) * slow + part * plain;
}

void model_rotary_rows(const model_spec *spec, int64_t first, int64_t n,
                       float *cos_table, float *sin_table) {
  const int64_t half = spec->rotary_dim / 2;
  for (int64_t k = 0; k < half; k++) {
    const double step = frequency(spec, k);
    for (int64_t i = 0; i < n; i++) {
      cos_table[i * half + k] = (float)cos((double)(first + i) * step);
      sin_table[i * half + k] = (float)sin((double)(first + i) * step);
    }
  }
}
