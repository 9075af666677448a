#!/usr/bin/env python3
"""BERT, GPT-2 and Llama in float64, from the files of a checkpoint.

    model.py MODEL ID [ID...]       prints the last hidden state's first numbers

An implementation that shares nothing with the library, and reads the files by
itself: safetensors, and GGUF with its blocks. As a module:

    model = load(path)              a folder, or a .gguf file
    out = model.run(ids, types)     types: BERT's segments; None: all 0
    out.hidden     [layers + 1] of [n, E]: the embeddings, then after each layer
    out.attention  [layers] of [heads, n, n]
    out.last       [n, E] after the last norm, where there is one
    out.pooled     [E] BERT's pooler, or None
    out.logits     [n, V], or None

Needs Python 3 and numpy.
"""
import json
import math
import os
import struct
import sys
from types import SimpleNamespace

import numpy as np

# ---- safetensors ------------------------------------------------------------


class Safetensors:
    """Tensors of a file by name, in float64."""

    TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2",
             "I64": "<i8", "I32": "<i4", "U8": "u1"}

    def __init__(self, path):
        self.bytes = np.memmap(path, np.uint8, "r")
        (n,) = struct.unpack("<Q", self.bytes[:8].tobytes())
        self.entries = json.loads(self.bytes[8 : 8 + n].tobytes())
        self.metadata = self.entries.pop("__metadata__", {})
        self.start = 8 + n

    def __contains__(self, name):
        return name in self.entries

    def raw(self, name):
        entry = self.entries[name]
        first, end = (self.start + at for at in entry["data_offsets"])
        values = np.frombuffer(self.bytes[first:end], self.TYPES[entry["dtype"]])
        return values.reshape(entry["shape"])

    def __getitem__(self, name):
        values = self.raw(name)
        if self.entries[name]["dtype"] == "BF16":
            values = (values.astype(np.uint32) << 16).view(np.float32)
        return values.astype(np.float64)


# ---- GGUF -------------------------------------------------------------------


def halves(blocks, at):
    """The F16 numbers at byte `at` of every block, as a column."""
    return blocks[:, at : at + 2].copy().view("<f2").astype(np.float64)


def nibbles(qs):
    """All low halves of the bytes of a block, then all high ones."""
    return np.concatenate([qs & 15, qs >> 4], 1).astype(np.float64)


def fifths(blocks, at):
    return np.unpackbits(blocks[:, at : at + 4], 1, bitorder="little") * 16.0


# ggml's number: (numbers of a block, bytes of it, decoder)
BLOCKS = {
    0: (1, 4, lambda b: b.copy().view("<f4")),
    1: (1, 2, lambda b: b.copy().view("<f2")),
    2: (32, 18, lambda b: halves(b, 0) * (nibbles(b[:, 2:]) - 8)),
    3: (32, 20, lambda b: halves(b, 0) * nibbles(b[:, 4:]) + halves(b, 2)),
    6: (32, 22, lambda b: halves(b, 0) * (nibbles(b[:, 6:]) + fifths(b, 2) - 16)),
    7: (32, 24, lambda b: halves(b, 0) * (nibbles(b[:, 8:]) + fifths(b, 4))
        + halves(b, 2)),
    8: (32, 34, lambda b: halves(b, 0) * b[:, 2:].view(np.int8)),
    30: (1, 2, lambda b: (b.copy().view("<u2").astype(np.uint32) << 16)
         .view(np.float32)),
}


