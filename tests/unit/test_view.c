/* test_view.c - labels of tokens; colours; labels in a terminal. */
#define _POSIX_C_SOURCE 200809L
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "clattn_view.h"
#include "harness.h"

Test(view, label) {
  static const char *const cases[][2] = {
      {"word", "word"},
      {" word", "word"},
      {"##ing", "##ing"},
      {"", "∅"},
      {" ", "·"},
      {"  ", "··"},
      {"  word", "··word"},
      {"a b ", "a·b·"},
      {" \n", "·↵"},
      {"\n", "↵"},
      {"\r\n\r", "↵↵"},
      {"\t", "→"},
      {"\u2028", "↵"},
      {"\u00a0x", "·x"},
      {"\x1b[31m", "\ufffd[31m"},
      {"\x7f\xc2\x85", "\ufffd↵"},
      {"\u202eabc",
       "\ufffd"
       "abc"},
      {" \u6f22", "\u6f22"},
      {"e\u0301", "e\u0301"},
      {"\xff\xc3", "\ufffd\ufffd"},
      {" \xff", "\ufffd"},
      {"</script>", "</script>"},
      {"👩\u200d🔬", "👩\u200d🔬"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char label[64];
    cr_expect_eq(clattn_view_label(cases[i][0], label, sizeof label), label);
    cr_expect_str_eq(label, cases[i][1], "case %zu: got \"%s\"", i, label);
  }
  char label[64];
  cr_expect_str_eq(clattn_view_label(NULL, label, sizeof label), "∅");
}

/* Cut at a character, and never a byte beyond the room. */
Test(view, label_room) {
  for (size_t room = 0; room < 8; room++) {
    char label[9] = "########";
    cr_expect_eq(clattn_view_label("aé漢b", label, room), label);
    static const char *const want[] = {"",   "",   "a",  "a",
                                       "aé", "aé", "aé", "aé漢"};
    if (room > 0) cr_expect_str_eq(label, want[room], "room %zu", room);
    for (size_t i = room; i < 8; i++) cr_expect_eq(label[i], '#');
  }
  cr_expect_null(clattn_view_label("a", NULL, 8));
}

/* Whatever the bytes, the label is UTF-8 that moves no cursor. */
Test(view, label_of_any_bytes) {
  uint32_t state = 1;
  for (int round = 0; round < 20000; round++) {
    char token[12], label[24];
    for (size_t i = 0; i + 1 < sizeof token; i++) {
      state = state * 1664525u + 1013904223u;
      token[i] = (char)(state >> 24);
    }
    token[sizeof token - 1] = '\0';
    clattn_view_label(token, label, 1 + state % sizeof label);
    const utf8proc_uint8_t *at = (const utf8proc_uint8_t *)label;
    while (*at != 0) {
      utf8proc_int32_t point;
      const utf8proc_ssize_t n = utf8proc_iterate(at, -1, &point);
      cr_assert_gt(n, 0, "round %d: not UTF-8", round);
      cr_assert(point > 0x20 && (point < 0x7f || point > 0x9f),
                "round %d: U+%04X", round, (unsigned)point);
      at += n;
    }
  }
}

static int columns_of(const char *label, int columns, char *out, size_t room) {
  FILE *stream = fmemopen(out, room, "w");
  cr_assert(stream != NULL);
  const int taken = clattn_kit_label(label, columns, stream);
  fclose(stream);
  cr_expect_eq(clattn_kit_label(label, columns, NULL), taken);
  return taken;
}

Test(view, label_columns) {
  static const struct {
    const char *label;
    int columns, taken;
    const char *shown;
  } cases[] = {
      {"word", 8, 4, "word"}, {"word", 3, 3, "wo…"},
      {"word", 0, 0, ""},     {"漢字", 4, 4, "漢字"},
      {"漢字", 3, 3, "漢…"},  {"漢字", 2, 1, "…"},
      {"é", 1, 1, "é"},       {"a\x1b[m", 9, 4, "a\ufffd[m"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char out[64] = "";
    cr_expect_eq(columns_of(cases[i].label, cases[i].columns, out, sizeof out),
                 cases[i].taken, "case %zu", i);
    cr_expect_str_eq(out, cases[i].shown, "case %zu: got \"%s\"", i, out);
  }
  cr_expect_eq(clattn_kit_label(NULL, 8, NULL), 0);
}

Test(view, color) {
  static const struct {
    double place;
    uint8_t rgb[3];
  } cases[] = {{0, {68, 1, 84}},      {1, {253, 231, 37}},
               {0.5, {33, 144, 141}}, {-INFINITY, {68, 1, 84}},
               {2, {253, 231, 37}},   {0.0625, {70, 23, 103}},
               {NAN, {128, 128, 128}}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    uint8_t rgb[3];
    clattn_kit_color(cases[i].place, rgb);
    cr_expect(memcmp(rgb, cases[i].rgb, 3) == 0, "%g: got %d %d %d",
              cases[i].place, rgb[0], rgb[1], rgb[2]);
  }
}
