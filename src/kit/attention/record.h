/* record.h - what the recordings of models share. */
#ifndef CLATTN_SRC_KIT_ATTENTION_RECORD_H
#define CLATTN_SRC_KIT_ATTENTION_RECORD_H

#include "write.h"

/* Up to so many tokens whole matrices are recorded by default. */
#define ATTENTION_WHOLE_TOKENS 1024

/* The caller's options, or the defaults for NULL. */
clattn_status attention_options_take(const clattn_attention_options *given,
                                     uint32_t known,
                                     clattn_attention_options *options);
/* What is recorded of a part's layers, by CLATTN_WATCH_*. */
void attention_part_watch(clattn_attention_part *part,
                          const clattn_attention_options *options);

#endif
