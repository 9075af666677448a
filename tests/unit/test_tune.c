/* Tuning: what is stored is used, what is damaged is not, what the caller says
 * wins, and results are right with every record. */
#define _POSIX_C_SOURCE 200809L /* mkdtemp, setenv */
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/core.h"
#include "errors.h"

static char cache[64];

static void open_cache(void) {
  unsetenv("CLATTN_CPU_ISA");
  snprintf(cache, sizeof cache, "/tmp/clattn-tune-XXXXXX");
  cr_assert(mkdtemp(cache));
}

/* Removes the cache; how many files it held. */
static int close_cache(void) {
  char path[400];
  int n = 0;
  DIR *directory = opendir(cache);
  cr_assert(directory);
  for (struct dirent *e; (e = readdir(directory)) != NULL;) {
    if (e->d_name[0] == '.') continue;
    snprintf(path, sizeof path, "%s/%s", cache, e->d_name);
    unlink(path);
    n++;
  }
  closedir(directory);
  rmdir(cache);
  return n;
}

static clattn_context *open_with(const char *cache_dir, clattn_backend backend,
                                 clattn_dense dense, bool force) {
  clattn_context *context = NULL;
  clattn_context_config config;
  clattn_context_config_init(&config);
  config.backend = backend;
  config.cache_dir = cache_dir;
  config.cpu_threads = 2;
  config.dense = dense;
  config.force_gpu_kernels = force;
  TH_OK(clattn_context_create(&config, &context));
  return context;
}

static clattn_context *open_native(void) {
  return open_with(cache, CLATTN_CPU, CLATTN_DENSE_AUTO, false);
}

static bool uses(const clattn_context *context, int device, const char *what) {
  static char text[8192];
  TH_OK(clattn_device_get_tuning(context, device, text, sizeof text));
  return strstr(text, what) != NULL;
}

/* Stores a record with one choice; false: the device has no such option. */
static bool store(clattn_context *context, int device, clt_tune_id id,
                  int value) {
  clt_device *found;
  clt_tuning tuning;
  TH_OK(clt_device_get(context, device, &found));
  clt_tuning_base(found, &tuning);
  if (!clt_tuning_set(&tuning, id, value, CLT_BY_RECORD)) return false;
  TH_OK(clt_tuning_save(found, &tuning));
  return true;
}

/* ---- the public functions -------------------------------------------------- */

Test(tune, bad_arguments) {
  open_cache();
  clattn_context *context = open_native();
  char text[16] = "kept";
  FAILS(INVALID_ARGUMENT, "context", clattn_device_tune(NULL, 0, NULL, NULL));
  FAILS(INVALID_ARGUMENT, "device", clattn_device_tune(context, 1, NULL, NULL));
  FAILS(INVALID_ARGUMENT, "device",
        clattn_device_tune(context, -2, NULL, NULL));
  FAILS(INVALID_ARGUMENT, "context", clattn_device_reset_tuning(NULL, 0));
  FAILS(INVALID_ARGUMENT, "device", clattn_device_reset_tuning(context, 7));
  FAILS(INVALID_ARGUMENT, "context",
        clattn_device_get_tuning(NULL, 0, text, sizeof text));
  FAILS(INVALID_ARGUMENT, "device",
        clattn_device_get_tuning(context, 7, text, sizeof text));
  FAILS(INVALID_ARGUMENT, "text",
        clattn_device_get_tuning(context, 0, NULL, 16));
  FAILS(INVALID_ARGUMENT, "text",
        clattn_device_get_tuning(context, 0, text, 0));
  cr_expect_str_eq(text, "kept");
  for (size_t room = 1; room <= sizeof text; room++) {
    memset(text, 'x', sizeof text);
    TH_OK(clattn_device_get_tuning(context, 0, text, room));
    cr_expect_eq(strlen(text), room - 1, "cut to the room");
  }
  clattn_context_destroy(context);
  cr_expect_eq(close_cache(), 0);
}

Test(tune, needs_a_cache) {
  clattn_context *context = open_with("", CLATTN_CPU, CLATTN_DENSE_AUTO, false);
  FAILS(UNSUPPORTED, "cache_dir", clattn_device_tune(context, 0, NULL, NULL));
  FAILS(UNSUPPORTED, "cache_dir", clattn_device_reset_tuning(context, 0));
  cr_expect(uses(context, 0, "record: the cache is off"));
  clattn_context_destroy(context);
}

typedef struct tally {
  int of[6];
  bool in_order;
} tally;

