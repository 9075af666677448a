/* plain.c - runs the unit tests without Criterion, each in a process of its own.
 *
 *   build/tests/plain [PATTERN]...    tests named suite/name; * and ? match */
#include <fnmatch.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <criterion/criterion.h>

enum { FAILED = 1, SKIPPED = 77 };

static plain_test *tests;
static int failures; /* of the test at hand */

void plain_register(plain_test *test) {
  plain_test **at = &tests;
  while (*at && strcmp((*at)->suite, test->suite) <= 0) at = &(*at)->next;
  test->next = *at;
  *at = test;
}

static void finish(int status) {
  fflush(stdout);
  fflush(stderr);
  _exit(status);
}

static void print(const char *format, va_list values) {
  vprintf(format, values);
  putchar('\n');
}

void plain_check(bool holds, bool fatal, const char *file, int line,
                 const char *what, const char *format, ...) {
  if (holds) return;
  failures++;
  printf("%s:%d: not so: %s\n", file, line, what);
  if (*format) {
    va_list values;
    va_start(values, format);
    print(format, values);
    va_end(values);
  }
  if (fatal) finish(FAILED);
}

void plain_skip(const char *format, ...) {
  va_list values;
  va_start(values, format);
  print(format, values);
  va_end(values);
  finish(SKIPPED);
}

void plain_log(const char *format, ...) {
  va_list values;
  va_start(values, format);
  print(format, values);
  va_end(values);
}

/* The exit status of the test's process; 128 and more: a signal. */
static int run(const plain_test *test) {
  pid_t child = fork();
  if (child < 0) {
    perror("fork");
    exit(1);
  }
  if (child == 0) {
    if (test->timeout > 0) alarm((unsigned)test->timeout);
    test->run();
    finish(failures > 0 ? FAILED : 0);
  }
  int status;
  if (waitpid(child, &status, 0) != child) return FAILED;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static bool wanted(const plain_test *test, char *const *patterns) {
  char name[256];
  snprintf(name, sizeof name, "%s/%s", test->suite, test->name);
  if (!*patterns) return true;
  for (; *patterns; patterns++)
    if (fnmatch(*patterns, name, 0) == 0) return true;
  return false;
}

int main(int argc, char **argv) {
  (void)argc;
  int passed = 0, failed = 0, skipped = 0;
  for (const plain_test *test = tests; test; test = test->next) {
    if (!wanted(test, argv + 1)) continue;
    fflush(stdout);
    const int status = run(test);
    passed += status == 0;
    skipped += status == SKIPPED;
    failed += status != 0 && status != SKIPPED;
    printf("%s %s/%s",
           status == 0         ? "ok"
           : status == SKIPPED ? "skipped"
                               : "FAILED",
           test->suite, test->name);
    if (status >= 128) printf(" (signal %d)", status - 128);
    putchar('\n');
  }
  printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
  return failed > 0 || passed == 0;
}
