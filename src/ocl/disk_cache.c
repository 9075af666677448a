/* disk_cache.c - compiled programs between runs.
 *
 * Directory    settings->cache_dir, made (0700) when first written to. "" is
 *              the off switch. It may be deleted at any time; files of older
 *              versions and drivers are never read again and not removed.
 * Key          SHA-256 over library version, backend ABI, the whole source as
 *              compiled (every included and overriding file is in it), build
 *              options, name, vendor, version and driver version of the device,
 *              version of the platform. Whatever may change the binary changes
 *              the key.
 * File         <file>-<first 32 hex digits of the key>.bin, native byte order:
 *                head      magic, key, checksum, sizes     (struct head)
 *                verdicts  one a kernel of the file        (struct verdict)
 *                binary    what the driver gave; none for PoCL, which has a
 *                          cache of its own, unless POCL_KERNEL_CACHE=0
 *              The checksum covers verdicts and binary.
 * Reading      A file that is short, corrupt, of another key, or that the
 *              driver does not take is as good as none: the source is built and
 *              the file is replaced.
 * Writing      To a temporary file of its own in the same directory, renamed
 *              when complete. So readers see a whole file or none, and of
 *              several writers the last one wins; a verdict lost that way is
 *              found again by the guard. A directory that cannot be written
 *              costs log lines and no more.
 * When         After the build; again with each new verdict. On PoCL with the
 *              first verdict; binaries, where they are kept, at the latest when
 *              the context is closed (see build() in program.c). */
#include "ocl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char magic[8] = {'C', 'L', 'T', 'P', 'R', 'G', '0', '1'};

typedef struct head {
  char magic[8];
  unsigned char key[32], checksum[32];
  uint64_t n_verdicts, binary_bytes;
} head;

typedef struct verdict {
  char entry[32];
  uint32_t value, reserved;
  char reason[OCL_REASON_BYTES];
} verdict;

/* ---- key and path -------------------------------------------------------- */

/* With its length first, so that no two lists of fields look the same. */
static void add_field(ocl_sha256 *hash, const void *data, size_t bytes) {
  const uint64_t n = bytes;
  ocl_sha256_add(hash, &n, sizeof n);
  ocl_sha256_add(hash, data, bytes);
}

void ocl_cache_key(const ocl_device *device, ocl_program *program,
                   const char *source, size_t length, const char *options) {
  static const cl_device_info fields[] = {CL_DEVICE_NAME, CL_DEVICE_VENDOR,
                                          CL_DEVICE_VERSION, CL_DRIVER_VERSION};
  const int32_t version[] = {CLATTN_VERSION_MAJOR, CLATTN_VERSION_MINOR,
                             CLATTN_VERSION_PATCH, CLT_BACKEND_ABI};
  ocl_sha256 hash;
  ocl_sha256_start(&hash);
  add_field(&hash, version, sizeof version);
  add_field(&hash, source, length);
  add_field(&hash, options, strlen(options));
  for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
    char text[1024] = "";
    clGetDeviceInfo(device->id, fields[i], sizeof text, text, NULL);
    add_field(&hash, text, strnlen(text, sizeof text));
  }
  char text[1024] = "";
  clGetPlatformInfo(device->platform, CL_PLATFORM_VERSION, sizeof text, text,
                    NULL);
  add_field(&hash, text, strnlen(text, sizeof text));
  ocl_sha256_end(&hash, program->key);
}

/* directory/file-hex.bin, with room for a temporary name; ocl_free it. NULL:
 * the cache is off, or no memory. */
static char *cache_path(const ocl_device *device, const ocl_program *program,
                        const char *file, size_t *room) {
  const char *directory = device->state->settings->cache_dir;
  if (directory[0] == '\0') return NULL;
  *room = strlen(directory) + strlen(file) + 96;
  char *path = ocl_host->alloc(*room);
  if (!path) return NULL;
  size_t n = (size_t)snprintf(path, *room, "%s/%s-", directory, file);
  for (int i = 0; i < 16; i++, n += 2)
    snprintf(path + n, *room - n, "%02x", program->key[i]);
  snprintf(path + n, *room - n, ".bin");
  return path;
}

/* ---- reading ------------------------------------------------------------- */

