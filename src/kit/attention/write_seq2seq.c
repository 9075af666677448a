/* write_seq2seq.c - what an encoder-decoder attended to, as a file of three parts:
 * the encoder, the decoder's own rows, and those to the encoder's memory. */
#define _POSIX_C_SOURCE 200809L
#include <stdlib.h>
#include <string.h>

#include "kit/train/seq2seq.h"
#include "record.h"
#include "tokens.h"

/* The tokens of a side, as they lie in memory. */
typedef struct side {
  int64_t n;
  char **texts;
  int32_t *ids; /* of the model */
  int64_t *begins, *ends;
  uint8_t *segments, *added;
} side;

typedef struct recording {
  const clattn_attention_options *options;
  int64_t layers;
  clattn_attention_part parts[SEQ2SEQ_PARTS];
  attention_writer *writer;
} recording;

/* ---- tokens ------------------------------------------------------------------- */

static clattn_status make_side(side *s, int64_t n) {
  const size_t count = (size_t)n;
  s->n = n;
  s->texts = calloc(count, sizeof *s->texts);
  s->ids = calloc(count, sizeof *s->ids);
  s->begins = calloc(count, sizeof *s->begins);
  s->ends = calloc(count, sizeof *s->ends);
  s->segments = calloc(count, sizeof *s->segments);
  s->added = calloc(count, sizeof *s->added);
  return s->texts && s->ids && s->begins && s->ends && s->segments && s->added
             ? CLATTN_OK
             : KIT_OUT_OF_MEMORY("attention file");
}

static void free_side(side *s) {
  attention_texts_free(s->texts, s->n);
  free(s->ids);
  free(s->begins);
  free(s->ends);
  free(s->segments);
  free(s->added);
}

static clattn_attention_tokens tokens_of(const side *s) {
  return (clattn_attention_tokens){.n = s->n,
                                   .texts = (const char *const *)s->texts,
                                   .ids = s->ids,
                                   .begins = s->begins,
                                   .ends = s->ends,
                                   .segments = s->segments,
                                   .added = s->added};
}

/* What stands for a token of the model; of those before the tokenizer's own, the
 * marks have no text. NULL: no memory. */
static char *text_of(const clattn_seq2seq_config *c,
                     const clattn_tokenizer *tokenizer, int32_t id) {
  const int64_t first = c->vocab_size - clattn_tokenizer_size(tokenizer);
  if (id < first)
    return strdup(id == c->begin ? "<begin>"
                  : id == c->end ? "<end>"
                  : id == c->pad ? "<pad>"
                                 : "<mark>");
  size_t n;
  const char *bytes =
      clattn_tokenizer_token(tokenizer, (int32_t)(id - first), &n);
  return attention_text(bytes ? bytes : "", n);
}

static clattn_status make_source(const clattn_seq2seq_config *c,
                                 const clattn_tokenizer *tokenizer,
                                 const clattn_encoding *encoding, side *s) {
  const int64_t first = c->vocab_size - clattn_tokenizer_size(tokenizer);
  KIT_REQUIRE(encoding->n >= 1 && encoding->n <= c->max_source,
              "text: got %lld tokens, want 1..%lld", (long long)encoding->n,
              (long long)c->max_source);
  KIT_TRY(make_side(s, encoding->n));
  for (int64_t i = 0; i < s->n; i++) {
    s->ids[i] = (int32_t)(encoding->ids[i] + first);
    s->begins[i] = encoding->begins[i];
    s->ends[i] = encoding->ends[i];
    s->added[i] = encoding->added[i];
    s->texts[i] = text_of(c, tokenizer, s->ids[i]);
    if (s->texts[i] == NULL) return KIT_OUT_OF_MEMORY("attention file");
  }
  return CLATTN_OK;
}

/* Appends a piece of the target's text. */
static clattn_status join(char **pair, size_t *used, const char *piece,
                          bool space) {
  const size_t n = strlen(piece) + space;
  char *longer = realloc(*pair, *used + n + 1);
  if (longer == NULL) return KIT_OUT_OF_MEMORY("attention file");
  snprintf(longer + *used, n + 1, "%s%s", space ? " " : "", piece);
  *pair = longer;
  *used += n;
  return CLATTN_OK;
}

/* What the decoder reads, begin and the target without its last token; *pair is
 * all of the target but its end. */
