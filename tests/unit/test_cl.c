/* The OpenCL backend: other people's contexts and queues, kernels that are
 * wrong or do not compile, compiled programs on disk. */
#define _POSIX_C_SOURCE 200809L /* mkdtemp, nanosleep, setenv, truncate */
#ifndef CL_TARGET_OPENCL_VERSION
#  define CL_TARGET_OPENCL_VERSION 120
#endif
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "../support/attn_case.h"
#include "clattn_cl.h"

#define CL_OK(call) cr_assert_eq((call), CL_SUCCESS, #call)

/* ---- bring your own ------------------------------------------------------ */

typedef struct own {
  cl_context cl;
  cl_device_id id;
  cl_command_queue queue;
  th_device device; /* of clattn, on the same */
} own;

/* The first OpenCL device, if OpenCL is under test. */
static bool own_open(own *o, bool out_of_order) {
  const char *which = getenv("CLATTN_TEST_DEVICES");
  cl_platform_id platform;
  cl_uint n = 0;
  cl_int error;
  memset(o, 0, sizeof *o);
  if (which && strcmp(which, "cpu") == 0) return false;
  if (clGetPlatformIDs(1, &platform, &n) != CL_SUCCESS || n == 0) return false;
  if (clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, 1, &o->id, NULL))
    return false;
  o->cl = clCreateContext(NULL, 1, &o->id, NULL, NULL, &error);
  CL_OK(error);
  cl_command_queue_properties properties = 0;
  CL_OK(clGetDeviceInfo(o->id, CL_DEVICE_QUEUE_PROPERTIES, sizeof properties,
                        &properties, NULL));
  properties &= CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE;
  o->queue =
      clCreateCommandQueue(o->cl, o->id, out_of_order ? properties : 0, &error);
  CL_OK(error);
  TH_OK(clattn_context_from_cl(NULL, o->cl, o->id, &o->device.context));
  cr_assert_eq(clattn_device_count(o->device.context), 1);
  o->device.info.struct_size = sizeof o->device.info;
  TH_OK(clattn_device_get_info(o->device.context, 0, &o->device.info));
  cr_assert_eq(o->device.info.backend, CLATTN_OPENCL);
  o->device.opencl = true;
  TH_OK(clattn_queue_from_cl(o->device.context, 0, o->queue, &o->device.queue));
  return true;
}

static void own_close(own *o) {
  clattn_queue_destroy(o->device.queue);
  clattn_context_destroy(o->device.context);
  clReleaseCommandQueue(o->queue);
  clReleaseContext(o->cl);
}

#define SKIP_WITHOUT(o, out_of_order)                                          \
  if (!own_open((o), (out_of_order)))                                          \
    cr_skip_test("no OpenCL device under test");

/* Every path in somebody else's queues. */
static void own_table(bool out_of_order) {
  static const attn_case cases[] = {
      {"own", .b = 2, .hq = 4, .hk = 2, .sq = 9, .skv = 40, .d = 16,
       .causal = true, .lse = true},
      {"own, decode", .b = 2, .hq = 4, .hk = 2, .sq = 1, .skv = 900, .d = 16,
       .lengths = LEN_I32, .lse = true, .own_scratch = true},
      {"own, weights", .b = 2, .hq = 4, .hk = 2, .sq = 9, .skv = 40, .d = 16,
       .weights = true, .average = true, .mask = "11qk"},
  };
  own o;
  SKIP_WITHOUT(&o, out_of_order)
  th_devices devices = {.context = o.device.context, .count = 1};
  devices.device[0] = o.device;
  tc_tally tally = {0};
  attn_run_all(&devices, cases, 3, 50, &tally);
  cr_expect_eq(tally.failed, 0);
  cr_expect_eq(tally.skipped, 1); /* weights, fused */
  own_close(&o);
}

Test(opencl, own_in_order_queue) { own_table(false); }
Test(opencl, own_out_of_order_queue) { own_table(true); }

static cl_int event_status(cl_event event) {
  cl_int status = 0;
  CL_OK(clGetEventInfo(event, CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof status,
                       &status, NULL));
  return status;
}

