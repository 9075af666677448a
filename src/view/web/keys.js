'use strict';

/* keys.js - the keyboard, and its help: one table is both. */

class Keys {
  constructor(app) {
    this.app = app;
    this.table = this.bindings();
    this.known = new Map();
    for (const {keys, run} of this.table) {
      for (const key of keys) this.known.set(key, run);
    }
    app.document.addEventListener('keydown', event => this.press(event));
  }

  /* [{section, keys: as KeyboardEvent.key, shown, does, run(event)}] */
  bindings() {
    const {app} = this;
    const {store} = app;
    const made = [];
    const add = (section, shown, keys, does, run) =>
      made.push({section, shown, keys: keys || [shown], does, run});
    const flip = name => store.set({[name]: !store.get()[name]});

    add('Views', '1 … 4', ['1', '2', '3', '4'], 'heads, model, matrix, neurons',
        event => store.set({view: Controls.VIEWS[Number(event.key) - 1]}));
    add('Views', 't', null, 'theme: auto, light, dark',
        () => app.controls.nextTheme());
    add('Views', 'b', null, 'table of heads beside the view',
        () => app.controls.toggleSide());
    add('Views', '?', null, 'this help', () => this.help());

    add('Heads', '← →', ['ArrowLeft', 'ArrowRight'],
        'head before, next head; the cell, where one is locked',
        event => this.arrow(event));
    add('Heads', '↑ ↓', ['ArrowUp', 'ArrowDown'],
        'layer before, next layer; the cell, where one is locked',
        event => this.arrow(event));
    add('Heads', '⇧ ← → ↑ ↓', [], 'head and layer, locked or not');
    add('Heads', 'a', null, 'one head, mean, max, rollout',
        () => this.cycle('aggregate', ['none', 'mean', 'max', 'rollout']));
    add('Heads', 'o', null, 'order of heads: index, entropy, …',
        () => this.cycle('sort', ['index', ...Statistics.NAMES]));
    add('Heads', 'p', null, 'next part', () => this.nextPart());
    add('Heads', 'Enter', null, 'model view: the matrix of the head',
        event => this.enter(event));

    add('Tokens', 'l', null, 'lock what is pointed at, or let go',
        () => this.lock());
    add('Tokens', 'Esc', ['Escape'], 'let go, close', () => this.escape());
    add('Tokens', '/', null, 'search; Enter there: next',
        () => app.element('search').focus());
    add('Tokens', 'n N', ['n', 'N'], 'next found, the one before',
        event => app.controls.nextFound(event.key === 'n' ? 1 : -1));
    add('Tokens', 'h', null, 'hide special tokens', () => flip('hide'));
    add('Tokens', 'w', null, 'merge sub-words', () => flip('words'));

    add('Numbers', 's', null, 'stage: q·k, scaled, masked, softmax',
        () => this.nextStage());
    add('Numbers', '[ ]', ['[', ']'], 'temperature down, up',
        event => this.temperature(event.key === ']' ? 1 : -1));
    add('Numbers', '+ −', ['+', '=', '-'], 'matrix: larger, smaller cells',
        event => app.controls.zoom(event.key === '-' ? -1 : 1));
    add('Numbers', '0', null, 'matrix: fit all; temperature 1',
        () => store.set({zoom: 0, temperature: 1}));
    if (app.data.runs.length > 1) {
      add('Numbers', 'c', null, 'compare: one, side by side, difference',
          () => this.cycle('compare', ['one', 'side', 'difference']));
      add('Numbers', 'r', null, 'the other run',
          () => store.set({run: 1 - store.get().run}));
    }
    return made;
  }

  /* Whether a field takes this key itself: a text, a list and a dialog all of
   * them, sliders and radio buttons those that move them. */
  static belongsToField(event) {
    const field = event.target.closest('input, select, textarea, dialog');
    if (!field) return false;
    switch (field.type) {
      case 'checkbox': return event.key === ' ';
      case 'radio':
      case 'range': return event.key.startsWith('Arrow');
      default: return true;
    }
  }

