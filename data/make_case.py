#!/usr/bin/env python3
"""Writes causal_gqa.safetensors: a small attention problem and its answers.

Python's standard library only. Everything is computed in double precision from
the inputs as stored, and rounded to F32 once.

Usage: make_case.py [FILE]
"""

import json
import math
import os
import random
import struct
import sys

BATCH, Q_HEADS, KV_HEADS, ROWS, KEYS, DIM = 2, 4, 2, 5, 7, 8


def drawn(generator, n):
    """n numbers in -2..2, each an F32."""
    values = [4 * generator.random() - 2 for _ in range(n)]
    return list(struct.unpack(f"<{n}f", struct.pack(f"<{n}f", *values)))


def row_of(tensor, heads, rows, b, h, i):
    """Row i of head h of batch b of a [BATCH, heads, rows, DIM] tensor."""
    at = ((b * heads + h) * rows + i) * DIM
    return tensor[at : at + DIM]


def attend(q, k, v):
    """Y [B,Hq,Sq,D], lse [B,Hq,Sq] and weights [B,Hq,Sq,Skv]."""
    scale = 1 / math.sqrt(DIM)
    output, lse, weights = [], [], []
    for b in range(BATCH):
        for h in range(Q_HEADS):
            group = h // (Q_HEADS // KV_HEADS)
            keys = [row_of(k, KV_HEADS, KEYS, b, group, j) for j in range(KEYS)]
            values = [
                row_of(v, KV_HEADS, KEYS, b, group, j) for j in range(KEYS)
            ]
            for i in range(ROWS):
                # The last row stands at the last key; each sees those before.
                seen = KEYS - ROWS + i + 1
                query = row_of(q, Q_HEADS, ROWS, b, h, i)
                scores = [
                    scale * math.fsum(x * y for x, y in zip(query, keys[j]))
                    for j in range(seen)
                ]
                top = max(scores)
                powers = [math.exp(s - top) for s in scores]
                total = math.fsum(powers)
                row = [p / total for p in powers]
                lse.append(top + math.log(total))
                weights += row + [0.0] * (KEYS - seen)
                output += [
                    math.fsum(row[j] * values[j][d] for j in range(seen))
                    for d in range(DIM)
                ]
    return output, lse, weights


def write(path, metadata, tensors):
    """A safetensors file of F32 tensors: (name, shape, values)."""
    header, data = {"__metadata__": metadata}, b""
    for name, shape, values in tensors:
        assert math.prod(shape) == len(values), name
        begin = len(data)
        data += struct.pack(f"<{len(values)}f", *values)
        header[name] = {
            "dtype": "F32",
            "shape": shape,
            "data_offsets": [begin, len(data)],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    name = os.path.join(here, "causal_gqa.safetensors")
    generator = random.Random(1)
    q_shape = [BATCH, Q_HEADS, ROWS, DIM]
    k_shape = [BATCH, KV_HEADS, KEYS, DIM]
    q = drawn(generator, math.prod(q_shape))
    k = drawn(generator, math.prod(k_shape))
    v = drawn(generator, math.prod(k_shape))
    y, lse, weights = attend(q, k, v)
    write(
        sys.argv[1] if len(sys.argv) > 1 else name,
        {"op": "Attention", "opset": "clattn", "is_causal": "1"},
        [
            ("in.Q", q_shape, q),
            ("in.K", k_shape, k),
            ("in.V", k_shape, v),
            ("out.Y", q_shape, y),
            ("out.lse", [BATCH, Q_HEADS, ROWS], lse),
            ("out.weights", [BATCH, Q_HEADS, ROWS, KEYS], weights),
        ],
    )


if __name__ == "__main__":
    main()
