/* loader.c - sliding windows over a text's tokens, in batches. */
#include <stdlib.h>
#include <string.h>

#include "kit.h"

struct clattn_kit_loader {
  clattn_kit_loader_config config;
  const int32_t *ids; /* [n], borrowed */
  int64_t n, windows;
  int64_t *order; /* [windows], or NULL: as they come */
  int64_t next;   /* first window of the next batch */
  int64_t epoch;
  clattn_kit_rng rng;
};

void clattn_kit_loader_config_init(clattn_kit_loader_config *config) {
  if (config == NULL) return;
  *config = (clattn_kit_loader_config){
      .struct_size = sizeof *config,
      .length = 256,
      .stride = 128,
      .batch = 4,
      .shuffle = true,
      .drop_last = true,
  };
}

/* Fisher and Yates from the front, as torch.randperm goes. */
static void shuffle(clattn_kit_loader *loader) {
  if (loader->order == NULL) return;
  for (int64_t i = 0; i < loader->windows; i++) loader->order[i] = i;
  for (int64_t i = 0; i < loader->windows - 1; i++) {
    const uint64_t left = (uint64_t)(loader->windows - i);
    uint64_t draw = clattn_kit_rng_u32(&loader->rng);
    if (left > UINT32_MAX) draw = draw << 32 | clattn_kit_rng_u32(&loader->rng);
    const int64_t j = i + (int64_t)(draw % left);
    const int64_t swap = loader->order[i];
    loader->order[i] = loader->order[j];
    loader->order[j] = swap;
  }
}

clattn_status clattn_kit_loader_create(const clattn_kit_loader_config *config,
                                       const int32_t *ids, int64_t n,
                                       clattn_kit_loader **loader) {
  KIT_REQUIRE(loader != NULL, "loader: got NULL, want a place for the handle");
  *loader = NULL;
  KIT_REQUIRE_STRUCT(config, clattn_kit_loader_config);
  KIT_REQUIRE(config->length >= 1, "config->length: got %lld, want >= 1",
              (long long)config->length);
  KIT_REQUIRE(config->stride >= 1, "config->stride: got %lld, want >= 1",
              (long long)config->stride);
  KIT_REQUIRE(config->batch >= 1, "config->batch: got %lld, want >= 1",
              (long long)config->batch);
  KIT_REQUIRE(n >= 0, "n: got %lld, want >= 0", (long long)n);
  KIT_REQUIRE(ids != NULL || n == 0, "ids: got NULL, want %lld numbers",
              (long long)n);
  KIT_REQUIRE(n > config->length,
              "n: got %lld tokens, want more than %lld for one window and its "
              "target",
              (long long)n, (long long)config->length);
  clattn_kit_loader *made = calloc(1, sizeof *made);
  if (made == NULL) return KIT_OUT_OF_MEMORY("loader");
  made->config = *config;
  made->ids = ids;
  made->n = n;
  const int64_t span = n - config->length; /* windows start below it */
  made->windows = (span - 1) / config->stride + 1;
  if (config->cover_tail && (span - 1) % config->stride != 0) made->windows++;
  if (config->shuffle) {
    made->order = calloc((size_t)made->windows, sizeof *made->order);
    if (made->order == NULL) {
      free(made);
      return KIT_OUT_OF_MEMORY("loader");
    }
  }
  clattn_kit_rng_init(&made->rng, config->seed);
  shuffle(made);
  *loader = made;
  return CLATTN_OK;
}

void clattn_kit_loader_destroy(clattn_kit_loader *loader) {
  if (loader == NULL) return;
  free(loader->order);
  free(loader);
}

int64_t clattn_kit_loader_windows(const clattn_kit_loader *loader) {
  return loader == NULL ? 0 : loader->windows;
}

int64_t clattn_kit_loader_batches(const clattn_kit_loader *loader) {
  if (loader == NULL) return 0;
  const int64_t whole = loader->windows / loader->config.batch;
  const bool rest = loader->windows % loader->config.batch != 0;
  return whole + (rest && !loader->config.drop_last);
}

clattn_status clattn_kit_loader_next(clattn_kit_loader *loader, int32_t *inputs,
                                     int32_t *targets, int64_t *windows) {
  KIT_REQUIRE(loader != NULL, "loader: got NULL, want a loader");
  KIT_REQUIRE(windows != NULL, "windows: got NULL, want a place");
  const clattn_kit_loader_config *config = &loader->config;
  int64_t count = loader->windows - loader->next;
  if (count > config->batch) count = config->batch;
  if (count < config->batch && config->drop_last) count = 0;
  const size_t bytes = (size_t)config->length * sizeof *inputs;
  for (int64_t i = 0; i < count; i++) {
    const int64_t at = loader->next + i;
    const int64_t window = loader->order ? loader->order[at] : at;
    const int64_t last = loader->n - config->length - 1;
    /* Only the tail's window would begin beyond the last place there is. */
    const int64_t begin =
        window > last / config->stride ? last : window * config->stride;
    if (inputs != NULL)
      memcpy(inputs + i * config->length, loader->ids + begin, bytes);
    if (targets != NULL)
      memcpy(targets + i * config->length, loader->ids + begin + 1, bytes);
  }
  loader->next += count;
  *windows = count;
  return CLATTN_OK;
}

clattn_status clattn_kit_loader_rewind(clattn_kit_loader *loader) {
  KIT_REQUIRE(loader != NULL, "loader: got NULL, want a loader");
  loader->next = 0;
  loader->epoch++;
  shuffle(loader);
  return CLATTN_OK;
}

clattn_status clattn_kit_loader_tell(const clattn_kit_loader *loader,
                                     int64_t *epoch, int64_t *batch) {
  KIT_REQUIRE(loader != NULL, "loader: got NULL, want a loader");
  KIT_REQUIRE(epoch != NULL && batch != NULL,
              "epoch: got NULL, want places for both");
  const int64_t size = loader->config.batch;
  *epoch = loader->epoch;
  *batch = loader->next / size + (loader->next % size != 0);
  return CLATTN_OK;
}

clattn_status clattn_kit_loader_seek(clattn_kit_loader *loader, int64_t epoch,
                                     int64_t batch) {
  KIT_REQUIRE(loader != NULL, "loader: got NULL, want a loader");
  const int64_t batches = clattn_kit_loader_batches(loader);
  KIT_REQUIRE(epoch >= 0, "epoch: got %lld, want >= 0", (long long)epoch);
  KIT_REQUIRE(batch >= 0 && batch <= batches, "batch: got %lld, want 0..%lld",
              (long long)batch, (long long)batches);
  if (epoch < loader->epoch) {
    clattn_kit_rng_init(&loader->rng, loader->config.seed);
    loader->epoch = 0;
    shuffle(loader);
  }
  /* Each order is drawn behind the one before; without one nothing is. */
  if (loader->order == NULL) loader->epoch = epoch;
  for (; loader->epoch < epoch; loader->epoch++) shuffle(loader);
  loader->next = batch * loader->config.batch;
  if (loader->next > loader->windows) loader->next = loader->windows;
  return CLATTN_OK;
}
