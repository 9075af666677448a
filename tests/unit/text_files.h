/* text_files.h - small vocabularies in a folder that goes again. */
#ifndef TEXT_FILES_H
#define TEXT_FILES_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "../support/harness.h"
#include "clattn_text.h"

typedef struct folder {
  char path[64];
  char file[128]; /* the last one that was named */
} folder;

static inline folder folder_make(void) {
  folder f = {.path = "/tmp/clattn-text-XXXXXX"};
  cr_assert(mkdtemp(f.path));
  return f;
}

static inline const char *folder_file(folder *f, const char *name) {
  snprintf(f->file, sizeof f->file, "%s/%s", f->path, name);
  return f->file;
}

static inline void folder_put(folder *f, const char *name, const char *text,
                              size_t bytes) {
  FILE *file = fopen(folder_file(f, name), "wb");
  cr_assert(file);
  cr_assert(bytes == 0 || fwrite(text, bytes, 1, file) == 1);
  cr_assert_eq(fclose(file), 0);
}

static inline void folder_write(folder *f, const char *name, const char *text) {
  folder_put(f, name, text, strlen(text));
}

/* All of a file, terminated, to free(). */
static inline char *folder_read(folder *f, const char *name, size_t *bytes) {
  FILE *file = fopen(folder_file(f, name), "rb");
  cr_assert(file, "%s", f->file);
  cr_assert_eq(fseek(file, 0, SEEK_END), 0);
  *bytes = (size_t)ftell(file);
  rewind(file);
  char *text = calloc(1, *bytes + 1);
  cr_assert(text && fread(text, 1, *bytes, file) == *bytes);
  fclose(file);
  return text;
}

static inline void folder_remove(folder *f) {
  char command[96];
  snprintf(command, sizeof command, "rm -rf %s", f->path);
  cr_expect_eq(system(command), 0);
}

static inline clattn_tokenizer *load(const char *path) {
  clattn_tokenizer *t = NULL;
  TH_OK(clattn_tokenizer_load(path, NULL, &t));
  return t;
}

/* ---- vocabularies -------------------------------------------------------- */

/* The character of a byte in GPT-2's files, terminated. */
static inline const char *byte_char(int byte, char text[3]) {
  int point = byte, before = 0;
  const bool printable = (byte >= 33 && byte <= 126) ||
                         (byte >= 161 && byte <= 172) || byte >= 174;
  for (int i = 0; i < byte; i++)
    before += !((i >= 33 && i <= 126) || (i >= 161 && i <= 172) || i >= 174);
  if (!printable) point = 256 + before;
  if (point < 128) {
    text[0] = (char)point, text[1] = 0;
  } else {
    text[0] = (char)(0xc0 | point >> 6), text[1] = (char)(0x80 | (point & 63));
    text[2] = 0;
  }
  return text;
}

/* Merges of the small BPE vocabulary, in ASCII: token 256 + i is merge i. */
static const char *const small_merges[][2] = {
    {"t", "h"},   {"th", "e"},      {"a", "a"},   {"aa", "aa"},  {"a", "b"},
    {"ab", "ab"}, {"b", "a"},       {"e", "r"},   {"the", "r"},  {"e", "the"},
    {"l", "l"},   {"\xc3", "\xa9"}, {"x", "the"}, {"aaaa", "b"}, {"h", "e"}};
enum { N_SMALL = sizeof small_merges / sizeof *small_merges };

/* "a":1, ... of the 256 bytes (the id is the byte) and the merges. */
static inline void small_vocab(char *to) {
  char one[3], two[3];
  *to = 0;
  for (int i = 0; i < 256; i++) {
    byte_char(i, one);
    to += sprintf(to, "%s\"%s%s\": %d", i ? ", " : "",
                  one[0] == '"' || one[0] == '\\' ? "\\" : "", one, i);
  }
  for (int i = 0; i < N_SMALL; i++) {
    to += sprintf(to, ", \"");
    for (int side = 0; side < 2; side++)
      for (const char *c = small_merges[i][side]; *c; c++)
        to += sprintf(to, "%s", byte_char((unsigned char)*c, two));
    to += sprintf(to, "\": %d", 256 + i);
  }
}

