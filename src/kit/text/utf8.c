/* utf8.c - what is well-formed UTF-8, and where it is not. */
#include "utf8.h"

#include <string.h>

/* Bytes that begin a character announce how many follow (Unicode, table 3-7):
 * 0 for those that begin none. */
static unsigned followers(unsigned char lead) {
  if (lead < 0x80 || lead < 0xc2 || lead > 0xf4) return 0;
  return lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
}

/* Whether `next` may come right behind `lead`: not an overlong form, nor a
 * surrogate, nor beyond U+10FFFF. */
static bool may_follow(unsigned char lead, unsigned char next) {
  switch (lead) {
    case 0xe0:
      return next >= 0xa0 && next <= 0xbf;
    case 0xed:
      return next >= 0x80 && next <= 0x9f;
    case 0xf0:
      return next >= 0x90 && next <= 0xbf;
    case 0xf4:
      return next >= 0x80 && next <= 0x8f;
    default:
      return (next & 0xc0) == 0x80;
  }
}

/* Bytes of the character at `at`; 0, and the maximal part, if there is none. */
static size_t take(const unsigned char *at, size_t n, size_t *part, bool *cut) {
  *part = 1;
  *cut = false;
  if (at[0] < 0x80) return 1;
  const unsigned more = followers(at[0]);
  if (more == 0) return 0;
  for (unsigned i = 1; i <= more; i++) {
    *part = i;
    if (i == n) {
      *cut = true;
      return 0;
    }
    if (!(i == 1 ? may_follow(at[0], at[1]) : (at[i] & 0xc0) == 0x80)) return 0;
  }
  return more + 1;
}

size_t kit_utf8_valid(const char *text, size_t n) {
  const unsigned char *bytes = (const unsigned char *)text;
  size_t at = 0;
  while (at < n) {
    uint64_t eight;
    while (n - at >= sizeof eight) { /* ASCII, eight at a time */
      memcpy(&eight, bytes + at, sizeof eight);
      if (eight & 0x8080808080808080u) break;
      at += sizeof eight;
    }
    if (at == n) break;
    size_t part;
    bool cut;
    const size_t taken = take(bytes + at, n - at, &part, &cut);
    if (taken == 0) break;
    at += taken;
  }
  return at;
}

size_t kit_utf8_bad(const char *text, size_t n, bool *cut) {
  size_t part;
  take((const unsigned char *)text, n, &part, cut);
  return part;
}

int32_t kit_utf8_next(const char *text, size_t *bytes) {
  const unsigned char *at = (const unsigned char *)text;
  const unsigned more = followers(at[0]);
  *bytes = more + 1;
  if (more == 0) return at[0];
  int32_t point = at[0] & (0x3f >> more);
  for (unsigned i = 1; i <= more; i++) point = point << 6 | (at[i] & 0x3f);
  return point;
}

size_t kit_utf8_put(int32_t point, char *text) {
  if (point < 0x80) {
    text[0] = (char)point;
    return 1;
  }
  const unsigned more = point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
  static const unsigned char lead[] = {0, 0xc0, 0xe0, 0xf0};
  text[0] = (char)(lead[more] | point >> (6 * more));
  for (unsigned i = 1; i <= more; i++)
    text[i] = (char)(0x80 | (point >> (6 * (more - i)) & 0x3f));
  return more + 1;
}

bool kit_is_white(int32_t c) {
  return (c >= 0x09 && c <= 0x0d) || c == 0x20 || c == 0x85 || c == 0xa0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
         c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

size_t kit_white_prefix(const char *text, size_t n) {
  size_t at = 0, bytes;
  while (at < n && kit_is_white(kit_utf8_next(text + at, &bytes))) at += bytes;
  return at;
}

size_t kit_white_suffix(const char *text, size_t n) {
  size_t at = n;
  while (at > 0) {
    size_t begin = at - 1, bytes;
    while (begin > 0 && ((unsigned char)text[begin] & 0xc0) == 0x80) begin--;
    if (!kit_is_white(kit_utf8_next(text + begin, &bytes))) break;
    at = begin;
  }
  return n - at;
}
