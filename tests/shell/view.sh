#!/bin/sh
# view.sh - clattn view: texts, recordings and raw weights; terminal, pictures and
# page; two runs; what is refused, and that nothing is left behind.
. "$(dirname "$0")/expect"
subcommand=view
export CLATTN_SHARE_DIR=data CLATTN_DEVICE=cpu CLATTN_THREADS=1 NO_COLOR=1
export TMPDIR="$work/tmp"
mkdir "$TMPDIR"
characters=data/northanger.safetensors
text=$work/text.txt
printf 'The abbey was old.\n' >"$text"

fail() {
  echo "$*"
  failed=1
}

# silent FILE PATTERN - no line of the last run's FILE is like PATTERN.
silent() {
  grep -q -e "$2" "$work/$1" && fail "'$2' in what went to $1: $(cat "$work/$1")"
}

# ---- the model that ships --------------------------------------------------------
expect 0 && says out 'heads, [0-9]* tokens' && says out -- '--html=FILE'
file=$work/recording # what is shown of it takes no model
expect 0 "$text" --export "$file"
for kind in table grid head token; do
  expect 0 "$file" --kind $kind && cp "$work/out" "$work/$kind"
  [ -s "$work/$kind" ] || fail "--kind $kind shows nothing"
done
cmp -s "$work/table" "$work/grid" && fail 'a table is a grid'
for width in 60 80 200; do
  expect 0 "$file" --width $width
  # characters, of bytes that do not go on with one
  LC_ALL=C awk -v width=$width '{ gsub(/[\200-\277]/, "") }
    length > width { wide = 1 } END { exit wide }' "$work/out" ||
    fail "wider than $width: $(cat "$work/out")"
done
CLATTN_SHARE_DIR=$work expect 1
says err 'not where it was looked for' && says err "$work/"

# ---- texts -------------------------------------------------------------------------
set -- --model $characters
expect 0 "$@" "$text" && says out '^northanger: 4 x 4 heads, 18 tokens$'
expect 0 "$@" --text 'The abbey was old.' && cp "$work/out" "$work/given"
"$clattn" view "$@" - <"$text" | cmp -s - "$work/given" ||
  fail 'standard input and --text differ'
cat "$text" | "$clattn" view "$@" /dev/stdin | cmp -s - "$work/given" ||
  fail 'a pipe and --text differ'
expect 0 "$@" --max-tokens 5 "$text" && says out '4 x 4 heads, 5 tokens'
expect 1 "$@" data/northanger-abbey.txt && says err 'positions for 128' &&
  says err 'max-tokens=128'
expect 0 "$@" --max-tokens 128 --kind table data/northanger-abbey.txt
expect 2 "$@" "$text" --layer 4 && says err 'layer: got 4, want 0..3'
expect 1 "$@" "$work/none.txt" && says err none.txt
expect 1 "$@" 'The abbey was old.' && says err 'old.: No such.*--text=TEXT is for'
expect 1 "$@" --text '' && says err 'no tokens'
expect 1 "$@" --pair-text x --text y && says err '^clattn: --pair-text: '
expect 1 "$@" --text 'x~' && says err 'the model knows these .*·!"&.*xyz'
expect 1 --text 'x~' && says err 'comes with clattn knows' && says err model=PATH
expect 2 "$@" --path fused "$text" && says err 'has no weights to look at'
expect 0 "$@" --path unfused "$text"
printf 'b\377d' >"$work/bad.txt"
expect 1 "$@" "$work/bad.txt" && says err bad.txt
expect 1 --model "$work/none" --text x && says err "$work/none"
expect 1 --model "$text" --text x && says err text.txt

# ---- where to look -----------------------------------------------------------------
expect 0 "$file" --kind head --layer 0 --head 1 && cp "$work/out" "$work/first"
expect 0 "$file" --kind head --layer 3 --head mean && cp "$work/out" "$work/mean"
cmp -s "$work/first" "$work/mean" && fail 'two heads look alike'
expect 0 "$file" --kind head && cmp -s "$work/out" "$work/mean" ||
  fail 'not the mean of the last layer without options'
