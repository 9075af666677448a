/* view_show.c - recordings to the terminal and to files. */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "view.h"

enum { LABEL_COLUMNS = 14 }; /* of a picture that is not halved */

/* ---- what is there ------------------------------------------------------------- */

int64_t view_find_part(const view_options *o,
                       const clattn_attention *attention) {
  const size_t n = clattn_attention_parts(attention);
  char known[512] = "";
  int64_t cross = 0; /* of an encoder-decoder what reads the text is shown */
  for (size_t i = 0; i < n; i++) {
    clattn_attention_part part;
    if (!view_get_part(attention, i, &part)) return -1;
    char number[24];
    snprintf(number, sizeof number, "%zu", i);
    if (part.kind == CLATTN_ATTENTION_CROSS) cross = (int64_t)i;
    if (o->part != NULL &&
        (strcmp(o->part, part.name) == 0 || strcmp(o->part, number) == 0))
      return (int64_t)i;
    const size_t used = strlen(known);
    snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "",
             part.name[0] != '\0' ? part.name : number);
  }
  if (o->part == NULL) return cross;
  cli_clean(known);
  if (n == 1)
    view_usage(
        "--part: got '%s', but this recording has one part; want %s or "
        "no --part",
        o->part, known);
  else
    view_usage("--part: got '%s', want one of %s", o->part, known);
  return -1;
}

/* "5", or "5 by 7" in cross-attention. */
static void put_tokens(const clattn_attention_part *part, char *text,
                       size_t room) {
  if (part->kind == CLATTN_ATTENTION_CROSS)
    snprintf(text, room, "%lld by %lld", (long long)part->rows.n,
             (long long)part->keys.n);
  else
    snprintf(text, room, "%lld", (long long)part->rows.n);
}

void view_describe(const clattn_attention *attention, int64_t part, char *text,
                   size_t room) {
  text[0] = '\0';
  const size_t n = clattn_attention_parts(attention);
  for (size_t i = 0; i < n; i++) {
    clattn_attention_part info;
    if (part >= 0 && (size_t)part != i) continue;
    if (!view_get_part(attention, i, &info)) return;
    char tokens[64];
    const size_t used = strlen(text);
    put_tokens(&info, tokens, sizeof tokens);
    snprintf(text + used, room - used, "%s%s%s%lld x %lld heads, %s tokens",
             used > 0 ? "; " : "", info.name, info.name[0] ? ": " : "",
             (long long)info.layers, (long long)info.heads, tokens);
  }
  cli_clean(text);
}

/* Whether a token is what somebody calls it: with or without the blank before a
 * word, or as it is shown. */
static bool is_called(const char *token, const char *name) {
  char label[256];
  if (name[0] == '\0') return false;
  return strcmp(token, name) == 0 ||
         (token[0] == ' ' && strcmp(token + 1, name) == 0) ||
         strcmp(clattn_view_label(token, label, sizeof label), name) == 0;
}

/* The row that --row means: digits are a number. CLI_OK or CLI_USAGE. */
static int find_row(const clattn_attention_part *part, view_options *o) {
  const char *name = o->row_name;
  const int64_t n = part->rows.n;
  if (name == NULL) return CLI_OK;
  if (name[0] != '\0' && name[strspn(name, "0123456789")] == '\0') {
    errno = 0;
    const long long number = strtoll(name, NULL, 10);
    if (errno != 0 || number >= n)
      return view_usage("--row: got %s, want 0..%lld", name, (long long)n - 1);
    o->row = number;
    return CLI_OK;
  }
  for (int64_t i = 0; o->row < 0 && i < n; i++)
    if (is_called(part->rows.texts[i], name)) o->row = i;
  if (o->row >= 0) return CLI_OK;
  return view_usage("--row: got '%s', want 0..%lld or one of the tokens", name,
                    (long long)n - 1);
}

/* Layer and head against the part that is shown; CLI_OK or CLI_USAGE. */
static int check_numbers(const view_options *o,
                         const clattn_attention_part *part) {
  const int status = view_check_numbers(o, part->layers, part->heads);
  if (status != CLI_OK) return status;
  const int64_t n = part->rows.n < part->keys.n ? part->rows.n : part->keys.n;
  if (o->first >= n)
    return view_usage("--first: got %lld, want 0..%lld", (long long)o->first,
                      (long long)n - 1);
  return CLI_OK;
}

