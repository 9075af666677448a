/* utf8.h - what is well-formed UTF-8, and where it is not. */
#ifndef CLATTN_SRC_KIT_UTF8_H
#define CLATTN_SRC_KIT_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of the longest well-formed prefix. */
size_t kit_utf8_valid(const char *text, size_t n);
/* What is wrong at the start of text (n >= 1, and not well-formed there): the
 * bytes of its maximal part, 1..3, which one U+FFFD stands for. *cut: the text
 * ends within what may yet become a character. */
size_t kit_utf8_bad(const char *text, size_t n, bool *cut);
/* The character at the start of well-formed text, and its bytes. */
int32_t kit_utf8_next(const char *text, size_t *bytes);
/* Writes a character, 1..4 bytes; returns how many. */
size_t kit_utf8_put(int32_t point, char *text);
/* The property White_Space of Unicode. */
bool kit_is_white(int32_t point);
/* Bytes of white space at the start and at the end of well-formed text. */
size_t kit_white_prefix(const char *text, size_t n);
size_t kit_white_suffix(const char *text, size_t n);

#endif
