/* tokenize.c - clattn tokenize: text to tokens, and back. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clattn_text.h"
#include "cli.h"

static const char help[] =
    "Usage: clattn tokenize --tokenizer=PATH [OPTION]... FILE\n"
    "Print the ids of a text (- is standard input), with spaces between. The\n"
    "file may be larger than memory.\n"
    "\n"
    "  -t, --tokenizer=PATH  tokenizer.json, vocab.json (merges.txt beside "
    "it),\n"
    "                        vocab.txt, *.tiktoken, *.gguf, a model of "
    "`clattn\n"
    "                        train`, or a folder with one of them\n"
    "  -o, --out=FILE        the ids as safetensors: tensor ids, I32\n"
    "      --tokens          a line a token: its id, the bytes begin-end of "
    "the\n"
    "                        text it stands for, and itself\n"
    "      --decode          the reverse: FILE has ids, in text or as --out\n"
    "                        writes them; the text is printed\n"
    "      --allow-special   special tokens written out in the text are those\n"
    "      --bare            without what the model wants around a text, as "
    "in\n"
    "                        [CLS] a [SEP]; with --decode, no special tokens\n"
    "      --pair=FILE       a second text: [CLS] a [SEP] b [SEP]\n"
    "      --max-length=N    cut to so many tokens\n"
    "      --invalid=HOW     what is not UTF-8: error (default), replace by\n"
    "                        U+FFFD, or bytes as they are (byte-level BPE)\n"
    "  -h, --help            show this\n"
    "\n"
    "With --tokens, --pair and --max-length the text is read as a whole.\n";

static int tokenize(int argc, char **argv);

const cli_command cli_tokenize = {"tokenize", "text to tokens, and back", help,
                                  tokenize};

/* ---- options ------------------------------------------------------------- */

typedef struct tokenize_options {
  const char *file, *tokenizer, *out, *pair;
  bool tokens, decode;
  clattn_encode_options encode;
} tokenize_options;

enum { TOKENS = 256, DECODE, ALLOW_SPECIAL, BARE, PAIR, MAX_LENGTH, INVALID };

static const struct option options[] = {
    CLI_OPTION_HELP,
    {"tokenizer", required_argument, NULL, 't'},
    {"out", required_argument, NULL, 'o'},
    {"tokens", no_argument, NULL, TOKENS},
    {"decode", no_argument, NULL, DECODE},
    {"allow-special", no_argument, NULL, ALLOW_SPECIAL},
    {"bare", no_argument, NULL, BARE},
    {"pair", required_argument, NULL, PAIR},
    {"max-length", required_argument, NULL, MAX_LENGTH},
    {"invalid", required_argument, NULL, INVALID},
    {NULL, 0, NULL, 0}};

static bool set_option(tokenize_options *o, int option, const char *text) {
  static const char *const ways[] = {"error", "replace", "bytes", NULL};
  int way;
  switch (option) {
    case 't':
      o->tokenizer = text;
      return true;
    case 'o':
      o->out = text;
      return true;
    case TOKENS:
      return o->tokens = true;
    case DECODE:
      return o->decode = true;
    case ALLOW_SPECIAL:
      return o->encode.allow_special = true;
    case BARE:
      o->encode.add_special = false;
      return true;
    case PAIR:
      o->pair = text;
      return true;
    case MAX_LENGTH:
      return cli_number(&cli_tokenize, "--max-length", text, 1, INT64_MAX,
                        &o->encode.max_length);
    case INVALID:
      way = cli_choice(&cli_tokenize, "--invalid", text, ways);
      if (way >= 0) o->encode.invalid = (clattn_invalid)way;
      return way >= 0;
    default:
      return false;
  }
}

static bool failed(const char *path, clattn_status status) {
  if (status == CLATTN_OK) return false;
  const char *message = clattn_error_message();
  static const char cut[] = "options->max_length";
  if (strncmp(message, path, strlen(path)) == 0)
    cli_error("%s", message); /* it names the path itself */
  else if (strncmp(message, cut, sizeof cut - 1) == 0)
    cli_error("--max-length%s", message + sizeof cut - 1);
  else
    cli_error("%s: %s", path, message);
  return true;
}

/* ---- part by part -------------------------------------------------------- */

static clattn_status print_ids(void *user, const int32_t *ids, int64_t n) {
  bool *begun = user;
  for (int64_t i = 0; i < n; i++, *begun = true)
    printf(*begun ? " %" PRId32 : "%" PRId32, ids[i]);
  return ferror(stdout) ? clattn_set_error(CLATTN_IO_ERROR, "standard output")
                        : CLATTN_OK;
}

