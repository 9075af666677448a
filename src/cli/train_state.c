/* train_state.c - the model in training, and checkpoints of it.
 *
 * A checkpoint is what the rest of the run depends on: parameters, moments and
 * counters (clattn_gpt_trainer_save), the vocabulary, the settings, which text,
 * and where in the shuffled order the next batch is. Nothing in it depends on
 * time or path, so that equal runs make equal files. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train.h"

static const char text_key[] = "train.text", epoch_key[] = "train.epoch",
                  batch_key[] = "train.batch_of_epoch";

static bool ok(clattn_status status) {
  if (status != CLATTN_OK) cli_error("%s", clattn_error_message());
  return status == CLATTN_OK;
}

static bool ok_with(const char *path, clattn_status status) {
  if (status == CLATTN_OK) return true;
  const char *message = clattn_error_message();
  if (strncmp(message, path, strlen(path)) == 0)
    cli_error("%s", message); /* it names the path itself */
  else
    cli_error("%s: %s", path, message);
  return false;
}

/* ---- the model ----------------------------------------------------------- */

static bool seek(const train_options *options, train_data *data,
                 const clattn_kit_safetensors *file) {
  const char *const keys[] = {epoch_key, batch_key, "gpt.calls"};
  int64_t numbers[3];
  for (int i = 0; i < 3; i++) {
    const char *text = clattn_kit_safetensors_metadata(file, keys[i]);
    char *end = NULL;
    errno = 0;
    numbers[i] = text == NULL ? -1 : strtoll(text, &end, 10);
    if (text == NULL || end == text || *end != '\0' || errno != 0) {
      cli_error("%s: no number in metadata %s", options->out, keys[i]);
      return false;
    }
  }
  /* A place that was never reached would be looked for for years. */
  const int64_t batches = clattn_kit_loader_batches(data->loader);
  if (numbers[0] < 0 || numbers[0] > numbers[2] / batches ||
      numbers[0] * batches + numbers[1] != numbers[2]) {
    cli_error(
        "%s: its place, batch %lld of epoch %lld, is not where %lld "
        "batches end",
        options->out, (long long)numbers[1], (long long)numbers[0],
        (long long)numbers[2]);
    return false;
  }
  return ok_with(options->out,
                 clattn_kit_loader_seek(data->loader, numbers[0], numbers[1]));
}

static bool make_gpt(const train_options *options, const train_data *data,
                     const clattn_kit_safetensors *file, train_model *model) {
  const train_settings *s = &options->settings;
  if (file != NULL)
    return ok_with(options->out,
                   clattn_gpt_load(model->context, model->device, model->queue,
                                   file, &model->gpt));
  clattn_gpt_config config;
  clattn_gpt_config_init(&config);
  config.vocab_size = clattn_tokenizer_size(data->tokenizer);
  config.context = s->context;
  config.layers = s->layers;
  config.heads = s->heads;
  config.embed_dim = s->embed;
  config.dropout = (float)s->dropout;
  return ok(clattn_gpt_create(model->context, model->device, model->queue,
                              &config, (uint32_t)s->seed, &model->gpt));
}

/* The file's tensors must be what its settings say. */
static bool fits(const train_options *options, const train_data *data,
                 const train_model *model) {
  const train_settings *s = &options->settings;
  clattn_gpt_config config;
  if (!ok(clattn_gpt_get_config(model->gpt, &config))) return false;
  if (config.vocab_size == clattn_tokenizer_size(data->tokenizer) &&
      config.context == s->context && config.layers == s->layers &&
      config.heads == s->heads && config.embed_dim == s->embed &&
      config.dropout == (float)s->dropout)
    return true;
  cli_error("%s: its model is not of the sizes its settings say", options->out);
  return false;
}

