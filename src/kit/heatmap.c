/* heatmap.c - a matrix as a picture in a terminal.
 *
 *     S  u
 *     o  n          column labels, written downwards
 *   So ████
 *  sun ▒▒██         a cell is two columns wide, so about as wide as high
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kit/glyph.h"
#include "kit/kit.h"

#define GAP 1 /* columns between row labels and cells */

typedef struct picture {
  const clattn_kit_heatmap_config *config;
  const float *matrix; /* [rows, cols], row_stride */
  int64_t rows, cols, row_stride;
  const char *const *row_labels, *const *column_labels;
  float low, high;
  int margin;   /* columns that the row labels take */
  int blanks;   /* due in this line if anything follows */
  bool colored; /* the terminal shows what follows in a cell's colours */
  FILE *stream;
} picture;

void clattn_kit_heatmap_config_init(clattn_kit_heatmap_config *config) {
  if (config == NULL) return;
  *config = (clattn_kit_heatmap_config){
      .struct_size = sizeof *config,
      .low = NAN,
      .high = NAN,
      .label_columns = 12,
      .legend = true,
  };
}

/* ---- labels -------------------------------------------------------------- */

/* Lines do not end in blanks: these wait for what they precede. */
static void spaces(picture *p, int n) { p->blanks += n; }

static void flush_spaces(picture *p) {
  fprintf(p->stream, "%*s", p->blanks, "");
  p->blanks = 0;
}

static void put(picture *p, const char *text) {
  const size_t n = strspn(text, " ");
  if (text[n] == '\0') {
    spaces(p, (int)n);
  } else {
    flush_spaces(p);
    fputs(text, p->stream);
  }
}

static void end_line(picture *p) {
  p->blanks = 0;
  fputc('\n', p->stream);
}

static void put_glyph(void *picture, const char *text) { put(picture, text); }

/* A label within `columns`, cut with an ellipsis; returns the columns taken. */
static int put_label(picture *p, const char *label, int columns) {
  return kit_glyph_fit(label, columns, put_glyph, p);
}

static int shown_columns(const picture *p, const char *label) {
  const int columns = kit_glyph_columns(label, NULL);
  return columns < p->config->label_columns ? columns
                                            : p->config->label_columns;
}

static const char *row_label(const picture *p, int64_t row) {
  const bool there =
      p->row_labels != NULL && row < p->rows && p->row_labels[row] != NULL;
  return there ? p->row_labels[row] : "";
}

static void put_margin(picture *p, const char *label) {
  spaces(p, p->margin - shown_columns(p, label));
  put_label(p, label, p->config->label_columns);
  if (p->margin > 0) spaces(p, GAP);
}

/* Line `line` of `lines` of the column labels, which stand on their feet. */
static void put_column_line(picture *p, int line, int lines, int width) {
  put_margin(p, "");
  for (int64_t j = 0; j < p->cols; j++) {
    const char *label = p->column_labels[j] ? p->column_labels[j] : "";
    int glyphs;
    kit_glyph_columns(label, &glyphs);
    const bool cut = glyphs > lines;
    int skip = line - (cut ? 0 : lines - glyphs);
    kit_glyph g = {.columns = 0};
    for (; skip >= 0 && kit_glyph_next(&label, &g); skip--) continue;
    if (skip >= 0) g.columns = g.bytes = 0;
    if (cut && line == lines - 1) {
      put(p, "⋮");
      g.columns = 1;
    } else if (g.columns <= width && g.bytes > 0) {
      put(p, g.text);
    } else {
      g.columns = 0; /* nothing here, or too wide for its column */
    }
    spaces(p, width - g.columns);
  }
  end_line(p);
}

static void put_column_labels(picture *p, int width) {
  if (p->column_labels == NULL) return;
  int lines = 0;
  for (int64_t j = 0; j < p->cols; j++) {
    int glyphs = 0;
    if (p->column_labels[j] != NULL)
      kit_glyph_columns(p->column_labels[j], &glyphs);
    if (glyphs > lines) lines = glyphs;
  }
  if (lines > p->config->label_columns) lines = p->config->label_columns;
  for (int line = 0; line < lines; line++)
    put_column_line(p, line, lines, width);
}

