/* The GPT: gradients of all of it, files, decoding, tokens, what is not finite. */
#define _POSIX_C_SOURCE 200809L /* mkstemp, ftruncate */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "../support/harness.h"
#include "clattn_gpt.h"
#include "clattn_nn.h"

enum { VOCAB = 11, CONTEXT = 6, BATCH = 2, ROWS = BATCH * CONTEXT };

static clattn_gpt_config tiny(void) {
  clattn_gpt_config config;
  clattn_gpt_config_init(&config);
  config.vocab_size = VOCAB;
  config.context = CONTEXT;
  config.layers = 2;
  config.heads = 2;
  config.embed_dim = 8;
  return config;
}

static clattn_gpt *make(const th_device *device,
                        const clattn_gpt_config *config) {
  clattn_gpt *gpt = NULL;
  TH_OK(clattn_gpt_create(device->context, device->index, device->queue, config,
                          7, &gpt));
  return gpt;
}

/* Larger weights than at the start, and biases that are not 0: else most of the
 * gradients would be too small to tell. */
static void stir(const th_device *device, clattn_gpt *gpt) {
  th_rng rng = {5};
  for (size_t i = 0; i < clattn_gpt_tensor_count(gpt); i++) {
    clattn_gpt_tensor t;
    TH_OK(clattn_gpt_tensor_at(gpt, i, &t));
    const int64_t n = t.extent[0] * (t.rank == 2 ? t.extent[1] : 1);
    float *values = malloc((size_t)n * sizeof *values);
    TH_OK(clattn_gpt_tensor_read(gpt, device->queue, i, values));
    for (int64_t j = 0; j < n; j++)
      values[j] += (float)th_uniform(&rng, -0.5, 0.5);
    TH_OK(clattn_gpt_tensor_write(gpt, device->queue, i, values));
    free(values);
  }
}

static void draw_ids(int32_t *inputs, int32_t *targets) {
  th_rng rng = {9};
  for (int i = 0; i < ROWS; i++) {
    inputs[i] = th_below(&rng, VOCAB);
    targets[i] = i == 3 ? -100 : th_below(&rng, VOCAB);
  }
}

static clattn_gpt_trainer *make_trainer(const th_device *device,
                                        clattn_gpt *gpt, int64_t micro) {
  clattn_gpt_trainer_config config;
  clattn_gpt_trainer_config_init(&config);
  config.batch = BATCH;
  config.micro = micro;
  clattn_gpt_trainer *trainer = NULL;
  TH_OK(clattn_gpt_trainer_create(gpt, device->queue, &config, &trainer));
  return trainer;
}

#define FOR_DEVICES(device)                                                    \
  for (const th_device *device = th_open(false)->device,                       \
                       *end_ = device + th_open(false)->count;                 \
       device < end_; device++)

/* ---- gradients ----------------------------------------------------------- */

/* The derivative of the loss by element j of tensor i, from both sides. The
 * loss is float: of a step h its rounding leaves 2e-7 / h. */
static double slope(const th_device *device, clattn_gpt *gpt,
                    clattn_gpt_trainer *trainer, size_t i, float *values,
                    int64_t j, const int32_t *inputs, const int32_t *targets) {
  const float h = 0x1p-7f, middle = values[j];
  float loss[2];
  for (int side = 0; side < 2; side++) {
    values[j] = side ? middle + h : middle - h;
    TH_OK(clattn_gpt_tensor_write(gpt, device->queue, i, values));
    TH_OK(clattn_gpt_trainer_loss(trainer, device->queue, inputs, targets,
                                  BATCH, CONTEXT, &loss[side]));
  }
  values[j] = middle;
  TH_OK(clattn_gpt_tensor_write(gpt, device->queue, i, values));
  return ((double)loss[1] - (double)loss[0]) / (2 * (double)h);
}

