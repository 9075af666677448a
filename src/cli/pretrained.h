/* pretrained.h - a pre-trained model with its tokenizer, for commands. */
#ifndef CLATTN_SRC_CLI_PRETRAINED_H
#define CLATTN_SRC_CLI_PRETRAINED_H

#include "clattn_model.h"
#include "cli.h"

typedef struct pretrained {
  clattn_context *context;
  int device;
  clattn_queue *queue;
  clattn_model *model;
  clattn_tokenizer *tokenizer;
  clattn_model_config config;
} pretrained;

/* From a folder or a file, both parts; device as --device has it. Prints what
 * failed; _free is due either way. */
bool pretrained_load(const char *path, const char *device,
                     clattn_path attention, pretrained *model);
void pretrained_free(pretrained *model);

/* Prints the library's message unless the status is OK. */
bool pretrained_ok(clattn_status status);

#endif