static void set_view(const view_options *o, size_t part,
                     clattn_view_options *view) {
  clattn_view_options_init(view);
  if (o->kind >= 0) view->kind = (clattn_view_kind)o->kind;
  view->part = part;
  view->layer = o->layer;
  view->head = o->head;
  view->row = o->row;
  view->first = o->first;
  view->tokens = o->words;
  view->by_row = o->by_row;
  view->title = o->title;
  view->scale = o->root     ? CLATTN_VIEW_ROOT
                : o->linear ? CLATTN_VIEW_LINEAR
                            : CLATTN_VIEW_SCALE_AUTO;
}

/* What was asked for, with a head that is worth a look where none was named. */
static bool choose_head(const view_options *o,
                        const clattn_attention *attention, size_t part,
                        bool print, view_options *shown) {
  clattn_attention_part info;
  *shown = *o;
  if (!view_get_part(attention, part, &info)) return false;
  if (o->head_given && o->layer < 0) shown->layer = info.layers - 1;
  if (!print && shown->layer >= 0) return true; /* nothing to be chosen */
  return view_overview(attention, part, print, &shown->layer, &shown->head);
}

/* ---- files ---------------------------------------------------------------------- */

/* What was written: path, size, and what is in it. names: of two runs. */
static bool tell(const char *path, const view_run *runs, size_t n,
                 const char *const names[2], int64_t part) {
  char name[1024];
  struct stat info;
  if (stat(path, &info) != 0) info.st_size = 0;
  snprintf(name, sizeof name, "%s", path);
  cli_clean(name);
  printf("%s: %.2f MB", name, (double)info.st_size * 1e-6);
  for (size_t i = 0; i < n; i++) {
    char about[512];
    view_describe(runs[i].attention, part, about, sizeof about);
    printf("; ");
    if (n > 1) printf("%s (%s): ", i == 0 ? "a" : "b", names[i]);
    printf("%s", about);
  }
  putchar('\n');
  return fflush(stdout) == 0;
}

static bool draw(const view_options *o, const view_run *run, size_t part,
                 const char *path) {
  if (path == NULL) return true;
  clattn_view_options view;
  clattn_view_picture_options picture;
  set_view(o, part, &view);
  clattn_view_picture_options_init(&picture);
  picture.dark = o->dark;
  return view_ok(clattn_view_picture(run->attention, &view, &picture, path)) &&
         tell(path, run, 1, NULL, (int64_t)part);
}

/* What the page begins with: what was said of it, as its URL's hash has it. */
static void put_state(const view_options *o, size_t n_runs, size_t part,
                      char *state, size_t room) {
  static const char *const views[] = {"matrix", "model", "heads", "model"};
  size_t used = 0;
  state[0] = '\0';
#define PUT(given, ...)                                                        \
  if ((given) && used < room) {                                                \
    if (used > 0) used += (size_t)snprintf(state + used, room - used, "&");    \
    used += (size_t)snprintf(state + used, room - used, __VA_ARGS__);          \
  }
  PUT(o->kind >= 0, "view=%s", views[o->kind])
  PUT(o->part != NULL || part > 0, "part=%zu", part)
  PUT(o->layer >= 0, "layer=%lld", (long long)o->layer)
  PUT(o->head >= 0, "head=%lld", (long long)o->head)
  PUT(o->head_given && o->head < 0, "aggregate=mean")
  PUT(o->row >= 0, "row=%lld", (long long)o->row)
  PUT(n_runs == 2, "compare=side")
  PUT(o->root, "colors=root")
  PUT(o->dark, "theme=dark")
#undef PUT
}

static void show_progress(void *progress, int64_t done, int64_t total) {
  cli_progress_step(progress, done, total);
}

/* Of one model on two devices the devices are told apart, of two files the files,
 * else the models. */
static void name_runs(const view_run *runs, size_t n, const char *names[2]) {
  const bool same = n == 2 && strcmp(runs[0].name, runs[1].name) == 0;
  for (size_t i = 0; i < n; i++) {
    const bool where = same || runs[i].name[0] == '\0';
    names[i] = where && runs[i].where[0] != '\0' ? runs[i].where : runs[i].name;
  }
}

static bool write_page(const view_options *o, const view_run *runs, size_t n,
                       size_t part) {
  if (o->html == NULL) return true;
  char state[256];
  const char *names[2];
  view_options shown;
  if (!view_note_page(runs, n) ||
      !choose_head(o, runs[0].attention, part, false, &shown))
    return false;
  name_runs(runs, n, names);
  put_state(&shown, n, part, state, sizeof state);
  const clattn_attention *const attention[] = {runs[0].attention,
                                               runs[1].attention};
  cli_progress progress;
  cli_progress_begin(&progress, "page");
  clattn_view_html_options page;
  clattn_view_html_options_init(&page);
  page.title = o->title;
  page.names = names;
  page.state = state[0] != '\0' ? state : NULL;
  page.progress = show_progress;
  page.progress_user = &progress;
  const clattn_status status =
      clattn_view_html(attention, n, &page, o->html, NULL);
  cli_progress_clear(&progress);
  return view_ok(status) && tell(o->html, runs, n, names, -1);
}

