/* train.h - the parts of `clattn train`. */
#ifndef CLATTN_SRC_CLI_TRAIN_H
#define CLATTN_SRC_CLI_TRAIN_H

#include "clattn_gpt.h"
#include "clattn_text.h"
#include "cli.h"

/* What a run depends on, and a checkpoint keeps. The numbers are those of the
 * table in train_settings.c. */
typedef struct train_settings {
  int64_t layers, heads, embed, context;
  int64_t batch, stride, accumulate, steps, warmup, seed, tokens;
  double lr, min_lr, weight_decay, clip, dropout, validation;
} train_settings;

typedef struct train_options {
  const char *text, *device, *out, *export, *log;
  const char *tokenizer; /* file or folder; NULL: made from the text */
  clattn_dtype dtype;    /* of export */
  int64_t epochs;        /* 0: by steps */
  int64_t eval_every, save_every;
  bool resume;
  train_settings settings;
  uint32_t given; /* bit i: setting i was on the command line */
} train_options;

/* ---- settings (train_settings.c) ----------------------------------------- */

enum { TRAIN_SETTINGS = 17, TRAIN_TOKENS = 10, TRAIN_FIRST_SETTING = 256 };

/* Setting i as an option of getopt: val TRAIN_FIRST_SETTING + i. */
struct option train_setting_option(int i);
/* Sets it; false after a message. */
bool train_setting_parse(train_options *options, int i, const char *text);
/* As metadata train.NAME; texts are what the entries point to. */
enum { TRAIN_TEXT_CHARS = 32 };
void train_settings_describe(const train_settings *settings,
                             char texts[TRAIN_SETTINGS][TRAIN_TEXT_CHARS],
                             clattn_kit_metadata entries[TRAIN_SETTINGS]);
/* Takes them from a file. What was given on the command line must agree, but for
 * steps, which then hold. False after a message. */
bool train_settings_resume(train_options *options,
                           const clattn_kit_safetensors *file);

/* ---- text (train_data.c) ------------------------------------------------- */

typedef struct train_data {
  clattn_tokenizer *tokenizer;
  clattn_encoding tokens; /* first those for training, then for validation */
  int64_t training;
  char hash[48];                          /* of the text */
  clattn_kit_loader *loader, *validation; /* validation NULL: none */
} train_data;

/* The kinds of tokens of settings.tokens, NULL behind the last. */
enum { TRAIN_CHARS, TRAIN_WORDS, TRAIN_TOKENIZER };
extern const char *const train_token_kinds[];
/* The text as tokens, with `file` (else NULL) by the vocabulary that it has.
 * False after a message. */
bool train_data_read(const train_options *options,
                     const clattn_kit_safetensors *file, train_data *data);
/* Once the settings are known: windows of both parts. */
bool train_data_windows(const train_options *options, train_data *data);
void train_data_free(train_data *data);

/* ---- checkpoints (train_state.c) ----------------------------------------- */

typedef struct train_model {
  clattn_context *context;
  int device;
  clattn_queue *queue;
  clattn_gpt *gpt;
  clattn_gpt_trainer *trainer;
} train_model;

/* A new model, or with `file` the one in it, and all of its state. */
bool train_model_make(const train_options *options, train_data *data,
                      const clattn_kit_safetensors *file, train_model *model);
void train_model_free(train_model *model);
/* Opens what --resume continues and takes its settings; NULL after a message. */
clattn_kit_safetensors *train_checkpoint_open(train_options *options);
/* False, with a message, unless it is of that text. */
bool train_checkpoint_check(const train_options *options,
                            const train_data *data,
                            const clattn_kit_safetensors *file);
bool train_checkpoint_save(const train_options *options, const train_data *data,
                           const train_model *model);
/* Weights and vocabulary alone. */
bool train_export(const train_options *options, const train_data *data,
                  const train_model *model);

/* ---- what is shown and logged (train_report.c) --------------------------- */

typedef struct train_report {
  FILE *log;
  const char *log_path;
  bool terminal, visible;
  int64_t step, steps, tokens; /* tokens: of a step */
  double start, last;          /* seconds: of training, of the last line */
  int64_t first, last_step;    /* steps at those times */
  double paused;     /* seconds since `start` that were not training */
  double loss_sum;   /* of the steps since the last line */
  double validation; /* NaN: none yet */
  double shown;
} train_report;

/* Opens the log, whose rows behind `step` are dropped, as a resumed run writes
 * them again. False after a message. */
bool train_report_begin(train_report *report, const train_options *options,
                        int64_t step, int64_t steps, int64_t tokens);
/* After each step. validation NaN: not measured. seconds: of the step. */
bool train_report_step(train_report *report, int64_t step, double loss,
                       double validation, double lr, double seconds);
/* What takes time and is not training. */
void train_report_pause(train_report *report, double seconds);
/* Takes the line on the terminal away. */
void train_report_clear(train_report *report);
bool train_report_end(train_report *report);

#endif
