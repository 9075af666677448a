/* harness.c - see harness.h. */
#include "harness.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- devices ------------------------------------------------------------- */

static th_devices opened[2];

bool th_small(void) {
  const char *text = getenv("CLATTN_TEST_SMALL");
  return text && *text && strcmp(text, "0") != 0;
}

void th_ok_at(clattn_status status, const char *call, const char *file,
              int line) {
  if (status == CLATTN_OK) return;
  fprintf(stderr, "%s:%d: %s: %s: %s\n", file, line, call,
          clattn_status_name(status), clattn_error_message());
  abort();
}

const th_devices *th_open(bool forced) {
  th_devices *d = &opened[forced];
  if (d->context) return d;
  const char *which = getenv("CLATTN_TEST_DEVICES");
  bool cpu = which && strcmp(which, "cpu") == 0;
  bool opencl = which && strcmp(which, "opencl") == 0;
  clattn_context_config config;
  clattn_context_config_init(&config);
  config.backend = cpu ? CLATTN_CPU : opencl ? CLATTN_OPENCL : CLATTN_ANY;
  config.force_gpu_kernels = forced;
  TH_OK(clattn_context_create(&config, &d->context));
  int n = clattn_device_count(d->context);
  for (int i = 0; i < n && d->count < 16; i++) {
    th_device *device = &d->device[d->count];
    *device = (th_device){.context = d->context, .index = i, .forced = forced};
    device->info.struct_size = sizeof device->info;
    TH_OK(clattn_device_get_info(d->context, i, &device->info));
    device->opencl = device->info.backend == CLATTN_OPENCL;
    bool wanted = device->opencl ? !cpu : !opencl;
    if (forced)
      wanted =
          wanted && device->opencl && device->info.type == CLATTN_DEVICE_CPU;
    if (!wanted) continue;
    TH_OK(clattn_queue_create(d->context, i, &device->queue));
    d->count++;
  }
  if (!forced && d->count == 0) {
    fprintf(stderr, "no device to test\n");
    abort();
  }
  return d;
}

void th_shut(void) {
  for (int f = 0; f < 2; f++) {
    for (int i = 0; i < opened[f].count; i++)
      clattn_queue_destroy(opened[f].device[i].queue);
    clattn_context_destroy(opened[f].context);
    opened[f] = (th_devices){0};
  }
}

void th_each_device(void (*body)(const th_device *device)) {
  for (int forced = 0; forced < 2; forced++) {
    const th_devices *devices = th_open(forced);
    for (int d = 0; d < devices->count; d++) body(&devices->device[d]);
  }
  th_shut();
}

const th_device *th_opencl(void) {
  const th_devices *d = th_open(false);
  for (int i = 0; i < d->count; i++)
    if (d->device[i].opencl) return &d->device[i];
  return NULL;
}

/* ---- random numbers ------------------------------------------------------ */

uint64_t th_next(th_rng *rng) {
  uint64_t z = rng->state += 0x9E3779B97F4A7C15u;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
  z = (z ^ z >> 27) * 0x94D049BB133111EBu;
  return z ^ z >> 31;
}

double th_uniform(th_rng *rng, double low, double high) {
  return low + (high - low) * ldexp((double)(th_next(rng) >> 11), -53);
}

int th_below(th_rng *rng, int n) { return (int)(th_next(rng) % (uint64_t)n); }

bool th_chance(th_rng *rng, int percent) {
  return th_below(rng, 100) < percent;
}

/* ---- pool ---------------------------------------------------------------- */

void *th_alloc(th_pool *pool, size_t bytes) {
  if (pool->count == pool->room) {
    pool->room = pool->room ? 2 * pool->room : 32;
    pool->item = realloc(pool->item, pool->room * sizeof *pool->item);
    if (!pool->item) abort();
  }
  void *memory = calloc(1, bytes ? bytes : 1);
  if (!memory) abort();
  return pool->item[pool->count++] = memory;
}

void th_pool_free(th_pool *pool) {
  for (size_t i = 0; i < pool->count; i++) free(pool->item[i]);
  free(pool->item);
  *pool = (th_pool){0};
}

/* ---- elements ------------------------------------------------------------ */

const ora_type *th_type(clattn_dtype dtype) {
  return dtype == CLATTN_F16    ? &ora_f16
         : dtype == CLATTN_BF16 ? &ora_bf16
                                : &ora_f32;
}

/* binary16 of a number that ora_round has made exact. */
static uint16_t half_bits(double x) {
  uint16_t sign = signbit(x) ? 0x8000 : 0;
  if (isnan(x)) return sign | 0x7E00;
  if (isinf(x)) return sign | 0x7C00;
  x = fabs(x);
  if (x < 0x1p-14) return sign | (uint16_t)ldexp(x, 24);
  int e = 0;
  double m = frexp(x, &e); /* x = 2m * 2^(e-1), 2m in [1,2) */
  return sign | (uint16_t)((e - 1 + 15) << 10) | (uint16_t)ldexp(2 * m - 1, 10);
}

