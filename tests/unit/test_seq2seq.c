/* The encoder-decoder: losses, gradients and attention against double precision,
 * padding, training, files, and what is wrong. Its search has a file of its own. */
#define _POSIX_C_SOURCE 200809L /* mkstemp */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "../support/seq2seq_case.h"
#include "clattn_nn.h"
#include "clattn_seq2seq.h"

/* ---- loss and gradients -------------------------------------------------- */

/* Three pairs of different lengths; the third target is empty. */
enum { PAIRS = 3, S = 7, T = 4 };
static const int32_t sources[PAIRS][S] = {
    {4, 7, 3, 8, 5, 6, 3}, {8, 8, 4, 0, 0, 0, 0}, {5, 0, 0, 0, 0, 0, 0}};
static const int32_t targets[PAIRS][T] = {
    {6, 5, 3, 0}, {7, 4, 8, 3}, {0, 0, 0, 0}};
static const int64_t source_lengths[PAIRS] = {7, 3, 1};
static const int64_t target_lengths[PAIRS] = {3, 4, 0};

static double mean_loss(const os2s_model *model) {
  double sum = 0, tokens = 0;
  for (int i = 0; i < PAIRS; i++) {
    sum += os2s_loss(model, sources[i], source_lengths[i], targets[i],
                     target_lengths[i]);
    tokens += (double)target_lengths[i] + 1;
  }
  return sum / tokens;
}

static void check_gradient(const th_device *device, s2s_case *c,
                           clattn_seq2seq_trainer *trainer, size_t i) {
  const int64_t n = s2s_elements(c->model, i);
  float *got = malloc((size_t)n * sizeof *got);
  TH_OK(clattn_seq2seq_trainer_gradient(trainer, device->queue, i, got));
  const int64_t step = n / (th_small() ? 2 : 7) + 1;
  for (int64_t j = (int64_t)(i % 3); j < n; j += step) {
    double *x = &c->oracle.tensors[i].values[j], middle = *x, loss[2];
    const double h = 1e-5;
    for (int side = 0; side < 2; side++) {
      *x = side ? middle + h : middle - h;
      loss[side] = mean_loss(&c->oracle);
    }
    *x = middle;
    const double want = (loss[1] - loss[0]) / (2 * h);
    cr_expect(fabs(want - (double)got[j]) < 2e-6 + 2e-5 * fabs(want),
              "%s: d/d %s[%lld]: got %.9g, want %.9g", device->info.name,
              c->oracle.tensors[i].name, (long long)j, (double)got[j], want);
  }
  free(got);
}

Test(seq2seq, loss_and_gradients_of_every_tensor) {
  S2S_FOR_DEVICES(device) {
    s2s_case c = s2s_make(device, NULL);
    clattn_seq2seq_trainer *trainer = s2s_trainer(&c, 4);
    float loss, again;
    TH_OK(clattn_seq2seq_trainer_loss(trainer, device->queue, sources[0], S,
                                      targets[0], T, PAIRS, &loss));
    const double want = mean_loss(&c.oracle);
    cr_expect(fabs((double)loss - want) < 1e-6 * want,
              "%s: loss: got %.9g, want %.9g", device->info.name, (double)loss,
              want);
    TH_OK(clattn_seq2seq_trainer_step(trainer, device->queue, sources[0], S,
                                      targets[0], T, PAIRS, 0, &again));
    cr_expect_eq(again, loss);
    for (size_t i = 0; i < c.oracle.count; i++)
      check_gradient(device, &c, trainer, i);
    s2s_free(&c); /* destroys the model: in any order */
    clattn_seq2seq_trainer_destroy(trainer);
  }
}

/* Dropout draws by seed and step: a trainer's first step by the same numbers as
 * another's. The loss is float, so differences are coarse. */
