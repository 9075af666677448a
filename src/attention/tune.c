/* tune.c - measures the options of a device and keeps the best.
 *
 * One choice after the other (CLT_TUNING_MAP), with those before it made: its
 * options are prepared, each in a context of its own, checked against double
 * precision, and timed in turns, so that what else happens on the machine meets
 * all of them. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "plan.h"

enum { HEADS = 8, TOKENS = 512, DIM = 64 };      /* attention, causal */
enum { ROWS = 256, COLUMNS = 768, DEPTH = 768 }; /* the dense product */
enum { QKV = HEADS * TOKENS * DIM };             /* floats of one of them */
enum { X = 3 * QKV, W = X + ROWS * DEPTH };      /* where they begin */
enum { IN_FLOATS = W + COLUMNS * DEPTH };
enum { PRODUCT = QKV, OUT_FLOATS = PRODUCT + ROWS * COLUMNS };

enum { MIN_SAMPLES = 5, MAX_SAMPLES = 31 };
static const double sampling_seconds = 1.5; /* after MIN_SAMPLES */
static const double gain = 0.95;            /* of the default's time, or less */
static const double unevenness = 1.3;       /* median by best: says nothing */
static const double hopeless = 3.0; /* times the default's: no samples */

typedef struct candidate {
  clt_tuning tuning;
  const char *name;
  clattn_context *context;
  int device;
  clattn_queue *queue;
  clattn_buffer *in, *out;
  clattn_plan *plan;
  bool measured, slow;
  int n;
  double attention[MAX_SAMPLES], product[MAX_SAMPLES];
} candidate;

typedef struct tuner {
  clt_device *device;
  clattn_tune_callback callback;
  void *user;
  float *in, *out; /* [IN_FLOATS], [OUT_FLOATS] */
  clt_tuning tuning;
} tuner;

static void report(const tuner *t, clattn_tune_state state, const char *name,
                   const char *reason, double attention, double product) {
  const clattn_tune_report r = {state, name, reason, attention, product};
  if (t->callback) t->callback(t->user, &r);
}

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* ---- the work ------------------------------------------------------------------- */

static clattn_tensor part(clattn_buffer *buffer, size_t at, int64_t heads,
                          int64_t rows, int64_t columns) {
  clattn_tensor t =
      clattn_view_bhsd(buffer, CLATTN_F32, 1, heads, rows, columns);
  t.offset = (int64_t)at;
  return t;
}

static clattn_status attend(const candidate *c) {
  clattn_args args;
  clattn_args_init(&args);
  args.q = part(c->in, 0, HEADS, TOKENS, DIM);
  args.k = part(c->in, QKV, HEADS, TOKENS, DIM);
  args.v = part(c->in, 2 * QKV, HEADS, TOKENS, DIM);
  args.out = part(c->out, 0, HEADS, TOKENS, DIM);
  CLT_TRY(clattn_execute(c->plan, c->queue, &args, NULL, NULL, 0, NULL));
  return clattn_queue_finish(c->queue);
}

static clattn_status multiply(const candidate *c) {
  const clattn_tensor x = part(c->in, X, 1, ROWS, DEPTH);
  const clattn_tensor w = part(c->in, W, 1, COLUMNS, DEPTH);
  const clattn_tensor out = part(c->out, PRODUCT, 1, ROWS, COLUMNS);
  CLT_TRY(clattn_linear(c->queue, &x, &w, NULL, &out, NULL, 0, NULL));
  return clattn_queue_finish(c->queue);
}

/* Adds one sample of each. Threads of a BLAS library wait for more work at the
 * cost of all others, for some 20 ms: those of another candidate are given the
 * time to fall asleep, this one's own are part of it. */
static clattn_status sample(candidate *c) {
  const struct timespec pause = {.tv_nsec = 30000000};
  nanosleep(&pause, NULL);
  CLT_TRY(attend(c)); /* what is asleep or cold is woken up */
  CLT_TRY(multiply(c));
  const double start = seconds();
  CLT_TRY(attend(c));
  const double middle = seconds();
  CLT_TRY(multiply(c));
  c->product[c->n] = seconds() - middle;
  c->attention[c->n++] = middle - start;
  return CLATTN_OK;
}

/* ---- the check: sampled rows in double precision ----------------------------------- */

static clattn_status check_number(const char *what, int row, double got,
                                  double want) {
  if (fabs(got - want) <= 1e-4 * (1.0 + fabs(want))) return CLATTN_OK;
  return clt_fail(CLATTN_UNSUPPORTED,
                  "wrong numbers: row %d of the %s has %g, want %g", row, what,
                  got, want);
}

