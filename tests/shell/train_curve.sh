#!/bin/sh
# train_curve.sh - the losses of clattn train are those of an independent program,
# tests/reference/train_curve.py. Skipped where python3 has no numpy.
. "$(dirname "$0")/expect"

python=
for candidate in python3 /usr/bin/python3; do
  "$candidate" -c 'import numpy' 2>/dev/null && python=$candidate && break
done
[ -n "$python" ] || { echo "no python3 with numpy" && exit 77; }

text=$work/text.txt
head -c 6000 data/the-verdict.txt >"$text"
curve="--device cpu --layers 2 --heads 2 --embed 32 --context 32 --batch 4"
expect 0 train $curve --steps 0 --warmup 4 --lr 0.01 --min-lr 0.001 \
  --accumulate 2 --out "$work/init" "$text"
cp "$work/init" "$work/run"
expect 0 train --device cpu --resume --steps 20 --eval-every 10 \
  --out "$work/run" --log "$work/curve.csv" "$text"
"$python" "$(dirname "$0")/../reference/train_curve.py" "$work/init" \
  "$work/run" "$text" "$work/curve.csv" >"$work/out" 2>&1 || {
  cat "$work/out"
  failed=1
}

exit $failed
