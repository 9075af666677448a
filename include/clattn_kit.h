/* clattn_kit.h - what surrounds attention: model files, text, pictures.
 *
 *   safetensors   read and write named tensors
 *   layer         a clattn_mha with weights from a file or from a seed
 *   loader        sliding windows over tokens, in batches
 *   rng           the random numbers PyTorch draws
 *   heatmap       a matrix as a picture in a terminal
 *
 * A second library, libclattn_kit, on top of libclattn; it needs no OpenCL.
 * The conventions of clattn.h hold: a status is returned, out-parameters come
 * last and are set only on success (handles to NULL on failure), the message of
 * a failure is clattn_error_message(), X_destroy(NULL) does nothing, and
 * nothing is printed except to the stream a caller hands over.
 *
 *   Threads   files do not change once open: any thread, any time. loader and layer: one thread at a time. rng: a
 *             value of the caller's.
 *   Platform  little-endian machines, as the file format is. */
#ifndef CLATTN_KIT_H
#define CLATTN_KIT_H

#include <stdio.h>

#include "clattn.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- safetensors ------------------------------------------------------------
 * (huggingface/safetensors: 8 bytes of little-endian header length, a JSON
 * header, then the tensors' bytes, row-major, without gaps.) */

/* X(name, value, bytes of an element) */
#define CLATTN_KIT_DTYPE_MAP(X)                                                \
  X(F64, 1, 8)                                                                 \
  X(F32, 2, 4)                                                                 \
  X(F16, 3, 2)                                                                 \
  X(BF16, 4, 2)                                                                \
  X(I64, 5, 8)                                                                 \
  X(I32, 6, 4)                                                                 \
  X(I16, 7, 2)                                                                 \
  X(I8, 8, 1)                                                                  \
  X(U8, 9, 1)                                                                  \
  X(BOOL, 10, 1)

typedef enum clattn_kit_dtype {
  CLATTN_KIT_UNKNOWN = 0, /* some other type: bytes that nothing here reads   */
#define CLATTN_X(name, value, size) CLATTN_KIT_##name = value,
  CLATTN_KIT_DTYPE_MAP(CLATTN_X)
#undef CLATTN_X
} clattn_kit_dtype;

/* Bytes of one element; 0 for UNKNOWN and other values. */
CLATTN_API size_t clattn_kit_dtype_size(clattn_kit_dtype dtype);
/* "F32" as files spell it; "UNKNOWN" for other values. */
CLATTN_API const char *clattn_kit_dtype_name(clattn_kit_dtype dtype);
/* The type of a clattn_tensor that holds the same bytes; 0 if there is none. */
CLATTN_API clattn_dtype clattn_kit_dtype_on_device(clattn_kit_dtype dtype);
/* The reverse; UNKNOWN for other values. */
CLATTN_API clattn_kit_dtype clattn_kit_dtype_of(clattn_dtype dtype);

#define CLATTN_KIT_MAX_RANK 8

/* A view of a named tensor in host memory. It owns nothing. */
typedef struct clattn_kit_tensor {
  const char *name; /* UTF-8                                            */
  clattn_kit_dtype dtype;
  const char *dtype_name; /* as the file spells it; the writer ignores it     */
  int rank;               /* 0 (one number) .. CLATTN_KIT_MAX_RANK            */
  int64_t extent[CLATTN_KIT_MAX_RANK];
  const void *data; /* row-major; may be at ANY alignment: use memcpy   */
  size_t size_bytes;
} clattn_kit_tensor;

typedef struct clattn_kit_safetensors clattn_kit_safetensors;

/* Maps a file and checks all of it: header within the file and at most 100 MB,
 * valid JSON without duplicate names, extents whole numbers >= 0 whose product
 * does not overflow, each tensor's bytes within the file and as many as its
 * shape takes, no overlap and no gap. IO_ERROR says what is wrong. The file
 * must not be truncated while it is open. */
CLATTN_API clattn_status
clattn_kit_safetensors_open(const char *path, clattn_kit_safetensors **file);
/* The same from memory, which is borrowed until _destroy. */
CLATTN_API clattn_status clattn_kit_safetensors_parse(
    const void *bytes, size_t size_bytes, clattn_kit_safetensors **file);
/* Ends every view taken from it. */
CLATTN_API void clattn_kit_safetensors_destroy(clattn_kit_safetensors *file);

/* Number of tensors; 0 for NULL. */
CLATTN_API size_t
clattn_kit_safetensors_count(const clattn_kit_safetensors *file);
/* Tensor i in the order of the file's bytes, of any type. */
CLATTN_API clattn_status clattn_kit_safetensors_at(
    const clattn_kit_safetensors *file, size_t i, clattn_kit_tensor *tensor);
CLATTN_API bool clattn_kit_safetensors_has(const clattn_kit_safetensors *file,
                                           const char *name);
/* INVALID_ARGUMENT: no tensor of that name. UNSUPPORTED: type is UNKNOWN. */
CLATTN_API clattn_status
clattn_kit_safetensors_find(const clattn_kit_safetensors *file,
                            const char *name, clattn_kit_tensor *tensor);
/* The text of a metadata key; NULL if absent. Owned by the file. */
CLATTN_API const char *clattn_kit_safetensors_metadata(
    const clattn_kit_safetensors *file, const char *key);

typedef struct clattn_kit_metadata {
  const char *key, *text; /* UTF-8 */
} clattn_kit_metadata;

/* Number of metadata entries, and entry i. */
CLATTN_API size_t
clattn_kit_safetensors_metadata_count(const clattn_kit_safetensors *file);
CLATTN_API clattn_status clattn_kit_safetensors_metadata_at(
    const clattn_kit_safetensors *file, size_t i, clattn_kit_metadata *entry);

/* Writes a file beside `path` and renames it, so that a reader sees the old
 * file or the new one and never half of it; what is there and is not a regular
 * file is left alone. Wide types come first, so every tensor is naturally
 * aligned. metadata may be NULL when n_metadata is 0. */
CLATTN_API clattn_status clattn_kit_safetensors_write(
    const char *path, const clattn_kit_tensor *tensors, size_t n,
    const clattn_kit_metadata *metadata, size_t n_metadata);

/* The same part by part, for files larger than memory. Of the tensors data and
 * size_bytes are not read; the others' memory may go after _create. */
typedef struct clattn_kit_safetensors_writer clattn_kit_safetensors_writer;

/* The extent of a tensor of rank 1 that is as long as what is put in the end. At
 * most one may grow; its bytes come last, so that it is naturally aligned unless
 * another tensor's type is narrower. */
#define CLATTN_KIT_GROWS ((int64_t)-1)

CLATTN_API clattn_status clattn_kit_safetensors_writer_create(
    const char *path, const clattn_kit_tensor *tensors, size_t n,
    const clattn_kit_metadata *metadata, size_t n_metadata,
    clattn_kit_safetensors_writer **writer);
/* The next bytes of tensor i, in parts of any size; tensors in any order. Each
 * call writes to the file: gather small parts. INVALID_ARGUMENT when they are
 * more than the tensor takes. IO_ERROR ends the file: only _destroy may follow. */
CLATTN_API clattn_status clattn_kit_safetensors_writer_put(
    clattn_kit_safetensors_writer *writer, size_t i, const void *data,
    size_t size_bytes);
/* Gives the file its name. INVALID_ARGUMENT names a tensor that is not complete;
 * the rest of it may still be put then. */
CLATTN_API clattn_status
clattn_kit_safetensors_writer_finish(clattn_kit_safetensors_writer *writer);
/* Without _finish before, nothing is left of it. */
CLATTN_API void clattn_kit_safetensors_writer_destroy(
    clattn_kit_safetensors_writer *writer);

/* Number of elements of a tensor: the product of its extents. */
CLATTN_API int64_t clattn_kit_tensor_elements(const clattn_kit_tensor *tensor);
/* Copies all elements, converted. Any known type to float (rounded to nearest);
 * I64, I32, I16, I8, U8 and BOOL (0 or 1) to int64_t, else UNSUPPORTED. */
CLATTN_API clattn_status
clattn_kit_tensor_to_f32(const clattn_kit_tensor *tensor, float *values);
CLATTN_API clattn_status
clattn_kit_tensor_to_i64(const clattn_kit_tensor *tensor, int64_t *values);

/* ---- Random numbers ---------------------------------------------------------
 * PyTorch's CPU generator: MT19937 (Matsumoto and Nishimura 1998). */
typedef struct clattn_kit_rng {
  uint32_t state[624];
  int next;
} clattn_kit_rng;

/* As torch.manual_seed(seed). */
CLATTN_API void clattn_kit_rng_init(clattn_kit_rng *rng, uint32_t seed);
CLATTN_API uint32_t clattn_kit_rng_u32(clattn_kit_rng *rng);
/* (u32 & 0xFFFFFF) * 2^-24, in [0, 1). As torch.rand draws. */
CLATTN_API float clattn_kit_rng_uniform(clattn_kit_rng *rng);
/* nn.Linear(in, out): weight [out, in], then bias [out] unless NULL, uniform in
 * +-1/sqrt(in). */
CLATTN_API void clattn_kit_rng_linear(clattn_kit_rng *rng, int64_t out,
                                      int64_t in, float *weight, float *bias);
/* n numbers of the standard normal distribution by Box and Muller's transform
 * of 16 uniform numbers at a time (8 radii, 8 angles), as PyTorch fills 16 or
 * more; fewer than 16 are the first of one such group, unlike PyTorch. */
CLATTN_API void clattn_kit_rng_normal(clattn_kit_rng *rng, size_t n,
                                      float *values);

/* ---- The layer with its weights ---------------------------------------------
 * Owns a clattn_mha and the device buffers its weights lie in. */
typedef struct clattn_kit_mha clattn_kit_mha;

/* Reads the parameters of a torch.nn.MultiheadAttention, each name behind
 * `prefix` ("" or NULL for none, "model.attn." ...):
 *
 *   in_proj_weight (rows of q, then k, then v) with in_proj_bias, or
 *   {q,k,v}_proj_weight | {q,k,v}_proj.weight, and their biases
 *   out_proj.weight | out_proj_weight, and its bias
 *
 * in F32, F16 or BF16, kept on the device as they are. Biases are optional.
 * config: num_heads is required; embed_dim, kdim, vdim and out_dim may be 0 and
 * are then read from the shapes; what is not 0 must agree with them.
 * Blocks until the weights are on the device. The file may go afterwards. */
CLATTN_API clattn_status clattn_kit_mha_load(clattn_context *context,
                                             int device, clattn_queue *queue,
                                             const clattn_kit_safetensors *file,
                                             const char *prefix,
                                             const clattn_mha_config *config,
                                             clattn_kit_mha **mha);

/* Weights drawn as nn.Linear draws them, in this order: query, key, value (each
 * with a bias if qkv_bias), output projection with bias. F32. */
CLATTN_API clattn_status clattn_kit_mha_random(clattn_context *context,
                                               int device, clattn_queue *queue,
                                               const clattn_mha_config *config,
                                               bool qkv_bias,
                                               clattn_kit_rng *rng,
                                               clattn_kit_mha **mha);
CLATTN_API void clattn_kit_mha_destroy(clattn_kit_mha *mha);

/* Borrowed; NULL for NULL. */
CLATTN_API clattn_mha *clattn_kit_mha_layer(const clattn_kit_mha *mha);
/* The resolved config and the views, to make further layers on the same weights
 * (one that returns its attention weights, say), which must be destroyed first.
 * Either may be NULL. */
CLATTN_API clattn_status clattn_kit_mha_parts(const clattn_kit_mha *mha,
                                              clattn_mha_config *config,
                                              clattn_mha_weights *weights);
/* Number of parameters; 0 for NULL. */
CLATTN_API int64_t clattn_kit_mha_parameters(const clattn_kit_mha *mha);
/* Writes the weights under the names that _load reads (q_proj_weight,
 * q_proj_bias, ..., out_proj.weight, out_proj.bias behind prefix), together
 * with n_more tensors of the caller's. */
CLATTN_API clattn_status clattn_kit_mha_save(
    const clattn_kit_mha *mha, clattn_queue *queue, const char *path,
    const char *prefix, const clattn_kit_tensor *more, size_t n_more);

/* ---- Sliding windows --------------------------------------------------------
 * Window w covers tokens i .. i+length-1 with i = w * stride, for every
 * i < n - length; its target is the same shifted by one token. The tokens may lie in
 * a mapped file (clattn_tokenizer_encode_file writes one): of a text larger than
 * memory. */
typedef struct clattn_kit_loader_config {
  size_t struct_size; /* set by clattn_kit_loader_config_init             */
  int64_t length;     /* tokens of a window; default 256                  */
  int64_t stride;     /* from window to window; default 128               */
  int64_t batch;      /* windows of a batch; default 4                    */
  bool shuffle;       /* default true                                     */
  bool drop_last;     /* leave out an incomplete last batch; default true */
  bool cover_tail;    /* one more window, i = n - length - 1, where the
                          * others leave tokens at the end; default false    */
  uint32_t seed;      /* of the shuffling; default 0                      */
} clattn_kit_loader_config;

CLATTN_API void clattn_kit_loader_config_init(clattn_kit_loader_config *config);

typedef struct clattn_kit_loader clattn_kit_loader;

/* ids [n] is borrowed until _destroy. INVALID_ARGUMENT when not even one window
 * and its target fit (n <= length). */
CLATTN_API clattn_status clattn_kit_loader_create(
    const clattn_kit_loader_config *config, const int32_t *ids, int64_t n,
    clattn_kit_loader **loader);
CLATTN_API void clattn_kit_loader_destroy(clattn_kit_loader *loader);
/* Windows there are, and batches an epoch has; 0 for NULL. */
CLATTN_API int64_t clattn_kit_loader_windows(const clattn_kit_loader *loader);
CLATTN_API int64_t clattn_kit_loader_batches(const clattn_kit_loader *loader);
/* The next batch: inputs and targets [batch, length] (either may be NULL) and
 * the windows in it; 0 at the end of the epoch. */
CLATTN_API clattn_status clattn_kit_loader_next(clattn_kit_loader *loader,
                                                int32_t *inputs,
                                                int32_t *targets,
                                                int64_t *windows);
/* Starts another epoch, shuffled anew. */
CLATTN_API clattn_status clattn_kit_loader_rewind(clattn_kit_loader *loader);
/* Where it stands: the epoch, from 0, and the batch of it that comes next. */
CLATTN_API clattn_status clattn_kit_loader_tell(const clattn_kit_loader *loader,
                                                int64_t *epoch, int64_t *batch);
/* Goes there: what follows is what followed when _tell gave these. batch
 * 0..batches, the last of which is the end of the epoch. Time is that of
 * shuffling once for each epoch in between. */
CLATTN_API clattn_status clattn_kit_loader_seek(clattn_kit_loader *loader,
                                                int64_t epoch, int64_t batch);

/* ---- Heatmap ----------------------------------------------------------------
 * A matrix as a picture of Unicode blocks, UTF-8. */
typedef enum clattn_kit_heatmap_style {
  CLATTN_KIT_SHADES = 0, /* two columns a cell, five shades; no escapes      */
  CLATTN_KIT_COLORS = 1, /* two columns a cell, 24-bit background colours    */
  CLATTN_KIT_HALVES = 2  /* one column a cell, two matrix rows a line in
                          * 24-bit colours: half blocks, nearly square cells */
} clattn_kit_heatmap_style;

typedef struct clattn_kit_heatmap_config {
  size_t struct_size; /* set by clattn_kit_heatmap_config_init            */
  clattn_kit_heatmap_style style; /* default SHADES                          */
  bool by_row;           /* each row by its own largest value; default false */
  float low, high;       /* values shown empty and full; NaN (default): 0 and
                          * the largest value. Not with by_row               */
  int label_columns;     /* widest label, the rest is cut; default 12        */
  bool legend;           /* a last line says what the shades mean; default
                          * true                                             */
  bool root;             /* shades by the square root of a value's place between
                      * low and high: small ones are seen; default false */
  const uint8_t *hidden; /* [rows, cols] 1: a cell that is left as the
                          * ground; NULL (default): none */
} clattn_kit_heatmap_config;

CLATTN_API void clattn_kit_heatmap_config_init(
    clattn_kit_heatmap_config *config);

/* matrix [rows, cols] with row_stride elements from row to row. row_labels
 * [rows] and column_labels [cols] are UTF-8, NULL for none; they are measured
 * in terminal columns, and what would move the cursor is shown as U+FFFD.
 * Values that are not finite show as a cell of their own. config NULL: all
 * defaults.
 * IO_ERROR: the stream failed. */
CLATTN_API clattn_status clattn_kit_heatmap(
    const clattn_kit_heatmap_config *config, const float *matrix, int64_t rows,
    int64_t cols, int64_t row_stride, const char *const *row_labels,
    const char *const *column_labels, FILE *stream);

/* The colour of a place from 0 to 1 on the scale that all pictures share: viridis
 * (van der Walt and Smith 2015), linear between nine equal steps. Places beyond are
 * the ends, NaN is grey. */
CLATTN_API void clattn_kit_color(double place, uint8_t rgb[3]);
/* Writes of a UTF-8 label what has room in so many columns of a terminal, with an
 * ellipsis where it is cut, and U+FFFD for what would move the cursor; returns the
 * columns taken. stream NULL: nothing is written; label NULL: 0. */
CLATTN_API int clattn_kit_label(const char *label, int columns, FILE *stream);

#ifdef __cplusplus
}
#endif
#endif /* CLATTN_KIT_H */