/* Row i of head h: keys 0..i. */
static clattn_status check_attention(const tuner *t, int h, int i) {
  const float *q = t->in + (h * TOKENS + i) * DIM;
  const float *k = t->in + QKV + h * TOKENS * DIM, *v = k + QKV;
  const float *got = t->out + (h * TOKENS + i) * DIM;
  double sum = 0, out[DIM] = {0};
  for (int j = 0; j <= i; j++) { /* scores are within +-8: no maximum needed */
    double s = 0;
    for (int d = 0; d < DIM; d++) s += (double)q[d] * k[j * DIM + d];
    const double p = exp(s / sqrt(DIM));
    sum += p;
    for (int d = 0; d < DIM; d++) out[d] += p * v[j * DIM + d];
  }
  for (int d = 0; d < DIM; d++)
    CLT_TRY(check_number("attention", i, got[d], out[d] / sum));
  return CLATTN_OK;
}

static clattn_status check_product(const tuner *t, int m) {
  const float *x = t->in + X + m * DEPTH, *w = t->in + W;
  for (int n = 0; n < COLUMNS; n++) {
    double sum = 0;
    for (int k = 0; k < DEPTH; k++) sum += (double)x[k] * w[n * DEPTH + k];
    CLT_TRY(check_number("dense product", m, t->out[PRODUCT + m * COLUMNS + n],
                         sum));
  }
  return CLATTN_OK;
}

static clattn_status check(const tuner *t, candidate *c) {
  CLT_TRY(clattn_buffer_read(c->queue, c->out, 0, t->out,
                             OUT_FLOATS * sizeof(float)));
  for (int h = 0; h < HEADS; h++)
    for (int i = TOKENS - 1; i >= 0; i -= 37) CLT_TRY(check_attention(t, h, i));
  for (int m = ROWS - 1; m >= 0; m -= 17) CLT_TRY(check_product(t, m));
  return CLATTN_OK;
}

/* ---- candidates ------------------------------------------------------------------ */

/* A context like that of the device, and the same device in it. */
static clattn_status open_context(const tuner *t, candidate *c) {
  const clt_device *device = t->device;
  const clt_settings *settings = &device->context->settings;
  char ours[CLT_IDENTITY_BYTES], theirs[CLT_IDENTITY_BYTES];
  clattn_context_config config;
  clattn_context_config_init(&config);
  config.backend = device->backend;
  config.kernel_dir = settings->kernel_dir;
  config.cache_dir = settings->cache_dir;
  config.cpu_threads = settings->cpu_threads;
  config.log = settings->log;
  config.log_user = settings->log_user;
  CLT_TRY(clattn_context_create(&config, &c->context));
  clt_device_identity(device, ours);
  c->device = -1;
  for (int i = 0; i < c->context->n_devices; i++) {
    clt_device_identity(&c->context->devices[i], theirs);
    if (strcmp(ours, theirs) == 0 && (c->device < 0 || i == device->index))
      c->device = i;
  }
  if (c->device < 0)
    return clt_fail(CLATTN_UNSUPPORTED,
                    "the device is in no context but its own");
  clt_device *found = &c->context->devices[c->device];
  found->tuning = c->tuning;
  found->ops->tune(found->impl, &found->tuning);
  return CLATTN_OK;
}

/* Fails unless what is to be measured is what would run: a plan and a product
 * take another kernel where one does not serve. */
static clattn_status expect_kernels(const candidate *c) {
  clt_device *device = &c->context->devices[c->device];
  const bool gpu = clt_tuned(device, CLT_TUNE_FAMILY) != 0;
  if (c->plan->rows[c->plan->n_rows - 1]->for_gpu != gpu)
    return clt_fail(CLATTN_UNSUPPORTED, "plans do not use them: %s",
                    clattn_plan_info(c->plan));
  if (clt_tuned(device, CLT_TUNE_DENSE))
    return clt_guard_kernel(device, CLT_K_MATMUL_BLAS);
  return clt_guard_kernel(device, clt_matmul_own(device));
}

static clattn_status prepare(const tuner *t, candidate *c) {
  clattn_desc desc;
  clattn_desc_init(&desc);
  desc.q_heads = desc.kv_heads = HEADS;
  desc.qk_dim = desc.v_dim = DIM;
  desc.causal = true;
  desc.path = CLATTN_FUSED;
  CLT_TRY(open_context(t, c));
  CLT_TRY(clattn_queue_create(c->context, c->device, &c->queue));
  CLT_TRY(clattn_buffer_create(c->context, c->device, IN_FLOATS * sizeof(float),
                               &c->in));
  CLT_TRY(clattn_buffer_create(c->context, c->device,
                               OUT_FLOATS * sizeof(float), &c->out));
  CLT_TRY(clattn_buffer_write(c->queue, c->in, 0, t->in,
                              IN_FLOATS * sizeof(float)));
  CLT_TRY(clattn_plan_create(c->context, c->device, &desc, &c->plan));
  CLT_TRY(expect_kernels(c));
  CLT_TRY(attend(c)); /* the first launch may compile once more */
  CLT_TRY(multiply(c));
  return check(t, c);
}

