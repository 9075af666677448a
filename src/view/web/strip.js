'use strict';

/* strip.js - the text above the view, its tokens as they stand in it: coloured
 * by what the row that is selected gives them, or else by what all rows do.
 *
 * Where rows and keys are the same tokens they are one text, and a token there
 * selects its row. Else there are two: of rows, and of keys. */

class TextStrip {
  constructor(app) {
    this.app = app;
    this.entry = null;   // what is shown
    this.lists = {};     // "row", "key" -> {element, items, axis}
    this.one = true;     // whether rows and keys are one text
    for (const side of ['row', 'key']) this.listen(side);
    app.element('text-toggle').addEventListener('click', () => {
      const open = app.controls.toggle('text-toggle');
      app.element('text-body').hidden = !open;
      this.prepare(app.drawn, app.store.get());
      this.draw(app.store.get());
    });
  }

  listen(side) {
    const element = this.app.element(`text-${side}s`);
    const list = {element, items: [], axis: null};
    this.lists[side] = list;
    const place = event => {
      const item = event.target.closest('.token');
      return item === null ? -1 : Number(item.dataset.place);
    };
    element.addEventListener('pointerover', event => {
      const i = place(event);
      if (i >= 0 && event.pointerType !== 'touch') this.point(side, i);
    });
    element.addEventListener('pointerleave', event => {
      if (event.pointerType !== 'touch') this.app.point(-1, -1);
    });
    element.addEventListener('click', event => {
      const i = place(event);
      if (i >= 0) this.app.lock(...this.cell(side, i));
    });
    element.addEventListener('keydown', event => this.press(event, side));
  }

  /* What a token of a list selects: [row, key]. */
  cell(side, i) {
    return this.selects(side) === 'row' ? [i, -1] : [-1, i];
  }

  /* Of one text its tokens are rows. */
  selects(side) {
    return this.one ? 'row' : side;
  }

  point(side, i) {
    const index = this.app.drawn.indexOf(App.main(this.app.drawn));
    this.app.point(...this.cell(side, i), index);
  }

  /* Arrows, Home and End go through the text; Enter lets go. */
  press(event, side) {
    const state = this.app.store.get();
    const {n} = this.lists[side].axis;
    const at = state[this.selects(side)];
    const to = {ArrowLeft: at - 1, ArrowUp: at - 1, ArrowRight: at + 1,
                ArrowDown: at + 1, Home: 0, End: n - 1}[event.key];
    if (to === undefined && event.key !== 'Enter' && event.key !== ' ') return;
    event.preventDefault();
    event.stopPropagation();
    if (to === undefined) {
      this.app.keys.lock();
      return;
    }
    const [row, key] = this.cell(side, Math.max(0, Math.min(n - 1, to)));
    this.app.store.set({row, key, locked: true});
  }

  /* ---- Drawing ----------------------------------------------------------- */

  /* Takes the room that it needs; the view is drawn in what is left. */
  prepare(drawn, state) {
    const entry = App.main(drawn);
    const section = this.app.element('text');
    // Thumbnails know nothing of tokens.
    section.hidden = !entry || entry.missing !== '' || state.view === 'model';
    this.entry = null;
    if (section.hidden || this.app.element('text-body').hidden) return;
    this.entry = entry;
    const {rows, keys} = entry.frame;
    this.one = TextStrip.same(rows, keys);
    this.lists.row.element.hidden = this.one;
    this.fill('key', keys);
    if (!this.one) this.fill('row', rows);
  }

  draw(state) {
    const {entry} = this;
    if (entry === null) return;
    const {rows, keys} = entry.frame;
    const row = state.row < rows.n ? state.row : -1;
    const key = state.key < keys.n ? state.key : -1;
    this.color(entry, row, state);
    this.choose('key', this.one ? row : key, this.one ? key : -1);
    if (!this.one) this.choose('row', row, -1);
    for (const side of this.one ? ['key'] : ['row', 'key']) {
      this.mark(side, state.search);
    }
    this.say(entry, row, state);
  }

  static same(rows, keys) {
    return rows.tokens === keys.tokens && rows.n === keys.n &&
        rows.groups.every((group, i) => group[0] === keys.groups[i][0]);
  }

