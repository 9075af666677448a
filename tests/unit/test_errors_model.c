/* Pre-trained models: what is wrong is said by name, and changes nothing. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "../support/checkpoint.h"
#include "../support/harness.h"
#include "clattn_model.h"
#include "clattn_text.h"

static const checkpoint_kind bert = {"BERT", ORA_BERT, .prefix = ""},
                             gpt2 = {"GPT-2", ORA_GPT2, .prefix = ""},
                             llama = {"Llama", ORA_LLAMA, .prefix = ""},
                             gguf = {"GGUF", ORA_LLAMA, .prefix = "",
                                     .gguf = true};

static const th_device *cpu(void) {
  const th_devices *all = th_open(false);
  return &all->device[all->count - 1];
}

static clattn_status try_load(const char *path, clattn_model **model) {
  const th_device *d = cpu();
  *model = (clattn_model *)&model; /* must become NULL */
  return clattn_model_load(d->context, d->index, d->queue, path, NULL, model);
}

static clattn_model *load(const checkpoint *c) {
  clattn_model *model = NULL;
  TH_OK(try_load(c->folder, &model));
  return model;
}

/* The message has every one of the words, which "|" parts. */
static void expect_said(const char *words, const char *what) {
  char copy[256], *next = NULL;
  snprintf(copy, sizeof copy, "%s", words);
  for (char *w = strtok_r(copy, "|", &next); w != NULL;
       w = strtok_r(NULL, "|", &next))
    cr_expect(strstr(clattn_error_message(), w) != NULL,
              "%s: '%s' is not in "
              "'%s'",
              what, w, clattn_error_message());
}

static void expect_load(const checkpoint *c, clattn_status want,
                        const char *words) {
  clattn_model *model;
  const clattn_status got = try_load(c->folder, &model);
  cr_expect_eq(got, want, "%s: got %s (%s)", words, clattn_status_name(got),
               clattn_error_message());
  cr_expect(model == NULL || got == CLATTN_OK);
  if (got == CLATTN_OK)
    clattn_model_destroy(model);
  else
    expect_said(words, "load");
}

/* ---- configurations ------------------------------------------------------------ */

/* Replaces a part of the configuration. */
static void edit(checkpoint *c, const char *from, const char *to) {
  char *at = strstr(c->config, from), rest[sizeof c->config];
  cr_assert(at != NULL, "%s", from);
  snprintf(rest, sizeof rest, "%s", at + strlen(from));
  snprintf(at, sizeof c->config - (size_t)(at - c->config), "%s%s", to, rest);
}

typedef struct config_fault {
  const checkpoint_kind *kind;
  const char *from, *to;
  clattn_status want;
  const char *words;
} config_fault;

