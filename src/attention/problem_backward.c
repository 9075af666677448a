/* problem_backward.c - the arguments of clattn_backward. */
#include "problem.h"

void clattn_grads_init(clattn_grads *grads) {
  if (!grads) return;
  *grads = (clattn_grads){.struct_size = sizeof *grads};
}

/* A gradient has the extents of what it belongs to. */
typedef struct pair {
  const clattn_tensor *grad, *of;
  const char *name, *of_name;
  clt_grad *to;
} pair;

/* What is written meets nothing that is read, nor what else is written. */
static clattn_status check_overlap(const clattn_args *a, const pair *outputs,
                                   size_t n, const clattn_grads *grads) {
  const struct {
    const clattn_tensor *t;
    const char *name;
  } inputs[] = {{&a->q, "args->q"},
                {&a->k, "args->k"},
                {&a->v, "args->v"},
                {&a->out, "args->out"},
                {&a->lse, "args->lse"},
                {&a->mask, "args->mask"},
                {&a->key_mask, "args->key_mask"},
                {&a->bias, "args->bias"},
                {&a->kv_lengths, "args->kv_lengths"},
                {&a->q_starts, "args->q_starts"},
                {&a->alibi_slopes, "args->alibi_slopes"},
                {&a->sinks, "args->sinks"},
                {&grads->d_out, "grads->d_out"}};
  for (size_t o = 0; o < n; o++) {
    for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++)
      CLT_TRY(clt_tensor_disjoint(outputs[o].grad, outputs[o].name, inputs[i].t,
                                  inputs[i].name));
    for (size_t other = o + 1; other < n; other++)
      CLT_TRY(clt_tensor_disjoint(outputs[o].grad, outputs[o].name,
                                  outputs[other].grad, outputs[other].name));
  }
  return CLATTN_OK;
}

static clt_grad grad_of(const clattn_tensor *t, bool add) {
  clt_grad grad = {.view = clt_view_of(t),
                   .ref = clt_ref_of(t),
                   .dtype = t->buffer ? (clt_i32)t->dtype : 0,
                   .add = add};
  return grad;
}

clattn_status clt_problem_init_backward(clt_problem *problem,
                                        const clattn_desc *desc,
                                        const clt_device *device,
                                        const clattn_args *args,
                                        const clattn_grads *grads) {
  CLT_REQUIRE_STRUCT(grads, clattn_grads);
  CLT_REQUIRE_STRUCT(args, clattn_args);
  CLT_TRY(clt_accumulate_check(grads->accumulate));
  clattn_desc d = *desc;
  d.outputs = CLATTN_OUT_LSE;
  clattn_args a = *args;
  a.weights = (clattn_tensor){0};
  CLT_TRY(clt_problem_init(problem, &d, device, &a));

  const clt_want d_out = {.name = "grads->d_out",
                          .dtypes = 1u << desc->dtype | 1u << CLATTN_F32,
                          .extent = {a.out.extent[0], a.out.extent[1],
                                     a.out.extent[2], a.out.extent[3]}};
  CLT_TRY(clt_tensor_check(device, &grads->d_out, &d_out));
  const pair outputs[] = {
      {&grads->d_q, &a.q, "grads->d_q", "args->q", &problem->d_q},
      {&grads->d_k, &a.k, "grads->d_k", "args->k", &problem->d_k},
      {&grads->d_v, &a.v, "grads->d_v", "args->v", &problem->d_v},
      {&grads->d_bias, &a.bias, "grads->d_bias", "args->bias",
       &problem->d_bias},
      {&grads->d_sinks, &a.sinks, "grads->d_sinks", "args->sinks",
       &problem->d_sinks}};
  const size_t n = sizeof outputs / sizeof *outputs;
  for (size_t i = 0; i < n; i++)
    CLT_TRY(clt_grad_check(device, outputs[i].grad, outputs[i].name,
                           outputs[i].of, outputs[i].of_name));
  CLT_TRY(check_overlap(&a, outputs, n, grads));

  for (size_t i = 0; i < n; i++)
    *outputs[i].to =
        grad_of(outputs[i].grad,
                grads->accumulate & (i < 3 ? (unsigned)CLATTN_ADD_TO_INPUTS
                                           : (unsigned)CLATTN_ADD_TO_WEIGHTS));
  /* A row of one number is dense; of a bias it is an axis that is summed. */
  for (int i = 0; i < 3; i++)
    if (outputs[i].grad->extent[3] == 1) outputs[i].to->view.s[3] = 1;
  problem->d_out = grad_of(&grads->d_out, false);
  if (grads->d_out.extent[3] == 1) problem->d_out.view.s[3] = 1;
  problem->args.grad_dtype = problem->d_out.dtype;
  return CLATTN_OK;
}
