/* dtype.c - element types, and exact conversions between the float ones. */
#include <string.h>

#include "core.h"

size_t clattn_dtype_size(clattn_dtype dtype) {
  switch (dtype) {
    case CLATTN_BOOL:
      return 1;
    case CLATTN_F16:
    case CLATTN_BF16:
      return 2;
    case CLATTN_F32:
    case CLATTN_I32:
      return 4;
    case CLATTN_I64:
      return 8;
  }
  return 0;
}

const char *clattn_dtype_name(clattn_dtype dtype) {
  switch (dtype) {
    case CLATTN_F32:
      return "f32";
    case CLATTN_F16:
      return "f16";
    case CLATTN_I32:
      return "i32";
    case CLATTN_BF16:
      return "bf16";
    case CLATTN_BOOL:
      return "bool";
    case CLATTN_I64:
      return "i64";
  }
  return "unknown";
}

/* All in bits: 1 sign, 8 exponent (bias 127) and 23 mantissa bits of binary32
 * against 1, 5 (bias 15) and 10 of binary16. A NaN keeps its sign and what fits
 * of its payload, so that narrow -> f32 -> narrow gives back every pattern. */

static uint32_t f32_from_f16(uint16_t x) {
  uint32_t sign = (uint32_t)(x & 0x8000u) << 16;
  uint32_t exponent = x >> 10 & 0x1fu, mantissa = x & 0x3ffu;
  if (exponent == 31) return sign | 0x7f800000u | mantissa << 13;
  if (exponent > 0) return sign | (exponent + 112) << 23 | mantissa << 13;
  if (mantissa == 0) return sign;
  exponent = 113; /* subnormal: shift up to the implicit bit */
  while (!(mantissa & 0x400u)) {
    mantissa <<= 1;
    exponent--;
  }
  return sign | exponent << 23 | (mantissa & 0x3ffu) << 13;
}

static uint16_t f16_from_f32(uint32_t x) {
  uint32_t sign = x >> 16 & 0x8000u, size = x & 0x7fffffffu, bits;
  if (size > 0x7f800000u) { /* NaN */
    bits = size >> 13 & 0x3ffu;
    bits = 0x7c00u | (bits ? bits : 0x200u);
  } else if (size >= 0x477ff000u) { /* 65520 and up round to infinity */
    bits = 0x7c00u;
  } else if (size >= 0x38800000u) { /* normal in binary16; 2^-14 and up */
    bits = (size - 0x38000000u + 0xfffu + (size >> 13 & 1u)) >> 13;
  } else if (size >= 0x33000000u) { /* subnormal, in units of 2^-24 */
    uint32_t shift = 126 - (size >> 23);
    uint32_t mantissa = (size & 0x7fffffu) | 0x800000u;
    uint32_t below_half = (1u << (shift - 1)) - 1;
    bits = (mantissa + below_half + (mantissa >> shift & 1u)) >> shift;
  } else { /* under 2^-25, half of the smallest */
    bits = 0;
  }
  return (uint16_t)(sign | bits);
}

static uint32_t f32_from_bf16(uint16_t x) { return (uint32_t)x << 16; }

static uint16_t bf16_from_f32(uint32_t x) {
  if ((x & 0x7fffffffu) > 0x7f800000u) { /* NaN: rounding must not reach Inf */
    uint32_t bits = x >> 16;
    return (uint16_t)(bits & 0x7fu ? bits : bits | 0x40u);
  }
  return (uint16_t)((x + 0x7fffu + (x >> 16 & 1u)) >> 16);
}

static bool is_float(clattn_dtype dtype) {
  return dtype == CLATTN_F32 || dtype == CLATTN_F16 || dtype == CLATTN_BF16;
}

clattn_status clattn_convert(clattn_dtype from, const void *src,
                             clattn_dtype to, void *dst, size_t n) {
  CLT_REQUIRE(is_float(from), "from: got %s (%d), want f32, f16 or bf16",
              clattn_dtype_name(from), (int)from);
  CLT_REQUIRE(is_float(to), "to: got %s (%d), want f32, f16 or bf16",
              clattn_dtype_name(to), (int)to);
  if (n == 0) return CLATTN_OK;
  CLT_REQUIRE(src != NULL, "src: got NULL, want %zu numbers", n);
  CLT_REQUIRE(dst != NULL, "dst: got NULL, want room for %zu numbers", n);
  CLT_REQUIRE(n <= SIZE_MAX / sizeof(float), "n: got %zu, want at most %zu", n,
              SIZE_MAX / sizeof(float));
  if (from == to) {
    memcpy(dst, src, n * clattn_dtype_size(from));
    return CLATTN_OK;
  }
  /* Widening is exact, so going through binary32 rounds once. memcpy: neither
   * side need be aligned, and bits are not floats to the compiler. */
  const char *in = src;
  char *out = dst;
  for (size_t i = 0; i < n; i++) {
    uint32_t wide;
    uint16_t narrow;
    if (from == CLATTN_F32) {
      memcpy(&wide, in + 4 * i, 4);
    } else {
      memcpy(&narrow, in + 2 * i, 2);
      wide = from == CLATTN_F16 ? f32_from_f16(narrow) : f32_from_bf16(narrow);
    }
    if (to == CLATTN_F32) {
      memcpy(out + 4 * i, &wide, 4);
    } else {
      narrow = to == CLATTN_F16 ? f16_from_f32(wide) : bf16_from_f32(wide);
      memcpy(out + 2 * i, &narrow, 2);
    }
  }
  return CLATTN_OK;
}
