/* train_settings.c - one table of what training depends on: it makes the
 * options, the metadata of checkpoints, and what --resume compares. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train.h"

typedef struct setting {
  const char *name; /* of the option, and behind "train." in metadata */
  const char *key;
  size_t offset;
  bool decimal;
  double min, max;
} setting;

#define WHOLE(name, field, min, max)                                           \
  { name, "train." name, offsetof(train_settings, field), false, min, max }
#define DECIMAL(name, field, min, max)                                         \
  { name, "train." name, offsetof(train_settings, field), true, min, max }

const char *const train_token_kinds[] = {"chars", "words", "tokenizer", NULL};
static const char *const token_words[] = {"chars", "words", NULL};
enum { TOKENS = TRAIN_TOKENS, STEPS = 7 };

static const setting table[TRAIN_SETTINGS] = {
    WHOLE("layers", layers, 1, 1 << 12),
    WHOLE("heads", heads, 1, 1 << 16),
    WHOLE("embed", embed, 1, 1 << 18),
    WHOLE("context", context, 1, 1 << 20),
    WHOLE("batch", batch, 1, 1 << 20),
    WHOLE("stride", stride, 1, 1 << 20),
    WHOLE("accumulate", accumulate, 1, 1 << 20),
    [STEPS] = WHOLE("steps", steps, 0, 1e15),
    WHOLE("warmup", warmup, 0, 1e15),
    WHOLE("seed", seed, 0, UINT32_MAX),
    [TOKENS] = WHOLE("tokens", tokens, 0, TRAIN_TOKENIZER),
    DECIMAL("lr", lr, 0, 1e9),
    DECIMAL("min-lr", min_lr, 0, 1e9),
    DECIMAL("weight-decay", weight_decay, 0, 1e9),
    DECIMAL("clip", clip, 0, 1e9),
    DECIMAL("dropout", dropout, 0, 0.99),
    DECIMAL("validation", validation, 0, 0.9),
};

static int64_t *whole(train_settings *settings, int i) {
  return (int64_t *)((char *)settings + table[i].offset);
}

static double *decimal(train_settings *settings, int i) {
  return (double *)((char *)settings + table[i].offset);
}

struct option train_setting_option(int i) {
  return (struct option){table[i].name, required_argument, NULL,
                         TRAIN_FIRST_SETTING + i};
}

bool train_setting_parse(train_options *options, int i, const char *text) {
  const setting *s = &table[i];
  char option[24];
  snprintf(option, sizeof option, "--%s", s->name);
  options->given |= 1u << i;
  if (i == TOKENS) {
    const int choice = cli_choice(&cli_train, option, text, token_words);
    options->settings.tokens = choice;
    return choice >= 0;
  }
  if (s->decimal)
    return cli_decimal(&cli_train, option, text, s->min, s->max,
                       decimal(&options->settings, i));
  return cli_number(&cli_train, option, text, (int64_t)s->min, (int64_t)s->max,
                    whole(&options->settings, i));
}

static void write_one(const train_settings *settings, int i,
                      char text[TRAIN_TEXT_CHARS]) {
  const char *at = (const char *)settings + table[i].offset;
  if (table[i].decimal) {
    double value;
    memcpy(&value, at, sizeof value);
    snprintf(text, TRAIN_TEXT_CHARS, "%.17g", value);
    return;
  }
  int64_t value;
  memcpy(&value, at, sizeof value);
  if (i == TOKENS)
    snprintf(text, TRAIN_TEXT_CHARS, "%s", train_token_kinds[value]);
  else
    snprintf(text, TRAIN_TEXT_CHARS, "%lld", (long long)value);
}

void train_settings_describe(const train_settings *settings,
                             char texts[TRAIN_SETTINGS][TRAIN_TEXT_CHARS],
                             clattn_kit_metadata entries[TRAIN_SETTINGS]) {
  for (int i = 0; i < TRAIN_SETTINGS; i++) {
    write_one(settings, i, texts[i]);
    entries[i] = (clattn_kit_metadata){table[i].key, texts[i]};
  }
}

/* A setting as a checkpoint has it; false where it is not one. */
static bool read_one(train_settings *settings, int i, const char *text) {
  char *end;
  double value; /* out of range is infinite, or so small as is right */
  if (i == TOKENS) {
    int kind = 0;
    while (train_token_kinds[kind] &&
           strcmp(text, train_token_kinds[kind]) != 0)
      kind++;
    if (train_token_kinds[kind] == NULL) return false;
    value = kind;
    end = "";
  } else {
    value = strtod(text, &end);
  }
  if (end == text || *end != '\0' ||
      !(value >= table[i].min && value <= table[i].max))
    return false;
  if (table[i].decimal)
    *decimal(settings, i) = value;
  else
    *whole(settings, i) = (int64_t)value;
  return true;
}

bool train_settings_resume(train_options *options,
                           const clattn_kit_safetensors *file) {
  for (int i = 0; i < TRAIN_SETTINGS; i++) {
    const char *text = clattn_kit_safetensors_metadata(file, table[i].key);
    train_settings kept = options->settings;
    if (text == NULL || !read_one(&kept, i, text)) {
      cli_error("%s: not a checkpoint of `clattn train`: metadata %s %s%.40s",
                options->out, table[i].key, text ? "is " : "is not there",
                text ? text : "");
      return false;
    }
    char was[TRAIN_TEXT_CHARS], is[TRAIN_TEXT_CHARS];
    write_one(&kept, i, was);
    write_one(&options->settings, i, is);
    const bool given = (options->given >> i & 1) != 0;
    if (given && i != STEPS && strcmp(was, is) != 0) {
      cli_error("--%s: got %s, but %s was begun with %s", table[i].name, is,
                options->out, was);
      return false;
    }
    if (!given) options->settings = kept;
  }
  return true;
}
