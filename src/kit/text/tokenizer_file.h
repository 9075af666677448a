/* tokenizer_file.h - what the readers of tokenizer files share. */
#ifndef CLATTN_SRC_KIT_TOKENIZER_FILE_H
#define CLATTN_SRC_KIT_TOKENIZER_FILE_H

#include <jansson.h>

#include "kit/files/map.h"
#include "tokenizer.h"

/* Fails with IO_ERROR, the file, and what is wrong with it. */
#define FILE_BAD(path, ...)                                                    \
  tokenizer_file_bad(CLATTN_IO_ERROR, (path), __VA_ARGS__)
clattn_status tokenizer_file_bad(clattn_status status, const char *path,
                                 const char *format, ...)
#ifdef __GNUC__
    __attribute__((format(printf, 3, 4)))
#endif
    ;
/* What building a tokenizer said about a file: IO_ERROR unless it is memory, or
 * something that nothing here reads. */
clattn_status tokenizer_file_failed(clattn_status status, const char *path);

/* The vocabulary of a byte-level BPE model, an object of token to id. */
clattn_status bpe_read_vocab(clattn_tokenizer *t, const json_t *vocab);
/* One token of it. */
clattn_status bpe_read_token(clattn_tokenizer *t, int32_t id, const char *token,
                             size_t bytes);
/* A token as files spell it; -1: not there. */
int32_t bpe_find(const clattn_tokenizer *t, const char *token, size_t bytes);
/* Merge number `rank` of two tokens as files spell them. */
clattn_status bpe_read_merge(clattn_tokenizer *t, int32_t rank,
                             const char *left, size_t left_bytes,
                             const char *right, size_t right_bytes);
/* The same of one text with a space between. */
clattn_status bpe_read_merge_text(clattn_tokenizer *t, int32_t rank,
                                  const char *text, size_t bytes);
/* Merges are whatever makes a token of two; rank is the id. */
clattn_status bpe_merges_of_ranks(clattn_tokenizer *t);
/* Special if it is there: <|endoftext|> and the like. */
clattn_status bpe_add_specials(clattn_tokenizer *t);

/* ## and what else a WordPiece model needs; its vocabulary is there. */
clattn_status wordpiece_setup(clattn_tokenizer *t, const char *prefix,
                              const char *unknown);
/* [CLS] and the like, as far as they are there, and the template. */
clattn_status wordpiece_add_specials(clattn_tokenizer *t);

/* tokenizer.json as text, to free(). */
clattn_status tokenizer_to_json(const clattn_tokenizer *t, char **text);

/* Whether such a file says that it has a vocabulary. */
bool tokenizer_in_safetensors(const clattn_kit_safetensors *file);

/* ---- the readers --------------------------------------------------------- */

clattn_status tokenizer_load_json(const char *path, const json_t *json,
                                  clattn_tokenizer **tokenizer);
clattn_status tokenizer_load_bpe(const char *vocab_path,
                                 const char *merges_path,
                                 const clattn_tokenizer_config *config,
                                 clattn_tokenizer **tokenizer);
clattn_status tokenizer_load_tiktoken(const char *path,
                                      const clattn_tokenizer_config *config,
                                      clattn_tokenizer **tokenizer);
clattn_status tokenizer_load_wordpiece(const char *path,
                                       const clattn_tokenizer_config *config,
                                       clattn_tokenizer **tokenizer);
clattn_status tokenizer_load_gguf(const char *path,
                                  const clattn_tokenizer_config *config,
                                  clattn_tokenizer **tokenizer);

#endif
