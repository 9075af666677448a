/* tokens.h - the tokens of a side of a part. */
#ifndef CLATTN_SRC_KIT_ATTENTION_TOKENS_H
#define CLATTN_SRC_KIT_ATTENTION_TOKENS_H

#include "format.h"

/* INVALID_ARGUMENT unless texts are there and UTF-8, flags are 0 or 1, and places
 * lie in their text. where: "parts[0].rows". bytes [2]: of the text and of the
 * pair; -1: none, then any place will do. */
clattn_status attention_tokens_check(const clattn_attention_tokens *tokens,
                                     const char *where, const int64_t bytes[2]);

/* The tokens [n] that a tokenizer has for ids, as texts to write: bytes that are
 * not UTF-8 as "<E6 9D>", U+2400 for NUL. attention_texts_free is due. */
clattn_status attention_texts_make(const clattn_tokenizer *tokenizer,
                                   const int32_t *ids, int64_t n,
                                   char ***texts);
void attention_texts_free(char **texts, int64_t n);
/* A token's bytes as such a text, to free(); NULL: no memory. */
char *attention_text(const char *bytes, size_t n);

#endif
