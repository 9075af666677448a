/* Attention files that are not what they say: a precise message, and nothing else
 * happens. */
#define _POSIX_C_SOURCE 200809L /* mkdtemp */
#include <fcntl.h>

#include "../support/attention_case.h"
#include "clattn_attention.h"
#include "errors.h"

/* ---- files ----------------------------------------------------------------------- */

/* A file's contents that can be changed and written again. */
typedef struct contents {
  clattn_kit_safetensors *file;
  clattn_kit_tensor tensors[96];
  clattn_kit_metadata metadata[96];
  size_t n_tensors, n_metadata;
} contents;

static void take_contents(contents *c, const char *path) {
  TH_OK(clattn_kit_safetensors_open(path, &c->file));
  c->n_tensors = clattn_kit_safetensors_count(c->file);
  c->n_metadata = clattn_kit_safetensors_metadata_count(c->file);
  cr_assert(c->n_tensors <= 95 && c->n_metadata <= 95);
  for (size_t i = 0; i < c->n_tensors; i++)
    TH_OK(clattn_kit_safetensors_at(c->file, i, &c->tensors[i]));
  for (size_t i = 0; i < c->n_metadata; i++)
    TH_OK(clattn_kit_safetensors_metadata_at(c->file, i, &c->metadata[i]));
}

static void put_contents(const contents *c, const char *path) {
  TH_OK(clattn_kit_safetensors_write(path, c->tensors, c->n_tensors,
                                     c->metadata, c->n_metadata));
}

static clattn_kit_metadata *entry(contents *c, const char *key) {
  for (size_t i = 0; i < c->n_metadata; i++)
    if (strcmp(c->metadata[i].key, key) == 0) return &c->metadata[i];
  cr_assert(false, "no %s", key);
  return NULL;
}

static clattn_kit_tensor *tensor(contents *c, const char *name) {
  for (size_t i = 0; i < c->n_tensors; i++)
    if (strcmp(c->tensors[i].name, name) == 0) return &c->tensors[i];
  cr_assert(false, "no %s", name);
  return NULL;
}

static void set(contents *c, const char *key, const char *text) {
  entry(c, key)->text = text;
}

static void drop(contents *c, const char *key) {
  *entry(c, key) = c->metadata[--c->n_metadata];
}

static void drop_tensor(contents *c, const char *name) {
  *tensor(c, name) = c->tensors[--c->n_tensors];
}

/* Another tensor of 4 bytes. */
static void add_tensor(contents *c, const char *name) {
  static const float number;
  c->tensors[c->n_tensors++] = (clattn_kit_tensor){.name = name,
                                                   .dtype = CLATTN_KIT_F32,
                                                   .rank = 1,
                                                   .extent = {1},
                                                   .data = &number,
                                                   .size_bytes = sizeof number};
}

static void swap_extents(clattn_kit_tensor *t, int a, int b) {
  const int64_t extent = t->extent[a];
  t->extent[a] = t->extent[b];
  t->extent[b] = extent;
}

#define BROKEN(word_, ...) FAULT(IO_ERROR, word_, __VA_ARGS__)

