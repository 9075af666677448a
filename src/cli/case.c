/* case.c - reads case files, runs them and checks what comes out. */
#include "case.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define GUARD 64 /* elements before and after each output */
#define GUARD_BYTE 0xa5
#define POISON_BYTE 0xff /* NaN in F32, F16 and BF16 */

/* ---- verdicts ------------------------------------------------------------ */

/* One line of text: a verdict is printed as one. */
static void put_why(cli_case *c, const char *text) {
  size_t used = 0;
  for (; *text != '\0' && used + 3 < sizeof c->why; text++) {
    if (*text != '\n') {
      c->why[used++] = *text;
    } else if (text[1] != '\0') {
      const bool listed = used > 0 && c->why[used - 1] == ':';
      if (!listed) c->why[used++] = ';';
      c->why[used++] = ' ';
    }
  }
  c->why[used] = '\0';
  cli_clean(c->why);
}

static bool decide(cli_case *c, case_verdict verdict, const char *format,
                   va_list arguments) {
  char text[sizeof c->why]; /* an argument may point into c->why */
  vsnprintf(text, sizeof text, format, arguments);
  put_why(c, text);
  c->verdict = verdict;
  return false;
}

bool case_fail(cli_case *c, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  decide(c, CASE_FAIL, format, arguments);
  va_end(arguments);
  return false;
}

bool case_skip(cli_case *c, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  decide(c, CASE_SKIP, format, arguments);
  va_end(arguments);
  return false;
}

bool case_ok(cli_case *c, clattn_status status) {
  if (status == CLATTN_OK) return true;
  if (status == CLATTN_UNSUPPORTED)
    return case_skip(c, "%s", clattn_error_message());
  return case_fail(c, "%s: %s", clattn_status_name(status),
                   clattn_error_message());
}

/* ---- opening ------------------------------------------------------------- */

/* The file's name without folder and ending. */
static void set_name(cli_case *c, const char *path) {
  const char *slash = strrchr(path, '/');
  snprintf(c->name, sizeof c->name, "%s", slash ? slash + 1 : path);
  char *dot = strstr(c->name, ".safetensors");
  if (dot != NULL && dot != c->name) *dot = '\0';
  cli_clean(c->name);
}

/* A message about a file without the file's name, which verdicts come with. */
static const char *without_path(const char *message, const char *path) {
  const size_t n = strlen(path);
  const bool named =
      strncmp(message, path, n) == 0 && strncmp(message + n, ": ", 2) == 0;
  return named ? message + n + 2 : message;
}

bool case_open(const char *path, cli_case *c) {
  *c = (cli_case){0};
  set_name(c, path);
  if (clattn_kit_safetensors_open(path, &c->file) != CLATTN_OK)
    return case_fail(c, "%s", without_path(clattn_error_message(), path));
  c->op = clattn_kit_safetensors_metadata(c->file, "op");
  const char *opset = clattn_kit_safetensors_metadata(c->file, "opset");
  c->foreign = c->op == NULL && opset == NULL;
  if (c->op == NULL || opset == NULL)
    return case_fail(c, "not a case file: no %s in its metadata",
                     c->foreign ? "op and opset"
                     : c->op    ? "opset"
                                : "op");
  if (strcmp(opset, "clattn") != 0) {
    char *end;
    const long number = strtol(opset, &end, 10);
    if (end == opset || *end != '\0' || number < 1 || number > 1000)
      return case_fail(c, "opset: got '%s', want 'clattn' or a number", opset);
    c->opset = (int)number;
  }
  for (size_t i = 0; i < clattn_kit_safetensors_count(c->file); i++) {
    clattn_kit_tensor tensor;
    if (clattn_kit_safetensors_at(c->file, i, &tensor) == CLATTN_OK &&
        strncmp(tensor.name, "out.", 4) == 0)
      c->says_outputs = true;
  }
  return true;
}

/* Forgets a run, so that another can follow. */
static void reset(cli_case *c) {
  for (int i = 0; i < c->n_buffers; i++) clattn_buffer_destroy(c->buffers[i]);
  for (int i = 0; i < c->n_outputs; i++) free((void *)c->outputs[i].got.data);
  memset(c->outputs, 0, sizeof c->outputs);
  c->n_buffers = c->n_outputs = 0;
  c->verdict = CASE_PASS;
  c->why[0] = '\0';
}

