/* Bad arguments of clattn_text.h: refused by name, and nothing changed. */
#define _POSIX_C_SOURCE 200809L /* mkdtemp */
#include "clattn_text.h"
#include "errors.h"
#include "text_files.h"

Test(errors, tokenizers) {
  clattn_tokenizer *t = small_bpe(BYTE_LEVEL, "", ""), *made = t;
  clattn_encoding out;
  clattn_encode_options o;
  clattn_tokenizer_config config;
  FAILS(INVALID_ARGUMENT, "path", clattn_tokenizer_load(NULL, NULL, &made));
  cr_expect_null(made);
  FAILS(INVALID_ARGUMENT, "tokenizer", clattn_tokenizer_load("a", NULL, NULL));
  clattn_tokenizer_config_init(&config);
  config.struct_size--;
  FAILS(INVALID_ARGUMENT, "struct_size",
        clattn_tokenizer_load("a", &config, &made));
  clattn_tokenizer_config_init(&config);
  config.lowercase = 2;
  FAILS(INVALID_ARGUMENT, "lowercase",
        clattn_tokenizer_load("a", &config, &made));
  clattn_tokenizer_config_init(&config);
  config.n_specials = 1;
  FAILS(INVALID_ARGUMENT, "specials",
        clattn_tokenizer_load("a", &config, &made));
  FAILS(INVALID_ARGUMENT, "kind",
        clattn_tokenizer_from_text(CLATTN_TOKENIZER_BPE, "a", 1, &made));
  FAILS(INVALID_ARGUMENT, "empty",
        clattn_tokenizer_from_text(CLATTN_TOKENIZER_WORDS, "", 0, &made));
  FAILS(INVALID_ARGUMENT, "no words",
        clattn_tokenizer_from_text(CLATTN_TOKENIZER_WORDS, " \n", 2, &made));
  FAILS(INVALID_ARGUMENT, "byte 1",
        clattn_tokenizer_from_text(CLATTN_TOKENIZER_CHARS, "a\xff", 2, &made));
  cr_expect_null(made);

  FAILS(INVALID_ARGUMENT, "encoding",
        clattn_tokenizer_encode(t, "a", 1, NULL, NULL));
  FAILS(INVALID_ARGUMENT, "tokenizer",
        clattn_tokenizer_encode(NULL, "a", 1, NULL, &out));
  FAILS(INVALID_ARGUMENT, "text",
        clattn_tokenizer_encode(t, NULL, 1, NULL, &out));
  clattn_encode_options_init(&o);
  o.struct_size = 0;
  FAILS(INVALID_ARGUMENT, "struct_size",
        clattn_tokenizer_encode(t, "a", 1, &o, &out));
  clattn_encode_options_init(&o);
  o.invalid = (clattn_invalid)3;
  FAILS(INVALID_ARGUMENT, "invalid",
        clattn_tokenizer_encode(t, "a", 1, &o, &out));
  clattn_encode_options_init(&o);
  o.max_length = -1;
  FAILS(INVALID_ARGUMENT, "max_length",
        clattn_tokenizer_encode(t, "a", 1, &o, &out));
  clattn_encode_options_init(&o);
  o.pair = "b", o.pair_bytes = 1;
  FAILS(UNSUPPORTED, "pair", clattn_tokenizer_encode(t, "a", 1, &o, &out));
  o.pair = NULL;
  FAILS(INVALID_ARGUMENT, "pair", clattn_tokenizer_encode(t, "a", 1, &o, &out));
  cr_expect(out.ids == NULL && out.n == 0);
  clattn_encoding_free(NULL);

  const int32_t ids[] = {'a', 9999, -1};
  char *text;
  size_t bytes;
  FAILS(INVALID_ARGUMENT, "ids[1]: got 9999",
        clattn_tokenizer_decode(t, ids, 2, false, &text, &bytes));
  cr_expect_null(text);
  FAILS(INVALID_ARGUMENT, "ids[0]: got -1",
        clattn_tokenizer_decode(t, ids + 2, 1, false, &text, &bytes));
  FAILS(INVALID_ARGUMENT, "n: got -1",
        clattn_tokenizer_decode(t, ids, -1, false, &text, &bytes));
  FAILS(INVALID_ARGUMENT, "ids",
        clattn_tokenizer_decode(t, NULL, 1, false, &text, &bytes));
  FAILS(INVALID_ARGUMENT, "tokenizer",
        clattn_tokenizer_decode(NULL, ids, 1, false, &text, &bytes));
  FAILS(INVALID_ARGUMENT, "text",
        clattn_tokenizer_decode(t, ids, 1, false, NULL, &bytes));

  clattn_kit_tensor tensor;
  clattn_kit_metadata metadata;
  FAILS(INVALID_ARGUMENT, "tokenizer",
        clattn_tokenizer_describe(NULL, &tensor, &metadata, &text));
  FAILS(INVALID_ARGUMENT, "text",
        clattn_tokenizer_describe(t, &tensor, &metadata, NULL));
  FAILS(INVALID_ARGUMENT, "file",
        clattn_tokenizer_from_safetensors(NULL, &made));
  FAILS(INVALID_ARGUMENT, "folder", clattn_tokenizer_save(t, NULL));
  FAILS(IO_ERROR, "/nonexistent", clattn_tokenizer_save(t, "/nonexistent/a/b"));
  FAILS(INVALID_ARGUMENT, "text_path",
        clattn_tokenizer_encode_file(t, NULL, NULL, "b", NULL));
  FAILS(INVALID_ARGUMENT, "ids_path",
        clattn_tokenizer_encode_file(t, "a", NULL, NULL, NULL));
  clattn_token_stream *stream = NULL;
  FAILS(INVALID_ARGUMENT, "sink",
        clattn_token_stream_create(t, NULL, NULL, NULL, &stream));
  FAILS(INVALID_ARGUMENT, "stream",
        clattn_token_stream_create(t, NULL, NULL, NULL, NULL));
  FAILS(INVALID_ARGUMENT, "stream", clattn_token_stream_push(NULL, "a", 1));
  FAILS(INVALID_ARGUMENT, "stream", clattn_token_stream_finish(NULL));
  clattn_bpe_config bpe;
  clattn_bpe_config_init(&bpe);
  FAILS(INVALID_ARGUMENT, "path",
        clattn_tokenizer_train_bpe(&bpe, NULL, &made));
  FAILS(INVALID_ARGUMENT, "config",
        clattn_tokenizer_train_bpe(NULL, "a", &made));
  FAILS(INVALID_ARGUMENT, "tokenizer",
        clattn_tokenizer_train_bpe(&bpe, "a", NULL));

  cr_expect_eq(clattn_tokenizer_size(NULL), 0);
  cr_expect_null(clattn_tokenizer_token(NULL, 0, &bytes));
  cr_expect_eq(clattn_tokenizer_id(NULL, "a", 1), -1);
  cr_expect_eq(clattn_tokenizer_id(t, NULL, 0), -1);
  cr_expect_not(clattn_tokenizer_is_special(NULL, 0));
  cr_expect_not(clattn_tokenizer_space(NULL, 0, 0));
  clattn_tokenizer_config_init(NULL);
  clattn_encode_options_init(NULL);
  clattn_bpe_config_init(NULL);
  clattn_tokenizer_destroy(NULL);
  clattn_tokenizer_destroy(t);
}
