/* embed.c - clattn embed: sentences as vectors, and which of them are alike. */
#include "embed.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char help[] =
    "Usage: clattn embed --model=PATH [OPTION]... FILE\n"
    "Turn every line of a text into a vector with a pre-trained model, or "
    "find\n"
    "the lines that are most like a query. FILE - is standard input; blank "
    "lines\n"
    "are passed over.\n"
    "\n"
    "  -m, --model=PATH      a model's folder, or a .gguf file\n"
    "  -d, --device=NAME     cpu, gpu, opencl, a number or part of a name\n"
    "  -q, --query=TEXT      show the lines whose vectors have the largest "
    "cosine\n"
    "                        with that of TEXT\n"
    "  -k, --top=N           so many of them (5)\n"
    "  -j, --json            a JSON object a line; without --query and --out, "
    "so\n"
    "                        it is anyway\n"
    "  -o, --out=FILE        write the vectors to a safetensors file: "
    "embeddings\n"
    "                        [sentences, columns], lines [sentences]\n"
    "      --pooling=HOW     mean, first or last of the tokens' vectors; "
    "default\n"
    "                        as the model's folder says, else mean\n"
    "      --max-tokens=N    cut longer lines (as the model's folder says, at "
    "most\n"
    "                        its positions); a message tells how many were\n"
    "      --strict          such a line is an error instead\n"
    "      --batch=N         tokens computed at a time, about (4096)\n"
    "  -h, --help            show this\n"
    "\n"
    "Of a folder modules.json, 1_Pooling/config.json and\n"
    "sentence_bert_config.json are followed where they are there.\n";

static int embed(int argc, char **argv);

const cli_command cli_embed = {"embed", "sentences as vectors, and search",
                               help, embed};

/* ---- options ------------------------------------------------------------- */

typedef struct embed_options {
  const char *file, *model, *device, *query, *out;
  int64_t top, max_tokens, batch; /* max_tokens 0: not given */
  int pooling;                    /* -1: not given */
  bool json, strict, top_given;
} embed_options;

enum { POOLING = 256, MAX_TOKENS, STRICT, BATCH };

static const struct option options[] = {
    CLI_OPTION_HELP,
    CLI_OPTION_DEVICE,
    {"model", required_argument, NULL, 'm'},
    {"query", required_argument, NULL, 'q'},
    {"top", required_argument, NULL, 'k'},
    {"json", no_argument, NULL, 'j'},
    {"out", required_argument, NULL, 'o'},
    {"pooling", required_argument, NULL, POOLING},
    {"max-tokens", required_argument, NULL, MAX_TOKENS},
    {"strict", no_argument, NULL, STRICT},
    {"batch", required_argument, NULL, BATCH},
    {NULL, 0, NULL, 0}};

static bool set_option(embed_options *o, int option, const char *text) {
  static const char *const poolings[] = {"mean", "first", "last", NULL};
  const cli_command *command = &cli_embed;
  switch (option) {
    case 'd':
      o->device = text;
      return true;
    case 'm':
      o->model = text;
      return true;
    case 'q':
      o->query = text;
      return true;
    case 'o':
      o->out = text;
      return true;
    case 'j':
      return o->json = true;
    case STRICT:
      return o->strict = true;
    case 'k':
      o->top_given = true;
      return cli_number(command, "--top", text, 1, INT32_MAX, &o->top);
    case MAX_TOKENS:
      return cli_number(command, "--max-tokens", text, 1, INT32_MAX,
                        &o->max_tokens);
    case BATCH:
      return cli_number(command, "--batch", text, 1, 1 << 24, &o->batch);
    case POOLING:
      return (o->pooling = cli_choice(command, "--pooling", text, poolings)) >=
             0;
    default:
      return false;
  }
}

/* Options that depend on each other; CLI_OK or CLI_USAGE. */
static int check(const embed_options *o) {
  if (o->model == NULL)
    return cli_usage(&cli_embed, "embed: want a model with --model");
  if (o->query != NULL && o->out != NULL)
    return cli_usage(&cli_embed, "--query: want it without --out");
  if (o->json && o->out != NULL)
    return cli_usage(&cli_embed, "--json: want it without --out");
  if (o->top_given && o->query == NULL)
    return cli_usage(&cli_embed, "--top: want it with --query");
  return CLI_OK;
}

/* ---- where vectors go ------------------------------------------------------ */

/* A line that is like the query. */
typedef struct match {
  double cosine;
  const embed_line *line;
} match;

