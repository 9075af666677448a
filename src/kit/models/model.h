/* model.h - what the sources of pre-trained models share. */
#ifndef CLATTN_SRC_MODEL_H
#define CLATTN_SRC_MODEL_H

#include "clattn_model.h"
#include "clattn_nn.h"
#include "kit/kit.h"

/* ---- what a model is (model_config.c, model_gguf.c) ----------------------- */

/* Whose names of tensors a file has. */
typedef enum model_names {
  MODEL_NAMES_BERT,
  MODEL_NAMES_GPT2,
  MODEL_NAMES_LLAMA,
  MODEL_NAMES_GGUF_BERT,
  MODEL_NAMES_GGUF,
  MODEL_NAMES
} model_names;

/* The configuration, and what else changes the numbers. */
typedef struct model_spec {
  clattn_model_config config;
  model_names names;
  bool headless;      /* a bare model: logits only if the head is there */
  const char *prefix; /* that names may have in front of them; "" for none   */
  bool turned;        /* matrices of the layers are [in, out]                */
  clattn_nn_gelu_kind gelu;
  float scale;         /* of scores; NaN: 1 / sqrt(head_dim)                  */
  bool scale_by_layer; /* divided by the layer's number, from 1              */
  bool attention_bias, mlp_bias; /* LLAMA: must be there                      */
  int tied; /* the head is the table of tokens: 1 yes, 0 no, -1: if there is
              * no other                                                      */
  int64_t first_position; /* row of the table that position 0 has            */
  int64_t window; /* keys that a row sees, itself included; 0: all           */
  /* Rotary: columns of a head that turn, and how pairs lie. */
  int64_t rotary_dim;
  bool rotary_interleaved;
  double rotary_factor; /* positions are divided by it; 1: none              */
  /* Llama 3.1's: long waves are stretched by rotary_factor, short ones stay. */
  bool rotary_llama3;
  double low_frequency, high_frequency, old_positions;
} model_spec;

/* From a config.json, from a GGUF file's metadata, from a file of
 * `clattn train`. */
clattn_status model_spec_of_config(const char *path, model_spec *spec);
clattn_status model_spec_of_gguf(const clattn_weights *weights,
                                 const char *path, model_spec *spec);
clattn_status model_spec_of_gpt(const clattn_kit_safetensors *file,
                                const char *path, model_spec *spec);
/* What all of them must keep to. */
clattn_status model_spec_check(const model_spec *spec, const char *path);

/* ---- names and shapes of tensors (model_tensors.c) ------------------------- */

/* Modules: a matrix or vector each, most with a bias. X(name, rows, columns);
 * rows and columns are model_size's. */
#define MODEL_MODULE_MAP(X)                                                    \
  X(TOKENS, V, E)                                                              \
  X(POSITIONS, P, E)                                                           \
  X(TYPES, T, E)                                                               \
  X(EMBED_NORM, E, NONE)                                                       \
  X(LAST_NORM, E, NONE)                                                        \
  X(HEAD, V, E)                                                                \
  X(POOLER, E, E)                                                              \
  X(NORM1, E, NONE)                                                            \
  X(Q, Q, E)                                                                   \
  X(K, KV, E)                                                                  \
  X(V, KV, E)                                                                  \
  X(QKV, QKV, E)                                                               \
  X(O, E, Q)                                                                   \
  X(NORM2, E, NONE)                                                            \
  X(UP, F, E)                                                                  \
  X(GATE, F, E)                                                                \
  X(DOWN, E, F)

typedef enum model_module {
#define CLATTN_X(name, rows, cols) MODEL_##name,
  MODEL_MODULE_MAP(CLATTN_X)
#undef CLATTN_X
      MODEL_MODULES,
  MODEL_FIRST_OF_LAYER = MODEL_NORM1
} model_module;

typedef struct model_shape {
  int64_t rows, cols; /* cols 0: a vector */
} model_shape;

model_shape model_module_shape(const model_spec *spec, model_module module);

enum { MODEL_NAME_CHARS = 128 };
/* The name of a module's weight or bias in a file of these names, without
 * prefix; false if such files have none. */
bool model_tensor_name(model_names names, model_module module, int64_t layer,
                       bool bias, char name[MODEL_NAME_CHARS]);

/* ---- a model (model.c) -------------------------------------------------- */

typedef struct model_param {
  clattn_tensor weight, bias; /* bias absent: none */
} model_param;

