/* The table of attention cases. Every case runs on every device under test and
 * on every path; what a path cannot serve must be what it says it cannot. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "../support/attn_case.h"

#define F16 .dtype = CLATTN_F16
#define BF16 .dtype = CLATTN_BF16
#define COUNT(array) (int)(sizeof(array) / sizeof *(array))

static const attn_case table[] = {
    /* heads */
    {"one of everything", .sq = 1, .d = 1},
    {"mha", .b = 2, .hq = 3, .sq = 7, .d = 16, .lse = true},
    {"gqa", .b = 2, .hq = 6, .hk = 2, .sq = 5, .skv = 11, .d = 8},
    {"mqa", .b = 2, .hq = 5, .hk = 1, .sq = 9, .d = 24},
    {"mqa, value dim", .hq = 4, .hk = 1, .sq = 6, .d = 8, .dv = 3},
    {"value dim larger", .b = 2, .hq = 2, .sq = 6, .d = 5, .dv = 40},
    {"gqa f16", .hq = 8, .hk = 2, .sq = 17, .skv = 33, .d = 64, F16},
    {"gqa bf16", .hq = 8, .hk = 2, .sq = 17, .skv = 33, .d = 64, BF16},
    /* layouts */
    {"bshd", .b = 2, .hq = 3, .sq = 10, .d = 24, .q_layout = TH_BSHD,
     .kv_layout = TH_BSHD, .out_layout = TH_BSHD, .causal = true},
    {"bshd f16", .b = 2, .hq = 3, .sq = 10, .d = 24, .q_layout = TH_BSHD,
     .kv_layout = TH_BSHD, .out_layout = TH_BSHD, F16},
    {"packed qkv", .b = 2, .hq = 4, .sq = 9, .d = 16, .pack = PACK_QKV,
     .out_layout = TH_BSHD},
    {"packed qkv, gqa bf16", .b = 2, .hq = 4, .hk = 2, .sq = 9, .d = 16,
     .pack = PACK_QKV, BF16, .causal = true},
    {"packed kv", .b = 2, .hq = 2, .sq = 3, .skv = 12, .d = 8, .pack = PACK_KV},
    {"gaps", .b = 2, .hq = 2, .sq = 5, .skv = 13, .d = 17, .q_layout = TH_GAPS,
     .kv_layout = TH_GAPS, .out_layout = TH_GAPS, .lse = true},
    {"dim stride 2", .b = 2, .hq = 2, .sq = 5, .skv = 13, .d = 17,
     .q_layout = TH_DIM2, .kv_layout = TH_DIM2, .out_layout = TH_DIM2},
    {"dim stride 2 f16", .b = 2, .hq = 2, .sq = 5, .skv = 13, .d = 17,
     .q_layout = TH_DIM2, .kv_layout = TH_DIM2, .out_layout = TH_DIM2, F16},
    {"dim stride 2 bf16, weights", .hq = 2, .sq = 5, .skv = 13, .d = 17,
     .q_layout = TH_DIM2, .kv_layout = TH_DIM2, .out_layout = TH_DIM2, BF16,
     .weights = true, .weights_narrow = true},
    {"transposed", .b = 2, .hq = 2, .sq = 6, .skv = 21, .d = 12,
     .q_layout = TH_TRANSPOSED, .kv_layout = TH_TRANSPOSED,
     .out_layout = TH_TRANSPOSED, .lse = true},
    {"each its own layout", .b = 2, .hq = 4, .hk = 2, .sq = 6, .skv = 21,
     .d = 12, .q_layout = TH_BSHD, .kv_layout = TH_TRANSPOSED,
     .out_layout = TH_GAPS, .mask = "bhqk", .bias = "1hqk", .bias_inf = true},
    /* causal and positions */
    {"causal", .b = 2, .hq = 2, .sq = 12, .d = 16, .causal = true},
    {"causal, more keys", .hq = 2, .sq = 5, .skv = 20, .d = 8, .causal = true},
    {"causal, more queries", .hq = 2, .sq = 20, .skv = 5, .d = 8,
     .causal = true, .lse = true},
    {"causal, top left", .hq = 2, .sq = 6, .skv = 20, .d = 8, .causal = true,
     .start = START_AT, .q_start = 0},
    {"causal, all before the keys", .sq = 6, .skv = 4, .d = 8, .causal = true,
     .start = START_AT, .q_start = -6, .lse = true},
    {"causal, far behind", .sq = 6, .skv = 40, .d = 8, .causal = true,
     .start = START_AT, .q_start = 1 << 30},
    {"far before", .sq = 6, .skv = 40, .d = 8, .causal = true, .lse = true,
     .start = START_AT, .q_start = -(1 << 30)},
    {"starts i32", .b = 4, .hq = 2, .sq = 5, .skv = 16, .d = 8, .causal = true,
     .start = START_I32},
    {"starts i64", .b = 4, .hq = 2, .sq = 5, .skv = 16, .d = 8, .causal = true,
     .start = START_I64, .lse = true},
    {"starts i64, lengths", .b = 4, .hq = 2, .sq = 5, .skv = 16, .d = 8,
     .causal = true, .start = START_I64, .lengths = LEN_I32},
    /* windows */
    {"window left", .hq = 2, .sq = 20, .d = 8, .causal = true, .windowed = true,
     .left = 3, .right = -1},
    {"window right", .hq = 2, .sq = 20, .d = 8, .windowed = true, .left = -1,
     .right = 2},
    {"window both", .hq = 2, .sq = 33, .d = 8, .windowed = true, .left = 5,
     .right = 4, .lse = true},
    {"window of itself", .hq = 2, .sq = 9, .d = 8, .windowed = true, .left = 0,
     .right = 0},
    {"window passes the keys", .sq = 30, .skv = 6, .d = 8, .windowed = true,
     .left = 2, .right = 1, .start = START_AT, .q_start = -4, .lse = true},
    {"narrow window, long keys", .hq = 2, .sq = 150, .skv = 300, .d = 16,
     .causal = true, .windowed = true, .left = 9, .right = -1},
    {"window and softcap", .hq = 2, .sq = 70, .d = 16, .windowed = true,
     .left = 30, .right = 0, .softcap = 5, .size = 4},
    /* lengths */
    {"lengths i32", .b = 5, .hq = 2, .sq = 4, .skv = 19, .d = 8,
     .lengths = LEN_I32},
    {"lengths i64", .b = 5, .hq = 2, .sq = 4, .skv = 19, .d = 8,
     .lengths = LEN_I64, .causal = true, .lse = true},
    {"an empty batch", .b = 3, .hq = 2, .sq = 4, .skv = 19, .d = 8,
     .lengths = LEN_I32, .empty_batch = true, .lse = true},
    {"nothing at all", .b = 1, .hq = 2, .sq = 4, .skv = 5, .d = 8,
     .lengths = LEN_I64, .empty_batch = true, .lse = true, .weights = true},
    {"an empty batch with sinks", .b = 2, .hq = 2, .sq = 4, .skv = 19, .d = 8,
     .lengths = LEN_I64, .empty_batch = true, .lse = true, .sinks = SINKS_INF},
    /* masks beside the broadcast families below */
    {"mask hides nearly all", .b = 2, .hq = 2, .sq = 9, .skv = 9, .d = 8,
     .mask = "bhqk", .hide_percent = 90, .lse = true},
    {"mask hides all", .b = 2, .hq = 2, .sq = 9, .skv = 9, .d = 8,
     .mask = "bhqk", .hide_percent = 100, .lse = true, .weights = true},
    {"mask hides all, pytorch", .b = 2, .hq = 2, .sq = 9, .skv = 9, .d = 8,
     .mask = "bhqk", .hide_percent = 100, .polarity = CLATTN_TRUE_HIDES,
     .lse = true},
    {"both masks and bias", .b = 2, .hq = 4, .hk = 2, .sq = 9, .skv = 33,
     .d = 8, .mask = "1hqk", .key_mask = "bk", .bias = "11qk", .bias_inf = true,
     .polarity = CLATTN_TRUE_HIDES, .lse = true},
    {"bias f16", .b = 2, .hq = 2, .sq = 9, .d = 8, .bias = "bhqk", F16,
     .bias_dtype = CLATTN_F16, .bias_inf = true},
    {"bias bf16", .b = 2, .hq = 2, .sq = 9, .d = 8, .bias = "1hqk",
     .bias_dtype = CLATTN_BF16, .bias_inf = true},
    {"long masked", .b = 2, .hq = 2, .sq = 67, .skv = 140, .d = 32,
     .mask = "b1qk", .bias = "1hqk", .bias_inf = true, .lse = true},
    /* what is added to scores, and how they are bent */
    {"alibi", .hq = 8, .hk = 4, .sq = 12, .skv = 30, .d = 16, .slopes = true,
     .causal = true},
    {"alibi without causal", .hq = 4, .sq = 12, .skv = 30, .d = 16,
     .slopes = true, .lse = true},
    {"sinks", .b = 2, .hq = 4, .sq = 6, .skv = 9, .d = 8, .sinks = SINKS_SOME,
     .lse = true},
    {"sinks, some -inf", .hq = 4, .sq = 6, .skv = 9, .d = 8, .lse = true,
     .sinks = SINKS_INF, .weights = true},
    {"sinks and dead rows", .hq = 4, .sq = 9, .skv = 5, .d = 8, .lse = true,
     .causal = true, .sinks = SINKS_INF},
    {"softcap", .hq = 2, .sq = 9, .d = 16, .softcap = 2, .size = 3},
    {"softcap wide", .hq = 2, .sq = 9, .d = 16, .softcap = 50, .size = 20,
     .lse = true},
    {"temperature", .hq = 2, .sq = 9, .d = 16, .temperature = 0.25,
     .lse = true},
    {"temperature, softcap, sinks", .hq = 2, .sq = 9, .d = 16, .temperature = 2,
     .softcap = 3, .sinks = SINKS_SOME, .lse = true},
    {"scale 0", .hq = 2, .sq = 9, .d = 16, .zero_scale = true, .lse = true},
    {"scale negative", .hq = 2, .sq = 9, .d = 16, .scale = -1.5},
    {"scale huge", .hq = 2, .sq = 9, .d = 16, .scale = 1e6, .lse = true},
    {"scale tiny", .hq = 2, .sq = 9, .d = 16, .scale = 1e-20},
    {"huge logits", .hq = 2, .sq = 33, .skv = 65, .d = 16, .size = 100,
     .scale = 1, .lse = true},
    {"huge logits f16", .hq = 2, .sq = 33, .d = 16, .size = 200, .scale = 1,
     F16, .lse = true},
    {"huge logits bf16", .hq = 2, .sq = 33, .d = 16, .size = 2000, BF16,
     .lse = true, .causal = true},
    {"large logits, softcap", .hq = 2, .sq = 33, .d = 16, .size = 100,
     .softcap = 30, .scale = 1},
    {"everything",
     .b = 3,
     .hq = 6,
     .hk = 3,
     .sq = 13,
     .skv = 70,
     .d = 24,
     .dv = 16,
     .causal = true,
     .windowed = true,
     .left = 40,
     .right = 3,
     .start = START_I32,
     .lengths = LEN_I64,
     .mask = "bhqk",
     .key_mask = "bk",
     .bias = "1hqk",
     .bias_inf = true,
     .slopes = true,
     .sinks = SINKS_INF,
     .softcap = 4,
     .temperature = 0.8,
     .scale = 0.3,
     .lse = true,
     .poison = POISON_HIDDEN,
     .q_layout = TH_BSHD,
     .kv_layout = TH_GAPS,
     .out_layout = TH_BSHD,
     .own_scratch = true},
    {"everything f16, weights",
     .b = 3,
     .hq = 6,
     .hk = 3,
     .sq = 13,
     .skv = 70,
     .d = 24,
     .dv = 16,
     .causal = true,
     .start = START_I64,
     F16,
     .lengths = LEN_I32,
     .mask = "bhqk",
     .key_mask = "bk",
     .bias = "b1qk",
     .bias_dtype = CLATTN_F16,
     .slopes = true,
     .sinks = SINKS_SOME,
     .softcap = 4,
     .temperature = 0.8,
     .lse = true,
     .weights = true,
     .polarity = CLATTN_TRUE_HIDES,
     .poison = POISON_HIDDEN},
    /* poison */
    {"poison by lengths", .b = 4, .hq = 2, .sq = 5, .skv = 40, .d = 16,
     .lengths = LEN_I32, .poison = POISON_HIDDEN, .lse = true},
    {"poison by causal", .hq = 2, .sq = 5, .skv = 40, .d = 16, .causal = true,
     .start = START_AT, .q_start = 9, .poison = POISON_HIDDEN},
    {"poison by window", .hq = 2, .sq = 5, .skv = 80, .d = 16, .windowed = true,
     .left = 2, .right = 2, .poison = POISON_HIDDEN, .start = START_AT,
     .q_start = 37},
    {"poison by mask", .b = 2, .hq = 4, .hk = 2, .sq = 5, .skv = 40, .d = 16,
     .mask = "b11k", .poison = POISON_HIDDEN, .weights = true},
    {"poison by key mask f16", .b = 2, .hq = 4, .sq = 5, .skv = 40, .d = 16,
     .key_mask = "bk", .poison = POISON_HIDDEN, F16},
    {"poison by bias bf16", .b = 2, .hq = 4, .sq = 5, .skv = 40, .d = 16,
     .bias = "b11k", .bias_inf = true, .poison = POISON_HIDDEN, BF16},
    {"poison, averaged weights", .b = 2, .hq = 4, .sq = 5, .skv = 40, .d = 16,
     .lengths = LEN_I64, .poison = POISON_HIDDEN, .weights = true,
     .average = true},
    {"poison, dead rows", .hq = 2, .sq = 9, .skv = 4, .d = 8, .causal = true,
     .start = START_AT, .q_start = -9, .poison = POISON_HIDDEN, .lse = true},
    {"NaN key for half the rows", .hq = 2, .sq = 20, .d = 16, .causal = true,
     .poison = POISON_KEY, .lse = true},
    {"NaN value for half the rows", .hq = 2, .sq = 20, .d = 16, .causal = true,
     .poison = POISON_VALUE},
    {"NaN key by mask", .hq = 2, .sq = 30, .skv = 90, .d = 16, .mask = "11qk",
     .hide_percent = 50, .poison = POISON_KEY, .lse = true},
    {"NaN value by mask, weights", .hq = 2, .sq = 30, .skv = 90, .d = 16,
     .mask = "11qk", .hide_percent = 50, .poison = POISON_VALUE,
     .weights = true},
    {"NaN key seen by all", .sq = 3, .skv = 20, .d = 16, .poison = POISON_KEY},
    {"NaN key, one query", .hq = 4, .hk = 2, .sq = 1, .skv = 600, .d = 16,
     .poison = POISON_KEY, .lse = true},
    {"NaN value, one query", .hq = 4, .hk = 2, .sq = 1, .skv = 600, .d = 16,
     .poison = POISON_VALUE},
    {"NaN key behind a mask, one query", .b = 3, .hq = 4, .hk = 2, .sq = 1,
     .skv = 600, .d = 16, .mask = "b11k", .hide_percent = 50,
     .poison = POISON_KEY, .lse = true},
    {"poison, one query", .b = 3, .hq = 4, .hk = 2, .sq = 1, .skv = 600,
     .d = 16, .lengths = LEN_I32, .poison = POISON_HIDDEN, .lse = true},
    /* weights */
    {"weights", .b = 2, .hq = 3, .sq = 7, .skv = 9, .d = 8, .weights = true},
    {"weights f16", .b = 2, .hq = 3, .sq = 7, .skv = 9, .d = 8, F16,
     .weights = true, .weights_narrow = true, .causal = true},
    {"weights bf16", .b = 2, .hq = 3, .sq = 7, .skv = 9, .d = 8, BF16,
     .weights = true, .weights_narrow = true, .out_layout = TH_GAPS},
    {"weights f32 of f16", .b = 2, .hq = 3, .sq = 7, .skv = 9, .d = 8, F16,
     .weights = true},
    {"weights, transposed", .b = 2, .hq = 3, .sq = 7, .skv = 9, .d = 8,
     .weights = true, .out_layout = TH_TRANSPOSED},
    {"averaged weights", .b = 2, .hq = 6, .hk = 2, .sq = 7, .skv = 9, .d = 8,
     .weights = true, .average = true, .causal = true, .lse = true},
    {"averaged weights f16", .b = 2, .hq = 6, .hk = 2, .sq = 7, .skv = 9,
     .d = 8, F16, .weights = true, .average = true, .weights_narrow = true},
    {"scores", .b = 2, .hq = 3, .sq = 7, .skv = 9, .d = 8, .weights = true,
     .stage = CLATTN_WEIGHTS_SCORES, .softcap = 2, .causal = true},
    {"capped", .b = 2, .hq = 3, .sq = 7, .skv = 9, .d = 8, .weights = true,
     .stage = CLATTN_WEIGHTS_CAPPED, .softcap = 2, .slopes = true},
    {"biased", .b = 2, .hq = 3, .sq = 7, .skv = 9, .d = 8, .weights = true,
     .stage = CLATTN_WEIGHTS_BIASED, .softcap = 2, .slopes = true,
     .bias = "bhqk", .bias_inf = true, .mask = "11qk", .temperature = 0.5},
    {"weights, long", .b = 2, .hq = 2, .sq = 65, .skv = 257, .d = 32,
     .weights = true, .lse = true, .causal = true, .own_scratch = true},
    {"weights with window and lengths", .b = 3, .hq = 2, .sq = 20, .skv = 70,
     .d = 8, .weights = true, .windowed = true, .left = 7, .right = 2,
     .lengths = LEN_I32},
};

