/* train.c - clattn train: a GPT learns a text. */
#define _POSIX_C_SOURCE 200809L
#include "train.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clattn_nn.h"

static const char help[] =
    "Usage: clattn train [OPTION]... TEXT\n"
    "Train a GPT on a text (UTF-8; - is standard input). The checkpoint is a\n"
    "safetensors file from which `clattn generate` writes, and --resume goes "
    "on\n"
    "to the very bits of a run that was not interrupted.\n"
    "\n"
    "  -d, --device=NAME     cpu, gpu, opencl, a number or part of a name\n"
    "  -o, --out=FILE        the checkpoint (gpt.safetensors)\n"
    "      --resume          continue it; settings are those it began with\n"
    "      --export=FILE     in the end, weights and vocabulary alone\n"
    "      --dtype=TYPE      of --export: f32 (default), f16 or bf16\n"
    "      --log=FILE        a row a step: loss, validation, rate, tokens/s\n"
    "model\n"
    "      --layers=N        (4)\n"
    "      --heads=N         of attention (4)\n"
    "      --embed=N         columns (128)\n"
    "      --context=N       tokens seen at once (128)\n"
    "      --tokens=KIND     chars (default) or words\n"
    "      --tokenizer=PATH  instead: of a vocabulary, as of `clattn bpe`\n"
    "data\n"
    "      --batch=N         windows of a step (8)\n"
    "      --accumulate=N    batches of a step, one after the other (1)\n"
    "      --stride=N        from window to window (context / 4)\n"
    "      --validation=F    of the text, its end, to measure on (0.1)\n"
    "steps\n"
    "      --steps=N         (2000)\n"
    "      --epochs=N        instead: times over all windows\n"
    "      --lr=F            highest learning rate (0.001)\n"
    "      --min-lr=F        at the end of half a cosine (lr / 10)\n"
    "      --warmup=N        steps of linear rise before it (steps / 20)\n"
    "      --weight-decay=F  of matrices, not of biases and norms (0.1)\n"
    "      --clip=F          gradients to this norm; 0: never (1)\n"
    "      --dropout=F       of attention weights (0)\n"
    "      --seed=N          of weights, order and dropout (1)\n"
    "      --eval-every=N    steps from line to line (100)\n"
    "      --save-every=N    steps from checkpoint to checkpoint (500)\n"
    "  -h, --help            show this\n"
    "\n"
    "The loss of a line is the mean over the steps since the line before, the\n"
    "validation loss that of the model as it is then. Both are in nats a "
    "token.\n";

static int train(int argc, char **argv);

const cli_command cli_train = {"train", "train a GPT on a text", help, train};

/* ---- options ------------------------------------------------------------- */

enum {
  RESUME = TRAIN_FIRST_SETTING + TRAIN_SETTINGS,
  EXPORT,
  DTYPE,
  TOKENIZER,
  LOG,
  EPOCHS,
  EVAL_EVERY,
  SAVE_EVERY
};

static const struct option own_options[] = {
    CLI_OPTION_HELP,
    CLI_OPTION_DEVICE,
    {"out", required_argument, NULL, 'o'},
    {"resume", no_argument, NULL, RESUME},
    {"export", required_argument, NULL, EXPORT},
    {"dtype", required_argument, NULL, DTYPE},
    {"tokenizer", required_argument, NULL, TOKENIZER},
    {"log", required_argument, NULL, LOG},
    {"epochs", required_argument, NULL, EPOCHS},
    {"eval-every", required_argument, NULL, EVAL_EVERY},
    {"save-every", required_argument, NULL, SAVE_EVERY},
};
enum { OWN_OPTIONS = sizeof own_options / sizeof *own_options };

static bool set_option(train_options *o, int option, const char *text) {
  const int64_t most = (int64_t)1 << 40;
  switch (option) {
    case 'd':
      o->device = text;
      return true;
    case 'o':
      o->out = text;
      return true;
    case RESUME:
      return o->resume = true;
    case EXPORT:
      o->export = text;
      return true;
    case DTYPE:
      return cli_dtype(&cli_train, text, &o->dtype);
    case TOKENIZER:
      o->tokenizer = text;
      return true;
    case LOG:
      o->log = text;
      return true;
    case EPOCHS:
      return cli_number(&cli_train, "--epochs", text, 1, 1 << 30, &o->epochs);
    case EVAL_EVERY:
      return cli_number(&cli_train, "--eval-every", text, 1, most,
                        &o->eval_every);
    case SAVE_EVERY:
      return cli_number(&cli_train, "--save-every", text, 1, most,
                        &o->save_every);
    default:
      return train_setting_parse(o, option - TRAIN_FIRST_SETTING, text);
  }
}

