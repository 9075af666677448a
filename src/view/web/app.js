'use strict';

/* app.js - puts the page together: the store, the views, and between them the
 * frames: what is selected, in numbers. */

class App {
  constructor(document, data) {
    this.document = document;
    this.data = data;
    this.store = State.create(data);
    this.drawn = [];     // frames that the view shows
    this.turn = 0;       // of computing frames: only the last one's are drawn
    this.notes = {};     // why something is not as asked: where from -> text
    this.under = null;   // what the pointer is on: {row, key, frame, detail}
    this.said = null;    // a line of the readout that a view wrote
    this.began = null;   // when the computation began that is not done
    this.setTheme();
    this.controls = new Controls(this);
    this.statistics = new Statistics(this.element('statistics'), this);
    this.keys = new Keys(this);
    this.exporter = new Export(this);
    this.strip = new TextStrip(this);
    this.views = {
      heads: new HeadsView(this.element('view-heads'), this),
      model: new ModelView(this.element('view-model'), this),
      matrix: new MatrixView(this.element('view-matrix'), this),
      neurons: new NeuronView(this.element('view-neurons'), this),
    };
    this.listen();
  }

  element(id) {
    return this.document.getElementById(id);
  }

  listen() {
    this.store.subscribe((state, changed) => this.update(state, changed));
    Attention.onProgress = (done, total) => this.progress(done, total);
    const system = matchMedia('(prefers-color-scheme: dark)');
    system.addEventListener('change', () => {
      this.setTheme();
      this.controls.update(this.store.get(), new Set());
      this.draw();
    });
    new ResizeObserver(() => this.resize()).observe(this.element('view'));
  }

  start() {
    const state = this.store.get();
    this.update(state, new Set(Object.keys(state)));
  }

  /* ---- What is selected -------------------------------------------------- */

  /* The part of a run that the store's part is, or stands for: of the other run
   * the one of the same name, else the one in the same place. */
  part(run, state = this.store.get()) {
    return State.part(this.data, run, state);
  }

  /* {layers, heads} that can be picked. */
  extent(state = this.store.get()) {
    return State.extent(this.data, state);
  }

  /* Runs that are shown: one; two side by side in their order; of a difference
   * first the one that the other is taken from. */
  runs(state = this.store.get()) {
    const alone = this.data.runs.length < 2 || state.compare === 'one';
    if (alone) return [state.run];
    return state.compare === 'side' ? [0, 1] : [state.run, 1 - state.run];
  }

  /* The name of a run; of two that are called the same, with a number. */
  title(run) {
    const names = this.data.runs.map(
        ({name, model}, i) => name || model || `run ${i + 1}`);
    const alone = names.indexOf(names[run]) === names.lastIndexOf(names[run]);
    return alone ? names[run] : `${names[run]} (${run + 1})`;
  }

  /* A promise of [{frame, run, part, title}], see README.md; of a difference
   * with `of`: the two entries that it is of. */
  async frames(change = {}) {
    const state = {...this.store.get()};
    for (const [name, value] of Object.entries(change)) {
      if (value !== null && value !== undefined) state[name] = value;
    }
    const entries = [];
    for (const run of this.runs(state)) {
      const part = this.part(run, state);
      const title = this.title(run);
      const missing = App.missing(state, part, title);
      entries.push({
        frame: missing ? Attention.nothing() :
                         await Attention.frame(part, App.query(state)),
        run: this.data.runs[run], part, title, missing,
      });
    }
    if (state.compare !== 'difference' || entries.length < 2) return entries;
    const [a, b] = entries;
    const none = a.missing || b.missing;
    const frame = none ? null : Attention.difference(a.frame, b.frame);
    return frame === null ? entries : [{
      frame, run: a.run, part: a.part, title: `${a.title} − ${b.title}`,
      of: entries, missing: '',
    }];
  }