static clattn_status push_all(clattn_token_stream *stream, FILE *text) {
  char part[1 << 16];
  for (size_t n; (n = fread(part, 1, sizeof part, text)) > 0;) {
    const clattn_status status = clattn_token_stream_push(stream, part, n);
    if (status != CLATTN_OK) return status;
  }
  return ferror(text) ? clattn_set_error(CLATTN_IO_ERROR, "%s", strerror(errno))
                      : clattn_token_stream_finish(stream);
}

static bool print_stream(const tokenize_options *o,
                         const clattn_tokenizer *tokenizer) {
  const bool standard = strcmp(o->file, "-") == 0;
  FILE *text = standard ? stdin : fopen(o->file, "rb");
  if (text == NULL) {
    cli_error("%s: %s", o->file, strerror(errno));
    return false;
  }
  bool begun = false;
  clattn_token_stream *stream = NULL;
  clattn_status status = clattn_token_stream_create(tokenizer, &o->encode,
                                                    print_ids, &begun, &stream);
  if (status == CLATTN_OK) status = push_all(stream, text);
  clattn_token_stream_destroy(stream);
  if (!standard) fclose(text);
  putchar('\n');
  return !failed(o->file, status);
}

static bool write_file(const tokenize_options *o,
                       const clattn_tokenizer *tokenizer) {
  const char *text = strcmp(o->file, "-") == 0 ? "/dev/stdin" : o->file;
  int64_t n;
  if (clattn_tokenizer_encode_file(tokenizer, text, &o->encode, o->out, &n) !=
      CLATTN_OK) {
    cli_error("%s", clattn_error_message()); /* which of the files it was */
    return false;
  }
  printf("wrote %s: %lld tokens\n", o->out, (long long)n);
  return true;
}

/* ---- as a whole ---------------------------------------------------------- */

/* A token in one line: what would break it is escaped. */
static void print_token(const char *token, size_t bytes) {
  for (size_t i = 0; i < bytes; i++) {
    const unsigned char c = (unsigned char)token[i];
    if (c == '\n')
      fputs("\\n", stdout);
    else if (c == '\t')
      fputs("\\t", stdout);
    else if (c == '\\')
      fputs("\\\\", stdout);
    else if (c < ' ' || c == 0x7f)
      printf("\\x%02x", c);
    else
      putchar(c);
  }
}

static void print_encoding(const clattn_tokenizer *tokenizer,
                           const clattn_encoding *encoding, bool tokens) {
  for (int64_t i = 0; i < encoding->n && !tokens; i++)
    printf(i > 0 ? " %" PRId32 : "%" PRId32, encoding->ids[i]);
  if (!tokens) putchar('\n');
  for (int64_t i = 0; i < encoding->n && tokens; i++) {
    size_t bytes;
    const char *token =
        clattn_tokenizer_token(tokenizer, encoding->ids[i], &bytes);
    printf("%" PRId32 "\t", encoding->ids[i]);
    if (encoding->added[i])
      printf("-\t");
    else
      printf("%s%lld-%lld\t", encoding->segments[i] ? "pair:" : "",
             (long long)encoding->begins[i], (long long)encoding->ends[i]);
    print_token(token, bytes);
    putchar('\n');
  }
}

static bool print_whole(tokenize_options *o,
                        const clattn_tokenizer *tokenizer) {
  size_t size_bytes, pair_bytes = 0;
  char *text = cli_read_file(o->file, &size_bytes), *pair = NULL;
  bool done = text != NULL;
  if (done && o->pair != NULL)
    done = (pair = cli_read_file(o->pair, &pair_bytes)) != NULL;
  o->encode.pair = pair;
  o->encode.pair_bytes = pair_bytes;
  clattn_encoding encoding = {0};
  done = done &&
         !failed(o->file, clattn_tokenizer_encode(tokenizer, text, size_bytes,
                                                  &o->encode, &encoding));
  if (done) print_encoding(tokenizer, &encoding, o->tokens);
  clattn_encoding_free(&encoding);
  free(text);
  free(pair);
  return done;
}

/* ---- back ---------------------------------------------------------------- */

