/* params.h - the parameters of a model that is trained here: named tensors, all
 * in one buffer, so that norm, clipping and AdamW see one tensor. */
#ifndef CLATTN_SRC_PARAMS_H
#define CLATTN_SRC_PARAMS_H

#include "clattn_gpt.h" /* clattn_gpt_tensor */
#include "clattn_nn.h"
#include "kit/kit.h"

/* ---- which there are (params.c) ------------------------------------------ */

enum { KIT_PARAM_CHARS = 48 };

typedef struct kit_param {
  char name[KIT_PARAM_CHARS];
  int rank;          /* 1 or 2; those of 2 decay */
  int64_t extent[2]; /* row-major */
  float start;       /* rank 2: deviation of the normal distribution that it is
                      * drawn from; rank 1: its value */
  int64_t offset; /* elements into the buffer of parameters, gradients, ... */
} kit_param;

typedef struct kit_params {
  clattn_context *context; /* the caller's; buffers keep it alive */
  int device;
  size_t count;
  kit_param *list;  /* [count] */
  int64_t elements; /* of the buffer: tensors begin on cache lines, and what is
                     * between them is 0 everywhere */
  int64_t decayed;  /* the first of them belong to tensors of rank 2 */
  int64_t total;    /* parameters */
  clattn_buffer *values; /* [elements] F32 */
} kit_params;

/* Room for `count` tensors, each to be set; then _place gives them memory, those
 * that decay first. After a failure too kit_params_free. */
clattn_status kit_params_begin(kit_params *params, clattn_context *context,
                               int device, size_t count);
/* columns 0: a vector. */
void kit_param_set(kit_param *param, const char *name, int64_t rows,
                   int64_t columns, float start);
clattn_status kit_params_place(kit_params *params);
void kit_params_free(kit_params *params);

int64_t kit_param_elements(const kit_param *param);
/* Tensor i in a buffer that is laid out as the parameters. */
clattn_tensor kit_params_view(const kit_params *params, clattn_buffer *buffer,
                              size_t i);
/* All of such a buffer, gaps included. */
clattn_tensor kit_params_all(const kit_params *params, clattn_buffer *buffer);
/* Such a buffer, all 0. */
clattn_status kit_params_buffer(const kit_params *params, clattn_queue *queue,
                                clattn_buffer **buffer);
/* As they are before training, tensor by tensor in order. */
clattn_status kit_params_draw(const kit_params *params, clattn_queue *queue,
                              uint32_t seed);
/* Tensor i for a caller. */
clattn_status kit_params_at(const kit_params *params, size_t i,
                            clattn_gpt_tensor *tensor);
/* Tensor i of such a buffer, [elements], read and written. */
clattn_status kit_params_read(const kit_params *params, clattn_queue *queue,
                              const clattn_buffer *buffer, size_t i,
                              float *values);
clattn_status kit_params_write(const kit_params *params, clattn_queue *queue,
                               clattn_buffer *buffer, size_t i,
                               const float *values);

/* ---- AdamW over all of them (optimizer.c) -------------------------------- */

typedef struct kit_optimizer {
  const kit_params *params;
  float beta1, beta2, eps, weight_decay, clip;
  clattn_buffer *grads, *m, *v; /* as the parameters */
  clattn_buffer *norm;          /* [1] */
  int64_t step;                 /* updates done */
} kit_optimizer;

/* Checks the settings, which messages name config->beta1 and so on. */
clattn_status kit_optimizer_check(const kit_optimizer *optimizer);
/* Memory for what params and the settings, already there, ask for. */
clattn_status kit_optimizer_make(kit_optimizer *optimizer, clattn_queue *queue);
void kit_optimizer_free(kit_optimizer *optimizer);
/* Gradients to 0. */
clattn_status kit_optimizer_clear(const kit_optimizer *optimizer,
                                  clattn_queue *queue);
/* Of a buffer like the parameters'. */
clattn_status kit_optimizer_norm(const kit_optimizer *optimizer,
                                 clattn_queue *queue, clattn_buffer *buffer,
                                 float *norm);
/* A step of AdamW; the norm of the gradients has just been computed. */
clattn_status kit_optimizer_update(kit_optimizer *optimizer,
                                   clattn_queue *queue, float learning_rate);

/* ---- files (params_file.c) ----------------------------------------------- */

/* A set of tensors of the parameters' shapes, under prefix + name. */
typedef struct kit_params_part {
  const char *prefix;
  clattn_buffer *buffer;
  clattn_dtype dtype;
} kit_params_part;

/* What a file holds besides: the caller's tensors and metadata. */
typedef struct kit_file_more {
  const clattn_kit_tensor *tensors;
  size_t n_tensors;
  const clattn_kit_metadata *metadata;
  size_t n_metadata;
} kit_file_more;

/* config [n_config]: metadata of the model's own. */
clattn_status kit_params_save(const kit_params *params, clattn_queue *queue,
                              const char *path, const kit_params_part *parts,
                              size_t n_parts, const clattn_kit_metadata *config,
                              size_t n_config, const kit_file_more *more);
clattn_status kit_params_load(const kit_params *params, clattn_queue *queue,
                              const clattn_kit_safetensors *file,
                              const char *prefix, clattn_buffer *buffer);
/* F32, F16 or BF16, or the status of an error. */
clattn_status kit_check_file_dtype(clattn_dtype dtype);

/* A number of a model's config, as the metadata of its file has it. */
typedef struct kit_setting {
  const char *key;
  int64_t *number;  /* or NULL: */
  float *fraction;  /* may be absent from a file: 0 */
  int64_t min, max; /* of number */
} kit_setting;

enum { KIT_NUMBER_CHARS = 32 };

/* entries [n] for a file; texts [n] are what they point to. */
void kit_settings_write(const kit_setting *settings, size_t n,
                        char (*texts)[KIT_NUMBER_CHARS],
                        clattn_kit_metadata *entries);
clattn_status kit_settings_read(const clattn_kit_safetensors *file,
                                const kit_setting *settings, size_t n);
/* A whole number of the metadata, within min..max. */
clattn_status kit_file_number(const clattn_kit_safetensors *file,
                              const char *key, int64_t min, int64_t max,
                              int64_t *number);
/* Before memory is taken for what the metadata says: whether there is a tensor
 * of that name and shape. */
clattn_status kit_file_matrix(const clattn_kit_safetensors *file,
                              const char *name, int64_t rows, int64_t columns);

#endif
