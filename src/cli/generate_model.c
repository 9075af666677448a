/* generate_model.c - pre-trained models: a folder, or a GGUF file. */
#include <stdlib.h>
#include <string.h>

#include "clattn_model.h"
#include "generate.h"

typedef struct pretrained {
  clattn_model *model;
  clattn_tokenizer *tokenizer;
  clattn_model_decoder *decoder; /* NULL: no cache */
  int32_t *ids;                  /* [context] that it has read */
  int64_t n;
} pretrained;

/* ---- loading --------------------------------------------------------------------- */

static bool load_model(const generate_options *o, writer *w) {
  pretrained *p = w->model;
  clattn_model_options options;
  clattn_model_options_init(&options);
  if (o->dtype != 0) options.dtype = (clattn_dtype)o->dtype;
  clattn_model_config config = {.struct_size = sizeof config};
  const generate_place *at = &w->place;
  if (!generate_ok(clattn_model_load(at->context, at->device, at->queue,
                                     o->file, &options, &p->model)) ||
      !generate_ok(clattn_tokenizer_load(o->file, NULL, &p->tokenizer)) ||
      !generate_ok(clattn_model_check_tokenizer(p->model, p->tokenizer)) ||
      !generate_ok(clattn_model_get_config(p->model, &config)))
    return false;
  if (!config.causal || !config.head) {
    cli_error("%s: a %s does not write text", o->file, config.name);
    return false;
  }
  w->vocab = config.vocab_size;
  w->layers = config.layers;
  w->heads = config.heads;
  w->context = config.positions;
  p->ids = calloc((size_t)w->context, sizeof *p->ids);
  if (p->ids == NULL) cli_error("no memory for a model");
  return p->ids != NULL;
}

static bool load(const generate_options *o, writer *w) {
  w->model = calloc(1, sizeof(pretrained));
  if (w->model == NULL) {
    cli_error("no memory for a model");
    return false;
  }
  return cli_context(o->device, &w->place.context, &w->place.device) &&
         generate_ok(clattn_queue_create(w->place.context, w->place.device,
                                         &w->place.queue)) &&
         load_model(o, w);
}

/* ---- the prompt -------------------------------------------------------------------- */

/* Adds a text's tokens to ids [n]. */
static bool append(const pretrained *p, const char *text, bool special,
                   bool add_special, int32_t **ids, int64_t *n) {
  clattn_encode_options options;
  clattn_encode_options_init(&options);
  options.allow_special = special;
  options.add_special = add_special;
  clattn_encoding encoding;
  if (clattn_tokenizer_encode(p->tokenizer, text, strlen(text), &options,
                              &encoding) != CLATTN_OK) {
    cli_error("PROMPT: %s", clattn_error_message());
    return false;
  }
  int32_t *more = realloc(*ids, (size_t)(*n + encoding.n + 1) * sizeof *more);
  if (more != NULL) {
    if (encoding.n > 0)
      memcpy(more + *n, encoding.ids, (size_t)encoding.n * sizeof *more);
    *ids = more;
    *n += encoding.n;
  } else {
    cli_error("PROMPT: no memory for its tokens");
  }
  clattn_encoding_free(&encoding);
  return more != NULL;
}

static int32_t special_token(const pretrained *p, const char *name) {
  const int32_t id = clattn_tokenizer_id(p->tokenizer, name, strlen(name));
  return id >= 0 && clattn_tokenizer_is_special(p->tokenizer, id) ? id : -1;
}

/* Tokens that end a text, by the names that vocabularies give them. */
static const char *const ends[] = {"<|endoftext|>", "<|im_end|>",
                                   "<|end_of_text|>", "<|eot_id|>", "</s>"};
enum { ENDS = sizeof ends / sizeof *ends };

/* What an empty text begins behind. */
static int32_t beginning(const pretrained *p) {
  static const char *const starts[] = {"<s>", "<|begin_of_text|>",
                                       "<|endoftext|>"};
  for (size_t i = 0; i < sizeof starts / sizeof *starts; i++)
    if (special_token(p, starts[i]) >= 0) return special_token(p, starts[i]);
  return 0;
}

