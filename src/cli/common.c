/* common.c - messages, options and devices, the same for every command. */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

/* ---- messages ------------------------------------------------------------ */

void cli_clean(char *text) {
  for (unsigned char *c = (unsigned char *)text; *c != '\0'; c++) {
    /* U+0080 to U+009F, which some terminals obey, take two bytes. */
    const bool wide = c[0] == 0xc2 && c[1] >= 0x80 && c[1] <= 0x9f;
    if (wide) c[1] = ' ';
    if (wide || *c < ' ' || *c == 0x7f) *c = ' ';
  }
}

static void print_error(const char *format, va_list arguments) {
  char text[4096];
  vsnprintf(text, sizeof text, format, arguments);
  for (char *line = text; line != NULL;) { /* build logs have several lines */
    char *end = strchr(line, '\n');
    if (end != NULL) *end++ = '\0';
    cli_clean(line);
    fprintf(stderr, "%s%s\n", line == text ? "clattn: " : "  ", line);
    line = end;
  }
}

void cli_error(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  print_error(format, arguments);
  va_end(arguments);
}

int cli_usage(const cli_command *command, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  print_error(format, arguments);
  va_end(arguments);
  fprintf(stderr, "Try `clattn %s%s--help`.\n", command ? command->name : "",
          command ? " " : "");
  return CLI_USAGE;
}

/* ---- options ------------------------------------------------------------- */

/* getopt's short forms of the options: ":hd:" for h and d=VALUE. */
static void short_forms(const struct option *options, char *text) {
  *text++ = ':';
  for (; options->name != NULL; options++) {
    if (options->val > 127) continue; /* has no short form */
    *text++ = (char)options->val;
    if (options->has_arg == required_argument) *text++ = ':';
  }
  *text = '\0';
}

/* Whether a word of the command line is that option's, in full. */
static bool names(const char *word, const struct option *option) {
  const size_t n = strcspn(word, "=");
  return n == strlen(option->name) + 2 && strncmp(word, "--", 2) == 0 &&
         strncmp(word + 2, option->name, n - 2) == 0;
}

/* A word that is no option, with the one that it begins, if that is one only. */
static int no_option(const cli_command *command, const struct option *options,
                     const char *word) {
  const struct option *meant = NULL;
  const size_t n = strcspn(word, "=");
  int count = 0;
  for (; n > 2 && strncmp(word, "--", 2) == 0 && options->name; options++) {
    if (strncmp(options->name, word + 2, n - 2) != 0) continue;
    if (names(word, options))
      return cli_usage(command, "%s: %.*s takes no value", command->name,
                       (int)n, word);
    meant = options;
    count++;
  }
  if (count == 1)
    return cli_usage(command, "%s: no option %.*s; did you mean --%s?",
                     command->name, (int)n, word, meant->name);
  return cli_usage(command, "%s: no option %s", command->name, word);
}

int cli_option(const cli_command *command, int argc, char **argv,
               const struct option *options, int *status) {
  char letters[128];
  short_forms(options, letters);
  opterr = 0;
  optarg = NULL;
  int at = -1; /* stays so for short ones */
  const int option = getopt_long(argc, argv, letters, options, &at);
  const char *word = argv[optind - 1];
  if (at >= 0 && option > 0 && option != '?' && option != ':') {
    /* The value is behind "=", or the word after it. */
    if (optarg == word) word = argv[optind - 2];
    if (!names(word, &options[at])) {
      *status = no_option(command, options, word);
      return '?';
    }
  }
  switch (option) {
    case 'h':
      fputs(command->help, stdout);
      *status = CLI_OK;
      return '?';
    case ':':
      at = 0;
      while (options[at].name != NULL && !names(word, &options[at])) at++;
      *status =
          strncmp(word, "--", 2) == 0 && options[at].name == NULL
              ? no_option(command, options, word)
              : cli_usage(command, "%s: %s needs a value", command->name, word);
      return '?';
    case '?':
      /* Of several letters in a word the word before may be the last one. */
      if (optopt == 0 || strchr(letters, optopt) != NULL)
        *status = no_option(command, options, word);
      else if (optopt > ' ' && optopt <= '~')
        *status =
            cli_usage(command, "%s: no option -%c", command->name, optopt);
      else
        *status = cli_usage(command, "%s: no option is a letter beyond ASCII",
                            command->name);
      return '?';
    default:
      return option;
  }
}

bool cli_number(const cli_command *command, const char *option,
                const char *text, int64_t min, int64_t max, int64_t *number) {
  char *end;
  errno = 0;
  const long long value = strtoll(text, &end, 10);
  if (errno != 0 || end == text || *end != '\0' || value < min || value > max) {
    cli_usage(command, "%s: got '%s', want a whole number %lld..%lld", option,
              text, (long long)min, (long long)max);
    return false;
  }
  *number = value;
  return true;
}