static void check_tensor(const th_device *device, clattn_gpt *gpt,
                         clattn_gpt_trainer *trainer, size_t i,
                         const int32_t *inputs, const int32_t *targets) {
  clattn_gpt_tensor t;
  TH_OK(clattn_gpt_tensor_at(gpt, i, &t));
  const int64_t n = t.extent[0] * (t.rank == 2 ? t.extent[1] : 1);
  float *values = malloc((size_t)n * sizeof *values);
  float *grads = malloc((size_t)n * sizeof *grads);
  TH_OK(clattn_gpt_tensor_read(gpt, device->queue, i, values));
  TH_OK(clattn_gpt_trainer_gradient(trainer, device->queue, i, grads));
  const int64_t step = n / (th_small() ? 2 : 5) + 1;
  for (int64_t j = (int64_t)(i % 3); j < n; j += step) {
    const double want =
        slope(device, gpt, trainer, i, values, j, inputs, targets);
    /* h^2 times the third derivative, and the rounding of two losses. */
    cr_expect(fabs(want - (double)grads[j]) < 2e-4 + 4e-3 * fabs(want),
              "%s: d/d %s[%lld]: got %g, differences give %g",
              device->info.name, t.name, (long long)j, (double)grads[j], want);
  }
  free(values);
  free(grads);
}

Test(gpt, gradients_of_every_tensor) {
  int32_t inputs[ROWS], targets[ROWS];
  draw_ids(inputs, targets);
  FOR_DEVICES(device) {
    const clattn_gpt_config config = tiny();
    clattn_gpt *gpt = make(device, &config);
    stir(device, gpt);
    clattn_gpt_trainer *trainer = make_trainer(device, gpt, 1);
    float loss;
    TH_OK(clattn_gpt_trainer_gradients(trainer, device->queue, inputs, targets,
                                       BATCH, CONTEXT, &loss));
    cr_expect(loss > 0);
    for (size_t i = 0; i < clattn_gpt_tensor_count(gpt); i++)
      check_tensor(device, gpt, trainer, i, inputs, targets);
    clattn_gpt_destroy(gpt); /* in any order */
    clattn_gpt_trainer_destroy(trainer);
  }
}

/* Two halves of a batch, averaged, are the batch. */
Test(gpt, micro_batches_add_up) {
  int32_t inputs[ROWS], targets[ROWS];
  draw_ids(inputs, targets);
  for (int i = 0; i < ROWS; i++) targets[i] = i % VOCAB;
  FOR_DEVICES(device) {
    const clattn_gpt_config config = tiny();
    clattn_gpt *gpt = make(device, &config);
    stir(device, gpt);
    clattn_gpt_trainer *whole = make_trainer(device, gpt, 1);
    clattn_gpt_trainer *halves = make_trainer(device, gpt, 2);
    TH_OK(clattn_gpt_trainer_gradients(whole, device->queue, inputs, targets,
                                       BATCH, CONTEXT, NULL));
    for (int half = 0; half < 2; half++)
      TH_OK(clattn_gpt_trainer_gradients(
          halves, device->queue, inputs + half * CONTEXT,
          targets + half * CONTEXT, 1, CONTEXT, NULL));
    for (size_t i = 0; i < clattn_gpt_tensor_count(gpt); i++) {
      float a[512], b[512];
      clattn_gpt_tensor t;
      TH_OK(clattn_gpt_tensor_at(gpt, i, &t));
      const int64_t n = t.extent[0] * (t.rank == 2 ? t.extent[1] : 1);
      cr_assert(n <= 512);
      TH_OK(clattn_gpt_trainer_gradient(whole, device->queue, i, a));
      TH_OK(clattn_gpt_trainer_gradient(halves, device->queue, i, b));
      for (int64_t j = 0; j < n; j++)
        cr_expect_float_eq(a[j], b[j], 1e-5f, "%s: %g, %g", t.name,
                           (double)a[j], (double)b[j]);
    }
    clattn_gpt_trainer_destroy(whole);
    clattn_gpt_trainer_destroy(halves);
    clattn_gpt_destroy(gpt);
  }
}