Test(errors_model, configurations) {
  static const config_fault faults[] = {
      {&bert, "\"bert\"", "\"electra\"", CLATTN_UNSUPPORTED,
       "model_type|electra"},
      {&bert, "\"model_type\"", "\"type\"", CLATTN_IO_ERROR, "model_type"},
      {&bert, "{", "[", CLATTN_IO_ERROR, "config.json|line"},
      {&bert, "\"hidden_size\": 24", "\"hidden_size\": 24, \"hidden_size\": 8",
       CLATTN_IO_ERROR, "config.json"},
      {&bert, "\"hidden_size\": 24", "\"hidden_size\": -24", CLATTN_IO_ERROR,
       "hidden_size|-24"},
      {&bert, "\"hidden_size\": 24", "\"hidden_size\": \"24\"", CLATTN_IO_ERROR,
       "hidden_size"},
      {&bert, "\"hidden_size\": 24, ", "", CLATTN_IO_ERROR, "hidden_size"},
      {&bert, "\"hidden_size\": 24", "\"hidden_size\": 26", CLATTN_IO_ERROR,
       "4|26"},
      {&bert, "\"hidden_size\": 24", "\"hidden_size\": 28", CLATTN_IO_ERROR,
       "embeddings.word_embeddings.weight|[37,24]|[37,28]"},
      {&bert, "\"vocab_size\": 37", "\"vocab_size\": 9999999999",
       CLATTN_IO_ERROR, "vocab_size"},
      {&bert, "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3",
       CLATTN_IO_ERROR, "encoder.layer.2.attention"},
      {&bert, "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 5000",
       CLATTN_IO_ERROR, "5000"},
      {&bert, "\"bert\", \"pad_token_id\": 0",
       "\"roberta\", \"pad_token_id\": 9223372036854775807", CLATTN_IO_ERROR,
       "pad_token_id|9223372036854775807"},
      {&bert, "\"bert\", \"pad_token_id\": 0",
       "\"roberta\", \"pad_token_id\": 1.5", CLATTN_IO_ERROR,
       "pad_token_id|whole"},
      {&bert, "1e-06", "-1", CLATTN_IO_ERROR, "layer_norm_eps"},
      {&bert, "\"gelu\"", "\"relu\"", CLATTN_UNSUPPORTED, "hidden_act|relu"},
      {&bert, "\"gelu\"", "\"gelu\", \"is_decoder\": true", CLATTN_UNSUPPORTED,
       "is_decoder"},
      {&bert, "\"gelu\"",
       "\"gelu\", \"position_embedding_type\": \"relative_key\"",
       CLATTN_UNSUPPORTED, "position_embedding_type|relative_key"},
      {&gpt2, "true", "true, \"add_cross_attention\": true", CLATTN_UNSUPPORTED,
       "add_cross_attention"},
      {&gpt2, "true", "false", CLATTN_IO_ERROR, "lm_head.weight"},
      {&gpt2, "true", "false, \"architectures\": [\"GPT2Model\"]", CLATTN_OK,
       ""},
      {&gpt2, "true", "7", CLATTN_IO_ERROR, "tie_word_embeddings"},
      {&gpt2, "true", "true, \"activation_function\": \"tanh\"",
       CLATTN_UNSUPPORTED, "activation_function|tanh"},
      {&llama, "100,",
       "100, \"rope_parameters\": {\"type\": \"yarn\", \"factor\": 2},",
       CLATTN_UNSUPPORTED, "yarn"},
      {&llama, "100,", "100, \"rope_parameters\": 3,", CLATTN_IO_ERROR, "rope"},
      {&llama, "100,", "100, \"partial_rotary_factor\": 0.3,", CLATTN_OK, ""},
      {&llama, "100,", "100, \"partial_rotary_factor\": 0.5,", CLATTN_OK, ""},
      {&llama, "100,", "100, \"hidden_act\": \"relu\",", CLATTN_UNSUPPORTED,
       "hidden_act|relu"},
      {&llama, "\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3",
       CLATTN_IO_ERROR, "3|4"},
      {&llama, "\"attention_bias\": false", "\"attention_bias\": true",
       CLATTN_IO_ERROR, "layers.0.self_attn.q_proj.bias"},
      {&llama, "\"mlp_bias\": false", "\"mlp_bias\": true", CLATTN_IO_ERROR,
       "bias"}};
  for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
    checkpoint c;
    checkpoint_make(&c, faults[i].kind, 1);
    edit(&c, faults[i].from, faults[i].to);
    checkpoint_write(&c);
    expect_load(&c, faults[i].want, faults[i].words);
    checkpoint_free(&c);
  }
}

/* ---- tensors -------------------------------------------------------------------- */

