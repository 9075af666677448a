/* bpe_train.c - learns a byte-level BPE vocabulary (Sennrich et al. 2016). */
#include <stdlib.h>
#include <string.h>

#include "bpe_pairs.h"
#include "bytelevel.h"
#include "tokenizer.h"

static const char end_of_text[] = "<|endoftext|>";
static const char *const default_specials[] = {end_of_text};
enum { N_BYTES = 256, MERGES_A_REPORT = 64 };

void clattn_bpe_config_init(clattn_bpe_config *config) {
  if (config == NULL) return;
  *config = (clattn_bpe_config){.struct_size = sizeof *config,
                                .min_frequency = 2,
                                .specials = default_specials,
                                .n_specials = 1};
}

static clattn_status check(const clattn_bpe_config *config) {
  KIT_REQUIRE_STRUCT(config, clattn_bpe_config);
  KIT_REQUIRE(config->specials != NULL || config->n_specials == 0,
              "config->specials: got NULL, want %zu texts", config->n_specials);
  KIT_REQUIRE(config->n_specials < (size_t)TOKEN_LIMIT - N_BYTES,
              "config->n_specials: got %zu, want less than %ld",
              config->n_specials, (long)TOKEN_LIMIT - N_BYTES);
  for (size_t i = 0; i < config->n_specials; i++)
    KIT_REQUIRE(config->specials[i] != NULL && config->specials[i][0] != '\0',
                "config->specials[%zu]: got none, want a text", i);
  const int64_t least = N_BYTES + (int64_t)config->n_specials;
  KIT_REQUIRE(config->vocab_size >= least && config->vocab_size <= TOKEN_LIMIT,
              "config->vocab_size: got %ld, want %lld..%ld: the %d bytes, the "
              "special tokens, and merges",
              (long)config->vocab_size, (long long)least, (long)TOKEN_LIMIT,
              N_BYTES);
  KIT_REQUIRE(config->min_frequency >= 1,
              "config->min_frequency: got %lld, want >= 1",
              (long long)config->min_frequency);
  return CLATTN_OK;
}

/* ---- how often which pieces are there ------------------------------------ */

typedef struct piece_counts {
  token_map map;
  token_index index;
  int64_t *counts; /* [room] by the id in map */
  int32_t room;
  int64_t bytes; /* of all different pieces */
} piece_counts;

static clattn_status count_piece(void *user, const char *piece, size_t bytes) {
  piece_counts *to = user;
  int32_t id = token_index_find(&to->index, &to->map, piece, bytes);
  if (id >= 0) {
    to->counts[id]++;
    return CLATTN_OK;
  }
  id = to->map.size;
  if (id == TOKEN_LIMIT || to->bytes > INT32_MAX - (int64_t)bytes - 1)
    return clattn_set_error(CLATTN_UNSUPPORTED,
                            "text: more than %ld different pieces, or more "
                            "than %d bytes in them",
                            (long)TOKEN_LIMIT, INT32_MAX);
  if (id == to->room) {
    const int32_t room = to->room > 0 ? 2 * to->room : 1024;
    int64_t *counts = realloc(to->counts, (size_t)room * sizeof *counts);
    if (counts == NULL) return KIT_OUT_OF_MEMORY("pieces");
    to->counts = counts;
    to->room = room;
  }
  int32_t there;
  KIT_TRY(token_map_add(&to->map, id, piece, bytes));
  KIT_TRY(token_index_add(&to->index, &to->map, id, &there));
  to->counts[id] = 1;
  to->bytes += (int64_t)bytes;
  return CLATTN_OK;
}

static void counts_free(piece_counts *of) {
  token_map_free(&of->map);
  token_index_free(&of->index);
  free(of->counts);
}

static clattn_status no_tokens(void *user, const int32_t *ids, int64_t n) {
  (void)user, (void)ids, (void)n; /* pieces are counted, none is encoded */
  return CLATTN_OK;
}

static clattn_status count_file(const clattn_tokenizer *t, const char *path,
                                piece_counts *counts) {
  clattn_token_stream *stream = NULL;
  KIT_TRY(clattn_token_stream_create(t, NULL, no_tokens, NULL, &stream));
  token_stream_pieces(stream, count_piece, counts);
  const clattn_status status = token_stream_file(stream, path);
  clattn_token_stream_destroy(stream);
  return status;
}

/* ---- merges -------------------------------------------------------------- */

