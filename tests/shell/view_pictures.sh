#!/bin/sh
# view_pictures.sh - pictures of clattn view: SVGs are XML that fetches nothing,
# PNGs have the size that the SVG says, and half a file is never there.
. "$(dirname "$0")/expect"
subcommand=view
export CLATTN_SHARE_DIR=data CLATTN_DEVICE=cpu
command -v python3 >/dev/null || exit 0

text=$work/text.txt
printf 'The "abbey" was old.\n' >"$text"
file=$work/recording
expect 0 "$text" --export "$file"
"$clattn" view "$file" --svg "$work/a.svg" >"$work/out" 2>"$work/err" || {
  grep -q 'without cairo' "$work/err" && exit 0
  cat "$work/err"
  exit 1
}

cat >"$work/check.py" <<'END'
import struct, sys, xml.etree.ElementTree as tree
svg, png = sys.argv[1:]
root = tree.parse(svg).getroot()
assert root.tag.endswith('}svg'), root.tag
size = [float(root.get(side).rstrip('px')) for side in ('width', 'height')]
for node in root.iter():
    assert not node.tag.endswith('script'), 'a script'
    for name, value in node.attrib.items():
        if name.endswith('href'):
            assert value[0] == '#' or value.startswith('data:image/png'), value
        assert not name.startswith('on'), name
with open(png, 'rb') as file:
    head = file.read(24)
assert head[:8] == b'\x89PNG\r\n\x1a\n'
got = struct.unpack('>2I', head[16:])
# Two pixels a unit; a PNG's last unit may be a half.
assert all(0 <= 2 * s - g <= 2 for s, g in zip(size, got)), (size, got)
END

for view in head 'head --dark' grid token; do
  # shellcheck disable=SC2086 # words on purpose
  expect 0 "$file" --kind $view --svg "$work/a.svg" --png "$work/a.png"
  python3 "$work/check.py" "$work/a.svg" "$work/a.png" || {
    echo "--kind $view: wrong pictures"
    failed=1
  }
done

expect 1 "$file" --svg "$work/none/a.svg" && says err 'none/a.svg: '
# What does not fit is not there, and what was there still is.
mkdir "$work/full"
for name in a.svg a.png; do
  echo old >"$work/full/$name"
  (
    trap '' XFSZ
    ulimit -f 1
    "$clattn" view "$file" --${name#a.} "$work/full/$name" 2>"$work/err"
  ) && echo "$name: does not fit, and is written" && failed=1
  says err "$name: File too large"
  [ "$(cat "$work/full/"*)" = old ] || {
    echo "$name: half of it is there"
    failed=1
  }
  rm "$work/full/$name"
done
exit $failed
