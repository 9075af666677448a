/* test_replace.c - files that take the place of others: what they are called while
 * they are written. */
#define _POSIX_C_SOURCE 200809L
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clattn.h"
#include "shared/replace.h"

enum { LONGEST = 255 }; /* bytes of a name */

/* A folder of this test, to be removed and freed. */
static char *make_folder(void) {
  static const char *const name = "/tmp/clattn-replace-XXXXXX";
  char *folder = strdup(name);
  cr_assert(folder != NULL && mkdtemp(folder) != NULL);
  return folder;
}

/* Writes folder/name, which beside that is a beginning of `kept` bytes of it with
 * process and number. */
static void check(const char *folder, const char *name, size_t kept) {
  char path[512], want[512];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  snprintf(want, sizeof want, "%s/%.*s.%ld.0", folder, (int)kept, name,
           (long)getpid());
  clt_replacement file;
  cr_assert_eq(clt_replace_begin(path, &file), CLATTN_OK, "%s",
               clattn_error_message());
  cr_expect_str_eq(file.temporary, want);
  cr_expect_eq(clt_replace_put(&file, "whole", 5, 0), CLATTN_OK);
  cr_expect_eq(clt_replace_commit(&file), CLATTN_OK, "%s",
               clattn_error_message());
  clt_replace_free(&file);
  cr_expect_eq(access(want, F_OK), -1);
  cr_expect_eq(unlink(path), 0, "%s", name);
}

Test(replace, any_name_has_room_for_the_ending) {
  char ending[32], name[LONGEST + 1] = "";
  const size_t room = LONGEST - (size_t)snprintf(ending, sizeof ending,
                                                 ".%ld.0", (long)getpid());
  char *folder = make_folder();
  for (size_t n = room - 1; n <= LONGEST; n++) {
    memset(name, 'a', n);
    name[n] = '\0';
    check(folder, name, n < room ? n : room);
  }
  check(folder, "short", 5);
  rmdir(folder);
  free(folder);
}

Test(replace, a_name_is_cut_between_characters) {
  char ending[32], name[LONGEST + 1] = "";
  const size_t room = LONGEST - (size_t)snprintf(ending, sizeof ending,
                                                 ".%ld.0", (long)getpid());
  char *folder = make_folder();
  for (size_t begin = 0; begin < 2; begin++) {
    size_t n = 0;
    if (begin > 0) name[n++] = 'a';
    for (; n + 2 <= LONGEST; n += 2) memcpy(name + n, "\xc3\xa9", 2);
    name[n] = '\0';
    check(folder, name, room - (room - begin) % 2);
  }
  rmdir(folder);
  free(folder);
}
