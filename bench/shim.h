/* shim.h - what the parts of libclattn_bench share: an open device. */
#ifndef CLATTN_BENCH_SHIM_H
#define CLATTN_BENCH_SHIM_H

#include "clattn.h"

typedef struct shim {
  clattn_context *context;
  clattn_queue *queue;
  int device;
  clattn_device_info info;
} shim;

#endif