bool train_model_make(const train_options *options, train_data *data,
                      const clattn_kit_safetensors *file, train_model *model) {
  const train_settings *s = &options->settings;
  if (!cli_context(options->device, &model->context, &model->device) ||
      !ok(clattn_queue_create(model->context, model->device, &model->queue)) ||
      !make_gpt(options, data, file, model) || !fits(options, data, model))
    return false;
  clattn_gpt_trainer_config config;
  clattn_gpt_trainer_config_init(&config);
  config.batch = s->batch;
  config.micro = s->accumulate;
  config.weight_decay = (float)s->weight_decay;
  config.clip = (float)s->clip;
  config.dropout_seed = (uint64_t)s->seed;
  if (!ok(clattn_gpt_trainer_create(model->gpt, model->queue, &config,
                                    &model->trainer)))
    return false;
  return file == NULL ||
         (ok_with(options->out, clattn_gpt_trainer_load(model->trainer,
                                                        model->queue, file)) &&
          seek(options, data, file));
}

void train_model_free(train_model *model) {
  clattn_gpt_trainer_destroy(model->trainer);
  clattn_gpt_destroy(model->gpt);
  clattn_queue_destroy(model->queue);
  clattn_context_destroy(model->context);
  *model = (train_model){0};
}

/* ---- reading ------------------------------------------------------------- */

clattn_kit_safetensors *train_checkpoint_open(train_options *options) {
  clattn_kit_safetensors *file = NULL;
  if (!ok_with(options->out, clattn_kit_safetensors_open(options->out, &file)))
    return NULL;
  if (train_settings_resume(options, file)) return file;
  clattn_kit_safetensors_destroy(file);
  return NULL;
}

bool train_checkpoint_check(const train_options *options,
                            const train_data *data,
                            const clattn_kit_safetensors *file) {
  const char *text = clattn_kit_safetensors_metadata(file, text_key);
  if (text != NULL && strcmp(text, data->hash) == 0) return true;
  cli_error("%s: was begun with another text (%.47s) than %s (%s)",
            options->out, text ? text : "unknown", options->text, data->hash);
  return false;
}

/* ---- writing ------------------------------------------------------------- */

bool train_checkpoint_save(const train_options *options, const train_data *data,
                           const train_model *model) {
  char texts[TRAIN_SETTINGS][TRAIN_TEXT_CHARS], epoch[24], batch[24];
  clattn_kit_metadata entries[TRAIN_SETTINGS + 4];
  train_settings_describe(&options->settings, texts, entries);
  int64_t at_epoch, at_batch;
  clattn_kit_tensor vocabulary;
  char *vocabulary_text;
  if (!ok(clattn_kit_loader_tell(data->loader, &at_epoch, &at_batch)) ||
      !ok(clattn_tokenizer_describe(data->tokenizer, &vocabulary,
                                    &entries[TRAIN_SETTINGS],
                                    &vocabulary_text)))
    return false;
  snprintf(epoch, sizeof epoch, "%lld", (long long)at_epoch);
  snprintf(batch, sizeof batch, "%lld", (long long)at_batch);
  entries[TRAIN_SETTINGS + 1] = (clattn_kit_metadata){epoch_key, epoch};
  entries[TRAIN_SETTINGS + 2] = (clattn_kit_metadata){batch_key, batch};
  entries[TRAIN_SETTINGS + 3] = (clattn_kit_metadata){text_key, data->hash};
  const bool done = ok_with(
      options->out,
      clattn_gpt_trainer_save(model->trainer, model->queue, options->out,
                              &vocabulary, 1, entries, TRAIN_SETTINGS + 4));
  free(vocabulary_text);
  return done;
}

bool train_export(const train_options *options, const train_data *data,
                  const train_model *model) {
  clattn_kit_tensor vocabulary;
  clattn_kit_metadata kind;
  char *text;
  if (!ok(clattn_tokenizer_describe(data->tokenizer, &vocabulary, &kind,
                                    &text)))
    return false;
  const bool done =
      ok_with(options->export,
              clattn_gpt_save(model->gpt, model->queue, options->export,
                              options->dtype, &vocabulary, 1, &kind, 1));
  free(text);
  return done;
}
