/* bpe.c - byte pair encoding of one piece (Sennrich et al. 2016): of all
 * neighbours that the vocabulary can merge, those of the lowest rank first, and
 * of equal ones the leftmost, until none is left. */
#include <stdlib.h>
#include <string.h>

#include "tokenizer.h"

/* A piece of up to so many bytes is looked through for its lowest rank again
 * and again; a longer one keeps its ranks in a heap, or time were quadratic. */
enum { SHORT = 96, NO_RANK = INT32_MAX };

/* ---- which pairs merge --------------------------------------------------- */

static size_t slot_of(const bpe_model *bpe, uint64_t key) {
  uint64_t h = key * 0x9e3779b97f4a7c15u;
  size_t at = (size_t)(h ^ h >> 32) & bpe->mask;
  while (bpe->slots[at].key != key && bpe->slots[at].key != BPE_NO_PAIR)
    at = (at + 1) & bpe->mask;
  return at;
}

static clattn_status grow(bpe_model *bpe) {
  bpe_pair *old = bpe->slots;
  const size_t n = old ? bpe->mask + 1 : 0;
  const size_t larger = n > 0 ? 2 * n : 1024;
  bpe_pair *slots = malloc(larger * sizeof *slots);
  if (slots == NULL) return KIT_OUT_OF_MEMORY("merges");
  for (size_t i = 0; i < larger; i++) slots[i].key = BPE_NO_PAIR;
  bpe->slots = slots;
  bpe->mask = larger - 1;
  for (size_t i = 0; i < n; i++)
    if (old[i].key != BPE_NO_PAIR) slots[slot_of(bpe, old[i].key)] = old[i];
  free(old);
  return CLATTN_OK;
}

