'use strict';

/* statistics.js - all heads of a part in numbers: a table that sorts and
 * selects. Also their order and badges, which the model view shares. */

class Statistics {
  constructor(element, app) {
    this.element = element;
    this.app = app;
    this.shows = '';        // what the table was made of
    this.rows = new Map();  // "layer-head" -> tr
    this.current = null;
    element.addEventListener('click', event => this.click(event));
    element.addEventListener('keydown', event => this.key(event));
  }

  /* ---- Numbers ----------------------------------------------------------- */

  /* Of all heads of what is shown: {part, layers, heads, difference, entropy,
   * distance, previous, first}, each [layers * heads], NaN what is not known.
   * Of a difference the first run's minus the other's, if they have the same
   * heads. */
  static numbers(app, state) {
    const [run, other] = app.runs(state);
    const part = app.part(run, state);
    const found = {part, layers: part.layers, heads: part.heads,
                   difference: false};
    for (const name of Statistics.NAMES) {
      found[name] = Statistics.column(part, name);
    }
    if (state.compare !== 'difference' || other === undefined) return found;
    const minus = app.part(other, state);
    const alike = minus.layers === part.layers && minus.heads === part.heads;
    if (!alike) return found;
    found.difference = true;
    for (const name of Statistics.NAMES) {
      const theirs = Statistics.column(minus, name);
      found[name] = found[name].map((value, i) => value - theirs[i]);
    }
    return found;
  }

  static column(part, name) {
    const n = part.layers * part.heads;
    // In cross-attention there is no key before the row's own.
    const none = name === 'previous' && part.cross;
    const values = (!none && part.summary && part.summary[name]) || [];
    return Array.from({length: n}, (_, i) => values[i] ?? NaN);
  }

  /* What a head does, by the thresholds below: [{letter, name}]. */
  static badges(numbers, i) {
    if (numbers.difference) return [];
    return Statistics.BADGES.filter(
        ({name}) => numbers[name][i] >= Statistics.THRESHOLD);
  }

  /* Indices layer * heads + head in the order of the store: the sharpest first,
   * the nearest, those that most look back, or at the first token; of
   * differences the largest, whatever their sign. Heads of which that is not
   * known come last. */
  static order(numbers, state) {
    const order = numbers.entropy.map((_, i) => i);
    if (state.sort !== 'index') {
      const values = numbers.difference ? numbers[state.sort].map(Math.abs) :
                                          numbers[state.sort];
      const sign = Statistics.falls(state.sort, numbers) ? -1 : 1;
      const rank = i => Number.isNaN(values[i]) ? Infinity : sign * values[i];
      order.sort((a, b) => {
        const [x, y] = [rank(a), rank(b)];
        return x === y ? a - b : x - y;
      });
    }
    return state.reverse ? order.reverse() : order;
  }

  /* Whether the largest come first. */
  static falls(sort, {difference}) {
    if (sort === 'index') return false;
    return difference || sort === 'previous' || sort === 'first';
  }

  /* "entropy 1.23456 nats, ..." of a head, for the readout. */
  static text(numbers, i) {
    const sign = numbers.difference ? 'difference of ' : '';
    return Statistics.NAMES.map(name => {
      const unit = Statistics.UNITS[name];
      return `${sign}${name} ${App.number(numbers[name][i])}${unit}`;
    }).join('  ·  ');
  }

  /* ---- The table --------------------------------------------------------- */

  draw(state) {
    const numbers = Statistics.numbers(this.app, state);
    const shows = JSON.stringify([
      this.app.runs(state).map(run => this.app.part(run, state).id),
      numbers.difference, state.sort, state.reverse,
    ]);
    if (shows !== this.shows) {
      this.shows = shows;
      this.make(numbers, state);
    }
    this.mark(state);
  }

  make(numbers, state) {
    const table = this.create('table');
    table.append(this.caption(numbers), this.head(numbers, state),
                 this.body(numbers, state));
    this.element.replaceChildren(table);
    this.current = null;
  }

  create(name, text) {
    const element = this.app.document.createElement(name);
    if (text !== undefined) element.textContent = text;
    return element;
  }

  caption(numbers) {
    const {run, compare} = this.app.store.get();
    const whose = compare === 'side' ?
        `${this.app.title(numbers.part.run)}: ` : '';
    const count = whose + `${Controls.count(numbers.layers, 'layer')} × ` +
                  Controls.count(numbers.heads, 'head');
    const what = numbers.difference ?
        'Differences of means over rows.' :
        'Means over rows; entropy in nats, distance in tokens. ' +
        `P, F: at least ${Statistics.THRESHOLD} on the previous or the first.`;
    const {sampled} = this.app.part(run).summary;
    const rows = sampled ? ` Of a sample of ${sampled} rows.` : '';
    return this.create('caption', `${count}. ${what}${rows}`);
  }

  head(numbers, state) {
    const row = this.create('tr');
    for (const name of ['index', ...Statistics.NAMES]) {
      const cell = this.create('th');
      const button = this.create('button', Statistics.TITLES[name]);
      button.type = 'button';
      button.id = `sort-${name}`;
      button.title = Statistics.HELP[name];
      cell.scope = 'col';
      const falls = Statistics.falls(name, numbers) !== state.reverse;
      const sorted = state.sort === name;
      cell.setAttribute('aria-sort', !sorted ? 'none' :
                                     falls ? 'descending' : 'ascending');
      if (sorted && (name !== 'index' || falls)) {
        button.append(falls ? ' ↓' : ' ↑');
      }
      cell.append(button);
      row.append(cell);
    }
    const badges = this.create('th');
    badges.setAttribute('aria-label', 'What it does');
    row.append(badges);
    const head = this.create('thead');
    head.append(row);
    return head;
  }

