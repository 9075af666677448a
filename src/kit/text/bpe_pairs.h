/* bpe_pairs.h - neighbours in a text of symbols: how often, where, and which
 * are the most frequent, while some of them merge. */
#ifndef CLATTN_SRC_KIT_BPE_PAIRS_H
#define CLATTN_SRC_KIT_BPE_PAIRS_H

#include "kit/kit.h"

typedef struct pair_places {
  int32_t left, right;
  int64_t count; /* of all words, each as often as it is there */
  int32_t *at;   /* [n] symbols that began such a pair once */
  uint32_t n, room;
  bool touched; /* is in `touched` below */
} pair_places;

typedef struct pair_best {
  int64_t count;
  int32_t pair;
} pair_best;

/* Words one after the other, each symbol linked to its neighbours. */
typedef struct bpe_pairs {
  int32_t *symbol, *before, *next; /* [n]; -1: gone, none */
  int64_t *weight;                 /* [n] how often its word is there */
  int32_t n;
  pair_places *pairs; /* [n_pairs] */
  int32_t n_pairs, pairs_room;
  int32_t *slots; /* [mask + 1] hash table of pairs; -1: empty */
  size_t mask;
  pair_best *heap; /* [n_heap] some counts are out of date: too large */
  size_t n_heap, heap_room;
  int32_t *touched; /* [n_touched] pairs that have become more frequent */
  size_t n_touched, touched_room;
} bpe_pairs;

/* Room for n symbols. */
clattn_status bpe_pairs_init(bpe_pairs *p, int32_t n);
void bpe_pairs_free(bpe_pairs *p);
/* A word, by its first symbols, that is there `weight` times. */
clattn_status bpe_pairs_word(bpe_pairs *p, const int32_t *symbols, size_t n,
                             int64_t weight);
/* The most frequent pair, of equals that of the smaller symbols; its count is 0
 * when there is none. */
clattn_status bpe_pairs_best(bpe_pairs *p, int32_t *left, int32_t *right,
                             int64_t *count);
/* Makes one symbol of that pair wherever it is, from the left. */
clattn_status bpe_pairs_merge(bpe_pairs *p, int32_t left, int32_t right,
                              int32_t symbol);

#endif
