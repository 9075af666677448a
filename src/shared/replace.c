/* replace.c - a file takes the place of another when it is whole. */
#define _POSIX_C_SOURCE 200809L
#include "replace.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAMES = 100 }; /* tried beside the path */

#ifndef NAME_MAX /* bytes of a name, without its folder */
#  define NAME_MAX 255
#endif

static clattn_status failed(const clt_replacement *file, int why) {
  return clattn_set_error(CLATTN_IO_ERROR, "%s: %s", file->path, strerror(why));
}

static void close_fd(clt_replacement *file) {
  if (file->fd >= 0) close(file->fd);
  file->fd = -1;
}

/* Bytes of a path to which so long an ending can be put. A cut name ends with a
 * whole character: some file systems take no other. */
static size_t kept(const char *path, size_t ending) {
  const char *slash = strrchr(path, '/');
  const char *base = slash == NULL ? path : slash + 1;
  size_t n = strlen(base);
  if (n + ending > NAME_MAX) {
    n = NAME_MAX - ending;
    while (n > 0 && ((unsigned char)base[n] & 0xc0) == 0x80) n--;
  }
  return (size_t)(base - path) + n;
}

clattn_status clt_replace_begin(const char *path, clt_replacement *file) {
  const size_t room = strlen(path) + 32;
  char *name = malloc(room);
  *file = (clt_replacement){.path = strdup(path), .fd = -1};
  if (file->path == NULL || name == NULL) {
    free(name);
    return clattn_set_error(CLATTN_OUT_OF_MEMORY, "%s: no memory", path);
  }
  struct stat old;
  file->keeps_mode = lstat(path, &old) == 0;
  if (file->keeps_mode && !S_ISREG(old.st_mode)) {
    free(name);
    return clattn_set_error(CLATTN_IO_ERROR, "%s: not a regular file", path);
  }
  file->mode = file->keeps_mode ? old.st_mode & 0777 : 0666; /* less umask */
  for (unsigned i = 0; file->fd < 0 && i < NAMES; i++) {
    char ending[32];
    const int n = snprintf(ending, sizeof ending, ".%ld.%u", (long)getpid(), i);
    snprintf(name, room, "%.*s%s", (int)kept(path, (size_t)n), path, ending);
    file->fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, file->mode);
    if (file->fd < 0 && errno != EEXIST) break;
  }
  if (file->fd < 0) {
    const int why = errno;
    free(name);
    return failed(file, why);
  }
  file->temporary = name;
  return CLATTN_OK;
}

clattn_status clt_replace_put(clt_replacement *file, const void *data,
                              size_t size_bytes, int64_t place) {
  const char *at = data;
  while (size_bytes > 0) {
    const ssize_t n = pwrite(file->fd, at, size_bytes, (off_t)place);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      const int why = n == 0 ? EIO : errno;
      close_fd(file); /* half a part may be there: nothing can go on */
      return failed(file, why);
    }
    at += n, place += n, size_bytes -= (size_t)n;
  }
  return CLATTN_OK;
}

clattn_status clt_replace_commit(clt_replacement *file) {
  const bool ok = (!file->keeps_mode || fchmod(file->fd, file->mode) == 0) &&
                  fsync(file->fd) == 0;
  const int why = errno;
  const int fd = file->fd;
  file->fd = -1;
  if (close(fd) != 0 && ok) return failed(file, errno);
  if (!ok) return failed(file, why);
  if (rename(file->temporary, file->path) != 0) return failed(file, errno);
  free(file->temporary);
  file->temporary = NULL;
  return CLATTN_OK;
}

void clt_replace_free(clt_replacement *file) {
  if (file->temporary != NULL) { /* else fd is 0 or -1 and not its own */
    close_fd(file);
    unlink(file->temporary);
  }
  free(file->temporary);
  free(file->path);
  *file = (clt_replacement){.fd = -1};
}