static void release(candidate *c) {
  clattn_plan_destroy(c->plan);
  clattn_buffer_destroy(c->in);
  clattn_buffer_destroy(c->out);
  clattn_queue_destroy(c->queue);
  clattn_context_destroy(c->context);
}

/* ---- choosing -------------------------------------------------------------------- */

/* The at-th smallest of n values, from 0. */
static double smallest(const double *values, int n, int at) {
  double sorted[MAX_SAMPLES];
  for (int i = 0; i < n; i++) {
    int j = i;
    for (; j > 0 && sorted[j - 1] > values[i]; j--) sorted[j] = sorted[j - 1];
    sorted[j] = values[i];
  }
  return sorted[at];
}

static double median(const double *values, int n) {
  return (smallest(values, n, (n - 1) / 2) + smallest(values, n, n / 2)) / 2;
}

/* Both kinds of work count for every choice: threads of a BLAS library that wait
 * for more work, say, slow the attention that follows. */
static double middle_time(const candidate *c) {
  return median(c->attention, c->n) + median(c->product, c->n);
}

static double best_time(const candidate *c) {
  return smallest(c->attention, c->n, 0) + smallest(c->product, c->n, 0);
}

/* Time of a candidate by that of another, the worse of medians and best times:
 * when the machine is busy either may mislead, seldom both. */
static double ratio(const candidate *c, const candidate *base) {
  return fmax(middle_time(c) / middle_time(base),
              best_time(c) / best_time(base));
}

static bool uneven(const candidate *c) {
  return middle_time(c) > unevenness * best_time(c);
}

/* Times the n candidates in turns; the first that can run is the standard by
 * which others are left out. */
static clattn_status measure(candidate *c, int n) {
  const candidate *standard = NULL;
  for (int i = 0; i < n; i++) {
    if (!c[i].measured) continue;
    CLT_TRY(sample(&c[i]));
    if (!standard) standard = &c[i];
    c[i].slow = ratio(&c[i], standard) > hopeless;
  }
  const double start = seconds();
  for (int round = 1; round < MAX_SAMPLES; round++) {
    if (round >= MIN_SAMPLES && seconds() - start > sampling_seconds) break;
    for (int i = 0; i < n; i++)
      if (c[i].measured && !c[i].slow) CLT_TRY(sample(&c[i]));
  }
  return CLATTN_OK;
}

/* The candidate to take and why, -1 if none runs. The first is the default. Not
 * told: times vary too much. */
static int choose(const candidate *c, int n, char *reason, size_t room,
                  bool *told) {
  int base = 0, running = 0;
  while (base < n && !c[base].measured) base++;
  if (base == n) return -1;
  int best = base;
  double least = base == 0 ? gain : 1;
  for (int i = base; i < n; i++) {
    if (!c[i].measured) continue;
    running++;
    if (i == base || ratio(&c[i], &c[base]) >= least) continue;
    least = ratio(&c[i], &c[base]);
    best = i;
  }
  const bool busy =
      base == 0 && best > 0 && (uneven(&c[0]) || uneven(&c[best]));
  if (busy) best = 0;
  *told = !busy;
  if (running == 1)
    snprintf(reason, room, "the only one that runs");
  else if (busy)
    snprintf(reason, room,
             "the default, not kept; the machine is too busy to tell");
  else if (best == 0)
    snprintf(reason, room, "the default; no other takes %.0f%% less time",
             100 * (1 - gain));
  else if (base == 0)
    snprintf(reason, room, "takes %.0f%% less time than the default",
             100 * (1 - least));
  else
    snprintf(reason, room, "the fastest; the default does not run");
  return best;
}

