// neurons.js - the neuron view: how the weights of a row come about.
//
//   rows |  query of the row
//    of  |  key   key strip   product strip   q·k  scaled  masked  softmax
//   the  |  key   ...
//   text |
//
// A strip has a cell for each element of a head, blue below 0 and orange above.
// All of this is of tokens as the model read them: nothing is hidden or merged.
'use strict';

class NeuronView extends CanvasView {
  constructor(element, app) {
    super(element, app);
    this.row = -1;             // the token that was pointed at last
    this.element = -1;         // the element that is pointed at
    this.wantedRow = false;    // whether to scroll to what is selected
    this.wantedKey = false;
    this.computed = new Map(); // of each entry: see compute()
    this.rowBar = new ScrollBar(true);
    this.keyBar = new ScrollBar(true);
    this.keyBar.listen(element, () => this.surface.request());
  }

  draw(frames, state) {
    const first = this.state === null;
    const selected = this.take(frames, state);
    this.wantedKey = this.wantedKey || state.key >= 0 && selected.key;
    this.wantedRow = this.wantedRow || first || selected.row;
    this.prepare();
    this.surface.describe(frames.map((entry) => `${entry.run.name}: query, ` +
      `keys and products of row ${this.row}`).join('; '));
    this.surface.paintNow();
  }

  // ---- Tokens and the page's axes -----------------------------------------

  // The row that is selected, or else the one before, or else one that sees
  // much.
  prepare() {
    const {part, frame} = this.frames[this.main];
    const {row} = this.state;
    if (row >= 0 && row < frame.rows.n) {
      // Of a word or block the first, unless the pointer chose another of it.
      const group = frame.rows.groups[row];
      this.row = group.includes(this.row) ? this.row : group[0];
    } else if (this.row < 0 || this.row >= part.n) {
      this.row = part.causal ? part.n - 1 : 0;
    }
  }

  // The place on an axis where a token is; -1: it is hidden.
  static placeOf(axis, token) {
    let places = NeuronView.placesOf.get(axis);
    if (!places) {
      places = new Map();
      axis.groups.forEach((group, i) => {
        group.forEach((one) => places.set(one, i));
      });
      NeuronView.placesOf.set(axis, places);
    }
    const place = places.get(token);
    return place === undefined ? -1 : place;
  }

  axes(part) {
    return {rows: Tokens.axis(part, 'rows'), keys: Tokens.axis(part, 'keys')};
  }

  // ---- Numbers ------------------------------------------------------------

  // Everything of the row of an entry: Attention.row and products [m * D], the
  // largest sizes of query and key, and of products. Null: no query and key.
  compute(entry, index) {
    const {part} = entry;
    const {layer, head} = this.state;
    if (this.missing(entry)) {
      return null;
    }
    const row = Math.min(this.row, part.n - 1);
    const name = [part.id, layer, head, row].join();
    const kept = this.computed.get(index);
    if (kept && kept.name === name) {
      return kept.numbers;
    }
    const numbers = Attention.row(part, layer, head, row);
    if (numbers) {
      NeuronView.addProducts(numbers, part);
    }
    this.computed.set(index, {name, numbers, image: null});
    return numbers;
  }

  // Neurons are of one head, whatever is made of heads elsewhere.
  missing(entry) {
    const state = Object.assign({}, this.state, {aggregate: 'none'});
    return App.missing(state, entry.part, entry.title);
  }

  static addProducts(numbers, part) {
    const {query, keys} = numbers;
    const D = part.head_dim;
    numbers.products = new Float32Array(part.m * D);
    numbers.most = query.reduce((most, x) => Math.max(most, Math.abs(x)),
      1e-30);
    numbers.mostProduct = 1e-30;
    for (let i = 0; i < keys.length; i++) {
      const product = query[i % D] * keys[i];
      numbers.products[i] = product;
      numbers.most = Math.max(numbers.most, Math.abs(keys[i]));
      numbers.mostProduct = Math.max(numbers.mostProduct, Math.abs(product));
    }
    numbers.digits = {raw: NeuronView.digits(numbers.raw),
      scaled: NeuronView.digits(numbers.scaled),
      masked: NeuronView.digits(numbers.scaled), softmax: 4};
    numbers.mostSoftmax = numbers.softmax.reduce((most, x) =>
      Math.max(most, x), 1e-30);
  }