/* What was left open follows from the rest. */
static void complete(train_options *o, const train_data *data) {
  train_settings *s = &o->settings;
  if (o->epochs > 0) {
    const int64_t batches = o->epochs * clattn_kit_loader_batches(data->loader);
    s->steps = (batches + s->accumulate - 1) / s->accumulate;
  }
  if (isnan(s->min_lr)) s->min_lr = s->lr / 10;
  if (s->warmup < 0) s->warmup = s->steps / 20;
}

static int check(const train_options *o) {
  const train_settings *s = &o->settings;
  if (s->embed % s->heads != 0)
    return cli_usage(&cli_train, "--heads: got %lld, want a divisor of %lld",
                     (long long)s->heads, (long long)s->embed);
  if (s->warmup > s->steps && s->steps > 0)
    return cli_usage(&cli_train,
                     "--warmup: got %lld, want at most %lld, the "
                     "steps",
                     (long long)s->warmup, (long long)s->steps);
  if (s->min_lr > s->lr)
    return cli_usage(&cli_train, "--min-lr: got %g, want at most %g, --lr",
                     s->min_lr, s->lr);
  return CLI_OK;
}

static int parse(int argc, char **argv, train_options *o) {
  struct option options[OWN_OPTIONS + TRAIN_SETTINGS + 1] = {0};
  memcpy(options, own_options, sizeof own_options);
  for (int i = 0; i < TRAIN_SETTINGS; i++)
    options[OWN_OPTIONS + i] = train_setting_option(i);
  int status = CLI_OK;
  for (int option;
       (option = cli_option(&cli_train, argc, argv, options, &status)) != -1;) {
    if (option == '?') return status == CLI_OK ? -1 : status; /* --help */
    if (!set_option(o, option, optarg)) return CLI_USAGE;
  }
  if (o->tokenizer != NULL && o->resume)
    return cli_usage(&cli_train,
                     "--tokenizer: --resume takes that of the checkpoint");
  if (o->tokenizer != NULL && (o->given >> TRAIN_TOKENS & 1) != 0)
    return cli_usage(&cli_train, "--tokenizer: want it without --tokens");
  if (o->tokenizer != NULL) o->settings.tokens = TRAIN_TOKENIZER;
  if (o->resume && optind == argc)
    return cli_usage(&cli_train,
                     "train: want one TEXT, the one the run began with");
  if (optind != argc - 1)
    return cli_usage(&cli_train, "train: got %d texts, want one",
                     argc - optind);
  o->text = argv[optind];
  if (o->settings.stride == 0)
    o->settings.stride = o->settings.context > 4 ? o->settings.context / 4 : 1;
  return CLI_OK;
}

/* ---- Ctrl-C -------------------------------------------------------------- */

static volatile sig_atomic_t stopped;

static void stop(int signal) { stopped = signal; }

/* The first asks to stop, the second ends the process. */
static void catch_signals(void) {
  struct sigaction action = {.sa_handler = stop};
  sigemptyset(&action.sa_mask);
  action.sa_flags = (int)SA_RESETHAND | SA_RESTART;
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
}

/* ---- the run ------------------------------------------------------------- */

typedef struct run {
  const train_options *options;
  train_data *data;
  train_model *model;
  train_report report;
  int32_t *inputs, *targets; /* [batch, context] */
} run;

static bool ok(run *r, clattn_status status) {
  if (status == CLATTN_OK) return true;
  train_report_clear(&r->report);
  cli_error("%s", clattn_error_message());
  return false;
}

/* The next batch, in the next epoch if this one is over. */
static bool next_batch(run *r, int64_t *windows) {
  clattn_kit_loader *loader = r->data->loader;
  if (!ok(r, clattn_kit_loader_next(loader, r->inputs, r->targets, windows)))
    return false;
  if (*windows > 0) return true;
  return ok(r, clattn_kit_loader_rewind(loader)) &&
         ok(r, clattn_kit_loader_next(loader, r->inputs, r->targets, windows));
}

