/* view.h - the parts of clattn view: what was asked for, the recordings that are
 * looked at, where they come from, and how they are shown. */
#ifndef CLATTN_SRC_CLI_VIEW_H
#define CLATTN_SRC_CLI_VIEW_H

#include "clattn_attention.h"
#include "clattn_view.h"
#include "cli.h"

typedef struct view_options {
  /* Texts, files and folders: NULL where not given. */
  const char *file, *text, *pair_file, *pair_text;
  const char *model, *device;
  clattn_path path;
  int64_t max_tokens;     /* the text is cut to these; 0: not */
  int64_t top, map_block; /* of the recording; 0: not asked for */
  bool f32;
  const char *weights, *tensor, *tokens, *key_tokens;
  bool causal;
  const char *compare, *compare_model, *compare_device;
  const char *html, *png, *svg, *export;
  int kind;         /* a clattn_view_kind; -1: not said */
  const char *part; /* its number or name */
  int64_t layer;    /* -1: the last */
  int64_t head;     /* -1: the mean of all */
  bool head_given;
  int64_t row; /* -1: the last; what row_name means, once it is known */
  const char *row_name; /* a number or a token */
  const char *title;
  int64_t first, words; /* words 0: as many as fit */
  bool by_row, dark, root, linear;
  int color;     /* 0 auto, 1 always, 2 never */
  int64_t width; /* 0: the terminal's */
  bool complete; /* nothing was wrong, and help was not what was wanted */
} view_options;

/* One recording, open. */
typedef struct view_run {
  clattn_attention *attention;
  char name[160];  /* for people: the model */
  char where[160]; /* the device it ran on, or the file it came from */
} view_run;

/* ---- options (view_options.c) --------------------------------------------------- */

extern const char view_help[];
/* Reads the command line. Unless *o is complete then, what is returned is the
 * program's exit status. */
int view_options_read(int argc, char **argv, view_options *o);
/* The first option given that is about a model and its text, or NULL. */
const char *view_option_of_model(const view_options *o);

/* ---- the command (view.c) -------------------------------------------------------- */

/* A usage error of this command. */
int view_usage(const char *format, ...) CLI_PRINTF(1, 2);
/* Prints the library's message unless the status is OK. */
bool view_ok(clattn_status status);
/* A part of a recording; prints the library's message if it is not there. */
bool view_get_part(const clattn_attention *attention, size_t part,
                   clattn_attention_part *info);
/* Whether layer and head are there; CLI_OK or CLI_USAGE. */
int view_check_numbers(const view_options *o, int64_t layers, int64_t heads);

/* ---- the text (view_text.c) -------------------------------------------------- */

typedef struct view_text {
  char *bytes, *pair; /* pair NULL: none */
  size_t n, n_pair;
  const char *name, *pair_name; /* what messages call them */
} view_text;

/* The bytes of a file, or of an option, or a sentence for a model of that kind.
 * Prints what failed; _free is due either way. */
bool view_text_read(const view_options *o, bool translator, view_text *text);
/* That of a recording, to be read by another model. */
bool view_text_of(const clattn_attention *attention, const char *name,
                  view_text *text);
void view_text_free(view_text *text);

/* ---- recording a model (view_record.c) ----------------------------------------- */

/* Whether a file is one of `clattn translate`. */
bool view_is_translator(const char *model);
/* Runs a model over a text and writes what it attends to; f32: whatever the
 * options say. device: as --device has it. Sets the run's name. CLI_OK, or
 * another status after a message. */
int view_record(const view_options *o, const char *model, const char *device,
                bool f32, const view_text *text, const char *path,
                view_run *run);

/* ---- raw weights (view_weights.c) ----------------------------------------------- */

/* Writes the tensors of --weights with the tokens of --tokens as a recording. */
bool view_record_weights(const view_options *o, bool f32, const char *path,
                         view_run *run);
/* Whether a file is of NumPy or PyTorch; then after a message that says how one is
 * made that can be read. */
bool view_foreign_array(const char *path);
/* The tokens of a file: a JSON array of strings, or a line each. To be freed by
 * view_list_free; false after a message. */
typedef struct view_list {
  char *bytes;
  const char **texts; /* [n] */
  int64_t n;
} view_list;
bool view_list_read(const char *path, view_list *list);
/* "0", "1", ...: where there are no tokens. */
bool view_list_numbers(int64_t n, view_list *list);
void view_list_free(view_list *list);

/* ---- the model that ships (view_shipped.c) --------------------------------------- */

/* The path of data/NAME beside this program, to free(); NULL after a message that
 * says where it was looked for. */
char *view_shipped_model(void);

/* ---- temporary files (view_temporary.c) ------------------------------------------- */

/* From here to _end the signals that end a program remove the temporary folder, and
 * what is beside outputs [n] (NULL: none) and not whole yet. outputs stay the
 * caller's, and must stay. Before any other thread begins. */
void view_guard_begin(const char *const *outputs, size_t n);
void view_guard_end(void);
/* A folder for this run of the program in $TMPDIR. Prints what failed. */
bool view_temporary_begin(void);
/* A path in it, to free(); NULL after a message. */
char *view_temporary_path(const char *name);
void view_temporary_end(void);

/* ---- what is told beforehand (view_checks.c) ---------------------------------------- */

/* Says in a line each if numbers are no weights or rows do not sum to 1 (unless
 * sums is false: somebody said so), and if query and key do not give the weights;
 * false after a message that something failed. */
bool view_notes(const char *name, const clattn_attention *attention, bool sums);
/* Says if the page of these runs will be large; false after a message. */
bool view_note_page(const view_run *runs, size_t n_runs);

/* ---- showing (view_show.c, view_overview.c, view_difference.c) -------------------------------------- */

/* To the files that were asked for, or else to the terminal. CLI_OK, CLI_FAILED
 * or CLI_USAGE. n_runs 1 or 2. */
int view_show(const view_options *o, const view_run *runs, size_t n_runs);
/* The part that --part means, or what is shown without it; -1 after a message. */
int64_t view_find_part(const view_options *o,
                       const clattn_attention *attention);
/* "layers x heads, tokens" of all parts, or of one (part >= 0). */
void view_describe(const clattn_attention *attention, int64_t part, char *text,
                   size_t room);
/* Finds which heads stand out, and prints it if asked to. layer < 0: sets both to
 * a head that is worth a look, if there is one. */
bool view_overview(const clattn_attention *attention, size_t part, bool print,
                   int64_t *layer, int64_t *head);
/* A table of the largest differences of each layer, of all parts or of one. */
bool view_differences(const view_run runs[2], int64_t part);

#endif