static uint64_t key_of(int32_t left, int32_t right) {
  return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

clattn_status bpe_add_pair(bpe_model *bpe, int32_t left, int32_t right,
                           int32_t rank, int32_t id, bool *added) {
  if (bpe->slots == NULL || (size_t)bpe->n_pairs * 2 > bpe->mask)
    KIT_TRY(grow(bpe));
  bpe_pair *slot = &bpe->slots[slot_of(bpe, key_of(left, right))];
  *added = slot->key == BPE_NO_PAIR;
  if (*added) {
    *slot = (bpe_pair){key_of(left, right), rank, id};
    bpe->n_pairs++;
  }
  return CLATTN_OK;
}

/* The rank of two neighbours and what they become; NO_RANK: they stay. */
static inline int32_t rank_of(const bpe_model *bpe, int32_t left, int32_t right,
                              int32_t *id) {
  if (bpe->slots == NULL) return NO_RANK;
  const bpe_pair *slot = &bpe->slots[slot_of(bpe, key_of(left, right))];
  if (slot->key == BPE_NO_PAIR) return NO_RANK;
  *id = slot->id;
  return slot->rank;
}

/* ---- merging ------------------------------------------------------------- */

/* A part of a piece: a token, the piece's byte it begins at, and how it merges
 * with the next one. */
typedef struct part {
  int32_t id, rank, merged;
  uint32_t begin;
} part;

/* The piece's bytes as tokens; the number of parts. Bytes that the vocabulary
 * does not have are unknown, or in a row one unknown. */
static clattn_status first_parts(const clattn_tokenizer *t, const char *piece,
                                 size_t bytes, int64_t place, part *parts,
                                 size_t *n) {
  *n = 0;
  for (size_t i = 0; i < bytes; i++) {
    int32_t id = t->bpe.byte_id[(unsigned char)piece[i]];
    if (id < 0) {
      id = t->unknown;
      KIT_REQUIRE(id >= 0,
                  "text: the byte 0x%02x at byte %lld is not in the vocabulary",
                  (unsigned)(unsigned char)piece[i],
                  (long long)(place + (int64_t)i));
      if (t->bpe.fuse_unknown && *n > 0 && parts[*n - 1].id == id) continue;
    }
    parts[(*n)++] = (part){.id = id, .begin = (uint32_t)i};
  }
  return CLATTN_OK;
}

/* Merges parts [n] in place; returns how many are left. */
static size_t merge_short(const bpe_model *bpe, part *parts, size_t n) {
  for (size_t i = 0; i + 1 < n; i++)
    parts[i].rank =
        rank_of(bpe, parts[i].id, parts[i + 1].id, &parts[i].merged);
  while (n > 1) {
    size_t lowest = 0;
    for (size_t i = 1; i + 1 < n; i++)
      if (parts[i].rank < parts[lowest].rank) lowest = i;
    if (parts[lowest].rank == NO_RANK) break;
    part *at = &parts[lowest];
    at->id = at->merged;
    n--;
    memmove(at + 1, at + 2, (n - lowest - 1) * sizeof *at);
    if (lowest + 1 < n) at->rank = rank_of(bpe, at->id, at[1].id, &at->merged);
    if (lowest > 0)
      at[-1].rank = rank_of(bpe, at[-1].id, at->id, &at[-1].merged);
  }
  return n;
}

/* A long piece: its parts are linked, and what may merge is in a heap whose
 * entries are looked at again when they come up. */
typedef struct candidate {
  int32_t rank;
  uint32_t left;
  int32_t left_id, right_id;
} candidate;

typedef struct long_piece {
  part *parts;
  uint32_t *before, *next; /* [n]; n: none */
  candidate *heap;         /* [3 n] at most: n - 1, and 2 for every merge */
  size_t n, n_heap;
} long_piece;

static bool earlier(candidate a, candidate b) {
  return a.rank != b.rank ? a.rank < b.rank : a.left < b.left;
}

static void heap_push(long_piece *p, candidate entry) {
  size_t at = p->n_heap++;
  while (at > 0 && earlier(entry, p->heap[(at - 1) / 2])) {
    p->heap[at] = p->heap[(at - 1) / 2];
    at = (at - 1) / 2;
  }
  p->heap[at] = entry;
}

static candidate heap_pop(long_piece *p) {
  const candidate top = p->heap[0], last = p->heap[--p->n_heap];
  size_t at = 0;
  for (;;) {
    size_t child = 2 * at + 1;
    if (child >= p->n_heap) break;
    if (child + 1 < p->n_heap && earlier(p->heap[child + 1], p->heap[child]))
      child++;
    if (!earlier(p->heap[child], last)) break;
    p->heap[at] = p->heap[child];
    at = child;
  }
  p->heap[at] = last;
  return top;
}

static void consider(const bpe_model *bpe, long_piece *p, size_t left) {
  if (left >= p->n || p->next[left] >= p->n) return;
  part *at = &p->parts[left];
  const int32_t right_id = p->parts[p->next[left]].id;
  const int32_t rank = rank_of(bpe, at->id, right_id, &at->merged);
  if (rank != NO_RANK)
    heap_push(p, (candidate){rank, (uint32_t)left, at->id, right_id});
}

static size_t merge_long(const bpe_model *bpe, long_piece *p) {
  for (size_t i = 0; i < p->n; i++) {
    p->before[i] = (uint32_t)(i > 0 ? i - 1 : p->n);
    p->next[i] = (uint32_t)(i + 1);
  }
  for (size_t i = 0; i < p->n; i++) consider(bpe, p, i);
  while (p->n_heap > 0) {
    const candidate top = heap_pop(p);
    part *left = &p->parts[top.left];
    /* Stale: one of the two has merged since. A part that is gone has -1. */
    if (left->id != top.left_id) continue;
    const uint32_t right = p->next[top.left];
    if (right >= p->n || p->parts[right].id != top.right_id) continue;
    left->id = left->merged;
    p->parts[right].id = -1;
    p->next[top.left] = p->next[right];
    if (p->next[right] < p->n) p->before[p->next[right]] = top.left;
    consider(bpe, p, top.left);
    consider(bpe, p, p->before[top.left]);
  }
  size_t left = 0;
  for (size_t i = 0; i < p->n; i++)
    if (p->parts[i].id >= 0) p->parts[left++] = p->parts[i];
  return left;
}

/* The tokens of a piece, in e->work. */
static clattn_status merge(encoder *e, const char *piece, size_t bytes,
                           int64_t place, part **parts, size_t *n) {
  const clattn_tokenizer *t = e->tokenizer;
  const size_t each =
      sizeof(part) + 2 * sizeof(uint32_t) + 3 * sizeof(candidate);
  KIT_REQUIRE(bytes < INT32_MAX / 4 && bytes < SIZE_MAX / each,
              "text: a piece of %zu bytes at byte %lld is too long", bytes,
              (long long)place);
  KIT_TRY(
      encoder_work(e, bytes > SHORT ? bytes * each : SHORT * sizeof **parts));
  *parts = e->work;
  KIT_TRY(first_parts(t, piece, bytes, place, *parts, n));
  if (bytes <= SHORT) {
    *n = merge_short(&t->bpe, *parts, *n);
    return CLATTN_OK;
  }
  long_piece p = {.parts = *parts, .n = *n};
  p.heap = (candidate *)(p.parts + bytes);
  p.before = (uint32_t *)(p.heap + 3 * bytes);
  p.next = p.before + bytes;
  *n = merge_long(&t->bpe, &p);
  return CLATTN_OK;
}

clattn_status bpe_encode(encoder *e, const text_view *view, size_t begin,
                         size_t end) {
  const clattn_tokenizer *t = e->tokenizer;
  const char *piece = view->text + begin;
  const size_t bytes = end - begin;
  const int32_t whole = token_index_find(&t->bpe.pieces, &t->map, piece, bytes);
  if (whole >= 0)
    return token_put(&e->out, whole, view_place(view, begin),
                     view_place(view, end));
  part *parts;
  size_t n;
  KIT_TRY(merge(e, piece, bytes, view_place(view, begin), &parts, &n));
  for (size_t i = 0; i < n; i++)
    KIT_TRY(token_put(
        &e->out, parts[i].id, view_place(view, begin + parts[i].begin),
        view_place(view, begin + (i + 1 < n ? parts[i + 1].begin : bytes))));
  return CLATTN_OK;
}

/* ---- the vocabulary ------------------------------------------------------ */

/* Most pieces of a text are a token as they stand. Those that merging leads to
 * are found by looking them up; merges of hostile files may miss some. */
static clattn_status index_pieces(clattn_tokenizer *t, encoder *e) {
  for (int32_t id = 0; id < t->map.size; id++) {
    const kit_bytes token = token_map_at(&t->map, id);
    if (token.bytes == 0 ||
        token_index_find(&t->index, &t->map, token.text, token.bytes) != id)
      continue;
    bool reached = t->bpe.whole_first;
    if (!reached) {
      part *parts;
      size_t n;
      bool known = true; /* an unknown byte is an error only in a text */
      for (size_t i = 0; i < token.bytes; i++)
        known = known && t->bpe.byte_id[(unsigned char)token.text[i]] >= 0;
      if (!known) continue;
      KIT_TRY(merge(e, token.text, token.bytes, 0, &parts, &n));
      reached = n == 1 && parts[0].id == id;
    }
    int32_t there;
    if (reached) KIT_TRY(token_index_add(&t->bpe.pieces, &t->map, id, &there));
  }
  return CLATTN_OK;
}

clattn_status bpe_finish(clattn_tokenizer *t) {
  for (int i = 0; i < 256; i++) {
    const char byte = (char)i;
    t->bpe.byte_id[i] = token_index_find(&t->index, &t->map, &byte, 1);
  }
  encoder e = {.tokenizer = t};
  const clattn_status status = index_pieces(t, &e);
  free(e.work);
  return status;
}

void bpe_free(bpe_model *bpe) {
  free(bpe->slots);
  token_index_free(&bpe->pieces);
}
