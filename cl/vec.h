/* vec.h - one dialect for two compilers.
 *
 * The kernel bodies in this directory (*.h) are compiled as OpenCL C 1.2 by the
 * device's compiler and as C11 with vector extensions for the native CPU path.
 * This file holds all that differs between the two:
 *
 *   vf, vi, vu        LANES floats, ints, unsigned ints
 *   VLOAD VSTORE      any alignment, any address space
 *   VFMA              a*b + c, fused where the device does it fast
 *   VSELECT(m,a,b)    a where the mask m is set (all bits), b where it is 0
 *   VMAX(a,b)         a > b ? a : b (so a NaN in b is kept); VMIN likewise
 *   AS_*, TO_*        same bits; same value
 *   transpose         LANES x LANES numbers in registers
 *   INLINE, COLD      hot pieces are always inlined; pieces off the hot path
 *                     never: a kernel's cold build takes a quarter of the time
 *   NOUNROLL          before the loops whose body is a register tile: PoCL's
 *                     compiler would unroll them and spill the tile
 *
 * LANES is 4, 8 or 16; in OpenCL also 1, for kernels whose work-items are the
 * lanes: vf is float, a mask is 1 or 0, and there is nothing to transpose.
 *
 * Neither compiler may be given fast-math flags: exp2_v below, infinities and
 * NaN depend on IEEE arithmetic. */
#ifndef CLT_VEC_H
#define CLT_VEC_H

#ifndef LANES
#  define LANES 4
#endif

#define CLT_CAT_(a, b) a##b
#define CLT_CAT(a, b) CLT_CAT_(a, b)
#define MIN_OF(a, b) ((a) < (b) ? (a) : (b))
#define MAX_OF(a, b) ((a) > (b) ? (a) : (b))

#ifdef __OPENCL_C_VERSION__
/* ---- OpenCL C --------------------------------------------------------------- */
#  define GLOBAL __global
#  define LOCAL __local
#  define INLINE static inline __attribute__((always_inline))
#  if LANES > 1
#    define COLD static __attribute__((noinline))
#  else
#    define COLD INLINE /* GPUs call functions badly, if at all */
#  endif
#  define UNROLL _Pragma("unroll")
#  define NOUNROLL _Pragma("nounroll")
#  define VSPLAT(x) ((vf)(x))
#  define VSPLAT_I(x) ((vi)(x))
/* Not mad(): PoCL makes a product and a sum of it. Not fma() where it is slow. */
#  pragma OPENCL FP_CONTRACT ON
#  ifdef FP_FAST_FMAF
#    define VFMA(a, b, c) fma((vf)(a), (b), (c))
#  else
#    define VFMA(a, b, c) ((a) * (b) + (c))
#  endif
#  if LANES == 1
#    define HALF_LANES
typedef float vf;
typedef int vi;
typedef uint vu;
#    define VLOAD(p) (*(p))
#    define VSTORE(v, p) (*(p) = (v))
#    define VLOAD_U16(p) ((uint) * (p))
#    define VLOAD_U8(p) ((int)*(p))
#    define VSELECT(m, a, b) ((m) ? (a) : (b))
#    define VMAX(a, b) ((a) > (b) ? (a) : (b))
#    define VMIN(a, b) ((a) < (b) ? (a) : (b))
#    define VANY(m) ((m) != 0)
#    define AS_VF(x) as_float(x)
#    define AS_VI(x) as_int(x)
#    define AS_VU(x) as_uint(x)
#    define TO_VF(x) convert_float(x)
#  else
#    define HALF_LANES LANES
typedef CLT_CAT(float, LANES) vf;
typedef CLT_CAT(int, LANES) vi;
typedef CLT_CAT(uint, LANES) vu;
#    ifdef __clang__
/* vstoren of PoCL ends as pieces of a vector; this is one store. */
typedef vf vf_any __attribute__((aligned(4)));
#      define CLT_ACCESS(space)                                                \
        INLINE vf __attribute__((overloadable)) VLOAD(space const float *p) {  \
          return *(space const vf_any *)p;                                     \
        }                                                                      \
        INLINE void __attribute__((overloadable))                              \
        VSTORE(vf x, space float *p) {                                         \
          *(space vf_any *)p = x;                                              \
        }
