// heads.js - the head view: rows on the left, keys on the right, lines
// between.
//
//   | bar | label | squares |   lines   | squares | label | bar |
//
// Squares are there for several heads: one a head. What they and the bars say
// depends on what is selected: nothing: the largest weight of a row, and the
// mean weight that a key is given; a row: the weights of its keys; a key: its
// weight in each row.
'use strict';

class HeadsView extends CanvasView {
  constructor(element, app) {
    super(element, app);
    this.together = null;      // frames of several heads: see askTogether()
    this.wanted = false;       // whether to scroll to what is selected
    this.bar = new ScrollBar(true);
    this.bar.listen(element, () => this.surface.request());
  }

  draw(frames, state) {
    const selected = this.take(frames, state);
    this.askTogether();
    this.surface.describe(frames.map((entry) => `${entry.title}: ` +
      `${entry.frame.rows.n} rows, ${entry.frame.keys.n} keys and lines ` +
      'between them').join('; '));
    this.wanted = this.wanted || selected.row || selected.key;
    // The heads before stay in sight until those that are asked for are there.
    if (!this.waits()) {
      this.surface.paintNow();
    }
  }

  // ---- Several heads ------------------------------------------------------

  // The heads that are shown together.
  heads() {
    const {heads, aggregate} = this.state;
    return aggregate === 'none' ? heads : [];
  }

  // Whether the frames of several heads are still to come, and others are shown.
  waits() {
    return this.heads().length > 0 && this.together !== null &&
      this.together.entries === null && this.together.after;
  }

  // Asks for the frames of all heads, and paints once they are there. Which
  // they are of is known by the frames that were drawn.
  async askTogether() {
    const heads = this.heads();
    const of = this.frames.map((entry) => entry.frame);
    const same = this.together && this.together.heads.join() === heads.join() &&
      this.together.of.length === of.length &&
      this.together.of.every((frame, i) => frame === of[i]);
    if (heads.length === 0 || same) {
      return;
    }
    const after = Boolean(this.together && this.together.heads.length);
    const asked = {heads, of, entries: null, after};
    this.together = asked;
    try {
      const entries = await Promise.all(heads.map((head) =>
        this.app.frames({head})));
      if (this.together === asked) {
        asked.entries = entries;
        this.draw(this.frames, this.state);
      }
    } catch (error) {
      // Something else was asked for meanwhile, and draw() comes again.
      if (this.together === asked) {
        this.together = null;
      }
      if (error.name !== 'AbortError') {
        throw error;
      }
    }
  }

  // What is drawn of frame `index`: [{head, frame, color}].
  shown(index, theme) {
    const one = this.frames[index].frame;
    const heads = this.heads();
    const got = this.together && this.together.entries;
    const {head, aggregate} = this.state;
    const color = (h) => Colors.head(h, theme.dark);
    if (heads.length === 0 || !got) {
      return [{head, frame: one,
        color: aggregate === 'none' ? color(head) : theme.accent}];
    }
    // A run may have fewer heads.
    return heads.map((h, i) => ({head: h, color: color(h),
      frame: got[i][Math.min(index, got[i].length - 1)].frame}))
      .filter(({frame}) => frame.rows.n > 0 || one.rows.n === 0);
  }

  // ---- Where things are ---------------------------------------------------

  layout(width, height, theme) {
    const panes = Canvas.panes(width, height, this.frames);
    const longest = Math.max(1, ...this.frames.map(({frame}) =>
      Math.max(frame.rows.n, frame.keys.n)));
    const room = Math.max(1, panes[0].h - HeadsView.HEAD - HeadsView.FOOT);
    this.line = Math.max(HeadsView.LINE,
      Math.min(HeadsView.LARGEST_LINE, Math.floor(room / longest)));
    this.places = panes.map((pane, i) => this.place(pane, i, room, theme));
    const first = panes[this.main];
    this.bar.place(first.x + first.w - ScrollBar.WIDTH - 1,
      first.y + HeadsView.HEAD, room, room, longest * this.line);
    if (this.wanted && !this.whole) {
      this.wanted = false;
      for (const i of [this.state.key, this.state.row]) {
        if (i >= 0) {
          this.bar.reveal((i - 1) * this.line, (i + 2) * this.line);
        }
      }
    }
    this.surface.canvas.style.touchAction = this.bar.needed ? 'none' : 'pan-y';
  }