class Gguf:
    """Tensors of a GGUF file by name, in float64; .metadata by key."""

    NUMBERS = "BbHhIif?"  # types 0..7; 8 text, 9 list
    WIDE = {10: "Q", 11: "q", 12: "d"}

    def __init__(self, path):
        self.bytes = np.memmap(path, np.uint8, "r")
        self.at = 0
        assert bytes(self.bytes[:4]) == b"GGUF", path
        _, _, tensors, entries = self.take("<4sIQQ")
        self.metadata = {}
        for _ in range(entries):
            key = self.text()
            self.metadata[key] = self.value(self.take("<I")[0])
        self.entries = {}
        for _ in range(tensors):
            name = self.text()
            (rank,) = self.take("<I")
            shape = self.take("<%dQ" % rank)[::-1]
            self.entries[name] = (shape, *self.take("<IQ"))
        alignment = self.metadata.get("general.alignment", 32)
        self.start = -(-self.at // alignment) * alignment

    def take(self, form):
        n = struct.calcsize(form)
        values = struct.unpack(form, self.bytes[self.at : self.at + n].tobytes())
        self.at += n
        return values

    def text(self):
        (n,) = self.take("<Q")
        self.at += n
        return self.bytes[self.at - n : self.at].tobytes().decode()

    def value(self, kind):
        if kind == 8:
            return self.text()
        if kind == 9:
            item, n = self.take("<IQ")
            return [self.value(item) for _ in range(n)]
        return self.take("<" + (self.WIDE.get(kind) or self.NUMBERS[kind]))[0]

    def __contains__(self, name):
        return name in self.entries

    def __getitem__(self, name):
        shape, kind, offset = self.entries[name]
        numbers, size, decode = BLOCKS[kind]
        blocks = math.prod(shape) // numbers
        first = self.start + offset
        raw = np.asarray(self.bytes[first : first + blocks * size])
        values = decode(raw.reshape(blocks, size))
        return values.astype(np.float64).reshape(shape)


# ---- layers -----------------------------------------------------------------


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def layer_norm(x, weight, bias, eps):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight + bias


def rms_norm(x, weight, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight


erf = np.vectorize(math.erf, otypes=[float])


def gelu(x):
    return 0.5 * x * (1 + erf(x / math.sqrt(2)))


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def silu(x):
    return x / (1 + np.exp(-x))


ACTIVATIONS = {"gelu": gelu, "gelu_new": gelu_tanh,
               "gelu_pytorch_tanh": gelu_tanh, "silu": silu}


def rotate(x, base, interleaved):
    """x [heads, n, d] at positions 0..n-1."""
    n, d = x.shape[1:]
    angle = np.outer(np.arange(n), base ** (-np.arange(0, d, 2) / d))
    cos, sin = np.cos(angle), np.sin(angle)
    out = np.empty_like(x)
    if interleaved:
        a, b = x[..., 0::2], x[..., 1::2]
        out[..., 0::2], out[..., 1::2] = a * cos - b * sin, a * sin + b * cos
    else:
        a, b = x[..., : d // 2], x[..., d // 2 :]
        out[..., : d // 2], out[..., d // 2 :] = a * cos - b * sin, a * sin + b * cos
    return out


def attend(q, k, v, causal):
    """q [heads, n, d], k and v [key heads, n, d] -> [n, heads * d], weights."""
    heads, n, d = q.shape
    k, v = (np.repeat(x, heads // len(x), 0) for x in (k, v))
    scores = q @ k.transpose(0, 2, 1) / math.sqrt(d)
    if causal:
        scores = np.where(np.tri(n, dtype=bool), scores, -np.inf)
    weights = softmax(scores)
    return (weights @ v).transpose(1, 0, 2).reshape(n, heads * d), weights


def split(x, heads):
    """[n, heads * d] -> [heads, n, d]"""
    return x.reshape(len(x), heads, -1).transpose(1, 0, 2)


# ---- models -----------------------------------------------------------------


class Model:
    def __init__(self, weights, config, prefixes):
        self.weights = weights
        self.config = config
        self.prefix = next(
            (p for p in prefixes if p + self.SOME_NAME in weights), "")

    def linear(self, x, name):
        y = x @ self[name + ".weight"].T
        bias = self.prefix + name + ".bias"
        return y + self.weights[bias] if bias in self.weights else y

    def __getitem__(self, name):
        return self.weights[self.prefix + name]

    def activation(self):
        return ACTIVATIONS[self.config.get(self.ACTIVATION, self.DEFAULT)]

    def run(self, ids, types=None):
        out = SimpleNamespace(hidden=[], attention=[], pooled=None, logits=None)
        x = self.embed(np.asarray(ids), types)
        out.hidden.append(x)
        for i in range(self.layers):
            x, weights = self.layer(x, i)
            out.hidden.append(x)
            out.attention.append(weights)
        self.finish(x, out)
        return out


class Bert(Model):
    SOME_NAME = "embeddings.word_embeddings.weight"
    ACTIVATION, DEFAULT = "hidden_act", "gelu"

    def __init__(self, weights, config):
        super().__init__(weights, config, ["", "bert."])
        self.layers = config["num_hidden_layers"]

    def norm(self, x, name):
        return layer_norm(x, self[name + ".weight"], self[name + ".bias"],
                          self.config.get("layer_norm_eps", 1e-12))

    def embed(self, ids, types):
        e = "embeddings."
        types = np.zeros_like(ids) if types is None else np.asarray(types)
        x = (self[e + "word_embeddings.weight"][ids]
             + self[e + "position_embeddings.weight"][: len(ids)]
             + self[e + "token_type_embeddings.weight"][types])
        return self.norm(x, e + "LayerNorm")

    def layer(self, x, i):
        name = "encoder.layer.%d." % i
        heads = self.config["num_attention_heads"]
        q, k, v = (split(self.linear(x, name + "attention.self." + part), heads)
                   for part in ("query", "key", "value"))
        y, weights = attend(q, k, v, False)
        x = self.norm(x + self.linear(y, name + "attention.output.dense"),
                      name + "attention.output.LayerNorm")
        y = self.activation()(self.linear(x, name + "intermediate.dense"))
        x = self.norm(x + self.linear(y, name + "output.dense"),
                      name + "output.LayerNorm")
        return x, weights

    def finish(self, x, out):
        out.last = x
        if self.prefix + "pooler.dense.weight" in self.weights:
            out.pooled = np.tanh(self.linear(x[:1], "pooler.dense"))[0]


class Gpt2(Model):
    SOME_NAME = "wte.weight"
    ACTIVATION, DEFAULT = "activation_function", "gelu_new"

    def __init__(self, weights, config):
        super().__init__(weights, config, ["", "transformer."])
        self.layers = config["n_layer"]

    def norm(self, x, name):
        return layer_norm(x, self[name + ".weight"], self[name + ".bias"],
                          self.config.get("layer_norm_epsilon", 1e-5))

    def conv(self, x, name):
        """Matrices of this family are [in, out]."""
        return x @ self[name + ".weight"] + self[name + ".bias"]

    def embed(self, ids, types):
        return self["wte.weight"][ids] + self["wpe.weight"][: len(ids)]

    def layer(self, x, i):
        name = "h.%d." % i
        y = self.conv(self.norm(x, name + "ln_1"), name + "attn.c_attn")
        q, k, v = (split(part, self.config["n_head"])
                   for part in np.split(y, 3, 1))
        y, weights = attend(q, k, v, True)
        x = x + self.conv(y, name + "attn.c_proj")
        y = self.conv(self.norm(x, name + "ln_2"), name + "mlp.c_fc")
        return x + self.conv(self.activation()(y), name + "mlp.c_proj"), weights

    def finish(self, x, out):
        out.last = self.norm(x, "ln_f")
        out.logits = out.last @ self["wte.weight"].T


class Llama(Model):
    SOME_NAME = "embed_tokens.weight"
    ACTIVATION, DEFAULT = "hidden_act", "silu"
    NAMES = {}
    INTERLEAVED = False

    def __init__(self, weights, config):
        super().__init__(weights, config, ["", "model."])
        self.layers = config["num_hidden_layers"]
        scaling = config.get("rope_scaling") or config.get("rope_parameters") or {}
        assert scaling.get("rope_type", "default") == "default", scaling
        self.base = config.get("rope_theta") or scaling.get("rope_theta", 1e4)

    def norm(self, x, name):
        return rms_norm(x, self[name + ".weight"],
                        self.config.get("rms_norm_eps", 1e-6))

    def embed(self, ids, types):
        return self["embed_tokens.weight"][ids]

    def layer(self, x, i):
        name = "layers.%d." % i
        heads = self.config["num_attention_heads"]
        kv_heads = self.config.get("num_key_value_heads", heads)
        y = self.norm(x, name + "input_layernorm")
        q = split(self.linear(y, name + "self_attn.q_proj"), heads)
        k = split(self.linear(y, name + "self_attn.k_proj"), kv_heads)
        v = split(self.linear(y, name + "self_attn.v_proj"), kv_heads)
        q, k = (rotate(part, self.base, self.INTERLEAVED) for part in (q, k))
        y, weights = attend(q, k, v, True)
        x = x + self.linear(y, name + "self_attn.o_proj")
        y = self.norm(x, name + "post_attention_layernorm")
        gate = self.activation()(self.linear(y, name + "mlp.gate_proj"))
        y = gate * self.linear(y, name + "mlp.up_proj")
        return x + self.linear(y, name + "mlp.down_proj"), weights

    def finish(self, x, out):
        out.last = self.norm(x, "norm")
        head = "lm_head.weight" in self.weights
        out.logits = out.last @ (self.weights["lm_head.weight"] if head
                                 else self["embed_tokens.weight"]).T


class GgufNames:
    """Weights of a GGUF file under the names of the other kind."""

    PARTS = {"embed_tokens": "token_embd", "norm": "output_norm",
             "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q",
             "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
             "self_attn.o_proj": "attn_output",
             "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate",
             "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
             "lm_head": "output"}

    def __init__(self, file):
        self.file = file

    def name(self, name):
        part, _, end = name.rpartition(".")
        if part.startswith("layers."):
            _, i, part = part.split(".", 2)
            return "blk.%s.%s.%s" % (i, self.PARTS[part], end)
        return "%s.%s" % (self.PARTS[part], end)

    def __contains__(self, name):
        return self.name(name) in self.file

    def __getitem__(self, name):
        return self.file[self.name(name)]


class GgufLlama(Llama):
    INTERLEAVED = True  # rows of q and k are stored in that order

    def __init__(self, file):
        of = {key[len("llama."):]: value for key, value in file.metadata.items()
              if key.startswith("llama.")}
        super().__init__(GgufNames(file), {
            "num_hidden_layers": of["block_count"],
            "num_attention_heads": of["attention.head_count"],
            "num_key_value_heads": of["attention.head_count_kv"],
            "rms_norm_eps": of["attention.layer_norm_rms_epsilon"],
            "rope_theta": of.get("rope.freq_base", 1e4)})


def load(path):
    if path.endswith(".gguf"):
        file = Gguf(path)
        assert file.metadata["general.architecture"] == "llama", path
        return GgufLlama(file)
    with open(os.path.join(path, "config.json")) as file:
        config = json.load(file)
    kinds = {"bert": Bert, "gpt2": Gpt2, "llama": Llama}
    weights = Safetensors(os.path.join(path, "model.safetensors"))
    return kinds[config["model_type"]](weights, config)


def sentence_embedding(hidden):
    """The mean of the last hidden states, of length 1."""
    mean = hidden.mean(0)
    return mean / np.linalg.norm(mean)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    print(load(sys.argv[1]).run([int(i) for i in sys.argv[2:]]).last[:, :6])