void case_close(cli_case *c) {
  reset(c);
  clattn_kit_safetensors_destroy(c->file);
  c->file = NULL;
}

/* ---- attributes and tensors ---------------------------------------------- */

bool case_integer(cli_case *c, const char *key, int64_t absent,
                  int64_t *value) {
  const char *text = clattn_kit_safetensors_metadata(c->file, key);
  *value = absent;
  if (text == NULL) return true;
  char *end;
  errno = 0;
  *value = strtoll(text, &end, 10);
  if (errno == 0 && end != text && *end == '\0') return true;
  return case_fail(c, "%s: got '%s', want a whole number", key, text);
}

bool case_real(cli_case *c, const char *key, float absent, float *value) {
  const char *text = clattn_kit_safetensors_metadata(c->file, key);
  *value = absent;
  if (text == NULL) return true;
  char *end;
  *value = strtof(text, &end);
  if (end != text && *end == '\0') return true;
  return case_fail(c, "%s: got '%s', want a number", key, text);
}

static bool listed(const char *name, const char *const *list) {
  for (; *list != NULL; list++)
    if (strcmp(name, *list) == 0) return true;
  return false;
}

bool case_knows(cli_case *c, const char *const *attributes,
                const char *const *inputs, const char *const *outputs) {
  const size_t n = clattn_kit_safetensors_metadata_count(c->file);
  for (size_t i = 0; i < n; i++) {
    clattn_kit_metadata entry;
    if (!case_ok(c, clattn_kit_safetensors_metadata_at(c->file, i, &entry)))
      return false;
    if (strcmp(entry.key, "op") != 0 && strcmp(entry.key, "opset") != 0 &&
        !listed(entry.key, attributes))
      return case_skip(c, "attribute '%s' is not known", entry.key);
  }
  for (size_t i = 0; i < clattn_kit_safetensors_count(c->file); i++) {
    clattn_kit_tensor tensor;
    if (!case_ok(c, clattn_kit_safetensors_at(c->file, i, &tensor)))
      return false;
    const bool in = strncmp(tensor.name, "in.", 3) == 0;
    const bool out = strncmp(tensor.name, "out.", 4) == 0;
    if (!(in && listed(tensor.name + 3, inputs)) &&
        !(out && listed(tensor.name + 4, outputs)))
      return case_skip(c, "tensor '%s' is not known", tensor.name);
  }
  return true;
}

/* Tensor PREFIX.NAME, its name NULL where it is absent. */
static bool find(cli_case *c, const char *prefix, const char *name,
                 clattn_kit_tensor *tensor) {
  char full[64];
  snprintf(full, sizeof full, "%s.%s", prefix, name);
  *tensor = (clattn_kit_tensor){0};
  if (!clattn_kit_safetensors_has(c->file, full)) return true;
  return case_ok(c, clattn_kit_safetensors_find(c->file, full, tensor));
}

bool case_input(cli_case *c, const char *name, clattn_kit_tensor *tensor) {
  return find(c, "in", name, tensor);
}

bool case_required(cli_case *c, const char *name, clattn_kit_tensor *tensor) {
  if (!case_input(c, name, tensor)) return false;
  if (tensor->name == NULL) return case_fail(c, "no input '%s'", name);
  return true;
}

/* Device memory that lives as long as the run. */
static bool allocate(cli_case *c, size_t bytes, clattn_buffer **buffer) {
  if (c->n_buffers == CASE_MAX_BUFFERS)
    return case_fail(c, "more than %d tensors", CASE_MAX_BUFFERS);
  const case_target *t = c->target;
  if (!case_ok(c, clattn_buffer_create(t->context, t->device, bytes, buffer)))
    return false;
  c->buffers[c->n_buffers++] = *buffer;
  return true;
}