/* ---- families: the same case over a range of one thing ------------------- */

static attn_case family[256];
static int family_size;

static void add(attn_case c) { family[family_size++] = c; }

static void add_dims(void) {
  static const int dims[] = {1,  2,  3,  5,   7,   24,  31,  40,  64,
                             72, 80, 96, 100, 128, 160, 192, 256, 300};
  static const clattn_dtype dtypes[3] = {CLATTN_F32, CLATTN_F16, CLATTN_BF16};
  for (int i = 0; i < COUNT(dims); i++)
    add((attn_case){"dims", .b = 1, .hq = 4, .hk = 2, .sq = 19, .skv = 45,
                    .d = dims[i], .dtype = dtypes[i % 3], .causal = true,
                    .lse = true});
  add((attn_case){"dims", .hq = 2, .sq = 9, .d = 128, .dv = 64});
  add((attn_case){"dims", .hq = 2, .sq = 9, .d = 64, .dv = 128});
  add((attn_case){"dims", .hq = 2, .sq = 9, .d = 192, .dv = 128, F16});
  add((attn_case){"dims", .hq = 2, .sq = 9, .d = 3, .dv = 256, BF16});
}

static void add_edges(void) {
  static const int lengths[] = {15, 16, 17,  31,  32,  33, 63,
                                64, 65, 127, 128, 129, 257};
  for (int i = 0; i < COUNT(lengths); i++)
    for (int causal = 0; causal < 2; causal++) {
      int n = lengths[i], other = lengths[(i * 5 + 3) % COUNT(lengths)];
      add((attn_case){"edges", .hq = 2, .sq = causal ? n : other, .skv = n,
                      .d = 16, .causal = causal, .lse = true,
                      .dtype = i % 3 == 1 ? CLATTN_F16 : CLATTN_F32});
    }
}

