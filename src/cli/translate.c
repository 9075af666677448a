/* translate.c - clattn translate: an encoder-decoder learns to read dates. */
#define _POSIX_C_SOURCE 200809L
#include "translate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "Usage: clattn translate [OPTION]... MODEL [TEXT]...\n"
    "       clattn translate --train --out=MODEL [OPTION]...\n"
    "       clattn translate --pairs=N [--seed=N]\n"
    "Translate texts, or the lines of the standard input, with an encoder and\n"
    "a decoder that looks at the text by cross-attention. The task is dates "
    "as\n"
    "people write them, to ISO 8601; --train makes such a model.\n"
    "\n"
    "  -d, --device=NAME   cpu, gpu, opencl, a number or part of a name\n"
    "  -b, --beam=N        keep the N most probable translations (1: greedy)\n"
    "      --alpha=F       divide by ((5 + length) / 6)^F in comparing them "
    "(0)\n"
    "      --attention     show what each character of the translation looks\n"
    "                      at in the text; the two below imply it\n"
    "      --layer=N       whose attention: from 0 (the last)\n"
    "      --head=N        from 0 (the mean of all)\n"
    "      --color=WHEN    auto (default), always or never\n"
    "      --evaluate=N    translate N dates that were held back in training,\n"
    "                      and tell how many are right\n"
    "      --pairs=N       print N pairs to train on and N that are held "
    "back,\n"
    "                      with tabs between\n"
    "      --seed=N        of training, and of the choice of dates (1)\n"
    "training\n"
    "      --train         make a model: one day in ten is held back\n"
    "  -o, --out=FILE      the model, written anew at every line\n"
    "      --dtype=TYPE    f32, f16 (default) or bf16\n"
    "      --layers=N      of encoder and of decoder (2)\n"
    "      --heads=N       of attention (4)\n"
    "      --embed=N       columns (64)\n"
    "      --batch=N       pairs of a step (64)\n"
    "      --steps=N       (5000)\n"
    "      --lr=F          highest learning rate (0.002)\n"
    "      --dropout=F     of attention weights (0)\n"
    "      --eval-every=N  steps from line to line (500)\n"
    "  -h, --help          show this\n"
    "\n"
    "The loss of a line is the mean over the steps since the line before, in\n"
    "nats a character.\n";

static int translate(int argc, char **argv);

const cli_command cli_translate = {
    "translate", "dates to ISO 8601, with cross-attention", help, translate};

/* ---- options ------------------------------------------------------------- */

enum {
  ALPHA = 256,
  ATTENTION,
  LAYER,
  HEAD,
  COLOR,
  EVALUATE,
  PAIRS,
  SEED,
  TRAIN,
  DTYPE,
  LAYERS,
  HEADS,
  EMBED,
  BATCH,
  STEPS,
  LR,
  DROPOUT,
  EVAL_EVERY
};

static const struct option options[] = {
    CLI_OPTION_HELP,
    CLI_OPTION_DEVICE,
    {"beam", required_argument, NULL, 'b'},
    {"alpha", required_argument, NULL, ALPHA},
    {"attention", no_argument, NULL, ATTENTION},
    {"layer", required_argument, NULL, LAYER},
    {"head", required_argument, NULL, HEAD},
    {"color", required_argument, NULL, COLOR},
    {"evaluate", required_argument, NULL, EVALUATE},
    {"pairs", required_argument, NULL, PAIRS},
    {"seed", required_argument, NULL, SEED},
    {"train", no_argument, NULL, TRAIN},
    {"out", required_argument, NULL, 'o'},
    {"dtype", required_argument, NULL, DTYPE},
    {"layers", required_argument, NULL, LAYERS},
    {"heads", required_argument, NULL, HEADS},
    {"embed", required_argument, NULL, EMBED},
    {"batch", required_argument, NULL, BATCH},
    {"steps", required_argument, NULL, STEPS},
    {"lr", required_argument, NULL, LR},
    {"dropout", required_argument, NULL, DROPOUT},
    {"eval-every", required_argument, NULL, EVAL_EVERY},
    {NULL, 0, NULL, 0}};

