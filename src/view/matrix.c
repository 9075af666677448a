/* matrix.c - the numbers of a picture.
 *
 * A cell is a token's weight on a token or, where there are more tokens than
 * cells, the mean over a block of rows of their weight on all keys of a block: rows
 * of cells sum to 1 as rows of weights do. */
#include "matrix.h"

#include <math.h>
#include <stdlib.h>

#define STRIP (1 << 20) /* weights that are read at once */
#define RUN 16          /* rows side by side of a sample, at most */

static bool has(const view_selection *s, clattn_attention_tensor tensor) {
  return (s->part.has & 1u << tensor) != 0;
}

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* The least multiple of `step` that is not below n. */
static int64_t up(int64_t n, int64_t step) {
  return ((n - 1) / step + 1) * step;
}

/* ---- which cells ---------------------------------------------------------- */

/* A range of tokens and the blocks they are shown in. */
typedef struct range {
  int64_t first, tokens, block;
} range;

bool view_weights_recorded(const view_selection *s) {
  return has(s, CLATTN_ATTENTION_WEIGHTS);
}

bool view_products_recorded(const view_selection *s) {
  return has(s, CLATTN_ATTENTION_QUERY) && has(s, CLATTN_ATTENTION_KEY);
}

/* Heads whose cells are wanted. */
static double maps_of(const view_selection *s) {
  if (s->kind == CLATTN_VIEW_HEAD)
    return s->head < 0 ? (double)s->part.heads : 1;
  return (double)s->part.layers * (double)s->part.heads;
}

/* Rows of each block that time allows to look at; 0: all. */
static int64_t choose_sample(const view_selection *s, const range *rows,
                             double most) {
  const double row = maps_of(s) * (double)s->part.keys.n *
                     (view_weights_recorded(s) ? 4 /* to be read alone */
                                               : 64 + (double)s->part.head_dim);
  if (rows->block == 1 || row * (double)rows->tokens <= most) return 0;
  const double blocks = (double)((rows->tokens - 1) / rows->block + 1);
  const int64_t fit = (int64_t)(most / row / blocks);
  return fit < 1 ? 1 : smaller(fit, rows->block);
}

static clattn_status choose_source(const view_selection *s, const range *rows,
                                   const range *keys, view_source *source) {
  const bool products = view_products_recorded(s),
             top = has(s, CLATTN_ATTENTION_TOP_KEYS) &&
                   has(s, CLATTN_ATTENTION_TOP_WEIGHTS);
  const bool map = has(s, CLATTN_ATTENTION_MAP);
  /* One row is never shown as the mean of others if there is another way. */
  const bool blocks =
      s->kind != CLATTN_VIEW_TOKEN && (rows->block > 1 || keys->block > 1);
  const double work = maps_of(s) * (double)rows->tokens *
                      (double)s->part.keys.n * (double)s->part.head_dim;
  if (view_weights_recorded(s))
    *source = VIEW_WEIGHTS;
  else if (products && !(map && blocks && work > VIEW_MANY_PRODUCTS))
    *source = VIEW_WEIGHTS;
  else if (map && (blocks || !(products || top)))
    *source = VIEW_MAP;
  else if (top)
    *source = VIEW_TOP;
  else
    VIEW_REQUIRE(map,
                 "attention: the file has neither weights nor query and "
                 "key, and no top keys and no map either: there is "
                 "nothing but a table to show");
  return CLATTN_OK;
}

/* Widens a range to the blocks that were recorded, of n tokens. */
static void widen(range *r, int64_t map_block, int64_t n) {
  const int64_t end = r->first + r->tokens;
  r->first -= r->first % map_block;
  r->tokens = smaller(up(end, map_block), n) - r->first;
  r->block = up(r->block, map_block);
}

static range take(int64_t first, int64_t tokens, int64_t cells) {
  return (range){first, tokens, (tokens - 1) / cells + 1};
}

