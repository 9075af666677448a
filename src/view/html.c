/* html.c - attention as one file that a browser opens.
 *
 * The template up to its data, then blocks of numbers layer by layer, the JSON
 * that describes them, and the scripts: src/view/web/README.md. */
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "page.h"
#include "replace.h"

/* Rows that were recorded as F16 differ by less from those that query and key give
 * (clattn_attention_check); more says that the model does something else. */
#define SAME 1e-3f
/* Thumbnails have so many cells a side at most. */
enum { THUMB_CELLS = 32 };

#define BIT(tensor) (1u << CLATTN_ATTENTION_##tensor)

/* ---- what goes into the page ---------------------------------------------------- */

/* The largest difference of all layers; NaN stays. */
static clattn_status check(page_part *part) {
  for (int64_t layer = 0; layer < part->info.layers; layer++) {
    float difference;
    VIEW_TRY(clattn_attention_check(part->attention, part->index, layer,
                                    &difference));
    if (!(difference <= part->difference)) part->difference = difference;
    if (isnan(part->difference)) break;
  }
  return CLATTN_OK;
}

/* Query and key are enough where they give the weights. Without both, what was
 * recorded in their place. */
static clattn_status choose_blocks(page_part *part) {
  const uint32_t has = part->info.has;
  const uint32_t pair = BIT(QUERY) | BIT(KEY);
  const uint32_t top = BIT(TOP_KEYS) | BIT(TOP_WEIGHTS);
  const bool scores = (has & pair) == pair && part->info.head_dim > 0;
  const bool weights = (has & BIT(WEIGHTS)) != 0;
  if (scores && weights) VIEW_TRY(check(part));
  const bool computed = scores && (!weights || part->difference <= SAME);
  if (scores) part->blocks |= pair;
  if (weights && !computed) part->blocks |= BIT(WEIGHTS);
  if (part->blocks == 0) {
    if ((has & top) == top) part->blocks |= top;
    part->blocks |= has & BIT(MAP);
  }
  VIEW_REQUIRE(part->blocks != 0,
               "runs[%zu]: part '%s' has no weights, no query and key, no "
               "map and no top keys",
               part->run, part->info.name);
  part->weights = "none";
  if (computed) part->weights = "computed";
  if (weights && !computed)
    part->weights = part->info.dtype == CLATTN_F16 ? "f16" : "f32";
  return CLATTN_OK;
}

static int64_t at_most(int64_t n, int64_t limit) {
  return n < limit ? n : limit;
}

static void choose_thumb(page_part *part) {
  const clattn_attention_part *info = &part->info;
  int64_t n = info->rows.n, m = info->keys.n;
  if (part->blocks & BIT(MAP)) {
    n = (n + info->map_block - 1) / info->map_block;
    m = (m + info->map_block - 1) / info->map_block;
  }
  part->thumb_rows = at_most(n, THUMB_CELLS);
  part->thumb_keys = at_most(m, THUMB_CELLS);
}

static clattn_status open_part(page_part *part) {
  clattn_attention_part_init(&part->info);
  VIEW_TRY(
      clattn_attention_get_part(part->attention, part->index, &part->info));
  VIEW_REQUIRE(part->info.rows.n > 0 && part->info.keys.n > 0,
               "runs[%zu]: part '%s' has no tokens", part->run,
               part->info.name);
  VIEW_TRY(choose_blocks(part));
  choose_thumb(part);
  part->summaries = calloc((size_t)part->info.layers,
                           (size_t)part->info.heads * sizeof *part->summaries);
  return part->summaries ? CLATTN_OK : VIEW_OUT_OF_MEMORY("the page");
}

static clattn_status open_parts(page *page) {
  for (size_t r = 0; r < page->n_runs; r++)
    page->n_parts += clattn_attention_parts(page->runs[r]);
  page->parts = calloc(page->n_parts, sizeof *page->parts);
  if (page->parts == NULL) return VIEW_OUT_OF_MEMORY("the page");
  page_part *part = page->parts;
  for (size_t r = 0; r < page->n_runs; r++) {
    const size_t n = clattn_attention_parts(page->runs[r]);
    for (size_t i = 0; i < n; i++, part++) {
      part->attention = page->runs[r];
      part->run = r, part->index = i;
      VIEW_TRY(open_part(part));
    }
  }
  return CLATTN_OK;
}

/* ---- writing it ------------------------------------------------------------------ */

enum { NONCE_BYTES = 16, NONCE_CHARS = 2 * NONCE_BYTES + 1 };

