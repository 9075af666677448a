/* backend.c - the native CPU as a backend: memory is the process's own, a queue
 * runs its work before submit returns, and every event is complete. */
#ifndef _GNU_SOURCE
#  define _GNU_SOURCE /* _SC_PHYS_PAGES */
#endif
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>
#if defined(__x86_64__) || defined(__i386__)
#  include <cpuid.h>
#endif

#include "../../cl/shape.h"
#include "cpu.h"

/* A cache line, and a vector of the widest instruction set. */
enum { ALIGN = 64 };

typedef struct cpu {
  const clt_host *host;
  const clt_cpu_kernels *kernels; /* in use */
  const clt_cpu_kernels *sets[CLT_CPU_SETS];
  int n_sets;
  const clt_cpu_kernels *named; /* by the environment; may be NULL */
  clt_pool *pool;
  uint64_t memory_bytes; /* of the machine; 0 unknown */
  /* Kept, because a hypervisor takes long to answer cpuid. */
  clattn_device_info info;
} cpu;

typedef struct cpu_buffer {
  const clt_host *host;
  char *data;
  size_t bytes;
  bool owned;
} cpu_buffer;

typedef struct cpu_queue {
  cpu *device;
  /* Kept between submissions, grown to the largest. Local memory belongs to
   * the queue, not to the pool's threads, so that it is there, for all of them,
   * before the first output is touched, whatever other queues do. */
  char *local; /* one slice a thread */
  size_t local_bytes;
  char *scratch;
  size_t scratch_bytes;
} cpu_queue;

/* The services of the library this is linked into: always the same ones. The
 * slots that get no object have no other way to them. */
static _Atomic(const clt_host *) services;

/* Aligned memory, not cleared: a first touch by the thread that uses a page
 * places it best. More than the machine has is refused, because the system
 * promises it and then kills the process that believes. */
static clattn_status reserve(const cpu *self, size_t bytes, const char *what,
                             char **block) {
  const clt_host *host = self->host;
  if (bytes > SIZE_MAX - ALIGN ||
      (self->memory_bytes > 0 && bytes > self->memory_bytes))
    return host->fail(CLATTN_OUT_OF_MEMORY,
                      "%s: got %zu bytes, want at most %llu, the memory of the "
                      "CPU device",
                      what, bytes, (unsigned long long)self->memory_bytes);
  *block = NULL;
  if (host->allow("aligned_alloc"))
    *block = aligned_alloc(ALIGN, (bytes + ALIGN - 1) / ALIGN * ALIGN);
  if (!*block)
    return host->fail(CLATTN_OUT_OF_MEMORY, "no memory: %s of %zu bytes", what,
                      bytes);
  return CLATTN_OK;
}

/* ---- device ----------------------------------------------------------- */

static void cpu_close(void *state) {
  cpu *self = state;
  clt_pool_destroy(self->pool);
  self->host->free(self);
}

static uint64_t machine_memory(void) {
  long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
  return pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : 0;
}

static void *cpu_device(void *state, int i) {
  (void)i; /* the state is its only device */
  return state;
}

#if defined(__x86_64__) || defined(__i386__)
static void name_processor(clattn_device_info *info) {
  unsigned r[12] = {0}, leaf;
  if (__get_cpuid(0, &leaf, &r[0], &r[2], &r[1]))
    snprintf(info->vendor, sizeof info->vendor, "%.12s", (char *)r);
  for (unsigned i = 0; i < 3; i++)
    if (!__get_cpuid(0x80000002u + i, &r[4 * i], &r[4 * i + 1], &r[4 * i + 2],
                     &r[4 * i + 3]))
      return;
  const char *name = (char *)r; /* padded with spaces in front or behind */
  int length = 48;
  while (length > 0 && *name == ' ') name++, length--;
  while (length > 0 && (name[length - 1] == ' ' || name[length - 1] == '\0'))
    length--;
  if (length > 0) snprintf(info->name, sizeof info->name, "%.*s", length, name);
}
#else
static void name_processor(clattn_device_info *info) { (void)info; }
#endif