bool case_upload(cli_case *c, const clattn_kit_tensor *tensor,
                 clattn_tensor *view) {
  const clattn_dtype dtype = clattn_kit_dtype_on_device(tensor->dtype);
  if (dtype == 0)
    return case_skip(c, "tensor '%s': type %s has no place on a device",
                     tensor->name, clattn_kit_dtype_name(tensor->dtype));
  if (tensor->rank < 1 || tensor->rank > 4)
    return case_fail(c, "tensor '%s': got rank %d, want 1..4", tensor->name,
                     tensor->rank);
  if (tensor->size_bytes == 0)
    return case_fail(c, "tensor '%s' is empty", tensor->name);
  clattn_buffer *buffer;
  if (!allocate(c, tensor->size_bytes, &buffer) ||
      !case_ok(c, clattn_buffer_write(c->target->queue, buffer, 0, tensor->data,
                                      tensor->size_bytes)))
    return false;
  *view = clattn_view(buffer, dtype, tensor->rank, tensor->extent);
  return true;
}

bool case_upload_as(cli_case *c, const clattn_kit_tensor *tensor, int64_t b,
                    int64_t h, int64_t s, int64_t d, clattn_tensor *view) {
  /* In double, since the factors may come from a crafted file. */
  if ((double)b * (double)h * (double)s * (double)d !=
      (double)clattn_kit_tensor_elements(tensor))
    return case_fail(c, "tensor '%s': its shape does not fit the others'",
                     tensor->name);
  if (!case_upload(c, tensor, view)) return false;
  *view = clattn_view_bhsd(view->buffer, view->dtype, b, h, s, d);
  return true;
}

bool case_wants(const cli_case *c, const char *name) {
  char full[64];
  snprintf(full, sizeof full, "out.%s", name);
  return clattn_kit_safetensors_has(c->file, full);
}

bool case_gives(const cli_case *c, const char *name) {
  return !c->says_outputs || case_wants(c, name);
}

clattn_dtype case_want_dtype(const cli_case *c, const char *name,
                             clattn_dtype absent) {
  char full[64];
  clattn_kit_tensor tensor;
  snprintf(full, sizeof full, "out.%s", name);
  if (!case_wants(c, name) ||
      clattn_kit_safetensors_find(c->file, full, &tensor) != CLATTN_OK ||
      clattn_kit_dtype_on_device(tensor.dtype) == 0)
    return absent;
  return clattn_kit_dtype_on_device(tensor.dtype);
}

/* Fills an output's device memory: guards, and NaN for what is to be written,
 * so that an element that nobody writes is found. */
static bool poison(cli_case *c, const case_output *out, size_t guard_bytes) {
  const size_t bytes = out->got.size_bytes + 2 * guard_bytes;
  unsigned char *image = malloc(bytes);
  if (image == NULL) return case_fail(c, "no memory");
  memset(image, GUARD_BYTE, bytes);
  memset(image + guard_bytes, POISON_BYTE, out->got.size_bytes);
  const bool ok = case_ok(
      c, clattn_buffer_write(c->target->queue, out->buffer, 0, image, bytes));
  free(image);
  return ok;
}

bool case_expect(cli_case *c, const char *name, clattn_dtype dtype, int rank,
                 const int64_t *extent, clattn_buffer **buffer,
                 int64_t *offset) {
  if (c->n_outputs == CASE_MAX_OUTPUTS)
    return case_fail(c, "more than %d outputs", CASE_MAX_OUTPUTS);
  case_output *out = &c->outputs[c->n_outputs];
  clattn_kit_tensor *got = &out->got;
  *got = (clattn_kit_tensor){
      .name = name, .dtype = clattn_kit_dtype_of(dtype), .rank = rank};
  int64_t bytes = (int64_t)clattn_dtype_size(dtype);
  for (int i = 0; i < rank; i++) {
    got->extent[i] = extent[i];
    if (extent[i] < 1 || __builtin_mul_overflow(bytes, extent[i], &bytes) ||
        bytes > INT64_MAX / 4)
      return case_fail(c, "output %s: its shape is empty or too large", name);
  }
  got->size_bytes = (size_t)bytes;
  if (!find(c, "out", name, &out->want)) return false;
  if (out->want.name != NULL) {
    bool same = out->want.rank == rank && out->want.dtype == got->dtype;
    for (int i = 0; same && i < rank; i++)
      same = out->want.extent[i] == extent[i];
    if (!same)
      return case_fail(c,
                       "output %s: the file's shape or type is not what its "
                       "inputs give",
                       name);
  }
  const size_t guard_bytes = GUARD * clattn_dtype_size(dtype);
  if (!allocate(c, got->size_bytes + 2 * guard_bytes, &out->buffer) ||
      !poison(c, out, guard_bytes))
    return false;
  c->n_outputs++;
  *buffer = out->buffer;
  *offset = GUARD;
  return true;
}

