/* score.h - the rules of attention, stated once for every kernel and backend:
 * who sees whom, and what happens to a score between Q K^T and softmax.
 *
 * Scores are in units of log 2 (see clt_attn_args). Positions p and keys j are
 * vectors, so lanes may be queries (j the same in all) or keys (p the same). */
#ifndef CLT_SCORE_H
#define CLT_SCORE_H
#include "args.h"
#include "vec.h"

/* FLT_MAX and INFINITY come with the language or <float.h>, <math.h>. */
#define LN2 0.693147180559945f
#define LOG2E 1.44269504088896f
#define START_LIMIT (1 << 30)

/* ---- lengths and positions ----------------------------------------------------- */

COLD int score_kv_length(const clt_attn_args *A, GLOBAL const int *lengths,
                         int b) {
  if (A->lengths_dtype == 0) return A->kv_len;
  return load_int(lengths, A->lengths.offset + b * A->lengths.s,
                  A->lengths_dtype, 0, A->kv_len);
}

/* Position of query row 0. */
COLD int score_q_start(const clt_attn_args *A, GLOBAL const int *starts, int b,
                       int kv_length) {
  if (A->starts_dtype != 0)
    return load_int(starts, A->starts.offset + b * A->starts.s, A->starts_dtype,
                    -START_LIMIT, START_LIMIT);
  return A->q_start == CLT_AT_END ? kv_length - A->q_len : A->q_start;
}

/* ---- who sees whom ---------------------------------------------------------------
 * By position alone; masks come on top (mask_bias). p - j cannot overflow:
 * |p| < 2^31 - 1 and 0 <= j < 2^30. */
INLINE vi score_sees(const clt_attn_args *A, int kv_length, vi p, vi j) {
  vi sees = j < VSPLAT_I(kv_length);
  if (A->causal) sees &= j <= p;
  if (A->left != CLT_UNLIMITED) sees &= (p - j) <= VSPLAT_I(A->left);
  if (A->right != CLT_UNLIMITED) sees &= (j - p) <= VSPLAT_I(A->right);
  return sees;
}

/* Keys that any of the positions p_first..p_last may see: [*lo, *hi). */
COLD void score_range(const clt_attn_args *A, int kv_length, int p_first,
                      int p_last, int *lo, int *hi) {
  clt_i64 first = 0, last = (clt_i64)kv_length - 1;
  if (A->causal) last = MIN_OF(last, (clt_i64)p_last);
  if (A->right != CLT_UNLIMITED)
    last = MIN_OF(last, (clt_i64)p_last + A->right);
  if (A->left != CLT_UNLIMITED)
    first = MAX_OF(first, (clt_i64)p_first - A->left);
  *lo = (int)MIN_OF(first, (clt_i64)kv_length);
  *hi = (int)MAX_OF(last + 1, (clt_i64)*lo);
}

/* The other way round: positions that may see any of the keys j_first..j_last,
 * [*lo, *hi). */
INLINE void score_positions(const clt_attn_args *A, int kv_length, int j_first,
                            int j_last, clt_i64 *lo, clt_i64 *hi) {
  *lo = -2 * (clt_i64)START_LIMIT, *hi = 2 * (clt_i64)START_LIMIT;
  if (A->causal) *lo = j_first;
  if (A->right != CLT_UNLIMITED) *lo = MAX_OF(*lo, (clt_i64)j_first - A->right);
  if (A->left != CLT_UNLIMITED) *hi = (clt_i64)j_last + A->left + 1;
  if (j_first >= kv_length) *hi = *lo; /* nobody */
}

/* Whether all positions p_first..p_last see all keys j_first..j_last. */
COLD int score_whole(const clt_attn_args *A, int kv_length, int p_first,
                     int p_last, int j_first, int j_last) {
  return j_last < kv_length && (!A->causal || j_last <= p_first) &&
         (A->left == CLT_UNLIMITED ||
          (clt_i64)p_last - j_first <= (clt_i64)A->left) &&
         (A->right == CLT_UNLIMITED ||
          (clt_i64)j_last - p_first <= (clt_i64)A->right);
}

