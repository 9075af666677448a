/* view_overview.c - what stands out among all heads: the first thing to read,
 * and the head to begin at. */
#include <math.h>
#include <stdlib.h>

#include "view.h"

typedef struct extreme {
  int64_t layer, head; /* layer -1: none yet */
  float value;
} extreme;

static void consider(extreme *most, float sign, int64_t layer, int64_t head,
                     float value) {
  if (isnan(value)) return; /* not known */
  if (most->layer >= 0 && sign * value <= sign * most->value) return;
  *most = (extreme){layer, head, value};
}

typedef struct outstanding {
  extreme sharp, broad, previous, first, far;
  extreme telling; /* looks far and sharply, and neither at the first token nor
                    * at the one before alone */
} outstanding;

static void look(outstanding *o, const clattn_attention_part *part,
                 int64_t layer, int64_t head,
                 const clattn_attention_summary *s) {
  const bool cross = part->kind == CLATTN_ATTENTION_CROSS;
  consider(&o->sharp, -1, layer, head, s->entropy);
  consider(&o->broad, 1, layer, head, s->entropy);
  consider(&o->first, 1, layer, head, s->first);
  if (!cross) consider(&o->previous, 1, layer, head, s->previous);
  if (!cross) consider(&o->far, 1, layer, head, s->distance);
  if (s->first < 0.4F && s->previous < 0.3F)
    consider(&o->telling, 1, layer, head,
             (cross ? 1 : s->distance) / (1 + s->entropy));
}

/* before, after: of the number. */
static void tell(const char *what, const extreme *most, const char *before,
                 const char *after) {
  if (most->layer >= 0)
    printf("%-13s layer %lld, head %lld: %s%.*f%s\n", what,
           (long long)most->layer, (long long)most->head, before,
           most->value < 10 ? 2 : 1, (double)most->value, after);
}

bool view_overview(const clattn_attention *attention, size_t part, bool print,
                   int64_t *layer, int64_t *head) {
  clattn_attention_part info;
  if (!view_get_part(attention, part, &info)) return false;
  clattn_attention_summary *all = calloc((size_t)info.heads, sizeof *all);
  if (all == NULL) {
    cli_error("no memory for %lld heads", (long long)info.heads);
    return false;
  }
  const extreme none = {.layer = -1};
  outstanding o = {none, none, none, none, none, none};
  cli_progress progress;
  cli_progress_begin(&progress, "layer");
  bool done = true;
  int64_t rows = info.rows.n;
  for (int64_t l = 0; done && l < info.layers; l++) {
    cli_progress_step(&progress, l, info.layers);
    done = view_ok(clattn_attention_summarize(attention, part, l, all));
    rows = all[0].rows;
    for (int64_t h = 0; done && h < info.heads; h++)
      look(&o, &info, l, h, &all[h]);
  }
  cli_progress_clear(&progress);
  free(all);
  if (!done) return false;
  if (print) {
    tell("sharpest", &o.sharp, "entropy ", "");
    tell("broadest", &o.broad, "entropy ", "");
    tell("token before", &o.previous, "weight ", "");
    tell("first token", &o.first, "weight ", "");
    tell("farthest", &o.far, "", " tokens");
    if (rows < info.rows.n)
      printf("(weights of %lld rows, spread over the text)\n", (long long)rows);
  }
  if (*layer < 0 && o.telling.layer >= 0) {
    *layer = o.telling.layer;
    *head = o.telling.head;
  }
  return true;
}