  // {pane, y, h, n, m, layers, and where columns begin and end}.
  place(pane, index, room, theme) {
    const {frame} = this.frames[index];
    const layers = this.shown(index, theme);
    const style = {size: HeadsView.FONT, bold: true};
    const wide = Math.min(pane.w - ScrollBar.WIDTH - 8, HeadsView.WIDEST);
    const label = (axis) => Math.ceil(Math.max(30, Math.min(180, wide * 0.2,
      Canvas.widest(axis.labels, style))));
    // Without much room for lines beside squares the left has no numbers.
    const narrow = wide < 560;
    const number = {row: !narrow ? 112 : layers.length > 1 ? 4 : 44,
      key: narrow ? 44 : 112};
    const square = layers.length > 1 ? Math.max(2, Math.min(11,
      Math.floor(wide * (narrow ? 0.11 : 0.16) / layers.length))) : 0;
    const left = label(frame.rows);
    const right = label(frame.keys);
    const x = pane.x + Math.max(4, (pane.w - ScrollBar.WIDTH - wide) / 2);
    const rowEnd = x + number.row + left;
    const keyStart = x + wide - number.key - right;
    const squares = square * layers.length;
    return {pane, layers, square, number, y: pane.y + HeadsView.HEAD, h: room,
      n: frame.rows.n, m: frame.keys.n, x, end: x + wide, rowEnd, keyStart,
      labels: {row: left, key: right},
      from: rowEnd + 8 + squares + (squares ? 4 : 0),
      to: keyStart - 8 - squares - (squares ? 4 : 0)};
  }

  bars() {
    return [this.bar];
  }

  // Tokens as far apart as on the screen, all of them.
  natural(width, height) {
    const panes = Canvas.panes(width, height, this.frames);
    const longest = Math.max(1, ...this.frames.map(({frame}) =>
      Math.max(frame.rows.n, frame.keys.n)));
    const around = height - panes[0].h + HeadsView.HEAD + HeadsView.FOOT;
    return {width, height: Math.ceil(around + longest * this.line)};
  }

  // The middle of a token on the screen.
  middle(place, i) {
    return place.y + (i + 0.5) * this.line - this.bar.offset;
  }

  visible(place, n) {
    const from = Math.floor(this.bar.offset / this.line);
    const to = Math.ceil((this.bar.offset + place.h) / this.line);
    return {from: Math.max(0, Math.min(from, n)), to: Math.min(n, to)};
  }

  // ---- Lines --------------------------------------------------------------

  // The largest value that is drawn: lines and squares are relative to it.
  static most(layers) {
    return Math.max(1e-30, ...layers.map(({frame}) => frame.what === 'weight' ?
      frame.high : Math.max(Math.abs(frame.low), Math.abs(frame.high))));
  }

  // The k strongest keys of a row, kept for each frame. Of a difference those
  // of the largest sizes, whatever their sign.
  static top(frame, row, k) {
    let kept = HeadsView.tops.get(frame);
    if (!kept || kept.k !== k) {
      kept = {k, rows: new Map()};
      HeadsView.tops.set(frame, kept);
    }
    if (!kept.rows.has(row)) {
      kept.rows.set(row, frame.what === 'difference' ?
        HeadsView.strongest(frame, row, k) : Attention.top(frame, row, k));
    }
    return kept.rows.get(row);
  }

  static strongest(frame, row, k) {
    const all = [];
    for (let key = 0; key < frame.keys.n; key++) {
      const value = frame.values[row * frame.keys.n + key];
      if (Number.isFinite(value)) {
        all.push({key, value});
      }
    }
    all.sort((a, b) => Math.abs(b.value) - Math.abs(a.value));
    return all.slice(0, k);
  }

  // Lines as [{row, key, value, layer}]: the k strongest of each row that is
  // seen.
  linesOfAll(place) {
    const lines = [];
    const {from, to} = this.visible(place, place.n);
    place.layers.forEach(({frame}, layer) => {
      for (let row = from; row < to; row++) {
        const top = HeadsView.top(frame, row, this.state.lines);
        for (const {key, value} of top) {
          lines.push({row, key, value, layer});
        }
      }
    });
    return lines;
  }

