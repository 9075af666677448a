/* stack.c - the tensors of a stack: their names, shapes and places. */
#include "stack.h"

#include <math.h>

static size_t per_layer(const kit_stack *stack) {
  return stack->memory ? STACK_LAYER_TENSORS : STACK_LNX_W;
}

size_t kit_stack_tensor(const kit_stack *stack, int64_t layer, int which) {
  return stack->first + (size_t)layer * per_layer(stack) + (size_t)which;
}

size_t kit_stack_last_norm(const kit_stack *stack) {
  return kit_stack_tensor(stack, stack->layers, 0);
}

size_t kit_stack_tensors(const kit_stack *stack) {
  return (size_t)stack->layers * per_layer(stack) + 2;
}

void kit_stack_name(const kit_stack *stack, kit_params *params,
                    float deviation) {
  const int64_t E = stack->embed_dim;
  const float branches = stack->memory ? 3 : 2;
  const float small = deviation * (1 / sqrtf(branches * (float)stack->layers));
  const struct {
    const char *name;
    int64_t rows, cols; /* cols 0: a vector */
    float start;
  } parts[STACK_LAYER_TENSORS] = {
      [STACK_LN1_W] = {"ln_1.weight", E, 0, 1},
      [STACK_LN1_B] = {"ln_1.bias", E, 0, 0},
      [STACK_ATTN_W] = {"attn.c_attn.weight", 3 * E, E, deviation},
      [STACK_ATTN_B] = {"attn.c_attn.bias", 3 * E, 0, 0},
      [STACK_PROJ_W] = {"attn.c_proj.weight", E, E, small},
      [STACK_PROJ_B] = {"attn.c_proj.bias", E, 0, 0},
      [STACK_LN2_W] = {"ln_2.weight", E, 0, 1},
      [STACK_LN2_B] = {"ln_2.bias", E, 0, 0},
      [STACK_FC_W] = {"mlp.c_fc.weight", 4 * E, E, deviation},
      [STACK_FC_B] = {"mlp.c_fc.bias", 4 * E, 0, 0},
      [STACK_OUT_W] = {"mlp.c_proj.weight", E, 4 * E, small},
      [STACK_OUT_B] = {"mlp.c_proj.bias", E, 0, 0},
      [STACK_LNX_W] = {"ln_x.weight", E, 0, 1},
      [STACK_LNX_B] = {"ln_x.bias", E, 0, 0},
      [STACK_CROSS_W] = {"cross.c_attn.weight", 3 * E, E, deviation},
      [STACK_CROSS_B] = {"cross.c_attn.bias", 3 * E, 0, 0},
      [STACK_CROSS_PROJ_W] = {"cross.c_proj.weight", E, E, small},
      [STACK_CROSS_PROJ_B] = {"cross.c_proj.bias", E, 0, 0},
  };
  char name[KIT_PARAM_CHARS];
  for (int64_t l = 0; l < stack->layers; l++)
    for (int i = 0; i < (int)per_layer(stack); i++) {
      snprintf(name, sizeof name, "%sh.%d.%s", stack->prefix, (int)l,
               parts[i].name);
      kit_param_set(&params->list[kit_stack_tensor(stack, l, i)], name,
                    parts[i].rows, parts[i].cols, parts[i].start);
    }
  kit_param *last = &params->list[kit_stack_last_norm(stack)];
  snprintf(name, sizeof name, "%sln_f.weight", stack->prefix);
  kit_param_set(&last[0], name, E, 0, 1);
  snprintf(name, sizeof name, "%sln_f.bias", stack->prefix);
  kit_param_set(&last[1], name, E, 0, 0);
}

/* Part i of three equal ones, along dimension dim. */
static clattn_tensor third(clattn_tensor view, int dim, int i) {
  view.extent[dim] /= 3;
  view.offset += i * view.extent[dim] * view.stride[dim];
  return view;
}

void kit_stack_attention(const kit_stack *stack, clattn_buffer *buffer,
                         int64_t layer, int which,
                         clattn_mha_weights *weights) {
  const size_t first = kit_stack_tensor(stack, layer, which);
  const clattn_tensor w = kit_params_view(stack->params, buffer, first);
  const clattn_tensor b = kit_params_view(stack->params, buffer, first + 1);
  clattn_tensor *const w_parts[] = {&weights->q_weight, &weights->k_weight,
                                    &weights->v_weight};
  clattn_tensor *const b_parts[] = {&weights->q_bias, &weights->k_bias,
                                    &weights->v_bias};
  for (int i = 0; i < 3; i++) {
    *w_parts[i] = third(w, 2, i);
    *b_parts[i] = third(b, 3, i);
  }
  weights->o_weight = kit_params_view(stack->params, buffer, first + 2);
  weights->o_bias = kit_params_view(stack->params, buffer, first + 3);
}