  press(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing) {
      return;
    }
    const run = this.known.get(event.key);
    if (event.key === 'Escape' && event.target.closest('select, input')) {
      event.target.blur();
    }
    if (!run || Keys.belongsToField(event)) return;
    // Buttons are pressed with Enter.
    if (event.key === 'Enter' && event.target.closest('button')) return;
    if (event.repeat && !event.key.startsWith('Arrow')) return;
    event.preventDefault();
    run(event);
  }

  /* The next of a field's values. */
  cycle(name, values) {
    const at = values.indexOf(this.app.store.get()[name]);
    this.app.store.set({[name]: values[(at + 1) % values.length]});
  }

  arrow(event) {
    const [down, right] = {ArrowUp: [-1, 0], ArrowDown: [1, 0],
                           ArrowLeft: [0, -1], ArrowRight: [0, 1]}[event.key];
    const state = this.app.store.get();
    if (state.locked && !event.shiftKey && state.view !== 'model') {
      this.moveCell(state, down, right);
    } else if (down) {
      this.app.controls.stepLayer(down);
    } else {
      this.app.controls.stepHead(right);
    }
  }

  moveCell(state, down, right) {
    if (this.app.drawn.length === 0) return;
    const {frame} = App.main(this.app.drawn);
    const move = (at, by, n) =>
      by === 0 ? at : Math.min(n - 1, Math.max(0, at + by));
    this.app.store.set({row: move(state.row, down, frame.rows.n),
                        key: move(state.key, right, frame.keys.n),
                        locked: true});
  }

  nextPart() {
    const state = this.app.store.get();
    const n = this.app.data.runs[state.run].parts.length;
    this.app.store.set({part: (state.part + 1) % n});
  }

  nextStage() {
    const state = this.app.store.get();
    const can = Attention.stages(this.app.part(state.run));
    this.cycle('stage', Controls.STAGES.filter(stage => can[stage] === true));
  }

  temperature(step) {
    const {temperature} = this.app.store.get();
    const x = Math.round(Math.log10(temperature) * 10 + step) / 10;
    this.app.store.set({temperature: Controls.temperature(x)});
  }

  enter() {
    if (this.app.store.get().view === 'model') {
      this.app.store.set({view: 'matrix', aggregate: 'none'});
    }
  }

  lock() {
    const state = this.app.store.get();
    const pointed = state.row >= 0 || state.key >= 0;
    if (state.locked) this.app.store.set({locked: false});
    else if (pointed) this.app.store.set({locked: true});
    else this.app.store.set({row: 0, key: 0, locked: true});
  }

  escape() {
    this.app.controls.menu(false);
    this.app.store.set({locked: false, row: -1, key: -1});
  }

  /* ---- Help -------------------------------------------------------------- */

  help() {
    const dialog = this.app.element('help-dialog');
    const body = this.app.element('help-body');
    if (body.childElementCount === 0) body.append(...this.helpSections());
    if (!dialog.open) dialog.showModal();
  }

  create(name, text = '') {
    const element = this.app.document.createElement(name);
    element.textContent = text;
    return element;
  }

  helpSections() {
    const names = [...new Set(this.table.map(({section}) => section))];
    const sections = names.map(name => this.section(
        name, this.table.filter(({section}) => section === name)));
    for (const [title, text] of Keys.TEXTS) {
      const section = this.create('section');
      section.append(this.create('h3', title), this.create('p', text));
      sections.push(section);
    }
    return sections;
  }

  section(name, bindings) {
    const section = this.create('section');
    const list = this.create('dl');
    for (const {shown, does} of bindings) {
      const keys = this.create('dt');
      keys.append(...shown.split(' ').map(
          key => key === '…' ? '…' : this.create('kbd', key)));
      list.append(keys, this.create('dd', does));
    }
    section.append(this.create('h3', name), list);
    return section;
  }
}

Keys.TEXTS = [
  ['What is seen',
   'Rows are the tokens that look (query), keys those that are looked at. ' +
   'Where a model writes a text, the row of a token wrote the next one. ' +
   'A weight is the share of a row that a key gets: softmax of query · key · scale ' +
   'over the keys that the row sees.'],
  ['The text',
   'Above the view, coloured by what the selected row gives each token, or ' +
   'else by the mean that it is given. A token there selects its row; with ' +
   'the focus there, ← and → go through the text.'],
  ['Bars beside tokens',
   'Head view, nothing selected: on the left the largest weight of each ' +
   'token\'s row, on the right the mean of what all rows give a token ' +
   '(“mean received”). With a token selected: its weights, or those it is ' +
   'given. In the table the bar below a number is its size beside the ' +
   'largest of the column; of “prev.” and “first” beside 1.'],
  ['Heads in numbers',
   'Entropy, in nats: 0 is all weight on one key. Distance: mean of ' +
   '|row − key|, in tokens. P, “previous token”: at least half of the weight ' +
   'is on the token before the row\'s own. F, “first token”: at least half ' +
   'is on the first.'],
  ['Hidden and merged',
   'Without special tokens each row is divided by the sum that is left. ' +
   'Words: weights of their keys are added, of their rows averaged.'],
  ['Rollout',
   'Product of the layers up to this one, each the mean of its heads, half ' +
   'of it the identity (Abnar and Zuidema 2020).'],
];
