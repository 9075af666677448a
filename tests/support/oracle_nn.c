/* oracle_nn.c - see oracle_nn.h. */
#include "oracle_nn.h"

#include <math.h>

void onn_layer_norm(int64_t M, int64_t D, const double *x, const double *weight,
                    const double *bias, double eps, double *out, double *mean,
                    double *rstd) {
  for (int64_t m = 0; m < M; m++) {
    const double *row = x + m * D;
    double sum = 0, squares = 0;
    for (int64_t d = 0; d < D; d++) sum += row[d];
    mean[m] = sum / (double)D;
    for (int64_t d = 0; d < D; d++)
      squares += (row[d] - mean[m]) * (row[d] - mean[m]);
    rstd[m] = 1 / sqrt(squares / (double)D + eps);
    for (int64_t d = 0; d < D; d++)
      out[m * D + d] = (row[d] - mean[m]) * rstd[m] * (weight ? weight[d] : 1) +
                       (bias ? bias[d] : 0);
  }
}

void onn_rms_norm(int64_t M, int64_t D, const double *x, const double *weight,
                  double eps, double *out, double *rms) {
  for (int64_t m = 0; m < M; m++) {
    double squares = 0;
    for (int64_t d = 0; d < D; d++) squares += x[m * D + d] * x[m * D + d];
    rms[m] = 1 / sqrt(squares / (double)D + eps);
    for (int64_t d = 0; d < D; d++)
      out[m * D + d] = x[m * D + d] * rms[m] * (weight ? weight[d] : 1);
  }
}

double onn_swiglu(double gate, double up) {
  return gate / (1 + exp(-gate)) * up;
}

double onn_gelu(bool by_tanh, double x) {
  const double pi = 3.14159265358979323846;
  if (by_tanh) /* (1 + tanh w) / 2, which for w < 0 would cancel */
    return x / (1 + exp(-2 * sqrt(2 / pi) * (x + 0.044715 * x * x * x)));
  return x / 2 * erfc(-x / sqrt(2));
}

void onn_cross_entropy(int64_t M, int64_t V, const double *logits,
                       const double *targets, double *losses, double *lse,
                       double mean[2]) {
  double total = 0, number = 0;
  for (int64_t m = 0; m < M; m++) {
    const double *row = logits + m * V;
    double top = -INFINITY, sum = 0;
    for (int64_t v = 0; v < V; v++) top = fmax(top, row[v]);
    for (int64_t v = 0; v < V; v++) sum += exp(row[v] - top);
    lse[m] = top + log(sum);
    const double t = targets[m];
    losses[m] = t == -100                 ? 0
                : t < 0 || t >= (double)V ? NAN
                                          : lse[m] - row[(int64_t)t];
    if (t == -100) continue;
    total += losses[m];
    number++;
  }
  mean[0] = total / number;
  mean[1] = number;
}

double onn_norm(int64_t n, const double *x) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += x[i] * x[i];
  return sqrt(sum);
}

void onn_adamw(int64_t n, const onn_adamw_numbers *a, const double *grad,
               double *param, double *m, double *v) {
  const double clip = a->norm < 0 ? 1 : fmin(1, a->max_norm / (a->norm + 1e-6));
  for (int64_t i = 0; i < n; i++) {
    const double g = grad[i] * clip;
    param[i] -= a->lr * a->weight_decay * param[i];
    m[i] = a->beta1 * m[i] + (1 - a->beta1) * g;
    v[i] = a->beta2 * v[i] + (1 - a->beta2) * g * g;
    param[i] -= a->lr * (m[i] / (1 - pow(a->beta1, a->step))) /
                (sqrt(v[i] / (1 - pow(a->beta2, a->step))) + a->eps);
  }
}

void onn_gradient(onn_scalar f, const void *user, int64_t n, double *x,
                  double *gradient) {
  for (int64_t i = 0; i < n; i++) {
    const double was = x[i], h = 1e-5;
    x[i] = was + h;
    const double above = f(user);
    x[i] = was - h;
    gradient[i] = (above - f(user)) / (2 * h);
    x[i] = was;
  }
}