static void checksum(const void *data, size_t bytes, unsigned char digest[32]) {
  ocl_sha256 hash;
  ocl_sha256_start(&hash);
  ocl_sha256_add(&hash, data, bytes);
  ocl_sha256_end(&hash, digest);
}

/* Verdicts and binary of the file in one block; ocl_free it. NULL and *why if
 * there is no such file (*why NULL) or it is not in order. */
static unsigned char *read_file(const char *path, const ocl_program *program,
                                head *h, const char **why) {
  unsigned char *body = NULL, digest[32];
  struct stat entry;
  *why = NULL;
  /* To open a pipe would block. */
  const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  FILE *in = fd < 0 ? NULL : fdopen(fd, "rb");
  if (!in) {
    if (fd >= 0) close(fd);
    if (errno != ENOENT && errno != ENOTDIR) *why = strerror(errno);
    return NULL;
  }
  if (fstat(fileno(in), &entry) != 0 || !S_ISREG(entry.st_mode) ||
      fread(h, sizeof *h, 1, in) != 1 ||
      memcmp(h->magic, magic, sizeof magic) != 0 ||
      memcmp(h->key, program->key, sizeof h->key) != 0 ||
      h->n_verdicts > OCL_KERNEL_COUNT ||
      h->n_verdicts * sizeof(verdict) > (uint64_t)entry.st_size - sizeof *h ||
      h->binary_bytes != (uint64_t)entry.st_size - sizeof *h -
                             h->n_verdicts * sizeof(verdict)) {
    *why = "not a file of this program";
    fclose(in);
    return NULL;
  }
  const size_t bytes = (size_t)entry.st_size - sizeof *h;
  body = ocl_host->alloc(bytes > 0 ? bytes : 1);
  if (!body) {
    *why = "no memory";
  } else if (fread(body, 1, bytes, in) != bytes) {
    *why = "short read";
  } else {
    checksum(body, bytes, digest);
    if (memcmp(digest, h->checksum, sizeof digest) != 0)
      *why = "wrong checksum";
  }
  fclose(in);
  if (*why) {
    ocl_free(body);
    return NULL;
  }
  return body;
}

/* The program of a binary, built and with all kernels of the file. NULL if the
 * driver does not take it. */
static cl_program load_binary(const ocl_device *device, const char *file,
                              cl_context context, const char *options,
                              const unsigned char *binary, size_t bytes) {
  cl_int error, its_status = CL_SUCCESS;
  cl_program id = OCL_NEW(error, clCreateProgramWithBinary, context, 1,
                          &device->id, &bytes, &binary, &its_status);
  if (error != CL_SUCCESS) return NULL;
  if (its_status == CL_SUCCESS)
    its_status = OCL(clBuildProgram, id, 1, &device->id, options, NULL, NULL);
  for (int k = 0; k < OCL_KERNEL_COUNT && its_status == CL_SUCCESS; k++) {
    if (strcmp(ocl_kernel_file(k), file) != 0) continue;
    cl_kernel kernel =
        OCL_NEW(its_status, clCreateKernel, id, ocl_kernel_entry(k));
    if (its_status == CL_SUCCESS) clReleaseKernel(kernel);
  }
  if (its_status == CL_SUCCESS) return id;
  clReleaseProgram(id);
  return NULL;
}

bool ocl_cache_load(ocl_device *device, ocl_program *program, const char *file,
                    cl_context context, const char *options) {
  size_t room;
  head h;
  const char *why = NULL;
  char *path = cache_path(device, program, file, &room);
  if (!path) return false;
  unsigned char *body = read_file(path, program, &h, &why);
  if (body) {
    const size_t skip = (size_t)h.n_verdicts * sizeof(verdict);
    if (h.binary_bytes > 0)
      program->id = load_binary(device, file, context, options, body + skip,
                                (size_t)h.binary_bytes);
    if (h.binary_bytes > 0 && !program->id) why = "the driver does not take it";
  }
  for (size_t i = 0; body && !why && i < h.n_verdicts; i++) {
    verdict v;
    memcpy(&v, body + i * sizeof v, sizeof v);
    for (int k = 0; k < OCL_KERNEL_COUNT; k++) {
      if (strcmp(ocl_kernel_file(k), file) != 0 ||
          strncmp(ocl_kernel_entry(k), v.entry, sizeof v.entry) != 0 ||
          v.value > CLT_REFUSED)
        continue;
      device->kernels[k].verdict = (clt_verdict)v.value;
      memcpy(device->kernels[k].reason, v.reason, sizeof v.reason);
      device->kernels[k].reason[sizeof v.reason - 1] = '\0';
    }
  }
  if (why) ocl_log(device->state, "opencl: %s is not used: %s", path, why);
  ocl_free(body);
  ocl_free(path);
  return program->id != NULL;
}

