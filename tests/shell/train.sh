#!/bin/sh
# train.sh - train and generate: a run killed at any moment continues to the same
# bits, and what is wrong is said.
. "$(dirname "$0")/expect"

text=$work/text.txt
head -c 6000 data/the-verdict.txt >"$text"
small="--device cpu --layers 2 --heads 2 --embed 32 --context 32 --batch 4"
small="$small --stride 8 --dropout 0.1 --save-every 9 --eval-every 50"
steps=300

same() { # same FILE FILE WHAT
  cmp -s "$1" "$2" && return
  echo "$3: $1 and $2 differ"
  failed=1
}

# ---- one run, and the same one killed again and again ------------------------
# $small is words.
expect 0 train $small --steps $steps --out "$work/whole" --log "$work/log.csv" \
  --export "$work/model" --dtype f16 "$text"
says out "step $steps/$steps"
says out "^wrote $work/whole, $work/model, $work/log.csv; try: clattn generate"
first=$(sed -n 2p "$work/log.csv" | cut -d, -f2)
last=$(tail -n 1 "$work/log.csv" | cut -d, -f2)
awk "BEGIN { exit !($last < 0.8 * $first) }" || {
  echo "the loss went from $first to $last"
  failed=1
}

seed=${TRAIN_TEST_SEED:-$(date +%s)}
kills=0
while [ $kills -lt 12 ]; do
  seed=$(((seed * 1103515245 + 12345) % 2147483648))
  resume=
  [ -e "$work/killed" ] && resume=--resume
  "$clattn" train $small --steps $steps --out "$work/killed" \
    --log "$work/killed.csv" $resume "$text" >"$work/out" 2>&1 &
  child=$!
  sleep "0.$(printf %03d $((seed / 65536 % 90)))"
  kill -9 $child 2>/dev/null
  wait $child 2>/dev/null && break
  kills=$((kills + 1))
done
expect 0 train $small --steps $steps --resume --out "$work/killed" \
  --log "$work/killed.csv" "$text"
same "$work/whole" "$work/killed" "killed $kills times"
cut -d, -f1-4 "$work/log.csv" >"$work/a.csv"
cut -d, -f1-4 "$work/killed.csv" >"$work/b.csv"
same "$work/a.csv" "$work/b.csv" "the logs"
# A finished run stays as it is; it can still be exported.
expect 0 train --resume --device cpu --out "$work/killed" "$text"
says out "already at step $steps of $steps: --steps raises it"
grep -q wrote "$work/out" && echo "wrote what was finished" && failed=1
expect 0 train --resume --device cpu --out "$work/killed" --dtype f16 \
  --export "$work/late" "$text"
says out "^wrote $work/late; try: clattn generate $work/late"
same "$work/whole" "$work/killed" "a finished run"
same "$work/model" "$work/late" "exports"

# Ctrl-C saves and stops.
"$clattn" train $small --steps 100000 --out "$work/stopped" "$text" \
  >"$work/out" 2>"$work/err" &
child=$!
sleep 0.5
kill -TERM $child
wait $child
[ $? -eq 1 ] || { echo "stopped: exit status is not 1" && failed=1; }
says err 'stopped at step .*--resume'

# ---- generate ----------------------------------------------------------------
subcommand=generate
expect 0 --device cpu --greedy -n 100 "$work/whole" "I had"
cp "$work/out" "$work/greedy"
expect 0 --device cpu --greedy -n 100 --no-cache "$work/whole" "I had"
same "$work/greedy" "$work/out" "greedy without the cache"
expect 0 --device cpu --temperature 0 -n 100 --top-k 5 "$work/whole" "I had"
same "$work/greedy" "$work/out" "temperature 0"
expect 0 --device cpu --top-k 1 -n 100 --seed 7 "$work/whole" "I had"
same "$work/greedy" "$work/out" "top-k 1"
expect 0 --device cpu --top-p 0.0001 -n 100 --seed 7 "$work/whole" "I had"
same "$work/greedy" "$work/out" "a small top-p"
expect 0 --device cpu -n 20 --attention "$work/model" "I had"
says out 'layer 1 (of 0-1), mean of 2 heads: the last 8 of 25 tokens'
expect 0 --device cpu -n 40 --layer 0 --head 1 "$work/model" "I had"
says out 'layer 0 (of 0-1), head 1 (of 0-1): the last 8 of [0-9]* tokens in sight'
says out 'the window of 32 having slid'
expect 0 --device cpu -n 20 --rows 3 "$work/model" "I had"
says out 'the last 3 of 25 tokens (rows'
expect 0 --device cpu -n 20 "$work/model"
expect 1 "$work/whole" "caf$(printf '\303\251')"
says err "'$(printf '\303\251')' (U+00E9)"
expect 1 "$work/whole" "$(printf 'a\377')" && says err 'byte 1'
expect 1 "$work/none" && says err none
says err 'No such file'
expect 1 "$text" && says err 'text.txt: no model of .clattn train.: '
expect 1 data/causal_gqa.safetensors
says err 'gqa.safetensors: no model of .clattn train.: '
for chance in --temperature --top-k --top-p; do
  expect 2 --greedy $chance 1 "$work/whole" && says err "greedy.*$chance"
  expect 2 $chance 1 -g "$work/whole" && says err "greedy.*$chance"
done
expect 2 && says err generate
expect 2 --chat "$work/whole" x && says err 'chat.*pre-trained'
expect 2 --dtype f16 "$work/whole" && says err 'dtype.*pre-trained'
expect 2 --dtype f8 "$work/whole" && says err 'dtype'
expect 1 data && says err "data: "
expect 1 "$work/none.gguf" && says err 'none.gguf: '
expect 2 "$work/whole" a b
expect 2 --head 2 "$work/whole" && says err 'head.*0..1'
expect 2 --top-p 1.5 "$work/whole" && says err top-p
expect 2 --temperature nan "$work/whole" && says err temperature

