'use strict';

/* controls.js - pickers, switches, sliders, search: they write to the store,
 * and show what is in it, whoever wrote it. */

class Controls {
  constructor(app) {
    this.app = app;
    this.made = {};  // options of selects: id -> what they were made of
    this.found = {rows: [], keys: []};  // places that the search found
    const title = app.data.title || 'Attention';
    app.document.title = `${title} · clattn`;
    this.get('title').textContent = title;
    this.get('title').title = title;
    this.listenTabs();
    this.listenPickers();
    this.listenHeads();
    this.listenTools();
    this.listenSearch();
  }

  get(id) {
    return this.app.element(id);
  }

  on(id, event, f) {
    this.get(id).addEventListener(event, f);
  }

  set(change) {
    this.app.store.set(change);
  }

  /* ---- What the user does ------------------------------------------------ */

  listenTabs() {
    for (const view of Controls.VIEWS) {
      this.on(`tab-${view}`, 'click', () => this.set({view}));
    }
    // As in all lists of tabs: arrows go from one to the next.
    this.on('tabs', 'keydown', event => {
      const step = {ArrowLeft: -1, ArrowRight: 1}[event.key];
      if (!step) return;
      event.preventDefault();
      event.stopPropagation();
      const {view} = this.app.store.get();
      const n = Controls.VIEWS.length;
      const next =
          Controls.VIEWS[(Controls.VIEWS.indexOf(view) + step + n) % n];
      this.set({view: next});
      this.get(`tab-${next}`).focus();
    });
  }

  listenPickers() {
    for (const id of ['part', 'layer', 'run']) {
      this.on(id, 'change', () => this.set({[id]: Number(this.get(id).value)}));
    }
    this.on('head', 'change', () => this.head(Number(this.get('head').value)));
    for (const id of ['aggregate', 'pair', 'compare', 'colors']) {
      this.on(id, 'change', () => this.set({[id]: this.get(id).value}));
    }
    for (const [id, step] of [['down', -1], ['up', 1]]) {
      this.on(`layer-${id}`, 'click', () => this.stepLayer(step));
      this.on(`head-${id}`, 'click', () => this.stepHead(step));
    }
    this.on('stage', 'change', event => this.set({stage: event.target.value}));
    this.on('temperature', 'input', () => this.set({
      temperature: Controls.temperature(Number(this.get('temperature').value)),
    }));
    for (const id of ['hide', 'words']) {
      this.on(id, 'change', () => this.set({[id]: this.get(id).checked}));
    }
    this.on('lines', 'input',
            () => this.set({lines: Number(this.get('lines').value)}));
    this.on('zoom-in', 'click', () => this.zoom(1));
    this.on('zoom-out', 'click', () => this.zoom(-1));
    this.on('zoom-fit', 'click', () => this.set({zoom: 0}));
    this.on('more', 'click', () => this.toggle('more'));
    this.on('side-toggle', 'click', () => this.toggleSide());
  }

  /* Shows or hides the table of heads. */
  toggleSide() {
    this.get('side').hidden = !this.toggle('side-toggle');
  }

  /* Turns aria-expanded over; gives the new one. */
  toggle(id) {
    const button = this.get(id);
    const open = button.getAttribute('aria-expanded') !== 'true';
    button.setAttribute('aria-expanded', String(open));
    return open;
  }

  /* 10^x in two digits, so that the middle is 1 exactly. */
  static temperature(x) {
    return Number((10 ** x).toPrecision(2));
  }

  /* A head that is picked is shown alone. */
  head(head) {
    this.set({head, heads: [], aggregate: 'none'});
  }

  stepLayer(step) {
    this.set({layer: this.app.store.get().layer + step});
  }

  /* On from the last head of a layer is the first one of the next. */
  stepHead(step) {
    const state = this.app.store.get();
    const {heads, layers} = this.app.extent();
    const at = state.layer * heads + state.head + step;
    if (at < 0 || at >= heads * layers) return;
    this.set({layer: Math.floor(at / heads), head: at % heads, heads: [],
              aggregate: 'none'});
  }

