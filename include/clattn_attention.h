/* clattn_attention.h - what every head attended to, as data.
 *
 *   write   the attention of a model, of an encoder-decoder, or of arrays from
 *           any program, into a file
 *   open    such a file, and read of it what is wanted
 *
 * To look at it: clattn_view.h, `clattn view`.
 *
 * Part of libclattn_kit; the conventions of clattn.h and clattn_kit.h hold.
 *
 *   Threads   an open file does not change: any thread, any time. Writing: as the
 *             model that is run. */
#ifndef CLATTN_ATTENTION_H
#define CLATTN_ATTENTION_H

#include "clattn_model.h"
#include "clattn_seq2seq.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- The file ------------------------------------------------------------------
 * A safetensors file (see clattn_kit.h; data_offsets count from the end of the
 * header). In Python: safetensors.safe_open(path, "np"). Metadata, all of it text:
 *
 *   format     "clattn.attention 1"
 *   model      a name, for people
 *   text       what was encoded, UTF-8; a NUL in it is written as a space
 *   pair       the second text: of a sentence pair, or what a decoder wrote; not
 *              there without one
 *   parts      JSON array of 1..64 names, each of 1..64 letters, digits, '_' and
 *              '-', where a file has several parts, as ["encoder", "decoder",
 *              "cross"]; not there: one part. Of a part P every key and tensor
 *              below begins with "P.", as P.kind and P.attention.0; without parts
 *              with nothing
 *
 *   kind       "encoder": rows see all keys; "decoder": those up to their own;
 *              "cross": rows and keys are different texts
 *   causal     "true" or "false": row i sees keys up to i + (keys - rows) alone
 *   window     decimal; a row sees so many keys at most, the last ones, its own
 *              included; not there: all
 *   layers, heads, kv_heads, head_dim     decimal; head h reads its keys from
 *              key head h / (heads / kv_heads). head_dim may be 0 in a file without
 *              query and key
 *   scale      decimal, not 0; what products of query and key are multiplied with;
 *              not there: 1 / sqrt(head_dim). Where a model scales each layer in
 *              its own way, that is in the queries
 *   length     decimal, n: the number of rows, and of keys but in "cross"
 *   tokens     JSON array [n] of strings: what each token stands for, as in
 *              clattn_tokenizer_token: byte-level BPE with its leading space,
 *              WordPiece with its ##. Bytes that are not UTF-8 by themselves (a
 *              token may begin or end within a character) are written in
 *              hexadecimal, "<E6 9D>" for as many as follow each other; a NUL is
 *              U+2400
 *   ids        JSON array [n] of the tokens' numbers
 *   begins, ends  JSON arrays [n]: the token stands for the bytes begins[i] ..
 *              ends[i]-1 of the text, or of the pair, counted in UTF-8 and not in
 *              characters; both 0 where added[i] is 1
 *   segments   JSON array [n]: 0 text, 1 pair. Of a sentence pair, all tokens of
 *              the text come first: [CLS] text [SEP] pair [SEP]
 *   added      JSON array [n]: 1 for [CLS] and its like, that no text stands for
 *   key_length, key_tokens, key_ids, key_begins, key_ends, key_segments, key_added
 *              the same of the keys, where they are others: in "cross"
 *   top, map_block                         decimal, where those tensors are there
 *
 * Of these, format, kind, layers, heads, length and tokens (and in "cross"
 * key_length, key_tokens) must be there. begins and ends are there together, and
 * lie within the text or the pair where that is there. Readers take ids, begins and
 * ends for unknown where they are absent, segments and added for 0, kv_heads for
 * heads and causal for kind = "decoder".
 *
 * Tensors, for each layer N from 0, with m keys, those that were asked for, the
 * same in every layer; query and key together, and so the two of top:
 *
 *   attention.N   F16 or F32 [heads, n, m]  [head, row, key]: the weight of a key
 *                                     in a row; rows sum to 1, before rounding
 *   query.N       F32 [heads, n, head_dim]  as multiplied: projected, and turned
 *   key.N         F32 [kv_heads, m, head_dim]      where the model is rotary
 *   entropy.N     F32 [heads, n]      in nats
 *   distance.N    F32 [heads, n]      mean of |row - key|, in tokens
 *   top_keys.N    I32 [heads, n, top] the keys of the largest weights, falling;
 *                                     -1 where a row sees fewer
 *   top_weights.N F32 [heads, n, top] their weights; 0 where there is none
 *   map.N         F32 [heads, ceil(n / map_block), ceil(m / map_block)]  mean over
 *                                     the rows of a block of their weight on all
 *                                     keys of a block: rows sum to 1 */

