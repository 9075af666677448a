/* kernels.c - the table of kernels, made from the map of backend.h. */
#include "../../cl/args.h"
#include "core.h"

const clt_kernel_desc clt_kernels[CLT_KERNEL_COUNT] = {
#define CLT_X(id, file, entry, args, n) {#id, file, entry, sizeof(args), n},
    CLT_KERNEL_MAP(CLT_X)
#undef CLT_X
};

#define CLT_X(id, file, entry, args, n)                                        \
  _Static_assert((n) <= CLT_MAX_BUFFERS, #id " has too many buffers");         \
  _Static_assert(sizeof(args) + 8 * (n) + 8 <= 1024,                           \
                 #id " takes more arguments than OpenCL 1.2 promises");
CLT_KERNEL_MAP(CLT_X)
#undef CLT_X
