/* clattn_view.h - attention to look at: in a terminal, as pictures, in a browser.
 *
 *   text      Unicode blocks: a head, a grid of heads, a table of all heads
 *   picture   PNG or SVG: a head, a grid of heads, a token over all heads
 *   html      one file that a browser opens from disk, with everything
 *
 * A third library, libclattn_view, on libclattn_kit; pictures are drawn with cairo
 * and Pango. The conventions of clattn.h and clattn_kit.h hold. Nothing here runs a
 * model: what is shown was recorded (clattn_attention.h).
 *
 *   Threads   any, any time. */
#ifndef CLATTN_VIEW_H
#define CLATTN_VIEW_H

#include "clattn_attention.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Where to look. */
typedef enum clattn_view_kind {
  CLATTN_VIEW_HEAD = 0,  /* rows and keys of one head, with labels */
  CLATTN_VIEW_GRID = 1,  /* layers x heads, each a small map, on one scale */
  CLATTN_VIEW_TOKEN = 2, /* layers x heads, each one row's weights as bars */
  CLATTN_VIEW_TABLE = 3  /* text alone: layers x heads as numbers: entropy,
                          * distance, weight on the previous and first token */
} clattn_view_kind;

/* How colours follow weights. */
typedef enum clattn_view_scale {
  CLATTN_VIEW_SCALE_AUTO = 0, /* ROOT for a GRID that shows more than 64 tokens,
                               * whose weights are small; else LINEAR */
  CLATTN_VIEW_LINEAR = 1,
  CLATTN_VIEW_ROOT = 2 /* by the square root: small ones are seen */
} clattn_view_scale;

typedef struct clattn_view_options {
  size_t struct_size; /* set by clattn_view_options_init */
  clattn_view_kind kind;
  size_t part;         /* default 0 */
  int64_t layer, head; /* layer < 0: the last (default); head < 0: the mean of
                          * all (default) */
  int64_t row;         /* of TOKEN; < 0: the last (default) */
  /* HEAD, GRID: rows and keys first .. first+tokens-1; of CROSS the rows, and all
   * keys. tokens 0 (default): all of a picture and of GRID, else as many as fit.
   * Beyond what can be drawn, cells are blocks of tokens: the mean over their
   * rows, the sum over their keys; where that were more than some seconds of work,
   * over a sample of the rows, which what is shown says. */
  int64_t first, tokens;
  bool by_row; /* HEAD: each row by its own largest value, and not all by the
                * largest; default false */
  const char *title; /* NULL: says what is shown, which else stands below */
  clattn_view_scale scale; /* HEAD, GRID; default AUTO. What is shown says
                            * ROOT; colour bars have the weights' numbers */
} clattn_view_options;

CLATTN_API void clattn_view_options_init(clattn_view_options *options);

/* A token as people can see it: spaces as '\u00b7' (U+00B7) but for one that only
 * says where a word begins, line ends as U+21B5, tabs as U+2192, other control
 * characters as U+FFFD, "" as U+2205. Writes at most `room` bytes, terminated, cut
 * at a character; returns `label`. */
CLATTN_API char *clattn_view_label(const char *token, char *label, size_t room);

/* ---- Terminal --------------------------------------------------------------------- */

typedef struct clattn_view_terminal {
  size_t struct_size;             /* set by clattn_view_terminal_init */
  clattn_kit_heatmap_style style; /* default SHADES: no escapes */
  int columns;                    /* of the terminal, 1..65536; default 80 */
} clattn_view_terminal;

CLATTN_API void clattn_view_terminal_init(clattn_view_terminal *terminal);
/* options, terminal NULL: all defaults. IO_ERROR: the stream failed. */
CLATTN_API clattn_status clattn_view_text(const clattn_attention *attention,
                                          const clattn_view_options *options,
                                          const clattn_view_terminal *terminal,
                                          FILE *stream);

/* ---- Pictures ---------------------------------------------------------------------- */

typedef struct clattn_view_picture_options {
  size_t struct_size; /* set by clattn_view_picture_options_init */
  bool dark;          /* default false */
  double scale;       /* pixels of a PNG a unit; default 2 */
  const char *font;   /* a Pango family; NULL: "sans-serif" */
} clattn_view_picture_options;

CLATTN_API void clattn_view_picture_options_init(
    clattn_view_picture_options *options);
/* Writes a picture: SVG if path ends in .svg, PNG if in .png, whatever their
 * case; INVALID_ARGUMENT for others. Colours are those of viridis
 * (perceptually uniform, and told apart by the colour-blind). INVALID_ARGUMENT: kind
 * TABLE. UNSUPPORTED: built without cairo and Pango. A reader sees the old file or
 * the new one. */
CLATTN_API clattn_status clattn_view_picture(
    const clattn_attention *attention, const clattn_view_options *options,
    const clattn_view_picture_options *picture, const char *path);
/* Whether this library was built with cairo and Pango. */
CLATTN_API bool clattn_view_has_pictures(void);

/* ---- Browser ---------------------------------------------------------------------- */

typedef struct clattn_view_html_options {
  size_t struct_size; /* set by clattn_view_html_options_init */
  const char *title;  /* NULL: the first run's model */
  const char *state;  /* what the page begins with, in the form of its URL's
                      * hash, as "view=matrix&layer=3&head=1": keys below; NULL:
                      * its own choice */
  const char *const *names; /* [n_runs] for people; NULL: the models' */
  void (*progress)(void *user, int64_t done, int64_t total); /* may be NULL */
  void *progress_user;
} clattn_view_html_options;

/* The keys of `state`, and what is without them. What is unknown is passed over,
 * and numbers beyond what there is are the nearest there is.
 *
 *   view         heads, model, matrix or neurons (heads)
 *   run, part    0, 1 ...: what is shown (0)
 *   layer, head  0, 1 ... (0)
 *   heads        the heads that "heads" overlays, as 0,2,5 (head alone)
 *   aggregate    none, mean, max or rollout: in place of one head (none)
 *   stage        raw, scaled, masked or softmax (softmax)
 *   temperature  0.1 .. 10, of the softmax (1)
 *   hide, words  1: without added tokens; sub-words merged (0)
 *   pair         all, 00, 01, 10 or 11: rows' and keys' text of a pair (all)
 *   row, key     0, 1 ... among the tokens shown; locked=1: they stay
 *   search       a text that is looked for in tokens
 *   sort         index, entropy, distance, previous or first; reverse=1 (index)
 *   compare      one, side or difference, of two runs (one)
 *   lines        1 .. 64: heaviest keys of a row that have a line (8)
 *   zoom         pixels a cell of the matrix, to 64; 0: fits (0)
 *   colors       linear or root (linear)
 *   theme        auto, light or dark (auto) */
CLATTN_API void clattn_view_html_options_init(
    clattn_view_html_options *options);
/* Writes a page of one run, or of two to be compared (n_runs 1 or 2), that opens
 * from disk and asks the network for nothing. Where query and key give the weights
 * (clattn_attention_check) they alone are in it, and the page computes weights from
 * them: memory of the file is linear in the tokens. size_bytes (may be NULL): of the
 * page. A reader sees the old file or the new one. */
CLATTN_API clattn_status
clattn_view_html(const clattn_attention *const *runs, size_t n_runs,
                 const clattn_view_html_options *options, const char *path,
                 size_t *size_bytes);

#ifdef __cplusplus
}
#endif
#endif /* CLATTN_VIEW_H */
