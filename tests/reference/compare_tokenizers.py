#!/usr/bin/env python3
"""Tokenizers beside tiktoken and Hugging Face's tokenizers: the same ids, the
same places in the text, on strings that are meant to tell them apart.

    CLATTN_DATA=... compare_tokenizers.py BUILD [--strings N] [--seed N]

Vocabularies are GPT-2's and BERT's of CLATTN_DATA, and small ones that are
learnt from data/. Exit status 77: a library is not there.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import unicodedata
from pathlib import Path

try:
    import tiktoken
    import tokenizers
    from tokenizers import (AddedToken, Tokenizer as Theirs, models, normalizers,
                            pre_tokenizers, processors, trainers)
    from tiktoken.load import data_gym_to_mergeable_bpe_ranks
    from tiktoken_ext import openai_public
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

sys.path.insert(0, str(Path(__file__).parent))
from clattn_text import Tokenizer  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]

# ---- strings ------------------------------------------------------------------

WHITE = ("\t\n\x0b\x0c\r \x1c\x1f\x85\xa0\u1680\u180e\u2000\u2003\u200a\u200b"
         "\u2028\u2029\u202f\u205f\u2060\u3000\ufeff")
# The note has a full stop: tokenizers places what canonical order moves where it
# goes to, this library where it was.
PIECES = [
    "the", " the", "Hello", "don't", "I'LL", "we've", "'S", "\u017f'\u017f",
    "it\u2019s", "naïve", "café", "cafe\u0301", "ÅNGSTRÖM", "A\u030a", "ß",
    "\u0130stanbul", "ı", "ǅ", "ﬁ", "ΑΣ", "Ω", "日本語", "中文字", "한국어", "\u1100\u1161",
    "שלום", "مرحبا", "हिन्दी", "ไทย", "\u0e33", "😀", "👩‍👩‍👧", "👍🏽", "🇩🇪", "☃️",
    "<|endoftext|>", "<|endoftext|", "<|im_start|>", "[MASK]", "[CLS]", "[UNK]",
    "[MASK", "##ing", "...", "--", "!!!", "\u037e", "\u2260", "\u1fef", "\u226e",
    "«»", "“”", "…", "$9.99", "1234567", "٣٤", "²", "Ⅷ", "½", "_", "a_b", "x\u200dy",
    "\u00ad", "\ufffd", "\x00", "\x7f", "\x1b[0m", "http://a.b/c?d=e&f",
    "e\u0301\u0323\u0327", "\u0344", "\u1e9b\u0323", "\U0001d15e.", "\u0958", "\ufb2c",
    "\u2126", "\U0002f800", "\uf900", "\U00020000", "\U000e0001", "\u3099", "か\u3099",
]


def plain_character(rng):
    """Any that every one of the libraries knows: of Unicode 12 or before."""
    while True:
        plane = rng.choice([0x80, 0x250, 0x800, 0x3000, 0x10000, 0x20000,
                            0x110000])
        point = rng.randrange(plane)
        if 0xd800 <= point < 0xe000:
            continue
        character = chr(point)
        if is_old(character):
            return character


def is_old(character):
    return OLD.get(character, True) and \
        unicodedata.category(character) != "Cn"


# Assigned by Unicode 13 to 16: what is a letter there differs from library to
# library. The ranges are those of the blocks and characters that they added.
NEW = [(0x870, 0x89f), (0x8b5, 0x8d3), (0xb55, 0xb55), (0xc3c, 0xc3c),
       (0xc5d, 0xc5d), (0xcdd, 0xcdd), (0xcf3, 0xcf3), (0xd04, 0xd04),
       (0xd81, 0xd81), (0xece, 0xece), (0x170d, 0x1715), (0x171f, 0x171f),
       (0x180f, 0x180f), (0x1abf, 0x1ace), (0x1b4c, 0x1b4c), (0x1b7d, 0x1b7f),
       (0x1dfa, 0x1dfa), (0x20c0, 0x20c0), (0x2c2f, 0x2c2f), (0x2c5f, 0x2c5f),
       (0x2e50, 0x2e5d), (0x2b97, 0x2b97), (0x31bb, 0x31bf), (0x4db6, 0x4dbf),
       (0x9ff0, 0x9fff), (0xa7c0, 0xa7dc), (0xa7c7, 0xa7ca),
       (0xa7f1, 0xa7f6), (0xa82c, 0xa82c), (0xab68, 0xab6b), (0xfbc2, 0xfbc2),
       (0xfd40, 0xfdcf), (0xfdfe, 0xfdff), (0x10000, 0x1ffff),
       (0x2a6d7, 0x2a6df), (0x2b735, 0x2b739), (0x2ebf0, 0x2ee5d),
       (0x30000, 0x323af)]
OLD = {}


def known_planes():
    """Of the supplementary planes only what Unicode 6 had already."""
    kept = [(0x10000, 0x1003f), (0x10330, 0x1034a), (0x10400, 0x1049d),
            (0x1d000, 0x1d0f5), (0x1d400, 0x1d7ff), (0x1f300, 0x1f320),
            (0x1f330, 0x1f335), (0x1f400, 0x1f43e), (0x1f442, 0x1f4f7),
            (0x1f600, 0x1f640)]
    for first, last in NEW:
        for point in range(first, last + 1):
            if not any(a <= point <= b for a, b in kept):
                OLD[chr(point)] = False


def is_ancient(text):
    """Nothing that came after Unicode 3.2, but for what is listed above:
    tokenizers sorts punctuation and marks for BERT by Unicode 8, this library
    by utf8proc's version."""
    return all(c in LISTED or unicodedata.ucd_3_2_0.category(c) != "Cn"
               for c in text)