/* ---- what happens to a score -------------------------------------------------------- */

/* c tanh(s / c) */
INLINE vf score_softcap(const clt_attn_args *A, vf s) {
  return tanh_v(s * A->softcap2_inverse) * A->softcap2;
}

/* The derivative of c tanh(s / c) where its value is y. */
INLINE vf score_softcap_slope(const clt_attn_args *A, vf y) {
  const vf t = y * A->softcap2_inverse;
  return 1.0f - t * t;
}

/* s - slope |p - j|, slope in units of log 2 */
INLINE vf score_alibi(vf s, float slope2, vi p, vi j) {
  vf distance = TO_VF(p - j);
  distance = AS_VF(AS_VI(distance) & 0x7fffffff);
  return s - distance * slope2;
}

/* A score that is not seen leaves the arithmetic here, whatever it was. */
INLINE vf score_hide(vf s, vi sees) {
  return VSELECT(sees, s, VSPLAT(MINUS_INF));
}

/* Lanes c < n are set where a boolean mask hides its element `at + c * stride`. */
INLINE vi mask_hides(const clt_attn_args *A, GLOBAL const clt_u8 *mask,
                     clt_i64 at, clt_i64 stride, int n) {
  vi seen; /* the bytes */
  if (stride == 1 && n == LANES)
    seen = VLOAD_U8(mask + at);
  else if (stride == 0)
    seen = VSPLAT_I(mask[at]);
  else {
    float t[LANES];
    for (int c = 0; c < LANES; c++)
      t[c] = AS_FLOAT(c < n ? mask[at + c * stride] : 0);
    seen = AS_VI(VLOAD(t));
  }
  return A->true_hides ? seen != 0 : seen == 0;
}

/* What masks and the additive mask say of n <= LANES keys from j on for row i:
 * a bias in units of log 2, -inf where the key is hidden. */
INLINE vf mask_bias(const clt_attn_args *A, GLOBAL const clt_u8 *mask,
                    GLOBAL const clt_u8 *key_mask, GLOBAL const float *bias,
                    int b, int h, int i, int j, int n) {
  vf x = VSPLAT(0.0f);
  if (A->bias_dtype != 0) {
    const clt_i64 at = A->bias.offset + b * A->bias.s[0] + h * A->bias.s[1] +
                       i * A->bias.s[2] + j * A->bias.s[3];
    vf raw = A->bias.s[3] == 1 && n == LANES
                 ? load_v(bias, at, A->bias_dtype)
                 : load_n(bias, at, A->bias.s[3], n, A->bias_dtype);
    /* Finite stays finite: a mask of -FLT_MAX weighs down, it does not hide. */
    x = VMIN(VMAX(raw * A->unit, VSPLAT(-FLT_MAX)), VSPLAT(FLT_MAX));
    x = VSELECT(raw - raw == 0.0f, x, raw);
  }
  /* Hides even where the bias is NaN. */
  if (A->has_mask) {
    const clt_i64 at = A->mask.offset + b * A->mask.s[0] + h * A->mask.s[1] +
                       i * A->mask.s[2] + j * A->mask.s[3];
    x = VSELECT(mask_hides(A, mask, at, A->mask.s[3], n), VSPLAT(MINUS_INF), x);
  }
  if (A->has_key_mask) {
    const clt_i64 at =
        A->key_mask.offset + b * A->key_mask.s[0] + j * A->key_mask.s[3];
    x = VSELECT(mask_hides(A, key_mask, at, A->key_mask.s[3], n),
                VSPLAT(MINUS_INF), x);
  }
  return x;
}
INLINE int has_mask_bias(const clt_attn_args *A) {
  return A->bias_dtype != 0 || A->has_mask || A->has_key_mask;
}

/* Adds a mask_bias to scores. */
INLINE vf score_add(vf s, vf bias) {
  return score_hide(s + bias, bias != MINUS_INF);
}