  // Behind the point, so that the largest of values has room in its column.
  static digits(values) {
    const most = values.reduce((max, x) => Math.max(max, Math.abs(x)), 1);
    return Math.max(0, Math.min(3, 5 - Math.ceil(Math.log10(most))));
  }

  // ---- Where things are ---------------------------------------------------

  layout(width, height) {
    const panes = Canvas.panes(width, height, this.frames);
    this.places = panes.map((pane, i) => this.place(pane, this.frames[i].part));
    const most = (name) => Math.max(...this.frames.map(({part}) => part[name]));
    const first = this.places[this.main];
    this.rowBar.place(first.list.end, first.listTop, first.listHeight,
      first.listHeight, most('n') * NeuronView.LIST_LINE);
    this.keyBar.place(first.pane.x + first.pane.w - ScrollBar.WIDTH - 1,
      first.y, first.h, first.h, most('m') * first.line);
    if (this.whole) {
      return;
    }
    if (this.wantedRow) {
      const at = this.row * NeuronView.LIST_LINE;
      this.rowBar.reveal(at - NeuronView.LIST_LINE,
        at + 2 * NeuronView.LIST_LINE);
    }
    if (this.wantedKey) {
      const group = this.frames[this.main].frame.keys.groups[this.state.key];
      const at = (group ? group[0] : 0) * first.line;
      this.keyBar.reveal(at - first.line, at + 2 * first.line);
    }
    this.wantedRow = this.wantedKey = false;
    this.surface.canvas.style.touchAction =
      this.rowBar.needed || this.keyBar.needed ? 'none' : 'pan-y';
  }

  bars() {
    return [this.rowBar, this.keyBar];
  }

  // Lines as high as on the screen, all of them.
  natural(width, height) {
    this.layout(width, height);
    const tall = this.places.map((place, i) => {
      const {n, m} = this.frames[i].part;
      const around = place.pane.y + place.pane.h - place.h - place.y;
      return Math.max(place.y + m * place.line,
        place.listTop + n * NeuronView.LIST_LINE) + around;
    });
    return {width, height: Math.ceil(Math.max(...tall))};
  }

  // Columns of a pane, from left to right {x, end}: list, key, strips, numbers.
  place(pane, part) {
    const narrow = pane.w < 700;
    const style = {size: NeuronView.FONT, bold: true};
    const {rows, keys} = this.axes(part);
    const widest = (axis) => Canvas.widest(axis.labels, style);
    const most = narrow ? 58 : 150;
    const x = pane.x + 6;
    const list = {x, end: x + Math.max(30, Math.min(most, widest(rows))) + 6};
    const key = {x: list.end + ScrollBar.WIDTH + 8};
    key.end = key.x + Math.max(30, Math.min(most, widest(keys)));
    const columns = NeuronView.columns(pane.w, part);
    const numbers = columns.reduce((sum, column) => sum + column.w, 0);
    const end = pane.x + pane.w - ScrollBar.WIDTH - 6;
    const room = end - key.end - 8 - numbers - (narrow ? 8 : 30);
    const strips = narrow ? 1 : 2;
    const cell = this.cellWidth(room / strips / part.head_dim);
    const strip = cell * part.head_dim;
    const keyStrip = {x: key.end + 8, end: key.end + 8 + strip};
    // Titles and scales need room above short strips too.
    const next = Math.max(keyStrip.end, keyStrip.x + 130) + 16;
    const product = narrow ? keyStrip : {x: next, end: next + strip};
    const head = NeuronView.HEAD + (narrow ? 18 : 0);
    const h = Math.max(1, pane.h - head - NeuronView.FOOT);
    const tall = Math.max(20, Math.min(26, Math.floor(h / part.m)));
    let at = narrow ? end - numbers : Math.max(product.end, next + 160) + 6;
    for (const column of columns) {
      column.x = at;
      at += column.w;
    }
    if (!narrow) {
      const last = columns[columns.length - 1];
      last.w = Math.min(320, Math.max(last.w, end - last.x));
    }
    return {pane, narrow, list, key, keyStrip, product, columns, cell,
      line: narrow ? 30 : tall, D: part.head_dim,
      queryTop: pane.y + 26, y: pane.y + head,
      h,
      listTop: pane.y + 26, listHeight: Math.max(1, pane.h - 26 - NeuronView.FOOT)};
  }

