/* picture_text.c - text on a canvas, and the caption. */
#include "picture.h"

#define TITLE_SIZE 15
#define TITLE_HEIGHT 22.0
#define DETAIL_SIZE 10.5
#define LINE_HEIGHT 15.0
#define DISTANCE 16.0 /* from what follows */

static void set_layout(picture_canvas *c, const picture_text *style,
                       const char *text) {
  pango_font_description_set_absolute_size(c->font, style->size * PANGO_SCALE);
  pango_font_description_set_weight(
      c->font, style->bold ? PANGO_WEIGHT_BOLD : PANGO_WEIGHT_NORMAL);
  pango_layout_set_font_description(c->layout, c->font);
  pango_layout_set_width(
      c->layout, style->widest > 0 ? (int)(style->widest * PANGO_SCALE) : -1);
  pango_layout_set_ellipsize(c->layout, style->widest > 0
                                            ? PANGO_ELLIPSIZE_END
                                            : PANGO_ELLIPSIZE_NONE);
  /* Right-to-left words stand where others do, too. */
  pango_layout_set_auto_dir(c->layout, FALSE);
  pango_layout_set_text(c->layout, text, -1);
}

double picture_text_width(picture_canvas *c, const picture_text *style,
                          const char *text) {
  set_layout(c, style, text);
  PangoRectangle extents;
  pango_layout_get_extents(c->layout, NULL, &extents);
  return (double)extents.width / PANGO_SCALE;
}

void picture_draw_text(picture_canvas *c, const picture_text *style, double x,
                       double y, const char *text) {
  cairo_save(c->cairo);
  cairo_translate(c->cairo, x, y);
  if (style->upwards) cairo_rotate(c->cairo, -1.5707963267948966);
  pango_cairo_update_layout(c->cairo, c->layout);
  set_layout(c, style, text);
  PangoRectangle extents;
  pango_layout_get_extents(c->layout, NULL, &extents);
  const double width = (double)extents.width / PANGO_SCALE;
  const double height = (double)extents.height / PANGO_SCALE;
  const double left = style->align == LEFT     ? 0
                      : style->align == CENTER ? -width / 2
                                               : -width;
  cairo_translate(c->cairo, left - (double)extents.x / PANGO_SCALE,
                  -height / 2);
  picture_set_color(c, style->color);
  pango_cairo_show_layout(c->cairo, c->layout);
  cairo_restore(c->cairo);
}

static picture_text title_style(const picture_canvas *c) {
  return (picture_text){
      .size = TITLE_SIZE, .bold = true, .color = c->theme.text};
}

static picture_text detail_style(const picture_canvas *c) {
  return (picture_text){.size = DETAIL_SIZE, .color = c->theme.faint};
}

clattn_status picture_caption_create(picture_canvas *c,
                                     const view_selection *selection,
                                     const view_matrix *matrix,
                                     picture_caption *caption) {
  view_caption *words = &caption->words;
  VIEW_TRY(view_caption_create(selection, matrix, words));
  const picture_text title = title_style(c), detail = detail_style(c);
  caption->width = picture_text_width(c, &title, words->title);
  for (int i = 0; i < words->n_lines; i++) {
    const double width = picture_text_width(c, &detail, words->lines[i]);
    if (width > caption->width) caption->width = width;
  }
  caption->height = TITLE_HEIGHT + words->n_lines * LINE_HEIGHT + DISTANCE;
  return CLATTN_OK;
}

void picture_draw_caption(picture_canvas *c, const picture_caption *caption,
                          double width) {
  picture_text title = title_style(c), detail = detail_style(c);
  title.widest = detail.widest = width;
  const double x = PICTURE_MARGIN, y = PICTURE_MARGIN;
  picture_draw_text(c, &title, x, y + TITLE_SIZE * 0.6, caption->words.title);
  for (int i = 0; i < caption->words.n_lines; i++)
    picture_draw_text(c, &detail, x, y + TITLE_HEIGHT + (i + 0.5) * LINE_HEIGHT,
                      caption->words.lines[i]);
}
