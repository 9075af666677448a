/* attend_text.c - a file's text as word tokens. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attend.h"

/* All that a stream has, in one piece; NULL with a message. */
static char *read_all(FILE *stream, const char *path, size_t *size_bytes) {
  size_t used = 0, room = 1 << 16;
  char *bytes = malloc(room);
  while (bytes != NULL) {
    const size_t got = fread(bytes + used, 1, room - used, stream);
    used += got;
    if (got == 0) break;
    if (used < room) continue;
    char *larger = room > SIZE_MAX / 2 ? NULL : realloc(bytes, 2 * room);
    if (larger == NULL) free(bytes);
    bytes = larger;
    room *= 2;
  }
  if (bytes == NULL) {
    cli_error("%s: no memory for the text", path);
  } else if (ferror(stream)) {
    cli_error("%s: %s", path, strerror(errno));
    free(bytes);
    bytes = NULL;
  }
  *size_bytes = used;
  return bytes;
}

static bool read_file(const char *path, attend_text *text) {
  const bool standard = strcmp(path, "-") == 0;
  FILE *stream = standard ? stdin : fopen(path, "rb");
  if (stream == NULL) {
    cli_error("%s: %s", path, strerror(errno));
    return false;
  }
  text->bytes = read_all(stream, path, &text->size_bytes);
  if (!standard) fclose(stream);
  return text->bytes != NULL;
}

bool attend_text_read(const char *path, attend_text *text) {
  *text = (attend_text){0};
  if (!read_file(path, text)) return false;
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
