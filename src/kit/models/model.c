/* model.c - a pre-trained model: its parts, their attention, the handle. */
#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "kit/files/map.h"
#include "model.h"
#include "model_config.h"

void clattn_model_options_init(clattn_model_options *options) {
  if (options == NULL) return;
  *options = (clattn_model_options){
      .struct_size = sizeof *options, .dtype = CLATTN_F32, .path = CLATTN_AUTO};
}

/* ---- parameters ------------------------------------------------------------ */

model_param *model_part(const clattn_model *model, model_module module,
                        int64_t layer) {
  const int of_layer = MODEL_MODULES - MODEL_FIRST_OF_LAYER;
  if (module < MODEL_FIRST_OF_LAYER) return &model->params[module];
  return &model->params[module + layer * of_layer];
}

static int64_t count_params(const clattn_model *model) {
  return MODEL_FIRST_OF_LAYER +
         model->spec.config.layers * (MODEL_MODULES - MODEL_FIRST_OF_LAYER);
}

clattn_status model_buffer(const clattn_model *model, const char *what,
                           int64_t rows, int64_t cols, size_t size,
                           clattn_buffer **buffer) {
  int64_t bytes;
  KIT_REQUIRE(!__builtin_mul_overflow(rows, cols, &bytes) &&
                  !__builtin_mul_overflow(bytes, (int64_t)size, &bytes),
              "%s: got %lld rows of %lld, which overflow the size of memory",
              what, (long long)rows, (long long)cols);
  return clattn_buffer_create(model->context, model->device, (size_t)bytes,
                              buffer);
}

/* ---- attention ----------------------------------------------------------------- */

double model_scale(const model_spec *spec, int64_t layer) {
  const double scale = isnan(spec->scale)
                           ? 1 / sqrt((double)spec->config.head_dim)
                           : (double)spec->scale;
  return spec->scale_by_layer ? scale / (double)(layer + 1) : scale;
}

static clattn_status make_attention(const clattn_model *model, uint32_t tells,
                                    int64_t layer, clattn_mha **mha) {
  const model_spec *spec = &model->spec;
  const clattn_model_config *c = &spec->config;
  clattn_mha_config config;
  clattn_mha_config_init(&config);
  config.embed_dim = c->embed_dim;
  config.num_heads = c->heads;
  config.num_kv_heads = c->kv_heads;
  config.head_dim = c->head_dim;
  config.attention.causal = c->causal;
  config.attention.path = model->options.path;
  config.attention.scale = (float)model_scale(spec, layer);
  if (spec->window > 0) config.attention.window_left = spec->window - 1;
  if ((tells & MODEL_TELL_WEIGHTS) != 0)
    config.attention.outputs = CLATTN_OUT_WEIGHTS;
  config.statistics = (tells & MODEL_TELL_STATISTICS) != 0;
  config.rotary_cos = model->rotary_cos;
  config.rotary_sin = model->rotary_sin;
  config.rotary_interleaved = spec->rotary_interleaved;
  clattn_mha_weights weights;
  clattn_mha_weights_init(&weights);
  const struct {
    model_module module;
    clattn_tensor *weight, *bias;
  } parts[] = {{MODEL_Q, &weights.q_weight, &weights.q_bias},
               {MODEL_K, &weights.k_weight, &weights.k_bias},
               {MODEL_V, &weights.v_weight, &weights.v_bias},
               {MODEL_O, &weights.o_weight, &weights.o_bias}};
  for (int i = 0; i < 4; i++) {
    const model_param *part = model_part(model, parts[i].module, layer);
    *parts[i].weight = part->weight;
    *parts[i].bias = part->bias;
  }
  return clattn_mha_create(model->context, model->device, &config, &weights,
                           mha);
}

static void destroy_attention(clattn_model *model, uint32_t tells) {
  clattn_mha **all = model->mha[tells];
  for (int64_t l = 0; all != NULL && l < model->spec.config.layers; l++)
    clattn_mha_destroy(all[l]);
  free(all);
  model->mha[tells] = NULL;
}

clattn_status model_attention(clattn_model *model, uint32_t tells,
                              clattn_mha *const **mha) {
  const int64_t layers = model->spec.config.layers;
  if (model->mha[tells] == NULL) {
    model->mha[tells] = calloc((size_t)layers, sizeof(clattn_mha *));
    if (model->mha[tells] == NULL) return KIT_OUT_OF_MEMORY("model");
    for (int64_t l = 0; l < layers; l++) {
      const clattn_status status =
          make_attention(model, tells, l, &model->mha[tells][l]);
      if (status != CLATTN_OK) {
        destroy_attention(model, tells);
        return status;
      }
    }
  }
  *mha = (clattn_mha *const *)model->mha[tells];
  return CLATTN_OK;
}

/* ---- the handle ------------------------------------------------------------------ */

/* What a path leads to: the configuration, and the weights. */
static clattn_status open_source(const char *path, model_spec *spec,
                                 clattn_weights **weights) {
  struct stat about;
  if (stat(path, &about) != 0)
    return MODEL_BAD("%s: there is no such file or folder", path);
  const bool folder = S_ISDIR(about.st_mode);
  char *config = NULL;
  KIT_TRY(kit_path_join(path, "config.json", &config));
  const bool configured = folder && stat(config, &about) == 0;
  clattn_status status = CLATTN_OK;
  if (configured) status = model_spec_of_config(config, spec);
  free(config);
  KIT_TRY(status);
  if (configured) return clattn_weights_open(path, weights);
  KIT_TRY(clattn_weights_open(path, weights));
  if (clattn_weights_text(*weights, "general.architecture") != NULL)
    return model_spec_of_gguf(*weights, path, spec);
  if (folder) return MODEL_BAD("%s: there is no config.json in it", path);
  clattn_kit_safetensors *file = NULL;
  KIT_TRY(clattn_kit_safetensors_open(path, &file));
  status = model_spec_of_gpt(file, path, spec);
  clattn_kit_safetensors_destroy(file);
  return status;
}

