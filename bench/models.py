#!/usr/bin/env python3
"""Sentences a second beside transformers on PyTorch.

    make models                       once: fetches the model
    bench/models.py BUILD MODEL TEXT [--sentences 1000] [--threads 1] [--rounds 7]
                    [--clock wall|cpu] [--torch-batch 32] [--tokens 4096]

MODEL is the folder of all-MiniLM-L6-v2 (or another sentence BERT), TEXT a book.
Both turn the same sentences into normalised means of their tokens, tokenizer
included, sorted by length. Each lives in a process of its own with as many threads,
asleep while the other is measured; after a warm-up and a check that all vectors
agree (largest difference below 1e-4), rounds alternate. Medians count. --clock cpu
takes CPU time instead, for one thread on a machine that others use as well.

Needs numpy, torch and transformers. Exit status: 0, or 1 if vectors differ.
"""
import argparse
import multiprocessing
import os
import re
import statistics
import sys
import time

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))


def sentences_of(path, count):
    with open(path, encoding="utf-8") as file:
        text = " ".join(file.read().split())
    found = [s for s in re.split(r"(?<=[.!?])\s+", text) if s.count(" ") >= 2]
    return found[:count]


def batches(order, lengths, tokens):
    """Sentences in that order, about so many tokens at a time."""
    start = used = 0
    for i, index in enumerate(order):
        if i > start and used + lengths[index] > tokens:
            yield order[start:i]
            start, used = i, 0
        used += lengths[index]
    yield order[start:]


class Clattn:
    def __init__(self, options):
        os.environ["CLATTN_THREADS"] = str(options.threads)
        sys.path.insert(0, os.path.join(HERE, "..", "tests", "reference"))
        import kit
        self.model = kit.Kit(options.build).load(options.model, "cpu")
        self.tokens = options.tokens

    def run(self, sentences):
        ids = [self.model.encode(s, max_length=256).ids for s in sentences]
        lengths = [len(i) for i in ids]
        vectors = np.empty((len(ids), self.model.config.embed_dim), np.float32)
        for part in batches(np.argsort(lengths, kind="stable"), lengths,
                            self.tokens):
            vectors[part] = self.model.run_batch([ids[i] for i in part]).embedding
        return vectors


class Transformers:
    def __init__(self, options):
        import torch
        import transformers
        transformers.logging.set_verbosity_error()
        torch.set_num_threads(options.threads)
        self.torch = torch
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(options.model)
        self.model = transformers.AutoModel.from_pretrained(options.model).eval()
        self.batch = options.torch_batch

    def run(self, sentences):
        torch = self.torch
        order = np.argsort([len(s) for s in sentences], kind="stable")
        vectors = np.empty((len(sentences), self.model.config.hidden_size),
                           np.float32)
        with torch.inference_mode():
            for i in range(0, len(order), self.batch):
                part = order[i : i + self.batch]
                given = self.tokenizer([sentences[j] for j in part], padding=True,
                                       truncation=True, max_length=256,
                                       return_tensors="pt")
                hidden = self.model(**given).last_hidden_state
                mask = given["attention_mask"].unsqueeze(-1).float()
                mean = (hidden * mask).sum(1) / mask.sum(1)
                vectors[part] = torch.nn.functional.normalize(mean).numpy()
        return vectors


def serve(connection, kind, options):
    contestant = kind(options)
    while (request := connection.recv()) is not None:
        wall, cpu = time.perf_counter(), time.process_time()
        vectors = contestant.run(request)
        cpu = time.process_time() - cpu
        wall = time.perf_counter() - wall
        connection.send((vectors, cpu if options.clock == "cpu" else wall))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("model")
    parser.add_argument("text")
    parser.add_argument("--sentences", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--torch-batch", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=4096)
    options = parser.parse_args()
    sentences = sentences_of(options.text, options.sentences)
    multiprocessing.set_start_method("spawn")
    workers = {}
    for kind in (Clattn, Transformers):
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.Process(target=serve,
                                          args=(theirs, kind, options), daemon=True)
        process.start()
        workers[kind.__name__] = ours

    def ask(name):
        workers[name].send(sentences)
        return workers[name].recv()

    got, want = ask("Clattn")[0], ask("Transformers")[0]
    error = float(np.abs(got - want).max())
    print("%d sentences, %d threads, %s time; largest difference %.2g" % (
        len(sentences), options.threads, options.clock, error))
    if not error < 1e-4:
        return 1
    seconds = {name: [] for name in workers}
    for _ in range(options.rounds):
        for name in workers:
            time.sleep(0.3)  # threads of the other come to rest
            seconds[name].append(ask(name)[1])
    for connection in workers.values():
        connection.send(None)
    medians = {name: statistics.median(s) for name, s in seconds.items()}
    for name, median in medians.items():
        print("%-13s %7.1f sentences/s (%.3f s; %.3f to %.3f)" % (
            name, len(sentences) / median, median, min(seconds[name]),
            max(seconds[name])))
    print("Transformers / Clattn: %.2f" % (
        medians["Transformers"] / medians["Clattn"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
