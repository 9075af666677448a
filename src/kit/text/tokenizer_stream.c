/* tokenizer_stream.c - a text that comes in parts; files larger than memory.
 *
 * What has come and is not yet tokens is held in one buffer. Whatever no longer
 * depends on what follows is encoded and goes; the rest waits for more. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tokenizer.h"
#include "utf8.h"
#include "wellformed.h"

enum {
  PART = 1 << 18,    /* bytes that are looked at together */
  FEW = 256,         /* bytes worth a try */
  LONGEST = 16 << 20 /* bytes of a piece */
};

struct clattn_token_stream {
  encoder e;
  clattn_invalid invalid;
  clattn_token_sink sink;
  void *user;
  const token_template *around; /* the tokenizer's; NULL: nothing is added */
  int next_around; /* the item of it that comes next; 0: none has come */
  char *held;      /* [room] of which n, UTF-8 unless bytes go as they are */
  size_t n, room;
  size_t next_try;     /* bytes held that are worth a try: a long piece would be
                    * looked at again and again */
  char part[PART + 4]; /* what has come, behind a character's first bytes */
  size_t n_part;
  int64_t checked; /* bytes that have gone through `part` */
  int64_t encoded; /* bytes that have left `held` */
  bool ended;      /* finished or failed */
};

clattn_status clattn_token_stream_create(const clattn_tokenizer *tokenizer,
                                         const clattn_encode_options *options,
                                         clattn_token_sink sink, void *user,
                                         clattn_token_stream **stream) {
  KIT_REQUIRE(stream != NULL, "stream: got NULL, want a place");
  *stream = NULL;
  KIT_REQUIRE(tokenizer != NULL, "tokenizer: got NULL, want a tokenizer");
  KIT_REQUIRE(sink != NULL, "sink: got NULL, want a function");
  clattn_encode_options defaults;
  clattn_encode_options_init(&defaults);
  if (options == NULL) options = &defaults;
  KIT_TRY(encode_options_check(options));
  clattn_token_stream *made = calloc(1, sizeof *made);
  if (made == NULL) return KIT_OUT_OF_MEMORY("stream");
  const clattn_status status =
      encoder_init(&made->e, tokenizer, options, false);
  if (status != CLATTN_OK) {
    free(made);
    return status;
  }
  made->invalid = options->invalid;
  made->sink = sink;
  made->user = user;
  made->next_try = FEW;
  if (options->add_special && tokenizer->single.n > 0)
    made->around = &tokenizer->single;
  *stream = made;
  return CLATTN_OK;
}

void clattn_token_stream_destroy(clattn_token_stream *stream) {
  if (stream == NULL) return;
  encoder_free(&stream->e);
  free(stream->held);
  free(stream);
}

void token_stream_pieces(clattn_token_stream *stream, piece_sink on_piece,
                         void *user) {
  stream->e.on_piece = on_piece;
  stream->e.user = user;
}

/* ---- what stands around -------------------------------------------------- */

/* A sink that fails without a message of its own shows this one. */
static clattn_status give(clattn_token_stream *s, const int32_t *ids,
                          int64_t n) {
  clattn_set_error(CLATTN_OK, "sink: ended the stream");
  return s->sink(s->user, ids, n);
}

/* Tokens of the template up to the text, or behind it up to the end. */
static clattn_status put_around(clattn_token_stream *s) {
  while (s->around != NULL && s->next_around < s->around->n) {
    const template_item *item = &s->around->items[s->next_around++];
    if (item->what == TEMPLATE_TEXT) break;
    KIT_TRY(give(s, &item->id, 1));
  }
  return CLATTN_OK;
}

/* ---- what is held -------------------------------------------------------- */

static clattn_status hold(clattn_token_stream *s, const char *text, size_t n) {
  if (n == 0) return CLATTN_OK;
  if (s->room - s->n < n) {
    size_t room = s->room > 0 ? s->room : PART;
    while (room - s->n < n) room *= 2;
    char *held = realloc(s->held, room);
    if (held == NULL) return KIT_OUT_OF_MEMORY("text");
    s->held = held;
    s->room = room;
  }
  memcpy(s->held + s->n, text, n);
  s->n += n;
  return CLATTN_OK;
}

/* Encodes what can be; all of it at the end. */
static clattn_status encode_held(clattn_token_stream *s, bool open) {
  if (open && s->n < s->next_try) return CLATTN_OK;
  size_t done = 0;
  if (s->n > 0)
    KIT_TRY(encoder_text(&s->e, s->held, s->n, s->encoded, open, &done));
  s->n -= done;
  s->encoded += (int64_t)done;
  if (done > 0) memmove(s->held, s->held + done, s->n);
  s->next_try = s->n + s->n / 2 + FEW;
  if (s->e.out.n > 0) {
    const int64_t n = s->e.out.n;
    s->e.out.n = 0;
    KIT_TRY(give(s, s->e.out.ids, n));
  }
  KIT_REQUIRE(s->n <= LONGEST,
              "text: more than %d bytes from byte %lld on are one piece",
              LONGEST, (long long)s->encoded);
  return CLATTN_OK;
}

/* ---- what has come ------------------------------------------------------- */

/* Bytes at the end that may be the start of a character. */
static size_t cut_off(const char *text, size_t n) {
  for (size_t k = 1; k <= 3 && k <= n; k++) {
    bool cut;
    const char *tail = text + n - k;
    if (kit_utf8_valid(tail, k) > 0) return 0;
    if (kit_utf8_bad(tail, k, &cut) == k && cut) return k;
  }
  return 0;
}

