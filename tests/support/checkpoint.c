/* checkpoint.c - see checkpoint.h. */
#define _POSIX_C_SOURCE 200809L /* mkdtemp */
#include "checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clattn_kit.h"

static void must(bool good, const char *what) {
  if (good) return;
  fprintf(stderr, "checkpoint: %s failed\n", what);
  abort();
}

/* ---- drawing ------------------------------------------------------------------ */

typedef struct drawer {
  checkpoint *c;
  const checkpoint_kind *kind;
  th_rng rng;
} drawer;

/* A tensor [rows, cols] of numbers `size` round `middle`, by the oracle's order;
 * the file may have it turned. Returns the oracle's. */
static double *draw(drawer *d, const char *name, int rows, int cols,
                    bool turned, double middle, double size) {
  checkpoint *c = d->c;
  must(c->count < CHECKPOINT_TENSORS, "room for tensors");
  checkpoint_tensor *t = &c->tensor[c->count++];
  snprintf(t->name, sizeof t->name, "%s", name);
  const int n = rows * (cols > 0 ? cols : 1);
  double *values = th_values(&c->pool, &d->rng, CLATTN_F32, n, size);
  t->values = th_alloc(&c->pool, (size_t)n * sizeof *t->values);
  for (int i = 0; i < n; i++) values[i] = (float)(values[i] + middle);
  t->rows = turned ? cols : rows;
  t->cols = turned ? rows : cols;
  for (int i = 0; i < n; i++) {
    const int at = turned ? i % cols * rows + i / cols : i;
    t->values[at] = (float)values[i];
  }
  return values;
}

/* Weight and bias of a module of a layer; layer -1: of none. cols 0: a norm. */
static ora_module module(drawer *d, int layer, const char *name, int rows,
                         int cols, bool bias) {
  static const char *const layers[] = {"encoder.layer", "h", "layers"};
  const checkpoint_kind *kind = d->kind;
  const bool once = kind->once && strstr(name, "LayerNorm") != NULL;
  char full[2][96], front[48] = "";
  if (layer >= 0)
    snprintf(front, sizeof front, "%s.%d.",
             kind->gguf ? "blk" : layers[kind->family], layer);
  snprintf(full[0], sizeof full[0], "%s%s%s.%s", kind->prefix, front, name,
           once ? "gamma" : "weight");
  snprintf(full[1], sizeof full[1], "%s%s%s.%s", kind->prefix, front, name,
           once ? "beta" : "bias");
  const bool turned = kind->family == ORA_GPT2 && layer >= 0 && cols > 0;
  ora_module m = {draw(d, full[0], rows, cols, turned, cols > 0 ? 0 : 1,
                       cols > 0 ? 0.5 : 0.4),
                  NULL};
  if (bias) m.b = draw(d, full[1], rows, 0, false, 0, 0.3);
  return m;
}

static void draw_bert(drawer *d, ora_model *m) {
  const int E = m->embed, F = m->hidden;
  m->tokens = module(d, -1, "embeddings.word_embeddings", m->vocab, E, false).w;
  const int skipped = d->kind->padding > 0 ? d->kind->padding + 1 : 0;
  m->place = module(d, -1, "embeddings.position_embeddings",
                    m->positions + skipped, E, false)
                 .w +
             skipped * E;
  m->type =
      module(d, -1, "embeddings.token_type_embeddings", m->types, E, false).w;
  m->embed_norm = module(d, -1, "embeddings.LayerNorm", E, 0, true);
  for (int l = 0; l < m->layers; l++) {
    ora_block *b = &m->block[l];
    b->q = module(d, l, "attention.self.query", E, E, true);
    b->k = module(d, l, "attention.self.key", E, E, true);
    b->v = module(d, l, "attention.self.value", E, E, true);
    b->o = module(d, l, "attention.output.dense", E, E, true);
    b->norm1 = module(d, l, "attention.output.LayerNorm", E, 0, true);
    b->up = module(d, l, "intermediate.dense", F, E, true);
    b->down = module(d, l, "output.dense", E, F, true);
    b->norm2 = module(d, l, "output.LayerNorm", E, 0, true);
  }
  m->pooler = module(d, -1, "pooler.dense", E, E, true);
}

/* Rows first..first+rows-1 of a module. */
static ora_module part(const ora_module *all, int first, int cols) {
  return (ora_module){all->w + first * cols, all->b + first};
}

static void draw_head(drawer *d, ora_model *m) {
  const checkpoint_kind *kind = d->kind;
  m->head = m->tokens;
  if (!kind->untied) return;
  m->head = draw(d, kind->gguf ? "output.weight" : "lm_head.weight", m->vocab,
                 m->embed, false, 0, 0.5);
}

