/* bpe_pairs.c - neighbours in a text of symbols. A merge looks only at the
 * places where its pair is, so that all of them together take time linear in the
 * text but for the order of the counts. */
#include "bpe_pairs.h"

#include <stdlib.h>
#include <string.h>

clattn_status bpe_pairs_init(bpe_pairs *p, int32_t n) {
  *p = (bpe_pairs){0};
  const size_t room = (size_t)n + 1;
  p->symbol = malloc(room * sizeof *p->symbol);
  p->before = malloc(room * sizeof *p->before);
  p->next = malloc(room * sizeof *p->next);
  p->weight = malloc(room * sizeof *p->weight);
  return p->symbol && p->before && p->next && p->weight
             ? CLATTN_OK
             : KIT_OUT_OF_MEMORY("merges");
}

void bpe_pairs_free(bpe_pairs *p) {
  for (int32_t i = 0; i < p->n_pairs; i++) free(p->pairs[i].at);
  free(p->pairs);
  free(p->slots);
  free(p->heap);
  free(p->touched);
  free(p->symbol);
  free(p->before);
  free(p->next);
  free(p->weight);
  *p = (bpe_pairs){0};
}

/* Room for one more element in an array that doubles. */
static clattn_status grow(void **array, size_t n, size_t *room, size_t size) {
  if (n < *room) return CLATTN_OK;
  const size_t larger = *room > 0 ? 2 * *room : 64;
  void *memory =
      larger <= SIZE_MAX / size ? realloc(*array, larger * size) : NULL;
  if (memory == NULL) return KIT_OUT_OF_MEMORY("merges");
  *array = memory;
  *room = larger;
  return CLATTN_OK;
}

/* ---- pairs by their symbols ---------------------------------------------- */

static size_t slot_of(const bpe_pairs *p, int32_t left, int32_t right) {
  uint64_t h = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
  h *= 0x9e3779b97f4a7c15u;
  size_t at = (size_t)(h ^ h >> 32) & p->mask;
  while (p->slots[at] >= 0 && (p->pairs[p->slots[at]].left != left ||
                               p->pairs[p->slots[at]].right != right))
    at = (at + 1) & p->mask;
  return at;
}

static clattn_status grow_slots(bpe_pairs *p) {
  const size_t n = p->slots ? 2 * (p->mask + 1) : 1024;
  int32_t *slots = malloc(n * sizeof *slots);
  if (slots == NULL) return KIT_OUT_OF_MEMORY("merges");
  memset(slots, 0xff, n * sizeof *slots); /* all -1 */
  free(p->slots);
  p->slots = slots;
  p->mask = n - 1;
  for (int32_t i = 0; i < p->n_pairs; i++)
    slots[slot_of(p, p->pairs[i].left, p->pairs[i].right)] = i;
  return CLATTN_OK;
}

/* The pair's number; it is made if it is new. */
static clattn_status pair_of(bpe_pairs *p, int32_t left, int32_t right,
                             int32_t *pair) {
  if (p->slots == NULL || (size_t)p->n_pairs * 2 > p->mask)
    KIT_TRY(grow_slots(p));
  int32_t *slot = &p->slots[slot_of(p, left, right)];
  if (*slot < 0) {
    size_t room = (size_t)p->pairs_room;
    KIT_TRY(
        grow((void **)&p->pairs, (size_t)p->n_pairs, &room, sizeof *p->pairs));
    p->pairs_room = (int32_t)room;
    p->pairs[p->n_pairs] = (pair_places){.left = left, .right = right};
    *slot = p->n_pairs++;
  }
  *pair = *slot;
  return CLATTN_OK;
}

/* ---- counts -------------------------------------------------------------- */

/* One more place of a pair. */
static clattn_status add_place(bpe_pairs *p, int32_t at) {
  int32_t pair;
  KIT_TRY(pair_of(p, p->symbol[at], p->symbol[p->next[at]], &pair));
  pair_places *places = &p->pairs[pair];
  size_t room = places->room;
  KIT_TRY(grow((void **)&places->at, places->n, &room, sizeof *places->at));
  places->room = (uint32_t)room;
  places->at[places->n++] = at;
  places->count += p->weight[at];
  if (places->touched) return CLATTN_OK;
  KIT_TRY(grow((void **)&p->touched, p->n_touched, &p->touched_room,
               sizeof *p->touched));
  places->touched = true;
  p->touched[p->n_touched++] = pair;
  return CLATTN_OK;
}

/* One place less; where it was is found out when the pair's turn comes. */
static clattn_status take_place(bpe_pairs *p, int32_t at) {
  int32_t pair;
  KIT_TRY(pair_of(p, p->symbol[at], p->symbol[p->next[at]], &pair));
  p->pairs[pair].count -= p->weight[at];
  return CLATTN_OK;
}