int cli_choice(const cli_command *command, const char *option, const char *text,
               const char *const *words) {
  char known[128] = "";
  for (int i = 0; words[i] != NULL; i++) {
    if (strcmp(words[i], text) == 0) return i;
    const size_t used = strlen(known);
    snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "",
             words[i]);
  }
  cli_usage(command, "%s: got '%s', want one of %s", option, text, known);
  return -1;
}

bool cli_dtype(const cli_command *command, const char *text,
               clattn_dtype *dtype) {
  static const char *const names[] = {"f32", "f16", "bf16", NULL};
  static const clattn_dtype dtypes[] = {CLATTN_F32, CLATTN_F16, CLATTN_BF16};
  const int i = cli_choice(command, "--dtype", text, names);
  if (i >= 0) *dtype = dtypes[i];
  return i >= 0;
}

bool cli_color(const cli_command *command, const char *text, int *color) {
  static const char *const words[] = {"auto", "always", "never", NULL};
  return (*color = cli_choice(command, "--color", text, words)) >= 0;
}

static const char *const path_names[] = {"auto", "fused", "unfused", "blocked",
                                         NULL};

bool cli_path(const cli_command *command, const char *text, clattn_path *path) {
  const int i = cli_choice(command, "--path", text, path_names);
  if (i < 0) return false;
  *path = (clattn_path)i;
  return true;
}

const char *cli_path_name(clattn_path path) { return path_names[path]; }

bool cli_decimal(const cli_command *command, const char *option,
                 const char *text, double min, double max, double *number) {
  char *end;
  const double value = strtod(text, &end);
  if (end == text || *end != '\0' || !(value >= min && value <= max)) {
    cli_usage(command, "%s: got '%s', want a number %g..%g", option, text, min,
              max);
    return false;
  }
  *number = value;
  return true;
}

/* ---- devices ------------------------------------------------------------- */

bool cli_find_device(const clattn_context *context, const char *selector,
                     int *device) {
  static const char argument[] = "selector: "; /* the library's name for it */
  if (selector != NULL && strcmp(selector, "all") == 0) {
    cli_error(
        "--device: all is for `clattn verify` and `clattn tune` only; want one "
        "device");
    return false;
  }
  if (clattn_device_find(context, selector, device) == CLATTN_OK) return true;
  const char *message = clattn_error_message();
  if (strncmp(message, argument, sizeof argument - 1) == 0)
    message += sizeof argument - 1;
  cli_error("%s%s", selector ? "--device: " : "", message);
  return false;
}

bool cli_context(const char *selector, clattn_context **context, int *device) {
  clattn_context_config config;
  clattn_context_config_init(&config);
  if (selector != NULL && strcmp(selector, "cpu") == 0)
    config.backend = CLATTN_CPU;
  *context = NULL;
  if (clattn_context_create(&config, context) != CLATTN_OK)
    cli_error("%s", clattn_error_message());
  else if (cli_find_device(*context, selector, device))
    return true;
  clattn_context_destroy(*context);
  *context = NULL;
  return false;
}

void cli_device_label(const clattn_context *context, int device, char *label,
                      size_t room) {
  clattn_device_info info = {.struct_size = sizeof info};
  if (clattn_device_get_info(context, device, &info) != CLATTN_OK)
    snprintf(label, room, "device %d", device);
  else if (info.backend == CLATTN_CPU)
    snprintf(label, room, "cpu");
  else
    snprintf(label, room, "%d: %s", device, info.name);
  cli_clean(label);
}

/* ---- tensors ------------------------------------------------------------- */

const char *cli_shape(const clattn_kit_tensor *tensor,
                      char text[CLI_SHAPE_CHARS]) {
  size_t used = (size_t)snprintf(text, CLI_SHAPE_CHARS, "[");
  for (int i = 0; i < tensor->rank; i++)
    used += (size_t)snprintf(text + used, CLI_SHAPE_CHARS - used, "%s%lld",
                             i ? "," : "", (long long)tensor->extent[i]);
  snprintf(text + used, CLI_SHAPE_CHARS - used, "]");
  return text;
}

/* ---- colours ------------------------------------------------------------- */

bool cli_colors(int choice) {
  if (choice != 0) return choice == 1;
  const char *no = getenv("NO_COLOR"), *term = getenv("COLORTERM");
  if ((no != NULL && *no != '\0') || isatty(STDOUT_FILENO) != 1) return false;
  return term != NULL &&
         (strcmp(term, "truecolor") == 0 || strcmp(term, "24bit") == 0);
}

void cli_put_head(int64_t layer, int64_t layers, int64_t head, int64_t heads) {
  printf("\nlayer %lld (of 0-%lld), ", (long long)layer, (long long)layers - 1);
  if (head < 0)
    printf("mean of %lld heads", (long long)heads);
  else
    printf("head %lld (of 0-%lld)", (long long)head, (long long)heads - 1);
}
