// matrix.js - the matrix view: the heatmap of a head, row by key.
'use strict';

class MatrixView extends CanvasView {
  constructor(element, app) {
    super(element, app);
    this.images = [];          // of each frame: {key, image}
    this.across = new ScrollBar(false);
    this.along = new ScrollBar(true);
    this.zoomed = null;        // {cell, w, h} that were drawn last
    this.anchor = null;        // what keeps its place: see pinch()
    this.wanted = false;       // whether to scroll to what is selected
    this.along.listen(element, () => this.surface.request());
  }

  draw(frames, state) {
    const selected = this.take(frames, state);
    this.surface.describe(frames.map((entry) => `${entry.title}: heatmap of ` +
      `${entry.frame.rows.n} rows and ${entry.frame.keys.n} keys`).join('; '));
    this.wanted = this.wanted || selected.row || selected.key;
    this.surface.paintNow();
  }

  // ---- Where things are ---------------------------------------------------

  bars() {
    return [this.across, this.along];
  }

  // Cells as large as on the screen, or so that labels have room beside them.
  natural(width, height) {
    const panes = Canvas.panes(width, height, this.frames);
    const n = Math.max(1, ...this.frames.map(({frame}) =>
      Math.max(frame.rows.n, frame.keys.n)));
    const readable = Math.min(MatrixView.READABLE, MatrixView.READ_ALL / n);
    const least = this.wholePixels(Math.max(this.fit, this.state.zoom,
      readable));
    const most = (f) => Math.max(...panes.map((pane, i) =>
      f(this.margins({w: Infinity, h: Infinity}, this.frames[i].frame),
        this.frames[i].frame)));
    const wide = most((room, {keys}) =>
      room.left + room.right + keys.n * least);
    const high = most((room, {rows}) => room.top + room.bottom +
      Math.max(rows.n * least, MatrixView.BAR));
    this.cellOfWhole = least;
    const gap = 24;
    return {width: Math.ceil(panes.length * wide + (panes.length - 1) * gap),
      height: Math.ceil(high + (panes.length > 1 ? 24 : 0))};
  }

  // Room around the cells of an entry in a pane.
  margins(pane, frame) {
    const style = {size: MatrixView.FONT};
    const beside = pane.w >= 460;  // the colour bar: else below
    const left = Math.min(Canvas.widest(frame.rows.labels, style) + 14,
      170, pane.w * 0.3);
    const widest = Canvas.widest(frame.keys.labels, style);
    const top = Math.min(widest + 14, 140, pane.h * 0.28);
    return {beside, widest, left: Math.ceil(Math.max(46, left)),
      top: Math.ceil(Math.max(42, top)), right: beside ? 84 : 14,
      bottom: beside ? 14 : 62};
  }

  // Pixels a cell, so that all of them are seen.
  fitCell(pane, margins, frame) {
    const width = pane.w - margins.left - margins.right;
    const height = pane.h - margins.top - margins.bottom;
    return Math.max(1e-3, Math.min(width / Math.max(1, frame.keys.n),
      height / Math.max(1, frame.rows.n), MatrixView.LARGEST_FIT));
  }

  // Large cells are whole pixels of the screen, so that all are of one size.
  wholePixels(cell) {
    const ratio = this.surface.ratio;
    return cell * ratio >= 5 ? Math.floor(cell * ratio) / ratio : cell;
  }

  layout(width, height) {
    const panes = Canvas.panes(width, height, this.frames);
    const margins = panes.map((pane, i) =>
      this.margins(pane, this.frames[i].frame));
    this.fit = Math.min(...panes.map((pane, i) =>
      this.fitCell(pane, margins[i], this.frames[i].frame)));
    this.cell = this.whole ? this.cellOfWhole :
      this.wholePixels(Math.max(this.fit, this.state.zoom));
    this.places = panes.map((pane, i) =>
      this.place(pane, margins[i], this.frames[i].frame));
    this.layoutScroll();
  }

  // {pane, margins, x, y, w, h}: the last four of what is seen of the cells.
  place(pane, margins, frame) {
    const room = pane.w - margins.left - margins.right;
    const w = Math.min(room, frame.keys.n * this.cell);
    const h = Math.min(pane.h - margins.top - margins.bottom,
      frame.rows.n * this.cell);
    const x = pane.x + margins.left + Math.max(0, (room - w) / 2);
    return {pane, margins, x: Math.round(x), y: pane.y + margins.top, w, h};
  }