static void count(void *user, const clattn_tune_report *r) {
  tally *t = user;
  cr_assert(r->state >= 1 && r->state <= 5);
  t->of[r->state]++;
  cr_expect(r->candidate && r->reason);
  const bool timed = r->state == CLATTN_TUNE_MEASURED;
  cr_expect_eq(timed, r->attention_seconds > 0);
  cr_expect_eq(timed, r->product_seconds > 0);
}

Test(tune, native_device, .timeout = 240) {
  open_cache();
  tally t = {0};
  clattn_context *context = open_native();
  cr_expect_not(uses(context, 0, "tuned"));
  TH_OK(clattn_device_tune(context, 0, count, &t));
  cr_expect_gt(t.of[CLATTN_TUNE_CHOSEN], 0);
  cr_expect_leq(t.of[CLATTN_TUNE_CHOSEN], t.of[CLATTN_TUNE_MEASURED]);
  cr_expect_eq(t.of[CLATTN_TUNE_PREPARING],
               t.of[CLATTN_TUNE_MEASURED] + t.of[CLATTN_TUNE_REFUSED]);
  cr_expect_not(uses(context, 0, "tuned"), "it is for the next context");
  clattn_context *next = open_native();
  cr_expect(uses(next, 0, "dense products") && uses(next, 0, "(tuned)") &&
            uses(next, 0, "record: in use"));
  TH_OK(clattn_device_reset_tuning(next, 0));
  TH_OK(clattn_device_reset_tuning(next, 0)); /* nothing left: fine */
  clattn_context_destroy(next);
  next = open_native();
  cr_expect(uses(next, 0, "record: none") && !uses(next, 0, "tuned"));
  clattn_context_destroy(next);
  clattn_context_destroy(context);
  cr_expect_eq(close_cache(), 0, "files were left behind");
}

/* The caller has fixed all: nothing is measured, and that is kept. */
Test(tune, what_the_caller_fixes_is_skipped) {
  open_cache();
  setenv("CLATTN_CPU_ISA", "base", 1);
  tally t = {0};
  clattn_context *context =
      open_with(cache, CLATTN_CPU, CLATTN_DENSE_OWN, false);
  TH_OK(clattn_device_tune(context, 0, count, &t));
  cr_expect_eq(t.of[CLATTN_TUNE_SKIPPED], CLT_TUNE_COUNT);
  cr_expect_eq(t.of[CLATTN_TUNE_PREPARING], 0);
  clattn_context_destroy(context);
  cr_expect_eq(close_cache(), 1);
}

Test(tune, a_cache_that_cannot_be_written) {
  char file[80];
  open_cache();
  setenv("CLATTN_CPU_ISA", "base", 1);
  snprintf(file, sizeof file, "%s/file", cache);
  fclose(fopen(file, "w"));
  clattn_context *context =
      open_with(file, CLATTN_CPU, CLATTN_DENSE_OWN, false);
  FAILS(IO_ERROR, file, clattn_device_tune(context, 0, NULL, NULL));
  TH_OK(clattn_device_reset_tuning(context, 0));
  clattn_context_destroy(context);
  close_cache();
}

/* Every allocation fails once: a clean status, and nothing is kept that was
 * chosen for want of memory. */
Test(tune, out_of_memory, .timeout = 240) {
  open_cache();
  setenv("CLATTN_CPU_ISA", "base", 1);
  clattn_context *context = open_native();
  for (int64_t n = 0;; n += 2) {
    clt_fault_after(n);
    const clattn_status status = clattn_device_tune(context, 0, NULL, NULL);
    if (clt_fault_after(-1) <= n) break;
    cr_expect_eq(status, CLATTN_OUT_OF_MEMORY, "call %d: %s", (int)n,
                 clattn_error_message());
    clattn_context *next = open_native();
    cr_expect(uses(next, 0, "record: none"), "call %d", (int)n);
    clattn_context_destroy(next);
  }
  clattn_context_destroy(context);
  cr_expect_eq(close_cache(), 1);
}

/* ---- records ------------------------------------------------------------------ */

Test(tune, the_caller_wins) {
  open_cache();
  clattn_context *context = open_native();
  cr_assert(store(context, 0, CLT_TUNE_DENSE, 1));
  clattn_context_destroy(context);

  context = open_native();
  cr_expect(uses(context, 0, "OpenBLAS (tuned)"));
  clattn_context_destroy(context);
  context = open_with(cache, CLATTN_CPU, CLATTN_DENSE_OWN, false);
  cr_expect(uses(context, 0, "own dense products (config->dense)"));
  cr_assert(store(context, 0, CLT_TUNE_LANES, 4)); /* replaces the record */
  clattn_context_destroy(context);

  context = open_with(cache, CLATTN_CPU, CLATTN_DENSE_BLAS, false);
  cr_expect(uses(context, 0, "vectors of 4, base (tuned)"));
  cr_expect(uses(context, 0, "OpenBLAS (config->dense)"));
  clattn_context_destroy(context);

  setenv("CLATTN_CPU_ISA", "base", 1);
  context = open_native();
  cr_expect(uses(context, 0, "vectors of 4, base (CLATTN_CPU_ISA)"));
  cr_expect(uses(context, 0, "record: in use"));
  clattn_context_destroy(context);
  close_cache();
}

