/* mha_statistics.c - what the weights of the layer's last forward say. */
#include <inttypes.h>

#include "mha.h"

clattn_status clt_mha_check_saved(const clattn_mha *mha,
                                  const clt_mha_inputs *in) {
  const clt_mha_saved *s = &mha->saved;
  CLT_REQUIRE(in->B == s->B && in->L == s->L && in->S == s->S,
              "args->query: got batch %" PRId64 ", %" PRId64
              " rows and %" PRId64
              " keys, want those of the last forward: %" PRId64 ", %" PRId64
              ", %" PRId64,
              in->B, in->L, in->S, s->B, s->L, s->S);
  return CLATTN_OK;
}

static clattn_status add_statistics(clattn_mha *mha, clt_work *work,
                                    const clattn_mha_args *args,
                                    const clt_mha_inputs *in,
                                    const clattn_stats *stats) {
  clt_mha_middle m;
  clattn_args a;
  CLT_TRY(clt_mha_lay_out(mha, in, mha->config.attention.dtype, &mha->workspace,
                          &m));
  clt_mha_attention_args(mha, args, &m, &a);
  if (args->cache)
    clt_kv_cache_views(args->cache, args->cache->lengths, &a.k, NULL,
                       &a.kv_lengths);
  CLT_REQUIRE(a.k.extent[2] == mha->saved.T,
              "args->cache: holds %" PRId64 " rows, want the %" PRId64
              " of the last forward",
              a.k.extent[2], mha->saved.T);
  CLT_TRY(clt_mha_check_masks(mha, args, in->B, in->L, mha->saved.T));
  return clt_statistics_add(mha->plan, work, &a, stats);
}

clattn_status clattn_mha_statistics(clattn_mha *mha, clattn_queue *queue,
                                    const clattn_mha_args *args,
                                    const clattn_stats *stats,
                                    clattn_event *const *wait, size_t n_wait,
                                    clattn_event **event) {
  if (event) *event = NULL;
  CLT_TRY(clt_mha_check_call(mha, queue, wait, n_wait));
  CLT_REQUIRE(mha->config.statistics,
              "mha: its config has statistics false, want true");
  clt_mha_inputs in;
  CLT_TRY(clt_mha_check_inputs(mha, args, &in));
  CLT_REQUIRE(mha->saved.B != 0,
              "mha: statistics follow a forward, there was none");
  CLT_REQUIRE(args->cache == mha->saved.cache,
              "args->cache: got %s, want what the last forward had",
              args->cache ? "another one" : "NULL");
  CLT_TRY(clt_mha_check_saved(mha, &in));
  clt_work work;
  clt_work_init(&work, mha->device);
  clattn_status status = add_statistics(mha, &work, args, &in, stats);
  if (status == CLATTN_OK)
    status = clt_mha_submit(mha, queue, &work, wait, n_wait, event);
  clt_work_free(&work);
  return status;
}
