/* model_config.c - config.json: what a model is, and what would change its
 * numbers. A setting that nothing here computes is UNSUPPORTED by its name. */
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"
#include "model_config.h"

/* ---- reading a setting ---------------------------------------------------- */

typedef struct settings {
  const json_t *root;
  const char *path; /* of the file, for messages */
} settings;

static const json_t *setting(const settings *s, const char *key) {
  const json_t *value = json_object_get(s->root, key);
  return json_is_null(value) ? NULL : value;
}

/* fallback 0: it must be there. */
static clattn_status read_count(const settings *s, const char *key,
                                int64_t fallback, int64_t *number) {
  const json_t *value = setting(s, key);
  if (value == NULL && fallback > 0) {
    *number = fallback;
    return CLATTN_OK;
  }
  if (value == NULL)
    return MODEL_BAD("%s: no '%s', which this model_type wants", s->path, key);
  const json_int_t n = json_integer_value(value);
  if (!json_is_integer(value))
    return MODEL_BAD("%s: %s: want a whole number", s->path, key);
  if (n < 1 || n > MODEL_MOST)
    return MODEL_BAD("%s: %s: got %lld, want 1..%d", s->path, key, (long long)n,
                     MODEL_MOST);
  *number = n;
  return CLATTN_OK;
}

static clattn_status read_decimal(const settings *s, const char *key,
                                  double fallback, double *number) {
  const json_t *value = setting(s, key);
  *number = fallback;
  if (value == NULL) return CLATTN_OK;
  *number = json_number_value(value);
  if (!json_is_number(value) || !(*number > 0) || !isfinite(*number))
    return MODEL_BAD("%s: %s: want a number > 0", s->path, key);
  return CLATTN_OK;
}

static clattn_status read_flag(const settings *s, const char *key,
                               bool fallback, bool *flag) {
  const json_t *value = setting(s, key);
  *flag = fallback;
  if (value == NULL) return CLATTN_OK;
  if (!json_is_boolean(value))
    return MODEL_BAD("%s: %s: want true or false", s->path, key);
  *flag = json_is_true(value);
  return CLATTN_OK;
}

/* A flag that must have this value, or be absent. */
static clattn_status want_flag(const settings *s, const char *key, bool want) {
  bool got;
  KIT_TRY(read_flag(s, key, want, &got));
  if (got != want)
    return MODEL_CANNOT("%s: %s: got %s, which nothing here computes", s->path,
                        key, got ? "true" : "false");
  return CLATTN_OK;
}

/* One of the words, NULL at the end; its place. The first is the default. */
static clattn_status read_word(const settings *s, const char *key,
                               const char *const *words, int *place) {
  const json_t *value = setting(s, key);
  *place = 0;
  if (value == NULL) return CLATTN_OK;
  const char *text = json_string_value(value);
  if (text == NULL) return MODEL_BAD("%s: %s: want a text", s->path, key);
  for (; words[*place] != NULL; (*place)++)
    if (strcmp(words[*place], text) == 0) return CLATTN_OK;
  return MODEL_CANNOT("%s: %s: got '%.60s', which nothing here computes",
                      s->path, key, text);
}

/* ---- families ------------------------------------------------------------- */

static clattn_status split_heads(const settings *s, clattn_model_config *c) {
  if (c->embed_dim % c->heads != 0)
    return MODEL_BAD("%s: got %lld heads, want a divisor of %lld columns",
                     s->path, (long long)c->heads, (long long)c->embed_dim);
  c->head_dim = c->embed_dim / c->heads;
  return CLATTN_OK;
}

static clattn_status read_gelu(const settings *s, const char *key,
                               const char *first, model_spec *spec) {
  /* The default comes first. */
  const bool tanh_first = strcmp(first, "gelu_new") == 0;
  const char *const words[] = {
      first, "gelu", "gelu_new", "gelu_pytorch_tanh", "gelu_python", NULL};
  int place;
  KIT_TRY(read_word(s, key, words, &place));
  const bool is_tanh =
      place == 0 ? tanh_first : words[place][4] == '_' && place != 4;
  spec->gelu = is_tanh ? CLATTN_NN_GELU_TANH : CLATTN_NN_GELU_NONE;
  return CLATTN_OK;
}