static uint64_t fnv(const char *text, size_t bytes) {
  uint64_t hash = 14695981039346656037u;
  for (size_t i = 0; i < bytes; i++)
    hash = (hash ^ (unsigned char)text[i]) * 1099511628211u;
  return hash;
}

static char path[CLT_PATH_BYTES];

/* Replaces the record; what the next context makes of it. */
static void expect_ignored(const char *text, size_t bytes, const char *what) {
  cr_assert(clt_file_replace(path, text, bytes));
  clattn_context *context = open_native();
  cr_expect(
      !uses(context, 0, "tuned") && uses(context, 0, "not in order, ignored"),
      "%s was taken:\n%.*s", what, (int)bytes, text);
  clattn_context_destroy(context);
}

/* A record with these choices and the right checksum. */
static size_t compose(char text[4096], const char *identity,
                      const char *choices) {
  const size_t n = (size_t)snprintf(text, 2048, "%s%s", identity, choices);
  return n + (size_t)snprintf(text + n, 64, "checksum %016" PRIx64 "\n",
                              fnv(text, n));
}

Test(tune, damaged_records_are_ignored, .timeout = 240) {
  open_cache();
  char text[4096], identity[CLT_IDENTITY_BYTES], other[CLT_IDENTITY_BYTES];
  clt_device *device;
  clattn_context *context = open_native();
  TH_OK(clt_device_get(context, 0, &device));
  TH_OK(clt_tuning_path(device, path));
  clt_device_identity(device, identity);
  clattn_context_destroy(context);

  /* In order: lines of any order and number. */
  static const char *const right[] = {
      "lanes 4\n", "blas 1\nlanes 4\n",
      "gpu_kernels 0\nlanes 4\nblock_rows 64\n"};
  size_t n = 0;
  for (int i = 0; i < 3; i++) {
    n = compose(text, identity, right[i]);
    cr_assert(clt_file_replace(path, text, n));
    context = open_native();
    cr_expect(uses(context, 0, "vectors of 4, base (tuned)"), "%s", right[i]);
    clattn_context_destroy(context);
  }
  static const char *const wrong[] = {"lanes 5\n",
                                      "lanes 0\n",
                                      "lanes 99999\n",
                                      "lanes -4\n",
                                      "lanes 4",
                                      "lanes  4\n",
                                      "lanes\n",
                                      "lanes \n",
                                      "lanes 4 \n",
                                      "Lanes 4\n",
                                      "lanes 4\n\n",
                                      "lanes 4\nlanes 4\n",
                                      "lanes 4\nfuture 1\n",
                                      "gpu_kernels 1\n",
                                      "block_rows 16\n",
                                      "blas 2\n",
                                      "lanes 4\r\n",
                                      "lanes 4294967300\n"};
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    n = compose(text, identity, wrong[i]);
    expect_ignored(text, n, "a wrong choice");
  }
  /* Of another device, another version, another format. */
  static const char *const fields[] = {"name ", "vendor ", "driver ",
                                       "library ", "tuning "};
  for (int i = 0; i < 5; i++) {
    memcpy(other, identity, sizeof other);
    char *field = strstr(other, fields[i]) + strlen(fields[i]);
    *field = *field == '9' ? '8' : '9';
    n = compose(text, other, "lanes 4\n");
    expect_ignored(text, n, "a foreign record");
  }
  n = compose(text, identity, "lanes 4\n");
  for (size_t i = 0; i < n; i++) {
    expect_ignored(text, i, "a truncated record");
    text[i] ^= 1;
    expect_ignored(text, n, "a spoiled record");
    text[i] ^= 1;
  }
  text[n] = '\n';
  expect_ignored(text, n + 1, "a longer record");
  memset(text + n, 0, sizeof text - n);
  expect_ignored(text, sizeof text, "a much longer record");
  unlink(path);
  cr_assert_eq(symlink(cache, path), 0);
  context = open_native();
  cr_expect(uses(context, 0, "not in order, ignored"), "a directory");
  clattn_context_destroy(context);
  close_cache();
}

