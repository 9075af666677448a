/* attend_text.c - a file's text as word tokens. */
#include "attend.h"

#include <stdlib.h>

bool attend_text_read(const char *path, attend_text *text) {
  *text = (attend_text){0};
  text->bytes = cli_read_file(path, &text->size_bytes);
  if (text->bytes == NULL) return false;
  if (clattn_tokenizer_from_text(CLATTN_TOKENIZER_WORDS, text->bytes,
                                 text->size_bytes,
                                 &text->tokenizer) == CLATTN_OK &&
      clattn_tokenizer_encode(text->tokenizer, text->bytes, text->size_bytes,
                              NULL, &text->tokens) == CLATTN_OK)
    return true;
  cli_error("%s: %s", path, clattn_error_message());
  return false;
}

void attend_text_free(attend_text *text) {
  clattn_encoding_free(&text->tokens);
  clattn_tokenizer_destroy(text->tokenizer);
  free(text->bytes);
  *text = (attend_text){0};
}
