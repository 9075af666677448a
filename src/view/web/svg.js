// svg.js - the pen that writes an SVG: see canvas.js.
'use strict';

class SvgPen {
  constructor(width, height) {
    this.width = width;
    this.height = height;
    this.ratio = 1;
    this.parts = [];
    this.clips = 0;
  }

  // Characters that XML has no way to write are left away, halves of pairs too.
  static escape(text) {
    const names = {'&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;'};
    return text
      .replace(/[^\t\n\r\u0020-\uD7FF\uE000-\uFFFD\u{10000}-\u{10FFFF}]/gu, '')
      .replace(/[&<>"]/g, (c) => names[c]);
  }

  // Numbers of a picture need no more than hundredths.
  static n(x) {
    return String(Math.round(x * 100) / 100);
  }

  add(name, attributes, content) {
    const list = Object.entries(attributes)
      .filter(([, value]) => value !== undefined)
      .map(([key, value]) => ` ${key}="${typeof value === 'number' ?
        SvgPen.n(value) : SvgPen.escape(value)}"`);
    this.parts.push(content === undefined ? `<${name}${list.join('')}/>` :
      `<${name}${list.join('')}>${content}</${name}>`);
  }

  snap(x) {
    return x;
  }

  rect(x, y, width, height, color, alpha = 1) {
    this.add('rect', {x, y, width: Math.max(0, width),
      height: Math.max(0, height), fill: color,
      'fill-opacity': alpha < 1 ? alpha : undefined});
  }

  frame(x, y, width, height, color, thickness = 1) {
    this.add('rect', {x: x + thickness / 2, y: y + thickness / 2,
      width: Math.max(0, width - thickness), fill: 'none', stroke: color,
      height: Math.max(0, height - thickness), 'stroke-width': thickness});
  }

  path(d, color, thickness, alpha) {
    this.add('path', {d, fill: 'none', stroke: color,
      'stroke-width': thickness,
      'stroke-opacity': alpha < 1 ? alpha : undefined});
  }

  line(x0, y0, x1, y1, color, thickness = 1, alpha = 1) {
    const n = SvgPen.n;
    this.path(`M${n(x0)} ${n(y0)}L${n(x1)} ${n(y1)}`, color, thickness, alpha);
  }

  curve(x0, y0, x1, y1, color, thickness = 1, alpha = 1) {
    const n = SvgPen.n;
    const bend = (x1 - x0) * 0.4;
    this.path(`M${n(x0)} ${n(y0)}C${n(x0 + bend)} ${n(y0)} ` +
      `${n(x1 - bend)} ${n(y1)} ${n(x1)} ${n(y1)}`, color, thickness, alpha);
  }

  text(x, y, string, options) {
    const size = options.size || 12;
    const down = Canvas.BASELINE * size;
    const anchors = {left: undefined, center: 'middle', right: 'end'};
    const at = `translate(${SvgPen.n(x + down)} ${SvgPen.n(y)})`;
    const placed = options.turned ?
      {x: 0, y: 0, transform: `${at} rotate(-90)`} : {x, y: y + down};
    this.add('text', Object.assign(placed, {
      class: options.mono ? 'mono' : undefined, 'font-size': size,
      'font-weight': options.bold ? '600' : undefined, fill: options.color,
      'fill-opacity': options.alpha < 1 ? options.alpha : undefined,
      'text-anchor': anchors[options.align || 'left'],
      'xml:space': 'preserve',
    }), SvgPen.escape(string));
  }

  // Rectangles as long as there are not too many; else a PNG within.
  cells(x, y, width, height, image) {
    if (image.columns * image.rows > 128 * 128) {
      this.add('image', {x, y, width, height, preserveAspectRatio: 'none',
        style: 'image-rendering: pixelated',
        href: image.canvas.toDataURL('image/png')});
      return;
    }
    const w = width / image.columns;
    const h = height / image.rows;
    const bytes = new Uint8Array(image.pixels.buffer, image.pixels.byteOffset,
      image.pixels.length * 4);
    this.parts.push('<g shape-rendering="crispEdges">');
    for (let row = 0; row < image.rows; row++) {
      for (let column = 0; column < image.columns; column++) {
        this.cell(bytes, (row * image.columns + column) * 4,
          x + column * w, y + row * h, w, h);
      }
    }
    this.parts.push('</g>');
  }

  cell(bytes, at, x, y, width, height) {
    if (bytes[at + 3] === 0) {
      return;
    }
    const hex = [0, 1, 2].map((i) =>
      bytes[at + i].toString(16).padStart(2, '0'));
    this.rect(x, y, width, height, '#' + hex.join(''));
  }

  clip(x, y, width, height, draw) {
    const id = `clip${this.clips++}`;
    this.parts.push(`<clipPath id="${id}">`);
    this.rect(x, y, width, height, '#000000');
    this.parts.push(`</clipPath><g clip-path="url(#${id})">`);
    draw();
    this.parts.push('</g>');
  }

  // What draw() draws, elsewhere.
  moved(x, y, draw) {
    const n = SvgPen.n;
    this.parts.push(`<g transform="translate(${n(x)} ${n(y)})">`);
    draw();
    this.parts.push('</g>');
  }

  // A line above the picture that says what it is.
  title(text, height, theme) {
    const style = Object.assign({color: theme.ink}, SvgPen.TITLE);
    this.text(8, height / 2, Canvas.fit(text, this.width - 16, style), style);
  }

  // The whole file.
  finish(paper) {
    const n = SvgPen.n;
    const size = `width="${n(this.width)}" height="${n(this.height)}"`;
    return '<?xml version="1.0" encoding="UTF-8"?>\n' +
      `<svg xmlns="http://www.w3.org/2000/svg" ${size} ` +
      `viewBox="0 0 ${n(this.width)} ${n(this.height)}" ` +
      'font-family="system-ui, sans-serif">\n' +
      '<style>.mono { font-family: ui-monospace, monospace }</style>\n' +
      `<rect width="100%" height="100%" fill="${paper}"/>\n` +
      this.parts.join('\n') + '\n</svg>\n';
  }
}

SvgPen.TITLE = {size: 14, bold: true};
