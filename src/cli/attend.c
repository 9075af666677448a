/* attend.c - clattn attend: a text through an attention layer, and a look at
 * what a head attends to. */
#define _POSIX_C_SOURCE 200809L
#include "attend.h"

#include <stdlib.h>
#include <string.h>

static const char help[] =
    "Usage: clattn attend [OPTION]... FILE\n"
    "Split a text into words, run causal multi-head self-attention over "
    "windows\n"
    "of it, and show what one head attends to. FILE - is standard input. For\n"
    "models that were trained there is `clattn view`.\n"
    "\n"
    "  -d, --device=NAME     cpu, gpu, opencl, a number or part of a name\n"
    "  -p, --path=PATH       auto (default), fused, unfused or blocked\n"
    "windows\n"
    "      --length=N        tokens of a window (256)\n"
    "      --stride=N        from window to window (the length)\n"
    "      --batch=N         windows computed at a time (8)\n"
    "model\n"
    "      --dim=N           columns of an embedding (768)\n"
    "      --heads=N         attention heads (12)\n"
    "  -s, --seed=N          draw the weights from this seed (123)\n"
    "  -w, --weights=FILE    safetensors: tok_emb.weight, pos_emb.weight "
    "(drawn\n"
    "                        where absent) and, behind the prefix, the names "
    "of\n"
    "                        PyTorch's nn.MultiheadAttention\n"
    "      --prefix=TEXT     of the layer's names (att.)\n"
    "      --save-weights=FILE  write the weights, as --weights reads them\n"
    "picture\n"
    "      --head=N          whose attention to show (0)\n"
    "      --words=N         over the first N words (20); 0: none\n"
    "      --scale=row|all   shades relative to each row's largest value, or "
    "to\n"
    "                        the largest of all (row)\n"
    "      --color=WHEN      auto (default: on a terminal with 24-bit colour,\n"
    "                        and not with NO_COLOR), always or never\n"
    "  -h, --help            show this\n";

static int attend(int argc, char **argv);

const cli_command cli_attend = {"attend", "run attention over a text", help,
                                attend};

/* ---- options ------------------------------------------------------------- */

enum {
  LENGTH = 256,
  STRIDE,
  BATCH,
  DIM,
  HEADS,
  PREFIX,
  SAVE,
  HEAD,
  WORDS,
  SCALE,
  COLOR
};

static const struct option options[] = {
    CLI_OPTION_HELP,
    CLI_OPTION_DEVICE,
    CLI_OPTION_PATH,
    {"length", required_argument, NULL, LENGTH},
    {"stride", required_argument, NULL, STRIDE},
    {"batch", required_argument, NULL, BATCH},
    {"dim", required_argument, NULL, DIM},
    {"heads", required_argument, NULL, HEADS},
    {"seed", required_argument, NULL, 's'},
    {"weights", required_argument, NULL, 'w'},
    {"prefix", required_argument, NULL, PREFIX},
    {"save-weights", required_argument, NULL, SAVE},
    {"head", required_argument, NULL, HEAD},
    {"words", required_argument, NULL, WORDS},
    {"scale", required_argument, NULL, SCALE},
    {"color", required_argument, NULL, COLOR},
    {NULL, 0, NULL, 0}};

/* Sets one option; false after a message. */
static bool set_option(attend_options *o, int option, const char *text) {
  static const char *const scales[] = {"all", "row", NULL};
  /* Limits that keep every product of sizes within 64 bits. */
  const int64_t most = 1 << 20;
  const cli_command *command = &cli_attend;
  int choice;
  switch (option) {
    case 'd':
      o->device = text;
      return true;
    case 'w':
      o->weights = text;
      return true;
    case PREFIX:
      o->prefix = text;
      return true;
    case SAVE:
      o->save = text;
      return true;
    case 'p':
      return cli_path(command, text, &o->path);
    case 's':
      return cli_number(command, "--seed", text, 0, UINT32_MAX, &o->seed);
    case LENGTH:
      return cli_number(command, "--length", text, 1, most, &o->length);
    case STRIDE:
      return cli_number(command, "--stride", text, 1, most, &o->stride);
    case BATCH:
      return cli_number(command, "--batch", text, 1, most, &o->batch);
    case DIM:
      return cli_number(command, "--dim", text, 1, most, &o->dim);
    case HEADS:
      return cli_number(command, "--heads", text, 1, most, &o->heads);
    case HEAD:
      return cli_number(command, "--head", text, 0, most, &o->head);
    case WORDS:
      return cli_number(command, "--words", text, 0, 1000, &o->words);
    case SCALE:
      choice = cli_choice(command, "--scale", text, scales);
      o->by_row = choice == 1;
      return choice >= 0;
    case COLOR:
      return cli_color(command, text, &o->color);
    default:
      return false;
  }
}

