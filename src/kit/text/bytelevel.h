/* bytelevel.h - bytes as printable characters, as GPT-2's files spell them. */
#ifndef CLATTN_SRC_KIT_BYTELEVEL_H
#define CLATTN_SRC_KIT_BYTELEVEL_H

#include <stdbool.h>
#include <stddef.h>

/* The character of each byte is itself where it is printable Latin-1, and else
 * U+0100, U+0101, ... in order. */

/* The bytes that text stands for, into `to` (as many as text has, at most).
 * false: a character stands for no byte. */
bool bytelevel_decode(const char *text, size_t size_bytes, char *to,
                      size_t *bytes);
/* The reverse, terminated; `to` has room for 2 bytes + 1. Returns its bytes. */
size_t bytelevel_encode(const char *bytes, size_t n, char *to);
/* The bytes in the order of their characters: GPT-2's first 256 tokens. */
void bytelevel_order(unsigned char order[256]);

#endif