typedef struct sink {
  const embed_options *options;
  int64_t dim;
  /* --out */
  clattn_kit_safetensors_writer *writer;
  /* --query */
  float *query;   /* [dim] */
  match *matches; /* [n_matches] falling, at most options->top */
  int64_t n_matches;
  int64_t vectors; /* taken so far */
} sink;

/* A JSON object on a line of its own; takes it over. */
static bool put_json(json_t *object) {
  const bool ok =
      object != NULL &&
      json_dumpf(object, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9)) == 0;
  if (object == NULL) cli_error("no memory for JSON");
  json_decref(object);
  putchar('\n');
  return ok;
}

static bool put_vector(const sink *sink, const embed_line *line,
                       const float *vector) {
  json_t *numbers = json_array();
  for (int64_t i = 0; i < sink->dim; i++)
    json_array_append_new(numbers, json_real((double)vector[i]));
  return put_json(json_pack("{s:I, s:s%, s:o}", "line",
                            (json_int_t)line->number, "text", line->text,
                            line->bytes, "embedding", numbers));
}

static double cosine(const float *a, const float *b, int64_t n) {
  double ab = 0, aa = 0, bb = 0;
  for (int64_t i = 0; i < n; i++) {
    ab += (double)a[i] * (double)b[i];
    aa += (double)a[i] * (double)a[i];
    bb += (double)b[i] * (double)b[i];
  }
  return aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : 0;
}

/* Keeps a line among the best; of equals the earlier one. */
static void rank(sink *sink, const embed_line *line, const float *vector) {
  const match found = {cosine(sink->query, vector, sink->dim), line};
  const int64_t top = sink->options->top;
  int64_t at = sink->n_matches;
  if (at == top && !(found.cosine > sink->matches[at - 1].cosine)) return;
  if (at < top)
    sink->n_matches++;
  else
    at--; /* the last one goes */
  for (; at > 0 && found.cosine > sink->matches[at - 1].cosine; at--)
    sink->matches[at] = sink->matches[at - 1];
  sink->matches[at] = found;
}

/* A terminal would obey control characters: it gets spaces. */
static void put_text(const embed_line *line) {
  const bool terminal = isatty(STDOUT_FILENO) == 1;
  for (size_t i = 0; i < line->bytes; i++) {
    const unsigned char c = (unsigned char)line->text[i];
    putchar(terminal && (c < ' ' || c == 0x7f) ? ' ' : c);
  }
  putchar('\n');
}

static bool put_matches(const sink *sink) {
  for (int64_t i = 0; i < sink->n_matches; i++) {
    const match *found = &sink->matches[i];
    const embed_line *line = found->line;
    if (sink->options->json) {
      if (!put_json(json_pack("{s:f, s:I, s:s%}", "cosine", found->cosine,
                              "line", (json_int_t)line->number, "text",
                              line->text, line->bytes)))
        return false;
    } else {
      printf("%7.4f %6lld  ", found->cosine, (long long)line->number);
      put_text(line);
    }
  }
  return true;
}

enum { VECTORS, LINES };

static bool open_out(sink *sink, int64_t n) {
  const clattn_kit_tensor tensors[] = {
      [VECTORS] = {.name = "embeddings",
                   .dtype = CLATTN_KIT_F32,
                   .rank = 2,
                   .extent = {n, sink->dim}},
      [LINES] = {
          .name = "lines", .dtype = CLATTN_KIT_I64, .rank = 1, .extent = {n}}};
  return pretrained_ok(clattn_kit_safetensors_writer_create(
      sink->options->out, tensors, 2, NULL, 0, &sink->writer));
}

/* vectors [n, dim] of lines [n]. */
static bool take(sink *sink, const embed_line *lines, int64_t n,
                 const float *vectors) {
  if (sink->writer != NULL && !pretrained_ok(clattn_kit_safetensors_writer_put(
                                  sink->writer, VECTORS, vectors,
                                  (size_t)(n * sink->dim) * sizeof *vectors)))
    return false;
  sink->vectors += n;
  for (int64_t i = 0; i < n; i++) {
    const float *vector = vectors + i * sink->dim;
    if (sink->writer != NULL) {
      if (!pretrained_ok(clattn_kit_safetensors_writer_put(
              sink->writer, LINES, &lines[i].number, sizeof lines[i].number)))
        return false;
    } else if (sink->query != NULL) {
      rank(sink, &lines[i], vector);
    } else if (!put_vector(sink, &lines[i], vector)) {
      return false;
    }
  }
  return true;
}

