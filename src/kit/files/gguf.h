/* gguf.h - a GGUF file: metadata and tensors in one. */
#ifndef CLATTN_SRC_KIT_GGUF_H
#define CLATTN_SRC_KIT_GGUF_H

#include "clattn_model.h"
#include "kit/kit.h"

typedef struct kit_gguf kit_gguf;

/* Maps a file and checks all of it; IO_ERROR says what is wrong. */
clattn_status kit_gguf_open(const char *path, kit_gguf **gguf);
void kit_gguf_destroy(kit_gguf *gguf);

/* [count], in the file's order. */
const clattn_weights_tensor *kit_gguf_tensors(const kit_gguf *gguf,
                                              size_t *count);

/* As clattn_weights_text and its neighbours. */
const char *kit_gguf_text(const kit_gguf *gguf, const char *key);
bool kit_gguf_number(const kit_gguf *gguf, const char *key, double *number);
size_t kit_gguf_list(const kit_gguf *gguf, const char *key);
const char *kit_gguf_list_text(const kit_gguf *gguf, const char *key, size_t i,
                               size_t *size_bytes);
bool kit_gguf_list_number(const kit_gguf *gguf, const char *key, size_t i,
                          double *number);

#endif
