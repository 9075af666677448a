/* test_view_text.c - attention in a terminal: the numbers shown are the data's. */
#define _POSIX_C_SOURCE 200809L
#include <criterion/criterion.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clattn_view.h"
#include "harness.h"
#include "view/matrix.h"
#include "view_case.h"

#define HAS(name) (1u << CLATTN_ATTENTION_##name)

static const view_case encoder = {.kind = CLATTN_ATTENTION_ENCODER,
                                  .layers = 2,
                                  .heads = 3,
                                  .n = 6,
                                  .has = HAS(WEIGHTS)};

/* What is written; free() is the caller's. */
static char *show(const clattn_attention *attention, clattn_view_kind kind,
                  clattn_kit_heatmap_style style, int columns, int64_t row) {
  clattn_view_options options;
  clattn_view_options_init(&options);
  options.kind = kind;
  options.row = row;
  options.head = kind == CLATTN_VIEW_HEAD ? 1 : -1;
  options.layer = 0;
  clattn_view_terminal terminal;
  clattn_view_terminal_init(&terminal);
  terminal.style = style;
  terminal.columns = columns;
  char *text = NULL;
  size_t n;
  FILE *stream = open_memstream(&text, &n);
  TH_OK(clattn_view_text(attention, &options, &terminal, stream));
  cr_assert_eq(fclose(stream), 0);
  return text;
}

/* The line of a text that begins with `start`, blanks before it left away. */
static const char *line_of(const char *text, const char *start) {
  for (const char *at = text; at != NULL; at = strchr(at, '\n')) {
    at += strspn(at, "\n ");
    if (strncmp(at, start, strlen(start)) == 0) return at;
  }
  return NULL;
}

static const char *const shades[5] = {" ", "░", "▒", "▓", "█"};

static const char *shade_of(double weight, double high) {
  return shades[(int)(weight / high * 4 + 0.5)];
}

/* ---- one head --------------------------------------------------------------- */

Test(view_text, head_is_the_matrix) {
  clattn_attention *a = view_case_open(&encoder);
  char *text = show(a, CLATTN_VIEW_HEAD, CLATTN_KIT_SHADES, 80, -1);
  cr_expect(strncmp(text, "layer 0, head 1\na model, encoder, ", 34) == 0,
            "got:\n%s", text);
  double high = 0;
  for (int i = 0; i < 36; i++)
    high = fmax(high, view_case_weight(&encoder, 0, 1, i / 6, i % 6));
  for (int64_t i = 0; i < 6; i++) {
    char want[128], label[8];
    int used = snprintf(want, sizeof want, "t%lld ", (long long)i);
    snprintf(label, sizeof label, "t%lld ", (long long)i);
    for (int64_t j = 0; j < 6; j++) {
      const char *s = shade_of(view_case_weight(&encoder, 0, 1, i, j), high);
      used += snprintf(want + used, sizeof want - (size_t)used, "%s%s", s, s);
    }
    while (want[used - 1] == ' ') want[--used] = '\0';
    const char *line = line_of(strstr(text, "\n\n"), label);
    cr_assert(line != NULL, "no row %s in\n%s", label, text);
    cr_expect(strncmp(line, want, (size_t)used) == 0 && line[used] == '\n',
              "want\n%s\nin\n%s", want, text);
  }
  free(text);
  clattn_attention_destroy(a);
}

/* Keys that no row sees are left out in colours, too, and half blocks say whose
 * the labels are. */
Test(view_text, head_in_half_blocks) {
  view_case c = encoder;
  c.kind = CLATTN_ATTENTION_DECODER;
  clattn_attention *a = view_case_open(&c);
  char *text = show(a, CLATTN_VIEW_HEAD, CLATTN_KIT_HALVES, 80, -1);
  cr_expect_not_null(strstr(text, "\ntwo rows a line: "), "got\n%s", text);
  int upper = 0, lower = 0;
  for (const char *at = text; (at = strstr(at, "▀")) != NULL; at++) upper++;
  for (const char *at = text; (at = strstr(at, "▄")) != NULL; at++) lower++;
  /* Rows 0 and 1, 2 and 3, 4 and 5: the lower one sees a key more. */
  cr_expect_eq(upper, 1 + 3 + 5, "got\n%s", text);
  cr_expect_eq(lower, 3, "got\n%s", text);
  free(text);
  clattn_attention_destroy(a);
}

