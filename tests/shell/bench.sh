#!/bin/sh
# bench.sh - clattn bench: results and their JSON, shapes and options that are
# wrong. Says nothing about speed.
. "$(dirname "$0")/expect"
subcommand=bench

# counts N PATTERN - N lines of the JSON are like PATTERN.
counts() {
  n=$(grep -c -e "$2" "$work/bench.json")
  [ "$n" -eq "$1" ] && return
  echo "$n lines like '$2' in the JSON, want $1"
  failed=1
}

quick="--device cpu --threads 2 --time 0.01"

# Each of the 9 smoke shapes, by the library and three rivals.
expect 0 $quick --shapes smoke --json "$work/bench.json"
says out 'of probe'
says out '^odd-causal '
says out 'clblast: not run: needs an OpenCL device'
counts 36 '^  "name": '
counts 36 '^  "device": '
counts 36 '^  "path": "auto"'
counts 9 '^  "rival": null'
counts 9 '^  "rival": "openblas"'
counts 9 '^  "rival": "openblas-flash"'
counts 9 '^  "rival": "clblast"'
counts 36 '^  "seconds": '
counts 36 '^  "threads": 2'
counts 0 '^  "wrong": true'
counts 9 '^  "reason": "needs an OpenCL device"'
# Who has no time has a reason, and nobody else.
counts "$(grep -c '^  "seconds": null' "$work/bench.json")" '^  "reason": "..*"'
counts "$(grep -c '^  "seconds": null' "$work/bench.json")" '^  "gflops": null'
[ "$(sed -n '1p;$p' "$work/bench.json" | tr -d '\n')" = '[]' ] ||
  { echo "the JSON is not an array" && failed=1; }
[ "$(find "$work" -name 'bench.json*' | wc -l)" -eq 1 ] ||
  { echo "--json left another file" && failed=1; }

for path in fused unfused; do
  expect 0 $quick --shapes smoke --rivals none --path $path \
    --json "$work/bench.json"
  counts 9 "^  \"path\": \"$path\""
  counts 9 '^  "name": '
done
expect 0 $quick --shapes smoke --rivals openblas,openblas-flash --weights
says out 'never has all the weights\|OpenBLAS is not installed'
expect 0 --device opencl --shapes smoke --rivals none --time 0 ||
  says err 'no OpenCL'

# Gradients, beside the forward pass they belong to.
expect 0 $quick --shapes smoke --backward --json "$work/bench.json"
says out 'forward ms *backward *ratio'
says out '^square .*[0-9] fma'
counts 18 '^  "rival": null'
counts 9 '^  "pass": "backward"'
counts 9 '^  "pass": "forward"'
counts 9 '^  "ratio": null'
counts 0 '^  "seconds": null'
counts 0 '^  "wrong": true'
expect 0 $quick --shapes smoke --backward --path unfused

# A file of one's own: comments, blank lines, tabs, no last newline.
printf '# nothing\n\n  mine\t1 2 1 3 4 5 6 f32 causal # yes' >"$work/mine.txt"
expect 0 $quick --shapes "$work/mine.txt"
says out '^mine '

# A line that no memory holds is reported and the next ones run.
cat >"$work/large.txt" <<'END'
large 1 1 1 1 1000000000 100000 1 f32 full
small 1 1 1 1 1 1 1 f32 full
END
expect 1 $quick --shapes "$work/large.txt" --json "$work/bench.json"
says out '^large .*not run'
says out 'out of memory'
says out '^small .*[0-9]'
says err '1 of 2 shapes failed'
counts 4 '"reason": "out of memory'

# bad WANT LINE - a line, third of its file, with a field that is wrong.
bad() {
  printf '# shapes\n\n%s\n' "$2" >"$work/bad.txt"
  expect 1 --device cpu --shapes "$work/bad.txt"
  says err "bad.txt:3: $1"
}
bad 'got 9 fields, want 10: name batch' 'x 1 1 1 1 1 1 1 f32'
bad 'got 11 fields, want 10' 'x 1 1 1 1 1 1 1 f32 full more'
bad "batch: got '0', want a whole number" 'x 0 1 1 1 1 1 1 f32 full'
bad "q_len: got '-4'" 'x 1 1 1 -4 1 1 1 f32 full'
bad "kv_len: got '1e3'" 'x 1 1 1 1 1e3 1 1 f32 full'
bad "v_dim: got '99999999999999999999'" \
  'x 1 1 1 1 1 1 99999999999999999999 f32 full'
bad 'kv_heads: got 2, want a divisor of q_heads (3)' 'x 1 3 2 1 1 1 1 f32 full'
bad "type: got 'f64', want f32, f16 or bf16" 'x 1 1 1 1 1 1 1 f64 full'
bad "mask: got 'some', want causal or full" 'x 1 1 1 1 1 1 1 f32 some'
bad 'x: the extents multiply' \
  'x 1000000 1000000 1 1000000 1000000 1 1 f32 full'
bad 'name: got 70 characters, want at most 63' \
  "$(printf '%070d' 1) 1 1 1 1 1 1 1 f32 full"

printf '# nothing\n' >"$work/empty.txt"
expect 1 --shapes "$work/empty.txt" && says err 'empty.txt: no shapes'
expect 1 --shapes "$work/none.txt" && says err none.txt
expect 1 --shapes "$work" && says err "$work"
expect 1 $quick --shapes smoke --rivals none --json "$work/no/such.json"
says err no/such.json
expect 1 $quick --shapes smoke --rivals none --json "$work"
says err 'not a regular file'
expect 1 --shapes smoke --device 'no such device' && says err .

expect 2 more && says err more
expect 2 --rivals mkl && says err mkl && says err openblas-flash
expect 2 --rivals openblas, && says err rivals
expect 2 --time soon && says err soon
expect 2 --time -1 && says err seconds
expect 2 --rival-time nan && says err nan
expect 2 --threads 0 && says err threads
expect 2 --path sideways && says err sideways
expect 2 --json && says err json
expect 2 --backward --weights && says err backward
expect 2 --backward --rivals openblas && says err rivals

exit $failed