LISTED = set("".join(PIECES) + "".join(PIECES).upper() + WHITE)


def random_string(rng):
    kind = rng.randrange(10)
    if kind == 0:  # any characters
        return "".join(plain_character(rng) for _ in range(rng.randrange(40)))
    if kind == 1:  # white space of all kinds
        return "".join(rng.choice([rng.choice(WHITE), "a", "1", "."])
                       for _ in range(rng.randrange(40)))
    if kind == 2:  # long runs
        return rng.choice(["a", " ", "\n", "!", "7", "é", "日", "😀", "\u0301",
                           "ab"]) * rng.randrange(1, 400)
    if kind == 3:  # words beside white space and apostrophes
        return "".join(rng.choice(["'", " ", "\n", "s", "t", "re", "LL", "\r\n",
                                   "x", "'d", "\t"])
                       for _ in range(rng.randrange(40)))
    return "".join(
        rng.choice([rng.choice(PIECES), " ", rng.choice(WHITE),
                    plain_character(rng), rng.choice(PIECES).upper()])
        for _ in range(rng.randrange(30)))


# ---- comparing ------------------------------------------------------------------

class Report:
    def __init__(self):
        self.failed = 0

    def compare(self, name, strings, ours, theirs, shown=3, equal=None):
        wrong = 0
        for text in strings:
            a, b = ours(text), theirs(text)
            if equal(a, b) if equal else a == b:
                continue
            wrong += 1
            if wrong <= shown:
                print(f"  {name}: {text!r}\n    ours   {a}\n    theirs {b}")
        print(f"{name}: {len(strings) - wrong} of {len(strings)} equal",
              flush=True)
        self.failed += wrong > 0


def byte_places(text, places):
    """Places in characters as places in UTF-8."""
    at = [0]
    for character in text:
        at.append(at[-1] + len(character.encode()))
    return [(at[a], at[b]) for a, b in places]


def our_places(tokenizer, text, whole_characters=False, **settings):
    """ids and places; whole_characters: as libraries have it that count in
    characters, of a token that begins or ends within one all of it."""
    data = text.encode()
    ids, begins, ends, _ = tokenizer.encode(data, places=True, **settings)
    if whole_characters:
        begins, ends = list(begins), list(ends)
        for i in range(len(ids)):
            while begins[i] > 0 and data[begins[i]] & 0xc0 == 0x80:
                begins[i] -= 1
            while ends[i] < len(data) and data[ends[i]] & 0xc0 == 0x80:
                ends[i] += 1
    return ids, list(zip(begins, ends))


def same_places(ours, theirs):
    """A space that was put in stands for no bytes here, there for those of the
    character behind it."""
    return ours[0] == theirs[0] and all(
        a == b or a[0] == a[1] for a, b in zip(ours[1], theirs[1]))


def their_places(tokenizer, text, pair=None):
    encoding = tokenizer.encode(text, pair)
    return encoding.ids, byte_places(text, encoding.offsets)


def compare_gpt2(report, build, data, strings):
    folder = data / "data/vocab/gpt2"
    ours = Tokenizer(build, folder)
    ranks = data_gym_to_mergeable_bpe_ranks(str(folder / "vocab.bpe"),
                                            str(folder / "encoder.json"))
    theirs = tiktoken.Encoding(
        "gpt2", pat_str=openai_public.r50k_pat_str, mergeable_ranks=ranks,
        special_tokens={"<|endoftext|>": 50256})
    report.compare("gpt2, tiktoken", strings,
                   lambda x: ours.encode(x.encode()), theirs.encode_ordinary)
    report.compare("gpt2, tiktoken, special", strings,
                   lambda x: ours.encode(x.encode(), allow_special=True),
                   lambda x: theirs.encode(x, allowed_special="all"))
    report.compare("gpt2, decoded", strings,
                   lambda x: ours.decode(ours.encode(x.encode())),
                   str.encode)
    report.compare(
        "gpt2, bytes", [x.encode()[1:-1] for x in strings],
        lambda x: ours.decode(ours.encode(x, invalid=2)), lambda x: x)
    other = tokenizers.ByteLevelBPETokenizer(
        str(folder / "encoder.json"), str(folder / "vocab.bpe"))
    report.compare("gpt2, tokenizers, places", strings,
                   lambda x: our_places(ours, x, True),
                   lambda x: their_places(other, x))