expect 0 "$file" --kind token --row 3 && cp "$work/out" "$work/token"
expect 0 "$file" --kind token && cmp -s "$work/out" "$work/token" &&
  fail 'two rows look alike'
expect 0 "$file" --kind head --first 4 --words 3
expect 2 "$file" --layer 4 && says err 'layer: got 4, want 0..3'
expect 2 "$file" --head 4 && says err 'head: got 4, want 0..3 or mean'
expect 2 "$file" --head most && says err "head: got 'most'"
expect 2 "$file" --kind token --row 18 && says err 'row: got 18, want 0..17'
expect 2 "$file" --kind token --row 99999999999999999999 && says err 'want 0..17'
expect 2 "$file" --kind token --row q && says err "row: got 'q', want 0..17 or one of the tok"
expect 2 "$file" --kind token --row '' && says err "row: got ''"
expect 0 "$file" --kind token --row h && says out 'token 1 .h. in 4 layers'
expect 0 "$file" --kind token --row · && says out 'token 3 .·. in 4 layers'
expect 2 "$file" --first 18 && says err 'first: got 18, want 0..17'
# What has no effect is refused.
expect 2 "$file" --row 3 && says err 'row: want it with --kind=token or --html'
expect 2 "$file" --kind grid --row 3 && says err 'row: want it with'
for pair in --first=2:--kind=grid --words=2:--kind=token --by-row:--kind=table \
  "--by-row:--html=$work/x.html" "--words=2:--export=$work/x" \
  --first=2:--compare-device=cpu; do
  option=${pair%%:*}
  expect 2 "$text" $option "${pair#*:}"
  says err "${option%=*}: want it with --kind=head"
done
expect 2 "$file" --part cross && says err "part: got 'cross', but .* has one part"
expect 2 "$file" --kind lines && says err 'want one of head, grid, token, table'

# ---- a recording ---------------------------------------------------------------------
expect 0 "$@" "$text" --kind head && cmp -s "$work/out" "$work/mean" ||
  fail 'a text shows something else than its recording'
set -- "$@" "$text"
expect 0 "$@" --export "$file"
says out "^$file: 0\.[0-9]* MB; 4 x 4 heads, 18 tokens$" && silent out html
for part in attention.0 query.0 key.0 entropy.0 distance.0 'clattn.attention 1' \
  'model":"northanger"'; do
  head -c 16384 "$file" | grep -q -e "$part" ||
    fail "no $part in the file"
done
expect 0 "$@" --f32 --top 3 --map-block 4 --export "$file.f32"
for part in top_keys.0 top_weights.0 map.0; do
  head -c 16384 "$file.f32" | grep -q $part || fail "no $part in the file"
done
[ "$(wc -c <"$file.f32")" -gt "$(wc -c <"$file")" ] || fail 'F32 is no larger'
expect 2 "$file" --model $characters && says err 'model.*is a recording'
expect 2 "$file" --export "$work/x" && says err 'is a recording already'
expect 2 "$file" --f32 && says err 'f32: .* is a recording'
expect 2 "$file" --compare-device cpu && says err 'want a text'
expect 1 $characters && says err 'no attention file' && says err 'model names'
head -c 3000 "$file" >"$work/cut"
expect 1 "$work/cut" && says err "$work/cut"

# Numbers that are no weights, and queries that do not give them, are told.
expect 0 "$file" --kind table && silent err note
expect 0 "$file.f32" --kind table && silent err note
if command -v python3 >/dev/null; then
  python3 - "$file.f32" "$work" <<'END'
import json, struct, sys
def write(name, change):
    data = bytearray(open(sys.argv[1], 'rb').read())
    size = struct.unpack('<Q', data[:8])[0]
    header = json.loads(data[8:8 + size])
    def put(tensor, index, value):
        at = 8 + size + header[tensor]['data_offsets'][0] + 4 * index
        struct.pack_into('<f', data, at, value)
    change(put)
    open(sys.argv[2] + '/' + name, 'wb').write(data)