static clattn_status make_target(const clattn_seq2seq_config *c,
                                 const clattn_tokenizer *tokenizer,
                                 const int32_t *target, int64_t n, side *s,
                                 char **pair) {
  const int32_t first =
      (int32_t)(c->vocab_size - clattn_tokenizer_size(tokenizer));
  size_t used = 0;
  KIT_TRY(make_side(s, n));
  KIT_TRY(join(pair, &used, "", false));
  s->ids[0] = c->begin;
  s->added[0] = s->segments[0] = 1;
  s->texts[0] = text_of(c, tokenizer, c->begin);
  if (s->texts[0] == NULL) return KIT_OUT_OF_MEMORY("attention file");
  for (int64_t i = 0; i < n && target[i] != c->end; i++) {
    char *text = text_of(c, tokenizer, target[i]);
    if (text == NULL) return KIT_OUT_OF_MEMORY("attention file");
    const bool space =
        target[i] >= first &&
        clattn_tokenizer_space(tokenizer, i == 0 ? -1 : target[i - 1] - first,
                               target[i] - first);
    const clattn_status status = join(pair, &used, text, space);
    if (status != CLATTN_OK || i + 1 == n) {
      free(text); /* of the last token, which no row reads */
      KIT_TRY(status);
      break;
    }
    s->texts[i + 1] = text;
    s->ids[i + 1] = target[i];
    s->segments[i + 1] = 1;
    s->begins[i + 1] = (int64_t)(used - strlen(text));
    s->ends[i + 1] = (int64_t)used;
  }
  return CLATTN_OK;
}

/* ---- writing -------------------------------------------------------------------- */

static clattn_status put(void *user, const seq2seq_told *told) {
  recording *r = user;
  const void *const tensors[CLATTN_ATTENTION_TENSORS] = {
      [CLATTN_ATTENTION_WEIGHTS] = told->weights,
      [CLATTN_ATTENTION_QUERY] = told->query,
      [CLATTN_ATTENTION_KEY] = told->key,
      [CLATTN_ATTENTION_ENTROPY] = told->entropy,
      [CLATTN_ATTENTION_DISTANCE] = told->distance};
  for (int t = 0; t < CLATTN_ATTENTION_TENSORS; t++)
    if (tensors[t] != NULL)
      KIT_TRY(attention_writer_put(r->writer, (size_t)told->part, told->layer,
                                   (clattn_attention_tensor)t, tensors[t]));
  /* Of a layer of the decoder both parts are one step. */
  if (r->options->progress != NULL && told->part != SEQ2SEQ_DECODER)
    r->options->progress(
        r->options->progress_user,
        told->layer + 1 + (told->part == SEQ2SEQ_CROSS ? r->layers : 0),
        2 * r->layers);
  return CLATTN_OK;
}

static void describe(recording *r, const clattn_seq2seq_config *c,
                     const side *source, const side *target) {
  static const struct {
    const char *name;
    clattn_attention_kind kind;
  } parts[SEQ2SEQ_PARTS] = {
      [SEQ2SEQ_ENCODER] = {"encoder", CLATTN_ATTENTION_ENCODER},
      [SEQ2SEQ_DECODER] = {"decoder", CLATTN_ATTENTION_DECODER},
      [SEQ2SEQ_CROSS] = {"cross", CLATTN_ATTENTION_CROSS}};
  for (int i = 0; i < SEQ2SEQ_PARTS; i++) {
    clattn_attention_part *part = &r->parts[i];
    clattn_attention_part_init(part);
    part->name = parts[i].name;
    part->kind = parts[i].kind;
    part->causal = i == SEQ2SEQ_DECODER;
    part->layers = c->layers;
    part->heads = c->heads;
    part->head_dim = c->embed_dim / c->heads;
    part->rows = tokens_of(i == SEQ2SEQ_ENCODER ? source : target);
    part->keys = tokens_of(i == SEQ2SEQ_DECODER ? target : source);
    attention_part_watch(part, r->options);
    attention_part_complete(part);
  }
}

typedef struct pair {
  const clattn_tokenizer *tokenizer;
  const char *text;
  size_t size_bytes;
  const int32_t *target;
  int64_t n_target;
} pair;

