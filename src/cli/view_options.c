/* view_options.c - what was asked of clattn view. */
#include <string.h>

#include "shared/ending.h"
#include "view.h"

const char view_help[] =
    "Usage: clattn view [OPTION]... [FILE]\n"
    "Look at what every layer and head of a model attends to. FILE is a text\n"
    "that the model reads (- is standard input), or a recording: a file that\n"
    "--export wrote. Without FILE and --text there is a sentence.\n"
    "\n"
    "the model and its text\n"
    "  -m, --model=PATH      a folder, a .gguf file, or a file of `clattn\n"
    "                        train` or `clattn translate`; without it, the "
    "one\n"
    "                        that comes with clattn\n"
    "      --text=TEXT       the text itself\n"
    "      --pair=FILE       a second text, for models that read pairs\n"
    "      --pair-text=TEXT  the second text itself\n"
    "      --max-tokens=N    cut the text to its first N tokens\n"
    "  -d, --device=NAME     cpu, gpu, opencl, a number or part of a name\n"
    "  -p, --path=PATH       auto (default), unfused or blocked\n"
    "where it is shown; without these, in the terminal\n"
    "      --html=FILE       a page that a browser opens from disk: "
    "everything,\n"
    "                        to walk through\n"
    "      --png=FILE        a picture\n"
    "      --svg=FILE        the same, to be scaled\n"
    "      --export=FILE     the recording, as safetensors: "
    "clattn_attention.h\n"
    "what is shown\n"
    "      --kind=KIND       head: tokens by tokens; grid: all heads, small;\n"
    "                        token: a token's weights in all heads; table:\n"
    "                        numbers of all heads\n"
    "      --part=NAME       encoder, decoder or cross, or a number from 0\n"
    "      --layer=N         from 0 (the last; but on the page, and without\n"
    "                        --kind, one that looks far and sharply; grid,\n"
    "                        token and table show all)\n"
    "      --head=N          from 0, or mean (the mean of all; but likewise)\n"
    "      --row=N           the token of --kind=token, from 0, or its text:\n"
    "                        the first token that is so (the last)\n"
    "      --first=N         tokens of a head are shown from here (0)\n"
    "      --words=N         and so many of them (as fit)\n"
    "      --by-row          each row by its own largest weight\n"
    "      --sqrt            colours by the square root of weights: small "
    "ones\n"
    "                        are seen (default of grids of over 64 tokens)\n"
    "      --linear          colours by the weights themselves (default)\n"
    "      --title=TEXT      of page and pictures\n"
    "      --dark            page and pictures on a dark ground\n"
    "      --color=WHEN      auto (default: on a terminal with 24-bit colour,\n"
    "                        and not with NO_COLOR), always or never\n"
    "      --width=N         columns of the terminal\n"
    "a second run beside it: on the page, or a table of differences\n"
    "      --compare=FILE          another recording\n"
    "      --compare-model=PATH    another model, of the same text\n"
    "      --compare-device=NAME   the same on another device\n"
    "weights of any program, in place of a model\n"
    "      --weights=FILE    safetensors: [rows,keys], [heads,rows,keys] or\n"
    "                        [layers,heads,rows,keys], or a tensor a layer,\n"
    "                        attention.0, attention.1 ...; other dimensions "
    "of\n"
    "                        1 are dropped. A file of PyTorch's weights:\n"
    "                          w = torch.stack(out.attentions)\n"
    "                          safetensors.torch.save_file({\"attention\": "
    "w},\n"
    "                                                      \"w.safetensors\")\n"
    "      --tensor=NAME     which tensor (weights, attention, or the only "
    "one)\n"
    "      --tokens=FILE     of rows and keys: a JSON array, or a line each\n"
    "      --key-tokens=FILE of keys, where they are others\n"
    "      --causal          say so if a row sees no later key (found if all\n"
    "                        weights above the diagonal are 0)\n"
    "the recording\n"
    "      --top=N           heaviest keys of each row as well (8 for long "
    "texts)\n"
    "      --map-block=N     maps of blocks of N tokens as well (64 for long\n"
    "                        texts)\n"
    "      --f32             weights as F32 (F16, unless one is beyond 65504)\n"
    "  -h, --help            show this\n";

