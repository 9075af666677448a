/* file.c - a whole file in memory; whether one can be written. */
#define _POSIX_C_SOURCE 200809L
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

char *cli_folder_of(const char *path) {
  char *folder = strdup(path);
  char *slash = folder == NULL ? NULL : strrchr(folder, '/');
  if (slash != NULL) slash[slash == folder] = '\0';
  if (slash != NULL || folder == NULL) return folder;
  free(folder);
  return strdup(".");
}

bool cli_writable(const char *path, bool replaced) {
  if (path == NULL) return true;
  struct stat info;
  if (replaced && lstat(path, &info) == 0 && !S_ISREG(info.st_mode)) {
    cli_error("%s: not a regular file", path);
    return false;
  }
  const bool there = access(path, F_OK) == 0;
  bool may = !there || access(path, W_OK) == 0;
  if (may && (!there || replaced)) {
    char *folder = cli_folder_of(path);
    may = folder != NULL && access(folder, W_OK) == 0;
    free(folder);
  }
  if (!may) cli_error("%s: %s", path, strerror(errno));
  return may;
}

static bool same_stat(const char *a, const char *b) {
  struct stat x, y;
  return a != NULL && b != NULL && stat(a, &x) == 0 && stat(b, &y) == 0 &&
         x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

bool cli_same_file(const char *a, const char *b) {
  if (a == NULL || b == NULL) return false;
  if (same_stat(a, b)) return true;
  const char *const x = strrchr(a, '/'), *const y = strrchr(b, '/');
  if (strcmp(x == NULL ? a : x + 1, y == NULL ? b : y + 1) != 0) return false;
  char *folders[] = {cli_folder_of(a), cli_folder_of(b)};
  const bool same = same_stat(folders[0], folders[1]);
  free(folders[0]);
  free(folders[1]);
  return same;
}

/* Whether a folder has that file, or a link to it: a model's folder may be links
 * into a cache. depth: so many folders down. Closes the folder. */
static bool folder_has(int fd, const struct stat *file, int depth) {
  DIR *listing = fdopendir(fd);
  bool found = false;
  if (listing == NULL) {
    if (fd >= 0) close(fd);
    return false;
  }
  for (struct dirent *entry; !found && (entry = readdir(listing)) != NULL;) {
    const char *name = entry->d_name;
    struct stat about;
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
        fstatat(fd, name, &about, 0) != 0)
      continue;
    found = about.st_dev == file->st_dev && about.st_ino == file->st_ino;
    if (!found && depth > 0 && S_ISDIR(about.st_mode))
      found = folder_has(openat(fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
                         file, depth - 1);
  }
  closedir(listing);
  return found;
}

/* Modules of an embedding model have a folder each in the model's. */
enum { MODEL_DEPTH = 1 };

bool cli_not_read(const char *option, const char *path, const char *input) {
  struct stat file;
  if (path == NULL || input == NULL || strcmp(input, "-") == 0) return true;
  if (cli_same_file(path, input)) {
    cli_error("%s: got %s, want another file than what is read", option, path);
    return false;
  }
  if (stat(path, &file) != 0 ||
      !folder_has(open(input, O_RDONLY | O_DIRECTORY | O_CLOEXEC), &file,
                  MODEL_DEPTH))
    return true;
  cli_error("%s: got %s, a file of %s, want another file than what is read",
            option, path, input);
  return false;
}

bool cli_output_file(const char *option, const char *path,
                     const char *const *inputs) {
  if (path == NULL) return true;
  for (; *inputs != NULL; inputs++)
    if (!cli_not_read(option, path, *inputs)) return false;
  return cli_writable(path, true);
}