static bool one_step(run *r, int64_t step, double *lr, double *loss) {
  const train_settings *s = &r->options->settings;
  *lr = clattn_nn_cosine_lr(step, s->warmup, s->steps, (float)s->lr,
                            (float)s->min_lr);
  *loss = 0;
  for (int64_t i = 0; i < s->accumulate; i++) {
    int64_t windows;
    float part;
    if (!next_batch(r, &windows) ||
        !ok(r, clattn_gpt_trainer_gradients(r->model->trainer, r->model->queue,
                                            r->inputs, r->targets, windows,
                                            s->context, &part)))
      return false;
    *loss += part / (double)s->accumulate;
  }
  return ok(r, clattn_gpt_trainer_update(r->model->trainer, r->model->queue,
                                         (float)*lr, NULL));
}

/* The mean loss over all windows for validation; NaN without them. */
static bool validate(run *r, double *loss) {
  clattn_kit_loader *loader = r->data->validation;
  *loss = NAN;
  if (loader == NULL) return true;
  if (!ok(r, clattn_kit_loader_rewind(loader))) return false;
  double sum = 0;
  int64_t count = 0, windows;
  for (;;) {
    float part;
    if (!ok(r, clattn_kit_loader_next(loader, r->inputs, r->targets, &windows)))
      return false;
    if (windows == 0) break;
    if (!ok(r, clattn_gpt_trainer_loss(r->model->trainer, r->model->queue,
                                       r->inputs, r->targets, windows,
                                       r->options->settings.context, &part)))
      return false;
    sum += part * (double)windows;
    count += windows;
  }
  *loss = sum / (double)count;
  return true;
}

static bool save(run *r) {
  const double begin = cli_seconds();
  train_report_clear(&r->report);
  const bool saved = train_checkpoint_save(r->options, r->data, r->model);
  train_report_pause(&r->report, cli_seconds() - begin);
  return saved;
}

static bool steps(run *r) {
  const train_options *o = r->options;
  const int64_t last = o->settings.steps;
  int64_t step = clattn_gpt_trainer_step(r->model->trainer);
  bool stop_now = false;
  while (step < last && !stop_now) {
    double lr, loss, validation = NAN;
    const double begin = cli_seconds();
    if (!one_step(r, step, &lr, &loss)) return false;
    const double end = cli_seconds();
    step++;
    if ((step % o->eval_every == 0 || step == last) &&
        !validate(r, &validation))
      return false;
    train_report_pause(&r->report, cli_seconds() - end);
    if (!train_report_step(&r->report, step, loss, validation, lr, end - begin))
      return false;
    stop_now = stopped != 0; /* one answer for both: what ends here is saved */
    if ((step % o->save_every == 0 || step == last || stop_now) && !save(r))
      return false;
  }
  if (step < last) {
    cli_error("stopped at step %lld; --resume continues %s", (long long)step,
              o->out);
    return false;
  }
  return true;
}

static void introduce(const run *r) {
  const train_settings *s = &r->options->settings;
  const int64_t step = clattn_gpt_trainer_step(r->model->trainer);
  static const char *const names[] = {"characters", "words", "tokens"};
  char label[160];
  cli_device_label(r->model->context, r->model->device, label, sizeof label);
  printf("%s: %lld %s, %ld different; %lld windows for training\n",
         r->options->text, (long long)r->data->tokens.n, names[s->tokens],
         (long)clattn_tokenizer_size(r->data->tokenizer),
         (long long)clattn_kit_loader_windows(r->data->loader));
  printf(
      "%lld layers, %lld heads, %lld columns, context %lld: %lld parameters, "
      "on "
      "%s\n",
      (long long)s->layers, (long long)s->heads, (long long)s->embed,
      (long long)s->context, (long long)clattn_gpt_parameters(r->model->gpt),
      label);
  if (r->options->resume && step >= s->steps)
    printf("%s: already at step %lld of %lld: --steps raises it\n",
           r->options->out, (long long)step, (long long)s->steps);
  else if (r->options->resume)
    printf("%s: continues at step %lld\n", r->options->out, (long long)step);
  fflush(stdout);
}

/* What there is now, and what to do with it. */
static void conclude(const train_options *o, bool trained) {
  const char *const files[] = {trained ? o->out : NULL, o->export,
                               trained ? o->log : NULL};
  int n = 0;
  for (size_t i = 0; i < sizeof files / sizeof *files; i++)
    if (files[i] != NULL) printf("%s%s", n++ ? ", " : "wrote ", files[i]);
  if (n > 0)
    printf("; try: clattn generate %s \"...\"\n", trained ? o->out : o->export);
}