  // Both panes scroll together, as far as the larger one.
  layoutScroll() {
    const most = (f) => this.places.reduce((sum, place, i) =>
      Math.max(sum, f(place, this.frames[i].frame)), 0);
    const first = this.places[this.main];
    const wide = most((place, frame) => frame.keys.n) * this.cell;
    const tall = most((place, frame) => frame.rows.n) * this.cell;
    if (!this.whole) {
      this.keepAnchor(first);
    }
    this.across.place(first.x, first.y + first.h + 2, first.w,
      most((place) => place.w), wide);
    this.along.place(first.x + first.w + 2, first.y, first.h,
      most((place) => place.h), tall);
    if (this.wanted && !this.whole) {
      this.reveal(this.state.row, this.along);
      this.reveal(this.state.key, this.across);
      this.wanted = false;
    }
    this.surface.canvas.style.touchAction =
      this.along.needed || this.across.needed ? 'none' : 'pan-y';
  }

  reveal(index, bar) {
    if (index >= 0) {
      bar.reveal((index - 1) * this.cell, (index + 2) * this.cell);
    }
  }

  // After zooming what was below the pointer, or else in the middle, still is.
  keepAnchor(place) {
    const before = this.zoomed;
    if (before && before.cell !== this.cell) {
      const anchor = this.anchor || {
        row: (this.along.offset + before.h / 2) / before.cell,
        key: (this.across.offset + before.w / 2) / before.cell,
        left: place.x - place.pane.x + place.w / 2,
        top: place.y - place.pane.y + place.h / 2};
      this.across.offset = anchor.key * this.cell -
        (place.pane.x + anchor.left - place.x);
      this.along.offset = anchor.row * this.cell -
        (place.pane.y + anchor.top - place.y);
    }
    this.anchor = null;
    this.zoomed = {cell: this.cell, w: place.w, h: place.h};
  }

  // Indices from..to-1 of an axis that are at least partly seen.
  visible(bar, room, n) {
    const from = Math.max(0, Math.floor(bar.offset / this.cell));
    const to = Math.min(n, Math.ceil((bar.offset + room) / this.cell));
    return {from, to: Math.max(from, to)};
  }

  // Where a cell begins on the screen.
  left(place, key) {
    return place.x + key * this.cell - this.across.offset;
  }

  top(place, row) {
    return place.y + row * this.cell - this.along.offset;
  }

  // ---- Painting -----------------------------------------------------------

  paint(pen, width, height) {
    if (this.frames.length === 0) {
      return;
    }
    const theme = Colors.theme();
    this.layout(width, height);
    const scale = Colors.scale(this.frames.map((entry) => entry.frame),
      theme.dark, this.state.colors === 'root');
    this.places.forEach((place, i) => {
      const {frame, missing} = this.frames[i];
      Canvas.paintTitle(pen, place.pane, theme);
      if (missing) {
        CanvasView.paintMissing(pen, theme, place.pane, missing);
        return;
      }
      this.paintCells(pen, theme, scale, place, frame, i);
      this.paintAxes(pen, theme, place, frame);
      this.paintBar(pen, theme, scale, place, frame);
    });
    this.along.paint(pen, theme);
    this.across.paint(pen, theme);
  }

  paintCells(pen, theme, scale, place, frame, index) {
    const seen = MatrixView.contents(frame);
    pen.clip(place.x, place.y, place.w, place.h, () => {
      if (seen.unseen && frame.what !== 'weight') {
        MatrixView.hatch(pen, place, theme);
      }
      this.paintImage(pen, theme, scale, place, frame, index);
      this.paintNumbers(pen, scale, place, frame, theme);
      this.paintFound(pen, theme, place, frame);
      this.paintCross(pen, theme, place);
    });
    pen.frame(place.x - 1, place.y - 1, place.w + 2, place.h + 2, theme.faint);
  }

