#!/usr/bin/env python3
"""Checks `clattn train` against an implementation that shares nothing with it.

    train_curve.py INIT RUN TEXT LOG [STEPS]

INIT is what `clattn train --steps 0 --out INIT TEXT` wrote, RUN what became of a
copy of it (--resume --steps N --out RUN --log LOG). From the weights of INIT and
the settings of RUN the same model is trained here in float64, with gradients
derived by hand: the losses of the first STEPS (20) steps must agree to a relative
1e-3, and validation losses, where the log has them. Characters only, without
dropout.

Needs Python 3 and numpy. Exit status: 0 agrees, 1 does not, 77 no numpy.
"""
import csv
import json
import math
import struct
import sys

try:
    import numpy as np
except ImportError:
    print("skipped: no numpy")
    sys.exit(77)

TOLERANCE = 1e-3


# ---- files ------------------------------------------------------------------


def read_safetensors(path):
    with open(path, "rb") as file:
        data = file.read()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__", {})
    types = {"F32": "<f4", "U8": "u1"}
    tensors = {}
    for name, entry in header.items():
        first, last = (8 + length + at for at in entry["data_offsets"])
        values = np.frombuffer(data[first:last], types[entry["dtype"]])
        tensors[name] = values.reshape(entry["shape"])
    return tensors, metadata


# ---- batches: MT19937, Fisher and Yates from the front ----------------------


class Twister:
    def __init__(self, seed):
        self.bits = np.random.MT19937()
        state = [seed]
        for i in range(1, 624):
            before = state[-1]
            state.append((1812433253 * (before ^ before >> 30) + i) & 0xFFFFFFFF)
        self.bits.state = {
            "bit_generator": "MT19937",
            "state": {"key": np.array(state, np.uint32), "pos": 624},
        }

    def next(self):
        return int(self.bits.random_raw())


def batches(ids, length, stride, batch, seed):
    """Endless: shuffled windows, an incomplete last batch left out."""
    twister = Twister(seed)
    n = (len(ids) - length - 1) // stride + 1
    while True:
        order = list(range(n))
        for i in range(n - 1):
            j = i + twister.next() % (n - i)
            order[i], order[j] = order[j], order[i]
        for first in range(0, n - batch + 1, batch):
            starts = [w * stride for w in order[first : first + batch]]
            yield (
                np.stack([ids[s : s + length] for s in starts]),
                np.stack([ids[s + 1 : s + 1 + length] for s in starts]),
            )


# ---- the model, forward and backward ----------------------------------------


def norm(x, w, b):
    centred = x - x.mean(-1, keepdims=True)
    rstd = 1 / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    hat = centred * rstd
    return hat * w + b, (hat, rstd, w)


def norm_back(dy, saved):
    hat, rstd, w = saved
    axes = tuple(range(dy.ndim - 1))
    dhat = dy * w
    dx = rstd * (
        dhat
        - dhat.mean(-1, keepdims=True)
        - hat * (dhat * hat).mean(-1, keepdims=True)
    )
    return dx, (dy * hat).sum(axes), dy.sum(axes)


def linear_back(dy, x, w):
    """dx, dw, db of y = x w^T + b."""
    rows, inputs = dy.reshape(-1, dy.shape[-1]), x.reshape(-1, x.shape[-1])
    return dy @ w, rows.T @ inputs, rows.sum(0)


GELU = math.sqrt(2 / math.pi)


def gelu(x):
    return x / 2 * (1 + np.tanh(GELU * (x + 0.044715 * x**3)))


def gelu_back(dy, x):
    t = np.tanh(GELU * (x + 0.044715 * x**3))
    slope = GELU * (1 + 3 * 0.044715 * x**2)
    return dy * ((1 + t) / 2 + x / 2 * (1 - t**2) * slope)