  body(numbers, state) {
    const most = {};
    for (const name of Statistics.NAMES) {
      const sizes = numbers[name].filter(Number.isFinite).map(Math.abs);
      // A share is of 1; of the others the largest fills the cell.
      const share = name === 'previous' || name === 'first';
      most[name] = share && !numbers.difference ? 1 : Math.max(...sizes, 1e-9);
    }
    const body = this.create('tbody');
    this.rows.clear();
    for (const i of Statistics.order(numbers, state)) {
      body.append(this.row(numbers, i, most));
    }
    return body;
  }

  row(numbers, i, most) {
    const layer = Math.floor(i / numbers.heads);
    const head = i % numbers.heads;
    const row = this.create('tr');
    row.id = `stat-${layer}-${head}`;
    row.dataset.layer = layer;
    row.dataset.head = head;
    const name = this.create('th');
    name.scope = 'row';
    const button = this.create('button', `${layer}:${head}`);
    button.type = 'button';
    button.tabIndex = -1;
    button.setAttribute('aria-label', `Layer ${layer}, head ${head}`);
    name.append(button);
    row.append(name);
    for (const column of Statistics.NAMES) {
      row.append(this.cell(numbers[column][i], most[column],
                           numbers.difference ? 1 : 0));
    }
    row.append(this.badgeCell(Statistics.badges(numbers, i)));
    this.rows.set(`${layer}-${head}`, row);
    return row;
  }

  cell(value, most, more) {
    const known = Number.isFinite(value);
    const text = known ? Statistics.short(value, more) : '–';
    const cell = this.create('td', text);
    if (known) {
      const size = Math.min(100, 100 * Math.abs(value) / most);
      cell.style.setProperty('--size', `${size.toFixed(1)}%`);
      cell.title = App.number(value);
    }
    return cell;
  }

  badgeCell(badges) {
    const cell = this.create('td');
    cell.className = 'badges';
    for (const {letter, title} of badges) {
      const badge = this.create('span', letter);
      badge.className = 'badge';
      badge.title = title;
      cell.append(badge);
    }
    return cell;
  }

  /* Three digits, or so many more. */
  static short(value, more) {
    const size = Math.abs(value);
    const digits = (size >= 100 ? 0 : size >= 10 ? 1 : 2) + more;
    return value.toFixed(digits).replace('-', '−');
  }

  /* Marks the current head, and has it in sight. */
  mark(state) {
    const row = state.aggregate === 'none' ?
        this.rows.get(`${state.layer}-${state.head}`) : undefined;
    if (row === this.current && row !== undefined) return;
    if (this.current) {
      this.current.removeAttribute('aria-current');
      this.current.querySelector('button').tabIndex = -1;
    }
    this.current = row || null;
    const entry = row || this.rows.values().next().value;
    if (entry) entry.querySelector('button').tabIndex = 0;
    if (!row) return;
    row.setAttribute('aria-current', 'true');
    this.reveal(row);
  }

  /* Scrolls the table alone: scrollIntoView would move the page too. What was
   * out of sight comes to the middle. */
  reveal(row = this.current) {
    const {element} = this;
    if (!row) return;
    const box = element.getBoundingClientRect();
    const {top, bottom} = row.getBoundingClientRect();
    const head = element.querySelector('thead').offsetHeight;
    if (top >= box.top + head && bottom <= box.bottom) return;
    element.scrollTop += (top + bottom - box.top - box.bottom) / 2;
  }

  /* ---- What the user does ------------------------------------------------ */

  click(event) {
    const sort = event.target.closest('thead button');
    if (sort) {
      this.sort(sort.id.slice('sort-'.length));
      this.app.element(sort.id).focus();
      return;
    }
    const row = event.target.closest('tbody tr');
    if (row) this.select(row);
  }

  select(row) {
    this.app.store.set({layer: Number(row.dataset.layer), heads: [],
                        head: Number(row.dataset.head), aggregate: 'none'});
  }

  /* By a column; by the same once more: the other way round. */
  sort(name) {
    const state = this.app.store.get();
    this.app.store.set({sort: name,
                        reverse: state.sort === name && !state.reverse});
  }

  /* In the table up and down go through it in its order. */
  key(event) {
    const step = {ArrowUp: 'previousElementSibling',
                  ArrowDown: 'nextElementSibling'}[event.key];
    const row = event.target.closest('tbody tr');
    if (!step || !row) return;
    event.preventDefault();
    event.stopPropagation();
    const next = row[step];
    if (!next) return;
    this.select(next);
    next.querySelector('button').focus({preventScroll: true});
  }
}

Statistics.NAMES = ['entropy', 'distance', 'previous', 'first'];
Statistics.UNITS = {entropy: ' nats', distance: ' tokens', previous: '',
                    first: ''};
Statistics.TITLES = {index: 'L:H', entropy: 'entr.', distance: 'dist.',
                     previous: 'prev.', first: 'first'};
Statistics.HELP = {
  index: 'Sort by layer and head',
  entropy: 'Sort by entropy, in nats: how spread a row\'s weights are',
  distance: 'Sort by mean distance |row - key|, in tokens',
  previous: 'Sort by weight on the token before the row\'s own',
  first: 'Sort by weight on the first token',
};
/* A badge is of heads that give so much of their weight on average. */
Statistics.THRESHOLD = 0.5;
Statistics.BADGES = [
  {name: 'previous', letter: 'P',
   title: 'Previous token: at least half of the weight is on the token ' +
      'before the row\'s own'},
  {name: 'first', letter: 'F',
   title: 'First token: at least half of the weight is on the first token'},
];
