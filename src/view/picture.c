/* picture.c - surfaces: an SVG or a PNG, written as a whole. */
#include "picture.h"

#include <cairo-svg.h>
#include <errno.h>
#include <math.h>
#include <string.h>

#include "shared/ending.h"
#include "draw.h"

#define MOST_SIDE 32767 /* pixels of a cairo image */
#define MOST_PIXELS 1e8 /* of a PNG: 400 MB while it is drawn */

static const picture_theme light = {.ground = {1, 1, 1},
                                    .panel = {0.965, 0.97, 0.975},
                                    .text = {0.12, 0.14, 0.16},
                                    .faint = {0.40, 0.43, 0.46},
                                    .line = {0.78, 0.80, 0.83},
                                    .bar = {0.13, 0.49, 0.55},
                                    .mark = {0.84, 0.37, 0.0}};

static const picture_theme dark = {.ground = {0.07, 0.08, 0.10},
                                   .panel = {0.11, 0.125, 0.15},
                                   .text = {0.90, 0.92, 0.94},
                                   .faint = {0.60, 0.63, 0.67},
                                   .line = {0.27, 0.29, 0.33},
                                   .bar = {0.30, 0.72, 0.74},
                                   .mark = {1.0, 0.65, 0.25}};

static void create(const clattn_view_picture_options *options, const char *path,
                   picture_canvas *canvas) {
  *canvas = (picture_canvas){.theme = options->dark ? dark : light,
                             .svg = clt_ends_in(path, ".svg"),
                             .scale = options->scale};
  /* Fonts of our own: the default map is shared by what else a thread draws. */
  canvas->fonts = pango_cairo_font_map_new();
  PangoContext *context = pango_font_map_create_context(canvas->fonts);
  /* Letters stand where they were measured, whatever the scale. */
  cairo_font_options_t *exact = cairo_font_options_create();
  cairo_font_options_set_hint_style(exact, CAIRO_HINT_STYLE_NONE);
  cairo_font_options_set_hint_metrics(exact, CAIRO_HINT_METRICS_OFF);
  cairo_font_options_set_antialias(exact, CAIRO_ANTIALIAS_GRAY);
  pango_cairo_context_set_font_options(context, exact);
  cairo_font_options_destroy(exact);
  canvas->layout = pango_layout_new(context);
  g_object_unref(context);
  pango_layout_set_single_paragraph_mode(canvas->layout, TRUE);
  canvas->font = pango_font_description_new();
  const bool named = options->font != NULL && options->font[0] != '\0';
  pango_font_description_set_family(
      canvas->font, named && g_utf8_validate(options->font, -1, NULL)
                        ? options->font
                        : "sans-serif");
}

/* Without any font Pango draws nothing, and says nothing. */
static clattn_status check_fonts(picture_canvas *c) {
  const picture_text style = {.size = 10};
  if (picture_text_width(c, &style, "x") > 0 &&
      pango_layout_get_unknown_glyphs_count(c->layout) == 0)
    return CLATTN_OK;
  return clattn_set_error(CLATTN_UNSUPPORTED,
                          "no font with letters was found (fc-list lists "
                          "those there are)");
}

static cairo_status_t write_bytes(void *canvas, const unsigned char *bytes,
                                  unsigned n) {
  picture_canvas *c = canvas;
  if (fwrite(bytes, 1, n, c->file.stream) == n) return CAIRO_STATUS_SUCCESS;
  c->file.why = errno; /* the file is closed later, and says so */
  return CAIRO_STATUS_WRITE_ERROR;
}

/* A PNG's size in pixels, or why it is too large. */
static clattn_status check_size(const picture_canvas *c, double width,
                                double height) {
  const double across = ceil(width * c->scale), down = ceil(height * c->scale);
  if (across <= MOST_SIDE && down <= MOST_SIDE && across * down <= MOST_PIXELS)
    return CLATTN_OK;
  const double larger = width > height ? width : height;
  const double side = MOST_SIDE / larger;
  const double area = sqrt(MOST_PIXELS / (width * height));
  return clattn_set_error(
      CLATTN_INVALID_ARGUMENT,
      "picture->scale: got %g, want at most %.3g for a picture of %.0f x %.0f "
      "units, or an SVG",
      c->scale, floor((side < area ? side : area) * 100) / 100, width, height);
}

clattn_status picture_open(picture_canvas *c, const char *path, double width,
                           double height) {
  if (!c->svg) VIEW_TRY(check_size(c, width, height));
  VIEW_TRY(view_replace_begin(path, &c->file));
  if (c->svg) {
    c->surface = cairo_svg_surface_create_for_stream(write_bytes, c,
                                                     ceil(width), ceil(height));
    cairo_svg_surface_set_document_unit(c->surface, CAIRO_SVG_UNIT_PX);
  } else {
    c->surface = cairo_image_surface_create(CAIRO_FORMAT_RGB24,
                                            (int)ceil(width * c->scale),
                                            (int)ceil(height * c->scale));
  }
  c->cairo = cairo_create(c->surface);
  if (!c->svg) cairo_scale(c->cairo, c->scale, c->scale);
  picture_set_color(c, c->theme.ground);
  cairo_paint(c->cairo);
  return CLATTN_OK;
}

/* What cairo says; why a write failed, view_replace_end knows. */
static clattn_status drawn(const picture_canvas *c, const char *path,
                           cairo_status_t status) {
  if (status == CAIRO_STATUS_SUCCESS || c->file.why != 0) return CLATTN_OK;
  return clattn_set_error(
      status == CAIRO_STATUS_NO_MEMORY ? CLATTN_OUT_OF_MEMORY : CLATTN_IO_ERROR,
      "%s: %s", path, cairo_status_to_string(status));
}

/* Writes the file, if status is OK; releases all. */
static clattn_status finish(picture_canvas *c, const char *path,
                            clattn_status status) {
  if (c->surface != NULL) {
    if (status == CLATTN_OK) status = drawn(c, path, cairo_status(c->cairo));
    if (status == CLATTN_OK && !c->svg)
      status =
          drawn(c, path,
                cairo_surface_write_to_png_stream(c->surface, write_bytes, c));
    cairo_surface_finish(c->surface); /* an SVG is written here */
    if (status == CLATTN_OK)
      status = drawn(c, path, cairo_surface_status(c->surface));
    cairo_destroy(c->cairo);
    cairo_surface_destroy(c->surface);
    status = view_replace_end(&c->file, status);
  }
  g_object_unref(c->layout);
  g_object_unref(c->fonts);
  pango_font_description_free(c->font);
  return status;
}

clattn_status view_picture_draw(const view_selection *selection,
                                const clattn_view_picture_options *options,
                                const char *path) {
  clattn_status (*const views[])(picture_canvas *, const view_selection *,
                                 const char *) = {
      [CLATTN_VIEW_HEAD] = picture_head,
      [CLATTN_VIEW_GRID] = picture_grid,
      [CLATTN_VIEW_TOKEN] = picture_token};
  picture_canvas canvas;
  create(options, path, &canvas);
  clattn_status status = check_fonts(&canvas);
  if (status == CLATTN_OK)
    status = views[selection->kind](&canvas, selection, path);
  return finish(&canvas, path, status);
}