static bool break_head(int n, contents *c, fault *f) {
  BROKEN("'format' is absent", drop(c, "format"))
  BROKEN("'format': got 'clattn.attention 2'",
         set(c, "format", "clattn.attention 2"))
  BROKEN("'parts'", set(c, "parts", "[]"))
  BROKEN("'parts'", set(c, "parts", "{\"a\":1}"))
  BROKEN("'parts'", set(c, "parts", "nothing"))
  BROKEN("'parts', entry 1", set(c, "parts", "[\"decoder-1\",7]"))
  BROKEN("'parts', entry 0", set(c, "parts", "[\"\"]"))
  BROKEN("'parts', entry 0", set(c, "parts", "[\"../x\"]"))
  BROKEN("'cross' is there twice", set(c, "parts", "[\"cross\",\"cross\"]"))
  BROKEN("'other.kind' is absent", set(c, "parts", "[\"other\"]"))
  BROKEN("'kind' is absent", drop(c, "parts"))
  BROKEN("'cross.kind': got 'crosses'", set(c, "cross.kind", "crosses"))
  BROKEN("'cross.causal': got '1'", set(c, "cross.causal", "1"))
  BROKEN("'b_2.layers' is absent", drop(c, "b_2.layers"))
  BROKEN("'b_2.layers': got '1.0'", set(c, "b_2.layers", "1.0"))
  BROKEN("'b_2.layers': got ' 1'", set(c, "b_2.layers", " 1"))
  BROKEN("b_2.layers: got 0", set(c, "b_2.layers", "0"))
  BROKEN("no tensor 'b_2.attention.1'", set(c, "b_2.layers", "999999999"))
  BROKEN("'b_2.heads': got '-2'", set(c, "b_2.heads", "-2"))
  BROKEN("'b_2.heads': got '9999999999999999999'",
         set(c, "b_2.heads", "9999999999999999999"))
  BROKEN("tensor 'b_2.attention.0': got F16 [2,7,7], want F16 [4,7,7]",
         set(c, "b_2.heads", "4"))
  BROKEN("kv_heads: got 4, want a divisor of heads (6)",
         set(c, "decoder-1.kv_heads", "4"))
  BROKEN("'decoder-1.kv_heads': got 0", set(c, "decoder-1.kv_heads", "0"))
  BROKEN("head_dim: got 0", set(c, "cross.head_dim", "0"))
  BROKEN("'cross.scale': got '0'", set(c, "cross.scale", "0"))
  BROKEN("'cross.scale': got 'nan'", set(c, "cross.scale", "nan"))
  BROKEN("'cross.scale': got '1e999'", set(c, "cross.scale", "1e999"))
  BROKEN("'decoder-1.window': got 'all'", set(c, "decoder-1.window", "all"))
  BROKEN("decoder-1.top: got 0", drop(c, "decoder-1.top"))
  BROKEN("top_keys.0': got I32 [6,5,2], want I32 [6,5,3]",
         set(c, "decoder-1.top", "3"))
  BROKEN("decoder-1.map_block: got 0", drop(c, "decoder-1.map_block"))
  BROKEN("map.0': got F32 [6,3,3], want F32 [6,1,1]",
         set(c, "decoder-1.map_block", "999999999999999999"))
  return false;
}

static bool break_tokens(int n, contents *c, fault *f) {
  BROKEN("'b_2.length' is absent", drop(c, "b_2.length"))
  BROKEN("'b_2.length': got 0", set(c, "b_2.length", "0"))
  BROKEN("'b_2.tokens': got 7 entries, want 8", set(c, "b_2.length", "8"))
  BROKEN("'b_2.tokens' is absent", drop(c, "b_2.tokens"))
  BROKEN("'b_2.tokens' is not JSON", set(c, "b_2.tokens", "[\"a\",\"b"))
  BROKEN("'b_2.tokens' is not a JSON array", set(c, "b_2.tokens", "{}"))
  BROKEN("'b_2.tokens', entry 6",
         set(c, "b_2.tokens", "[\"\",\"\",\"\",\"\",\"\",\"\",null]"))
  BROKEN("'cross.key_tokens' is absent", drop(c, "cross.key_tokens"))
  BROKEN("'cross.key_length' is absent", drop(c, "cross.key_length"))
  BROKEN("'decoder-1.ids', entry 4",
         set(c, "decoder-1.ids", "[1,2,3,4,2147483648]"))
  BROKEN("'decoder-1.ids', entry 0", set(c, "decoder-1.ids", "[1.5,2,3,4,5]"))
  BROKEN("'decoder-1.ids': got 4 entries", set(c, "decoder-1.ids", "[1,2,3,4]"))
  BROKEN("'decoder-1.added', entry 2", set(c, "decoder-1.added", "[0,1,2,0,0]"))
  BROKEN("'decoder-1.segments', entry 1",
         set(c, "decoder-1.segments", "[0,true,0,0,0]"))
  BROKEN("'cross.key_begins', entry 3",
         set(c, "cross.key_begins", "[0,0,0,-1,0]"))
  BROKEN("begins or ends alone", drop(c, "decoder-1.begins"))
  BROKEN("decoder-1.tokens.begins[4]: got bytes 9 to 14",
         set(c, "decoder-1.ends", "[0,3,9,9,14]"))
  BROKEN("decoder-1.tokens.begins[1]: got bytes 4 to 3",
         set(c, "decoder-1.begins", "[0,4,3,0,9]"))
  BROKEN("begins[3]: got bytes 0 to 9, want them within its text's 5",
         set(c, "pair", "short"))
  return false;
}