/* The part goes into the buffer, made UTF-8. */
static clattn_status take_part(clattn_token_stream *s, bool open) {
  const size_t tail = open ? cut_off(s->part, s->n_part) : 0;
  const size_t n = s->n_part - tail;
  const size_t valid = s->e.raw_bytes ? n : kit_utf8_valid(s->part, n);
  KIT_REQUIRE(valid == n || s->invalid != CLATTN_INVALID_ERROR,
              "text: not UTF-8 at byte %lld",
              (long long)(s->checked + (int64_t)valid));
  wellformed whole = {0};
  clattn_status status =
      wellformed_make(&whole, "text", s->part, n, s->invalid, s->e.raw_bytes);
  if (status == CLATTN_OK) status = hold(s, whole.text, whole.bytes);
  wellformed_free(&whole);
  memmove(s->part, s->part + n, tail);
  s->n_part = tail;
  s->checked += (int64_t)n;
  return status == CLATTN_OK ? encode_held(s, open) : status;
}

static clattn_status push(clattn_token_stream *s, const char *text, size_t n) {
  while (n > 0) {
    const size_t room = PART - s->n_part, some = n < room ? n : room;
    memcpy(s->part + s->n_part, text, some);
    s->n_part += some;
    text += some;
    n -= some;
    KIT_TRY(take_part(s, true));
  }
  return CLATTN_OK;
}

clattn_status clattn_token_stream_push(clattn_token_stream *stream,
                                       const char *text, size_t size_bytes) {
  KIT_REQUIRE(stream != NULL, "stream: got NULL, want a stream");
  KIT_REQUIRE(text != NULL || size_bytes == 0, "text: got NULL, want %zu bytes",
              size_bytes);
  KIT_REQUIRE(!stream->ended, "stream: has ended");
  clattn_status status = CLATTN_OK;
  if (stream->next_around == 0) status = put_around(stream);
  if (status == CLATTN_OK) status = push(stream, text, size_bytes);
  if (status != CLATTN_OK) stream->ended = true;
  return status;
}

clattn_status clattn_token_stream_finish(clattn_token_stream *stream) {
  KIT_REQUIRE(stream != NULL, "stream: got NULL, want a stream");
  KIT_REQUIRE(!stream->ended, "stream: has ended");
  stream->ended = true;
  if (stream->next_around == 0) KIT_TRY(put_around(stream));
  KIT_TRY(take_part(stream, false));
  return put_around(stream);
}

/* ---- files --------------------------------------------------------------- */

typedef struct ids_file {
  clattn_kit_safetensors_writer *writer;
  int64_t n;
} ids_file;

static clattn_status put_ids(void *user, const int32_t *ids, int64_t n) {
  ids_file *file = user;
  file->n += n;
  return clattn_kit_safetensors_writer_put(file->writer, 0, ids,
                                           (size_t)n * sizeof *ids);
}

/* What was said about the argument `text` is about the file. */
static clattn_status name_file(clattn_status status, const char *path) {
  static const char text[] = "text: ";
  const char *message = clattn_error_message();
  return strncmp(message, text, sizeof text - 1) != 0
             ? status
             : clattn_set_error(status, "%s: %s", path,
                                message + sizeof text - 1);
}

clattn_status token_stream_file(clattn_token_stream *stream, const char *path) {
  FILE *text = fopen(path, "rb");
  char *part = malloc(PART);
  clattn_status status = CLATTN_OK;
  if (text == NULL)
    status = KIT_BAD("%s: %s", path, strerror(errno));
  else if (part == NULL)
    status = KIT_OUT_OF_MEMORY("text");
  while (status == CLATTN_OK) {
    const size_t n = fread(part, 1, PART, text);
    if (n == 0) break;
    status = clattn_token_stream_push(stream, part, n);
  }
  if (status == CLATTN_OK && ferror(text))
    status = KIT_BAD("%s: %s", path, strerror(errno));
  if (text != NULL) fclose(text);
  free(part);
  if (status == CLATTN_OK) status = clattn_token_stream_finish(stream);
  return status == CLATTN_OK ? status : name_file(status, path);
}

clattn_status clattn_tokenizer_encode_file(const clattn_tokenizer *tokenizer,
                                           const char *text_path,
                                           const clattn_encode_options *options,
                                           const char *ids_path, int64_t *n) {
  KIT_REQUIRE(text_path != NULL, "text_path: got NULL, want a file's path");
  KIT_REQUIRE(ids_path != NULL, "ids_path: got NULL, want a file's path");
  const clattn_kit_tensor tensor = {.name = "ids",
                                    .dtype = CLATTN_KIT_I32,
                                    .rank = 1,
                                    .extent = {CLATTN_KIT_GROWS}};
  ids_file file = {0};
  clattn_token_stream *stream = NULL;
  KIT_TRY(
      clattn_token_stream_create(tokenizer, options, put_ids, &file, &stream));
  clattn_status status = clattn_kit_safetensors_writer_create(
      ids_path, &tensor, 1, NULL, 0, &file.writer);
  if (status == CLATTN_OK) status = token_stream_file(stream, text_path);
  if (status == CLATTN_OK)
    status = clattn_kit_safetensors_writer_finish(file.writer);
  clattn_kit_safetensors_writer_destroy(file.writer);
  clattn_token_stream_destroy(stream);
  if (status == CLATTN_OK && n != NULL) *n = file.n;
  return status;
}