/* ---- writing ------------------------------------------------------------- */

/* A block of `before` bytes of room and the binary after it. A context of the
 * caller may have more devices: theirs are skipped. NULL: there is none. */
static unsigned char *get_binary(const ocl_device *device, cl_program id,
                                 size_t before, size_t *bytes) {
  cl_uint n = 0;
  unsigned char *block = NULL;
  if (OCL(clGetProgramInfo, id, CL_PROGRAM_NUM_DEVICES, sizeof n, &n, NULL) !=
          CL_SUCCESS ||
      n == 0)
    return NULL;
  cl_device_id *ids = ocl_host->alloc(n * sizeof *ids);
  size_t *sizes = ocl_host->alloc(n * sizeof *sizes);
  unsigned char **binaries = ocl_host->alloc(n * sizeof *binaries);
  if (!ids || !sizes || !binaries ||
      OCL(clGetProgramInfo, id, CL_PROGRAM_DEVICES, n * sizeof *ids, ids,
          NULL) != CL_SUCCESS ||
      OCL(clGetProgramInfo, id, CL_PROGRAM_BINARY_SIZES, n * sizeof *sizes,
          sizes, NULL) != CL_SUCCESS)
    goto end;
  cl_uint mine = 0;
  while (mine < n && ids[mine] != device->id) mine++;
  if (mine == n || sizes[mine] == 0) goto end;
  *bytes = sizes[mine];
  block = ocl_host->alloc(before + *bytes);
  if (!block) goto end;
  binaries[mine] = block + before;
  if (OCL(clGetProgramInfo, id, CL_PROGRAM_BINARIES, n * sizeof *binaries,
          binaries, NULL) != CL_SUCCESS) {
    ocl_free(block);
    block = NULL;
  }
end:
  ocl_free(binaries);
  ocl_free(sizes);
  ocl_free(ids);
  return block;
}

void ocl_cache_save(ocl_device *device, ocl_program *program,
                    const char *file) {
  size_t room, bytes = 0, n = 0;
  char *path = cache_path(device, program, file, &room);
  if (!path) return;
  for (int k = 0; k < OCL_KERNEL_COUNT; k++)
    n += strcmp(ocl_kernel_file(k), file) == 0;
  const size_t before = sizeof(head) + n * sizeof(verdict);
  unsigned char *block = device->driver_caches
                             ? ocl_host->alloc(before)
                             : get_binary(device, program->id, before, &bytes);
  if (!block) {
    ocl_log(device->state, "opencl: %s.cl is not cached: no binary", file);
    goto end;
  }
  unsigned char *at = block + sizeof(head);
  for (int k = 0; k < OCL_KERNEL_COUNT; k++) {
    if (strcmp(ocl_kernel_file(k), file) != 0) continue;
    verdict v = {.value = (uint32_t)device->kernels[k].verdict};
    snprintf(v.entry, sizeof v.entry, "%s", ocl_kernel_entry(k));
    memcpy(v.reason, device->kernels[k].reason, sizeof v.reason);
    memcpy(at, &v, sizeof v);
    at += sizeof v;
  }
  head h = {.n_verdicts = n, .binary_bytes = bytes};
  memcpy(h.magic, magic, sizeof magic);
  memcpy(h.key, program->key, sizeof h.key);
  checksum(block + sizeof h, before - sizeof h + bytes, h.checksum);
  memcpy(block, &h, sizeof h);
  if (ocl_host->replace_file(path, block, before + bytes))
    ocl_log(device->state, "opencl: saved %s %s.cl as %s",
            bytes > 0 ? "binary of" : "verdicts on", file, path);
  else
    ocl_log(device->state, "opencl: %s cannot be written: %s", path,
            strerror(errno));
  ocl_free(block);
end:
  program->unsaved = false; /* tried; what failed once is not repeated */
  ocl_free(path);
}
