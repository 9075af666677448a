/* gpt_file.c - a GPT's tensors and config in a safetensors file. */
#include "gpt.h"

enum { SETTINGS = 6 };

static void list_settings(clattn_gpt_config *c, kit_setting list[SETTINGS]) {
  const kit_setting all[SETTINGS] = {
      {"gpt.vocab_size", &c->vocab_size, NULL, 1, INT32_MAX},
      {"gpt.context", &c->context, NULL, 1, INT32_MAX},
      {"gpt.layers", &c->layers, NULL, 1, INT32_MAX},
      {"gpt.heads", &c->heads, NULL, 1, INT32_MAX},
      {"gpt.embed_dim", &c->embed_dim, NULL, 1, INT32_MAX},
      {"gpt.dropout", NULL, &c->dropout, 0, 0}};
  for (int i = 0; i < SETTINGS; i++) list[i] = all[i];
}

/* ---- writing ------------------------------------------------------------- */

clattn_status gpt_file_write(const clattn_gpt *gpt, clattn_queue *queue,
                             const char *path, const kit_params_part *parts,
                             size_t n_parts, const kit_file_more *more) {
  clattn_gpt_config config = gpt->config;
  kit_setting settings[SETTINGS];
  char texts[SETTINGS][KIT_NUMBER_CHARS];
  clattn_kit_metadata entries[SETTINGS];
  list_settings(&config, settings);
  kit_settings_write(settings, SETTINGS, texts, entries);
  return kit_params_save(&gpt->params, queue, path, parts, n_parts, entries,
                         SETTINGS, more);
}

clattn_status clattn_gpt_save(const clattn_gpt *gpt, clattn_queue *queue,
                              const char *path, clattn_dtype dtype,
                              const clattn_kit_tensor *more, size_t n_more,
                              const clattn_kit_metadata *metadata,
                              size_t n_metadata) {
  KIT_REQUIRE(gpt != NULL, "gpt: got NULL, want a model");
  KIT_TRY(kit_check_file_dtype(dtype));
  const kit_params_part part = {"", gpt->params.values, dtype};
  const kit_file_more besides = {more, n_more, metadata, n_metadata};
  return gpt_file_write(gpt, queue, path, &part, 1, &besides);
}

/* ---- reading ------------------------------------------------------------- */

clattn_status gpt_file_config(const clattn_kit_safetensors *file,
                              clattn_gpt_config *config) {
  clattn_gpt_config_init(config);
  kit_setting settings[SETTINGS];
  list_settings(config, settings);
  KIT_TRY(kit_settings_read(file, settings, SETTINGS));
  if (gpt_check_config(config) != CLATTN_OK)
    return clattn_set_error(CLATTN_IO_ERROR, "file: its metadata: %s",
                            clattn_error_message());
  return CLATTN_OK;
}

/* Before memory is taken for what the metadata says: is it there at all? */
static clattn_status check_size(const clattn_kit_safetensors *file,
                                const clattn_gpt_config *c) {
  KIT_TRY(kit_file_matrix(file, "wte.weight", c->vocab_size, c->embed_dim));
  KIT_TRY(kit_file_matrix(file, "wpe.weight", c->context, c->embed_dim));
  char name[KIT_PARAM_CHARS];
  snprintf(name, sizeof name, "h.%lld.attn.c_proj.weight",
           (long long)c->layers - 1);
  return kit_file_matrix(file, name, c->embed_dim, c->embed_dim);
}

clattn_status clattn_gpt_load(clattn_context *context, int device,
                              clattn_queue *queue,
                              const clattn_kit_safetensors *file,
                              clattn_gpt **gpt) {
  KIT_REQUIRE(gpt != NULL, "gpt: got NULL, want a place for the handle");
  *gpt = NULL;
  KIT_REQUIRE(queue != NULL, "queue: got NULL, want a queue");
  KIT_REQUIRE(file != NULL, "file: got NULL, want an open file");
  clattn_gpt_config config;
  KIT_TRY(gpt_file_config(file, &config));
  KIT_TRY(check_size(file, &config));
  clattn_gpt *made = NULL;
  KIT_TRY(gpt_new(context, device, &config, &made));
  const clattn_status status =
      kit_params_load(&made->params, queue, file, "", made->params.values);
  if (status != CLATTN_OK) {
    clattn_gpt_destroy(made);
    return status;
  }
  *gpt = made;
  return CLATTN_OK;
}
