'use strict';

/* tokens.js - tokens as people read them, and axes: which tokens are shown,
 * which of them as one word. An axis is
 *
 *   n         places on it
 *   labels    [n] strings
 *   groups    [n] of Int32Array: the tokens that stand at a place, rising
 *   added     [n] bool: [CLS] and its like, that no text stands for
 *   segments  [n] 0 text, 1 pair */

const Tokens = (() => {
  /* Letters, digits, accents; half a character that a token ends within. */
  const WORD = /[\p{L}\p{N}\p{M}\uFFFD]/u;
  /* Scripts that write no spaces: no word can be found by them. */
  const UNSPACED = new RegExp('[' + [
    'Han', 'Hiragana', 'Katakana', 'Thai', 'Lao', 'Khmer', 'Myanmar',
  ].map(script => `\\p{Script=${script}}`).join('') + ']', 'u');
  /* Bytes that are no characters, as the recording writes them. */
  const PIECE_END = /<[0-9A-F]{2}(?: [0-9A-F]{2})*>$/;
  const PIECE_BEGIN = /^<[0-9A-F]{2}(?: [0-9A-F]{2})*>/;
  const APOSTROPHE = /^['\u2019]\p{L}/u;
  /* A space that says no more than that a word begins. */
  const BEGIN = /^ (?=[^\p{Zs}\p{Zl}\p{Zp}\p{Cc}])/u;
  /* Controls and formats, those among them that turn the direction of what
   * follows; but not the (non-)joiners of Persian words and emoji. */
  const CONTROL = /(?![\u200C\u200D])[\p{Cc}\p{Cf}\p{Cs}]/gu;

  /* As clattn_view_label of clattn_view.h. */
  function label(text) {
    if (text === '') return '∅';
    return text.replace(BEGIN, '')
        .replace(/\r\n?|[\n\u0085\u2028\u2029]/g, '↵')
        .replace(/\t/g, '→')
        .replace(/\p{Zs}/gu, '·')
        .replace(CONTROL, '\uFFFD');
  }

  const first = text => text.slice(0, text.codePointAt(0) > 0xFFFF ? 2 : 1);
  const last = text => Array.from(text.slice(-2)).pop();

  /* What the texts of a side tell about its tokenizer. */
  function habits(tokens) {
    return {
      // "##" continues a word in WordPiece alone, which has [CLS] or [SEP].
      wordPiece: tokens.texts.some(
          (text, i) => tokens.added && tokens.added[i] &&
                       /^\[(CLS|SEP)\]$/.test(text)),
      // Where tokens bring their spaces, none says that a word goes on.
      spaces: tokens.texts.some(text => text.startsWith(' ')),
    };
  }

  /* Whether a text's "##" says that it goes on with a word. */
  const continued = (tokens, text) =>
    /^##./u.test(text) && habits(tokens).wordPiece;

  const isAdded = (tokens, i) => Boolean(tokens.added && tokens.added[i]);
  const segment = (tokens, i) => tokens.segments ? tokens.segments[i] : 0;

  /* Whether token i goes on with the word of token i - 1. */
  function continues(tokens, habit, i) {
    const before = tokens.texts[i - 1];
    const text = tokens.texts[i];
    if (isAdded(tokens, i - 1) || isAdded(tokens, i) ||
        segment(tokens, i - 1) !== segment(tokens, i) ||
        before === '' || text === '') {
      return false;
    }
    if (habit.wordPiece && /^##./u.test(text)) return true;
    const {begins, ends} = tokens;
    const placed = begins && ends && ends[i - 1] > begins[i - 1] &&
                   ends[i] > begins[i];
    const bytes = source(tokens, i);
    if (bytes !== null && placed && source(tokens, i - 1) === bytes) {
      // Within a character, or two that have places of the same one.
      if (begins[i] < ends[i - 1] || !isBoundary(bytes, begins[i])) {
        return begins[i] <= ends[i - 1];
      }
    } else if (PIECE_END.test(before) && PIECE_BEGIN.test(text)) {
      return true;
    }
    if (placed ? ends[i - 1] !== begins[i] : !habit.spaces) return false;
    const [left, right] = bytes !== null && placed ?
      charsAround(bytes, begins[i]) : [last(before), first(text)];
    if (left === null || right === null) return false;
    if (!WORD.test(left)) return false;
    if (left === '\uFFFD' || right === '\uFFFD') return left === right;
    if (UNSPACED.test(left) && UNSPACED.test(right)) return false;
    return WORD.test(right) || APOSTROPHE.test(text);
  }

  /* ---- Words as they stand in the text ----------------------------------- */

  const bytesOf = new Map(); // text -> its UTF-8

  /* The bytes of the text that token i is of; null: there is no such text, or
   * the token is nowhere in it. */
  function source(tokens, i) {
    const {begins, ends, sources} = tokens;
    const text = sources && sources[segment(tokens, i)];
    if (!text || !begins || !ends) return null;
    if (!bytesOf.has(text)) bytesOf.set(text, new TextEncoder().encode(text));
    const bytes = bytesOf.get(text);
    const inside = 0 <= begins[i] && begins[i] < ends[i] &&
                   ends[i] <= bytes.length;
    return inside ? bytes : null;
  }

  const isBoundary = (bytes, at) => (bytes[at] & 0xC0) !== 0x80;

  function decoded(bytes, begin, end) {
    try {
      return new TextDecoder('utf-8', {fatal: true, ignoreBOM: true})
          .decode(bytes.subarray(begin, end));
    } catch {
      return null; // parts of characters
    }
  }

  /* The characters before and after a place of a text. */
  function charsAround(bytes, at) {
    let begin = at - 1;
    while (begin > 0 && !isBoundary(bytes, begin)) begin--;
    let end = at + 1;
    while (end < bytes.length && !isBoundary(bytes, end)) end++;
    return [decoded(bytes, begin, at), decoded(bytes, at, end)];
  }

  /* The label of several tokens as they stand in their text; null where that
   * is not known. */
  function written(tokens, group) {
    const last = group[group.length - 1];
    const bytes = group.length > 1 ? source(tokens, group[0]) : null;
    if (bytes === null || source(tokens, last) !== bytes) return null;
    const text = decoded(bytes, tokens.begins[group[0]], tokens.ends[last]);
    return text === null || text.includes('\uFFFD') ? null : label(text);
  }

  function word(tokens, habit, group) {
    let text = '';
    for (const i of group) {
      const piece = tokens.texts[i];
      text += text !== '' && habit.wordPiece ? piece.replace(/^##/, '') : piece;
    }
    return label(text);
  }

  /* Tokens i..j-1 that stand together at a place. */
  function groupsOf(tokens, habit, options) {
    const groups = [];
    for (let i = 0; i < tokens.texts.length; i++) {
      if (options.hideAdded && isAdded(tokens, i)) continue;
      if (options.segment === 0 || options.segment === 1) {
        if (segment(tokens, i) !== options.segment) continue;
      }
      // continues() looks at the neighbours in the text, so a hidden token
      // between two others never joins them.
      const group = groups[groups.length - 1];
      if (options.mergeWords && group && group[group.length - 1] === i - 1 &&
          continues(tokens, habit, i)) {
        group.push(i);
      } else {
        groups.push([i]);
      }
    }
    return groups.map(group => Int32Array.from(group));
  }

  function makeAxis(tokens, options) {
    const habit = habits(tokens);
    const groups = groupsOf(tokens, habit, options);
    return {
      n: groups.length,
      labels: groups.map(group => written(tokens, group) ??
                                  word(tokens, habit, group)),
      groups,
      added: groups.map(group => isAdded(tokens, group[0])),
      segments: groups.map(group => segment(tokens, group[0])),
      tokens,
    };
  }

  const axes = new WeakMap(); // part -> Map of its axes

  /* options {hideAdded, mergeWords, segment: null | 0 | 1} */
  function axis(part, side, options = {}) {
    const key = [side, Boolean(options.hideAdded), Boolean(options.mergeWords),
                 options.segment ?? ''].join();
    if (!axes.has(part)) axes.set(part, new Map());
    const known = axes.get(part);
    if (!known.has(key)) known.set(key, makeAxis(part[side], options));
    return known.get(key);
  }

  /* An axis whose places are `size` places of another one each. */
  function blocks(from, size) {
    const made = {n: Math.ceil(from.n / size), labels: [], groups: [],
                  added: [], segments: [], tokens: from.tokens};
    for (let begin = 0; begin < from.n; begin += size) {
      const end = Math.min(begin + size, from.n);
      const ends = [from.labels[begin], from.labels[end - 1]];
      const tokens = [];
      for (let i = begin; i < end; i++) tokens.push(...from.groups[i]);
      made.labels.push(end - begin > 1 ? ends.join('…') : ends[0]);
      made.groups.push(Int32Array.from(tokens));
      made.added.push(from.added.slice(begin, end).every(Boolean));
      made.segments.push(from.segments[begin]);
    }
    return made;
  }

  /* The axis as a running text in lower case: {text, begins, ends: [n] where
   * each place is in it}. Between places that do not touch there is a space, or
   * what no search contains where something else is left away. */
  function running(axis) {
    const {tokens, groups} = axis;
    const habit = habits(tokens);
    const made = {text: '', begins: [], ends: []};
    let before = -1;
    for (const group of groups) {
      for (const i of group) {
        const gap = before < 0 ? '' : between(tokens, habit, before, i);
        const begin = made.text.length + gap.length;
        const piece = habit.wordPiece ? tokens.texts[i].replace(/^##/, '') :
                                        tokens.texts[i];
        made.text += gap + piece.toLowerCase();
        if (i === group[0]) made.begins.push(begin);
        before = i;
      }
      made.ends.push(made.text.length);
    }
    return made;
  }

  function between(tokens, habit, i, j) {
    if (j !== i + 1 || isAdded(tokens, i) || isAdded(tokens, j) ||
        segment(tokens, i) !== segment(tokens, j)) {
      return '\0';
    }
    const {begins, ends} = tokens;
    const placed = begins && ends && ends[i] > begins[i] && ends[j] > begins[j];
    if (placed) return ends[i] < begins[j] ? ' ' : '';
    return habit.wordPiece && !tokens.texts[j].startsWith('##') ? ' ' : '';
  }

  /* [n] whether there is a space, or nothing of the text, before a place. */
  function spaced(axis) {
    const {tokens, groups} = axis;
    const habit = habits(tokens);
    return groups.map((group, i) => {
      if (i === 0) return false;
      const before = groups[i - 1];
      return BEGIN.test(tokens.texts[group[0]]) ||
             between(tokens, habit, before[before.length - 1], group[0]) !== '';
    });
  }

  const texts = new WeakMap(); // axis -> its running text

  /* Places of the axis whose label contains a text, or that have a share of it
   * where it goes on from one to the next; whatever the case. */
  function find(axis, text) {
    if (text === '') return [];
    const wanted = [text.toLowerCase(), label(text).toLowerCase()];
    const hit = axis.labels.map(name => {
      const low = name.toLowerCase();
      return wanted.some(want => low.includes(want));
    });
    if (axis.tokens && text.trim() !== '') {
      if (!texts.has(axis)) texts.set(axis, running(axis));
      mark(texts.get(axis), wanted[0], hit);
    }
    return [...hit.keys()].filter(i => hit[i]);
  }

  /* Marks all places that have a share of an occurrence. */
  function mark({text, begins, ends}, wanted, hit) {
    let place = 0;
    for (let at = text.indexOf(wanted); at >= 0;
      at = text.indexOf(wanted, at + 1)) {
      while (place < ends.length && ends[place] <= at) place++;
      const end = at + wanted.length;
      for (let i = place; i < begins.length && begins[i] < end; i++) {
        if (ends[i] > Math.max(at, begins[i])) hit[i] = true;
      }
    }
  }

  return {label, axis, blocks, find, spaced, continued};
})();
