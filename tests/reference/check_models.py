#!/usr/bin/env python3
"""Checks pre-trained models of the library against model.py, in float64.

    check_models.py BUILD MODEL [MODEL...]

BUILD has libclattn_kit.so and the program; MODEL is a folder or a .gguf file. For
some texts (and pairs, for models with segments) every hidden state, every
attention weight, logits, pooler and sentence embedding must agree within

    |got - want| <= 1e-4 (|want| + rms(want))

and the files that `clattn view --export` and `clattn embed` write as well.

Needs Python 3 and numpy. Exit status: 0 agrees, 1 does not, 77 no numpy.
"""
import json
import os
import subprocess
import sys
import tempfile

try:
    import numpy as np
except ImportError:
    print("skipped: no numpy")
    sys.exit(77)

import kit as library
import model as reference

TOLERANCE = 1e-4
F16_ROUNDING = 2.0**-11  # relative, of numbers that are not tiny
F16_TINY = 2.0**-25

TEXTS = ["It was a bright cold day in April.",
         "Naïve café, 日本語 and 😀: what a day!",
         "a",
         "The quick brown fox jumps over the lazy dog. " * 6]
SENTENCES = ["A cat sat on the mat.", "", "Stock markets fell today.",
             "On the rug there was a feline, asleep in the sun of the afternoon."]


class Check:
    def __init__(self):
        self.worst, self.failed = {}, False

    def near(self, what, got, want, least=0):
        """Keeps the largest error by kind; least: added to the rms, for numbers
        that may all be 0."""
        want = np.asarray(want, np.float64)
        if got.shape != want.shape:
            sys.exit("%s: shape %s, want %s" % (what, got.shape, want.shape))
        allowed = np.abs(want) + np.sqrt((want * want).mean()) + least
        error = float((np.abs(got - want) / allowed).max())
        kind = what.split(" ")[0]
        self.worst[kind] = max(error, self.worst.get(kind, 0))
        if not error <= TOLERANCE:
            print("%s: off by %.3g, allowed %.3g" % (what, error, TOLERANCE))
            self.failed = True

    def that(self, holds, what):
        if not holds:
            print("does not hold: " + what)
            self.failed = True


def compare_run(check, model, want_model, text, pair):
    config = model.config
    encoding = model.encode(text, pair)
    types = encoding.segments if config.types > 1 else None
    wanted = ["hidden", "embedding"] + ["pooled"] * config.pooler \
        + ["all_logits"] * config.head
    got = model.run(encoding.ids, types, library.HIDDEN | library.ATTENTION,
                    wanted)
    want = want_model.run(encoding.ids, types)
    n = config.layers
    check.that(set(got.layers) == set(range(-1, n)), "layers -1..%d" % (n - 1))
    for i in range(-1, n):
        check.near("hidden of layer %d" % i, got.layers[i].hidden,
                   want.hidden[i + 1])
    for i in range(n):
        check.near("attention of layer %d" % i, got.layers[i].attention[0],
                   want.attention[i])
    check.near("last hidden states", got.hidden, want.last)
    check.near("embedding", got.embedding[0],
               reference.sentence_embedding(want.last))
    if config.pooler:
        check.near("pooled", got.pooled[0], want.pooled)
    if config.head:
        check.near("logits", got.all_logits, want.logits)
    return encoding, want