static void use_set(cpu *self, const clt_cpu_kernels *kernels) {
  self->kernels = kernels;
  snprintf(self->info.version, sizeof self->info.version, "%s", kernels->isa);
  self->info.vector_width = (uint32_t)kernels->lanes;
}

static void describe(const cpu *self, clattn_device_info *info) {
  struct utsname system;
  bool known = uname(&system) == 0;
  info->backend = CLATTN_CPU;
  info->type = CLATTN_DEVICE_CPU;
  snprintf(info->name, sizeof info->name, "%s CPU",
           known ? system.machine : "native");
  snprintf(info->vendor, sizeof info->vendor, "unknown");
  name_processor(info);
  snprintf(info->platform, sizeof info->platform, "native");
  snprintf(info->driver, sizeof info->driver, "clattn %d.%d.%d",
           CLATTN_VERSION_MAJOR, CLATTN_VERSION_MINOR, CLATTN_VERSION_PATCH);
  info->memory_bytes = info->max_alloc_bytes = self->memory_bytes;
  info->local_bytes = self->memory_bytes; /* ordinary memory, no limit */
  info->compute_units = (uint32_t)clt_pool_threads(self->pool);
  info->max_work_group = 1;
  info->fp16 = false;
  info->out_of_order = false;
}

static void cpu_device_info(void *device, clattn_device_info *info) {
  *info = ((const cpu *)device)->info;
}

static clattn_status cpu_open(const clt_settings *settings, void **state,
                              int *n_devices) {
  const clt_host *host = atomic_load(&services);
  const clt_cpu_kernels *sets[CLT_CPU_SETS], *named = NULL;
  const char *name;
  const int n_sets = clt_cpu_sets(sets, &name);
  for (int i = 0; name && i < n_sets; i++)
    if (strcmp(name, sets[i]->isa) == 0) named = sets[i];
  if (name && !named)
    return host->fail(CLATTN_INVALID_ARGUMENT,
                      "CLATTN_CPU_ISA: got \"%s\", want avx512, avx2 or base, "
                      "as far as this machine has it",
                      name);
  cpu *self = host->alloc(sizeof *self);
  if (!self) return host->fail(CLATTN_OUT_OF_MEMORY, "no memory: CPU device");
  self->host = host;
  memcpy(self->sets, sets, sizeof sets);
  self->n_sets = n_sets;
  self->named = named;
  self->memory_bytes = machine_memory();
  self->pool = clt_pool_create(settings->cpu_threads, host);
  if (!self->pool) {
    host->free(self);
    return host->fail(CLATTN_OUT_OF_MEMORY, "no memory: CPU threads");
  }
  self->info.struct_size = sizeof self->info;
  describe(self, &self->info);
  use_set(self, named ? named : sets[0]);
  *state = self;
  *n_devices = 1;
  return CLATTN_OK;
}

/* ---- memory ----------------------------------------------------------- */

static clattn_status cpu_buffer_create(void *device, size_t bytes, void **mem) {
  const cpu *self = device;
  const clt_host *host = self->host;
  cpu_buffer *buffer = host->alloc(sizeof *buffer);
  if (!buffer) return host->fail(CLATTN_OUT_OF_MEMORY, "no memory: buffer");
  char *data = NULL;
  clattn_status status = reserve(self, bytes, "buffer", &data);
  if (status != CLATTN_OK) {
    host->free(buffer);
    return status;
  }
  *buffer = (cpu_buffer){host, data, bytes, true};
  *mem = buffer;
  return CLATTN_OK;
}

static clattn_status cpu_buffer_wrap(void *device, void *native, size_t *bytes,
                                     void **mem) {
  const clt_host *host = ((const cpu *)device)->host;
  cpu_buffer *buffer = host->alloc(sizeof *buffer);
  if (!buffer) return host->fail(CLATTN_OUT_OF_MEMORY, "no memory: buffer");
  *buffer = (cpu_buffer){host, native, *bytes, false};
  *mem = buffer;
  return CLATTN_OK;
}