/* Few queries against many keys, where the keys are split. */
static void add_decode(void) {
  for (int sq = 1; sq <= 9; sq++)
    add((attn_case){"decode", .b = 2, .hq = 4, .hk = sq % 2 ? 1 : 4, .sq = sq,
                    .skv = 500 + 37 * sq, .d = 32, .causal = true, .lse = true,
                    .lengths = sq % 3 ? LEN_ALL : LEN_I32});
  add((attn_case){"decode long", .hq = 8, .hk = 2, .sq = 1, .skv = 4100,
                  .d = 64, .lse = true});
  add((attn_case){"decode long f16", .hq = 8, .hk = 2, .sq = 1, .skv = 4100,
                  .d = 128, F16, .kv_layout = TH_BSHD});
  add((attn_case){"decode bf16, 24 heads a group", .hq = 24, .hk = 1, .sq = 2,
                  .skv = 1000, .d = 40, BF16, .causal = true});
  add((attn_case){"decode, window", .b = 2, .hq = 4, .sq = 1, .skv = 1500,
                  .d = 16, .causal = true, .windowed = true, .left = 100,
                  .right = -1, .lengths = LEN_I32, .lse = true});
  add((attn_case){"decode, empty batch, sinks", .b = 3, .hq = 4, .sq = 1,
                  .skv = 900, .d = 16, .lengths = LEN_I64, .lse = true,
                  .empty_batch = true, .sinks = SINKS_INF});
  add((attn_case){"decode, all rules",
                  .b = 3,
                  .hq = 4,
                  .hk = 2,
                  .sq = 2,
                  .skv = 900,
                  .d = 16,
                  .lengths = LEN_I64,
                  .lse = true,
                  .sinks = SINKS_SOME,
                  .slopes = true,
                  .softcap = 3,
                  .mask = "b11k",
                  .key_mask = "bk",
                  .bias = "1hqk",
                  .bias_inf = true,
                  .temperature = 0.7,
                  .causal = true,
                  .own_scratch = true,
                  .poison = POISON_HIDDEN});
  add((attn_case){"decode, huge logits", .hq = 4, .sq = 1, .skv = 3000, .d = 16,
                  .size = 60, .scale = 1, .lse = true});
}