/* ---- the terminal ------------------------------------------------------------------ */

static int terminal_columns(const view_options *o) {
  struct winsize size;
  if (o->width > 0) return (int)o->width;
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
    return size.ws_col;
  return 80;
}

/* A clattn_view_kind to the standard output. */
static bool put(const view_options *o, const clattn_attention *attention,
                size_t part, clattn_view_kind kind) {
  clattn_view_options view;
  clattn_view_terminal terminal;
  clattn_attention_part info;
  if (!view_get_part(attention, part, &info)) return false;
  set_view(o, part, &view);
  view.kind = kind;
  clattn_view_terminal_init(&terminal);
  terminal.columns = terminal_columns(o);
  if (cli_colors(o->color)) {
    /* Half blocks show most; a line a row is easier to read, where it fits. */
    const bool cross = info.kind == CLATTN_ATTENTION_CROSS;
    int64_t keys = cross ? info.keys.n : info.keys.n - o->first;
    if (!cross && o->words > 0 && o->words < keys) keys = o->words;
    const bool fits = keys <= (terminal.columns - LABEL_COLUMNS) / 2;
    terminal.style = kind == CLATTN_VIEW_HEAD && fits ? CLATTN_KIT_COLORS
                                                      : CLATTN_KIT_HALVES;
  }
  if (!view_ok(clattn_view_text(attention, &view, &terminal, stdout)))
    return false;
  if (kind == CLATTN_VIEW_HEAD && !view.by_row)
    printf("(--by-row: each row by its own largest weight)\n");
  return true;
}

/* What is there, what stands out, and a head: a screen that explains itself. */
static bool put_all(const view_options *o, const view_run *run, size_t part) {
  char about[512];
  view_describe(run->attention, (int64_t)part, about, sizeof about);
  printf("%s: %s\n\n", run->name[0] ? run->name : run->where, about);
  view_options shown;
  if (!choose_head(o, run->attention, part, true, &shown)) return false;
  shown.by_row = true; /* the first rows have few keys, and large weights */
  printf("\nOne head: each row is a token, and shows what it attends to.\n\n");
  if (!put(&shown, run->attention, part, CLATTN_VIEW_HEAD)) return false;
  printf(
      "\n--layer=N --head=N  another head\n"
      "--kind=grid         all heads, small\n"
      "--kind=table        all heads, numbers\n"
      "--html=FILE         all, in a browser\n");
  return true;
}

/* Two runs: what differs most. */
static bool put_both(const view_options *o, const view_run *runs, size_t part) {
  const char *names[2];
  name_runs(runs, 2, names);
  for (int i = 0; i < 2; i++) {
    char about[512];
    view_describe(runs[i].attention, -1, about, sizeof about);
    printf("%s %s: %s\n", i == 0 ? "a" : "b", names[i], about);
  }
  return view_differences(runs, o->part != NULL ? (int64_t)part : -1);
}

int view_show(const view_options *asked, const view_run *runs, size_t n_runs) {
  const clattn_attention *attention = runs[0].attention;
  clattn_attention_part info;
  const int64_t part = view_find_part(asked, attention);
  if (part < 0) return CLI_USAGE;
  if (!view_get_part(attention, (size_t)part, &info)) return CLI_FAILED;
  view_options named = *asked;
  const view_options *o = &named;
  int status = check_numbers(o, &info);
  if (status == CLI_OK) status = find_row(&info, &named);
  if (status != CLI_OK) return status;
  const char *names[2];
  name_runs(runs, n_runs, names);
  for (size_t i = 0; i < n_runs; i++) /* those of --weights were looked at */
    if (!view_notes(names[i], runs[i].attention, i > 0 || o->weights == NULL))
      return CLI_FAILED;
  const bool files = o->html || o->png || o->svg || o->export;
  bool done = o->export == NULL || tell(o->export, runs, 1, NULL, -1);
  done = done && write_page(o, runs, n_runs, (size_t)part) &&
         draw(o, &runs[0], (size_t)part, o->png) &&
         draw(o, &runs[0], (size_t)part, o->svg);
  if (done && !files && n_runs == 2)
    done = put_both(o, runs, (size_t)part);
  else if (done && !files && o->kind >= 0)
    done = put(o, attention, (size_t)part, (clattn_view_kind)o->kind);
  else if (done && !files)
    done = put_all(o, &runs[0], (size_t)part);
  return done ? CLI_OK : CLI_FAILED;
}
