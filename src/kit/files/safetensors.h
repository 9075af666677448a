/* safetensors.h - what reader and writer of the format share. */
#ifndef CLATTN_SRC_KIT_SAFETENSORS_H
#define CLATTN_SRC_KIT_SAFETENSORS_H

#include "kit/kit.h"

#define LENGTH_BYTES 8u             /* of the header, little-endian */
#define MAX_HEADER_BYTES 100000000u /* as the format's own reader has it */
#define METADATA "__metadata__"

#endif
