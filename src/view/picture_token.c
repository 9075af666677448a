/* picture_token.c - one row's weights in all layers and heads: a grid of bars, all
 * on one scale, each with its strongest key. */
#include <math.h>
#include <stdlib.h>

#include "picture.h"

#define GAP_ACROSS 12.0
#define GAP_DOWN 22.0
#define KEY_ROOM 13.0 /* of it, for the strongest key */
#define LEAST_WIDTH 72.0
#define MOST_WIDTH 132.0
#define PANEL_HEIGHT 44.0
#define WANTED 1100.0 /* of all panels side by side */
#define FEW_HEADS 16
#define NAME_SIZE 10.0
#define KEY_SIZE 8.0
#define LEAST_LABEL 7.0 /* keys closer than this have no labels */
#define MOST_LABEL 70.0

typedef struct bars {
  picture_canvas *canvas;
  const view_selection *selection;
  view_matrix matrix;
  view_maps maps; /* one row each */
  picture_caption caption;
  double width, height; /* of a panel */
  double x, y;          /* of the first */
  picture_text label;   /* of keys */
  double below;         /* what those take; 0: they have no room */
} bars;

/* Wide enough for labels of keys, if that does not make the whole too wide. */
static double panel_width(const clattn_attention_part *part) {
  const double keys = (double)part->keys.n;
  double width = floor(WANTED / (double)part->heads - GAP_ACROSS);
  if (width > 9 * keys) width = 9 * keys;
  if (part->heads <= FEW_HEADS && width < LEAST_LABEL * keys)
    width = LEAST_LABEL * keys;
  width = width > MOST_WIDTH ? MOST_WIDTH : width;
  return width < LEAST_WIDTH ? LEAST_WIDTH : width;
}

static void measure(bars *b) {
  const double step = b->width / (double)b->matrix.keys.n;
  b->height = PANEL_HEIGHT;
  b->label = (picture_text){.size = step > 9 ? 8.5 : 6.5,
                            .widest = MOST_LABEL,
                            .align = RIGHT,
                            .upwards = true,
                            .color = b->canvas->theme.faint};
  for (int64_t i = 0; step >= LEAST_LABEL && i < b->matrix.keys.n; i++) {
    const double width =
        picture_text_width(b->canvas, &b->label, b->matrix.keys.labels[i]);
    if (width > b->below) b->below = width;
  }
  b->x = PICTURE_MARGIN + 4 * NAME_SIZE;
  b->y = PICTURE_MARGIN + b->caption.height + 2 * NAME_SIZE + KEY_ROOM;
}

/* The strongest key and its weight, above the bars. */
static void draw_strongest(bars *b, const picture_box *box,
                           const float *values) {
  const view_axis *keys = &b->matrix.keys;
  int64_t best = 0;
  for (int64_t i = 1; i < keys->n; i++)
    if (values[i] > values[best] || isnan(values[best])) best = i;
  char weight[32];
  snprintf(weight, sizeof weight, values[best] < 1e4f ? "%.2f" : "%.0e",
           (double)values[best]);
  picture_text style = {
      .size = KEY_SIZE, .align = RIGHT, .color = b->canvas->theme.text};
  const double y = box->y - KEY_ROOM / 2;
  const double taken = picture_text_width(b->canvas, &style, weight);
  picture_draw_text(b->canvas, &style, box->x + box->width, y, weight);
  style.align = LEFT;
  style.widest = box->width - taken - 4;
  picture_draw_text(b->canvas, &style, box->x, y, keys->labels[best]);
}

static void draw_panel(bars *b, const picture_box *box, const float *values) {
  cairo_t *cairo = b->canvas->cairo;
  picture_set_color(b->canvas, b->canvas->theme.panel);
  cairo_rectangle(cairo, box->x - 3, box->y - KEY_ROOM, box->width + 6,
                  box->height + KEY_ROOM + 4);
  cairo_fill(cairo);
  const view_axis *keys = &b->matrix.keys;
  const double step = box->width / (double)keys->n;
  const double gap = step > 6 ? 1 : step > 3 ? 0.5 : 0;
  for (int64_t i = 0; i < keys->n; i++) {
    double at = picture_place(values[i], b->maps.high, false);
    at = at > 1 ? 1 : at > 0 ? at : 0; /* and nothing where it is not known */
    cairo_rectangle(cairo, box->x + (double)i * step + gap / 2,
                    box->y + box->height * (1 - at), step - gap,
                    box->height * at);
  }
  picture_set_color(b->canvas, b->canvas->theme.bar);
  cairo_fill(cairo);
  picture_set_color(b->canvas, b->canvas->theme.line);
  cairo_set_line_width(cairo, 0.75);
  cairo_move_to(cairo, box->x, box->y + box->height + 0.5);
  cairo_line_to(cairo, box->x + box->width, box->y + box->height + 0.5);
  cairo_stroke(cairo);
  /* Where the token itself is among the keys. */
  if (b->selection->part.kind != CLATTN_ATTENTION_CROSS) {
    const double own =
        (double)((b->selection->row - keys->first) / keys->block);
    picture_set_color(b->canvas, b->canvas->theme.mark);
    cairo_rectangle(cairo, box->x + own * step, box->y + box->height + 1,
                    step > 2 ? step : 2, 2);
    cairo_fill(cairo);
  }
  draw_strongest(b, box, values);
}