n = 18
at = lambda head, row, key: (head * n + row) * n + key
write('nan', lambda put: put('attention.1', at(2, 5, 3), float('nan')))
write('below', lambda put: put('attention.3', at(0, 7, 1), -0.25))
write('sums', lambda put: put('attention.2', at(3, 9, 0), 4))
write('queries', lambda put: put('query.1', 17 * 32 + 3, 1000.0))
END
  expect 0 "$work/nan" --kind table &&
    says err 'note: layer 1, head 2, row 5, key 3: -*nan is no weight'
  expect 0 "$work/below" --kind head &&
    says err 'note: layer 3, head 0, row 7, key 1: -0.25 is no weight'
  expect 0 "$work/sums" &&
    says err 'note: sums of rows differ from 1, by up to [34].* head 3, row 9'
  expect 0 "$work/queries" --kind table &&
    says err 'note: query and key do not give the recorded weights (layer 1:' &&
    silent err sums
fi

# ---- translations ---------------------------------------------------------------------
set -- --model data/dates.safetensors
expect 0 "$@" --text '3rd of March 1998' && says out 'cross: 2 x 4 heads, 11 by 17'
expect 0 "$@" --part encoder --kind table && expect 0 "$@" --part 1 --kind head
expect 0 "$@" --text 'March 3, 1998' --export "$work/dates"
says out 'encoder: .* 13 tokens; decoder: .* 11 tokens; cross: '
expect 0 "$work/dates" --part decoder --kind head
expect 2 "$@" --part middle && says err 'want one of encoder, decoder, cross'
expect 2 "$@" --pair-text x --text y && says err 'pair-text: .*translate'
expect 2 "$@" --max-tokens 3 && says err 'max-tokens.*translate'
expect 1 "$@" --text 'x~' && says err text
expect 1 "$@" --text "$(printf '%0100d' 0)" && says err 'has 100 characters'

# ---- two runs ----------------------------------------------------------------------------
expect 0 "$file" --compare "$file.f32" && says out '^a recording: ' &&
  says out '^b recording.f32: ' && says out '^ *3  *[0-9] '
expect 0 "$file" --compare "$file" && says out '^the same weights in all layers'
expect 0 --model $characters --compare-device cpu "$text" &&
  says out '^the same weights' && silent out none
expect 0 "$file" --compare-model $characters && says out 'largest difference'
expect 1 --model $characters "$text" --compare "$work/dates" &&
  says err 'no part of one name' && says out '^the only part: b has no such' &&
  says out '^cross: a has no such part$'
expect 0 --model $characters --text short --export "$file.short"
expect 1 "$file" --compare "$file.short" && says err 'a has 18 tokens, b 5: '
expect 0 "$work/dates" --compare "$work/dates" --part cross &&
  says out '^cross: the same' && silent out '^encoder: '
# Parts are found by their names, and are of one kind. As many bytes are changed.
change() { # change FROM TO FILE
  LC_ALL=C sed "s/$1/$2/" "$3" >"$work/changed"
  cmp -s "$3" "$work/changed" && fail "nothing like $1 in $3"
}
change 'encoder\\",\\"decoder' 'decoder\\",\\"encoder' "$work/dates"
expect 0 "$work/dates" --compare "$work/changed"
for part in encoder decoder cross; do says out "^$part: the same weights"; done
change 'encoder\\",\\"decoder' 'decoder\\",\\"another' "$work/dates"
LC_ALL=C sed -i.old 's/encoder\./another./g' "$work/changed"
expect 0 "$work/dates" --compare "$work/changed"
says out '^encoder: b has no such part$' && says out '^another: a has no such' &&
  says out '^cross: the same'
