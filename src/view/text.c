/* text.c - attention in a terminal: the caption, and one head. */
#define _POSIX_C_SOURCE 200809L
#include "text.h"

#include <stdlib.h>
#include <string.h>

#include "caption.h"

#define LEAST_COLUMNS 20   /* narrower terminals wrap */
#define MOST_COLUMNS 65536 /* so that sums of widths are ints */
#define LABEL_COLUMNS 12
#define MOST_CELLS 1000 /* in a row, whatever the width */

void view_text_blanks(const view_terminal *t, int64_t n) {
  for (int64_t i = 0; i < n; i++) fputc(' ', t->stream);
}

void view_text_color(const view_terminal *t, int layer, double place) {
  if (!t->colors) return;
  uint8_t rgb[3];
  clattn_kit_color(place, rgb);
  fprintf(t->stream, "\x1b[%d;2;%d;%d;%dm", layer, rgb[0], rgb[1], rgb[2]);
}

void view_text_plain(const view_terminal *t) {
  if (t->colors) fputs("\x1b[0m", t->stream);
}

clattn_status view_text_caption(const view_selection *selection,
                                const view_matrix *matrix,
                                const view_terminal *t) {
  view_caption caption;
  VIEW_TRY(view_caption_create(selection, matrix, &caption));
  clattn_kit_label(caption.title, t->columns, t->stream);
  fputc('\n', t->stream);
  for (int i = 0; i < caption.n_lines; i++) {
    clattn_kit_label(caption.lines[i], t->columns, t->stream);
    fputc('\n', t->stream);
  }
  fputc('\n', t->stream);
  view_caption_destroy(&caption);
  return CLATTN_OK;
}

/* Columns that the labels of the tokens take which may be shown. */
static int label_columns(const view_selection *s, const view_terminal *t) {
  const clattn_attention_tokens *rows = &s->part.rows;
  int widest = 1;
  for (int64_t i = s->first; i < rows->n && i - s->first < t->columns; i++) {
    char label[128];
    clattn_view_label(rows->texts[i], label, sizeof label);
    const int columns = clattn_kit_label(label, LABEL_COLUMNS, NULL);
    if (columns > widest) widest = columns;
  }
  return widest;
}

/* hidden [rows.n, keys.n]: cells of which no row sees a key. */
static void find_hidden(const view_selection *s, const view_matrix *matrix,
                        uint8_t *hidden) {
  for (int64_t i = 0; i < matrix->rows.n; i++)
    for (int64_t j = 0; j < matrix->keys.n; j++)
      *hidden++ = !view_matrix_seen(s, matrix, i, j);
}

clattn_status view_text_head(const view_selection *s, const view_terminal *t) {
  const bool halves = t->style == CLATTN_KIT_HALVES;
  const int margin = label_columns(s, t) + 1; /* and half blocks' right one */
  const int room = t->columns - (halves ? 2 * margin : margin);
  int64_t cells = halves ? room : room / 2;
  if (cells < 2) cells = 2;
  if (cells > MOST_CELLS) cells = MOST_CELLS;
  /* A cross-attention may have more rows than columns: lines are free. */
  const bool cross = s->part.kind == CLATTN_ATTENTION_CROSS;
  view_matrix matrix;
  VIEW_TRY(
      view_matrix_plan(s, cross ? t->columns : cells, cells, false, &matrix));
  float *values =
      calloc((size_t)matrix.rows.n * (size_t)matrix.keys.n, sizeof *values);
  uint8_t *hidden =
      calloc((size_t)matrix.rows.n * (size_t)matrix.keys.n, sizeof *hidden);
  clattn_status status =
      values == NULL || hidden == NULL
          ? VIEW_OUT_OF_MEMORY("matrix")
          : view_matrix_read(s, &matrix, s->layer, s->head, values);
  if (status == CLATTN_OK) status = view_text_caption(s, &matrix, t);
  if (status == CLATTN_OK) {
    clattn_kit_heatmap_config config;
    clattn_kit_heatmap_config_init(&config);
    config.style = t->style;
    config.by_row = s->by_row;
    config.root = s->root;
    find_hidden(s, &matrix, hidden);
    config.hidden = hidden;
    config.label_columns = LABEL_COLUMNS;
    status = clattn_kit_heatmap(&config, values, matrix.rows.n, matrix.keys.n,
                                matrix.keys.n, matrix.rows.labels,
                                matrix.keys.labels, t->stream);
  }
  if (status == CLATTN_OK && halves && matrix.rows.n > 1) {
    clattn_kit_label("two rows a line: the upper named left, the lower right",
                     t->columns, t->stream);
    fputc('\n', t->stream);
  }
  free(values);
  free(hidden);
  view_matrix_destroy(&matrix);
  return status;
}

/* What was drawn, without blanks at the ends of lines. */
static clattn_status write_lines(const char *text, FILE *stream) {
  while (*text != '\0') {
    const size_t line = strcspn(text, "\n");
    size_t n = line;
    while (n > 0 && text[n - 1] == ' ') n--;
    fwrite(text, 1, n, stream);
    text += line;
    if (*text == '\n') fputc(*text++, stream);
  }
  if (fflush(stream) != 0 || ferror(stream))
    return clattn_set_error(CLATTN_IO_ERROR, "stream: writing failed");
  return CLATTN_OK;
}

clattn_status clattn_view_text(const clattn_attention *attention,
                               const clattn_view_options *options,
                               const clattn_view_terminal *terminal,
                               FILE *stream) {
  clattn_view_terminal defaults;
  clattn_view_terminal_init(&defaults);
  if (terminal == NULL) terminal = &defaults;
  VIEW_REQUIRE_STRUCT(terminal, clattn_view_terminal);
  VIEW_REQUIRE((int)terminal->style >= CLATTN_KIT_SHADES &&
                   terminal->style <= CLATTN_KIT_HALVES,
               "terminal->style: got %d, want 0..2", (int)terminal->style);
  VIEW_REQUIRE(terminal->columns >= 1 && terminal->columns <= MOST_COLUMNS,
               "terminal->columns: got %d, want 1..%d", terminal->columns,
               MOST_COLUMNS);
  VIEW_REQUIRE(stream != NULL, "stream: got NULL, want a stream");
  view_selection selection;
  VIEW_TRY(view_select(attention, options, &selection));

  /* Into memory: of a view that fails nothing is shown. */
  char *text = NULL;
  size_t n;
  const view_terminal t = {.colors = terminal->style != CLATTN_KIT_SHADES,
                           .style = terminal->style,
                           .columns = terminal->columns < LEAST_COLUMNS
                                          ? LEAST_COLUMNS
                                          : terminal->columns,
                           .stream = open_memstream(&text, &n)};
  if (t.stream == NULL) return VIEW_OUT_OF_MEMORY("text");
  clattn_status (*const views[])(const view_selection *,
                                 const view_terminal *) = {
      [CLATTN_VIEW_HEAD] = view_text_head,
      [CLATTN_VIEW_GRID] = view_text_grid,
      [CLATTN_VIEW_TOKEN] = view_text_token,
      [CLATTN_VIEW_TABLE] = view_text_table};
  clattn_status status = views[selection.kind](&selection, &t);
  const bool whole = !ferror(t.stream);
  if ((fclose(t.stream) != 0 || !whole || text == NULL) && status == CLATTN_OK)
    status = VIEW_OUT_OF_MEMORY("text");
  if (status == CLATTN_OK) status = write_lines(text, stream);
  free(text);
  return status;
}
