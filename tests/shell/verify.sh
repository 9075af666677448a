#!/bin/sh
# verify.sh - runs every conformance case on every device and path.
# Environment: CLATTN the program, CLATTN_DATA the folder with conformance/,
# CLATTN_TEST_DEVICES cpu | opencl | all (default).
set -u
clattn=${CLATTN:-build/clattn}
device=${CLATTN_TEST_DEVICES:-all}

if [ -z "${CLATTN_DATA:-}" ]; then
  echo "CLATTN_DATA is not set: the conformance cases were not run"
  exit 77
fi

status=0
for folder in onnx clattn; do
  for path in auto fused unfused blocked; do
    out=$("$clattn" verify --quiet --device "$device" --path "$path" \
      "$CLATTN_DATA/conformance/$folder" 2>&1) || status=1
    last=$(printf '%s\n' "$out" | tail -n 1)
    echo "$folder, $path: $last"
    case $last in
      *"passed, 0 failed, "*) ;;
      *) status=1 && printf '%s\n' "$out" ;;
    esac
    case $last in
      "0 passed"*) echo "$folder, $path: nothing ran" && status=1 ;;
    esac
  done
done
exit $status