/* Whether a comes before b. */
static bool better(const bpe_pairs *p, pair_best a, pair_best b) {
  if (a.count != b.count) return a.count > b.count;
  const pair_places *x = &p->pairs[a.pair], *y = &p->pairs[b.pair];
  return x->left != y->left ? x->left < y->left : x->right < y->right;
}

static clattn_status heap_push(bpe_pairs *p, pair_best entry) {
  KIT_TRY(grow((void **)&p->heap, p->n_heap, &p->heap_room, sizeof *p->heap));
  size_t at = p->n_heap++;
  while (at > 0 && better(p, entry, p->heap[(at - 1) / 2])) {
    p->heap[at] = p->heap[(at - 1) / 2];
    at = (at - 1) / 2;
  }
  p->heap[at] = entry;
  return CLATTN_OK;
}

static pair_best heap_pop(bpe_pairs *p) {
  const pair_best top = p->heap[0], last = p->heap[--p->n_heap];
  size_t at = 0;
  for (;;) {
    size_t child = 2 * at + 1;
    if (child >= p->n_heap) break;
    if (child + 1 < p->n_heap && better(p, p->heap[child + 1], p->heap[child]))
      child++;
    if (!better(p, p->heap[child], last)) break;
    p->heap[at] = p->heap[child];
    at = child;
  }
  p->heap[at] = last;
  return top;
}

/* What has become more frequent is offered by its new count. */
static clattn_status offer_touched(bpe_pairs *p) {
  for (size_t i = 0; i < p->n_touched; i++) {
    pair_places *places = &p->pairs[p->touched[i]];
    places->touched = false;
    if (places->count > 0)
      KIT_TRY(heap_push(p, (pair_best){places->count, p->touched[i]}));
  }
  p->n_touched = 0;
  return CLATTN_OK;
}

/* ---- words and merges ---------------------------------------------------- */

clattn_status bpe_pairs_word(bpe_pairs *p, const int32_t *symbols, size_t n,
                             int64_t weight) {
  const int32_t first = p->n;
  for (size_t i = 0; i < n; i++, p->n++) {
    p->symbol[p->n] = symbols[i];
    p->weight[p->n] = weight;
    p->before[p->n] = i > 0 ? p->n - 1 : -1;
    p->next[p->n] = i + 1 < n ? p->n + 1 : -1;
  }
  for (int32_t at = first; at + 1 < p->n; at++) KIT_TRY(add_place(p, at));
  return CLATTN_OK;
}

clattn_status bpe_pairs_best(bpe_pairs *p, int32_t *left, int32_t *right,
                             int64_t *count) {
  KIT_TRY(offer_touched(p));
  *count = 0;
  while (p->n_heap > 0) {
    const pair_best top = heap_pop(p);
    const pair_places *places = &p->pairs[top.pair];
    if (places->count <= 0) continue;
    if (places->count < top.count) { /* out of date */
      KIT_TRY(heap_push(p, (pair_best){places->count, top.pair}));
      continue;
    }
    *left = places->left;
    *right = places->right;
    *count = places->count;
    break;
  }
  return CLATTN_OK;
}

static int by_place(const void *a, const void *b) {
  const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
  return (x > y) - (x < y);
}

static clattn_status merge_at(bpe_pairs *p, int32_t at, int32_t symbol) {
  const int32_t right = p->next[at];
  const int32_t before = p->before[at], behind = p->next[right];
  if (before >= 0) KIT_TRY(take_place(p, before));
  if (behind >= 0) KIT_TRY(take_place(p, right));
  p->symbol[at] = symbol;
  p->symbol[right] = -1;
  p->next[at] = behind;
  if (behind >= 0) p->before[behind] = at;
  if (before >= 0) KIT_TRY(add_place(p, before));
  return behind >= 0 ? add_place(p, at) : CLATTN_OK;
}

clattn_status bpe_pairs_merge(bpe_pairs *p, int32_t left, int32_t right,
                              int32_t symbol) {
  int32_t pair;
  KIT_TRY(pair_of(p, left, right, &pair));
  /* The list is taken away: merging may add to it, or move all of them. */
  int32_t *at = p->pairs[pair].at;
  const uint32_t n = p->pairs[pair].n;
  p->pairs[pair].at = NULL;
  p->pairs[pair].n = p->pairs[pair].room = 0;
  /* Places overlap where a symbol follows itself: then their order matters. */
  if (left == right) qsort(at, n, sizeof *at, by_place);
  clattn_status status = CLATTN_OK;
  for (uint32_t i = 0; i < n && status == CLATTN_OK; i++)
    if (p->symbol[at[i]] == left && p->next[at[i]] >= 0 &&
        p->symbol[p->next[at[i]]] == right)
      status = merge_at(p, at[i], symbol);
  free(at);
  p->pairs[pair].count = 0;
  return status;
}
