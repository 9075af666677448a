/* tensor.c - views, and the checks that make one safe to hand to a kernel. */
#include <inttypes.h>

#include "core.h"

bool clt_mul(int64_t a, int64_t b, int64_t *product) {
  if (b != 0 && a > INT64_MAX / b) return false;
  *product = a * b;
  return true;
}

/* ---- views ------------------------------------------------------------ */

/* Product of extents; what no buffer can hold becomes INT64_MAX, and an extent
 * under 0 is left for the check of the view to name. */
static int64_t extent_product(int64_t a, int64_t b) {
  int64_t product;
  if (a < 0 || b < 0) return 0;
  return clt_mul(a, b, &product) ? product : INT64_MAX;
}

clattn_tensor clattn_view_bhsd(clattn_buffer *buffer, clattn_dtype dtype,
                               int64_t b, int64_t h, int64_t s, int64_t d) {
  clattn_tensor t = {.buffer = buffer, .dtype = dtype, .extent = {b, h, s, d}};
  t.stride[3] = 1;
  t.stride[2] = extent_product(d, 1);
  t.stride[1] = extent_product(t.stride[2], s);
  t.stride[0] = extent_product(t.stride[1], h);
  return t;
}

clattn_tensor clattn_view_bshd(clattn_buffer *buffer, clattn_dtype dtype,
                               int64_t b, int64_t h, int64_t s, int64_t d) {
  clattn_tensor t = {.buffer = buffer, .dtype = dtype, .extent = {b, h, s, d}};
  t.stride[3] = 1;
  t.stride[1] = extent_product(d, 1);
  t.stride[2] = extent_product(t.stride[1], h);
  t.stride[0] = extent_product(t.stride[2], s);
  return t;
}

clattn_tensor clattn_view(clattn_buffer *buffer, clattn_dtype dtype, int rank,
                          const int64_t *extent) {
  if (rank < 1 || rank > 4 || !extent) return (clattn_tensor){.buffer = NULL};
  int64_t e[4] = {1, 1, 1, 1};
  for (int i = 0; i < rank; i++) e[4 - rank + i] = extent[i];
  return clattn_view_bhsd(buffer, dtype, e[0], e[1], e[2], e[3]);
}

/* ---- checks ----------------------------------------------------------- */

/* "f32, f16 or bf16" for a set of types. */
static const char *dtype_set(unsigned set, char *text, size_t n) {
  size_t used = 0;
  text[0] = '\0';
  for (unsigned d = 1; d < 32; d++) {
    if (!(set >> d & 1u)) continue;
    unsigned rest = set >> d >> 1;
    const char *between = used == 0 ? "" : rest ? ", " : " or ";
    int wrote = snprintf(text + used, n - used, "%s%s", between,
                         clattn_dtype_name((clattn_dtype)d));
    if (wrote < 0 || (size_t)wrote >= n - used) break;
    used += (size_t)wrote;
  }
  return text;
}

static clattn_status check_extents(const clattn_tensor *t,
                                   const clt_want *want) {
  for (int i = 0; i < 4; i++) {
    int64_t got = t->extent[i], exact = want->extent[i];
    if (exact == CLT_ANY_EXTENT) {
      CLT_REQUIRE(got >= 1, "%s: extent[%d] is %" PRId64 ", want at least 1",
                  want->name, i, got);
    } else {
      bool fits = got == exact || (want->broadcast[i] && got == 1);
      CLT_REQUIRE(fits, "%s: extent[%d] is %" PRId64 ", want %" PRId64 "%s",
                  want->name, i, got, exact,
                  want->broadcast[i] && exact != 1 ? " or 1" : "");
    }
  }
  return CLATTN_OK;
}

/* The element index of a view's last element; false on overflow. Extents are at
 * least 1, offset and strides at least 0. */
static bool last_element(const clattn_tensor *t, int64_t *last) {
  *last = t->offset;
  for (int i = 0; i < 4; i++) {
    int64_t step;
    if (!clt_mul(t->extent[i] - 1, t->stride[i], &step)) return false;
    if (*last > INT64_MAX - step) return false;
    *last += step;
  }
  return true;
}

static clattn_status check_bounds(const clattn_tensor *t,
                                  const clt_want *want) {
  CLT_REQUIRE(t->offset >= 0, "%s: offset is %" PRId64 ", want at least 0",
              want->name, t->offset);
  for (int i = 0; i < 4; i++)
    CLT_REQUIRE(t->stride[i] >= 0,
                "%s: stride[%d] is %" PRId64 ", want at least 0", want->name, i,
                t->stride[i]);
  size_t room = t->buffer->bytes / clattn_dtype_size(t->dtype);
  int64_t last;
  CLT_REQUIRE(last_element(t, &last),
              "%s: extents and strides reach past 2^63 elements, want them "
              "inside the buffer's %zu",
              want->name, room);
  CLT_REQUIRE((uint64_t)last < room,
              "%s: its last element is number %" PRId64
              " of the buffer, want less than %zu (%zu bytes of %s)",
              want->name, last, room, t->buffer->bytes,
              clattn_dtype_name(t->dtype));
  return CLATTN_OK;
}

