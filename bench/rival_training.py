"""The training step that is measured: forward, loss, backward, clip, AdamW, of the GPT
of clattn_gpt.h; the same model in PyTorch; and the losses in double precision.

A Training stands beside the shapes of rival_problems and has their interface.
"""
import dataclasses
import multiprocessing
import zlib

import numpy as np

STEPS = 3           # losses and norms of so many are compared
TOLERANCE = 1e-3    # of their size
BETAS, EPS, DECAY, CLIP = (0.9, 0.99), 1e-8, 0.1, 1.0


@dataclasses.dataclass(frozen=True)
class Training:
    name: str
    vocab: int
    context: int
    layers: int
    heads: int
    embed: int
    batch: int
    rate: float = 1e-3
    dtype = "f32"
    causal = training = True
    threads = None
    backward = False

    def tensors(self):
        """Extents by name: clattn_gpt_tensor's."""
        e, all_ = self.embed, {"wte.weight": (self.vocab, self.embed),
                               "wpe.weight": (self.context, self.embed)}
        norm = lambda name: all_.update({name + ".weight": (e,), name + ".bias": (e,)})
        for i in range(self.layers):
            def linear(name, out, into):
                all_[f"h.{i}.{name}.weight"] = out, into
                all_[f"h.{i}.{name}.bias"] = out,
            norm(f"h.{i}.ln_1")
            linear("attn.c_attn", 3 * e, e)
            linear("attn.c_proj", e, e)
            norm(f"h.{i}.ln_2")
            linear("mlp.c_fc", 4 * e, e)
            linear("mlp.c_proj", e, 4 * e)
        norm("ln_f")
        return all_

    @property
    def parameters(self):
        return sum(int(np.prod(extent)) for extent in self.tensors().values())

    @property
    def flops(self):
        """Of the products: 2 for each weight and token forward, 4 backward; of
        attention 2 products forward and 5 backward, of visible pairs."""
        tokens, e = self.batch * self.context, self.embed
        weights = self.layers * 12 * e**2 + self.vocab * e
        pairs = self.batch * self.context * (self.context + 1) // 2
        return 6 * tokens * weights + 14 * self.layers * pairs * e

    @property
    def bytes(self):
        """AdamW alone: four arrays read, three written."""
        return 28 * self.parameters

    def inputs(self):
        rng = np.random.default_rng(zlib.crc32(self.name.encode()))
        weights = {}
        for name, extent in self.tensors().items():
            x = rng.standard_normal(extent, np.float32)
            if len(extent) == 2:
                x *= 0.02 / ((2 * self.layers)**0.5 if "c_proj" in name else 1)
            else:
                x = ("weight" in name) + 0.1 * x
            weights[name] = np.ascontiguousarray(x, np.float32)
        ids = rng.integers(self.vocab, size=(self.batch, self.context + 1))
        return {"weights": weights,
                "inputs": np.ascontiguousarray(ids[:, :-1], np.int32),
                "targets": np.ascontiguousarray(ids[:, 1:], np.int32)}

    def history(self, run, steps):
        """What the first steps gave, from the run and the list that it fills."""
        while len(steps) < STEPS:
            run()
        return {"steps": steps[:STEPS]}

    def sample(self, result):
        return result

    def reference(self):
        """In a process of its own: PyTorch's threads must not stay in this one."""
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.apply(double_steps, (self,))

    def wrong(self, got, want):
        error = np.abs(np.array(got["steps"]) / want - 1).max()
        if not error <= TOLERANCE:
            return (f"losses and norms {got['steps']}, want {want.tolist()} within "
                    f"{TOLERANCE:g}")
        return None


SHAPES = [
    Training("train-1m", 65, 128, 4, 4, 128, 8),     # the default of clattn train
    Training("train-10m", 65, 256, 6, 6, 384, 4),    # nanoGPT's for characters
    Training("train-words", 8192, 128, 4, 4, 128, 8),
]


def double_steps(training):
    import torch
    with torch.enable_grad():
        step = torch_step(training, training.inputs(), torch.float64)
        return np.array([step() for _ in range(STEPS)])


def torch_step(training, data, dtype=None):
    """The model as one writes it in PyTorch; returns a function that takes a step and
    returns (loss, norm of the gradients)."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Attention(nn.Module):
        def __init__(self, e, heads):
            super().__init__()
            self.heads = heads
            self.c_attn, self.c_proj = nn.Linear(e, 3 * e), nn.Linear(e, e)

        def forward(self, x):
            b, t, e = x.shape
            q, k, v = (y.view(b, t, self.heads, e // self.heads).transpose(1, 2)
                       for y in self.c_attn(x).split(e, dim=2))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            return self.c_proj(y.transpose(1, 2).reshape(b, t, e))

    class Mlp(nn.Module):
        def __init__(self, e):
            super().__init__()
            self.c_fc, self.c_proj = nn.Linear(e, 4 * e), nn.Linear(4 * e, e)

        def forward(self, x):
            return self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))

    class Block(nn.Module):
        def __init__(self, e, heads):
            super().__init__()
            self.ln_1, self.ln_2 = nn.LayerNorm(e), nn.LayerNorm(e)
            self.attn, self.mlp = Attention(e, heads), Mlp(e)

        def forward(self, x):
            x = x + self.attn(self.ln_1(x))
            return x + self.mlp(self.ln_2(x))

    class Gpt(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.wte = nn.Embedding(c.vocab, c.embed)
            self.wpe = nn.Embedding(c.context, c.embed)
            self.h = nn.ModuleList(Block(c.embed, c.heads) for _ in range(c.layers))
            self.ln_f = nn.LayerNorm(c.embed)
            self.register_buffer("positions", torch.arange(c.context), persistent=False)

        def forward(self, ids, targets):
            x = self.wte(ids) + self.wpe(self.positions)
            for block in self.h:
                x = block(x)
            logits = F.linear(self.ln_f(x), self.wte.weight)
            return F.cross_entropy(logits.flatten(0, 1), targets.flatten())

    model = Gpt(training)
    model.load_state_dict({name: torch.from_numpy(x)
                           for name, x in data["weights"].items()})
    if dtype:
        model = model.to(dtype)
    inputs, targets = (torch.from_numpy(data[x]).long() for x in ("inputs", "targets"))
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(
        [{"params": [p for p in parameters if p.dim() == 2], "weight_decay": DECAY},
         {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0}],
        lr=training.rate, betas=BETAS, eps=EPS, fused=True)

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = model(inputs, targets)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        return loss.item(), norm.item()

    return step
