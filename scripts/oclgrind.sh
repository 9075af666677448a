#!/bin/sh
# oclgrind.sh COMMAND... - runs a command on Oclgrind's simulated OpenCL device
# and fails on what it reports: data races, uninitialised reads, accesses out of
# bounds, misuse of the API. Slow: meant for small shapes.
set -u

if ! command -v oclgrind >/dev/null; then
  echo 'oclgrind is not installed' >&2
  exit 77
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Oclgrind 21.10 forgets to resize its notes on what is initialised when the
# place of a freed buffer goes to a larger one, and then reports the excess. So
# buffers are not freed.
echo 'int clReleaseMemObject(void *m) { return m ? 0 : -38; }' |
  ${CC:-cc} -x c -shared -fPIC -o "$work/keep.so" - || exit 1

# The simulator alone: no other device, no kernels cached for another run.
# Local memory as CPU devices have it, so that no kernel is refused. Without
# -cl-opt-disable its compiler emits "freeze", which it cannot execute, nor can it
# prefetch.
export CLATTN_CACHE_DIR='' CLATTN_DEVICE=opencl
{
  oclgrind --data-races --uninitialized --check-api --max-errors 20 \
    --local-mem-size 1048576 --build-options '-cl-opt-disable -D CLT_NO_PREFETCH' \
    sh -c 'LD_PRELOAD="$0 ${LD_PRELOAD:-}" exec "$@"' "$work/keep.so" "$@" 2>&1
  echo $? >"$work/status"
} | tee "$work/report"
status=$(cat "$work/status")

errors='^(Invalid (read|write)|.*data race|Uninitialized|Controlflow|'
errors=$errors'.*divergence|Unaligned|Oclgrind|OCLGRIND)'
if grep -qE "$errors" "$work/report"; then
  echo 'oclgrind: the reports above are failures' >&2
  exit 1
fi
exit "$status"
