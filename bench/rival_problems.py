"""What is computed: the shapes, their inputs, and the answer in double precision.

A shape is one line of a text file, as `clattn bench` reads it; # starts a comment:

    name batch q_heads kv_heads q_len kv_len qk_dim v_dim f32|f16|bf16 causal|full

Causal: the last query sees the last key (row i sees j <= kv_len - q_len + i).
"""
import dataclasses
import pathlib
import re
import zlib

import numpy as np

# Far above what rounding explains (a few units of the type, times the largest
# value), far below what a wrong mask, head or scale does.
TOLERANCE = {"f32": 1e-5, "f16": 2e-3, "bf16": 1.6e-2}
BYTES = {"f32": 4, "f16": 2, "bf16": 2}


@dataclasses.dataclass(frozen=True)
class Shape:
    """One attention, or its gradients (`backward`); or a layer (`embed` > 0), a
    multi-head self-attention with its four projections, which may also return the
    mean of the weights. rival_training.Training has the same interface."""

    name: str
    batch: int
    q_heads: int
    kv_heads: int
    q_len: int
    kv_len: int
    qk_dim: int
    v_dim: int
    dtype: str = "f32"
    causal: bool = False
    embed: int = 0
    weights: bool = False
    backward: bool = False
    training = False

    @property
    def flops(self):
        """Multiplications and additions of the products, of visible pairs only."""
        pairs = self.q_len * self.kv_len
        if self.causal:
            first = self.kv_len - self.q_len + 1  # keys that row 0 sees
            pairs = sum(max(0, first + i) for i in range(self.q_len))
        dims = self.qk_dim + self.v_dim
        if self.backward:
            dims = 3 * self.qk_dim + 2 * self.v_dim
        attention = 2 * self.batch * self.q_heads * pairs * dims
        return attention + 8 * self.batch * self.q_len * self.embed**2

    @property
    def bytes(self):
        """Inputs read and outputs written, each once."""
        if self.embed:
            rows = 2 * self.batch * self.q_len * self.embed
            means = self.weights * self.batch * self.q_len * self.kv_len
            return 4 * (rows + 4 * self.embed**2 + means)
        dims = self.qk_dim + self.v_dim
        queries = self.q_heads * self.q_len * dims
        keys = self.kv_heads * self.kv_len * dims
        total = BYTES[self.dtype] * self.batch * (queries + keys)
        return 2 * total if self.backward else total

    @property
    def threads(self):
        """A line named scale-threads-N asks for N threads; else None."""
        match = re.fullmatch(r"scale-threads-(\d+)", self.name)
        return int(match[1]) if match else None

    def inputs(self):
        return inputs(self)

    def sample(self, result):
        return sample(self, result)

    def reference(self):
        return reference(self)

    def wrong(self, got, want):
        return wrong(self, got, want)


