/* generate.c - clattn generate: text from a model that `clattn train` made. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clattn_gpt.h"
#include "cli.h"
#include "sample.h"

static const char help[] =
    "Usage: clattn generate [OPTION]... MODEL [PROMPT]\n"
    "Continue a text with a model of `clattn train`, token by token as it is\n"
    "made. Without a prompt it begins at a line's start.\n"
    "\n"
    "  -d, --device=NAME     cpu, gpu, opencl, a number or part of a name\n"
    "  -n, --tokens=N        how many to add (200)\n"
    "      --temperature=F   below 1 more likely ones, above 1 all (0.8);\n"
    "                        0: as --greedy\n"
    "      --top-k=N         of the N most likely alone; 0: of all (0)\n"
    "      --top-p=F         of the fewest that make up F together (1)\n"
    "  -g, --greedy          always the most likely one; not with the three\n"
    "                        above\n"
    "  -s, --seed=N          of chance (1)\n"
    "      --no-cache        recompute all tokens for each new one\n"
    "      --attention       then show what the last tokens attend to; the\n"
    "                        three below imply it\n"
    "      --layer=N         whose attention: from 0 (the last)\n"
    "      --head=N          from 0 (the mean of all)\n"
    "      --rows=N          for so many tokens (8)\n"
    "      --color=WHEN      auto (default), always or never\n"
    "  -h, --help            show this\n"
    "\n"
    "A model sees as many tokens as its context. When one more comes, the "
    "last\n"
    "half of them stays, with or without the cache.\n";

static int generate(int argc, char **argv);

const cli_command cli_generate = {"generate", "write text with a trained GPT",
                                  help, generate};

/* ---- options ------------------------------------------------------------- */

typedef struct generate_options {
  const char *file, *prompt, *device;             /* prompt NULL: none */
  int64_t tokens, seed, top_k, layer, head, rows; /* layer, head -1: default */
  double temperature, top_p;
  bool no_cache, attention, greedy;
  const char *chance; /* the last option about chance that was given */
  int color;
} generate_options;

enum {
  TEMPERATURE = 256,
  TOP_K,
  TOP_P,
  NO_CACHE,
  ATTENTION,
  LAYER,
  HEAD,
  ROWS,
  COLOR
};

static const struct option options[] = {
    CLI_OPTION_HELP,
    CLI_OPTION_DEVICE,
    {"tokens", required_argument, NULL, 'n'},
    {"temperature", required_argument, NULL, TEMPERATURE},
    {"top-k", required_argument, NULL, TOP_K},
    {"top-p", required_argument, NULL, TOP_P},
    {"greedy", no_argument, NULL, 'g'},
    {"seed", required_argument, NULL, 's'},
    {"no-cache", no_argument, NULL, NO_CACHE},
    {"attention", no_argument, NULL, ATTENTION},
    {"layer", required_argument, NULL, LAYER},
    {"head", required_argument, NULL, HEAD},
    {"rows", required_argument, NULL, ROWS},
    {"color", required_argument, NULL, COLOR},
    {NULL, 0, NULL, 0}};

static bool set_option(generate_options *o, int option, const char *text) {
  static const char *const colors[] = {"auto", "always", "never", NULL};
  const cli_command *command = &cli_generate;
  switch (option) {
    case 'd':
      o->device = text;
      return true;
    case 'n':
      return cli_number(command, "--tokens", text, 0, (int64_t)1 << 40,
                        &o->tokens);
    case TEMPERATURE:
      o->chance = "--temperature";
      return cli_decimal(command, "--temperature", text, 0, 1e6,
                         &o->temperature);
    case TOP_K:
      o->chance = "--top-k";
      return cli_number(command, "--top-k", text, 0, INT32_MAX, &o->top_k);
    case TOP_P:
      o->chance = "--top-p";
      return cli_decimal(command, "--top-p", text, 0, 1, &o->top_p);
    case 'g':
      return o->greedy = true;
    case 's':
      return cli_number(command, "--seed", text, 0, UINT32_MAX, &o->seed);
    case NO_CACHE:
      return o->no_cache = true;
    case ATTENTION:
      return o->attention = true;
    case LAYER:
      o->attention = true;
      return cli_number(command, "--layer", text, 0, 1 << 12, &o->layer);
    case HEAD:
      o->attention = true;
      return cli_number(command, "--head", text, 0, 1 << 16, &o->head);
    case ROWS:
      o->attention = true;
      return cli_number(command, "--rows", text, 1, 1000, &o->rows);
    case COLOR:
      return (o->color = cli_choice(command, "--color", text, colors)) >= 0;
    default:
      return false;
  }
}