static double half_value(uint16_t bits) {
  int e = bits >> 10 & 31, m = bits & 1023;
  double x = e == 31  ? (m ? NAN : INFINITY)
             : e == 0 ? ldexp(m, -24)
                      : ldexp(1024 + m, e - 25);
  return bits & 0x8000 ? -x : x;
}

void th_put(clattn_dtype dtype, void *at, double x) {
  float f = (float)x;
  uint32_t bits;
  uint16_t half;
  int32_t i32 = isfinite(x) ? (int32_t)x : 0;
  int64_t i64 = isfinite(x) ? (int64_t)x : 0;
  memcpy(&bits, &f, 4);
  switch (dtype) {
    case CLATTN_F32:
      memcpy(at, &f, 4);
      break;
    case CLATTN_F16:
      half = half_bits(ora_round(&ora_f16, x));
      memcpy(at, &half, 2);
      break;
    case CLATTN_BF16:
      f = (float)ora_round(&ora_bf16, x);
      memcpy(&bits, &f, 4);
      half = (uint16_t)(bits >> 16) | (isnan(x) ? 0x40 : 0);
      memcpy(at, &half, 2);
      break;
    case CLATTN_I32:
      memcpy(at, &i32, 4);
      break;
    case CLATTN_I64:
      memcpy(at, &i64, 8);
      break;
    case CLATTN_BOOL:
      *(uint8_t *)at = x != 0;
      break;
  }
}

double th_get(clattn_dtype dtype, const void *at) {
  float f = 0;
  uint16_t half = 0;
  uint32_t bits;
  int32_t i32;
  int64_t i64;
  switch (dtype) {
    case CLATTN_F32:
      memcpy(&f, at, 4);
      return f;
    case CLATTN_F16:
      memcpy(&half, at, 2);
      return half_value(half);
    case CLATTN_BF16:
      memcpy(&half, at, 2);
      bits = (uint32_t)half << 16;
      memcpy(&f, &bits, 4);
      return f;
    case CLATTN_I32:
      memcpy(&i32, at, 4);
      return i32;
    case CLATTN_I64:
      memcpy(&i64, at, 8);
      return (double)i64;
    case CLATTN_BOOL:
      return *(const uint8_t *)at != 0;
  }
  abort();
}

double *th_values(th_pool *pool, th_rng *rng, clattn_dtype dtype, int64_t n,
                  double size) {
  double *v = th_alloc(pool, (size_t)n * sizeof *v);
  for (int64_t i = 0; i < n; i++)
    v[i] = ora_round(th_type(dtype), th_uniform(rng, -size, size));
  return v;
}

/* ---- tensors ------------------------------------------------------------- */

int64_t th_count(const int64_t extent[4]) {
  return extent[0] * extent[1] * extent[2] * extent[3];
}

#define GUARD 16 /* canary elements before and after; views start odd */

/* The offset in elements of the i-th dense element. */
static int64_t place(const clattn_tensor *t, int64_t i) {
  int64_t at = t->offset;
  for (int d = 3; d >= 0; d--) {
    at += i % t->extent[d] * t->stride[d];
    i /= t->extent[d];
  }
  return at;
}

static th_image *new_image(th_pool *pool, size_t bytes) {
  th_image *image = th_alloc(pool, sizeof *image);
  image->size = bytes;
  image->bytes = th_alloc(pool, bytes);
  memset(image->bytes, 0xFF, bytes);
  return image;
}

static void fill(th_pool *pool, th_tensor *t, const double *values) {
  size_t size = clattn_dtype_size(t->view.dtype);
  t->n = th_count(t->view.extent);
  t->v = th_alloc(pool, (size_t)t->n * sizeof *t->v);
  for (int64_t i = 0; values && i < t->n; i++) {
    uint8_t *at = t->image->bytes + (size_t)place(&t->view, i) * size;
    th_put(t->view.dtype, at, values[i]);
    t->v[i] = th_get(t->view.dtype, at);
  }
}

