/* write_arrays.c - an attention file of anybody's numbers. */
#include <stdlib.h>
#include <string.h>

#include "kit/text/utf8.h"
#include "tokens.h"
#include "write.h"

/* ---- checks ------------------------------------------------------------------ */

static clattn_status check_text(const char *text, const char *name) {
  if (text == NULL) return CLATTN_OK;
  const size_t n = strlen(text), good = kit_utf8_valid(text, n);
  KIT_REQUIRE(good == n, "%s: not UTF-8 at byte %zu", name, good);
  return CLATTN_OK;
}

/* Completes the caller's part i. */
static clattn_status take_part(const clattn_attention_part *given, size_t i,
                               const int64_t bytes[2],
                               clattn_attention_part *part) {
  char where[48];
  KIT_REQUIRE(given->struct_size == sizeof *given,
              "parts[%zu].struct_size: got %zu, want %zu (call "
              "clattn_attention_part_init first)",
              i, given->struct_size, sizeof *given);
  KIT_REQUIRE(given->name != NULL, "parts[%zu].name: got NULL, want a name", i);
  *part = *given;
  attention_part_complete(part);
  snprintf(where, sizeof where, "parts[%zu].", i);
  KIT_TRY(attention_part_check(part, where));
  snprintf(where, sizeof where, "parts[%zu].rows", i);
  KIT_TRY(attention_tokens_check(&part->rows, where, bytes));
  if (part->kind != CLATTN_ATTENTION_CROSS) {
    part->keys = part->rows;
    return CLATTN_OK;
  }
  snprintf(where, sizeof where, "parts[%zu].keys", i);
  return attention_tokens_check(&part->keys, where, bytes);
}

static clattn_status check_names(const clattn_attention_part *parts,
                                 size_t n_parts) {
  for (size_t i = 0; i < n_parts; i++) {
    const char *name = parts[i].name;
    KIT_REQUIRE((n_parts == 1 && name[0] == '\0') || attention_name_valid(name),
                "parts[%zu].name: got '%.80s', want 1..%d letters, digits, '_' "
                "and '-'",
                i, name, ATTENTION_NAME_CHARS);
    for (size_t j = 0; j < i; j++)
      KIT_REQUIRE(strcmp(name, parts[j].name) != 0,
                  "parts[%zu].name: '%s' is that of parts[%zu]", i, name, j);
  }
  return CLATTN_OK;
}

/* ---- writing ------------------------------------------------------------------- */

/* Bytes of the largest tensor that the source is asked for. */
static clattn_status largest(const clattn_attention_part *parts, size_t n_parts,
                             size_t *bytes) {
  *bytes = 0;
  for (size_t i = 0; i < n_parts; i++)
    for (int t = 0; t < CLATTN_ATTENTION_TENSORS; t++) {
      char name[ATTENTION_KEY_CHARS];
      if (!attention_has(&parts[i], (clattn_attention_tensor)t)) continue;
      const clattn_kit_tensor tensor =
          attention_tensor(&parts[i], 0, (clattn_attention_tensor)t, name);
      size_t size = sizeof(float);
      bool fits = true;
      for (int d = 0; d < tensor.rank; d++)
        fits = fits &&
               !__builtin_mul_overflow(size, (size_t)tensor.extent[d], &size);
      KIT_REQUIRE(fits && size <= PTRDIFF_MAX,
                  "parts[%zu]: %s overflows the size of memory", i,
                  attention_tensor_name((clattn_attention_tensor)t));
      if (size > *bytes) *bytes = size;
    }
  return CLATTN_OK;
}

static clattn_status ask_and_put(attention_writer *writer,
                                 const clattn_attention_part *parts,
                                 size_t n_parts, clattn_attention_source source,
                                 void *user, void *values) {
  for (size_t p = 0; p < n_parts; p++)
    for (int64_t layer = 0; layer < parts[p].layers; layer++)
      for (int t = 0; t < CLATTN_ATTENTION_TENSORS; t++) {
        const clattn_attention_tensor tensor = (clattn_attention_tensor)t;
        if (!attention_has(&parts[p], tensor)) continue;
        /* What it says if it fails without a word of its own. */
        clattn_set_error(CLATTN_OK, "source: ended the writing");
        KIT_TRY(source(user, p, layer, tensor, values));
        KIT_TRY(attention_writer_put(writer, p, layer, tensor, values));
      }
  return CLATTN_OK;
}

static clattn_status write_parts(const char *path, const attention_head *head,
                                 clattn_attention_source source, void *user) {
  size_t bytes;
  KIT_TRY(largest(head->parts, head->n_parts, &bytes));
  void *values = malloc(bytes);
  if (values == NULL) return KIT_OUT_OF_MEMORY("attention file");
  attention_writer *writer = NULL;
  clattn_status status = attention_writer_create(path, head, &writer);
  if (status == CLATTN_OK)
    status =
        ask_and_put(writer, head->parts, head->n_parts, source, user, values);
  if (status == CLATTN_OK) status = attention_writer_finish(writer);
  attention_writer_destroy(writer);
  free(values);
  return status;
}

clattn_status clattn_attention_write(const char *path, const char *model,
                                     const char *text, const char *pair,
                                     const clattn_attention_part *parts,
                                     size_t n_parts,
                                     clattn_attention_source source,
                                     void *user) {
  KIT_REQUIRE(path != NULL, "path: got NULL, want a file's path");
  KIT_REQUIRE(model != NULL, "model: got NULL, want a name");
  KIT_REQUIRE(parts != NULL, "parts: got NULL, want a part at least");
  KIT_REQUIRE(n_parts >= 1 && n_parts <= ATTENTION_MAX_PARTS,
              "n_parts: got %zu, want 1..%d", n_parts, ATTENTION_MAX_PARTS);
  KIT_REQUIRE(source != NULL, "source: got NULL, want a function");
  KIT_TRY(check_text(model, "model"));
  KIT_TRY(check_text(text, "text"));
  KIT_TRY(check_text(pair, "pair"));
  const int64_t bytes[2] = {text ? (int64_t)strlen(text) : -1,
                            pair ? (int64_t)strlen(pair) : -1};
  clattn_attention_part *taken = calloc(n_parts, sizeof *taken);
  if (taken == NULL) return KIT_OUT_OF_MEMORY("attention file");
  clattn_status status = CLATTN_OK;
  for (size_t i = 0; i < n_parts && status == CLATTN_OK; i++)
    status = take_part(&parts[i], i, bytes, &taken[i]);
  if (status == CLATTN_OK) status = check_names(taken, n_parts);
  if (status == CLATTN_OK) {
    const attention_head head = {.model = model,
                                 .text = text,
                                 .pair = pair,
                                 .text_bytes = text ? (size_t)bytes[0] : 0,
                                 .pair_bytes = pair ? (size_t)bytes[1] : 0,
                                 .parts = taken,
                                 .n_parts = n_parts};
    status = write_parts(path, &head, source, user);
  }
  free(taken);
  return status;
}
