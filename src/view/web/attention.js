'use strict';

/* attention.js - the numbers of the page: what is left of rows (scores.js) on
 * axes that hide or merge tokens, rollout, and statistics.
 *
 * Rows are gathered into the cells of a frame one at a time; no matrix of a
 * long text is ever held. Work of more than a few milliseconds is done in
 * slices, between which the page goes on living. */

const Attention = (() => {
  const {STAGES, hasQueryKey, hasWeights} = Scores;
  const {stageRow, combined, allHeads} = Scores;
  /* Of more rows or keys than this, frames are of blocks of tokens, at most
   * MATRIX_BLOCKS a side. */
  const MATRIX_TOKENS = 1024;
  const MATRIX_BLOCKS = 512;
  const SLICE_MS = 24;
  const frames = new Data.Cache(192 << 20);
  const rollouts = new Data.Cache(192 << 20);

  const THRESHOLD = 1e-3; // a difference that rounding to F16 does not explain

  /* ---- Work in slices ---------------------------------------------------- */

  let stopped = 0; // jobs begun before stop() was called so often are given up

  const nextTask = () => new Promise(resolve => {
    const channel = new MessageChannel();
    channel.port1.onmessage = () => {
      channel.port1.close();
      resolve();
    };
    channel.port2.postMessage(null);
  });

  /* A job of `total` steps; `if (job.due(n)) await job.rest()` after n of
   * them. */
  class Job {
    constructor(total) {
      this.total = total;
      this.done = 0;
      this.stopped = stopped;
      this.begun = performance.now();
      this.told = false;
    }

    due(steps) {
      this.done += steps;
      return performance.now() - this.begun > SLICE_MS;
    }

    async rest() {
      this.told = true;
      Attention.onProgress(Math.min(this.done, this.total), this.total);
      await nextTask();
      if (this.stopped !== stopped) {
        throw new DOMException('something else is wanted', 'AbortError');
      }
      this.begun = performance.now();
    }

    finish() {
      if (this.told) Attention.onProgress(this.total, this.total);
    }
  }

  /* ---- Rollout ----------------------------------------------------------- */

  /* What a layer's tokens are made of: R(l) = (A(l) + I) / 2 . R(l - 1), A the
   * mean of the heads (Abnar and Zuidema 2020). mean: (i, out) fills a row of
   * A(l); before: R(l - 1), Float32Array [n, n], null for I. */
  async function rollStep(mean, before, n, job) {
    const after = new Float32Array(n * n);
    const a = new Float64Array(n);
    const sums = new Float64Array(n);
    for (let i = 0; i < n; i++) {
      mean(i, a);
      for (let j = 0; j < n; j++) a[j] *= 0.5;
      a[i] += 0.5;
      if (before === null) {
        after.set(a, i * n);
      } else {
        sums.fill(0);
        for (let k = 0; k < n; k++) {
          const weight = a[k];
          if (weight === 0) continue;
          const at = k * n;
          for (let j = 0; j < n; j++) sums[j] += weight * before[at + j];
        }
        after.set(sums, i * n);
      }
      if (job.due(1)) await job.rest();
    }
    return after;
  }

  /* R(layer), from the last layer on that is known. meanOf(l) makes A(l)'s
   * rows, or a promise of that, in `steps` steps of the job. */
  async function rollout(part, layer, name, n, meanOf, job, steps = 0) {
    const key = l => `${part.id} ${name} ${l}`;
    let known = layer;
    let rolled;
    while (known >= 0) {
      rolled = rollouts.get(key(known));
      if (rolled !== undefined) break;
      known--;
    }
    job.total += (layer - known) * (n + steps);
    for (let l = known + 1; l <= layer; l++) {
      const mean = await meanOf(l);
      rolled = await rollStep(mean, l === 0 ? null : rolled, n, job);
      rollouts.set(key(l), rolled, rolled.byteLength);
    }
    return rolled;
  }

  const rowsOf = (matrix, m) => (i, out) => {
    out.set(matrix.subarray(i * m, (i + 1) * m));
  };

  /* ---- From rows to frames ----------------------------------------------- */

  /* Weights of the keys of a place are added, rows of a place averaged. With
   * `kept` (bool [m]: tokens that are not hidden) each row is divided by its
   * sum over them; a row of which nothing is left is NaN. */
  async function gatherWeights(row, rows, keys, m, kept, job) {
    const values = new Float32Array(rows.n * keys.n);
    const out = new Float64Array(m);
    const cells = new Float64Array(keys.n);
    for (let r = 0; r < rows.n; r++) {
      cells.fill(0);
      let sum = 0;
      for (const i of rows.groups[r]) {
        row(i, out);
        for (let c = 0; c < keys.n; c++) {
          const group = keys.groups[c];
          for (let g = 0; g < group.length; g++) cells[c] += out[group[g]];
        }
        if (kept) for (let j = 0; j < m; j++) if (kept[j]) sum += out[j];
      }
      const by = kept ? sum : rows.groups[r].length;
      for (let c = 0; c < keys.n; c++) values[r * keys.n + c] = cells[c] / by;
      if (job.due(rows.groups[r].length)) await job.rest();
    }
    return values;
  }

  /* Scores of a place are the mean of those that are seen; -Infinity: none
   * is. */
  async function gatherScores(row, rows, keys, m, job) {
    const values = new Float32Array(rows.n * keys.n);
    const out = new Float64Array(m);
    const sums = new Float64Array(keys.n);
    const seen = new Int32Array(keys.n);
    for (let r = 0; r < rows.n; r++) {
      sums.fill(0);
      seen.fill(0);
      for (const i of rows.groups[r]) {
        row(i, out);
        for (let c = 0; c < keys.n; c++) {
          const group = keys.groups[c];
          for (let g = 0; g < group.length; g++) {
            const score = out[group[g]];
            if (score === -Infinity) continue;
            sums[c] += score;
            seen[c]++;
          }
        }
      }
      for (let c = 0; c < keys.n; c++) {
        values[r * keys.n + c] = seen[c] > 0 ? sums[c] / seen[c] : -Infinity;
      }
      if (job.due(rows.groups[r].length)) await job.rest();
    }
    return values;
  }

  /* The range that colours have to show. */
  function range(values, what) {
    let low = Infinity, high = -Infinity;
    for (let i = 0; i < values.length; i++) {
      const value = values[i];
      if (!Number.isFinite(value)) continue;
      if (value < low) low = value;
      if (value > high) high = value;
    }
    if (what === 'weight') low = 0;
    if (what === 'difference') {
      high = Math.max(Math.abs(low), Math.abs(high));
      low = -high;
    }
    if (!Number.isFinite(low) || !Number.isFinite(high)) [low, high] = [0, 1];
    if (!(high > low)) high = low + 1; // all the same: any scale will do
    return {low, high};
  }

  function finished(rows, keys, values, what, notes) {
    return {rows, keys, values, ...range(values, what), what,
            note: notes.join('; ')};
  }

  /* ---- What is asked for ------------------------------------------------- */

  const DEFAULTS = {layer: 0, head: 0, aggregate: 'none', stage: 'softmax',
                    temperature: 1, hideAdded: false, mergeWords: false,
                    rowSegment: null, keySegment: null};

  function stages(part) {
    const scores = hasQueryKey(part) ||
                   'the file has no queries and keys, so scores are not known';
    const softmaxed =
        hasWeights(part) || hasQueryKey(part) || part.has.includes('map') ||
        part.has.includes('top_weights') || 'the file has no weights';
    return {raw: scores, scaled: scores, masked: scores, softmax: softmaxed};
  }

  /* The query that can be answered, and why it is another one. */
  function answerable(part, asked) {
    const query = {...DEFAULTS, ...asked};
    const notes = [];
    if (!STAGES.includes(query.stage)) query.stage = 'softmax';
    const can = stages(part);
    if (can[query.stage] !== true && query.stage !== 'softmax') {
      notes.push(`${can[query.stage]}: these are weights`);
      query.stage = 'softmax';
    }
    if (can.softmax !== true) throw new Error(can.softmax);
    if (query.aggregate === 'rollout') {
      if (part.cross) {
        notes.push('rollout wants rows and keys of one text: this is the mean');
        query.aggregate = 'mean';
      } else if (query.stage !== 'softmax') {
        notes.push('rollout is of weights');
        query.stage = 'softmax';
      }
    }
    if (query.stage !== 'softmax') query.temperature = 1;
    return {query, notes};
  }

  /* Why the weights of a part are not those of its scores; "": they are. */
  function doubt(part) {
    if (!hasWeights(part) || !hasQueryKey(part) ||
        part.difference <= THRESHOLD) {
      return '';
    }
    const by = Number.isFinite(part.difference) ?
      ` (they differ by up to ${part.difference.toPrecision(3)})` : '';
    return 'weights are the recorded ones; query and key do not give them' +
           `${by}: the model adds something to its scores, or the scale is ` +
           `not ${Number(part.scale.toPrecision(3))}`;
  }

  const isMapped = part => !hasWeights(part) && !hasQueryKey(part) &&
                           part.has.includes('map');

  /* Axes of a query; tokens in blocks if there are too many. */
  function axesOf(part, query, notes) {
    const long = Math.max(part.n, part.m) > MATRIX_TOKENS;
    // Layers are multiplied with each other on the same places.
    const whole = long && query.aggregate === 'rollout';
    const options = whole ? {} : query;
    const side = (name, segment) => Tokens.axis(part, name, {
      hideAdded: options.hideAdded, mergeWords: options.mergeWords,
      segment: whole ? null : segment,
    });
    let rows = side('rows', query.rowSegment);
    let keys = side('keys', query.keySegment);
    if (Math.max(rows.n, keys.n) > MATRIX_TOKENS) {
      const size = Math.ceil(Math.max(rows.n, keys.n) / MATRIX_BLOCKS);
      rows = Tokens.blocks(rows, size);
      keys = Tokens.blocks(keys, size);
      notes.push(`blocks of ${size}: a text of ${Math.max(part.n, part.m)} ` +
                 'tokens');
      if (whole && (query.hideAdded || query.mergeWords)) {
        notes.push('of all tokens as they are');
      }
    }
    return {rows, keys, hide: Boolean(options.hideAdded)};
  }

  /* Tokens of a side that are not hidden [m]. */
  const keptTokens = side =>
    side.texts.map((text, j) => !(side.added && side.added[j]));

  /* Many tokens, all of their layers: R of blocks, from means of blocks. */
  async function blockRollout(part, query, rows, keys, job) {
    const meanOf = async l => {
      const mean = allHeads(part, l, 'softmax', query.temperature, 'mean');
      const values = await gatherWeights(mean, rows, keys, part.m, null, job);
      return rowsOf(values, keys.n);
    };
    const name = `blocks ${rows.n} ${query.temperature}`;
    return rollout(part, query.layer, name, rows.n, meanOf, job, part.n);
  }

  async function computeFrame(part, query, notes) {
    const {layer, head, aggregate, stage, temperature} = query;
    const {rows, keys, hide} = axesOf(part, query, notes);
    const job = new Job(part.n);
    const what = stage === 'softmax' ? 'weight' : 'score';
    let row;
    if (aggregate === 'rollout') {
      if (Math.max(part.n, part.m) > MATRIX_TOKENS &&
          rows.n < part.n) {
        const values = await blockRollout(part, query, rows, keys, job);
        job.finish();
        return finished(rows, keys, values, what, notes);
      }
      const mean = l => allHeads(part, l, 'softmax', temperature, 'mean');
      const rolled = await rollout(part, layer, `tokens ${temperature}`, part.n,
                                   mean, job);
      row = rowsOf(rolled, part.m);
    } else if (aggregate === 'none') {
      row = stageRow(part, layer, head, stage, temperature);
    } else {
      row = allHeads(part, layer, stage, temperature, aggregate);
    }
    const kept = hide ? keptTokens(part.keys) : null;
    const values = what === 'weight' ?
      await gatherWeights(row, rows, keys, part.m, kept, job) :
      await gatherScores(row, rows, keys, part.m, job);
    job.finish();
    return finished(rows, keys, values, what, notes);
  }

  /* Where weights are recorded as means over blocks. */
  async function mapFrame(part, query, notes) {
    const B = part.map_block;
    const rows = Tokens.blocks(Tokens.axis(part, 'rows'), B);
    const keys = Tokens.blocks(Tokens.axis(part, 'keys'), B);
    const map = part.tensor(query.layer, 'map');
    const size = rows.n * keys.n;
    const head = h => rowsOf(map.subarray(h * size, (h + 1) * size), keys.n);
    const heads = (layerMap, aggregate) => {
      const all = [];
      for (let h = 0; h < part.heads; h++) {
        all.push(rowsOf(layerMap.subarray(h * size, (h + 1) * size), keys.n));
      }
      return combined(all, keys.n, aggregate);
    };
    notes.push(`recorded as means of blocks of ${B} tokens`);
    if (query.hideAdded || query.mergeWords || query.rowSegment !== null ||
        query.keySegment !== null || query.temperature !== 1) {
      notes.push('of all tokens as they are');
    }
    const values = new Float32Array(size);
    const job = new Job(rows.n);
    let row = head(query.head);
    if (query.aggregate === 'rollout') {
      const mean = l => heads(part.tensor(l, 'map'), 'mean');
      row = rowsOf(await rollout(part, query.layer, 'map', rows.n, mean, job),
                   keys.n);
    } else if (query.aggregate !== 'none') {
      row = heads(map, query.aggregate);
    }
    const out = new Float64Array(keys.n);
    for (let r = 0; r < rows.n; r++) {
      row(r, out);
      values.set(out, r * keys.n);
    }
    job.finish();
    return finished(rows, keys, values, 'weight', notes);
  }

  /* (r, c) => whether row r of a frame of weights sees nothing of place c, by
   * the part's rules; null where all see all. A rollout sees what its layers
   * see one after the other. */
  function unseenOf(part, query, {rows, keys, what}) {
    if (what !== 'weight' || !(part.causal || part.window > 0)) return null;
    const layers = query.aggregate === 'rollout' ? query.layer + 1 : 1;
    const window = part.window > 0 ? (part.window - 1) * layers + 1 : 0;
    const rule = {...part, window};
    const from = new Int32Array(rows.n);
    const to = new Int32Array(rows.n);
    rows.groups.forEach((group, r) => {
      const seen = Array.from(group, i => Scores.visible(rule, i));
      from[r] = Math.min(...seen.map(one => one.from));
      to[r] = Math.max(...seen.map(one => one.to));
    });
    const firsts = keys.groups.map(group => group[0]);
    const lasts = keys.groups.map(group => group[group.length - 1]);
    return (r, c) => firsts[c] >= to[r] || lasts[c] < from[r];
  }

  const keyOf = (part, query) =>
    [part.id, ...Object.keys(DEFAULTS).map(name => query[name])].join(' ');

  const running = new Map(); // key -> promise of a frame
  // One is made after the other: the first is there sooner.
  let last = Promise.resolve();

  /* A frame, see README.md. */
  async function frame(part, asked) {
    const {query, notes} = answerable(part, asked);
    const key = keyOf(part, query) + notes.join();
    const known = frames.get(key);
    if (known !== undefined) return known;
    if (running.has(key)) return running.get(key);
    const begun = stopped;
    const work = last.catch(() => null).then(() => {
      if (begun !== stopped) {
        throw new DOMException('something else is wanted', 'AbortError');
      }
      if (!isMapped(part)) return computeFrame(part, query, notes);
      return mapFrame(part, query, notes);
    }).then(made => {
      made.unseen = unseenOf(part, query, made);
      frames.set(key, made, made.values.byteLength);
      return made;
    }).finally(() => {
      if (running.get(key) === work) running.delete(key);
    });
    running.set(key, work);
    last = work;
    return work;
  }

  /* Gives up all frames that are being made: their promises are rejected with
   * an AbortError. */
  function stop() {
    stopped++;
    running.clear();
  }

  /* Whether frames are being made. */
  const busy = () => running.size > 0;

  /* ---- Of frames --------------------------------------------------------- */

  /* Of a run that has no such layer or head: no rows and no keys. */
  function nothing() {
    const axis = () => (
      {n: 0, labels: [], groups: [], added: [], segments: []});
    return {rows: axis(), keys: axis(), values: new Float32Array(0), low: 0,
            high: 0, what: 'weight', note: '', unseen: null};
  }

  /* a - b; null where the axes have other sizes. */
  function difference(a, b) {
    if (a.rows.n !== b.rows.n || a.keys.n !== b.keys.n) return null;
    const values = new Float32Array(a.values.length);
    for (let i = 0; i < values.length; i++) {
      const x = a.values[i], y = b.values[i];
      // Not seen in both: they agree in that.
      values[i] = x === -Infinity && y === -Infinity ? -Infinity : x - y;
    }
    const notes = [a.note, b.note].filter((note, i, all) =>
      note !== '' && all.indexOf(note) === i);
    const made = finished(a.rows, a.keys, values, 'difference', notes);
    made.unseen = a.unseen && b.unseen &&
        ((r, c) => a.unseen(r, c) && b.unseen(r, c));
    return made;
  }

  /* Where a place lies in the text: the mean of its tokens. */
  const placeOf = group =>
    group.reduce((sum, i) => sum + i, 0) / group.length;

  /* The place of the keys that holds the token before a row's own; -1: none. */
  function previousPlaces(rows, keys) {
    const placeOfToken = new Map();
    keys.groups.forEach((group, c) => {
      for (const j of group) placeOfToken.set(j, c);
    });
    return rows.groups.map(group => {
      const place = placeOfToken.get(group[0] - 1);
      return place === undefined ? -1 : place;
    });
  }

  /* Means over the rows of a frame: entropy in nats, distance in tokens, weight
   * on the place before and on the first. NaN: a frame that is not of weights.
   * Rows that are not known do not count; those of a segment alone are divided
   * by their sum. */
  function summary(frame, cross = false) {
    const unknown = {entropy: NaN, distance: NaN, previous: NaN, first: NaN};
    if (frame.what !== 'weight' || frame.keys.n === 0) return unknown;
    const {rows, keys, values} = frame;
    const rowPlaces = rows.groups.map(placeOf);
    const keyPlaces = keys.groups.map(placeOf);
    const before = previousPlaces(rows, keys);
    const sums = {entropy: 0, distance: 0, previous: 0, first: 0};
    let known = 0, followed = 0;
    for (let r = 0; r < rows.n; r++) {
      const at = r * keys.n;
      let sum = 0, logs = 0, distance = 0;
      for (let c = 0; c < keys.n; c++) {
        const p = values[at + c];
        sum += p;
        if (p > 0) logs += p * Math.log(p);
        distance += p * Math.abs(rowPlaces[r] - keyPlaces[c]);
      }
      if (!(sum > 0)) continue;
      known++;
      sums.entropy += Math.log(sum) - logs / sum;
      sums.distance += distance / sum;
      sums.first += values[at];
      if (before[r] < 0) continue;
      followed++;
      sums.previous += values[at + before[r]];
    }
    if (known === 0) return unknown;
    return {
      entropy: Math.max(0, sums.entropy / known),
      distance: sums.distance / known,
      previous: cross || followed === 0 ? 0 : sums.previous / followed,
      first: sums.first / known,
    };
  }

  /* The k largest of row i that are known, falling: [{key, value}]. */
  function top(frame, i, k) {
    const {values, keys} = frame;
    const at = i * keys.n;
    const best = []; // falling; short, so that insertion is quick
    for (let c = 0; c < keys.n; c++) {
      const value = values[at + c];
      if (!(value > -Infinity)) continue;
      if (best.length === k && !(value > best[k - 1].value)) continue;
      let place = best.length;
      while (place > 0 && best[place - 1].value < value) place--;
      best.splice(place, 0, {key: c, value});
      if (best.length > k) best.pop();
    }
    return best;
  }

  /* How row i of a head comes about, of tokens as they are: {query [D], keys
   * [m * D], raw, scaled, masked, softmax [m], note}; null without queries and
   * keys. */
  function row(part, layer, head, i) {
    if (!hasQueryKey(part)) return null;
    const {n, m, head_dim: D} = part;
    const q = (head * n + i) * D;
    const k = part.keyHead(head) * m * D;
    const made = {
      query: part.tensor(layer, 'query').subarray(q, q + D),
      keys: part.tensor(layer, 'key').subarray(k, k + m * D),
      note: doubt(part),
    };
    const out = new Float64Array(m);
    for (const stage of STAGES) {
      stageRow(part, layer, head, stage, 1)(i, out);
      made[stage] = Float32Array.from(out);
    }
    return made;
  }

  return {MATRIX_TOKENS, onProgress: () => {}, frame, nothing, doubt, busy,
          stop, stages, difference, summary, row, top};
})();