Test(errors_model, tensors) {
  static const struct {
    const checkpoint_kind *kind;
    const char *name, *renamed;
    int rows; /* 0: as it is */
    const char *words;
  } faults[] = {
      {&bert, "encoder.layer.1.output.dense.weight", "x", 0,
       "encoder.layer.1.output.dense.weight"},
      {&bert, "encoder.layer.1.output.dense.bias", NULL, 23,
       "encoder.layer.1.output.dense.bias|[23]|[24]"},
      {&bert, "pooler.dense.bias", "x", 0, "pooler.dense.bias"},
      {&gpt2, "h.0.attn.c_attn.weight", NULL, 23,
       "h.0.attn.c_attn.weight|[23,72]|[24,72]"},
      {&gpt2, "wte.weight", "x", 0, "wte.weight"},
      {&llama, "layers.1.mlp.gate_proj.weight", "x", 0,
       "layers.1.mlp.gate_proj.weight"},
      {&llama, "layers.0.self_attn.k_proj.weight", NULL, 15,
       "layers.0.self_attn.k_proj.weight|[15,24]|[16,24]"},
      {&gguf, "blk.1.ffn_norm.weight", "x", 0, "blk.1.ffn_norm.weight"}};
  for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
    checkpoint c;
    checkpoint_make(&c, faults[i].kind, 1);
    checkpoint_tensor *t = checkpoint_find(&c, faults[i].name);
    if (faults[i].renamed != NULL)
      snprintf(t->name, sizeof t->name, "%s", faults[i].renamed);
    if (faults[i].rows > 0) t->rows = faults[i].rows;
    checkpoint_write(&c);
    expect_load(&c, CLATTN_IO_ERROR, faults[i].words);
    checkpoint_free(&c);
  }
}

Test(errors_model, paths) {
  checkpoint c;
  clattn_model *model;
  char path[80];
  checkpoint_make(&c, &bert, 1);
  cr_expect_eq(try_load("/no/such/folder", &model), CLATTN_IO_ERROR);
  expect_said("/no/such/folder", "path");
  snprintf(path, sizeof path, "%s/model.safetensors", c.folder);
  cr_expect_eq(try_load(path, &model), CLATTN_IO_ERROR);
  expect_said("model.safetensors|gpt.", "a file without configuration");
  snprintf(path, sizeof path, "%s/config.json", c.folder);
  unlink(path);
  cr_expect_eq(try_load(c.folder, &model), CLATTN_IO_ERROR);
  expect_said("config.json", "a folder without configuration");
  checkpoint_write(&c);
  snprintf(path, sizeof path, "%s/model.safetensors", c.folder);
  unlink(path);
  cr_expect_eq(try_load(c.folder, &model), CLATTN_IO_ERROR);
  checkpoint_free(&c);
}

/* Files that lie: no crash, no leak, and a model only if all of it is there. */
Test(errors_model, fuzzed_files) {
  static const checkpoint_kind *const kinds[] = {&llama, &gguf};
  static const char *const names[] = {"config.json", "model.gguf"};
  th_rng rng = {17};
  for (int k = 0; k < 2; k++) {
    checkpoint c;
    char path[80], bytes[1 << 16];
    checkpoint_make(&c, kinds[k], 1);
    snprintf(path, sizeof path, "%s/%s", c.folder, names[k]);
    FILE *file = fopen(path, "rb");
    const size_t size = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    const int head = k == 0 ? (int)size : 2000; /* of GGUF: what describes */
    for (int i = 0; i < (th_small() ? 40 : 300); i++) {
      const int at = th_below(&rng, head);
      const char old = bytes[at];
      const bool cut = th_chance(&rng, 10);
      bytes[at] = (char)(th_chance(&rng, 50) ? old ^ (1 << th_below(&rng, 8))
                                             : th_below(&rng, 256));
      file = fopen(path, "wb");
      fwrite(bytes, 1, cut ? (size_t)at : size, file);
      fclose(file);
      bytes[at] = old;
      clattn_model *model;
      if (try_load(c.folder, &model) == CLATTN_OK) clattn_model_destroy(model);
    }
    checkpoint_free(&c);
  }
}

/* ---- calls ------------------------------------------------------------------------ */

enum { LENGTH = 4, BATCH = 2 };

typedef struct call {
  clattn_model *model;
  clattn_queue *queue;
  clattn_model_input input;
  clattn_model_output output;
  int64_t lengths[BATCH];
  int32_t ids[BATCH * LENGTH], types[BATCH * LENGTH];
  float hidden[BATCH * LENGTH * 24];
} call;

static clattn_status on_layer(void *user, const clattn_model_layer *layer) {
  return layer->layer == *(int *)user
             ? clattn_set_error(CLATTN_IO_ERROR, "full")
             : CLATTN_OK;
}

/* A failure without a message, and a run within a run. */
static clattn_status no_word(void *user, const clattn_model_layer *layer) {
  (void)user, (void)layer;
  return CLATTN_IO_ERROR;
}

