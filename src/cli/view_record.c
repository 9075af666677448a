/* view_record.c - a model reads a text, and what it attends to goes to a file. */
#include <stdlib.h>
#include <string.h>

#include "pretrained.h"
#include "translate.h"
#include "view.h"

enum { MATRIX_TOKENS = 1024 }; /* recordings have whole matrices up to these */

bool view_is_translator(const char *model) {
  clattn_kit_safetensors *file = NULL;
  if (clattn_kit_safetensors_open(model, &file) != CLATTN_OK) return false;
  const bool is =
      clattn_kit_safetensors_metadata(file, "seq2seq.vocab_size") != NULL;
  clattn_kit_safetensors_destroy(file);
  return is;
}

/* The last part of a path, without the ending of a model's file. */
static void name_model(const char *path, char *name, size_t room) {
  static const char *const endings[] = {".safetensors", ".gguf"};
  size_t end = strlen(path);
  while (end > 1 && path[end - 1] == '/') end--;
  size_t begin = end;
  while (begin > 0 && path[begin - 1] != '/') begin--;
  for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
    const size_t n = strlen(endings[i]);
    if (end - begin > n && memcmp(path + end - n, endings[i], n) == 0) end -= n;
  }
  snprintf(name, room, "%.*s", (int)(end - begin), path + begin);
  cli_clean(name);
}

static void show_progress(void *progress, int64_t done, int64_t total) {
  cli_progress_step(progress, done, total);
}

/* What is the same for all models. */
static void set_options(const view_options *o, bool f32, const char *name,
                        cli_progress *progress,
                        clattn_attention_options *options) {
  clattn_attention_options_init(options);
  options->model_name = name;
  options->dtype = f32 || o->f32 ? CLATTN_F32 : CLATTN_F16;
  options->max_tokens = o->max_tokens;
  if (o->top > 0) options->top = o->top;
  if (o->map_block > 0) options->map_block = o->map_block;
  cli_progress_begin(progress, "layer");
  options->progress = show_progress;
  options->progress_user = progress;
}

/* ---- models that read a text ------------------------------------------------------ */

/* What may be written instead, of a model that reads few characters. */
static void tell_characters(const clattn_tokenizer *tokenizer, bool shipped) {
  enum { FEW = 128 };
  char known[8 * FEW] = "";
  const int32_t n = clattn_tokenizer_size(tokenizer);
  if (clattn_tokenizer_get_kind(tokenizer) != CLATTN_TOKENIZER_CHARS || n > FEW)
    return;
  for (int32_t id = 0; id < n; id++) {
    const size_t used = strlen(known);
    if (clattn_tokenizer_is_special(tokenizer, id)) continue;
    clattn_view_label(clattn_tokenizer_token(tokenizer, id, NULL), known + used,
                      sizeof known - used);
  }
  cli_error("%s knows these characters: %s%s",
            shipped ? "the model that comes with clattn" : "the model", known,
            shipped ? "\n--model=PATH names another model" : "");
}

/* The library's message with the text's name in place of its own. */
static void no_encoding(const view_options *o, const view_text *text,
                        const clattn_tokenizer *tokenizer) {
  static const char *const own[] = {"text: ", "options->pair: ", "pair: "};
  const char *message = clattn_error_message(), *name = text->name;
  for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
    const size_t n = strlen(own[i]);
    if (strncmp(message, own[i], n) != 0) continue;
    if (i > 0) name = text->pair_name;
    message += n;
    break;
  }
  const bool unknown = strstr(message, "not in the vocabulary") != NULL;
  cli_error("%s: %s", name, message);
  if (unknown) tell_characters(tokenizer, o->model == NULL);
}

/* How many tokens the text has for the model; 0 after a message. */
static int64_t count_tokens(const view_options *o, const pretrained *p,
                            const view_text *text) {
  clattn_encode_options options;
  clattn_encoding encoding;
  clattn_encode_options_init(&options);
  options.pair = text->pair;
  options.pair_bytes = text->n_pair;
  options.max_length = o->max_tokens;
  if (clattn_tokenizer_encode(p->tokenizer, text->bytes, text->n, &options,
                              &encoding) != CLATTN_OK) {
    no_encoding(o, text, p->tokenizer);
    return 0;
  }
  const long long n = (long long)encoding.n;
  const long long most = (long long)p->config.positions;
  clattn_encoding_free(&encoding);
  if (n == 0) cli_error("%s: it has no tokens", text->name);
  if (n <= most) return n;
  cli_error(
      "%s: %lld tokens, the model has positions for %lld; --max-tokens=%lld "
      "looks at the first ones",
      text->name, n, most, most);
  return 0;
}

