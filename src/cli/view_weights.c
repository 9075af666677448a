/* view_weights.c - weights that any program wrote, as a recording.
 *
 * Read are [rows, keys], [heads, rows, keys] and [layers, heads, rows, keys] in
 * one tensor, or a tensor a layer, NAME.0, NAME.1 ..., each [heads, rows, keys].
 * Where there are more dimensions, those of 1 are dropped: a batch of one, as
 * models return it. */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "view.h"

#define MOST_F16 65504 /* the largest number that F16 has */

typedef struct weights {
  const char *path;
  clattn_kit_safetensors *file;
  clattn_kit_tensor *layers; /* [n_layers] each [heads, rows, keys] */
  int64_t n_layers, heads, rows, keys;
  float *values; /* [heads, rows, keys] of the layer at hand */
  bool upper;    /* a row weighs a key after its own */
  double worst;  /* how far a sum of a row is from 1, the most */
  double largest;
} weights;

/* ---- files of other programs ------------------------------------------------------- */

bool view_foreign_array(const char *path) {
  static const struct {
    const char *magic, *what, *how;
  } known[] = {
      {"\x93NUMPY", "an array of NumPy",
       "safetensors.numpy.save_file({\"attention\": numpy.load(\"%s\")}, "
       "\"attention.safetensors\")"},
      {"PK\3\4", "an archive of PyTorch or NumPy",
       "safetensors.torch.save_file({\"attention\": "
       "torch.stack(out.attentions)}, \"attention.safetensors\")"}};
  struct stat about;
  if (stat(path, &about) != 0 || !S_ISREG(about.st_mode)) return false;
  FILE *file = fopen(path, "rb");
  if (file == NULL) return false;
  char head[8] = "";
  const size_t n = fread(head, 1, sizeof head, file);
  fclose(file);
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
    const size_t length = strlen(known[i].magic);
    if (n < length || memcmp(head, known[i].magic, length) != 0) continue;
    char how[1024];
    snprintf(how, sizeof how, known[i].how, path);
    cli_error("%s: is %s, want safetensors for --weights; in Python:\n  %s",
              path, known[i].what, how);
    return true;
  }
  return false;
}

/* ---- which tensors ---------------------------------------------------------------- */

static clattn_kit_tensor *add_layer(weights *w,
                                    const clattn_kit_tensor *tensor) {
  const size_t n = (size_t)w->n_layers + 1;
  clattn_kit_tensor *all = realloc(w->layers, n * sizeof *all);
  if (all == NULL) {
    cli_error("%s: no memory for %zu layers", w->path, n);
    return NULL;
  }
  w->layers = all;
  all[w->n_layers] = *tensor;
  return &all[w->n_layers++];
}

/* Cuts a leading extent off: what is left at `index` of it. */
static void take(clattn_kit_tensor *tensor, int64_t index) {
  const size_t bytes = tensor->size_bytes / (size_t)tensor->extent[0];
  tensor->data = (const char *)tensor->data + (size_t)index * bytes;
  tensor->size_bytes = bytes;
  tensor->rank--;
  memmove(tensor->extent, tensor->extent + 1,
          (size_t)tensor->rank * sizeof *tensor->extent);
}

/* Drops the first extents of 1 before rows and keys, down to a rank. */
static void squeeze(clattn_kit_tensor *tensor, int rank) {
  for (int i = 0; tensor->rank > rank && i < tensor->rank - 2;) {
    if (tensor->extent[i] != 1) {
      i++;
      continue;
    }
    tensor->rank--;
    memmove(tensor->extent + i, tensor->extent + i + 1,
            (size_t)(tensor->rank - i) * sizeof *tensor->extent);
  }
}

/* Puts a leading extent of 1 before the others. */
static void widen(clattn_kit_tensor *tensor) {
  memmove(tensor->extent + 1, tensor->extent,
          (size_t)tensor->rank * sizeof *tensor->extent);
  tensor->extent[0] = 1;
  tensor->rank++;
}