/* Grids of many tokens are drawn by the root, unless somebody wants it otherwise. */
Test(view_text, grids_of_many_tokens_are_by_the_root) {
  const int64_t counts[] = {64, 65};
  for (int k = 0; k < 2; k++) {
    view_case c = encoder;
    c.n = counts[k];
    clattn_attention *a = view_case_open(&c);
    for (int scale = 0; scale < 3; scale++)
      for (int kind = 0; kind < 4; kind++) {
        clattn_view_options o;
        clattn_view_options_init(&o);
        o.kind = (clattn_view_kind)kind;
        o.scale = (clattn_view_scale)scale;
        char *text = NULL;
        size_t n;
        FILE *stream = open_memstream(&text, &n);
        TH_OK(clattn_view_text(a, &o, NULL, stream));
        fclose(stream);
        const bool colors =
            kind == CLATTN_VIEW_HEAD || kind == CLATTN_VIEW_GRID;
        const bool want = colors && (scale == CLATTN_VIEW_ROOT ||
                                     (scale == CLATTN_VIEW_SCALE_AUTO &&
                                      k == 1 && kind == CLATTN_VIEW_GRID));
        cr_expect_eq(strstr(text, "colours by the square root") != NULL, want,
                     "%d tokens, scale %d, kind %d:\n%s", (int)c.n, scale, kind,
                     text);
        free(text);
      }
    clattn_attention_destroy(a);
  }
}

/* ---- layers x heads ----------------------------------------------------------- */

/* Every cell of every map by the largest weight of all. */
Test(view_text, grid_is_on_one_scale) {
  clattn_attention *a = view_case_open(&encoder);
  char *text = show(a, CLATTN_VIEW_GRID, CLATTN_KIT_SHADES, 200, -1);
  double high = 0;
  for (int i = 0; i < 6 * 36; i++)
    high = fmax(high, view_case_weight(&encoder, i / 108, i / 36 % 3, i / 6 % 6,
                                       i % 6));
  char legend[32];
  snprintf(legend, sizeof legend, " %.3g\n", high);
  cr_expect_not_null(strstr(text, legend), "no%s in\n%s", legend, text);
  const char *at = text;
  for (int layer = 0; layer < 2; layer++) {
    at = strstr(at, "head 0");
    cr_assert(at != NULL);
    for (int64_t row = 0; row < 6; row++) {
      at = strchr(at, '\n') + 1;
      char want[256];
      int used = row == 0 ? snprintf(want, sizeof want, "%6d  ", layer)
                          : snprintf(want, sizeof want, "%8s", "");
      for (int head = 0; head < 3; head++) {
        if (head > 0) want[used++] = ' ';
        for (int64_t key = 0; key < 6; key++) {
          const char *s =
              shade_of(view_case_weight(&encoder, layer, head, row, key), high);
          used +=
              snprintf(want + used, sizeof want - (size_t)used, "%s%s", s, s);
        }
      }
      while (used > 0 && want[used - 1] == ' ') used--;
      cr_expect(strncmp(at, want, (size_t)used) == 0 && at[used] == '\n',
                "layer %d, row %d: want\n%.*s\nin\n%s", layer, (int)row, used,
                want, text);
    }
  }
  free(text);
  clattn_attention_destroy(a);
}