enum { DEFAULT_WORDS = 20 };

/* Options that depend on each other; CLI_OK or CLI_USAGE. */
static int complete(attend_options *o) {
  if (o->stride == 0) o->stride = o->length;
  if (o->dim % o->heads != 0)
    return cli_usage(&cli_attend, "--heads: got %lld, want a divisor of %lld",
                     (long long)o->heads, (long long)o->dim);
  if (o->head >= o->heads)
    return cli_usage(&cli_attend, "--head: got %lld, want 0..%lld",
                     (long long)o->head, (long long)o->heads - 1);
  const bool asked = o->words >= 0;
  if (!asked) o->words = DEFAULT_WORDS;
  if (o->words > o->length) {
    o->words = o->length;
    if (asked)
      cli_error("showing %lld words: --length is %lld", (long long)o->words,
                (long long)o->length);
  }
  return CLI_OK;
}

/* ---- the run ------------------------------------------------------------- */

typedef struct timing {
  int64_t windows;
  double whole, layer; /* seconds */
} timing;

/* Every batch once; the first is run before the clock starts, since it pays for
 * what later ones reuse. */
static bool run_batches(clattn_kit_loader *loader, attend_model *model,
                        int32_t *ids, timing *times) {
  const int64_t batches = clattn_kit_loader_batches(loader);
  cli_progress progress;
  cli_progress_begin(&progress, "batch");
  int64_t windows;
  bool ok = clattn_kit_loader_next(loader, ids, NULL, &windows) == CLATTN_OK &&
            attend_model_embed(model, ids, windows) &&
            attend_model_forward(model, windows) &&
            attend_model_finite(model, windows) &&
            clattn_kit_loader_rewind(loader) == CLATTN_OK;
  const double start = cli_seconds();
  for (int64_t i = 0; ok && i < batches; i++) {
    cli_progress_step(&progress, i, batches);
    ok = clattn_kit_loader_next(loader, ids, NULL, &windows) == CLATTN_OK &&
         attend_model_embed(model, ids, windows);
    const double begin = cli_seconds();
    ok = ok && attend_model_forward(model, windows);
    times->layer += cli_seconds() - begin;
    times->windows += windows;
  }
  times->whole = cli_seconds() - start;
  cli_progress_clear(&progress);
  return ok;
}

/* A head's attention over the first words of the text. */
static bool draw(const attend_options *o, const attend_text *text,
                 attend_model *model) {
  const int64_t n = o->words;
  int32_t *first = calloc((size_t)o->length, sizeof *first);
  float *weights = calloc((size_t)(n * n), sizeof *weights);
  const char **labels = calloc((size_t)n, sizeof *labels);
  bool ok = first != NULL && weights != NULL && labels != NULL;
  if (!ok) cli_error("no memory for the picture");
  if (ok) {
    memcpy(first, text->tokens.ids, (size_t)o->length * sizeof *first);
    ok = attend_model_embed(model, first, 1) &&
         attend_model_weights(model, o->head, n, weights);
  }
  for (int64_t i = 0; ok && i < n; i++)
    labels[i] =
        clattn_tokenizer_token(text->tokenizer, text->tokens.ids[i], NULL);
  if (ok) {
    clattn_kit_heatmap_config config;
    clattn_kit_heatmap_config_init(&config);
    config.by_row = o->by_row;
    config.style = cli_colors(o->color) ? CLATTN_KIT_COLORS : CLATTN_KIT_SHADES;
    printf(
        "\nhead %lld of %lld over the first %lld words (rows attend to "
        "columns)\n\n",
        (long long)o->head, (long long)o->heads, (long long)n);
    ok = clattn_kit_heatmap(&config, weights, n, n, n, labels, labels,
                            stdout) == CLATTN_OK;
    if (!ok) cli_error("%s", clattn_error_message());
  }
  free(first);
  free(weights);
  free(labels);
  return ok;
}

