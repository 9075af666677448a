/* context.c - settings, devices and the life of a context. */
#ifndef _GNU_SOURCE
#  define _GNU_SOURCE /* sched_getaffinity */
#endif
#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core.h"

enum { MAX_THREADS = 1024 };

/* ---- settings ------------------------------------------------------- */

void clattn_context_config_init(clattn_context_config *config) {
  if (!config) return;
  *config = (clattn_context_config){
      .struct_size = sizeof *config,
      .backend = CLATTN_ANY,
      .dense = CLATTN_DENSE_AUTO,
  };
}

static clattn_status check_config(const clattn_context_config *config) {
  CLT_REQUIRE_STRUCT(config, clattn_context_config);
  switch (config->backend) {
    case CLATTN_ANY:
    case CLATTN_OPENCL:
    case CLATTN_CPU:
      break;
    default:
      return clt_fail(CLATTN_INVALID_ARGUMENT,
                      "config->backend: got %d, want CLATTN_ANY (0), "
                      "CLATTN_OPENCL (1) or CLATTN_CPU (2)",
                      (int)config->backend);
  }
  switch (config->dense) {
    case CLATTN_DENSE_AUTO:
    case CLATTN_DENSE_OWN:
    case CLATTN_DENSE_BLAS:
      break;
    default:
      return clt_fail(CLATTN_INVALID_ARGUMENT,
                      "config->dense: got %d, want CLATTN_DENSE_AUTO (0), "
                      "CLATTN_DENSE_OWN (1) or CLATTN_DENSE_BLAS (2)",
                      (int)config->dense);
  }
  CLT_REQUIRE(config->cpu_threads >= 0 && config->cpu_threads <= MAX_THREADS,
              "config->cpu_threads: got %d, want 0..%d", config->cpu_threads,
              MAX_THREADS);
  return CLATTN_OK;
}

/* Cores that this process may run on. */
static int usable_cores(void) {
  long n = 0;
#ifdef __linux__
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) n = CPU_COUNT(&set);
#endif
  if (n < 1) n = sysconf(_SC_NPROCESSORS_ONLN);
  return n < 1 ? 1 : n > MAX_THREADS ? MAX_THREADS : (int)n;
}

static clattn_status resolve_threads(int configured, int *threads) {
  const char *text = getenv("CLATTN_THREADS");
  *threads = configured;
  if (configured > 0) return CLATTN_OK;
  *threads = usable_cores();
  if (!text || text[0] == '\0') return CLATTN_OK;
  char *end;
  long value = strtol(text, &end, 10);
  CLT_REQUIRE(*end == '\0' && value >= 0 && value <= MAX_THREADS,
              "CLATTN_THREADS: got \"%s\", want 0..%d", text, MAX_THREADS);
  if (value > 0) *threads = (int)value;
  return CLATTN_OK;
}

/* A new string: directory + tail. NULL when out of memory. */
static char *join(const char *directory, const char *tail) {
  size_t bytes = strlen(directory) + strlen(tail) + 1;
  char *path = clt_alloc(bytes);
  if (path) snprintf(path, bytes, "%s%s", directory, tail);
  return path;
}

static char *resolve_cache_dir(const char *configured) {
  if (configured) return clt_strdup(configured);
  const char *own = getenv("CLATTN_CACHE_DIR");
  if (own) return clt_strdup(own);
  /* The XDG specification has relative paths ignored. */
  const char *xdg = getenv("XDG_CACHE_HOME");
  if (xdg && xdg[0] == '/') return join(xdg, "/clattn");
  const char *home = getenv("HOME");
  if (home && home[0] == '/') return join(home, "/.cache/clattn");
  return clt_strdup("");
}

static char *resolve_kernel_dir(const char *configured) {
  const char *own = configured ? configured : getenv("CLATTN_KERNEL_DIR");
  return clt_strdup(own ? own : "");
}

/* ---- life ------------------------------------------------------------ */

void clt_context_retain(clattn_context *context) {
  atomic_fetch_add_explicit(&context->refs, 1, memory_order_relaxed);
}

void clt_context_release(clattn_context *context) {
  if (atomic_fetch_sub_explicit(&context->refs, 1, memory_order_acq_rel) != 1)
    return;
  for (int i = context->n_backends - 1; i >= 0; i--)
    context->backends[i].ops->close(context->backends[i].state);
  clt_free(context->devices);
  clt_free(context->no_opencl);
  clt_free((void *)context->settings.kernel_dir);
  clt_free((void *)context->settings.cache_dir);
  clt_free(context); /* context->module stays loaded, see module.c */
}

