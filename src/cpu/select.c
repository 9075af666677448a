/* select.c - which of the compiled instruction sets this machine runs. */
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#  include <cpuid.h>
#endif

#include "cpu.h"

#if defined(__x86_64__)
/* clang 14 does not know the name for __builtin_cpu_supports. */
static bool has_f16c(void) {
  unsigned a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

/* As the build compiles kernels.c for each set. __builtin_cpu_supports also
 * asks whether the operating system saves the wide registers. */
static bool has_avx2(void) {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         has_f16c();
}

static bool has_avx512(void) {
  return has_avx2() && __builtin_cpu_supports("avx512f") &&
         __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq");
}
#endif

static bool has_base(void) { return true; }

const clt_cpu_kernels *clt_cpu_select(void) {
  static const struct {
    const clt_cpu_kernels *kernels;
    bool (*runs)(void);
  } sets[] = {
#if defined(__x86_64__)
    {&clt_cpu_kernels_avx512, has_avx512},
    {&clt_cpu_kernels_avx2, has_avx2},
#endif
    {&clt_cpu_kernels_base, has_base},
  };
  const char *named = getenv("CLATTN_CPU_ISA");
  if (named && named[0] == '\0') named = NULL;
#if defined(__x86_64__)
  __builtin_cpu_init();
#endif
  for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
    if (named && strcmp(named, sets[i].kernels->isa) != 0) continue;
    if (sets[i].runs()) return sets[i].kernels;
  }
  return NULL; /* only where a name was given */
}
