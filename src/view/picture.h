/* picture.h - what drawing shares: the canvas, text on it, cells and scales.
 *
 * Lengths are in units: a pixel of an SVG, `scale` pixels of a PNG. A view measures
 * first (texts have sizes without a surface) and draws when the canvas is open. */
#ifndef CLATTN_SRC_VIEW_PICTURE_H
#define CLATTN_SRC_VIEW_PICTURE_H

#include <pango/pangocairo.h>

#include "caption.h"
#include "matrix.h"
#include "replace.h"

#define PICTURE_MARGIN 24.0
#define PICTURE_GAP 8.0

typedef struct picture_color {
  double r, g, b;
} picture_color;

typedef struct picture_theme {
  picture_color ground, panel, text, faint, line, bar, mark;
} picture_theme;

typedef struct picture_canvas {
  picture_theme theme;
  PangoFontMap *fonts;
  PangoLayout *layout;
  PangoFontDescription *font;
  bool svg;
  double scale;
  cairo_surface_t *surface; /* NULL before picture_open */
  cairo_t *cairo;
  view_replacement file;
} picture_canvas;

/* A surface of so many units, with the ground drawn. */
clattn_status picture_open(picture_canvas *canvas, const char *path,
                           double width, double height);

/* ---- text -------------------------------------------------------------------- */

typedef enum picture_align { LEFT, CENTER, RIGHT } picture_align;

typedef struct picture_text {
  double size; /* of the font */
  bool bold;
  double widest; /* beyond it an ellipsis; 0: never */
  picture_align align;
  bool upwards; /* read from bottom to top: LEFT is the bottom */
  picture_color color;
} picture_text;

/* Its width, along the line. */
double picture_text_width(picture_canvas *canvas, const picture_text *style,
                          const char *text);
/* x, y: where the text begins, has its middle, or ends (align), on the middle of
 * the line. */
void picture_draw_text(picture_canvas *canvas, const picture_text *style,
                       double x, double y, const char *text);

/* ---- the caption -------------------------------------------------------------- */

typedef struct picture_caption {
  view_caption words;
  double width, height; /* what it takes, its distance from what follows
                         * included */
} picture_caption;

clattn_status picture_caption_create(picture_canvas *canvas,
                                     const view_selection *selection,
                                     const view_matrix *matrix,
                                     picture_caption *caption);
/* In the upper left corner, within `width`. */
void picture_draw_caption(picture_canvas *canvas,
                          const picture_caption *caption, double width);

/* ---- cells and scales ----------------------------------------------------------- */

typedef struct picture_box {
  double x, y, width, height;
} picture_box;

void picture_set_color(picture_canvas *canvas, picture_color color);
/* A thin line around. */
void picture_draw_frame(picture_canvas *canvas, const picture_box *box);
/* The cells of a matrix; those that no row sees are left out. by_row: each row by
 * its own largest, else all by `high`. */
clattn_status picture_draw_cells(picture_canvas *canvas, const picture_box *box,
                                 const view_selection *selection,
                                 const view_matrix *matrix, const float *values,
                                 float high);
/* A place of the colours, from 0 to 1, of a value; NaN where it is not finite.
 * root: by its square root. */
double picture_place(float value, float high, bool root);

/* What a colour bar takes beside a picture, its distance included. */
double picture_scale_width(picture_canvas *canvas, const view_selection *s,
                           float high);
/* From 0 at the bottom to `high` at the top, to the right of x. */
clattn_status picture_draw_scale(picture_canvas *canvas, double x, double y,
                                 double height, const view_selection *s,
                                 float high);

/* ---- views ------------------------------------------------------------------------ */

clattn_status picture_head(picture_canvas *canvas, const view_selection *s,
                           const char *path);
clattn_status picture_grid(picture_canvas *canvas, const view_selection *s,
                           const char *path);
clattn_status picture_token(picture_canvas *canvas, const view_selection *s,
                            const char *path);

#endif