  /* Why a run has nothing to show; "": it has. */
  static missing(state, part, title) {
    if (state.layer >= part.layers) {
      return `${title} has ${Controls.count(part.layers, 'layer')}.`;
    }
    return state.aggregate === 'none' && state.head >= part.heads ?
        `${title} has ${Controls.count(part.heads, 'head')}.` : '';
  }

  /* The first of some entries that has something to show. */
  static main(drawn) {
    return drawn.find(({missing}) => !missing) || drawn[0];
  }

  /* What Attention is asked for. */
  static query(state) {
    const segment = at => state.pair === 'all' ? null : Number(state.pair[at]);
    return {
      layer: state.layer, head: state.head, aggregate: state.aggregate,
      stage: state.stage,
      temperature: state.temperature, hideAdded: state.hide,
      mergeWords: state.words, rowSegment: segment(0), keySegment: segment(1),
    };
  }

  /* ---- Drawing ----------------------------------------------------------- */

  update(state, changed) {
    this.note('hash', App.strange(this.store.strange));
    if (changed.has('theme')) this.setTheme();
    if (changed.has('view')) this.showView(state.view);
    this.controls.update(state, changed);
    this.statistics.draw(state);
    const asked = App.ASKED.some(name => changed.has(name));
    if (asked) this.refresh();
    // Thumbnails do not wait for frames.
    if (!asked || state.view === 'model') this.draw();
  }

  /* What of an address was not understood, or is not there. */
  static strange(pairs) {
    if (pairs.length === 0) return '';
    const short = text => text.length > 40 ? `${text.slice(0, 39)}…` : text;
    const more = pairs.length > 5 ? ', …' : '';
    return 'Of the address this is not known or not there: ' +
           `${pairs.slice(0, 5).map(short).join(', ')}${more}.`;
  }

  showView(view) {
    for (const name of Object.keys(this.views)) {
      this.element(`view-${name}`).hidden = name !== view;
    }
    this.under = null;
    this.said = null;
    this.tooltip(null);
    this.views[view].resize();
  }

  /* Computes the frames and draws them. Who asks again meanwhile is the one
   * whose frames are drawn. */
  async refresh() {
    const turn = ++this.turn;
    if (this.began !== null) Attention.stop();
    let drawn;
    try {
      drawn = await this.frames();
    } catch (error) {
      if (turn !== this.turn) return;
      this.fail(error);
      drawn = [];
    }
    if (turn !== this.turn) return;
    this.drawn = drawn;
    this.progress(1, 1);
    if (drawn.length) this.note('error', '');
    this.note('frames', this.reasons(drawn));
    this.controls.shown(drawn);
    this.draw();
  }

  /* Why frames are not as asked. */
  reasons(drawn) {
    const state = this.store.get();
    const texts = drawn.map(({frame}) => frame.note);
    if (state.compare === 'difference' && this.data.runs.length > 1) {
      const [a, b] = drawn.map(({frame}) => frame);
      if (drawn.some(({missing}) => missing)) {
        texts.push('No difference: one run has no such layer or head');
      } else if (b) {
        texts.push('No difference: the runs have ' +
                   `${a.rows.n} × ${a.keys.n} and ${b.rows.n} × ${b.keys.n} ` +
                   'tokens. Side by side instead.');
      } else {
        texts.push(this.strangers(state));
      }
    }
    for (const run of this.runs(state)) texts.push(this.doubt(state, run));
    return [...new Set(texts)].filter(Boolean).map(App.sentence).join(' ');
  }

  static sentence(text) {
    return text[0].toUpperCase() + text.slice(1) +
           (text.endsWith('.') ? '' : '.');
  }

  /* Whether a difference is of other tokens; "" if of the same. */
  strangers(state) {
    const [a, b] = this.runs(state).map(run => this.part(run, state));
    const i = a.rows.texts.findIndex((text, i) => text !== b.rows.texts[i]);
    return i < 0 ? '' : `The runs have other tokens: token ${i} is ` +
        `“${Tokens.label(a.rows.texts[i])}” in one and ` +
        `“${Tokens.label(b.rows.texts[i] ?? '')}” in the other.`;
  }

