/* model_config.h - what the readers of configurations share. */
#ifndef CLATTN_SRC_MODEL_CONFIG_H
#define CLATTN_SRC_MODEL_CONFIG_H

#include "model.h"

#define MODEL_BAD(...) clattn_set_error(CLATTN_IO_ERROR, __VA_ARGS__)
#define MODEL_CANNOT(...) clattn_set_error(CLATTN_UNSUPPORTED, __VA_ARGS__)

enum { MODEL_MOST = 1 << 24 }; /* of any size: products of two fit easily */

/* Everything as it is by default. */
void model_spec_init(model_spec *spec);

#endif
