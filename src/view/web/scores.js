'use strict';

/* scores.js - rows of attention, one at a time, in double: scores and weights
 * of a head, mean and largest of several. A row is made by a function (i, out)
 * that fills out, Float64Array [m], with row i. */

const Scores = (() => {
  const STAGES = ['raw', 'scaled', 'masked', 'softmax'];

  /* ---- Rows of one head -------------------------------------------------- */

  const hasQueryKey = part => part.has.includes('query') &&
                              part.has.includes('key') && part.head_dim > 0;
  const hasWeights = part => part.has.includes('attention');

  /* Keys from..to-1 are those that row i sees. */
  function visible(part, i) {
    const own = i + part.m - part.n;
    let to = part.causal ? Math.min(Math.max(own + 1, 0), part.m) : part.m;
    let from = part.window > 0 ? Math.max(own - part.window + 1, 0) : 0;
    from = Math.min(from, part.m);
    return {from, to: Math.max(to, from)};
  }

  /* out[j] = factor * query i . key j for from <= j < to.
   * query [H, n, D], key [G, m, D] */
  function scoresRow(part, layer, head, factor) {
    const {n, m, head_dim: D} = part;
    const query = part.tensor(layer, 'query');
    const key = part.tensor(layer, 'key');
    const base = part.keyHead(head) * m * D;
    const q = new Float64Array(D);
    return (i, out, from, to) => {
      const row = (head * n + i) * D;
      for (let d = 0; d < D; d++) q[d] = query[row + d];
      for (let j = from; j < to; j++) {
        const at = base + j * D;
        // Four sums, so that additions need not wait for each other.
        let a = 0, b = 0, c = 0, e = 0, d = 0;
        for (; d + 3 < D; d += 4) {
          a += q[d] * key[at + d];
          b += q[d + 1] * key[at + d + 1];
          c += q[d + 2] * key[at + d + 2];
          e += q[d + 3] * key[at + d + 3];
        }
        for (; d < D; d++) a += q[d] * key[at + d];
        out[j] = factor * (a + b + (c + e));
      }
    };
  }

  /* Scores to weights, in place, of out[from..to-1]: softmax(score / T). The
   * rest is 0. A score that is no number makes the row so. */
  function softmax(out, from, to, temperature) {
    let largest = -Infinity;
    for (let j = from; j < to; j++) {
      if (!(out[j] <= largest)) largest = out[j]; // NaN comes through
      if (largest !== largest) break;
    }
    let sum = 0;
    for (let j = from; j < to; j++) {
      out[j] = Math.exp((out[j] - largest) / temperature);
      sum += out[j];
    }
    for (let j = from; j < to; j++) out[j] /= sum;
    out.fill(0, 0, from);
    out.fill(0, to);
  }

  /* Recorded weights at another temperature: p^(1/T), of a sum of 1. As they
   * are softmax(score), this is softmax(score / T). */
  function sharpen(out, temperature) {
    if (temperature === 1) return;
    let largest = 0;
    for (const p of out) if (!(p <= largest)) largest = p;
    let sum = 0;
    for (let j = 0; j < out.length; j++) {
      out[j] = out[j] === 0 ? 0 : (out[j] / largest) ** (1 / temperature);
      sum += out[j];
    }
    if (sum === 0) return;
    for (let j = 0; j < out.length; j++) out[j] /= sum;
  }

  function weightsRow(part, layer, head, temperature) {
    const {n, m} = part;
    if (hasWeights(part)) {
      const weights = part.tensor(layer, 'attention');
      return (i, out) => {
        const at = (head * n + i) * m;
        for (let j = 0; j < m; j++) out[j] = weights[at + j];
        sharpen(out, temperature);
      };
    }
    if (!hasQueryKey(part)) return topRow(part, layer, head, temperature);
    const scores = scoresRow(part, layer, head, part.scale);
    return (i, out) => {
      const {from, to} = visible(part, i);
      scores(i, out, from, to);
      softmax(out, from, to, temperature);
    };
  }

  /* Where the heaviest keys are all that is known; NaN: not among them. */
  function topRow(part, layer, head, temperature) {
    const {n, top: K} = part;
    const keys = part.tensor(layer, 'top_keys');
    const weights = part.tensor(layer, 'top_weights');
    return (i, out) => {
      const {from, to} = visible(part, i);
      out.fill(0, 0, from);
      // Fewer keys than were asked for: there are no others.
      const at = (head * n + i) * K;
      const all = K > 0 && (keys[at + K - 1] < 0 || K >= to - from);
      out.fill(all ? 0 : NaN, from, to);
      out.fill(0, to);
      for (let k = at; k < at + K; k++) {
        if (keys[k] >= 0) out[keys[k]] = weights[k];
      }
      if (temperature !== 1 && all) sharpen(out, temperature);
    };
  }

  /* Of a stage: "raw" q . k, "scaled", "masked" -Infinity where a row does not
   * see, "softmax". */
  function stageRow(part, layer, head, stage, temperature) {
    if (stage === 'softmax') return weightsRow(part, layer, head, temperature);
    const scores = scoresRow(part, layer, head,
                             stage === 'raw' ? 1 : part.scale);
    return (i, out) => {
      if (stage !== 'masked') return scores(i, out, 0, part.m);
      const {from, to} = visible(part, i);
      out.fill(-Infinity);
      return scores(i, out, from, to);
    };
  }

  /* Mean or largest of rows that several functions make. */
  function combined(rows, m, aggregate) {
    if (rows.length === 1) return rows[0];
    const one = new Float64Array(m);
    return (i, out) => {
      rows[0](i, out);
      for (let h = 1; h < rows.length; h++) {
        rows[h](i, one);
        if (aggregate === 'mean') {
          for (let j = 0; j < m; j++) out[j] += one[j];
        } else {
          // What is no number in one head is none in the largest.
          for (let j = 0; j < m; j++) if (!(one[j] <= out[j])) out[j] = one[j];
        }
      }
      if (aggregate === 'mean') {
        for (let j = 0; j < m; j++) out[j] /= rows.length;
      }
    };
  }

  function allHeads(part, layer, stage, temperature, aggregate) {
    const rows = [];
    for (let h = 0; h < part.heads; h++) {
      rows.push(stageRow(part, layer, h, stage, temperature));
    }
    return combined(rows, part.m, aggregate);
  }

  return {STAGES, hasQueryKey, hasWeights, visible, stageRow, combined,
          allHeads};
})();