static void draw_names(bars *b) {
  const clattn_attention_part *part = &b->selection->part;
  picture_text style = {
      .size = NAME_SIZE, .align = CENTER, .color = b->canvas->theme.faint};
  const double across = b->width + GAP_ACROSS, down = b->height + GAP_DOWN;
  const double top = b->y - KEY_ROOM;
  char text[24];
  for (int64_t h = 0; h < part->heads; h++) {
    snprintf(text, sizeof text, h == 0 ? "head %lld" : "%lld", (long long)h);
    picture_draw_text(b->canvas, &style,
                      b->x + (double)h * across + b->width / 2,
                      top - 0.6 * NAME_SIZE, text);
  }
  for (int64_t l = 0; l < part->layers; l++) {
    snprintf(text, sizeof text, "%lld", (long long)l);
    style.align = RIGHT;
    picture_draw_text(b->canvas, &style, b->x - 0.8 * NAME_SIZE,
                      b->y + (double)l * down + b->height / 2, text);
  }
  style.align = CENTER;
  style.upwards = true;
  picture_draw_text(b->canvas, &style, b->x - 3 * NAME_SIZE,
                    b->y + ((double)part->layers * down - GAP_DOWN) / 2,
                    "layer");
}

static void draw_key_labels(bars *b, double x, double y) {
  const double step = b->width / (double)b->matrix.keys.n;
  for (int64_t i = 0; i < b->matrix.keys.n; i++)
    picture_draw_text(b->canvas, &b->label, x + ((double)i + 0.5) * step, y,
                      b->matrix.keys.labels[i]);
}

static clattn_status draw(bars *b, const char *path) {
  picture_canvas *c = b->canvas;
  const clattn_attention_part *part = &b->selection->part;
  const double across = b->width + GAP_ACROSS, down = b->height + GAP_DOWN;
  const double right = b->x + (double)part->heads * across - GAP_ACROSS;
  const double bottom = b->y + (double)part->layers * down - GAP_DOWN;
  double width = right > PICTURE_MARGIN + b->caption.width
                     ? right
                     : PICTURE_MARGIN + b->caption.width;
  const picture_text note = {.size = NAME_SIZE, .color = c->theme.faint};
  char text[96];
  snprintf(
      text, sizeof text, "full height: %.3g%s", (double)b->maps.high,
      part->kind == CLATTN_ATTENTION_CROSS ? "" : "; marked: the token itself");
  const double noted = b->x + picture_text_width(c, &note, text);
  if (width < noted) width = noted;
  VIEW_TRY(picture_open(c, path, width + PICTURE_MARGIN,
                        bottom + b->below + 3.5 * NAME_SIZE + PICTURE_MARGIN));
  picture_draw_caption(c, &b->caption, width - PICTURE_MARGIN);
  draw_names(b);
  for (int64_t l = 0; l < part->layers; l++)
    for (int64_t h = 0; h < part->heads; h++) {
      const picture_box box = {b->x + (double)h * across,
                               b->y + (double)l * down, b->width, b->height};
      draw_panel(b, &box, view_maps_of(&b->maps, l, h));
    }
  for (int64_t h = 0; b->below > 0 && h < part->heads; h++)
    draw_key_labels(b, b->x + (double)h * across, bottom + 8);
  picture_draw_text(c, &note, b->x, bottom + b->below + 3 * NAME_SIZE, text);
  return CLATTN_OK;
}

clattn_status picture_token(picture_canvas *canvas, const view_selection *s,
                            const char *path) {
  bars b = {.canvas = canvas, .selection = s, .width = panel_width(&s->part)};
  VIEW_TRY(view_matrix_plan(s, 1, (int64_t)b.width, true, &b.matrix));
  clattn_status status = view_maps_read(b.selection, &b.matrix, &b.maps);
  if (status == CLATTN_OK)
    status = picture_caption_create(canvas, s, &b.matrix, &b.caption);
  if (status == CLATTN_OK) {
    measure(&b);
    status = draw(&b, path);
  }
  view_caption_destroy(&b.caption.words);
  view_maps_free(&b.maps);
  view_matrix_destroy(&b.matrix);
  return status;
}