expect 1 "$work/dates" --compare "$work/changed" --part encoder
says out '^encoder: b has no such' && silent out '^another'
change '"kind":"decoder"' '"kind":"encoder"' "$file"
expect 1 "$file" --compare "$work/changed" && says err 'a is decoder, b encoder: not'
change '"encoder.causal":"false"' '"encoder.causal":"true" ' "$work/dates"
expect 1 "$work/dates" --compare "$work/changed"
says err '^clattn: encoder: a is not causal, b causal: nothing to subtract'
expect 1 "$text" --compare "$work/none" && says err "$work/none"
expect 1 "$text" --compare-model "$work/none" && says err 'compare-model: .*none'
expect 1 "$text" --compare-device nothing && says err '"nothing" names none'
expect 2 "$text" --compare "$file" --compare-device cpu && says err 'got 2'
expect 2 "$text" --compare "$file" --png "$work/x.png" && says err 'one run'

# ---- pictures and the page ------------------------------------------------------------------
expect 0 "$file" --html "$work/page.html" --layer 2 --head 1 --row 3
says out "^$work/page.html: [0-9.]* MB; 4 x 4 heads, 18 tokens$"
head -c 20 "$work/page.html" | grep -qi '<!doctype html>' || fail 'no page'
and='\(&\|\\u0026\)'
grep -q "layer=2${and}head=1${and}row=3" "$work/page.html" ||
  fail 'the page does not begin at the head that was named'
expect 0 "$file" --compare "$file.f32" --html "$work/two.html"
says out 'MB; a (recording): 4 x 4 .* 18 tokens; b (recording.f32): 4 x 4'
grep -q '"recording.f32"' "$work/two.html" || fail 'no names of runs'
"$clattn" view "$file" --png "$work/p.png" >"$work/out" 2>"$work/err"
if grep -q 'without cairo' "$work/err"; then
  echo 'built without cairo and Pango: no pictures'
else
  expect 0 "$file" --png "$work/p.png" --svg "$work/p.svg" --dark
  [ "$(grep -c ' MB; 4 x 4 heads' "$work/out")" -eq 2 ] || fail 'not two lines'
  head -c 8 "$work/p.png" | grep -q PNG || fail 'no PNG'
  head -c 200 "$work/p.svg" | grep -q '<svg' || fail 'no SVG'
  # An ending is what it is, whatever its case.
  expect 0 "$file" --png "$work/q.Png" --svg "$work/q.SvG" --dark
  cmp "$work/q.Png" "$work/p.png" && cmp "$work/q.SvG" "$work/p.svg" ||
    fail 'other pictures by other names'
  expect 2 "$file" --png "$work/q.SVG" && says err 'ends in .png'
  expect 2 "$file" --svg "$work/q.PNG" && says err 'ends in .svg'
  expect 0 "$file" --kind grid --png "$work/grid.png" --dark
  cmp -s "$work/p.png" "$work/grid.png" && fail 'a grid is a head'
fi
expect 2 "$file" --kind table --png "$work/x.png" && says err 'without --png'
expect 2 "$file" --svg "$work/x.png" && says err 'ends in .svg'
expect 2 "$file" --png "$work/x.svg" && says err 'ends in .png'
expect 2 "$file" --png "$work/x.jpg" && says err 'ends in .png'
expect 2 "$file" --html "$work/x" --html "$work/y" && says err 'two outputs'
expect 2 "$file" --title x && says err 'title: want it with'
expect 0 "$file" --html "$work/page.html" --title 'An <abbey>' --sqrt
grep -q 'An \\u003cabbey' "$work/page.html" || fail 'the page has no title'
grep -q 'colors=root' "$work/page.html" || fail 'the page has linear colours'
expect 2 "$file" --sqrt --linear && says err 'sqrt: want it without --linear'
expect 2 "$file" --dark && says err 'dark: want it with'
expect 1 "$file" --html "$work/none/x.html" && says err none/x.html
expect 1 "$text" --export "$work/./text.txt" && says err 'than what is read'
expect 1 "$text" --export "$work/x" --html "$work/./x" && says err 'that of --export'
expect 1 "$text" --html $characters && says err 'than what is read'

