/* text_token.c - one row's weights in all layers and heads, in a terminal.
 *
 *   0.0 ▁▁█▁▂   0.61 sat     0.1 ▄▁▁▁▃   0.30 [CLS]
 *
 * layer.head, a bar for each key on one scale, the largest weight and its key. */
#include <math.h>
#include <stdlib.h>

#include "text.h"

#define NAME 7  /* "11.11", right-aligned, a space */
#define VALUE 6 /* " 0.61 " */
#define KEY 10  /* of the key's label */
#define GAP 2
#define LEAST_BARS 8
#define MOST_BARS 24

static const char *const bars[9] = {" ", "▁", "▂", "▃", "▄",
                                    "▅", "▆", "▇", "█"};

static void put_bars(const view_terminal *t, const float *values, int64_t n,
                     float high) {
  for (int64_t i = 0; i < n; i++) {
    const double at = !isfinite(values[i]) ? NAN
                      : high > 0           ? (double)values[i] / (double)high
                                           : 0;
    /* The darkest colours would not be seen on a dark ground. */
    view_text_color(t, 38, 0.3 + 0.7 * at);
    if (isnan(at))
      fputs("?", t->stream);
    else
      fputs(bars[at <= 0 ? 0 : at >= 1 ? 8 : (int)(at * 8 + 0.5)], t->stream);
  }
  view_text_plain(t);
}

/* One head: its name, bars, and strongest key. `last`: of its line. */
static void put_head(const view_terminal *t, const view_axis *keys,
                     int64_t layer, int64_t head, const float *values,
                     float high, bool last) {
  char name[48];
  snprintf(name, sizeof name, "%lld.%lld", (long long)layer, (long long)head);
  fprintf(t->stream, "%*s ", NAME - 1, name);
  put_bars(t, values, keys->n, high);
  int64_t best = 0;
  for (int64_t i = 1; i < keys->n; i++)
    if (values[i] > values[best] || isnan(values[best])) best = i;
  fprintf(t->stream, " %.2f ", (double)values[best]);
  const int taken = clattn_kit_label(keys->labels[best], KEY, t->stream);
  if (!last) view_text_blanks(t, KEY + GAP - taken);
}

clattn_status view_text_token(const view_selection *s, const view_terminal *t) {
  const int fixed = NAME + VALUE + KEY;
  /* Two heads a line if there is room for few bars at least. */
  int64_t room = (t->columns + GAP) / 2 - GAP - fixed;
  if (room < LEAST_BARS) room = t->columns - fixed;
  if (room < 1) room = 1;
  view_matrix matrix;
  VIEW_TRY(view_matrix_plan(s, 1, room > MOST_BARS ? MOST_BARS : room, true,
                            &matrix));
  const int64_t layers = s->part.layers, heads = s->part.heads;
  const int64_t n = matrix.keys.n;
  const int64_t across = (t->columns + GAP) / (fixed + n + GAP);
  view_maps maps; /* one row each */
  clattn_status status = view_maps_read(s, &matrix, &maps);
  if (status == CLATTN_OK) status = view_text_caption(s, &matrix, t);
  if (status == CLATTN_OK) {
    for (int64_t l = 0; l < layers; l++)
      for (int64_t h = 0; h < heads; h++) {
        const bool last =
            h + 1 == heads || across < 1 || h % across == across - 1;
        put_head(t, &matrix.keys, l, h, view_maps_of(&maps, l, h), maps.high,
                 last);
        if (last) fputc('\n', t->stream);
      }
    fprintf(t->stream, "\n%*sbars: 0 to %.3g, keys %lld to %lld\n", NAME, "",
            (double)maps.high, (long long)matrix.keys.first,
            (long long)(matrix.keys.first + matrix.keys.tokens - 1));
  }
  view_maps_free(&maps);
  view_matrix_destroy(&matrix);
  return status;
}