/* ---- options ------------------------------------------------------------- */

enum { /* HTML to EXPORT: outputs */
       TEXT = 256,
       PAIR,
       PAIR_TEXT,
       MAX_TOKENS,
       HTML,
       PNG,
       SVG,
       EXPORT,
       KIND,
       PART,
       LAYER,
       HEAD,
       ROW,
       TITLE,
       ROOT,
       LINEAR,
       FIRST,
       WORDS,
       BY_ROW,
       DARK,
       COLOR,
       WIDTH,
       COMPARE,
       COMPARE_MODEL,
       COMPARE_DEVICE,
       WEIGHTS,
       TENSOR,
       TOKENS,
       KEY_TOKENS,
       CAUSAL,
       TOP,
       MAP_BLOCK,
       F32
};

static const struct option options[] = {
    CLI_OPTION_HELP,
    CLI_OPTION_DEVICE,
    CLI_OPTION_PATH,
    {"model", required_argument, NULL, 'm'},
    {"text", required_argument, NULL, TEXT},
    {"pair", required_argument, NULL, PAIR},
    {"pair-text", required_argument, NULL, PAIR_TEXT},
    {"max-tokens", required_argument, NULL, MAX_TOKENS},
    {"html", required_argument, NULL, HTML},
    {"png", required_argument, NULL, PNG},
    {"svg", required_argument, NULL, SVG},
    {"export", required_argument, NULL, EXPORT},
    {"kind", required_argument, NULL, KIND},
    {"part", required_argument, NULL, PART},
    {"layer", required_argument, NULL, LAYER},
    {"head", required_argument, NULL, HEAD},
    {"row", required_argument, NULL, ROW},
    {"title", required_argument, NULL, TITLE},
    {"sqrt", no_argument, NULL, ROOT},
    {"linear", no_argument, NULL, LINEAR},
    {"first", required_argument, NULL, FIRST},
    {"words", required_argument, NULL, WORDS},
    {"by-row", no_argument, NULL, BY_ROW},
    {"dark", no_argument, NULL, DARK},
    {"color", required_argument, NULL, COLOR},
    {"width", required_argument, NULL, WIDTH},
    {"compare", required_argument, NULL, COMPARE},
    {"compare-model", required_argument, NULL, COMPARE_MODEL},
    {"compare-device", required_argument, NULL, COMPARE_DEVICE},
    {"weights", required_argument, NULL, WEIGHTS},
    {"tensor", required_argument, NULL, TENSOR},
    {"tokens", required_argument, NULL, TOKENS},
    {"key-tokens", required_argument, NULL, KEY_TOKENS},
    {"causal", no_argument, NULL, CAUSAL},
    {"top", required_argument, NULL, TOP},
    {"map-block", required_argument, NULL, MAP_BLOCK},
    {"f32", no_argument, NULL, F32},
    {NULL, 0, NULL, 0}};

/* Where an option's text goes; NULL: it is no text. */
static const char **text_of(view_options *o, int option) {
  switch (option) {
    case 'd':
      return &o->device;
    case 'm':
      return &o->model;
    case TEXT:
      return &o->text;
    case PAIR:
      return &o->pair_file;
    case PAIR_TEXT:
      return &o->pair_text;
    case HTML:
      return &o->html;
    case PNG:
      return &o->png;
    case SVG:
      return &o->svg;
    case EXPORT:
      return &o->export;
    case PART:
      return &o->part;
    case ROW:
      return &o->row_name;
    case TITLE:
      return &o->title;
    case COMPARE:
      return &o->compare;
    case COMPARE_MODEL:
      return &o->compare_model;
    case COMPARE_DEVICE:
      return &o->compare_device;
    case WEIGHTS:
      return &o->weights;
    case TENSOR:
      return &o->tensor;
    case TOKENS:
      return &o->tokens;
    case KEY_TOKENS:
      return &o->key_tokens;
    default:
      return NULL;
  }
}

