// canvas.js - a canvas with the screen's pixels, and what draws on it.
//
// Views draw with a pen: CanvasPen here, SvgPen in svg.js. Both know the same
// few shapes, so that a saved picture is what the screen shows.
//
//   rect(x, y, width, height, color, alpha)
//   frame(x, y, width, height, color, thickness)     the outline, inside of it
//   line(x0, y0, x1, y1, color, thickness, alpha)
//   curve(x0, y0, x1, y1, color, thickness, alpha)   leaves and arrives level
//   text(x, y, string, {size, color, align, bold, mono, alpha, turned})
//                 y is the middle of the letters; turned: upwards
//   cells(x, y, width, height, image)                image: see Canvas.image
//   clip(x, y, width, height, draw)                  what draw() draws, cut
'use strict';

const Canvas = (() => {
  const SANS = 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", ' +
    '"DejaVu Sans", sans-serif';
  const MONO = 'ui-monospace, "SF Mono", Menlo, Consolas, ' +
    '"DejaVu Sans Mono", monospace';
  // How far the base line is below the middle of the letters, in sizes.
  const BASELINE = 0.35;
  const MEASURED = 20000;

  const ruler = document.createElement('canvas').getContext('2d');
  const widths = new Map();

  function font(options) {
    const size = options.size || 12;
    const family = options.mono ? MONO : SANS;
    return `${options.bold ? '600 ' : ''}${size}px ${family}`;
  }

  // Width of a text, in pixels of the page.
  function width(text, options) {
    const name = font(options || {});
    const key = name + '\n' + text;
    let known = widths.get(key);
    if (known === undefined) {
      ruler.font = name;
      known = ruler.measureText(text).width;
      if (widths.size >= MEASURED) {
        widths.clear();
      }
      widths.set(key, known);
    }
    return known;
  }

  // The text, or its beginning and '…', so that it is at most `room` wide; ""
  // if not even that fits.
  function fit(text, room, options) {
    if (width(text, options) <= room) {
      return text;
    }
    const letters = Array.from(text);
    let low = 0;
    let high = letters.length;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      const part = letters.slice(0, middle).join('') + '…';
      if (width(part, options) <= room) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    return low > 0 ? letters.slice(0, low).join('') + '…' : '';
  }

  // The widest of many texts.
  function widest(texts, options) {
    return texts.reduce((most, text) =>
      Math.max(most, width(text, options)), 0);
  }

  // A value where there is little room.
  function shortNumber(value, digits) {
    if (!Number.isFinite(value)) {
      return Number.isNaN(value) ? '?' : '−∞';
    }
    const text = value.toFixed(digits);
    return /[1-9]/.test(text) ? text.replace('-', '−') : text.replace('-', '');
  }

  // About `count` round numbers within low..high.
  function ticks(low, high, count) {
    const rough = (high - low) / Math.max(1, count);
    const ten = 10 ** Math.floor(Math.log10(rough));
    const step = ten * ([1, 2, 5, 10].find((f) => f * ten >= rough) || 10);
    const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
    const found = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high * (1 + 1e-9);
      i++) {
      found.push({value: i * step, text: shortNumber(i * step, digits)});
    }
    return found;
  }

  // A picture of columns x rows cells: {columns, rows, pixels: Uint32Array
  // [rows, columns], canvas}. Pixels 0 let see what is below.
  function image(columns, rows, pixels) {
    const canvas = document.createElement('canvas');
    canvas.width = columns;
    canvas.height = rows;
    const bytes = new Uint8ClampedArray(pixels.buffer, pixels.byteOffset,
      pixels.length * 4);
    canvas.getContext('2d').putImageData(new ImageData(bytes, columns), 0, 0);
    return {columns, rows, pixels, canvas};
  }

  // Places for n drawings in width x height: side by side, or one below the
  // other on a phone. A title takes its line of each.
  function panes(widthOfAll, height, entries) {
    const n = entries.length;
    const stacked = widthOfAll < 720;
    const gap = n > 1 ? 24 : 0;
    const title = n > 1 ? 24 : 0;
    const w = stacked ? widthOfAll : (widthOfAll - gap * (n - 1)) / n;
    const h = stacked ? (height - gap * (n - 1)) / n : height;
    return entries.map((entry, i) => ({
      x: stacked ? 0 : Math.round(i * (w + gap)),
      y: (stacked ? Math.round(i * (h + gap)) : 0) + title,
      w: Math.floor(w), h: Math.floor(h) - title,
      title: title ? entry.title : '',
    }));
  }

  function paintTitle(pen, pane, theme) {
    if (pane.title) {
      const style = {size: 13, bold: true, color: theme.ink};
      pen.text(pane.x + 4, pane.y - 12,
        fit(pane.title, pane.w - 8, style), style);
    }
  }

  return {font, width, fit, widest, shortNumber, ticks, image, panes,
    paintTitle, BASELINE};
})();