  /* Where query and key do not give the weights; of two runs which. */
  doubt(state, run) {
    const text = Attention.doubt(this.part(run, state));
    return text && this.data.runs.length > 1 ? `${this.title(run)}: ${text}` :
                                               text;
  }

  draw() {
    const state = this.store.get();
    // Without frames there is a note that says why, and not what was before.
    const empty = state.view !== 'model' && this.drawn.length === 0;
    this.element(`view-${state.view}`).hidden = empty;
    this.strip.prepare(this.drawn, state);
    if (empty) return;
    try {
      this.views[state.view].draw(this.drawn, state);
      this.strip.draw(state);
      this.read();
    } catch (error) {
      this.fail(error);
      return;
    }
    const {dataset} = this.document.documentElement;
    dataset.ready = Number(dataset.ready || 0) + 1;
  }

  resize() {
    const state = this.store.get();
    this.views[state.view].resize();
    this.statistics.reveal();
    this.draw();
  }

  setTheme() {
    const dark = Colors.isDark(this.store.get());
    this.document.documentElement.dataset.theme = dark ? 'dark' : 'light';
  }

  /* ---- What views tell --------------------------------------------------- */

  /* The pointer is on a cell of a frame, on a row (key -1), on a key (row -1),
   * or on nothing. detail: a text for the readout that says more. */
  point(row, key, frame = 0, detail = '') {
    const {locked} = this.store.get();
    this.under = row < 0 && key < 0 ? null : {row, key, frame, detail};
    if (!locked) this.store.set({row, key});
    this.read();
  }

  /* A click: this cell stays, whatever the pointer does; once more, and it does
   * not. */
  lock(row, key) {
    const state = this.store.get();
    const same = state.locked && state.row === row && state.key === key;
    const none = row < 0 && key < 0;
    this.store.set(same || none ? {locked: false} : {row, key, locked: true});
  }

  /* ---- Numbers as text --------------------------------------------------- */

  /* A line for the readout instead of the cell's; null: the cell's again. */
  say(text) {
    this.said = text;
    this.read();
  }

  /* Writes the readout: what is locked or pointed at, in exact numbers. */
  read() {
    const state = this.store.get();
    const readout = this.element('readout');
    this.element('lock').hidden = !state.locked;
    // Read aloud where keys move it, and not where a pointer does.
    readout.setAttribute('aria-live', state.locked ? 'polite' : 'off');
    let text = this.said || '';
    if (!text && state.view !== 'model' && this.drawn.length) {
      const at = state.locked || !this.under ? state : this.under;
      text = this.describe(at.row, at.key, this.under ? this.under.frame : 0);
      if (this.under && this.under.detail && !state.locked) {
        text += `  ·  ${this.under.detail}`;
      }
    }
    readout.classList.toggle('hint', text === '');
    readout.textContent = text || this.hint(state);
  }

  /* What a view shows, for who sees it first. */
  hint(state) {
    const touch = matchMedia('(pointer: coarse)').matches;
    const texts = [App.SEEN[state.view]];
    if (state.view === 'matrix') {
      const signed = this.drawn.some(({frame}) => frame.what !== 'weight');
      texts.push(signed ? 'blue is less, orange is more.' :
                          'brighter is more.');
    }
    if (state.view !== 'model' && App.writes(this.part(state.run, state))) {
      texts.push('The row of a token wrote the next one.');
    }
    texts.push((touch ? App.TOUCH_HINTS : App.HINTS)[state.view]);
    return texts.join(' ');
  }

