/* gpt.h - what the sources of the GPT share. */
#ifndef CLATTN_SRC_GPT_H
#define CLATTN_SRC_GPT_H

#include "clattn_gpt.h"
#include "stack.h"

struct clattn_gpt {
  int users; /* the handle, trainers and decoders: the last one frees it */
  clattn_gpt_config config;
  kit_params params; /* the embeddings, then those of: */
  kit_stack stack;
  kit_pass *forward; /* of clattn_gpt_forward; NULL before the first */
};

clattn_status gpt_check_config(const clattn_gpt_config *config);
/* A model whose parameters are not set yet. */
clattn_status gpt_new(clattn_context *context, int device,
                      const clattn_gpt_config *config, clattn_gpt **gpt);
/* The config in the metadata (gpt_file.c). */
clattn_status gpt_file_config(const clattn_kit_safetensors *file,
                              clattn_gpt_config *config);
/* Its parts, and the caller's, to a file (gpt_file.c). */
clattn_status gpt_file_write(const clattn_gpt *gpt, clattn_queue *queue,
                             const char *path, const kit_params_part *parts,
                             size_t n_parts, const kit_file_more *more);

#endif