def query_key_weights(file, layer):
    """The weights of a layer that its recorded queries and keys give."""
    about = file.metadata
    query = file["query.%d" % layer].astype(np.float64)
    key = file["key.%d" % layer].astype(np.float64)
    scale = float(about.get("scale", query.shape[-1]**-0.5))
    key = np.repeat(key, len(query) // len(key), axis=0)  # shared by some heads
    scores = scale * query @ key.transpose(0, 2, 1)
    if about["causal"] == "true":
        later = np.triu(np.ones(scores.shape[1:], bool), 1)
        scores = np.where(later, -np.inf, scores)
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    return scores / scores.sum(-1, keepdims=True)


def compare_file(check, program, path, text, pair, encoding, want, work):
    """`clattn view --export`: the same weights, and what they say of a text."""
    files = [os.path.join(work, name) for name in ("text", "pair", "out")]
    for name, content in zip(files, (text, pair or "")):
        with open(name, "w", encoding="utf-8") as file:
            file.write(content)
    command = [program, "view", "--model", path, "--export", files[2],
               files[0]] + ["--pair", files[1]] * bool(pair)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    file = reference.Safetensors(files[2])
    about = file.metadata
    for key in ("ids", "begins", "ends", "segments", "added"):
        check.that(json.loads(about[key]) == list(getattr(encoding, key)), key)
    check.that(about["text"] == text and about.get("pair") == pair, "text")
    tokens = json.loads(about["tokens"])
    check.that(len(tokens) == len(encoding.ids), "tokens")
    for i, weights in enumerate(want.attention):
        got = file["attention.%d" % i]
        allowed = TOLERANCE * (weights + np.sqrt((weights**2).mean())) \
            + F16_ROUNDING * weights + F16_TINY
        check.that((np.abs(got - weights) <= allowed).all(),
                   "attention.%d of the file" % i)
        check.near("query-key of layer %d" % i, query_key_weights(file, i),
                   weights)
        logs = np.log(weights, where=weights > 0, out=np.zeros_like(weights))
        check.near("entropy of layer %d" % i, file["entropy.%d" % i],
                   -(weights * logs).sum(-1), 0.01)
        at = np.arange(len(tokens))
        check.near("distance of layer %d" % i, file["distance.%d" % i],
                   (weights * np.abs(at[:, None] - at)).sum(-1), 0.01)


def compare_embed(check, program, path, model, want_model, work):
    """`clattn embed`: vectors of lines, blank ones left out."""
    lines = os.path.join(work, "lines")
    with open(lines, "w", encoding="utf-8") as file:
        file.write("\n".join(SENTENCES) + "\n")
    out = subprocess.run([program, "embed", "--model", path, "--json", lines],
                         check=True, stdout=subprocess.PIPE).stdout
    got = [json.loads(line) for line in out.decode().splitlines()]
    kept = [(i + 1, text) for i, text in enumerate(SENTENCES) if text]
    check.that([(g["line"], g["text"]) for g in got] == kept, "lines of embed")
    batch = model.run_batch([model.encode(text).ids for _, text in kept])
    for i, (_, text) in enumerate(kept):
        want = reference.sentence_embedding(
            want_model.run(model.encode(text).ids).last)
        check.near("embed: line %d" % i, np.array(got[i]["embedding"]), want)
        check.near("batch: embedding %d" % i, batch.embedding[i], want)


def embed(program, path, lines):
    return subprocess.run([program, "embed", "--model", path, lines],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True)


def compare_settings(check, program, path, model, want_model, work):
    """Sentence Transformers' files beside a model are followed, or refused."""
    folder, lines = os.path.join(work, "model"), os.path.join(work, "lines")
    os.mkdir(folder)
    for name in os.listdir(path):
        if name not in ("modules.json", "1_Pooling"):
            os.symlink(os.path.join(os.path.abspath(path), name),
                       os.path.join(folder, name))
    with open(lines, "w", encoding="utf-8") as file:
        file.write(SENTENCES[0] + "\n")

    def put(name, content):
        os.makedirs(os.path.dirname(os.path.join(folder, name)), exist_ok=True)
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            json.dump(content, file)

    module = "sentence_transformers.models."
    put("modules.json", [{"type": module + "Transformer", "path": ""},
                         {"type": module + "Pooling", "path": "pool"}])
    put("pool/config.json", {"pooling_mode_cls_token": True,
                             "pooling_mode_mean_tokens": False})
    last = want_model.run(model.encode(SENTENCES[0]).ids).last
    run = embed(program, folder, lines)
    check.that(run.returncode == 0, "the first token is a pooling: " + run.stderr)
    check.near("first token, not normalised",
               np.array(json.loads(run.stdout)["embedding"]), last[0])
    for name, content, message in [
            ("pool/config.json", {"pooling_mode_max_tokens": True}, "max_tokens"),
            ("pool/config.json", {}, "0 pooling modes"),
            ("modules.json", [{"type": module + "Dense"}], "Dense"),
            ("modules.json", [1], "module")]:
        put(name, content)
        run = embed(program, folder, lines)
        check.that(run.returncode == 1 and message in run.stderr,
                   "%s %s is refused: %s" % (name, content, run.stderr))


def compare(build, path, work):
    check = Check()
    program = os.path.join(build, "clattn")
    model = library.Kit(build).load(path)
    want_model = reference.load(path)
    pairs = [(text, None) for text in TEXTS]
    if model.config.types > 1:
        pairs.append((TEXTS[0], TEXTS[1]))
    for text, pair in pairs:
        encoding, want = compare_run(check, model, want_model, text, pair)
        compare_file(check, program, path, text, pair, encoding, want, work)
    compare_embed(check, program, path, model, want_model, work)
    if os.path.exists(os.path.join(path, "modules.json")):
        compare_settings(check, program, path, model, want_model, work)
    model.close()
    print("%s: %s; largest errors, %g allowed:" % (
        path, "FAILED" if check.failed else "agrees", TOLERANCE))
    for kind, error in check.worst.items():
        print("  %-10s %.2g" % (kind.rstrip(":"), error))
    return check.failed


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    failed = False
    for path in sys.argv[2:]:
        with tempfile.TemporaryDirectory() as work:
            failed |= compare(sys.argv[1], path, work)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