void clattn_context_destroy(clattn_context *context) {
  if (!context) return;
  /* Here, not with the last reference: the plans in it live on devices whose
   * backends the last release closes. */
  clt_plan_cache *plans = atomic_exchange(&context->oneshot, NULL);
  if (plans) clt_plan_cache_destroy(plans);
  clt_context_release(context);
}

void clt_log(clattn_context *context, const char *format, ...) {
  if (!context->settings.log) return;
  char line[1024];
  va_list list;
  va_start(list, format);
  vsnprintf(line, sizeof line, format, list);
  va_end(list);
  context->settings.log(context->settings.log_user, line);
}

/* A context without backends or devices. */
static clattn_status context_new(const clattn_context_config *config,
                                 clattn_context **out) {
  clattn_context_config defaults;
  if (!config) {
    clattn_context_config_init(&defaults);
    config = &defaults;
  }
  int threads = 1;
  CLT_TRY(check_config(config));
  CLT_TRY(resolve_threads(config->cpu_threads, &threads));

  clattn_context *context = clt_alloc(sizeof *context);
  if (!context) return clt_fail(CLATTN_OUT_OF_MEMORY, "no memory: context");
  atomic_init(&context->refs, 1);
  atomic_init(&context->oneshot, NULL);
  context->dense = config->dense;
  context->force_gpu_kernels = config->force_gpu_kernels;
  context->settings = (clt_settings){
      .kernel_dir = resolve_kernel_dir(config->kernel_dir),
      .cache_dir = resolve_cache_dir(config->cache_dir),
      .cpu_threads = threads,
      .log = config->log,
      .log_user = config->log_user,
  };
  if (!context->settings.kernel_dir || !context->settings.cache_dir) {
    clt_context_release(context);
    return clt_fail(CLATTN_OUT_OF_MEMORY, "no memory: context");
  }
  struct stat entry;
  const char *kernels = context->settings.kernel_dir;
  if (kernels[0] != '\0' &&
      (stat(kernels, &entry) != 0 || !S_ISDIR(entry.st_mode))) {
    clattn_status status = clt_fail(
        CLATTN_IO_ERROR, "%s: got \"%s\", want a directory",
        config->kernel_dir ? "config->kernel_dir" : "CLATTN_KERNEL_DIR",
        kernels);
    clt_context_release(context);
    return status;
  }
  *out = context;
  return CLATTN_OK;
}

/* Appends a backend whose state is open; the context closes it. */
static void add_backend(clattn_context *context, const clt_backend_ops *ops,
                        void *state) {
  context->backends[context->n_backends].ops = ops;
  context->backends[context->n_backends].state = state;
  context->n_backends++;
}

/* Appends those of a backend's n devices whose type is GPU, or is not. */
static void add_devices(clattn_context *context, int backend, int n,
                        bool gpus) {
  const clt_backend_ops *ops = context->backends[backend].ops;
  for (int i = 0; i < n; i++) {
    void *impl = ops->device(context->backends[backend].state, i);
    clattn_device_info info = {.struct_size = sizeof info};
    ops->device_info(impl, &info);
    if ((info.type == CLATTN_DEVICE_GPU) != gpus) continue;
    clt_device *device = &context->devices[context->n_devices];
    *device = (clt_device){
        .context = context,
        .ops = ops,
        .impl = impl,
        .index = context->n_devices,
        .backend = info.backend,
        .type = info.type,
    };
    clt_tuning_open(device);
    context->n_devices++;
  }
}

/* Opens OpenCL. *n is 0 where there is none, with why in no_opencl. */
static clattn_status open_opencl(clattn_context *context, int *n) {
  char reason[1024];
  clattn_status status = CLATTN_NO_DEVICE;
  *n = 0;
  const clt_backend_ops *ops =
      clt_module_load(&context->module, reason, sizeof reason);
  if (ops) {
    void *state = NULL;
    status = ops->open(&context->settings, &state, n);
    if (status == CLATTN_OK && *n > 0) {
      add_backend(context, ops, state);
      return CLATTN_OK;
    }
    if (status == CLATTN_OK) {
      ops->close(state);
      status = CLATTN_NO_DEVICE;
      snprintf(reason, sizeof reason, "no OpenCL platform offers a device");
    } else {
      *n = 0;
      snprintf(reason, sizeof reason, "%s", clattn_error_message());
    }
  }
  context->no_opencl = clt_strdup(reason);
  if (!context->no_opencl)
    return clt_fail(CLATTN_OUT_OF_MEMORY, "no memory: context");
  clt_log(context, "no OpenCL device: %s", reason);
  return clt_fail(status, "no OpenCL device: %s", reason);
}

