'use strict';

/* data.js - the page's data, as README.md has it: runs, their parts, and
 * numbers that are decoded when somebody asks for them. */

const Data = (() => {
  /* Decoded tensors are kept up to so many bytes, the last ones used. */
  const CACHE_BYTES = 256 << 20;

  /* What is asked for often, forgotten from the oldest on when its bytes are
   * more than `limit`. The newest stays, however large it is. */
  class Cache {
    constructor(limit) {
      this.limit = limit;
      this.bytes = 0;
      this.entries = new Map(); // in order of use: key -> {value, bytes}
    }

    get(key) {
      const entry = this.entries.get(key);
      if (entry === undefined) return undefined;
      this.entries.delete(key);
      this.entries.set(key, entry);
      return entry.value;
    }

    set(key, value, bytes) {
      this.delete(key);
      this.entries.set(key, {value, bytes});
      this.bytes += bytes;
      for (const oldest of this.entries.keys()) {
        if (this.bytes <= this.limit || oldest === key) break;
        this.delete(oldest);
      }
    }

    delete(key) {
      const entry = this.entries.get(key);
      if (entry === undefined) return;
      this.bytes -= entry.bytes;
      this.entries.delete(key);
    }
  }

  const cache = new Cache(CACHE_BYTES);

  function bytesOf(base64) {
    if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
    const text = atob(base64);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    return bytes;
  }

  /* The value of every half-precision number [65536]; made when first
   * needed. */
  let halves = null;

  function makeHalves() {
    halves = new Float32Array(1 << 16);
    for (let bits = 0; bits < 1 << 16; bits++) {
      const sign = bits & 0x8000 ? -1 : 1;
      const exponent = (bits >> 10) & 31;
      const fraction = bits & 1023;
      let value;
      if (exponent === 31) value = fraction ? NaN : Infinity;
      else if (exponent === 0) value = fraction * 2 ** -24;
      else value = (1024 + fraction) * 2 ** (exponent - 25);
      halves[bits] = sign * value;
    }
  }

  function fromHalves(bits) {
    if (halves === null) makeHalves();
    const values = new Float32Array(bits.length);
    for (let i = 0; i < bits.length; i++) values[i] = halves[bits[i]];
    return values;
  }

  function decode(base64, type) {
    const bytes = bytesOf(base64);
    switch (type) {
      case 'u8': return bytes;
      case 'f16':
        return fromHalves(new Uint16Array(bytes.buffer, 0, bytes.length >> 1));
      case 'i32': return new Int32Array(bytes.buffer, 0, bytes.length >> 2);
      default: return new Float32Array(bytes.buffer, 0, bytes.length >> 2);
    }
  }

  /* One part of a run: what the JSON says of it, and its tensors. */
  class Part {
    constructor(document, run, index, json, texts) {
      Object.assign(this, json);
      this.document = document;
      this.run = run;
      this.index = index;
      this.id = `${run}.${index}`;
      this.cross = json.keys !== null && json.keys !== undefined;
      this.keys = this.cross ? json.keys : json.rows;
      // Texts that places of tokens are of, by segment.
      this.rows.sources = this.keys.sources = texts;
      this.n = this.rows.texts.length;
      this.m = this.keys.texts.length;
      // JSON has no infinity: as far away as can be.
      this.difference = json.difference ?? Infinity;
    }

    /* How many numbers a tensor of a layer has. */
    count(name) {
      const {heads: H, kv_heads: G, head_dim: D, n, m, map_block: B} = this;
      switch (name) {
        case 'query': return H * n * D;
        case 'key': return G * m * D;
        case 'attention': return H * n * m;
        case 'top_keys':
        case 'top_weights': return H * n * this.top;
        case 'map': return H * Math.ceil(n / B) * Math.ceil(m / B);
        case 'thumbs': return H * this.thumb[0] * this.thumb[1];
        default: throw new Error(`no tensor is called "${name}"`);
      }
    }

    type(name) {
      if (name === 'attention') return this.weights;
      return {thumbs: 'u8', top_keys: 'i32'}[name] || 'f32';
    }

    /* A tensor of a layer; null if the part has none of this name. */
    tensor(layer, name) {
      if (name !== 'thumbs' && !this.has.includes(name)) return null;
      const id = `d-${this.run}-${this.index}-${layer}-${name}`;
      const known = cache.get(id);
      if (known !== undefined) return known;
      const element = this.document.getElementById(id);
      if (element === null) return null;
      const values = decode(element.textContent.trim(), this.type(name));
      if (values.length !== this.count(name)) {
        throw new Error(`${id}: got ${values.length} numbers, want ` +
                        `${this.count(name)}`);
      }
      cache.set(id, values, values.byteLength);
      return values;
    }

    /* Key head that a head reads. */
    keyHead(head) {
      return Math.floor(head / (this.heads / this.kv_heads));
    }
  }

  /* {version, title, state, palette, runs: [{name, model, text, pair,
   * parts}]} */
  function load(document) {
    const data = JSON.parse(document.getElementById('clattn-data').textContent);
    for (const [r, run] of data.runs.entries()) {
      run.parts = run.parts.map((part, i) => new Part(
          document, r, i, part, [run.text, run.pair]));
    }
    return data;
  }

  return {load, Cache};
})();
