/* module.c - finds and loads the OpenCL backend.
 *
 * OpenCL lives in a shared object of its own, so that this library and every
 * program linked to it start on machines without an OpenCL loader. */
#ifndef _GNU_SOURCE
#  define _GNU_SOURCE /* dladdr, secure_getenv, realpath, readlink */
#endif
#include <dlfcn.h>
#include <limits.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core.h"

#define MODULE_FILE "libclattn_opencl.so"

#ifndef PATH_MAX
#  define PATH_MAX 4096
#endif

const clt_host clt_host_services = {
    .abi = CLT_BACKEND_ABI,
    .fail = clt_fail,
    .alloc = clt_alloc,
    .free = clt_free,
    .replace_file = clt_file_replace,
    .allow = clt_fault_allow,
    .kernels = clt_kernels,
};

/* The handle is never closed: OpenCL drivers leave threads, thread-local data
 * and exit handlers behind that point into their code, so that unloading them
 * crashes the process later. Loading again only counts a reference. */
static const clt_backend_ops *load(const char *path, void **handle,
                                   char *reason, size_t n) {
  void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!module) {
    const char *error = dlerror();
    if (!error) error = "unknown error";
    if (strstr(error, "libOpenCL"))
      snprintf(reason, n, "no OpenCL loader is installed: %s", error);
    else
      snprintf(reason, n, "%s", error);
    return NULL;
  }
  void *symbol = dlsym(module, CLT_MODULE_ENTRY);
  if (!symbol) {
    snprintf(reason, n, "%s: no symbol " CLT_MODULE_ENTRY, path);
    return NULL;
  }
  clt_module_entry entry; /* ISO C has no cast from data to code */
  memcpy(&entry, &symbol, sizeof entry);
  const clt_backend_ops *ops = entry(&clt_host_services);
  if (!ops || ops->abi != CLT_BACKEND_ABI) {
    snprintf(reason, n, "%s: made for another version of this library", path);
    return NULL;
  }
  *handle = module;
  return ops;
}

/* The directory, ending in '/', of the object file that holds this code; ""
 * if unknown. */
static void own_directory(char directory[PATH_MAX]) {
  char path[PATH_MAX] = "";
  Dl_info info;
  if (dladdr(&clt_host_services, &info) && info.dli_fname &&
      strchr(info.dli_fname, '/') && !realpath(info.dli_fname, path))
    path[0] = '\0';
  if (path[0] == '\0') { /* a program found in $PATH, or after chdir */
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    path[length > 0 ? length : 0] = '\0';
  }
  char *slash = strrchr(path, '/');
  if (slash)
    slash[1] = '\0';
  else
    path[0] = '\0';
  memcpy(directory, path, strlen(path) + 1);
}

/* A program without a dynamic linker (-static) would get a second C library with
 * the module, and crash. The first object of the list is the program. */
static int look_for_linker(struct dl_phdr_info *info, size_t size,
                           void *found) {
  (void)size;
  for (int i = 0; i < info->dlpi_phnum; i++)
    if (info->dlpi_phdr[i].p_type == PT_INTERP) *(bool *)found = true;
  return 1; /* enough */
}

const clt_backend_ops *clt_module_load(void **handle, char *reason, size_t n) {
  /* A set-user-id program must not load what its caller names. */
  const char *named = secure_getenv("CLATTN_OPENCL_MODULE");
  *handle = NULL;
  if (named && named[0] == '\0') {
    snprintf(reason, n, "switched off by an empty CLATTN_OPENCL_MODULE");
    return NULL;
  }
  bool linker = false;
  dl_iterate_phdr(look_for_linker, &linker);
  if (!linker) {
    snprintf(reason, n, "a statically linked program cannot load a module");
    return NULL;
  }
  if (named) return load(named, handle, reason, n);

  /* Installed beside the library, in its subdirectory, or, for a program that
   * the library is linked into, one level up (a build tree) or in ../lib. */
  static const char *const places[] = {"", "clattn/", "../", "../lib/clattn/"};
  char directory[PATH_MAX], path[PATH_MAX + 64];
  own_directory(directory);
  for (size_t i = 0; directory[0] && i < sizeof places / sizeof *places; i++) {
    snprintf(path, sizeof path, "%s%s" MODULE_FILE, directory, places[i]);
    if (access(path, F_OK) == 0) return load(path, handle, reason, n);
  }
#ifdef CLT_MODULE_DIR
  if (access(CLT_MODULE_DIR "/" MODULE_FILE, F_OK) == 0)
    return load(CLT_MODULE_DIR "/" MODULE_FILE, handle, reason, n);
#endif
  return load(MODULE_FILE, handle, reason, n);
}
