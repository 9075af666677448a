/* quantised.c - decodes blocks of quantised numbers.
 *
 * A block holds small integers q and what makes numbers of them: a scale d in
 * F16, and either a fixed middle or a second F16 number m.
 *
 *   Q4_0, Q5_0, Q8_0   32 numbers  d (q - 8), d (q - 16), d q
 *   Q4_1, Q5_1         32 numbers  d q + m
 *   Q4_K, Q5_K        256 numbers  in 8 parts with scales s and minima t of 6
 *                                  bits: (d s) q - (m t)
 *   Q6_K              256 numbers  in 16 parts with scales s of 8 bits:
 *                                  (d s) (q - 32)
 *
 * Products are exact in F32 (Q6_K's last one apart), so that a number is rounded
 * once, and the same whether or not the compiler contracts. */
#include "quantised.h"

#include <math.h>
#include <string.h>

#define MAX_BLOCK 256 /* elements */

/* One element type of GGUF a line; bytes 0: known by name alone.
 * X(name, number, elements, bytes of a block, how it is decoded) */
#define BLOCK_MAP(X)                                                           \
  X(F32, 0, 1, 4, NULL)                                                        \
  X(F16, 1, 1, 2, NULL)                                                        \
  X(Q4_0, 2, 32, 18, decode_q4_0)                                              \
  X(Q4_1, 3, 32, 20, decode_q4_1)                                              \
  X(Q5_0, 6, 32, 22, decode_q5_0)                                              \
  X(Q5_1, 7, 32, 24, decode_q5_1)                                              \
  X(Q8_0, 8, 32, 34, decode_q8_0)                                              \
  X(Q8_1, 9, 32, 0, NULL)                                                      \
  X(Q2_K, 10, 256, 0, NULL)                                                    \
  X(Q3_K, 11, 256, 0, NULL)                                                    \
  X(Q4_K, 12, 256, 144, decode_q4_k)                                           \
  X(Q5_K, 13, 256, 176, decode_q5_k)                                           \
  X(Q6_K, 14, 256, 210, decode_q6_k)                                           \
  X(Q8_K, 15, 256, 0, NULL)                                                    \
  X(IQ2_XXS, 16, 256, 0, NULL)                                                 \
  X(IQ2_XS, 17, 256, 0, NULL)                                                  \
  X(IQ3_XXS, 18, 256, 0, NULL)                                                 \
  X(IQ1_S, 19, 256, 0, NULL)                                                   \
  X(IQ4_NL, 20, 32, 0, NULL)                                                   \
  X(IQ3_S, 21, 256, 0, NULL)                                                   \
  X(IQ2_S, 22, 256, 0, NULL)                                                   \
  X(IQ4_XS, 23, 256, 0, NULL)                                                  \
  X(I8, 24, 1, 1, NULL)                                                        \
  X(I16, 25, 1, 2, NULL)                                                       \
  X(I32, 26, 1, 4, NULL)                                                       \
  X(I64, 27, 1, 8, NULL)                                                       \
  X(F64, 28, 1, 8, decode_f64)                                                 \
  X(IQ1_M, 29, 256, 0, NULL)                                                   \
  X(BF16, 30, 1, 2, NULL)                                                      \
  X(TQ1_0, 34, 256, 0, NULL)                                                   \
  X(TQ2_0, 35, 256, 0, NULL)                                                   \
  X(MXFP4, 39, 32, 0, NULL)

static float f16_at(const unsigned char *at) {
  float value = 0;
  clattn_convert(CLATTN_F16, at, CLATTN_F32, &value, 1);
  return value;
}

/* ---- plain numbers --------------------------------------------------------- */

/* To odd, not to nearest: what is rounded a second time, to fewer bits, is then
 * what rounding once gives. decode_f64_nearest is for results in F32. */
static void decode_f64(const unsigned char *block, float *values) {
  double exact;
  memcpy(&exact, block, sizeof exact);
  *values = (float)exact;
  uint32_t bits;
  memcpy(&bits, values, sizeof bits);
  if (isnan(exact) || (double)*values == exact || bits & 1u) return;
  bits = fabs((double)*values) < fabs(exact) ? bits | 1u : bits - 1u;
  memcpy(values, &bits, sizeof bits);
}