  // The cells that are seen, as one image: made again only where it changed.
  paintImage(pen, theme, scale, place, frame, index) {
    const rows = this.visible(this.along, place.h, frame.rows.n);
    const keys = this.visible(this.across, place.w, frame.keys.n);
    if (rows.to === rows.from || keys.to === keys.from) {
      return;
    }
    const small = this.cell * this.surface.ratio < 1;
    const key = [rows.from, rows.to, keys.from, keys.to, scale.low, scale.high,
      scale.root, theme.dark, small && [this.cell, this.along.offset,
        this.across.offset, place.w, place.h]].join();
    const kept = this.images[index];
    if (!kept || kept.key !== key || kept.frame !== frame) {
      const shades = MatrixView.shades(scale, theme);
      const image = small ? this.shrunk(place, frame, rows, keys, shades) :
        MatrixView.whole(frame, rows, keys, shades);
      this.images[index] = {key, frame, image};
    }
    const {image} = this.images[index];
    if (small) {
      pen.cells(place.x, place.y, place.w, place.h, image);
    } else {
      pen.cells(this.left(place, keys.from), this.top(place, rows.from),
        (keys.to - keys.from) * this.cell, (rows.to - rows.from) * this.cell,
        image);
    }
  }

  // Cells smaller than a pixel: each pixel shows the strongest of its cells, so
  // that a thin line of weights is still there.
  shrunk(place, frame, rows, keys, shades) {
    const ratio = this.surface.ratio;
    const columns = Math.max(1, Math.round(place.w * ratio));
    const lines = Math.max(1, Math.round(place.h * ratio));
    const step = 1 / (this.cell * ratio);  // cells a pixel
    const firstKey = this.across.offset / this.cell;
    const firstRow = this.along.offset / this.cell;
    const pixels = new Uint32Array(columns * lines);
    const best = new Float32Array(columns);
    const {values, unseen} = frame;
    const m = frame.keys.n;
    const at = (first, i, end) => Math.min(end, Math.floor(first + i * step));
    const until = (first, i, end) => Math.min(end, Math.ceil(first + i * step));
    for (let y = 0; y < lines; y++) {
      best.fill(NaN);
      for (let row = at(firstRow, y, rows.to);
        row < until(firstRow, y + 1, rows.to); row++) {
        for (let x = 0; x < columns; x++) {
          const end = until(firstKey, x + 1, keys.to);
          for (let key = at(firstKey, x, keys.to); key < end; key++) {
            const value = unseen && unseen(row, key) ? -Infinity :
              values[row * m + key];
            if (MatrixView.stronger(value, best[x])) {
              best[x] = value;
            }
          }
        }
      }
      for (let x = 0; x < columns; x++) {
        pixels[y * columns + x] = shades(best[x]);
      }
    }
    return Canvas.image(columns, lines, pixels);
  }

  // Numbers in the cells, where they are large.
  paintNumbers(pen, scale, place, frame, theme) {
    const size = Math.min(12, this.cell * 0.32);
    if (size < 10) {
      return;
    }
    const rows = this.visible(this.along, place.h, frame.rows.n);
    const keys = this.visible(this.across, place.w, frame.keys.n);
    const digits = scale.high >= 10 ? 1 : scale.high >= 0.2 ? 2 : 3;
    for (let row = rows.from; row < rows.to; row++) {
      for (let key = keys.from; key < keys.to; key++) {
        const value = MatrixView.shown(frame, row, key);
        if (value !== -Infinity) {
          const color = Number.isNaN(value) ? theme.ink :
            Colors.inkOn(scale.map.css[Colors.step(value, scale)]);
          pen.text(this.left(place, key) + this.cell / 2,
            this.top(place, row) + this.cell / 2,
            Canvas.shortNumber(value, digits),
            {size, align: 'center', color,
              alpha: Math.abs(value) < 0.5 * 0.1 ** digits ? 0.5 : 0.9});
        }
      }
    }
  }

  found(axis) {
    return this.state.search ? Tokens.find(axis, this.state.search) : [];
  }

  // Rows and keys that were found; where they are many, marks at the labels do.
  paintFound(pen, theme, place, frame) {
    const thin = Math.max(1, Math.min(2, this.cell));
    const rows = this.found(frame.rows);
    const keys = this.found(frame.keys);
    const few = (found) => found.length <= MatrixView.MANY ? found : [];
    for (const row of few(rows)) {
      const y = this.top(place, row);
      pen.rect(place.x, y, place.w, thin, theme.mark, 0.8);
      pen.rect(place.x, y + this.cell - thin, place.w, thin, theme.mark, 0.8);
    }
    for (const key of few(keys)) {
      const x = this.left(place, key);
      pen.rect(x, place.y, thin, place.h, theme.mark, 0.8);
      pen.rect(x + this.cell - thin, place.y, thin, place.h, theme.mark, 0.8);
    }
  }