/* Colours are those of clattn_kit_color, and a causal map has none beyond. */
Test(view_text, grid_has_the_colors_of_weights) {
  view_case c = encoder;
  c.kind = CLATTN_ATTENTION_DECODER;
  c.layers = c.heads = 1;
  clattn_attention *a = view_case_open(&c);
  char *text = show(a, CLATTN_VIEW_GRID, CLATTN_KIT_COLORS, 80, -1);
  const char *at = strstr(text, "head 0");
  cr_assert(at != NULL);
  for (int64_t row = 0; row < 6; row++) {
    at = strchr(at, '\n') + 1;
    const char *end = strchr(at, '\n');
    for (int64_t key = 0; key <= row; key++) {
      uint8_t rgb[3];
      clattn_kit_color(view_case_weight(&c, 0, 0, row, key), rgb);
      char want[40];
      snprintf(want, sizeof want, "\x1b[48;2;%d;%d;%dm  ", rgb[0], rgb[1],
               rgb[2]);
      at = strstr(at, want);
      cr_assert(at != NULL && at < end, "row %d, key %d", (int)row, (int)key);
      at++;
    }
    at = strstr(at, "\x1b[48");
    cr_expect(at == NULL || at > end, "row %d: a colour beyond", (int)row);
    at = end;
  }
  free(text);
  clattn_attention_destroy(a);
}

/* ---- one token ------------------------------------------------------------------ */

Test(view_text, token_names_the_strongest_key) {
  clattn_attention *a = view_case_open(&encoder);
  for (int columns = 60; columns <= 240; columns += 60) {
    char *text = show(a, CLATTN_VIEW_TOKEN, CLATTN_KIT_SHADES, columns, 4);
    cr_expect(strncmp(text, "token 4 “t4” in 2 layers × 3 heads\n",
                      strlen("token 4 “t4” in 2 layers × 3 heads\n")) == 0,
              "got:\n%s", text);
    double high = 0;
    for (int i = 0; i < 36; i++)
      high =
          fmax(high, view_case_weight(&encoder, i / 18, i / 6 % 3, 4, i % 6));
    for (int layer = 0; layer < 2; layer++)
      for (int head = 0; head < 3; head++) {
        static const char *const bars[9] = {" ", "▁", "▂", "▃", "▄",
                                            "▅", "▆", "▇", "█"};
        char want[96];
        int used = snprintf(want, sizeof want, " %d.%d ", layer, head);
        int best = 0;
        for (int key = 0; key < 6; key++) {
          const double w = view_case_weight(&encoder, layer, head, 4, key);
          if (w > view_case_weight(&encoder, layer, head, 4, best)) best = key;
          used += snprintf(want + used, sizeof want - (size_t)used, "%s",
                           bars[(int)(w / high * 8 + 0.5)]);
        }
        snprintf(want + used, sizeof want - (size_t)used, " %.2f t%d",
                 view_case_weight(&encoder, layer, head, 4, best), best);
        cr_expect_not_null(strstr(text, want), "no \"%s\" in\n%s", want, text);
      }
    free(text);
  }
  clattn_attention_destroy(a);
}

/* ---- the table -------------------------------------------------------------------- */

/* The statistics of a head, from their definitions. */
static void statistics(const view_case *c, int64_t layer, int64_t head,
                       double out[4]) {
  memset(out, 0, 4 * sizeof *out);
  for (int64_t i = 0; i < c->n; i++)
    for (int64_t j = 0; j < c->n; j++) {
      const double w = view_case_weight(c, layer, head, i, j);
      if (w > 0) out[0] -= w * log(w) / (double)c->n;
      out[1] += w * (double)llabs(i - j) / (double)c->n;
      if (j == i - 1) out[2] += w / (double)(c->n - 1);
      if (j == 0) out[3] += w / (double)c->n;
    }
}