  // Lines of a row, or to a key, and the largest size of their values: {lines,
  // most}. Lines that would not be seen are left away.
  linesOfOne(place, row, key) {
    const n = row >= 0 ? place.m : place.n;
    const step = row >= 0 ? 1 : place.m;
    const first = row >= 0 ? row * place.m : key;
    let most = 1e-30;
    for (const {frame} of place.layers) {
      for (let i = 0; i < n; i++) {
        const size = Math.abs(frame.values[first + i * step]);
        if (size > most && size < Infinity) {
          most = size;
        }
      }
    }
    const lines = [];
    place.layers.forEach(({frame}, layer) => {
      for (let i = 0; i < n; i++) {
        const value = frame.values[first + i * step];
        if (Number.isFinite(value) && Math.abs(value) > 0.002 * most) {
          lines.push({row: row >= 0 ? row : i, key: row >= 0 ? i : key, value,
            layer});
        }
      }
    });
    return {lines, most};
  }

  // What is selected in a pane: -1 where it has no such row or key.
  selected(place) {
    const {row, key} = this.state;
    return {row: row < place.n ? row : -1, key: key < place.m ? key : -1};
  }

  paintLines(pen, theme, place) {
    const {row, key} = this.selected(place);
    const none = row < 0 && key < 0;
    const both = row >= 0 && key >= 0;
    if (none || both) {
      const most = HeadsView.most(place.layers);
      this.paintList(pen, theme, place, this.linesOfAll(place), most,
        both ? 0.12 : 1);
    }
    if (!none) {
      const {lines, most} = this.linesOfOne(place, row, key);
      const rest = both ? lines.filter((line) => line.key !== key) : lines;
      this.paintList(pen, theme, place, rest, most, both ? 0.45 : 1);
      if (both) {
        this.paintList(pen, theme, place,
          lines.filter((line) => line.key === key), most, 1, 0.35);
      }
    }
  }

  // Opacity and width of a line say its value, relative to `most`; fade
  // lessens all, `least` is what even a weak one has. Strong lines are above
  // weak ones, and of very many the weakest are left away: they would be a
  // gray cloud.
  paintList(pen, theme, place, lines, most, fade, least = 0) {
    const limit = (fade < 0.2 ? HeadsView.DIM_LINES : HeadsView.MOST_LINES) *
      (this.whole ? 8 : 1);
    const visible = lines
      .map((line) => ({line, part: Math.min(1, Math.abs(line.value) / most)}))
      .filter(({part}) => Math.max(least, part ** 0.7) * fade >= 0.015)
      .sort((a, b) => a.part - b.part)
      .slice(-limit);
    for (const {line, part} of visible) {
      const {y0, y1} = this.ends(place, line);
      pen.curve(place.from, y0, place.to, y1, this.colorOf(theme, place, line),
        0.7 + 2.3 * part, Math.max(least, part ** 0.7) * fade);
    }
  }

  // Lines of several heads lie beside each other.
  ends(place, {row, key, layer}) {
    const n = place.layers.length;
    const apart = Math.min(2, (this.line - 6) / n);
    const shift = (layer - (n - 1) / 2) * apart;
    return {y0: this.middle(place, row) + shift,
      y1: this.middle(place, key) + shift};
  }

  // Of one head the sign of what has one; else the head.
  colorOf(theme, place, {value, layer}) {
    const {frame, color} = place.layers[layer];
    if (frame.what === 'weight' || place.layers.length > 1) {
      return color;
    }
    return HeadsView.signColor(value, theme);
  }

  static signColor(value, theme) {
    const {css} = Colors.diverging(theme.dark);
    return value < 0 ? css[8] : css[247];
  }

  // ---- Painting -----------------------------------------------------------

  paint(pen, width, height) {
    if (this.frames.length === 0) {
      return;
    }
    const theme = Colors.theme();
    this.layout(width, height, theme);
    this.places.forEach((place, i) => {
      const {frame, missing} = this.frames[i];
      Canvas.paintTitle(pen, place.pane, theme);
      if (missing) {
        CanvasView.paintMissing(pen, theme, place.pane, missing);
        return;
      }
      this.paintHeads(pen, theme, place);
      pen.clip(place.pane.x, place.y, place.pane.w, place.h, () => {
        this.paintSelection(pen, theme, place);
        this.paintLines(pen, theme, place);
        this.paintSide(pen, theme, place, frame, 'row');
        this.paintSide(pen, theme, place, frame, 'key');
      });
      this.paintBeyond(pen, theme, place);
    });
    this.bar.paint(pen, theme);
    this.paintFound(pen, theme);
  }

