'use strict';

/* model.js - all layers and heads as thumbnails: a grid of layers and heads,
 * or, where heads are sorted, one after the other in that order. */

class ModelView {
  constructor(element, app) {
    this.app = app;
    this.element = element;
    this.state = app.store.get();
    this.grids = [];         // as last painted: see layout()
    this.images = new Map(); // what it is of -> [layers * heads] images
    this.hovered = null;     // {grid, index}
    // An element of its own, as large as the thumbnails need: the view scrolls.
    this.room = app.document.createElement('div');
    this.room.className = 'model';
    element.append(this.room);
    this.surface = new Surface(this.room, (pen, width, height) =>
      this.paint(pen, width, height));
    this.listen();
  }

  draw(frames, state) {
    this.state = state;
    this.resize();
    const {layers, heads} = this.app.part(state.run, state);
    this.surface.describe(
        `Thumbnails of ${layers} layers with ${heads} heads each; selected: ` +
        `layer ${state.layer}, head ${state.head}`);
    this.surface.paintNow();
  }

  /* Thumbnails are never smaller than they can be told apart. */
  resize() {
    // On narrow screens the view grows with this: see style.css.
    this.room.style.height = '';
    const {clientWidth: width, clientHeight: height} = this.element;
    const grids = this.layout(width, height, ModelView.LEAST);
    const right = Math.max(0, ...grids.map(grid => grid.right));
    const bottom = Math.max(0, ...grids.map(grid => grid.bottom));
    const {style} = this.room;
    style.width = right > width ? `${Math.ceil(right)}px` : '';
    style.height = bottom > height ? `${Math.ceil(bottom)}px` : '';
  }

  svg(frames, state, title) {
    const width = 1200;
    const height = 900;
    const grids = this.layout(width, height, ModelView.LEAST);
    const pen = new SvgPen(
        Math.max(width, ...grids.map(grid => grid.right)),
        Math.max(...grids.map(grid => grid.bottom)) + CanvasView.TITLE);
    const theme = Colors.theme(state);
    pen.title(title, CanvasView.TITLE, theme);
    pen.moved(0, CanvasView.TITLE, () => {
      for (const grid of grids) this.paintGrid(pen, theme, grid, null);
    });
    return pen.finish(theme.paper);
  }

  /* ---- Thumbnails -------------------------------------------------------- */

  /* What there is to draw: [{title, part, minus: the other part of a
   * difference, or null}]. */
  entries() {
    const {app, state} = this;
    const parts = app.runs(state).map(run => app.part(run, state));
    const name = part => app.title(part.run);
    const [a, b] = parts;
    if (state.compare === 'difference' && b && ModelView.alike(a, b)) {
      return [{title: `${name(a)} − ${name(b)}`, part: a, minus: b}];
    }
    return parts.map(part => ({title: name(part), part, minus: null}));
  }

  static alike(a, b) {
    return a.layers === b.layers && a.heads === b.heads &&
           a.thumb[0] === b.thumb[0] && a.thumb[1] === b.thumb[1];
  }

  /* Images of all heads; they stay, they are small. */
  imagesOf({part, minus}) {
    const dark = Colors.isDark(this.state);
    const key = minus ? `${part.id} ${minus.id} ${dark}` : part.id;
    if (!this.images.has(key)) {
      const made = [];
      for (let layer = 0; layer < part.layers; layer++) {
        made.push(...(minus ? this.differences(part, minus, layer, dark) :
                              this.thumbnails(part, layer)));
      }
      this.images.set(key, made);
    }
    return this.images.get(key);
  }

  /* thumbs [heads, rows, keys] of a layer */
  thumbnails(part, layer) {
    const [rows, keys] = part.thumb;
    const thumbs = part.tensor(layer, 'thumbs');
    if (thumbs === null) return Array(part.heads).fill(null);
    const {pixels} = Colors.sequential();
    const unseen = ModelView.unseen(part);
    return Array.from({length: part.heads}, (_, h) => {
      const colors = new Uint32Array(rows * keys);
      for (let i = 0; i < colors.length; i++) {
        colors[i] = unseen(Math.floor(i / keys), i % keys) ? 0 :
            pixels[thumbs[h * colors.length + i]];
      }
      return Canvas.image(keys, rows, colors);
    });
  }