  // The row and the key that are selected are between two lines, white beside
  // black, which show on every colour.
  paintCross(pen, theme, place) {
    const {row, key} = this.state;
    const size = Math.max(this.cell, 2);
    if (row >= 0) {
      const y = this.top(place, row) + (this.cell - size) / 2;
      for (const [edge, color] of [[0, '#ffffff'], [1, '#000000']]) {
        pen.rect(place.x, y - 1 - edge, place.w, 1, color, 0.85 - edge * 0.45);
        pen.rect(place.x, y + size + edge, place.w, 1, color,
          0.85 - edge * 0.45);
      }
    }
    if (key >= 0) {
      const x = this.left(place, key) + (this.cell - size) / 2;
      for (const [edge, color] of [[0, '#ffffff'], [1, '#000000']]) {
        pen.rect(x - 1 - edge, place.y, 1, place.h, color, 0.85 - edge * 0.45);
        pen.rect(x + size + edge, place.y, 1, place.h, color,
          0.85 - edge * 0.45);
      }
    }
    if (row >= 0 && key >= 0) {
      const x = this.left(place, key) + (this.cell - size) / 2;
      const y = this.top(place, row) + (this.cell - size) / 2;
      pen.frame(x - 3, y - 3, size + 6, size + 6, '#000000', 1);
      pen.frame(x - 2, y - 2, size + 4, size + 4, theme.dark ?
        '#ffb266' : '#ffffff', 2);
    }
  }

  // ---- Axes ---------------------------------------------------------------

  paintAxes(pen, theme, place, frame) {
    const {pane, margins} = place;
    const style = {size: 11, color: theme.muted};
    const corner = place.x - margins.left;
    // Labels of thin cells are higher than these, and stick out a little.
    pen.clip(corner, place.y - 7, margins.left, place.h + 14, () => {
      this.paintLabels(pen, theme, place, frame.rows, false);
    });
    pen.clip(place.x - 7, pane.y, place.w + 14, margins.top, () => {
      this.paintLabels(pen, theme, place, frame.keys, true);
    });
    pen.text(place.x - 8, place.y - 31, 'key →',
      Object.assign({align: 'right'}, style));
    pen.text(place.x - 8, place.y - 17, 'query ↓',
      Object.assign({align: 'right'}, style));
    this.paintRowChip(pen, theme, place, frame.rows);
    this.paintKeyChip(pen, theme, place, frame.keys);
  }

  // Every label that has room; else every second, fifth, tenth, ... with a
  // tick.
  paintLabels(pen, theme, place, axis, upright) {
    const bar = upright ? this.across : this.along;
    const room = upright ? place.w : place.h;
    const {from, to} = this.visible(bar, room, axis.n);
    const size = MatrixView.FONT;
    const step = MatrixView.thin((size + 1) / this.cell);
    // Above keys as it is read where each has the room, else turned.
    const level = !upright || place.margins.widest <= this.cell - 4;
    const length = (upright ? place.margins.top : place.margins.left) - 10;
    const hits = new Set(this.found(axis));
    // Where the label of what is selected is, there is no other.
    const chip = upright ? this.keyChip(place, axis) :
      this.rowChip(place, axis);
    for (let i = Math.ceil(from / step) * step; i < to; i += step) {
      const hit = hits.has(i);
      const style = {size, bold: hit, turned: !level,
        align: !upright ? 'right' : level ? 'center' : 'left',
        color: hit ? theme.mark : axis.added[i] ? theme.muted : theme.ink};
      const middle = (upright ? this.left(place, i) : this.top(place, i)) +
        this.cell / 2;
      if (chip && middle > chip.from - 3 && middle < chip.to + 3) {
        continue;
      }
      const text = Canvas.fit(axis.labels[i], length, style);
      const gap = step > 1 ? 8 : 6;
      if (upright) {
        pen.text(middle, place.y - gap - (level ? 6 : 0), text, style);
      } else {
        pen.text(place.x - gap, middle, text, style);
      }
      if (step > 1) {
        this.paintTick(pen, theme, place, middle, upright);
      }
    }
    for (const i of hits) {
      this.paintHit(pen, theme, place, i, upright);
    }
  }

  paintTick(pen, theme, place, middle, upright) {
    if (upright) {
      pen.rect(middle, place.y - 5, 1, 4, theme.muted);
    } else {
      pen.rect(place.x - 5, middle, 4, 1, theme.muted);
    }
  }

