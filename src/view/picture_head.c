/* picture_head.c - one head: cells, labels of rows and keys, a colour bar.
 *
 *                 key
 *              C  t  c
 *              L  h  a
 *         CLS  #  .  .    |
 *   query the  #  #  .    | 0 .. largest
 *         cat  .  #  #    |                                                  */
#include <math.h>
#include <stdlib.h>

#include "picture.h"

#define WANTED 520.0   /* of the cells' longer side */
#define LONGEST 1536.0 /* with many tokens */
#define LEAST_CELL 7.0 /* with a label each */
#define MOST_CELL 40.0
#define NUMBERS_CELL 30.0 /* cells that have room for their number */
#define MOST_CELLS 1024
#define MOST_LABEL 120.0
#define AXIS_SIZE 10.5
#define LABEL_GAP 4.0

typedef struct head {
  picture_canvas *canvas;
  const view_selection *selection;
  view_matrix matrix;
  float *values; /* [rows.n, keys.n] */
  float high;
  picture_caption caption;
  double cell;
  picture_text label;
  bool upright;       /* labels of keys: they fit over their cells */
  double left, above; /* what labels of rows, and of keys, take */
  picture_box box;    /* of the cells */
  double scale_height;
} head;

static double longest_label(const head *h, const view_axis *axis) {
  double longest = 0;
  for (int64_t i = 0; i < axis->n; i++) {
    const double width =
        picture_text_width(h->canvas, &h->label, axis->labels[i]);
    if (width > longest) longest = width;
  }
  return longest;
}

static void measure(head *h) {
  const int64_t rows = h->matrix.rows.n, keys = h->matrix.keys.n;
  const double n = (double)(rows > keys ? rows : keys);
  h->cell = floor(WANTED / n);
  if (h->cell > MOST_CELL) h->cell = MOST_CELL;
  if (h->cell < LEAST_CELL) h->cell = LEAST_CELL;
  if (h->cell * n > LONGEST) h->cell = floor(2 * LONGEST / n) / 2;
  double size = h->cell * 0.78;
  size = size > 12 ? 12 : size < 5.5 ? 5.5 : size;
  h->label = (picture_text){
      .size = size, .widest = MOST_LABEL, .color = h->canvas->theme.text};
  /* Whole units, so that cells of a PNG are whole pixels. */
  h->left = ceil(longest_label(h, &h->matrix.rows) + LABEL_GAP);
  const double longest = longest_label(h, &h->matrix.keys);
  h->upright = longest <= h->cell - 2;
  h->above = ceil((h->upright ? size * 1.3 : longest) + LABEL_GAP);
  const double axis = ceil(AXIS_SIZE * 1.6);
  h->box = (picture_box){PICTURE_MARGIN + axis + h->left,
                         PICTURE_MARGIN + h->caption.height + axis + h->above,
                         h->cell * (double)keys, h->cell * (double)rows};
  const double height = h->box.height;
  h->scale_height = height > 360 ? 360 : height < 90 ? 90 : height;
}

/* Labels of every step-th token, so that they do not meet. */
static void draw_labels(head *h) {
  const int64_t step = (int64_t)ceil(h->label.size * 1.15 / h->cell);
  picture_text style = h->label;
  style.align = RIGHT;
  for (int64_t i = 0; i < h->matrix.rows.n; i += step)
    picture_draw_text(h->canvas, &style, h->box.x - LABEL_GAP,
                      h->box.y + ((double)i + 0.5) * h->cell,
                      h->matrix.rows.labels[i]);
  style.align = h->upright ? CENTER : LEFT;
  style.upwards = !h->upright;
  const double up = LABEL_GAP + (h->upright ? h->label.size * 0.6 : 0);
  for (int64_t j = 0; j < h->matrix.keys.n; j += step)
    picture_draw_text(h->canvas, &style, h->box.x + ((double)j + 0.5) * h->cell,
                      h->box.y - up, h->matrix.keys.labels[j]);
  picture_text axis = {
      .size = AXIS_SIZE, .align = CENTER, .color = h->canvas->theme.faint};
  picture_draw_text(h->canvas, &axis, h->box.x + h->box.width / 2,
                    h->box.y - h->above - AXIS_SIZE, "key");
  axis.upwards = true;
  picture_draw_text(h->canvas, &axis, h->box.x - h->left - AXIS_SIZE,
                    h->box.y + h->box.height / 2, "query");
}