Test(seq2seq, gradients_with_dropout) {
  S2S_FOR_DEVICES(device) {
    clattn_seq2seq_config config = s2s_tiny();
    config.dropout = 0.3f;
    s2s_case c = s2s_make(device, &config);
    const char *const names[] = {"wte.weight", "encoder.h.0.attn.c_attn.weight",
                                 "decoder.h.0.attn.c_proj.weight",
                                 "decoder.h.1.cross.c_attn.weight",
                                 "decoder.h.0.cross.c_proj.weight"};
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
      const size_t i = s2s_find(&c, names[k]);
      float values[512], gradient[512], loss[2];
      cr_assert(s2s_elements(c.model, i) <= 512);
      TH_OK(clattn_seq2seq_tensor_read(c.model, device->queue, i, values));
      clattn_seq2seq_trainer *trainer = s2s_trainer(&c, PAIRS);
      TH_OK(clattn_seq2seq_trainer_step(trainer, device->queue, sources[0], S,
                                        targets[0], T, PAIRS, 0, NULL));
      TH_OK(
          clattn_seq2seq_trainer_gradient(trainer, device->queue, i, gradient));
      clattn_seq2seq_trainer_destroy(trainer);
      const size_t j = 33;
      const float h = 0x1p-7f, middle = values[j];
      for (int side = 0; side < 2; side++) {
        values[j] = side ? middle + h : middle - h;
        TH_OK(clattn_seq2seq_tensor_write(c.model, device->queue, i, values));
        trainer = s2s_trainer(&c, PAIRS);
        TH_OK(clattn_seq2seq_trainer_step(trainer, device->queue, sources[0], S,
                                          targets[0], T, PAIRS, 0,
                                          &loss[side]));
        clattn_seq2seq_trainer_destroy(trainer);
      }
      values[j] = middle;
      TH_OK(clattn_seq2seq_tensor_write(c.model, device->queue, i, values));
      const double want = ((double)loss[1] - (double)loss[0]) / (2 * (double)h);
      cr_expect(fabs(want - (double)gradient[j]) < 2e-4 + 4e-3 * fabs(want),
                "%s: %s: got %g, want %g", device->info.name, names[k],
                (double)gradient[j], want);
    }
    s2s_free(&c);
  }
}

/* ---- padding, training --------------------------------------------------- */

/* Wider padding, and the same step again, give the same bits. */
Test(seq2seq, width_of_padding_changes_nothing) {
  enum { WIDE_S = 9, WIDE_T = 5 };
  int32_t wide_s[PAIRS][WIDE_S] = {{0}}, wide_t[PAIRS][WIDE_T] = {{0}};
  for (int i = 0; i < PAIRS; i++) {
    memcpy(wide_s[i], sources[i], sizeof sources[i]);
    memcpy(wide_t[i], targets[i], sizeof targets[i]);
  }
  S2S_FOR_DEVICES(device) {
    clattn_seq2seq_config config = s2s_tiny();
    config.dropout = 0.1f;
    s2s_case c[2] = {s2s_make(device, &config), s2s_make(device, &config)};
    for (int k = 0; k < 2; k++) {
      clattn_seq2seq_trainer *trainer = s2s_trainer(&c[k], PAIRS);
      for (int step = 0; step < 3; step++)
        TH_OK(clattn_seq2seq_trainer_step(
            trainer, device->queue, k ? wide_s[0] : sources[0], k ? WIDE_S : S,
            k ? wide_t[0] : targets[0], k ? WIDE_T : T, PAIRS, 0.01f, NULL));
      clattn_seq2seq_trainer_destroy(trainer);
    }
    cr_expect(s2s_same_values(&c[0], &c[1]), "%s", device->info.name);
    s2s_free(&c[0]);
    s2s_free(&c[1]);
  }
}

