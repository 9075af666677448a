/* model_gguf.c - what a model is, from the metadata of a GGUF file or of a file
 * of `clattn train`. */
#include <math.h>
#include <string.h>

#include "kit/train/gpt.h"
#include "model_config.h"

/* ---- GGUF ------------------------------------------------------------------ */

typedef struct metadata {
  const clattn_weights *weights;
  const char *path;
  const char *family; /* general.architecture: the keys begin with it */
} metadata;

enum { KEY_CHARS = 128 };

static const char *key_of(const metadata *m, const char *key,
                          char text[KEY_CHARS]) {
  snprintf(text, KEY_CHARS, "%s.%s", m->family, key);
  return text;
}

/* fallback NaN: it must be there. */
static clattn_status read_decimal(const metadata *m, const char *key,
                                  double fallback, double *number) {
  char text[KEY_CHARS];
  if (!clattn_weights_number(m->weights, key_of(m, key, text), number))
    *number = fallback;
  if (isnan(fallback) && isnan(*number))
    return MODEL_BAD("%s: no number '%s' in its metadata", m->path, text);
  if (!(*number >= 0) || !isfinite(*number))
    return MODEL_BAD("%s: %s: got %g, want a number >= 0", m->path, text,
                     *number);
  return CLATTN_OK;
}

static clattn_status read_count(const metadata *m, const char *key,
                                int64_t fallback, int64_t *number) {
  char text[KEY_CHARS];
  double value;
  KIT_TRY(read_decimal(m, key, fallback > 0 ? (double)fallback : NAN, &value));
  if (!(value >= 1 && value <= MODEL_MOST) || value != floor(value))
    return MODEL_BAD("%s: %s: got %g, want a whole number 1..%d", m->path,
                     key_of(m, key, text), value, MODEL_MOST);
  *number = (int64_t)value;
  return CLATTN_OK;
}

/* Rows of a table, as no key of the metadata counts them. */
static clattn_status read_rows(const metadata *m, const char *name,
                               int64_t *rows) {
  clattn_weights_tensor tensor;
  if (!clattn_weights_has(m->weights, name))
    return MODEL_BAD("%s: no tensor '%s'", m->path, name);
  KIT_TRY(clattn_weights_find(m->weights, name, &tensor));
  if (tensor.rank != 2 || tensor.extent[0] < 1 || tensor.extent[0] > MODEL_MOST)
    return MODEL_BAD("%s: tensor '%s': got rank %d, want 2 and 1..%d rows",
                     m->path, name, tensor.rank, MODEL_MOST);
  *rows = tensor.extent[0];
  return CLATTN_OK;
}

static clattn_status want_none(const metadata *m, const char *key) {
  char text[KEY_CHARS];
  double number;
  if (clattn_weights_number(m->weights, key_of(m, key, text), &number) &&
      number != 0)
    return MODEL_CANNOT("%s: %s: got %g, which nothing here computes", m->path,
                        text, number);
  return CLATTN_OK;
}

static clattn_status read_common(const metadata *m, model_spec *spec) {
  clattn_model_config *c = &spec->config;
  KIT_TRY(read_rows(m, "token_embd.weight", &c->vocab_size));
  KIT_TRY(read_count(m, "embedding_length", 0, &c->embed_dim));
  KIT_TRY(read_count(m, "block_count", 0, &c->layers));
  KIT_TRY(read_count(m, "attention.head_count", 0, &c->heads));
  KIT_TRY(read_count(m, "attention.head_count_kv", c->heads, &c->kv_heads));
  KIT_TRY(read_count(m, "feed_forward_length", 0, &c->hidden_dim));
  KIT_TRY(read_count(m, "context_length", 0, &c->positions));
  if (c->embed_dim % c->heads != 0)
    return MODEL_BAD("%s: got %lld heads, want a divisor of %lld columns",
                     m->path, (long long)c->heads, (long long)c->embed_dim);
  KIT_TRY(read_count(m, "attention.key_length", c->embed_dim / c->heads,
                     &c->head_dim));
  int64_t values;
  KIT_TRY(read_count(m, "attention.value_length", c->head_dim, &values));
  if (values != c->head_dim)
    return MODEL_CANNOT(
        "%s: attention.value_length: got %lld, which differs "
        "from that of keys, %lld",
        m->path, (long long)values, (long long)c->head_dim);
  return CLATTN_OK;
}

static clattn_status read_eps(const metadata *m, const char *key,
                              clattn_model_config *c) {
  double eps;
  KIT_TRY(read_decimal(m, key, NAN, &eps));
  if (!(eps > 0)) return MODEL_BAD("%s: %s: got 0, want > 0", m->path, key);
  c->norm_eps = (float)eps;
  return CLATTN_OK;
}

static clattn_status read_bert(const metadata *m, model_spec *spec) {
  clattn_model_config *c = &spec->config;
  c->kind = CLATTN_MODEL_BERT;
  spec->names = MODEL_NAMES_GGUF_BERT;
  KIT_TRY(read_common(m, spec));
  KIT_TRY(read_rows(m, "position_embd.weight", &c->positions));
  KIT_TRY(read_rows(m, "token_types.weight", &c->types));
  return read_eps(m, "attention.layer_norm_epsilon", c);
}