/* ---- running ------------------------------------------------------------- */

static bool guards_hold(const unsigned char *image, size_t bytes) {
  for (size_t i = 0; i < bytes; i++)
    if (image[i] != GUARD_BYTE) return false;
  return true;
}

/* Reads an output and its guards. */
static bool fetch(cli_case *c, case_output *out) {
  const size_t guard_bytes = GUARD * clattn_kit_dtype_size(out->got.dtype);
  const size_t bytes = out->got.size_bytes;
  unsigned char *image = malloc(bytes + 2 * guard_bytes);
  if (image == NULL) return case_fail(c, "no memory");
  out->got.data = image;
  if (!case_ok(c, clattn_buffer_read(c->target->queue, out->buffer, 0, image,
                                     bytes + 2 * guard_bytes)))
    return false;
  if (!guards_hold(image, guard_bytes) ||
      !guards_hold(image + guard_bytes + bytes, guard_bytes))
    return case_fail(c, "output %s: memory beside it was written",
                     out->got.name);
  memmove(image, image + guard_bytes, bytes);
  return true;
}

static bool build(cli_case *c) {
  static const struct {
    const char *op;
    bool (*build)(cli_case *c);
  } ops[] = {{"Attention", case_attention},
             {"AttentionGrad", case_attention},
             {"RotaryEmbedding", case_rotary},
             {"MultiHeadAttention", case_layer},
             {"MultiHeadAttentionGrad", case_layer}};
  for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
    if (strcmp(c->op, ops[i].op) == 0) return ops[i].build(c);
  return case_skip(c, "op '%s' is not known", c->op);
}

case_verdict case_run(cli_case *c, const case_target *target, bool weights) {
  reset(c);
  c->target = target;
  c->weights = weights;
  if (!build(c) || !case_ok(c, clattn_queue_finish(target->queue)))
    return c->verdict;
  for (int i = 0; i < c->n_outputs; i++)
    if (!fetch(c, &c->outputs[i])) return c->verdict;
  return c->verdict = CASE_PASS;
}

/* ---- checking ------------------------------------------------------------ */

static double root_mean_square(const float *values, int64_t n) {
  double sum = 0;
  int64_t finite = 0;
  for (int64_t i = 0; i < n; i++) {
    if (!isfinite(values[i])) continue; /* lse has -inf in rows without keys */
    sum += (double)values[i] * (double)values[i];
    finite++;
  }
  return finite ? sqrt(sum / (double)finite) : 0;
}

/* The rule of the format: |got - want| <= absolute + relative * |want|. */
typedef struct tolerance {
  double absolute, relative;
} tolerance;

/* Expected values of a sum that is 0 are what is left of cancelling in double:
 * as the gradient of a key's bias, which softmax does not see. No F32 result is
 * that small; its error is to be small beside the case's other outputs. */
#define NOISE 1e-12

static double largest_expected(cli_case *c) {
  double largest = 0;
  for (int i = 0; i < c->n_outputs; i++) {
    const clattn_kit_tensor *want = &c->outputs[i].want;
    if (want->name == NULL) continue;
    const int64_t n = clattn_kit_tensor_elements(want);
    float *values = calloc((size_t)n, sizeof *values);
    if (values != NULL && clattn_kit_tensor_to_f32(want, values) == CLATTN_OK)
      largest = fmax(largest, root_mean_square(values, n));
    free(values);
  }
  return largest;
}