/* The loss of a pair is its own, whatever stands beside it in the batch. */
Test(seq2seq, pairs_do_not_meet) {
  S2S_FOR_DEVICES(device) {
    s2s_case c = s2s_make(device, NULL);
    clattn_seq2seq_trainer *trainer = s2s_trainer(&c, PAIRS);
    float all, sum = 0, tokens = 0;
    TH_OK(clattn_seq2seq_trainer_loss(trainer, device->queue, sources[0], S,
                                      targets[0], T, PAIRS, &all));
    for (int i = 0; i < PAIRS; i++) {
      float one;
      const float n = (float)(target_lengths[i] + 1);
      TH_OK(clattn_seq2seq_trainer_loss(trainer, device->queue, sources[i], S,
                                        targets[i], T, 1, &one));
      sum += one * n;
      tokens += n;
    }
    cr_expect_float_eq(sum / tokens, all, 1e-6f * all);
    clattn_seq2seq_trainer_destroy(trainer);
    s2s_free(&c);
  }
}

/* Reversed words, with dropout, until greedy search writes them all. */
Test(seq2seq, learns_to_reverse) {
  enum { N = 6, WORD = 4, TARGET = 7 };
  S2S_FOR_DEVICES(device) {
    int32_t words[N][WORD], reversed[N][WORD], got[N][TARGET];
    th_rng rng = {11};
    for (int i = 0; i < N; i++)
      for (int j = 0; j < WORD; j++)
        words[i][j] = reversed[i][WORD - 1 - j] = 3 + th_below(&rng, 6);
    clattn_seq2seq_config config = s2s_tiny();
    config.dropout = 0.02f;
    s2s_case c = s2s_fresh(device, &config);
    clattn_seq2seq_trainer *trainer = s2s_trainer(&c, N);
    float loss = 0, first = 0;
    const int steps = th_small() ? 20 : 150;
    for (int i = 0; i < steps; i++) {
      TH_OK(clattn_seq2seq_trainer_step(
          trainer, device->queue, words[0], WORD, reversed[0], WORD, N,
          clattn_nn_cosine_lr(i, 0, steps, 0.01f, 0.001f), &loss));
      if (i == 0) first = loss;
    }
    clattn_seq2seq_trainer_destroy(trainer);
    cr_expect(loss < first / (th_small() ? 1.1f : 8), "%s: loss %g after %g",
              device->info.name, (double)loss, (double)first);
    if (!th_small()) {
      TH_OK(clattn_seq2seq_translate(c.model, device->queue, words[0], WORD, N,
                                     NULL, got[0], NULL));
      for (int i = 0; i < N; i++) {
        cr_expect(memcmp(got[i], reversed[i], sizeof reversed[i]) == 0,
                  "%s: word %d", device->info.name, i);
        cr_expect_eq(got[i][WORD], config.end);
        cr_expect_eq(got[i][WORD + 1], config.pad);
      }
    }
    s2s_free(&c);
  }
}

/* ---- attention ----------------------------------------------------------- */

Test(seq2seq, cross_attention) {
  S2S_FOR_DEVICES(device) {
    s2s_case c = s2s_make(device, NULL);
    const int32_t source[] = {4, 8, 3, 5, 7}, target[] = {6, 3, 3, 2};
    enum { N = 5, ROWS = 4, HEADS = 2 };
    float got[HEADS * ROWS * N];
    double want[HEADS * ROWS * N], log_probs[ROWS * S2S_VOCAB];
    for (int layer = 0; layer < 2; layer++) {
      TH_OK(clattn_seq2seq_attention(c.model, device->queue, source, N, target,
                                     ROWS, layer, got));
      os2s_log_probs(&c.oracle, source, N, target, ROWS - 1, log_probs, layer,
                     want);
      for (int i = 0; i < HEADS * ROWS * N; i++)
        cr_expect(fabs((double)got[i] - want[i]) < 1e-6,
                  "%s: layer %d, weight %d: got %.9g, want %.9g",
                  device->info.name, layer, i, (double)got[i], want[i]);
    }
    s2s_free(&c);
  }
}

/* ---- files --------------------------------------------------------------- */

static void temporary(char path[32]) {
  strcpy(path, "/tmp/clattn-s2s-XXXXXX");
  const int fd = mkstemp(path);
  cr_assert(fd >= 0);
  close(fd);
}

