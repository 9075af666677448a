/* select.c - which of the compiled instruction sets this machine runs. */
#include <stdlib.h>
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

int clt_cpu_sets(const clt_cpu_kernels *sets[CLT_CPU_SETS],
                 const char **named) {
  static const struct {
    const clt_cpu_kernels *kernels;
    bool (*runs)(void);
  } all[] = {
#if defined(__x86_64__)
    {&clt_cpu_kernels_avx512, has_avx512},
    {&clt_cpu_kernels_avx2, has_avx2},
#endif
    {&clt_cpu_kernels_base, has_base},
  };
  int n = 0;
  *named = getenv("CLATTN_CPU_ISA");
  if (*named && (*named)[0] == '\0') *named = NULL;
#if defined(__x86_64__)
  __builtin_cpu_init();
#endif
  for (size_t i = 0; i < sizeof all / sizeof *all; i++)
    if (all[i].runs()) sets[n++] = all[i].kernels;
  return n;
}