/* No two elements share memory if, from the smallest stride up, each stride
 * steps over all that the smaller ones reach. */
static clattn_status check_output(const clattn_tensor *t,
                                  const clt_want *want) {
  int order[4] = {0}, n = 0;
  for (int i = 0; i < 4; i++) {
    if (t->extent[i] == 1) continue;
    int at = n++;
    for (; at > 0 && t->stride[order[at - 1]] > t->stride[i]; at--)
      order[at] = order[at - 1];
    order[at] = i;
  }
  int64_t reach = 0;
  for (int i = 0; i < n; i++) {
    int d = order[i];
    CLT_REQUIRE(t->stride[d] > reach,
                "%s: stride[%d] is %" PRId64 ", want more than %" PRId64
                ", or elements of this output share memory",
                want->name, d, t->stride[d], reach);
    reach += (t->extent[d] - 1) * t->stride[d];
  }
  return CLATTN_OK;
}

clattn_status clt_tensor_check(const clt_device *device, const clattn_tensor *t,
                               const clt_want *want) {
  if (!t->buffer) {
    CLT_REQUIRE(want->optional, "%s: is absent (buffer NULL), want a tensor",
                want->name);
    return CLATTN_OK;
  }
  const clt_device *home = t->buffer->device;
  CLT_REQUIRE(home->context == device->context,
              "%s: its buffer belongs to another context", want->name);
  CLT_REQUIRE(home == device, "%s: its buffer is on device %d, want %d",
              want->name, home->index, device->index);
  char types[64];
  bool typed = t->dtype > 0 && (unsigned)t->dtype < 32 &&
               clattn_dtype_size(t->dtype) > 0 &&
               (want->dtypes >> t->dtype & 1u) != 0;
  CLT_REQUIRE(typed, "%s: dtype is %s (%d), want %s", want->name,
              clattn_dtype_name(t->dtype), (int)t->dtype,
              dtype_set(want->dtypes, types, sizeof types));
  CLT_TRY(check_extents(t, want));
  CLT_TRY(check_bounds(t, want));
  return want->output ? check_output(t, want) : CLATTN_OK;
}

/* The first byte of a view and the one behind its last, counted from the start
 * of what its buffer was wrapped from; false if the view is out of range. */
static bool byte_range(const clattn_tensor *t, uint64_t *first, uint64_t *end) {
  int64_t last;
  uint64_t size = clattn_dtype_size(t->dtype), base = 0;
  if (!last_element(t, &last)) return false;
  if (t->buffer->device->backend == CLATTN_CPU)
    base = (uint64_t)(uintptr_t)t->buffer->native;
  *first = base + (uint64_t)t->offset * size;
  *end = base + ((uint64_t)last + 1) * size;
  return true;
}

/* Whether two buffers may share memory, as far as their handles tell: host
 * memory has addresses; of native handles only equal ones can be known. */
static bool may_share(const clattn_buffer *a, const clattn_buffer *b) {
  if (a == b) return true;
  if (!a->native || !b->native || a->device != b->device) return false;
  return a->device->backend == CLATTN_CPU || a->native == b->native;
}

clattn_status clt_tensor_disjoint(const clattn_tensor *out,
                                  const char *out_name, const clattn_tensor *in,
                                  const char *in_name) {
  if (!out->buffer || !in->buffer) return CLATTN_OK;
  if (!may_share(out->buffer, in->buffer)) return CLATTN_OK;
  uint64_t out_first, out_end, in_first, in_end;
  if (!byte_range(out, &out_first, &out_end) ||
      !byte_range(in, &in_first, &in_end))
    return CLATTN_OK; /* reported by clt_tensor_check */
  CLT_REQUIRE(out_end <= in_first || in_end <= out_first,
              "%s: its memory meets that of %s, want them apart", out_name,
              in_name);
  return CLATTN_OK;
}

clattn_status clt_accumulate_check(uint32_t accumulate) {
  const uint32_t known = CLATTN_ADD_TO_INPUTS | CLATTN_ADD_TO_WEIGHTS;
  CLT_REQUIRE((accumulate & ~known) == 0,
              "accumulate: got 0x%" PRIx32
              ", want bits of CLATTN_ADD_TO_INPUTS (1) and "
              "CLATTN_ADD_TO_WEIGHTS (2)",
              accumulate);
  return CLATTN_OK;
}

clattn_status clt_grad_check(const clt_device *device,
                             const clattn_tensor *grad, const char *name,
                             const clattn_tensor *of, const char *of_name) {
  if (!grad->buffer) return CLATTN_OK;
  CLT_REQUIRE(of->buffer, "%s: given, but %s is absent", name, of_name);
  clt_want want = {.name = name, .dtypes = CLT_FLOATS, .output = true};
  for (int i = 0; i < 4; i++) want.extent[i] = of->extent[i];
  return clt_tensor_check(device, grad, &want);
}
