/* Attention weights of one's own, from any program, to look at.
 *
 *   look [RECORDING.safetensors [PAGE.html [PICTURE.png]]]
 *
 * Here they are a softmax of made-up scores. `clattn view RECORDING` shows all of
 * it; without arguments nothing is left behind. */
#define _POSIX_C_SOURCE 200809L /* mkstemp */
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "clattn_view.h"

enum { LAYERS = 2, HEADS = 3, N = 6 };

static float weights[LAYERS][HEADS][N][N];

/* Heads that look back, each more narrowly than the one before: rows sum to 1. */
static void compute(void) {
  for (int layer = 0; layer < LAYERS; layer++)
    for (int head = 0; head < HEADS; head++)
      for (int row = 0; row < N; row++) {
        float *w = weights[layer][head][row], sum = 0;
        for (int key = 0; key <= row; key++)
          sum += w[key] = expf(-(float)((row - key) * head + layer * key));
        for (int key = 0; key <= row; key++) w[key] /= sum;
      }
}

/* Called layer after layer: hands [heads, rows, keys] over. */
static clattn_status give(void *user, size_t part, int64_t layer,
                          clattn_attention_tensor tensor, void *values) {
  (void)user, (void)part, (void)tensor; /* there is one of each */
  memcpy(values, weights[layer], sizeof weights[layer]);
  return CLATTN_OK;
}

int main(int argc, char **argv) {
  static const char *const words[N] = {"The", " cat", " sat",
                                       " on", " the", " mat"};
  char path[] = "/tmp/look-XXXXXX";
  const char *file = argc > 1 ? argv[1] : path;
  if (argc <= 1) close(mkstemp(path));

  compute();
  clattn_attention_part part;
  clattn_attention_part_init(&part); /* of it: attention weights, as F32 */
  part.kind = CLATTN_ATTENTION_DECODER;
  part.causal = true;
  part.layers = LAYERS;
  part.heads = HEADS;
  part.rows = (clattn_attention_tokens){.n = N, .texts = words};
  CHECK(clattn_attention_write(file, "my model", NULL, NULL, &part, 1, give,
                               NULL));

  clattn_attention *attention;
  const clattn_attention *runs[1];
  clattn_view_options options;
  CHECK(clattn_attention_open(file, &attention));
  clattn_view_options_init(&options);
  options.layer = 1, options.head = 2;
  CHECK(clattn_view_text(attention, &options, NULL, stdout));
  runs[0] = attention;
  if (argc > 2) CHECK(clattn_view_html(runs, 1, NULL, argv[2], NULL));
  if (argc > 3) CHECK(clattn_view_picture(attention, &options, NULL, argv[3]));
  clattn_attention_destroy(attention);
  if (argc <= 1) remove(path);
  return 0;
}