static bool bad_shape(const weights *w, const clattn_kit_tensor *tensor,
                      const char *want) {
  char shape[CLI_SHAPE_CHARS];
  cli_error("%s: %s: got %s, want %s", w->path, tensor->name,
            cli_shape(tensor, shape), want);
  return false;
}

/* Whether nothing of it is empty and its numbers can be read. */
static bool usable(const weights *w, const clattn_kit_tensor *tensor) {
  for (int i = 0; i < tensor->rank; i++)
    if (tensor->extent[i] < 1)
      return bad_shape(w, tensor, "at least one of each");
  if (tensor->dtype == CLATTN_KIT_F32 || tensor->dtype == CLATTN_KIT_F64 ||
      tensor->dtype == CLATTN_KIT_F16 || tensor->dtype == CLATTN_KIT_BF16)
    return true;
  cli_error("%s: %s: got %s, want F32, F64, F16 or BF16", w->path, tensor->name,
            tensor->dtype_name);
  return false;
}

/* All layers of one tensor. */
static bool split(weights *w, clattn_kit_tensor tensor) {
  static const char want[] =
      "[rows,keys], [heads,rows,keys] or [layers,heads,rows,keys], and "
      "dimensions of 1";
  const clattn_kit_tensor whole = tensor;
  squeeze(&tensor, 4);
  if (tensor.rank < 2 || tensor.rank > 4) return bad_shape(w, &whole, want);
  if (!usable(w, &tensor)) return false;
  while (tensor.rank < 4) widen(&tensor);
  for (int64_t i = 0; i < tensor.extent[0]; i++) {
    clattn_kit_tensor layer = tensor;
    take(&layer, i);
    if (add_layer(w, &layer) == NULL) return false;
  }
  return true;
}

/* The number of the tensor if its name is BASE.N; -1: it is another one. */
static int64_t layer_number(const char *name, const char *base) {
  const size_t n = strlen(base);
  if (strncmp(name, base, n) != 0 || name[n] != '.') return -1;
  const char *digits = name + n + 1;
  const size_t count = strspn(digits, "0123456789");
  const bool plain = digits[0] != '0' || count == 1; /* not 007 */
  if (count == 0 || digits[count] != '\0' || !plain) return -1;
  errno = 0;
  const long long number = strtoll(digits, NULL, 10);
  return errno == 0 ? number : INT64_MAX;
}

/* Whether a tensor is BASE.N for any N. */
static bool has_layers(const weights *w, const char *base) {
  clattn_kit_tensor tensor;
  for (size_t i = 0; i < clattn_kit_safetensors_count(w->file); i++)
    if (clattn_kit_safetensors_at(w->file, i, &tensor) == CLATTN_OK &&
        layer_number(tensor.name, base) >= 0)
      return true;
  return false;
}

/* Whether no tensor is behind the last layer, n-1; false after a message. */
static bool no_gap(const weights *w, const char *base, int64_t n) {
  clattn_kit_tensor tensor;
  for (size_t i = 0; i < clattn_kit_safetensors_count(w->file); i++) {
    if (!view_ok(clattn_kit_safetensors_at(w->file, i, &tensor))) return false;
    if (layer_number(tensor.name, base) < n) continue;
    cli_error("%s: %s.%lld is missing, but there is %s", w->path, base,
              (long long)n, tensor.name);
    return false;
  }
  return true;
}

/* NAME.0, NAME.1, ..., all that there are. */
static bool collect(weights *w, const char *base) {
  char name[256];
  clattn_kit_tensor tensor;
  for (int64_t i = 0;; i++) {
    snprintf(name, sizeof name, "%s.%lld", base, (long long)i);
    if (!clattn_kit_safetensors_has(w->file, name)) return no_gap(w, base, i);
    if (!view_ok(clattn_kit_safetensors_find(w->file, name, &tensor)))
      return false;
    if (!usable(w, &tensor)) return false;
    const clattn_kit_tensor whole = tensor;
    squeeze(&tensor, 3);
    if (tensor.rank == 2) widen(&tensor);
    if (tensor.rank != 3)
      return bad_shape(w, &whole,
                       "[heads,rows,keys] in each layer, and dimensions of 1");
    if (add_layer(w, &tensor) == NULL) return false;
  }
}