/* Prepares, measures and chooses among the options of one choice. */
static clattn_status tune_choice(tuner *t, clt_tune_id id) {
  clt_choice *choice = &t->tuning.of[id];
  const int n = choice->n_options;
  candidate *c = clt_alloc((size_t)n * sizeof *c);
  if (!c) return clt_fail(CLATTN_OUT_OF_MEMORY, "tuning: out of host memory");
  int filled = 0;
  for (int pass = 0; pass < 2; pass++) /* the default first */
    for (int i = 0; i < n; i++)
      if ((choice->option[i].value == choice->value) == (pass == 0)) {
        c[filled].tuning = t->tuning;
        clt_tuning_set(&c[filled].tuning, id, choice->option[i].value,
                       CLT_BY_RECORD);
        c[filled++].name = choice->option[i].name;
      }
  char reason[512] = "";
  clattn_status status = CLATTN_OK;
  for (int i = 0; i < n && status != CLATTN_OUT_OF_MEMORY; i++) {
    report(t, CLATTN_TUNE_PREPARING, c[i].name, "", 0, 0);
    status = prepare(t, &c[i]);
    c[i].measured = status == CLATTN_OK;
    if (c[i].measured) continue;
    snprintf(reason, sizeof reason, "%s", clattn_error_message());
    report(t, CLATTN_TUNE_REFUSED, c[i].name, reason, 0, 0);
  }
  /* To be out of memory says nothing about a candidate. */
  if (status != CLATTN_OUT_OF_MEMORY) status = measure(c, n);
  bool told = false;
  const int best =
      status == CLATTN_OK ? choose(c, n, reason, sizeof reason, &told) : -1;
  for (int i = 0; i < n && best >= 0; i++)
    if (c[i].measured)
      report(t, CLATTN_TUNE_MEASURED, c[i].name,
             c[i].slow ? "timed once, as it is far behind" : "",
             median(c[i].attention, c[i].n), median(c[i].product, c[i].n));
  if (best >= 0) {
    report(t, CLATTN_TUNE_CHOSEN, c[best].name, reason, 0, 0);
    if (told) t->tuning = c[best].tuning;
  } else if (status == CLATTN_OK) {
    status =
        clt_fail(CLATTN_UNSUPPORTED, "tuning: nothing runs here: %s", reason);
  }
  for (int i = 0; i < n; i++) release(&c[i]);
  clt_free(c);
  return status;
}

/* Why the choice is not to be measured; NULL: it is. */
static const char *skip(const tuner *t, clt_tune_id id) {
  if (t->tuning.of[id].origin == CLT_BY_CALLER)
    return clt_tuning_why(t->device, id);
  if (t->tuning.of[id].n_options == 1) return "the only one on this device";
  if ((id == CLT_TUNE_LANES || id == CLT_TUNE_BLOCK) &&
      t->tuning.of[CLT_TUNE_FAMILY].value)
    return "kernels for GPUs have no such choice";
  return NULL;
}

static clattn_status tune(tuner *t) {
  uint32_t state = 12345;
  for (int i = 0; i < IN_FLOATS; i++) { /* in -1..1 */
    state = state * 1664525u + 1013904223u;
    t->in[i] = (float)(state >> 8) * (2.0f / 16777216.0f) - 1.0f;
  }
  clt_tuning_base(t->device, &t->tuning);
  for (int i = 0; i < CLT_TUNE_COUNT; i++) {
    const clt_tune_id id = (clt_tune_id)i;
    const char *why = skip(t, id);
    if (why)
      report(t, CLATTN_TUNE_SKIPPED, clt_tuning_name(&t->tuning, id), why, 0,
             0);
    else
      CLT_TRY(tune_choice(t, id));
  }
  return clt_tuning_save(t->device, &t->tuning);
}

/* Whether a file can be written beside the record. */
static clattn_status try_to_write(const char *path) {
  char beside[CLT_PATH_BYTES + 8];
  snprintf(beside, sizeof beside, "%s.try", path);
  if (!clt_file_replace(beside, "", 0))
    return clt_fail(errno == ENOMEM ? CLATTN_OUT_OF_MEMORY : CLATTN_IO_ERROR,
                    "tuning: %s cannot be written: %s", path, strerror(errno));
  unlink(beside);
  return CLATTN_OK;
}

clattn_status clattn_device_tune(clattn_context *context, int device,
                                 clattn_tune_callback callback, void *user) {
  tuner t = {.callback = callback, .user = user};
  char path[CLT_PATH_BYTES];
  CLT_REQUIRE(context, "context: got NULL, want a context");
  CLT_TRY(clt_device_get(context, device, &t.device));
  CLT_TRY(clt_tuning_path(t.device, path));
  CLT_TRY(try_to_write(path)); /* before the work, not after it */
  t.in = clt_alloc(IN_FLOATS * sizeof(float));
  t.out = clt_alloc(OUT_FLOATS * sizeof(float));
  const clattn_status status =
      t.in && t.out
          ? tune(&t)
          : clt_fail(CLATTN_OUT_OF_MEMORY, "tuning: out of host memory");
  clt_free(t.in);
  clt_free(t.out);
  return status;
}