# A model's own files, by any name, and whatever else is in its folder.
mkdir -p "$work/model/1_Pooling" "$work/cache"
for name in model.safetensors config.json 1_Pooling/config.json; do
  echo old >"$work/model/$name"
done
echo old >"$work/cache/blob"
ln -s ../cache/blob "$work/model/tokenizer.json"
for name in model/model.safetensors model/./config.json cache/blob \
  model/1_Pooling/config.json; do
  expect 1 --model "$work/model" "$text" --export "$work/$name"
  says err "^clattn: --export: got .*, a file of .*model, want another file"
done
expect 1 "$file" --compare-model "$work/model" --html "$work/model/config.json"
says err 'html: .*than what is read'
[ "$(cat "$work/model/"*.* "$work/cache/blob" | sort -u)" = old ] ||
  fail 'a file of the model was replaced'

# ---- raw weights -------------------------------------------------------------------------------
# safetensors NAME SHAPE BYTES... - one F32 tensor; numbers below as their bytes.
zero='\0\0\0\0' quarter='\0\0\200\076' half='\0\0\0\077' one='\0\0\200\077'
minus='\0\0\200\277' nan='\0\0\300\177'
safetensors() {
  name=$1 shape=$2
  shift 2
  header="{\"$name\":{\"dtype\":\"F32\",\"shape\":[$shape],\"data_offsets\":[0,$((4 * $#))]}}"
  printf "\\$(printf %o ${#header})\\0\\0\\0\\0\\0\\0\\0%s" "$header"
  for number in "$@"; do printf "$number"; done
}
weights=$work/weights.safetensors
safetensors weights 1,2,3,3 $one $zero $zero $half $half $zero $half $quarter \
  $quarter $one $zero $zero $one $zero $zero $zero $half $half >"$weights"
printf '["<b>", "\\u001b[31m", "cat"]' >"$work/tokens.json"
printf '<b>\nred\r\ncat\n' >"$work/tokens.txt"
expect 0 --weights "$weights" --export "$work/raw"
says out '1 x 2 heads, 3 tokens'
grep -aq '"causal":"true"' "$work/raw" || fail 'not found to be causal'
grep -aq '\["0","1","2"\]\|\[\\"0\\",\\"1\\",\\"2\\"\]' "$work/raw" ||
  fail 'no numbers for tokens'
for tokens in tokens.json tokens.txt; do
  expect 0 --weights "$weights" --tokens "$work/$tokens" --width 80
  says out '<b>' && says out cat && says out '1 x 2 heads, 3 tokens'
  silent out "$(printf '\033')"
done
expect 0 --weights "$weights" --tokens "$work/tokens.txt" --html "$work/raw.html"
expect 0 --weights "$weights" --tensor weights --causal --kind head --head 0
# Numbers that are known: heads that look at the token before, and a difference.
safetensors weights 3,3 $one $zero $zero $one $zero $zero $zero $one $zero \
  >"$work/before"
expect 0 --weights "$work/before"
says out '^sharpest  *layer 0, head 0: entropy 0.00$'
says out '^token before  *layer 0, head 0: weight 1.00$'
says out '^first token  *layer 0, head 0: weight 0.67$'
says out '^farthest  *layer 0, head 0: 0.67 tokens$'
safetensors weights 3,3 $one $zero $zero $one $zero $zero $quarter $half $quarter \
  >"$work/after"
