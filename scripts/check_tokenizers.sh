#!/bin/sh
# check_tokenizers.sh BUILD [OPTION]... - tokenizers beside tiktoken and Hugging
# Face's, tests/reference/compare_tokenizers.py, which has the options. Both come
# from the Python package index, into BUILD/tokenizers. The vocabularies of GPT-2
# and BERT are in $CLATTN_DATA. Exit status: 0 they agree, 77 skipped, else not.
set -eu

build=$1
shift
[ -n "${CLATTN_DATA:-}" ] || { echo "skipped: CLATTN_DATA is not set"; exit 77; }

python=
for candidate in python3 /usr/bin/python3; do
  "$candidate" -m pip --version >/dev/null 2>&1 && python=$candidate && break
done
[ -n "$python" ] || { echo "skipped: no python3 with pip"; exit 77; }

export PYTHONPATH="$build/tokenizers"
if ! "$python" -c 'import tiktoken, tokenizers' 2>/dev/null; then
  echo "installing tiktoken and tokenizers into $build/tokenizers"
  "$python" -m pip install --quiet --disable-pip-version-check \
    --only-binary :all: --target "$build/tokenizers" \
    tiktoken==0.14.0 tokenizers==0.23.3 >"$build/tokenizers.log" 2>&1 || {
    echo "skipped: they cannot be installed: $(tail -n 1 "$build/tokenizers.log")"
    exit 77
  }
fi
export CLATTN_OPENCL_MODULE="${CLATTN_OPENCL_MODULE-$build/libclattn_opencl.so}"
exec "$python" -B "$(dirname "$0")/../tests/reference/compare_tokenizers.py" \
  "$build" "$@"
