/* file.c - what a path holds, and files written as a whole. */
#include "file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BAD(path, why)                                                         \
  clattn_set_error(CLATTN_IO_ERROR, "%s: %s", (path), (why))

bool kit_path_is_folder(const char *path) {
  struct stat info;
  return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

bool kit_path_is_file(const char *path) {
  struct stat info;
  return stat(path, &info) == 0 && S_ISREG(info.st_mode);
}

clattn_status kit_file_write(const char *path, const char *text,
                             size_t size_bytes) {
  const size_t room = strlen(path) + 32;
  char *temporary = malloc(room);
  if (temporary == NULL) return KIT_OUT_OF_MEMORY(path);
  snprintf(temporary, room, "%s.%ld", path, (long)getpid());
  FILE *stream = fopen(temporary, "wb");
  bool ok = stream != NULL;
  if (ok) {
    ok = size_bytes == 0 || fwrite(text, size_bytes, 1, stream) == 1;
    ok = (fclose(stream) == 0) && ok;
  }
  ok = ok && rename(temporary, path) == 0;
  const int why = errno;
  if (!ok && stream != NULL) unlink(temporary);
  free(temporary);
  return ok ? CLATTN_OK : BAD(path, strerror(why));
}
