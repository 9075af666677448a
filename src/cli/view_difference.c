/* view_difference.c - where the weights of two runs differ most, layer by layer. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "view.h"

enum { ROWS_AT_ONCE = 64 };

/* Where the weights of a layer are furthest apart. */
typedef struct furthest {
  double difference; /* |a - b| */
  float a, b;
  int64_t head, row, key;
} furthest;

typedef struct comparison {
  const clattn_attention *a, *b;
  size_t part, partner; /* of a and b */
  clattn_attention_part info;
  float *rows_a, *rows_b; /* [ROWS_AT_ONCE, keys] */
} comparison;

/* Some rows of a head; false after a message. */
static bool compare_rows(const comparison *c, int64_t layer, int64_t head,
                         int64_t row, int64_t n, furthest *most) {
  if (!view_ok(clattn_attention_read_weights(c->a, c->part, layer, head, row, n,
                                             c->rows_a)) ||
      !view_ok(clattn_attention_read_weights(c->b, c->partner, layer, head, row,
                                             n, c->rows_b)))
    return false;
  const int64_t keys = c->info.keys.n;
  for (int64_t i = 0; i < n * keys; i++) {
    const double difference = fabs((double)c->rows_a[i] - (double)c->rows_b[i]);
    if (difference <= most->difference) continue; /* what is NaN is furthest */
    *most = (furthest){difference, c->rows_a[i],   c->rows_b[i],
                       head,       row + i / keys, i % keys};
    if (isnan(difference)) return true;
  }
  return true;
}

static bool compare_layer(const comparison *c, int64_t layer, furthest *most) {
  *most = (furthest){.difference = -1};
  for (int64_t head = 0; head < c->info.heads; head++)
    for (int64_t row = 0; row < c->info.rows.n; row += ROWS_AT_ONCE) {
      const int64_t left = c->info.rows.n - row;
      const int64_t n = left < ROWS_AT_ONCE ? left : ROWS_AT_ONCE;
      if (!compare_rows(c, layer, head, row, n, most)) return false;
    }
  return true;
}

/* A token with its number: "5 was". */
static void put_token(const clattn_attention_tokens *tokens, int64_t i) {
  enum { COLUMNS = 13, BYTES = 24 };
  char label[BYTES];
  clattn_view_label(tokens->texts[i], label, sizeof label);
  cli_clean(label);
  const int left = COLUMNS - clattn_kit_label(label, BYTES, NULL);
  printf("%5lld %s%*s", (long long)i, label, left > 1 ? left : 1, "");
}

static void put_furthest(const comparison *c, int64_t layer,
                         const furthest *most) {
  if (most->difference == 0) {
    printf("%5lld      none\n", (long long)layer);
    return;
  }
  printf("%5lld %4lld ", (long long)layer, (long long)most->head);
  put_token(&c->info.rows, most->row);
  put_token(&c->info.keys, most->key);
  printf("%8.5f %8.5f %+9.2g\n", (double)most->a, (double)most->b,
         (double)most->a - (double)most->b);
}

static void put_table(const comparison *c, const furthest *layers) {
  const char *name = c->info.name, *colon = name[0] ? ": " : "";
  bool same = true;
  for (int64_t i = 0; i < c->info.layers; i++)
    same = same && layers[i].difference == 0;
  if (same) {
    printf("\n%s%sthe same weights in all layers, to the last bit\n", name,
           colon);
    return;
  }
  printf("\n%s%slargest difference of each layer\n", name, colon);
  printf(
      "layer head   row               key                      a        b"
      "     a - b\n");
  for (int64_t i = 0; i < c->info.layers; i++) put_furthest(c, i, &layers[i]);
}

static bool compare_part(comparison *c) {
  const size_t cells = ROWS_AT_ONCE * (size_t)c->info.keys.n;
  c->rows_a = calloc(cells, sizeof *c->rows_a);
  c->rows_b = calloc(cells, sizeof *c->rows_b);
  furthest *layers = calloc((size_t)c->info.layers, sizeof *layers);
  bool done = c->rows_a != NULL && c->rows_b != NULL && layers != NULL;
  if (!done) cli_error("no memory for rows of %zu weights", cells);
  cli_progress progress;
  cli_progress_begin(&progress, "layer");
  for (int64_t layer = 0; done && layer < c->info.layers; layer++) {
    cli_progress_step(&progress, layer, c->info.layers);
    done = compare_layer(c, layer, &layers[layer]);
  }
  cli_progress_clear(&progress);
  if (done) put_table(c, layers);
  free(c->rows_a);
  free(c->rows_b);
  free(layers);
  return done;
}

