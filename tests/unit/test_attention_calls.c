/* Calls that cannot be served: parts that cannot be written, places that a file does
 * not have. A message that names the argument, and no file. */
#define _POSIX_C_SOURCE 200809L /* mkdtemp */
#include "../support/attention_case.h"
#include "clattn_attention.h"
#include "errors.h"

/* ---- writing ------------------------------------------------------------------- */

static bool damage_parts(int n, clattn_attention_part *parts, fault *f) {
  static const char *const bad_texts[] = {"a", "b", "\xff", "d", "e"};
  static const char *const no_texts[] = {"a", "b", NULL, "d", "e"};
  static const uint8_t bad_flags[] = {0, 1, 0, 2, 0};
  static const int64_t late[] = {0, 3, 20, 9, 13};
  clattn_attention_part *p = &parts[0];
  BAD("parts[0].struct_size", p->struct_size--)
  BAD("parts[0].name: got NULL", p->name = NULL)
  BAD("parts[0].name: got ''", p->name = "")
  BAD("parts[0].name: got 'a b'", p->name = "a b")
  BAD("parts[1].name: 'decoder-1' is that of parts[0]", parts[1].name = p->name)
  BAD("parts[0].kind: got 0", p->kind = (clattn_attention_kind)0)
  BAD("parts[0].window: got -1", p->window = -1)
  BAD("parts[0].layers: got 0", p->layers = 0)
  BAD("parts[0].layers", p->layers = INT64_MAX)
  BAD("parts[0].heads: got 0", p->heads = 0)
  BAD("parts[0]", p->heads = INT64_MAX; p->kv_heads = 0)
  BAD("parts[0].kv_heads: got 4", p->kv_heads = 4)
  BAD("parts[0].kv_heads: got -2", p->kv_heads = -2)
  BAD("parts[0].head_dim: got -1", p->head_dim = -1)
  BAD("parts[0].head_dim: got 0", p->head_dim = 0)
  BAD("parts[0].scale", p->scale = NAN)
  BAD("parts[0].rows.n: got 0", p->rows.n = 0)
  BAD("parts[2].keys.n: got -1", parts[2].keys.n = -1)
  BAD("parts[0].keys.n: got 7", p->keys = parts[1].rows)
  BAD("parts[0].has", p->has = 0)
  BAD("parts[0].has", p->has = 1u << CLATTN_ATTENTION_TENSORS)
  BAD("got query without key", p->has &= ~(1u << CLATTN_ATTENTION_KEY))
  BAD("parts[0].dtype: got bf16", p->dtype = CLATTN_BF16)
  BAD("parts[0].top: got 0", p->top = 0)
  BAD("parts[0].map_block: got -3", p->map_block = -3)
  BAD("parts[0].rows.texts: got NULL", p->rows.texts = NULL)
  BAD("parts[0].rows.texts[2]: got NULL", p->rows.texts = no_texts)
  BAD("parts[0].rows.texts[2]: not UTF-8", p->rows.texts = bad_texts)
  BAD("parts[2].keys.segments[3]: got 2", parts[2].keys.segments = bad_flags)
  BAD("parts[0].rows.added[3]: got 2", p->rows.added = bad_flags)
  BAD("parts[0].rows: got begins or ends alone", p->rows.ends = NULL)
  BAD("parts[0].rows.begins[2]: got bytes 20", p->rows.begins = late)
  return false;
}

Test(attention_calls, writing) {
  char path[64];
  ac_path(path);
  for (int n = 0;; n++) {
    clattn_attention_part parts[AC_PARTS];
    fault f;
    ac_parts(parts);
    if (!damage_parts(n, parts, &f)) break;
    expect(ac_write(path, parts, AC_PARTS), &f, "write");
    cr_expect_neq(access(path, F_OK), 0, "%s: a file is there", f.what);
  }
  clattn_attention_part parts[AC_PARTS];
  ac_parts(parts);
#define WRITE(path, model, text, parts, n, source)                             \
  clattn_attention_write(path, model, text, NULL, parts, n, source, parts)
  FAILS(INVALID_ARGUMENT, "path", WRITE(NULL, "m", "", parts, 1, ac_source));
  FAILS(INVALID_ARGUMENT, "model", WRITE(path, NULL, "", parts, 1, ac_source));
  FAILS(INVALID_ARGUMENT, "model: not UTF-8",
        WRITE(path, "\x80", "", parts, 1, ac_source));
  FAILS(INVALID_ARGUMENT, "text: not UTF-8 at byte 1",
        WRITE(path, "m", "a\xc3", parts, 1, ac_source));
  FAILS(INVALID_ARGUMENT, "parts: got NULL",
        WRITE(path, "m", "", NULL, 1, ac_source));
  FAILS(INVALID_ARGUMENT, "n_parts: got 0",
        WRITE(path, "m", "", parts, 0, ac_source));
  FAILS(INVALID_ARGUMENT, "n_parts: got 65",
        WRITE(path, "m", "", parts, 65, ac_source));
  FAILS(INVALID_ARGUMENT, "source", WRITE(path, "m", "", parts, 1, NULL));
  FAILS(IO_ERROR, "/nowhere/x",
        WRITE("/nowhere/x", "m", NULL, parts, 1, ac_source));
#undef WRITE
  cr_expect_neq(access(path, F_OK), 0);
  *strrchr(path, '/') = '\0';
  cr_expect_eq(rmdir(path), 0);
}

