/* wellformed.c - a text made UTF-8, and where its bytes were before. */
#include "wellformed.h"

#include <stdlib.h>
#include <string.h>

#include "kit/kit.h"
#include "utf8.h"

static const char replacement_text[] = "\xef\xbf\xbd"; /* U+FFFD */
enum { REPLACEMENT_BYTES = sizeof replacement_text - 1 };

static clattn_status note(wellformed *to, size_t at, size_t from, size_t bad) {
  if (to->n == to->room) {
    const size_t room = to->room ? 2 * to->room : 64;
    replacement *places = realloc(to->places, room * sizeof *places);
    if (places == NULL) return KIT_OUT_OF_MEMORY("text");
    to->places = places;
    to->room = room;
  }
  to->places[to->n++] = (replacement){at, (int64_t)from, (int64_t)(from + bad)};
  return CLATTN_OK;
}

/* The text is UTF-8 up to byte `valid` and not behind it. */
static clattn_status replace(wellformed *to, const char *text, size_t bytes,
                             size_t valid) {
  if (bytes > SIZE_MAX / REPLACEMENT_BYTES) return KIT_OUT_OF_MEMORY("text");
  to->made = malloc(bytes * REPLACEMENT_BYTES);
  if (to->made == NULL) return KIT_OUT_OF_MEMORY("text");
  size_t at = 0, used = 0;
  for (;;) {
    memcpy(to->made + used, text + at, valid);
    used += valid;
    at += valid;
    if (at == bytes) break;
    bool cut;
    const size_t bad = kit_utf8_bad(text + at, bytes - at, &cut);
    KIT_TRY(note(to, used, at, bad));
    memcpy(to->made + used, replacement_text, REPLACEMENT_BYTES);
    used += REPLACEMENT_BYTES;
    at += bad;
    valid = kit_utf8_valid(text + at, bytes - at);
  }
  to->text = to->made;
  to->bytes = used;
  return CLATTN_OK;
}

clattn_status wellformed_make(wellformed *to, const char *name,
                              const char *text, size_t bytes,
                              clattn_invalid invalid, bool raw) {
  *to = (wellformed){.text = text, .bytes = bytes};
  if (raw) return CLATTN_OK;
  const size_t valid = kit_utf8_valid(text, bytes);
  if (valid == bytes) return CLATTN_OK;
  KIT_REQUIRE(invalid != CLATTN_INVALID_ERROR, "%s: not UTF-8 at byte %zu",
              name, valid);
  return replace(to, text, bytes, valid);
}

/* How many replacements begin before byte `at` of the new text. */
static size_t count_before(const wellformed *from, size_t at) {
  size_t low = 0, high = from->n;
  while (low < high) {
    const size_t middle = low + (high - low) / 2;
    if (from->places[middle].at < at)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

static int64_t place_of(const wellformed *from, int64_t at, bool is_end) {
  const size_t n = count_before(from, (size_t)at);
  if (n == 0) return at;
  const replacement *last = &from->places[n - 1];
  const int64_t behind = at - (int64_t)last->at - REPLACEMENT_BYTES;
  if (behind >= 0) return last->to + behind;
  return is_end ? last->to : last->from; /* within the replacement */
}

void wellformed_place(const wellformed *from, int64_t *begin, int64_t *end) {
  if (from->n == 0) return;
  *begin = place_of(from, *begin, false);
  *end = place_of(from, *end, true);
}

void wellformed_free(wellformed *of) {
  free(of->made);
  free(of->places);
  *of = (wellformed){0};
}