static void add_masks(void) {
  static char names[16][5];
  static const char *const keys[4] = {"bk", "b1", "1k", "11"};
  for (int i = 0; i < 16; i++) {
    for (int d = 0; d < 4; d++) names[i][d] = i >> d & 1 ? '1' : "bhqk"[d];
    for (int hides = 0; hides < 2; hides++)
      add((attn_case){"mask broadcast", .b = 2, .hq = 2, .sq = 5, .skv = 18,
                      .d = 8, .mask = names[i], .lse = true,
                      .polarity = (clattn_mask_polarity)hides,
                      .weights = i % 4 == hides});
    add((attn_case){"bias broadcast", .b = 2, .hq = 2, .sq = 5, .skv = 18,
                    .d = 8, .bias = names[i], .bias_inf = true, .lse = true,
                    .bias_dtype = (clattn_dtype[]){CLATTN_F32, CLATTN_F16,
                                                   CLATTN_BF16}[i % 3]});
  }
  for (int i = 0; i < 4; i++)
    for (int hides = 0; hides < 2; hides++)
      add((attn_case){"key mask broadcast", .b = 3, .hq = 2, .sq = 5, .skv = 18,
                      .d = 8, .key_mask = keys[i], .lse = true,
                      .polarity = (clattn_mask_polarity)hides});
}

