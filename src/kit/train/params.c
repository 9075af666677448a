/* params.c - parameters: where they lie, how they begin. */
#include "params.h"

#include <stdlib.h>

enum { LINE = 16 }; /* tensors begin at multiples: 64 bytes */

clattn_status kit_params_begin(kit_params *params, clattn_context *context,
                               int device, size_t count) {
  *params = (kit_params){.context = context, .device = device, .count = count};
  params->list = calloc(count, sizeof *params->list);
  return params->list == NULL ? KIT_OUT_OF_MEMORY("parameters") : CLATTN_OK;
}

void kit_param_set(kit_param *param, const char *name, int64_t rows,
                   int64_t columns, float start) {
  snprintf(param->name, sizeof param->name, "%s", name);
  param->rank = columns > 0 ? 2 : 1;
  param->extent[0] = rows;
  param->extent[1] = columns;
  param->start = start;
}

int64_t kit_param_elements(const kit_param *param) {
  return param->extent[0] * (param->rank == 2 ? param->extent[1] : 1);
}

clattn_status kit_params_place(kit_params *params) {
  for (int rank = 2; rank >= 1; rank--) {
    for (size_t i = 0; i < params->count; i++) {
      kit_param *param = &params->list[i];
      if (param->rank != rank) continue;
      const int64_t n = kit_param_elements(param);
      param->offset = params->elements;
      params->total += n;
      params->elements += (n + LINE - 1) / LINE * LINE;
      KIT_REQUIRE(params->elements < INT64_MAX / 64,
                  "config: its parameters overflow the size of memory");
    }
    if (rank == 2) params->decayed = params->elements;
  }
  return clattn_buffer_create(params->context, params->device,
                              (size_t)params->elements * sizeof(float),
                              &params->values);
}

void kit_params_free(kit_params *params) {
  clattn_buffer_destroy(params->values);
  free(params->list);
  *params = (kit_params){0};
}

clattn_tensor kit_params_view(const kit_params *params, clattn_buffer *buffer,
                              size_t i) {
  const kit_param *param = &params->list[i];
  clattn_tensor view =
      clattn_view(buffer, CLATTN_F32, param->rank, param->extent);
  view.offset = param->offset;
  return view;
}

clattn_tensor kit_params_all(const kit_params *params, clattn_buffer *buffer) {
  return clattn_view(buffer, CLATTN_F32, 1, &params->elements);
}

clattn_status kit_params_buffer(const kit_params *params, clattn_queue *queue,
                                clattn_buffer **buffer) {
  KIT_TRY(clattn_buffer_create(params->context, params->device,
                               (size_t)params->elements * sizeof(float),
                               buffer));
  const clattn_tensor all = kit_params_all(params, *buffer);
  return clattn_nn_fill(queue, &all, 0, NULL, 0, NULL);
}

clattn_status kit_params_draw(const kit_params *params, clattn_queue *queue,
                              uint32_t seed) {
  float *values = calloc((size_t)params->elements, sizeof *values);
  if (values == NULL) return KIT_OUT_OF_MEMORY("parameters");
  clattn_kit_rng rng;
  clattn_kit_rng_init(&rng, seed);
  for (size_t i = 0; i < params->count; i++) {
    const kit_param *param = &params->list[i];
    float *at = values + param->offset;
    const int64_t n = kit_param_elements(param);
    if (param->rank == 2) clattn_kit_rng_normal(&rng, (size_t)n, at);
    for (int64_t j = 0; j < n; j++)
      at[j] = param->rank == 2 ? at[j] * param->start : param->start;
  }
  const clattn_status status =
      clattn_buffer_write(queue, params->values, 0, values,
                          (size_t)params->elements * sizeof *values);
  free(values);
  return status;
}

static clattn_status check_index(const kit_params *params, size_t i) {
  KIT_REQUIRE(i < params->count, "i: got %zu, want 0..%zu", i,
              params->count - 1);
  return CLATTN_OK;
}

clattn_status kit_params_at(const kit_params *params, size_t i,
                            clattn_gpt_tensor *tensor) {
  KIT_TRY(check_index(params, i));
  KIT_REQUIRE(tensor != NULL, "tensor: got NULL, want a place");
  const kit_param *param = &params->list[i];
  *tensor =
      (clattn_gpt_tensor){.name = param->name,
                          .rank = param->rank,
                          .extent = {param->extent[0], param->extent[1]},
                          .view = kit_params_view(params, params->values, i)};
  return CLATTN_OK;
}

clattn_status kit_params_read(const kit_params *params, clattn_queue *queue,
                              const clattn_buffer *buffer, size_t i,
                              float *values) {
  KIT_TRY(check_index(params, i));
  const kit_param *param = &params->list[i];
  return clattn_buffer_read(queue, buffer,
                            (size_t)param->offset * sizeof *values, values,
                            (size_t)kit_param_elements(param) * sizeof *values);
}

clattn_status kit_params_write(const kit_params *params, clattn_queue *queue,
                               clattn_buffer *buffer, size_t i,
                               const float *values) {
  KIT_TRY(check_index(params, i));
  const kit_param *param = &params->list[i];
  return clattn_buffer_write(
      queue, buffer, (size_t)param->offset * sizeof *values, values,
      (size_t)kit_param_elements(param) * sizeof *values);
}
