#!/bin/sh
# make bench-python: bench/rivals.py in a virtual environment of its own.
#   bench/python.sh BUILD        BUILD/venv, BUILD/rivals.json, BUILD/plots/*.png
#   bench/python.sh BUILD NAME   BUILD/NAME.json instead, and no pictures
# RIVALS_FLAGS is passed on to rivals.py. Status: that of rivals.py.
set -eu

build=$1
name=${2-rivals}
here=$(dirname "$0")
venv=$build/venv
pip="$venv/bin/python -m pip install --quiet --disable-pip-version-check"

if ! cmp -s "$here/requirements.txt" "$venv/installed.txt"; then
  echo "bench-python: making $venv from bench/requirements.txt"
  python3 -m venv "$venv" || {
    echo "bench-python: needs python3 with its venv module" >&2
    exit 1
  }
  torch=$(grep '^torch==' "$here/requirements.txt")
  echo "bench-python: fetching $torch, the build for CPUs"
  $pip --retries 0 --timeout 15 --index-url \
    https://download.pytorch.org/whl/cpu "$torch" 2>/dev/null || {
    echo "bench-python: its index cannot be reached; the common build brings" \
         "CUDA along (6 GB)"
    $pip "$torch"
  }
  echo "bench-python: fetching the rest (2 GB)"
  $pip -r "$here/requirements.txt"
  cp "$here/requirements.txt" "$venv/installed.txt"
fi

status=0
"$venv/bin/python" -B "$here/rivals.py" --shim "$build/bench/libclattn_bench.so" \
  --json "$build/$name.json" ${RIVALS_FLAGS:-} || status=$?
[ "$name" != rivals ] || [ ! -f "$build/rivals.json" ] ||
  "$venv/bin/python" -B "$here/plot.py" --out "$build/plots" "$build/rivals.json"
exit $status
