/* model_tensors.c - which tensors a model has: names in files, shapes. */
#include <string.h>

#include "model.h"

/* ---- shapes -------------------------------------------------------------- */

typedef enum model_size {
  MODEL_SIZE_NONE,
  MODEL_SIZE_V,  /* vocabulary */
  MODEL_SIZE_P,  /* positions in the table */
  MODEL_SIZE_T,  /* types */
  MODEL_SIZE_E,  /* columns of what flows through */
  MODEL_SIZE_F,  /* columns in the middle of the mlp */
  MODEL_SIZE_Q,  /* rows of all query heads */
  MODEL_SIZE_KV, /* rows of all key heads */
  MODEL_SIZE_QKV
} model_size;

static int64_t size_of(const model_spec *spec, model_size size) {
  const clattn_model_config *c = &spec->config;
  const int64_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
  const int64_t sizes[] = {[MODEL_SIZE_NONE] = 0,
                           [MODEL_SIZE_V] = c->vocab_size,
                           [MODEL_SIZE_P] = c->positions + spec->first_position,
                           [MODEL_SIZE_T] = c->types,
                           [MODEL_SIZE_E] = c->embed_dim,
                           [MODEL_SIZE_F] = c->hidden_dim,
                           [MODEL_SIZE_Q] = q,
                           [MODEL_SIZE_KV] = kv,
                           [MODEL_SIZE_QKV] = q + 2 * kv};
  return sizes[size];
}

model_shape model_module_shape(const model_spec *spec, model_module module) {
  static const struct {
    model_size rows, cols;
  } shapes[MODEL_MODULES] = {
#define CLATTN_X(name, rows, cols)                                             \
  [MODEL_##name] = {MODEL_SIZE_##rows, MODEL_SIZE_##cols},
      MODEL_MODULE_MAP(CLATTN_X)
#undef CLATTN_X
  };
  return (model_shape){size_of(spec, shapes[module].rows),
                       size_of(spec, shapes[module].cols)};
}

/* ---- names --------------------------------------------------------------- */

/* Behind "encoder.layer.N.", "h.N.", "layers.N." or "blk.N." for those of a
 * layer; NULL: such files have none. */
static const char *const names_of[MODEL_MODULES][MODEL_NAMES] = {
    /*                  BERT, GPT-2, LLAMA, GGUF of BERT, GGUF of the others */
    [MODEL_TOKENS] = {"embeddings.word_embeddings", "wte", "embed_tokens",
                      "token_embd", "token_embd"},
    [MODEL_POSITIONS] = {"embeddings.position_embeddings", "wpe", NULL,
                         "position_embd", "position_embd"},
    [MODEL_TYPES] = {"embeddings.token_type_embeddings", NULL, NULL,
                     "token_types", NULL},
    [MODEL_EMBED_NORM] = {"embeddings.LayerNorm", NULL, NULL, "token_embd_norm",
                          NULL},
    [MODEL_LAST_NORM] = {NULL, "ln_f", "norm", NULL, "output_norm"},
    [MODEL_HEAD] = {NULL, "lm_head", "lm_head", NULL, "output"},
    [MODEL_POOLER] = {"pooler.dense", NULL, NULL, NULL, NULL},
    [MODEL_NORM1] = {"attention.output.LayerNorm", "ln_1", "input_layernorm",
                     "attn_output_norm", "attn_norm"},
    [MODEL_Q] = {"attention.self.query", NULL, "self_attn.q_proj", "attn_q",
                 "attn_q"},
    [MODEL_K] = {"attention.self.key", NULL, "self_attn.k_proj", "attn_k",
                 "attn_k"},
    [MODEL_V] = {"attention.self.value", NULL, "self_attn.v_proj", "attn_v",
                 "attn_v"},
    [MODEL_QKV] = {NULL, "attn.c_attn", NULL, "attn_qkv", "attn_qkv"},
    [MODEL_O] = {"attention.output.dense", "attn.c_proj", "self_attn.o_proj",
                 "attn_output", "attn_output"},
    [MODEL_NORM2] = {"output.LayerNorm", "ln_2", "post_attention_layernorm",
                     "layer_output_norm", "ffn_norm"},
    [MODEL_UP] = {"intermediate.dense", "mlp.c_fc", "mlp.up_proj", "ffn_up",
                  "ffn_up"},
    [MODEL_GATE] = {NULL, NULL, "mlp.gate_proj", NULL, "ffn_gate"},
    [MODEL_DOWN] = {"output.dense", "mlp.c_proj", "mlp.down_proj", "ffn_down",
                    "ffn_down"},
};

static const char *const layer_names[MODEL_NAMES] = {"encoder.layer", "h",
                                                     "layers", "blk", "blk"};

bool model_tensor_name(model_names names, model_module module, int64_t layer,
                       bool bias, char name[MODEL_NAME_CHARS]) {
  const char *own = names_of[module][names];
  const char *part = bias ? "bias" : "weight";
  if (own == NULL) return false;
  if (module < MODEL_FIRST_OF_LAYER)
    snprintf(name, MODEL_NAME_CHARS, "%s.%s", own, part);
  else
    snprintf(name, MODEL_NAME_CHARS, "%s.%lld.%s.%s", layer_names[names],
             (long long)layer, own, part);
  return true;
}
