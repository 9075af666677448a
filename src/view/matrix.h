/* matrix.h - the numbers of a picture, and what they are. */
#ifndef CLATTN_SRC_VIEW_MATRIX_H
#define CLATTN_SRC_VIEW_MATRIX_H

#include "axis.h"
#include "select.h"

/* Multiply-adds of queries and keys that somebody who looks will wait for: some
 * seconds. Beyond, blocks or a sample are shown. */
#define VIEW_MANY_PRODUCTS 2e9

/* Beyond so many, and 64 for each weight's exp, a sample of rows is looked at. */
#define VIEW_MOST_WORK 1e10

/* What weights can be read from. */
bool view_weights_recorded(const view_selection *selection);
bool view_products_recorded(const view_selection *selection);

/* Where a matrix comes from. */
typedef enum view_source {
  VIEW_WEIGHTS, /* every weight: recorded, or of query and key */
  VIEW_MAP,     /* means over blocks */
  VIEW_TOP      /* the largest of a row; others count as 0 */
} view_source;

typedef struct view_matrix {
  view_axis rows, keys;
  view_source source;
  int64_t sample; /* rows of each block that are looked at; 0: all */
} view_matrix;

/* The cells of one head, at most max_rows x max_keys. `whole`: with tokens 0 all
 * tokens are shown, in blocks if need be, and not those that fit. TOKEN: one
 * row. Only with its matrix destroyed may a selection end. */
clattn_status view_matrix_plan(const view_selection *selection,
                               int64_t max_rows, int64_t max_keys, bool whole,
                               view_matrix *matrix);
void view_matrix_destroy(view_matrix *matrix);
/* values [rows.n, keys.n] of a layer and head (-1: the mean of all): the mean over
 * the rows of a cell of their weight on all its keys. */
clattn_status view_matrix_read(const view_selection *selection,
                               const view_matrix *matrix, int64_t layer,
                               int64_t head, float *values);

/* Rows that a row of cells is the mean of. */
int64_t view_matrix_looked_at(const view_matrix *matrix, int64_t row);

/* The cells of all heads. */
typedef struct view_maps {
  float *values; /* [layers, heads, rows.n, keys.n] */
  int64_t heads;
  size_t cells; /* of a head */
  float high;   /* the largest of all */
} view_maps;

/* view_maps_free is due either way. */
clattn_status view_maps_read(const view_selection *selection,
                             const view_matrix *matrix, view_maps *maps);
void view_maps_free(view_maps *maps);
/* [rows.n, keys.n] of a head. */
const float *view_maps_of(const view_maps *maps, int64_t layer, int64_t head);

/* Whether any row of a cell sees any of its keys. */
bool view_matrix_seen(const view_selection *selection,
                      const view_matrix *matrix, int64_t row, int64_t key);

/* The largest of n values that are finite, at least 0. */
float view_largest(const float *values, size_t n);

#endif