static void draw_gpt2(drawer *d, ora_model *m) {
  const int E = m->embed, F = m->hidden;
  m->tokens = module(d, -1, "wte", m->vocab, E, false).w;
  m->place = module(d, -1, "wpe", m->positions, E, false).w;
  for (int l = 0; l < m->layers; l++) {
    ora_block *b = &m->block[l];
    b->norm1 = module(d, l, "ln_1", E, 0, true);
    const ora_module all = module(d, l, "attn.c_attn", 3 * E, E, true);
    b->q = part(&all, 0, E);
    b->k = part(&all, E, E);
    b->v = part(&all, 2 * E, E);
    b->o = module(d, l, "attn.c_proj", E, E, true);
    b->norm2 = module(d, l, "ln_2", E, 0, true);
    b->up = module(d, l, "mlp.c_fc", F, E, true);
    b->down = module(d, l, "mlp.c_proj", E, F, true);
  }
  m->last_norm = module(d, -1, "ln_f", E, 0, true);
  draw_head(d, m);
}

/* What converters to GGUF do to rows of queries and keys: row k of a head and
 * row k + D/2 become neighbours. */
static void pair_rows(checkpoint *c, int heads, int head_dim) {
  checkpoint_tensor *t = &c->tensor[c->count - 1];
  const int half = head_dim / 2, E = t->cols;
  float *old = th_alloc(&c->pool, (size_t)(t->rows * E) * sizeof *old);
  memcpy(old, t->values, (size_t)(t->rows * E) * sizeof *old);
  for (int h = 0; h < heads; h++)
    for (int r = 0; r < head_dim; r++)
      memcpy(t->values + (h * head_dim + r % half * 2 + r / half) * E,
             old + (h * head_dim + r) * E, (size_t)E * sizeof *old);
}

static void draw_llama(drawer *d, ora_model *m) {
  /*                                of GGUF     of Hugging Face */
  static const char *const names[][2] = {
      {"token_embd", "embed_tokens"},
      {"attn_norm", "input_layernorm"},
      {"attn_q", "self_attn.q_proj"},
      {"attn_k", "self_attn.k_proj"},
      {"attn_v", "self_attn.v_proj"},
      {"attn_output", "self_attn.o_proj"},
      {"ffn_norm", "post_attention_layernorm"},
      {"ffn_gate", "mlp.gate_proj"},
      {"ffn_up", "mlp.up_proj"},
      {"ffn_down", "mlp.down_proj"},
      {"output_norm", "norm"}};
  const int E = m->embed, F = m->hidden, side = d->kind->gguf ? 0 : 1;
  const int Q = m->heads * m->head_dim, G = m->kv_heads * m->head_dim;
  const bool bias = d->kind->biased;
  m->tokens = module(d, -1, names[0][side], m->vocab, E, false).w;
  for (int l = 0; l < m->layers; l++) {
    ora_block *b = &m->block[l];
    b->norm1 = module(d, l, names[1][side], E, 0, false);
    b->q = module(d, l, names[2][side], Q, E, bias);
    if (d->kind->gguf) pair_rows(d->c, m->heads, m->head_dim);
    b->k = module(d, l, names[3][side], G, E, bias);
    if (d->kind->gguf) pair_rows(d->c, m->kv_heads, m->head_dim);
    b->v = module(d, l, names[4][side], G, E, bias);
    b->o = module(d, l, names[5][side], E, Q, bias);
    b->norm2 = module(d, l, names[6][side], E, 0, false);
    b->gate = module(d, l, names[7][side], F, E, bias);
    b->up = module(d, l, names[8][side], F, E, bias);
    b->down = module(d, l, names[9][side], E, F, bias);
  }
  m->last_norm = module(d, -1, names[10][side], E, 0, false);
  draw_head(d, m);
}

/* ---- files --------------------------------------------------------------------- */

