/* seq2seq_file.c - an encoder-decoder's tensors and config in a safetensors file. */
#include "seq2seq.h"

enum { SETTINGS = 10, MARKS = 3 };

/* The ids of the marks are I32 in the config, I64 in marks. */
static void list_settings(clattn_seq2seq_config *c, int64_t marks[MARKS],
                          kit_setting list[SETTINGS]) {
  const kit_setting all[SETTINGS] = {
      {"seq2seq.vocab_size", &c->vocab_size, NULL, 1, INT32_MAX},
      {"seq2seq.max_source", &c->max_source, NULL, 1, INT32_MAX},
      {"seq2seq.max_target", &c->max_target, NULL, 1, INT32_MAX},
      {"seq2seq.layers", &c->layers, NULL, 1, INT32_MAX},
      {"seq2seq.heads", &c->heads, NULL, 1, INT32_MAX},
      {"seq2seq.embed_dim", &c->embed_dim, NULL, 1, INT32_MAX},
      {"seq2seq.pad", &marks[0], NULL, 0, INT32_MAX},
      {"seq2seq.begin", &marks[1], NULL, 0, INT32_MAX},
      {"seq2seq.end", &marks[2], NULL, 0, INT32_MAX},
      {"seq2seq.dropout", NULL, &c->dropout, 0, 0}};
  for (int i = 0; i < SETTINGS; i++) list[i] = all[i];
}

clattn_status clattn_seq2seq_save(const clattn_seq2seq *model,
                                  clattn_queue *queue, const char *path,
                                  clattn_dtype dtype,
                                  const clattn_kit_tensor *more, size_t n_more,
                                  const clattn_kit_metadata *metadata,
                                  size_t n_metadata) {
  KIT_REQUIRE(model != NULL, "model: got NULL, want a model");
  KIT_TRY(kit_check_file_dtype(dtype));
  clattn_seq2seq_config config = model->config;
  int64_t marks[MARKS] = {config.pad, config.begin, config.end};
  kit_setting settings[SETTINGS];
  char texts[SETTINGS][KIT_NUMBER_CHARS];
  clattn_kit_metadata entries[SETTINGS];
  list_settings(&config, marks, settings);
  kit_settings_write(settings, SETTINGS, texts, entries);
  const kit_params_part part = {"", model->params.values, dtype};
  const kit_file_more besides = {more, n_more, metadata, n_metadata};
  return kit_params_save(&model->params, queue, path, &part, 1, entries,
                         SETTINGS, &besides);
}

static clattn_status read_config(const clattn_kit_safetensors *file,
                                 clattn_seq2seq_config *config) {
  clattn_seq2seq_config_init(config);
  int64_t marks[MARKS];
  kit_setting settings[SETTINGS];
  list_settings(config, marks, settings);
  KIT_TRY(kit_settings_read(file, settings, SETTINGS));
  config->pad = (int32_t)marks[0];
  config->begin = (int32_t)marks[1];
  config->end = (int32_t)marks[2];
  if (seq2seq_check_config(config) != CLATTN_OK)
    return clattn_set_error(CLATTN_IO_ERROR, "file: its metadata: %s",
                            clattn_error_message());
  return CLATTN_OK;
}

/* Before memory is taken for what the metadata says: is it there at all? */
static clattn_status check_size(const clattn_kit_safetensors *file,
                                const clattn_seq2seq_config *c) {
  KIT_TRY(kit_file_matrix(file, "wte.weight", c->vocab_size, c->embed_dim));
  const char *const lasts[] = {"encoder.h.%lld.attn.c_proj.weight",
                               "decoder.h.%lld.cross.c_proj.weight"};
  for (int i = 0; i < 2; i++) {
    char name[KIT_PARAM_CHARS];
    snprintf(name, sizeof name, lasts[i], (long long)c->layers - 1);
    KIT_TRY(kit_file_matrix(file, name, c->embed_dim, c->embed_dim));
  }
  return CLATTN_OK;
}

clattn_status clattn_seq2seq_load(clattn_context *context, int device,
                                  clattn_queue *queue,
                                  const clattn_kit_safetensors *file,
                                  clattn_seq2seq **model) {
  KIT_REQUIRE(model != NULL, "model: got NULL, want a place for the handle");
  *model = NULL;
  KIT_REQUIRE(queue != NULL, "queue: got NULL, want a queue");
  KIT_REQUIRE(file != NULL, "file: got NULL, want an open file");
  clattn_seq2seq_config config;
  KIT_TRY(read_config(file, &config));
  KIT_TRY(check_size(file, &config));
  clattn_seq2seq *made = NULL;
  KIT_TRY(seq2seq_new(context, device, queue, &config, &made));
  const clattn_status status =
      kit_params_load(&made->params, queue, file, "", made->params.values);
  if (status != CLATTN_OK) {
    clattn_seq2seq_destroy(made);
    return status;
  }
  *model = made;
  return CLATTN_OK;
}