static clattn_status run_again(void *user, const clattn_model_layer *layer) {
  const call *c = user;
  (void)layer;
  return clattn_model_run(c->model, c->queue, &c->input, &c->output);
}

static void begin(call *c, clattn_model *model) {
  *c = (call){.model = model, .queue = cpu()->queue, .lengths = {3, LENGTH}};
  clattn_model_input_init(&c->input);
  clattn_model_output_init(&c->output);
  c->input.batch = BATCH;
  c->input.length = LENGTH;
  c->input.lengths = c->lengths;
  c->input.ids = c->ids;
  c->output.hidden = c->hidden;
  for (int i = 0; i < BATCH * LENGTH * 24; i++) c->hidden[i] = 77;
}

#define BAD(want, words, ...)                                                  \
  if (n-- == 0) {                                                              \
    __VA_ARGS__;                                                               \
    *status = CLATTN_##want;                                                   \
    return words;                                                              \
  }

/* Fault n of a call that is right otherwise; NULL: there are no more. */
static const char *fault(int n, call *c, clattn_status *status, int *failing) {
  BAD(INVALID_ARGUMENT, "model|NULL", c->model = NULL)
  BAD(INVALID_ARGUMENT, "queue|NULL", c->queue = NULL)
  BAD(INVALID_ARGUMENT, "input->struct_size", c->input.struct_size = 3)
  BAD(INVALID_ARGUMENT, "output->struct_size", c->output.struct_size = 3)
  BAD(INVALID_ARGUMENT, "input->layout|9",
      c->input.layout = (clattn_model_layout)9)
  BAD(INVALID_ARGUMENT, "input->batch|0", c->input.batch = 0)
  BAD(INVALID_ARGUMENT, "input->length|-1", c->input.length = -1)
  BAD(INVALID_ARGUMENT, "input->ids|NULL", c->input.ids = NULL)
  BAD(INVALID_ARGUMENT, "input->lengths|NULL",
      c->input.layout = CLATTN_MODEL_PACKED, c->input.lengths = NULL)
  BAD(INVALID_ARGUMENT, "input->lengths[0]|0", c->lengths[0] = 0)
  BAD(INVALID_ARGUMENT, "input->lengths[1]|5|4", c->lengths[1] = 5)
  BAD(INVALID_ARGUMENT, "request 0|17|16", c->input.length = 17,
      c->input.lengths = NULL, c->input.batch = 1)
  BAD(INVALID_ARGUMENT, "input->ids[5]|37|0..36|request 1", c->ids[5] = 37)
  BAD(INVALID_ARGUMENT, "input->ids[0]|-1", c->ids[0] = -1)
  BAD(INVALID_ARGUMENT, "input->types[6]|3|0..2", c->input.types = c->types,
      c->types[6] = 3)
  BAD(INVALID_ARGUMENT, "output->watch", c->output.watch = 64)
  BAD(INVALID_ARGUMENT, "output->on_layer",
      c->output.watch = CLATTN_WATCH_HIDDEN)
  BAD(INVALID_ARGUMENT, "output->top|33", c->output.top = 33)
  BAD(INVALID_ARGUMENT, "output->map_block|0", c->output.map_block = 0)
  BAD(INVALID_ARGUMENT, "output->pooling|7",
      c->output.pooling = (clattn_model_pooling)7)
  BAD(UNSUPPORTED, "output->logits|bert", c->output.logits = c->hidden)
  BAD(UNSUPPORTED, "output->all_logits|bert", c->output.all_logits = c->hidden)
  for (int at = -1; at < 2; at++)
    BAD(IO_ERROR, "full", c->output.watch = CLATTN_WATCH_HIDDEN, *failing = at,
        c->output.on_layer = on_layer, c->output.user = failing)
  BAD(IO_ERROR, "on_layer|ended", c->output.watch = CLATTN_WATCH_HIDDEN,
      c->output.on_layer = no_word)
  BAD(INVALID_ARGUMENT, "model|is running",
      c->output.watch = CLATTN_WATCH_HIDDEN, c->output.on_layer = run_again,
      c->output.user = c)
  return NULL;
}