/* The weight in its cell, dark on light and light on dark. */
static void draw_numbers(head *h) {
  if (h->cell < NUMBERS_CELL) return;
  const int64_t keys = h->matrix.keys.n;
  picture_text style = {.size = 9.5, .align = CENTER};
  for (int64_t i = 0; i < h->matrix.rows.n; i++) {
    const float *row = h->values + i * keys;
    const float high =
        h->selection->by_row ? view_largest(row, (size_t)keys) : h->high;
    for (int64_t j = 0; j < keys; j++) {
      if (!view_matrix_seen(h->selection, &h->matrix, i, j)) continue;
      const bool on_light =
          picture_place(row[j], high, h->selection->root) > 0.6;
      style.color = on_light ? (picture_color){0.1, 0.1, 0.1}
                             : (picture_color){0.95, 0.95, 0.95};
      char text[32];
      snprintf(text, sizeof text, fabsf(row[j]) < 1e4f ? "%.2f" : "%.0e",
               (double)row[j]);
      picture_draw_text(h->canvas, &style,
                        h->box.x + ((double)j + 0.5) * h->cell,
                        h->box.y + ((double)i + 0.5) * h->cell, text);
    }
  }
}

/* Whether a cell begins the second text of a pair. */
static bool begins_pair(const view_axis *axis, const uint8_t *segments,
                        int64_t cell) {
  return cell > 0 && segments != NULL &&
         segments[view_axis_begin(axis, cell)] !=
             segments[view_axis_begin(axis, cell - 1)];
}

/* A line between the two texts of a pair. */
static void draw_pair(head *h) {
  const clattn_attention_part *part = &h->selection->part;
  const picture_box *box = &h->box;
  cairo_t *cairo = h->canvas->cairo;
  cairo_set_source_rgba(cairo, 1, 1, 1, 0.7);
  cairo_set_line_width(cairo, 1);
  for (int64_t i = 0; i < h->matrix.rows.n; i++)
    if (begins_pair(&h->matrix.rows, part->rows.segments, i)) {
      cairo_move_to(cairo, box->x, box->y + (double)i * h->cell);
      cairo_rel_line_to(cairo, box->width, 0);
    }
  for (int64_t j = 0; j < h->matrix.keys.n; j++)
    if (begins_pair(&h->matrix.keys, part->keys.segments, j)) {
      cairo_move_to(cairo, box->x + (double)j * h->cell, box->y);
      cairo_rel_line_to(cairo, 0, box->height);
    }
  cairo_stroke(cairo);
}

static clattn_status draw(head *h, const char *path) {
  picture_canvas *c = h->canvas;
  double width =
      h->box.x + h->box.width + picture_scale_width(c, h->selection, h->high);
  const double titled = PICTURE_MARGIN + h->caption.width;
  if (width < titled) width = titled;
  const double height =
      h->box.height > h->scale_height ? h->box.height : h->scale_height;
  VIEW_TRY(picture_open(c, path, width + PICTURE_MARGIN,
                        h->box.y + height + PICTURE_MARGIN));
  picture_draw_caption(c, &h->caption, width - PICTURE_MARGIN);
  VIEW_TRY(picture_draw_cells(c, &h->box, h->selection, &h->matrix, h->values,
                              h->high));
  draw_pair(h);
  picture_draw_frame(c, &h->box);
  draw_labels(h);
  draw_numbers(h);
  return picture_draw_scale(c, h->box.x + h->box.width, h->box.y,
                            h->scale_height, h->selection, h->high);
}

clattn_status picture_head(picture_canvas *canvas, const view_selection *s,
                           const char *path) {
  head h = {.canvas = canvas, .selection = s};
  VIEW_TRY(view_matrix_plan(s, MOST_CELLS, MOST_CELLS, true, &h.matrix));
  const size_t cells = (size_t)h.matrix.rows.n * (size_t)h.matrix.keys.n;
  h.values = calloc(cells, sizeof *h.values);
  clattn_status status =
      h.values == NULL
          ? VIEW_OUT_OF_MEMORY("matrix")
          : view_matrix_read(s, &h.matrix, s->layer, s->head, h.values);
  if (status == CLATTN_OK)
    status = picture_caption_create(canvas, s, &h.matrix, &h.caption);
  if (status == CLATTN_OK) {
    h.high = view_largest(h.values, cells);
    measure(&h);
    status = draw(&h, path);
  }
  view_caption_destroy(&h.caption.words);
  free(h.values);
  view_matrix_destroy(&h.matrix);
  return status;
}