def read_shapes(path):
    shapes = []
    try:
        lines = pathlib.Path(path).read_text().splitlines()
    except OSError as error:
        raise SystemExit(f"{path}: {error.strerror}")
    for number, line in enumerate(lines, 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        try:
            name, *sizes, dtype, mask = words
            sizes = [int(size) for size in sizes]
            if dtype not in BYTES or mask not in ("causal", "full"):
                raise ValueError("type or mask")
            shapes.append(Shape(name, *sizes, dtype, mask == "causal"))
        except (ValueError, TypeError) as error:
            raise SystemExit(f"{path}:{number}: not a shape: {error}")
    return shapes


def layer_shapes():
    """The layer at GPT-2's and BERT's width, without and with its weights."""
    return [
        Shape(f"layer{'-weights' * weights}-T-{t}", 1, 12, 12, t, t, 64, 64,
              embed=768, weights=weights)
        for weights in (False, True) for t in (128, 512, 1024, 2048)
    ]


def backward_shapes():
    """Gradients where models are trained: GPT-2, BERT, ViT, Llama 3 8B, and the two
    of the training step."""
    lines = [
        ("gpt2", 1, 12, 12, 1024, 64, True), ("gpt2-full", 1, 12, 12, 1024, 64, False),
        ("bert-128", 8, 12, 12, 128, 64, False), ("bert-512", 2, 12, 12, 512, 64, False),
        ("vit-197", 4, 12, 12, 197, 64, False), ("llama3-512", 1, 32, 8, 512, 128, True),
        ("llama3-1k", 1, 32, 8, 1024, 128, True), ("train-1m", 8, 4, 4, 128, 32, True),
        ("train-10m", 4, 6, 6, 256, 64, True)]
    return [Shape(f"backward-{name}", batch, heads, kv_heads, length, length, dim, dim,
                  causal=causal, backward=True)
            for name, batch, heads, kv_heads, length, dim, causal in lines]


def to_bf16(x):
    """f32 -> the upper 16 bits, rounded to nearest even, as uint16."""
    bits = x.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bf16(x):
    return (x.astype(np.uint32) << 16).view(np.float32)


def to_f32(x):
    return from_bf16(x) if x.dtype == np.uint16 else np.asarray(x, np.float32)


def inputs(shape):
    """Arrays by name, the same in every process. bf16 as uint16.

    Attention: q [B,Hq,Sq,D], k [B,Hk,Skv,D], v [B,Hk,Skv,Dv]; backward has d_out
    [B,Hq,Sq,Dv] as well.
    Layer: x [B,T,E], wq wk wv wo [E,E] (out, in), bq bk bv bo [E]."""
    rng = np.random.default_rng(zlib.crc32(shape.name.encode()))
    draw = lambda *extent: rng.standard_normal(extent, np.float32)
    if shape.embed:
        e = shape.embed
        data = {"x": draw(shape.batch, shape.q_len, e)}
        for i in "qkvo":
            data["w" + i] = draw(e, e) / np.float32(e**0.5)
            data["b" + i] = draw(e)
        return data
    s = shape
    data = {
        "q": draw(s.batch, s.q_heads, s.q_len, s.qk_dim),
        "k": draw(s.batch, s.kv_heads, s.kv_len, s.qk_dim),
        "v": draw(s.batch, s.kv_heads, s.kv_len, s.v_dim),
    }
    if s.backward:
        data["d_out"] = draw(s.batch, s.q_heads, s.q_len, s.v_dim)
    convert = {"f32": lambda x: x, "f16": np.float16, "bf16": to_bf16}[s.dtype]
    return {name: convert(x) for name, x in data.items()}


def sampled_rows(shape):
    """(batch, head, row) that are checked: corners and a few more."""
    rng = np.random.default_rng(7)
    corners = [(0, 0, 0), (shape.batch - 1, shape.q_heads - 1, shape.q_len - 1)]
    return corners + [
        tuple(int(rng.integers(n)) for n in (shape.batch, shape.q_heads, shape.q_len))
        for _ in range(8)
    ]


def sample(shape, result):
    """The sampled rows of what a contestant returned (a layer's head is moot)."""
    if shape.backward:
        return {name: np.stack([x[at] for at in gradient_rows(shape, name)])
                for name, x in result.items()}
    if not shape.embed:
        return {"out": np.stack([to_f32(result["out"][b, h, i])
                                 for b, h, i in sampled_rows(shape)])}
    return {name: np.stack([to_f32(x[b, i]) for b, _, i in sampled_rows(shape)])
            for name, x in result.items()}


def gradient_rows(shape, name):
    """(batch, head, row) of d_q; (batch, key head, key) of d_k and d_v."""
    if name == "d_q":
        return sampled_rows(shape)
    group = shape.q_heads // shape.kv_heads
    return [(b, h // group, i * shape.kv_len // shape.q_len)
            for b, h, i in sampled_rows(shape)]


def softmax(scores):
    p = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return p / p.sum(axis=-1, keepdims=True)


def reference(shape):
    """The sampled rows in double precision, and the size that errors count in."""
    data = {name: np.float64(to_f32(x)) for name, x in inputs(shape).items()}
    if shape.embed:
        return reference_layer(shape, data)
    if shape.backward:
        return reference_gradients(shape, data)
    rows = []
    for b, h, i in sampled_rows(shape):
        g = h // (shape.q_heads // shape.kv_heads)
        seen = shape.kv_len - shape.q_len + i + 1 if shape.causal else shape.kv_len
        p = softmax(data["k"][b, g, :seen] @ data["q"][b, h, i] / shape.qk_dim**0.5)
        rows.append(p @ data["v"][b, g, :seen])
    return {"out": (np.stack(rows), np.abs(data["v"]).max())}


def reference_gradients(shape, data):
    """All rows of the key heads that are sampled."""
    group, grads = shape.q_heads // shape.kv_heads, {}
    for b, g, _ in gradient_rows(shape, "d_k"):
        if (b, g) in grads:
            continue
        k, v, d_k, d_v = data["k"][b, g], data["v"][b, g], 0, 0
        for h in range(g * group, (g + 1) * group):
            q, d_out = data["q"][b, h], data["d_out"][b, h]
            scores = q @ k.T / shape.qk_dim**0.5
            if shape.causal:
                seen = np.tri(shape.q_len, shape.kv_len, shape.kv_len - shape.q_len)
                scores = np.where(seen > 0, scores, -np.inf)
            p = softmax(scores)
            d_p = d_out @ v.T
            d_s = p * (d_p - (p * d_p).sum(axis=1, keepdims=True)) / shape.qk_dim**0.5
            d_k, d_v = d_k + d_s.T @ q, d_v + p.T @ d_out
            grads[b, h, "d_q"] = d_s @ k
        grads[b, g] = d_k, d_v
    pick = {"d_q": lambda b, h: grads[b, h, "d_q"],
            "d_k": lambda b, g: grads[b, g][0], "d_v": lambda b, g: grads[b, g][1]}
    want = {}
    for name, of in pick.items():
        rows = np.stack([of(b, h)[i] for b, h, i in gradient_rows(shape, name)])
        want[name] = rows, np.abs(rows).max()
    return want


def reference_layer(shape, data):
    outs, means = [], []
    heads = lambda x: x.reshape(*x.shape[:-1], shape.q_heads, shape.qk_dim)
    keys = {b: heads(data["x"][b] @ data["wk"].T + data["bk"]) for b in range(shape.batch)}
    values = {b: heads(data["x"][b] @ data["wv"].T + data["bv"]) for b in range(shape.batch)}
    for b, _, i in sampled_rows(shape):
        q = heads(data["x"][b, i] @ data["wq"].T + data["bq"])
        p = softmax(np.einsum("hd,thd->ht", q, keys[b]) / shape.qk_dim**0.5)
        o = np.einsum("ht,thd->hd", p, values[b]).ravel()
        outs.append(o @ data["wo"].T + data["bo"])
        means.append(p.mean(axis=0))
    want = {"out": (np.stack(outs), np.abs(outs).max())}
    if shape.weights:
        want["weights"] = (np.stack(means), np.abs(means).max())
    return want


def wrong(shape, got, want):
    """None, or what is wrong with the sampled rows. NaN is wrong."""
    tolerance = TOLERANCE[shape.dtype]
    for name, (expected, size) in want.items():
        if name not in got or got[name].shape != expected.shape:
            return f"{name}: missing or of another shape"
        error = np.abs(got[name] - expected).max() / size
        if not error <= tolerance:
            return f"{name}: error {error:.2g} of the largest value, allowed {tolerance:g}"
    return None