  /* (r, k) => whether no row of a thumbnail's cell sees one of its keys. */
  static unseen(part) {
    const [rows, keys] = part.thumb;
    const edge = (i, n, cells) => Math.floor(i * n / cells);
    const seen = Array.from({length: rows}, (_, r) => ({
      from: Scores.visible(part, edge(r, part.n, rows)).from,
      to: Scores.visible(part, edge(r + 1, part.n, rows) - 1).to,
    }));
    return (r, k) => edge(k, part.m, keys) >= seen[r].to ||
                     edge(k + 1, part.m, keys) <= seen[r].from;
  }

  /* Of two heads: the difference of weights, each as a part of its head's
   * largest one; under a square root, as thumbnails are. */
  differences(part, minus, layer, dark) {
    const [rows, keys] = part.thumb;
    const [a, b] = [part, minus].map(one => one.tensor(layer, 'thumbs'));
    if (a === null || b === null) return Array(part.heads).fill(null);
    const {pixels} = Colors.diverging(dark);
    const size = rows * keys;
    const unseen = [part, minus].map(ModelView.unseen);
    return Array.from({length: part.heads}, (_, h) => {
      const colors = new Uint32Array(size);
      for (let i = 0; i < size; i++) {
        const x = a[h * size + i] / 255;
        const y = b[h * size + i] / 255;
        const change = x * x - y * y;
        const t = 0.5 + 0.5 * Math.sign(change) * Math.sqrt(Math.abs(change));
        const [r, k] = [Math.floor(i / keys), i % keys];
        colors[i] = unseen.every(none => none(r, k)) ? 0 :
            pixels[Math.round(t * (Colors.STEPS - 1))];
      }
      return Canvas.image(keys, rows, colors);
    });
  }

  /* ---- Places ------------------------------------------------------------ */

  /* [{entry, numbers, order, sorted, turned, columns, x, y, w, h, ...}] within
   * width x height; w, h: of a thumbnail. */
  layout(width, height, least) {
    const entries = this.entries();
    const panes = Canvas.panes(width, height, entries);
    return entries.map((entry, i) =>
      this.grid(entry, panes[i], least));
  }

  grid(entry, pane, least) {
    const {part} = entry;
    const sorted = this.state.sort !== 'index' || this.state.reverse;
    // Rows and keys as they are, but no stripe.
    const aspect = Math.min(2, Math.max(0.5, part.m / part.n));
    const margins = sorted ? {left: 8, top: 8, gap: 6, label: 15} :
                             {left: 30, top: 38, gap: 4, label: 0};
    const room = {w: pane.w - margins.left - 10,
                  h: pane.h - margins.top - ModelView.LEGEND, aspect};
    const best = (sorted ? this.flows(part) : this.tables(part))
        .map(shape => ({...shape,
                        ...ModelView.fit(shape, room, margins, least)}))
        .reduce((a, b) => b.h > a.h * (sorted ? 1 : 1.2) ? b : a);
    const {w, h, columns, rows} = best;
    const wide = columns * (w + margins.gap) - margins.gap;
    const high = rows * (h + margins.gap + margins.label) - margins.gap;
    const spare = Math.max(0, Math.floor((room.w - wide) / 2));
    const x = pane.x + margins.left + spare;
    const y = pane.y + margins.top;
    const numbers = Statistics.numbers(this.app, {
      ...this.state, run: part.run, part: part.index,
      compare: entry.minus ? 'difference' : 'one',
    });
    return {
      ...best, entry, pane, sorted, numbers, x, y, gap: margins.gap,
      open: part.causal || part.window > 0,  // no colour everywhere
      label: margins.label, order: this.order(part, numbers),
      right: x + wide + 10, bottom: y + high + ModelView.LEGEND,
    };
  }

  /* The order of the table for both of two runs, so that heads can be compared;
   * its own for a run of another shape. */
  order(part, numbers) {
    const first = Statistics.numbers(this.app, this.state);
    const alike = first.layers === part.layers && first.heads === part.heads;
    return Statistics.order(alike ? first : numbers, this.state);
  }

  /* Layers down and heads across, or turned: what gives larger thumbnails. */
  tables(part) {
    return [{columns: part.heads, rows: part.layers, turned: false},
            {columns: part.layers, rows: part.heads, turned: true}];
  }

  flows(part) {
    const n = part.layers * part.heads;
    return Array.from({length: Math.min(n, 64)}, (_, i) => (
      {columns: i + 1, rows: Math.ceil(n / (i + 1)), turned: false}));
  }

  /* Size of a thumbnail so that all have room; not below the least, nor larger
   * than is of use. */
  static fit({columns, rows}, room, {gap, label}, least) {
    const h = Math.min((room.w / columns - gap) / room.aspect,
                       room.h / rows - gap - label, ModelView.MOST);
    const high = Math.max(least, Math.floor(h));
    return {h: high, w: Math.max(least, Math.floor(high * room.aspect))};
  }

