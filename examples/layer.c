/* The multi-head attention layer as torch.nn.MultiheadAttention has it: self
 * attention with padding, returning the averaged weights. */
#include "check.h"

enum { B = 2, L = 6, E = 16, H = 4 };

static clattn_context *context;
static clattn_queue *queue;

static clattn_buffer *upload(const void *x, size_t bytes) {
  clattn_buffer *buffer;
  CHECK(clattn_buffer_create(context, CLATTN_DEFAULT_DEVICE, bytes, &buffer));
  if (x) CHECK(clattn_buffer_write(queue, buffer, 0, x, bytes));
  return buffer;
}

int main(void) {
  /* Weights are stored (out, in), as PyTorch stores them. Four of them here:
   * query, key, value and output. */
  static float w[4][E][E], x[B][L][E], weights[B][L][L];
  /* true = ignore this key: the second text has only four tokens */
  static const unsigned char padding[B][L] = {{0}, {0, 0, 0, 0, 1, 1}};
  fill(&w[0][0][0], sizeof w / sizeof(float), 1);
  fill(&x[0][0][0], sizeof x / sizeof(float), 2);

  CHECK(clattn_context_create(NULL, &context));
  CHECK(clattn_queue_create(context, CLATTN_DEFAULT_DEVICE, &queue));
  clattn_buffer *bw = upload(w, sizeof w), *bx = upload(x, sizeof x);
  clattn_buffer *by = upload(NULL, sizeof x);
  clattn_buffer *bp = upload(padding, sizeof padding);
  clattn_buffer *ba = upload(NULL, sizeof weights);

  clattn_mha_config config;
  clattn_mha_weights parameters;
  clattn_mha *mha;
  clattn_mha_config_init(&config);
  config.embed_dim = E, config.num_heads = H;
  config.attention.outputs = CLATTN_OUT_WEIGHTS;
  config.attention.average_weights = true;
  clattn_mha_weights_init(&parameters);
  clattn_tensor view = clattn_view_bhsd(bw, CLATTN_F32, 1, 1, E, E);
  clattn_tensor *const slots[4] = {&parameters.q_weight, &parameters.k_weight,
                                   &parameters.v_weight, &parameters.o_weight};
  for (int i = 0; i < 4; i++) {
    *slots[i] = view;
    slots[i]->offset = i * E * E;
  }
  CHECK(clattn_mha_create(context, CLATTN_DEFAULT_DEVICE, &config, &parameters,
                          &mha));

  clattn_mha_args args; /* no key, no value: self attention */
  clattn_mha_args_init(&args);
  args.query = clattn_view_bhsd(bx, CLATTN_F32, B, 1, L, E);
  args.output = clattn_view_bhsd(by, CLATTN_F32, B, 1, L, E);
  args.weights = clattn_view_bhsd(ba, CLATTN_F32, B, 1, L, L);
  args.key_padding_mask = clattn_view_bhsd(bp, CLATTN_BOOL, B, 1, 1, L);
  CHECK(clattn_mha_forward(mha, queue, &args, NULL, 0, NULL));
  CHECK(clattn_buffer_read(queue, ba, 0, weights, sizeof weights));

  printf("who looks at whom in the second text, averaged over %d heads:\n", H);
  for (int i = 0; i < L; i++) {
    for (int j = 0; j < L; j++) printf("  %.3f", weights[1][i][j]);
    printf("\n");
  }

  clattn_mha_destroy(mha);
  clattn_buffer_destroy(bw), clattn_buffer_destroy(bx);
  clattn_buffer_destroy(by), clattn_buffer_destroy(bp);
  clattn_buffer_destroy(ba);
  clattn_queue_destroy(queue);
  clattn_context_destroy(context);
  return 0;
}
