/* label.c - tokens as people can see them.
 *
 * Byte-level tokenizers put the space before a word into its token: " the". That
 * space says no more than that a word begins, and is left away; every other one
 * is shown. */
#include <string.h>
#include <utf8proc.h>

#include "view.h"

/* Takes the next character of a text: U+FFFD for a byte that is not UTF-8. */
static utf8proc_int32_t take(const char **text) {
  utf8proc_int32_t point;
  const utf8proc_ssize_t n =
      utf8proc_iterate((const utf8proc_uint8_t *)*text, -1, &point);
  *text += n > 0 ? n : 1;
  return n > 0 ? point : 0xfffd;
}

/* What stands for a character. */
static utf8proc_int32_t seen(utf8proc_int32_t point) {
  switch (point) {
    case '\n':
    case '\r':
    case 0x85: /* next line */
      return 0x21b5;
    case '\t':
      return 0x2192;
    case 0x200c: /* (non-)joiners: of Persian words and emoji */
    case 0x200d:
      return point;
    default:
      break;
  }
  switch (utf8proc_category(point)) {
    case UTF8PROC_CATEGORY_ZS: /* spaces */
      return 0xb7;
    case UTF8PROC_CATEGORY_ZL: /* line and paragraph separators */
    case UTF8PROC_CATEGORY_ZP:
      return 0x21b5;
    case UTF8PROC_CATEGORY_CC: /* control */
    case UTF8PROC_CATEGORY_CF: /* formats: direction marks among them */
    case UTF8PROC_CATEGORY_CS:
      return 0xfffd;
    default:
      return point;
  }
}

/* Whether a token is a space and then a word. */
static bool begins_word(const char *token) {
  if (token[0] != ' ' || token[1] == '\0') return false;
  const char *rest = token + 1;
  const utf8proc_int32_t point = take(&rest);
  const utf8proc_category_t category = utf8proc_category(point);
  return category != UTF8PROC_CATEGORY_ZS && category != UTF8PROC_CATEGORY_CC &&
         category != UTF8PROC_CATEGORY_ZL && category != UTF8PROC_CATEGORY_ZP;
}

char *clattn_view_label(const char *token, char *label, size_t room) {
  if (label == NULL || room == 0) return label;
  size_t used = 0;
  const char *text = token == NULL || token[0] == '\0' ? "\u2205" : token;
  if (begins_word(text)) text++;
  while (*text != '\0') {
    const bool carriage = *text == '\r';
    const utf8proc_int32_t point = seen(take(&text));
    if (carriage && *text == '\n') continue; /* "\r\n" is one line end */
    utf8proc_uint8_t bytes[4];
    const size_t n = (size_t)utf8proc_encode_char(point, bytes);
    if (used + n >= room) break;
    memcpy(label + used, bytes, n);
    used += n;
  }
  label[used] = '\0';
  return label;
}
