/* The shortest way: one blocking call on the default device. */
#include <stdio.h>

#include "clattn.h"

int main(void) {
  /* A dictionary: four keys with two numbers each, and three look-ups. */
  const float k[4][3] = {{10, 0, 0}, {0, 10, 0}, {0, 0, 10}, {0, 0, 10}};
  const float v[4][2] = {{1, 0}, {10, 0}, {100, 5}, {1000, 6}};
  const float q[3][3] = {{0, 0, 10}, {0, 10, 0}, {10, 10, 0}};
  float out[3][2];

  clattn_context *context;
  clattn_desc desc;
  clattn_desc_init(&desc);
  desc.q_heads = desc.kv_heads = 1;
  desc.qk_dim = 3, desc.v_dim = 2;
  if (clattn_context_create(NULL, &context) != CLATTN_OK ||
      clattn_attention_f32(context, &desc, 1, 3, 4, q[0], k[0], v[0], out[0])) {
    fprintf(stderr, "%s\n", clattn_error_message());
    return 1;
  }
  for (int i = 0; i < 3; i++) printf("%6.1f %4.1f\n", out[i][0], out[i][1]);
  clattn_context_destroy(context);
  return 0;
}