static clattn_status write_pair(clattn_seq2seq *model, clattn_queue *queue,
                                const pair *p, const side *source,
                                const side *target, const char *written,
                                const clattn_attention_options *options,
                                const char *path) {
  recording r = {.options = options, .layers = model->config.layers};
  describe(&r, &model->config, source, target);
  for (int i = 0; i < SEQ2SEQ_PARTS; i++)
    KIT_TRY(attention_part_check(&r.parts[i], "model: "));
  const attention_head head = {
      .model = options->model_name ? options->model_name : "seq2seq",
      .text = p->text,
      .text_bytes = p->size_bytes,
      .pair = written,
      .pair_bytes = strlen(written),
      .parts = r.parts,
      .n_parts = SEQ2SEQ_PARTS};
  KIT_TRY(attention_writer_create(path, &head, &r.writer));
  clattn_status status =
      seq2seq_watch(model, queue, source->ids, source->n, p->target,
                    p->n_target, options->watch, put, &r);
  if (status == CLATTN_OK) status = attention_writer_finish(r.writer);
  attention_writer_destroy(r.writer);
  return status;
}

static clattn_status record(clattn_seq2seq *model, clattn_queue *queue,
                            const pair *p, const clattn_encoding *encoding,
                            clattn_attention_options *options,
                            const char *path) {
  side source = {0}, target = {0};
  char *written = NULL;
  if (options->watch == 0) {
    const bool whole = encoding->n <= ATTENTION_WHOLE_TOKENS &&
                       p->n_target <= ATTENTION_WHOLE_TOKENS;
    options->watch = CLATTN_WATCH_STATISTICS | CLATTN_WATCH_QUERY_KEY |
                     (whole ? CLATTN_WATCH_ATTENTION : 0);
  }
  clattn_status status =
      make_source(&model->config, p->tokenizer, encoding, &source);
  if (status == CLATTN_OK)
    status = make_target(&model->config, p->tokenizer, p->target, p->n_target,
                         &target, &written);
  if (status == CLATTN_OK)
    status =
        write_pair(model, queue, p, &source, &target, written, options, path);
  free_side(&source);
  free_side(&target);
  free(written);
  return status;
}

static clattn_status check_target(const clattn_seq2seq_config *c,
                                  const pair *p) {
  KIT_REQUIRE(p->target != NULL, "target: got NULL, want tokens");
  KIT_REQUIRE(p->n_target >= 1 && p->n_target <= c->max_target + 1,
              "n_target: got %lld, want 1..%lld", (long long)p->n_target,
              (long long)c->max_target + 1);
  for (int64_t i = 0; i < p->n_target; i++) {
    const int32_t id = p->target[i];
    const bool end = id == c->end && i + 1 == p->n_target;
    KIT_REQUIRE(end || (id >= 0 && id < c->vocab_size && id != c->pad &&
                        id != c->begin && id != c->end),
                "target[%lld]: got %ld, want 0..%lld, neither pad nor begin, "
                "and the end at its end",
                (long long)i, (long)id, (long long)c->vocab_size - 1);
  }
  return CLATTN_OK;
}

clattn_status clattn_seq2seq_write_attention(
    clattn_seq2seq *model, clattn_queue *queue,
    const clattn_tokenizer *tokenizer, const char *text, size_t size_bytes,
    const int32_t *target, int64_t n_target,
    const clattn_attention_options *options, const char *path) {
  KIT_REQUIRE(model != NULL, "model: got NULL, want a model");
  KIT_REQUIRE(queue != NULL, "queue: got NULL, want a queue");
  KIT_REQUIRE(tokenizer != NULL, "tokenizer: got NULL, want a tokenizer");
  KIT_REQUIRE(text != NULL, "text: got NULL, want a text");
  KIT_REQUIRE(path != NULL, "path: got NULL, want a file's path");
  const clattn_seq2seq_config *c = &model->config;
  KIT_REQUIRE(clattn_tokenizer_size(tokenizer) <= c->vocab_size,
              "tokenizer: got %ld tokens, want at most the model's %lld",
              (long)clattn_tokenizer_size(tokenizer), (long long)c->vocab_size);
  const pair p = {.tokenizer = tokenizer,
                  .text = text,
                  .size_bytes = size_bytes,
                  .target = target,
                  .n_target = n_target};
  KIT_TRY(check_target(c, &p));
  clattn_attention_options taken;
  KIT_TRY(attention_options_take(
      options,
      CLATTN_WATCH_ATTENTION | CLATTN_WATCH_STATISTICS | CLATTN_WATCH_QUERY_KEY,
      &taken));
  clattn_encode_options encode;
  clattn_encode_options_init(&encode);
  encode.max_length = taken.max_tokens;
  clattn_encoding encoding;
  KIT_TRY(
      clattn_tokenizer_encode(tokenizer, text, size_bytes, &encode, &encoding));
  const clattn_status status =
      record(model, queue, &p, &encoding, &taken, path);
  clattn_encoding_free(&encoding);
  return status;
}
