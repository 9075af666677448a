/* tuning.c - which of several right ways a device takes: the defaults of its
 * type, then what clattn_device_tune has stored, then what the caller says.
 *
 * Record   one text file a device in the directory of the program cache:
 *
 *            clattn tuning 1
 *            library 0.1.0
 *            name, vendor, platform, driver, version: a line each
 *            lanes 8                  the choices that were measured
 *            checksum 0123456789abcdef
 *
 *          The file's name is a hash of the lines before the choices, which
 *          must be those of the device at hand; the checksum is over all before
 *          it (FNV-1a: against damage, not against forgery, as every value that
 *          passes is a right one).
 * Reading  When a context is opened. A record that is not exactly of this form,
 *          or has a value that the device does not take, is as good as none.
 * Writing  As a whole or not at all (clt_file_replace). */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core.h"

enum { RECORD_BYTES = 2048, CHECKSUM_BYTES = 26 };

static const struct {
  const char *key, *fixed_by;
} items[CLT_TUNE_COUNT] = {
#define CLT_X(id, key, fixed_by) {key, fixed_by},
    CLT_TUNING_MAP(CLT_X)
#undef CLT_X
};

/* ---- choices ------------------------------------------------------------------ */

bool clt_tuning_set(clt_tuning *tuning, clt_tune_id id, int value,
                    clt_origin origin) {
  clt_choice *choice = &tuning->of[id];
  for (int i = 0; i < choice->n_options; i++)
    if (choice->option[i].value == value) {
      choice->value = value;
      choice->origin = origin;
      return true;
    }
  return false;
}

void clt_tuning_base(const clt_device *device, clt_tuning *tuning) {
  device->ops->tuning(device->impl, tuning);
  /* The native device has no kernels for GPUs: there this is no option. */
  if (device->context->force_gpu_kernels)
    clt_tuning_set(tuning, CLT_TUNE_FAMILY, 1, CLT_BY_CALLER);
  if (device->context->dense != CLATTN_DENSE_AUTO)
    clt_tuning_set(tuning, CLT_TUNE_DENSE,
                   device->context->dense == CLATTN_DENSE_BLAS, CLT_BY_CALLER);
}

const char *clt_tuning_name(const clt_tuning *tuning, clt_tune_id id) {
  const clt_choice *choice = &tuning->of[id];
  int i = 0;
  while (i + 1 < choice->n_options && choice->option[i].value != choice->value)
    i++;
  return choice->option[i].name;
}

const char *clt_tuning_why(const clt_device *device, clt_tune_id id) {
  const clt_choice *choice = &device->tuning.of[id];
  if (choice->origin == CLT_BY_RECORD) return "tuned";
  if (choice->origin == CLT_BY_CALLER) return items[id].fixed_by;
  if (choice->n_options == 1) return "the only one on this device";
  return device->type == CLATTN_DEVICE_CPU   ? "default for CPU devices"
         : device->type == CLATTN_DEVICE_GPU ? "default for GPU devices"
                                             : "default for other devices";
}

/* ---- the record ----------------------------------------------------------------- */

static uint64_t fnv(const char *text, size_t bytes) {
  uint64_t hash = 14695981039346656037u;
  for (size_t i = 0; i < bytes; i++)
    hash = (hash ^ (unsigned char)text[i]) * 1099511628211u;
  return hash;
}

void clt_device_identity(const clt_device *device,
                         char text[CLT_IDENTITY_BYTES]) {
  clattn_device_info info = {.struct_size = sizeof info};
  device->ops->device_info(device->impl, &info);
  /* The native device's version is the instruction set: a choice. */
  if (device->backend == CLATTN_CPU) info.version[0] = '\0';
  char *const fields[] = {info.name, info.vendor, info.platform, info.driver,
                          info.version};
  for (int i = 0; i < 5; i++) /* a field is a line, whatever a driver says */
    for (char *c = fields[i]; *c; c++)
      if ((unsigned char)*c < ' ') *c = ' ';
  snprintf(text, CLT_IDENTITY_BYTES,
           "clattn tuning 1\nlibrary %s\nname %s\nvendor %s\nplatform %s\n"
           "driver %s\nversion %s\n",
           clattn_version(), info.name, info.vendor, info.platform, info.driver,
           info.version);
}

clattn_status clt_tuning_path(const clt_device *device,
                              char path[CLT_PATH_BYTES]) {
  const char *directory = device->context->settings.cache_dir;
  char identity[CLT_IDENTITY_BYTES];
  if (directory[0] == '\0')
    return clt_fail(CLATTN_UNSUPPORTED,
                    "tuning: the cache is off, so that nothing can be kept: "
                    "config->cache_dir or CLATTN_CACHE_DIR is \"\", want a "
                    "directory");
  clt_device_identity(device, identity);
  const int n = snprintf(path, CLT_PATH_BYTES, "%s/tuning-%016" PRIx64 ".txt",
                         directory, fnv(identity, strlen(identity)));
  if (n >= CLT_PATH_BYTES)
    return clt_fail(CLATTN_UNSUPPORTED,
                    "tuning: the path of the cache has %zu bytes, want at most "
                    "%d",
                    strlen(directory), CLT_PATH_BYTES - 32);
  return CLATTN_OK;
}

