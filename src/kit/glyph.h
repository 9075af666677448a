/* glyph.h - labels as terminals show them: graphemes and their columns.
 *
 * Labels come from texts anybody wrote: what a terminal would obey (escapes,
 * control characters, direction marks) is replaced by U+FFFD, and widths are those
 * of the terminal, not of bytes. */
#ifndef CLATTN_SRC_KIT_GLYPH_H
#define CLATTN_SRC_KIT_GLYPH_H

#include "kit/kit.h"

/* A grapheme: the bytes that stand in one place, and the columns they take. */
typedef struct kit_glyph {
  char text[28];
  int bytes, columns;
} kit_glyph;

/* Takes the next grapheme from a label; false at its end. */
bool kit_glyph_next(const char **label, kit_glyph *glyph);
/* Columns of a whole label, and its number of glyphs (may be NULL). */
int kit_glyph_columns(const char *label, int *glyphs);
/* Hands `put` the glyphs of a label that have room in `columns`, and an ellipsis
 * where it was cut; returns the columns taken. */
int kit_glyph_fit(const char *label, int columns,
                  void (*put)(void *user, const char *text), void *user);

#endif
