/* file.c - what a path holds, and files written as a whole. */
#include "file.h"

#include <sys/stat.h>

#include "shared/replace.h"

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
  clt_replacement file;
  clattn_status status = clt_replace_begin(path, &file);
  if (status == CLATTN_OK) status = clt_replace_put(&file, text, size_bytes, 0);
  if (status == CLATTN_OK) status = clt_replace_commit(&file);
  clt_replace_free(&file);
  return status;
}
