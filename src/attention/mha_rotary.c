/* mha_rotary.c - rotary embedding inside the layer: which rows of the tables. */
#include <inttypes.h>

#include "mha.h"

clattn_status clt_mha_check_rotary(clt_device *device,
                                   const clattn_mha_config *c) {
  const clattn_tensor *cosines = &c->rotary_cos, *sines = &c->rotary_sin;
  if (!cosines->buffer && !sines->buffer) return CLATTN_OK;
  clt_want want = {.name = "config->rotary_cos",
                   .dtypes = 1u << CLATTN_F32,
                   .extent = {1, 1, CLT_ANY_EXTENT, CLT_ANY_EXTENT}};
  CLT_TRY(clt_tensor_check(device, cosines, &want));
  CLT_REQUIRE(cosines->extent[2] < CLT_MAX_LENGTH,
              "config->rotary_cos: extent[2] is %" PRId64 ", want < 2^30",
              cosines->extent[2]);
  CLT_REQUIRE(cosines->extent[3] <= c->head_dim / 2,
              "config->rotary_cos: extent[3] is %" PRId64
              ", want at most half of head_dim (%" PRId64 ")",
              cosines->extent[3], c->head_dim);
  want.name = "config->rotary_sin";
  want.extent[2] = cosines->extent[2];
  want.extent[3] = cosines->extent[3];
  CLT_TRY(clt_tensor_check(device, sines, &want));
  return clt_guard_kernel(device, CLT_K_ROTARY);
}

/* Rows that the cache holds, the same in every entry; -1: they differ. */
static int64_t rows_held(const clattn_kv_cache *cache) {
  if (!cache) return 0;
  for (int64_t b = 1; b < cache->config.batch; b++)
    if (cache->lengths[b] != cache->lengths[0]) return -1;
  return cache->lengths[0];
}

/* The rows first .. first + n - 1 lie inside the tables. */
static clattn_status check_rows(const clattn_mha *mha, const char *what,
                                int64_t first, int64_t n) {
  const int64_t rows = mha->config.rotary_cos.extent[2];
  CLT_REQUIRE(first >= 0 && n <= rows && first <= rows - n,
              "%s are at positions %" PRId64 "..%" PRId64
              ", want them inside the %" PRId64 " rows of config->rotary_cos",
              what, first, first + n - 1, rows);
  return CLATTN_OK;
}

static clattn_status check_positions(const clattn_mha *mha,
                                     const clattn_tensor *positions,
                                     const char *name, const clattn_tensor *x) {
  const clt_want want = {.name = name,
                         .dtypes = CLT_INTS,
                         .extent = {1, 1, x->extent[0], x->extent[2]},
                         .broadcast = {false, false, true, false},
                         .optional = true};
  return clt_tensor_check(mha->device, positions, &want);
}

/* *first: position of query 0, where no tensor tells it. */
static clattn_status first_query(const clattn_mha *mha,
                                 const clattn_mha_args *args, int64_t held,
                                 int64_t L, int64_t S, int64_t *first) {
  CLT_REQUIRE(!args->q_starts.buffer,
              "args->q_positions: absent, want the rows of rotary_cos for each "
              "query, as args->q_starts is given");
  if (args->q_start != CLATTN_AT_END) {
    *first = args->q_start;
    CLT_REQUIRE(*first < CLT_MAX_LENGTH,
                "args->q_start: got %" PRId64 ", want < 2^30", *first);
  } else {
    CLT_REQUIRE(!args->kv_lengths.buffer,
                "args->q_positions: absent, want the rows of rotary_cos for "
                "each query (or a q_start), as args->kv_lengths is given");
    CLT_REQUIRE(held >= 0,
                "args->q_positions: absent, want the rows of rotary_cos for "
                "each query, as the cache's entries differ in length");
    *first = held + S - L;
  }
  return check_rows(mha, "args->query: its rows", *first, L);
}

clattn_status clt_mha_add_rotary(const clattn_mha *mha, clt_work *work,
                                 const clattn_mha_args *args,
                                 const clattn_tensor *q, const clattn_tensor *k,
                                 bool inverse) {
  const clattn_mha_config *c = &mha->config;
  const int64_t L = q->extent[2], S = k->extent[2];
  const int64_t held = rows_held(args->cache);
  if (!c->rotary_cos.buffer) {
    CLT_REQUIRE(!args->q_positions.buffer && !args->k_positions.buffer,
                "args->%s: given, but the layer has no rotary_cos",
                args->q_positions.buffer ? "q_positions" : "k_positions");
    return CLATTN_OK;
  }
  CLT_TRY(check_positions(mha, &args->q_positions, "args->q_positions", q));
  CLT_TRY(check_positions(mha, &args->k_positions, "args->k_positions", k));
  clattn_rotary_args r;
  clattn_rotary_args_init(&r);
  r.cos = c->rotary_cos;
  r.sin = c->rotary_sin;
  r.rotary_dim = 2 * c->rotary_cos.extent[3];
  r.interleaved = c->rotary_interleaved;
  r.inverse = inverse;

  r.x = r.out = *q;
  r.position_ids = args->q_positions;
  if (!r.position_ids.buffer)
    CLT_TRY(first_query(mha, args, held, L, S, &r.position_start));
  clattn_rotary_args of_keys = r;
  of_keys.x = of_keys.out = *k;
  of_keys.position_ids = args->k_positions;
  of_keys.position_start = -1;
  if (!of_keys.position_ids.buffer) {
    CLT_REQUIRE(held >= 0,
                "args->k_positions: absent, want the rows of rotary_cos for "
                "each key, as the cache's entries differ in length");
    CLT_TRY(check_rows(mha, "args->key: its rows", held, S));
    of_keys.position_start = held;
  }
  clt_rotary_add(work, &r);
  clt_rotary_add(work, &of_keys);
  return work->status;
}
