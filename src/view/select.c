/* select.c - options checked against the data. */
#include "select.h"

enum { MANY_TOKENS = 64 };

/* A number of the options that may be negative for "the default". */
static clattn_status choose(const char *name, int64_t got, int64_t n,
                            int64_t otherwise, int64_t *chosen) {
  VIEW_REQUIRE(got < n, "options->%s: got %lld, want one of 0..%lld", name,
               (long long)got, (long long)(n - 1));
  *chosen = got < 0 ? otherwise : got;
  return CLATTN_OK;
}

/* Weights of many tokens are small beside the few large ones. */
static bool choose_root(const clattn_view_options *o,
                        const clattn_attention_part *part) {
  if (o->kind != CLATTN_VIEW_HEAD && o->kind != CLATTN_VIEW_GRID) return false;
  if (o->scale != CLATTN_VIEW_SCALE_AUTO) return o->scale == CLATTN_VIEW_ROOT;
  const bool cut = o->tokens > 0 && o->tokens <= MANY_TOKENS;
  const bool rows = part->rows.n > MANY_TOKENS && !cut;
  const bool keys = part->keys.n > MANY_TOKENS &&
                    (part->kind == CLATTN_ATTENTION_CROSS || !cut);
  return o->kind == CLATTN_VIEW_GRID && (rows || keys);
}

clattn_status view_select(const clattn_attention *attention,
                          const clattn_view_options *options,
                          view_selection *selection) {
  clattn_view_options defaults;
  clattn_view_options_init(&defaults);
  const clattn_view_options *o = options == NULL ? &defaults : options;
  VIEW_REQUIRE(attention != NULL, "attention: got NULL, want an open file");
  VIEW_REQUIRE(o->struct_size == sizeof *o,
               "options->struct_size: got %zu, want %zu (call "
               "clattn_view_options_init first)",
               o->struct_size, sizeof *o);
  VIEW_REQUIRE((int)o->kind >= CLATTN_VIEW_HEAD && o->kind <= CLATTN_VIEW_TABLE,
               "options->kind: got %d, want 0..3", (int)o->kind);
  VIEW_REQUIRE(
      (int)o->scale >= CLATTN_VIEW_SCALE_AUTO && o->scale <= CLATTN_VIEW_ROOT,
      "options->scale: got %d, want 0..2", (int)o->scale);
  const size_t parts = clattn_attention_parts(attention);
  VIEW_REQUIRE(o->part < parts, "options->part: got %zu, want one of 0..%zu",
               o->part, parts - 1);
  VIEW_REQUIRE(o->tokens >= 0,
               "options->tokens: got %lld, want >= 0 (0: as many as fit)",
               (long long)o->tokens);

  view_selection s = {.attention = attention,
                      .index = o->part,
                      .kind = o->kind,
                      .tokens = o->tokens,
                      .by_row = o->by_row && o->kind == CLATTN_VIEW_HEAD,
                      .title = o->title};
  clattn_attention_part_init(&s.part);
  VIEW_TRY(clattn_attention_get_part(attention, o->part, &s.part));
  VIEW_REQUIRE(o->first >= 0 && o->first < s.part.rows.n,
               "options->first: got %lld, want one of 0..%lld",
               (long long)o->first, (long long)(s.part.rows.n - 1));
  s.first = o->first;
  s.root = choose_root(o, &s.part);
  VIEW_TRY(
      choose("layer", o->layer, s.part.layers, s.part.layers - 1, &s.layer));
  VIEW_TRY(choose("head", o->head, s.part.heads, -1, &s.head));
  VIEW_TRY(choose("row", o->row, s.part.rows.n, s.part.rows.n - 1, &s.row));
  *selection = s;
  return CLATTN_OK;
}