Test(gpt, learns_a_batch_by_heart) {
  int32_t inputs[ROWS], targets[ROWS];
  draw_ids(inputs, targets);
  FOR_DEVICES(device) {
    clattn_gpt_config config = tiny();
    config.dropout = 0.1f;
    clattn_gpt *gpt = make(device, &config);
    clattn_gpt_trainer *trainer = make_trainer(device, gpt, 1);
    float first, loss, norm;
    TH_OK(clattn_gpt_trainer_loss(trainer, device->queue, inputs, targets,
                                  BATCH, CONTEXT, &first));
    cr_expect_float_eq(first, logf(VOCAB), 0.05f);
    for (int i = 0; i < 60; i++) {
      TH_OK(clattn_gpt_trainer_gradients(trainer, device->queue, inputs,
                                         targets, BATCH, CONTEXT, &loss));
      TH_OK(clattn_gpt_trainer_update(trainer, device->queue, 0.02f, &norm));
      cr_expect(norm > 0);
    }
    cr_expect_eq(clattn_gpt_trainer_step(trainer), 60);
    cr_expect(loss < first / 2, "loss %g after %g", (double)loss,
              (double)first);
    clattn_gpt_trainer_destroy(trainer);
    clattn_gpt_destroy(gpt);
  }
}

/* ---- what is not finite -------------------------------------------------- */

Test(gpt, nan_is_named) {
  int32_t inputs[ROWS], targets[ROWS];
  draw_ids(inputs, targets);
  FOR_DEVICES(device) {
    const clattn_gpt_config config = tiny();
    clattn_gpt *gpt = make(device, &config);
    clattn_gpt_trainer *trainer = make_trainer(device, gpt, 1);
    const size_t i = clattn_gpt_tensor_count(gpt) - 6; /* h.1.mlp.c_fc.weight */
    float values[8 * 32], old;
    TH_OK(clattn_gpt_tensor_read(gpt, device->queue, i, values));
    old = values[3];
    values[3] = NAN;
    TH_OK(clattn_gpt_tensor_write(gpt, device->queue, i, values));
    cr_expect_eq(clattn_gpt_trainer_gradients(trainer, device->queue, inputs,
                                              targets, BATCH, CONTEXT, NULL),
                 CLATTN_INVALID_ARGUMENT);
    const char *message = clattn_error_message();
    cr_expect(strstr(message, "step 1") && strstr(message, "loss") &&
                  strstr(message, "h.1.mlp.c_fc.weight"),
              "%s", message);
    cr_expect_eq(clattn_gpt_trainer_update(trainer, device->queue, 0.1f, NULL),
                 CLATTN_INVALID_ARGUMENT); /* there is nothing to update by */
    cr_expect_eq(clattn_gpt_trainer_save(trainer, device->queue, "/tmp/nan",
                                         NULL, 0, NULL, 0),
                 CLATTN_INVALID_ARGUMENT); /* nor to keep */
    /* Finite weights whose products are not. */
    values[3] = old;
    for (int j = 0; j < 8 * 32; j++) values[j] = 3e38f;
    TH_OK(clattn_gpt_tensor_write(gpt, device->queue, i, values));
    cr_expect_eq(clattn_gpt_trainer_loss(trainer, device->queue, inputs,
                                         targets, BATCH, CONTEXT, values),
                 CLATTN_INVALID_ARGUMENT);
    message = clattn_error_message();
    cr_expect(strstr(message, "activation h.1.mlp.c_fc"), "%s", message);
    clattn_gpt_trainer_destroy(trainer);
    clattn_gpt_destroy(gpt);
  }
}

/* ---- files --------------------------------------------------------------- */

static void temporary(char path[32]) {
  strcpy(path, "/tmp/clattn-gpt-XXXXXX");
  const int fd = mkstemp(path);
  cr_assert(fd >= 0);
  close(fd);
}

static void steps(const th_device *device, clattn_gpt_trainer *trainer, int n) {
  int32_t inputs[ROWS], targets[ROWS];
  draw_ids(inputs, targets);
  for (int i = 0; i < n; i++) {
    TH_OK(clattn_gpt_trainer_gradients(trainer, device->queue, inputs, targets,
                                       BATCH, CONTEXT, NULL));
    TH_OK(clattn_gpt_trainer_update(trainer, device->queue, 0.01f, NULL));
  }
}