/* Told to nobody before the page is written, so that no text in it has it. */
static clattn_status make_nonce(char nonce[NONCE_CHARS]) {
  unsigned char bytes[NONCE_BYTES];
  FILE *random = fopen("/dev/urandom", "rb");
  const bool ok = random && fread(bytes, sizeof bytes, 1, random) == 1;
  const int why = errno;
  if (random) fclose(random);
  if (!ok)
    return clattn_set_error(CLATTN_IO_ERROR, "/dev/urandom: %s", strerror(why));
  for (size_t i = 0; i < NONCE_BYTES; i++)
    snprintf(nonce + 2 * i, 3, "%02x", bytes[i]);
  return CLATTN_OK;
}

static clattn_status summarize(page_part *part, int64_t layer) {
  clattn_attention_summary *heads = part->summaries + layer * part->info.heads;
  VIEW_TRY(
      clattn_attention_summarize(part->attention, part->index, layer, heads));
  part->sampled = heads[0].rows < part->info.rows.n ? heads[0].rows : 0;
  return CLATTN_OK;
}

static clattn_status put_layers(FILE *stream, page *page) {
  const clattn_view_html_options *options = page->options;
  int64_t done = 0, total = 0;
  for (size_t i = 0; i < page->n_parts; i++)
    total += page->parts[i].info.layers;
  for (size_t i = 0; i < page->n_parts; i++) {
    page_part *part = &page->parts[i];
    for (int64_t layer = 0; layer < part->info.layers; layer++) {
      VIEW_TRY(page_put_layer(stream, part, layer));
      VIEW_TRY(summarize(part, layer));
      if (options->progress)
        options->progress(options->progress_user, ++done, total);
      if (ferror(stream)) return CLATTN_OK; /* view_replace_end says why */
    }
  }
  return CLATTN_OK;
}

static clattn_status put_page(FILE *stream, page *page) {
  char nonce[NONCE_CHARS];
  VIEW_TRY(make_nonce(nonce));
  VIEW_TRY(page_put_head(stream, nonce));
  VIEW_TRY(put_layers(stream, page));
  VIEW_TRY(page_put_json(stream, page));
  return page_put_tail(stream, nonce);
}

static clattn_status write_page(page *page, const char *path,
                                size_t *size_bytes) {
  VIEW_TRY(open_parts(page));
  view_replacement file;
  VIEW_TRY(view_replace_begin(path, &file));
  clattn_status status = put_page(file.stream, page);
  const long size = ftell(file.stream);
  status = view_replace_end(&file, status);
  if (status == CLATTN_OK && size_bytes != NULL) *size_bytes = (size_t)size;
  return status;
}

/* The caller's texts. Those of files were checked when they were opened. */
static clattn_status check_text(const char *name, const char *text) {
  if (text == NULL) return CLATTN_OK;
  json_t *string = json_string(text);
  VIEW_REQUIRE(string != NULL, "%s: got a text that is not UTF-8", name);
  json_decref(string);
  return CLATTN_OK;
}

static clattn_status check_texts(const clattn_view_html_options *options,
                                 size_t n_runs) {
  VIEW_TRY(check_text("options->title", options->title));
  VIEW_TRY(check_text("options->state", options->state));
  for (size_t r = 0; options->names != NULL && r < n_runs; r++)
    VIEW_TRY(check_text("options->names", options->names[r]));
  return CLATTN_OK;
}

clattn_status clattn_view_html(const clattn_attention *const *runs,
                               size_t n_runs,
                               const clattn_view_html_options *options,
                               const char *path, size_t *size_bytes) {
  VIEW_REQUIRE(runs != NULL, "runs: got NULL, want attention to show");
  VIEW_REQUIRE(n_runs == 1 || n_runs == 2, "n_runs: got %zu, want 1 or 2",
               n_runs);
  for (size_t r = 0; r < n_runs; r++)
    VIEW_REQUIRE(runs[r] != NULL, "runs[%zu]: got NULL, want attention", r);
  VIEW_REQUIRE(path != NULL, "path: got NULL, want a file's path");
  clattn_view_html_options usual;
  clattn_view_html_options_init(&usual);
  if (options == NULL) options = &usual;
  VIEW_REQUIRE_STRUCT(options, clattn_view_html_options);
  VIEW_TRY(check_texts(options, n_runs));

  page page = {.runs = runs, .n_runs = n_runs, .options = options};
  const clattn_status status = write_page(&page, path, size_bytes);
  for (size_t i = 0; page.parts != NULL && i < page.n_parts; i++)
    free(page.parts[i].summaries);
  free(page.parts);
  return status;
}