/* ---- the model ----------------------------------------------------------- */

typedef struct writer {
  clattn_context *context;
  int device;
  clattn_queue *queue;
  clattn_gpt *gpt;
  clattn_gpt_config config;
  clattn_gpt_tokens *tokens;
  clattn_gpt_decoder *decoder;
  float *logits; /* [vocab] */
  sampler sampler;
  int64_t total; /* tokens read so far */
  bool terminal;
} writer;

static bool ok(clattn_status status) {
  if (status != CLATTN_OK) cli_error("%s", clattn_error_message());
  return status == CLATTN_OK;
}

/* Of a file that was opened but holds something else. */
static bool no_model(const generate_options *o) {
  const char *message = clattn_error_message();
  const size_t n = strlen(o->file);
  if (strncmp(message, o->file, n) == 0 && strncmp(message + n, ": ", 2) == 0)
    message += n + 2;
  cli_error("%s: no model of `clattn train`: %s", o->file, message);
  return false;
}

static bool load(const generate_options *o, writer *w) {
  clattn_kit_safetensors *file = NULL;
  if (access(o->file, R_OK) != 0) {
    cli_error("%s: %s", o->file, strerror(errno));
    return false;
  }
  if (clattn_kit_safetensors_open(o->file, &file) != CLATTN_OK)
    return no_model(o);
  bool done = cli_context(o->device, &w->context, &w->device) &&
              ok(clattn_queue_create(w->context, w->device, &w->queue));
  if (done) {
    clattn_status status =
        clattn_gpt_load(w->context, w->device, w->queue, file, &w->gpt);
    if (status == CLATTN_OK) status = clattn_gpt_tokens_load(file, &w->tokens);
    done = status == CLATTN_OK;
    if (status == CLATTN_IO_ERROR)
      no_model(o);
    else if (!done)
      cli_error("%s: %s", o->file, clattn_error_message());
  }
  clattn_kit_safetensors_destroy(file);
  if (!done || !ok(clattn_gpt_get_config(w->gpt, &w->config))) return false;
  if (w->config.vocab_size != clattn_gpt_tokens_size(w->tokens)) {
    cli_error("%s: a vocabulary of %ld for a model of %lld", o->file,
              (long)clattn_gpt_tokens_size(w->tokens),
              (long long)w->config.vocab_size);
    return false;
  }
  return true;
}

static int prepare(const generate_options *o, writer *w) {
  if (!load(o, w)) return CLI_FAILED;
  if (o->layer >= w->config.layers || o->head >= w->config.heads)
    return cli_usage(
        &cli_generate, "--%s: got %lld, want 0..%lld",
        o->layer >= w->config.layers ? "layer" : "head",
        (long long)(o->layer >= w->config.layers ? o->layer : o->head),
        (long long)(o->layer >= w->config.layers ? w->config.layers
                                                 : w->config.heads) -
            1);
  w->logits = calloc((size_t)w->config.vocab_size, sizeof *w->logits);
  if (w->logits == NULL) {
    cli_error("no memory for %lld logits", (long long)w->config.vocab_size);
    return CLI_FAILED;
  }
  w->terminal = isatty(STDOUT_FILENO) == 1;
  w->sampler.temperature = o->temperature;
  w->sampler.top_k = o->top_k;
  w->sampler.top_p = o->top_p;
  clattn_kit_rng_init(&w->sampler.rng, (uint32_t)o->seed);
  const bool done = sampler_make(&w->sampler, (int32_t)w->config.vocab_size) &&
                    ok(clattn_gpt_decoder_create(w->gpt, w->queue, !o->no_cache,
                                                 &w->decoder));
  return done ? CLI_OK : CLI_FAILED;
}

