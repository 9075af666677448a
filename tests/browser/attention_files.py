"""Attention files for the tests of the page, written from the description in
include/clattn_attention.h alone: numpy, and no part of clattn."""

import json
import struct

import numpy as np

CODES = {"float16": "F16", "float32": "F32", "int32": "I32"}


def write_safetensors(path, tensors, metadata):
    header = {"__metadata__": metadata}
    at = 0
    for name, array in tensors.items():
        header[name] = {"dtype": CODES[array.dtype.name],
                        "shape": list(array.shape),
                        "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for array in tensors.values():
            file.write(np.ascontiguousarray(array).tobytes())


class Side:
    """The tokens of rows or of keys."""

    def __init__(self, texts, begins=None, ends=None, segments=None,
                 added=None):
        self.texts = texts
        self.begins, self.ends = begins, ends
        self.segments = segments or [0] * len(texts)
        self.added = added or [0] * len(texts)

    def metadata(self, prefix):
        values = {"length": str(len(self.texts)),
                  "tokens": json.dumps(self.texts),
                  "segments": json.dumps(self.segments),
                  "added": json.dumps(self.added)}
        if self.begins is not None:
            values["begins"] = json.dumps(self.begins)
            values["ends"] = json.dumps(self.ends)
        return {prefix + name: value for name, value in values.items()}


class Part:
    """Queries [L][H, n, D] and keys [L][G, m, D]; from them, weights."""

    def __init__(self, rows, query, key, kind="encoder", keys=None, window=0,
                 name="", record=("attention", "query", "key"),
                 dtype=np.float16, top=0, map_block=0, bias=0.0):
        self.rows, self.keys = rows, keys or rows
        self.query, self.key = query, key
        self.kind, self.name, self.window = kind, name, window
        self.cross = kind == "cross"
        self.causal = kind == "decoder"
        self.layers = len(query)
        self.heads, self.n, self.dim = query[0].shape
        self.kv_heads, self.m, _ = key[0].shape
        self.scale = self.dim ** -0.5
        self.record, self.dtype = record, dtype
        self.top, self.map_block = top, map_block
        self.bias = bias  # what the file does not say of the scores

    def visible(self):
        i = np.arange(self.n)[:, None] + self.m - self.n
        j = np.arange(self.m)[None]
        seen = np.ones((self.n, self.m), bool)
        if self.causal:
            seen &= j <= i
        if self.window:
            seen &= j > i - self.window
        return seen

    def scores(self, layer, stage="masked"):
        """[H, n, m] in double."""
        key = np.repeat(self.key[layer], self.heads // self.kv_heads, axis=0)
        raw = np.einsum("hnd,hmd->hnm", self.query[layer].astype(np.float64),
                        key.astype(np.float64))
        if stage == "raw":
            return raw
        scaled = raw * self.scale
        if stage == "scaled":
            return scaled
        return np.where(self.visible(), scaled, -np.inf)

    def exact_weights(self, layer, temperature=1.0):
        s = (self.scores(layer) +
             self.bias * np.cos(np.arange(self.m))) / temperature
        e = np.exp(s - s.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)

    def has_scores(self):
        return "query" in self.record

    def weights(self, layer, temperature=1.0):
        """What the page has to show: recorded weights if it cannot know better."""
        if self.has_scores() and self.bias == 0:
            return self.exact_weights(layer, temperature)
        p = self.exact_weights(layer).astype(self.dtype).astype(np.float64)
        if temperature == 1:
            return p
        p = p ** (1 / temperature)
        return p / p.sum(-1, keepdims=True)

    def block_map(self, layer):
        """[H, ceil(n/B), ceil(m/B)]: means over rows of sums over keys."""
        w, B = self.exact_weights(layer), self.map_block
        rows = [w[:, i:i + B].mean(1) for i in range(0, self.n, B)]
        w = np.stack(rows, 1)
        return np.stack([w[:, :, j:j + B].sum(-1)
                         for j in range(0, self.m, B)], 2)

    def tensors(self):
        prefix = self.name + "." if self.name else ""
        made = {}
        for layer in range(self.layers):
            for name in self.record:
                made[f"{prefix}{name}.{layer}"] = self.tensor(name, layer)
        return made

    def tensor(self, name, layer):
        if name in ("query", "key"):
            return getattr(self, name)[layer].astype(np.float32)
        if name == "map":
            return self.block_map(layer).astype(np.float32)
        w = self.exact_weights(layer)
        if name == "attention":
            return w.astype(self.dtype)
        if name == "entropy":
            return entropy(w).astype(np.float32)
        if name == "distance":
            return distance(w).astype(np.float32)
        order = np.argsort(-w, axis=-1, kind="stable")[..., :self.top]
        best = np.take_along_axis(w, order, -1)
        if name == "top_keys":
            return np.where(best > 0, order, -1).astype(np.int32)
        assert name == "top_weights", name
        return best.astype(np.float32)

    def metadata(self):
        prefix = self.name + "." if self.name else ""
        values = {"kind": self.kind, "causal": json.dumps(self.causal),
                  "layers": str(self.layers), "heads": str(self.heads),
                  "kv_heads": str(self.kv_heads), "head_dim": str(self.dim)}
        if self.window:
            values["window"] = str(self.window)
        if "top_keys" in self.record:
            values["top"] = str(self.top)
        if "map" in self.record:
            values["map_block"] = str(self.map_block)
        made = {prefix + name: value for name, value in values.items()}
        made.update(self.rows.metadata(prefix))
        if self.cross:
            made.update(self.keys.metadata(prefix + "key_"))
        return made


def entropy(w):
    with np.errstate(divide="ignore", invalid="ignore"):
        return -np.where(w > 0, w * np.log(w), 0).sum(-1)


def distance(w):
    n, m = w.shape[-2:]
    return (w * np.abs(np.arange(n)[:, None] - np.arange(m)[None])).sum(-1)


class File:
    def __init__(self, model, parts, text="", pair=None):
        self.model, self.parts, self.text, self.pair = model, parts, text, pair

    def write(self, path):
        metadata = {"format": "clattn.attention 1", "model": self.model,
                    "text": self.text}
        if self.pair is not None:
            metadata["pair"] = self.pair
        if self.parts[0].name:
            metadata["parts"] = json.dumps([part.name for part in self.parts])
        tensors = {}
        for part in self.parts:
            metadata.update(part.metadata())
            tensors.update(part.tensors())
        write_safetensors(path, tensors, metadata)


# ---- what the tests look at ---------------------------------------------------


def random_heads(seed, layers, heads, kv_heads, n, m, dim):
    """Queries and keys whose heads differ: some look near, some at the first."""
    rng = np.random.default_rng(seed)
    angle = 200.0 ** -(np.arange(dim // 2) / (dim // 2))

    def places(at):
        at = at[:, None] * angle
        return np.concatenate([np.cos(at), np.sin(at)], 1)

    queries, keys = [], []
    for _ in range(layers):
        key = rng.normal(size=(kv_heads, m, dim)) * 0.6
        key += 1.5 * places(np.arange(m))
        query = rng.normal(size=(heads, n, dim))
        for h in range(heads):
            shift = rng.integers(-3, 2)
            query[h] += rng.uniform(0, 2) * places(np.arange(n) + shift)
            if h % 3 == 2:
                query[h] += key[h // (heads // kv_heads), 0]
        queries.append(query.astype(np.float32))
        keys.append(key.astype(np.float32))
    return queries, keys


def places_of(texts):
    begins, ends, at = [], [], 0
    for text in texts:
        begins.append(at)
        at += len(text.encode())
        ends.append(at)
    return begins, ends


PAIR_TOKENS = ("[CLS] the rabbit ho ##pped over the fence . [SEP] it landed un "
               "##bel ##ie ##va ##bly well [SEP]").split()


def pair_file(model="a BERT", seed=1, bias=0.0, layers=3, heads=4):
    """A sentence pair of WordPiece, added tokens, no causal rule."""
    n = len(PAIR_TOKENS)
    segments = [0] * 10 + [1] * (n - 10)
    added = [int(text.startswith("[")) for text in PAIR_TOKENS]
    begins, ends, at = [], [], 0
    for i, text in enumerate(PAIR_TOKENS):
        if i == 10:
            at = 0
        if added[i]:
            begins.append(0)
            ends.append(0)
            continue
        piece = text[2:] if text.startswith("##") else text
        if not text.startswith("##") and i not in (1, 10) and text != ".":
            at += 1
        begins.append(at)
        at += len(piece)
        ends.append(at)
    side = Side(PAIR_TOKENS, begins, ends, segments, added)
    query, key = random_heads(seed, layers, heads, heads, n, n, 16)
    return File(model, [Part(side, query, key, bias=bias)],
                "the rabbit hopped over the fence.",
                "it landed unbelievably well")


CAUSAL_TOKENS = [" Catherine", " was", " di", "sapp", "ointed", ";", " the",
                 " rain", " had", " be", "g", "un", "\n", "Mrs", ".", " All",
                 "en", " said", ":", ' "', "I", " do", "n", "'t", " \t", "."]


def causal_file(window=0, **options):
    """Grouped queries, byte-level tokens with leading spaces."""
    n = len(CAUSAL_TOKENS)
    query, key = random_heads(2, 2, 6, 2, n, n, 8)
    side = Side(CAUSAL_TOKENS, *places_of(CAUSAL_TOKENS))
    part = Part(side, query, key, kind="decoder", window=window, **options)
    return File("a causal model", [part], "".join(CAUSAL_TOKENS))


def translation_file():
    """Three parts of unequal layers; rows and keys of cross are others."""
    source, target = list("3rd of May 98"), ["<begin>"] + list("1998-05-03")
    s = Side(source, *places_of(source))
    begins, ends = places_of([""] + target[1:])
    t = Side(target, begins, ends, [1] * 11, [1] + [0] * 10)
    parts = []
    for i, (name, rows, keys, layers) in enumerate(
            [("encoder", s, None, 3), ("decoder", t, None, 2),
             ("cross", t, s, 2)]):
        n, m = len(rows.texts), len((keys or rows).texts)
        query, key = random_heads(30 + i, layers, 4, 2, n, m, 8)
        parts.append(Part(rows, query, key, kind=name, keys=keys, name=name))
    return File("dates", parts, "".join(source), "1998-05-03")


PIECES = [("\u65e5", b"\xe6\x97\xa5"), ("<E6 9C>", b"\xe6\x9c"),
          ("<AC>", b"\xac"), (" Caf", b" Caf"), ("<C3>", b"\xc3"),
          ("<A9>s", b"\xa9s"), (" e", b" e"), ("r", b"r")]


def pieces_file():
    """Byte-level tokens that end within characters."""
    begins = np.cumsum([0] + [len(piece) for _, piece in PIECES]).tolist()
    n = len(PIECES)
    query, key = random_heads(8, 1, 2, 2, n, n, 8)
    side = Side([text for text, _ in PIECES], begins[:-1], begins[1:])
    part = Part(side, query, key, kind="decoder")
    return File("bytes", [part], b"".join(p for _, p in PIECES).decode())


HOSTILE_TOKENS = [
    "[CLS]", "</script><img src=x onerror=window.pwned=1>", "<!--", "]]>",
    "--><script>window.pwned=2</script>", "\u202eabc", "\u200fabc",
    "a\u0301\u0302\u0303", "\u65e5\u672c\u8a9e",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467",
    "\u0627\u0644\u0639\u0631\u0628\u064a\u0629", "", "\x07", "\x1b[31mred",
    "\u2028", "&lt;b&gt;", "';alert(1)//", '"', " ", "  ", "\ufffd",
    "=1+1", ",\n\"", "javascript:alert(1)", "x" * 300, "[SEP]"]


def hostile_file():
    n = len(HOSTILE_TOKENS)
    query, key = random_heads(4, 2, 3, 3, n, n, 8)
    side = Side(HOSTILE_TOKENS, added=[1] + [0] * (n - 2) + [1])
    return File("</title></script><script>window.pwned=3</script>",
                [Part(side, query, key)],
                "</script><img src=x onerror=window.pwned=4>\u2028<!--")


def large_file(tokens=512, layers=12, heads=12):
    """What has to stay quick."""
    texts = ["[CLS]"] + [f"word{i}" for i in range(tokens - 2)] + ["[SEP]"]
    query, key = random_heads(5, layers, heads, heads, tokens, tokens, 64)
    side = Side(texts, added=[1] + [0] * (tokens - 2) + [1])
    return File(f"{tokens} tokens, {layers} x {heads}",
                [Part(side, query, key, record=("query", "key"))],
                " ".join(texts))


def mapped_file(tokens=300):
    """A text of which only maps, heaviest keys and statistics were recorded."""
    texts = [f" t{i}" for i in range(tokens)]
    query, key = random_heads(6, 2, 2, 2, tokens, tokens, 16)
    part = Part(Side(texts), query, key, kind="decoder", top=4, map_block=16,
                record=("entropy", "distance", "top_keys", "top_weights",
                        "map"))
    return File("a long text", [part], "".join(texts))


def long_file(tokens=1500):
    """More tokens than the page makes matrices of."""
    texts = [f" t{i}" for i in range(tokens)]
    query, key = random_heads(7, 2, 2, 1, tokens, tokens, 8)
    part = Part(Side(texts), query, key, kind="decoder",
                record=("query", "key"))
    return File("a longer text", [part], "".join(texts))
