/* generate_gpt.c - models that `clattn train` made. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clattn_gpt.h"
#include "clattn_text.h"
#include "generate.h"

typedef struct trained {
  clattn_gpt *gpt;
  clattn_tokenizer *tokenizer;
  clattn_gpt_decoder *decoder;
} trained;

/* Of a file that was opened but holds something else. */
static bool no_model(const generate_options *o) {
  const char *message = clattn_error_message();
  const size_t n = strlen(o->file);
  if (strncmp(message, o->file, n) == 0 && strncmp(message + n, ": ", 2) == 0)
    message += n + 2;
  cli_error("%s: no model of `clattn train`: %s", o->file, message);
  return false;
}

static bool load_from(const generate_options *o, writer *w,
                      const clattn_kit_safetensors *file) {
  trained *t = w->model;
  const generate_place *p = &w->place;
  clattn_status status =
      clattn_gpt_load(p->context, p->device, p->queue, file, &t->gpt);
  if (status == CLATTN_OK)
    status = clattn_tokenizer_from_safetensors(file, &t->tokenizer);
  if (status == CLATTN_IO_ERROR) return no_model(o);
  if (status != CLATTN_OK) {
    cli_error("%s: %s", o->file, clattn_error_message());
    return false;
  }
  clattn_gpt_config config;
  if (!generate_ok(clattn_gpt_get_config(t->gpt, &config))) return false;
  if (config.vocab_size != clattn_tokenizer_size(t->tokenizer)) {
    cli_error("%s: a vocabulary of %ld for a model of %lld", o->file,
              (long)clattn_tokenizer_size(t->tokenizer),
              (long long)config.vocab_size);
    return false;
  }
  w->vocab = config.vocab_size;
  w->layers = config.layers;
  w->heads = config.heads;
  w->context = config.context;
  return generate_ok(
      clattn_gpt_decoder_create(t->gpt, p->queue, !o->no_cache, &t->decoder));
}

static bool load(const generate_options *o, writer *w) {
  clattn_kit_safetensors *file = NULL;
  w->model = calloc(1, sizeof(trained));
  if (w->model == NULL) {
    cli_error("no memory for a model");
    return false;
  }
  if (access(o->file, R_OK) != 0) {
    cli_error("%s: %s", o->file, strerror(errno));
    return false;
  }
  if (clattn_kit_safetensors_open(o->file, &file) != CLATTN_OK)
    return no_model(o);
  const bool done =
      cli_context(o->device, &w->place.context, &w->place.device) &&
      generate_ok(clattn_queue_create(w->place.context, w->place.device,
                                      &w->place.queue)) &&
      load_from(o, w, file);
  clattn_kit_safetensors_destroy(file);
  return done;
}

/* Where a text begins: behind a line feed or a full stop, if there are such. */
static int32_t beginning(const trained *t) {
  const char *const marks[] = {"\n", "."};
  for (size_t m = 0; m < 2; m++) {
    const int32_t id = clattn_tokenizer_id(t->tokenizer, marks[m], 1);
    if (id >= 0) return id;
  }
  return 0;
}

/* A model that was trained on a text has never seen its <|unk|>. */
static bool all_known(const trained *t, const char *prompt,
                      const clattn_encoding *read) {
  static const char unknown[] = "<|unk|>";
  const size_t size = sizeof unknown - 1;
  const int32_t id = clattn_tokenizer_id(t->tokenizer, unknown, size);
  for (int64_t i = 0; id >= 0 && i < read->n; i++) {
    const char *word = prompt + read->begins[i];
    const size_t bytes = (size_t)(read->ends[i] - read->begins[i]);
    if (read->ids[i] != id ||
        (bytes == size && memcmp(word, unknown, size) == 0))
      continue;
    cli_error("PROMPT: the word '%.*s' is not in the vocabulary",
              (int)(bytes > 80 ? 80 : bytes), word);
    return false;
  }
  return true;
}

static bool encode(const generate_options *o, writer *w, int32_t **ids,
                   int64_t *n) {
  const trained *t = w->model;
  const char *prompt = o->prompt == NULL ? "" : o->prompt;
  clattn_encode_options plain;
  clattn_encode_options_init(&plain);
  plain.add_special = false;
  clattn_encoding read;
  if (clattn_tokenizer_encode(t->tokenizer, prompt, strlen(prompt), &plain,
                              &read) != CLATTN_OK) {
    const char *message = clattn_error_message();
    cli_error("PROMPT: %s",
              strncmp(message, "text: ", 6) == 0 ? message + 6 : message);
    return false;
  }
  *n = read.n > 0 ? read.n : 1;
  *ids = calloc((size_t)*n, sizeof **ids);
  const bool known = all_known(t, prompt, &read);
  if (*ids == NULL)
    cli_error("no memory for %lld tokens", (long long)*n);
  else if (known && read.n > 0)
    memcpy(*ids, read.ids, (size_t)*n * sizeof **ids);
  else if (known)
    **ids = beginning(t);
  clattn_encoding_free(&read);
  if (!known) {
    free(*ids);
    *ids = NULL;
  }
  return *ids != NULL;
}

static const char *text(const writer *w, int32_t before, int32_t id,
                        size_t *bytes, bool *space) {
  const trained *t = w->model;
  *space = clattn_tokenizer_space(t->tokenizer, before, id);
  return clattn_tokenizer_token(t->tokenizer, id, bytes);
}

static bool is_end(const writer *w, int32_t id) {
  (void)w, (void)id;
  return false; /* it was trained on one text, which goes on */
}

static clattn_status read_tokens(writer *w, const int32_t *ids, int64_t n,
                                 float *logits) {
  const trained *t = w->model;
  return clattn_gpt_decoder_read(t->decoder, w->place.queue, ids, n, logits);
}

static int64_t window(const writer *w, const int32_t **ids) {
  return clattn_gpt_decoder_window(((const trained *)w->model)->decoder, ids);
}

static clattn_status attention(writer *w, int64_t layer, float *all) {
  const trained *t = w->model;
  const int32_t *ids;
  const int64_t n = clattn_gpt_decoder_window(t->decoder, &ids);
  return clattn_gpt_attention(t->gpt, w->place.queue, ids, n, layer, all);
}

static void destroy(writer *w) {
  trained *t = w->model;
  if (t == NULL) return;
  clattn_gpt_decoder_destroy(t->decoder);
  clattn_tokenizer_destroy(t->tokenizer);
  clattn_gpt_destroy(t->gpt);
  free(t);
}

const writer_kind writer_gpt = {load,        encode, text,      is_end,
                                read_tokens, window, attention, destroy};