static bool run_all(run *r) {
  const train_settings *s = &r->options->settings;
  const bool finished = r->options->resume &&
                        clattn_gpt_trainer_step(r->model->trainer) >= s->steps;
  introduce(r);
  const size_t n = (size_t)(s->batch * s->context);
  r->inputs = calloc(n, sizeof *r->inputs);
  r->targets = calloc(n, sizeof *r->targets);
  if (r->inputs == NULL || r->targets == NULL) {
    cli_error("no memory for a batch");
    return false;
  }
  /* What cannot be written is found before anything is computed. */
  if (!r->options->resume && !save(r)) return false;
  if (!train_report_begin(&r->report, r->options,
                          clattn_gpt_trainer_step(r->model->trainer), s->steps,
                          s->batch * s->accumulate * s->context))
    return false;
  catch_signals();
  bool done = steps(r);
  done = train_report_end(&r->report) && done;
  if (done && r->options->export != NULL)
    done = train_export(r->options, r->data, r->model);
  if (done) conclude(r->options, !finished);
  return done;
}

/* One file for two purposes would be lost to the second. */
static bool all_differ(const train_options *o) {
  const struct {
    const char *name, *path;
  } files[] = {{"TEXT", strcmp(o->text, "-") == 0 ? NULL : o->text},
               {"--out", o->out},
               {"--export", o->export},
               {"--log", o->log}};
  for (size_t i = 0; i < sizeof files / sizeof *files; i++)
    for (size_t j = 0; j < i; j++)
      if (cli_same_file(files[i].path, files[j].path)) {
        cli_error("%s: got %s, want another file than %s", files[i].name,
                  files[i].path, files[j].name);
        return false;
      }
  for (size_t i = 1; i < sizeof files / sizeof *files; i++)
    if (!cli_not_read(files[i].name, files[i].path, o->tokenizer)) return false;
  return true;
}

static int start(train_options *o, train_data *data, train_model *model,
                 clattn_kit_safetensors **file) {
  if (!all_differ(o)) return CLI_FAILED;
  if (!cli_writable(o->out, true) || !cli_writable(o->export, true) ||
      !cli_writable(o->log, false))
    return CLI_FAILED;
  if (o->resume && (*file = train_checkpoint_open(o)) == NULL)
    return CLI_FAILED;
  if (!train_data_read(o, *file, data) ||
      (*file != NULL && !train_checkpoint_check(o, data, *file)) ||
      !train_data_windows(o, data))
    return CLI_FAILED;
  complete(o, data);
  const int status = check(o);
  if (status != CLI_OK) return status;
  if (!train_model_make(o, data, *file, model)) return CLI_FAILED;
  /* Last, so that neither of its ways out leads to another mistake. */
  if (!o->resume && access(o->out, F_OK) == 0) {
    cli_error(
        "%s: is there already; --resume continues it, or choose another --out",
        o->out);
    return CLI_FAILED;
  }
  clattn_kit_safetensors_destroy(*file); /* it is about to be replaced */
  *file = NULL;
  run r = {.options = o, .data = data, .model = model};
  const bool done = run_all(&r);
  train_report_end(&r.report);
  free(r.inputs);
  free(r.targets);
  return done ? CLI_OK : CLI_FAILED;
}

static int train(int argc, char **argv) {
  train_options o = {.out = "gpt.safetensors",
                     .dtype = CLATTN_F32,
                     .eval_every = 100,
                     .save_every = 500,
                     .settings = {.layers = 4,
                                  .heads = 4,
                                  .embed = 128,
                                  .context = 128,
                                  .batch = 8,
                                  .accumulate = 1,
                                  .steps = 2000,
                                  .warmup = -1,
                                  .seed = 1,
                                  .lr = 1e-3,
                                  .min_lr = NAN,
                                  .weight_decay = 0.1,
                                  .clip = 1,
                                  .validation = 0.1}};
  const int status = parse(argc, argv, &o);
  if (status != CLI_OK) return status < 0 ? CLI_OK : status;
  train_data data = {0};
  train_model model = {0};
  clattn_kit_safetensors *file = NULL;
  const int result = start(&o, &data, &model, &file);
  clattn_kit_safetensors_destroy(file);
  train_model_free(&model);
  train_data_free(&data);
  return result;
}