/* Options that only make sense with --train. */
static bool set_training(translate_options *o, int option, const char *text) {
  const struct {
    int option;
    const char *name;
    int64_t min, max;
    int64_t *number;
  } numbers[] = {
      {LAYERS, "--layers", 1, 1 << 12, &o->layers},
      {HEADS, "--heads", 1, 1 << 16, &o->heads},
      {EMBED, "--embed", 1, 1 << 18, &o->embed},
      {BATCH, "--batch", 1, 1 << 20, &o->batch},
      {STEPS, "--steps", 1, (int64_t)1 << 40, &o->steps},
      {EVAL_EVERY, "--eval-every", 1, (int64_t)1 << 40, &o->eval_every}};
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
    if (numbers[i].option == option) {
      o->training = numbers[i].name;
      return cli_number(&cli_translate, numbers[i].name, text, numbers[i].min,
                        numbers[i].max, numbers[i].number);
    }
  switch (option) {
    case 'o':
      o->training = "--out";
      o->out = text;
      return true;
    case DTYPE:
      o->training = "--dtype";
      return cli_dtype(&cli_translate, text, &o->dtype);
    case LR:
      o->training = "--lr";
      return cli_decimal(&cli_translate, "--lr", text, 0, 1e3, &o->lr);
    default:
      o->training = "--dropout";
      return cli_decimal(&cli_translate, "--dropout", text, 0, 0.99,
                         &o->dropout);
  }
}

static bool set_option(translate_options *o, int option, const char *text) {
  const cli_command *command = &cli_translate;
  double alpha;
  switch (option) {
    case 'd':
      o->device = text;
      return true;
    case 'b':
      return cli_number(command, "--beam", text, 1, 1024, &o->search.beam);
    case ALPHA:
      if (!cli_decimal(command, "--alpha", text, 0, 100, &alpha)) return false;
      o->search.alpha = (float)alpha;
      return true;
    case ATTENTION:
      return o->attention = true;
    case LAYER:
      o->attention = true;
      return cli_number(command, "--layer", text, 0, 1 << 12, &o->layer);
    case HEAD:
      o->attention = true;
      return cli_number(command, "--head", text, 0, 1 << 16, &o->head);
    case COLOR:
      return cli_color(command, text, &o->color);
    case EVALUATE:
      return cli_number(command, "--evaluate", text, 1, 1 << 24, &o->evaluate);
    case PAIRS:
      return cli_number(command, "--pairs", text, 1, 1 << 24, &o->pairs);
    case SEED:
      return cli_number(command, "--seed", text, 0, UINT32_MAX, &o->seed);
    case TRAIN:
      return o->train = true;
    default:
      return set_training(o, option, text);
  }
}

/* ---- translating --------------------------------------------------------- */

/* name: what a message calls the text. */
static bool translate_one(const translate_options *o, translator *t,
                          const char *name, const char *text) {
  const int64_t S = t->config.max_source, T = t->config.max_target;
  int32_t *source = calloc((size_t)S, sizeof *source);
  int32_t *target = calloc((size_t)T, sizeof *target);
  char *made = NULL;
  bool done = source != NULL && target != NULL;
  if (!done) cli_error("no memory for %lld tokens", (long long)(S + T));
  done = done && translator_encode(t, name, text, S, source);
  if (done && clattn_seq2seq_translate(t->model, t->queue, source, S, 1,
                                       &o->search, target, NULL) != CLATTN_OK) {
    cli_error("%s: %s", name, clattn_error_message());
    done = false;
  }
  done = done && (made = translator_decode(t, target)) != NULL;
  if (done) {
    puts(made);
    if (o->attention) done = translate_show(o, t, source, target);
    fflush(stdout);
  }
  free(made);
  free(source);
  free(target);
  return done;
}

static bool translate_lines(const translate_options *o, translator *t) {
  char *line = NULL, name[32];
  size_t room = 0;
  bool done = true;
  ssize_t bytes;
  for (long long n = 1; done && (bytes = getline(&line, &room, stdin)) >= 0;
       n++) {
    snprintf(name, sizeof name, "line %lld", n);
    if (memchr(line, '\0', (size_t)bytes) != NULL) {
      cli_error("%s: has a byte 0", name);
      done = false;
      break;
    }
    line[strcspn(line, "\r\n")] = '\0';
    if (line[0] == '\0')
      putchar('\n');
    else
      done = translate_one(o, t, name, line);
  }
  free(line);
  return done;
}