/* A tensor of that name, or one a layer; *there says whether it is there. */
static bool find_named(weights *w, const char *name, bool *there) {
  clattn_kit_tensor tensor;
  *there = true;
  if (clattn_kit_safetensors_has(w->file, name))
    return view_ok(clattn_kit_safetensors_find(w->file, name, &tensor)) &&
           split(w, tensor);
  if (has_layers(w, name)) return collect(w, name);
  return *there = false;
}

/* Of a file whose tensor nobody named. */
static bool find_unnamed(weights *w) {
  static const char *const usual[] = {"weights", "attention"};
  clattn_kit_tensor tensor;
  if (clattn_kit_safetensors_count(w->file) == 1)
    return view_ok(clattn_kit_safetensors_at(w->file, 0, &tensor)) &&
           split(w, tensor);
  for (size_t i = 0; i < sizeof usual / sizeof *usual; i++) {
    bool there;
    const bool found = find_named(w, usual[i], &there);
    if (there) return found;
  }
  cli_error(
      "%s: has %zu tensors, none of them weights or attention, with .0 behind "
      "it or not; --tensor=NAME says which",
      w->path, clattn_kit_safetensors_count(w->file));
  return false;
}

static bool find_layers(weights *w, const char *name) {
  if (name == NULL) return find_unnamed(w);
  bool there;
  const bool found = find_named(w, name, &there);
  if (!there)
    cli_error("%s: has no tensor %s, and no %s.0", w->path, name, name);
  return found;
}

/* All layers have one shape; memory for one of them. */
static bool agree(weights *w) {
  const clattn_kit_tensor *first = &w->layers[0];
  for (int64_t i = 1; i < w->n_layers; i++)
    if (memcmp(w->layers[i].extent, first->extent, 3 * sizeof *first->extent) !=
        0) {
      char shape[CLI_SHAPE_CHARS];
      return bad_shape(w, &w->layers[i], cli_shape(first, shape));
    }
  w->heads = first->extent[0];
  w->rows = first->extent[1];
  w->keys = first->extent[2];
  const int64_t elements = clattn_kit_tensor_elements(first);
  w->values = (uint64_t)elements > SIZE_MAX / sizeof *w->values
                  ? NULL
                  : malloc((size_t)elements * sizeof *w->values);
  if (w->values == NULL)
    cli_error("%s: no memory for %lld weights", w->path, (long long)elements);
  return w->values != NULL;
}

/* ---- whether they are weights ------------------------------------------------------- */

/* One row [keys] of layer l. */
static bool check_row(weights *w, int64_t l, int64_t head, int64_t row) {
  const float *values = w->values + (head * w->rows + row) * w->keys;
  const int64_t own =
      row + w->keys - w->rows; /* the last that causal rows see */
  double sum = 0;
  for (int64_t key = 0; key < w->keys; key++) {
    if (!(values[key] >= 0) || isinf(values[key])) {
      cli_error(
          "%s: %s: layer %lld, head %lld, row %lld, key %lld: got %g, want a "
          "weight: finite, and not below 0%s",
          w->path, w->layers[l].name, (long long)l, (long long)head,
          (long long)row, (long long)key, (double)values[key],
          values[key] < 0 ? " (are they scores, before the softmax?)" : "");
      return false;
    }
    if (key > own && values[key] > 0) w->upper = true;
    w->largest = fmax(w->largest, (double)values[key]);
    sum += (double)values[key];
  }
  /* A row that sees nothing is 0. */
  if (sum > 0) w->worst = fmax(w->worst, fabs(sum - 1));
  return true;
}

