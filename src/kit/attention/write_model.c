/* write_model.c - what every head of a model attended to, as a file.
 *
 * The model is watched layer by layer, and what is told of each layer is written
 * before the next one is computed. The file's head needs scale and window, which
 * the first layer tells: it is made then. */
#include <stdlib.h>

#include "record.h"
#include "tokens.h"

typedef struct recording {
  const clattn_attention_options *options;
  const char *path;
  attention_head head;
  clattn_attention_part part;
  float *scaled; /* [heads, n, head_dim], where a layer's scale is its own */
  attention_writer *writer;
} recording;

/* A layer's queries, for the scale that the file has: models may scale each layer
 * in its own way. */
static clattn_status queries(recording *r, const clattn_model_layer *layer,
                             const float **query) {
  const clattn_attention_part *p = &r->part;
  *query = layer->query[0];
  if (layer->scale == p->scale) return CLATTN_OK;
  /* Their product was found to fit when the tensor was written before. */
  const size_t n = (size_t)(p->heads * p->rows.n * p->head_dim);
  if (r->scaled == NULL) r->scaled = malloc(n * sizeof *r->scaled);
  if (r->scaled == NULL) return KIT_OUT_OF_MEMORY("attention file");
  for (size_t i = 0; i < n; i++)
    r->scaled[i] = (float)((double)(*query)[i] * (layer->scale / p->scale));
  *query = r->scaled;
  return CLATTN_OK;
}

static clattn_status begin(recording *r, const clattn_model_layer *layer) {
  r->part.scale = layer->scale;
  r->part.window = layer->window;
  attention_part_complete(&r->part);
  KIT_TRY(attention_part_check(&r->part, "model: "));
  return attention_writer_create(r->path, &r->head, &r->writer);
}

/* The watch of the model. */
static clattn_status put_layer(void *user, const clattn_model_layer *layer) {
  recording *r = user;
  if (r->writer == NULL) KIT_TRY(begin(r, layer));
  const float *query = NULL;
  if (layer->query != NULL) KIT_TRY(queries(r, layer, &query));
  const void *const told[CLATTN_ATTENTION_TENSORS] = {
      [CLATTN_ATTENTION_WEIGHTS] =
          layer->attention ? layer->attention[0] : NULL,
      [CLATTN_ATTENTION_QUERY] = query,
      [CLATTN_ATTENTION_KEY] = layer->key ? layer->key[0] : NULL,
      [CLATTN_ATTENTION_ENTROPY] = layer->entropy,
      [CLATTN_ATTENTION_DISTANCE] = layer->distance,
      [CLATTN_ATTENTION_TOP_KEYS] = layer->top_keys,
      [CLATTN_ATTENTION_TOP_WEIGHTS] = layer->top_weights,
      [CLATTN_ATTENTION_MAP] = layer->map ? layer->map[0] : NULL};
  for (int t = 0; t < CLATTN_ATTENTION_TENSORS; t++) {
    const clattn_attention_tensor tensor = (clattn_attention_tensor)t;
    if (attention_has(&r->part, tensor))
      KIT_TRY(
          attention_writer_put(r->writer, 0, layer->layer, tensor, told[t]));
  }
  if (r->options->progress != NULL)
    r->options->progress(r->options->progress_user, layer->layer + 1,
                         r->part.layers);
  return CLATTN_OK;
}

/* Runs the model over the tokens while put_layer writes. types: how many segments
 * it tells apart. */
static clattn_status run(clattn_model *model, clattn_queue *queue, recording *r,
                         int64_t types_known, const clattn_encoding *encoding) {
  int32_t *types = NULL;
  if (types_known > 0) { /* a model with segments reads them */
    types = calloc((size_t)encoding->n, sizeof *types);
    if (types == NULL) return KIT_OUT_OF_MEMORY("attention file");
    for (int64_t i = 0; i < encoding->n; i++)
      types[i] = types_known > 1 ? encoding->segments[i] : 0;
  }
  clattn_model_input input;
  clattn_model_input_init(&input);
  input.length = encoding->n;
  input.ids = encoding->ids;
  input.types = types;
  clattn_model_output output;
  clattn_model_output_init(&output);
  output.watch = r->options->watch;
  output.on_layer = put_layer;
  output.user = r;
  output.top = r->options->top;
  output.map_block = r->options->map_block;
  const clattn_status status = clattn_model_run(model, queue, &input, &output);
  free(types);
  return status;
}