  // Elements are whole pixels of the screen wide, where there is room for one.
  cellWidth(room) {
    const ratio = this.surface.ratio;
    const wide = Math.max(0.25, Math.min(12, room));
    return wide * ratio >= 1 ? Math.floor(wide * ratio) / ratio : wide;
  }

  // The numbers that there is room for, and how wide they are.
  static columns(width, part) {
    const masked = part.causal || part.window > 0;
    const all = [{name: 'raw', title: 'q·k', w: 60},
      {name: 'scaled', title: 'scaled', w: 60},
      {name: 'masked', title: 'masked', w: 60},
      {name: 'softmax', title: 'softmax', w: 130}];
    if (width < 700) {
      all[0].w = 54;
      all[3].w = 58;
      return [all[0], all[3]];
    }
    return all.filter(({name}) => width >= 900 || name !== 'masked' || masked);
  }

  // The top of key j on the screen.
  top(place, j) {
    return place.y + j * place.line - this.keyBar.offset;
  }

  visible(place, m) {
    const from = Math.floor(this.keyBar.offset / place.line);
    const to = Math.ceil((this.keyBar.offset + place.h) / place.line);
    return {from: Math.max(0, Math.min(from, m)), to: Math.min(m, to)};
  }

  // ---- Painting -----------------------------------------------------------

  paint(pen, width, height) {
    if (this.frames.length === 0) {
      return;
    }
    const theme = Colors.theme();
    this.layout(width, height);
    this.places.forEach((place, i) => {
      const entry = this.frames[i];
      const numbers = this.compute(entry, i);
      Canvas.paintTitle(pen, place.pane, theme);
      if (numbers) {
        this.paintList(pen, theme, place, entry.part);
        this.paintQuery(pen, theme, place, entry, numbers);
        this.paintKeys(pen, theme, place, entry, numbers, i);
        NeuronView.paintNote(pen, theme, place, numbers.note);
      } else if (this.missing(entry)) {
        CanvasView.paintMissing(pen, theme, place.pane, this.missing(entry));
      } else {
        NeuronView.paintNoScores(pen, theme, place.pane);
      }
    });
    if (this.frames.some((entry, i) => this.compute(entry, i))) {
      this.rowBar.paint(pen, theme);
      this.keyBar.paint(pen, theme);
    }
  }

  static paintNoScores(pen, theme, pane) {
    const lines = ['This recording has no query and key.',
      'What they are is recorded where the attention file is written:',
      'clattn view TEXTFILE --model DIR does it, and so does the watch',
      'CLATTN_WATCH_QUERY_KEY of clattn_attention_options.'];
    const size = pane.w < 480 ? 11 : 13;
    lines.forEach((line, i) => {
      pen.text(pane.x + pane.w / 2, pane.y + pane.h / 2 + (i - 1.5) * 22, line,
        {size, bold: i === 0, align: 'center',
          color: i === 0 ? theme.ink : theme.muted});
    });
  }