  /* One cell in words, of the frame pointed at first; side by side of both. */
  describe(row, key, first) {
    const at = this.drawn[Math.min(first, this.drawn.length - 1)];
    const entry = at.missing ? App.main(this.drawn) : at;
    const {rows, keys} = entry.frame;
    if (row >= rows.n || key >= keys.n || (row < 0 && key < 0)) return '';
    const name = (axis, i) => `${i} “${axis.labels[i]}”`;
    if (key < 0) {
      const top = App.largest(entry.frame, row, 3)
          .map(({key: j, value}) => `${name(keys, j)} ${App.number(value)}`);
      const next = App.written(entry.part, rows, row);
      const then = next ? `, then “${next}”` : '';
      return `row ${name(rows, row)}${then}  ·  most: ${top.join(', ')}`;
    }
    if (row < 0) {
      const mean = App.columnMean(entry.frame, key);
      return `key ${name(keys, key)}  ·  mean ${entry.frame.what} over rows ` +
             App.number(mean);
    }
    const cell = `row ${name(rows, row)}  →  key ${name(keys, key)}  ·  `;
    return cell + this.values(row, key, entry).join('  ·  ');
  }

  /* The k largest of a row; of differences whatever their sign. */
  static largest(frame, row, k) {
    if (frame.what !== 'difference') return Attention.top(frame, row, k);
    return Attention.top(frame, row, frame.keys.n)
        .sort((a, b) => Math.abs(b.value) - Math.abs(a.value)).slice(0, k);
  }

  /* The values of a cell: "weight 0.123456", side by side with their runs, of a
   * difference with what it is of. */
  values(row, key, entry) {
    const value = ({frame}) => App.cell(frame, row, key);
    if (entry.of) {
      return [value(entry),
              ...entry.of.map(one => `${one.title}: ${value(one)}`)];
    }
    if (this.drawn.length < 2) return [value(entry)];
    return this.drawn
        .filter(({frame}) => frame.rows.n === entry.frame.rows.n &&
                             frame.keys.n === entry.frame.keys.n)
        .map(one => `${one.title}: ${value(one)}`);
  }

  /* "weight 0.123456", or that a row does not see a key. */
  static cell(frame, row, key) {
    const value = MatrixView.shown(frame, row, key);
    return value === -Infinity ? 'not seen' :
                                 `${frame.what} ${App.number(value)}`;
  }

  /* What is known of the token or tokens at a place: its label, where it is,
   * and what its row wrote. */
  static token(part, side, axis, i) {
    const {ids, begins, ends} = part[side];
    const group = axis.groups[i];
    const [first, last] = [group[0], group[group.length - 1]];
    const lines = [axis.labels[i], `${side === 'rows' ? 'row' : 'key'} ${i}`];
    if (group.length > 1) lines.push(`tokens ${first} to ${last}`);
    else if (first !== i) lines.push(`token ${first}`);
    if (ids && group.length === 1) lines.push(`id ${ids[first]}`);
    if (begins && ends && ends[last] > begins[first]) {
      lines.push(`bytes ${begins[first]} to ${ends[last] - 1} of the text`);
    }
    const next = side === 'rows' ? App.written(part, axis, i) : '';
    if (next) lines.push(`next in the text: ${next}`);
    return lines;
  }

  /* Whether rows are of tokens that a model read to write the next one. */
  static writes(part) {
    return part.cross || part.kind === 'decoder' || part.causal;
  }

  /* The token that comes after a row's own, that it wrote or should have; "":
   * there is none, or rows are no such ones. */
  static written(part, axis, i) {
    const group = axis.groups[i];
    const next = App.writes(part) ?
        part.rows.texts[group[group.length - 1] + 1] : undefined;
    return next === undefined ? '' : Tokens.label(next);
  }

  /* Mean of a key over the rows that see it. */
  static columnMean(frame, key) {
    let sum = 0;
    let n = 0;
    for (let i = 0; i < frame.rows.n; i++) {
      const value = frame.values[i * frame.keys.n + key];
      if (!Number.isFinite(value)) continue;
      sum += value;
      n++;
    }
    return n > 0 ? sum / n : NaN;
  }

  /* 6 significant digits, always with a point and never in thousands. */
  static number(value) {
    if (value === null || Number.isNaN(value)) return 'not known';
    if (value === -Infinity) return 'not seen';
    if (value === 0) return '0';
    return value.toPrecision(6);
  }