/* Ids in text, [n]; NULL after a message. */
static int32_t *parse_ids(const char *path, int64_t *n) {
  size_t size_bytes;
  char *text = cli_read_file(path, &size_bytes);
  char *whole = text ? realloc(text, size_bytes + 1) : NULL;
  if (whole == NULL) {
    free(text);
    return NULL;
  }
  whole[size_bytes] = '\0';
  int32_t *ids = malloc((size_bytes / 2 + 1) * sizeof *ids);
  if (ids == NULL) cli_error("%s: no memory for the ids", path);
  *n = 0;
  for (char *at = whole; ids != NULL;) {
    at += strspn(at, " \t\r\n,");
    if (at == whole + size_bytes) break;
    char *end;
    errno = 0;
    const long long id = strtoll(at, &end, 10);
    if (end == at || errno != 0 || id < 0 || id > INT32_MAX) {
      const size_t wrong = strcspn(at, " \t\r\n,");
      cli_error("%s: got '%.*s' at byte %zu, want an id", path,
                wrong < 20 ? (int)wrong : 20, at, (size_t)(at - whole));
      free(ids);
      ids = NULL;
    } else {
      ids[(*n)++] = (int32_t)id;
      at = end;
    }
  }
  free(whole);
  return ids;
}

/* The tensor ids of a file, [n]; NULL after a message. */
static int32_t *load_ids(const char *path, int64_t *n) {
  clattn_kit_safetensors *file = NULL;
  clattn_kit_tensor tensor;
  int32_t *ids = NULL;
  if (!failed(path, clattn_kit_safetensors_open(path, &file)) &&
      !failed(path, clattn_kit_safetensors_find(file, "ids", &tensor))) {
    *n = clattn_kit_tensor_elements(&tensor);
    if (tensor.dtype != CLATTN_KIT_I32)
      cli_error("%s: ids: got %s, want I32", path, tensor.dtype_name);
    else if ((ids = malloc(tensor.size_bytes + 1)) == NULL)
      cli_error("%s: no memory for the ids", path);
    else
      memcpy(ids, tensor.data, tensor.size_bytes);
  }
  clattn_kit_safetensors_destroy(file);
  return ids;
}

static bool print_text(const tokenize_options *o,
                       const clattn_tokenizer *tokenizer) {
  static const char ending[] = ".safetensors";
  const size_t n_path = strlen(o->file), n_ending = sizeof ending - 1;
  const bool binary =
      n_path > n_ending && strcmp(o->file + n_path - n_ending, ending) == 0;
  int64_t n = 0;
  int32_t *ids = binary ? load_ids(o->file, &n) : parse_ids(o->file, &n);
  char *text = NULL;
  size_t bytes;
  const bool done =
      ids != NULL &&
      !failed(o->file,
              clattn_tokenizer_decode(tokenizer, ids, n, !o->encode.add_special,
                                      &text, &bytes));
  if (done) fwrite(text, 1, bytes, stdout);
  free(text);
  free(ids);
  return done;
}

/* ---- the command --------------------------------------------------------- */

static int tokenize(int argc, char **argv) {
  tokenize_options o = {0};
  clattn_encode_options_init(&o.encode);
  int status = CLI_OK;
  for (int option; (option = cli_option(&cli_tokenize, argc, argv, options,
                                        &status)) != -1;) {
    if (option == '?') return status;
    if (!set_option(&o, option, optarg)) return CLI_USAGE;
  }
  if (o.tokenizer == NULL)
    return cli_usage(&cli_tokenize, "tokenize: want --tokenizer");
  if (optind != argc - 1)
    return cli_usage(&cli_tokenize, "tokenize: got %d files, want one",
                     argc - optind);
  const bool whole = o.tokens || o.pair || o.encode.max_length;
  if (o.out != NULL && (whole || o.decode))
    return cli_usage(&cli_tokenize, "--out: not with --%s",
                     o.decode   ? "decode"
                     : o.tokens ? "tokens"
                     : o.pair   ? "pair"
                                : "max-length");
  if (o.decode && whole)
    return cli_usage(&cli_tokenize, "--decode: takes no option of encoding");
  o.file = argv[optind];
  if (o.pair != NULL && strcmp(o.pair, "-") == 0 && strcmp(o.file, "-") == 0)
    return cli_usage(&cli_tokenize,
                     "--pair: got -, which is the first text already");
  if (!cli_output_file("--out", o.out,
                       (const char *[]){o.file, o.tokenizer, NULL}))
    return CLI_FAILED;
  clattn_tokenizer *tokenizer;
  if (clattn_tokenizer_load(o.tokenizer, NULL, &tokenizer) != CLATTN_OK) {
    cli_error("--tokenizer: %s", clattn_error_message());
    return CLI_FAILED;
  }
  const bool done = o.decode ? print_text(&o, tokenizer)
                    : o.out  ? write_file(&o, tokenizer)
                    : whole  ? print_whole(&o, tokenizer)
                             : print_stream(&o, tokenizer);
  clattn_tokenizer_destroy(tokenizer);
  return done ? CLI_OK : CLI_FAILED;
}