  // Why the weights of the model are not quite these.
  static paintNote(pen, theme, {pane}, note) {
    const style = {size: 11, color: theme.mark};
    pen.text(pane.x + 6, pane.y + pane.h - NeuronView.FOOT / 2,
      Canvas.fit(note, pane.w - 12, style), style);
  }

  // The rows of the text, to point at.
  paintList(pen, theme, place, part) {
    const {rows} = this.axes(part);
    const {list} = place;
    const tall = NeuronView.LIST_LINE;
    const hits = new Set(this.state.search ?
      Tokens.find(rows, this.state.search) : []);
    pen.text(list.x, place.pane.y + 12, 'query',
      {size: 11, color: theme.muted});
    pen.clip(list.x - 6, place.listTop, list.end - list.x + 6,
      place.listHeight, () => {
        const from = Math.floor(this.rowBar.offset / tall);
        const to = Math.min(rows.n,
          Math.ceil((this.rowBar.offset + place.listHeight) / tall));
        for (let i = from; i < to; i++) {
          const y = place.listTop + i * tall - this.rowBar.offset;
          const chosen = i === Math.min(this.row, rows.n - 1);
          if (chosen) {
            pen.rect(list.x - 4, y, list.end - list.x + 2, tall, theme.accent);
          }
          const style = {size: NeuronView.FONT, bold: chosen || hits.has(i),
            color: chosen ? theme.onAccent : hits.has(i) ? theme.mark :
              rows.added[i] ? theme.muted : theme.ink};
          pen.text(list.x, y + tall / 2, Canvas.fit(rows.labels[i],
            list.end - list.x - 6, style), style);
        }
      });
    if (!this.rowBar.needed) {
      pen.rect(list.end + 3, place.listTop, 1, place.listHeight, theme.faint);
    }
  }

  // The query above the keys, titles of columns, and what the colours say.
  paintQuery(pen, theme, place, {part, frame, run}, numbers) {
    const {keyStrip, product, key, queryTop} = place;
    const row = Math.min(this.row, part.n - 1);
    const style = {size: 11, color: theme.muted};
    const name = Object.assign({}, style, {color: theme.ink, bold: true});
    const label = `query of ${row} “${this.axes(part).rows.labels[row]}”`;
    pen.text(key.x, place.pane.y + 12, Canvas.fit(label,
      keyStrip.end - key.x, name), name);
    const image = this.stripImage(theme, numbers.query, 1, place.D,
      numbers.most);
    pen.cells(keyStrip.x, queryTop, place.cell * place.D, 16, image);
    this.paintElement(pen, theme, place, keyStrip.x, queryTop, 16);
    const y = place.y - 10;
    pen.text(key.x, y, 'key', style);
    if (place.narrow) {
      const next = this.paintScale(pen, theme, key.x, queryTop + 30, 'key',
        numbers.most);
      this.paintScale(pen, theme, next + 12, queryTop + 30, 'product',
        numbers.mostProduct);
    } else {
      this.paintScale(pen, theme, keyStrip.x, y, 'key', numbers.most);
      this.paintScale(pen, theme, product.x, y, 'query × key',
        numbers.mostProduct);
      pen.text(product.x, queryTop + 8, this.sumOf(part, frame, run), style);
    }
    for (const column of place.columns) {
      pen.text(column.x + (column.name === 'softmax' && !place.narrow ? 56 :
        column.w), y, column.title, Object.assign({align: 'right'}, style));
    }
  }

  // Of a difference these are the numbers of one run.
  sumOf(part, frame, run) {
    const {layer, head} = this.state;
    const shared = part.heads / part.kv_heads;
    const from = shared > 1 ? ` · key head ${Math.floor(head / shared)}` : '';
    const whose = frame.what === 'difference' ?
      `${this.app.title(this.app.data.runs.indexOf(run))} · ` : '';
    return `${whose}layer ${layer} · head ${head}${from} · ` +
      `scale ${App.number(part.scale)}`;
  }

