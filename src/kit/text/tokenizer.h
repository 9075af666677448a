/* tokenizer.h - a tokenizer from the inside. A text goes through
 *
 *   added tokens   cut out where they stand                     (added.c)
 *   split          into pieces, by regular expressions          (split.c)
 *   model          each piece to tokens: bpe.c, wordpiece.c, or a look-up
 *   template       what stands around: [CLS] a [SEP]            (tokenizer.c)
 *
 * all of which the encoder of encoder.c drives, for a whole text or the part of
 * one that is there yet. */
#ifndef CLATTN_SRC_KIT_TOKENIZER_H
#define CLATTN_SRC_KIT_TOKENIZER_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "clattn_text.h"
#include "token_map.h"

/* ---- parts of a tokenizer ------------------------------------------------ */

/* A token that is found in a text before it is split. */
typedef struct added_token {
  int32_t id;
  bool special;        /* only where allow_special is set */
  bool lstrip, rstrip; /* takes the white space before, behind it */
  bool single_word;    /* not beside a letter or digit */
} added_token;

/* What becomes of what a pattern matches, and of what lies between. */
typedef enum split_keep {
  SPLIT_ISOLATED = 0, /* both are pieces                */
  SPLIT_REMOVED = 1,  /* only what lies between         */
  SPLIT_MATCHES = 2   /* only what is matched           */
} split_keep;

typedef struct split_step {
  char *pattern; /* as it was given; NULL: does not split */
  pcre2_code *code;
  bool jit;
  split_keep keep;
  bool prefix_space; /* a space goes before what does not begin with one */
} split_step;

/* Two neighbours that merge: into what, and how early. */
typedef struct bpe_pair {
  uint64_t key; /* left id << 32 | right id; BPE_NO_PAIR: empty slot */
  int32_t rank, id;
} bpe_pair;
#define BPE_NO_PAIR UINT64_MAX

typedef struct bpe_model {
  bpe_pair *slots; /* [mask + 1] */
  size_t mask;
  int32_t n_pairs;
  int32_t byte_id[256]; /* -1: no token */
  bool whole_first;     /* a piece that is a token is that token */
  bool fuse_unknown;    /* unknown bytes in a row are one */
  token_index pieces;   /* pieces that are known to be one token */
} bpe_model;

typedef struct wordpiece_model {
  bool clean_text, chinese, strip_accents, lowercase; /* BERT's normaliser */
  char *prefix; /* of what continues a word: ## */
  size_t prefix_bytes;
  int64_t max_chars; /* of a word; longer ones are unknown */
  size_t longest;    /* bytes of the longest token */
} wordpiece_model;

/* What stands around a text or a pair of them. */
typedef struct template_item {
  enum { TEMPLATE_TEXT, TEMPLATE_PAIR, TEMPLATE_TOKEN } what;
  int32_t id;
  uint8_t segment;
} template_item;

typedef struct token_template {
  template_item *items;
  int n;
} token_template;

/* How pieces become tokens. */
typedef enum token_model {
  MODEL_CHARS,
  MODEL_WHOLE, /* a piece is a token */
  MODEL_BPE,
  MODEL_WORDPIECE
} token_model;

struct clattn_tokenizer {
  clattn_tokenizer_kind kind;
  token_model model;
  token_map map;
  token_index index; /* of the model's tokens */
  token_index added_index;
  added_token *added; /* [n_added], longest first */
  size_t n_added;
  bool added_first[256]; /* bytes that an added token begins with */
  split_step *steps;     /* [n_steps] */
  int n_steps;
  bool streams;    /* the start of a text can be encoded without its end */
  int32_t unknown; /* -1: none */
  bpe_model bpe;
  wordpiece_model wordpiece;
  token_template single, pair;
  bool from_text; /* its tokens are all there is to know */
};

/* ---- making (tokenizer.c) ------------------------------------------------ */

clattn_status tokenizer_new(clattn_tokenizer_kind kind, token_model model,
                            clattn_tokenizer **tokenizer);
/* Gives what was made to the caller, or if that failed destroys it; status. */
clattn_status tokenizer_hand_over(clattn_status status, clattn_tokenizer *made,
                                  clattn_tokenizer **tokenizer);
/* A token of the model. INVALID_ARGUMENT: id or bytes are taken. */
clattn_status tokenizer_add(clattn_tokenizer *t, int32_t id, const char *text,
                            size_t bytes);
/* An added token, which the model may have already by this id. */
clattn_status tokenizer_add_added(clattn_tokenizer *t, const char *text,
                                  size_t bytes, const added_token *token);
/* Makes those of the texts special that the model has. */
clattn_status tokenizer_add_specials(clattn_tokenizer *t,
                                     const char *const *texts, size_t n);
clattn_status template_add(token_template *to, template_item item);
/* [CLS] a [SEP], and with a pair b [SEP]. */
clattn_status tokenizer_bert_template(clattn_tokenizer *t, int32_t cls,
                                      int32_t sep);
/* The last step of making one: what is derived from the rest. */
clattn_status tokenizer_finish(clattn_tokenizer *t);

/* ---- splitting (split.c) ------------------------------------------------- */

#define PATTERN_GPT2                                                           \
  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|"         \
  "\\s+(?!\\S)|\\s+"