/* A sub-buffer of `whole` for a tensor's image, with its contents. */
static void bind_sub_buffer(own *o, cl_mem whole, size_t *at, th_tensor *t) {
  cl_int error;
  cl_uint align_bits = 0;
  CL_OK(clGetDeviceInfo(o->id, CL_DEVICE_MEM_BASE_ADDR_ALIGN, sizeof align_bits,
                        &align_bits, NULL));
  size_t align = align_bits / 8 ? align_bits / 8 : 1;
  *at = (*at + align - 1) / align * align;
  cl_buffer_region region = {*at, t->image->size};
  cl_mem part = clCreateSubBuffer(
      whole, CL_MEM_READ_WRITE, CL_BUFFER_CREATE_TYPE_REGION, &region, &error);
  CL_OK(error);
  *at += t->image->size;
  TH_OK(clattn_buffer_from_cl(o->device.context, 0, part, &t->image->buffer));
  CL_OK(clReleaseMemObject(part)); /* retained by the library */
  cr_expect_eq(clattn_buffer_size(t->image->buffer), t->image->size);
  TH_OK(clattn_buffer_write(o->device.queue, t->image->buffer, 0,
                            t->image->bytes, t->image->size));
  t->view.buffer = t->image->buffer;
}

/* Nothing runs before the user event; calls return before it; the event that
 * comes out is a real one; an out-of-order queue keeps what events say. */
Test(opencl, user_events_and_sub_buffers, .timeout = 120) {
  own o;
  SKIP_WITHOUT(&o, true)
  attn_case c = {"events", .b = 1, .hq = 2, .sq = 40, .d = 16, .causal = true};
  char message[256];
  cl_int error;
  attn_problem p, second;
  attn_problem_init(&p, &c, 9);
  attn_problem_init(&second, &c, 9);
  cl_mem whole = clCreateBuffer(o.cl, CL_MEM_READ_WRITE, 1 << 20, NULL, &error);
  CL_OK(error);
  size_t at = 0;
  bind_sub_buffer(&o, whole, &at, &p.q);
  bind_sub_buffer(&o, whole, &at, &p.k);
  bind_sub_buffer(&o, whole, &at, &p.v);
  bind_sub_buffer(&o, whole, &at, &p.out);
  bind_sub_buffer(&o, whole, &at, &second.out);
  CL_OK(clReleaseMemObject(whole));

  clattn_plan *plan = NULL;
  clattn_args args;
  TH_OK(clattn_plan_create(o.device.context, 0, &p.desc, &plan));
  clattn_args_init(&args);
  args.q = p.q.view, args.k = p.k.view, args.v = p.v.view;
  args.out = p.out.view;

  cl_event gate = clCreateUserEvent(o.cl, &error);
  cl_event cl_first = NULL, cl_last = NULL;
  CL_OK(error);
  clattn_event *wait = NULL, *first = NULL, *last = NULL;
  TH_OK(clattn_event_from_cl(o.device.context, 0, gate, &wait));
  TH_OK(clattn_execute(plan, o.device.queue, &args, NULL, &wait, 1, &first));
  args.q = p.out.view; /* the first one's output is the second one's query */
  args.out = second.out.view;
  TH_OK(clattn_execute(plan, o.device.queue, &args, NULL, &first, 1, &last));
  clattn_event_destroy(wait);
  TH_OK(clattn_event_get_cl(first, &cl_first));
  TH_OK(clattn_event_get_cl(last, &cl_last));
  clattn_event_destroy(first);
  clattn_event_destroy(last);
  nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
  cr_expect_neq(event_status(cl_first), CL_COMPLETE, "it did not wait");
  cr_expect_neq(event_status(cl_last), CL_COMPLETE, "it did not wait");
  CL_OK(clSetUserEventStatus(gate, CL_COMPLETE));
  CL_OK(clWaitForEvents(1, &cl_last));
  cr_expect_eq(event_status(cl_first), CL_COMPLETE);

  /* what the second should give: attention with the first's output as query */
  double *got = th_alloc(&p.pool, (size_t)p.out.n * sizeof *got);
  cr_assert(th_fetch(&o.device, &p.out, got, "out", message, sizeof message) &&
                th_close(p.out.n, got, p.want.out, p.want.out_tol, false,
                         "first", message, sizeof message),
            "%s", message);
  ora_attention next = p.oracle;
  next.q.v = got;
  ora_result want = ora_attend(&next);
  double *got2 = th_alloc(&p.pool, (size_t)p.out.n * sizeof *got2);
  cr_assert(
      th_fetch(&o.device, &second.out, got2, "out", message, sizeof message) &&
          th_close(p.out.n, got2, want.out, want.out_tol, false, "second",
                   message, sizeof message),
      "%s", message);
  ora_result_free(&want);
  clReleaseEvent(gate);
  clReleaseEvent(cl_first);
  clReleaseEvent(cl_last);
  clattn_plan_destroy(plan);
  attn_problem_free(&p);
  attn_problem_free(&second);
  own_close(&o);
}