CLT_ACCESS(__global)
CLT_ACCESS(__local)
CLT_ACCESS(__private)
#    else
#      define VLOAD(p) CLT_CAT(vload, LANES)(0, (p))
#      define VSTORE(v, p) CLT_CAT(vstore, LANES)((v), 0, (p))
#    endif
#    define VLOAD_U16(p)                                                       \
      CLT_CAT(convert_uint, LANES)(CLT_CAT(vload, LANES)(0, (p)))
#    define VLOAD_U8(p)                                                        \
      CLT_CAT(convert_int, LANES)(CLT_CAT(vload, LANES)(0, (p)))
#    define VSELECT(m, a, b) select((b), (a), (m))
#    define VMAX(a, b) select((b), (a), (a) > (b))
#    define VMIN(a, b) select((b), (a), (a) < (b))
#    define VANY(m) any(m)
#    define AS_VF(x) CLT_CAT(as_float, LANES)(x)
#    define AS_VI(x) CLT_CAT(as_int, LANES)(x)
#    define AS_VU(x) CLT_CAT(as_uint, LANES)(x)
#    define TO_VF(x) CLT_CAT(convert_float, LANES)(x)
#  endif
#  define AS_FLOAT(x) as_float(x)
#  define AS_UINT(x) as_uint(x)
/* Core OpenCL: reading halves needs no extension. */
#  define LOAD_HALF(p) vload_half(0, (GLOBAL const half *)(p))
#  define VLOAD_HALF(p)                                                        \
    CLT_CAT(vload_half, HALF_LANES)(0, (GLOBAL const half *)(p))
#  define MINUS_INF (-INFINITY)
#  define LOG(x) log(x)
#  define SQRT(x) sqrt(x)
#  define VSQRT(x) sqrt(x)
#  if LANES > 1 && defined(__clang__) && !defined(CLT_NO_PREFETCH)
typedef size_t clt_address; /* address spaces of a CPU are one */
#    define CLT_PREFETCH(address)                                              \
      __builtin_prefetch((const void *)(address), 0, 2)
#  endif
typedef ushort clt_u16;
typedef uint clt_u32;
typedef uchar clt_u8;
#  if LANES == 16
#    define V_IOTA ((vi)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15))
#  elif LANES == 8
#    define V_IOTA ((vi)(0, 1, 2, 3, 4, 5, 6, 7))
#  elif LANES == 4
#    define V_IOTA ((vi)(0, 1, 2, 3))
#  else
#    define V_IOTA 0
#  endif
/* Written out: Oclgrind 21.10 crashes on the halves of a vector of four. */
#  if LANES == 4
#    define V_EVEN(a, b) ((vf)((a).s0, (a).s2, (b).s0, (b).s2))
#    define V_ODD(a, b) ((vf)((a).s1, (a).s3, (b).s1, (b).s3))
#  else
#    define V_EVEN(a, b) ((vf)((a).even, (b).even))
#    define V_ODD(a, b) ((vf)((a).odd, (b).odd))
#  endif

#  if LANES == 1
INLINE float vsum(vf a) { return a; }
#  else
INLINE float vsum(vf a) {
#    if LANES == 16
  float8 b = a.lo + a.hi;
  float4 c = b.lo + b.hi;
#    elif LANES == 8
  float4 c = a.lo + a.hi;
#    else
  float4 c = a;
#    endif
  float2 d = c.lo + c.hi;
  return d.x + d.y;
}
#  endif

#else
/* ---- C11 with GCC/clang vector extensions ------------------------------------- */
#  include <float.h>
#  include <math.h>
#  include <stdint.h>
#  include <string.h>
#  if defined(__AVX512F__) || defined(__AVX2__)
#    include <immintrin.h>
#  elif defined(__aarch64__)
#    include <arm_neon.h>
#  endif
#  define GLOBAL
#  define LOCAL
#  define INLINE static inline __attribute__((always_inline))
#  define COLD static __attribute__((noinline))
#  ifdef __clang__
#    define UNROLL _Pragma("unroll")
#    define NOUNROLL _Pragma("nounroll")
#  else
#    define UNROLL _Pragma("GCC unroll 16")
#    define NOUNROLL _Pragma("GCC unroll 1")
#  endif
typedef uintptr_t clt_address;
#  define CLT_PREFETCH(address)                                                \
    __builtin_prefetch((const void *)(address), 0, 2)
