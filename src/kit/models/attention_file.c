/* attention_file.c - what every head attended to, as a file; see clattn_model.h.
 *
 * The model is watched layer by layer, and each layer's part is written before
 * the next one is computed. */
#define _POSIX_C_SOURCE 200809L
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "clattn_model.h"
#include "kit/kit.h"
#include "kit/text/utf8.h"

#define FORMAT "clattn.attention 1"
#define DEFAULT_TOKENS 1024 /* up to so many, whole matrices by default */
#define DEFAULT_TOP 8
#define DEFAULT_BLOCK 64

void clattn_attention_options_init(clattn_attention_options *options) {
  if (options == NULL) return;
  *options = (clattn_attention_options){.struct_size = sizeof *options,
                                        .dtype = CLATTN_F16,
                                        .top = DEFAULT_TOP,
                                        .map_block = DEFAULT_BLOCK};
}

/* ---- metadata --------------------------------------------------------------- */

enum { MAX_NOTES = 24 };

typedef struct notes {
  clattn_kit_metadata entries[MAX_NOTES]; /* [n], each text to free() */
  size_t n;
  bool failed; /* no memory */
} notes;

/* Takes the text over. */
static void note(notes *notes, const char *key, char *text) {
  if (text == NULL) {
    notes->failed = true;
    return;
  }
  notes->entries[notes->n++] = (clattn_kit_metadata){key, text};
}

static void note_number(notes *notes, const char *key, int64_t number) {
  char text[24];
  snprintf(text, sizeof text, "%lld", (long long)number);
  note(notes, key, strdup(text));
}

/* Takes the list over. */
static void note_list(notes *notes, const char *key, json_t *list) {
  note(notes, key, list == NULL ? NULL : json_dumps(list, JSON_COMPACT));
  json_decref(list);
}

/* A text with its NULs as spaces: metadata ends at a NUL, and every other byte
 * must stay where begins and ends say. */
static void note_text(notes *notes, const char *key, const char *text,
                      size_t n) {
  char *copy = malloc(n + 1);
  if (copy != NULL) {
    for (size_t i = 0; i < n; i++) copy[i] = text[i] == '\0' ? ' ' : text[i];
    copy[n] = '\0';
  }
  note(notes, key, copy);
}

static void free_notes(notes *notes) {
  for (size_t i = 0; i < notes->n; i++) free((char *)notes->entries[i].text);
}

/* A token's bytes as a JSON string; U+FFFD for each part that is not UTF-8. */
static json_t *token_text(const char *bytes, size_t n) {
  if (kit_utf8_valid(bytes, n) == n) return json_stringn(bytes, n);
  char *text = malloc(3 * n + 1); /* a byte becomes three at most */
  size_t used = 0;
  for (size_t at = 0; text != NULL && at < n;) {
    const size_t good = kit_utf8_valid(bytes + at, n - at);
    memcpy(text + used, bytes + at, good);
    used += good, at += good;
    if (at == n) break;
    bool cut;
    at += kit_utf8_bad(bytes + at, n - at, &cut);
    used += kit_utf8_put(0xFFFD, text + used);
  }
  json_t *string = text == NULL ? NULL : json_stringn(text, used);
  free(text);
  return string;
}

/* Takes the value over. */
static void append(notes *notes, json_t *list, json_t *value) {
  if (json_array_append_new(list, value) != 0) notes->failed = true;
}

static void note_tokens(notes *notes, const clattn_tokenizer *tokenizer,
                        const clattn_encoding *encoding) {
  json_t *texts = json_array(), *ids = json_array(), *begins = json_array();
  json_t *ends = json_array(), *segments = json_array(), *added = json_array();
  for (int64_t i = 0; i < encoding->n; i++) {
    size_t n;
    const char *bytes = clattn_tokenizer_token(tokenizer, encoding->ids[i], &n);
    append(notes, texts, token_text(bytes ? bytes : "", n));
    append(notes, ids, json_integer(encoding->ids[i]));
    append(notes, begins, json_integer(encoding->begins[i]));
    append(notes, ends, json_integer(encoding->ends[i]));
    append(notes, segments, json_integer(encoding->segments[i]));
    append(notes, added, json_integer(encoding->added[i]));
  }
  note_list(notes, "tokens", texts);
  note_list(notes, "ids", ids);
  note_list(notes, "begins", begins);
  note_list(notes, "ends", ends);
  note_list(notes, "segments", segments);
  note_list(notes, "added", added);
}