/* What clattn is given may be released at once. */
Test(opencl, handles_are_retained) {
  own o;
  SKIP_WITHOUT(&o, false)
  CL_OK(clReleaseCommandQueue(o.queue));
  CL_OK(clReleaseContext(o.cl));
  attn_case c = {"retained", .hq = 2, .sq = 5, .d = 8};
  attn_problem p;
  char message[256];
  attn_problem_init(&p, &c, 1);
  cr_expect_eq(
      attn_problem_run(&p, &o.device, CLATTN_AUTO, message, sizeof message),
      TC_PASS, "%s", message);
  attn_problem_free(&p);
  clattn_queue_destroy(o.device.queue);
  clattn_context_destroy(o.device.context);
}

/* Handles of another cl_context are refused. */
Test(opencl, foreign_handles) {
  own a, b;
  SKIP_WITHOUT(&a, false)
  cr_assert(own_open(&b, false));
  cl_int error;
  cl_mem memory = clCreateBuffer(b.cl, CL_MEM_READ_WRITE, 64, NULL, &error);
  CL_OK(error);
  cl_event gate = clCreateUserEvent(b.cl, &error);
  CL_OK(error);
  clattn_buffer *buffer = NULL;
  clattn_queue *queue = NULL;
  clattn_event *event = NULL;
  clattn_context *context = a.device.context;
  cr_expect_eq(clattn_buffer_from_cl(context, 0, memory, &buffer),
               CLATTN_INVALID_ARGUMENT);
  cr_expect_eq(clattn_queue_from_cl(context, 0, b.queue, &queue),
               CLATTN_INVALID_ARGUMENT);
  cr_expect_eq(clattn_event_from_cl(context, 0, gate, &event),
               CLATTN_INVALID_ARGUMENT);
  cr_expect_null(buffer);
  cr_expect_null(queue);
  cr_expect_null(event);
  clSetUserEventStatus(gate, CL_COMPLETE);
  clReleaseEvent(gate);
  clReleaseMemObject(memory);
  own_close(&b);
  own_close(&a);
}

/* ---- contexts with directories and a log --------------------------------- */

typedef struct lines {
  char text[16384];
  size_t used;
} lines;

static void keep(void *user, const char *text) {
  lines *l = user;
  int n = snprintf(l->text + l->used, sizeof l->text - l->used, "%s\n", text);
  if (n > 0 && l->used + (size_t)n < sizeof l->text) l->used += (size_t)n;
}

/* A temporary directory, or a skip. */
static void temporary(char dir[64]) {
  snprintf(dir, 64, "/tmp/clattn-test-XXXXXX");
  cr_assert(mkdtemp(dir));
}

static void remove_all(const char *dir) {
  char command[128];
  snprintf(command, sizeof command, "rm -rf '%s'", dir);
  cr_expect_eq(system(command), 0);
}

/* The first OpenCL device of a new context. */
static th_device open_with(const char *kernel_dir, const char *cache_dir,
                           lines *log) {
  clattn_context_config config;
  th_device d = {.opencl = true};
  clattn_context_config_init(&config);
  config.backend = CLATTN_OPENCL;
  config.kernel_dir = kernel_dir;
  config.cache_dir = cache_dir;
  memset(log, 0, sizeof *log);
  config.log = keep, config.log_user = log;
  TH_OK(clattn_context_create(&config, &d.context));
  TH_OK(clattn_queue_create(d.context, 0, &d.queue));
  return d;
}

static void close_with(th_device *d) {
  clattn_queue_destroy(d->queue);
  clattn_context_destroy(d->context);
}

static const attn_case plain = {"plain", .b = 2,         .hq = 4,
                                .hk = 2, .sq = 30,       .skv = 50,
                                .d = 16, .causal = true, .lse = true};

static tc_result run_plain(th_device *device, clattn_path path, char *message,
                           size_t room) {
  attn_problem p;
  attn_problem_init(&p, &plain, 2);
  tc_result result = attn_problem_run(&p, device, path, message, room);
  attn_problem_free(&p);
  return result;
}

/* Copies cl/NAME into dir with `insert` before the first `mark`; false if there
 * is no such file in the source tree. */
static bool alter(const char *dir, const char *name, const char *mark,
                  const char *insert) {
  char path[256];
  static char text[1 << 16];
  snprintf(path, sizeof path, "cl/%s", name);
  FILE *in = fopen(path, "rb");
  if (!in) return false;
  size_t n = fread(text, 1, sizeof text - 1, in);
  fclose(in);
  text[n] = '\0';
  char *at = strstr(text, mark);
  cr_assert(at, "%s has no \"%s\"", path, mark);
  snprintf(path, sizeof path, "%s/%s", dir, name);
  FILE *out = fopen(path, "wb");
  cr_assert(out);
  fprintf(out, "%.*s%s%s", (int)(at - text), text, insert, at);
  fclose(out);
  return true;
}

