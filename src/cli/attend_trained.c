/* attend_trained.c - clattn attend --model: a text through a pre-trained model,
 * what its heads do, and a look at one of them. */
#include <stdlib.h>
#include <string.h>

#include "attend.h"
#include "clattn_attention.h"
#include "pretrained.h"

enum {
  MATRIX_TOKENS = 1024, /* beyond, blocks of tokens stand for tokens */
  HEADS_A_LINE = 12
};

typedef struct trained {
  const attend_options *options;
  pretrained model;
  char *text, *pair; /* pair NULL: none */
  size_t text_bytes, pair_bytes;
  clattn_encoding encoding;
  int64_t layer;
  int64_t block;              /* tokens of a cell of the picture */
  int64_t cells;              /* in a row of it */
  float *picture;             /* [cells, cells] */
  double *entropy, *distance; /* [layers, heads] means over the rows */
} trained;

/* ---- reading --------------------------------------------------------------- */

static bool encode(trained *t) {
  clattn_encode_options options;
  clattn_encode_options_init(&options);
  options.pair = t->pair;
  options.pair_bytes = t->pair_bytes;
  if (clattn_tokenizer_encode(t->model.tokenizer, t->text, t->text_bytes,
                              &options, &t->encoding) != CLATTN_OK) {
    cli_error("%s: %s", t->options->file, clattn_error_message());
    return false;
  }
  const long long n = (long long)t->encoding.n;
  const long long most = (long long)t->model.config.positions;
  if (n == 0)
    cli_error("%s: it has no tokens", t->options->file);
  else if (n > most)
    cli_error("%s: %lld tokens, the model has positions for %lld",
              t->options->file, n, most);
  return n > 0 && n <= most;
}

/* Everything before the run; CLI_OK, CLI_FAILED or CLI_USAGE. */
static int prepare(trained *t) {
  const attend_options *o = t->options;
  t->text = cli_read_file(o->file, &t->text_bytes);
  if (t->text == NULL) return CLI_FAILED;
  if (o->pair != NULL) t->pair = cli_read_file(o->pair, &t->pair_bytes);
  if (o->pair != NULL && t->pair == NULL) return CLI_FAILED;
  if (!pretrained_load(o->model, o->device, o->path, &t->model))
    return CLI_FAILED;
  const clattn_model_config *config = &t->model.config;
  if (o->layer >= config->layers)
    return cli_usage(&cli_attend, "--layer: got %lld, want 0..%lld",
                     (long long)o->layer, (long long)config->layers - 1);
  if (o->head >= config->heads)
    return cli_usage(&cli_attend, "--head: got %lld, want 0..%lld",
                     (long long)o->head, (long long)config->heads - 1);
  if (!encode(t)) return CLI_FAILED;
  t->layer = o->layer < 0 ? config->layers - 1 : o->layer;
  const int64_t n = t->encoding.n;
  t->block = 1;
  t->cells = o->words < n ? o->words : n;
  if (n > MATRIX_TOKENS && o->words > 0) { /* all of it, in as many blocks */
    t->block = (n + o->words - 1) / o->words;
    t->cells = (n + t->block - 1) / t->block;
  }
  const size_t heads = (size_t)(config->layers * config->heads);
  t->entropy = calloc(heads, sizeof *t->entropy);
  t->distance = calloc(heads, sizeof *t->distance);
  t->picture = calloc((size_t)(t->cells * t->cells) + 1, sizeof *t->picture);
  if (t->entropy && t->distance && t->picture) return CLI_OK;
  cli_error("no memory for a picture");
  return CLI_FAILED;
}

static void free_trained(trained *t) {
  clattn_encoding_free(&t->encoding);
  pretrained_free(&t->model);
  free(t->text);
  free(t->pair);
  free(t->picture);
  free(t->entropy);
  free(t->distance);
}

/* ---- the run ----------------------------------------------------------------- */

static double mean(const float *values, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += (double)values[i];
  return sum / (double)n;
}

/* Keeps of a layer what will be shown. */
static clattn_status look(void *user, const clattn_model_layer *layer) {
  trained *t = user;
  const int64_t n = t->encoding.n, heads = layer->heads;
  for (int64_t h = 0; h < heads; h++) {
    const int64_t at = layer->layer * heads + h;
    t->entropy[at] = mean(layer->entropy + h * n, n);
    t->distance[at] = mean(layer->distance + h * n, n);
  }
  if (layer->layer != t->layer || t->cells == 0) return CLATTN_OK;
  const bool whole = t->block == 1;
  const int64_t width = whole ? n : t->cells;
  const float *matrix = (whole ? layer->attention[0] : layer->map[0]) +
                        t->options->head * width * width;
  for (int64_t row = 0; row < t->cells; row++)
    memcpy(t->picture + row * t->cells, matrix + row * width,
           (size_t)t->cells * sizeof *matrix);
  return CLATTN_OK;
}

static bool run(trained *t) {
  int32_t *types = NULL;
  clattn_model_input input;
  clattn_model_input_init(&input);
  input.length = t->encoding.n;
  input.ids = t->encoding.ids;
  if (t->model.config.types > 1) {
    types = calloc((size_t)t->encoding.n, sizeof *types);
    if (types == NULL) {
      cli_error("no memory for a text");
      return false;
    }
    for (int64_t i = 0; i < t->encoding.n; i++)
      types[i] = t->encoding.segments[i];
    input.types = types;
  }
  clattn_model_output output;
  clattn_model_output_init(&output);
  output.watch = CLATTN_WATCH_STATISTICS;
  if (t->cells > 0)
    output.watch |= t->block == 1 ? CLATTN_WATCH_ATTENTION : CLATTN_WATCH_MAP;
  output.map_block = t->block;
  output.on_layer = look;
  output.user = t;
  const bool ok = pretrained_ok(
      clattn_model_run(t->model.model, t->model.queue, &input, &output));
  free(types);
  return ok;
}