th_tensor th_make(th_pool *pool, clattn_dtype dtype, const int64_t extent[4],
                  th_layout layout, const double *values) {
  int64_t b = extent[0], h = extent[1], s = extent[2], d = extent[3];
  th_tensor t = {.view = {.dtype = dtype, .offset = GUARD + 3}};
  int64_t *stride = t.view.stride;
  memcpy(t.view.extent, extent, sizeof t.view.extent);
  switch (layout) {
    case TH_BSHD:
      stride[3] = 1, stride[1] = d, stride[2] = h * d, stride[0] = s * h * d;
      break;
    case TH_GAPS:
      stride[3] = 1, stride[2] = d + 3, stride[1] = s * (d + 3) + 5;
      stride[0] = h * stride[1] + 7;
      break;
    case TH_DIM2:
      stride[3] = 2, stride[2] = 2 * d + 1, stride[1] = s * stride[2];
      stride[0] = h * stride[1];
      break;
    case TH_TRANSPOSED:
      stride[2] = 1, stride[3] = s, stride[0] = s * d, stride[1] = b * s * d;
      break;
    default:
      stride[3] = 1, stride[2] = d, stride[1] = s * d, stride[0] = h * s * d;
  }
  int64_t last = place(&t.view, th_count(extent) - 1);
  t.image =
      new_image(pool, (size_t)(last + 1 + GUARD) * clattn_dtype_size(dtype));
  fill(pool, &t, values);
  return t;
}

void th_make_packed(th_pool *pool, clattn_dtype dtype, int n,
                    const int64_t (*extents)[4], double *const *values,
                    th_tensor *out) {
  int64_t b = extents[0][0], s = extents[0][2], row = 0, at = GUARD + 3;
  for (int i = 0; i < n; i++) row += extents[i][1] * extents[i][3];
  th_image *image = new_image(
      pool, (size_t)(b * s * row + 2 * GUARD + 3) * clattn_dtype_size(dtype));
  for (int i = 0; i < n; i++) {
    out[i] = (th_tensor){
        .image = image,
        .view = {.dtype = dtype,
                 .offset = at,
                 .stride = {s * row, extents[i][3], row, 1}},
    };
    memcpy(out[i].view.extent, extents[i], sizeof extents[i]);
    fill(pool, &out[i], values[i]);
    at += extents[i][1] * extents[i][3];
  }
}

ora_array th_array(const th_tensor *t) {
  ora_array a = {.v = t->image ? t->v : NULL};
  memcpy(a.n, t->view.extent, sizeof a.n);
  return a;
}

void th_bind(const th_device *device, th_tensor *t) {
  th_image *image = t->image;
  if (!image) return;
  if (!image->buffer) {
    TH_OK(clattn_buffer_create(device->context, device->index, image->size,
                               &image->buffer));
    TH_OK(clattn_buffer_write(device->queue, image->buffer, 0, image->bytes,
                              image->size));
  }
  t->view.buffer = image->buffer;
}

void th_unbind(th_tensor *t) {
  if (!t->image) return;
  clattn_buffer_destroy(t->image->buffer);
  t->image->buffer = NULL;
  t->view.buffer = NULL;
}

bool th_fetch(const th_device *device, const th_tensor *t, double *values,
              const char *name, char *message, size_t room) {
  const th_image *image = t->image;
  if (!image) return true;
  uint8_t *bytes = malloc(image->size);
  if (!bytes) abort();
  TH_OK(
      clattn_buffer_read(device->queue, t->view.buffer, 0, bytes, image->size));
  size_t size = clattn_dtype_size(t->view.dtype);
  for (int64_t i = 0; values && i < t->n; i++) {
    size_t at = (size_t)place(&t->view, i) * size;
    values[i] = th_get(t->view.dtype, bytes + at);
    memcpy(bytes + at, image->bytes + at, size); /* the rest is canaries */
  }
  size_t bad = 0;
  while (bad < image->size && bytes[bad] == image->bytes[bad]) bad++;
  free(bytes);
  if (bad < image->size)
    snprintf(message, room, "%s: byte %zu of %zu, %s, was overwritten", name,
             bad, image->size, values ? "outside its view" : "an input");
  return bad == image->size;
}

/* ---- comparison ---------------------------------------------------------- */

bool th_close(int64_t n, const double *got, const double *want,
              const double *tol, bool nan_allowed, const char *name,
              char *message, size_t room) {
  for (int64_t i = 0; i < n; i++) {
    bool same = isnan(want[i])   ? nan_allowed && isnan(got[i])
                : isinf(want[i]) ? got[i] == want[i]
                                 : fabs(got[i] - want[i]) <= tol[i];
    if (same) continue;
    snprintf(message, room, "%s[%lld] is %.9g, want %.9g +- %.2g", name,
             (long long)i, got[i], want[i], tol[i]);
    return false;
  }
  return true;
}

bool th_near(int64_t n, const double *got, const double *want,
             clattn_dtype dtype, int64_t length, double k, const char *name,
             char *message, size_t room) {
  double rms = 0;
  for (int64_t i = 0; i < n; i++) rms += want[i] * want[i] / (double)n;
  rms = sqrt(rms);
  double unit = ldexp(k, -th_type(dtype)->bits) * sqrt((double)length);
  double *tol = malloc((size_t)n * sizeof *tol);
  if (!tol) abort();
  for (int64_t i = 0; i < n; i++) tol[i] = unit * (fabs(want[i]) + rms);
  bool same = th_close(n, got, want, tol, false, name, message, room);
  free(tol);
  return same;
}