/* What a layer's attention is to tell beside its output. */
enum { MODEL_TELL_WEIGHTS = 1, MODEL_TELL_STATISTICS = 2, MODEL_TELLS = 4 };

typedef struct model_pass model_pass;

struct clattn_model {
  int users;               /* the handle and decoders: the last one frees it */
  clattn_context *context; /* the caller's; buffers keep it alive */
  int device;
  model_spec spec;
  clattn_model_options options;
  int64_t parameters;
  model_param *params;                  /* see model_part */
  clattn_tensor rotary_cos, rotary_sin; /* absent: not rotary */
  clattn_mha **mha[MODEL_TELLS];        /* [layers] each; NULL until used */
  model_pass *pass;                     /* of clattn_model_run */
  bool running;                         /* in it: its watch may not call it */
};

/* A module's parameters, of that layer where layers have such; weight absent:
 * the model has none. */
model_param *model_part(const clattn_model *model, model_module module,
                        int64_t layer);
/* Rows first..first+n-1 of the tables of angles: [n, rotary_dim / 2]. */
void model_rotary_rows(const model_spec *spec, int64_t first, int64_t n,
                       float *cos_table, float *sin_table);
/* The layers' attention that tells so much, made at the first use. */
clattn_status model_attention(clattn_model *model, uint32_t tells,
                              clattn_mha *const **mha);
/* What a layer's attention multiplies its scores with. */
double model_scale(const model_spec *spec, int64_t layer);
/* Reads the tensors that spec wants, and puts them on the device (model_load.c). */
clattn_status model_load_params(clattn_model *model, clattn_queue *queue,
                                const clattn_weights *weights,
                                const char *path);
/* A buffer of the model's device, whose size is the product. */
clattn_status model_buffer(const clattn_model *model, const char *what,
                           int64_t rows, int64_t cols, size_t size,
                           clattn_buffer **buffer);

/* ---- a batch (model_batch.c) ------------------------------------------------- */

/* Requests whose rows are a rectangle on the device, [count, length]. */
typedef struct model_group {
  int64_t first, count; /* of the batch's order */
  int64_t length;       /* of the longest */
  int64_t row;          /* on the device, of the first request's first token */
  bool ragged;          /* some are shorter: their keys are hidden */
} model_group;

/* Groups that go through the model together. */
typedef struct model_chunk {
  int64_t first_group, groups;
  int64_t first, count; /* of the batch's order */
  int64_t rows;         /* on the device */
} model_chunk;

typedef struct model_batch {
  const clattn_model_input *input;
  int64_t batch;
  int64_t width;    /* rows of the caller's a request has, or PACKED the sum */
  int64_t rows;     /* of the caller's hidden states: [rows, E] */
  int64_t *lengths; /* [batch] */
  int64_t *starts;  /* [batch] the caller's row of its first token */
  int64_t *order;   /* [batch] requests, the longest first */
  int64_t *places;  /* [batch] row on the device, within its chunk */
  int32_t *staged;  /* [4, largest chunk's rows or count] for uploads */
  model_group *groups;
  model_chunk *chunks;
  int64_t n_groups, n_chunks, most_rows, most_count;
} model_batch;

/* Checks the input against the model, and lays it out. together: in one chunk,
 * and groups of equal lengths only. */
clattn_status model_batch_make(const clattn_model *model,
                               const clattn_model_input *input, bool together,
                               model_batch *batch);
void model_batch_free(model_batch *batch);
/* Copies rows of a chunk, from [chunk's rows, cols] to the caller's [rows, cols]:
 * rows first..first+n-1 of the device. */
void model_batch_scatter(const model_batch *batch, const model_chunk *chunk,
                         int64_t first, int64_t n, int64_t cols,
                         const float *from, float *to);
/* 0 in the caller's rows that are the rest. */
void model_batch_clear_rest(const model_batch *batch, int64_t cols, float *to);

/* ---- the way through the model (model_forward.c) ------------------------------ */

/* Activations, F32 [rows, E or F]. */
typedef enum model_act {
  MODEL_X,    /* what flows through */
  MODEL_NORM, /* after a norm */
  MODEL_BRANCH,
  MODEL_WIDE,  /* [rows, F] */
  MODEL_GATED, /* the same, LLAMA */
  MODEL_ACTS
} model_act;

