#!/bin/sh
# check_browser.sh BUILD [PATTERN] - the page of `clattn view --html` in headless
# Chromium, tests/browser/check_page.py; PATTERN: tests whose names contain it.
# Exit status: 0 it does what it should, 77 skipped, else not.
set -eu

build=$1
shift
python=
for candidate in /usr/bin/python3 python3; do
  "$candidate" -c 'import numpy, selenium' 2>/dev/null &&
    python=$candidate && break
done
[ -n "$python" ] || {
  echo "skipped: no python3 with numpy and selenium (Debian: python3-numpy," \
    "python3-selenium)"
  exit 77
}
for program in chromium chromedriver; do
  command -v $program >/dev/null || {
    echo "skipped: no $program (Debian: chromium, chromium-driver)"
    exit 77
  }
done
[ -e "$build/libclattn_view.so" ] || {
  echo "skipped: no $build/libclattn_view.so"
  exit 77
}
exec "$python" -B "$(dirname "$0")/../tests/browser/check_page.py" "$build" "$@"
