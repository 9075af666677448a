/* embed_lines.c - the lines of a text. */
#include <stdlib.h>
#include <string.h>

#include "embed.h"

static bool blank(const char *text, size_t n) {
  for (size_t i = 0; i < n; i++)
    if (strchr(" \t\r\v\f", text[i]) == NULL || text[i] == '\0') return false;
  return true;
}

static int64_t count_lines(const char *text, size_t n) {
  int64_t lines = 1;
  for (size_t i = 0; i < n; i++) lines += text[i] == '\n';
  return lines;
}

bool embed_lines_read(const char *path, embed_lines *lines) {
  size_t n;
  *lines = (embed_lines){.text = cli_read_file(path, &n)};
  if (lines->text == NULL) return false;
  lines->lines =
      calloc((size_t)count_lines(lines->text, n), sizeof *lines->lines);
  if (lines->lines == NULL) {
    cli_error("%s: no memory for its lines", path);
    return false;
  }
  const char *at = lines->text, *end = at + n;
  for (int64_t number = 1; at < end; number++) {
    const char *stop = memchr(at, '\n', (size_t)(end - at));
    const char *next = stop == NULL ? end : stop + 1;
    if (stop == NULL) stop = end;
    if (stop > at && stop[-1] == '\r') stop--;
    const size_t bytes = (size_t)(stop - at);
    if (!blank(at, bytes))
      lines->lines[lines->n++] = (embed_line){at, bytes, number};
    at = next;
  }
  return true;
}

void embed_lines_free(embed_lines *lines) {
  free(lines->text);
  free(lines->lines);
}