static tolerance tolerance_of(cli_case *c, clattn_kit_dtype dtype,
                              const float *want, int64_t n) {
  if (c->opset != 0) return (tolerance){1e-7, 1e-3};
  const double tol = dtype == CLATTN_KIT_F16    ? 2e-3
                     : dtype == CLATTN_KIT_BF16 ? 1.6e-2
                                                : 1e-4;
  double size = root_mean_square(want, n);
  if (size > 0 && size < NOISE) size = largest_expected(c);
  return (tolerance){tol * size, tol};
}

static bool close_enough(float got, float want, tolerance rule) {
  if (isnan(got) || isnan(want)) return false;
  if (isinf(got) || isinf(want)) return got == want;
  return fabs((double)got - (double)want) <=
         rule.absolute + rule.relative * fabs((double)want);
}

/* "Y[0,1,2]" of element i. */
static void element_name(const clattn_kit_tensor *tensor, int64_t i, char *name,
                         size_t room) {
  int64_t index[CLATTN_KIT_MAX_RANK];
  for (int d = tensor->rank - 1; d >= 0; d--) {
    index[d] = i % tensor->extent[d];
    i /= tensor->extent[d];
  }
  size_t used = (size_t)snprintf(name, room, "%s[", tensor->name);
  for (int d = 0; d < tensor->rank && used < room; d++)
    used += (size_t)snprintf(name + used, room - used, "%s%lld", d ? "," : "",
                             (long long)index[d]);
  if (used < room) snprintf(name + used, room - used, "]");
}

static bool compare(cli_case *c, case_output *out, const float *got,
                    const float *want, int64_t n) {
  const tolerance rule = tolerance_of(c, out->want.dtype, want, n);
  int64_t wrong = 0, first = 0;
  for (int64_t i = 0; i < n; i++) {
    const double error = fabs((double)got[i] - (double)want[i]);
    if (isfinite(error) && error > out->max_error) out->max_error = error;
    if (close_enough(got[i], want[i], rule)) continue;
    if (wrong++ == 0) first = i;
  }
  if (wrong == 0) return true;
  char name[128];
  element_name(&out->got, first, name, sizeof name);
  return case_fail(c, "output %s: got %.9g, want %.9g (%lld of %lld wrong)",
                   name, (double)got[first], (double)want[first],
                   (long long)wrong, (long long)n);
}

case_verdict case_check(cli_case *c) {
  for (int i = 0; i < c->n_outputs && c->verdict == CASE_PASS; i++) {
    case_output *out = &c->outputs[i];
    if (out->want.name == NULL) continue;
    c->compared++;
    const int64_t n = clattn_kit_tensor_elements(&out->got);
    float *got = calloc((size_t)n, sizeof *got);
    float *want = calloc((size_t)n, sizeof *want);
    if (got == NULL || want == NULL)
      case_fail(c, "no memory");
    else if (case_ok(c, clattn_kit_tensor_to_f32(&out->got, got)) &&
             case_ok(c, clattn_kit_tensor_to_f32(&out->want, want)))
      compare(c, out, got, want, n);
    free(got);
    free(want);
  }
  return c->verdict;
}

double case_max_error(const cli_case *c) {
  double max = 0;
  for (int i = 0; i < c->n_outputs; i++)
    if (c->outputs[i].max_error > max) max = c->outputs[i].max_error;
  return max;
}

case_verdict case_verify(cli_case *c, const case_target *target) {
  const bool has_weights =
      case_wants(c, "weights") || case_wants(c, "qk_matmul_output");
  c->compared = 0;
  case_verdict verdict = case_run(c, target, has_weights);
  if (verdict == CASE_PASS) verdict = case_check(c);
  /* Weights make AUTO leave the fused path, which is to be checked as well. */
  if (verdict == CASE_PASS && has_weights && target->path == CLATTN_AUTO) {
    verdict = case_run(c, target, false);
    if (verdict == CASE_PASS) verdict = case_check(c);
    if (verdict != CASE_PASS) {
      char text[sizeof c->why];
      memcpy(text, c->why, sizeof text);
      case_fail(c, "without weights: %s", text);
      verdict = c->verdict;
    }
  }
  if (verdict == CASE_PASS && c->compared == 0) {
    case_skip(c, c->says_outputs ? "none of the file's outputs was compared"
                                 : "no expected outputs in the file");
    verdict = c->verdict;
  }
  return verdict;
}
