/* pretrained.c - a pre-trained model with its tokenizer, for commands. */
#include "pretrained.h"

bool pretrained_ok(clattn_status status) {
  if (status != CLATTN_OK) cli_error("%s", clattn_error_message());
  return status == CLATTN_OK;
}

bool pretrained_load(const char *path, const char *device,
                     clattn_path attention, pretrained *model) {
  clattn_model_options options;
  clattn_model_options_init(&options);
  options.path = attention;
  model->config.struct_size = sizeof model->config;
  /* The tokenizer first: what is wrong with it is found at once. */
  return pretrained_ok(clattn_tokenizer_load(path, NULL, &model->tokenizer)) &&
         cli_context(device, &model->context, &model->device) &&
         pretrained_ok(clattn_queue_create(model->context, model->device,
                                           &model->queue)) &&
         pretrained_ok(clattn_model_load(model->context, model->device,
                                         model->queue, path, &options,
                                         &model->model)) &&
         pretrained_ok(clattn_model_get_config(model->model, &model->config)) &&
         pretrained_ok(
             clattn_model_check_tokenizer(model->model, model->tokenizer));
}

void pretrained_free(pretrained *model) {
  clattn_model_destroy(model->model);
  clattn_tokenizer_destroy(model->tokenizer);
  clattn_queue_destroy(model->queue);
  clattn_context_destroy(model->context);
}
