/* Decoding: a prompt at once, then token by token, over a KV cache. The plan
 * is made once: it serves the prompt and every length after it. */
#include <math.h>

#include "check.h"

enum { HQ = 8, HK = 2, D = 32, PROMPT = 10, TOKENS = 16 };

static clattn_context *context;
static clattn_queue *queue;
static clattn_plan *plan;

static clattn_buffer *upload(const float *x, size_t bytes) {
  clattn_buffer *buffer;
  CHECK(clattn_buffer_create(context, CLATTN_DEFAULT_DEVICE, bytes, &buffer));
  CHECK(clattn_buffer_write(queue, buffer, 0, x, bytes));
  return buffer;
}

int main(void) {
  static float q[TOKENS][HQ][D], k[TOKENS][HK][D], v[TOKENS][HK][D];
  static float decoded[TOKENS][HQ][D], whole[TOKENS][HQ][D];
  fill(&q[0][0][0], sizeof q / sizeof(float), 1);
  fill(&k[0][0][0], sizeof k / sizeof(float), 2);
  fill(&v[0][0][0], sizeof v / sizeof(float), 3);

  CHECK(clattn_context_create(NULL, &context));
  CHECK(clattn_queue_create(context, CLATTN_DEFAULT_DEVICE, &queue));
  clattn_buffer *bq = upload(&q[0][0][0], sizeof q);
  clattn_buffer *bk = upload(&k[0][0][0], sizeof k);
  clattn_buffer *bv = upload(&v[0][0][0], sizeof v);
  clattn_buffer *bo = upload(&decoded[0][0][0], sizeof decoded);
  clattn_tensor tq = clattn_view_bshd(bq, CLATTN_F32, 1, HQ, TOKENS, D);
  clattn_tensor tk = clattn_view_bshd(bk, CLATTN_F32, 1, HK, TOKENS, D);
  clattn_tensor tv = clattn_view_bshd(bv, CLATTN_F32, 1, HK, TOKENS, D);
  clattn_tensor to = clattn_view_bshd(bo, CLATTN_F32, 1, HQ, TOKENS, D);

  clattn_desc desc;
  clattn_desc_init(&desc);
  desc.q_heads = HQ, desc.kv_heads = HK, desc.qk_dim = desc.v_dim = D;
  desc.causal = true;
  CHECK(clattn_plan_create(context, CLATTN_DEFAULT_DEVICE, &desc, &plan));

  clattn_kv_cache_config config;
  clattn_kv_cache *cache;
  clattn_kv_cache_config_init(&config);
  config.batch = 1, config.kv_heads = HK, config.capacity = TOKENS;
  config.qk_dim = config.v_dim = D;
  CHECK(
      clattn_kv_cache_create(context, CLATTN_DEFAULT_DEVICE, &config, &cache));

  for (int at = 0, n = PROMPT; at < TOKENS; at += n, n = 1) {
    clattn_tensor new_k = tk, new_v = tv;
    new_k.extent[2] = new_v.extent[2] = n;
    new_k.offset = new_v.offset = (int64_t)at * HK * D;
    CHECK(clattn_kv_cache_append(cache, queue, &new_k, &new_v, NULL, NULL, 0,
                                 NULL));
    clattn_args args; /* the default position: the last query sees all keys */
    clattn_args_init(&args);
    CHECK(clattn_kv_cache_view(cache, &args.k, &args.v, &args.kv_lengths));
    args.q = tq, args.out = to;
    args.q.extent[2] = args.out.extent[2] = n;
    args.q.offset = args.out.offset = (int64_t)at * HQ * D;
    CHECK(clattn_execute(plan, queue, &args, NULL, NULL, 0, NULL));
    printf("%2d new token%s, %2lld in the cache\n", n, n == 1 ? " " : "s",
           (long long)clattn_kv_cache_length(cache, 0));
  }
  CHECK(clattn_buffer_read(queue, bo, 0, decoded, sizeof decoded));

  /* The same at once, without a cache. */
  clattn_args args;
  clattn_args_init(&args);
  args.q = tq, args.k = tk, args.v = tv, args.out = to;
  CHECK(clattn_execute(plan, queue, &args, NULL, NULL, 0, NULL));
  CHECK(clattn_buffer_read(queue, bo, 0, whole, sizeof whole));
  float worst = 0;
  for (int i = 0; i < TOKENS * HQ * D; i++)
    worst = fmaxf(worst, fabsf((&whole[0][0][0])[i] - (&decoded[0][0][0])[i]));
  printf("largest difference to attention over all tokens at once: %g\n",
         worst);

  clattn_kv_cache_destroy(cache);
  clattn_plan_destroy(plan);
  clattn_buffer_destroy(bq), clattn_buffer_destroy(bk);
  clattn_buffer_destroy(bv), clattn_buffer_destroy(bo);
  clattn_queue_destroy(queue);
  clattn_context_destroy(context);
  return worst < 1e-5f ? 0 : 1;
}
