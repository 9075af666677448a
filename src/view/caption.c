/* caption.c - what is shown, in words. */
#define _POSIX_C_SOURCE 200809L
#include "caption.h"

#include <stdlib.h>
#include <string.h>

#define TITLE_COLUMNS 200 /* longer names and titles are cut */

/* Part, layer and head, or token. */
static void put_what(const view_selection *s, const view_matrix *matrix,
                     FILE *out) {
  if (s->part.name[0] != '\0') {
    clattn_kit_label(s->part.name, TITLE_COLUMNS, out);
    fputs(": ", out);
  }
  const long long layers = (long long)s->part.layers;
  const long long heads = (long long)s->part.heads;
  if (s->kind == CLATTN_VIEW_HEAD && s->head >= 0)
    fprintf(out, "layer %lld, head %lld", (long long)s->layer,
            (long long)s->head);
  else if (s->kind == CLATTN_VIEW_HEAD)
    fprintf(out, "layer %lld, mean of %lld heads", (long long)s->layer, heads);
  else if (s->kind == CLATTN_VIEW_TOKEN && matrix->rows.tokens == 1)
    fprintf(out, "token %lld \u201c%s\u201d in %lld layers \u00d7 %lld heads",
            (long long)s->row, matrix->rows.labels[0], layers, heads);
  else if (s->kind == CLATTN_VIEW_TOKEN)
    fprintf(out,
            "tokens %lld to %lld, the mean, in %lld layers \u00d7 %lld heads",
            (long long)matrix->rows.first,
            (long long)(matrix->rows.first + matrix->rows.tokens - 1), layers,
            heads);
  else
    fprintf(out, "%lld layers \u00d7 %lld heads", layers, heads);
}

static void put_range(const char *what, const view_axis *axis, int64_t n,
                      FILE *out) {
  if (axis->tokens == n)
    fprintf(out, ", %lld %s", (long long)n, what);
  else
    fprintf(out, ", %s %lld to %lld of %lld", what, (long long)axis->first,
            (long long)(axis->first + axis->tokens - 1), (long long)n);
}

static void put_title(const view_selection *s, const view_matrix *matrix,
                      FILE *out) {
  if (s->title != NULL)
    clattn_kit_label(s->title, TITLE_COLUMNS, out);
  else
    put_what(s, matrix, out);
}

static void put_detail(const view_selection *s, const view_matrix *matrix,
                       FILE *out) {
  if (s->title != NULL) {
    put_what(s, matrix, out);
    fputc('\n', out);
  }
  const char *model = clattn_attention_model(s->attention);
  if (model != NULL && model[0] != '\0') {
    clattn_kit_label(model, TITLE_COLUMNS, out);
    fputs(", ", out);
  }
  const bool cross = s->part.kind == CLATTN_ATTENTION_CROSS;
  fputs(clattn_attention_kind_name(s->part.kind), out);
  if (s->part.causal && s->part.kind != CLATTN_ATTENTION_DECODER)
    fputs(" (causal)", out);
  if (s->kind == CLATTN_VIEW_HEAD)
    fprintf(out, ", %lld layers \u00d7 %lld heads", (long long)s->part.layers,
            (long long)s->part.heads);
  if (matrix == NULL) {
    fprintf(out, ", %lld tokens", (long long)s->part.rows.n);
    return;
  }
  const bool token = s->kind == CLATTN_VIEW_TOKEN;
  if (!token)
    put_range(cross ? "rows" : "tokens", &matrix->rows, s->part.rows.n, out);
  if (token || cross) put_range("keys", &matrix->keys, s->part.keys.n, out);
  if (token && matrix->keys.block > 1)
    fprintf(out, "\nbars are sums over %lld keys",
            (long long)matrix->keys.block);
  else if (matrix->rows.block > 1 && matrix->rows.block == matrix->keys.block)
    fprintf(out, "\nblocks of %lld tokens: mean over rows, sum over keys",
            (long long)matrix->rows.block);
  else if (matrix->rows.block > 1 && matrix->keys.block > 1)
    fprintf(out, "\nmean over %lld rows, sum over %lld keys",
            (long long)matrix->rows.block, (long long)matrix->keys.block);
  else if (matrix->rows.block > 1)
    fprintf(out, "\nmean over %lld rows", (long long)matrix->rows.block);
  else if (matrix->keys.block > 1)
    fprintf(out, "\nsum over %lld keys", (long long)matrix->keys.block);
  if (matrix->sample > 0)
    fprintf(out, "\nof each block %lld rows were looked at",
            (long long)matrix->sample);
  if (matrix->source == VIEW_TOP)
    fprintf(out, "\nof each row only the %lld largest weights are known",
            (long long)s->part.top);
  if (s->root) fputs("\ncolours by the square root of the weights", out);
}

/* The lines of the detail, each ended. */
static void split(view_caption *caption) {
  char *line = caption->detail;
  while (line != NULL && caption->n_lines < VIEW_CAPTION_LINES) {
    caption->lines[caption->n_lines++] = line;
    line = strchr(line, '\n');
    if (line != NULL) *line++ = '\0';
  }
}

clattn_status view_caption_create(const view_selection *s,
                                  const view_matrix *matrix,
                                  view_caption *caption) {
  *caption = (view_caption){.n_lines = 0};
  size_t title_bytes, detail_bytes;
  FILE *title = open_memstream(&caption->title, &title_bytes);
  FILE *detail = open_memstream(&caption->detail, &detail_bytes);
  bool ok = title != NULL && detail != NULL;
  if (ok) {
    put_title(s, matrix, title);
    put_detail(s, matrix, detail);
    ok = !ferror(title) && !ferror(detail);
  }
  if (title != NULL && fclose(title) != 0) ok = false;
  if (detail != NULL && fclose(detail) != 0) ok = false;
  if (!ok || caption->title == NULL || caption->detail == NULL) {
    view_caption_destroy(caption);
    return VIEW_OUT_OF_MEMORY("caption");
  }
  split(caption);
  return CLATTN_OK;
}

void view_caption_destroy(view_caption *caption) {
  free(caption->title);
  free(caption->detail);
  *caption = (view_caption){.n_lines = 0};
}
