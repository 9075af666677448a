'use strict';

/* export.js - what is shown, as a file: SVG and PNG of the view, CSV of its
 * matrices, or in the model view of the numbers of all heads. */

class Export {
  constructor(app) {
    this.app = app;
  }

  /* kind: "svg", "png" or "csv". What fails is said in the page. */
  async save(kind) {
    try {
      const blob = await this[kind]();
      this.download(blob, `${this.name()}.${kind}`);
      this.app.note('export', '');
    } catch (error) {
      this.app.note('export', `Not saved: ${error.message || error}`);
    }
  }

  /* A file's name of letters, digits and '-'. */
  name() {
    const state = this.app.store.get();
    const {name} = this.app.part(state.run);
    const head = state.aggregate === 'none' ? `head-${state.head}` :
                                              state.aggregate;
    const where = state.view === 'model' ? '' : `-layer-${state.layer}-${head}`;
    const title = `${this.app.data.title || 'attention'}-${name || ''}` +
                  `-${state.view}${where}`;
    return title.replace(/[^\p{L}\p{N}]+/gu, '-').replace(/^-|-$/g, '')
        .slice(0, 100);
  }

  download(blob, name) {
    const {document} = this.app;
    const link = document.createElement('a');
    const url = URL.createObjectURL(blob);
    link.href = url;
    link.download = name;
    document.body.append(link);
    link.click();
    link.remove();
    // The browser has begun to read it by then.
    setTimeout(() => URL.revokeObjectURL(url), 10000);
  }

  /* ---- Pictures ---------------------------------------------------------- */

  async svgText() {
    const state = this.app.store.get();
    return this.app.views[state.view].svg(this.app.drawn, state,
                                          this.title(state));
  }

  /* "model · part · layer 3, head 1 · what was done to it". */
  title(state) {
    const runs = this.app.runs(state);
    const part = this.app.part(state.run, state);
    // Of runs that have no difference there are two.
    const joint = this.app.drawn.length === 1 ? ' − ' : ' | ';
    const names = runs.map(run =>
      this.app.data.runs[run].model || this.app.title(run));
    const alike = new Set(names).size === 1 && runs.length > 1;
    const texts = [alike ? runs.map(run => this.app.title(run)).join(joint) :
                           names.join(joint), part.name || part.kind];
    if (state.view === 'model') {
      texts.push(`${Controls.count(part.layers, 'layer')} × ` +
                 Controls.count(part.heads, 'head'));
    } else if (state.view === 'neurons') {
      texts.push(`layer ${state.layer}, head ${state.head}`);
    } else {
      texts.push(Export.heads(state), ...Controls.changes(state, part));
    }
    return texts.join(' · ');
  }

  static heads(state) {
    const several = state.view === 'heads' && state.aggregate === 'none' &&
                    state.heads.length > 1;
    const which = several ? `heads ${state.heads.join(', ')}` :
                  {none: `head ${state.head}`, mean: 'mean of heads',
                   max: 'max of heads',
                   rollout: 'rollout up to it'}[state.aggregate];
    return `layer ${state.layer}, ${which}`;
  }

  async svg() {
    return new Blob([await this.svgText()], {type: 'image/svg+xml'});
  }

  /* The SVG on a canvas, two pixels a unit, fewer where that is too large. */
  async png() {
    const {document} = this.app;
    const image = await this.load(await this.svg());
    const {naturalWidth: width, naturalHeight: height} = image;
    const scale = Math.min(2, Export.MOST / width, Export.MOST / height,
                           Math.sqrt(Export.AREA / (width * height)));
    const canvas = document.createElement('canvas');
    canvas.width = Math.max(1, Math.round(width * scale));
    canvas.height = Math.max(1, Math.round(height * scale));
    const context = canvas.getContext('2d');
    context.drawImage(image, 0, 0, canvas.width, canvas.height);
    return new Promise((resolve, reject) => canvas.toBlob(
        blob => blob ? resolve(blob) : reject(new Error('no PNG was made')),
        'image/png'));
  }

  load(blob) {
    const url = URL.createObjectURL(blob);
    const image = new Image();
    const loaded = new Promise((resolve, reject) => {
      image.onload = () => resolve(image);
      image.onerror = () => reject(new Error('the SVG cannot be drawn'));
    });
    image.src = url;
    return loaded.finally(() => URL.revokeObjectURL(url));
  }

  /* ---- Numbers ----------------------------------------------------------- */

  async csv() {
    const state = this.app.store.get();
    const text = state.view === 'model' ? this.headsCsv(state) :
                                          await this.framesCsv(state);
    return new Blob([text], {type: 'text/csv'});
  }

  headsCsv(state) {
    const numbers = Statistics.numbers(this.app, state);
    const lines = [['layer', 'head', ...Statistics.NAMES]];
    for (let i = 0; i < numbers.layers * numbers.heads; i++) {
      const values = Statistics.NAMES.map(
          name => Export.value(numbers[name][i]));
      lines.push([Math.floor(i / numbers.heads), i % numbers.heads, ...values]);
    }
    return Export.lines(lines);
  }

  /* Each matrix that is shown, one below the other, an empty line between. */
  async framesCsv(state) {
    const several = state.view === 'heads' && state.aggregate === 'none' &&
                    state.heads.length > 1;
    const heads = several ? state.heads : [state.head];
    const tables = [];
    for (const head of heads) {
      const drawn = several ? await this.app.frames({head}) : this.app.drawn;
      for (const {frame, title} of drawn.filter(({missing}) => !missing)) {
        const which = state.aggregate === 'none' ? `head ${head}` :
                                                   state.aggregate;
        const what = `${frame.what}, layer ${state.layer}, ${which}, ${title}`;
        tables.push(Export.frameCsv(frame, what));
      }
    }
    return tables.join('\r\n');
  }

  /* Corner: what it is. First row: keys; first column: rows; each with its
   * index, so that the same token twice is told apart, and no cell begins with
   * '='. */
  static frameCsv(frame, what) {
    const {rows, keys, values} = frame;
    const lines = [[what, ...keys.labels.map((label, j) => `${j} ${label}`)]];
    for (let i = 0; i < rows.n; i++) {
      const line = [`${i} ${rows.labels[i]}`];
      for (let j = 0; j < keys.n; j++) {
        line.push(Export.value(values[i * keys.n + j]));
      }
      lines.push(line);
    }
    return Export.lines(lines);
  }

  /* The shortest decimal of at most 9 digits, which tell a float from all
   * others; nothing for what is not known. */
  static value(value) {
    if (Number.isNaN(value)) return '';
    if (!Number.isFinite(value)) return value < 0 ? '-inf' : 'inf';
    return String(Number(value.toPrecision(9)));
  }

  /* As RFC 4180 has it. */
  static lines(lines) {
    return lines.map(cells => cells.map(Export.quoted).join(',') + '\r\n')
        .join('');
  }

  static quoted(cell) {
    const text = String(cell);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }
}

/* Sides of a PNG, in pixels: browsers have their limits. */
Export.MOST = 16000;
Export.AREA = 64e6;
