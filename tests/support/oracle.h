/* oracle.h - what the library computes, in double precision and the plainest
 * loops, written from the formulas in clattn.h. It shares no code with src/ or
 * cl/ and is no faster than it must be.
 *
 * Beside every value it says how far a correct fp32 implementation may be off.
 * With e = 2^-23, A_j = |scale| sum_d |q_d k_jd| and n the number of keys:
 *
 *   logit      E_j <= 2 e ((sqrt(D) + 8) A_j + softcap + |bias| + ...) / T
 *   P_j        <= P_j (exp(E_j + sum_k P_k E_k) - 1) + 2^-63
 *   O          <= sum_j |v_j| error(P_j) + 2 e (sqrt(n) + 8) sum_j P_j |v_j|
 *   lse        <= sum_k P_k E_k + 8 e (1 + |lse|)
 *
 * (a dot product of length n errs by about e sqrt(n) of its absolute sum; the
 * constants cover exp, tanh and rescaling), plus the rounding u |x| of the type
 * the result is stored in. */
#ifndef ORACLE_H
#define ORACLE_H

#include <stdbool.h>
#include <stdint.h>

/* A dense row-major [a,b,c,d]; an extent of 1 broadcasts. v NULL: absent. */
typedef struct ora_array {
  const double *v;
  int64_t n[4];
} ora_array;

double ora_at(const ora_array *a, int64_t i, int64_t j, int64_t k, int64_t l);

/* How a type rounds: significand bits, exponent of its smallest step. */
typedef struct ora_type {
  int bits, min_step;
  double max;
} ora_type;
extern const ora_type ora_f32, ora_f16, ora_bf16;
/* Nearest even. */
double ora_round(const ora_type *type, double x);
/* Largest rounding error of storing x. */
double ora_rounding(const ora_type *type, double x);

enum { ORA_PROBABILITIES, ORA_SCORES, ORA_CAPPED, ORA_BIASED };
#define ORA_AT_END INT64_MIN

typedef struct ora_attention {
  int64_t batch, q_heads, kv_heads, q_len, kv_len, qk_dim, v_dim;
  double scale, temperature, softcap;
  bool causal, true_hides;
  int64_t left, right;             /* -1: unlimited */
  ora_array q, k, v;               /* [B,Hq,Sq,D] [B,Hk,Skv,D] [B,Hk,Skv,Dv] */
  ora_array mask, key_mask, bias;  /* broadcast to [B,Hq,Sq,Skv] */
  ora_array slopes, sinks;         /* [1,Hq,1,1] */
  const int64_t *lengths, *starts; /* [B] or NULL */
  int64_t q_start;
  double dropout; /* of a float; what stays: see ora_keeps */
  uint64_t dropout_seed, dropout_offset;
  int stage;    /* of weights */
  bool average; /* weights [B,1,Sq,Skv] */
  const ora_type *out_type, *weights_type;
} ora_attention;

typedef struct ora_result {      /* *_tol: the largest correct error */
  double *out, *out_tol;         /* [B,Hq,Sq,Dv] */
  double *lse, *lse_tol;         /* [B,Hq,Sq] */
  double *weights, *weights_tol; /* [B,Hq|1,Sq,Skv] */
} ora_result;

ora_result ora_attend(const ora_attention *a);
void ora_result_free(ora_result *r);
/* Whether row i of (b, h) sees key j. */
bool ora_sees(const ora_attention *a, int64_t b, int64_t h, int64_t i,
              int64_t j);
/* Whether dropout leaves its weight, by the hash of clattn.h. */
bool ora_keeps(const ora_attention *a, int64_t b, int64_t h, int64_t i,
               int64_t j);

/* One key of one row. */
typedef struct ora_key {
  bool seen;
  double raw, capped, biased; /* the stages of the score   */
  double raw_tol, biased_tol; /* their errors              */
  double x, e, p, p_tol;      /* logit, its error, P, its error */
  double factor;              /* of dropout: 0 or 1 / (1 - dropout) */
} ora_key;

/* What the keys of one row have in common. */
typedef struct ora_row {
  double lse, e_mean; /* e_mean: sum_k P_k E_k, the error of lse but for its
                       * own rounding */
  double sink;        /* probability of the sink, 0 without one */
  bool alive;         /* sees a key */
} ora_row;

/* Row i of (b, h): fills keys [kv_len]. */
ora_row ora_scores(const ora_attention *a, int64_t b, int64_t h, int64_t i,
                   ora_key *keys);

/* y[m,n] = x[m,k] w[n,k]^T + bias[n], bias NULL: none; tol may be NULL. */
void ora_linear(int64_t m, int64_t n, int64_t k, const double *x,
                const double *w, const double *bias, double *y, double *tol);

/* One row: y[d] = rotary(x[d]) with the table row cos, sin [r/2]. */
void ora_rotary(int64_t d, int64_t r, bool interleaved, const double *x,
                const double *cos, const double *sin, double *y, double *tol);

/* Rotary of all heads: row q_rows[b * L + i] of the tables [., r/2] for query i,
 * k_rows[b * S + j] for key j. */
typedef struct ora_turns {
  int64_t r;
  bool interleaved;
  const double *cos, *sin;
  const int64_t *q_rows, *k_rows;
} ora_turns;
/* x [batch,heads,rows,d] in place; back: with the transposed matrices. */
void ora_turn_heads(const ora_turns *t, const int64_t *table_rows,
                    int64_t batch, int64_t heads, int64_t rows, int64_t d,
                    double *x, bool back);

/* The layer. query [B,L,E], key [B,S,kdim], value [B,S,vdim]; weights (out,in);
 * biases may be NULL; core: everything but the sizes, q, k and v. Returns
 * output [B,L,out_dim] to be freed; weights like ora_result, NULL: unwanted. */
typedef struct ora_mha {
  int64_t embed, kdim, vdim, out_dim, head_dim;
  const double *query, *key, *value;
  const double *wq, *wk, *wv, *wo, *bq, *bk, *bv, *bo;
  ora_attention core;     /* with batch, heads, q_len, kv_len filled in */
  const ora_turns *turns; /* of projected queries and keys; may be NULL */
} ora_mha;
double *ora_layer(const ora_mha *m, double **weights);

#endif /* ORACLE_H */
