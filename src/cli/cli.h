/* cli.h - what the commands of the program share. */
#ifndef CLATTN_SRC_CLI_H
#define CLATTN_SRC_CLI_H

#include <getopt.h>

#include "clattn.h"
#include "clattn_kit.h"

/* Exit status of the program. */
enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

typedef struct cli_command {
  const char *name, *summary, *help;
  int (*run)(int argc, char **argv); /* argv[0] is the command's name */
} cli_command;

extern const cli_command cli_devices, cli_run, cli_verify, cli_attend,
    cli_bench, cli_tune, cli_train, cli_generate, cli_translate, cli_tokenize,
    cli_bpe, cli_embed, cli_view;

/* ---- messages (common.c) ------------------------------------------------- */

#ifdef __GNUC__
#  define CLI_PRINTF(at, first) __attribute__((format(printf, at, first)))
#else
#  define CLI_PRINTF(at, first)
#endif

/* "clattn: ..." on stderr. */
void cli_error(const char *format, ...) CLI_PRINTF(1, 2);
/* The same with a pointer to --help; returns CLI_USAGE. */
int cli_usage(const cli_command *command, const char *format, ...)
    CLI_PRINTF(2, 3);
/* Replaces what a terminal would obey: texts come from files anybody made. */
void cli_clean(char *text);

/* ---- options (common.c) -------------------------------------------------- */

/* getopt_long without abbreviated names, which would begin a long run by a slip,
 * with messages and --help of this program's form. Returns the option's `val`, -1 at the end, or '?' with *status set when the command is to
 * return that at once. */
int cli_option(const cli_command *command, int argc, char **argv,
               const struct option *options, int *status);
/* A whole number within min..max; false, with a message, otherwise. */
bool cli_number(const cli_command *command, const char *option,
                const char *text, int64_t min, int64_t max, int64_t *number);
/* The same for a decimal number. */
bool cli_decimal(const cli_command *command, const char *option,
                 const char *text, double min, double max, double *number);
/* One of `words` (NULL at the end); its index, or -1 with a message. */
int cli_choice(const cli_command *command, const char *option, const char *text,
               const char *const *words);
/* --dtype: "f32", "f16", "bf16". */
bool cli_dtype(const cli_command *command, const char *text,
               clattn_dtype *dtype);
/* --color: "auto", "always", "never"; for cli_colors. */
bool cli_color(const cli_command *command, const char *text, int *color);
/* "auto", "fused", "unfused", "blocked". */
bool cli_path(const cli_command *command, const char *text, clattn_path *path);
const char *cli_path_name(clattn_path path);

#define CLI_OPTION_HELP                                                        \
  { "help", no_argument, NULL, 'h' }
#define CLI_OPTION_DEVICE                                                      \
  { "device", required_argument, NULL, 'd' }
#define CLI_OPTION_PATH                                                        \
  { "path", required_argument, NULL, 'p' }

/* ---- devices (common.c) -------------------------------------------------- */

/* The device that --device (NULL: not given) means; false, with a message that
 * names the option, if there is none. */
bool cli_find_device(const clattn_context *context, const char *selector,
                     int *device);
/* A context and its device by the same rule; for "cpu" alone OpenCL is not
 * looked for. Prints what failed. */
bool cli_context(const char *selector, clattn_context **context, int *device);
/* A short name: "cpu" for the native device, else number and name. */
void cli_device_label(const clattn_context *context, int device, char *label,
                      size_t room);

/* ---- tensors (common.c) -------------------------------------------------- */

enum { CLI_SHAPE_CHARS = 24 * CLATTN_KIT_MAX_RANK + 3 };
/* "[2,3,4]"; returns `text`. */
const char *cli_shape(const clattn_kit_tensor *tensor,
                      char text[CLI_SHAPE_CHARS]);

/* ---- pictures (common.c) ------------------------------------------------- */

/* Whether to use 24-bit colours: choice 1 yes, 2 no, 0 on a terminal that has
 * them, unless NO_COLOR is set. */
bool cli_colors(int choice);
/* Begins a picture's heading: "layer 1 of 2, mean of 4 heads"; head -1: the mean. */
void cli_put_head(int64_t layer, int64_t layers, int64_t head, int64_t heads);

/* ---- files (file.c) ------------------------------------------------------ */

/* All of a file ("-": standard input), to free(); NULL with a message. */
char *cli_read_file(const char *path, size_t *size_bytes);
/* The folder that a file is or would be in, to free(); NULL without memory. */
char *cli_folder_of(const char *path);
/* Whether a file (NULL: none) can be written, to be found before long work and
 * not after it; false with a message. replaced: by a file beside it, which takes
 * more than leave to write the file itself, and never replaces a device or link. */
bool cli_writable(const char *path, bool replaced);
/* Whether two paths are one file, or would be one; NULL is none. */
bool cli_same_file(const char *a, const char *b);
/* Whether what an option names (NULL: nothing) is none of what is read (NULL:
 * nothing; a folder: nor a file in it); false with a message. */
bool cli_not_read(const char *option, const char *path, const char *input);
/* Before work begins: whether what an option names (NULL: nothing) can be written
 * and is none of the inputs, which NULL ends; false with a message. */
bool cli_output_file(const char *option, const char *path,
                     const char *const *inputs);

/* ---- progress (progress.c) ----------------------------------------------- */

typedef struct cli_progress {
  const char *what;
  double start, shown;
  bool enabled, visible;
} cli_progress;

/* Shows on stderr, if that is a terminal, what takes more than a second. */
void cli_progress_begin(cli_progress *progress, const char *what);
void cli_progress_step(cli_progress *progress, int64_t done, int64_t total);
/* Takes the line away, before other output and at the end. */
void cli_progress_clear(cli_progress *progress);
/* Seconds of a clock that only goes forward. */
double cli_seconds(void);
/* "40 s", "12 min", "2.5 h". */
void cli_duration(double seconds, char *text, size_t room);

#endif