static void describe(checkpoint *c, const checkpoint_kind *kind) {
  const ora_model *m = &c->model;
  char *text = c->config;
  const size_t room = sizeof c->config;
  if (kind->family == ORA_BERT)
    snprintf(text, room,
             "{\"model_type\": \"%s\", \"pad_token_id\": %d, "
             "\"vocab_size\": %d, \"hidden_size\": %d, "
             "\"num_hidden_layers\": %d, \"num_attention_heads\": %d, "
             "\"intermediate_size\": %d, \"max_position_embeddings\": %d, "
             "\"type_vocab_size\": %d, \"layer_norm_eps\": %g, "
             "\"hidden_act\": \"gelu\"}",
             kind->padding > 0 ? "roberta" : "bert", kind->padding, m->vocab,
             m->embed, m->layers, m->heads, m->hidden,
             m->positions + (kind->padding > 0 ? kind->padding + 1 : 0),
             m->types, m->eps);
  else if (kind->family == ORA_GPT2)
    snprintf(text, room,
             "{\"model_type\": \"gpt2\", \"vocab_size\": %d, \"n_embd\": %d, "
             "\"n_layer\": %d, \"n_head\": %d, \"n_inner\": %d, "
             "\"n_positions\": %d, \"layer_norm_epsilon\": %g, "
             "\"tie_word_embeddings\": %s}",
             m->vocab, m->embed, m->layers, m->heads, m->hidden, m->positions,
             m->eps, kind->untied ? "false" : "true");
  else
    snprintf(text, room,
             "{\"model_type\": \"%s\", \"sliding_window\": %d, "
             "\"rope_scaling\": {\"type\": \"linear\", \"factor\": %g}, "
             "\"vocab_size\": %d, "
             "\"hidden_size\": %d, \"num_hidden_layers\": %d, "
             "\"num_attention_heads\": %d, \"num_key_value_heads\": %d, "
             "\"head_dim\": %d, \"intermediate_size\": %d, "
             "\"max_position_embeddings\": %d, \"rms_norm_eps\": %g, "
             "\"rope_theta\": %g, \"attention_bias\": %s, \"mlp_bias\": %s, "
             "\"tie_word_embeddings\": %s}",
             kind->window > 0 ? "mistral" : "llama", kind->window,
             kind->factor > 0 ? kind->factor : 1, m->vocab, m->embed, m->layers,
             m->heads, m->kv_heads, m->head_dim, m->hidden, m->positions,
             m->eps, m->rotary_base, kind->biased ? "true" : "false",
             kind->biased ? "true" : "false", kind->untied ? "false" : "true");
}

static void path_of(const checkpoint *c, const char *name, char path[80]) {
  snprintf(path, 80, "%s/%s", c->folder, name);
}

static void write_folder(const checkpoint *c) {
  char path[80];
  clattn_kit_tensor tensors[CHECKPOINT_TENSORS];
  for (int i = 0; i < c->count; i++) {
    const checkpoint_tensor *t = &c->tensor[i];
    const int cols = t->cols > 0 ? t->cols : 1;
    tensors[i] =
        (clattn_kit_tensor){.name = t->name,
                            .dtype = CLATTN_KIT_F32,
                            .rank = t->cols > 0 ? 2 : 1,
                            .extent = {t->rows, t->cols},
                            .data = t->values,
                            .size_bytes = (size_t)(t->rows * cols) * 4};
  }
  path_of(c, "model.safetensors", path);
  TH_OK(clattn_kit_safetensors_write(path, tensors, (size_t)c->count, NULL, 0));
  path_of(c, "config.json", path);
  FILE *file = fopen(path, "w");
  must(file != NULL && fputs(c->config, file) >= 0, path);
  fclose(file);
}

static void put(FILE *file, uint64_t number, size_t bytes) {
  must(fwrite(&number, 1, bytes, file) == bytes, "writing");
}

static void put_text(FILE *file, const char *text) {
  put(file, strlen(text), 8);
  fputs(text, file);
}