/* Sets one option that is no text; false after a message. */
static bool set_option(view_options *o, int option, const char *text) {
  static const char *const kinds[] = {"head", "grid", "token", "table", NULL};
  const cli_command *command = &cli_view;
  const int64_t most = INT32_MAX;
  switch (option) {
    case 'p':
      if (strcmp(text, "fused") != 0) return cli_path(command, text, &o->path);
      view_usage(
          "--path: got fused, which has no weights to look at; want "
          "auto, unfused or blocked");
      return false;
    case MAX_TOKENS:
      return cli_number(command, "--max-tokens", text, 1, most, &o->max_tokens);
    case KIND:
      return (o->kind = cli_choice(command, "--kind", text, kinds)) >= 0;
    case LAYER:
      return cli_number(command, "--layer", text, 0, most, &o->layer);
    case HEAD:
      o->head_given = true;
      o->head = -1;
      return strcmp(text, "mean") == 0 ||
             cli_number(command, "--head", text, 0, most, &o->head);
    case FIRST:
      return cli_number(command, "--first", text, 0, most, &o->first);
    case WORDS:
      return cli_number(command, "--words", text, 1, most, &o->words);
    case BY_ROW:
      return o->by_row = true;
    case ROOT:
      return o->root = true;
    case LINEAR:
      return o->linear = true;
    case DARK:
      return o->dark = true;
    case COLOR:
      return cli_color(command, text, &o->color);
    case WIDTH:
      return cli_number(command, "--width", text, 20, 10000, &o->width);
    case CAUSAL:
      return o->causal = true;
    case TOP:
      return cli_number(command, "--top", text, 1, 32, &o->top);
    case MAP_BLOCK:
      return cli_number(command, "--map-block", text, 1, most, &o->map_block);
    case F32:
      return o->f32 = true;
    default:
      return false;
  }
}

/* ---- options that depend on each other ---------------------------------------- */

const char *view_option_of_model(const view_options *o) {
  const struct {
    const char *name;
    bool given;
  } known[] = {{"--model", o->model},           {"--text", o->text},
               {"--pair", o->pair_file},        {"--pair-text", o->pair_text},
               {"--device", o->device},         {"--path", o->path},
               {"--max-tokens", o->max_tokens}, {"--top", o->top},
               {"--map-block", o->map_block}};
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    if (known[i].given) return known[i].name;
  return NULL;
}

static int check_weights(const view_options *o) {
  const char *own = o->tensor       ? "--tensor"
                    : o->tokens     ? "--tokens"
                    : o->key_tokens ? "--key-tokens"
                    : o->causal     ? "--causal"
                                    : NULL;
  if (o->weights == NULL && own != NULL)
    return view_usage("%s: want it with --weights", own);
  if (o->weights == NULL) return CLI_OK;
  if (o->file != NULL)
    return view_usage("--weights: got a FILE as well (%s), want one of them",
                      o->file);
  if (view_option_of_model(o) != NULL)
    return view_usage("%s: want it without --weights", view_option_of_model(o));
  if (o->compare_model != NULL || o->compare_device != NULL)
    return view_usage("--compare-%s: want it without --weights",
                      o->compare_model ? "model" : "device");
  return CLI_OK;
}

/* The kind that the terminal or a picture shows; -1: neither does, but a page, a
 * file or a table of differences is all. */
static int shown_kind(const view_options *o) {
  const bool picture = o->png != NULL || o->svg != NULL;
  const bool files = picture || o->html != NULL || o->export != NULL;
  const bool compared = o->compare || o->compare_model || o->compare_device;
  if (!picture && (files || compared)) return -1;
  return o->kind >= 0 ? o->kind : CLATTN_VIEW_HEAD;
}