  // A token that was found, even where its label has no room.
  paintHit(pen, theme, place, i, upright) {
    const size = Math.max(2, this.cell);
    if (upright) {
      pen.rect(this.left(place, i), place.y - 4, size, 3, theme.mark);
    } else {
      pen.rect(place.x - 4, this.top(place, i), 3, size, theme.mark);
    }
  }

  // The label of the row that is selected: {text, style, middle, from, to}, the
  // last three along the axis; null: there is none.
  rowChip(place, axis) {
    const {row} = this.state;
    if (row < 0 || row >= axis.n) {
      return null;
    }
    const style = {size: MatrixView.FONT, bold: true, align: 'right'};
    const room = Math.max(place.margins.left, place.x - place.pane.x) - 12;
    const middle = MatrixView.within(this.top(place, row) + this.cell / 2,
      place.y, place.y + place.h);
    return {text: Canvas.fit(axis.labels[row], room, style), style, middle,
      from: middle - 8, to: middle + 8};
  }

  paintRowChip(pen, theme, place, axis) {
    const chip = this.rowChip(place, axis);
    if (chip) {
      const {text, style, middle} = chip;
      const width = Canvas.width(text, style) + 10;
      pen.rect(place.x - 2 - width, middle - 8, width, 16, theme.accent);
      pen.text(place.x - 7, middle, text,
        Object.assign({color: theme.onAccent}, style));
    }
  }

  // The same of the key: level, as it is read, above the middle of its column.
  keyChip(place, axis) {
    const {key} = this.state;
    const {pane} = place;
    if (key < 0 || key >= axis.n) {
      return null;
    }
    const style = {size: MatrixView.FONT, bold: true, align: 'center'};
    const text = Canvas.fit(axis.labels[key], pane.w - 20, style);
    const half = Canvas.width(text, style) / 2 + 5;
    const column = MatrixView.within(this.left(place, key) + this.cell / 2,
      place.x, place.x + place.w);
    const middle = MatrixView.within(column, pane.x + half,
      pane.x + pane.w - half);
    return {text, style, middle, from: middle - half, to: middle + half};
  }

  paintKeyChip(pen, theme, place, axis) {
    const chip = this.keyChip(place, axis);
    if (chip) {
      const {text, style, middle, from, to} = chip;
      pen.rect(from, place.y - 21, to - from, 18, theme.accent);
      pen.text(middle, place.y - 12, text,
        Object.assign({color: theme.onAccent}, style));
    }
  }

  // ---- Colour bar ---------------------------------------------------------

  paintBar(pen, theme, scale, place, frame) {
    const {pane, margins} = place;
    if (margins.beside) {
      const length = Math.min(Math.max(place.h, 90),
        pane.h - margins.top - 4, 260);
      this.paintUprightBar(pen, theme, scale, frame,
        place.x + place.w + 22, place.y, length);
    } else {
      const length = Math.min(pane.w - margins.left - margins.right, 260);
      this.paintLevelBar(pen, theme, scale, frame,
        pane.x + margins.left, place.y + place.h + 30, length);
    }
  }

  paintUprightBar(pen, theme, scale, frame, x, y, length) {
    const style = {size: 11, color: theme.muted};
    pen.cells(x, y, 12, length, Colors.gradient(scale.map, true));
    pen.frame(x - 1, y - 1, 14, length + 2, theme.faint);
    for (const tick of Canvas.ticks(scale.low, scale.high, length / 44)) {
      const at = y + length * (1 - Colors.place(tick.value, scale));
      pen.rect(x + 13, at - 0.5, 4, 1, theme.muted);
      pen.text(x + 19, at, tick.text, style);
    }
    pen.text(x, y - 12, frame.what, style);
    this.paintLegend(pen, theme, frame, x, y + length + 18);
  }

  paintLevelBar(pen, theme, scale, frame, x, y, length) {
    const style = {size: 11, color: theme.muted, align: 'center'};
    pen.cells(x, y, length, 10, Colors.gradient(scale.map, false));
    pen.frame(x - 1, y - 1, length + 2, 12, theme.faint);
    for (const tick of Canvas.ticks(scale.low, scale.high, length / 44)) {
      const at = x + length * Colors.place(tick.value, scale);
      pen.rect(at - 0.5, y + 11, 1, 4, theme.muted);
      pen.text(at, y + 22, tick.text, style);
    }
    pen.text(x, y - 9, frame.what, Object.assign({}, style, {align: 'left'}));
    this.paintLegend(pen, theme, frame, x + 70, y - 9);
  }