Test(seq2seq, files_come_back) {
  char path[32];
  temporary(path);
  S2S_FOR_DEVICES(device) {
    clattn_seq2seq_config config = s2s_tiny(), got;
    config.pad = 8;
    config.begin = 3;
    config.end = 5;
    config.dropout = 0.25f;
    s2s_case c = s2s_make(device, &config);
    TH_OK(clattn_seq2seq_save(c.model, device->queue, path, CLATTN_F32, NULL, 0,
                              NULL, 0));
    clattn_kit_safetensors *file = NULL;
    s2s_case back = {.device = device};
    TH_OK(clattn_kit_safetensors_open(path, &file));
    TH_OK(clattn_seq2seq_load(device->context, device->index, device->queue,
                              file, &back.model));
    clattn_kit_safetensors_destroy(file);
    TH_OK(clattn_seq2seq_get_config(back.model, &got));
    cr_expect(memcmp(&config, &got, sizeof got) == 0);
    cr_expect(s2s_same_values(&c, &back));
    cr_expect_eq(clattn_seq2seq_parameters(back.model),
                 clattn_seq2seq_parameters(c.model));
    s2s_free(&c);
    s2s_free(&back);
  }
  unlink(path);
}

static clattn_status load_bytes(const th_device *device, const void *bytes,
                                size_t n) {
  clattn_kit_safetensors *file = NULL;
  clattn_seq2seq *model = NULL;
  clattn_status status = clattn_kit_safetensors_parse(bytes, n, &file);
  if (status == CLATTN_OK)
    status = clattn_seq2seq_load(device->context, device->index, device->queue,
                                 file, &model);
  cr_expect((model == NULL) == (status != CLATTN_OK));
  clattn_seq2seq_destroy(model);
  clattn_kit_safetensors_destroy(file);
  return status;
}

static unsigned char *slurp(const char *path, size_t *n) {
  FILE *file = fopen(path, "rb");
  cr_assert(file != NULL);
  fseek(file, 0, SEEK_END);
  *n = (size_t)ftell(file);
  rewind(file);
  unsigned char *bytes = malloc(*n);
  cr_assert_eq(fread(bytes, 1, *n, file), *n);
  fclose(file);
  return bytes;
}

/* Truncated anywhere, and with any bit of its header turned: an error or a model,
 * never a crash. */
Test(seq2seq, files_that_are_damaged) {
  const th_device *device = &th_open(false)->device[0];
  char path[32];
  temporary(path);
  s2s_case c = s2s_make(device, NULL);
  TH_OK(clattn_seq2seq_save(c.model, device->queue, path, CLATTN_F16, NULL, 0,
                            NULL, 0));
  s2s_free(&c);
  size_t n, refused = 0;
  unsigned char *bytes = slurp(path, &n);
  unlink(path);
  cr_expect_eq(load_bytes(device, bytes, n), CLATTN_OK);
  for (size_t cut = 0; cut < n; cut += n / 23)
    cr_expect_eq(load_bytes(device, bytes, cut), CLATTN_IO_ERROR);
  uint64_t header;
  memcpy(&header, bytes, sizeof header);
  th_rng rng = {3};
  const int tries = th_small() ? 50 : 600;
  for (int i = 0; i < tries; i++) {
    const uint64_t at = th_next(&rng) % (8 + header);
    const unsigned char bit = (unsigned char)(1u << th_below(&rng, 8));
    bytes[at] ^= bit;
    refused += load_bytes(device, bytes, n) != CLATTN_OK;
    bytes[at] ^= bit;
  }
  cr_expect(refused > (size_t)tries / 2, "%zu of %d were refused", refused,
            tries);
  free(bytes);
}

