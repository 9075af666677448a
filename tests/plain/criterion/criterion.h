/* criterion.h - the part of Criterion that the unit tests use, over nothing but
 * POSIX: for machines and emulators that have no Criterion, and checkers that
 * it does not run under. plain.c runs the tests.
 *
 * A message, where a check has one, starts with a string literal. */
#ifndef PLAIN_CRITERION_H
#define PLAIN_CRITERION_H
#pragma GCC system_header /* as the installed one: macros may end in nothing */

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

typedef struct plain_test {
  const char *suite, *name;
  void (*run)(void);
  double timeout; /* seconds; 0: none */
  struct plain_test *next;
} plain_test;

void plain_register(plain_test *test);
/* A check that does not hold is printed, and ends the test if it is fatal. */
void plain_check(bool holds, bool fatal, const char *file, int line,
                 const char *what, const char *format, ...);
void plain_skip(const char *format, ...);
void plain_log(const char *format, ...);

#define Test(suite_, name_, ...)                                               \
  static void suite_##_##name_##_run(void);                                    \
  __attribute__((constructor)) static void suite_##_##name_##_register(void) { \
    static plain_test test = {.suite = #suite_,                                \
                              .name = #name_,                                  \
                              .run = suite_##_##name_##_run,                   \
                              __VA_ARGS__};                                    \
    plain_register(&test);                                                     \
  }                                                                            \
  static void suite_##_##name_##_run(void)

#define PLAIN_CHECK(fatal, holds, what, ...)                                   \
  plain_check((holds), fatal, __FILE__, __LINE__, what, "" __VA_ARGS__)

#define cr_assert(x, ...) PLAIN_CHECK(true, x, #x, __VA_ARGS__)
#define cr_assert_eq(a, b, ...)                                                \
  PLAIN_CHECK(true, (a) == (b), #a " == " #b, __VA_ARGS__)
#define cr_assert_gt(a, b, ...)                                                \
  PLAIN_CHECK(true, (a) > (b), #a " > " #b, __VA_ARGS__)
#define cr_assert_leq(a, b, ...)                                               \
  PLAIN_CHECK(true, (a) <= (b), #a " <= " #b, __VA_ARGS__)
#define cr_assert_geq(a, b, ...)                                               \
  PLAIN_CHECK(true, (a) >= (b), #a " >= " #b, __VA_ARGS__)
#define cr_assert_null(x, ...)                                                 \
  PLAIN_CHECK(true, (x) == NULL, #x " is NULL", __VA_ARGS__)
#define cr_assert_float_eq(a, b, by, ...)                                      \
  PLAIN_CHECK(true, fabs((double)(a) - (double)(b)) <= (by), #a " is " #b,     \
              __VA_ARGS__)

#define cr_expect(x, ...) PLAIN_CHECK(false, x, #x, __VA_ARGS__)
#define cr_expect_not(x, ...) PLAIN_CHECK(false, !(x), "not " #x, __VA_ARGS__)
#define cr_expect_eq(a, b, ...)                                                \
  PLAIN_CHECK(false, (a) == (b), #a " == " #b, __VA_ARGS__)
#define cr_expect_neq(a, b, ...)                                               \
  PLAIN_CHECK(false, (a) != (b), #a " != " #b, __VA_ARGS__)
#define cr_expect_gt(a, b, ...)                                                \
  PLAIN_CHECK(false, (a) > (b), #a " > " #b, __VA_ARGS__)
#define cr_expect_lt(a, b, ...)                                                \
  PLAIN_CHECK(false, (a) < (b), #a " < " #b, __VA_ARGS__)
#define cr_expect_leq(a, b, ...)                                               \
  PLAIN_CHECK(false, (a) <= (b), #a " <= " #b, __VA_ARGS__)
#define cr_expect_geq(a, b, ...)                                               \
  PLAIN_CHECK(false, (a) >= (b), #a " >= " #b, __VA_ARGS__)
#define cr_expect_null(x, ...)                                                 \
  PLAIN_CHECK(false, (x) == NULL, #x " is NULL", __VA_ARGS__)
#define cr_expect_not_null(x, ...)                                             \
  PLAIN_CHECK(false, (x) != NULL, #x " is not NULL", __VA_ARGS__)
#define cr_expect_str_eq(a, b, ...)                                            \
  PLAIN_CHECK(false, strcmp(a, b) == 0, #a " is " #b, __VA_ARGS__)
#define cr_expect_float_eq(a, b, by, ...)                                      \
  PLAIN_CHECK(false, fabs((double)(a) - (double)(b)) <= (by), #a " is " #b,    \
              __VA_ARGS__)

#define cr_skip_test(...) plain_skip("" __VA_ARGS__)
#define cr_log_info(...) plain_log("" __VA_ARGS__)

#endif /* PLAIN_CRITERION_H */