typedef uint16_t clt_u16;
typedef uint32_t clt_u32;
typedef uint8_t clt_u8;
typedef float vf __attribute__((vector_size(LANES * 4)));
typedef int32_t vi __attribute__((vector_size(LANES * 4)));
typedef uint32_t vu __attribute__((vector_size(LANES * 4)));
typedef float vf_any
    __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef uint16_t vu16_any
    __attribute__((vector_size(LANES * 2), aligned(2), may_alias));
typedef uint8_t vu8_any
    __attribute__((vector_size(LANES), aligned(1), may_alias));
#  define VLOAD(p) ((vf) * (const vf_any *)(p))
#  define VSTORE(v, p) (*(vf_any *)(p) = (vf_any)(v))
#  define VLOAD_U16(p) __builtin_convertvector(*(const vu16_any *)(p), vu)
#  define VLOAD_U8(p) __builtin_convertvector(*(const vu8_any *)(p), vi)
#  define LOAD_HALF(p) half_to_float(*(p))
#  if defined(__AVX512F__) && LANES == 16
#    define VLOAD_HALF(p)                                                      \
      ((vf)_mm512_cvtph_ps(_mm256_loadu_si256((const void *)(p))))
#  elif defined(__F16C__) && LANES == 8
#    define VLOAD_HALF(p)                                                      \
      ((vf)_mm256_cvtph_ps(_mm_loadu_si128((const void *)(p))))
#  elif defined(__aarch64__) && LANES == 4
#    define VLOAD_HALF(p) ((vf)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))))
#  else
#    define VLOAD_HALF(p) half_to_float_v(VLOAD_U16(p))
#  endif
/* x - 0 is x for every x, -0 included, so this is a plain broadcast. */
#  define VSPLAT(x) ((float)(x) - (vf){0})
#  define VSPLAT_I(x) ((int32_t)(x) - (vi){0})
#  define VFMA(a, b, c) ((a) * (b) + (c))
#  define AS_VF(x) ((vf)(x))
#  define AS_VI(x) ((vi)(x))
#  define AS_VU(x) ((vu)(x))
#  define TO_VF(x) __builtin_convertvector((x), vf)
#  if defined(__AVX512F__) && LANES == 16
#    define VMAX(a, b) ((vf)_mm512_max_ps((__m512)(a), (__m512)(b)))
#    define VMIN(a, b) ((vf)_mm512_min_ps((__m512)(a), (__m512)(b)))
#  elif defined(__AVX2__) && LANES == 8
#    define VMAX(a, b) ((vf)_mm256_max_ps((__m256)(a), (__m256)(b)))
#    define VMIN(a, b) ((vf)_mm256_min_ps((__m256)(a), (__m256)(b)))
#  else
#    define VMAX(a, b) VSELECT((a) > (b), a, b)
#    define VMIN(a, b) VSELECT((a) < (b), a, b)
#  endif
#  define VSELECT(m, a, b) AS_VF((AS_VI(m) & AS_VI(a)) | (~AS_VI(m) & AS_VI(b)))
#  define MINUS_INF (-INFINITY)
#  define LOG(x) logf(x)
#  define SQRT(x) sqrtf(x)
#  define VSQRT(x) vsqrt_(x)
INLINE float AS_FLOAT(uint32_t x) {
  float f;
  memcpy(&f, &x, 4);
  return f;
}
INLINE uint32_t AS_UINT(float x) {
  uint32_t u;
  memcpy(&u, &x, 4);
  return u;
}
#  if LANES == 16
#    define V_IOTA ((vi){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15})
#    define V_EVEN(a, b)                                                       \
      __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, \
                              24, 26, 28, 30)
#    define V_ODD(a, b)                                                        \
      __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, \
                              25, 27, 29, 31)
#  elif LANES == 8
#    define V_IOTA ((vi){0, 1, 2, 3, 4, 5, 6, 7})
#    define V_EVEN(a, b)                                                       \
      __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14)