static bool check(weights *w) {
  for (int64_t l = 0; l < w->n_layers; l++) {
    if (!view_ok(clattn_kit_tensor_to_f32(&w->layers[l], w->values)))
      return false;
    for (int64_t head = 0; head < w->heads; head++)
      for (int64_t row = 0; row < w->rows; row++)
        if (!check_row(w, l, head, row)) return false;
  }
  if (w->worst > 0.02) /* more than what F16 and BF16 round off */
    cli_error(
        "%s: note: sums of rows differ from 1, by up to %.3g: shown as they "
        "are",
        w->path, w->worst);
  return true;
}

/* ---- the recording -------------------------------------------------------------------- */

static clattn_status read_layer(void *user, size_t part, int64_t layer,
                                clattn_attention_tensor tensor, void *values) {
  const weights *w = user;
  (void)part, (void)tensor; /* there are no others */
  return clattn_kit_tensor_to_f32(&w->layers[layer], values);
}

static bool read_tokens(const char *option, const char *path, int64_t want,
                        const char *side, const weights *w, view_list *list) {
  if (path == NULL) return view_list_numbers(want, list);
  if (!view_list_read(path, list)) return false;
  if (list->n == want) return true;
  cli_error("%s: %s has %lld tokens, want %lld, the %s of %s", option, path,
            (long long)list->n, (long long)want, side, w->path);
  return false;
}

static bool write(const view_options *o, bool f32, weights *w, const char *path,
                  view_run *run) {
  const bool cross = w->rows != w->keys || o->key_tokens != NULL;
  view_list rows = {0}, keys = {0};
  bool done = read_tokens("--tokens", o->tokens, w->rows, "rows", w, &rows) &&
              (!cross || read_tokens("--key-tokens", o->key_tokens, w->keys,
                                     "keys", w, &keys));
  if (done && o->causal && w->upper) {
    cli_error("--causal: %s has weights on keys after a row's own", w->path);
    done = false;
  }
  if (done) {
    clattn_attention_part part;
    clattn_attention_part_init(&part);
    /* Found, unless the keys are another text. One row sees all there is,
     * whatever the rule. */
    part.causal = o->causal || (o->key_tokens == NULL && !w->upper &&
                                w->rows > 1 && w->keys >= w->rows);
    part.kind = cross         ? CLATTN_ATTENTION_CROSS
                : part.causal ? CLATTN_ATTENTION_DECODER
                              : CLATTN_ATTENTION_ENCODER;
    part.layers = w->n_layers;
    part.heads = w->heads;
    part.rows = (clattn_attention_tokens){.n = rows.n, .texts = rows.texts};
    if (cross)
      part.keys = (clattn_attention_tokens){.n = keys.n, .texts = keys.texts};
    part.has = 1u << CLATTN_ATTENTION_WEIGHTS;
    part.dtype =
        f32 || o->f32 || w->largest > MOST_F16 ? CLATTN_F32 : CLATTN_F16;
    const char *slash = strrchr(w->path, '/');
    snprintf(run->name, sizeof run->name, "%s", slash ? slash + 1 : w->path);
    cli_clean(run->name);
    done = view_ok(clattn_attention_write(path, run->name, NULL, NULL, &part, 1,
                                          read_layer, w));
  }
  view_list_free(&rows);
  view_list_free(&keys);
  return done;
}

bool view_record_weights(const view_options *o, bool f32, const char *path,
                         view_run *run) {
  weights w = {.path = o->weights};
  if (view_foreign_array(o->weights)) return false;
  const bool done = view_ok(clattn_kit_safetensors_open(o->weights, &w.file)) &&
                    find_layers(&w, o->tensor) && agree(&w) && check(&w) &&
                    write(o, f32, &w, path, run);
  clattn_kit_safetensors_destroy(w.file);
  free(w.layers);
  free(w.values);
  return done;
}