static bool same_tokens(const clattn_attention_tokens *a,
                        const clattn_attention_tokens *b) {
  bool same = a->n == b->n;
  for (int64_t i = 0; same && i < a->n; i++)
    same = strcmp(a->texts[i], b->texts[i]) == 0;
  return same;
}

/* Whether both are of one kind, and their rows see the same keys; else says so. */
static bool same_kind(const clattn_attention_part *a,
                      const clattn_attention_part *b) {
  static const char *const causal[] = {"not causal", "causal"};
  const bool kind = a->kind == b->kind;
  if (kind && a->causal == b->causal) return true;
  cli_error(
      "%s%sa is %s, b %s: nothing to subtract; --html shows them side by side",
      a->name, a->name[0] ? ": " : "",
      kind ? causal[a->causal] : clattn_attention_kind_name(a->kind),
      kind ? causal[b->causal] : clattn_attention_kind_name(b->kind));
  return false;
}

/* Whether the cells of both mean the same, and can be known; else says why not. */
static bool comparable(const clattn_attention_part *a,
                       const clattn_attention_part *b) {
  if (!same_kind(a, b)) return false;
  const struct {
    const char *what;
    int64_t a, b;
  } sizes[] = {{"layers", a->layers, b->layers},
               {"heads", a->heads, b->heads},
               {"tokens", a->rows.n, b->rows.n},
               {"keys", a->keys.n, b->keys.n}};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
    if (sizes[i].a != sizes[i].b) {
      cli_error(
          "%s%sa has %lld %s, b %lld: nothing to subtract; --html shows them "
          "side by side",
          a->name, a->name[0] ? ": " : "", (long long)sizes[i].a, sizes[i].what,
          (long long)sizes[i].b);
      return false;
    }
  if (!same_tokens(&a->rows, &b->rows) || !same_tokens(&a->keys, &b->keys))
    printf("\n%s%sthe tokens differ: those of a are shown\n", a->name,
           a->name[0] ? ": " : "");
  return true;
}

/* The part of that name, which one part has at most; *found is how many there are
 * where it is none. False after a message. */
static bool find_partner(const clattn_attention *attention, const char *name,
                         size_t *found) {
  const size_t n = clattn_attention_parts(attention);
  for (*found = 0; *found < n; ++*found) {
    clattn_attention_part info;
    if (!view_get_part(attention, *found, &info)) return false;
    if (strcmp(info.name, name) == 0) break;
  }
  return true;
}

/* Names the parts of one run that the other one does not have. */
static bool put_alone(const view_run runs[2], int run, int64_t part) {
  const clattn_attention *other = runs[1 - run].attention;
  const size_t n = clattn_attention_parts(runs[run].attention);
  for (size_t i = 0; i < n; i++) {
    clattn_attention_part info;
    size_t partner;
    if (part >= 0 && (run == 1 || (size_t)part != i)) continue;
    if (!view_get_part(runs[run].attention, i, &info) ||
        !find_partner(other, info.name, &partner))
      return false;
    if (partner < clattn_attention_parts(other)) continue;
    printf("\n%s: %s has no such part\n",
           info.name[0] ? info.name : "the only part", run == 0 ? "b" : "a");
  }
  return true;
}

bool view_differences(const view_run runs[2], int64_t part) {
  comparison c = {.a = runs[0].attention, .b = runs[1].attention};
  const size_t n = clattn_attention_parts(c.a);
  const size_t m = clattn_attention_parts(c.b);
  size_t pairs = 0;
  for (c.part = 0; c.part < n; c.part++) {
    clattn_attention_part other;
    if (part >= 0 && (size_t)part != c.part) continue;
    if (!view_get_part(c.a, c.part, &c.info) ||
        !find_partner(c.b, c.info.name, &c.partner))
      return false;
    if (c.partner == m) continue;
    pairs++;
    if (!view_get_part(c.b, c.partner, &other) ||
        !comparable(&c.info, &other) || !compare_part(&c))
      return false;
  }
  if (!put_alone(runs, 0, part) || !put_alone(runs, 1, part)) return false;
  if (pairs == 0)
    cli_error(
        "a and b have no part of one name: nothing to subtract; --html shows "
        "them side by side");
  return pairs > 0;
}
