/* oracle_grad.h - gradients in double precision and the plainest loops, from the
 * formulas in clattn.h, beside what oracle.h computes; no code of src/ or cl/.
 *
 * How far a correct fp32 implementation may be off, with e = 2^-23, n the number
 * of terms, E_j the error of a logit and E = sum_k P_k E_k as in oracle.h, and
 * t = tanh(raw / c). P is recomputed from an fp32 lse, which may be that of
 * another path and so has errors of its own:
 *
 *   P_j   <= P_j (exp(E_j + E + 8 e (1 + |lse| + |x_j|)) - 1) + 2^-63
 *   G_j   <= 2 e (sqrt(Dv) + 8) M sum_d |dO_d V_jd|              G = M dO . V
 *   D     <= sum_d |dO_d| error(O_d) + 2 e (sqrt(Dv) + 8) sum_d |dO_d O_d|,
 *            error(O) with the rounding of the type that out is stored in
 *   dS_j  <= (error(P_j) |G_j - D| + (P_j + error(P_j)) (error(G_j) + error(D))
 *            + 4 e P_j (|G_j| + |D|)) / T
 *   cap_j <= 2 |t| (1 - t^2) y + y^2 + 8 e,   y = error(raw) / c
 *   dX_j  <= |scale| ((|dS| + error(dS)) error(cap) + error(dS) cap
 *            + 4 e |dS| cap)
 *
 * and a sum of a_i b_i, b exact, by sum error(a_i) |b_i| +
 * 2 e (sqrt(n) + 8) sum |a_i b_i|. The rounding of the type that a gradient is
 * stored in comes on top: the caller knows it. */
#ifndef ORACLE_GRAD_H
#define ORACLE_GRAD_H

#include "oracle.h"

typedef struct ora_grad {
  double *v, *tol; /* NULL: what it belongs to is absent */
  int64_t n;
} ora_grad;

typedef struct ora_grads {
  ora_grad q, k, v, bias, sinks; /* of their shapes */
} ora_grads;

/* d_out [B,Hq,Sq,Dv]. */
ora_grads ora_backward(const ora_attention *a, const double *d_out);
void ora_grads_free(ora_grads *g);

/* Of ora_linear: dx [m,k], dw [n,k], db [n], each with its error; any of them
 * may be empty (v NULL). */
typedef struct ora_linear_grads {
  ora_grad x, w, bias;
} ora_linear_grads;
ora_linear_grads ora_linear_backward(int64_t m, int64_t n, int64_t k,
                                     const double *x, const double *w,
                                     const double *dy);
void ora_linear_grads_free(ora_linear_grads *g);

/* Of ora_layer, without tolerances: query [B,L,E], key [B,S,kdim], value
 * [B,S,vdim], the weights, and biases whether the layer has them or not. */
typedef struct ora_layer_grads {
  double *query, *key, *value;
  double *wq, *wk, *wv, *wo, *bq, *bk, *bv, *bo;
  ora_grads core; /* bias and sinks; q, k, v of the heads */
} ora_layer_grads;
ora_layer_grads ora_layer_backward(const ora_mha *m, const double *d_output);
void ora_layer_grads_free(ora_layer_grads *g);

#endif /* ORACLE_GRAD_H */