static void decode_f64_nearest(const unsigned char *block, float *values) {
  double exact;
  memcpy(&exact, block, sizeof exact);
  *values = (float)exact;
}

/* ---- blocks of 32: the low halves of 16 bytes, then the high ones ---------- */

/* d, qs[16] */
static void decode_q4_0(const unsigned char *block, float *values) {
  const float d = f16_at(block);
  const unsigned char *qs = block + 2;
  for (int i = 0; i < 16; i++) {
    values[i] = d * (float)((qs[i] & 15) - 8);
    values[i + 16] = d * (float)((qs[i] >> 4) - 8);
  }
}

/* d, m, qs[16] */
static void decode_q4_1(const unsigned char *block, float *values) {
  const float d = f16_at(block), m = f16_at(block + 2);
  const unsigned char *qs = block + 4;
  for (int i = 0; i < 16; i++) {
    values[i] = d * (float)(qs[i] & 15) + m;
    values[i + 16] = d * (float)(qs[i] >> 4) + m;
  }
}

/* The fifth bits of 32 numbers, number i's in bit i. */
static uint32_t fifth_bits(const unsigned char *at) {
  return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 |
         (uint32_t)at[3] << 24;
}

/* qs[16] with their fifth bits: numbers 0..31 in q. */
static void join_five(const unsigned char *qs, uint32_t fifths, int q[32]) {
  for (int i = 0; i < 16; i++) {
    q[i] = (qs[i] & 15) | (int)(fifths >> i & 1u) << 4;
    q[i + 16] = qs[i] >> 4 | (int)(fifths >> (i + 16) & 1u) << 4;
  }
}

/* d, fifths[4], qs[16] */
static void decode_q5_0(const unsigned char *block, float *values) {
  const float d = f16_at(block);
  int q[32];
  join_five(block + 6, fifth_bits(block + 2), q);
  for (int i = 0; i < 32; i++) values[i] = d * (float)(q[i] - 16);
}

/* d, m, fifths[4], qs[16] */
static void decode_q5_1(const unsigned char *block, float *values) {
  const float d = f16_at(block), m = f16_at(block + 2);
  int q[32];
  join_five(block + 8, fifth_bits(block + 4), q);
  for (int i = 0; i < 32; i++) values[i] = d * (float)q[i] + m;
}

/* d, qs[32] with a sign */
static void decode_q8_0(const unsigned char *block, float *values) {
  const float d = f16_at(block);
  for (int i = 0; i < 32; i++) values[i] = d * (float)(int8_t)block[2 + i];
}

/* ---- blocks of 256 ----------------------------------------------------------
 * Bytes of qs hold two numbers: of each run of 32 bytes, the low halves are one
 * part of 32 numbers and the high halves the next one. */

/* Scale and minimum of part 0..7, each of 6 bits, in 12 bytes: parts 0..3 have
 * theirs in the low bits of bytes 0..3 and 4..7; those of parts 4..7 are spread
 * over the halves of bytes 8..11 and the high bits of the first eight. */
static void scale_and_minimum(const unsigned char *packed, int part, int *scale,
                              int *minimum) {
  if (part < 4) {
    *scale = packed[part] & 63;
    *minimum = packed[part + 4] & 63;
  } else {
    *scale = (packed[part + 4] & 15) | packed[part - 4] >> 6 << 4;
    *minimum = packed[part + 4] >> 4 | packed[part] >> 6 << 4;
  }
}

/* fifths [32] has a bit for each part, or is NULL. */
static void decode_parts(const unsigned char *block, const unsigned char *qs,
                         const unsigned char *fifths, float *values) {
  const float d = f16_at(block), m = f16_at(block + 2);
  for (int part = 0; part < 8; part++) {
    int scale, minimum;
    scale_and_minimum(block + 4, part, &scale, &minimum);
    const float step = d * (float)scale, low = m * (float)minimum;
    const unsigned char *run = qs + part / 2 * 32;
    for (int i = 0; i < 32; i++) {
      int q = part % 2 == 0 ? run[i] & 15 : run[i] >> 4;
      if (fifths != NULL) q |= (fifths[i] >> part & 1) << 4;
      values[part * 32 + i] = step * (float)q - low;
    }
  }
}

