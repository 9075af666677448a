/* bpe.c - clattn bpe: a vocabulary learnt from a text. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clattn_text.h"
#include "cli.h"

static const char help[] =
    "Usage: clattn bpe --vocab-size=N --out=FOLDER [OPTION]... TEXT\n"
    "Learn a vocabulary of byte-level byte pair encoding from a text (UTF-8; "
    "-\n"
    "is standard input), and write it as tokenizer.json, vocab.json and\n"
    "merges.txt.\n"
    "\n"
    "  -n, --vocab-size=N     tokens: 256 bytes, merges, special tokens\n"
    "  -o, --out=FOLDER       made if it is not there\n"
    "      --min-frequency=N  of a pair that is merged (2)\n"
    "      --pattern=REGEX    what splits the text (PCRE2); default: GPT-2's\n"
    "      --special=TOKEN    a special token, again for each\n"
    "                         (<|endoftext|>)\n"
    "  -h, --help             show this\n"
    "\n"
    "`clattn tokenize` and `clattn train` take the folder as --tokenizer.\n";

static int bpe(int argc, char **argv);

const cli_command cli_bpe = {"bpe", "learn a vocabulary from a text", help,
                             bpe};

typedef struct bpe_options {
  const char *text, *out;
  int64_t vocab_size;
  clattn_bpe_config config;
  const char **specials; /* [n_specials] */
} bpe_options;

enum { MIN_FREQUENCY = 256, PATTERN, SPECIAL };

static const struct option options[] = {
    CLI_OPTION_HELP,
    {"vocab-size", required_argument, NULL, 'n'},
    {"out", required_argument, NULL, 'o'},
    {"min-frequency", required_argument, NULL, MIN_FREQUENCY},
    {"pattern", required_argument, NULL, PATTERN},
    {"special", required_argument, NULL, SPECIAL},
    {NULL, 0, NULL, 0}};

static bool set_option(bpe_options *o, int option, const char *text) {
  switch (option) {
    case 'n':
      return cli_number(&cli_bpe, "--vocab-size", text, 257, 1 << 24,
                        &o->vocab_size);
    case 'o':
      o->out = text;
      return true;
    case MIN_FREQUENCY:
      return cli_number(&cli_bpe, "--min-frequency", text, 1, INT64_MAX,
                        &o->config.min_frequency);
    case PATTERN:
      o->config.pattern = text;
      return true;
    case SPECIAL:
      if (o->config.specials != o->specials) o->config.n_specials = 0;
      o->config.specials = o->specials;
      o->specials[o->config.n_specials++] = text;
      return true;
    default:
      return false;
  }
}

static void show_progress(void *user, int64_t done, int64_t total) {
  cli_progress_step(user, done, total);
}

static bool learn(bpe_options *o) {
  cli_progress progress;
  cli_progress_begin(&progress, "token");
  o->config.vocab_size = (int32_t)o->vocab_size;
  o->config.progress = show_progress;
  o->config.progress_user = &progress;
  const char *path = strcmp(o->text, "-") == 0 ? "/dev/stdin" : o->text;
  clattn_tokenizer *tokenizer = NULL;
  clattn_status status =
      clattn_tokenizer_train_bpe(&o->config, path, &tokenizer);
  if (status == CLATTN_OK) status = clattn_tokenizer_save(tokenizer, o->out);
  cli_progress_clear(&progress);
  const long n = clattn_tokenizer_size(tokenizer);
  clattn_tokenizer_destroy(tokenizer);
  if (status != CLATTN_OK) {
    cli_error("%s", clattn_error_message());
    return false;
  }
  printf("wrote %s: %ld tokens", o->out, n);
  if (n < o->vocab_size && o->config.min_frequency == 1)
    printf("; no pair is left");
  else if (n < o->vocab_size)
    printf("; no pair is left that is there %lld times",
           (long long)o->config.min_frequency);
  putchar('\n');
  return true;
}

/* The text is none of the files that are written into the folder. */
static bool text_stays(const bpe_options *o) {
  static const char *const names[] = {"tokenizer.json", "vocab.json",
                                      "merges.txt"};
  const size_t room = strlen(o->out) + 32;
  char *path = malloc(room);
  bool stays = path != NULL;
  if (!stays) cli_error("no memory for a path");
  for (size_t i = 0; stays && i < sizeof names / sizeof *names; i++) {
    snprintf(path, room, "%s/%s", o->out, names[i]);
    stays = cli_not_read("--out", path, o->text);
  }
  free(path);
  return stays;
}

static int bpe(int argc, char **argv) {
  bpe_options o = {.specials = calloc((size_t)argc, sizeof *o.specials)};
  if (o.specials == NULL) {
    cli_error("no memory for options");
    return CLI_FAILED;
  }
  clattn_bpe_config_init(&o.config);
  int status = CLI_OK;
  int option;
  while ((option = cli_option(&cli_bpe, argc, argv, options, &status)) != -1) {
    if (option != '?' && set_option(&o, option, optarg)) continue;
    free(o.specials);
    return option == '?' ? status : CLI_USAGE;
  }
  if (o.vocab_size == 0 || o.out == NULL)
    status = cli_usage(&cli_bpe, "bpe: want --vocab-size and --out");
  else if (optind != argc - 1)
    status = cli_usage(&cli_bpe, "bpe: got %d texts, want one", argc - optind);
  else
    o.text = argv[optind],
    status = text_stays(&o) && learn(&o) ? CLI_OK : CLI_FAILED;
  free(o.specials);
  return status;
}