Test(view_text, table_has_the_statistics) {
  static const char *const titles[4] = {
      "entropy, in nats", "distance, in tokens", "weight on the previous token",
      "weight on the first token"};
  clattn_attention *a = view_case_open(&encoder);
  /* So narrow that tables stand one beneath the other. */
  char *text = show(a, CLATTN_VIEW_TABLE, CLATTN_KIT_SHADES, 32, -1);
  for (int k = 0; k < 4; k++) {
    const char *at = strstr(text, titles[k]);
    cr_assert(at != NULL, "no \"%s\" in\n%s", titles[k], text);
    at = strchr(strchr(at, '\n') + 1, '\n') + 1;
    double values[6], third = 0;
    for (int i = 0; i < 6; i++) {
      double all[4];
      statistics(&encoder, i / 3, i % 3, all);
      values[i] = all[k];
    }
    for (int i = 0; i < 6; i++) {
      int above = 0;
      for (int j = 0; j < 6; j++) above += values[j] > values[i];
      if (above == 2) third = values[i];
    }
    for (int layer = 0; layer < 2; layer++) {
      char *end;
      const long number = strtol(at, &end, 10);
      cr_expect_eq(number, layer);
      for (int head = 0; head < 3; head++) {
        const double want = values[layer * 3 + head];
        const double got = strtod(end, &end);
        cr_expect_float_eq(got, want, 0.00501, "%s, %d.%d: %g", titles[k],
                           layer, head, want);
        cr_expect_eq(*end == '*', k >= 2 && want >= fmax(third, 0.1),
                     "%s, %d.%d", titles[k], layer, head);
        if (*end == '*') end++;
      }
      at = strchr(at, '\n') + 1;
    }
  }
  free(text);
  clattn_attention_destroy(a);
}

/* ---- any text, any width ------------------------------------------------------------ */

/* Takes escapes of colour out, and checks that there are no others. */
static void without_colors(char *text) {
  char *out = text;
  for (const char *at = text; *at != '\0';) {
    if (*at != '\x1b') {
      *out++ = *at++;
      continue;
    }
    at++;
    cr_assert_eq(*at, '[');
    at += 1 + strspn(at + 1, "0123456789;");
    cr_assert_eq(*at++, 'm', "an escape that is no colour");
  }
  *out = '\0';
}

Test(view_text, hostile_tokens_stay_within_the_width) {
  static const char *const texts[8] = {"</script><img src=x onerror=alert(1)>",
                                       "\x1b[2J\x1b]0;title\a",
                                       " ",
                                       "",
                                       "漢字漢字漢字漢字漢字",
                                       "e\u0301\u0301\u0301\u0301",
                                       "👩\u200d🔬 \u202eabc\n",
                                       "العربية"};
  view_case c = encoder;
  c.n = 8;
  c.texts = texts;
  clattn_attention *a = view_case_open(&c);
  for (int kind = 0; kind < 4; kind++)
    for (int style = 0; style < 3; style++)
      for (int columns = 20; columns < 220; columns += 27) {
        char *text = show(a, (clattn_view_kind)kind,
                          (clattn_kit_heatmap_style)style, columns, 1);
        cr_expect(style > 0 || strchr(text, '\x1b') == NULL,
                  "an escape without colours");
        without_colors(text);
        for (char *line = text; *line != '\0';) {
          char *end = strchr(line, '\n');
          cr_assert(end != NULL, "the last line does not end");
          *end = '\0';
          const int taken = clattn_kit_label(line, 100000, NULL);
          /* Tables are not narrower than their numbers and titles. */
          cr_expect(taken <= (columns < 40 ? 40 : columns),
                    "kind %d, style %d: %d of %d columns:\n%s", kind, style,
                    taken, columns, line);
          for (const char *at = line; *at != '\0'; at++)
            cr_expect((unsigned char)*at >= 0x20, "kind %d: control 0x%02x",
                      kind, *at);
          line = end + 1;
        }
        free(text);
      }
  clattn_attention_destroy(a);
}

/* ---- blocks, and files without weights ------------------------------------------------ */

/* Cells of rows [row, row_end) and keys [key, key_end) from the definition. */
static double mean_weight(const view_case *c, int64_t layer, int64_t head,
                          int64_t row, int64_t row_end, int64_t key,
                          int64_t key_end) {
  double sum = 0;
  const int64_t from = head < 0 ? 0 : head, to = head < 0 ? c->heads : head + 1;
  for (int64_t h = from; h < to; h++)
    for (int64_t i = row; i < row_end; i++)
      for (int64_t j = key; j < key_end; j++)
        sum += view_case_weight(c, layer, h, i, j);
  return sum / (double)((row_end - row) * (to - from));
}