/* ---- cells --------------------------------------------------------------- */

/* Viridis (van der Walt and Smith 2015) at nine places. */
static const uint8_t viridis[9][3] = {
    {68, 1, 84},    {71, 44, 122},  {59, 81, 139},
    {44, 113, 142}, {33, 144, 141}, {39, 173, 129},
    {92, 200, 99},  {170, 220, 50}, {253, 231, 37}};

void clattn_kit_color(double place, uint8_t rgb[3]) {
  memset(rgb, 128, 3); /* not a number */
  if (isnan(place)) return;
  const double at = place <= 0 ? 0 : place >= 1 ? 8 : place * 8;
  const int i = at >= 8 ? 7 : (int)at;
  for (int c = 0; c < 3; c++)
    rgb[c] = (uint8_t)lround(viridis[i][c] +
                             (at - i) * (viridis[i + 1][c] - viridis[i][c]));
}

static const char *const shades[5] = {"  ", "░░", "▒▒", "▓▓", "██"};

/* One matrix row and the values that its cells show empty and full. */
typedef struct row_view {
  const float *values;
  float low, high;
} row_view;

static row_view view_row(const picture *p, int64_t row) {
  row_view view = {p->matrix + row * p->row_stride, p->low, p->high};
  if (!p->config->by_row) return view;
  view.low = view.high = 0;
  for (int64_t j = 0; j < p->cols; j++)
    if (isfinite(view.values[j]) && view.values[j] > view.high)
      view.high = view.values[j];
  return view;
}

/* 0 (empty) .. 1 (full); NaN where the value is not finite. */
static float level(const picture *p, const row_view *row, int64_t col) {
  const double value = row->values[col], low = row->low, high = row->high;
  if (!isfinite(value)) return NAN;
  if (!(high > low)) return 0;
  const double place = (value - low) / (high - low);
  const double within = place < 0 ? 0 : place > 1 ? 1 : place;
  return (float)(p->config->root ? sqrt(within) : within);
}

static bool hidden(const picture *p, int64_t row, int64_t col) {
  return p->config->hidden != NULL && p->config->hidden[row * p->cols + col];
}

static void put_color(picture *p, int layer, float at) {
  uint8_t rgb[3];
  clattn_kit_color((double)at, rgb);
  flush_spaces(p);
  p->colored = true;
  fprintf(p->stream, "\x1b[%d;2;%d;%d;%dm", layer, rgb[0], rgb[1], rgb[2]);
}

/* Back to the terminal's own colours. */
static void reset(picture *p) {
  if (p->colored) fputs("\x1b[0m", p->stream);
  p->colored = false;
}

static const char *shade(float at) {
  if (!isfinite(at)) return "??";
  return shades[at >= 1 ? 4 : (int)(at * 4 + 0.5f)];
}

static void put_full_row(picture *p, int64_t row) {
  const bool colors = p->config->style == CLATTN_KIT_COLORS;
  const row_view view = view_row(p, row);
  put_margin(p, row_label(p, row));
  for (int64_t j = 0; j < p->cols; j++) {
    const float at = level(p, &view, j);
    if (hidden(p, row, j)) {
      reset(p);
      spaces(p, 2);
    } else if (!colors) {
      put(p, shade(at));
    } else {
      put_color(p, 48, at);
      fputs(isfinite(at) ? "  " : "??", p->stream);
    }
  }
  reset(p);
  end_line(p);
}

/* Rows `row` and `row` + 1 in one line: the upper one's label stands to the
 * left, the lower one's to the right. */
static void put_half_rows(picture *p, int64_t row) {
  const bool both = row + 1 < p->rows;
  const row_view upper = view_row(p, row);
  const row_view lower = view_row(p, both ? row + 1 : row);
  put_margin(p, row_label(p, row));
  for (int64_t j = 0; j < p->cols; j++) {
    const bool above = !hidden(p, row, j);
    const bool below = both && !hidden(p, row + 1, j);
    if (!above || !below) reset(p);
    if (!above && !below) {
      spaces(p, 1);
      continue;
    }
    if (above) put_color(p, 38, level(p, &upper, j));
    if (below) put_color(p, above ? 48 : 38, level(p, &lower, j));
    fputs(above ? "▀" : "▄", p->stream);
  }
  reset(p);
  if (both && p->margin > 0) {
    spaces(p, GAP);
    put_label(p, row_label(p, row + 1), p->config->label_columns);
  }
  end_line(p);
}

