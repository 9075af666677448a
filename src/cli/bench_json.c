/* bench_json.c - the results as an array of objects in a file. */
#define _POSIX_C_SOURCE 200809L
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct bench_json {
  char *path;
  json_t *array;
};

bench_json *bench_json_create(const char *path) {
  bench_json *json = calloc(1, sizeof *json);
  if (json == NULL) return NULL;
  json->path = strdup(path);
  json->array = json_array();
  if (json->path != NULL && json->array != NULL) return json;
  bench_json_destroy(json);
  return NULL;
}

void bench_json_destroy(bench_json *json) {
  if (json == NULL) return;
  json_decref(json->array);
  free(json->path);
  free(json);
}

/* ---- the file ------------------------------------------------------------ */

static bool dump(const json_t *array, int fd) {
  FILE *stream = fdopen(fd, "w");
  if (stream == NULL) {
    close(fd);
    return false;
  }
  bool ok =
      json_dumpf(array, stream, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) == 0 &&
      fputc('\n', stream) != EOF && fflush(stream) == 0;
  return (fclose(stream) == 0) & ok;
}

/* Opens a file beside the one that is asked for; its name goes to temporary. */
static int open_beside(const bench_json *json, char **temporary) {
  struct stat old;
  *temporary = NULL;
  /* A rename would replace a device, a pipe or a link by a file of its name. */
  if (lstat(json->path, &old) == 0 && !S_ISREG(old.st_mode)) {
    cli_error("--json: %s: not a regular file", json->path);
    return -1;
  }
  const size_t room = strlen(json->path) + 32;
  *temporary = malloc(room);
  if (*temporary == NULL) {
    cli_error("no memory");
    return -1;
  }
  snprintf(*temporary, room, "%s.%ld", json->path, (long)getpid());
  const int fd =
      open(*temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd < 0) cli_error("--json: %s: %s", json->path, strerror(errno));
  return fd;
}

bool bench_json_writable(const bench_json *json) {
  char *temporary;
  const int fd = open_beside(json, &temporary);
  if (fd >= 0) {
    close(fd);
    unlink(temporary);
  }
  free(temporary);
  return fd >= 0;
}

static bool write_file(const bench_json *json) {
  char *temporary;
  const int fd = open_beside(json, &temporary);
  bool ok = fd >= 0;
  if (ok) {
    errno = 0;
    ok = dump(json->array, fd) && rename(temporary, json->path) == 0;
    if (!ok) {
      cli_error("--json: %s: %s", json->path, strerror(errno));
      unlink(temporary);
    }
  }
  free(temporary);
  return ok;
}

/* ---- one result ---------------------------------------------------------- */

static void put(json_t *object, const char *key, json_t *value) {
  json_object_set_new(object, key, value);
}

/* null where there is no number. */
static json_t *real(double x) {
  return isfinite(x) ? json_real(x) : json_null();
}

static json_t *text(const char *s) {
  json_t *value = s ? json_string(s) : NULL;
  return value ? value : json_null(); /* NULL as well: it is not UTF-8 */
}

static json_t *describe(const bench_target *target, const bench_line *line,
                        const bench_result *r) {
  const bool backward = line->backward && r == &line->result[0];
  static const char *const probes[] = {NULL, "fma", "read"};
  const bench_shape *s = line->shape;
  json_t *o = json_object();
  put(o, "name", text(s->name));
  put(o, "device", text(target->info.name));
  put(o, "platform", text(target->info.platform));
  put(o, "path", text(cli_path_name(line->path)));
  put(o, "weights", json_boolean(line->weights));
  put(o, "pass", text(backward ? "backward" : "forward"));
  put(o, "rival", text(r->rival));
  put(o, "seconds", real(r->seconds));
  put(o, "seconds_cpu", real(r->seconds_cpu));
  put(o, "gflops",
      real((backward ? bench_shape_backward_flop(s) : bench_shape_flop(s)) /
           r->seconds * 1e-9));
  put(o, "gbps", real(bench_shape_bytes(s) / r->seconds * 1e-9));
  put(o, "fraction_of_probe", real(r->fraction));
  put(o, "probe", text(probes[line->probe]));
  put(o, "probe_rate", real(line->probe ? line->probe_rate * 1e-9 : NAN));
  put(o, "ratio", r->rival || backward ? real(r->ratio) : json_null());
  put(o, "threads",
      target->on_host ? json_integer(target->threads) : json_null());
  put(o, "max_error", real(r->max_error));
  put(o, "samples", json_integer(r->samples));
  put(o, "dropped", json_integer(r->dropped));
  put(o, "wrong", json_boolean(r->wrong));
  if (isnan(r->seconds)) put(o, "reason", text(r->reason));
  put(o, "dtype", text(clattn_dtype_name(s->dtype)));
  put(o, "causal", json_boolean(s->causal));
  const struct {
    const char *key;
    int64_t value;
  } extents[] = {{"batch", s->batch},       {"q_heads", s->q_heads},
                 {"kv_heads", s->kv_heads}, {"q_len", s->q_len},
                 {"kv_len", s->kv_len},     {"qk_dim", s->qk_dim},
                 {"v_dim", s->v_dim}};
  for (size_t i = 0; i < sizeof extents / sizeof *extents; i++)
    put(o, extents[i].key, json_integer(extents[i].value));
  return o;
}

bool bench_json_add(bench_json *json, const bench_target *target,
                    const bench_line *line) {
  for (int i = 0; i < line->n; i++)
    if (json_array_append_new(json->array,
                              describe(target, line, &line->result[i])) != 0) {
      cli_error("no memory");
      return false;
    }
  return write_file(json);
}
