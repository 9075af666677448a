/* record.c - what the recordings of models share. */
#include "record.h"

#define DEFAULT_TOP 8
#define DEFAULT_BLOCK 64

void clattn_attention_options_init(clattn_attention_options *options) {
  if (options == NULL) return;
  *options = (clattn_attention_options){.struct_size = sizeof *options,
                                        .dtype = CLATTN_F16,
                                        .top = DEFAULT_TOP,
                                        .map_block = DEFAULT_BLOCK};
}

static clattn_status check(const clattn_attention_options *options,
                           uint32_t known) {
  KIT_REQUIRE_STRUCT(options, clattn_attention_options);
  KIT_REQUIRE((options->watch & ~known) == 0,
              "options->watch: got 0x%x, want bits of 0x%x", options->watch,
              known);
  KIT_REQUIRE(options->dtype == CLATTN_F16 || options->dtype == CLATTN_F32,
              "options->dtype: got %s (%d), want f16 or f32",
              clattn_dtype_name(options->dtype), (int)options->dtype);
  KIT_REQUIRE(options->top >= 1 && options->top <= 32,
              "options->top: got %lld, want 1..32", (long long)options->top);
  KIT_REQUIRE(options->map_block >= 1,
              "options->map_block: got %lld, want at least 1",
              (long long)options->map_block);
  KIT_REQUIRE(options->max_tokens >= 0,
              "options->max_tokens: got %lld, want at least 0",
              (long long)options->max_tokens);
  return CLATTN_OK;
}

clattn_status attention_options_take(const clattn_attention_options *given,
                                     uint32_t known,
                                     clattn_attention_options *options) {
  clattn_attention_options_init(options);
  if (given == NULL) return CLATTN_OK;
  KIT_TRY(check(given, known));
  *options = *given;
  return CLATTN_OK;
}

void attention_part_watch(clattn_attention_part *part,
                          const clattn_attention_options *options) {
  static const struct {
    uint32_t watch;
    clattn_attention_tensor tensor;
  } told[] = {{CLATTN_WATCH_ATTENTION, CLATTN_ATTENTION_WEIGHTS},
              {CLATTN_WATCH_QUERY_KEY, CLATTN_ATTENTION_QUERY},
              {CLATTN_WATCH_QUERY_KEY, CLATTN_ATTENTION_KEY},
              {CLATTN_WATCH_STATISTICS, CLATTN_ATTENTION_ENTROPY},
              {CLATTN_WATCH_STATISTICS, CLATTN_ATTENTION_DISTANCE},
              {CLATTN_WATCH_TOP, CLATTN_ATTENTION_TOP_KEYS},
              {CLATTN_WATCH_TOP, CLATTN_ATTENTION_TOP_WEIGHTS},
              {CLATTN_WATCH_MAP, CLATTN_ATTENTION_MAP}};
  part->has = 0;
  for (size_t i = 0; i < sizeof told / sizeof *told; i++)
    if (options->watch & told[i].watch) part->has |= 1u << told[i].tensor;
  part->dtype = options->dtype;
  part->top = options->top;
  part->map_block = options->map_block;
}
