/* generate_picture.c - what the last tokens attend to. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "generate.h"

enum { COLUMNS = 32, LABEL_BYTES = 64 };

/* The rows and columns of one head, or of their mean, of the last tokens. */
static void cut(const generate_options *o, const writer *w, const float *all,
                int64_t n, int64_t rows, int64_t cols, float *matrix) {
  const int64_t first = o->head < 0 ? 0 : o->head;
  const int64_t heads = o->head < 0 ? w->heads : 1;
  for (int64_t r = 0; r < rows; r++)
    for (int64_t c = 0; c < cols; c++) {
      double sum = 0;
      for (int64_t h = first; h < first + heads; h++)
        sum += (double)all[(h * n + n - rows + r) * n + n - cols + c];
      matrix[r * cols + c] = (float)(sum / (double)heads);
    }
}

static void label(const writer *w, int32_t id, char text[LABEL_BYTES]) {
  size_t bytes;
  bool space;
  const char *token = w->kind->text(w, -1, id, &bytes, &space);
  if (token == NULL) {
    token = "\u00b7"; /* a special token */
    bytes = strlen(token);
  }
  if (strcmp(token, " ") == 0)
    token = "\u2423";
  else if (strcmp(token, "\n") == 0)
    token = "\u21b5";
  else if (bytes >= LABEL_BYTES)
    token = "..."; /* not cut amid a character */
  memcpy(text, token, strlen(token) + 1);
}

static void print_title(const generate_options *o, const writer *w,
                        int64_t layer, int64_t rows, int64_t n) {
  cli_put_head(layer, w->layers, o->head, w->heads);
  printf(": the last %lld of %lld tokens", (long long)rows, (long long)n);
  if (w->total > n)
    printf(" in sight,\nthe window of %lld having slid", (long long)w->context);
  printf(" (rows attend to columns)\n\n");
}

bool generate_show(const generate_options *o, writer *w) {
  const int32_t *ids;
  const int64_t layer = o->layer < 0 ? w->layers - 1 : o->layer;
  const int64_t n = w->kind->window(w, &ids);
  const int64_t rows = n < o->rows ? n : o->rows;
  const int64_t wanted = rows > COLUMNS ? rows : COLUMNS;
  const int64_t cols = n < wanted ? n : wanted;
  float *all = calloc((size_t)(w->heads * n * n), sizeof *all);
  float *matrix = calloc((size_t)(rows * cols), sizeof *matrix);
  char(*texts)[LABEL_BYTES] = calloc((size_t)cols, sizeof *texts);
  const char **labels = calloc((size_t)cols, sizeof *labels);
  bool done = all && matrix && texts && labels;
  if (!done) cli_error("no memory for the picture");
  done = done && generate_ok(w->kind->attention(w, layer, all));
  if (done) {
    cut(o, w, all, n, rows, cols, matrix);
    for (int64_t i = 0; i < cols; i++) {
      label(w, ids[n - cols + i], texts[i]);
      labels[i] = texts[i];
    }
    clattn_kit_heatmap_config config;
    clattn_kit_heatmap_config_init(&config);
    config.by_row = true;
    config.style = cli_colors(o->color) ? CLATTN_KIT_COLORS : CLATTN_KIT_SHADES;
    print_title(o, w, layer, rows, n);
    done =
        generate_ok(clattn_kit_heatmap(&config, matrix, rows, cols, cols,
                                       labels + cols - rows, labels, stdout));
  }
  free(all);
  free(matrix);
  free(texts);
  free(labels);
  return done;
}