/* One "key value\n" at *at; sets the choice and moves on. */
static bool parse_line(const char **at, const char *end, clt_tuning *tuning) {
  for (int id = 0; id < CLT_TUNE_COUNT; id++) {
    const size_t n = strlen(items[id].key);
    const char *c = *at;
    if ((size_t)(end - c) < n + 3 || memcmp(c, items[id].key, n) != 0 ||
        c[n] != ' ')
      continue;
    int value = 0, digits = 0;
    for (c += n + 1; c < end && *c >= '0' && *c <= '9' && digits < 4; c++)
      value = 10 * value + (*c - '0'), digits++;
    if (digits == 0 || c == end || *c != '\n' ||
        tuning->of[id].origin == CLT_BY_RECORD || /* twice */
        !clt_tuning_set(tuning, (clt_tune_id)id, value, CLT_BY_RECORD))
      return false;
    *at = c + 1;
    return true;
  }
  return false;
}

/* Sets what the record says, if it is in order as a whole. */
static bool parse(const char *text, size_t bytes, const char *identity,
                  clt_tuning *tuning) {
  const size_t head = strlen(identity);
  char tail[CHECKSUM_BYTES + 1];
  if (bytes < head + CHECKSUM_BYTES || memcmp(text, identity, head) != 0)
    return false;
  const char *at = text + head, *end = text + bytes - CHECKSUM_BYTES;
  snprintf(tail, sizeof tail, "checksum %016" PRIx64 "\n",
           fnv(text, (size_t)(end - text)));
  if (memcmp(end, tail, CHECKSUM_BYTES) != 0) return false;
  while (at < end)
    if (!parse_line(&at, end, tuning)) return false;
  return true;
}

/* The file's bytes; -1: there is none, -2: it cannot be one of ours. */
static ssize_t read_record(const char *path, char text[RECORD_BYTES]) {
  struct stat entry;
  /* To open a pipe would block. */
  const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return errno == ENOENT || errno == ENOTDIR ? -1 : -2;
  ssize_t n = -2;
  if (fstat(fd, &entry) == 0 && S_ISREG(entry.st_mode) &&
      entry.st_size <= RECORD_BYTES)
    n = read(fd, text, RECORD_BYTES);
  close(fd);
  return n >= 0 ? n : -2;
}

static const char *load(const clt_device *device, clt_tuning *tuning) {
  char path[CLT_PATH_BYTES], text[RECORD_BYTES], identity[CLT_IDENTITY_BYTES];
  if (device->context->settings.cache_dir[0] == '\0') return "the cache is off";
  if (clt_tuning_path(device, path) != CLATTN_OK) return "no place for one";
  const ssize_t n = read_record(path, text);
  if (n == -1) return "none";
  clt_device_identity(device, identity);
  clt_tuning stored;
  device->ops->tuning(device->impl, &stored);
  if (n < 0 || !parse(text, (size_t)n, identity, &stored)) {
    clt_log(device->context, "tuning: %s is not used: not a record of %s", path,
            "this device, or damaged");
    return "not in order, ignored";
  }
  for (int id = 0; id < CLT_TUNE_COUNT; id++)
    if (stored.of[id].origin == CLT_BY_RECORD &&
        tuning->of[id].origin == CLT_BY_DEFAULT)
      tuning->of[id] = stored.of[id];
  return "in use";
}

void clt_tuning_open(clt_device *device) {
  clt_tuning_base(device, &device->tuning);
  device->record = load(device, &device->tuning);
  device->ops->tune(device->impl, &device->tuning);
}

clattn_status clt_tuning_save(const clt_device *device,
                              const clt_tuning *tuning) {
  char path[CLT_PATH_BYTES], text[RECORD_BYTES];
  CLT_TRY(clt_tuning_path(device, path));
  clt_device_identity(device, text);
  size_t n = strlen(text);
  for (int id = 0; id < CLT_TUNE_COUNT; id++)
    if (tuning->of[id].origin == CLT_BY_RECORD)
      n += (size_t)snprintf(text + n, sizeof text - n, "%s %d\n", items[id].key,
                            tuning->of[id].value);
  n += (size_t)snprintf(text + n, sizeof text - n, "checksum %016" PRIx64 "\n",
                        fnv(text, n));
  if (clt_file_replace(path, text, n)) return CLATTN_OK;
  return clt_fail(errno == ENOMEM ? CLATTN_OUT_OF_MEMORY : CLATTN_IO_ERROR,
                  "tuning: %s cannot be written: %s", path, strerror(errno));
}

/* ---- the public functions ---------------------------------------------------------- */

clattn_status clattn_device_get_tuning(const clattn_context *context,
                                       int device, char *text, size_t room) {
  clt_device *found = NULL;
  CLT_REQUIRE(text != NULL && room > 0,
              "text: got %s of %zu bytes, want room for the result",
              text ? "room" : "NULL", room);
  CLT_TRY(clt_device_get(context, device, &found));
  char path[CLT_PATH_BYTES] = "";
  const bool kept = context->settings.cache_dir[0] != '\0' &&
                    clt_tuning_path(found, path) == CLATTN_OK;
  size_t n = 0;
  for (int id = 0; id < CLT_TUNE_COUNT && n < room; id++)
    n += (size_t)snprintf(text + n, room - n, "%s (%s)\n",
                          clt_tuning_name(&found->tuning, (clt_tune_id)id),
                          clt_tuning_why(found, (clt_tune_id)id));
  if (n < room)
    snprintf(text + n, room - n, "record: %s%s%s\n", found->record,
             kept ? ": " : "", path);
  return CLATTN_OK;
}

clattn_status clattn_device_reset_tuning(clattn_context *context, int device) {
  clt_device *found = NULL;
  char path[CLT_PATH_BYTES];
  CLT_TRY(clt_device_get(context, device, &found));
  CLT_TRY(clt_tuning_path(found, path));
  if (unlink(path) != 0 && errno != ENOENT && errno != ENOTDIR)
    return clt_fail(CLATTN_IO_ERROR, "tuning: %s cannot be removed: %s", path,
                    strerror(errno));
  return CLATTN_OK;
}
