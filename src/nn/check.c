/* check.c - the checks of tensor arguments. */
#include "nn.h"

static bool same_view(const clattn_tensor *a, const clattn_tensor *b) {
  if (a->buffer != b->buffer || a->dtype != b->dtype || a->offset != b->offset)
    return false;
  for (int i = 0; i < 4; i++)
    if (a->extent[i] != b->extent[i] ||
        (a->extent[i] > 1 && a->stride[i] != b->stride[i]))
      return false;
  return true;
}

static clattn_status check_one(const clt_device *device, const clt_nn_arg *arg,
                               bool long_ok) {
  const clattn_tensor *t = arg->tensor;
  const char *name = arg->want.name;
  CLT_TRY(clt_tensor_check(device, t, &arg->want));
  if (!t->buffer) return CLATTN_OK;
  CLT_REQUIRE(t->extent[3] == 1 || t->stride[3] == 1,
              "%s: stride[3] is %lld, want 1", name, (long long)t->stride[3]);
  for (int i = 0; i < 4 && !long_ok; i++)
    CLT_REQUIRE(t->extent[i] < CLT_MAX_LENGTH,
                "%s: extent[%d] is %lld, want < 2^30", name, i,
                (long long)t->extent[i]);
  return CLATTN_OK;
}

clattn_status clt_nn_check(const clt_device *device, const clt_nn_arg *args,
                           int n, bool long_ok) {
  for (int i = 0; i < n; i++) CLT_TRY(check_one(device, &args[i], long_ok));
  for (int i = 0; i < n; i++)
    for (int j = 0; j < n; j++) {
      /* Two outputs meet each other once. */
      if (i == j || !args[i].want.output || (args[j].want.output && j > i))
        continue;
      if ((args[i].same == j + 1 || args[j].same == i + 1) &&
          same_view(args[i].tensor, args[j].tensor))
        continue;
      CLT_TRY(clt_tensor_disjoint(args[i].tensor, args[i].want.name,
                                  args[j].tensor, args[j].want.name));
    }
  return CLATTN_OK;
}
