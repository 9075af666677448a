/* stack_check.c - where NaN or infinity came from, once there is one. */
#include <math.h>
#include <stdlib.h>

#include "stack.h"

/* Whether n numbers from `first` on are finite; if not, *bad is the first. */
static clattn_status all_finite(clattn_queue *queue,
                                const clattn_buffer *buffer, int64_t first,
                                int64_t n, bool *finite, float *bad) {
  float *values = malloc((size_t)n * sizeof *values);
  if (values == NULL) return KIT_OUT_OF_MEMORY("activations");
  const clattn_status status =
      clattn_buffer_read(queue, buffer, (size_t)first * sizeof *values, values,
                         (size_t)n * sizeof *values);
  *finite = true;
  for (int64_t i = 0; status == CLATTN_OK && *finite && i < n; i++)
    if (!isfinite(values[i])) {
      *finite = false;
      *bad = values[i];
    }
  free(values);
  return status;
}

typedef struct place {
  char text[128]; /* "" while nothing is found */
  float value;
} place;

/* Tensors of a buffer laid out as the parameters, from the first or the last. */
static clattn_status look_at_tensors(const kit_params *params,
                                     clattn_queue *queue,
                                     const clattn_buffer *buffer,
                                     const char *what, bool from_last,
                                     place *found) {
  for (size_t i = 0; i < params->count && found->text[0] == '\0'; i++) {
    const kit_param *param =
        &params->list[from_last ? params->count - 1 - i : i];
    bool finite;
    KIT_TRY(all_finite(queue, buffer, param->offset, kit_param_elements(param),
                       &finite, &found->value));
    if (!finite)
      snprintf(found->text, sizeof found->text, "%s %s", what, param->name);
  }
  return CLATTN_OK;
}

static clattn_status look_at_act(const kit_pass *pass, clattn_queue *queue,
                                 stack_act act, int64_t layer, place *found) {
  if (found->text[0] != '\0' || act == ACT_BRANCH || pass->acts[act] == NULL)
    return CLATTN_OK;
  const kit_stack *stack = pass->stack;
  const clattn_tensor view = kit_act_view(pass, act, layer);
  bool finite;
  KIT_TRY(all_finite(queue, view.buffer, view.offset,
                     view.extent[0] * view.extent[2] * view.extent[3], &finite,
                     &found->value));
  if (finite) return CLATTN_OK;
  if (kit_act_of_layer(act) && layer < stack->layers)
    snprintf(found->text, sizeof found->text, "the activation %sh.%d.%s",
             stack->prefix, (int)layer, kit_act_name(act));
  else
    snprintf(found->text, sizeof found->text, "the activation %s%s",
             stack->prefix,
             act == ACT_X ? "behind the last layer" : kit_act_name(act));
  return CLATTN_OK;
}

/* In the order in which they were computed. */
static clattn_status look_at_acts(const kit_pass *pass, clattn_queue *queue,
                                  place *found) {
  const int64_t layers = pass->stack->layers;
  for (int64_t l = 0; l < layers; l++)
    for (int act = ACT_X; act < ACT_BRANCH; act++)
      KIT_TRY(look_at_act(pass, queue, act, l, found));
  KIT_TRY(look_at_act(pass, queue, ACT_X, layers, found));
  for (int act = ACT_LNF; act <= ACT_LOSSES; act++)
    KIT_TRY(look_at_act(pass, queue, act, 0, found));
  return CLATTN_OK;
}

clattn_status kit_not_finite(const kit_pass *const *passes, size_t n_passes,
                             clattn_queue *queue, const clattn_buffer *grads,
                             int64_t step, const char *what, float value) {
  const kit_params *params = passes[0]->stack->params;
  place found = {.text = ""};
  KIT_TRY(look_at_tensors(params, queue, params->values, "the parameter", false,
                          &found));
  /* With gradients the logits are overwritten, and the loss was finite. */
  for (size_t i = 0; grads == NULL && i < n_passes; i++)
    KIT_TRY(look_at_acts(passes[i], queue, &found));
  if (grads != NULL)
    KIT_TRY(
        look_at_tensors(params, queue, grads, "the gradient of", true, &found));
  if (found.text[0] == '\0')
    return clattn_set_error(CLATTN_INVALID_ARGUMENT,
                            "step %lld: the %s is %g, though all it is made of "
                            "is finite",
                            (long long)step, what, (double)value);
  return clattn_set_error(CLATTN_INVALID_ARGUMENT,
                          "step %lld: the %s is %g; the first tensor with such "
                          "numbers is %s (%g)",
                          (long long)step, what, (double)value, found.text,
                          (double)found.value);
}
