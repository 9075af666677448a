/* file.h - what a path holds, and files written as a whole. */
#ifndef CLATTN_SRC_KIT_FILE_H
#define CLATTN_SRC_KIT_FILE_H

#include "kit/kit.h"

/* A reader sees the old file or the new one, never half of it. */
clattn_status kit_file_write(const char *path, const char *text,
                             size_t size_bytes);
bool kit_path_is_folder(const char *path);
bool kit_path_is_file(const char *path);

#endif
