/* clattn_text.h - text to tokens and back.
 *
 *   chars       code points                            numbered in their order
 *   words       ([,.:;?_!"()']|--|\s)                  sorted, <|endoftext|>, <|unk|>
 *   BPE         byte-level, as GPT-2 (Radford et al. 2019; Sennrich et al. 2016)
 *   WordPiece   as BERT (Devlin et al. 2019), cased and uncased
 *
 * One handle for all of them: clattn_tokenizer. It is loaded from the files that
 * models come with, made from a text, or trained.
 *
 * Part of libclattn_kit; the conventions of clattn.h and clattn_kit.h hold.
 *
 *   Text      size_bytes of UTF-8; NUL is a character like others. What is not
 *             UTF-8 is treated as the caller says (clattn_invalid).
 *   Offsets   bytes of the text that was handed in, as it was before any
 *             normalisation.
 *   Unicode   letters, marks and white space are those of the versions of PCRE2
 *             and utf8proc that are linked: characters that a newer Unicode has
 *             added may be split otherwise elsewhere. White space is the
 *             property White_Space; no text is normalised but for WordPiece.
 *   Threads   a tokenizer does not change once made: any thread, any time. A
 *             stream: one thread at a time. */
#ifndef CLATTN_TEXT_H
#define CLATTN_TEXT_H

#include "clattn_kit.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct clattn_tokenizer clattn_tokenizer;

typedef enum clattn_tokenizer_kind {
  CLATTN_TOKENIZER_CHARS = 0,
  CLATTN_TOKENIZER_WORDS = 1,
  CLATTN_TOKENIZER_BPE = 2,
  CLATTN_TOKENIZER_WORDPIECE = 3
} clattn_tokenizer_kind;

/* ---- Making one ----------------------------------------------------------- */

/* What the files do not say; only for the kinds of file named at each. */
typedef struct clattn_tokenizer_config {
  size_t struct_size; /* set by clattn_tokenizer_config_init */
  /* .tiktoken, vocab.json: the regular expression (PCRE2) that splits a text
   * into the pieces that merges stay within. NULL: for a .tiktoken file whose
   * name is that of a known encoding (cl100k_base, o200k_base, ...) its pattern,
   * else GPT-2's. */
  const char *pattern;
  /* .tiktoken: special tokens and their ids; n_specials 0: those of the known
   * encoding, else <|endoftext|> behind the last rank. */
  const char *const *specials;
  const int32_t *special_ids;
  size_t n_specials;
  /* vocab.txt: lower case and no accents. Default -1: what
   * tokenizer_config.json beside it says, else true. */
  int lowercase;
} clattn_tokenizer_config;

CLATTN_API void clattn_tokenizer_config_init(clattn_tokenizer_config *config);

/* path is a file, or a folder in which the first of these is taken:
 *
 *   tokenizer.json              Hugging Face tokenizers: byte-level BPE,
 *                               WordPiece, WordLevel; UNSUPPORTED names the part
 *                               that nothing here reads
 *   vocab.json + merges.txt     GPT-2, also encoder.json + vocab.bpe
 *   vocab.txt                   BERT, with tokenizer_config.json if it is there
 *   *.tiktoken                  lines of base64 and rank
 *   *.gguf                      of tokenizer.ggml.model "gpt2" or "bert"
 *   *.safetensors               a model that `clattn train` made
 *
 * Truncation and padding that a tokenizer.json asks for are not applied.
 * config NULL: all defaults. IO_ERROR: what is wrong, with file and line. */
CLATTN_API clattn_status
clattn_tokenizer_load(const char *path, const clattn_tokenizer_config *config,
                      clattn_tokenizer **tokenizer);

/* CHARS or WORDS: the vocabulary of a text, which may go afterwards.
 * INVALID_ARGUMENT: not UTF-8 (the message has the byte's offset), or empty. */
CLATTN_API clattn_status
clattn_tokenizer_from_text(clattn_tokenizer_kind kind, const char *text,
                           size_t size_bytes, clattn_tokenizer **tokenizer);

/* Learns a byte-level BPE vocabulary: the 256 bytes, then merges of the most
 * frequent pair (of equals the one with the smaller ids), then the specials. */