static bool evaluate(const translate_options *o, translator *t) {
  const double begin = cli_seconds();
  int64_t right;
  if (!translator_evaluate(t, &o->search, (uint32_t)o->seed, o->evaluate, 10,
                           &right))
    return false;
  printf("%lld of %lld held-out dates right (%.2f %%), ", (long long)right,
         (long long)o->evaluate, 100 * (double)right / (double)o->evaluate);
  if (o->search.beam == 1)
    printf("greedy");
  else
    printf("beam %lld", (long long)o->search.beam);
  printf(", %.2f s\n", cli_seconds() - begin);
  return true;
}

static bool translate_all(const translate_options *o, translator *t) {
  if (o->evaluate > 0) return evaluate(o, t);
  bool done = true;
  for (int i = 0; done && i < o->n_texts; i++)
    done = translate_one(o, t, "TEXT", o->texts[i]);
  return o->n_texts > 0 ? done : translate_lines(o, t);
}

static int use(const translate_options *o) {
  translator t = {0};
  int status = translator_load(o, &t) ? CLI_OK : CLI_FAILED;
  if (status == CLI_OK && o->layer >= t.config.layers)
    status = cli_usage(&cli_translate, "--layer: got %lld, want 0..%lld",
                       (long long)o->layer, (long long)t.config.layers - 1);
  else if (status == CLI_OK && o->head >= t.config.heads)
    status = cli_usage(&cli_translate, "--head: got %lld, want 0..%lld",
                       (long long)o->head, (long long)t.config.heads - 1);
  else if (status == CLI_OK)
    status = translate_all(o, &t) ? CLI_OK : CLI_FAILED;
  translator_free(&t);
  return status;
}

static int print_pairs(const translate_options *o) {
  static const char *const sets[] = {"training", "held out"};
  for (int held_out = 0; held_out < 2; held_out++) {
    clattn_kit_rng rng;
    clattn_kit_rng_init(&rng, (uint32_t)o->seed);
    for (int64_t i = 0; i < o->pairs; i++) {
      date_pair pair;
      dates_draw(&rng, held_out, &pair);
      printf("%s\t%s\t%s\n", pair.source, pair.target, sets[held_out]);
    }
  }
  return CLI_OK;
}

static int check(translate_options *o, int argc, char **argv) {
  const cli_command *command = &cli_translate;
  const int n = argc - optind;
  if (o->pairs > 0) {
    if (n > 0 || o->train || o->evaluate > 0 || o->attention || o->training)
      return cli_usage(command, "--pairs: want nothing but --seed with it");
    return CLI_OK;
  }
  if (o->train) {
    if (o->out == NULL)
      return cli_usage(command, "--train: want --out=MODEL with it");
    if (n > 0)
      return cli_usage(command, "--train: got '%s', want no arguments",
                       argv[optind]);
    if (o->evaluate > 0 || o->attention)
      return cli_usage(command, "--train: want it without --%s",
                       o->evaluate > 0 ? "evaluate" : "attention");
    if (o->embed % o->heads != 0)
      return cli_usage(command, "--heads: got %lld, want a divisor of %lld",
                       (long long)o->heads, (long long)o->embed);
    return CLI_OK;
  }
  if (o->training != NULL)
    return cli_usage(command, "%s: want it with --train", o->training);
  if (n < 1) return cli_usage(command, "translate: want a model");
  o->model = argv[optind];
  o->texts = argv + optind + 1;
  o->n_texts = n - 1;
  if (o->evaluate > 0 && (o->n_texts > 0 || o->attention))
    return cli_usage(command, "--evaluate: want it without %s",
                     o->attention ? "--attention" : "texts");
  return CLI_OK;
}

static int translate(int argc, char **argv) {
  translate_options o = {.layer = -1,
                         .head = -1,
                         .dtype = CLATTN_F16,
                         .layers = 2,
                         .heads = 4,
                         .embed = 64,
                         .batch = 64,
                         .steps = 5000,
                         .eval_every = 500,
                         .seed = 1,
                         .lr = 2e-3};
  clattn_seq2seq_search_init(&o.search);
  int status = CLI_OK;
  for (int option; (option = cli_option(&cli_translate, argc, argv, options,
                                        &status)) != -1;) {
    if (option == '?') return status;
    if (!set_option(&o, option, optarg)) return CLI_USAGE;
  }
  status = check(&o, argc, argv);
  if (status != CLI_OK) return status;
  if (o.pairs > 0) return print_pairs(&o);
  return o.train ? translate_train(&o) : use(&o);
}