static clattn_status read_bert(const settings *s, model_spec *spec) {
  static const char *const absolute[] = {"absolute", NULL};
  clattn_model_config *c = &spec->config;
  const bool roberta = strcmp(c->name, "bert") != 0;
  double eps;
  int place;
  c->kind = CLATTN_MODEL_BERT;
  spec->names = MODEL_NAMES_BERT;
  spec->prefix = roberta ? "roberta." : "bert.";
  KIT_TRY(read_count(s, "vocab_size", 0, &c->vocab_size));
  KIT_TRY(read_count(s, "hidden_size", 0, &c->embed_dim));
  KIT_TRY(read_count(s, "num_hidden_layers", 0, &c->layers));
  KIT_TRY(read_count(s, "num_attention_heads", 0, &c->heads));
  KIT_TRY(read_count(s, "intermediate_size", 0, &c->hidden_dim));
  KIT_TRY(read_count(s, "max_position_embeddings", 0, &c->positions));
  KIT_TRY(read_count(s, "type_vocab_size", 2, &c->types));
  KIT_TRY(read_decimal(s, "layer_norm_eps", 1e-12, &eps));
  KIT_TRY(read_word(s, "position_embedding_type", absolute, &place));
  KIT_TRY(read_gelu(s, "hidden_act", "gelu", spec));
  KIT_TRY(want_flag(s, "is_decoder", false));
  KIT_TRY(want_flag(s, "add_cross_attention", false));
  if (roberta) { /* its positions begin behind that of the padding */
    int64_t padding = 1;
    const json_t *value = setting(s, "pad_token_id");
    if (value != NULL && !json_is_integer(value))
      return MODEL_BAD("%s: pad_token_id: want a whole number", s->path);
    if (value != NULL) padding = json_integer_value(value);
    if (padding < 0 || padding >= c->positions - 1)
      return MODEL_BAD("%s: pad_token_id: got %lld, want 0..%lld", s->path,
                       (long long)padding, (long long)c->positions - 2);
    spec->first_position = padding + 1;
    c->positions -= spec->first_position;
  }
  c->norm_eps = (float)eps;
  c->kv_heads = c->heads;
  return split_heads(s, c);
}

static clattn_status read_gpt2(const settings *s, model_spec *spec) {
  clattn_model_config *c = &spec->config;
  double eps;
  bool scaled, tied;
  c->kind = CLATTN_MODEL_GPT2;
  c->causal = c->head = true;
  spec->names = MODEL_NAMES_GPT2;
  spec->prefix = "transformer.";
  spec->turned = true;
  KIT_TRY(read_count(s, "vocab_size", 0, &c->vocab_size));
  KIT_TRY(read_count(s, "n_embd", 0, &c->embed_dim));
  KIT_TRY(read_count(s, "n_layer", 0, &c->layers));
  KIT_TRY(read_count(s, "n_head", 0, &c->heads));
  KIT_TRY(read_count(s, "n_positions", 0, &c->positions));
  KIT_TRY(read_count(s, "n_inner", 4 * c->embed_dim, &c->hidden_dim));
  KIT_TRY(read_decimal(s, "layer_norm_epsilon", 1e-5, &eps));
  KIT_TRY(read_gelu(s, "activation_function", "gelu_new", spec));
  KIT_TRY(read_flag(s, "scale_attn_weights", true, &scaled));
  KIT_TRY(read_flag(s, "scale_attn_by_inverse_layer_idx", false,
                    &spec->scale_by_layer));
  KIT_TRY(read_flag(s, "tie_word_embeddings", true, &tied));
  KIT_TRY(want_flag(s, "add_cross_attention", false));
  spec->tied = tied;
  if (!scaled) spec->scale = 1;
  c->norm_eps = (float)eps;
  c->kv_heads = c->heads;
  return split_heads(s, c);
}