def compare_bert(report, build, data, strings):
    strings = list(filter(is_ancient, strings))
    vocab = data / "data/vocab/bert-base-uncased/vocab.txt"
    for lower in (True, False):
        ours = Tokenizer(build, vocab, lowercase=int(lower))
        theirs = tokenizers.BertWordPieceTokenizer(str(vocab), lowercase=lower)
        name = "bert " + ("uncased" if lower else "cased")
        theirs._tokenizer.encode_special_tokens = True
        report.compare(name + ", places", strings,
                       lambda x: our_places(ours, x),
                       lambda x: their_places(theirs, x))
        theirs._tokenizer.encode_special_tokens = False
        report.compare(name + ", special", strings,
                       lambda x: ours.encode(x.encode(), allow_special=True),
                       lambda x: theirs.encode(x).ids)
        ids = [theirs.encode(x).ids for x in strings]
        report.compare(name + ", decoded", ids,
                       lambda x: ours.decode(x, skip_special=True).decode(),
                       theirs.decode)


def compare_tiktoken_files(report, build, folder, strings):
    """Vocabularies of our own, split as other encodings split."""
    import base64
    text = ROOT / "data/northanger-abbey.txt"
    for name in ("r50k_base", "cl100k_base", "o200k_base"):
        pattern = {"r50k_base": openai_public.r50k_pat_str,
                   "cl100k_base": CL100K, "o200k_base": O200K}[name]
        learnt = Tokenizer.train(build, text, 3000)
        learnt.save(folder)
        merges = (folder / "merges.txt").read_text().splitlines()[1:]
        table = {b: i for i, b in byte_characters().items()}
        ranks = {bytes([table[c]]): i for i, c in enumerate(sorted(table))}
        for merge in merges:
            token = bytes(table[c] for c in merge.replace(" ", ""))
            ranks.setdefault(token, len(ranks))
        path = folder / f"{name}.tiktoken"
        path.write_bytes(b"".join(
            base64.b64encode(token) + b" %d\n" % rank
            for token, rank in ranks.items()))
        special = {"<|endoftext|>": len(ranks)}
        ours = Tokenizer(build, path, specials=special)
        theirs = tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks,
                                   special_tokens=special)
        report.compare(name + " pattern, tiktoken", strings,
                       lambda x: ours.encode(x.encode()),
                       theirs.encode_ordinary)
        ours.save(folder / name)
        again = Theirs.from_file(str(folder / name / "tokenizer.json"))
        again.encode_special_tokens = True
        report.compare(name + " pattern, tokenizers, as saved", strings,
                       lambda x: our_places(ours, x, True),
                       lambda x: their_places(again, x))


def byte_characters():
    """GPT-2's character of each byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return {**{b: chr(b) for b in printable},
            **{b: chr(256 + i) for i, b in enumerate(others)}}


CL100K = (r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+|"""
          r""" ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s""")
