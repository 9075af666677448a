/* picture_cells.c - cells of a matrix and the scale of their colours.
 *
 * Cells are an image, drawn larger: as rectangles they would have seams wherever a
 * viewer's pixels are not theirs. Viewers that smooth images, against what the
 * file says, blur a pixel of it: so a cell is several pixels wide. */
#include <math.h>

#include "picture.h"

#define PIXELS_A_UNIT 3
#define MOST_IMAGE 4096 /* pixels of a side, where cells are few */
#define BAR_WIDTH 12.0
#define BAR_DISTANCE 22.0
#define TICK 4.0
#define TICK_SIZE 9.5

void picture_set_color(picture_canvas *c, picture_color color) {
  cairo_set_source_rgb(c->cairo, color.r, color.g, color.b);
}

void picture_draw_frame(picture_canvas *c, const picture_box *box) {
  picture_set_color(c, c->theme.line);
  cairo_set_line_width(c->cairo, 0.75);
  cairo_rectangle(c->cairo, box->x - 0.5, box->y - 0.5, box->width + 1,
                  box->height + 1);
  cairo_stroke(c->cairo);
}

double picture_place(float value, float high, bool root) {
  if (!isfinite(value)) return NAN;
  const double at = high > 0 ? (double)value / (double)high : 0;
  return root && at > 0 ? sqrt(at) : at;
}

static uint32_t pixel(double place) {
  uint8_t rgb[3];
  clattn_kit_color(place, rgb);
  return 0xff000000u | (uint32_t)rgb[0] << 16 | (uint32_t)rgb[1] << 8 | rgb[2];
}

/* An image of cells, each `across` x `down` pixels. */
typedef struct cells {
  cairo_surface_t *image;
  unsigned char *bytes;
  int stride, across, down;
} cells;

static int pixels_of(double length, int64_t n) {
  const double wanted = ceil(length * PIXELS_A_UNIT / (double)n);
  const double most = floor((double)MOST_IMAGE / (double)n);
  return (int)(wanted < most ? wanted : most > 1 ? most : 1);
}

static clattn_status cells_create(const picture_box *box, int64_t rows,
                                  int64_t columns, cells *out) {
  *out = (cells){.across = pixels_of(box->width, columns),
                 .down = pixels_of(box->height, rows)};
  out->image = cairo_image_surface_create(
      CAIRO_FORMAT_ARGB32, (int)columns * out->across, (int)rows * out->down);
  const cairo_status_t status = cairo_surface_status(out->image);
  if (status != CAIRO_STATUS_SUCCESS) {
    cairo_surface_destroy(out->image);
    return clattn_set_error(CLATTN_OUT_OF_MEMORY, "picture: %s",
                            cairo_status_to_string(status));
  }
  cairo_surface_flush(out->image);
  out->bytes = cairo_image_surface_get_data(out->image);
  out->stride = cairo_image_surface_get_stride(out->image);
  return CLATTN_OK;
}

static void cells_set(const cells *c, int64_t row, int64_t column,
                      uint32_t color) {
  for (int y = 0; y < c->down; y++) {
    const size_t line = (size_t)(row * c->down + y) * (size_t)c->stride;
    uint32_t *at = (uint32_t *)(void *)(c->bytes + line) + column * c->across;
    for (int x = 0; x < c->across; x++) at[x] = color;
  }
}

/* Draws and destroys it. */
static void cells_draw(picture_canvas *c, cells *cells,
                       const picture_box *box) {
  cairo_surface_mark_dirty(cells->image);
  cairo_save(c->cairo);
  cairo_translate(c->cairo, box->x, box->y);
  cairo_scale(c->cairo,
              box->width / cairo_image_surface_get_width(cells->image),
              box->height / cairo_image_surface_get_height(cells->image));
  cairo_set_source_surface(c->cairo, cells->image, 0, 0);
  cairo_pattern_set_filter(cairo_get_source(c->cairo), CAIRO_FILTER_NEAREST);
  cairo_paint(c->cairo);
  cairo_restore(c->cairo);
  cairo_surface_destroy(cells->image);
}