typedef struct read_case {
  const char *name;
  uint32_t has;
  int64_t first, tokens; /* of the options */
  int64_t cells;
  view_source source;
  int64_t block; /* that it must have */
} read_case;

static void check_read(const view_case *base, const read_case *r,
                       int64_t head) {
  view_case c = *base;
  c.has = r->has;
  clattn_attention *a = view_case_open(&c);
  clattn_view_options options;
  clattn_view_options_init(&options);
  options.first = r->first;
  options.tokens = r->tokens;
  options.head = head;
  view_selection s;
  TH_OK(view_select(a, &options, &s));
  view_matrix matrix;
  TH_OK(view_matrix_plan(&s, r->cells, r->cells, true, &matrix));
  cr_expect_eq(matrix.source, r->source, "%s", r->name);
  cr_expect_eq(matrix.rows.block, r->block, "%s", r->name);
  cr_expect(matrix.rows.n <= r->cells || matrix.source == VIEW_MAP, "%s: %d",
            r->name, (int)matrix.rows.n);
  float *values =
      calloc((size_t)(matrix.rows.n * matrix.keys.n), sizeof *values);
  TH_OK(view_matrix_read(&s, &matrix, 1, head, values));
  for (int64_t i = 0; i < matrix.rows.n; i++)
    for (int64_t j = 0; j < matrix.keys.n; j++) {
      const double want = mean_weight(
          &c, 1, head, view_axis_begin(&matrix.rows, i),
          view_axis_end(&matrix.rows, i), view_axis_begin(&matrix.keys, j),
          view_axis_end(&matrix.keys, j));
      const double got = (double)values[i * matrix.keys.n + j];
      cr_expect_float_eq(got, want, 1e-5, "%s: cell %d, %d: got %g, want %g",
                         r->name, (int)i, (int)j, got, want);
      bool seen = false;
      for (int64_t p = view_axis_begin(&matrix.rows, i);
           p < view_axis_end(&matrix.rows, i); p++)
        for (int64_t q = view_axis_begin(&matrix.keys, j);
             q < view_axis_end(&matrix.keys, j); q++)
          seen = seen || view_case_sees(&c, p, q);
      cr_expect_eq(view_matrix_seen(&s, &matrix, i, j), seen, "%s: cell %d, %d",
                   r->name, (int)i, (int)j);
    }
  free(values);
  view_matrix_destroy(&matrix);
  clattn_attention_destroy(a);
}

Test(view_text, cells_are_what_they_say) {
  const uint32_t products = HAS(QUERY) | HAS(KEY);
  const uint32_t top = HAS(TOP_KEYS) | HAS(TOP_WEIGHTS);
  const read_case cases[] = {
      {"weights", HAS(WEIGHTS), 0, 0, 100, VIEW_WEIGHTS, 1},
      {"some tokens", HAS(WEIGHTS), 5, 7, 100, VIEW_WEIGHTS, 1},
      {"beyond the end", HAS(WEIGHTS), 20, 70, 100, VIEW_WEIGHTS, 1},
      {"blocks", HAS(WEIGHTS), 0, 0, 10, VIEW_WEIGHTS, 3},
      {"blocks of some", HAS(WEIGHTS), 3, 17, 6, VIEW_WEIGHTS, 3},
      {"one cell", HAS(WEIGHTS), 0, 0, 1, VIEW_WEIGHTS, 23},
      {"products", products, 0, 0, 100, VIEW_WEIGHTS, 1},
      {"products, not map", products | HAS(MAP), 0, 0, 5, VIEW_WEIGHTS, 5},
      {"map", HAS(MAP), 0, 0, 100, VIEW_MAP, 4},
      {"some of the map", HAS(MAP), 6, 7, 100, VIEW_MAP, 4},
      {"map in blocks", HAS(MAP), 0, 0, 3, VIEW_MAP, 8},
      {"map, not top", top | HAS(MAP), 0, 0, 6, VIEW_MAP, 4},
      {"top", top, 0, 0, 100, VIEW_TOP, 1},
      {"top, not map", top | HAS(MAP), 0, 0, 23, VIEW_TOP, 1},
      {"top in blocks", top, 0, 0, 6, VIEW_TOP, 4},
  };
  const view_case bases[] = {
      {.kind = CLATTN_ATTENTION_ENCODER, .n = 23},
      {.kind = CLATTN_ATTENTION_DECODER, .n = 23},
      {.kind = CLATTN_ATTENTION_DECODER, .n = 23, .window = 4},
  };
  for (size_t b = 0; b < sizeof bases / sizeof *bases; b++)
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
      for (int64_t head = -1; head < 2; head++) {
        view_case c = bases[b];
        c.layers = c.heads = 2;
        c.map_block = 4;
        c.top = 23; /* all of them, so that every weight is known */
        check_read(&c, &cases[i], head);
      }
}