O200K = "|".join([
    r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*"""
    r"""[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
    r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"""
    r"""[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
    r"""\p{N}{1,3}""", r""" ?[^\s\p{L}\p{N}]+[\r\n/]*""", r"""\s*[\r\n]+""",
    r"""\s+(?!\S)""", r"""\s+"""])


def compare_json(report, build, folder, strings):
    """Files of Hugging Face's tokenizers, made there."""
    text = (ROOT / "data/northanger-abbey.txt").read_text()
    level, split = pre_tokenizers.ByteLevel, pre_tokenizers.Split
    regex = tokenizers.Regex
    added = [AddedToken("<mask>", lstrip=True, special=True),
             AddedToken("[R]", rstrip=True), AddedToken("the", single_word=True),
             AddedToken("  ", normalized=False)]
    makers = {
        "digits": pre_tokenizers.Sequence([
            pre_tokenizers.Digits(individual_digits=True),
            level(add_prefix_space=False, use_regex=True)]),
        "digits together": pre_tokenizers.Sequence([
            pre_tokenizers.Digits(), level(add_prefix_space=False)]),
        "prefix space": level(add_prefix_space=True),
        "digits, prefix space": pre_tokenizers.Sequence([
            pre_tokenizers.Digits(individual_digits=True),
            level(add_prefix_space=True)]),
        "no regex": level(add_prefix_space=False, use_regex=False),
        "split": pre_tokenizers.Sequence([
            split(regex(r"\p{N}{1,3}|\s+(?!\S)|\w+"), "isolated"),
            level(add_prefix_space=False, use_regex=False)]),
        "removed": pre_tokenizers.Sequence([
            split("e", "removed"), split(regex(r"[\w']+"), "removed", True),
            level(add_prefix_space=False, use_regex=False)]),
        "punctuation": pre_tokenizers.Sequence([
            pre_tokenizers.Punctuation(), pre_tokenizers.WhitespaceSplit(),
            level(add_prefix_space=False, use_regex=False)]),
    }
    for name, pre in makers.items():
        for ignore in (False, True):
            theirs = Theirs(models.BPE(ignore_merges=ignore))
            theirs.pre_tokenizer = pre
            theirs.train_from_iterator([text[:100000]], trainers.BpeTrainer(
                vocab_size=1000, show_progress=False,
                initial_alphabet=level.alphabet()))
            theirs.add_special_tokens(["<|endoftext|>"])
            if ignore:
                theirs.add_tokens(added)
            check_json(report, build, folder, f"json {name}"
                       + (", added" if ignore else ""), theirs, strings)
    for name, pre in {"whitespace": pre_tokenizers.Whitespace(),
                      "whitespace split": pre_tokenizers.WhitespaceSplit(),
                      "bert": pre_tokenizers.BertPreTokenizer()}.items():
        theirs = Theirs(models.WordLevel(unk_token="[UNK]"))
        theirs.pre_tokenizer = pre
        theirs.train_from_iterator([text], trainers.WordLevelTrainer(
            vocab_size=2000, special_tokens=["[UNK]"], show_progress=False))
        check_json(report, build, folder, f"json words {name}", theirs,
                   list(filter(is_ancient, strings)))


def check_json(report, build, folder, name, theirs, strings):
    path = folder / "tokenizer.json"
    theirs.save(str(path))
    ours = Tokenizer(build, path)
    report.compare(name, strings,
                   lambda x: our_places(ours, x, True, allow_special=True),
                   lambda x: their_places(theirs, x), equal=same_places)


def compare_templates(report, build, data, folder, strings):
    vocab = data / "data/vocab/bert-base-uncased/vocab.txt"
    pairs = [(a, b, n) for a, b, n in
             zip(strings, reversed(strings), [0, 3, 4, 7, 16, 33] * len(strings))]
    cls, sep = ("[CLS]", 101), ("[SEP]", 102)
    makers = {
        "bert": processors.BertProcessing(sep, cls),
        "roberta": processors.RobertaProcessing(sep, cls, trim_offsets=False),
        "template": processors.TemplateProcessing(
            single="[CLS] $0 [SEP] [SEP]", pair="$A:0 [SEP] $B:1 [CLS]:1",
            special_tokens=[sep, cls]),
    }
    for name, processor in makers.items():
        theirs = tokenizers.BertWordPieceTokenizer(str(vocab))._tokenizer
        theirs.post_processor = processor
        path = folder / "tokenizer.json"
        theirs.save(str(path))
        ours = Tokenizer(build, path)
        theirs.encode_special_tokens = True

        def of_ours(case):
            a, b, n = case
            if n == 3 and name == "roberta":
                n = 4  # as many as it adds
            return ours.encode(a.encode(), pair=b.encode(),
                               pair_bytes=len(b.encode()), max_length=n)

        def of_theirs(case):
            a, b, n = case
            if n == 3 and name == "roberta":
                n = 4
            theirs.no_truncation()
            if n > 0:
                theirs.enable_truncation(n)
            return theirs.encode(a, b).ids

        report.compare(f"pairs {name}", pairs, of_ours, of_theirs)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("build", type=Path)
    parser.add_argument("--strings", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    data = os.environ.get("CLATTN_DATA")
    if not data:
        print("skipped: CLATTN_DATA is not set")
        return 77
    known_planes()
    rng = random.Random(options.seed)
    strings = ["", *PIECES, *WHITE]
    while len(strings) < options.strings:
        strings.append(random_string(rng))
    report = Report()
    build, data = options.build, Path(data)
    compare_gpt2(report, build, data, strings)
    compare_bert(report, build, data, strings)
    with tempfile.TemporaryDirectory() as folder:
        compare_tiktoken_files(report, build, Path(folder), strings)
        compare_json(report, build, Path(folder), strings[:2000])
        compare_templates(report, build, data, Path(folder),
                          [x for x in strings
                           if "\0" not in x and is_ancient(x)][:2000])
    print("all equal" if report.failed == 0 else f"{report.failed} differ")
    return report.failed > 0


if __name__ == "__main__":
    sys.exit(main())
