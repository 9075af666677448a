#!/bin/sh
# check_models.sh BUILD [FOLDER] - pre-trained models beside an implementation in
# numpy, tests/reference/check_models.py. Fetches them if they are not there
# (scripts/fetch_models.sh). Exit status: 0 they agree, 77 skipped, else not.
set -eu

build=$1
shift
here=$(dirname "$0")
folder=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/clattn/models}

python=
for candidate in python3 /usr/bin/python3; do
  "$candidate" -c 'import numpy' 2>/dev/null && python=$candidate && break
done
[ -n "$python" ] || { echo "skipped: no python3 with numpy" && exit 77; }
"$here/fetch_models.sh" "$folder" >/dev/null || {
  status=$?
  [ $status -ne 77 ] || echo "skipped: no models"
  exit $status
}
export CLATTN_OPENCL_MODULE="${CLATTN_OPENCL_MODULE-$build/libclattn_opencl.so}"
"$python" -B "$here/../tests/reference/check_models.py" "$build" \
  "$folder/all-MiniLM-L6-v2" \
  "$folder/SmolLM2-135M-Instruct/SmolLM2-135M-Instruct.Q4_1.gguf"
