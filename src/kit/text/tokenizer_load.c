/* tokenizer_load.c - finds what a path holds; the shared parts of reading. */
#define _POSIX_C_SOURCE 200809L
#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kit/files/file.h"
#include "tokenizer_file.h"

void clattn_tokenizer_config_init(clattn_tokenizer_config *config) {
  if (config == NULL) return;
  *config =
      (clattn_tokenizer_config){.struct_size = sizeof *config, .lowercase = -1};
}

/* ---- what readers share -------------------------------------------------- */

clattn_status tokenizer_file_bad(clattn_status status, const char *path,
                                 const char *format, ...) {
  char why[1024];
  va_list list;
  va_start(list, format);
  vsnprintf(why, sizeof why, format, list);
  va_end(list);
  return clattn_set_error(status, "%s: %s", path, why);
}

clattn_status tokenizer_file_failed(clattn_status status, const char *path) {
  if (status == CLATTN_INVALID_ARGUMENT) status = CLATTN_IO_ERROR;
  return tokenizer_file_bad(status, path, "%s", clattn_error_message());
}

/* ---- folders ------------------------------------------------------------- */

static const char safetensors[] = ".safetensors";

/* A model's weights alone are no tokenizer; what cannot be read says so later. */
static bool may_have_tokens(const char *path) {
  clattn_kit_safetensors *file;
  if (!kit_ends_with(path, safetensors) ||
      clattn_kit_safetensors_open(path, &file) != CLATTN_OK)
    return true;
  const bool has = tokenizer_in_safetensors(file);
  clattn_kit_safetensors_destroy(file);
  return has;
}

/* The one file of a folder with this ending that may have a tokenizer, to
 * free(); NULL: none. */
static clattn_status find_ending(const char *folder, const char *ending,
                                 char **path) {
  *path = NULL;
  DIR *open_folder = opendir(folder);
  if (open_folder == NULL) return CLATTN_OK;
  clattn_status status = CLATTN_OK;
  char *found = NULL;
  for (struct dirent *entry;
       status == CLATTN_OK && (entry = readdir(open_folder)) != NULL;) {
    if (!kit_ends_with(entry->d_name, ending)) continue;
    char *one = NULL;
    status = kit_path_join(folder, entry->d_name, &one);
    if (status == CLATTN_OK && !may_have_tokens(one)) {
      free(one);
      continue;
    }
    if (status == CLATTN_OK && found != NULL)
      status = FILE_BAD(folder,
                        "has several files *%s, want one of them as "
                        "the path",
                        ending);
    if (found == NULL)
      found = one;
    else
      free(one);
  }
  closedir(open_folder);
  if (status != CLATTN_OK) {
    free(found);
    return status;
  }
  *path = found;
  return CLATTN_OK;
}

static clattn_status load_json(const char *path, clattn_tokenizer **tokenizer) {
  json_t *json;
  KIT_TRY(kit_json_load(path, &json));
  const clattn_status status = tokenizer_load_json(path, json, tokenizer);
  json_decref(json);
  return status;
}

static clattn_status load_safetensors(const char *path,
                                      clattn_tokenizer **tokenizer) {
  clattn_kit_safetensors *file;
  KIT_TRY(clattn_kit_safetensors_open(path, &file));
  const clattn_status status =
      clattn_tokenizer_from_safetensors(file, tokenizer);
  clattn_kit_safetensors_destroy(file);
  return status == CLATTN_OK ? status : tokenizer_file_failed(status, path);
}

static const char *const bpe_pairs[][2] = {{"vocab.json", "merges.txt"},
                                           {"encoder.json", "vocab.bpe"}};
enum { N_BPE_PAIRS = sizeof bpe_pairs / sizeof *bpe_pairs };

/* A vocabulary's file with the merges beside it. */
static clattn_status load_bpe(const char *vocab, const char *merges_name,
                              const clattn_tokenizer_config *config,
                              clattn_tokenizer **tokenizer) {
  char *merges = NULL;
  KIT_TRY(kit_path_beside(vocab, merges_name, &merges));
  const clattn_status status =
      tokenizer_load_bpe(vocab, merges, config, tokenizer);
  free(merges);
  return status;
}

static clattn_status load_file(const char *path,
                               const clattn_tokenizer_config *config,
                               clattn_tokenizer **tokenizer) {
  for (int i = 0; i < N_BPE_PAIRS; i++)
    if (kit_ends_with(path, bpe_pairs[i][0]))
      return load_bpe(path, bpe_pairs[i][1], config, tokenizer);
  if (kit_ends_with(path, ".json")) return load_json(path, tokenizer);
  if (kit_ends_with(path, ".txt"))
    return tokenizer_load_wordpiece(path, config, tokenizer);
  if (kit_ends_with(path, ".tiktoken"))
    return tokenizer_load_tiktoken(path, config, tokenizer);
  if (kit_ends_with(path, ".gguf"))
    return tokenizer_load_gguf(path, config, tokenizer);
  if (kit_ends_with(path, safetensors))
    return load_safetensors(path, tokenizer);
  if (access(path, F_OK) != 0) return FILE_BAD(path, "%s", strerror(errno));
  return FILE_BAD(path,
                  "want tokenizer.json, vocab.json, encoder.json, "
                  "vocab.txt, *.tiktoken, *.gguf or *.safetensors");
}

/* The file of a folder that is read, to free(). */
static clattn_status choose(const char *folder, char **path) {
  static const char *const names[] = {"tokenizer.json", "vocab.json",
                                      "encoder.json", "vocab.txt"};
  static const char *const endings[] = {".tiktoken", ".gguf", safetensors};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    KIT_TRY(kit_path_join(folder, names[i], path));
    if (kit_path_is_file(*path)) return CLATTN_OK;
    free(*path);
  }
  for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
    KIT_TRY(find_ending(folder, endings[i], path));
    if (*path != NULL) return CLATTN_OK;
  }
  return FILE_BAD(folder,
                  "none of tokenizer.json, vocab.json, vocab.txt, "
                  "*.tiktoken, *.gguf is there");
}

static clattn_status check_config(const clattn_tokenizer_config *config) {
  KIT_REQUIRE_STRUCT(config, clattn_tokenizer_config);
  KIT_REQUIRE(config->lowercase >= -1 && config->lowercase <= 1,
              "config->lowercase: got %d, want -1, 0 or 1", config->lowercase);
  KIT_REQUIRE(config->n_specials == 0 ||
                  (config->specials != NULL && config->special_ids != NULL),
              "config->specials: got NULL, want %zu texts and their ids",
              config->n_specials);
  for (size_t i = 0; i < config->n_specials; i++)
    KIT_REQUIRE(config->specials[i] != NULL && config->specials[i][0] != '\0',
                "config->specials[%zu]: got none, want a text", i);
  return CLATTN_OK;
}

clattn_status clattn_tokenizer_load(const char *path,
                                    const clattn_tokenizer_config *config,
                                    clattn_tokenizer **tokenizer) {
  KIT_REQUIRE(tokenizer != NULL, "tokenizer: got NULL, want a place");
  *tokenizer = NULL;
  KIT_REQUIRE(path != NULL, "path: got NULL, want a file or folder");
  clattn_tokenizer_config defaults;
  clattn_tokenizer_config_init(&defaults);
  if (config == NULL) config = &defaults;
  KIT_TRY(check_config(config));
  if (!kit_path_is_folder(path)) return load_file(path, config, tokenizer);
  char *file = NULL;
  KIT_TRY(choose(path, &file));
  const clattn_status status = load_file(file, config, tokenizer);
  free(file);
  return status;
}
