#!/usr/bin/env python3
"""The loss curve of a run of clattn train.

    bench/plot_loss.py LOG.csv OUT.png

LOG.csv is what --log writes, all rows or some of them.
"""
import csv
import sys

import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt


def main():
    log, out = sys.argv[1:]
    with open(log, newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        sys.exit(f"{log}: no steps")
    validation = [r for r in rows if r["validation_loss"]]
    figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    axes.plot([int(r["step"]) for r in rows], [float(r["loss"]) for r in rows],
              color="#56B4E9", linewidth=0.8, label="training, of one batch")
    axes.plot([int(r["step"]) for r in validation],
              [float(r["validation_loss"]) for r in validation],
              color="#000000", linewidth=1.6, label="validation")
    axes.set_xlabel("step")
    axes.set_ylabel("cross-entropy (nats a token)")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(out, dpi=120)


if __name__ == "__main__":
    main()
