#!/usr/bin/env python3
"""Pictures of what bench/rivals.py measured.

    bench/plot.py --out FOLDER RESULTS.json [RESULTS.json ...]

    ratios.png       how much longer each rival takes, by shape
    fractions.png    what part of the machine's probe each reaches, by shape
    scale-T.png ...  time against T, heads, batch, D or threads, of shapes named
                     scale-T-256, scale-heads-8, scale-batch-4, scale-D-72,
                     scale-threads-1; also of those in shapes/scaling.txt (length-256,
                     cache-1024, dim-72, ...) and of the layer (layer-T-512)

Of a shape that stands in several files the last one counts.
"""
import argparse
import collections
import json
import os
import re

import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

OURS = "clattn"
# Okabe and Ito's colours, told apart by shape as well; black is clattn.
STYLES = [("#E69F00", "s"), ("#56B4E9", "^"), ("#009E73", "D"), ("#CC79A7", "v"),
          ("#0072B2", "P"), ("#D55E00", "X"), ("#999999", "*")]
TOKENS, SIZE = "sequence length (tokens)", "head size (elements)"
SCALES = {"T": TOKENS, "length": TOKENS, "causal": TOKENS + ", causal",
          "cache": "keys in the cache, one query", "queries": "queries on 4096 keys",
          "heads": "heads", "grouped": "query heads on 4 key heads",
          "batch": "batch size", "D": SIZE, "dim": SIZE, "threads": "threads",
          "layer-T": TOKENS + ", the layer of 768",
          "layer-weights-T": TOKENS + ", the layer of 768 with weights"}
SCALE_NAME = re.compile(rf"(?:scale-)?({'|'.join(SCALES)})-(\d+)")


def load(paths):
    """Rows by (shape, contestant), in the order of the files."""
    rows = {}
    for path in paths:
        with open(path) as file:
            for row in json.load(file):
                row["who"] = row.get("rival") or OURS
                rows[row["name"], row["who"]] = row
    return rows


def styles(rows):
    rivals = list(dict.fromkeys(who for _, who in rows if who != OURS))
    style = {who: STYLES[i % len(STYLES)] for i, who in enumerate(rivals)}
    return {OURS: ("black", "o"), **style}


def versions(rows):
    return {who: row["version"] for (_, who), row in rows.items() if row.get("version")}


def device(rows):
    """Below every picture: what it was measured on."""
    ours = [row for (_, who), row in rows.items() if who == OURS]
    threads = sorted({row["threads"] for row in ours})
    clock = " (CPU time)" if any(row.get("clock") == "cpu" for row in ours) else ""
    return (f"clattn on {ours[0]['device']}, threads: "
            f"{', '.join(map(str, threads))}{clock}" if ours else "")


def plain(value, _):
    return f"{value:g}"


def by_shape(rows, key, path, title, label, line, log):
    """One row of marks a shape; shapes from top to bottom as in the file."""
    drawn = {k: row for k, row in rows.items() if row.get(key)}
    names = list(dict.fromkeys(name for name, _ in drawn))
    if not names:
        return
    figure, axes = plt.subplots(figsize=(10, 2.4 + 0.3 * len(names)),
                                layout="constrained")
    version = versions(rows)
    for who, (colour, mark) in styles(rows).items():
        points = [(row[key], names.index(name)) for (name, w), row in drawn.items()
                  if w == who]
        if points:
            axes.scatter(*zip(*points), color=colour, marker=mark, s=46, alpha=0.9,
                         label=f"{who} {version.get(who, '')}", zorder=3)
    for i in range(0, len(names), 2):
        axes.axhspan(i - 0.5, i + 0.5, color="#f3f3f3", zorder=0)
    axes.axvline(line, color="black", linewidth=1.2, zorder=2)
    if log:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(plain))
        low, high = axes.get_xlim()
        ticks = [t for t in (0.1, 0.2, 0.5, 1, 1.5, 2, 3, 5, 10, 20, 50, 100, 200, 500)
                 if low <= t <= high]
        axes.set_xticks(ticks)
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xlim(left=0)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_ylabel("shape (name)")
    axes.set_xlabel(f"{label}\n{device(drawn)}")
    axes.grid(axis="x", color="#dddddd", zorder=1)
    axes.set_title(title)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    print(path)


def by_scale(rows, what, path):
    series, drawn = collections.defaultdict(list), {}
    for (name, who), row in rows.items():
        match = SCALE_NAME.fullmatch(name)
        if match and match[1] == what and row["seconds"]:
            series[who].append((int(match[2]), row["seconds"] * 1e3))
            drawn[name, who] = row
    if max(map(len, series.values()), default=0) < 2:
        return
    figure, axes = plt.subplots(figsize=(8, 5.2), layout="constrained")
    for who, (colour, mark) in styles(rows).items():
        if who in series:
            points = sorted(series[who])
            axes.plot(*zip(*points), color=colour, marker=mark, markersize=6,
                      linewidth=2.4 if who == OURS else 1.5,
                      zorder=4 if who == OURS else 3,
                      label=f"{who} {versions(rows).get(who, '')}")
    ticks = sorted({x for points in series.values() for x, _ in points})
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(ticks, [str(t) for t in ticks],
                    rotation=45 if len(ticks) > 10 else 0)
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(plain))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(f"{SCALES[what]}\n{device(drawn)}")
    axes.set_ylabel("time of one call (ms)")
    axes.set_title(f"Time against {SCALES[what].split(' (')[0]}")
    axes.grid(color="#dddddd", which="major")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    print(path)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", metavar="RESULTS.json")
    parser.add_argument("--out", default=".", metavar="FOLDER")
    options = parser.parse_args()
    os.makedirs(options.out, exist_ok=True)
    rows = load(options.results)
    path = lambda name: os.path.join(options.out, name)
    named = {k: row for k, row in rows.items()
             if k[0].startswith("layer") or not SCALE_NAME.fullmatch(k[0])}
    by_shape(named, "ratio", path("ratios.png"),
             "How much longer the others take (right of the line: clattn is faster)",
             "time of the other / time of clattn (ratio)", 1, True)
    by_shape(named, "fraction_of_probe", path("fractions.png"),
             "What is reached of the machine's multiply-adds or memory reads",
             "time that the probes allow / time taken (fraction; above 1: from a cache)", 1, False)
    for what in SCALES:
        by_scale(rows, what, path(f"scale-{what}.png"))


if __name__ == "__main__":
    main()
