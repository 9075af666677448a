/* Records what an attention layer of the library does, and reads it back. Weights
 * that are in host memory already: look.c.
 *
 *   record_attention FILE && clattn view FILE
 *
 * No model is needed, only arrays: here of a layer with random weights, whose rows
 * see what came before them. Without FILE the record is removed again. */

#include "check.h"
#include "clattn_attention.h"

enum { N = 6, E = 32, HEADS = 4, DIM = E / HEADS };

static clattn_context *context;
static clattn_queue *queue;

static clattn_buffer *upload(const void *x, size_t bytes) {
  clattn_buffer *buffer;
  CHECK(clattn_buffer_create(context, CLATTN_DEFAULT_DEVICE, bytes, &buffer));
  if (x) CHECK(clattn_buffer_write(queue, buffer, 0, x, bytes));
  return buffer;
}

/* What a layer has told, in device memory: dense [HEADS, N, N or DIM]. */
static clattn_buffer *told[CLATTN_ATTENTION_TENSORS];

static clattn_status give(void *user, size_t part, int64_t layer,
                          clattn_attention_tensor tensor, void *values) {
  (void)user, (void)part, (void)layer; /* there is one of each */
  return clattn_buffer_read(queue, told[tensor], 0, values,
                            clattn_buffer_size(told[tensor]));
}

/* One forward pass of x [N, E] through a layer with the matrices w. */
static void attend(void) {
  static float w[4][E][E], x[N][E];
  fill(&w[0][0][0], sizeof w / sizeof(float), 1);
  fill(&x[0][0], sizeof x / sizeof(float), 2);
  clattn_buffer *bw = upload(w, sizeof w), *bx = upload(x, sizeof x);
  clattn_buffer *by = upload(NULL, sizeof x);
  told[CLATTN_ATTENTION_WEIGHTS] = upload(NULL, HEADS * N * N * sizeof(float));
  told[CLATTN_ATTENTION_QUERY] = upload(NULL, HEADS * N * DIM * sizeof(float));
  told[CLATTN_ATTENTION_KEY] = upload(NULL, HEADS * N * DIM * sizeof(float));

  clattn_mha_config config;
  clattn_mha_weights weights;
  clattn_mha *mha;
  clattn_mha_config_init(&config);
  config.embed_dim = E, config.num_heads = HEADS;
  config.attention.causal = true;
  config.attention.outputs = CLATTN_OUT_WEIGHTS;
  clattn_mha_weights_init(&weights);
  clattn_tensor *const slots[4] = {&weights.q_weight, &weights.k_weight,
                                   &weights.v_weight, &weights.o_weight};
  for (int i = 0; i < 4; i++) {
    *slots[i] = clattn_view_bhsd(bw, CLATTN_F32, 1, 1, E, E);
    slots[i]->offset = i * E * E;
  }
  CHECK(clattn_mha_create(context, CLATTN_DEFAULT_DEVICE, &config, &weights,
                          &mha));
  clattn_mha_args args;
  clattn_mha_args_init(&args);
  args.query = clattn_view_bhsd(bx, CLATTN_F32, 1, 1, N, E);
  args.output = clattn_view_bhsd(by, CLATTN_F32, 1, 1, N, E);
  args.weights = clattn_view_bhsd(told[CLATTN_ATTENTION_WEIGHTS], CLATTN_F32, 1,
                                  HEADS, N, N);
  args.projected_query = clattn_view_bhsd(told[CLATTN_ATTENTION_QUERY],
                                          CLATTN_F32, 1, HEADS, N, DIM);
  args.projected_key = clattn_view_bhsd(told[CLATTN_ATTENTION_KEY], CLATTN_F32,
                                        1, HEADS, N, DIM);
  CHECK(clattn_mha_forward(mha, queue, &args, NULL, 0, NULL));
  CHECK(clattn_queue_finish(queue));
  clattn_mha_destroy(mha);
  clattn_buffer_destroy(bw), clattn_buffer_destroy(bx);
  clattn_buffer_destroy(by);
}

static void record(const char *path) {
  static const char *const words[N] = {"The", " cat", " sat",
                                       " on", " the", " mat"};
  clattn_attention_part part;
  clattn_attention_part_init(&part);
  part.kind = CLATTN_ATTENTION_DECODER;
  part.causal = true;
  part.layers = 1;
  part.heads = HEADS;
  part.head_dim = DIM;
  part.rows = (clattn_attention_tokens){.n = N, .texts = words};
  part.has = 1u << CLATTN_ATTENTION_WEIGHTS | 1u << CLATTN_ATTENTION_QUERY |
             1u << CLATTN_ATTENTION_KEY;
  CHECK(clattn_attention_write(path, "random weights", "The cat sat on the mat",
                               NULL, &part, 1, give, NULL));
}

static void read_back(const char *path) {
  clattn_attention *file;
  clattn_attention_summary heads[HEADS];
  float difference;
  CHECK(clattn_attention_open(path, &file));
  CHECK(clattn_attention_check(file, 0, 0, &difference));
  CHECK(clattn_attention_summarize(file, 0, 0, heads));
  for (int h = 0; h < HEADS; h++)
    printf("head %d: entropy %.2f nats, %.1f tokens away\n", h,
           (double)heads[h].entropy, (double)heads[h].distance);
  printf("queries and keys give the weights within %.0e\n", (double)difference);
  clattn_attention_destroy(file);
}

int main(int argc, char **argv) {
  const char *path = argc > 1 ? argv[1] : "record_attention.safetensors";
  CHECK(clattn_context_create(NULL, &context));
  CHECK(clattn_queue_create(context, CLATTN_DEFAULT_DEVICE, &queue));
  attend();
  record(path);
  read_back(path);
  if (argc < 2) remove(path);
  for (int i = 0; i < CLATTN_ATTENTION_TENSORS; i++)
    clattn_buffer_destroy(told[i]);
  clattn_queue_destroy(queue);
  clattn_context_destroy(context);
  return 0;
}