typedef enum clattn_attention_kind {
  CLATTN_ATTENTION_ENCODER = 1,
  CLATTN_ATTENTION_DECODER = 2,
  CLATTN_ATTENTION_CROSS = 3
} clattn_attention_kind;

/* "encoder", "decoder", "cross"; "?" otherwise. */
CLATTN_API const char *clattn_attention_kind_name(clattn_attention_kind kind);

/* What a file has of a layer. */
typedef enum clattn_attention_tensor {
  CLATTN_ATTENTION_WEIGHTS = 0, /* attention.N [heads, rows, keys] */
  CLATTN_ATTENTION_QUERY,       /* [heads, rows, head_dim] */
  CLATTN_ATTENTION_KEY,         /* [kv_heads, keys, head_dim] */
  CLATTN_ATTENTION_ENTROPY,     /* [heads, rows] */
  CLATTN_ATTENTION_DISTANCE,    /* [heads, rows] */
  CLATTN_ATTENTION_TOP_KEYS,    /* [heads, rows, top], int32_t */
  CLATTN_ATTENTION_TOP_WEIGHTS, /* [heads, rows, top] */
  CLATTN_ATTENTION_MAP,         /* [heads, map rows, map keys] */
  CLATTN_ATTENTION_TENSORS
} clattn_attention_tensor;

/* The tokens of one side. Arrays but texts may be NULL: not known. */
typedef struct clattn_attention_tokens {
  int64_t n;
  const char *const *texts; /* [n] UTF-8 */
  const int32_t *ids;       /* [n] */
  const int64_t *begins, *ends;
  const uint8_t *segments, *added;
} clattn_attention_tokens;

typedef struct clattn_attention_part {
  size_t struct_size; /* set by clattn_attention_part_init */
  const char *name;   /* default "" */
  clattn_attention_kind kind;
  bool causal;
  int64_t window; /* 0: all */
  int64_t layers, heads;
  int64_t kv_heads; /* writing, 0: heads */
  int64_t head_dim; /* 0: no query and key */
  double scale;     /* writing, 0: 1 / sqrt(head_dim) */
  /* But in CROSS keys are the rows; writing: keys.n 0 means that. */
  clattn_attention_tokens rows, keys;
  uint32_t has;       /* bits 1 << CLATTN_ATTENTION_*: tensors of each layer */
  clattn_dtype dtype; /* of WEIGHTS: F16 or F32 */
  int64_t top, map_block; /* where has says so; else 0 */
} clattn_attention_part;

CLATTN_API void clattn_attention_part_init(clattn_attention_part *part);

/* ---- Reading -------------------------------------------------------------------- */

typedef struct clattn_attention clattn_attention;

/* Maps a file and checks all of it that is not a number of a tensor. IO_ERROR says
 * what is missing, or of another shape than the rest wants. */
CLATTN_API clattn_status clattn_attention_open(const char *path,
                                               clattn_attention **attention);
CLATTN_API void clattn_attention_destroy(clattn_attention *attention);
/* Owned by the file; text and pair: NULL where there is none. */
CLATTN_API const char *clattn_attention_model(
    const clattn_attention *attention);
CLATTN_API const char *clattn_attention_text(const clattn_attention *attention);
CLATTN_API const char *clattn_attention_pair(const clattn_attention *attention);
/* Parts, at least one; 0 for NULL. What a part points to is owned by the file. */
CLATTN_API size_t clattn_attention_parts(const clattn_attention *attention);
CLATTN_API clattn_status
clattn_attention_get_part(const clattn_attention *attention, size_t part,
                          clattn_attention_part *info);
/* One tensor of a layer, all heads, as float (TOP_KEYS: as int32_t). INVALID_ARGUMENT
 * if the part does not have it; IO_ERROR: one of the top keys is none of the part's.
 * Other numbers are as the file has them, NaN and infinity too. */
CLATTN_API clattn_status clattn_attention_read(
    const clattn_attention *attention, size_t part, int64_t layer,
    clattn_attention_tensor tensor, void *values);
/* Rows row..row+n-1 of one head's weights: weights [n, keys]. Recorded ones where
 * they are there; else, of query and key, in double precision,
 * softmax(scale * query . key) over the keys that the row sees; all 0 if it sees
 * none. INVALID_ARGUMENT if the part has neither. */
CLATTN_API clattn_status clattn_attention_read_weights(
    const clattn_attention *attention, size_t part, int64_t layer, int64_t head,
    int64_t row, int64_t n, float *weights);
/* Whether query and key give the recorded weights: of a row, half the sum over its
 * keys of |recorded - computed|, which is the share of its weight that lies
 * elsewhere, 0 to 1; the largest over the rows of a layer. 0 where one of both is
 * not there, infinity where a weight is not finite. F16 alone makes up to 4e-4. What
 * a model does beside scale, causal rule and window (a bias, say) shows here. Every
 * row is looked at up to heads * rows * keys * (head_dim + 64) of 5e8; beyond, as
 * many as that allows at pseudo-random places, 16 of a head at least. */