static clattn_status load_lies(const th_device *device, const char *path,
                               const char *key, const char *text) {
  const char *const keys[] = {"vocab_size", "max_source", "max_target",
                              "layers",     "heads",      "embed_dim",
                              "pad",        "begin",      "end"};
  const char *const honest[] = {"9", "9", "7", "2", "2", "8", "0", "1", "2"};
  enum { N = sizeof keys / sizeof *keys };
  char names[N][32];
  clattn_kit_metadata entries[N];
  size_t used = 0;
  for (int i = 0; i < N; i++) {
    const bool lie = strcmp(keys[i], key) == 0;
    if (lie && text == NULL) continue;
    snprintf(names[used], sizeof names[used], "seq2seq.%s", keys[i]);
    entries[used] = (clattn_kit_metadata){names[used], lie ? text : honest[i]};
    used++;
  }
  const float table[9 * 8] = {0};
  const clattn_kit_tensor t = {.name = "wte.weight",
                               .dtype = CLATTN_KIT_F32,
                               .rank = 2,
                               .extent = {9, 8},
                               .data = table,
                               .size_bytes = sizeof table};
  TH_OK(clattn_kit_safetensors_write(path, &t, 1, entries, used));
  size_t n;
  unsigned char *bytes = slurp(path, &n);
  const clattn_status status = load_bytes(device, bytes, n);
  free(bytes);
  return status;
}

Test(seq2seq, files_that_lie) {
  const th_device *device = &th_open(false)->device[0];
  char path[32];
  temporary(path);
  const struct {
    const char *key, *text, *says;
  } lies[] = {{"vocab_size", "10", "wte.weight"},
              {"vocab_size", "1e9", "seq2seq.vocab_size"},
              {"vocab_size", NULL, "seq2seq.vocab_size"},
              {"embed_dim", "262144", "wte.weight"},
              {"layers", "4096", "encoder.h.4095.attn.c_proj.weight"},
              {"layers", "99999999999999999999", "seq2seq.layers"},
              {"max_source", "16385", "max_source"},
              {"max_target", "-1", "max_target"},
              {"heads", "3", "heads"},
              {"pad", "1", "config->begin"},
              {"end", "9", "config->end"}};
  for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
    cr_expect_eq(load_lies(device, path, lies[i].key, lies[i].text),
                 CLATTN_IO_ERROR, "%s %s", lies[i].key, lies[i].text);
    cr_expect(strstr(clattn_error_message(), lies[i].says) != NULL, "%s",
              clattn_error_message());
  }
  unlink(path);
}

/* ---- what is wrong ------------------------------------------------------- */

Test(seq2seq, nan_is_named) {
  S2S_FOR_DEVICES(device) {
    s2s_case c = s2s_make(device, NULL);
    clattn_seq2seq_trainer *trainer = s2s_trainer(&c, PAIRS);
    const size_t i = s2s_find(&c, "encoder.h.1.mlp.c_fc.weight");
    float values[8 * 32], loss = 7;
    TH_OK(clattn_seq2seq_tensor_read(c.model, device->queue, i, values));
    values[9] = NAN;
    TH_OK(clattn_seq2seq_tensor_write(c.model, device->queue, i, values));
    cr_expect_eq(
        clattn_seq2seq_trainer_step(trainer, device->queue, sources[0], S,
                                    targets[0], T, PAIRS, 0.1f, &loss),
        CLATTN_INVALID_ARGUMENT);
    cr_expect(strstr(clattn_error_message(), "encoder.h.1.mlp.c_fc.weight"),
              "%s", clattn_error_message());
    cr_expect_eq(loss, 7);
    int32_t got[8] = {42};
    cr_expect_eq(clattn_seq2seq_translate(c.model, device->queue, sources[0], S,
                                          1, NULL, got, NULL),
                 CLATTN_INVALID_ARGUMENT);
    cr_expect(strstr(clattn_error_message(), "not finite"), "%s",
              clattn_error_message());
    cr_expect_eq(got[0], 42);
    for (int j = 0; j < 8 * 32; j++) values[j] = 3e38f;
    TH_OK(clattn_seq2seq_tensor_write(c.model, device->queue, i, values));
    cr_expect_eq(clattn_seq2seq_trainer_loss(trainer, device->queue, sources[0],
                                             S, targets[0], T, PAIRS, &loss),
                 CLATTN_INVALID_ARGUMENT);
    cr_expect(strstr(clattn_error_message(), "activation encoder.h.1.mlp.c_fc"),
              "%s", clattn_error_message());
    clattn_seq2seq_trainer_destroy(trainer);
    s2s_free(&c);
  }
}