struct model_pass {
  clattn_model *model;
  int64_t room; /* for so many rows */
  clattn_buffer *acts[MODEL_ACTS];
  clattn_buffer *numbers; /* I32 [NUMBERS, room] */
  clattn_buffer *logits;  /* [model_logits_rows, V] */
  float *host;            /* [host_count]: what is read back before it is */
  int64_t host_count;     /* handed out                                  */
  /* The call in progress. */
  const model_group *groups; /* [n_groups] */
  int64_t n_groups, first, rows;
  clattn_mha *const *mha;         /* [layers] */
  clattn_kv_cache *const *caches; /* [layers] or NULL */
  /* [n_groups] each that attention gives its weights, queries and keys to, or
   * NULL. */
  const clattn_tensor *weights, *queries, *keys;
  const clattn_stats *stats; /* [n_groups] that are wanted of it, or NULL */
};

/* What goes to the device: [rows] each, types may be NULL; lengths [rows or
 * fewer] of the requests of the batch's order from `first` on. */
typedef struct model_upload {
  const int32_t *ids, *positions, *types, *lengths;
  int64_t rows;
  const model_group *groups;
  int64_t n_groups, first;
} model_upload;

clattn_status model_pass_create(clattn_model *model, model_pass **pass);
void model_pass_destroy(model_pass *pass);
/* Makes room on the device, and for as many numbers in pass->host. */
clattn_status model_pass_reserve(model_pass *pass, int64_t rows);
clattn_status model_pass_reserve_host(model_pass *pass, int64_t rows,
                                      int64_t cols);
clattn_status model_pass_begin(model_pass *pass, clattn_queue *queue,
                               const model_upload *upload);
/* As model_pass_begin, of a chunk (model_batch.c). */
clattn_status model_batch_upload(const model_batch *batch,
                                 const model_chunk *chunk, model_pass *pass,
                                 clattn_queue *queue);
/* Rows of an activation, [1,1,n,columns]. */
clattn_tensor model_act_view(const model_pass *pass, model_act act,
                             int64_t first, int64_t n);
/* Arguments of a group's attention. */
void model_attention_args(const model_pass *pass, int64_t layer, int64_t group,
                          clattn_mha_args *args);
clattn_status model_embed(model_pass *pass, clattn_queue *queue);
clattn_status model_layer_forward(model_pass *pass, clattn_queue *queue,
                                  int64_t layer);
/* The norm `module` of an activation's first rows. */
clattn_status model_norm(const model_pass *pass, clattn_queue *queue,
                         model_module module, int64_t layer, model_act from,
                         model_act to, int64_t rows);
/* Rows picked[] [n] of X, to the first ones of another activation. */
clattn_status model_pick(const model_pass *pass, clattn_queue *queue,
                         const int32_t *picked, int64_t n, model_act to);
/* Reads rows back to host memory. */
clattn_status model_act_read(const model_pass *pass, clattn_queue *queue,
                             model_act act, int64_t first, int64_t n,
                             float *values);

/* ---- behind the last layer (model_head.c) --------------------------------------- */

/* The norm behind the last layer: X to NORM, where the last hidden states are
 * then; BERT has none, and they are in X. */
clattn_status model_last_norm(model_pass *pass, clattn_queue *queue,
                              model_act *hidden);
/* Logits of so many rows at once go through model_logits. */
int64_t model_logits_rows(const clattn_model *model);
/* [n, V] of rows first.. of the last hidden states. */
clattn_status model_logits(model_pass *pass, clattn_queue *queue,
                           model_act hidden, int64_t first, int64_t n,
                           float *logits);
/* [n, V] of rows picked[] of what flows through, of which no other row goes
 * through norm and head. n <= model_logits_rows. */
clattn_status model_logits_of(model_pass *pass, clattn_queue *queue,
                              const int32_t *picked, int64_t n, float *logits);
/* BERT's pooler of rows picked[]: [n, E]. */
clattn_status model_pooler(model_pass *pass, clattn_queue *queue,
                           const int32_t *picked, int64_t n, float *pooled);

/* ---- watching (model_watch.c) --------------------------------------------------- */

/* Runs the layers of the only chunk, and tells on_layer of each. */
clattn_status model_watch_layers(model_pass *pass, clattn_queue *queue,
                                 const model_batch *batch,
                                 const clattn_model_output *output);

/* ---- one row a request (model_pool.c) -------------------------------------------- */

/* embedding [batch, E] of a chunk's last hidden states, rows [rows, E] as they
 * are on the device. */
void model_pool(const model_batch *batch, const model_chunk *chunk, int64_t E,
                const float *rows, clattn_model_pooling pooling, bool normalize,
                float *embedding);

#endif
