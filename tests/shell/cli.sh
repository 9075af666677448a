#!/bin/sh
# cli.sh - the program's manners: help, exit statuses, messages, output files.
. "$(dirname "$0")/expect"

silent() {
  [ -s "$work/$1" ] || return
  echo "something went to $1:"
  cat "$work/$1"
  failed=1
}

expect 0 --help && says out Usage && silent err
expect 0 -h && says out Usage
expect 0 help && says out Usage
expect 0 --version && says out '[0-9]\.[0-9]'
for command in devices run verify attend bench tune train generate translate \
    tokenize bpe embed view; do
  expect 0 $command --help && says out "Usage: clattn $command" && silent err
  expect 0 help $command && says out "Usage: clattn $command"
  expect 2 $command --no-such-option && says err no-such-option && silent out
done

# Names are whole, in every form; what one begins is named.
expect 2 train data/none.txt --layer 3 && says err 'layer; did you mean --layers?'
expect 2 train --layer=3 data/none.txt && says err 'layer; did you mean --layers?'
expect 2 train --layer && says err 'layer; did you mean --layers?'
expect 2 train --layers && says err 'layers needs a value'
expect 2 verify --quiet -qx . && says err 'no option -x'
expect 2 verify . -d && says err '-d needs a value'
expect 2 train --resum data/none.txt && says err 'mean --resume?'
expect 2 devices --h && says err 'did you mean --help?' && silent out
expect 2 bench --rival=x && says err 'no option --rival'
expect 2 devices --brief=1 && says err 'brief takes no value'
expect 1 train --heads=2 -d cpu data/none.txt --layers 3 && says err none.txt
expect 1 train data/none.txt --out --layer && says err none.txt
for command in run verify attend bench tune generate translate view; do
  expect 2 $command --hel && says err 'did you mean --help?' && silent out
done
# Help fits a terminal.
for command in devices run verify attend bench tune train generate translate \
    tokenize bpe embed view; do
  expect 0 help $command && says out Usage
  awk 'length > 80 { print "help '$command' is wide: " $0; wide = 1 }
    END { exit wide }' "$work/out" || failed=1
done

expect 2 && says err Usage && silent out
expect 2 frobnicate && says err frobnicate && silent out
expect 2 help frobnicate && says err frobnicate
expect 2 run && says err run
expect 2 verify --path sideways . && says err sideways
expect 2 run --device && says err device

expect 1 run "$work/none.safetensors" && says err none.safetensors
expect 1 verify "$work/none" && says err none
expect 1 attend "$work/none.txt" && says err none.txt
expect 1 run --device 'no such device' "$work/none.safetensors" && says err .

# Files that are no safetensors, each wrong in its own way.
printf 'short' >"$work/short.safetensors"
: >"$work/empty.safetensors"
printf '\377\377\377\377\377\377\377\177{}' >"$work/long.safetensors"
printf '\010\0\0\0\0\0\0\0{"a":[[[' >"$work/json.safetensors"
for file in short empty long json; do
  expect 1 run "$work/$file.safetensors" && says err "$file"
done
mkdir "$work/cases" && cp "$work/json.safetensors" "$work/cases"
expect 1 verify "$work/cases" && says out '0 passed, 1 failed, 0 skipped'

expect 0 devices --device cpu && says out native
CLATTN_OPENCL_MODULE= expect 0 devices && says out native

if [ -n "${CLATTN_DATA:-}" ]; then
  case=$CLATTN_DATA/conformance/clattn/attention_plain_odd.safetensors
  expect 0 run --device cpu --out "$work/result.safetensors" "$case"
  says out Y
  [ -s "$work/result.safetensors" ] || { echo "--out: nothing" && failed=1; }
  expect 1 run --device cpu --out "$work/no/such/dir" "$case"
  says err no/such/dir
  expect 0 verify --device cpu "$case"
  says out '1 passed, 0 failed, 0 skipped'
  expect 0 run --device cpu --path unfused "$case"
else
  echo "CLATTN_DATA is not set: no case was run"
fi

text=data/the-verdict.txt
if [ -f "$text" ]; then
  head -c 3000 "$text" >"$work/text.txt"
  expect 0 attend --device cpu "$work/text.txt"
  says out 'GFLOP/s'
fi

# What is read is not replaced.
printf x >"$work/case"
expect 1 run --device cpu --out "$work/./case" "$work/case"
says err 'than what is read'
expect 1 attend --device cpu --save-weights "$work/case" "$work/case"
says err 'than what is read'
exit $failed