static clattn_status make_params(clattn_model *made) {
  made->params = calloc((size_t)count_params(made), sizeof *made->params);
  return made->params == NULL ? KIT_OUT_OF_MEMORY("model") : CLATTN_OK;
}

clattn_status clattn_model_load(clattn_context *context, int device,
                                clattn_queue *queue, const char *path,
                                const clattn_model_options *options,
                                clattn_model **model) {
  KIT_REQUIRE(model != NULL, "model: got NULL, want a place for the handle");
  *model = NULL;
  KIT_REQUIRE(context != NULL, "context: got NULL, want a context");
  KIT_REQUIRE(queue != NULL, "queue: got NULL, want a queue");
  KIT_REQUIRE(path != NULL, "path: got NULL, want a folder's or a file's path");
  clattn_model_options defaults;
  clattn_model_options_init(&defaults);
  if (options == NULL) options = &defaults;
  KIT_REQUIRE_STRUCT(options, clattn_model_options);
  KIT_REQUIRE(options->positions >= 0,
              "options->positions: got %lld, want >= 0",
              (long long)options->positions);
  KIT_REQUIRE(options->dtype == CLATTN_F32 || options->dtype == CLATTN_F16 ||
                  options->dtype == CLATTN_BF16,
              "options->dtype: got %s, want f32, f16 or bf16",
              clattn_dtype_name(options->dtype));
  if (device == CLATTN_DEFAULT_DEVICE)
    KIT_TRY(clattn_device_find(context, NULL, &device));
  clattn_model *made = calloc(1, sizeof *made);
  if (made == NULL) return KIT_OUT_OF_MEMORY("model");
  made->users = 1;
  made->context = context;
  made->device = device;
  made->options = *options;
  clattn_weights *weights = NULL;
  clattn_status status = open_source(path, &made->spec, &weights);
  if (status == CLATTN_OK) status = make_params(made);
  if (status == CLATTN_OK)
    status = model_load_params(made, queue, weights, path);
  clattn_mha *const *mha;
  if (status == CLATTN_OK) status = model_attention(made, 0, &mha);
  clattn_weights_destroy(weights);
  if (status != CLATTN_OK) {
    clattn_model_destroy(made);
    return status;
  }
  *model = made;
  return CLATTN_OK;
}

void clattn_model_destroy(clattn_model *model) {
  if (model == NULL || --model->users > 0) return;
  model_pass_destroy(model->pass);
  for (uint32_t tells = 0; tells < MODEL_TELLS; tells++)
    destroy_attention(model, tells);
  for (int64_t i = 0; model->params != NULL && i < count_params(model); i++) {
    /* Q, K and V are parts of QKV; a tied head is the table of tokens. */
    const model_param *part = &model->params[i];
    const int64_t module =
        i < MODEL_FIRST_OF_LAYER
            ? i
            : MODEL_FIRST_OF_LAYER + (i - MODEL_FIRST_OF_LAYER) %
                                         (MODEL_MODULES - MODEL_FIRST_OF_LAYER);
    const bool shared =
        module == MODEL_Q || module == MODEL_K || module == MODEL_V ||
        (module == MODEL_HEAD &&
         part->weight.buffer == model->params[MODEL_TOKENS].weight.buffer);
    if (shared) continue;
    clattn_buffer_destroy(part->weight.buffer);
    clattn_buffer_destroy(part->bias.buffer);
  }
  free(model->params);
  clattn_buffer_destroy(model->rotary_cos.buffer);
  clattn_buffer_destroy(model->rotary_sin.buffer);
  free(model);
}

clattn_status clattn_model_get_config(const clattn_model *model,
                                      clattn_model_config *config) {
  KIT_REQUIRE(model != NULL, "model: got NULL, want a model");
  KIT_REQUIRE(config != NULL, "config: got NULL, want a clattn_model_config");
  KIT_REQUIRE(config->struct_size == sizeof *config,
              "config->struct_size: got %zu, want sizeof(clattn_model_config), "
              "%zu",
              config->struct_size, sizeof *config);
  *config = model->spec.config;
  return CLATTN_OK;
}

int64_t clattn_model_parameters(const clattn_model *model) {
  return model == NULL ? 0 : model->parameters;
}

clattn_status clattn_model_check_tokenizer(const clattn_model *model,
                                           const clattn_tokenizer *tokenizer) {
  KIT_REQUIRE(model != NULL, "model: got NULL, want a model");
  KIT_REQUIRE(tokenizer != NULL, "tokenizer: got NULL, want a tokenizer");
  const int64_t size = clattn_tokenizer_size(tokenizer);
  KIT_REQUIRE(size <= model->spec.config.vocab_size,
              "tokenizer: its ids go up to %lld, want 0..%lld, which the model "
              "has",
              (long long)size - 1,
              (long long)model->spec.config.vocab_size - 1);
  return CLATTN_OK;
}