static void show_progress(void *progress, int64_t done, int64_t total) {
  cli_progress_step(progress, done, total);
}

static bool export(const trained *t) {
  clattn_attention_options options;
  clattn_attention_options_init(&options);
  const char *slash = strrchr(t->options->model, '/');
  const bool named = slash != NULL && slash[1] != '\0';
  options.model_name = named ? slash + 1 : t->options->model;
  cli_progress progress;
  cli_progress_begin(&progress, "layer");
  options.progress = show_progress;
  options.progress_user = &progress;
  const clattn_status status = clattn_model_write_attention(
      t->model.model, t->model.queue, t->model.tokenizer, t->text,
      t->text_bytes, t->pair, t->pair_bytes, &options, t->options->export);
  cli_progress_clear(&progress);
  return pretrained_ok(status);
}

/* ---- output -------------------------------------------------------------------- */

/* A number for each head, layers below each other. */
static void print_table(const trained *t, const char *title,
                        const double *values) {
  const int64_t heads = t->model.config.heads;
  for (int64_t first = 0; first < heads; first += HEADS_A_LINE) {
    const int64_t end =
        heads - first < HEADS_A_LINE ? heads : first + HEADS_A_LINE;
    printf("\n%s\n layer head", first == 0 ? title : "");
    for (int64_t h = first; h < end; h++) printf(" %4lld", (long long)h);
    printf("\n");
    for (int64_t l = 0; l < t->model.config.layers; l++) {
      printf("%6lld     ", (long long)l);
      for (int64_t h = first; h < end; h++) {
        const double value = values[l * heads + h];
        printf(" %4.*f", value < 10 ? 2 : value < 100 ? 1 : 0, value);
      }
      printf("\n");
    }
  }
}

enum { LABEL_BYTES = 64 };

/* What stands for a token: white space is seen. */
static void label(const trained *t, int64_t i, char text[LABEL_BYTES]) {
  size_t n;
  const char *token =
      clattn_tokenizer_token(t->model.tokenizer, t->encoding.ids[i], &n);
  if (token == NULL) token = "";
  if (token[0] == ' ' && token[1] != '\0') token++; /* the word's space */
  if (strcmp(token, " ") == 0)
    token = "\u2423";
  else if (strcmp(token, "\n") == 0)
    token = "\u21b5";
  else if (strlen(token) >= LABEL_BYTES)
    token = "...";
  memcpy(text, token, strlen(token) + 1);
}

static bool draw(const trained *t) {
  char(*texts)[LABEL_BYTES] = calloc((size_t)t->cells, sizeof *texts);
  const char **labels = calloc((size_t)t->cells, sizeof *labels);
  bool ok = texts != NULL && labels != NULL;
  if (!ok) cli_error("no memory for the picture");
  for (int64_t i = 0; ok && i < t->cells; i++) {
    label(t, i * t->block, texts[i]);
    labels[i] = texts[i];
  }
  if (ok) {
    clattn_kit_heatmap_config config;
    clattn_kit_heatmap_config_init(&config);
    config.by_row = t->options->by_row;
    config.style =
        cli_colors(t->options->color) ? CLATTN_KIT_COLORS : CLATTN_KIT_SHADES;
    printf("\nlayer %lld, head %lld: ", (long long)t->layer,
           (long long)t->options->head);
    if (t->block > 1)
      printf("the mean over blocks of %lld tokens", (long long)t->block);
    else
      printf("the first %lld of %lld tokens", (long long)t->cells,
             (long long)t->encoding.n);
    printf(" (rows attend to columns)\n\n");
    ok = pretrained_ok(clattn_kit_heatmap(&config, t->picture, t->cells,
                                          t->cells, t->cells, labels, labels,
                                          stdout));
  }
  free(texts);
  free(labels);
  return ok;
}

static bool print(const trained *t) {
  const clattn_model_config *config = &t->model.config;
  char device[160];
  cli_device_label(t->model.context, t->model.device, device, sizeof device);
  printf(
      "%s: %lld tokens\n%s: %lld layers of %lld heads, %lld parameters, on "
      "%s\n",
      t->options->file, (long long)t->encoding.n, config->name,
      (long long)config->layers, (long long)config->heads,
      (long long)clattn_model_parameters(t->model.model), device);
  print_table(t, "entropy of a row, in nats: the mean", t->entropy);
  print_table(t, "distance of a row from its keys, in tokens: the mean",
              t->distance);
  return t->cells == 0 || draw(t);
}

int attend_trained(const attend_options *options) {
  const char *const inputs[] = {options->file, options->pair, NULL};
  if (!cli_output_file("--export", options->export, inputs)) return CLI_FAILED;
  trained t = {.options = options};
  int status = prepare(&t);
  if (status == CLI_OK) {
    const bool ok =
        run(&t) && print(&t) && (options->export == NULL || export(&t));
    status = ok ? CLI_OK : CLI_FAILED;
  }
  free_trained(&t);
  return status;
}