static void cpu_buffer_destroy(void *mem) {
  cpu_buffer *buffer = mem;
  if (buffer->owned) free(buffer->data);
  buffer->host->free(buffer);
}

static clattn_status cpu_buffer_write(void *queue, void *mem, size_t offset,
                                      const void *src, size_t bytes) {
  (void)queue;
  /* memmove: src may lie in the very memory that a buffer wraps. */
  memmove(((cpu_buffer *)mem)->data + offset, src, bytes);
  return CLATTN_OK;
}

static clattn_status cpu_buffer_read(void *queue, void *mem, size_t offset,
                                     void *dst, size_t bytes) {
  (void)queue;
  memmove(dst, ((cpu_buffer *)mem)->data + offset, bytes);
  return CLATTN_OK;
}

/* ---- events: the end of work is the end of the call -------------------- */

static char complete; /* every event points here */

static clattn_status cpu_event_wait(void *event) {
  (void)event;
  return CLATTN_OK;
}

static void cpu_event_destroy(void *event) { (void)event; }

static clattn_status no_handles(void) {
  const clt_host *host = atomic_load(&services);
  return host->fail(CLATTN_UNSUPPORTED,
                    "the native CPU device has no native handles");
}

static clattn_status cpu_event_wrap(void *device, void *native, void **event) {
  (void)device;
  (void)native;
  (void)event;
  return no_handles();
}

static clattn_status cpu_event_native(void *event, void **native) {
  (void)event;
  (void)native;
  return no_handles();
}

/* ---- queues ----------------------------------------------------------- */

static clattn_status cpu_queue_create(void *device, void **queue) {
  cpu *self = device;
  cpu_queue *made = self->host->alloc(sizeof *made);
  if (!made) return self->host->fail(CLATTN_OUT_OF_MEMORY, "no memory: queue");
  made->device = self;
  *queue = made;
  return CLATTN_OK;
}

static clattn_status cpu_queue_wrap(void *device, void *native, void **queue) {
  (void)device;
  (void)native;
  (void)queue;
  return no_handles();
}

static clattn_status cpu_queue_finish(void *queue) {
  (void)queue;
  return CLATTN_OK;
}

static void cpu_queue_destroy(void *queue) {
  cpu_queue *self = queue;
  free(self->local);
  free(self->scratch);
  self->device->host->free(self);
}

/* ---- kernels ----------------------------------------------------------- */

static clattn_status cpu_prepare(void *device, clt_kernel kernel) {
  const cpu *self = device;
  if (kernel == CLT_K_MATMUL_BLAS) {
    const char *reason = clt_cpu_blas_missing();
    return reason ? self->host->fail(CLATTN_UNSUPPORTED, "%s", reason)
                  : CLATTN_OK;
  }
  if (!self->kernels->run[kernel])
    return self->host->fail(CLATTN_UNSUPPORTED,
                            "%s is shaped for GPUs: not on the native CPU",
                            self->host->kernels[kernel].entry);
  return CLATTN_OK;
}

static clattn_status cpu_limits(void *device, clt_kernel kernel,
                                size_t *local_bytes, size_t *group_size) {
  (void)device;
  (void)kernel;
  *local_bytes = SIZE_MAX / 2;
  *group_size = 1;
  return CLATTN_OK;
}