  // What the columns are.
  paintHeads(pen, theme, place) {
    const style = {size: 11, color: theme.muted};
    const y = place.y - 12;
    const {row, key} = this.selected(place);
    const {what} = place.layers[0].frame;
    const several = place.layers.length > 1 ? 'mean ' : '';
    pen.text(place.rowEnd, y, 'query', Object.assign({align: 'right'}, style));
    pen.text(place.keyStart, y, 'key', style);
    if (place.number.row < 60) {
      return;
    }
    const none = row < 0 && key < 0;
    const left = none ? 'largest' : row < 0 ? several + what : '';
    const right = none ? 'mean received' : row < 0 ? '' : several + what;
    pen.text(place.x, y, left, style);
    pen.text(place.end, y, right, Object.assign({align: 'right'}, style));
  }

  // A band behind the tokens that are selected.
  paintSelection(pen, theme, place) {
    const {row, key} = this.selected(place);
    const band = (i, x, end) => {
      if (i >= 0) {
        pen.rect(x, this.middle(place, i) - this.line / 2, end - x, this.line,
          theme.accent, 0.16);
      }
    };
    band(row, place.x, place.from);
    band(key, place.to, place.end);
  }

  // Labels, squares and bars of rows or keys.
  paintSide(pen, theme, place, frame, side) {
    const axis = side === 'row' ? frame.rows : frame.keys;
    const {from, to} = this.visible(place, axis.n);
    const hits = new Set(this.state.search ?
      Tokens.find(axis, this.state.search) : []);
    const values = this.sideValues(place, side);
    for (let i = from; i < to; i++) {
      this.paintLabel(pen, theme, place, axis, i, side, hits.has(i));
      if (i > 0 && axis.segments[i] !== axis.segments[i - 1]) {
        const x = side === 'row' ? place.x : place.keyStart - 4;
        pen.rect(x, this.middle(place, i) - this.line / 2 - 0.5,
          (side === 'row' ? place.rowEnd + 4 : place.end) - x, 1, theme.faint);
      }
      if (values) {
        this.paintSquares(pen, theme, place, i, side, values);
        this.paintNumber(pen, theme, place, i, side, values);
      }
    }
  }

  paintLabel(pen, theme, place, axis, i, side, hit) {
    const {row, key} = this.selected(place);
    const chosen = i === (side === 'row' ? row : key);
    const style = {size: HeadsView.FONT, bold: chosen || hit,
      align: side === 'row' ? 'right' : 'left',
      color: hit ? theme.mark : axis.added[i] ? theme.muted : theme.ink};
    const text = Canvas.fit(axis.labels[i], place.labels[side], style);
    const x = side === 'row' ? place.rowEnd : place.keyStart;
    pen.text(x, this.middle(place, i), text, style);
  }

  // Numbers of a side: {rows: [layers] of a function of i, most, exact}; null
  // if it has none: the side that the selected token is on.
  sideValues(place, side) {
    const {row, key} = this.selected(place);
    const m = place.m;
    if (side === 'key' && row >= 0) {
      return HeadsView.values(place, place.m, true,
        ({frame}) => (i) => MatrixView.shown(frame, row, i));
    }
    if (side === 'row' && row < 0 && key >= 0) {
      return HeadsView.values(place, place.n, true,
        ({frame}) => (i) => MatrixView.shown(frame, i, key));
    }
    if (row >= 0 || key >= 0) {
      return null;
    }
    return HeadsView.values(place, side === 'row' ? place.n : m, false,
      ({frame}) => {
        const sums = HeadsView.margins(frame)[side];
        return (i) => sums[i];
      });
  }

  static values(place, n, exact, of) {
    const layers = place.layers.map(of);
    let most = 1e-30;
    for (const value of layers) {
      for (let i = 0; i < n; i++) {
        if (Number.isFinite(value(i))) {
          most = Math.max(most, Math.abs(value(i)));
        }
      }
    }
    return {layers, most, exact};
  }

