/* steps.c - how work is cut into units. Only speed depends on the numbers here,
 * except where a comment says so. */
#include "nn.h"

/* Elements of a unit of the kernels for CPUs, about. */
enum { UNIT = 4096 };

void clt_nn_bind(clt_nn_step *step, int i, const clattn_tensor *t) {
  if (!t || !t->buffer) return;
  step->args.view[i] = clt_view_of(t);
  step->args.view[i].s[3] = t->extent[3] == 1 ? 1 : t->stride[3];
  step->args.has |= 1 << i;
  step->buffers[i] = clt_ref_of(t);
}

void clt_nn_bind_scratch(clt_nn_step *step, int i) {
  step->buffers[i] = clt_ref_scratch();
}

/* Whether dimension `outer` of every bound tensor goes on where `inner` ends. */
static bool goes_on(const clt_nn_step *step, int outer, int inner,
                    int64_t extent) {
  for (int i = 0; i < CLT_NN_BUFFERS; i++) {
    const clt_view *view = &step->args.view[i];
    if ((step->args.has >> i & 1) != 0 &&
        view->s[outer] != extent * view->s[inner])
      return false;
  }
  return true;
}

void clt_nn_elements(clt_nn_step *step, bool tile, const int64_t extent[4]) {
  clt_nn_args *a = &step->args;
  int64_t e[4] = {extent[0], extent[1], extent[2], extent[3]};
  /* What lies in one piece becomes one long row. */
  for (int outer = 2, inner = 3; outer >= 0; outer--) {
    if (e[outer] == 1) continue;
    if (goes_on(step, outer, inner, e[inner])) {
      e[inner] *= e[outer];
      e[outer] = 1;
    } else {
      inner = outer;
    }
  }
  for (int i = 0; i < 3; i++) a->extent[i] = e[i];
  a->dim = e[3];
  a->rows = e[0] * e[1] * e[2];
  a->chunk = tile ? 1 : a->dim < UNIT ? a->dim : UNIT;
  a->across = (a->dim + a->chunk - 1) / a->chunk;
  a->row_chunk = tile || a->dim >= UNIT ? 1 : UNIT / a->dim;
  a->units = a->across * ((a->rows + a->row_chunk - 1) / a->row_chunk);
}

void clt_nn_rows(clt_nn_step *step, bool tile, const clattn_tensor *t) {
  clt_nn_args *a = &step->args;
  for (int i = 0; i < 3; i++) a->extent[i] = t->extent[i];
  a->dim = t->extent[3];
  a->rows = t->extent[0] * t->extent[1] * t->extent[2];
  a->row_chunk = tile || a->dim >= UNIT ? 1 : UNIT / a->dim;
  a->units = (a->rows + a->row_chunk - 1) / a->row_chunk;
}
