/* view_checks.c - what somebody who looks at a recording is told beforehand: numbers
 * that are no weights, queries and keys that do not give them, and large pages. */
#include <math.h>
#include <stdlib.h>

#include "view.h"

#define ROUNDED_SUM 0.02 /* what F16 and BF16 round off a row's sum, at most */
#define ROUNDED 1e-3F    /* and more than F16 does to a row, of its weight */
#define LARGE_PAGE 64e6  /* bytes */

enum {
  MOST_WEIGHTS = 1 << 22, /* of a layer that are looked at */
  COMPUTED_ROWS = 8       /* of a head, where each takes products */
};

static bool has(const clattn_attention_part *part,
                clattn_attention_tensor tensor) {
  return (part->has >> tensor & 1) != 0;
}

/* ---- rows ------------------------------------------------------------------------ */

/* What is wrong with the rows of a part. */
typedef struct findings {
  bool foreign; /* a number that is no weight, at layer, head, row and key */
  float value;
  double worst; /* how far a sum of a row is from 1, the most; there */
  int64_t layer, head, row, key;
} findings;

/* One row [m] of a layer and head. */
static void look(const float *row, int64_t m, int64_t layer, int64_t head,
                 int64_t at, findings *f) {
  double sum = 0;
  for (int64_t key = 0; key < m; key++) {
    sum += (double)row[key];
    if (row[key] >= 0 && isfinite(row[key])) continue;
    *f = (findings){true, row[key], 0, layer, head, at, key};
    return;
  }
  /* A row that sees nothing is 0. */
  if (sum > 0 && fabs(sum - 1) > f->worst)
    *f = (findings){false, 0, fabs(sum - 1), layer, head, at, 0};
}

/* Rows that are spread over all layers and heads, or all of them. */
static clattn_status find(const clattn_attention *attention, size_t part,
                          const clattn_attention_part *info, findings *f) {
  const int64_t n = info->rows.n, m = info->keys.n;
  const double all = (double)info->heads * (double)n * (double)m;
  const int64_t step = has(info, CLATTN_ATTENTION_WEIGHTS)
                           ? (int64_t)(all / MOST_WEIGHTS) + 1
                           : (n - 1) / COMPUTED_ROWS + 1;
  float *row = calloc((size_t)m, sizeof *row);
  if (row == NULL)
    return clattn_set_error(CLATTN_OUT_OF_MEMORY, "no memory for a row");
  clattn_status status = CLATTN_OK;
  for (int64_t l = 0; l < info->layers && !f->foreign; l++)
    for (int64_t h = 0; h < info->heads && !f->foreign; h++)
      for (int64_t i = (n - 1) % step; i < n && !f->foreign; i += step) {
        status =
            clattn_attention_read_weights(attention, part, l, h, i, 1, row);
        if (status != CLATTN_OK) break;
        look(row, m, l, h, i, f);
      }
  free(row);
  return status;
}

/* ---- queries and keys ---------------------------------------------------------------- */

/* The largest difference of all layers, and the first of its layers. */
static clattn_status compare(const clattn_attention *attention, size_t part,
                             const clattn_attention_part *info, float *most,
                             int64_t *where) {
  *most = 0;
  for (int64_t layer = 0; layer < info->layers; layer++) {
    float difference;
    const clattn_status status =
        clattn_attention_check(attention, part, layer, &difference);
    if (status != CLATTN_OK) return status;
    if (difference <= *most) continue;
    *most = difference;
    *where = layer;
  }
  return CLATTN_OK;
}

/* ---- what is said ------------------------------------------------------------------------ */

static void tell(const char *name, const clattn_attention_part *info,
                 const findings *f, float difference, int64_t layer) {
  char what[320];
  snprintf(what, sizeof what, "%s: note: %s%s", name, info->name,
           info->name[0] ? ": " : "");
  if (f->foreign)
    cli_error(
        "%slayer %lld, head %lld, row %lld, key %lld: %g is no weight, which "
        "are "
        "finite and not below 0: shown as it is",
        what, (long long)f->layer, (long long)f->head, (long long)f->row,
        (long long)f->key, (double)f->value);
  else if (f->worst > ROUNDED_SUM)
    cli_error(
        "%ssums of rows differ from 1, by up to %.3g (layer %lld, head %lld, "
        "row "
        "%lld): shown as they are",
        what, f->worst, (long long)f->layer, (long long)f->head,
        (long long)f->row);
  if (difference > ROUNDED)
    cli_error(
        "%squery and key do not give the recorded weights (layer %lld: they "
        "differ by %.3g): the scale is another than %.6g, or the model does "
        "more than scale and mask",
        what, (long long)layer, (double)difference, info->scale);
}

bool view_notes(const char *name, const clattn_attention *attention,
                bool sums) {
  for (size_t i = 0; i < clattn_attention_parts(attention); i++) {
    clattn_attention_part info;
    findings found = {.worst = 0};
    float difference = 0;
    int64_t layer = 0;
    clattn_attention_part_init(&info);
    if (!view_ok(clattn_attention_get_part(attention, i, &info))) return false;
    if (sums && (has(&info, CLATTN_ATTENTION_WEIGHTS) ||
                 has(&info, CLATTN_ATTENTION_QUERY)))
      if (!view_ok(find(attention, i, &info, &found))) return false;
    if (!view_ok(compare(attention, i, &info, &difference, &layer)))
      return false;
    tell(name, &info, &found, difference, layer);
  }
  return true;
}

/* ---- large pages ---------------------------------------------------------------------------- */

/* What a page has of a part: queries and keys, the weights where those do not give
 * them, or what was recorded in their place; in base64. -1 after a message. */
static double part_bytes(const clattn_attention *attention, size_t part) {
  clattn_attention_part p;
  clattn_attention_part_init(&p);
  float difference = 0;
  int64_t layer;
  if (!view_ok(clattn_attention_get_part(attention, part, &p)) ||
      !view_ok(compare(attention, part, &p, &difference, &layer)))
    return -1;
  const double n = (double)p.rows.n, m = (double)p.keys.n;
  const double heads = (double)p.heads;
  const bool products = has(&p, CLATTN_ATTENTION_QUERY);
  const bool weights =
      has(&p, CLATTN_ATTENTION_WEIGHTS) && (!products || difference > ROUNDED);
  double bytes = 0;
  if (products)
    bytes += 4 * (double)p.head_dim * (heads * n + (double)p.kv_heads * m);
  if (weights) bytes += heads * n * m * (p.dtype == CLATTN_F16 ? 2 : 4);
  if (!products && !weights && has(&p, CLATTN_ATTENTION_TOP_KEYS))
    bytes += 8 * heads * n * (double)p.top;
  if (!products && !weights && has(&p, CLATTN_ATTENTION_MAP))
    bytes += 4 * heads * ceil(n / (double)p.map_block) *
             ceil(m / (double)p.map_block);
  return bytes * (double)p.layers * 4 / 3;
}

bool view_note_page(const view_run *runs, size_t n_runs) {
  double bytes = 0;
  for (size_t r = 0; r < n_runs; r++)
    for (size_t i = 0; i < clattn_attention_parts(runs[r].attention); i++) {
      const double more = part_bytes(runs[r].attention, i);
      if (more < 0) return false;
      bytes += more;
    }
  if (bytes > LARGE_PAGE)
    cli_error(
        "note: the page will have about %.0f MB; --max-tokens=N, with a text, "
        "makes it smaller",
        bytes * 1e-6);
  return true;
}