static void write_file(const char *dir, const char *name, const char *text) {
  char path[256];
  snprintf(path, sizeof path, "%s/%s", dir, name);
  FILE *out = fopen(path, "wb");
  cr_assert(out);
  fputs(text, out);
  fclose(out);
}

static clattn_status plan_plain(const th_device *d, clattn_path path,
                                clattn_plan **plan) {
  clattn_desc desc;
  clattn_desc_init(&desc);
  desc.q_heads = 4, desc.kv_heads = 2, desc.qk_dim = desc.v_dim = 16;
  desc.causal = true;
  desc.path = path;
  return clattn_plan_create(d->context, 0, &desc, plan);
}

/* ---- the guard ----------------------------------------------------------- */

/* A kernel that is fast and wrong: it must not be trusted, and the next row of
 * the plan serves. The verdict is kept with the program. */
Test(opencl, guard_refuses_a_wrong_kernel) {
  if (!th_opencl()) cr_skip_test("no OpenCL device under test");
  th_shut();
  char kernels[64], cache[64], message[1024];
  lines log;
  temporary(kernels), temporary(cache);
  const char *const wrong = "args.scale2 *= 1.25f; ";
  if (!alter(kernels, "attn_fused.cl", "attn_fused_group(", wrong))
    cr_skip_test("the kernels' source is not in ./cl");
  alter(kernels, "attn_fused_tile.cl", "{\n", "{\n args.scale2 *= 1.25f; //");
  for (int run = 0; run < 2; run++) {
    th_device d = open_with(kernels, cache, &log);
    clattn_plan *plan = NULL;
    TH_OK(plan_plain(&d, CLATTN_AUTO, &plan));
    const char *info = clattn_plan_info(plan);
    const char *refused = strstr(info, "refused: fused (");
    cr_expect(refused, "run %d: the wrong kernel was not refused:\n%s", run,
              info);
    cr_expect(strstr(info, "used: unfused"), "run %d:\n%s", run, info);
    cr_expect(strstr(log.text, "refused"), "run %d: not logged:\n%s", run,
              log.text);
    clattn_plan_destroy(plan);
    cr_expect_eq(run_plain(&d, CLATTN_AUTO, message, sizeof message), TC_PASS,
                 "run %d: %s", run, message);
    clattn_status status = plan_plain(&d, CLATTN_FUSED, &plan);
    cr_expect_eq(status, CLATTN_UNSUPPORTED, "a named path never changes");
    cr_expect_null(plan);
    cr_expect(strstr(clattn_error_message(), "wrong numbers"), "%s",
              clattn_error_message());
    close_with(&d);
  }
  /* The right kernel has another key: nothing of the verdict sticks to it. */
  th_device d = open_with("", cache, &log);
  cr_expect_eq(run_plain(&d, CLATTN_FUSED, message, sizeof message), TC_PASS,
               "%s", message);
  close_with(&d);
  remove_all(kernels), remove_all(cache);
}

/* ---- kernels that do not compile ----------------------------------------- */

Test(opencl, build_log_reaches_the_caller) {
  if (!th_opencl()) cr_skip_test("no OpenCL device under test");
  th_shut();
  char kernels[64], message[1024];
  lines log;
  temporary(kernels);
  write_file(kernels, "rotary.cl", "#error broken on purpose\n");
  write_file(kernels, "attn_fused.cl", "__kernel void f() { undeclared_x; }\n");
  th_device d = open_with(kernels, "", &log);

  /* one of several rows: the next one serves */
  clattn_plan *plan = NULL;
  TH_OK(plan_plain(&d, CLATTN_AUTO, &plan));
  cr_expect(strstr(clattn_plan_info(plan), "undeclared_x"),
            "no compiler log in:\n%s", clattn_plan_info(plan));
  clattn_plan_destroy(plan);
  cr_expect_eq(run_plain(&d, CLATTN_AUTO, message, sizeof message), TC_PASS,
               "%s", message);

  /* the only one there is */
  th_pool pool = {0};
  th_rng rng = {1};
  th_tensor x = th_make(&pool, CLATTN_F32, TH_EXTENT(1, 1, 2, 4), TH_BHSD,
                        th_values(&pool, &rng, CLATTN_F32, 8, 1));
  th_tensor c = th_make(&pool, CLATTN_F32, TH_EXTENT(1, 1, 2, 2), TH_BHSD,
                        th_values(&pool, &rng, CLATTN_F32, 4, 1));
  th_bind(&d, &x), th_bind(&d, &c);
  clattn_rotary_args args;
  clattn_rotary_args_init(&args);
  args.x = args.out = x.view, args.cos = args.sin = c.view;
  for (int i = 0; i < 2; i++) {
    cr_expect_eq(clattn_rotary(d.queue, &args, NULL, 0, NULL),
                 CLATTN_BUILD_FAILED);
    cr_expect(strstr(clattn_error_message(), "broken on purpose"), "%s",
              clattn_error_message());
  }
  cr_expect(th_fetch(&d, &x, NULL, "x", message, sizeof message), "%s",
            message);
  th_unbind(&x), th_unbind(&c);
  th_pool_free(&pool);
  close_with(&d);
  remove_all(kernels);
}