/* One weight of part 1, which is F16, is beyond its range. */
static clattn_status large_source(void *user, size_t part, int64_t layer,
                                  clattn_attention_tensor tensor,
                                  void *values) {
  const clattn_status status = ac_source(user, part, layer, tensor, values);
  if (tensor == CLATTN_ATTENTION_WEIGHTS && part == 1)
    ((float *)values)[3] = 65505;
  return status;
}

Test(attention_calls, weights_beyond_f16) {
  char path[64];
  ac_path(path);
  clattn_attention_part parts[AC_PARTS];
  ac_parts(parts);
  cr_assert_eq(parts[1].dtype, CLATTN_F16);
  char want[96];
  snprintf(want, sizeof want, "%s.attention.0: got 65505", parts[1].name);
  FAILS(INVALID_ARGUMENT, want,
        clattn_attention_write(path, "m", AC_TEXT, AC_PAIR, parts, AC_PARTS,
                               large_source, parts));
  cr_expect_neq(access(path, F_OK), 0);
  parts[1].dtype = CLATTN_F32;
  TH_OK(clattn_attention_write(path, "m", AC_TEXT, AC_PAIR, parts, AC_PARTS,
                               large_source, parts));
  ac_clean(path);
}

/* A source that fails ends the writing, and the old file stays. */
static clattn_status failing_source(void *user, size_t part, int64_t layer,
                                    clattn_attention_tensor tensor,
                                    void *values) {
  if (layer == 0) return ac_source(user, part, layer, tensor, values);
  return user ? CLATTN_UNSUPPORTED : CLATTN_OK;
}

Test(attention_calls, a_source_that_fails) {
  char path[64];
  ac_path(path);
  clattn_attention_part parts[AC_PARTS];
  ac_parts(parts);
  TH_OK(ac_write(path, parts, AC_PARTS));
  FAILS(UNSUPPORTED, "source: ended the writing",
        clattn_attention_write(path, "m", NULL, NULL, parts, AC_PARTS,
                               failing_source, parts));
  clattn_attention *file;
  TH_OK(clattn_attention_open(path, &file));
  cr_expect_str_eq(clattn_attention_model(file), "a model");
  clattn_attention_destroy(file);
  ac_clean(path); /* which would find what is left of the other */
}

/* ---- reading ------------------------------------------------------------------- */

Test(attention_calls, reading) {
  char path[64];
  ac_path(path);
  clattn_attention_part parts[AC_PARTS], got;
  ac_parts(parts);
  TH_OK(ac_write(path, parts, AC_PARTS));
  clattn_attention *a;
  float x[AC_MOST];
  clattn_attention_summary s[6];
  const clattn_attention_tensor w = CLATTN_ATTENTION_WEIGHTS;
  FAILS(IO_ERROR, "/nowhere/x", clattn_attention_open("/nowhere/x", &a));
  cr_expect_null(a);
  FAILS(INVALID_ARGUMENT, "path", clattn_attention_open(NULL, &a));
  FAILS(INVALID_ARGUMENT, "attention", clattn_attention_open(path, NULL));
  TH_OK(clattn_attention_open(path, &a));
#define FAIL(word, call) FAILS(INVALID_ARGUMENT, word, clattn_attention_##call)
  FAIL("attention", get_part(NULL, 0, &got));
  FAIL("part: got 3", get_part(a, 3, &got));
  FAIL("info", get_part(a, 0, NULL));
  FAIL("part: got 3", read(a, 3, 0, w, x));
  FAIL("layer: got 3", read(a, 0, 3, w, x));
  FAIL("layer: got -1", read(a, 0, -1, w, x));
  FAIL("tensor: got 8", read(a, 0, 0, CLATTN_ATTENTION_TENSORS, x));
  FAIL("tensor: part 'cross' has no attention", read(a, 2, 0, w, x));
  FAIL("values", read(a, 0, 0, w, NULL));
  FAIL("head: got 6", read_weights(a, 0, 0, 6, 0, 1, x));
  FAIL("head: got -1", read_weights(a, 0, 0, -1, 0, 1, x));
  FAIL("row: got 5", read_weights(a, 0, 0, 0, 5, 1, x));
  FAIL("n 6", read_weights(a, 0, 0, 0, 0, 6, x));
  FAIL("row: got 1", read_weights(a, 0, 0, 0, 1, INT64_MAX, x));
  FAIL("row: got -1", read_weights(a, 0, 0, 0, -1, 1, x));
  FAIL("weights", read_weights(a, 0, 0, 0, 0, 1, NULL));
  FAIL("difference", check(a, 0, 0, NULL));
  FAIL("layer: got 3", check(a, 0, 3, x));
  FAIL("summaries", summarize(a, 0, 0, NULL));
  FAIL("part: got 9", summarize(a, 9, 0, s));
#undef FAIL
  TH_OK(clattn_attention_read_weights(a, 0, 0, 0, 5, 0, NULL));
  clattn_attention_destroy(a);
  clattn_attention_destroy(NULL);
  clattn_attention_part_init(NULL);
  cr_expect_eq(clattn_attention_parts(NULL), 0);
  cr_expect_null(clattn_attention_text(NULL));
  cr_expect_str_eq(clattn_attention_kind_name((clattn_attention_kind)9), "?");
  ac_clean(path);
}