CLATTN_API clattn_status
clattn_attention_check(const clattn_attention *attention, size_t part,
                       int64_t layer, float *difference);

/* Of a head, means over its rows. */
typedef struct clattn_attention_summary {
  float entropy;  /* in nats */
  float distance; /* |row - key|, in tokens */
  float previous; /* weight on the key before the row's own; rows that have one.
                   * 0 in CROSS */
  float first;    /* weight on key 0 */
  int64_t rows;   /* that were looked at: fewer than there are, a sample */
} clattn_attention_summary;
/* summaries [heads] of a layer. From the weights, or of query and key; where both
 * are absent entropy and distance are those recorded, previous and first add up
 * what is found among the top keys (no more than there is), and NaN is what cannot
 * be known. Every row is looked at up to layers * heads * rows * keys * (64, and
 * head_dim without weights) of 1e10, some seconds for all layers; beyond, as many as
 * that allows at pseudo-random places, 16 of a head at least, and entropy and
 * distance are of all rows where they were recorded. */
CLATTN_API clattn_status
clattn_attention_summarize(const clattn_attention *attention, size_t part,
                           int64_t layer, clattn_attention_summary *summaries);

/* ---- Writing arrays -------------------------------------------------------------- */

/* Fills values with a tensor of a layer, of the shape above: float, TOP_KEYS
 * int32_t. Called part after part, layer after layer, tensor after tensor in the
 * order of the enum. What is not CLATTN_OK ends the writing with that status. */
typedef clattn_status (*clattn_attention_source)(void *user, size_t part,
                                                 int64_t layer,
                                                 clattn_attention_tensor tensor,
                                                 void *values);

/* Writes a file of parts, whose names differ and, if there is one alone, may be
 * "". text, pair: NULL for none. Memory is that of one tensor. A reader sees the
 * old file or the new one, never half of it. INVALID_ARGUMENT names what of a part
 * is wrong, or a weight beyond 65504 that is to be F16. */
CLATTN_API clattn_status clattn_attention_write(
    const char *path, const char *model, const char *text, const char *pair,
    const clattn_attention_part *parts, size_t n_parts,
    clattn_attention_source source, void *user);

/* ---- Writing what a model does ------------------------------------------------------ */

typedef struct clattn_attention_options {
  size_t struct_size;     /* set by clattn_attention_options_init */
  uint32_t watch;         /* CLATTN_WATCH_* but HIDDEN; default 0: STATISTICS |
                           * QUERY_KEY, and ATTENTION up to 1024 tokens, else
                           * TOP | MAP */
  clattn_dtype dtype;     /* of attention.N: F16 (default) or F32 */
  int64_t top, map_block; /* defaults as in clattn_model_output */
  int64_t max_tokens;     /* a text is cut to these, as max_length in
                           * clattn_encode_options does; default 0: not */
  const char *model_name; /* NULL: the model's kind */
  void (*progress)(void *user, int64_t done, int64_t total); /* may be NULL */
  void *progress_user;
} clattn_attention_options;

CLATTN_API void clattn_attention_options_init(
    clattn_attention_options *options);

/* Encodes a text (and a pair; NULL: none), runs the model, and writes what every
 * layer and head attended to, layer by layer: memory does not grow with the
 * number of layers. options NULL: all defaults. A reader sees the old file or
 * the new one, never half of it. */
CLATTN_API clattn_status clattn_model_write_attention(
    clattn_model *model, clattn_queue *queue, const clattn_tokenizer *tokenizer,
    const char *text, size_t size_bytes, const char *pair, size_t pair_bytes,
    const clattn_attention_options *options, const char *path);

/* The same of an encoder-decoder: parts encoder, decoder and cross. The rows of
 * decoder and cross are what the decoder read: begin and the target but its last
 * token, so that row i wrote target[i]; added is 1 for begin. target: as
 * clattn_seq2seq_translate wrote it, without padding; its pieces joined are the
 * file's pair. The tokenizer's tokens are the model's last ones, in their order;
 * those before, which have no text, are marks such as begin. Of the watches
 * ATTENTION, STATISTICS and QUERY_KEY. */
CLATTN_API clattn_status clattn_seq2seq_write_attention(
    clattn_seq2seq *model, clattn_queue *queue,
    const clattn_tokenizer *tokenizer, const char *text, size_t size_bytes,
    const int32_t *target, int64_t n_target,
    const clattn_attention_options *options, const char *path);

#ifdef __cplusplus
}
#endif
#endif /* CLATTN_ATTENTION_H */