static void write_gguf(const checkpoint *c) {
  const ora_model *m = &c->model;
  const struct {
    const char *key;
    int number; /* type 4: 32 bits; 0: a float of type 6 */
    double value;
  } pairs[] = {{"llama.embedding_length", m->embed, 0},
               {"llama.block_count", m->layers, 0},
               {"llama.attention.head_count", m->heads, 0},
               {"llama.attention.head_count_kv", m->kv_heads, 0},
               {"llama.attention.key_length", m->head_dim, 0},
               {"llama.attention.value_length", m->head_dim, 0},
               {"llama.rope.dimension_count", m->head_dim, 0},
               {"llama.feed_forward_length", m->hidden, 0},
               {"llama.context_length", m->positions, 0},
               {"llama.rope.freq_base", 0, m->rotary_base},
               {"llama.attention.layer_norm_rms_epsilon", 0, m->eps}};
  const size_t n = sizeof pairs / sizeof *pairs;
  char path[80];
  path_of(c, "model.gguf", path);
  FILE *file = fopen(path, "wb");
  must(file != NULL, path);
  fputs("GGUF", file);
  put(file, 3, 4);
  put(file, (uint64_t)c->count, 8);
  put(file, n + 1, 8);
  put_text(file, "general.architecture");
  put(file, 8, 4);
  put_text(file, "llama");
  for (size_t i = 0; i < n; i++) {
    put_text(file, pairs[i].key);
    put(file, pairs[i].number ? 4 : 6, 4);
    uint32_t bits = (uint32_t)pairs[i].number;
    const float value = (float)pairs[i].value;
    if (pairs[i].number == 0) memcpy(&bits, &value, 4);
    put(file, bits, 4);
  }
  uint64_t offset = 0;
  for (int i = 0; i < c->count; i++) {
    const checkpoint_tensor *t = &c->tensor[i];
    put_text(file, t->name);
    put(file, t->cols > 0 ? 2 : 1, 4);
    if (t->cols > 0) put(file, (uint64_t)t->cols, 8);
    put(file, (uint64_t)t->rows, 8);
    put(file, 0, 4);
    put(file, offset, 8);
    offset += (uint64_t)(t->rows * (t->cols > 0 ? t->cols : 1)) * 4;
    offset = (offset + 31) / 32 * 32;
  }
  for (int i = 0; i < c->count; i++) {
    const checkpoint_tensor *t = &c->tensor[i];
    while (ftell(file) % 32 != 0) fputc(0, file);
    const size_t elements = (size_t)(t->rows * (t->cols > 0 ? t->cols : 1));
    must(fwrite(t->values, 4, elements, file) == elements, path);
  }
  fclose(file);
}

void checkpoint_write(const checkpoint *c) {
  if (c->config[0] == '\0')
    write_gguf(c);
  else
    write_folder(c);
}

/* ---- the whole ------------------------------------------------------------------ */

void checkpoint_make(checkpoint *c, const checkpoint_kind *kind,
                     uint64_t seed) {
  *c = (checkpoint){.folder = "/tmp/clattn-model-XXXXXX"};
  must(mkdtemp(c->folder) != NULL, c->folder);
  c->model = (ora_model){.family = kind->family,
                         .vocab = 37,
                         .positions = 16,
                         .types = kind->family == ORA_BERT ? 3 : 0,
                         .layers = 2,
                         .heads = 4,
                         .kv_heads = 4,
                         .head_dim = 6,
                         .embed = 24,
                         .hidden = 40,
                         .eps = 1e-6,
                         .tanh_gelu = kind->family == ORA_GPT2};
  if (kind->family == ORA_LLAMA) {
    c->model.kv_heads = 2;
    c->model.head_dim = 8;
    c->model.rotary_base = 100;
    c->model.rotary_factor = kind->factor;
    c->model.window = kind->window;
  }
  drawer d = {c, kind, {seed}};
  void (*const families[])(drawer *, ora_model *) = {draw_bert, draw_gpt2,
                                                     draw_llama};
  families[kind->family](&d, &c->model);
  if (!kind->gguf) describe(c, kind);
  checkpoint_write(c);
}

checkpoint_tensor *checkpoint_find(checkpoint *c, const char *name) {
  for (int i = 0; i < c->count; i++)
    if (strcmp(c->tensor[i].name, name) == 0) return &c->tensor[i];
  must(false, name);
  return NULL;
}

static void round_all(double *values, int n, clattn_dtype dtype) {
  for (int i = 0; values != NULL && i < n; i++)
    values[i] = ora_round(th_type(dtype), values[i]);
}

void checkpoint_round(checkpoint *c, clattn_dtype dtype) {
  ora_model *m = &c->model;
  const int E = m->embed, F = m->hidden, D = m->head_dim;
  round_all(m->tokens, m->vocab * E, dtype);
  round_all(m->place, m->positions * E, dtype);
  round_all(m->type, m->types * E, dtype);
  round_all(m->pooler.w, E * E, dtype);
  if (m->head != m->tokens) round_all(m->head, m->vocab * E, dtype);
  for (int l = 0; l < m->layers; l++) {
    ora_block *b = &m->block[l];
    round_all(b->q.w, m->heads * D * E, dtype);
    round_all(b->k.w, m->kv_heads * D * E, dtype);
    round_all(b->v.w, m->kv_heads * D * E, dtype);
    round_all(b->o.w, E * m->heads * D, dtype);
    round_all(b->up.w, F * E, dtype);
    round_all(b->gate.w, F * E, dtype);
    round_all(b->down.w, E * F, dtype);
  }
}

void checkpoint_free(checkpoint *c) {
  static const char *const names[] = {"config.json", "model.safetensors",
                                      "model.gguf"};
  char path[80];
  for (int i = 0; i < 3; i++) {
    path_of(c, names[i], path);
    unlink(path);
  }
  rmdir(c->folder);
  th_pool_free(&c->pool);
}
