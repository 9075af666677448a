/* picture_grid.c - layers x heads, each a small map, on one scale. */
#include <math.h>
#include <stdlib.h>

#include "picture.h"

#define WANTED 960.0 /* of the longer side */
#define LEAST_MAP 56.0
#define MOST_MAP 96.0
#define GAP 6.0
#define NAME_SIZE 10.0

typedef struct grid {
  picture_canvas *canvas;
  const view_selection *selection;
  view_matrix matrix;
  view_maps maps;
  picture_caption caption;
  double across, down; /* of a map */
  double x, y;         /* of the first */
} grid;

/* The sides of a map: as long as there are keys and rows, within reason. */
static void choose_size(grid *g) {
  const clattn_attention_part *part = &g->selection->part;
  const double more =
      (double)(part->layers > part->heads ? part->layers : part->heads);
  double side = floor(WANTED / more - GAP);
  side = side > MOST_MAP ? MOST_MAP : side < LEAST_MAP ? LEAST_MAP : side;
  double ratio = (double)part->rows.n / (double)part->keys.n;
  ratio = ratio > 2 ? 2 : ratio < 0.5 ? 0.5 : ratio;
  g->across = side;
  g->down = floor(side * ratio);
}

/* Numbers of heads above, of layers to the left, and what they are. */
static void draw_names(grid *g) {
  const clattn_attention_part *part = &g->selection->part;
  picture_text style = {
      .size = NAME_SIZE, .align = CENTER, .color = g->canvas->theme.faint};
  const double width = (double)part->heads * (g->across + GAP) - GAP;
  const double height = (double)part->layers * (g->down + GAP) - GAP;
  char text[24];
  for (int64_t h = 0; h < part->heads; h++) {
    snprintf(text, sizeof text, "%lld", (long long)h);
    picture_draw_text(g->canvas, &style,
                      g->x + (double)h * (g->across + GAP) + g->across / 2,
                      g->y - NAME_SIZE, text);
  }
  picture_draw_text(g->canvas, &style, g->x + width / 2, g->y - 2.5 * NAME_SIZE,
                    "head");
  for (int64_t l = 0; l < part->layers; l++) {
    snprintf(text, sizeof text, "%lld", (long long)l);
    style.align = RIGHT;
    picture_draw_text(g->canvas, &style, g->x - 0.6 * NAME_SIZE,
                      g->y + (double)l * (g->down + GAP) + g->down / 2, text);
  }
  style.align = CENTER;
  style.upwards = true;
  picture_draw_text(g->canvas, &style, g->x - 3 * NAME_SIZE, g->y + height / 2,
                    "layer");
}

static clattn_status draw(grid *g, const char *path) {
  picture_canvas *c = g->canvas;
  const clattn_attention_part *part = &g->selection->part;
  g->x = PICTURE_MARGIN + 4 * NAME_SIZE;
  g->y = PICTURE_MARGIN + g->caption.height + 3 * NAME_SIZE;
  const double right = g->x + (double)part->heads * (g->across + GAP) - GAP;
  const double bottom = g->y + (double)part->layers * (g->down + GAP) - GAP;
  double width = right + picture_scale_width(c, g->selection, g->maps.high);
  if (width < PICTURE_MARGIN + g->caption.width)
    width = PICTURE_MARGIN + g->caption.width;
  double scale_height = bottom - g->y;
  scale_height = scale_height > 360  ? 360
                 : scale_height < 90 ? 90
                                     : scale_height;
  const double low = g->y + scale_height;
  VIEW_TRY(picture_open(c, path, width + PICTURE_MARGIN,
                        (low > bottom ? low : bottom) + PICTURE_MARGIN));
  picture_draw_caption(c, &g->caption, width - PICTURE_MARGIN);
  draw_names(g);
  for (int64_t l = 0; l < part->layers; l++)
    for (int64_t h = 0; h < part->heads; h++) {
      const picture_box box = {g->x + (double)h * (g->across + GAP),
                               g->y + (double)l * (g->down + GAP), g->across,
                               g->down};
      VIEW_TRY(picture_draw_cells(c, &box, g->selection, &g->matrix,
                                  view_maps_of(&g->maps, l, h), g->maps.high));
      picture_draw_frame(c, &box);
    }
  return picture_draw_scale(c, right, g->y, scale_height, g->selection,
                            g->maps.high);
}

clattn_status picture_grid(picture_canvas *canvas, const view_selection *s,
                           const char *path) {
  grid g = {.canvas = canvas, .selection = s};
  choose_size(&g);
  VIEW_TRY(
      view_matrix_plan(s, (int64_t)g.down, (int64_t)g.across, true, &g.matrix));
  clattn_status status = view_maps_read(g.selection, &g.matrix, &g.maps);
  if (status == CLATTN_OK)
    status = picture_caption_create(canvas, s, &g.matrix, &g.caption);
  if (status == CLATTN_OK) status = draw(&g, path);
  view_caption_destroy(&g.caption.words);
  view_maps_free(&g.maps);
  view_matrix_destroy(&g.matrix);
  return status;
}