class Model:
    def __init__(self, tensors, layers, heads):
        self.p = {n: v.astype(np.float64) for n, v in tensors.items()}
        self.layers, self.heads = layers, heads

    def split(self, x):
        b, t, e = x.shape
        return x.reshape(b, t, self.heads, e // self.heads).swapaxes(1, 2)

    @staticmethod
    def join(x):
        b, h, t, d = x.shape
        return x.swapaxes(1, 2).reshape(b, t, h * d)

    def loss(self, ids, targets, backward=True):
        p, grads = self.p, {}
        b, t = ids.shape
        future = np.triu(np.ones((t, t), bool), 1)
        x = p["wte.weight"][ids] + p["wpe.weight"][:t]
        saved = []
        for l in range(self.layers):
            w = {k[len(f"h.{l}.") :]: v for k, v in p.items()
                 if k.startswith(f"h.{l}.")}
            a, norm1 = norm(x, w["ln_1.weight"], w["ln_1.bias"])
            qkv = a @ w["attn.c_attn.weight"].T + w["attn.c_attn.bias"]
            q, k, v = (self.split(part) for part in np.split(qkv, 3, -1))
            scale = 1 / math.sqrt(q.shape[-1])
            s = np.where(future, -np.inf, scale * q @ k.swapaxes(2, 3))
            s = np.exp(s - s.max(-1, keepdims=True))
            s /= s.sum(-1, keepdims=True)
            o = self.join(s @ v)
            x = x + o @ w["attn.c_proj.weight"].T + w["attn.c_proj.bias"]
            m, norm2 = norm(x, w["ln_2.weight"], w["ln_2.bias"])
            f = m @ w["mlp.c_fc.weight"].T + w["mlp.c_fc.bias"]
            g = gelu(f)
            x = x + g @ w["mlp.c_proj.weight"].T + w["mlp.c_proj.bias"]
            saved.append((w, a, norm1, q, k, v, scale, s, o, m, norm2, f, g))
        y, norm3 = norm(x, p["ln_f.weight"], p["ln_f.bias"])
        logits = y @ p["wte.weight"].T
        logits -= logits.max(-1, keepdims=True)
        log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        at = np.indices(ids.shape)
        mean = -log_p[at[0], at[1], targets].mean()
        if not backward:
            return mean, None

        d = np.exp(log_p)
        d[at[0], at[1], targets] -= 1
        d /= ids.size
        d, grads["wte.weight"], _ = linear_back(d, y, p["wte.weight"])
        d, grads["ln_f.weight"], grads["ln_f.bias"] = norm_back(d, norm3)
        for l in reversed(range(self.layers)):
            w, a, norm1, q, k, v, scale, s, o, m, norm2, f, g = saved[l]
            r = {}
            dg, r["mlp.c_proj.weight"], r["mlp.c_proj.bias"] = linear_back(
                d, g, w["mlp.c_proj.weight"])
            dm, r["mlp.c_fc.weight"], r["mlp.c_fc.bias"] = linear_back(
                gelu_back(dg, f), m, w["mlp.c_fc.weight"])
            dx, r["ln_2.weight"], r["ln_2.bias"] = norm_back(dm, norm2)
            d = d + dx
            do, r["attn.c_proj.weight"], r["attn.c_proj.bias"] = linear_back(
                d, o, w["attn.c_proj.weight"])
            do = self.split(do)
            ds = do @ v.swapaxes(2, 3)
            ds = scale * s * (ds - (ds * s).sum(-1, keepdims=True))
            dqkv = np.concatenate(
                [self.join(part) for part in
                 (ds @ k, ds.swapaxes(2, 3) @ q, s.swapaxes(2, 3) @ do)], -1)
            da, r["attn.c_attn.weight"], r["attn.c_attn.bias"] = linear_back(
                dqkv, a, w["attn.c_attn.weight"])
            dx, r["ln_1.weight"], r["ln_1.bias"] = norm_back(da, norm1)
            d = d + dx
            grads.update((f"h.{l}.{name}", value) for name, value in r.items())
        np.add.at(grads["wte.weight"], ids, d)
        grads["wpe.weight"] = np.zeros_like(p["wpe.weight"])
        grads["wpe.weight"][:t] = d.sum(0)
        return mean, grads


class AdamW:
    def __init__(self, model, decay, clip):
        self.model, self.decay, self.clip, self.step = model, decay, clip, 0
        self.m = {n: np.zeros_like(v) for n, v in model.p.items()}
        self.v = {n: np.zeros_like(v) for n, v in model.p.items()}

    def update(self, grads, lr, beta1=0.9, beta2=0.99, eps=1e-8):
        self.step += 1
        size = math.sqrt(sum((g**2).sum() for g in grads.values()))
        factor = min(1, self.clip / (size + 1e-6)) if self.clip > 0 else 1
        for name, p in self.model.p.items():
            g, m, v = grads[name] * factor, self.m[name], self.v[name]
            if p.ndim == 2:
                p -= lr * self.decay * p
            m += (1 - beta1) * (g - m)
            v += (1 - beta2) * (g * g - v)
            p -= (lr * (m / (1 - beta1**self.step))
                  / (np.sqrt(v / (1 - beta2**self.step)) + eps))


def rate(step, warmup, total, high, low):
    if step < warmup:
        return high * (step + 1) / warmup
    if step >= total:
        return low
    part = (step - warmup) / max(1, total - warmup)
    return low + (high - low) * (1 + math.cos(math.pi * part)) / 2


# ---- the comparison ---------------------------------------------------------


def main():
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    tensors, _ = read_safetensors(sys.argv[1])
    _, metadata = read_safetensors(sys.argv[2])
    with open(sys.argv[3], encoding="utf-8", newline="") as file:
        text = file.read()
    with open(sys.argv[4], newline="") as file:
        rows = list(csv.DictReader(file))
    steps = int(sys.argv[5]) if len(sys.argv) > 5 else 20

    def setting(name, kind=int):
        return kind(metadata["train." + name])

    characters = bytes(tensors["tokens.text"]).decode("utf-8")
    number = {c: i for i, c in enumerate(characters)}
    if characters != "".join(sorted(set(text))):
        sys.exit("the vocabulary is not that of the text")
    ids = np.array([number[c] for c in text])
    training = len(ids) - int(len(ids) * setting("validation", float))
    weights = {n: v for n, v in tensors.items()
               if n != "tokens.text" and not n.startswith("adam.")}
    model = Model(weights, setting("layers"), setting("heads"))
    length = setting("context")
    source = batches(ids[:training], length, setting("stride"),
                     setting("batch"), setting("seed"))
    adam = AdamW(model, setting("weight-decay", float), setting("clip", float))

    def close(what, got, want):
        nonlocal worst, good
        off = abs(got - want) / abs(want)
        worst = max(worst, off)
        if not off <= TOLERANCE:
            good = False
            print(f"{what}: the log has {got:.6f}, here it is {want:.6f}")

    worst, good = 0.0, len(rows) >= steps
    if not good:
        print(f"the log has {len(rows)} steps, want {steps}")
    micro = setting("accumulate")
    for step, row in enumerate(rows[:steps]):
        parts = [model.loss(*next(source)) for _ in range(micro)]
        close(f"step {step + 1}: loss", float(row["loss"]),
              sum(part[0] for part in parts) / micro)
        adam.update({n: sum(part[1][n] for part in parts) / micro
                     for n in parts[0][1]}, rate(step, setting("warmup"), setting("steps"),
                          setting("lr", float), setting("min-lr", float)))
        if row["validation_loss"]:
            starts = range(0, len(ids) - training - length, length)
            rest = ids[training:]
            want = np.mean([
                model.loss(rest[None, s : s + length],
                           rest[None, s + 1 : s + 1 + length], False)[0]
                for s in starts])
            close(f"step {step + 1}: validation loss",
                  float(row["validation_loss"]), want)
    if good:
        print(f"{steps} steps agree, to a relative {worst:.1e}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
