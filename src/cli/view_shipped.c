/* view_shipped.c - where the model that comes with the library lies. The Makefile
 * says its name, CLI_SHIPPED_MODEL, and where it is installed, CLI_SHARE_DIR. */
#define _POSIX_C_SOURCE 200809L
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "view.h"

/* The folder of this program, without the last slash; "" if nobody knows. */
static void program_folder(char folder[PATH_MAX]) {
  const ssize_t n = readlink("/proc/self/exe", folder, PATH_MAX - 1);
  folder[n > 0 ? n : 0] = '\0';
  char *slash = strrchr(folder, '/');
  if (slash != NULL) *slash = '\0';
}

enum { PLACES = 3 };

char *view_shipped_model(void) {
  char here[PATH_MAX], looked[3 * PATH_MAX + 64] = "";
  program_folder(here);
  const struct {
    const char *folder, *below;
  } places[PLACES] = {{here, "/../data/"}, /* where it was built */
                      {here, "/../share/clattn/"},
                      {CLI_SHARE_DIR, "/"}};
  const char *share = getenv("CLATTN_SHARE_DIR");
  const bool named = share != NULL && *share != '\0';
  for (int i = 0; i < (named ? 1 : PLACES); i++) {
    const char *folder = named ? share : places[i].folder;
    const char *below = named ? "/" : places[i].below;
    const size_t room =
        strlen(folder) + strlen(below) + sizeof CLI_SHIPPED_MODEL;
    char *path = malloc(room);
    if (path == NULL) {
      cli_error("no memory for a path");
      return NULL;
    }
    snprintf(path, room, "%s%s%s", folder, below, CLI_SHIPPED_MODEL);
    if (access(path, R_OK) == 0) return path;
    const size_t used = strlen(looked);
    snprintf(looked + used, sizeof looked - used, "\n%s", path);
    free(path);
  }
  cli_error(
      "the model that comes with clattn is not where it was looked for; "
      "--model=PATH names another, $CLATTN_SHARE_DIR its folder:%s",
      looked);
  return NULL;
}
