/* map.c - files in memory, paths, and where an error happened. */
#define _POSIX_C_SOURCE 200809L
#include "map.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

clattn_status kit_map_file(const char *path, void **map, size_t *size_bytes) {
  /* To open a pipe would block. */
  const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return KIT_BAD("%s: %s", path, strerror(errno));
  clattn_status status = CLATTN_OK;
  struct stat info;
  if (fstat(fd, &info) != 0)
    status = KIT_BAD("%s: %s", path, strerror(errno));
  else if (!S_ISREG(info.st_mode))
    status = KIT_BAD("%s: not a regular file", path);
  else if (info.st_size == 0)
    status = KIT_BAD("%s: empty", path);
  else if ((uint64_t)info.st_size > SIZE_MAX)
    status = KIT_BAD("%s: too large to map", path);
  if (status == CLATTN_OK) {
    *size_bytes = (size_t)info.st_size;
    *map = mmap(NULL, *size_bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    if (*map == MAP_FAILED) status = KIT_BAD("%s: %s", path, strerror(errno));
  }
  close(fd);
  return status;
}

void kit_unmap_file(void *map, size_t size_bytes) {
  if (map != NULL) munmap(map, size_bytes);
}

bool kit_is_gguf(const char *path) {
  if (kit_ends_with(path, ".gguf")) return true;
  char magic[4] = "";
  const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  const bool is = fd >= 0 && read(fd, magic, sizeof magic) == sizeof magic &&
                  memcmp(magic, "GGUF", sizeof magic) == 0;
  if (fd >= 0) close(fd);
  return is;
}

clattn_status kit_json_load(const char *path, json_t **json) {
  void *map;
  size_t bytes;
  KIT_TRY(kit_map_file(path, &map, &bytes));
  json_error_t error;
  *json = json_loadb(map, bytes, JSON_REJECT_DUPLICATES, &error);
  kit_unmap_file(map, bytes);
  return *json != NULL
             ? CLATTN_OK
             : KIT_BAD("%s:%d: not JSON: %s", path, error.line, error.text);
}

bool kit_ends_with(const char *text, const char *end) {
  const size_t n = strlen(text), m = strlen(end);
  return n >= m && strcmp(text + n - m, end) == 0;
}

/* The first n bytes of folder. */
static clattn_status join(const char *folder, size_t n, const char *name,
                          char **path) {
  const size_t room = n + strlen(name) + 2;
  *path = malloc(room);
  if (*path == NULL) return KIT_OUT_OF_MEMORY("path");
  snprintf(*path, room, "%.*s/%s", (int)n, folder, name);
  return CLATTN_OK;
}

clattn_status kit_path_join(const char *folder, const char *name, char **path) {
  return join(folder, strlen(folder), name, path);
}

clattn_status kit_path_beside(const char *file, const char *name, char **path) {
  const char *slash = strrchr(file, '/');
  return slash == NULL ? join(".", 1, name, path)
                       : join(file, (size_t)(slash - file), name, path);
}

clattn_status kit_error_in(const char *path, clattn_status status) {
  char why[512]; /* the message is about to be replaced by itself */
  snprintf(why, sizeof why, "%s", clattn_error_message());
  return clattn_set_error(status, "%s: %s", path, why);
}