/* Of a file with a few of the largest weights alone: those, others 0, and it says
 * so. */
Test(view_text, top_weights_alone) {
  view_case c = encoder;
  c.n = 9;
  c.has = HAS(TOP_KEYS) | HAS(TOP_WEIGHTS);
  c.top = 2;
  clattn_attention *a = view_case_open(&c);
  view_selection s;
  TH_OK(view_select(a, NULL, &s));
  view_matrix matrix;
  TH_OK(view_matrix_plan(&s, 9, 9, true, &matrix));
  float values[81];
  TH_OK(view_matrix_read(&s, &matrix, 1, 2, values));
  for (int64_t i = 0; i < 9; i++)
    for (int64_t j = 0; j < 9; j++) {
      const double w = view_case_weight(&c, 1, 2, i, j);
      int above = 0;
      for (int64_t k = 0; k < 9; k++)
        above += view_case_weight(&c, 1, 2, i, k) > w;
      cr_expect_float_eq((double)values[i * 9 + j], above < 2 ? w : 0, 1e-6,
                         "row %d, key %d", (int)i, (int)j);
    }
  view_matrix_destroy(&matrix);
  char *text = show(a, CLATTN_VIEW_HEAD, CLATTN_KIT_SHADES, 80, -1);
  cr_expect_not_null(
      strstr(text, "\nof each row only the 2 largest weights are known\n"));
  free(text);
  clattn_attention_destroy(a);
}

Test(view_text, cross_attention_shows_all_keys) {
  view_case c = encoder;
  c.kind = CLATTN_ATTENTION_CROSS;
  c.n = 5;
  c.m = 11;
  clattn_attention *a = view_case_open(&c);
  char *text = show(a, CLATTN_VIEW_HEAD, CLATTN_KIT_SHADES, 80, -1);
  cr_expect_not_null(strstr(text, "5 rows, 11 keys"), "got:\n%s", text);
  cr_expect_not_null(line_of(text, "t4 "));
  cr_expect_null(line_of(text, "t5 "));
  free(text);
  text = show(a, CLATTN_VIEW_TABLE, CLATTN_KIT_SHADES, 80, -1);
  cr_expect_null(strstr(text, "previous"), "there is none:\n%s", text);
  free(text);
  clattn_attention_destroy(a);
}

/* A weight that is no number is seen as such, and is no scale. */
Test(view_text, what_is_not_finite) {
  const float bad[] = {NAN, INFINITY, -INFINITY};
  for (int i = 0; i < 3; i++) {
    view_case c = encoder;
    c.bad = bad[i];
    clattn_attention *a = view_case_open(&c);
    for (int kind = 0; kind < 4; kind++)
      for (int style = 0; style < 3; style++) {
        char *text = show(a, (clattn_view_kind)kind,
                          (clattn_kit_heatmap_style)style, 80, 0);
        if (style == 0 && (kind == 1 || kind == 2))
          cr_expect_not_null(strchr(text, '?'), "kind %d:\n%s", kind, text);
        cr_expect_null(strstr(text, "bars: 0 to inf"));
        free(text);
      }
    clattn_attention_destroy(a);
  }
}