/* ---- running ------------------------------------------------------------- */

#define SKIP_IF_NONE(devices)                                                  \
  if ((devices)->count == 0)                                                   \
    cr_skip_test(                                                              \
        "no device of this kind under "                                        \
        "test");

static void finish(const char *what, const tc_tally *t) {
  cr_log_info("%s: %d passed, %d failed, %d skipped (fused gives no weights)",
              what, t->passed, t->failed, t->skipped);
  th_shut();
  cr_assert_eq(t->failed, 0, "%s: %d failed", what, t->failed);
}

static void run_table(bool forced) {
  const th_devices *devices = th_open(forced);
  SKIP_IF_NONE(devices)
  tc_tally tally = {0};
  attn_run_table(devices, table, COUNT(table), 1000, &tally);
  finish(forced ? "table, GPU kernels" : "table", &tally);
}

static void run_families(bool forced) {
  const th_devices *devices = th_open(forced);
  SKIP_IF_NONE(devices)
  tc_tally tally = {0};
  family_size = 0;
  add_masks(), add_dims(), add_edges(), add_decode();
  attn_run_table(devices, family, family_size, 2000, &tally);
  finish(forced ? "families, GPU kernels" : "families", &tally);
}

static void run_random(bool forced, int n) {
  const th_devices *devices = th_open(forced);
  SKIP_IF_NONE(devices)
  tc_tally tally = {0};
  th_rng rng = {20170612};
  for (int i = 0; i < n; i++) {
    attn_case c = attn_case_random(&rng);
    attn_run_table(devices, &c, 1, th_next(&rng), &tally);
  }
  finish(forced ? "random, GPU kernels" : "random", &tally);
}

