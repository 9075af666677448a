/* file.c - a whole file in memory. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

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

char *cli_read_file(const char *path, size_t *size_bytes) {
  const bool standard = strcmp(path, "-") == 0;
  FILE *stream = standard ? stdin : fopen(path, "rb");
  if (stream == NULL) {
    cli_error("%s: %s", path, strerror(errno));
    return NULL;
  }
  char *bytes = read_all(stream, path, size_bytes);
  if (!standard) fclose(stream);
  return bytes;
}
