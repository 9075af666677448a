/* seq2seq_search.c - translating: greedy, and by beam.
 *
 * The sequences of a beam are rows of one decoder call, [sources, beam], and share
 * their source's memory and KV cache. The cache is never reordered: each step
 * appends a key for every row, and a mask lets a row see those of its own
 * beginning alone. It may be any of the rows before that a sequence continues. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "seq2seq.h"

enum { MOST_ROWS = 256, MOST_BEAM = 1024 };

/* A sequence of a beam. */
typedef struct sequence {
  double log_prob, score;
  int64_t length; /* tokens, the end included */
  bool ended;
  int64_t parent; /* while candidates are collected: which one it continues, */
  int32_t token;  /* and by what; -1: by nothing */
} sequence;

struct seq2seq_room {
  int64_t batch, beam; /* what it has room for, and is for */
  int64_t capacity;    /* keys of a cache entry */
  seq2seq_passes passes;
  clattn_kv_cache **caches; /* [layers] */
  int64_t cached;           /* sources they are for */
  clattn_buffer *hidden;    /* BOOL [batch, beam, capacity] */
  /* On the host; of each source: */
  uint8_t *hides;         /* [batch, beam, capacity] */
  float *logits;          /* [batch, beam, V] */
  int32_t *ids;           /* [batch, beam] */
  int64_t *counts, *none; /* [batch]: sequences in its beam; zeros */
  sequence *beams, *next; /* [batch, beam]; [beam], the best first */
  /* Of each sequence its tokens and its keys, [batch, beam, max_target]. */
  int32_t *tokens, *keys;
  int32_t *next_tokens, *next_keys; /* [beam, max_target] */
};

void clattn_seq2seq_search_init(clattn_seq2seq_search *search) {
  if (search == NULL) return;
  *search = (clattn_seq2seq_search){.struct_size = sizeof *search, .beam = 1};
}

/* ---- memory -------------------------------------------------------------- */

static void destroy_caches(seq2seq_room *room) {
  for (int64_t l = 0;
       room->caches != NULL && l < room->passes.decoder->stack->layers; l++) {
    clattn_kv_cache_destroy(room->caches[l]);
    room->caches[l] = NULL;
  }
  room->cached = 0;
}

/* Empty ones, of so many sources: a cache has a fixed number of them. */
static clattn_status empty_caches(const clattn_seq2seq *model,
                                  clattn_queue *queue, int64_t batch) {
  const clattn_seq2seq_config *c = &model->config;
  seq2seq_room *room = model->room;
  if (room->cached != batch) destroy_caches(room);
  clattn_kv_cache_config config;
  clattn_kv_cache_config_init(&config);
  config.batch = batch;
  config.kv_heads = c->heads;
  config.capacity = room->capacity;
  config.qk_dim = config.v_dim = c->embed_dim / c->heads;
  for (int64_t l = 0; l < c->layers; l++) {
    if (room->cached == batch)
      KIT_TRY(clattn_kv_cache_truncate(room->caches[l], queue, room->none));
    else
      KIT_TRY(clattn_kv_cache_create(model->params.context,
                                     model->params.device, &config,
                                     &room->caches[l]));
  }
  room->cached = batch;
  return CLATTN_OK;
}

void seq2seq_room_destroy(seq2seq_room *room) {
  if (room == NULL) return;
  if (room->caches != NULL) destroy_caches(room);
  free(room->caches);
  seq2seq_passes_free(&room->passes);
  clattn_buffer_destroy(room->hidden);
  void *const parts[] = {room->hides,     room->logits, room->ids,
                         room->counts,    room->beams,  room->next,
                         room->tokens,    room->keys,   room->next_tokens,
                         room->next_keys, room->none};
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) free(parts[i]);
  free(room);
}

static clattn_status make_host(seq2seq_room *room,
                               const clattn_seq2seq_config *c) {
  const size_t rows = (size_t)(room->batch * room->beam);
  const size_t beam = (size_t)room->beam, T = (size_t)c->max_target;
  room->hides = malloc(rows * (size_t)room->capacity);
  room->logits = malloc(rows * (size_t)c->vocab_size * sizeof *room->logits);
  room->ids = calloc(rows, sizeof *room->ids);
  room->counts = calloc((size_t)room->batch, sizeof *room->counts);
  room->none = calloc((size_t)room->batch, sizeof *room->none);
  room->beams = calloc(rows, sizeof *room->beams);
  room->next = calloc(beam, sizeof *room->next);
  room->tokens = calloc(rows * T, sizeof *room->tokens);
  room->keys = calloc(rows * T, sizeof *room->keys);
  room->next_tokens = calloc(beam * T, sizeof *room->next_tokens);
  room->next_keys = calloc(beam * T, sizeof *room->next_keys);
  return room->hides && room->logits && room->ids && room->counts &&
                 room->beams && room->next && room->tokens && room->keys &&
                 room->next_tokens && room->next_keys
             ? CLATTN_OK
             : KIT_OUT_OF_MEMORY("beams");
}