  /* Where a head is on a grid: {x, y}. at: its place in the order. */
  static place(grid, at) {
    let column = at % grid.columns;
    let row = Math.floor(at / grid.columns);
    if (grid.turned) {
      const {heads} = grid.entry.part;
      column = Math.floor(at / heads);
      row = at % heads;
    }
    return {x: grid.x + column * (grid.w + grid.gap),
            y: grid.y + row * (grid.h + grid.gap + grid.label) + grid.label};
  }

  /* The head at a point: {grid, index}; null. */
  at(x, y) {
    for (const grid of this.grids) {
      const column = Math.floor((x - grid.x) / (grid.w + grid.gap));
      const row = Math.floor((y - grid.y) / (grid.h + grid.gap + grid.label));
      if (column < 0 || row < 0 || column >= grid.columns || row >= grid.rows) {
        continue;
      }
      const at = grid.turned ? column * grid.entry.part.heads + row :
                               row * grid.columns + column;
      const index = grid.order[at];
      if (index !== undefined) return {grid, index};
    }
    return null;
  }

  /* ---- Painting ---------------------------------------------------------- */

  paint(pen, width, height) {
    this.grids = this.layout(width, height, ModelView.LEAST);
    const theme = Colors.theme(this.state);
    for (const grid of this.grids) {
      const hovered = this.hovered &&
          this.hovered.grid.entry.part === grid.entry.part ?
          this.hovered.index : null;
      this.paintGrid(pen, theme, grid, hovered);
    }
  }

  paintGrid(pen, theme, grid, hovered) {
    Canvas.paintTitle(pen, grid.pane, theme);
    const images = this.imagesOf(grid.entry);
    const {heads} = grid.entry.part;
    const {layers} = grid.entry.part;
    const {layer, head} = this.state;
    const current = layer < layers && head < heads ? layer * heads + head : -1;
    if (!grid.sorted) this.paintAxes(pen, theme, grid);
    for (const [at, index] of grid.order.entries()) {
      const {x, y} = ModelView.place(grid, at);
      this.paintImage(pen, theme, x, y, grid, images[index]);
      if (grid.open) pen.frame(x, y, grid.w, grid.h, theme.faint, 1);
      if (grid.sorted) this.paintName(pen, theme, grid, x, y, index, current);
      if (index === current) {
        pen.frame(x - 4, y - 4, grid.w + 8, grid.h + 8, theme.accent, 3);
      } else if (index === hovered) {
        pen.frame(x - 2, y - 2, grid.w + 4, grid.h + 4, theme.muted, 1);
      }
    }
    this.paintLegend(pen, theme, grid);
  }

  /* Sharp cells where they are larger than pixels; else their mean, so that no
   * line is lost between two pixels. image null: not known. */
  paintImage(pen, theme, x, y, {w, h}, image) {
    if (image === null) {
      pen.frame(x, y, w, h, theme.faint, 1);  // not known
      return;
    }
    if (pen instanceof SvgPen) {
      pen.add('image', {
        x, y, width: w, height: h, preserveAspectRatio: 'none',
        style: 'image-rendering: pixelated',
        href: image.canvas.toDataURL('image/png'),
      });
      return;
    }
    const {context} = pen;
    context.imageSmoothingEnabled =
        w * pen.ratio < image.columns || h * pen.ratio < image.rows;
    context.imageSmoothingQuality = 'high';
    context.drawImage(image.canvas, pen.snap(x), pen.snap(y), w, h);
  }

  paintAxes(pen, theme, grid) {
    const {layers, heads} = grid.entry.part;
    const across = grid.turned ? layers : heads;
    const down = grid.turned ? heads : layers;
    const {layer, head} = this.state;
    const [now, nowDown] = grid.turned ? [layer, head] : [head, layer];
    const style = bold => ({size: 11, bold, align: 'center',
                            color: bold ? theme.ink : theme.muted});
    // Every label, or as many as have room.
    const every = size => Math.max(1, Math.ceil(18 / size));
    for (let i = 0; i < across; i++) {
      if (i % every(grid.w + grid.gap) && i !== now) continue;
      pen.text(grid.x + i * (grid.w + grid.gap) + grid.w / 2, grid.y - 11,
               String(i), style(i === now));
    }
    for (let i = 0; i < down; i++) {
      if (i % every(grid.h + grid.gap) && i !== nowDown) continue;
      pen.text(grid.x - 7, grid.y + i * (grid.h + grid.gap) + grid.h / 2,
               String(i), {...style(i === nowDown), align: 'right'});
    }
    const words = grid.turned ? ['layer →', 'head ↓'] : ['head →', 'layer ↓'];
    pen.text(grid.x, grid.y - 27, `${words[0]}   ${words[1]}`,
             {size: 11, color: theme.muted});
  }

