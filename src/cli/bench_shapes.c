/* bench_shapes.c - files of shapes, and what follows from a shape. */
#define _POSIX_C_SOURCE 200809L
#include "bench_shapes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIELDS = 10, NUMBERS = 7, MOST = 1 << 30 };

static const char *const fields[FIELDS] = {
    "name",   "batch",  "q_heads", "kv_heads", "q_len",
    "kv_len", "qk_dim", "v_dim",   "type",     "mask"};

/* ---- one line ------------------------------------------------------------ */

typedef struct place {
  const char *file;
  int line;
} place;

static bool whole(const place *at, const char *field, const char *text,
                  int64_t *number) {
  char *end;
  errno = 0;
  const long long value = strtoll(text, &end, 10);
  if (errno == 0 && end != text && *end == '\0' && value >= 1 &&
      value <= MOST) {
    *number = value;
    return true;
  }
  cli_error("%s:%d: %s: got '%s', want a whole number 1..%d", at->file,
            at->line, field, text, (int)MOST);
  return false;
}

static bool choice(const place *at, const char *field, const char *text,
                   const char *const *words, const char *wanted, int *index) {
  for (*index = 0; words[*index] != NULL; ++*index)
    if (strcmp(text, words[*index]) == 0) return true;
  cli_error("%s:%d: %s: got '%s', want %s", at->file, at->line, field, text,
            wanted);
  return false;
}

/* Sizes that no address space holds would overflow what is computed later. */
static bool addressable(const bench_shape *s) {
  const double most = 1e15;
  return bench_shape_bytes(s) < most && (double)s->batch * (double)s->q_heads *
                                                (double)s->q_len *
                                                (double)s->kv_len <
                                            most;
}

static bool parse_line(const place *at, char *text, bench_shape *shape) {
  static const char *const types[] = {"f32", "f16", "bf16", NULL};
  static const clattn_dtype dtypes[] = {CLATTN_F32, CLATTN_F16, CLATTN_BF16};
  static const char *const masks[] = {"full", "causal", NULL};
  char *word[FIELDS], *rest = NULL;
  int n = 0, type, mask;
  for (char *w = strtok_r(text, " \t\r\n", &rest); w != NULL;
       w = strtok_r(NULL, " \t\r\n", &rest), n++)
    if (n < FIELDS) word[n] = w;
  if (n != FIELDS) {
    cli_error(
        "%s:%d: got %d fields, want %d: name batch q_heads kv_heads "
        "q_len kv_len qk_dim v_dim f32|f16|bf16 causal|full",
        at->file, at->line, n, (int)FIELDS);
    return false;
  }
  *shape = (bench_shape){.batch = 0};
  if (strlen(word[0]) >= sizeof shape->name) {
    cli_error("%s:%d: name: got %zu characters, want at most %zu", at->file,
              at->line, strlen(word[0]), sizeof shape->name - 1);
    return false;
  }
  strcpy(shape->name, word[0]);
  cli_clean(shape->name);
  int64_t *const numbers[NUMBERS] = {
      &shape->batch,  &shape->q_heads, &shape->kv_heads, &shape->q_len,
      &shape->kv_len, &shape->qk_dim,  &shape->v_dim};
  for (int i = 0; i < NUMBERS; i++)
    if (!whole(at, fields[i + 1], word[i + 1], numbers[i])) return false;
  if (shape->q_heads % shape->kv_heads != 0) {
    cli_error("%s:%d: kv_heads: got %s, want a divisor of q_heads (%s)",
              at->file, at->line, word[3], word[2]);
    return false;
  }
  if (!choice(at, fields[8], word[8], types, "f32, f16 or bf16", &type) ||
      !choice(at, fields[9], word[9], masks, "causal or full", &mask))
    return false;
  shape->dtype = dtypes[type];
  shape->causal = mask == 1;
  if (!addressable(shape)) {
    cli_error("%s:%d: %s: the extents multiply to more than any memory holds",
              at->file, at->line, shape->name);
    return false;
  }
  return true;
}