clattn_status picture_draw_cells(picture_canvas *c, const picture_box *box,
                                 const view_selection *s,
                                 const view_matrix *matrix, const float *values,
                                 float high) {
  const int64_t rows = matrix->rows.n, keys = matrix->keys.n;
  cells cells;
  VIEW_TRY(cells_create(box, rows, keys, &cells));
  for (int64_t i = 0; i < rows; i++) {
    const float *row = values + i * keys;
    const float most = s->by_row ? view_largest(row, (size_t)keys) : high;
    for (int64_t j = 0; j < keys; j++)
      if (view_matrix_seen(s, matrix, i, j))
        cells_set(&cells, i, j, pixel(picture_place(row[j], most, s->root)));
  }
  cells_draw(c, &cells, box);
  return CLATTN_OK;
}

/* ---- the colour bar ------------------------------------------------------------ */

/* The distance of ticks: 1, 2 or 5 times a power of ten, four to nine of them. */
static double tick_step(double high) {
  const double power = pow(10, floor(log10(high / 4)));
  const double over = high / 4 / power;
  return power * (over >= 5 ? 5 : over >= 2 ? 2 : 1);
}

static picture_text tick_style(const picture_canvas *c) {
  return (picture_text){.size = TICK_SIZE, .color = c->theme.faint};
}

static const char *by_row_top = "row\u2019s largest";

double picture_scale_width(picture_canvas *c, const view_selection *s,
                           float high) {
  const bool by_row = s->by_row;
  const picture_text style = tick_style(c);
  char text[32] = "0";
  if (high > 0) {
    const double step = tick_step((double)high);
    const double last = floor((double)high / step * (1 + 1e-9)) * step;
    snprintf(text, sizeof text, "%.6g", s->root ? step / 10 : last - step);
  }
  double width = picture_text_width(c, &style, by_row ? by_row_top : text);
  if (high > 0) {
    snprintf(text, sizeof text, "%.3g", (double)high);
    const double most = picture_text_width(c, &style, by_row ? "0" : text);
    if (most > width) width = most;
  }
  return BAR_DISTANCE + BAR_WIDTH + TICK + 4 + width;
}

static void draw_tick(picture_canvas *c, double x, double y, const char *text) {
  const picture_text style = tick_style(c);
  picture_set_color(c, c->theme.line);
  cairo_set_line_width(c->cairo, 0.75);
  cairo_move_to(c->cairo, x, y);
  cairo_line_to(c->cairo, x + TICK, y);
  cairo_stroke(c->cairo);
  picture_draw_text(c, &style, x + TICK + 3, y, text);
}

clattn_status picture_draw_scale(picture_canvas *c, double x, double y,
                                 double height, const view_selection *s,
                                 float high) {
  enum { STEPS = 256 };
  const picture_box box = {x + BAR_DISTANCE, y, BAR_WIDTH, height};
  cells cells;
  VIEW_TRY(cells_create(&box, STEPS, 1, &cells));
  for (int i = 0; i < STEPS; i++)
    cells_set(&cells, STEPS - 1 - i, 0, pixel(i / (double)(STEPS - 1)));
  cells_draw(c, &cells, &box);
  picture_draw_frame(c, &box);
  const double right = box.x + box.width;
  draw_tick(c, right, y + height, "0");
  if (s->by_row) {
    draw_tick(c, right, y, by_row_top);
    return CLATTN_OK;
  }
  if (!(high > 0)) return CLATTN_OK;
  const double step = tick_step((double)high);
  double last = height; /* where the tick before stands */
  /* By the root the first step takes much of the bar: a tick within it. */
  for (double at = s->root ? step / 10 : step; at < (double)high * (1 + 1e-9);
       at = at < step ? step : at + step) {
    char text[32];
    const double down = height * (1 - picture_place((float)at, high, s->root));
    if (last - down < TICK_SIZE + 1) continue;
    snprintf(text, sizeof text, "%.6g", at);
    draw_tick(c, right, y + down, text);
    last = down;
  }
  return CLATTN_OK;
}