/* ---- results ------------------------------------------------------------------- */

static void expect_results(const th_device *device, const char *tile,
                           const char *record) {
  static const attn_case cases[] = {
      {"tuned", .b = 2, .hq = 4, .hk = 2, .sq = 70, .skv = 141, .d = 20,
       .dv = 12, .causal = true, .lse = true, .mask = "11qk"},
      {"tuned, decode", .hq = 4, .hk = 2, .sq = 1, .skv = 700, .d = 64,
       .dtype = CLATTN_F16, .lengths = LEN_I32, .slopes = true},
      {"tuned, weights", .hq = 2, .sq = 33, .skv = 65, .d = 16, .weights = true,
       .softcap = 3},
  };
  for (int i = 0; i < 3; i++) {
    char message[512];
    attn_problem p;
    clattn_plan *plan = NULL;
    attn_problem_init(&p, &cases[i], 77);
    if (i == 0) {
      TH_OK(clattn_plan_create(device->context, device->index, &p.desc, &plan));
      cr_expect(strstr(clattn_plan_info(plan), tile), "no '%s' in:\n%s", tile,
                clattn_plan_info(plan));
      clattn_plan_destroy(plan);
    }
    cr_expect_eq(
        attn_problem_run(&p, device, CLATTN_AUTO, message, sizeof message),
        TC_PASS, "%s, %s, %s: %s", device->info.name, record, cases[i].name,
        message);
    attn_problem_free(&p);
  }
}

/* Every option of every choice, as if it had been tuned. */
Test(tune, results_are_right_with_every_record, .timeout = 600) {
  static const struct {
    clt_tune_id id;
    int value;
    const char *opencl, *native; /* what plans say */
  } records[] = {
      {CLT_TUNE_LANES, 16, "vectors of 16 (tuned)", "16, avx512 (tuned)"},
      {CLT_TUNE_LANES, 8, "vectors of 8 (tuned)", "8, avx2 (tuned)"},
      {CLT_TUNE_LANES, 4, "vectors of 4 (tuned)", "4, base (tuned)"},
      {CLT_TUNE_BLOCK, 16, "tile: 16 queries x 64 keys (tuned), ", ""},
      {CLT_TUNE_BLOCK, 64, "tile: 64 queries x 64 keys (tuned), ",
       "64 queries"},
      {CLT_TUNE_FAMILY, 1, "work-groups (tuned)", ""},
      {CLT_TUNE_FAMILY, 0, "vectors of", "vectors of"},
      {CLT_TUNE_DENSE, 0, "vectors of", "vectors of"},
  };
  open_cache();
  const th_devices *devices = th_open(false);
  for (int d = 0; d < devices->count; d++)
    for (size_t r = 0; r < sizeof records / sizeof *records; r++) {
      th_device device = devices->device[d];
      const clattn_backend backend = device.info.backend;
      char record[32];
      snprintf(record, sizeof record, "record %d = %d", (int)records[r].id,
               records[r].value);
      clattn_context *context =
          open_with(cache, backend, CLATTN_DENSE_AUTO, false);
      if (device.index >= clattn_device_count(context)) device.index = 0;
      const bool has =
          store(context, device.index, records[r].id, records[r].value);
      clattn_context_destroy(context);
      cr_expect(has || !device.opencl || records[r].id == CLT_TUNE_BLOCK);
      if (!has) continue;
      device.context = open_with(cache, backend, CLATTN_DENSE_AUTO, false);
      cr_expect(uses(device.context, device.index, "(tuned)"));
      TH_OK(clattn_queue_create(device.context, device.index, &device.queue));
      expect_results(&device,
                     device.opencl ? records[r].opencl : records[r].native,
                     record);
      clattn_queue_destroy(device.queue);
      clattn_context_destroy(device.context);
    }
  th_shut();
  close_cache();
}

Test(tune, forced_gpu_kernels_win) {
  const th_device *opencl = th_opencl();
  if (!opencl) cr_skip_test("no OpenCL device under test");
  open_cache();
  const int index = opencl->index;
  clattn_context *context =
      open_with(cache, CLATTN_OPENCL, CLATTN_DENSE_AUTO, false);
  cr_assert(store(context, index, CLT_TUNE_FAMILY, 0));
  clattn_context_destroy(context);
  context = open_with(cache, CLATTN_OPENCL, CLATTN_DENSE_AUTO, true);
  cr_expect(
      uses(context, index, "kernels for GPUs (config->force_gpu_kernels)"));
  clattn_context_destroy(context);
  th_shut();
  close_cache();
}