  // "key [colours] ±4.2"; returns where it ends.
  paintScale(pen, theme, x, y, title, most) {
    const style = {size: 11, color: theme.muted};
    const digits = most < 0.1 ? 4 : most < 10 ? 2 : 1;
    const end = `±${Canvas.shortNumber(most, digits)}` +
      (this.state.colors === 'root' ? ', root' : '');
    const at = x + Canvas.width(title, style) + 6;
    const map = Colors.diverging(theme.dark);
    pen.text(x, y, title, style);
    pen.cells(at, y - 4, 44, 8, Colors.gradient(map, false));
    pen.text(at + 50, y, end, style);
    return at + 50 + Canvas.width(end, style);
  }

  // values [rows * D] as a picture, 0 in the middle of the map.
  stripImage(theme, values, rows, D, most) {
    const scale = Colors.around(most, theme.dark, this.state.colors === 'root');
    const {pixels} = scale.map;
    const made = new Uint32Array(rows * D);
    for (let i = 0; i < made.length; i++) {
      made[i] = pixels[Colors.step(values[i], scale)];
    }
    return Canvas.image(D, rows, made);
  }

  // Pictures of the keys that are seen, kept while these are the same.
  images(theme, place, numbers, index, {from, to}) {
    const kept = this.computed.get(index);
    const name = [from, to, theme.dark, this.state.colors].join();
    if (!kept.image || kept.image.name !== name) {
      const of = (values, most) => this.stripImage(theme,
        values.subarray(from * place.D, to * place.D), to - from, place.D,
        most);
      kept.image = {name, keys: of(numbers.keys, numbers.most),
        products: of(numbers.products, numbers.mostProduct)};
    }
    return kept.image;
  }

  paintKeys(pen, theme, place, entry, numbers, index) {
    const {part, frame} = entry;
    const seen = this.visible(place, part.m);
    if (seen.to === seen.from) {
      return;
    }
    const {keys} = this.axes(part);
    const hits = new Set(this.state.search ?
      Tokens.find(keys, this.state.search) : []);
    const {pane} = place;
    pen.clip(place.key.x - 6, place.y, pane.x + pane.w - place.key.x + 6,
      place.h, () => {
        this.paintStrips(pen, theme, place,
          this.images(theme, place, numbers, index, seen), seen);
        for (let j = seen.from; j < seen.to; j++) {
          const chosen = this.state.key >= 0 &&
            NeuronView.placeOf(frame.keys, j) === this.state.key;
          this.paintKey(pen, theme, place, keys, j, {chosen, hit: hits.has(j),
            faint: keys.added[j] || numbers.masked[j] === -Infinity});
          this.paintNumbers(pen, theme, place, numbers, j);
        }
        const top = this.top(place, seen.from);
        const tall = (seen.to - seen.from) * place.line;
        this.paintElement(pen, theme, place, place.keyStrip.x, top, tall);
        if (!place.narrow) {
          this.paintElement(pen, theme, place, place.product.x, top, tall);
        }
      });
  }

  // Strips of all keys are one picture each, then parted by lines of paper. On
  // narrow screens key and product are two strips of one line.
  paintStrips(pen, theme, place, images, {from, to}) {
    const {line, cell, D, narrow} = place;
    const wide = cell * D;
    if (narrow) {
      for (let j = from; j < to; j++) {
        const y = this.top(place, j);
        const strip = (image, top) => pen.cells(place.keyStrip.x, top, wide, 11,
          NeuronView.oneRow(image, j - from));
        strip(images.keys, y + 3);
        strip(images.products, y + 15);
      }
      return;
    }
    const top = this.top(place, from);
    for (const [x, image] of [[place.keyStrip.x, images.keys],
      [place.product.x, images.products]]) {
      pen.cells(x, top, wide, (to - from) * line, image);
      for (let j = from; j <= to; j++) {
        pen.rect(x, this.top(place, j) - 2, wide, 4, theme.paper);
      }
    }
  }