/* Words of bytes, which are the tokens 0..255. */
static clattn_status fill_pairs(const clattn_tokenizer *t,
                                const piece_counts *counts, bpe_pairs *pairs) {
  int32_t id_of[N_BYTES];
  for (int i = 0; i < N_BYTES; i++) {
    const char byte = (char)i;
    id_of[i] = token_index_find(&t->index, &t->map, &byte, 1);
  }
  KIT_TRY(bpe_pairs_init(pairs, (int32_t)counts->bytes));
  int32_t *symbols = NULL;
  size_t room = 0;
  clattn_status status = CLATTN_OK;
  for (int32_t i = 0; i < counts->map.size && status == CLATTN_OK; i++) {
    const kit_bytes piece = token_map_at(&counts->map, i);
    if (piece.bytes > room) {
      room = 2 * piece.bytes;
      free(symbols);
      symbols = malloc(room * sizeof *symbols);
      if (symbols == NULL) {
        status = KIT_OUT_OF_MEMORY("pieces");
        break;
      }
    }
    for (size_t j = 0; j < piece.bytes; j++)
      symbols[j] = id_of[(unsigned char)piece.text[j]];
    status = bpe_pairs_word(pairs, symbols, piece.bytes, counts->counts[i]);
  }
  free(symbols);
  return status;
}

/* The token that two become, which another merge may have made before. */
static clattn_status joined(clattn_tokenizer *t, int32_t left, int32_t right,
                            int32_t *id) {
  const kit_bytes a = token_map_at(&t->map, left);
  const kit_bytes b = token_map_at(&t->map, right);
  char *both = malloc(a.bytes + b.bytes);
  if (both == NULL) return KIT_OUT_OF_MEMORY("merges");
  memcpy(both, a.text, a.bytes);
  memcpy(both + a.bytes, b.text, b.bytes);
  *id = token_index_find(&t->index, &t->map, both, a.bytes + b.bytes);
  clattn_status status = CLATTN_OK;
  if (*id < 0) {
    *id = t->map.size;
    status = tokenizer_add(t, *id, both, a.bytes + b.bytes);
  }
  free(both);
  return status;
}

static clattn_status learn(clattn_tokenizer *t, bpe_pairs *pairs,
                           const clattn_bpe_config *config) {
  const int32_t wanted = config->vocab_size - (int32_t)config->n_specials;
  for (int32_t rank = 0; t->map.size < wanted; rank++) {
    int32_t left, right, id = -1;
    int64_t count;
    bool added;
    KIT_TRY(bpe_pairs_best(pairs, &left, &right, &count));
    if (count < config->min_frequency) break;
    KIT_TRY(joined(t, left, right, &id));
    KIT_TRY(bpe_add_pair(&t->bpe, left, right, rank, id, &added));
    KIT_TRY(bpe_pairs_merge(pairs, left, right, id));
    if (config->progress != NULL && rank % MERGES_A_REPORT == 0)
      config->progress(config->progress_user, t->map.size, config->vocab_size);
  }
  return CLATTN_OK;
}

/* ---- the whole ----------------------------------------------------------- */

static clattn_status build(clattn_tokenizer *t, const clattn_bpe_config *config,
                           const char *path) {
  unsigned char order[N_BYTES];
  bytelevel_order(order);
  for (int32_t i = 0; i < N_BYTES; i++)
    KIT_TRY(tokenizer_add(t, i, (const char *)&order[i], 1));
  KIT_TRY(split_add(t, "config->pattern",
                    config->pattern ? config->pattern : PATTERN_GPT2,
                    SPLIT_ISOLATED, false));
  t->streams = split_streams(t);
  piece_counts counts = {0};
  bpe_pairs pairs = {0};
  clattn_status status = count_file(t, path, &counts);
  if (status == CLATTN_OK) status = fill_pairs(t, &counts, &pairs);
  counts_free(&counts);
  if (status == CLATTN_OK) status = learn(t, &pairs, config);
  bpe_pairs_free(&pairs);
  if (status != CLATTN_OK) return status;
  for (size_t i = 0; i < config->n_specials; i++) {
    const added_token token = {.id = t->map.size, .special = true};
    KIT_TRY(tokenizer_add_added(t, config->specials[i],
                                strlen(config->specials[i]), &token));
  }
  return tokenizer_finish(t);
}

clattn_status clattn_tokenizer_train_bpe(const clattn_bpe_config *config,
                                         const char *path,
                                         clattn_tokenizer **tokenizer) {
  KIT_REQUIRE(tokenizer != NULL, "tokenizer: got NULL, want a place");
  *tokenizer = NULL;
  KIT_REQUIRE(path != NULL, "path: got NULL, want a text file's path");
  KIT_TRY(check(config));
  clattn_tokenizer *made = NULL;
  KIT_TRY(tokenizer_new(CLATTN_TOKENIZER_BPE, MODEL_BPE, &made));
  const clattn_status status = build(made, config, path);
  return tokenizer_hand_over(status, made, tokenizer);
}
