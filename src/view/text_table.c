/* text_table.c - layers x heads as numbers in a terminal.
 *
 * One table for each statistic; tables stand side by side where there is room, and
 * heads that do not fit stand beneath. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

#define MARGIN 6          /* "layer", or its number, and a space */
#define GAP 3             /* between tables */
#define NUMBER 24         /* bytes of one */
#define MARKED 3          /* heads that a table marks */
#define LEAST_MARKED 0.1f /* less weight than this is no habit */

enum { ENTROPY, DISTANCE, PREVIOUS, FIRST, STATISTICS };

static const char *const titles[STATISTICS] = {
    [ENTROPY] = "entropy, in nats",
    [DISTANCE] = "distance, in tokens",
    [PREVIOUS] = "weight on the previous token",
    [FIRST] = "weight on the first token"};

typedef struct tables {
  const view_terminal *terminal;
  int64_t layers, heads;
  float *values[STATISTICS]; /* each [layers, heads] */
  float marked[STATISTICS];  /* from this value on; NAN: none */
  float high[STATISTICS];
  int shown[STATISTICS], n_shown; /* the statistics there are */
  int cell;                       /* columns of a number and its mark */
  int64_t across;                 /* heads of a table, side by side */
  int width;                      /* of a table */
  int64_t beside;                 /* tables, side by side */
  int64_t sampled;                /* rows that were looked at; 0: all */
} tables;

static clattn_status read_tables(const view_selection *s, tables *t) {
  const size_t n = (size_t)t->layers * (size_t)t->heads;
  clattn_attention_summary *summaries =
      calloc((size_t)t->heads, sizeof *summaries);
  for (int i = 0; i < STATISTICS; i++) {
    t->values[i] = calloc(n, sizeof *t->values[i]);
    if (t->values[i] == NULL || summaries == NULL) {
      free(summaries);
      return VIEW_OUT_OF_MEMORY("table");
    }
  }
  clattn_status status = CLATTN_OK;
  for (int64_t l = 0; status == CLATTN_OK && l < t->layers; l++) {
    status = clattn_attention_summarize(s->attention, s->index, l, summaries);
    t->sampled = summaries[0].rows < s->part.rows.n ? summaries[0].rows : 0;
    for (int64_t h = 0; status == CLATTN_OK && h < t->heads; h++) {
      const int64_t at = l * t->heads + h;
      t->values[ENTROPY][at] = summaries[h].entropy;
      t->values[DISTANCE][at] = summaries[h].distance;
      t->values[PREVIOUS][at] = summaries[h].previous;
      t->values[FIRST][at] = summaries[h].first;
    }
  }
  free(summaries);
  return status;
}

/* The value of the MARKED-th largest, or of the least that is worth a mark. */
static float mark_from(const float *values, size_t n) {
  float best[MARKED] = {0}; /* falling */
  for (size_t i = 0; i < n; i++) {
    if (!isfinite(values[i])) continue;
    float value = values[i];
    for (int k = 0; k < MARKED; k++)
      if (value > best[k]) {
        const float down = best[k];
        best[k] = value;
        value = down;
      }
  }
  for (int k = MARKED - 1; k >= 0; k--)
    if (best[k] >= LEAST_MARKED) return best[k];
  return NAN;
}

/* Statistics of which nothing is known are left out, and so is the previous token
 * in a cross-attention, where there is none. */
static void choose_shown(const view_selection *s, tables *t) {
  const size_t n = (size_t)t->layers * (size_t)t->heads;
  for (int i = 0; i < STATISTICS; i++) {
    bool known = false;
    for (size_t j = 0; j < n; j++) known = known || !isnan(t->values[i][j]);
    if (!known || (i == PREVIOUS && s->part.kind == CLATTN_ATTENTION_CROSS))
      continue;
    t->shown[t->n_shown++] = i;
    t->high[i] = view_largest(t->values[i], n);
    t->marked[i] = i >= PREVIOUS ? mark_from(t->values[i], n) : NAN;
  }
}

static int put_number(float value, char text[NUMBER]) {
  if (isnan(value)) return snprintf(text, NUMBER, "-");
  const bool wide = fabsf(value) >= 1e5f;
  return snprintf(text, NUMBER, wide ? "%.3g" : "%.2f", (double)value);
}