static void free_writer(writer *w) {
  clattn_gpt_decoder_destroy(w->decoder);
  clattn_gpt_tokens_destroy(w->tokens);
  clattn_gpt_destroy(w->gpt);
  clattn_queue_destroy(w->queue);
  clattn_context_destroy(w->context);
  sampler_free(&w->sampler);
  free(w->logits);
}

/* ---- writing ------------------------------------------------------------- */

/* Of what a terminal would obey only line feeds and tabs go to one. */
static void put_token(const writer *w, int32_t before, int32_t id) {
  size_t bytes;
  const char *text = clattn_gpt_tokens_text(w->tokens, id, &bytes);
  if (clattn_gpt_tokens_space(w->tokens, before, id)) putchar(' ');
  for (size_t i = 0; i < bytes; i++) {
    const unsigned char c = (unsigned char)text[i];
    const bool obeyed = (c < ' ' && c != '\n' && c != '\t') || c == 0x7f;
    putchar(w->terminal && obeyed ? '?' : c);
  }
}

/* Where a text begins: behind a line feed or a full stop, if there are such. */
static int32_t beginning(const writer *w) {
  const char *const marks[] = {"\n", "."};
  for (size_t m = 0; m < 2; m++)
    for (int32_t i = 0; i < clattn_gpt_tokens_size(w->tokens); i++)
      if (strcmp(clattn_gpt_tokens_text(w->tokens, i, NULL), marks[m]) == 0)
        return i;
  return 0;
}

/* The prompt's tokens, which are printed as they are read. */
static bool read_prompt(const generate_options *o, writer *w, int32_t **ids,
                        int64_t *n) {
  const char *prompt = o->prompt == NULL ? "" : o->prompt;
  if (clattn_gpt_tokens_encode(w->tokens, prompt, strlen(prompt), ids, n) !=
      CLATTN_OK) {
    const char *message = clattn_error_message();
    cli_error("PROMPT: %s",
              strncmp(message, "text: ", 6) == 0 ? message + 6 : message);
    return false;
  }
  for (int64_t i = 0; i < *n; i++)
    put_token(w, i > 0 ? (*ids)[i - 1] : -1, (*ids)[i]);
  fflush(stdout);
  if (*n == 0) (*ids)[(*n)++] = beginning(w);
  return true;
}

static bool write_text(const generate_options *o, writer *w) {
  int32_t *ids = NULL;
  int64_t n;
  if (!read_prompt(o, w, &ids, &n)) return false;
  int32_t before = o->prompt == NULL || o->prompt[0] == '\0' ? -1 : ids[n - 1];
  bool done =
      ok(clattn_gpt_decoder_read(w->decoder, w->queue, ids, n, w->logits));
  free(ids);
  w->total = n;
  for (int64_t i = 0; done && i < o->tokens; i++) {
    const int32_t id = sampler_draw(&w->sampler, w->logits);
    if (id < 0) {
      putchar('\n');
      fflush(stdout);
      cli_error("%s: the model gives logits that are not finite", o->file);
      return false;
    }
    put_token(w, before, id);
    /* A closed pipe or a full disk: nobody reads on. */
    if (fflush(stdout) != 0) return true;
    before = id;
    if (i + 1 < o->tokens || o->attention) {
      done =
          ok(clattn_gpt_decoder_read(w->decoder, w->queue, &id, 1, w->logits));
      w->total++;
    }
  }
  putchar('\n');
  return done;
}

/* ---- the picture --------------------------------------------------------- */

enum { COLUMNS = 32, LABEL_BYTES = 64 };

/* The rows and columns of one head, or of their mean, of the last tokens. */
static void cut(const generate_options *o, const writer *w, const float *all,
                int64_t n, int64_t rows, int64_t cols, float *matrix) {
  const int64_t first = o->head < 0 ? 0 : o->head;
  const int64_t heads = o->head < 0 ? w->config.heads : 1;
  for (int64_t r = 0; r < rows; r++)
    for (int64_t c = 0; c < cols; c++) {
      double sum = 0;
      for (int64_t h = first; h < first + heads; h++)
        sum += (double)all[(h * n + n - rows + r) * n + n - cols + c];
      matrix[r * cols + c] = (float)(sum / (double)heads);
    }
}