static inline void small_merge(int i, char *to) {
  char one[3];
  *to = 0;
  for (int side = 0; side < 2; side++) {
    if (side) strcat(to, " ");
    for (const char *c = small_merges[i][side]; *c; c++)
      strcat(to, byte_char((unsigned char)*c, one));
  }
}

/* vocab.json and merges.txt, with <|endoftext|> 271. */
static inline void put_small_bpe(folder *f) {
  char *text = calloc(1, 1 << 16), merge[64];
  cr_assert(text);
  strcpy(text, "{");
  small_vocab(text + 1);
  strcat(text, ", \"<|endoftext|>\": 271}");
  folder_write(f, "vocab.json", text);
  strcpy(text, "#version: 0.2\n");
  for (int i = 0; i < N_SMALL; i++) {
    small_merge(i, merge);
    strcat(strcat(text, merge), "\n");
  }
  folder_write(f, "merges.txt", text);
  free(text);
}

/* tokenizer.json with the same model; the rest as given ("" for nothing). */
static inline char *small_json(const char *pre_tokenizer, const char *more,
                               const char *settings) {
  char *text = calloc(1, 1 << 16), merge[64];
  cr_assert(text);
  sprintf(text,
          "{\"pre_tokenizer\": %s, %s \"model\": {\"type\": \"BPE\", %s "
          "\"vocab\": {",
          pre_tokenizer, more, settings);
  small_vocab(text + strlen(text));
  strcat(text, "}, \"merges\": [");
  for (int i = 0; i < N_SMALL; i++) {
    small_merge(i, merge);
    sprintf(text + strlen(text), "%s\"%s\"", i ? ", " : "", merge);
  }
  strcat(text, "]}}");
  return text;
}

#define BYTE_LEVEL                                                             \
  "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"use_regex\": "     \
  "true}"
#define ONE_PIECE                                                              \
  "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"use_regex\": "     \
  "false}"

static inline clattn_tokenizer *small_bpe(const char *pre_tokenizer,
                                          const char *more,
                                          const char *settings) {
  folder f = folder_make();
  char *json = small_json(pre_tokenizer, more, settings);
  folder_write(&f, "tokenizer.json", json);
  clattn_tokenizer *t = load(f.path);
  free(json);
  folder_remove(&f);
  return t;
}

/* A vocabulary of WordPiece; the id is the line from 0. */
static const char small_words[] =
    "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nun\n##aff\n##able\nhello\n,\nworld\n!"
    "\ncafe\n\u4e16\n##s\nCaf\n##\u00e9\n[\n]\nmask\ni\n##\u0307\n";

static inline clattn_tokenizer *small_wordpiece(int lowercase) {
  folder f = folder_make();
  folder_write(&f, "vocab.txt", small_words);
  clattn_tokenizer_config config;
  clattn_tokenizer_config_init(&config);
  config.lowercase = lowercase;
  clattn_tokenizer *t = NULL;
  TH_OK(clattn_tokenizer_load(folder_file(&f, "vocab.txt"), &config, &t));
  folder_remove(&f);
  return t;
}

/* ---- checks -------------------------------------------------------------- */

static inline void expect_tokens(const clattn_tokenizer *t, const char *text,
                                 const clattn_encode_options *options,
                                 const int32_t *want, int64_t n) {
  clattn_encoding got;
  TH_OK(clattn_tokenizer_encode(t, text, strlen(text), options, &got));
  cr_expect_eq(got.n, n, "'%s' has %lld tokens, want %lld", text,
               (long long)got.n, (long long)n);
  for (int64_t i = 0; i < n && i < got.n; i++)
    cr_expect_eq(got.ids[i], want[i], "'%s': token %lld is %d, want %d", text,
                 (long long)i, got.ids[i], want[i]);
  clattn_encoding_free(&got);
}

#define EXPECT(t, text, options, ...)                                          \
  expect_tokens(t, text, options, (const int32_t[]){__VA_ARGS__},              \
                sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t))

static inline clattn_encode_options with(bool allow_special, bool add_special,
                                         clattn_invalid invalid) {
  clattn_encode_options options;
  clattn_encode_options_init(&options);
  options.allow_special = allow_special;
  options.add_special = add_special;
  options.invalid = invalid;
  return options;
}

#endif /* TEXT_FILES_H */