/* Those of tiktoken's cl100k_base and o200k_base. */
#define PATTERN_CL100K                                                         \
  "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}++|\\p{N}{1,3}|"         \
  " ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*+|\\s++\\z|\\s*[\\r\\n]|\\s+(?!\\S)|\\s"
#define PATTERN_O200K                                                          \
  "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*"                \
  "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"               \
  "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+"                \
  "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"               \
  "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|"                 \
  "\\s+(?!\\S)|\\s+"
/* That of Llama 3, and of Qwen 2. */
#define PATTERN_LLAMA3                                                         \
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"    \
  " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define PATTERN_QWEN2                                                          \
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|"         \
  " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

/* Every character. */
#define CHARS_PATTERN "\\s|."

/* pattern NULL: no split, only the space. The message names `what`. */
clattn_status split_add(clattn_tokenizer *t, const char *what,
                        const char *pattern, split_keep keep,
                        bool prefix_space);
void split_free(split_step *steps, int n);
/* A letter, mark, digit or joiner; not -1. */
bool split_is_word(int32_t point);
/* Whether the end of a text that is not all there yet can be held back piece by
 * piece: no pattern looks behind, no space is put in. */
bool split_streams(const clattn_tokenizer *t);

/* ---- encoding (encoder.c, bpe.c, wordpiece.c) ---------------------------- */

/* Tokens as they are found. */
typedef struct token_list {
  int32_t *ids;           /* [room] */
  int64_t *begins, *ends; /* [room]; NULL unless places is set */
  int64_t n, room;
  bool places;
} token_list;

clattn_status token_list_room(token_list *list, int64_t more);
void token_list_free(token_list *list);

static inline clattn_status token_put(token_list *list, int32_t id,
                                      int64_t begin, int64_t end) {
  if (list->n == list->room) KIT_TRY(token_list_room(list, 1));
  list->ids[list->n] = id;
  if (list->places) {
    list->begins[list->n] = begin;
    list->ends[list->n] = end;
  }
  list->n++;
  return CLATTN_OK;
}

/* A text, or a copy of a part with a space before it: byte i of it is byte
 * base + i of the text handed in, and none before `first`. */
typedef struct text_view {
  const char *text;
  size_t bytes;
  int64_t base, first;
  bool goes_on; /* stands behind bytes that are no UTF-8: no space before it */
} text_view;

static inline int64_t view_place(const text_view *view, size_t at) {
  const int64_t place = view->base + (int64_t)at;
  return place < view->first ? view->first : place;
}

typedef clattn_status (*piece_sink)(void *user, const char *piece,
                                    size_t bytes);

/* Memory that one call or stream works in. */
typedef struct encoder {
  const clattn_tokenizer *tokenizer;
  bool allow_special, raw_bytes;
  token_list out;
  pcre2_match_data *match;
  /* Not NULL: pieces go there, and no tokens are made. */
  piece_sink on_piece;
  void *user;
  void *work; /* of the model */
  size_t work_bytes;
} encoder;

clattn_status encode_options_check(const clattn_encode_options *options);
clattn_status encoder_init(encoder *e, const clattn_tokenizer *t,
                           const clattn_encode_options *options, bool places);
void encoder_free(encoder *e);
/* At least so many bytes of e->work; what is in it is lost. */
clattn_status encoder_work(encoder *e, size_t bytes);
/* Encodes text [bytes], which begins at byte `base` of the whole, and is UTF-8
 * unless raw_bytes is set. open: more may follow, so that only what no longer
 * depends on it is encoded: *done bytes. */
clattn_status encoder_text(encoder *e, const char *text, size_t bytes,
                           int64_t base, bool open, size_t *done);

/* An added token in a text: its bytes, white space that it takes included. */
typedef struct added_match {
  int32_t id;
  size_t begin, end;
  size_t known; /* none found: bytes that belong to none whatever follows */
} added_match;

/* The first at or behind `at`: where several begin, the longest. */
bool added_find(const encoder *e, const char *text, size_t bytes, size_t at,
                bool open, added_match *found);

/* What a pattern found: one piece. */
clattn_status encoder_piece(encoder *e, const text_view *view, size_t begin,
                            size_t end);
/* Splits view [begin, end) into pieces by the steps from `step` on. */
clattn_status split_text(encoder *e, int step, const text_view *view,
                         size_t begin, size_t end, bool open, size_t *done);

/* A stream that hands out pieces and makes no tokens. */
void token_stream_pieces(clattn_token_stream *stream, piece_sink on_piece,
                         void *user);
/* Pushes all of a file, and finishes. */
clattn_status token_stream_file(clattn_token_stream *stream, const char *path);

clattn_status bpe_encode(encoder *e, const text_view *view, size_t begin,
                         size_t end);
/* A merge; false: the pair has one already. */
clattn_status bpe_add_pair(bpe_model *bpe, int32_t left, int32_t right,
                           int32_t rank, int32_t id, bool *added);
/* Fills in byte_id and pieces. */
clattn_status bpe_finish(clattn_tokenizer *t);
void bpe_free(bpe_model *bpe);

clattn_status wordpiece_encode(encoder *e, const char *text, size_t bytes,
                               int64_t base);
/* Bytes of the longest prefix that ends where a word ends whatever follows. */
size_t wordpiece_cut(const clattn_tokenizer *t, const char *text, size_t bytes);

#endif
