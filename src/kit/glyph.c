/* glyph.c - labels as terminals show them. */
#include "glyph.h"

#include <string.h>
#include <utf8proc.h>

/* Zero-width (non-)joiners belong to emoji and to Persian words. */
#define JOINS(point) ((point) == 0x200c || (point) == 0x200d)

static bool harmless(utf8proc_int32_t point) {
  switch (utf8proc_category(point)) {
    case UTF8PROC_CATEGORY_CC: /* control                                    */
    case UTF8PROC_CATEGORY_ZL: /* line separator                             */
    case UTF8PROC_CATEGORY_ZP: /* paragraph separator                        */
    case UTF8PROC_CATEGORY_CS:
      return false;
    case UTF8PROC_CATEGORY_CF:
      return JOINS(point);
    default:
      return true;
  }
}

/* The next code point of a label, U+FFFD for what must not be shown. */
static utf8proc_int32_t next_point(const char **text) {
  utf8proc_int32_t point;
  const utf8proc_ssize_t bytes =
      utf8proc_iterate((const utf8proc_uint8_t *)*text, -1, &point);
  *text += bytes > 0 ? bytes : 1;
  return bytes > 0 && harmless(point) ? point : 0xfffd;
}

bool kit_glyph_next(const char **label, kit_glyph *glyph) {
  if (**label == '\0') return false;
  glyph->bytes = glyph->columns = 0;
  utf8proc_int32_t point = next_point(label), state = 0;
  for (;;) {
    utf8proc_uint8_t bytes[4];
    const int n = (int)utf8proc_encode_char(point, bytes);
    /* A pile of accents is cut to what fits. */
    if (glyph->bytes + n < (int)sizeof glyph->text) {
      memcpy(glyph->text + glyph->bytes, bytes, (size_t)n);
      glyph->bytes += n;
      const int columns = utf8proc_charwidth(point);
      if (columns > glyph->columns) glyph->columns = columns;
    }
    const char *rest = *label;
    if (*rest == '\0') break;
    const utf8proc_int32_t following = next_point(&rest);
    if (utf8proc_grapheme_break_stateful(point, following, &state)) break;
    point = following;
    *label = rest;
  }
  glyph->text[glyph->bytes] = '\0';
  return true;
}

int kit_glyph_columns(const char *label, int *glyphs) {
  int columns = 0, n = 0;
  kit_glyph g;
  while (kit_glyph_next(&label, &g)) {
    columns += g.columns;
    n++;
  }
  if (glyphs != NULL) *glyphs = n;
  return columns;
}

int kit_glyph_fit(const char *label, int columns,
                  void (*put)(void *user, const char *text), void *user) {
  const bool cut = kit_glyph_columns(label, NULL) > columns;
  int taken = 0;
  kit_glyph g;
  while (kit_glyph_next(&label, &g) && taken + g.columns + cut <= columns) {
    put(user, g.text);
    taken += g.columns;
  }
  if (cut && taken < columns) {
    put(user, "…");
    taken++;
  }
  return taken;
}

static void put_stream(void *stream, const char *text) {
  if (stream != NULL) fputs(text, stream);
}

int clattn_kit_label(const char *label, int columns, FILE *stream) {
  return label == NULL ? 0 : kit_glyph_fit(label, columns, put_stream, stream);
}