# ---- words -------------------------------------------------------------------
subcommand=train
expect 0 $small --steps 3 --tokens words --out "$work/words" "$text"
says out ' words, '
expect 0 --device cpu --resume --steps 5 --out "$work/words" "$text"
subcommand=generate
expect 0 --device cpu -n 5 "$work/words" 'I had always'
says out '^I had always '
expect 1 "$work/words" 'I had a xylophone' && says err "word 'xylophone'"

# ---- what is wrong -----------------------------------------------------------
subcommand=train

# No file is lost to a second purpose.
cp "$text" "$work/mine.txt"
mkdir "$work/folder"
for clash in "--log $work/mine.txt" "--export $work/mine.txt" \
  "--log $work/x" "--export $work/./x" "--log $work/y --export $work/y"; do
  # $clash is words.
  expect 1 $small --steps 1 --out "$work/x" $clash "$work/mine.txt"
  says err 'want another file than'
  same "$text" "$work/mine.txt" "train $clash"
done
# What could not be replaced in the end is found at the beginning.
ln -s "$work/whole" "$work/link"
expect 1 $small --steps 1 --out "$work/x" --export "$work/folder" "$text"
says err 'folder: not a regular'
expect 1 --resume --steps 301 --out "$work/link" "$text"
says err 'link: not a regular'
[ -s "$work/out" ] && echo "trained before a link was refused" && failed=1
# A rate too small for a normal number is one all the same.
expect 0 $small --steps 1 --min-lr 1e-310 --out "$work/small" "$text"
expect 0 --resume --device cpu --steps 2 --out "$work/small" "$text"
# An epoch that was never reached is not looked for.
LC_ALL=C sed 's/"train.epoch":"[0-9]"/"train.epoch":"9"/' "$work/whole" \
  >"$work/epoch"
expect 1 --resume --device cpu --steps 301 --out "$work/epoch" "$text"
says err 'batch [0-9]* of epoch 9'

expect 2 && says err train
expect 2 --resume && says err 'want one TEXT, the one the run began with'
expect 2 --heads 3 "$text" --out "$work/x" && says err heads
expect 2 --lr -1 "$text" && says err lr
expect 2 --dropout 1 "$text" && says err dropout
expect 2 --tokens bytes "$text" && says err bytes
expect 1 $small --out "$work/x" "$work/none.txt" && says err none.txt
: >"$work/empty.txt"
expect 1 $small --out "$work/x" "$work/empty.txt" && says err empty
printf 'too short' >"$work/short.txt"
expect 1 $small --out "$work/x" "$work/short.txt" && says err 'window of 32'
{ cat "$text" && printf 'x\377y'; } >"$work/bytes.txt"
expect 1 $small --out "$work/x" "$work/bytes.txt" && says err 'byte 6001'
expect 1 $small --out "$work/no/such/x" "$text" && says err no/such/x
expect 1 $small --out "$work/x" --export "$work/no/such/y" "$text"
says err no/such/y
expect 1 $small --out "$work/x" --log "$work/no/such/z" "$text"
says err no/such/z
[ -e "$work/x" ] && echo "a run that could not begin left a file" && failed=1
expect 1 $small --out "$work/whole" "$text"
says err 'resume continues it, or choose another --out'
# That comes last: what else is wrong would be so elsewhere, too.
expect 1 $small --out "$work/whole" "$work/none.txt" && says err none.txt
expect 2 $small --heads 3 --out "$work/whole" "$text" && says err heads
expect 1 $small --device nowhere --out "$work/whole" "$text" && says err nowhere
expect 1 --resume --out "$work/x" "$text" && says err "work\|x"
expect 1 --resume --out "$work/whole" --embed 64 "$text" && says err 'embed.*64'
expect 1 --resume --out "$work/whole" --lr 0.5 "$text" && says err 'lr.*0.5'
expect 1 --resume --out "$work/whole" data/the-verdict.txt
says err 'another text'
expect 1 --resume --out "$work/model" "$text" && says err 'train\.'
same "$work/whole" "$work/killed" "after errors"

cp "$work/whole" "$work/cut"
for bytes in 4 4000 100000; do
  head -c $bytes "$work/whole" >"$work/cut"
  subcommand=train
  expect 1 --resume --device cpu --out "$work/cut" "$text" && says err cut
  subcommand=generate
  expect 1 "$work/cut" && says err cut
done

subcommand=train

# Numbers that are not finite stop it, and what was good stays.
expect 0 $small --steps 0 --out "$work/start" "$text"
cp "$work/start" "$work/diverges"
expect 0 $small --steps 0 --lr 1e9 --min-lr 1e9 --warmup 0 \
  --out "$work/wild" "$text"
expect 1 --device cpu --resume --steps 50 --save-every 1 --out "$work/wild" \
  "$text"
says err 'step [0-9]*: the .* is -*\(nan\|inf\); the first tensor'
subcommand=generate
expect 0 --device cpu -n 3 "$work/wild"
subcommand=train

# A full disk: a limit on the size of files is as good.
cp "$work/start" "$work/full"
cp "$work/full" "$work/before"
(
  trap '' XFSZ
  ulimit -f 16
  "$clattn" train --device cpu --resume --steps 9 --out "$work/full" "$text" \
    >"$work/out" 2>"$work/err"
)
[ $? -eq 1 ] || { echo "a full disk: exit status is not 1" && failed=1; }
says err full
same "$work/full" "$work/before" "after a full disk"
[ "$(find "$work" -name 'full*' | wc -l)" -eq 1 ] ||
  { echo "a full disk left files behind" && failed=1; }

exit $failed