/* ---- tensors ------------------------------------------------------------------ */

/* What a layer may have in the file. X(name, which is there with) */
#define PART_MAP(X)                                                            \
  X(attention, CLATTN_WATCH_ATTENTION)                                         \
  X(entropy, CLATTN_WATCH_STATISTICS)                                          \
  X(distance, CLATTN_WATCH_STATISTICS)                                         \
  X(top_keys, CLATTN_WATCH_TOP)                                                \
  X(top_weights, CLATTN_WATCH_TOP)                                             \
  X(map, CLATTN_WATCH_MAP)

typedef enum part {
#define X(name, watch) PART_##name,
  PART_MAP(X)
#undef X
      PARTS
} part;

typedef struct recording {
  clattn_model_config model;
  clattn_attention_options options;
  int64_t n, m;      /* tokens; cells of a row of the map */
  part parts[PARTS]; /* [n_parts] those of a layer, in order */
  size_t n_parts;
  clattn_kit_tensor *tensors; /* [layers * n_parts] without their bytes */
  char (*names)[32];          /* [layers * n_parts] */
  uint16_t *narrow;           /* [n] a row of weights in F16 */
  clattn_kit_safetensors_writer *writer;
} recording;

/* Type and shape of a layer's part. */
static clattn_kit_tensor describe(const recording *r, part part) {
  const int64_t h = r->model.heads, n = r->n, top = r->options.top;
  clattn_kit_tensor t = {
      .dtype = CLATTN_KIT_F32, .rank = 3, .extent = {h, n, top}};
  switch (part) {
    case PART_attention:
      t.dtype = clattn_kit_dtype_of(r->options.dtype);
      t.extent[2] = n;
      break;
    case PART_entropy:
    case PART_distance:
      t.rank = 2;
      break;
    case PART_top_keys:
      t.dtype = CLATTN_KIT_I32;
      break;
    case PART_map:
      t.extent[1] = t.extent[2] = r->m;
      break;
    default:
      break;
  }
  return t;
}

/* The tensors of every layer. */
static clattn_status list_tensors(recording *r) {
  static const struct {
    const char *name;
    uint32_t watch;
  } known[PARTS] = {
#define X(name, watch) {#name, watch},
      PART_MAP(X)
#undef X
  };
  for (int p = 0; p < PARTS; p++)
    if (r->options.watch & known[p].watch) r->parts[r->n_parts++] = (part)p;
  const size_t count = (size_t)r->model.layers * r->n_parts;
  r->tensors = calloc(count, sizeof *r->tensors);
  r->names = calloc(count, sizeof *r->names);
  r->narrow = calloc((size_t)r->n, sizeof *r->narrow);
  if (r->tensors == NULL || r->names == NULL || r->narrow == NULL)
    return KIT_OUT_OF_MEMORY("attention file");
  for (size_t i = 0; i < count; i++) {
    const part part = r->parts[i % r->n_parts];
    snprintf(r->names[i], sizeof r->names[i], "%s.%zu", known[part].name,
             i / r->n_parts);
    r->tensors[i] = describe(r, part);
    r->tensors[i].name = r->names[i];
  }
  return CLATTN_OK;
}

/* weights [rows, n] into tensor i, in F16. */
static clattn_status put_narrow(recording *r, size_t i, const float *weights,
                                int64_t rows) {
  const size_t n = (size_t)r->n;
  for (int64_t row = 0; row < rows; row++) {
    KIT_TRY(clattn_convert(CLATTN_F32, weights + (size_t)row * n, CLATTN_F16,
                           r->narrow, n));
    KIT_TRY(clattn_kit_safetensors_writer_put(r->writer, i, r->narrow,
                                              n * sizeof *r->narrow));
  }
  return CLATTN_OK;
}