  /* before: on the left of the point. */
  tooltip(lines, x = 0, y = 0, before = false) {
    const tip = this.element('tooltip');
    tip.hidden = !lines || lines.length === 0;
    if (tip.hidden) return;
    tip.replaceChildren(...lines.map(line => {
      const row = this.document.createElement('div');
      row.textContent = line;
      return row;
    }));
    // Right and below of the pointer; on the other side where there is no room.
    const {innerWidth: width, innerHeight: height} = window;
    const {offsetWidth: w, offsetHeight: h} = tip;
    const left = before || x + 14 + w > width ? Math.max(4, x - 10 - w) :
                                                x + 14;
    const top = y + 16 + h > height ? Math.max(4, y - 10 - h) : y + 16;
    tip.style.transform = `translate(${left}px, ${top}px)`;
  }

  /* ---- Work and errors --------------------------------------------------- */

  /* Shown once it has taken a moment. */
  progress(done, total) {
    const work = this.element('work');
    const now = performance.now();
    if (done >= total) {
      this.began = null;
      work.hidden = true;
      this.element('view').classList.remove('stale');
      return;
    }
    if (this.began === null) this.began = now;
    if (now - this.began < 150) return;
    work.hidden = false;
    // What is seen is no longer what was asked for.
    this.element('view').classList.add('stale');
    this.element('progress').value = done / total;
    this.element('progress-text').textContent =
        `computing ${Math.floor(100 * done / total)} %`;
  }

  /* text "": nothing is wrong there any more. */
  note(from, text) {
    this.notes[from] = text;
    const all = Object.values(this.notes).filter(Boolean).join(' ');
    const element = this.element('note');
    element.textContent = all;
    element.hidden = all === '';
  }

  fail(error) {
    this.progress(1, 1);
    this.note('error', `Something went wrong: ${error.message || error}`);
  }

  /* Reads the page's data and shows it. What goes wrong is said in the page,
   * and in the console. */
  static start(document) {
    const failed = error => {
      const note = document.getElementById('note');
      note.hidden = false;
      note.textContent = `Something went wrong: ${error.message || error}`;
    };
    window.addEventListener('error', event => failed(event.error || event));
    window.addEventListener('unhandledrejection', event => {
      // Numbers that nobody waits for any more: see Attention.stop.
      if (event.reason && event.reason.name === 'AbortError') {
        event.preventDefault();
      } else {
        failed(event.reason);
      }
    });
    const data = Data.load(document);
    Colors.setPalette(data.palette);
    App.page = new App(document, data);
    App.data = data;
    App.store = App.page.store;
    App.page.start();
  }
}

/* Fields of the store that frames depend upon. */
App.ASKED = ['part', 'layer', 'head', 'aggregate', 'stage', 'temperature',
             'hide', 'words', 'pair', 'run', 'compare'];

/* The readout while nothing is pointed at: what is seen, and what can be done,
 * with a mouse and with a finger. */
App.SEEN = {
  heads: 'Each token on the left looks at tokens on the right; a thicker ' +
         'line is more.',
  model: 'Each picture is a head: its rows look at its columns, brighter is ' +
         'more.',
  matrix: 'Each row is a token that looks at those above;',
  neurons: 'How the weights of a token come about: query × key, added up, ' +
           'scaled, softmax.',
};
App.HINTS = {
  heads: 'Point at a token or a line, click to lock; arrows then move. ' +
         '? for the keys.',
  model: 'Click to select a head, double-click for its matrix.',
  matrix: 'Point at a cell, click to lock; arrows then move. ? for the keys.',
  neurons: 'Point at a token or a number, click to lock; arrows then move.',
};
App.TOUCH_HINTS = {
  heads: 'Tap a token or a line; tap it again to let go.',
  model: 'Tap a head to select it.',
  matrix: 'Tap a cell; tap it again to let go. Two fingers zoom.',
  neurons: 'Tap a token on the left for its row.',
};

App.start(document);
