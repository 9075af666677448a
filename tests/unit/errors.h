/* errors.h - lists of faults, for the tests of bad arguments.
 *
 * Each list is a function that applies its n-th fault; the driver counts n up
 * until the list ends. */
#ifndef TEST_ERRORS_H
#define TEST_ERRORS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "../support/attn_case.h"

#define HUGE_LENGTH ((int64_t)1 << 61)

/* One fault: what it is, and what must come of it. */
typedef struct fault {
  const char *what, *word; /* the message contains word */
  clattn_status status;
} fault;

/* In a list with parameters (int n, fault *f): runs the code in its turn. */
#define FAULT(status_, word_, ...)                                             \
  if (n-- == 0) {                                                              \
    *f = (fault){#__VA_ARGS__, word_, CLATTN_##status_};                       \
    __VA_ARGS__;                                                               \
    return true;                                                               \
  }
#define BAD(word_, ...) FAULT(INVALID_ARGUMENT, word_, __VA_ARGS__)

static inline void expect(clattn_status got, const fault *f,
                          const char *where) {
  const char *message = clattn_error_message();
  cr_expect_eq(got, f->status, "%s, with %s: got %s (%s), want %s", where,
               f->what, clattn_status_name(got), message,
               clattn_status_name(f->status));
  if (got != CLATTN_OK)
    cr_expect(strstr(message, f->word),
              "%s, with %s: the message does not name %s: %s", where, f->what,
              f->word, message);
}

/* A call that must fail, in one line. */
#define FAILS(status_, word_, call)                                            \
  expect((call), &(fault){#call, word_, CLATTN_##status_}, __func__)

/* Buffers of the wrong place, for faults. */
static __attribute__((unused)) clattn_buffer *elsewhere;

static inline clattn_context *another_context(void) {
  clattn_context_config config;
  clattn_context *other = NULL;
  clattn_context_config_init(&config);
  config.backend = CLATTN_CPU;
  TH_OK(clattn_context_create(&config, &other));
  return other;
}

#endif /* TEST_ERRORS_H */