Test(errors_model, runs) {
  checkpoint c;
  checkpoint_make(&c, &bert, 1);
  clattn_model *model = load(&c);
  call made;
  int n = 0, failing = 0;
  for (;; n++) {
    clattn_status want = CLATTN_OK;
    begin(&made, model);
    const char *words = fault(n, &made, &want, &failing);
    if (words == NULL) break;
    const clattn_status got =
        clattn_model_run(made.model, made.queue, &made.input, &made.output);
    cr_expect_eq(got, want, "%s: got %s (%s)", words, clattn_status_name(got),
                 clattn_error_message());
    expect_said(words, "run");
    for (int i = 0; i < BATCH * LENGTH * 24; i++)
      cr_expect_eq(made.hidden[i], 77, "%s: an output has changed", words);
  }
  cr_expect_eq(n, 27);
  TH_OK(clattn_model_run(model, cpu()->queue, &made.input, &made.output));
  cr_expect_neq(made.hidden[0], 77);
  clattn_model_destroy(model);
  checkpoint_free(&c);
}

Test(errors_model, a_model_for_shorter_requests) {
  checkpoint c;
  checkpoint_make(&c, &llama, 1);
  clattn_model_options options;
  clattn_model_options_init(&options);
  options.positions = 3;
  clattn_model *model = NULL;
  const th_device *d = cpu();
  TH_OK(clattn_model_load(d->context, d->index, d->queue, c.folder, &options,
                          &model));
  call made;
  begin(&made, model); /* of 3 and 4 tokens */
  cr_expect_eq(clattn_model_run(model, d->queue, &made.input, &made.output),
               CLATTN_INVALID_ARGUMENT);
  expect_said("request 1|4|3", "run");
  made.lengths[1] = 3;
  TH_OK(clattn_model_run(model, d->queue, &made.input, &made.output));
  clattn_model_destroy(model);
  options.positions = -1;
  cr_expect_eq(clattn_model_load(d->context, d->index, d->queue, c.folder,
                                 &options, &model),
               CLATTN_INVALID_ARGUMENT);
  expect_said("options->positions|-1", "load");
  checkpoint_free(&c);
}

Test(errors_model, a_model_without_its_pooler) {
  checkpoint c;
  call made;
  clattn_model_config config = {.struct_size = sizeof config};
  checkpoint_make(&c, &bert, 1);
  strcpy(checkpoint_find(&c, "pooler.dense.weight")->name, "x");
  checkpoint_write(&c);
  clattn_model *model = load(&c);
  TH_OK(clattn_model_get_config(model, &config));
  cr_expect(!config.pooler && !config.head && !config.causal);
  begin(&made, model);
  made.output.pooled = made.hidden;
  cr_expect_eq(clattn_model_run(model, cpu()->queue, &made.input, &made.output),
               CLATTN_UNSUPPORTED);
  expect_said("pooled|pooler", "run");
  clattn_model_destroy(model);
  checkpoint_free(&c);
}

Test(errors_model, decoders) {
  checkpoint c;
  clattn_model_decoder *decoder;
  clattn_queue *queue = cpu()->queue;
  checkpoint_make(&c, &bert, 1);
  clattn_model *model = load(&c);
  cr_expect_eq(clattn_model_decoder_create(model, queue, 0, &decoder),
               CLATTN_UNSUPPORTED);
  expect_said("bert|causal", "decoder");
  clattn_model_destroy(model);
  checkpoint_free(&c);
  checkpoint_make(&c, &gpt2, 1);
  model = load(&c);
  cr_expect_eq(clattn_model_decoder_create(model, queue, 17, &decoder),
               CLATTN_INVALID_ARGUMENT);
  expect_said("capacity|17|16", "decoder");
  cr_expect(decoder == NULL);
  TH_OK(clattn_model_decoder_create(model, queue, 0, &decoder));
  const int32_t ids[2] = {0, 37};
  float logits[37] = {77};
  cr_expect_eq(clattn_model_decoder_read(decoder, queue, ids, 2, logits),
               CLATTN_INVALID_ARGUMENT);
  expect_said("ids[1]|37|0..36", "read");
  cr_expect_eq(clattn_model_decoder_read(decoder, queue, ids, 0, logits),
               CLATTN_INVALID_ARGUMENT);
  cr_expect_eq(clattn_model_decoder_read(decoder, NULL, ids, 1, logits),
               CLATTN_INVALID_ARGUMENT);
  cr_expect_eq(clattn_model_decoder_truncate(decoder, queue, 1),
               CLATTN_INVALID_ARGUMENT);
  cr_expect(logits[0] == 77 && clattn_model_decoder_length(decoder) == 0);
  cr_expect_eq(clattn_model_decoder_length(NULL), 0);
  clattn_model_decoder_destroy(NULL);
  clattn_model_decoder_destroy(decoder);
  clattn_model_destroy(model);
  checkpoint_free(&c);
}