static bool break_tensors(int n, contents *c, fault *f) {
  BROKEN("no tensor 'decoder-1.key.2'", drop_tensor(c, "decoder-1.key.2"))
  BROKEN("tensor 'b_2.attention.1' is there, but the layers are 1",
         add_tensor(c, "b_2.attention.1"))
  BROKEN("tensor 'cross.entropy.1' is there, but none of layer 0",
         add_tensor(c, "cross.entropy.1"))
  BROKEN("got query without key", drop_tensor(c, "b_2.key.0"))
  BROKEN("got top_weights without top_keys",
         drop_tensor(c, "decoder-1.top_keys.0"))
  BROKEN("no tensor 'cross.attention.0'", drop_tensor(c, "cross.query.0");
         drop_tensor(c, "cross.key.0"))
  BROKEN("tensor 'decoder-1.query.1': got I32",
         tensor(c, "decoder-1.query.1")->dtype = CLATTN_KIT_I32)
  BROKEN("tensor 'decoder-1.attention.0': got I32",
         tensor(c, "decoder-1.attention.0")->dtype = CLATTN_KIT_I32)
  BROKEN("tensor 'decoder-1.top_keys.2': got F32",
         tensor(c, "decoder-1.top_keys.2")->dtype = CLATTN_KIT_F32)
  BROKEN("got F32 [6,4,5], want F32 [6,5,4]",
         swap_extents(tensor(c, "decoder-1.query.1"), 1, 2))
  BROKEN("got F32 [30], want F32 [6,5]",
         tensor(c, "decoder-1.distance.1")->rank = 1;
         tensor(c, "decoder-1.distance.1")->extent[0] = 30)
  return false;
}

/* A good file, and the path of another one. */
static void open_good(contents *good, char path[64], char other[80]) {
  clattn_attention_part parts[AC_PARTS];
  ac_path(path);
  snprintf(other, 80, "%s-2", path);
  ac_parts(parts);
  TH_OK(ac_write(path, parts, AC_PARTS));
  *good = (contents){0};
  take_contents(good, path);
}

static void close_good(contents *good, char path[64], const char *other) {
  clattn_kit_safetensors_destroy(good->file);
  unlink(other);
  ac_clean(path);
}

/* Every fault of a list alone, in a file that is good without it. */
static void expect_broken(bool (*list)(int, contents *, fault *)) {
  char path[64], other[80];
  contents good;
  open_good(&good, path, other);
  for (int n = 0;; n++) {
    contents c = good;
    fault f;
    if (!list(n, &c, &f)) break;
    put_contents(&c, other);
    clattn_attention *file = (clattn_attention *)path; /* to become NULL */
    expect(clattn_attention_open(other, &file), &f, other);
    cr_expect_null(file);
    cr_expect(strstr(clattn_error_message(), other), "no path: %s",
              clattn_error_message());
  }
  close_good(&good, path, other);
}

Test(attention_hostile, heads) { expect_broken(break_head); }
Test(attention_hostile, tokens) { expect_broken(break_tokens); }
Test(attention_hostile, tensors) { expect_broken(break_tensors); }