  // What has no colour of the bar.
  paintLegend(pen, theme, frame, x, y) {
    const {unseen, unknown} = MatrixView.contents(frame);
    const style = {size: 11, color: theme.muted};
    if (unseen) {
      const box = {x, y: y - 6, w: 12, h: 12};
      if (frame.what !== 'weight') {
        pen.clip(box.x, box.y, box.w, box.h, () => {
          MatrixView.hatch(pen, box, theme);
        });
      }
      pen.frame(box.x, box.y, box.w, box.h, theme.faint);
      pen.text(x + 17, y, 'not seen', style);
    }
    if (unknown) {
      const down = unseen ? 18 : 0;
      pen.rect(x, y - 6 + down, 12, 12, theme.muted);
      pen.text(x + 17, y + down, 'not known', style);
    }
  }

  // ---- Pointers -----------------------------------------------------------

  // {index, row, key} of what is at a place: row or key -1 on the other's
  // labels; null beside all.
  at(x, y) {
    for (let index = 0; index < this.places.length; index++) {
      const place = this.places[index];
      const {frame} = this.frames[index];
      const inX = x >= place.x && x < place.x + place.w;
      const inY = y >= place.y && y < place.y + place.h;
      const onRows = inY && x >= place.x - place.margins.left && x < place.x;
      const onKeys = inX && y >= place.y - place.margins.top && y < place.y;
      const row = Math.floor((y - place.y + this.along.offset) / this.cell);
      const key = Math.floor((x - place.x + this.across.offset) / this.cell);
      if ((inX && inY || onRows || onKeys) &&
          (onKeys || row < frame.rows.n) && (onRows || key < frame.keys.n)) {
        return {index, row: onKeys ? -1 : row, key: onRows ? -1 : key};
      }
    }
    return null;
  }

  hover(x, y, event) {
    const over = this.along.contains(x, y) || this.across.contains(x, y);
    const at = over ? null : this.at(x, y);
    this.surface.canvas.style.cursor = at ? 'crosshair' : 'default';
    if (!at) {
      this.leave();
      return;
    }
    this.pointed = `${at.row},${at.key}`;
    this.app.point(at.row, at.key, at.index);
    // Not on the labels beside it.
    const {left, top} = this.surface.canvas.getBoundingClientRect();
    const place = this.places[at.index];
    this.app.tooltip(this.tell(at),
      at.key < 0 ? Math.max(event.clientX, left + place.x) : event.clientX,
      at.row < 0 ? Math.max(event.clientY, top + place.y) : event.clientY);
  }

  tell({index, row, key}) {
    const {frame, part} = this.frames[index];
    if (row < 0) {
      return App.token(part, 'keys', frame.keys, key);
    }
    if (key < 0) {
      return App.token(part, 'rows', frame.rows, row);
    }
    return [`${frame.rows.labels[row]} → ${frame.keys.labels[key]}`,
      `row ${row}, key ${key}`, App.cell(frame, row, key)];
  }

  grab(x, y) {
    const bar = [this.along, this.across].find((one) => one.contains(x, y));
    if (bar) {
      bar.press(x, y);
      this.surface.request();
    }
    return bar;
  }

  drag(dx, dy, x, y, bar) {
    const changed = bar ? bar.dragBy(dx, dy) : this.pan(-dx, -dy);
    if (changed) {
      this.surface.request();
    }
    this.app.tooltip(null);
  }

  // Whether that changed anything.
  pan(dx, dy) {
    const moved = [this.across.moveBy(dx), this.along.moveBy(dy)];
    if (moved.includes(true)) {
      this.surface.request();
      return true;
    }
    return false;
  }

  // The wheel zooms; with Shift it scrolls.
  wheel(x, y, dx, dy, event) {
    if (event.shiftKey) {
      return this.pan(dx || dy, 0);
    }
    if (Math.abs(dx) > Math.abs(dy)) {
      return this.pan(dx, 0);
    }
    this.pinch(x, y, Math.exp(Math.max(-60, Math.min(60, -dy)) * 0.004));
    return true;
  }

