"""What the page has to show, in numpy: axes, stages, aggregates, statistics.
Written from src/view/web/README.md, in double precision."""

import numpy as np


def words_of(tokens, wordpiece):
    """Which tokens begin a word, for the texts that the tests have."""
    begins = []
    for i, text in enumerate(tokens):
        if i == 0:
            begins.append(True)
        elif wordpiece:
            begins.append(not text.startswith("##"))
        else:
            goes_on = (text[0].isalnum() and tokens[i - 1][-1].isalnum() or
                       text == "'t")
            begins.append(not goes_on)
    return begins


def groups_of(side, hide=False, words=False, segment=None, wordpiece=False):
    begins = words_of(side.texts, wordpiece) if words else None
    groups = []
    for i in range(len(side.texts)):
        if hide and side.added[i]:
            continue
        if segment is not None and side.segments[i] != segment:
            continue
        if words and not begins[i] and groups and groups[-1][-1] == i - 1:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def rollout(part, layer, temperature=1.0):
    rolled = np.eye(part.n)
    for each in range(layer + 1):
        mean = part.weights(each, temperature).mean(0)
        rolled = (0.5 * mean + 0.5 * np.eye(part.n)) @ rolled
    return rolled


def matrix(part, layer=0, head=0, aggregate="none", stage="softmax",
           temperature=1.0):
    """[n, m] of tokens as they are."""
    if aggregate == "rollout":
        return rollout(part, layer, temperature)
    if stage == "softmax":
        all_heads = part.weights(layer, temperature)
    else:
        all_heads = part.scores(layer, stage)
    if aggregate == "mean":
        return all_heads.mean(0)
    if aggregate == "max":
        return all_heads.max(0)
    return all_heads[head]


def frame(part, hide=False, words=False, segments=(None, None),
          wordpiece=False, **query):
    """[rows, keys] of what is shown."""
    full = matrix(part, **query)
    rows = groups_of(part.rows, hide, words, segments[0], wordpiece)
    keys = groups_of(part.keys, hide, words, segments[1], wordpiece)
    weight = query.get("stage", "softmax") == "softmax"
    made = np.zeros((len(rows), len(keys)))
    for r, row in enumerate(rows):
        for c, key in enumerate(keys):
            cells = full[np.ix_(row, key)]
            if weight:
                made[r, c] = cells.sum(1).mean()
            else:
                seen = cells[np.isfinite(cells)]
                made[r, c] = seen.mean() if seen.size else -np.inf
        if hide and weight:
            kept = [j for j in range(part.m) if not part.keys.added[j]]
            made[r] /= full[np.ix_(row, kept)].sum(1).mean()
    return made