typedef struct clattn_bpe_config {
  size_t struct_size;          /* set by clattn_bpe_config_init */
  int32_t vocab_size;          /* all of it; to be set */
  int64_t min_frequency;       /* of a pair that is merged; default 2 */
  const char *pattern;         /* NULL (default): GPT-2's */
  const char *const *specials; /* default: <|endoftext|> alone */
  size_t n_specials;
  /* Told now and then how far it is; may be NULL. */
  void (*progress)(void *user, int64_t done, int64_t total);
  void *progress_user;
} clattn_bpe_config;

CLATTN_API void clattn_bpe_config_init(clattn_bpe_config *config);
/* From the file at path, which is read in parts: memory grows with the number of
 * distinct pieces, not with the text. The vocabulary is smaller than vocab_size
 * when no pair is left that is frequent enough. */
CLATTN_API clattn_status
clattn_tokenizer_train_bpe(const clattn_bpe_config *config, const char *path,
                           clattn_tokenizer **tokenizer);

CLATTN_API void clattn_tokenizer_destroy(clattn_tokenizer *tokenizer);

/* Writes tokenizer.json, which clattn_tokenizer_load and Hugging Face's
 * tokenizers read, and for BPE vocab.json and merges.txt too, into a folder,
 * which is made if it is not there. */
CLATTN_API clattn_status
clattn_tokenizer_save(const clattn_tokenizer *tokenizer, const char *folder);
/* What a file of tensors keeps of a tokenizer: tokens.text, U8, and metadata
 * tokens. "chars": the characters in order; "words": the words with line feeds
 * between them; any other: "tokenizer.json", and its text. tensor->data is *text,
 * to free() by the caller. */
CLATTN_API clattn_status clattn_tokenizer_describe(
    const clattn_tokenizer *tokenizer, clattn_kit_tensor *tensor,
    clattn_kit_metadata *metadata, char **text);
CLATTN_API clattn_status clattn_tokenizer_from_safetensors(
    const clattn_kit_safetensors *file, clattn_tokenizer **tokenizer);

/* ---- The vocabulary ------------------------------------------------------- */

CLATTN_API clattn_tokenizer_kind
clattn_tokenizer_get_kind(const clattn_tokenizer *tokenizer);
/* One more than the largest id; 0 for NULL. */
CLATTN_API int32_t clattn_tokenizer_size(const clattn_tokenizer *tokenizer);
/* The bytes a token stands for (of WordPiece with its ##), terminated, owned by
 * the tokenizer. NULL and 0 for an id that no token has. size_bytes may be NULL. */
CLATTN_API const char *clattn_tokenizer_token(const clattn_tokenizer *tokenizer,
                                              int32_t id, size_t *size_bytes);
/* The id of such bytes; -1 if there is none. */
CLATTN_API int32_t clattn_tokenizer_id(const clattn_tokenizer *tokenizer,
                                       const char *token, size_t size_bytes);
CLATTN_API bool clattn_tokenizer_is_special(const clattn_tokenizer *tokenizer,
                                            int32_t id);

/* ---- Encoding ------------------------------------------------------------- */

typedef enum clattn_invalid { /* what to do where a text is not UTF-8 */
                              CLATTN_INVALID_ERROR =
                                  0, /* INVALID_ARGUMENT with the byte's offset */
                              CLATTN_INVALID_REPLACE =
                                  1, /* U+FFFD for each maximal part, as Unicode has it */
                              CLATTN_INVALID_BYTES =
                                  2 /* byte-level BPE: the bytes as they are; other
                               * kinds: as REPLACE */
} clattn_invalid;

typedef struct clattn_encode_options {
  size_t struct_size; /* set by clattn_encode_options_init */
  bool allow_special; /* special tokens written out in the text become those;
                       * default false: they are text like any other */
  bool add_special;   /* what the model wants around a text: [CLS] a [SEP];
                       * default true. Nothing for kinds that have none */
  clattn_invalid invalid; /* default ERROR */
  const char *pair;       /* a second text: [CLS] a [SEP] b [SEP]; NULL: none.
                            * Kinds without a template for pairs: UNSUPPORTED */
  size_t pair_bytes;
  int64_t max_length; /* cut to so many tokens, those added included, from the
                       * end of the longer text; 0 (default): never */
} clattn_encode_options;

