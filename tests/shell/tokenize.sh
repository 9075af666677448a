#!/bin/sh
# tokenize.sh - text to tokens and back, a vocabulary learnt, a model of it.
. "$(dirname "$0")/expect"

text=data/the-verdict.txt
same() { # same FILE FILE WHAT
  cmp -s "$1" "$2" && return
  echo "$3: $1 and $2 differ"
  failed=1
}

# ---- a vocabulary, and what reads it -----------------------------------------
expect 0 bpe --vocab-size 400 --out "$work/bpe" "$text"
says out "^wrote $work/bpe: 400 tokens$"
for file in tokenizer vocab; do
  expect 0 tokenize --tokenizer "$work/bpe/$file.json" "$text"
  cp "$work/out" "$work/ids.$file"
done
same "$work/ids.tokenizer" "$work/ids.vocab" "two files of one vocabulary"
expect 0 tokenize -t "$work/bpe" --decode "$work/ids.vocab"
same "$work/out" "$text" "ids back to text"
"$clattn" tokenize -t "$work/bpe" - <"$text" >"$work/ids.stdin"
same "$work/ids.stdin" "$work/ids.vocab" "standard input"
expect 0 tokenize -t "$work/bpe" --out "$work/ids.safetensors" "$text"
says out "tokens$"
expect 0 tokenize -t "$work/bpe" --decode "$work/ids.safetensors"
same "$work/out" "$text" "a file of ids back to text"
expect 0 bpe -n 300 -o "$work/more" --special "<a>" --special "<b>" \
  --min-frequency 5 "$text"
printf '<b>x <a>\n' >"$work/small"
expect 0 tokenize -t "$work/more" --tokens --allow-special "$work/small"
says out "^299	0-3	<b>$"
says out "^298	5-8	<a>$"
says out "	\\\\n$"

# What is read is not replaced: neither a folder's files nor the text.
for command in tokenize 'train --device cpu --steps 1'; do
  # shellcheck disable=SC2086 # words on purpose
  expect 1 $command --tokenizer "$work/bpe" --out "$work/bpe/vocab.json" "$text"
  says err 'vocab.json, a file of .*bpe, want another file than what is read'
done
cp "$text" "$work/more/merges.txt"
expect 1 bpe -n 300 -o "$work/more" "$work/more/merges.txt"
says err 'than what is read' && same "$work/more/merges.txt" "$text" "the text"

# ---- a model that carries its vocabulary -------------------------------------
expect 0 train --device cpu --layers 1 --heads 2 --embed 16 --context 16 \
  --steps 6 --eval-every 3 --tokenizer "$work/bpe" --out "$work/model" "$text"
says out "tokens, 400 different"
expect 0 train --device cpu --resume --steps 8 --out "$work/model" "$text"
says out "continues at step 6"
rm -r "$work/bpe"
mv "$work/model" "$work/model.safetensors"
expect 0 generate --device cpu -n 3 "$work/model.safetensors" "He had"
says out "^He had"
expect 0 tokenize -t "$work/model.safetensors" "$text"
same "$work/out" "$work/ids.vocab" "the vocabulary in a model"

# ---- pairs, and what is wrong --------------------------------------------------
printf '[PAD]\n[UNK]\n[CLS]\n[SEP]\nhello\nworld\n' >"$work/vocab.txt"
echo hello >"$work/a"
echo world >"$work/b"
expect 0 tokenize -t "$work/vocab.txt" --pair "$work/b" "$work/a"
says out "^2 4 3 5 3$"
expect 0 tokenize -t "$work/vocab.txt" "$work/a"
says out "^2 4 3$"
cp "$work/out" "$work/ids"
expect 0 tokenize -t "$work/vocab.txt" --decode "$work/ids"
says out "^\[CLS\] hello \[SEP\]"
expect 0 tokenize -t "$work/vocab.txt" --decode --bare "$work/ids"
says out "^hello"
expect 0 tokenize -t "$work/vocab.txt" --bare "$work/a"
says out "^4$"
expect 0 tokenize -t "$work/vocab.txt" --tokens "$work/a"
says out "^2	-	\[CLS\]$"
says out "^4	0-5	hello$"
expect 0 tokenize -t "$work/vocab.txt" --max-length 2 "$work/a"
says out "^2 3$"
printf 'a\377' >"$work/bad"
expect 1 tokenize -t "$work/vocab.txt" "$work/bad"
says err "$work/bad: text: not UTF-8 at byte 1"
expect 1 tokenize -t "$work/vocab.txt" -o "$work/x" "$work/bad"
says err "^clattn: $work/bad: not UTF-8 at byte 1$"
expect 0 tokenize -t "$work/vocab.txt" --invalid replace "$work/bad"
expect 1 tokenize -t "$work/vocab.txt" --max-length 1 "$work/a"
says err "^clattn: --max-length: got 1, want at least the 2 tokens"
expect 2 tokenize -t "$work/vocab.txt" --pair=- - <"$work/a"
says err "pair: got -"
# What cannot be written is said of the output.
(
  trap '' XFSZ
  ulimit -f 0
  "$clattn" tokenize -t "$work/vocab.txt" -o "$work/full" "$work/a" 2>&1
) | cat >"$work/err"
says err "^clattn: $work/full: "
# Weights without a vocabulary are no tokenizer.
mkdir "$work/weights"
cp "$work/ids.safetensors" "$work/weights/model.safetensors"
expect 1 tokenize -t "$work/weights" "$work/a"
says err "$work/weights: none of tokenizer.json, vocab.json, vocab.txt, "
expect 2 tokenize "$work/a"
says err "want --tokenizer"
expect 2 tokenize -t "$work/vocab.txt"
expect 2 tokenize -t "$work/vocab.txt" --out "$work/x" --tokens "$work/a"
expect 2 tokenize -t "$work/vocab.txt" --decode --tokens "$work/a"
expect 1 tokenize -t "$work/none" "$work/a"
says err "$work/none"
echo "4 99" >"$work/ids"
expect 1 tokenize -t "$work/vocab.txt" --decode "$work/ids"
says err "got 99"
echo "4 x" >"$work/ids"
expect 1 tokenize -t "$work/vocab.txt" --decode "$work/ids"
says err "got 'x"
printf '4 -3\n5\n' >"$work/ids"
expect 1 tokenize -t "$work/vocab.txt" --decode "$work/ids"
says err "got '-3' at byte 2, want an id$"
expect 2 bpe "$text"
expect 2 bpe -n 200 -o "$work/x" "$text"
expect 1 bpe -n 300 -o "$work/x" "$work/bad"
says err "^clattn: $work/bad: not UTF-8 at byte 1$"
expect 0 bpe -n 300 -o "$work/x" --min-frequency 1 "$work/a"
says out "tokens; no pair is left$"
expect 0 bpe -n 300 -o "$work/x" --min-frequency 9 "$work/a"
says out "no pair is left that is there 9 times$"
expect 1 bpe -n 300 -o "$work/x" "$work/none"
says err "$work/none"
expect 2 train --tokenizer "$work/vocab.txt" --tokens words "$text"
says err "without --tokens"
expect 1 train --device cpu --tokenizer "$work/none" --out "$work/y" "$text"
says err "^clattn: --tokenizer: $work/none"

exit $failed
