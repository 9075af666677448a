/* run.c - which kernels serve a call, and its submission. */
#include "nn.h"

_Static_assert(CLT_K_NN_FOLD - CLT_K_NN_MAP ==
                   CLT_K_NN_FOLD_TILE - CLT_K_NN_MAP_TILE,
               "the two families are listed in one order");

static clt_kernel tile_of(clt_kernel kernel) {
  return (clt_kernel)(kernel + (CLT_K_NN_MAP_TILE - CLT_K_NN_MAP));
}

typedef struct kernel_list {
  const clt_kernel *kernels;
  int n;
} kernel_list;

/* The check of one kernel may use the others, so all are prepared before. */
static clattn_status ready(clt_device *device, bool tile, const void *list) {
  const clt_kernel *kernels = ((const kernel_list *)list)->kernels;
  const int n = ((const kernel_list *)list)->n;
  for (int i = 0; i < n; i++)
    CLT_TRY(device->ops->prepare(device->impl,
                                 tile ? tile_of(kernels[i]) : kernels[i]));
  for (int i = 0; i < n; i++)
    CLT_TRY(clt_guard_with(device, tile ? tile_of(kernels[i]) : kernels[i],
                           &clt_nn_guard));
  return CLATTN_OK;
}

clattn_status clt_nn_run(clattn_queue *queue, const clt_kernel *kernels, int n,
                         clt_nn_add add, const void *call,
                         clattn_event *const *wait, size_t n_wait,
                         clattn_event **event) {
  bool tile;
  const kernel_list list = {kernels, n};
  CLT_TRY(clt_choose_family(queue->device, clt_kernels[kernels[0]].entry, ready,
                            &list, &tile));
  clt_work work;
  clt_work_init(&work, queue->device);
  add(&work, tile, call);
  const clattn_status status =
      work.status != CLATTN_OK
          ? work.status
          : clt_work_submit(&work, queue, NULL, wait, n_wait, event);
  clt_work_free(&work);
  return status;
}

void clt_nn_add_step(clt_work *work, bool tile, clt_kernel kernel,
                     const clt_nn_step *step) {
  size_t units = (size_t)step->args.units, items = 1;
  if (tile) {
    size_t local_bytes;
    const clt_device *device = work->device;
    kernel = tile_of(kernel);
    items = NN_TILE_ITEMS;
    size_t most = items;
    if (device->ops->limits(device->impl, kernel, &local_bytes, &most) ==
            CLATTN_OK &&
        most < items)
      items = most;
    units = clt_ceil_div(units, items);
  }
  clt_step *made = clt_work_add(work, kernel, &step->args, units, 1, 1, 16);
  if (!made) return;
  made->group_size[0] = items;
  for (int i = 0; i < CLT_NN_BUFFERS; i++) made->buffers[i] = step->buffers[i];
}