static bool same_values(const th_device *device, const clattn_gpt *a,
                        const clattn_gpt *b) {
  for (size_t i = 0; i < clattn_gpt_tensor_count(a); i++) {
    clattn_gpt_tensor t;
    float x[512], y[512];
    TH_OK(clattn_gpt_tensor_at(a, i, &t));
    const size_t n = (size_t)(t.extent[0] * (t.rank == 2 ? t.extent[1] : 1));
    TH_OK(clattn_gpt_tensor_read(a, device->queue, i, x));
    TH_OK(clattn_gpt_tensor_read(b, device->queue, i, y));
    if (memcmp(x, y, n * sizeof *x) != 0) return false;
  }
  return true;
}

/* Stopped, stored, loaded and continued: the bits of a run without a stop. */
Test(gpt, continues_to_the_same_bits) {
  char path[32];
  temporary(path);
  FOR_DEVICES(device) {
    clattn_gpt_config config = tiny();
    config.dropout = 0.2f;
    clattn_gpt *a = make(device, &config), *b = NULL;
    clattn_gpt_trainer *a_trainer = make_trainer(device, a, 1);
    steps(device, a_trainer, 3);
    TH_OK(clattn_gpt_trainer_save(a_trainer, device->queue, path, NULL, 0, NULL,
                                  0));
    clattn_kit_safetensors *file = NULL;
    TH_OK(clattn_kit_safetensors_open(path, &file));
    TH_OK(clattn_gpt_load(device->context, device->index, device->queue, file,
                          &b));
    clattn_gpt_trainer *b_trainer = make_trainer(device, b, 1);
    TH_OK(clattn_gpt_trainer_load(b_trainer, device->queue, file));
    clattn_kit_safetensors_destroy(file);
    cr_expect(same_values(device, a, b));
    steps(device, a_trainer, 4);
    steps(device, b_trainer, 4);
    cr_expect(same_values(device, a, b));
    cr_expect_eq(clattn_gpt_trainer_step(b_trainer), 7);
    clattn_gpt_trainer_destroy(a_trainer);
    clattn_gpt_trainer_destroy(b_trainer);
    clattn_gpt_destroy(a);
    clattn_gpt_destroy(b);
  }
  unlink(path);
}

static clattn_status load(const th_device *device, const char *path) {
  clattn_kit_safetensors *file = NULL;
  clattn_gpt *gpt = NULL;
  clattn_status status = clattn_kit_safetensors_open(path, &file);
  if (status == CLATTN_OK)
    status = clattn_gpt_load(device->context, device->index, device->queue,
                             file, &gpt);
  clattn_kit_safetensors_destroy(file);
  cr_expect((gpt == NULL) == (status != CLATTN_OK));
  clattn_gpt_destroy(gpt);
  return status;
}

Test(gpt, files_that_are_wrong) {
  const th_device *device = &th_open(false)->device[0];
  char path[32];
  temporary(path);
  const clattn_gpt_config config = tiny();
  clattn_gpt *gpt = make(device, &config);
  TH_OK(
      clattn_gpt_save(gpt, device->queue, path, CLATTN_F16, NULL, 0, NULL, 0));
  cr_expect_eq(load(device, path), CLATTN_OK);
  FILE *file = fopen(path, "rb");
  fseek(file, 0, SEEK_END);
  const long size = ftell(file);
  fclose(file);
  for (long cut = 1; cut < size; cut += size / 7) {
    cr_assert_eq(truncate(path, size - cut), 0);
    cr_expect_eq(load(device, path), CLATTN_IO_ERROR);
  }
  /* A file of something else, and one whose numbers lie. */
  const float one = 1;
  clattn_kit_tensor t = {.name = "x",
                         .dtype = CLATTN_KIT_F32,
                         .rank = 1,
                         .extent = {1},
                         .data = &one,
                         .size_bytes = sizeof one};
  TH_OK(clattn_kit_safetensors_write(path, &t, 1, NULL, 0));
  cr_expect_eq(load(device, path), CLATTN_IO_ERROR);
  clattn_kit_metadata lies[] = {{"gpt.vocab_size", "16777216"},
                                {"gpt.context", "16777216"},
                                {"gpt.layers", "4096"},
                                {"gpt.heads", "1"},
                                {"gpt.embed_dim", "262144"}};
  TH_OK(clattn_kit_safetensors_write(path, &t, 1, lies, 5));
  cr_expect_eq(load(device, path), CLATTN_IO_ERROR);
  lies[3].text = "-1";
  TH_OK(clattn_kit_safetensors_write(path, &t, 1, lies, 5));
  cr_expect_eq(load(device, path), CLATTN_IO_ERROR);
  clattn_gpt_destroy(gpt);
  unlink(path);
}