// Draws on a canvas. ratio: pixels of the screen a pixel of the page.
class CanvasPen {
  constructor(context, ratio) {
    this.context = context;
    this.ratio = ratio;
  }

  // Edges on whole pixels of the screen, so that they are sharp.
  snap(x) {
    return Math.round(x * this.ratio) / this.ratio;
  }

  rect(x, y, width, height, color, alpha = 1) {
    const left = this.snap(x);
    const top = this.snap(y);
    this.context.globalAlpha = alpha;
    this.context.fillStyle = color;
    this.context.fillRect(left, top, this.snap(x + width) - left,
      this.snap(y + height) - top);
    this.context.globalAlpha = 1;
  }

  frame(x, y, width, height, color, thickness = 1) {
    const t = thickness;
    this.rect(x, y, width, t, color);
    this.rect(x, y + height - t, width, t, color);
    this.rect(x, y + t, t, height - 2 * t, color);
    this.rect(x + width - t, y + t, t, height - 2 * t, color);
  }

  stroke(color, thickness, alpha) {
    this.context.globalAlpha = alpha;
    this.context.strokeStyle = color;
    this.context.lineWidth = thickness;
    this.context.stroke();
    this.context.globalAlpha = 1;
  }

  line(x0, y0, x1, y1, color, thickness = 1, alpha = 1) {
    this.context.beginPath();
    this.context.moveTo(x0, y0);
    this.context.lineTo(x1, y1);
    this.stroke(color, thickness, alpha);
  }

  curve(x0, y0, x1, y1, color, thickness = 1, alpha = 1) {
    const bend = (x1 - x0) * 0.4;
    this.context.beginPath();
    this.context.moveTo(x0, y0);
    this.context.bezierCurveTo(x0 + bend, y0, x1 - bend, y1, x1, y1);
    this.stroke(color, thickness, alpha);
  }

  text(x, y, string, options) {
    const context = this.context;
    const down = Canvas.BASELINE * (options.size || 12);
    context.font = Canvas.font(options);
    context.fillStyle = options.color;
    context.globalAlpha = options.alpha === undefined ? 1 : options.alpha;
    context.textAlign = options.align || 'left';
    context.textBaseline = 'alphabetic';
    context.direction = 'ltr';
    if (options.turned) {
      context.save();
      context.translate(x + down, y);
      context.rotate(-Math.PI / 2);
      context.fillText(string, 0, 0);
      context.restore();
    } else {
      context.fillText(string, x, y + down);
    }
    context.globalAlpha = 1;
  }

  cells(x, y, width, height, image) {
    this.context.imageSmoothingEnabled = false;
    this.context.drawImage(image.canvas, x, y, width, height);
  }

  clip(x, y, width, height, draw) {
    this.context.save();
    this.context.beginPath();
    this.context.rect(this.snap(x), this.snap(y), width, height);
    this.context.clip();
    draw();
    this.context.restore();
  }
}

// A canvas that fills an element. paint(pen, width, height) draws all of it;
// it is called by paintNow(), and once a frame of the screen after request().
class Surface {
  constructor(element, paint) {
    this.element = element;
    this.paint = paint;
    this.canvas = document.createElement('canvas');
    this.canvas.style.cssText =
      'position:absolute;left:0;top:0;width:100%;height:100%;display:block';
    this.context = this.canvas.getContext('2d');
    this.asked = false;
    this.width = 0;
    this.height = 0;
    this.ratio = 1;
    if (getComputedStyle(element).position === 'static') {
      element.style.position = 'relative';
    }
    element.appendChild(this.canvas);
    new ResizeObserver(() => this.request()).observe(element);
  }

  // Takes on the element's size. Setting a canvas's size clears it, so only
  // where it changed.
  measure() {
    this.ratio = window.devicePixelRatio || 1;
    this.width = this.element.clientWidth;
    this.height = this.element.clientHeight;
    const pixelWidth = Math.round(this.width * this.ratio);
    const pixelHeight = Math.round(this.height * this.ratio);
    if (this.canvas.width !== pixelWidth ||
        this.canvas.height !== pixelHeight) {
      this.canvas.width = pixelWidth;
      this.canvas.height = pixelHeight;
    }
  }

  request() {
    if (!this.asked) {
      this.asked = true;
      requestAnimationFrame(() => this.paintNow());
    }
  }

  paintNow() {
    this.asked = false;
    this.measure();
    if (this.width <= 0 || this.height <= 0) {
      return;  // hidden
    }
    const context = this.context;
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    this.paint(new CanvasPen(context, this.ratio), this.width, this.height);
  }

  // What readers of the screen are told instead of the picture.
  describe(text) {
    this.canvas.setAttribute('role', 'img');
    this.canvas.setAttribute('aria-label', text);
  }
}