/* Expects INVALID_ARGUMENT and a message with `text`. */
#define WRONG(text, call)                                                      \
  do {                                                                         \
    cr_expect_eq((call), CLATTN_INVALID_ARGUMENT);                             \
    cr_expect(strstr(clattn_error_message(), text) != NULL,                    \
              "want '%s' in: %s", text, clattn_error_message());               \
  } while (0)

Test(seq2seq, configs_that_are_wrong) {
  const th_device *device = &th_open(false)->device[0];
  clattn_seq2seq *model = NULL;
#define CREATE(config)                                                         \
  clattn_seq2seq_create(device->context, device->index, device->queue,         \
                        (config), 1, &model)
#define WRONG_CONFIG(text, field, value)                                       \
  do {                                                                         \
    clattn_seq2seq_config config = s2s_tiny();                                 \
    config.field = value;                                                      \
    WRONG(text, CREATE(&config));                                              \
    cr_expect_null(model);                                                     \
  } while (0)
  WRONG_CONFIG("config->struct_size", struct_size, 1);
  WRONG_CONFIG("config->vocab_size: got 3", vocab_size, 3);
  WRONG_CONFIG("config->max_source: got 0", max_source, 0);
  WRONG_CONFIG("config->max_target", max_target, INT64_MAX);
  WRONG_CONFIG("config->layers", layers, -1);
  WRONG_CONFIG("config->heads: got 3, want a divisor of 8", heads, 3);
  WRONG_CONFIG("config->embed_dim", embed_dim, 0);
  WRONG_CONFIG("config->dropout", dropout, 1);
  WRONG_CONFIG("config->dropout", dropout, NAN);
  WRONG_CONFIG("config->pad", pad, -1);
  WRONG_CONFIG("config->end: got 9", end, S2S_VOCAB);
  WRONG_CONFIG("config->begin: got 0, which is pad", begin, 0);
  WRONG("config: got NULL", CREATE(NULL));
  clattn_seq2seq_config config = s2s_tiny();
  WRONG("model: got NULL",
        clattn_seq2seq_create(device->context, device->index, device->queue,
                              &config, 1, NULL));
  WRONG("queue: got NULL", clattn_seq2seq_create(device->context, device->index,
                                                 NULL, &config, 1, &model));
  clattn_seq2seq_destroy(NULL);
  clattn_seq2seq_trainer_destroy(NULL);
  cr_expect_eq(clattn_seq2seq_parameters(NULL), 0);
  cr_expect_eq(clattn_seq2seq_tensor_count(NULL), 0);
}