expect 0 --weights "$work/after" --tokens "$work/tokens.txt" --export "$work/raw"
expect 0 --weights "$work/before" --tokens "$work/tokens.txt" --compare "$work/raw"
says out '^ *0  *0  *2 cat  *1 red  *1.00000  0.50000 *+0.5$'
printf 'a\nb\302\233c\n\357\273\277\n' >"$work/controls" # U+009B, U+FEFF
expect 0 --weights "$work/before" --tokens "$work/controls" --compare "$work/raw"
says out 'tokens differ' && silent out "$(printf '\302\233')"
expect 0 --weights "$work/before" --tokens "$work/controls"
silent out "$(printf '\302\233')"
safetensors a.0 2,2 $half $half $quarter $half >"$work/two"
expect 0 --weights "$work/two" --export "$work/raw" && says err 'differ from 1'
grep -aq '"causal":"false"' "$work/raw" || fail 'found to be causal'
# A weight beyond F16, 65536: in F32, it stays what it is.
safetensors weights 1,2 '\0\0\200\107' $zero >"$work/large"
expect 0 --weights "$work/large" --export "$work/raw"
grep -aq '"dtype":"F32"' "$work/raw" || fail 'a weight of 65536 is not F32'
expect 0 --weights "$work/two" --tensor a --kind head
expect 2 --weights "$work/two" --tensor a --head 1 && says err 'want 0..0'
header='{"a.0":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]},"a.2":{"dtype":"F32","shape":[1,1],"data_offsets":[4,8]}}'
printf "\\$(printf %o ${#header})\\0\\0\\0\\0\\0\\0\\0%s$one$one" "$header" \
  >"$work/gap"
expect 1 --weights "$work/gap" --tensor a
says err 'gap: a.1 is missing, but there is a.2$'
change 'a\.0' 'a.1' "$work/gap"
expect 1 --weights "$work/changed" --tensor a && says err 'a.0 is missing, but .* a.1'
safetensors attention.3 1,1 $one >"$work/alone" # the only one there is
expect 0 --weights "$work/alone" && says out '1 x 1 heads, 1 tokens'
expect 1 --weights "$work/two" --tensor b && says err 'no tensor b'
expect 1 --weights "$work/two" --causal && says err 'causal.*later\|after'
expect 1 --weights "$work/two" --tokens "$work/tokens.txt" &&
  says err 'has 3 tokens, want 2'
safetensors w 1,1,2 $half $half >"$work/cross"
expect 1 --weights "$work/cross" --key-tokens "$work/tokens.txt" &&
  says err 'has 3 tokens, want 2'
printf 'a\nb' >"$work/keys"
expect 0 --weights "$work/cross" --key-tokens "$work/keys" --export "$work/raw"
says out '1 x 1 heads, 1 by 2 tokens'
safetensors w 1,1,2 $half $minus >"$work/minus"
expect 1 --weights "$work/minus" && says err 'row 0, key 1: got -1, want a weight'
safetensors w 1,1,2 $nan $half >"$work/nan"
expect 1 --weights "$work/nan" && says err 'key 0: got -*nan'
# What PyTorch gives: a batch of one, before or behind the layers.
for shape in 1,1,2,2 2,1,1,1,2 1,2,1,1,2 1,1,2,1,1,2; do
  safetensors attention $shape $half $half $quarter $half >"$work/batch"
  expect 0 --weights "$work/batch" --export "$work/raw"
done
says out '2 x 1 heads, 1 by 2 tokens'
safetensors a.0 1,1,1,2,2 $half $half $quarter $half >"$work/batch"
expect 0 --weights "$work/batch" && says out '1 x 1 heads, 2 tokens'
safetensors w 2,2,2,1,1 $one $one $one $one $one $one $one $one >"$work/batch"
expect 1 --weights "$work/batch" && says err 'got \[2,2,2,1,1\], want'
printf '\223NUMPY\1\0' >"$work/w.npy"
expect 1 --weights "$work/w.npy" && says err 'NumPy, want safe' &&
  says err 'save_file.*numpy.load("'"$work/w.npy"
expect 1 "$work/w.npy" && says err 'want safetensors for --weights'
printf 'PK\3\4\0\0' >"$work/w.pt"
expect 1 --weights "$work/w.pt" && says err 'torch.stack'
header='{"attention":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]},"extra":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}'
printf "\\$(printf %o ${#header})\\0\\0\\0\\0\\0\\0\\0%s$one$one" "$header" \
  >"$work/extra"