  /* Larger or smaller cells of the matrix, by a half. */
  zoom(step) {
    if (this.app.store.get().view !== 'matrix') return;
    this.app.views.matrix.zoomBy(1.5 ** step);
  }

  listenHeads() {
    this.on('heads', 'click', event => {
      const button = event.target.closest('button');
      if (button) this.toggleHead(Number(button.dataset.head));
    });
    this.on('heads-all', 'click', () => {
      const {heads} = this.app.extent();
      this.set({heads: Array.from({length: heads}, (_, h) => h),
                aggregate: 'none'});
    });
    this.on('heads-none', 'click', () => this.set({heads: []}));
  }

  /* Puts a head beside those shown, or takes it away; one stays. */
  toggleHead(head) {
    const state = this.app.store.get();
    const shown = state.heads.length ? [...state.heads] : [state.head];
    const heads = shown.includes(head) ? shown.filter(h => h !== head) :
                                         [...shown, head];
    if (heads.length === 0) return;
    const alone = heads.length === 1;
    this.set({
      heads: alone ? [] : heads.sort((a, b) => a - b), aggregate: 'none',
      head: alone || !heads.includes(state.head) ? heads[0] : state.head,
    });
  }

  listenTools() {
    this.on('theme', 'click', () => this.nextTheme());
    this.on('help', 'click', () => this.app.keys.help());
    this.on('help-close', 'click', () => this.get('help-dialog').close());
    this.on('export', 'click', () => this.menu());
    this.on('export-menu', 'keydown', event => this.menuKey(event));
    this.app.document.addEventListener('pointerdown', event => {
      if (!event.target.closest('.menu')) this.menu(false);
    });
    for (const kind of ['svg', 'png', 'csv']) {
      this.on(`export-${kind}`, 'click', () => {
        this.menu(false);
        this.get('export').focus();
        this.app.exporter.save(kind);
      });
    }
  }

  nextTheme() {
    const {theme} = this.app.store.get();
    const at = Controls.THEMES.indexOf(theme);
    this.set({theme: Controls.THEMES[(at + 1) % Controls.THEMES.length]});
  }

  /* Opens and closes the menu; open undefined: the other way. */
  menu(open = this.get('export-menu').hidden) {
    this.get('export-menu').hidden = !open;
    this.get('export').setAttribute('aria-expanded', String(open));
    if (open) this.get('export-svg').focus();
  }

