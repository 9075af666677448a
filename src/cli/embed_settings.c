/* embed_settings.c - how a model wants its sentences embedded, from the files
 * that Sentence Transformers leaves in its folder. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "embed.h"

enum { PATH_BYTES = 4096 };

/* A JSON file of the folder: *json NULL if it is not there. */
static bool load(const char *folder, const char *name, json_t **json) {
  char path[PATH_BYTES];
  *json = NULL;
  if (snprintf(path, sizeof path, "%s/%s", folder, name) >= PATH_BYTES) {
    cli_error("%s: the path is too long", folder);
    return false;
  }
  FILE *file = fopen(path, "rb");
  if (file == NULL && (errno == ENOENT || errno == ENOTDIR)) return true;
  json_error_t error;
  if (file != NULL) *json = json_loadf(file, JSON_REJECT_DUPLICATES, &error);
  if (file == NULL)
    cli_error("%s: %s", path, strerror(errno));
  else if (*json == NULL)
    cli_error("%s:%d: not JSON: %s", path, error.line, error.text);
  if (file != NULL) fclose(file);
  return *json != NULL;
}

/* Of pooling modes the one that is true. */
static bool read_pooling(const char *folder, const char *module,
                         embed_settings *settings) {
  static const struct {
    const char *key;
    int pooling; /* -1: not computed here */
  } modes[] = {{"pooling_mode_mean_tokens", CLATTN_POOL_MEAN},
               {"pooling_mode_cls_token", CLATTN_POOL_FIRST},
               {"pooling_mode_lasttoken", CLATTN_POOL_LAST},
               {"pooling_mode_max_tokens", -1},
               {"pooling_mode_mean_sqrt_len_tokens", -1},
               {"pooling_mode_weightedmean_tokens", -1}};
  char name[PATH_BYTES];
  snprintf(name, sizeof name, "%s/config.json", module);
  json_t *json;
  if (!load(folder, name, &json)) return false;
  if (json == NULL) return true; /* the mean */
  int chosen = 0;
  bool known = true;
  for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
    if (!json_is_true(json_object_get(json, modes[i].key))) continue;
    chosen++;
    if (modes[i].pooling < 0) {
      cli_error("%s/%s: %s is not computed here", folder, name, modes[i].key);
      known = false;
    } else {
      settings->pooling = (clattn_model_pooling)modes[i].pooling;
    }
  }
  json_decref(json);
  if (known && chosen != 1)
    cli_error("%s/%s: %d pooling modes are true, want one", folder, name,
              chosen);
  return known && chosen == 1;
}

/* The steps that follow the model: pooling, normalisation. */
static bool read_modules(const char *folder, embed_settings *settings) {
  json_t *modules;
  if (!load(folder, "modules.json", &modules)) return false;
  if (modules == NULL) return read_pooling(folder, "1_Pooling", settings);
  settings->normalize = false;
  bool ok = true;
  size_t i;
  json_t *module;
  json_array_foreach(modules, i, module) {
    const char *type = json_string_value(json_object_get(module, "type"));
    const char *path = json_string_value(json_object_get(module, "path"));
    const char *dot = type == NULL ? NULL : strrchr(type, '.');
    const char *name = dot == NULL ? "" : dot + 1;
    if (strcmp(name, "Pooling") == 0) {
      ok = read_pooling(folder, path == NULL ? "1_Pooling" : path, settings);
    } else if (strcmp(name, "Normalize") == 0) {
      settings->normalize = true;
    } else if (strcmp(name, "Transformer") != 0) {
      cli_error("%s/modules.json: module '%s' is not computed here", folder,
                type == NULL ? "" : type);
      ok = false;
    }
    if (!ok) break;
  }
  json_decref(modules);
  return ok;
}

static bool read_length(const char *folder, embed_settings *settings) {
  json_t *json;
  if (!load(folder, "sentence_bert_config.json", &json)) return false;
  const json_t *length = json_object_get(json, "max_seq_length");
  const json_int_t tokens = json_integer_value(length);
  bool ok = true;
  if (length != NULL && !json_is_null(length)) {
    ok = json_is_integer(length) && tokens >= 1;
    if (!ok)
      cli_error(
          "%s/sentence_bert_config.json: max_seq_length is no whole number "
          "above 0",
          folder);
    else if (tokens < settings->max_tokens)
      settings->max_tokens = tokens;
  }
  json_decref(json);
  return ok;
}

bool embed_settings_read(const char *folder, const clattn_model_config *config,
                         embed_settings *settings) {
  *settings = (embed_settings){.pooling = CLATTN_POOL_MEAN,
                               .normalize = true,
                               .max_tokens = config->positions};
  return read_modules(folder, settings) && read_length(folder, settings);
}