static void choose_size(tables *t) {
  int widest = 4;
  for (int i = 0; i < t->n_shown; i++)
    for (int64_t j = 0; j < t->layers * t->heads; j++) {
      char text[NUMBER];
      const int n = put_number(t->values[t->shown[i]][j], text);
      if (n > widest) widest = n;
    }
  t->cell = widest + 2; /* a space, a mark */
  const int64_t room = t->terminal->columns;
  t->across = (room - MARGIN) / t->cell;
  if (t->across < 1) t->across = 1;
  const int64_t lines = (t->heads - 1) / t->across + 1;
  t->across = (t->heads - 1) / lines + 1;
  t->width = MARGIN + (int)t->across * t->cell;
  for (int i = 0; i < t->n_shown; i++) {
    const int columns = clattn_kit_label(titles[t->shown[i]], (int)room, NULL);
    if (columns > t->width) t->width = columns;
  }
  t->beside = (room + GAP) / (t->width + GAP);
  if (t->beside < 1) t->beside = 1;
}

static void put_cell(const tables *t, int statistic, int64_t at) {
  const view_terminal *terminal = t->terminal;
  const float value = t->values[statistic][at];
  char text[NUMBER];
  const int n = put_number(value, text);
  view_text_blanks(terminal, 1);
  const bool colored = terminal->colors && isfinite(value);
  if (colored) {
    const float high = t->high[statistic];
    const double place = high > 0 ? (double)value / (double)high : 0;
    view_text_color(terminal, 48, place);
    fputs(place > 0.6 ? "\x1b[38;5;16m" : "\x1b[38;5;231m", terminal->stream);
  }
  view_text_blanks(terminal, t->cell - 2 - n);
  fputs(text, terminal->stream);
  fputs(value >= t->marked[statistic] ? "*" : " ", terminal->stream);
  if (colored) view_text_plain(terminal);
}

/* A line of one table: `layer` -2 the title, -1 the heads' numbers. */
static void put_line(const tables *t, int statistic, int64_t layer,
                     int64_t first, int64_t end) {
  FILE *stream = t->terminal->stream;
  int taken = MARGIN;
  if (layer == -2) {
    taken = clattn_kit_label(titles[statistic], t->width, stream);
  } else if (layer == -1) {
    fprintf(stream, "%-*s", MARGIN, "layer");
    for (int64_t h = first; h < end; h++, taken += t->cell)
      fprintf(stream, "%*lld ", t->cell - 1, (long long)h);
  } else {
    fprintf(stream, "%*lld ", MARGIN - 1, (long long)layer);
    for (int64_t h = first; h < end; h++, taken += t->cell)
      put_cell(t, statistic, layer * t->heads + h);
  }
  view_text_blanks(t->terminal, t->width - taken);
}

static void put_tables(const tables *t) {
  FILE *stream = t->terminal->stream;
  for (int i = 0; i < t->n_shown; i += (int)t->beside)
    for (int64_t h = 0; h < t->heads; h += t->across) {
      const int64_t end = h + t->across < t->heads ? h + t->across : t->heads;
      for (int64_t line = h == 0 ? -2 : -1; line < t->layers; line++) {
        for (int k = i; k < t->n_shown && k < i + t->beside; k++) {
          if (k > i) view_text_blanks(t->terminal, GAP);
          put_line(t, t->shown[k], line, h, end);
        }
        fputc('\n', stream);
      }
      fputc('\n', stream);
    }
  fprintf(stream, "Means over rows.\n* the %d largest, from %.1f on.\n", MARKED,
          (double)LEAST_MARKED);
  if (t->sampled > 0)
    fprintf(stream, "Weights: of %lld rows, spread over the text.\n",
            (long long)t->sampled);
}

clattn_status view_text_table(const view_selection *s,
                              const view_terminal *terminal) {
  tables t = {
      .terminal = terminal, .layers = s->part.layers, .heads = s->part.heads};
  clattn_status status = read_tables(s, &t);
  if (status == CLATTN_OK) {
    choose_shown(s, &t);
    choose_size(&t);
    status = view_text_caption(s, NULL, terminal);
  }
  if (status == CLATTN_OK && t.n_shown > 0)
    put_tables(&t);
  else if (status == CLATTN_OK)
    fputs("Nothing is known of the heads.\n", terminal->stream);
  for (int i = 0; i < STATISTICS; i++) free(t.values[i]);
  return status;
}