static void print_times(const attend_model *model, const timing *times) {
  const double tokens = (double)times->windows * (double)model->length;
  const double flop = attend_model_flop(model, times->windows);
  printf(
      "%.0f tokens in %.3g s: %.0f tokens/s; the layer alone %.3g s, "
      "%.1f GFLOP/s\n",
      tokens, times->whole, tokens / times->whole, times->layer,
      flop / times->layer * 1e-9);
}

/* The text is read; the rest of the way. */
static bool attend_to(const attend_options *o, const attend_text *text,
                      clattn_kit_loader *loader, attend_model *model) {
  printf("%s: %lld tokens, %ld in the vocabulary\n", o->file,
         (long long)text->tokens.n,
         (long)clattn_tokenizer_size(text->tokenizer));
  printf("%lld windows of %lld tokens, stride %lld, batches of %lld\n",
         (long long)clattn_kit_loader_windows(loader), (long long)o->length,
         (long long)o->stride, (long long)o->batch);
  fflush(stdout);
  if (!attend_model_make(o, clattn_tokenizer_size(text->tokenizer), model))
    return false;
  char label[160];
  cli_device_label(model->context, model->device, label, sizeof label);
  printf("%lld heads, d_model %lld, %lld parameters ", (long long)o->heads,
         (long long)o->dim, (long long)clattn_kit_mha_parameters(model->mha));
  if (o->weights != NULL)
    printf("from %s", o->weights);
  else
    printf("from seed %lld", (long long)o->seed);
  printf(", on %s, path %s\n", label, cli_path_name(o->path));
  fflush(stdout);

  int32_t *ids = calloc((size_t)(o->batch * o->length), sizeof *ids);
  timing times = {0};
  bool ok = ids != NULL;
  if (!ok) cli_error("no memory for a batch");
  ok = ok && run_batches(loader, model, ids, &times);
  free(ids);
  if (!ok) return false;
  print_times(model, &times);
  return o->words == 0 || draw(o, text, model);
}

/* All windows in order, the text's last words included. */
static bool make_loader(const attend_options *o, const attend_text *text,
                        clattn_kit_loader **loader) {
  if (text->tokens.n <= o->length) {
    cli_error(
        "%s: %lld tokens are too few for a window of %lld and the token "
        "after it; see --length",
        o->file, (long long)text->tokens.n, (long long)o->length);
    return false;
  }
  clattn_kit_loader_config config;
  clattn_kit_loader_config_init(&config);
  config.length = o->length;
  config.stride = o->stride;
  config.batch = o->batch;
  config.shuffle = config.drop_last = false;
  config.cover_tail = true;
  if (clattn_kit_loader_create(&config, text->tokens.ids, text->tokens.n,
                               loader) == CLATTN_OK)
    return true;
  cli_error("%s: %s", o->file, clattn_error_message());
  return false;
}

static int attend(int argc, char **argv) {
  attend_options o = {.length = 256,
                      .batch = 8,
                      .dim = 768,
                      .heads = 12,
                      .seed = 123,
                      .words = -1,
                      .prefix = "att.",
                      .by_row = true};
  int status = CLI_OK;
  for (int option; (option = cli_option(&cli_attend, argc, argv, options,
                                        &status)) != -1;) {
    if (option == '?') return status;
    if (!set_option(&o, option, optarg)) return CLI_USAGE;
  }
  if (optind != argc - 1)
    return cli_usage(&cli_attend, "attend: got %d files, want one",
                     argc - optind);
  o.file = argv[optind];
  status = complete(&o);
  if (status != CLI_OK) return status;
  if (!cli_output_file("--save-weights", o.save,
                       (const char *[]){o.file, o.weights, NULL}))
    return CLI_FAILED;

  attend_text text;
  attend_model model = {0};
  clattn_kit_loader *loader = NULL;
  const bool ok = attend_text_read(o.file, &text) &&
                  make_loader(&o, &text, &loader) &&
                  attend_to(&o, &text, loader, &model);
  attend_model_free(&model);
  clattn_kit_loader_destroy(loader);
  attend_text_free(&text);
  return ok ? CLI_OK : CLI_FAILED;
}