static clattn_status make(const clattn_seq2seq *model, seq2seq_room *room) {
  const clattn_seq2seq_config *c = &model->config;
  const kit_params *params = &model->params;
  const kit_pass_config encoder = {
      .batch = room->batch, .length = c->max_source, .look = -1};
  const kit_pass_config decoder = {.batch = room->batch,
                                   .length = room->beam,
                                   .one_position = true,
                                   .look = -1};
  KIT_TRY(seq2seq_passes_make(model, &encoder, &decoder, &room->passes));
  room->caches = calloc((size_t)c->layers, sizeof(clattn_kv_cache *));
  if (room->caches == NULL) return KIT_OUT_OF_MEMORY("caches");
  KIT_TRY(clattn_buffer_create(
      params->context, params->device,
      (size_t)(room->batch * room->beam * room->capacity), &room->hidden));
  return make_host(room, c);
}

/* The model's own, made anew where it is of another beam or too small. */
static clattn_status prepare(clattn_seq2seq *model, int64_t batch,
                             int64_t beam) {
  seq2seq_room *room = model->room;
  if (room != NULL && room->beam == beam && room->batch >= batch)
    return CLATTN_OK;
  seq2seq_room_destroy(room);
  model->room = NULL;
  room = calloc(1, sizeof *room);
  if (room == NULL) return KIT_OUT_OF_MEMORY("beams");
  room->batch = batch;
  room->beam = beam;
  room->capacity = 1 + beam * (model->config.max_target - 1);
  const clattn_status status = make(model, room);
  if (status != CLATTN_OK) {
    seq2seq_room_destroy(room);
    return status;
  }
  model->room = room;
  return CLATTN_OK;
}

/* ---- the rows of a step -------------------------------------------------- */

/* The key that a row of a step appends: the first step has one row. */
static int64_t key_of(const seq2seq_room *room, int64_t step, int64_t row) {
  return step == 0 ? 0 : 1 + (step - 1) * room->beam + row;
}

/* Hides from each row [batch, rows, keys] what is not on its way. */
static clattn_status hide(seq2seq_room *room, clattn_queue *queue,
                          int64_t batch, int64_t step, int64_t rows,
                          int64_t max_target) {
  const int64_t keys = key_of(room, step, rows - 1) + 1;
  const size_t bytes = (size_t)(batch * rows * keys);
  memset(room->hides, 1, bytes);
  for (int64_t b = 0; b < batch; b++)
    for (int64_t i = 0; i < rows; i++) {
      uint8_t *row = room->hides + (b * rows + i) * keys;
      const int32_t *way = room->keys + (b * room->beam + i) * max_target;
      for (int64_t s = 0; s <= step; s++) row[way[s]] = 0;
    }
  KIT_TRY(clattn_buffer_write(queue, room->hidden, 0, room->hides, bytes));
  room->passes.decoder->hidden =
      clattn_view_bhsd(room->hidden, CLATTN_BOOL, batch, 1, rows, keys);
  return CLATTN_OK;
}

/* The logits behind each sequence, [batch, rows, V]; step tokens are written. */
static clattn_status read_step(clattn_seq2seq *model, clattn_queue *queue,
                               int64_t batch, int64_t step, int64_t rows) {
  const clattn_seq2seq_config *c = &model->config;
  seq2seq_room *room = model->room;
  kit_pass *decoder = room->passes.decoder;
  for (int64_t b = 0; b < batch; b++)
    for (int64_t i = 0; i < rows; i++) {
      const int64_t at = b * room->beam + i;
      const bool extends = i < room->counts[b] && !room->beams[at].ended;
      int32_t id = extends ? c->begin : c->end; /* of a row nobody asks */
      if (extends && step > 0) id = room->tokens[at * c->max_target + step - 1];
      room->ids[b * rows + i] = id;
      room->keys[at * c->max_target + step] = (int32_t)key_of(room, step, i);
    }
  KIT_TRY(kit_pass_begin(decoder, queue, room->ids, NULL, batch, rows));
  decoder->caches = room->caches;
  decoder->position = step;
  seq2seq_remember(&room->passes);
  if (room->beam > 1)
    KIT_TRY(hide(room, queue, batch, step, rows, c->max_target));
  KIT_TRY(kit_pass_layers(decoder, queue, c->layers));
  KIT_TRY(kit_pass_last(decoder, queue));
  return clattn_buffer_read(
      queue, decoder->acts[ACT_LOGITS], 0, room->logits,
      (size_t)(batch * rows * c->vocab_size) * sizeof *room->logits);
}