  /* "3:1 PF", above its thumbnail. */
  paintName(pen, theme, grid, x, y, index, current) {
    const {heads} = grid.entry.part;
    const style = {size: 10.5, bold: index === current,
                   color: index === current ? theme.ink : theme.muted};
    const name = `${Math.floor(index / heads)}:${index % heads}`;
    const badges = Statistics.badges(grid.numbers, index)
        .map(({letter}) => letter).join('');
    const text = `${name} ${badges}`.trim();
    const room = grid.w + grid.gap - 2;
    pen.text(x, y - 8,
             Canvas.width(text, style) <= room ? text :
                                                 Canvas.fit(name, room, style),
             style);
  }

  paintLegend(pen, theme, grid) {
    const blank = grid.open ? '; blank: not seen' : '';
    const {map, low, high} = grid.entry.minus ?
        {map: Colors.diverging(theme.dark), low: 'less', high: [
          `more: weights as parts of each head's largest (square root)${blank}`,
          'more, of each head\'s largest (root)', 'more (root)']} :
        {map: Colors.sequential(), low: '0', high: [
          `each head's largest weight (square root)${blank}`,
          'each head\'s largest weight (root)', 'largest (root)']};
    const style = {size: 11, color: theme.muted};
    const y = grid.bottom - ModelView.LEGEND / 2;
    const left = Math.max(grid.pane.x + 8, grid.x);
    const x = left + Canvas.width(low, style) + 6;
    pen.text(left, y, low, style);
    for (let i = 0; i < 64; i++) {
      pen.rect(x + i * 1.5, y - 4, 1.5, 8, map.css[Math.round(i * 255 / 63)]);
    }
    const room = grid.pane.x + grid.pane.w - x - 102 - 8;
    // The longest that has room.
    const text = high.find(one => Canvas.width(one, style) <= room) ||
                 Canvas.fit(high[high.length - 1], room, style);
    pen.text(x + 102, y, text, style);
  }

  /* ---- Pointers ---------------------------------------------------------- */

  listen() {
    const hit = event => {
      const box = this.room.getBoundingClientRect();
      return this.at(event.clientX - box.left, event.clientY - box.top);
    };
    this.room.addEventListener('pointermove', event =>
      this.hover(hit(event), event.clientX, event.clientY));
    this.room.addEventListener('pointerleave', () => this.hover(null));
    this.room.addEventListener('click', event => this.select(hit(event)));
    this.room.addEventListener('dblclick', event => {
      if (this.select(hit(event))) this.app.store.set({view: 'matrix'});
    });
  }

  hover(found, x, y) {
    const same = (a, b) => a === b || (a && b && a.index === b.index &&
                                       a.grid.entry.part === b.grid.entry.part);
    if (!same(found, this.hovered)) {
      this.hovered = found;
      this.surface.request();
      this.app.say(found && this.tell(found));
    }
    this.app.tooltip(found && this.tooltip(found), x, y);
  }

  /* Whether there was a head to select. */
  select(found) {
    if (!found) return false;
    const {heads} = found.grid.entry.part;
    this.app.store.set({layer: Math.floor(found.index / heads), heads: [],
                        head: found.index % heads, aggregate: 'none'});
    return true;
  }

  name({grid, index}) {
    const {heads} = grid.entry.part;
    return `Layer ${Math.floor(index / heads)}, head ${index % heads}`;
  }

  tell(found) {
    const title = this.grids.length > 1 ? `${found.grid.entry.title}: ` : '';
    return `${title}${this.name(found)}  ·  ` +
           Statistics.text(found.grid.numbers, found.index);
  }

  tooltip(found) {
    const {numbers} = found.grid;
    const lines = [this.name(found)];
    for (const name of Statistics.NAMES) {
      lines.push(`${name} ${App.number(numbers[name][found.index])}` +
                 Statistics.UNITS[name]);
    }
    for (const {title} of Statistics.badges(numbers, found.index)) {
      lines.push(title.replace(/:.*/, ''));
    }
    return lines;
  }
}

/* Sizes in pixels of the page: a thumbnail at least and at most, the legend. */
ModelView.LEAST = 14;
ModelView.MOST = 260;
ModelView.LEGEND = 30;
