/* Multi-head attention twice: the naive form, one small attention a head whose
 * results are concatenated, and the weight-split form, where one projection
 * holds all heads and a head is a stride. They give the same numbers. */
#include <math.h>

#include "check.h"

enum { S = 6, E = 12, H = 3, D = E / H };

static clattn_context *context;
static clattn_queue *queue;

static clattn_buffer *upload(const float *x, size_t bytes) {
  clattn_buffer *buffer;
  CHECK(clattn_buffer_create(context, CLATTN_DEFAULT_DEVICE, bytes, &buffer));
  if (x) CHECK(clattn_buffer_write(queue, buffer, 0, x, bytes));
  return buffer;
}

static clattn_plan *make_plan(int heads) {
  clattn_plan *plan;
  clattn_desc desc;
  clattn_desc_init(&desc);
  desc.q_heads = desc.kv_heads = heads;
  desc.qk_dim = desc.v_dim = D;
  desc.causal = true;
  CHECK(clattn_plan_create(context, CLATTN_DEFAULT_DEVICE, &desc, &plan));
  return plan;
}

int main(void) {
  static float x[S][E], w[3][E][E]; /* query, key, value; (out, in) */
  static float naive[S][E], split[S][E];
  fill(&x[0][0], S * E, 1);
  fill(&w[0][0][0], 3 * E * E, 2);

  CHECK(clattn_context_create(NULL, &context));
  CHECK(clattn_queue_create(context, CLATTN_DEFAULT_DEVICE, &queue));
  clattn_buffer *bx = upload(&x[0][0], sizeof x);
  clattn_buffer *bw = upload(&w[0][0][0], sizeof w);
  clattn_buffer *by = upload(NULL, 3 * sizeof x); /* q, k, v */
  clattn_buffer *bo = upload(NULL, sizeof x);
  clattn_tensor tx = clattn_view_bhsd(bx, CLATTN_F32, 1, 1, S, E);
  clattn_args args;

  /* Naive: head h has projections of its own, (D, E) each, and its own call. */
  clattn_plan *one = make_plan(1);
  for (int h = 0; h < H; h++) {
    clattn_args_init(&args);
    clattn_tensor *const qkv[3] = {&args.q, &args.k, &args.v};
    for (int i = 0; i < 3; i++) {
      clattn_tensor tw = clattn_view_bhsd(bw, CLATTN_F32, 1, 1, D, E);
      tw.offset = (i * E + h * D) * E;
      *qkv[i] = clattn_view_bhsd(by, CLATTN_F32, 1, 1, S, D);
      qkv[i]->offset = i * S * E;
      CHECK(clattn_linear(queue, &tx, &tw, NULL, qkv[i], NULL, 0, NULL));
    }
    args.out = clattn_view_bhsd(bo, CLATTN_F32, 1, 1, S, D);
    args.out.stride[2] = E; /* concatenated: columns h*D .. (h+1)*D */
    args.out.offset = h * D;
    CHECK(clattn_execute(one, queue, &args, NULL, NULL, 0, NULL));
    CHECK(clattn_queue_finish(queue));
  }
  CHECK(clattn_buffer_read(queue, bo, 0, naive, sizeof naive));

  /* Split: one product for all heads, then one call. */
  clattn_plan *all = make_plan(H);
  clattn_args_init(&args);
  clattn_tensor *const qkv[3] = {&args.q, &args.k, &args.v};
  for (int i = 0; i < 3; i++) {
    clattn_tensor tw = clattn_view_bhsd(bw, CLATTN_F32, 1, 1, E, E);
    clattn_tensor ty = clattn_view_bhsd(by, CLATTN_F32, 1, 1, S, E);
    tw.offset = i * E * E;
    ty.offset = i * S * E;
    CHECK(clattn_linear(queue, &tx, &tw, NULL, &ty, NULL, 0, NULL));
    *qkv[i] = clattn_view_bshd(by, CLATTN_F32, 1, H, S, D); /* same memory */
    qkv[i]->offset = ty.offset;
  }
  args.out = clattn_view_bshd(bo, CLATTN_F32, 1, H, S, D);
  CHECK(clattn_execute(all, queue, &args, NULL, NULL, 0, NULL));
  CHECK(clattn_buffer_read(queue, bo, 0, split, sizeof split));

  float worst = 0;
  for (int i = 0; i < S * E; i++)
    worst = fmaxf(worst, fabsf((&naive[0][0])[i] - (&split[0][0])[i]));
  printf("%d heads, one by one and at once: largest difference %g\n", H, worst);

  clattn_plan_destroy(one), clattn_plan_destroy(all);
  clattn_buffer_destroy(bx), clattn_buffer_destroy(bw);
  clattn_buffer_destroy(by), clattn_buffer_destroy(bo);
  clattn_queue_destroy(queue);
  clattn_context_destroy(context);
  return worst < 1e-5f ? 0 : 1;
}