/* ---- files --------------------------------------------------------------- */

static bool add(bench_shapes *shapes, const bench_shape *shape) {
  bench_shape *list = realloc(shapes->list, (shapes->n + 1) * sizeof *list);
  if (list == NULL) {
    cli_error("no memory");
    return false;
  }
  list[shapes->n++] = *shape;
  shapes->list = list;
  return true;
}

static bool read_stream(FILE *stream, const char *file, bench_shapes *shapes) {
  char *line = NULL;
  size_t room = 0;
  bool ok = true;
  place at = {file, 0};
  errno = 0;
  for (ssize_t n; ok && (n = getline(&line, &room, stream)) != -1;) {
    at.line++;
    if (strlen(line) != (size_t)n) {
      cli_error("%s:%d: a NUL byte: this is no text", file, at.line);
      ok = false;
      break;
    }
    line[strcspn(line, "#")] = '\0';
    if (line[strspn(line, " \t\r\n")] == '\0') continue;
    bench_shape shape;
    ok = parse_line(&at, line, &shape) && add(shapes, &shape);
  }
  free(line);
  if (ok && ferror(stream)) {
    cli_error("%s: %s", file, strerror(errno));
    return false;
  }
  if (ok && shapes->n == 0) cli_error("%s: no shapes in it", file);
  return ok && shapes->n > 0;
}

/* The file built in as NAME.txt, NULL if there is none. */
static const bench_file *built_in(const char *name) {
  const size_t n = strlen(name);
  for (const bench_file *file = bench_files; file->name != NULL; file++)
    if (strncmp(file->name, name, n) == 0 &&
        strcmp(file->name + n, ".txt") == 0)
      return file;
  return NULL;
}

bool bench_shapes_read(const char *name, bench_shapes *shapes) {
  *shapes = (bench_shapes){NULL, 0};
  const bench_file *file = built_in(name);
  /* fmemopen takes what it may not write, as it is opened for reading. */
  FILE *stream =
      file ? fmemopen((void *)(uintptr_t)file->bytes, file->length, "r")
           : fopen(name, "r");
  if (stream == NULL) {
    cli_error("--shapes: %s: %s", name, strerror(errno));
    return false;
  }
  const bool ok = read_stream(stream, file ? file->name : name, shapes);
  fclose(stream);
  return ok;
}

void bench_shapes_free(bench_shapes *shapes) {
  free(shapes->list);
  *shapes = (bench_shapes){NULL, 0};
}

/* ---- what follows from a shape ------------------------------------------- */

int64_t bench_shape_seen(const bench_shape *s, int64_t i) {
  if (!s->causal) return s->kv_len;
  const int64_t seen = s->kv_len - s->q_len + i + 1;
  return seen < 0 ? 0 : seen;
}

/* Pairs of a query and a key that it sees. */
static double pairs(const bench_shape *s) {
  double n = 0;
  for (int64_t i = 0; i < s->q_len; i++) n += (double)bench_shape_seen(s, i);
  return n * (double)s->batch * (double)s->q_heads;
}

double bench_shape_flop(const bench_shape *s) {
  return 2.0 * (double)(s->qk_dim + s->v_dim) * pairs(s);
}

double bench_shape_backward_flop(const bench_shape *s) {
  return 2.0 * (double)(3 * s->qk_dim + 2 * s->v_dim) * pairs(s);
}

double bench_shape_bytes(const bench_shape *s) {
  const double rows = (double)s->q_heads * (double)s->q_len +
                      (double)s->kv_heads * (double)s->kv_len;
  return (double)s->batch * rows * (double)(s->qk_dim + s->v_dim) *
         (double)clattn_dtype_size(s->dtype);
}

bool bench_shape_reads(const bench_shape *s) { return s->q_len <= 8; }
