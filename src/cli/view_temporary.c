/* view_temporary.c - a folder for recordings that nobody asked to keep, and what
 * goes when the program is interrupted: that, and files that are not whole. */
#define _POSIX_C_SOURCE 200809L
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "view.h"

/* What ends a program, and can be waited for. */
static const int endings[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE};
enum { ENDINGS = sizeof endings / sizeof *endings };

/* Taken where the folder comes and goes; by the guard for good, so that nothing
 * new comes while the program ends. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *folder;               /* NULL: there is none */
static const char *const *outputs; /* [n_outputs] */
static size_t n_outputs;
static sigset_t watched; /* those that the guard waits for */
static sigset_t mask;    /* as it was before */
static pthread_t guard;  /* waits for them */
static bool guarded;

/* ---- what is removed --------------------------------------------------------------- */

/* Writers leave names of their own choice beside the one they were given, so all
 * that is in the folder goes. */
static void remove_folder(void) {
  DIR *listing = opendir(folder);
  if (listing == NULL) return;
  for (struct dirent *entry; (entry = readdir(listing)) != NULL;)
    if (entry->d_name[0] != '.') unlinkat(dirfd(listing), entry->d_name, 0);
  closedir(listing);
  rmdir(folder);
}

/* Whether a name is one that this process gives to what is to become `base`: that,
 * or its beginning, and ".PROCESS.N" (src/shared/replace.h). */
static bool is_beside(const char *name, const char *base) {
  char process[32];
  const size_t n =
      (size_t)snprintf(process, sizeof process, ".%ld.", (long)getpid());
  size_t begin = strlen(name);
  while (begin > 0 && name[begin - 1] >= '0' && name[begin - 1] <= '9') begin--;
  if (begin <= n || name[begin] == '\0') return false;
  begin -= n;
  return strncmp(name + begin, process, n) == 0 &&
         strncmp(name, base, begin) == 0;
}

static void remove_beside(const char *path) {
  const char *slash = strrchr(path, '/');
  char *where = cli_folder_of(path);
  DIR *listing = where == NULL ? NULL : opendir(where);
  free(where);
  if (listing == NULL) return;
  for (struct dirent *entry; (entry = readdir(listing)) != NULL;)
    if (is_beside(entry->d_name, slash == NULL ? path : slash + 1))
      unlinkat(dirfd(listing), entry->d_name, 0);
  closedir(listing);
}

/* ---- the guard ----------------------------------------------------------------------- */

/* A thread that takes the signals for all others: removing files is more than a
 * signal handler may do. The program then ends as it would have. */
static void *wait_for_end(void *unused) {
  (void)unused;
  int signal_number;
  if (sigwait(&watched, &signal_number) != 0) return NULL;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
  pthread_mutex_lock(&lock);
  if (folder != NULL) remove_folder();
  for (size_t i = 0; i < n_outputs; i++)
    if (outputs[i] != NULL) remove_beside(outputs[i]);
  struct sigaction plain = {.sa_handler = SIG_DFL};
  sigaction(signal_number, &plain, NULL);
  pthread_sigmask(SIG_UNBLOCK, &watched, NULL);
  raise(signal_number);
  return NULL;
}

/* Signals that whoever started the program has it ignore stay ignored. */
static void choose_signals(void) {
  sigemptyset(&watched);
  for (int i = 0; i < ENDINGS; i++) {
    struct sigaction now;
    if (sigaction(endings[i], NULL, &now) == 0 && now.sa_handler != SIG_IGN)
      sigaddset(&watched, endings[i]);
  }
}

void view_guard_begin(const char *const *paths, size_t n) {
  outputs = paths;
  n_outputs = n;
  /* Blocked before any thread begins, so that all of them inherit it. */
  choose_signals();
  pthread_sigmask(SIG_BLOCK, &watched, &mask);
  guarded = pthread_create(&guard, NULL, wait_for_end, NULL) == 0;
  if (!guarded) pthread_sigmask(SIG_SETMASK, &mask, NULL);
}

void view_guard_end(void) {
  if (!guarded) return;
  pthread_cancel(guard);
  pthread_join(guard, NULL);
  guarded = false;
  pthread_sigmask(SIG_SETMASK, &mask, NULL);
}

/* A closed pipe ends the thread that writes to it, once that lets it, and the guard
 * cannot take that: what is shown, and nothing that is temporary, is written now. */
static void let_pipes_end_it(void) {
  sigset_t pipes;
  sigemptyset(&pipes);
  sigaddset(&pipes, SIGPIPE);
  if (guarded && sigismember(&mask, SIGPIPE) == 0)
    pthread_sigmask(SIG_UNBLOCK, &pipes, NULL);
}

/* ---- the folder ----------------------------------------------------------------------- */

bool view_temporary_begin(void) {
  static const char name[] = "/clattn-view-XXXXXX";
  const char *where = getenv("TMPDIR");
  if (where == NULL || *where == '\0') where = "/tmp";
  const size_t room = strlen(where) + sizeof name;
  char *path = malloc(room);
  if (path == NULL) {
    cli_error("no memory for a path");
    return false;
  }
  snprintf(path, room, "%s%s", where, name);
  pthread_mutex_lock(&lock); /* no signal comes between */
  const bool made = mkdtemp(path) != NULL;
  const int why = errno;
  if (made) folder = path;
  pthread_mutex_unlock(&lock);
  if (made) return true;
  cli_error("TMPDIR: %s: %s", where, strerror(why));
  free(path);
  return false;
}

char *view_temporary_path(const char *name) {
  const size_t room = strlen(folder) + strlen(name) + 2;
  char *path = malloc(room);
  if (path == NULL)
    cli_error("no memory for a path");
  else
    snprintf(path, room, "%s/%s", folder, name);
  return path;
}

void view_temporary_end(void) {
  pthread_mutex_lock(&lock);
  if (folder != NULL) remove_folder();
  free(folder);
  folder = NULL;
  pthread_mutex_unlock(&lock);
  let_pipes_end_it();
}
