/* generate_text.c - tokens to the standard output, as characters. */
#include <stdio.h>
#include <string.h>

#include "generate.h"

/* Bytes of the character that begins with this one; 0: none does. */
static size_t character_bytes(unsigned char first) {
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first < 0xe0) return 2;
  if (first >= 0xe0 && first < 0xf0) return 3;
  return first >= 0xf0 && first < 0xf5 ? 4 : 0;
}

/* Of what a terminal would obey only line feeds and tabs go to one. */
static void put_byte(const writer *w, unsigned char c) {
  const bool obeyed = (c < ' ' && c != '\n' && c != '\t') || c == 0x7f;
  putchar(w->terminal && obeyed ? '?' : c);
}

void generate_put_rest(writer *w) {
  if (w->n_held > 0) fputs("\xef\xbf\xbd", stdout);
  w->n_held = 0;
}

/* A token may end amid a character: its bytes wait for the others. */
static void put_text_byte(writer *w, unsigned char c) {
  const bool goes_on = c >= 0x80 && c < 0xc0;
  if (!goes_on || w->n_held == 0) {
    generate_put_rest(w);
    const size_t bytes = character_bytes(c);
    if (bytes == 1) {
      put_byte(w, c);
      return;
    }
    w->held[w->n_held++] = (char)c;
    if (bytes == 0) generate_put_rest(w);
    return;
  }
  w->held[w->n_held++] = (char)c;
  if (w->n_held < character_bytes((unsigned char)w->held[0])) return;
  fwrite(w->held, 1, w->n_held, stdout);
  w->n_held = 0;
}

void generate_put(writer *w, int32_t before, int32_t id) {
  size_t bytes;
  bool space;
  const char *text = w->kind->text(w, before, id, &bytes, &space);
  if (text == NULL) return;
  if (space) put_text_byte(w, ' ');
  for (size_t i = 0; i < bytes; i++) put_text_byte(w, (unsigned char)text[i]);
}