#    define V_ODD(a, b) __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15)
#  else
#    define V_IOTA ((vi){0, 1, 2, 3})
#    define V_EVEN(a, b) __builtin_shufflevector(a, b, 0, 2, 4, 6)
#    define V_ODD(a, b) __builtin_shufflevector(a, b, 1, 3, 5, 7)
#  endif

INLINE int vany_(vi m) {
  int32_t hit = 0;
  for (int i = 0; i < LANES; i++) hit |= m[i];
  return hit != 0;
}
#  define VANY(m) vany_(m)

INLINE vf vsqrt_(vf a) { /* one instruction: no errno here */
  float t[LANES];
  VSTORE(a, t);
  UNROLL
  for (int i = 0; i < LANES; i++) t[i] = sqrtf(t[i]);
  return VLOAD(t);
}

INLINE float vsum(vf a) {
#  if defined(__AVX512F__) && LANES == 16
  return _mm512_reduce_add_ps((__m512)a);
#  else
  float t[LANES];
  VSTORE(a, t);
  UNROLL
  for (int n = LANES / 2; n > 0; n /= 2)
    for (int i = 0; i < n; i++) t[i] += t[i + n];
  return t[0];
#  endif
}
#endif
/* ---- common -------------------------------------------------------------------- */

INLINE float vmax_of(vf a) {
  float t[LANES];
  VSTORE(a, t);
  float m = t[0];
  UNROLL
  for (int i = 1; i < LANES; i++) m = m > t[i] ? m : t[i];
  return m;
}

/* 2^x for x <= 0, relative error 9e-8; exactly 0 for x <= -64, which also keeps
 * subnormal numbers, slow on many CPUs, out of what follows. NaN gives NaN.
 * t holds round(x) in its low bits; the polynomial is a minimax fit of 2^r on
 * [-1/2, 1/2]; adding round(x) to the exponent field scales by 2^round(x). */
#if LANES == 1
/* GPUs have an instruction for it. (Theirs also make NaN of other bits, with
 * which adding to the exponent field, as below, would not give NaN.) */
INLINE vf exp2_v(vf x) { return VSELECT(x <= -64.0f, 0.0f, exp2(x)); }
#else
INLINE vf exp2_v(vf x) {
  vf t = x + 12582912.0f;
  vf r = x - (t - 12582912.0f);
  vf p = VFMA(VSPLAT(1.32647272e-3f), r, VSPLAT(9.67151269e-3f));
  p = VFMA(p, r, VSPLAT(5.55073374e-2f));
  p = VFMA(p, r, VSPLAT(2.40222421e-1f));
  p = VFMA(p, r, VSPLAT(6.93146978e-1f));
  p = VFMA(p, r, VSPLAT(1.0f));
  p = AS_VF(AS_VU(p) + (AS_VU(t) << 23));
  p = VSELECT(x == x, p, x); /* a NaN's payload would shift into nonsense */
  return VSELECT(x <= -64.0f, VSPLAT(0.0f), p);
}
#endif
COLD float exp2_s(float x) {
  float t[LANES];
  VSTORE(exp2_v(VSPLAT(x)), t);
  return t[0];
}

/* tanh, relative error below 4e-7, never above 1: a P(x^2) / Q(x^2) fitted to the
 * relative error on [0, 8], beyond which tanh is 1 - 2e-7 and more. NaN gives
 * NaN. */
INLINE vf tanh_v(vf x) {
  vf a = VMIN(VSPLAT(8.0f), VMAX(VSPLAT(-8.0f), x));
  vf z = a * a;
  vf p = VFMA(VSPLAT(1.52304812e-8f), z, VSPLAT(2.18947080e-5f));
  p = VFMA(p, z, VSPLAT(3.57160089e-3f));
  p = VFMA(p, z, VSPLAT(1.34445012e-1f));
  p = VFMA(p, z, VSPLAT(1.0f));
  vf q = VFMA(VSPLAT(8.52247297e-7f), z, VSPLAT(3.41129664e-4f));
  q = VFMA(q, z, VSPLAT(2.61644535e-2f));
  q = VFMA(q, z, VSPLAT(4.67778265e-1f));
  q = VFMA(q, z, VSPLAT(1.0f));
  return a * p / q;
}

#if LANES > 1
/* Lane i of the result is the sum of the lanes of a[i]: neighbours are added,
 * of two vectors at a time, until one vector is left. */
