/* page.h - what the sources of clattn_view_html share. src/view/web/README.md says
 * what a page holds. */
#ifndef CLATTN_SRC_VIEW_PAGE_H
#define CLATTN_SRC_VIEW_PAGE_H

#include "view.h"

/* A part of a run, and what of it goes into the page. */
typedef struct page_part {
  const clattn_attention *attention;
  size_t run, index;
  clattn_attention_part info;
  const char *weights; /* "computed", "f16", "f32", "none" */
  uint32_t blocks;     /* bits 1 << CLATTN_ATTENTION_*: tensors in the page */
  float difference;    /* the largest of clattn_attention_check */
  int64_t thumb_rows, thumb_keys;
  clattn_attention_summary *summaries; /* [layers * heads] */
  int64_t sampled;                     /* rows that they are of; 0: all */
} page_part;

typedef struct page {
  const clattn_attention *const *runs; /* [n_runs] borrowed */
  size_t n_runs;
  const clattn_view_html_options *options;
  page_part *parts; /* [n_parts], of the first run before those of the second */
  size_t n_parts;
} page;

/* Name of a tensor in the page; NULL: it is never there. */
const char *page_block_name(clattn_attention_tensor tensor);

/* Bytes as base64. */
void page_put_base64(FILE *stream, const void *bytes, size_t n);

/* The blocks of a layer, thumbnails included. */
clattn_status page_put_layer(FILE *stream, const page_part *part,
                             int64_t layer);

/* The JSON of the page, in which no '<' is, and only ASCII. */
clattn_status page_put_json(FILE *stream, const page *page);

/* The page up to its data, which may be put by then, and the rest. nonce: of the
 * content security policy. */
clattn_status page_put_head(FILE *stream, const char *nonce);
clattn_status page_put_tail(FILE *stream, const char *nonce);

/* OK if the embedded files are those that the page is made of: each of them, once,
 * and no other. */
clattn_status page_check_files(void);

#endif
