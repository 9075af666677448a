/* file.c - files that are replaced as a whole. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core.h"

/* mkdir -p of the path's directory. */
static void make_directories(char *path) {
  for (char *slash = strchr(path + 1, '/'); slash;
       slash = strchr(slash + 1, '/')) {
    *slash = '\0';
    mkdir(path, 0700); /* the open that follows tells of failures */
    *slash = '/';
  }
}

static bool write_all(int fd, const unsigned char *data, size_t bytes) {
  while (bytes > 0) {
    const ssize_t n = write(fd, data, bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    data += n;
    bytes -= (size_t)n;
  }
  return true;
}

bool clt_file_replace(const char *path, const void *data, size_t bytes) {
  static atomic_uint counter; /* two contexts may write the same file */
  const size_t room = strlen(path) + 48;
  char *temporary = clt_alloc(room);
  if (!temporary) {
    errno = ENOMEM;
    return false;
  }
  snprintf(temporary, room, "%s.%ld.%u", path, (long)getpid(),
           atomic_fetch_add(&counter, 1));
  const int flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC;
  int fd = open(temporary, flags, 0600);
  if (fd < 0 && errno == ENOENT) {
    make_directories(temporary);
    fd = open(temporary, flags, 0600);
  }
  bool ok = fd >= 0 && write_all(fd, data, bytes);
  if (fd >= 0) {
    ok = close(fd) == 0 && ok;
    ok = ok && rename(temporary, path) == 0;
    const int error = errno;
    if (!ok) unlink(temporary);
    errno = error;
  }
  clt_free(temporary);
  return ok;
}