static void put_legend(picture *p) {
  put_margin(p, "");
  flush_spaces(p);
  if (p->config->by_row)
    fputs("0 ", p->stream);
  else
    fprintf(p->stream, "%.3g ", (double)p->low);
  for (int i = 0; i < 5; i++) {
    if (p->config->style == CLATTN_KIT_SHADES) {
      fputs(shades[i], p->stream);
    } else {
      put_color(p, 48, (float)i / 4);
      fputs("  ", p->stream);
      reset(p);
    }
  }
  if (p->config->by_row)
    fputs(" each row's largest value", p->stream);
  else
    fprintf(p->stream, " %.3g", (double)p->high);
  fputs(p->config->root ? ", by the square root\n" : "\n", p->stream);
}

/* ---- the picture --------------------------------------------------------- */

static void find_range(picture *p) {
  p->low = isnan(p->config->low) ? 0 : p->config->low;
  p->high = p->config->high;
  if (!isnan(p->high)) return;
  p->high = p->low;
  for (int64_t i = 0; i < p->rows; i++)
    for (int64_t j = 0; j < p->cols; j++) {
      const float value = p->matrix[i * p->row_stride + j];
      if (isfinite(value) && value > p->high) p->high = value;
    }
}

clattn_status clattn_kit_heatmap(const clattn_kit_heatmap_config *config,
                                 const float *matrix, int64_t rows,
                                 int64_t cols, int64_t row_stride,
                                 const char *const *row_labels,
                                 const char *const *column_labels,
                                 FILE *stream) {
  clattn_kit_heatmap_config defaults;
  if (config == NULL) {
    clattn_kit_heatmap_config_init(&defaults);
    config = &defaults;
  }
  KIT_REQUIRE_STRUCT(config, clattn_kit_heatmap_config);
  KIT_REQUIRE((int)config->style >= CLATTN_KIT_SHADES &&
                  config->style <= CLATTN_KIT_HALVES,
              "config->style: got %d, want 0..2", (int)config->style);
  KIT_REQUIRE(!isinf(config->low) && !isinf(config->high),
              "config->low, high: got %g, %g, want finite or NaN",
              (double)config->low, (double)config->high);
  KIT_REQUIRE(config->label_columns >= 1 && config->label_columns <= 1000,
              "config->label_columns: got %d, want 1..1000",
              config->label_columns);
  KIT_REQUIRE(matrix != NULL, "matrix: got NULL, want numbers");
  KIT_REQUIRE(rows >= 1, "rows: got %lld, want >= 1", (long long)rows);
  KIT_REQUIRE(cols >= 1, "cols: got %lld, want >= 1", (long long)cols);
  KIT_REQUIRE(row_stride >= cols, "row_stride: got %lld, want >= %lld",
              (long long)row_stride, (long long)cols);
  KIT_REQUIRE(stream != NULL, "stream: got NULL, want a stream");

  picture p = {.config = config,
               .matrix = matrix,
               .rows = rows,
               .cols = cols,
               .row_stride = row_stride,
               .row_labels = row_labels,
               .column_labels = column_labels,
               .stream = stream};
  find_range(&p);
  for (int64_t i = 0; i < rows; i++) {
    const int columns = shown_columns(&p, row_label(&p, i));
    if (columns > p.margin) p.margin = columns;
  }
  const bool halves = config->style == CLATTN_KIT_HALVES;
  put_column_labels(&p, halves ? 1 : 2);
  for (int64_t i = 0; i < rows; i += halves ? 2 : 1) {
    if (halves)
      put_half_rows(&p, i);
    else
      put_full_row(&p, i);
  }
  if (config->legend) put_legend(&p);
  if (fflush(stream) != 0 || ferror(stream))
    return clattn_set_error(CLATTN_IO_ERROR, "stream: writing failed");
  return CLATTN_OK;
}