expect 0 --weights "$work/extra" && says out '1 x 1 heads, 1 tokens'
expect 1 --weights "$work/extra" --tensor extra && says err 'extra: got \[1\]'
safetensors w 2 $half $half >"$work/flat"
expect 1 --weights "$work/flat" && says err 'w: got \[2\], want'
safetensors w 0,2 >"$work/void"
expect 1 --weights "$work/void" && says err 'w: got \[0,2\]'
printf '["a", 1]' >"$work/mixed.json"
expect 1 --weights "$work/two" --tokens "$work/mixed.json" && says err 'entry 1'
printf 'a\n\377\n' >"$work/mixed.txt"
expect 1 --weights "$work/two" --tokens "$work/mixed.txt" && says err 'line 2'
expect 1 --weights "$text" && says err text.txt
expect 2 --tokens "$work/tokens.txt" && says err 'with --weights'
expect 2 --weights "$weights" --model $characters && says err 'without --weights'
expect 2 --weights "$weights" "$text" && says err 'FILE as well'
expect 2 --weights "$weights" --compare-device cpu && says err 'without --weights'

# ---- more than one way ---------------------------------------------------------------------------
expect 2 "$text" --text x && says err 'FILE as well'
expect 2 "$text" --pair "$text" --pair-text x && says err 'without --pair-text'
expect 2 - --pair - && says err 'standard input'
expect 2 --pair "$text" && says err 'with a FILE'
expect 2 "$text" "$text" && says err 'got 2 files'
expect 2 data && says err 'data is a folder'

# ---- nothing is left behind ------------------------------------------------------------------------
TMPDIR=$work/none expect 1 "$text" && says err "TMPDIR: $work/none"
mkfifo "$work/fifo"
# interrupt SIGNAL STATUS PROGRAM... - while it waits for a text that does not come.
interrupt() {
  signal=$1 want=$2
  shift 2
  "$@" "$clattn" view - --html "$work/begun.html" <"$work/fifo" >"$work/out" 2>&1 &
  program=$!
  exec 3>"$work/fifo"
  for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    [ -z "$(ls "$TMPDIR")" ] || break
    sleep 0.05
  done
  [ -n "$(ls "$TMPDIR")" ] || fail 'no temporary folder while it runs'
  # What it would have begun to write, what another one has, and what is like it.
  touch "$work/begun.html.$program.0" "$work/begun.$program.12" \
    "$work/begun.html.1$program.0" "$work/begun.html.$program." \
    "$work/other.html.$program.0"
  kill -s $signal $program
  wait $program 2>/dev/null
  got=$?
  [ $got -eq $want ] || fail "SIG$signal: status $got, want $want"
  exec 3>&-
  [ -z "$(ls "$TMPDIR")" ] || fail "SIG$signal left: $(ls "$TMPDIR")"
  [ "$(ls "$work" | grep -c "^begun.*$program\|^other")" -eq 3 ] ||
    fail "SIG$signal: $(ls "$work")"
  rm -f "$work/begun"* "$work/other"*
}
interrupt TERM 143 env
interrupt PIPE 141 env
# What a shell runs in the background ignores these two.
if command -v python3 >/dev/null; then
  heard='import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])'
  ulimit -c 0
  interrupt INT 130 python3 -c "$heard"
  interrupt QUIT 131 python3 -c "$heard"
fi

# ---- long names -----------------------------------------------------------------------
# Of 255 bytes, which leaves no room for what is put behind a temporary one; in the
# middle of a character.
mkdir "$work/long"
name=$(printf '%0118d' 0 | sed 's/0/\xc3\xa9/g')
for end in a.safetensors aaaaaaaaaaaaa.html; do
  [ ${#end} -lt 15 ] || name=${name%??}
  expect 0 "$text" --export "$work/long/$name$end"
done
expect 0 "$text" --html "$work/long/$(printf '%0250d' 0).html"
[ "$(ls "$work/long" | wc -l)" -eq 3 ] || fail "$(ls "$work/long")"

exit $failed
