/* attend_text.c - a file's text as word tokens. */
#include "attend.h"

#include <stdlib.h>

bool attend_text_read(const char *path, attend_text *text) {
  *text = (attend_text){0};
  text->bytes = cli_read_file(path, &text->size_bytes);
  if (text->bytes == NULL) return false;
  if (clattn_kit_words_create(text->bytes, text->size_bytes, &text->words) !=
          CLATTN_OK ||
      clattn_kit_vocab_create(text->words, &text->vocab) != CLATTN_OK) {
    cli_error("%s: %s", path, clattn_error_message());
    return false;
  }
  const size_t n = clattn_kit_words_count(text->words);
  text->count = (int64_t)n;
  text->ids = calloc(n + 1, sizeof *text->ids);
  if (text->ids == NULL) {
    cli_error("%s: no memory for %zu tokens", path, n);
    return false;
  }
  if (clattn_kit_vocab_encode(text->vocab, text->words, text->ids) !=
      CLATTN_OK) {
    cli_error("%s: %s", path, clattn_error_message());
    return false;
  }
  return true;
}

void attend_text_free(attend_text *text) {
  free(text->ids);
  clattn_kit_vocab_destroy(text->vocab);
  clattn_kit_words_destroy(text->words);
  free(text->bytes);
  *text = (attend_text){0};
}
