/* harness.h - what the tests stand on: devices, random numbers, tensors in
 * every memory layout with canaries round them, and comparison.
 *
 * Environment
 *   CLATTN_TEST_DEVICES  cpu | opencl | all (default)
 *   CLATTN_TEST_SMALL    set: a reduced table, for slow checkers
 *   CLATTN_DATA          folder with conformance/, reference/, data/ */
#ifndef HARNESS_H
#define HARNESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "clattn.h"
#include "oracle.h"

/* ---- devices ------------------------------------------------------------- */

typedef struct th_device {
  clattn_context *context;
  int index;
  clattn_device_info info;
  bool opencl, forced; /* forced: its context lists GPU-shaped kernels first */
  clattn_queue *queue; /* one to use */
} th_device;

typedef struct th_devices {
  clattn_context *context;
  th_device device[16];
  int count;
} th_devices;

/* The devices under test, of a context made at the first call in this process.
 * forced: of a second context, with force_gpu_kernels, CPU-type OpenCL devices
 * only (may be none). Never fails: it aborts the test process. */
const th_devices *th_open(bool forced);
void th_shut(void);
/* Runs body for every device, then for those forced to the kernels for GPUs. */
void th_each_device(void (*body)(const th_device *device));
/* The first OpenCL device under test, NULL if there is none. */
const th_device *th_opencl(void);
bool th_small(void);

/* Prints the library's message and aborts unless status is OK. */
void th_ok_at(clattn_status status, const char *call, const char *file,
              int line);
#define TH_OK(call) th_ok_at((call), #call, __FILE__, __LINE__)

/* ---- random numbers (splitmix64) ----------------------------------------- */

typedef struct th_rng {
  uint64_t state;
} th_rng;
uint64_t th_next(th_rng *rng);
double th_uniform(th_rng *rng, double low, double high);
int th_below(th_rng *rng, int n); /* 0 .. n-1 */
bool th_chance(th_rng *rng, int percent);

/* ---- a pool: everything a case allocates, freed together ----------------- */

typedef struct th_pool {
  void **item;
  size_t count, room;
} th_pool;
void *th_alloc(th_pool *pool, size_t bytes); /* zeroed, never NULL */
void th_pool_free(th_pool *pool);

/* ---- tensors ------------------------------------------------------------- */

typedef enum th_layout {
  TH_BHSD,
  TH_BSHD,
  TH_GAPS,       /* b,h,s,d with unused elements after each row, head, batch */
  TH_DIM2,       /* every second element */
  TH_TRANSPOSED, /* rows lie next to each other: stride of dim is the rows' */
  TH_LAYOUTS
} th_layout;

/* Host bytes that become one device buffer. Whatever no element covers is 0xFF:
 * NaN to who reads it, a canary to who writes it. */
typedef struct th_image {
  uint8_t *bytes;
  size_t size;
  clattn_buffer *buffer; /* while bound */
} th_image;

typedef struct th_tensor {
  clattn_tensor view; /* its buffer is the image's, once bound */
  th_image *image;    /* NULL: absent */
  double *v;          /* dense values, as rounded to the type */
  int64_t n;          /* how many */
} th_tensor;

const ora_type *th_type(clattn_dtype dtype);
/* Writes / reads one element. */
void th_put(clattn_dtype dtype, void *at, double x);
double th_get(clattn_dtype dtype, const void *at);

/* n values of [-size, size], rounded to dtype. */
double *th_values(th_pool *pool, th_rng *rng, clattn_dtype dtype, int64_t n,
                  double size);
int64_t th_count(const int64_t extent[4]);
/* values NULL: an output, all 0xFF. */
th_tensor th_make(th_pool *pool, clattn_dtype dtype, const int64_t extent[4],
                  th_layout layout, const double *values);
#define TH_EXTENT(...) ((const int64_t[4]){__VA_ARGS__})
/* n tensors [B,h_i,S,d_i] as a projection leaves them: one row holds all. */
void th_make_packed(th_pool *pool, clattn_dtype dtype, int n,
                    const int64_t (*extents)[4], double *const *values,
                    th_tensor *out);
ora_array th_array(const th_tensor *t);

/* Makes the device buffer (again) and sets the view's buffer. */
void th_bind(const th_device *device, th_tensor *t);
void th_unbind(th_tensor *t);
/* Reads the dense values back; false and a message if a byte outside the view
 * has changed. values NULL: nothing at all may have changed. */
bool th_fetch(const th_device *device, const th_tensor *t, double *values,
              const char *name, char *message, size_t room);

/* |got - want| <= tol element by element; infinities equal; NaN passes only
 * where want is NaN and nan_allowed. */
bool th_close(int64_t n, const double *got, const double *want,
              const double *tol, bool nan_allowed, const char *name,
              char *message, size_t room);
/* Tolerance k u sqrt(length) (|want| + rms(want)), u of the type. */
bool th_near(int64_t n, const double *got, const double *want,
             clattn_dtype dtype, int64_t length, double k, const char *name,
             char *message, size_t room);

#endif /* HARNESS_H */
