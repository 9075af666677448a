#!/bin/sh
# run_tests.sh BUILD TEST... - runs tests and prints the totals as last line.
#
# BUILD/tests/unit is a Criterion program and counts test by test. Any other
# TEST (a shell script, an example) counts as one: exit status 0 passed, 77
# skipped, else failed. Output appears only of tests that did not pass.
set -u
build=$1
shift

# What tests find in their environment, unless the caller says otherwise.
export BUILD="$build" CLATTN="$build/clattn"
export CLATTN_OPENCL_MODULE="${CLATTN_OPENCL_MODULE-$build/libclattn_opencl.so}"
export CLATTN_CACHE_DIR="${CLATTN_CACHE_DIR-$build/cache}"

logs=$build/test-logs
mkdir -p "$logs"
passed=0 failed=0 skipped=0

count() { grep -c "$@" || true; }

# Criterion's verbose output, reduced to failures and a line now and then.
condense() {
  awk '/^\[(PASS|SKIP|FAIL)\]/ { if (++n % 50 == 0) print "  " n " tests done" }
       # a test gives the compiler a wrong source; it comments on its own
       /^1 error generated\.$/ { next }
       /^\[RUN \]|^\[PASS\]|^\[====\] Running|Criterion v|Writing tap/ { next }
       { print; fflush() }'
}

criterion() {
  tap=$logs/unit.tap
  rm -f "$tap"
  # The status of the test program, not that of the pipe's end.
  { "$1" --color=never --verbose --tap="$tap" 2>&1; echo $? >"$logs/status"; } |
    condense
  status=$(cat "$logs/status")
  touch "$tap"
  skipped=$((skipped + $(count '^ok .* # SKIP' <"$tap")))
  passed=$((passed + $(grep '^ok ' "$tap" | count -v ' # SKIP')))
  failures=$(count '^not ok ' <"$tap")
  if [ "$status" -ne 0 ] && [ "$failures" -eq 0 ]; then
    echo "  $1 ended with status $status"
    failures=1
  fi
  failed=$((failed + failures))
}

plain() {
  log=$logs/$(basename "$1").log
  case $1 in *.sh) set -- sh "$1" ;; esac
  timeout 300 "$@" >"$log" 2>&1
  status=$?
  case $status in
    0) passed=$((passed + 1)) ;;
    77)
      skipped=$((skipped + 1))
      echo "  skipped: $(tail -n 1 "$log")"
      ;;
    *)
      failed=$((failed + 1))
      sed 's/^/  | /' "$log"
      echo "  FAILED with status $status"
      ;;
  esac
}

for test in "$@"; do
  echo "$test"
  case $test in
    "$build"/tests/unit) criterion "$test" ;;
    *) plain "$test" ;;
  esac
done

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