/* What is absent has its default, and a NUL is shown. */
Test(attention_hostile, defaults) {
  char path[64], other[80];
  contents c;
  open_good(&c, path, other);
  drop(&c, "decoder-1.causal");
  drop(&c, "b_2.causal");
  drop(&c, "b_2.kv_heads");
  drop(&c, "b_2.scale");
  drop(&c, "model");
  drop(&c, "decoder-1.segments");
  drop(&c, "text");
  set(&c, "b_2.tokens",
      "[\"\\u0000\",\"a\\u0000b\",\"\",\"\",\"\",\"\",\"\\ud83d\\ude00\"]");
  put_contents(&c, other);
  clattn_attention *file;
  clattn_attention_part got;
  TH_OK(clattn_attention_open(other, &file));
  cr_expect_str_eq(clattn_attention_model(file), "");
  TH_OK(clattn_attention_get_part(file, 0, &got));
  cr_expect(got.causal);
  cr_expect_null(got.rows.segments);
  TH_OK(clattn_attention_get_part(file, 1, &got));
  cr_expect(!got.causal);
  cr_expect_eq(got.kv_heads, got.heads);
  cr_expect_eq(got.scale, 1 / sqrt(3.0));
  cr_expect_str_eq(got.rows.texts[0], "\xe2\x90\x80");
  cr_expect_str_eq(got.rows.texts[1],
                   "a\xe2\x90\x80"
                   "b");
  cr_expect_str_eq(got.rows.texts[6], "\xf0\x9f\x98\x80");
  clattn_attention_destroy(file);
  close_good(&c, path, other);
}

/* ---- anything at all --------------------------------------------------------------- */

/* Reads all that an open file has. */
static void read_all(const clattn_attention *file) {
  for (size_t p = 0; p < clattn_attention_parts(file); p++) {
    clattn_attention_part part;
    TH_OK(clattn_attention_get_part(file, p, &part));
    cr_assert_leq(part.layers, AC_MAX_LAYERS);
    for (int64_t i = 0; i < part.rows.n; i++)
      cr_assert(strlen(part.rows.texts[i]) < 1000);
    for (int64_t layer = 0; layer < part.layers; layer++) {
      for (int t = 0; t < CLATTN_ATTENTION_TENSORS; t++)
        if (part.has >> t & 1) {
          float *values = malloc((size_t)ac_count(&part, t) * sizeof *values);
          clattn_attention_read(file, p, layer, (clattn_attention_tensor)t,
                                values);
          free(values);
        }
      float difference,
          *rows = malloc((size_t)(part.rows.n * part.keys.n) * sizeof *rows);
      for (int64_t head = 0; head < part.heads; head++)
        clattn_attention_read_weights(file, p, layer, head, 0, part.rows.n,
                                      rows);
      clattn_attention_summary *summaries =
          malloc((size_t)part.heads * sizeof *summaries);
      clattn_attention_check(file, p, layer, &difference);
      clattn_attention_summarize(file, p, layer, summaries);
      free(summaries);
      free(rows);
    }
  }
}

static void try_open(const char *path) {
  clattn_attention *file;
  const clattn_status status = clattn_attention_open(path, &file);
  cr_assert(status == CLATTN_OK || status == CLATTN_IO_ERROR, "%s: %s",
            clattn_status_name(status), clattn_error_message());
  if (status == CLATTN_OK) read_all(file);
  clattn_attention_destroy(file);
}

/* Written over what is there: emptying a file first makes some systems wait for
 * the disk. */
static void put_bytes(const char *path, const char *bytes, size_t n) {
  const int fd = open(path, O_WRONLY);
  cr_assert(fd >= 0 && pwrite(fd, bytes, n, 0) == (ssize_t)n &&
            ftruncate(fd, (off_t)n) == 0 && close(fd) == 0);
}