/* ---- errors ---------------------------------------------------------------------------- */

static void expect_error(const clattn_attention *a,
                         const clattn_view_options *options,
                         const clattn_view_terminal *terminal, FILE *stream,
                         clattn_status want, const char *message) {
  const clattn_status got = clattn_view_text(a, options, terminal, stream);
  cr_expect_eq(got, want, "want %s: %s", message, clattn_error_message());
  cr_expect(strncmp(clattn_error_message(), message, strlen(message)) == 0,
            "want \"%s\", got \"%s\"", message, clattn_error_message());
}

Test(view_text, errors) {
  clattn_attention *a = view_case_open(&encoder);
  FILE *null = fopen("/dev/null", "w");
  cr_assert(null != NULL);
  const clattn_status bad = CLATTN_INVALID_ARGUMENT;
  expect_error(NULL, NULL, NULL, null, bad, "attention: got NULL");
  expect_error(a, NULL, NULL, NULL, bad, "stream: got NULL");
  clattn_view_terminal t;
  clattn_view_terminal_init(&t);
  t.columns = 0;
  expect_error(a, NULL, &t, null, bad,
               "terminal->columns: got 0, want 1..65536");
  t.columns = INT_MAX;
  expect_error(a, NULL, &t, null, bad, "terminal->columns: got 2147483647");
  t.columns = 80;
  t.style = (clattn_kit_heatmap_style)3;
  expect_error(a, NULL, &t, null, bad, "terminal->style: got 3, want 0..2");
  t.struct_size = 1;
  expect_error(a, NULL, &t, null, bad, "terminal->struct_size: got 1, want ");

  const clattn_view_options good = {
      .struct_size = sizeof good, .layer = -1, .head = -1, .row = -1};
  clattn_view_options o = good;
#define WRONG(field, value, message)                                           \
  o = good;                                                                    \
  o.field = (value);                                                           \
  expect_error(a, &o, NULL, null, bad, "options->" message)
  WRONG(struct_size, 0, "struct_size: got 0, want ");
  WRONG(kind, (clattn_view_kind)4, "kind: got 4, want 0..3");
  WRONG(part, 1, "part: got 1, want one of 0..0");
  WRONG(layer, 2, "layer: got 2, want one of 0..1");
  WRONG(head, 3, "head: got 3, want one of 0..2");
  WRONG(row, 6, "row: got 6, want one of 0..5");
  WRONG(first, 6, "first: got 6, want one of 0..5");
  WRONG(first, -1, "first: got -1, want one of 0..5");
  WRONG(tokens, -1, "tokens: got -1, want >= 0");
#undef WRONG
  fclose(null);

  FILE *full = fopen("/dev/full", "w");
  if (full != NULL) {
    expect_error(a, NULL, NULL, full, CLATTN_IO_ERROR, "stream: ");
    fclose(full);
  }
  clattn_attention_destroy(a);
}

/* A file with statistics alone has a table, and says that it has no more. */
Test(view_text, statistics_alone) {
  view_case c = encoder;
  c.has = HAS(ENTROPY) | HAS(DISTANCE);
  clattn_attention *a = view_case_open(&c);
  char *text = show(a, CLATTN_VIEW_TABLE, CLATTN_KIT_SHADES, 80, -1);
  cr_expect_not_null(strstr(text, "1.50"), "got:\n%s", text);
  cr_expect_null(strstr(text, "first token"), "got:\n%s", text);
  free(text);
  char *nothing = NULL;
  size_t n;
  FILE *stream = open_memstream(&nothing, &n);
  for (int kind = 0; kind < 3; kind++) {
    clattn_view_options o;
    clattn_view_options_init(&o);
    o.kind = (clattn_view_kind)kind;
    expect_error(a, &o, NULL, stream, CLATTN_INVALID_ARGUMENT, "attention: ");
  }
  fclose(stream);
  cr_expect_eq(n, 0);
  free(nothing);
  clattn_attention_destroy(a);
}