/* The watch of the model: writes a layer's parts. */
static clattn_status put_layer(void *user, const clattn_model_layer *layer) {
  recording *r = user;
  const int64_t rows = r->model.heads * r->n;
  for (size_t p = 0; p < r->n_parts; p++) {
    const part part = r->parts[p];
    const size_t i = (size_t)layer->layer * r->n_parts + p;
    if (part == PART_attention && r->options.dtype == CLATTN_F16) {
      KIT_TRY(put_narrow(r, i, layer->attention[0], rows));
      continue;
    }
    const void *const data[PARTS] = {
        [PART_attention] = layer->attention ? layer->attention[0] : NULL,
        [PART_entropy] = layer->entropy,
        [PART_distance] = layer->distance,
        [PART_top_keys] = layer->top_keys,
        [PART_top_weights] = layer->top_weights,
        [PART_map] = layer->map ? layer->map[0] : NULL};
    const size_t bytes =
        (size_t)clattn_kit_tensor_elements(&r->tensors[i]) * sizeof(float);
    KIT_TRY(clattn_kit_safetensors_writer_put(r->writer, i, data[part], bytes));
  }
  if (r->options.progress != NULL)
    r->options.progress(r->options.progress_user, layer->layer + 1,
                        r->model.layers);
  return CLATTN_OK;
}

/* ---- the file ------------------------------------------------------------------- */

typedef struct source {
  const clattn_tokenizer *tokenizer;
  const char *text, *pair; /* pair NULL: none */
  size_t text_bytes, pair_bytes;
  clattn_encoding encoding;
} source;

static void describe_source(notes *notes, const recording *r,
                            const source *source) {
  const clattn_model_config *model = &r->model;
  const clattn_attention_options *options = &r->options;
  note(notes, "format", strdup(FORMAT));
  note(notes, "kind", strdup(model->causal ? "decoder" : "encoder"));
  note(notes, "causal", strdup(model->causal ? "true" : "false"));
  note(notes, "model",
       strdup(options->model_name ? options->model_name : model->name));
  note_number(notes, "layers", model->layers);
  note_number(notes, "heads", model->heads);
  note_number(notes, "kv_heads", model->kv_heads);
  note_number(notes, "head_dim", model->head_dim);
  note_number(notes, "length", r->n);
  note_tokens(notes, source->tokenizer, &source->encoding);
  note_text(notes, "text", source->text, source->text_bytes);
  if (source->pair != NULL)
    note_text(notes, "pair", source->pair, source->pair_bytes);
  if (options->watch & CLATTN_WATCH_TOP)
    note_number(notes, "top", options->top);
  if (options->watch & CLATTN_WATCH_MAP)
    note_number(notes, "map_block", options->map_block);
}

/* Runs the model over the tokens while put_layer writes. */
static clattn_status run(clattn_model *model, clattn_queue *queue, recording *r,
                         const clattn_encoding *encoding) {
  int32_t *types = NULL;
  if (r->model.types > 0) { /* a model with segments reads them */
    types = calloc((size_t)r->n, sizeof *types);
    if (types == NULL) return KIT_OUT_OF_MEMORY("attention file");
    for (int64_t i = 0; i < r->n; i++)
      types[i] = r->model.types > 1 ? encoding->segments[i] : 0;
  }
  clattn_model_input input;
  clattn_model_input_init(&input);
  input.length = r->n;
  input.ids = encoding->ids;
  input.types = types;
  clattn_model_output output;
  clattn_model_output_init(&output);
  output.watch = r->options.watch;
  output.on_layer = put_layer;
  output.user = r;
  output.top = r->options.top;
  output.map_block = r->options.map_block;
  const clattn_status status = clattn_model_run(model, queue, &input, &output);
  free(types);
  return status;
}