static clattn_status read_gpt2(const metadata *m, model_spec *spec) {
  clattn_model_config *c = &spec->config;
  c->kind = CLATTN_MODEL_GPT2;
  c->causal = c->head = true;
  spec->names = MODEL_NAMES_GGUF;
  spec->gelu = CLATTN_NN_GELU_TANH;
  KIT_TRY(read_common(m, spec));
  KIT_TRY(read_rows(m, "position_embd.weight", &c->positions));
  return read_eps(m, "attention.layer_norm_epsilon", c);
}

static clattn_status read_llama(const metadata *m, model_spec *spec) {
  clattn_model_config *c = &spec->config;
  char text[KEY_CHARS];
  c->kind = CLATTN_MODEL_LLAMA;
  c->causal = c->head = true;
  spec->names = MODEL_NAMES_GGUF;
  /* The converter to GGUF puts the rows of a pair of llama's next to each
   * other; those of qwen2 stay half a head apart. */
  spec->rotary_interleaved = strcmp(m->family, "llama") == 0;
  KIT_TRY(read_common(m, spec));
  KIT_TRY(
      read_count(m, "rope.dimension_count", c->head_dim, &spec->rotary_dim));
  KIT_TRY(read_decimal(m, "rope.freq_base", 1e4, &c->rotary_base));
  KIT_TRY(want_none(m, "expert_count"));
  KIT_TRY(want_none(m, "attention.sliding_window"));
  const char *scaling =
      clattn_weights_text(m->weights, key_of(m, "rope.scaling.type", text));
  if (scaling != NULL && strcmp(scaling, "linear") == 0)
    KIT_TRY(read_decimal(m, "rope.scaling.factor", 1, &spec->rotary_factor));
  else if (scaling != NULL && strcmp(scaling, "none") != 0)
    return MODEL_CANNOT("%s: %s: got '%.60s', which nothing here computes",
                        m->path, text, scaling);
  if (!(c->rotary_base > 0 && spec->rotary_factor > 0))
    return MODEL_BAD("%s: rope.freq_base, rope.scaling.factor: want > 0",
                     m->path);
  if (clattn_weights_has(m->weights, "rope_freqs.weight"))
    return MODEL_CANNOT(
        "%s: tensor 'rope_freqs.weight': nothing here computes "
        "with factors of frequencies",
        m->path);
  return read_eps(m, "attention.layer_norm_rms_epsilon", c);
}

static const struct {
  const char *name; /* general.architecture */
  clattn_status (*read)(const metadata *m, model_spec *spec);
} families[] = {{"bert", read_bert},
                {"gpt2", read_gpt2},
                {"llama", read_llama},
                {"qwen2", read_llama}};

clattn_status model_spec_of_gguf(const clattn_weights *weights,
                                 const char *path, model_spec *spec) {
  model_spec_init(spec);
  const char *name = clattn_weights_text(weights, "general.architecture");
  if (name == NULL)
    return MODEL_BAD("%s: no 'general.architecture' in its metadata", path);
  spec->tied = -1;
  for (size_t i = 0; i < sizeof families / sizeof *families; i++)
    if (strcmp(families[i].name, name) == 0) {
      const metadata m = {weights, path, families[i].name};
      snprintf(spec->config.name, sizeof spec->config.name, "%s", name);
      KIT_TRY(families[i].read(&m, spec));
      return model_spec_check(spec, path);
    }
  return MODEL_CANNOT(
      "%s: general.architecture: got '%.60s', want bert, gpt2, "
      "llama or qwen2",
      path, name);
}

/* ---- clattn train ----------------------------------------------------------- */

clattn_status model_spec_of_gpt(const clattn_kit_safetensors *file,
                                const char *path, model_spec *spec) {
  clattn_gpt_config gpt;
  model_spec_init(spec);
  if (gpt_file_config(file, &gpt) != CLATTN_OK)
    return MODEL_BAD("%s: %s", path, clattn_error_message());
  spec->names = MODEL_NAMES_GPT2;
  spec->gelu = CLATTN_NN_GELU_TANH;
  spec->tied = 1;
  spec->config = (clattn_model_config){.struct_size = sizeof spec->config,
                                       .kind = CLATTN_MODEL_GPT2,
                                       .name = "gpt2",
                                       .vocab_size = gpt.vocab_size,
                                       .positions = gpt.context,
                                       .layers = gpt.layers,
                                       .heads = gpt.heads,
                                       .kv_heads = gpt.heads,
                                       .head_dim = gpt.embed_dim / gpt.heads,
                                       .embed_dim = gpt.embed_dim,
                                       .hidden_dim = 4 * gpt.embed_dim,
                                       .norm_eps = 1e-5f,
                                       .causal = true,
                                       .head = true};
  return model_spec_check(spec, path);
}