Test(attention, table) { run_table(false); }
Test(attention, families) { run_families(false); }
Test(attention, random) { run_random(false, th_small() ? 40 : 300); }
Test(attention_gpu, table) { run_table(true); }
Test(attention_gpu, families) { run_families(true); }
Test(attention_gpu, random) { run_random(true, th_small() ? 20 : 150); }

/* A variant that the guard refuses, or that does not compile, would leave its
 * work to the next row, and every case above would still pass. */
static void expect_rows(bool forced) {
  const th_devices *devices = th_open(forced);
  SKIP_IF_NONE(devices)
  for (int d = 0; d < devices->count; d++)
    for (int path = 0; path < TC_PATHS; path++) {
      const th_device *device = &devices->device[d];
      clattn_plan *plan = NULL;
      clattn_desc desc;
      clattn_desc_init(&desc);
      desc.q_heads = desc.kv_heads = 1;
      desc.qk_dim = desc.v_dim = 64;
      desc.path = (clattn_path)path;
      TH_OK(clattn_plan_create(device->context, device->index, &desc, &plan));
      const char *info = clattn_plan_info(plan);
      cr_expect(!strstr(info, "wrong numbers") && !strstr(info, "build"),
                "on %s, %s:\n%s", device->info.name, tc_path_name[path], info);
      const char *used = strstr(info, "used: ");
      cr_assert(used);
      if (forced && path != CLATTN_BLOCKED)
        cr_expect(strstr(info, "GPU") && !strstr(info, "shaped for GPUs"), "%s",
                  info);
      clattn_plan_destroy(plan);
    }
  th_shut();
}

