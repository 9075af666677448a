/* page_files.c - the page's own files, and the order they come in. */
#include <string.h>

#include "page.h"
#include "web.h"

static const char template_name[] = "page.html";
static const char style_name[] = "style.css";
/* Each may use the names of those before it when it is read. */
static const char *const scripts[] = {
    "data.js",     "tokens.js",     "scores.js", "attention.js", "state.js",
    "colors.js",   "canvas.js",     "svg.js",    "pointer.js",   "view.js",
    "matrix.js",   "heads.js",      "model.js",  "neurons.js",   "export.js",
    "controls.js", "statistics.js", "keys.js",   "strip.js",     "app.js",
};
enum { N_SCRIPTS = sizeof scripts / sizeof *scripts };

/* What page.html has in the places of others. */
static const char policy_mark[] = "<!-- policy -->";
static const char style_mark[] = "<!-- style -->";
static const char scripts_mark[] = "<!-- scripts -->";

static const view_web_file *find(const char *name) {
  for (const view_web_file *file = view_web_files; file->name; file++)
    if (strcmp(file->name, name) == 0) return file;
  return NULL;
}

static bool is_used(const char *name) {
  if (strcmp(name, template_name) == 0 || strcmp(name, style_name) == 0)
    return true;
  for (size_t i = 0; i < N_SCRIPTS; i++)
    if (strcmp(name, scripts[i]) == 0) return true;
  return false;
}

/* Not the caller's fault: the library was put together wrongly. */
#define BROKEN(...) clattn_set_error(CLATTN_UNSUPPORTED, __VA_ARGS__)

clattn_status page_check_files(void) {
  if (!find(template_name)) return BROKEN("%s is not embedded", template_name);
  if (!find(style_name)) return BROKEN("%s is not embedded", style_name);
  for (size_t i = 0; i < N_SCRIPTS; i++)
    if (!find(scripts[i])) return BROKEN("%s is not embedded", scripts[i]);
  for (const view_web_file *file = view_web_files; file->name; file++) {
    if (!is_used(file->name))
      return BROKEN("%s is embedded, but no part of the page", file->name);
  }
  return CLATTN_OK;
}

/* Where a mark begins in the template, at least at `from`. */
static clattn_status find_mark(const char *mark, size_t from, size_t *at) {
  const view_web_file *file = find(template_name);
  const size_t n = strlen(mark);
  for (size_t i = from; i + n <= file->n; i++) {
    if (memcmp(file->bytes + i, mark, n) == 0) {
      *at = i;
      return CLATTN_OK;
    }
  }
  return BROKEN("%s: no '%s' in its place", template_name, mark);
}

static void put_file(FILE *stream, const char *name) {
  const view_web_file *file = find(name);
  fwrite(file->bytes, 1, file->n, stream);
}

clattn_status page_put_head(FILE *stream, const char *nonce) {
  VIEW_TRY(page_check_files());
  size_t policy, style, end;
  VIEW_TRY(find_mark(policy_mark, 0, &policy));
  VIEW_TRY(find_mark(style_mark, policy, &style));
  VIEW_TRY(find_mark(scripts_mark, style, &end));
  const unsigned char *page = find(template_name)->bytes;

  fwrite(page, 1, policy, stream);
  /* Nothing is asked for, and what is not ours does not run. Pictures to save
   * are made of blobs. */
  fprintf(stream,
          "<meta http-equiv=\"Content-Security-Policy\" content=\""
          "default-src 'none'; script-src 'nonce-%s'; style-src 'nonce-%s'; "
          "img-src data: blob:; base-uri 'none'; form-action 'none'\">",
          nonce, nonce);
  policy += strlen(policy_mark);
  fwrite(page + policy, 1, style - policy, stream);
  fprintf(stream, "<style nonce=\"%s\">\n", nonce);
  put_file(stream, style_name);
  fputs("</style>", stream);
  style += strlen(style_mark);
  fwrite(page + style, 1, end - style, stream);
  return CLATTN_OK;
}

clattn_status page_put_tail(FILE *stream, const char *nonce) {
  size_t end;
  VIEW_TRY(find_mark(scripts_mark, 0, &end));
  for (size_t i = 0; i < N_SCRIPTS; i++) {
    fprintf(stream, "<script nonce=\"%s\">\n", nonce);
    put_file(stream, scripts[i]);
    /* The name that errors and debuggers show. */
    fprintf(stream, "\n//# sourceURL=%s\n</script>\n", scripts[i]);
  }
  const view_web_file *page = find(template_name);
  end += strlen(scripts_mark);
  fwrite(page->bytes + end, 1, page->n - end, stream);
  return CLATTN_OK;
}
