#!/bin/sh
# translate.sh - the pairs it trains on, training, the model that comes with the
# library on dates that it never saw, pictures, and what is wrong.
. "$(dirname "$0")/expect"
subcommand=translate
model=data/dates.safetensors

# ---- pairs -------------------------------------------------------------------
expect 0 --pairs 4000 --seed 3
cp "$work/out" "$work/pairs"
expect 0 --pairs 4000 --seed 3
cmp -s "$work/out" "$work/pairs" || { echo "pairs differ" && failed=1; }
awk -F'\t' '
  NF != 3 || $2 !~ /^(19|20)[0-9][0-9]-[01][0-9]-[0-3][0-9]$/ { bad = $0 }
  { set[$2] = set[$2] $3; count[$3]++ }
  $1 ~ /^[0-9][0-9]\.[0-9][0-9]\.[0-9][0-9][0-9][0-9]$/ {
    split($1, p, "."); numbers++
    if (p[3] "-" p[2] "-" p[1] != $2) bad = $0
  }
  $1 ~ /^[0-9][0-9]*\/[0-9][0-9]*\/[0-9][0-9][0-9][0-9]$/ {
    split($1, p, "/"); numbers++
    if (sprintf("%d-%02d-%02d", p[3], p[1], p[2]) != $2) bad = $0
  }
  END {
    for (target in set)
      if (set[target] ~ /training/ && set[target] ~ /held/) bad = target
    if (count["training"] != 4000 || count["held out"] != 4000) bad = "counts"
    if (numbers < 400) bad = "only " numbers " of numbers alone"
    if (bad != "") { print "pairs: " bad; exit 1 }
  }' "$work/pairs" || failed=1
# Days of the week are those of the calendar, where date knows them.
grep -i '^\(mon\|tue\|wed\|thu\|fri\|sat\|sun\)' "$work/pairs" >"$work/weekdays"
if cut -f2 "$work/weekdays" | LC_ALL=C date -u -f - +%a >"$work/names" \
  2>/dev/null; then
  cut -c1-3 "$work/weekdays" | tr '[:upper:]' '[:lower:]' >"$work/days"
  tr '[:upper:]' '[:lower:]' <"$work/names" >"$work/calendar"
  [ "$(wc -l <"$work/days")" -gt 500 ] && cmp -s "$work/days" "$work/calendar" ||
    { echo "days of the week differ from the calendar's" && failed=1; }
fi

# ---- the model of data/ --------------------------------------------------------
accuracy() { # accuracy LEAST ARGUMENT...
  least=$1
  shift
  expect 0 --device cpu $model "$@"
  says out 'held-out dates right'
  awk -v least="$least" '/held-out dates right/ { right = $1 }
    END { if (right < least) { print "only " right " right"; exit 1 } }' \
    "$work/out" || failed=1
}
accuracy 495 --evaluate 500 --seed 77
says out 'greedy'
accuracy 495 --evaluate 500 --seed 77 --beam 4
says out 'beam 4'

expect 0 --device cpu $model '3rd of March 1998' 'Tue 3 Mar 98' '12/31/1999'
printf '1998-03-03\n1998-03-03\n1999-12-31\n' | cmp -s - "$work/out" ||
  { cat "$work/out" && failed=1; }
printf 'march 3, 1998\n\nthe third of march, nineteen ninety-eight\r\n' |
  "$clattn" translate --device cpu $model >"$work/out" 2>"$work/err"
printf '1998-03-03\n\n1998-03-03\n' | cmp -s - "$work/out" ||
  { cat "$work/out" "$work/err" && failed=1; }
expect 0 --device cpu --attention $model 'March 3, 1998'
says out '^layer 1 (of 0-1), mean of 4 heads'
says out '^end '
says out ' M a r c h '
expect 0 --device cpu --head 3 --layer 0 $model 'March 3, 1998'
says out '^layer 0 (of 0-1), head 3 (of 0-3)'

# ---- training ------------------------------------------------------------------
small="--device cpu --layers 1 --heads 2 --embed 16 --batch 8 --steps 30"
small="$small --eval-every 10 --dropout 0.1"
expect 0 --train $small --out "$work/a"
says out 'step 10/30, loss .* held-out dates right, .* left'
says out "wrote $work/a; try: clattn translate $work/a"
expect 0 --train $small --out "$work/b" --seed 1
cmp -s "$work/a" "$work/b" || { echo "training differs" && failed=1; }
expect 0 --train $small --out "$work/c" --seed 2 --dtype bf16
cmp -s "$work/a" "$work/c" && echo "another seed, the same model" && failed=1
expect 0 --device cpu "$work/c" 'March 3, 1998'

# ---- what is wrong -------------------------------------------------------------
expect 2 && says err 'want a model'
expect 2 --train && says err 'want --out'
expect 2 --train --out "$work/x" $model && says err 'want no arguments'
expect 2 --train --out "$work/x" --heads 3 && says err 'heads: got 3'
expect 2 --out "$work/x" $model && says err 'out: want it with --train'
expect 2 --steps 5 $model && says err 'steps: want it with --train'
expect 2 --pairs 5 $model && says err 'pairs'
expect 2 --evaluate 5 $model text && says err 'evaluate: want it without texts'
expect 2 --device cpu --layer 2 $model text && says err 'layer: got 2, want 0..1'
expect 2 --device cpu --head 4 $model text && says err 'head: got 4, want 0..3'
expect 2 --beam 0 $model text && says err beam
expect 2 --beam 1025 $model text && says err beam
expect 2 --alpha -1 $model text && says err alpha
expect 1 --train $small --out "$work/a" && says err 'is there already'
expect 1 --train $small --out "$work/no/x" && says err no/x
expect 1 "$work/none" text && says err none
expect 1 --device cpu data/northanger.safetensors text
says err 'no model of `clattn translate`: .*seq2seq.vocab_size'
expect 1 --device cpu data/the-verdict.txt text && says err verdict
expect 1 --device cpu $model 'März 3, 1998' && says err "'ä' (U+00E4) at byte 1"
expect 1 --device cpu $model '' && says err 'TEXT: has 0 characters, want 1..64'
expect 1 --device cpu $model \
  'the third of march of the year nineteen hundred and ninety-eight, a Tuesday'
says err 'has 75 characters, want 1..64'
printf 'March 3, 1998\nM\0arch\n' |
  "$clattn" translate --device cpu $model >"$work/out" 2>"$work/err"
[ $? -eq 1 ] || { echo "a byte 0: exit status is not 1" && failed=1; }
says err 'line 2: has a byte 0'
for bytes in 4 4000 300000; do
  head -c $bytes $model >"$work/cut"
  expect 1 --device cpu "$work/cut" text && says err cut
done
(
  trap '' XFSZ
  ulimit -f 16
  "$clattn" translate --train $small --embed 64 --out "$work/full" \
    >"$work/out" 2>"$work/err"
)
[ $? -eq 1 ] || { echo "a full disk: exit status is not 1" && failed=1; }
[ "$(find "$work" -name 'full*' | wc -l)" -eq 0 ] ||
  { echo "a full disk left files behind" && failed=1; }

exit $failed
