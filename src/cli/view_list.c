/* view_list.c - the tokens of raw weights: a JSON array, or a line each. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "view.h"

void view_list_free(view_list *list) {
  free(list->bytes);
  free(list->texts);
  *list = (view_list){0};
}

static bool no_memory(const char *path) {
  cli_error("%s: no memory for its tokens", path);
  return false;
}

/* Of an array of strings; they are copied into one piece of memory. */
static bool read_array(const char *path, const json_t *array, view_list *list) {
  const size_t n = json_array_size(array);
  size_t bytes = 0;
  for (size_t i = 0; i < n; i++) {
    const json_t *text = json_array_get(array, i);
    if (!json_is_string(text)) {
      cli_error("%s: entry %zu of the array is no string", path, i);
      return false;
    }
    if (strlen(json_string_value(text)) != json_string_length(text)) {
      cli_error("%s: entry %zu of the array has a byte 0", path, i);
      return false;
    }
    bytes += json_string_length(text) + 1;
  }
  list->bytes = malloc(bytes + 1);
  list->texts = calloc(n + 1, sizeof *list->texts);
  if (list->bytes == NULL || list->texts == NULL) return no_memory(path);
  char *at = list->bytes;
  for (size_t i = 0; i < n; i++) {
    const json_t *text = json_array_get(array, i);
    const size_t size = json_string_length(text) + 1;
    memcpy(at, json_string_value(text), size);
    list->texts[i] = at;
    at += size;
  }
  list->n = (int64_t)n;
  return true;
}

/* Takes the bytes over. What stands behind the last line end is a line, too. */
static bool read_lines(const char *path, char *bytes, size_t n,
                       view_list *list) {
  list->bytes = bytes;
  if (memchr(bytes, '\0', n) != NULL) {
    cli_error("%s: has a byte 0", path);
    return false;
  }
  size_t lines = 1;
  for (size_t i = 0; i < n; i++) lines += bytes[i] == '\n';
  list->texts = calloc(lines, sizeof *list->texts);
  if (list->texts == NULL) return no_memory(path);
  char *end = bytes + n;
  for (char *line = bytes; line < end;) {
    char *stop = memchr(line, '\n', (size_t)(end - line));
    if (stop == NULL) stop = end;
    char *next = stop + 1;
    *stop = '\0';
    if (stop > line && stop[-1] == '\r') stop[-1] = '\0';
    list->texts[list->n++] = line;
    line = next;
  }
  return true;
}

bool view_list_read(const char *path, view_list *list) {
  *list = (view_list){0};
  size_t n;
  char *bytes = cli_read_file(path, &n);
  if (bytes == NULL) return false;
  /* A list of lines may begin with "[CLS]": what is no JSON is lines. */
  json_t *array = json_loadb(bytes, n, 0, NULL);
  if (json_is_array(array)) {
    free(bytes);
    const bool done = read_array(path, array, list);
    json_decref(array);
    return done;
  }
  json_decref(array);
  char *room = realloc(bytes, n + 1);
  if (room == NULL) {
    free(bytes);
    return no_memory(path);
  }
  room[n] = '\0';
  if (!read_lines(path, room, n, list)) return false;
  for (int64_t i = 0; i < list->n; i++) {
    json_t *text = json_string(list->texts[i]); /* NULL unless it is UTF-8 */
    json_decref(text);
    if (text != NULL) continue;
    cli_error("%s: line %lld is not UTF-8", path, (long long)i + 1);
    return false;
  }
  return true;
}

bool view_list_numbers(int64_t n, view_list *list) {
  enum { DIGITS = 21 };
  *list = (view_list){.n = n};
  list->bytes = calloc((size_t)n, DIGITS);
  list->texts = calloc((size_t)n, sizeof *list->texts);
  if (list->bytes == NULL || list->texts == NULL) return no_memory("weights");
  for (int64_t i = 0; i < n; i++) {
    char *text = list->bytes + (size_t)i * DIGITS;
    snprintf(text, DIGITS, "%lld", (long long)i);
    list->texts[i] = text;
  }
  return true;
}