/* How positions turn: rope_parameters of today's files, or rope_theta and
 * rope_scaling of older ones. */
static clattn_status read_rotary(const settings *s, model_spec *spec) {
  static const char *const kinds[] = {"default", "linear", "llama3", NULL};
  clattn_model_config *c = &spec->config;
  const json_t *inner = setting(s, "rope_parameters");
  if (inner == NULL) inner = setting(s, "rope_scaling");
  if (inner != NULL && !json_is_object(inner))
    return MODEL_BAD("%s: rope_parameters: want an object", s->path);
  const settings rope = {inner, s->path};
  const char *type = setting(&rope, "rope_type") ? "rope_type" : "type";
  int kind;
  double base, part;
  KIT_TRY(read_decimal(s, "rope_theta", 1e4, &base));
  KIT_TRY(read_decimal(&rope, "rope_theta", base, &c->rotary_base));
  KIT_TRY(read_decimal(s, "partial_rotary_factor", 1, &part));
  KIT_TRY(read_decimal(&rope, "partial_rotary_factor", part, &part));
  KIT_TRY(read_word(&rope, type, kinds, &kind));
  if (kind > 0) KIT_TRY(read_decimal(&rope, "factor", 1, &spec->rotary_factor));
  if (kind == 2) {
    spec->rotary_llama3 = true;
    KIT_TRY(read_decimal(&rope, "low_freq_factor", 1, &spec->low_frequency));
    KIT_TRY(read_decimal(&rope, "high_freq_factor", 4, &spec->high_frequency));
    KIT_TRY(read_decimal(&rope, "original_max_position_embeddings",
                         (double)c->positions, &spec->old_positions));
    if (spec->high_frequency <= spec->low_frequency)
      return MODEL_BAD("%s: high_freq_factor: got %g, want more than %g",
                       s->path, spec->high_frequency, spec->low_frequency);
  }
  if (part > 1)
    return MODEL_BAD("%s: partial_rotary_factor: got %g, want at most 1",
                     s->path, part);
  spec->rotary_dim = (int64_t)((double)c->head_dim * part);
  return CLATTN_OK;
}

static clattn_status read_llama(const settings *s, model_spec *spec) {
  static const char *const silu[] = {"silu", "swish", NULL};
  clattn_model_config *c = &spec->config;
  double eps;
  bool tied, windowed;
  int place;
  c->kind = CLATTN_MODEL_LLAMA;
  c->causal = c->head = true;
  spec->names = MODEL_NAMES_LLAMA;
  spec->prefix = "model.";
  KIT_TRY(read_count(s, "vocab_size", 0, &c->vocab_size));
  KIT_TRY(read_count(s, "hidden_size", 0, &c->embed_dim));
  KIT_TRY(read_count(s, "num_hidden_layers", 0, &c->layers));
  KIT_TRY(read_count(s, "num_attention_heads", 0, &c->heads));
  KIT_TRY(read_count(s, "num_key_value_heads", c->heads, &c->kv_heads));
  KIT_TRY(read_count(s, "intermediate_size", 0, &c->hidden_dim));
  KIT_TRY(read_count(s, "max_position_embeddings", 2048, &c->positions));
  if (setting(s, "head_dim") != NULL)
    KIT_TRY(read_count(s, "head_dim", 0, &c->head_dim));
  else
    KIT_TRY(split_heads(s, c));
  KIT_TRY(read_decimal(s, "rms_norm_eps", 1e-6, &eps));
  KIT_TRY(read_word(s, "hidden_act", silu, &place));
  KIT_TRY(read_flag(s, "attention_bias", false, &spec->attention_bias));
  KIT_TRY(read_flag(s, "mlp_bias", false, &spec->mlp_bias));
  KIT_TRY(read_flag(s, "tie_word_embeddings", false, &tied));
  KIT_TRY(read_rotary(s, spec));
  const bool mistral = strcmp(c->name, "mistral") == 0;
  const bool no_window =
      json_is_null(json_object_get(s->root, "sliding_window"));
  KIT_TRY(read_flag(s, "use_sliding_window", mistral, &windowed));
  if (windowed && !no_window)
    KIT_TRY(read_count(s, "sliding_window", 4096, &spec->window));
  if (!mistral && spec->window > 0)
    return MODEL_CANNOT(
        "%s: use_sliding_window: got true, which nothing here "
        "computes for '%s'",
        s->path, c->name);
  spec->tied = tied;
  c->norm_eps = (float)eps;
  return CLATTN_OK;
}

