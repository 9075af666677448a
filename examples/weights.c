/* Attention weights: who looks at whom, when a mask hides a word. */
#include <stdio.h>

#include "check.h"

enum { HEADS = 2, WORDS = 5, DIM = 4, N = HEADS * WORDS * DIM };

int main(void) {
  clattn_context *context;
  clattn_queue *queue;
  clattn_plan *plan;
  int device;
  CHECK(clattn_context_create(NULL, &context));
  CHECK(clattn_device_find(context, NULL, &device));
  CHECK(clattn_queue_create(context, device, &queue));

  clattn_desc desc;
  clattn_desc_init(&desc);
  desc.q_heads = desc.kv_heads = HEADS;
  desc.qk_dim = desc.v_dim = DIM;
  desc.outputs = CLATTN_OUT_WEIGHTS;
  desc.average_weights = true; /* the mean over heads; false: one by one */
  CHECK(clattn_plan_create(context, device, &desc, &plan));

  /* One buffer: q, k, v, the output, the weights; and one for the mask. */
  float data[3 * N];
  const unsigned char attends[WORDS] = {1, 1, 0, 1, 1}; /* not the third word */
  clattn_buffer *numbers, *mask;
  fill(data, 3 * N, 7);
  const size_t bytes = (4 * N + WORDS * WORDS) * sizeof(float);
  CHECK(clattn_buffer_create(context, device, bytes, &numbers));
  CHECK(clattn_buffer_create(context, device, sizeof attends, &mask));
  CHECK(clattn_buffer_write(queue, numbers, 0, data, sizeof data));
  CHECK(clattn_buffer_write(queue, mask, 0, attends, sizeof attends));

  clattn_args args;
  clattn_args_init(&args);
  args.q = clattn_view_bhsd(numbers, CLATTN_F32, 1, HEADS, WORDS, DIM);
  args.k = args.v = args.out = args.q;
  args.k.offset = N, args.v.offset = 2 * N, args.out.offset = 3 * N;
  args.weights = clattn_view_bhsd(numbers, CLATTN_F32, 1, 1, WORDS, WORDS);
  args.weights.offset = 4 * N;
  args.key_mask = clattn_view_bhsd(mask, CLATTN_BOOL, 1, 1, 1, WORDS);
  CHECK(clattn_execute(plan, queue, &args, NULL, NULL, 0, NULL));

  float weights[WORDS][WORDS];
  CHECK(clattn_buffer_read(queue, numbers, 4 * N * sizeof(float), weights,
                           sizeof weights));
  for (int i = 0; i < WORDS; i++) {
    float sum = 0;
    for (int j = 0; j < WORDS; j++) {
      printf("%6.3f", (double)weights[i][j]);
      sum += weights[i][j];
    }
    printf("   sum %.3f\n", (double)sum);
    if (weights[i][2] != 0 || sum < 0.999f || sum > 1.001f) return 1;
  }
  clattn_buffer_destroy(numbers);
  clattn_buffer_destroy(mask);
  clattn_plan_destroy(plan);
  clattn_queue_destroy(queue);
  clattn_context_destroy(context);
  return 0;
}