INLINE vf sum_lanes(vf *a) {
  UNROLL
  for (int i = 0; i < LANES / 2; i++)
    a[i] = V_EVEN(a[2 * i], a[2 * i + 1]) + V_ODD(a[2 * i], a[2 * i + 1]);
  UNROLL
  for (int i = 0; i < LANES / 4; i++)
    a[i] = V_EVEN(a[2 * i], a[2 * i + 1]) + V_ODD(a[2 * i], a[2 * i + 1]);
#  if LANES >= 8
  UNROLL
  for (int i = 0; i < LANES / 8; i++)
    a[i] = V_EVEN(a[2 * i], a[2 * i + 1]) + V_ODD(a[2 * i], a[2 * i + 1]);
#  endif
#  if LANES >= 16
  a[0] = V_EVEN(a[0], a[1]) + V_ODD(a[0], a[1]);
#  endif
  return a[0];
}

/* LANES x LANES transpose: log2(LANES) perfect shuffles. */
INLINE void transpose_step(vf *a, vf *b) {
  UNROLL
  for (int i = 0; i < LANES / 2; i++) {
    b[i] = V_EVEN(a[2 * i], a[2 * i + 1]);
    b[i + LANES / 2] = V_ODD(a[2 * i], a[2 * i + 1]);
  }
}
INLINE void transpose(vf *a) {
  vf b[LANES];
  transpose_step(a, b);
  transpose_step(b, a);
#  if LANES >= 8
  transpose_step(a, b);
#    if LANES >= 16
  transpose_step(b, a);
#    else
  UNROLL
  for (int i = 0; i < LANES; i++) a[i] = b[i];
#    endif
#  endif
}
#endif

/* ---- storage types: F32, F16, BF16; no device needs an extension. The native
 * path uses the machine's own conversion where there is one, else integer
 * shifts, and avoids fp32 subnormals, which are slow ---------------------------- */

