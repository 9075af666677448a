#!/bin/sh
# tune.sh - clattn tune: measures, keeps, shows, forgets; what it says of damage.
. "$(dirname "$0")/expect"
subcommand=tune
export CLATTN_CACHE_DIR="$work/cache"
unset CLATTN_CPU_ISA CLATTN_DEVICE

expect 2 --show --reset && says err 'one of --show and --reset'
expect 2 argument && says err 'no argument'
expect 1 --device 'no such device' && says err 'no such device'

expect 0 --device cpu --show
says out 'default for CPU devices' && says out 'record: none'
expect 0 --device all --show && says out '^cpu'

expect 0 --device cpu
says out 'attention .* ms  product .* ms'
says out '-> .*dense products' && says out kept
[ -s "$work/err" ] && { echo 'not silent:' && cat "$work/err" && failed=1; }
expect 0 --device cpu --show
says out '(tuned)' && says out 'record: in use'
"$clattn" devices --device cpu >"$work/out" 2>"$work/err" || failed=1
says out 'tile: 64 queries x 64 keys, vectors'
CLATTN_CPU_ISA=base expect 0 --device cpu --show
says out 'vectors of 4, base (CLATTN_CPU_ISA)'

for record in "$work"/cache/tuning-*.txt; do echo damage >>"$record"; done
expect 0 --device cpu --show
says out 'not in order, ignored' && says out 'default for CPU devices'
expect 0 --device cpu --reset && says out forgotten
[ -e "$record" ] && { echo "--reset left $record" && failed=1; }
expect 0 --device cpu --show && says out 'record: none'

export CLATTN_CACHE_DIR=
expect 1 --device cpu && says err 'CLATTN_CACHE_DIR'
expect 1 --device cpu --reset && says err 'CLATTN_CACHE_DIR'
expect 0 --device cpu --show && says out 'the cache is off'

exit $failed
