/* read.h - an open attention file from the inside. */
#ifndef CLATTN_SRC_KIT_ATTENTION_READ_H
#define CLATTN_SRC_KIT_ATTENTION_READ_H

#include <jansson.h>
#include <stdatomic.h>

#include "format.h"

/* What owns the tokens of a side. */
typedef struct attention_lists {
  json_t *strings; /* owns the texts */
  const char **texts;
  void *numbers[5]; /* ids, begins, ends, segments, added */
} attention_lists;

typedef struct attention_read_part {
  clattn_attention_part info; /* complete; points into what follows */
  char name[ATTENTION_NAME_CHARS + 1];
  attention_lists sides[2];
  /* [layers] what clattn_attention_check found, for the next who asks; NaN: nobody
   * did. Whoever sets one sets it to the same. */
  _Atomic float *differences;
} attention_read_part;

struct clattn_attention {
  clattn_kit_safetensors *file;
  attention_read_part *parts; /* [n_parts] */
  size_t n_parts;
};

/* Reads and checks a part, whose name is set, from the file's metadata and its
 * list of tensors. IO_ERROR without the file's path. */
clattn_status attention_part_read(const clattn_kit_safetensors *file,
                                  attention_read_part *part);
void attention_part_free(attention_read_part *part);

/* The part and its layer, if there are such: INVALID_ARGUMENT. */
clattn_status attention_find(const clattn_attention *attention, size_t part,
                             int64_t layer, const clattn_attention_part **info);
/* The tensor of a layer that the part has. */
clattn_status attention_find_tensor(const clattn_attention *attention,
                                    const clattn_attention_part *part,
                                    int64_t layer,
                                    clattn_attention_tensor which,
                                    clattn_kit_tensor *tensor);
/* Rows first..first+n-1 of a tensor [.., columns], all of them [count, columns],
 * as float: values [n, columns]. */
clattn_status attention_rows(const clattn_kit_tensor *tensor, int64_t first,
                             int64_t n, float *values);

#endif