static clattn_status write_file(clattn_model *model, clattn_queue *queue,
                                recording *r, const source *source,
                                const char *path) {
  KIT_REQUIRE(source->encoding.n > 0, "text: it has no tokens");
  r->n = source->encoding.n;
  KIT_REQUIRE(r->n <= r->model.positions,
              "text: got %lld tokens, the model has positions for %lld",
              (long long)r->n, (long long)r->model.positions);
  if (r->options.watch == 0)
    r->options.watch =
        CLATTN_WATCH_STATISTICS |
        (r->n <= DEFAULT_TOKENS ? CLATTN_WATCH_ATTENTION
                                : CLATTN_WATCH_TOP | CLATTN_WATCH_MAP);
  r->m = (r->n - 1) / r->options.map_block + 1;
  KIT_TRY(list_tensors(r));
  notes notes = {0};
  describe_source(&notes, r, source);
  clattn_status status =
      notes.failed ? KIT_OUT_OF_MEMORY("attention file")
                   : clattn_kit_safetensors_writer_create(
                         path, r->tensors, (size_t)r->model.layers * r->n_parts,
                         notes.entries, notes.n, &r->writer);
  free_notes(&notes);
  KIT_TRY(status);
  KIT_TRY(run(model, queue, r, &source->encoding));
  return clattn_kit_safetensors_writer_finish(r->writer);
}

static clattn_status check_options(const clattn_attention_options *options) {
  KIT_REQUIRE_STRUCT(options, clattn_attention_options);
  const uint32_t known = CLATTN_WATCH_ATTENTION | CLATTN_WATCH_STATISTICS |
                         CLATTN_WATCH_TOP | CLATTN_WATCH_MAP;
  KIT_REQUIRE((options->watch & ~known) == 0,
              "options->watch: got 0x%x, want bits of 0x%x", options->watch,
              known);
  KIT_REQUIRE(options->dtype == CLATTN_F16 || options->dtype == CLATTN_F32,
              "options->dtype: got %s (%d), want f16 or f32",
              clattn_dtype_name(options->dtype), (int)options->dtype);
  KIT_REQUIRE(options->top >= 1 && options->top <= 32,
              "options->top: got %lld, want 1..32", (long long)options->top);
  KIT_REQUIRE(options->map_block >= 1,
              "options->map_block: got %lld, want at least 1",
              (long long)options->map_block);
  return CLATTN_OK;
}

clattn_status clattn_model_write_attention(
    clattn_model *model, clattn_queue *queue, const clattn_tokenizer *tokenizer,
    const char *text, size_t size_bytes, const char *pair, size_t pair_bytes,
    const clattn_attention_options *options, const char *path) {
  KIT_REQUIRE(model != NULL, "model: got NULL, want a model");
  KIT_REQUIRE(queue != NULL, "queue: got NULL, want a queue");
  KIT_REQUIRE(tokenizer != NULL, "tokenizer: got NULL, want a tokenizer");
  KIT_REQUIRE(text != NULL, "text: got NULL, want a text");
  KIT_REQUIRE(path != NULL, "path: got NULL, want a file's path");
  recording r = {.model.struct_size = sizeof r.model};
  clattn_attention_options_init(&r.options);
  if (options != NULL) {
    KIT_TRY(check_options(options));
    r.options = *options;
  }
  KIT_TRY(clattn_model_get_config(model, &r.model));
  KIT_TRY(clattn_model_check_tokenizer(model, tokenizer));
  source source = {.tokenizer = tokenizer,
                   .text = text,
                   .text_bytes = size_bytes,
                   .pair = pair,
                   .pair_bytes = pair_bytes};
  clattn_encode_options encode;
  clattn_encode_options_init(&encode);
  encode.pair = pair;
  encode.pair_bytes = pair_bytes;
  KIT_TRY(clattn_tokenizer_encode(tokenizer, text, size_bytes, &encode,
                                  &source.encoding));
  const clattn_status status = write_file(model, queue, &r, &source, path);
  clattn_kit_safetensors_writer_destroy(r.writer);
  free(r.tensors);
  free(r.names);
  free(r.narrow);
  clattn_encoding_free(&source.encoding);
  return status;
}