/* ---- the file -------------------------------------------------------------- */

static const struct {
  const char *name; /* model_type */
  clattn_status (*read)(const settings *s, model_spec *spec);
} families[] = {{"bert", read_bert},     {"roberta", read_bert},
                {"gpt2", read_gpt2},     {"llama", read_llama},
                {"mistral", read_llama}, {"qwen2", read_llama}};

static clattn_status read_settings(const settings *s, model_spec *spec) {
  if (!json_is_object(s->root))
    return MODEL_BAD("%s: want a JSON object", s->path);
  const char *type = json_string_value(json_object_get(s->root, "model_type"));
  const char *class =
      json_string_value(json_array_get(setting(s, "architectures"), 0));
  spec->headless =
      class != NULL &&
      (strcmp(class, "GPT2Model") == 0 || strcmp(class, "LlamaModel") == 0 ||
       strcmp(class, "MistralModel") == 0 || strcmp(class, "Qwen2Model") == 0);
  if (type == NULL) return MODEL_BAD("%s: no 'model_type'", s->path);
  for (size_t i = 0; i < sizeof families / sizeof *families; i++)
    if (strcmp(families[i].name, type) == 0) {
      snprintf(spec->config.name, sizeof spec->config.name, "%s", type);
      KIT_TRY(families[i].read(s, spec));
      return model_spec_check(spec, s->path);
    }
  return MODEL_CANNOT(
      "%s: model_type: got '%.60s', want bert, roberta, gpt2, "
      "llama, mistral or qwen2",
      s->path, type);
}

void model_spec_init(model_spec *spec) {
  *spec = (model_spec){.config = {.struct_size = sizeof spec->config},
                       .prefix = "",
                       .scale = NAN,
                       .rotary_factor = 1};
}

clattn_status model_spec_check(const model_spec *spec, const char *path) {
  const clattn_model_config *c = &spec->config;
  /* A head's columns times heads stay far below 2^31. */
  if (c->head_dim < 1 || c->head_dim > 1 << 16 || c->heads > 1 << 14)
    return MODEL_BAD(
        "%s: got %lld heads of %lld columns, want at most 2^14 of "
        "1..2^16",
        path, (long long)c->heads, (long long)c->head_dim);
  if (c->layers > 1 << 12)
    return MODEL_BAD("%s: got %lld layers, want at most 4096", path,
                     (long long)c->layers);
  if (c->heads % c->kv_heads != 0)
    return MODEL_BAD("%s: got %lld heads for keys, want a divisor of %lld",
                     path, (long long)c->kv_heads, (long long)c->heads);
  if (c->rotary_base != 0 &&
      (spec->rotary_dim < 2 || spec->rotary_dim % 2 != 0 ||
       spec->rotary_dim > c->head_dim))
    return MODEL_BAD(
        "%s: %lld columns of a head turn, want an even number "
        "2..%lld",
        path, (long long)spec->rotary_dim, (long long)c->head_dim);
  return CLATTN_OK;
}

clattn_status model_spec_of_config(const char *path, model_spec *spec) {
  model_spec_init(spec);
  json_error_t error;
  json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
  if (root == NULL)
    return MODEL_BAD("%s: line %d: %s", path, error.line, error.text);
  const settings s = {root, path};
  const clattn_status status = read_settings(&s, spec);
  json_decref(root);
  return status;
}
