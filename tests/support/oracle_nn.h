/* oracle_nn.h - the layers around attention in double precision, as plain loops
 * written from the formulas of clattn_nn.h; gradients are central differences. */
#ifndef ORACLE_NN_H
#define ORACLE_NN_H

#include <stdbool.h>
#include <stdint.h>

/* x, out [M,D]; weight, bias [D] or NULL; mean, rstd [M]. */
void onn_layer_norm(int64_t M, int64_t D, const double *x, const double *weight,
                    const double *bias, double eps, double *out, double *mean,
                    double *rstd);
/* The same without mean and bias; rms [M]. */
void onn_rms_norm(int64_t M, int64_t D, const double *x, const double *weight,
                  double eps, double *out, double *rms);
/* gate / (1 + exp(-gate)) up */
double onn_swiglu(double gate, double up);
double onn_gelu(bool by_tanh, double x);
/* logits [M,V], targets, losses, lse [M]; mean: of the losses, their number. */
void onn_cross_entropy(int64_t M, int64_t V, const double *logits,
                       const double *targets, double *losses, double *lse,
                       double mean[2]);
double onn_norm(int64_t n, const double *x);

typedef struct onn_adamw_numbers {
  double lr, beta1, beta2, eps, weight_decay, max_norm;
  double norm; /* < 0: none */
  int step;
} onn_adamw_numbers;
void onn_adamw(int64_t n, const onn_adamw_numbers *a, const double *grad,
               double *param, double *m, double *v);

/* gradient[i] = (f(x + h e_i) - f(x - h e_i)) / 2h; x is changed and restored. */
typedef double (*onn_scalar)(const void *user);
void onn_gradient(onn_scalar f, const void *user, int64_t n, double *x,
                  double *gradient);

#endif /* ORACLE_NN_H */