Test(seq2seq, arguments_that_are_wrong) {
  const th_device *device = &th_open(false)->device[0];
  s2s_case c = s2s_make(device, NULL);
  clattn_seq2seq_trainer *trainer = s2s_trainer(&c, PAIRS);
  clattn_queue *q = device->queue;
  const int32_t gap[4] = {3, 0, 4, 0}, mark[4] = {3, 1, 4, 0};
  const int32_t far[4] = {3, S2S_VOCAB, 0, 0}, none[4] = {0}, fine[4] = {3, 4};
  const int32_t ended[4] = {3, 2, 0, 0};
  float loss;
#define STEP(s, n, t, m, batch, lr)                                            \
  clattn_seq2seq_trainer_step(trainer, q, s, n, t, m, batch, lr, &loss)
  WRONG("sources: got NULL", STEP(NULL, 4, fine, 4, 1, 0));
  WRONG("targets: got NULL", STEP(fine, 4, NULL, 4, 1, 0));
  WRONG("S: got 10, want 1..9", STEP(fine, 10, fine, 4, 1, 0));
  WRONG("T: got 8, want 1..7", STEP(fine, 4, fine, 8, 1, 0));
  WRONG("T: got 0", STEP(fine, 4, fine, 0, 1, 0));
  WRONG("batch: got 4, want 1..3", STEP(fine, 4, fine, 4, 4, 0));
  WRONG("batch: got 0", STEP(fine, 4, fine, 4, 0, 0));
  WRONG("learning_rate: got nan", STEP(fine, 4, fine, 4, 1, NAN));
  WRONG("sources: token 2 of text 0: got 4 behind padding",
        STEP(gap, 4, fine, 4, 1, 0));
  WRONG("targets: token 2 of text 0: got 4 behind padding",
        STEP(fine, 4, gap, 4, 1, 0));
  WRONG("sources: token 1 of text 0: got 1", STEP(mark, 4, fine, 4, 1, 0));
  WRONG("sources: token 1 of text 0: got 9, want 0..8",
        STEP(far, 4, fine, 4, 1, 0));
  WRONG("targets: token 1 of text 0: got 2", STEP(fine, 4, ended, 4, 1, 0));
  WRONG("sources: text 0 has 0 tokens", STEP(none, 4, fine, 4, 1, 0));
  WRONG("queue: got NULL", clattn_seq2seq_trainer_step(trainer, NULL, fine, 4,
                                                       fine, 4, 1, 0, NULL));
  WRONG("loss: got NULL",
        clattn_seq2seq_trainer_loss(trainer, q, fine, 4, fine, 4, 1, NULL));
  WRONG("i: got", clattn_seq2seq_trainer_gradient(trainer, q, 1000, &loss));
  WRONG("trainer: got NULL",
        clattn_seq2seq_trainer_gradient(NULL, q, 0, &loss));
  clattn_seq2seq_trainer_config training;
  clattn_seq2seq_trainer_config_init(&training);
  clattn_seq2seq_trainer *other = NULL;
#define TRAINER clattn_seq2seq_trainer_create(c.model, q, &training, &other)
  training.batch = 0;
  WRONG("batch: got 0", TRAINER);
  training.batch = INT64_MAX;
  WRONG("batch: got", TRAINER);
  training.batch = 1;
  training.beta1 = 1;
  WRONG("config->beta1: got 1", TRAINER);
  training.beta1 = 0;
  training.clip = -1;
  WRONG("config->clip: got -1", TRAINER);
  training.struct_size = 0;
  WRONG("config->struct_size", TRAINER);
  cr_expect_null(other);
  float weights[2 * 8 * 9];
#define LOOK(s, n, t, m, layer)                                                \
  clattn_seq2seq_attention(c.model, q, s, n, t, m, layer, weights)
  WRONG("layer: got 2, want 0..1", LOOK(fine, 2, fine, 2, 2));
  WRONG("layer: got -1", LOOK(fine, 2, fine, 2, -1));
  WRONG("T: got 9, want 1..8", LOOK(fine, 2, fine, 9, 0));
  WRONG("S: got 0", LOOK(fine, 0, fine, 2, 0));
  WRONG("source: token 2 is pad", LOOK(fine, 4, fine, 2, 0));
  WRONG("target: text 0 has 2 tokens", LOOK(fine, 2, fine, 4, 0));
  WRONG("target: got NULL", LOOK(fine, 2, NULL, 4, 0));
  cr_expect_eq(LOOK(fine, 2, ended, 2, 0), CLATTN_OK);
  WRONG("dtype: got i32", clattn_seq2seq_save(c.model, q, "/tmp/none",
                                              CLATTN_I32, NULL, 0, NULL, 0));
  clattn_gpt_tensor tensor;
  WRONG("i: got", clattn_seq2seq_tensor_at(c.model, 1000, &tensor));
  WRONG("tensor: got NULL", clattn_seq2seq_tensor_at(c.model, 0, NULL));
  clattn_seq2seq_trainer_destroy(trainer);
  s2s_free(&c);
}