#ifndef __OPENCL_C_VERSION__
INLINE vf half_to_float_v(vu h) {
  vu u = (h & 0x7fffu) << 13;
  vf normal = AS_VF(u + (112u << 23));
  vf tiny = TO_VF(AS_VI(h & 0x3ffu)) * 5.9604644775390625e-8f; /* 2^-24 */
  vf x = VSELECT(AS_VI(u < 0x00800000u), tiny, normal);
  x = VSELECT(AS_VI(u >= 0x0f800000u), AS_VF(u | 0x7f800000u), x);
  return AS_VF(AS_VU(x) | ((h & 0x8000u) << 16));
}
INLINE float half_to_float(clt_u32 h) {
  clt_u32 u = (h & 0x7fffu) << 13;
  float x = u >= 0x0f800000u  ? AS_FLOAT(u | 0x7f800000u)
            : u < 0x00800000u ? (float)(h & 0x3ffu) * 5.9604644775390625e-8f
                              : AS_FLOAT(u + (112u << 23));
  return AS_FLOAT(AS_UINT(x) | ((h & 0x8000u) << 16));
}
#endif
/* Round to nearest, ties to even. */
INLINE clt_u32 float_to_half(float x) {
  clt_u32 u = AS_UINT(x) & 0x7fffffffu, sign = (AS_UINT(x) >> 16) & 0x8000u;
  if (u > 0x7f800000u) return sign | 0x7e00u;
  if (u >= 0x47800000u) return sign | 0x7c00u;
  if (u < 0x38800000u) /* adding 0.5 rounds |x| to a multiple of 2^-24 */
    return sign | (AS_UINT(AS_FLOAT(u) + 0.5f) - 0x3f000000u);
  return sign | ((u + 0xfffu + ((u >> 13) & 1u) - (112u << 23)) >> 13);
}
INLINE clt_u32 float_to_bfloat(float x) {
  clt_u32 u = AS_UINT(x);
  if ((u & 0x7fffffffu) > 0x7f800000u) return (u >> 16) | 0x40u;
  return (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
}

/* Element i of an array of the given type. */
INLINE float load_s(GLOBAL const float *base, clt_i64 i, int dtype) {
  if (dtype == CLT_F32) return base[i];
  GLOBAL const clt_u16 *at = (GLOBAL const clt_u16 *)base + i;
  if (dtype == CLT_F16) return LOAD_HALF(at);
  return AS_FLOAT((clt_u32)*at << 16);
}
INLINE void store_s(GLOBAL float *base, clt_i64 i, int dtype, float x) {
  if (dtype == CLT_F32)
    base[i] = x;
  else
    ((GLOBAL clt_u16 *)base)[i] =
        (clt_u16)(dtype == CLT_F16 ? float_to_half(x) : float_to_bfloat(x));
}
/* LANES consecutive elements from i. */
INLINE vf load_v(GLOBAL const float *base, clt_i64 i, int dtype) {
  if (dtype == CLT_F32) return VLOAD(base + i);
  GLOBAL const clt_u16 *at = (GLOBAL const clt_u16 *)base + i;
  if (dtype == CLT_F16) return VLOAD_HALF(at);
  return AS_VF(VLOAD_U16(at) << 16);
}
/* Asks for n elements from i ahead of time, as far as the second cache; i may
 * lie outside the array. */
INLINE void prefetch_row(GLOBAL const float *base, clt_i64 i, int n,
                         int dtype) {
#ifdef CLT_PREFETCH
  const int size = dtype == CLT_F32 ? 4 : 2;
  const clt_address at = (clt_address)base + (clt_address)i * size;
  for (int byte = 0; byte < n * size; byte += 64) CLT_PREFETCH(at + byte);
#else
  (void)base, (void)i, (void)n, (void)dtype;
#endif
}
/* n <= LANES elements from i, `stride` apart; the other lanes are 0. */
COLD vf load_n(GLOBAL const float *base, clt_i64 i, clt_i64 stride, int n,
               int dtype) {
  if (stride == 1 && n == LANES) return load_v(base, i, dtype);
  float t[LANES];
  for (int x = 0; x < LANES; x++)
    t[x] = x < n ? load_s(base, i + x * stride, dtype) : 0.0f;
  return VLOAD(t);
}
COLD void store_n(GLOBAL float *base, clt_i64 i, clt_i64 stride, int n,
                  int dtype, vf v) {
  if (stride == 1 && n == LANES && dtype == CLT_F32) {
    VSTORE(v, base + i);
    return;
  }
  float t[LANES];
  VSTORE(v, t);
  for (int x = 0; x < n; x++) store_s(base, i + x * stride, dtype, t[x]);
}
/* Element i of an I32 or I64 array, clamped to lo..hi. */
COLD int load_int(GLOBAL const int *base, clt_i64 i, int dtype, int lo,
                  int hi) {
  clt_i64 x =
      dtype == CLT_I64 ? ((GLOBAL const clt_i64 *)base)[i] : (clt_i64)base[i];
  return (int)(x < lo ? lo : x > hi ? hi : x);
}

/* dst[row][ld] = rows x cols numbers of a strided array, as floats, padded with
 * zeros up to pad_rows x pad_cols. Returns whether any of them is NaN or Inf. */
COLD int copy_block(LOCAL float *dst, int ld, GLOBAL const float *src,
                    clt_i64 offset, clt_i64 row_stride, clt_i64 col_stride,
                    int rows, int cols, int pad_rows, int pad_cols, int dtype) {
  vi bad = VSPLAT_I(0);
  for (int r = 0; r < rows; r++) {
    clt_i64 at = offset + r * row_stride;
    LOCAL float *to = dst + r * ld;
    int c = 0;
    if (col_stride == 1)
      for (; c + LANES <= cols; c += LANES) {
        vf x = load_v(src, at + c, dtype);
        bad |= (x - x) != 0.0f; /* NaN and Inf: x - x is NaN */
        VSTORE(x, to + c);
      }
    for (; c < cols; c++) {
      float x = load_s(src, at + c * col_stride, dtype);
      bad |= VSPLAT_I((x - x) != 0.0f ? -1 : 0);
      to[c] = x;
    }
    for (; c < pad_cols; c++) to[c] = 0.0f;
  }
  for (int r = rows; r < pad_rows; r++)
    for (int c = 0; c < pad_cols; c++) dst[r * ld + c] = 0.0f;
  return VANY(bad);
}

#endif /* CLT_VEC_H */
