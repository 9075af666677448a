/* memory.c - the library's allocations, and the switch that makes them fail. */
#include <stdlib.h>
#include <string.h>

#include "core.h"

static atomic_llong asked;
static atomic_llong countdown = -1; /* calls until one fails; < 0: off */

int64_t clt_fault_after(int64_t n) {
  atomic_store(&countdown, n < 0 ? -1 : n);
  return atomic_exchange(&asked, 0);
}

bool clt_fault_allow(const char *call) {
  (void)call; /* for a debugger's breakpoint */
  atomic_fetch_add_explicit(&asked, 1, memory_order_relaxed);
  if (atomic_load_explicit(&countdown, memory_order_relaxed) < 0) return true;
  return atomic_fetch_sub(&countdown, 1) != 0;
}

void *clt_alloc(size_t bytes) {
  if (!clt_fault_allow("calloc")) return NULL;
  return calloc(1, bytes > 0 ? bytes : 1);
}

void clt_free(void *memory) { free(memory); }

char *clt_strdup(const char *text) {
  size_t bytes = strlen(text) + 1;
  char *copy = clt_alloc(bytes);
  if (copy) memcpy(copy, text, bytes);
  return copy;
}