clattn_status view_matrix_plan(const view_selection *s, int64_t max_rows,
                               int64_t max_keys, bool whole,
                               view_matrix *matrix) {
  const int64_t n = s->part.rows.n, m = s->part.keys.n;
  const bool cross = s->part.kind == CLATTN_ATTENTION_CROSS;
  const bool tokens_known = view_weights_recorded(s) ||
                            view_products_recorded(s) ||
                            has(s, CLATTN_ATTENTION_TOP_KEYS);
  range rows, keys;
  if (s->kind == CLATTN_VIEW_TOKEN) {
    rows = take(s->row, 1, 1);
    keys = take(0, m, max_keys);
  } else {
    int64_t tokens = n - s->first;
    if (s->tokens > 0)
      tokens = smaller(tokens, s->tokens);
    else if (!whole && tokens_known)
      tokens = smaller(tokens, cross ? max_rows : smaller(max_rows, max_keys));
    rows = take(s->first, tokens, max_rows);
    /* The keys of a cross-attention are another text: all of it. */
    keys = cross || m != n ? take(0, m, max_keys)
                           : take(s->first, tokens, max_keys);
  }
  *matrix = (view_matrix){.source = VIEW_WEIGHTS};
  VIEW_TRY(choose_source(s, &rows, &keys, &matrix->source));
  if (matrix->source == VIEW_MAP) {
    widen(&rows, s->part.map_block, n);
    widen(&keys, s->part.map_block, m);
  }
  if (matrix->source == VIEW_WEIGHTS)
    matrix->sample = choose_sample(s, &rows, VIEW_MOST_WORK);
  VIEW_TRY(view_axis_create(&s->part.rows, rows.first, rows.tokens, rows.block,
                            &matrix->rows));
  const clattn_status status = view_axis_create(
      &s->part.keys, keys.first, keys.tokens, keys.block, &matrix->keys);
  if (status != CLATTN_OK) view_axis_destroy(&matrix->rows);
  return status;
}

void view_matrix_destroy(view_matrix *matrix) {
  view_axis_destroy(&matrix->rows);
  view_axis_destroy(&matrix->keys);
}

bool view_matrix_seen(const view_selection *s, const view_matrix *matrix,
                      int64_t row, int64_t key) {
  const int64_t offset = s->part.keys.n - s->part.rows.n;
  const int64_t first_row = view_axis_begin(&matrix->rows, row) + offset;
  const int64_t last_row = view_axis_end(&matrix->rows, row) - 1 + offset;
  const int64_t first_key = view_axis_begin(&matrix->keys, key);
  const int64_t last_key = view_axis_end(&matrix->keys, key) - 1;
  if (s->part.causal && first_key > last_row) return false;
  return s->part.window <= 0 || last_key > first_row - s->part.window;
}

int64_t view_matrix_looked_at(const view_matrix *matrix, int64_t row) {
  const int64_t rows =
      view_axis_end(&matrix->rows, row) - view_axis_begin(&matrix->rows, row);
  return matrix->sample > 0 ? smaller(matrix->sample, rows) : rows;
}

/* ---- reading ---------------------------------------------------------------- */

/* Sums into cells [rows.n, keys.n]: each weight times the rows it stands for. */
typedef struct adding {
  const view_selection *selection;
  const view_matrix *matrix;
  int64_t layer, head, heads; /* heads head .. head+heads-1 */
  double *sums;
} adding;

static double *sum_at(const adding *a, int64_t row, int64_t key) {
  const view_axis *rows = &a->matrix->rows, *keys = &a->matrix->keys;
  return a->sums + (row - rows->first) / rows->block * keys->n +
         (key - keys->first) / keys->block;
}