/* Opens what `backend` asks for and lists the devices in their order. */
static clattn_status open_backends(clattn_context *context,
                                   clattn_backend backend) {
  int n_opencl = 0, n_cpu = 0;
  if (backend != CLATTN_CPU) {
    /* A machine without OpenCL, or with a broken driver, still has its CPU. */
    clattn_status status = open_opencl(context, &n_opencl);
    if (status != CLATTN_OK &&
        (backend == CLATTN_OPENCL || !context->no_opencl))
      return status;
  } else {
    context->no_opencl = clt_strdup("the context was made with CLATTN_CPU");
    if (!context->no_opencl)
      return clt_fail(CLATTN_OUT_OF_MEMORY, "no memory: context");
  }
  if (backend != CLATTN_OPENCL) {
    const clt_backend_ops *ops = clt_cpu_backend(&clt_host_services);
    void *state = NULL;
    CLT_TRY(ops->open(&context->settings, &state, &n_cpu));
    add_backend(context, ops, state);
  }
  context->devices =
      clt_alloc((size_t)(n_opencl + n_cpu) * sizeof *context->devices);
  if (!context->devices)
    return clt_fail(CLATTN_OUT_OF_MEMORY, "no memory: list of devices");
  if (n_opencl > 0) {
    add_devices(context, 0, n_opencl, true);
    add_devices(context, 0, n_opencl, false);
  }
  if (n_cpu > 0) add_devices(context, context->n_backends - 1, n_cpu, false);
  return CLATTN_OK;
}

clattn_status clattn_context_create(const clattn_context_config *config,
                                    clattn_context **context) {
  CLT_REQUIRE(context != NULL, "context: got NULL, want room for a handle");
  *context = NULL;
  clattn_context *made = NULL;
  CLT_TRY(context_new(config, &made));
  clattn_status status =
      open_backends(made, config ? config->backend : CLATTN_ANY);
  if (status != CLATTN_OK) {
    clt_context_release(made);
    return status;
  }
  *context = made;
  return CLATTN_OK;
}

/* Opens the one device of the caller's native context. */
static clattn_status open_native(clattn_context *context, void *native_context,
                                 void *native_device) {
  char reason[1024];
  const clt_backend_ops *ops =
      clt_module_load(&context->module, reason, sizeof reason);
  if (!ops)
    return clt_fail(CLATTN_UNSUPPORTED, "no OpenCL backend: %s", reason);
  if (!ops->open_native)
    return clt_fail(CLATTN_UNSUPPORTED,
                    "the %s backend takes no native context", ops->name);
  void *state = NULL;
  CLT_TRY(ops->open_native(&context->settings, native_context, native_device,
                           &state));
  add_backend(context, ops, state);
  context->devices = clt_alloc(sizeof *context->devices);
  if (!context->devices)
    return clt_fail(CLATTN_OUT_OF_MEMORY, "no memory: list of devices");
  add_devices(context, 0, 1, true);
  add_devices(context, 0, 1, false);
  return CLATTN_OK;
}

clattn_status clattn_context_from_native(const clattn_context_config *config,
                                         void *native_context,
                                         void *native_device,
                                         clattn_context **context) {
  CLT_REQUIRE(context != NULL, "context: got NULL, want room for a handle");
  *context = NULL;
  CLT_REQUIRE(native_context != NULL,
              "native_context: got NULL, want a cl_context");
  CLT_REQUIRE(native_device != NULL,
              "native_device: got NULL, want a cl_device_id");
  clattn_context *made = NULL;
  CLT_TRY(context_new(config, &made));
  clattn_status status = open_native(made, native_context, native_device);
  if (status != CLATTN_OK) {
    clt_context_release(made);
    return status;
  }
  *context = made;
  return CLATTN_OK;
}

/* ---- devices ---------------------------------------------------------- */

