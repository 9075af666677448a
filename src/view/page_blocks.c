/* page_blocks.c - the numbers of a page, a layer at a time. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "page.h"

/* ---- base64 ------------------------------------------------------------------ */

void page_put_base64(FILE *stream, const void *bytes, size_t n) {
  static const char digits[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const unsigned char *from = bytes;
  char text[4096];
  size_t used = 0;
  for (size_t i = 0; i < n; i += 3) {
    const size_t left = n - i;
    const uint32_t word = (uint32_t)from[i] << 16 |
                          (left > 1 ? (uint32_t)from[i + 1] << 8 : 0) |
                          (left > 2 ? (uint32_t)from[i + 2] : 0);
    text[used++] = digits[word >> 18];
    text[used++] = digits[word >> 12 & 63];
    text[used++] = left > 1 ? digits[word >> 6 & 63] : '=';
    text[used++] = left > 2 ? digits[word & 63] : '=';
    if (used == sizeof text) {
      fwrite(text, 1, used, stream);
      used = 0;
    }
  }
  fwrite(text, 1, used, stream);
}

static void put_block(FILE *stream, const page_part *part, int64_t layer,
                      const char *name, const void *bytes, size_t n) {
  fprintf(stream, "<script type=\"text/plain\" id=\"d-%zu-%zu-%lld-%s\">",
          part->run, part->index, (long long)layer, name);
  page_put_base64(stream, bytes, n);
  fputs("</script>\n", stream);
}

/* ---- tensors ------------------------------------------------------------------ */

const char *page_block_name(clattn_attention_tensor tensor) {
  switch (tensor) {
    case CLATTN_ATTENTION_WEIGHTS:
      return "attention";
    case CLATTN_ATTENTION_QUERY:
      return "query";
    case CLATTN_ATTENTION_KEY:
      return "key";
    case CLATTN_ATTENTION_TOP_KEYS:
      return "top_keys";
    case CLATTN_ATTENTION_TOP_WEIGHTS:
      return "top_weights";
    case CLATTN_ATTENTION_MAP:
      return "map";
    default:
      return NULL;
  }
}

static int64_t blocks_of(int64_t n, int64_t block) {
  return (n + block - 1) / block;
}

/* Numbers of a tensor of a layer. They fit in memory: they are in a file. */
static size_t count(const clattn_attention_part *info,
                    clattn_attention_tensor tensor) {
  const int64_t n = info->rows.n, m = info->keys.n;
  switch (tensor) {
    case CLATTN_ATTENTION_WEIGHTS:
      return (size_t)(info->heads * n * m);
    case CLATTN_ATTENTION_QUERY:
      return (size_t)(info->heads * n * info->head_dim);
    case CLATTN_ATTENTION_KEY:
      return (size_t)(info->kv_heads * m * info->head_dim);
    case CLATTN_ATTENTION_MAP:
      return (size_t)(info->heads * blocks_of(n, info->map_block) *
                      blocks_of(m, info->map_block));
    default:
      return (size_t)(info->heads * n * info->top);
  }
}

/* Numbers of four bytes each; to be freed. */
static clattn_status read_tensor(const page_part *part, int64_t layer,
                                 clattn_attention_tensor tensor,
                                 void **values) {
  *values = malloc(4 * count(&part->info, tensor) + 4);
  if (*values == NULL) return VIEW_OUT_OF_MEMORY("a layer of the page");
  const clattn_status status = clattn_attention_read(
      part->attention, part->index, layer, tensor, *values);
  if (status == CLATTN_OK) return CLATTN_OK;
  free(*values);
  *values = NULL;
  return status;
}

static clattn_status put_tensor(FILE *stream, const page_part *part,
                                int64_t layer, clattn_attention_tensor tensor) {
  const char *name = page_block_name(tensor);
  const size_t n = count(&part->info, tensor);
  void *values, *halves = NULL;
  VIEW_TRY(read_tensor(part, layer, tensor, &values));
  clattn_status status = CLATTN_OK;
  if (tensor == CLATTN_ATTENTION_WEIGHTS && part->info.dtype == CLATTN_F16) {
    halves = malloc(2 * n + 2); /* the very bits of the file again */
    status = halves == NULL
                 ? VIEW_OUT_OF_MEMORY("a layer of the page")
                 : clattn_convert(CLATTN_F32, values, CLATTN_F16, halves, n);
  }
  if (status == CLATTN_OK)
    put_block(stream, part, layer, name, halves ? halves : values,
              (halves ? 2 : 4) * n);
  free(halves);
  free(values);
  return status;
}

/* ---- thumbnails ---------------------------------------------------------------- */

/* Rows of a thumbnail's cell that are looked at, where it has more: what a glance
 * needs, in time that is linear in the tokens. */
enum { CELL_ROWS = 32 };
#define THUMB_WORK 1e10 /* multiply-adds, and 64 for each weight's exp */

/* One head's thumbnail [rows, keys], each cell the largest weight in it. */
typedef struct thumb {
  int64_t rows, keys;
  float *largest; /* [rows * keys] */
} thumb;

/* Which of `cells` parts of 0..n-1, as equal as can be, has i. */
static int64_t cell_of(int64_t i, int64_t n, int64_t cells) {
  return ((i + 1) * cells - 1) / n;
}

/* A weight at (i, j) of an n x m matrix. NaN leaves no trace. */
static void note(const thumb *to, int64_t i, int64_t n, int64_t j, int64_t m,
                 float weight) {
  float *cell = &to->largest[cell_of(i, n, to->rows) * to->keys +
                             cell_of(j, m, to->keys)];
  if (weight > *cell) *cell = weight;
}

/* CELL_ROWS, or as many as the thumbnails of all heads leave time for. */
static int64_t cell_rows(const clattn_attention_part *info, int64_t rows) {
  const double row = (double)info->layers * (double)info->heads *
                     (double)info->keys.n * (64 + (double)info->head_dim);
  const double fit = THUMB_WORK / row / (double)rows;
  return fit >= CELL_ROWS ? CELL_ROWS : fit < 1 ? 1 : (int64_t)fit;
}

/* From the weights. rows [CELL_ROWS, m] is scratch. */
static clattn_status note_weights(const thumb *to, const page_part *part,
                                  int64_t layer, int64_t head, float *rows) {
  const int64_t n = part->info.rows.n, m = part->info.keys.n;
  const int64_t some = cell_rows(&part->info, to->rows);
  for (int64_t r = 0; r < to->rows; r++) {
    int64_t begin = r * n / to->rows, end = (r + 1) * n / to->rows;
    if (end - begin > some) { /* those in its middle */
      begin += (end - begin - some) / 2;
      end = begin + some;
    }
    /* One call for all: each brings the keys into another form. */
    VIEW_TRY(clattn_attention_read_weights(part->attention, part->index, layer,
                                           head, begin, end - begin, rows));
    for (int64_t i = begin; i < end; i++)
      for (int64_t k = 0; k < to->keys; k++) {
        float *cell = &to->largest[r * to->keys + k];
        const float *row = rows + (i - begin) * m;
        for (int64_t j = k * m / to->keys; j < (k + 1) * m / to->keys; j++)
          if (row[j] > *cell) *cell = row[j]; /* NaN leaves no trace */
      }
  }
  return CLATTN_OK;
}

/* From means over blocks. map [map rows, map keys] */
static void note_map(const thumb *to, const clattn_attention_part *info,
                     const float *map) {
  const int64_t rows = blocks_of(info->rows.n, info->map_block);
  const int64_t keys = blocks_of(info->keys.n, info->map_block);
  for (int64_t r = 0; r < rows; r++)
    for (int64_t k = 0; k < keys; k++)
      note(to, r, rows, k, keys, map[r * keys + k]);
}

/* From the heaviest keys of each row. keys, weights [n, top] */
static void note_top(const thumb *to, const clattn_attention_part *info,
                     const int32_t *keys, const float *weights) {
  for (int64_t i = 0; i < info->rows.n; i++) {
    for (int64_t k = i * info->top; k < (i + 1) * info->top; k++) {
      if (keys[k] >= 0 && keys[k] < info->keys.n)
        note(to, i, info->rows.n, keys[k], info->keys.n, weights[k]);
    }
  }
}

static void to_bytes(const thumb *from, uint8_t *bytes) {
  const int64_t n = from->rows * from->keys;
  float largest = 0;
  for (int64_t i = 0; i < n; i++) largest = fmaxf(largest, from->largest[i]);
  for (int64_t i = 0; i < n; i++)
    bytes[i] = (uint8_t)(largest > 0 && isfinite(largest)
                             ? lroundf(255 * sqrtf(from->largest[i] / largest))
                             : 0);
}

/* What the thumbnails of a part without weights are made of. */
typedef struct thumb_source {
  void *map, *keys, *weights; /* NULL: not that one */
  float *rows;                /* [CELL_ROWS, m] */
} thumb_source;

static clattn_status thumb_of(const thumb *to, const page_part *part,
                              int64_t layer, int64_t head,
                              const thumb_source *source) {
  const clattn_attention_part *info = &part->info;
  memset(to->largest, 0, (size_t)(to->rows * to->keys) * sizeof(float));
  if (source->map != NULL) {
    const int64_t size = blocks_of(info->rows.n, info->map_block) *
                         blocks_of(info->keys.n, info->map_block);
    note_map(to, info, (const float *)source->map + head * size);
  } else if (source->keys != NULL) {
    const int64_t at = head * info->rows.n * info->top;
    note_top(to, info, (const int32_t *)source->keys + at,
             (const float *)source->weights + at);
  } else {
    return note_weights(to, part, layer, head, source->rows);
  }
  return CLATTN_OK;
}

static bool has(const page_part *part, clattn_attention_tensor tensor) {
  return (part->blocks >> tensor & 1) != 0;
}

static clattn_status open_source(const page_part *part, int64_t layer,
                                 thumb_source *source) {
  if (has(part, CLATTN_ATTENTION_MAP))
    return read_tensor(part, layer, CLATTN_ATTENTION_MAP, &source->map);
  if (has(part, CLATTN_ATTENTION_TOP_KEYS)) {
    VIEW_TRY(
        read_tensor(part, layer, CLATTN_ATTENTION_TOP_KEYS, &source->keys));
    return read_tensor(part, layer, CLATTN_ATTENTION_TOP_WEIGHTS,
                       &source->weights);
  }
  source->rows = calloc((size_t)part->info.keys.n, CELL_ROWS * sizeof(float));
  return source->rows ? CLATTN_OK : VIEW_OUT_OF_MEMORY("rows of the page");
}

/* bytes [heads, thumb rows, thumb keys] */
static clattn_status make_thumbs(const page_part *part, int64_t layer,
                                 const thumb *to, uint8_t *bytes) {
  thumb_source source = {0};
  clattn_status status = open_source(part, layer, &source);
  for (int64_t h = 0; h < part->info.heads && status == CLATTN_OK; h++) {
    status = thumb_of(to, part, layer, h, &source);
    if (status == CLATTN_OK) to_bytes(to, bytes + h * to->rows * to->keys);
  }
  free(source.map);
  free(source.keys);
  free(source.weights);
  free(source.rows);
  return status;
}

static clattn_status put_thumbs(FILE *stream, const page_part *part,
                                int64_t layer) {
  const size_t cells = (size_t)(part->thumb_rows * part->thumb_keys);
  const size_t n = (size_t)part->info.heads * cells;
  thumb to = {part->thumb_rows, part->thumb_keys,
              malloc(cells * sizeof(float))};
  uint8_t *bytes = malloc(n);
  clattn_status status = to.largest && bytes
                             ? make_thumbs(part, layer, &to, bytes)
                             : VIEW_OUT_OF_MEMORY("thumbnails");
  if (status == CLATTN_OK) put_block(stream, part, layer, "thumbs", bytes, n);
  free(bytes);
  free(to.largest);
  return status;
}

clattn_status page_put_layer(FILE *stream, const page_part *part,
                             int64_t layer) {
  for (int t = 0; t < CLATTN_ATTENTION_TENSORS; t++)
    if (has(part, (clattn_attention_tensor)t))
      VIEW_TRY(put_tensor(stream, part, layer, (clattn_attention_tensor)t));
  return put_thumbs(stream, part, layer);
}
