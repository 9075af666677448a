/* embed_batch.c - embeddings of many sentences, a batch of like length at a
 * time. */
#include <stdlib.h>
#include <string.h>

#include "embed.h"

/* What one batch is made of. */
typedef struct batch {
  int32_t *ids;     /* [room] one sentence after the other */
  int64_t *lengths; /* [n] */
  float *vectors;   /* [n, E] */
} batch;

typedef struct sentence {
  clattn_encoding encoding;
  int64_t place; /* in the caller's order */
} sentence;

static int by_length(const void *a, const void *b) {
  const sentence *x = a, *y = b;
  if (x->encoding.n != y->encoding.n)
    return x->encoding.n < y->encoding.n ? -1 : 1;
  return x->place < y->place ? -1 : x->place > y->place;
}

static bool encode(embed_run *run, const embed_line *line,
                   clattn_encoding *encoding) {
  clattn_encode_options options;
  clattn_encode_options_init(&options);
  options.max_length = run->settings.max_tokens;
  if (clattn_tokenizer_encode(run->model->tokenizer, line->text, line->bytes,
                              &options, encoding) != CLATTN_OK) {
    static const char cut[] = "options->max_length";
    const char *message = clattn_error_message();
    if (strncmp(message, cut, sizeof cut - 1) == 0)
      cli_error("%s%s", run->limit, message + sizeof cut - 1);
    else
      cli_error("%s: line %lld: %s", run->file, (long long)line->number,
                message);
    return false;
  }
  if (encoding->n == 0) {
    cli_error("%s: line %lld has no tokens", run->file,
              (long long)line->number);
    return false;
  }
  if (encoding->truncated && run->strict) {
    cli_error("%s: line %lld is longer than %lld tokens", run->file,
              (long long)line->number, (long long)run->settings.max_tokens);
    return false;
  }
  run->cut += encoding->truncated;
  return true;
}

/* The vectors of sentences [n], which are of like length. */
static bool compute(const embed_run *run, const sentence *sentences, int64_t n,
                    batch *batch, float *vectors) {
  const size_t dim = (size_t)run->model->config.embed_dim;
  int64_t used = 0;
  for (int64_t i = 0; i < n; i++) {
    const clattn_encoding *encoding = &sentences[i].encoding;
    memcpy(batch->ids + used, encoding->ids,
           (size_t)encoding->n * sizeof *batch->ids);
    batch->lengths[i] = encoding->n;
    used += encoding->n;
  }
  clattn_model_input input;
  clattn_model_input_init(&input);
  input.layout = CLATTN_MODEL_PACKED;
  input.batch = n;
  input.lengths = batch->lengths;
  input.ids = batch->ids;
  clattn_model_output output;
  clattn_model_output_init(&output);
  output.embedding = batch->vectors;
  output.pooling = run->settings.pooling;
  output.normalize = run->settings.normalize;
  if (!pretrained_ok(clattn_model_run(run->model->model, run->model->queue,
                                      &input, &output)))
    return false;
  for (int64_t i = 0; i < n; i++)
    memcpy(vectors + (size_t)sentences[i].place * dim,
           batch->vectors + (size_t)i * dim, dim * sizeof *vectors);
  return true;
}

/* How many of sentences [n], from the first one, make a batch. */
static int64_t take(const embed_run *run, const sentence *sentences,
                    int64_t n) {
  int64_t count = 0, tokens = 0;
  while (count < n && (count == 0 || tokens + sentences[count].encoding.n <=
                                         run->batch_tokens))
    tokens += sentences[count++].encoding.n;
  return count;
}

static bool compute_all(embed_run *run, const sentence *sentences, int64_t n,
                        float *vectors) {
  const int64_t longest = sentences[n - 1].encoding.n;
  const int64_t room =
      run->batch_tokens > longest ? run->batch_tokens : longest;
  const size_t dim = (size_t)run->model->config.embed_dim;
  batch batch = {
      calloc((size_t)room, sizeof *batch.ids),
      calloc((size_t)room, sizeof *batch.lengths),
      calloc((size_t)(n < room ? n : room) * dim, sizeof *batch.vectors)};
  bool ok = batch.ids && batch.lengths && batch.vectors;
  if (!ok) cli_error("no memory for a batch");
  for (int64_t i = 0, count; ok && i < n; i += count) {
    count = take(run, sentences + i, n - i);
    ok = compute(run, sentences + i, count, &batch, vectors);
    run->done += count;
    if (run->progress) cli_progress_step(run->progress, run->done, run->total);
  }
  free(batch.ids);
  free(batch.lengths);
  free(batch.vectors);
  return ok;
}

bool embed_sentences(embed_run *run, const embed_line *lines, int64_t n,
                     float *vectors) {
  if (n == 0) return true;
  sentence *sentences = calloc((size_t)n, sizeof *sentences);
  if (sentences == NULL) {
    cli_error("no memory for %lld sentences", (long long)n);
    return false;
  }
  bool ok = true;
  for (int64_t i = 0; ok && i < n; i++) {
    sentences[i].place = i;
    ok = encode(run, &lines[i], &sentences[i].encoding);
  }
  if (ok) {
    qsort(sentences, (size_t)n, sizeof *sentences, by_length);
    ok = compute_all(run, sentences, n, vectors);
  }
  for (int64_t i = 0; i < n; i++) clattn_encoding_free(&sentences[i].encoding);
  free(sentences);
  return ok;
}
