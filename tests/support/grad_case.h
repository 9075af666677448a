/* grad_case.h - one test of attention's gradients as a value, and how to run it
 * anywhere. Zero is the default of every field, as in attn_case.h. */
#ifndef GRAD_CASE_H
#define GRAD_CASE_H

#include "attn_case.h"
#include "oracle_grad.h"

enum { GRAD_Q, GRAD_K, GRAD_V, GRAD_BIAS, GRAD_SINKS, GRADS };
extern const char *const grad_name[GRADS];

typedef struct grad_case {
  attn_case attn;           /* backward is on                              */
  clattn_dtype d_out;       /* 0: the desc's                               */
  clattn_dtype type[GRADS]; /* 0: of what it belongs to                    */
  bool absent[GRADS];
  th_layout d_out_layout, layout; /* layout: of the gradients              */
  uint32_t accumulate;
  double size;     /* d_out is in +-size; 0: 1                    */
  bool poison_out; /* NaN and Inf in d_out of rows that see no key    */
} grad_case;

typedef struct grad_problem {
  grad_case c;
  attn_problem attn;
  th_tensor d_out, d[GRADS];
  double *want[GRADS], *tol[GRADS]; /* NULL: absent */
} grad_problem;

void grad_problem_init(grad_problem *p, const grad_case *c, uint64_t seed);
void grad_problem_free(grad_problem *p);
/* Forward, then backward twice, which must give the same bits; compares outputs
 * and gradients, checks canaries, and that inputs are what they were. got, where
 * not NULL, receives the gradients (owned by the problem). */
tc_result grad_problem_run(grad_problem *p, const th_device *device,
                           clattn_path path, double *got[GRADS], char *message,
                           size_t room);
/* Binds what clattn_backward takes beside args; unbind after use. */
void grad_problem_bind(grad_problem *p, const th_device *device,
                       clattn_grads *grads);
void grad_problem_unbind(grad_problem *p);
void grad_case_print(const grad_case *c, char *text, size_t room);
/* A random point of the whole feature space. */
grad_case grad_case_random(th_rng *rng);

/* Runs cases on every device and path; counts and prints failures. */
void grad_run_all(const th_devices *devices, const grad_case *cases, int n,
                  uint64_t seed, tc_tally *tally);

#endif /* GRAD_CASE_H */