static void describe(clattn_attention_part *part,
                     const clattn_model_config *model,
                     const clattn_encoding *encoding, char **texts) {
  clattn_attention_part_init(part);
  part->kind =
      model->causal ? CLATTN_ATTENTION_DECODER : CLATTN_ATTENTION_ENCODER;
  part->causal = model->causal;
  part->layers = model->layers;
  part->heads = model->heads;
  part->kv_heads = model->kv_heads;
  part->head_dim = model->head_dim;
  part->rows = (clattn_attention_tokens){.n = encoding->n,
                                         .texts = (const char *const *)texts,
                                         .ids = encoding->ids,
                                         .begins = encoding->begins,
                                         .ends = encoding->ends,
                                         .segments = encoding->segments,
                                         .added = encoding->added};
}

static clattn_status write_file(clattn_model *model, clattn_queue *queue,
                                const clattn_tokenizer *tokenizer,
                                const clattn_encoding *encoding,
                                clattn_attention_options *options,
                                recording *r) {
  clattn_model_config config = {.struct_size = sizeof config};
  KIT_TRY(clattn_model_get_config(model, &config));
  KIT_REQUIRE(encoding->n > 0, "text: it has no tokens");
  KIT_REQUIRE(encoding->n <= config.positions,
              "text: got %lld tokens, the model has positions for %lld",
              (long long)encoding->n, (long long)config.positions);
  if (options->watch == 0)
    options->watch = CLATTN_WATCH_STATISTICS | CLATTN_WATCH_QUERY_KEY |
                     (encoding->n <= ATTENTION_WHOLE_TOKENS
                          ? CLATTN_WATCH_ATTENTION
                          : CLATTN_WATCH_TOP | CLATTN_WATCH_MAP);
  char **texts;
  KIT_TRY(attention_texts_make(tokenizer, encoding->ids, encoding->n, &texts));
  describe(&r->part, &config, encoding, texts);
  attention_part_watch(&r->part, options);
  r->head.model = options->model_name ? options->model_name : config.name;
  r->head.parts = &r->part;
  r->head.n_parts = 1;
  clattn_status status = run(model, queue, r, config.types, encoding);
  if (status == CLATTN_OK) status = attention_writer_finish(r->writer);
  attention_writer_destroy(r->writer);
  free(r->scaled);
  attention_texts_free(texts, encoding->n);
  return status;
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
  clattn_attention_options taken;
  KIT_TRY(attention_options_take(
      options,
      CLATTN_WATCH_ATTENTION | CLATTN_WATCH_STATISTICS | CLATTN_WATCH_TOP |
          CLATTN_WATCH_MAP | CLATTN_WATCH_QUERY_KEY,
      &taken));
  KIT_TRY(clattn_model_check_tokenizer(model, tokenizer));
  recording r = {.options = &taken,
                 .path = path,
                 .head = {.text = text,
                          .text_bytes = size_bytes,
                          .pair = pair,
                          .pair_bytes = pair_bytes}};
  clattn_encode_options encode;
  clattn_encode_options_init(&encode);
  encode.pair = pair;
  encode.pair_bytes = pair_bytes;
  encode.max_length = taken.max_tokens;
  clattn_encoding encoding;
  KIT_TRY(
      clattn_tokenizer_encode(tokenizer, text, size_bytes, &encode, &encoding));
  const clattn_status status =
      write_file(model, queue, tokenizer, &encoding, &taken, &r);
  clattn_encoding_free(&encoding);
  return status;
}