/* ---- choosing ------------------------------------------------------------ */

static double score_of(double log_prob, int64_t length, float alpha) {
  if (alpha == 0) return log_prob;
  return log_prob / pow((5 + (double)length) / 6, (double)alpha);
}

/* Among the best `beam`, the best first; of equal ones the earlier. */
static void consider(sequence *best, int64_t *n, int64_t beam,
                     const sequence *candidate) {
  if (*n == beam && candidate->score <= best[beam - 1].score) return;
  int64_t at = *n < beam ? (*n)++ : beam - 1;
  for (; at > 0 && candidate->score > best[at - 1].score; at--)
    best[at] = best[at - 1];
  best[at] = *candidate;
}

/* The logarithm of the sum of exponentials; not finite if a logit is not. */
static double log_sum(const float *logits, int64_t n) {
  double most = -INFINITY, sum = 0;
  for (int64_t v = 0; v < n; v++) {
    if (isnan(logits[v])) return NAN;
    if ((double)logits[v] > most) most = (double)logits[v];
  }
  for (int64_t v = 0; v < n; v++) sum += exp((double)logits[v] - most);
  return most + log(sum);
}

static clattn_status extend(const clattn_seq2seq_config *c, sequence from,
                            int64_t parent, const float *logits,
                            const clattn_seq2seq_search *search, sequence *best,
                            int64_t *n) {
  const double lse = log_sum(logits, c->vocab_size);
  if (!isfinite(lse))
    return clattn_set_error(CLATTN_INVALID_ARGUMENT,
                            "model: its logits behind token %lld are not "
                            "finite",
                            (long long)from.length);
  for (int64_t v = 0; v < c->vocab_size; v++) {
    if (v == c->pad || v == c->begin) continue;
    sequence next = from;
    next.log_prob += (double)logits[v] - lse;
    next.length++;
    next.score = score_of(next.log_prob, next.length, search->alpha);
    next.ended = v == c->end;
    next.parent = parent;
    next.token = (int32_t)v;
    consider(best, n, search->beam, &next);
  }
  return CLATTN_OK;
}

/* A source's beam after a step: its sequences, tokens and keys. */
static clattn_status choose(clattn_seq2seq *model, int64_t b, int64_t rows,
                            const clattn_seq2seq_search *search) {
  const clattn_seq2seq_config *c = &model->config;
  seq2seq_room *room = model->room;
  const size_t T = (size_t)c->max_target;
  sequence *beam = room->beams + b * room->beam;
  int32_t *tokens = room->tokens + (size_t)(b * room->beam) * T;
  int32_t *keys = room->keys + (size_t)(b * room->beam) * T;
  int64_t n = 0;
  for (int64_t i = 0; i < room->counts[b]; i++) {
    if (beam[i].ended) {
      sequence stays = beam[i];
      stays.parent = i;
      stays.token = -1;
      consider(room->next, &n, room->beam, &stays);
    } else {
      KIT_TRY(extend(c, beam[i], i,
                     room->logits + (b * rows + i) * c->vocab_size, search,
                     room->next, &n));
    }
  }
  for (int64_t i = 0; i < n; i++) {
    const sequence *next = &room->next[i];
    int32_t *to = room->next_tokens + (size_t)i * T;
    memcpy(to, tokens + (size_t)next->parent * T, T * sizeof *to);
    if (next->token >= 0) to[next->length - 1] = next->token;
    memcpy(room->next_keys + (size_t)i * T, keys + (size_t)next->parent * T,
           T * sizeof *keys);
  }
  memcpy(beam, room->next, (size_t)n * sizeof *beam);
  memcpy(tokens, room->next_tokens, (size_t)n * T * sizeof *tokens);
  memcpy(keys, room->next_keys, (size_t)n * T * sizeof *keys);
  room->counts[b] = n;
  return CLATTN_OK;
}