/* The user's text is only text, whatever is written in it. */
static bool encode_chat(const generate_options *o, const pretrained *p,
                        int32_t **ids, int64_t *n) {
  if (special_token(p, "<|im_start|>") < 0 ||
      special_token(p, "<|im_end|>") < 0) {
    cli_error("--chat: the vocabulary of %s has no <|im_start|> and <|im_end|>",
              o->file);
    return false;
  }
  return append(p, "<|im_start|>user\n", true, false, ids, n) &&
         append(p, o->prompt == NULL ? "" : o->prompt, false, false, ids, n) &&
         append(p, "<|im_end|>\n<|im_start|>assistant\n", true, false, ids, n);
}

static bool encode(const generate_options *o, writer *w, int32_t **ids,
                   int64_t *n) {
  pretrained *p = w->model;
  *ids = NULL;
  *n = 0;
  const bool done = o->chat ? encode_chat(o, p, ids, n)
                            : append(p, o->prompt == NULL ? "" : o->prompt,
                                     false, true, ids, n);
  if (!done) return false;
  if (*n == 0) (*ids)[(*n)++] = beginning(p);
  if (*n > w->context) {
    cli_error(
        "PROMPT: got %lld tokens, want at most %lld, the model's "
        "positions",
        (long long)*n, (long long)w->context);
    return false;
  }
  /* Room for the prompt and what is asked for, no more. */
  const int64_t more = o->tokens < w->context ? o->tokens : w->context;
  const int64_t all = *n + more < w->context ? *n + more : w->context;
  return o->no_cache || generate_ok(clattn_model_decoder_create(
                            p->model, w->place.queue, all, &p->decoder));
}

/* ---- the text ------------------------------------------------------------------------ */

static const char *text(const writer *w, int32_t before, int32_t id,
                        size_t *bytes, bool *space) {
  const pretrained *p = w->model;
  if (clattn_tokenizer_is_special(p->tokenizer, id)) return NULL;
  *space = clattn_tokenizer_space(p->tokenizer, before, id);
  return clattn_tokenizer_token(p->tokenizer, id, bytes);
}

static bool is_end(const writer *w, int32_t id) {
  const pretrained *p = w->model;
  for (int i = 0; i < ENDS; i++)
    if (special_token(p, ends[i]) == id) return true;
  return false;
}

static clattn_status read_tokens(writer *w, const int32_t *ids, int64_t n,
                                 float *logits) {
  pretrained *p = w->model;
  if (n > w->context - p->n)
    return clattn_set_error(CLATTN_INVALID_ARGUMENT,
                            "the model's %lld positions are full",
                            (long long)w->context);
  memcpy(p->ids + p->n, ids, (size_t)n * sizeof *ids);
  p->n += n;
  if (p->decoder != NULL)
    return clattn_model_decoder_read(p->decoder, w->place.queue, ids, n,
                                     logits);
  clattn_model_input input;
  clattn_model_input_init(&input);
  input.length = p->n;
  input.ids = p->ids;
  clattn_model_output output;
  clattn_model_output_init(&output);
  output.logits = logits;
  return clattn_model_run(p->model, w->place.queue, &input, &output);
}

/* ---- what it attends to ---------------------------------------------------------------- */

static int64_t window(const writer *w, const int32_t **ids) {
  const pretrained *p = w->model;
  *ids = p->ids;
  return p->n;
}

typedef struct look {
  int64_t layer, n;
  float *all;
} look;

static clattn_status on_layer(void *user, const clattn_model_layer *layer) {
  const look *l = user;
  if (layer->layer == l->layer)
    memcpy(l->all, layer->attention[0],
           (size_t)(layer->heads * l->n * l->n) * sizeof *l->all);
  return CLATTN_OK;
}

static clattn_status attention(writer *w, int64_t layer, float *all) {
  const pretrained *p = w->model;
  look l = {layer, p->n, all};
  clattn_model_input input;
  clattn_model_input_init(&input);
  input.length = p->n;
  input.ids = p->ids;
  clattn_model_output output;
  clattn_model_output_init(&output);
  output.watch = CLATTN_WATCH_ATTENTION;
  output.on_layer = on_layer;
  output.user = &l;
  return clattn_model_run(p->model, w->place.queue, &input, &output);
}

static void destroy(writer *w) {
  pretrained *p = w->model;
  if (p == NULL) return;
  clattn_model_decoder_destroy(p->decoder);
  clattn_model_destroy(p->model);
  clattn_tokenizer_destroy(p->tokenizer);
  free(p->ids);
  free(p);
}

const writer_kind writer_model = {load,        encode, text,      is_end,
                                  read_tokens, window, attention, destroy};
