/* The general way: a queue, buffers, a plan made once, executed often.
 * Causal attention over packed QKV, as one projection leaves it. */
#include "check.h"

enum { B = 2, S = 128, H = 8, D = 64, CALLS = 3 };

int main(void) {
  static float qkv[B][S][3][H][D]; /* memory order; no copy is ever made */
  static float out[B][S][H][D];

  clattn_context *context;
  clattn_queue *queue;
  clattn_buffer *in_buffer, *out_buffer;
  CHECK(clattn_context_create(NULL, &context));
  CHECK(clattn_queue_create(context, CLATTN_DEFAULT_DEVICE, &queue));
  CHECK(clattn_buffer_create(context, CLATTN_DEFAULT_DEVICE, sizeof qkv,
                             &in_buffer));
  CHECK(clattn_buffer_create(context, CLATTN_DEFAULT_DEVICE, sizeof out,
                             &out_buffer));

  clattn_desc desc; /* what stays the same; lengths are not part of it */
  clattn_plan *plan;
  clattn_desc_init(&desc);
  desc.q_heads = desc.kv_heads = H;
  desc.qk_dim = desc.v_dim = D;
  desc.causal = true;
  CHECK(clattn_plan_create(context, CLATTN_DEFAULT_DEVICE, &desc, &plan));
  printf("%s", clattn_plan_info(plan));

  for (int call = 0; call < CALLS; call++) {
    fill(&qkv[0][0][0][0][0], sizeof qkv / sizeof(float), (unsigned)call);
    CHECK(clattn_buffer_write(queue, in_buffer, 0, qkv, sizeof qkv));

    /* Extents are [batch, head, row, dim]; strides say where they lie. */
    clattn_args args;
    clattn_args_init(&args);
    args.q = (clattn_tensor){.buffer = in_buffer,
                             .dtype = CLATTN_F32,
                             .extent = {B, H, S, D},
                             .stride = {S * 3 * H * D, D, 3 * H * D, 1}};
    args.k = args.v = args.q;
    args.k.offset = H * D;
    args.v.offset = 2 * H * D;
    args.out = clattn_view_bshd(out_buffer, CLATTN_F32, B, H, S, D);

    clattn_event *done;
    CHECK(clattn_execute(plan, queue, &args, NULL, NULL, 0, &done));
    CHECK(
        clattn_event_wait(done)); /* or give it to the next call's wait list */
    clattn_event_destroy(done);
    CHECK(clattn_buffer_read(queue, out_buffer, 0, out, sizeof out));
    printf("call %d: out[0][0] = %.4f, which is v[0][0] = %.4f\n", call,
           out[0][0][0][0], qkv[0][0][2][0][0]);
  }

  clattn_plan_destroy(plan);
  clattn_buffer_destroy(in_buffer);
  clattn_buffer_destroy(out_buffer);
  clattn_queue_destroy(queue);
  clattn_context_destroy(context);
  return 0;
}