/* What only the end of the text makes complete. */
static bool finish(sink *sink) {
  if (sink->writer != NULL) {
    if (!pretrained_ok(clattn_kit_safetensors_writer_finish(sink->writer)))
      return false;
    printf("wrote %s: %lld vectors of %lld\n", sink->options->out,
           (long long)sink->vectors, (long long)sink->dim);
    return true;
  }
  return sink->query == NULL || put_matches(sink);
}

/* ---- the run --------------------------------------------------------------- */

/* Sentences that are sorted by length together; the memory of a run. */
enum { CHUNK = 4096 };

static bool prepare_query(embed_run *run, sink *sink, int64_t n) {
  const embed_options *o = sink->options;
  if (n < o->top) n = n > 0 ? n : 1;
  sink->query = calloc((size_t)sink->dim, sizeof *sink->query);
  sink->matches =
      calloc((size_t)(n < o->top ? n : o->top) + 1, sizeof *sink->matches);
  if (sink->query == NULL || sink->matches == NULL) {
    cli_error("no memory for a query");
    return false;
  }
  embed_run once = *run;
  once.file = "--query";
  const embed_line line = {o->query, strlen(o->query), 1};
  const bool ok = embed_sentences(&once, &line, 1, sink->query);
  if (ok && once.cut > run->cut)
    cli_error("--query: cut to %lld tokens",
              (long long)run->settings.max_tokens);
  return ok;
}

static bool run_chunks(embed_run *run, sink *sink, const embed_lines *lines) {
  float *vectors = calloc(
      (size_t)(lines->n < CHUNK ? lines->n : CHUNK) * (size_t)sink->dim + 1,
      sizeof *vectors);
  bool ok = vectors != NULL;
  if (!ok) cli_error("no memory for vectors");
  cli_progress progress;
  cli_progress_begin(&progress, "line");
  run->progress = &progress;
  run->total = lines->n;
  for (int64_t i = 0; ok && i < lines->n; i += CHUNK) {
    const int64_t n = lines->n - i < CHUNK ? lines->n - i : CHUNK;
    ok = embed_sentences(run, lines->lines + i, n, vectors);
    cli_progress_clear(&progress);
    ok = ok && take(sink, lines->lines + i, n, vectors);
  }
  free(vectors);
  return ok && finish(sink);
}

static bool run_all(const embed_options *o, pretrained *model,
                    const embed_lines *lines) {
  embed_run run = {
      .model = model,
      .file = o->file,
      .limit = o->max_tokens > 0 ? "--max-tokens" : "the model's longest text",
      .strict = o->strict,
      .batch_tokens = o->batch};
  if (!pretrained_load(o->model, o->device, CLATTN_AUTO, model) ||
      !embed_settings_read(o->model, &model->config, &run.settings))
    return false;
  if (o->pooling >= 0) run.settings.pooling = (clattn_model_pooling)o->pooling;
  if (o->max_tokens > model->config.positions) {
    cli_error("--max-tokens: got %lld, the model has positions for %lld",
              (long long)o->max_tokens, (long long)model->config.positions);
    return false;
  }
  if (o->max_tokens > 0) run.settings.max_tokens = o->max_tokens;
  sink sink = {.options = o, .dim = model->config.embed_dim};
  bool ok = o->out == NULL || open_out(&sink, lines->n);
  if (ok && o->query != NULL) ok = prepare_query(&run, &sink, lines->n);
  ok = ok && run_chunks(&run, &sink, lines);
  if (ok && run.cut > 0)
    cli_error("%s: %lld of %lld lines are longer than %lld tokens and were cut",
              o->file, (long long)run.cut, (long long)lines->n,
              (long long)run.settings.max_tokens);
  clattn_kit_safetensors_writer_destroy(sink.writer);
  free(sink.query);
  free(sink.matches);
  return ok;
}

static int embed(int argc, char **argv) {
  embed_options o = {.top = 5, .batch = 4096, .pooling = -1};
  int status = CLI_OK;
  for (int option;
       (option = cli_option(&cli_embed, argc, argv, options, &status)) != -1;) {
    if (option == '?') return status;
    if (!set_option(&o, option, optarg)) return CLI_USAGE;
  }
  status = check(&o);
  if (status != CLI_OK) return status;
  if (optind != argc - 1)
    return cli_usage(&cli_embed, "embed: got %d files, want one",
                     argc - optind);
  o.file = argv[optind];
  if (!cli_output_file("--out", o.out, (const char *[]){o.file, o.model, NULL}))
    return CLI_FAILED;
  embed_lines lines;
  pretrained model = {0};
  const bool ok =
      embed_lines_read(o.file, &lines) && run_all(&o, &model, &lines);
  pretrained_free(&model);
  embed_lines_free(&lines);
  return ok ? CLI_OK : CLI_FAILED;
}