/* Rows row..end-1 of a head, a strip of them at a time: weights [strip, keys]. */
static clattn_status add_rows(const adding *a, int64_t head, int64_t row,
                              int64_t end, int64_t strip, float *weights) {
  const view_selection *s = a->selection;
  const view_axis *keys = &a->matrix->keys;
  const int64_t m = s->part.keys.n;
  for (; row < end; row += strip) {
    const int64_t n = smaller(strip, end - row);
    VIEW_TRY(clattn_attention_read_weights(s->attention, s->index, a->layer,
                                           head, row, n, weights));
    for (int64_t i = 0; i < n; i++)
      for (int64_t j = keys->first; j < keys->first + keys->tokens; j++)
        *sum_at(a, row + i, j) += (double)weights[i * m + j];
  }
  return CLATTN_OK;
}

/* Some rows of each block, in runs that share its length: each reading brings the
 * keys into another form. */
static clattn_status add_sample(const adding *a, int64_t head, int64_t strip,
                                float *weights) {
  const view_axis *rows = &a->matrix->rows;
  for (int64_t b = 0; b < rows->n; b++) {
    const int64_t begin = view_axis_begin(rows, b);
    const int64_t length = view_axis_end(rows, b) - begin;
    const int64_t count = view_matrix_looked_at(a->matrix, b);
    const int64_t runs = (count - 1) / RUN + 1;
    for (int64_t r = 0; r < runs; r++) {
      const int64_t n = (r + 1) * count / runs - r * count / runs;
      const int64_t from = begin + r * length / runs;
      const int64_t share = (r + 1) * length / runs - r * length / runs;
      const int64_t first = from + (share - n) / 2;
      VIEW_TRY(add_rows(a, head, first, first + n, strip, weights));
    }
  }
  return CLATTN_OK;
}

/* Weights [rows, keys] of heads. */
static clattn_status add_weights(const adding *a) {
  const view_axis *rows = &a->matrix->rows;
  const int64_t m = a->selection->part.keys.n;
  const int64_t strip = smaller(rows->tokens, m < STRIP ? STRIP / m : 1);
  float *weights = calloc((size_t)strip * (size_t)m, sizeof *weights);
  if (weights == NULL) return VIEW_OUT_OF_MEMORY("weights");
  clattn_status status = CLATTN_OK;
  for (int64_t h = a->head; h < a->head + a->heads && status == CLATTN_OK; h++)
    status = a->matrix->sample > 0
                 ? add_sample(a, h, strip, weights)
                 : add_rows(a, h, rows->first, rows->first + rows->tokens,
                            strip, weights);
  free(weights);
  return status;
}

/* A map [heads, map rows, map keys] of blocks. */
static clattn_status add_map(const adding *a) {
  const view_selection *s = a->selection;
  const view_axis *rows = &a->matrix->rows, *keys = &a->matrix->keys;
  const int64_t block = s->part.map_block;
  const int64_t map_rows = (s->part.rows.n - 1) / block + 1;
  const int64_t map_keys = (s->part.keys.n - 1) / block + 1;
  float *map = calloc((size_t)s->part.heads,
                      (size_t)map_rows * (size_t)map_keys * sizeof *map);
  if (map == NULL) return VIEW_OUT_OF_MEMORY("map");
  const clattn_status status = clattn_attention_read(
      s->attention, s->index, a->layer, CLATTN_ATTENTION_MAP, map);
  const int64_t row_end = rows->first + rows->tokens;
  const int64_t key_end = keys->first + keys->tokens;
  for (int64_t h = a->head; status == CLATTN_OK && h < a->head + a->heads; h++)
    for (int64_t row = rows->first; row < row_end; row += block)
      for (int64_t key = keys->first; key < key_end; key += block)
        *sum_at(a, row, key) +=
            (double)map[(h * map_rows + row / block) * map_keys + key / block] *
            (double)smaller(block, s->part.rows.n - row);
  free(map);
  return status;
}