int clattn_device_count(const clattn_context *context) {
  return context ? context->n_devices : 0;
}

static void device_info(const clt_device *device, clattn_device_info *info) {
  clattn_device_info fresh = {.struct_size = sizeof fresh};
  device->ops->device_info(device->impl, &fresh);
  *info = fresh;
}

clattn_status clattn_device_get_info(const clattn_context *context, int device,
                                     clattn_device_info *info) {
  clt_device *found = NULL;
  CLT_REQUIRE(info != NULL, "info: got NULL, want a clattn_device_info");
  CLT_REQUIRE(info->struct_size == sizeof *info,
              "info->struct_size: got %zu, want %zu", info->struct_size,
              sizeof *info);
  CLT_TRY(clt_device_get(context, device, &found));
  device_info(found, info);
  return CLATTN_OK;
}

/* ASCII only, whatever the locale. */
static char lower(char c) {
  return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool same_text(const char *a, const char *b) {
  while (*a && lower(*a) == lower(*b)) a++, b++;
  return lower(*a) == lower(*b);
}

static bool contains_text(const char *text, const char *part) {
  for (; *text; text++) {
    size_t i = 0;
    while (part[i] && lower(text[i]) == lower(part[i])) i++;
    if (!part[i]) return true;
  }
  return false;
}

/* The first device of a backend and a type (0: any); -1 if there is none. */
static int first_device(const clattn_context *context, int backend, int type) {
  for (int i = 0; i < context->n_devices; i++) {
    const clt_device *device = &context->devices[i];
    if ((backend == 0 || (int)device->backend == backend) &&
        (type == 0 || (int)device->type == type))
      return i;
  }
  return -1;
}

/* The index that a selector means, -1 if nothing fits. */
static int select_device(const clattn_context *context, const char *selector) {
  if (same_text(selector, "cpu")) return first_device(context, CLATTN_CPU, 0);
  if (same_text(selector, "gpu"))
    return first_device(context, 0, CLATTN_DEVICE_GPU);
  if (same_text(selector, "opencl"))
    return first_device(context, CLATTN_OPENCL, 0);
  if (selector[strspn(selector, "0123456789")] == '\0') {
    unsigned long index = strtoul(selector, NULL, 10);
    return index < (unsigned long)context->n_devices ? (int)index : -1;
  }
  for (int i = 0; i < context->n_devices; i++) {
    clattn_device_info info;
    device_info(&context->devices[i], &info);
    if (contains_text(info.name, selector)) return i;
  }
  return -1;
}

clattn_status clattn_device_find(const clattn_context *context,
                                 const char *selector, int *device) {
  CLT_REQUIRE(context != NULL, "context: got NULL, want a context");
  CLT_REQUIRE(device != NULL, "device: got NULL, want room for an index");
  const char *source = "selector";
  int found;
  if (!selector) {
    source = "CLATTN_DEVICE";
    selector = getenv(source);
    if (selector && selector[0] == '\0') selector = NULL;
  }
  if (selector) {
    CLT_REQUIRE(selector[0] != '\0', "selector: got \"\", want a device");
    found = select_device(context, selector);
  } else {
    found = first_device(context, 0, CLATTN_DEVICE_GPU);
    if (found < 0) found = first_device(context, CLATTN_CPU, 0);
    if (found < 0) found = 0;
  }
  if (found < 0)
    return clt_fail(
        CLATTN_NO_DEVICE,
        "%s: \"%s\" names none of the %d devices here (by index, by "
        "part of a name, or as cpu, gpu or opencl)%s%s",
        source, selector, context->n_devices,
        context->no_opencl ? "; no OpenCL device: " : "",
        context->no_opencl ? context->no_opencl : "");
  *device = found;
  return CLATTN_OK;
}

clattn_status clt_device_get(const clattn_context *context, int index,
                             clt_device **device) {
  CLT_REQUIRE(context != NULL, "context: got NULL, want a context");
  if (index == CLATTN_DEFAULT_DEVICE)
    CLT_TRY(clattn_device_find(context, NULL, &index));
  CLT_REQUIRE(index >= 0 && index < context->n_devices,
              "device: got %d, want 0..%d or CLATTN_DEFAULT_DEVICE (-1)", index,
              context->n_devices - 1);
  *device = &context->devices[index];
  return CLATTN_OK;
}