  menuKey(event) {
    const items = [...this.get('export-menu').querySelectorAll('button')];
    const at = items.indexOf(this.app.document.activeElement);
    const step = {ArrowDown: 1, ArrowUp: -1}[event.key];
    if (step) {
      items[(at + step + items.length) % items.length].focus();
    } else if (event.key === 'Escape') {
      this.menu(false);
      this.get('export').focus();
    } else {
      if (event.key === 'Tab') this.menu(false);
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  listenSearch() {
    this.on('search', 'input',
            () => this.set({search: this.get('search').value}));
    this.on('search', 'keydown', event => {
      if (event.key === 'Enter') this.nextFound(event.shiftKey ? -1 : 1);
      if (event.key !== 'Escape') return;
      event.stopPropagation();
      if (this.get('search').value === '') this.get('search').blur();
      else this.set({search: ''});
      event.preventDefault();
    });
  }

  /* Locks the next place that the search found: rows first, then, where they
   * are others, keys. */
  nextFound(step) {
    const state = this.app.store.get();
    const places = this.found.rows.map(row => ({row, key: -1}));
    if (this.app.part(state.run).cross) {
      places.push(...this.found.keys.map(key => ({row: -1, key})));
    }
    if (places.length === 0) return;
    const at = places.findIndex(
        ({row, key}) => state.locked && row === state.row &&
                        (row >= 0 || key === state.key));
    const next = at < 0 ? (step > 0 ? 0 : places.length - 1) :
                          (at + step + places.length) % places.length;
    this.set({...places[next], locked: true});
  }

  /* ---- What is in the store ---------------------------------------------- */

  update(state, changed) {
    const part = this.app.part(state.run, state);
    this.fillPickers(state);
    this.showPickers(state, part);
    this.showStages(state, part);
    this.showSliders(state);
    this.showTabs(state);
    this.showHeads(state);
    this.showTools(state);
    if (changed.has('search')) this.showFound();
    this.showRuns(state);
  }

  /* Options [[value, text]] of a select, made anew only where they changed: an
   * open list would close. */
  fill(id, options) {
    const made = JSON.stringify(options);
    if (this.made[id] === made) return;
    this.made[id] = made;
    this.get(id).replaceChildren(...options.map(([value, text]) => {
      const option = this.app.document.createElement('option');
      option.value = String(value);
      option.textContent = text;
      return option;
    }));
  }

  fillPickers(state) {
    const count = n => Array.from({length: n}, (_, i) => [i, String(i)]);
    const {runs} = this.app.data;
    const {parts} = runs[state.run];
    this.fill('part', parts.map((one, i) => [i, one.name || one.kind]));
    const {layers, heads} = this.app.extent(state);
    this.fill('layer', count(layers));
    this.fill('head', count(heads));
    this.fill('run', runs.map((run, i) => [i, this.app.title(i)]));
    this.get('field-part').hidden = parts.length < 2;
    this.get('field-compare').hidden = runs.length < 2;
    this.get('field-run').hidden = runs.length < 2;
  }

  showPickers(state, part) {
    for (const id of ['part', 'layer', 'head', 'aggregate', 'pair', 'compare',
                      'run']) {
      this.get(id).value = String(state[id]);
    }
    for (const id of ['hide', 'words']) this.get(id).checked = state[id];
    const {layers, heads} = this.app.extent(state);
    const at = state.layer * heads + state.head;
    this.get('layer-down').disabled = state.layer === 0;
    this.get('layer-up').disabled = state.layer === layers - 1;
    this.get('head-down').disabled = at === 0;
    this.get('head-up').disabled = at === heads * layers - 1;
    const sides = [part.rows, part.keys];
    this.get('field-pair').hidden = !sides.some(
        ({segments}) => segments && [0, 1].every(s => segments.includes(s)));
    this.get('field-hide').hidden = !sides.some(
        ({added}) => added && added.some(Boolean));
    this.get('field-run').hidden =
        this.app.data.runs.length < 2 || state.compare === 'side';
    const difference = state.compare === 'difference';
    this.get('field-run').querySelector('label').textContent =
        difference ? 'Take from' : 'Run';
    // Thumbnails are of the weights as recorded, neurons of one head and row.
    const alone = state.view === 'model' || state.view === 'neurons';
    for (const id of ['aggregate', 'stage', 'pair', 'hide', 'words']) {
      this.idle(`field-${id}`, alone, 'Not of this view');
    }
    this.idle('field-temperature', alone || state.stage !== 'softmax',
              alone ? 'Not of this view' : 'Of weights alone');
  }

  /* What the view in sight does not heed is grey. */
  idle(id, idle, why) {
    this.get(id).classList.toggle('idle', idle);
    this.get(id).title = idle ? why : '';
  }

  /* A stage that cannot be had is struck out, and says why. */
  showStages(state, part) {
    const can = Attention.stages(part);
    for (const stage of Controls.STAGES) {
      const input = this.get(`stage-${stage}`);
      input.checked = stage === state.stage;
      input.disabled = can[stage] !== true;
      input.parentElement.title =
          can[stage] === true ? Controls.STAGE_HELP[stage] : can[stage];
    }
  }

  showSliders(state) {
    const temperature = this.get('temperature');
    if (Controls.temperature(Number(temperature.value)) !== state.temperature) {
      temperature.value = Math.log10(state.temperature);
    }
    this.get('temperature-value').textContent =
        String(Number(state.temperature.toPrecision(3)));
    this.get('lines').value = state.lines;
    this.get('lines-value').textContent = String(state.lines);
    this.get('field-lines').hidden = state.view !== 'heads';
    this.get('field-zoom').hidden = state.view !== 'matrix';
    this.get('field-colors').hidden =
        !['matrix', 'neurons'].includes(state.view);
    this.get('colors').value = state.colors;
    this.get('zoom-fit').disabled = state.zoom === 0;
  }

  showTabs(state) {
    for (const view of Controls.VIEWS) {
      const tab = this.get(`tab-${view}`);
      const current = view === state.view;
      tab.setAttribute('aria-selected', String(current));
      tab.tabIndex = current ? 0 : -1;
    }
  }

  /* A button of each head, in the colour of its lines. */
  showHeads(state) {
    const field = this.get('field-heads');
    const {heads: most} = this.app.extent(state);
    field.hidden = state.view !== 'heads' || most < 2;
    if (field.hidden) return;
    const dark = Colors.isDark(state);
    this.fillHeads(most);
    const one = state.aggregate === 'none';
    const shown = state.heads.length ? state.heads : [state.head];
    for (const [h, button] of [...this.get('heads').children].entries()) {
      button.setAttribute('aria-pressed', String(one && shown.includes(h)));
      button.style.setProperty('--head', Colors.head(h, dark));
    }
    this.get('heads-none').disabled = state.heads.length < 2;
    this.get('heads-all').disabled = state.heads.length === most;
  }

  fillHeads(n) {
    if (this.made.heads === n) return;
    this.made.heads = n;
    this.get('heads').replaceChildren(...Array.from({length: n}, (_, h) => {
      const button = this.app.document.createElement('button');
      button.type = 'button';
      button.id = `heads-${h}`;
      button.dataset.head = h;
      button.textContent = String(h);
      button.setAttribute('aria-label', `Head ${h}`);
      return button;
    }));
  }

  showTools(state) {
    const theme = this.get('theme');
    theme.textContent = Controls.THEME_SIGNS[state.theme];
    theme.title = `Theme: ${state.theme} (t)`;
    theme.setAttribute('aria-label', `Theme: ${state.theme}`);
    this.get('export-csv-what').textContent =
        state.view === 'model' ? 'all heads' : 'the matrix';
    const search = this.get('search');
    if (search.value !== state.search) search.value = state.search;
  }

  /* Runs, their models where these are others, and what they read. */
  showRuns(state) {
    const {title} = this.app.data;
    const texts = this.app.runs(state).map(r => {
      const run = this.app.data.runs[r];
      const {n, m, cross, layers, heads, kv_heads: kvHeads, head_dim: dim} =
          this.app.part(r, state);
      const names = [this.app.title(r), run.model].filter(
          (name, i, all) => name && name !== title && all.indexOf(name) === i);
      const tokens = cross ? `${Controls.count(n, 'row')}, ` +
          Controls.count(m, 'key') : Controls.count(n, 'token');
      const shared = kvHeads < heads ?
          `, ${Controls.count(kvHeads, 'key head')}` : '';
      const size = dim > 0 ? `, dimension ${dim}` : '';
      return `${names.map(name => `${name}: `).join('')}${tokens}, ` +
             `${Controls.count(layers, 'layer')} × ` +
             `${Controls.count(heads, 'head')}${shared}${size}`;
    });
    const joint = state.compare === 'difference' ? ' − ' : '  |  ';
    this.get('runs').textContent = texts.join(joint);
    this.get('runs').title = texts.join(joint);
  }

  /* ---- What was drawn ---------------------------------------------------- */

  /* New frames: numbers of what is shown, and what the search finds in it. */
  shown(drawn) {
    const state = this.app.store.get();
    const numbers = this.numbers(state, drawn);
    for (const name of Statistics.NAMES) {
      const value = numbers[name];
      const element = this.get(`shown-${name}`);
      element.textContent = Number.isFinite(value) ? value.toFixed(3) : '–';
      element.title = App.number(value ?? NaN);
    }
    this.get('shown-title').textContent = Controls.what(state, drawn);
    this.showFound();
  }

  /* Of a head as it was recorded those of the table; of what was made of it
   * those of the frame. */
  numbers(state, drawn) {
    const entry = App.main(drawn);
    if (!entry) return {};
    const shown = Controls.summary(entry);
    if (state.aggregate !== 'none' ||
        Controls.changes(state, entry.part).length > 0) {
      return shown;
    }
    const table = Statistics.numbers(this.app, {
      ...state, run: entry.part.run, part: entry.part.index,
      compare: entry.of ? 'difference' : 'one'});
    const at = state.layer * table.heads + state.head;
    const known = entry.of && !table.difference ? [] :
        Statistics.NAMES.filter(name => Number.isFinite(table[name][at]));
    return {...shown, ...Object.fromEntries(
        known.map(name => [name, table[name][at]]))};
  }

  /* Of a difference: that of both. */
  static summary({frame, part, of}) {
    if (!of) {
      const numbers = Attention.summary(frame, part.cross);
      return part.cross ? {...numbers, previous: NaN} : numbers;
    }
    const [a, b] = of.map(Controls.summary);
    return Object.fromEntries(
        Object.keys(a).map(name => [name, a[name] - b[name]]));
  }

  /* "1 layer", "2 layers". */
  static count(n, what) {
    return `${n} ${what}${n === 1 ? '' : 's'}`;
  }

  /* What was done to weights before they are shown: ["scaled scores", ...]. */
  static changes(state, part) {
    const texts = [];
    const weights = state.stage === 'softmax' ||
                    state.aggregate === 'rollout' ||
                    Attention.stages(part)[state.stage] !== true;
    if (!weights) texts.push(`${state.stage} scores`);
    else if (state.temperature !== 1) {
      texts.push(`T ${Number(state.temperature.toPrecision(3))}`);
    }
    if (state.pair !== 'all') {
      texts.push(`${'AB'[state.pair[0]]} to ${'AB'[state.pair[1]]}`);
    }
    if (state.hide) texts.push('without special tokens');
    if (state.words) texts.push('by words');
    return texts;
  }

  /* "Layer 3, head 1" and, where its numbers are not those of the table, why:
   * "of what is shown: by words". */
  static what(state, drawn) {
    const one = state.view === 'heads' && state.heads.length > 1 ?
        `head ${state.head} alone of ${state.heads.length} together` :
        `head ${state.head}`;
    const words = {none: one, mean: 'mean of heads',
                   max: 'max of heads', rollout: 'rollout up to it'};
    const texts = [`Layer ${state.layer}, ${words[state.aggregate]}`];
    const entry = App.main(drawn);
    if (!entry) return texts.join(', ');
    if (entry.of) texts.push('difference');
    if (drawn.length > 1) texts.push(entry.title);
    const changes = Controls.changes(state, entry.part);
    const more = changes.length > 0 ?
        `; of what is shown: ${changes.join(', ')}` : '';
    return texts.join(', ') + more;
  }

  showFound() {
    const {search} = this.app.store.get();
    const entry = App.main(this.app.drawn);
    const count = this.get('search-count');
    this.found = {rows: [], keys: []};
    if (entry && search !== '') {
      this.found.rows = Tokens.find(entry.frame.rows, search);
      this.found.keys = Tokens.find(entry.frame.keys, search);
    }
    const {rows, keys} = this.found;
    count.textContent = search === '' ? '' :
        entry && entry.part.cross ? `${rows.length} + ${keys.length}` :
                                    String(Math.max(rows.length, keys.length));
  }
}

Controls.VIEWS = ['heads', 'model', 'matrix', 'neurons'];
Controls.STAGES = ['raw', 'scaled', 'masked', 'softmax'];
Controls.STAGE_HELP = {
  raw: 'Product of query and key',
  scaled: 'Product of query and key, times the scale',
  masked: 'Scaled; keys that a row does not see are −∞',
  softmax: 'Weights: each row sums to 1',
};
Controls.THEMES = ['auto', 'light', 'dark'];
Controls.THEME_SIGNS = {auto: '◐', light: '☀', dark: '☾'};