/* What would have no effect is a slip. */
static int check_kind(const view_options *o) {
  const int kind = shown_kind(o);
  const char *of_head = o->first > 0 ? "--first"
                        : o->words   ? "--words"
                        : o->by_row  ? "--by-row"
                                     : NULL;
  if (of_head != NULL && kind != CLATTN_VIEW_HEAD)
    return view_usage(
        "%s: want it with --kind=head, in the terminal or a picture", of_head);
  if (o->row_name != NULL && kind != CLATTN_VIEW_TOKEN && o->html == NULL)
    return view_usage("--row: want it with --kind=token or --html");
  return CLI_OK;
}

static int check_outputs(const view_options *o) {
  const bool picture = o->png != NULL || o->svg != NULL;
  if (o->svg != NULL && !clt_ends_in(o->svg, ".svg"))
    return view_usage("--svg: got %s, want a name that ends in .svg", o->svg);
  if (o->png != NULL && !clt_ends_in(o->png, ".png"))
    return view_usage("--png: got %s, want a name that ends in .png", o->png);
  if (picture && o->kind == CLATTN_VIEW_TABLE)
    return view_usage("--kind=table: want it without --%s",
                      o->png ? "png" : "svg");
  if (picture && (o->compare || o->compare_model || o->compare_device))
    return view_usage("--%s: shows one run: want it without --compare",
                      o->png ? "png" : "svg");
  if (o->root && o->linear)
    return view_usage("--sqrt: want it without --linear");
  if (o->title != NULL && !picture && o->html == NULL)
    return view_usage("--title: want it with --html, --png or --svg");
  if (o->dark && !picture && o->html == NULL)
    return view_usage("--dark: want it with --html, --png or --svg");
  return check_kind(o);
}

static int check(const view_options *o) {
  if (o->file != NULL && o->text != NULL)
    return view_usage("--text: got a FILE as well (%s), want one of them",
                      o->file);
  if (o->pair_file != NULL && o->pair_text != NULL)
    return view_usage("--pair: want it without --pair-text");
  if (o->file != NULL && o->pair_file != NULL && strcmp(o->file, "-") == 0 &&
      strcmp(o->pair_file, "-") == 0)
    return view_usage("--pair: the standard input is FILE already");
  if ((o->pair_file != NULL || o->pair_text != NULL) && o->file == NULL &&
      o->text == NULL)
    return view_usage("--pair%s: want it with a FILE or --text",
                      o->pair_file ? "" : "-text");
  const int compared = (o->compare != NULL) + (o->compare_model != NULL) +
                       (o->compare_device != NULL);
  if (compared > 1)
    return view_usage("--compare: want one run to compare with, got %d",
                      compared);
  const int status = check_weights(o);
  return status == CLI_OK ? check_outputs(o) : status;
}

int view_options_read(int argc, char **argv, view_options *o) {
  *o = (view_options){
      .kind = -1, .layer = -1, .head = -1, .row = -1, .path = CLATTN_AUTO};
  int status = CLI_OK;
  for (int option;
       (option = cli_option(&cli_view, argc, argv, options, &status)) != -1;) {
    if (option == '?') return status;
    const char **text = text_of(o, option);
    if (text != NULL && *text != NULL && option >= HTML && option <= EXPORT)
      return view_usage("got two outputs of one kind, %s and %s, want one",
                        *text, optarg);
    if (text != NULL)
      *text = optarg;
    else if (!set_option(o, option, optarg))
      return CLI_USAGE;
  }
  if (argc - optind > 1)
    return view_usage("view: got %d files, want one", argc - optind);
  if (argc - optind == 1) o->file = argv[optind];
  status = check(o);
  o->complete = status == CLI_OK;
  return status;
}
