'use strict';

/* state.js - what is selected, in one place: views and controls read it, change
 * it and are told. It lives in the URL's hash too, so that a link shows the
 * same. */

const State = (() => {
  const one = (...values) => ({values, initial: values[0]});

  /* Every field, its default, and how it is read from a text and written to
   * one. A field with `values` is one of these. */
  const FIELDS = {
    view: one('heads', 'model', 'matrix', 'neurons'),
    run: {initial: 0, integer: true},
    part: {initial: 0, integer: true},
    layer: {initial: 0, integer: true},
    head: {initial: 0, integer: true},
    heads: {initial: Object.freeze([]), list: true},
    aggregate: one('none', 'mean', 'max', 'rollout'),
    stage: {values: ['raw', 'scaled', 'masked', 'softmax'], initial: 'softmax'},
    temperature: {initial: 1},
    hide: {initial: false},
    words: {initial: false},
    pair: one('all', '00', '01', '10', '11'),
    row: {initial: -1, integer: true},
    key: {initial: -1, integer: true},
    locked: {initial: false},
    search: {initial: ''},
    sort: one('index', 'entropy', 'distance', 'previous', 'first'),
    reverse: {initial: false},
    compare: one('one', 'side', 'difference'),
    lines: {initial: 8, integer: true},
    zoom: {initial: 0},
    colors: one('linear', 'root'),
    theme: one('auto', 'light', 'dark'),
  };
  const NAMES = Object.keys(FIELDS);
  /* When one of these changes, places on the axes are others. */
  const AXES = ['run', 'part', 'hide', 'words', 'pair'];
  const MAX_LINES = 64;
  const MAX_ZOOM = 64;
  /* A pointer that has not moved for so long rests. */
  const REST_MS = 250;

  const initial = () =>
    Object.fromEntries(NAMES.map(name => [name, FIELDS[name].initial]));

  /* ---- The hash ---------------------------------------------------------- */

  function decoded(text) {
    try {
      return decodeURIComponent(text.replace(/\+/g, ' '));
    } catch {
      return ''; // a lonely % and the like: somebody typed it
    }
  }

  function valueOf(name, text) {
    const field = FIELDS[name];
    if (field.list) return text === '' ? [] : text.split(',').map(Number);
    switch (typeof field.initial) {
      case 'number': return text === '' ? NaN : Number(text);
      case 'boolean': return text === '1' || text === 'true';
      default: return text;
    }
  }

  /* Of "view=matrix&layer=3": the fields that it has. */
  function parse(text) {
    const change = {};
    for (const pair of text.replace(/^#/, '').split('&')) {
      const at = pair.indexOf('=');
      const name = at < 0 ? pair : pair.slice(0, at);
      if (!NAMES.includes(name)) continue;
      change[name] = valueOf(name, at < 0 ? '' : decoded(pair.slice(at + 1)));
    }
    return change;
  }

  /* Of a hash what was not taken over as it is: ["layer=99", ...]. state: what
   * it has led to. */
  function strange(text, state) {
    return text.replace(/^#/, '').split('&').filter(Boolean).filter(pair => {
      const name = pair.split('=')[0];
      if (!NAMES.includes(name)) return true;
      const given = parse(pair)[name];
      const got = state[name];
      if (Array.isArray(given)) {
        return [...given].sort((a, b) => a - b).join() !== got.join();
      }
      if (typeof got === 'boolean') {
        return given !== got || !/=(0|1|true|false)$/.test(pair);
      }
      return given !== got;
    }).map(decoded);
  }

  function textOf(value) {
    if (Array.isArray(value)) return value.join(',');
    if (typeof value === 'boolean') return value ? '1' : '0';
    /* Half of a pair, as a key may give it, is no text for a URL. */
    const whole = String(value).replace(/\p{Surrogate}/gu, '\ufffd');
    return encodeURIComponent(whole);
  }

  const same = (a, b) => Array.isArray(a) ? a.join() === b.join() : a === b;

  /* The fields that are not as in `usual`, the page's own beginning. */
  const format = (state, usual = initial()) =>
    NAMES.filter(name => !same(state[name], usual[name]))
        .map(name => `${name}=${textOf(state[name])}`).join('&');

  /* ---- What is selected of the data -------------------------------------- */

  /* The part of a run that the state's part is, or stands for: of the other run
   * the one of the same name, else the one in the same place. */
  function part(data, run, state) {
    const {parts} = data.runs[run];
    const own = data.runs[state.run].parts;
    const wanted = own[Math.min(state.part, own.length - 1)];
    if (run === state.run) return wanted;
    return parts.find(one => one.name === wanted.name) ||
           parts[Math.min(wanted.index, parts.length - 1)];
  }

  /* Layers and heads that can be picked: of two runs those of the larger. */
  function extent(data, state) {
    const both = state.compare !== 'one' && data.runs.length > 1;
    const parts = (both ? data.runs.map((_, i) => i) : [state.run])
        .map(run => part(data, run, state));
    const most = name => Math.max(...parts.map(one => one[name]));
    return {layers: most('layers'), heads: most('heads')};
  }

  /* ---- What can be ------------------------------------------------------- */

  function clampedNumber(value, low, high, otherwise) {
    if (typeof value !== 'number' || Number.isNaN(value)) return otherwise;
    return Math.min(Math.max(value, low), high);
  }

  const clampedInteger = (value, low, high, otherwise) =>
    Math.round(clampedNumber(value, low, high, otherwise));

  /* A state that the data has. before: what stays where a value is none. */
  function clamp(data, wanted, before) {
    const state = {};
    for (const name of NAMES) {
      const {values, initial: usual} = FIELDS[name];
      let value = wanted[name];
      if (values && !values.includes(value)) value = before[name];
      if (typeof usual === 'boolean') value = Boolean(value);
      if (typeof usual === 'string' && !values) value = String(value ?? '');
      state[name] = value;
    }
    const integer = (name, low, high) => {
      state[name] = clampedInteger(state[name], low, high, before[name]);
      // What stayed may be too much for another part.
      state[name] = Math.min(Math.max(state[name], low), high);
    };
    integer('run', 0, data.runs.length - 1);
    integer('part', 0, data.runs[state.run].parts.length - 1);
    if (data.runs.length < 2) state.compare = 'one';
    const shown = part(data, state.run, state);
    const {layers, heads: most} = extent(data, state);
    integer('layer', 0, layers - 1);
    integer('head', 0, most - 1);
    const heads = Array.isArray(state.heads) ? state.heads : before.heads;
    state.heads = Object.freeze([...new Set(heads)]
        .filter(h => Number.isInteger(h) && h >= 0 && h < most)
        .sort((a, b) => a - b));
    if (state.heads.length > 0 && !state.heads.includes(state.head)) {
      state.head = state.heads[0];
    }
    state.temperature = clampedNumber(state.temperature, 0.1, 10,
                                      before.temperature);
    integer('lines', 1, MAX_LINES);
    state.zoom = clampedNumber(state.zoom, 0, MAX_ZOOM, before.zoom);
    integer('row', -1, shown.n - 1);
    integer('key', -1, shown.m - 1);
    if (state.row < 0 && state.key < 0) state.locked = false;
    if (!hasPair(shown)) state.pair = 'all';
    return state;
  }

  const hasPair = shown => [shown.rows, shown.keys].some(
      side => (side.segments || []).some(segment => segment === 1));

  /* ---- The store --------------------------------------------------------- */

  const points = name => name === 'row' || name === 'key';

  class Store {
    constructor(data) {
      this.data = data;
      this.listeners = [];
      this.changed = new Set();
      this.asked = false; // a frame of the screen is asked for
      this.strange = [];  // what of the hash was not understood
      // How the page begins; the hash says what differs from it.
      const begin = {...initial(), ...parse(data.state || '')};
      this.usual = Object.freeze(clamp(data, begin, initial()));
      this.state = this.usual;
      this.read(location.hash);
      this.changed.clear();
      window.addEventListener('hashchange', () => this.read(location.hash));
    }

    get() {
      return this.state;
    }

    /* Takes all of a hash: what it does not have is as usual. */
    read(hash) {
      this.set({...this.usual, ...parse(hash)});
      this.strange = strange(hash, this.state);
      if (this.strange.length > 0) this.ask();
    }

    set(change) {
      const before = this.state;
      const wanted = {...before, ...change};
      const moved = AXES.some(name => name in change &&
                                      !same(change[name], before[name]));
      if (moved && !('row' in change) && !('key' in change)) {
        Object.assign(wanted, {row: -1, key: -1, locked: false});
      }
      // A head that is chosen is shown alone, unless it is among those shown.
      if ('head' in change && !('heads' in change) &&
          !before.heads.includes(change.head)) {
        wanted.heads = [];
      }
      const state = clamp(this.data, wanted, before);
      const changed = NAMES.filter(name => !same(state[name], before[name]));
      if (changed.length === 0) return;
      this.state = Object.freeze(state);
      // Said until something else is picked.
      if (changed.some(name => !points(name))) this.strange = [];
      for (const name of changed) this.changed.add(name);
      this.ask();
    }

    subscribe(listener) {
      this.listeners.push(listener);
    }

    /* The text that is, or is about to be, the URL's hash. */
    hash() {
      return format(this.state, this.usual);
    }

    ask() {
      if (this.asked) return;
      this.asked = true;
      requestAnimationFrame(() => this.tell());
    }

    tell() {
      this.asked = false;
      const changed = this.changed;
      this.changed = new Set();
      const pointing = !this.state.locked && [...changed].every(points);
      clearTimeout(this.writing);
      // Browsers refuse a hash that changes with every move of the pointer.
      if (pointing) this.writing = setTimeout(() => this.write(), REST_MS);
      else this.write();
      for (const listener of this.listeners) listener(this.state, changed);
    }

    /* The history is not filled: there is one entry, and it is what is seen. */
    write() {
      const hash = this.hash();
      if (location.hash.replace(/^#/, '') === hash) return;
      history.replaceState(null, '', `#${hash}`);
    }
  }

  return {create: data => new Store(data), parse, format, part, extent};
})();