  static oneRow(image, row) {
    image.rowImages = image.rowImages || [];
    if (!image.rowImages[row]) {
      const at = row * image.columns;
      image.rowImages[row] = Canvas.image(image.columns, 1,
        image.pixels.slice(at, at + image.columns));
    }
    return image.rowImages[row];
  }

  paintKey(pen, theme, place, keys, j, {chosen, hit, faint}) {
    const {key, line} = place;
    const y = this.top(place, j);
    if (chosen) {
      const end = place.pane.x + place.pane.w - ScrollBar.WIDTH - 4;
      pen.rect(key.x - 4, y, place.keyStrip.x - 2 - key.x, line, theme.accent,
        0.18);
      pen.rect(place.product.end + 2, y, end - place.product.end - 2, line,
        theme.accent, 0.18);
    }
    const style = {size: NeuronView.FONT, bold: chosen || hit,
      color: hit ? theme.mark : faint ? theme.muted : theme.ink};
    pen.text(key.x, y + line / 2,
      Canvas.fit(keys.labels[j], key.end - key.x, style), style);
  }

  paintNumbers(pen, theme, place, numbers, j) {
    const middle = this.top(place, j) + place.line / 2;
    for (const {name, x, w} of place.columns) {
      const value = numbers[name][j];
      const bar = name === 'softmax' && !place.narrow;
      pen.text(bar ? x + 56 : x + w, middle,
        Canvas.shortNumber(value, numbers.digits[name]),
        {size: 11.5, align: 'right', color: value === -Infinity ||
          name === 'softmax' && value < 5e-5 ? theme.muted : theme.ink});
      if (bar && value > 0) {
        pen.rect(x + 62, middle - 5, (w - 66) * value / numbers.mostSoftmax, 10,
          theme.accent, 0.85);
      }
    }
  }

  // A frame around the element that is pointed at.
  paintElement(pen, theme, place, x, y, height) {
    if (this.element >= 0 && this.element < place.D) {
      const wide = Math.max(3, place.cell + 2);
      pen.frame(x + (this.element + 0.5) * place.cell - wide / 2, y - 1, wide,
        height + 2, theme.ink);
    }
  }

  // ---- Pointers -----------------------------------------------------------

  // {index, list: row} or {index, key, element} of what is at a place; key -1
  // on the query, element -1 beside strips; null: nothing.
  at(x, y) {
    const index = this.places.findIndex(({pane}) => x >= pane.x &&
      x < pane.x + pane.w && y >= pane.y && y < pane.y + pane.h);
    if (index < 0 || !this.compute(this.frames[index], index) ||
        this.rowBar.contains(x, y) || this.keyBar.contains(x, y)) {
      return null;
    }
    const place = this.places[index];
    const {part} = this.frames[index];
    if (x < place.list.end) {
      const list = Math.floor((y - place.listTop + this.rowBar.offset) /
        NeuronView.LIST_LINE);
      return y >= place.listTop && list < part.n ? {index, list} : null;
    }
    if (y >= place.queryTop && y < place.queryTop + 16) {
      const element = NeuronView.elementAt(place, place.keyStrip, x);
      return element < 0 ? null : {index, key: -1, element};
    }
    const key = Math.floor((y - place.y + this.keyBar.offset) / place.line);
    if (y < place.y || key >= part.m || x < place.key.x) {
      return null;
    }
    return {index, key, element: Math.max(
      NeuronView.elementAt(place, place.keyStrip, x),
      NeuronView.elementAt(place, place.product, x))};
  }

  static elementAt(place, strip, x) {
    return x >= strip.x && x < strip.end ?
      Math.min(place.D - 1, Math.floor((x - strip.x) / place.cell)) : -1;
  }