static bool all_ended(const seq2seq_room *room, int64_t batch) {
  for (int64_t b = 0; b < batch; b++)
    for (int64_t i = 0; i < room->counts[b]; i++)
      if (!room->beams[b * room->beam + i].ended) return false;
  return true;
}

/* ---- translating --------------------------------------------------------- */

/* As many sources as the room is for; targets [batch, max_target]. */
static clattn_status translate(clattn_seq2seq *model, clattn_queue *queue,
                               const int32_t *sources, int64_t S, int64_t batch,
                               const clattn_seq2seq_search *search,
                               int32_t *targets, float *scores) {
  const clattn_seq2seq_config *c = &model->config;
  seq2seq_room *room = model->room;
  KIT_TRY(seq2seq_begin(model, &room->passes, queue, sources, S, batch));
  KIT_TRY(seq2seq_encode(&room->passes, queue));
  KIT_TRY(empty_caches(model, queue, batch));
  const sequence empty = {0};
  for (int64_t b = 0; b < batch; b++) {
    room->counts[b] = 1;
    room->beams[b * room->beam] = empty;
  }
  for (int64_t step = 0; step < c->max_target && !all_ended(room, batch);
       step++) {
    const int64_t rows = step == 0 ? 1 : room->beam;
    KIT_TRY(read_step(model, queue, batch, step, rows));
    for (int64_t b = 0; b < batch; b++) KIT_TRY(choose(model, b, rows, search));
  }
  for (int64_t b = 0; b < batch; b++) {
    const sequence *best = &room->beams[b * room->beam];
    const int32_t *tokens = room->tokens + b * room->beam * c->max_target;
    for (int64_t i = 0; i < c->max_target; i++)
      targets[b * c->max_target + i] = i < best->length ? tokens[i] : c->pad;
    scores[b] = (float)best->score;
  }
  return CLATTN_OK;
}

static clattn_status check_search(const clattn_seq2seq_search *search) {
  KIT_REQUIRE_STRUCT(search, clattn_seq2seq_search);
  KIT_REQUIRE(search->beam >= 1 && search->beam <= MOST_BEAM,
              "search->beam: got %lld, want 1..%d", (long long)search->beam,
              MOST_BEAM);
  KIT_REQUIRE(isfinite(search->alpha) && search->alpha >= 0,
              "search->alpha: got %g, want >= 0", (double)search->alpha);
  return CLATTN_OK;
}

clattn_status clattn_seq2seq_translate(clattn_seq2seq *model,
                                       clattn_queue *queue,
                                       const int32_t *sources, int64_t S,
                                       int64_t batch,
                                       const clattn_seq2seq_search *search,
                                       int32_t *targets, float *scores) {
  KIT_REQUIRE(model != NULL, "model: got NULL, want a model");
  KIT_REQUIRE(queue != NULL, "queue: got NULL, want a queue");
  KIT_REQUIRE(targets != NULL, "targets: got NULL, want room");
  clattn_seq2seq_search defaults;
  clattn_seq2seq_search_init(&defaults);
  if (search == NULL) search = &defaults;
  KIT_TRY(check_search(search));
  const int64_t T = model->config.max_target;
  int64_t n;
  KIT_REQUIRE(batch >= 1 && !__builtin_mul_overflow(
                                batch, T * (int64_t)sizeof(float), &n),
              "batch: got %lld, want >= 1 and targets that fit in memory",
              (long long)batch);
  const int64_t most =
      MOST_ROWS / search->beam > 1 ? MOST_ROWS / search->beam : 1;
  /* Results go out when all are there. */
  int32_t *made = calloc((size_t)(batch * T), sizeof *made);
  float *found = calloc((size_t)batch, sizeof *found);
  clattn_status status =
      made == NULL || found == NULL
          ? KIT_OUT_OF_MEMORY("targets")
          : prepare(model, batch < most ? batch : most, search->beam);
  for (int64_t b = 0; status == CLATTN_OK && b < batch; b += most)
    status = translate(model, queue, sources + b * S, S,
                       batch - b < most ? batch - b : most, search,
                       made + b * T, found + b);
  if (status == CLATTN_OK) {
    memcpy(targets, made, (size_t)(batch * T) * sizeof *targets);
    if (scores != NULL) memcpy(scores, found, (size_t)batch * sizeof *scores);
  }
  free(made);
  free(found);
  return status;
}
