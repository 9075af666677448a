/* status.c - the version, status names and the calling thread's message. */
#include <stdarg.h>
#include <string.h>

#include "core.h"

/* Long enough for the useful head of a compiler's log. */
enum { MESSAGE_BYTES = 4096 };
static _Thread_local char message[MESSAGE_BYTES];

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)

const char *clattn_version(void) {
  return TEXT(CLATTN_VERSION_MAJOR) "." TEXT(CLATTN_VERSION_MINOR) "." TEXT(
      CLATTN_VERSION_PATCH);
}

const char *clattn_status_name(clattn_status status) {
  switch (status) {
#define CLATTN_X(name, value)                                                  \
  case CLATTN_##name:                                                          \
    return #name;
    CLATTN_STATUS_MAP(CLATTN_X)
#undef CLATTN_X
  }
  return "UNKNOWN";
}

const char *clattn_error_message(void) { return message; }

static void set_message(const char *format, va_list list) {
  /* Formatted aside: an argument may be the old message itself. */
  char text[MESSAGE_BYTES];
  int n = vsnprintf(text, sizeof text, format, list);
  if (n < 0) text[0] = '\0';
  size_t length = strlen(text);
  if (n >= MESSAGE_BYTES) memcpy(text + length - 3, "...", 3);
  memcpy(message, text, length + 1);
}

clattn_status clt_fail(clattn_status status, const char *format, ...) {
  va_list list;
  va_start(list, format);
  set_message(format, list);
  va_end(list);
  return status;
}

clattn_status clattn_set_error(clattn_status status, const char *format, ...) {
  va_list list;
  va_start(list, format);
  set_message(format ? format : "", list);
  va_end(list);
  return status;
}