  pinch(x, y, factor) {
    const place = this.places.find((one) => x < one.pane.x + one.pane.w &&
      y < one.pane.y + one.pane.h) || this.places[0];
    if (place) {
      const right = MatrixView.within(x - place.x, 0, place.w);
      const down = MatrixView.within(y - place.y, 0, place.h);
      // Kept as a place in its pane: what is seen of the cells grows in there.
      this.anchor = {row: (this.along.offset + down) / this.cell,
        key: (this.across.offset + right) / this.cell,
        left: place.x + right - place.pane.x,
        top: place.y + down - place.pane.y};
      this.zoomBy(factor);
    }
  }

  // Larger cells or smaller ones, around the anchor or else the middle.
  zoomBy(factor) {
    const {zoom} = this.app.store.get();
    const now = Math.max(this.fit, zoom);
    const next = Math.min(MatrixView.LARGEST,
      Math.round(now * factor * 1000) / 1000);
    this.app.store.set({zoom: next <= this.fit * 1.001 ? 0 : next});
  }

  // ---- Numbers to colours -------------------------------------------------

  static within(x, low, high) {
    return Math.max(low, Math.min(high, x));
  }

  // Whether `value` is shown rather than `best`: what is seen before what is
  // not, then the larger. Values of one sign or two: by their size.
  static stronger(value, best) {
    if (Number.isNaN(value) || Number.isNaN(best)) {
      return Number.isNaN(best);
    }
    if (value === -Infinity || best === -Infinity) {
      return best === -Infinity;
    }
    return Math.abs(value) > Math.abs(best);
  }

  // A function from values to pixels; -Infinity lets see the ground below.
  static shades(scale, theme) {
    const {pixels} = scale.map;
    const gray = theme.dark ? 0xff707070 : 0xffa0a0a0;
    return (value) => {
      if (value === -Infinity) {
        return 0;
      }
      return value !== value ? gray : pixels[Colors.step(value, scale)];
    };
  }

  static whole(frame, rows, keys, shades) {
    const columns = keys.to - keys.from;
    const pixels = new Uint32Array((rows.to - rows.from) * columns);
    const {values, unseen} = frame;
    let to = 0;
    for (let row = rows.from; row < rows.to; row++) {
      const from = row * frame.keys.n;
      for (let key = keys.from; key < keys.to; key++) {
        pixels[to++] = unseen && unseen(row, key) ? 0 :
          shades(values[from + key]);
      }
    }
    return Canvas.image(columns, rows.to - rows.from, pixels);
  }

  // The value of a cell; -Infinity: the row does not see the key.
  static shown(frame, row, key) {
    return frame.unseen && frame.unseen(row, key) ? -Infinity :
      frame.values[row * frame.keys.n + key];
  }

  // Whether a frame has what is not seen and what is not known.
  static contents(frame) {
    let known = MatrixView.known.get(frame);
    if (!known) {
      known = {unseen: MatrixView.hides(frame), unknown: false};
      for (const value of frame.values) {
        if (value === -Infinity) {
          known.unseen = true;
        } else if (value !== value) {
          known.unknown = true;
        }
      }
      MatrixView.known.set(frame, known);
    }
    return known;
  }

  // Whether some row does not see some key.
  static hides({rows, keys, unseen}) {
    for (let row = 0; unseen && row < rows.n; row++) {
      if (unseen(row, 0) || unseen(row, keys.n - 1)) {
        return true;
      }
    }
    return false;
  }

  static hatch(pen, box, theme) {
    for (let at = -box.h; at < box.w; at += 6) {
      pen.line(box.x + at, box.y + box.h, box.x + at + box.h, box.y,
        theme.muted, 1, 0.35);
    }
  }

  // The next of 1, 2, 5, 10, 20, ... from x on.
  static thin(x) {
    for (let ten = 1; ; ten *= 10) {
      const step = [1, 2, 5].find((f) => f * ten >= x);
      if (step) {
        return step * ten;
      }
    }
  }
}

MatrixView.FONT = 12;
MatrixView.LARGEST = 64;      // pixels a cell
MatrixView.READABLE = 14;     // in a file: labels of all cells
MatrixView.READ_ALL = 7200;   // pixels, of 512 cells and more
MatrixView.BAR = 140;         // the colour bar and its legend
MatrixView.LARGEST_FIT = 40;
MatrixView.MANY = 8;          // found tokens that get lines
MatrixView.known = new WeakMap();