Test(attention, no_row_is_refused) { expect_rows(false); }
Test(attention_gpu, no_row_is_refused) { expect_rows(true); }

/* One plan serves every batch size and length. */
Test(attention, one_plan_many_lengths) {
  static const int lengths[][3] = {/* batch, queries, keys */
                                   {1, 1, 1},   {2, 7, 7},   {1, 1, 300},
                                   {3, 2, 65},  {1, 64, 64}, {2, 1, 1000},
                                   {1, 130, 9}, {1, 1, 1}};
  const th_devices *devices = th_open(false);
  char message[256];
  for (int d = 0; d < devices->count; d++)
    for (int path = 0; path < TC_PATHS; path++) {
      const th_device *device = &devices->device[d];
      clattn_plan *plan = NULL;
      for (int i = 0; i < COUNT(lengths); i++) {
        attn_case c = {"lengths", .b = lengths[i][0],  .hq = 4,
                       .hk = 2,   .sq = lengths[i][1], .skv = lengths[i][2],
                       .d = 20,   .causal = true,      .lse = true};
        if (th_small() && c.sq * c.skv > 300) continue;
        attn_problem p;
        clattn_args args;
        attn_problem_init(&p, &c, (uint64_t)i);
        p.desc.path = (clattn_path)path;
        if (!plan)
          TH_OK(clattn_plan_create(device->context, device->index, &p.desc,
                                   &plan));
        attn_problem_bind(&p, device, &args);
        TH_OK(clattn_execute(plan, device->queue, &args, NULL, NULL, 0, NULL));
        cr_assert(attn_problem_check(&p, device, message, sizeof message),
                  "%s, lengths %d: %s", tc_path_name[path], i, message);
        attn_problem_free(&p);
      }
      cr_assert(strlen(clattn_plan_info(plan)) > 0);
      clattn_plan_destroy(plan);
    }
  th_shut();
}

/* A softcap so small that its inverse is no float caps all scores to nearly 0:
 * rows become means. (OpenCL devices may take such a number for 0: no cap.) */
Test(attention, subnormal_softcap) {
  static const float q[8] = {0, 0, 0, 0, 1, -2, 3, 4},
                     v[8] = {1, 2, 3, 4, 3, 2};
  float out[8];
  clattn_context *context;
  clattn_context_config config;
  clattn_desc desc;
  clattn_context_config_init(&config);
  config.backend = CLATTN_CPU;
  TH_OK(clattn_context_create(&config, &context));
  clattn_desc_init(&desc);
  desc.q_heads = desc.kv_heads = 1;
  desc.qk_dim = desc.v_dim = 4;
  desc.softcap = 1e-39f;
  TH_OK(clattn_attention_f32(context, &desc, 1, 2, 2, q, q, v, out));
  for (int i = 0; i < 8; i++)
    cr_expect_eq(out[i], (v[i % 4] + v[4 + i % 4]) / 2, "out[%d] is %g", i,
                 (double)out[i]);
  clattn_context_destroy(context);
}