  // {row: the largest of each row, key: the mean of each key over rows that
  // see it}
  static margins(frame) {
    let known = HeadsView.sums.get(frame);
    if (known) {
      return known;
    }
    const n = frame.rows.n;
    const m = frame.keys.n;
    const row = new Float64Array(n);
    const key = new Float64Array(m);
    const counts = new Int32Array(m);
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < m; j++) {
        const value = frame.values[i * m + j];
        if (value - value === 0) {  // finite
          key[j] += value;
          counts[j]++;
          if (Math.abs(value) > Math.abs(row[i])) {
            row[i] = value;
          }
        }
      }
    }
    for (let j = 0; j < m; j++) {
      key[j] /= Math.max(1, counts[j]);
    }
    known = {row, key};
    HeadsView.sums.set(frame, known);
    return known;
  }

  // One a head, where there are several.
  paintSquares(pen, theme, place, i, side, values) {
    if (!place.square) {
      return;
    }
    const size = place.square;
    const tall = this.line - 4;
    const x = side === 'row' ? place.rowEnd + 8 :
      place.keyStart - 8 - size * place.layers.length;
    const y = this.middle(place, i) - tall / 2;
    values.layers.forEach((value, layer) => {
      const part = Math.abs(value(i)) / values.most;
      const {color} = place.layers[layer];
      if (part === Infinity) {
        return;  // not seen
      }
      pen.rect(x + layer * size, y, size - (size > 4 ? 1 : 0), tall, color,
        Number.isFinite(part) ? 0.05 + 0.95 * part ** 0.6 : 0.05);
    });
  }

  // A bar that grows away from the label, and the number at its end.
  paintNumber(pen, theme, place, i, side, values) {
    const column = place.number[side];
    if (column < 30) {
      return;
    }
    const sum = values.layers.reduce((all, value) => all + value(i), 0);
    const value = sum / values.layers.length;
    if (value === -Infinity && place.layers[0].frame.what === 'weight') {
      return;  // not seen
    }
    const wide = column - 10 - (values.exact ? 42 : 0);
    const inner = side === 'row' ? place.x + column - 8 :
      place.end - column + 8;
    const middle = this.middle(place, i);
    const part = Math.min(1, Math.abs(value) / values.most);
    const color = place.layers.length > 1 ? theme.muted :
      this.colorOf(theme, place, {value, layer: 0});
    if (Number.isFinite(part) && wide > 8 && part * wide >= 0.5) {
      const w = part * wide;
      pen.rect(side === 'row' ? inner - w : inner, middle - 4, w, 8, color,
        values.exact ? 0.85 : 0.4);
    }
    if (values.exact) {
      const x = side === 'row' ? place.x + 36 : place.end;
      pen.text(x, middle, HeadsView.brief(value), {size: 11, align: 'right',
        color: part > 0.02 ? theme.ink : theme.muted});
    }
  }

  static brief(value) {
    return Canvas.shortNumber(value, Math.abs(value) >= 100 ? 1 :
      Math.abs(value) >= 10 ? 2 : 3);
  }

  // How much of a row's weight is on keys above and below of what is seen.
  paintBeyond(pen, theme, place) {
    const {row} = this.selected(place);
    const {frame} = place.layers[0];
    if (row < 0 || frame.what !== 'weight' || place.layers.length > 1) {
      return;
    }
    const {from, to} = this.visible(place, place.m);
    const sum = (a, b) => frame.values.subarray(row * place.m + a,
      row * place.m + b).reduce((all, value) => all + value, 0);
    const style = {size: 11, color: theme.muted};
    if (from > 0) {
      pen.text(place.keyStart + 32, place.y - 12,
        `↑ ${HeadsView.brief(sum(0, from))}`, style);
    }
    if (to < place.m) {
      pen.text(place.keyStart, place.y + place.h + 9,
        `↓ ${HeadsView.brief(sum(to, place.m))} further down`, style);
    }
  }

  // Where along the scroll bar the tokens are that were found.
  paintFound(pen, theme) {
    const {search} = this.state;
    if (!this.bar.needed || !search) {
      return;
    }
    const {frame} = this.frames[this.main];
    const found = new Set([...Tokens.find(frame.rows, search),
      ...Tokens.find(frame.keys, search)]);
    const step = this.bar.length / (this.bar.content / this.line);
    for (const i of found) {
      pen.rect(this.bar.x, this.bar.y + i * step - 1, ScrollBar.WIDTH,
        Math.max(2, step), theme.mark);
    }
  }

  // ---- Pointers -----------------------------------------------------------

  // {index, row, key, layer} of what is at a place, -1: none. On a token of the
  // other side of a locked one: both.
  at(x, y) {
    const index = this.places.findIndex((place) => x >= place.pane.x &&
      x < place.pane.x + place.pane.w && y >= place.y && y < place.y + place.h);
    if (index < 0 || this.bar.contains(x, y)) {
      return null;
    }
    const place = this.places[index];
    const i = Math.floor((y - place.y + this.bar.offset) / this.line);
    const {row, key} = this.state.locked ? this.selected(place) :
      {row: -1, key: -1};
    if (x < place.from) {
      return i < place.n ? {index, row: i, key: row < 0 ? key : -1, layer: -1} :
        null;
    }
    if (x > place.to) {
      return i < place.m ? {index, row, key: i, layer: -1} : null;
    }
    return this.lineAt(place, index, x, y);
  }

  // All lines run through the same x at the same part of their way, so that
  // their heights there compare.
  lineAt(place, index, x, y) {
    const across = (x - place.from) / (place.to - place.from);
    let t = across;
    for (let i = 0; i < 8; i++) {  // Newton: x(t) = 1.2 t - 0.6 t^2 + 0.4 t^3
      t -= (1.2 * t - 0.6 * t * t + 0.4 * t ** 3 - across) /
        (1.2 - 1.2 * t + 1.2 * t * t);
    }
    const down = t * t * (3 - 2 * t);
    const {row, key} = this.selected(place);
    const lines = this.state.locked && (row >= 0 || key >= 0) ?
      this.linesOfOne(place, row, key).lines :
      this.linesOfAll(place);
    const most = HeadsView.most(place.layers);
    let best = null;
    let score = 5;  // pixels
    for (const line of lines) {
      const part = Math.abs(line.value) / most;
      const {y0, y1} = this.ends(place, line);
      // Of two that are as near the stronger one is meant.
      const far = Math.abs(y0 + (y1 - y0) * down - y) + 2 * (1 - part);
      if (far < score && part > 0.003) {
        score = far;
        best = line;
      }
    }
    return best && {index, row: best.row, key: best.key, layer: best.layer};
  }

  hover(x, y, event) {
    const at = this.at(x, y);
    this.surface.canvas.style.cursor = at ? 'pointer' : 'default';
    if (!at) {
      this.leave();
      return;
    }
    this.pointed = `${at.row},${at.key}`;
    this.app.point(at.row, at.key, at.index, this.detail(at));
    // Between the tokens: not on their labels.
    const {left} = this.surface.canvas.getBoundingClientRect();
    const place = this.places[at.index];
    const lines = this.tell(at);
    if (x > place.to) {
      this.app.tooltip(lines, left + place.to, event.clientY, true);
    } else {
      this.app.tooltip(lines, Math.max(event.clientX, left + place.from),
        event.clientY);
    }
  }

  // Of several heads the readout has the numbers of each.
  detail({index, row, key}) {
    const {layers, m} = this.places[index];
    if (layers.length < 2 || row < 0 || key < 0) {
      return '';
    }
    return layers.map(({head, frame}) =>
      `head ${head}: ${App.number(frame.values[row * m + key])}`).join(', ');
  }

  tell({index, row, key, layer}) {
    const {layers} = this.places[index];
    const {part, frame: {rows, keys}} = this.frames[index];
    if (row < 0 || key < 0) {
      return row >= 0 ? App.token(part, 'rows', rows, row) :
        App.token(part, 'keys', keys, key);
    }
    const lines = [`${rows.labels[row]} → ${keys.labels[key]}`,
      `row ${row}, key ${key}`];
    for (const one of layer >= 0 ? [layers[layer]] : layers) {
      const name = layers.length > 1 ? `head ${one.head}: ` : '';
      lines.push(name + App.cell(one.frame, row, key));
    }
    return lines;
  }

  grab(x, y) {
    if (!this.bar.contains(x, y)) {
      return undefined;
    }
    this.bar.press(x, y);
    this.surface.request();
    return this.bar;
  }

  drag(dx, dy, x, y, bar) {
    this.app.tooltip(null);
    if (bar ? bar.dragBy(dx, dy) : this.bar.moveBy(-dy)) {
      this.surface.request();
    }
  }

  wheel(x, y, dx, dy, event) {
    if (event.ctrlKey || !this.bar.moveBy(dy)) {
      return false;
    }
    this.surface.request();
    return true;
  }
}

HeadsView.FONT = 12.5;
HeadsView.HEAD = 26;          // pixels above the tokens
HeadsView.FOOT = 20;          // and below
HeadsView.LINE = 18;          // pixels a token, at least
HeadsView.LARGEST_LINE = 32;
HeadsView.WIDEST = 1000;
HeadsView.MOST_LINES = 1200;
HeadsView.DIM_LINES = 250;    // behind those of what is pointed at
HeadsView.tops = new WeakMap();
HeadsView.sums = new WeakMap();
