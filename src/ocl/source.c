/* source.c - kernel text: embedded or from the override directory, with the
 * files it includes by name in quotes put in place, as drivers differ in what
 * -I means to them and in whether they find clCompileProgram's headers. */
#include "ocl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "source.h"

enum { MAX_DEPTH = 16 }; /* of includes; more must be a cycle */

typedef struct text {
  char *data; /* always zero-terminated once not NULL */
  size_t length, room;
} text;

static clattn_status append(text *t, const void *data, size_t n) {
  if (t->length + n + 1 > t->room) {
    const size_t room = (t->length + n + 1) * 2;
    char *grown = ocl_alloc(room);
    if (!grown) return CLATTN_OUT_OF_MEMORY;
    if (t->data) memcpy(grown, t->data, t->length);
    ocl_free(t->data);
    t->data = grown;
    t->room = room;
  }
  memcpy(t->data + t->length, data, n);
  t->length += n;
  t->data[t->length] = '\0';
  return CLATTN_OK;
}

/* Appends the whole file; IO_ERROR if it is there but cannot be read. */
static clattn_status read_override(const char *directory, const char *name,
                                   text *out, bool *found) {
  *found = false;
  const size_t room = strlen(directory) + strlen(name) + 2;
  char *path = ocl_alloc(room);
  if (!path) return CLATTN_OUT_OF_MEMORY;
  snprintf(path, room, "%s/%s", directory, name);
  clattn_status status = CLATTN_OK;
  /* To open a pipe would block, to read a directory fails later. */
  const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  FILE *file = fd < 0 ? NULL : fdopen(fd, "rb");
  if (!file) {
    if (fd >= 0) close(fd);
    if (errno != ENOENT && errno != ENOTDIR)
      status = ocl_error(CLATTN_IO_ERROR, "%s: %s", path, strerror(errno));
    ocl_free(path);
    return status;
  }
  *found = true;
  char block[4096];
  for (size_t n;
       status == CLATTN_OK && (n = fread(block, 1, sizeof block, file)) > 0;)
    status = append(out, block, n);
  if (status == CLATTN_OK && ferror(file))
    status = ocl_error(CLATTN_IO_ERROR, "%s: %s", path, strerror(errno));
  fclose(file);
  ocl_free(path);
  return status;
}

/* The file as it is, overridden or embedded. out->data NULL: there is none. */
static clattn_status read_file(const ocl_state *state, const char *name,
                               text *out) {
  *out = (text){NULL, 0, 0};
  if (state->settings->kernel_dir[0] != '\0') {
    bool found = false;
    clattn_status status =
        read_override(state->settings->kernel_dir, name, out, &found);
    if (status == CLATTN_OK && found) return append(out, "", 0);
    if (status != CLATTN_OK) return status;
  }
  for (const clt_cl_source *s = clt_cl_sources; s->name; s++)
    if (strcmp(s->name, name) == 0) return append(out, s->bytes, s->length);
  return CLATTN_OK;
}

/* Copies the x of a line `#include "x"`. */
static bool parse_include(const char *line, const char *end, char name[128]) {
  while (line < end && (*line == ' ' || *line == '\t')) line++;
  if (line == end || *line++ != '#') return false;
  while (line < end && (*line == ' ' || *line == '\t')) line++;
  if (end - line < 7 || memcmp(line, "include", 7) != 0) return false;
  line += 7;
  while (line < end && (*line == ' ' || *line == '\t')) line++;
  if (line == end || *line++ != '"') return false;
  const char *quote = memchr(line, '"', (size_t)(end - line));
  if (!quote || quote - line >= 128) return false;
  memcpy(name, line, (size_t)(quote - line));
  name[quote - line] = '\0';
  return true;
}

/* Appends a file, its includes in place. Files have include guards, so one that
 * comes twice is appended twice. *found false: there is no such file. */
static clattn_status expand(const ocl_state *state, const char *name, int depth,
                            text *out, bool *found) {
  text file;
  char mark[192], included[128];
  if (depth > MAX_DEPTH)
    return ocl_error(CLATTN_BUILD_FAILED, "%s: includes itself", name);
  clattn_status status = read_file(state, name, &file);
  *found = file.data != NULL;
  if (status != CLATTN_OK || !*found) goto end;
  int n = snprintf(mark, sizeof mark, "#line 1 \"%s\"\n", name);
  status = append(out, mark, (size_t)n);
  const char *line = file.data, *stop = file.data + file.length;
  for (int number = 1; status == CLATTN_OK && line < stop; number++) {
    const char *end = memchr(line, '\n', (size_t)(stop - line));
    end = end ? end + 1 : stop;
    bool resolved = false;
    if (parse_include(line, end, included)) {
      status = expand(state, included, depth + 1, out, &resolved);
      if (status == CLATTN_OK && resolved) {
        n = snprintf(mark, sizeof mark, "\n#line %d \"%s\"\n", number + 1,
                     name);
        status = append(out, mark, (size_t)n);
      }
    }
    /* What is not ours stays: a compiler that reads the line will say so. */
    if (status == CLATTN_OK && !resolved)
      status = append(out, line, (size_t)(end - line));
    line = end;
  }
end:
  ocl_free(file.data);
  return status;
}

clattn_status ocl_source(const ocl_state *state, const char *file, char **out,
                         size_t *length) {
  char name[128];
  text t = {NULL, 0, 0};
  bool found = false;
  snprintf(name, sizeof name, "%s.cl", file);
  clattn_status status = expand(state, name, 0, &t, &found);
  if (status == CLATTN_OK && !found)
    status =
        ocl_error(CLATTN_UNSUPPORTED, "this build has no kernel file %s", name);
  if (status != CLATTN_OK) {
    ocl_free(t.data);
    return status;
  }
  *out = t.data;
  *length = t.length;
  return CLATTN_OK;
}