/* ---- decoding ------------------------------------------------------------ */

/* Across the place where the window slides, and with several tokens at once. */
Test(gpt, cache_changes_nothing) {
  FOR_DEVICES(device) {
    const clattn_gpt_config config = tiny();
    clattn_gpt *gpt = make(device, &config);
    stir(device, gpt);
    clattn_gpt_decoder *with = NULL, *without = NULL;
    TH_OK(clattn_gpt_decoder_create(gpt, device->queue, true, &with));
    TH_OK(clattn_gpt_decoder_create(gpt, device->queue, false, &without));
    th_rng rng = {3};
    for (int i = 0; i < 14; i++) {
      int32_t ids[3];
      float a[VOCAB], b[VOCAB], c[CONTEXT * VOCAB];
      const int n = i % 4 == 0 ? 3 : 1;
      for (int j = 0; j < n; j++) ids[j] = th_below(&rng, VOCAB);
      TH_OK(clattn_gpt_decoder_read(with, device->queue, ids, n, a));
      TH_OK(clattn_gpt_decoder_read(without, device->queue, ids, n, b));
      const int32_t *window;
      const int64_t seen = clattn_gpt_decoder_window(with, &window);
      TH_OK(clattn_gpt_forward(gpt, device->queue, window, 1, seen, c));
      for (int v = 0; v < VOCAB; v++) {
        cr_expect_float_eq(a[v], b[v], 1e-4f);
        cr_expect_float_eq(a[v], c[(seen - 1) * VOCAB + v], 1e-4f);
      }
    }
    clattn_gpt_decoder_destroy(with);
    clattn_gpt_decoder_destroy(without);
    clattn_gpt_destroy(gpt);
  }
}

Test(gpt, attention_sums_to_one) {
  FOR_DEVICES(device) {
    const clattn_gpt_config config = tiny();
    clattn_gpt *gpt = make(device, &config);
    const int32_t ids[] = {1, 5, 2, 8};
    float w[2][4][4];
    TH_OK(clattn_gpt_attention(gpt, device->queue, ids, 4, 1, &w[0][0][0]));
    for (int h = 0; h < 2; h++)
      for (int i = 0; i < 4; i++) {
        float sum = 0;
        for (int j = 0; j < 4; j++) sum += w[h][i][j];
        cr_expect_float_eq(sum, 1, 1e-5f);
        for (int j = i + 1; j < 4; j++) cr_expect_eq(w[h][i][j], 0);
      }
    cr_expect_eq(
        clattn_gpt_attention(gpt, device->queue, ids, 4, 2, &w[0][0][0]),
        CLATTN_INVALID_ARGUMENT);
    clattn_gpt_destroy(gpt);
  }
}