/* The blocked path holds the scores of a block in local memory: it says what it
 * cannot hold, and AUTO has another path for that. */
Test(attention, blocked_has_a_limit) {
  const th_devices *devices = th_open(false);
  for (int d = 0; d < devices->count; d++)
    for (int named = 0; named < 2; named++) {
      const th_device *device = &devices->device[d];
      clattn_plan *plan = NULL;
      clattn_desc desc;
      size_t bytes = 77;
      clattn_desc_init(&desc);
      desc.q_heads = desc.kv_heads = 1;
      desc.qk_dim = desc.v_dim = 8;
      desc.outputs = CLATTN_OUT_WEIGHTS;
      desc.path = named ? CLATTN_BLOCKED : CLATTN_AUTO;
      TH_OK(clattn_plan_create(device->context, device->index, &desc, &plan));
      TH_OK(clattn_plan_scratch_bytes(plan, 1, 64, 500, &bytes));
      cr_expect_eq(bytes, 0);
      const clattn_status status =
          clattn_plan_scratch_bytes(plan, 1, 64, 100000, &bytes);
      cr_expect_eq(status, named ? CLATTN_UNSUPPORTED : CLATTN_OK);
      if (named) cr_expect(strstr(clattn_error_message(), "kv_len"));
      cr_expect_eq(bytes, named ? 0 : (size_t)64 * 100000 * 4);
      clattn_plan_destroy(plan);
    }
  th_shut();
}

/* Scratch of the fused path grows with the length at most linearly. */
Test(attention, fused_memory_is_linear) {
  const th_devices *devices = th_open(false);
  for (int d = 0; d < devices->count; d++) {
    clattn_plan *plan = NULL;
    clattn_desc desc;
    size_t small = 0, large = 0;
    clattn_desc_init(&desc);
    desc.q_heads = desc.kv_heads = 4;
    desc.qk_dim = desc.v_dim = 64;
    desc.path = CLATTN_FUSED;
    TH_OK(clattn_plan_create(devices->device[d].context,
                             devices->device[d].index, &desc, &plan));
    TH_OK(clattn_plan_scratch_bytes(plan, 1, 1024, 1024, &small));
    TH_OK(clattn_plan_scratch_bytes(plan, 1, 16384, 16384, &large));
    cr_assert_leq(large, 20 * small + (1 << 20), "%zu then %zu", small, large);
    clattn_plan_destroy(plan);
  }
  th_shut();
}

/* The one call: host memory in, host memory out. */
Test(attention, one_call) {
  const th_devices *devices = th_open(false);
  attn_case c = {"one call", .b = 2,  .hq = 4, .hk = 2,       .sq = 9,
                 .skv = 21,  .d = 12, .dv = 7, .causal = true};
  attn_problem p;
  attn_problem_init(&p, &c, 5);
  float *x[4];
  const th_tensor *from[4] = {&p.q, &p.k, &p.v, &p.out};
  for (int i = 0; i < 4; i++) {
    x[i] = th_alloc(&p.pool, (size_t)from[i]->n * sizeof(float));
    for (int64_t j = 0; j < from[i]->n; j++) x[i][j] = (float)from[i]->v[j];
  }
  double *got = th_alloc(&p.pool, (size_t)p.out.n * sizeof *got);
  char message[256];
  for (int repeat = 0; repeat < 3; repeat++) {
    TH_OK(clattn_attention_f32(devices->context, &p.desc, 2, 9, 21, x[0], x[1],
                               x[2], x[3]));
    for (int64_t j = 0; j < p.out.n; j++) got[j] = x[3][j], x[3][j] = NAN;
    cr_assert(th_close(p.out.n, got, p.want.out, p.want.out_tol, false, "out",
                       message, sizeof message),
              "%s", message);
  }
  attn_problem_free(&p);
  th_shut();
}
