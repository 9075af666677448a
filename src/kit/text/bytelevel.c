/* bytelevel.c - bytes as printable characters, as GPT-2's files spell them. */
#include "bytelevel.h"

#include "utf8.h"

enum { LAST_CHAR = 0x143 };

static bool is_printable(int byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) ||
         (byte >= 0xae && byte <= 0xff);
}

static int32_t char_of(unsigned char byte) {
  if (is_printable(byte)) return byte;
  int32_t before = 0;
  for (int i = 0; i < byte; i++) before += !is_printable(i);
  return 0x100 + before;
}

static int byte_of(int32_t point) {
  if (point < 0x100) return is_printable(point) ? point : -1;
  if (point > LAST_CHAR) return -1;
  int nth = point - 0x100, byte = 0;
  for (;; byte++)
    if (!is_printable(byte) && nth-- == 0) return byte;
}

bool bytelevel_decode(const char *text, size_t size_bytes, char *to,
                      size_t *bytes) {
  *bytes = 0;
  if (kit_utf8_valid(text, size_bytes) != size_bytes) return false;
  for (size_t at = 0, n; at < size_bytes; at += n) {
    const int byte = byte_of(kit_utf8_next(text + at, &n));
    if (byte < 0) return false;
    to[(*bytes)++] = (char)byte;
  }
  return true;
}

size_t bytelevel_encode(const char *bytes, size_t n, char *to) {
  size_t used = 0;
  for (size_t i = 0; i < n; i++)
    used += kit_utf8_put(char_of((unsigned char)bytes[i]), to + used);
  to[used] = '\0';
  return used;
}

void bytelevel_order(unsigned char order[256]) {
  int n = 0;
  for (int32_t point = 0; point <= LAST_CHAR; point++) {
    const int byte = byte_of(point);
    if (byte >= 0) order[n++] = (unsigned char)byte;
  }
}
