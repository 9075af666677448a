/* translate_model.c - a model and its characters, from and to a file. */
#include "translate.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool ok(clattn_status status) {
  if (status != CLATTN_OK) cli_error("%s", clattn_error_message());
  return status == CLATTN_OK;
}

/* ---- from and to a file -------------------------------------------------- */

static bool fits(const translate_options *o, const translator *t) {
  const int64_t characters = clattn_tokenizer_size(t->tokenizer);
  if (t->config.vocab_size == characters + TRANSLATE_MARKS &&
      t->config.pad < TRANSLATE_MARKS && t->config.begin < TRANSLATE_MARKS &&
      t->config.end < TRANSLATE_MARKS)
    return true;
  cli_error("%s: %lld characters for a model of %lld tokens, want %d fewer",
            o->model, (long long)characters, (long long)t->config.vocab_size,
            TRANSLATE_MARKS);
  return false;
}

bool translator_load(const translate_options *o, translator *t) {
  clattn_kit_safetensors *file = NULL;
  if (access(o->model, R_OK) != 0) {
    cli_error("%s: %s", o->model, strerror(errno));
    return false;
  }
  bool done = cli_context(o->device, &t->context, &t->device) &&
              ok(clattn_queue_create(t->context, t->device, &t->queue));
  if (!done) return false;
  clattn_status status = clattn_kit_safetensors_open(o->model, &file);
  if (status == CLATTN_OK)
    status =
        clattn_seq2seq_load(t->context, t->device, t->queue, file, &t->model);
  if (status == CLATTN_OK)
    status = clattn_tokenizer_from_safetensors(file, &t->tokenizer);
  clattn_kit_safetensors_destroy(file);
  if (status != CLATTN_OK) {
    cli_error("%s: no model of `clattn translate`: %s", o->model,
              clattn_error_message());
    return false;
  }
  return ok(clattn_seq2seq_get_config(t->model, &t->config)) && fits(o, t);
}

bool translator_create(const translate_options *o, translator *t) {
  if (!cli_context(o->device, &t->context, &t->device) ||
      !ok(clattn_queue_create(t->context, t->device, &t->queue)) ||
      !ok(clattn_tokenizer_from_text(CLATTN_TOKENIZER_CHARS, dates_characters,
                                     strlen(dates_characters), &t->tokenizer)))
    return false;
  clattn_seq2seq_config *c = &t->config;
  clattn_seq2seq_config_init(c);
  c->vocab_size = clattn_tokenizer_size(t->tokenizer) + TRANSLATE_MARKS;
  c->max_source = DATES_SOURCE;
  c->max_target = DATES_TARGET + 1; /* the end */
  c->layers = o->layers;
  c->heads = o->heads;
  c->embed_dim = o->embed;
  c->dropout = (float)o->dropout;
  return ok(clattn_seq2seq_create(t->context, t->device, t->queue, c,
                                  (uint32_t)o->seed, &t->model));
}

bool translator_save(const translate_options *o, const translator *t) {
  clattn_kit_tensor tensor;
  clattn_kit_metadata metadata;
  char *text = NULL;
  const bool done =
      ok(clattn_tokenizer_describe(t->tokenizer, &tensor, &metadata, &text)) &&
      ok(clattn_seq2seq_save(t->model, t->queue, o->out, o->dtype, &tensor, 1,
                             &metadata, 1));
  free(text);
  return done;
}

void translator_free(translator *t) {
  clattn_seq2seq_destroy(t->model);
  clattn_tokenizer_destroy(t->tokenizer);
  clattn_queue_destroy(t->queue);
  clattn_context_destroy(t->context);
}

/* ---- texts and tokens ---------------------------------------------------- */

bool translator_encode(const translator *t, const char *name, const char *text,
                       int64_t width, int32_t *ids) {
  clattn_encoding found;
  if (clattn_tokenizer_encode(t->tokenizer, text, strlen(text), NULL, &found) !=
      CLATTN_OK) {
    const char *message = clattn_error_message();
    cli_error("%s: %s", name,
              strncmp(message, "text: ", 6) == 0 ? message + 6 : message);
    return false;
  }
  const int64_t n = found.n;
  const bool fit = n >= 1 && n <= width;
  if (!fit)
    cli_error("%s: has %lld characters, want 1..%lld", name, (long long)n,
              (long long)width);
  for (int64_t i = 0; fit && i < width; i++)
    ids[i] = i < n ? found.ids[i] + TRANSLATE_MARKS : t->config.pad;
  clattn_encoding_free(&found);
  return fit;
}

int64_t translator_length(const translator *t, const int32_t *target) {
  int64_t n = 0;
  while (n < t->config.max_target && target[n] >= TRANSLATE_MARKS) n++;
  return n;
}

char *translator_decode(const translator *t, const int32_t *target) {
  const int64_t n = translator_length(t, target);
  int32_t *ids = calloc((size_t)n + 1, sizeof *ids);
  if (ids == NULL) {
    cli_error("no memory for %lld characters", (long long)n);
    return NULL;
  }
  for (int64_t i = 0; i < n; i++) ids[i] = target[i] - TRANSLATE_MARKS;
  char *text = NULL;
  size_t bytes;
  const bool done =
      ok(clattn_tokenizer_decode(t->tokenizer, ids, n, false, &text, &bytes));
  free(ids);
  if (done) cli_clean(text);
  return text;
}

/* ---- how good it is ------------------------------------------------------ */

enum { AT_ONCE = 256 };

/* n pairs: which of them become right. */
static bool evaluate_some(translator *t, const clattn_seq2seq_search *search,
                          const date_pair *pairs, int64_t n, int32_t *sources,
                          int32_t *targets, int64_t *shown, int64_t *right) {
  const int64_t S = t->config.max_source, T = t->config.max_target;
  for (int64_t i = 0; i < n; i++)
    if (!translator_encode(t, pairs[i].source, pairs[i].source, S,
                           sources + i * S))
      return false;
  if (!ok(clattn_seq2seq_translate(t->model, t->queue, sources, S, n, search,
                                   targets, NULL)))
    return false;
  for (int64_t i = 0; i < n; i++) {
    char *text = translator_decode(t, targets + i * T);
    if (text == NULL) return false;
    const bool same = strcmp(text, pairs[i].target) == 0;
    if (!same && (*shown)-- > 0)
      printf("%s: %s, want %s\n", pairs[i].source, text, pairs[i].target);
    *right += same;
    free(text);
  }
  return true;
}

bool translator_evaluate(translator *t, const clattn_seq2seq_search *search,
                         uint32_t seed, int64_t n, int64_t shown,
                         int64_t *right) {
  const size_t S = (size_t)t->config.max_source;
  const size_t T = (size_t)t->config.max_target;
  date_pair *pairs = calloc(AT_ONCE, sizeof *pairs);
  int32_t *sources = calloc(AT_ONCE * S, sizeof *sources);
  int32_t *targets = calloc(AT_ONCE * T, sizeof *targets);
  bool done = pairs != NULL && sources != NULL && targets != NULL;
  if (!done) cli_error("no memory for %d dates", AT_ONCE);
  clattn_kit_rng rng;
  clattn_kit_rng_init(&rng, seed);
  *right = 0;
  for (int64_t i = 0; done && i < n; i += AT_ONCE) {
    const int64_t some = n - i < AT_ONCE ? n - i : AT_ONCE;
    for (int64_t j = 0; j < some; j++) dates_draw(&rng, true, &pairs[j]);
    done =
        evaluate_some(t, search, pairs, some, sources, targets, &shown, right);
  }
  free(pairs);
  free(sources);
  free(targets);
  return done;
}