/* ---- dropout: which weights stay (clattn.h has the formula) -------------------------- */

INLINE int drops(const clt_attn_args *A) { return A->drop_below != 0; }

INLINE clt_u32 drop_mix_s(clt_u32 x) {
  x ^= x >> 16;
  x *= 0x7feb352du;
  x ^= x >> 15;
  x *= 0x846ca68bu;
  return x ^ (x >> 16);
}
INLINE vu drop_mix(vu x) {
  x ^= x >> 16;
  x *= 0x7feb352du;
  x ^= x >> 15;
  x *= 0x846ca68bu;
  return x ^ (x >> 16);
}
/* row[0], row[1]: what query rows i of head h contribute to their bits. */
INLINE void drop_rows(const clt_attn_args *A, int b, int h, vi i, vu *row) {
  const clt_u32 more = 0x9e3779b9u;
  clt_u32 key[2];
  for (int n = 0; n < 2; n++)
    key[n] =
        drop_mix_s(drop_mix_s((clt_u32)A->drop_key[n] + (clt_u32)b + more) +
                   (clt_u32)h + more);
  row[0] = drop_mix(AS_VU(i) + key[0]);
  row[1] = drop_mix(AS_VU(i) ^ key[1]);
}
/* 1 / (1 - dropout) where the weights of keys j stay, else 0. */
INLINE vf drop_factor(const clt_attn_args *A, const vu *row, vi j) {
  vu x = AS_VU(j) + row[0];
  x ^= x >> 16;
  x *= 0x7feb352du;
  x ^= x >> 15;
  x ^= row[1];
  x *= 0x846ca68bu;
  x ^= x >> 16;
  return VSELECT(x < (clt_u32)A->drop_below, VSPLAT(0.0f),
                 VSPLAT(A->drop_scale));
}

/* ---- sinks and finished rows ------------------------------------------------------------- */

/* The sink of head h in units of log 2 (it is not divided by temperature);
 * -inf: none. */
INLINE float score_sink(const clt_attn_args *A, GLOBAL const float *sinks,
                        int h) {
  if (!A->has_sinks) return MINUS_INF;
  const float sink = sinks[A->sinks.offset + h * A->sinks.s] * LOG2E;
  return sink > FLT_MAX ? FLT_MAX : sink; /* inf - inf must not arise */
}
INLINE float score_slope(const clt_attn_args *A, GLOBAL const float *slopes,
                         int h) {
  if (!A->has_slopes) return 0.0f;
  return slopes[A->slopes.offset + h * A->slopes.s] * A->unit;
}
/* A running maximum as a subtrahend: -inf - -inf must not arise. */
INLINE float finite_max(float m) { return m == MINUS_INF ? 0.0f : m; }
INLINE vf finite_max_v(vf m) {
  return VSELECT(m == MINUS_INF, VSPLAT(0.0f), m);
}
/* 1 / sum, 0 for a row that saw nothing. */
INLINE float row_inverse(float sum) { return sum == 0.0f ? 0.0f : 1.0f / sum; }
/* Natural log-sum-exp from a maximum in units of log 2 and a sum. */
INLINE float row_lse(float m, float sum) {
  return sum == 0.0f ? MINUS_INF : m * LN2 + LOG(sum);
}

/* A saved log-sum-exp as a subtrahend of scores; 0 for a row that saw nothing,
 * whose scores are all -inf. */
INLINE vf score_lse2_v(vf lse) {
  const vf x = VMIN(VMAX(lse * LOG2E, VSPLAT(-FLT_MAX)), VSPLAT(FLT_MAX));
  return VSELECT(lse == MINUS_INF, VSPLAT(0.0f), VSELECT(lse == lse, x, lse));
}
COLD float score_lse2(float lse) {
  float t[LANES];
  VSTORE(score_lse2_v(VSPLAT(lse)), t);
  return t[0];
}

#endif /* CLT_SCORE_H */