/* top_keys and top_weights [heads, rows, top]. */
static clattn_status add_top(const adding *a) {
  const view_selection *s = a->selection;
  const view_axis *rows = &a->matrix->rows, *keys = &a->matrix->keys;
  const int64_t n = s->part.rows.n, top = s->part.top;
  const size_t count = (size_t)s->part.heads * (size_t)n * (size_t)top;
  int32_t *at = calloc(count, sizeof *at);
  float *weights = calloc(count, sizeof *weights);
  clattn_status status = at == NULL || weights == NULL
                             ? VIEW_OUT_OF_MEMORY("top keys")
                             : CLATTN_OK;
  if (status == CLATTN_OK)
    status = clattn_attention_read(s->attention, s->index, a->layer,
                                   CLATTN_ATTENTION_TOP_KEYS, at);
  if (status == CLATTN_OK)
    status = clattn_attention_read(s->attention, s->index, a->layer,
                                   CLATTN_ATTENTION_TOP_WEIGHTS, weights);
  const int64_t row_end = rows->first + rows->tokens;
  const int64_t key_end = keys->first + keys->tokens;
  for (int64_t h = a->head; status == CLATTN_OK && h < a->head + a->heads; h++)
    for (int64_t row = rows->first; row < row_end; row++)
      for (int64_t t = (h * n + row) * top; t < (h * n + row + 1) * top; t++)
        if (at[t] >= keys->first && at[t] < key_end) /* -1: there is none */
          *sum_at(a, row, at[t]) += (double)weights[t];
  free(at);
  free(weights);
  return status;
}

clattn_status view_matrix_read(const view_selection *s,
                               const view_matrix *matrix, int64_t layer,
                               int64_t head, float *values) {
  const size_t cells = (size_t)matrix->rows.n * (size_t)matrix->keys.n;
  adding a = {.selection = s,
              .matrix = matrix,
              .layer = layer,
              .head = head < 0 ? 0 : head,
              .heads = head < 0 ? s->part.heads : 1,
              .sums = calloc(cells, sizeof *a.sums)};
  if (a.sums == NULL) return VIEW_OUT_OF_MEMORY("matrix");
  const clattn_status status = matrix->source == VIEW_WEIGHTS ? add_weights(&a)
                               : matrix->source == VIEW_MAP   ? add_map(&a)
                                                              : add_top(&a);
  for (size_t i = 0; status == CLATTN_OK && i < cells; i++) {
    const int64_t row = (int64_t)(i / (size_t)matrix->keys.n);
    const int64_t rows = view_matrix_looked_at(matrix, row);
    values[i] = (float)(a.sums[i] / (double)(rows * a.heads));
  }
  free(a.sums);
  return status;
}

float view_largest(const float *values, size_t n) {
  float largest = 0;
  for (size_t i = 0; i < n; i++)
    if (isfinite(values[i]) && values[i] > largest) largest = values[i];
  return largest;
}

clattn_status view_maps_read(const view_selection *s, const view_matrix *matrix,
                             view_maps *maps) {
  const size_t cells = (size_t)matrix->rows.n * (size_t)matrix->keys.n;
  const int64_t heads = s->part.heads, n = s->part.layers * heads;
  *maps = (view_maps){.values = calloc((size_t)n, cells * sizeof(float)),
                      .heads = heads,
                      .cells = cells};
  if (maps->values == NULL) return VIEW_OUT_OF_MEMORY("maps");
  for (int64_t i = 0; i < n; i++)
    VIEW_TRY(view_matrix_read(s, matrix, i / heads, i % heads,
                              maps->values + (size_t)i * cells));
  maps->high = view_largest(maps->values, (size_t)n * cells);
  return CLATTN_OK;
}

void view_maps_free(view_maps *maps) {
  free(maps->values);
  maps->values = NULL;
}

const float *view_maps_of(const view_maps *maps, int64_t layer, int64_t head) {
  return maps->values + (size_t)(layer * maps->heads + head) * maps->cells;
}