/* The instruction sets differ by their vectors: the widest is the default. */
static void cpu_tuning(void *device, clt_tuning *tuning) {
  const cpu *self = device;
  *tuning = (clt_tuning){{
      [CLT_TUNE_FAMILY] = {0, .n_options = 1,
                           .option = {{0, "kernels for CPUs"}}},
      [CLT_TUNE_LANES] =
          {.value = (self->named ? self->named : self->sets[0])->lanes,
           .origin = self->named ? CLT_BY_CALLER : CLT_BY_DEFAULT,
           .n_options = self->n_sets},
      [CLT_TUNE_BLOCK] = {BM, .n_options = 1,
                          .option = {{BM, "blocks of 64 queries"}}},
      [CLT_TUNE_DENSE] = {0, .n_options = 2,
                          .option = {{0, "own dense products"},
                                     {1, "dense products by OpenBLAS"}}},
  }};
  for (int i = 0; i < self->n_sets; i++) {
    tuning->of[CLT_TUNE_LANES].option[i].value = self->sets[i]->lanes;
    tuning->of[CLT_TUNE_LANES].option[i].name = self->sets[i]->name;
  }
}

static int cpu_block_rows(void *device, clt_kernel kernel) {
  (void)device, (void)kernel;
  return BM;
}

static void cpu_tune(void *device, const clt_tuning *tuning) {
  cpu *self = device;
  for (int i = 0; i < self->n_sets; i++)
    if (self->sets[i]->lanes == tuning->of[CLT_TUNE_LANES].value)
      use_set(self, self->sets[i]);
}

_Static_assert(BM == 64, "cpu_tuning names the blocks");

/* This backend is what the others are measured against. */
static clt_verdict cpu_verdict_get(void *device, clt_kernel kernel,
                                   char *reason, size_t n) {
  (void)device;
  (void)kernel;
  if (n > 0) reason[0] = '\0';
  return CLT_TRUSTED;
}

static void cpu_verdict_set(void *device, clt_kernel kernel,
                            clt_verdict verdict, const char *reason) {
  (void)device;
  (void)kernel;
  (void)verdict;
  (void)reason;
}

/* ---- submission --------------------------------------------------------- */

/* Grows *block to bytes; what it held is lost. */
static clattn_status grow(const cpu *device, char **block, size_t *have,
                          size_t bytes, const char *what) {
  if (bytes <= *have) return CLATTN_OK;
  free(*block);
  *block = NULL;
  *have = 0;
  clattn_status status = reserve(device, bytes, what, block);
  if (status == CLATTN_OK) *have = bytes;
  return status;
}

static clattn_status count_groups(const clt_host *host, const clt_step *step,
                                  size_t *n) {
  size_t rows, all;
  if (__builtin_mul_overflow(step->groups[0], step->groups[1], &rows) ||
      __builtin_mul_overflow(rows, step->groups[2], &all))
    return host->fail(CLATTN_UNSUPPORTED, "%s: more groups than can be counted",
                      host->kernels[step->kernel].entry);
  *n = all;
  return CLATTN_OK;
}

/* One slice of local memory for each thread that may run a group. */
static clattn_status reserve_local(cpu_queue *self, const clt_step *steps,
                                   size_t n_steps, size_t *slice) {
  const clt_host *host = self->device->host;
  size_t largest = ALIGN, n = 0, bytes;
  bool parallel = false;
  for (size_t i = 0; i < n_steps; i++) {
    clattn_status status = count_groups(host, &steps[i], &n);
    if (status != CLATTN_OK) return status;
    parallel |= n > 1;
    if (steps[i].local_bytes > largest) largest = steps[i].local_bytes;
  }
  size_t threads = parallel ? (size_t)clt_pool_threads(self->device->pool) : 1;
  bytes = SIZE_MAX; /* which is refused */
  if (largest <= SIZE_MAX - ALIGN) {
    largest = (largest + ALIGN - 1) / ALIGN * ALIGN;
    if (__builtin_mul_overflow(largest, threads, &bytes)) bytes = SIZE_MAX;
  }
  *slice = largest;
  return grow(self->device, &self->local, &self->local_bytes, bytes,
              "local memory");
}

/* One step, as the pool's threads see it. */
typedef struct grid {
  clt_cpu_kernel run;
  const void *args;
  void *buffers[CLT_MAX_BUFFERS];
  size_t nx, ny;
  char *local;
  size_t slice;
} grid;