Test(errors_model, handles) {
  checkpoint c;
  clattn_model *model;
  const th_device *d = cpu();
  checkpoint_make(&c, &gpt2, 1);
  clattn_model_options options;
  clattn_model_options_init(&options);
  options.dtype = CLATTN_I32;
  cr_expect_eq(clattn_model_load(d->context, d->index, d->queue, c.folder,
                                 &options, &model),
               CLATTN_INVALID_ARGUMENT);
  expect_said("options->dtype|i32", "load");
  cr_expect_eq(
      clattn_model_load(d->context, d->index, NULL, c.folder, NULL, &model),
      CLATTN_INVALID_ARGUMENT);
  cr_expect_eq(
      clattn_model_load(NULL, d->index, d->queue, c.folder, NULL, &model),
      CLATTN_INVALID_ARGUMENT);
  cr_expect_eq(
      clattn_model_load(d->context, 99, d->queue, c.folder, NULL, &model),
      CLATTN_INVALID_ARGUMENT);
  cr_expect(model == NULL);
  model = load(&c);
  clattn_model_config config = {0};
  cr_expect_eq(clattn_model_get_config(model, &config),
               CLATTN_INVALID_ARGUMENT);
  cr_expect_eq(clattn_model_parameters(NULL), 0);
  clattn_model_destroy(NULL);
  clattn_tokenizer *tokenizer = NULL;
  const char *text = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKL";
  TH_OK(
      clattn_tokenizer_from_text(CLATTN_TOKENIZER_CHARS, text, 37, &tokenizer));
  TH_OK(clattn_model_check_tokenizer(model, tokenizer));
  clattn_tokenizer_destroy(tokenizer);
  TH_OK(
      clattn_tokenizer_from_text(CLATTN_TOKENIZER_CHARS, text, 38, &tokenizer));
  cr_expect_eq(clattn_model_check_tokenizer(model, tokenizer),
               CLATTN_INVALID_ARGUMENT);
  expect_said("tokenizer|37|0..36", "check_tokenizer");
  clattn_tokenizer_destroy(tokenizer);
  clattn_model_destroy(model);
  checkpoint_free(&c);
}

/* A queue of another device than the model's. */
Test(errors_model, another_device) {
  const th_devices *all = th_open(false);
  if (all->count < 2) return;
  checkpoint c;
  call made;
  clattn_model_decoder *decoder = NULL;
  checkpoint_make(&c, &gpt2, 1);
  clattn_model *model = load(&c);
  begin(&made, model);
  clattn_queue *other = all->device[0].queue;
  cr_expect_eq(clattn_model_run(model, other, &made.input, &made.output),
               CLATTN_INVALID_ARGUMENT);
  cr_expect_eq(made.hidden[0], 77);
  TH_OK(clattn_model_decoder_create(model, cpu()->queue, 0, &decoder));
  cr_expect_eq(
      clattn_model_decoder_read(decoder, other, made.ids, 1, made.hidden),
      CLATTN_INVALID_ARGUMENT);
  cr_expect_eq(clattn_model_decoder_length(decoder), 0);
  clattn_model_decoder_destroy(decoder);
  clattn_model_destroy(model);
  checkpoint_free(&c);
}