static void label(const writer *w, int32_t id, char text[LABEL_BYTES]) {
  const char *token = clattn_gpt_tokens_text(w->tokens, id, NULL);
  if (strcmp(token, " ") == 0)
    token = "\u2423";
  else if (strcmp(token, "\n") == 0)
    token = "\u21b5";
  else if (strlen(token) >= LABEL_BYTES)
    token = "..."; /* not cut amid a character */
  memcpy(text, token, strlen(token) + 1);
}

static bool show(const generate_options *o, writer *w, int64_t layer) {
  const int32_t *ids;
  const int64_t n = clattn_gpt_decoder_window(w->decoder, &ids);
  const int64_t rows = n < o->rows ? n : o->rows;
  const int64_t wanted = rows > COLUMNS ? rows : COLUMNS;
  const int64_t cols = n < wanted ? n : wanted;
  float *all = calloc((size_t)(w->config.heads * n * n), sizeof *all);
  float *matrix = calloc((size_t)(rows * cols), sizeof *matrix);
  char(*texts)[LABEL_BYTES] = calloc((size_t)cols, sizeof *texts);
  const char **labels = calloc((size_t)cols, sizeof *labels);
  bool done = all && matrix && texts && labels;
  if (!done) cli_error("no memory for the picture");
  done = done && ok(clattn_gpt_attention(w->gpt, w->queue, ids, n, layer, all));
  if (done) {
    cut(o, w, all, n, rows, cols, matrix);
    for (int64_t i = 0; i < cols; i++) {
      label(w, ids[n - cols + i], texts[i]);
      labels[i] = texts[i];
    }
    clattn_kit_heatmap_config config;
    clattn_kit_heatmap_config_init(&config);
    config.by_row = true;
    config.style = cli_colors(o->color) ? CLATTN_KIT_COLORS : CLATTN_KIT_SHADES;
    printf("\nlayer %lld of %lld, ", (long long)layer,
           (long long)w->config.layers);
    if (o->head < 0)
      printf("mean of %lld heads", (long long)w->config.heads);
    else
      printf("head %lld of %lld", (long long)o->head,
             (long long)w->config.heads);
    printf(": the last %lld of %lld tokens", (long long)rows, (long long)n);
    if (w->total > n)
      printf(" in sight,\nthe window of %lld having slid",
             (long long)w->config.context);
    printf(" (rows attend to columns)\n\n");
    done = ok(clattn_kit_heatmap(&config, matrix, rows, cols, cols,
                                 labels + cols - rows, labels, stdout));
  }
  free(all);
  free(matrix);
  free(texts);
  free(labels);
  return done;
}

static int generate(int argc, char **argv) {
  generate_options o = {.tokens = 200,
                        .seed = 1,
                        .layer = -1,
                        .head = -1,
                        .rows = 8,
                        .temperature = 0.8,
                        .top_p = 1};
  int status = CLI_OK;
  for (int option; (option = cli_option(&cli_generate, argc, argv, options,
                                        &status)) != -1;) {
    if (option == '?') return status;
    if (!set_option(&o, option, optarg)) return CLI_USAGE;
  }
  if (o.greedy && o.chance != NULL)
    return cli_usage(&cli_generate,
                     "--greedy leaves nothing to chance: want it without %s",
                     o.chance);
  if (o.greedy) o.temperature = 0;
  if (argc - optind < 1 || argc - optind > 2)
    return cli_usage(&cli_generate,
                     "generate: got %d arguments, want a model and a prompt",
                     argc - optind);
  o.file = argv[optind];
  if (argc - optind == 2) o.prompt = argv[optind + 1];
  writer w = {0};
  status = prepare(&o, &w);
  if (status == CLI_OK) {
    const int64_t layer = o.layer < 0 ? w.config.layers - 1 : o.layer;
    const bool done =
        write_text(&o, &w) && (!o.attention || show(&o, &w, layer));
    status = done ? CLI_OK : CLI_FAILED;
  }
  free_writer(&w);
  return status;
}