  /* The tokens of a list, made anew where they are others. */
  fill(side, axis) {
    const list = this.lists[side];
    if (list.axis === axis) return;
    const {document} = this.app;
    const spaced = Tokens.spaced(axis);
    const parts = document.createDocumentFragment();
    list.items = axis.labels.map((label, i) => {
      if (spaced[i]) parts.append(' ');
      const item = document.createElement('span');
      item.className = axis.added[i] ? 'token added' : 'token';
      item.id = `text-${side}-${i}`;
      item.dataset.place = i;
      item.setAttribute('role', 'option');
      item.setAttribute('aria-selected', 'false');
      item.textContent = TextStrip.plain(axis, label, i);
      parts.append(item);
      return item;
    });
    list.element.replaceChildren(parts);
    list.axis = axis;
    list.chosen = list.looked = null;
    list.search = '';
    list.deep = [];   // of each token what it was given last
    list.kinds = [];
  }

  /* A label without what a text does not have: marks of sub-words, and signs
   * for spaces. */
  static plain(axis, label, i) {
    const text = axis.tokens.texts[axis.groups[i][0]];
    if (/^ +$/.test(text) && axis.groups[i].length === 1) return text;
    const added = axis.added[i] || !Tokens.continued(axis.tokens, text);
    return added ? label : label.replace(/^##/, '');
  }

  /* Colours the keys by a row, or by the mean over rows. */
  color({frame}, row, state) {
    const m = frame.keys.n;
    const mean = row < 0 ? HeadsView.margins(frame).key : null;
    const value = j => mean ? mean[j] : MatrixView.shown(frame, row, j);
    let most = 1e-30;
    for (let j = 0; j < m; j++) {
      const size = Math.abs(value(j));
      if (size > most && size < Infinity) most = size;
    }
    const theme = Colors.theme();
    const head = state.aggregate === 'none' ?
        Colors.head(state.head, theme.dark) : theme.accent;
    const [less, more] = frame.what === 'weight' ? [head, head] :
        [-1, 1].map(sign => HeadsView.signColor(sign, theme));
    const list = this.lists.key;
    list.element.style.setProperty('--less', less);
    list.element.style.setProperty('--more', more);
    list.items.forEach((item, j) => {
      const of = value(j);
      const part = Number.isFinite(of) ? Math.abs(of) / most : 0;
      const deep = `${(TextStrip.DEEPEST * part ** 0.7).toFixed(1)}%`;
      const kind = of === -Infinity ? 'unseen' : of < 0 ? 'less' : '';
      // Styles are computed anew for what is set, even to the same.
      if (list.deep[j] !== deep) item.style.setProperty('--part', deep);
      if (list.kinds[j] !== kind) {
        for (const name of ['less', 'unseen']) {
          item.classList.toggle(name, kind === name);
        }
      }
      list.deep[j] = deep;
      list.kinds[j] = kind;
    });
  }

  /* Marks what is selected, and has it in sight; key: looked at, where a row is
   * selected. */
  choose(side, i, key) {
    const list = this.lists[side];
    const now = list.items[i] || null;
    if (list.looked) list.looked.classList.remove('looked');
    list.looked = list.items[key] || null;
    if (list.looked) list.looked.classList.add('looked');
    if (list.chosen === now) return;
    if (list.chosen) list.chosen.setAttribute('aria-selected', 'false');
    list.chosen = now;
    if (now === null) {
      list.element.removeAttribute('aria-activedescendant');
      return;
    }
    now.setAttribute('aria-selected', 'true');
    list.element.setAttribute('aria-activedescendant', now.id);
    // Not below a pointer that is on it.
    if (!list.element.matches(':hover')) TextStrip.reveal(list.element, now);
  }

  /* Scrolls the text alone. */
  static reveal(element, item) {
    const top = item.offsetTop - element.offsetTop;
    const bottom = top + item.offsetHeight;
    if (top < element.scrollTop) {
      element.scrollTop = top - 2;
    } else if (bottom > element.scrollTop + element.clientHeight) {
      element.scrollTop = bottom - element.clientHeight + 2;
    }
  }

  /* Marks what the search finds. */
  mark(side, search) {
    const list = this.lists[side];
    if (list.search === search) return;
    list.search = search;
    const found = new Set(Tokens.find(list.axis, search));
    list.items.forEach((item, i) => {
      item.classList.toggle('found', found.has(i));
    });
  }

  /* What the colours are, and of which run or head where there are several. */
  say({frame, title}, row, state) {
    const of = row < 0 ? `mean ${frame.what} received` :
        `${frame.what} of row ${row} “${frame.rows.labels[row]}”`;
    const several = state.view === 'heads' && state.aggregate === 'none' &&
                    state.heads.length > 1;
    const element = this.app.element('text-what');
    const whose = [several && `head ${state.head}`,
                   this.app.drawn.length > 1 && title].filter(Boolean);
    element.textContent = [of, ...whose].join(', ');
    element.title = element.textContent;
  }
}

/* Percent of a colour behind the strongest token: text stays readable. */
TextStrip.DEEPEST = 45;