CLATTN_API void clattn_encode_options_init(clattn_encode_options *options);

typedef struct clattn_encoding {
  int64_t n;
  int32_t *ids;    /* [n] */
  int64_t *begins; /* [n] bytes begins[i] .. ends[i]-1 of the text, or of the */
  int64_t *ends;   /* [n] pair; both 0 for a token that was added */
  uint8_t *segments; /* [n] 0: text, 1: pair */
  uint8_t *added;    /* [n] 1: [CLS] and its like, that no text stands for */
  bool truncated;    /* max_length cut something */
} clattn_encoding;

/* Places: a space that add_prefix_space puts in has begin = end, and there is
 * none behind bytes that are not UTF-8; leading spaces of a token are its own (trim_offsets is not applied). segments tell the texts
 * apart whatever types a file's template has.
 * options NULL: all defaults. On success clattn_encoding_free is due; on failure
 * *encoding is all 0. A character, word or (BPE) byte that the vocabulary does
 * not have is its unknown token where there is one, as <|unk|> of WORDS, else
 * INVALID_ARGUMENT with the character. */
CLATTN_API clattn_status clattn_tokenizer_encode(
    const clattn_tokenizer *tokenizer, const char *text, size_t size_bytes,
    const clattn_encode_options *options, clattn_encoding *encoding);
CLATTN_API void clattn_encoding_free(clattn_encoding *encoding);

/* ---- Texts larger than memory --------------------------------------------- */

/* Receives tokens in order, 1 or more at a time; what is not CLATTN_OK ends the
 * stream with that status, and with the message that the sink has set
 * (clattn_set_error) or "sink: ended the stream". */
typedef clattn_status (*clattn_token_sink)(void *user, const int32_t *ids,
                                           int64_t n);

typedef struct clattn_token_stream clattn_token_stream;

/* The ids that clattn_tokenizer_encode gives for the whole, whatever the parts
 * that the text comes in; pair and max_length are not used. Memory: some parts, and the longest piece (a word, a run of white
 * space), of at most 16 MiB: INVALID_ARGUMENT beyond. Where a pattern looks
 * behind, a space is put in before a text (add_prefix_space) or an added token
 * is a single_word, all of the text counts as one piece. */
CLATTN_API clattn_status clattn_token_stream_create(
    const clattn_tokenizer *tokenizer, const clattn_encode_options *options,
    clattn_token_sink sink, void *user, clattn_token_stream **stream);
CLATTN_API clattn_status clattn_token_stream_push(clattn_token_stream *stream,
                                                  const char *text,
                                                  size_t size_bytes);
/* The end of the text: what was held back is encoded now. */
CLATTN_API clattn_status
clattn_token_stream_finish(clattn_token_stream *stream);
CLATTN_API void clattn_token_stream_destroy(clattn_token_stream *stream);

/* Encodes a file into a safetensors file with the tensor ids (I32 [n]), part by
 * part. Mapped by clattn_kit_safetensors_open its ids are what clattn_kit_loader
 * takes: windows over a text that is nowhere in memory. n may be NULL. */
CLATTN_API clattn_status clattn_tokenizer_encode_file(
    const clattn_tokenizer *tokenizer, const char *text_path,
    const clattn_encode_options *options, const char *ids_path, int64_t *n);

/* ---- Decoding ------------------------------------------------------------- */

/* The text of ids [n], terminated, to free() by the caller. BPE: the bytes, which
 * may begin or end within a character. WORDS: spaces between words, none before
 * , . : ; ? ! " ( ) '  . WordPiece: ## joins, and " ." becomes "." as BERT's
 * decoder has it. skip_special leaves special tokens out. INVALID_ARGUMENT names
 * the id that no token has. */
CLATTN_API clattn_status clattn_tokenizer_decode(
    const clattn_tokenizer *tokenizer, const int32_t *ids, int64_t n,
    bool skip_special, char **text, size_t *size_bytes);
/* Whether decoding puts a space between these two; before < 0: at the start. */
CLATTN_API bool clattn_tokenizer_space(const clattn_tokenizer *tokenizer,
                                       int32_t before, int32_t id);

#ifdef __cplusplus
}
#endif
#endif /* CLATTN_TEXT_H */
