/* Gradients of attention, beside differences of the attention itself: how much
 * a weighted sum of the outputs changes with one input. */
#include <math.h>

#include "check.h"

enum { H = 2, S = 6, D = 4, N = H * S * D };

static clattn_context *context;
static clattn_desc desc;

/* The loss: outputs times fixed weights, summed. */
static double loss(float x[3][N], const float weight[N]) {
  float out[N];
  double sum = 0;
  CHECK(clattn_attention_f32(context, &desc, 1, S, S, x[0], x[1], x[2], out));
  for (int i = 0; i < N; i++) sum += (double)weight[i] * (double)out[i];
  return sum;
}

/* Its gradients by q, k and v, which are d_out = weight carried backward. */
static void gradients(float x[3][N], const float weight[N], float d[3][N]) {
  enum { Q, K, V, OUT, LSE, D_OUT, D_Q, D_K, D_V, TENSORS };
  clattn_queue *queue;
  clattn_buffer *buffer[TENSORS];
  clattn_tensor t[TENSORS];
  CHECK(clattn_queue_create(context, CLATTN_DEFAULT_DEVICE, &queue));
  for (int i = 0; i < TENSORS; i++) {
    CHECK(clattn_buffer_create(context, CLATTN_DEFAULT_DEVICE,
                               N * sizeof(float), &buffer[i]));
    t[i] = clattn_view_bhsd(buffer[i], CLATTN_F32, 1, H, S, i == LSE ? 1 : D);
    const float *from = i <= V ? x[i] : i == D_OUT ? weight : NULL;
    if (from)
      CHECK(clattn_buffer_write(queue, buffer[i], 0, from, N * sizeof(float)));
  }

  clattn_desc both = desc; /* a plan that serves both directions */
  clattn_plan *plan;
  both.backward = true;
  both.outputs = CLATTN_OUT_LSE; /* backward makes the weights anew from it */
  CHECK(clattn_plan_create(context, CLATTN_DEFAULT_DEVICE, &both, &plan));

  clattn_args args;
  clattn_args_init(&args);
  args.q = t[Q], args.k = t[K], args.v = t[V];
  args.out = t[OUT], args.lse = t[LSE];
  CHECK(clattn_execute(plan, queue, &args, NULL, NULL, 0, NULL));

  clattn_grads grads;
  clattn_grads_init(&grads);
  grads.d_out = t[D_OUT];
  grads.d_q = t[D_Q], grads.d_k = t[D_K], grads.d_v = t[D_V];
  CHECK(clattn_backward(plan, queue, &args, &grads, NULL, NULL, 0, NULL));
  for (int i = 0; i < 3; i++)
    CHECK(
        clattn_buffer_read(queue, buffer[D_Q + i], 0, d[i], N * sizeof(float)));

  clattn_plan_destroy(plan);
  for (int i = 0; i < TENSORS; i++) clattn_buffer_destroy(buffer[i]);
  clattn_queue_destroy(queue);
}

int main(void) {
  static float x[3][N], d[3][N], weight[N];
  CHECK(clattn_context_create(NULL, &context));
  clattn_desc_init(&desc);
  desc.q_heads = desc.kv_heads = H;
  desc.qk_dim = desc.v_dim = D;
  desc.causal = true;
  fill(&x[0][0], sizeof x / sizeof(float), 1);
  fill(weight, N, 2);
  gradients(x, weight, d);

  const float step = 0.01f;
  double worst = 0;
  printf("          gradient  difference\n");
  for (int t = 0; t < 3; t++)
    for (int i = 0; i < N; i++) {
      const float kept = x[t][i];
      x[t][i] = kept + step;
      const double above = loss(x, weight);
      x[t][i] = kept - step;
      const double below = loss(x, weight);
      x[t][i] = kept;
      const double slope = (above - below) / (2 * (double)step);
      worst = fmax(worst, fabs(slope - (double)d[t][i]));
      if (i % 16 == 5) /* a few of them */
        printf("d_%c[%2d]  %9.5f   %9.5f\n", "qkv"[t], i, (double)d[t][i],
               slope);
    }
  printf("largest difference of %d: %.1e\n", 3 * N, worst);
  clattn_context_destroy(context);
  return worst < 1e-3 ? 0 : 1;
}
