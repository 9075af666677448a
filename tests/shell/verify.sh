#!/bin/sh
# verify.sh - runs every conformance case on every device and path; what a folder
# has besides is passed over.
# Environment: CLATTN the program, CLATTN_DATA the folder with conformance/,
# CLATTN_TEST_DEVICES cpu | opencl | all (default).
set -u
clattn=${CLATTN:-build/clattn}
device=${CLATTN_TEST_DEVICES:-all}
status=0

# data/ has one case, and a model that is none.
out=$("$clattn" verify --device cpu data 2>&1) || status=1
case $out in
  *"SKIP northanger: not a case file"*"1 passed, 0 failed, 2 skipped") ;;
  *) status=1 && printf 'verify data:\n%s\n' "$out" ;;
esac
model=data/northanger.safetensors
out=$("$clattn" verify --device cpu $model 2>&1) && status=1
case $out in
  *"FAIL northanger: not a case file"*"0 passed, 1 failed, 0 skipped") ;;
  *) status=1 && printf 'verify %s:\n%s\n' $model "$out" ;;
esac
[ $status -eq 0 ] || exit $status

if [ -z "${CLATTN_DATA:-}" ]; then
  echo "CLATTN_DATA is not set: the conformance cases were not run"
  exit 77
fi

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
    case $path:$last in
      auto:*", 0 skipped") ;;
      auto:*) echo "$folder: auto serves everything, gradients too" && status=1 ;;
    esac
  done
done
exit $status
