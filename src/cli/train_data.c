/* train_data.c - the text as tokens: for training its first part in shuffled
 * windows, for validation the rest in order. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "train.h"

static bool ok(const char *path, clattn_status status) {
  if (status != CLATTN_OK) cli_error("%s: %s", path, clattn_error_message());
  return status == CLATTN_OK;
}

/* FNV-1a: enough to tell a text from another one. */
static uint64_t hash(const char *text, size_t size_bytes) {
  uint64_t h = 0xcbf29ce484222325u;
  for (size_t i = 0; i < size_bytes; i++)
    h = (h ^ (unsigned char)text[i]) * 0x100000001b3u;
  return h;
}

/* The text's own vocabulary, or one that was made before. */
static bool make_tokenizer(const train_options *o,
                           const clattn_kit_safetensors *file, const char *text,
                           size_t size_bytes, clattn_tokenizer **tokenizer) {
  if (o->settings.tokens != TRAIN_TOKENIZER)
    return ok(o->text, clattn_tokenizer_from_text(
                           (clattn_tokenizer_kind)o->settings.tokens, text,
                           size_bytes, tokenizer));
  if (file != NULL)
    return ok(o->out, clattn_tokenizer_from_safetensors(file, tokenizer));
  if (clattn_tokenizer_load(o->tokenizer, NULL, tokenizer) == CLATTN_OK)
    return true;
  cli_error("--tokenizer: %s", clattn_error_message());
  return false;
}

bool train_data_read(const train_options *options,
                     const clattn_kit_safetensors *file, train_data *data) {
  clattn_encode_options plain;
  clattn_encode_options_init(&plain);
  plain.add_special = false;
  size_t size_bytes;
  char *text = cli_read_file(options->text, &size_bytes);
  if (text == NULL) return false;
  snprintf(data->hash, sizeof data->hash, "%zu bytes, %016" PRIx64, size_bytes,
           hash(text, size_bytes));
  const bool done =
      make_tokenizer(options, file, text, size_bytes, &data->tokenizer) &&
      ok(options->text,
         clattn_tokenizer_encode(data->tokenizer, text, size_bytes, &plain,
                                 &data->tokens));
  free(text);
  return done;
}

static bool enough(const train_options *options, const char *what, int64_t n) {
  const long long context = (long long)options->settings.context;
  if (n > context) return true;
  cli_error(
      "%s: %lld tokens%s are too few for a window of %lld and the token after "
      "it; see --context and --validation",
      options->text, (long long)n, what, context);
  return false;
}

bool train_data_windows(const train_options *options, train_data *data) {
  const train_settings *s = &options->settings;
  const int64_t rest = (int64_t)((double)data->tokens.n * s->validation);
  data->training = data->tokens.n - rest;
  if (!enough(options, rest > 0 ? " for training" : "", data->training) ||
      (rest > 0 && !enough(options, " for validation", rest)))
    return false;
  clattn_kit_loader_config config;
  clattn_kit_loader_config_init(&config);
  config.length = s->context;
  config.stride = s->stride;
  config.batch = s->batch;
  config.seed = (uint32_t)s->seed;
  if (!ok(options->text,
          clattn_kit_loader_create(&config, data->tokens.ids, data->training,
                                   &data->loader)))
    return false;
  if (clattn_kit_loader_batches(data->loader) == 0) {
    cli_error(
        "%s: %lld windows are too few for a batch of %lld; see --batch "
        "and --stride",
        options->text, (long long)clattn_kit_loader_windows(data->loader),
        (long long)s->batch);
    return false;
  }
  if (rest == 0) return true;
  config.stride = s->context;
  config.shuffle = config.drop_last = false;
  return ok(options->text,
            clattn_kit_loader_create(&config, data->tokens.ids + data->training,
                                     rest, &data->validation));
}

void train_data_free(train_data *data) {
  clattn_kit_loader_destroy(data->loader);
  clattn_kit_loader_destroy(data->validation);
  clattn_encoding_free(&data->tokens);
  clattn_tokenizer_destroy(data->tokenizer);
  *data = (train_data){0};
}