Test(gpt, arguments_that_are_wrong) {
  const th_device *device = &th_open(false)->device[0];
  clattn_gpt_config config = tiny();
  clattn_gpt *gpt = NULL;
  config.heads = 3;
  cr_expect_eq(clattn_gpt_create(device->context, device->index, device->queue,
                                 &config, 1, &gpt),
               CLATTN_INVALID_ARGUMENT);
  config = tiny();
  config.vocab_size = 0;
  cr_expect_eq(clattn_gpt_create(device->context, device->index, device->queue,
                                 &config, 1, &gpt),
               CLATTN_INVALID_ARGUMENT);
  cr_expect_null(gpt);
  config = tiny();
  gpt = make(device, &config);
  float logits[(CONTEXT + 1) * VOCAB];
  const int32_t ids[CONTEXT + 1] = {0, VOCAB};
  cr_expect_eq(clattn_gpt_forward(gpt, device->queue, ids, 1, 2, logits),
               CLATTN_INVALID_ARGUMENT);
  cr_expect_eq(
      clattn_gpt_forward(gpt, device->queue, ids, 1, CONTEXT + 1, logits),
      CLATTN_INVALID_ARGUMENT);
  clattn_gpt_decoder *decoder = NULL;
  TH_OK(clattn_gpt_decoder_create(gpt, device->queue, true, &decoder));
  cr_expect_eq(clattn_gpt_decoder_read(decoder, NULL, ids, 1, logits),
               CLATTN_INVALID_ARGUMENT);
  cr_expect_eq(clattn_gpt_decoder_window(decoder, NULL), 0);
  clattn_gpt_decoder_destroy(decoder);
  clattn_gpt_trainer_config training;
  clattn_gpt_trainer_config_init(&training);
  clattn_gpt_trainer *trainer = NULL;
  training.struct_size--;
  cr_expect_eq(
      clattn_gpt_trainer_create(gpt, device->queue, &training, &trainer),
      CLATTN_INVALID_ARGUMENT);
  cr_expect(strstr(clattn_error_message(), "config->struct_size"));
  training.struct_size++;
  TH_OK(clattn_gpt_trainer_create(gpt, device->queue, &training, &trainer));
  const int32_t none[2] = {CLATTN_NN_IGNORE, CLATTN_NN_IGNORE};
  cr_expect_eq(clattn_gpt_trainer_gradients(trainer, device->queue, none, none,
                                            INT64_MAX, 2, NULL),
               CLATTN_INVALID_ARGUMENT);
  cr_expect_eq(clattn_gpt_trainer_gradients(trainer, device->queue, none, NULL,
                                            INT64_MAX, 2, NULL),
               CLATTN_INVALID_ARGUMENT);
  const int32_t zeros[2] = {0};
  cr_expect_eq(clattn_gpt_trainer_gradients(trainer, device->queue, zeros, none,
                                            1, 2, NULL),
               CLATTN_INVALID_ARGUMENT);
  cr_expect(strstr(clattn_error_message(), "targets: all"));
  clattn_gpt_trainer_destroy(trainer);
  clattn_gpt_destroy(gpt);
  clattn_gpt_destroy(NULL);
  clattn_gpt_trainer_destroy(NULL);
  clattn_gpt_decoder_destroy(NULL);
}

/* ---- the loader's place -------------------------------------------------- */

Test(gpt, loader_goes_back_to_where_it_was) {
  int32_t ids[60];
  for (int i = 0; i < 60; i++) ids[i] = i;
  clattn_kit_loader_config config;
  clattn_kit_loader_config_init(&config);
  config.length = 4;
  config.stride = 3;
  config.batch = 4;
  clattn_kit_loader *straight = NULL, *jumping = NULL;
  TH_OK(clattn_kit_loader_create(&config, ids, 60, &straight));
  TH_OK(clattn_kit_loader_create(&config, ids, 60, &jumping));
  for (int i = 0; i < 40; i++) {
    int64_t epoch, batch, n, m;
    int32_t a[16], b[16];
    TH_OK(clattn_kit_loader_tell(straight, &epoch, &batch));
    TH_OK(clattn_kit_loader_next(straight, a, NULL, &n));
    TH_OK(clattn_kit_loader_seek(jumping, (epoch + 3) * (i % 2), 0));
    TH_OK(clattn_kit_loader_seek(jumping, epoch, batch));
    TH_OK(clattn_kit_loader_next(jumping, b, NULL, &m));
    cr_expect_eq(n, m);
    cr_expect(n == 0 || memcmp(a, b, (size_t)n * 4 * sizeof *a) == 0);
    if (n == 0) TH_OK(clattn_kit_loader_rewind(straight));
  }
  cr_expect_eq(clattn_kit_loader_seek(jumping, -1, 0), CLATTN_INVALID_ARGUMENT);
  cr_expect_eq(clattn_kit_loader_seek(jumping, 0, 99), CLATTN_INVALID_ARGUMENT);
  clattn_kit_loader_destroy(straight);
  clattn_kit_loader_destroy(jumping);
}