static void run_group(void *user, size_t i, int worker) {
  const grid *g = user;
  size_t x = i % g->nx, rest = i / g->nx;
  float *local = (float *)(void *)(g->local + (size_t)worker * g->slice);
  g->run(g->args, g->buffers, local, x, rest % g->ny, rest / g->ny);
}

static clattn_status run_step(cpu_queue *self, const clt_step *step,
                              char *scratch, size_t slice) {
  const cpu *device = self->device;
  grid g;
  g.run = device->kernels->run[step->kernel];
  g.args = step->args;
  g.nx = step->groups[0];
  g.ny = step->groups[1];
  g.local = self->local;
  g.slice = slice;
  for (int i = 0; i < step->n_buffers; i++) {
    const clt_ref *ref = &step->buffers[i];
    g.buffers[i] = ref->scratch ? scratch
                   : ref->mem   ? ((cpu_buffer *)ref->mem)->data
                                : NULL;
  }
  if (step->kernel == CLT_K_MATMUL_BLAS)
    return clt_cpu_blas_matmul(device->host, g.args, g.buffers);
  clt_pool_run(device->pool, g.nx * g.ny * step->groups[2], run_group, &g);
  return CLATTN_OK;
}

static clattn_status cpu_submit(void *queue, const clt_step *steps,
                                size_t n_steps, void *scratch,
                                size_t scratch_bytes, void *const *wait,
                                size_t n_wait, void **event) {
  cpu_queue *self = queue;
  size_t slice;
  clattn_status status;
  (void)wait; /* complete, as all events of this backend are */
  (void)n_wait;
  for (size_t i = 0; i < n_steps; i++) {
    status = cpu_prepare(self->device, steps[i].kernel);
    if (status != CLATTN_OK) return status;
  }
  status = reserve_local(self, steps, n_steps, &slice);
  if (status != CLATTN_OK) return status;
  char *lent = scratch ? ((cpu_buffer *)scratch)->data : NULL;
  if (!lent) {
    status = grow(self->device, &self->scratch, &self->scratch_bytes,
                  scratch_bytes, "scratch");
    if (status != CLATTN_OK) return status;
    lent = self->scratch;
  }
  for (size_t i = 0; i < n_steps; i++) {
    status = run_step(self, &steps[i], lent, slice);
    if (status != CLATTN_OK) return status;
  }
  if (event) *event = &complete;
  return CLATTN_OK;
}

/* ---- the table ---------------------------------------------------------- */

static const clt_backend_ops operations = {
    .abi = CLT_BACKEND_ABI,
    .name = "cpu",
    .open = cpu_open,
    .open_native = NULL,
    .close = cpu_close,
    .device = cpu_device,
    .device_info = cpu_device_info,
    .buffer_create = cpu_buffer_create,
    .buffer_wrap = cpu_buffer_wrap,
    .buffer_destroy = cpu_buffer_destroy,
    .queue_create = cpu_queue_create,
    .queue_wrap = cpu_queue_wrap,
    .queue_finish = cpu_queue_finish,
    .queue_destroy = cpu_queue_destroy,
    .buffer_write = cpu_buffer_write,
    .buffer_read = cpu_buffer_read,
    .event_wait = cpu_event_wait,
    .event_destroy = cpu_event_destroy,
    .event_wrap = cpu_event_wrap,
    .event_native = cpu_event_native,
    .prepare = cpu_prepare,
    .limits = cpu_limits,
    .tuning = cpu_tuning,
    .tune = cpu_tune,
    .block_rows = cpu_block_rows,
    .verdict_get = cpu_verdict_get,
    .verdict_set = cpu_verdict_set,
    .submit = cpu_submit,
};

const clt_backend_ops *clt_cpu_backend(const clt_host *host) {
  if (host->abi != CLT_BACKEND_ABI) return NULL;
  atomic_store(&services, host);
  return &operations;
}
