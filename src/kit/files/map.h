/* map.h - files in memory, paths, and where an error happened. */
#ifndef CLATTN_SRC_KIT_MAP_H
#define CLATTN_SRC_KIT_MAP_H

#include <jansson.h>

#include "kit/kit.h"

/* Maps a regular file that is not empty, for reading. */
clattn_status kit_map_file(const char *path, void **map, size_t *size_bytes);
/* NULL does nothing. */
void kit_unmap_file(void *map, size_t size_bytes);

/* Whether a file is one of GGUF's, by its name or its first bytes. */
bool kit_is_gguf(const char *path);
/* The JSON of a file, without duplicate keys; json_decref is the caller's. */
clattn_status kit_json_load(const char *path, json_t **json);

bool kit_ends_with(const char *text, const char *end);
/* "folder/name", and name in the folder that `file` lies in; free() is the
 * caller's. */
clattn_status kit_path_join(const char *folder, const char *name, char **path);
clattn_status kit_path_beside(const char *file, const char *name, char **path);

/* The last message again, behind the file's path; returns status. */
clattn_status kit_error_in(const char *path, clattn_status status);

#endif
