/* axis.c - one side of a matrix: tokens or blocks of tokens, with labels. */
#include <stdlib.h>
#include <string.h>

#include "axis.h"

#define LABEL_BYTES 128 /* of a token; what is longer is cut */

int64_t view_axis_begin(const view_axis *axis, int64_t cell) {
  return axis->first + cell * axis->block;
}

int64_t view_axis_end(const view_axis *axis, int64_t cell) {
  const int64_t end = view_axis_begin(axis, cell) + axis->block;
  const int64_t last = axis->first + axis->tokens;
  return end < last ? end : last;
}

void view_axis_destroy(view_axis *axis) {
  free(axis->labels);
  free(axis->bytes);
  *axis = (view_axis){.n = 0};
}

/* The label of tokens begin .. end-1, into `label`. */
static void put_label(const clattn_attention_tokens *tokens, int64_t begin,
                      int64_t end, char label[LABEL_BYTES]) {
  if (end - begin <= 1) {
    clattn_view_label(tokens->texts[begin], label, LABEL_BYTES);
    return;
  }
  const size_t half = (LABEL_BYTES - sizeof "\u2026") / 2;
  clattn_view_label(tokens->texts[begin], label, half);
  strcat(label, "\u2026");
  char *rest = label + strlen(label);
  clattn_view_label(tokens->texts[end - 1], rest, half);
}

clattn_status view_axis_create(const clattn_attention_tokens *tokens,
                               int64_t first, int64_t count, int64_t block,
                               view_axis *axis) {
  *axis = (view_axis){.first = first,
                      .tokens = count,
                      .block = block,
                      .n = (count - 1) / block + 1};
  axis->labels = calloc((size_t)axis->n, sizeof *axis->labels);
  axis->bytes = calloc((size_t)axis->n, LABEL_BYTES);
  if (axis->labels == NULL || axis->bytes == NULL) {
    view_axis_destroy(axis);
    return VIEW_OUT_OF_MEMORY("labels");
  }
  for (int64_t i = 0; i < axis->n; i++) {
    char *label = axis->bytes + i * LABEL_BYTES;
    put_label(tokens, view_axis_begin(axis, i), view_axis_end(axis, i), label);
    axis->labels[i] = label;
  }
  return CLATTN_OK;
}
