/* view.h - what the sources of the view library share. Only the public API of the
 * libraries below is used. */
#ifndef CLATTN_SRC_VIEW_VIEW_H
#define CLATTN_SRC_VIEW_VIEW_H

#include "clattn_view.h"

#define VIEW_REQUIRE(condition, ...)                                           \
  do {                                                                         \
    if (!(condition))                                                          \
      return clattn_set_error(CLATTN_INVALID_ARGUMENT, __VA_ARGS__);           \
  } while (0)

#define VIEW_TRY(call)                                                         \
  do {                                                                         \
    clattn_status view_status_ = (call);                                       \
    if (view_status_ != CLATTN_OK) return view_status_;                        \
  } while (0)

/* An options struct from the caller: right size for this version. */
#define VIEW_REQUIRE_STRUCT(pointer, type)                                     \
  VIEW_REQUIRE((pointer)->struct_size == sizeof(type),                         \
               #pointer "->struct_size: got %zu, want %zu (call " #type        \
                        "_init first)",                                        \
               (pointer)->struct_size, sizeof(type))

#define VIEW_OUT_OF_MEMORY(what)                                               \
  clattn_set_error(CLATTN_OUT_OF_MEMORY, "%s: no memory", what)

#endif
