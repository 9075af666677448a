"""Text from a GGUF model by `clattn generate` and by transformers, one after the
other: the same greedy text first, then tokens a second.

    bench/generation.py [--tokens N] [--threads N] [--dtype f32] CLATTN MODEL.gguf

CLATTN is the program, MODEL.gguf one that both read."""

import argparse
import os
import re
import subprocess
import time

import torch
import transformers

PROMPT = (
    "It was the best of times, it was the worst of times, it was the age of "
    "wisdom, it was the age of foolishness, it was the epoch of belief, it was"
)
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def ours(options):
    """Text, and tokens a second of the prompt and of what follows."""
    command = [options.clattn, "generate", "--device", "cpu", "--greedy"]
    command += ["--tokens", str(options.tokens), "--dtype", options.dtype]
    run = subprocess.run(
        command + [options.model, PROMPT],
        env=dict(os.environ, CLATTN_THREADS=str(options.threads)),
        capture_output=True,
        check=True,
        text=True,
    )
    speeds = re.findall(r"([0-9.e+]+) tokens/s", run.stderr)
    return run.stdout.rstrip("\n"), float(speeds[0]), float(speeds[1])


def load(options):
    place = {
        "pretrained_model_name_or_path": os.path.dirname(options.model),
        "gguf_file": os.path.basename(options.model),
    }
    tokenizer = transformers.AutoTokenizer.from_pretrained(**place)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        **place, dtype=DTYPES[options.dtype]
    )
    return tokenizer, model.eval()


def theirs(options, tokenizer, model):
    ids = tokenizer(PROMPT, return_tensors="pt").input_ids
    made = ids[0].tolist()
    begin = time.perf_counter()
    out = model(ids, use_cache=True, logits_to_keep=1)
    middle = time.perf_counter()
    for step in range(options.tokens):
        token = out.logits[:, -1:].argmax(-1)
        made.append(token.item())
        if step + 1 < options.tokens:
            out = model(token, past_key_values=out.past_key_values)
    end = time.perf_counter()
    return (
        tokenizer.decode(made),
        ids.shape[1] / (middle - begin),
        (options.tokens - 1) / (end - middle),
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", choices=DTYPES, default="f32")
    parser.add_argument("clattn")
    parser.add_argument("model")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tokenizer, model = load(options)
    best = [[0, 0], [0, 0]]
    with torch.no_grad():
        for _ in range(options.rounds):
            a, b = ours(options), theirs(options, tokenizer, model)
            if options.dtype == "f32" and a[0] != b[0]:
                raise SystemExit(f"texts differ:\n{a[0]}\n{b[0]}")
            for side, found in enumerate((a, b)):
                for i in range(2):
                    best[side][i] = max(best[side][i], found[1 + i])
    for i, what in enumerate(("prompt", "tokens")):
        mine, other = best[0][i], best[1][i]
        print(
            f"{what}: clattn {mine:.1f}/s, transformers {other:.1f}/s, "
            f"{mine / other:.2f}x ({options.dtype}, {options.threads} threads, "
            f"best of {options.rounds})"
        )


if __name__ == "__main__":
    main()