/* ---- programs on disk ---------------------------------------------------- */

/* Counts the regular files; each is cut in half, or its tail is overwritten. */
static int visit(const char *dir, bool cut, bool spoil) {
  int n = 0;
  DIR *d = opendir(dir);
  cr_assert(d);
  for (struct dirent *e; (e = readdir(d));) {
    char path[512];
    struct stat entry;
    snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
    if (stat(path, &entry) != 0 || !S_ISREG(entry.st_mode)) continue;
    n++;
    if (cut) cr_assert_eq(truncate(path, entry.st_size / 2), 0);
    if (!spoil) continue;
    FILE *f = fopen(path, "r+b");
    cr_assert(f);
    fseek(f, -40, SEEK_END);
    fwrite("spoiled spoiled spoiled spoiled", 1, 31, f);
    fclose(f);
  }
  closedir(d);
  return n;
}

/* A copy, the kernel that compiles fastest, in a new context: the log must have
 * one text and not the other. */
static void expect_run(const char *cache, const char *must, const char *mustnt,
                       const char *what) {
  const float x[2] = {3, 4};
  float y[4] = {0};
  lines log;
  clattn_buffer *buffer = NULL;
  th_device d = open_with("", cache, &log);
  TH_OK(clattn_buffer_create(d.context, 0, sizeof y, &buffer));
  TH_OK(clattn_buffer_write(d.queue, buffer, 0, x, sizeof x));
  clattn_tensor src = clattn_view(buffer, CLATTN_F32, 1, (int64_t[]){2});
  clattn_tensor dst = src;
  dst.offset = 2;
  TH_OK(clattn_copy(d.queue, &src, &dst, NULL, 0, NULL));
  TH_OK(clattn_buffer_read(d.queue, buffer, 0, y, sizeof y));
  cr_expect(y[2] == 3 && y[3] == 4, "%s: got %g %g", what, (double)y[2],
            (double)y[3]);
  clattn_buffer_destroy(buffer);
  close_with(&d);
  cr_expect(strstr(log.text, must), "%s: no \"%s\" in:\n%s", what, must,
            log.text);
  cr_expect(!strstr(log.text, mustnt), "%s: \"%s\" in:\n%s", what, mustnt,
            log.text);
}

Test(opencl, disk_cache) {
  setenv("POCL_KERNEL_CACHE", "0", 1); /* else PoCL keeps the binaries itself */
  if (!th_opencl()) cr_skip_test("no OpenCL device under test");
  th_shut();
  char cache[64], home[64], path[128];
  temporary(cache), temporary(home);
  setenv("HOME", home, 1);
  setenv("XDG_CACHE_HOME", home, 1);
  setenv("CLATTN_CACHE_DIR", home, 1);
  expect_run(cache, "built", "from cache", "first run");
  int files = visit(cache, false, false);
  cr_expect_gt(files, 0);
  expect_run(cache, "from cache", "built", "second run");
  visit(cache, true, false);
  expect_run(cache, "built", "from cache", "after cutting the files");
  expect_run(cache, "from cache", "built", "after rebuilding");
  visit(cache, false, true);
  expect_run(cache, "built", "from cache", "after spoiling the files");
  cr_expect_eq(visit(cache, false, false), files, "files were left behind");

  expect_run("", "built", "from cache", "switched off");
  cr_expect_eq(visit(home, false, false), 0, "something was written");
  write_file(home, "file", "not a directory");
  snprintf(path, sizeof path, "%s/file", home);
  expect_run(path, "built", "from cache", "a file as directory");
  snprintf(path, sizeof path, "%s/a/b/c", home);
  expect_run(path, "built", "from cache", "a directory to be made");
  expect_run(NULL, "built", "from cache", "of the environment");
  cr_expect_gt(visit(home, false, false), 1);
  remove_all(cache), remove_all(home);
}
