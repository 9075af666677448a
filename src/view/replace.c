/* replace.c - a stream to a file that takes the place of another when it is
 * whole. */
#define _POSIX_C_SOURCE 200809L
#include "replace.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static clattn_status failed(const char *path, int why) {
  return clattn_set_error(CLATTN_IO_ERROR, "%s: %s", path, strerror(why));
}

clattn_status view_replace_begin(const char *path, view_replacement *file) {
  *file = (view_replacement){.path = path};
  clattn_status status = clt_replace_begin(path, &file->file);
  if (status == CLATTN_OK) {
    /* One to close with the stream, and one to commit. */
    const int fd = dup(file->file.fd);
    if (fd >= 0) file->stream = fdopen(fd, "wb");
    if (file->stream != NULL) return CLATTN_OK;
    status = failed(path, errno);
    if (fd >= 0) close(fd);
  }
  clt_replace_free(&file->file);
  return status;
}

clattn_status view_replace_end(view_replacement *file, clattn_status status) {
  errno = 0;
  bool ok = fflush(file->stream) == 0 && !ferror(file->stream);
  int why = file->why ? file->why : errno;
  if (fclose(file->stream) != 0 && ok) ok = false, why = errno;
  if (status == CLATTN_OK && !ok) status = failed(file->path, why ? why : EIO);
  if (status == CLATTN_OK) status = clt_replace_commit(&file->file);
  clt_replace_free(&file->file);
  return status;
}
