/* tensor.c - element types of model files and their conversion. */
#include <string.h>

#include "kit/kit.h"

size_t clattn_kit_dtype_size(clattn_kit_dtype dtype) {
  switch (dtype) {
#define CLATTN_X(name, value, size)                                            \
  case CLATTN_KIT_##name:                                                      \
    return size;
    CLATTN_KIT_DTYPE_MAP(CLATTN_X)
#undef CLATTN_X
    default:
      return 0;
  }
}

const char *clattn_kit_dtype_name(clattn_kit_dtype dtype) {
  switch (dtype) {
#define CLATTN_X(name, value, size)                                            \
  case CLATTN_KIT_##name:                                                      \
    return #name;
    CLATTN_KIT_DTYPE_MAP(CLATTN_X)
#undef CLATTN_X
    default:
      return "UNKNOWN";
  }
}

static const struct {
  clattn_kit_dtype file;
  clattn_dtype device;
} pairs[] = {
    {CLATTN_KIT_F32, CLATTN_F32},   {CLATTN_KIT_F16, CLATTN_F16},
    {CLATTN_KIT_BF16, CLATTN_BF16}, {CLATTN_KIT_I32, CLATTN_I32},
    {CLATTN_KIT_I64, CLATTN_I64},   {CLATTN_KIT_BOOL, CLATTN_BOOL},
};

clattn_dtype clattn_kit_dtype_on_device(clattn_kit_dtype dtype) {
  for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
    if (pairs[i].file == dtype) return pairs[i].device;
  return (clattn_dtype)0;
}

clattn_kit_dtype clattn_kit_dtype_of(clattn_dtype dtype) {
  for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
    if (pairs[i].device == dtype) return pairs[i].file;
  return CLATTN_KIT_UNKNOWN;
}

const char *kit_shape_text(const clattn_kit_tensor *tensor,
                           char text[KIT_SHAPE_CHARS]) {
  size_t used = 0;
  text[used++] = '[';
  for (int i = 0; i < tensor->rank; i++)
    used += (size_t)snprintf(text + used, KIT_SHAPE_CHARS - used, "%s%lld",
                             i ? "," : "", (long long)tensor->extent[i]);
  text[used++] = ']';
  text[used] = '\0';
  return text;
}

int64_t clattn_kit_tensor_elements(const clattn_kit_tensor *tensor) {
  if (tensor == NULL) return 0;
  int64_t n = 1;
  for (int i = 0; i < tensor->rank; i++) n *= tensor->extent[i];
  return n;
}

/* A view made by hand may say anything: its bytes must hold its elements. */
static clattn_status check_view(const clattn_kit_tensor *tensor,
                                const void *values, int64_t *n) {
  KIT_REQUIRE(tensor != NULL, "tensor: got NULL, want a tensor");
  KIT_REQUIRE(tensor->rank >= 0 && tensor->rank <= CLATTN_KIT_MAX_RANK,
              "tensor->rank: got %d, want 0..%d", tensor->rank,
              CLATTN_KIT_MAX_RANK);
  const size_t size = clattn_kit_dtype_size(tensor->dtype);
  if (size == 0)
    return clattn_set_error(
        CLATTN_UNSUPPORTED,
        "tensor->dtype: got %s, which "
        "is not readable here",
        tensor->dtype_name ? tensor->dtype_name : "UNKNOWN");
  int64_t count = 1, bytes;
  for (int i = 0; i < tensor->rank; i++)
    KIT_REQUIRE(tensor->extent[i] >= 0 &&
                    !__builtin_mul_overflow(count, tensor->extent[i], &count),
                "tensor->extent[%d]: got %lld, want a product that fits", i,
                (long long)tensor->extent[i]);
  KIT_REQUIRE(!__builtin_mul_overflow(count, (int64_t)size, &bytes) &&
                  (uint64_t)bytes == tensor->size_bytes,
              "tensor->size_bytes: got %zu, want %lld elements of %zu bytes",
              tensor->size_bytes, (long long)count, size);
  KIT_REQUIRE(count == 0 || (tensor->data != NULL && values != NULL),
              "values: got NULL, want room for %lld numbers", (long long)count);
  *n = count;
  return CLATTN_OK;
}

/* Integer i of an unaligned array. */
static int64_t integer_at(clattn_kit_dtype dtype, const unsigned char *data,
                          int64_t i) {
  int64_t i64;
  int32_t i32;
  int16_t i16;
  switch (dtype) {
    case CLATTN_KIT_I64:
      memcpy(&i64, data + 8 * i, 8);
      return i64;
    case CLATTN_KIT_I32:
      memcpy(&i32, data + 4 * i, 4);
      return i32;
    case CLATTN_KIT_I16:
      memcpy(&i16, data + 2 * i, 2);
      return i16;
    case CLATTN_KIT_I8:
      return (signed char)data[i];
    case CLATTN_KIT_BOOL:
      return data[i] != 0;
    default:
      return data[i]; /* U8 */
  }
}

/* A narrow float type, copied in pieces to aligned memory and converted. */
static clattn_status narrow_to_f32(clattn_dtype from, const unsigned char *data,
                                   int64_t n, float *values) {
  uint16_t piece[512];
  for (int64_t i = 0; i < n; i += 512) {
    const size_t m = (size_t)(n - i < 512 ? n - i : 512);
    memcpy(piece, data + 2 * i, 2 * m);
    KIT_TRY(clattn_convert(from, piece, CLATTN_F32, values + i, m));
  }
  return CLATTN_OK;
}

clattn_status clattn_kit_tensor_to_f32(const clattn_kit_tensor *tensor,
                                       float *values) {
  int64_t n;
  KIT_TRY(check_view(tensor, values, &n));
  if (n == 0) return CLATTN_OK;
  const unsigned char *data = tensor->data;
  switch (tensor->dtype) {
    case CLATTN_KIT_F32:
      memcpy(values, data, 4 * (size_t)n);
      break;
    case CLATTN_KIT_F16:
      return narrow_to_f32(CLATTN_F16, data, n, values);
    case CLATTN_KIT_BF16:
      return narrow_to_f32(CLATTN_BF16, data, n, values);
    case CLATTN_KIT_F64:
      for (int64_t i = 0; i < n; i++) {
        double value;
        memcpy(&value, data + 8 * i, 8);
        values[i] = (float)value;
      }
      break;
    default:
      for (int64_t i = 0; i < n; i++)
        values[i] = (float)integer_at(tensor->dtype, data, i);
  }
  return CLATTN_OK;
}

clattn_status clattn_kit_tensor_to_i64(const clattn_kit_tensor *tensor,
                                       int64_t *values) {
  int64_t n;
  KIT_TRY(check_view(tensor, values, &n));
  if (tensor->dtype <= CLATTN_KIT_BF16) /* the float types come first */
    return clattn_set_error(CLATTN_UNSUPPORTED,
                            "tensor->dtype: got %s, want an integer type",
                            clattn_kit_dtype_name(tensor->dtype));
  for (int64_t i = 0; i < n; i++)
    values[i] = integer_at(tensor->dtype, tensor->data, i);
  return CLATTN_OK;
}