  hover(x, y, event) {
    const at = this.at(x, y);
    const element = at && at.element >= 0 ? at.element : -1;
    this.surface.canvas.style.cursor = at ? 'pointer' : 'default';
    if (element !== this.element) {
      this.element = element;
      this.surface.request();
    }
    if (!at) {
      this.leave();
      return;
    }
    if (at.list !== undefined && !this.state.locked) {
      this.row = at.list;
      this.surface.request();
    }
    const {row, key} = this.selection(at);
    this.pointed = `${row},${key}`;
    const lines = this.tell(at);
    this.app.point(row, key, at.index, lines.slice(2).join(' · '));
    const {left} = this.surface.canvas.getBoundingClientRect();
    this.app.tooltip(lines, at.list === undefined ? event.clientX :
      left + this.places[at.index].list.end, event.clientY);
  }

  // Places on the frame's axes of what is pointed at.
  selection({index, list, key}) {
    const {rows, keys} = this.frames[index].frame;
    return {
      row: NeuronView.placeOf(rows, list === undefined ? this.row : list),
      key: key >= 0 ? NeuronView.placeOf(keys, key) : -1,
    };
  }

  tell({index, list, key, element}) {
    const entry = this.frames[index];
    const {rows, keys} = this.axes(entry.part);
    if (list !== undefined) {
      return App.token(entry.part, 'rows', rows, list);
    }
    const numbers = this.compute(entry, index);
    const {head_dim: D} = entry.part;
    if (key < 0) {
      return [`query of ${rows.labels[this.row]}`, `element ${element}`,
        `query ${App.number(numbers.query[element])}`];
    }
    const lines = [`${rows.labels[this.row]} → ${keys.labels[key]}`,
      `row ${this.row}, key ${key}`];
    if (element >= 0) {
      const i = key * D + element;
      return lines.concat([`element ${element}`,
        `query ${App.number(numbers.query[element])}`,
        `key ${App.number(numbers.keys[i])}`,
        `product ${App.number(numbers.products[i])}`]);
    }
    return lines.concat([`q·k ${App.number(numbers.raw[key])}`,
      `scaled ${App.number(numbers.scaled[key])}`,
      `masked ${App.number(numbers.masked[key])}`,
      `softmax ${App.number(numbers.softmax[key])}`]);
  }

  leave() {
    if (this.element >= 0) {
      this.element = -1;
      this.surface.request();
    }
    super.leave();
  }

  tap(x, y) {
    const at = this.at(x, y);
    if (at && at.list !== undefined) {
      this.row = at.list;
    }
    const {row, key} = at ? this.selection(at) : {row: -1, key: -1};
    this.pointed = `${row},${key}`;
    this.app.lock(row, key);
  }

  grab(x, y) {
    const bar = [this.rowBar, this.keyBar].find((one) => one.contains(x, y));
    if (bar) {
      bar.press(x, y);
      this.surface.request();
    }
    return {bar, side: bar || this.side(x)};
  }

  // The scroll bar of the column below x.
  side(x) {
    const place = this.places.find(({pane}) => x >= pane.x &&
      x < pane.x + pane.w);
    return place && x < place.list.end + ScrollBar.WIDTH ? this.rowBar :
      this.keyBar;
  }

  drag(dx, dy, x, y, grabbed) {
    const {bar, side} = grabbed || {bar: null, side: this.side(x)};
    this.app.tooltip(null);
    if (bar ? bar.dragBy(dx, dy) : side.moveBy(-dy)) {
      this.surface.request();
    }
  }

  wheel(x, y, dx, dy, event) {
    if (event.ctrlKey || !this.side(x).moveBy(dy)) {
      return false;
    }
    this.surface.request();
    return true;
  }
}

NeuronView.FONT = 12.5;
NeuronView.HEAD = 70;         // pixels above the keys: the query and titles
NeuronView.FOOT = 18;
NeuronView.LIST_LINE = 19;
NeuronView.placesOf = new WeakMap();
