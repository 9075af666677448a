#!/bin/sh
# oclgrind.sh COMMAND... - runs a command on Oclgrind's simulated OpenCL device
# and fails on what it reports: data races, uninitialised reads, accesses out of
# bounds, misuse of the API. Slow: meant for small shapes.
set -u

if ! command -v oclgrind >/dev/null; then
  echo 'oclgrind is not installed' >&2
  exit 77
fi

report=$(mktemp)
trap 'rm -f "$report"' EXIT

# The simulator alone: no other platform, no kernels cached for another device.
export CLATTN_CACHE_DIR=
export CLATTN_DEVICE=opencl

{
  oclgrind --data-races --uninitialized --check-api --max-errors 20 "$@" 2>&1
  echo "status $?" >"$report.status"
} | tee "$report"
status=$(sed 's/status //' "$report.status")
rm -f "$report.status"

errors='^(Invalid (read|write)|.*data race|Uninitialized value|.*Work-group divergence|Unaligned address|Oclgrind -|OCLGRIND FATAL ERROR|Oclgrind: .* errors generated)'
if grep -qE "$errors" "$report"; then
  echo 'oclgrind: the reports above are failures' >&2
  exit 1
fi
exit "$status"
