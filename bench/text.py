#!/usr/bin/env python3
"""Tokenizers beside tiktoken and Hugging Face's tokenizers, on one thread: first
that the ids are the same, then the processor time of each, by turns, and the ratios.
What is timed makes no Python lists: tiktoken's call is encode_to_numpy.

    CLATTN_DATA=... bench/text.py BUILD [--seconds S] [TEXT]...

The vocabularies are GPT-2's and BERT's of CLATTN_DATA; TEXT defaults to
data/northanger-abbey.txt and a text of other scripts that is made up here.
"""

import argparse
import os
import random
import sys
import time
from pathlib import Path

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT / "tests/reference")  # not this file for `tokenizers`
import tiktoken  # noqa: E402
import tokenizers  # noqa: E402
from clattn_text import Tokenizer  # noqa: E402
from tiktoken.load import data_gym_to_mergeable_bpe_ranks  # noqa: E402
from tiktoken_ext import openai_public  # noqa: E402


def other_scripts():
    """Words of five scripts, numbers, code and emoji: few of them tokens."""
    rng = random.Random(1)
    words = []
    for first, last in [(0x3b1, 0x3ca), (0x430, 0x450), (0x4e00, 0x9000),
                        (0x61, 0x7b), (0xac00, 0xd000)]:
        for _ in range(400):
            words.append("".join(chr(rng.randrange(first, last))
                                 for _ in range(rng.randrange(1, 9))))
    words += ["\n    ", "1984", "3.14159", "if (x == 0)", "\U0001f600", "don't"]
    return " ".join(rng.choice(words) for _ in range(60000))


def fastest(calls, seconds):
    """The least processor time of each call; by turns, so that they see one
    machine, however busy others keep it."""
    best = [float("inf")] * len(calls)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for i, call in enumerate(calls):
            begin = time.process_time()
            call()
            best[i] = min(best[i], time.process_time() - begin)
    return best


def run(title, text, seconds, ours, rivals):
    data = text.encode()
    ids = ours.encode(data, add_special=False)
    for name, encode, _ in rivals:
        if encode(text) != ids:
            sys.exit(f"{title}: {name} gives other ids")
    times = fastest([lambda: ours.encode_count(data)] +
                    [lambda call=call: call(text) for *_, call in rivals],
                    seconds)
    size = len(data) / 1e6
    print(f"{title}: {size:.2f} MB, {len(ids)} tokens, equal")
    print(f"  clattn      {size / times[0]:7.1f} MB/s")
    for (name, *_), seconds_of in zip(rivals, times[1:]):
        print(f"  {name:11} {size / seconds_of:7.1f} MB/s   clattn is "
              f"{seconds_of / times[0]:.2f} times as fast", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("build", type=Path)
    parser.add_argument("texts", nargs="*", type=Path)
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    data = Path(os.environ["CLATTN_DATA"]) / "data/vocab"
    gpt2, bert = data / "gpt2", data / "bert-base-uncased"
    ranks = data_gym_to_mergeable_bpe_ranks(str(gpt2 / "vocab.bpe"),
                                            str(gpt2 / "encoder.json"))
    tik = tiktoken.Encoding("gpt2", pat_str=openai_public.r50k_pat_str,
                            mergeable_ranks=ranks, special_tokens={})
    level = tokenizers.ByteLevelBPETokenizer(str(gpt2 / "encoder.json"),
                                             str(gpt2 / "vocab.bpe"))
    piece = tokenizers.BertWordPieceTokenizer(str(bert / "vocab.txt"))
    piece._tokenizer.encode_special_tokens = True
    texts = {str(path): path.read_text() for path in options.texts} or {
        "northanger-abbey": (ROOT / "data/northanger-abbey.txt").read_text(),
        "other scripts": other_scripts()}
    print(f"tiktoken {tiktoken.__version__}, tokenizers "
          f"{tokenizers.__version__}, one thread")
    for title, text in texts.items():
        run(f"GPT-2, {title}", text, options.seconds,
            Tokenizer(options.build, gpt2),
            [("tiktoken", tik.encode_ordinary,
              lambda x: tik.encode_to_numpy(x, disallowed_special=())),
             ("tokenizers", lambda x: level.encode(x).ids, level.encode)])
        run(f"BERT, {title}", text, options.seconds,
            Tokenizer(options.build, bert),
            [("tokenizers",
              lambda x: piece.encode(x, add_special_tokens=False).ids,
              lambda x: piece.encode(x, add_special_tokens=False))])


if __name__ == "__main__":
    main()