static int record_model(const view_options *o, const char *model,
                        const char *device, bool f32, const view_text *text,
                        const char *path, view_run *run, pretrained *p) {
  if (!pretrained_load(model, device, o->path, p)) return CLI_FAILED;
  const int status = view_check_numbers(o, p->config.layers, p->config.heads);
  if (status != CLI_OK) return status;
  const int64_t n = count_tokens(o, p, text);
  if (n == 0) return CLI_FAILED;
  name_model(model, run->name, sizeof run->name);
  cli_progress progress;
  clattn_attention_options options;
  set_options(o, f32, run->name, &progress, &options);
  if (o->top > 0 || o->map_block > 0) {
    /* What was asked for, beside what is recorded anyway. */
    options.watch = CLATTN_WATCH_STATISTICS | CLATTN_WATCH_QUERY_KEY;
    if (n <= MATRIX_TOKENS) options.watch |= CLATTN_WATCH_ATTENTION;
    if (n > MATRIX_TOKENS || o->top > 0) options.watch |= CLATTN_WATCH_TOP;
    if (n > MATRIX_TOKENS || o->map_block > 0)
      options.watch |= CLATTN_WATCH_MAP;
  }
  const clattn_status done = clattn_model_write_attention(
      p->model, p->queue, p->tokenizer, text->bytes, text->n, text->pair,
      text->n_pair, &options, path);
  cli_progress_clear(&progress);
  return view_ok(done) ? CLI_OK : CLI_FAILED;
}

/* ---- encoder-decoders --------------------------------------------------------------- */

/* Translates the text: target, to free(), and how many tokens of it the decoder
 * wrote, its end included. */
static bool translate_text(translator *t, const view_text *text,
                           int32_t **target, int64_t *n_target) {
  const int64_t S = t->config.max_source, T = t->config.max_target;
  int32_t *source = calloc((size_t)S, sizeof *source);
  *target = calloc((size_t)T, sizeof **target);
  bool done = source != NULL && *target != NULL;
  if (!done) cli_error("no memory for %lld tokens", (long long)(S + T));
  done = done && translator_encode(t, text->name, text->bytes, S, source);
  done = done && view_ok(clattn_seq2seq_translate(t->model, t->queue, source, S,
                                                  1, NULL, *target, NULL));
  free(source);
  if (!done) return false;
  *n_target = translator_length(t, *target);
  if (*n_target < T && (*target)[*n_target] == t->config.end) (*n_target)++;
  if (*n_target > 0) return true;
  cli_error("%s: the model writes nothing for it", text->name);
  return false;
}

static int record_translator(const view_options *o, const char *model,
                             const char *device, bool f32,
                             const view_text *text, const char *path,
                             view_run *run, translator *t) {
  const translate_options loading = {.model = model, .device = device};
  const char *wrong = text->pair != NULL ? text->pair_name
                      : o->max_tokens    ? "--max-tokens"
                      : o->top           ? "--top"
                      : o->map_block     ? "--map-block"
                                         : NULL;
  if (wrong != NULL)
    return view_usage("%s: want it without a model of `clattn translate`",
                      wrong);
  if (memchr(text->bytes, '\0', text->n) != NULL) {
    cli_error("%s: has a byte 0", text->name);
    return CLI_FAILED;
  }
  if (!translator_load(&loading, t)) return CLI_FAILED;
  const int status = view_check_numbers(o, t->config.layers, t->config.heads);
  if (status != CLI_OK) return status;
  int32_t *target = NULL;
  int64_t n_target;
  bool done = translate_text(t, text, &target, &n_target);
  if (done) {
    name_model(model, run->name, sizeof run->name);
    cli_progress progress;
    clattn_attention_options options;
    set_options(o, f32, run->name, &progress, &options);
    const clattn_status recorded = clattn_seq2seq_write_attention(
        t->model, t->queue, t->tokenizer, text->bytes, text->n, target,
        n_target, &options, path);
    cli_progress_clear(&progress);
    done = view_ok(recorded);
  }
  free(target);
  return done ? CLI_OK : CLI_FAILED;
}

/* ---- both ------------------------------------------------------------------------------ */

int view_record(const view_options *o, const char *model, const char *device,
                bool f32, const view_text *text, const char *path,
                view_run *run) {
  int status;
  if (view_is_translator(model)) {
    translator t = {0};
    status = record_translator(o, model, device, f32, text, path, run, &t);
    if (status == CLI_OK)
      cli_device_label(t.context, t.device, run->where, sizeof run->where);
    translator_free(&t);
  } else {
    pretrained p = {0};
    status = record_model(o, model, device, f32, text, path, run, &p);
    if (status == CLI_OK)
      cli_device_label(p.context, p.device, run->where, sizeof run->where);
    pretrained_free(&p);
  }
  return status;
}