/* d, m, scales and minima [12], qs[128] */
static void decode_q4_k(const unsigned char *block, float *values) {
  decode_parts(block, block + 16, NULL, values);
}

/* d, m, scales and minima [12], fifths[32], qs[128] */
static void decode_q5_k(const unsigned char *block, float *values) {
  decode_parts(block, block + 48, block + 16, values);
}

/* low halves [128], high quarters [64], scales[16] with a sign, d. In each half
 * of the block, number 32 g + i has its low bits in byte i + 32 (g % 2), in half
 * g / 2 of it, and its high bits in quarter g of byte i. */
static void decode_q6_k(const unsigned char *block, float *values) {
  const float d = f16_at(block + 208);
  for (int half = 0; half < 2; half++) {
    const unsigned char *low = block + 64 * half;
    const unsigned char *high = block + 128 + 32 * half;
    const unsigned char *scales = block + 192 + 8 * half;
    for (int n = 0; n < 128; n++) {
      const int g = n / 32, i = n % 32;
      const int byte = low[i + 32 * (g % 2)];
      const int q = (g < 2 ? byte & 15 : byte >> 4) | (high[i] >> (2 * g) & 3)
                                                          << 4;
      values[128 * half + n] =
          d * (float)(int8_t)scales[n / 16] * (float)(q - 32);
    }
  }
}

/* ---- the table ------------------------------------------------------------- */

static const struct {
  uint32_t number;
  kit_block block;
} blocks[] = {
#define X(name, number, elements, bytes, decode)                               \
  {number, {#name, elements, bytes, decode}},
    BLOCK_MAP(X)
#undef X
};
#define BLOCKS (sizeof blocks / sizeof *blocks)

const kit_block *kit_block_of_ggml(uint32_t type) {
  static const kit_block unknown = {"UNKNOWN", 1, 0, NULL};
  for (size_t i = 0; i < BLOCKS; i++)
    if (blocks[i].number == type) return &blocks[i].block;
  return &unknown;
}

const kit_block *kit_block_named(const char *name) {
  for (size_t i = 0; i < BLOCKS; i++)
    if (strcmp(blocks[i].block.name, name) == 0) return &blocks[i].block;
  return NULL;
}

/* Types that clattn_convert reads; 0: others. */
static clattn_dtype plain_type(const kit_block *block) {
  static const clattn_dtype plain[] = {CLATTN_F32, CLATTN_F16, CLATTN_BF16};
  for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
    if (strcmp(clattn_kit_dtype_name(clattn_kit_dtype_of(plain[i])),
               block->name) == 0)
      return plain[i];
  return (clattn_dtype)0;
}

bool kit_block_is_read(const kit_block *block) {
  return block->decode != NULL || plain_type(block) != 0;
}

clattn_status kit_decode(const kit_block *block, const void *data,
                         int64_t elements, clattn_dtype dtype, void *values) {
  const clattn_dtype plain = plain_type(block);
  if (plain != 0)
    return clattn_convert(plain, data, dtype, values, (size_t)elements);
  void (*const decode)(const unsigned char *, float *) =
      dtype == CLATTN_F32 && block->decode == decode_f64 ? decode_f64_nearest
                                                         : block->decode;
  const unsigned char *at = data;
  char *out = values;
  for (int64_t i = 0; i < elements; i += MAX_BLOCK) {
    const int64_t n = elements - i < MAX_BLOCK ? elements - i : MAX_BLOCK;
    float part[MAX_BLOCK];
    for (int64_t e = 0; e < n; e += block->elements, at += block->bytes)
      decode(at, part + e);
    KIT_TRY(clattn_convert(CLATTN_F32, part, dtype, out, (size_t)n));
    out += (size_t)n * clattn_dtype_size(dtype);
  }
  return CLATTN_OK;
}
