// view.js - what the views on one canvas share: frames and state that they show,
// and a picture of it as SVG. A view has paint(pen, width, height), and hears
// its pointer.
'use strict';

class CanvasView {
  constructor(element, app) {
    this.app = app;
    this.frames = [];
    this.state = null;
    this.places = [];          // of each frame: where it was drawn
    this.pointed = '-1,-1';    // what this view itself pointed at
    this.surface = new Surface(element, (pen, width, height) => {
      this.paint(pen, width, height);
    });
    this.pointer = new Pointer(this.surface.canvas, this);
  }

  // Takes what is to be shown. Says whether row and key were selected elsewhere
  // since, so that the view is to scroll to them: {row, key}.
  take(frames, state) {
    const last = this.state;
    const elsewhere = `${state.row},${state.key}` !== this.pointed;
    this.frames = frames;
    this.state = state;
    return {row: elsewhere && (!last || state.row !== last.row),
      key: elsewhere && (!last || state.key !== last.key)};
  }

  // The index of the first frame that there is something of.
  get main() {
    return Math.max(0, this.frames.findIndex((entry) => !entry.missing));
  }

  // A sentence in the middle of a pane that has nothing else.
  static paintMissing(pen, theme, pane, text) {
    const style = {size: 13, align: 'center', color: theme.muted};
    pen.text(pane.x + pane.w / 2, pane.y + pane.h / 2,
      Canvas.fit(text, pane.w - 16, style), style);
  }

  // What paint() needs to know first.
  prepare() {}

  resize() {
    this.surface.request();
  }

  // ---- As a file ----------------------------------------------------------

  // The bars that scroll it.
  bars() {
    return [];
  }

  // {width, height} in which all rows and keys are seen, of a view that is now
  // width x height. `whole` is set while a view is laid out for that.
  natural(width, height) {
    return {width, height};
  }

  // All of it below a title, as SVG; what is larger than LARGEST: what is seen.
  svg(frames, state, title) {
    const {surface} = this;
    const bars = this.bars();
    const offsets = bars.map((bar) => bar.offset);
    this.frames = frames;
    this.state = state;
    this.prepare();
    this.whole = true;
    const size = this.natural(Math.max(surface.width, CanvasView.NARROWEST),
      surface.height);
    const titled = Math.min(1200, Canvas.width(title, SvgPen.TITLE) + 16);
    size.width = Math.max(size.width,
      frames.length > 1 ? CanvasView.NARROWEST : titled);
    this.whole = size.width <= CanvasView.LARGEST &&
      size.height <= CanvasView.LARGEST;
    const {width, height} = this.whole ? size : surface;
    const pen = new SvgPen(width, height + CanvasView.TITLE);
    pen.title(title, CanvasView.TITLE, Colors.theme());
    pen.moved(0, CanvasView.TITLE, () => {
      this.paint(pen, width, height);
    });
    // On the screen nothing has changed.
    this.whole = false;
    bars.forEach((bar, i) => {
      bar.offset = offsets[i];
    });
    surface.paintNow();
    return pen.finish(Colors.theme().paper);
  }

  // ---- The pointer ----------------------------------------------------------

  leave() {
    this.pointed = '-1,-1';
    this.app.point(-1, -1, 0);
    this.app.tooltip(null);
  }

  // at(x, y) is the {row, key} that is there, or null.
  tap(x, y) {
    const at = this.at(x, y) || {row: -1, key: -1};
    this.pointed = `${at.row},${at.key}`;
    this.app.lock(at.row, at.key);
  }
}

CanvasView.NARROWEST = 760;   // pixels: so that two runs lie side by side
CanvasView.LARGEST = 12000;   // a side of a picture: 512 tokens in each view
CanvasView.TITLE = 34;
