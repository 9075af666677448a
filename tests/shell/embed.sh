#!/bin/sh
# embed.sh - clattn embed, with a model that ships: one of characters. Pre-trained ones: scripts/check_models.sh.
. "$(dirname "$0")/expect"

model=data/northanger.safetensors
text=$work/text.txt
cat >"$text" <<'END'
Catherine was happy.

A cold rain fell all day.
  
Catherine was so happy.
END
printf 'The abbey was old.\r\nNo line end' >>"$text"

# ---- embed -------------------------------------------------------------------
subcommand='embed --device cpu --model data/northanger.safetensors'
expect 0 "$text" && cp "$work/out" "$work/json"
[ "$(wc -l <"$work/json")" -eq 5 ] || { echo "not 5 vectors" && failed=1; }
says out '^{"line":1,"text":"Catherine was happy.","embedding":\[-*[0-9.e-]*,'
says out '^{"line":6,"text":"The abbey was old.","embedding":'
says out '^{"line":7,"text":"No line end","embedding":'
# Batches and the place in them do not matter.
for batch in 1 30 100000; do
  expect 0 --batch $batch "$text"
  cmp -s "$work/out" "$work/json" || {
    echo "--batch $batch gives other vectors"
    failed=1
  }
done
"$clattn" $subcommand --json - <"$text" | cmp -s - "$work/json" || {
  echo "standard input gives other vectors"
  failed=1
}

expect 0 --query 'Catherine was happy.' --top 2 "$text"
says out '^ 1\.0000      1  Catherine was happy\.$'
says out '^ 0\.[0-9]*      5  Catherine was so happy\.$'
[ "$(wc -l <"$work/out")" -eq 2 ] || { echo "not 2 matches" && failed=1; }
expect 0 --query 'Catherine was happy.' --json --top 100 "$text"
says out '^{"cosine":[0-9.]*,"line":1,"text":"Catherine was happy."}$'
[ "$(wc -l <"$work/out")" -eq 5 ] || { echo "not 5 matches" && failed=1; }
for pooling in first last; do
  expect 0 --pooling $pooling "$text"
  cmp -s "$work/out" "$work/json" && echo "$pooling is mean" && failed=1
done

expect 0 --out "$work/vectors.safetensors" "$text"
[ "$(head -c 400 "$work/vectors.safetensors" | grep -c embeddings)" -eq 1 ] || {
  echo "no embeddings in the file"
  failed=1
}

cp $model "$work/model.safetensors"
expect 1 --model "$work/model.safetensors" --out "$work/./model.safetensors" "$text"
says err 'than what is read'

expect 0 --max-tokens 5 "$text" && says err '5 of 5 lines are longer than 5'
cp "$work/out" "$work/short"
expect 1 --max-tokens 5 --strict "$text" && says err 'line 1 is longer than 5'
cut -c1-5 "$text" >"$work/cut.txt"
expect 0 --max-tokens 5 "$work/cut.txt"
[ "$(sed 's/.*embedding//' "$work/out" | head -n 1)" = \
  "$(sed 's/.*embedding//' "$work/short" | head -n 1)" ] || {
  echo "a line that is cut is not its beginning"
  failed=1
}
expect 1 --max-tokens 100000 "$text" && says err 'max-tokens: got 100000'
: >"$work/empty.txt"
expect 0 "$work/empty.txt"
[ ! -s "$work/out" ] || { echo "vectors of nothing" && failed=1; }
expect 0 --query Catherine "$work/empty.txt"
expect 1 "$work/none.txt" && says err none.txt
printf 'fine\nb\377d\n' >"$work/bad.txt"
expect 1 "$work/bad.txt" && says err 'bad.txt: line 2'
expect 2 --top 3 "$text" && says err 'top.*query'
expect 2 --query a --out b "$text" && says err 'query.*out'
expect 2 --pooling max "$text" && says err 'pooling'
subcommand=embed
expect 2 "$text" && says err 'model'
expect 1 --device cpu --model "$work/none" "$text" && says err "$work/none"
expect 1 --device cpu --model "$text" "$text" && says err text.txt

exit $failed
