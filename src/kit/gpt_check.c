/* gpt_check.c - where NaN or infinity came from, once there is one. */
#include <math.h>
#include <stdlib.h>

#include "gpt.h"

/* Whether n numbers from `first` on are finite; if not, *bad is the first. */
static clattn_status all_finite(clattn_queue *queue,
                                const clattn_buffer *buffer, int64_t first,
                                int64_t n, bool *finite, float *bad) {
  float *values = malloc((size_t)n * sizeof *values);
  if (values == NULL) return KIT_OUT_OF_MEMORY("gpt");
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
static clattn_status look_at_tensors(const clattn_gpt *gpt, clattn_queue *queue,
                                     const clattn_buffer *buffer,
                                     const char *what, bool from_last,
                                     place *found) {
  for (size_t i = 0; i < gpt->n_tensors && found->text[0] == '\0'; i++) {
    const gpt_tensor *tensor =
        &gpt->tensors[from_last ? gpt->n_tensors - 1 - i : i];
    bool finite;
    KIT_TRY(all_finite(queue, buffer, tensor->offset, gpt_elements(tensor),
                       &finite, &found->value));
    if (!finite)
      snprintf(found->text, sizeof found->text, "%s %s", what, tensor->name);
  }
  return CLATTN_OK;
}

static clattn_status look_at_act(const gpt_pass *pass, clattn_queue *queue,
                                 gpt_act act, int64_t layer, place *found) {
  if (found->text[0] != '\0' || act == GPT_BRANCH) return CLATTN_OK;
  const clattn_tensor view = gpt_act_view(pass, act, layer);
  bool finite;
  KIT_TRY(all_finite(queue, view.buffer, view.offset,
                     view.extent[0] * view.extent[2] * view.extent[3], &finite,
                     &found->value));
  if (finite) return CLATTN_OK;
  if (gpt_act_of_layer(act) && layer < pass->gpt->config.layers)
    snprintf(found->text, sizeof found->text, "the activation h.%d.%s",
             (int)layer, gpt_act_name(act));
  else
    snprintf(found->text, sizeof found->text, "the activation %s",
             act == GPT_X ? "behind the last layer" : gpt_act_name(act));
  return CLATTN_OK;
}

/* In the order in which they were computed. */
static clattn_status look_at_acts(const gpt_pass *pass, clattn_queue *queue,
                                  place *found) {
  const int64_t layers = pass->gpt->config.layers;
  for (int64_t l = 0; l < layers; l++)
    for (int act = GPT_X; act < GPT_BRANCH; act++)
      KIT_TRY(look_at_act(pass, queue, act, l, found));
  KIT_TRY(look_at_act(pass, queue, GPT_X, layers, found));
  for (int act = GPT_LNF; act <= GPT_LOSSES; act++)
    KIT_TRY(look_at_act(pass, queue, act, 0, found));
  return CLATTN_OK;
}

clattn_status gpt_not_finite(const gpt_pass *pass, clattn_queue *queue,
                             const gpt_grads *grads, int64_t step,
                             const char *what, float value) {
  const clattn_gpt *gpt = pass->gpt;
  place found = {.text = ""};
  KIT_TRY(
      look_at_tensors(gpt, queue, gpt->values, "the parameter", false, &found));
  /* With gradients the logits are overwritten, and the loss was finite. */
  if (grads == NULL)
    KIT_TRY(look_at_acts(pass, queue, &found));
  else
    KIT_TRY(look_at_tensors(gpt, queue, grads->params, "the gradient of", true,
                            &found));
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
