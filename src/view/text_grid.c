/* text_grid.c - layers x heads in a terminal, each a small map, on one scale.
 *
 *   layer   head 0    head 1    head 2
 *       0   ░▒  ▓     █         ▒▒▒
 *           ░▒  ▓     █         ▒▒▒
 *
 * A column is about half as wide as a line is high. Half blocks have two rows of
 * cells in a line; shades have cells of two columns or, where there are too many
 * keys, of one, with rows of twice as many tokens as keys. */
#include <math.h>
#include <stdlib.h>

#include "text.h"

#define MARGIN 8    /* "layer", the layer's number */
#define GAP 1       /* between maps */
#define LEAST_MAP 8 /* columns; "head 99" has room */
#define FINE_MAP 16 /* up to so many keys have a column each */
#define MOST_MAP 32

typedef struct grid {
  const view_selection *selection;
  const view_terminal *terminal;
  view_matrix matrix;
  int64_t across; /* maps in a line */
  int width;      /* of a map, in columns */
  int cell;       /* columns of a cell */
  int64_t rows;   /* of a map, at most */
  view_maps maps;
} grid;

static const char *const shades[5] = {" ", "░", "▒", "▓", "█"};

/* Chooses the widest maps that leave the fewest lines of maps. */
static void choose_size(grid *g) {
  const int64_t heads = g->selection->part.heads;
  const int64_t room = g->terminal->columns - MARGIN + GAP;
  const int64_t keys = g->selection->part.keys.n;
  const int64_t wanted = keys < LEAST_MAP  ? LEAST_MAP
                         : keys > FINE_MAP ? FINE_MAP
                                           : keys;
  int64_t most = room / (wanted + GAP);
  if (most < 1) most = 1;
  const int64_t lines = (heads - 1) / most + 1;
  g->across = (heads - 1) / lines + 1;
  const int64_t width = room / g->across - GAP;
  g->width = (int)(width > MOST_MAP ? MOST_MAP : width < 1 ? 1 : width);
  const bool halves = g->terminal->style == CLATTN_KIT_HALVES;
  g->cell = !halves && g->width >= 2 * keys ? 2 : 1;
  g->rows = halves ? g->width : (g->width + 1) / 2;
}

/* Where a value stands on the scale; NaN where it is not finite. */
static double place(const grid *g, float value) {
  if (!isfinite(value)) return NAN;
  const double at = g->maps.high > 0 ? (double)value / (double)g->maps.high : 0;
  return g->selection->root && at > 0 ? sqrt(at) : at;
}

/* The place of a cell; -1: there is nothing to be seen. */
static double place_at(const grid *g, const float *map, int64_t row,
                       int64_t key) {
  if (row >= g->matrix.rows.n ||
      !view_matrix_seen(g->selection, &g->matrix, row, key))
    return -1;
  const double at = place(g, map[row * g->matrix.keys.n + key]);
  return at < 0 ? 0 : at;
}

/* Two rows of cells in a line; the terminal's ground where nothing is seen. */
static void put_halves(const grid *g, const float *map, int64_t row) {
  const view_terminal *t = g->terminal;
  for (int64_t key = 0; key < g->matrix.keys.n; key++) {
    const double upper = place_at(g, map, row, key);
    const double lower = place_at(g, map, row + 1, key);
    const bool both = upper != -1 && lower != -1;
    view_text_plain(t);
    if (both) view_text_color(t, 48, lower);
    if (upper != -1 || lower != -1)
      view_text_color(t, 38, upper != -1 ? upper : lower);
    fputs(upper != -1 ? "▀" : lower != -1 ? "▄" : " ", t->stream);
  }
  view_text_plain(t);
}

static void put_cells(const grid *g, const float *map, int64_t row) {
  const view_terminal *t = g->terminal;
  for (int64_t key = 0; key < g->matrix.keys.n; key++) {
    const double at = place_at(g, map, row, key);
    view_text_plain(t);
    if (at != -1) view_text_color(t, 48, at);
    const char *shade = shades[0];
    if (isnan(at))
      shade = "?";
    else if (!t->colors)
      shade = shades[at <= 0 ? 0 : at >= 1 ? 4 : (int)(at * 4 + 0.5)];
    for (int i = 0; i < g->cell; i++) fputs(shade, t->stream);
  }
  view_text_plain(t);
}

/* Maps of heads first .. end-1 of a layer, side by side. */
static void put_maps(const grid *g, int64_t layer, int64_t first, int64_t end) {
  const view_terminal *t = g->terminal;
  const int taken = (int)g->matrix.keys.n * g->cell;
  view_text_blanks(t, MARGIN);
  for (int64_t h = first; h < end; h++) {
    char name[32];
    const int n = snprintf(name, sizeof name,
                           g->width < 8 ? "%lld" : "head %lld", (long long)h);
    fputs(name, t->stream);
    if (h + 1 < end) view_text_blanks(t, g->width + GAP - n);
  }
  fputc('\n', t->stream);
  const int64_t rows = g->matrix.rows.n;
  const bool halves = t->style == CLATTN_KIT_HALVES;
  const int64_t lines = halves ? (rows + 1) / 2 : rows;
  for (int64_t line = 0; line < lines; line++) {
    if (line == 0)
      fprintf(t->stream, "%*lld  ", MARGIN - 2, (long long)layer);
    else
      view_text_blanks(t, MARGIN);
    for (int64_t h = first; h < end; h++) {
      if (halves)
        put_halves(g, view_maps_of(&g->maps, layer, h), 2 * line);
      else
        put_cells(g, view_maps_of(&g->maps, layer, h), line);
      if (h + 1 < end) view_text_blanks(t, g->width + GAP - taken);
    }
    fputc('\n', t->stream);
  }
}

static void put_legend(const grid *g) {
  const view_terminal *t = g->terminal;
  fprintf(t->stream, "\n%*s0 ", MARGIN, "");
  for (int i = 0; i < 5; i++) {
    view_text_color(t, 48, i / 4.0);
    fprintf(t->stream, "%s%s", t->colors ? " " : shades[i],
            t->colors ? " " : shades[i]);
  }
  view_text_plain(t);
  fprintf(t->stream, " %.3g%s\n", (double)g->maps.high,
          g->selection->root ? ", by the square root" : "");
}

clattn_status view_text_grid(const view_selection *selection,
                             const view_terminal *terminal) {
  grid g = {.selection = selection, .terminal = terminal};
  choose_size(&g);
  VIEW_TRY(
      view_matrix_plan(selection, g.rows, g.width / g.cell, true, &g.matrix));
  g.width = (int)g.matrix.keys.n * g.cell; /* blocks leave some of the room */
  if (g.width < LEAST_MAP) g.width = LEAST_MAP;
  clattn_status status = view_maps_read(g.selection, &g.matrix, &g.maps);
  if (status == CLATTN_OK)
    status = view_text_caption(selection, &g.matrix, terminal);
  if (status == CLATTN_OK) {
    const int64_t heads = selection->part.heads;
    fputs(" layer\n", terminal->stream);
    for (int64_t l = 0; l < selection->part.layers; l++)
      for (int64_t h = 0; h < heads; h += g.across)
        put_maps(&g, l, h, h + g.across < heads ? h + g.across : heads);
    put_legend(&g);
  }
  view_maps_free(&g.maps);
  view_matrix_destroy(&g.matrix);
  return status;
}
