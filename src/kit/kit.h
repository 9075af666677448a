/* kit.h - what the kit's sources share. Only the public API of libclattn is
 * used below this line. */
#ifndef CLATTN_SRC_KIT_H
#define CLATTN_SRC_KIT_H

#include "clattn_kit.h"

#define KIT_REQUIRE(condition, ...)                                            \
  do {                                                                         \
    if (!(condition))                                                          \
      return clattn_set_error(CLATTN_INVALID_ARGUMENT, __VA_ARGS__);           \
  } while (0)

#define KIT_TRY(call)                                                          \
  do {                                                                         \
    clattn_status kit_status_ = (call);                                        \
    if (kit_status_ != CLATTN_OK) return kit_status_;                          \
  } while (0)

/* A config struct from the caller: right size for this version. */
#define KIT_REQUIRE_STRUCT(pointer, type)                                      \
  do {                                                                         \
    KIT_REQUIRE((pointer) != NULL, #pointer ": got NULL, want a " #type);      \
    KIT_REQUIRE((pointer)->struct_size == sizeof(type),                        \
                #pointer "->struct_size: got %zu, want %zu (call " #type       \
                         "_init first)",                                       \
                (pointer)->struct_size, sizeof(type));                         \
  } while (0)

#define KIT_OUT_OF_MEMORY(what)                                                \
  clattn_set_error(CLATTN_OUT_OF_MEMORY, "%s: no memory", what)

/* A file that is not what it should be. */
#define KIT_BAD(...) clattn_set_error(CLATTN_IO_ERROR, __VA_ARGS__)

/* How a message writes a shape: "[2,3,4]". */
#define KIT_SHAPE_CHARS 192
const char *kit_shape_text(const clattn_kit_tensor *tensor,
                           char text[KIT_SHAPE_CHARS]);

#endif