/* Bits turned over, in the header for the most part, and ends cut off. */
Test(attention_hostile, bytes) {
  enum { ROOM = 1 << 16, TRIES = 2000 };
  char path[64];
  ac_path(path);
  clattn_attention_part parts[AC_PARTS];
  ac_parts(parts);
  TH_OK(ac_write(path, parts, AC_PARTS));
  char *good = malloc(ROOM), *bad = malloc(ROOM);
  FILE *stream = fopen(path, "rb");
  const size_t n = fread(good, 1, ROOM, stream);
  cr_assert(n < ROOM && fclose(stream) == 0);
  uint64_t header = 0;
  memcpy(&header, good, sizeof header);
  th_rng rng = {99};
  for (int i = 0; i < TRIES; i++) {
    memcpy(bad, good, n);
    const int flips = 1 + th_below(&rng, 3);
    const int span = i % 4 == 0 ? (int)n : (int)header + 8;
    for (int k = 0; k < flips; k++)
      bad[th_below(&rng, span)] ^= (char)(1 << th_below(&rng, 8));
    put_bytes(path, bad, i % 8 == 7 ? (size_t)th_below(&rng, (int)n) : n);
    try_open(path);
  }
  free(good);
  free(bad);
  ac_clean(path);
}

/* One or two entries of the metadata are something else. */
Test(attention_hostile, metadata) {
  enum { TRIES = 150 };
  static const char *const texts[] = {"",
                                      "0",
                                      "1",
                                      "3",
                                      "-1",
                                      "18446744073709551616",
                                      "1e308",
                                      "NaN",
                                      "null",
                                      "[]",
                                      "[[]]",
                                      "{}",
                                      "\"x\"",
                                      "[1]",
                                      "true",
                                      "[",
                                      "cross",
                                      "[\"b_2\"]",
                                      "[0,0,0,0,0]",
                                      "[1,2,9223372036854775807,4,5]",
                                      "[\"\\u0000\",\"\",\"\",\"\",\"\"]",
                                      "[\"\\ud800\",\"\",\"\",\"\",\"\"]"};
  char path[64], other[80];
  contents c;
  open_good(&c, path, other);
  th_rng rng = {3};
  for (int i = 0; i < TRIES; i++) {
    contents bad = c;
    for (int k = 0; k < 1 + i % 2; k++)
      bad.metadata[th_below(&rng, (int)c.n_metadata)].text =
          texts[th_below(&rng, sizeof texts / sizeof *texts)];
    put_contents(&bad, other);
    try_open(other);
  }
  close_good(&c, path, other);
}

/* A top key that is none of the keys is not handed on. */
static clattn_status wild_source(void *user, size_t part, int64_t layer,
                                 clattn_attention_tensor tensor, void *values) {
  const clattn_status status = ac_source(user, part, layer, tensor, values);
  if (tensor == CLATTN_ATTENTION_TOP_KEYS)
    ((int32_t *)values)[layer] = layer == 0 ? 5 : -2;
  return status;
}

Test(attention_hostile, top_keys) {
  char path[64];
  ac_path(path);
  clattn_attention_part parts[AC_PARTS];
  ac_parts(parts);
  TH_OK(clattn_attention_write(path, "m", NULL, NULL, parts, 1, wild_source,
                               parts));
  clattn_attention *file;
  int32_t keys[AC_MOST];
  TH_OK(clattn_attention_open(path, &file));
  FAILS(IO_ERROR, "tensor 'decoder-1.top_keys.0': got key 5, want -1..4",
        clattn_attention_read(file, 0, 0, CLATTN_ATTENTION_TOP_KEYS, keys));
  FAILS(IO_ERROR, "tensor 'decoder-1.top_keys.1': got key -2",
        clattn_attention_read(file, 0, 1, CLATTN_ATTENTION_TOP_KEYS, keys));
  clattn_attention_destroy(file);
  ac_clean(path);
}
